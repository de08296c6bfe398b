package city

import (
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"koala/app"
	"koala/calendar"
	"koala/city/market"
	"koala/city/street"
	"koala/customer"
	"koala/internal/clock"
	"koala/spec/purse"
	"koala/terminal"
	"koala/transit"
	"koala/transit/network"
	"koala/web"
	"koala/web/home"
)

// Sizes and rhythms of the living city. The rhythms are real time: they say
// how soon a page shows what happened.
const (
	DefaultResidents = 300
	workers          = 3 // residents who act at the same moment
	joinAtOnce       = 25
	collectEvery     = 2 * time.Second
	syncEvery        = 10 * time.Second
	tickEvery        = 3 * time.Second
	tellEvery        = time.Second
	keptActs         = 60
	sparkPoints      = 40
)

// A LiveConfig says what city lives beside a house.
type LiveConfig struct {
	People int           // residents; 0 is DefaultResidents, negative none
	Seed   uint64        // of what residents do
	Clock  *clock.Scaled // the house's own clock
	Hub    *web.Hub      // hears taps, trains, figures and acts on topic "city"
	Dir    string        // folder of device images; empty keeps none
	Log    *slog.Logger
	Market *market.Market // the shops that take cards online; nil makes them
}

// A Live is a small city in motion beside real web traffic: residents ride
// the metro on the house's scaled clock, gates hand over, trains are drawn. It
// is the City of the start page and the Street of the wearer's pages.
type Live struct {
	cfg    LiveConfig
	house  *app.House
	street *street.Street
	market *market.Market
	clock  *clock.Scaled
	log    *slog.Logger

	mu     sync.Mutex
	queue  queue
	serial int
	acts   []act // the newest last
	news   bool  // acts that no page was told of
	seen   tally
	spark  sparks
	inside map[string]bool // bands whose owners are in the network
	payers []customer.ID   // residents, who pay by code now and then
	taps   map[string][]heldTap

	giving  sync.Mutex // a new band for a customer without one
	pending sync.WaitGroup
}

// tally is what the city has done, kept beside the device images.
type tally struct {
	Taps   int64 `json:"taps"`
	TopUps int64 `json:"topups"`
	Cards  int64 `json:"cards"`

	Lost map[string]bool `json:"lost,omitempty"` // bands that lie somewhere
}

// sparks are the last values of the two drawn figures, per tellEvery.
type sparks struct{ taps, moved []int64 }

// An act is a home.Act that may still look for its trace.
type act struct {
	home.Act
	card  purse.Number
	seq   uint16
	visit *street.Visit
}

// NewLive makes the city; Run sets it in motion.
func NewLive(h *app.House, cfg LiveConfig) (*Live, error) {
	if cfg.Clock == nil || cfg.Hub == nil {
		return nil, fmt.Errorf("a living city needs the house's scaled clock and a hub: %w", ErrConfig)
	}
	if cfg.People == 0 {
		cfg.People = DefaultResidents
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	street, err := street.New(h, street.Config{Dir: cfg.Dir})
	if err != nil {
		return nil, err
	}
	if err := openShops(context.Background(), street); err != nil {
		return nil, err
	}
	l := &Live{cfg: cfg, house: h, street: street, market: cfg.Market, clock: cfg.Clock, log: cfg.Log, inside: map[string]bool{}, taps: map[string][]heldTap{}}
	if err := l.openMarket(context.Background()); err != nil {
		return nil, err
	}
	return l, l.recall()
}

// openMarket puts the shops that take cards online on the street.
func (l *Live) openMarket(ctx context.Context) (err error) {
	if l.market == nil {
		if l.market, err = market.New(market.Config{Clock: l.clock, Dir: l.cfg.Dir}); err != nil {
			return err
		}
	}
	l.market.Move(l.house, l.street)
	l.market.Watch(l.sold)
	return l.market.Open(ctx)
}

// Street is the physical world of the city.
func (l *Live) Street() *street.Street { return l.street }

// Run keeps the city moving until ctx ends; then everything under way comes to
// its end.
func (l *Live) Run(ctx context.Context) error {
	var all sync.WaitGroup
	due := make(chan event)
	for range workers {
		all.Go(func() {
			for e := range due {
				if err := e.do(); err != nil && ctx.Err() == nil {
					l.log.Warn("the city stumbles", "doing", e.what, "err", err)
				}
			}
		})
	}
	l.settle(ctx)
	l.openTills(ctx)
	all.Go(func() { l.trains(ctx) })
	all.Go(func() { l.beat(ctx, collectEvery, l.collect) })
	all.Go(func() { l.beat(ctx, syncEvery, l.syncAll) })
	all.Go(func() { l.beat(ctx, tickEvery, l.house.Tick) })
	all.Go(func() { l.beat(ctx, tellEvery, l.tell) })
	l.dispatch(ctx, due)
	close(due)
	all.Wait()
	l.pending.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(l.collect(last), l.remember())
}

// beat repeats f in real time. What fails is tried at the next beat.
func (l *Live) beat(ctx context.Context, every time.Duration, f func(context.Context) error) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := f(ctx); err != nil && ctx.Err() == nil {
				l.log.Warn("the city stumbles", "err", err)
			}
		}
	}
}

