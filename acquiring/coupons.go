package acquiring

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"koala/calendar"
	"koala/hsm"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/issuing"
	"koala/money"
	"koala/spec/coupon"
)

// A Redemption is one use of a coupon, or one stamp.
type Redemption struct {
	ID        string // rdm_…
	TID       string
	Shop      string
	Firm      string // who pays; empty: nobody here
	Coupon    coupon.ID
	Holder    coupon.ID
	Counter   uint16
	Op        coupon.Op
	Fen       int64 // the purchase
	Reduction int64 // what was taken off
	At        time.Time
	Got       time.Time
	Done      bool
	Why       Why

	number uint32
	body   []byte
}

// Fate tells whether it is paid.
func (r Redemption) Fate() Fate {
	if r.Done {
		return Booked
	}
	return Suspense
}

// CollectRedemptions takes what cards proved to a shop's coupon till: the firm
// that issued a coupon pays what it took off to the shop. A coupon's counter is
// paid once. first is the number of the first in the till's row.
func (o *Office) CollectRedemptions(ctx context.Context, tid string, first uint32, list []coupon.Redemption) (h Handed, err error) {
	if err := checkBatch(tid, first, len(list)); err != nil {
		return h, err
	}
	d, err := o.heard(ctx, tid, Coupon)
	if err != nil {
		return h, err
	}
	h.Release = before(first)
	for i, r := range list {
		number := first + uint32(i)
		res, err := o.takeRedemption(ctx, d, number, r)
		if err != nil {
			return h, fmt.Errorf("number %d of device %s: %w", number, tid, err)
		}
		h.Release, h.Results = number, append(h.Results, res)
	}
	return h, o.missing(ctx, tid, &h)
}

func (o *Office) takeRedemption(ctx context.Context, d Device, number uint32, r coupon.Redemption) (res Result, err error) {
	odd := strange{tid: d.TID, number: number, what: "redemption"}
	if odd.hash, odd.sealed, err = o.seal(ctx, r.Bytes()); err != nil {
		return res, err
	}
	merchant := Shop{ID: d.Shop}.Merchant()
	if r.Terminal != TerminalID(d.TID) || r.Merchant != merchant {
		odd.why = WhyDevice
	} else if err := o.keys.CheckRedemption(ctx, r); errors.Is(err, hsm.ErrAC) {
		odd.why = WhyMAC
	} else if err != nil {
		return res, err
	}
	err = o.store.Write(ctx, func(tx *db.Tx) error {
		if odd.why != Fine {
			res, err = keepOdd(tx, odd)
			return err
		}
		res, err = enterRedemption(tx, d, number, r, odd)
		return err
	})
	return res, err
}

func hexed(id coupon.ID) string { return hex.EncodeToString(id[:]) }

// enterRedemption keeps a verified redemption and pays it.
func enterRedemption(tx *db.Tx, d Device, number uint32, r coupon.Redemption, odd strange) (Result, error) {
	list, err := redemptions(tx, `WHERE holder = $1 AND coupon = $2 AND counter = $3`, hexed(r.Holder), hexed(r.Coupon), int64(r.Counter))
	switch {
	case err != nil:
		return Result{}, err
	case len(list) == 1 && bytes.Equal(list[0].body, r.Bytes()):
		res := Result{Number: number, ID: list[0].ID, Fate: Known, Why: list[0].Why}
		if !list[0].Done {
			res.Fate = Suspense
		}
		return res, arrived(tx, d.TID, number)
	case len(list) == 1:
		odd.why = WhyForked
		return keepOdd(tx, odd)
	}
	if err := arrived(tx, d.TID, number); err != nil {
		return Result{}, err
	}
	x := Redemption{ID: tx.NewID("rdm"), TID: d.TID, Shop: d.Shop, Coupon: r.Coupon, Holder: r.Holder, Counter: r.Counter, Op: r.Op,
		Fen: int64(r.Fen), Reduction: int64(r.Reduction), Got: tx.Now(), number: number, body: r.Bytes()}
	if x.At, err = time.ParseInLocation("20060102150405", hex.EncodeToString(r.At[:]), calendar.Beijing); err != nil {
		x.At = tx.Now()
	}
	if err := x.insert(tx); err != nil {
		return Result{}, err
	}
	if err := x.settle(tx, r.Issuer); err != nil {
		return Result{}, err
	}
	return Result{Number: number, ID: x.ID, Fate: x.Fate(), Why: x.Why}, outbox.Put(tx, outbox.Event{Name: "coupon.redeemed", Subject: x.ID,
		Data: Event{Device: x.TID, Shop: x.Shop, Fen: x.Reduction, Why: x.Why}})
}

