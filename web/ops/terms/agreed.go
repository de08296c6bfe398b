package terms

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/money"
	"koala/settlement"
	"koala/settlement/fee"
	"koala/web"
)

// agreed is terms as people write them and as a proposal keeps them.
type agreed struct {
	Payee           string
	Since           calendar.Date
	Category, Price string
	Cut             int    // minutes after the midnight that begins the day
	Pays            string // daily, bank or monthly
	Least           int64  // fen
	ReserveBP       int64
	ReserveDays     int
	Once            bool
	Every           int   // minutes; 0: when asked
	BPDay, Most     int64 // basis points; fen
	Promise         int   // minutes
}

// How often a payee is paid.
const (
	daily   = "daily"
	bank    = "bank"
	monthly = "monthly"
)

var paysWords = map[string]web.Text{daily: words.Daily, bank: words.BankDays, monthly: words.Monthly}

var categoryWords = map[string]web.Text{"": words.NoFees, string(fee.Dining): words.Dining, string(fee.Property): words.Property, string(fee.General): words.General,
	string(fee.Wholesale): words.Wholesale, string(fee.Living): words.Living, string(fee.Welfare): words.Welfare}

func agreedOf(t settlement.Terms) agreed {
	a := agreed{Payee: t.Payee, Since: t.Since, Category: string(t.Category), Price: t.Price, Cut: int(t.CutOff / time.Minute), Pays: bank, Least: t.Least.Minor(), ReserveBP: t.ReserveBP, ReserveDays: t.ReserveDays,
		Once: t.Once.Agreed, Every: int(t.Once.Every / time.Minute), BPDay: t.Once.BPDay, Most: t.Once.Most.Minor(), Promise: int(t.Once.Promise / time.Minute)}
	switch {
	case t.Monthly:
		a.Pays = monthly
	case t.Holidays:
		a.Pays = daily
	}
	if a.Price == "" {
		a.Price = fee.DefaultPrice
	}
	return a
}

func (a agreed) terms() settlement.Terms {
	t := settlement.Terms{Payee: a.Payee, Since: a.Since, Category: fee.Category(a.Category), Price: a.Price, CutOff: time.Duration(a.Cut) * time.Minute, Holidays: a.Pays == daily, Monthly: a.Pays == monthly,
		Least: money.Fen(a.Least), ReserveBP: a.ReserveBP, ReserveDays: a.ReserveDays, Once: settlement.Once{Most: money.Fen(0)}}
	if a.Once {
		t.Once = settlement.Once{Agreed: true, Every: time.Duration(a.Every) * time.Minute, BPDay: a.BPDay, Most: money.Fen(a.Most), Promise: time.Duration(a.Promise) * time.Minute}
	}
	return t
}

// same says that two terms differ at most in the day they begin.
func (a agreed) same(b agreed) bool {
	x, y := agreedOf(a.terms()), agreedOf(b.terms())
	x.Since, x.Payee = y.Since, y.Payee
	return x == y
}

// percent writes basis points; clock writes minutes, past 24:00 of the next day.
func percent(bp int64) string { return fmt.Sprintf("%d.%02d", bp/100, bp%100) }
func clock(minutes int) string {
	return fmt.Sprintf("%02d:%02d", minutes/60, minutes%60)
}

func (a agreed) fees() web.Text {
	c := categoryWords[a.Category]
	if a.Category == "" {
		return c
	}
	return web.Text{ZH: c.ZH + " · " + a.Price, EN: c.EN + " · " + a.Price}
}

func (a agreed) reserve() web.Text {
	if a.ReserveBP == 0 {
		return words.None
	}
	return words.ReserveIs.F(percent(a.ReserveBP), a.ReserveDays)
}

func (a agreed) once() web.Text {
	switch {
	case !a.Once:
		return words.NotAgreed
	case a.Every > 0:
		return words.OnceEvery.F(percent(a.BPDay), web.Yuan(a.Most), a.Promise, a.Every)
	}
	return words.OnceIs.F(percent(a.BPDay), web.Yuan(a.Most), a.Promise)
}

// A facet is one thing that terms say.
type facet struct {
	name web.Text
	say  func(a agreed) web.Text
}

var facets = []facet{
	{words.Fees, agreed.fees},
	{words.Cut, func(a agreed) web.Text { return web.Same(clock(a.Cut)) }},
	{words.Pays, func(a agreed) web.Text { return paysWords[a.Pays] }},
	{words.Least, func(a agreed) web.Text { return web.Same(web.Yuan(a.Least)) }},
	{words.Reserve, agreed.reserve},
	{words.AtOnce, agreed.once},
}

