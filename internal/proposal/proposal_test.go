package proposal_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/proposal"
)

type limit struct{ Fen int64 }

// TestFourEyes: a change is made by two people, once, and only as what it was
// proposed as.
func TestFourEyes(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		if err := s.Migrate(t.Context(), proposal.Schema); err != nil {
			t.Fatal(err)
		}
		var p proposal.Proposal
		unit := func(f func(tx *db.Tx) error) error { return s.Write(t.Context(), f) }
		make := func() error {
			return unit(func(tx *db.Tx) (err error) {
				made, err := proposal.Make(tx, "limit:m1", limit{5}, "lin", "a reason")
				if err == nil {
					p = made
				}
				return err
			})
		}
		confirm := func(kind, by string) error {
			return unit(func(tx *db.Tx) error {
				got, err := proposal.Confirm(tx, kind, p.ID, by)
				var l limit
				if err == nil {
					err = got.Read(&l)
				}
				if err == nil && l.Fen != 5 {
					err = fmt.Errorf("it says %d", l.Fen)
				}
				return err
			})
		}
		for _, step := range []struct {
			what string
			do   func() error
			want error
		}{
			{"made", make, nil},
			{"the same again", make, proposal.ErrSame},
			{"by oneself", func() error { return confirm("limit", "lin") }, proposal.ErrSelf},
			{"as something else", func() error { return confirm("route", "wang") }, proposal.ErrNotFound},
			{"undone as something else", func() error {
				return unit(func(tx *db.Tx) error { _, err := proposal.Undo(tx, "route", p.ID, "wang"); return err })
			}, proposal.ErrNotFound},
			{"undone", func() error {
				return unit(func(tx *db.Tx) error { _, err := proposal.Undo(tx, "limit", p.ID, "lin"); return err })
			}, nil},
			{"confirmed then", func() error { return confirm("limit", "wang") }, proposal.ErrState},
			{"made again", make, nil},
			{"confirmed", func() error { return confirm("limit", "wang") }, nil},
			{"confirmed twice", func() error { return confirm("limit", "zhou") }, proposal.ErrState},
		} {
			if err := step.do(); !errors.Is(err, step.want) {
				t.Errorf("%s: %v, want %v", step.what, err, step.want)
			}
		}
		err := s.Read(t.Context(), func(q *db.Query) error {
			waits, err := proposal.Waiting(q, "limit", 9)
			last, err2 := proposal.Last(q, "limit", 9)
			all, err3 := proposal.About(q, "limit:m1", 9)
			other, err4 := proposal.Last(q, "route", 9)
			if len(waits) != 0 || len(last) != 2 || len(all) != 2 || len(other) != 0 {
				t.Errorf("%d wait, %d decided, %d about it, %d of another kind", len(waits), len(last), len(all), len(other))
			}
			return errors.Join(err, err2, err3, err4)
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestOneConfirms: of many who confirm at once, one makes the change.
func TestOneConfirms(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		var p proposal.Proposal
		err := s.Migrate(t.Context(), proposal.Schema)
		if err == nil {
			err = s.Write(t.Context(), func(tx *db.Tx) (err error) {
				p, err = proposal.Make(tx, "limit:m1", limit{5}, "lin", "a reason")
				return err
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		made := make([]error, 8)
		for i := range made {
			all.Go(func() {
				made[i] = s.Write(t.Context(), func(tx *db.Tx) error {
					_, err := proposal.Confirm(tx, "limit", p.ID, fmt.Sprint("p", i))
					return err
				})
			})
		}
		all.Wait()
		n := 0
		for _, err := range made {
			if err == nil {
				n++
			} else if !errors.Is(err, proposal.ErrState) {
				t.Error(err)
			}
		}
		if n != 1 {
			t.Errorf("%d made it, want 1", n)
		}
	})
}

// TestCarry: what was proposed in a package's own table goes on.
func TestCarry(t *testing.T) {
	old := db.Schema{Owner: "door", Steps: []string{
		`CREATE TABLE door_proposal (id TEXT PRIMARY KEY, about TEXT NOT NULL, what TEXT NOT NULL, by_whom TEXT NOT NULL, why TEXT NOT NULL,
			state TEXT NOT NULL, decider TEXT NOT NULL, at BIGINT NOT NULL, decided BIGINT NOT NULL)`}}
	carried := old
	carried.Steps = append(carried.Steps, proposal.Carry("door_proposal", "door", `'door:' || SUBSTR(about, 6)`))
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		err := s.Migrate(t.Context(), proposal.Schema, old)
		if err == nil {
			err = s.Write(t.Context(), func(tx *db.Tx) error {
				_, err := tx.Exec(`INSERT INTO door_proposal (id, about, what, by_whom, why, state, decider, at, decided) VALUES ('prop_1', 'door 7', '{"Fen":5}', 'lin', 'w', 'open', '', 3, 0)`)
				return err
			})
		}
		if err == nil {
			err = s.Migrate(t.Context(), proposal.Schema, carried)
		}
		if err == nil {
			err = s.Write(t.Context(), func(tx *db.Tx) error {
				p, err := proposal.Confirm(tx, "door", "prop_1", "wang")
				if err == nil && (p.About != "door:7" || p.By != "lin" || string(p.What) != `{"Fen":5}`) {
					err = fmt.Errorf("it is %+v", p)
				}
				return err
			})
		}
		if err != nil {
			t.Error(err)
		}
	})
}
