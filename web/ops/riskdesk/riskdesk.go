// Package riskdesk is where people look at what the risk rules found: cases with
// their evidence, decisions with reasons, and the rules themselves, which are
// replayed on history before they come into force. Start at Routes.
package riskdesk

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"koala/internal/db"
	"koala/report"
	"koala/risk"
	"koala/web"
	"koala/web/ops/shell"
)

// Deps is what these pages are made of.
type Deps struct {
	Desk   shell.Desk
	Engine *risk.Engine
}

const (
	here    = "/ops/risk"
	atRules = here + "/rules"
)

// Routes adds the pages to the console.
func Routes(m *web.Mux, d Deps) {
	m.Handle("GET "+here, d.cases)
	m.Handle("GET "+atRules, d.rules)
	m.Handle("POST "+atRules, d.propose)
	m.Handle("GET "+atRules+"/{version}", d.set)
	m.Handle("POST "+atRules+"/{version}/{act}", d.actOnSet)
	m.Handle("GET "+here+"/{id}", d.kase)
	m.Handle("POST "+here+"/{id}/{act}", d.act)
}

func tabs(rules bool) []shell.Tab {
	return []shell.Tab{{Href: here, Name: words.Cases, Here: !rules}, {Href: atRules, Name: words.Rules, Here: rules}}
}

var stateTones = map[risk.CaseState]web.Tone{risk.Opened: web.Warn, risk.Assigned: web.Info, risk.Cleared: web.Good, risk.Confirmed: web.Bad}

var actionTones = map[risk.Action]web.Tone{risk.Allow: web.Good, risk.Review: web.Info, risk.Hold: web.Warn, risk.Refuse: web.Bad}

var states = []risk.CaseState{risk.Opened, risk.Assigned, risk.Cleared, risk.Confirmed}

// A casesView is the queue with figures.
type casesView struct {
	figures []web.Figure
	actions web.Parted
	list    shell.ListView
}

func (d Deps) cases(w http.ResponseWriter, r *http.Request) error {
	ctx, pg, now := r.Context(), web.PageOf(r, shell.Rows), d.Desk.Store.Now()
	state, shop := risk.CaseState(r.FormValue("state")), r.FormValue("shop")
	if state != "" && !slices.Contains(states, state) {
		return fmt.Errorf("filter of cases: %w", shell.ErrForm)
	}
	key := func(c risk.Case) string { return c.ID }
	v := casesView{actions: web.Parted{Title: words.Judged}}
	t := web.Table{ID: "cases", Empty: words.NoCases, Head: []web.Column{{Name: words.Shop}, {Name: words.State}, {Name: words.Asked}, {Name: words.Score, Num: true}, {Name: words.Facts, Num: true}, {Name: words.Amount, Num: true}, {Name: words.Payouts}, {Name: words.Assignee}, {Name: words.Opened, Num: true}}}
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		list, err := shell.Gather(pg, func(after string, limit int) ([]risk.Case, error) { return risk.Cases(q, state, shop, after, limit) }, key, nil)
		if err != nil {
			return err
		}
		t.Next = shell.NextOf(r, list, pg, key)
		for _, c := range list {
			held := shell.None()
			if c.Holding {
				held = web.Status(ctx, web.Warn, words.Held)
			}
			t.Rows = append(t.Rows, web.Row{Href: here + "/" + c.ID, Cells: []web.Cell{web.Plain(shell.ShopName(q, c.Shop).In(ctx)), web.Status(ctx, stateTones[c.State], shell.Both(c.State.Words)), web.Status(ctx, actionTones[c.Action], shell.Both(c.Action.Words)),
				web.Count(int64(c.Score)), web.Count(c.Facts), web.Money(c.Fen), held, web.Plain(dash(c.Assignee)), {Text: shell.Ago(now, c.At).In(ctx), CSV: web.When(c.At).Text}}})
		}
		return v.sums(q, now)
	})
	if err != nil {
		return fmt.Errorf("risk cases: %w", err)
	}
	options := []web.Option{{Name: words.All}}
	for _, s := range states {
		options = append(options, web.Option{Value: string(s), Name: shell.Both(s.Words)})
	}
	v.list = shell.ListView{Table: t, Events: "risk", Filter: []web.Field{{Name: "state", Label: words.State, Type: "select", Options: options, Value: string(state)}, {Name: "shop", Label: words.ShopID, Type: "search", Value: shop, Max: 40}}}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, t)
	}
	return d.Desk.Show(w, r, web.Page{Title: words.Title, Lead: words.Lead, Here: here}, casesPage(v))
}

