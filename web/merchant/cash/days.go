package cash

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"koala/calendar"
	"koala/internal/db"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/settlement/fee"
	"koala/web"
	"koala/web/merchant/shell"
	parts "koala/web/ops/shell"
)

// A cell is one day of the month's grid.
type cell struct {
	day      calendar.Date
	outside  bool // of another month: it only fills the week
	off      bool // banks do not settle
	today    bool
	sales    money.Amount // net of what was sold that day
	open     bool         // the day is not closed: sales is what is expected
	count    int
	arriving money.Amount // what reaches the bank account that day
}

func (c cell) bare() bool { return c.count == 0 && c.arriving.IsZero() && !c.today }

// A monthView is the settlement calendar.
type monthView struct {
	month      calendar.Month
	prev, next string // addresses
	cells      []cell
	figures    []web.Figure
	arrivals   web.Table
	chart      web.BarChart
	holds      []web.Line
}

func (d Deps) calendar(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	if err := needShop(s); err != nil {
		return err
	}
	ctx, now := r.Context(), d.Desk.Store.Now()
	today := calendar.Of(now, calendar.Beijing)
	v := monthView{month: today.MonthOf()}
	if text := r.FormValue("month"); text != "" {
		var err error
		if v.month, err = monthOf(text); err != nil {
			return err
		}
	}
	var st settlement.Statement
	var expected []settlement.Arrival
	var day settlement.Day
	var terms settlement.Terms
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if st, err = settlement.StatementOf(q, s.Shop.ID, v.month); err != nil {
			return err
		}
		if expected, err = settlement.Expected(q, s.Shop.ID, now); err != nil {
			return err
		}
		holds, err := settlement.Holds(q, s.Shop.ID)
		if err != nil {
			return err
		}
		v.holds = holdLines(holds)
		if terms, err = settlement.TermsOf(q, s.Shop.ID, today); err != nil {
			return err
		}
		day, err = settlement.Today(q, s.Shop.ID, now)
		return err
	})
	if err != nil {
		return fmt.Errorf("settlement calendar of %s: %w", s.Shop.ID, err)
	}
	v.arrivals = arrivalTable(ctx, expected)
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.arrivals)
	}
	v.cells = grid(v.month, today, st.Closings, expected)
	v.chart = netChart(v.cells)
	v.figures = moneyFigures(ctx, d.Book, s.Shop.ID, day, expected, today)
	if terms.Monthly {
		v.figures = append(v.figures, payday(ctx, day))
	}
	v.prev, v.next = atMoney+"?month="+firstOf(v.month).AddDays(-1).MonthOf().String(), atMoney+"?month="+nextOf(v.month).String()
	page := web.Page{Title: words.Calendar, Lead: words.CalendarLead, Here: atMoney}
	if s.May(shell.TakeMoney) {
		page.Action = &web.Link{Href: atMoney + "/now", Name: words.PayNow, Icon: "zap"}
		if !terms.Once.Agreed {
			page.Action.Name = words.AskOnce
		}
	}
	return d.Desk.Show(w, r, s, page, monthPage(v))
}

// grid lays a month out in weeks that begin on Monday.
func grid(month calendar.Month, today calendar.Date, closings []settlement.Payout, expected []settlement.Arrival) (out []cell) {
	type sums struct {
		net, in money.Amount
		n       int
		open    bool
	}
	by := map[calendar.Date]*sums{}
	of := func(day calendar.Date) *sums {
		if by[day] == nil {
			by[day] = &sums{net: money.Fen(0), in: money.Fen(0)}
		}
		return by[day]
	}
	for _, c := range closings {
		x := of(c.Day)
		x.net, x.n = x.net.Add(netOf(c)), x.n+c.Count
	}
	for _, a := range expected {
		if a.Payout == "" {
			x := of(a.Day)
			x.net, x.n, x.open = x.net.Add(a.Amount), x.n+a.Count, true
		}
		if a.State != settlement.Returned && a.Amount.Sign() > 0 {
			x := of(a.Arrives)
			x.in = x.in.Add(a.Amount)
		}
	}
	first, last := firstOf(month), lastOf(month)
	lead := (int(first.Weekday()) + 6) % 7
	for day := first.AddDays(-lead); !last.Before(day) || len(out)%7 != 0; day = day.AddDays(1) {
		c := cell{day: day, outside: day.MonthOf() != month, off: !day.BankDay(), today: day == today, sales: money.Fen(0), arriving: money.Fen(0)}
		if x := by[day]; x != nil && !c.outside {
			c.sales, c.arriving, c.count, c.open = x.net, x.in, x.n, x.open
		}
		out = append(out, c)
	}
	return out
}

