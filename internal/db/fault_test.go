package db_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/fail"
)

// plan is a set of faults by the number of the question, from 1.
type plan struct {
	before, after map[int]bool
	n             int
}

var errInjected = errors.New("injected")

func (p *plan) BeforeCommit(int64) error {
	p.n++
	if p.before[p.n] {
		return errInjected
	}
	return nil
}

func (p *plan) AfterCommit(int64) error {
	if p.after[p.n] {
		return errInjected
	}
	return nil
}

func TestFaultsAroundTheCommit(t *testing.T) {
	for _, inline := range []bool{true, false} {
		dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
			cfg.Inline = inline
			cfg.Faults = &plan{before: map[int]bool{2: true}, after: map[int]bool{4: true}}
			s, err := db.Open(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			p := withTally(t, s)
			published := 0
			for i, tt := range []struct {
				want error
				kind fail.Kind
				sum  int64
			}{
				{nil, 0, 1},
				{db.ErrNotSaved, fail.Busy, 1}, // before the commit: nothing is in
				{nil, 0, 2},
				{db.ErrUnknown, fail.Busy, 3}, // after it: it is in, but the caller cannot know
				{nil, 0, 4},
			} {
				err := s.Write(ctx, func(tx *db.Tx) error {
					p.add(1)
					tx.After(func() { published++ })
					return insert(tx, fmt.Sprint("r", i), 1)
				})
				if !errors.Is(err, tt.want) || err != nil && fail.Of(err).Kind != tt.kind {
					t.Errorf("write %d: %v, want %v", i, err, tt.want)
				}
				if rows := count(t, s, `SELECT COUNT(*) FROM item_row`); rows != tt.sum || p.sum != tt.sum {
					t.Errorf("after write %d: %d rows and a tally of %d, want %d", i, rows, p.sum, tt.sum)
				}
			}
			if published != 4 || p.reloads != 1 {
				t.Errorf("%d publications and %d reloads", published, p.reloads)
			}
		})
	}
}

func TestParticipantThatCannotFlush(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		p := withTally(t, s)
		add := func() error {
			return s.Write(ctx, func(tx *db.Tx) error { p.add(1); return insert(tx, tx.NewID("r"), 1) })
		}
		p.failFlush = errInjected
		if err := add(); !errors.Is(err, errInjected) {
			t.Errorf("flush failed: %v", err)
		}
		p.failFlush = nil
		if err := add(); err != nil || p.sum != 1 || count(t, s, `SELECT COUNT(*) FROM item_row`) != 1 {
			t.Errorf("afterwards: %v, tally %d", err, p.sum)
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	s := dbtest.Open(t, func(c *db.Config) { c.Queue = 3 })
	p := withTally(t, s)
	release, blocked := db.BlockWriter(s)
	<-blocked
	errs := make(chan error, 20)
	gone, cancel := context.WithCancel(ctx)
	ran := false
	go func() { errs <- s.Write(gone, func(*db.Tx) error { ran = true; return nil }) }()
	for n := 0; n == 0; { // until the queue is full: refused ones come back at once
		go func() { errs <- s.Write(ctx, func(*db.Tx) error { p.add(1); return nil }) }()
		select {
		case err := <-errs:
			if fail.Of(err).Kind != fail.Busy {
				t.Errorf("refused with %v", err)
			}
			n++
		default:
			runtime.Gosched()
		}
	}
	cancel()
	close(release)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(ctx, func(*db.Tx) error { return nil }); !errors.Is(err, db.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	_ = ran // whether it ran depends on who came first; the race detector watches
}

func TestContextEndsBeforeTheUnit(t *testing.T) {
	s := dbtest.Open(t)
	withTally(t, s)
	release, blocked := db.BlockWriter(s)
	<-blocked
	gone, cancel := context.WithCancel(ctx)
	got := make(chan error)
	go func() { got <- s.Write(gone, func(*db.Tx) error { t.Error("it ran"); return nil }) }()
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	close(release)
	if err := s.Write(ctx, func(*db.Tx) error { return nil }); err != nil {
		t.Error(err)
	}
}

// TestUnitThatEndsTheGoroutine: t.FailNow inside a unit must not stop the
// writer for everybody.
func TestUnitThatEndsTheGoroutine(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		p := withTally(t, s)
		err := s.Write(ctx, func(tx *db.Tx) error {
			p.add(1)
			_ = insert(tx, "a", 1)
			runtime.Goexit()
			return nil
		})
		if !errors.Is(err, db.ErrPanic) {
			t.Errorf("the unit got %v", err)
		}
		err = s.Write(ctx, func(tx *db.Tx) error { p.add(1); return insert(tx, "b", 1) })
		if err != nil || p.sum != 1 || count(t, s, `SELECT COUNT(*) FROM item_row`) != 1 {
			t.Errorf("the next: %v, tally %d", err, p.sum)
		}
	})
}

func TestPanicNamesItsPlace(t *testing.T) {
	s := dbtest.Open(t)
	err := s.Write(ctx, func(*db.Tx) error {
		none := []int{}
		none[len(none)]++
		return nil
	})
	if !errors.Is(err, db.ErrPanic) || !strings.Contains(err.Error(), "TestPanicNamesItsPlace") {
		t.Errorf("got %v", err)
	}
}

