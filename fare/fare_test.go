package fare_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/calendar"
	"koala/fare"
	"koala/money"
)

func tariff(t testing.TB, day string) fare.Tariff {
	t.Helper()
	d, err := calendar.Parse(day)
	if err != nil {
		t.Fatal(err)
	}
	tf, err := fare.On(d)
	if err != nil {
		t.Fatal(err)
	}
	return tf
}

func at(s string) time.Time {
	t, err := time.ParseInLocation("2006-01-02 15:04", s, calendar.Beijing)
	if err != nil {
		panic(err)
	}
	return t
}

func metro(m int) []fare.Part { return []fare.Part{{Region: fare.Network, Metres: m}} }

func TestPrice(t *testing.T) {
	in := at("2015-09-16 08:00") // a Wednesday
	airport := []fare.Part{{Region: fare.Network, Metres: 7_000}, {Region: fare.CapitalAirport, Metres: 20_000}}
	for _, tt := range []struct {
		name   string
		ride   fare.Ride
		fen    int64
		counts int64
		rules  []string
	}{
		{"6 km and the free 100 m", fare.Ride{Parts: metro(6_099)}, 300, 300, []string{"base"}},
		{"one metre more", fare.Ride{Parts: metro(6_100)}, 400, 400, []string{"base"}},
		{"to 12 km", fare.Ride{Parts: metro(12_099)}, 400, 400, []string{"base"}},
		{"to 22 km", fare.Ride{Parts: metro(22_099)}, 500, 500, []string{"base"}},
		{"to 32 km", fare.Ride{Parts: metro(32_099)}, 600, 600, []string{"base"}},
		{"to 52 km", fare.Ride{Parts: metro(52_099)}, 700, 700, []string{"base"}},
		{"to 72 km", fare.Ride{Parts: metro(72_099)}, 800, 800, []string{"base"}},
		{"to 92 km", fare.Ride{Parts: metro(92_099)}, 900, 900, []string{"base"}},
		{"beyond", fare.Ride{Parts: metro(92_100)}, 1000, 1000, []string{"base"}},
		{"no maximum", fare.Ride{Parts: metro(112_100)}, 1100, 1100, []string{"base"}},
		{"99.99 yuan spent", fare.Ride{Parts: metro(7_000), MonthSpent: money.Fen(99_99)}, 400, 400, []string{"base"}},
		{"100 yuan spent", fare.Ride{Parts: metro(7_000), MonthSpent: money.Fen(100_00)}, 320, 320, []string{"base", "rebate"}},
		{"149.99: the trip is not split", fare.Ride{Parts: metro(7_000), MonthSpent: money.Fen(149_99)}, 320, 320, []string{"base", "rebate"}},
		{"150 yuan spent", fare.Ride{Parts: metro(5_000), MonthSpent: money.Fen(150_00)}, 150, 150, []string{"base", "rebate"}},
		{"400 yuan spent", fare.Ride{Parts: metro(5_000), MonthSpent: money.Fen(400_00)}, 300, 300, []string{"base"}},
		{"airport takes no rebate", fare.Ride{Parts: airport, MonthSpent: money.Fen(150_00)}, 2700, 200, []string{"base", "base", "rebate"}},
		{"four hours are allowed", fare.Ride{Parts: metro(5_000), Entered: in, Left: in.Add(4 * time.Hour)}, 300, 300, []string{"base"}},
		{"a second more", fare.Ride{Parts: metro(5_000), Entered: in, Left: in.Add(4*time.Hour + time.Second)}, 600, 300, []string{"base", "overstay"}},
		{"clock runs back", fare.Ride{Parts: metro(5_000), Entered: in, Left: in.Add(-time.Hour)}, 300, 300, []string{"base"}},
		{"same station in time", fare.Ride{Case: fare.SameStation, Parts: metro(0), Entered: in, Left: in.Add(10 * time.Minute)}, 0, 0, []string{"same-station"}},
		{"same station late", fare.Ride{Case: fare.SameStation, Parts: metro(0), Entered: in, Left: in.Add(11 * time.Minute)}, 300, 0, []string{"same-station"}},
		{"same station, five hours", fare.Ride{Case: fare.SameStation, Parts: metro(0), Entered: in, Left: in.Add(5 * time.Hour)}, 600, 0, []string{"same-station", "overstay"}},
		{"no entry", fare.Ride{Case: fare.MissingEntry, Parts: metro(55_000), Left: in}, 800, 0, []string{"missing-entry"}},
		{"no exit", fare.Ride{Case: fare.MissingExit, Parts: metro(55_000), Entered: in, Left: in.Add(20 * time.Hour)}, 300, 0, []string{"missing-exit"}},
		{"student on rail", fare.Ride{Parts: metro(5_000), Entered: in, Concession: "student"}, 300, 300, []string{"base", "concession"}},
		{"free rider", fare.Ride{Parts: airport, Entered: in, Concession: "disabled"}, 0, 0, []string{"base", "base", "concession"}},
	} {
		q, err := fare.Price(tariff(t, "2015-09-16"), tt.ride)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if q.Fen.Minor() != tt.fen || q.Counts.Minor() != tt.counts || !slices.Equal(words(q), tt.rules) {
			t.Errorf("%s: %d fen, counts %d, %v; want %d, %d, %v", tt.name, q.Fen.Minor(), q.Counts.Minor(), words(q), tt.fen, tt.counts, tt.rules)
		}
	}
}

