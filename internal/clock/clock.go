// Package clock is the only place where koala meets time and chance: the
// system's clock and entropy for real use, a settable clock and a seeded
// reader for the city and for tests.
package clock

import (
	"crypto/rand"
	"io"
	mrand "math/rand/v2"
	"sync"
	"time"
)

// A Clock tells the time, in UTC with microseconds.
type Clock interface{ Now() time.Time }

type system struct{}

func (system) Now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// System is the machine's clock.
func System() Clock { return system{} }

// Virtual is a clock that moves only when told. It is safe for concurrent use.
type Virtual struct {
	mu  sync.Mutex
	now time.Time
}

// NewVirtual returns a clock that stands at t.
func NewVirtual(t time.Time) *Virtual { return &Virtual{now: t.UTC().Truncate(time.Microsecond)} }

// Now returns where the clock stands.
func (v *Virtual) Now() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now
}

// Set moves the clock to t; it never goes back.
func (v *Virtual) Set(t time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if t = t.UTC().Truncate(time.Microsecond); t.After(v.now) {
		v.now = t
	}
}

// Advance moves the clock on by d.
func (v *Virtual) Advance(d time.Duration) { v.Set(v.Now().Add(d)) }

// Scaled is a clock that runs speed times as fast as the machine's, from start.
type Scaled struct {
	mu    sync.Mutex
	start time.Time // where it was when the speed last changed
	since time.Time // the machine's monotonic time then
	speed float64
}

// NewScaled returns a clock at start that runs speed times as fast as real time.
func NewScaled(start time.Time, speed float64) *Scaled {
	return &Scaled{start: start.UTC(), since: time.Now(), speed: speed}
}

// Now returns the scaled time.
func (s *Scaled) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now().Truncate(time.Microsecond)
}

func (s *Scaled) now() time.Time {
	return s.start.Add(time.Duration(float64(time.Since(s.since)) * s.speed))
}

// SetSpeed changes the speed from now on; the time itself does not jump.
func (s *Scaled) SetSpeed(speed float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.start, s.since, s.speed = s.now(), time.Now(), speed
}

// Jump moves the clock on to t; it never goes back.
func (s *Scaled) Jump(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.now(); t.After(now) {
		s.start, s.since = t.UTC(), time.Now()
	}
}

// Speed returns the present speed.
func (s *Scaled) Speed() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.speed
}

type lockedReader struct {
	mu sync.Mutex
	r  io.Reader
}

func (l *lockedReader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(p)
}

// Random returns a deterministic reader for seed (ChaCha8), safe for
// concurrent use. Never for keys that matter outside the city and tests.
func Random(seed uint64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return &lockedReader{r: mrand.NewChaCha8(key)}
}

// Entropy is the system's source of randomness.
func Entropy() io.Reader { return rand.Reader }
