package cash

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"koala/calendar"
	"koala/internal/db"
	"koala/money"
	"koala/settlement"
	"koala/settlement/fee"
	"koala/web"
	"koala/web/merchant/shell"
	parts "koala/web/ops/shell"
)

// monthsBack is how many months of statements are listed.
const monthsBack = 12

// A statementsView lists statements and bills.
type statementsView struct {
	months web.Table
	bills  web.Table
	days   []web.Option // closed days without a bill
	past   []web.Option // months that are over without one
}

func (d Deps) statements(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	if err := needShop(s); err != nil {
		return err
	}
	ctx := r.Context()
	this := calendar.Of(d.Desk.Store.Now(), calendar.Beijing).MonthOf()
	var months []settlement.Statement
	var bills []settlement.Bill
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		for m, n := this, 0; n < monthsBack; m, n = firstOf(m).AddDays(-1).MonthOf(), n+1 {
			st, err := settlement.StatementOf(q, s.Shop.ID, m)
			if err != nil {
				return err
			}
			if len(st.Closings) > 0 {
				months = append(months, st)
			}
		}
		bills, err = settlement.Bills(q, s.Shop.ID, 0, 400)
		return err
	})
	if err != nil {
		return fmt.Errorf("statements of %s: %w", s.Shop.ID, err)
	}
	v := statementsView{months: monthTable(months), bills: billTable(bills)}
	v.days, v.past = missingBills(months, bills, this)
	return d.Desk.List(w, r, s, web.Page{Title: words.Statements, Lead: words.StatementsLead, Here: atStatements}, v.months, statementsPage(v))
}

func monthTable(list []settlement.Statement) web.Table {
	t := web.Table{ID: "statements", Empty: words.NoStatements, Head: []web.Column{{Name: words.Month}, {Name: words.Gross, Num: true}, {Name: words.RefundsOf, Num: true}, {Name: words.FeeOf, Num: true},
		{Name: words.AtOnceFee, Num: true}, {Name: words.Paid, Num: true}, {Name: words.KeptAtEnd, Num: true}}}
	for _, x := range list {
		t.Rows = append(t.Rows, web.Row{Href: atStatements + "/" + x.Month.String(), Cells: []web.Cell{parts.Short(x.Month.String()), web.Money(x.Gross.Minor()), web.Money(x.Back.Minor()), web.Money(-x.Fee.Minor()),
			web.Money(x.Undone.Sub(x.Advance).Minor()), web.Money(x.Paid.Minor()), web.Money(x.Closing.Minor())}})
	}
	return t
}

func billTable(list []settlement.Bill) web.Table {
	t := web.Table{ID: "bills", NoCSV: true, Empty: words.NoBills, Head: []web.Column{{Name: words.Period}, {Name: words.Number, Num: true}, {Name: words.BillHash}, {Name: words.MadeAt, Num: true}}}
	for _, b := range list {
		t.Rows = append(t.Rows, web.Row{Href: "/merchant/bills/" + b.Period, Cells: []web.Cell{parts.Short(b.Period), web.Count(b.No), web.Mono(fmt.Sprintf("%x…", b.Hash[:8])), parts.At(b.At)}})
	}
	return t
}

// missingBills lists closed days and finished months that have no bill yet,
// newest first.
func missingBills(months []settlement.Statement, bills []settlement.Bill, this calendar.Month) (days, past []web.Option) {
	made := map[string]bool{}
	for _, b := range bills {
		made[b.Period] = true
	}
	for _, m := range months {
		if p := m.Month.String(); m.Month != this && !made[p] {
			past = append(past, web.Option{Value: p, Name: web.Same(p)})
		}
		for i := len(m.Closings) - 1; i >= 0; i-- {
			c := m.Closings[i]
			if p := c.Day.String(); c.Kind == settlement.NextDay && !made[p] {
				made[p] = true
				days = append(days, web.Option{Value: p, Name: dayText(c.Day)})
			}
		}
	}
	return days, past
}

// A statementView is one month.
type statementView struct {
	month   calendar.Month
	figures []web.Figure
	lines   []web.Line
	rows    web.Table
	chart   web.BarChart
}

