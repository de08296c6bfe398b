package wallet

import (
	"errors"
	"fmt"

	"koala/customer"
	"koala/internal/db"
	"koala/ledger"
	"koala/money"
)

// Account is the ledger account of a customer's wallet.
func Account(c customer.ID) ledger.AccountID { return ledger.AccountID("wallet." + string(c)) }

// BankAccount is the ledger account that stands for a customer's own bank
// account outside the house. The bank is simulated.
func BankAccount(c customer.ID) ledger.AccountID {
	return ledger.AccountID("bank.person." + string(c))
}

// OpenHouse opens the accounts that all wallets share. It may be called again.
func OpenHouse(tx *db.Tx) error {
	for _, a := range []ledger.Account{
		{ID: Custody, Code: codeCustody, Name: "custody bank, client money (simulated bank)", Currency: money.CNY},
		{ID: Outside, Code: codeOutside, Name: "outside world: contra of simulated bank accounts", Currency: money.CNY},
	} {
		if err := ledger.OpenAccount(tx, a); err != nil {
			return fmt.Errorf("opening house account %s: %w", a.ID, err)
		}
	}
	return nil
}

// Open gives a customer a wallet and, outside, a simulated bank account with
// Salary on it. It may be called again: nothing is paid in twice.
func Open(tx *db.Tx, c customer.ID) error {
	if err := OpenHouse(tx); err != nil {
		return err
	}
	for _, a := range []ledger.Account{
		{ID: Account(c), Code: codeWallet, Name: "wallet", Currency: money.CNY, Limits: ledger.Limits{Floor: ledger.AtLeast(0)}},
		{ID: BankAccount(c), Code: codePerson, Name: "own bank account (simulated bank)", Currency: money.CNY, Normal: ledger.Credit, Limits: ledger.Limits{Floor: ledger.AtLeast(0)}},
	} {
		if err := ledger.OpenAccount(tx, a); err != nil {
			return fmt.Errorf("opening account %s: %w", a.ID, err)
		}
	}
	e := ledger.Move("bank:salary:"+string(c), Outside, BankAccount(c), money.Fen(Salary))
	e.Kind, e.Text = "bank.opening", "simulated bank: opening balance"
	if _, err := ledger.Post(tx, e); err != nil {
		return fmt.Errorf("opening wallet of %s: %w", c, err)
	}
	return nil
}

// Fund moves money from the customer's simulated bank account into the wallet:
// one entry with four legs, the outside pair and the house pair, so that both
// sums stay zero whatever happens. ref names the transfer; the same again
// changes nothing.
func Fund(tx *db.Tx, ref string, c customer.ID, amount money.Amount) (ledger.Posted, error) {
	if err := within(tx, FundOnce, amount); err != nil {
		return ledger.Posted{}, fmt.Errorf("funding wallet of %s: %w", c, err)
	}
	limit, err := LimitOn(tx, Holding, tx.Now())
	if err != nil {
		return ledger.Posted{}, err
	}
	b, err := ledger.BalanceOf(tx, Account(c))
	if err != nil {
		return ledger.Posted{}, fmt.Errorf("funding wallet of %s: %w", c, noWallet(err))
	}
	e := transfer("fund:"+ref, c, amount)
	e.Kind, e.Text = "wallet.fund", "from own bank account (simulated bank)"
	posted, err := ledger.Post(tx, e)
	if err != nil {
		return ledger.Posted{}, fmt.Errorf("funding wallet of %s: %w", c, err)
	}
	// A repeated reference posts nothing, so the limit counts only what moved.
	after, err := ledger.BalanceOf(tx, Account(c))
	if err != nil {
		return ledger.Posted{}, err
	}
	if after.Posted != b.Posted && after.Posted.Cmp(limit.Amount) > 0 {
		return ledger.Posted{}, fmt.Errorf("funding wallet of %s: %w", c, ErrOverHold)
	}
	return posted, nil
}

// Withdraw is Fund the other way round.
func Withdraw(tx *db.Tx, ref string, c customer.ID, amount money.Amount) (ledger.Posted, error) {
	if err := within(tx, WithdrawOnce, amount); err != nil {
		return ledger.Posted{}, fmt.Errorf("emptying wallet of %s: %w", c, err)
	}
	e := transfer("withdraw:"+ref, c, amount.Neg())
	e.Kind, e.Text = "wallet.withdraw", "to own bank account (simulated bank)"
	posted, err := ledger.Post(tx, e)
	if err != nil {
		return ledger.Posted{}, fmt.Errorf("emptying wallet of %s: %w", c, noWallet(err))
	}
	return posted, nil
}

// transfer moves amount (negative: out) between the person's bank and wallet.
// Custody is an asset: money that comes in is a debit, a negative leg.
func transfer(ref string, c customer.ID, amount money.Amount) ledger.Entry {
	return ledger.Entry{Ref: ref, Legs: []ledger.Leg{
		{Account: BankAccount(c), Amount: amount.Neg()},
		{Account: Outside, Amount: amount},
		{Account: Custody, Amount: amount.Neg()},
		{Account: Account(c), Amount: amount},
	}}
}

func within(tx *db.Tx, r Rule, amount money.Amount) error {
	if amount.Sign() <= 0 || amount.Currency() != money.CNY {
		return ErrAmount
	}
	limit, err := LimitOn(tx, r, tx.Now())
	switch {
	case err != nil:
		return err
	case amount.Cmp(limit.Amount) > 0:
		return ErrOverOnce
	}
	return nil
}

func noWallet(err error) error {
	if errors.Is(err, ledger.ErrNoAccount) {
		return ErrNoWallet
	}
	return err
}
