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

// two is how two people answer for the bank and change what the house lends.
var two = shell.Two{Path: here + "/proposals/%[1]s/%[2]s",
	Kinds: map[string]func() shell.Change{answerKind: func() shell.Change { return new(answer) }, fundingKind: func() shell.Change { return new(lending) }},
	Words: shell.TwoWords{Proposed: words.Proposed, Done: words.Done, Undone: words.Undone, Confirm: words.Confirm, ConfirmBody: words.ConfirmBody, TakeBack: words.TakeBack, TakeBackBody: words.TakeBackBody,
		Change: words.Change, Proposer: words.Proposer, Reason: words.Reason, Since: words.Since}}

// decide confirms a proposal or takes it back.
func (d Deps) decide(w http.ResponseWriter, r *http.Request) error {
	return two.Decide(d.Desk, w, r, r.PathValue("kind"), r.PathValue("id"), r.PathValue("act"))
}

// An answer is what is said about a payout in the bank's place.
type answer struct {
	Payout, Payee string
	Fen           int64
	State         settlement.State // Confirmed or Returned
}

// Text is shell.Change's.
func (a answer) Text(q db.Reader) web.Text {
	t, name := words.AnswerPaid, newNamer(q).of(a.Payee)
	if a.State == settlement.Returned {
		t = words.AnswerBack
	}
	return web.Text{ZH: t.To(web.ZH, web.Yuan(a.Fen), name.ZH), EN: t.To(web.EN, web.Yuan(a.Fen), name.EN)}
}

func (a answer) page() string { return "/ops/settlement/payouts/" + a.Payout }

// Deed is shell.Change's.
func (a answer) Deed(proposal.State) shell.Deed {
	return shell.Deed{Act: shell.ActAnswer, Target: a.page(), What: fmt.Sprintf("payout %s by hand: %s", a.Payout, a.State)}
}

// Holds refuses an answer that the bank's own word, or its absence, forbids.
func (a answer) Holds(q db.Reader, _ time.Time) error {
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

// Make is shell.Change's.
func (a answer) Make(tx *db.Tx, p proposal.Proposal) error {
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

// Text is shell.Change's.
func (l lending) Text(db.Reader) web.Text { return words.FundingIs.F(web.Yuan(l.Was), web.Yuan(l.Fen)) }

// Deed is shell.Change's.
func (l lending) Deed(proposal.State) shell.Deed {
	return shell.Deed{Act: shell.ActFunding, Target: here, What: web.Yuan(l.Was) + " → " + web.Yuan(l.Fen)}
}

// Holds refuses a limit that was proposed of another one.
func (l lending) Holds(q db.Reader, _ time.Time) error {
	most, _, err := settlement.Funding(q, time.Time{})
	if err == nil && most.Minor() != l.Was {
		err = fmt.Errorf("funding is %s, not %s: %w", most, money.Fen(l.Was), ErrStale)
	}
	return err
}

// Make is shell.Change's.
func (l lending) Make(tx *db.Tx, _ proposal.Proposal) error {
	return settlement.SetFunding(tx, money.Fen(l.Fen))
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
	return two.Propose(d.Desk, w, r, a.page(), answerKind+":"+a.Payout, a)
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
	return two.Propose(d.Desk, w, r, here, theFunding, lending{Was: was.Minor(), Fen: a.Minor()})
}

// A waitingView is what waits for another person.
type waitingView struct {
	table web.Table
	acts  []shell.Question
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
	list, err := proposal.About(q, answerKind+":"+p.ID, 1)
	if err == nil && len(list) == 1 && list[0].State == proposal.Open {
		v.waiting.table, v.waiting.acts, err = two.Show(ctx, q, list)
	}
	if err != nil {
		return nil, err
	}
	if to := mayBe(p.State); len(to) > 0 && len(v.waiting.table.Rows) == 0 {
		ask := shell.Question{ID: "ask-answer", Action: here + "/payouts/" + p.ID + "/answer", Open: words.AnswerAsk, Body: words.AnswerBody, Icon: "landmark", Amount: web.Yuan(p.Amount.Minor()), Receiver: newNamer(q).of(p.Payee).In(ctx), About: words.Payee}
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
