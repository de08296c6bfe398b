package street

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"koala/band"
	"koala/card"
	"koala/card/catalog"
	"koala/fare"
	"koala/money"
	"koala/spec/iso7816"
	"koala/spec/purse"
	"koala/terminal"
	"koala/terminal/bus"
	"koala/terminal/gate"
	"koala/transit"
	"koala/transit/network"
)

// Sizes of a reader's flash, in sectors of 4 KiB.
const (
	debitSectors  = 16 // about 250 debits
	denySectors   = 8
	tariffSectors = 32
)

// beijingCity is the region code of the gates, file 17 of the cards has it too.
var beijingCity = [2]byte{0x10, 0x00}

// minEntry is the balance that gates ask of who enters, fen: the lowest fare.
const minEntry = 3_00

// A Reader is one device that takes cards: a gate, a self-service machine or
// the validator of a bus. Its PSAM is an element like any other, written over
// the air like a card.
type Reader struct {
	ID       string // dongdan.in, dongdan.out, dongdan.desk, bus.1
	Kind     transit.DeviceKind
	Station  *network.Station // nil on a bus
	Route    transit.Route    // of a bus
	Operator string           // of a bus; a gate's is its line's
	Terminal purse.Terminal

	ready atomic.Bool // installed

	mu    sync.Mutex
	sam   *band.Band // the PSAM in the hands of the agent that writes it
	flash flashes
	clock terminal.Clock
	key   ed25519.PublicKey
	token string
	dev   machine // nil without power
	trips int     // taps served since the reader was made
	stop  int     // where the bus stands
}

// flashes is what a reader remembers without power.
type flashes struct{ Debits, Denied, Tariff *terminal.Flash }

func newFlashes() flashes {
	return flashes{terminal.NewFlash(debitSectors), terminal.NewFlash(denySectors), terminal.NewFlash(tariffSectors)}
}

// A machine is what gates and validators have in common.
type machine interface {
	Tap(card, sam iso7816.Transmit) (terminal.Outcome, error)
	Store() *terminal.Store
	Deny() *terminal.DenyList
	Terminal() purse.Terminal
	Dialogue() []terminal.Exchange
}

// boot gives the reader power: PSAM first, then the device over its flash.
func (r *Reader) boot() error {
	for _, f := range []*terminal.Flash{r.flash.Debits, r.flash.Denied, r.flash.Tariff} {
		f.PowerOn()
	}
	if err := r.sam.Element.PowerOn(card.Contact); err != nil {
		return fmt.Errorf("reader %s: PSAM: %w", r.ID, err)
	}
	// The element is one of the house's own: its security domain answers first.
	if a, err := r.sam.Element.Transmit(iso7816.Select([]byte(catalog.PSAMModule))); err != nil || !a.SW.OK() {
		return fmt.Errorf("reader %s: selecting the PSAM: %v: %w", r.ID, a.SW, errors.Join(terminal.ErrSAM, err))
	}
	dev, err := r.start()
	if err != nil {
		return fmt.Errorf("reader %s: %w", r.ID, err)
	}
	r.dev = dev
	return nil
}

func (r *Reader) start() (machine, error) {
	if r.Kind == transit.OnBus {
		return r.startBus()
	}
	kind := map[transit.DeviceKind]gate.Kind{transit.EntryGate: gate.Entry, transit.ExitGate: gate.Exit, transit.Machine: gate.Service}[r.Kind]
	return gate.New(gate.Config{
		Kind: kind, Station: r.Station.Code(), City: beijingCity, Clock: r.clock, Key: r.key, MinBalance: minEntry, Record: true,
		Debits: r.flash.Debits, Denied: r.flash.Denied, Tariff: r.flash.Tariff,
	}, r.contact())
}

// startBus starts a validator. Buses have no packs: their route and tariff
// come with the vehicle's set-up, here the tariff of the day.
func (r *Reader) startBus() (machine, error) {
	tariff, err := fare.At(r.clock.Now())
	if err != nil {
		return nil, err
	}
	route := bus.Route{Line: r.Route.Line, Flat: money.Fen(r.Route.FlatFen)}
	for _, s := range r.Route.Stops {
		route.Stops = append(route.Stops, bus.Stop{Code: s.Code, Metres: s.Metres})
	}
	v, err := bus.New(bus.Config{
		Route: route, Tariff: tariff, City: beijingCity, Clock: r.clock, Key: r.key, Record: true,
		Debits: r.flash.Debits, Denied: r.flash.Denied,
	}, r.contact())
	if err != nil {
		return nil, err
	}
	return v, v.Arrive(r.stop)
}

// contact is the PSAM behind T=0, as it is in a gate.
func (r *Reader) contact() iso7816.Transmit { return (&card.T0{Card: r.sam.Element.Transmit}).Transmit }

// powerOff is a power failure or a switch: everything volatile dies.
func (r *Reader) powerOff() {
	r.sam.Element.PowerOff()
	r.dev = nil
}

// Swap puts blank flash into the reader, as a technician does with one that is
// damaged: what was not handed over is lost.
func (r *Reader) Swap() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.powerOff()
	r.flash = newFlashes()
	return r.boot()
}

// Versions are those of the tariff table and the deny list in use.
func (r *Reader) Versions() (table, deny uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table(), r.dev.Deny().Version()
}

// serve taps a card, or repairs a ride when what says so. A power failure in
// the middle is no error here: the reader is dark, and the rider sees that.
func (r *Reader) serve(card iso7816.Transmit, what terminal.Reason) (terminal.Outcome, []terminal.Exchange, error) {
	if r.dev == nil {
		if err := r.boot(); err != nil {
			return terminal.Outcome{}, nil, err
		}
	}
	r.trips++
	dev := r.dev
	var o terminal.Outcome
	var err error
	if g, ok := dev.(*gate.Gate); ok && what != terminal.NoReason {
		o, err = g.Repair(card, r.contact(), what)
	} else {
		o, err = dev.Tap(card, r.contact())
	}
	if errors.Is(err, terminal.ErrPower) {
		r.powerOff()
		o.Result, o.Reason = terminal.OutOfService, terminal.NoReason
		err = nil
	}
	if err != nil {
		return o, nil, fmt.Errorf("reader %s: %w", r.ID, err)
	}
	return o, dev.Dialogue(), nil
}

// At moves a bus to a stop of its route.
func (r *Reader) At(stop int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stop = stop
	if v, ok := r.dev.(*bus.Validator); ok {
		if err := v.Arrive(stop); err != nil {
			return fmt.Errorf("bus %s: %w", r.ID, err)
		}
	}
	return nil
}

// table is the version of the tariff table in use, 0 before the first.
func (r *Reader) table() uint32 {
	if g, ok := r.dev.(*gate.Gate); ok && g.Table() != nil {
		return g.Table().Version
	}
	return 0
}

// on makes sure that the reader has power; its lock is held.
func (r *Reader) on(context.Context) error {
	if r.dev != nil {
		return nil
	}
	return r.boot()
}

// A Held is what a reader has not handed over for good.
type Held struct {
	Debits []terminal.Stored
	Doubts []terminal.Doubt
	Next   uint32 // number of the next debit
}

// Held lists what the reader still keeps.
func (r *Reader) Held() (Held, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.on(context.Background()); err != nil {
		return Held{}, err
	}
	s := r.dev.Store()
	return Held{s.Batch(s.Waiting()), s.Doubts(), s.Next()}, nil
}
