package reconcile

import (
	"errors"
	"testing"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/db/dbtest"
)

// TestFoundInALaterDayOfOurs: what the host had first and the switch has a day
// later closes by itself, also when it was booked meanwhile.
func TestFoundInALaterDayOfOurs(t *testing.T) {
	for _, booked := range []bool{false, true} {
		h := open(t, db.Config{URL: dbtest.File(t)})
		a := one("000000000001", 10_000)
		if _, err := h.run(testDay, nil, file(t, record(a.RRN, 10_000, 5, 1))); err != nil {
			t.Fatal(err)
		}
		h.take(line("1", 9_994, "clearing unionpay 2015-09-16"))
		x := h.only(MissingHere)
		if booked {
			h.must(func(tx *db.Tx) error {
				_, err := Propose(tx, x.ID, "li", "whose is it", "")
				if err == nil {
					_, err = Sign(tx, x.ID, "wang", "as proposed")
				}
				return err
			})
		}
		h.check()
		h.clear(a)
		if _, err := h.run(testDay.AddDays(1), []Item{a}, nil); err != nil {
			t.Fatal(err)
		}
		h.check()
		for _, x := range h.all() {
			if x.State != Closed {
				t.Errorf("booked %v: left open: %+v", booked, x)
			}
		}
		if r, s := h.balance(receivable), h.balance(Suspense(host)); r != 0 || s != 0 {
			t.Errorf("booked %v: receivable %d, suspense %d", booked, r, s)
		}
	}
}

