package desk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"koala/acquiring"
	"koala/customer"
	"koala/internal/db"
	"koala/issuing"
	"koala/issuing/rule"
	"koala/money"
	"koala/transit"
	"koala/tsm"
	"koala/web"
	"koala/web/wearer"
)

// losses is wearer.Losses over tsm and issuing.
type losses struct {
	store *db.Store
	tsm   *tsm.Manager
}

// NewLosses is what becomes of a lost band's cards and of the money on them.
func NewLosses(store *db.Store, m *tsm.Manager) wearer.Losses { return losses{store, m} }

// bandOf is the band a person's new cards go into: the newest that is not lost.
func bandOf(q db.Reader, who string) (string, error) {
	bands, err := tsm.BandsOf(q, who)
	if err != nil {
		return "", err
	}
	var newest tsm.Band
	for _, b := range bands {
		if b.Lost.IsZero() && (newest.ID == "" || b.Placed.After(newest.Placed)) {
			newest = b
		}
	}
	if newest.ID == "" {
		return "", tsm.ErrBand
	}
	return newest.ID, nil
}

// lostBand is the band that was reported lost last; an empty one for none.
func lostBand(q db.Reader, who string) (lost tsm.Band, err error) {
	bands, err := tsm.BandsOf(q, who)
	for _, b := range bands {
		if b.Lost.After(lost.Lost) {
			lost = b
		}
	}
	return lost, err
}

// heirOf is the card made in place of another.
func heirOf(cards []issuing.Card, old issuing.CardID) (issuing.Card, bool) {
	i := slices.IndexFunc(cards, func(c issuing.Card) bool {
		return c.Replaces == old && c.State != issuing.Abandoned && c.State != issuing.Closed
	})
	if i < 0 {
		return issuing.Card{}, false
	}
	return cards[i], true
}

// Loss tells how far the loss is, and the rule for its money in any case. It is over when nothing of the band waits any
// more: each card was given up, or its heir works and its money has gone. When only money still waits, Money says since
// when it may follow. A band on which no card ever lived is over with the next band.
func (l losses) Loss(ctx context.Context, who string) (loss wearer.Loss, lost bool, err error) {
	err = l.store.Read(ctx, func(q *db.Query) error {
		band, err := lostBand(q, who)
		if err != nil {
			return err
		}
		cards, err := issuing.OfCustomer(q, customer.ID(who))
		if err != nil {
			return err
		}
		if band.ID == "" {
			loss.Rule, err = l.rule(q, cards)
			return err
		}
		loss = wearer.Loss{Band: band.ID, At: band.Lost}
		var open, lived bool
		for _, c := range cards {
			if c.Band != band.ID || c.Suspended.IsZero() {
				continue
			}
			x, waits, err := l.lostCard(q, c, cards, &loss)
			if err != nil {
				return err
			}
			loss.Cards = append(loss.Cards, x)
			open, lived = open || waits, lived || c.State != issuing.Ordered && c.State != issuing.Personalising
			if x.New != nil && !x.Due.IsZero() && x.Fen > 0 && x.Due.After(loss.Money) {
				loss.Money = x.Due
			}
		}
		if lost = open || !loss.Money.IsZero(); open {
			loss.Money = time.Time{} // cards first
		}
		if !lost && !lived {
			if _, none := bandOf(q, who); errors.Is(none, tsm.ErrBand) {
				lost = true
			}
		}
		if loss.Rule.Empty() {
			loss.Rule, err = l.rule(q, cards)
		}
		return err
	})
	if err != nil {
		return loss, false, fmt.Errorf("loss of %s: %w", who, err)
	}
	return loss, lost, nil
}

// rule prints the waiting time where no card has a claim of its own.
func (l losses) rule(q db.Reader, cards []issuing.Card) (web.Text, error) {
	if len(cards) == 0 {
		return web.Text{}, nil
	}
	r, err := rule.On(q, string(cards[0].ID), cards[0].Product, rule.Claim, l.store.Now())
	return words.ClaimRule.F(r.Value), err
}

