// Package referral is the bank's desk for shops that call: their line is down, or
// an issuer said "call us". An operator types what the shop reads out, the bank
// decides and holds the money, and the shop gets six digits that stand for that
// hold. The terminal tells the sale afterwards with them, once (an offline sale
// of docs/terminal-protocol.md), and Use finds the hold that it is to book.
//
// Start at Desk.Hear and Desk.Decide. A card number lives as long as one call
// of Hear: what is kept is its token and its masked form.
package referral

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"koala/hsm"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/issuing"
	"koala/money"
	"koala/settlement"
	"koala/spec/pan"
)

// What can go wrong at the desk.
var (
	ErrNotFound = fail.Define(fail.NotFound, "referral.not_found", "there is no such call")
	ErrCall     = fail.Define(fail.Refused, "referral.call", "card number, expiry or amount cannot be")
	ErrDiffers  = fail.Define(fail.Conflict, "referral.differs", "this call was decided before with other content")
	ErrState    = fail.Define(fail.Conflict, "referral.state", "the code is used, withdrawn or over")
)

// The desk's times and limits, the house's own rules.
const (
	Valid   = 3 * 24 * time.Hour // how long a code may be used
	Most    = 200_000_00         // fen that one call may ask for
	CodeLen = 6                  // digits of a code

	books   = 2 * 24 * time.Hour // a sale told at the last moment is booked by then
	tries   = 8                  // codes that are tried until one is new to the shop
	maxPage = 200
)

// A State is where a call stands.
type State string

// The states, and who acts next.
const (
	Held      State = "held"      // the shop: tell the sale by Until
	Refused   State = "refused"   // nobody: the bank said no
	Used      State = "used"      // nobody: a sale stands for it
	Withdrawn State = "withdrawn" // nobody: the desk took it back
	Over      State = "over"      // nobody: the sale never came, the hold was let go
)

var stateWords = map[State][2]string{Held: {"waits for the sale", "待补登"}, Refused: {"refused", "已拒绝"}, Used: {"used", "已使用"},
	Withdrawn: {"withdrawn", "已撤回"}, Over: {"over", "已过期"}}

// Words says the state for people, in Chinese if zh.
func (s State) Words(zh bool) string {
	if zh {
		return stateWords[s][1]
	}
	return stateWords[s][0]
}

// A Call is what a shop asks by telephone.
type Call struct {
	ID     string // of the operator's form, 8 to 40 letters, digits, _: the same again decides nothing
	Shop   string
	TID    string
	Name   string // of the shop, for the cardholder's statement
	Number string // card number as read out
	Expiry string // YYMM
	Amount money.Amount
	By     string // operator
	Note   string // why the shop called
}

// A Referral is a call and what was decided.
type Referral struct {
	ID                 string
	Shop, TID          string
	Token, Masked      string
	Card               issuing.CardID
	Counter            int // of the card's request that holds the money
	Amount             money.Amount
	Code               string // six digits; empty: refused
	State              State
	Why                issuing.Reason // of a refusal
	Sale               string         // reference number of the sale that used it
	By, Note           string
	At, Until, Changed time.Time
}

// A Heard is a call that the hsm has looked at.
type Heard struct {
	call   Call
	masked string
	token  string
	codes  [tries]string
	bank   issuing.Prepared
}

// A Desk decides calls.
type Desk struct {
	bank *issuing.Bank
	keys *hsm.HSM
}

// New makes the desk of a bank.
func New(bank *issuing.Bank, keys *hsm.HSM) *Desk { return &Desk{bank: bank, keys: keys} }

