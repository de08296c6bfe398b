package split

import (
	"fmt"
	"sync/atomic"

	"koala/calendar"
	"koala/internal/db"
	"koala/money"
)

// Tables is the step that makes the tables.
const Tables = `
	CREATE TABLE settlement_split (
		payee TEXT NOT NULL, since TEXT NOT NULL, -- a day
		no BIGINT NOT NULL,        -- of the share, from 1; 0: the one before ends, there are no shares
		receiver TEXT NOT NULL, fixed BIGINT NOT NULL, bp BIGINT NOT NULL, bearer TEXT NOT NULL,
		PRIMARY KEY (payee, since, no)) /*without rowid*/;
	CREATE TABLE settlement_share (
		ref TEXT NOT NULL, no BIGINT NOT NULL, -- the item is ref#no
		sale TEXT NOT NULL,        -- what is given back, or given again, is of; empty: it is a sale
		shop TEXT NOT NULL,        -- whose sale it is, and whose terms price it
		payee TEXT NOT NULL, fen BIGINT NOT NULL,
		rest BIGINT NOT NULL,      -- of a sale's: what is left of it; else: what was left of it before
		bears BOOLEAN NOT NULL,    -- the fee of the whole; none does: it is divided
		PRIMARY KEY (ref, no)) /*without rowid*/;
	CREATE INDEX settlement_share_sale ON settlement_share (sale, no) WHERE sale <> '';`

// A Dated is a standing split from a day on; one without shares ends another.
type Dated struct {
	Payee string
	Since calendar.Date
	Split
}

