// Package refund gives back parts of what cards have paid offline. The whole of
// such a payment is the matter of a clearing record (package issuing); a part of
// it has no record of the card's, so it is a reference, an amount, and a bound:
// all parts together are at most the payment, and at most what the payee still
// has of the card's money.
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
	Ref     string // of the entry in the ledger: the same again changes nothing
	Card    issuing.CardID
	Counter int              // of the payment
	Payee   ledger.AccountID // who was paid
	Amount  money.Amount     // of the part
}

// Offline pays a part back from the payee to the card's account, in the caller's
// unit, and lessens what the payee has of the payment by it: a record that says
// later that the whole never was is for people to look at then. ErrNoAuth: there
// is no such payment; ErrState: the payee has it no more; ErrAmount: more than it
// has of it, or of the card's money at all; ledger.ErrDiffers: the reference was
// used for another part.
func Offline(tx *db.Tx, p Part) error {
	if err := p.offline(tx); err != nil {
		return fmt.Errorf("giving back part of offline payment %d of card %s: %w", p.Counter, p.Card.Masked(), err)
	}
	return nil
}

func (p Part) offline(tx *db.Tx) error {
	var fen int64
	var payee, place, account string
	err := tx.QueryRow(`SELECT s.fen, s.payee, s.place, b.account FROM issuing_spent s JOIN issuing_bank b ON b.card = s.card WHERE s.card = $1 AND s.atc = $2`,
		p.Card, p.Counter).Scan(&fen, &payee, &place, &account)
	switch {
	case errors.Is(err, db.ErrNoRows):
		return issuing.ErrNoAuth
	case err != nil:
		return err
	}
	e := ledger.Move(p.Ref, p.Payee, ledger.AccountID(account), p.Amount)
	e.Kind = issuing.KindReturned
	e.Text, _ = issuing.KindWords(issuing.KindReturned, false)
	if _, err := ledger.EntryOf(tx, p.Ref); !errors.Is(err, ledger.ErrNoEntry) {
		if err == nil { // compared with the entry of then
			_, err = ledger.Post(tx, e)
		}
		return err
	}
	switch covered, err := issuing.Covers(tx, p.Card, p.Payee, p.Amount); {
	case err != nil:
		return err
	case payee != string(p.Payee) || place != "payee":
		return issuing.ErrState
	case p.Amount.Sign() <= 0 || p.Amount.Minor() > fen || !covered:
		return issuing.ErrAmount
	}
	return p.post(tx, e)
}

func (p Part) post(tx *db.Tx, e ledger.Entry) error {
	if _, err := ledger.Post(tx, e); err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE issuing_spent SET fen = fen - $3 WHERE card = $1 AND atc = $2`, p.Card, p.Counter, p.Amount.Minor()); err != nil {
		return err
	}
	return issuing.Tell(tx, issuing.Movement{Ref: p.Ref, Card: p.Card, ATC: uint16(p.Counter), Payee: p.Payee, Fen: p.Amount.Neg()})
}