// lostCard tells what becomes of one card, and whether it waits itself: a living one to be moved or found, the one in its
// place to be written. Its money waits as long as Due is set.
func (l losses) lostCard(q *db.Query, c issuing.Card, all []issuing.Card, loss *wearer.Loss) (x wearer.LostCard, waits bool, err error) {
	if x.Card, err = cardOf(q, c, l.store.Now()); err != nil {
		return x, false, err
	}
	waits = c.State == issuing.Active || c.State == issuing.Blocked || c.State == issuing.Closing
	x.Claim, x.Fen = words.NoClaim, c.Known.Balance.Minor()
	claim, err := issuing.ClaimOf(q, c.ID)
	switch {
	case errors.Is(err, issuing.ErrNoClaim):
		err = nil
	case err != nil:
		return x, waits, err
	default:
		loss.Rule = words.ClaimRule.F(claim.Rule.Value)
		if x.Card.Worth() {
			l.claimed(&x, claim)
		}
	}
	heir, has := heirOf(all, c.ID)
	if !has {
		return x, waits, err
	}
	loss.Next, x.Mine = heir.Band, false
	card, err := cardOf(q, heir, l.store.Now())
	if err != nil {
		return x, waits, err
	}
	x.New = &card
	if claim.State == issuing.ClaimWaiting && x.Card.Worth() && x.Fen > 0 {
		x.Carried = append(x.Carried, web.Fact{Name: words.Moving, Value: web.Yuan(x.Fen)})
	}
	if !card.Was.Empty() {
		x.Carried = append(x.Carried, web.Fact{Name: words.CarriedName, Show: web.Say(card.Was)})
	}
	waits = heir.State == issuing.Ordered || heir.State == issuing.Personalising
	x.Order, err = issueOf(q, heir.ID)
	return x, waits, err
}

// claimed says where the claim for a card's money stands.
func (l losses) claimed(x *wearer.LostCard, k issuing.Claim) {
	switch k.State {
	case issuing.ClaimPaid:
		x.Claim, x.Tone, x.Fen = words.ClaimPaid, web.Good, k.Fen.Minor()
	case issuing.ClaimWithdrawn:
		x.Claim = words.ClaimWithdrawn
	default:
		x.Claim, x.Tone, x.Due = words.ClaimWaiting, web.Info, k.Due
		if x.Mine = !l.store.Now().Before(k.Due); x.Mine {
			x.Claim = words.ClaimDue
		}
	}
}

// issueOf is the order that writes a card.
func issueOf(q *db.Query, card issuing.CardID) (*wearer.Order, error) {
	list, err := tsm.Orders(q, tsm.Filter{Card: card, Limit: 20})
	for _, o := range list {
		if o.Kind == tsm.Issue {
			out := orderOf(o)
			return &out, err
		}
	}
	return nil, err
}

// Report suspends the band's cards in one unit.
func (l losses) Report(ctx context.Context, who string) error {
	return l.change(ctx, func(tx *db.Tx) error {
		band, err := bandOf(tx, who)
		if err != nil {
			return err
		}
		_, err = l.tsm.Suspend(tx, band)
		return err
	})
}

// Withdraw takes a band back that was found.
func (l losses) Withdraw(ctx context.Context, who string) error {
	return l.change(ctx, func(tx *db.Tx) error {
		band, err := lostBand(tx, who)
		if err == nil && band.ID == "" {
			err = wearer.ErrNoLoss
		}
		if err != nil {
			return err
		}
		_, err = l.tsm.Restore(tx, band.ID)
		return err
	})
}

func (l losses) change(ctx context.Context, act func(*db.Tx) error) error {
	if err := l.store.Write(ctx, act); err != nil {
		return fmt.Errorf("lost band: %w", err)
	}
	return nil
}

// Move orders every card anew for band.
func (l losses) Move(ctx context.Context, who, _, band string) error {
	var old tsm.Band
	err := l.store.Read(ctx, func(q *db.Query) (err error) {
		if old, err = lostBand(q, who); err != nil {
			return err
		}
		if old.ID == "" {
			return wearer.ErrNoLoss
		}
		return nil
	})
	if err == nil {
		_, err = l.tsm.MoveTo(ctx, old.ID, band, l.carry)
	}
	if err != nil {
		return fmt.Errorf("moving from a lost band: %w", err)
	}
	return nil
}

// carry is what a card of any kind takes along beside its money: a transit card the
// rides and the rebate total of its month, a coupon how far it was used.
func (l losses) carry(q db.Reader, c issuing.Card) (issuing.Carry, error) {
	switch c.Kind {
	case issuing.Transit:
		return transit.CarryOf(q, c.ID.Purse(), l.store.Now())
	case issuing.Coupon:
		return acquiring.CarryOf(q, c.ID)
	}
	return issuing.Carry{Spent: money.Fen(0)}, nil
}

// Claim pays a lost card's money to the wallet once it is due.
func (l losses) Claim(ctx context.Context, who string, card issuing.CardID) error {
	return l.change(ctx, func(tx *db.Tx) error {
		c, err := issuing.Get(tx, card)
		if err == nil && string(c.Customer) != who {
			err = wearer.ErrNoCard
		}
		if err != nil {
			return err
		}
		_, err = issuing.Refund(tx, card)
		return err
	})
}
