package settlement

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"errors"
	"fmt"
	"strconv"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/money"
)

// A Bill is what a payee can check its money with: one line for each sale of a
// day, or for each closing of a month, and their totals. Each is hashed with
// the hash of the one before it and signed.
type Bill struct {
	Payee     string
	Period    string // 2016-09-06 or 2016-09
	No        int64  // from 1, in the order they were made
	CSV       []byte
	Hash      [32]byte // SHA-256 of Prev and CSV
	Prev      [32]byte // zero for the first
	Signature []byte   // of Message
	At        time.Time
}

// Message is what is signed.
func (b *Bill) Message() []byte {
	return fmt.Appendf(nil, "koala bill\n%s\n%s\n%d\n%x\n%x\n", b.Payee, b.Period, b.No, b.Prev, b.Hash)
}

func (b *Bill) hash() [32]byte { return sha256.Sum256(append(b.Prev[:], b.CSV...)) }

// DayBill makes the bill of a payee's day that is closed, once. sign is given
// the message; the key stays where it is.
func DayBill(ctx context.Context, store *db.Store, payee string, day calendar.Date, sign func(message []byte) ([]byte, error)) (Bill, error) {
	return makeBill(ctx, store, payee, day.String(), sign, func(q *db.Query) ([]byte, error) {
		p, err := payeeOf(q, payee)
		if err != nil {
			return nil, err
		}
		if p.day < day.String() {
			if over, err := closedDay(q, day); err != nil || !over {
				return nil, errors.Join(err, ErrTooEarly)
			}
		}
		return dayCSV(q, payee, day)
	})
}

// MonthBill makes a payee's statement of a month that is over, once.
func MonthBill(ctx context.Context, store *db.Store, payee string, month calendar.Month, sign func(message []byte) ([]byte, error)) (Bill, error) {
	return makeBill(ctx, store, payee, month.String(), sign, func(q *db.Query) ([]byte, error) {
		s, err := StatementOf(q, payee, month)
		if err != nil {
			return nil, err
		}
		if over, err := closedDay(q, lastOf(month)); err != nil || !over {
			return nil, errors.Join(err, ErrTooEarly)
		}
		return s.CSV(), nil
	})
}

// closedDay says whether a day's file, or one of a later day, is closed.
func closedDay(q db.Reader, day calendar.Date) (bool, error) {
	var n int64
	err := q.QueryRow(`SELECT COUNT(*) FROM settlement_day WHERE day >= $1`, day.String()).Scan(&n)
	return n > 0, err
}

func makeBill(ctx context.Context, store *db.Store, payee, period string, sign func([]byte) ([]byte, error), render func(*db.Query) ([]byte, error)) (b Bill, err error) {
	wrap := func(err error) error { return fmt.Errorf("bill of %s for %s: %w", payee, period, err) }
	known := false
	err = store.Read(ctx, func(q *db.Query) (err error) {
		if b, err = BillOf(q, payee, period); err == nil || !errors.Is(err, ErrNoFile) {
			known = err == nil
			return err
		}
		b = Bill{Payee: payee, Period: period, No: 1}
		if last, err := Bills(q, payee, 0, 1); err != nil {
			return err
		} else if len(last) > 0 {
			b.No, b.Prev = last[0].No+1, last[0].Hash
		}
		b.CSV, err = render(q)
		return err
	})
	if err != nil || known {
		if err != nil {
			err = wrap(err)
		}
		return b, err
	}
	b.Hash = b.hash()
	if b.Signature, err = sign(b.Message()); err != nil {
		return Bill{}, wrap(err)
	}
	err = store.Write(ctx, func(tx *db.Tx) error {
		b.At = tx.Now()
		n, err := tx.Exec(`INSERT INTO settlement_bill (`+billColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
			b.Payee, b.Period, b.No, b.CSV, b.Hash[:], b.Prev[:], b.Signature, b.At.UnixMicro())
		if err == nil && n == 0 {
			err = fmt.Errorf("another bill was made meanwhile; ask again: %w", ErrBill)
		}
		return err
	})
	if err != nil {
		return Bill{}, wrap(err)
	}
	return b, nil
}

const billColumns = `payee, period, no, csv, hash, prev, signature, at`

