package settlement

import (
	"errors"
	"fmt"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/money"
)

// Schema is what this package keeps. A capture's payout is empty until a run
// takes it and never changes afterwards.
var Schema = db.Schema{Owner: "settlement", Steps: []string{
	`CREATE TABLE settlement_capture (
		ref TEXT PRIMARY KEY,
		payee TEXT NOT NULL,
		kind TEXT NOT NULL,
		fen BIGINT NOT NULL,
		at BIGINT NOT NULL,      -- when it was earned, microseconds
		booked BIGINT NOT NULL,  -- when it was captured: the cut-off looks at this
		payout TEXT NOT NULL)`,
	`CREATE INDEX settlement_capture_due ON settlement_capture (payout, payee, booked)`,
	`CREATE TABLE settlement_payout (
		id TEXT PRIMARY KEY,
		day TEXT NOT NULL,       -- 2015-09-16
		payee TEXT NOT NULL,
		n BIGINT NOT NULL,
		fen BIGINT NOT NULL,
		at BIGINT NOT NULL,
		UNIQUE (day, payee))`,
	`CREATE TABLE settlement_day (
		day TEXT PRIMARY KEY,
		hash TEXT NOT NULL,
		csv BYTEA NOT NULL,
		at BIGINT NOT NULL)`,
}}

// insertCapture writes c unless its reference is known.
func insertItem(tx *db.Tx, c Item) (fresh bool, err error) {
	n, err := tx.Exec(`INSERT INTO settlement_capture (ref, payee, kind, fen, at, booked, payout)
		VALUES ($1, $2, $3, $4, $5, $6, '') ON CONFLICT (ref) DO NOTHING`,
		c.Ref, c.Payee, c.Kind, c.Amount.Minor(), c.At.UnixMicro(), tx.Now().UnixMicro())
	return n == 1, err
}

func item(q db.Reader, ref string) (c Item, err error) {
	var fen, at int64
	err = q.QueryRow(`SELECT ref, payee, kind, fen, at FROM settlement_capture WHERE ref = $1`, ref).
		Scan(&c.Ref, &c.Payee, &c.Kind, &fen, &at)
	c.Amount, c.At = money.Fen(fen), time.UnixMicro(at).UTC()
	return c, err
}

// due lists the payees that have captures booked before the cut-off and not
// yet paid, with their number and sum.
func due(q db.Reader, cutOff time.Time) (out []Payout, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var p Payout
		var fen int64
		err := scan(&p.Payee, &p.Count, &fen)
		p.Amount = money.Fen(fen)
		out = append(out, p)
		return err
	}, `SELECT payee, COUNT(*), CAST(SUM(fen) AS BIGINT) FROM settlement_capture
		WHERE payout = '' AND booked < $1 GROUP BY payee ORDER BY payee`, cutOff.UnixMicro())
	return out, err
}

// take gives every due capture of a payee to a payout and says what it took.
func take(tx *db.Tx, id, payee string, cutOff time.Time) (n int64, sum money.Amount, err error) {
	n, err = tx.Exec(`UPDATE settlement_capture SET payout = $1 WHERE payout = '' AND payee = $2 AND booked < $3`,
		id, payee, cutOff.UnixMicro())
	if err != nil {
		return 0, sum, err
	}
	var fen int64
	err = tx.QueryRow(`SELECT CAST(COALESCE(SUM(fen), 0) AS BIGINT) FROM settlement_capture
		WHERE payout = $1 AND payee = $2`, id, payee).Scan(&fen)
	return n, money.Fen(fen), err
}

func insertPayout(tx *db.Tx, p Payout) (fresh bool, err error) {
	n, err := tx.Exec(`INSERT INTO settlement_payout (id, day, payee, n, fen, at)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (day, payee) DO NOTHING`,
		p.ID, p.Day.String(), p.Payee, p.Count, p.Amount.Minor(), p.At.UnixMicro())
	return n == 1, err
}

const payoutColumns = `id, day, payee, n, fen, at`

func scanPayout(scan func(...any) error) (p Payout, err error) {
	var fen, at int64
	var day string
	if err = scan(&p.ID, &day, &p.Payee, &p.Count, &fen, &at); err != nil {
		return p, err
	}
	p.Amount, p.At = money.Fen(fen), time.UnixMicro(at).UTC()
	p.Day, err = calendar.Parse(day)
	return p, err
}

func payoutsOf(q db.Reader, day calendar.Date) (out []Payout, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		p, err := scanPayout(scan)
		out = append(out, p)
		return err
	}, `SELECT `+payoutColumns+` FROM settlement_payout WHERE day = $1 ORDER BY payee`, day.String())
	return out, err
}

func insertFile(tx *db.Tx, f File) (fresh bool, err error) {
	n, err := tx.Exec(`INSERT INTO settlement_day (day, hash, csv, at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (day) DO NOTHING`, f.Day.String(), f.Hash, f.CSV, f.At.UnixMicro())
	return n == 1, err
}

