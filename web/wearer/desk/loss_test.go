package desk_test

import (
	"fmt"
	"testing"
	"time"

	"koala/internal/db"
	"koala/issuing"
	"koala/web/wearer"
)

// lose reports Ann's band lost, gives her another and moves the cards there.
func (h *house) lose() {
	h.t.Helper()
	if err := h.losses.Report(h.t.Context(), ann); err != nil {
		h.t.Fatal(err)
	}
	h.now.Set(h.now.Now().Add(time.Minute))
	h.give("band_2")
	h.work("band_2")
	h.moved()
}

func (h *house) moved() {
	h.t.Helper()
	if err := h.losses.Move(h.t.Context(), ann, h.ref(), "band_2"); err != nil {
		h.t.Fatal(err)
	}
	h.work("band_2")
}

func (h *house) work(band string) {
	h.t.Helper()
	if err := h.bands[band].Run(h.t.Context(), link{h.tsm}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) loss() (wearer.Loss, bool) {
	h.t.Helper()
	loss, lost, err := h.losses.Loss(h.t.Context(), ann)
	if err != nil {
		h.t.Fatal(err)
	}
	return loss, lost
}

// TestEveryKindMoves: once all cards are on the new band and nothing of the lost
// one is owed, nothing is said to be on its way.
func TestEveryKindMoves(t *testing.T) {
	h := open(t)
	for _, p := range []string{issuing.TransitBJ, issuing.ECashCard, issuing.DebitCard, issuing.CreditCard, "acme/lunch", "acme/door", "acme/tea"} {
		h.add(p)
	}
	coupon := h.card(issuing.Coupon).Number
	h.do(func(tx *db.Tx) error { // one of its three uses, as a desk handed it in
		holder, name := issuing.CouponID("holder", "band_1"), issuing.CouponID("coupon", string(coupon))
		_, err := tx.Exec(`INSERT INTO acquiring_redemption (holder, coupon, counter, id, tid, number, shop, firm, op, fen, reduction, at, got, body, done, why)
			VALUES ($1, $2, 0, 'rdm_1', 'tea-1', 1, 'tea', '', 1, 100, 12, 1, 1, $3, TRUE, '')`, hexed(holder[:]), hexed(name[:]), []byte{})
		return err
	})
	if c := h.card(issuing.Coupon).Coupon; c.Left != 2 || c.Uses != 3 {
		t.Errorf("%+v", c)
	}
	h.lose()
	if c := h.card(issuing.Coupon); c.Number == coupon || c.Coupon.Left != 2 || c.Coupon.Uses != 3 || c.Was.EN != "2 of 3 uses left when it came" {
		t.Errorf("%+v %+v", c, c.Coupon)
	}
	if loss, lost := h.loss(); lost || len(loss.Cards) != 7 || !loss.Money.IsZero() {
		t.Errorf("still on its way: %+v", loss)
	}
}

// TestMoneyFollows: with the cards there, only their money is said to be to come,
// and when; then the loss is over.
func TestMoneyFollows(t *testing.T) {
	h := open(t)
	h.add(issuing.TransitBJ)
	h.add(issuing.ECashCard)
	h.load(h.card(issuing.ECash), 80_00)
	if err := h.losses.Report(t.Context(), ann); err != nil {
		t.Fatal(err)
	}
	if loss, lost := h.loss(); !lost || !loss.Money.IsZero() {
		t.Errorf("reported: %+v, %v", loss, lost)
	}
	h.give("band_2")
	h.work("band_2")
	if err := h.losses.Move(t.Context(), ann, h.ref(), "band_2"); err != nil {
		t.Fatal(err)
	}
	if loss, lost := h.loss(); !lost || !loss.Money.IsZero() {
		t.Errorf("cards are on their way: %+v, %v", loss, lost)
	}
	h.work("band_2")
	loss, lost := h.loss()
	if !lost || !loss.Money.Equal(loss.At.AddDate(0, 0, 7)) {
		t.Errorf("cards are there: %+v, %v", loss, lost)
	}
	h.now.Set(loss.Money)
	if err := h.tsm.Tick(t.Context(), h.now.Now()); err != nil {
		t.Fatal(err)
	}
	h.work("band_2")
	if loss, lost := h.loss(); lost || h.card(issuing.ECash).Fen != 80_00 {
		t.Errorf("the money is there: %+v", loss)
	}
}

// TestABandWithoutCardsIsLost until there is another; and so is one whose only
// card was never written.
func TestABandWithoutCardsIsLost(t *testing.T) {
	for _, ordered := range []bool{false, true} {
		h := open(t)
		if ordered {
			if _, err := h.desk.Apply(t.Context(), ann, h.ref(), issuing.TransitBJ); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.losses.Report(t.Context(), ann); err != nil {
			t.Fatal(err)
		}
		if _, lost := h.loss(); !lost {
			t.Errorf("ordered %v: not lost", ordered)
		}
		h.give("band_2")
		if loss, lost := h.loss(); lost {
			t.Errorf("ordered %v: %+v with another band on the wrist", ordered, loss)
		}
	}
}

func hexed(b []byte) string { return fmt.Sprintf("%x", b) }
