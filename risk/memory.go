package risk

import (
	"math"
	"time"
)

// A Past is an earlier fact as a window keeps it.
type Past struct {
	At     int64 // microseconds
	ref    uint64
	Card   uint64
	Shop   uint64
	Fen    int64
	Place  Place
	Sale   bool // a sale or pre-authorisation that was not declined
	Credit bool
}

// A Window is what a rule may look at: earlier facts of the same card, shop,
// terminal and agent, oldest first.
type Window struct {
	Card, Shop, Terminal, Agent []Past
}

// hash names a text in windows (FNV-1a, 64 bits): two cards of one window with
// the same name are less likely than a wrong amount on a receipt.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

func (f *Fact) past() Past {
	return Past{At: f.At.UnixMicro(), ref: hash(f.Ref), Card: hash(f.Card), Shop: hash(f.Shop), Fen: f.Fen, Place: f.Place,
		Sale: (f.Kind == Sale || f.Kind == Preauth) && !f.Declined, Credit: f.Class == "credit"}
}

// before orders facts by their own time: memory is the same in whatever order
// they came.
func (p *Past) before(q *Past) bool { return p.At < q.At || p.At == q.At && p.ref < q.ref }

// A trail is the newest facts of one card, shop, terminal or agent.
type trail struct{ past []Past }

// add puts p at its place; a fact that is there stays, the oldest of too many
// goes.
func (t *trail) add(p Past) {
	i := len(t.past)
	for i > 0 && p.before(&t.past[i-1]) {
		i--
	}
	if i > 0 && t.past[i-1].At == p.At && t.past[i-1].ref == p.ref {
		return
	}
	if len(t.past) == MaxTrail {
		if i == 0 {
			return
		}
		copy(t.past, t.past[1:i])
		t.past[i-1] = p
		return
	}
	t.past = append(t.past, Past{})
	copy(t.past[i+1:], t.past[i:])
	t.past[i] = p
}

// memory is what an engine remembers: two generations of a day each, so that
// who was not seen for a day is forgotten without a search.
type memory struct {
	now, old map[string]*trail
	began    int64 // microseconds: when now began
}

func newMemory() *memory { return &memory{now: map[string]*trail{}, old: map[string]*trail{}} }

const generation = int64(24 * time.Hour / time.Microsecond)

// turn begins a new generation when the facts' own time has come to it.
func (m *memory) turn(at int64) {
	day := at - at%generation
	switch {
	case day <= m.began:
	case day == m.began+generation:
		m.old, m.now, m.began = m.now, map[string]*trail{}, day
	default:
		m.old, m.now, m.began = map[string]*trail{}, map[string]*trail{}, day
	}
}

// of reads a trail; it must not be changed.
func (m *memory) of(key string) []Past {
	if t := m.now[key]; t != nil {
		return t.past
	}
	if t := m.old[key]; t != nil {
		return t.past
	}
	return nil
}

func (m *memory) put(key string, p Past) {
	t := m.now[key]
	if t == nil {
		if t = m.old[key]; t == nil {
			t = &trail{}
		}
		m.now[key] = t
	}
	t.add(p)
}

// Keys of the four kinds of trails; an empty name has none.
func keys(f *Fact) (card, shop, terminal, agent string) {
	if f.Card != "" {
		card = "c" + f.Card
	}
	if f.Agent != "" {
		agent = "a" + f.Agent
	}
	if f.Terminal != "" {
		terminal = "t" + f.Terminal
	}
	return card, "s" + f.Shop, terminal, agent
}

func (m *memory) window(f *Fact) Window {
	card, shop, terminal, agent := keys(f)
	return Window{Card: m.of(card), Shop: m.of(shop), Terminal: m.of(terminal), Agent: m.of(agent)}
}

// learn remembers a fact.
func (m *memory) learn(f *Fact) {
	p := f.past()
	m.turn(p.At)
	card, shop, terminal, agent := keys(f)
	for _, k := range [...]string{card, shop, terminal, agent} {
		if k != "" {
			m.put(k, p)
		}
	}
}

// km is how far apart two places are, along the surface.
func km(a, b Place) float64 {
	const degree = math.Pi / 180 / 10_000
	lat := float64(a.Lat-b.Lat) * degree
	lon := float64(a.Lon-b.Lon) * degree
	s := math.Sin(lat/2)*math.Sin(lat/2) + math.Cos(float64(a.Lat)*degree)*math.Cos(float64(b.Lat)*degree)*math.Sin(lon/2)*math.Sin(lon/2)
	return 2 * 6371 * math.Asin(math.Min(1, math.Sqrt(s)))
}