func (d Deps) statement(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	ctx := r.Context()
	st, err := d.readStatement(r, s)
	if err != nil {
		return err
	}
	v := statementView{month: st.Month, rows: payoutTable(ctx, st.Closings)}
	v.rows.ID = "closings"
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.rows)
	}
	v.figures = []web.Figure{{Name: words.Gross, Value: web.Yuan(st.Gross.Minor()), Icon: "receipt"}, {Name: words.FeeOf, Value: web.Yuan(-st.Fee.Minor()), Icon: "scale"},
		{Name: words.RefundsOf, Value: web.Yuan(st.Back.Minor()), Icon: "history"}, {Name: words.Paid, Value: web.Yuan(st.Paid.Minor()), Tone: web.Good, Icon: "landmark"}}
	reserve := money.Fen(0)
	for _, c := range st.Closings {
		reserve = reserve.Sub(c.Reserved).Add(c.Released)
	}
	v.lines = []web.Line{{Text: words.KeptAtStart, Value: web.Yuan(st.Opening.Minor())}, {Text: words.Gross, Value: web.Yuan(st.Gross.Minor())}, {Text: words.RefundsOf, Value: web.Yuan(st.Back.Minor())},
		{Text: words.FeeOf, Value: web.Yuan(-st.Fee.Minor())}, {Text: words.Reserve, Value: web.Yuan(reserve.Minor())}, {Text: words.AtOnceFee, Value: web.Yuan(-st.Advance.Minor())},
		{Text: words.KeptAtEnd, Value: web.Yuan(-st.Closing.Minor())}, {Text: words.Paid, Value: web.Yuan(st.Paid.Minor()), Total: true}}
	v.chart = netChart(grid(st.Month, calendar.Of(d.Desk.Store.Now(), calendar.Beijing), st.Closings, nil))
	return d.Desk.Show(w, r, s, web.Page{Title: words.StatementOf.F(st.Month.String()), Lead: words.StatementLead, Back: atStatements, Here: atStatements}, statementPage(v))
}

func (d Deps) readStatement(r *http.Request, s shell.Seat) (st settlement.Statement, err error) {
	if err := needShop(s); err != nil {
		return st, err
	}
	month, err := monthOf(r.PathValue("month"))
	if err != nil {
		return st, err
	}
	err = d.Desk.Store.Read(r.Context(), func(q *db.Query) (err error) {
		st, err = settlement.StatementOf(q, s.Shop.ID, month)
		return err
	})
	return st, err
}

func (d Deps) statementFile(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	st, err := d.readStatement(r, s)
	if err != nil {
		return err
	}
	return shell.Download(w, "statement-"+st.Month.String()+".csv", "text/csv; charset=utf-8", st.CSV())
}

// A feesView explains what a sale costs.
type feesView struct {
	form     []web.Field
	answer   []web.Line
	share    web.Parted
	table    web.Table
	facts    []web.Fact
	category web.Text
	mcc      string
}

// exampleSale is what the page prices before anybody asks, fen.
const exampleSale = 100_00

// fees answers why a sale costs what it costs: settlement explains it, by the
// rows in force on the day of the sale.
func (d Deps) fees(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	if err := needShop(s); err != nil {
		return err
	}
	ctx := r.Context()
	ask := readAsk(r, calendar.Of(d.Desk.Store.Now(), calendar.Beijing))
	var terms settlement.Terms
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		terms, err = settlement.TermsOf(q, s.Shop.ID, ask.day)
		return err
	})
	if err != nil {
		return fmt.Errorf("terms of %s: %w", s.Shop.ID, err)
	}
	v := feesView{form: ask.form(), mcc: s.Shop.MCC, category: categoryWords[terms.Category]}
	v.facts = termFacts(terms)
	if terms.Category == "" {
		v.category = words.CatNone
		return d.Desk.Show(w, r, s, web.Page{Title: words.Fees, Lead: words.FeesLead, Here: atFees}, feesPage(v))
	}
	tariff, err := settlement.Statutes().Tariff(ask.day, terms.Category, terms.Price)
	if err != nil {
		return fmt.Errorf("tariff of %s: %w", s.Shop.ID, err)
	}
	v.form = ask.form(tariff.Parts()...)
	cost := tariff.Of(ask.fen, ask.class)
	for _, l := range tariff.Explain(ask.fen, terms.Category, ask.class) {
		v.answer = append(v.answer, web.Line{Text: web.Text{ZH: l.ZH, EN: l.EN}, Value: web.Yuan(l.Fen.Minor())})
	}
	v.share = web.Parted{Title: words.FeeIs, Money: true, Parts: feeParts(cost)}
	v.table = priceTable(ctx, tariff)
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.table)
	}
	return d.Desk.Show(w, r, s, web.Page{Title: words.Fees, Lead: words.FeesLead, Here: atFees}, feesPage(v))
}

