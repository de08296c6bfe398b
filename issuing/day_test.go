package issuing_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/internal/db"
	"koala/issuing"
	"koala/money"
)

// TestDayCountsWhatStands: whatever ends a payment and takes it up again, on its
// day or another one, a card's day has had what is held or paid of that day, and
// nothing else.
func TestDayCountsWhatStands(t *testing.T) {
	h := openBank(t, t.TempDir())
	k := h.issue(issuing.DebitCard, "band_1")
	counter := 0
	day := func() (spent, stands int64) {
		err := h.store.Read(t.Context(), func(q *db.Query) error {
			if err := q.QueryRow(`SELECT spent FROM issuing_use WHERE card = $1`, k.id).Scan(&spent); err != nil {
				return err
			}
			return q.QueryRow(`SELECT CAST(COALESCE(SUM(a.fen), 0) AS BIGINT) FROM issuing_auth a JOIN issuing_use u ON u.card = a.card
				WHERE a.card = $1 AND a.day = u.day AND a.kind = 'pay' AND a.state IN ('held', 'paid')`, k.id).Scan(&stands)
		})
		if err != nil {
			t.Fatal(err)
		}
		return spent, stands
	}
	rapid.Check(t, func(rt *rapid.T) {
		counter++
		if a := k.authorise(k.ask(issuing.TypePurchase, rapid.Int64Range(1, 5).Draw(rt, "fen"))); a.Why != issuing.Approval {
			rt.Fatalf("payment %d: %s", counter, a.Why)
		}
		acts := []func(*db.Tx) error{
			func(tx *db.Tx) error { return issuing.Release(tx, k.id, counter) },
			func(tx *db.Tx) error { return issuing.Rehold(tx, k.id, counter) },
			func(tx *db.Tx) error {
				return issuing.Raise(tx, k.id, counter, tx.NewID("raise"), money.Fen(rapid.Int64Range(1, 9).Draw(rt, "to")))
			},
			func(tx *db.Tx) error { return issuing.Complete(tx, k.id, counter, money.Fen(1)) },
			func(tx *db.Tx) error {
				return issuing.GiveBack(tx, k.id, counter, tx.NewID("back"), issuing.KindReversal, money.Fen(1))
			},
		}
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(acts)-1), 1, 8).Draw(rt, "acts") {
			if rapid.IntRange(0, 3).Draw(rt, "time passes") == 0 && h.now.Now().Before(start.AddDate(8, 0, 0)) { // over midnight, and over the end of a hold; the card lives ten years
				h.now.Advance(time.Duration(rapid.SampledFrom([]int{1, 9, 24, 31 * 24}).Draw(rt, "hours")) * time.Hour)
			}
			before, _ := day()
			err := h.try(acts[i])
			spent, stands := day()
			if spent != stands || err != nil && spent != before {
				rt.Fatalf("act %d (%v): the day has had %d, %d stand", i, err, spent, stands)
			}
		}
	})
}
