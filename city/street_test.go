package city

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"koala/app"
	"koala/band"
	"koala/internal/clock"
	"koala/terminal"
	"koala/transit"
	"koala/transit/network"
)

// TestWireFaults: what a device and the house each see of a broken line.
func TestWireFaults(t *testing.T) {
	for _, tt := range []struct {
		name    string
		fault   WireFault
		heard   int // by the house at once
		later   int // and after Flush
		answers bool
	}{
		{"delivered", Delivered, 1, 0, true},
		{"request lost", LostRequest, 0, 0, false},
		{"answer lost", LostAnswer, 1, 0, false},
		{"doubled", Doubled, 2, 0, true},
		{"late", Late, 0, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			heard := 0
			var door http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil || string(body) != "batch" || r.URL.Path != "/device/x/debits" {
					t.Errorf("heard %q at %s, %v", body, r.URL.Path, err)
				}
				heard++
				w.WriteHeader(http.StatusTeapot)
				w.WriteHeader(http.StatusOK) // the first word counts
				_, _ = io.WriteString(w, "yes")
			})
			w := &Wire{Faults: func(*http.Request) WireFault { return tt.fault }}
			w.door.Store(&door)
			res, err := (&http.Client{Transport: w}).Post(base+"/x/debits", "", strings.NewReader("batch"))
			if tt.answers != (err == nil) || err != nil && !errors.Is(err, ErrWire) || heard != tt.heard {
				t.Fatalf("answer %v, %v; heard %d times", res, err, heard)
			}
			if err == nil {
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || string(body) != "yes" || res.StatusCode != http.StatusTeapot {
					t.Errorf("answered %d %q, %v", res.StatusCode, body, err)
				}
			}
			if w.Flush(); heard != tt.heard+tt.later {
				t.Errorf("after the detour: heard %d times", heard)
			}
		})
	}
}

func TestBreaker(t *testing.T) {
	var b breaker
	b.arm(2, false)
	for i, want := range []bool{false, true, false} {
		if err := b.BeforeCommit(int64(i)); want != (err != nil) {
			t.Errorf("before commit %d: %v", i, err)
		}
	}
	b.arm(1, true)
	back := b.instead(0, false)
	if err := errors.Join(b.BeforeCommit(4), b.AfterCommit(4)); err != nil {
		t.Errorf("set aside: %v", err)
	}
	back()
	if b.BeforeCommit(5) != nil || b.AfterCommit(5) == nil || b.AfterCommit(6) != nil {
		t.Error("the answer of commit 5 alone should be lost")
	}
}

