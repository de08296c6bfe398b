// Package proposal keeps changes that one person proposes and another one has to
// confirm before they are made: four eyes. What a change is stands in it as JSON
// and is its owner's matter; this package knows who proposed, who confirmed, and
// that nobody does both. Start at Make and Confirm.
package proposal

import (
	"encoding/json"
	"fmt"
	"strings"
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
	About       string // what is changed, "kind:thing": one open proposal each
	What        []byte // JSON
	By, Why     string // who proposed it
	State       State
	Decider     string // who confirmed it or took it back
	At, Decided time.Time
}

// Kind is the kind of what is changed.
func (p Proposal) Kind() string { return kindOf(p.About) }

// Read takes out what is proposed.
func (p Proposal) Read(into any) error { return json.Unmarshal(p.What, into) }

// Schema is what this package keeps.
var Schema = db.Schema{Owner: "proposal", Steps: []string{
	`CREATE TABLE proposal_change (
		id TEXT PRIMARY KEY, kind TEXT NOT NULL, about TEXT NOT NULL, what TEXT NOT NULL, by_whom TEXT NOT NULL, why TEXT NOT NULL,
		state TEXT NOT NULL, decider TEXT NOT NULL, at BIGINT NOT NULL, decided BIGINT NOT NULL);
	CREATE UNIQUE INDEX proposal_change_open ON proposal_change (about) WHERE state = 'open';
	CREATE INDEX proposal_change_kind ON proposal_change (kind, state, at)`,
}}

// Carry is the step of another package's schema that had proposals in a table of
// its own: they go on here, as a kind.
func Carry(table, kind, about string) string {
	return `INSERT INTO proposal_change (id, kind, about, what, by_whom, why, state, decider, at, decided)
		SELECT id, '` + kind + `', ` + about + `, what, by_whom, why, state, decider, at, decided FROM ` + table + `;
	DROP TABLE ` + table
}

const columns = `id, about, what, by_whom, why, state, decider, at, decided`

// Make proposes a change about a thing, "kind:thing" such as "route:622202/16".
// There is one open proposal about a thing: ErrSame.
func Make(tx *db.Tx, about string, what any, by, why string) (p Proposal, err error) {
	p = Proposal{ID: tx.NewID("prop"), About: about, By: by, Why: why, State: Open, At: tx.Now()}
	if p.What, err = json.Marshal(what); err != nil {
		return p, fmt.Errorf("proposal: %w", err)
	}
	n, err := tx.Exec(`INSERT INTO proposal_change (`+columns+`, kind) VALUES ($1, $2, $3, $4, $5, $6, '', $7, 0, $8) ON CONFLICT DO NOTHING`,
		p.ID, p.About, string(p.What), p.By, p.Why, p.State, p.At.UnixMicro(), kindOf(about))
	if err == nil && n == 0 {
		err = fmt.Errorf("proposal about %s: %w", about, ErrSame)
	}
	return p, err
}

func kindOf(about string) string {
	kind, _, _ := strings.Cut(about, ":")
	return kind
}

// Confirm confirms a proposal of a kind in the caller's unit, which makes the change.
func Confirm(tx *db.Tx, kind, id, by string) (Proposal, error) {
	return decide(tx, kind, id, by, Confirmed)
}

// Undo takes an open proposal back.
func Undo(tx *db.Tx, kind, id, by string) (Proposal, error) {
	return decide(tx, kind, id, by, Undone)
}

func decide(tx *db.Tx, kind, id, by string, to State) (p Proposal, err error) {
	list, err := find(tx, `kind = $1 AND id = $2`, kind, id)
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
		n, err = tx.Exec(`UPDATE proposal_change SET state = $2, decider = $3, decided = $4 WHERE id = $1 AND state = 'open'`, id, p.State, by, p.Decided.UnixMicro())
		if err == nil && n == 0 {
			err = ErrState
		}
	}
	if err != nil {
		return Proposal{}, fmt.Errorf("proposal %s: %w", id, err)
	}
	return p, nil
}

// Of finds a proposal of a kind.
func Of(q db.Reader, kind, id string) (Proposal, error) {
	list, err := find(q, `kind = $1 AND id = $2`, kind, id)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Proposal{}, fmt.Errorf("proposal %s: %w", id, err)
	}
	return list[0], nil
}

// Waiting lists open proposals of a kind, oldest first.
func Waiting(q db.Reader, kind string, limit int) ([]Proposal, error) {
	return find(q, `kind = $1 AND state = 'open' ORDER BY at, id LIMIT $2`, kind, limit)
}

// Last lists those of a kind that were decided, newest first.
func Last(q db.Reader, kind string, limit int) ([]Proposal, error) {
	return find(q, `kind = $1 AND state <> 'open' ORDER BY decided DESC, id DESC LIMIT $2`, kind, limit)
}

// About lists all there ever were about a thing, newest first.
func About(q db.Reader, about string, limit int) ([]Proposal, error) {
	return find(q, `about = $1 ORDER BY at DESC, id DESC LIMIT $2`, about, limit)
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
	}, `SELECT `+columns+` FROM proposal_change WHERE `+where, args...)
	return out, err
}
