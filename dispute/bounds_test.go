package dispute

import (
	"errors"
	"strings"
	"testing"
	"time"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
)

// TestChargeBackIsBoundByTheSale: a chargeback may come while the shop's time to
// send the receipt is over, until the sale's own deadline, and not later.
func TestChargeBackIsBoundByTheSale(t *testing.T) {
	for _, tt := range []struct {
		days int
		tick bool // the deadline of the receipt was noticed
		want error
	}{{30, false, nil}, {30, true, nil}, {180, false, nil}, {180, true, nil}, {181, false, ErrLate}} {
		h := newHouse(t, db.Config{URL: dbtest.File(t)})
		c := h.open(claim("N1", false))
		h.now.Set(sold.AddDate(0, 0, tt.days))
		if tt.tick {
			h.tick(t, 1)
		}
		err := h.write(func(tx *db.Tx) error { _, err := ChargeBack(tx, c.ID, "4515", "not mine"); return err })
		if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("day %d, noticed %v: %v, want %v", tt.days, tt.tick, err, tt.want)
		}
		h.check(h.get(c.ID))
	}
	// The receipt itself is bound by the shop's time.
	h := newHouse(t, db.Config{URL: dbtest.File(t)})
	c := h.open(claim("N1", false))
	h.gather(c.ID)
	h.now.Advance(25 * 24 * time.Hour)
	if err := h.write(func(tx *db.Tx) error { _, err := Send(tx, c.ID, "li", "here it is"); return err }); !errors.Is(err, ErrLate) {
		t.Errorf("a receipt after 25 days: %v", err)
	}
}

// TestOpenAgainAfterAnotherReason: a request whose chargeback brought another
// reason is the same request when it is repeated; a chargeback of another reason
// is not the same.
func TestOpenAgainAfterAnotherReason(t *testing.T) {
	h := newHouse(t, db.Config{URL: dbtest.File(t)})
	ask := claim("N1", false)
	ask.Reason = "H301"
	c := h.open(ask)
	other := ask
	other.Reason = "4515"
	if err := h.write(func(tx *db.Tx) error { _, err := Open(tx, other); return err }); !errors.Is(err, ErrDiffers) {
		t.Errorf("another reason before any chargeback: %v", err)
	}
	h.must(func(tx *db.Tx) error { _, err := ChargeBack(tx, c.ID, "4515", "not mine"); return err })
	if got := h.open(ask); got.ID != c.ID || got.State != Charged || got.Reason != "4515" {
		t.Errorf("the request again: %+v", got)
	}
	charge := other
	charge.Money, charge.Reason = true, "4562"
	if err := h.write(func(tx *db.Tx) error { _, err := Open(tx, charge); return err }); !errors.Is(err, ErrDiffers) {
		t.Errorf("a chargeback of another reason under the number: %v", err)
	}
	h.check(h.get(c.ID))
}

// TestHoldEndsWithItsRound: what was held while the issuer could come again is
// free once, whichever way the case ends; a case that held nothing frees nothing.
func TestHoldEndsWithItsRound(t *testing.T) {
	ends := map[string]func(*db.Tx, string) (Case, error){
		"withdrawn":          func(tx *db.Tx, id string) (Case, error) { return Withdraw(tx, id, "sorry") },
		"charged back again": again,
		"won": func(tx *db.Tx, id string) (Case, error) {
			if _, err := file(tx, id); err != nil {
				return Case{}, err
			}
			return Decide(tx, id, true, "so it is")
		},
		"lost": func(tx *db.Tx, id string) (Case, error) {
			if _, err := file(tx, id); err != nil {
				return Case{}, err
			}
			return Decide(tx, id, false, "so it is")
		},
	}
	for name, end := range ends {
		h := newHouse(t, db.Config{URL: dbtest.File(t)})
		c := h.open(claim("N1", true))
		h.gather(c.ID)
		h.must(func(tx *db.Tx) error { _, err := present(tx, c.ID); return err })
		held := func() (n int64) {
			h.must(func(tx *db.Tx) error {
				list, err := settlement.Holds(tx, shop)
				n = 0
				for _, x := range list {
					n += x.Amount.Minor()
				}
				return err
			})
			return n
		}
		if got := held(); got != 6_000 {
			t.Errorf("%s: %d held while represented", name, got)
		}
		h.must(func(tx *db.Tx) error { _, err := end(tx, c.ID); return err })
		if got := held(); got != 0 || h.get(c.ID).Held {
			t.Errorf("%s: %d held at the end", name, got)
		}
		h.check(h.get(c.ID))
	}
}

