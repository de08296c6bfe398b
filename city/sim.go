package city

import (
	"container/heap"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"koala/app"
	"koala/band"
	"koala/city/market"
	"koala/city/street"
	"koala/internal/clock"
	"koala/internal/db"
)

// rate is how often what goes wrong, per mille of its occasions.
type rate struct {
	tear    int           // contacts of a band
	wire    int           // requests of a device
	power   int           // taps at a reader
	commit  int           // steps after which a commit breaks
	restart time.Duration // between restarts of the house; 0 never
	people  int           // trips in which a person does something odd
	paper   int           // lines of clearing files; four times as often movements of the bank
}

var rates = map[Faults]rate{
	None: {people: 20},
	Some: {tear: 10, wire: 10, power: 5, commit: 3, restart: 8 * time.Hour, people: 30, paper: 10},
	Many: {tear: 70, wire: 50, power: 25, commit: 20, restart: 100 * time.Minute, people: 60, paper: 50},
}

// fullEvery is how many steps lie between two full checks.
const fullEvery = 2000

// A sim is one run: the house, the street, the people, and what happens next.
type sim struct {
	ctx    context.Context
	cfg    Config
	rate   rate
	clock  *clock.Virtual
	chance io.Reader  // what the house draws from
	dice   *rand.Rand // what people and faults draw from
	data   string     // folder of the house that lives now
	folder int        // folders used so far

	house   *app.House
	street  *street.Street
	market  *market.Market
	breaker breaker
	people  []*rider
	cards   map[string]*history // by band

	queue  queue
	serial int
	steps  int
	doing  string
	calm   bool // no more faults: the run is closing

	counts   map[string]int64
	injected map[string]int64
}

// dice makes the people's chance from the seed, apart from the house's.
func dice(seed uint64) *rand.Rand {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	copy(key[8:], "koala city people")
	return rand.New(rand.NewChaCha8(key))
}

// An event is something that happens at a time.
type event struct {
	at    time.Time
	order int
	what  string
	do    func() error
}

// A queue orders events by time and then by when they were put in.
type queue []event

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	if q[i].at.Equal(q[j].at) {
		return q[i].order < q[j].order
	}
	return q[i].at.Before(q[j].at)
}

func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *queue) Push(x any) { *q = append(*q, x.(event)) }

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*q = old[:len(old)-1]
	return e
}

// at puts an event in; never before now.
func (s *sim) at(t time.Time, what string, do func() error) {
	if now := s.clock.Now(); t.Before(now) {
		t = now
	}
	s.serial++
	heap.Push(&s.queue, event{t, s.serial, what, do})
}

// in is at, from now.
func (s *sim) in(d time.Duration, what string, do func() error) { s.at(s.clock.Now().Add(d), what, do) }

// every repeats an act of the city until the end of the run's days.
func (s *sim) every(d time.Duration, what string, do func() error) {
	s.in(d, what, func() error {
		if s.clock.Now().Before(s.end()) {
			s.every(d, what, do)
		}
		return do()
	})
}

func (s *sim) end() time.Time { return s.cfg.Start.Add(time.Duration(s.cfg.Days) * 24 * time.Hour) }

// run works the queue off and closes the books.
func (s *sim) run() error {
	s.timetable()
	var told time.Time
	for s.queue.Len() > 0 {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		e := heap.Pop(&s.queue).(event)
		s.clock.Set(e.at)
		if err := s.step(e); err != nil {
			return err
		}
		if s.cfg.Progress != nil && e.at.Sub(told) >= time.Hour {
			told = e.at
			s.cfg.Progress(e.at, e.at.Sub(s.cfg.Start), s.end().Sub(s.cfg.Start))
		}
	}
	s.doing = "closing"
	return s.closing()
}

// step is one event and the checks after it.
func (s *sim) step(e event) error {
	s.steps++
	s.doing = e.what
	if s.rolls(s.rate.commit) {
		s.breaker.arm(1+s.dice.IntN(6), s.dice.IntN(2) == 0)
	}
	if err := e.do(); err != nil {
		return err
	}
	if s.steps%fullEvery == 0 {
		return s.checkAll()
	}
	return nil
}

