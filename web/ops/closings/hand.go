package closings

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/a-h/templ"

	"koala/internal/db"
	"koala/internal/fail"
	"koala/internal/proposal"
	"koala/money"
	"koala/settlement"
	"koala/web"
	"koala/web/ops/shell"
)

// What a person answers for the bank, and how much the house lends, is proposed
// by one person and confirmed by another; the change is made in the unit that
// confirms it, so that a cut leaves both or neither.

// ErrStale is a proposal that was made of what is no longer so.
var ErrStale = fail.Define(fail.Conflict, "closings.stale", "what this was proposed about has changed meanwhile: take it back and look again")

// The kinds of proposals of these pages.
const (
	answerKind  = "payout_answer"
	fundingKind = "funding"
)

// theFunding is what a funding proposal is about: there is one limit.
const theFunding = fundingKind + ":at_once"

// A change is what is proposed; it lies in the proposal as JSON.
type change interface {
	text(names namer) web.Text
	page() string
	deed() (shell.Act, string) // and what it is, in the trail
	check(q db.Reader) error   // what speaks against it now
	apply(tx *db.Tx, p proposal.Proposal) error
}

// An answer is what is said about a payout in the bank's place.
type answer struct {
	Payout, Payee string
	Fen           int64
	State         settlement.State // Confirmed or Returned
}

func (a answer) text(names namer) web.Text {
	t, name := words.AnswerPaid, names.of(a.Payee)
	if a.State == settlement.Returned {
		t = words.AnswerBack
	}
	return web.Text{ZH: t.To(web.ZH, web.Yuan(a.Fen), name.ZH), EN: t.To(web.EN, web.Yuan(a.Fen), name.EN)}
}

func (a answer) page() string { return "/ops/settlement/payouts/" + a.Payout }

func (a answer) deed() (shell.Act, string) {
	return shell.ActSettle, fmt.Sprintf("payout %s by hand: %s", a.Payout, a.State)
}

// check refuses an answer that the bank's own word, or its absence, forbids.
func (a answer) check(q db.Reader) error {
	p, err := settlement.PayoutOf(q, a.Payout)
	if err != nil {
		return err
	}
	for _, to := range mayBe(p.State) {
		if to == a.State {
			return nil
		}
	}
	return fmt.Errorf("payout %s is %s: %w", a.Payout, p.State, settlement.ErrState)
}

func (a answer) apply(tx *db.Tx, p proposal.Proposal) error {
	by := p.By + ", " + p.Decider
	if a.State == settlement.Returned {
		return settlement.ReturnByHand(tx, a.Payout, by, p.Why)
	}
	return settlement.ConfirmByHand(tx, a.Payout, by, p.Why)
}

// mayBe is what a person may answer about a payout: what the bank was told to pay
// may have been paid or have come back, and what was paid may still come back.
func mayBe(s settlement.State) []settlement.State {
	switch s {
	case settlement.Sent:
		return []settlement.State{settlement.Confirmed, settlement.Returned}
	case settlement.Confirmed:
		return []settlement.State{settlement.Returned}
	}
	return nil
}

// A lending is how much the house lends at most.
type lending struct{ Was, Fen int64 }

func (l lending) text(namer) web.Text { return words.FundingIs.F(web.Yuan(l.Was), web.Yuan(l.Fen)) }
func (l lending) page() string        { return here }
func (l lending) deed() (shell.Act, string) {
	return shell.ActFunding, web.Yuan(l.Was) + " → " + web.Yuan(l.Fen)
}

func (l lending) check(q db.Reader) error {
	most, _, err := settlement.Funding(q, time.Time{})
	if err == nil && most.Minor() != l.Was {
		err = fmt.Errorf("funding is %s, not %s: %w", most, money.Fen(l.Was), ErrStale)
	}
	return err
}

func (l lending) apply(tx *db.Tx, _ proposal.Proposal) error {
	return settlement.SetFunding(tx, money.Fen(l.Fen))
}

// changeOf reads what is proposed.
func changeOf(p proposal.Proposal, kind string) (c change, err error) {
	switch kind {
	case answerKind:
		var x answer
		err = p.Read(&x)
		c = x
	case fundingKind:
		var x lending
		err = p.Read(&x)
		c = x
	default:
		return nil, fmt.Errorf("proposals of kind %q: %w", kind, web.ErrNoPage)
	}
	if err != nil {
		err = fmt.Errorf("proposal %s: %w", p.ID, err)
	}
	return c, err
}

