package db

import (
	"errors"
	"strings"
	"time"
)

// A Tx is one unit of work inside the writer. A statement that fails fails the
// unit: what follows in it is not run.
type Tx struct {
	w         *writer
	u         *unit
	now       time.Time
	savepoint bool
	wrote     bool
	failed    error // of the first statement that failed
	batchErr  error // the failure took the whole transaction with it
}

func (tx *Tx) reset(u *unit) {
	u.after = u.after[:0]
	*tx = Tx{w: tx.w, u: u}
}

// Now is the time of the unit, the same at every call, in UTC microseconds.
func (tx *Tx) Now() time.Time {
	if tx.now.IsZero() {
		tx.now = tx.w.s.cfg.Clock.Now().UTC().Truncate(time.Microsecond)
	}
	return tx.now
}

// NewID returns prefix, an underline and 24 letters and digits that sort by
// time of making and are never given twice.
func (tx *Tx) NewID(prefix string) string { return tx.w.ids.next(prefix, tx.Now()) }

// NewSeq returns a number for rows that are read in the order of their commit:
// it is higher than that of every unit that was durable before, also after a
// restart, and lower than that of every unit to come. There are gaps.
func (tx *Tx) NewSeq() int64 {
	tx.w.numbers++
	if tx.w.numbers == 1<<seqBits {
		panic("db: too many numbers in one batch")
	}
	return (tx.w.seq+1)<<seqBits | tx.w.numbers
}

// seqBits are the bits of NewSeq that count within a batch; the others are the
// batch's sequence, which the fence keeps.
const seqBits = 20

// Provided returns what the program gave the store under key with Provide, or
// nil: how a package finds its own live part from inside a unit.
func (tx *Tx) Provided(key any) any {
	v, _ := tx.w.s.provided.Load(key)
	return v
}

// Ledger returns the attached participant, or nil.
func (tx *Tx) Ledger() Participant {
	if _, none := tx.w.part.(nobody); none {
		return nil
	}
	return tx.w.part
}

// After runs f once the unit is durable, before its caller is answered: f
// publishes, it must be short and must not wait.
func (tx *Tx) After(f func()) { tx.u.after = append(tx.u.after, f) }

// Exec runs a statement and returns how many rows it changed.
func (tx *Tx) Exec(sql string, args ...any) (int64, error) {
	if err := tx.start(args); err != nil {
		return 0, err
	}
	n, err := tx.w.conn.exec(sql, args)
	if err != nil {
		return 0, tx.fail(err)
	}
	tx.wrote = tx.wrote || n > 0
	return n, nil
}

// QueryRow returns the first row; the unit sees its own changes.
func (tx *Tx) QueryRow(sql string, args ...any) Row {
	res, err := tx.query(sql, args)
	return firstRow(res, err)
}

// Rows returns all rows; the unit sees its own changes.
func (tx *Tx) Rows(sql string, args ...any) (*Rows, error) {
	res, err := tx.query(sql, args)
	if err != nil {
		return nil, err
	}
	return &Rows{res: res}, nil
}

func (tx *Tx) query(sql string, args []any) (*result, error) {
	if err := tx.start(args); err != nil {
		return nil, err
	}
	res, err := tx.w.conn.query(background, sql, args)
	if err != nil {
		return nil, tx.fail(err)
	}
	if !tx.wrote && !strings.HasPrefix(strings.TrimLeft(sql, " \n\t"), "SELECT") {
		tx.wrote = true // INSERT … RETURNING, or WITH in front of it
	}
	return res, nil
}

// start opens the transaction and the unit's savepoint at its first statement.
func (tx *Tx) start(args []any) error {
	if tx.failed != nil {
		return tx.failed
	}
	for _, a := range args {
		tx.w.sends += size(a)
	}
	if tx.savepoint {
		return nil
	}
	if err := tx.w.begin(); err != nil {
		tx.failed, tx.batchErr = err, err
		return err
	}
	if err := tx.w.conn.later(setSavepoint, nil); err != nil {
		return tx.fail(err)
	}
	tx.savepoint = true
	return nil
}

// fail remembers the first error, and whether it ended the transaction.
func (tx *Tx) fail(err error) error {
	err = tx.w.placed(err)
	tx.failed = err
	if !errors.Is(err, ErrSQL) && !errors.Is(err, ErrValue) {
		tx.batchErr = err
	}
	return err
}

func size(arg any) int {
	switch v := arg.(type) {
	case string:
		return len(v)
	case []byte:
		return len(v)
	}
	return 8
}

// A rowset gathers the rows that the units of a batch append to one table.
type rowset struct {
	table, cols string
	width       int
	vals        []any
	mark        int            // length before the unit in progress
	touched     bool           // by the unit in progress
	texts       map[int]string // statements by their number of rows
}

// Append adds a row that no statement of a unit reads back: it is written with
// the rows of the other units, many to a statement, when the batch ends, and
// goes if the unit fails. cols names the columns, separated by commas. The
// table is for Read; a unit of the same batch does not see the row.
func (tx *Tx) Append(table, cols string, values ...any) error {
	if tx.failed != nil {
		return tx.failed
	}
	set := tx.w.rowset(table, cols, len(values))
	if !set.touched {
		set.touched, set.mark = true, len(set.vals)
	}
	for _, v := range values {
		p, err := plain(v)
		if err != nil {
			tx.failed = err
			return err
		}
		tx.w.sends += size(p)
		set.vals = append(set.vals, p)
	}
	return nil
}

func (w *writer) rowset(table, cols string, width int) *rowset {
	for _, r := range w.rowsets {
		if r.table == table && r.cols == cols && r.width == width {
			return r
		}
	}
	r := &rowset{table: table, cols: cols, width: width, texts: map[int]string{}}
	w.rowsets = append(w.rowsets, r)
	return r
}

// forget drops the rows of the unit in progress; keep lets them stand.
func (w *writer) forget() {
	for _, r := range w.rowsets {
		if r.touched {
			clear(r.vals[r.mark:])
			r.vals, r.touched = r.vals[:r.mark], false
		}
	}
}

func (w *writer) keep() {
	for _, r := range w.rowsets {
		r.touched = false
	}
}

func (w *writer) rowsWaiting() bool {
	for _, r := range w.rowsets {
		if len(r.vals) > 0 {
			return true
		}
	}
	return false
}

func (w *writer) clearRows() {
	for _, r := range w.rowsets {
		clear(r.vals)
		r.vals, r.touched = r.vals[:0], false
	}
}

// rowChunks are how many rows one INSERT takes, largest first: few sizes, so
// that each is prepared once. 50 rows was measured best on SQLite.
var rowChunks = [...]int{50, 10, 1}

// sendRows writes the appended rows.
func (w *writer) sendRows() error {
	for _, r := range w.rowsets {
		left := r.vals
		for _, n := range rowChunks {
			for step := n * r.width; step > 0 && len(left) >= step; left = left[step:] {
				if err := w.conn.later(r.insert(n), left[:step]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// insert is the statement for n rows.
func (r *rowset) insert(n int) string {
	if text, made := r.texts[n]; made {
		return text
	}
	var b strings.Builder
	b.WriteString("INSERT INTO " + r.table + " (" + r.cols + ") VALUES ")
	for i := range n * r.width {
		switch {
		case i == 0:
			b.WriteString("(")
		case i%r.width == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		b.WriteString("$" + itoa(i+1))
	}
	b.WriteString(")")
	r.texts[n] = b.String()
	return r.texts[n]
}
