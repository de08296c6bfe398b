package dispute

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/calendar"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/outbox"
	"koala/internal/proposal"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
)

var sold = time.Date(2015, 9, 16, 12, 0, 0, 0, calendar.Beijing)

const (
	shop    = "shop_1"
	counter = ledger.AccountID("receivable.unionpay")
)

type tester interface {
	Helper()
	Cleanup(func())
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

type house struct {
	t     tester
	store *db.Store
	now   *clock.Virtual
	book  *ledger.Book
}

var ctx = context.Background()

func newHouse(t tester, cfg db.Config) *house {
	t.Helper()
	h := &house{t: t, now: clock.NewVirtual(sold.Add(48 * time.Hour))}
	cfg.Clock, cfg.Inline = h.now, true
	var err error
	if h.store, err = db.Open(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	if h.book, err = ledger.Open(ctx, h.store, ledger.Config{Inline: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.book.Close(); h.store.Close() })
	if err := h.store.Migrate(ctx, outbox.Schema, proposal.Schema, settlement.Schema, Schema); err != nil {
		t.Fatal(err)
	}
	h.must(func(tx *db.Tx) error {
		if err := ledger.OpenAccount(tx, ledger.Account{ID: counter, Code: "1030", Name: "owed by the network", Currency: money.CNY}); err != nil {
			return err
		}
		if err := settlement.Join(tx, shop, "面馆"); err != nil {
			return err
		}
		_, err := ledger.Post(tx, ledger.Move("sale:1", counter, settlement.Payable(shop), money.Fen(10_000)))
		return err
	})
	return h
}

func (h *house) write(f func(*db.Tx) error) error { return h.store.Write(ctx, f) }

func (h *house) must(f func(*db.Tx) error) {
	h.t.Helper()
	if err := h.write(f); err != nil {
		h.t.Fatal(err)
	}
}

func claim(ref string, takes bool) Claim {
	return Claim{Ref: ref, Sale: Sale{RRN: "000000000001", Payee: shop, Counter: counter, Issuer: "unionpay", Class: "credit", Amount: money.Fen(10_000), At: sold},
		Amount: money.Fen(6_000), Reason: "4515", Money: takes, At: sold.Add(48 * time.Hour), Why: "the cardholder was elsewhere"}
}

func (h *house) open(c Claim) Case {
	h.t.Helper()
	var out Case
	h.must(func(tx *db.Tx) (err error) { out, err = Open(tx, c); return err })
	return out
}

func (h *house) get(id string) (c Case) {
	h.t.Helper()
	if err := h.store.Read(ctx, func(q *db.Query) (err error) { c, err = Get(q, id); return err }); err != nil {
		h.t.Fatal(err)
	}
	return c
}

func (h *house) balance(id ledger.AccountID) int64 {
	h.t.Helper()
	b, err := h.book.Balance(id)
	if err != nil {
		h.t.Fatal(err)
	}
	return b.Posted.Minor()
}

// check states what the package promises: the shop has the disputed money or
// the issuer has it, as the state says, the items of settlement say the same,
// and a hold is in force exactly while the case says so.
func (h *house) check(c Case) {
	h.t.Helper()
	want := int64(10_000)
	if c.WithIssuer() {
		want -= c.Amount.Minor()
	}
	if got := h.balance(settlement.Payable(shop)); got != want || h.balance(counter) != -want {
		h.t.Fatalf("%s: the shop has %d, want %d; counter %d", c.State, got, want, h.balance(counter))
	}
	err := h.store.Read(ctx, func(q *db.Query) error {
		holds, err := settlement.Holds(q, shop)
		if err == nil && (len(holds) == 1) != c.Held {
			h.t.Fatalf("%s: holds %+v", c.State, holds)
		}
		open, err2 := settlement.Open(q)
		net := int64(0)
		for _, p := range open {
			net += p.Amount.Minor()
		}
		if net != want-10_000 {
			h.t.Fatalf("%s: items say %d, want %d", c.State, net, want-10_000)
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		h.t.Fatal(err)
	}
	switch c.State {
	case Charged, Again, Lost, Accepted:
		if !c.WithIssuer() {
			h.t.Errorf("%s with the shop", c.State)
		}
	case Arbitration:
	default:
		if c.WithIssuer() {
			h.t.Errorf("%s with the issuer", c.State)
		}
	}
}

// seal is a sealer that shows when something was left open.
type seal struct{}

func (seal) Seal(_ context.Context, clear []byte) ([]byte, error) {
	return append([]byte("sealed"), flip(clear)...), nil
}

func (seal) Unseal(_ context.Context, sealed []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(sealed, []byte("sealed"))
	if !ok {
		return nil, errors.New("not sealed")
	}
	return flip(rest), nil
}

func flip(in []byte) []byte {
	out := bytes.Clone(in)
	for i := range out {
		out[i] ^= 0x5A
	}
	return out
}

// slips is a source of evidence.
type slips struct{ lacking bool }

func (s slips) Evidence(_ context.Context, c Case) ([]Piece, error) {
	p := []Piece{{Kind: ReceiptCopy, Name: "slip.txt", Type: "text/plain", At: sold, Data: []byte("SALE 100.00\nRRN " + c.Sale.RRN)},
		{Kind: Messages, Name: "messages.txt", Type: "text/plain", At: sold, Data: []byte("0200 …\n0210 00")}}
	if s.lacking {
		return p, nil
	}
	return append(p, Piece{Kind: ChipData, Name: "field55.bin", Type: "application/octet-stream", At: sold, Data: []byte{0x9F, 0x26}},
		Piece{Kind: Signature, Name: "signature.sha256", Type: "text/plain", At: sold, Data: []byte("ab12")}), nil
}

func (h *house) gather(id string) Pack {
	h.t.Helper()
	p, err := Gather(ctx, h.store, seal{}, id, "li", slips{})
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

// TestWholeWay walks a case through every round to the arbiter.
func TestWholeWay(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := newHouse(t, cfg)
		c := h.open(claim("N1", false))
		if c.State != Requested || c.State.Next() != Shop || !c.Due.Equal(time.Date(2015, 10, 9, 0, 0, 0, 0, calendar.Beijing)) {
			t.Errorf("%+v", c)
		}
		h.check(c)
		if err := h.write(func(tx *db.Tx) error { _, err := Send(tx, c.ID, "li", "here"); return err }); !errors.Is(err, ErrEvidence) {
			t.Errorf("nothing gathered: %v", err)
		}
		h.must(func(tx *db.Tx) error { return Answer(tx, c.ID, "shop", "he signed") })
		if _, err := Upload(ctx, h.store, seal{}, c.ID, "shop", "delivery.jpg", "image/jpeg", []byte{1, 2, 3}); err != nil {
			t.Fatal(err)
		}
		p := h.gather(c.ID)
		for _, step := range []struct {
			name string
			act  func(*db.Tx) (Case, error)
			want State
		}{
			{"sent", func(tx *db.Tx) (Case, error) { return Send(tx, c.ID, "li", "here") }, Answered},
			{"charged back", func(tx *db.Tx) (Case, error) { return ChargeBack(tx, c.ID, "4562", "counterfeit") }, Charged},
			{"represented", func(tx *db.Tx) (Case, error) { return Represent(tx, c.ID, "li", "the chip signed") }, Presented},
			{"charged back again", func(tx *db.Tx) (Case, error) { return ChargeAgain(tx, c.ID, "no") }, Again},
			{"filed", func(tx *db.Tx) (Case, error) { return File(tx, c.ID, "li", "we insist") }, Arbitration},
			{"decided", func(tx *db.Tx) (Case, error) { return Decide(tx, c.ID, true, "the shop is right") }, Won},
		} {
			var got Case
			h.must(func(tx *db.Tx) (err error) { got, err = step.act(tx); return err })
			if got.State != step.want || h.get(c.ID).State != step.want {
				t.Errorf("%s: %s", step.name, got.State)
			}
			h.check(h.get(c.ID))
			if err := h.write(func(tx *db.Tx) error { _, err := step.act(tx); return err }); !errors.Is(err, ErrState) {
				t.Errorf("%s twice: %v", step.name, err)
			}
		}
		var moves []Movement
		h.must(func(tx *db.Tx) (err error) {
			moves, err = Movements(tx, "unionpay", sold, sold.AddDate(1, 0, 0))
			return err
		})
		if len(moves) != 4 || moves[0].Fen != -6_000 || moves[1].Fen != 6_000 || moves[3].Fen != 6_000 || moves[0].RRN != c.Sale.RRN {
			t.Errorf("%+v", moves)
		}
		again, err := PackOf(ctx, h.store, seal{}, c.ID)
		if err != nil || again.Hash != p.Hash || again.Text != p.Text || !bytes.Equal(again.JSON, p.JSON) {
			t.Errorf("the kept pack differs: %v", err)
		}
		var events []Event
		h.must(func(tx *db.Tx) (err error) { events, err = History(tx, c.ID); return err })
		if len(events) != 8 || events[1].Why != "he signed" || events[7].Who != "arbiter" {
			t.Errorf("%+v", events)
		}
	})
}

// TestDeadlines misses each deadline: the case moves by rule.
func TestDeadlines(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := newHouse(t, cfg)
		for i, tt := range []struct {
			name  string
			takes bool
			acts  []func(*db.Tx, string) (Case, error)
			want  []State // after each deadline
		}{
			{"nobody answers, nobody charges back", false, nil, []State{Missed, Resting}},
			{"chargeback ignored", true, nil, []State{Lost}},
			{"representment stands", true, []func(*db.Tx, string) (Case, error){present}, []State{Won}},
			{"second chargeback ignored", true, []func(*db.Tx, string) (Case, error){present, again}, []State{Lost}},
			{"no decision: with the issuer", true, []func(*db.Tx, string) (Case, error){present, again, file}, []State{Lost}},
			{"no decision: with the shop", true, []func(*db.Tx, string) (Case, error){present, file}, []State{Won}},
		} {
			cl := claim(fmt.Sprint("N", i), tt.takes)
			h.now.Advance(24 * time.Hour)
			cl.Sale.RRN, cl.Sale.At, cl.At = fmt.Sprintf("%012d", i+1), h.now.Now().Add(-time.Hour), h.now.Now()
			c := h.open(cl)
			h.gather(c.ID)
			for _, act := range tt.acts {
				h.must(func(tx *db.Tx) error { _, err := act(tx, c.ID); return err })
			}
			for _, want := range tt.want {
				before := h.get(c.ID)
				h.now.Set(before.Due.Add(-time.Second))
				h.tick(t, 0)
				h.now.Set(before.Due)
				if before.State != Arbitration {
					if err := h.write(func(tx *db.Tx) error { _, err := Represent(tx, c.ID, "li", "too late"); return err }); !errors.Is(err, ErrLate) && !errors.Is(err, ErrState) {
						t.Errorf("%s: too late: %v", tt.name, err)
					}
				}
				if before.State.Next() == Issuer { // its word of before may still come
					h.now.Set(before.Due.Add(heardBy - time.Second))
					h.tick(t, 0)
					h.now.Set(before.Due.Add(heardBy))
				}
				h.tick(t, 1)
				h.tick(t, 0)
				if got := h.get(c.ID); got.State != want {
					t.Fatalf("%s: %s, want %s", tt.name, got.State, want)
				}
			}
			got := h.get(c.ID)
			if got.WithIssuer() { // the next one starts from the same balances
				h.must(func(tx *db.Tx) error {
					ref := "give back:" + c.ID
					if _, err := ledger.Post(tx, ledger.Move(ref, counter, settlement.Payable(shop), c.Amount)); err != nil {
						return err
					}
					return settlement.Capture(tx, settlement.Item{Ref: ref, Payee: shop, Amount: c.Amount, At: sold, Kind: "correction"})
				})
				got.Moves++
				got.State = Arbitration
			}
			h.check(got)
		}
	})
}

func present(tx *db.Tx, id string) (Case, error) { return Represent(tx, id, "li", "the chip signed") }
func again(tx *db.Tx, id string) (Case, error)   { return ChargeAgain(tx, id, "no") }
func file(tx *db.Tx, id string) (Case, error)    { return File(tx, id, "li", "we insist") }

func (h *house) tick(t *testing.T, want int) {
	t.Helper()
	if n, err := Tick(ctx, h.store, h.now.Now()); err != nil || n != want {
		t.Errorf("%d moved, want %d: %v", n, want, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := newHouse(t, cfg)
		first := h.open(claim("N1", true))
		if got := h.open(claim("N1", true)); got.ID != first.ID {
			t.Errorf("the same again is %s", got.ID)
		}
		h.check(first)
		for name, tt := range map[string]struct {
			change func(*Claim)
			want   error
		}{
			"other content":    {func(c *Claim) { c.Amount = money.Fen(1) }, ErrDiffers},
			"another number":   {func(c *Claim) { c.Ref = "N2" }, ErrActive},
			"no number":        {func(c *Claim) { c.Ref = "" }, ErrClaim},
			"unknown reason":   {func(c *Claim) { c.Ref, c.Reason = "N3", "x" }, ErrClaim},
			"more than sold":   {func(c *Claim) { c.Ref, c.Amount = "N3", money.Fen(10_001) }, ErrClaim},
			"nothing":          {func(c *Claim) { c.Ref, c.Amount = "N3", money.Fen(0) }, ErrClaim},
			"half a year late": {func(c *Claim) { c.Ref, c.Sale.RRN, c.At = "N3", "2", sold.AddDate(0, 0, 181) }, ErrLate},
			"request too late": {func(c *Claim) { c.Ref, c.Sale.RRN, c.Money, c.At = "N3", "2", false, sold.AddDate(0, 0, 121) }, ErrLate},
		} {
			c := claim("N1", true)
			tt.change(&c)
			if err := h.write(func(tx *db.Tx) error { _, err := Open(tx, c); return err }); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", name, err, tt.want)
			}
		}
		debit := claim("N9", true)
		debit.Sale.RRN, debit.Sale.Class = "000000000002", "debit"
		h.must(func(tx *db.Tx) error { _, err := Accept(tx, first.ID, "shop", "he is right"); return err })
		c := h.open(debit)
		h.gather(c.ID)
		h.must(func(tx *db.Tx) error { _, err := Represent(tx, c.ID, "li", "signed"); return err })
		if err := h.write(func(tx *db.Tx) error { _, err := ChargeAgain(tx, c.ID, "no"); return err }); !errors.Is(err, ErrRounds) {
			t.Errorf("second chargeback of a debit card: %v", err)
		}
		h.must(func(tx *db.Tx) error {
			return errors.Join(SetRule(tx, RuleRow{RuleDebit, sold.Add(-time.Hour), 2, "a new rule"}), SetRule(tx, RuleRow{RuleDebit, sold.Add(time.Hour), 1, "and an end to it"}))
		})
		h.must(func(tx *db.Tx) error { _, err := ChargeAgain(tx, c.ID, "no"); return err })
		h.must(func(tx *db.Tx) error { _, err := Withdraw(tx, c.ID, "sorry"); return err })
		if err := h.write(func(tx *db.Tx) error { return SetRule(tx, RuleRow{RuleDebit, sold, -1, "x"}) }); !errors.Is(err, ErrRule) {
			t.Errorf("a rule below nothing: %v", err)
		}
	})
}