// Set keeps a standing split; one that begins on the same day is replaced.
func Set(tx *db.Tx, d Dated) error {
	if err := d.Standing(d.Payee); err != nil {
		return err
	}
	if b, ok := tx.Provided(bookKey{}).(*book); ok {
		b.forget()
	}
	if _, err := tx.Exec(`DELETE FROM settlement_split WHERE payee = $1 AND since = $2`, d.Payee, d.Since.String()); err != nil {
		return err
	}
	put := func(no int, x Share) error {
		_, err := tx.Exec(`INSERT INTO settlement_split (payee, since, no, receiver, fixed, bp, bearer) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			d.Payee, d.Since.String(), no, x.Payee, x.Fixed.Minor(), x.BP, d.Bearer)
		return err
	}
	if len(d.Shares) == 0 {
		return put(0, Share{})
	}
	for i, x := range d.Shares {
		if err := put(i+1, x); err != nil {
			return err
		}
	}
	return nil
}

// All reads the standing splits of a payee, oldest first.
func All(q db.Reader, payee string) (out []Dated, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var since, bearer string
		var no, fixed int64
		var x Share
		if err := scan(&since, &no, &x.Payee, &fixed, &x.BP, &bearer); err != nil {
			return err
		}
		day, err := calendar.Parse(since)
		if n := len(out); n == 0 || out[n-1].Since != day {
			out = append(out, Dated{Payee: payee, Since: day, Split: Split{Bearer: bearer}})
		}
		if no > 0 {
			x.Fixed = money.Fen(fixed)
			d := &out[len(out)-1]
			d.Shares = append(d.Shares, x)
		}
		return err
	}, `SELECT since, no, receiver, fixed, bp, bearer FROM settlement_split WHERE payee = $1 ORDER BY since, no`, payee)
	return out, err
}

// On is the standing split of a payee on a day; no shares: there is none.
func On(q db.Reader, payee string, day calendar.Date) (s Split, err error) {
	all, err := All(q, payee)
	for _, d := range all {
		if !day.Before(d.Since) {
			s = d.Split
		}
	}
	return s, err
}

// A book knows in memory who has a standing split, as it is durable. It is
// forgotten by the unit that sets one, whatever becomes of that, and read again
// by the next that asks: what an unfinished unit saw is never kept.
type book struct {
	version atomic.Int64
	names   atomic.Pointer[map[string]bool]
}

type bookKey struct{}

// Remember has the units of a store know who has a standing split without
// asking it each time. It is set before they run.
func Remember(store *db.Store) { store.Provide(bookKey{}, &book{}) }

func (b *book) forget() {
	b.version.Add(1)
	b.names.Store(nil)
}

// Having tells which payees have a standing split at some time: the others'
// sales are not divided, and need no further question.
func Having(tx *db.Tx) (func(payee string) (bool, error), error) {
	b, ok := tx.Provided(bookKey{}).(*book)
	if !ok {
		var some bool
		err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM settlement_split)`).Scan(&some)
		return func(payee string) (has bool, err error) {
			if some {
				err = tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM settlement_split WHERE payee = $1)`, payee).Scan(&has)
			}
			return has, err
		}, err
	}
	names := b.names.Load()
	if names == nil {
		version, read := b.version.Load(), map[string]bool{}
		err := db.Each(tx, func(scan func(...any) error) error {
			var payee string
			err := scan(&payee)
			read[payee] = true
			return err
		}, `SELECT DISTINCT payee FROM settlement_split ORDER BY payee`)
		if err != nil {
			return nil, err
		}
		names = &read
		tx.After(func() {
			if b.version.Load() == version {
				b.names.Store(&read)
			}
		})
	}
	return func(payee string) (bool, error) { return (*names)[payee], nil }, nil
}

// Has says whether a payee has a standing split at some time.
func Has(q db.Reader, payee string) (has bool, err error) {
	err = q.QueryRow(`SELECT EXISTS (SELECT 1 FROM settlement_split WHERE payee = $1)`, payee).Scan(&has)
	return has, err
}

// A Part is what one payee got of a divided sale, or gave back of it. Rest is
// what is left of a sale's part, or what was left of it before the others.
type Part struct {
	Payee     string
	Fen, Rest int64
	Bears     bool // the fee
}

// A Division is a divided item: a sale, or what takes it back or gives it again.
type Division struct {
	Ref, Sale, Shop string // Sale empty: it is one
	Parts           []Part
	Before          int64 // sum of Rest: of what takes a sale back, what was left of it before
}

// Read is what an item was divided into; no parts: it was not.
func Read(q db.Reader, ref string) (d Division, err error) {
	d.Ref = ref
	err = db.Each(q, func(scan func(...any) error) error {
		var p Part
		err := scan(&d.Sale, &d.Shop, &p.Payee, &p.Fen, &p.Rest, &p.Bears)
		d.Parts, d.Before = append(d.Parts, p), d.Before+p.Rest
		return err
	}, `SELECT sale, shop, payee, fen, rest, bears FROM settlement_share WHERE ref = $1 ORDER BY no`, ref)
	return d, err
}

// Keep keeps a new division. One that takes a sale back, or gives it again,
// changes what is left of the sale's parts, which are as many.
func Keep(tx *db.Tx, d Division) error {
	for i, p := range d.Parts {
		if _, err := tx.Exec(`INSERT INTO settlement_share (ref, no, sale, shop, payee, fen, rest, bears) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			d.Ref, i+1, d.Sale, d.Shop, p.Payee, p.Fen, p.Rest, p.Bears); err != nil {
			return err
		}
		if d.Sale == "" || p.Fen == 0 {
			continue
		}
		n, err := tx.Exec(`UPDATE settlement_share SET rest = rest + $1 WHERE ref = $2 AND no = $3 AND payee = $4`, p.Fen, d.Sale, i+1, p.Payee)
		if err == nil && n != 1 {
			err = ErrSplit
		}
		if err != nil {
			return fmt.Errorf("part %d of %s: %w", i+1, d.Sale, err)
		}
	}
	return nil
}

// Sum is what the parts sum to.
func (d *Division) Sum() (fen int64) {
	for _, p := range d.Parts {
		fen += p.Fen
	}
	return fen
}

