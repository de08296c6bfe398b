package switching_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/proposal"
	"koala/switching"
)

// TestLivePages: lists of a shop, of a terminal and of all, read page by page,
// have each transaction once, newest first, whatever terminals stood where.
func TestLivePages(t *testing.T) {
	s := dbtest.Open(t)
	if err := s.Migrate(t.Context(), proposal.Schema, switching.Schema); err != nil {
		t.Fatal(err)
	}
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		type row struct{ rrn, tid, shop, state string }
		var rows []row
		batches := map[string]int{}
		err := s.Write(t.Context(), func(tx *db.Tx) error {
			rows = rows[:0]
			for _, sql := range []string{`DELETE FROM switching_txn`, `DELETE FROM switching_place`} {
				if _, err := tx.Exec(sql); err != nil {
					return err
				}
			}
			for n := range rapid.IntRange(0, 40).Draw(rt, "rows") {
				r := row{fmt.Sprintf("%012d", n), rapid.SampledFrom([]string{"t1", "t2", "t3"}).Draw(rt, "tid"), rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "shop"),
					rapid.SampledFrom([]string{"approved", "cleared"}).Draw(rt, "state")}
				if rapid.IntRange(0, 3).Draw(rt, "settles") == 0 {
					batches[r.tid]++
				}
				batch := batches[r.tid] + 1
				if rapid.IntRange(0, 9).Draw(rt, "mark") == 0 {
					batch = 0
				}
				rows = append(rows, r)
				if err := insertRow(tx, r.tid, batch, n, r.rrn, r.state, r.shop); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			rt.Fatal(err)
		}
		slices.Reverse(rows)
		f := switching.Filter{Shop: rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "of shop"), TID: rapid.SampledFrom([]string{"", "t1", "t3"}).Draw(rt, "of terminal"),
			State: rapid.SampledFrom([]switching.State{"", switching.Cleared}).Draw(rt, "in state"), Limit: rapid.IntRange(1, 7).Draw(rt, "page")}
		var want, got []string
		for _, r := range rows {
			if (f.Shop == "" || f.Shop == r.shop) && (f.TID == "" || f.TID == r.tid) && (f.State == "" || string(f.State) == r.state) {
				want = append(want, r.rrn)
			}
		}
		for {
			var list []switching.Txn
			err := s.Read(t.Context(), func(q *db.Query) (err error) {
				list, err = switching.Live(q, f)
				return err
			})
			if err != nil || len(list) > f.Limit {
				rt.Fatal(len(list), err)
			}
			for _, x := range list {
				got = append(got, x.RRN)
			}
			if len(list) < f.Limit {
				break
			}
			f.Before = list[len(list)-1].RRN
		}
		if !slices.Equal(got, want) {
			rt.Fatalf("%+v: %v, want %v", f, got, want)
		}
	})
}

func insertRow(tx *db.Tx, tid string, batch, stan int, rrn, state, shop string) error {
	_, err := tx.Exec(`INSERT INTO switching_txn (tid, batch, stan, rrn, kind, state, mid, shop, host, card, counter, token, masked, class, abroad, fen, due, refunded, entry, auth, code, why,
		original, plan, standin, hash, reply, extra, at, changed) VALUES ($1, $2, $3, $4, 'sale', $5, '', $6, '', '', 0, '', '', 'debit', FALSE, 1, 1, 0, '', '', '', '', '', '', FALSE, '', $7, '', 0, 0)`,
		tid, batch, stan, rrn, state, shop, []byte{})
	if err == nil {
		_, err = tx.Exec(`INSERT INTO switching_place (shop, tid) VALUES ($1, $2) ON CONFLICT (shop, tid) DO NOTHING`, shop, tid)
	}
	return err
}

// TestPlacesOfAnOlderStore: what a shop has sold before the version that keeps
// its terminals is listed.
func TestPlacesOfAnOlderStore(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		before := switching.Schema
		before.Steps = before.Steps[:slices.IndexFunc(before.Steps, func(step string) bool { return len(step) > 30 && step[:30] == "CREATE TABLE switching_place (s"[:30] })]
		if err := s.Migrate(t.Context(), before); err != nil {
			t.Fatal(err)
		}
		err := s.Write(t.Context(), func(tx *db.Tx) error {
			for n := range 4 {
				if _, err := tx.Exec(`INSERT INTO switching_txn (tid, batch, stan, rrn, kind, state, mid, shop, host, card, counter, token, masked, class, abroad, fen, due, refunded, entry, auth,
					code, why, original, plan, standin, hash, reply, extra, at, changed) VALUES ($1, 1, $2, $3, 'sale', 'cleared', '', 'a', '', '', 0, '', '', 'debit', FALSE, 1, 1, 0, '', '', '', '', '',
					'', FALSE, '', $4, '', 0, 0)`, fmt.Sprint("t", n%2), n, fmt.Sprintf("%012d", n), []byte{}); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			err = s.Migrate(t.Context(), proposal.Schema, switching.Schema)
		}
		var list []switching.Txn
		if err == nil {
			err = s.Read(t.Context(), func(q *db.Query) (err error) {
				list, err = switching.Live(q, switching.Filter{Shop: "a", Limit: 10})
				return err
			})
		}
		if err != nil || len(list) != 4 {
			t.Errorf("%d transactions (%v), want 4", len(list), err)
		}
	})
}
