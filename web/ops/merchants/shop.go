package merchants

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/merchant"
	"koala/money"
	"koala/report"
	"koala/settlement"
	"koala/switching"
	"koala/web"
	"koala/web/merchant/till"
	"koala/web/ops/shell"
)

// A shopView is one shop of a merchant.
type shopView struct {
	facts     []web.Fact
	figures   []web.Figure
	hours     web.BarChart
	verdict   web.Text
	tone      web.Tone
	findings  web.Table
	terminals web.Table
	last      web.Table
	payouts   web.Table
}

// behaviour is how many days of takings are compared with the trade.
const behaviour = 30

func (d Deps) shop(w http.ResponseWriter, r *http.Request) error {
	ctx, now := r.Context(), d.Desk.Store.Now()
	today := calendar.Of(now, calendar.Beijing)
	var s merchant.Shop
	var v shopView
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if s, err = merchant.ShopOf(q, r.PathValue("id")); err != nil {
			return err
		}
		to := today.AddDays(1).Start(calendar.Beijing)
		list, err := report.Takings(q, s.ID, to.Add(-behaviour*24*time.Hour), to)
		if err != nil {
			return err
		}
		if err := v.behaves(s, today, list); err != nil {
			return err
		}
		if err := v.tables(ctx, q, s); err != nil {
			return err
		}
		v.facts = []web.Fact{{Name: words.State, Show: web.Chip(tones[s.State], shell.Both(s.State.Words))}, {Name: words.Merchant, Value: s.Merchant, Href: here + "/" + s.Merchant}, {Name: words.Shop, Value: s.ID, Mono: true}, {Name: words.MID, Value: s.MID, Mono: true},
			{Name: words.Category, Value: s.MCC + " " + shell.Both(s.Category().Name).In(ctx)}, {Name: words.City, Show: shell.Phrase(cityName(s.City))}, {Name: words.Address, Show: web.AsWritten(s.Address)}}
		terms, err := settlement.TermsOf(q, s.ID, today)
		if err == nil && terms.Category != "" {
			v.facts = append(v.facts, web.Fact{Name: words.Fees, Value: string(terms.Category) + " " + terms.Price, Href: "/ops/terms/" + s.ID})
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a shop: %w", err)
	}
	if b, err := d.Book.Balance(settlement.Payable(s.ID)); err == nil {
		v.figures = append(v.figures, web.Figure{Name: words.Owed, Value: web.Yuan(b.Posted.Minor()), Icon: "book-open", Href: "/ops/books/account?id=" + string(settlement.Payable(s.ID))})
	}
	return d.Desk.Show(w, r, web.Page{Title: shopName(s), Lead: cityName(s.City), Back: here + "/" + s.Merchant, Here: here}, shopPage(v))
}

// stands says that the money of a transaction is the shop's, or will be.
func stands(state string) bool {
	return state == string(switching.Approved) || state == string(switching.Cleared)
}

