package reconcile

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
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/spec/clearing"
)

const (
	host       = "unionpay"
	receivable = ledger.AccountID("receivable.unionpay")
	issuers    = ledger.AccountID("fees.issuers")
	network    = ledger.AccountID("fees.network")
	bank       = ledger.AccountID("bank.custody")
)

// A tester is a test or one run of a property.
type tester interface {
	Helper()
	Cleanup(func())
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

// A house is a store with a book, one host, one shop and the bank.
type house struct {
	t     tester
	store *db.Store
	now   *clock.Virtual
	book  *ledger.Book
}

func open(t tester, cfg db.Config) *house {
	t.Helper()
	h := &house{t: t, now: clock.NewVirtual(noon)}
	cfg.Clock, cfg.Inline = h.now, true
	ctx := context.Background()
	var err error
	if h.store, err = db.Open(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	if h.book, err = ledger.Open(ctx, h.store, ledger.Config{Inline: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.book.Close(); h.store.Close() })
	if err := h.store.Migrate(ctx, outbox.Schema, settlement.Schema, Schema); err != nil {
		t.Fatal(err)
	}
	h.must(func(tx *db.Tx) error {
		for _, a := range []ledger.Account{
			{ID: bank, Code: "1010", Name: "custody bank (simulated)", Currency: money.CNY},
			{ID: receivable, Code: "1030", Name: "owed by the network", Currency: money.CNY},
			{ID: issuers, Code: "2040", Name: "issuers' fees", Currency: money.CNY},
			{ID: network, Code: "2040", Name: "network's fees", Currency: money.CNY},
		} {
			if err := ledger.OpenAccount(tx, a); err != nil {
				return err
			}
		}
		return errors.Join(settlement.Join(tx, "shop_1", "面馆"),
			Join(tx, Host{Name: host, Receivable: receivable, Fees: issuers, Network: network, Bank: bank, CutOff: 23 * time.Hour, DueDays: 2, FourEyes: 50}),
			Join(tx, Host{Name: BankDesk, Bank: bank, FourEyes: 50}))
	})
	return h
}

func (h *house) write(f func(*db.Tx) error) error {
	return h.store.Write(context.Background(), f)
}

func (h *house) must(f func(*db.Tx) error) {
	h.t.Helper()
	if err := h.write(f); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) read(f func(*db.Query) error) {
	h.t.Helper()
	if err := h.store.Read(context.Background(), f); err != nil {
		h.t.Fatal(err)
	}
}

// clear books a sale as the switch does: the host owes it, the shop has it less
// the fees.
func (h *house) clear(items ...Item) {
	h.t.Helper()
	h.must(func(tx *db.Tx) error {
		for i := range items {
			if x := &items[i]; x.State == Cleared {
				if err := post(tx, "sale:"+x.RRN, "sale", leg{receivable, -x.Fen}, leg{issuers, x.Fee}, leg{network, x.Network}, leg{settlement.Payable("shop_1"), x.Fen - x.Fee - x.Network}); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (h *house) run(day calendar.Date, ours []Item, text []byte) (Report, error) {
	return Run(context.Background(), h.store, Day{Host: host, Day: day, Ours: List(ours), File: bytes.NewReader(text), Name: "IND15091601ACOM"})
}

func (h *house) take(lines ...StatementLine) int {
	h.t.Helper()
	s, err := ParseStatement(AppendStatement(nil, statement(lines...)))
	if err != nil {
		h.t.Fatal(err)
	}
	n, err := Import(context.Background(), h.store, s, "statement.csv")
	if err != nil {
		h.t.Fatal(err)
	}
	return n
}

func (h *house) balance(id ledger.AccountID) int64 {
	h.t.Helper()
	b, err := h.book.Balance(id)
	if err != nil {
		h.t.Fatal(err)
	}
	return b.Posted.Minor()
}

func (h *house) all() (out []Exception) {
	h.t.Helper()
	h.read(func(q *db.Query) (err error) {
		out, err = exceptions(q, `id > '' ORDER BY id`)
		return err
	})
	return out
}

// only is the one exception of a type.
func (h *house) only(t Type) Exception {
	h.t.Helper()
	found := slices.DeleteFunc(h.all(), func(x Exception) bool { return x.Type != t || x.State == Closed })
	if len(found) != 1 {
		h.t.Fatalf("%d open exceptions of %s", len(found), t)
	}
	return found[0]
}

// check is the equality of the package: what receivable, fee accounts and
// suspense have is what the exceptions explain, to the fen.
func (h *house) check() {
	h.t.Helper()
	var gross, fee, net, held, deskHeld int64
	for _, x := range h.all() {
		if x.State != Closed && x.State != Booked {
			gross, fee, net = gross+x.Gross, fee+x.Fee, net+x.Network
		}
		if x.State == Closed && x.Held != 0 {
			h.t.Errorf("exception %s is closed and holds %d", x.ID, x.Held)
		}
		if x.Host == host {
			held += x.Held
		} else {
			deskHeld += x.Held
		}
	}
	var unbanked Sum
	h.read(func(q *db.Query) error {
		rs, err := Reports(q, host, 100)
		for _, r := range rs {
			if r.Banked.IsZero() {
				unbanked.Fen, unbanked.Fee, unbanked.Network = unbanked.Fen+r.Theirs.Fen, unbanked.Fee+r.Theirs.Fee, unbanked.Network+r.Theirs.Network
			}
		}
		return err
	})
	for _, tt := range []struct {
		id   ledger.AccountID
		want int64
	}{
		{receivable, gross - unbanked.Fen}, {issuers, unbanked.Fee - fee}, {network, unbanked.Network - net},
		{Suspense(host), held}, {Suspense(BankDesk), deskHeld},
	} {
		if got := h.balance(tt.id); got != tt.want {
			h.t.Fatalf("%s has %d, the exceptions explain %d", tt.id, got, tt.want)
		}
	}
}

// TestWholeDay: sales, file and statement agree: everything is zero.
func TestWholeDay(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		a, b := one("000000000001", 10_000), one("000000000002", 5_000)
		h.clear(a, b)
		text := file(t, record(a.RRN, 10_000, 5, 1), record(b.RRN, 5_000, 5, 1))
		r, err := h.run(testDay, []Item{b, a}, text)
		if err != nil || r.Matched.Count != 2 || r.Matched.Fen != 15_000 || r.Differs != 0 || r.Net() != 14_988 {
			t.Fatalf("%v %+v", err, r)
		}
		h.check()
		if n := h.take(line("1", 14_988, "clearing unionpay 2015-09-16")); n != 1 {
			t.Errorf("%d lines", n)
		}
		for _, id := range []ledger.AccountID{receivable, issuers, network, Suspense(host)} {
			if got := h.balance(id); got != 0 {
				t.Errorf("%s has %d", id, got)
			}
		}
		if h.balance(bank) != -14_988 || h.balance(settlement.Payable("shop_1")) != 14_988 {
			t.Errorf("bank %d, shop %d", h.balance(bank), h.balance(settlement.Payable("shop_1")))
		}
		// The same again changes nothing; another file of the day is refused.
		again, err := h.run(testDay, []Item{a, b}, text)
		if err != nil || again.Hash != r.Hash {
			t.Errorf("again: %v", err)
		}
		if n := h.take(line("1", 14_988, "clearing unionpay 2015-09-16")); n != 0 {
			t.Errorf("the statement again: %d lines", n)
		}
		if n := h.take(line("1", 14_988, "clearing unionpay 2015-09-16"), line("2", 7, "a gift")); n != 1 {
			t.Errorf("a longer statement: %d lines", n)
		}
		if _, err := h.run(testDay, []Item{a, b}, file(t, record(a.RRN, 1, 0, 0))); !errors.Is(err, ErrOther) {
			t.Errorf("another file: %v", err)
		}
		if _, err := h.run(testDay.AddDays(1), nil, text); !errors.Is(err, ErrTaken) {
			t.Errorf("the same file for another day: %v", err)
		}
		if len(h.all()) != 1 {
			t.Errorf("%+v", h.all())
		}
		h.check()
	})
}

func TestLateItemsCloseThemselves(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		late := with(one("000000000001", 10_000), func(x *Item) { x.At = noon.Add(11*time.Hour + time.Minute) })
		lost := with(one("000000000002", 5_000), func(x *Item) { x.At = late.At })
		h.clear(late, lost)
		if _, err := h.run(testDay, []Item{late, lost}, nil); err != nil {
			t.Fatal(err)
		}
		for _, x := range h.all() {
			if x.Type != Late || x.Next != Nobody || x.State != Open {
				t.Errorf("%+v", x)
			}
			if err := h.write(func(tx *db.Tx) error { _, err := Close(tx, x.ID, Nothing, "li", "away with it"); return err }); !errors.Is(err, ErrState) {
				t.Errorf("closing by hand: %v", err)
			}
			if err := h.write(func(tx *db.Tx) error { _, err := Propose(tx, x.ID, "li", "do something", ""); return err }); !errors.Is(err, ErrState) {
				t.Errorf("proposing: %v", err)
			}
		}
		h.check()
		if _, err := h.run(testDay.AddDays(1), nil, file(t, record(late.RRN, 10_000, 5, 1))); err != nil {
			t.Fatal(err)
		}
		if x := h.only(MissingAtNetwork); x.Ours.RRN != lost.RRN || x.Next != Desk {
			t.Errorf("%+v", x)
		}
		h.take(line("1", 9_994, "clearing unionpay 2015-09-17"))
		h.check()
		// It is claimed, booked to suspense, and then comes after all.
		x := h.only(MissingAtNetwork)
		h.must(func(tx *db.Tx) error {
			_, err := Propose(tx, x.ID, "li", "claim it", "")
			if err == nil {
				_, err = Sign(tx, x.ID, "wang", "as proposed")
			}
			return err
		})
		if h.balance(receivable) != 0 || h.balance(Suspense(host)) != -4_994 {
			t.Errorf("receivable %d, suspense %d", h.balance(receivable), h.balance(Suspense(host)))
		}
		if _, err := h.run(testDay.AddDays(2), nil, file(t, record(lost.RRN, 5_000, 5, 1))); err != nil {
			t.Fatal(err)
		}
		h.take(line("9", 4_994, "clearing unionpay 2015-09-18"))
		h.check()
		if h.balance(receivable) != 0 || h.balance(Suspense(host)) != 0 || h.balance(issuers) != 0 {
			t.Errorf("something is left: %+v", h.all())
		}
		var acts []Act
		h.must(func(tx *db.Tx) (err error) { acts, err = History(tx, x.ID); return err })
		last := acts[len(acts)-1]
		if len(acts) != 6 || last.Who != System || last.Became != Closed || acts[2].Who != "li" {
			t.Errorf("history %+v", acts)
		}
	})
}

// TestStatementDifferences provokes each type that only the bank can cause.
func TestStatementDifferences(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		a := one("000000000001", 10_000)
		h.clear(a)
		if _, err := h.run(testDay, []Item{a}, file(t, record(a.RRN, 10_000, 5, 1))); err != nil {
			t.Fatal(err)
		}
		h.tick(3)
		h.only(StatementMissing)
		h.check()
		h.take(line("1", 9_000, "clearing unionpay 2015-09-16"))
		if x := h.only(StatementShort); x.Held != -994 {
			t.Errorf("%+v", x)
		}
		h.check()
		h.take(line("2", 1_000, "clearing unionpay 2015-09-16"))
		if x := h.only(UnknownCredit); x.Held != 6 {
			t.Errorf("%+v", x)
		}
		h.check()
		h.take(line("3", -6, "clearing unionpay 2015-09-16"), line("4", 77, "who am I"), line("5", 5, "clearing nobody 2015-09-16"))
		if len(h.all()) != 5 || h.balance(Suspense(host)) != 0 || h.balance(Suspense(BankDesk)) != 82 {
			t.Errorf("%+v", h.all())
		}
		h.check()
		h.payouts(t)
	})
}

func (h *house) payouts(t *testing.T) {
	for i, fen := range []int64{100, 200, 300} {
		p := Payout{ID: fmt.Sprint("payout_", i), Payee: "shop_1", Fen: fen, Day: testDay}
		h.must(func(tx *db.Tx) error {
			if err := move(tx, p.ID, "payout", settlement.Payable("shop_1"), bank, fen); err != nil {
				return err
			}
			return errors.Join(Expect(tx, p), Expect(tx, p))
		})
	}
	h.tick(3)
	h.tick(3)
	before := h.balance(bank)
	h.take(line("6", -100, "payout payout_0"), line("7", -250, "payout payout_1"), line("8", 100, "return payout_0"), line("10", -1, "payout payout_9"))
	if x := h.only(PayoutMissing); x.Ref != "payout_missing/payout_2" {
		t.Errorf("%+v", x)
	}
	if x := h.only(PayoutDiffers); x.Held != -50 || x.Payee != "shop_1" {
		t.Errorf("%+v", x)
	}
	h.check()
	owed := h.balance(settlement.Payable("shop_1"))
	x := h.only(PayoutReturned)
	h.must(func(tx *db.Tx) error {
		_, err := Propose(tx, x.ID, "li", "the account was closed", "")
		if err == nil {
			_, err = Sign(tx, x.ID, "wang", "pay again")
		}
		return err
	})
	if got := h.balance(settlement.Payable("shop_1")); got != owed+100 {
		t.Errorf("the shop has %d, want %d", got, owed+100)
	}
	h.check()
	if got := h.balance(bank); got != before-100+50+1 {
		t.Errorf("bank %d, want %d", got, before-49)
	}
}

// TestSettlementsOwnPayout: a payout of settlement that comes back is returned
// by settlement's own act, and the bank's books agree with its statement.
func TestSettlementsOwnPayout(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		h.must(func(tx *db.Tx) error {
			if err := move(tx, "ride:1", "", receivable, settlement.Payable("shop_1"), 7_000); err != nil {
				return err
			}
			return settlement.Capture(tx, settlement.Item{Ref: "ride:1", Payee: "shop_1", Amount: money.Fen(7_000), At: noon, Kind: "ride"})
		})
		h.now.Set(testDay.AddDays(1).Start(calendar.Beijing).Add(settlement.CutOff))
		if _, err := settlement.Run(context.Background(), h.store, testDay); err != nil {
			t.Fatal(err)
		}
		var p settlement.Payout
		h.must(func(tx *db.Tx) error {
			all, err := settlement.Payouts(tx, "shop_1", "", 10)
			if err != nil || len(all) != 1 {
				t.Fatalf("%v %+v", err, all)
			}
			p = all[0]
			return Expect(tx, Payout{ID: p.ID, Payee: p.Payee, Fen: p.Amount.Minor(), Day: p.Day})
		})
		h.take(line("1", -7_000, "payout "+p.ID))
		state := func() settlement.State {
			var out settlement.Payout
			h.must(func(tx *db.Tx) (err error) { out, err = settlement.PayoutOf(tx, p.ID); return err })
			return out.State
		}
		if state() != settlement.Confirmed || h.balance(bank) != 7_000 {
			t.Errorf("%s, bank %d", state(), h.balance(bank))
		}
		h.take(line("2", 6_995, "return "+p.ID)) // the shop's bank kept something
		x := h.only(PayoutReturned)
		h.must(func(tx *db.Tx) error {
			_, err := Propose(tx, x.ID, "li", "the account was closed", "")
			if err == nil {
				_, err = Sign(tx, x.ID, "wang", "pay again")
			}
			return err
		})
		if x = h.only(PayoutReturned); state() != settlement.Returned || h.balance(bank) != 5 || h.balance(settlement.Payable("shop_1")) != 7_000 || x.Held != -5 {
			t.Errorf("%s, bank %d, held %d", state(), h.balance(bank), x.Held)
		}
		h.must(func(tx *db.Tx) error { _, err := Close(tx, x.ID, ToLoss, "li", "the fee is ours"); return err })
		if h.balance(Loss) != -5 || h.balance(Suspense(BankDesk)) != 0 {
			t.Errorf("loss %d", h.balance(Loss))
		}
		h.take(line("3", 7_000, "return "+p.ID)) // it cannot come back twice
		if x := h.only(UnknownCredit); x.Held != 7_000 {
			t.Errorf("%+v", x)
		}
	})
}

