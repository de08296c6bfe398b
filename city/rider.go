package city

import (
	"errors"
	"fmt"
	"time"

	"koala/band"
	"koala/city/street"
	"koala/customer"
	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/spec/purse"
	"koala/terminal"
	"koala/transit/network"
	"koala/tsm"
	"koala/wallet"
)

// A rider is one person with a band. What people do is simulated; what their
// bands and the house do is not.
type rider struct {
	s          *sim
	n          int
	band       string
	who        customer.ID
	card       purse.Number
	home, work *network.Station
	inside     *network.Station // where the rider is under way from
	orders     []string         // everything asked for over the air
	wishes     int              // names of orders
	captured   int64            // fen of top-ups that the house knows to be on the card
	refunded   int64            // fen that the house gave back for the card
	joined     bool
	lost       bool // the band is in other hands, its card blocked or given back
	paused     bool // the card was blocked once: gates learn late that it is good again
	busy       bool // on the way: another trip waits
	more       belongings
}

// Money habits, fen.
const (
	firstFund = 200_00
	firstLoad = 50_00 // some begin with less
	lowOnCard = 10_00
)

// populate makes people: homes spread over the network, work nearer to its
// middle. Few people use few stations, so that gates are shared.
func (s *sim) populate() ([]*rider, error) {
	net := s.house.Network
	var stops []*network.Station
	for _, st := range net.Stations {
		if len(st.Lines) > 0 {
			stops = append(stops, st)
		}
	}
	s.dice.Shuffle(len(stops), func(i, j int) { stops[i], stops[j] = stops[j], stops[i] })
	dongdan, err := net.Find("东单")
	if err != nil {
		return nil, fmt.Errorf("populating the city: %w", err)
	}
	homes := stops[:min(len(stops)/2, 4+s.cfg.People/16)]
	works := append([]*network.Station{dongdan}, stops[len(stops)/2:][:min(len(stops)/2, 2+s.cfg.People/32)]...)
	out := make([]*rider, s.cfg.People)
	for i := range out {
		r := &rider{s: s, n: i + 1, band: fmt.Sprintf("band-%05d", i+1)}
		for r.home == nil || r.home == r.work {
			r.home, r.work = homes[s.dice.IntN(len(homes))], works[s.dice.IntN(len(works))]
		}
		out[i] = r
		s.cards[r.band] = newHistory()
	}
	return out, nil
}

// cheapHash is how many rounds a simulated person's secret is worth: nobody
// logs in as them.
const cheapHash = 1

// join is a person's first morning: a record, a wallet, a band, a card in it
// over the air, and money on the card.
func (r *rider) join() error {
	s := r.s
	if err := s.street.MakeBand(r.band); err != nil {
		return err
	}
	desk := &customer.Desk{Store: s.house.Store, Seal: s.house.Keys.Seal, Salt: s.chance, Cost: cheapHash}
	login := fmt.Sprintf("rider%05d", r.n)
	c, err := desk.Register(s.ctx, customer.Application{Login: login, Name: fmt.Sprintf("乘客%d", r.n),
		Phone: fmt.Sprintf("139%08d", r.n), Secret: fmt.Sprintf("secret-%d", r.n)})
	if err != nil && street.Passing(err) { // the commit broke: the record may be there
		s.in(time.Second, "join again", r.join)
		return r.adopt(login)
	}
	switch {
	case err == nil:
		r.who = c.ID
	case r.who == "":
		return fmt.Errorf("rider %d: %w", r.n, err)
	}
	if err := r.apply(); err != nil {
		return err
	}
	s.count("cards", 1)
	return r.fetch(nil)
}

// adopt looks whether a registration without an answer has happened.
func (r *rider) adopt(login string) error {
	return r.s.house.Store.Read(r.s.ctx, func(q *db.Query) error {
		if c, err := customer.ByLogin(q, login); err == nil {
			r.who = c.ID
		}
		return nil
	})
}

