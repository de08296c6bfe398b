package merchant_test

import (
	"context"
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

// TestAgentsMoveAndEnd: moves and ends count from their day on and never before,
// what was accrued stays, and nobody comes to stand below itself.
func TestAgentsMoveAndEnd(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		shop := h.chain(1_000, 2_000, 3_000) // agent0 over agent1 over agent2, who brought the shop
		h.do(func(tx *db.Tx) error {
			return errors.Join(merchant.AddAgent(tx, merchant.Agent{ID: "east", Name: "east"}), merchant.SetRate(tx, "east", sixteenth, 4_000))
		})
		day := sixteenth
		act := func(f func(*db.Tx) error, want error) {
			t.Helper()
			if err := h.try(f); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		}
		move := func(a, over string, since calendar.Date) func(*db.Tx) error {
			return func(tx *db.Tx) error { return merchant.MoveAgent(tx, a, over, since) }
		}
		end := func(a string, since calendar.Date) func(*db.Tx) error {
			return func(tx *db.Tx) error { return merchant.EndAgent(tx, a, since) }
		}
		line := func(since calendar.Date, want string) {
			t.Helper()
			h.read(func(q *db.Query) error {
				path, err := merchant.PathOn(q, "agent2", since)
				if got := fmt.Sprint(path); got != want {
					t.Errorf("on %s: %s, want %s", since, got, want)
				}
				return err
			})
		}
		first := "[{agent2 3000} {agent1 2000} {agent0 1000}]"
		act(move("agent2", "east", day), merchant.ErrBegun)
		act(end("agent2", day), merchant.ErrBegun)
		act(move("agent2", "nobody", day.AddDays(1)), merchant.ErrNotFound)
		act(move("agent0", "agent2", day.AddDays(1)), merchant.ErrLevels)
		act(move("agent1", "agent1", day.AddDays(1)), merchant.ErrLevels)
		act(move("agent2", "east", day.AddDays(10)), nil)
		act(move("agent2", "east", day.AddDays(10)), nil)
		act(func(tx *db.Tx) error { return merchant.SetRate(tx, "east", day.AddDays(12), 7_001) }, merchant.ErrRate)
		act(func(tx *db.Tx) error { return merchant.SetRate(tx, "east", day, 7_000) }, nil) // it has earned nothing
		act(func(tx *db.Tx) error { return merchant.SetRate(tx, "east", day, 4_000) }, nil)
		act(end("agent1", day.AddDays(5)), nil)
		act(end("agent1", day.AddDays(5)), nil)
		act(end("agent1", day.AddDays(6)), merchant.ErrState)
		act(move("agent1", "east", day.AddDays(6)), merchant.ErrState)
		act(move("east", "agent1", day.AddDays(2)), merchant.ErrState)
		act(end("agent2", day.AddDays(4)), merchant.ErrState) // it moves later
		act(func(tx *db.Tx) error {
			return merchant.AddAgent(tx, merchant.Agent{ID: "y", Name: "y", Over: "agent1"})
		}, merchant.ErrAgent)
		act(func(tx *db.Tx) error { return merchant.SetRate(tx, "agent1", day.AddDays(1), 1) }, merchant.ErrState)
		if _, err := h.desk.Apply(context.Background(), withAgent(2, "agent1")); !errors.Is(err, merchant.ErrState) {
			t.Errorf("a merchant of an agent that ends: %v", err)
		}
		for _, x := range []struct {
			after int
			want  string
		}{{0, first}, {4, first}, {5, "[{agent2 3000} {agent0 1000}]"}, {9, "[{agent2 3000} {agent0 1000}]"}, {10, "[{agent2 3000} {east 4000}]"}} {
			line(day.AddDays(x.after), x.want)
			c := merchant.Charge{Ref: fmt.Sprint("sale:", x.after), Shop: shop, Day: day.AddDays(x.after), Net: fen(100)}
			if err := h.earn(c); err != nil {
				t.Fatal(err)
			}
		}
		// Everything is undone long after: each gives back what it had of each day.
		h.now.Advance(100 * 24 * time.Hour)
		act(func(tx *db.Tx) error { return merchant.SetRate(tx, "east", day.AddDays(10), 1) }, merchant.ErrBegun)
		for i, want := range map[int][4]int64{0: {-10, -20, -30, 0}, 10: {0, 0, -30, -40}} {
			var was, is [4]int64
			has := func(into *[4]int64) {
				for k, a := range []string{"agent0", "agent1", "agent2", "east"} {
					into[k], _ = h.given(a)
				}
			}
			has(&was)
			if err := h.earn(merchant.Charge{Ref: fmt.Sprint("back:", i), Shop: shop, Day: day.AddDays(i), Net: fen(-100)}); err != nil {
				t.Fatal(err)
			}
			has(&is)
			for k := range is {
				if is[k]-was[k] != want[k] {
					t.Errorf("day %d: %v becomes %v, want %v", i, was, is, want)
				}
			}
		}
		h.proveAgents()
		h.read(func(q *db.Query) error {
			all, err := merchant.TreeOn(q, day.AddDays(4))
			got := ""
			for _, b := range all {
				got += fmt.Sprint(b.Deep, " ", b.Agent.ID, " ", b.Next, b.Ends, b.NextTo, b.Ended, "; ")
			}
			if want := "0 agent0 0000-00-00 falsefalse; 1 agent1 2015-09-21 trueagent0false; 2 agent2 2015-09-26 falseeastfalse; 0 east 0000-00-00 falsefalse; "; got != want {
				t.Errorf("%s", got)
			}
			return err
		})
	})
}