// TestAnotherRunCameFirst: of two comparisons of a day at once the second finds
// the report of the first, or is refused.
func TestAnotherRunCameFirst(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	a := one("000000000001", 10_000)
	h.clear(a)
	first, err := h.run(testDay, []Item{a}, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.must(func(tx *db.Tx) error {
		d := Day{Host: host, Day: testDay, Name: "x"}
		same, err := keep(tx, Host{Name: host}, d, first.Hash, Result{}, nil)
		if err != nil || same.Ours.Count != 1 {
			t.Errorf("%v %+v", err, same)
		}
		if _, err := keep(tx, Host{Name: host}, d, "another", Result{}, nil); !errors.Is(err, ErrOther) {
			t.Errorf("another file: %v", err)
		}
		return nil
	})
	if n := len(h.all()); n != 1 {
		t.Errorf("%d exceptions", n)
	}
}

// TestPool: an item is taken once, and only by one alike.
func TestPool(t *testing.T) {
	sale, back := one("1", 100), with(one("1", -100), func(x *Item) { x.Kind = Chargeback })
	p := newPool([]Item{sale})
	if x, _ := p.take(&back); x != nil {
		t.Error("a chargeback took a sale")
	}
	if x, _ := p.take(&sale); x == nil || p.has(x) {
		t.Error("not taken")
	}
	if x, _ := p.take(&sale); x != nil {
		t.Error("taken twice")
	}
	// The first of the file's lines may be the other half, too.
	if j := counterpart(&sale, []Item{sale, back}); j != 0 {
		t.Errorf("counterpart %d", j)
	}
	r := compare(t, []Item{sale, back}, []Item{sale}, noon, Carried{})
	if len(r.Differences) != 1 || r.Differences[0].Ours.Kind != Chargeback || r.Matched.Count != 1 {
		t.Errorf("%+v", r)
	}
}

// TestClosingTable: what may be closed by hand, by state, by what the books are
// off by and by what is held.
func TestClosingTable(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	off := func(f func(*Exception)) Exception {
		x := Exception{Type: AmountDiffers, Host: host, Day: testDay}
		f(&x)
		return x
	}
	for i, tt := range []struct {
		name    string
		x       Exception
		state   ExceptionState
		outcome Outcome
		want    error
	}{
		{"nothing, open", off(func(*Exception) {}), Open, Nothing, nil},
		{"nothing, rejected", off(func(*Exception) {}), Rejected, Nothing, nil},
		{"nothing, proposed", off(func(*Exception) {}), Proposed, Nothing, ErrState},
		{"gross, open", off(func(x *Exception) { x.Gross = 1 }), Open, Nothing, ErrState},
		{"a fee, open", off(func(x *Exception) { x.Fee = 1 }), Open, Nothing, ErrState},
		{"the network's fee, rejected", off(func(x *Exception) { x.Network = 1 }), Rejected, Nothing, ErrState},
		{"gross, signed and not booked", off(func(x *Exception) { x.Gross = 1 }), Signed, Nothing, ErrState},
		{"held, open", off(func(x *Exception) { x.Type, x.Held = UnknownCredit, 5 }), Open, ToLoss, ErrState},
		{"held, rejected", off(func(x *Exception) { x.Type, x.Held = UnknownCredit, 5 }), Rejected, ToLoss, ErrState},
		{"held and signed", off(func(x *Exception) { x.Type, x.Held = UnknownCredit, 5 }), Signed, ToLoss, nil},
		{"booked, to nobody", off(func(x *Exception) { x.Gross, x.Held = 5, 5 }), Booked, Nothing, ErrOutcome},
		{"booked", off(func(x *Exception) { x.Gross, x.Held = 5, 5 }), Booked, ToLoss, nil},
		{"booked, of no shop", off(func(x *Exception) { x.Gross, x.Held = 5, 5 }), Booked, ToShop, ErrOutcome},
		{"nothing held, to the loss", off(func(*Exception) {}), Open, ToLoss, ErrOutcome},
	} {
		var id string
		h.must(func(tx *db.Tx) error {
			tt.x.ID, tt.x.Ref = tx.NewID("rexc"), string(rune('a'+i))
			id = tt.x.ID
			_, err := insertException(tx, tt.x)
			if err == nil {
				tt.x.State = tt.state
				err = updateException(tx, Open, tt.x)
			}
			return err
		})
		err := h.write(func(tx *db.Tx) error { _, err := Close(tx, id, tt.outcome, "wang", "as it is"); return err })
		if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// TestWhoMaySetOff: above the limit neither of the two proposers may, at the
// limit either may.
func TestWhoMaySetOff(t *testing.T) {
	for _, tt := range []struct {
		who  string
		held int64
		want error
	}{{"li", 51, ErrFourEyes}, {"zhao", 51, ErrFourEyes}, {"wang", 51, nil}, {"li", 50, nil}, {"zhao", 50, nil}} {
		h := open(t, db.Config{URL: dbtest.File(t)})
		var ids [2]string
		h.must(func(tx *db.Tx) (err error) {
			for i, who := range []string{"li", "zhao"} {
				x := Exception{ID: tx.NewID("rexc"), Ref: who, Host: host, Day: testDay, Type: UnknownCredit}
				if _, err = insertException(tx, x); err == nil {
					x.State, x.Proposer, x.Held = Booked, who, tt.held*int64(1-2*i)
					err = updateException(tx, Open, x)
				}
				if ids[i] = x.ID; err != nil {
					return err
				}
			}
			return nil
		})
		err := h.write(func(tx *db.Tx) error { return Offset(tx, ids[0], ids[1], tt.who, "one payment") })
		if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("%s of %d: %v, want %v", tt.who, tt.held, err, tt.want)
		}
	}
}

// TestProposeKeepsTheShop: a shop that is known is not changed by a proposal, and
// the system's name is nobody's.
func TestProposeKeepsTheShop(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	a := one("000000000001", 10_000)
	a.Payee = "shop_1"
	h.clear(a)
	if _, err := h.run(testDay, []Item{a}, nil); err != nil {
		t.Fatal(err)
	}
	x := h.only(MissingAtNetwork)
	for who, why := range map[string]string{System: "because", "": "because", "li": ""} {
		if err := h.write(func(tx *db.Tx) error { _, err := Propose(tx, x.ID, who, why, ""); return err }); !errors.Is(err, ErrWhy) {
			t.Errorf("%q %q: %v", who, why, err)
		}
	}
	h.must(func(tx *db.Tx) error { _, err := Propose(tx, x.ID, "li", "claim it", "shop_2"); return err })
	if x = h.only(MissingAtNetwork); x.Payee != "shop_1" {
		t.Errorf("it is now of %s", x.Payee)
	}
}

// TestBadPayoutsAndHosts: nothing half named is kept.
func TestBadPayoutsAndHosts(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	good := Payout{ID: "pay_1", Payee: "shop_1", Fen: 1, Day: testDay}
	for name, f := range map[string]func(*Payout){"no id": func(p *Payout) { p.ID = "" }, "no payee": func(p *Payout) { p.Payee = "" }, "nothing": func(p *Payout) { p.Fen = 0 },
		"below zero": func(p *Payout) { p.Fen = -1 }, "no day": func(p *Payout) { p.Day = calendar.Date{} }} {
		p := good
		f(&p)
		if err := h.write(func(tx *db.Tx) error { return Expect(tx, p) }); !errors.Is(err, ErrPayout) {
			t.Errorf("payout with %s: %v", name, err)
		}
	}
	for name, f := range map[string]func(*Host){"no name": func(x *Host) { x.Name = "" }, "no bank": func(x *Host) { x.Bank = "" }, "a cut-off of a day": func(x *Host) { x.CutOff = 24 * 60 * 60 * 1e9 },
		"a cut-off below zero": func(x *Host) { x.CutOff = -1 }, "a limit below zero": func(x *Host) { x.FourEyes = -1 }, "days below zero": func(x *Host) { x.DueDays = -1 }} {
		x := Host{Name: "other", Bank: bank}
		f(&x)
		if err := h.write(func(tx *db.Tx) error { return Join(tx, x) }); !errors.Is(err, ErrHost) {
			t.Errorf("host with %s: %v", name, err)
		}
	}
}

// TestReleasedIsTheDaysOwn: closing what a statement was short of counts for its
// day; closing anything else does not.
func TestReleasedIsTheDaysOwn(t *testing.T) {
	for _, tt := range []struct {
		x    Exception
		want int64
	}{
		{Exception{Host: host, Type: StatementShort, Held: -7}, -7}, {Exception{Host: host, Type: UnknownCredit, Held: 7}, 7},
		{Exception{Host: host, Type: AmountDiffers, Held: 7}, 0}, {Exception{Host: BankDesk, Type: UnknownCredit, Held: 7}, 0},
	} {
		h := open(t, db.Config{URL: dbtest.File(t)})
		if _, err := h.run(testDay, nil, nil); err != nil {
			t.Fatal(err)
		}
		tt.x.Day = testDay
		h.must(tt.x.let)
		h.read(func(q *db.Query) error {
			r, err := ReportOf(q, host, testDay)
			if r.Released != tt.want {
				t.Errorf("%s of %s: released %d, want %d", tt.x.Type, tt.x.Host, r.Released, tt.want)
			}
			return err
		})
	}
}

// TestShortOfItUntilMadeUp: what a day's lines are short of follows every line,
// and ends with the one that makes up for it.
func TestShortOfItUntilMadeUp(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	a := one("000000000001", 10_000)
	h.clear(a)
	if _, err := h.run(testDay, []Item{a}, file(t, record(a.RRN, 10_000, 5, 1))); err != nil {
		t.Fatal(err)
	}
	for i, tt := range []struct {
		fen, held int64
		state     ExceptionState
	}{{9_000, -994, Open}, {500, -494, Open}, {494, 0, Closed}} {
		h.take(line(string(rune('1'+i)), tt.fen, "clearing unionpay 2015-09-16"))
		all := h.all()
		if len(all) != 1 || all[0].Type != StatementShort || all[0].Held != tt.held || all[0].State != tt.state {
			t.Errorf("after %d fen: %+v", tt.fen, all)
		}
		h.check()
	}
}

// TestFourEyesAtTheLimit: of exactly the limit one person may propose and close,
// of a fen more not; what holds nothing is not set off.
func TestFourEyesAtTheLimit(t *testing.T) {
	for held, want := range map[int64]error{50: nil, -50: nil, 51: ErrFourEyes, -51: ErrFourEyes} {
		h := open(t, db.Config{URL: dbtest.File(t)})
		var ids []string
		h.must(func(tx *db.Tx) error {
			for i, held := range []int64{held, 0, 0} {
				x := Exception{ID: tx.NewID("rexc"), Ref: string(rune('a' + i)), Host: host, Day: testDay, Type: AmountDiffers}
				if _, err := insertException(tx, x); err != nil {
					return err
				}
				x.State, x.Proposer, x.Held = Booked, "li", held
				if err := updateException(tx, Open, x); err != nil {
					return err
				}
				ids = append(ids, x.ID)
			}
			return nil
		})
		for _, pair := range [][2]string{{ids[1], ids[2]}, {ids[0], ids[1]}, {ids[0], ids[0]}} {
			if err := h.write(func(tx *db.Tx) error { return Offset(tx, pair[0], pair[1], "wang", "one payment") }); !errors.Is(err, ErrOutcome) {
				t.Errorf("%d set off against nothing or itself: %v", held, err)
			}
		}
		err := h.write(func(tx *db.Tx) error { _, err := Close(tx, ids[0], ToLoss, "li", "it is lost"); return err })
		if !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%d closed by its proposer: %v, want %v", held, err, want)
		}
	}
}

// TestManyUnderOneName: a name that stands for more than a sale can have is no
// name; what nothing names may be many.
func TestManyUnderOneName(t *testing.T) {
	same, bare := make([]Item, maxSame+1), make([]Item, maxSame+1)
	for i := range same {
		same[i] = one("000000000001", 1)
		bare[i] = with(one("", 1), func(x *Item) { x.TID = "" })
	}
	if _, err := Match(List(same), List(nil), noon, Carried{}); !errors.Is(err, ErrMany) {
		t.Errorf("%d under one reference: %v", len(same), err)
	}
	if _, err := Match(List(same[:maxSame]), List(nil), noon, Carried{}); err != nil {
		t.Errorf("%d under one reference: %v", maxSame, err)
	}
	if _, err := Match(List(bare), List(nil), noon, Carried{}); err != nil {
		t.Errorf("%d that nothing names: %v", len(bare), err)
	}
}
