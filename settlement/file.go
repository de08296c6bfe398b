package settlement

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/ledger"
	"koala/money"
)

// line writes one line of a payout file.
func line(w io.Writer, fields ...string) {
	c := csv.NewWriter(w)
	_ = c.Write(fields) // into memory
	c.Flush()
}

func head(w io.Writer) { line(w, "payout", "day", "payee", "captures", "fen") }

func total(w io.Writer, n, fen int64) {
	line(w, "total", "", "", strconv.FormatInt(n, 10), strconv.FormatInt(fen, 10))
}

func (p *Payout) line(w *csv.Writer) {
	_ = w.Write([]string{p.ID, p.Day.String(), p.Payee, strconv.Itoa(p.Count), strconv.FormatInt(p.Amount.Minor(), 10)})
}

// filePart writes the lines of a page into the file of the day: the bank sees
// them when the day is closed.
func filePart(tx *db.Tx, day calendar.Date, all []closing) error {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	n, fen := 0, int64(0)
	for i := range all {
		if o := &all[i].payout; o.Amount.Sign() > 0 {
			o.line(w)
			n, fen = n+1, fen+o.Amount.Minor()
		}
	}
	if w.Flush(); n == 0 {
		return nil
	}
	_, err := tx.Exec(`INSERT INTO settlement_part (day, no, n, fen, csv)
		SELECT $1, COALESCE(MAX(no), 0) + 1, CAST($2 AS BIGINT), CAST($3 AS BIGINT), $4 FROM settlement_part WHERE day = $5`,
		day.String(), n, fen, b.Bytes(), day.String())
	return err
}

// closeDay notes which payees are through, and closes the file when all are.
func closeDay(tx *db.Tx, day calendar.Date, now time.Time) (File, error) {
	if f, err := FileOf(tx, day); err == nil {
		return f, nil
	}
	cut := minutes(day, now)
	if _, err := tx.Exec(`INSERT INTO settlement_pass (day, cut) VALUES ($1, $2) ON CONFLICT (day) DO UPDATE SET cut = excluded.cut`, day.String(), cut); err != nil {
		return File{}, err
	}
	var later int64
	err := tx.QueryRow(`SELECT COALESCE(MAX(cut), 0) FROM settlement_terms WHERE cut > 1680`).Scan(&later)
	if err != nil || later > cut {
		return File{Day: day}, err
	}
	f := File{Day: day, At: tx.Now()}
	sum := sha256.New()
	if err := writeFile(tx, day, sum); err != nil {
		return File{}, err
	}
	f.Hash = hex.EncodeToString(sum.Sum(nil))
	_, err = tx.Exec(`INSERT INTO settlement_day (day, hash, csv, at) VALUES ($1, $2, $3, $4)`, day.String(), f.Hash, []byte{}, f.At.UnixMicro())
	if err != nil {
		return File{}, err
	}
	return FileOf(tx, day)
}

// writeFile writes the file of a day from its parts: a line per payout and a
// closing line with count and sum.
func writeFile(q db.Reader, day calendar.Date, w io.Writer) error {
	head(w)
	var count, sum int64
	for no := int64(0); ; {
		var n, fen int64
		var part []byte
		err := q.QueryRow(`SELECT no, n, fen, csv FROM settlement_part WHERE day = $1 AND no > $2 ORDER BY no LIMIT 1`, day.String(), no).Scan(&no, &n, &fen, &part)
		if errors.Is(err, db.ErrNoRows) {
			total(w, count, sum)
			return nil
		}
		if err != nil {
			return err
		}
		count, sum = count+n, sum+fen
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
}

// FileOf reads the payout file of a day. One of millions of lines is large:
// WriteFile gives it out in parts.
func FileOf(q db.Reader, day calendar.Date) (f File, err error) {
	var at int64
	err = q.QueryRow(`SELECT hash, csv, at FROM settlement_day WHERE day = $1`, day.String()).Scan(&f.Hash, &f.CSV, &at)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoFile
	}
	if err != nil {
		return File{}, fmt.Errorf("payout file of %s: %w", day, err)
	}
	f.Day, f.At = day, db.Moment(at)
	if len(f.CSV) > 0 { // written whole by an earlier version
		return f, nil
	}
	var b bytes.Buffer
	err = writeFile(q, day, &b)
	f.CSV = b.Bytes()
	return f, err
}

