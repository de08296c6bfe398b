package db_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/fail"
)

var ctx = context.Background()

// tally is a small participant: the sum of what units added, with one journal
// row per batch.
type tally struct {
	s         *db.Store
	sum, base int64 // with and without the batch in progress
	unit      int64 // sum when the unit began
	mark      int   // length of blob then
	batches   int64
	reloads   int
	blob      []byte
	failFlush error
}

var tallySchema = db.Schema{Owner: "tally", Steps: []string{
	`CREATE TABLE tally_journal (seq BIGINT PRIMARY KEY, sum BIGINT NOT NULL, blob BYTEA NOT NULL) /*without rowid*/`,
}}

func (p *tally) add(n int64) {
	p.sum += n
	p.blob = binary.BigEndian.AppendUint64(p.blob, uint64(n))
}

func (p *tally) BeginUnit() { p.unit, p.mark = p.sum, len(p.blob) }

func (p *tally) EndUnit(ok bool) {
	if !ok {
		p.sum, p.blob = p.unit, p.blob[:p.mark]
	}
}

func (p *tally) Dirty() bool { return len(p.blob) > 0 }

func (p *tally) Flush(exec db.Exec) error {
	if p.failFlush != nil {
		return p.failFlush
	}
	return exec(`INSERT INTO tally_journal (seq, sum, blob) VALUES ($1, $2, $3)`, p.batches+1, p.sum, p.blob)
}

func (p *tally) Committed() {
	p.base, p.blob = p.sum, p.blob[:0]
	p.batches++
}

func (p *tally) Aborted() error {
	p.reloads++
	return p.load()
}

func (p *tally) load() error {
	p.sum, p.batches, p.blob = 0, 0, p.blob[:0]
	err := p.s.Read(ctx, func(q *db.Query) error {
		return q.QueryRow(`SELECT seq, sum FROM tally_journal ORDER BY seq DESC LIMIT 1`).Scan(&p.batches, &p.sum)
	})
	if errors.Is(err, db.ErrNoRows) {
		err = nil
	}
	p.base = p.sum
	return err
}

var itemSchema = db.Schema{Owner: "item", Steps: []string{
	`CREATE TABLE item_row (id TEXT PRIMARY KEY, n BIGINT NOT NULL, note TEXT, raw BYTEA, flag BOOLEAN NOT NULL)`,
	`CREATE TABLE item_log (id BIGINT NOT NULL, text TEXT NOT NULL); CREATE INDEX item_log_id ON item_log (id)`,
}}

// withTally migrates s and attaches a loaded tally.
func withTally(t testing.TB, s *db.Store) *tally {
	t.Helper()
	if err := s.Migrate(ctx, tallySchema, itemSchema); err != nil {
		t.Fatal(err)
	}
	p := &tally{s: s}
	if err := p.load(); err != nil {
		t.Fatal(err)
	}
	s.Attach(p)
	return p
}

func insert(tx *db.Tx, id string, n int64) error {
	_, err := tx.Exec(`INSERT INTO item_row (id, n, flag) VALUES ($1, $2, $3)`, id, n, n > 0)
	return err
}

