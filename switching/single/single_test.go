package single_test

import (
	"errors"
	"testing"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/switching/single"
)

// TestAllow: no terminal may until somebody said so; who said so first stands, and
// what is taken back holds at once, also for who asks beside a unit. A unit that
// fails behind it allows nothing.
func TestAllow(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		if err := s.Migrate(t.Context(), db.Schema{Owner: "switching", Steps: []string{single.Step}}); err != nil {
			t.Fatal(err)
		}
		no := errors.New("no")
		for _, tt := range []struct {
			name, tid, by string
			allow         bool
			then          error
			first, second bool   // what 10000001 and 10000002 may
			who           string // allowed 10000001
		}{
			{"taken back from who never had it", "10000001", "lin", false, nil, false, false, ""},
			{"allowed, and a later statement fails", "10000001", "lin", true, no, false, false, ""},
			{"allowed", "10000001", "lin", true, nil, true, false, "lin"},
			{"again by another", "10000001", "wu", true, nil, true, false, "lin"},
			{"another terminal", "10000002", "wu", true, nil, true, true, "lin"},
			{"taken back, and a later statement fails", "10000001", "wu", false, no, true, true, "lin"},
			{"taken back", "10000001", "wu", false, nil, false, true, ""},
			{"allowed anew", "10000001", "wu", true, nil, true, true, "wu"},
		} {
			err := s.Write(t.Context(), func(tx *db.Tx) error {
				return errors.Join(single.Allow(tx, tt.tid, tt.allow, tt.by, "an old terminal"), tt.then)
			})
			if !errors.Is(err, tt.then) {
				t.Errorf("%s: %v", tt.name, err)
			}
			for tid, want := range map[string]bool{"10000001": tt.first, "10000002": tt.second, "": false} {
				if may, err := single.Asked(t.Context(), s, tid); may != want || err != nil {
					t.Errorf("%s: terminal %q may: %t (%v), want %t", tt.name, tid, may, err, want)
				}
			}
			who := ""
			err = s.Read(t.Context(), func(q *db.Query) error {
				err := q.QueryRow(`SELECT by_whom FROM switching_single WHERE tid = '10000001'`).Scan(&who)
				if errors.Is(err, db.ErrNoRows) {
					err = nil
				}
				return err
			})
			if who != tt.who || err != nil {
				t.Errorf("%s: %q said so (%v), want %q", tt.name, who, err, tt.who)
			}
		}
	})
}
