package ledger

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/money"
)

// benchState has accounts enough that they do not all stay in the cache.
func benchState(tb testing.TB, accounts int) (*state, []AccountID) {
	s := newState(1, 1<<20)
	ids := make([]AccountID, accounts)
	for i := range ids {
		ids[i] = AccountID(fmt.Sprintf("wallet:%06d", i))
		a := Account{ID: ids[i], Code: "2010", Currency: money.CNY, Limits: Limits{Floor: AtLeast(-money.MaxMinor / 2)}}
		if err := s.open(a); err != nil {
			tb.Fatal(err)
		}
	}
	s.flushed()
	return s, ids
}

// flushed does what a commit does to the state.
func (s *state) flushed() {
	s.settle()
	s.pending.blob, s.pending.ends = s.pending.blob[:0], s.pending.ends[:0]
	s.keys.turn(s.seq)
}

// BenchmarkPost is one transfer in the writer: reference, checks, balances,
// record. The commit is not in it.
func BenchmarkPost(b *testing.B) {
	s, ids := benchState(b, 10_000)
	refs := make([]string, b.N)
	for i := range refs {
		refs[i] = "bench:" + strconv.Itoa(i)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		e := Move("b:"+strconv.Itoa(n), ids[n*7919%len(ids)], ids[(n*104729+1)%len(ids)], money.Fen(int64(1+n%500)))
		if e.Legs[0].Account == e.Legs[1].Account {
			e.Legs[1].Account = ids[(n*104729+2)%len(ids)]
		}
		if _, err := s.post(&e); err != nil {
			b.Fatal(err)
		}
		if n++; n%64 == 0 {
			s.flushed()
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "posts/s")
}

// BenchmarkReplay is a start: reading the journal from the store, checking its
// hashes and applying it.
func BenchmarkReplay(b *testing.B) {
	const transfers, perBatch = 400_000, 200
	store := dbtest.Open(b)
	ctx := context.Background()
	book, err := Open(ctx, store, Config{Inline: true})
	if err != nil {
		b.Fatal(err)
	}
	defer book.Close()
	ids := make([]AccountID, 10_000)
	if err := store.Write(ctx, func(tx *db.Tx) error {
		for i := range ids {
			ids[i] = AccountID(fmt.Sprintf("wallet:%06d", i))
			if err := OpenAccount(tx, Account{ID: ids[i], Code: "2010", Currency: money.CNY}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	for n := 0; n < transfers; n += perBatch {
		if err := store.Write(ctx, func(tx *db.Tx) error {
			for i := n; i < n+perBatch; i++ {
				e := Move("b:"+strconv.Itoa(i), ids[i*7919%len(ids)], ids[(i*7919+1+i%97)%len(ids)], money.Fen(int64(1+i%500)))
				if _, err := Post(tx, e); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	for b.Loop() {
		l := loader{store: store, cfg: book.cfg}
		if s, err := l.load(ctx); err != nil || s.seq < transfers {
			b.Fatal(s, err)
		}
	}
	b.ReportMetric(transfers*float64(b.N)/b.Elapsed().Seconds(), "transfers/s")
}
