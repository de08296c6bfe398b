package report_test

import (
	"errors"
	"testing"

	"koala/dispute"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/proposal"
	"koala/merchant"
	"koala/reconcile"
	"koala/report"
	"koala/risk"
	"koala/settlement"
)

// TestDesks: what waits at the desks is counted, and what is done is not.
func TestDesks(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		if err := s.Migrate(t.Context(), proposal.Schema, settlement.Schema, merchant.Schema, reconcile.Schema, dispute.Schema, risk.Schema); err != nil {
			t.Fatal(err)
		}
		want := func(want report.Desks) {
			t.Helper()
			err := s.Read(t.Context(), func(q *db.Query) error {
				got, err := report.DesksOf(q)
				if got != want {
					t.Errorf("%+v, want %+v", got, want)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
		want(report.Desks{})
		err := s.Write(t.Context(), func(tx *db.Tx) error {
			_, err1 := proposal.Make(tx, "terms:m1", 1, "lin", "w")
			p, err2 := proposal.Make(tx, "route:62/0", 1, "lin", "w")
			_, err3 := proposal.Undo(tx, "route", p.ID, "lin")
			_, err4 := tx.Exec(`INSERT INTO merchant_count (city, state, n) VALUES ('1000', 'checking', 3), ('2900', 'checking', 1), ('1000', 'active', 9)`)
			return errors.Join(err1, err2, err3, err4)
		})
		if err != nil {
			t.Fatal(err)
		}
		want(report.Desks{Proposals: 1, Oldest: "terms", Applications: 4})
	})
}
