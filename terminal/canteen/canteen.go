// Package canteen is the till of a canteen: it takes a meal's price from the
// value file of a DESFire card and writes the card's log in the same commit,
// without a host. Its sales, each under the till's MAC, wait in a bounded store
// that survives power loss. A card that left during the commit is asked at its
// next tap, at its value and log, whether it paid: nobody is charged twice. Start
// with Till.Sell.
package canteen

import (
	"cmp"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"koala/spec/desfire"
	"koala/spec/iso7816"
	"koala/terminal"
)

// Budget is what a sale may take: the queue's patience.
const Budget = 600 * time.Millisecond

// Defaults of a Config.
const (
	DefaultAgain  = 3 * time.Minute
	DefaultRefund = 30 * time.Minute
)

var (
	// ErrDish says that the meal being served has no such dish.
	ErrDish = errors.New("canteen: no such dish in this meal")
	// ErrSale says that no sale with that number is in doubt.
	ErrSale = errors.New("canteen: no such sale in doubt")
)

// A Config is a till's. Zero durations, rate and costs take their defaults.
type Config struct {
	Till  desfire.Till
	Clock terminal.Clock
	Rand  io.Reader
	Menus ed25519.PublicKey // signs menus

	Cards desfire.Key // the tills' master key; each card's is derived from it
	Sales [16]byte    // the till's own key, desfire.Till.Key

	Store, Menu *terminal.Flash // sales at least 4 sectors, the menu 2

	Again  time.Duration // the same order again within it is the same sale, when that one was in doubt
	Refund time.Duration // how long a purchase can be given back

	Rate   terminal.Rate
	Costs  terminal.Costs
	Record bool // keep every tap's dialogue
}

// A Till is one device. After an error wrapping terminal.ErrPower it is dead:
// give its flash power and make a new one over it.
type Till struct {
	cfg   Config
	bank  *terminal.Bank
	menu  desfire.Menu
	shelf *terminal.Shelf
	meter terminal.Meter
}

// New starts a till over what its flash holds.
func New(cfg Config) (*Till, error) {
	cfg.Again, cfg.Refund = cmp.Or(cfg.Again, DefaultAgain), cmp.Or(cfg.Refund, DefaultRefund)
	t := &Till{cfg: cfg, bank: terminal.OpenBank(cfg.Menu), meter: terminal.NewMeter(cfg.Rate, cfg.Costs, costs(), cfg.Record)}
	var err error
	if pack := t.bank.Value(); pack != nil {
		if t.menu, err = desfire.ParseMenu(pack); err != nil {
			return nil, fmt.Errorf("till %s: %w", cfg.Till, err)
		}
	}
	if t.shelf, err = terminal.OpenShelf(cfg.Store, desfire.SaleLen, saleKey); err != nil {
		return nil, fmt.Errorf("till %s: %w", cfg.Till, err)
	}
	return t, nil
}

// saleKey names a sale on the shelf by the till's number.
func saleKey(wire []byte) (string, error) {
	s, err := desfire.ParseSale(wire)
	if err != nil {
		return "", err
	}
	return keyOf(s.Seq), nil
}

func keyOf(seq uint32) string { return string(binary.BigEndian.AppendUint32(nil, seq)) }

// costs is what a card computes and writes for a sale: a commit writes the
// journal and the pages of value and log. Parameters of the model, as in package
// terminal.
func costs() terminal.Costs {
	return terminal.AESCosts(map[byte]terminal.Work{
		desfire.CmdAuthAES: {Blocks: 3}, desfire.CmdMore: {Blocks: 8}, desfire.CmdReadRecords: {Blocks: 24},
		desfire.CmdFileSettings: {Blocks: 3}, desfire.CmdGetValue: {Blocks: 3}, desfire.CmdDebit: {Blocks: 3},
		desfire.CmdLimitedCredit: {Blocks: 3}, desfire.CmdWriteRecord: {Blocks: 5}, desfire.CmdCommit: {Blocks: 2, Pages: 5},
	})
}

// Load takes a new menu: a signed pack. A cut leaves the old one or the new one.
func (t *Till) Load(pack []byte) error {
	m, err := desfire.OpenMenu(t.cfg.Menus, pack)
	if err != nil {
		return err
	}
	if err := t.bank.Put(m.Version, pack[:len(pack)-ed25519.SignatureSize]); err != nil {
		return fmt.Errorf("menu: %w", err)
	}
	t.menu = m
	return nil
}

// Menu is the menu in use; version 0 before the first.
func (t *Till) Menu() desfire.Menu { return t.menu }

// Dialogue is the last tap's, if the Config asked to keep it.
func (t *Till) Dialogue() []terminal.Exchange { return t.meter.Dialogue }

// Waiting is the number of sales not released yet.
func (t *Till) Waiting() int { return t.shelf.Waiting() }

