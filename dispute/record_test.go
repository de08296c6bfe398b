package dispute

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/fail"
	"koala/money"
	"koala/settlement"
)

// sales is what the switch knows in these tests: one sale of 100.00, and two of
// one card, day and amount.
func sales(_ db.Reader, t Trace) (out []Lead, err error) {
	one := claim("", false).Sale
	twin, other := one, one
	twin.RRN, other.RRN = "000000000002", "000000000003"
	for _, l := range []Lead{{one, "10000001", "622202******1234", 10_000}, {twin, "10000001", "622202******5678", 500}, {other, "10000001", "622202******5678", 500}} {
		day := calendar.Of(l.Sale.At, calendar.Beijing)
		if (t.RRN == "" || t.RRN == l.Sale.RRN) && (t.Tail == "" || t.Tail == Tail(l.Masked)) && (t.Terminal == "" || t.Terminal == l.Terminal) && (t.Day.IsZero() || t.Day == day) && (t.Fen == 0 || t.Fen == l.Fen) {
			out = append(out, l)
		}
	}
	return out, nil
}

func record(said Said, undone bool) Record {
	return Record{Host: "unionpay", Ref: "N1", Said: said, Undone: undone, Sale: Trace{RRN: "000000000001"}, Amount: money.Fen(6_000), Reason: "4515", At: sold.AddDate(0, 0, 1)}
}

func (h *house) take(list ...Record) {
	h.t.Helper()
	if err := TakeRecords(ctx, h.store, list, sales); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) records(s RecordState) (out []Kept) {
	h.t.Helper()
	if err := h.store.Read(ctx, func(q *db.Query) (err error) { out, err = Records(q, s, "", 100); return err }); err != nil {
		h.t.Fatal(err)
	}
	return out
}

func (h *house) shopHas(what string, want int64) {
	h.t.Helper()
	if got := h.balance(settlement.Payable(shop)); got != want {
		h.t.Errorf("%s: the shop has %d, want %d", what, got, want)
	}
}

// TestFileSays: what files say moves a case once, in whatever order and however
// often they come.
func TestFileSays(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := newHouse(t, cfg)
		h.take(record(SaidAgain, false)) // before the first
		if w := h.records(RecordWaits); len(w) != 1 || w[0].Code != ErrNone.Code {
			t.Fatalf("%+v", w)
		}
		h.shopHas("second before the first", 10_000)
		h.take(record(SaidChargeback, false), record(SaidChargeback, false))
		h.take(record(SaidChargeback, false)) // the file again
		h.shopHas("charged back", 4_000)
		c := h.ofSale()[0]
		if c.State != Charged || c.Moves != 1 {
			t.Errorf("%+v", c)
		}
		h.gather(c.ID)
		h.now.Advance(time.Minute)
		h.must(func(tx *db.Tx) error { _, err := present(tx, c.ID); return err })
		h.shopHas("represented", 10_000)
		if n, err := HeedKept(ctx, h.store, sales); err != nil || n != 1 {
			t.Errorf("the second chargeback that waited: %d %v", n, err)
		}
		h.shopHas("charged back again", 4_000)
		h.take(record(SaidChargeback, true)) // not what it said last
		if w := h.records(RecordWaits); len(w) != 1 || w[0].Code != ErrState.Code {
			t.Errorf("%+v", w)
		}
		h.take(record(SaidAgain, true), record(SaidAgain, true))
		h.shopHas("taken back", 10_000)
		if c := h.get(c.ID); c.State != Withdrawn || c.Moves != 4 {
			t.Errorf("%+v", c)
		}
		h.check(h.get(c.ID))
		if e := h.history(c.ID)[0]; e.Reason(true) != "unionpay 清算文件" || e.Reason(false) != "clearing file of unionpay" {
			t.Errorf("%q", e.Why)
		}
	})
}

func (h *house) history(id string) (out []Event) {
	h.t.Helper()
	if err := h.store.Read(ctx, func(q *db.Query) (err error) { out, err = History(q, id); return err }); err != nil {
		h.t.Fatal(err)
	}
	return out
}