// netOf is what the items of a closing came to after fees.
func netOf(c settlement.Payout) money.Amount {
	return c.Gross.Add(c.Refunds).Add(c.Chargebacks).Sub(money.Fen(c.Fee.Fee))
}

func netChart(cells []cell) web.BarChart {
	c := web.BarChart{ID: "by-day", Title: words.NetByDay, What: words.Day, Of: words.Net, Money: true, Every: 5}
	for _, x := range cells {
		if x.outside {
			continue
		}
		b := web.Bar{Label: web.Same(strconv.Itoa(x.day.Day)), Full: dayText(x.day), Value: x.sales.Minor(), Now: x.today}
		if x.count > 0 {
			b.Href = atMoney + "/days/" + x.day.String()
		}
		c.Bars = append(c.Bars, b)
	}
	return c
}

func moneyFigures(ctx context.Context, book *ledger.Book, shop string, day settlement.Day, expected []settlement.Arrival, today calendar.Date) []web.Figure {
	next, when := money.Fen(0), calendar.Date{}
	for _, a := range expected {
		if a.Amount.Sign() <= 0 || a.Arrives.Before(today) || a.State == settlement.Confirmed || a.State == settlement.Returned {
			continue
		}
		if when.IsZero() || a.Arrives.Before(when) {
			next, when = money.Fen(0), a.Arrives
		}
		if a.Arrives == when {
			next = next.Add(a.Amount)
		}
	}
	out := []web.Figure{
		{Name: words.NextArrival, Value: web.Yuan(next.Minor()), Icon: "landmark", DeltaText: words.NothingUnderWay, Tone: web.Good},
		{Name: words.WaitingNow, Value: web.Yuan(day.Net.Minor()), Icon: "clock", DeltaText: words.DayEnds.F(web.Clock(day.EndsAt)[:5])},
		{Name: words.Reserve, Value: web.Yuan(day.Reserve.Minor()), Icon: "lock"},
		{Name: words.Kept, Value: web.Yuan(day.Kept.Minor()), Icon: "history"},
	}
	if !when.IsZero() {
		out[0].DeltaText = words.On.F(shortDay(ctx, when))
	}
	if b, err := book.Balance(settlement.Payable(shop)); err == nil {
		out = append(out, web.Figure{Name: words.OnTheBooks, Value: web.Yuan(b.Posted.Minor()), Icon: "book-open"})
	}
	return out
}

// payday is what those that are paid once a month expect next: what is open and
// what earlier closings carried, before reserve.
func payday(ctx context.Context, day settlement.Day) web.Figure {
	f := web.Figure{Name: words.Payday, Value: web.Yuan(max(0, day.Net.Add(day.Kept).Sub(day.Held).Minor())), Icon: "landmark", DeltaText: words.ExpectedOn.F(shortDay(ctx, day.ArrivesNext))}
	if day.Stopped {
		f.Value, f.Tone, f.DeltaText = web.Yuan(0), web.Warn, words.PaydayHeld
	}
	return f
}

