// Package settlement pays those whom the house collects for. A capture says
// that a payee has earned an amount; a daily run takes every capture booked
// before the cut-off, nets them per payee, pays the sum from the custody bank
// (simulated) and writes a payout file. Every capture is settled exactly once.
//
// Start with Join and Capture, then Run; Check proves the exactly-once rule.
package settlement

import (
	"time"

	"koala/calendar"
	"koala/internal/fail"
	"koala/money"
)

// An Item is one thing earned by one payee. Its money must already stand on
// the payee's payable account when it is captured: the caller posts, in the
// same unit of work.
type Item struct {
	Ref    string       // unique for ever: what was earned ("transit:<card>/<seq>")
	Payee  string       // operator or shop
	Amount money.Amount // negative takes back; never zero
	At     time.Time    // when it was earned
	Kind   string       // ride, share, correction: for the file and pages
}

// A Payout is what one payee gets for one day.
type Payout struct {
	ID     string
	Day    calendar.Date // the day whose cut-off closed it
	Payee  string
	Count  int          // captures in it
	Amount money.Amount // their sum, above zero
	At     time.Time    // when it was posted
}

// A File is the payout file of one day: what the bank is told to pay.
type File struct {
	Day  calendar.Date
	CSV  []byte
	Hash string // SHA-256 of CSV, hexadecimal
	At   time.Time
}

// Limits.
const (
	MaxRef   = 96 // bytes
	MaxPayee = 64 // bytes
	maxPage  = 500
)

// CutOff is when a settlement day ends: 04:00 Beijing of the next day, when the
// transit service day turns.
const CutOff = 4 * time.Hour

// What can go wrong.
var (
	ErrItem     = fail.Define(fail.Invalid, "settlement.bad_capture", "a capture needs a reference, a payee and an amount other than zero")
	ErrDiffers  = fail.Define(fail.Conflict, "settlement.capture_differs", "this reference was captured with another body")
	ErrTooEarly = fail.Define(fail.Refused, "settlement.before_cut_off", "the day is not over yet")
	ErrNoFile   = fail.Define(fail.NotFound, "settlement.no_file", "there is no payout file for this day")
	ErrNoPayout = fail.Define(fail.NotFound, "settlement.no_payout", "there is no such payout")
)
