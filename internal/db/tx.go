package db

import (
	"errors"
	"slices"
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
	if err := tx.start(args, false); err != nil {
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
	reads := strings.HasPrefix(strings.TrimLeft(sql, " \n\t"), "SELECT") // and not INSERT … RETURNING, or WITH in front of it
	if err := tx.start(args, reads); err != nil {
		return nil, err
	}
	res, err := tx.w.conn.query(background, sql, args)
	if err != nil {
		return nil, tx.fail(err)
	}
	tx.wrote = tx.wrote || !reads
	return res, nil
}

// start opens the transaction at the unit's first statement, and its savepoint
// at the first that there may be something to undo of. PostgreSQL goes on after
// a failed statement only from a savepoint, a reading one too.
func (tx *Tx) start(args []any, reads bool) error {
	if tx.failed != nil {
		return tx.failed
	}
	for _, a := range args {
		tx.w.sends += size(a)
	}
	if err := tx.w.begin(); err != nil {
		tx.failed, tx.batchErr = err, err
		return err
	}
	if tx.savepoint || reads && tx.w.s.Embedded() {
		return nil
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
	verb, table, cols string
	width             int
	vals              []any
	mark              int            // length before the unit in progress
	touched           bool           // by the unit in progress
	texts             map[int]string // statements by their number of rows
	// Of kept rows: where each key's row begins in vals, and what the unit in
	// progress has written over.
	keys map[string]int
	over []any
}

// Append adds a row that no statement of a unit reads back: it is written with
// the rows of the other units, many to a statement, when the batch ends, and
// goes if the unit fails. cols names the columns, separated by commas. The
// table is for Read; a unit of the same batch does not see the row.
func (tx *Tx) Append(table, cols string, values ...any) error {
	if tx.failed != nil {
		return tx.failed
	}
	return tx.add(tx.w.rowset(table, cols, len(values), false), values)
}

// Written makes sure that a row, if there is one, can be read: of a table that
// rows are appended to, by its first columns, texts and numbers. Where an earlier unit
// of the batch has appended it, the unit ends here with an error and is run again
// in the next batch, when the row is durable.
func (tx *Tx) Written(table string, first ...any) error {
	if tx.failed != nil {
		return tx.failed
	}
	for i, v := range first {
		p, err := plain(v)
		if err != nil {
			tx.failed = err
			return err
		}
		first[i] = p
	}
	for _, r := range tx.w.rowsets {
		if r.table == table && r.keys == nil && r.has(first) {
			tx.failed = errNext
			return errNext
		}
	}
	return nil
}

// has says whether an earlier unit has appended a row that begins like this.
func (r *rowset) has(first []any) bool {
	end := len(r.vals)
	if r.touched {
		end = r.mark
	}
	for at := 0; at < end; at += r.width {
		if slices.Equal(r.vals[at:at+len(first)], first) {
			return true
		}
	}
	return false
}

// Keep writes a row whole, over the one of the same key if there is one: with
// the rows that are appended, so that no statement reads it back in this batch,
// but Kept does. The first column is the key, a text. A table that is kept is
// written in no other way.
func (tx *Tx) Keep(table, cols, key string, values ...any) error {
	if tx.failed != nil {
		return tx.failed
	}
	set := tx.w.rowset(table, cols, len(values)+1, true)
	from, again := set.keys[key]
	if !again {
		from = len(set.vals)
		if err := tx.add(set, append([]any{key}, values...)); err != nil {
			return err
		}
		set.keys[key] = from
		return nil
	}
	set.touch()
	row := set.vals[from : from+set.width]
	if from < set.mark { // an earlier unit's
		set.over = append(append(set.over, from), row...)
	}
	for i, v := range values {
		p, err := plain(v)
		if err != nil {
			tx.failed = err
			return err
		}
		row[i+1] = p
	}
	return nil
}

// Kept gives the values, without the key, that a unit of this batch has kept:
// what the table will have. The slice must not be changed.
func (tx *Tx) Kept(table, cols, key string) (values []any, ok bool) {
	for _, r := range tx.w.rowsets {
		if r.keys != nil && r.table == table && r.cols == cols {
			from, ok := r.keys[key]
			if !ok {
				return nil, false
			}
			return r.vals[from+1 : from+r.width], true
		}
	}
	return nil, false
}

// add puts the values of one row behind the others.
func (tx *Tx) add(set *rowset, values []any) error {
	set.touch()
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

func (r *rowset) touch() {
	if !r.touched {
		r.touched, r.mark = true, len(r.vals)
	}
}

func (w *writer) rowset(table, cols string, width int, kept bool) *rowset {
	for _, r := range w.rowsets {
		if r.table == table && r.cols == cols && r.width == width && kept == (r.keys != nil) {
			return r
		}
	}
	r := &rowset{verb: "INSERT INTO ", table: table, cols: cols, width: width, texts: map[int]string{}}
	if kept {
		r.keys = map[string]int{}
	}
	if w.s.Embedded() {
		// A refused row ends the batch anyway; without the word SQLite would keep
		// copies of pages to undo this statement alone.
		r.verb = "INSERT OR ROLLBACK INTO "
	}
	w.rowsets = append(w.rowsets, r)
	return r
}

// forget drops the rows of the unit in progress; keep lets them stand.
func (w *writer) forget() {
	for _, r := range w.rowsets {
		if !r.touched {
			continue
		}
		for end := len(r.over); end > 0; end -= r.width + 1 { // the oldest last
			was := r.over[end-r.width-1 : end]
			copy(r.vals[was[0].(int):], was[1:])
		}
		if r.keys != nil {
			for at := r.mark; at < len(r.vals); at += r.width {
				delete(r.keys, r.vals[at].(string))
			}
		}
		clear(r.vals[r.mark:])
		r.vals = r.vals[:r.mark]
		r.settle()
	}
}

func (w *writer) keep() {
	for _, r := range w.rowsets {
		r.settle()
	}
}

// settle ends the unit in progress.
func (r *rowset) settle() {
	clear(r.over)
	r.over, r.touched = r.over[:0], false
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
		clear(r.keys)
		r.vals = r.vals[:0]
		r.settle()
	}
}

// rowChunks are how many rows one INSERT takes, largest first: few sizes, so
// that each is prepared once. 50 rows was measured best on SQLite.
var rowChunks = [...]int{64, 32, 16, 8, 4, 2, 1}

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
	b.WriteString(r.verb + r.table + " (" + r.cols + ") VALUES ")
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
	if r.keys != nil {
		key, others, _ := strings.Cut(r.cols, ", ")
		b.WriteString(" ON CONFLICT (" + key + ") DO UPDATE SET ")
		for i, c := range strings.Split(others, ", ") {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(c + " = excluded." + c)
		}
	}
	r.texts[n] = b.String()
	return r.texts[n]
}
