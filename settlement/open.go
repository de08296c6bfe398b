package settlement

import (
	"fmt"
	"strings"

	"koala/internal/db"
	"koala/ledger"
	"koala/money"
)

// An Opening is a payee that begins with everything agreed.
type Opening struct {
	Payee, Name string
	Terms       []Terms     // in force one after the other; their payee is this one
	Account     BankAccount // Masked empty: not known yet
}

// OpenAll joins payees with their terms and bank accounts, as Join, SetTerms
// and SetAccount do one by one: a register of new payees takes few statements.
func OpenAll(tx *db.Tx, list []Opening) error {
	var payees, terms, accounts []any
	checked := map[Terms]bool{}
	fees := false
	for _, o := range list {
		if err := openPayable(tx, o.Payee, o.Name); err != nil {
			return err
		}
		payees = append(payees, o.Payee, 0, "", 0, 0, 0, 0, 0, 0, 0)
		for _, t := range o.Terms {
			t.Payee = "any"
			if !checked[t] {
				if err := t.check(); err != nil {
					return fmt.Errorf("terms of %s: %w", o.Payee, err)
				}
				checked[t] = true
			}
			t.Payee, fees = o.Payee, fees || t.Category != ""
			if t.Once.Agreed {
				return fmt.Errorf("terms of %s: being paid at once is agreed with SetTerms: %w", o.Payee, ErrTerms)
			}
			terms = append(terms, t.row()...)
		}
		if a := o.Account; a.Masked != "" {
			if len(a.Masked) > MaxPayee || len(a.Sealed) > 1024 {
				return fmt.Errorf("bank account of %s: %w", o.Payee, ErrTerms)
			}
			accounts = append(accounts, o.Payee, tx.Now().UnixMicro(), a.Bank, a.Masked, append([]byte{}, a.Sealed...))
		}
	}
	if fees {
		if err := OpenHouse(tx); err != nil {
			return err
		}
	}
	n, err := insertTens(tx, intoPayee, payeeWidth, payees)
	if err != nil {
		return err
	}
	if n != int64(len(list)) { // some were payees before: their rows decide
		return openEach(tx, list)
	}
	if _, err = insertTens(tx, intoTerms, termsWidth, terms); err != nil {
		return err
	}
	_, err = insertTens(tx, intoAccount, accountWidth, accounts)
	return err
}

const (
	intoTerms    = `INSERT INTO settlement_terms (` + termsColumns + `) VALUES `
	termsWidth   = 14
	intoAccount  = `INSERT INTO settlement_account (payee, at, bank, masked, sealed) VALUES `
	accountWidth = 5
)

// openPayable opens the account that a payee's money waits on.
func openPayable(tx *db.Tx, payee, name string) error {
	if payee == "" || len(payee) > MaxPayee || payee == "network" || strings.HasPrefix(payee, "issuer.") {
		return fmt.Errorf("payee %q: %w", payee, ErrItem)
	}
	return ledger.OpenAccount(tx, ledger.Account{ID: Payable(payee), Code: codePayable, Name: name, Currency: money.CNY})
}

// insertTens writes rows ten to a statement: filling in places costs the driver
// the more the more a statement has.
func insertTens(tx *db.Tx, into string, width int, vals []any) (n int64, err error) {
	for len(vals) > 0 {
		step := min(10*width, len(vals))
		k, err := insertRows(tx, into, width, ` ON CONFLICT DO NOTHING`, vals[:step])
		if err != nil {
			return n, err
		}
		n, vals = n+k, vals[step:]
	}
	return n, nil
}

func openEach(tx *db.Tx, list []Opening) error {
	for _, o := range list {
		if err := ensure(tx, o.Payee); err != nil {
			return err
		}
		for _, t := range o.Terms {
			t.Payee = o.Payee
			if err := SetTerms(tx, t); err != nil {
				return err
			}
		}
		if o.Account.Masked != "" {
			if err := SetAccount(tx, o.Payee, o.Account); err != nil {
				return err
			}
		}
	}
	return nil
}
