package market_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"koala/calendar"
	"koala/city/market"
	"koala/city/street"
	"koala/internal/clock"
	"koala/ledger"
	"koala/reconcile"
	"koala/switching"
	"koala/terminal/unionpay"
)

// reopened is the market of a folder in another run of the program, beside the
// same house.
func (w *town) reopened(cfg market.Config) {
	w.Helper()
	cfg.Clock, cfg.Rand, cfg.Hosts = w.now, street.Chance(1, clock.Random), true
	m, err := market.New(cfg)
	if err != nil {
		w.Fatal(err)
	}
	w.m = m
	m.Move(w.h, nil)
	if err := m.Open(ctx); err != nil {
		w.Fatal(err)
	}
}

// Nights go on where they were when the program ended, whatever it was about to
// do: no day is left out, no file is compared with another content, and what the
// bank had still to write is written once. The institutions are another program's.
func TestNightsGoOn(t *testing.T) {
	dir := t.TempDir()
	calls, last, lost, short := 0, 0, true, true
	var stop func()
	called := func() {
		if calls++; calls == last {
			stop()
		}
	}
	var live *market.Market
	cfg := market.Config{Dir: dir, Files: func(host string, day calendar.Date) ([]byte, error) { return live.FileOf(host, day) }, Faults: market.Faults{
		Paper: func() market.PaperFault {
			if called(); lost {
				lost = false
				return market.LineForgot
			}
			return market.AsItIs
		},
		Bank: func() market.BankFault {
			if called(); short {
				short = false
				return market.Short
			}
			return market.Carried
		},
	}}
	w := openWith(t, cfg)
	live = w.m
	for i, till := range w.m.Tills()[:4] {
		c := w.m.Institutions()[i%2].Cards[i]
		w.do(till.ID, market.Order{Order: unionpay.Order{Kind: unionpay.Sale, Fen: 123_45, Card: unionpay.Card{Track2: c.Track2}}, PIN: c.PIN})
	}
	w.settle()
	day, ends := calendar.Of(w.now.Now(), calendar.Beijing), 0
	for range 8 {
		day = day.AddDays(1)
		w.now.Set(day.Start(calendar.Beijing).Add(5 * time.Hour))
		if err := w.h.Tick(ctx); err != nil {
			t.Fatal(err)
		}
		for last = 1; ; last++ {
			w.reopened(cfg)
			run, cancel := context.WithCancel(ctx)
			calls, stop = 0, cancel
			err := w.m.Nights(run)
			cancelled := run.Err() != nil
			if cancel(); err == nil {
				break
			}
			if !cancelled {
				t.Fatal(err)
			}
			ends++
		}
	}
	if ends < 4 {
		t.Errorf("the program ended %d times only", ends)
	}
	if waits, err := w.m.Waits(ctx); waits || err != nil {
		t.Error("something waits for ever", err)
	}
	for _, i := range w.m.Institutions() {
		for _, a := range []ledger.AccountID{switching.Receivable(i.Name), reconcile.Suspense(i.Name)} {
			if b, err := w.h.Book.Balance(a); err != nil || !b.Posted.IsZero() {
				t.Errorf("%s has %s: %v", a, b.Posted, err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "nights.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := market.New(market.Config{Dir: dir, Clock: w.now})
	if err == nil {
		m.Move(w.h, nil)
		err = m.Open(ctx)
	}
	if err == nil {
		t.Error("a damaged file is taken for none")
	}
}
