package ledger_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"koala/calendar"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/ledger"
	"koala/money"
)

// fill books n transfers to ann, one unit each, an hour apart.
func (h *house) fill(n int) {
	h.t.Helper()
	h.openAccounts(bank, wallet("ann"), shop)
	for i := range n {
		if _, err := h.post(ledger.Move(fmt.Sprintf("fill:%d", i), "bank", "ann", money.Fen(int64(i+1)))); err != nil {
			h.t.Fatal(err)
		}
		h.clock.Advance(time.Hour)
	}
}

// sql changes the store behind the book's back.
func (h *house) sql(statement string, args ...any) {
	h.t.Helper()
	h.must(func(tx *db.Tx) error {
		n, err := tx.Exec(statement, args...)
		if err == nil && n == 0 {
			err = fmt.Errorf("%s changed nothing", statement)
		}
		return err
	})
}

func TestDamage(t *testing.T) {
	for _, tt := range []struct {
		name, statement string
		where, what     string // of the first problem
	}{
		{"a changed record", `UPDATE ledger_journal SET blob = (SELECT blob FROM ledger_journal WHERE seq = 7) WHERE seq = 8`, "batch 8", "hash"},
		{"a changed hash", `UPDATE ledger_journal SET hash = prev_hash WHERE seq = 8`, "batch 8", "hash"},
		{"a hash cut short", `UPDATE ledger_journal SET hash = SUBSTR(hash, 1, 3) WHERE seq = 8`, "batch 8", "hash"},
		{"a broken link", `UPDATE ledger_journal SET prev_hash = hash WHERE seq = 8`, "batch 8", "chain"},
		{"a missing batch", `DELETE FROM ledger_journal WHERE seq = 8`, "batch 9", "missing"},
		{"a missing end", `DELETE FROM ledger_journal WHERE seq > 11`, "book", "the book says 13"},
		{"a cut blob", `UPDATE ledger_journal SET blob = SUBSTR(blob, 1, 50) WHERE seq = 8`, "batch 8", "hash"},
		{"another count", `UPDATE ledger_journal SET n = 2 WHERE seq = 8`, "batch 8", "missing"},
		{"the book's row", `UPDATE ledger_book SET last_seq = 5`, "book", "the book says 5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			each(t, func(t *testing.T, h *house) {
				h.fill(10) // one batch for the accounts, with three records
				h.sql(tt.statement)
				report, err := ledger.Audit(t.Context(), h.store, 0)
				if err != nil || report.OK() {
					t.Fatalf("audit: %+v, %v", report, err)
				}
				if p := report.Problems[0]; p.Where != tt.where || !strings.Contains(p.What, tt.what) {
					t.Errorf("first problem %+v, want %s: %s", p, tt.where, tt.what)
				}
				h.close()
				store, err := db.Open(t.Context(), h.cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer store.Close()
				if _, err := ledger.Open(t.Context(), store, h.lcfg); !errors.Is(err, ledger.ErrDamaged) {
					t.Errorf("opening: %v", err)
				}
			})
		})
	}
}

// TestDown loses a commit while the journal is damaged: the book refuses to
// guess, says so, and answers readers from what was committed.
func TestDown(t *testing.T) {
	faults := &plan{}
	h := newHouse(t, db.Config{URL: dbtest.File(t), Faults: faults}, ledger.Config{Inline: true})
	h.fill(10)
	h.sql(`UPDATE ledger_journal SET hash = prev_hash WHERE seq = 8`)
	faults.before = errors.New("injected")
	for range 2 {
		_, err := h.post(ledger.Move("lost", "bank", "ann", money.Fen(1)))
		if !errors.Is(err, ledger.ErrDown) || !errors.Is(err, ledger.ErrDamaged) {
			t.Errorf("posting to a book that is down: %v", err)
		}
	}
	if got := h.fen("ann")[0]; got != 55 {
		t.Errorf("ann has %d, want what was committed", got)
	}
}

