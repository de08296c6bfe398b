package street

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"

	"koala/acquiring"
	"koala/spec/coupon"
	"koala/spec/desfire"
	"koala/spec/iso7816"
	"koala/terminal"
	"koala/terminal/canteen"
	coupondesk "koala/terminal/coupon"
	"koala/terminal/door"
)

// meals is a canteen's till.
type meals struct{ *canteen.Till }

func newCanteen(a *Acceptor) (appliance, error) {
	number, err1 := octets(a.setup.TID, len(desfire.Till{}))
	menus, err2 := a.setup.packs()
	cards, err3 := a.setup.cards()
	own, err4 := a.setup.own()
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	t, err := canteen.New(canteen.Config{
		Till: desfire.Till(number), Clock: a.s.clock, Rand: a.chance(), Menus: menus, Cards: desfire.AESKey(cards, a.setup.Version), Sales: own,
		Store: a.flash[0], Menu: a.flash[1], Record: true,
	})
	return meals{t}, err
}

func (m meals) visit(_ context.Context, card iso7816.Transmit, w Wish) (Visit, error) {
	o, err := canteen.Outcome{}, error(nil)
	if w.Refund {
		o, err = m.Refund(card, uint32(w.Fen))
	} else {
		o, err = m.Sell(card, canteen.Order{Dishes: w.Dishes, Fen: uint32(w.Fen)})
	}
	v := Visit{Meal: &o, Balance: -1, Took: o.Took, Words: [2]string{o.Words(false), o.Words(true)},
		Receipt: [2][]string{o.Display(false), o.Display(true)}, Card: string(o.Card[:])}
	switch {
	case o.Result == canteen.Served && w.Refund:
		v.End, v.Fen, v.Balance = Returned, int64(o.Fen), int64(o.Balance)
	case o.Result == canteen.Served:
		v.End, v.Fen, v.Balance = Served, int64(o.Fen), int64(o.Balance)
	case o.Result == canteen.TryAgain:
		v.End = Again
	case o.Result == canteen.OutOfService:
		v.End = Dark
	default:
		v.End, v.Balance = Refused, int64(o.Balance)
	}
	return v, err
}

func (m meals) pack() (have uint32, load func([]byte) error) { return m.Menu().Version, m.Load }

func (m meals) dialogue() []terminal.Exchange { return m.Dialogue() }
func (m meals) waiting() int                  { return m.Waiting() }
func (m meals) release(upto uint32) error     { return m.Release(upto) }

func (m meals) batch() ([]byte, error) {
	b, err := m.Batch(desfire.MaxSaleBatch)
	if err != nil {
		return nil, err
	}
	return b.Bytes()
}

func (m meals) doubts() (int, error) {
	list, err := m.Doubts()
	return len(list), err
}

// CanteenKey is the root of the keys by which the canteens open cards; false
// before one was installed.
func (s *Street) CanteenKey() (key desfire.Key, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.acceptors {
		if a.Kind == CanteenTill && a.ready.Load() {
			cards, err := a.setup.cards()
			return desfire.AESKey(cards, a.setup.Version), err == nil
		}
	}
	return key, false
}

// gateway is the reader of a door.
type gateway struct{ *door.Door }

func newDoor(a *Acceptor) (appliance, error) {
	plans, err1 := a.setup.packs()
	cards, err2 := a.setup.cards()
	own, err3 := a.setup.own()
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	d, err := door.New(door.Config{
		Door: acquiring.DoorNumber(a.setup.TID), Site: a.setup.Site, Clock: a.s.clock, Rand: a.chance(), Plans: plans,
		Reader: desfire.AESKey(cards, a.setup.Version), Credentials: own, Plan: a.flash[1], Log: a.flash[0], Record: true,
	})
	return gateway{d}, err
}

func (d gateway) visit(_ context.Context, card iso7816.Transmit, _ Wish) (Visit, error) {
	o, err := d.Tap(card)
	v := Visit{Passage: &o, Balance: -1, Took: o.Took, Words: [2]string{o.Words(false), o.Words(true)}, Card: string(o.Card[:])}
	switch o.Result {
	case terminal.Opened:
		v.End = Passed
	case terminal.TryAgain:
		v.End = Again
	case terminal.OutOfService:
		v.End = Dark
	default:
		v.End = Refused
	}
	return v, err
}

func (d gateway) pack() (have uint32, load func([]byte) error) { return d.Plan().Version, d.Load }

func (d gateway) dialogue() []terminal.Exchange { return d.Dialogue() }
func (d gateway) waiting() int                  { return d.Waiting() }
func (d gateway) release(upto uint32) error     { return d.Release(upto) }
func (d gateway) doubts() (int, error)          { return 0, nil } // a passage moves nothing on the card

func (d gateway) batch() ([]byte, error) {
	b, err := d.Batch(desfire.MaxPassageBatch)
	if err != nil {
		return nil, err
	}
	return b.Bytes()
}

// desk is a shop's coupon desk.
type desk struct{ *coupondesk.Desk }

func newDesk(a *Acceptor) (appliance, error) {
	merchant, err1 := octets(a.setup.Merchant, len(coupon.ID{}))
	own, err2 := a.setup.own()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	d, err := coupondesk.New(coupondesk.Config{
		Merchant: coupon.ID(merchant), Terminal: acquiring.TerminalID(a.setup.TID), Root: own, Clock: a.s.clock, Rand: a.chance(), Store: a.flash[0], Record: true,
	})
	return desk{d}, err
}

func (d desk) visit(_ context.Context, card iso7816.Transmit, w Wish) (Visit, error) {
	order := coupondesk.Order{Op: coupon.Redeem, Coupon: w.Coupon, Fen: uint32(w.Fen)}
	if w.Stamp {
		order.Op = coupon.GiveStamp
	}
	o, err := d.Serve(card, order)
	v := Visit{Redemption: &o, Balance: -1, Took: o.Took, Words: [2]string{o.Words(false), o.Words(true)},
		Receipt: [2][]string{o.Display(false), o.Display(true)}, Card: string(o.Holder[:])}
	switch o.Result {
	case coupondesk.Redeemed:
		v.End, v.Fen = Redeemed, int64(o.Redemption.Reduction)
	case coupondesk.TryAgain:
		v.End = Again
	case coupondesk.OutOfService:
		v.End = Dark
	default:
		v.End = Refused
	}
	return v, err
}

func (d desk) pack() (uint32, func([]byte) error) { return 0, nil } // coupons bring their own rules

func (d desk) dialogue() []terminal.Exchange { return d.Dialogue() }
func (d desk) waiting() int                  { return d.Waiting() }
func (d desk) release(upto uint32) error     { return d.Release(upto) }

func (d desk) doubts() (int, error) {
	list, err := d.Doubts()
	return len(list), err
}

func (d desk) batch() ([]byte, error) {
	first, list, err := d.Batch(acquiring.MaxBatch)
	if err != nil {
		return nil, err
	}
	out := struct {
		First uint32   `json:"first"`
		List  []string `json:"redemptions"`
	}{First: first}
	for _, r := range list {
		out.List = append(out.List, hex.EncodeToString(r.Bytes()))
	}
	return json.Marshal(out)
}
