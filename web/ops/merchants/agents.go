package merchants

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/proposal"
	"koala/merchant"
	"koala/money"
	"koala/settlement"
	"koala/web"
	"koala/web/ops/shell"
)

const atAgents = here + "/agents"

// An agentsView is who brings merchants, as a tree.
type agentsView struct {
	chart   web.BarChart
	table   web.Table
	acts    []shell.Question
	waiting waitingView
}

// agents shows who brings merchants, with what each has earned this month.
func (d Deps) agents(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	today := d.today()
	v := agentsView{chart: web.BarChart{ID: "commission", Title: words.CommissionMonth, What: words.Agent, Of: words.Commission, Money: true}}
	v.table = web.Table{ID: "agents", Empty: words.NoAgents, Head: []web.Column{{Name: words.Agent}, {Name: words.Name}, {Name: words.State}, {Name: words.ShareOfFee, Num: true}, {Name: words.Charges, Num: true}, {Name: words.Commission, Num: true}, {Name: words.Since, Num: true}}}
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		dues, err := merchant.DuesOf(q, today.MonthOf())
		if err != nil {
			return err
		}
		due := map[string]merchant.Due{}
		for _, x := range dues {
			due[x.Agent] = x
			if len(v.chart.Bars) < 12 {
				v.chart.Bars = append(v.chart.Bars, web.Bar{Label: web.Same(x.Agent), Value: x.Amount.Minor()})
			}
		}
		all, err := merchant.TreeOn(q, today)
		if err != nil {
			return err
		}
		for _, b := range all {
			v.table.Rows = append(v.table.Rows, branchRow(ctx, b, due))
		}
		v.acts = []shell.Question{makeQuestion(superiors(all, ""), today)}
		v.waiting.table, v.waiting.acts, err = two.Waiting(ctx, q, agentKind)
		return err
	})
	if err != nil {
		return fmt.Errorf("agents: %w", err)
	}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.table)
	}
	return d.Desk.Show(w, r, page(), agentsPage(v))
}

func (d Deps) today() calendar.Date { return calendar.Of(d.Desk.Store.Now(), calendar.Beijing) }

// branchRow is an agent in the tree.
func branchRow(ctx context.Context, b merchant.Branch, due map[string]merchant.Due) web.Row {
	a, commission := b.Agent, shell.None()
	if x, ok := due[a.ID]; ok {
		commission = web.Money(x.Amount.Minor())
	}
	tone, state := standing(b)
	return web.Row{Href: atAgents + "/" + a.ID, Cells: []web.Cell{web.Mono(strings.Repeat("\u2003", b.Deep) + a.ID), shell.Written(a.Name), web.Status(ctx, tone, state),
		{Text: share(b).In(ctx), CSV: percent(b.Points), Show: shell.Phrase(share(b))}, web.Count(due[a.ID].Count), commission, shell.At(a.Made)}}
}

// standing says whether an agent works, and what is said of days to come.
func standing(b merchant.Branch) (web.Tone, web.Text) {
	switch {
	case b.Ended:
		return web.Neutral, words.HasEnded
	case b.Ends:
		return web.Warn, words.EndsOn.F(b.Next.String())
	case !b.Next.IsZero():
		return web.Info, named(words.MovesOn, orHouse(b.NextTo), b.Next.String())
	}
	return web.Good, words.Works
}

func orHouse(agent string) web.Text {
	if agent == "" {
		return words.House
	}
	return web.Same(agent)
}

// named fills a name that differs by language, and what does not, into a text.
func named(t, name web.Text, args ...any) web.Text {
	return web.Text{ZH: t.To(web.ZH, append([]any{name.ZH}, args...)...), EN: t.To(web.EN, append([]any{name.EN}, args...)...)}
}

// percent writes basis points.
func percent(points int64) string { return fmt.Sprintf("%d.%02d %%", points/100, points%100) }

// share is what an agent has, and what is said of days to come.
func share(b merchant.Branch) web.Text {
	if b.Later.IsZero() {
		return web.Same(percent(b.Points))
	}
	return words.ShareLater.F(percent(b.Points), percent(b.Then), b.Later.String())
}

// superiors are whom an agent may stand under.
func superiors(all []merchant.Branch, but string) []web.Option {
	out := []web.Option{{Name: words.House}}
	for _, b := range all {
		if b.Agent.ID != but && !b.Ended && !b.Ends {
			out = append(out, web.Option{Value: b.Agent.ID, Name: web.Same(b.Agent.ID + " " + b.Agent.Name)})
		}
	}
	return out
}