// TestFileCannotBePlaced: what fits no sale, several, or not the case, waits for
// a person with the reason, and moves nothing.
func TestFileCannotBePlaced(t *testing.T) {
	day := calendar.Of(sold, calendar.Beijing)
	for _, tt := range []struct {
		name string
		bend func(*Record)
		want *fail.Failure // nil: the case is opened
	}{
		{"by reference", func(*Record) {}, nil},
		{"by card, day and amount", func(r *Record) { r.Sale = Trace{Tail: "1234", Day: day, Fen: 10_000} }, nil},
		{"by terminal and day", func(r *Record) { r.Sale = Trace{Terminal: "10000001", Day: day, Fen: 10_000} }, nil},
		{"a clock ahead of ours", func(r *Record) { r.At = sold.AddDate(0, 0, 9) }, nil},
		{"unknown reference", func(r *Record) { r.Sale.RRN = "000000000009" }, ErrSale},
		{"reference of another card", func(r *Record) { r.Sale.Tail = "9999" }, ErrSale},
		{"two sales fit", func(r *Record) { r.Sale = Trace{Tail: "5678", Day: day, Fen: 500} }, ErrSale},
		{"card without day", func(r *Record) { r.Sale = Trace{Tail: "1234"} }, ErrSale},
		{"nothing of the sale", func(r *Record) { r.Sale = Trace{} }, ErrSale},
		{"more than the sale", func(r *Record) { r.Amount = money.Fen(10_001) }, ErrClaim},
		{"nothing", func(r *Record) { r.Amount = money.Fen(0) }, ErrNotice},
		{"other money", func(r *Record) { r.Amount = money.Of(6_000, "344") }, ErrNotice},
		{"no number", func(r *Record) { r.Ref = "" }, ErrNumber},
		{"a long number", func(r *Record) { r.Ref = string(make([]byte, MaxRef+1)) }, ErrClaim},
		{"unknown reason", func(r *Record) { r.Reason = "9999" }, ErrClaim},
		{"too late", func(r *Record) { r.At = sold.AddDate(0, 0, 181) }, ErrLate},
		{"taken back before it was said", func(r *Record) { r.Undone = true }, ErrNone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouse(t, db.Config{URL: dbtest.File(t)})
			r := record(SaidChargeback, false)
			tt.bend(&r)
			if tt.want == ErrLate {
				h.now.Set(sold.AddDate(0, 0, 182))
			}
			if tt.name == "a long number" {
				r.Ref = "x" + string(slices.Repeat([]byte{'y'}, MaxRef))
			}
			h.take(r)
			w := h.records(RecordWaits)
			if tt.want == nil {
				h.shopHas(tt.name, 4_000)
				if len(w) != 0 {
					t.Errorf("%+v", w)
				}
				return
			}
			h.shopHas(tt.name, 10_000)
			if len(w) != 1 || w[0].Code != tt.want.Code || w[0].key() != r.key() {
				t.Errorf("%+v, want %s", w, tt.want.Code)
			}
			h.take(r)
			if len(h.records(RecordWaits)) != 1 {
				t.Error("kept twice")
			}
		})
	}
}

// TestOtherContent: a step that came before with another amount waits for a
// person; without a number, a step of the sale's one case needs none.
func TestOtherContent(t *testing.T) {
	h := newHouse(t, db.Config{URL: dbtest.File(t)})
	first, other, bare := record(SaidChargeback, false), record(SaidChargeback, false), record(SaidChargeback, false)
	other.Amount, bare.Ref = money.Fen(5_999), ""
	h.take(first, other, bare)
	if w := h.records(RecordWaits); len(w) != 1 || w[0].Code != ErrDiffers.Code || len(h.records(RecordHeeded)) != 2 {
		t.Errorf("%+v", w)
	}
	h.shopHas("once", 4_000)
	bare.Undone = true
	h.take(bare)
	h.shopHas("taken back without number", 10_000)
}

// TestCompleted: a person completes what a file says, another one confirms it;
// dropped, it waits again; set aside, it stays in the list.
func TestCompleted(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := newHouse(t, cfg)
		r := record(SaidChargeback, false)
		r.Ref, r.Sale, r.Reason = "", Trace{Tail: "1234"}, ""
		h.take(r)
		key := h.records(RecordWaits)[0].Key
		complete := func() error {
			return h.write(func(tx *db.Tx) error {
				return Complete(tx, key, "N7", "000000000001", "4515", "li", "the bank was asked")
			})
		}
		if err := h.write(func(tx *db.Tx) error { return Complete(tx, key, "", "000000000001", "4515", "li", "why") }); !errors.Is(err, ErrNotice) {
			t.Errorf("without number: %v", err)
		}
		if err := complete(); err != nil {
			t.Fatal(err)
		}
		if err := complete(); !errors.Is(err, ErrState) {
			t.Errorf("twice: %v", err)
		}
		h.must(func(tx *db.Tx) error { return Drop(tx, "N7", SaidChargeback) })
		if len(h.records(RecordWaits)) != 1 {
			t.Error("it is lost")
		}
		if err := complete(); err != nil {
			t.Fatal(err)
		}
		confirm := func(who string) error {
			mark := h.mark("N7", SaidChargeback)
			return h.write(func(tx *db.Tx) error {
				_, err := Confirm(tx, "N7", SaidChargeback, mark, who, Finder(sales).One)
				return err
			})
		}
		if err := confirm("li"); !errors.Is(err, ErrSecond) {
			t.Errorf("by himself: %v", err)
		}
		h.shopHas("before the second person", 10_000)
		if err := confirm("wang"); err != nil {
			t.Fatal(err)
		}
		h.shopHas("confirmed", 4_000)
		h.take(r)
		done := h.records(RecordHeeded)
		if len(done) != 1 || done[0].Case != h.ofSale()[0].ID || done[0].Who != "li" {
			t.Errorf("%+v", done)
		}
		stray := record(SaidAgain, false)
		stray.Ref = "N9"
		h.take(stray)
		key = h.records(RecordWaits)[0].Key
		if err := h.write(func(tx *db.Tx) error { return SetAside(tx, key, "li", "") }); !errors.Is(err, ErrWhy) {
			t.Errorf("without why: %v", err)
		}
		h.must(func(tx *db.Tx) error { return SetAside(tx, key, "li", "the bank's mistake") })
		h.take(stray)
		if d := h.records(RecordDropped); len(d) != 1 || d[0].Note != "the bank's mistake" || len(h.records(RecordWaits)) != 0 {
			t.Errorf("%+v", d)
		}
	})
}

