package dispute

import (
	"fmt"
	"slices"
	"time"

	"koala/internal/db"
	"koala/internal/fail"
	"koala/internal/proposal"
	"koala/money"
)

// Kinds of proposals that this package has.
const (
	StepKind = "dispute"
	RuleKind = "dispute-rule"
)

// A Step is what the desk does to a case by which money moves or is staked.
type Step string

// The steps that a second person confirms when much is disputed.
const (
	StepAccept    Step = "accept"
	StepRepresent Step = "represent"
	StepFile      Step = "file"
)

var stepWords = map[Step][2]string{StepAccept: {"accept", "认赔"}, StepRepresent: {"represent", "再请款"}, StepFile: {"file for arbitration", "提交仲裁"}}

// Words says the step for people, in Chinese if zh.
func (s Step) Words(zh bool) string { return pick(stepWords, s, zh) }

// An Asked is a step that waits for a second person: of the case as it stood, with
// the evidence that it had.
type Asked struct {
	Step  Step
	State State
	Pack  string // SHA-256
	Fen   int64
}

func aboutCase(id string) string { return StepKind + ":" + id }

// Alone is up to how much one person may do a step of a case at a moment.
func Alone(q db.Reader, at time.Time) (money.Amount, error) {
	n, err := RuleAt(q, RuleSecond, at)
	return money.Fen(n), err
}

// Do does a step of a case if one person may, and else proposes it: waits. One
// that was proposed while the case stood otherwise is taken back.
func Do(tx *db.Tx, s Step, id, who, why string) (c Case, waits bool, err error) {
	c, err = Get(tx, id)
	if err != nil {
		return c, false, err
	}
	alone, err := Alone(tx, tx.Now())
	if err != nil {
		return c, false, err
	}
	old, has, err := Proposed(tx, id)
	if err == nil && has && old.Stale(c) {
		_, err = proposal.Undo(tx, StepKind, old.ID, System)
		has = false
	}
	switch {
	case err != nil:
		return c, false, err
	case c.Amount.Cmp(alone) > 0:
		return c, true, propose(tx, s, c, who, why)
	case has:
		return c, false, fmt.Errorf("dispute %s: %w", id, proposal.ErrSame)
	}
	c, err = s.do(tx, id, who, why)
	return c, false, err
}

// propose keeps a step for a second person, if it could be done now.
func propose(tx *db.Tx, s Step, c Case, who, why string) error {
	to, known := map[Step]State{StepAccept: Accepted, StepRepresent: Presented, StepFile: Arbitration}[s]
	switch {
	case !known || !c.State.May(to):
		return fmt.Errorf("dispute %s from %s: %w", c.ID, c.State, ErrState)
	case who == "" || why == "" || len(why) > MaxWhy:
		return fmt.Errorf("dispute %s: %w", c.ID, ErrWhy)
	case s == StepRepresent && c.Pack == "":
		return fmt.Errorf("dispute %s: %w", c.ID, ErrEvidence)
	}
	if err := c.late(tx, to, who, tx.Now()); err != nil {
		return fmt.Errorf("dispute %s: %w", c.ID, err)
	}
	_, err := proposal.Make(tx, aboutCase(c.ID), Asked{s, c.State, c.Pack, c.Amount.Minor()}, who, why)
	return err
}

func (s Step) do(tx *db.Tx, id, who, why string) (Case, error) {
	switch s {
	case StepAccept:
		return Accept(tx, id, who, why)
	case StepRepresent:
		return Represent(tx, id, who, why)
	case StepFile:
		return File(tx, id, who, why)
	}
	return Case{}, fmt.Errorf("step %q of dispute %s: %w", s, id, ErrState)
}

// A ProposedStep is a step that waits, with who proposed it and why.
type ProposedStep struct {
	proposal.Proposal
	Asked
}

// Stale tells that it cannot be confirmed any more: the case has moved, or has
// other evidence.
func (p ProposedStep) Stale(c Case) bool {
	return p.Asked.State != c.State || p.Asked.Pack != c.Pack
}

