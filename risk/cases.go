package risk

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"koala/internal/db"
	"koala/internal/outbox"
)

// CaseState is where a case stands.
type CaseState string

// The states, and who acts next.
const (
	Opened    CaseState = "open"      // anybody of the desk: take it
	Assigned  CaseState = "assigned"  // the one who took it: decide
	Cleared   CaseState = "cleared"   // nobody: nothing wrong, the shop is paid
	Confirmed CaseState = "confirmed" // nobody: fraud; what is held stays held
)

var nextCase = map[CaseState][]CaseState{Opened: {Assigned}, Assigned: {Opened, Assigned, Cleared, Confirmed}, Cleared: {}, Confirmed: {}}

// May tells whether a case in state s may go to state to.
func (s CaseState) May(to CaseState) bool { return slices.Contains(nextCase[s], to) }

var caseWords = map[CaseState][2]string{
	Opened: {"open", "待认领"}, Assigned: {"being looked at", "审查中"}, Cleared: {"nothing wrong", "已排除"}, Confirmed: {"confirmed", "已确认"},
}

// Words says the state for people, in Chinese if zh.
func (s CaseState) Words(zh bool) string { return pick(caseWords, s, zh) }

// A Case is what the desk looks at: one shop, with every fact that was not
// simply allowed while the case is open.
type Case struct {
	ID       string // rsk_…
	Shop     string
	State    CaseState
	Assignee string
	Action   Action // the strictest of its facts
	Score    int    // the highest of them
	Facts    int64
	Fen      int64
	Holding  bool // the shop is not paid because of it
	Why      string
	At       time.Time
	Changed  time.Time
}

// Evidence is one fact of a case and why it is there.
type Evidence struct {
	Fact     Fact
	Decision Decision
}

// System is who opens a case.
const System = "system"

// An Act is one step of a case.
type Act struct {
	At      time.Time
	Who     string
	Was, Is CaseState
	Why     string
}

// report adds a fact to the shop's open case, or opens one.
func (e *Engine) report(tx *db.Tx, f Fact, d Decision) error {
	c, err := openCaseOf(tx, f.Shop)
	if errors.Is(err, ErrNoCase) {
		c = Case{ID: tx.NewID("rsk"), Shop: f.Shop, State: Opened, Action: Allow, At: tx.Now()}
		if err = insertCase(tx, c); err == nil {
			err = insertAct(tx, c.ID, Act{At: tx.Now(), Who: System, Is: Opened, Why: reason(d)})
		}
	}
	if err != nil {
		return err
	}
	fresh, err := insertEvidence(tx, c.ID, f, d)
	if err != nil || !fresh {
		return err
	}
	c.Facts, c.Fen, c.Score = c.Facts+1, c.Fen+f.Fen, max(c.Score, d.Score)
	if actionRank[d.Action] > actionRank[c.Action] {
		c.Action = d.Action
	}
	if d.Action != Review && !c.Holding && e.effects != nil {
		if err := e.effects.Hold(tx, c.ID, c.Shop, reason(d)); err != nil {
			return err
		}
		c.Holding = true
	}
	if err := updateCase(tx, c, c.State); err != nil {
		return err
	}
	return c.tell(tx)
}

// tell lets pages know that a case is new or has moved.
func (c *Case) tell(tx *db.Tx) error {
	return outbox.Put(tx, outbox.Event{Name: "risk_case." + string(c.State), Subject: c.ID, Data: map[string]any{"shop": c.Shop, "score": c.Score, "action": c.Action}})
}

// reason is a judgement in one line.
func reason(d Decision) string {
	if len(d.Hits) == 0 {
		return string(d.Action)
	}
	return d.Hits[0].En
}

// Take gives a case to somebody of the desk, from nobody or from a colleague.
func Take(tx *db.Tx, id, who, why string) (Case, error) {
	c, err := CaseOf(tx, id)
	if err != nil {
		return c, err
	}
	c.Assignee = who
	return c, c.step(tx, Assigned, who, why)
}

// GiveBack puts a case back to where anybody can take it.
func GiveBack(tx *db.Tx, id, who, why string) (Case, error) {
	c, err := CaseOf(tx, id)
	if err == nil && c.State == Assigned && c.Assignee != who {
		err = fmt.Errorf("case %s: %w", id, ErrNotYours)
	}
	if err != nil {
		return c, err
	}
	c.Assignee = ""
	return c, c.step(tx, Opened, who, why)
}

