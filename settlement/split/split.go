// Package split divides a sale among receivers: by a split that is said with it,
// or by one that stands for every sale of a payee from a day on. It keeps what
// each receiver got of a divided sale and what of that is left, so that money
// given back is divided as its sale was. The money itself is settlement's.
//
// Start with Split.Divide and Split.Undo; a standing one is Split.Of.
package split

import (
	"fmt"

	"koala/internal/fail"
	"koala/money"
)

// ErrSplit is a division that does not add up.
var ErrSplit = fail.Define(fail.Invalid, "settlement.bad_split", "the shares do not add up to the sale")

// A Share is what one receiver gets of a split sale: fixed fen, or basis
// points of what the fixed shares leave.
type Share struct {
	Payee string
	Fixed money.Amount
	BP    int64
}

// A Split divides one sale among receivers. The fee is divided as the money
// is, or borne by one of them.
type Split struct {
	Shares []Share
	Bearer string // empty: the fee is divided
}

// MaxShares bounds a split.
const MaxShares = 20

// whole is all basis points.
const whole = 10_000

// Divide divides an amount: fixed shares first, the rest by basis points that
// sum to 10,000, by largest remainder.
func (s Split) Divide(sale money.Amount) ([]money.Amount, error) {
	rest, weights, bps, bearer := sale, make([]int64, len(s.Shares)), int64(0), s.Bearer == ""
	for i, x := range s.Shares {
		if !x.valid() {
			return nil, fmt.Errorf("share %d: %w", i+1, ErrSplit)
		}
		rest, weights[i], bps = rest.Sub(x.Fixed), x.BP, bps+x.BP
		bearer = bearer || x.Payee == s.Bearer
	}
	if len(s.Shares) == 0 || len(s.Shares) > MaxShares || sale.Sign() <= 0 || rest.Sign() < 0 || !bearer || bps != whole && (bps != 0 || !rest.IsZero()) {
		return nil, fmt.Errorf("split of %s: %w", sale, ErrSplit)
	}
	parts := make([]money.Amount, len(s.Shares))
	if bps > 0 {
		parts = rest.Apportion(weights)
	}
	for i, x := range s.Shares {
		parts[i] = parts[i].Add(x.Fixed)
	}
	return parts, nil
}

func (x Share) valid() bool {
	return x.Payee != "" && x.BP >= 0 && x.Fixed.Sign() >= 0 && (x.BP > 0) != (x.Fixed.Sign() > 0)
}

// Undo divides a refund of back over what each share has left, by largest
// remainder: no share gives back more than it got, and refunds that undo the
// sale take each back to the fen.
func (s Split) Undo(left []money.Amount, back money.Amount) ([]money.Amount, error) {
	sum, weights := money.Fen(0), make([]int64, len(left))
	for i, n := range left {
		if n.Sign() < 0 {
			return nil, fmt.Errorf("share %d has %s left: %w", i+1, n, ErrSplit)
		}
		sum, weights[i] = sum.Add(n), n.Minor()
	}
	if len(left) != len(s.Shares) || back.Sign() <= 0 || back.Cmp(sum) > 0 {
		return nil, fmt.Errorf("refund of %s of %s left: %w", back, sum, ErrSplit)
	}
	return back.Apportion(weights), nil
}

// Standing refuses a split that cannot stand for a payee's sales: its shares are
// the others', and the rest, at least nothing, stays. No shares at all end the
// one before.
func (s Split) Standing(payee string) error {
	bps, bearer, seen := int64(0), s.Bearer == "" || s.Bearer == payee, map[string]bool{payee: true}
	for i, x := range s.Shares {
		if !x.valid() || seen[x.Payee] {
			return fmt.Errorf("share %d: %w", i+1, ErrSplit)
		}
		seen[x.Payee], bps = true, bps+x.BP
		bearer = bearer || x.Payee == s.Bearer
	}
	if payee == "" || len(s.Shares) >= MaxShares || bps > whole || !bearer || len(s.Shares) == 0 && s.Bearer != "" {
		return fmt.Errorf("standing split of %s: %w", payee, ErrSplit)
	}
	return nil
}

// Of divides a sale of a payee whose standing split s is: fixed shares in their
// order as far as the sale goes, so that none is refused for being small, then
// basis points of the rest; what they leave is the last share, the payee's own.
func (s Split) Of(payee string, sale money.Amount) (Split, []money.Amount) {
	all := Split{Shares: append(append([]Share{}, s.Shares...), Share{Payee: payee}), Bearer: s.Bearer}
	parts, weights, own := make([]money.Amount, len(all.Shares)), make([]int64, len(all.Shares)), int64(whole)
	rest := sale
	for i, x := range s.Shares {
		parts[i] = x.Fixed
		if rest.Cmp(x.Fixed) < 0 {
			parts[i] = rest
		}
		rest, weights[i], own = rest.Sub(parts[i]), x.BP, own-x.BP
	}
	weights[len(s.Shares)] = own
	for i, n := range rest.Apportion(weights) {
		parts[i] = money.Fen(parts[i].Minor() + n.Minor())
	}
	return all, parts
}
