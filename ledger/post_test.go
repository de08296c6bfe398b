package ledger_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"koala/internal/db"
	"koala/ledger"
	"koala/money"
)

// green checks everything that was booked.
func (h *house) green() {
	h.t.Helper()
	if err := h.book.Project(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	report, err := h.book.Verify(h.t.Context())
	if err != nil || !report.OK() {
		h.t.Fatalf("verify: %v, %+v", err, report.Problems)
	}
	seq, _ := h.book.Tip()
	if report.Records != seq || report.Viewed != seq {
		h.t.Fatalf("verify saw %d records and %d in the views, want %d", report.Records, report.Viewed, seq)
	}
	audit, err := ledger.Audit(h.t.Context(), h.store, 0)
	if err != nil || !audit.OK() || audit.Hash != report.Hash {
		h.t.Fatalf("audit: %v, %+v", err, audit)
	}
	if trial := h.book.TrialBalance(); !trial.Balanced {
		h.t.Fatalf("the trial balance does not balance: %+v", trial)
	}
}

func TestGroups(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.openAccounts(bank, wallet("ann"), wallet("bob"))
		group := []ledger.Entry{
			ledger.Move("g1", "bank", "ann", money.Fen(10)),
			ledger.Move("g2", "ann", "bob", money.Fen(11)), // too much
			ledger.Move("g3", "bank", "bob", money.Fen(5)),
		}
		err := h.write(func(tx *db.Tx) error {
			if _, err := ledger.PostAll(tx, group); !errors.Is(err, ledger.ErrInsufficient) {
				return errors.New("the group was taken")
			}
			b, err := ledger.BalanceOf(tx, "ann")
			if err != nil || !b.Posted.IsZero() {
				return errors.New("the first item stands")
			}
			results, err := ledger.PostEach(tx, group)
			if err != nil || results[0].Err != nil || !errors.Is(results[1].Err, ledger.ErrInsufficient) || results[2].Err != nil {
				return errors.New("each by itself: wrong results")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		group[1].Legs[0].Amount, group[1].Legs[1].Amount = money.Fen(-9), money.Fen(9)
		h.must(func(tx *db.Tx) error { _, err := ledger.PostAll(tx, group); return err })
		if ann, bob := h.fen("ann")[0], h.fen("bob")[0]; ann != 1 || bob != 14 {
			t.Errorf("ann has %d, bob %d; want 1, 14", ann, bob)
		}
		h.green()
	})
}

func TestUnitIsUndone(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.openAccounts(bank, wallet("ann"), shop)
		no := errors.New("the caller changed its mind")
		everything := func(tx *db.Tx) error {
			if err := ledger.OpenAccount(tx, wallet("bob")); err != nil {
				return err
			}
			if _, err := ledger.Post(tx, ledger.Move("u1", "bank", "ann", money.Fen(100))); err != nil {
				return err
			}
			if err := ledger.SetLimits(tx, "u2", "ann", ledger.Limits{Floor: ledger.AtLeast(-50)}); err != nil {
				return err
			}
			if _, err := ledger.Authorise(tx, ledger.Hold{Ref: "u3", From: "ann", To: "shop", Amount: money.Fen(120)}); err != nil {
				return err
			}
			if _, err := ledger.Capture(tx, "u3", "u4", money.Fen(20), false); err != nil {
				return err
			}
			if _, err := ledger.Void(tx, "u3", "u5"); err != nil {
				return err
			}
			if _, err := ledger.Reverse(tx, "u6", "u1", money.Fen(30)); err != nil {
				return err
			}
			return ledger.ClosePeriod(tx, "u7", start.Add(-time.Hour))
		}
		before, hash := h.book.Tip()
		if err := h.write(func(tx *db.Tx) error { return errors.Join(everything(tx), no) }); !errors.Is(err, no) || errors.Is(err, ledger.ErrShape) {
			t.Fatalf("unit: %v", err)
		}
		if seq, sum := h.book.Tip(); seq != before || sum != hash {
			t.Errorf("the journal moved from %d to %d", before, seq)
		}
		if _, err := h.book.Balance("bob"); !errors.Is(err, ledger.ErrNoAccount) {
			t.Errorf("bob's account: %v", err)
		}
		h.must(everything)
		if got := h.fen("ann"); got != [3]int64{50, 0, 50} {
			t.Errorf("ann has %v", got)
		}
		h.green()
		h.again()
		h.must(everything) // again: nothing changes
		if got := h.fen("ann"); got != [3]int64{50, 0, 50} {
			t.Errorf("ann has %v after the repetition", got)
		}
		h.green()
	})
}

