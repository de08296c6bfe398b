package city

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"koala/band"
	"koala/calendar"
	"koala/city/street"
	"koala/customer"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/spec/purse"
	"koala/terminal"
	"koala/transit/network"
	"koala/tsm"
	"koala/wallet"
)

// A resident is one simulated person of the demo.
type resident struct {
	l      *Live
	ctx    context.Context
	n      int
	dice   *rand.Rand
	who    string
	band   string
	card   purse.Number
	places []*network.Station
	at     *network.Station
}

// soon is when the resident acts next: people rest at night.
func (r *resident) soon(what string, atLeast, spread time.Duration, do func() error) {
	d := atLeast + time.Duration(r.dice.Int64N(int64(spread)))
	if h := r.l.clock.Now().In(calendar.Beijing).Hour(); h < 5 && what == "trip" {
		d *= 4
	}
	r.l.in(d, what, func() error {
		err := do()
		if err != nil && r.ctx.Err() == nil { // tomorrow is another trip
			r.l.in(20*time.Minute, "trip", r.trip)
			return fmt.Errorf("resident %d, %s: %w", r.n, what, err)
		}
		return err
	})
}

// join makes the resident known to the house, or finds who lived here before
// the demo was started again: record, wallet, band, card, money on the card.
func (r *resident) join() error {
	l := r.l
	if err := r.register(); err != nil {
		return fmt.Errorf("resident %d: %w", r.n, err)
	}
	var err error
	if r.band, err = l.bandFor(r.ctx, r.who, fmt.Sprintf("resident-%03d", r.n)); err != nil {
		return fmt.Errorf("resident %d: %w", r.n, err)
	}
	var order tsm.Order
	err = l.house.Store.Write(r.ctx, func(tx *db.Tx) error {
		cards, err := issuing.InBand(tx, r.band)
		for _, c := range cards {
			if !c.State.Over() {
				r.card = c.ID.Purse()
				return nil
			}
		}
		if err != nil {
			return err
		}
		c, err := issuing.Open(tx, issuing.Application{Ref: "card:" + r.band, Customer: customer.ID(r.who), Band: r.band, Product: issuing.TransitBJ})
		if err != nil {
			return err
		}
		r.card = c.ID.Purse()
		order, err = l.house.TSM.Place(tx, tsm.Request{Ref: "issue:" + r.band, Kind: tsm.Issue, Band: r.band, Card: c.ID, Customer: r.who})
		return err
	})
	if err != nil {
		return fmt.Errorf("resident %d applies: %w", r.n, err)
	}
	if err := r.finish(order.ID); err != nil {
		return err
	}
	p, err := l.pocketOf(r.band)
	if err != nil {
		return err
	}
	if p.inside {
		l.enters(r.band)
	}
	if p.fen < lowOnCard {
		return r.topUp()
	}
	r.soon("trip", time.Minute, 30*time.Minute, r.trip)
	return nil
}

func (r *resident) register() error {
	l := r.l
	login := fmt.Sprintf("resident%03d", r.n)
	err := l.house.Store.Read(r.ctx, func(q *db.Query) error {
		c, err := customer.ByLogin(q, login)
		r.who = string(c.ID)
		return err
	})
	if err == nil || !errors.Is(err, customer.ErrNotFound) {
		return err
	}
	desk := &customer.Desk{Store: l.house.Store, Seal: l.house.Keys.Seal, Salt: l.house.Config.Rand, Cost: cheapHash}
	secret := fmt.Sprintf("%016x", rand.Uint64()) // nobody logs in as a resident
	c, err := desk.Register(r.ctx, customer.Application{Login: login, Name: fmt.Sprintf("居民%d", r.n), Phone: fmt.Sprintf("137%08d", r.n), Secret: secret})
	if err != nil {
		return err
	}
	r.who = string(c.ID)
	return l.house.Store.Write(r.ctx, func(tx *db.Tx) error {
		if err := wallet.Open(tx, c.ID); err != nil {
			return err
		}
		_, err := wallet.Fund(tx, "first:"+login, c.ID, money.Fen(firstFund))
		return err
	})
}

