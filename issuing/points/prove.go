package points

import (
	"errors"
	"fmt"

	"koala/internal/db"
	"koala/ledger"
)

// A Sale is what the switch has of a sale for points.
type Sale struct {
	Known  bool
	Card   string
	Asked  int64 // fen
	Stands int64 // of it, fen
	Booked bool  // the house has paid for what stands
}

// proveChunk bounds the rows in memory at once.
const proveChunk = 200

// Prove proves what is written down: every sale for points is one of the switch,
// of that card and amount, and as much of it stands; what stands of those that were
// booked is what the house has paid; and no card spent more than its payments were
// worth before anything of them went back. What is earned is written nowhere, so
// there is nothing of it to prove.
func Prove(tx *db.Tx, sale func(ref string) (Sale, error)) (wrong []string, err error) {
	var given int64
	spent := map[string]int64{}
	for after, more := "", true; more && err == nil; {
		var page []Spent
		page, err = SpentBy(tx, after, proveChunk)
		more = len(page) == proveChunk
		for i := 0; i < len(page) && err == nil; i++ {
			x := page[i]
			after = x.Ref
			spent[x.Card] += x.Fen * x.Cost
			var s Sale
			if s, err = sale(x.Ref); err != nil {
				break
			}
			if flaw := x.against(s); flaw != "" {
				wrong = append(wrong, "points of sale "+x.Ref+": "+flaw)
			}
			if s.Booked {
				given += x.Fen
			}
		}
	}
	if err != nil {
		return nil, err
	}
	paid, err := ledger.BalanceOf(tx, House)
	if err != nil && !errors.Is(err, ledger.ErrNoAccount) {
		return nil, fmt.Errorf("points: %w", err)
	}
	if got := -paid.Posted.Minor(); got != given {
		wrong = append(wrong, fmt.Sprintf("points: the house paid shops %d fen, sales for points that were booked stand at %d", got, given))
	}
	worth, err := worthOf(tx)
	if err != nil {
		return nil, err
	}
	for _, w := range worth {
		if n := spent[w.card]; n > w.points {
			wrong = append(wrong, fmt.Sprintf("points of card …%s: %d are spent, its payments never earned more than %d", tail(w.card), n, w.points))
		}
	}
	return wrong, nil
}

// against says how a row differs from the switch's sale; empty: not at all.
func (x Spent) against(s Sale) string {
	switch r, ok := RuleOn(x.At); {
	case !s.Known:
		return "the switch has no such sale"
	case s.Card != x.Card:
		return "the switch has it of another card"
	case s.Asked != x.Asked:
		return fmt.Sprintf("%d fen were taken off the card, the switch sold %d", x.Asked, s.Asked)
	case s.Stands != x.Fen:
		return fmt.Sprintf("%d fen of it stand on the card, %d at the switch", x.Fen, s.Stands)
	case !ok || r.Cost != x.Cost:
		return fmt.Sprintf("%d points were taken for a fen, the rule of its day has %d", x.Cost, r.Cost)
	}
	return ""
}

// worth is the most that a card's payments can have earned at any time.
type worth struct {
	card   string
	points int64
}

// worthOf counts what was approved to each card that spent points, whatever became
// of it.
func worthOf(q db.Reader) (out []worth, err error) {
	most := int64(0) // a yuan's points under the best rule there was
	for _, r := range rules {
		most = max(most, r.PerYuan)
	}
	err = db.Each(q, func(scan func(...any) error) error {
		var w worth
		var yuan int64
		err := scan(&w.card, &yuan)
		w.points = yuan * most
		out = append(out, w)
		return err
	}, `SELECT s.card, CAST(COALESCE((SELECT SUM((CASE WHEN a.paid > a.fen THEN a.paid ELSE a.fen END) / 100) FROM issuing_auth a
			WHERE a.card = s.card AND a.kind = 'pay' AND a.state <> 'declined'), 0) AS BIGINT)
		FROM (SELECT DISTINCT card FROM issuing_points) s ORDER BY s.card`)
	if err != nil {
		err = fmt.Errorf("points: %w", err)
	}
	return out, err
}

// tail is the end of a card's name, as far as anybody may see it.
func tail(card string) string { return card[max(0, len(card)-4):] }
