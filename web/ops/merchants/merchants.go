// Package merchants is where staff see who the house has contracts with: the
// list, the way from application to first sale, the desk that decides, merchants
// on a map, agents, who gets no contract, what shops wish, and shops whose takings
// are not those of their trade. Start at Routes.
package merchants

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"koala/calendar"
	"koala/internal/db"
	"koala/ledger"
	"koala/merchant"
	"koala/report"
	"koala/switching"
	"koala/web"
	"koala/web/ops/shell"
)

// Deps is what these pages are made of.
type Deps struct {
	Desk      shell.Desk
	Book      *ledger.Book
	Switch    *switching.Host
	Merchants *merchant.Desk
	Unseal    func(ctx context.Context, sealed []byte) ([]byte, error) // of what merchants bring
}

const here = "/ops/merchants"

// Routes adds the pages to the console.
func Routes(m *web.Mux, d Deps) {
	m.Handle("GET "+here, d.list)
	m.Handle("GET "+here+"/desk", d.desk)
	m.Handle("GET "+here+"/funnel", d.funnel)
	m.Handle("GET "+here+"/map", d.cities)
	m.Handle("GET "+atAgents, d.agents)
	m.Handle("POST "+atAgents, d.makeAgent)
	m.Handle("GET "+atAgents+"/{id}", d.statement)
	m.Handle("POST "+atAgents+"/{id}/{act}", d.actOnAgent)
	m.Handle("GET "+atDeny, d.denials)
	m.Handle("POST "+atDeny, d.deny)
	m.Handle("POST "+atDeny+"/files/new", d.denyFile)
	m.Handle("GET "+atDeny+"/entries/{key}", d.denial)
	m.Handle("POST "+atDeny+"/entries/{key}", d.lift)
	m.Handle("GET "+atDeny+"/proposals/{id}", d.denyProposal)
	m.Handle("GET "+atWishes, d.wishes)
	m.Handle("POST "+atWishes+"/{tid}/{act}", d.answer)
	m.Handle("POST "+here+"/proposals/{kind}/{id}/{act}", d.decide)
	m.Handle("GET "+here+"/shops/{id}", d.shop)
	m.Handle("GET "+here+"/{id}", d.merchant)
	m.Handle("POST "+here+"/{id}/{act}", d.act)
	m.Handle("POST "+here+"/papers/{id}/{hash}", d.look)
}

func tabs(at string) []shell.Tab {
	var out []shell.Tab
	for _, t := range []struct {
		href string
		name web.Text
	}{{"", words.Merchants}, {"/desk", words.Desk}, {"/funnel", words.Funnel}, {"/map", words.Map}, {"/agents", words.Agents}, {"/deny", words.DenyList}, {"/wishes", words.Wishes}} {
		out = append(out, shell.Tab{Href: here + t.href, Name: t.name, Here: t.href == at})
	}
	return out
}

func page() web.Page { return web.Page{Title: words.Title, Lead: words.Lead, Here: here} }

var tones = map[merchant.State]web.Tone{merchant.Applied: web.Info, merchant.Checking: web.Warn, merchant.Approved: web.Info, merchant.Refused: web.Bad, merchant.Active: web.Good,
	merchant.Suspended: web.Bad, merchant.Closed: web.Neutral}

func stateCell(ctx context.Context, s merchant.State) web.Cell {
	return web.Status(ctx, tones[s], shell.Both(s.Words))
}

func cityName(code string) web.Text {
	c, err := merchant.FindCity(code)
	if err != nil {
		return web.Same(code)
	}
	return web.Text{ZH: c.NameZH, EN: c.NameEN}
}

func shopName(s merchant.Shop) web.Text { return web.Text{ZH: s.NameZH, EN: s.NameEN} }

// list shows every merchant, filtered.
func (d Deps) list(w http.ResponseWriter, r *http.Request) error {
	ctx, pg := r.Context(), web.PageOf(r, shell.Rows)
	f := merchant.Filter{State: merchant.State(r.FormValue("state")), Agent: strings.TrimSpace(r.FormValue("agent")), Name: strings.TrimSpace(r.FormValue("name"))}
	if f.State != "" && !slices.Contains(merchant.States, f.State) {
		return fmt.Errorf("filter of merchants: %w", shell.ErrForm)
	}
	city := strings.TrimSpace(r.FormValue("city"))
	if city != "" {
		c, err := merchant.FindCity(city)
		if err != nil {
			return fmt.Errorf("filter of merchants: %w", err)
		}
		f.City = c.Code
	}
	key := func(m merchant.Merchant) string { return m.ID }
	var list []merchant.Merchant
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = shell.Gather(pg, func(after string, limit int) ([]merchant.Merchant, error) {
			f.After, f.Limit = after, limit
			return merchant.List(q, f)
		}, key, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("merchants: %w", err)
	}
	options := []web.Option{{Name: words.All}}
	for _, s := range merchant.States {
		options = append(options, web.Option{Value: string(s), Name: shell.Both(s.Words)})
	}
	t := merchantTable(ctx, list)
	t.Next = shell.NextOf(r, list, pg, key)
	return d.Desk.List(w, r, page(), shell.ListView{Table: t, Tabs: tabs(""), Filter: []web.Field{{Name: "state", Label: words.State, Type: "select", Options: options, Value: string(f.State)},
		{Name: "city", Label: words.City, Type: "search", Value: city, Max: 40}, {Name: "name", Label: words.NameBegins, Type: "search", Value: f.Name, Max: 60}, {Name: "agent", Label: words.Agent, Type: "search", Value: f.Agent, Max: 40}}})
}

