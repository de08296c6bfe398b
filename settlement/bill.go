package settlement

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
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
	Form      int      // of Message: OldForm, or NewForm
	Key       string   // id of the key; empty in rows of OldForm, which does not name it
	Signature []byte   // of Message
	At        time.Time
}

// The forms of what is signed. In the old one the key was one that signs other
// things too, and the bill did not say which.
const (
	OldForm = 1
	NewForm = 2
)

// BillLabel is the label of the key that signs bills, and nothing else.
const BillLabel = "bill.sign"

// A Signer signs bills: the id of its key, and what the key makes of a message.
type Signer struct {
	Key  string
	Sign func(message []byte) ([]byte, error)
}

// A BillCheck verifies a signature: of the key of an id in the new form, of any
// key that bills were signed with before in the old one.
type BillCheck func(form int, key string, message, signature []byte) error

// keyStep: rows there are were signed by a key that their bills do not name.
const keyStep = `ALTER TABLE settlement_bill ADD COLUMN sign_key TEXT NOT NULL DEFAULT ''`

// Message is what is signed.
func (b *Bill) Message() []byte {
	if b.Form == OldForm {
		return fmt.Appendf(nil, "koala bill\n%s\n%s\n%d\n%x\n%x\n", b.Payee, b.Period, b.No, b.Prev, b.Hash)
	}
	return fmt.Appendf(nil, "koala bill 2\npayee: %s\nperiod: %s\nnumber: %d\nfile: %x\nprevious: %x\nhash: %x\nkey: %s\n",
		b.Payee, b.Period, b.No, sha256.Sum256(b.CSV), b.Prev, b.Hash, b.Key)
}

func (b *Bill) hash() [32]byte { return sha256.Sum256(append(b.Prev[:], b.CSV...)) }

// SignatureFile is what goes beside the file of a bill: the message, the key's id
// where the message does not say it, and the signature in base64. key is the id
// for a bill of the old form.
func (b *Bill) SignatureFile(key string) []byte {
	out := b.Message()
	if b.Form == OldForm {
		out = fmt.Appendf(out, "key: %s\n", key)
	}
	return fmt.Appendf(out, "signature: %s\n", base64.StdEncoding.EncodeToString(b.Signature))
}

// maxSignatureFile is beyond any file that SignatureFile makes.
const maxSignatureFile = 4 << 10

// ParseBill reads a bill's file with the one beside it. It holds what the second
// says to be the message of the first; whether that is signed is VerifyBills'.
func ParseBill(file, signature []byte) (b Bill, err error) {
	lines := strings.Split(string(signature), "\n")
	bad := func(what string) (Bill, error) {
		return Bill{}, fmt.Errorf("signature file: %s: %w", what, ErrBill)
	}
	var names []string
	switch {
	case len(signature) > maxSignatureFile:
		return bad("it is too long")
	case lines[0] == "koala bill 2":
		b.Form, names = NewForm, []string{"payee: ", "period: ", "number: ", "file: ", "previous: ", "hash: ", "key: ", "signature: "}
	case lines[0] == "koala bill":
		b.Form, names = OldForm, []string{"", "", "", "", "", "key: ", "signature: "}
	default:
		return bad("it does not begin as one")
	}
	if len(lines) != len(names)+2 {
		return bad("lines are missing, or are too many")
	}
	said := make([]string, 0, len(names))
	for i, name := range names {
		value, ok := strings.CutPrefix(lines[i+1], name)
		if !ok {
			return bad(fmt.Sprintf("line %d is not %q", i+2, strings.TrimSuffix(name, ": ")))
		}
		if said = append(said, value); name == "file: " { // the message says it of the file that is there
			said = said[:len(said)-1]
		}
	}
	b.CSV, b.Payee, b.Period, b.Key = file, said[0], said[1], said[5]
	if b.No, err = strconv.ParseInt(said[2], 10, 64); err != nil || b.No < 1 {
		return bad("the number is none")
	}
	for i, to := range []*[32]byte{&b.Prev, &b.Hash} {
		if n, err := hex.Decode(to[:], []byte(said[3+i][:min(64, len(said[3+i]))])); err != nil || n != len(to) {
			return bad("a hash is none")
		}
	}
	if b.Signature, err = base64.StdEncoding.DecodeString(said[6]); err != nil {
		return bad("the signature is not base64")
	}
	if !bytes.Equal(b.SignatureFile(b.Key), signature) {
		return bad("it is of another file, or was altered")
	}
	return b, nil
}

