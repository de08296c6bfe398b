package pulse

import (
	"sync"
	"testing"
	"time"
)

// TestSince: the last ones from a moment on, the oldest forgotten first.
func TestSince(t *testing.T) {
	var p Pulse
	start := time.Date(2015, 9, 16, 0, 0, 0, 0, time.UTC)
	for i := range most + 10 {
		p.Add(Beat{At: start.Add(time.Duration(i) * time.Second)})
	}
	for _, tt := range []struct {
		from time.Duration
		n    int
	}{{0, most}, {time.Duration(most) * time.Second, 10}, {time.Duration(most+9) * time.Second, 1}, {time.Duration(most+10) * time.Second, 0}} {
		got := p.Since(start.Add(tt.from))
		if len(got) != tt.n || tt.n > 1 && !got[1].At.After(got[0].At) {
			t.Errorf("from %s: %d, want %d", tt.from, len(got), tt.n)
		}
	}
}

func TestAtOnce(t *testing.T) {
	var p Pulse
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				p.Add(Beat{})
				p.Since(time.Time{})
			}
		})
	}
	all.Wait()
	if n := len(p.Since(time.Time{})); n != 800 {
		t.Errorf("%d beats, want 800", n)
	}
}