// facts shows terms.
func (a agreed) facts() (out []web.Fact) {
	for _, f := range facets {
		out = append(out, web.Fact{Name: f.name, Show: web.Say(f.say(a))})
	}
	return out
}

// compared shows what terms change of those before.
func compared(ctx context.Context, old, now agreed) web.Table {
	t := web.Table{ID: "changes", NoCSV: true, Empty: words.NoChange, Head: []web.Column{{Name: words.What}, {Name: words.Until}, {Name: words.FromThen}}}
	for _, f := range facets {
		if a, b := f.say(old), f.say(now); a != b {
			t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{web.Plain(f.name.In(ctx)), web.Plain(a.In(ctx)), web.Plain(b.In(ctx))}})
		}
	}
	return t
}

// base names all that is agreed with a payee: what was looked at is compared with
// what is there when it is proposed, and when it is confirmed.
func base(q db.Reader, payee string) (string, error) {
	all, err := settlement.AllTerms(q, payee)
	if err != nil {
		return "", err
	}
	splits, err := settlement.Splits(q, payee)
	h := sha256.New()
	for _, t := range all {
		fmt.Fprintln(h, agreedOf(t))
	}
	for _, s := range splits {
		fmt.Fprintln(h, s.Since, sharesOf(s.Split))
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), err
}

// Bounds of what is written into the form, beside those of settlement.
const (
	farDays     = 366       // terms begin at most so far ahead
	mostLeast   = 1_000_000 // yuan
	mostOnce    = 100_000_000_00
	mostMinutes = 7 * 24 * 60
	leastCut    = 60
	mostCut     = 30 * 60
	mostReserve = 3650 // days
	mostBPDay   = 100
)

// A reading takes values out of a form, and keeps what is wrong at its field.
type reading struct {
	form  url.Values
	wrong map[string]web.Text
}

func read(r *http.Request) reading {
	_ = r.ParseForm() // what does not parse is missing
	return reading{r.Form, map[string]web.Text{}}
}

func (x reading) text(name string) string { return strings.TrimSpace(x.form.Get(name)) }

func (x reading) fail(name string, t web.Text) { x.wrong[name] = t }

// day reads the first day of a change: tomorrow or later.
func (x reading) day(name string, today calendar.Date) calendar.Date {
	d, err := calendar.Parse(x.text(name))
	switch {
	case err != nil:
		x.fail(name, words.BadDay)
	case !today.Before(d):
		x.fail(name, words.PastDay.F(today.AddDays(1).String()))
	case today.AddDays(farDays).Before(d):
		x.fail(name, words.FarDay.F(today.AddDays(farDays).String()))
	}
	return d
}

// hundredths reads an amount in yuan as fen, or per cent as basis points.
func (x reading) hundredths(name string, most int64, wrong web.Text) int64 {
	a, err := money.ParseYuan(x.text(name))
	if err != nil || a.Sign() < 0 || a.Minor() > most {
		x.fail(name, wrong)
		return 0
	}
	return a.Minor()
}

func (x reading) whole(name string, least, most int, wrong web.Text) int {
	n, err := strconv.Atoi(x.text(name))
	if err != nil || n < least || n > most {
		x.fail(name, wrong.F(least, most))
	}
	return n
}

// clock reads 23:00 as minutes; below zero: it is none.
func (x reading) clock(name string) int {
	hours, minutes, _ := strings.Cut(x.text(name), ":")
	h, err := strconv.ParseUint(hours, 10, 8)
	m, err2 := strconv.ParseUint(minutes, 10, 8)
	if err != nil || err2 != nil || len(minutes) != 2 || m > 59 {
		return -1
	}
	return int(h*60 + m)
}