// finish runs the band's agent until an order is over.
func (r *resident) finish(id string) error {
	l := r.l
	for range street.MaxTries {
		if err := l.street.RunAgent(r.ctx, r.band); err != nil && !street.Passing(err) {
			return fmt.Errorf("resident %d, over the air: %w", r.n, err)
		}
		if id == "" {
			return nil
		}
		var o tsm.Order
		err := l.house.Store.Read(r.ctx, func(q *db.Query) (err error) {
			o, err = tsm.OrderOf(q, id)
			return err
		})
		switch {
		case err != nil:
			return fmt.Errorf("resident %d: %w", r.n, err)
		case o.State == tsm.Done:
			l.ordered(o)
			return nil
		case o.State.Over():
			return fmt.Errorf("resident %d: order %s is %s: %s: %w", r.n, o.ID, o.State, o.Why, street.ErrHouse)
		}
	}
	return fmt.Errorf("resident %d: order %s does not end: %w", r.n, id, street.ErrHouse)
}

// topUp loads the card and goes on with the day.
func (r *resident) topUp() error {
	l := r.l
	fen := []int64{20_00, 50_00, 50_00, 100_00}[r.dice.IntN(4)]
	var order tsm.Order
	err := l.house.Store.Write(r.ctx, func(tx *db.Tx) error {
		ref := "topup:" + tx.NewID("wish")
		b, err := ledger.BalanceOf(tx, wallet.Account(customer.ID(r.who)))
		if err != nil {
			return err
		}
		if b.Available.Minor() < fen {
			if _, err := wallet.Fund(tx, ref, customer.ID(r.who), money.Fen(firstFund)); err != nil {
				return err
			}
		}
		order, err = l.house.TSM.Place(tx, tsm.Request{Ref: ref, Kind: tsm.TopUp, Band: r.band, Card: issuing.IDOf(r.card), Customer: r.who, Amount: money.Fen(fen)})
		return err
	})
	if err != nil {
		return fmt.Errorf("resident %d tops up: %w", r.n, err)
	}
	if err := r.finish(order.ID); err != nil {
		return err
	}
	r.soon("trip", 2*time.Minute, 20*time.Minute, r.trip)
	return nil
}

// trip begins a ride to one of the resident's places.
func (r *resident) trip() error {
	to := r.places[r.dice.IntN(len(r.places))]
	if to == r.at {
		r.soon("trip", 10*time.Minute, 40*time.Minute, r.trip)
		return nil
	}
	return r.tap(r.at.ID+".in", terminal.NoReason, 0, func(o street.Outcome) error {
		switch {
		case o.Result == terminal.Opened:
			route, err := r.l.house.Network.Route(r.at, to)
			if err != nil {
				return err
			}
			r.soon("leave", street.RideTime(route), 4*time.Minute, func() error { return r.leave(to) })
			return nil
		case o.Reason == terminal.MissingExit: // inside when the demo was stopped
			return r.leave(to)
		}
		return r.turned(o)
	})
}

func (r *resident) leave(to *network.Station) error {
	return r.tap(to.ID+".out", terminal.NoReason, 0, func(o street.Outcome) error {
		if o.Result != terminal.Opened && o.Reason != terminal.MissingEntry {
			return r.turned(o)
		}
		r.at = to
		if o.Result == terminal.Opened && o.Balance < lowOnCard {
			return r.topUp()
		}
		r.soon("trip", 10*time.Minute, 50*time.Minute, r.trip)
		return nil
	})
}

// turned is what a resident does whom a gate does not let through.
func (r *resident) turned(o street.Outcome) error {
	if o.Reason == terminal.NoMoney {
		return r.topUp()
	}
	r.soon("trip", 20*time.Minute, 40*time.Minute, r.trip)
	return nil
}

// tap holds the band to a reader, now and then too short.
func (r *resident) tap(reader string, what terminal.Reason, n int, then func(street.Outcome) error) error {
	opt := street.Options{Repair: what}
	if n == 0 && r.dice.IntN(60) == 0 {
		opt.Fault = band.Fault{Lose: 1 + r.dice.IntN(9)}
	}
	o, err := r.l.street.Tap(r.ctx, r.band, reader, opt)
	if err != nil {
		return err
	}
	r.l.tapped(o)
	if o.Result == terminal.TryAgain && n < tries {
		r.l.in(3*time.Second, "tap again", func() error { return r.tap(reader, what, n+1, then) })
		return nil
	}
	return then(o)
}
