package route

import (
	"math/bits"
	"slices"
)

// A Cost is what a host's clearing files have kept of sales of a fee class up to
// a size: fees of issuer and network.
type Cost struct {
	Host, Class string
	Upto        int64 // fen a sale; 0: any size above the other rows'
	Count       int64 // sales
	Fen, Fee    int64 // sums
}

// Costs are the rows of all hosts; caps of fees make them differ by size.
type Costs []Cost

// enough is the number of sales that make a cost known: fewer may all be odd ones.
const enough = 20

// Of is what a sale of a class and amount, fen, is expected to cost by a host, in
// millionths of the amount; known tells whether enough sales were cleared.
func (c Costs) Of(host, class string, fen int64) (ppm int64, known bool) {
	var best *Cost
	for i := range c {
		x := &c[i]
		if x.Host != host || x.Class != class || x.Count < enough || x.Fen <= 0 || x.Upto > 0 && x.Upto < fen {
			continue
		}
		if best == nil || best.Upto == 0 || x.Upto > 0 && x.Upto < best.Upto {
			best = x
		}
	}
	if best == nil {
		return 0, false
	}
	fee := max(best.Fee, 0)
	hi, lo := bits.Mul64(uint64(fee), 1_000_000)
	if hi >= uint64(best.Fen) { // more fees than sales: nothing is dearer
		return 1_000_000, true
	}
	q, _ := bits.Div64(hi, lo, uint64(best.Fen))
	return int64(min(q, 1_000_000)), true
}

// A Choice is a way to an issuer and why it stands where it stands.
type Choice struct {
	Host  string
	PPM   int64 // what a sale costs, millionths of its amount
	Known bool  // the cost is: by clearing files
	Down  bool  // it could not be reached a moment ago
}

// Order gives the ways of a route in the order in which they are tried for a sale
// of an amount, fen: what could be reached before what could not, then the
// cheapest first when the cost of every way is known, or else as the route lists
// them. here tells whether there is a line to a host at all, down whether it was
// out of reach a moment ago.
func (r Route) Order(fen int64, costs Costs, here, down func(host string) bool) []Choice {
	if len(r.Ways) == 0 {
		return []Choice{{Host: r.Host}} // nearly all: nothing to choose
	}
	var out []Choice
	known := true
	for _, h := range r.Hosts() {
		if !here(h) {
			continue
		}
		c := Choice{Host: h, Down: down(h)}
		c.PPM, c.Known = costs.Of(h, r.Class, fen)
		known = known && c.Known
		out = append(out, c)
	}
	if len(out) == 0 {
		return []Choice{{Host: r.Host}}
	}
	slices.SortStableFunc(out, func(a, b Choice) int {
		switch {
		case a.Down != b.Down:
			if b.Down {
				return -1
			}
			return 1
		case known:
			return int(a.PPM - b.PPM)
		}
		return 0
	})
	return out
}