// TestFileInCutUnits: whatever unit of taking a file loses its commit or the
// answer of it, taking the file again comes to the same, once.
func TestFileInCutUnits(t *testing.T) {
	list := []Record{record(SaidAgain, false), record(SaidChargeback, false), record(SaidChargeback, true)}
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			f := &breaks{}
			h := newHouse(t, db.Config{URL: dbtest.File(t), Faults: f})
			if f.n = 0; after {
				f.after = n
			} else {
				f.before = n
			}
			err := TakeRecords(ctx, h.store, list, sales)
			f.before, f.after = 0, 0
			h.take(list...)
			if len(h.records(RecordHeeded)) != 2 || len(h.records(RecordWaits)) != 1 {
				t.Fatalf("cut %d: %+v", n, h.records(RecordWaits))
			}
			h.shopHas("taken back", 10_000)
			if c := h.ofSale(); len(c) != 1 || c[0].Moves != 2 {
				t.Fatalf("cut %d: %+v", n, c)
			}
			if err == nil && n > 3 {
				break
			}
		}
	}
}

// TestFilesInAnyOrder: whatever files say in whatever order, with what the desk
// does between, the shop and the counter sum to nothing, no step counts twice,
// and every record is somewhere.
func TestFilesInAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHouse(rt, db.Config{URL: dbtest.File(t), Rebuildable: true})
		kept := map[Record]bool{}
		for range rapid.IntRange(1, 14).Draw(rt, "acts") {
			if rapid.IntRange(0, 3).Draw(rt, "ours") == 0 {
				for _, c := range h.ofSale() {
					h.gather2(c)
					_ = h.write(func(tx *db.Tx) error { _, err := present(tx, c.ID); return err })
				}
				continue
			}
			r := record(rapid.SampledFrom([]Said{SaidRetrieval, SaidChargeback, SaidAgain}).Draw(rt, "said"), rapid.Bool().Draw(rt, "undone"))
			r.Ref = rapid.SampledFrom([]string{"N1", "N2", ""}).Draw(rt, "number")
			r.Amount = money.Fen(rapid.SampledFrom([]int64{4_000, 6_000, 11_000}).Draw(rt, "fen"))
			kept[r] = true
			h.take(r)
			h.now.Advance(time.Duration(rapid.IntRange(0, 40).Draw(rt, "days")) * 24 * time.Hour)
			if _, err := Tick(context.Background(), h.store, h.now.Now()); err != nil {
				rt.Fatal(err)
			}
		}
		with := int64(0)
		for _, c := range h.ofSale() {
			if c.WithIssuer() {
				with += c.Amount.Minor()
			}
			seen := map[State]bool{}
			for _, e := range h.history(c.ID) {
				if e.Was != e.Is && seen[e.Is] {
					rt.Fatalf("%s twice", e.Is)
				}
				seen[e.Is] = seen[e.Is] || e.Was != e.Is
			}
		}
		if has, owes := h.balance(settlement.Payable(shop)), h.balance(counter); has != 10_000-with || owes != -has || with > 10_000 {
			rt.Fatalf("the shop has %d, the issuer %d, counter %d", has, with, owes)
		}
		if n := len(h.records(RecordWaits)) + len(h.records(RecordHeeded)); n != len(kept) {
			rt.Fatalf("%d records, want %d", n, len(kept))
		}
	})
}

func (h *house) gather2(c Case) {
	if !c.State.Final() {
		h.gather(c.ID)
	}
}

// TestOldStore: a store of before has the rule of the second person and room for
// records, and keeps what waited.
func TestOldStore(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, store *db.Store) {
		before := Schema
		before.Steps = before.Steps[:3]
		if err := store.Migrate(ctx, before); err != nil {
			t.Fatal(err)
		}
		err := store.Write(ctx, func(tx *db.Tx) error { n := notice(SaidChargeback); n.At = tx.Now(); return Enter(tx, n, "li") })
		if err == nil {
			err = store.Migrate(ctx, Schema)
		}
		if err != nil {
			t.Fatal(err)
		}
		err = store.Write(ctx, func(tx *db.Tx) error {
			if err := KeepRecord(tx, record(SaidAgain, false)); err != nil {
				return err
			}
			alone, err := Alone(tx, tx.Now())
			waits, err2 := Unconfirmed(tx)
			if alone != money.Fen(1_000_00) || len(waits) != 1 {
				t.Errorf("alone %v, %d wait", alone, len(waits))
			}
			return errors.Join(err, err2)
		})
		if err != nil {
			t.Error(err)
		}
	})
}
