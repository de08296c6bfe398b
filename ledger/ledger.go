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
	"time"

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
	ErrShape       = fail.Define(fail.Invalid, "ledger.shape", "the entry is malformed")
	ErrUnbalanced  = fail.Define(fail.Invalid, "ledger.unbalanced", "the legs do not sum to zero in each currency")
	ErrCurrency    = fail.Define(fail.Invalid, "ledger.currency", "the amount is not in the account's currency")
	ErrNoAccount   = fail.Define(fail.NotFound, "ledger.no_account", "there is no such account")
	ErrNoEntry     = fail.Define(fail.NotFound, "ledger.no_entry", "there is no entry under this reference")
	ErrDiffers     = fail.Define(fail.Conflict, "ledger.differs", "the reference was used before with other content")
	ErrInsufficient = fail.Define(fail.Refused, "ledger.insufficient_funds", "the balance is too low")
	ErrCeiling     = fail.Define(fail.Refused, "ledger.ceiling", "the balance would be above the account's limit")
	ErrVelocity    = fail.Define(fail.Refused, "ledger.velocity", "the account's spending limit for this period is reached")
	ErrOverflow    = fail.Define(fail.Refused, "ledger.overflow", "the balance would be larger than an account can hold")
	ErrPeriod      = fail.Define(fail.Refused, "ledger.period_closed", "the period of the value date is closed; post an adjustment in an open one")
	ErrNoHold      = fail.Define(fail.NotFound, "ledger.no_hold", "there is no hold under this reference")
	ErrHoldEnded   = fail.Define(fail.Refused, "ledger.hold_ended", "the hold was captured, released or has expired")
	ErrOverCapture = fail.Define(fail.Refused, "ledger.over_capture", "more would be captured than the hold allows")
	ErrOverReverse = fail.Define(fail.Refused, "ledger.over_reversed", "more would be reversed than is left of the original")
	ErrNotReverse  = fail.Define(fail.Refused, "ledger.not_reversible", "this entry cannot be reversed")
	ErrBehind      = fail.Define(fail.Busy, "ledger.views_behind", "the views are too far behind the journal; try again in a moment")
	ErrDamaged     = fail.Define(fail.Broken, "ledger.damaged", "the journal is damaged; run koala verify and restore a backup")
	ErrTaken       = fail.Define(fail.Broken, "ledger.taken_over", "another process keeps this book now; this one has stopped")
	ErrDetached    = fail.Define(fail.Broken, "ledger.detached", "no book is attached to the store")
	ErrDown        = fail.Define(fail.Busy, "ledger.down", "the book could not be loaded again after a failed commit; try again in a moment")
	ErrImport      = fail.Define(fail.Invalid, "ledger.import", "the old books do not add up")
	ErrSeal        = fail.Define(fail.Broken, "ledger.seal", "a seal or a proof does not match the journal")
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
