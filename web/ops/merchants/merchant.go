package merchants

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"koala/internal/db"
	"koala/merchant"
	"koala/web"
	"koala/web/ops/shell"
)

// A merchantView is one merchant.
type merchantView struct {
	facts, bank []web.Fact
	checks      []web.Step
	documents   web.Table
	shops       web.Table
	terminals   web.Table
	line        []web.Line
	acts        []shell.Question
	papers      []shell.Question
	timeline    []web.Happening
}

func (d Deps) merchant(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	var x merchant.Detail
	var papers []shell.Question
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if x, err = merchant.DetailOf(q, r.PathValue("id"), d.Desk.Store.Now()); err == nil {
			papers, err = papersKept(q, x)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a merchant: %w", err)
	}
	m := x.Merchant
	v := merchantView{checks: checkSteps(ctx, x), acts: merchantActs(x), papers: papers}
	title := words.Merchant
	if len(x.Shops) > 0 {
		title = shopName(x.Shops[0])
	}
	v.facts = []web.Fact{{Name: words.Name, Show: web.AsWritten(m.Name)}, {Name: words.State, Show: web.Chip(tones[m.State], shell.Both(m.State.Words))}, {Name: words.Risk, Value: string(m.Risk)}, {Name: words.Form, Show: shell.Phrase(shell.Both(m.Form.Words))},
		{Name: words.Number, Value: m.ID, Mono: true}, {Name: words.City, Show: shell.Phrase(cityName(m.City))}, {Name: words.Owner, Show: web.AsWritten(m.Legal)}, {Name: words.Identity, Value: m.IDMask, Mono: true}, {Name: words.Phone, Value: m.Phone, Mono: true}}
	if m.Licence != "" {
		v.facts = append(v.facts, web.Fact{Name: words.Licence, Value: m.Licence, Mono: true})
	}
	v.bank = []web.Fact{{Name: words.Bank, Show: web.AsWritten(m.Bank)}, {Name: words.Holder, Show: web.AsWritten(m.Holder)}, {Name: words.Account, Value: m.AccountMask, Mono: true}}
	if m.Agent != "" {
		v.bank = append(v.bank, web.Fact{Name: words.Agent, Value: m.Agent, Href: atAgents + "/" + m.Agent})
	}
	for _, s := range x.Line {
		v.line = append(v.line, web.Line{Text: web.Same(s.Agent), Value: fmt.Sprintf("%d.%02d %%", s.Points/100, s.Points%100)})
	}
	v.documents = documentTable(ctx, x.Documents)
	v.shops = shopTable(ctx, x.Shops)
	v.terminals = web.Table{ID: "terminals", NoCSV: true, Empty: words.NoTerminals, Head: []web.Column{{Name: words.Terminal}, {Name: words.Kind}, {Name: words.State}, {Name: words.Since, Num: true}}}
	for _, t := range x.Terminals {
		v.terminals.Rows = append(v.terminals.Rows, web.Row{Href: "/ops/terminals/" + t.TID, Cells: []web.Cell{web.Mono(t.TID), web.Plain(shell.Both(t.Kind.Words).In(ctx)), web.Plain(shell.Both(t.Life.Words).In(ctx)), shell.At(t.Made)}})
	}
	for _, e := range slices.Backward(x.Timeline) {
		v.timeline = append(v.timeline, happening(e))
	}
	return d.Desk.Show(w, r, web.Page{Title: title, Lead: shell.Both(m.Form.Words), Back: here, Here: here}, merchantPage(v))
}

func happening(e merchant.Event) web.Happening {
	h := web.Happening{At: e.At, Who: e.By, Detail: e.Why, Icon: "user", Tone: web.Info}
	if h.Who == "" {
		h.Icon = "cpu"
	}
	what, from, to := strings.TrimSpace(e.What), e.From, e.To
	say := func(s string) web.Text {
		if slices.Contains(merchant.States, merchant.State(s)) {
			return shell.Both(merchant.State(s).Words)
		}
		if slices.Contains(lives, merchant.Life(s)) {
			return shell.Both(merchant.Life(s).Words)
		}
		return web.Same(s)
	}
	h.What = say(what)
	if w, ok := eventWords[what]; ok {
		h.What = w
	}
	if from != "" && to != "" && from != to {
		h.What = web.Text{ZH: h.What.ZH + "：" + say(from).ZH + " → " + say(to).ZH, EN: h.What.EN + ": " + say(from).EN + " → " + say(to).EN}
	}
	return h
}

