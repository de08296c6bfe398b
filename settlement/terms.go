package settlement

import (
	"errors"
	"fmt"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/ledger"
	"koala/money"
	"koala/settlement/fee"
	"koala/settlement/split"
)

// Terms are what a payee agreed to, from a day on. A payee without terms pays
// no fees, its day ends at CutOff, and it is paid every day.
type Terms struct {
	Payee       string
	Since       calendar.Date
	Category    fee.Category  // empty: no fees
	Price       string        // price card; empty: fee.DefaultPrice
	CutOff      time.Duration // after the midnight that begins the day, whole minutes: 23 h for shops, 29 h for night shops
	Holidays    bool          // also paid on days that are no bank days
	Least       money.Amount  // less is carried over
	ReserveBP   int64         // of each closing's gross
	ReserveDays int           // until it is given back
	Monthly     bool          // paid once a month, on the first bank day of the next; closings in between only carry
	Once        Once
}

// Once is what was agreed about being paid at once.
type Once struct {
	Agreed  bool
	Every   time.Duration // unasked after each so long; 0: when asked
	BPDay   int64         // price: basis points of what is paid, for each day until it would have been paid anyway
	Most    money.Amount  // a day, at most: less where a payee's standing says so
	Promise time.Duration // later than this is free
}

// Usual times of the day's end, after the midnight that begins it.
const (
	ShopCutOff   = 23 * time.Hour
	NightCutOff  = 29 * time.Hour
	usualCutOff  = 24*time.Hour + CutOff
	latestCutOff = 30 * time.Hour
)

// check refuses what a run could not follow.
func (t *Terms) check() error {
	o := t.Once
	switch {
	case t.Payee == "", t.Since.IsZero(), t.Category != "" && !t.Category.Valid(), !house.Known(t.Price),
		t.CutOff < time.Hour, t.CutOff > latestCutOff, t.CutOff%time.Minute != 0, t.Least.Sign() < 0,
		t.ReserveBP < 0, t.ReserveBP > 10_000, t.ReserveDays < 0, t.ReserveDays > 3650, t.ReserveBP > 0 && t.ReserveDays == 0,
		o.Every < 0, o.Every > 0 && o.Every < time.Minute, o.BPDay < 0, o.BPDay > 100, o.Most.Sign() < 0, o.Promise < 0,
		o.Agreed && o.Promise < time.Minute:
		return fmt.Errorf("terms of %s from %s: %w", t.Payee, t.Since, ErrTerms)
	}
	if t.Category != "" {
		if err := house.Covers(t.Since, t.Category, t.Price); err != nil { // a run must never stop for want of a rule
			return fmt.Errorf("terms of %s: %w", t.Payee, err)
		}
	}
	return nil
}

// house is the fee rules that come with the program.
var house = fee.House()

// Statutes are the fee rules the runs price by.
func Statutes() *fee.Statutes { return house }

// SetTerms keeps terms that begin on a day to come: days that were closed stay
// priced as they were. A payee's first terms may begin at any day it has no
// closing for.
func SetTerms(tx *db.Tx, t Terms) error {
	if err := t.check(); err != nil {
		return err
	}
	p, err := payeeOf(tx, t.Payee)
	if err != nil {
		return err
	}
	if closed, err := closedThrough(tx, t.Payee); err != nil {
		return err
	} else if !closed.Before(t.Since) {
		return fmt.Errorf("terms of %s from %s, closed through %s: %w", t.Payee, t.Since, closed, ErrTerms)
	}
	if has, err := split.Has(tx, t.Payee); err != nil {
		return err
	} else if today := calendar.Of(tx.Now(), calendar.Beijing); has && !today.Before(t.Since) { // its receivers may have been paid of today
		return fmt.Errorf("terms of %s from %s, whose sales are divided: %w", t.Payee, t.Since, ErrTerms)
	}
	if t.Category != "" {
		if err := OpenHouse(tx); err != nil {
			return err
		}
	}
	_, err = insertRows(tx, intoTerms, termsWidth, newTerms, t.row())
	if err != nil {
		return err
	}
	p.auto = 0
	if o := t.Once; o.Agreed && o.Every > 0 {
		p.auto = max(tx.Now().UnixMicro(), t.Since.Start(calendar.Beijing).UnixMicro()) + o.Every.Microseconds()
	}
	return p.save(tx)
}

