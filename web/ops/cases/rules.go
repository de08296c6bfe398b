package cases

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"koala/calendar"
	"koala/dispute"
	"koala/internal/db"
	"koala/internal/proposal"
	"koala/money"
	"koala/web"
	"koala/web/ops/shell"
)

const atRules = here + "/rules"

// A rulesView is the dated data of disputes, what is proposed of it, and what a
// value would change.
type rulesView struct {
	acts                             []shell.Question
	waiting, preview, rules, reasons web.Table
	asked                            web.Text // what is previewed; empty: nothing
	try                              []web.Field
}

// valueText is a rule's value: days or rounds, or an amount.
func valueText(r dispute.Rule, n int64) string {
	if r.Money() {
		return web.Yuan(n)
	}
	return web.Number(n)
}

// valueOf reads a rule's value as a person writes it.
func valueOf(r dispute.Rule, s string) (int64, error) {
	if r.Money() {
		a, err := money.ParseYuan(s)
		if err != nil {
			return 0, fmt.Errorf("value of a rule: %w: %w", shell.ErrForm, err)
		}
		return a.Minor(), nil
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("value of a rule: %w: %w", shell.ErrForm, err)
	}
	return n, nil
}

func ruleOptions() (out []web.Option) {
	for _, x := range dispute.Rules {
		out = append(out, web.Option{Value: string(x), Name: shell.Both(x.Words)})
	}
	return out
}

// rules shows the deadlines in force and to come, each with its day and source,
// what is proposed, and the reason codes.
func (d Deps) rules(w http.ResponseWriter, r *http.Request) error {
	ctx, now := r.Context(), d.Desk.Store.Now()
	try := dispute.RuleRow{Rule: dispute.Rule(r.FormValue("rule"))}
	if try.Rule != "" {
		var err error
		if try.Value, err = valueOf(try.Rule, r.FormValue("value")); err != nil || !slices.Contains(dispute.Rules, try.Rule) {
			return fmt.Errorf("preview of a rule: %w", shell.ErrForm)
		}
	}
	v := rulesView{rules: web.Table{ID: "rules", Empty: words.NoRules, Head: []web.Column{{Name: words.Rule}, {Name: words.State}, {Name: words.From}, {Name: words.Value, Num: true}, {Name: words.Source}}},
		reasons: web.Table{ID: "reasons", NoCSV: true, Head: []web.Column{{Name: words.Reason}, {Name: words.Source}}},
		try:     []web.Field{{Name: "rule", Label: words.Rule, Type: "select", Options: ruleOptions(), Value: string(try.Rule)}, {Name: "value", Label: words.Value, Mode: "decimal", Value: r.FormValue("value"), Required: true, Max: 14}}}
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		all, err := dispute.RuleRows(q)
		if err != nil {
			return err
		}
		for _, name := range dispute.Rules {
			v.add(ctx, name, all, now)
		}
		if try.Rule != "" {
			if err := v.show(ctx, q, try); err != nil {
				return err
			}
		}
		return v.wait(ctx, q)
	})
	if err != nil {
		return fmt.Errorf("rules of disputes: %w", err)
	}
	for _, x := range dispute.Reasons {
		v.reasons.Rows = append(v.reasons.Rows, web.Row{Cells: []web.Cell{web.Plain(reasonText(x.Code).In(ctx)), web.Plain(sourceText(x.Source).In(ctx))}})
	}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.rules)
	}
	tomorrow := calendar.Of(now, calendar.Beijing).AddDays(1).String()
	v.acts = append([]shell.Question{{ID: "ask-rule", Action: atRules, Open: words.ChangeRule, Body: words.ChangeRuleBody, Icon: "plus", Fields: []web.Field{{Name: "rule", Label: words.Rule, Type: "select", Options: ruleOptions(), Value: string(try.Rule)},
		{Name: "value", Label: words.Value, Hint: words.ValueHint, Mode: "decimal", Required: true, Value: r.FormValue("value"), Max: 14}, {Name: "from", Label: words.From, Type: "date", Required: true, Value: tomorrow}, {Name: "source", Label: words.Source, Hint: words.SourceHint, Required: true, Max: 120}}}}, v.acts...)
	return d.Desk.Show(w, r, web.Page{Title: words.Rules, Lead: words.RulesLead, Here: here}, rulesPage(v))
}

// add shows the values of a rule, and which of them is in force.
func (v *rulesView) add(ctx context.Context, name dispute.Rule, all []dispute.RuleRow, now time.Time) {
	rows := slices.DeleteFunc(slices.Clone(all), func(x dispute.RuleRow) bool { return x.Rule != name })
	for i, x := range rows {
		tone, word := web.Good, words.InForce
		switch {
		case x.From.After(now):
			tone, word = web.Info, words.ToCome
		case i+1 < len(rows) && !rows[i+1].From.After(now):
			tone, word = web.Neutral, words.Past
		}
		from := words.Always.In(ctx)
		if x.From.Unix() > 0 {
			from = web.Day(ctx, x.From)
		}
		v.rules.Rows = append(v.rules.Rows, web.Row{Cells: []web.Cell{web.Plain(shell.Both(name.Words).In(ctx)), web.Status(ctx, tone, word), shell.Short(from), {Text: valueText(name, x.Value), CSV: fmt.Sprint(x.Value)}, source(ctx, x.Source)}})
	}
}

// source is where a value is from, in words; files keep what was written.
func source(ctx context.Context, written string) web.Cell {
	text := sourceText(written)
	if text == web.Same(written) {
		return shell.Written(written)
	}
	return web.Cell{Text: text.In(ctx), CSV: written}
}

