// Package bus is the validator of a bus: one tap on a flat route, a tap at
// both doors on a route that charges by distance, over the purchase core of
// package terminal. Start with Validator.Tap.
package bus

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"koala/calendar"
	"koala/fare"
	"koala/money"
	"koala/spec/iso7816"
	"koala/spec/purse"
	"koala/terminal"
)

// Limits and defaults of a validator.
const (
	MaxStops     = 200
	DefaultAgain = time.Minute
	DefaultRide  = 4 * time.Hour // a ride begun longer ago is not this one
)

// ErrRoute says that a route cannot be driven: no stops, or not in order.
var ErrRoute = errors.New("bus: bad route")

// A Stop is one stop of a route, Metres from its first.
type Stop struct {
	Code   fare.Code
	Metres int
}

// A Route is what the bus drives. Flat is its fare when it has only one; a
// route without Flat charges by distance between its stops.
type Route struct {
	Line  uint16 // number on the front, four digits
	Flat  money.Amount
	Stops []Stop // at least one on a flat route, two otherwise, Metres rising
}

func (r Route) check() error {
	if len(r.Stops) == 0 || len(r.Stops) > MaxStops || r.Flat.IsZero() && len(r.Stops) < 2 {
		return fmt.Errorf("route %d with %d stops: %w", r.Line, len(r.Stops), ErrRoute)
	}
	for i, s := range r.Stops {
		if s.Code > fare.MaxCode || i > 0 && s.Metres <= r.Stops[i-1].Metres {
			return fmt.Errorf("route %d, stop %d: %w", r.Line, i, ErrRoute)
		}
	}
	return nil
}

// A Config is a validator's. Zero values take their defaults.
type Config struct {
	Route    Route
	Tariff   fare.Tariff
	City     [2]byte
	Operator [8]byte
	Acquirer [8]byte
	Clock    terminal.Clock
	Key      []byte // Ed25519 public key of deny lists

	Debits, Denied *terminal.Flash

	Again        time.Duration
	KeyIndex     map[[4]byte]byte
	IssuerFactor bool
	Rate         terminal.Rate
	SAMBaud      int
	Costs        terminal.Costs
	Record       bool
}

// A Validator is one device. After an error wrapping terminal.ErrPower it is
// dead: give its flash power and make a new one over it.
type Validator struct {
	cfg   Config
	col   terminal.Collector
	stop  int
	meter terminal.Meter
}

// New starts a validator over what its flash holds, at the first stop.
func New(cfg Config, sam iso7816.Transmit) (*Validator, error) {
	if err := cfg.Route.check(); err != nil {
		return nil, err
	}
	cfg.Again = cmp.Or(cfg.Again, DefaultAgain)
	v := &Validator{
		cfg: cfg, meter: terminal.NewMeter(cfg.Rate, cfg.Costs, terminal.DefaultCosts(), cfg.Record),
		col: terminal.Collector{City: cfg.City, KeyIndex: cfg.KeyIndex, IssuerFactor: cfg.IssuerFactor},
	}
	if err := v.col.Open(sam, cfg.Debits, cfg.Denied, cfg.Key); err != nil {
		return nil, fmt.Errorf("bus of route %d: %w", cfg.Route.Line, err)
	}
	return v, nil
}

// Arrive says at which stop of its route the bus stands, from 0.
func (v *Validator) Arrive(stop int) error {
	if stop < 0 || stop >= len(v.cfg.Route.Stops) {
		return fmt.Errorf("route %d, stop %d: %w", v.cfg.Route.Line, stop, ErrRoute)
	}
	v.stop = stop
	return nil
}

// Store is what the validator has collected.
func (v *Validator) Store() *terminal.Store { return v.col.Store }

// Batch is the oldest debits as the validator hands them over.
func (v *Validator) Batch(limit int) purse.Batch { return v.col.Batch(limit) }

// Deny is the validator's deny list.
func (v *Validator) Deny() *terminal.DenyList { return v.col.Deny }

// Terminal is the terminal number, as the PSAM says.
func (v *Validator) Terminal() purse.Terminal { return v.col.Terminal }

// Dialogue is the last tap's, if the Config asked to keep it.
func (v *Validator) Dialogue() []terminal.Exchange { return v.meter.Dialogue }

