package ledger

import (
	"fmt"
	"math/bits"
	"time"

	"koala/internal/db"
	"koala/money"
)

// Post books an entry. The same reference with the same body returns the
// answer of then; with another body it is ErrDiffers.
func Post(tx *db.Tx, e Entry) (Posted, error) {
	b, err := at(tx)
	if err != nil {
		return Posted{}, err
	}
	b.state.at(tx.Now().UnixMicro())
	return b.state.post(&e)
}

// PostAll books all entries or none.
func PostAll(tx *db.Tx, entries []Entry) ([]Posted, error) {
	b, err := at(tx)
	if err != nil {
		return nil, err
	}
	if len(entries) > MaxGroup {
		return nil, fmt.Errorf("a group of %d entries: %w", len(entries), ErrShape)
	}
	b.state.at(tx.Now().UnixMicro())
	m := b.state.mark()
	all := make([]Posted, len(entries))
	for i := range entries {
		if all[i], err = b.state.post(&entries[i]); err != nil {
			b.state.back(m)
			return nil, fmt.Errorf("item %d of %d: %w", i+1, len(entries), err)
		}
	}
	return all, nil
}

// PostEach books each entry by itself: one that fails leaves the others alone.
func PostEach(tx *db.Tx, entries []Entry) ([]Result, error) {
	b, err := at(tx)
	if err != nil {
		return nil, err
	}
	if len(entries) > MaxGroup {
		return nil, fmt.Errorf("%d entries at once: %w", len(entries), ErrShape)
	}
	b.state.at(tx.Now().UnixMicro())
	all := make([]Result, len(entries))
	for i := range entries {
		all[i].Posted, all[i].Err = b.state.post(&entries[i])
	}
	return all, nil
}

// ClosePeriod closes all value dates up to and including through, for good.
// What belongs there is booked afterwards as an adjustment in an open period.
func ClosePeriod(tx *db.Tx, ref string, through time.Time) error {
	b, err := at(tx)
	if err != nil {
		return err
	}
	s := b.state
	s.at(tx.Now().UnixMicro())
	k, err := s.newRef(ref)
	if err != nil {
		return err
	}
	var r record
	r.reset(recPeriod, ref)
	r.words = append(r.words, through.UnixMicro())
	if seq, _, err := s.again(k, &r); err != nil || seq != 0 {
		return err
	}
	if r.words[0] > s.clock {
		return fmt.Errorf("period %s through %s: %w: it has not ended", ref, through.Format(time.DateTime), ErrShape)
	}
	return s.perform(&r, k, false)
}

// newRef checks a reference and returns its key.
func (s *state) newRef(ref string) (key, error) {
	if ref == "" || len(ref) > MaxRef {
		return key{}, fmt.Errorf("%w: a reference of %d bytes", ErrShape, len(ref))
	}
	var room [MaxRef]byte
	for i := range len(ref) {
		if ref[i] < ' ' {
			return key{}, fmt.Errorf("%w: a control character in reference %q", ErrShape, ref)
		}
	}
	return keyOf(room[:copy(room[:], ref)]), nil
}


func (s *state) post(e *Entry) (Posted, error) {
	r := &s.scratch
	r.reset(recEntry, e.Ref, e.Kind, e.Text)
	r.words = append(r.words, micros(e.Adjusts))
	posted, err := s.book1(r, e, true)
	if err != nil {
		return Posted{}, fmt.Errorf("entry %s: %w", e.Ref, err)
	}
	return posted, nil
}

// micros is the journal form of a time; the zero time is 0.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// book1 books e, whose record was begun in r.
func (s *state) book1(r *record, e *Entry, checked bool) (Posted, error) {
	k, err := s.newRef(e.Ref)
	if err != nil {
		return Posted{}, err
	}
	if len(e.Kind) > MaxKind || len(e.Text) > MaxText {
		return Posted{}, fmt.Errorf("%w: kind or text is too long", ErrShape)
	}
	if !e.Value.IsZero() {
		r.flags |= flagValued
		r.value = e.Value.UnixMicro()
	}
	if err := s.fill(r, e.Legs); err != nil {
		return Posted{}, err
	}
	if seq, old, err := s.again(k, r); err != nil || seq != 0 {
		return s.answer(seq, old), err
	}
	if r.flags&flagValued != 0 && r.value <= s.closed && checked {
		return Posted{}, fmt.Errorf("value date %s: %w", e.Value.Format(time.DateOnly), ErrPeriod)
	}
	m := s.mark()
	if err := s.lapse(r.legs); err != nil {
		return Posted{}, err
	}
	if err := s.perform(r, k, checked); err != nil {
		s.back(m)
		return Posted{}, err
	}
	return s.answer(0, r), nil
}

