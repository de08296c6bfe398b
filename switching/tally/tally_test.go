package tally_test

import (
	"testing"

	"pgregory.net/rapid"

	"koala/calendar"
	"koala/switching/tally"
)

// TestFollowsUnits: whatever units add and take back, run twice or fail, the
// tally is the sum of what is durable.
func TestFollowsUnits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		y := tally.New()
		day := calendar.Date{Year: 2015, Month: 8, Day: 30}
		past := rapid.Int64Range(0, 9).Draw(t, "past")
		y.Meet("a", day, []tally.Change{{Shop: "a", Class: "debit", Fen: past, Day: day}, {Shop: "a", Class: "debit", Fen: 5, Day: day.AddDays(-31)}})
		daily, monthly := past, past
		for range rapid.IntRange(0, 12).Draw(t, "units") {
			if rapid.IntRange(0, 4).Draw(t, "night") == 0 {
				next := day.AddDays(1)
				if daily = 0; next.MonthOf() != day.MonthOf() {
					monthly = 0
				}
				day = next
			}
			fen := rapid.Int64Range(1, 9).Draw(t, "fen")
			x := tally.Change{Shop: "a", Class: "debit", Fen: fen, Day: day}
			var noted []tally.Change
			for range rapid.IntRange(1, 3).Draw(t, "runs") { // the writer may run a unit again
				y.Begin(&noted)
				y.Count(x)
				y.Begin(nil)
			}
			if ok := rapid.Bool().Draw(t, "durable"); ok {
				y.End(&noted, true)
				daily, monthly = daily+fen, monthly+fen
			} else {
				y.End(&noted, false)
			}
			if rapid.IntRange(0, 3).Draw(t, "back") == 0 && daily > 0 {
				y.TakeBack(tally.Change{Shop: "a", Class: "debit", Fen: -1, Day: day})
				daily, monthly = daily-1, monthly-1
			}
			if d, m := y.Taken("a", "debit", day); d != daily || m != monthly {
				t.Fatalf("%d on the day and %d in the month, want %d and %d", d, m, daily, monthly)
			}
		}
		if y.Met("b") || !y.Met("a") {
			t.Fatal("who was met")
		}
		if d, m := y.Taken("a", "credit", day); d != 0 || m != 0 {
			t.Fatal("another class has taken something")
		}
	})
}

// TestDaysAndMonths: changes of any day, in any order, against a sum over all of
// them: a day that is over counts in its month only, a month that is over nowhere.
// Before a shop is met nothing of it counts, and what it is told then is the sum.
func TestDaysAndMonths(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		y := tally.New()
		today := calendar.Date{Year: 2015, Month: 12, Day: 30}
		classes := []string{"debit", "credit"}
		var all []tally.Change
		draw := func() tally.Change {
			x := tally.Change{Shop: "a", Class: rapid.SampledFrom(classes).Draw(t, "class"), Fen: rapid.Int64Range(1, 99).Draw(t, "fen"),
				Day: today.AddDays(-rapid.IntRange(0, 40).Draw(t, "days ago"))}
			all = append(all, x)
			return x
		}
		for range rapid.IntRange(0, 6).Draw(t, "before it is met") {
			y.TakeBack(draw()) // nobody knows the shop
		}
		if d, m := y.Taken("a", "debit", today); d != 0 || m != 0 {
			t.Fatal("a shop that was never met has taken something")
		}
		y.Meet("a", today, all)
		for range rapid.IntRange(0, 20).Draw(t, "changes") {
			today = today.AddDays(rapid.SampledFrom([]int{0, 0, 0, 1, 2, 31}).Draw(t, "days on"))
			switch x := draw(); rapid.IntRange(0, 2).Draw(t, "how") {
			case 0:
				y.TakeBack(x)
			case 1:
				var noted []tally.Change
				y.Begin(&noted)
				y.Count(x)
				y.Begin(nil)
				y.End(&noted, true)
			default: // it is taken back another day
				y.TakeBack(x)
				today = today.AddDays(rapid.IntRange(0, 3).Draw(t, "later"))
				x.Fen = -x.Fen
				all = append(all, x)
				y.TakeBack(x)
			}
			for _, class := range classes {
				var daily, monthly int64
				for _, x := range all {
					if x.Class != class || x.Day.MonthOf() != today.MonthOf() {
						continue
					}
					if monthly += x.Fen; x.Day == today {
						daily += x.Fen
					}
				}
				if d, m := y.Taken("a", class, today); d != daily || m != monthly {
					t.Fatalf("%s on %s: %d and %d in the month, want %d and %d", class, today, d, m, daily, monthly)
				}
			}
		}
	})
}
