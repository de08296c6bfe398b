package reconcile

import (
	"errors"
	"testing"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/money"
)

// TestCosts: what a file keeps of sales that stand is kept by class and size, and
// summed over days; reversals, refunds, other money and unknown cards count nothing.
func TestCosts(t *testing.T) {
	day := calendar.Date{Year: 2016, Month: 9, Day: 6}
	sale := Item{Kind: Sale, State: Cleared, Class: "debit", Fen: 100_00, Fee: 35, Network: 6}
	with := func(f func(*Item)) *Item { x := sale; f(&x); return &x }
	c := costs{}
	for _, x := range []*Item{&sale, &sale, with(func(x *Item) { x.Fen = 100_01 }), with(func(x *Item) { x.Fen, x.Fee, x.Kind = 9000_00, 20_00, Completion }),
		with(func(x *Item) { x.Kind, x.Fen = Refund, -100_00 }), with(func(x *Item) { x.Class = "" }), with(func(x *Item) { x.Currency = money.Currency("840") }), with(func(x *Item) { x.State = Reversed })} {
		c.add(x)
	}
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		err := s.Migrate(t.Context(), Schema)
		if err == nil {
			err = s.Write(t.Context(), func(tx *db.Tx) error {
				return errors.Join(c.keep(tx, "CMB", day), c.keep(tx, "CMB", day.AddDays(1)), c.keep(tx, "CMB", day.AddDays(-1)))
			})
		}
		var got []Cost
		if err == nil {
			err = s.Read(t.Context(), func(q *db.Query) (err error) { got, err = CostsSince(q, day); return err })
		}
		want := []Cost{{"CMB", "debit", 0, 2, 2 * 9000_00, 2 * 20_06}, {"CMB", "debit", 100_00, 4, 400_00, 4 * 41}, {"CMB", "debit", 1_000_00, 2, 2 * 100_01, 2 * 41}}
		if err != nil || len(got) != len(want) {
			t.Fatalf("%+v (%v), want %+v", got, err, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%+v, want %+v", got[i], want[i])
			}
		}
	})
}