// aStreet is a house in a temporary folder with a street that keeps images.
func aStreet(t *testing.T) (*Street, *clock.Virtual) {
	t.Helper()
	clk := clock.NewVirtual(time.Date(2015, 9, 16, 0, 0, 0, 0, time.UTC))
	dir := t.TempDir()
	h, err := app.New(context.Background(), app.Config{Data: dir, Clock: clk, Rand: clock.Random(1), Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	s, err := NewStreet(h, StreetConfig{Dir: dir, Rand: chance(1, clock.Random)})
	if err != nil {
		t.Fatal(err)
	}
	return s, clk
}

// TestReaderSurvives: a gate's power fails while it collects; another street
// over the same images knows every debit, and the house gets each once.
func TestReaderSurvives(t *testing.T) {
	s, clk := aStreet(t)
	ctx := context.Background()
	r := &rider{s: &sim{ctx: ctx, house: s.House(), street: s, clock: clk, chance: clock.Random(2), dice: dice(1), counts: map[string]int64{},
		cards: map[string]*history{"band-1": newHistory()}}, n: 1, band: "band-1"}
	if err := r.join(); err != nil {
		t.Fatal(err)
	}
	for cut := 1; cut <= 3; cut++ {
		clk.Advance(10 * time.Minute)
		o, err := s.Tap(ctx, "band-1", "dongdan.in", Options{PowerCut: cut})
		if err != nil || o.Result != terminal.OutOfService && o.Result != terminal.Opened {
			t.Fatalf("power cut at write %d: %v %v", cut, o.Result, err)
		}
		if o, err = s.Tap(ctx, "band-1", "dongdan.in", Options{Talk: true}); err != nil || o.Result != terminal.Opened {
			t.Fatalf("after a power cut at write %d: %s, %v", cut, o.Outcome.Words(false), err)
		}
		if o.Time.Total424 >= o.Time.Total106 || o.Time.Total106 > terminal.Budget || len(o.Talk) == 0 {
			t.Errorf("%+v, %d lines", o.Time, len(o.Talk))
		}
		if o, err = s.Tap(ctx, "band-1", "xidan.out", Options{Fault: band.Fault{Lose: 3}}); err != nil || o.Result != terminal.TryAgain {
			t.Fatalf("torn: %s, %v", o.Outcome.Words(false), err)
		}
		if o, err = s.Tap(ctx, "band-1", "xidan.out", Options{}); err != nil || o.Result != terminal.Opened {
			t.Fatalf("out: %s, %v", o.Outcome.Words(false), err)
		}
	}
	again, err := NewStreet(s.House(), StreetConfig{Dir: s.dir, Rand: s.rand})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"dongdan.in", "xidan.out"} {
		n, err := again.Collect(ctx, id)
		if err != nil || n != 3 {
			t.Errorf("%s handed over %d debits, %v", id, n, err)
		}
	}
	if err := again.Look("band-1", func(b *band.Band) error { _, err := peek(again.catalog, b); return err }); err != nil {
		t.Error(err)
	}
	for _, id := range []string{"band-2", "../band-1", "x.y"} {
		if err := again.RunAgent(ctx, id); !errors.Is(err, ErrNoBand) {
			t.Errorf("band %q: %v", id, err)
		}
	}
	for _, id := range []string{"dongdan", "nowhere.in", "dongdan.up", "bus.999"} {
		if _, err := again.Reader(ctx, id); !errors.Is(err, ErrNoReader) {
			t.Errorf("reader %q: %v", id, err)
		}
	}
}

// TestDamagedImages: a file that is not what was written is refused, whatever
// byte of it is wrong.
func TestDamagedImages(t *testing.T) {
	s, _ := aStreet(t)
	ctx := context.Background()
	if _, err := s.Reader(ctx, "dongdan.in"); err != nil {
		t.Fatal(err)
	}
	if err := s.MakeBand("b"); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"gates/dongdan.in.flash", "bands/b.band"} {
		whole, err := os.ReadFile(filepath.Join(s.dir, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{0, 5, len(whole) / 2, len(whole) - 1} {
			bad := bytes.Clone(whole)
			bad[at] ^= 1
			for _, image := range [][]byte{bad, whole[:at]} {
				if err := os.WriteFile(filepath.Join(s.dir, file), image, 0o600); err != nil {
					t.Fatal(err)
				}
				fresh, err := NewStreet(s.House(), StreetConfig{Dir: s.dir})
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasPrefix(file, "bands") {
					_, err = fresh.band("b")
				} else {
					_, err = fresh.Reader(ctx, "dongdan.in")
				}
				if err == nil {
					t.Errorf("%s with byte %d wrong was taken", file, at)
				}
			}
		}
	}
}

func FuzzSplitImage(f *testing.F) {
	f.Add([]byte("nothing"))
	f.Add(joinImage([][]byte{{1}, {}, {2, 3}, {4}}))
	f.Fuzz(func(t *testing.T, in []byte) {
		parts, err := splitImage(in)
		if err != nil {
			return
		}
		if again := joinImage(parts[:]); !bytes.Equal(again, in) {
			t.Errorf("%x reads as four parts but writes %x", in, again)
		}
	})
}

func TestTimetable(t *testing.T) {
	net := network.Beijing()
	lines, err := busLines(net)
	if err != nil || len(lines) != len(busPlans) {
		t.Fatalf("%d bus lines, %v", len(lines), err)
	}
	for i, l := range lines {
		if len(l.route.Stops) != len(busPlans[i].along) {
			t.Errorf("%s stops %d times, planned %d", l.id, len(l.route.Stops), len(busPlans[i].along))
		}
		now := time.Date(2015, 9, 16, 1, 17, 0, 0, time.UTC)
		for stop := range l.route.Stops {
			at := l.next(stop, now)
			if at.Before(now) || at.After(now.Add(2*time.Duration(len(l.route.Stops))*perStop)) || l.where(at) != stop {
				t.Errorf("%s is at stop %d at %v, and then stands at %d", l.id, stop, at, l.where(at))
			}
		}
	}
	a, err1 := net.Find("东单")
	b, err2 := net.Find("西单")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	route, err := net.Route(a, b)
	if d := rideTime(route); err != nil || d < 3*time.Minute || d > 20*time.Minute {
		t.Errorf("东单 to 西单 takes %v, %v", d, err)
	}
	if n := terminalNumber(0x30, 10118, kinds["in"].code); n.String() != "300101180101" || kinds["in"].kind != transit.EntryGate {
		t.Errorf("terminal %s", n)
	}
}
