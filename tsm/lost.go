package tsm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
)

// Suspend reports a band lost, in one act: the house refuses its cards from now
// on, what had not begun is cancelled, and a block of every card waits for the
// element, should it ever be seen again. Again it changes nothing.
func (m *Manager) Suspend(tx *db.Tx, band string) ([]Order, error) {
	out, err := m.suspend(tx, band)
	if err != nil {
		return nil, fmt.Errorf("suspending band %s: %w", band, err)
	}
	return out, nil
}

func (m *Manager) suspend(tx *db.Tx, band string) (out []Order, err error) {
	b, err := BandOf(tx, band)
	if err != nil {
		return nil, err
	}
	if b.Lost.IsZero() {
		b.Lost = tx.Now()
		if err := errors.Join(setLost(tx, band, b.Lost), m.cancelUntouched(tx, band)); err != nil {
			return nil, err
		}
	}
	list, err := issuing.Suspend(tx, band)
	for _, c := range list {
		if err != nil || c.State == issuing.Blocked || c.State == issuing.Ordered {
			continue
		}
		var o Order
		o, err = m.place(tx, Request{Ref: lostRef(b, c.ID), Kind: Block, Band: band, Card: c.ID, behind: true})
		out = append(out, o)
	}
	return out, err
}

// lostRef names the block of a card for one loss of its band.
func lostRef(b Band, card issuing.CardID) string {
	return fmt.Sprintf("lost:%s:%d", card, b.Lost.UnixMilli())
}

// cancelUntouched cancels a band's orders of which nothing has left the house.
func (m *Manager) cancelUntouched(tx *db.Tx, band string) error {
	list, err := orders(tx, `band = $1 AND open AND kind <> $2 ORDER BY id`, band, Adopt)
	for _, o := range list {
		if err == nil && m.untouched(o) {
			_, err = m.Cancel(tx, o.ID)
		}
	}
	return err
}

// Restore takes a band back that was found: its cards may be used again. A block
// that has not begun is cancelled, one that has is undone by an order behind it.
func (m *Manager) Restore(tx *db.Tx, band string) ([]Order, error) {
	out, err := m.restore(tx, band)
	if err != nil {
		return nil, fmt.Errorf("restoring band %s: %w", band, err)
	}
	return out, nil
}

func (m *Manager) restore(tx *db.Tx, band string) (out []Order, err error) {
	b, err := BandOf(tx, band)
	if err != nil || b.Lost.IsZero() {
		return nil, err
	}
	list, err := issuing.Restore(tx, band)
	for _, c := range list {
		if err != nil {
			return nil, err
		}
		o, found := orderByRef(tx, lostRef(b, c.ID))
		switch {
		case errors.Is(found, ErrNotFound) || found == nil && (o.State == Failed || o.State == Cancelled):
		case found != nil:
			err = found
		case o.State == Placed:
			_, err = m.Cancel(tx, o.ID)
		default:
			o, err = m.place(tx, Request{Ref: "found:" + o.ID, Kind: Unblock, Band: band, Card: c.ID, behind: true})
			out = append(out, o)
		}
	}
	if err == nil {
		err = setLost(tx, band, time.Time{})
	}
	return out, err
}

// A CarryOf tells what a card takes along to the one made in its place.
type CarryOf func(q db.Reader, c issuing.Card) (issuing.Carry, error)