// WriteFile writes the payout file of a closed day.
func WriteFile(q db.Reader, day calendar.Date, w io.Writer) error {
	var whole []byte
	err := q.QueryRow(`SELECT csv FROM settlement_day WHERE day = $1`, day.String()).Scan(&whole)
	switch {
	case errors.Is(err, db.ErrNoRows):
		return fmt.Errorf("payout file of %s: %w", day, ErrNoFile)
	case err != nil:
		return err
	case len(whole) > 0:
		_, err = w.Write(whole)
		return err
	}
	return writeFile(q, day, w)
}

// Days reads the days that have a payout file, newest first, without the files.
func Days(q db.Reader, limit int) (out []File, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var day string
		var at int64
		var f File
		if err := scan(&day, &f.Hash, &at); err != nil {
			return err
		}
		d, err := calendar.Parse(day)
		f.Day, f.At = d, db.Moment(at)
		out = append(out, f)
		return err
	}, `SELECT day, hash, at FROM settlement_day ORDER BY day DESC LIMIT $1`, min(max(limit, 1), maxPage))
	return out, err
}

// An Express is a payout file of payouts at once.
type Express struct {
	ID   string
	CSV  []byte
	Hash string
	At   time.Time
}

// maxExpress bounds the payouts of one such file.
const maxExpress = 2_000

// sendExpress writes what waits into a file and says how many payouts that are.
func sendExpress(tx *db.Tx) (n int, err error) {
	var b bytes.Buffer
	var sum int64
	head(&b)
	w := csv.NewWriter(&b)
	var ids []string
	err = db.Each(tx, func(scan func(...any) error) error {
		p, err := scanPayout(scan)
		p.line(w)
		ids, sum = append(ids, p.ID), sum+p.Amount.Minor()
		return err
	}, `SELECT `+payoutColumns+` FROM settlement_payout WHERE kind = 'd0' AND state = 'waiting' ORDER BY id LIMIT $1`, maxExpress)
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	w.Flush()
	total(&b, int64(len(ids)), sum)
	hash := sha256.Sum256(b.Bytes())
	file := tx.NewID("express")
	if _, err := tx.Exec(`INSERT INTO settlement_express (id, n, fen, hash, csv, at) VALUES ($1, $2, $3, $4, $5, $6)`,
		file, len(ids), sum, hex.EncodeToString(hash[:]), b.Bytes(), tx.Now().UnixMicro()); err != nil {
		return 0, err
	}
	_, err = tx.Exec(`UPDATE settlement_payout SET state = 'sent', file = $1 WHERE kind = 'd0' AND state = 'waiting' AND id >= $2 AND id <= $3`,
		file, ids[0], ids[len(ids)-1])
	return len(ids), err
}

// ExpressFile reads a payout file of payouts at once.
func ExpressFile(q db.Reader, id string) (f Express, err error) {
	var at int64
	err = q.QueryRow(`SELECT id, hash, csv, at FROM settlement_express WHERE id = $1`, id).Scan(&f.ID, &f.Hash, &f.CSV, &at)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoFile
	}
	if err != nil {
		return f, fmt.Errorf("payout file %s: %w", id, err)
	}
	f.At = db.Moment(at)
	return f, nil
}

// Confirm notes that the bank has paid: again it changes nothing.
func Confirm(tx *db.Tx, id string) error {
	p, err := PayoutOf(tx, id)
	if err != nil || p.State == Confirmed {
		return err
	}
	if p.State != Sent {
		return fmt.Errorf("payout %s is %s: %w", id, p.State, ErrState)
	}
	if _, err := tx.Exec(`UPDATE settlement_payout SET state = 'confirmed', answered = $1 WHERE id = $2`, tx.Now().UnixMicro(), id); err != nil {
		return err
	}
	if p.overdue(tx.Now()) {
		return free(tx, p)
	}
	return nil
}

// ConfirmDay notes that the bank has paid all of a day's file that it did not
// return.
func ConfirmDay(ctx context.Context, store *db.Store, day calendar.Date) error {
	for after, more := "", true; more; {
		last, n := after, 0
		err := store.Write(ctx, func(tx *db.Tx) error {
			last, n = after, 0 // a unit may be run again
			err := db.Each(tx, func(scan func(...any) error) error { n++; return scan(&last) },
				`SELECT payee FROM settlement_payout WHERE day = $1 AND kind = 't1' AND payee > $2 ORDER BY payee LIMIT $3`, day.String(), after, maxExpress)
			if err != nil || n == 0 {
				return err
			}
			_, err = tx.Exec(`UPDATE settlement_payout SET state = 'confirmed', answered = $1
				WHERE day = $2 AND kind = 't1' AND payee > $3 AND payee <= $4 AND state = 'sent'`, tx.Now().UnixMicro(), day.String(), after, last)
			return err
		})
		if err != nil {
			return fmt.Errorf("confirming %s: %w", day, err)
		}
		after, more = last, n == maxExpress
	}
	return nil
}