// An ask is a sale that somebody wants priced.
type ask struct {
	fen    int64
	amount string
	class  fee.Class
	day    calendar.Date
	wrong  [3]web.Text // of amount, card and day
}

func readAsk(r *http.Request, today calendar.Date) ask {
	a := ask{fen: exampleSale, amount: strings.TrimSpace(r.FormValue("amount")), class: fee.Debit, day: today}
	if a.amount == "" {
		a.amount = money.Fen(exampleSale).Yuan()
	} else if m, err := money.ParseYuan(a.amount); err != nil || m.Sign() <= 0 || m.Minor() > fee.MaxSale {
		a.wrong[0] = words.BadAmount
	} else {
		a.fen = m.Minor()
	}
	if c := fee.Class(r.FormValue("card")); c != "" {
		if c.Valid() {
			a.class = c
		} else {
			a.wrong[1] = words.BadCard
		}
	}
	if text := r.FormValue("day"); text != "" {
		day, err := calendar.Parse(text)
		if err != nil {
			a.wrong[2] = words.BadDay
		} else {
			a.day = day
		}
	}
	return a
}

// form asks for a sale; a credit card's may be in so many parts.
func (a ask) form(parts ...int) []web.Field {
	var options []web.Option
	for _, c := range fee.Classes {
		options = append(options, web.Option{Value: string(c), Name: classWords[c]})
	}
	for _, n := range parts {
		c := fee.Credit.In(n)
		options = append(options, web.Option{Value: string(c), Name: cardWords(c)})
	}
	return []web.Field{{Name: "amount", Label: words.Amount, Lead: "¥", Mode: "decimal", Value: a.amount, Error: a.wrong[0], Max: 16},
		{Name: "card", Label: words.Card, Type: "select", Options: options, Value: string(a.class), Error: a.wrong[1]},
		{Name: "day", Label: words.Day, Type: "date", Value: a.day.String(), Error: a.wrong[2]}}
}

// priceTable prices a few round sales with every class of card.
func priceTable(ctx context.Context, t fee.Tariff) web.Table {
	out := web.Table{ID: "prices", Caption: words.PriceTable, Head: []web.Column{{Name: words.Sale}}}
	for _, c := range fee.Classes {
		out.Head = append(out.Head, web.Column{Name: classWords[c], Num: true})
	}
	for _, fen := range []int64{10_00, 50_00, 100_00, 500_00, 1_000_00, 5_000_00, 20_000_00} {
		row := web.Row{Cells: []web.Cell{web.Money(fen)}}
		for _, c := range fee.Classes {
			row.Cells = append(row.Cells, web.Money(t.Of(fen, c).Fee))
		}
		out.Rows = append(out.Rows, row)
	}
	return out
}

func termFacts(t settlement.Terms) []web.Fact {
	hours := fmt.Sprintf("%02d:%02d", int(t.CutOff.Hours())%24, int(t.CutOff.Minutes())%60)
	every := words.BankDays
	switch {
	case t.Monthly:
		every = words.OnPayday
	case t.Holidays:
		every = words.EveryDay
	}
	out := []web.Fact{{Name: words.CutOff, Value: hours}, {Name: words.PaidOn, Show: parts.Phrase(every)}, {Name: words.Least, Value: web.Yuan(t.Least.Minor())}}
	if !t.Since.IsZero() {
		out = append(out, web.Fact{Name: words.Since, Value: t.Since.String()})
	}
	if t.ReserveBP > 0 {
		out = append(out, web.Fact{Name: words.Reserve, Show: parts.Phrase(words.ReserveIs.F(basisPoints(t.ReserveBP), t.ReserveDays))})
	}
	if t.Once.Agreed {
		out = append(out, web.Fact{Name: words.AtOnce, Show: parts.Phrase(words.OnceIs.F(basisPoints(t.Once.BPDay), web.Yuan(t.Once.Most.Minor())))})
	}
	return out
}