func TestSnapshot(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.fill(20)
		h.must(func(tx *db.Tx) error {
			_, err := ledger.Authorise(tx, ledger.Hold{Ref: "h", From: "ann", To: "shop", Amount: money.Fen(10), Expires: h.clock.Now().Add(time.Hour)})
			return err
		})
		if err := h.book.Snapshot(t.Context()); err != nil {
			t.Fatal(err)
		}
		seq, hash := h.book.Tip()
		if _, err := h.post(ledger.Move("behind", "ann", "bank", money.Fen(5))); err != nil {
			t.Fatal(err)
		}
		h.again()
		if got := h.fen("ann"); got != [3]int64{205, 10, 195} {
			t.Errorf("from the snapshot ann has %v", got)
		}
		if p, err := h.post(ledger.Move("fill:3", "bank", "ann", money.Fen(4))); err != nil || !p.Replayed {
			t.Errorf("a reference from before the snapshot: %+v, %v", p, err)
		}
		h.clock.Advance(2 * time.Hour)
		if got := h.fen("ann"); got != [3]int64{205, 0, 205} {
			t.Errorf("after the expiry ann has %v", got)
		}
		h.green()

		// The journal in front of the snapshot is not read at a start, so
		// only the audit sees it.
		h.sql(`UPDATE ledger_journal SET blob = (SELECT blob FROM ledger_journal WHERE seq = 7) WHERE seq = 8`)
		h.again()
		if report, err := ledger.Audit(t.Context(), h.store, 0); err != nil || report.OK() {
			t.Errorf("audit: %+v, %v", report, err)
		}
		_ = hash
		h.sql(`UPDATE ledger_snapshot SET blob = SUBSTR(blob, 2) WHERE seq = $1 AND part = 0`, int64(seq))
		h.close()
		store, err := db.Open(t.Context(), h.cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		if _, err := ledger.Open(t.Context(), store, h.lcfg); !errors.Is(err, ledger.ErrDamaged) {
			t.Errorf("opening with a damaged snapshot: %v", err)
		}
	})
}

func TestViews(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.fill(60)
		if lag := h.book.Lag(); lag != 63 {
			t.Errorf("lag %d, want 63", lag)
		}
		recent, err := h.book.Recent(t.Context(), "ann", 0, 2)
		if err != nil || len(recent) != 2 || recent[0].Ref != "fill:59" || recent[0].Balance.Minor() != 60*61/2 || recent[1].Nth != 59 {
			t.Errorf("recent lines: %+v, %v", recent, err)
		}
		if lag := h.book.Lag(); lag != 0 {
			t.Errorf("a question left a lag of %d", lag)
		}
		older, err := h.book.Recent(t.Context(), "ann", recent[1].Nth, 1)
		if err != nil || len(older) != 1 || older[0].Nth != 58 {
			t.Errorf("the page before: %+v, %v", older, err)
		}
		found, err := h.book.Entries(t.Context(), ledger.Search{Ref: "fill:5", Kind: "move", Before: 60, Limit: 3})
		if err != nil || len(found) != 3 || found[0].Ref != "fill:55" || found[0].Legs[1].Account != "ann" {
			t.Errorf("search: %+v, %v", found, err)
		}
		found, err = h.book.Entries(t.Context(), ledger.Search{From: start.Add(2 * time.Hour), To: start.Add(4 * time.Hour)})
		if err != nil || len(found) != 2 || found[1].Ref != "fill:2" {
			t.Errorf("search by time: %+v, %v", found, err)
		}
		if _, err := h.book.Entry(t.Context(), "none"); !errors.Is(err, ledger.ErrNoEntry) {
			t.Errorf("an unknown reference: %v", err)
		}
		trial, err := h.book.TrialBalanceAt(t.Context(), calendar.Of(start, calendar.Beijing))
		if err != nil || !trial.Balanced || len(trial.Rows) != 2 || trial.Rows[1].Credit.String() != "120" { // until midnight: 15 hours
			t.Errorf("trial balance of the first day: %+v, %v", trial, err)
		}
		h.green()
		if err := h.book.Rebuild(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.green()
	})
}

func TestVerifySeesTheViews(t *testing.T) {
	for _, tt := range []struct{ name, statement, where string }{
		{"a changed line", `UPDATE ledger_view_line SET amount = amount + 1 WHERE account = 1 AND nth = 4`, "account ann"},
		{"a missing line", `DELETE FROM ledger_view_line WHERE account = 1 AND nth = 4`, "account ann"},
		{"a changed closing", `UPDATE ledger_view_day SET balance = 1 WHERE account = 1`, "account ann"},
		{"a changed entry", `UPDATE ledger_view_entry SET text = 'x' WHERE seq = 9`, "record 9"},
		{"a missing entry", `DELETE FROM ledger_view_entry WHERE seq = 9`, "record 9"},
		{"the last entry missing", `DELETE FROM ledger_view_entry WHERE seq = 13`, "record 13"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouse(t, db.Config{URL: dbtest.File(t)}, ledger.Config{Inline: true})
			h.fill(10)
			h.green()
			h.close()
			views, err := db.Open(t.Context(), db.Config{URL: h.cfg.URL + ".views"})
			if err != nil {
				t.Fatal(err)
			}
			err = views.Write(t.Context(), func(tx *db.Tx) error { _, err := tx.Exec(tt.statement); return err })
			if err := errors.Join(err, views.Close()); err != nil {
				t.Fatal(err)
			}
			h.open()
			report, err := h.book.Verify(t.Context())
			if err != nil || len(report.Problems) != 1 || report.Problems[0].Where != tt.where {
				t.Errorf("verify: %+v, %v; want one problem at %s", report.Problems, err, tt.where)
			}
			if err := h.book.Rebuild(t.Context()); err != nil {
				t.Fatal(err)
			}
			h.green()
		})
	}
}

