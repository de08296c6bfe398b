package bus_test

import (
	"testing"
	"time"

	"koala/calendar"
	"koala/card"
	"koala/card/cardtest"
	"koala/fare"
	"koala/internal/clock"
	"koala/spec/purse"
	"koala/terminal"
	"koala/terminal/bus"
	"koala/terminal/terminaltest"
)

const number = purse.Number("03105170070104791381")

var noon = time.Date(2024, 12, 30, 12, 0, 0, 0, calendar.Beijing)

// A vehicle is a validator with its PSAM and its flash.
type vehicle struct {
	t   testing.TB
	cfg bus.Config
	sam *cardtest.Element
	v   *bus.Validator
	now *clock.Virtual
}

func newVehicle(t testing.TB, id byte, route bus.Route, now *clock.Virtual) *vehicle {
	t.Helper()
	tariff, err := fare.At(noon)
	if err != nil {
		t.Fatal(err)
	}
	v := &vehicle{t: t, now: now, sam: terminaltest.PSAM(t, purse.Terminal{0x50, 0x01, 0x18, 0x00, 0x00, id})}
	v.cfg = bus.Config{
		Route: route, Tariff: tariff, City: [2]byte{0x10, 0}, Clock: now, Key: terminaltest.Public,
		Debits: terminal.NewFlash(4), Denied: terminal.NewFlash(2),
	}
	v.boot()
	return v
}

func (v *vehicle) boot() {
	v.t.Helper()
	v.cfg.Debits.PowerOn()
	v.sam.Power(card.Contact)
	var err error
	if v.v, err = bus.New(v.cfg, terminaltest.Contact(v.sam)); err != nil {
		v.t.Fatal(err)
	}
}

func (v *vehicle) tap(r *terminaltest.Rider) (terminal.Outcome, error) {
	if err := r.PowerOn(card.Contactless); err != nil {
		return terminal.Outcome{Result: terminal.TryAgain}, nil // cut in recovery
	}
	defer r.PowerOff()
	return v.v.Tap(r.Transmit, terminaltest.Contact(v.sam))
}

func (v *vehicle) collected() (fen uint32) {
	v.t.Helper()
	for _, x := range v.v.Batch(1 << 20).Debits {
		if !terminaltest.Proved(x) {
			v.t.Errorf("sequence %d: wrong TAC", x.Seq)
		}
		fen += x.Fen
	}
	return fen
}
