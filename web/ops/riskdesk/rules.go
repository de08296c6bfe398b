package riskdesk

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/money"
	"koala/risk"
	"koala/web"
	"koala/web/ops/shell"
)

func codeText(c risk.Code) web.Text {
	if t, ok := codeWords[c]; ok {
		return t
	}
	return web.Same(string(c))
}

var codeWords = map[risk.Code]web.Text{risk.CardVelocity: words.CardVelocity, risk.ShopVelocity: words.ShopVelocity, risk.TerminalVelocity: words.TerminalVelocity, risk.OddHour: words.OddHour, risk.RoundAmounts: words.RoundAmounts,
	risk.RepeatedCard: words.RepeatedCard, risk.SplitSale: words.SplitSale, risk.Distance: words.Distance, risk.NewTerminal: words.NewTerminal, risk.MovedTerminal: words.MovedTerminal, risk.CategoryMismatch: words.CategoryMismatch,
	risk.CashOut: words.CashOut, risk.RefundAlone: words.RefundAlone, risk.ManualEntry: words.ManualEntry}

var setTones = map[risk.SetState]web.Tone{risk.Proposed: web.Warn, risk.Active: web.Good, risk.Rejected: web.Neutral}

// rules lists the rule sets.
func (d Deps) rules(w http.ResponseWriter, r *http.Request) error {
	ctx, now := r.Context(), d.Desk.Store.Now()
	var list []risk.SetInfo
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = risk.Sets(q, shell.Rows)
		return err
	})
	if err != nil {
		return fmt.Errorf("rule sets: %w", err)
	}
	force := d.Engine.InForce(now)
	t := web.Table{ID: "sets", Empty: words.NoSets, Head: []web.Column{{Name: words.Version}, {Name: words.State}, {Name: words.Rules, Num: true}, {Name: words.Author}, {Name: words.Approver}, {Name: words.Why, Wide: true}, {Name: words.From, Num: true}}}
	for _, s := range list {
		word, tone := shell.Both(s.State.Words), setTones[s.State]
		if s.Version == force.Version {
			word = words.InForceNow
		} else if s.State == risk.Active {
			tone = web.Neutral
		}
		t.Rows = append(t.Rows, web.Row{Href: atRules + "/" + strconv.Itoa(s.Version), Cells: []web.Cell{web.Plain(strconv.Itoa(s.Version)), web.Status(ctx, tone, word), web.Count(int64(len(s.Rules))), shell.Short(person(ctx, s.Author)), shell.Short(person(ctx, s.Approver)), shell.Written(whyOf(ctx, s)), shell.At(begins(s.From))}})
	}
	options := make([]web.Option, 0, len(force.Rules))
	for i, x := range force.Rules {
		t := codeText(x.Code)
		options = append(options, web.Option{Value: strconv.Itoa(i), Name: web.Text{ZH: fmt.Sprintf("%s（%d 分）", t.ZH, x.Points), EN: fmt.Sprintf("%s (%d points)", t.EN, x.Points)}})
	}
	acts := []shell.Question{{ID: "ask-propose", Action: atRules, Open: words.Propose, Body: words.ProposeBody, Icon: "plus", Receiver: strconv.Itoa(force.Version), About: words.BasedOn,
		Fields: []web.Field{{Name: "rule", Label: words.Rule, Type: "select", Options: options}, {Name: "points", Label: words.NewPoints, Hint: words.NewPointsHint, Mode: "numeric", Required: true, Max: 4},
			{Name: "count", Label: words.NewCount, Hint: words.AsBefore, Mode: "numeric", Max: 3}, {Name: "amount", Label: words.NewAmount, Hint: words.AsBefore, Mode: "decimal", Lead: "¥", Max: 12}}}}
	return d.Desk.List(w, r, web.Page{Title: words.Title, Lead: words.Lead, Here: here}, shell.ListView{Table: t, Tabs: tabs(true), Note: words.RulesNote, Tone: web.Info, Acts: acts})
}

