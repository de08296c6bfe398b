package wallet

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"koala/calendar"
	"koala/customer"
	"koala/internal/db"
	"koala/ledger"
	"koala/money"
	"koala/spec/pan"
)

// What a payment code looks like: CodePrefix, fifteen random digits and the
// check digit of ISO/IEC 7812-1 annex B. No card number of any scheme begins
// with its prefix.
const (
	CodePrefix = "28"
	CodeLen    = 18
	CodeLife   = time.Minute
)

// codeKept is how long a code that is over is still known as one.
const codeKept = 24 * time.Hour

// A Code is what a customer shows at a till, once.
type Code struct {
	Digits   string
	Customer customer.ID
	Until    time.Time // excl.
}

// NewCode makes a code for a customer's next payment. Only its hash is kept.
// random is eight random bytes.
func NewCode(tx *db.Tx, c customer.ID, random [8]byte) (Code, error) {
	bad := func(err error) (Code, error) { return Code{}, fmt.Errorf("payment code of %s: %w", c, noWallet(err)) }
	if _, err := ledger.BalanceOf(tx, Account(c)); err != nil {
		return bad(err)
	}
	digits, err := pan.Complete(fmt.Sprintf("%s%015d", CodePrefix, binary.BigEndian.Uint64(random[:])%1e15))
	if err != nil {
		return bad(err)
	}
	code := Code{Digits: string(digits), Customer: c, Until: tx.Now().Add(CodeLife)}
	if _, err = tx.Exec(`DELETE FROM wallet_code WHERE customer = $1 AND ends < $2`, string(c), tx.Now().Add(-codeKept).UnixMicro()); err == nil {
		_, err = tx.Exec(`INSERT INTO wallet_code (hash, customer, ends, used) VALUES ($1, $2, $3, '')`, hashOf(code.Digits), string(c), code.Until.UnixMicro())
	}
	if err != nil {
		return bad(err)
	}
	return code, nil
}

func hashOf(digits string) string {
	sum := sha256.Sum256([]byte(digits))
	return hex.EncodeToString(sum[:])
}

// PayerOf is whose code it is, as long as it is good: ErrCode for what is none,
// ErrCodeOver for one whose time is over or that has paid.
func PayerOf(q db.Reader, digits string, now time.Time) (customer.ID, error) {
	if p, err := pan.Parse(digits); err != nil || len(p) != CodeLen || !strings.HasPrefix(digits, CodePrefix) {
		return "", ErrCode
	}
	var who, used string
	var ends int64
	err := q.QueryRow(`SELECT customer, ends, used FROM wallet_code WHERE hash = $1`, hashOf(digits)).Scan(&who, &ends, &used)
	switch {
	case errors.Is(err, db.ErrNoRows):
		return "", ErrCode
	case err != nil:
		return "", err
	case used != "" || now.UnixMicro() >= ends:
		return "", ErrCodeOver
	}
	return customer.ID(who), nil
}

// A Payment is a payment by code from a wallet. What approves it holds the
// money; it is the payee's when it is booked.
type Payment struct {
	Ref    string // of the payment, unique for ever
	Code   string
	Payee  ledger.AccountID
	Amount money.Amount
	Text   string // the shop, for statements
}

// States of a payment.
const (
	payHeld     = "held"     // the shop: settle or give up
	payPaid     = "paid"     // the shop: give back
	payReleased = "released" // nobody, unless what gave it up is taken back
	payReturned = "returned" // the same
)

// payLife is how long an approved payment waits to be booked.
const payLife = 30 * 24 * time.Hour

// PayByCode holds a payment on the wallet of the code's customer and uses the
// code up. A customer is asked for nothing but the code, so one payment and the
// payments of a day are bounded (CodeOnce, CodeDay).
func PayByCode(tx *db.Tx, p Payment) (customer.ID, error) {
	who, err := PayerOf(tx, p.Code, tx.Now())
	if err == nil {
		err = p.bounded(tx, who)
	}
	if err == nil {
		_, err = ledger.Authorise(tx, ledger.Hold{Ref: payHold(p.Ref, 0), From: Account(who), To: p.Payee, Amount: p.Amount, Expires: tx.Now().Add(payLife), Text: p.Text})
	}
	if err == nil {
		_, err = tx.Exec(`UPDATE wallet_code SET used = $2 WHERE hash = $1`, hashOf(p.Code), p.Ref)
	}
	if err == nil {
		_, err = tx.Exec(`INSERT INTO wallet_payment (ref, customer, payee, fen, paid, state, again, day, text, at) VALUES ($1, $2, $3, $4, 0, $5, 0, $6, $7, $8)`,
			p.Ref, string(who), string(p.Payee), p.Amount.Minor(), payHeld, calendar.Of(tx.Now(), calendar.Beijing).String(), p.Text, tx.Now().UnixMicro())
	}
	if err != nil {
		return "", fmt.Errorf("payment %s by code: %w", p.Ref, noWallet(err))
	}
	return who, nil
}

