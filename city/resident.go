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
	"koala/terminal/canteen"
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

	cash, meals issuing.CardID // empty: has none
	works       bool           // at the office tower
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

// arrive is join, again and again until it succeeds: a house that is busy, or a
// line that broke, keeps nobody out of the city.
func (r *resident) arrive() error {
	err := r.join()
	if err != nil && r.ctx.Err() == nil {
		r.l.in(5*time.Minute, "join", r.arrive)
	}
	return err
}

// join makes the resident known to the house, or finds who lived here before
// the demo was started again: record, wallet, band, card, money on the card.
func (r *resident) join() error {
	l := r.l
	if err := r.register(); err != nil {
		return fmt.Errorf("resident %d: %w", r.n, err)
	}
	l.mu.Lock()
	l.payers = append(l.payers, customer.ID(r.who))
	l.mu.Unlock()
	var err error
	if r.band, err = l.bandFor(r.ctx, r.who, fmt.Sprintf("resident-%03d", r.n)); err != nil {
		return fmt.Errorf("resident %d: %w", r.n, err)
	}
	id, err := r.have(issuing.TransitBJ)
	if err != nil {
		return err
	}
	r.card = id.Purse()
	if err := r.collectCards(); err != nil {
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

// have gives the resident's card of a product: the one in the band, or a new
// one written over the air.
func (r *resident) have(product string) (id issuing.CardID, err error) {
	l := r.l
	var there bool
	err = l.house.Store.Read(r.ctx, func(q *db.Query) error {
		cards, err := issuing.InBand(q, r.band)
		for _, c := range cards {
			if c.Product == product {
				id, there = c.ID, c.State != issuing.Ordered
			}
		}
		return err
	})
	if err != nil || there {
		return id, err
	}
	a := issuing.Application{Ref: "card:" + r.band, Customer: customer.ID(r.who), Band: r.band, Product: product}
	ref := "issue:" + r.band
	if product != issuing.TransitBJ {
		a.Ref, ref = a.Ref+":"+product, ref+":"+product
	}
	if product == issuing.ECashCard && id == "" {
		n, err := l.house.Bank.Number(r.ctx, product)
		if err != nil {
			return id, err
		}
		a.PAN = &n
	}
	var order tsm.Order
	err = l.house.Store.Write(r.ctx, func(tx *db.Tx) error {
		if id == "" {
			c, err := issuing.Open(tx, a)
			if err != nil {
				return err
			}
			id = c.ID
		}
		order, err = l.house.TSM.Place(tx, tsm.Request{Ref: ref, Kind: tsm.Issue, Band: r.band, Card: id, Customer: r.who})
		return err
	})
	if err != nil {
		return id, fmt.Errorf("resident %d applies for %s: %w", r.n, product, err)
	}
	return id, r.finish(order.ID)
}

// collectCards gives some residents more cards: e-cash with money on it, those
// who work at the office tower a canteen card and a pass, others a coupon.
func (r *resident) collectCards() (err error) {
	if r.n%4 == 0 {
		if r.cash, err = r.have(issuing.ECashCard); err != nil {
			return err
		}
	}
	if r.works = r.n%5 == 0; r.works {
		if r.meals, err = r.have(street.CanteenCard); err != nil {
			return err
		}
		pass, err := r.have(street.DoorCard)
		if err != nil {
			return err
		}
		if err := r.l.admit(r.ctx, pass); err != nil {
			return err
		}
	}
	if r.n%6 == 1 {
		_, err = r.have(street.BakeryCoupon)
	}
	return err
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

// topUp loads the transit card and goes on with the day.
func (r *resident) topUp() error {
	fen := []int64{20_00, 50_00, 50_00, 100_00}[r.dice.IntN(4)]
	if err := r.load(issuing.IDOf(r.card), fen); err != nil {
		return err
	}
	r.soon("trip", 2*time.Minute, 20*time.Minute, r.trip)
	return nil
}

// load puts money onto a card over the air; the wallet is filled from the bank
// when it is short.
func (r *resident) load(card issuing.CardID, fen int64) error {
	l := r.l
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
		order, err = l.house.TSM.Place(tx, tsm.Request{Ref: ref, Kind: tsm.TopUp, Band: r.band, Card: card, Customer: r.who, Amount: money.Fen(fen)})
		return err
	})
	if err != nil {
		return fmt.Errorf("resident %d tops up: %w", r.n, err)
	}
	return r.finish(order.ID)
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
		r.soon("errand", 2*time.Minute, 10*time.Minute, r.errand)
		return nil
	})
}