// MoveTo orders the cards of a lost band for another one of the same owner:
// every card anew, as its product is today, in place of the old one. carry tells
// what one takes along beside its money, and is asked in the unit that opens the
// new card: what is booked later is not in it. The money follows as the
// card proved it last, from the wallet: with the issue where the claim for it is
// due already, later by itself where terminals may still hand payments in (see
// issuing.Claim). Cut off or called again it orders nothing twice; where some
// cards cannot be moved, the error says why, and the others are ordered.
func (m *Manager) MoveTo(ctx context.Context, old, to string, carry CarryOf) ([]Order, error) {
	var list []issuing.Card
	err := m.store.Read(ctx, func(q *db.Query) error {
		from, err := BandOf(q, old)
		if err != nil {
			return err
		}
		next, err := BandOf(q, to)
		if err != nil {
			return err
		}
		if from.Lost.IsZero() || !next.Lost.IsZero() || next.Owner != from.Owner || old == to {
			return ErrState
		}
		list, err = issuing.InBand(q, old)
		return err
	})
	var out []Order
	for _, c := range list {
		if c.Suspended.IsZero() || c.State != issuing.Active && c.State != issuing.Blocked {
			continue
		}
		o, failed := m.moveCard(ctx, c, to, carry) // one that cannot go does not keep the others
		if failed == nil {
			out = append(out, o)
		}
		err = errors.Join(err, failed)
	}
	if err != nil {
		return out, fmt.Errorf("moving the cards of band %s to %s: %w", old, to, err)
	}
	return out, nil
}

// moveCard opens the card that takes c's place and orders its issue.
func (m *Manager) moveCard(ctx context.Context, c issuing.Card, to string, carry CarryOf) (o Order, err error) {
	ref := "move:" + string(c.ID)
	err = m.store.Read(ctx, func(q *db.Query) (err error) {
		o, err = orderByRef(q, ref)
		return err
	})
	if !errors.Is(err, ErrNotFound) {
		return o, err
	}
	var number *issuing.Numbered
	if c.Kind.Bank() {
		n, err := m.bank.Number(ctx, c.Product)
		if err != nil {
			return o, err
		}
		number = &n
	}
	err = m.store.Write(ctx, func(tx *db.Tx) error {
		along, err := carry(tx, c)
		if err != nil {
			return err
		}
		heir, err := issuing.Open(tx, issuing.Application{Ref: ref, Customer: c.Customer, Band: to, Product: c.Product, PAN: number, Replaces: c.ID, Carry: along})
		if err != nil {
			return err
		}
		amount, due, err := claimed(tx, c.ID, heir.ID)
		if err != nil {
			return err
		}
		if !due.IsZero() {
			if err := insertMove(tx, c.ID, heir.ID, due); err != nil {
				return err
			}
		}
		o, err = m.place(tx, Request{Ref: ref, Kind: Issue, Band: to, Card: heir.ID, Customer: string(c.Customer), Amount: amount})
		return err
	})
	return o, err
}

// claimed pays the claim for a lost card to its holder's wallet, to go on to the
// heir. Where it is not due yet, nothing is paid and due says when it will be.
func claimed(tx *db.Tx, old, heir issuing.CardID) (fen money.Amount, due time.Time, err error) {
	k, err := issuing.ClaimOf(tx, old)
	switch {
	case errors.Is(err, issuing.ErrNoClaim):
		return money.Fen(0), due, nil // a card without money
	case err == nil && tx.Now().Before(k.Due):
		return money.Fen(0), k.Due, nil
	case err == nil:
		k, err = issuing.Move(tx, old, heir)
	}
	return k.Fen, due, err
}

// followMoves lets the money of lost cards follow to the cards in their place
// whose claims have become due.
func (m *Manager) followMoves(ctx context.Context, now time.Time) error {
	var list []move
	err := m.store.Read(ctx, func(q *db.Query) (err error) {
		list, err = movesDue(q, now)
		return err
	})
	for _, v := range list {
		if err == nil {
			err = m.store.Write(ctx, func(tx *db.Tx) error { return m.follow(tx, v) })
		}
	}
	if err != nil {
		return fmt.Errorf("money of lost cards: %w", err)
	}
	return nil
}