// TestAllFee: a sale that is all fee leaves nothing on suspense when it is
// booked as missing, and its booking is undone like any other.
func TestAllFee(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	a := one("000000000001", 6)
	h.clear(a)
	if _, err := h.run(testDay, []Item{a}, nil); err != nil {
		t.Fatal(err)
	}
	x := h.only(MissingAtNetwork)
	h.must(func(tx *db.Tx) error {
		_, err := Propose(tx, x.ID, "li", "claim it", "")
		if err == nil {
			x, err = Sign(tx, x.ID, "wang", "as proposed")
		}
		return err
	})
	if h.check(); x.State != Booked || x.Held != 0 || h.balance(receivable) != 0 || h.balance(issuers) != 0 {
		t.Errorf("%+v, receivable %d", x, h.balance(receivable))
	}
	if _, err := h.run(testDay.AddDays(1), nil, file(t, record(a.RRN, 6, 5, 1))); err != nil {
		t.Fatal(err)
	}
	h.check()
	if len(h.all()) != 1 || h.all()[0].State != Closed || h.balance(receivable) != 0 || h.balance(network) != 0 {
		t.Errorf("%+v, receivable %d", h.all(), h.balance(receivable))
	}
}

// TestChargebacks: what a host takes back is compared with the disputes, and the
// bank's line is the file's net less it.
func TestChargebacks(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	a, back := one("000000000001", 10_000), Item{RRN: "000000000009", Kind: Chargeback, State: Cleared, Fen: -3_000, At: noon}
	h.clear(a, back)
	r, err := Run(context.Background(), h.store, Day{Host: host, Day: testDay, Ours: List([]Item{a, back}), File: bytes.NewReader(file(t, record(a.RRN, 10_000, 5, 1))), More: List([]Item{back})})
	if err != nil || r.Differs != 0 || r.Matched.Count != 2 || r.Net() != 6_994 {
		t.Fatalf("%v %+v", err, r)
	}
	h.take(line("1", 6_994, "clearing unionpay 2015-09-16"))
	h.check()
	if h.balance(receivable) != 0 || len(h.all()) != 0 {
		t.Errorf("receivable %d, %+v", h.balance(receivable), h.all())
	}
}

