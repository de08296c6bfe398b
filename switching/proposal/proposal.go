// Package proposal keeps changes that one person proposes and another one has to
// confirm before they are made: four eyes. What a change is stands in it as JSON
// and is its owner's matter; this package knows who proposed, who confirmed, and
// that nobody does both.
package proposal

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"koala/internal/db"
	"koala/internal/fail"
)

// What can go wrong.
var (
	ErrNotFound = fail.Define(fail.NotFound, "proposal.not_found", "there is no such proposal")
	ErrState    = fail.Define(fail.Conflict, "proposal.state", "it was confirmed or taken back before")
	ErrSelf     = fail.Define(fail.Refused, "proposal.self", "who proposes a change does not confirm it: another person has to")
	ErrSame     = fail.Define(fail.Conflict, "proposal.same", "the same thing is proposed already: confirm it or take it back first")
)

// A State is where a proposal stands.
type State string

// The states, and who acts next.
const (
	Open      State = "open"      // another person: confirm; anybody: take it back
	Confirmed State = "confirmed" // nobody: it is made
	Undone    State = "undone"    // nobody: it was taken back
)

var stateWords = map[State][2]string{Open: {"to be confirmed", "待复核"}, Confirmed: {"confirmed", "已复核生效"}, Undone: {"taken back", "已撤回"}}

// Words says the state for people, in Chinese if zh.
func (s State) Words(zh bool) string {
	if zh {
		return stateWords[s][1]
	}
	return stateWords[s][0]
}

// A Proposal is one of them.
type Proposal struct {
	ID          string
	About       string // what is changed, for the bound of one open proposal each
	What        []byte // JSON
	By, Why     string // who proposed it
	State       State
	Decider     string // who confirmed it or took it back
	At, Decided time.Time
}

// Read takes out what is proposed.
func (p Proposal) Read(into any) error { return json.Unmarshal(p.What, into) }

// Step is what this package keeps, a step of the switch's schema.
const Step = `CREATE TABLE switching_proposal (
		id TEXT PRIMARY KEY, about TEXT NOT NULL, what TEXT NOT NULL, by_whom TEXT NOT NULL, why TEXT NOT NULL,
		state TEXT NOT NULL, decider TEXT NOT NULL, at BIGINT NOT NULL, decided BIGINT NOT NULL);
	CREATE UNIQUE INDEX switching_proposal_open ON switching_proposal (about) WHERE state = 'open'`

const columns = `id, about, what, by_whom, why, state, decider, at, decided`

// Make proposes a change. There is one open proposal about a thing: ErrSame.
func Make(tx *db.Tx, about string, what any, by, why string) (p Proposal, err error) {
	p = Proposal{ID: tx.NewID("prop"), About: about, By: by, Why: why, State: Open, At: tx.Now()}
	if p.What, err = json.Marshal(what); err != nil {
		return p, fmt.Errorf("proposal: %w", err)
	}
	n, err := tx.Exec(`INSERT INTO switching_proposal (`+columns+`) VALUES ($1, $2, $3, $4, $5, $6, '', $7, 0) ON CONFLICT DO NOTHING`,
		p.ID, p.About, string(p.What), p.By, p.Why, p.State, p.At.UnixMicro())
	if err == nil && n == 0 {
		err = fmt.Errorf("proposal about %s: %w", about, ErrSame)
	}
	return p, err
}

// Confirm confirms a proposal in the caller's unit, which makes the change.
func Confirm(tx *db.Tx, id, by string) (Proposal, error) { return decide(tx, id, by, Confirmed) }

// Undo takes an open proposal back.
func Undo(tx *db.Tx, id, by string) (Proposal, error) { return decide(tx, id, by, Undone) }

func decide(tx *db.Tx, id, by string, to State) (p Proposal, err error) {
	list, err := find(tx, `id = $1`, id)
	switch {
	case err != nil:
	case len(list) == 0:
		err = ErrNotFound
	case list[0].State != Open:
		err = ErrState
	case to == Confirmed && list[0].By == by:
		err = ErrSelf
	default:
		p = list[0]
		p.State, p.Decider, p.Decided = to, by, tx.Now()
		var n int64
		n, err = tx.Exec(`UPDATE switching_proposal SET state = $2, decider = $3, decided = $4 WHERE id = $1 AND state = 'open'`, id, p.State, by, p.Decided.UnixMicro())
		if err == nil && n == 0 {
			err = ErrState
		}
	}
	if err != nil {
		return Proposal{}, fmt.Errorf("proposal %s: %w", id, err)
	}
	return p, nil
}

// Of finds a proposal.
func Of(q db.Reader, id string) (Proposal, error) {
	list, err := find(q, `id = $1`, id)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Proposal{}, fmt.Errorf("proposal %s: %w", id, err)
	}
	return list[0], nil
}

// Waiting lists open proposals, oldest first.
func Waiting(q db.Reader, limit int) ([]Proposal, error) {
	return find(q, `state = 'open' ORDER BY at, id LIMIT $1`, limit)
}

// Last lists those that were decided, newest first.
func Last(q db.Reader, limit int) ([]Proposal, error) {
	return find(q, `state <> 'open' ORDER BY decided DESC, id DESC LIMIT $1`, limit)
}

func find(q db.Reader, where string, args ...any) (out []Proposal, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var p Proposal
		var what string
		var at, decided int64
		err := scan(&p.ID, &p.About, &what, &p.By, &p.Why, &p.State, &p.Decider, &at, &decided)
		p.What, p.At, p.Decided = []byte(what), db.Moment(at), db.Moment(decided)
		out = append(out, p)
		return err
	}, `SELECT `+columns+` FROM switching_proposal WHERE `+where, args...)
	if errors.Is(err, db.ErrNoRows) {
		err = nil
	}
	return out, err
}
