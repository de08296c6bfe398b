package app

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"koala/acquiring"
	"koala/calendar"
	"koala/dispute"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/issuing"
	"koala/money"
	"koala/reconcile"
	"koala/spec/clearing"
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

// told keeps what a host's file says in disputes, in the unit that takes the
// file. What is ours it knows already: only what issuers say is kept.
func told(host string) func(*db.Tx, []reconcile.Notice) error {
	said := map[string]dispute.Said{clearing.Requested: dispute.SaidRetrieval, clearing.ChargedBack: dispute.SaidChargeback, clearing.ChargedAgain: dispute.SaidAgain}
	return func(tx *db.Tx, list []reconcile.Notice) error {
		for _, n := range list {
			if said[n.Flag] == "" {
				continue
			}
			r := dispute.Record{Host: host, Said: said[n.Flag], Undone: n.Undone, Amount: money.Fen(n.Fen), Reason: n.Reason, At: n.At,
				Sale: dispute.Trace{RRN: n.RRN, Terminal: n.Terminal, Tail: dispute.Tail(string(n.PAN))}}
			if n.RRN == "" { // the day and the amount are by the host's clock and books
				r.Sale.Day, r.Sale.Fen = n.SoldOn, n.Sold
			}
			// The line that opens a case numbers it. A later one has a key of its own,
			// so that the case is found by its sale.
			cases, err := dispute.OfSale(tx, n.RRN)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(cases, func(c dispute.Case) bool { return !c.State.Final() && c.Amount == r.Amount }) && r.Said != dispute.SaidAgain && !r.Undone {
				r.Ref = n.Number
			}
			if err := dispute.KeepRecord(tx, r); err != nil {
				return err
			}
		}
		return nil
	}
}

// heedTold heeds what was kept, and ends what the comparison missed because its
// case had not moved yet. A cut before it is safe: the next tick heeds, and the
// next day's comparison finds the movement.
func (h *House) heedTold(ctx context.Context, host string, day calendar.Date) error {
	if _, err := dispute.HeedKept(ctx, h.Store, findSales); err != nil {
		return err
	}
	return h.Store.Write(ctx, func(tx *db.Tx) error {
		x, err := reconcile.HostOf(tx, host)
		if err != nil {
			return err
		}
		_, to := x.Span(day)
		moved, err := disputed(tx, host, to, tx.Now().Add(time.Microsecond))
		if err == nil {
			err = reconcile.Found(tx, host, moved)
		}
		return err
	})
}

// disputed is what disputes moved with a host between two moments.
func disputed(q db.Reader, host string, from, to time.Time) (out []reconcile.Item, err error) {
	list, err := dispute.Movements(q, host, from, to)
	for _, m := range list {
		x := reconcile.Item{RRN: m.RRN, Kind: reconcile.Presented, State: reconcile.Cleared, Fen: m.Fen, Currency: money.CNY, At: m.At, Date: calendar.Of(m.At, calendar.Beijing), Payee: m.Payee}
		if m.Fen < 0 {
			x.Kind = reconcile.Chargeback
		}
		out = append(out, x)
	}
	return out, err
}

// An ecashDesk remembers up to which record gaps of cards were looked for. A
// restart looks at the last ones again, which changes nothing.
type ecashDesk struct{ seen string }

// ecashTypes are what the reconciliation desk hears of e-cash, by the reason why a
// record waits or was put aside; every other reason is ECashWaits.
var ecashTypes = map[acquiring.Why]reconcile.Type{acquiring.WhyCard: reconcile.ECashUnknown, acquiring.WhyMAC: reconcile.ECashProof, acquiring.Why(issuing.FlawProof): reconcile.ECashProof,
	acquiring.Why(issuing.FlawDiffers): reconcile.ECashTwice, acquiring.WhyForked: reconcile.ECashTwice, acquiring.WhyNumber: reconcile.ECashTwice}

