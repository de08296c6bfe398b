package tsm_test

import (
	"fmt"
	"testing"

	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/tsm"
)

// BenchmarkIssue writes whole cards: order, secure channel, element, proof,
// each unit durable. Bands are adopted before the clock runs.
func BenchmarkIssue(b *testing.B) {
	h := open(b, sqlite(b), tsm.Config{})
	h.do(func(tx *db.Tx) error { // without deposit, or the wallet would run dry
		p, err := issuing.ProductOn(tx, issuing.TransitBJ, tx.Now())
		if err != nil {
			return err
		}
		p.Code, p.Deposit = "free", money.Fen(0)
		return issuing.SetProduct(tx, p)
	})
	bands := make([]*band, b.N)
	for i := range bands {
		id := fmt.Sprintf("bench_%06d", i)
		h.do(func(tx *db.Tx) error { return h.tsm.Register(tx, id, string(lin)) })
		bands[i] = newBand(b, h.tsm, id, byte(i))
		bands[i].work(0)
	}
	b.ResetTimer()
	for i, x := range bands {
		h.do(func(tx *db.Tx) error {
			c, err := issuing.Open(tx, issuing.Application{Ref: x.id, Customer: lin, Band: x.id, Product: "free"})
			if err != nil {
				return err
			}
			_, err = h.tsm.Place(tx, tsm.Request{Ref: fmt.Sprint("issue", i), Kind: tsm.Issue, Band: x.id, Card: c.ID})
			return err
		})
		x.work(0)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "cards/s")
}
