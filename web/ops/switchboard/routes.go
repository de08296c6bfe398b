package switchboard

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"koala/internal/db"
	"koala/internal/proposal"
	"koala/issuing/bin"
	"koala/money"
	"koala/spec/pan"
	"koala/switching"
	"koala/switching/route"
	"koala/web"
	"koala/web/merchant/till"
	"koala/web/ops/shell"
)

// A routesView is the table of routes and the answer to a number that was tried.
type routesView struct {
	try    []web.Field
	answer []web.Line
	found  bool
	list   shell.ListView

	waiting web.Table // proposals
	acts    []shell.Question
}

func (d Deps) routes(w http.ResponseWriter, r *http.Request) error {
	ctx, pg := r.Context(), web.PageOf(r, shell.Rows)
	prefix, host, number := digits(r.FormValue("prefix")), r.FormValue("host"), digits(r.FormValue("number"))
	if len(number) > 19 {
		return fmt.Errorf("a card number of %d digits: %w", len(number), shell.ErrForm)
	}
	fen := int64(tryFen)
	if a, err := money.ParseYuan(r.FormValue("amount")); err == nil && a.Sign() > 0 {
		fen = a.Minor()
	}
	key := func(x route.Route) string { return x.Prefix }
	v := routesView{}
	var hosts []string
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		all, err := route.List(q, "", 1<<20)
		if err != nil {
			return err
		}
		for _, x := range all {
			if x.Host != "" && !slices.Contains(hosts, x.Host) {
				hosts = append(hosts, x.Host)
			}
		}
		if number != "" {
			v.answer, v.found = d.explain(ctx, all, number, fen)
		}
		waits, err := proposal.Waiting(q, route.Kind, shell.Rows)
		if err == nil {
			err = v.wait(ctx, d.two(), waits)
		}
		if err != nil {
			return err
		}
		rows := slices.DeleteFunc(slices.Clone(all), func(x route.Route) bool {
			return pg.After != "" && x.Prefix <= pg.After || !strings.HasPrefix(x.Prefix, prefix) || host != "" && !strings.EqualFold(x.Host, host)
		})
		if len(rows) > pg.Limit { // a page never ends between two lengths of one prefix
			end := pg.Limit
			for end < len(rows) && rows[end].Prefix == rows[end-1].Prefix {
				end++
			}
			rows = rows[:end]
		}
		v.list.Table = routeTable(ctx, rows)
		if len(rows) >= pg.Limit {
			v.list.Table.Next = shell.NextOf(r, rows[:pg.Limit], pg, func(route.Route) string { return key(rows[len(rows)-1]) })
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("routes: %w", err)
	}
	slices.Sort(hosts)
	v.list.Filter = []web.Field{{Name: "prefix", Label: words.Prefix, Type: "search", Mode: "numeric", Value: prefix, Max: 12}, {Name: "host", Label: words.Host, Type: "search", Value: host, Max: 32}}
	v.list.Acts = []shell.Question{routeQuestion(hosts)}
	v.try = []web.Field{{Name: "number", Label: words.TryNumber, Mode: "numeric", Max: 23}, {Name: "amount", Label: words.Amount, Mode: "decimal", Lead: "¥", Value: money.Fen(fen).Yuan(), Max: 12}}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.list.Table)
	}
	w.Header().Set("Cache-Control", "no-store") // a card number may stand in the address
	return d.Desk.Show(w, r, web.Page{Title: words.RoutesTitle, Lead: words.RoutesLead, Here: atRoutes}, routesPage(v))
}

// tryFen is the amount for which a number is tried when the form names none.
const tryFen = 100_00

func digits(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
}

func routeTable(ctx context.Context, list []route.Route) web.Table {
	t := web.Table{ID: "routes", Empty: words.NoRoutes, Head: []web.Column{{Name: words.Prefix}, {Name: words.Length, Num: true}, {Name: words.Host}, {Name: words.OtherWays}, {Name: words.Class}, {Name: words.Abroad}, {Name: words.StandIn, Num: true}, {Name: words.Source}}}
	for _, x := range list {
		length, limit, abroad := shell.None(), shell.None(), shell.None()
		if x.Length > 0 {
			length = web.Count(int64(x.Length))
		}
		if x.StandIn > 0 {
			limit = web.Money(x.StandIn)
		}
		if x.Foreign {
			abroad = web.Status(ctx, web.Info, words.Yes)
		}
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{web.Mono(x.Prefix), length, web.Plain(hostName(x.Host).In(ctx)), otherWays(x), web.Plain(till.Class(x.Class).In(ctx)), abroad, limit, web.Plain(x.Source)}})
	}
	return t
}

