package street

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
	"koala/internal/clock"
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

// aStreet is a house in a temporary folder with a street that keeps images.
func aStreet(t *testing.T) (*Street, *clock.Virtual) {
	t.Helper()
	clk := clock.NewVirtual(time.Date(2015, 9, 16, 0, 0, 0, 0, time.UTC))
	dir := t.TempDir()
	primes, err := os.ReadFile("../primes.txt")
	if err != nil {
		t.Fatal(err)
	}
	h, err := app.New(context.Background(), app.Config{Data: dir, Clock: clk, Rand: clock.Random(1), Inline: true, Primes: primes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	s, err := New(h, Config{Dir: dir, Rand: Chance(1, clock.Random)})
	if err != nil {
		t.Fatal(err)
	}
	return s, clk
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
	if err := s.OpenShops(ctx); err != nil {
		t.Fatal(err)
	}
	for _, p := range Posts() {
		if _, err := s.Acceptor(ctx, p.ID); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"gates/dongdan.in.flash", "bands/b.band", "shops/haolin.till.flash", "shops/kesi.canteen.flash",
		"shops/kesi.lobby.flash", "shops/maixiao.coupon.flash"} {
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
				fresh, err := New(s.House(), Config{Dir: s.dir})
				if err != nil {
					t.Fatal(err)
				}
				switch {
				case strings.HasPrefix(file, "bands"):
					_, err = fresh.band("b")
				case strings.HasPrefix(file, "shops"):
					_, err = fresh.Acceptor(ctx, strings.TrimSuffix(filepath.Base(file), gateExt))
				default:
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
		parts, err := splitImage(in, 4)
		if err != nil {
			return
		}
		if again := joinImage(parts); !bytes.Equal(again, in) {
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
		if len(l.Route.Stops) != len(busPlans[i].along) {
			t.Errorf("%s stops %d times, planned %d", l.ID, len(l.Route.Stops), len(busPlans[i].along))
		}
		now := time.Date(2015, 9, 16, 1, 17, 0, 0, time.UTC)
		for stop := range l.Route.Stops {
			at := l.Next(stop, now)
			if at.Before(now) || at.After(now.Add(2*time.Duration(len(l.Route.Stops))*PerStop)) || l.Where(at) != stop {
				t.Errorf("%s is at stop %d at %v, and then stands at %d", l.ID, stop, at, l.Where(at))
			}
		}
	}
	a, err1 := net.Find("东单")
	b, err2 := net.Find("西单")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	route, err := net.Route(a, b)
	if d := RideTime(route); err != nil || d < 3*time.Minute || d > 20*time.Minute {
		t.Errorf("东单 to 西单 takes %v, %v", d, err)
	}
	if n := terminalNumber(0x30, 10118, kinds["in"].code); n.String() != "300101180101" || kinds["in"].kind != transit.EntryGate {
		t.Errorf("terminal %s", n)
	}
}