// person names who made or approved a set.
func person(ctx context.Context, name string) string {
	if name == risk.HouseName {
		return words.TheHouse.In(ctx)
	}
	return dash(name)
}

// whyOf is why a set was made; that of the house's first is the page's own word.
func whyOf(ctx context.Context, s risk.SetInfo) string {
	if s.Author == risk.HouseName && s.Version == 1 {
		return words.HouseWhy.In(ctx)
	}
	return s.Why
}

// begins is when a set came into force; the house's first was there from the
// beginning.
func begins(t time.Time) time.Time {
	if t.Unix() <= 0 {
		return time.Time{}
	}
	return t
}

// propose writes down a set that differs from the one in force by one rule; no
// points take the rule away.
func (d Deps) propose(w http.ResponseWriter, r *http.Request) error {
	s := d.Engine.InForce(d.Desk.Store.Now())
	i, err := strconv.Atoi(r.PostFormValue("rule"))
	points, err2 := strconv.Atoi(r.PostFormValue("points"))
	if err != nil || err2 != nil || i < 0 || i >= len(s.Rules) || points < 0 {
		return fmt.Errorf("a rule: %w", shell.ErrForm)
	}
	s.Rules = append([]risk.Rule(nil), s.Rules...)
	rule := &s.Rules[i]
	what := fmt.Sprintf("%s: %d → %d", rule.Code, rule.Points, points)
	rule.Points = points
	if v := r.PostFormValue("count"); v != "" {
		if rule.Count, err = strconv.Atoi(v); err != nil {
			return fmt.Errorf("count of a rule: %w", shell.ErrForm)
		}
	}
	if v := r.PostFormValue("amount"); v != "" {
		a, err := parseYuan(v)
		if err != nil {
			return err
		}
		rule.Fen = a
	}
	if points == 0 {
		s.Rules = append(s.Rules[:i], s.Rules[i+1:]...)
	}
	u, _ := web.Who(r.Context())
	why, _ := shell.Why(r) // Change says what is wrong with it
	s.Note = why
	return d.Desk.Change(w, r, atRules, words.Proposed, shell.Deed{Act: shell.ActRules, Target: atRules, What: what}, func(tx *db.Tx) error {
		_, err := risk.Propose(tx, s, u.Name, why)
		return err
	})
}

// A setView is one rule set.
type setView struct {
	facts  []web.Fact
	rules  web.Table
	report []web.Fact
	chart  web.Parted
	// confusion is what both sets did with what people have judged.
	confusion web.Table
	shops     web.Table
	text      string
	acts      []shell.Question
	note      web.Text
}

