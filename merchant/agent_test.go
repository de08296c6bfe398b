package merchant_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/merchant"
	"koala/money"
	"koala/settlement"
)

// drawPath draws shares that do not exceed the whole.
func drawPath(t *rapid.T) (path []merchant.Share) {
	left := int64(10_000)
	for i := range rapid.IntRange(0, merchant.MaxLevels).Draw(t, "levels") {
		p := rapid.Int64Range(0, left).Draw(t, "points")
		path, left = append(path, merchant.Share{Agent: fmt.Sprint("a", i), Points: p}), left-p
	}
	return path
}

func sum(parts []merchant.Part) (n int64) {
	for _, p := range parts {
		n += p.Amount.Minor()
	}
	return n
}

// TestCommissionKeepsEveryFen: the parts are the fee to the fen, each within a
// fen of its exact share, and a fee taken back is the opposite.
func TestCommissionKeepsEveryFen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		path := drawPath(t)
		net := rapid.Int64Range(0, 1_000_000_000).Draw(t, "net")
		parts, err := merchant.Commission(path, money.Fen(net))
		if err != nil || len(parts) != len(path)+1 || sum(parts) != net || parts[len(path)].Agent != "" {
			t.Fatalf("%v, %v", parts, err)
		}
		back, _ := merchant.Commission(path, money.Fen(-net))
		for i, s := range path {
			if d := parts[i].Amount.Minor() - net*s.Points/10_000; d < 0 || d > 1 || parts[i].Agent != s.Agent {
				t.Fatalf("%s has %v of %d", s.Agent, parts[i].Amount, net)
			}
			if back[i].Amount != parts[i].Amount.Neg() {
				t.Fatalf("%s gives back %v of %v", s.Agent, back[i].Amount, parts[i].Amount)
			}
		}
	})
}

func TestCommissionRefusesMoreThanAll(t *testing.T) {
	for _, path := range [][]merchant.Share{{{"a", -1}}, {{"a", 10_001}}, {{"a", 6_000}, {"b", 4_001}}} {
		if _, err := merchant.Commission(path, money.Fen(100)); !errors.Is(err, merchant.ErrRate) {
			t.Errorf("%v: %v", path, err)
		}
	}
}

func TestAgentsAndTheirMonths(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		day := calendar.Of(noon, calendar.Beijing)
		h.do(func(tx *db.Tx) error {
			return errors.Join(merchant.AddAgent(tx, merchant.Agent{ID: "north", Name: "华北"}), merchant.AddAgent(tx, merchant.Agent{ID: "wang", Name: "王记", Over: "north"}),
				merchant.AddAgent(tx, merchant.Agent{ID: "wang", Name: "王记", Over: "north"}),
				merchant.SetRate(tx, "north", day.AddDays(-100), 1_000), merchant.SetRate(tx, "wang", day.AddDays(-100), 3_000), merchant.SetRate(tx, "wang", day.AddDays(1), 4_000))
		})
		for name, act := range map[string]func(*db.Tx) error{
			"more than all on the way": func(tx *db.Tx) error { return merchant.SetRate(tx, "north", day.AddDays(-10), 6_001) },
			"points below nothing":     func(tx *db.Tx) error { return merchant.SetRate(tx, "north", day, -1) },
		} {
			if err := h.try(act); !errors.Is(err, merchant.ErrRate) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := h.try(func(tx *db.Tx) error { return merchant.AddAgent(tx, merchant.Agent{ID: "wang", Name: "王记"}) }); !errors.Is(err, merchant.ErrDiffers) {
			t.Errorf("another superior: %v", err)
		}
		if err := h.try(func(tx *db.Tx) error { return merchant.AddAgent(tx, merchant.Agent{ID: "x", Name: "x", Over: "y"}) }); !errors.Is(err, merchant.ErrAgent) {
			t.Errorf("a superior nobody knows: %v", err)
		}
		a := noodles(1)
		a.Agent = "wang"
		m := h.apply(a)
		shop := h.shop(m.ID).ID
		earn := func(ref string, by int64) error {
			return h.try(func(tx *db.Tx) error { return merchant.Earn(tx, ref, shop, day, money.Fen(by)) })
		}
		if err := errors.Join(earn("day:1", 333), earn("day:1", 333)); err != nil {
			t.Fatal(err)
		}
		if err := earn("day:1", 334); !errors.Is(err, merchant.ErrDiffers) {
			t.Errorf("another body: %v", err)
		}
		h.dues(day.MonthOf(), map[string]int64{"north": 33, "wang": 100})
		h.now.Advance(40 * 24 * time.Hour) // a refund in the month after next
		if err := errors.Join(earn("refund:1", -333), earn("refund:1", -333)); err != nil {
			t.Fatal(err)
		}
		h.dues(calendar.MonthOf(noon), map[string]int64{"north": 33, "wang": 100})
		h.dues(calendar.MonthOf(noon.Add(40*24*time.Hour)), map[string]int64{"north": -33, "wang": -100})
		h.proveAgents()
	})
}

// proveAgents asks whether accruals, items and books agree.
func (h *house) proveAgents() {
	h.Helper()
	h.do(func(tx *db.Tx) error {
		wrong, err := merchant.ProveAgents(tx)
		more, err2 := settlement.CheckBooks(tx)
		also, err3 := settlement.Check(tx)
		if wrong = append(append(wrong, more...), also...); len(wrong) > 0 {
			h.Fatalf("%v", wrong)
		}
		return errors.Join(err, err2, err3)
	})
}

func fen(n int64) money.Amount { return money.Fen(n) }

func (h *house) dues(month calendar.Month, want map[string]int64) {
	h.Helper()
	h.read(func(q *db.Query) error {
		list, err := merchant.DuesOf(q, month)
		got := map[string]int64{}
		for _, d := range list {
			got[d.Agent] = d.Amount.Minor()
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			h.Errorf("dues of %s are %v, want %v", month, got, want)
		}
		return err
	})
}