// TestChargebackLines: the same of disputes whose lines stand in the clearing
// file, on the day of the sale and both ways.
func TestChargebackLines(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	a := one("000000000001", 10_000)
	back := Item{RRN: a.RRN, Kind: Chargeback, State: Cleared, Fen: -3_000, At: noon}
	again := Item{RRN: a.RRN, Kind: Presented, State: Cleared, Fen: 3_000, At: noon}
	h.clear(a)
	one, two := record(a.RRN, 3_000, 0, 0), record(a.RRN, 3_000, 0, 0)
	one.MTI, two.MTI, two.Processing = "0422", "0422", "200000"
	r, err := Run(context.Background(), h.store, Day{Host: host, Day: testDay, Ours: List([]Item{a, back, again}), File: bytes.NewReader(file(t, record(a.RRN, 10_000, 5, 1), one, two))})
	if err != nil || r.Differs != 0 || r.Matched.Count != 3 || r.Net() != 9_994 {
		t.Fatalf("%v %+v", err, r)
	}
}

// TestAbsurdSums: a file that sums to more than books can take is refused.
func TestAbsurdSums(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	var records []clearing.Record
	for i := range 12 {
		records = append(records, record(fmt.Sprintf("%012d", i), 999_999_999_999, 0, 0))
	}
	if _, err := h.run(testDay, nil, file(t, records...)); !errors.Is(err, ErrMany) {
		t.Errorf("%v", err)
	}
}