// tickECash brings what is wrong with e-cash to the reconciliation desk: records in
// suspense or put aside, taps without a known end, money that left a card.
func (h *House) tickECash(ctx context.Context) error {
	var found []reconcile.Finding
	var open []reconcile.Exception
	seen := h.ecash.seen
	err := h.Store.Read(ctx, func(q *db.Query) (err error) {
		if found, err = odd(q); err != nil {
			return err
		}
		cards, err := recent(q, &seen)
		if err != nil {
			return err
		}
		if open, err = everyException(q, reconcile.ECashDesk); err != nil {
			return err
		}
		for _, x := range open {
			if card, _, ok := strings.Cut(strings.TrimPrefix(x.Ref, string(reconcile.ECashGap)+"/"), "/"); ok && x.Type == reconcile.ECashGap {
				cards[issuing.CardID(card)] = x.At
			}
		}
		for _, id := range slices.Sorted(maps.Keys(cards)) {
			gaps, err := issuing.Gaps(q, id)
			if err != nil {
				return err
			}
			for _, g := range gaps {
				found = append(found, reconcile.Finding{Type: reconcile.ECashGap, Ref: fmt.Sprintf("%s/%d-%d", id, g.After, g.Before), Ours: reconcile.Item{STAN: fmt.Sprint(g.Before), Fen: g.Fen.Minor(), At: cards[id]}})
			}
		}
		return nil
	})
	if err != nil || len(found)+len(open) == 0 {
		return err
	}
	all := []reconcile.Type{reconcile.ECashGap, reconcile.ECashTwice, reconcile.ECashProof, reconcile.ECashUnknown, reconcile.ECashDoubt, reconcile.ECashWaits}
	err = h.Store.Write(ctx, func(tx *db.Tx) error { return reconcile.Findings(tx, all, found) })
	if err == nil {
		h.ecash.seen = seen
	}
	return err
}

// odd are the records that wait or were put aside, and the taps whose end nobody
// knows.
func odd(q db.Reader) (out []reconcile.Finding, err error) {
	for _, list := range []func(db.Reader, string, int) ([]acquiring.Waiting, error){acquiring.InSuspense, acquiring.OddOnes} {
		for after := ""; ; {
			page, err := list(q, after, deskChunk)
			if err != nil {
				return nil, err
			}
			for _, w := range page {
				after = w.ID
				t, ok := ecashTypes[w.Why]
				if !ok {
					t = reconcile.ECashWaits
				}
				out = append(out, reconcile.Finding{Type: t, Ref: w.ID, Ours: reconcile.Item{TID: w.TID, STAN: fmt.Sprint(w.Number), Fen: w.Fen, At: w.Since, Payee: w.Shop}})
			}
			if len(page) == 0 {
				break
			}
		}
	}
	for after := ""; ; {
		page, err := acquiring.Doubts(q, after, deskChunk)
		for _, x := range page {
			after = x.ID
			if x.State == acquiring.DoubtOpen {
				out = append(out, reconcile.Finding{Type: reconcile.ECashDoubt, Ref: x.ID, Ours: reconcile.Item{TID: x.TID, STAN: fmt.Sprint(x.ATC), Fen: x.Fen, At: x.Got, Payee: x.Shop}})
			}
		}
		if err != nil || len(page) == 0 {
			return out, err
		}
	}
}

// recent are the cards of records handed in behind seen, and when; of the last
// ones only, if there are many.
func recent(q db.Reader, seen *string) (map[issuing.CardID]time.Time, error) {
	list, err := acquiring.Sales(q, acquiring.Filter{Limit: deskChunk})
	out := map[issuing.CardID]time.Time{}
	for _, s := range list {
		if s.ID <= *seen {
			break
		}
		if s.Card != "" && out[s.Card].IsZero() {
			out[s.Card] = s.Got
		}
	}
	if len(list) > 0 {
		*seen = list[0].ID
	}
	return out, err
}

// everyException are a host's that are not closed.
func everyException(q db.Reader, host string) (out []reconcile.Exception, err error) {
	for after := ""; ; {
		page, err := reconcile.Exceptions(q, host, "", after, deskChunk)
		out = append(out, page...)
		if err != nil || len(page) < deskChunk {
			return out, err
		}
		after = page[len(page)-1].ID
	}
}
