// Package gate is the metro gate: it lets riders in for nothing and out for
// the fare, by compound purchase with its PSAM and the tariff table of its
// station, without a host. A self-service machine at the station is the same
// device with the job to repair rides that lack an end. Start with Gate.Tap.
package gate

import (
	"cmp"
	"crypto/ed25519"
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

// A Kind is what a gate does.
type Kind byte

// Kinds of gates.
const (
	Entry   Kind = iota + 1
	Exit         //
	Service      // self-service machine: repairs only
)

// ErrSignature says that a tariff pack was not signed by the house.
var ErrSignature = errors.New("gate: tariff pack: signature does not match")

// ErrStation says that a tariff pack is for another station.
var ErrStation = errors.New("gate: tariff pack is for another station")

// Defaults of a Config.
const (
	DefaultAgain       = 3 * time.Minute
	DefaultRepairGrace = 30 * time.Minute
	DefaultSAMBaud     = terminal.DefaultBaud
)

// A Config is a gate's. Zero durations, rate and costs take their defaults.
type Config struct {
	Kind     Kind
	Station  fare.Code
	City     [2]byte // UnionPay region code
	Operator [8]byte
	Acquirer [8]byte
	Clock    terminal.Clock
	Key      ed25519.PublicKey // of deny lists and tariff packs

	Debits, Denied, Tariff *terminal.Flash // debits at least 4 sectors, the others 2

	MinBalance   uint32        // fen a card must have to enter
	Again        time.Duration // a second tap within it changes nothing and opens
	RepairGrace  time.Duration // a repaired entry lets out for nothing so long
	KeyIndex     map[[4]byte]byte
	IssuerFactor bool // the PSAM holds the national root

	Rate    terminal.Rate
	SAMBaud int
	Costs   terminal.Costs
	Record  bool // keep every tap's dialogue
}

// A Gate is one device. After an error wrapping terminal.ErrPower it is dead:
// give its flash power and make a new one over it.
type Gate struct {
	cfg   Config
	col   terminal.Collector
	bank  *terminal.Bank
	table *fare.Table
	meter terminal.Meter
}

// New starts a gate over what its flash holds, with the PSAM it will use.
func New(cfg Config, sam iso7816.Transmit) (*Gate, error) {
	cfg.Again, cfg.RepairGrace = cmp.Or(cfg.Again, DefaultAgain), cmp.Or(cfg.RepairGrace, DefaultRepairGrace)
	g := &Gate{
		cfg: cfg, bank: terminal.OpenBank(cfg.Tariff), meter: terminal.NewMeter(cfg.Rate, cfg.Costs, terminal.DefaultCosts(), cfg.Record),
		col: terminal.Collector{City: cfg.City, KeyIndex: cfg.KeyIndex, IssuerFactor: cfg.IssuerFactor},
	}
	err := g.col.Open(sam, cfg.Debits, cfg.Denied, cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("gate at %s: %w", cfg.Station, err)
	}
	if pack := g.bank.Value(); pack != nil {
		if g.table, err = fare.ParseTable(pack); err != nil {
			return nil, fmt.Errorf("gate at %s: %w", cfg.Station, err)
		}
	}
	return g, nil
}

// Load takes a new tariff pack: the table followed by its Ed25519 signature.
// A cut leaves the old table or the new one.
func (g *Gate) Load(pack []byte) error {
	n := len(pack) - ed25519.SignatureSize
	if n < 0 || len(g.cfg.Key) != ed25519.PublicKeySize || !ed25519.Verify(g.cfg.Key, pack[:n], pack[n:]) {
		return ErrSignature
	}
	table, err := fare.ParseTable(pack[:n])
	if err != nil {
		return err
	}
	if table.Station != g.cfg.Station {
		return fmt.Errorf("%s at %s: %w", table.Station, g.cfg.Station, ErrStation)
	}
	if err := g.bank.Put(table.Version, pack[:n]); err != nil {
		return fmt.Errorf("tariff pack: %w", err)
	}
	g.table = table
	return nil
}

// Terminal is the terminal number, as the PSAM says.
func (g *Gate) Terminal() purse.Terminal { return g.col.Terminal }

// Store is what the gate has collected.
func (g *Gate) Store() *terminal.Store { return g.col.Store }

// Batch is the oldest debits as the gate hands them over.
func (g *Gate) Batch(limit int) purse.Batch { return g.col.Batch(limit) }

// Deny is the gate's deny list.
func (g *Gate) Deny() *terminal.DenyList { return g.col.Deny }

// Table is the tariff table in use, nil before the first.
func (g *Gate) Table() *fare.Table { return g.table }

// Dialogue is the last tap's, if the Config asked to keep it.
func (g *Gate) Dialogue() []terminal.Exchange { return g.meter.Dialogue }

// A decision is what a gate wants of a card whose record it has read.
type decision struct {
	pass  bool // let the rider pass without a purchase
	fen   uint32
	rail  purse.Transit
	trip  purse.TripKind
	lines []fare.Line
}

// Tap serves one card. The error is for the device, never for the card: after
// ErrPower the gate is dead.
func (g *Gate) Tap(card, sam iso7816.Transmit) (terminal.Outcome, error) {
	return g.serve(card, sam, func(t *terminal.Tap) (decision, error) {
		switch g.cfg.Kind {
		case Entry:
			return g.enter(t)
		case Exit:
			return g.leave(t)
		default:
			return decision{}, terminal.Refuse(terminal.NothingToDo)
		}
	})
}

// Repair closes or opens a ride for a rider who asks for it: MissingExit pays
// the last ride that was never closed, MissingEntry pays what leaving without
// entry costs and lets out at this station.
func (g *Gate) Repair(card, sam iso7816.Transmit, what terminal.Reason) (terminal.Outcome, error) {
	return g.serve(card, sam, func(t *terminal.Tap) (decision, error) { return g.repair(t, what) })
}

func (g *Gate) serve(card, sam iso7816.Transmit, decide func(*terminal.Tap) (decision, error)) (terminal.Outcome, error) {
	card = g.meter.Tap(card)
	sam = g.meter.Wrap("PSAM", terminal.T0{Baud: g.cfg.SAMBaud}, sam, nil)
	o := terminal.Outcome{At: g.cfg.Clock.Now()}
	t, err := g.col.Tap(card, sam, o.At)
	if err == nil {
		err = g.tap(t, &o, decide)
	}
	if t != nil {
		o.Card, o.Balance = t.Public.Number, t.Balance
	}
	o.Took = g.meter.Took
	if err := o.Put(err); err != nil {
		return o, fmt.Errorf("gate %s: %w", g.col.Terminal, err)
	}
	return o, nil
}

func (g *Gate) tap(t *terminal.Tap, o *terminal.Outcome, decide func(*terminal.Tap) (decision, error)) error {
	if g.table == nil || !g.table.Valid(calendar.ServiceDay(t.At)) {
		return &terminal.Stop{Result: terminal.OutOfService, Reason: terminal.NoTariff}
	}
	if err := t.Read(true); err != nil {
		return err
	}
	s, err := t.Recover()
	if err != nil {
		return err
	}
	if s != nil && g.recent(t, s.Debit.At) {
		o.Result, o.Reason, o.Fen, o.Stored = terminal.Opened, terminal.Recovered, s.Debit.Fen, s
		return nil
	}
	d, err := decide(t)
	if err != nil {
		return err
	}
	o.Result, o.Lines = terminal.Opened, d.lines
	if d.pass {
		o.Reason = terminal.AgainHere
		return nil
	}
	rail := terminal.RailRecord(d.rail)
	stored, err := t.Pay(d.fen, rail.Record, rail, terminal.TripRecord(g.trip(t, d)))
	if err != nil {
		return err
	}
	o.Fen, o.Stored = d.fen, &stored
	return nil
}

// recent says whether a stamp lies within the time of a second tap.
func (g *Gate) recent(t *terminal.Tap, s purse.Stamp) bool { return t.Within(s, g.cfg.Again) }

// here says whether a station of the record is this one, by any line's code.
func (g *Gate) here(station [8]byte) bool {
	code, ok := purse.StationCode(station)
	if !ok {
		return false
	}
	e, ok := g.table.Entry(fare.Code(code))
	return ok && e.Same
}

func (g *Gate) line() byte { return terminal.TwoDigits(uint32(g.cfg.Station) / 10000) }

// enter lets in who is not inside. An open ride of the metro must be repaired
// first; an open ride on a bus is paid now at the price the bus left on the
// card.
func (g *Gate) enter(t *terminal.Tap) (decision, error) {
	r := t.Rail
	d := decision{trip: purse.TripEntry}
	if r.Status == purse.Entered {
		switch {
		case terminal.OnBus(r):
			d.fen = r.MaxFare
			d.lines = []fare.Line{{Rule: "missing-exit", EN: "bus ride not closed: to the terminus", ZH: "公交未刷下车：按全程", Fen: int64(r.MaxFare)}}
		case g.here(r.EntryStation) && g.recent(t, r.EntryAt):
			return decision{pass: true}, nil
		default:
			return decision{}, terminal.Refuse(terminal.MissingExit)
		}
	}
	if t.Balance < max(d.fen, g.cfg.MinBalance) {
		return decision{}, terminal.Refuse(terminal.NoMoney)
	}
	d.rail = g.entered(t, d.fen)
	return d, nil
}

func (g *Gate) entered(t *terminal.Tap, fen uint32) purse.Transit {
	r := t.Touched(purse.IndustryMetro)
	r.Status = purse.Entered
	r.EntryCity, r.EntryOperator = g.cfg.City, g.cfg.Operator
	r.EntryStation, r.EntryDevice = purse.StationBytes(uint32(g.cfg.Station)), g.col.Device()
	r.EntryAt, r.EntryLine = t.Stamp, g.line()
	r.EntryAmount, r.EntryBalance = fen, t.Balance-fen
	if q, err := g.table.PriceMissingExit(g.cfg.Station, t.At, t.At); err == nil {
		r.MaxFare = uint32(q.Fen.Minor())
	}
	return r
}

// leave prices the ride by the entry on the card.
func (g *Gate) leave(t *terminal.Tap) (decision, error) {
	r := t.Rail
	if r.Status != purse.Entered || terminal.OnBus(r) {
		if r.Status == purse.Left && !terminal.OnBus(r) && g.here(r.ExitStation) && g.recent(t, r.ExitAt) {
			return decision{pass: true}, nil
		}
		return decision{}, terminal.Refuse(terminal.MissingEntry)
	}
	if r.State == terminal.StateRepaired && g.here(r.EntryStation) && t.Within(r.EntryAt, g.cfg.RepairGrace) {
		return decision{rail: g.left(t, 0, 0), trip: purse.TripExit}, nil
	}
	code, ok := purse.StationCode(r.EntryStation)
	if !ok || code == 0 {
		return decision{}, terminal.Refuse(terminal.UnknownStation)
	}
	q, err := g.price(t, fare.Code(code))
	if err != nil {
		return decision{}, err
	}
	fen := uint32(q.Fen.Minor())
	if fen > t.Balance {
		return decision{}, terminal.Refuse(terminal.NoMoney)
	}
	return decision{fen: fen, rail: g.left(t, fen, uint32(q.Counts.Minor())), trip: purse.TripExit, lines: q.Lines}, nil
}

// price asks the table; entry 0 is a card that knows none. A concession the
// tariff does not have that day is no concession.
func (g *Gate) price(t *terminal.Tap, entry fare.Code) (fare.Quote, error) {
	r := t.Touched(purse.IndustryMetro)
	tap := fare.Tap{Entry: entry, Left: t.At, MonthSpent: money.Fen(int64(r.Accumulated)), Concession: terminal.ConcessionOf(t.CardType())}
	if entry != 0 {
		at, err := r.EntryAt.Moment()
		if err != nil {
			return fare.Quote{}, terminal.Refuse(terminal.RecordDamaged)
		}
		tap.Entered = at
	}
	q, err := g.table.Price(tap)
	if errors.Is(err, fare.ErrNoConcession) {
		tap.Concession = ""
		q, err = g.table.Price(tap)
	}
	switch {
	case errors.Is(err, fare.ErrNoStation):
		return q, terminal.Refuse(terminal.UnknownStation)
	case err != nil:
		return q, terminal.Refuse(terminal.NoTariff)
	}
	return q, nil
}

func (g *Gate) left(t *terminal.Tap, fen, counts uint32) purse.Transit {
	r := t.Touched(purse.IndustryMetro)
	r.Status = purse.Left
	r.ExitCity, r.ExitOperator = g.cfg.City, g.cfg.Operator
	r.ExitStation, r.ExitDevice = purse.StationBytes(uint32(g.cfg.Station)), g.col.Device()
	r.ExitAt, r.ExitLine = t.Stamp, g.line()
	r.Actual = fen
	terminal.Spend(&r, counts)
	return r
}

func (g *Gate) repair(t *terminal.Tap, what terminal.Reason) (decision, error) {
	inside := t.Rail.Status == purse.Entered && !terminal.OnBus(t.Rail)
	switch {
	case what == terminal.MissingExit && inside:
		return g.closeRide(t)
	case what == terminal.MissingEntry && !inside:
		return g.openRide(t)
	}
	return decision{}, terminal.Refuse(terminal.NothingToDo)
}

// closeRide pays a ride that was never closed.
func (g *Gate) closeRide(t *terminal.Tap) (decision, error) {
	code, ok := purse.StationCode(t.Rail.EntryStation)
	at, err := t.Rail.EntryAt.Moment()
	if !ok || err != nil {
		return decision{}, terminal.Refuse(terminal.RecordDamaged)
	}
	q, err := g.table.PriceMissingExit(fare.Code(code), at, t.At)
	if err != nil {
		return decision{}, terminal.Refuse(terminal.NoTariff)
	}
	fen := uint32(q.Fen.Minor())
	if fen > t.Balance {
		return decision{}, terminal.Refuse(terminal.NoMoney)
	}
	d := decision{fen: fen, rail: g.left(t, fen, 0), trip: purse.TripExit, lines: q.Lines}
	d.rail.State = terminal.StateRepaired
	return d, nil
}

// openRide pays for leaving without an entry and writes an entry here, which
// the exit gates of this station let out for nothing.
func (g *Gate) openRide(t *terminal.Tap) (decision, error) {
	q, err := g.price(t, 0)
	if err != nil {
		return decision{}, err
	}
	fen := uint32(q.Fen.Minor())
	if fen > t.Balance {
		return decision{}, terminal.Refuse(terminal.NoMoney)
	}
	d := decision{fen: fen, rail: g.entered(t, fen), trip: purse.TripEntry, lines: q.Lines}
	d.rail.State = terminal.StateRepaired
	return d, nil
}

// trip is the record of file 1E.
func (g *Gate) trip(t *terminal.Tap, d decision) purse.Trip {
	station := uint32(g.cfg.Station)
	return purse.Trip{
		Kind: d.trip, Terminal: g.col.Device(), Industry: purse.IndustryMetro,
		Line: [2]byte{terminal.TwoDigits(station / 10000), 0}, Station: [2]byte{terminal.TwoDigits(station), 0},
		Operator: [2]byte(g.cfg.Operator[:2]), Fen: d.fen, Balance: t.Balance - d.fen,
		Stamp: t.Stamp, City: g.cfg.City, Acquirer: g.cfg.Acquirer,
	}
}