func words(q fare.Quote) []string {
	var out []string
	for _, l := range q.Lines {
		out = append(out, l.Rule)
	}
	return out
}

func TestEarlyBird(t *testing.T) {
	for _, tt := range []struct {
		name  string
		in    string
		early bool
		spent int64
		fen   int64
	}{
		{"before seven on a Monday", "2019-11-04 06:59", true, 0, 250},
		{"at seven", "2019-11-04 07:00", true, 0, 500},
		{"another station", "2019-11-04 06:59", false, 0, 500},
		{"on a Sunday", "2019-11-03 06:59", true, 0, 500},
		{"after midnight is last evening", "2019-11-05 00:10", true, 0, 500},
		{"before the rule began", "2015-12-25 06:30", true, 0, 500},
		{"with rebate: 2.50 at 50 %", "2019-11-04 06:30", true, 150_00, 125},
	} {
		r := fare.Ride{Parts: metro(20_000), EarlyStation: tt.early, Entered: at(tt.in), Left: at(tt.in).Add(time.Hour), MonthSpent: money.Fen(tt.spent)}
		tf, err := fare.At(r.Entered)
		if err != nil {
			t.Fatal(err)
		}
		q, err := fare.Price(tf, r)
		if err != nil || q.Fen.Minor() != tt.fen {
			t.Errorf("%s: %v, %v; want %d fen", tt.name, q, err, tt.fen)
		}
	}
}

func TestBus(t *testing.T) {
	for _, tt := range []struct {
		name string
		ride fare.BusRide
		fen  int64
	}{
		{"cash to 10 km", fare.BusRide{Metres: 10_000}, 200},
		{"cash beyond", fare.BusRide{Metres: 10_001}, 300},
		{"16 km", fare.BusRide{Metres: 16_000}, 400},
		{"card", fare.BusRide{Metres: 10_001, Card: true}, 150},
		{"student card", fare.BusRide{Metres: 10_001, Card: true, Concession: "student"}, 75},
		{"senior card", fare.BusRide{Metres: 30_000, Card: true, Concession: "senior"}, 0},
		{"flat route by card", fare.BusRide{Flat: money.Fen(200), Metres: 40_000, Card: true}, 100},
	} {
		tt.ride.At = at("2019-11-04 12:00")
		q, err := fare.PriceBus(tariff(t, "2019-11-04"), tt.ride)
		if err != nil || q.Fen.Minor() != tt.fen {
			t.Errorf("%s: %v, %v; want %d fen", tt.name, q, err, tt.fen)
		}
	}
}

