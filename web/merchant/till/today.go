package till

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/merchant"
	"koala/money"
	"koala/settlement"
	"koala/settlement/fee"
	"koala/switching"
	"koala/web"
	"koala/web/merchant/shell"
	parts "koala/web/ops/shell"
)

// A todayView is the day that runs.
type todayView struct {
	figures []web.Figure
	hours   web.BarChart
	cards   web.Parted
	last    web.Table
	notices []web.Text
	alone   bool // the merchant has no shop that trades yet
}

// lastRows is how many transactions the day's page shows.
const lastRows = 6

func (d Deps) today(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	ctx, now := r.Context(), d.Desk.Store.Now()
	page := web.Page{Title: words.Today, Lead: words.TodayLead, Here: shell.Home}
	if s.Shop.MID == "" {
		return d.Desk.Show(w, r, s, page, todayPage(todayView{alone: true}))
	}
	today := calendar.Of(now, calendar.Beijing)
	var is, was, week sums
	var last []switching.Txn
	var money settlement.Day
	var due []settlement.Arrival
	var fleet fleet
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if is, err = takingsOf(q, s.Shop.ID, today); err != nil {
			return err
		}
		if was, err = takingsOf(q, s.Shop.ID, today.AddDays(-1)); err != nil {
			return err
		}
		if week, err = takingsSince(q, s.Shop.ID, today.AddDays(-6), now); err != nil {
			return err
		}
		if last, err = switching.Live(q, switching.Filter{Shop: s.Shop.ID, Limit: lastRows}); err != nil {
			return err
		}
		if money, err = settlement.Today(q, s.Shop.ID, now); err != nil {
			return err
		}
		if due, err = settlement.Expected(q, s.Shop.ID, now); err != nil {
			return err
		}
		fleet, err = fleetOf(q, s.Shop.ID, now)
		return err
	})
	if err != nil {
		return fmt.Errorf("today at %s: %w", s.Shop.ID, err)
	}
	v := todayView{figures: dayFigures(ctx, s, is, was, money, due, fleet, today), hours: hourChart(is, was, now), cards: cardParts(week)}
	v.last = saleTable(ctx, last)
	v.last.ID, v.last.NoCSV = "last", true
	if money.Stopped {
		v.notices = append(v.notices, words.StoppedNote)
	}
	if s.Shop.State == merchant.Suspended {
		v.notices = append(v.notices, words.SuspendedNote)
	}
	return d.Desk.Show(w, r, s, page, todayPage(v))
}

// A fleet is the terminals of a shop in numbers.
type fleet struct{ all, online int }

// fleetOf counts the terminals that stand in a shop, and those that spoke
// within a day.
func fleetOf(q *db.Query, shop string, now time.Time) (f fleet, err error) {
	list, err := merchant.TerminalsOf(q, shop, "", merchant.MaxPage)
	for _, t := range list {
		if t.Life == merchant.Retired {
			continue
		}
		f.all++
		seen, err := SeenAt(q, t)
		if err != nil {
			return f, err
		}
		if t.Life == merchant.InUse && now.Sub(seen) < OnlineFor {
			f.online++
		}
	}
	return f, err
}

// OnlineFor is how long a terminal that spoke counts as there: it signs on every
// day.
const OnlineFor = 24 * time.Hour

// SeenAt is when a terminal last spoke: signed on, or sold something.
func SeenAt(q db.Reader, t merchant.Terminal) (time.Time, error) {
	list, err := switching.Live(q, switching.Filter{TID: t.TID, Limit: 1})
	if err == nil && len(list) > 0 && list[0].At.After(t.Seen) {
		return list[0].At, nil
	}
	return t.Seen, err
}

