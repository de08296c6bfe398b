package app_test

import (
	"sync"
	"testing"
	"time"

	"koala/app"
	"koala/calendar"
	"koala/city/street"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/settlement"
	"koala/terminal"
	"koala/tsm"
	"koala/wallet"
)

// TestOrderTimesOut: a top-up whose band never comes ends after a day, and the
// money that was held is free again.
func TestOrderTimesOut(t *testing.T) {
	each(t, func(t *testing.T, cfg app.Config) {
		w := newTown(t, cfg)
		r := w.issue("band-1")
		free := func() int64 {
			b, err := w.h.Book.Balance(wallet.Account(w.who))
			w.must(err)
			return b.Available.Minor()
		}
		before := free()
		o := w.place(r, tsm.TopUp, 50_00)
		if got := free(); got != before-50_00 {
			t.Errorf("%d fen are free, want %d", got, before-50_00)
		}
		w.clock.Advance(23 * time.Hour)
		w.must(w.h.Tick(ctx))
		if s := w.order(o.ID).State; s != tsm.Placed {
			t.Fatalf("after 23 h: %s", s)
		}
		w.clock.Advance(time.Hour)
		from := w.last()
		w.must(w.h.Tick(ctx))
		w.must(w.h.Tick(ctx))
		if o = w.order(o.ID); o.State != tsm.Failed || o.Why != tsm.NeverCame {
			t.Errorf("after a day: %s, %s", o.State, o.Why)
		}
		if got := w.told(from, "order."); len(got) != 1 || got[0] != "order.ended "+o.ID {
			t.Errorf("%q", got)
		}
		if got := free(); got != before {
			t.Errorf("%d fen are free, want %d", got, before)
		}
		w.must(w.street.RunAgent(ctx, r.band)) // comes too late
		w.carryOut(r, tsm.TopUp, 50_00)
		green(t, w.h)
	})
}

// TestSilentBand: a script that nobody reports is given up by the clock; the
// band that comes later finishes the order once.
func TestSilentBand(t *testing.T) {
	w := newTown(t, config(t))
	r := w.issue("band-1")
	o := w.place(r, tsm.TopUp, 50_00)
	s, err := w.h.TSM.Next(ctx, r.band)
	if err != nil || s.Done {
		t.Fatal(s, err)
	}
	w.clock.Advance(3 * time.Minute)
	w.must(w.h.Tick(ctx))
	if o = w.order(o.ID); o.Why != tsm.Silent || o.State.Over() {
		t.Errorf("%s, %s", o.State, o.Why)
	}
	w.must(w.street.RunAgent(ctx, r.band))
	if o = w.order(o.ID); o.State != tsm.Done {
		t.Errorf("%s, %s", o.State, o.Why)
	}
	w.ride(r, "dongdan", "xidan")
	w.collect()
	green(t, w.h)
}

// payouts of a day, and the sum of them in fen.
func (w *town) payouts(day calendar.Date) (n int, fen int64) {
	w.Helper()
	w.read(func(q *db.Query) error {
		all, err := settlement.Payouts(q, "", "", 500)
		for _, p := range all {
			if p.Day == day {
				n, fen = n+1, fen+p.Amount.Minor()
			}
		}
		return err
	})
	return n, fen
}

// TestDaySettlesOnce: many ticks at the same time, then more of them.
func TestDaySettlesOnce(t *testing.T) {
	each(t, func(t *testing.T, cfg app.Config) {
		w := newTown(t, cfg)
		r := w.issue("band-1")
		w.carryOut(r, tsm.TopUp, 100_00)
		w.ride(r, "dongdan", "xidan")
		w.ride(r, "xidan", "gongzhufen")
		w.collect()
		day := calendar.ServiceDay(w.clock.Now())
		w.must(w.h.Tick(ctx))
		if n, _ := w.payouts(day); n != 0 {
			t.Errorf("%d payouts before the day is over", n)
		}
		w.clock.Set(day.AddDays(1).Start(calendar.Beijing).Add(4*time.Hour - time.Second))
		w.must(w.h.Tick(ctx))
		if n, _ := w.payouts(day); n != 0 {
			t.Errorf("%d payouts a second before the cut-off", n)
		}
		w.clock.Advance(time.Second)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if err := w.h.Tick(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		n, fen := w.payouts(day)
		if n == 0 || fen != 2*3_00 {
			t.Errorf("%d payouts of %d fen", n, fen)
		}
		tip, _ := w.h.Book.Tip()
		w.must(w.h.Tick(ctx))
		if again, _ := w.h.Book.Tip(); again != tip {
			t.Errorf("another tick moved the journal from %d to %d", tip, again)
		}
		if b, err := w.h.Book.Balance(settlement.Payable("bjsubway")); err == nil && b.Posted.Sign() != 0 {
			t.Errorf("still to be paid: %v", b.Posted)
		}
		green(t, w.h)
	})
}

// TestDaysMissed: a house that was down for a week pays what waited.
func TestDaysMissed(t *testing.T) {
	cfg := config(t)
	w := newTown(t, cfg)
	r := w.issue("band-1")
	w.carryOut(r, tsm.TopUp, 100_00)
	w.ride(r, "dongdan", "xidan")
	w.collect()
	w.h.Close()
	w.clock.Advance(7 * 24 * time.Hour)
	w.h = open(t, cfg)
	w.must(w.h.Tick(ctx))
	if n, fen := w.payouts(settlement.LastDay(w.clock.Now())); n == 0 || fen != 3_00 {
		t.Errorf("%d payouts of %d fen", n, fen)
	}
	green(t, w.h)
}

// shifted is a clock that is wrong, and may go back.
type shifted struct {
	mu sync.Mutex
	of clock.Clock
	by time.Duration
}

func (s *shifted) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of.Now().Add(s.by)
}