// propose keeps a change that another person confirms, if it could be made now.
func (d Deps) propose(w http.ResponseWriter, r *http.Request, about string, c change) error {
	why, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, c.page(), err)
	}
	u, _ := web.Who(r.Context())
	act, what := c.deed()
	return d.Desk.Change(w, r, c.page(), words.Proposed, shell.Deed{Act: act, Target: c.page(), What: "proposed: " + what}, func(tx *db.Tx) error {
		if err := c.check(tx); err != nil {
			return err
		}
		_, err := proposal.Make(tx, about, c, u.Name, why)
		return err
	})
}

// decide confirms a proposal or takes it back. Sent twice, the second finds it
// decided.
func (d Deps) decide(w http.ResponseWriter, r *http.Request) error {
	kind, id, act := r.PathValue("kind"), r.PathValue("id"), r.PathValue("act")
	u, _ := web.Who(r.Context())
	var c change
	err := d.Desk.Store.Read(r.Context(), func(q *db.Query) error {
		p, err := proposal.Of(q, kind, id)
		if err == nil {
			c, err = changeOf(p, kind)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("deciding a proposal: %w", err)
	}
	kindOf, what := c.deed()
	deed := shell.Deed{Act: kindOf, Target: c.page(), What: act + ": " + what}
	switch act {
	case "undo":
		return d.Desk.Change(w, r, c.page(), words.Undone, deed, func(tx *db.Tx) error {
			_, err := proposal.Undo(tx, kind, id, u.Name)
			return err
		})
	case "confirm":
		return d.Desk.Change(w, r, c.page(), words.Done, deed, func(tx *db.Tx) error {
			p, err := proposal.Confirm(tx, kind, id, u.Name)
			if err == nil {
				err = c.check(tx)
			}
			if err != nil {
				return err
			}
			return c.apply(tx, p)
		})
	}
	return fmt.Errorf("act %q on a proposal: %w", act, web.ErrNoPage)
}

// answer proposes what the bank has done with a payout.
func (d Deps) answer(w http.ResponseWriter, r *http.Request) error {
	a := answer{Payout: r.PathValue("id"), State: settlement.State(r.PostFormValue("decision"))}
	if a.State != settlement.Confirmed && a.State != settlement.Returned {
		return fmt.Errorf("answer %q about a payout: %w", a.State, shell.ErrForm)
	}
	err := d.Desk.Store.Read(r.Context(), func(q *db.Query) error {
		p, err := settlement.PayoutOf(q, a.Payout)
		a.Payee, a.Fen = p.Payee, p.Amount.Minor()
		return err
	})
	if err != nil {
		return fmt.Errorf("answer about a payout: %w", err)
	}
	return d.propose(w, r, answerKind+":"+a.Payout, a)
}

func (d Deps) funding(w http.ResponseWriter, r *http.Request) error {
	a, err := money.ParseYuan(r.PostFormValue("amount"))
	if err != nil || a.Sign() < 0 {
		return fmt.Errorf("funding limit: %w", shell.ErrForm)
	}
	was, err := money.ParseYuan(r.PostFormValue("was"))
	if err != nil {
		return fmt.Errorf("funding limit before: %w", shell.ErrForm)
	}
	return d.propose(w, r, theFunding, lending{Was: was.Minor(), Fen: a.Minor()})
}

// A waitingView is what waits for another person.
type waitingView struct {
	table web.Table
	acts  []shell.Question
}

// waiting shows proposals of a kind, and what who looks may do about them.
func (v *waitingView) add(ctx context.Context, names namer, kind string, list []proposal.Proposal) error {
	v.table.ID, v.table.NoCSV = "proposals", true
	v.table.Head = []web.Column{{Name: words.Change, Wide: true}, {Name: words.Proposer}, {Name: words.Reason}, {Name: words.Since, Num: true}}
	u, _ := web.Who(ctx)
	for _, p := range list {
		c, err := changeOf(p, kind)
		if err != nil {
			return err
		}
		text := c.text(names).In(ctx)
		v.table.Rows = append(v.table.Rows, web.Row{Href: c.page(), Cells: []web.Cell{web.Plain(text), web.Plain(p.By), shell.Written(p.Why), shell.At(p.At)}})
		n, at := len(v.table.Rows), here+"/proposals/"+kind+"/"+p.ID
		if n > mostActs {
			continue
		}
		if p.By != u.Name {
			v.acts = append(v.acts, shell.Question{ID: "ask-confirm-" + p.ID, Action: at + "/confirm", Open: words.Confirm.F(n), Body: words.ConfirmBody, Icon: "check", Receiver: text, About: words.Change})
		}
		v.acts = append(v.acts, shell.Question{ID: "ask-undo-" + p.ID, Action: at + "/undo", Open: words.TakeBack.F(n), Body: words.TakeBackBody, Icon: "x", Receiver: text, About: words.Change})
	}
	return nil
}

// waits reads what waits for another person about all payouts.
func waits(ctx context.Context, q db.Reader, names namer) (v waitingView, err error) {
	for _, kind := range []string{fundingKind, answerKind} {
		list, err := proposal.Waiting(q, kind, shell.Rows)
		if err == nil {
			err = v.add(ctx, names, kind, list)
		}
		if err != nil {
			return v, err
		}
	}
	return v, nil
}

// A handView is what persons have answered about one payout, and may.
type handView struct {
	state   settlement.State
	late    bool
	acts    []shell.Question
	waiting waitingView
	answers web.Table
}

// Hand is the part of a payout's page where persons answer for the bank: one says
// that it has paid or sent the money back, another confirms it.
func Hand(ctx context.Context, q db.Reader, p settlement.Payout, now time.Time) (templ.Component, error) {
	v := handView{state: p.State, late: late(&p, now), answers: web.Table{ID: "answers", NoCSV: true, Empty: words.NoAnswers, Head: []web.Column{{Name: words.State}, {Name: words.By}, {Name: words.Reason, Wide: true}, {Name: words.At, Num: true}}}}
	all, err := settlement.AnswersOf(q, p.ID)
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		v.answers.Rows = append(v.answers.Rows, web.Row{Cells: []web.Cell{web.Status(ctx, stateTones[a.State], stateWords[a.State]), web.Plain(a.By), shell.Written(a.Why), shell.At(a.At)}})
	}
	names := newNamer(q)
	list, err := proposal.About(q, answerKind+":"+p.ID, 1)
	if err == nil && len(list) == 1 && list[0].State == proposal.Open {
		err = v.waiting.add(ctx, names, answerKind, list)
	}
	if err != nil {
		return nil, err
	}
	if to := mayBe(p.State); len(to) > 0 && len(v.waiting.table.Rows) == 0 {
		ask := shell.Question{ID: "ask-answer", Action: here + "/payouts/" + p.ID + "/answer", Open: words.AnswerAsk, Body: words.AnswerBody, Icon: "landmark", Amount: web.Yuan(p.Amount.Minor()), Receiver: names.of(p.Payee).In(ctx), About: words.Payee}
		for _, s := range to {
			ask.Choices = append(ask.Choices, web.Option{Value: string(s), Name: answerWords[s]})
		}
		v.acts = []shell.Question{ask}
	}
	return handPart(v), nil
}

var answerWords = map[settlement.State]web.Text{settlement.Confirmed: words.BankPaid, settlement.Returned: words.BankReturned}

// late says that a payout at once is past its promise and the bank's answer is
// not there.
func late(p *settlement.Payout, now time.Time) bool {
	return p.Kind == settlement.AtOnce && (p.State == settlement.Waiting || p.State == settlement.Sent) && now.After(p.Promised)
}

// lateTable lists payouts at once that are late, the longest first.
func lateTable(ctx context.Context, names namer, list []settlement.Payout, now time.Time) web.Table {
	t := web.Table{ID: "late", NoCSV: true, Head: []web.Column{{Name: words.Payee}, {Name: words.State}, {Name: words.Promised, Num: true}, {Name: words.LateBy, Num: true}, {Name: words.Amount, Num: true}}}
	for _, p := range list {
		t.Rows = append(t.Rows, web.Row{Href: "/ops/settlement/payouts/" + p.ID, Cells: []web.Cell{web.Plain(names.of(p.Payee).In(ctx)), web.Status(ctx, stateTones[p.State], stateWords[p.State]), shell.At(p.Promised),
			web.Plain(words.Minutes.In(ctx, int(now.Sub(p.Promised)/time.Minute))), web.Money(p.Amount.Minor())}})
	}
	return t
}
