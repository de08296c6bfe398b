package settlement

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"koala/internal/db"
	"koala/ledger"
	"koala/money"
)

// A payee is the state of one payee between closings.
type payee struct {
	id, day                          string
	mark, kept, reserve, held        int64
	stopped, free, auto, v, released int64
}

func scanPayee(scan func(...any) error) (p payee, err error) {
	err = scan(&p.id, &p.mark, &p.day, &p.kept, &p.reserve, &p.held, &p.stopped, &p.free, &p.auto, &p.v)
	return p, err
}

func payeeOf(q db.Reader, id string) (payee, error) {
	p, err := scanPayee(q.QueryRow(`SELECT `+payeeColumns+` FROM settlement_payee WHERE payee = $1`, id).Scan)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoPayee
	}
	if err != nil {
		err = fmt.Errorf("payee %s: %w", id, err)
	}
	return p, err
}

// errStale says that a payee was changed since it was read.
var errStale = errors.New("settlement: the payee was changed meanwhile")

// newer makes an upsert lose against a change since the row was read.
const newer = ` ON CONFLICT (payee) DO UPDATE SET mark = excluded.mark, day = excluded.day, kept = excluded.kept, reserve = excluded.reserve,
	held = excluded.held, stopped = excluded.stopped, free = excluded.free, auto = excluded.auto, v = excluded.v
	WHERE settlement_payee.v = excluded.v - 1`

// save writes changed payees; one that another unit changed is errStale.
func save(tx *db.Tx, all []payee) error {
	vals := make([]any, 0, len(all)*payeeWidth)
	for i := range all {
		p := &all[i]
		vals = append(vals, p.id, p.mark, p.day, p.kept, p.reserve, p.held, p.stopped, p.free, p.auto, p.v+1)
	}
	n, err := insertRows(tx, intoPayee, payeeWidth, newer, vals)
	if err == nil && n != int64(len(all)) {
		err = errStale
	}
	return err
}

func (p *payee) save(tx *db.Tx) error { return save(tx, []payee{*p}) }

// A Reason is why money of a payee is held.
type Reason string

// The reasons.
const (
	ForRisk    Reason = "risk"
	ForDispute Reason = "dispute"
	ForAccount Reason = "account" // the bank returned a payout
	ForStaff   Reason = "staff"
)

// A Hold keeps money of a payee from being paid out: an amount, or everything.
// Items are settled meanwhile, and what is held stays with the payee.
type Hold struct {
	ID     string
	Payee  string
	Reason Reason
	Amount money.Amount // zero: everything
	Text   string
	At     time.Time
	Ended  time.Time // zero: in force
}

// PutHold puts a hold in force. An ID the caller chose makes it once; an empty
// one is made.
func PutHold(tx *db.Tx, h Hold) (Hold, error) {
	if h.ID == "" {
		h.ID = tx.NewID("hold")
	}
	if h.Amount.Sign() < 0 || h.Reason == "" {
		return h, fmt.Errorf("hold %s: %w", h.ID, ErrTerms)
	}
	p, err := payeeOf(tx, h.Payee)
	if err != nil {
		return h, err
	}
	h.At = tx.Now()
	n, err := tx.Exec(`INSERT INTO settlement_hold (id, payee, reason, fen, text, at, ended) VALUES ($1, $2, $3, $4, $5, $6, 0)
		ON CONFLICT (id) DO NOTHING`, h.ID, h.Payee, string(h.Reason), h.Amount.Minor(), h.Text, h.At.UnixMicro())
	if err != nil {
		return h, err
	}
	if n == 0 {
		known, err := HoldOf(tx, h.ID)
		if err == nil && (known.Payee != h.Payee || known.Amount.Minor() != h.Amount.Minor()) {
			err = fmt.Errorf("hold %s: %w", h.ID, ErrDiffers)
		}
		return known, err
	}
	p.hold(h, 1)
	return h, p.save(tx)
}

func (p *payee) hold(h Hold, sign int64) {
	if h.Amount.IsZero() {
		p.stopped += sign
	}
	p.held += sign * h.Amount.Minor()
}

// Release ends a hold; what it held is paid with the next closing. One that
// ended before is ErrHold.
func Release(tx *db.Tx, id string) error {
	h, err := HoldOf(tx, id)
	if err != nil {
		return err
	}
	n, err := tx.Exec(`UPDATE settlement_hold SET ended = $1 WHERE id = $2 AND ended = 0`, tx.Now().UnixMicro(), id)
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("hold %s: %w", id, ErrHold)
	}
	p, err := payeeOf(tx, h.Payee)
	if err != nil {
		return err
	}
	p.hold(h, -1)
	return p.save(tx)
}

const holdColumns = `id, payee, reason, fen, text, at, ended`

func scanHold(scan func(...any) error) (h Hold, err error) {
	var reason string
	var fen, at, ended int64
	err = scan(&h.ID, &h.Payee, &reason, &fen, &h.Text, &at, &ended)
	h.Reason, h.Amount, h.At, h.Ended = Reason(reason), money.Fen(fen), db.Moment(at), db.Moment(ended)
	return h, err
}

// HoldOf reads a hold.
func HoldOf(q db.Reader, id string) (Hold, error) {
	h, err := scanHold(q.QueryRow(`SELECT `+holdColumns+` FROM settlement_hold WHERE id = $1`, id).Scan)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrHold
	}
	if err != nil {
		err = fmt.Errorf("hold %s: %w", id, err)
	}
	return h, err
}

// Holds reads the holds in force on a payee, oldest first.
func Holds(q db.Reader, payee string) (out []Hold, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		h, err := scanHold(scan)
		out = append(out, h)
		return err
	}, `SELECT `+holdColumns+` FROM settlement_hold WHERE payee = $1 AND ended = 0 ORDER BY at, id`, payee)
	return out, err
}

// Join opens the account on which what the payee earns will wait. The house's
// own accounts beside it are not payees.
func Join(tx *db.Tx, payee, name string) error {
	if err := openPayable(tx, payee, name); err != nil {
		return err
	}
	return ensure(tx, payee)
}

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
	termsWidth   = 15
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