func count(t testing.TB, s *db.Store, sql string, args ...any) (n int64) {
	t.Helper()
	if err := s.Read(ctx, func(q *db.Query) error { return q.QueryRow(sql, args...).Scan(&n) }); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestUnitIsAllOrNothing(t *testing.T) {
	refused := fail.Define(fail.Refused, "dbtest.refused", "refused")
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		p := withTally(t, s)
		for _, tt := range []struct {
			name string
			unit func(tx *db.Tx) error
			want error
			rows int64 // in item_row afterwards
			sum  int64 // of the participant
		}{
			{"rows and participant", func(tx *db.Tx) error { p.add(5); return insert(tx, "a", 1) }, nil, 1, 5},
			{"participant alone", func(tx *db.Tx) error { p.add(1); return nil }, nil, 1, 6},
			{"refused after a row", func(tx *db.Tx) error {
				p.add(100)
				if err := insert(tx, "b", 1); err != nil {
					return err
				}
				return refused
			}, refused, 1, 6},
			{"refused before any row", func(tx *db.Tx) error { p.add(100); return refused }, refused, 1, 6},
			{"second row refused", func(tx *db.Tx) error {
				if err := insert(tx, "c", 1); err != nil {
					return err
				}
				return insert(tx, "a", 1)
			}, db.ErrSQL, 1, 6},
			{"statement error swallowed", func(tx *db.Tx) error { _ = insert(tx, "a", 1); return nil }, db.ErrSQL, 1, 6},
			{"panic", func(tx *db.Tx) error {
				p.add(100)
				_ = insert(tx, "d", 1)
				panic("a defect")
			}, db.ErrPanic, 1, 6},
			{"appended row refused", func(tx *db.Tx) error {
				p.add(7)
				return tx.Append("item_row", "id, n, flag", "a", 1, true)
			}, db.ErrSQL, 1, 6},
			{"appended", func(tx *db.Tx) error {
				return tx.Append("item_row", "id, n, flag", "e", 1, true)
			}, nil, 2, 6},
			{"no such table", func(tx *db.Tx) error { _, err := tx.Exec(`DELETE FROM nowhere`); return err }, db.ErrSQL, 2, 6},
			{"too few arguments", func(tx *db.Tx) error { return insertRaw(tx, "x") }, db.ErrSQL, 2, 6},
			{"a time as argument", func(tx *db.Tx) error { return insertRaw(tx, "x", time.Time{}, true) }, db.ErrValue, 2, 6},
			{"and on", func(tx *db.Tx) error { p.add(1); return insert(tx, "f", 1) }, nil, 3, 7},
		} {
			err := s.Write(ctx, tt.unit)
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
			if got := count(t, s, `SELECT COUNT(*) FROM item_row`); got != tt.rows {
				t.Errorf("%s: %d rows, want %d", tt.name, got, tt.rows)
			}
			if p.sum != tt.sum {
				t.Errorf("%s: tally %d, want %d", tt.name, p.sum, tt.sum)
			}
		}
	})
}

func insertRaw(tx *db.Tx, args ...any) error {
	_, err := tx.Exec(`INSERT INTO item_row (id, n, flag) VALUES ($1, $2, $3)`, args...)
	return err
}

// TestOneBadUnitInABatch: units of one batch fail alone, also when it shows
// only at the end of the batch.
func TestOneBadUnitInABatch(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		p := withTally(t, s)
		const n = 200
		errs := make([]error, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				errs[i] = s.Write(ctx, func(tx *db.Tx) error {
					p.add(1)
					id := fmt.Sprintf("i%d", i)
					switch i % 10 {
					case 3:
						return errors.New("no")
					case 5:
						id = "same"
						return tx.Append("item_row", "id, n, flag", id, i, false)
					case 7:
						return tx.Append("item_row", "id, n, flag", id, i, false)
					}
					return insert(tx, id, int64(i))
				})
			})
		}
		wg.Wait()
		good := int64(0)
		for i, err := range errs {
			switch i % 10 {
			case 3:
				if err == nil || err.Error() != "no" {
					t.Errorf("unit %d: %v", i, err)
				}
				continue
			case 5:
				if err != nil && !errors.Is(err, db.ErrSQL) {
					t.Errorf("unit %d: %v", i, err)
				}
			default:
				if err != nil {
					t.Errorf("unit %d: %v", i, err)
				}
			}
			if err == nil {
				good++
			}
		}
		if want := int64(n/10*8 + 1); good != want {
			t.Errorf("%d units answered, want %d", good, want)
		}
		if rows := count(t, s, `SELECT COUNT(*) FROM item_row`); rows != good || p.sum != good {
			t.Errorf("%d rows and a tally of %d for %d answered units", rows, p.sum, good)
		}
	})
}