// apply opens wallet and card and asks for both over the air, in one unit.
func (r *rider) apply() error {
	s := r.s
	err := s.write(func(tx *db.Tx) error {
		if err := wallet.Open(tx, r.who); err != nil {
			return err
		}
		if _, err := wallet.Fund(tx, "first:"+r.band, r.who, money.Fen(firstFund)); err != nil {
			return err
		}
		if err := s.house.TSM.Register(tx, r.band, string(r.who)); err != nil {
			return err
		}
		c, err := issuing.Open(tx, issuing.Application{Ref: "card:" + r.band, Customer: r.who, Band: r.band, Product: issuing.TransitBJ})
		if err != nil {
			return err
		}
		o, err := s.house.TSM.Place(tx, tsm.Request{Ref: "issue:" + r.band, Kind: tsm.Issue, Band: r.band, Card: c.ID, Customer: string(r.who)})
		r.card, r.orders = c.ID.Purse(), []string{o.ID}
		return err
	})
	if err != nil {
		return fmt.Errorf("rider %d applies for a card: %w", r.n, err)
	}
	return nil
}

// maxVisits bounds how often a person comes back to the phone for one order.
const maxVisits = 60

// fetch lets the band's agent run until the last order is over, coming back
// when the contact was torn or the line lost, and then goes on.
func (r *rider) fetch(then func() error) error { return r.visit(0, then) }

func (r *rider) visit(n int, then func() error) error {
	s := r.s
	if n > maxVisits {
		return fmt.Errorf("rider %d: order %s does not end: %w", r.n, r.orders[len(r.orders)-1], ErrProof)
	}
	err := s.street.RunTorn(s.ctx, r.band, s.contact())
	if err != nil && !s.transient(err) {
		return fmt.Errorf("rider %d, over the air: %w", r.n, err)
	}
	if err := r.look(); err != nil {
		return err
	}
	o, err := r.order()
	if err != nil {
		return err
	}
	if !o.State.Over() {
		if o.Desk {
			return fmt.Errorf("rider %d: order %s waits for staff: %s: %w", r.n, o.ID, o.Why, ErrProof)
		}
		s.in(time.Minute+time.Duration(s.dice.IntN(60))*time.Second, "over the air again", func() error { return r.visit(n+1, then) })
		return nil
	}
	s.count("orders "+string(o.Kind)+" "+string(o.State), 1)
	if o.Kind == tsm.TopUp && o.State == tsm.Done {
		*r.capturedOf(o.Card) += o.Amount.Minor()
	}
	if o.Kind == tsm.Delete && o.State == tsm.Done {
		r.refunded = int64(s.cards[r.band].returned)
	}
	if err := s.checkRider(r); err != nil {
		return err
	}
	if !r.joined {
		r.joined, r.busy = true, true
		return r.topUp([]int64{firstLoad / 3, firstLoad / 2, firstLoad}[s.dice.IntN(3)], func() error { return r.collect(0) })
	}
	if then != nil {
		return then()
	}
	return nil
}

func (r *rider) order() (o tsm.Order, err error) {
	err = r.s.house.Store.Read(r.s.ctx, func(q *db.Query) error {
		o, err = tsm.OrderOf(q, r.orders[len(r.orders)-1])
		return err
	})
	return o, err
}

// topUp loads money onto the transit card over the air.
func (r *rider) topUp(fen int64, then func() error) error {
	return r.load(issuing.IDOf(r.card), fen, then)
}

// load puts money onto one of the cards; the wallet is filled from the bank when
// it is short.
func (r *rider) load(card issuing.CardID, fen int64, then func() error) error {
	s := r.s
	r.wishes++
	ref := fmt.Sprintf("topup:%s:%d", r.band, r.wishes)
	var id string
	err := s.write(func(tx *db.Tx) error {
		b, err := s.house.Book.Balance(wallet.Account(r.who))
		if err != nil {
			return err
		}
		if b.Available.Minor() < fen {
			if _, err := wallet.Fund(tx, ref, r.who, money.Fen(200_00)); err != nil {
				return err
			}
		}
		o, err := s.house.TSM.Place(tx, tsm.Request{Ref: ref, Kind: tsm.TopUp, Band: r.band, Card: card, Customer: string(r.who), Amount: money.Fen(fen)})
		id = o.ID
		return err
	})
	if err != nil {
		return fmt.Errorf("rider %d tops up: %w", r.n, err)
	}
	r.orders = append(r.orders, id)
	s.count("topups", 1)
	return r.fetch(then)
}

// look compares the element with what it was, after every contact.
func (r *rider) look() error {
	h := r.s.cards[r.band]
	err := r.s.street.Look(r.band, func(b *band.Band) error {
		s, err := shadowOf(r.s.street.Catalog(), b)
		if err != nil {
			return err
		}
		p, err := s.purse(b.ID)
		if err != nil {
			return err
		}
		return errors.Join(h.note(p), r.more.look(s, r.s.street))
	})
	if err != nil {
		return fmt.Errorf("rider %d: %w: %w", r.n, err, ErrProof)
	}
	return nil
}