func (d Deps) set(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	version, err := strconv.Atoi(r.PathValue("version"))
	if err != nil {
		return fmt.Errorf("rule set %q: %w", r.PathValue("version"), risk.ErrNoSet)
	}
	var s risk.SetInfo
	v := setView{shops: web.Table{ID: "shops", NoCSV: true, Empty: words.NoChange, Head: []web.Column{{Name: words.Shop}, {Name: words.FlaggedOld, Num: true}, {Name: words.FlaggedNew, Num: true}, {Name: words.Amount, Num: true}}}}
	err = d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if s, err = risk.SetOf(q, version); err != nil || s.Report == nil {
			return err
		}
		for _, x := range s.Report.Shops {
			v.shops.Rows = append(v.shops.Rows, web.Row{Href: "/ops/merchants/shops/" + x.Shop, Cells: []web.Cell{web.Plain(shell.ShopName(q, x.Shop).In(ctx)), web.Count(x.Old), web.Count(x.New), web.Money(x.Fen)}})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("page of a rule set: %w", err)
	}
	at := atRules + "/" + strconv.Itoa(version)
	v.facts = []web.Fact{{Name: words.State, Show: web.Chip(setTones[s.State], shell.Both(s.State.Words))}, {Name: words.Author, Value: person(ctx, s.Author)}, {Name: words.Approver, Value: person(ctx, s.Approver)}, {Name: words.Why, Show: web.AsWritten(whyOf(ctx, s))}, {Name: words.Made, Value: web.Moment(s.Made)}}
	v.rules = ruleTable(r, s.Set)
	if text, err := json.MarshalIndent(s.Set, "", "  "); err == nil {
		v.text = string(text)
	}
	if s.Report != nil {
		v.report, v.chart = reported(*s.Report)
		v.confusion = confused(ctx, *s.Report)
	}
	if s.State == risk.Proposed {
		u, _ := web.Who(ctx)
		about := strconv.Itoa(version)
		v.acts = append(v.acts, shell.Question{ID: "ask-replay", Action: at + "/replay", Open: words.Replay, Body: words.ReplayBody, Icon: "history", Receiver: about, About: words.Version})
		if v.note = words.ReplayFirst; s.Report != nil {
			v.note = words.AnotherActivates.F(s.Author)
			if u.Name != s.Author {
				v.acts = append(v.acts, shell.Question{ID: "ask-activate", Action: at + "/activate", Open: words.Activate, Body: words.ActivateBody, Icon: "check", Receiver: about, About: words.Version})
			}
		}
		v.acts = append(v.acts, shell.Question{ID: "ask-reject", Action: at + "/reject", Open: words.Reject, Body: words.RejectBody, Icon: "x", Danger: true, Receiver: about, About: words.Version})
	}
	return d.Desk.Show(w, r, web.Page{Title: words.SetNo.F(version), Lead: words.SetLead, Back: atRules, Here: here}, setPage(v))
}

func ruleTable(r *http.Request, s risk.Set) web.Table {
	ctx := r.Context()
	t := web.Table{ID: "rules", NoCSV: true, Empty: words.NoSets, Head: []web.Column{{Name: words.Rule}, {Name: words.Points, Num: true}, {Name: words.Count, Num: true}, {Name: words.Minutes, Num: true}, {Name: words.Amount, Num: true}, {Name: words.Hours}, {Name: words.Besides, Wide: true}}}
	number := func(n int) web.Cell {
		if n == 0 {
			return shell.None()
		}
		return web.Count(int64(n))
	}
	for _, x := range s.Rules {
		amount, hours := shell.None(), shell.None()
		if x.Fen > 0 {
			amount = web.Money(x.Fen)
		}
		if x.From != x.To {
			hours = shell.Short(fmt.Sprintf("%02d–%02d", x.From, x.To))
		}
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{shell.Short(codeText(x.Code).In(ctx)), web.Count(int64(x.Points)), number(x.Count), number(x.Minutes), amount, hours, web.Plain(dash(besides(ctx, x)))}})
	}
	return t
}

// besides says what a rule looks at that has no column of its own.
func besides(ctx context.Context, x risk.Rule) string {
	var out []string
	if x.Km > 0 {
		out = append(out, words.MoreKm.F(x.Km).In(ctx))
	}
	if x.Speed > 0 {
		out = append(out, words.FasterThan.F(x.Speed).In(ctx))
	}
	if x.BP > 0 {
		out = append(out, words.BelowBy.F(fmt.Sprintf("%d", x.BP/100)).In(ctx))
	}
	if len(x.Categories) > 0 {
		out = append(out, words.InCategories.F(strings.Join(x.Categories, " ")).In(ctx))
	}
	return strings.Join(out, words.And.In(ctx))
}