// readAgreed reads terms from the form.
func readAgreed(r *http.Request, payee string, today calendar.Date) (agreed, map[string]web.Text) {
	x := read(r)
	a := agreed{Payee: payee, Since: x.day("since", today), Category: x.text("category"), Price: x.text("price"), Pays: x.text("pays"), Once: x.text("once") == "yes"}
	if _, ok := categoryWords[a.Category]; !ok {
		x.fail("category", words.BadChoice)
	}
	if !slices.Contains(prices(), a.Price) {
		x.fail("price", words.BadChoice)
	} else if a.Category != "" && len(x.wrong) == 0 && settlement.Statutes().Covers(a.Since, fee.Category(a.Category), a.Price) != nil {
		x.fail("price", words.NoPrice)
	}
	if _, ok := paysWords[a.Pays]; !ok {
		x.fail("pays", words.BadChoice)
	}
	if a.Cut = x.clock("cut"); a.Cut < leastCut || a.Cut > mostCut {
		x.fail("cut", words.BadCut)
	}
	a.Least = x.hundredths("least", mostLeast*100, words.BadAmount)
	a.ReserveBP = x.hundredths("reserve", 10_000, words.BadPercent)
	a.ReserveDays = x.whole("reservedays", 0, mostReserve, words.BadWhole)
	if a.ReserveBP > 0 && a.ReserveDays == 0 && x.wrong["reservedays"].Empty() {
		x.fail("reservedays", words.ReserveForever)
	}
	if a.Once {
		a.Every = x.whole("every", 0, mostMinutes, words.BadWhole)
		a.BPDay = x.hundredths("bpday", mostBPDay, words.BadDayPrice)
		if a.Most = x.hundredths("most", mostOnce, words.BadAmount); a.Most == 0 && x.wrong["most"].Empty() {
			x.fail("most", words.MostNothing)
		}
		a.Promise = x.whole("promise", 1, mostMinutes, words.BadWhole)
	}
	return a, x.wrong
}

// prices are the price cards there are.
func prices() []string {
	out := []string{fee.DefaultPrice}
	for _, p := range settlement.Statutes().Prices {
		if !slices.Contains(out, p.Name) {
			out = append(out, p.Name)
		}
	}
	return out
}

// values is the form filled with terms.
func (a agreed) values() url.Values {
	once := "no"
	if a.Once {
		once = "yes"
	}
	return url.Values{"since": {a.Since.String()}, "category": {a.Category}, "price": {a.Price}, "cut": {clock(a.Cut)}, "pays": {a.Pays}, "least": {money.Fen(a.Least).Yuan()}, "reserve": {percent(a.ReserveBP)},
		"reservedays": {strconv.Itoa(a.ReserveDays)}, "once": {once}, "every": {strconv.Itoa(a.Every)}, "bpday": {percent(a.BPDay)}, "most": {money.Fen(a.Most).Yuan()}, "promise": {strconv.Itoa(a.Promise)}}
}

// A group is fields of the form that belong together.
type group struct {
	name   web.Text
	fields []web.Field
}

// fields are the form with its values and what is wrong with them.
func fields(v url.Values, wrong map[string]web.Text) []group {
	var categories, cards, pays []web.Option
	categories = append(categories, web.Option{Name: words.NoFees})
	for _, c := range fee.Categories {
		categories = append(categories, web.Option{Value: string(c), Name: categoryWords[string(c)]})
	}
	for _, p := range prices() {
		cards = append(cards, web.Option{Value: p, Name: web.Same(p)})
	}
	for _, p := range []string{daily, bank, monthly} {
		pays = append(pays, web.Option{Value: p, Name: paysWords[p]})
	}
	groups := []group{
		{words.GroupDay, []web.Field{{Name: "since", Label: words.FromDay, Hint: words.FromHint, Type: "date", Required: true}, {Name: "category", Label: words.Category, Type: "select", Options: categories},
			{Name: "price", Label: words.PriceCard, Hint: words.PriceHint, Type: "select", Options: cards}}},
		{words.GroupPaid, []web.Field{{Name: "cut", Label: words.Cut, Hint: words.CutHint, Required: true, Max: 5}, {Name: "pays", Label: words.Pays, Hint: words.PaysHint, Type: "select", Options: pays},
			{Name: "least", Label: words.Least, Hint: words.LeastHint, Lead: "¥", Mode: "decimal", Required: true, Max: 12}, {Name: "reserve", Label: words.ReserveShare, Hint: words.ReserveHint, Mode: "decimal", Required: true, Max: 6},
			{Name: "reservedays", Label: words.ReserveDays, Hint: words.ReserveDaysHint, Mode: "numeric", Required: true, Max: 4}}},
		{words.GroupOnce, []web.Field{{Name: "once", Label: words.OnceMay, Type: "select", Options: []web.Option{{Value: "no", Name: words.No}, {Value: "yes", Name: words.Yes}}}, {Name: "bpday", Label: words.DayPrice, Hint: words.DayPriceHint, Mode: "decimal", Max: 5},
			{Name: "most", Label: words.Most, Hint: words.MostHint, Lead: "¥", Mode: "decimal", Max: 14}, {Name: "promise", Label: words.Promise, Hint: words.PromiseHint, Mode: "numeric", Max: 5},
			{Name: "every", Label: words.Every, Hint: words.EveryHint, Mode: "numeric", Max: 5}}},
	}
	for i := range groups {
		for j := range groups[i].fields {
			f := &groups[i].fields[j]
			f.Value, f.Error = v.Get(f.Name), wrong[f.Name]
		}
	}
	return groups
}
