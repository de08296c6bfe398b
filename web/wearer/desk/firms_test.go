package desk_test

import (
	"errors"
	"testing"

	"koala/internal/db"
	"koala/issuing"
	"koala/tsm"
	partners "koala/web/open"
	"koala/web/wearer"
	"koala/web/wearer/desk"
)

// TestALeaveIsItsOwners: a code is for the newest band of who made it, shown
// once, listed to nobody else, and taken back by nobody else.
func TestALeaveIsItsOwners(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	firms := desk.NewFirms(h.store, h.keys, h.now.Now)
	h.do(func(tx *db.Tx) error {
		return partners.AddPartner(tx, partners.Partner{Code: "jiahe", NameEN: "Jiahe", NameZH: "嘉和"})
	})
	h.do(func(tx *db.Tx) error {
		return partners.AddPartner(tx, partners.Partner{Code: "acme", NameEN: "Acme", NameZH: "艾克美"})
	})
	if list, err := firms.Firms(ctx, ann); err != nil || len(list) != 2 || list[1].Name.ZH != "嘉和" || list[0].Used != 0 {
		t.Errorf("firms %+v, %v", list, err)
	}
	h.add("acme/door")
	if list, err := firms.Firms(ctx, ann); err != nil || list[0].Used != 2<<10 || list[0].Space != issuing.FirmSpace || list[1].Used != 0 {
		t.Errorf("with a card of one: %+v, %v", list, err)
	}
	if list, err := firms.Firms(ctx, bob); err != nil || len(list) != 2 || list[0].Used != 0 {
		t.Errorf("without a band: %+v, %v", list, err)
	}
	ref := h.ref()
	c, code, err := firms.Agree(ctx, ann, ref, "jiahe")
	if err != nil || len(code) != 9 || code[4] != '-' || c.Band != "band_1" || c.Firm.EN != "Jiahe" || !c.Lives {
		t.Fatalf("%+v, %q, %v", c, code, err)
	}
	if _, again, err := firms.Agree(ctx, ann, ref, "jiahe"); !errors.Is(err, partners.ErrConsentShown) || again != "" {
		t.Errorf("the form again: %q, %v", again, err)
	}
	if _, _, err := firms.Agree(ctx, bob, h.ref(), ""); !errors.Is(err, tsm.ErrBand) {
		t.Errorf("a code without a band: %v", err)
	}
	if list, err := firms.Consents(ctx, bob); err != nil || len(list) != 0 {
		t.Errorf("another reads %+v, %v", list, err)
	}
	if err := firms.TakeBack(ctx, bob, c.ID); !errors.Is(err, partners.ErrNoThing) {
		t.Errorf("another took it back: %v", err)
	}
	if err := firms.TakeBack(ctx, ann, c.ID); err != nil {
		t.Fatal(err)
	}
	_, _, err = firms.Agree(ctx, ann, h.ref(), "")
	list, err2 := firms.Consents(ctx, ann)
	if err := errors.Join(err, err2); err != nil || len(list) != 2 || !list[0].Lives || !list[0].Firm.Empty() || list[1].Lives || list[1].State.EN != "withdrawn" {
		t.Errorf("listed %+v, %v", list, err)
	}
	h.now.Advance(partners.ConsentTime)
	if list, err = firms.Consents(ctx, ann); err != nil || list[0].Lives || list[0].State.EN != "expired" {
		t.Errorf("listed %+v, %v", list, err)
	}
}

// TestTheLimitOfOnePayment: downwards and back up to the product's, as the card
// itself read it back; no further.
func TestTheLimitOfOnePayment(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	card := h.add(issuing.ECashCard)
	if card.OnceFen != 1000_00 || card.OnceMaxFen != 1000_00 {
		t.Fatalf("a new card takes %d of %d", card.OnceFen, card.OnceMaxFen)
	}
	for _, fen := range []int64{50_00, 1000_00, 12_34} {
		order, err := h.desk.SetLimit(ctx, ann, h.ref(), card.Number, fen)
		h.done("band_1", order, err)
		if got := h.card(issuing.ECash); got.OnceFen != fen || got.OnceMaxFen != 1000_00 {
			t.Errorf("set to %d it takes %d", fen, got.OnceFen)
		}
		if o, err := h.desk.Order(ctx, ann, order); err != nil || len(o.Steps) == 0 || len(o.Talk) == 0 || !o.Firm.Empty() {
			t.Errorf("order %+v, %v", o, err)
		}
	}
	for _, fen := range []int64{0, -1, 1000_01} {
		if _, err := h.desk.SetLimit(ctx, ann, h.ref(), card.Number, fen); !errors.Is(err, wearer.ErrLimit) {
			t.Errorf("%d: %v", fen, err)
		}
	}
	if _, err := h.desk.SetLimit(ctx, bob, h.ref(), card.Number, 1); !errors.Is(err, wearer.ErrNoCard) {
		t.Errorf("another's card: %v", err)
	}
	transit := h.add(issuing.TransitBJ)
	if _, err := h.desk.SetLimit(ctx, ann, h.ref(), transit.Number, 1); !errors.Is(err, wearer.ErrLimit) {
		t.Errorf("a card without such a limit: %v", err)
	}
}