func scanBill(scan func(...any) error) (b Bill, err error) {
	var at int64
	err = scan(&b.Payee, &b.Period, &b.No, &b.CSV, &b.Hash, &b.Prev, &b.Signature, &at)
	b.At = db.Moment(at)
	return b, err
}

// BillOf reads a bill that was made.
func BillOf(q db.Reader, payee, period string) (Bill, error) {
	b, err := scanBill(q.QueryRow(`SELECT `+billColumns+` FROM settlement_bill WHERE payee = $1 AND period = $2`, payee, period).Scan)
	if errors.Is(err, db.ErrNoRows) {
		err = fmt.Errorf("bill of %s for %s: %w", payee, period, ErrNoFile)
	}
	return b, err
}

// Bills reads a payee's bills, newest first, from the one before a number (0:
// from the newest).
func Bills(q db.Reader, payee string, before int64, limit int) (out []Bill, err error) {
	if before == 0 {
		before = lastSeq
	}
	err = db.Each(q, func(scan func(...any) error) error {
		b, err := scanBill(scan)
		out = append(out, b)
		return err
	}, `SELECT `+billColumns+` FROM settlement_bill WHERE payee = $1 AND no < $2 ORDER BY no DESC LIMIT $3`, payee, before, min(max(limit, 1), maxPage))
	return out, err
}

// VerifyBills checks bills of one payee, oldest first: each follows the one
// before, is what was hashed, is signed (check knows the public key), and its
// lines sum to its totals. prev is the hash of the bill before the first, zero
// when that is number 1.
func VerifyBills(bills []Bill, prev [32]byte, check func(message, signature []byte) error) error {
	for i := range bills {
		b := &bills[i]
		switch {
		case b.Prev != prev, i > 0 && (b.No != bills[i-1].No+1 || b.Payee != bills[i-1].Payee), b.No == 1 && b.Prev != [32]byte{}:
			return fmt.Errorf("bill %d of %s does not follow the one before: %w", b.No, b.Payee, ErrBill)
		case b.hash() != b.Hash:
			return fmt.Errorf("bill %d of %s is not what was hashed: %w", b.No, b.Payee, ErrBill)
		}
		if err := check(b.Message(), b.Signature); err != nil {
			return fmt.Errorf("signature of bill %d of %s: %w: %w", b.No, b.Payee, ErrBill, err)
		}
		if err := addsUp(b.CSV); err != nil {
			return fmt.Errorf("bill %d of %s: %w", b.No, b.Payee, err)
		}
		prev = b.Hash
	}
	return nil
}

// addsUp sums the columns in fen over the lines and compares the total line.
func addsUp(text []byte) error {
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil || len(rows) < 2 {
		return fmt.Errorf("%w: it does not read as CSV", ErrBill)
	}
	top, last := rows[0], rows[len(rows)-1]
	for col, name := range top {
		if len(name) < 4 || name[len(name)-4:] != "_fen" {
			continue
		}
		var sum int64
		for _, r := range rows[1 : len(rows)-1] {
			n, err := strconv.ParseInt(r[col], 10, 64)
			if err != nil || n > money.MaxMinor || n < -money.MaxMinor {
				return fmt.Errorf("%w: column %s holds %q", ErrBill, name, r[col])
			}
			sum += n
		}
		if strconv.FormatInt(sum, 10) != last[col] {
			return fmt.Errorf("%w: column %s sums to %d, the total says %s", ErrBill, name, sum, last[col])
		}
	}
	return nil
}

// table writes lines and the totals of their columns in fen.
func table(top []string, texts int, each func(line func(texts []string, fen ...int64)) error) ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	_ = w.Write(top) // into memory
	sums := make([]int64, len(top)-texts)
	write := func(words []string, fen []int64) {
		out := append([]string{}, words...)
		for _, n := range fen {
			out = append(out, strconv.FormatInt(n, 10))
		}
		_ = w.Write(out)
	}
	err := each(func(words []string, fen ...int64) {
		write(words, fen)
		for i, n := range fen {
			sums[i] += n
		}
	})
	total := make([]string, texts)
	total[0] = "total"
	write(total, sums)
	w.Flush()
	return b.Bytes(), err
}