// follow pays one claim and orders the top-up with it. What cannot be loaded
// stays in the wallet; what cannot be paid yet is looked at again.
func (m *Manager) follow(tx *db.Tx, v move) error {
	c, err := issuing.Get(tx, v.to)
	switch {
	case err != nil:
		return err
	case c.State.Over():
		return endMove(tx, v.from, "no card") // the claim stays with its holder
	case c.State != issuing.Active:
		return nil
	}
	fen, due, err := claimed(tx, v.from, v.to)
	switch {
	case errors.Is(err, issuing.ErrState) || errors.Is(err, issuing.ErrBusyLoad):
		return endMove(tx, v.from, "not moved") // found again, or at the desk
	case err != nil || !due.IsZero():
		return err
	case fen.IsZero():
		return endMove(tx, v.from, "nothing")
	}
	o, err := m.place(tx, Request{Ref: "follow:" + string(v.from), Kind: TopUp, Band: c.Band, Card: c.ID, Amount: fen, follows: true})
	if errors.Is(err, ledger.ErrInsufficient) || errors.Is(err, ErrOverCard) || errors.Is(err, ErrAmount) {
		return endMove(tx, v.from, "stays in the wallet")
	}
	if err != nil {
		return err
	}
	return endMove(tx, v.from, o.ID)
}

// replaced ends the card in whose place a new one is alive now. One with money
// ends when its claim is paid; one that was given back since has ended already.
func replaced(tx *db.Tx, o Order) error {
	c, err := issuing.Get(tx, o.Card)
	if err != nil || c.Replaces == "" || c.Kind.Money() {
		return err
	}
	old, err := issuing.Get(tx, c.Replaces)
	if err != nil || !old.State.May(issuing.Replaced) {
		return err
	}
	return issuing.Replace(tx, old.ID, o.Card)
}

// A Band is a band or gate whose element the house manages.
type Band struct {
	ID      string
	Owner   string // customer or operator
	Adopted bool   // has keys of its own
	Placed  time.Time
	Seen    time.Time // when a session with it began last; zero: never
	Lost    time.Time // when it was reported lost; zero: it is not
}

func insertBand(tx *db.Tx, id, owner string) (fresh bool, err error) {
	n, err := tx.Exec(`INSERT INTO tsm_band (id, owner, adopted, placed, seen) VALUES ($1, $2, $3, $4, 0)
		ON CONFLICT (id) DO NOTHING`, id, owner, false, tx.Now().UnixMicro())
	return n == 1, err
}

func setAdopted(tx *db.Tx, id string) error {
	_, err := tx.Exec(`UPDATE tsm_band SET adopted = $2 WHERE id = $1`, id, true)
	return err
}

func setSeen(tx *db.Tx, id string) error {
	_, err := tx.Exec(`UPDATE tsm_band SET seen = $2 WHERE id = $1`, id, tx.Now().UnixMicro())
	return err
}

func setLost(tx *db.Tx, id string, at time.Time) error {
	lost := int64(0)
	if !at.IsZero() {
		lost = at.UnixMicro()
	}
	_, err := tx.Exec(`UPDATE tsm_band SET lost = $2 WHERE id = $1`, id, lost)
	return err
}

const bandColumns = `id, owner, adopted, placed, seen, lost`

func scanBand(scan func(...any) error) (b Band, err error) {
	var placed, seen, lost int64
	err = scan(&b.ID, &b.Owner, &b.Adopted, &placed, &seen, &lost)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrBand
	}
	b.Placed, b.Seen, b.Lost = db.Moment(placed), db.Moment(seen), db.Moment(lost)
	return b, err
}

// BandOf reads one band.
func BandOf(q db.Reader, id string) (Band, error) {
	b, err := scanBand(q.QueryRow(`SELECT `+bandColumns+` FROM tsm_band WHERE id = $1`, id).Scan)
	if err != nil {
		return Band{}, fmt.Errorf("band %s: %w", id, err)
	}
	return b, nil
}

// BandsOf reads the bands of an owner.
func BandsOf(q db.Reader, owner string) (out []Band, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		b, err := scanBand(scan)
		out = append(out, b)
		return err
	}, `SELECT `+bandColumns+` FROM tsm_band WHERE owner = $1 ORDER BY id`, owner)
	return out, err
}
