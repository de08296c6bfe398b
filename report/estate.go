package report

import (
	"fmt"
	"time"

	"koala/internal/db"
)

// A Part is how many there are of something.
type Part struct {
	Name  string
	Count int64
}

func parts(q db.Reader, what, text string, args ...any) (out []Part, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var p Part
		err := scan(&p.Name, &p.Count)
		out = append(out, p)
		return err
	}, text, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return out, nil
}

// Lives counts the merchants' terminals by where they are in their life.
func Lives(q db.Reader) ([]Part, error) {
	return parts(q, "lives of terminals", `SELECT life, COUNT(*) FROM merchant_terminal GROUP BY life ORDER BY life`)
}

// Versions counts the terminals that are not retired by their software.
func Versions(q db.Reader) ([]Part, error) {
	return parts(q, "versions of terminals", `SELECT version, COUNT(*) FROM merchant_terminal WHERE life <> 'retired' GROUP BY version ORDER BY version`)
}

// Demands counts the terminals that the switch asks for something at their next
// message, by its number.
func Demands(q db.Reader) ([]Part, error) {
	return parts(q, "demands on terminals", `SELECT CAST(demand AS TEXT), COUNT(*) FROM switching_terminal WHERE demand > 0 GROUP BY demand ORDER BY demand`)
}

// A CityTaking is what the shops of a city took.
type CityTaking struct {
	City       string // six digits
	Count, Fen int64
}

// CityTakings sums up what stands of the sales of merchants' shops by city, from
// one moment to before another.
func CityTakings(q db.Reader, from, to time.Time) (out []CityTaking, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var t CityTaking
		err := scan(&t.City, &t.Count, &t.Fen)
		out = append(out, t)
		return err
	}, `SELECT s.city, COUNT(*), CAST(SUM(t.due) AS BIGINT) FROM switching_txn t JOIN merchant_shop s ON s.id = t.shop
		WHERE t.at >= $1 AND t.at < $2 AND t.state IN ('approved', 'cleared', 'completed') AND t.original = '' AND t.kind <> 'balance' AND t.kind <> 'preauth'
		GROUP BY s.city ORDER BY s.city`, from.UnixMicro(), to.UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("takings by city: %w", err)
	}
	return out, nil
}

// Cases counts the cases of the risk desk by state.
func Cases(q db.Reader) ([]Part, error) {
	return parts(q, "risk cases", `SELECT state, COUNT(*) FROM risk_case GROUP BY state ORDER BY state`)
}

// Actions counts the judgements of the risk desk since a moment by the
// action that followed.
func Actions(q db.Reader, from time.Time) ([]Part, error) {
	return parts(q, "judgements", `SELECT action, COUNT(*) FROM risk_fact WHERE at >= $1 GROUP BY action ORDER BY action`, from.UnixMicro())
}

// A PayoutSum is the payouts of a day in one state.
type PayoutSum struct {
	Day, State string
	Count, Fen int64
}

// PayoutSums sums up payouts to all payees by day and state, newest day first, of
// days from the given on.
func PayoutSums(q db.Reader, from string) (out []PayoutSum, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var s PayoutSum
		err := scan(&s.Day, &s.State, &s.Count, &s.Fen)
		out = append(out, s)
		return err
	}, `SELECT day, state, COUNT(*), CAST(SUM(fen) AS BIGINT) FROM settlement_payout WHERE day >= $1 GROUP BY day, state ORDER BY day DESC, state`, from)
	if err != nil {
		return nil, fmt.Errorf("payouts by day: %w", err)
	}
	return out, nil
}

// A HeldPayee is a payee of which something is held.
type HeldPayee struct {
	ID, Payee, Reason, Text string
	Fen                     int64 // 0: everything
	At                      time.Time
}

// HoldsInForce lists holds of settlement in force, oldest first.
func HoldsInForce(q db.Reader, limit int) (out []HeldPayee, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var h HeldPayee
		var at int64
		err := scan(&h.ID, &h.Payee, &h.Reason, &h.Text, &h.Fen, &at)
		h.At = db.Moment(at)
		out = append(out, h)
		return err
	}, `SELECT id, payee, reason, text, fen, at FROM settlement_hold WHERE ended = 0 ORDER BY at, id LIMIT $1`, page(limit))
	if err != nil {
		return nil, fmt.Errorf("holds: %w", err)
	}
	return out, nil
}
