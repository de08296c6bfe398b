package merchants

import (
	"fmt"
	"net/http"
	"strings"

	"koala/calendar"
	"koala/internal/db"
	"koala/merchant"
	"koala/web"
	"koala/web/ops/shell"
)

// agents shows who brings merchants, as a tree, with what each has earned this
// month.
func (d Deps) agents(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	today := calendar.Of(d.Desk.Store.Now(), calendar.Beijing)
	t := web.Table{ID: "agents", Empty: words.NoAgents, Head: []web.Column{{Name: words.Agent}, {Name: words.Name}, {Name: words.ShareOfFee, Num: true}, {Name: words.Charges, Num: true}, {Name: words.Commission, Num: true}, {Name: words.Since, Num: true}}}
	chart := web.BarChart{ID: "commission", Title: words.CommissionMonth, What: words.Agent, Of: words.Commission, Money: true}
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		dues, err := merchant.DuesOf(q, today.MonthOf())
		if err != nil {
			return err
		}
		due := map[string]merchant.Due{}
		for _, x := range dues {
			due[x.Agent] = x
			if len(chart.Bars) < 12 {
				chart.Bars = append(chart.Bars, web.Bar{Label: web.Same(x.Agent), Value: x.Amount.Minor()})
			}
		}
		all, err := merchant.TreeOn(q, today)
		for _, b := range all {
			t.Rows = append(t.Rows, branchRow(b, due))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("agents: %w", err)
	}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, t)
	}
	return d.Desk.Show(w, r, page(), agentsPage(chart, t))
}

// branchRow is an agent in the tree.
func branchRow(b merchant.Branch, due map[string]merchant.Due) web.Row {
	a, commission := b.Agent, shell.None()
	if x, ok := due[a.ID]; ok {
		commission = web.Money(x.Amount.Minor())
	}
	return web.Row{Href: here + "/agents/" + a.ID, Cells: []web.Cell{web.Mono(strings.Repeat("\u2003", b.Deep) + a.ID), shell.Written(a.Name),
		shell.Short(fmt.Sprintf("%d.%02d %%", b.Points/100, b.Points%100)), web.Count(due[a.ID].Count), commission, shell.At(a.Made)}}
}
