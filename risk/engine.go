package risk

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"koala/internal/db"
)

// Effects is what a case does outside this package; it runs in the case's unit.
type Effects interface {
	// Hold keeps the shop from being paid; the same case again changes nothing.
	Hold(tx *db.Tx, id, shop, why string) error
	// Release undoes Hold.
	Release(tx *db.Tx, id string) error
}

// An Engine judges facts from memory: the sets that are or will be in force and
// the last two days' facts. It is safe for concurrent use.
type Engine struct {
	effects Effects
	mu      sync.RWMutex
	memory  *memory
	sets    []dated // rising by from
}

// A dated set is in force from a moment on, microseconds.
type dated struct {
	set  Set
	from int64
}

// Open builds an engine from the rows: the rule sets, with House put into force
// where there is none, and the facts of the time that Keep names. effects may be
// nil: then nothing is held.
func Open(ctx context.Context, store *db.Store, effects Effects) (*Engine, error) {
	if err := store.Write(ctx, installHouse); err != nil {
		return nil, fmt.Errorf("opening risk: %w", err)
	}
	e := &Engine{effects: effects, memory: newMemory()}
	err := store.Read(ctx, func(q *db.Query) error {
		all, err := activeSets(q)
		e.sets = all
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening risk: %w", err)
	}
	for f, err := range History(ctx, store, store.Now().Add(-Keep), time.Time{}) {
		if err != nil {
			return nil, fmt.Errorf("opening risk: %w", err)
		}
		e.memory.learn(&f.Fact)
	}
	return e, nil
}

// at is the set in force at a moment: the newest that has begun.
func (e *Engine) at(us int64) *Set {
	for i := len(e.sets) - 1; i > 0; i-- {
		if e.sets[i].from <= us {
			return &e.sets[i].set
		}
	}
	return &e.sets[0].set
}

// Assess judges a fact by the set in force at its time. It reads memory only and
// remembers nothing: see Engine.Keep.
func (e *Engine) Assess(f Fact) Decision {
	e.mu.RLock()
	defer e.mu.RUnlock()
	w := e.memory.window(&f)
	return Evaluate(e.at(f.At.UnixMicro()), &f, &w)
}

// InForce is the set in force at t.
func (e *Engine) InForce(t time.Time) Set {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return *e.at(t.UnixMicro())
}

func (f *Fact) check() error {
	if f.Ref == "" || f.At.IsZero() || f.Kind == "" || f.Shop == "" || f.Fen < 0 || len(f.Ref) > MaxText || len(f.Shop) > MaxText {
		return fmt.Errorf("fact %q: %w", f.Ref, ErrFact)
	}
	return nil
}

// Keep writes a fact and its judgement down with the unit that did what it is
// about; one that was refused, too, with Declined set. What is not allowed outright becomes part of the shop's case. Memory
// learns it when the unit is durable.
func (e *Engine) Keep(tx *db.Tx, f Fact, d Decision) error {
	if err := f.check(); err != nil {
		return err
	}
	if err := appendFact(tx, &f, &d); err != nil {
		return fmt.Errorf("fact %s: %w", f.Ref, err)
	}
	if d.Action != Allow {
		if err := e.report(tx, f, d); err != nil {
			return fmt.Errorf("fact %s: %w", f.Ref, err)
		}
	}
	tx.After(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.memory.learn(&f)
	})
	return nil
}

// Label is what people found out about a fact.
type Label string

// The labels.
const (
	Unlabelled Label = ""
	Fraud      Label = "fraud"
	Good       Label = "good"
)

// A Labelled fact is one of the past.
type Labelled struct {
	Fact
	Label Label
	Was   Decision // without its hits
}

// historyPage is how many rows one query of History reads.
const historyPage = 5_000

// History reads facts from from until before to (zero: all), by their own time,
// with what the desk has decided of them.
func History(ctx context.Context, store *db.Store, from, to time.Time) iter.Seq2[Labelled, error] {
	return func(yield func(Labelled, error) bool) {
		at, ref, until := from.UnixMicro(), "", int64(1)<<62
		if !to.IsZero() {
			until = to.UnixMicro()
		}
		for {
			var page []Labelled
			err := store.Read(ctx, func(q *db.Query) (err error) {
				page, err = factsBehind(q, at, ref, until, historyPage)
				return err
			})
			if err != nil {
				yield(Labelled{}, err)
				return
			}
			for i := range page {
				if now := page[i].At.UnixMicro(); now == at && page[i].Ref == ref {
					continue // kept twice: an answer was lost and the unit ran again
				}
				at, ref = page[i].At.UnixMicro(), page[i].Ref
				if !yield(page[i], nil) {
					return
				}
			}
			if len(page) < historyPage {
				return
			}
		}
	}
}