// dayCSV is one line for each item of the day's closings. What they add up to
// must be what the closings say.
func dayCSV(q db.Reader, payee string, day calendar.Date) ([]byte, error) {
	closed, err := ofDay(q, payee, day, day)
	if err != nil {
		return nil, err
	}
	top := []string{"reference", "kind", "time", "card", "payout", "gross_fen", "fee_fen", "issuer_fen", "network_fen", "acquirer_fen", "net_fen"}
	return table(top, 5, func(line func([]string, ...int64)) error {
		for _, o := range closed {
			var gross, fees, n int64
			for at := o.after; at < o.upto; {
				items, err := itemsBetween(q, payee, at, o.upto, pageItems)
				if err != nil {
					return err
				}
				for _, i := range items {
					at, n = i.Seq, n+1
					gross, fees = gross+i.Amount.Minor(), fees+i.Fee.Fee
					line([]string{i.Ref, i.Kind, i.At.In(calendar.Beijing).Format(time.DateTime), string(i.Card), o.ID},
						i.Amount.Minor(), i.Fee.Fee, i.Fee.Issuer, i.Fee.Network, i.Fee.Acquirer, i.Amount.Minor()-i.Fee.Fee)
				}
				if len(items) == 0 {
					break
				}
			}
			if n != int64(o.Count) || gross != o.Gross.Minor()+o.Refunds.Minor()+o.Chargebacks.Minor() || fees != o.Fee.Fee {
				return fmt.Errorf("%d items, %d fen and %d of fees in payout %s: %w", n, gross, fees, o.ID, ErrBill)
			}
		}
		return nil
	})
}

// A Statement is a payee's month: what was kept and reserved at its beginning
// and end, and its closings.
type Statement struct {
	Payee                 string
	Month                 calendar.Month
	Opening, Closing      money.Amount // kept and not paid; below zero: owed to the house
	Closings              []Payout
	Gross, Back, Fee      money.Amount // Back: refunds and chargebacks, zero or less
	Advance, Paid, Undone money.Amount
}

func lastOf(m calendar.Month) calendar.Date {
	first := calendar.Date{Year: m.Year, Month: m.Month, Day: 1}
	return calendar.Of(first.Start(time.UTC).AddDate(0, 1, -1), time.UTC)
}

// StatementOf reads the closings of a payee's month.
func StatementOf(q db.Reader, payee string, month calendar.Month) (s Statement, err error) {
	s = Statement{Payee: payee, Month: month, Opening: money.Fen(0), Closing: money.Fen(0), Gross: money.Fen(0), Back: money.Fen(0), Fee: money.Fen(0),
		Advance: money.Fen(0), Paid: money.Fen(0), Undone: money.Fen(0)}
	if _, err = payeeOf(q, payee); err != nil {
		return s, err
	}
	last := lastOf(month)
	s.Closings, err = ofDay(q, payee, calendar.Date{Year: month.Year, Month: month.Month, Day: 1}, last)
	for i, o := range s.Closings {
		if i == 0 {
			s.Opening = o.Brought
		}
		s.Closing = o.Kept
		s.Gross, s.Back, s.Fee = s.Gross.Add(o.Gross), s.Back.Add(o.Refunds).Add(o.Chargebacks), s.Fee.Add(money.Fen(o.Fee.Fee))
		s.Advance, s.Undone = s.Advance.Add(o.Advance), s.Undone.Add(o.Undone)
		if o.State != Returned {
			s.Paid = s.Paid.Add(o.Amount)
		}
	}
	return s, err
}

// CSV is the statement as a file: one line for each closing, and totals.
func (s *Statement) CSV() []byte {
	top := []string{"payout", "day", "kind", "state", "arrives", "captures", "gross_fen", "refunds_fen", "chargebacks_fen", "fee_fen", "reserved_fen",
		"released_fen", "advance_fen", "given_back_fen", "change_of_kept_fen", "paid_fen"}
	text, _ := table(top, 6, func(line func([]string, ...int64)) error { // nothing in it fails
		for _, o := range s.Closings {
			line([]string{o.ID, o.Day.String(), string(o.Kind), string(o.State), o.Arrives.String(), strconv.Itoa(o.Count)}, o.Gross.Minor(), o.Refunds.Minor(),
				o.Chargebacks.Minor(), o.Fee.Fee, o.Reserved.Minor(), o.Released.Minor(), o.Advance.Minor(), o.Undone.Minor(),
				o.Kept.Minor()-o.Brought.Minor(), o.Amount.Minor())
		}
		return nil
	})
	return text
}