func sinceField(today calendar.Date) web.Field {
	return web.Field{Name: "since", Label: words.From, Type: "date", Required: true, Value: today.AddDays(1).String(), Hint: words.FromHint}
}

func shareField() web.Field {
	return web.Field{Name: "share", Label: words.ShareOfFee, Hint: words.ShareHint, Mode: "decimal", Required: true, Max: 6}
}

func accountFields() []web.Field {
	return []web.Field{{Name: "bank", Label: words.Bank, Required: true, Max: merchant.MaxName}, {Name: "account", Label: words.Account, Hint: words.AccountHint, Mode: "numeric", Required: true, Max: 39}}
}

func makeQuestion(over []web.Option, today calendar.Date) shell.Question {
	fields := []web.Field{{Name: "id", Label: words.Number, Hint: words.AgentIDHint, Required: true, Max: 40}, {Name: "name", Label: words.Name, Required: true, Max: merchant.MaxName},
		{Name: "over", Label: words.Over, Type: "select", Options: over}, shareField(), sinceField(today)}
	return shell.Question{ID: "ask-make", Action: atAgents, Open: words.MakeAgent, Body: words.MakeAgentBody, Icon: "plus", Fields: append(fields, accountFields()...)}
}

// agentActs are what may be proposed about an agent.
func agentActs(b merchant.Branch, all []merchant.Branch, today calendar.Date) []shell.Question {
	at := atAgents + "/" + b.Agent.ID + "/"
	account := shell.Question{ID: "ask-account", Action: at + "account", Open: words.SetAccount, Body: words.SetAccountBody, Icon: "landmark", Receiver: b.Agent.Name, About: words.Agent, Fields: accountFields()}
	if b.Ended || b.Ends {
		return []shell.Question{account}
	}
	return []shell.Question{
		{ID: "ask-rate", Action: at + "rate", Open: words.SetShare, Body: words.SetShareBody, Icon: "coins", Receiver: b.Agent.Name, About: words.Agent, Fields: []web.Field{shareField(), sinceField(today)}},
		{ID: "ask-move", Action: at + "move", Open: words.MoveIt, Body: words.MoveBody, Icon: "arrow-left-right", Receiver: b.Agent.Name, About: words.Agent,
			Fields: []web.Field{{Name: "over", Label: words.Over, Type: "select", Options: superiors(all, b.Agent.ID), Value: b.Over}, sinceField(today)}},
		account,
		{ID: "ask-end", Action: at + "end", Open: words.EndIt, Body: words.EndBody, Icon: "trash-2", Danger: true, Receiver: b.Agent.Name, About: words.Agent, Fields: []web.Field{sinceField(today)}},
	}
}

// An agentChange is one act on an agent.
type agentChange struct {
	Act    string // make, rate, move, end, account
	ID     string
	Name   string        `json:",omitempty"`
	Over   string        `json:",omitempty"`
	Since  calendar.Date `json:",omitzero"`
	Points int64         `json:",omitempty"`
	Bank   string        `json:",omitempty"`
	Masked string        `json:",omitempty"`
	Sealed []byte        `json:",omitempty"` // merchant.Secrets
}

func (c agentChange) page() string {
	if c.Act == "make" {
		return atAgents
	}
	return atAgents + "/" + c.ID
}

// Deed is shell.Change's.
func (c agentChange) Deed(proposal.State) shell.Deed {
	return shell.Deed{Act: shell.ActAgent, Target: c.page(), What: c.Text(nil).EN}
}

// Text is shell.Change's.
func (c agentChange) Text(db.Reader) web.Text {
	switch c.Act {
	case "make":
		return named(words.ChangeMake, orHouse(c.Over), c.ID, c.Name, percent(c.Points), c.Since.String(), c.Bank+" "+c.Masked)
	case "rate":
		return words.ChangeRate.F(c.ID, percent(c.Points), c.Since.String())
	case "move":
		return named(words.ChangeMove, orHouse(c.Over), c.ID, c.Since.String())
	case "end":
		return words.ChangeEnd.F(c.ID, c.Since.String())
	}
	return words.ChangeAccount.F(c.ID, c.Bank+" "+c.Masked)
}

// Holds is shell.Change's: Make says all there is to say against it.
func (c agentChange) Holds(db.Reader, time.Time) error { return nil }

