package app

import (
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/spec/purse"
	"koala/tsm"
)

// What follows from what, in one place. These run in the unit of work of the
// act itself: either both happened or neither did.

// orderEvent is the data of order.* events.
type orderEvent struct {
	Kind  tsm.Kind  `json:"kind"`
	State tsm.State `json:"state"`
	Phase tsm.Phase `json:"phase,omitempty"`
	Band  string    `json:"band"`
	Card  string    `json:"card,omitempty"` // last four digits
	Owner string    `json:"owner,omitempty"`
	Fen   int64     `json:"fen,omitempty"`
}

// orderChanged tells the world of an order, and keeps the deny list in step
// with blocked cards: a lost band is refused at the gates from the moment it is
// reported, and let in again only after the element itself was unblocked.
func (h *House) orderChanged(tx *db.Tx, o tsm.Order) error {
	if err := h.keepDenyList(tx, o); err != nil {
		return err
	}
	name := "order.changed"
	if o.State.Over() {
		name = "order.ended"
	}
	return outbox.Put(tx, outbox.Event{Name: name, Subject: o.ID, Data: orderEvent{
		Kind: o.Kind, State: o.State, Phase: o.Phase, Band: o.Band, Card: tail(o.Card), Owner: o.Customer, Fen: o.Amount.Minor()}})
}

func (h *House) keepDenyList(tx *db.Tx, o tsm.Order) error {
	books := h.Transit.Books()
	switch {
	case o.Kind == tsm.Block && o.State == tsm.Placed:
		return books.Deny(tx, o.Card, purse.DenyLost, "order "+o.ID)
	case o.Kind == tsm.Block && o.State == tsm.Cancelled, o.Kind == tsm.Unblock && o.State == tsm.Done:
		return books.Deny(tx, o.Card, purse.Allowed, "order "+o.ID)
	case o.Kind == tsm.Delete && o.State == tsm.Done:
		return books.Deny(tx, o.Card, purse.DenyClosed, "order "+o.ID)
	}
	return nil
}

func tail(n purse.Number) string {
	if len(n) < 4 {
		return ""
	}
	return string(n[len(n)-4:])
}