// Tap serves one card. The error is for the device, never for the card.
func (v *Validator) Tap(card, sam iso7816.Transmit) (terminal.Outcome, error) {
	card = v.meter.Tap(card)
	sam = v.meter.Wrap("PSAM", terminal.T0{Baud: v.cfg.SAMBaud}, sam, nil)
	o := terminal.Outcome{At: v.cfg.Clock.Now()}
	t, err := v.col.Tap(card, sam, o.At)
	if err == nil {
		err = v.serve(t, &o)
	}
	if t != nil {
		o.Card, o.Balance = t.Public.Number, t.Balance
	}
	o.Took = v.meter.Took
	if err := o.Put(err); err != nil {
		return o, fmt.Errorf("bus %s: %w", v.col.Terminal, err)
	}
	return o, nil
}

func (v *Validator) serve(t *terminal.Tap, o *terminal.Outcome) error {
	flat := !v.cfg.Route.Flat.IsZero()
	if err := t.Read(!flat); err != nil {
		return err
	}
	s, err := t.Recover()
	if err != nil {
		return err
	}
	if s != nil && t.Within(s.Debit.At, v.cfg.Again) {
		o.Result, o.Reason, o.Fen, o.Stored = terminal.Opened, terminal.Recovered, s.Debit.Fen, s
		return nil
	}
	if flat {
		return v.single(t, o)
	}
	r := t.Rail
	switch {
	case r.Status == purse.Entered && !terminal.OnBus(r):
		return terminal.Refuse(terminal.MissingExit) // the metro's ride is open: repair it there
	case r.Status == purse.Entered && v.thisRide(t) && v.justBoarded(t):
		o.Result, o.Reason = terminal.Opened, terminal.AgainHere
		return nil
	case r.Status == purse.Entered && v.thisRide(t):
		return v.alight(t, o)
	case r.Status == purse.Left && terminal.OnBus(r) && r.ExitDevice == v.col.Device() && t.Within(r.ExitAt, v.cfg.Again):
		o.Result, o.Reason = terminal.Opened, terminal.AgainHere
		return nil
	}
	return v.board(t, o)
}

// thisRide says whether the card boarded this bus on its present run.
func (v *Validator) thisRide(t *terminal.Tap) bool {
	return t.Rail.EntryDevice == v.col.Device() && t.Within(t.Rail.EntryAt, DefaultRide)
}

// justBoarded says that the card boarded at this stop a moment ago: a second
// tap there is no ride.
func (v *Validator) justBoarded(t *terminal.Tap) bool {
	from, ok := v.stopOf(t.Rail.EntryStation)
	return ok && from == v.stop && t.Within(t.Rail.EntryAt, v.cfg.Again)
}

// price is what metres cost this card now. A concession the tariff does not
// have that day is no concession.
func (v *Validator) price(t *terminal.Tap, metres int) (uint32, []fare.Line, error) {
	ride := fare.BusRide{Metres: metres, Flat: v.cfg.Route.Flat, Card: true, At: t.At, Concession: terminal.ConcessionOf(t.CardType())}
	if v.cfg.Route.Flat.IsZero() {
		ride.Flat = money.Fen(0)
	}
	q, err := fare.PriceBus(v.cfg.Tariff, ride)
	if errors.Is(err, fare.ErrNoConcession) {
		ride.Concession = ""
		q, err = fare.PriceBus(v.cfg.Tariff, ride)
	}
	if err != nil || !v.inForce(t) {
		return 0, nil, &terminal.Stop{Result: terminal.OutOfService, Reason: terminal.NoTariff}
	}
	return uint32(q.Fen.Minor()), q.Lines, nil
}

func (v *Validator) inForce(t *terminal.Tap) bool {
	day := calendar.ServiceDay(t.At)
	from, to := v.cfg.Tariff.From, v.cfg.Tariff.To
	return !day.Before(from.Date) && (to.IsZero() || !to.Before(day))
}

// single is the one tap of a flat route: it writes a trip record and leaves
// the rail record, so a ride on the metro stays as it is.
func (v *Validator) single(t *terminal.Tap, o *terminal.Outcome) error {
	fen, lines, err := v.price(t, 0)
	if err != nil {
		return err
	}
	if fen > t.Balance {
		return terminal.Refuse(terminal.NoMoney)
	}
	o.Lines = lines
	return v.pay(t, o, fen, nil, purse.TripSingle)
}

