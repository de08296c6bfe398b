package db

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

var background = context.Background()

func itoa(n int) string { return strconv.Itoa(n) }

// A fence is the row that says who writes and which batch was the last. Every
// batch moves it in its own transaction, so a second writer is noticed by the
// first of the two that commits late, and a lost answer can be settled.
type fence struct {
	epoch, seq int64
	leading    bool  // the epoch is ours
	stale      bool  // memory must be loaded again before the next batch
	dead       error // another writer took over
}

// The fence row. A batch that finds another epoch or sequence writes NULL,
// which the column refuses: so the statement needs no answer before the commit
// that is sent together with it.
const (
	makeFence = `CREATE TABLE IF NOT EXISTS db_writer (
		id BIGINT PRIMARY KEY, epoch BIGINT NOT NULL, last_seq BIGINT NOT NULL)`
	firstFence = `INSERT INTO db_writer (id, epoch, last_seq) VALUES (1, 0, 0) ON CONFLICT (id) DO NOTHING`
	readFence  = `SELECT epoch, last_seq FROM db_writer WHERE id = 1`
	takeFence  = `UPDATE db_writer SET epoch = $2 WHERE id = 1 AND epoch = $1`
	moveFence  = `UPDATE db_writer
		SET last_seq = CASE WHEN epoch = $1 AND last_seq = $2 THEN CAST($3 AS BIGINT) ELSE NULL END
		WHERE id = 1`
)

// prepare makes the fence if it is missing and reads where it stands. It does
// not take the lead: a program that only reads must not stop the one that
// writes.
func (w *writer) prepare() error {
	err := w.readFence()
	if err == nil {
		return nil
	}
	if !errors.Is(err, ErrSQL) && !errors.Is(err, ErrNoRows) {
		return err
	}
	if err := w.conn.script(background, makeFence+";"+firstFence); err != nil {
		return w.conn.place(err)
	}
	return w.readFence()
}

func (w *writer) readFence() error {
	res, err := w.conn.query(background, readFence, nil)
	if err != nil {
		return w.conn.place(err)
	}
	return firstRow(res, nil).Scan(&w.epoch, &w.seq)
}

// lead makes this process the one that writes, before its first batch, and
// after a failure loads the participant again.
func (w *writer) lead() error {
	if w.dead != nil {
		return w.dead
	}
	if err := w.reload(); err != nil {
		return err
	}
	if w.leading {
		return nil
	}
	seen := w.seq
	if err := w.readFence(); err != nil {
		return err
	}
	n, err := w.conn.exec(takeFence, []any{w.epoch, w.epoch + 1})
	if err != nil {
		return w.conn.place(err)
	}
	if n == 0 {
		return fmt.Errorf("taking the lead on %s: %w", w.s.Place(), ErrBusy)
	}
	w.epoch++
	w.leading = true
	if err := w.readFence(); err != nil {
		return err
	}
	if w.seq != seen { // somebody wrote since this process loaded its state
		w.stale = true
		return w.reload()
	}
	return nil
}

// reconnect makes a new connection and reads what became of the fence, which a
// batch whose answer was lost may have moved.
func (w *writer) reconnect() error {
	w.stale = true
	w.conn.close()
	c, err := w.s.eng.connect(background, writing)
	if err != nil {
		return err
	}
	epoch := w.epoch
	w.conn = c
	if err := w.readFence(); err != nil {
		c.close() // to be tried again from the start
		return err
	}
	if w.leading && w.epoch != epoch {
		w.dead = fmt.Errorf("%s: %w", w.s.Place(), ErrTaken)
		return w.dead
	}
	return nil
}

// settled asks on a fresh connection whether the batch in doubt is in.
func (w *writer) settled() (bool, error) {
	before := w.seq
	if err := w.reconnect(); err != nil {
		return false, err
	}
	if w.seq == before+1 {
		w.seq, w.stale = before, false // committed counts on
		return true, nil
	}
	return false, nil
}