const newTerms = ` ON CONFLICT (payee, since) DO UPDATE SET category = excluded.category, price = excluded.price, cut = excluded.cut, holidays = excluded.holidays,
	least = excluded.least, reserve_bp = excluded.reserve_bp, reserve_days = excluded.reserve_days, at_once = excluded.at_once,
	every = excluded.every, bp_day = excluded.bp_day, most = excluded.most, promise = excluded.promise, monthly = excluded.monthly`

// closedThrough is the last civil day that something settled may be of.
func closedThrough(q db.Reader, payee string) (calendar.Date, error) {
	last, err := Closings(q, payee, "", 1)
	if err != nil || len(last) == 0 {
		return calendar.Date{}, err
	}
	at := last[0].At
	if last[0].Kind == NextDay {
		t, err := TermsOf(q, payee, last[0].Day)
		if end := t.ends(last[0].Day).Add(-time.Microsecond); end.Before(at) {
			at = end
		}
		return calendar.Of(at, calendar.Beijing), err
	}
	return calendar.Of(at, calendar.Beijing), nil
}

const termsColumns = `payee, since, category, price, cut, holidays, least, reserve_bp, reserve_days, at_once, every, bp_day, most, promise, monthly`

func (t *Terms) row() []any {
	o := t.Once
	return []any{t.Payee, t.Since.String(), string(t.Category), t.Price, int64(t.CutOff / time.Minute), t.Holidays, t.Least.Minor(), t.ReserveBP, t.ReserveDays,
		o.Agreed, int64(o.Every / time.Second), o.BPDay, o.Most.Minor(), int64(o.Promise / time.Second), t.Monthly}
}

func scanTerms(scan func(...any) error) (t Terms, err error) {
	var since, cat string
	var cut, least, every, most, promise int64
	o := &t.Once
	if err := scan(&t.Payee, &since, &cat, &t.Price, &cut, &t.Holidays, &least, &t.ReserveBP, &t.ReserveDays, &o.Agreed, &every, &o.BPDay, &most, &promise, &t.Monthly); err != nil {
		return t, err
	}
	t.Category, t.CutOff, t.Least = fee.Category(cat), time.Duration(cut)*time.Minute, money.Fen(least)
	o.Every, o.Most, o.Promise = time.Duration(every)*time.Second, money.Fen(most), time.Duration(promise)*time.Second
	t.Since, err = calendar.Parse(since)
	return t, err
}

// termsAmong reads the terms of payees from one to another, oldest first.
func termsAmong(q db.Reader, first, last string) (map[string][]Terms, error) {
	all := map[string][]Terms{}
	err := db.Each(q, func(scan func(...any) error) error {
		t, err := scanTerms(scan)
		all[t.Payee] = append(all[t.Payee], t)
		return err
	}, `SELECT `+termsColumns+` FROM settlement_terms WHERE payee >= $1 AND payee <= $2 ORDER BY payee, since`, first, last)
	return all, err
}

// inForce picks the terms of a day.
func inForce(all []Terms, day calendar.Date) Terms {
	t := Terms{CutOff: usualCutOff, Holidays: true, Least: money.Fen(0)}
	for _, x := range all {
		if day.Before(x.Since) {
			break
		}
		t = x
	}
	return t
}

// TermsOf reads the terms of a payee on a day; those of a payee without any
// have no Since.
func TermsOf(q db.Reader, payee string, day calendar.Date) (Terms, error) {
	all, err := termsAmong(q, payee, payee)
	t := inForce(all[payee], day)
	t.Payee = payee
	return t, err
}

// AllTerms reads all terms of a payee, oldest first.
func AllTerms(q db.Reader, payee string) ([]Terms, error) {
	all, err := termsAmong(q, payee, payee)
	return all[payee], err
}

// ends is when a day of these terms is over.
func (t *Terms) ends(day calendar.Date) time.Time {
	return day.Start(calendar.Beijing).Add(t.CutOff)
}

// arrives is when money that waits at the end of a day is with the payee.
func (t *Terms) arrives(day calendar.Date) calendar.Date {
	if t.Monthly {
		return Payday(lastOf(day.MonthOf()).AddDays(1).MonthOf())
	}
	return t.soon(day)
}

// soon is when the bank could pay what waits at the end of a day.
func (t *Terms) soon(day calendar.Date) calendar.Date {
	next := day.AddDays(1)
	for (t.Monthly || !t.Holidays) && !next.BankDay() {
		next = next.AddDays(1)
	}
	return next
}