// Return notes that the bank sent a payout back: the money is the payee's
// again and waits until its account is mended (SetAccount) or staff release
// the hold. Again it changes nothing.
func Return(tx *db.Tx, id, why string) error {
	o, err := PayoutOf(tx, id)
	if err != nil || o.State == Returned {
		return err
	}
	if o.State != Sent && o.State != Confirmed {
		return fmt.Errorf("payout %s is %s: %w", id, o.State, ErrState)
	}
	if o.overdue(tx.Now()) { // it was late before it came back
		if err := free(tx, o); err != nil {
			return err
		}
		if o, err = PayoutOf(tx, id); err != nil {
			return err
		}
	}
	back := o.Advance.Sub(o.Undone) // nothing was lent
	e := ledger.Move("returned:"+id, custody, Payable(o.Payee), o.Amount)
	e.Kind, e.Text = "payout returned", "the bank returned "+id
	if !back.IsZero() {
		e.Legs[1].Amount = o.Amount.Add(back)
		e.Legs = append(e.Legs, ledger.Leg{Account: ForAdvances, Amount: back.Neg()})
	}
	if _, err := ledger.Post(tx, e); err != nil {
		return err
	}
	p, err := payeeOf(tx, o.Payee)
	if err != nil {
		return err
	}
	p.kept += o.Amount.Minor() + back.Minor()
	if err := p.save(tx); err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE settlement_payout SET state = 'returned', answered = $1, undone = advance WHERE id = $2`, tx.Now().UnixMicro(), id); err != nil {
		return err
	}
	_, err = PutHold(tx, Hold{ID: "returned:" + id, Payee: o.Payee, Reason: ForAccount, Amount: money.Fen(0), Text: why})
	return err
}

// An Answer is what a person answered for the bank.
type Answer struct {
	State   State // Confirmed or Returned
	By, Why string
	At      time.Time
}

// Limits of what is written down about an answer, bytes.
const (
	maxBy  = 128
	maxWhy = 1_000
)

// ConfirmByHand notes as Confirm does that the bank has paid, and who says so and
// why: a letter, a call, a statement that cannot be read. What stands confirmed
// is left as it is, and the answer that did it stays the one that is kept.
func ConfirmByHand(tx *db.Tx, id, by, why string) error {
	return byHand(tx, id, Confirmed, by, why, Confirm)
}

// ReturnByHand notes as Return does that the bank sent a payout back, and who
// says so and why. Its money is the payee's again once, whether the bank's own
// word comes before, later or never.
func ReturnByHand(tx *db.Tx, id, by, why string) error {
	return byHand(tx, id, Returned, by, why, func(tx *db.Tx, id string) error { return Return(tx, id, why) })
}

// byHand is one unit with the answer's effect: cut, neither of them is there.
func byHand(tx *db.Tx, id string, to State, by, why string, answer func(*db.Tx, string) error) error {
	if by == "" || why == "" || len(by) > maxBy || len(why) > maxWhy {
		return fmt.Errorf("payout %s: %w", id, ErrByHand)
	}
	p, err := PayoutOf(tx, id)
	if err != nil || p.State == to {
		return err
	}
	if err := answer(tx, id); err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO settlement_answer (payout, state, by_whom, why, at) VALUES ($1, $2, $3, $4, $5)`, id, string(to), by, why, tx.Now().UnixMicro())
	return err
}

// AnswersOf reads what persons answered for the bank about a payout, oldest first.
func AnswersOf(q db.Reader, payout string) (out []Answer, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var state string
		var at int64
		var a Answer
		err := scan(&state, &a.By, &a.Why, &at)
		a.State, a.At = State(state), db.Moment(at)
		out = append(out, a)
		return err
	}, `SELECT state, by_whom, why, at FROM settlement_answer WHERE payout = $1 ORDER BY at, state`, payout)
	return out, err
}
