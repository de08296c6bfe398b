package fee

import (
	"fmt"
	"maps"
	"math/bits"
	"slices"

	"koala/calendar"
	"koala/money"
)

// Parts is a fee in fen and who gets it: Issuer + Network + Acquirer = Fee.
// The acquirer's part is below nothing where the price agreed is below cost.
type Parts struct {
	Fee, Issuer, Network, Acquirer int64
}

// Plus adds two fees part by part.
func (p Parts) Plus(q Parts) Parts {
	return Parts{p.Fee + q.Fee, p.Issuer + q.Issuer, p.Network + q.Network, p.Acquirer + q.Acquirer}
}

// Minus takes q from p part by part.
func (p Parts) Minus(q Parts) Parts {
	return Parts{p.Fee - q.Fee, p.Issuer - q.Issuer, p.Network - q.Network, p.Acquirer - q.Acquirer}
}

// A Tariff is what one payee pays on one day: the rows in force, picked once
// for all classes of card.
type Tariff struct {
	rates  [4]rate // as Classes
	spread map[int]Instalment
}

// A rate is a cost and a price for one class of card.
type rate struct {
	cost  Cost
	price Price
	named bool // there is a price card's row
	known bool
}

// DefaultPrice is the price card of a payee that agreed nothing else. Before
// 2016 it has no rows: the price was laid down.
const DefaultPrice = "standard"

// Tariff picks the rows for sales of a day at a payee of a category with a
// price card (empty: DefaultPrice).
func (s *Statutes) Tariff(day calendar.Date, cat Category, price string) (Tariff, error) {
	t := Tariff{spread: s.instalments(day)}
	if !cat.Valid() {
		return t, fmt.Errorf("category %q on %s: %w", cat, day, ErrTerms)
	}
	if price == "" {
		price = DefaultPrice
	}
	for i, class := range Classes {
		r := &t.rates[i]
		r.cost, r.known = s.cost(day, cat, class)
		if !r.known {
			return t, fmt.Errorf("%s cards at %s on %s: %w", class, cat, day, ErrTerms)
		}
		if r.price, r.named = s.price(day, price, cat, class); r.named && r.price.Rate >= 0 {
			continue
		}
		if r.cost.rule == market {
			return t, fmt.Errorf("price %q for %s cards at %s on %s: %w", price, class, cat, day, ErrTerms)
		}
	}
	return t, nil
}

// Covers says why a price card would fail some day from a day on: every change
// of the rules that are kept is tried. nil: it never does.
func (s *Statutes) Covers(from calendar.Date, cat Category, price string) error {
	days := []calendar.Date{from}
	for _, c := range s.Costs {
		days = append(days, c.From)
	}
	for _, p := range s.Prices {
		days = append(days, p.From)
	}
	for _, d := range days {
		if d.Before(from) {
			continue
		}
		if _, err := s.Tariff(d, cat, price); err != nil {
			return err
		}
	}
	return nil
}

// Known says whether a price card has any row.
func (s *Statutes) Known(price string) bool {
	for _, p := range s.Prices {
		if p.Name == price {
			return true
		}
	}
	return price == "" || price == DefaultPrice
}

// exact is what a fen has parts of while shares are computed: a rate of ppm
// times a percentage leaves nothing over.
const exact = 100 * million

// Of prices a sale of fen with a card of a class: the fee is rounded per sale,
// half up to the fen, and the shares are its parts by largest remainder.
// Nothing or less, or no class, costs nothing. A sale in instalments costs so
// much more, rounded for itself; one in parts that no row names costs no more.
func (t *Tariff) Of(fen int64, class Class) Parts {
	i := class.at()
	if fen <= 0 || i < 0 {
		return Parts{}
	}
	r := &t.rates[i]
	var whole, issuer, network int64 // in 1/exact fen
	if r.cost.rule == fixed && (!r.named || r.price.Rate < 0) {
		whole, issuer, network = r.cost.statutory(fen)
	} else {
		whole = capped(fen, r.price.Rate*100, r.price.Cap*exact)
		issuer, network = r.cost.ask(fen)
	}
	p := share(whole, issuer, network)
	if more := t.spreading(fen, class); more > 0 {
		p.Fee, p.Issuer = p.Fee+more, p.Issuer+more
	}
	return p
}