// sums counts cases, and the judgements of the last day.
func (v *casesView) sums(q db.Reader, now time.Time) error {
	parts, err := report.Cases(q)
	if err != nil {
		return err
	}
	n := map[string]int64{}
	for _, p := range parts {
		n[p.Name] = p.Count
	}
	for _, s := range states {
		f := web.Figure{Name: shell.Both(s.Words), Value: web.Number(n[string(s)]), Href: here + "?state=" + string(s), Icon: map[risk.CaseState]string{risk.Opened: "circle-alert", risk.Assigned: "eye", risk.Cleared: "circle-check", risk.Confirmed: "ban"}[s]}
		if s == risk.Opened && n[string(s)] > 0 {
			f.Tone = web.Warn
		}
		v.figures = append(v.figures, f)
	}
	acts, err := report.Actions(q, now.Add(-24*time.Hour))
	by := map[string]int64{}
	for _, p := range acts {
		by[p.Name] = p.Count
	}
	for _, a := range []risk.Action{risk.Allow, risk.Review, risk.Hold, risk.Refuse} {
		v.actions.Parts = append(v.actions.Parts, web.Slice{Name: shell.Both(a.Words), Value: by[string(a)]})
	}
	return err
}

func dash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// A caseView is one case.
type caseView struct {
	facts    []web.Fact
	rules    web.Parted
	evidence []piece
	acts     []shell.Question
	trail    []web.Happening
}

// A piece is one fact of a case and why it is there.
type piece struct {
	head  web.Text
	href  string
	tone  web.Tone
	word  web.Text
	lines []web.Line
}

// mostEvidence is how many facts a page shows.
const mostEvidence = 50

func (d Deps) kase(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	var c risk.Case
	var name web.Text
	var list []risk.Evidence
	var acts []risk.Act
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if c, err = risk.CaseOf(q, r.PathValue("id")); err != nil {
			return err
		}
		name = shell.ShopName(q, c.Shop)
		if list, err = risk.EvidenceOf(q, c.ID, nil, mostEvidence); err != nil {
			return err
		}
		acts, err = risk.ActsOf(q, c.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a case: %w", err)
	}
	v := caseView{acts: questions(ctx, c), rules: web.Parted{Title: words.PointsByRule}}
	v.facts = []web.Fact{{Name: words.State, Show: web.Chip(stateTones[c.State], shell.Both(c.State.Words))}, {Name: words.Asked, Show: web.Chip(actionTones[c.Action], shell.Both(c.Action.Words))}, {Name: words.Shop, Value: name.In(ctx), Href: "/ops/merchants/shops/" + c.Shop},
		{Name: words.Score, Value: web.Number(int64(c.Score))}, {Name: words.Facts, Value: web.Number(c.Facts)}, {Name: words.Amount, Value: web.Yuan(c.Fen)}, {Name: words.Assignee, Value: dash(c.Assignee)}, {Name: words.Opened, Value: web.Moment(c.At)}}
	if c.Holding {
		v.facts = append(v.facts, web.Fact{Name: words.Payouts, Show: web.Chip(web.Warn, words.Held)})
	}
	points := map[risk.Code]int64{}
	for _, e := range list {
		p := piece{head: web.Same(fmt.Sprintf("%s · %s · %s", web.Moment(e.Fact.At), web.Yuan(e.Fact.Fen), e.Fact.Terminal)), href: "/ops/switch/transactions/" + e.Fact.Ref, tone: actionTones[e.Decision.Action], word: shell.Both(e.Decision.Action.Words)}
		for _, h := range e.Decision.Hits {
			p.lines = append(p.lines, web.Line{Text: web.Text{ZH: h.Zh, EN: h.En}, Value: fmt.Sprintf("+%d", h.Points)})
			points[h.Rule] += int64(h.Points)
		}
		p.lines = append(p.lines, web.Line{Text: words.ScoreOf.F(e.Decision.Version), Value: fmt.Sprint(e.Decision.Score), Total: true})
		v.evidence = append(v.evidence, p)
	}
	for _, code := range risk.Codes {
		if points[code] > 0 {
			v.rules.Parts = append(v.rules.Parts, web.Slice{Name: codeText(code), Value: points[code]})
		}
	}
	for _, a := range slices.Backward(acts) {
		v.trail = append(v.trail, happened(ctx, a, list))
	}
	return d.Desk.Show(w, r, web.Page{Title: words.CaseOf.F(name.In(ctx)), Back: here, Here: here}, casePage(v))
}

