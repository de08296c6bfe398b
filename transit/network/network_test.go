package network_test

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/calendar"
	"koala/fare"
	"koala/money"
	"koala/transit/network"
)

var (
	nw   = network.Beijing()
	noon = time.Date(2026, 7, 23, 12, 0, 0, 0, calendar.Beijing)
)

func find(t testing.TB, name string) *network.Station {
	t.Helper()
	s, err := nw.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTheWholeNetworkIsThere(t *testing.T) {
	if l, s, g := len(nw.Lines), len(nw.Stations), len(nw.Segments); l != 28 || s != 425 || g != 515 {
		t.Errorf("%d lines, %d stations, %d segments; the source has 28, 425, 515", l, s, g)
	}
	for _, l := range nw.Lines {
		metres := 0
		for _, s := range nw.Segments {
			if s.Line == l && (s.From.ID != "sanyuanqiao" || !s.OneWay) { // the source counts the way out to the terminals once
				metres += s.Metres
			}
		}
		if metres != l.Metres {
			t.Errorf("line %s: %d m of segments, the source says %d", l.ID, metres, l.Metres)
		}
	}
}

func TestFares(t *testing.T) {
	for _, tt := range []struct {
		from, to string
		metres   int
		fen      int64
	}{
		{"东单", "西单", 3_768, 300},         // Line 1: 东单 王府井 天安门东 天安门西 西单
		{"Dongdan", "xidan", 3_768, 300}, //
		{"东直门", "三元桥", 0, 300},           // both on the metro: never the airport line
		{"北新桥", "东直门", 0, 300},           //
		{"北新桥", "3号航站楼", 0, 2500},        // the airport line alone
		{"东直门", "Terminal 2", 0, 2500},   //
		{"2号航站楼", "东直门", 0, 2500},        //
		{"3号航站楼", "三元桥", 0, 2500},        //
		{"草桥", "大兴机场", 38_331, 3500},     //
		{"草桥", "大兴新城", 13_028, 1000},     //
		{"大兴新城", "大兴机场", 25_303, 2500},   //
		{"香山", "巴沟", 8_693, 400},         // the tram alone
		{"屈庄", "定海园", 11_744, 400},       //
		{"角门西", "大兴机场", 0, 3800},         // metro to 草桥 and the express
		{"2号航站楼", "大兴机场", 0, 6500},       // airport to airport: 25 + 5 + 35
	} {
		a, err := nw.Fare(network.Question{From: tt.from, To: tt.to, At: noon})
		if err != nil {
			t.Errorf("%s to %s: %v", tt.from, tt.to, err)
			continue
		}
		if tt.metres > 0 && tt.fen > 0 && a.Route.Metres != tt.metres || tt.fen > 0 && a.Quote.Fen.Minor() != tt.fen {
			t.Errorf("%s to %s: %d m, %s; want %d m, %d fen; %v", tt.from, tt.to, a.Route.Metres, a.Quote.Fen, tt.metres, tt.fen, a.Quote.Rules())
		}
	}
}

func TestFindWords(t *testing.T) {
	for _, tt := range []struct {
		name, id string
		want     error
		says     string
	}{
		{"东单", "dongdan", nil, ""},
		{" 东单站 ", "dongdan", nil, ""},
		{"dongdan", "dongdan", nil, ""},
		{"DONGDAN Station", "dongdan", nil, ""},
		{"Lama Temple", "yonghegong-lama-temple", nil, ""},
		{"Peking University East Gate", "beijing-daxue-dongmen", nil, ""},
		{"Olympic Park", "aolinpike-gongyuan-olympic-park", nil, ""},
		{"Tian'anmendong", "tiananmendong", nil, ""},
		{"大钟寺(13号线)", "dazhong-si-13", nil, ""},
		{"大钟寺(13号线)", "dazhong-si-13", nil, ""},
		{"大钟寺", "", network.ErrAmbiguous, "大钟寺(12号线)"},
		{"大钟寺", "", network.ErrAmbiguous, "大钟寺(13号线)"},
		{"Guanzhuang", "", network.ErrAmbiguous, "关庄"},
		{"八角游乐园", "", network.ErrClosed, "古城 and 八宝山"},
		{"东但", "", network.ErrUnknown, "东单"},
		{"Dongdang", "", network.ErrUnknown, "Dongdan"},
		{"天安门", "", network.ErrUnknown, "天安门西"},
		{"", "", network.ErrUnknown, ""},
		{"!!", "", network.ErrUnknown, ""},
		{strings.Repeat("a", 1000), "", network.ErrUnknown, ""},
		{"qqqqqqqq", "", network.ErrUnknown, ""},
	} {
		s, err := nw.Find(tt.name)
		switch {
		case !errors.Is(err, tt.want):
			t.Errorf("%q: %v, want %v", tt.name, err, tt.want)
		case err == nil && tt.id != "beijing-daxue-dongmen" && s.ID != tt.id:
			t.Errorf("%q is %s, want %s", tt.name, s.ID, tt.id)
		case err != nil && !strings.Contains(err.Error(), tt.says):
			t.Errorf("%q: %q does not say %s", tt.name, err, tt.says)
		}
	}
}

func TestEveryNameAndCodeFindsItsStation(t *testing.T) {
	for _, s := range nw.Stations {
		names := []string{s.ID, s.ZH}
		for _, c := range s.Codes {
			names = append(names, c.String())
		}
		for _, name := range names {
			if got, err := nw.Find(name); err != nil || got != s {
				t.Errorf("%s finds %v, %v; want %s", name, got, err, s.ID)
			}
		}
	}
}

// The prices of package fare are those of the source files.
func TestTariffIsThatOfTheSource(t *testing.T) {
	var src struct {
		Groups []struct {
			Name     string
			Starting []string `json:"starting_stations"`
			Rules    []struct{ Fare, Start, End int }
		} `json:"rule_groups"`
	}
	raw, err := os.ReadFile("data/fare_rules.json")
	if err != nil || json.Unmarshal(raw, &src) != nil {
		t.Fatal("fare_rules.json unreadable", err)
	}
	tf, err := fare.At(noon)
	if err != nil {
		t.Fatal(err)
	}
	regions := map[string]fare.Region{"大路网": fare.Network, "有轨电车": fare.XijiaoTram, "首都机场线": fare.CapitalAirport, "大兴机场线": fare.DaxingAirport}
	for _, g := range src.Groups {
		if len(g.Starting) > 0 && !slices.Equal(g.Starting, tf.EarlyBird.Stations) {
			t.Errorf("early-bird stations are %v, the source has %v", tf.EarlyBird.Stations, g.Starting)
		}
		rule, _ := tf.Region(regions[g.Name])
		for _, r := range g.Rules {
			for _, m := range []int{r.Start, r.End} {
				if fen, _ := rule.Base(m); (m > 0 || r.Start == 0) && m <= fare.MaxMetres && m > 0 && fen != int64(r.Fare)*100 {
					t.Errorf("%s %d m: %d fen, the source says %d yuan", g.Name, m, fen, r.Fare)
				}
			}
		}
	}
	var discounts struct {
		Tiers []struct {
			From   int64 `json:"from_total_yuan"`
			Factor float64
		}
	}
	raw, err = os.ReadFile("data/card_discounts.json")
	if err != nil || json.Unmarshal(raw, &discounts) != nil || len(discounts.Tiers) != len(tf.Rebate) {
		t.Fatal("card_discounts.json unreadable or of other length", err)
	}
	for i, d := range discounts.Tiers {
		step := tf.Rebate[i]
		if step.FromFen != d.From*100 || float64(step.Pay.Num)/float64(step.Pay.Den) != d.Factor {
			t.Errorf("rebate step %d is %+v, the source has %+v", i, step, d)
		}
	}
}

// The distance of a direct search over the segments that knows no tree, no
// heap and no cache: Bellman and Ford's.
func TestDistancesAgreeWithAPlainSearch(t *testing.T) {
	for _, root := range []string{"东单", "香山", "2号航站楼", "朱辛庄", "环球度假区"} {
		from := find(t, root)
		dist := map[*network.Station]int{from: 0}
		for changed := true; changed; {
			changed = false
			relax := func(a, b *network.Station, m int) {
				if d, ok := dist[a]; ok {
					if old, known := dist[b]; !known || d+m < old {
						dist[b], changed = d+m, true
					}
				}
			}
			for _, s := range nw.Segments {
				if s.Line.Region != fare.Network && from.On(fare.Network) {
					continue
				}
				relax(s.From, s.To, s.Metres)
				if !s.OneWay {
					relax(s.To, s.From, s.Metres)
				}
			}
		}
		for _, to := range nw.Stations {
			r, err := nw.Route(from, to)
			shared := from.On(fare.Network) && to.On(fare.Network) || !from.On(fare.Network) && !to.On(from.Lines[0].Region)
			if err != nil || shared && r.Metres != dist[to] {
				t.Errorf("%s to %s: %d m (%v), plain search %d", from.ZH, to.ZH, r.Metres, err, dist[to])
			}
		}
	}
}

func TestRouteAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from, to := rapid.SampledFrom(nw.Stations).Draw(t, "from"), rapid.SampledFrom(nw.Stations).Draw(t, "to")
		r, err := nw.Route(from, to)
		if err != nil {
			t.Fatal(err)
		}
		at, metres, parts := from, 0, 0
		for _, leg := range r.Legs {
			if leg.From != at || leg.Via[0] != leg.From || leg.Via[len(leg.Via)-1] != leg.To {
				t.Fatalf("leg on %s begins at %s, the rider is at %s", leg.Line.ID, leg.From.ID, at.ID)
			}
			at, metres = leg.To, metres+leg.Metres
		}
		for _, p := range r.Parts() {
			parts += p.Metres
		}
		if at != to || metres != r.Metres || parts != r.Metres {
			t.Fatalf("legs end at %s after %d m, parts %d; want %s, %d", at.ID, metres, parts, to.ID, r.Metres)
		}
		if back, err := nw.Route(to, from); err != nil || from.On(fare.Network) && to.On(fare.Network) && back.Metres != r.Metres {
			t.Fatalf("%d m there, %d m back", r.Metres, back.Metres)
		}
		fen := money.Fen(rapid.Int64Range(0, 10_000).Draw(t, "fen"))
		shares, err := nw.Split(r, calendar.Date{Year: 2026, Month: 7, Day: 1}, fen)
		sum := money.Fen(0)
		for _, s := range shares {
			sum = sum.Add(s.Fen)
		}
		if err != nil || sum != fen {
			t.Fatalf("shares sum to %s of %s (%v)", sum, fen, err)
		}
	})
}

