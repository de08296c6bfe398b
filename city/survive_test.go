package city

import (
	"context"
	"errors"
	"testing"
	"time"

	"koala/app"
	"koala/band"
	"koala/city/street"
	"koala/internal/clock"
	"koala/terminal"
)

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

// aStreet is a house in a folder with a street that keeps its images there.
func aStreet(t *testing.T, dir string) (*street.Street, *clock.Virtual) {
	t.Helper()
	clk := clock.NewVirtual(time.Date(2015, 9, 16, 0, 0, 0, 0, time.UTC))
	h, err := app.New(context.Background(), app.Config{Data: dir, Clock: clk, Rand: clock.Random(1), Inline: true, Primes: primes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	s, err := street.New(h, street.Config{Dir: dir, Rand: street.Chance(1, clock.Random)})
	if err != nil {
		t.Fatal(err)
	}
	return s, clk
}

// TestReaderSurvives: a gate's power fails while it collects; another street
// over the same images knows every debit, and the house gets each once.
func TestReaderSurvives(t *testing.T) {
	dir := t.TempDir()
	s, clk := aStreet(t, dir)
	ctx := context.Background()
	r := &rider{s: &sim{ctx: ctx, house: s.House(), street: s, clock: clk, chance: clock.Random(2), dice: dice(1), counts: map[string]int64{},
		cards: map[string]*history{"band-1": newHistory()}}, n: 1, band: "band-1"}
	if err := r.join(); err != nil {
		t.Fatal(err)
	}
	for cut := 1; cut <= 3; cut++ {
		clk.Advance(10 * time.Minute)
		o, err := s.Tap(ctx, "band-1", "dongdan.in", street.Options{PowerCut: cut})
		if err != nil || o.Result != terminal.OutOfService && o.Result != terminal.Opened {
			t.Fatalf("power cut at write %d: %v %v", cut, o.Result, err)
		}
		if o, err = s.Tap(ctx, "band-1", "dongdan.in", street.Options{Talk: true}); err != nil || o.Result != terminal.Opened {
			t.Fatalf("after a power cut at write %d: %s, %v", cut, o.Outcome.Words(false), err)
		}
		if o.Time.Total424 >= o.Time.Total106 || o.Time.Total106 > terminal.Budget || len(o.Talk) == 0 {
			t.Errorf("%+v, %d lines", o.Time, len(o.Talk))
		}
		if o, err = s.Tap(ctx, "band-1", "xidan.out", street.Options{Fault: band.Fault{Lose: 3}}); err != nil || o.Result != terminal.TryAgain {
			t.Fatalf("torn: %s, %v", o.Outcome.Words(false), err)
		}
		if o, err = s.Tap(ctx, "band-1", "xidan.out", street.Options{}); err != nil || o.Result != terminal.Opened {
			t.Fatalf("out: %s, %v", o.Outcome.Words(false), err)
		}
	}
	again, err := street.New(s.House(), street.Config{Dir: dir, Rand: street.Chance(1, clock.Random)})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"dongdan.in", "xidan.out"} {
		n, err := again.Collect(ctx, id)
		if err != nil || n != 3 {
			t.Errorf("%s handed over %d debits, %v", id, n, err)
		}
	}
	if err := again.Look("band-1", func(b *band.Band) error { _, err := peek(again.Catalog(), b); return err }); err != nil {
		t.Error(err)
	}
	for _, id := range []string{"band-2", "../band-1", "x.y"} {
		if err := again.RunAgent(ctx, id); !errors.Is(err, street.ErrNoBand) {
			t.Errorf("band %q: %v", id, err)
		}
	}
	for _, id := range []string{"dongdan", "nowhere.in", "dongdan.up", "bus.999"} {
		if _, err := again.Reader(ctx, id); !errors.Is(err, street.ErrNoReader) {
			t.Errorf("reader %q: %v", id, err)
		}
	}
}

// TestNeverTwice: at every kind of device the band leaves in each command, is
// torn at each write, and the device's power fails at each of its writes; whoever
// comes back until there is an answer has paid, eaten, passed or redeemed once.
// The run goes on to its end, where all of it is booked.
func TestNeverTwice(t *testing.T) {
	matrix := func(s *sim, r *rider, id string, w street.Wish, moved func() int64, want int64, most int) error {
		var faults []street.Options
		for n := 1; n <= most; n++ {
			faults = append(faults, street.Options{Fault: band.Fault{Lose: n}}, street.Options{Fault: band.Fault{Cut: n, Keep: 7 * n}}, street.Options{PowerCut: n})
		}
		for _, opt := range faults {
			before := moved()
			var v street.Visit
			for n := range tries {
				var err error
				if v, err = s.street.Present(s.ctx, r.band, id, w, opt); err != nil {
					return err
				}
				if err := r.look(); err != nil {
					return err
				}
				if v.End != street.Again && v.End != street.Dark || n > 4 {
					break
				}
				opt = street.Options{}
				s.clock.Advance(3 * time.Second)
			}
			if got := moved() - before; v.End == street.Refused || v.End == street.Again || v.End == street.Dark || got != want {
				return differs("%s: %s %s, moved %d, want %d", id, v.End, v.Words[0], got, want)
			}
			s.clock.Advance(time.Minute)
		}
		return nil
	}
	r, err := Run(context.Background(), Config{People: 12, Seed: 5, sabotage: func(s *sim) error {
		r := s.people[11]
		nothing := func() int64 { return 0 }
		for _, a := range []func() error{
			func() error {
				return matrix(s, r, "haolin.till", street.Wish{Fen: 10}, func() int64 { return r.more.spent() }, 10, 12)
			},
			func() error {
				return matrix(s, r, "kesi.canteen", street.Wish{Fen: 20}, func() int64 { return r.more.eaten }, 20, 12)
			},
			func() error { return matrix(s, r, "kesi.lobby", street.Wish{}, nothing, 0, 9) },
			func() error {
				return matrix(s, r, "maixiao.coupon", street.Wish{Fen: 30_00}, func() int64 { return int64(r.more.redeemed) }, 1, 1)
			},
		} {
			if err := a(); err != nil {
				return err
			}
		}
		return nil
	}})
	if err != nil || r.Counts["handed in"] < 72 {
		t.Fatalf("%d handed in, %v", r.Counts["handed in"], err)
	}
}