func holdLines(list []settlement.Hold) (out []web.Line) {
	for _, h := range list {
		why := map[settlement.Reason]web.Text{settlement.ForRisk: words.HoldRisk, settlement.ForDispute: words.HoldDispute, settlement.ForAccount: words.HoldAccount, settlement.ForStaff: words.HoldStaff}[h.Reason]
		l := web.Line{Text: why, Value: web.Yuan(h.Amount.Minor())}
		if h.Amount.IsZero() {
			l.Text, l.Value = web.Text{ZH: why.ZH + "：" + words.Everything.ZH, EN: why.EN + ": " + words.Everything.EN}, ""
		}
		out = append(out, l)
	}
	return out
}

func arrivalTable(ctx context.Context, list []settlement.Arrival) web.Table {
	t := web.Table{ID: "arrivals", Empty: words.NoArrivals, Head: []web.Column{{Name: words.SalesOf}, {Name: words.Arrives}, {Name: words.State}, {Name: words.Items, Num: true}, {Name: words.Amount, Num: true}}}
	for i := len(list) - 1; i >= 0; i-- {
		a := list[i]
		row := web.Row{Href: atMoney + "/days/" + a.Day.String(), Cells: []web.Cell{{Text: shortDay(ctx, a.Day), CSV: a.Day.String()}, {Text: shortDay(ctx, a.Arrives), CSV: a.Arrives.String()},
			web.Status(ctx, web.Neutral, words.StillOpen), web.Count(int64(a.Count)), web.Money(a.Amount.Minor())}}
		if a.Payout != "" {
			row.Href, row.Cells[2] = atPayouts+"/"+a.Payout, stateCell(ctx, a.State)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// A dayView is one settlement day of a shop.
type dayView struct {
	figures  []web.Figure
	share    web.Parted
	closings []web.Line
	payouts  web.Table
	items    web.Table
	file     string // address of its bill; empty: not closed
	open     bool
}

func (d Deps) day(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	if err := needShop(s); err != nil {
		return err
	}
	ctx := r.Context()
	day, err := dateOf(r, "day")
	if err != nil {
		return err
	}
	pg := web.PageOf(r, parts.Rows)
	after, err := strconv.ParseInt("0"+pg.After, 10, 64)
	if err != nil {
		return fmt.Errorf("place %q: %w", pg.After, shell.ErrForm)
	}
	var v dayView
	var closed []settlement.Payout
	var items, all []settlement.Priced
	err = d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if closed, err = closingsOn(q, s.Shop.ID, day); err != nil {
			return err
		}
		if items, err = itemsFrom(q, s.Shop.ID, day, after, pg.Limit); err != nil {
			return err
		}
		if len(closed) == 0 {
			all, err = itemsFrom(q, s.Shop.ID, day, 0, maxOpen)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("day %s of %s: %w", day, s.Shop.ID, err)
	}
	v.items = itemTable(ctx, items)
	if n := len(items); n > 0 {
		v.items.Next = web.NextURL(r, n, pg, strconv.FormatInt(items[n-1].Seq, 10))
	}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.items)
	}
	v.open = len(closed) == 0
	v.sum(ctx, closed, all)
	if !v.open {
		v.file = "/merchant/bills/" + day.String()
	}
	return d.Desk.Show(w, r, s, web.Page{Title: dayText(day), Lead: words.DayLead, Back: atMoney + "?month=" + day.MonthOf().String(), Here: atMoney}, dayPage(v, day))
}

// maxOpen bounds the items that are summed of a day that runs.
const maxOpen = 10_000

// itemsFrom reads items of a day page by page, up to a limit.
func itemsFrom(q *db.Query, shop string, day calendar.Date, after int64, limit int) (out []settlement.Priced, err error) {
	for len(out) < limit {
		page, err := settlement.ItemsOn(q, shop, day, after, min(500, limit-len(out)))
		if err != nil {
			return nil, err
		}
		if out = append(out, page...); len(page) == 0 {
			break
		}
		after = page[len(page)-1].Seq
	}
	return out, nil
}

// sum fills the figures of a day: of its closings, or of the items that wait.
func (v *dayView) sum(ctx context.Context, closed []settlement.Payout, waiting []settlement.Priced) {
	gross, back, net, paid := money.Fen(0), money.Fen(0), money.Fen(0), money.Fen(0)
	reserved := money.Fen(0)
	var cost fee.Parts
	count := len(waiting)
	for _, c := range closed {
		gross, back, net, paid = gross.Add(c.Gross), back.Add(c.Refunds).Add(c.Chargebacks), net.Add(netOf(c)), paid.Add(c.Amount)
		cost, count, reserved = cost.Plus(c.Fee), count+c.Count, reserved.Add(c.Reserved).Sub(c.Released)
	}
	for _, i := range waiting {
		if i.Amount.Sign() > 0 {
			gross = gross.Add(i.Amount)
		} else {
			back = back.Add(i.Amount)
		}
		cost = cost.Plus(i.Fee)
		net = net.Add(i.Amount).Sub(money.Fen(i.Fee.Fee))
	}
	v.figures = []web.Figure{{Name: words.Gross, Value: web.Yuan(gross.Minor()), DeltaText: words.ItemCount.F(count), Icon: "receipt"},
		{Name: words.FeeOf, Value: web.Yuan(-cost.Fee), Icon: "scale", Href: atFees}, {Name: words.RefundsOf, Value: web.Yuan(back.Minor()), Icon: "history"},
		{Name: words.Reserve, Value: web.Yuan(-reserved.Minor()), Icon: "lock"}, {Name: words.Net, Value: web.Yuan(net.Minor()), Tone: web.Good, Icon: "coins"}}
	if cost.Fee > 0 {
		v.share = web.Parted{Title: words.WhoGetsFee, Money: true, Parts: feeParts(cost)}
	}
	for _, c := range closed {
		v.closings = append(v.closings, lines(c.Explain())...)
	}
	v.payouts = payoutTable(ctx, closed)
	v.payouts.NoCSV = true
}

func feeParts(p fee.Parts) []web.Slice {
	return []web.Slice{{Name: words.Issuer, Value: p.Issuer}, {Name: words.Network, Value: p.Network}, {Name: words.Acquirer, Value: p.Acquirer}}
}

func itemTable(ctx context.Context, items []settlement.Priced) web.Table {
	t := web.Table{ID: "items", Empty: words.NoItems, Head: []web.Column{{Name: words.What}, {Name: words.Card}, {Name: words.At}, {Name: words.Amount, Num: true}, {Name: words.FeeOf, Num: true}, {Name: words.Net, Num: true}}}
	for _, i := range items {
		row := web.Row{Cells: []web.Cell{{Text: itemWords(i.Kind, i.Amount).In(ctx), CSV: i.Ref}, web.Plain(cardWords(i.Card).In(ctx)), {Text: web.Moment(i.At), Show: parts.Tight(web.Moment(i.At))},
			web.Money(i.Amount.Minor()), web.Money(-i.Fee.Fee), web.Money(i.Amount.Minor() - i.Fee.Fee)}}
		if rrn := rrnOf(i.Ref); rrn != "" {
			row.Href, row.Drawer = "/merchant/sales/"+rrn, true
		} else if i.Card != fee.None {
			row.Href, row.Drawer = feeLink(i), true
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// rrnOf is the reference number in the reference of a switch's item.
func rrnOf(ref string) string {
	for _, kind := range []string{"sale:", "refund:", "void:"} {
		if n := len(kind); len(ref) == n+12 && ref[:n] == kind {
			return ref[n:]
		}
	}
	return ""
}

func feeLink(i settlement.Priced) string {
	return fmt.Sprintf("%s?amount=%d.%02d&card=%s&day=%s", atFees, abs(i.Amount.Minor())/100, abs(i.Amount.Minor())%100, i.Card, calendar.Of(i.At, calendar.Beijing))
}

func abs(n int64) int64 { return max(n, -n) }