func TestTableAndNetworkPriceAlike(t *testing.T) {
	tf, err := fare.At(noon)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"西单", "2号航站楼", "香山", "大兴机场"} {
		s := find(t, name)
		tb, err := nw.Table(s, tf, 1, fare.Day{Date: calendar.Of(noon, calendar.Beijing)}, fare.Day{})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := tb.AppendBinary(nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if tb, err = fare.ParseTable(raw); err != nil {
			t.Fatal(err)
		}
		if got, want := tb.Farthest(), nw.Farthest(s); !slices.Equal(got, want) {
			t.Errorf("%s: farthest %v by the table, %v by the network", name, got, want)
		}
		for _, from := range nw.Stations {
			if from == s {
				continue
			}
			a, err1 := nw.Fare(network.Question{From: from.ID, To: s.ID, At: noon})
			q, err2 := tb.Price(fare.Tap{Entry: from.Codes[len(from.Codes)-1], Entered: noon, Left: noon})
			if err1 != nil || err2 != nil || a.Quote.Fen != q.Fen {
				t.Fatalf("%s to %s: %s by the network, %s by the table (%v, %v)", from.ID, s.ID, a.Quote.Fen, q.Fen, err1, err2)
			}
		}
	}
}

func TestOperators(t *testing.T) {
	for _, tt := range []struct{ line, day, want string }{
		{"1", "2026-07-01", "bjsubway"}, {"4", "2026-07-01", "bjmtr"}, {"16", "2015-09-16", "bjmtr"},
		{"CAE", "2015-09-16", "bjsubway"}, {"CAE", "2022-01-01", "bjmoa"}, {"DAE", "2022-01-01", "bjmoa"}, {"XJ", "2022-01-01", "bjtram"},
	} {
		l, _ := nw.Line(tt.line)
		d, _ := calendar.Parse(tt.day)
		if o, err := nw.OperatorOf(l, d); err != nil || o.ID != tt.want {
			t.Errorf("line %s on %s: %s, %v; want %s", tt.line, tt.day, o.ID, err, tt.want)
		}
	}
	for _, l := range nw.Lines {
		if _, err := nw.OperatorOf(l, calendar.Date{Year: 2026, Month: 7, Day: 1}); err != nil {
			t.Error(err)
		}
	}
}

