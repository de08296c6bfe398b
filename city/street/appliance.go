package street

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"

	"koala/acquiring"
	"koala/hsm"
	"koala/spec/coupon"
	"koala/spec/desfire"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/terminal"
	"koala/terminal/canteen"
	coupondesk "koala/terminal/coupon"
	"koala/terminal/door"
	"koala/terminal/kernel"
	"koala/terminal/pos"
)

// till is a shop's till. Its line to the issuer is the devices' door.
type till struct {
	*pos.Till
	a   *Acceptor
	ctx context.Context // of the visit under way
	pin string
}

func newTill(a *Acceptor) (appliance, error) {
	t := &till{a: a, ctx: context.Background()}
	keys, err1 := a.setup.authorities()
	lists, err2 := a.setup.packs()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	var err error
	t.Till, err = pos.New(pos.Config{
		Kernel: pos.Beijing(pos.Shop{TID: a.setup.TID, MID: a.setup.MID, Name: a.Slip, Category: a.Category, Serial: a.setup.TID}, keys),
		Clock:  a.s.clock, Random: a.chance(), Key: lists, Sales: a.flash[0], Denied: a.flash[1], State: a.flash[2],
		Issuer: t.issuer, PIN: t.offlinePIN, OnlinePIN: t.onlinePIN, Record: true,
	})
	return t, err
}

// issuer asks the house. A line that fails is no host.
func (t *till) issuer(request []byte) (kernel.Answer, error) {
	a, err := t.a.s.authorise(t.ctx, t.a, request)
	if err != nil {
		return kernel.Answer{}, errors.Join(kernel.ErrNoHost, err)
	}
	return a, nil
}

func (t *till) offlinePIN(int) (string, bool) { return t.pin, t.pin != "" }

// onlinePIN is the till's PIN pad, which shares the house's zone key.
func (t *till) onlinePIN(pan string) ([]byte, bool) {
	if t.pin == "" {
		return nil, false
	}
	b, err := t.a.s.House().Keys.EncipherPIN(t.ctx, pan, t.pin)
	return b.Block[:], err == nil
}

func (t *till) visit(ctx context.Context, card iso7816.Transmit, w Wish) (Visit, error) {
	t.ctx, t.pin = ctx, w.PIN
	defer func() { t.ctx, t.pin = context.Background(), "" }()
	sale := pos.Sale{Fen: w.Fen, ForceOnline: w.Online, Chosen: w.AID}
	if w.Refund {
		sale.Type = pos.Refund
	}
	serve := t.Tap
	if w.Contact {
		serve = t.Insert
	}
	r, err := serve(card, sale)
	o := &r.Outcome
	v := Visit{Sale: &r, Balance: -1, Took: r.Took, Card: o.PAN, Words: [2]string{o.Words(false), o.Words(true)},
		Receipt: [2][]string{t.Receipt(r, false), t.Receipt(r, true)}}
	if o.Available != nil {
		v.Balance = int64(*o.Available)
	}
	switch {
	case o.Result == kernel.TryAgain:
		v.End = Again
	case o.Reason == kernel.NoRoom:
		v.End = Dark
	case o.Result != kernel.Approved:
		v.End = Refused
	case w.Refund:
		v.End, v.Fen = Returned, int64(w.Fen)
	case o.Online:
		v.End, v.Fen = Online, int64(w.Fen)
	default:
		v.End, v.Fen = Paid, int64(w.Fen)
	}
	return v, err
}

func (t *till) dialogue() []terminal.Exchange { return t.Dialogue() }
func (t *till) waiting() int                  { return t.Waiting() }
func (t *till) release(upto uint32) error     { return t.Release(upto) }

// batch closes the till's day, as often as it hands over.
func (t *till) batch() ([]byte, error) {
	if _, _, err := t.Close(); err != nil {
		return nil, err
	}
	b := t.Batch(pboc.MaxClearingBatch)
	return b.MarshalBinary()
}

func (t *till) doubts() (int, error) { return len(t.Doubts()), nil }

func (t *till) pack() (have uint32, load func([]byte) error) {
	return t.Deny().Version(), t.Deny().Apply
}

// meals is a canteen's till.
type meals struct{ *canteen.Till }

func newCanteen(a *Acceptor) (appliance, error) {
	number, err1 := octets(a.setup.TID, len(desfire.Till{}))
	menus, err2 := a.setup.packs()
	cards, err3 := a.setup.cards(hsm.TillCards)
	own, _, err4 := a.setup.key(hsm.TillSales)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	t, err := canteen.New(canteen.Config{
		Till: desfire.Till(number), Clock: a.s.clock, Rand: a.chance(), Menus: menus, Cards: cards, Sales: own,
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
			key, err := a.setup.cards(hsm.TillCards)
			return key, err == nil
		}
	}
	return key, false
}

// gateway is the reader of a door.
type gateway struct{ *door.Door }

func newDoor(a *Acceptor) (appliance, error) {
	plans, err1 := a.setup.packs()
	cards, err2 := a.setup.cards(hsm.DoorReader)
	own, _, err3 := a.setup.key(hsm.DoorHost)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	d, err := door.New(door.Config{
		Door: acquiring.DoorNumber(a.setup.TID), Site: a.setup.Site, Clock: a.s.clock, Rand: a.chance(), Plans: plans,
		Reader: cards, Credentials: own, Plan: a.flash[1], Log: a.flash[0], Record: true,
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
	own, _, err2 := a.setup.key(hsm.CouponMerchant)
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
