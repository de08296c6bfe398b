package ecash

import (
	"fmt"
	"net/http"
	"slices"

	"koala/acquiring"
	"koala/internal/db"
	"koala/issuing"
	"koala/report"
	"koala/web"
	"koala/web/ops/shell"
)

// doubts lists sales whose end their till does not know.
func (d Deps) doubts(w http.ResponseWriter, r *http.Request) error {
	ctx, pg := r.Context(), web.PageOf(r, shell.Rows)
	key := func(x acquiring.Doubt) string { return x.ID }
	var list []acquiring.Doubt
	t := web.Table{ID: "doubts", Empty: words.NoDoubts, Head: []web.Column{{Name: words.Card}, {Name: words.Evidence}, {Name: words.Goods}, {Name: words.Amount, Num: true},
		{Name: words.Till}, {Name: words.Shop}, {Name: words.Came, Num: true}}}
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = shell.Gather(pg, func(after string, limit int) ([]acquiring.Doubt, error) { return acquiring.Doubts(q, after, limit) }, key, nil)
		for _, x := range list {
			if err != nil {
				break
			}
			var paid, known bool
			paid, known, err = acquiring.Evidence(q, x)
			tone, word := evidence(paid, known)
			t.Rows = append(t.Rows, web.Row{Href: here + "/doubts/" + x.ID, Cells: []web.Cell{cardCell(ctx, x.Card), web.Status(ctx, tone, word), shell.Short(goods(x).In(ctx)),
				web.Money(x.Fen), web.Mono(x.TID), web.Plain(x.Shop), shell.At(x.Got)}})
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("doubts: %w", err)
	}
	t.Next = shell.NextOf(r, list, pg, key)
	return d.show(w, r, "/doubts", shell.ListView{Table: t, Note: words.DoubtsNote})
}

func evidence(paid, known bool) (web.Tone, web.Text) {
	switch {
	case !known:
		return web.Neutral, words.NoEvidence
	case paid:
		return web.Info, words.CardPaid
	}
	return web.Info, words.CardDidNot
}

func goods(x acquiring.Doubt) web.Text {
	if t, ok := kindWords[x.Kind]; ok {
		return t
	}
	return words.KindSale
}

// A caseView is something that staff decide, with the evidence.
type caseView struct {
	facts []web.Fact
	lines []web.Line
	acts  []shell.Question
	deeds []web.Happening
}

func (d Deps) doubt(w http.ResponseWriter, r *http.Request) error {
	ctx, at := r.Context(), here+"/doubts/"+r.PathValue("id")
	var v caseView
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		x, err := acquiring.DoubtOf(q, r.PathValue("id"))
		if err != nil {
			return err
		}
		paid, known, err := acquiring.Evidence(q, x)
		if err != nil {
			return err
		}
		tone, word := evidence(paid, known)
		v.facts = []web.Fact{{Name: words.State, Show: web.Chip(web.Neutral, shell.Both(x.State.Words))}, {Name: words.Evidence, Show: web.Chip(tone, word)},
			{Name: words.Goods, Show: shell.Phrase(goods(x))}, {Name: words.Amount, Value: web.Yuan(x.Fen)}, {Name: words.Counter, Value: web.Number(max(int64(x.ATC), int64(x.Seq)))},
			{Name: words.Till, Value: x.TID, Href: "/ops/shops/devices/" + x.TID, Mono: true}, {Name: words.Shop, Value: x.Shop, Href: "/ops/shops/" + x.Shop}, {Name: words.Came, Value: web.Moment(x.Got)}}
		if told := shell.Both(x.Told.Words); !told.Empty() {
			v.facts = append(v.facts, web.Fact{Name: words.DecidedBy, Show: shell.Phrase(told)})
		}
		if x.Card != "" {
			if v.facts, v.lines, err = d.cardEvidence(q, v.facts, x.Card); err != nil {
				return err
			}
		}
		if x.State == acquiring.DoubtOpen {
			body := words.DoubtBody
			if x.Seq != 0 {
				body = words.MealDoubtBody
			}
			v.acts = []shell.Question{{ID: "ask-doubt", Action: at + "/decide", Open: words.Decide, Body: body, Icon: "scale", Amount: web.Yuan(x.Fen), Receiver: x.Shop, About: words.Shop,
				Choices: []web.Option{{Value: "paid", Name: words.DecidePaid}, {Value: "not", Name: words.DecideNot}}}}
		}
		trail, err := shell.Deeds(q, shell.Deed{Target: at}, "", shell.Rows)
		v.deeds = shell.Told(trail)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a doubt: %w", err)
	}
	return d.Desk.Show(w, r, web.Page{Title: words.Doubt, Lead: words.DoubtLead, Back: here + "/doubts", Here: here}, casePage(v))
}