func dayFigures(ctx context.Context, s shell.Seat, is, was sums, day settlement.Day, due []settlement.Arrival, f fleet, today calendar.Date) []web.Figure {
	average := int64(0)
	if is.count > 0 {
		average = is.fen / is.count
	}
	out := []web.Figure{{Name: words.Takings, Value: web.Yuan(is.fen - is.back), Icon: "coins", DeltaText: words.Yesterday.F(web.Yuan(was.fen - was.back)), Href: atSales + "?day=" + today.String()},
		{Name: words.Sales, Value: web.Number(is.count), Icon: "receipt", DeltaText: words.AverageIs.F(web.Yuan(average)), Href: atSales + "?day=" + today.String()},
		{Name: words.Refunds, Value: web.Yuan(-is.back), Icon: "history", DeltaText: words.HowMany.F(is.returned), Href: atRefunds},
		{Name: words.Declined, Value: web.Number(is.declined), Icon: "ban", Href: atSales + "?state=declined&day=" + today.String()},
		{Name: words.TerminalsOn, Value: fmt.Sprintf("%d / %d", f.online, f.all), Icon: "tablet-smartphone", DeltaText: words.WithinADay, Href: "/merchant/terminals"}}
	if f.online < f.all {
		out[4].Tone = web.Warn
	}
	if is.unclear > 0 {
		out = append(out, web.Figure{Name: words.Unclear, Value: web.Number(is.unclear), Tone: web.Warn, Icon: "circle-help", Href: atSales + "?state=unknown"})
	}
	if !s.May(shell.SeeMoney) {
		return out
	}
	arrives := web.Figure{Name: words.NextArrival, Value: web.Yuan(0), Icon: "landmark", Tone: web.Good, DeltaText: words.NothingYet, Href: "/merchant/money"}
	if a, found := nextArrival(due, today); found {
		arrives.Value, arrives.DeltaText = web.Yuan(a.Amount.Minor()), words.On.F(web.Day(ctx, a.Arrives.Start(calendar.Beijing)))
	}
	return append([]web.Figure{out[0], arrives, {Name: words.OfToday, Value: web.Yuan(day.Net.Minor() + is.waiting), Icon: "clock",
		DeltaText: words.OnAbout.F(web.Day(ctx, day.ArrivesNext.Start(calendar.Beijing))), Href: "/merchant/money"}}, out[1:]...)
}

// nextArrival sums what reaches the bank on the next day that anything does.
func nextArrival(due []settlement.Arrival, today calendar.Date) (next settlement.Arrival, found bool) {
	next.Amount = money.Fen(0)
	for _, a := range due {
		if a.Amount.Sign() <= 0 || a.Arrives.Before(today) || a.State == settlement.Confirmed || a.State == settlement.Returned {
			continue
		}
		if !found || a.Arrives.Before(next.Arrives) {
			next, found = a, true
		} else if a.Arrives == next.Arrives {
			next.Amount = next.Amount.Add(a.Amount)
		}
	}
	return next, found
}

func hourChart(is, was sums, now time.Time) web.BarChart {
	c := web.BarChart{ID: "hours", Title: words.ByHour, What: words.Hour, Of: words.Amount, Money: true, Every: 3}
	here := now.In(calendar.Beijing).Hour()
	for h := range 24 {
		c.Bars = append(c.Bars, web.Bar{Label: web.Same(fmt.Sprintf("%02d", h)), Full: web.Same(fmt.Sprintf("%02d:00", h)), Value: is.hours[h], Now: h == here, Ghost: was.hours[h], Note: words.Yesterday.F(web.Yuan(was.hours[h]))})
	}
	return c
}

func cardParts(s sums) web.Parted {
	p := web.Parted{Title: words.ByCard, Money: true}
	for _, c := range append(fee.Classes, fee.None) {
		if s.classes[c] > 0 || c == fee.Debit || c == fee.Credit {
			p.Parts = append(p.Parts, web.Slice{Name: classWords[c], Value: s.classes[c]})
		}
	}
	return p
}

// saleTable lists transactions.
func saleTable(ctx context.Context, list []switching.Txn) web.Table {
	t := web.Table{ID: "sales", Empty: words.NoSales, EmptyDo: &web.Link{Href: "/merchant/terminals", Name: words.ToTerminals}, Head: []web.Column{{Name: words.At}, {Name: words.Kind}, {Name: words.Card}, {Name: words.CardKind},
		{Name: words.State}, {Name: words.Terminal}, {Name: words.Amount, Num: true}, {Name: words.Refunded, Num: true}}}
	for _, x := range list {
		back := parts.None()
		if x.Refunded.Sign() > 0 {
			back = web.Money(-x.Refunded.Minor())
		}
		t.Rows = append(t.Rows, web.Row{Href: salePath(x.RRN), Drawer: true, Cells: []web.Cell{{Text: web.Moment(x.At), Show: parts.Tight(web.Moment(x.At))}, web.Plain(kindText(x.Kind).In(ctx)), web.Mono(shown(x.Masked)),
			web.Plain(classWords[fee.Class(x.Class)].In(ctx)), stateCell(ctx, x.State), web.Mono(x.TID), web.Money(Signed(x)), back}})
	}
	return t
}

// shown is a card's number as slips print it.
func shown(masked string) string {
	if masked == "" {
		return "–"
	}
	return masked
}