func merchantTable(ctx context.Context, list []merchant.Merchant) web.Table {
	t := web.Table{ID: "merchants", Empty: words.NoMerchants, EmptyDo: &web.Link{Href: "/merchant/apply", Name: words.ToApply}, Head: []web.Column{{Name: words.Name}, {Name: words.State}, {Name: words.Form}, {Name: words.City},
		{Name: words.Risk}, {Name: words.Agent}, {Name: words.Since, Num: true}}}
	for _, m := range list {
		agent := shell.None()
		if m.Agent != "" {
			agent = web.Mono(m.Agent)
		}
		t.Rows = append(t.Rows, web.Row{Href: here + "/" + m.ID, Cells: []web.Cell{shell.Written(m.Name), stateCell(ctx, m.State), web.Plain(shell.Both(m.Form.Words).In(ctx)), shell.Short(cityName(m.City).In(ctx)),
			web.Mono(string(m.Risk)), agent, shell.At(m.Changed)}})
	}
	return t
}

// desk lists what waits for a decision, the oldest first.
func (d Deps) desk(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	var list []merchant.Merchant
	open := map[string][]merchant.What{}
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		for _, s := range []merchant.State{merchant.Checking, merchant.Applied} {
			some, err := merchant.List(q, merchant.Filter{State: s, Limit: shell.Rows})
			if err != nil {
				return err
			}
			for _, m := range some {
				if open[m.ID], err = merchant.Missing(q, m); err != nil {
					return err
				}
			}
			list = append(list, some...)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("application desk: %w", err)
	}
	now := d.Desk.Store.Now()
	t := web.Table{ID: "desk", Empty: words.NothingWaits, Head: []web.Column{{Name: words.Name}, {Name: words.State}, {Name: words.City}, {Name: words.Form}, {Name: words.OpenChecks, Wide: true}, {Name: words.Waits, Num: true}}}
	for _, m := range list {
		var what []string
		for _, x := range open[m.ID] {
			what = append(what, shell.Both(x.Words).In(ctx))
		}
		checks := web.Status(ctx, web.Good, words.NothingOpen)
		if len(what) > 0 {
			checks = web.Plain(strings.Join(what, " · "))
		}
		t.Rows = append(t.Rows, web.Row{Href: here + "/" + m.ID, Cells: []web.Cell{shell.Written(m.Name), stateCell(ctx, m.State), web.Plain(cityName(m.City).In(ctx)), web.Plain(shell.Both(m.Form.Words).In(ctx)), checks,
			{Text: shell.Ago(now, m.Changed).In(ctx), CSV: web.When(m.Changed).Text}}})
	}
	return d.Desk.List(w, r, page(), shell.ListView{Table: t, Tabs: tabs("/desk")})
}

// A funnelView is how far merchants have come.
type funnelView struct {
	figures []web.Figure
	states  web.BarChart
	parts   web.Parted
}

