// Package pulse remembers the last transactions that a switch answered: what its
// pages show of speed and outcome. It is kept in memory only.
package pulse

import (
	"sync"
	"time"
)

// A Beat is one transaction as it was answered.
type Beat struct {
	At   time.Time // by the house's clock
	Took time.Duration
	Kind string
	Host string // empty: our own bank
	Code string // field 39
}

// most is how many are remembered.
const most = 4096

// A Pulse is the last beats. It is safe for concurrent use; the zero value has
// none.
type Pulse struct {
	mu   sync.Mutex
	list [most]Beat
	n    int
}

// Add remembers a beat in the place of the oldest.
func (p *Pulse) Add(b Beat) {
	p.mu.Lock()
	p.list[p.n%most] = b
	p.n++
	p.mu.Unlock()
}

// Since gives the beats from a moment on, oldest first.
func (p *Pulse) Since(moment time.Time) []Beat {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := max(0, p.n-most)
	at := p.n
	for at > first && !p.list[(at-1)%most].At.Before(moment) {
		at--
	}
	out := make([]Beat, 0, p.n-at)
	for ; at < p.n; at++ {
		out = append(out, p.list[at%most])
	}
	return out
}
