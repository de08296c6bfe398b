package app

import (
	"strings"

	"koala/acquiring"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/issuing"
	"koala/spec/purse"
	"koala/transit"
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

// orderChanged tells the world of an order, and keeps the deny lists in step
// with blocked cards: a lost band is refused at gates, tills and doors from the
// moment it is reported, and let in again only after the element itself was unblocked.
func (h *House) orderChanged(tx *db.Tx, o tsm.Order) error {
	if err := h.keepDenyList(tx, o); err != nil {
		return err
	}
	name := "order.changed"
	if o.State.Over() {
		name = "order.ended"
	}
	return outbox.Put(tx, outbox.Event{Name: name, Subject: o.ID, Data: orderEvent{
		Kind: o.Kind, State: o.State, Phase: o.Phase, Band: o.Band, Card: tail(o.Card.Purse()), Owner: o.Customer, Fen: o.Amount.Minor()}})
}

// byOrder begins the note of list entries that an order made. Only these are
// changed by orders: what staff put on the list, staff take off.
const byOrder = "order "

func (h *House) keepDenyList(tx *db.Tx, o tsm.Order) error {
	reason := purse.Allowed
	switch {
	case o.Kind == tsm.Block && o.State == tsm.Placed:
		reason = purse.DenyLost
	case o.Kind == tsm.Block && o.State == tsm.Cancelled, o.Kind == tsm.Unblock && o.State == tsm.Done:
	case o.Kind == tsm.Delete && o.State == tsm.Done:
		reason = purse.DenyClosed
	default:
		return nil
	}
	switch {
	case o.CardKind != issuing.Transit:
		return acquiring.Deny(tx, o.Card, reason, byOrder+o.ID)
	case reason == purse.DenyClosed:
		return h.Transit.Books().Deny(tx, o.Card.Purse(), reason, byOrder+o.ID)
	}
	if d, ok, err := denialOf(tx, o.Card.Purse()); err != nil || ok && !strings.HasPrefix(d.Why, byOrder) {
		return err
	}
	return h.Transit.Books().Deny(tx, o.Card.Purse(), reason, byOrder+o.ID)
}

// denialOf is a card's place on the deny list. Numbers are of one length: from
// behind a number's beginning without its last digit, it is one of ten.
func denialOf(tx *db.Tx, n purse.Number) (transit.Denied, bool, error) {
	list, err := transit.DenyList(tx, n[:max(len(n)-1, 0)], 10)
	for _, d := range list {
		if d.Card == n {
			return d, true, err
		}
	}
	return transit.Denied{}, false, err
}

func tail(n purse.Number) string {
	if len(n) < 4 {
		return ""
	}
	return string(n[len(n)-4:])
}