// otherWays are the further hosts of a route.
func otherWays(x route.Route) web.Cell {
	if len(x.Ways) == 0 {
		return shell.None()
	}
	return web.Mono(strings.Join(x.Ways, " "))
}

func routeQuestion(hosts []string) shell.Question {
	options := []web.Option{{Name: words.OwnBank}}
	for _, h := range hosts {
		options = append(options, web.Option{Value: h, Name: web.Same(h)})
	}
	classes := []web.Option{{Value: "debit", Name: till.Class("debit")}, {Value: "credit", Name: till.Class("credit")}, {Value: "prepaid", Name: till.Class("prepaid")}}
	return shell.Question{ID: "ask-route", Action: atRoutes, Open: words.SetRoute, Body: words.SetRouteBody, Icon: "plus", Receiver: "BIN", About: words.Affects,
		Fields: []web.Field{{Name: "newprefix", Label: words.Prefix, Mode: "numeric", Required: true, Max: 12}, {Name: "length", Label: words.Length, Hint: words.LengthHint, Mode: "numeric", Max: 2},
			{Name: "newhost", Label: words.Host, Type: "select", Options: options}, {Name: "ways", Label: words.OtherWays, Hint: words.OtherWaysHint, Max: 99},
			{Name: "class", Label: words.Class, Type: "select", Options: classes},
			{Name: "standin", Label: words.StandIn, Hint: words.StandInHint, Mode: "decimal", Lead: "¥", Max: 10}}}
}

// propose keeps a route that another person confirms.
func (d Deps) propose(w http.ResponseWriter, r *http.Request) error {
	x := route.Route{Prefix: digits(r.PostFormValue("newprefix")), Host: r.PostFormValue("newhost"), Class: r.PostFormValue("class"), Source: "staff", Ways: strings.FieldsFunc(r.PostFormValue("ways"), func(c rune) bool { return c == ' ' || c == ',' })}
	if x.Prefix == "" || !slices.Contains([]string{"debit", "credit", "prepaid"}, x.Class) {
		return fmt.Errorf("a route: %w", shell.ErrForm)
	}
	if s := r.PostFormValue("length"); s != "" {
		if _, err := fmt.Sscanf(s, "%d", &x.Length); err != nil || x.Length < 12 || x.Length > 19 {
			return fmt.Errorf("length of a number: %w", shell.ErrForm)
		}
	}
	if s := r.PostFormValue("standin"); s != "" {
		a, err := money.ParseYuan(s)
		if err != nil || a.Sign() < 0 {
			return fmt.Errorf("stand-in limit: %w", shell.ErrForm)
		}
		x.StandIn = a.Minor()
	}
	return d.two().Propose(d.Desk, w, r, atRoutes, x.About(), routeChange{Route: x})
}

func routeText(x route.Route) string {
	hosts := strings.Join(append([]string{hostName(x.Host).EN}, x.Ways...), ", ")
	return fmt.Sprintf("%s/%d → %s; %s, %s", x.Prefix, x.Length, hosts, x.Class, web.Yuan(x.StandIn))
}

// two is how two people change routes.
func (d Deps) two() shell.Two {
	return shell.Two{Path: atRoutes + "/proposals/%[2]s",
		Kinds: map[string]func() shell.Change{route.Kind: func() shell.Change { return &routeChange{loads: d.Switch} }},
		Words: shell.TwoWords{Proposed: words.RouteProposed, Done: words.RouteSet, Undone: words.ProposalUndone, Confirm: words.Confirm, ConfirmBody: words.SetRouteBody, TakeBack: words.UndoIt, TakeBackBody: words.UndoBody, Change: words.Affects}}
}

// decide confirms a proposed route, or takes the proposal back.
func (d Deps) decide(w http.ResponseWriter, r *http.Request) error {
	return d.two().Decide(d.Desk, w, r, route.Kind, r.PathValue("id"), r.PathValue("act"))
}

// A routeChange is a route that is proposed.
type routeChange struct {
	route.Route
	loads *switching.Host // which then uses it; nil while it is only tried
}

// Text is shell.Change's.
func (c routeChange) Text(db.Reader) web.Text { return web.Same(routeText(c.Route)) }

// Deed is shell.Change's: routes have an act for each state.
func (c routeChange) Deed(to proposal.State) shell.Deed {
	deed := shell.Deed{Act: shell.ActRoutePropose, Target: atRoutes, What: routeText(c.Route)}
	switch to {
	case proposal.Confirmed:
		deed.Act, deed.Target = shell.ActRoute, atRoutes+"?prefix="+c.Prefix
	case proposal.Undone:
		deed.Act = shell.ActRouteUndo
	}
	return deed
}

