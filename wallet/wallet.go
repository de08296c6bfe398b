// Package wallet is a customer's money inside the house: one account in the
// ledger, filled from and emptied to a bank account outside, which is
// simulated and named so. Cards are loaded from here.
//
// Start with Open, then Fund, Withdraw, BalanceOf and History. Limits are rows
// with dates (Limits), picked by the day of the act.
package wallet

import (
	"time"

	"koala/internal/fail"
	"koala/money"
)

// Names of house accounts this package opens.
const (
	// Custody is the bank account where all client money lies (asset). The bank
	// behind it is simulated.
	Custody = "bank.custody"
	// Outside is the contra account of every person's simulated bank account:
	// off the house's own books, so that their sum stays zero.
	Outside = "bank.outside"
)

// Chart codes. People's own bank accounts are outside the house: off the books.
const (
	codeCustody = "1010"
	codePerson  = "9020"
	codeWallet  = "2010"
	codeOutside = "9010"
)

// Salary is what a fresh simulated bank account of a person holds.
const Salary = 20_000_00 // fen

// A Rule names a limit.
type Rule string

const (
	FundOnce     Rule = "fund.once"     // one transfer from the bank, at most
	WithdrawOnce Rule = "withdraw.once" // one transfer to the bank, at most
	Holding      Rule = "holding"       // in the wallet, at most
	CodeOnce     Rule = "code.once"     // one payment by code, at most
	CodeDay      Rule = "code.day"      // all of a day, at most
)

// A Limit is one rule in one span of time.
type Limit struct {
	Rule     Rule
	From, To time.Time // from incl., to excl.; zero To: open
	Amount   money.Amount
	Source   string
}

// What can go wrong.
var (
	ErrAmount   = fail.Define(fail.Invalid, "wallet.amount", "an amount is a positive number of whole fen")
	ErrOverOnce = fail.Define(fail.Refused, "wallet.over_single_limit", "this is more than one transfer may move")
	ErrOverHold = fail.Define(fail.Refused, "wallet.over_holding_limit", "the wallet would hold more than it may")
	ErrNoRule   = fail.Define(fail.Broken, "wallet.no_limit_for_date", "no limit is in force on this date")
	ErrOverDay  = fail.Define(fail.Refused, "wallet.over_day_limit", "this is more than may be paid by code on one day")
	ErrCode     = fail.Define(fail.NotFound, "wallet.code", "this is no payment code")
	ErrCodeOver = fail.Define(fail.Refused, "wallet.code_over", "this payment code has been used, or its minute is over: show a new one")
	ErrOverPaid = fail.Define(fail.Refused, "wallet.over_paid", "this is more than the payment")
	ErrPayment  = fail.Define(fail.Conflict, "wallet.payment_state", "this payment does not allow it any more")
	ErrNoWallet = fail.Define(fail.NotFound, "wallet.not_found", "this customer has no wallet")

	ErrNoPayment = fail.Define(fail.NotFound, "wallet.no_payment", "there is no such payment")
)

// MaxRef bounds a caller's reference, in bytes.
const MaxRef = 80
