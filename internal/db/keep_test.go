package db_test

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"koala/internal/db"
	"koala/internal/db/dbtest"
)

var keptSchema = db.Schema{Owner: "kept", Steps: []string{
	`CREATE TABLE kept_sum (id TEXT PRIMARY KEY, n BIGINT NOT NULL, last TEXT NOT NULL) /*without rowid*/`,
}}

// sumOf is what a kept row says now, to a unit.
func sumOf(tx *db.Tx, id string) (n int64, err error) {
	if v, ok := tx.Kept("kept_sum", "id, n, last", id); ok {
		return v[0].(int64), nil
	}
	err = tx.QueryRow(`SELECT n FROM kept_sum WHERE id = $1`, id).Scan(&n)
	if errors.Is(err, db.ErrNoRows) {
		err = nil
	}
	return n, err
}

// TestKeptRowsCount: units that read, add and keep count right among units of
// the same batch that fail, before and after they kept, and at its end.
func TestKeptRowsCount(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		withTally(t, s)
		if err := s.Migrate(ctx, keptSchema); err != nil {
			t.Fatal(err)
		}
		const units, sums = 300, 7
		no := errors.New("no")
		errs := make([]error, units)
		release, blocked := db.BlockWriter(s)
		<-blocked
		var all sync.WaitGroup
		for i := range units {
			all.Go(func() {
				id := fmt.Sprint("sum", i%sums)
				errs[i] = s.Write(ctx, func(tx *db.Tx) error {
					n, err := sumOf(tx, id)
					if err != nil {
						return err
					}
					for _, by := range []int64{1000, 1} { // the second over the first
						if err := tx.Keep("kept_sum", "id, n, last", id, n+by, fmt.Sprint(i)); err != nil {
							return err
						}
					}
					if i%5 == 0 {
						return errors.Join(tx.Keep("kept_sum", "id, n, last", fmt.Sprint("never", i), 1, ""), no)
					}
					if i%41 == 1 {
						return tx.Append("item_row", "id, n, flag", "same", 1, true)
					}
					return nil
				})
			})
		}
		for db.Queued(s) < units {
			runtime.Gosched()
		}
		close(release)
		all.Wait()
		want := map[string]int64{}
		for i, err := range errs {
			switch {
			case err == nil:
				want[fmt.Sprint("sum", i%sums)]++
			case i%5 == 0 && errors.Is(err, no), i%41 == 1 && errors.Is(err, db.ErrSQL):
			default:
				t.Errorf("unit %d: %v", i, err)
			}
		}
		for id, n := range want {
			if got := count(t, s, `SELECT n FROM kept_sum WHERE id = $1`, id); got != n {
				t.Errorf("%s is %d, want %d", id, got, n)
			}
		}
		if n := count(t, s, `SELECT COUNT(*) FROM kept_sum`); n != sums {
			t.Errorf("%d rows kept, want %d", n, sums)
		}
	})
}

