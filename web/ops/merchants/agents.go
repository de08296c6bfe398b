package merchants

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"koala/calendar"
	"koala/internal/db"
	"koala/merchant"
	"koala/web"
	"koala/web/ops/shell"
)

// mostDeep is how many levels of agents a page shows.
const mostDeep = 6

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
		return branch(ctx, q, "", 0, today, due, &t)
	})
	if err != nil {
		return fmt.Errorf("agents: %w", err)
	}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, t)
	}
	return d.Desk.Show(w, r, page(), agentsPage(chart, t))
}

// branch adds the agents under one, each followed by its own.
func branch(ctx context.Context, q db.Reader, over string, deep int, day calendar.Date, due map[string]merchant.Due, t *web.Table) error {
	list, err := merchant.AgentsUnder(q, over)
	if err != nil || deep == mostDeep {
		return err
	}
	for _, a := range list {
		points := int64(0)
		path, err := merchant.PathOn(q, a.ID, day)
		if err != nil {
			return err
		}
		for _, s := range path {
			if s.Agent == a.ID {
				points = s.Points
			}
		}
		commission := shell.None()
		if x, ok := due[a.ID]; ok {
			commission = web.Money(x.Amount.Minor())
		}
		indent := strings.Repeat("\u2003", deep)
		t.Rows = append(t.Rows, web.Row{Href: here + "/agents/" + a.ID, Cells: []web.Cell{web.Mono(indent + a.ID), shell.Written(a.Name), shell.Short(fmt.Sprintf("%d.%02d %%", points/100, points%100)),
			web.Count(int64(due[a.ID].Count)), commission, shell.At(a.Made)}})
		if err := branch(ctx, q, a.ID, deep+1, day, due, t); err != nil {
			return err
		}
	}
	return nil
}
