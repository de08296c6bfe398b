package home

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// The bounds of looking slips up without a login: whoever has a slip asks a few
// times, who guesses asks often. A second bound is everybody's together, for
// those who come from many addresses.
const (
	askBurst  = 10
	askEvery  = 6 * time.Second // one more after so long
	allBurst  = 100
	allEvery  = time.Second / 2
	maxAskers = 10_000
)

// A limiter lets each address ask so often.
type limiter struct {
	mu   sync.Mutex
	all  allowance
	each map[string]*allowance
}

// An allowance is refilled with time: full says when it would be full again.
type allowance struct{ full time.Time }

func (a *allowance) take(now time.Time, burst int, every time.Duration) bool {
	full := a.full
	if full.Before(now) {
		full = now
	}
	if full = full.Add(every); full.Sub(now) > time.Duration(burst)*every {
		return false
	}
	a.full = full
	return true
}

// may takes one of what the address of a request has left.
func (l *limiter) may(r *http.Request, now time.Time) bool {
	who, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		who = r.RemoteAddr
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.each == nil {
		l.each = map[string]*allowance{}
	}
	a := l.each[who]
	if a == nil {
		if len(l.each) >= maxAskers {
			for k, x := range l.each {
				if x.full.Before(now) {
					delete(l.each, k)
				}
			}
		}
		if len(l.each) >= maxAskers {
			return false
		}
		a = &allowance{}
		l.each[who] = a
	}
	return a.take(now, askBurst, askEvery) && l.all.take(now, allBurst, allEvery)
}