// Batch is the oldest sales as the till hands them over. They stay until Release.
func (t *Till) Batch(limit int) (desfire.SaleBatch, error) {
	first, list, err := terminal.ReadBatch(t.shelf, min(limit, desfire.MaxSaleBatch), desfire.ParseSale)
	if err != nil {
		err = fmt.Errorf("till %s: %w", t.cfg.Till, err)
	}
	return desfire.SaleBatch{Till: t.cfg.Till, First: first, Sales: list}, err
}

// Release forgets the sales up to and including a place in the store.
func (t *Till) Release(upto uint32) error { return t.shelf.Release(upto) }

// Doubts are the sales whose end is not known: the card has not come back. Their
// MACs are missing.
func (t *Till) Doubts() ([]desfire.Sale, error) {
	list, err := terminal.ReadUnsettled(t.shelf, desfire.ParseSale)
	if err != nil {
		return nil, fmt.Errorf("till %s: %w", t.cfg.Till, err)
	}
	return list, nil
}

// Resolve ends a doubt by what the host has found out at the card.
func (t *Till) Resolve(seq uint32, paid bool) error {
	doubts, err := t.Doubts()
	if err != nil {
		return err
	}
	for _, s := range doubts {
		if s.Seq == seq {
			return t.keep(s, paid)
		}
	}
	return fmt.Errorf("sale %d: %w", seq, ErrSale)
}

// keep ends a sale: signed when the card paid, else its number as a void.
func (t *Till) keep(s desfire.Sale, paid bool) error {
	if !paid {
		s.Kind, s.Fen, s.Subsidy, s.After, s.Of = desfire.Void, 0, 0, s.Before, 0
	}
	if _, err := t.shelf.Keep(s.Sign(t.cfg.Sales).Bytes()); err != nil {
		return fmt.Errorf("sale %d: %w", s.Seq, err)
	}
	return nil
}

// nextSeq is the number of the next sale. Every number is on the shelf as an
// intent, or has been kept as an item; so their count is the last one given.
func (t *Till) nextSeq() uint32 { return t.shelf.Next() + uint32(len(t.shelf.Unsettled())) }

// An Order is what the cashier asks for: dishes of the meal being served, by
// number, or an amount.
type Order struct {
	Dishes []byte
	Fen    uint32
}

// Price is what an order costs now, before the employer's share, and the meal.
// Outside the hours there is only an amount, and no meal.
func (t *Till) Price(o Order, at time.Time) (fen uint32, meal desfire.Meal, err error) {
	meal, _ = t.menu.At(at)
	fen = o.Fen
	for _, id := range o.Dishes {
		d, ok := meal.Dish(id)
		if !ok {
			return 0, meal, fmt.Errorf("dish %d: %w", id, ErrDish)
		}
		fen += d.Fen
	}
	return fen, meal, nil
}

// Sell takes an order's price from a card. The error is for the device or the
// cashier (ErrDish), never for the card: after terminal.ErrPower the till is
// dead.
func (t *Till) Sell(card iso7816.Transmit, order Order) (Outcome, error) {
	now := t.cfg.Clock.Now()
	fen, meal, err := t.Price(order, now)
	if err != nil {
		return Outcome{At: now}, err
	}
	if fen == 0 || fen > desfire.CanteenLimit {
		return Outcome{At: now, Result: Refused, Reason: BadAmount}, nil
	}
	return t.serve(card, now, func(v *visit) error { return v.sell(fen, meal) })
}

// Refund gives the card's last purchase at this till back, or fen of it.
func (t *Till) Refund(card iso7816.Transmit, fen uint32) (Outcome, error) {
	return t.serve(card, t.cfg.Clock.Now(), func(v *visit) error { return v.refund(fen) })
}

// Balance reads a card and settles what is in doubt with it.
func (t *Till) Balance(card iso7816.Transmit) (Outcome, error) {
	return t.serve(card, t.cfg.Clock.Now(), func(v *visit) error {
		v.o.Result = Served
		return nil
	})
}

func (t *Till) serve(card iso7816.Transmit, now time.Time, act func(*visit) error) (Outcome, error) {
	v := &visit{t: t, h: desfire.NewHost(terminal.Complete(t.meter.Tap(card)), t.cfg.Rand), o: Outcome{At: now}, stamp: desfire.StampOf(now)}
	err := v.begin()
	if err == nil {
		err = act(v)
	}
	v.o.Took = t.meter.Took
	var s *stop
	switch {
	case errors.As(err, &s):
		v.o.Result, v.o.Reason, v.o.SW = s.result, s.reason, s.sw
	case err != nil:
		v.o.Result = OutOfService
		return v.o, fmt.Errorf("till %s: %w", t.cfg.Till, err)
	}
	return v.o, nil
}
