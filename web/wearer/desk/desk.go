// Package desk is "my band" over the house's own domains: cards and products
// of issuing, orders of tsm, money of the books, rides of transit, payments,
// meals, doors and coupons as their readers handed them in, lost bands, steps
// and sleep. Each answer is about one person and nobody else.
//
// Start with New, which gives the [wearer.Desk], and its sisters NewTrips,
// NewLosses and NewBody.
package desk

import (
	"context"
	"fmt"
	"strings"

	"koala/customer"
	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/tsm"
	"koala/wallet"
	"koala/web"
	"koala/web/wearer"
)

// house is the desk over the house's own domains.
type house struct {
	store *db.Store
	book  *ledger.Book
	keys  *hsm.HSM
	tsm   *tsm.Manager
	bank  *issuing.Bank
}

// New is the desk over issuing, tsm, wallet and the books. The bank numbers
// bank cards and keeps their PINs.
func New(store *db.Store, book *ledger.Book, keys *hsm.HSM, m *tsm.Manager) wearer.Desk {
	return house{store, book, keys, m, issuing.NewBank(store, keys)}
}

const (
	statementLines = 40
	maxFormRef     = 40 // bytes of a form's reference
)

// refOf keeps two people's forms apart whatever they send. Place and Open
// recognise the same reference, so a form sent twice acts once.
func refOf(who, ref string) (string, error) {
	if len(ref) < 8 || len(ref) > maxFormRef {
		return "", fmt.Errorf("reference of a form: %w", web.ErrForm)
	}
	return who + ":" + ref, nil
}

func (h house) Wallet(ctx context.Context, who string) (wearer.Wallet, error) {
	id := customer.ID(who)
	mine, err := h.book.Balance(wallet.Account(id))
	if err != nil {
		return wearer.Wallet{}, fmt.Errorf("wallet of %s: %w", who, err)
	}
	bank, err := h.book.Balance(wallet.BankAccount(id))
	if err != nil {
		return wearer.Wallet{}, fmt.Errorf("bank account of %s: %w", who, err)
	}
	w := wearer.Wallet{Fen: mine.Available.Minor(), HeldFen: mine.Held.Minor(), BankFen: bank.Available.Minor()}
	lines, err := h.book.Recent(ctx, wallet.Account(id), 0, statementLines)
	if err != nil {
		return wearer.Wallet{}, fmt.Errorf("statement of %s: %w", who, err)
	}
	for _, l := range lines {
		w.Lines = append(w.Lines, wearer.WalletLine{At: l.Booked, What: lineWords(l), Fen: l.Amount.Minor(), After: l.Balance.Minor()})
	}
	return w, nil
}

// lineWords says a posting by the kind its owner gave it.
func lineWords(l ledger.Line) web.Text {
	en, known := issuing.KindWords(l.Kind, false)
	zh, _ := issuing.KindWords(l.Kind, true)
	switch {
	case l.Kind == "wallet.fund":
		return words.LineFund
	case l.Kind == "wallet.paid", l.Kind == "wallet.returned", l.Kind == "wallet.reversed":
		return web.Same(l.Text)
	case l.Kind == "wallet.withdraw":
		return words.LineWithdraw
	case l.Kind == "card.deposit":
		return words.LineDeposit
	case l.Kind == "card.deposit_back":
		return words.LineDepositBack
	case l.Kind == "card.refund":
		return words.LineRefund
	case l.Kind == issuing.KindMoved:
		return words.LineMoved
	case strings.HasPrefix(l.Ref, "load:"):
		return words.LineLoad
	case l.Text != "" && !known:
		return web.Same(l.Text)
	case known:
		return web.Text{ZH: zh, EN: capital(en)}
	default:
		return web.Same(l.Kind)
	}
}

func (h house) PayCode(ctx context.Context, who string) (wearer.PayCode, error) {
	var random [8]byte
	if err := h.keys.Random(ctx, random[:]); err != nil {
		return wearer.PayCode{}, fmt.Errorf("payment code of %s: %w", who, err)
	}
	var c wallet.Code
	err := h.store.Write(ctx, func(tx *db.Tx) (err error) {
		c, err = wallet.NewCode(tx, customer.ID(who), random)
		return err
	})
	return wearer.PayCode{Digits: c.Digits, Until: c.Until}, err
}

func (h house) Fund(ctx context.Context, who, ref string, fen int64) error {
	ref, err := refOf(who, ref)
	if err != nil {
		return err
	}
	return h.store.Write(ctx, func(tx *db.Tx) error {
		_, err := wallet.Fund(tx, ref, customer.ID(who), money.Fen(fen))
		return err
	})
}
