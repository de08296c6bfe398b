package risk

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/calendar"
)

var noon = time.Date(2015, 9, 16, 12, 0, 0, 0, calendar.Beijing)

var (
	beijing  = Place{39_9042, 116_4074}
	shanghai = Place{31_2304, 121_4737}
)

// sale is a fact that no rule minds.
func sale(n int, f func(*Fact)) Fact {
	x := Fact{Ref: fmt.Sprintf("%012d", n), At: noon.Add(time.Duration(n) * time.Minute), Kind: Sale, Card: fmt.Sprint("card", n), Class: "debit", Shop: "shop_1",
		Terminal: "10000001", Agent: "agent_1", Category: "5812", Fen: 86_37, Entry: Chip, Since: noon.AddDate(-1, 0, 0), Place: beijing, Home: beijing}
	if f != nil {
		f(&x)
	}
	return x
}

// series is n alike.
func series(n int, f func(*Fact)) (out []Fact) {
	for i := range n {
		out = append(out, sale(i+1, f))
	}
	return out
}

// judge runs facts through a memory and returns what the last one met.
func judge(s *Set, facts []Fact) Decision {
	m, d := newMemory(), Decision{}
	for i := range facts {
		w := m.window(&facts[i])
		d = Evaluate(s, &facts[i], &w)
		m.learn(&facts[i])
	}
	return d
}

func card(f *Fact)  { f.Card = "one card" }
func night(f *Fact) { f.At = f.At.Add(11 * time.Hour) }

// TestEveryRule provokes each rule, and shows what is just not enough.
func TestEveryRule(t *testing.T) {
	house := House()
	both := func(fs ...func(*Fact)) func(*Fact) {
		return func(x *Fact) {
			for _, f := range fs {
				f(x)
			}
		}
	}
	fen := func(n int64) func(*Fact) { return func(f *Fact) { f.Fen = n } }
	credit := func(f *Fact) { f.Class = "credit" }
	quick := func(f *Fact) { f.At = noon.Add(f.At.Sub(noon) / 100) }
	shops := func(f *Fact) { f.Shop = "shop_" + f.Ref; f.Terminal = f.Ref }
	told := map[Code]bool{}
	defer func() {
		for _, c := range Codes {
			if !told[c] {
				t.Errorf("nothing provokes %s", c)
			}
		}
	}()
	last := func(facts []Fact, f func(*Fact)) []Fact { f(&facts[len(facts)-1]); return facts }
	for _, tt := range []struct {
		code  Code
		name  string
		hit   []Fact
		calm  []Fact
		score int
	}{
		{CardVelocity, "six uses of a card in an hour", series(6, both(card, shops)), series(5, both(card, shops)), 25},
		{ShopVelocity, "sixty sales in ten minutes", series(60, both(quick, func(f *Fact) { f.Terminal = f.Ref })), series(59, both(quick, func(f *Fact) { f.Terminal = f.Ref })), 20},
		{TerminalVelocity, "forty at one terminal", series(40, quick), series(39, quick), 20},
		{OddHour, "a school at night", []Fact{sale(1, both(night, night, fen(2_000_13), func(f *Fact) { f.At = noon.Add(14 * time.Hour); f.Category = "8211" }))},
			[]Fact{sale(1, both(fen(2_000_13), func(f *Fact) { f.At = noon.Add(14 * time.Hour) }))}, 20},
		{RoundAmounts, "five times whole thousands", series(5, fen(1_000_00)), last(series(5, fen(1_000_00)), fen(1_000_01)), 20},
		{RepeatedCard, "four times at one shop", series(4, card), last(series(4, card), func(f *Fact) { f.Shop = "shop_2" }), 20},
		{SplitSale, "three just under a limit", series(3, both(card, fen(990_00))), last(series(3, both(card, fen(990_00))), fen(899_99)), 35},
		{Distance, "Beijing and Shanghai in a minute", last(series(2, card), func(f *Fact) { f.Place, f.Home = shanghai, shanghai }),
			last(series(2, card), func(f *Fact) { f.Place, f.Home, f.At = shanghai, shanghai, f.At.Add(2*time.Hour) }), 45},
		{NewTerminal, "large on the first day", []Fact{sale(1, both(fen(5_000_01), func(f *Fact) { f.Since = f.At.Add(-time.Hour) }))},
			[]Fact{sale(1, both(fen(5_000_01), func(f *Fact) { f.Since = f.At.Add(-24 * time.Hour) }))}, 20},
		{MovedTerminal, "a terminal from Beijing in Shanghai", []Fact{sale(1, func(f *Fact) { f.Place = shanghai })}, []Fact{sale(1, func(f *Fact) { f.Place.Lat += 100 })}, 30},
		{CategoryMismatch, "a supermarket that sells for thousands", series(5, both(fen(3_500_01), func(f *Fact) { f.Category = "5411" })),
			series(5, fen(3_500_01)), 30},
		{CashOut, "credit cards, round, large", series(3, both(credit, fen(5_100_00))), last(series(3, both(credit, fen(5_100_00))), func(f *Fact) { f.Class = "debit" }), 30},
		{CashOut, "the same at night counts twice", series(3, both(credit, night, fen(5_100_00))), series(2, both(credit, night, fen(5_100_00))), 60},
		{CashOut, "at shops of one agent", series(3, both(credit, shops, fen(5_100_00))), series(3, both(credit, shops, fen(5_100_00), func(f *Fact) { f.Agent = "" })), 30},
		{RefundAlone, "a refund of nothing", []Fact{sale(1, func(f *Fact) { f.Kind = Refund })}, []Fact{sale(1, func(f *Fact) { f.Kind, f.Sale = Refund, "000000000009" })}, 40},
		{ManualEntry, "keyed in", []Fact{sale(1, both(fen(500_01), func(f *Fact) { f.Entry = Manual }))}, []Fact{sale(1, both(fen(499_99), func(f *Fact) { f.Entry = Manual }))}, 15},
	} {
		told[tt.code] = true
		d := judge(&house, tt.hit)
		if len(d.Hits) != 1 || d.Hits[0].Rule != tt.code || d.Score != tt.score {
			t.Errorf("%s: %+v, want %s and %d", tt.name, d, tt.code, tt.score)
		}
		for _, h := range d.Hits {
			if h.En == "" || h.Zh == "" || h.En == h.Zh || strings.Contains(h.En+h.Zh, "%!") {
				t.Errorf("%s is not explained: %+v", tt.name, h)
			}
		}
		if d := judge(&house, tt.calm); len(d.Hits) != 0 || d.Action != Allow {
			t.Errorf("%s, not quite: %+v", tt.name, d)
		}
	}
}

