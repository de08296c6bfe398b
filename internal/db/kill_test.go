package db_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"koala/internal/db"
	"koala/internal/db/dbtest"
)

// childFile makes the test binary a process that writes to this store until it
// is killed.
const childFile = "KOALA_DBTEST_CHILD"

func TestMain(m *testing.M) {
	if at := os.Getenv(childFile); at != "" {
		if err := child(at); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child says "answered ID" for every unit whose Write has returned.
func child(at string) error {
	s, err := db.Open(ctx, db.Config{URL: at})
	if err != nil {
		return err
	}
	p := &tally{s: s}
	if err := errors.Join(s.Migrate(ctx, tallySchema, itemSchema), p.load()); err != nil {
		return err
	}
	s.Attach(p)
	var mu sync.Mutex
	out := bufio.NewWriterSize(os.Stdout, 1) // every line goes out at once
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				var id string
				err := s.Write(ctx, func(tx *db.Tx) error {
					p.add(1)
					id = tx.NewID("r")
					if err := tx.Append("item_log", "id, text", 1, id); err != nil {
						return err
					}
					return insert(tx, id, 1)
				})
				mu.Lock()
				if err != nil {
					fmt.Fprintln(out, "error", err)
				} else {
					fmt.Fprintln(out, "answered", id)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return nil
}

// TestKilledProcessLosesNothing kills a writing process at points that the
// scheduler picks, and looks for every answered unit afterwards.
func TestKilledProcessLosesNothing(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		var answered []string
		for round := range 8 {
			answered = append(answered, runChild(t, cfg.URL, 20+37*round)...)
			s, err := db.Open(ctx, cfg)
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			p := withTally(t, s)
			have := map[string]bool{}
			err = s.Read(ctx, func(q *db.Query) error {
				rows, err := q.Rows(`SELECT r.id FROM item_row r JOIN item_log l ON l.text = r.id ORDER BY r.id`)
				if err != nil {
					return err
				}
				for rows.Next() {
					var id string
					if err := rows.Scan(&id); err != nil {
						return err
					}
					have[id] = true
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range answered {
				if !have[id] {
					t.Errorf("round %d: %s was answered and is gone", round, id)
				}
			}
			if int(p.sum) != len(have) {
				t.Errorf("round %d: %d rows and a tally of %d", round, len(have), p.sum)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// runChild kills the child after n answers. On SQLite it first sees that a
// second process is refused while the first lives.
func runChild(t *testing.T, at string, n int) (answered []string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childFile+"="+at)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		id, ok := strings.CutPrefix(lines.Text(), "answered ")
		if !ok {
			t.Fatalf("the child says %q", lines.Text())
		}
		answered = append(answered, id)
		if len(answered) == n {
			if !strings.HasPrefix(at, "postgres") {
				if _, err := db.Open(ctx, db.Config{URL: at}); !errors.Is(err, db.ErrInUse) {
					t.Errorf("a second process: %v", err)
				}
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the child ended by itself")
	}
	return answered
}