// happened is one step of a case. The system wrote the first reason of the fact
// that opened it in English: its evidence has it in both languages.
func happened(ctx context.Context, a risk.Act, list []risk.Evidence) web.Happening {
	h := web.Happening{At: a.At, Who: a.Who, What: shell.Both(a.Is.Words), Detail: a.Why, Icon: "user", Tone: stateTones[a.Is]}
	if a.Who != risk.System {
		return h
	}
	h.Who, h.Icon = words.TheSystem.In(ctx), "cpu"
	for _, e := range list {
		for _, x := range e.Decision.Hits {
			if x.En == a.Why {
				h.Detail = web.Text{ZH: x.Zh, EN: x.En}.In(ctx)
				return h
			}
		}
	}
	return h
}

func questions(ctx context.Context, c risk.Case) (out []shell.Question) {
	u, _ := web.Who(ctx)
	at := here + "/" + c.ID
	ask := func(act string, open, body web.Text, icon string, danger bool) {
		out = append(out, shell.Question{ID: "ask-" + act, Action: at + "/" + act, Open: open, Body: body, Icon: icon, Danger: danger, Amount: web.Yuan(c.Fen), Receiver: c.Shop, About: words.Shop})
	}
	switch {
	case c.State == risk.Opened, c.State == risk.Assigned && c.Assignee != u.Name:
		ask("take", words.Take, words.TakeBody, "user", false)
	case c.State == risk.Assigned:
		ask("clear", words.ClearIt, words.ClearBody, "check", false)
		ask("confirm", words.Confirm, words.ConfirmBody, "ban", true)
		ask("back", words.GiveBack, words.GiveBackBody, "history", false)
	case c.State == risk.Confirmed && c.Holding:
		ask("release", words.LetGo, words.LetGoBody, "lock-open", true)
	}
	return out
}

// act does what staff decided about a case.
func (d Deps) act(w http.ResponseWriter, r *http.Request) error {
	id, act := r.PathValue("id"), r.PathValue("act")
	u, _ := web.Who(r.Context())
	why, _ := shell.Why(r) // Change says what is wrong with it
	if !slices.Contains([]string{"take", "clear", "confirm", "back", "release"}, act) {
		return fmt.Errorf("act %q on a case: %w", act, web.ErrNoPage)
	}
	at := here + "/" + id
	return d.Desk.Change(w, r, at, words.Done, shell.Deed{Act: shell.ActCase, Target: at, What: id + ": " + act}, func(tx *db.Tx) (err error) {
		switch act {
		case "take":
			_, err = risk.Take(tx, id, u.Name, why)
		case "back":
			_, err = risk.GiveBack(tx, id, u.Name, why)
		case "release":
			err = d.Engine.LetGo(tx, id, u.Name, why)
		default:
			_, err = d.Engine.Decide(tx, id, u.Name, act == "confirm", why)
		}
		return err
	})
}