func TestLimits(t *testing.T) {
	h := newHouse(t, db.Config{URL: t.TempDir() + "/koala.db"}, ledger.Config{Inline: true})
	ann := wallet("ann")
	ann.CreditLimit, ann.Ceiling = 20, ledger.AtLeast(100)
	h.openAccounts(bank, ann)
	for _, tt := range []struct {
		name string
		fen  int64
		want error
		ann  int64
	}{
		{"on credit", -20, nil, -20},
		{"beyond the credit", -1, ledger.ErrInsufficient, -20},
		{"up to the ceiling", 120, nil, 100},
		{"above the ceiling", 1, ledger.ErrCeiling, 100},
		{"far above", money.MaxMinor, ledger.ErrOverflow, 100},
	} {
		if _, err := h.post(ledger.Move(tt.name, "bank", "ann", money.Fen(tt.fen))); !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.want)
		}
		if got := h.fen("ann")[0]; got != tt.ann {
			t.Errorf("%s: ann has %d, want %d", tt.name, got, tt.ann)
		}
	}
	// Limits that a balance is already beyond bind only what makes it worse.
	h.must(func(tx *db.Tx) error {
		return ledger.SetLimits(tx, "freeze", "ann", ledger.Limits{Floor: ledger.AtLeast(150), Ceiling: ledger.AtLeast(50)})
	})
	if _, err := h.post(ledger.Move("down", "ann", "bank", money.Fen(1))); !errors.Is(err, ledger.ErrInsufficient) {
		t.Errorf("taking below the floor: %v", err)
	}
	if a, err := h.book.AccountOf("ann"); err != nil || *a.Floor != 150 {
		t.Errorf("limits of ann: %+v, %v", a.Limits, err)
	}
	h.green()
}

func TestOpenAccount(t *testing.T) {
	h := newHouse(t, db.Config{URL: t.TempDir() + "/koala.db"}, ledger.Config{Inline: true})
	for _, tt := range []struct {
		name   string
		change func(*ledger.Account)
		want   error
	}{
		{"first", func(*ledger.Account) {}, nil},
		{"again", func(*ledger.Account) {}, nil},
		{"again, other name", func(a *ledger.Account) { a.Name = "x" }, ledger.ErrDiffers},
		{"again, other floor", func(a *ledger.Account) { a.Floor = nil }, ledger.ErrDiffers},
		{"no id", func(a *ledger.Account) { a.ID = "" }, ledger.ErrShape},
		{"long id", func(a *ledger.Account) { a.ID = ledger.AccountID(strings.Repeat("x", 201)) }, ledger.ErrShape},
		{"no code", func(a *ledger.Account) { a.ID, a.Code = "b", "" }, ledger.ErrShape},
		{"code of no class", func(a *ledger.Account) { a.ID, a.Code = "b", "7010" }, ledger.ErrShape},
		{"no currency", func(a *ledger.Account) { a.ID, a.Currency = "b", "" }, ledger.ErrShape},
		{"huge floor", func(a *ledger.Account) { a.ID, a.Floor = "b", ledger.AtLeast(-1<<63) }, ledger.ErrShape},
		{"velocity without a window", func(a *ledger.Account) { a.ID, a.Velocity.Limit = "b", 5 }, ledger.ErrShape},
		{"negative credit", func(a *ledger.Account) { a.ID, a.CreditLimit = "b", -1 }, ledger.ErrShape},
		{"over-capture beyond all", func(a *ledger.Account) { a.ID, a.OverCapture = "b", 10_001 }, ledger.ErrShape},
	} {
		a := wallet("ann")
		tt.change(&a)
		if err := h.write(func(tx *db.Tx) error { return ledger.OpenAccount(tx, a) }); !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.want)
		}
	}
}

