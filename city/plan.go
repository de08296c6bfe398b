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

// plan lays out a person's day: to work, perhaps somewhere at noon, home in
// the evening, perhaps out again; some by bus, and a few odd things.
func (s *sim) plan(r *rider, morning time.Time) {
	day := func(hour float64, spread time.Duration) time.Time {
		base := morning.Add(time.Duration((hour - 4.5) * float64(time.Hour)))
		return base.Add(time.Duration(s.dice.Int64N(int64(spread))))
	}
	s.at(day(6.5, 3*time.Hour), "to work", func() error { return r.trip(r.home, r.work) })
	if s.dice.IntN(10) < 3 {
		s.at(day(11.5, 2*time.Hour), "bus at noon", r.busRide)
	}
	if s.dice.IntN(20) == 0 {
		s.at(day(12, time.Hour), "in and out", func() error { return r.trip(r.work, r.work) })
	}
	s.at(day(16.5, 3*time.Hour), "home", func() error { return r.trip(r.work, r.home) })
	if s.dice.IntN(10) < 3 {
		place := s.people[s.dice.IntN(len(s.people))].work
		s.at(day(20, time.Hour), "out", func() error { return r.trip(r.home, place) })
		s.at(day(22, time.Hour), "back", func() error { return r.trip(place, r.home) })
	}
	if s.dice.IntN(1000) < s.rate.people/4 {
		s.at(day(14, time.Hour), "loses the band", r.lose)
	}
	if s.dice.IntN(1000) < s.rate.people {
		s.at(day(14.5, time.Hour), "blocks the card for fun", r.pause)
	}
	if s.dice.IntN(1000) < s.rate.people/2 {
		s.at(day(22.5, time.Hour), "gives the card back", r.giveBack)
	}
}

// trip is one ride by metro with what can be odd about it: walking out behind
// somebody, or in.
func (r *rider) trip(from, to *network.Station) error {
	s := r.s
	if r.busy || !r.joined || r.lost {
		if r.busy && !r.lost {
			s.in(10*time.Minute, "trip waits", func() error { return r.trip(from, to) })
		}
		return nil
	}
	r.busy = true
	route, err := s.house.Network.Route(from, to)
	if err != nil {
		return fmt.Errorf("rider %d: %w", r.n, err)
	}
	stay := street.RideTime(route) + time.Duration(s.dice.IntN(300))*time.Second
	switch odd := s.dice.IntN(1000); {
	case odd < s.rate.people/4: // slips out behind somebody
		s.count("walked out", 1)
		return r.enter(from, func() error { r.busy = false; return nil })
	case odd < s.rate.people/2: // slips in
		s.count("walked in", 1)
		s.in(stay, "leave", func() error { return r.leave(to, r.home1) })
		return nil
	case odd < s.rate.people/2+5: // falls asleep on the loop line
		stay += 4 * time.Hour
	}
	return r.enter(from, func() error {
		s.in(stay, "leave", func() error { return r.leave(to, r.home1) })
		return nil
	})
}

// home1 ends a trip: who has little left on the card tops up.
func (r *rider) home1() error {
	r.busy = false
	if r.s.cards[r.band].now.fen >= lowOnCard || r.lost {
		return nil
	}
	r.busy = true
	return r.topUp([]int64{20_00, 50_00, 100_00}[r.s.dice.IntN(3)], func() error { r.busy = false; return nil })
}

// busRide is a ride on one of the buses, between two of its stops. A rider
// whose metro ride is open cannot board a bus that writes the same record.
func (r *rider) busRide() error {
	s := r.s
	if r.busy || !r.joined || r.lost {
		return nil
	}
	line := s.street.Lines()[s.dice.IntN(len(s.street.Lines()))]
	n := len(line.Route.Stops)
	from := s.dice.IntN(n - 1)
	to := from + 1 + s.dice.IntN(n-1-from)
	r.busy = true
	on := line.Next(from, s.clock.Now())
	s.at(on, "board", func() error {
		return r.ride(line, from, func() error {
			if line.Route.FlatFen > 0 || s.dice.IntN(1000) < s.rate.people/2 { // a flat fare, or forgets to tap out
				return r.home1()
			}
			s.at(line.Next(to, s.clock.Now().Add(street.PerStop)), "alight", func() error { return r.ride(line, to, r.home1) })
			return nil
		})
	})
	return nil
}

