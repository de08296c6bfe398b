package ledger

import (
	"fmt"
	"math/big"
	"math/bits"
	"time"

	"koala/internal/db"
	"koala/money"
)

// An account is one account in memory: what it was opened as, and its totals.
type account struct {
	Account // as opened; limits has what holds now
	totals
	slot    uint32
	stamp   uint64  // the stretch of acts in which totals were saved
	holds   []*hold // open ones that keep money of it
	soonest int64   // no hold expires before this, µs; 0: none ever does
	dirty   bool    // changed since the last commit
}

// totals are what changes in an account.
type totals struct {
	debit, credit Total
	balance       int64  // credit - debit
	held          int64  // sum of remaining over holds
	count         uint64 // legs booked
	window, spent int64  // velocity: start of the window in µs, and what left in it
	limits        Limits
}

func (t *totals) available() int64 { return t.balance - t.held }

func (t *totals) add(amount int64) {
	t.balance += amount
	if amount < 0 {
		t.debit = t.debit.plus(uint64(-amount))
	} else {
		t.credit = t.credit.plus(uint64(amount))
	}
	t.count++
}

// spend charges n to the window that now, µs, lies in; a negative n gives back.
func (t *totals) spend(now, n int64) {
	if from := t.limits.Velocity.from(now); from != t.window {
		t.window, t.spent = from, 0
	}
	t.spent += n
}

// beijing is the offset of Beijing from UTC in microseconds.
const beijing = int64(8 * time.Hour / time.Microsecond)

// from returns when the window that now lies in began, in µs.
func (v Velocity) from(now int64) int64 {
	width := v.Window.Microseconds()
	if width <= 0 {
		return 0
	}
	local := now + beijing
	return local - ((local%width)+width)%width - beijing
}

// A Total is an exact sum of up to 128 bits, never negative.
type Total struct{ hi, lo uint64 }

func (t Total) plus(n uint64) Total {
	lo, carry := bits.Add64(t.lo, n, 0)
	return Total{t.hi + carry, lo}
}

// Plus returns t + u; 128 bits hold 10^25 amounts of the largest size.
func (t Total) Plus(u Total) Total {
	lo, carry := bits.Add64(t.lo, u.lo, 0)
	return Total{t.hi + u.hi + carry, lo}
}

// String writes the total in minor units.
func (t Total) String() string {
	if t.hi == 0 {
		return fmt.Sprint(t.lo)
	}
	n := new(big.Int).SetUint64(t.hi)
	return n.Lsh(n, 64).Or(n, new(big.Int).SetUint64(t.lo)).String()
}

// A Class is the first digit of a chart code.
type Class struct {
	Digit  byte
	Name   string
	Normal Side
}

// Chart lists the classes of the chart of accounts. Codes have four digits or
// more; the house's own are 1010 bank custody, 2010 wallets, 2020 purse
// floats, 2030 payables to operators, 2040 deposits, 2050 clearing, 4010 fee
// income, 5010 rebates, 9010 outside world.
var Chart = []Class{
	{'1', "assets", Debit},
	{'2', "liabilities", Credit},
	{'3', "equity", Credit},
	{'4', "income", Credit},
	{'5', "expenses", Debit},
	{'9', "off the books", Debit},
}