func TestTariffByDate(t *testing.T) {
	for day, id := range map[string]string{"2014-12-27": "beijing-2007", "2014-12-28": "beijing-2014", "2026-07-23": "beijing-2014"} {
		if got := tariff(t, day).ID; got != id {
			t.Errorf("%s: %s, want %s", day, got, id)
		}
	}
	if _, err := fare.On(calendar.Date{Year: 1999, Month: 1, Day: 1}); !errors.Is(err, fare.ErrNoTariff) {
		t.Errorf("1999: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	tf := tariff(t, "2015-09-16")
	for _, tt := range []struct {
		name string
		ride fare.Ride
		want error
	}{
		{"no parts", fare.Ride{}, fare.ErrRide},
		{"negative", fare.Ride{Parts: metro(-1)}, fare.ErrRide},
		{"huge", fare.Ride{Parts: metro(fare.MaxMetres + 1)}, fare.ErrRide},
		{"unknown region", fare.Ride{Parts: []fare.Part{{Region: "moon", Metres: 1}}}, fare.ErrNoRule},
		{"unknown concession", fare.Ride{Parts: metro(1), Concession: "king"}, fare.ErrNoConcession},
		{"negative month", fare.Ride{Parts: metro(1), MonthSpent: money.Fen(-1)}, fare.ErrRide},
		{"unknown case", fare.Ride{Case: 9, Parts: metro(1)}, fare.ErrRide},
	} {
		if _, err := fare.Price(tf, tt.ride); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func drawRide(t *rapid.T) fare.Ride {
	r := fare.Ride{
		Case:         fare.Case(rapid.IntRange(0, 3).Draw(t, "case")),
		Parts:        metro(rapid.IntRange(0, 150_000).Draw(t, "metres")),
		EarlyStation: rapid.Bool().Draw(t, "early"),
		Entered:      at("2020-01-01 04:00").Add(time.Duration(rapid.IntRange(0, 60*24*365).Draw(t, "minute")) * time.Minute),
		MonthSpent:   money.Fen(rapid.Int64Range(0, 60_000).Draw(t, "spent")),
		Concession:   rapid.SampledFrom([]string{"", "student", "senior", "disabled"}).Draw(t, "concession"),
	}
	if rapid.Bool().Draw(t, "airport") {
		r.Parts = append(r.Parts, fare.Part{Region: fare.DaxingAirport, Metres: rapid.IntRange(0, 40_000).Draw(t, "express")})
	}
	r.Left = r.Entered.Add(time.Duration(rapid.IntRange(-10, 400).Draw(t, "stay")) * time.Minute)
	return r
}

func TestLinesSumToThePriceAndShareIsNeverNegative(t *testing.T) {
	tf := tariff(t, "2020-06-01")
	rapid.Check(t, func(t *rapid.T) {
		q, err := fare.Price(tf, drawRide(t))
		if err != nil {
			t.Fatal(err)
		}
		sum, base := int64(0), int64(0)
		for _, l := range q.Lines {
			sum += l.Fen
			if l.Rule == "base" {
				base += l.Fen
			}
			if (l.Rule == "rebate" || l.Rule == "early-bird" || l.Rule == "concession") && l.Fen > 0 {
				t.Fatalf("%s adds %d fen", l.Rule, l.Fen)
			}
			if l.EN == "" || l.ZH == "" {
				t.Fatalf("line without words: %+v", l)
			}
		}
		if sum != q.Fen.Minor() || sum < 0 || q.Counts.Minor() < 0 || q.Counts.Minor() > sum {
			t.Fatalf("lines sum to %d, price %s, counts %s", sum, q.Fen, q.Counts)
		}
	})
}

func TestFareNeverFallsWithDistance(t *testing.T) {
	tf := tariff(t, "2020-06-01")
	rapid.Check(t, func(t *rapid.T) {
		r := drawRide(t)
		r.Case = fare.Complete
		near, err1 := fare.Price(tf, r)
		r.Parts[0].Metres += rapid.IntRange(0, 50_000).Draw(t, "further")
		far, err2 := fare.Price(tf, r)
		if err1 != nil || err2 != nil || far.Fen.Cmp(near.Fen) < 0 {
			t.Fatalf("%s for less, %s for more (%v, %v)", near.Fen, far.Fen, err1, err2)
		}
	})
}

func BenchmarkTablePrice(b *testing.B) {
	tb := sample(b)
	tap := fare.Tap{Entry: 10107, Entered: at("2020-06-01 08:00"), Left: at("2020-06-01 08:40"), MonthSpent: money.Fen(12000)}
	for b.Loop() {
		if _, err := tb.Price(tap); err != nil {
			b.Fatal(err)
		}
	}
}