// sourceText says the sources that the house itself gives; what staff wrote
// stands as written.
func sourceText(written string) web.Text {
	if zh, known := sourcesZH[written]; known {
		return web.Text{ZH: zh, EN: written}
	}
	return web.Same(written)
}

// show lists the open cases that a value would bind otherwise.
func (v *rulesView) show(ctx context.Context, q db.Reader, r dispute.RuleRow) error {
	v.asked = words.PreviewOf.F(valueText(r.Rule, r.Value))
	v.preview = web.Table{ID: "preview", NoCSV: true, Empty: words.NoShift, Head: []web.Column{{Name: words.Case}, {Name: words.State}, {Name: words.Keeps}, {Name: words.Would}, {Name: words.Amount, Num: true}}}
	list, err := dispute.Preview(q, r, shell.Rows)
	for _, s := range list {
		v.preview.Rows = append(v.preview.Rows, web.Row{Href: here + "/" + s.Case.ID, Cells: []web.Cell{web.Mono(s.Case.Ref), web.Status(ctx, stateTones[s.Case.State], shell.Both(s.Case.State.Words)), shell.Short(lastDay(ctx, s.Case.Due)), shell.Short(lastDay(ctx, s.Would)), web.Money(s.Case.Amount.Minor())}})
	}
	return err
}

// lastDay is the last day of a deadline, which is the first moment too late.
func lastDay(ctx context.Context, due time.Time) string { return web.Day(ctx, due.Add(-time.Second)) }

// wait shows the proposals that another person has to confirm.
func (v *rulesView) wait(ctx context.Context, q db.Reader) error {
	v.waiting = web.Table{ID: "proposals", NoCSV: true, Head: []web.Column{{Name: words.Rule}, {Name: words.Value, Num: true}, {Name: words.From}, {Name: words.Source}, {Name: words.By}, {Name: words.Reason}, {Name: words.Shifts, Num: true}}}
	list, err := proposal.Waiting(q, dispute.RuleKind, mostActs)
	if err != nil {
		return err
	}
	u, _ := web.Who(ctx)
	for _, p := range list {
		var x dispute.RuleRow
		if err := p.Read(&x); err != nil {
			return fmt.Errorf("proposal %s: %w", p.ID, err)
		}
		shifts, err := dispute.Preview(q, x, 500)
		if err != nil {
			return err
		}
		name, value := shell.Both(x.Rule.Words), valueText(x.Rule, x.Value)
		plain := fmt.Sprint(x.Value)
		if x.Rule.Money() {
			plain = money.Fen(x.Value).Yuan()
		}
		v.waiting.Rows = append(v.waiting.Rows, web.Row{Href: atRules + "?rule=" + string(x.Rule) + "&value=" + plain, Cells: []web.Cell{web.Plain(name.In(ctx)), web.Plain(value), shell.Short(web.Day(ctx, x.From)), shell.Written(x.Source), web.Plain(p.By), shell.Written(p.Why), web.Count(int64(len(shifts)))}})
		about := fmt.Sprintf("%s → %s, %s", name.In(ctx), value, web.Day(ctx, x.From))
		at := atRules + "/" + p.ID
		if p.By != u.Name {
			v.acts = append(v.acts, shell.Question{ID: "ask-yes-" + p.ID, Action: at + "/confirm", Open: with(words.ConfirmNo, name), Body: words.ChangeRuleBody, Icon: "check", Receiver: about, About: words.Rule})
		}
		v.acts = append(v.acts, shell.Question{ID: "ask-no-" + p.ID, Action: at + "/undo", Open: with(words.UndoNo, name), Body: words.UndoBody, Icon: "x", Receiver: about, About: words.Rule})
	}
	return nil
}

// proposeRule keeps a value that another person confirms.
func (d Deps) proposeRule(w http.ResponseWriter, r *http.Request) error {
	x := dispute.RuleRow{Rule: dispute.Rule(r.PostFormValue("rule")), Source: r.PostFormValue("source")}
	why, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, atRules, err)
	}
	day, err := calendar.Parse(r.PostFormValue("from"))
	if err != nil {
		return fmt.Errorf("day of a rule: %w: %w", shell.ErrForm, err)
	}
	if x.Value, err = valueOf(x.Rule, r.PostFormValue("value")); err != nil {
		return err
	}
	x.From = day.Start(calendar.Beijing).UTC()
	u, _ := web.Who(r.Context())
	deed := shell.Deed{Act: shell.ActDisputeRule, Target: atRules, What: fmt.Sprintf("%s = %s, %s?", x.Rule, valueText(x.Rule, x.Value), day)}
	return d.Desk.Change(w, r, atRules, words.RuleProposed, deed, func(tx *db.Tx) error {
		_, err := dispute.ProposeRule(tx, x, u.Name, why)
		return err
	})
}

// decideRule confirms a proposed value, or takes it back.
func (d Deps) decideRule(w http.ResponseWriter, r *http.Request) error {
	id, act := r.PathValue("id"), r.PathValue("act")
	u, _ := web.Who(r.Context())
	deed := shell.Deed{Act: shell.ActDisputeRule, Target: atRules, What: id + ": " + act}
	switch act {
	case "confirm":
		return d.Desk.Change(w, r, atRules, words.RuleSet, deed, func(tx *db.Tx) error { _, err := dispute.ConfirmRule(tx, id, u.Name); return err })
	case "undo":
		return d.Desk.Change(w, r, atRules, words.Dropped, deed, func(tx *db.Tx) error {
			_, err := proposal.Undo(tx, dispute.RuleKind, id, u.Name)
			return err
		})
	}
	return fmt.Errorf("act %q on a rule: %w", act, web.ErrNoPage)
}