// TestIDsAreNoReferences opens an account and uses its id as a reference, also
// after a restart and when references are looked up in the views.
func TestIDsAreNoReferences(t *testing.T) {
	h := newHouse(t, db.Config{URL: t.TempDir() + "/koala.db"}, ledger.Config{Inline: true, Window: 2})
	h.fill(5)
	h.again()
	if err := h.book.Project(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"ann", "bank"} {
		if p, err := h.post(ledger.Move(ref, "bank", "ann", money.Fen(1))); err != nil || p.Replayed {
			t.Errorf("reference %s: %+v, %v", ref, p, err)
		}
	}
	h.green()
}

func TestPeriods(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.openAccounts(bank, wallet("ann"))
		february := start.AddDate(0, 0, -2)
		dated := func(ref string, value time.Time) ledger.Entry {
			e := ledger.Move(ref, "bank", "ann", money.Fen(10))
			e.Value = value
			return e
		}
		if _, err := h.post(dated("late", february)); err != nil {
			t.Fatal(err)
		}
		closing := func(ref string, through time.Time) error {
			return h.write(func(tx *db.Tx) error { return ledger.ClosePeriod(tx, ref, through) })
		}
		if err := closing("feb", start.AddDate(0, 0, -1)); err != nil {
			t.Fatal(err)
		}
		if err := closing("future", start.AddDate(0, 0, 1)); !errors.Is(err, ledger.ErrShape) {
			t.Errorf("closing a day that has not ended: %v", err)
		}
		h.again()
		if _, err := h.post(dated("late", february)); err != nil {
			t.Errorf("repeating what was booked before the closing: %v", err)
		}
		if _, err := h.post(dated("later", february)); !errors.Is(err, ledger.ErrPeriod) {
			t.Errorf("into the closed period: %v", err)
		}
		adjustment := ledger.Move("adj", "bank", "ann", money.Fen(10))
		adjustment.Adjusts = february
		if _, err := h.post(adjustment); err != nil {
			t.Fatal(err)
		}
		if rec, err := h.book.Entry(t.Context(), "adj"); err != nil || !rec.Adjusts.Equal(february) || !rec.Value.Equal(start) {
			t.Errorf("the adjustment reads %+v, %v", rec, err)
		}
		for _, tt := range []struct {
			at              time.Time
			booked, byValue int64
		}{
			{february.Add(-time.Hour), 0, 0},
			{february, 0, 10},
			{start.Add(-time.Microsecond), 0, 10},
			{start, 20, 20},
		} {
			booked, err := h.book.BookedAt(t.Context(), "ann", tt.at)
			byValue, err2 := h.book.BalanceAt(t.Context(), "ann", tt.at)
			if err != nil || err2 != nil || booked.Minor() != tt.booked || byValue.Minor() != tt.byValue {
				t.Errorf("at %v: booked %v, by value %v (%v, %v); want %d, %d", tt.at, booked, byValue, err, err2, tt.booked, tt.byValue)
			}
		}
		h.green()
	})
}

func TestReverse(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		fees := ledger.Account{ID: "fees", Code: "4010", Currency: money.CNY}
		h.openAccounts(bank, wallet("ann"), shop, fees)
		sale := ledger.Entry{Ref: "sale", Kind: "sale", Legs: []ledger.Leg{{Account: "ann", Amount: money.Fen(-1_00)},
			{Account: "shop", Amount: money.Fen(97)}, {Account: "fees", Amount: money.Fen(3)}}}
		for _, e := range []ledger.Entry{ledger.Move("fill", "bank", "ann", money.Fen(1_00)), sale} {
			if _, err := h.post(e); err != nil {
				t.Fatal(err)
			}
		}
		for _, tt := range []struct {
			ref, original string
			fen           int64 // 0: all that is left
			want          error
			ann, fees     int64 // afterwards
		}{
			{"r1", "sale", 33, nil, 33, 2},
			{"r1", "sale", 33, nil, 33, 2},
			{"r1", "sale", 34, ledger.ErrDiffers, 33, 2},
			{"r2", "sale", 68, ledger.ErrOverReverse, 33, 2},
			{"r2", "sale", -1, ledger.ErrShape, 33, 2},
			{"r2", "r1", 1, ledger.ErrNotReverse, 33, 2},
			{"r2", "none", 1, ledger.ErrNoEntry, 33, 2},
			{"r2", "sale", 1, nil, 34, 2},
			{"r3", "sale", 0, nil, 100, 0},
			{"r4", "sale", 0, ledger.ErrOverReverse, 100, 0},
			{"r4", "sale", 1, ledger.ErrOverReverse, 100, 0},
		} {
			err := h.write(func(tx *db.Tx) error {
				amount := money.Amount{}
				if tt.fen != 0 {
					amount = money.Fen(tt.fen)
				}
				_, err := ledger.ReverseAs(tx, ledger.Reversal{Ref: tt.ref, Original: tt.original, Amount: amount, Kind: "refund"})
				return err
			})
			if !errors.Is(err, tt.want) {
				t.Errorf("%s of %s by %d: error %v, want %v", tt.ref, tt.original, tt.fen, err, tt.want)
			}
			if ann, fees := h.fen("ann")[0], h.fen("fees")[0]; ann != tt.ann || fees != tt.fees {
				t.Errorf("%s of %s by %d: ann has %d, fees %d; want %d, %d", tt.ref, tt.original, tt.fen, ann, fees, tt.ann, tt.fees)
			}
			h.again()
		}
		if rec, err := h.book.Entry(t.Context(), "r3"); err != nil || rec.Original != "sale" || rec.Kind != "refund" || len(rec.Legs) != 3 {
			t.Errorf("the last refund reads %+v, %v", rec, err)
		}
		h.green()
	})
}

