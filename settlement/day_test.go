package settlement_test

import (
	"context"
	"testing"
	"time"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/money"
	"koala/settlement"
	"koala/settlement/fee"
)

// TestCutOffIsADaysEnd: what is booked before the cut-off is paid with its own
// day, what is booked at it or later with the next.
func TestCutOffIsADaysEnd(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		h.shop("wok", func(t *settlement.Terms) { t.Category, t.Holidays, t.CutOff = "", true, settlement.ShopCutOff })
		morning := h.now.Now()
		for _, s := range []struct {
			ref string
			at  time.Duration
		}{{"in time", 23*time.Hour - time.Second}, {"at the cut-off", 23 * time.Hour}} {
			h.at(day, s.at)
			if err := h.sell(settlement.Item{Ref: s.ref, Payee: "wok", Amount: money.Fen(100_00), Kind: "sale", Card: fee.Credit, At: morning}); err != nil {
				t.Fatal(err)
			}
		}
		h.morning(day)
		if p := h.last("wok"); p.Count != 1 || p.Gross.Minor() != 100_00 || p.Day != day {
			t.Errorf("the day's own: %+v", p)
		}
		h.morning(day.AddDays(1))
		if p := h.last("wok"); p.Count != 1 || p.Day != day.AddDays(1) {
			t.Errorf("the next day: %+v", p)
		}
		h.check()
	})
}

// TestMissedDays: after days without a run each is closed by itself, oldest
// first, and what is paid late arrives after it was paid.
func TestMissedDays(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		h.shop("wok", func(t *settlement.Terms) { t.Category, t.Holidays = "", true })
		h.morning(day)
		for n := 1; n <= 3; n++ {
			h.at(day.AddDays(n), 12*time.Hour)
			h.sale("s"+string(rune('0'+n)), "wok", 100_00)
		}
		h.at(day.AddDays(6), 12*time.Hour)
		for range 2 {
			if err := settlement.RunDue(context.Background(), h.store); err != nil {
				t.Fatal(err)
			}
		}
		h.do(func(tx *db.Tx) error {
			all, err := settlement.Payouts(tx, "wok", "", 10)
			if len(all) != 3 {
				t.Fatalf("%d payouts", len(all))
			}
			for i, p := range all { // newest first
				if p.Day != day.AddDays(3-i) || p.Amount.Minor() != 100_00 || p.Arrives != day.AddDays(6) {
					t.Errorf("%v: %v arrives %v", p.Day, p.Amount, p.Arrives)
				}
			}
			for n := range 6 {
				if _, err := settlement.FileOf(tx, day.AddDays(n)); err != nil {
					t.Error(err)
				}
			}
			return err
		})
		h.check()
	})
}

// TestTickTreatsEachByItself: a payee whose items cannot be priced keeps no
// other from being paid unasked.
func TestTickTreatsEachByItself(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		h.do(func(tx *db.Tx) error { return settlement.SetFunding(tx, money.Fen(10_000_00)) })
		h.at(day, 12*time.Hour)
		for _, id := range []string{"bad", "wok"} {
			h.shop(id, func(t *settlement.Terms) {
				t.Once = settlement.Once{Agreed: true, Every: time.Hour, BPDay: 2, Most: money.Fen(5000_00), Promise: 2 * time.Hour}
			})
			h.sale("s."+id, id, 100_00)
		}
		category := func(name string) {
			h.do(func(tx *db.Tx) error {
				_, err := tx.Exec(`UPDATE settlement_terms SET category = $1 WHERE payee = 'bad'`, name)
				return err
			})
		}
		category("none")
		h.now.Advance(2 * time.Hour)
		for range 2 {
			if err := settlement.Tick(context.Background(), h.store); err == nil {
				t.Error("no word of the one that cannot be paid")
			}
		}
		if p := h.last("wok"); p.Kind != settlement.AtOnce || p.State != settlement.Sent {
			t.Errorf("the other: %+v", p)
		}
		category(string(fee.Dining))
		h.tick()
		if p := h.last("bad"); p.Kind != settlement.AtOnce {
			t.Errorf("mended: %+v", p)
		}
		h.check()
	})
}
