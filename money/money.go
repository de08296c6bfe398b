// Package money keeps exact amounts: whole minor units (fen) of one currency.
// There are no floats; overflow and mixed currencies are defects and panic,
// or errors where the input is somebody else's (CheckedAdd, ParseYuan).
package money

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"

	"koala/internal/fail"
)

// MaxMinor bounds every amount, in minor units: sums of any million amounts
// still fit 64 bits. Account totals are kept in 128 bits by the ledger.
const MaxMinor = int64(9_000_000_000_000)

// The failures of this package.
var (
	ErrOverflow = fail.Define(fail.Invalid, "money.overflow", "the amount is too large")
	ErrCurrency = fail.Define(fail.Invalid, "money.currency", "the currencies differ")
	ErrSyntax   = fail.Define(fail.Invalid, "money.syntax", "this is not an amount; write yuan like 12 or 12.30")
)

// Currency is an ISO 4217 letter code.
type Currency string

// CNY is the renminbi; its minor unit is the fen.
const CNY Currency = "CNY"

// Amount is a number of minor units in one currency. The zero value is no
// money of no currency and may be added to anything.
type Amount struct {
	minor    int64
	currency Currency
}

// Fen returns n fen.
func Fen(n int64) Amount { return Of(n, CNY) }

// Of returns n minor units of c. It panics beyond MaxMinor: check input first.
func Of(n int64, c Currency) Amount {
	if n > MaxMinor || n < -MaxMinor {
		panic(fmt.Sprintf("money: %d minor units of %s are out of range", n, c))
	}
	return Amount{n, c}
}

// Minor returns the minor units.
func (a Amount) Minor() int64 { return a.minor }

// Currency returns the currency, empty for the zero value.
func (a Amount) Currency() Currency { return a.currency }

// IsZero says whether there is no money in a.
func (a Amount) IsZero() bool { return a.minor == 0 }

// Sign is -1, 0 or 1.
func (a Amount) Sign() int {
	switch {
	case a.minor < 0:
		return -1
	case a.minor > 0:
		return 1
	}
	return 0
}

// CheckedAdd returns a + b, or why there is no such amount.
func CheckedAdd(a, b Amount) (Amount, error) {
	c := a.currency
	switch {
	case c == "":
		c = b.currency
	case b.currency != "" && b.currency != c:
		return Amount{}, fmt.Errorf("add %s to %s: %w", b, a, ErrCurrency)
	}
	sum := a.minor + b.minor // both within MaxMinor: no wrap
	if sum > MaxMinor || sum < -MaxMinor {
		return Amount{}, fmt.Errorf("add %s to %s: %w", b, a, ErrOverflow)
	}
	return Amount{sum, c}, nil
}

// Add returns a + b; mixing currencies or leaving the range panics.
func (a Amount) Add(b Amount) Amount {
	sum, err := CheckedAdd(a, b)
	if err != nil {
		panic(err)
	}
	return sum
}

// Neg returns -a.
func (a Amount) Neg() Amount { return Amount{-a.minor, a.currency} }

// Sub returns a - b.
func (a Amount) Sub(b Amount) Amount { return a.Add(b.Neg()) }

// Cmp compares two amounts of one currency: -1, 0 or 1.
func (a Amount) Cmp(b Amount) int { return a.Sub(b).Sign() }

// Split divides a into n parts that differ by at most one minor unit and sum
// to a; the larger parts come first (largest remainder).
func (a Amount) Split(n int) []Amount {
	if n < 1 {
		panic("money: split into no parts")
	}
	parts := make([]Amount, n)
	each, rest := a.minor/int64(n), a.minor%int64(n)
	step := int64(1)
	if rest < 0 {
		step, rest = -1, -rest
	}
	for i := range parts {
		parts[i] = Amount{each, a.currency}
		if int64(i) < rest {
			parts[i].minor += step
		}
	}
	return parts
}

// Rounding says what happens to a part of a minor unit.
type Rounding int

// The roundings in use.
const (
	Down   Rounding = iota // toward zero
	Up                     // away from zero
	HalfUp                 // to the nearest, a half away from zero
)

// Portion returns a * num / den rounded as r says; the product is 128 bits.
func (a Amount) Portion(num, den int64, r Rounding) Amount {
	if num < 0 || den <= 0 {
		panic(fmt.Sprintf("money: portion %d/%d", num, den))
	}
	abs := uint64(a.minor)
	if a.minor < 0 {
		abs = uint64(-a.minor)
	}
	hi, lo := bits.Mul64(abs, uint64(num))
	if hi >= uint64(den) {
		panic(ErrOverflow)
	}
	q, rem := bits.Div64(hi, lo, uint64(den))
	if (r == Up && rem > 0) || (r == HalfUp && rem >= uint64(den)-rem) {
		q++
	}
	if q > uint64(MaxMinor) {
		panic(ErrOverflow)
	}
	if a.minor < 0 {
		return Amount{-int64(q), a.currency}
	}
	return Amount{int64(q), a.currency}
}

// Apportion divides a over weights so that nothing is lost: each part is
// rounded down and the rest goes, a unit each, to the largest remainders
// (the earlier one where two are equal). Weights must sum to more than zero.
func (a Amount) Apportion(weights []int64) []Amount {
	var total int64
	for _, w := range weights {
		if w < 0 || total > math.MaxInt64-w {
			panic("money: apportion by a bad weight")
		}
		total += w
	}
	if total == 0 {
		panic("money: apportion by weights that sum to zero")
	}
	parts := make([]Amount, len(weights))
	remainders := make([]uint64, len(weights))
	left := a
	for i, w := range weights {
		parts[i] = a.Portion(w, total, Down)
		left = left.Sub(parts[i])
		hi, lo := bits.Mul64(uint64(max(a.minor, -a.minor)), uint64(w))
		_, remainders[i] = bits.Div64(hi, lo, uint64(total))
	}
	for unit := Of(int64(left.Sign()), a.currency); !left.IsZero(); left = left.Sub(unit) {
		best := 0
		for i, r := range remainders {
			if r > remainders[best] {
				best = i
			}
		}
		parts[best] = parts[best].Add(unit)
		remainders[best] = 0
	}
	return parts
}

// Yuan writes the amount in major units with two decimals: -12.30.
func (a Amount) Yuan() string {
	abs, sign := a.minor, ""
	if abs < 0 {
		abs, sign = -abs, "-"
	}
	return fmt.Sprintf("%s%d.%02d", sign, abs/100, abs%100)
}

// String writes the amount with its currency: 12.30 CNY.
func (a Amount) String() string {
	if a.currency == "" {
		return a.Yuan()
	}
	return a.Yuan() + " " + string(a.currency)
}

// ParseYuan reads what a person typed: 12, 12.3 or 12.30, with no sign.
func ParseYuan(s string) (Amount, error) {
	whole, part, dotted := strings.Cut(strings.TrimSpace(s), ".")
	if dotted && (len(part) < 1 || len(part) > 2) || !digits(whole) || dotted && !digits(part) {
		return Amount{}, fmt.Errorf("%q: %w", s, ErrSyntax)
	}
	fen, err := strconv.ParseInt(whole+(part + "00")[:2], 10, 64)
	if err != nil || fen > MaxMinor {
		return Amount{}, fmt.Errorf("%q: %w", s, ErrOverflow)
	}
	return Fen(fen), nil
}

func digits(s string) bool {
	for _, r := range s {
		if r < '0' || r > '9' {
			return false
		}
	}
	return s != ""
}
