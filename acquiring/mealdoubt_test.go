package acquiring_test

import (
	"errors"
	"testing"
	"time"

	"koala/acquiring"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/settlement"
	"koala/spec/desfire"
	"koala/terminal/canteen"
)

// commitAnswer is the number of the answer to the commit of a first sale.
const commitAnswer = 12

// tear sells and loses the card at the commit.
func (c *counter) tear(k *chip) desfire.Sale {
	c.h.t.Helper()
	k.e.LoseAnswer(commitAnswer)
	if o := c.sell(k, lunch); o.Result != canteen.TryAgain {
		c.h.t.Fatalf("%+v", o)
	}
	k.e.LoseAnswer(0)
	list, err := c.Doubts()
	c.h.must(err)
	if len(list) != 1 {
		c.h.t.Fatalf("%d doubts", len(list))
	}
	return list[0]
}

func (h *house) doubt(s desfire.Sale) acquiring.Doubt {
	h.t.Helper()
	x, err := h.office.KeepMealDoubt(ctx, lunchTill, s)
	h.must(err)
	return x
}

// TestMealWhoseCardNeverComesBack: the desk rules, the till ends the sale so, and
// its record is booked once; the case comes twice and is one.
func TestMealWhoseCardNeverComesBack(t *testing.T) {
	for name, paid := range map[string]bool{"paid": true, "not paid": false} {
		t.Run(name, func(t *testing.T) { neverBack(t, paid) })
	}
}

func neverBack(t *testing.T, paid bool) {
	h := newHouse(t)
	c, k := h.counter(), h.eater(50_00)
	s := c.tear(k)
	x := h.doubt(s)
	if again := h.doubt(s); again.ID != x.ID || x.State != acquiring.DoubtOpen || x.Card != k.id || x.Fen != 7_51 || x.Shop != kitchen || x.Seq != 1 {
		t.Fatalf("%+v, again %+v", x, again)
	}
	h.read(func(q *db.Query) error {
		list, err := acquiring.Doubts(q, "", 10)
		if err != nil || len(list) != 1 || list[0].ID != x.ID {
			t.Errorf("%+v %v", list, err)
		}
		rest, err := acquiring.Doubts(q, x.ID, 10)
		if _, known, bad := acquiring.Evidence(q, x); known || bad != nil || len(rest) != 0 {
			t.Errorf("evidence of nothing, or listed twice: %v %v", bad, rest)
		}
		return err
	})
	h.do(func(tx *db.Tx) error {
		_, err := acquiring.Rule(tx, x.ID, paid, "mei", "read the card at the desk")
		return err
	})
	if err := h.store.Write(ctx, func(tx *db.Tx) error {
		_, err := acquiring.Rule(tx, x.ID, !paid, "mei", "changed her mind")
		return err
	}); !errors.Is(err, acquiring.ErrRuled) {
		t.Errorf("ruled twice: %v", err)
	}
	x = h.doubt(s) // the till hears of it
	if want := map[bool]acquiring.DoubtState{true: acquiring.DoubtPaid, false: acquiring.DoubtDropped}[paid]; x.State != want || x.By != "mei" || x.Ended.IsZero() {
		t.Errorf("%+v", x)
	}
	h.must(c.Resolve(s.Seq, paid))
	b := c.batch()
	equal(t, "ended", fates(h.eat(b)), "booked")
	equal(t, "again", fates(h.eat(b)), "known")
	want := map[ledger.AccountID]int64{issuing.Float(k.id): 50_00, settlement.Payable(kitchen): 0, acquiring.Funding(employer): 1000_00}
	if paid {
		want = map[ledger.AccountID]int64{issuing.Float(k.id): 42_49, settlement.Payable(kitchen): 15_01, acquiring.Funding(employer): 992_50}
	}
	h.want("ruled", want)
}

