// Package coupon is a shop's coupon desk: it takes a coupon of a discount card
// in, or stamps a stamp card, without a host. Its redemptions, each with the
// card's proof for whoever pays them, wait in a bounded store that survives
// power loss. A card that left during the commit is asked at its next visit
// what became of it: no coupon is used twice for one purchase. Start with
// Desk.Serve.
package coupon

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"time"

	"koala/spec/coupon"
	"koala/spec/iso7816"
	"koala/terminal"
)

// Budget is what a visit may take.
const Budget = 600 * time.Millisecond

// DefaultAgain is how long the same purchase again is the one that was torn.
const DefaultAgain = 10 * time.Minute

// AID is the name of the discount card that desks select.
const AID = "\xF0koala\x04\x10"

// A Config is a desk's. Zero durations, rate and costs take their defaults.
type Config struct {
	Merchant, Terminal coupon.ID
	Root               [16]byte // of the merchant's keys
	Clock              terminal.Clock
	Rand               io.Reader       // challenges
	Store              *terminal.Flash // at least 4 sectors

	Again  time.Duration
	Rate   terminal.Rate
	Costs  terminal.Costs
	Record bool // keep every visit's dialogue
}

// A Desk is one device. After an error wrapping terminal.ErrPower it is dead:
// give its flash power and make a new one over it.
type Desk struct {
	cfg   Config
	shelf *terminal.Shelf
	meter terminal.Meter
}

// New starts a desk over what its flash holds.
func New(cfg Config) (*Desk, error) {
	cfg.Again = cmp.Or(cfg.Again, DefaultAgain)
	shelf, err := terminal.OpenShelf(cfg.Store, longest, keyOf)
	if err != nil {
		return nil, fmt.Errorf("coupon desk %s: %w", cfg.Terminal, err)
	}
	return &Desk{cfg: cfg, shelf: shelf, meter: terminal.NewMeter(cfg.Rate, cfg.Costs, costs(), cfg.Record)}, nil
}

// longest is a pending operation's length, bytes: op, data of BEGIN, its answer
// and the coupon. A redemption is shorter.
const longest = 1 + 35 + 23 + coupon.Len

// keyOf names an operation by the desk's challenge, which is never used twice.
func keyOf(wire []byte) (string, error) {
	if len(wire) == coupon.RedemptionLen {
		r, err := coupon.ParseRedemption(wire)
		return string(r.Challenge[:]), err
	}
	p, err := coupon.ParsePending(wire)
	return string(p.Begin.Challenge[:]), err
}

// costs is what a card computes and writes: session key and MACs; a commit writes
// journal, coupon and proof. Parameters of the model, as in package terminal.
func costs() terminal.Costs {
	return terminal.AESCosts(map[byte]terminal.Work{
		coupon.InsBegin: {Blocks: 2}, coupon.InsCommit: {Blocks: 24, Pages: 5}, coupon.InsProve: {Blocks: 8},
	})
}

// Dialogue is the last visit's, if the Config asked to keep it.
func (d *Desk) Dialogue() []terminal.Exchange { return d.meter.Dialogue }

// Waiting is the number of redemptions not released yet.
func (d *Desk) Waiting() int { return d.shelf.Waiting() }

// Batch is the oldest redemptions, at most limit, and the number of the first
// in the desk's own row 1, 2, 3, …. They stay until Release.
func (d *Desk) Batch(limit int) (first uint32, list []coupon.Redemption, err error) {
	if first, list, err = terminal.ReadBatch(d.shelf, limit, coupon.ParseRedemption); err != nil {
		return 0, nil, fmt.Errorf("coupon desk %s: %w", d.cfg.Terminal, err)
	}
	return first, list, nil
}

// Release forgets the redemptions up to and including a number.
func (d *Desk) Release(upto uint32) error { return d.shelf.Release(upto) }

// Doubts are the operations whose end is not known: the card has not come back.
func (d *Desk) Doubts() ([]coupon.Pending, error) {
	list, err := terminal.ReadUnsettled(d.shelf, coupon.ParsePending)
	if err != nil {
		return nil, fmt.Errorf("coupon desk %s: %w", d.cfg.Terminal, err)
	}
	return list, nil
}

// An Order is what the cashier keys in.
type Order struct {
	Op     coupon.Op
	Coupon coupon.ID // zero: of this merchant's the one that takes most off
	Fen    uint32    // price of the purchase
}

// Serve carries an order out on a card. The error is for the device, never for
// the card: after terminal.ErrPower the desk is dead.
func (d *Desk) Serve(card iso7816.Transmit, order Order) (Outcome, error) {
	now := d.cfg.Clock.Now()
	v := &visit{d: d, o: Outcome{At: now, Op: order.Op}, order: order, stamp: stampOf(now),
		till: coupon.Till{Merchant: d.cfg.Merchant, Terminal: d.cfg.Terminal, Root: d.cfg.Root, Send: terminal.Complete(d.meter.Tap(card))}}
	err := v.serve()
	v.o.Took = d.meter.Took
	var s *stop
	switch {
	case errors.As(err, &s):
		v.o.Result, v.o.Reason, v.o.SW = s.result, s.reason, s.sw
	case err != nil:
		v.o.Result = OutOfService
		return v.o, fmt.Errorf("coupon desk %s: %w", d.cfg.Terminal, err)
	}
	return v.o, nil
}