// Shares is the division as a split whose shares are no longer said, with its
// parts: what each got.
func (d *Division) Shares() (s Split, parts []money.Amount) {
	for _, p := range d.Parts {
		s.Shares, parts = append(s.Shares, Share{Payee: p.Payee}), append(parts, money.Fen(max(p.Fen, -p.Fen)))
		if p.Bears {
			s.Bearer = p.Payee
		}
	}
	return s, parts
}

// Move divides an amount of a divided sale that is taken back (below zero) over
// what its parts have left, or one that is given again over what was taken.
func (d *Division) Move(ref string, fen int64) (Division, error) {
	s, _ := d.Shares()
	from := make([]money.Amount, len(d.Parts))
	for i, p := range d.Parts {
		if from[i] = money.Fen(p.Rest); fen > 0 {
			from[i] = money.Fen(p.Fen - p.Rest)
		}
	}
	parts, err := s.Undo(from, money.Fen(max(fen, -fen)))
	if err != nil {
		return Division{}, fmt.Errorf("%s of %s: %w", ref, d.Ref, err)
	}
	out := Division{Ref: ref, Sale: d.Ref, Shop: d.Shop, Parts: make([]Part, len(parts)), Before: d.Before}
	for i, p := range parts {
		n := p.Minor()
		if fen < 0 {
			n = -n
		}
		out.Parts[i] = Part{Payee: d.Parts[i].Payee, Fen: n, Rest: d.Parts[i].Rest, Bears: d.Parts[i].Bears && n != 0}
	}
	return out, nil
}

// New is the division of a sale by a standing split. One that bears the fee and
// gets nothing cannot: the fee is then divided.
func New(ref, payee string, s Split, sale money.Amount) Division {
	all, parts := s.Of(payee, sale)
	d := Division{Ref: ref, Shop: payee, Parts: make([]Part, len(parts))}
	for i, p := range parts {
		d.Parts[i] = Part{Payee: all.Shares[i].Payee, Fen: p.Minor(), Rest: p.Minor(), Bears: all.Shares[i].Payee == all.Bearer && !p.IsZero()}
	}
	return d
}

// Check says what does not add up in the divisions that are kept: each part is
// an item, nothing is left that was not got, and the parts bear the whole fee.
func Check(q db.Reader) (wrong []string, err error) {
	for _, c := range []struct{ text, sql string }{
		{"part %s is not the item that was captured", `SELECT s.ref || '#' || s.no AS part FROM settlement_share s LEFT JOIN settlement_item i ON i.ref = s.ref || '#' || s.no
			WHERE s.fen <> 0 AND (i.ref IS NULL OR i.fen <> s.fen OR i.payee <> s.payee) ORDER BY 1`},
		{"what is left of part %s is not what it got less what it gave back", `SELECT s.ref || '#' || s.no AS part
			FROM settlement_share s LEFT JOIN settlement_share b ON b.sale <> '' AND b.sale = s.ref AND b.no = s.no WHERE s.sale = ''
			GROUP BY s.ref, s.no, s.fen, s.rest HAVING s.fen + COALESCE(SUM(b.fen), 0) <> s.rest OR s.rest < 0 OR s.rest > s.fen ORDER BY 1`},
		{"the parts of %s do not bear the fee of the whole", `SELECT s.ref AS part FROM settlement_share s JOIN settlement_item i ON i.ref = s.ref || '#' || s.no WHERE i.card <> ''
			GROUP BY s.ref HAVING SUM(i.share) <> MAX(i.whole) OR MAX(i.whole) <> MIN(i.whole) ORDER BY 1`},
	} {
		err := db.Each(q, func(scan func(...any) error) error {
			var part string
			err := scan(&part)
			wrong = append(wrong, fmt.Sprintf(c.text, part))
			return err
		}, c.sql)
		if err != nil {
			return wrong, err
		}
	}
	return wrong, nil
}