// timetable is what the city does by itself.
func (s *sim) timetable() {
	s.every(30*time.Minute, "collect", s.collectAll)
	s.every(45*time.Minute, "hand in", s.handInAll)
	s.every(2*time.Hour, "sync", s.syncAll)
	s.every(15*time.Minute, "tick", s.tick)
	s.every(7*time.Minute, "late mail", func() error {
		s.count("late", int64(s.street.Wire.Flush()+s.market.Flush(s.ctx)))
		return nil
	})
	s.every(time.Hour, "market check", func() error { return s.market.Check(s.ctx) })
	if s.rate.restart > 0 {
		s.every(s.rate.restart, "restart", s.restart)
	}
	for day := range s.cfg.Days {
		morning := s.cfg.Start.Add(time.Duration(day) * 24 * time.Hour)
		for i, r := range s.people {
			if day == 0 {
				s.at(morning.Add(time.Duration(i)*90*time.Minute/time.Duration(len(s.people))), "join", r.join)
			}
			s.plan(r, morning)
		}
		s.planMarket(morning)
		if s.cfg.sabotage != nil && day == 0 {
			s.at(morning.Add(8*time.Hour), "sabotage", func() error { return s.cfg.sabotage(s) })
		}
	}
}

func (s *sim) count(name string, n int64) {
	if n != 0 {
		s.counts[name] += n
	}
}

func (s *sim) inject(name string) { s.injected[name]++ }

// rolls decides with a chance per mille; nothing goes wrong while closing.
func (s *sim) rolls(perMille int) bool {
	return !s.calm && perMille > 0 && s.dice.IntN(1000) < perMille
}

// wireFault is the Wire's fault seam.
func (s *sim) wireFault(r *http.Request) street.WireFault {
	if !s.rolls(s.rate.wire) {
		return street.Delivered
	}
	f := []street.WireFault{street.LostRequest, street.LostAnswer, street.Doubled, street.Late}[s.dice.IntN(4)]
	if f == street.Late && r.Method == http.MethodGet {
		f = street.LostRequest
	}
	s.inject([]string{"", "request lost", "answer lost", "request doubled", "request late"}[f])
	return f
}

// contact draws what a contact of a band suffers, and says its name.
func (s *sim) contact() (f band.Fault) {
	if !s.rolls(s.rate.tear) {
		return f
	}
	switch s.dice.IntN(3) {
	case 0:
		f.Lose = 1 + s.dice.IntN(9)
		s.inject("contact lost")
	default:
		f.Cut, f.Keep = 1+s.dice.IntN(24), s.dice.IntN(65)
		s.inject("write torn")
	}
	return f
}

// darkness draws the flash write at which a reader's power fails, 0 never.
func (s *sim) darkness() int {
	if !s.rolls(s.rate.power) {
		return 0
	}
	s.inject("power cut")
	return 1 + s.dice.IntN(5)
}

// write is one unit of work of a person or clerk: it is tried again when the
// commit broke. References make that harmless.
func (s *sim) write(f func(tx *db.Tx) error) error {
	return s.street.Insist(func() error { return s.house.Store.Write(s.ctx, f) })
}

// tick lets the house do what is due. A commit that breaks in it is nothing:
// the next tick goes on. The house also brings its views up to date here, with
// a commit in the same database on PostgreSQL and in another one otherwise, so
// commits in a tick are broken on their own account.
func (s *sim) tick() error {
	defer s.breaker.instead(0, false)()
	if s.rolls(10 * s.rate.commit) {
		s.breaker.arm(1+s.dice.IntN(2), s.dice.IntN(2) == 0)
	}
	if err := s.house.Tick(s.ctx); err != nil && !street.Passing(err) {
		return fmt.Errorf("tick: %w", err)
	}
	return nil
}

// collectAll hands over what readers have, in a different order every time.
func (s *sim) collectAll() error {
	readers := s.street.Readers()
	s.dice.Shuffle(len(readers), func(i, j int) { readers[i], readers[j] = readers[j], readers[i] })
	for _, r := range readers {
		n, err := s.street.Collect(s.ctx, r.ID)
		s.count("collected", int64(n))
		if err != nil && !s.transient(err) {
			return fmt.Errorf("collecting: %w", err)
		}
	}
	return nil
}

