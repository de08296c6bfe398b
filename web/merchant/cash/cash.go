// Package cash is where a merchant sees its money on the way: the calendar of
// settlement with what arrives when, being paid at once for a price, payouts
// with the lines behind them, statements, signed bills, and why a fee is what
// it is. What anything costs is settlement's to say; these pages only show it.
// Start at Routes.
package cash

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/settlement/fee"
	"koala/web"
	"koala/web/merchant/shell"
)

// Deps is what these pages are made of.
type Deps struct {
	Desk  shell.Desk
	Book  *ledger.Book
	Bills Keys
}

// Routes adds the pages to the console.
func Routes(m *web.Mux, d Deps) {
	d.Desk.Route(m, "GET /merchant/money", shell.SeeMoney, d.calendar)
	d.Desk.Route(m, "GET /merchant/money/days/{day}", shell.SeeMoney, d.day)
	d.Desk.Route(m, "GET /merchant/money/now", shell.TakeMoney, d.offer)
	d.Desk.Route(m, "POST /merchant/money/now", shell.TakeMoney, d.payNow)
	d.Desk.Route(m, "POST /merchant/money/now/ask", shell.TakeMoney, d.ask)
	d.Desk.Route(m, "POST /merchant/money/now/unask", shell.TakeMoney, d.unask)
	d.Desk.Route(m, "GET /merchant/payouts", shell.SeeMoney, d.payouts)
	d.Desk.Route(m, "GET /merchant/payouts/{id}", shell.SeeMoney, d.payout)
	d.Desk.Route(m, "GET /merchant/statements", shell.SeeMoney, d.statements)
	d.Desk.Route(m, "GET /merchant/statements/{month}", shell.SeeMoney, d.statement)
	d.Desk.Route(m, "GET /merchant/statements/{month}/file", shell.SeeMoney, d.statementFile)
	d.Desk.Route(m, "POST /merchant/bills", shell.SeeMoney, d.makeBill)
	d.Desk.Route(m, "GET /merchant/bills/{period}", shell.SeeMoney, d.bill)
	d.Desk.Route(m, "GET /merchant/bills/{period}/file", shell.SeeMoney, d.billFile)
	d.Desk.Route(m, "GET /merchant/bills/{period}/signature", shell.SeeMoney, d.billSignature)
	d.Desk.Route(m, "GET /merchant/fees", shell.SeeMoney, d.fees)
}

const (
	atMoney      = "/merchant/money"
	atPayouts    = "/merchant/payouts"
	atStatements = "/merchant/statements"
	atFees       = "/merchant/fees"
)

// needShop refuses pages of money to a merchant that has no shop with a number
// yet: it is nobody's payee.
func needShop(s shell.Seat) error {
	if s.Shop.MID == "" {
		return fmt.Errorf("merchant %s: %w", s.Merchant.ID, shell.ErrNoShop)
	}
	return nil
}

// dateOf reads a day of an address.
func dateOf(r *http.Request, name string) (calendar.Date, error) {
	day, err := calendar.Parse(r.PathValue(name))
	if err != nil {
		return day, fmt.Errorf("day %q: %w", r.PathValue(name), shell.ErrForm)
	}
	return day, nil
}

// monthOf reads a month, 2015-09.
func monthOf(text string) (calendar.Month, error) {
	day, err := calendar.Parse(text + "-01")
	if err != nil {
		return calendar.Month{}, fmt.Errorf("month %q: %w", text, shell.ErrForm)
	}
	return day.MonthOf(), nil
}

func firstOf(m calendar.Month) calendar.Date {
	return calendar.Date{Year: m.Year, Month: m.Month, Day: 1}
}
func lastOf(m calendar.Month) calendar.Date { return firstOf(nextOf(m)).AddDays(-1) }

// nextOf is the month after m.
func nextOf(m calendar.Month) calendar.Month { return firstOf(m).AddDays(31).MonthOf() }

// shortDay writes a date as people say it.
func shortDay(ctx context.Context, d calendar.Date) string {
	return web.Day(ctx, d.Start(calendar.Beijing))
}

// dayText is shortDay in both languages.
func dayText(d calendar.Date) web.Text {
	at := d.Start(calendar.Beijing)
	return web.Text{ZH: web.Day(web.WithLang(context.Background(), web.ZH), at), EN: web.Day(web.WithLang(context.Background(), web.EN), at)}
}

// lines puts settlement's own explanation into the page's.
func lines(list []fee.Line) (out []web.Line) {
	for i, l := range list {
		out = append(out, web.Line{Text: web.Text{ZH: l.ZH, EN: l.EN}, Value: web.Yuan(l.Fen.Minor()), Total: i == len(list)-1})
	}
	return out
}

var payoutTones = map[settlement.State]web.Tone{settlement.Carried: web.Neutral, settlement.Waiting: web.Info, settlement.Sent: web.Info, settlement.Confirmed: web.Good, settlement.Returned: web.Bad}

var payoutWords = map[settlement.State]web.Text{settlement.Carried: words.Carried, settlement.Waiting: words.Waiting, settlement.Sent: words.OnTheWay, settlement.Confirmed: words.Arrived, settlement.Returned: words.Returned}

func stateCell(ctx context.Context, s settlement.State) web.Cell {
	return web.Status(ctx, payoutTones[s], payoutWords[s])
}

var classWords = map[fee.Class]web.Text{fee.Debit: words.Debit, fee.Credit: words.Credit, fee.Prepaid: words.Prepaid, fee.ECash: words.ECash, fee.None: words.NoCard}

var categoryWords = map[fee.Category]web.Text{fee.Dining: words.CatDining, fee.Property: words.CatProperty, fee.General: words.CatGeneral, fee.Wholesale: words.CatWholesale, fee.Living: words.CatLiving, fee.Welfare: words.CatWelfare}

// cardWords says what an item was paid with.
func cardWords(c fee.Class) web.Text {
	card, parts := c.Split()
	if parts == 0 {
		return classWords[card]
	}
	n := strconv.Itoa(parts)
	return web.Text{ZH: words.InParts.To(web.ZH, classWords[card].ZH, n), EN: words.InParts.To(web.EN, classWords[card].EN, n)}
}

// itemWords says what an item is.
func itemWords(kind string, amount money.Amount) web.Text {
	switch kind {
	case "sale":
		return words.Sale
	case "refund":
		return words.Refund
	case "reversal":
		return words.Reversal
	case settlement.Chargeback:
		return words.Chargeback
	case "chargeback_returned":
		return words.ChargebackBack
	}
	if amount.Sign() < 0 {
		return words.TakenBack
	}
	return words.Other
}

// closingsOn reads what was closed on a day of a shop.
func closingsOn(q *db.Query, shop string, day calendar.Date) (out []settlement.Payout, err error) {
	st, err := settlement.StatementOf(q, shop, day.MonthOf())
	for _, c := range st.Closings {
		if c.Day == day {
			out = append(out, c)
		}
	}
	return out, err
}

// titleOf fills a day into a title in both languages.
func titleOf(t web.Text, day calendar.Date) web.Text {
	name := dayText(day)
	return web.Text{ZH: t.To(web.ZH, name.ZH), EN: t.To(web.EN, name.EN)}
}

// sayFailure puts a failure of the house into words.
func sayFailure(err error) web.Text {
	f := fail.Of(err)
	return web.FailureText(f.Code, f.Text)
}
