package home

import (
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// The bounds of looking slips up without a login: whoever has a slip asks a few
// times, who guesses asks often. A second bound is everybody's together, for
// those who come from many addresses.
const (
	askBurst = 10
	askEvery = 6 * time.Second // one more after so long
	allBurst = 100
	allEvery = time.Second / 2
)

// maxAskers is how many addresses are remembered before those that may ask their
// whole burst again are forgotten. Only who was let through is remembered, and the
// bound of all lets 220 through in the minute that an address takes to refill.
const maxAskers = 1000

// A limiter lets each address ask so often.
type limiter struct {
	mu   sync.Mutex
	all  time.Time // when the allowance of all would be full again
	each map[netip.Prefix]time.Time
}

// taken is when an allowance is full again after one more is taken from it; ok is
// false when none is left. One that was never used is full at the zero time.
func taken(full, now time.Time, burst int, every time.Duration) (then time.Time, ok bool) {
	if full.Before(now) {
		full = now
	}
	then = full.Add(every)
	return then, then.Sub(now) <= time.Duration(burst)*every
}

// may takes one of what the address of a request has left, and one of what all
// have: of both or of neither, so that one who asks too often takes nothing from
// the others.
func (l *limiter) may(r *http.Request, now time.Time) bool {
	who := askerAt(r.RemoteAddr)
	l.mu.Lock()
	defer l.mu.Unlock()
	own, mine := taken(l.each[who], now, askBurst, askEvery)
	all, ours := taken(l.all, now, allBurst, allEvery)
	if !mine || !ours {
		return false
	}
	if l.each == nil || len(l.each) >= maxAskers {
		l.forget(now)
	}
	l.all, l.each[who] = all, own
	return true
}

// forget keeps those alone who may not ask their whole burst yet.
func (l *limiter) forget(now time.Time) {
	kept := map[netip.Prefix]time.Time{}
	for who, full := range l.each {
		if full.After(now) {
			kept[who] = full
		}
	}
	l.each = kept
}

// askerAt is who asks, by the address of a connection: an IPv4 address, or the /64
// of an IPv6 one, of which a line has all (RFC 6177). What does not read is one
// asker.
func askerAt(remote string) netip.Prefix {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	addr := at.Addr().Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	net, _ := addr.Prefix(bits) // bits are never too many
	return net
}
