// Package street is the physical world beside a house, simulated: bands on
// wrists, gates at stations, buses, and the tills, canteens, doors and coupon
// desks of a few shops. Devices meet cards by APDU, with the code of package
// terminal, and the house by requests through its devices' door over a Wire in
// the same process. Start with New and Street.Tap.
package street

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"koala/app"
	"koala/band"
	"koala/card/catalog"
	"koala/card/isd"
	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/fail"
	"koala/spec/purse"
	"koala/terminal"
	"koala/terminal/gate"
	"koala/transit"
	"koala/web/device"
)

// What a tap can fail with, beside the outcomes that riders see.
var (
	ErrNoBand   = fail.Define(fail.NotFound, "city.no_band", "there is no such band in the city")
	ErrNoReader = fail.Define(fail.NotFound, "city.no_reader", "there is no such gate or bus in the city")
	ErrHouse    = fail.Define(fail.Busy, "city.house", "the house did not take what a device sent")
)

// base is where devices reach the house over the in-process wire.
const base = "http://house.koala.internal/device"

// A Street is the physical world beside a house, simulated: bands on wrists,
// gates at stations, buses. Devices meet cards by APDU and the house by HTTP
// requests over a Wire in the same process. It is safe for concurrent use;
// every device has its own lock, a reader's is taken before a band's.
type Street struct {
	Wire *Wire

	house   atomic.Pointer[app.House]
	clock   clock.Clock
	dir     string // of device images; empty keeps none
	rand    func(id string) io.Reader
	catalog *catalog.Catalog
	client  *http.Client
	lines   []BusLine
	buses   map[string]BusLine

	mu      sync.Mutex
	bands   map[string]*worn
	readers map[string]*Reader

	acceptors map[string]*Acceptor
}

// A Config says what world to make.
type Config struct {
	Dir  string                    // folder of device images; empty keeps none
	Rand func(id string) io.Reader // what chips draw from; nil is the system's entropy
}

// New makes the world beside a house.
func New(h *app.House, cfg Config) (*Street, error) {
	if cfg.Dir != "" {
		if err := makeDirs(cfg.Dir); err != nil {
			return nil, err
		}
	}
	if cfg.Rand == nil {
		cfg.Rand = func(string) io.Reader { return clock.Entropy() }
	}
	s := &Street{
		clock: h.Config.Clock, dir: cfg.Dir, rand: cfg.Rand, catalog: catalog.New(isd.Config{}), buses: map[string]BusLine{},
		bands: map[string]*worn{}, readers: map[string]*Reader{}, acceptors: map[string]*Acceptor{},
	}
	var err error
	if s.lines, err = busLines(h.Network); err != nil {
		return nil, fmt.Errorf("buses of the city: %w", err)
	}
	for _, l := range s.lines {
		s.buses[l.ID] = l
	}
	s.Move(h)
	return s, nil
}

// Move puts the world beside another house: the same one after a restart.
func (s *Street) Move(h *app.House) {
	s.house.Store(h)
	handler := h.DeviceHandler()
	if s.Wire == nil {
		s.Wire = &Wire{}
		s.client = &http.Client{Transport: s.Wire}
	}
	s.Wire.door.Store(&handler)
}

// Lines lists the lines of the city's buses.
func (s *Street) Lines() []BusLine { return s.lines }

// Bus finds a line by its vehicle's name.
func (s *Street) Bus(id string) (BusLine, bool) {
	line, ok := s.buses[id]
	return line, ok
}

// Catalog is what the street's elements can carry.
func (s *Street) Catalog() *catalog.Catalog { return s.catalog }

// House is the house the devices talk to.
func (s *Street) House() *app.House { return s.house.Load() }

// band finds a band, in memory or among the images.
func (s *Street) band(id string) (*worn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.bands[id]; w != nil {
		return w, nil
	}
	if strings.ContainsAny(id, `/\.`) {
		return nil, fmt.Errorf("band %q: %w", id, ErrNoBand)
	}
	w, err := s.loadBand(id)
	if err == nil && w == nil {
		err = ErrNoBand
	}
	if err != nil {
		return nil, fmt.Errorf("band %q: %w", id, err)
	}
	s.bands[id] = w
	return w, nil
}

