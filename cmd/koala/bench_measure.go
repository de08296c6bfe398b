package main

import (
	"io"
	"math"
	"os"
	"slices"
	"syscall"
	"time"

	"koala/internal/clock"
)

// A stopwatch adds up the stretches of a bench that count: setting up between
// them does not.
type stopwatch struct {
	Wall, CPU  time.Duration
	times      []time.Duration // of single operations
	began, cpu time.Duration
	epoch      time.Time
}

func newStopwatch(room int) *stopwatch {
	return &stopwatch{epoch: clock.System().Now(), times: make([]time.Duration, 0, room)}
}

// now is the time since the stopwatch was made.
func (s *stopwatch) now() time.Duration { return clock.System().Now().Sub(s.epoch) }

func (s *stopwatch) start() { s.began, s.cpu = s.now(), processTime() }

func (s *stopwatch) stop() {
	s.Wall += s.now() - s.began
	s.CPU += processTime() - s.cpu
}

// figure sums the stopwatch up.
func (s *stopwatch) figure(bench, store string, callers int) figure {
	f := figure{Bench: bench, Store: store, Callers: callers, Seconds: rounded(s.Wall.Seconds(), 3),
		Ops: int64(len(s.times)), Params: map[string]any{}}
	if f.Ops == 0 {
		return f
	}
	slices.Sort(s.times)
	at := func(share float64) time.Duration {
		return s.times[min(len(s.times)-1, int(share*float64(len(s.times))))]
	}
	f.PerSecond = rounded(float64(f.Ops)/s.Wall.Seconds(), 1)
	f.P50, f.P99 = inMillis(at(0.50)), inMillis(at(0.99))
	f.CPU = inMicros(s.CPU / time.Duration(f.Ops))
	return f
}

// processTime is the processor time this process has used.
func processTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func rounded(v float64, digits int) float64 {
	p := math.Pow10(digits)
	return math.Round(v*p) / p
}

func inMillis(d time.Duration) float64 { return rounded(d.Seconds()*1e3, 4) }

func inMicros(d time.Duration) float64 { return rounded(d.Seconds()*1e6, 2) }

// isScreen says that somebody looks at w.
func isScreen(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// A benchProgress is one line on a terminal that says what runs and how much of
// its time has passed. It is silent when nobody looks.
type benchProgress struct {
	errs io.Writer
	stop chan struct{}
	done chan struct{}
}

// step says what runs now and about how long it takes.
func (p *benchProgress) step(what string, seconds float64) {
	p.close()
	p.stop, p.done = make(chan struct{}), make(chan struct{})
	go p.draw(progress(p.errs, what), max(1, int64(seconds*1000)))
}

// beat is how often the line moves.
const beat = 100 * time.Millisecond

func (p *benchProgress) draw(m *meter, all int64) {
	defer close(p.done)
	defer m.close()
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for passed := int64(0); ; passed += beat.Milliseconds() {
		m.at(min(passed, all), all)
		select {
		case <-tick.C:
		case <-p.stop:
			return
		}
	}
}

// close takes the line away.
func (p *benchProgress) close() {
	if p.stop != nil {
		close(p.stop)
		<-p.done
		p.stop = nil
	}
}