// spreading is what a sale in instalments costs on top, half up to the fen.
func (t *Tariff) spreading(fen int64, class Class) int64 {
	_, parts := class.Split()
	if parts == 0 {
		return 0
	}
	return (fen*t.spread[parts].Rate + million/2) / million // below 10^18
}

// statutory is the price laid down in 2013; above its cap the shares keep
// their proportions.
func (c *Cost) statutory(fen int64) (whole, issuer, network int64) {
	rate := c.Issuer + c.Network + c.Acquirer
	if rate == 0 {
		return 0, 0, 0
	}
	whole = capped(fen, rate*100, c.Cap*exact)
	return whole, muldiv(whole, c.Issuer, rate), muldiv(whole, c.Network, rate)
}

// ask is what issuer and network get of a sale: the network half from each
// side, so the issuer's own half lowers what it keeps.
func (c *Cost) ask(fen int64) (issuer, network int64) {
	if c.rule == fixed {
		_, issuer, network = c.statutory(fen)
		return issuer, network
	}
	side := capped(fen, c.Network*c.Percent, c.NetworkCap*exact/100*c.Percent)
	return capped(fen, c.Issuer*c.Percent, c.IssuerCap*exact/100*c.Percent) - side, 2 * side
}

// capped is fen * rate, at most limit unless that is zero.
func capped(fen, rate, limit int64) int64 {
	hi, lo := bits.Mul64(uint64(fen), uint64(rate))
	if limit > 0 && (hi != 0 || lo > uint64(limit)) {
		return limit
	}
	if hi != 0 || lo > 1<<62 {
		panic(money.ErrOverflow)
	}
	return int64(lo)
}

func muldiv(n, num, den int64) int64 {
	hi, lo := bits.Mul64(uint64(n), uint64(num))
	q, _ := bits.Div64(hi, lo, uint64(den))
	return int64(q)
}

// share rounds the fee and its parts.
func share(whole, issuer, network int64) Parts {
	p := Parts{Fee: (whole + exact/2) / exact}
	ask := [3]int64{issuer, network, whole - issuer - network}
	var part, rest [3]int64
	left := p.Fee
	for i, a := range ask {
		part[i] = floor(a)
		rest[i] = a - part[i]*exact
		left -= part[i]
	}
	for ; left > 0; left-- {
		best := 0
		for i := range rest {
			if rest[i] > rest[best] {
				best = i
			}
		}
		part[best]++
		rest[best] = -1
	}
	p.Issuer, p.Network, p.Acquirer = part[0], part[1], part[2]
	return p
}

func floor(a int64) int64 {
	q := a / exact
	if a%exact < 0 {
		q--
	}
	return q
}

// Back is what a refund of fen gives back when so much of the sale was left
// before it: the fee of what was left less the fee of what still is. So
// refunds that undo a sale give back its fee to the fen, in however many
// parts, cap or no cap. A price card may keep the fee.
func (t *Tariff) Back(fen, left int64, class Class) Parts {
	i := class.at()
	if i < 0 || t.rates[i].named && !t.rates[i].price.Returned {
		return Parts{}
	}
	return t.Of(left, class).Minus(t.Of(left-fen, class))
}

// Parts are the numbers of instalments that have a price, rising.
func (t *Tariff) Parts() []int { return slices.Sorted(maps.Keys(t.spread)) }

// A Line is one step of the explanation of a fee.
type Line struct {
	EN, ZH string
	Fen    money.Amount
}

// names in Chinese, as the rules have them.
var categoriesZH = map[Category]string{Dining: "餐娱类", Property: "房产汽车类", General: "一般类", Wholesale: "批发类", Living: "民生类", Welfare: "公益类"}