// errand is what a resident does on foot before the next ride.
func (r *resident) errand() error {
	defer r.soon("trip", 10*time.Minute, 40*time.Minute, r.trip)
	if err := r.move(); err != nil {
		return err
	}
	hour := r.l.clock.Now().In(calendar.Beijing).Hour()
	switch {
	case r.works && r.dice.IntN(2) == 0:
		if err := r.visit("kesi.lobby", street.Wish{}); err != nil {
			return err
		}
		if hour >= 10 && hour < 20 {
			return r.eat()
		}
		return nil
	case r.cash != "":
		return r.shop()
	case r.n%6 == 1:
		return r.visit("maixiao.coupon", street.Wish{Fen: uint64(20_00 + r.dice.IntN(30_00))})
	}
	return nil
}

// move walks, or at night sleeps, and lets the band hand over what it counted.
func (r *resident) move() error {
	now := r.l.clock.Now()
	steps, nap := uint32(300+r.dice.IntN(2500)), byte(20+r.dice.IntN(40))
	err := r.l.street.Change(r.band, func(b *band.Band) error {
		if h := now.In(calendar.Beijing).Hour(); h < 6 || h == 23 {
			b.Sleep(now, nap)
		} else {
			b.Walk(now, steps)
		}
		return nil
	})
	if err != nil || r.dice.IntN(4) > 0 {
		return err
	}
	return r.l.street.Tend(r.ctx, r.band)
}

// shop buys something at a till; who has not enough on the card tops it up.
func (r *resident) shop() error {
	tills := []string{"haolin.till", "maixiao.till", "sanwei.till", "tongan.till"}
	fen := uint64(3_00 + r.dice.IntN(40_00))
	id := tills[r.dice.IntN(len(tills))]
	w, err := r.worth(r.cash)
	if err != nil {
		return err
	}
	if w < int64(fen) {
		if err := r.load(r.cash, 100_00); err != nil {
			return err
		}
	}
	return r.visit(id, street.Wish{Fen: fen})
}

// eat has what the canteen serves.
func (r *resident) eat() error {
	w, err := r.worth(r.meals)
	if err != nil {
		return err
	}
	if w < 30_00 {
		if err := r.load(r.meals, 100_00); err != nil {
			return err
		}
	}
	return r.visit("kesi.canteen", street.Wish{Dishes: []byte{1, byte(2 + r.dice.IntN(2))}})
}

// worth is what a card of the band holds.
func (r *resident) worth(id issuing.CardID) (fen int64, err error) {
	var card issuing.Card
	err = r.l.house.Store.Read(r.ctx, func(q *db.Query) (err error) {
		card, err = issuing.Get(q, id)
		return err
	})
	if err != nil {
		return 0, err
	}
	err = r.l.street.Look(r.band, func(b *band.Band) error {
		all, err := r.l.balances(b, []issuing.Card{card})
		fen = all[id]
		return err
	})
	return fen, err
}

// visit holds the band to a device, now and then too short, until it is served.
func (r *resident) visit(id string, w street.Wish) error {
	for n := range tries {
		var opt street.Options
		if n == 0 && r.dice.IntN(30) == 0 {
			opt.Fault = band.Fault{Lose: 1 + r.dice.IntN(9)}
		}
		v, err := r.l.street.Present(r.ctx, r.band, id, w, opt)
		if errors.Is(err, canteen.ErrDish) {
			return nil // the meal is over
		}
		if err != nil {
			return err
		}
		if r.l.visited(v); v.End != street.Again && v.End != street.Dark {
			return nil
		}
	}
	return nil
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