// fill resolves the legs and checks that they sum to zero per currency.
func (s *state) fill(r *record, legs []Leg) error {
	if len(legs) < 2 || len(legs) > MaxLegs {
		return fmt.Errorf("%w: %d legs", ErrShape, len(legs))
	}
	one := legs[0].Amount.Currency()
	var sum int64 // 1,024 legs of the largest amount fit
	for i := range legs {
		l := &legs[i]
		slot, ok := s.slot(l.Account)
		switch {
		case !ok:
			return fmt.Errorf("account %s: %w", l.Account, ErrNoAccount)
		case l.Amount.IsZero():
			return fmt.Errorf("%w: leg %d moves nothing", ErrShape, i+1)
		case l.Amount.Currency() != s.accounts[slot].Currency:
			return fmt.Errorf("%s on account %s in %s: %w", l.Amount, l.Account, s.accounts[slot].Currency, ErrCurrency)
		}
		if l.Amount.Currency() != one {
			one = ""
		}
		sum += l.Amount.Minor()
		r.legs = append(r.legs, leg{slot: slot, amount: l.Amount.Minor()})
	}
	if one != "" && sum != 0 {
		return fmt.Errorf("%w: %d %s left over", ErrUnbalanced, sum, one)
	}
	if one != "" {
		return nil
	}
	return s.balanced(r.legs)
}

// balanced checks an entry in several currencies.
func (s *state) balanced(legs []leg) error {
	sums := map[money.Currency]int64{}
	for _, l := range legs {
		sums[s.accounts[l.slot].Currency] += l.amount
	}
	for c, sum := range sums {
		if sum != 0 {
			return fmt.Errorf("%w: %d %s left over", ErrUnbalanced, sum, c)
		}
	}
	return nil
}

// answer is what the caller of r learns; seq is that of an earlier act.
func (s *state) answer(seq uint64, r *record) Posted {
	if r == nil {
		return Posted{}
	}
	p := Posted{Seq: seq, Replayed: seq != 0, Booked: time.UnixMicro(r.booked).UTC(), After: make([]After, len(r.legs))}
	if seq == 0 {
		p.Seq = s.seq
	}
	for i, l := range r.legs {
		a := s.accounts[l.slot]
		p.After[i] = After{a.ID, money.Of(l.amount, a.Currency), money.Of(l.after, a.Currency)}
	}
	return p
}

// An Exchange is money of one currency given for money of another. The house
// has an exchange account in each currency and one for what rounding leaves.
type Exchange struct {
	Ref, Text        string
	From, To         AccountID
	Give             money.Amount // what leaves From
	Num, Den         int64        // rate: minor units of the currency of To per minor unit given, Num/Den
	HouseGiven       AccountID    // exchange account in the currency given
	HouseTaken       AccountID    // exchange account in the currency of To
	Residual         AccountID    // in the currency of To
	Value            time.Time
}

// PostExchange books an exchange with its rate. To receives Give × rate
// rounded down; the house's account pays it rounded to the nearest, half up;
// the difference, at most one minor unit, goes to Residual.
func PostExchange(tx *db.Tx, x Exchange) (Posted, error) {
	b, err := at(tx)
	if err != nil {
		return Posted{}, err
	}
	b.state.at(tx.Now().UnixMicro())
	p, err := b.state.exchange(&x)
	if err != nil {
		return Posted{}, fmt.Errorf("exchange %s: %w", x.Ref, err)
	}
	return p, nil
}

func (s *state) exchange(x *Exchange) (Posted, error) {
	to, err := s.accountOf(x.To)
	if err != nil {
		return Posted{}, err
	}
	if x.Give.Sign() <= 0 || x.Num <= 0 || x.Den <= 0 {
		return Posted{}, fmt.Errorf("%w: %s at %d/%d", ErrShape, x.Give, x.Num, x.Den)
	}
	hi, lo := bits.Mul64(uint64(x.Give.Minor()), uint64(x.Num))
	if hi >= uint64(x.Den) {
		return Posted{}, ErrOverflow
	}
	whole, rest := bits.Div64(hi, lo, uint64(x.Den))
	if whole >= uint64(money.MaxMinor) {
		return Posted{}, ErrOverflow
	}
	paid := whole
	if rest >= uint64(x.Den)-rest {
		paid++
	}
	if whole == 0 {
		return Posted{}, fmt.Errorf("%w: %s at %d/%d gives nothing", ErrShape, x.Give, x.Num, x.Den)
	}
	c := to.Currency
	e := Entry{Ref: x.Ref, Kind: "exchange", Text: x.Text, Value: x.Value, Legs: []Leg{
		{x.From, x.Give.Neg()}, {x.HouseGiven, x.Give},
		{x.HouseTaken, money.Of(-int64(paid), c)}, {x.To, money.Of(int64(whole), c)},
	}}
	if paid != whole {
		e.Legs = append(e.Legs, Leg{x.Residual, money.Of(1, c)})
	}
	r := &s.scratch
	r.reset(recExchange, e.Ref, e.Kind, e.Text)
	r.words = append(r.words, x.Num, x.Den, int64(rest))
	return s.book1(r, &e, true)
}