// board lets a rider on for nothing, or for the ride on another bus that was
// not closed, and leaves the price to the terminus on the card.
func (v *Validator) board(t *terminal.Tap, o *terminal.Outcome) error {
	stops := v.cfg.Route.Stops
	full, _, err := v.price(t, stops[len(stops)-1].Metres-stops[v.stop].Metres)
	if err != nil {
		return err
	}
	var owed uint32
	if t.Rail.Status == purse.Entered {
		owed = t.Rail.MaxFare
		o.Lines = []fare.Line{{Rule: "missing-exit", EN: "bus ride not closed: to the terminus", ZH: "公交未刷下车：按全程", Fen: int64(owed)}}
	}
	if uint64(owed)+uint64(full) > uint64(t.Balance) {
		return terminal.Refuse(terminal.NoMoney)
	}
	r := t.Touched(purse.IndustryBus)
	r.Status, r.MaxFare = purse.Entered, full
	r.EntryCity, r.EntryOperator = v.cfg.City, v.cfg.Operator
	r.EntryStation, r.EntryDevice = purse.StationBytes(uint32(stops[v.stop].Code)), v.col.Device()
	r.EntryAt, r.EntryLine = t.Stamp, terminal.TwoDigits(uint32(v.cfg.Route.Line))
	r.EntryAmount, r.EntryBalance = owed, t.Balance-owed
	return v.pay(t, o, owed, &r, purse.TripEntry)
}

// alight charges from the stop on the card to this one; a stop the route does
// not have is charged to the terminus.
func (v *Validator) alight(t *terminal.Tap, o *terminal.Outcome) error {
	fen := t.Rail.MaxFare
	if from, ok := v.stopOf(t.Rail.EntryStation); ok {
		metres := v.cfg.Route.Stops[v.stop].Metres - v.cfg.Route.Stops[from].Metres
		var err error
		if fen, o.Lines, err = v.price(t, max(metres, -metres)); err != nil {
			return err
		}
	}
	if fen > t.Balance {
		return terminal.Refuse(terminal.NoMoney)
	}
	r := t.Touched(purse.IndustryBus)
	r.Status, r.Actual = purse.Left, fen
	r.ExitCity, r.ExitOperator = v.cfg.City, v.cfg.Operator
	r.ExitStation, r.ExitDevice = purse.StationBytes(uint32(v.cfg.Route.Stops[v.stop].Code)), v.col.Device()
	r.ExitAt, r.ExitLine = t.Stamp, terminal.TwoDigits(uint32(v.cfg.Route.Line))
	return v.pay(t, o, fen, &r, purse.TripExit)
}

func (v *Validator) stopOf(station [8]byte) (int, bool) {
	code, ok := purse.StationCode(station)
	for i, s := range v.cfg.Route.Stops {
		if ok && uint32(s.Code) == code {
			return i, true
		}
	}
	return 0, false
}

// pay runs the purchase, with the rail record when the route needs it.
func (v *Validator) pay(t *terminal.Tap, o *terminal.Outcome, fen uint32, rail *purse.Transit, kind purse.TripKind) error {
	line := uint32(v.cfg.Route.Line)
	trip := terminal.TripRecord(purse.Trip{
		Kind: kind, Terminal: v.col.Device(), Industry: purse.IndustryBus,
		Line:     [2]byte{terminal.TwoDigits(line / 100), terminal.TwoDigits(line)},
		Station:  [2]byte{terminal.TwoDigits(uint32(v.stop))},
		Operator: [2]byte(v.cfg.Operator[:2]), Fen: fen, Balance: t.Balance - fen,
		Stamp: t.Stamp, City: v.cfg.City, Acquirer: v.cfg.Acquirer,
	})
	records, keep := []purse.UpdateCAPP{trip}, []byte(nil)
	if rail != nil {
		r := terminal.RailRecord(*rail)
		records, keep = []purse.UpdateCAPP{r, trip}, r.Record
	}
	s, err := t.Pay(fen, keep, records...)
	if err != nil {
		return err
	}
	o.Result, o.Fen, o.Stored = terminal.Opened, fen, &s
	return nil
}