// Make is shell.Change's.
func (c agentChange) Make(tx *db.Tx, _ proposal.Proposal) error {
	account := settlement.BankAccount{Bank: c.Bank, Masked: c.Masked, Sealed: c.Sealed}
	switch c.Act {
	case "make":
		if err := merchant.OpenAgent(tx, merchant.Agent{ID: c.ID, Name: c.Name, Over: c.Over}, account); err != nil {
			return err
		}
		return merchant.SetRate(tx, c.ID, c.Since, c.Points)
	case "rate":
		return merchant.SetRate(tx, c.ID, c.Since, c.Points)
	case "move":
		return merchant.MoveAgent(tx, c.ID, c.Over, c.Since)
	case "end":
		return merchant.EndAgent(tx, c.ID, c.Since)
	case "account":
		return settlement.SetAccount(tx, merchant.Payee(c.ID), account)
	}
	return fmt.Errorf("act %q on an agent: %w", c.Act, web.ErrNoPage)
}

// makeAgent proposes a new agent.
func (d Deps) makeAgent(w http.ResponseWriter, r *http.Request) error {
	c := agentChange{Act: "make", ID: strings.TrimSpace(r.PostFormValue("id")), Name: strings.TrimSpace(r.PostFormValue("name")), Over: r.PostFormValue("over")}
	err := c.readDay(r)
	if err == nil {
		err = c.readShare(r)
	}
	if err == nil {
		err = d.readAccount(r, &c)
	}
	if err != nil {
		return err
	}
	err = d.Desk.Store.Read(r.Context(), func(q *db.Query) error {
		all, err := merchant.TreeOn(q, d.today())
		for _, b := range all {
			if err == nil && b.Agent.ID == c.ID {
				err = fmt.Errorf("agent %s is there: %w", c.ID, merchant.ErrDiffers)
			}
		}
		return err
	})
	if err != nil {
		return shell.Sorry(w, r, atAgents, err)
	}
	return two.Propose(d.Desk, w, r, atAgents, agentKind+":"+c.ID, c)
}

// actOnAgent proposes a change of an agent that is there.
func (d Deps) actOnAgent(w http.ResponseWriter, r *http.Request) error {
	c := agentChange{Act: r.PathValue("act"), ID: r.PathValue("id")}
	err := d.Desk.Store.Read(r.Context(), func(q *db.Query) error {
		_, err := merchant.AgentOf(q, c.ID)
		return err
	})
	switch {
	case err != nil:
	case c.Act == "account":
		err = d.readAccount(r, &c)
	case c.Act == "rate":
		if err = c.readDay(r); err == nil {
			err = c.readShare(r)
		}
	case c.Act == "move":
		c.Over, err = r.PostFormValue("over"), c.readDay(r)
	case c.Act == "end":
		err = c.readDay(r)
	default:
		err = web.ErrNoPage
	}
	if err != nil {
		return fmt.Errorf("act %q on agent %s: %w", c.Act, c.ID, err)
	}
	return two.Propose(d.Desk, w, r, c.page(), agentKind+":"+c.ID, c)
}

func (c *agentChange) readDay(r *http.Request) (err error) {
	if c.Since, err = calendar.Parse(r.PostFormValue("since")); err != nil {
		return fmt.Errorf("day %q: %w", r.PostFormValue("since"), shell.ErrForm)
	}
	return nil
}

func (c *agentChange) readShare(r *http.Request) error {
	p, err := money.ParseYuan(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(r.PostFormValue("share")), "%"))) // a hundredth of a per cent is a point
	if err != nil || p.Sign() < 0 {
		return fmt.Errorf("share of an agent: %w", merchant.ErrRate)
	}
	c.Points = p.Minor()
	return nil
}

// readAccount reads a bank account; its number is sealed before it is kept
// anywhere.
func (d Deps) readAccount(r *http.Request, c *agentChange) error {
	number := strings.Map(func(x rune) rune {
		if x == ' ' || x == '-' {
			return -1
		}
		return x
	}, r.PostFormValue("account"))
	c.Bank = strings.TrimSpace(r.PostFormValue("bank"))
	if c.Bank == "" || len(c.Bank) > merchant.MaxText || len(number) < 8 || len(number) > 32 || strings.Trim(number, "0123456789") != "" {
		return fmt.Errorf("bank account of an agent: %w", merchant.ErrAccount)
	}
	c.Masked = "****" + number[len(number)-4:]
	plain, err := json.Marshal(merchant.Secrets{Account: number})
	if err == nil {
		c.Sealed, err = d.Merchants.Seal(r.Context(), plain)
	}
	return err
}