// Payday is when those that are paid once a month are paid the month before:
// the first bank day.
func Payday(m calendar.Month) calendar.Date {
	return calendar.Date{Year: m.Year, Month: m.Month, Day: 1}.AddDays(-1).NextBankDay()
}

// today is the day of these terms that a moment belongs to.
func (t *Terms) today(now time.Time) calendar.Date {
	return calendar.Of(now.Add(24*time.Hour-t.CutOff), calendar.Beijing)
}

// A BankAccount is where a payee is paid: sealed by the caller's keys, and as
// it may be shown.
type BankAccount struct {
	Bank, Masked string
	Sealed       []byte
	Since        time.Time
}

// SetAccount keeps a new bank account. It mends what was wrong with the last
// one: payouts that came back are paid with the next closing.
func SetAccount(tx *db.Tx, payee string, a BankAccount) error {
	if _, err := payeeOf(tx, payee); err != nil {
		return err
	}
	if a.Masked == "" || len(a.Masked) > MaxPayee || len(a.Sealed) > 1024 {
		return fmt.Errorf("bank account of %s: %w", payee, ErrTerms)
	}
	if _, err := tx.Exec(`INSERT INTO settlement_account (payee, at, bank, masked, sealed) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (payee, at) DO UPDATE SET bank = excluded.bank, masked = excluded.masked, sealed = excluded.sealed`,
		payee, tx.Now().UnixMicro(), a.Bank, a.Masked, append([]byte{}, a.Sealed...)); err != nil {
		return err
	}
	holds, err := Holds(tx, payee)
	for _, h := range holds {
		if err == nil && h.Reason == ForAccount {
			err = Release(tx, h.ID)
		}
	}
	return err
}

// AccountOf reads the bank account a payee is paid to; zero: none is known.
func AccountOf(q db.Reader, payee string) (a BankAccount, err error) {
	var at int64
	err = q.QueryRow(`SELECT bank, masked, sealed, at FROM settlement_account WHERE payee = $1 ORDER BY at DESC LIMIT 1`, payee).
		Scan(&a.Bank, &a.Masked, &a.Sealed, &at)
	if errors.Is(err, db.ErrNoRows) {
		return BankAccount{}, nil
	}
	a.Since = db.Moment(at)
	return a, err
}

// The accounts of the house that fees go to, and the bank account (simulated
// bank) that all client money lies on.
const (
	custody     ledger.AccountID = "bank.custody"
	Acquirer    ledger.AccountID = "income.acquirer"
	OwnIssuer   ledger.AccountID = "income.issuer"
	ForAdvances ledger.AccountID = "income.advance"
	Network     ledger.AccountID = "payable.network"
)

// Chart codes.
const (
	codePayable  = "2030"
	codeNetwork  = "2071"
	codeIssuer   = "2072"
	codeAcquirer = "4020"
	codeOwn      = "4021"
	codeAdvance  = "4022"
)

// OpenHouse opens the accounts that fees go to.
func OpenHouse(tx *db.Tx) error {
	for _, a := range []ledger.Account{
		{ID: Acquirer, Code: codeAcquirer, Name: "acquirer's part of merchant fees"},
		{ID: OwnIssuer, Code: codeOwn, Name: "interchange of the bank's own cards"},
		{ID: ForAdvances, Code: codeAdvance, Name: "price of paying merchants at once"},
		{ID: Network, Code: codeNetwork, Name: "network fees owed"},
	} {
		a.Currency = money.CNY
		if err := ledger.OpenAccount(tx, a); err != nil {
			return err
		}
	}
	return nil
}

// IssuerAccount is where a foreign issuer's part of fees waits for its host.
func IssuerAccount(host string) ledger.AccountID {
	if host == "" {
		return OwnIssuer
	}
	return ledger.AccountID("payable.issuer." + host)
}

// OpenIssuer opens the account of a foreign issuer's host, if it is not there.
// Capture does it under a name of its own.
func OpenIssuer(tx *db.Tx, host, name string) error {
	if _, err := ledger.BalanceOf(tx, IssuerAccount(host)); !errors.Is(err, ledger.ErrNoAccount) {
		return err
	}
	return ledger.OpenAccount(tx, ledger.Account{ID: IssuerAccount(host), Code: codeIssuer, Name: name, Currency: money.CNY})
}