// handInAll does the same for shops and sites.
func (s *sim) handInAll() error {
	all := s.street.Acceptors()
	s.dice.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, a := range all {
		n, err := s.street.HandIn(s.ctx, a.ID)
		s.count("handed in", int64(n))
		if err != nil && !s.transient(err) {
			return fmt.Errorf("handing in: %w", err)
		}
	}
	return nil
}

// transient says that a device may try the same again later.
func (s *sim) transient(err error) bool {
	return street.Passing(err) || errors.Is(err, street.ErrHouse) && !s.calm
}

func (s *sim) syncAll() error {
	for _, a := range s.street.Acceptors() {
		if err := s.street.Refresh(s.ctx, a.ID); err != nil && !s.transient(err) {
			return fmt.Errorf("fetching packs: %w", err)
		}
	}
	for _, r := range s.street.Readers() {
		if err := s.street.Sync(s.ctx, r.ID); err != nil && !s.transient(err) {
			return fmt.Errorf("fetching packs: %w", err)
		}
	}
	return nil
}

// freshFolder makes the folder the next house lives in.
func (s *sim) freshFolder() (string, error) {
	s.folder++
	dir := filepath.Join(s.cfg.Data, fmt.Sprintf("house-%d", s.folder))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("folder of the house: %w", err)
	}
	return dir, nil
}

// restart ends the house and opens it again: by turns in good order, and as
// after a crash from the files as they lie there. On PostgreSQL a crash is a
// second house that takes over while the first still holds its connection.
func (s *sim) restart() error {
	crash := s.injected["restart"] > s.injected["crash"]
	s.breaker.arm(0, false)
	old := s.house
	if !crash {
		s.inject("restart")
		if err := old.Close(); err != nil {
			return fmt.Errorf("closing the house: %w", err)
		}
	} else {
		s.inject("crash")
		if err := s.cloneFolder(); err != nil {
			return err
		}
	}
	house, err := app.New(s.ctx, s.houseConfig(s.data))
	if err != nil {
		return fmt.Errorf("opening the house again: %w", err)
	}
	if crash {
		_ = old.Close() // its files are of another world now
	}
	s.house = house
	s.street.Move(house)
	s.market.Move(house, s.street)
	return nil
}

// cloneFolder copies the store's files while the house is alive. With a house
// on PostgreSQL there is only the key file to keep.
func (s *sim) cloneFolder() error {
	if s.cfg.DB != "" {
		return nil
	}
	to, err := s.freshFolder()
	if err != nil {
		return err
	}
	files, err := os.ReadDir(s.data)
	if err != nil {
		return fmt.Errorf("crash clone: %w", err)
	}
	for _, f := range files {
		if f.IsDir() || strings.HasSuffix(f.Name(), "-shm") {
			continue
		}
		if err := copyFile(filepath.Join(s.data, f.Name()), filepath.Join(to, f.Name())); err != nil {
			return fmt.Errorf("crash clone: %w", err)
		}
	}
	s.data = to
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func (s *sim) close() {
	if s.house != nil {
		s.house.Close()
	}
}

// errInjected is what a broken commit says in the city.
var errInjected = errors.New("street: the database failed (simulated)")

// A breaker is the database's fault seam: armed, it lets one later commit
// fail, before it or after it.
type breaker struct {
	mu            sync.Mutex
	left          int  // commits until it strikes; 0 disarmed
	after         bool // the commit is in, its answer is lost
	due           bool // strike at this commit's end
	before, later int  // strikes so far
}

// arm lets the n-th commit from now fail (n >= 1).
func (b *breaker) arm(n int, after bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left, b.after = n, after
}

// instead arms anew; what it returns puts back what was armed before.
func (b *breaker) instead(n int, after bool) (back func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	left, was := b.left, b.after
	b.left, b.after = n, after
	return func() { b.arm(left, was) }
}

// BeforeCommit implements db.Faults.
func (b *breaker) BeforeCommit(int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left == 0 {
		return nil
	}
	if b.left--; b.left > 0 {
		return nil
	}
	if b.after {
		b.due = true
		return nil
	}
	b.before++
	return errInjected
}

// AfterCommit implements db.Faults.
func (b *breaker) AfterCommit(int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.due {
		return nil
	}
	b.due = false
	b.later++
	return errInjected
}
