package coupon

import (
	"encoding/hex"
	"errors"
	"io"
	"time"

	"koala/calendar"
	"koala/spec/coupon"
	"koala/spec/iso7816"
	"koala/terminal"
)

// A visit is one card at the desk.
type visit struct {
	d     *Desk
	till  coupon.Till
	order Order
	o     Outcome
	stamp coupon.Stamp
	begun bool // the intent is in the store: what fails now is open

	recovered *coupon.Redemption // an operation in doubt that had been carried out
}

// A held coupon is one of the card and which of the element's discount cards,
// one per issuer, it is in.
type held struct {
	coupon.Coupon
	in int
}

// maxCards bounds the discount cards of one element.
const maxCards = 16

// serve finds the card, settles what is in doubt with it, and does what the
// cashier asked for.
func (v *visit) serve() error {
	if err := stored(v.d.shelf.Room()); err != nil {
		return err
	}
	var all []held
	holder, list, err := v.till.Open([]byte(AID))
	if err != nil {
		return because(NoCard, err)
	}
	at := 0
	for ; ; at++ {
		v.o.Holder = holder
		for _, c := range list {
			all = append(all, held{c, at})
		}
		if err := v.settle(); err != nil {
			return err
		}
		if r := v.recovered; r != nil && v.same(*r) {
			v.o.Result, v.o.Reason, v.o.Redemption = Redeemed, Recovered, r
			return nil
		}
		if at+1 == maxCards {
			break
		}
		holder, list, err = v.till.OpenNext([]byte(AID))
		if no := (coupon.Refusal{}); errors.As(err, &no) {
			break // that was the last
		} else if err != nil {
			return because(CardRefused, err)
		}
	}
	c, err := v.choose(all)
	if err == nil && c.in != at {
		err = v.turnTo(c.in)
	}
	if err != nil {
		return err
	}
	return v.redeem(c.Coupon)
}

// turnTo selects one of the discount cards again.
func (v *visit) turnTo(n int) error {
	_, _, err := v.till.Open([]byte(AID))
	for ; err == nil && n > 0; n-- {
		_, _, err = v.till.OpenNext([]byte(AID))
	}
	if err != nil {
		return because(CardRefused, err)
	}
	return nil
}

// stored is the stop for a store without room; any other error is the desk's own.
func stored(err error) error {
	if terminal.NoRoom(err) {
		return &stop{result: OutOfService, reason: StoreFull}
	}
	return err
}

// settle asks the card how operations in doubt with it ended.
func (v *visit) settle() error {
	doubts, err := v.d.Doubts()
	if err != nil {
		return err
	}
	for _, p := range doubts {
		if p.Said.Holder != v.o.Holder {
			continue
		}
		r, done, err := v.till.Settle(p)
		switch {
		case errors.Is(err, coupon.ErrForgotten):
			continue // the issuer must find out
		case errors.Is(err, coupon.ErrMAC):
			return &stop{result: Refused, reason: NotGenuine}
		case err != nil:
			return because(CardRefused, err)
		case !done:
			if err := v.d.shelf.Settle(string(p.Begin.Challenge[:])); err != nil {
				return err
			}
			continue
		}
		if _, err := v.d.shelf.Keep(r.Bytes()); err != nil {
			return err
		}
		v.recovered = &r
	}
	return nil
}

// same says whether an operation is the one asked for again.
func (v *visit) same(r coupon.Redemption) bool {
	then, err := moment(r.At)
	age := v.o.At.Sub(then)
	return err == nil && r.Op == v.order.Op && r.Fen == v.order.Fen && (v.order.Coupon == coupon.ID{} || v.order.Coupon == r.Coupon) &&
		age < v.d.cfg.Again && age > -v.d.cfg.Again
}

// choose finds the coupon the cashier named, or of this merchant's the one that
// takes most off.
func (v *visit) choose(list []held) (held, error) {
	if v.order.Coupon != (coupon.ID{}) {
		for _, c := range list {
			if c.ID == v.order.Coupon {
				return c, nil
			}
		}
		return held{}, refuse(NoCoupon)
	}
	var best *held
	why := NoCoupon
	for _, c := range list {
		sw := c.May(v.order.Op, v.order.Fen, v.stamp)
		switch {
		case c.Merchant != v.d.cfg.Merchant:
		case !sw.OK():
			why = reasonOf(sw)
		case best == nil || c.Off(v.order.Op, v.order.Fen) > best.Off(v.order.Op, v.order.Fen):
			best = &c
		}
	}
	if best == nil {
		return held{}, refuse(why)
	}
	return *best, nil
}

// redeem carries the order out. The intent is in the store before the card can
// change; what fails before that has changed nothing.
func (v *visit) redeem(c coupon.Coupon) error {
	x := coupon.Begin{Op: v.order.Op, Coupon: c.ID, Fen: v.order.Fen, At: v.stamp}
	if _, err := io.ReadFull(v.d.cfg.Rand, x.Challenge[:]); err != nil {
		return err
	}
	var device error
	r, err := v.till.Redeem(x, func(p coupon.Pending) error {
		device = v.d.shelf.Begin(p.Bytes())
		v.begun = device == nil
		return device
	})
	switch {
	case device != nil:
		return stored(device)
	case err != nil:
		return v.failed(x, err)
	}
	if _, err := v.d.shelf.Keep(r.Bytes()); err != nil {
		return err
	}
	v.o.Result, v.o.Redemption, v.o.Coupon = Redeemed, &r, c.After(x.Op)
	return nil
}

// failed ends an operation that did not come through. A card that refused the
// commit has not changed; of one that left nothing is known.
func (v *visit) failed(x coupon.Begin, err error) error {
	var refused coupon.Refusal
	switch {
	case errors.As(err, &refused) && v.begun:
		if err := v.d.shelf.Settle(string(x.Challenge[:])); err != nil {
			return err
		}
	case errors.Is(err, coupon.ErrMAC):
		return &stop{result: Refused, reason: NotGenuine}
	case errors.Is(err, coupon.ErrMerchant):
		return refuse(OtherShop)
	}
	return because(CardRefused, err)
}

// reasonOf says why a card or a coupon would refuse.
func reasonOf(sw iso7816.SW) Reason {
	switch sw {
	case coupon.SWDate:
		return NotToday
	case coupon.SWMinimum:
		return TooLittle
	case coupon.SWStamps:
		return StampsMissing
	case coupon.SWFull:
		return StampsFull
	case iso7816.SWReferenceNotFound:
		return NoCoupon
	case iso7816.SWReferenceInvalid:
		return UsedUp
	case iso7816.SWFileNotFound:
		return NoCard
	}
	return CardRefused
}

// stampOf is a moment on the desk's wall clock, Beijing.
func stampOf(t time.Time) coupon.Stamp {
	b, err := hex.DecodeString(t.In(calendar.Beijing).Format(layout))
	if err != nil || len(b) != len(coupon.Stamp{}) {
		panic("coupon: a year outside 0 to 9999")
	}
	return coupon.Stamp(b)
}

// moment reads a stamp.
func moment(s coupon.Stamp) (time.Time, error) {
	return time.ParseInLocation(layout, hex.EncodeToString(s[:]), calendar.Beijing)
}

const layout = "20060102150405"