// SetState is how far a rule set is.
type SetState string

// The states, and who acts next.
const (
	Proposed SetState = "proposed" // the author: rehearse; another: activate or reject
	Active   SetState = "active"   // nobody: in force from its day until a later one's
	Rejected SetState = "rejected" // nobody
)

var setWords = map[SetState][2]string{Proposed: {"proposed", "待批准"}, Active: {"in force", "已生效"}, Rejected: {"rejected", "已驳回"}}

// Words says the state for people, in Chinese if zh.
func (s SetState) Words(zh bool) string { return pick(setWords, s, zh) }

// A SetInfo is a rule set with what happened to it.
type SetInfo struct {
	Set
	State    SetState
	Author   string
	Approver string
	Why      string
	From     time.Time // in force from; zero: not yet
	Report   *Report   // of the replay; nil: not replayed
	Made     time.Time
}

// Propose writes a rule set down under the next version. It judges nothing yet.
func Propose(tx *db.Tx, s Set, who, why string) (SetInfo, error) {
	if who == "" || why == "" || len(why) > MaxText {
		return SetInfo{}, ErrWhy
	}
	if err := s.Check(); err != nil {
		return SetInfo{}, err
	}
	var last int
	if err := tx.QueryRow(`SELECT COALESCE(MAX(version), 0) FROM risk_set`).Scan(&last); err != nil {
		return SetInfo{}, err
	}
	s.Version = last + 1
	return SetInfo{Set: s, State: Proposed, Author: who, Why: why, Made: tx.Now()}, insertSet(tx, s, Proposed, who, why)
}

// Rehearse replays a proposed set on history against the one in force, and
// keeps the report with it: without one it cannot be activated.
func (e *Engine) Rehearse(ctx context.Context, store *db.Store, version int, from, to time.Time) (Report, error) {
	var s SetInfo
	err := store.Read(ctx, func(q *db.Query) (err error) { s, err = SetOf(q, version); return err })
	if err == nil && s.State != Proposed {
		err = fmt.Errorf("rule set %d: %w", version, ErrState)
	}
	if err != nil {
		return Report{}, err
	}
	old := e.InForce(store.Now())
	r, err := Replay(History(ctx, store, from, to), &old, &s.Set)
	if err != nil {
		return Report{}, fmt.Errorf("replaying rule set %d: %w", version, err)
	}
	return r, store.Write(ctx, func(tx *db.Tx) error { return keepReport(tx, version, r) })
}

// Activate puts a rehearsed set into force from a moment that is not past. It
// takes somebody else than the author.
func (e *Engine) Activate(tx *db.Tx, version int, who string, from time.Time) error {
	s, err := SetOf(tx, version)
	switch {
	case err != nil:
		return err
	case s.State != Proposed || from.Before(tx.Now()):
		return fmt.Errorf("rule set %d: %w", version, ErrState)
	case s.Report == nil:
		return fmt.Errorf("rule set %d: %w", version, ErrReplay)
	case who == "" || who == s.Author:
		return fmt.Errorf("rule set %d: %w", version, ErrFourEyes)
	}
	if err := decideSet(tx, version, Active, who, from); err != nil {
		return err
	}
	tx.After(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.add(dated{s.Set, from.UnixMicro()})
	})
	return nil
}

// add keeps the sets rising by the moment they begin; of two that begin
// together the later version is behind.
func (e *Engine) add(d dated) {
	i := len(e.sets)
	for i > 0 && (e.sets[i-1].from > d.from || e.sets[i-1].from == d.from && e.sets[i-1].set.Version > d.set.Version) {
		i--
	}
	e.sets = append(e.sets[:i:i], append([]dated{d}, e.sets[i:]...)...)
}

// Reject ends a proposed set.
func Reject(tx *db.Tx, version int, who string) error {
	s, err := SetOf(tx, version)
	if err == nil && (s.State != Proposed || who == "") {
		err = fmt.Errorf("rule set %d: %w", version, ErrState)
	}
	if err != nil {
		return err
	}
	return decideSet(tx, version, Rejected, who, time.Time{})
}

// HouseName is who made the set that a new house begins with.
const HouseName = "house"

// installHouse puts House into force where no set is.
func installHouse(tx *db.Tx) error {
	_, err := SetOf(tx, 1)
	if !errors.Is(err, ErrNoSet) {
		return err
	}
	s := House()
	s.Version = 1
	if err := insertSet(tx, s, Proposed, HouseName, s.Note); err != nil {
		return err
	}
	return decideSet(tx, 1, Active, HouseName, time.UnixMicro(0))
}