// TestMachine acts at random: what the table does not list is refused, and the
// money is always where the state says.
func TestMachine(t *testing.T) {
	checks := flag.Lookup("rapid.checks").Value
	was := checks.String()
	if err := checks.Set("15"); err != nil {
		t.Fatal(err)
	}
	defer checks.Set(was)
	rapid.Check(t, func(rt *rapid.T) {
		h := newHouse(rt, db.Config{URL: dbtest.File(t), Rebuildable: true})
		c := h.open(claim("N1", rapid.Bool().Draw(rt, "money")))
		acts := map[State][]func(*db.Tx) (Case, error){
			Answered: {func(tx *db.Tx) (Case, error) { return Send(tx, c.ID, "li", "x") }}, Charged: {func(tx *db.Tx) (Case, error) { return ChargeBack(tx, c.ID, "4515", "x") }},
			Presented: {func(tx *db.Tx) (Case, error) { return present(tx, c.ID) }}, Again: {func(tx *db.Tx) (Case, error) { return again(tx, c.ID) }},
			Arbitration: {func(tx *db.Tx) (Case, error) { return file(tx, c.ID) }}, Accepted: {func(tx *db.Tx) (Case, error) { return Accept(tx, c.ID, "shop", "x") }},
			Withdrawn: {func(tx *db.Tx) (Case, error) { return Withdraw(tx, c.ID, "x") }},
		}
		targets := []State{Answered, Charged, Presented, Again, Arbitration, Accepted, Withdrawn}
		h.gather(c.ID)
		for range rapid.IntRange(1, 10).Draw(rt, "steps") {
			before := h.get(c.ID)
			to := rapid.SampledFrom(targets).Draw(rt, "to")
			err := h.write(func(tx *db.Tx) error { _, err := acts[to][0](tx); return err })
			after := h.get(c.ID)
			switch {
			case err == nil && (!before.State.May(to) || after.State != to):
				rt.Fatalf("%s to %s was let through", before.State, to)
			case err != nil && (!errors.Is(err, ErrState) || before.State.May(to) || after.State != before.State):
				rt.Fatalf("%s to %s: %v", before.State, to, err)
			}
			h.check(after)
			if after.State.Final() == (after.State.Next() != Nobody) || after.State.Final() != after.Due.IsZero() {
				rt.Fatalf("%+v", after)
			}
		}
	})
}

