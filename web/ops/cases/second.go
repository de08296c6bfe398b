package cases

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"koala/dispute"
	"koala/internal/db"
	"koala/internal/proposal"
	"koala/money"
	"koala/web"
	"koala/web/ops/shell"
)

// pending is what a second person has to do with a case.
type pending struct {
	alone money.Amount // up to how much one person may act
	step  dispute.ProposedStep
	has   bool
}

func pendingOf(q db.Reader, c dispute.Case, now time.Time) (p pending, err error) {
	if p.alone, err = dispute.Alone(q, now); err == nil {
		p.step, p.has, err = dispute.Proposed(q, c.ID)
	}
	return p, err
}

// second says on a case's page whether one person may act, and what waits.
func (v *caseView) second(ctx context.Context, c dispute.Case, p pending) {
	if c.State.Final() {
		return
	}
	v.alone = words.OneMay.F(web.Yuan(p.alone.Minor()))
	if c.Amount.Cmp(p.alone) > 0 {
		v.alone = words.TwoMust.F(web.Yuan(p.alone.Minor()))
	}
	if !p.has {
		return
	}
	name := shell.Both(p.step.Step.Words)
	v.proposed = with(words.StepWaits, web.Same(p.step.By), name, web.Same(p.step.Why))
	switch {
	case p.step.Stale(c):
		v.proposed = with(words.StepStale, web.Same(p.step.By), name)
	case !c.Due.IsZero():
		v.proposed = with(words.StepWaitsBy, web.Same(p.step.By), name, web.Same(p.step.Why), web.Same(lastDay(ctx, c.Due)))
	}
}

// with fills texts into a text, each in its language.
func with(t web.Text, args ...web.Text) web.Text {
	var zh, en []any
	for _, a := range args {
		zh, en = append(zh, a.ZH), append(en, a.EN)
	}
	return web.Text{ZH: t.To(web.ZH, zh...), EN: t.To(web.EN, en...)}
}

// proposedSteps lists the steps that wait for a second person.
func proposedSteps(ctx context.Context, q db.Reader) (web.Table, error) {
	t := web.Table{ID: "steps", NoCSV: true, Head: []web.Column{{Name: words.Case}, {Name: words.Step}, {Name: words.By}, {Name: words.Reason}, {Name: words.Due}, {Name: words.Amount, Num: true}}}
	list, err := proposal.Waiting(q, dispute.StepKind, shell.Rows)
	for _, p := range list {
		id := p.About[len(dispute.StepKind)+1:]
		c, err := dispute.Get(q, id)
		if err != nil {
			return t, err
		}
		s := dispute.ProposedStep{Proposal: p}
		if err := p.Read(&s.Asked); err != nil {
			return t, fmt.Errorf("proposal %s: %w", p.ID, err)
		}
		due := shell.None()
		switch {
		case s.Stale(c):
			due = web.Status(ctx, web.Neutral, words.HasMoved)
		case !c.Due.IsZero():
			due = shell.Short(lastDay(ctx, c.Due))
		}
		t.Rows = append(t.Rows, web.Row{Href: here + "/" + id, Cells: []web.Cell{web.Mono(c.Ref), web.Plain(shell.Both(s.Step.Words).In(ctx)), web.Plain(p.By), shell.Written(p.Why), due, web.Money(s.Fen)}})
	}
	return t, err
}

// stepOf is what an act on a case does, and what is said then: one that needs a
// second person is proposed.
func (d Deps) stepOf(r *http.Request, id, act string) (do func(tx *db.Tx, who, why string) error, said web.Text, err error) {
	switch act {
	case "send":
		return func(tx *db.Tx, who, why string) error { _, err := dispute.Send(tx, id, who, why); return err }, words.Done, nil
	case "confirm":
		return func(tx *db.Tx, who, _ string) error { _, err := dispute.ConfirmStep(tx, id, who); return err }, words.Done, nil
	case "undo":
		return func(tx *db.Tx, who, _ string) error { return dispute.UndoStep(tx, id, who) }, words.Dropped, nil
	case "represent", "file", "accept":
		said = words.Done
		err = d.Desk.Store.Read(r.Context(), func(q *db.Query) error {
			c, err := dispute.Get(q, id)
			if err != nil {
				return err
			}
			alone, err := dispute.Alone(q, d.Desk.Store.Now())
			if c.Amount.Cmp(alone) > 0 {
				said = words.StepProposed
			}
			return err
		})
		return func(tx *db.Tx, who, why string) error {
			_, _, err := dispute.Do(tx, dispute.Step(act), id, who, why)
			return err
		}, said, err
	}
	return nil, said, fmt.Errorf("act %q on a dispute: %w", act, web.ErrNoPage)
}