// Decide ends a case: fraud or not, with the reason. Its facts are labelled by
// it for replays. What was held for it is released when nothing is wrong, and
// stays held when there is.
func (e *Engine) Decide(tx *db.Tx, id, who string, fraud bool, why string) (Case, error) {
	c, err := CaseOf(tx, id)
	if err == nil && c.State == Assigned && c.Assignee != who {
		err = fmt.Errorf("case %s: %w", id, ErrNotYours)
	}
	if err != nil {
		return c, err
	}
	to := Cleared
	if fraud {
		to = Confirmed
	}
	if !c.State.May(to) {
		return c, fmt.Errorf("case %s from %s to %s: %w", id, c.State, to, ErrState)
	}
	switch {
	case e.effects == nil:
	case !fraud && c.Holding:
		err, c.Holding = e.effects.Release(tx, id), false
	case fraud && !c.Holding:
		err, c.Holding = e.effects.Hold(tx, id, c.Shop, why), true
	}
	if err != nil {
		return c, fmt.Errorf("case %s: %w", id, err)
	}
	c.Why = why
	return c, c.step(tx, to, who, why)
}

// LetGo releases what a confirmed case still holds, when the loss is settled.
func (e *Engine) LetGo(tx *db.Tx, id, who, why string) error {
	c, err := CaseOf(tx, id)
	switch {
	case err != nil:
		return err
	case c.State != Confirmed || !c.Holding || e.effects == nil:
		return fmt.Errorf("case %s: %w", id, ErrState)
	case who == "" || why == "" || len(why) > MaxText:
		return fmt.Errorf("case %s: %w", id, ErrWhy)
	}
	if err := e.effects.Release(tx, id); err != nil {
		return fmt.Errorf("case %s: %w", id, err)
	}
	c.Holding = false
	if err := updateCase(tx, c, c.State); err != nil {
		return err
	}
	return insertAct(tx, id, Act{At: tx.Now(), Who: who, Was: c.State, Is: c.State, Why: why})
}

func (c *Case) step(tx *db.Tx, to CaseState, who, why string) error {
	was := c.State
	switch {
	case who == "" || why == "" || len(why) > MaxText:
		return fmt.Errorf("case %s: %w", c.ID, ErrWhy)
	case !was.May(to):
		return fmt.Errorf("case %s from %s to %s: %w", c.ID, was, to, ErrState)
	}
	c.State, c.Changed = to, tx.Now()
	if err := updateCase(tx, *c, was); err != nil {
		return fmt.Errorf("case %s: %w", c.ID, err)
	}
	if err := insertAct(tx, c.ID, Act{At: tx.Now(), Who: who, Was: was, Is: to, Why: why}); err != nil {
		return err
	}
	return c.tell(tx)
}

func insertEvidence(tx *db.Tx, id string, f Fact, d Decision) (fresh bool, err error) {
	fact, err := json.Marshal(f)
	if err != nil {
		return false, err
	}
	why, err := json.Marshal(d)
	if err != nil {
		return false, err
	}
	n, err := tx.Exec(`INSERT INTO risk_evidence (ref, risk_case, shop, fact, decision, at) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (ref) DO NOTHING`,
		f.Ref, id, f.Shop, string(fact), string(why), f.At.UnixMicro())
	return n == 1, err
}

// EvidenceOf reads the facts of a case, oldest first, from the one behind the
// given (nil: from the first).
func EvidenceOf(q db.Reader, id string, after *Evidence, limit int) (out []Evidence, err error) {
	at, ref := int64(-1<<62), ""
	if after != nil {
		at, ref = after.Fact.At.UnixMicro(), after.Fact.Ref
	}
	err = db.Each(q, func(scan func(...any) error) error {
		var fact, why string
		if err := scan(&fact, &why); err != nil {
			return err
		}
		var x Evidence
		err := errors.Join(json.Unmarshal([]byte(fact), &x.Fact), json.Unmarshal([]byte(why), &x.Decision))
		out = append(out, x)
		return err
	}, `SELECT fact, decision FROM risk_evidence WHERE risk_case = $1 AND (at > $2 OR at = $2 AND ref > $3) ORDER BY at, ref LIMIT $4`, id, at, ref, page(limit))
	return out, err
}
