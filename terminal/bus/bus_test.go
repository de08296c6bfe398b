package bus_test

import (
	"errors"
	"testing"
	"time"

	"koala/fare"
	"koala/internal/clock"
	"koala/money"
	"koala/spec/purse"
	"koala/terminal"
	"koala/terminal/bus"
	"koala/terminal/terminaltest"
)

var (
	flat     = bus.Route{Line: 300, Flat: money.Fen(2_00), Stops: []bus.Stop{{Code: 300}}}
	distance = bus.Route{Line: 918, Stops: []bus.Stop{{Code: 918_01}, {Code: 918_02, Metres: 8_000}, {Code: 918_03, Metres: 26_000}, {Code: 918_04, Metres: 41_000}}}
)

func want(t *testing.T, v *vehicle, r *terminaltest.Rider, result terminal.Result, reason terminal.Reason, fen uint32) {
	t.Helper()
	o, err := v.tap(r)
	if err != nil || o.Result != result || o.Reason != reason || o.Fen != fen {
		t.Fatalf("%s, paid %d, %v; want %s: %s, %d", o.Words(false), o.Fen, err, result.Words(false), reason.Words(false), fen)
	}
}

// price is what a card pays for so many metres, by the tariff itself.
func price(t *testing.T, v *vehicle, metres int, concession string) uint32 {
	t.Helper()
	ride := fare.BusRide{Metres: metres, Flat: v.cfg.Route.Flat, Card: true, At: noon, Concession: concession}
	if v.cfg.Route.Flat.IsZero() {
		ride.Flat = money.Fen(0)
	}
	q, err := fare.PriceBus(v.cfg.Tariff, ride)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(q.Fen.Minor())
}

func TestFlatRoute(t *testing.T) {
	v := newVehicle(t, 1, flat, clock.NewVirtual(noon))
	r := terminaltest.NewRider(t, number, 1_50)
	one := price(t, v, 0, "")
	want(t, v, r, terminal.Opened, terminal.NoReason, one)
	want(t, v, r, terminal.Refused, terminal.NoMoney, 0)
	if fen, rail := r.Holds(); fen != 1_50-one || rail.Status != purse.NeverRidden || v.collected() != one {
		t.Errorf("card %d, %+v, collected %d", fen, rail, v.collected())
	}
	student := terminaltest.NewRider(t, "03105170070104791399", 9_00, func(_ *purse.File15, f *purse.File17, _ *purse.Transit) { f.CardType = purse.CardStudent })
	want(t, v, student, terminal.Opened, terminal.NoReason, price(t, v, 0, "student"))
}

func TestDistanceRoute(t *testing.T) {
	now := clock.NewVirtual(noon)
	v := newVehicle(t, 1, distance, now)
	r := terminaltest.NewRider(t, number, 30_00)
	full := price(t, v, 41_000, "")
	want(t, v, r, terminal.Opened, terminal.NoReason, 0)
	want(t, v, r, terminal.Opened, terminal.AgainHere, 0)
	if _, rail := r.Holds(); rail.MaxFare != full || !terminal.OnBus(rail) {
		t.Errorf("%+v", rail)
	}
	if err := v.v.Arrive(2); err != nil {
		t.Fatal(err)
	}
	now.Advance(20 * time.Minute)
	paid := price(t, v, 26_000, "")
	want(t, v, r, terminal.Opened, terminal.NoReason, paid)
	want(t, v, r, terminal.Opened, terminal.AgainHere, 0)

	// The next ride is not closed: the next bus charges it to the terminus.
	now.Advance(time.Hour)
	if err := v.v.Arrive(0); err != nil {
		t.Fatal(err)
	}
	want(t, v, r, terminal.Opened, terminal.NoReason, 0)
	now.Advance(time.Hour)
	other := newVehicle(t, 2, distance, now)
	want(t, other, r, terminal.Opened, terminal.NoReason, full)
	if fen, _ := r.Holds(); fen != 30_00-paid-full || v.collected()+other.collected() != paid+full {
		t.Errorf("card %d, collected %d and %d", fen, v.collected(), other.collected())
	}
}

func TestRefusals(t *testing.T) {
	v := newVehicle(t, 1, distance, clock.NewVirtual(noon))
	full := price(t, v, 41_000, "")
	want(t, v, terminaltest.NewRider(t, number, full-1), terminal.Refused, terminal.NoMoney, 0)
	inMetro := terminaltest.NewRider(t, number, 30_00, func(_ *purse.File15, _ *purse.File17, r *purse.Transit) { r.Status = purse.Entered })
	want(t, v, inMetro, terminal.Refused, terminal.MissingExit, 0)
	if err := v.v.Arrive(4); !errors.Is(err, bus.ErrRoute) {
		t.Errorf("beyond the terminus: %v", err)
	}
	for name, route := range map[string]bus.Route{
		"no stops":  {Line: 1, Flat: money.Fen(100)},
		"one stop":  {Line: 1, Stops: []bus.Stop{{Code: 1}}},
		"backwards": {Line: 1, Stops: []bus.Stop{{Code: 1, Metres: 5}, {Code: 2, Metres: 5}}},
	} {
		cfg := v.cfg
		cfg.Route = route
		if _, err := bus.New(cfg, terminaltest.Contact(v.sam)); !errors.Is(err, bus.ErrRoute) {
			t.Errorf("%s: %v", name, err)
		}
	}
	old := v.cfg
	old.Tariff = fare.Tariffs()[0]
	v.cfg = old
	v.boot()
	want(t, v, terminaltest.NewRider(t, number, 30_00), terminal.OutOfService, terminal.NoTariff, 0)
}

// The card is torn at every write, and the validator loses power at every
// write: the rider pays once, and the validator has exactly that.
func TestPaysOnceWhateverIsCut(t *testing.T) {
	for _, torn := range []bool{true, false} {
		for n := 1; n <= 12; n++ {
			v := newVehicle(t, 1, flat, clock.NewVirtual(noon))
			r := terminaltest.NewRider(t, number, 30_00)
			if torn {
				r.Memory().CutAfter(n)
			} else {
				v.cfg.Debits.CutAfter(n)
			}
			for tries := 0; ; tries++ {
				o, err := v.tap(r)
				if errors.Is(err, terminal.ErrPower) {
					v.boot()
				} else if err != nil || tries > 4 {
					t.Fatal(n, err)
				}
				if err == nil && o.Result == terminal.Opened {
					break
				}
				v.now.Advance(3 * time.Second)
			}
			fen, _ := r.Holds()
			if one := price(t, v, 0, ""); fen != 30_00-one || v.collected() != one || v.v.Store().Waiting() != 1 || len(v.v.Store().Doubts()) != 0 {
				t.Fatalf("torn %v at %d: card %d, collected %d", torn, n, fen, v.collected())
			}
		}
	}
}
