package report

import (
	"errors"
	"fmt"

	"koala/internal/db"
)

// Desks is the work about shops that waits for staff.
type Desks struct {
	Proposals    int64  // changes that another person has to confirm, and wishes of shops
	Oldest       string // the kind of the one that has waited longest
	Exceptions   int64  // of the reconciliation, not closed
	Disputes     int64  // chargebacks to answer or to give in to
	Suspicions   int64  // cases of the risk desk, open or being looked at
	Applications int64  // merchants whose checks leave something to decide
}

// DesksOf counts it.
func DesksOf(q *db.Query) (d Desks, err error) {
	for _, x := range []struct {
		sql  string
		dest *int64
	}{
		{`SELECT COUNT(*) FROM proposal_change WHERE state = 'open'`, &d.Proposals},
		{`SELECT COUNT(*) FROM reconcile_exception WHERE state <> 'closed'`, &d.Exceptions},
		{`SELECT COUNT(*) FROM dispute_case WHERE NOT final AND state IN ('charged_back', 'charged_back_again')`, &d.Disputes},
		{`SELECT COUNT(*) FROM risk_case WHERE state IN ('open', 'assigned')`, &d.Suspicions},
		{`SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) FROM merchant_count WHERE state = 'checking'`, &d.Applications},
	} {
		if err := q.QueryRow(x.sql).Scan(x.dest); err != nil {
			return Desks{}, fmt.Errorf("work of the desks: %w", err)
		}
	}
	err = q.QueryRow(`SELECT kind FROM proposal_change WHERE state = 'open' ORDER BY at, id LIMIT 1`).Scan(&d.Oldest)
	if err != nil && !errors.Is(err, db.ErrNoRows) {
		return Desks{}, fmt.Errorf("work of the desks: %w", err)
	}
	return d, nil
}