// ride taps on the bus where it stands. A second try comes when the bus is
// still there: the vehicle waits for who is tapping.
func (r *rider) ride(line street.BusLine, stop int, next func() error) error {
	s := r.s
	reader, err := s.street.Reader(s.ctx, line.ID)
	if err != nil {
		if !s.transient(err) {
			return err
		}
		r.busy = false
		return nil // the validator does not work yet: a free ride
	}
	if err := reader.At(stop); err != nil {
		return err
	}
	return r.tap(line.ID, terminal.NoReason, 0, func(o street.Outcome) error {
		switch {
		case o.Result == terminal.Opened:
			s.count("bus taps", 1)
			return next()
		case o.Reason == terminal.NoMoney:
			return r.topUp(firstLoad, r.home1)
		case o.Reason == terminal.MissingExit: // the metro ride is open: walk
			r.busy = false
			return nil
		}
		return r.turnedAway(o)
	})
}

// lose is a band that falls off: its owner reports it, the card goes on the
// deny list and a block waits for it. Whoever found it tries a gate at once
// and again in the evening; at night the band is back at a phone.
func (r *rider) lose() error {
	s := r.s
	if r.busy || !r.joined || r.lost {
		return nil
	}
	r.lost = true
	s.count("lost", 1)
	if err := r.deny("lost:", purse.DenyLost); err != nil {
		return err
	}
	thief := func() error {
		return r.tap(r.work.ID+".in", terminal.NoReason, 0, func(o street.Outcome) error {
			switch {
			case o.Result == terminal.Opened:
				s.count("ridden by the finder", 1)
				return nil
			case o.Reason == terminal.NoMoney, o.Reason == terminal.MissingExit:
				return nil
			}
			return r.turnedAway(o)
		})
	}
	s.in(2*time.Minute, "finder", thief)
	s.in(5*time.Hour, "finder", thief)
	s.in(7*time.Hour, "found", func() error { return r.fetch(nil) })
	return nil
}

func (r *rider) deny(ref string, why purse.DenyReason) error {
	s := r.s
	var id string
	err := s.write(func(tx *db.Tx) error {
		if err := s.house.Transit.Books().Deny(tx, r.card, why, "reported by its owner"); err != nil {
			return err
		}
		o, err := s.house.TSM.Place(tx, tsm.Request{Ref: ref + r.band, Kind: tsm.Block, Band: r.band, Card: issuing.IDOf(r.card), Customer: string(r.who)})
		id = o.ID
		return err
	})
	if err != nil {
		return fmt.Errorf("rider %d blocks: %w", r.n, err)
	}
	r.orders = append(r.orders, id)
	return nil
}

// pause blocks the card over the air and unblocks it an hour later.
func (r *rider) pause() error {
	if r.busy || !r.joined || r.lost {
		return nil
	}
	r.busy, r.paused = true, true
	r.wishes++
	wish := r.wishes
	return r.lock(tsm.Block, wish, func() error {
		r.s.in(time.Hour, "unblock", func() error {
			return r.lock(tsm.Unblock, wish, func() error { r.busy = false; return nil })
		})
		return nil
	})
}

// giveBack ends the card: its balance and deposit go to the wallet. Taps that
// readers still keep are booked later.
func (r *rider) giveBack() error {
	if r.busy || !r.joined || r.lost {
		return nil
	}
	r.lost = true
	r.s.cards[r.band].leaving = true
	r.s.count("cards given back", 1)
	return r.lock(tsm.Delete, 1, nil)
}

func (r *rider) lock(kind tsm.Kind, wish int, then func() error) error {
	s := r.s
	var id string
	err := s.write(func(tx *db.Tx) error {
		o, err := s.house.TSM.Place(tx, tsm.Request{Ref: fmt.Sprintf("%s:%s:%d", kind, r.band, wish), Kind: kind, Band: r.band, Card: issuing.IDOf(r.card), Customer: string(r.who)})
		id = o.ID
		return err
	})
	if err != nil {
		return fmt.Errorf("rider %d, %s: %w", r.n, kind, err)
	}
	r.orders = append(r.orders, id)
	s.count(string(kind)+"s", 1)
	return r.fetch(then)
}

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