// behaves compares takings with what the shop's trade lets expect.
func (v *shopView) behaves(s merchant.Shop, day calendar.Date, list []report.Taking) error {
	var t merchant.Takings
	t.Sum = money.Fen(0)
	sums := [24]int64{}
	for _, x := range list {
		k := switching.KindNamed(x.Kind)
		if k == nil || k.Side != switching.Debits || !stands(x.State) {
			continue
		}
		t.Hours[x.Hour] += x.Count
		sums[x.Hour] += x.Fen
		t.Sum = t.Sum.Add(money.Fen(x.Fen))
		if x.Class == "credit" {
			t.Credit += x.Count
		}
		if x.Round {
			t.Round += x.Count
		}
	}
	v.hours = web.BarChart{ID: "hours", Title: words.ByHour, What: words.Hour, Of: words.Takings, Money: true, Every: 3}
	for h, fen := range sums {
		v.hours.Bars = append(v.hours.Bars, web.Bar{Label: web.Same(fmt.Sprintf("%02d", h)), Full: web.Same(fmt.Sprintf("%02d:00", h)), Value: fen, Note: words.HowManySales.F(t.Hours[h])})
	}
	v.figures = []web.Figure{{Name: words.TakingsMonth, Value: web.Yuan(t.Sum.Minor()), Icon: "coins"}, {Name: words.Sales, Value: web.Number(t.Count()), Icon: "receipt"}}
	rep, err := merchant.Behave(s.MCC, day, t)
	if err != nil {
		return err
	}
	v.tone, v.verdict = web.Good, words.AsItsTrade
	if t.Count() == 0 {
		v.tone, v.verdict = web.Neutral, words.NothingToCompare
	}
	if len(rep.Findings) > 0 {
		v.tone, v.verdict = web.Info, words.SomeFindings
	}
	if rep.Suspicious() {
		v.tone, v.verdict = web.Warn, shell.Both(rep.Words)
	}
	v.findings = web.Table{ID: "findings", NoCSV: true, Empty: words.NoFindings, Head: []web.Column{{Name: words.Finding, Wide: true}, {Name: words.Is, Num: true}, {Name: words.Expected, Num: true}}}
	for _, f := range rep.Findings {
		say := func(n int64) string { return fmt.Sprintf("%d.%d %%", n/100, n%100/10) }
		if f.What == "average" {
			say = web.Yuan
		}
		v.findings.Rows = append(v.findings.Rows, web.Row{Cells: []web.Cell{{Text: f.EN, Show: shell.Phrase(web.Text{ZH: f.ZH, EN: f.EN})}, shell.Short(say(f.Is)), shell.Short(say(f.Low) + " – " + say(f.High))}})
	}
	return nil
}

// tables reads the shop's terminals, last transactions and payouts.
func (v *shopView) tables(ctx context.Context, q db.Reader, s merchant.Shop) error {
	ts, err := merchant.TerminalsOf(q, s.ID, "", shell.Rows)
	if err != nil {
		return err
	}
	v.terminals = web.Table{ID: "terminals", NoCSV: true, Empty: words.NoTerminals, Head: []web.Column{{Name: words.Terminal}, {Name: words.Kind}, {Name: words.State}, {Name: words.Since, Num: true}}}
	for _, t := range ts {
		v.terminals.Rows = append(v.terminals.Rows, web.Row{Href: "/ops/terminals/" + t.TID, Cells: []web.Cell{web.Mono(t.TID), web.Plain(shell.Both(t.Kind.Words).In(ctx)), web.Plain(shell.Both(t.Life.Words).In(ctx)), shell.At(t.Made)}})
	}
	list, err := switching.Live(q, switching.Filter{Shop: s.ID, Limit: 10})
	if err != nil {
		return err
	}
	v.last = web.Table{ID: "last", NoCSV: true, Empty: words.NothingSold, Head: []web.Column{{Name: words.At}, {Name: words.Kind}, {Name: words.State}, {Name: words.Terminal}, {Name: words.Amount, Num: true}}}
	for _, t := range list {
		v.last.Rows = append(v.last.Rows, web.Row{Href: "/ops/switch/transactions/" + t.RRN, Drawer: true, Cells: []web.Cell{{Text: web.Moment(t.At), Show: shell.Tight(web.Moment(t.At))}, web.Plain(till.Kind(t.Kind).In(ctx)), till.State(ctx, t.State), web.Mono(t.TID), web.Money(till.Signed(t))}})
	}
	payouts, err := settlement.Payouts(q, s.ID, "", 10)
	v.payouts = web.Table{ID: "payouts", NoCSV: true, Empty: words.NoPayouts, Head: []web.Column{{Name: words.Day}, {Name: words.Items, Num: true}, {Name: words.Amount, Num: true}, {Name: words.Arrives, Num: true}}}
	for _, p := range payouts {
		v.payouts.Rows = append(v.payouts.Rows, web.Row{Href: "/ops/settlement/payouts/" + p.ID, Cells: []web.Cell{shell.Short(p.Day.String()), web.Count(int64(p.Count)), web.Money(p.Amount.Minor()), shell.Short(p.Arrives.String())}})
	}
	return err
}
