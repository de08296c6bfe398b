package report

import (
	"fmt"
	"time"

	"koala/internal/db"
	"koala/money"
)

// A Load is an e-cash load that is not settled: money is held for it.
type Load struct {
	ID              string
	Card            string
	Customer        string
	Amount          money.Amount
	State           string // held: the card has not come; bound: it has not proven what became of it
	ATC             int    // transaction counter it is bound to, -1 none
	Placed, Changed time.Time
}

// OpenLoads lists the loads that wait, oldest first, from the one after the
// given.
func OpenLoads(q *db.Query, after string, limit int) (out []Load, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var l Load
		var fen, placed, changed int64
		err := scan(&l.ID, &l.Card, &l.Customer, &fen, &l.State, &l.ATC, &placed, &changed)
		l.Amount, l.Placed, l.Changed = money.Fen(fen), db.Moment(placed), db.Moment(changed)
		out = append(out, l)
		return err
	}, `SELECT l.id, l.card, c.customer, l.fen, l.state, l.atc, l.placed, l.changed FROM issuing_load l JOIN issuing_card c ON c.id = l.card
		WHERE l.open AND l.id > $1 ORDER BY l.id LIMIT $2`, after, page(limit))
	if err != nil {
		return nil, fmt.Errorf("open loads: %w", err)
	}
	return out, nil
}

// A Loss is a band whose cards were reported lost.
type Loss struct {
	Band     string
	Customer string
	Since    time.Time // of the first suspension
	Cards    int       // suspended and still alive
	Money    money.Amount
	Due      time.Time // when the last claim that waits may be paid; zero: none waits
	Heirs    int       // cards that were opened in their place
}

// Losses lists bands with suspended cards, by name, from the one after the
// given.
func Losses(q *db.Query, after string, limit int) (out []Loss, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var l Loss
		var since, fen, due int64
		err := scan(&l.Band, &l.Customer, &since, &l.Cards, &fen, &due, &l.Heirs)
		l.Since, l.Money, l.Due = db.Moment(since), money.Fen(fen), db.Moment(due)
		out = append(out, l)
		return err
	}, `SELECT c.band, MIN(c.customer), MIN(c.suspended), CAST(SUM(CASE WHEN c.state IN ('active', 'blocked') THEN 1 ELSE 0 END) AS BIGINT),
			CAST(SUM(CASE WHEN c.state IN ('active', 'blocked') THEN c.balance ELSE 0 END) AS BIGINT),
			COALESCE(MAX((SELECT k.due FROM issuing_claim k WHERE k.old = c.id AND k.state = 'waiting')), 0),
			CAST(SUM((SELECT COUNT(*) FROM issuing_card h WHERE h.replaces = c.id AND h.state NOT IN ('abandoned', 'closed'))) AS BIGINT)
		FROM issuing_card c WHERE c.suspended <> 0 AND c.band > $1 GROUP BY c.band ORDER BY c.band LIMIT $2`, after, page(limit))
	if err != nil {
		return nil, fmt.Errorf("lost bands: %w", err)
	}
	return out, nil
}

// CardsOf lists the ids of a band's cards, those that have ended too.
func CardsOf(q *db.Query, band string) (ids []string, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		ids = append(ids, id)
		return err
	}, `SELECT id FROM issuing_card WHERE band = $1 ORDER BY opened, id`, band)
	return ids, err
}

// Heir is the card that was opened in the place of another, empty for none.
func Heir(q *db.Query, card string) (id, band, state string, err error) {
	err = db.Each(q, func(scan func(...any) error) error { return scan(&id, &band, &state) },
		`SELECT id, band, state FROM issuing_card WHERE replaces = $1 ORDER BY id DESC LIMIT 1`, card)
	return id, band, state, err
}

// Tallies counts, for the desk of clearing.
type Tallies struct {
	Cleared, Waiting, Odd, Doubts, Gaps, Loads int64
	Fen                                        money.Amount // cleared
}

// TalliesOf counts what tills have handed over and what waits.
func TalliesOf(q *db.Query) (t Tallies, err error) {
	var fen int64
	err = q.QueryRow(`SELECT (SELECT COUNT(*) FROM acquiring_record WHERE fate = 'booked'),
		(SELECT CAST(COALESCE(SUM(fen), 0) AS BIGINT) FROM acquiring_movement),
		(SELECT COUNT(*) FROM acquiring_record WHERE fate = 'suspense') + (SELECT COUNT(*) FROM acquiring_meal WHERE why <> '')
			+ (SELECT COUNT(*) FROM acquiring_redemption WHERE why <> ''),
		(SELECT COUNT(*) FROM acquiring_odd), (SELECT COUNT(*) FROM issuing_doubt WHERE state = 'waiting') + (SELECT COUNT(*) FROM acquiring_meal_doubt WHERE state = 'waiting'),
		(SELECT CAST(COALESCE(SUM(high - low + 1), 0) AS BIGINT) FROM acquiring_gap), (SELECT COUNT(*) FROM issuing_load WHERE open)`).
		Scan(&t.Cleared, &fen, &t.Waiting, &t.Odd, &t.Doubts, &t.Gaps, &t.Loads)
	if err != nil {
		return Tallies{}, fmt.Errorf("tallies of clearing: %w", err)
	}
	t.Fen = money.Fen(fen)
	return t, nil
}

// TemplatesWaiting counts the card templates that wait for approval.
func TemplatesWaiting(q *db.Query) (n int64, err error) {
	err = q.QueryRow(`SELECT COUNT(*) FROM issuing_template WHERE state = 'submitted'`).Scan(&n)
	return n, err
}

func page(limit int) int { return min(max(limit, 1), 500) }