// breaks fails the nth commit, before or after it.
type breaks struct{ n, before, after int }

var errInjected = errors.New("injected")

func (f *breaks) BeforeCommit(int64) error {
	if f.n++; f.n == f.before {
		return errInjected
	}
	return nil
}

func (f *breaks) AfterCommit(int64) error {
	if f.n == f.after {
		return errInjected
	}
	return nil
}

// TestFaults loses the commit, or its answer, of a chargeback and of a
// representment: done again, the money has moved once.
func TestFaults(t *testing.T) {
	for _, after := range []bool{false, true} {
		f := &breaks{}
		h := newHouse(t, db.Config{URL: dbtest.File(t), Faults: f})
		breakNext := func() {
			if f.n = 0; after {
				f.after = 1
			} else {
				f.before = 1
			}
		}
		breakNext()
		if err := h.write(func(tx *db.Tx) error { _, err := Open(tx, claim("N1", true)); return err }); err == nil {
			t.Fatal("nothing broke")
		}
		c := h.open(claim("N1", true))
		h.check(c)
		h.gather(c.ID)
		breakNext()
		if err := h.write(func(tx *db.Tx) error { _, err := present(tx, c.ID); return err }); err == nil {
			t.Fatal("nothing broke")
		}
		if err := h.write(func(tx *db.Tx) error { _, err := present(tx, c.ID); return err }); (err != nil) != after || err != nil && !errors.Is(err, ErrState) {
			t.Errorf("again: %v", err)
		}
		h.check(h.get(c.ID))
	}
}

