// Package refund gives back parts of what cards have paid offline. The whole of
// such a payment is the matter of a clearing record (package issuing); a part of
// it has no record of the card's, so it is a reference, an amount, and a bound:
// all parts together are at most the payment.
package refund

import (
	"errors"
	"fmt"

	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
)

// A Part is a part of a payment that goes back.
type Part struct {
	Ref     string // of the entry in the ledger: the same again posts nothing
	Card    issuing.CardID
	Counter int              // of the payment
	Payee   ledger.AccountID // who was paid
	Amount  money.Amount     // of the part
}

// Offline pays a part back from the payee to the card's account, in the caller's
// unit, and lessens what the payee has of the payment by it: a record that says
// later that the whole never was is for people to look at then. ErrNoAuth: there
// is no such payment; ErrState: the payee has it no more; ErrAmount: more than it
// has of it.
func Offline(tx *db.Tx, p Part) error {
	var fen int64
	var payee, place, account string
	err := tx.QueryRow(`SELECT s.fen, s.payee, s.place, b.account FROM issuing_spent s JOIN issuing_bank b ON b.card = s.card WHERE s.card = $1 AND s.atc = $2`,
		p.Card, p.Counter).Scan(&fen, &payee, &place, &account)
	switch {
	case errors.Is(err, db.ErrNoRows):
		err = issuing.ErrNoAuth
	case err != nil:
	case payee != string(p.Payee) || place != "payee":
		err = issuing.ErrState
	case p.Amount.Sign() <= 0 || p.Amount.Minor() > fen:
		err = issuing.ErrAmount
	default:
		err = p.post(tx, ledger.AccountID(account))
	}
	if err != nil {
		return fmt.Errorf("giving back part of offline payment %d of card %s: %w", p.Counter, p.Card.Masked(), err)
	}
	return nil
}

func (p Part) post(tx *db.Tx, account ledger.AccountID) error {
	e := ledger.Move(p.Ref, p.Payee, account, p.Amount)
	e.Kind = issuing.KindReturned
	e.Text, _ = issuing.KindWords(issuing.KindReturned, false)
	if _, err := ledger.Post(tx, e); err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE issuing_spent SET fen = fen - $3 WHERE card = $1 AND atc = $2`, p.Card, p.Counter, p.Amount.Minor()); err != nil {
		return err
	}
	return issuing.Tell(tx, issuing.Movement{Ref: p.Ref, Card: p.Card, ATC: uint16(p.Counter), Payee: p.Payee, Fen: p.Amount.Neg()})
}