// ClassOf returns the class of a chart code.
func ClassOf(code string) (Class, bool) {
	for _, c := range Chart {
		if len(code) >= 4 && code[0] == c.Digit {
			return c, digits(code)
		}
	}
	return Class{}, false
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// OpenAccount opens an account once. The same account again changes nothing;
// other content under its id is ErrDiffers.
func OpenAccount(tx *db.Tx, a Account) error {
	b, err := at(tx)
	if err != nil {
		return err
	}
	b.state.at(tx.Now().UnixMicro())
	if err := b.state.open(a); err != nil {
		return fmt.Errorf("opening account %s: %w", a.ID, err)
	}
	return nil
}

// SetLimits replaces the limits of an account under a reference of its own. A
// balance that is already beyond them stays; only further acts are refused.
func SetLimits(tx *db.Tx, ref string, id AccountID, l Limits) error {
	b, err := at(tx)
	if err != nil {
		return err
	}
	b.state.at(tx.Now().UnixMicro())
	if err := b.state.amend(ref, id, l); err != nil {
		return fmt.Errorf("limits %s of account %s: %w", ref, id, err)
	}
	return nil
}

// BalanceOf returns what the account has, with all that this unit did, at the
// unit's time: a hold that has expired by then no longer counts.
func BalanceOf(tx *db.Tx, id AccountID) (Balance, error) {
	b, err := at(tx)
	if err != nil {
		return Balance{}, err
	}
	a, err := b.state.accountOf(id)
	if err != nil {
		return Balance{}, err
	}
	return a.show(a.held - a.lapsed(max(b.state.clock, tx.Now().UnixMicro()))), nil
}

func (a *account) show(held int64) Balance {
	return Balance{money.Of(a.balance, a.Currency), money.Of(held, a.Currency), available(a.balance, held, a.Currency)}
}

// available is posted less held. Both are in range, their difference may not
// be by a factor of two: then it is shown as the largest amount there is.
func available(posted, held int64, c money.Currency) money.Amount {
	return money.Of(max(min(posted-held, money.MaxMinor), -money.MaxMinor), c)
}

// lapsed sums what holds that expired by now still count on the account.
func (a *account) lapsed(now int64) (sum int64) {
	if a.soonest == 0 || now < a.soonest {
		return 0
	}
	for _, h := range a.holds {
		if h.expired(now) {
			sum += h.remaining
		}
	}
	return sum
}

func (s *state) open(a Account) error {
	if err := a.check(); err != nil {
		return err
	}
	if slot, ok := s.slot(a.ID); ok {
		if !s.accounts[slot].sameAs(a) {
			return ErrDiffers
		}
		return nil
	}
	var r record
	r.reset(recAccount, string(a.ID), a.Code, a.Name, string(a.Currency))
	r.words = append(r.words, int64(a.Normal))
	r.words = a.Limits.words(r.words)
	return s.perform(&r, key{}, false)
}

func (a *Account) check() error {
	class, known := ClassOf(a.Code)
	switch {
	case a.ID == "" || len(a.ID) > MaxRef || len(a.Code) > MaxKind || len(a.Name) > MaxText:
		return fmt.Errorf("%w: id, code or name is empty or too long", ErrShape)
	case !known:
		return fmt.Errorf("%w: chart code %q", ErrShape, a.Code)
	case len(a.Currency) != 3:
		return fmt.Errorf("%w: currency %q", ErrShape, a.Currency)
	}
	if a.Normal == 0 {
		a.Normal = class.Normal
	}
	if a.Normal != Debit && a.Normal != Credit {
		return fmt.Errorf("%w: normal side %d", ErrShape, a.Normal)
	}
	return a.Limits.check()
}

func (l Limits) check() error {
	for _, n := range []int64{value(l.Floor), value(l.Ceiling), l.CreditLimit, -l.CreditLimit, l.Velocity.Limit} {
		if n > money.MaxMinor || n < -money.MaxMinor {
			return fmt.Errorf("%w: a limit of %d", ErrShape, n)
		}
	}
	switch {
	case l.CreditLimit < 0 || l.Velocity.Limit < 0 || l.Velocity.Window < 0:
		return fmt.Errorf("%w: a negative limit", ErrShape)
	case l.Velocity.Limit > 0 && l.Velocity.Window < time.Second:
		return fmt.Errorf("%w: a velocity window of %v", ErrShape, l.Velocity.Window)
	case l.OverCapture < 0 || l.OverCapture > MaxOver:
		return fmt.Errorf("%w: over-capture of %d basis points", ErrShape, l.OverCapture)
	}
	return nil
}

func value(p *int64) int64 {
	if p == nil {
		return 0
	}
	return *p
}

// words is the journal form of limits; limitsOf reads it.
func (l Limits) words(w []int64) []int64 {
	has := func(p *int64) int64 {
		if p == nil {
			return 0
		}
		return 1
	}
	return append(w, has(l.Floor), value(l.Floor), has(l.Ceiling), value(l.Ceiling), l.CreditLimit,
		l.Velocity.Limit, l.Velocity.Window.Microseconds(), int64(l.OverCapture), 0)
}

func limitsOf(w []int64) (l Limits) {
	if w[0] != 0 {
		l.Floor = AtLeast(w[1])
	}
	if w[2] != 0 {
		l.Ceiling = AtLeast(w[3])
	}
	l.CreditLimit, l.OverCapture = w[4], int(w[7])
	l.Velocity = Velocity{w[5], time.Duration(w[6]) * time.Microsecond}
	return l
}

func (l Limits) equal(m Limits) bool {
	same := func(p, q *int64) bool { return (p == nil) == (q == nil) && value(p) == value(q) }
	return same(l.Floor, m.Floor) && same(l.Ceiling, m.Ceiling) && l.CreditLimit == m.CreditLimit &&
		l.Velocity == m.Velocity && l.OverCapture == m.OverCapture
}

// sameAs says whether b opens the account that a is.
func (a *account) sameAs(b Account) bool {
	return a.Code == b.Code && a.Name == b.Name && a.Currency == b.Currency && a.Normal == b.Normal &&
		a.Account.Limits.equal(b.Limits)
}

func (s *state) applyAccount(r *record) error {
	id := AccountID(r.strs[0])
	if _, taken := s.slot(id); taken {
		return fmt.Errorf("account %s opened twice: %w", id, ErrDamaged)
	}
	l := limitsOf(r.words[1:])
	a := &account{Account: Account{id, string(r.strs[1]), string(r.strs[2]), currency(r.strs[3]), Side(r.words[0]), l}}
	a.totals.limits = l
	a.slot, a.dirty = uint32(len(s.accounts)), true
	s.accounts = append(s.accounts, a)
	s.fresh[id] = a.slot
	return nil
}

// currency avoids a copy of the one that nearly every account has.
func currency(s []byte) money.Currency {
	if string(s) == string(money.CNY) {
		return money.CNY
	}
	return money.Currency(s)
}

func (s *state) amend(ref string, id AccountID, l Limits) error {
	if err := l.check(); err != nil {
		return err
	}
	if _, err := s.accountOf(id); err != nil {
		return err
	}
	var r record
	r.reset(recLimits, ref, string(id))
	r.words = l.words(r.words)
	k, err := s.newRef(ref)
	if err != nil {
		return err
	}
	if seq, _, err := s.again(k, &r); err != nil || seq != 0 {
		return err
	}
	return s.perform(&r, k, false)
}

func (s *state) applyLimits(r *record) error {
	a, err := s.accountOf(AccountID(r.strs[1]))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	a = s.touch(a.slot)
	a.limits = limitsOf(r.words)
	return nil
}

// check compares the accounts saved since m with their limits: one check for
// posted and held money, and only where less is available or more is posted
// than before. Unchecked acts come from old books and keep the range only.
func (s *state) check(m mark, limits bool) error {
	for i := m.totals; i < len(s.undo.totals); i++ {
		was := &s.undo.totals[i]
		a := s.accounts[was.slot]
		if a.balance > money.MaxMinor || a.balance < -money.MaxMinor || a.held > money.MaxMinor {
			return fmt.Errorf("account %s: %w", a.ID, ErrOverflow)
		}
		if !limits {
			continue
		}
		if err := a.within(&was.totals); err != nil {
			return fmt.Errorf("account %s: %w", a.ID, err)
		}
	}
	return nil
}

func (a *account) within(was *totals) error {
	l := &a.limits
	switch now := a.available(); {
	case l.Floor != nil && now < was.available() && now < *l.Floor-l.CreditLimit:
		return ErrInsufficient
	case l.Ceiling != nil && a.balance > was.balance && a.balance > *l.Ceiling:
		return ErrCeiling
	case l.Velocity.Limit > 0 && a.spent > l.Velocity.Limit && (a.spent > was.spent || a.window != was.window):
		return ErrVelocity
	}
	return nil
}