func TestBatch(t *testing.T) {
	for _, tt := range []struct {
		name, in, out string
		bad           []int
	}{
		{"header", "from,to\n东单,西单\n", "from,to,distance_m,fen\n东单,西单,3768,300\n", nil},
		{"no header", "东单,西单\n", "from,to,distance_m,fen\n东单,西单,3768,300\n", nil},
		{"byte order mark, CRLF, other columns", "\ufeffid,To,From\r\n1,西单,东单\r\n", "from,to,distance_m,fen\n东单,西单,3768,300\n", nil},
		{"bad rows keep their place", "from,to\n东单,nowhere at all\n东单\n东单,西单\n大钟寺,西单\n", "from,to,distance_m,fen\n东单,nowhere at all,,\n东单,,,\n东单,西单,3768,300\n大钟寺,西单,,\n", []int{2, 3, 5}},
		{"nothing", "", "from,to,distance_m,fen\n", nil},
	} {
		var out strings.Builder
		report, err := nw.Batch(strings.NewReader(tt.in), &out, noon, nil)
		var bad []int
		for _, b := range report.Kept {
			bad = append(bad, b.Line)
		}
		if err != nil || out.String() != tt.out || !slices.Equal(bad, tt.bad) || report.Bad != len(tt.bad) {
			t.Errorf("%s: %q, bad %v, %v; want %q, %v", tt.name, out.String(), report.Kept, err, tt.out, tt.bad)
		}
	}
	if _, err := nw.Batch(strings.NewReader("from,to\n\"东单,西单\n"), &strings.Builder{}, noon, nil); !errors.Is(err, network.ErrBatch) || !strings.Contains(err.Error(), "line") {
		t.Errorf("open quote: %v", err)
	}
}

func FuzzBatch(f *testing.F) {
	f.Add("from,to\n东单,西单\n")
	f.Add("to,from,x\n010118,xidan\n")
	f.Fuzz(func(t *testing.T, in string) {
		var out strings.Builder
		report, err := nw.Batch(strings.NewReader(in), &out, noon, nil)
		if err == nil && report.Bad > report.Rows {
			t.Errorf("%d bad of %d rows", report.Bad, report.Rows)
		}
	})
}

func FuzzFind(f *testing.F) {
	f.Add("东单")
	f.Add("Lama Temple (x)")
	f.Fuzz(func(t *testing.T, name string) {
		if s, err := nw.Find(name); (s == nil) == (err == nil) {
			t.Errorf("%q: %v, %v", name, s, err)
		}
	})
}
