// Package ledger keeps the books: accounts, entries whose legs sum to zero in
// each currency, holds, and the journal they are all written to. The state is
// in memory and belongs to the writer of internal/db; a batch of units becomes
// one hash-chained journal row, and what readers see is committed.
//
// A unit of work starts at OpenAccount, Post, Authorise and Reverse; a program
// starts at Open. Questions about the past are answered by views that follow
// the journal and can be built again from it (Book.Rebuild).
package ledger

import (
	"fmt"
	"math/bits"
	"time"

	"koala/internal/db"
	"koala/internal/fail"
	"koala/money"
)

// The limits of the book.
const (
	MaxLegs  = 1_024 // legs of one entry
	MaxGroup = 4_096 // entries of one PostAll or PostEach
	MaxRef   = 200   // bytes of a reference or an account's id
	MaxKind  = 40    // bytes of an entry's kind or an account's code
	MaxText  = 500   // bytes of an entry's text or an account's name

	// MaxOver bounds an over-capture allowance, in basis points.
	MaxOver = 10_000
)

// How an act on the books fails. An act that fails changes nothing.
var (
	ErrShape        = fail.Define(fail.Invalid, "ledger.shape", "the entry is malformed")
	ErrUnbalanced   = fail.Define(fail.Invalid, "ledger.unbalanced", "the legs do not sum to zero in each currency")
	ErrCurrency     = fail.Define(fail.Invalid, "ledger.currency", "the amount is not in the account's currency")
	ErrNoAccount    = fail.Define(fail.NotFound, "ledger.no_account", "there is no such account")
	ErrNoEntry      = fail.Define(fail.NotFound, "ledger.no_entry", "there is no entry under this reference")
	ErrDiffers      = fail.Define(fail.Conflict, "ledger.differs", "the reference was used before with other content")
	ErrInsufficient = fail.Define(fail.Refused, "ledger.insufficient_funds", "the balance is too low")
	ErrCeiling      = fail.Define(fail.Refused, "ledger.ceiling", "the balance would be above the account's limit")
	ErrVelocity     = fail.Define(fail.Refused, "ledger.velocity", "the account's spending limit for this period is reached")
	ErrOverflow     = fail.Define(fail.Refused, "ledger.overflow", "the balance would be larger than an account can hold")
	ErrPeriod       = fail.Define(fail.Refused, "ledger.period_closed", "the period of the value date is closed; post an adjustment in an open one")
	ErrNoHold       = fail.Define(fail.NotFound, "ledger.no_hold", "there is no hold under this reference")
	ErrHoldEnded    = fail.Define(fail.Refused, "ledger.hold_ended", "the hold was captured, released or has expired")
	ErrOverCapture  = fail.Define(fail.Refused, "ledger.over_capture", "more would be captured than the hold allows")
	ErrOverReverse  = fail.Define(fail.Refused, "ledger.over_reversed", "more would be reversed than is left of the original")
	ErrNotReverse   = fail.Define(fail.Refused, "ledger.not_reversible", "this entry cannot be reversed")
	ErrBehind       = fail.Define(fail.Busy, "ledger.views_behind", "the views are too far behind the journal; try again in a moment")
	ErrDamaged      = fail.Define(fail.Broken, "ledger.damaged", "the journal is damaged; run koala verify and restore a backup")
	ErrTaken        = fail.Define(fail.Broken, "ledger.taken_over", "another process keeps this book now; this one has stopped")
	ErrDetached     = fail.Define(fail.Broken, "ledger.detached", "no book is attached to the store")
	ErrDown         = fail.Define(fail.Busy, "ledger.down", "the book could not be loaded again after a failed commit; try again in a moment")
	ErrImport       = fail.Define(fail.Invalid, "ledger.import", "the old books do not add up")
	ErrSeal         = fail.Define(fail.Broken, "ledger.seal", "a seal or a proof does not match the journal")
)