// TestEdges provokes the edges of rules: the last moment of a
// window, the last hour, the last fen.
func TestEdges(t *testing.T) {
	at := func(f Fact, d time.Duration) Fact { f.At = noon.Add(d); return f }
	for _, tt := range []struct {
		name  string
		rule  Rule
		facts []Fact
		hit   bool
	}{
		{"the window's last moment", Rule{Code: CardVelocity, Count: 2, Minutes: 60}, []Fact{at(sale(1, card), 0), at(sale(2, card), time.Hour-time.Microsecond)}, true},
		{"a moment later", Rule{Code: CardVelocity, Count: 2, Minutes: 60}, []Fact{at(sale(1, card), 0), at(sale(2, card), time.Hour)}, false},
		{"an amount of the rule's", Rule{Code: OddHour, Fen: 100_00, From: 12, To: 13}, []Fact{at(sale(1, func(f *Fact) { f.Fen = 100_00 }), 0)}, true},
		{"a fen less", Rule{Code: OddHour, Fen: 100_00, From: 12, To: 13}, []Fact{at(sale(1, func(f *Fact) { f.Fen = 99_99 }), 0)}, false},
		{"the hour's last moment", Rule{Code: OddHour, Fen: 1, From: 12, To: 13}, []Fact{at(sale(1, nil), time.Hour-time.Microsecond)}, true},
		{"the next hour", Rule{Code: OddHour, Fen: 1, From: 12, To: 13}, []Fact{at(sale(1, nil), time.Hour)}, false},
		{"behind midnight", Rule{Code: OddHour, Fen: 1, From: 22, To: 6}, []Fact{at(sale(1, nil), 13*time.Hour)}, true},
		{"by day", Rule{Code: OddHour, Fen: 1, From: 22, To: 6}, []Fact{at(sale(1, nil), 0)}, false},
		{"a part just at the limit is no part", Rule{Code: SplitSale, Count: 2, Minutes: 60, Fen: 100_00, BP: 1_000}, []Fact{sale(1, func(f *Fact) { card(f); f.Fen = 100_00 }), sale(2, func(f *Fact) { card(f); f.Fen = 99_00 })}, false},
		{"just a tenth below", Rule{Code: SplitSale, Count: 2, Minutes: 60, Fen: 100_00, BP: 1_000}, []Fact{sale(1, func(f *Fact) { card(f); f.Fen = 90_00 }), sale(2, func(f *Fact) { card(f); f.Fen = 99_99 })}, true},
		{"a fen more below", Rule{Code: SplitSale, Count: 2, Minutes: 60, Fen: 100_00, BP: 1_000}, []Fact{sale(1, func(f *Fact) { card(f); f.Fen = 89_99 }), sale(2, func(f *Fact) { card(f); f.Fen = 99_99 })}, false},
		{"average of the rule's", Rule{Code: CategoryMismatch, Count: 2, Minutes: 60, Fen: 100_00}, []Fact{sale(1, func(f *Fact) { f.Fen = 50_00 }), sale(2, func(f *Fact) { f.Fen = 150_00 })}, false},
		{"a fen above on average", Rule{Code: CategoryMismatch, Count: 2, Minutes: 60, Fen: 100_00}, []Fact{sale(1, func(f *Fact) { f.Fen = 50_02 }), sale(2, func(f *Fact) { f.Fen = 150_00 })}, true},
		{"keyed, the rule's amount", Rule{Code: ManualEntry, Fen: 100_00}, []Fact{sale(1, func(f *Fact) { f.Fen, f.Entry = 100_00, Manual })}, true},
		{"a refund below the rule's", Rule{Code: RefundAlone, Fen: 100_00}, []Fact{sale(1, func(f *Fact) { f.Fen, f.Kind = 99_99, Refund })}, false},
		{"a refund of the rule's", Rule{Code: RefundAlone, Fen: 100_00}, []Fact{sale(1, func(f *Fact) { f.Fen, f.Kind = 100_00, Refund })}, true},
		{"a preauthorisation counts as a sale", Rule{Code: RepeatedCard, Count: 2, Minutes: 60}, []Fact{sale(1, func(f *Fact) { card(f); f.Kind = Preauth }), sale(2, card)}, true},
		{"a refund does not", Rule{Code: RepeatedCard, Count: 2, Minutes: 60}, []Fact{sale(1, func(f *Fact) { card(f); f.Kind = Refund }), sale(2, card)}, false},
		{"cash-out of the rule's amount", Rule{Code: CashOut, Count: 2, Minutes: 60, Fen: 100_00}, series(2, func(f *Fact) { f.Class, f.Fen = "credit", 100_00 }), true},
		{"of less", Rule{Code: CashOut, Count: 2, Minutes: 60, Fen: 200_00}, series(2, func(f *Fact) { f.Class, f.Fen = "credit", 100_00 }), false},
		{"not round", Rule{Code: CashOut, Count: 2, Minutes: 60, Fen: 100_00}, series(2, func(f *Fact) { f.Class, f.Fen = "credit", 150_00 }), false},
		{"a refund at an odd hour is no sale", Rule{Code: OddHour, Fen: 1, From: 12, To: 13}, []Fact{sale(1, func(f *Fact) { f.Kind = Refund })}, false},
		{"a declined sale at an odd hour", Rule{Code: OddHour, Fen: 1, From: 12, To: 13}, []Fact{sale(1, func(f *Fact) { f.Declined = true })}, false},
		{"a card in two cities", Rule{Code: Distance, Km: 100, Speed: 900}, []Fact{sale(1, card), sale(2, func(f *Fact) { card(f); f.Place = shanghai })}, true},
		{"its number alone, keyed", Rule{Code: Distance, Km: 100, Speed: 900}, []Fact{sale(1, card), sale(2, func(f *Fact) { card(f); f.Place, f.Entry = shanghai, Manual })}, false},
		{"its code alone", Rule{Code: Distance, Km: 100, Speed: 900}, []Fact{sale(1, card), sale(2, func(f *Fact) { card(f); f.Place, f.Entry = shanghai, QR })}, false},
		{"a place that nobody knows", Rule{Code: Distance, Km: 100, Speed: 900}, []Fact{sale(1, card), sale(2, func(f *Fact) { card(f); f.Place = Place{} })}, false},
		{"an earlier place that nobody knows", Rule{Code: Distance, Km: 100, Speed: 900}, []Fact{sale(1, func(f *Fact) { card(f); f.Place = Place{} }), sale(2, func(f *Fact) { card(f); f.Place = shanghai })}, false},
		{"two cities at one moment", Rule{Code: Distance, Km: 100, Speed: 900}, []Fact{at(sale(1, card), 0), at(sale(2, func(f *Fact) { card(f); f.Place = shanghai }), 0)}, true},
		{"the same fact kept before", Rule{Code: CardVelocity, Count: 2, Minutes: 60}, []Fact{sale(1, card), sale(1, card)}, false},
		{"two of one moment", Rule{Code: CardVelocity, Count: 2, Minutes: 60}, []Fact{at(sale(1, card), 0), at(sale(2, card), 0)}, true},
		{"moved from nobody knows where", Rule{Code: MovedTerminal, Km: 5}, []Fact{sale(1, func(f *Fact) { f.Home = Place{} })}, false},
		{"moved to nobody knows where", Rule{Code: MovedTerminal, Km: 5}, []Fact{sale(1, func(f *Fact) { f.Place = Place{} })}, false},
		{"a terminal bound a day ago", Rule{Code: NewTerminal, Minutes: 1_440, Fen: 1}, []Fact{sale(0, func(f *Fact) { f.Since = noon.Add(-24 * time.Hour) })}, false},
		{"a moment less", Rule{Code: NewTerminal, Minutes: 1_440, Fen: 1}, []Fact{sale(0, func(f *Fact) { f.Since = noon.Add(-24*time.Hour + time.Microsecond) })}, true},
		{"bound later than it sold", Rule{Code: NewTerminal, Minutes: 1_440, Fen: 1}, []Fact{sale(0, func(f *Fact) { f.Since = noon.Add(time.Second) })}, false},
		{"not known since when", Rule{Code: NewTerminal, Minutes: 1_440, Fen: 1}, []Fact{sale(0, func(f *Fact) { f.Since = time.Time{} })}, false},
	} {
		tt.rule.Points = 7
		s := Set{Rules: []Rule{tt.rule}, Bars: House().Bars}
		if d := judge(&s, tt.facts); d.Score != map[bool]int{true: 7}[tt.hit] {
			t.Errorf("%s: %+v", tt.name, d)
		}
	}
}

