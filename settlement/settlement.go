// Package settlement pays those whom the house collects for. An item says that
// a payee has earned an amount, or gives some back; a closing takes a payee's
// items of a day, prices them (settlement/fee), nets fees, refunds, reserve
// and what was kept, and pays the rest from the custody bank (simulated): the
// next bank day, or at once for a price. Every item is in one closing.
//
// Start with Join, SetTerms and Capture, then Run and Tick; a payee that shares
// its sales has SetSplit. Check proves the exactly-once rule and prices everything
// again.
package settlement

import (
	"cmp"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/money"
	"koala/settlement/fee"
	"koala/settlement/split"
)

// An Item is one thing earned by one payee. Its money must already stand on
// the payee's payable account when it is captured: the caller posts, in the
// same unit of work.
type Item struct {
	Ref    string       // unique for ever: what was earned ("transit:<card>/<seq>", "sale:<rrn>")
	Payee  string       // operator or shop
	Amount money.Amount // gross; negative takes back; never zero
	At     time.Time    // when it was earned
	Kind   string       // ride, share, correction, sale, refund, Chargeback…: for the file and pages
	Card   fee.Class    // empty: no fee
	Issuer string       // host of a foreign card's issuer; empty: our own bank
	// Of a refund or chargeback: when the sale was (zero: At), and what was
	// left of it before (zero: as much as is taken back). Its part of the fee
	// is given back by the rules of that day.
	SaleAt  time.Time
	Remains money.Amount
	// Of what takes a sale back, or gives it again: the sale's Ref. A sale that
	// was divided by a standing split is so taken back; empty: the payee bears it.
	Sale string

	// Of a share of a split: the whole, and the part of its fee in fen of the
	// whole. Zero: the item is whole and bears all of its fee.
	whole, lo, share int64
	priced           string // whose terms price it; empty: the payee's
}

// PricedBy is the payee whose terms price an item: its own, or that of the shop
// whose sale it is a part of by a standing split.
func (c *Item) PricedBy() string { return cmp.Or(c.priced, c.Payee) }

// Sale is the kind of an item that a standing split divides.
const Sale = "sale"

// Chargeback is the kind of an item that an issuer took back in a dispute.
const Chargeback = "chargeback"

// A Payout is one closing of a payee: what came of its items of a day, or of a
// part of the day, and what of it is paid.
//
//	Brought + Gross + Refunds + Chargebacks - Fee.Fee - Reserved + Released - Advance = Amount + Kept
type Payout struct {
	ID          string
	Day         calendar.Date // the day whose cut-off closed it
	Payee       string
	Kind        Kind
	State       State
	Count       int           // items in it
	Amount      money.Amount  // paid, never below zero
	At          time.Time     // when it was posted
	Gross       money.Amount  // what was earned
	Refunds     money.Amount  // zero or less
	Chargebacks money.Amount  // zero or less
	Fee         fee.Parts     // fen
	Reserved    money.Amount  // kept as reserve
	Released    money.Amount  // reserve given back
	Advance     money.Amount  // price of being paid at once
	Undone      money.Amount  // of it given back: late is free
	Brought     money.Amount  // kept from before; below zero: recovered from this closing
	Kept        money.Amount  // left for the next closing: below the minimum, held, or a debt
	Arrives     calendar.Date // bank day; AtOnce: when it would have come without
	Promised    time.Time     // AtOnce: by when; zero for NextDay
	Answered    time.Time     // when the bank confirmed or returned it
	File        string        // day or id of the payout file

	after, upto int64 // its items' numbers
	late        int64
}

// Late says that the payout came after the time that was promised.
func (p *Payout) Late() bool { return p.late != 0 }

// A Kind is how soon a closing pays.
type Kind string

// The kinds.
const (
	NextDay Kind = "t1" // with the file of the day, the next bank day
	AtOnce  Kind = "d0" // on the same day, from the house's money, for a price
)

// A State is how far a payout is.
type State string

// The states. Carried closings pay nothing and stay so; sent ones wait for the
// bank, which confirms or returns them.
const (
	Carried   State = "carried"
	Waiting   State = "waiting" // AtOnce: for its file
	Sent      State = "sent"
	Confirmed State = "confirmed"
	Returned  State = "returned" // the money is the payee's again, to be paid when its account is mended
)

// A File is the payout file of one day: what the bank is told to pay. It is
// zero but for the day while some payee's day is not over.
type File struct {
	Day  calendar.Date
	CSV  []byte
	Hash string // SHA-256 of CSV, hexadecimal
	At   time.Time
}

// Closed says whether the file is there.
func (f File) Closed() bool { return f.Hash != "" }

// Limits.
const (
	MaxRef   = 96 // bytes
	MaxPayee = 64 // bytes
	maxPage  = 500
)

// CutOff is when a settlement day ends for a payee without other terms: 04:00
// Beijing of the next day, when the transit service day turns.
const CutOff = 4 * time.Hour

// Watch has f told of closings in the unit that books them, so that what follows
// from one follows once. It is for all units of a store and set before they run.
func Watch(store *db.Store, f func(tx *db.Tx, closed []Payout) error) { store.Provide(watchKey{}, f) }

type watchKey struct{}

// tell hands the closings of a page to whoever watches.
func tell(tx *db.Tx, all []closing) error {
	f, ok := tx.Provided(watchKey{}).(func(*db.Tx, []Payout) error)
	if !ok || len(all) == 0 {
		return nil
	}
	closed := make([]Payout, len(all))
	for i := range all {
		closed[i] = all[i].payout
	}
	return f(tx, closed)
}

// ErrSplit is a division that does not add up.
var ErrSplit = split.ErrSplit

// What else can go wrong.
var (
	ErrItem     = fail.Define(fail.Invalid, "settlement.bad_capture", "a capture needs a reference, a payee and an amount other than zero")
	ErrDiffers  = fail.Define(fail.Conflict, "settlement.capture_differs", "this reference was captured with another body")
	ErrTooEarly = fail.Define(fail.Refused, "settlement.before_cut_off", "the day is not over yet")
	ErrNoBill   = fail.Define(fail.NotFound, "settlement.no_bill", "this bill has not been made: a day's is made under statements once the day is closed")
	ErrNoFile   = fail.Define(fail.NotFound, "settlement.no_file", "there is no payout file for this day")
	ErrNoPayout = fail.Define(fail.NotFound, "settlement.no_payout", "there is no such payout")
	ErrNoPayee  = fail.Define(fail.NotFound, "settlement.no_payee", "there is no such payee")
	ErrTerms    = fail.Define(fail.Invalid, "settlement.bad_terms", "these terms cannot be kept")
	ErrHold     = fail.Define(fail.NotFound, "settlement.no_hold", "there is no such hold in force")
	ErrState    = fail.Define(fail.Refused, "settlement.payout_state", "the payout is not in a state for this")
	ErrByHand   = fail.Define(fail.Invalid, "settlement.by_hand", "who answers for the bank says who it is and why it is known")
	ErrNothing  = fail.Define(fail.Refused, "settlement.nothing_due", "there is nothing that can be paid out now")
	ErrAtOnce   = fail.Define(fail.Refused, "settlement.not_at_once", "this payee has not agreed to be paid at once")
	ErrLimit    = fail.Define(fail.Refused, "settlement.at_once_limit", "this is more than may be paid out at once today")
	ErrFunding  = fail.Define(fail.Refused, "settlement.funding", "the house has lent all it may today; it is paid with the next bank day")
	ErrBill     = fail.Define(fail.Conflict, "settlement.bill", "the bill does not agree with the books or with the bill before it")
)