func TestExchange(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		usd := func(id ledger.AccountID, code string) ledger.Account {
			return ledger.Account{ID: id, Code: code, Currency: "USD"}
		}
		h.openAccounts(bank, wallet("ann"), usd("ann.usd", "2010"), ledger.Account{ID: "fx.cny", Code: "1090", Currency: money.CNY},
			usd("fx.usd", "1090"), usd("fx.rest", "4090"))
		if _, err := h.post(ledger.Move("fill", "bank", "ann", money.Fen(1000_00))); err != nil {
			t.Fatal(err)
		}
		x := ledger.Exchange{Ref: "x1", From: "ann", To: "ann.usd", Give: money.Fen(100_03), Num: 1_3938, Den: 10_0000,
			HouseGiven: "fx.cny", HouseTaken: "fx.usd", Residual: "fx.rest"} // 1394.218… cents; half up 1394
		exchange := func() error {
			return h.write(func(tx *db.Tx) error { _, err := ledger.PostExchange(tx, x); return err })
		}
		for range 2 {
			if err := exchange(); err != nil {
				t.Fatal(err)
			}
		}
		if got := [3]int64{h.fen("ann.usd")[0], h.fen("fx.usd")[0], h.fen("fx.rest")[0]}; got != [3]int64{1394, -1394, 0} {
			t.Errorf("ann.usd, fx.usd, rest: %v", got)
		}
		x.Num++
		if err := exchange(); !errors.Is(err, ledger.ErrDiffers) {
			t.Errorf("another rate under the reference: %v", err)
		}
		x.Ref, x.Num, x.Den, x.Give = "x2", 1, 2, money.Fen(3) // 1.5 cents: she gets 1, the house pays 2
		if err := exchange(); err != nil {
			t.Fatal(err)
		}
		if got := [3]int64{h.fen("ann.usd")[0], h.fen("fx.usd")[0], h.fen("fx.rest")[0]}; got != [3]int64{1395, -1396, 1} {
			t.Errorf("ann.usd, fx.usd, rest: %v", got)
		}
		if rec, err := h.book.Entry(t.Context(), "x2"); err != nil || rec.Num != 1 || rec.Den != 2 || len(rec.Legs) != 5 {
			t.Errorf("the exchange reads %+v, %v", rec, err)
		}
		h.must(func(tx *db.Tx) error { _, err := ledger.Reverse(tx, "xr", "x1", money.Amount{}); return err })
		if got := [2]int64{h.fen("ann.usd")[0], h.fen("fx.cny")[0]}; got != [2]int64{1, 3} {
			t.Errorf("after the reversal ann.usd, fx.cny: %v", got)
		}
		x.Ref, x.Num, x.Den, x.Give = "x3", 1<<62, 1, money.Fen(100)
		if err := exchange(); !errors.Is(err, ledger.ErrOverflow) {
			t.Errorf("an absurd rate: %v", err)
		}
		h.green()
	})
}
