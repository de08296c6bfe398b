package city

import (
	"context"
	"errors"
	"testing"

	"koala/acquiring"
	"koala/city/street"
	"koala/customer"
	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/tsm"
	"koala/web/wearer"
	"koala/web/wearer/desk"
)

// issue gives a newcomer a card of a product over the air.
func (c *lived) issue(who, band, product string) issuing.Card {
	c.t.Helper()
	ctx, h := context.Background(), c.live.house
	a := issuing.Application{Ref: "card:" + product + band, Customer: customer.ID(who), Band: band, Product: product}
	if product == issuing.ECashCard || product == issuing.DebitCard || product == issuing.CreditCard {
		n, err := h.Bank.Number(ctx, product)
		if err != nil {
			c.t.Fatal(err)
		}
		a.PAN = &n
	}
	var card issuing.Card
	c.order(who, band, func(tx *db.Tx) (o tsm.Order, err error) {
		if card, err = issuing.Open(tx, a); err != nil {
			return o, err
		}
		return h.TSM.Place(tx, tsm.Request{Ref: "issue:" + product + band, Kind: tsm.Issue, Band: band, Card: card.ID, Customer: who})
	})
	return card
}

func (c *lived) load(who, band string, card issuing.CardID, fen int64) {
	c.t.Helper()
	c.order(who, band, func(tx *db.Tx) (tsm.Order, error) {
		return c.live.house.TSM.Place(tx, tsm.Request{Ref: tx.NewID("load"), Kind: tsm.TopUp, Band: band, Card: card, Customer: who, Amount: money.Fen(fen)})
	})
}