// Proposed is the step of a case that waits for a second person.
func Proposed(q db.Reader, id string) (p ProposedStep, has bool, err error) {
	list, err := proposal.About(q, aboutCase(id), 1) // an open one is the newest
	if err != nil || len(list) == 0 || list[0].State != proposal.Open {
		return p, false, err
	}
	p.Proposal = list[0]
	return p, true, p.Read(&p.Asked)
}

// ConfirmStep is the second person's yes: the step is done in that unit, if the
// case stands as it did and has the same evidence.
func ConfirmStep(tx *db.Tx, id, who string) (Case, error) {
	p, has, err := Proposed(tx, id)
	if err != nil {
		return Case{}, err
	}
	c, err := Get(tx, id)
	switch {
	case err != nil:
		return c, err
	case !has:
		return c, fmt.Errorf("dispute %s: %w", id, proposal.ErrNotFound)
	case p.Stale(c):
		return c, fmt.Errorf("dispute %s: it was proposed in %s: %w", id, p.Asked.State, ErrState)
	}
	if _, err := proposal.Confirm(tx, StepKind, p.ID, who); err != nil {
		return c, err
	}
	return p.Step.do(tx, id, p.By+", "+who, p.Why)
}

// UndoStep takes a proposed step back.
func UndoStep(tx *db.Tx, id, who string) error {
	p, has, err := Proposed(tx, id)
	if err == nil && !has {
		err = fmt.Errorf("dispute %s: %w", id, proposal.ErrNotFound)
	}
	if err == nil {
		_, err = proposal.Undo(tx, StepKind, p.ID, who)
	}
	return err
}

// ErrRuleDay is a change of the rules that cannot be made: rules change on days to
// come only, so what runs keeps its deadline.
var ErrRuleDay = fail.Define(fail.Invalid, "dispute.rule_day", "a rule is one of the known ones, has a value within its bounds, and begins on a day to come")

// checkRule refuses a change that is not for a day to come.
func checkRule(r RuleRow, now time.Time) error {
	if !slices.Contains(Rules, r.Rule) || r.Value < 0 || r.Value > r.Rule.Most() || !r.From.After(now) || r.Source == "" || len(r.Source) > MaxWhy {
		return fmt.Errorf("rule %s of %d from %s: %w", r.Rule, r.Value, r.From.Format(time.RFC3339), ErrRuleDay)
	}
	return nil
}

// ProposeRule proposes a rule's value from a day to come on.
func ProposeRule(tx *db.Tx, r RuleRow, who, why string) (proposal.Proposal, error) {
	if err := checkRule(r, tx.Now()); err != nil {
		return proposal.Proposal{}, err
	}
	return proposal.Make(tx, RuleKind+":"+string(r.Rule), r, who, why)
}

// ConfirmRule is the second person's yes; the day must be still to come.
func ConfirmRule(tx *db.Tx, id, who string) (r RuleRow, err error) {
	p, err := proposal.Confirm(tx, RuleKind, id, who)
	if err == nil {
		err = p.Read(&r)
	}
	if err == nil {
		err = checkRule(r, tx.Now())
	}
	if err == nil {
		err = SetRule(tx, r)
	}
	return r, err
}

// A Shift is an open case that would have another deadline if it had been brought
// to where it stands under a rule's new value. It keeps its own.
type Shift struct {
	Case  Case
	Would time.Time
}

// Preview lists what a rule's value would change if it held already, of the cases
// with the nearest deadlines.
func Preview(q db.Reader, r RuleRow, limit int) (out []Shift, err error) {
	for _, s := range []State{Requested, Answered, Missed, Charged, Presented, Again, Arbitration} {
		bound, since := due[s], func(c Case) time.Time { return c.At }
		if s == Answered || s == Missed {
			bound, since = RuleCharge, func(c Case) time.Time { return c.Sale.At }
		}
		if bound != r.Rule {
			continue
		}
		list, err := cases(q, `final = $1 AND state = $2 AND due > 0 ORDER BY due, id LIMIT $3`, false, string(s), page(limit))
		if err != nil {
			return nil, err
		}
		for _, c := range list {
			if would := endOf(since(c), r.Value); !would.Equal(c.Due) {
				out = append(out, Shift{c, would})
			}
		}
	}
	slices.SortFunc(out, func(a, b Shift) int { return a.Case.Due.Compare(b.Case.Due) })
	return out[:min(len(out), page(limit))], nil
}
