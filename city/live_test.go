package city

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"koala/acquiring"
	"koala/app"
	"koala/calendar"
	"koala/city/street"
	"koala/customer"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/tsm"
	"koala/wallet"
	"koala/web"
	"koala/web/home"
	"koala/web/wearer"
)

// A lived is a house with a living city beside it.
type lived struct {
	t    *testing.T
	live *Live
	stop func() // ends the city and waits for it
}

func liveCity(t *testing.T, data string, people int) *lived {
	t.Helper()
	return liveCityAt(t, data, people, time.Date(2015, 9, 16, 7, 30, 0, 0, calendar.Beijing))
}

func liveCityAt(t *testing.T, data string, people int, at time.Time) *lived {
	t.Helper()
	clk := clock.NewScaled(at, 2400)
	h, err := app.New(context.Background(), app.Config{Data: data, Clock: clk, Primes: primes})
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewLive(h, LiveConfig{People: people, Seed: 1, Clock: clk, Hub: web.NewHub("t"), Dir: data})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Errorf("the city ended with %v", err)
		}
	})
	return &lived{t, l, sync.OnceFunc(func() {
		cancel()
		ended.Wait()
		if p, err := h.Verify(context.Background()); err != nil || !p.OK {
			t.Errorf("after the city: %v, %v", p.Problems, err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})}
}

// until waits for something the city does by itself.
func (c *lived) until(what string, f func() bool) {
	c.t.Helper()
	for range 1200 {
		if f() {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	c.t.Fatalf("never: %s", what)
}

// newcomer registers a person with a wallet and no band.
func (c *lived) newcomer() string {
	c.t.Helper()
	ctx, h := context.Background(), c.live.house
	desk := &customer.Desk{Store: h.Store, Seal: h.Keys.Seal, Salt: clock.Entropy(), Cost: cheapHash}
	who, err := desk.Register(ctx, customer.Application{Login: "lin", Name: "林", Phone: "13800001234", Secret: "secret-lin"})
	if err != nil {
		c.t.Fatal(err)
	}
	err = h.Store.Write(ctx, func(tx *db.Tx) error {
		if err := wallet.Open(tx, who.ID); err != nil {
			return err
		}
		_, err := wallet.Fund(tx, "first", who.ID, money.Fen(100_00))
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return string(who.ID)
}

// order places an order for a newcomer's card and lets the phone carry it.
func (c *lived) order(who, band string, place func(tx *db.Tx) (tsm.Order, error)) {
	c.t.Helper()
	ctx, h := context.Background(), c.live.house
	var o tsm.Order
	if err := h.Store.Write(ctx, func(tx *db.Tx) (err error) { o, err = place(tx); return err }); err != nil {
		c.t.Fatal(err)
	}
	c.live.Connect(ctx, who)
	c.until(string(o.Kind), func() bool {
		err := h.Store.Read(ctx, func(q *db.Query) (err error) { o, err = tsm.OrderOf(q, o.ID); return err })
		return err == nil && o.State == tsm.Done
	})
}

// TestLive: a newcomer gets a band, a card and money over the air, rides from
// one station to Dongdan beside the residents, and sees what happened.
func TestLive(t *testing.T) {
	c := liveCity(t, t.TempDir(), 12)
	defer c.stop()
	ctx, l := context.Background(), c.live
	who := c.newcomer()
	v, err := l.Band(ctx, who)
	if err != nil || v.Battery != 100 || !v.Worn || len(v.Fen) != 0 {
		t.Fatalf("%+v, %v", v, err)
	}
	var card issuing.Card
	c.order(who, v.ID, func(tx *db.Tx) (o tsm.Order, err error) {
		if card, err = issuing.Open(tx, issuing.Application{Ref: "a", Customer: customer.ID(who), Band: v.ID, Product: issuing.TransitBJ}); err != nil {
			return o, err
		}
		return l.house.TSM.Place(tx, tsm.Request{Ref: "a", Kind: tsm.Issue, Band: v.ID, Card: card.ID, Customer: who})
	})
	c.order(who, v.ID, func(tx *db.Tx) (tsm.Order, error) {
		return l.house.TSM.Place(tx, tsm.Request{Ref: "b", Kind: tsm.TopUp, Band: v.ID, Card: card.ID, Customer: who, Amount: money.Fen(50_00)})
	})
	if v, err = l.Band(ctx, who); err != nil || v.Fen[card.ID] != 50_00 {
		t.Fatalf("after the top-up: %+v, %v", v, err)
	}
	for _, tt := range []struct {
		act  wearer.TapAct
		kind wearer.TapKind
		paid bool
	}{
		{wearer.TapAct{Ref: "1", Gate: "xidan", Card: card.ID, Pull: 4}, wearer.TapTorn, false},
		{wearer.TapAct{Ref: "2", Gate: "xidan", Card: card.ID}, wearer.TapIn, false},
		{wearer.TapAct{Ref: "2", Gate: "xidan", Card: card.ID}, wearer.TapIn, false}, // the same form again
		{wearer.TapAct{Ref: "3", Gate: "dongdan", Card: card.ID}, wearer.TapOut, true},
		{wearer.TapAct{Ref: "4", Gate: "bus.104", Card: card.ID}, wearer.TapBus, true},
	} {
		if err := l.Tap(ctx, who, tt.act); err != nil {
			t.Fatalf("tap %s: %v", tt.act.Ref, err)
		}
		got, err := l.Tapped(ctx, who, tt.act.Ref)
		if err != nil || got.Kind != tt.kind || tt.paid != (got.Fen > 0) || len(got.Talk) == 0 || got.Place.ZH == "" || got.Reason.ZH == "" {
			t.Errorf("tap %s: %+v, %v", tt.act.Ref, got, err)
		}
		if tt.kind != wearer.TapTorn && (got.Trip == "" || got.Total == 0 || len(got.Parts) != 4) {
			t.Errorf("tap %s: trip %q, %v, %d parts", tt.act.Ref, got.Trip, got.Total, len(got.Parts))
		}
		for _, x := range got.Talk {
			if x.Told == nil || x.Told.EN == "" {
				t.Errorf("tap %s: %X is not explained", tt.act.Ref, x.Command)
			}
		}
	}
	if err := l.Tap(ctx, who, wearer.TapAct{Ref: "5", Gate: "nowhere", Card: card.ID}); !errors.Is(err, street.ErrNoReader) {
		t.Errorf("no such gate: %v", err)
	}
	if err := l.Tap(ctx, who, wearer.TapAct{Ref: "6", Gate: "dongdan", Card: "03105170070000000000"}); !errors.Is(err, wearer.ErrNoCard) {
		t.Errorf("no such card: %v", err)
	}
	c.until("residents ride", func() bool {
		totals, err := l.Totals(ctx)
		return err == nil && totals.Taps > 20 && totals.Cards >= 12 && totals.Balanced && totals.FareFen > 0 && totals.Entries > 0
	})
	acts, err := l.Recent(ctx, 10)
	if err != nil || len(acts) != 10 || acts[0].At.Before(acts[9].At) {
		t.Errorf("%d acts, %v", len(acts), err)
	}
	if gates, err := l.Gates(ctx); err != nil || len(gates) < 300 || gates[len(gates)-1].Kind != wearer.ReaderPhone {
		t.Errorf("%d gates, %v", len(gates), err)
	}
	if err := l.SetSpeed(ctx, 0); err != nil {
		t.Error(err)
	}
	if now, speed := l.Time(); speed != 0 || now.Before(time.Date(2015, 9, 16, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%v at speed %d", now, speed)
	}
	if err := l.SetSpeed(ctx, -1); !errors.Is(err, home.ErrSpeed) {
		t.Errorf("backwards: %v", err)
	}
}

// TestLiveComesBack: devices and people are who they were after a restart, with
// their four cards.
func TestLiveComesBack(t *testing.T) {
	data := t.TempDir()
	c := liveCity(t, data, 3)
	ctx := context.Background()
	c.until("a ride", func() bool {
		totals, err := c.live.Totals(ctx)
		return err == nil && totals.Cards == 4 && totals.Taps >= 4
	})
	c.stop()
	taps := c.live.seen.Taps
	for _, pattern := range []string{"bands/*.band", "gates/*.flash", "city.json"} {
		if files, err := filepath.Glob(filepath.Join(data, pattern)); err != nil || len(files) == 0 {
			t.Errorf("no %s kept, %v", pattern, err)
		}
	}
	c = liveCityAt(t, data, 3, c.live.clock.Now()) // time goes on, as the demo's does: cards remember when they were used
	defer c.stop()
	c.until("more rides", func() bool {
		totals, err := c.live.Totals(ctx)
		return err == nil && totals.Taps > taps+4
	})
	if totals, err := c.live.Totals(ctx); err != nil || totals.Cards != 4 {
		t.Errorf("%d cards, %v", totals.Cards, err)
	}
}

// TestLiveShops: residents pay, eat, open doors and use coupons, their bands
// count steps, and what shops hand in is booked.
func TestLiveShops(t *testing.T) {
	c := liveCity(t, t.TempDir(), 20)
	defer c.stop()
	ctx, l := context.Background(), c.live
	c.until("sales, meals, doors and coupons", func() bool {
		acts, err := l.Recent(ctx, keptActs)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[home.Kind]bool{}
		l.mu.Lock()
		for _, a := range l.acts {
			seen[a.Kind] = true
		}
		l.mu.Unlock()
		traced := false
		for _, a := range acts {
			traced = traced || a.Kind == home.Sale && a.Trace != ""
		}
		return seen[home.Sale] && seen[home.Meal] && seen[home.Door] && traced
	})
	err := l.house.Store.Read(ctx, func(q *db.Query) error {
		earned, err := acquiring.Earned(q)
		if len(earned) == 0 {
			t.Error("no shop earned anything")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestLiveConfig: a city without a clock it can steer is refused.
func TestLiveConfig(t *testing.T) {
	if _, err := NewLive(nil, LiveConfig{}); !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
}
