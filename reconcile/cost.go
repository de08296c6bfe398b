package reconcile

import (
	"math"
	"slices"

	"koala/calendar"
	"koala/internal/db"
	"koala/money"
)

// costSizes are the sizes of sales, fen, whose costs are kept apart: fees have
// caps. The last one has no bound.
var costSizes = [...]int64{100_00, 1_000_00, 5_000_00, math.MaxInt64}

// A Cost is what a host has kept of sales of a class and size, as its clearing
// files say: what sending it such sales costs.
type Cost struct {
	Host, Class string
	Upto        int64 // fen a sale; 0: any above the other rows'
	Count       int64
	Fen, Fee    int64 // sums; the fees of issuer and network
}

type costKey struct {
	class string
	upto  int64
}

// costs gathers a file's.
type costs map[costKey]*Cost

// add counts a line that is a sale that stands.
func (c costs) add(x *Item) {
	if x.Class == "" || x.Kind != Sale && x.Kind != Completion || x.State != Cleared || x.Fen <= 0 || x.currency() != money.CNY {
		return
	}
	i := slices.IndexFunc(costSizes[:], func(upto int64) bool { return x.Fen <= upto })
	k := costKey{x.Class, costSizes[i]}
	if k.upto == math.MaxInt64 {
		k.upto = 0
	}
	sum := c[k]
	if sum == nil {
		sum = &Cost{Class: k.class, Upto: k.upto}
		c[k] = sum
	}
	sum.Count, sum.Fen, sum.Fee = sum.Count+1, sum.Fen+x.Fen, sum.Fee+x.Fee+x.Network
}

// keep writes a day's down, in the unit that keeps its run.
func (c costs) keep(tx *db.Tx, host string, day calendar.Date) error {
	for _, x := range c {
		if _, err := tx.Exec(`INSERT INTO reconcile_cost (host, day, class, upto, n, fen, fee) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			host, day.String(), x.Class, x.Upto, x.Count, x.Fen, x.Fee); err != nil {
			return err
		}
	}
	return nil
}

// CostsSince sums what the hosts' files since a day have kept, by host, class and
// size.
func CostsSince(q db.Reader, day calendar.Date) (out []Cost, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var x Cost
		err := scan(&x.Host, &x.Class, &x.Upto, &x.Count, &x.Fen, &x.Fee)
		out = append(out, x)
		return err
	}, `SELECT host, class, upto, CAST(SUM(n) AS BIGINT), CAST(SUM(fen) AS BIGINT), CAST(SUM(fee) AS BIGINT) FROM reconcile_cost WHERE day >= $1
		GROUP BY host, class, upto ORDER BY host, class, upto`, day.String())
	return out, err
}
