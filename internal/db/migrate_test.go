package db_test

import (
	"errors"
	"strings"
	"testing"

	"koala/internal/db"
	"koala/internal/db/dbtest"
)

func TestMigrate(t *testing.T) {
	one := `CREATE TABLE m_a (id BIGINT PRIMARY KEY)`
	two := `CREATE TABLE m_b (id BIGINT PRIMARY KEY); INSERT INTO m_b (id) VALUES (1)`
	bad := `CREATE TABLE m_c (id BIGINT PRIMARY KEY); INSERT INTO nowhere (id) VALUES (1)`
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		for _, tt := range []struct {
			name  string
			steps []string
			want  error
			text  string // in the error
		}{
			{"first version", []string{one}, nil, ""},
			{"the same program again", []string{one}, nil, ""},
			{"a step that fails", []string{one, bad}, db.ErrSQL, "m, step 2"},
			{"upgrade", []string{one, two}, nil, ""},
			{"a changed step", []string{one + " ", two}, db.ErrChanged, "step 1"},
			{"the older program", []string{one}, db.ErrNewer, "step 2"},
			{"nothing but that", []string{one, two}, nil, ""},
		} {
			err := s.Migrate(ctx, db.Schema{Owner: "m", Steps: tt.steps})
			if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
		}
		if n := count(t, s, `SELECT COUNT(*) FROM m_b`); n != 1 {
			t.Errorf("%d rows in m_b", n)
		}
		err := s.Read(ctx, func(q *db.Query) error {
			_, err := q.Rows(`SELECT id FROM m_c`)
			return err
		})
		if !errors.Is(err, db.ErrSQL) {
			t.Errorf("a table of the failed step: %v", err)
		}
	})
}

// TestMigrateChangesNothingWhenRefused: the first owner's new step does not
// run when the second owner's is refused.
func TestMigrateChangesNothingWhenRefused(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		if err := s.Migrate(ctx, db.Schema{Owner: "b", Steps: []string{`CREATE TABLE b_x (id BIGINT)`}}); err != nil {
			t.Fatal(err)
		}
		err := s.Migrate(ctx,
			db.Schema{Owner: "a", Steps: []string{`CREATE TABLE a_x (id BIGINT)`}},
			db.Schema{Owner: "b", Steps: []string{`CREATE TABLE b_y (id BIGINT)`}})
		if !errors.Is(err, db.ErrChanged) {
			t.Fatal(err)
		}
		if err := s.Migrate(ctx, db.Schema{Owner: "a", Steps: []string{`CREATE TABLE a_x (id BIGINT)`}}); err != nil {
			t.Errorf("a_x was made: %v", err)
		}
	})
}

// TestAddedBytesAreRead: rows that were there before a column of bytes was added
// have its default, no bytes.
func TestAddedBytesAreRead(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		one := `CREATE TABLE m_a (id BIGINT PRIMARY KEY); INSERT INTO m_a (id) VALUES (1)`
		two := `ALTER TABLE m_a ADD COLUMN mark BYTEA NOT NULL DEFAULT ''`
		for _, steps := range [][]string{{one}, {one, two}} {
			if err := s.Migrate(ctx, db.Schema{Owner: "m", Steps: steps}); err != nil {
				t.Fatal(err)
			}
		}
		mark := []byte{1}
		err := s.Read(ctx, func(q *db.Query) error { return q.QueryRow(`SELECT mark FROM m_a WHERE id = 1`).Scan(&mark) })
		if err != nil || mark == nil || len(mark) != 0 {
			t.Errorf("%x, %v", mark, err)
		}
	})
}