func (s *shifted) shift(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.by = d
}

const year = 365 * 24 * time.Hour

// TestHousesClockJumps: the machine's clock is set wrong for a while, both
// ways. What cannot be done at such a time is refused; nothing is lost, and
// with the right time all goes on.
func TestHousesClockJumps(t *testing.T) {
	each(t, func(t *testing.T, cfg app.Config) {
		w, r := lived(t, cfg)
		w.h.Close()
		wrong := &shifted{of: w.clock}
		cfg.Clock = wrong
		w.h = open(t, cfg)
		w.street.Move(w.h)
		for _, by := range []time.Duration{-time.Hour, -26 * time.Hour, -45 * year, 0, 26 * time.Hour, 80 * year, 0} {
			wrong.shift(by)
			if err := w.h.Tick(ctx); err != nil && fail.Of(err) == fail.ErrUnknown {
				t.Fatalf("tick at %v: %v", wrong.Now(), err)
			}
			o, err := w.street.Tap(ctx, r.band, "dongdan.in", street.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if o.Result == terminal.Opened {
				w.clock.Advance(10 * time.Minute)
				w.tap(r, "xidan.out")
			}
			for _, at := range w.street.Readers() {
				if _, err := w.street.Collect(ctx, at.ID); err != nil && by == 0 {
					t.Fatal(err)
				}
			}
			green(t, w.h)
			w.clock.Advance(time.Hour)
		}
		w.carryOut(r, tsm.TopUp, 50_00)
		w.ride(r, "dongdan", "xidan")
		w.collect()
		w.clock.Advance(48 * time.Hour)
		w.must(w.h.Tick(ctx))
		green(t, w.h)
		if h := w.held(); h != 0 {
			t.Errorf("gates still hold %d debits", h)
		}
	})
}

// held counts what the readers have not handed over.
func (w *town) held() (n int) {
	w.Helper()
	for _, r := range w.street.Readers() {
		h, err := r.Held()
		w.must(err)
		n += len(h.Debits) + len(h.Doubts)
	}
	return n
}

// TestHouseOpensWithAWrongClock: a battery is empty and the machine believes
// it is 1970, or a typing error makes it 2170.
func TestHouseOpensWithAWrongClock(t *testing.T) {
	for _, at := range []time.Time{time.Unix(0, 0), time.Date(2170, 1, 1, 0, 0, 0, 0, time.UTC)} {
		cfg := config(t)
		cfg.Clock = clock.NewVirtual(at)
		h := open(t, cfg)
		if err := h.Tick(ctx); err != nil && fail.Of(err) == fail.ErrUnknown {
			t.Errorf("tick at %v: %v", at, err)
		}
		green(t, h)
		h.Close()
		cfg.Clock = clock.NewVirtual(morning)
		w := newTown(t, cfg)
		r := w.issue("band-1")
		w.carryOut(r, tsm.TopUp, 50_00)
		w.ride(r, "dongdan", "xidan")
		w.collect()
		w.clock.Advance(48 * time.Hour)
		w.must(w.h.Tick(ctx))
		green(t, w.h)
	}
}

// TestGatesClockIsWrong: the debit is booked when it arrives, whatever the
// gate believes the time to be, and paid out with the day it arrived.
func TestGatesClockIsWrong(t *testing.T) {
	for _, by := range []time.Duration{-10 * time.Minute, 2 * time.Hour, 3 * year} {
		cfg := config(t)
		wrong := &shifted{of: cfg.Clock}
		w := newTownBy(t, cfg, wrong)
		r := w.issue("band-1")
		w.carryOut(r, tsm.TopUp, 50_00)
		w.ride(r, "dongdan", "xidan")
		wrong.shift(by)
		w.ride(r, "xidan", "dongdan")
		if n := w.collect(); n != 4 {
			t.Errorf("%d debits collected from gates that are %v off", n, by)
		}
		day := calendar.ServiceDay(w.clock.Now())
		w.clock.Advance(24 * time.Hour)
		w.must(w.h.Tick(ctx))
		if _, fen := w.payouts(day); fen != 2*3_00 {
			t.Errorf("gates %v off: %d fen paid out", by, fen)
		}
		green(t, w.h)
		wrong.shift(-year) // before the gate's tariff begins
		if o, err := w.street.Tap(ctx, r.band, "dongdan.in", street.Options{}); err != nil || o.Result != terminal.OutOfService {
			t.Errorf("a gate a year behind: %s, %v", o.Outcome.Words(false), err)
		}
	}
}
