package merchants

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/proposal"
	"koala/merchant"
	"koala/settlement"
	"koala/web"
	"koala/web/ops/shell"
)

// monthOf reads the month that is asked for: 2015-09, empty is that of now.
func monthOf(asked string, now time.Time) (calendar.Month, error) {
	if asked == "" {
		return calendar.MonthOf(now), nil
	}
	first, err := calendar.Parse(asked + "-01")
	if err != nil {
		return calendar.Month{}, fmt.Errorf("month %q: %w", asked, shell.ErrForm)
	}
	return first.MonthOf(), nil
}

// An agentView is one agent with the lines of a month.
type agentView struct {
	facts   []web.Fact
	figures []web.Figure
	acts    []shell.Question
	waiting waitingView
	list    shell.ListView
}

// statement shows an agent, and the lines of a month: what it was given of each
// closing's fees and what it gives back, which sum to the tree's commission.
func (d Deps) statement(w http.ResponseWriter, r *http.Request) error {
	ctx, pg, id := r.Context(), web.PageOf(r, shell.Rows), r.PathValue("id")
	month, err := monthOf(r.FormValue("month"), d.Desk.Store.Now())
	if err != nil {
		return err
	}
	var v agentView
	var list []merchant.Accrual
	var name string
	key := func(x merchant.Accrual) string { return x.Ref }
	shops := map[string]web.Text{}
	err = d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if name, err = v.about(ctx, q, id, d.today()); err != nil {
			return err
		}
		list, err = shell.Gather(pg, func(after string, limit int) ([]merchant.Accrual, error) {
			return merchant.Statement(q, id, month, after, limit)
		}, key, nil)
		for _, x := range list {
			if _, ok := shops[x.Shop]; ok || err != nil {
				continue
			}
			var s merchant.Shop
			s, err = merchant.ShopOf(q, x.Shop)
			shops[x.Shop] = shopName(s)
		}
		if err == nil {
			err = v.sums(q, id, month)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("statement of agent %s: %w", id, err)
	}
	payable := settlement.Payable(merchant.Payee(id))
	if b, err := d.Book.Balance(payable); err == nil {
		v.figures = append(v.figures, web.Figure{Name: words.Owed, Value: web.Yuan(b.Posted.Minor()), Icon: "book-open", Href: "/ops/books/account?id=" + string(payable)})
	}
	v.list.Table = statementTable(ctx, list, shops)
	v.list.Table.Next = shell.NextOf(r, list, pg, key)
	v.list.Filter = []web.Field{{Name: "month", Label: words.Month, Type: "month", Value: month.String()}}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.list.Table)
	}
	return d.Desk.Show(w, r, web.Page{Title: web.Same(name), Lead: words.AgentLead, Back: atAgents, Here: here}, agentPage(v))
}

func statementTable(ctx context.Context, list []merchant.Accrual, shops map[string]web.Text) web.Table {
	t := web.Table{ID: "statement", Empty: words.NoLines, Head: []web.Column{{Name: words.Booked}, {Name: words.Shop}, {Name: words.Charge}, {Name: words.What}, {Name: words.NetFee, Num: true}, {Name: words.Commission, Num: true}}}
	for _, x := range list {
		day, net, what := shell.None(), shell.None(), words.OfClosing
		if !x.Day.IsZero() {
			day = shell.Short(x.Day.String())
		}
		if !x.Net.IsZero() {
			net = web.Money(x.Net.Minor())
		}
		if strings.HasPrefix(x.Ref, "taken:") {
			what = words.OfDispute
		}
		t.Rows = append(t.Rows, web.Row{Href: here + "/shops/" + x.Shop, Cells: []web.Cell{shell.At(x.At), web.Plain(shops[x.Shop].In(ctx)), day, {Text: what.In(ctx), CSV: x.Ref}, net, web.Money(x.Amount.Minor())}})
	}
	return t
}

// about reads what an agent is, and what may be done about it.
func (v *agentView) about(ctx context.Context, q *db.Query, id string, today calendar.Date) (name string, err error) {
	all, err := merchant.TreeOn(q, today)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(all, func(b merchant.Branch) bool { return b.Agent.ID == id })
	if i < 0 {
		return "", merchant.ErrNotFound
	}
	b := all[i]
	tone, state := standing(b)
	over := web.Fact{Name: words.Over, Show: shell.Phrase(words.House)}
	if b.Over != "" {
		over = web.Fact{Name: words.Over, Value: b.Over, Mono: true, Href: atAgents + "/" + b.Over}
	}
	account, err := settlement.AccountOf(q, merchant.Payee(id))
	if err != nil {
		return "", err
	}
	bank := web.Fact{Name: words.Account, Show: web.Chip(web.Warn, words.NoAccount)}
	if account.Masked != "" {
		bank = web.Fact{Name: words.Account, Value: strings.TrimSpace(account.Bank + " " + account.Masked)}
	}
	v.facts = []web.Fact{{Name: words.Number, Value: id, Mono: true}, {Name: words.State, Show: web.Chip(tone, state)}, over, {Name: words.ShareOfFee, Show: shell.Phrase(share(b))}, bank,
		{Name: words.Since, Value: web.Moment(b.Agent.Made)}, {Name: words.Payday, Value: settlement.Payday(nextMonth(today)).String()}}
	v.acts = agentActs(b, all, today)
	list, err := proposal.About(q, agentKind+":"+id, shell.Rows)
	if err != nil {
		return "", err
	}
	list = slices.DeleteFunc(list, func(p proposal.Proposal) bool { return p.State != proposal.Open })
	v.waiting.table, v.waiting.acts, err = two.Show(ctx, q, list)
	return b.Agent.Name, err
}

// nextMonth is the month in which a month is paid.
func nextMonth(day calendar.Date) calendar.Month {
	return calendar.Date{Year: day.Year, Month: day.Month, Day: 1}.AddDays(31).MonthOf()
}

func (v *agentView) sums(q *db.Query, id string, month calendar.Month) error {
	dues, err := merchant.DuesOf(q, month)
	for _, x := range dues {
		if x.Agent == id {
			v.figures = append(v.figures, web.Figure{Name: words.MonthSum.F(month.String()), Value: web.Yuan(x.Amount.Minor()), Icon: "coins"}, web.Figure{Name: words.Charges, Value: web.Number(x.Count), Icon: "receipt"})
		}
	}
	if err != nil {
		return err
	}
	paid, err := settlement.Paid(q, merchant.Payee(id))
	v.figures = append(v.figures, web.Figure{Name: words.PaidOut, Value: web.Yuan(paid.Minor()), Icon: "banknote"})
	return err
}