// TestForeignViews opens a book whose views file belongs to another one.
func TestForeignViews(t *testing.T) {
	views := dbtest.File(t)
	for i := range 2 {
		h := newHouse(t, db.Config{URL: dbtest.File(t)}, ledger.Config{Inline: true, Views: views})
		h.fill(5 - 2*i)
		h.green()
		h.close()
	}
}

// TestOldReferences keeps four references in memory and repeats all.
func TestOldReferences(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := newHouse(t, cfg, ledger.Config{Inline: true, Window: 4, MaxLag: 50})
		h.fill(40)
		h.must(func(tx *db.Tx) error { _, err := ledger.Reverse(tx, "back", "fill:9", money.Fen(4)); return err })
		for range 2 {
			if err := h.book.Project(t.Context()); err != nil {
				t.Fatal(err)
			}
			for i := range 40 {
				e := ledger.Move(fmt.Sprintf("fill:%d", i), "bank", "ann", money.Fen(int64(i+1)))
				if p, err := h.post(e); err != nil || !p.Replayed || p.After[1].Balance.Minor() != int64((i+1)*(i+2)/2) {
					t.Fatalf("%s again: %+v, %v", e.Ref, p, err)
				}
				e.Legs[0].Amount, e.Legs[1].Amount = money.Fen(-100), money.Fen(100)
				if _, err := h.post(e); !errors.Is(err, ledger.ErrDiffers) {
					t.Fatalf("%s with another amount: %v", e.Ref, err)
				}
			}
			err := h.write(func(tx *db.Tx) error { _, err := ledger.Reverse(tx, "back2", "fill:9", money.Fen(7)); return err })
			if !errors.Is(err, ledger.ErrOverReverse) {
				t.Fatalf("reversing more than is left of an old entry: %v", err)
			}
			h.again()
		}
		// Without the views' help only so many wait in memory.
		var err error
		for i := 0; i < 200 && err == nil; i++ {
			_, err = h.post(ledger.Move(fmt.Sprintf("more:%d", i), "bank", "ann", money.Fen(1)))
		}
		if !errors.Is(err, ledger.ErrBehind) {
			t.Fatalf("200 references behind the views: %v", err)
		}
		h.green()
		if _, err := h.post(ledger.Move("more:last", "bank", "ann", money.Fen(1))); err != nil {
			t.Fatalf("after the views caught up: %v", err)
		}
	})
}

// TestTakenOver lets a second process lead the same PostgreSQL book.
func TestTakenOver(t *testing.T) {
	cfg := db.Config{URL: dbtest.Postgres(t)}
	first := newHouse(t, cfg, ledger.Config{Inline: true})
	first.fill(3)
	second := newHouse(t, cfg, ledger.Config{Inline: true})
	if _, err := second.post(ledger.Move("s:1", "bank", "ann", money.Fen(1))); err != nil {
		t.Fatal(err)
	}
	if _, err := first.post(ledger.Move("f:1", "bank", "ann", money.Fen(1))); !errors.Is(err, db.ErrTaken) {
		t.Errorf("the first process after the take-over: %v", err)
	}
	if _, err := second.post(ledger.Move("s:2", "bank", "ann", money.Fen(1))); err != nil {
		t.Errorf("the second process: %v", err)
	}
	second.green()
}

