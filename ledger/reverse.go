package ledger

import (
	"fmt"
	"math/bits"
	"time"

	"koala/internal/db"
	"koala/money"
)

// A Reversal gives back all or part of an entry. However often and under
// whatever kind, what is given back never exceeds the original.
type Reversal struct {
	Ref      string
	Original string       // reference of the entry or capture
	Amount   money.Amount // of the credits in its currency; zero: all that is left
	Kind     string       // refund, chargeback…; "": reversal
	Text     string
}

// Reverse gives back amount of the original entry, or all that is left of it
// when amount is zero.
func Reverse(tx *db.Tx, ref, original string, amount money.Amount) (Posted, error) {
	return ReverseAs(tx, Reversal{Ref: ref, Original: original, Amount: amount})
}

// ReverseAs books a reversal of a named kind. Each leg gives back its share,
// so that after the last part every leg is exactly undone.
func ReverseAs(tx *db.Tx, v Reversal) (Posted, error) {
	b, err := at(tx)
	if err != nil {
		return Posted{}, err
	}
	b.state.at(tx.Now().UnixMicro())
	p, err := b.state.reverse(&v)
	if err != nil {
		return Posted{}, fmt.Errorf("reversal %s of %s: %w", v.Ref, v.Original, err)
	}
	return p, nil
}

func (s *state) reverse(v *Reversal) (Posted, error) {
	k, err := s.newRef(v.Ref)
	if err != nil {
		return Posted{}, err
	}
	if v.Kind == "" {
		v.Kind = "reversal"
	}
	if len(v.Kind) > MaxKind || len(v.Text) > MaxText || v.Amount.Sign() < 0 || len(v.Original) > MaxRef {
		return Posted{}, fmt.Errorf("%w: kind, text or amount", ErrShape)
	}
	r := &record{}
	r.reset(recReversal, v.Ref, v.Kind, v.Text, v.Original, string(v.Amount.Currency()))
	r.words = append(r.words, v.Amount.Minor(), 0, 0)
	if seq, old, err := s.again(k, r); err != nil || seq != 0 {
		return s.answer(seq, old), err
	}
	if err := s.reversalLegs(r, v); err != nil {
		return Posted{}, err
	}
	m := s.mark()
	if err := s.lapse(r.legs); err != nil {
		return Posted{}, err
	}
	if err := s.perform(r, k, true); err != nil {
		s.back(m)
		return Posted{}, err
	}
	return s.answer(0, r), nil
}

// reversalLegs finds the original and what was given back of it so far, and
// puts the legs and the new sums into r.
func (s *state) reversalLegs(r *record, v *Reversal) error {
	seq, original, err := s.entry(v.Original)
	if err != nil {
		return err
	}
	switch original.typ {
	case recEntry, recExchange, recCapture:
	default:
		return fmt.Errorf("a %s: %w", original.typ, ErrNotReverse)
	}
	r.words[2] = int64(seq)
	done := make([]int64, len(original.legs))
	back, err := s.find(reversalKey(r.strs[3]), v.Original, true)
	if err != nil {
		return err
	}
	if back != 0 {
		_, last, err := s.parsed(back)
		if err != nil {
			return err
		}
		copy(done, last.words[3:])
		r.words[1] = last.words[1]
	}
	c := v.Amount.Currency()
	if v.Amount.IsZero() {
		c = s.currencyOf(original)
	}
	left := make([]int64, len(original.legs)) // of each leg, with the sign of the leg
	var rest int64                            // of the credits in c
	for i, l := range original.legs {
		left[i] = l.amount - done[i]
		if left[i] > 0 && s.accounts[l.slot].Currency == c {
			rest += left[i]
		}
	}
	amount := v.Amount.Minor()
	if v.Amount.IsZero() {
		amount = rest
	}
	if amount > rest || rest == 0 {
		return fmt.Errorf("%d of %d left: %w", amount, rest, ErrOverReverse)
	}
	r.words[1] += amount
	for i, share := range s.shares(original.legs, left, amount, rest) {
		r.words = append(r.words, done[i]+share)
		if share != 0 {
			r.legs = append(r.legs, leg{slot: original.legs[i].slot, amount: -share})
		}
	}
	return nil
}

// currencyOf returns the currency of the first credit: what a reversal of
// everything is counted in.
func (s *state) currencyOf(r *record) money.Currency {
	for _, l := range r.legs {
		if l.amount > 0 {
			return s.accounts[l.slot].Currency
		}
	}
	return ""
}

// shares cuts amount/rest out of left, for each currency and side by itself
// and by largest remainder, so that what is cut sums to zero per currency and
// no leg gives more than it has left.
func (s *state) shares(legs []leg, left []int64, amount, rest int64) []int64 {
	out := make([]int64, len(left))
	seen := map[money.Currency]bool{}
	for _, l := range legs {
		c := s.accounts[l.slot].Currency
		if seen[c] {
			continue
		}
		seen[c] = true
		for _, sign := range []int64{1, -1} {
			var side []int
			var whole int64
			for i := range legs {
				if s.accounts[legs[i].slot].Currency == c && left[i]*sign > 0 {
					side = append(side, i)
					whole += left[i] * sign
				}
			}
			if whole > 0 {
				cut(out, left, side, sign, portion(whole, amount, rest), whole)
			}
		}
	}
	return out
}

// cut takes n of whole from the legs of one side. The product of two amounts
// is below 2^87, so their quotient by whole fits.
func cut(out, left []int64, side []int, sign, n, whole int64) {
	rests := make([]int64, len(side))
	given := int64(0)
	for j, i := range side {
		hi, lo := bits.Mul64(uint64(left[i]*sign), uint64(n))
		q, rem := bits.Div64(hi, lo, uint64(whole))
		out[i], rests[j] = int64(q)*sign, int64(rem)
		given += int64(q)
	}
	for ; given < n; given++ {
		best := 0
		for j := range rests {
			if rests[j] > rests[best] {
				best = j
			}
		}
		out[side[best]] += sign
		rests[best] = -1
	}
}

// portion is whole × num / den rounded to the nearest, at most whole.
func portion(whole, num, den int64) int64 {
	hi, lo := bits.Mul64(uint64(whole), uint64(num))
	q, rem := bits.Div64(hi, lo, uint64(den))
	if rem >= uint64(den)-rem {
		q++
	}
	return int64(q)
}

// entry finds a record by its reference.
func (s *state) entry(ref string) (uint64, *record, error) {
	k, err := s.newRef(ref)
	if err != nil {
		return 0, nil, err
	}
	seq, err := s.find(k, ref, false)
	if err != nil {
		return 0, nil, err
	}
	if seq == 0 {
		return 0, nil, fmt.Errorf("%s: %w", ref, ErrNoEntry)
	}
	return s.parsed(seq)
}

func (s *state) parsed(seq uint64) (uint64, *record, error) {
	raw, err := s.raw(seq)
	if err != nil {
		return 0, nil, err
	}
	r := &record{}
	_, err = r.parse(raw)
	return seq, r, err
}

// EntryOf returns what was posted under a reference, with all this unit did.
func EntryOf(tx *db.Tx, ref string) (Posted, error) {
	b, err := at(tx)
	if err != nil {
		return Posted{}, err
	}
	seq, r, err := b.state.entry(ref)
	if err != nil {
		return Posted{}, fmt.Errorf("entry: %w", err)
	}
	p := b.state.answer(seq, r)
	p.Booked = time.UnixMicro(r.booked).UTC()
	return p, nil
}