// settle has the issuer of the coupon pay, and keeps what became of it.
func (x *Redemption) settle(tx *db.Tx, issuer coupon.ID) error {
	over, err := x.over(tx)
	if err != nil {
		return fmt.Errorf("redemption %s: %w", x.ID, err)
	}
	err = tx.QueryRow(`SELECT id FROM acquiring_firm WHERE issuer = $1`, hexed(issuer)).Scan(&x.Firm)
	switch {
	case over:
		x.Why = WhyUses
	case errors.Is(err, db.ErrNoRows) && x.Reduction > 0:
		x.Why = WhyNoFirm
	case err != nil && !errors.Is(err, db.ErrNoRows):
		return err
	default:
		ref := fmt.Sprintf("coupon:%s:%s:%d", hexed(x.Holder), hexed(x.Coupon), x.Counter)
		x.Why, err = post(tx, ref, KindRedemption, "coupon redeemed", x.Shop, Funding(x.Firm), x.Reduction, x.At)
		if err != nil {
			return fmt.Errorf("redemption %s: %w", x.ID, err)
		}
		if x.Why == WhyShort {
			x.Why = WhyFirm
		}
	}
	x.Done = x.Why == Fine
	_, err = tx.Exec(`UPDATE acquiring_redemption SET firm = $2, done = $3, why = $4 WHERE id = $1`, x.ID, x.Firm, x.Done, x.Why)
	return err
}

// over tells whether a redemption takes a use that another card of the same coupon
// has taken already. One card alone cannot, the card itself sees to that; but after
// a loss what the old one did may come in late, when the new one has been used.
func (x Redemption) over(tx *db.Tx) (bool, error) {
	if x.Op != coupon.Redeem {
		return false, nil
	}
	id, err := issuing.CouponCard(tx, x.Coupon)
	if errors.Is(err, issuing.ErrNotFound) {
		return false, nil // not a coupon of this house, or one from before moves were counted
	}
	if err != nil {
		return false, err
	}
	g, err := issuing.GrantOf(tx, id)
	if err != nil || len(g.Cards) < 2 {
		return false, err
	}
	taken, round := 0, uint32(g.Data.Needed)+1
	for _, c := range g.Cards {
		list, err := redemptions(tx, `WHERE coupon = $1 AND op = $2 AND id <> $3 AND why <> $4`,
			hexed(issuing.CouponID("coupon", string(c.ID))), byte(coupon.Redeem), x.ID, string(WhyUses))
		if err != nil {
			return false, err
		}
		for _, r := range list {
			if taken++; round > 1 && uint32(r.Counter)/round == uint32(x.Counter)/round {
				return true, nil // the reward for the same stamps
			}
		}
	}
	return taken >= int(g.Data.Uses), nil
}

// Used is how far a coupon card has been used, as its redemptions prove: all its
// redemptions and stamps, those it began with included. A proof of a later one
// proves the ones before, handed in or not.
func Used(q db.Reader, c issuing.Card) (used uint16, err error) {
	var last int64
	err = q.QueryRow(`SELECT COALESCE(MAX(counter), -1) FROM acquiring_redemption WHERE holder = $1 AND coupon = $2`,
		hexed(issuing.CouponID("holder", c.Band)), hexed(issuing.CouponID("coupon", string(c.ID)))).Scan(&last)
	return max(c.Carry.Used, uint16(min(last+1, 0xFFFF))), err
}

// CarryOf is what a coupon card takes along to the one made in its place: how far
// it was used, with what came in late of the cards before it.
func CarryOf(q db.Reader, card issuing.CardID) (k issuing.Carry, err error) {
	k.Spent = money.Fen(0)
	g, err := issuing.GrantOf(q, card)
	sum := 0
	for _, c := range g.Cards {
		var used uint16
		if err == nil {
			used, err = Used(q, c)
		}
		sum += int(used - c.Carry.Used)
		k.Used = max(k.Used, used)
	}
	if g.Data.Needed == 0 { // each was a use; of stamps the furthest counts
		k.Used = uint16(min(sum, 0xFFFF))
	}
	return k, err
}

func (x Redemption) insert(tx *db.Tx) error {
	_, err := tx.Exec(`INSERT INTO acquiring_redemption (holder, coupon, counter, id, tid, number, shop, firm, op, fen, reduction, at, got, body, done, why)
		VALUES ($1, $2, $3, $4, $5, $6, $7, '', $8, $9, $10, $11, $12, $13, $14, '')`,
		hexed(x.Holder), hexed(x.Coupon), int64(x.Counter), x.ID, x.TID, int64(x.number), x.Shop, byte(x.Op), x.Fen, x.Reduction,
		micros(x.At), micros(x.Got), x.body, false)
	return err
}

func redemptions(q db.Reader, where string, args ...any) (out []Redemption, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var x Redemption
		var at, got, number, op int64
		err := scan(&x.ID, &x.TID, &number, &x.Shop, &x.Firm, &op, &x.Fen, &x.Reduction, &at, &got, &x.body, &x.Done, &x.Why)
		x.number, x.Op, x.At, x.Got = uint32(number), coupon.Op(op), db.Moment(at), db.Moment(got)
		if r, bad := coupon.ParseRedemption(x.body); err == nil && bad == nil {
			x.Coupon, x.Holder, x.Counter = r.Coupon, r.Holder, r.Counter
		}
		out = append(out, x)
		return err
	}, `SELECT id, tid, number, shop, firm, op, fen, reduction, at, got, body, done, why FROM acquiring_redemption `+where, args...)
	return out, err
}

// issuerOf is who the redemption says pays.
func (x Redemption) issuerOf() coupon.ID {
	r, err := coupon.ParseRedemption(x.body)
	if err != nil {
		return coupon.ID{}
	}
	return r.Issuer
}