func TestFourEyes(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		if _, err := h.run(testDay, nil, file(t, record("000000000001", 57, 5, 1), record("000000000002", 56, 5, 1))); err != nil {
			t.Fatal(err)
		}
		h.take(line("1", 101, "clearing unionpay 2015-09-16"))
		for _, x := range h.all() {
			sign := func(who string) error {
				return h.write(func(tx *db.Tx) error { _, err := Sign(tx, x.ID, who, "yes"); return err })
			}
			if err := sign("wang"); !errors.Is(err, ErrState) {
				t.Errorf("nothing proposed: %v", err)
			}
			h.must(func(tx *db.Tx) error { _, err := Propose(tx, x.ID, "li", "hold it", "shop_1"); return err })
			h.must(func(tx *db.Tx) error { _, err := Reject(tx, x.ID, "wang", "why?"); return err })
			h.must(func(tx *db.Tx) error { _, err := Propose(tx, x.ID, "li", "because", ""); return err })
			want := error(nil)
			if x.Weight() > 50 {
				want = ErrFourEyes
			}
			if err := sign("li"); !errors.Is(err, want) {
				t.Errorf("%d fen: %v, want %v", x.Weight(), err, want)
			}
			if want != nil {
				if err := sign("wang"); err != nil {
					t.Error(err)
				}
			}
			h.check()
			for outcome, want := range map[Outcome]error{Nothing: ErrOutcome, "elsewhere": ErrOutcome} {
				if err := h.write(func(tx *db.Tx) error { _, err := Close(tx, x.ID, outcome, "zhao", "done"); return err }); !errors.Is(err, want) {
					t.Errorf("%s: %v", outcome, err)
				}
			}
			h.must(func(tx *db.Tx) error {
				_, err := Close(tx, x.ID, ToShop, "zhao", "the terminal's record was found")
				return err
			})
			h.check()
			if err := h.write(func(tx *db.Tx) error { _, err := Close(tx, x.ID, Nothing, "", "no name"); return err }); !errors.Is(err, ErrWhy) {
				t.Errorf("nobody: %v", err)
			}
		}
		if got := h.balance(settlement.Payable("shop_1")); got != 101 {
			t.Errorf("the shop has %d, want 101", got)
		}
	})
}