// cardEvidence adds what the card itself has proven since.
func (d Deps) cardEvidence(q *db.Query, facts []web.Fact, id issuing.CardID) ([]web.Fact, []web.Line, error) {
	c, err := issuing.Get(q, id)
	if err != nil {
		return facts, nil, err
	}
	facts = append(facts, web.Fact{Name: words.Card, Value: shell.Masked(id), Href: d.Card(string(c.Customer), id), Mono: true})
	var lines []web.Line
	if !c.Known.At.IsZero() {
		lines = append(lines, web.Line{Text: words.ProvenAt.F(c.Known.Offline, web.Moment(c.Known.At)), Value: web.Yuan(c.Known.Balance.Minor())})
	}
	if b, err := d.Book.Balance(issuing.Float(id)); err == nil {
		lines = append(lines, web.Line{Text: words.InTheBooks, Value: web.Yuan(b.Posted.Minor())})
	}
	gaps, err := issuing.Gaps(q, id)
	for _, g := range gaps {
		lines = append(lines, web.Line{Text: words.LeftBetween.F(int(g.After), int(g.Before)), Value: web.Yuan(g.Fen.Minor())})
	}
	return facts, lines, err
}

func (d Deps) decideDoubt(w http.ResponseWriter, r *http.Request) error {
	id, choice := r.PathValue("id"), r.PostFormValue("decision")
	if choice != "paid" && choice != "not" {
		return fmt.Errorf("decision: %w", shell.ErrForm)
	}
	at := here + "/doubts/" + id
	reason, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, at, err)
	}
	u, _ := web.Who(r.Context())
	note := reason
	for len(note) > acquiring.MaxWhy { // the trail keeps all of it
		note = string([]rune(note)[:len([]rune(note))-1])
	}
	return d.Desk.Change(w, r, at, words.Decided, shell.Deed{Act: shell.ActDoubt, Target: at, What: id + ": " + choice}, func(tx *db.Tx) error {
		_, err := acquiring.Rule(tx, id, choice == "paid", u.Name, note)
		return err
	})
}

// gapScan is how many of the last records are looked at for cards whose
// balances do not follow from what was handed in.
const gapScan = 500

// gaps lists what has not come: numbers of devices, and money that left a card
// between two counters.
func (d Deps) gaps(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	numbers := web.Table{ID: "gaps", Empty: words.NoGaps, Head: []web.Column{{Name: words.Till}, {Name: words.FromNumber, Num: true}, {Name: words.ToNumber, Num: true}, {Name: words.Since, Num: true}}}
	cash := web.Table{ID: "cash", NoCSV: true, Empty: words.NoMoneyGaps, Head: []web.Column{{Name: words.Card}, {Name: words.FromCounter, Num: true}, {Name: words.ToCounter, Num: true}, {Name: words.Amount, Num: true}}}
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		list, err := acquiring.Gaps(q, "", 500)
		if err != nil {
			return err
		}
		for _, g := range list {
			numbers.Rows = append(numbers.Rows, web.Row{Href: "/ops/shops/devices/" + g.TID, Cells: []web.Cell{web.Mono(g.TID), web.Count(int64(g.Low)), web.Count(int64(g.High)), shell.At(g.Opened)}})
		}
		sales, err := acquiring.Sales(q, acquiring.Filter{Limit: gapScan})
		if err != nil {
			return err
		}
		var seen []issuing.CardID
		for _, s := range sales {
			if s.Card == "" || slices.Contains(seen, s.Card) {
				continue
			}
			seen = append(seen, s.Card)
			if err := d.cardGaps(q, &cash, s.Card); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("gaps: %w", err)
	}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, numbers)
	}
	return d.Desk.Show(w, r, web.Page{Title: words.Title, Lead: words.Lead, Here: here}, gapsPage(tabs("/gaps"), numbers, cash))
}

func (d Deps) cardGaps(q *db.Query, t *web.Table, id issuing.CardID) error {
	list, err := issuing.Gaps(q, id)
	if err != nil || len(list) == 0 {
		return err
	}
	c, err := issuing.Get(q, id)
	for _, g := range list {
		t.Rows = append(t.Rows, web.Row{Href: d.Card(string(c.Customer), id), Cells: []web.Cell{web.Mono(shell.Masked(id)), web.Count(int64(g.After)), web.Count(int64(g.Before)), web.Money(g.Fen.Minor())}})
	}
	return err
}

