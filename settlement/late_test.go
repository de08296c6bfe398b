package settlement_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/ledger"
	"koala/settlement"
)

// reopen is the house after its process has ended: another one on the same file.
func (h *house) reopen(cfg db.Config) {
	h.t.Helper()
	h.close()
	cfg.Clock, cfg.Inline = h.now, true
	ctx := context.Background()
	var err error
	if h.store, err = db.Open(ctx, cfg); err != nil {
		h.t.Fatal(err)
	}
	book, err := ledger.Open(ctx, h.store, ledger.Config{Inline: true})
	if err != nil {
		h.t.Fatal(err)
	}
	h.close = func() { book.Close(); h.store.Close() }
	if err := h.store.Migrate(ctx, settlement.Schema); err != nil {
		h.t.Fatal(err)
	}
}

// freed is what a shop has had of "late is free": payouts that were late, what of
// their price came back, and how many more cost nothing.
func (h *house) freed(shop string) string {
	h.t.Helper()
	var out string
	h.do(func(tx *db.Tx) error {
		all, err := settlement.Payouts(tx, shop, "", 100)
		if err != nil {
			return err
		}
		d, err := settlement.Today(tx, shop, tx.Now())
		out = ""
		for _, p := range all {
			out += fmt.Sprintf("%v %s of %s; ", p.Late(), p.Undone.Yuan(), p.Advance.Yuan())
		}
		out += fmt.Sprintf("%d free", d.FreeAtOnce)
		return err
	})
	return out
}

// TestLateByTheClock: the bank never says a word. The payout is free when its
// time has passed, whatever process is cut at whatever commit of the Tick that
// finds it, once; and when the bank speaks at last it changes nothing.
func TestLateByTheClock(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at, hit := 1, true; hit; at++ {
			c := &cut{after: after}
			cfg := db.Config{URL: dbtest.File(t), Rebuildable: true}
			first := cfg
			first.Faults = c
			h := open(t, first)
			h.shop("wok", prompt)
			h.sale("s1", "wok", 1000_00)
			p, err := h.payNow("wok", h.offer("wok"))
			if err != nil {
				t.Fatal(err)
			}
			h.tick()
			h.now.Set(p.Promised)
			h.tick()
			if got := h.freed("wok"); got != "false 0.00 of 0.20; 0 free" {
				t.Fatalf("at the time promised: %s", got)
			}
			h.now.Advance(time.Microsecond)
			c.n, c.at = 0, at
			err = settlement.Tick(context.Background(), h.store)
			if hit = c.n >= c.at; hit == (err == nil) {
				t.Fatalf("cut %d (after: %v): %v", at, after, err)
			}
			h.reopen(cfg) // what was cut is gone, or is there whole
			for range 2 {
				h.tick()
			}
			want := "true 0.20 of 0.20; 1 free"
			if got := h.freed("wok"); got != want {
				t.Errorf("cut %d (after: %v): %s, want %s", at, after, got, want)
			}
			h.now.Advance(30 * time.Hour)
			for range 2 {
				h.do(func(tx *db.Tx) error { return settlement.Confirm(tx, p.ID) })
				h.tick()
			}
			if got := h.freed("wok"); got != want || h.last("wok").State != settlement.Confirmed {
				t.Errorf("confirmed at last, cut %d (after: %v): %s, want %s", at, after, got, want)
			}
			h.check()
		}
	}
}

// TestLateBeforeTick: who asks for a payout at once after the last one's time has
// passed is not charged because no Tick was there yet.
func TestLateBeforeTick(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	h.shop("wok", prompt)
	h.sale("s1", "wok", 1000_00)
	first, err := h.payNow("wok", h.offer("wok"))
	if err != nil {
		t.Fatal(err)
	}
	h.tick()
	h.sale("s2", "wok", 100_00)
	h.now.Set(first.Promised.Add(time.Microsecond))
	h.do(func(tx *db.Tx) error {
		late, err := settlement.Overdue(tx, h.now.Now(), 10)
		if len(late) != 1 || late[0].ID != first.ID {
			t.Errorf("late are %+v", late)
		}
		return err
	})
	o := h.offer("wok")
	if !o.Free || o.Amount.Minor() != 100_20 || !o.Advance.IsZero() {
		t.Fatalf("offered %+v", o)
	}
	second, err := h.payNow("wok", o)
	if err != nil || second.Amount != o.Amount || !second.Advance.IsZero() {
		t.Fatalf("paid %+v, %v", second, err)
	}
	h.check()
	h.do(func(tx *db.Tx) error { return settlement.Confirm(tx, first.ID) })
	h.do(func(tx *db.Tx) error {
		late, err := settlement.Overdue(tx, h.now.Now(), 10)
		if len(late) != 0 {
			t.Errorf("late are %+v when the bank has answered", late)
		}
		return err
	})
	h.tick()
	if got := h.freed("wok"); got != "false 0.00 of 0.00; true 0.20 of 0.20; 0 free" {
		t.Errorf("freed: %s", got)
	}
	h.check()
}

// TestLateAndReturned: what comes back after its time was late all the same, what
// comes back before was not, and what was confirmed in time is not late later.
func TestLateAndReturned(t *testing.T) {
	for _, tt := range []struct {
		name      string
		confirmed time.Duration // after it was paid; 0: never
		returned  time.Duration
		want      string
	}{
		{"in time", 0, time.Hour, "false 0.20 of 0.20; 0 free"},
		{"too late", 0, 3 * time.Hour, "true 0.20 of 0.20; 1 free"},
		{"confirmed in time", time.Hour, 3 * time.Hour, "false 0.20 of 0.20; 0 free"},
		{"confirmed too late", 150 * time.Minute, 3 * time.Hour, "true 0.20 of 0.20; 1 free"},
	} {
		h := open(t, db.Config{URL: dbtest.File(t)})
		h.shop("wok", prompt)
		h.sale("s1", "wok", 1000_00)
		p, err := h.payNow("wok", h.offer("wok"))
		if err != nil {
			t.Fatal(err)
		}
		h.tick()
		if tt.confirmed > 0 {
			h.now.Set(p.At.Add(tt.confirmed))
			h.do(func(tx *db.Tx) error { return settlement.Confirm(tx, p.ID) })
		}
		h.now.Set(p.At.Add(tt.returned))
		for range 2 {
			h.do(func(tx *db.Tx) error { return settlement.Return(tx, p.ID, "no such account") })
			h.tick()
		}
		if got := h.freed("wok"); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if got := h.owed("wok"); got != 1000_00 {
			t.Errorf("%s: %d are owed again", tt.name, got)
		}
		h.check()
	}
}
