package network

import (
	"fmt"

	"koala/calendar"
	"koala/money"
)

// An Operator runs a line from From to To (open when zero).
type Operator struct {
	Line     *Line
	ID       string // bjsubway: the payee of settlement
	EN, ZH   string
	From, To calendar.Date
	Source   string // [M] marks general knowledge
}

// OperatorOf returns who runs l on day d. A line asked about before its first
// day is cleared to its first operator: the network data is not dated.
func (n *Network) OperatorOf(l *Line, d calendar.Date) (Operator, error) {
	var first Operator
	for _, o := range n.Operators {
		if o.Line != l {
			continue
		}
		if first.ID == "" {
			first = o
		}
		if !d.Before(o.From) && (o.To.IsZero() || !o.To.Before(d)) {
			return o, nil
		}
	}
	if first.ID == "" {
		return Operator{}, fmt.Errorf("line %s on %s: %w", l.ID, d, ErrOperator)
	}
	return first, nil
}

// OperatorIDs lists every operator once, in file order.
func (n *Network) OperatorIDs() []Operator {
	var out []Operator
	seen := map[string]bool{}
	for _, o := range n.Operators {
		if !seen[o.ID] {
			seen[o.ID] = true
			out = append(out, o)
		}
	}
	return out
}

// A Share is one line's part of a fare.
type Share struct {
	Line     string       `json:"line"`
	Operator string       `json:"operator"`
	Metres   int          `json:"metres"`
	Fen      money.Amount `json:"-"`
}

// Method says how fares are shared, for people.
const (
	MethodEN = "by the metres ridden on each line along the shortest route; largest remainder, the earlier line first where equal"
	MethodZH = "按最短路径在各线路的乘坐里程分配,余数按最大余数法,相同者先乘者先得"
)

// Split shares fen among the lines of a route by metres, in riding order; a
// ride of no length goes to the station's first line. Not a fen is lost.
func (n *Network) Split(r Route, d calendar.Date, fen money.Amount) ([]Share, error) {
	legs := r.Legs
	if len(legs) == 0 {
		legs = []Leg{{Line: r.From.Lines[0], From: r.From, To: r.To}}
	}
	shares := make([]Share, 0, len(legs))
	weights := make([]int64, 0, len(legs))
	for _, leg := range legs {
		o, err := n.OperatorOf(leg.Line, d)
		if err != nil {
			return nil, err
		}
		shares = append(shares, Share{Line: leg.Line.ID, Operator: o.ID, Metres: leg.Metres})
		weights = append(weights, int64(max(leg.Metres, 1)))
	}
	for i, part := range fen.Apportion(weights) {
		shares[i].Fen = part
	}
	return shares, nil
}