// TestTour is the tour by hand: cards of every kind over the air, a purchase
// offline and cleared, a door, a lunch, a coupon, a lost band.
func TestTour(t *testing.T) {
	c := liveCity(t, t.TempDir(), -1)
	defer c.stop()
	ctx, l := context.Background(), c.live
	who := c.newcomer()
	v, err := l.Band(ctx, who)
	if err != nil {
		t.Fatal(err)
	}
	cash := c.issue(who, v.ID, issuing.ECashCard)
	c.load(who, v.ID, cash.ID, 50_00)
	meals := c.issue(who, v.ID, street.CanteenCard)
	c.load(who, v.ID, meals.ID, 30_00)
	pass := c.issue(who, v.ID, street.DoorCard)
	voucher := c.issue(who, v.ID, street.BakeryCoupon)
	stamps := c.issue(who, v.ID, street.BookStamps)
	for _, tt := range []struct {
		act  wearer.TapAct
		kind wearer.TapKind
		fen  int64
		card issuing.CardID
	}{
		{wearer.TapAct{Ref: "pull", Gate: "haolin.till", Card: cash.ID, Fen: 12_50, Pull: 3}, wearer.TapTorn, 0, ""},
		{wearer.TapAct{Ref: "pay", Gate: "haolin.till", Card: cash.ID, Fen: 12_50}, wearer.TapPaid, 12_50, cash.ID},
		{wearer.TapAct{Ref: "door", Gate: "kesi.lobby"}, wearer.TapOpened, 0, pass.ID},
		{wearer.TapAct{Ref: "lunch", Gate: "kesi.canteen", Fen: 12_00}, wearer.TapServed, 12_00, meals.ID},
		{wearer.TapAct{Ref: "coupon", Gate: "maixiao.coupon", Card: voucher.ID, Fen: 30_00}, wearer.TapRedeemed, 5_00, voucher.ID},
		{wearer.TapAct{Ref: "stamp", Gate: "sanwei.coupon", Card: stamps.ID, Fen: 30_00}, wearer.TapRedeemed, 0, stamps.ID},
	} {
		if err := l.Tap(ctx, who, tt.act); err != nil {
			t.Fatalf("%s: %v", tt.act.Ref, err)
		}
		got, err := l.Tapped(ctx, who, tt.act.Ref)
		if err != nil || got.Kind != tt.kind || tt.act.Ref != "lunch" && got.Fen != tt.fen || tt.card != "" && got.Card != tt.card {
			t.Fatalf("%s: %s %+v %v, %v", tt.act.Ref, got.Kind, got.Reason, got.Fen, err)
		}
		if tt.kind != wearer.TapTorn && got.Payment == "" || len(got.Talk) == 0 {
			t.Errorf("%s: record %q, %d exchanges", tt.act.Ref, got.Payment, len(got.Talk))
		}
		for _, x := range got.Talk {
			if x.Told == nil || x.Told.EN == "" {
				t.Errorf("%s: %X is not explained", tt.act.Ref, x.Command)
			}
		}
	}
	if err := l.Tap(ctx, who, wearer.TapAct{Ref: "scan", Gate: "jialian.1", Scan: true, Fen: 8_00}); err != nil {
		t.Fatal(err)
	}
	if got, err := l.Tapped(ctx, who, "scan"); err != nil || got.Kind != wearer.TapPaid || got.Fen != 8_00 || len(got.Receipt) == 0 || got.Unsigned {
		t.Errorf("a payment code: %+v, %v", got, err)
	}
	if err := l.Sign(ctx, who, "scan", []byte("x")); err != nil {
		t.Errorf("a slip that wants no signature: %v", err)
	}
	if err := l.Sign(ctx, who, "nothing", nil); !errors.Is(err, wearer.ErrNoTap) {
		t.Errorf("no slip: %v", err)
	}
	v, err = l.Band(ctx, who)
	if err != nil || v.Fen[cash.ID] != 37_50 || v.Fen[meals.ID] >= 30_00 {
		t.Errorf("%+v, %v", v.Fen, err)
	}
	err = l.house.Store.Read(ctx, func(q *db.Query) error {
		list, err := acquiring.Sales(q, acquiring.Filter{Card: cash.ID})
		if len(list) != 1 || list[0].Fate != acquiring.Booked || list[0].Moved != 12_50 {
			t.Errorf("cleared: %+v", list)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestLostBand: a band is lost with money on it; its cards are refused
// everywhere, a band from the kiosk takes them over, and the money follows when
// the claims are due. The old one turns up again and is worth nothing.
func TestLostBand(t *testing.T) {
	c := liveCity(t, t.TempDir(), -1)
	defer c.stop()
	ctx, l := context.Background(), c.live
	who := c.newcomer()
	v, err := l.Band(ctx, who)
	if err != nil {
		t.Fatal(err)
	}
	old := v.ID
	ride := c.issue(who, old, issuing.TransitBJ)
	cash := c.issue(who, old, issuing.ECashCard)
	c.issue(who, old, street.DoorCard)
	c.load(who, old, ride.ID, 20_00)
	c.load(who, old, cash.ID, 30_00)
	for ref, a := range map[string]wearer.TapAct{"pay": {Gate: "haolin.till", Fen: 4_00}, "in": {Gate: "dongdan", Card: ride.ID}, "door": {Gate: "kesi.lobby"}} {
		a.Ref = ref
		if err := l.Tap(ctx, who, a); err != nil {
			t.Fatal(err)
		}
		if got, err := l.Tapped(ctx, who, ref); err != nil || got.Kind == wearer.TapRefused {
			t.Fatalf("%s: %+v %v", ref, got.Reason, err)
		}
	}
	losses := desk.NewLosses(l.house.Store, l.house.TSM)
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	must("lose", l.Lose(ctx, who))
	must("report", losses.Report(ctx, who))
	if v, err = l.Band(ctx, who); err != nil || v.ID != old || v.Worn || len(v.Fen) != 0 {
		t.Errorf("a lost band: %+v, %v", v, err)
	}
	if err := l.Tap(ctx, who, wearer.TapAct{Ref: "gone", Gate: "haolin.till", Fen: 1_00}); !errors.Is(err, ErrLost) {
		t.Errorf("a tap without a band: %v", err)
	}
	for _, id := range []string{"haolin.till", "kesi.lobby"} { // whoever found it
		must("refresh", l.street.Refresh(ctx, id))
		got, err := l.street.Present(ctx, old, id, street.Wish{Fen: 5_00}, street.Options{})
		if err != nil || got.End != street.Refused {
			t.Errorf("the finder at %s: %s %v, %v", id, got.End, got.Words, err)
		}
	}
	fresh, err := l.NewBand(ctx, who)
	must("kiosk", err)
	must("move", losses.Move(ctx, who, "m", fresh))
	l.Connect(ctx, who)
	living := func() (cards []issuing.Card) {
		err := l.house.Store.Read(ctx, func(q *db.Query) (err error) { cards, err = issuing.InBand(q, fresh); return err })
		must("cards", err)
		return cards
	}
	c.until("the cards in the new band", func() bool {
		n := 0
		for _, x := range living() {
			if x.State == issuing.Active {
				n++
			}
		}
		return n == 3
	})
	l.clock.SetSpeed(300_000) // the claims wait a week
	c.until("the money on the new band", func() bool {
		l.Connect(ctx, who)
		v, err := l.Band(ctx, who)
		must("band", err)
		var fen int64
		for _, n := range v.Fen {
			fen += n
		}
		return v.ID == fresh && len(v.Fen) == 2 && fen == 20_00+26_00
	})
	must("found", l.Found(ctx, who))
	if v, err = l.Band(ctx, who); err != nil || v.ID != fresh {
		t.Errorf("after it turned up the band is %s, %v", v.ID, err)
	}
	got, err := l.street.Present(ctx, old, "haolin.till", street.Wish{Fen: 5_00}, street.Options{})
	if err != nil || got.End != street.Refused {
		t.Errorf("the old band pays: %s %v, %v", got.End, got.Words, err)
	}
}
