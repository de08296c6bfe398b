package city

import (
	"fmt"
	"time"

	"koala/calendar"
	"koala/city/foreign"
	"koala/city/market"
	"koala/city/street"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/issuing"
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
	r.planShopping(day)
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
	if err := r.report(); err != nil {
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
	if r.more.cash != "" {
		for _, after := range []time.Duration{5 * time.Minute, 4 * time.Hour} {
			s.in(after, "finder shops", func() error {
				return r.present("tongan.till", street.Wish{Fen: 5_00}, 0, func(street.Visit) error { return nil })
			})
		}
	}
	s.in(2*time.Minute, "finder", thief)
	s.in(5*time.Hour, "finder", thief)
	s.in(7*time.Hour, "found", func() error { return r.fetch(nil) })
	return nil
}

// report has the house refuse every card of the band, and block them when it is
// seen again.
func (r *rider) report() error {
	s := r.s
	var blocks []tsm.Order
	err := s.write(func(tx *db.Tx) (err error) {
		blocks, err = s.house.TSM.Suspend(tx, r.band)
		return err
	})
	if err != nil {
		return fmt.Errorf("rider %d reports the loss: %w", r.n, err)
	}
	for _, o := range blocks {
		r.orders = append(r.orders, o.ID)
	}
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

// openMarket makes the shops that take cards online, with the faults that the
// city has.
func (s *sim) openMarket() (err error) {
	s.market, err = market.New(market.Config{Clock: s.clock, Rand: street.Chance(s.cfg.Seed, clock.Random), Hosts: true, Faults: market.Faults{
		Line: func() market.LineFault {
			if !s.rolls(s.rate.wire) {
				return market.Delivered
			}
			return market.LineFault(1 + s.dice.IntN(int(market.Noise)))
		},
		Power: func() int {
			if !s.rolls(s.rate.power) {
				return 0
			}
			return 1 + s.dice.IntN(12)
		},
		Host: func() foreign.Fault {
			if !s.rolls(s.rate.wire) {
				return foreign.None
			}
			return hostFaults[s.dice.IntN(len(hostFaults))]
		},
		Paper: func() market.PaperFault {
			if !s.rolls(s.rate.paper) {
				return market.AsItIs
			}
			return market.PaperFault(1 + s.dice.IntN(int(market.WrongAmount)))
		},
		Bank: func() market.BankFault {
			if !s.rolls(4 * s.rate.paper) {
				return market.Carried
			}
			return market.BankFault(1 + s.dice.IntN(int(market.Bounced)))
		},
		Code: func() market.CodeFault {
			if !s.rolls(4 * s.rate.wire) {
				return market.Fresh
			}
			return market.CodeFault(1 + s.dice.IntN(int(market.Invented)))
		},
		Note: s.inject,
	}})
	return err
}

// hostFaults are what an institution's host does. A slow one would take the
// city's own time.
var hostFaults = []foreign.Fault{foreign.Deaf, foreign.Silent, foreign.OtherAmount, foreign.OtherTrace, foreign.WrongMAC, foreign.Garbage, foreign.Turncoat}

// planMarket lays out a day of the shops: who comes to them, when their tills
// close, and the night on which files and statements are compared.
func (s *sim) planMarket(morning time.Time) {
	for range 1 + s.cfg.People/6 {
		at := morning.Add(4*time.Hour + time.Duration(s.dice.Int64N(int64(17*time.Hour))))
		s.at(at, "trade", s.trade)
	}
	for _, sh := range s.market.Shops() {
		if sh.Closes == 0 {
			continue // its sales are its own at the cut-off
		}
		at := morning.Add(time.Duration((sh.Closes - 4.5) * float64(time.Hour)))
		if sh.Closes < 4.5 {
			at = at.Add(24 * time.Hour)
		}
		for _, t := range sh.Tills {
			s.at(at, "closing time", func() error { return s.closeTill(t.ID, 0) })
		}
	}
	s.at(morning.Add(12*time.Hour), "paid at once", func() error { return s.market.PayNow(s.ctx) })
	day := calendar.Of(morning, calendar.Beijing)
	s.at(morning.Add(22*time.Hour), "night", func() error {
		if err := s.market.Night(s.ctx, day); err != nil {
			return err
		}
		return s.market.Quarrel(s.ctx)
	})
}

// trade is one visit: by somebody with a card of another institution, by a rider
// with a debit or e-cash card on the band, or by one who shows a payment code.
func (s *sim) trade() error {
	who := market.Shopper{Fault: s.contact}
	var r *rider
	if s.dice.IntN(3) > 0 {
		r = s.people[s.dice.IntN(len(s.people))]
		who.Band, who.Most = r.band, int64(5_00+s.dice.IntN(25_00))
		switch ready := r.joined && !r.busy && !r.lost; {
		case r.joined && s.dice.IntN(4) == 0: // the phone is not the band: it pays, whatever the band does
			return s.tradeByCode(r)
		case ready && r.more.debit != "":
		case ready && r.more.cash != "" && r.more.now.fen > 0:
			who.Cash, who.Most = true, min(who.Most, r.more.now.fen)
		default:
			r = nil
		}
	}
	if r == nil {
		all := s.market.Institutions()
		cards := all[s.dice.IntN(len(all))].Cards
		who = market.Shopper{Card: &cards[s.dice.IntN(len(cards))]}
	}
	out, err := s.market.Trade(s.ctx, s.dice, who)
	if err != nil && !s.transient(err) {
		return fmt.Errorf("at a shop: %w", err)
	}
	if r == nil {
		return nil
	}
	was := r.more.now.fen
	if err := r.look(); err != nil {
		return err
	}
	if who.Cash && !out.Approved {
		r.more.torn += was - r.more.now.fen
	}
	return nil
}

// tradeByCode has a rider pay out of the wallet, now and then more than there is.
func (s *sim) tradeByCode(r *rider) error {
	b, err := s.house.Book.Balance(wallet.Account(r.who))
	if err != nil {
		return fmt.Errorf("rider %d: %w", r.n, err)
	}
	who := market.Shopper{Payer: r.who, Most: int64(5_00 + s.dice.IntN(25_00))}
	if s.dice.IntN(8) > 0 {
		who.Most = min(who.Most, b.Available.Minor())
	}
	if who.Most <= 0 {
		return nil
	}
	if _, err := s.market.Trade(s.ctx, s.dice, who); err != nil && !s.transient(err) {
		return fmt.Errorf("rider %d shows a code: %w", r.n, err)
	}
	return nil
}

// closeTill settles a terminal, and again later when it does not come to its
// end.
func (s *sim) closeTill(id string, n int) error {
	_, done, err := s.market.Settle(s.ctx, id)
	if err != nil && !s.transient(err) {
		return fmt.Errorf("closing time at %s: %w", id, err)
	}
	if !done && n < maxWaits {
		s.in(5*time.Minute, "closing time again", func() error { return s.closeTill(id, n+1) })
	}
	return nil
}

// pass lets time go by while the city comes to rest.
func (s *sim) pass(d time.Duration) error {
	s.clock.Advance(d)
	if err := s.house.Tick(s.ctx); err != nil {
		return fmt.Errorf("coming to rest: %w", err)
	}
	return nil
}