// TestMealWhoseCardComesBack: the till learns the end from the card, its record
// closes the case, and the till never asks again.
func TestMealWhoseCardComesBack(t *testing.T) {
	h := newHouse(t)
	c, k := h.counter(), h.eater(50_00)
	s := c.tear(k)
	x := h.doubt(s)
	h.now.Advance(time.Minute)
	if o := c.sell(k, lunch); o.Reason != canteen.Recovered {
		t.Fatalf("%+v", o)
	}
	equal(t, "recovered", fates(h.eat(c.batch())), "booked")
	h.read(func(q *db.Query) (err error) { x, err = acquiring.DoubtOf(q, x.ID); return err })
	if x.State != acquiring.DoubtClosed {
		t.Errorf("%+v", x)
	}
	h.read(func(q *db.Query) error {
		if paid, known, err := acquiring.Evidence(q, x); !paid || !known || err != nil {
			t.Errorf("%v %v %v", paid, known, err)
		}
		return nil
	})
	h.want("once", map[ledger.AccountID]int64{issuing.Float(k.id): 42_49, settlement.Payable(kitchen): 15_01})
}

// TestMealDoubtAfterItsRecord: a till that has lost what it handed in is told how
// that ended.
func TestMealDoubtAfterItsRecord(t *testing.T) {
	h := newHouse(t)
	c, k := h.counter(), h.eater(50_00)
	c.sell(k, lunch)
	b := c.batch()
	h.eat(b)
	s := b.Sales[0]
	s.MAC = [8]byte{}
	if x := h.doubt(s); x.State != acquiring.DoubtPaid {
		t.Errorf("%+v", x)
	}
}

// TestNextSalePointsAtTheEnd: the value the card's next sale began with.
func TestNextSalePointsAtTheEnd(t *testing.T) {
	h := newHouse(t)
	c, k := h.counter(), h.eater(50_00)
	s := c.tear(k)
	unpaid := s
	unpaid.Seq, unpaid.Before, unpaid.After = 9, s.Before+int32(s.Fen), s.Before // ends where s began
	x, y := h.doubt(s), h.doubt(unpaid)
	next := s.Sign(c.own)
	next.Seq, next.Before, next.After, next.At = 2, s.After, s.After-int32(s.Fen), desfire.StampOf(h.now.Now().Add(time.Minute))
	equal(t, "next", fates(h.eat(desfire.SaleBatch{Till: s.Till, First: 1, Sales: []desfire.Sale{next.Sign(c.own)}})), "booked")
	h.read(func(q *db.Query) error {
		if paid, known, err := acquiring.Evidence(q, x); !paid || !known || err != nil {
			t.Errorf("%v %v %v", paid, known, err)
		}
		if _, known, err := acquiring.Evidence(q, y); known || err != nil {
			t.Errorf("neither value: %v %v", known, err)
		}
		return nil
	})
}

// TestBadMealDoubts: what is no doubt of this till, and another sale under a used
// number.
func TestBadMealDoubts(t *testing.T) {
	h := newHouse(t)
	c, k := h.counter(), h.eater(50_00)
	s := c.tear(k)
	for name, change := range map[string]func(*desfire.Sale){
		"signed":       func(s *desfire.Sale) { s.MAC[0] = 1 },
		"other till":   func(s *desfire.Sale) { s.Till[0]++ },
		"no number":    func(s *desfire.Sale) { s.Seq = 0 },
		"void":         func(s *desfire.Sale) { s.Kind = desfire.Void },
		"wrong values": func(s *desfire.Sale) { s.After++ },
	} {
		bad := s
		change(&bad)
		if _, err := h.office.KeepMealDoubt(ctx, lunchTill, bad); !errors.Is(err, acquiring.ErrBatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := h.office.KeepMealDoubt(ctx, teaTill, s); !errors.Is(err, acquiring.ErrKind) {
		t.Errorf("from a shop's till: %v", err)
	}
	h.doubt(s)
	other := s
	other.Fen, other.After = 1, s.Before-1
	if x := h.doubt(other); x.ID != "" {
		t.Errorf("%+v", x)
	}
}