func TestOffset(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	a := one("000000000001", 1_000)
	h.clear(a)
	if _, err := h.run(testDay, []Item{a}, file(t, record(a.RRN, 1_000, 5, 1))); err != nil {
		t.Fatal(err)
	}
	h.take(line("1", 900, "clearing unionpay 2015-09-16"), line("2", 94, "the rest, sorry"))
	claim, credit := h.only(StatementShort), h.only(UnknownCredit)
	for name, tt := range map[string]struct {
		a, b string
		want error
	}{"with itself": {claim.ID, claim.ID, ErrOutcome}, "with what is not there": {claim.ID, "x", ErrNone}, "right": {claim.ID, credit.ID, nil}} {
		if name == "right" {
			continue
		}
		if err := h.write(func(tx *db.Tx) error { return Offset(tx, tt.a, tt.b, "li", "found") }); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.must(func(tx *db.Tx) error { return Offset(tx, claim.ID, credit.ID, "li", "it is that payment") })
	h.check()
	if h.balance(Suspense(host)) != 0 || h.balance(Suspense(BankDesk)) != 0 {
		t.Error("something is left on suspense")
	}
	h.take(line("3", 10, "clearing unionpay 2015-09-16")) // a line of that day again is weighed for itself
	if x := h.only(UnknownCredit); x.Held != 10 {
		t.Errorf("%+v", x)
	}
	h.check()
}

// TestDaysExplainThemselves runs random days with everything that can go wrong
// and acts of the desk; the equality holds after every step.
func TestDaysExplainThemselves(t *testing.T) {
	fewer(t)
	rapid.Check(t, func(rt *rapid.T) {
		h := open(rt, db.Config{URL: dbtest.File(t), Rebuildable: true})
		serial, lines, held := 0, 0, []clearing.Record(nil)
		for d := range rapid.IntRange(1, 3).Draw(rt, "days") {
			day := testDay.AddDays(d)
			var ours []Item
			records := held
			held = nil
			for range rapid.IntRange(0, 6).Draw(rt, "sales") {
				serial++
				x := one(fmt.Sprintf("%012d", serial), rapid.SampledFrom([]int64{6, 10, 100, 200}).Draw(rt, "fen")) // 6 is all fee
				x.At, x.STAN, x.Payee = noon.AddDate(0, 0, d).Add(time.Duration(rapid.IntRange(0, 11).Draw(rt, "hour"))*time.Hour), fmt.Sprintf("%06d", serial), "shop_1"
				x.State = rapid.SampledFrom([]State{Cleared, Cleared, Reversed}).Draw(rt, "state")
				r := record(x.RRN, x.Fen+rapid.SampledFrom([]int64{0, 0, 7}).Draw(rt, "off"), 5, 1+rapid.SampledFrom([]int64{0, 0, 2}).Draw(rt, "fee"))
				r.Trace, r.Sent = x.STAN, x.At.In(calendar.Beijing).Format("0102150405")
				switch rapid.IntRange(0, 6).Draw(rt, "fate") {
				case 0: // never in a file
				case 1:
					held = append(held, r) // tomorrow's
				case 2:
					records = append(records, r, r)
				case 3: // not known here
					records, x.State = append(records, r), Declined
				default:
					records = append(records, r)
				}
				ours = append(ours, x)
			}
			h.clear(ours...)
			r, err := h.run(day, ours, file(t, records...))
			if err != nil {
				rt.Fatal(err)
			}
			h.check()
			for range rapid.IntRange(0, 2).Draw(rt, "lines") {
				lines++
				fen := r.Net() + rapid.Int64Range(-2, 2).Draw(rt, "short")
				if fen != 0 {
					h.take(line(fmt.Sprint(lines), fen, "clearing unionpay "+day.String()))
				}
				h.check()
			}
			h.desk(rt)
		}
	})
}

// fewer keeps a property that opens stores short.
func fewer(t *testing.T) {
	checks := flag.Lookup("rapid.checks").Value
	was := checks.String()
	if err := checks.Set("15"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { checks.Set(was) })
}

// desk does something with each exception; what is not allowed is refused.
func (h *house) desk(rt *rapid.T) {
	for _, x := range h.all() {
		to := rapid.IntRange(0, 4).Draw(rt, "act")
		err := h.write(func(tx *db.Tx) (err error) {
			switch to {
			case 0:
				_, err = Propose(tx, x.ID, "li", "why not", "")
			case 1:
				_, err = Sign(tx, x.ID, "wang", "why not")
			case 2:
				_, err = Reject(tx, x.ID, "wang", "no")
			case 3:
				_, err = Close(tx, x.ID, rapid.SampledFrom([]Outcome{Nothing, ToLoss, ToShop}).Draw(rt, "outcome"), "zhao", "enough")
			}
			return err
		})
		if to == 4 {
			h.tick(9)
		}
		if err != nil && !errors.Is(err, ErrState) && !errors.Is(err, ErrOutcome) {
			rt.Fatalf("%s in %s: %v", x.Type, x.State, err)
		}
		h.check()
	}
}

// TestMachine compares the table with every step that the acts can take.
func TestMachine(t *testing.T) {
	states := []ExceptionState{Open, Proposed, Rejected, Signed, Booked, Closed}
	for _, from := range states {
		for _, to := range states {
			if from.May(to) != slices.Contains(nextStates[from], to) || from == Closed && from.May(to) {
				t.Errorf("%s to %s", from, to)
			}
		}
		if from.Words(true) == from.Words(false) || from.Words(false) == "" {
			t.Errorf("%s has no words", from)
		}
	}
	if len(meaningOf) != 22 || Type("x").Words(true) != "x" || ExceptionState("x").Words(false) != "x" {
		t.Errorf("%d types", len(meaningOf))
	}
	for _, o := range Outcomes {
		if o.Words(true) == o.Words(false) {
			t.Errorf("%s has no words", o)
		}
	}
	for _, m := range Meanings {
		for _, a := range []Actor{m.Next, m.Afterward} {
			if a.Words(true) == a.Words(false) {
				t.Errorf("%s has no words", a)
			}
		}
		if m.Type.Words(true) == "" || m.Type.Words(false) == "" || m.Type.Proposal(true) == "" || m.Type.Proposal(false) == "" || m.Next == "" {
			t.Errorf("%s has no words", m.Type)
		}
	}
}

// faults breaks the nth commit, before or after it.
type faults struct{ n, before, after int }

var errInjected = errors.New("injected")

func (f *faults) BeforeCommit(int64) error {
	if f.n++; f.n == f.before {
		return errInjected
	}
	return nil
}

func (f *faults) AfterCommit(int64) error {
	if f.n == f.after {
		return errInjected
	}
	return nil
}

// TestFaults loses each commit of a run and a statement, or its answer: done
// again, everything is there once.
func TestFaults(t *testing.T) {
	a := one("000000000001", 10_000)
	for _, after := range []bool{false, true} {
		for nth := 1; nth <= 2; nth++ {
			f := &faults{}
			h := open(t, db.Config{URL: dbtest.File(t), Faults: f})
			h.clear(a)
			if f.n = 0; after {
				f.after = nth
			} else {
				f.before = nth
			}
			s := parsed(t, statement(line("1", 9_994, "clearing unionpay 2015-09-16")))
			broken := 0
			for range 2 {
				if _, err := h.run(testDay, []Item{a}, file(t, record(a.RRN, 10_000, 5, 1))); err != nil {
					broken++
				}
				if _, err := Import(context.Background(), h.store, s, "s"); err != nil {
					broken++
				}
			}
			h.check()
			if broken != 1 || h.balance(receivable) != 0 || h.balance(bank) != -9_994 || len(h.all()) != 0 {
				t.Errorf("commit %d, after %v: %d broken, receivable %d, bank %d", nth, after, broken, h.balance(receivable), h.balance(bank))
			}
		}
	}
}

// tick lets the desk find what is overdue so many days behind the test's.
func (h *house) tick(days int) {
	h.t.Helper()
	if err := Tick(context.Background(), h.store, testDay.AddDays(days).Start(calendar.Beijing)); err != nil {
		h.t.Fatal(err)
	}
}

// TestSpan: a day of a host is from its cut-off to its cut-off, or the calendar's.
func TestSpan(t *testing.T) {
	day := calendar.Date{Year: 2016, Month: 3, Day: 1}
	for cut, want := range map[time.Duration]string{0: "2016-03-01T00:00 2016-03-02T00:00", 23 * time.Hour: "2016-02-29T23:00 2016-03-01T23:00"} {
		from, to := Host{CutOff: cut}.Span(day)
		if got := from.Format("2006-01-02T15:04 ") + to.Format("2006-01-02T15:04"); got != want {
			t.Errorf("cut-off %v: %s, want %s", cut, got, want)
		}
	}
}

// TestReason: everything that the system writes is said in Chinese, and what
// people write is left as it is.
func TestReason(t *testing.T) {
	seen := map[string]bool{}
	for _, w := range systemWords {
		en, zh := w.en, w.zh
		if strings.Contains(en, "%s") {
			en, zh = fmt.Sprintf(en, "2016-03-01"), fmt.Sprintf(zh, "2016-03-01")
		}
		a := Act{Who: System, Why: en}
		if a.Reason(false) != en || a.Reason(true) != zh || en == zh || seen[zh] {
			t.Errorf("%q reads %q and %q, want %q", en, a.Reason(false), a.Reason(true), zh)
		}
		if a.Who = "li"; a.Reason(true) != en {
			t.Errorf("%q of a person reads %q", en, a.Reason(true))
		}
		seen[zh] = true
	}
	if a := (Act{Who: System, Why: "something else"}); a.Reason(true) != a.Why {
		t.Errorf("%q", a.Reason(true))
	}
}