// TestWrittenIsRead: a unit that has to see a row which an earlier one of its
// batch has appended runs once more and sees it, each in its turn; what it did
// before is undone, whatever it made of the error.
func TestWrittenIsRead(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		p := withTally(t, s)
		release, blocked := db.BlockWriter(s)
		<-blocked
		const units = 60
		var all sync.WaitGroup
		errs, seen, runs := make([]error, units), make([]int64, units), make([]int, units)
		for i := range units {
			all.Go(func() {
				errs[i] = s.Write(ctx, func(tx *db.Tx) error {
					runs[i]++
					p.add(1)
					if i%3 > 0 {
						return tx.Append("item_row", "id, n, flag", fmt.Sprint("row", i), 1, true)
					}
					if _, err := tx.Exec(`INSERT INTO item_row (id, n, flag) VALUES ($1, 2, FALSE)`, fmt.Sprint("look", i)); err != nil {
						return err
					}
					for j := range units {
						if err := tx.Written("item_row", fmt.Sprint("row", j)); err != nil && i%2 == 0 {
							return errors.New("something else")
						}
					}
					if err := tx.QueryRow(`SELECT COUNT(*) FROM item_row WHERE n = 1`).Scan(&seen[i]); err != nil {
						return nil // the error is the unit's all the same
					}
					return tx.Append("item_row", "id, n, flag", fmt.Sprint("own", i), 3, true)
				})
			})
		}
		for db.Queued(s) < units {
			runtime.Gosched()
		}
		close(release)
		all.Wait()
		again := 0
		for i, err := range errs {
			if err != nil || runs[i] > 2 {
				t.Errorf("unit %d, run %d times: %v", i, runs[i], err)
			}
			again += runs[i] - 1
		}
		if n := count(t, s, `SELECT COUNT(*) FROM item_row`); n != units+units/3 || p.sum != units {
			t.Errorf("%d rows and a tally of %d, want %d and %d", n, p.sum, units+units/3, units)
		}
		if again == 0 {
			t.Error("no unit had to run again")
		}
		err := s.Write(ctx, func(tx *db.Tx) error { // its own rows are no reason
			return errors.Join(tx.Append("item_row", "id, n, flag", "alone", 1, true), tx.Written("item_row", "alone"))
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestKeptRowsAndLostBatches: what a batch kept that was undone is nowhere, in
// memory neither; what a batch kept whose answer was lost stands.
func TestKeptRowsAndLostBatches(t *testing.T) {
	for _, inline := range []bool{true, false} {
		dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
			cfg.Inline = inline
			f := &plan{before: map[int]bool{3: true, 4: true, 9: true}, after: map[int]bool{6: true}}
			cfg.Faults = f
			s, err := db.Open(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			withTally(t, s)
			if err := s.Migrate(ctx, keptSchema); err != nil {
				t.Fatal(err)
			}
			want := map[string]int64{}
			for i := range 14 {
				id := fmt.Sprint("sum", i%3)
				err := s.Write(ctx, func(tx *db.Tx) error {
					n, err := sumOf(tx, id)
					if err == nil && n != want[id] {
						t.Errorf("unit %d reads %d of %s, want %d", i, n, id, want[id])
					}
					return errors.Join(err, tx.Keep("kept_sum", "id, n, last", id, n+1, fmt.Sprint(i)))
				})
				if err == nil || errors.Is(err, db.ErrUnknown) {
					want[id]++
				} else if !errors.Is(err, db.ErrNotSaved) {
					t.Error(err)
				}
				if n := count(t, s, `SELECT COALESCE(MAX(n), 0) FROM kept_sum WHERE id = $1`, id); n != want[id] {
					t.Errorf("after unit %d %s is %d, want %d", i, id, n, want[id])
				}
			}
			if f.n < 14 {
				t.Errorf("%d commits", f.n)
			}
		})
	}
}

// TestKeptValuesThatDoNotFit: a value that the store does not keep fails its unit
// alone, and the row of the unit before it stands whole.
func TestKeptValuesThatDoNotFit(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		if err := s.Migrate(ctx, keptSchema); err != nil {
			t.Fatal(err)
		}
		release, blocked := db.BlockWriter(s)
		<-blocked
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				var last any = fmt.Sprint(i)
				if i%2 == 1 {
					last = "\x00"
				}
				err := s.Write(ctx, func(tx *db.Tx) error {
					n, err := sumOf(tx, "sum")
					_ = tx.Keep("kept_sum", "id, n, last", "sum", n+1, last) // the unit fails all the same
					return err
				})
				if bad := i%2 == 1; bad != errors.Is(err, db.ErrText) || !bad && err != nil {
					t.Errorf("unit %d: %v", i, err)
				}
			})
		}
		for db.Queued(s) < 20 {
			runtime.Gosched()
		}
		close(release)
		all.Wait()
		if n := count(t, s, `SELECT n FROM kept_sum WHERE id = 'sum'`); n != 10 {
			t.Errorf("%d, want 10", n)
		}
	})
}