// DayBill makes the bill of a payee's day that is closed, once.
func DayBill(ctx context.Context, store *db.Store, payee string, day calendar.Date, sign Signer) (Bill, error) {
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
func MonthBill(ctx context.Context, store *db.Store, payee string, month calendar.Month, sign Signer) (Bill, error) {
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

func makeBill(ctx context.Context, store *db.Store, payee, period string, sign Signer, render func(*db.Query) ([]byte, error)) (b Bill, err error) {
	wrap := func(err error) error { return fmt.Errorf("bill of %s for %s: %w", payee, period, err) }
	known := false
	err = store.Read(ctx, func(q *db.Query) (err error) {
		if b, err = BillOf(q, payee, period); err == nil || !errors.Is(err, ErrNoBill) {
			known = err == nil
			return err
		}
		b = Bill{Payee: payee, Period: period, No: 1, Form: NewForm, Key: sign.Key}
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
	if b.Signature, err = sign.Sign(b.Message()); err != nil {
		return Bill{}, wrap(err)
	}
	err = store.Write(ctx, func(tx *db.Tx) error {
		b.At = tx.Now()
		n, err := tx.Exec(`INSERT INTO settlement_bill (`+billColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`,
			b.Payee, b.Period, b.No, b.CSV, b.Hash[:], b.Prev[:], b.Signature, b.At.UnixMicro(), b.Key)
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

const billColumns = `payee, period, no, csv, hash, prev, signature, at, sign_key`

func scanBill(scan func(...any) error) (b Bill, err error) {
	var at int64
	err = scan(&b.Payee, &b.Period, &b.No, &b.CSV, &b.Hash, &b.Prev, &b.Signature, &at, &b.Key)
	if b.Form = NewForm; b.Key == "" {
		b.Form = OldForm
	}
	b.At = db.Moment(at)
	return b, err
}

// BillOf reads a bill that was made.
func BillOf(q db.Reader, payee, period string) (Bill, error) {
	b, err := scanBill(q.QueryRow(`SELECT `+billColumns+` FROM settlement_bill WHERE payee = $1 AND period = $2`, payee, period).Scan)
	if errors.Is(err, db.ErrNoRows) {
		err = fmt.Errorf("bill of %s for %s: %w", payee, period, ErrNoBill)
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
// before, is what was hashed, is signed, and its lines sum to its totals. prev
// is the hash of the bill before the first, zero when that is number 1. After a
// bill of the new form there is none of the old: its key is good for no other.
func VerifyBills(bills []Bill, prev [32]byte, check BillCheck) error {
	for i := range bills {
		b := &bills[i]
		switch {
		case b.Prev != prev, i > 0 && (b.No != bills[i-1].No+1 || b.Payee != bills[i-1].Payee || b.Form < bills[i-1].Form), b.No == 1 && b.Prev != [32]byte{}:
			return fmt.Errorf("bill %d of %s does not follow the one before: %w", b.No, b.Payee, ErrBill)
		case b.hash() != b.Hash:
			return fmt.Errorf("bill %d of %s is not what was hashed: %w", b.No, b.Payee, ErrBill)
		}
		if err := check(b.Form, b.Key, b.Message(), b.Signature); err != nil {
			return fmt.Errorf("signature of bill %d of %s: %w: %w", b.No, b.Payee, ErrBill, err)
		}
		if err := addsUp(b.CSV); err != nil {
			return fmt.Errorf("bill %d of %s: %w", b.No, b.Payee, err)
		}
		prev = b.Hash
	}
	return nil
}

// proveChunk bounds the bills that are in memory at once.
const proveChunk = 64

// ProveBills proves every payee's chain of bills from its first, and says what
// is wrong: one line a payee, since what follows a broken link proves nothing.
func ProveBills(q db.Reader, check BillCheck) (wrong []string, err error) {
	var last Bill // that was looked at
	broken := false
	for page := []Bill{last}; len(page) > 0; {
		page = page[:0]
		err := db.Each(q, func(scan func(...any) error) error {
			b, err := scanBill(scan)
			page = append(page, b)
			return err
		}, `SELECT `+billColumns+` FROM settlement_bill WHERE payee > $1 OR (payee = $1 AND no > $2) ORDER BY payee, no LIMIT $3`, last.Payee, last.No, proveChunk)
		if err != nil {
			return nil, err
		}
		for _, b := range page {
			pair := []Bill{last, b}
			if b.Payee != last.Payee {
				pair, broken = pair[1:], false
			}
			if !broken {
				if err := follows(pair, check); err != nil {
					broken = true
					wrong = append(wrong, err.Error())
				}
			}
			last = b
		}
	}
	return wrong, nil
}

// follows checks the last of one or two bills, and that it follows the first of
// two, which was checked before.
func follows(pair []Bill, check BillCheck) error {
	b := pair[len(pair)-1]
	switch {
	case len(pair) == 1 && b.No != 1:
		return fmt.Errorf("bill %d of %s is the first there is: %w", b.No, b.Payee, ErrBill)
	case len(pair) == 2 && (b.No != pair[0].No+1 || b.Form < pair[0].Form):
		return fmt.Errorf("bill %d of %s does not follow the one before: %w", b.No, b.Payee, ErrBill)
	case len(pair) == 2:
		return VerifyBills(pair[1:], pair[0].Hash, check)
	}
	return VerifyBills(pair, [32]byte{}, check)
}

// OldBills tells whether there are bills that a key of other things signed.
func OldBills(q db.Reader) (bool, error) {
	var n int64
	err := q.QueryRow(`SELECT COUNT(*) FROM (SELECT 1 FROM settlement_bill WHERE sign_key = '' LIMIT 1) AS x`).Scan(&n)
	return n > 0, err
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