// Hear takes a call: from here on there is no card number, but its token. The
// codes that it may get are drawn from the hsm's secret, so that nobody outside
// can say the next one.
func (d *Desk) Hear(ctx context.Context, c Call) (h Heard, err error) {
	number, err := pan.Parse(c.Number)
	named := len(c.ID) >= 8 && len(c.ID) <= 40 && strings.Trim(c.ID, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
	if _, bad := time.Parse("0601", c.Expiry); err != nil || bad != nil || !named || c.Amount.Minor() <= 0 || c.Amount.Minor() > Most || c.Shop == "" {
		return Heard{}, ErrCall
	}
	h = Heard{call: c, masked: number.Masked()}
	if h.token, err = d.keys.Token(ctx, string(number)); err != nil {
		return Heard{}, fmt.Errorf("referral: %w", err)
	}
	for i := range h.codes {
		if h.codes[i], err = d.draw(ctx, c.ID, i); err != nil {
			return Heard{}, err
		}
	}
	h.bank, err = d.bank.Prepare(ctx, issuing.Online{Number: string(number), Expiry: c.Expiry, Type: issuing.TypePurchase, Fen: c.Amount, Voice: true,
		Payee: settlement.Payable(c.Shop), Text: c.Name, Life: Valid + books})
	if err != nil {
		return Heard{}, fmt.Errorf("referral: %w", err)
	}
	h.call.Number, h.call.Expiry = "", ""
	return h, nil
}

func (d *Desk) draw(ctx context.Context, id string, n int) (string, error) {
	t, err := d.keys.Token(ctx, "referral|"+id+"|"+strconv.Itoa(n))
	if err != nil {
		return "", fmt.Errorf("referral: %w", err)
	}
	v, err := strconv.ParseUint(t[:12], 16, 64)
	return fmt.Sprintf("%06d", v%1_000_000), err
}

// Decide has the bank decide a call and keeps what comes of it, in the caller's
// unit. The same call again gives what it came to then.
func (d *Desk) Decide(tx *db.Tx, h Heard) (r Referral, err error) {
	c := h.call
	if r, err = Of(tx, c.ID); err == nil {
		if r.Token != h.token || r.Shop != c.Shop || r.Amount != c.Amount {
			err = ErrDiffers
		}
		return r, err
	}
	if !errors.Is(err, ErrNotFound) {
		return r, err
	}
	now := tx.Now()
	r = Referral{ID: c.ID, Shop: c.Shop, TID: c.TID, Token: h.token, Masked: h.masked, Amount: c.Amount, State: Held, By: c.By, Note: c.Note, At: now, Until: now.Add(Valid), Changed: now}
	decided, err := d.bank.Decide(tx, h.bank)
	if err != nil {
		return Referral{}, fmt.Errorf("referral of card %s: %w", h.masked, err)
	}
	r.Card, r.Counter = decided.Card, decided.Counter
	if decided.Why != issuing.Approval {
		r.State, r.Why = Refused, decided.Why
		return r, r.insert(tx)
	}
	for _, code := range h.codes {
		known, err := exists(tx, c.Shop, code)
		if err != nil {
			return Referral{}, err
		}
		if !known {
			r.Code = code
			return r, r.insert(tx)
		}
	}
	return Referral{}, fmt.Errorf("referral: no code is left for shop %s: %w", c.Shop, ErrState)
}

// A Flaw is why a sale's code does not stand for it.
type Flaw string

// The flaws.
const (
	NoFlaw    Flaw = ""
	Unknown   Flaw = "the bank never gave this code to the shop"
	OtherCard Flaw = "the code was given for another card"
	Spent     Flaw = "the code was used before"
	TakenBack Flaw = "the code was withdrawn"
	TooLate   Flaw = "the code is over"
	TooMuch   Flaw = "more than the code was given for"
)

// Codes are what terminals are answered with.
var codes = map[Flaw]string{Unknown: "25", OtherCard: "25", Spent: "12", TakenBack: "12", TooLate: "54", TooMuch: "64"}

// Code is the response code of a flaw (field 39).
func (f Flaw) Code() string { return codes[f] }

// A Sale is what a terminal tells of a sale that was approved by telephone.
type Sale struct {
	RRN    string
	Shop   string
	Token  string
	Code   string // field 38
	Amount money.Amount
}

// Use has a sale stand for the hold of its code, once: whoever has the unit books
// it under the referral's card and counter. With a flaw nothing changes.
func Use(tx *db.Tx, s Sale) (Referral, Flaw, error) {
	r, err := one(tx, `shop = $1 AND code = $2`, s.Shop, s.Code)
	switch {
	case errors.Is(err, ErrNotFound):
		return r, Unknown, nil
	case err != nil:
		return r, NoFlaw, err
	case r.Token != s.Token:
		return Referral{}, OtherCard, nil
	case r.State == Used:
		return r, Spent, nil
	case r.State == Withdrawn:
		return r, TakenBack, nil
	case r.State != Held, tx.Now().After(r.Until):
		return r, TooLate, nil
	case s.Amount.Cmp(r.Amount) > 0:
		return r, TooMuch, nil
	}
	r.Sale = s.RRN
	return r, NoFlaw, r.to(tx, Used)
}

// Withdraw takes a code back that no sale has used, and lets the money go.
func Withdraw(tx *db.Tx, id string) error {
	r, err := Of(tx, id)
	if err == nil {
		err = r.letGo(tx, Withdrawn)
	}
	if err != nil {
		return fmt.Errorf("referral %s: %w", id, err)
	}
	return nil
}

// Expire lets go what codes hold whose time is over, each in a unit of its own.
func Expire(ctx context.Context, store *db.Store, now time.Time) error {
	var list []Referral
	err := store.Read(ctx, func(q *db.Query) (err error) {
		list, err = many(q, `state = 'held' AND until < $1 ORDER BY until, id LIMIT $2`, now.UnixMicro(), maxPage)
		return err
	})
	for _, r := range list {
		gone := store.Write(ctx, func(tx *db.Tx) error {
			r, err := Of(tx, r.ID)
			if err != nil || r.State != Held {
				return err
			}
			return r.letGo(tx, Over)
		})
		if gone != nil {
			err = errors.Join(err, fmt.Errorf("referral %s: %w", r.ID, gone))
		}
	}
	return err
}

func (r *Referral) letGo(tx *db.Tx, to State) error {
	if r.State != Held {
		return ErrState
	}
	if err := issuing.Release(tx, r.Card, r.Counter); err != nil {
		return err
	}
	return r.to(tx, to)
}

// Masked is the card's number as it may be shown.
func (h Heard) Masked() string { return h.masked }
