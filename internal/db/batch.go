package db

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"koala/internal/fail"
)

// A Participant keeps state in memory that must be in step with the rows: the
// ledger. Its methods are called by the writer only, one at a time.
type Participant interface {
	BeginUnit()
	EndUnit(ok bool) // not ok: forget what the unit did
	// Flush writes what the batch did, inside its transaction. A statement's
	// count is not known before the commit; a refused one undoes the batch.
	Flush(exec Exec) error
	Committed()     // what was flushed is durable
	Aborted() error // forget everything and load it again from the store
	Dirty() bool    // there is something to flush
}

// Exec sends a statement with the batch.
type Exec func(sql string, args ...any) error

// nobody takes part when no participant is attached.
type nobody struct{}

func (nobody) BeginUnit()       {}
func (nobody) EndUnit(bool)     {}
func (nobody) Flush(Exec) error { return nil }
func (nobody) Committed()       {}
func (nobody) Aborted() error   { return nil }
func (nobody) Dirty() bool      { return false }

// What may have become of a batch whose transaction ended with an error, and of
// a unit that has to see the rows of the batch (Tx.Written).
var (
	errAlone   = errors.New("refused with the rows of the whole batch")
	errAgain   = errors.New("the database asks to try again") // 40001, 40P01, or the connection was lost before the commit
	errInDoubt = errors.New("the answer to the commit was lost")
	errNext    = errors.New("the unit runs again in the next batch")
)

// maxTries bounds how often a batch is tried while the server refuses or is
// away; the pause before try n is n times retryPause.
const (
	maxTries   = 5
	retryPause = 40 * time.Millisecond
)

// attempt runs the first units of batch, as many as fit into one transaction,
// commits, and says how many they were. With an error none of them are in,
// unless it is ErrUnknown.
func (w *writer) attempt(batch []*unit) (n int, err error) {
	for try := 1; ; try++ {
		n, err = w.once(batch)
		if err == nil {
			return n, nil
		}
		again := errors.Is(err, errAgain) || errors.Is(err, errInDoubt)
		if !again || try == maxTries {
			return n, err
		}
		time.Sleep(time.Duration(try) * retryPause)
	}
}

func (w *writer) once(batch []*unit) (n int, err error) {
	if err := w.lead(); err != nil {
		return len(batch), err
	}
	if n, err = w.transact(batch); err == nil {
		return n, nil
	}
	if errors.Is(err, errInDoubt) {
		switch in, e := w.settled(); {
		case e != nil: // not tried again: it may be in
			return n, w.abort(fmt.Errorf("%w: %w", ErrUnknown, e))
		case in:
			w.committed()
			return n, nil
		}
	}
	return n, w.abort(err)
}

// transact runs units until the batch is full and commits them.
func (w *writer) transact(batch []*unit) (n int, err error) {
	w.open, w.wrote, w.sends, w.numbers = false, false, 0, 0
	for n < len(batch) && w.sends < maxBytes {
		u := batch[n]
		n++
		if err := w.unit(u); err != nil {
			return n, err // not the unit's own failure: the transaction is gone
		}
		if u.err == errNext { // it begins the next batch: there are units before it
			n--
			break
		}
	}
	switch {
	case w.part.Dirty() || w.rowsWaiting():
	case w.wrote:
	case w.open: // only reads, or only units that failed
		w.open = false
		if err := w.conn.rollback(); err != nil {
			return n, w.conn.place(err)
		}
		return n, nil
	default:
		return n, nil
	}
	return n, w.commit()
}

// unit runs one unit between the participant's marks and its savepoint. The
// error it returns is about the batch; the unit's own is in u.err.
func (w *writer) unit(u *unit) error {
	tx := &w.tx
	tx.reset(u)
	w.part.BeginUnit()
	u.err = tx.call()
	if u.err == nil || tx.failed == errNext {
		u.err = tx.failed
	}
	w.part.EndUnit(u.err == nil)
	if u.err == nil {
		w.wrote = w.wrote || tx.wrote
		w.keep()
		if !tx.savepoint {
			return nil
		}
		return w.placed(w.conn.later(releaseSavepoint, nil))
	}
	w.forget()
	u.after = u.after[:0]
	if tx.batchErr != nil {
		return tx.batchErr
	}
	if !tx.savepoint {
		return nil
	}
	if err := w.conn.later(toSavepoint, nil); err != nil {
		return w.placed(err)
	}
	return w.placed(w.conn.later(releaseSavepoint, nil))
}

