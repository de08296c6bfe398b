package limit_test

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"koala/calendar"
	"koala/money"
	"koala/settlement/limit"
)

func on(t interface{ Fatal(...any) }, s string) calendar.Date {
	d, err := calendar.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestOf: limits in fen, computed by hand. A shop that sells 1,000 yuan a day.
func TestOf(t *testing.T) {
	table := limit.House()
	for _, tt := range []struct {
		name string
		day  string
		f    limit.Facts
		most int64 // agreed
		want int64
	}{
		{"two average days", "2016-09-16", limit.Facts{30_000_00, 90_000_00, 0, 0, 400, "A"}, 9_999_00, 2_000_00},
		{"never above what was agreed", "2016-09-16", limit.Facts{30_000_00, 90_000_00, 0, 0, 400, "A"}, 1_500_00, 1_500_00},
		{"nothing was agreed", "2016-09-16", limit.Facts{30_000_00, 90_000_00, 0, 0, 400, "A"}, 0, 0},
		{"a bad month behind good ones", "2016-09-16", limit.Facts{3_000_00, 90_000_00, 0, 0, 400, "A"}, 9_999_00, 200_00},
		{"one good month", "2016-09-16", limit.Facts{30_000_00, 30_000_00, 0, 0, 400, "A"}, 9_999_00, 666_66}, // 333.33 a day
		{"less than 30 days old", "2016-09-16", limit.Facts{30_000_00, 90_000_00, 0, 0, 29, "A"}, 9_999_00, 0},
		{"30 days old", "2016-09-16", limit.Facts{30_000_00, 90_000_00, 0, 0, 30, "A"}, 9_999_00, 1_000_00},
		{"89 days old, before the rule of 2017", "2017-12-12", limit.Facts{30_000_00, 90_000_00, 0, 0, 89, "A"}, 9_999_00, 1_000_00},
		{"89 days old, under it", "2017-12-13", limit.Facts{30_000_00, 90_000_00, 0, 0, 89, "A"}, 9_999_00, 0},
		{"90 days old, under it", "2017-12-13", limit.Facts{30_000_00, 90_000_00, 0, 0, 90, "A"}, 9_999_00, 1_600_00},
		{"refunds of 2 %", "2016-09-16", limit.Facts{30_000_00, 90_000_00, 1_800_00, 0, 400, "A"}, 9_999_00, 2_000_00},
		{"and a fen", "2016-09-16", limit.Facts{30_000_00, 90_000_00, 1_800_01, 0, 400, "A"}, 9_999_00, 1_600_00},
		{"refunds of more than was sold", "2016-09-16", limit.Facts{30_000_00, 90_000_00, 99_000_00, 0, 400, "A"}, 9_999_00, 400_00},
		{"chargebacks of 0.5 %", "2016-09-16", limit.Facts{30_000_00, 90_000_00, 0, 450_00, 400, "A"}, 9_999_00, 1_400_00},
		{"chargebacks of more than 1 %", "2016-09-16", limit.Facts{30_000_00, 90_000_00, 0, 900_01, 400, "A"}, 9_999_00, 0},
		{"a person", "2016-09-16", limit.Facts{30_000_00, 90_000_00, 0, 0, 400, "C"}, 9_999_00, 1_200_00},
		{"all at once", "2016-09-16", limit.Facts{30_000_00, 90_000_00, 2_700_00, 90_00, 100, "B"}, 9_999_00, 1_152_00}, // 2,000 x 0.8 x 0.8 x 1 x 0.9
		{"under watch", "2016-09-16", limit.Facts{30_000_00, 90_000_00, 0, 0, 400, "D"}, 9_999_00, 0},
		{"a level that is not known", "2016-09-16", limit.Facts{30_000_00, 90_000_00, 0, 0, 400, "X"}, 9_999_00, 0},
		{"nothing sold", "2016-09-16", limit.Facts{0, 0, 5, 5, 400, "A"}, 9_999_00, 0},
		{"before the table", "2013-02-24", limit.Facts{30_000_00, 90_000_00, 0, 0, 400, "A"}, 9_999_00, 0},
	} {
		l := table.Of(on(t, tt.day), tt.f, money.Fen(tt.most))
		if l.Most.Minor() != tt.want || l.Lines[len(l.Lines)-1].Fen != l.Most {
			t.Errorf("%s: %s, want %d; %v", tt.name, l.Most, tt.want, l.Lines)
		}
		for i, x := range l.Lines {
			if x.EN == "" || x.ZH == "" || i > 0 && i < 6 && i != 1 && x.Fen.Cmp(l.Lines[i-1].Fen) > 0 {
				t.Errorf("%s: line %d: %v", tt.name, i, x)
			}
		}
		if len(l.Lines) < 6 {
			t.Errorf("%s: a factor is not explained: %v", tt.name, l.Lines)
		}
	}
}

// TestWorseIsNeverMore: on any day the limit does not rise when refunds or
// chargebacks rise, the age falls, the level is worse or less was sold, and it is
// never above what was agreed.
func TestWorseIsNeverMore(t *testing.T) {
	table := limit.House()
	rapid.Check(t, func(t *rapid.T) {
		day := on(t, "2013-01-01").AddDays(rapid.IntRange(0, 3000).Draw(t, "day"))
		agreed := money.Fen(rapid.Int64Range(0, 10_000_00).Draw(t, "agreed"))
		sold := rapid.OneOf(rapid.Int64Range(0, 200_000_00), rapid.Int64Range(0, 1<<60)).Draw(t, "sold")
		levels := []limit.Risk{"A", "B", "C", "D", "?"}
		level := rapid.IntRange(0, 4).Draw(t, "level")
		f := limit.Facts{Taken90: sold, Taken30: rapid.Int64Range(0, sold).Draw(t, "of 30 days"), Refunds: rapid.Int64Range(0, sold/8).Draw(t, "refunds"),
			Charged: rapid.Int64Range(0, sold/80).Draw(t, "charged"), Age: rapid.IntRange(0, 400).Draw(t, "age"), Risk: levels[level]}
		l := table.Of(day, f, agreed)
		if l.Most.Sign() < 0 || l.Most.Cmp(agreed) > 0 {
			t.Fatalf("%s of %s agreed", l.Most, agreed)
		}
		worse := f
		worse.Refunds += rapid.Int64Range(0, sold/8+1).Draw(t, "more refunds")
		worse.Charged += rapid.Int64Range(0, sold/80+1).Draw(t, "more charged")
		worse.Age -= rapid.IntRange(0, f.Age).Draw(t, "younger")
		worse.Risk = levels[rapid.IntRange(level, 4).Draw(t, "worse")]
		worse.Taken30 -= rapid.Int64Range(0, f.Taken30).Draw(t, "less sold")
		if w := table.Of(day, worse, agreed); w.Most.Cmp(l.Most) > 0 {
			t.Fatalf("%+v is worse than %+v, and has %s instead of %s", worse, f, w.Most, l.Most)
		}
	})
}

const head = "from,factor,key,percent,source\n"

// TestReadRefuses: no table can make a worse shop get more.
func TestReadRefuses(t *testing.T) {
	for _, rows := range []string{
		"",
		"2013-02-25,age,30,50,x\n2013-02-25,age,,40,x\n",
		"2013-02-25,refunds,30,50,x\n2013-02-25,refunds,,60,x\n",
		"2013-02-25,risk,A,50,x\n2013-02-25,risk,B,60,x\n",
		"2013-02-25,refunds,30,50,x\n",
		"2013-02-25,refunds,30,50,x\n2013-02-25,refunds,20,40,x\n2013-02-25,refunds,,30,x\n",
		"2013-02-25,refunds,,50,x\n2013-02-25,age,,50,x\n2013-02-25,refunds,,40,x\n",
		"2013-02-25,takings,,1001,x\n", "2013-02-25,age,,101,x\n", "2013-02-25,risk,,10,x\n", "2013-02-25,luck,,10,x\n", "2013-02-25,age,x,10,x\n", "day,age,,10,x\n", "2013-02-25,age,,10\n",
	} {
		text := head + rows
		if rows == "" {
			text = ""
		}
		if _, err := limit.Read(strings.NewReader(text)); !errors.Is(err, limit.ErrRows) {
			t.Errorf("%q: %v", rows, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(head + "2013-02-25,takings,,200,x\n2013-02-25,age,30,50,x\n2013-02-25,age,,60,x\n")
	f.Fuzz(func(t *testing.T, rows string) {
		table, err := limit.Read(strings.NewReader(rows))
		if err != nil {
			return
		}
		good := limit.Facts{Taken30: 30_000_00, Taken90: 90_000_00, Age: 400, Risk: "A"}
		bad := limit.Facts{Taken30: 30_000_00, Taken90: 90_000_00, Refunds: 4_000_00, Charged: 100_00, Age: 50, Risk: "C"}
		day, agreed := on(t, "2016-09-16"), money.Fen(money.MaxMinor)
		if a, b := table.Of(day, good, agreed).Most, table.Of(day, bad, agreed).Most; b.Cmp(a) > 0 {
			t.Errorf("%s for the better, %s for the worse", a, b)
		}
	})
}
