package merchant

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/calendar"
	"koala/money"
)

var today = calendar.Date{Year: 2015, Month: time.September, Day: 16}

// lunch are takings of a restaurant: busy at noon and in the evening.
func lunch() (t Takings) {
	for h, n := range map[int]int64{11: 30, 12: 45, 13: 8, 17: 12, 18: 40, 19: 38, 20: 20, 21: 5, 15: 4} {
		t.Hours[h] = n
	}
	t.Sum, t.Credit, t.Round = money.Fen(t.Count()*88_00), 60, 10
	return t
}

// basket are takings of a supermarket: all day long, small.
func basket() (t Takings) {
	for h := 8; h < 22; h++ {
		t.Hours[h] = 60
	}
	t.Sum, t.Credit, t.Round = money.Fen(t.Count()*62_00), 150, 20
	return t
}

func TestBehaviourAgainstTheCategory(t *testing.T) {
	few := Takings{Sum: money.Fen(1)}
	few.Hours[3] = leastSales - 1
	for _, tt := range []struct {
		name, mcc  string
		takings    Takings
		like       string
		suspicious bool
		words      string
	}{
		{"a restaurant", "5812", lunch(), "", false, ""},
		{"a supermarket", "5411", basket(), "", false, ""},
		{"a restaurant under a supermarket's code", "5411", lunch().withCredit(110), "restaurant", true, "registered as supermarket, behaves as restaurant"},
		{"a supermarket under a restaurant's code", "5812", basket(), "", false, "not the takings of a restaurant"},
		{"a code no trade is described for", "9399", lunch(), "", false, ""},
		{"too few sales", "5411", few, "", false, ""},
	} {
		r, err := Behave(tt.mcc, today, tt.takings)
		if err != nil || r.Like.Name != tt.like || r.Suspicious() != tt.suspicious || r.Words(false) != tt.words {
			t.Errorf("%s: %+v, %v: %q", tt.name, r, err, r.Words(false))
		}
		for _, f := range r.Findings {
			if f.EN == "" || f.ZH == "" || f.Is >= f.Low && f.Is <= f.High {
				t.Errorf("%s: %+v", tt.name, f)
			}
		}
	}
	bad := lunch()
	bad.Credit = bad.Count() + 1
	if _, err := Behave("5812", today, bad); !errors.Is(err, ErrBehave) {
		t.Error(err)
	}
}

func (t Takings) withCredit(n int64) Takings { t.Credit = n; return t }

// TestEveryTradeIsPossible: takings in the middle of what a trade has are found
// to be nothing else, and findings never depend on how much is sold.
func TestEveryTradeIsPossible(t *testing.T) {
	for _, trade := range trades {
		for _, c := range trade.codes {
			if c[0] > c[1] || len(c[0]) != 4 || categoryOf[c[0]].MCC == "" {
				t.Errorf("%s: codes %v", trade.Name, c)
			}
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		trade := rapid.SampledFrom(trades).Draw(rt, "trade")
		k := Takings{}
		n := rapid.Int64Range(1, 50).Draw(rt, "scale") * 1000
		peak := n * (trade.share[0] + trade.share[1]) / 2 / bp
		busy, quiet := []int{}, []int{}
		for h := range k.Hours {
			switch {
			case trade.peak[h]:
				busy = append(busy, h)
			case h >= 6:
				quiet = append(quiet, h)
			}
		}
		for i := range peak {
			k.Hours[busy[i%int64(len(busy))]]++
		}
		for i := range n - peak {
			k.Hours[quiet[i%int64(len(quiet))]]++
		}
		k.Sum = money.Fen(n * (trade.ticket[0] + trade.ticket[1]) / 2)
		k.Credit, k.Round = n*trade.credit/2/bp, n*trade.round/2/bp
		if r, err := Behave(trade.codes[0][0], today, k); err != nil || r.Findings != nil || r.Like.Name != "" {
			rt.Fatalf("%s: %+v, %v", trade.Name, r.Findings, err)
		}
	})
}

func TestLimits(t *testing.T) {
	l, ok := DefaultLimits(POS, RiskC, "debit")
	if !ok || l.Single != money.Fen(50_000_00) {
		t.Fatalf("%+v", l)
	}
	yuan := func(n int64) money.Amount { return money.Fen(n * 100) }
	for _, tt := range []struct {
		name               string
		amount, day, month int64
		want               error
	}{
		{"exactly one sale's limit", 50_000, 0, 0, nil},
		{"a yuan more", 50_001, 0, 0, ErrLimit},
		{"exactly the day's", 20_000, 180_000, 180_000, nil},
		{"above the day's", 20_001, 180_000, 180_000, ErrLimit},
		{"above the month's", 20_000, 0, 1_980_001, ErrLimit},
	} {
		if err := l.Check(yuan(tt.amount), yuan(tt.day), yuan(tt.month)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for k := range kindShare {
		for class := range cardClasses {
			var above Limits
			for i, r := range []Risk{RiskA, RiskB, RiskC, RiskD} {
				l, ok := DefaultLimits(k, r, class)
				if !ok || l.Single.Sign() <= 0 || l.Daily.Cmp(l.Single) < 0 || l.Monthly.Cmp(l.Daily) < 0 {
					t.Errorf("%s %s %s: %+v", k, r, class, l)
				}
				if i > 0 && (l.Single.Cmp(above.Single) > 0 || l.Daily.Cmp(above.Daily) > 0 || l.Monthly.Cmp(above.Monthly) > 0) {
					t.Errorf("%s %s %s has more than the level above", k, r, class)
				}
				above = l
				if till, _ := DefaultLimits(POS, r, class); k == Reader && till.Single.Cmp(l.Single) <= 0 {
					t.Errorf("a reader has %v, a till %v", l.Single, till.Single)
				}
			}
		}
	}
	if _, ok := DefaultLimits(POS, RiskA, "coupon"); ok {
		t.Error("limits for coupons")
	}
}