func TestPack(t *testing.T) {
	c := Case{ID: "dsp_1", Ref: "N1", Sale: Sale{RRN: "000000000001", Payee: shop, At: sold}, Amount: money.Fen(6_000), Reason: "4515"}
	pieces, err := slips{}.Evidence(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	a, err := Build(c, pieces)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(pieces)
	b, err := Build(c, pieces)
	if err != nil || a.Hash != b.Hash || !bytes.Equal(a.JSON, b.JSON) || len(a.Lacks) != 0 {
		t.Errorf("the order of the pieces matters: %v %v", err, a.Lacks)
	}
	if !strings.Contains(a.Text, "   SALE 100.00\n   RRN 000000000001") || !strings.Contains(a.Text, a.Manifest) || !strings.Contains(a.Manifest, "  chip/field55.bin\n") || strings.Count(a.Manifest, "\n") != 5 {
		t.Errorf("%s", a.Text)
	}
	few, err := slips{lacking: true}.Evidence(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := Build(c, few); err != nil || !slices.Equal(p.Lacks, []Kind{ChipData, Signature}) || p.Hash == a.Hash {
		t.Errorf("%v %+v", err, p.Lacks)
	}
	for name, p := range map[string]Piece{"no kind": {Name: "x", Data: []byte{1}}, "no name": {Kind: Messages, Data: []byte{1}}, "a name of two lines": {Kind: Messages, Name: "a\nb", Data: []byte{1}}, "nothing": {Kind: Messages, Name: "x"}} {
		if _, err := Build(c, []Piece{p}); !errors.Is(err, ErrDocument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDocuments(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := newHouse(t, cfg)
		c := h.open(claim("N1", true))
		for range 2 {
			if _, err := Upload(ctx, h.store, seal{}, c.ID, "shop", "a.txt", "text/plain", []byte("delivered to the door")); err != nil {
				t.Fatal(err)
			}
		}
		var docs []Document
		h.must(func(tx *db.Tx) (err error) {
			if docs, err = Documents(tx, c.ID); err != nil {
				return err
			}
			var kept []byte
			err = tx.QueryRow(`SELECT sealed FROM dispute_document WHERE dispute = $1`, c.ID).Scan(&kept)
			if bytes.Contains(kept, []byte("door")) {
				t.Error("the store has the document in clear")
			}
			return err
		})
		if len(docs) != 1 || docs[0].Size != 21 {
			t.Fatalf("%+v", docs)
		}
		if data, err := DocumentData(ctx, h.store, seal{}, c.ID, docs[0].Hash); err != nil || string(data) != "delivered to the door" {
			t.Errorf("%q %v", data, err)
		}
		if _, err := DocumentData(ctx, h.store, seal{}, c.ID, "x"); !errors.Is(err, ErrNone) {
			t.Errorf("no such document: %v", err)
		}
		for name, tt := range map[string]struct {
			name string
			data []byte
		}{"no name": {"", []byte{1}}, "a path": {"../x", []byte{1}}, "nothing": {"x", nil}, "too much": {"x", make([]byte, MaxDocument+1)}} {
			if _, err := Upload(ctx, h.store, seal{}, c.ID, "shop", tt.name, "text/plain", tt.data); !errors.Is(err, ErrDocument) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := PackOf(ctx, h.store, seal{}, c.ID); !errors.Is(err, ErrEvidence) {
			t.Errorf("no pack: %v", err)
		}
		h.must(func(tx *db.Tx) error {
			if _, err := Accept(tx, c.ID, "shop", "he is right"); err != nil {
				return err
			}
			for name, q := range map[string]func() ([]Case, error){
				"of the shop": func() ([]Case, error) { return OfPayee(tx, shop, false, "", 10) }, "of all": func() ([]Case, error) { return OfPayee(tx, "", false, "", 10) },
				"of the sale": func() ([]Case, error) { return OfSale(tx, c.Sale.RRN) },
			} {
				if got, err := q(); err != nil || len(got) != 1 {
					t.Errorf("%s: %d, %v", name, len(got), err)
				}
			}
			open, err := OfPayee(tx, shop, true, "", 10)
			due, err2 := DueBy(tx, sold.AddDate(9, 0, 0), 10)
			tally, err3 := Count(tx, shop)
			if len(open)+len(due) != 0 || len(tally) != 1 || tally[0].Fen != 6_000 {
				t.Errorf("%+v %+v %+v", open, due, tally)
			}
			return errors.Join(err, err2, err3)
		})
		if _, err := Gather(ctx, h.store, seal{}, c.ID, "li", slips{}); !errors.Is(err, ErrState) {
			t.Errorf("evidence for a case that ended: %v", err)
		}
	})
}

func TestWords(t *testing.T) {
	for s := range nextStates {
		if s.Words(true) == s.Words(false) || s.Words(true) == "" {
			t.Errorf("%s has no words", s)
		}
	}
	seen := map[string]bool{}
	for _, r := range Reasons {
		if r.Words(true) == "" || r.Words(false) == "" || len(r.Wants) == 0 || r.Source == "" || seen[r.Code] {
			t.Errorf("reason %+v", r)
		}
		seen[r.Code] = true
	}
	for _, k := range kindOrder {
		if k.Words(true) == k.Words(false) {
			t.Errorf("%s has no words", k)
		}
	}
	for _, r := range Rules {
		if r.Words(true) == r.Words(false) || r.Words(true) == "" {
			t.Errorf("rule %s has no words", r)
		}
	}
	for _, s := range []Step{StepAccept, StepRepresent, StepFile} {
		if s.Words(true) == s.Words(false) {
			t.Errorf("step %s has no words", s)
		}
	}
	for a := range actorWords {
		if a.Words(true) == a.Words(false) {
			t.Errorf("%s has no words", a)
		}
	}
	if State("x").Words(true) != "x" {
		t.Error("an unknown state has words")
	}
}