func (d Deps) funnel(w http.ResponseWriter, r *http.Request) error {
	var list []merchant.Count
	err := d.Desk.Store.Read(r.Context(), func(q *db.Query) (err error) {
		list, err = merchant.Funnel(q)
		return err
	})
	if err != nil {
		return fmt.Errorf("funnel: %w", err)
	}
	v := funnelView{states: web.BarChart{ID: "funnel", Title: words.FunnelTitle, What: words.Step, Of: words.Merchants}, parts: web.Parted{Title: words.Where}}
	n, all := map[merchant.State]int64{}, int64(0)
	for _, c := range list {
		n[c.State], all = c.N, all+c.N
		v.parts.Parts = append(v.parts.Parts, web.Slice{Name: shell.Both(c.State.Words), Value: c.N})
	}
	passed := n[merchant.Approved] + n[merchant.Active] + n[merchant.Suspended] + n[merchant.Closed]
	steps := []struct {
		name web.Text
		n    int64
	}{{words.StepApplied, all}, {words.StepChecked, all - n[merchant.Applied]}, {words.StepApproved, passed}, {words.StepSells, passed - n[merchant.Approved]}}
	for i, s := range steps {
		b := web.Bar{Label: s.name, Value: s.n}
		if i > 0 && steps[i-1].n > 0 {
			b.Note = words.OfStepBefore.F(s.n * 100 / steps[i-1].n)
		}
		v.states.Bars = append(v.states.Bars, b)
	}
	v.figures = []web.Figure{{Name: words.Merchants, Value: web.Number(all), Icon: "store"}, {Name: words.Waiting, Value: web.Number(n[merchant.Checking] + n[merchant.Applied]), Icon: "clock", Href: here + "/desk"},
		{Name: shell.Both(merchant.Active.Words), Value: web.Number(n[merchant.Active]), Icon: "circle-check", Tone: web.Good, Href: here + "?state=active"},
		{Name: shell.Both(merchant.Refused.Words), Value: web.Number(n[merchant.Refused]), Icon: "ban", Href: here + "?state=refused"}}
	if waits := n[merchant.Checking] + n[merchant.Applied]; waits > 0 {
		v.figures[1].Tone = web.Warn
	}
	return d.Desk.Show(w, r, page(), funnelPage(v))
}

// A mapView is merchants by city.
type mapView struct {
	of    []shell.Tab
	geo   web.GeoMap
	table web.Table
}

// cities shows merchants on a map, by their number or by what they took today
// and the six days before.
func (d Deps) cities(w http.ResponseWriter, r *http.Request) error {
	ctx, byMoney := r.Context(), r.FormValue("of") == "takings"
	today := calendar.Of(d.Desk.Store.Now(), calendar.Beijing)
	var counts []merchant.Count
	var takings []report.CityTaking
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if counts, err = merchant.Counts(q); err != nil {
			return err
		}
		takings, err = report.CityTakings(q, today.AddDays(-6).Start(calendar.Beijing), today.AddDays(1).Start(calendar.Beijing))
		return err
	})
	if err != nil {
		return fmt.Errorf("merchants by city: %w", err)
	}
	type sum struct{ all, active, sales, fen int64 }
	by := map[string]sum{}
	for _, c := range counts {
		s := by[c.City.Code]
		if s.all += c.N; c.State == merchant.Active {
			s.active += c.N
		}
		by[c.City.Code] = s
	}
	for _, t := range takings {
		s := by[t.City]
		s.sales, s.fen = t.Count, t.Fen
		by[t.City] = s
	}
	v := mapView{of: []shell.Tab{{Href: here + "/map", Name: words.ByNumber, Here: !byMoney}, {Href: here + "/map?of=takings", Name: words.ByTakings, Here: byMoney}},
		geo: web.GeoMap{Title: words.MapTitle, Money: byMoney, Names: 8}}
	if byMoney {
		v.geo.Title = words.MapTakings
	}
	v.table = web.Table{ID: "cities", Empty: words.NoMerchants, Head: []web.Column{{Name: words.City}, {Name: words.Province}, {Name: words.Merchants, Num: true}, {Name: words.Active, Num: true}, {Name: words.Sales, Num: true}, {Name: words.Takings, Num: true}}}
	all := merchant.Cities()
	for _, c := range all {
		s := by[c.Code]
		p := web.GeoPlace{Name: web.Text{ZH: c.NameZH, EN: c.NameEN}, Lat: c.Lat, Lon: c.Lon, Value: s.all, Note: words.TookWeek.F(web.Yuan(s.fen)), Href: here + "?city=" + c.Code}
		if byMoney {
			p.Value, p.Note = s.fen, words.HowMany.F(s.all)
		}
		v.geo.Places = append(v.geo.Places, p)
	}
	slices.SortStableFunc(all, func(a, b merchant.City) int { return int(by[b.Code].all - by[a.Code].all) })
	for _, c := range all {
		if s := by[c.Code]; s != (sum{}) {
			v.table.Rows = append(v.table.Rows, web.Row{Href: here + "?city=" + c.Code, Cells: []web.Cell{web.Plain(cityName(c.Code).In(ctx)), web.Plain(provinceOf(ctx, c)), web.Count(s.all), web.Count(s.active), web.Count(s.sales), web.Money(s.fen)}})
		}
	}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.table)
	}
	return d.Desk.Show(w, r, page(), mapPage(v))
}

// provinceOf names a city's province; the published list has it in Chinese.
func provinceOf(ctx context.Context, c merchant.City) string {
	if web.LangOf(ctx) == web.ZH {
		return c.ProvinceZH
	}
	return c.Code[:2] + "0000"
}
