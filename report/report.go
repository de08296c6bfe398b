// Package report asks questions across the domains for consoles and the start
// page: totals, series by hour, the last acts, what waits for somebody. It
// only ever selects, and it is the one package that may name other packages'
// tables. A domain's own pages ask the domain.
//
// Start with TotalsOf, Hours and Recent; each takes the query of a db.Read, so
// all answers on one page are of one moment.
package report

import (
	"fmt"
	"time"

	"koala/internal/db"
	"koala/money"
)

// Totals is what the house has done since its books were opened.
type Totals struct {
	Taps     int64        // debits collected from gates and buses
	Fares    money.Amount // what they took
	TopUps   int64        // loads proven by their card
	Loaded   money.Amount
	Payouts  int64
	Paid     money.Amount // to operators
	Cards    int64        // living cards: active or blocked
	Bands    int64
	People   int64
	Riding   int64 // open journeys: people inside now
	Journeys int64
}

// Moved is the money that changed hands: loaded, ridden for, paid out.
func (t Totals) Moved() money.Amount { return t.Loaded.Add(t.Fares).Add(t.Paid) }

// TotalsOf counts everything.
func TotalsOf(q *db.Query) (Totals, error) {
	var t Totals
	var fares, loaded, paid int64
	for _, x := range []struct {
		sql  string
		dest []any
	}{
		{`SELECT COUNT(*), CAST(COALESCE(SUM(fen), 0) AS BIGINT) FROM transit_debit`, []any{&t.Taps, &fares}},
		{`SELECT COUNT(*), CAST(COALESCE(SUM(fen), 0) AS BIGINT) FROM tsm_order WHERE kind = 'topup' AND state = 'done'`, []any{&t.TopUps, &loaded}},
		{`SELECT COUNT(*), CAST(COALESCE(SUM(fen), 0) AS BIGINT) FROM settlement_payout WHERE fen > 0`, []any{&t.Payouts, &paid}},
		{`SELECT COUNT(*) FROM issuing_card WHERE state = 'active' OR state = 'blocked'`, []any{&t.Cards}},
		{`SELECT COUNT(*) FROM tsm_band`, []any{&t.Bands}},
		{`SELECT COUNT(*) FROM customer_person`, []any{&t.People}},
		{`SELECT COUNT(*) FROM transit_journey WHERE state = 'open'`, []any{&t.Riding}},
		{`SELECT COUNT(*) FROM transit_journey`, []any{&t.Journeys}},
	} {
		if err := q.QueryRow(x.sql).Scan(x.dest...); err != nil {
			return Totals{}, fmt.Errorf("totals: %w", err)
		}
	}
	t.Fares, t.Loaded, t.Paid = money.Fen(fares), money.Fen(loaded), money.Fen(paid)
	return t, nil
}

// Due is the work that waits for somebody, and money on its way.
type Due struct {
	OpenOrders  int64 // placed, running or unconfirmed
	Unconfirmed int64 // a link was cut where it matters
	Desk        int64 // orders that only staff can move
	Incomplete  int64 // journeys with a tap missing
	Exceptions  int64 // journeys that staff should look at
	Odd         int64 // debits that were not booked: wrong TAC, used sequence
	Unfunded    int64 // debits booked from suspense
	CardGaps    int64 // ranges of taps that are known to be missing
	DeviceGaps  int64
	Unpaid      money.Amount // captured for operators and not paid out
}