// reported is what a replay found, with how often each rule spoke.
func reported(x risk.Report) ([]web.Fact, web.Parted) {
	share := func(bp int64) string {
		if bp < 0 {
			return "–"
		}
		return fmt.Sprintf("%d.%d %%", bp/100, bp%100/10)
	}
	facts := []web.Fact{{Name: words.Facts, Value: web.Number(x.Facts)}, {Name: words.FlaggedOld, Value: web.Number(x.Old.Flagged())}, {Name: words.FlaggedNew, Value: web.Number(x.New.Flagged())}, {Name: words.Added, Value: web.Number(x.Added)}, {Name: words.Dropped, Value: web.Number(x.Dropped)},
		{Name: words.Precision, Value: share(x.Old.Precision()) + " → " + share(x.New.Precision())}, {Name: words.Recall, Value: share(x.Old.Recall()) + " → " + share(x.New.Recall())}}
	if x.Facts > 0 {
		facts = append(facts, web.Fact{Name: words.Span, Value: calendar.Of(x.From, calendar.Beijing).String() + " – " + calendar.Of(x.To, calendar.Beijing).String()})
	}
	c := web.Parted{Title: words.SpokeNew}
	for _, code := range risk.Codes {
		if x.New.Rules[code]+x.Old.Rules[code] > 0 {
			c.Parts = append(c.Parts, web.Slice{Name: codeText(code), Value: x.New.Rules[code], Note: fmt.Sprintf("%d →", x.Old.Rules[code])})
		}
	}
	return facts, c
}

// confused is the table of both sets against what people found.
func confused(ctx context.Context, x risk.Report) web.Table {
	t := web.Table{ID: "confusion", NoCSV: true, Head: []web.Column{{Name: words.PeopleFound, Wide: true}, {Name: words.OldFlagged, Num: true}, {Name: words.OldAllowed, Num: true}, {Name: words.NewFlagged, Num: true}, {Name: words.NewAllowed, Num: true}}}
	oldFraud, oldGood, oldUnseen, ok := x.Old.Confusion(x.Facts)
	newFraud, newGood, newUnseen, same := x.New.Confusion(x.Facts)
	if !ok || !same {
		return t // kept before it was counted: replayed again it is there
	}
	for _, row := range []struct {
		name     web.Text
		old, new risk.Confusion
	}{{words.WasFraud, oldFraud, newFraud}, {words.WasGood, oldGood, newGood}, {words.WasUnseen, oldUnseen, newUnseen}} {
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{web.Plain(row.name.In(ctx)), web.Count(row.old.Flagged), web.Count(row.old.Allowed), web.Count(row.new.Flagged), web.Count(row.new.Allowed)}})
	}
	return t
}

// history is how far back a replay goes.
const history = 90 * 24 * time.Hour

func (d Deps) actOnSet(w http.ResponseWriter, r *http.Request) error {
	version, err := strconv.Atoi(r.PathValue("version"))
	if err != nil {
		return fmt.Errorf("rule set %q: %w", r.PathValue("version"), risk.ErrNoSet)
	}
	at := atRules + "/" + strconv.Itoa(version)
	u, _ := web.Who(r.Context())
	deed := shell.Deed{Act: shell.ActActivate, Target: at, What: fmt.Sprintf("%d: %s", version, r.PathValue("act"))}
	switch r.PathValue("act") {
	case "replay":
		if _, err := shell.Why(r); err != nil {
			return shell.Sorry(w, r, at, err)
		}
		if _, err := d.Engine.Rehearse(r.Context(), d.Desk.Store, version, d.Desk.Store.Now().Add(-history), time.Time{}); err != nil {
			return shell.Sorry(w, r, at, err)
		}
		deed.Act = shell.ActRehearse
		return d.Desk.Change(w, r, at, words.Replayed, deed, func(*db.Tx) error { return nil })
	case "activate":
		return d.Desk.Change(w, r, at, words.Activated, deed, func(tx *db.Tx) error { return d.Engine.Activate(tx, version, u.Name, tx.Now()) })
	case "reject":
		return d.Desk.Change(w, r, at, words.Done, deed, func(tx *db.Tx) error { return risk.Reject(tx, version, u.Name) })
	}
	return fmt.Errorf("act %q on a rule set: %w", r.PathValue("act"), web.ErrNoPage)
}

func parseYuan(s string) (int64, error) {
	a, err := money.ParseYuan(s)
	if err != nil || a.Sign() <= 0 {
		return 0, fmt.Errorf("amount of a rule: %w", shell.ErrForm)
	}
	return a.Minor(), nil
}