// AccountID names an account: acct_… or a name the domain makes itself, such
// as float:03105170070104791381.
type AccountID string

// Side is the side of the books on which an account normally has its balance.
type Side byte

// The sides.
const (
	Debit  Side = 'D' // assets, expenses
	Credit Side = 'C' // liabilities, equity, income
)

// An Account is one line of the books. Balances are credits minus debits: what
// the house owes a customer is positive, what it has in a bank is negative.
type Account struct {
	ID       AccountID
	Code     string // of the chart, digits: the first names the class
	Name     string
	Currency money.Currency
	Normal   Side // zero: the side of the code's class
	Limits
}

// Limits are checked together with every entry and hold that lowers what is
// available; one that raises it is always taken.
type Limits struct {
	Floor       *int64   // least available, minor units; nil: no floor
	Ceiling     *int64   // largest balance, minor units; nil: no ceiling
	CreditLimit int64    // how far below the floor the account may go, minor units
	Velocity    Velocity // zero: no limit
	OverCapture int      // basis points that captures to this account may exceed a hold
}

// Velocity bounds what leaves an account in one window. Windows follow each
// other without a gap, counted from midnight in Beijing: 24 hours is the day.
type Velocity struct {
	Limit  int64 // minor units
	Window time.Duration
}

// AtLeast is a floor or ceiling of n minor units.
func AtLeast(n int64) *int64 { return &n }

// A Leg moves an amount to an account (positive, a credit) or from it.
type Leg struct {
	Account AccountID
	Amount  money.Amount
}

// An Entry is one act of the books: its legs are booked together or not at all.
type Entry struct {
	Ref   string // what makes it unique, chosen by the caller: the idempotency key
	Kind  string // topup, fare, fee…
	Legs  []Leg
	Value time.Time // when it counts; zero: when it is booked
	Text  string
	// Adjusts is the day, in a closed period, that an adjustment entry puts
	// right; its own value date is in an open period. Zero: no adjustment.
	Adjusts time.Time
}

// Move is the entry that takes amount from one account and gives it to another.
func Move(ref string, from, to AccountID, amount money.Amount) Entry {
	return Entry{Ref: ref, Kind: "move", Legs: []Leg{{from, amount.Neg()}, {to, amount}}}
}

// Posted is what became of an entry.
type Posted struct {
	Seq      uint64    // its number in the journal
	Booked   time.Time // UTC
	Replayed bool      // it was in the books before; this is the answer of then
	After    []After   // one per leg
}

// After is the posted balance of an account right after a leg.
type After struct {
	Account AccountID
	Amount  money.Amount
	Balance money.Amount
}

// A Balance is what an account has. Available is posted less held.
type Balance struct {
	Posted    money.Amount
	Held      money.Amount
	Available money.Amount
}

// A Result is the outcome of one item of PostEach.
type Result struct {
	Posted Posted
	Err    error
}

// A Hold keeps an amount of From unavailable until it is captured to To,
// voided, or expires.
type Hold struct {
	Ref      string
	From, To AccountID
	Amount   money.Amount
	Expires  time.Time // zero: never
	OverBP   int       // basis points captures may exceed it by; 0: To's OverCapture
	Text     string
}

// Held is the state of a hold after an act on it.
type Held struct {
	Ref       string
	Seq       uint64 // of the act in the journal
	Replayed  bool
	From, To  AccountID
	Amount    money.Amount // authorised, with raises
	Remaining money.Amount // still unavailable on From
	Captured  money.Amount
	Expires   time.Time // zero: never
	Open      bool
	Balance   money.Amount // posted balance of From
}

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
	Ref, Text  string
	From, To   AccountID
	Give       money.Amount // what leaves From
	Num, Den   int64        // rate: minor units of the currency of To per minor unit given, Num/Den
	HouseGiven AccountID    // exchange account in the currency given
	HouseTaken AccountID    // exchange account in the currency of To
	Residual   AccountID    // in the currency of To
	Value      time.Time
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