// DueOf counts what waits.
func DueOf(q *db.Query) (Due, error) {
	var d Due
	var unpaid int64
	for _, x := range []struct {
		sql  string
		dest []any
	}{
		{`SELECT COUNT(*), CAST(COALESCE(SUM(CASE WHEN state = 'unconfirmed' THEN 1 ELSE 0 END), 0) AS BIGINT),
			CAST(COALESCE(SUM(CASE WHEN desk THEN 1 ELSE 0 END), 0) AS BIGINT) FROM tsm_order WHERE open`, []any{&d.OpenOrders, &d.Unconfirmed, &d.Desk}},
		{`SELECT COUNT(*) FROM transit_journey WHERE state = 'incomplete'`, []any{&d.Incomplete}},
		{`SELECT COUNT(*) FROM transit_journey WHERE exception <> ''`, []any{&d.Exceptions}},
		{`SELECT COUNT(*) FROM transit_odd`, []any{&d.Odd}},
		{`SELECT COUNT(*) FROM transit_debit WHERE NOT funded`, []any{&d.Unfunded}},
		{`SELECT COUNT(*) FROM transit_gap WHERE kind = 'card'`, []any{&d.CardGaps}},
		{`SELECT COUNT(*) FROM transit_gap WHERE kind = 'terminal'`, []any{&d.DeviceGaps}},
		{`SELECT CAST(COALESCE(SUM(i.fen), 0) AS BIGINT) FROM settlement_payee p JOIN settlement_item i ON i.payee = p.payee AND i.seq > p.mark`, []any{&unpaid}},
	} {
		if err := q.QueryRow(x.sql).Scan(x.dest...); err != nil {
			return Due{}, fmt.Errorf("due work: %w", err)
		}
	}
	d.Unpaid = money.Fen(unpaid)
	return d, nil
}

// A Measure is what a series counts.
type Measure string

// The measures, by the hour in which a thing happened: for taps the
// terminal's clock.
const (
	Taps   Measure = "taps"
	Fares  Measure = "fares" // fen
	TopUps Measure = "topups"
	Loaded Measure = "loaded" // fen
	Issued Measure = "issued" // cards put on paper
)

// series is the SQL of the measures: hour number since 1970 and value.
var series = map[Measure]string{
	Taps: `SELECT at / 3600000000 AS hour, COUNT(*) FROM transit_debit
		WHERE at >= $1 AND at < $2 GROUP BY at / 3600000000 ORDER BY hour`,
	Fares: `SELECT at / 3600000000 AS hour, CAST(SUM(fen) AS BIGINT) FROM transit_debit
		WHERE at >= $1 AND at < $2 GROUP BY at / 3600000000 ORDER BY hour`,
	TopUps: `SELECT changed / 3600000000 AS hour, COUNT(*) FROM tsm_order
		WHERE kind = 'topup' AND state = 'done' AND changed >= $1 AND changed < $2 GROUP BY changed / 3600000000 ORDER BY hour`,
	Loaded: `SELECT changed / 3600000000 AS hour, CAST(SUM(fen) AS BIGINT) FROM tsm_order
		WHERE kind = 'topup' AND state = 'done' AND changed >= $1 AND changed < $2 GROUP BY changed / 3600000000 ORDER BY hour`,
	Issued: `SELECT opened / 3600000000 AS hour, COUNT(*) FROM issuing_card
		WHERE opened >= $1 AND opened < $2 GROUP BY opened / 3600000000 ORDER BY hour`,
}

// MaxHours bounds a series.
const MaxHours = 24 * 31

// Hours gives n values, one per hour, the last for the hour that holds now.
// Hours without anything are zero.
func Hours(q *db.Query, m Measure, now time.Time, n int) ([]int64, error) {
	sql, ok := series[m]
	if !ok {
		panic("report: unknown measure " + string(m))
	}
	n = min(max(n, 1), MaxHours)
	last := now.Truncate(time.Hour)
	first := last.Add(-time.Duration(n-1) * time.Hour)
	rows, err := q.Rows(sql, first.UnixMicro(), last.Add(time.Hour).UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("series of %s: %w", m, err)
	}
	out := make([]int64, n)
	base := first.Unix() / 3600
	for rows.Next() {
		var hour, value int64
		if err := rows.Scan(&hour, &value); err != nil {
			return nil, fmt.Errorf("series of %s: %w", m, err)
		}
		if i := hour - base; i >= 0 && i < int64(n) {
			out[i] = value
		}
	}
	return out, rows.Err()
}
