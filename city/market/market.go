// Package market is the shops of a simulated city that take cards online:
// merchants that applied and were approved, terminals that speak the UnionPay
// dialect to the house's switch, hosts of other institutions behind it, and the
// nights on which clearing files and bank statements are compared. Everything
// that can go wrong goes wrong at a seam: a message on its way, the power of a
// terminal, an institution's host, a line of a file, a line of the bank.
//
// Start with New, Open and Do; Night closes a day, Check proves what holds at
// any time and End what holds when everything has come to its end.
package market

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"koala/app"
	"koala/calendar"
	"koala/city/foreign"
	"koala/city/street"
	"koala/customer"
	"koala/internal/clock"
	"koala/internal/fail"
)

// What can go wrong, beside what shoppers see.
var (
	ErrNoTill   = fail.Define(fail.NotFound, "city.no_till", "there is no such till in the city")
	ErrUnsigned = fail.Define(fail.Conflict, "city.unsigned", "the slip cannot be signed any more")
	ErrNoFile   = errors.New("market: the institution is not simulated") // its files come from outside
	ErrWrong    = errors.New("market: the books and what happened differ")
)

// Faults are the seams. Each is asked at every occasion; nil: nothing goes
// wrong there.
type Faults struct {
	Line  func() LineFault     // of a message between terminal and switch
	Power func() int           // the write at which a terminal's power fails, 0 never
	Host  func() foreign.Fault // of a message that an institution's host gets
	Paper func() PaperFault    // of a line of a clearing file
	Bank  func() BankFault     // of a line that the bank writes
	Code  func() CodeFault     // of a payment code that is shown
	Note  func(name string)    // is told what went wrong
}

// Config says what market to make.
type Config struct {
	Clock  clock.Clock
	Rand   func(id string) io.Reader // what devices draw from
	Faults Faults
	Hosts  bool                                                 // the house asks the hosts that are played here; otherwise only their cardholders are
	Dir    string                                               // folder of the terminals' images; empty keeps none
	Files  func(host string, day calendar.Date) ([]byte, error) // clearing files; nil: of the hosts that are played here
	Leave  int                                                  // exceptions that stay open for whoever looks
}

// A Market is all of it. It is safe for concurrent use; each terminal serves one
// card at a time.
type Market struct {
	cfg    Config
	street atomic.Pointer[street.Street]
	house  atomic.Pointer[app.House]
	watch  atomic.Pointer[func(Outcome)]

	shops  []*Shop
	byID   map[string]*Till
	abroad map[string]*Institution
	names  []string // of institutions, sorted
	late   []delayed
	mu     sync.Mutex
	nights nights
	counts map[string]int64

	sales      []sold // that may be given back
	codes      map[customer.ID]drawnCode
	drawn      int
	quarrelled bool
	fresh      bool             // no house knew the shops before
	disputed   map[string]int64 // fen that chargebacks took from payees
}

// New makes the market. Its shops are not known to any house yet.
func New(cfg Config) (*Market, error) {
	if cfg.Rand == nil {
		cfg.Rand = func(string) io.Reader { return clock.Entropy() }
	}
	m := &Market{cfg: cfg, byID: map[string]*Till{}, abroad: map[string]*Institution{}, nights: nights{Through: map[string]bool{}}, counts: map[string]int64{}, disputed: map[string]int64{}, codes: map[customer.ID]drawnCode{}}
	for _, d := range definitions {
		shop := &Shop{Definition: d}
		for n := range d.Tills {
			t := &Till{Shop: shop, ID: fmt.Sprintf("%s.%d", d.ID, n+1), m: m, facts: map[key]Fact{}}
			shop.Tills = append(shop.Tills, t)
			m.byID[t.ID] = t
		}
		m.shops = append(m.shops, shop)
	}
	return m, m.playHosts()
}

// Move puts the market on a street beside a house: the first, or the same after
// a restart. Without bands the street may be nil.
func (m *Market) Move(h *app.House, s *street.Street) {
	m.house.Store(h)
	m.street.Store(s)
}

// Watch has f told of everything that a terminal of the market does.
func (m *Market) Watch(f func(Outcome)) { m.watch.Store(&f) }

// House is the house that the market's terminals speak to.
func (m *Market) House() *app.House { return m.house.Load() }

// Shops lists the shops.
func (m *Market) Shops() []*Shop { return m.shops }

// Till finds a terminal by its name, shop.number.
func (m *Market) Till(id string) (*Till, error) {
	if t := m.byID[id]; t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("till %q: %w", id, ErrNoTill)
}

// Tills lists the terminals by name.
func (m *Market) Tills() []*Till {
	out := make([]*Till, 0, len(m.byID))
	for _, t := range m.byID {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *Till) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Counts is what has happened, by name.
func (m *Market) Counts() map[string]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]int64{}
	for k, v := range m.counts {
		out[k] = v
	}
	return out
}

func (m *Market) count(name string, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n != 0 {
		m.counts[name] += n
	}
}

func (m *Market) note(name string) {
	if m.cfg.Faults.Note != nil {
		m.cfg.Faults.Note(name)
	}
}

// today is the day in Beijing.
func (m *Market) today() calendar.Date { return calendar.Of(m.cfg.Clock.Now(), calendar.Beijing) }

// insist tries a unit of the house again while a commit breaks.
func (m *Market) insist(ctx context.Context, what string, f func() error) error {
	if err := m.street.Load().Insist(f); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return ctx.Err()
}