// dispatch hands events to the workers as the city's clock reaches them.
func (l *Live) dispatch(ctx context.Context, due chan<- event) {
	for {
		e, wait, ok := l.pop()
		if ok {
			select {
			case due <- e:
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// pop takes the next event if its time has come, or says how long to wait in
// real time. The speed may change meanwhile, so never long.
func (l *Live) pop() (e event, wait time.Duration, ok bool) {
	const longest = 50 * time.Millisecond
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return e, longest, false
	}
	if ahead := l.queue[0].at.Sub(l.clock.Now()); ahead > 0 {
		if speed := l.clock.Speed(); speed > 0 {
			return e, min(longest, time.Duration(float64(ahead)/speed)), false
		}
		return e, longest, false
	}
	return heap.Pop(&l.queue).(event), 0, true
}

// in puts an event in, d of city time from now.
func (l *Live) in(d time.Duration, what string, do func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.serial++
	heap.Push(&l.queue, event{l.clock.Now().Add(d), l.serial, what, do})
}

// settle puts the residents on the street, a few at once.
func (l *Live) settle(ctx context.Context) {
	net := l.house.Network
	dice := rand.New(rand.NewPCG(l.cfg.Seed, 300))
	stops := append([]*network.Station(nil), net.Stations...)
	dice.Shuffle(len(stops), func(i, j int) { stops[i], stops[j] = stops[j], stops[i] })
	stops = stops[:min(len(stops), 8+l.cfg.People/8)]
	if s, err := net.Find("东单"); err == nil {
		stops[0] = s
	}
	for i := range max(l.cfg.People, 0) {
		r := &resident{l: l, ctx: ctx, n: i + 1, dice: rand.New(rand.NewPCG(l.cfg.Seed, uint64(i)+1000))}
		for range 3 {
			r.places = append(r.places, stops[dice.IntN(len(stops))])
		}
		r.at = r.places[0]
		l.in(time.Duration(i/joinAtOnce)*time.Minute, "join", r.arrive)
	}
}

// collect hands over what readers and the devices of shops have.
func (l *Live) collect(ctx context.Context) error {
	var all error
	for _, a := range l.street.Acceptors() {
		if _, err := l.street.HandIn(ctx, a.ID); err != nil {
			all = errors.Join(all, err)
		}
	}
	for _, r := range l.street.Readers() {
		if _, err := l.street.Collect(ctx, r.ID); err != nil {
			all = errors.Join(all, err)
		}
	}
	return all
}

func (l *Live) syncAll(ctx context.Context) error {
	var all error
	for _, a := range l.street.Acceptors() {
		if err := l.street.Refresh(ctx, a.ID); err != nil {
			all = errors.Join(all, err)
		}
	}
	for _, r := range l.street.Readers() {
		if err := l.street.Sync(ctx, r.ID); err != nil {
			all = errors.Join(all, err)
		}
	}
	return errors.Join(all, l.remember())
}

// tell publishes the figures and, when there are new acts, that there are.
func (l *Live) tell(ctx context.Context) error {
	t, err := l.Totals(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	news := l.news
	l.news = false
	l.spark.taps = point(l.spark.taps, t.Taps)
	l.spark.moved = point(l.spark.moved, t.MovedFen)
	l.mu.Unlock()
	l.cfg.Hub.Publish("city", "figures", t.Figures())
	if news {
		l.cfg.Hub.Publish("city", "act", struct{}{})
	}
	return nil
}

func point(line []int64, v int64) []int64 {
	line = append(line, v)
	return line[max(0, len(line)-sparkPoints):]
}

// happened keeps an act for the feed.
func (l *Live) happened(a act) {
	a.At = l.clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch a.Kind {
	case home.TopUp:
		l.seen.TopUps++
	case home.Issue:
		l.seen.Cards++
	}
	l.acts = append(l.acts, a)
	l.acts = l.acts[max(0, len(l.acts)-keptActs):]
	l.news = true
}

// tapped tells the map and the feed of a tap.
func (l *Live) tapped(o street.Outcome) {
	a := act{Act: home.Act{Who: "…" + tail(o.Card), Fen: int64(o.Fen)}, card: o.Card}
	if o.Stored != nil {
		a.seq = o.Stored.Debit.Seq
	}
	kind := "in"
	switch o.Reader.Kind {
	case transit.EntryGate:
		a.Kind = home.TapIn
	case transit.ExitGate:
		a.Kind, kind = home.TapOut, "out"
	case transit.Machine:
		a.Kind = home.Repair
	case transit.OnBus:
		a.Kind, kind = home.Bus, "bus"
	}
	a.Station = l.placeOf(o.Reader)
	switch {
	case o.Result == terminal.TryAgain:
		if a.Kind = home.Torn; o.Card == "" {
			a.Who = o.Band // it left before it said its number
		}
	case o.Result != terminal.Opened:
		return
	}
	l.mu.Lock()
	if o.Result == terminal.Opened {
		l.seen.Taps++
		switch o.Reader.Kind {
		case transit.EntryGate:
			l.inside[o.Band] = true
		case transit.ExitGate:
			delete(l.inside, o.Band)
		}
	}
	l.mu.Unlock()
	l.cfg.Hub.Publish("city", "tap", map[string]string{"station": a.Station, "kind": kind})
	l.happened(a)
}

// enters counts a band's owner as inside.
func (l *Live) enters(band string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inside[band] = true
}

// placeOf is the station a reader stands at; a bus stands at one of its stops.
func (l *Live) placeOf(r *street.Reader) string {
	if r.Station != nil {
		return r.Station.ID
	}
	if line, ok := l.street.Bus(r.ID); ok {
		return line.Stations[line.Where(l.clock.Now())].ID
	}
	return ""
}

// trains draws trains between neighbouring stations. They follow the
// network's distances and the city's speed, nothing else: they are simulated.
func (l *Live) trains(ctx context.Context) {
	const perLine = 2
	var all sync.WaitGroup
	for _, line := range l.house.Network.Lines {
		for k := range perLine {
			all.Go(func() { l.train(ctx, line, k*len(line.Stops)/perLine, fmt.Sprintf("%s-%d", line.ID, k)) })
		}
	}
	all.Wait()
}

func (l *Live) train(ctx context.Context, line *network.Line, at int, id string) {
	const shortest = 900 * time.Millisecond
	step, n := 1, len(line.Stops)
	for n > 1 && ctx.Err() == nil {
		next := at + step
		switch {
		case line.Loop:
			next = (next + n) % n
		case next < 0 || next >= n:
			step = -step
			next = at + step
		}
		wait := time.Second
		if speed := l.clock.Speed(); speed > 0 {
			city := time.Duration(street.Apart(line.Stops[at].Station, line.Stops[next].Station)/9)*time.Second + 30*time.Second
			wait = max(shortest, time.Duration(float64(city)/speed))
			l.cfg.Hub.Publish("city", "train", map[string]any{"id": id, "line": line.ID,
				"from": line.Stops[at].Station.ID, "to": line.Stops[next].Station.ID, "ms": wait.Milliseconds()})
			at = next
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(wait, 5*time.Second)):
		}
	}
}

// openTills sets the shops in motion: strangers come in, and tills close.
func (l *Live) openTills(ctx context.Context) {
	if l.cfg.People < 0 {
		return
	}
	dice := rand.New(rand.NewPCG(l.cfg.Seed, 400))
	var visit, hour func() error
	visit = func() error {
		defer func() { l.in(time.Duration(3+dice.IntN(6))*time.Minute, "sale", visit) }() // one after the other: they share dice
		_, err := l.market.Trade(ctx, dice, l.shopper(dice))
		return err
	}
	hour = func() error {
		l.in(time.Hour, "closing time", hour)
		now := l.clock.Now().In(calendar.Beijing)
		for _, s := range l.market.Shops() {
			for _, t := range s.Tills {
				if int(s.Closes) != now.Hour() || s.Closes == 0 {
					continue
				}
				if _, _, err := l.market.Settle(ctx, t.ID); err != nil {
					return err
				}
			}
		}
		return nil
	}
	l.in(10*time.Minute, "sale", visit)
	l.in(time.Hour, "closing time", hour)
	var night func() error
	night = func() error {
		defer l.in(3*time.Hour, "night", night)
		return l.market.Nights(ctx)
	}
	l.in(time.Hour, "night", night)
}

// remember and recall keep the tally beside the device images.
func (l *Live) remember() error {
	if l.cfg.Dir == "" {
		return nil
	}
	l.mu.Lock()
	b, err := json.Marshal(l.seen)
	l.mu.Unlock()
	if err != nil {
		return fmt.Errorf("keeping the city's tally: %w", err)
	}
	return street.WriteFile(filepath.Join(l.cfg.Dir, tallyFile), b)
}

const tallyFile = "city.json"

func (l *Live) recall() error {
	if l.cfg.Dir == "" {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(l.cfg.Dir, tallyFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, &l.seen)
	}
	if err != nil {
		return fmt.Errorf("reading the city's tally %s: %w", filepath.Join(l.cfg.Dir, tallyFile), err)
	}
	return nil
}