// FileOf reads the payout file of a day.
func FileOf(q db.Reader, day calendar.Date) (f File, err error) {
	var at int64
	err = q.QueryRow(`SELECT hash, csv, at FROM settlement_day WHERE day = $1`, day.String()).Scan(&f.Hash, &f.CSV, &at)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoFile
	}
	if err != nil {
		return File{}, fmt.Errorf("payout file of %s: %w", day, err)
	}
	f.Day, f.At = day, time.UnixMicro(at).UTC()
	return f, nil
}

// Payouts reads the payouts of one payee (empty: of all), newest first, from
// the one before the given id (empty: from the newest).
func Payouts(q db.Reader, payee, before string, limit int) (out []Payout, err error) {
	if before == "" {
		before = "~" // after every id
	}
	err = db.Each(q, func(scan func(...any) error) error {
		p, err := scanPayout(scan)
		out = append(out, p)
		return err
	}, `SELECT `+payoutColumns+` FROM settlement_payout
		WHERE (payee = $1 OR $1 = '') AND id < $2 ORDER BY id DESC LIMIT $3`, payee, before, min(max(limit, 1), maxPage))
	return out, err
}

// Paid sums all payouts of a payee.
func Paid(q db.Reader, payee string) (money.Amount, error) {
	var fen int64
	err := q.QueryRow(`SELECT CAST(COALESCE(SUM(fen), 0) AS BIGINT) FROM settlement_payout WHERE payee = $1`, payee).Scan(&fen)
	return money.Fen(fen), err
}

// PayoutOf reads one payout.
func PayoutOf(q db.Reader, id string) (Payout, error) {
	p, err := scanPayout(q.QueryRow(`SELECT `+payoutColumns+` FROM settlement_payout WHERE id = $1`, id).Scan)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoPayout
	}
	if err != nil {
		return Payout{}, fmt.Errorf("payout %s: %w", id, err)
	}
	return p, nil
}

// CapturesOf reads the captures of one payout in the order of their references,
// from the one after the given.
func ItemsOf(q db.Reader, payout, after string, limit int) (out []Item, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var c Item
		var fen, at int64
		err := scan(&c.Ref, &c.Payee, &c.Kind, &fen, &at)
		c.Amount, c.At = money.Fen(fen), time.UnixMicro(at).UTC()
		out = append(out, c)
		return err
	}, `SELECT ref, payee, kind, fen, at FROM settlement_capture
		WHERE payout = $1 AND ref > $2 ORDER BY ref LIMIT $3`, payout, after, min(max(limit, 1), maxPage))
	return out, err
}

// Open reads what each payee has coming: everything captured and not yet paid.
func Open(q db.Reader) ([]Payout, error) { return due(q, time.UnixMicro(1<<62)) }

// Days reads the days that have a payout file, newest first.
func Days(q db.Reader, limit int) (out []File, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var day string
		var at int64
		var f File
		if err := scan(&day, &f.Hash, &at); err != nil {
			return err
		}
		d, err := calendar.Parse(day)
		f.Day, f.At = d, time.UnixMicro(at).UTC()
		out = append(out, f)
		return err
	}, `SELECT day, hash, at FROM settlement_day ORDER BY day DESC LIMIT $1`, min(max(limit, 1), maxPage))
	return out, err
}

// Check proves that every payout is the exact sum of its captures and that no
// capture names a payout that is not there. It lists what is wrong.
func Check(q db.Reader) (wrong []string, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var id string
		var n, fen, have, sum int64
		err := scan(&id, &n, &fen, &have, &sum)
		wrong = append(wrong, fmt.Sprintf("payout %s says %d captures and %d fen, its captures are %d and %d fen", id, n, fen, have, sum))
		return err
	}, `SELECT p.id, p.n, p.fen, COUNT(c.ref), CAST(COALESCE(SUM(c.fen), 0) AS BIGINT)
		FROM settlement_payout p LEFT JOIN settlement_capture c ON c.payout = p.id
		GROUP BY p.id, p.n, p.fen HAVING COUNT(c.ref) <> p.n OR COALESCE(SUM(c.fen), 0) <> p.fen ORDER BY p.id`)
	if err != nil {
		return nil, err
	}
	err = db.Each(q, func(scan func(...any) error) error {
		var ref, payout string
		err := scan(&ref, &payout)
		wrong = append(wrong, fmt.Sprintf("capture %s names payout %s, which is not there", ref, payout))
		return err
	}, `SELECT c.ref, c.payout FROM settlement_capture c LEFT JOIN settlement_payout p ON p.id = c.payout
		WHERE c.payout <> '' AND p.id IS NULL ORDER BY c.ref`)
	return wrong, err
}