// Holds refuses hosts that no route has.
func (c routeChange) Holds(q db.Reader, _ time.Time) error {
	known, err := route.List(q, "", 1<<20)
	for _, host := range c.Hosts() {
		if err == nil && host != "" && !slices.ContainsFunc(known, func(k route.Route) bool { return k.Host == host }) {
			err = fmt.Errorf("no route has a host %.32q: %w", host, shell.ErrForm)
		}
	}
	return err
}

// Make is shell.Change's: the switch then uses the route at once.
func (c routeChange) Make(tx *db.Tx, _ proposal.Proposal) error {
	tx.After(func() { _ = c.loads.Reload(context.Background()) }) // it reads the table again at its start anyway
	return route.Set(tx, c.Route)
}

// wait shows the proposals that another person has to confirm, and what who looks
// may do about them.
func (v *routesView) wait(ctx context.Context, two shell.Two, list []proposal.Proposal) error {
	v.waiting = web.Table{ID: "proposals", NoCSV: true, Head: []web.Column{{Name: words.Prefix}, {Name: words.Length, Num: true}, {Name: words.Host}, {Name: words.OtherWays}, {Name: words.Class}, {Name: words.StandIn, Num: true}, {Name: words.Proposer}, {Name: words.Reason}, {Name: words.At, Num: true}}}
	for _, p := range list {
		var x route.Route
		if err := p.Read(&x); err != nil {
			return fmt.Errorf("proposal %s: %w", p.ID, err)
		}
		length, limit := shell.None(), shell.None()
		if x.Length > 0 {
			length = web.Count(int64(x.Length))
		}
		if x.StandIn > 0 {
			limit = web.Money(x.StandIn)
		}
		v.waiting.Rows = append(v.waiting.Rows, web.Row{Cells: []web.Cell{web.Mono(x.Prefix), length, web.Plain(hostName(x.Host).In(ctx)), otherWays(x), web.Plain(till.Class(x.Class).In(ctx)), limit, web.Plain(p.By), shell.Written(p.Why), shell.At(p.At)}})
		if len(v.acts) >= 2*mostActs {
			continue
		}
		v.acts = append(v.acts, two.Ask(ctx, p, routeText(x), x.Prefix)...)
	}
	return nil
}

// explain says where a number would go and why.
func (d Deps) explain(ctx context.Context, all []route.Route, number string, fen int64) (out []web.Line, found bool) {
	add := func(t web.Text, value string) { out = append(out, web.Line{Text: t, Value: value}) }
	if n, err := pan.Parse(number); err != nil {
		add(words.BadNumber, "")
	} else {
		add(words.GoodNumber, n.Masked())
	}
	var best route.Route
	for _, x := range all {
		if !strings.HasPrefix(number, x.Prefix) {
			continue
		}
		fits := x.Length == 0 || x.Length == len(number)
		if !fits {
			add(words.OtherLength.F(x.Prefix, x.Length), "")
			continue
		}
		if len(x.Prefix) > len(best.Prefix) || len(x.Prefix) == len(best.Prefix) && x.Length > best.Length {
			best = x
		}
	}
	if best.Prefix == "" {
		add(words.NoRoute, "15")
		return out, false
	}
	add(words.LongestIs.F(best.Prefix, best.Source), "")
	if n, err := pan.Parse(number); err == nil {
		if b, ok := bin.Of(n); ok {
			add(words.PublishedAs.F(b.Bank), b.Type)
		}
	}
	add(words.ClassIs, till.Class(best.Class).In(ctx))
	if best.Host == "" {
		out = append(out, web.Line{Text: words.OwnDecides, Value: words.OwnBank.In(ctx), Total: true})
		return out, true
	}
	ways := d.Switch.Ways(best, fen)
	here := slices.ContainsFunc(d.Switch.Peers(), func(h switching.Health) bool { return h.Host == ways[0].Host })
	if !here {
		add(words.NoWay, "91")
	}
	for _, w := range ways {
		if len(best.Ways) > 0 {
			add(words.WayCosts.F(w.Host), costText(ctx, w))
		}
	}
	if best.StandIn > 0 {
		add(words.StandsIn, web.Yuan(best.StandIn))
	}
	out = append(out, web.Line{Text: words.GoesTo, Value: ways[0].Host, Total: true})
	return out, true
}

// costText is what a way costs, and whether it is out of reach.
func costText(ctx context.Context, c route.Choice) string {
	text := words.CostUnknown.In(ctx)
	if c.Known {
		text = percent(c.PPM)
	}
	if c.Down {
		text += ", " + words.OutOfReach.In(ctx)
	}
	return text
}

// percent writes millionths as a percentage with three decimals.
func percent(ppm int64) string { return fmt.Sprintf("%d.%03d%%", ppm/10_000, ppm%10_000/10) }