// loads lists the e-cash loads that are not settled.
func (d Deps) loads(w http.ResponseWriter, r *http.Request) error {
	ctx, pg := r.Context(), web.PageOf(r, shell.Rows)
	key := func(l report.Load) string { return l.ID }
	var list []report.Load
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = shell.Gather(pg, func(after string, limit int) ([]report.Load, error) { return report.OpenLoads(q, after, limit) }, key, nil)
		return err
	})
	if err != nil {
		return err
	}
	t := web.Table{ID: "loads", Empty: words.NoLoads, Next: shell.NextOf(r, list, pg, key), Head: []web.Column{{Name: words.Load}, {Name: words.State}, {Name: words.Card}, {Name: words.Amount, Num: true},
		{Name: words.Counter, Num: true}, {Name: words.Since, Num: true}}}
	for _, l := range list {
		tone, word := loadState(issuing.LoadState(l.State))
		counter := shell.None()
		if l.ATC >= 0 {
			counter = web.Count(int64(l.ATC))
		}
		t.Rows = append(t.Rows, web.Row{Href: here + "/loads/" + l.ID, Cells: []web.Cell{shell.Ident(l.ID), web.Status(ctx, tone, word), cardCell(ctx, issuing.CardID(l.Card)),
			web.Money(l.Amount.Minor()), counter, shell.At(l.Placed)}})
	}
	return d.show(w, r, "/loads", shell.ListView{Table: t, Note: words.LoadsNote})
}

func loadState(s issuing.LoadState) (web.Tone, web.Text) {
	switch s {
	case issuing.LoadHeld:
		return web.Info, words.LoadHeld
	case issuing.LoadBound:
		return web.Warn, words.LoadBound
	case issuing.LoadPaid:
		return web.Good, words.LoadPaid
	}
	return web.Neutral, words.LoadVoid
}

func (d Deps) load(w http.ResponseWriter, r *http.Request) error {
	ctx, at := r.Context(), here+"/loads/"+r.PathValue("id")
	var v caseView
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		l, err := issuing.LoadOf(q, r.PathValue("id"))
		if err != nil {
			return err
		}
		tone, word := loadState(l.State)
		v.facts = []web.Fact{{Name: words.State, Show: web.Chip(tone, word)}, {Name: words.Load, Value: l.ID, Mono: true}, {Name: words.Amount, Value: web.Yuan(l.Amount.Minor())}}
		if l.ATC >= 0 {
			v.facts = append(v.facts, web.Fact{Name: words.Counter, Value: web.Number(int64(l.ATC))}, web.Fact{Name: words.Before, Value: web.Yuan(l.Old.Minor())})
		}
		if l.Proof != "" {
			v.facts = append(v.facts, web.Fact{Name: words.DecidedBy, Show: shell.Phrase(proofWords(l.Proof))})
		}
		v.facts = append(v.facts, web.Fact{Name: words.Since, Value: web.Moment(l.Placed)}, web.Fact{Name: words.Changed, Value: web.Moment(l.Changed)})
		if v.facts, v.lines, err = d.cardEvidence(q, v.facts, l.Card); err != nil {
			return err
		}
		v.acts = loadActs(l, at)
		trail, err := shell.Deeds(q, shell.Deed{Target: at}, "", shell.Rows)
		v.deeds = shell.Told(trail)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a load: %w", err)
	}
	return d.Desk.Show(w, r, web.Page{Title: words.Load, Lead: words.LoadLead, Back: here + "/loads", Here: here}, casePage(v))
}

func loadActs(l issuing.Load, at string) []shell.Question {
	q := shell.Question{ID: "ask-load", Action: at + "/decide", Open: words.Decide, Body: words.LoadBody, Icon: "scale", Amount: web.Yuan(l.Amount.Minor()), Receiver: shell.Masked(l.Card), About: words.Card}
	switch l.State {
	case issuing.LoadBound:
		q.Choices = []web.Option{{Value: "paid", Name: words.LoadHappened}, {Value: "void", Name: words.LoadNothing}}
	case issuing.LoadHeld:
		q.Open, q.Body, q.Danger, q.Icon, q.Hidden = words.CancelLoad, words.CancelLoadBody, true, "x", [][2]string{{"decision", "cancel"}}
	default:
		return nil
	}
	return []shell.Question{q}
}

func proofWords(by string) web.Text {
	if t, ok := proofs[by]; ok {
		return t
	}
	return web.Same(by)
}

var proofs = map[string]web.Text{"script": words.ByScript, "log": words.ByLog, "clearing": words.ByClearing, "staff": words.ByStaff, "cancelled": words.ByCancel, "never came": words.ByTime, "card lost": words.ByLoss, "request": words.ByRequest}

func (d Deps) decideLoad(w http.ResponseWriter, r *http.Request) error {
	id, choice := r.PathValue("id"), r.PostFormValue("decision")
	at := here + "/loads/" + id
	return d.Desk.Change(w, r, at, words.Decided, shell.Deed{Act: shell.ActRule, Target: at, What: id + ": " + choice}, func(tx *db.Tx) (err error) {
		switch choice {
		case "paid", "void":
			_, err = issuing.RuleLoad(tx, id, choice == "paid")
		case "cancel":
			_, err = issuing.CancelLoad(tx, id)
		default:
			err = fmt.Errorf("decision on load %s: %w", id, shell.ErrForm)
		}
		return err
	})
}