// TestViewsOfTheirOwn keeps the views of a PostgreSQL book in their own schema
// behind their own writer.
func TestViewsOfTheirOwn(t *testing.T) {
	url := dbtest.Postgres(t)
	h := newHouse(t, db.Config{URL: url}, ledger.Config{Inline: true, Views: url})
	t.Cleanup(func() {
		if h.store == nil {
			h.open()
		}
		h.must(func(tx *db.Tx) error {
			var schema string
			if err := tx.QueryRow(`SELECT current_schema()`).Scan(&schema); err != nil {
				return err
			}
			_, err := tx.Exec(`DROP SCHEMA ` + schema + `_views CASCADE`)
			return err
		})
	})
	h.fill(10)
	h.green()
	h.again()
	h.green()
}

func TestFollow(t *testing.T) {
	h := newHouse(t, db.Config{URL: dbtest.File(t)}, ledger.Config{})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	seen := make(chan uint64, 1_000)
	done := make(chan error, 1)
	go func() {
		done <- h.book.Follow(ctx, 2, func(r ledger.Record) error { seen <- r.Seq; return nil })
	}()
	h.fill(20)
	for want := uint64(3); want <= 23; want++ {
		if got := <-seen; got != want {
			t.Fatalf("record %d, want %d", got, want)
		}
	}
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the follower ended with %v", err)
	}
	records, err := h.book.After(t.Context(), 5, 3)
	if err != nil || len(records) != 3 || records[0].Seq != 6 || records[0].Ref != "fill:2" || records[0].Type != "entry" {
		t.Errorf("records behind 5: %+v, %v", records, err)
	}
}

func TestExport(t *testing.T) {
	h := newHouse(t, db.Config{URL: dbtest.File(t)}, ledger.Config{Inline: true})
	h.fill(3)
	var out bytes.Buffer
	if err := h.book.Export(t.Context(), &out, start.Add(time.Hour), start.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	want := `seq,booked,value,ref,kind,account,code,currency,debit,credit,balance,text
5,2026-03-02T02:00:00Z,2026-03-02T02:00:00Z,fill:1,move,bank,1010,CNY,2,,-3,
5,2026-03-02T02:00:00Z,2026-03-02T02:00:00Z,fill:1,move,ann,2010,CNY,,2,3,
`
	if out.String() != want {
		t.Errorf("export:\n%swant:\n%s", out.String(), want)
	}
}

func TestImport(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		old := ledger.Old{Accounts: []ledger.Account{bank, wallet("ann")}, Closing: map[ledger.AccountID]int64{"ann": 15, "bank": -15}}
		for i, fen := range []int64{20, -30, 25} { // below her floor in between: it is history
			e := ledger.Move(fmt.Sprintf("old:%d", i), "bank", "ann", money.Fen(fen))
			old.Entries = append(old.Entries, ledger.OldEntry{Entry: e, Booked: start.AddDate(-1, 0, -i)}) // newest first
		}
		for range 2 { // again after an interruption
			if err := ledger.Import(t.Context(), h.store, old); err != nil {
				t.Fatal(err)
			}
		}
		lines, err := h.book.Statement(t.Context(), "ann", 1, 10)
		if err != nil || len(lines) != 3 || lines[0].Ref != "old:2" || lines[2].Balance.Minor() != 15 || !lines[2].Booked.Equal(start.AddDate(-1, 0, 0)) {
			t.Errorf("statement: %+v, %v", lines, err)
		}
		h.green()
		for _, tt := range []struct {
			name   string
			change func(*ledger.Old)
		}{
			{"a closing balance", func(o *ledger.Old) { o.Closing = map[ledger.AccountID]int64{"ann": 16} }},
			{"a reference twice", func(o *ledger.Old) { o.Entries = append(o.Entries, o.Entries[0]) }},
			{"an unknown account", func(o *ledger.Old) { o.Accounts = o.Accounts[:1] }},
			{"no booking time", func(o *ledger.Old) {
				o.Entries = []ledger.OldEntry{{Entry: ledger.Move("x", "bank", "ann", money.Fen(1))}}
			}},
			{"older than the book", func(o *ledger.Old) {
				o.Closing = nil
				o.Entries = []ledger.OldEntry{{Entry: ledger.Move("x", "bank", "ann", money.Fen(1)), Booked: start.AddDate(-2, 0, 0)}}
			}},
			{"a leg too few", func(o *ledger.Old) {
				o.Closing = nil
				e := ledger.Move("x", "bank", "ann", money.Fen(1))
				e.Legs = e.Legs[:1]
				o.Entries = []ledger.OldEntry{{Entry: e, Booked: start}}
			}},
		} {
			bad := old
			tt.change(&bad)
			if err := ledger.Import(t.Context(), h.store, bad); !errors.Is(err, ledger.ErrImport) {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		h.green()
	})
}

func TestSeal(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		public, private, err := ed25519.GenerateKey(clock.Random(1))
		if err != nil {
			t.Fatal(err)
		}
		sign := func(m []byte) ([]byte, error) { return ed25519.Sign(private, m), nil }
		check := func(m, sig []byte) error {
			if !ed25519.Verify(public, m, sig) {
				return errors.New("the signature is not ours")
			}
			return nil
		}
		h.fill(30) // from 09:00 on the 2nd to 14:00 on the 3rd, Beijing
		day := calendar.Of(start, calendar.Beijing)
		if _, err := h.book.SealDay(t.Context(), day.AddDays(1), sign); !errors.Is(err, ledger.ErrShape) {
			t.Errorf("sealing a day that is not over: %v", err)
		}
		if _, err := h.book.Prove(t.Context(), "fill:3"); !errors.Is(err, ledger.ErrSeal) {
			t.Errorf("a proof before the seal: %v", err)
		}
		first, err := h.book.SealDay(t.Context(), day, sign)
		if err != nil || first.First != 1 || first.Last != 18 {
			t.Fatalf("first seal: %+v, %v", first, err)
		}
		h.clock.Advance(24 * time.Hour)
		second, err := h.book.SealDay(t.Context(), day.AddDays(1), sign)
		if err != nil || second.First != 19 || second.Last != 33 {
			t.Fatalf("second seal: %+v, %v", second, err)
		}
		if again, err := h.book.SealDay(t.Context(), day, sign); err != nil || again.Last != 33 {
			t.Errorf("sealing an old day again: %+v, %v", again, err)
		}
		for i := range 30 {
			p, err := h.book.Prove(t.Context(), fmt.Sprintf("fill:%d", i))
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Check(check); err != nil {
				t.Errorf("proof of fill:%d: %v", i, err)
			}
			p.Record[len(p.Record)-1]++
			if err := p.Check(check); !errors.Is(err, ledger.ErrSeal) {
				t.Errorf("proof of a changed fill:%d: %v", i, err)
			}
		}
		p, err := h.book.Prove(t.Context(), "bank") // the account, in a batch of three
		if err != nil || p.Check(check) != nil || len(p.InBatch) == 0 {
			t.Errorf("proof of the account: %+v, %v", p, err)
		}
		p.Seal.Signature[0]++
		if err := p.Check(check); !errors.Is(err, ledger.ErrSeal) {
			t.Errorf("a forged signature: %v", err)
		}
	})
}

