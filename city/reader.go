package city

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

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

// rideTime is how long the train takes between two stations, waiting and
// changing included: 34 km/h, a train every three minutes.
func rideTime(route network.Route) time.Duration {
	const metresPerSecond = 9.5
	legs := max(len(route.Legs), 1)
	return time.Duration(float64(route.Metres)/metresPerSecond)*time.Second + time.Duration(legs)*90*time.Second + time.Duration(legs-1)*3*time.Minute
}

// busOperator is the payee of what buses take.
const busOperator = "bjbus"

// perStop is how long a bus takes from one stop to the next.
const perStop = 4 * time.Minute

// A busLine is one vehicle that drives to and fro between its stops, which lie
// at stations. Vehicle and timetable are simulated.
type busLine struct {
	id       string // bus.1
	zh, en   string
	route    transit.Route
	stations []*network.Station
}

// busPlans: the lines of the city's buses, by the stations they pass. Line
// 104 has a flat fare, the others charge by distance.
var busPlans = []struct {
	line  uint16
	flat  int64
	along []string
}{
	{1, 0, []string{"公主坟", "军事博物馆", "南礼士路", "西单", "天安门东", "东单", "国贸"}},
	{44, 0, []string{"西直门", "积水潭", "安定门", "雍和宫", "东直门", "东四十条", "朝阳门"}},
	{104, 2_00, []string{"北京站", "崇文门", "东单", "灯市口", "东四", "张自忠路"}},
}

// busLines makes the lines; a stop's distance is the straight one between
// stations and a third for the way streets go.
func busLines(n *network.Network) (out []busLine, err error) {
	for _, p := range busPlans {
		l := busLine{id: fmt.Sprintf("bus.%d", p.line), zh: fmt.Sprintf("%d路公交车", p.line), en: fmt.Sprintf("bus %d", p.line),
			route: transit.Route{Line: p.line, FlatFen: p.flat}}
		metres := 0
		for i, name := range p.along {
			s, err := n.Find(name)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", l.id, err)
			}
			if k := len(l.stations); k > 0 {
				metres += max(apart(l.stations[k-1], s)*4/3, 100)
			}
			l.stations = append(l.stations, s)
			l.route.Stops = append(l.route.Stops, transit.Stop{Code: fare.Code(950_000 + int(p.line)*100 + i), Metres: metres})
		}
		out = append(out, l)
	}
	return out, nil
}

// apart is the distance between two stations in metres, on a plane: they are
// near enough to each other.
func apart(a, b *network.Station) int {
	const perDegree = 111_320.0
	north := (a.Lat - b.Lat) * perDegree
	east := (a.Lon - b.Lon) * perDegree * math.Cos(a.Lat*math.Pi/180)
	return int(math.Hypot(north, east))
}

// next is when the vehicle is at a stop, at or after t. It starts its run at
// the first stop every full period since midnight UTC.
func (l busLine) next(stop int, t time.Time) time.Time {
	n := len(l.route.Stops) - 1
	period := time.Duration(2*n) * perStop
	start := t.Truncate(period)
	for ; ; start = start.Add(period) {
		for _, at := range []time.Time{start.Add(time.Duration(stop) * perStop), start.Add(time.Duration(2*n-stop) * perStop)} {
			if !at.Before(t) {
				return at
			}
		}
	}
}

// An Outcome is what a tap came to, for people: the reader's own outcome, the
// dialogue with every byte explained, and where the time went by the model.
type Outcome struct {
	terminal.Outcome
	Reader *Reader
	Band   string
	Time   Timing
	Talk   []Exchange
}

// Words says the outcome in one line.
func (o Outcome) Words() (en, zh string) { return o.Outcome.Words(false), o.Outcome.Words(true) }

// Timing is a tap's modelled time. The chip's time is that of band and PSAM
// computing and writing.
type Timing struct {
	Activation time.Duration // field on, anticollision, RATS
	Air106     time.Duration // the dialogue on the air at 106 kbit/s
	Air424     time.Duration // and at 424
	PSAM       time.Duration // the contacts of the PSAM
	Chip       time.Duration
	Total106   time.Duration
	Total424   time.Duration
}

// An Exchange is one command and its answer with what they mean.
type Exchange struct {
	Where    string // card or PSAM
	Command  iso7816.Command
	Response iso7816.Response
	Torn     bool
	Took     time.Duration // as the reader's model counted it
	Air106   time.Duration
	Air424   time.Duration
	Told     iso7816.Explanation
}

// timing sums the dialogue up at both rates.
func timing(talk []terminal.Exchange) Timing {
	at := func(r terminal.Rate) terminal.Air { return terminal.Air{Rate: r} }
	line := terminal.T0{Baud: gate.DefaultSAMBaud}
	t := Timing{Activation: terminal.Activation(terminal.Kbit424)}
	for _, x := range talk {
		if x.Where == "PSAM" {
			link := line.Takes(x.Command, x.Response)
			t.PSAM += link
			t.Chip += x.Took - link
			continue
		}
		link := at(terminal.Kbit106).Takes(x.Command, x.Response)
		t.Air106 += link
		t.Air424 += at(terminal.Kbit424).Takes(x.Command, x.Response)
		t.Chip += x.Took - link // readers run their model at 106 kbit/s
	}
	rest := t.PSAM + t.Chip
	t.Total106 = terminal.Activation(terminal.Kbit106) + t.Air106 + rest
	t.Total424 = t.Activation + t.Air424 + rest
	return t
}

// told explains a dialogue line by line.
func told(talk []terminal.Exchange) []Exchange {
	out := make([]Exchange, len(talk))
	for i, x := range talk {
		e := Exchange{Where: x.Where, Command: x.Command, Response: x.Response, Torn: x.Torn, Took: x.Took}
		if x.Where == "card" {
			e.Air106 = terminal.Air{Rate: terminal.Kbit106}.Takes(x.Command, x.Response)
			e.Air424 = terminal.Air{Rate: terminal.Kbit424}.Takes(x.Command, x.Response)
		}
		var ok bool
		if e.Told, ok = purse.Explain(x.Command, x.Response); !ok {
			e.Told, _ = iso7816.Explain(x.Command, x.Response)
		}
		out[i] = e
	}
	return out
}

// where is the stop at which the vehicle stands, or which it left last.
func (l busLine) where(t time.Time) int {
	n := len(l.route.Stops) - 1
	k := int(t.Sub(t.Truncate(time.Duration(2*n)*perStop)) / perStop)
	if k > n {
		k = 2*n - k
	}
	return k
}
