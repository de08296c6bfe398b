package settlement

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/ledger"
	"koala/money"
)

// custody is the bank account (simulated bank) that all client money lies on.
const custody ledger.AccountID = "bank.custody"

// codePayable is the chart code of payees' accounts.
const codePayable = "2030"

// Payable is the account on which a payee's earnings wait.
func Payable(payee string) ledger.AccountID { return ledger.AccountID("payable." + payee) }

// Join opens the account on which what the payee earns will wait, and makes
// sure that the custody account it is paid from is there.
func Join(tx *db.Tx, payee, name string) error {
	if payee == "" || len(payee) > MaxPayee {
		return fmt.Errorf("payee %q: %w", payee, ErrItem)
	}
	return ledger.OpenAccount(tx, ledger.Account{ID: Payable(payee), Code: codePayable, Name: name, Currency: money.CNY})
}

// Capture keeps c: once, however often it is delivered. Another body under a
// known reference is ErrDiffers.
func Capture(tx *db.Tx, c Item) error {
	if c.Ref == "" || len(c.Ref) > MaxRef || c.Payee == "" || len(c.Payee) > MaxPayee || c.Amount.IsZero() || c.Amount.Currency() != money.CNY {
		return fmt.Errorf("capture %q: %w", c.Ref, ErrItem)
	}
	if c.At.IsZero() {
		c.At = tx.Now()
	}
	fresh, err := insertItem(tx, c)
	if err != nil || fresh {
		return err
	}
	known, err := item(tx, c.Ref)
	if err != nil {
		return fmt.Errorf("capture %s: %w", c.Ref, err)
	}
	if known.Payee != c.Payee || known.Kind != c.Kind || known.Amount != c.Amount {
		return fmt.Errorf("capture %s: %w", c.Ref, ErrDiffers)
	}
	return nil
}

// cutOff is the moment a settlement day ends.
func cutOff(day calendar.Date) time.Time { return day.AddDays(1).Start(calendar.Beijing).Add(CutOff) }

// LastDay is the newest settlement day that is over at now.
func LastDay(now time.Time) calendar.Date { return calendar.ServiceDay(now).AddDays(-1) }

// Run pays out one day: a unit of work per payee, then one for the file. It may
// be run again at any time; what is done stays done. Captures that come late
// wait for the next day. A payee whose captures sum to nothing or less is not
// paid: its captures wait until later ones make up for it.
func Run(ctx context.Context, store *db.Store, day calendar.Date) (File, error) {
	end := cutOff(day)
	var open []Payout
	var file File
	var closed bool
	err := store.Read(ctx, func(q *db.Query) (err error) {
		if file, err = FileOf(q, day); err == nil {
			closed = true
			return nil
		}
		open, err = due(q, end)
		return err
	})
	if err != nil || closed {
		return file, err
	}
	for _, p := range open {
		if p.Amount.Sign() <= 0 {
			continue
		}
		err := store.Write(ctx, func(tx *db.Tx) error { return pay(tx, day, p.Payee) })
		if err != nil && !errors.Is(err, errNothing) {
			return File{}, fmt.Errorf("settling %s for %s: %w", day, p.Payee, err)
		}
	}
	err = store.Write(ctx, func(tx *db.Tx) (err error) {
		file, err = closeDay(tx, day)
		return err
	})
	if err != nil {
		return File{}, fmt.Errorf("closing %s: %w", day, err)
	}
	return file, nil
}

// errNothing ends a unit that found nothing to pay.
var errNothing = errors.New("settlement: nothing to pay")

// pay nets one payee's captures before the cut-off and posts the sum: the
// house owes less, the custody bank holds less.
func pay(tx *db.Tx, day calendar.Date, payee string) error {
	if tx.Now().Before(cutOff(day)) {
		return ErrTooEarly
	}
	p := Payout{ID: tx.NewID("payout"), Day: day, Payee: payee, At: tx.Now()}
	n, sum, err := take(tx, p.ID, payee, cutOff(day))
	if err != nil {
		return err
	}
	if sum.Sign() <= 0 {
		return errNothing
	}
	p.Count, p.Amount = int(n), sum
	fresh, err := insertPayout(tx, p)
	if err != nil {
		return err
	}
	if !fresh {
		return errNothing // paid already: what came since waits for the next day
	}
	e := ledger.Move("payout:"+day.String()+":"+payee, Payable(payee), custody, p.Amount)
	e.Kind, e.Text = "payout", "settlement of "+day.String()
	_, err = ledger.Post(tx, e)
	return err
}

// closeDay writes the payout file from the payouts, once.
func closeDay(tx *db.Tx, day calendar.Date) (File, error) {
	if tx.Now().Before(cutOff(day)) {
		return File{}, ErrTooEarly
	}
	if f, err := FileOf(tx, day); err == nil {
		return f, nil
	}
	ps, err := payoutsOf(tx, day)
	if err != nil {
		return File{}, err
	}
	f := File{Day: day, CSV: render(ps), At: tx.Now()}
	sum := sha256.Sum256(f.CSV)
	f.Hash = hex.EncodeToString(sum[:])
	_, err = insertFile(tx, f)
	return f, err
}

// render writes one line per payout and a closing line with count and sum.
func render(ps []Payout) []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	total := money.Fen(0)
	lines := [][]string{{"payout", "day", "payee", "captures", "fen"}}
	for _, p := range ps {
		total = total.Add(p.Amount)
		lines = append(lines, []string{p.ID, p.Day.String(), p.Payee, strconv.Itoa(p.Count), strconv.FormatInt(p.Amount.Minor(), 10)})
	}
	lines = append(lines, []string{"total", "", "", strconv.Itoa(len(ps)), strconv.FormatInt(total.Minor(), 10)})
	if err := w.WriteAll(lines); err != nil {
		panic(err) // a bytes.Buffer takes everything
	}
	return b.Bytes()
}