// TestReaders reads while many callers post; -race watches. No reader ever
// sees a sum that is not zero twice in a row at one record.
func TestReaders(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := newHouse(t, cfg, ledger.Config{Window: 64, SnapshotEvery: 100})
		h.openAccounts(bank, wallet("ann"), shop)
		ctx, stop := context.WithCancel(t.Context())
		var readers, callers sync.WaitGroup
		for range 3 {
			readers.Go(func() {
				for ctx.Err() == nil {
					if trial := h.book.TrialBalance(); !trial.Balanced {
						t.Errorf("trial balance: %+v", trial)
					}
					h.book.Holds("ann")
					h.book.Accounts("", "", 10)
					if _, err := h.book.Recent(ctx, "ann", 0, 5); err != nil && ctx.Err() == nil {
						t.Errorf("statement: %v", err)
					}
				}
			})
		}
		for c := range 8 {
			callers.Go(func() {
				for i := range 40 {
					ref := fmt.Sprintf("c:%d/%d", c, i)
					err := h.write(func(tx *db.Tx) error {
						if _, err := ledger.Post(tx, ledger.Move(ref, "bank", "ann", money.Fen(3))); err != nil {
							return err
						}
						if _, err := ledger.Authorise(tx, ledger.Hold{Ref: ref + "h", From: "ann", To: "shop", Amount: money.Fen(2)}); err != nil {
							return err
						}
						_, err := ledger.Capture(tx, ref+"h", ref+"c", money.Fen(1), true)
						return err
					})
					if err != nil {
						t.Errorf("%s: %v", ref, err)
					}
				}
			})
		}
		callers.Wait()
		stop()
		readers.Wait()
		if got := h.fen("ann"); got != [3]int64{640, 0, 640} {
			t.Errorf("ann has %v", got)
		}
		h.green()
		if err := h.book.Trouble(); err != nil {
			t.Errorf("projector: %v", err)
		}
	})
}
