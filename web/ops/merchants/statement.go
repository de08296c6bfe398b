package merchants

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/merchant"
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

// statement shows the lines of an agent's month: what it was given of each
// closing's fees and what it gives back, which sum to the tree's commission.
func (d Deps) statement(w http.ResponseWriter, r *http.Request) error {
	ctx, pg, id := r.Context(), web.PageOf(r, shell.Rows), r.PathValue("id")
	month, err := monthOf(r.FormValue("month"), d.Desk.Store.Now())
	if err != nil {
		return err
	}
	var a merchant.Agent
	var list []merchant.Accrual
	var due merchant.Due
	key := func(x merchant.Accrual) string { return x.Ref }
	shops := map[string]web.Text{}
	err = d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if a, err = merchant.AgentOf(q, id); err != nil {
			return err
		}
		list, err = shell.Gather(pg, func(after string, limit int) ([]merchant.Accrual, error) {
			return merchant.Statement(q, id, month, after, limit)
		}, key, nil)
		if err != nil {
			return err
		}
		for _, x := range list {
			if _, ok := shops[x.Shop]; ok {
				continue
			}
			s, err := merchant.ShopOf(q, x.Shop)
			if err != nil {
				return err
			}
			shops[x.Shop] = shopName(s)
		}
		dues, err := merchant.DuesOf(q, month)
		for _, x := range dues {
			if x.Agent == id {
				due = x
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("statement of agent %s: %w", id, err)
	}
	t := web.Table{ID: "statement", Empty: words.NoLines, Head: []web.Column{{Name: words.Booked}, {Name: words.Shop}, {Name: words.Charge}, {Name: words.Commission, Num: true}}}
	for _, x := range list {
		t.Rows = append(t.Rows, web.Row{Href: here + "/shops/" + x.Shop, Cells: []web.Cell{shell.At(x.At), web.Plain(shops[x.Shop].In(ctx)), {Text: x.Ref[strings.LastIndex(x.Ref, ":")+1:], CSV: x.Ref}, web.Money(x.Amount.Minor())}})
	}
	t.Next = shell.NextOf(r, list, pg, key)
	p := page()
	p.Title = web.Same(a.Name)
	sum := int64(0)
	if due.Count > 0 {
		sum = due.Amount.Minor()
	}
	return d.Desk.List(w, r, p, shell.ListView{Table: t, Tabs: tabs("/agents"), Note: words.StatementNote.F(month.String(), due.Count, web.Yuan(sum)), Tone: web.Info,
		Filter: []web.Field{{Name: "month", Label: words.Month, Type: "month", Value: month.String()}}})
}
