package transit

import (
	"errors"
	"time"

	"koala/internal/db"
	"koala/spec/purse"
)

// The kinds of number series the gap register watches: the purchase counter
// of each card and the running number of each terminal.
const (
	ofCard     = "card"
	ofTerminal = "terminal"
)

// A Gap is a run of numbers that have not arrived. Cards also count purchases
// that are not ours, so a card's gap may stay; a terminal's may not.
type Gap struct {
	Kind      string // card or terminal
	Name      string
	Low, High int64 // inclusive
	Opened    time.Time
}

// arrived enters number n of a series: it opens a gap behind the highest or
// below the lowest known, and closes or cuts the gap it falls into. A
// terminal's numbers begin at 1; a card's at the first one seen.
func arrived(tx *db.Tx, kind, name string, n int64) error {
	low, high, err := series(tx, kind, name)
	switch {
	case errors.Is(err, db.ErrNoRows):
		low = n
		if kind == ofTerminal {
			low = 1
			if err := openGap(tx, kind, name, 1, n-1); err != nil {
				return err
			}
		}
		return setSeries(tx, kind, name, low, n)
	case err != nil:
		return err
	case n > high:
		if err := openGap(tx, kind, name, high+1, n-1); err != nil {
			return err
		}
		return setSeries(tx, kind, name, low, n)
	case n < low:
		if err := openGap(tx, kind, name, n+1, low-1); err != nil {
			return err
		}
		return setSeries(tx, kind, name, n, high)
	}
	return fill(tx, kind, name, n)
}

// fill takes n out of the gap it lies in; a number known before is in none.
func fill(tx *db.Tx, kind, name string, n int64) error {
	var low, high, opened int64
	err := tx.QueryRow(`SELECT low, high, opened FROM transit_gap WHERE kind = $1 AND name = $2 AND low <= $3 AND high >= $3
		ORDER BY low LIMIT 1`, kind, name, n).Scan(&low, &high, &opened)
	if errors.Is(err, db.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM transit_gap WHERE kind = $1 AND name = $2 AND low = $3`, kind, name, low); err != nil {
		return err
	}
	if err := insertGap(tx, kind, name, low, n-1, opened); err != nil {
		return err
	}
	return insertGap(tx, kind, name, n+1, high, opened)
}

func openGap(tx *db.Tx, kind, name string, low, high int64) error {
	return insertGap(tx, kind, name, low, high, micros(tx.Now()))
}

func insertGap(tx *db.Tx, kind, name string, low, high, opened int64) error {
	if low > high {
		return nil
	}
	_, err := tx.Exec(`INSERT INTO transit_gap (kind, name, low, high, opened) VALUES ($1, $2, $3, $4, $5)`, kind, name, low, high, opened)
	return err
}

func series(q db.Reader, kind, name string) (low, high int64, err error) {
	err = q.QueryRow(`SELECT low, high FROM transit_series WHERE kind = $1 AND name = $2`, kind, name).Scan(&low, &high)
	return low, high, err
}

func setSeries(tx *db.Tx, kind, name string, low, high int64) error {
	_, err := tx.Exec(`INSERT INTO transit_series (kind, name, low, high) VALUES ($1, $2, $3, $4)
		ON CONFLICT (kind, name) DO UPDATE SET low = excluded.low, high = excluded.high`, kind, name, low, high)
	return err
}

// gapsOfCard reads the open gaps of a card.
func gapsOfCard(q db.Reader, card purse.Number) ([]Gap, error) {
	return gaps(q, `WHERE kind = $1 AND name = $2 ORDER BY low`, ofCard, string(card))
}

// Gaps reads the open gaps of terminals (card false) or cards, oldest first,
// from the one after the given moment on.
func Gaps(q db.Reader, cards bool, after time.Time, limit int) ([]Gap, error) {
	kind := ofTerminal
	if cards {
		kind = ofCard
	}
	return gaps(q, `WHERE kind = $1 AND opened > $2 ORDER BY opened, name, low LIMIT $3`, kind, micros(after), limited(limit))
}

func gaps(q db.Reader, where string, args ...any) (out []Gap, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var g Gap
		var opened int64
		err := scan(&g.Kind, &g.Name, &g.Low, &g.High, &opened)
		g.Opened = db.Moment(opened)
		out = append(out, g)
		return err
	}, `SELECT kind, name, low, high, opened FROM transit_gap `+where, args...)
	return out, err
}