func TestFileTrouble(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("this is no database. ", 400)), 0o600); err != nil {
		t.Fatal(err)
	}
	taken := dbtest.Open(t)
	for _, tt := range []struct {
		name, file string
		want       error
	}{
		{"no directory", filepath.Join(dir, "no", "x.db"), db.ErrCannot},
		{"a directory", dir, db.ErrCannot},
		{"not a database", garbage, db.ErrCorrupt},
		{"in use", taken.Place(), db.ErrInUse},
	} {
		_, err := db.Open(ctx, db.Config{URL: tt.file})
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if err != nil && !strings.Contains(err.Error(), tt.file) {
			t.Errorf("%s: %v does not name %s", tt.name, err, tt.file)
		}
	}
	if err := taken.Write(ctx, func(*db.Tx) error { return nil }); err != nil {
		t.Errorf("the first process, after the second was refused: %v", err)
	}
}

func TestDiskFull(t *testing.T) {
	s := dbtest.Open(t)
	p := withTally(t, s)
	write := func(id string, size int) error {
		return s.Write(ctx, func(tx *db.Tx) error {
			p.add(1)
			_, err := tx.Exec(`INSERT INTO item_row (id, n, raw, flag) VALUES ($1, 1, $2, $3)`, id, make([]byte, size), true)
			return err
		})
	}
	if err := write("a", 10); err != nil {
		t.Fatal(err)
	}
	var pages int64
	if err := s.Read(ctx, func(q *db.Query) error { return q.QueryRow(`PRAGMA page_count`).Scan(&pages) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Pragma(s, fmt.Sprint("PRAGMA max_page_count = ", pages+2)); err != nil {
		t.Fatal(err)
	}
	if err := write("b", 100_000); !errors.Is(err, db.ErrFull) || !strings.Contains(err.Error(), s.Place()) {
		t.Errorf("full: %v", err)
	}
	if p.sum != 1 || count(t, s, `SELECT COUNT(*) FROM item_row`) != 1 {
		t.Errorf("something of it is in: tally %d", p.sum)
	}
	if err := db.Pragma(s, "PRAGMA max_page_count = 1000000"); err != nil {
		t.Fatal(err)
	}
	if err := write("b", 100_000); err != nil || p.sum != 2 {
		t.Errorf("with space again: %v, tally %d", err, p.sum)
	}
}

// TestLogStaysBounded: the writer copies the write-ahead log into the file often
// enough, and a long reader holds it up only while it reads.
func TestLogStaysBounded(t *testing.T) {
	s := dbtest.Open(t)
	p := withTally(t, s)
	write := func(mb int) {
		t.Helper()
		for range mb {
			err := s.Write(ctx, func(*db.Tx) error { p.add(1); p.blob = append(p.blob, make([]byte, 1<<20)...); return nil })
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	size := func() int64 {
		info, err := os.Stat(s.Place() + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return info.Size() >> 20
	}
	write(60)
	if mb := size(); mb > 20 {
		t.Errorf("after 60 MB the log has %d MB", mb)
	}
	err := s.Read(ctx, func(q *db.Query) error {
		var n int64
		if err := q.QueryRow(`SELECT COUNT(*) FROM tally_journal`).Scan(&n); err != nil {
			return err
		}
		write(30)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	held := size()
	write(40)
	if mb := size(); mb > held+20 {
		t.Errorf("after the reader the log grew from %d to %d MB", held, mb)
	}
}

func TestDamagedPages(t *testing.T) {
	file := dbtest.File(t)
	s, err := db.Open(ctx, db.Config{URL: file})
	if err != nil {
		t.Fatal(err)
	}
	withTally(t, s)
	err = s.Write(ctx, func(tx *db.Tx) error {
		for i := range 500 {
			if err := insert(tx, fmt.Sprint("row", i), int64(i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode: %v %v", info.Mode(), err)
	}
	if _, err := f.WriteAt([]byte(strings.Repeat("damaged!", 4096)), 2*4096); err != nil {
		t.Fatal(err)
	}
	f.Close()
	s, err = db.Open(ctx, db.Config{URL: file})
	if err == nil {
		defer s.Close()
		err = s.Read(ctx, func(q *db.Query) error {
			_, err := q.Rows(`SELECT id, n FROM item_row ORDER BY id`)
			return err
		})
	}
	if !errors.Is(err, db.ErrCorrupt) || !strings.Contains(err.Error(), file) {
		t.Errorf("damaged: %v", err)
	}
}

func TestBackupWhileWriting(t *testing.T) {
	s := dbtest.Open(t)
	p := withTally(t, s)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for i := int64(0); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := s.Write(ctx, func(tx *db.Tx) error { p.add(1); return insert(tx, tx.NewID("r"), i) }); err != nil {
				t.Error(err)
			}
		}
	})
	copied := dbtest.File(t)
	err := s.Backup(ctx, copied)
	close(stop)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(ctx, copied); err == nil {
		t.Error("a backup over a file")
	}
	b, err := db.Open(ctx, db.Config{URL: copied})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	q := withTally(t, b)
	if rows := count(t, b, `SELECT COUNT(*) FROM item_row`); rows != q.sum {
		t.Errorf("the copy has %d rows and a tally of %d", rows, q.sum)
	}
	if err := b.Write(ctx, func(tx *db.Tx) error { q.add(1); return nil }); err != nil {
		t.Errorf("writing to the copy: %v", err)
	}
}