// TestWordsAreBounded: a step has somebody who says why, within the limit.
func TestWordsAreBounded(t *testing.T) {
	h := newHouse(t, db.Config{URL: dbtest.File(t)})
	c := h.open(claim("N1", true))
	long := strings.Repeat("x", MaxWhy)
	for _, tt := range []struct {
		who, why string
		want     error
	}{{"", "x", ErrWhy}, {"li", "", ErrWhy}, {"li", long + "x", ErrWhy}} {
		if err := h.write(func(tx *db.Tx) error { return Answer(tx, c.ID, tt.who, tt.why) }); !errors.Is(err, tt.want) {
			t.Errorf("answer of %q in %d bytes: %v", tt.who, len(tt.why), err)
		}
		if err := h.write(func(tx *db.Tx) error { _, err := Accept(tx, c.ID, tt.who, tt.why); return err }); !errors.Is(err, tt.want) {
			t.Errorf("accepted by %q in %d bytes: %v", tt.who, len(tt.why), err)
		}
	}
	h.must(func(tx *db.Tx) error { return Answer(tx, c.ID, "li", long) })
	h.must(func(tx *db.Tx) error { _, err := Accept(tx, c.ID, "li", long); return err })
	for name, change := range map[string]func(*Claim){"no sale": func(c *Claim) { c.Sale.RRN = "" }, "no shop": func(c *Claim) { c.Sale.Payee = "" }, "nobody to give it to": func(c *Claim) { c.Sale.Counter = "" },
		"no date": func(c *Claim) { c.Sale.At = time.Time{} }, "a long number": func(c *Claim) { c.Ref = strings.Repeat("N", MaxRef+1) }, "long words": func(c *Claim) { c.Why = long + "x" },
		"another currency": func(c *Claim) { c.Amount = money.Of(1, "HKD") }} {
		x := claim("N2", true)
		x.Sale.RRN = "000000000002"
		change(&x)
		if err := h.write(func(tx *db.Tx) error { _, err := Open(tx, x); return err }); !errors.Is(err, ErrClaim) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWholeSaleMayBeDisputed: all of a sale, in as many words as there may be.
func TestWholeSaleMayBeDisputed(t *testing.T) {
	h := newHouse(t, db.Config{URL: dbtest.File(t)})
	whole := claim("N1", true)
	whole.Amount, whole.Why = whole.Sale.Amount, strings.Repeat("x", MaxWhy)
	c := h.open(whole)
	if got := h.balance(settlement.Payable(shop)); !c.WithIssuer() || got != 0 {
		t.Errorf("%+v, the shop has %d", c, got)
	}
}

// TestSystemsReason: what the system writes at a deadline is said in Chinese.
func TestSystemsReason(t *testing.T) {
	h := newHouse(t, db.Config{URL: dbtest.File(t)})
	c := h.open(claim("N1", false))
	h.now.Set(c.Due)
	h.tick(t, 1)
	h.must(func(tx *db.Tx) error {
		list, err := History(tx, c.ID)
		last := list[len(list)-1]
		day := "2015-"
		if last.Who != System || !strings.HasPrefix(last.Reason(false), "the deadline of "+day) || !strings.HasPrefix(last.Reason(true), "已过期限 "+day) || strings.Contains(last.Reason(true), "passed") {
			t.Errorf("%q, %q", last.Reason(false), last.Reason(true))
		}
		for _, e := range []Event{{Who: "li", Why: last.Why}, {Who: System, Why: "the deadline of it"}, {Who: System, Why: "x passed"}} {
			if e.Reason(true) != e.Why {
				t.Errorf("%+v reads %q", e, e.Reason(true))
			}
		}
		return err
	})
}

// TestCollect: whoever takes money back from our own cardholder is asked for
// that, and for nothing else.
func TestCollect(t *testing.T) {
	for _, issuer := range []string{"", "unionpay"} {
		h := newHouse(t, db.Config{URL: dbtest.File(t)})
		var asked []string
		Collect(h.store, func(tx *db.Tx, e ledger.Entry, from, to ledger.AccountID, amount money.Amount) error {
			asked = append(asked, e.Ref)
			if from != counter || to != settlement.Payable(shop) || amount.Minor() != 6_000 {
				t.Errorf("%s: %v from %s to %s", e.Ref, amount, from, to)
			}
			_, err := ledger.Post(tx, e)
			return err
		})
		own := claim("N1", true)
		own.Sale.Issuer = issuer
		c := h.open(own)
		h.must(func(tx *db.Tx) error { _, err := Withdraw(tx, c.ID, "sorry"); return err })
		if want := map[string]int{"": 1, "unionpay": 0}[issuer]; len(asked) != want || want == 1 && asked[0] != "dispute:"+c.ID+":2" {
			t.Errorf("issuer %q: asked %v", issuer, asked)
		}
		h.check(h.get(c.ID))
	}
}
