package db_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"koala/internal/db"
	"koala/internal/db/dbtest"
)

// record is the size of one journal record of the ledger, in bytes.
const record = 96

// callers runs b.N units from n goroutines, each waiting for its answer.
func callers(b *testing.B, s *db.Store, n int, unit func(i int64) func(*db.Tx) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range n {
		wg.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					return
				}
				if err := s.Write(ctx, unit(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "units/s")
}

func stores(b *testing.B, f func(b *testing.B, s *db.Store)) {
	for _, kind := range []string{"sqlite", "postgres"} {
		b.Run(kind, func(b *testing.B) {
			s := dbtest.Open(b, func(c *db.Config) {
				if kind == "postgres" {
					c.URL = dbtest.Postgres(b)
				}
			})
			f(b, s)
		})
	}
}

// BenchmarkPosting: units that only use the participant.
func BenchmarkPosting(b *testing.B) {
	for _, n := range []int{1, 16, 64, 256, 1024} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			stores(b, func(b *testing.B, s *db.Store) {
				p := withTally(b, s)
				row := make([]byte, record-8)
				unit := func(tx *db.Tx) error {
					p.add(1)
					p.blob = append(p.blob, row...)
					return nil
				}
				callers(b, s, n, func(int64) func(*db.Tx) error { return unit })
				b.ReportMetric(float64(b.N)/float64(p.batches), "units/batch")
			})
		})
	}
}

// BenchmarkRows: units of two statements, one of which answers, and an
// appended row, beside the participant.
func BenchmarkRows(b *testing.B) {
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			stores(b, func(b *testing.B, s *db.Store) {
				p := withTally(b, s)
				callers(b, s, n, func(i int64) func(*db.Tx) error {
					return func(tx *db.Tx) error {
						p.add(1)
						id := tx.NewID("item")
						if err := insert(tx, id, i); err != nil {
							return err
						}
						if _, err := tx.Exec(`UPDATE item_row SET note = $2 WHERE id = $1`, id, "seen"); err != nil {
							return err
						}
						return tx.Append("item_log", "id, text", i, id)
					}
				})
			})
		})
	}
}

// BenchmarkRead: one row by key.
func BenchmarkRead(b *testing.B) {
	stores(b, func(b *testing.B, s *db.Store) {
		withTally(b, s)
		if err := s.Write(ctx, func(tx *db.Tx) error { return insert(tx, "a", 1) }); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			count(b, s, `SELECT n FROM item_row WHERE id = $1`, "a")
		}
	})
}