// tries bounds how often a person taps at one reader in a row.
const tries = 12

// tap holds the band to a reader until the reader gives a final answer, as
// people do: "present the card again" is done at once, at the same reader.
func (r *rider) tap(reader string, what terminal.Reason, n int, then func(street.Outcome) error) error {
	s := r.s
	if n > tries {
		return fmt.Errorf("rider %d: reader %s gives no final answer: %w", r.n, reader, ErrProof)
	}
	opt := street.Options{Repair: what}
	if n < tries/2 { // nobody is torn away for ever
		opt.Fault, opt.PowerCut = s.contact(), s.darkness()
	}
	before := s.cards[r.band].now
	o, err := s.street.Tap(s.ctx, r.band, reader, opt)
	if err != nil && s.transient(err) { // a reader that cannot be installed just now
		s.in(20*time.Second, "tap again", func() error { return r.tap(reader, what, n+1, then) })
		return nil
	}
	if err != nil {
		return fmt.Errorf("rider %d: %w", r.n, err)
	}
	s.count("taps", 1)
	if err := r.look(); err != nil {
		return err
	}
	if err := s.checkTap(r, before, o); err != nil {
		return err
	}
	switch {
	case o.Result == terminal.TryAgain, o.Result == terminal.OutOfService && o.Reason != terminal.StoreFull:
		s.count("taps again", 1)
		s.in(time.Duration(2+s.dice.IntN(3))*time.Second, "tap again", func() error { return r.tap(reader, what, n+1, then) })
		return nil
	case o.Result == terminal.OutOfService:
		if _, err := s.street.Collect(s.ctx, reader); err != nil && !s.transient(err) {
			return err
		}
		s.in(time.Minute, "tap again", func() error { return r.tap(reader, what, n+1, then) })
		return nil
	}
	return then(o)
}

// enter goes in at a station and on to next; a rider who cannot stays where
// the gate left him.
func (r *rider) enter(at *network.Station, next func() error) error {
	return r.tap(at.ID+".in", terminal.NoReason, 0, func(o street.Outcome) error {
		switch {
		case o.Result == terminal.Opened:
			r.inside = at
			r.s.count("entries", 1)
			return next()
		case o.Reason == terminal.NoMoney:
			return r.topUp(firstLoad, func() error { return r.enter(at, next) })
		case o.Reason == terminal.MissingExit:
			return r.repair(at, o.Reason, func() error { return r.enter(at, next) })
		}
		return r.turnedAway(o)
	})
}

// leave goes out at a station.
func (r *rider) leave(at *network.Station, next func() error) error {
	return r.tap(at.ID+".out", terminal.NoReason, 0, func(o street.Outcome) error {
		switch {
		case o.Result == terminal.Opened:
			r.inside = nil
			r.s.count("exits", 1)
			return next()
		case o.Reason == terminal.NoMoney:
			return r.topUp(firstLoad, func() error { return r.leave(at, next) })
		case o.Reason == terminal.MissingEntry:
			return r.repair(at, o.Reason, func() error { return r.leave(at, next) })
		}
		return r.turnedAway(o)
	})
}

// repair goes to the self-service machine of the station.
func (r *rider) repair(at *network.Station, what terminal.Reason, next func() error) error {
	return r.tap(at.ID+".desk", what, 0, func(o street.Outcome) error {
		switch {
		case o.Result == terminal.Opened:
			r.s.count("repairs", 1)
			return next()
		case o.Reason == terminal.NoMoney:
			return r.topUp(firstLoad, func() error { return r.repair(at, what, next) })
		case o.Reason == terminal.NothingToDo: // it was repaired at a tap whose answer was lost
			return next()
		}
		return r.turnedAway(o)
	})
}

// turnedAway ends a trip at a gate; only a card that is or was blocked may be.
func (r *rider) turnedAway(o street.Outcome) error {
	r.busy = false
	if o.Reason == terminal.OnDenyList && (r.lost || r.paused) || o.Reason == terminal.CardBlocked && r.lost {
		r.s.count("denied", 1)
		return nil
	}
	return differs("rider %d at %s: %s, deny list: %s", r.n, o.Reader.ID, o.Outcome.Words(false), o.Deny.Words(false))
}
