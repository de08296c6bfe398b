package app

import (
	"context"
	"encoding/json"
	"strings"

	"koala/acquiring"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/issuing"
	"koala/merchant"
	"koala/transit"
	"koala/tsm"
	"koala/web"
	"koala/web/wearer"
)

// Announce passes what happens in the house from now on to the pages that
// show it, until ctx ends. A page that hears an event asks again for the part
// it concerns.
func (h *House) Announce(ctx context.Context, hub *web.Hub) error {
	last, err := h.Outbox.Last(ctx)
	if err != nil {
		return err
	}
	return h.Outbox.Follow(ctx, last, func(e outbox.Event) error {
		hub.Publish("ops", e.Name, map[string]string{"id": e.Subject})
		if m := h.merchantOf(ctx, e); m != "" {
			hub.Publish("trade:"+m, "shop.changed", map[string]string{"id": e.Subject})
		}
		if who := h.concerns(ctx, e); who != "" {
			for _, name := range tellsWearer(e.Name) {
				hub.Publish("my:"+who, name, map[string]string{"id": e.Subject})
			}
		}
		return nil
	})
}

// tellsWearer names the events of a person's pages that e is.
func tellsWearer(name string) []string {
	switch {
	case name == "order.ended":
		return []string{"order.changed", "card.changed", "wallet.changed"}
	case name == "order.changed":
		return []string{"order.changed"}
	case strings.HasPrefix(name, "journey."):
		return []string{"trip.changed", "card.changed"}
	case strings.HasPrefix(name, "sale."), strings.HasPrefix(name, "meal."), name == "coupon.redeemed", name == "request.answered":
		return []string{"payment.changed", "card.changed", "wallet.changed"}
	}
	return nil
}

// concerns is the customer an event is about, empty for nobody.
func (h *House) concerns(ctx context.Context, e outbox.Event) (who string) {
	if strings.HasPrefix(e.Name, "order.") {
		var o orderEvent
		if json.Unmarshal(e.JSON, &o) == nil {
			return o.Owner
		}
	}
	if strings.HasPrefix(e.Name, "journey.") {
		err := h.Store.Read(ctx, func(q *db.Query) error {
			j, err := transit.JourneyByID(q, e.Subject)
			if err != nil {
				return err
			}
			c, err := issuing.Get(q, issuing.IDOf(j.Card))
			who = string(c.Customer)
			return err
		})
		if err != nil {
			return "" // the page finds it at its next visit
		}
	}
	for _, name := range tellsWearer(e.Name) {
		if name == "payment.changed" {
			return h.holderOf(ctx, e)
		}
	}
	return who
}

// holderOf is the holder of the card that an event of acquiring names.
func (h *House) holderOf(ctx context.Context, e outbox.Event) (who string) {
	var x acquiring.Event
	if json.Unmarshal(e.JSON, &x) != nil || x.Card == "" {
		return ""
	}
	err := h.Store.Read(ctx, func(q *db.Query) error {
		c, err := issuing.Get(q, issuing.CardID(x.Card))
		who = string(c.Customer)
		return err
	})
	if err != nil {
		return "" // a card of another house; the page finds the rest at its next visit
	}
	return who
}

// connect lets a simulated phone fetch what waits for its band.
func (h *House) connect(ctx context.Context, s wearer.Street, band string) {
	if s == nil {
		return
	}
	var b tsm.Band
	err := h.Store.Read(ctx, func(q *db.Query) (err error) {
		b, err = tsm.BandOf(q, band)
		return err
	})
	if err == nil {
		s.Connect(ctx, b.Owner)
	}
}

// merchantOf is the merchant at whose shop something happened, empty for none.
func (h *House) merchantOf(ctx context.Context, e outbox.Event) (id string) {
	var x struct {
		Shop  string `json:"shop"`
		Payee string `json:"payee"`
	}
	if json.Unmarshal(e.JSON, &x) != nil || x.Shop == "" && x.Payee == "" {
		return ""
	}
	if x.Shop == "" {
		x.Shop = x.Payee
	}
	err := h.Store.Read(ctx, func(q *db.Query) error {
		s, err := merchant.ShopOf(q, x.Shop)
		id = s.Merchant
		return err
	})
	if err != nil {
		return "" // a payee that is no merchant's
	}
	return id
}