const (
	setSavepoint     = `SAVEPOINT unit`
	releaseSavepoint = `RELEASE SAVEPOINT unit`
	toSavepoint      = `ROLLBACK TO SAVEPOINT unit`
)

// commit sends what the units left for the end and the participant's record,
// and commits.
func (w *writer) commit() error {
	if err := w.begin(); err != nil {
		return err
	}
	err := w.sendRows()
	if w.flushed = w.part.Dirty(); w.flushed && err == nil {
		if err = w.part.Flush(w.exec); err != nil && !placed(err) {
			err = fmt.Errorf("%w: %w", ErrNotSaved, err) // the participant's own trouble
		}
	}
	if err != nil {
		return w.weighEnd(err)
	}
	seq := w.seq + 1
	if f := w.s.cfg.Faults; f != nil {
		if err := f.BeforeCommit(seq); err != nil {
			return fmt.Errorf("%w: before the commit of batch %d: %w", ErrNotSaved, seq, err)
		}
	}
	if err := w.conn.commit(); err != nil {
		return w.weighEnd(err)
	}
	w.committed()
	if f := w.s.cfg.Faults; f != nil {
		if err := f.AfterCommit(seq); err != nil {
			return fmt.Errorf("%w: after the commit of batch %d: %w", errLostAnswer, seq, err)
		}
	}
	return nil
}

// errLostAnswer marks the injected loss of an answer: the batch is in.
var errLostAnswer = fmt.Errorf("injected: %w", ErrUnknown)

func (w *writer) committed() {
	w.open = false
	w.seq++
	w.clearRows()
	if w.flushed {
		w.part.Committed()
	}
}

// begin opens the batch's transaction at its first statement and moves the
// fence, so that a writer that was taken over stops before it does anything.
func (w *writer) begin() error {
	if w.open {
		return nil
	}
	if err := w.conn.begin(); err != nil {
		return w.placed(err)
	}
	w.open = true
	return w.placed(w.conn.later(moveFence, []any{w.epoch, w.seq, w.seq + 1}))
}

// later is the participant's Exec.
func (w *writer) later(sql string, args ...any) error { return w.placed(w.conn.later(sql, args)) }

// abort undoes the batch and loads the participant again; err is returned as
// the callers shall see it.
func (w *writer) abort(err error) error {
	if errors.Is(err, errLostAnswer) {
		return err
	}
	if w.open {
		w.open = false
		if e := w.conn.rollback(); e != nil && !w.conn.lost() {
			w.conn.close() // a connection that cannot even roll back
		}
	}
	w.clearRows()
	if errors.Is(err, ErrTaken) {
		w.dead = err
	}
	w.stale = true // lead loads it again before the next batch
	if e := w.reload(); e != nil && !errors.Is(e, fail.Of(err)) {
		err = fmt.Errorf("%w (and then: %w)", err, e)
	}
	if fail.Of(err) == fail.ErrUnknown {
		err = fmt.Errorf("%w: %w", ErrNotSaved, err)
	}
	return err
}

// placed names what went wrong and where.
func (w *writer) placed(err error) error {
	if err == nil {
		return nil
	}
	return w.conn.place(err)
}

// weighEnd does the same for what is sent at the end of a batch: a refused row
// there is some unit's fault, and it shows whose when each runs alone.
func (w *writer) weighEnd(err error) error {
	err = w.conn.place(err)
	if errors.Is(err, ErrSQL) && !errors.Is(err, ErrTaken) {
		return fmt.Errorf("%w: %w", errAlone, err)
	}
	return err
}

// reload makes the connection and the participant's memory good again.
func (w *writer) reload() error {
	if w.conn.lost() {
		if err := w.reconnect(); err != nil {
			return err
		}
	}
	if !w.stale {
		return nil
	}
	if err := w.part.Aborted(); err != nil {
		return fmt.Errorf("loading the state again: %w", err)
	}
	w.stale = false
	return nil
}

// call runs the unit's function; a panic becomes an error that names where.
func (tx *Tx) call() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %v at %s", ErrPanic, v, panicked())
		}
	}()
	return tx.u.fn(tx)
}

// panicked names the innermost function outside the runtime and this package's
// recovery.
func panicked() string {
	pc := make([]uintptr, 32)
	frames := runtime.CallersFrames(pc[:runtime.Callers(3, pc)])
	for {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, "runtime.") {
			return fmt.Sprintf("%s:%d", f.Function, f.Line)
		}
		if !more {
			return "unknown"
		}
	}
}