func TestValuesComeBack(t *testing.T) {
	type name string
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		withTally(t, s)
		note := "笔记 $1 'x'"
		err := s.Write(ctx, func(tx *db.Tx) error {
			if _, err := tx.Exec(`INSERT INTO item_row (id, n, note, raw, flag) VALUES ($3, $2, $1, $5, $4)`,
				&note, uint32(4_000_000_000), name("v"), true, []byte{}); err != nil {
				return err
			}
			var back name
			var n uint64
			var text *string
			var raw []byte
			var flag bool
			if err := tx.QueryRow(`SELECT id, n, note, raw, flag FROM item_row WHERE id = $1`, name("v")).
				Scan(&back, &n, &text, &raw, &flag); err != nil {
				return err
			}
			if back != "v" || n != 4_000_000_000 || *text != note || raw == nil || len(raw) != 0 || !flag {
				t.Errorf("came back as %v %v %v %v %v", back, n, *text, raw, flag)
			}
			_, err := tx.Exec(`INSERT INTO item_row (id, n, note, raw, flag) VALUES ($1, $2, $3, $4, $5)`,
				"w", -1, nil, []byte(nil), false)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Read(ctx, func(q *db.Query) error {
			var text *string
			var raw []byte
			var sum, most int64
			if err := q.QueryRow(`SELECT note, raw FROM item_row WHERE id = $1`, "w").Scan(&text, &raw); err != nil {
				return err
			}
			if text != nil || raw != nil {
				t.Errorf("NULL came back as %v %v", text, raw)
			}
			if err := q.QueryRow(`SELECT SUM(n), MAX(n) FROM item_row`).Scan(&sum, &most); err != nil {
				return err
			}
			if sum != 3_999_999_999 || most != 4_000_000_000 {
				t.Errorf("sum %d, max %d", sum, most)
			}
			var small uint8
			if err := q.QueryRow(`SELECT n FROM item_row WHERE id = $1`, "v").Scan(&small); !errors.Is(err, db.ErrValue) {
				t.Errorf("4,000,000,000 into a byte: %v", err)
			}
			if err := q.QueryRow(`SELECT n FROM item_row WHERE id = $1`, "none").Scan(&sum); !errors.Is(err, db.ErrNoRows) {
				t.Errorf("no row: %v", err)
			}
			rows, err := q.Rows(`SELECT id FROM item_row ORDER BY id`)
			if err != nil {
				return err
			}
			var ids []string
			for rows.Next() {
				var id string
				if err := rows.Scan(&id); err != nil {
					return err
				}
				ids = append(ids, id)
			}
			if got := strings.Join(ids, " "); got != "v w" || rows.Len() != 2 {
				t.Errorf("rows %q", got)
			}
			return rows.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestReadersCannotWriteAndSeeOneMoment(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		withTally(t, s)
		err := s.Read(ctx, func(q *db.Query) error {
			_, err := q.Rows(`INSERT INTO item_log (id, text) VALUES (1, 'x')`)
			return err
		})
		if err == nil {
			t.Error("a reader wrote")
		}
		err = s.Read(ctx, func(q *db.Query) error {
			var before, after int64
			if err := q.QueryRow(`SELECT COUNT(*) FROM item_row`).Scan(&before); err != nil {
				return err
			}
			if err := s.Write(ctx, func(tx *db.Tx) error { return insert(tx, "late", 1) }); err != nil {
				return err
			}
			if err := q.QueryRow(`SELECT COUNT(*) FROM item_row`).Scan(&after); err != nil {
				return err
			}
			if before != after {
				t.Errorf("%d rows, then %d in the same read", before, after)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if n := count(t, s, `SELECT COUNT(*) FROM item_row`); n != 1 {
			t.Errorf("%d rows", n)
		}
	})
}

func TestInlineIsDeterministic(t *testing.T) {
	ids := map[string]string{}
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		cfg.Inline, cfg.Rand = true, clock.Random(7)
		cfg.Clock = clock.NewVirtual(time.Date(2015, 9, 16, 8, 0, 0, 0, time.UTC))
		s, err := db.Open(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		p := withTally(t, s)
		var made, order string
		for i := range 3 {
			err := s.Write(ctx, func(tx *db.Tx) error {
				p.add(1)
				made += tx.NewID("acct") + " " + tx.Now().String() + " "
				tx.After(func() { order += fmt.Sprint(i) })
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if order != "012" {
			t.Errorf("after the commits: %q", order)
		}
		ids[t.Name()] = made
	})
	var first string
	for name, made := range ids {
		if first == "" {
			first = made
		}
		if made != first {
			t.Errorf("%s made %s, want %s", name, made, first)
		}
	}
}