var lives = []merchant.Life{merchant.Registered, merchant.Injected, merchant.InUse, merchant.Stopped, merchant.Retired}

var eventWords = map[string]web.Text{"applied": words.EventApplied, "shop.added": words.EventShop, "shop.approved": words.EventShopApproved, "terminal.registered": words.EventTerminal,
	"terminal.injected": words.EventInjected, "terminal.active": words.EventFirst, "terminal.suspended": words.EventStopped, "terminal.retired": words.EventRetired, "risk": words.EventRisk, "limits": words.EventLimits,
	"shop.active": words.EventSells}

// checkSteps are the checks with how the last of each ended.
func checkSteps(ctx context.Context, x merchant.Detail) (out []web.Step) {
	newest, order := map[merchant.What]merchant.Check{}, []merchant.What{}
	for _, c := range x.Checks {
		if _, known := newest[c.What]; !known {
			order = append(order, c.What)
		}
		newest[c.What] = c
	}
	for _, w := range order {
		c := newest[w]
		s := web.Step{Name: shell.Both(w.Words), State: web.StepDone, Detail: strings.TrimSpace(shell.Both(c.Result.Words).In(ctx) + " " + c.Note)}
		if c.Result == merchant.Fail {
			s.State = web.StepFailed
		}
		out = append(out, s)
	}
	for _, w := range x.Open {
		if _, known := newest[w]; !known {
			out = append(out, web.Step{Name: shell.Both(w.Words), State: web.StepTodo})
		}
	}
	return out
}

func documentTable(ctx context.Context, list []merchant.Document) web.Table {
	t := web.Table{ID: "documents", NoCSV: true, Empty: words.NoDocuments, Head: []web.Column{{Name: words.Document}, {Name: words.Hash}, {Name: words.Size, Num: true}, {Name: words.Media}, {Name: words.By}, {Name: words.Since, Num: true}}}
	for _, x := range list {
		by := x.By
		if by == "" {
			by = "–"
		}
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{web.Plain(shell.Both(x.Kind.Words).In(ctx)), web.Mono(hex.EncodeToString(x.Hash[:8]) + "…"), web.Count(x.Size), web.Mono(x.Media), web.Plain(by), shell.At(x.At)}})
	}
	return t
}

func shopTable(ctx context.Context, list []merchant.Shop) web.Table {
	t := web.Table{ID: "shops", NoCSV: true, Empty: words.NoShops, Head: []web.Column{{Name: words.Shop}, {Name: words.State}, {Name: words.MID}, {Name: words.Category}, {Name: words.City}}}
	for _, s := range list {
		mid := shell.None()
		if s.MID != "" {
			mid = web.Mono(s.MID)
		}
		t.Rows = append(t.Rows, web.Row{Href: here + "/shops/" + s.ID, Cells: []web.Cell{web.Plain(shopName(s).In(ctx)), stateCell(ctx, s.State), mid, web.Plain(s.MCC + " " + shell.Both(s.Category().Name).In(ctx)), web.Plain(cityName(s.City).In(ctx))}})
	}
	return t
}

// moves are the decisions that staff make about a merchant.
var moves = []struct {
	act        string
	to         merchant.State
	open, body web.Text
	icon       string
	danger     bool
}{
	{"approve", merchant.Approved, words.Approve, words.ApproveBody, "check", false}, {"refuse", merchant.Refused, words.Refuse, words.RefuseBody, "x", true},
	{"again", merchant.Applied, words.Again, words.AgainBody, "history", false}, {"suspend", merchant.Suspended, words.Suspend, words.SuspendBody, "pause", true},
	{"reopen", merchant.Active, words.Reopen, words.ReopenBody, "play", false}, {"close", merchant.Closed, words.Close, words.CloseBody, "trash-2", true},
}

// allowed says whether staff may make a move: a merchant's first sale makes an
// approved one active.
func allowed(s, to merchant.State) bool {
	return s.May(to) && (to != merchant.Active || s == merchant.Suspended)
}