func withAgent(n int, agent string) merchant.Application {
	a := noodles(n)
	a.Agent = agent
	return a
}

// TestTreeNeverChangesBehind draws moves, ends, rates and days that pass: every
// way up ends within the levels and below the whole, and that of a day that has
// begun never changes again.
func TestTreeNeverChangesBehind(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := open(rt, db.Config{URL: dbtest.File(t), Rebuildable: true})
		var all []string
		for i := range 8 {
			all = append(all, fmt.Sprint("a", i))
			h.do(func(tx *db.Tx) error {
				return errors.Join(merchant.AddAgent(tx, merchant.Agent{ID: all[i], Name: "x"}), merchant.SetRate(tx, all[i], sixteenth.AddDays(-1), 1_500))
			})
		}
		begun := map[string]string{} // agent and day, to its way
		day := sixteenth
		for range rapid.IntRange(1, 25).Draw(rt, "acts") {
			a, b := rapid.SampledFrom(all).Draw(rt, "agent"), rapid.SampledFrom(append([]string{""}, all...)).Draw(rt, "over")
			since := day.AddDays(rapid.IntRange(-1, 4).Draw(rt, "since"))
			switch rapid.SampledFrom([]string{"move", "move", "move", "end", "day"}).Draw(rt, "act") {
			case "move":
				_ = h.try(func(tx *db.Tx) error { return merchant.MoveAgent(tx, a, b, since) }) // refused or not
			case "end":
				_ = h.try(func(tx *db.Tx) error { return merchant.EndAgent(tx, a, since) })
			case "day":
				h.now.Advance(24 * time.Hour)
				day = day.AddDays(1)
			}
			h.read(func(q *db.Query) error {
				for i := -1; i < 6; i++ {
					for _, id := range all {
						path, err := merchant.PathOn(q, id, day.AddDays(i))
						if err != nil {
							return err
						}
						sum, seen := int64(0), map[string]bool{}
						for _, s := range path {
							if sum += s.Points; seen[s.Agent] {
								rt.Fatalf("%v", path)
							}
							seen[s.Agent] = true
						}
						if len(path) > merchant.MaxLevels || sum > 10_000 {
							rt.Fatalf("%v", path)
						}
						key := fmt.Sprint(id, day.AddDays(i))
						if was, ok := begun[key]; ok && was != fmt.Sprint(path) {
							rt.Fatalf("%s was %s and is %v", key, was, path)
						}
						if i <= 0 {
							begun[key] = fmt.Sprint(path)
						}
					}
				}
				return nil
			})
		}
	})
}