var classesZH = map[Class]string{Debit: "借记卡", Credit: "贷记卡", Prepaid: "预付卡", ECash: "电子现金"}

// Explain says in lines how a sale is priced: the merchant's price, who shares
// it, and the rows they come from.
func (t *Tariff) Explain(fen int64, cat Category, class Class) []Line {
	i := class.at()
	if i < 0 {
		return []Line{{EN: "No card fee for this kind of sale", ZH: "此类交易不收手续费", Fen: money.Fen(0)}}
	}
	r, p := &t.rates[i], t.Of(fen, class)
	rate, limit, from, source := r.price.Rate, r.price.Cap, r.price.From, r.price.Source
	if r.cost.rule == fixed && (!r.named || rate < 0) {
		rate, limit, from, source = r.cost.Issuer+r.cost.Network+r.cost.Acquirer, r.cost.Cap, r.cost.From, r.cost.Source
	}
	en, zh := "", ""
	if limit > 0 {
		en, zh = ", at most "+money.Fen(limit).Yuan(), "，封顶 "+money.Fen(limit).Yuan()+" 元"
	}
	lines := []Line{{
		EN:  fmt.Sprintf("%s, %s card: %s of %s%s (since %s: %s)", cat, Classes[i], percent(rate), money.Fen(fen).Yuan(), en, from, source),
		ZH:  fmt.Sprintf("%s，%s：%s 元的 %s%s（%s 起）", categoriesZH[cat], classesZH[Classes[i]], money.Fen(fen).Yuan(), percent(rate), zh, from),
		Fen: money.Fen(p.Fee)}}
	if more := t.spreading(fen, class); more > 0 {
		_, parts := class.Split()
		row := t.spread[parts]
		lines[0].Fen = money.Fen(p.Fee - more)
		lines = append(lines, Line{EN: fmt.Sprintf("in %d parts: %s of %s on top (since %s: %s)", parts, percent(row.Rate), money.Fen(fen).Yuan(), row.From, row.Source),
			ZH: fmt.Sprintf("分 %d 期：另加 %s 元的 %s（%s 起）", parts, money.Fen(fen).Yuan(), percent(row.Rate), row.From), Fen: money.Fen(more)})
	}
	if r.cost.Percent != 100 {
		lines = append(lines, Line{EN: fmt.Sprintf("Issuer and network at %d %% (%s)", r.cost.Percent, r.cost.Source), ZH: fmt.Sprintf("发卡行与清算机构费用按 %d%% 计", r.cost.Percent), Fen: money.Fen(0)})
	}
	return append(lines,
		Line{EN: "of it to the card's issuer", ZH: "其中：发卡行", Fen: money.Fen(p.Issuer)},
		Line{EN: "of it to the network", ZH: "其中：清算机构", Fen: money.Fen(p.Network)},
		Line{EN: "of it to the acquirer", ZH: "其中：收单机构", Fen: money.Fen(p.Acquirer)})
}

// percent writes ppm as a percentage: 0.0325 %.
func percent(ppm int64) string {
	whole, part := ppm/10_000, fmt.Sprintf("%04d", ppm%10_000)
	for len(part) > 2 && part[len(part)-1] == '0' {
		part = part[:len(part)-1]
	}
	return fmt.Sprintf("%d.%s %%", whole, part)
}

// Slice is the part of a fee that belongs to the fen from lo to hi of a whole:
// slices that lie side by side sum to the fee, part by part.
func (p Parts) Slice(lo, hi, whole int64) Parts {
	cut := func(n int64) int64 {
		if n < 0 {
			return -(muldiv(-n, hi, whole) - muldiv(-n, lo, whole))
		}
		return muldiv(n, hi, whole) - muldiv(n, lo, whole)
	}
	s := Parts{Fee: cut(p.Fee), Issuer: cut(p.Issuer), Network: cut(p.Network)}
	s.Acquirer = s.Fee - s.Issuer - s.Network
	return s
}