// bounded holds a payment against the rules of the day.
func (p Payment) bounded(tx *db.Tx, who customer.ID) error {
	if err := within(tx, CodeOnce, p.Amount); err != nil {
		return err
	}
	limit, err := LimitOn(tx, CodeDay, tx.Now())
	if err != nil {
		return err
	}
	var spent int64
	err = tx.QueryRow(`SELECT CAST(COALESCE(SUM(CASE WHEN state = 'held' THEN fen ELSE paid END), 0) AS BIGINT) FROM wallet_payment
		WHERE customer = $1 AND day = $2 AND state IN ('held', 'paid')`, string(who), calendar.Of(tx.Now(), calendar.Beijing).String()).Scan(&spent)
	if err == nil && money.Fen(spent).Add(p.Amount).Cmp(limit.Amount) > 0 {
		err = ErrOverDay
	}
	return err
}

// paying is a payment as it is kept.
type paying struct {
	who, payee, state, text string
	fen, paid               int64
	again                   int // how often it was held again
}

func payHold(ref string, again int) string { return "code:" + ref + taken(again) }

func taken(again int) string {
	if again == 0 {
		return ""
	}
	return fmt.Sprintf(":%d", again)
}

// change takes a payment from one of the states on.
func change(tx *db.Tx, ref string, to string, f func(*paying) error, from ...string) (moved bool, err error) {
	var p paying
	err = tx.QueryRow(`SELECT customer, payee, state, text, fen, paid, again FROM wallet_payment WHERE ref = $1`, ref).
		Scan(&p.who, &p.payee, &p.state, &p.text, &p.fen, &p.paid, &p.again)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoPayment
	}
	if err == nil && p.state == to && to != payHeld && to != payReturned {
		return false, nil // the same again
	}
	if err == nil {
		err = ErrPayment
		for _, s := range from {
			if p.state == s {
				err = nil
			}
		}
	}
	if p.state = to; err == nil {
		err = f(&p)
	}
	if err == nil {
		_, err = tx.Exec(`UPDATE wallet_payment SET state = $2, fen = $3, paid = $4, again = $5 WHERE ref = $1`, ref, p.state, p.fen, p.paid, p.again)
	}
	if err != nil {
		return false, fmt.Errorf("payment %s by code: %w", ref, err)
	}
	return true, nil
}

// void ends the hold of a payment.
func (p *paying) void(tx *db.Tx, ref string) error {
	hold := payHold(ref, p.again)
	_, err := ledger.Void(tx, hold, "end:"+hold)
	if errors.Is(err, ledger.ErrHoldEnded) {
		err = nil // its time was over; what is due is due all the same
	}
	return err
}

// BookPayment makes a held payment the payee's, of at most percent of what was
// approved, and releases the rest. moved is false when it was booked before.
func BookPayment(tx *db.Tx, ref string, amount money.Amount, percent int64) (moved bool, err error) {
	return change(tx, ref, payPaid, func(p *paying) error {
		if amount.Sign() <= 0 || amount.Minor() > p.fen*percent/100 {
			return ErrOverPaid
		}
		if err := p.void(tx, ref); err != nil {
			return err
		}
		e := ledger.Move("sale:"+ref+taken(p.again), Account(customer.ID(p.who)), ledger.AccountID(p.payee), amount)
		e.Kind, e.Text = "wallet.paid", p.text
		p.paid = amount.Minor()
		_, err := ledger.Post(tx, e)
		return err
	}, payHeld)
}

// ReleasePayment gives a held payment up.
func ReleasePayment(tx *db.Tx, ref string) error {
	_, err := change(tx, ref, payReleased, func(p *paying) error { return p.void(tx, ref) }, payHeld)
	return err
}

// HoldAgain takes up a payment that was given up or given back whole.
func HoldAgain(tx *db.Tx, ref string) error {
	_, err := change(tx, ref, payHeld, func(p *paying) error {
		p.again, p.paid = p.again+1, 0
		_, err := ledger.Authorise(tx, ledger.Hold{Ref: payHold(ref, p.again), From: Account(customer.ID(p.who)), To: ledger.AccountID(p.payee),
			Amount: money.Fen(p.fen), Expires: tx.Now().Add(payLife), Text: p.text})
		return err
	}, payReleased, payReturned)
	return err
}

// RaisePayment makes a held payment one of a larger amount; as names the act.
func RaisePayment(tx *db.Tx, ref, as string, by money.Amount) error {
	_, err := change(tx, ref, payHeld, func(p *paying) error {
		p.fen += by.Minor()
		_, err := ledger.Raise(tx, payHold(ref, p.again), as, by)
		return err
	}, payHeld)
	return err
}

// ReturnPayment pays part or all of a booked payment back into the wallet, never
// more than was paid; as names the entry, bought says that goods came back and
// the payment was not a mistake.
func ReturnPayment(tx *db.Tx, ref, as string, bought bool, amount money.Amount) error {
	_, err := change(tx, ref, payReturned, func(p *paying) error {
		if amount.Sign() <= 0 || amount.Minor() > p.paid {
			return ErrOverPaid
		}
		e := ledger.Move(as, ledger.AccountID(p.payee), Account(customer.ID(p.who)), amount)
		if e.Kind = "wallet.reversed"; bought {
			e.Kind = "wallet.returned"
		}
		e.Text = p.text
		if p.paid -= amount.Minor(); p.paid > 0 {
			p.state = payPaid
		}
		_, err := ledger.Post(tx, e)
		return err
	}, payPaid)
	return err
}