// kinds are the ends of readers' names at stations.
var kinds = map[string]struct {
	kind transit.DeviceKind
	code byte
}{"in": {transit.EntryGate, 1}, "out": {transit.ExitGate, 2}, "desk": {transit.Machine, 3}}

// Reader gives the reader with a name: station.in, station.out, station.desk
// or bus.N. One that nobody has used yet is installed first.
func (s *Street) Reader(ctx context.Context, id string) (*Reader, error) {
	r, err := s.place(id)
	if err != nil {
		return nil, err
	}
	if r.ready.Load() {
		return r, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ready.Load() {
		return r, nil
	}
	found, err := s.loadReader(r)
	if err == nil && !found {
		if err = s.install(ctx, r); err == nil {
			err = s.keepReader(r)
		}
	}
	if err != nil {
		r.dev = nil
		return nil, err
	}
	r.ready.Store(true)
	return r, nil
}

// place finds a reader's record or makes an empty one.
func (s *Street) place(id string) (r *Reader, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.readers[id]; r != nil {
		return r, nil
	}
	h := s.House()
	key, err := h.Keys.PublicKey(context.Background(), hsm.LabelPack)
	if err != nil {
		return nil, fmt.Errorf("reader %s: %w", id, err)
	}
	r = &Reader{ID: id, clock: s.clock, key: key}
	at, end, _ := strings.Cut(id, ".")
	if line, ok := s.buses[id]; ok {
		r.Kind, r.Route, r.Operator = transit.OnBus, line.Route, busOperator
		r.Terminal = terminalNumber(0x31, uint32(line.Route.Line), 4)
	} else if k, ok := kinds[end]; ok {
		if r.Station, ok = h.Network.ByID(at); !ok {
			return nil, fmt.Errorf("reader %q: %w", id, ErrNoReader)
		}
		r.Kind, r.Terminal = k.kind, terminalNumber(0x30, uint32(r.Station.Code()), k.code)
	} else {
		return nil, fmt.Errorf("reader %q: %w", id, ErrNoReader)
	}
	s.readers[id] = r
	return r, nil
}

// terminalNumber is scheme 1 | place as six BCD digits 3 | what it does 1 | 01.
func terminalNumber(scheme byte, place uint32, kind byte) (t purse.Terminal) {
	t[0], t[4], t[5] = scheme, kind, 0x01
	for i := 3; i > 0; i-- {
		t[i] = terminal.TwoDigits(place)
		place /= 100
	}
	return t
}

// Readers lists the readers that are installed, by name.
func (s *Street) Readers() []*Reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*Reader, 0, len(s.readers))
	for _, r := range s.readers {
		if r.ready.Load() {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *Reader) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Options of a tap. The zero value is an ordinary tap.
type Options struct {
	Fault    band.Fault      // what the contact suffers
	PowerCut int             // the reader's power fails at its n-th write to flash
	Repair   terminal.Reason // at a desk: what to repair
	Talk     bool            // explain the dialogue in the outcome
}

// Tap holds a band to a reader.
func (s *Street) Tap(ctx context.Context, bandID, readerID string, opt Options) (Outcome, error) {
	w, err := s.band(bandID)
	if err != nil {
		return Outcome{}, err
	}
	r, err := s.Reader(ctx, readerID)
	if err != nil {
		return Outcome{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := r.on(ctx); err != nil {
		return Outcome{}, err
	}
	o, err := s.touch(w.band, r, opt)
	if err != nil {
		return o, fmt.Errorf("band %s: %w", bandID, err)
	}
	return o, errors.Join(s.keepBand(w), s.keepReader(r))
}

// touch is the contact itself.
func (s *Street) touch(b *band.Band, r *Reader, opt Options) (Outcome, error) {
	out := Outcome{Reader: r, Band: b.ID}
	b.Suffer(opt.Fault)
	defer b.Suffer(band.Fault{})
	if opt.PowerCut > 0 {
		r.flash.Debits.CutAfter(opt.PowerCut)
		defer func() {
			if !r.flash.Debits.Failed() {
				r.flash.Debits.CutAfter(0)
			}
		}()
	}
	field, err := b.Field()
	if err != nil { // the element's own recovery was cut
		out.Outcome = terminal.Outcome{Result: terminal.TryAgain, Reason: terminal.Torn, At: r.clock.Now()}
		return out, nil
	}
	defer b.Leave()
	o, talk, err := r.serve(field, opt.Repair)
	out.Outcome = o
	if err != nil {
		return out, err
	}
	if out.Time = timing(talk); opt.Talk {
		out.Talk = told(talk, s.House().Network)
	}
	return out, nil
}

// Collect hands a reader's debits over to the house, the oldest first, until
// none are left. It gives how many the house acknowledged.
func (s *Street) Collect(ctx context.Context, readerID string) (n int, err error) {
	r, err := s.Reader(ctx, readerID)
	if err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.on(ctx); err != nil {
		return 0, err
	}
	for r.dev != nil && r.dev.Store().Waiting() > 0 {
		k, err := s.upload(ctx, r)
		n += k
		if err != nil || k == 0 {
			return n, err
		}
	}
	return n, nil
}

// maxUpload bounds one batch of a reader, in debits.
const maxUpload = 200

func (s *Street) upload(ctx context.Context, r *Reader) (int, error) {
	waiting := r.dev.Store().Batch(maxUpload)
	batch := purse.Batch{Terminal: r.Terminal, First: waiting[0].Number}
	for _, d := range waiting {
		batch.Debits = append(batch.Debits, d.Debit)
	}
	body, err := batch.AppendBinary(nil)
	if err != nil {
		return 0, fmt.Errorf("reader %s: %w", r.ID, err)
	}
	raw, err := s.call(ctx, r, http.MethodPost, "debits", body)
	if err != nil {
		return 0, err
	}
	var answer struct {
		Release uint32 `json:"release"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return 0, fmt.Errorf("reader %s: %w", r.ID, err)
	}
	before := r.dev.Store().Waiting()
	err = r.dev.Store().Release(answer.Release)
	if errors.Is(err, terminal.ErrPower) {
		r.powerOff()
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reader %s: %w", r.ID, err)
	}
	return before - r.dev.Store().Waiting(), s.keepReader(r)
}

// Sync fetches what is new of tariff pack and deny list.
func (s *Street) Sync(ctx context.Context, readerID string) error {
	r, err := s.Reader(ctx, readerID)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.on(ctx); err != nil {
		return err
	}
	if err := s.sync(ctx, r); err != nil {
		return err
	}
	return s.keepReader(r)
}

func (s *Street) sync(ctx context.Context, r *Reader) error {
	if g, ok := r.dev.(*gate.Gate); ok {
		pack, err := s.call(ctx, r, http.MethodGet, fmt.Sprintf("tariff?have=%d", r.table()), nil)
		if err != nil {
			return err
		}
		if len(pack) > 0 {
			if err := g.Load(pack); err != nil && !errors.Is(err, terminal.ErrOld) {
				return fmt.Errorf("reader %s: %w", r.ID, err)
			}
		}
	}
	list, err := s.call(ctx, r, http.MethodGet, fmt.Sprintf("deny?have=%d", r.dev.Deny().Version()), nil)
	if err != nil || len(list) == 0 {
		return err
	}
	if err := r.dev.Deny().Apply(list); err != nil && !errors.Is(err, terminal.ErrOld) {
		return fmt.Errorf("reader %s: %w", r.ID, err)
	}
	return nil
}

// call makes one request of a terminal.
func (s *Street) call(ctx context.Context, r *Reader, method, what string, body []byte) ([]byte, error) {
	id := strings.ToLower(r.Terminal.String())
	if r.token == "" {
		var err error
		if r.token, err = s.House().DeviceToken(ctx, device.KindTerminal, id); err != nil {
			return nil, err
		}
	}
	return s.send(ctx, r.ID, method, base+"/terminals/"+id+"/"+what, r.token, body)
}

// Bytes helps hashing: what a reader remembers, its flash's wear excluded.
func (h Held) Bytes() []byte {
	out := binary.BigEndian.AppendUint32(nil, h.Next)
	for _, d := range h.Debits {
		out = fmt.Appendf(out, "|%d %s %d %d", d.Number, d.Debit.Card, d.Debit.Seq, d.Debit.Fen)
	}
	for _, d := range h.Doubts {
		out = fmt.Appendf(out, "|doubt %s %d %d %v", d.Intent.Card, d.Intent.Seq, d.Intent.Fen, d.Paid)
	}
	return out
}