// TestDeclinedSalesAreNoSales: what was declined counts for velocity alone.
func TestDeclinedSalesAreNoSales(t *testing.T) {
	house := House()
	d := judge(&house, series(6, func(f *Fact) { card(f); f.Fen, f.Declined = 990_00, true }))
	if len(d.Hits) != 1 || d.Hits[0].Rule != CardVelocity {
		t.Errorf("%+v", d)
	}
}

func TestLevels(t *testing.T) {
	house := House()
	f := sale(1, func(f *Fact) { f.Kind = Refund })
	for level, want := range map[Level]Action{LowRisk: Allow, NormalRisk: Review, HighRisk: Review, "": Review, "unheard of": Review} {
		f.Level = level
		if d := judge(&house, []Fact{f}); d.Action != want {
			t.Errorf("%q: %s, want %s", level, d.Action, want)
		}
	}
	b := house.Bars[NormalRisk]
	for score, want := range map[int]Action{0: Allow, 39: Allow, 40: Review, 60: Hold, 99: Hold, 100: Refuse} {
		if got := b.action(score); got != want {
			t.Errorf("%d: %s, want %s", score, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	for name, change := range map[string]func(*Set){
		"unknown code":             func(s *Set) { s.Rules[0].Code = "x" },
		"no points":                func(s *Set) { s.Rules[0].Points = 0 },
		"more than is remembered":  func(s *Set) { s.Rules[0].Count = MaxTrail + 1 },
		"longer than is kept":      func(s *Set) { s.Rules[0].Minutes = 24*60 + 1 },
		"no amount":                func(s *Set) { s.Rules[3].Fen = 0 },
		"an hour of no day":        func(s *Set) { s.Rules[3].From = 24 },
		"no time at all":           func(s *Set) { s.Rules[3].To = 0 },
		"no share":                 func(s *Set) { s.Rules[6].BP = 0 },
		"no speed":                 func(s *Set) { s.Rules[7].Speed = 0 },
		"no way":                   func(s *Set) { s.Rules[9].Km = 0 },
		"bars in the wrong order":  func(s *Set) { s.Bars[LowRisk] = Bars{2, 1, 3} },
		"a level without bars":     func(s *Set) { delete(s.Bars, HighRisk) },
		"more rules than anything": func(s *Set) { s.Rules = slices.Repeat(s.Rules, 9) },
	} {
		s := House()
		change(&s)
		if err := s.Check(); !errors.Is(err, ErrSet) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseSet([]byte("{")); !errors.Is(err, ErrSet) {
		t.Errorf("no JSON: %v", err)
	}
	if len(Codes) != len(needs) || len(tests) != len(needs) || len(codeWords) != len(needs) {
		t.Errorf("%d codes, %d with needs, %d with tests", len(Codes), len(needs), len(tests))
	}
	for _, c := range Codes {
		if _, ok := needs[c]; !ok || c.Words(true) == c.Words(false) {
			t.Errorf("%s has no need or words", c)
		}
	}
	for _, words := range [][2]string{
		{LowRisk.Words(true), LowRisk.Words(false)}, {NormalRisk.Words(true), NormalRisk.Words(false)}, {HighRisk.Words(true), HighRisk.Words(false)},
		{Proposed.Words(true), Proposed.Words(false)}, {Active.Words(true), Active.Words(false)}, {Rejected.Words(true), Rejected.Words(false)},
		{Manual.Words(true), Manual.Words(false)},
	} {
		if words[0] == words[1] {
			t.Errorf("%s has no Chinese", words[1])
		}
	}
	for a := range actionRank {
		if a.Words(true) == a.Words(false) {
			t.Errorf("%s has no words", a)
		}
	}
}

func FuzzParseSet(f *testing.F) {
	f.Add(houseText)
	f.Add([]byte(`{"version":2,"rules":[{"code":"refund_without_sale","points":1}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := ParseSet(in)
		if err != nil {
			return
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseSet(text)
		if text2, err2 := json.Marshal(again); err != nil || err2 != nil || string(text2) != string(text) {
			t.Errorf("%s reads as %s: %v", text, text2, err)
		}
		judge(&s, series(3, card))
	})
}

// drawFacts is a lively day of few cards and shops.
func drawFacts(t *rapid.T) (out []Fact) {
	at := noon
	for i := range rapid.IntRange(1, 120).Draw(t, "facts") {
		at = at.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "gap")) * time.Minute)
		out = append(out, sale(i, func(f *Fact) {
			f.At = at
			f.Card, f.Shop = fmt.Sprint("card", rapid.IntRange(0, 2).Draw(t, "card")), fmt.Sprint("shop_", rapid.IntRange(0, 2).Draw(t, "shop"))
			f.Terminal, f.Agent = "t"+f.Shop, rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "agent")
			f.Fen = rapid.SampledFrom([]int64{10_01, 990_00, 1_000_00, 5_100_00}).Draw(t, "fen")
			f.Class = rapid.SampledFrom([]string{"debit", "credit"}).Draw(t, "class")
			f.Place = rapid.SampledFrom([]Place{{}, beijing, shanghai}).Draw(t, "place")
			f.Kind = rapid.SampledFrom([]Kind{Sale, Sale, Refund, Preauth}).Draw(t, "kind")
			f.Declined = rapid.IntRange(0, 5).Draw(t, "declined") == 0
			f.Category = rapid.SampledFrom([]string{"5411", "5812", "8211"}).Draw(t, "category")
		}))
	}
	return out
}

// TestOrderOfComingDoesNotMatter: memory goes by the facts' own time. Facts of
// one day learned in any order, some of them twice, give the same judgement.
func TestOrderOfComingDoesNotMatter(t *testing.T) {
	house := House()
	rapid.Check(t, func(rt *rapid.T) {
		facts := drawFacts(rt)
		day := facts[0].At.UnixMicro() / generation
		facts = slices.DeleteFunc(facts, func(f Fact) bool { return f.At.UnixMicro()/generation != day })
		last := facts[len(facts)-1]
		facts = facts[:len(facts)-1]
		a, b := newMemory(), newMemory()
		for i := range facts {
			a.learn(&facts[i])
		}
		for _, f := range rapid.Permutation(facts).Draw(rt, "order") {
			b.learn(&f)
			if rapid.Bool().Draw(rt, "twice") {
				b.learn(&f)
			}
		}
		wa, wb := a.window(&last), b.window(&last)
		da, db := Evaluate(&house, &last, &wa), Evaluate(&house, &last, &wb)
		if fmt.Sprint(da) != fmt.Sprint(db) {
			rt.Fatalf("%+v\n%+v", da, db)
		}
		sum := 0
		for _, h := range da.Hits {
			sum += h.Points
		}
		if sum != da.Score {
			rt.Fatalf("the hits sum to %d: %+v", sum, da)
		}
	})
}

// TestTrailKeepsTheNewest compares a trail with all facts sorted and cut.
func TestTrailKeepsTheNewest(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var tr trail
		var all []Past
		for range rapid.IntRange(0, 150).Draw(rt, "n") {
			p := Past{At: rapid.Int64Range(0, 40).Draw(rt, "at"), ref: rapid.Uint64Range(0, 20).Draw(rt, "ref")}
			tr.add(p)
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
		slices.SortFunc(all, func(a, b Past) int {
			if a.before(&b) {
				return -1
			}
			return 1
		})
		if want := all[max(0, len(all)-MaxTrail):]; !slices.Equal(tr.past, want) {
			rt.Fatalf("%v\nwant %v", tr.past, want)
		}
	})
}

func TestMemoryForgets(t *testing.T) {
	m := newMemory()
	for day := range 10 {
		f := sale(1, func(f *Fact) { f.At = noon.AddDate(0, 0, day); f.Card = fmt.Sprint("card", day); f.Shop = f.Card })
		m.learn(&f)
	}
	if n := len(m.now) + len(m.old); n != 2*4-0 {
		t.Errorf("%d trails of two days, want 8", n)
	}
	f := sale(2, func(f *Fact) { f.At = noon.AddDate(0, 1, 0) })
	m.learn(&f)
	if len(m.old) != 0 {
		t.Error("a month later something is still remembered")
	}
}

func TestDistance(t *testing.T) {
	if d := km(beijing, shanghai); d < 1_060 || d > 1_075 {
		t.Errorf("Beijing to Shanghai is %.0f km", d)
	}
	if km(beijing, beijing) != 0 {
		t.Error("a place is not where it is")
	}
	if !strings.Contains(fmt.Sprint(judge(&Set{Rules: []Rule{{Code: Distance, Points: 1, Km: 1, Speed: 1}}, Bars: House().Bars},
		[]Fact{sale(1, card), sale(2, func(f *Fact) { card(f); f.Place = shanghai })}).Hits), "1067 km") {
		t.Error("the distance is not told")
	}
}

// BenchmarkAssessCalm judges sales that no rule minds, at busy shops.
func BenchmarkAssessCalm(b *testing.B) {
	e := &Engine{memory: newMemory(), sets: []dated{{House(), 0}}}
	var facts []Fact
	for i := range 100_000 {
		f := sale(i, func(f *Fact) {
			f.Shop, f.Terminal = fmt.Sprint("shop_", i%500), fmt.Sprint("t", i%500)
			f.At = noon.Add(time.Duration(i) * 100 * time.Millisecond)
		})
		e.memory.learn(&f)
		facts = append(facts, f)
	}
	for i := range facts {
		facts[i].At, facts[i].Ref = noon.Add(3*time.Hour), fmt.Sprint("new", i)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if d := e.Assess(facts[i%len(facts)]); len(d.Hits) > 0 {
			b.Fatalf("%+v", d)
		}
		i++
	}
}

// BenchmarkAssess judges cash-out and worse among 100,000 facts of 2,000 cards.
func BenchmarkAssess(b *testing.B) {
	e := &Engine{memory: newMemory(), sets: []dated{{House(), 0}}}
	var facts []Fact
	for i := range 100_000 {
		f := sale(i, func(f *Fact) {
			f.Card, f.Shop, f.Terminal = fmt.Sprint("card", i%2_000), fmt.Sprint("shop_", i%500), fmt.Sprint("t", i%500)
			f.At, f.Class, f.Fen = noon.Add(time.Duration(i)*100*time.Millisecond), "credit", 5_100_00
		})
		e.memory.learn(&f)
		facts = append(facts, f)
	}
	for i := range facts {
		facts[i].At, facts[i].Ref = noon.Add(3*time.Hour), fmt.Sprint("new", i)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		e.Assess(facts[i%len(facts)])
		i++
	}
}