func merchantActs(x merchant.Detail) (out []shell.Question) {
	m, at := x.Merchant, here+"/"+x.Merchant.ID
	if len(x.Open) > 0 && (m.State == merchant.Checking || m.State == merchant.Applied) {
		var options []web.Option
		for _, w := range x.Open {
			options = append(options, web.Option{Value: string(w), Name: shell.Both(w.Words)})
		}
		out = append(out, shell.Question{ID: "ask-check", Action: at + "/check", Open: words.Check, Body: words.CheckBody, Icon: "eye", Receiver: m.Name, About: words.Merchant, Choices: options,
			Fields: []web.Field{{Name: "result", Label: words.Result, Type: "select", Options: []web.Option{{Value: string(merchant.Pass), Name: shell.Both(merchant.Pass.Words)}, {Value: string(merchant.Waived), Name: shell.Both(merchant.Waived.Words)}, {Value: string(merchant.Fail), Name: shell.Both(merchant.Fail.Words)}}}}})
	}
	for _, a := range moves {
		if allowed(m.State, a.to) && (a.to != merchant.Approved || len(x.Open) == 0) {
			out = append(out, shell.Question{ID: "ask-" + a.act, Action: at + "/" + a.act, Open: a.open, Body: a.body, Icon: a.icon, Danger: a.danger, Receiver: m.Name, About: words.Merchant})
		}
	}
	if m.State != merchant.Closed {
		var options []web.Option
		for _, r := range []merchant.Risk{merchant.RiskA, merchant.RiskB, merchant.RiskC, merchant.RiskD} {
			if r != m.Risk {
				options = append(options, web.Option{Value: string(r), Name: web.Text{ZH: string(r) + " " + riskWords[r].ZH, EN: string(r) + ", " + riskWords[r].EN}})
			}
		}
		out = append(out, shell.Question{ID: "ask-risk", Action: at + "/risk", Open: words.SetRisk, Body: words.SetRiskBody, Icon: "shield-check", Receiver: m.Name, About: words.Merchant, Choices: options})
	}
	return out
}

var riskWords = map[merchant.Risk]web.Text{merchant.RiskA: words.RiskA, merchant.RiskB: words.RiskB, merchant.RiskC: words.RiskC, merchant.RiskD: words.RiskD}

func (d Deps) act(w http.ResponseWriter, r *http.Request) error {
	id, act := r.PathValue("id"), r.PathValue("act")
	at := here + "/" + id
	u, _ := web.Who(r.Context())
	why, choice := "", r.PostFormValue("decision")
	if s, err := shell.Why(r); err == nil {
		why = s
	}
	deed := shell.Deed{Act: shell.ActMerchant, Target: at, What: id + ": " + act}
	var do func(tx *db.Tx) error
	switch act {
	case "check":
		result := merchant.Result(r.PostFormValue("result"))
		if choice == "" || result != merchant.Pass && result != merchant.Waived && result != merchant.Fail {
			return fmt.Errorf("a check: %w", shell.ErrForm)
		}
		deed.Act, deed.What = shell.ActCheck, id+": "+choice+" "+string(result)
		do = func(tx *db.Tx) error {
			return merchant.Record(tx, id, merchant.Check{What: merchant.What(choice), Result: result, Note: why, By: u.Name})
		}
	case "risk":
		if _, known := riskWords[merchant.Risk(choice)]; !known {
			return fmt.Errorf("a level: %w", shell.ErrForm)
		}
		deed.Act, deed.What = shell.ActMerchantRisk, id+": "+choice
		do = func(tx *db.Tx) error { return merchant.SetRisk(tx, id, merchant.Risk(choice), u.Name, why) }
	case "approve":
		do = func(tx *db.Tx) error { return merchant.Approve(tx, id, u.Name, why) }
	default:
		i := slices.IndexFunc(moves, func(m struct {
			act        string
			to         merchant.State
			open, body web.Text
			icon       string
			danger     bool
		}) bool {
			return m.act == act
		})
		if i < 0 {
			return fmt.Errorf("act %q on a merchant: %w", act, web.ErrNoPage)
		}
		do = func(tx *db.Tx) error { return merchant.Decide(tx, id, moves[i].to, u.Name, why) }
	}
	return d.Desk.Change(w, r, at, words.Changed, deed, func(tx *db.Tx) error {
		if err := d.forget(tx, id); err != nil {
			return err
		}
		return do(tx)
	})
}

// forget has the switch look the merchant's terminals up again.
func (d Deps) forget(tx *db.Tx, id string) error {
	shops, err := merchant.ShopsOf(tx, id)
	for _, s := range shops {
		ts, err := merchant.TerminalsOf(tx, s.ID, "", 500)
		if err != nil {
			return err
		}
		for _, t := range ts {
			d.Switch.Forget(tx, t.TID)
		}
	}
	return err
}
