package merchant

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"koala/calendar"
	"koala/money"
	"koala/settlement/fee"
)

// leastSales is how many sales say something about a shop (house rule).
const leastSales = 60

// bp is the whole in basis points.
const bp = 10_000

// Takings sum up how a shop took money on cards in some days.
type Takings struct {
	Hours  [24]int64    // sales by the Beijing hour
	Sum    money.Amount // of all of them
	Credit int64        // sales on credit cards
	Round  int64        // sales of whole hundreds of yuan
}

// Count is the number of sales.
func (t Takings) Count() (n int64) {
	for _, h := range t.Hours {
		n += h
	}
	return n
}

// A Trade is how shops of some categories take money: house rules of
// data/behaviour.csv.
type Trade struct {
	Name           string
	NameEN, NameZH string
	codes          [][2]string // categories, inclusive
	ticket         [2]int64    // average sale, fen
	peak           [24]bool
	share          [2]int64 // of sales in the peak hours, basis points
	night          int64    // most of sales from 0 to 6, basis points
	credit         int64    // most of sales on credit cards, basis points
	round          int64    // most of sales of round amounts, basis points
}

// Words says the trade for people, in Chinese if zh.
func (t Trade) Words(zh bool) string { return pick([2]string{t.NameEN, t.NameZH}, t.Name, zh) }

var trades = loadTrades()

func loadTrades() (out []Trade) {
	n := func(s string) int64 {
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			panic(fmt.Sprintf("merchant: behaviour.csv: %v", err))
		}
		return v
	}
	for _, r := range table("behaviour.csv", 12) {
		t := Trade{Name: r[0], NameEN: r[1], NameZH: r[2], ticket: [2]int64{n(r[4]), n(r[5])}, share: [2]int64{n(r[7]), n(r[8])},
			night: n(r[9]), credit: n(r[10]), round: n(r[11])}
		for _, c := range strings.Fields(r[3]) {
			low, high, _ := strings.Cut(c, "-")
			if high == "" {
				high = low
			}
			t.codes = append(t.codes, [2]string{low, high})
		}
		for _, c := range strings.Fields(r[6]) {
			low, high, _ := strings.Cut(c, "-")
			for h := n(low); h < n(high); h++ {
				t.peak[h] = true
			}
		}
		out = append(out, t)
	}
	return out
}

// TradeOf is the trade of a category; false: none is described.
func TradeOf(mcc string) (Trade, bool) {
	for _, t := range trades {
		if slices.ContainsFunc(t.codes, func(c [2]string) bool { return c[0] <= mcc && mcc <= c[1] }) {
			return t, true
		}
	}
	return Trade{}, false
}

// A Finding is one thing in which a shop's takings are not those of its trade.
type Finding struct {
	What      string // average, peak, night, credit, round
	Is        int64  // fen for the average, basis points otherwise
	Low, High int64  // what the trade has, in the same unit
	EN, ZH    string
}

// A Report is what takings say about a shop's category.
type Report struct {
	Registered Trade
	Findings   []Finding
	Like       Trade // the trade they are like, where it is another one; no name: none
	Dearer     bool  // that trade pays a higher fee than the registered one
}

// Suspicious tells whether somebody should look: the shop behaves like a trade
// that would pay more.
func (r Report) Suspicious() bool { return r.Like.Name != "" && r.Dearer }

// Words is the report's first line, in Chinese if zh; empty: nothing found.
func (r Report) Words(zh bool) string {
	switch {
	case r.Like.Name == "" && len(r.Findings) == 0:
		return ""
	case r.Like.Name == "" && zh:
		return "与登记的" + r.Registered.Words(true) + "不符"
	case r.Like.Name == "":
		return "not the takings of a " + r.Registered.Words(false)
	case zh:
		return "登记为" + r.Registered.Words(true) + "，经营特征像" + r.Like.Words(true)
	}
	return "registered as " + r.Registered.Words(false) + ", behaves as " + r.Like.Words(false)
}

// Behave compares takings with what the shop's category lets expect. Too few
// sales, or a category no trade is described for, find nothing. It is another
// trade that the shop is like when it has no finding at all under it and two
// or more under its own. Negative numbers are ErrBehave.
func Behave(mcc string, day calendar.Date, t Takings) (Report, error) {
	if t.Sum.Sign() < 0 || t.Credit < 0 || t.Round < 0 || slices.Min(t.Hours[:]) < 0 || t.Credit > t.Count() || t.Round > t.Count() {
		return Report{}, ErrBehave
	}
	own, ok := TradeOf(mcc)
	if !ok || t.Count() < leastSales {
		return Report{Registered: own}, nil
	}
	r := Report{Registered: own, Findings: own.against(t)}
	if len(r.Findings) < 2 {
		return r, nil
	}
	for _, other := range trades {
		if other.Name == own.Name || other.against(t) != nil {
			continue
		}
		dearer := dearness[FeeCategory(other.codes[0][0], day)] > dearness[FeeCategory(mcc, day)]
		if r.Like.Name == "" || dearer && !r.Dearer {
			r.Like, r.Dearer = other, dearer
		}
	}
	return r, nil
}

// dearness orders the fee categories by what a sale of ordinary size pays.
var dearness = map[fee.Category]int{fee.Welfare: 0, fee.Living: 1, fee.Wholesale: 2, fee.General: 3, fee.Property: 4, fee.Dining: 5}

// against lists in what takings are not those of the trade.
func (t Trade) against(k Takings) (out []Finding) {
	n := k.Count()
	at := func(what string, is, low, high int64, en, zh string) {
		if is < low || is > high {
			out = append(out, Finding{what, is, low, high, fmt.Sprintf(en, number2(is), number2(low), number2(high)), fmt.Sprintf(zh, number2(is), number2(low), number2(high))})
		}
	}
	peak, night := int64(0), int64(0)
	for h, c := range k.Hours {
		if t.peak[h] {
			peak += c
		}
		if h < 6 {
			night += c
		}
	}
	at("average", k.Sum.Minor()/n, t.ticket[0], t.ticket[1], "the average sale is %s yuan, usual are %s to %s", "笔均 %s 元，同类为 %s 至 %s 元")
	at("peak", share(peak, n), t.share[0], t.share[1], "%s %% of the sales are in the trade's busy hours, usual are %s to %s", "高峰时段交易占 %s%%，同类为 %s 至 %s")
	at("night", share(night, n), 0, t.night, "%s %% of the sales are between midnight and six, usual are %s to %s", "零时至六时交易占 %s%%，同类为 %s 至 %s")
	at("credit", share(k.Credit, n), 0, t.credit, "%s %% of the sales are on credit cards, usual are %s to %s", "贷记卡交易占 %s%%，同类为 %s 至 %s")
	at("round", share(k.Round, n), 0, t.round, "%s %% of the sales are whole hundreds, usual are %s to %s", "整百金额占 %s%%，同类为 %s 至 %s")
	return out
}

// share is part of n in basis points; n is above zero.
func share(part, n int64) int64 { return part * bp / n }

// number2 writes hundredths: fen as yuan, basis points as percent.
func number2(n int64) string { return money.Fen(n).Yuan() }
