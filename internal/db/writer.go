package db

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// The limits of the writer.
const (
	defaultQueue = 16_384  // units waiting
	maxUnits     = 8_192   // units in one batch
	maxBytes     = 1 << 20 // bytes of arguments in one batch
)

// yields is how often the writer lets others run before it takes what is
// queued: who was just answered often has the next unit ready, and a batch that
// misses them costs one more flush. It is no wait: with nobody else to run it
// takes less than a microsecond. Measured, 3 fill the batches of 64 callers.
const yields = 3

// A unit is one caller's function on its way through the writer.
type unit struct {
	fn    func(*Tx) error
	err   error
	state atomic.Int32  // waiting, then running or given up
	done  chan struct{} // one token when err is final
	after []func()
}

const (
	waiting int32 = iota
	running
	givenUp // its caller left before the writer came: it does not run
)

var units = sync.Pool{New: func() any { return &unit{done: make(chan struct{}, 1)} }}

// A writer owns the one connection that writes. Except for the queue,
// everything in it belongs to its goroutine, or inline to who holds turn.
type writer struct {
	s *Store

	mu      sync.Mutex
	queue   []*unit
	closing bool

	wake    chan struct{} // one token: there is something to do
	stopped chan struct{}
	turn    sync.Mutex // inline only

	conn conn
	part Participant
	tx   Tx
	ids  ids
	pending,
	spare []*unit // taken from the queue and not yet written; room for the next take
	live []*unit // the units of the batch in progress

	open    bool  // a transaction was begun
	flushed bool  // the participant's record is in it
	wrote   bool  // and there is something in it to keep
	numbers int64 // given by NewSeq in this batch
	sends   int   // bytes of arguments in this batch
	rowsets []*rowset
	exec    Exec

	fence
}

func newWriter(ctx context.Context, s *Store) (*writer, error) {
	w := &writer{s: s, wake: make(chan struct{}, 1), stopped: make(chan struct{}), part: nobody{}}
	w.tx.w, w.exec = w, w.later
	w.ids.from = s.cfg.Rand
	c, err := s.eng.connect(ctx, writing)
	if err != nil {
		return nil, err
	}
	w.conn = c
	if err := w.prepare(); err != nil {
		c.close()
		return nil, err
	}
	if s.cfg.Inline {
		close(w.stopped)
	} else {
		go w.loop()
	}
	return w, nil
}

// Write queues f as one unit of work and returns when it is durable, or with
// what stopped it, and then nothing of it is there. f may be run again from
// its start, must not wait for anything and must not call Write. When ctx ends
// before f began, f does not run.
func (s *Store) Write(ctx context.Context, f func(tx *Tx) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("before the unit of work: %w", err)
	}
	if s.cfg.Inline {
		return s.w.inline(f)
	}
	u := units.Get().(*unit)
	u.fn, u.err = f, nil
	u.state.Store(waiting)
	if err := s.w.push(u); err != nil {
		u.fn = nil
		units.Put(u)
		return err
	}
	select {
	case <-u.done:
	case <-ctx.Done():
		if u.state.CompareAndSwap(waiting, givenUp) {
			return fmt.Errorf("before the unit of work: %w", ctx.Err())
		}
		<-u.done // it is running: the answer is near, and must be the true one
	}
	err := u.err
	u.fn = nil
	units.Put(u)
	return err
}

func (w *writer) push(u *unit) error {
	w.mu.Lock()
	switch {
	case w.closing:
		w.mu.Unlock()
		return ErrClosed
	case len(w.queue) >= w.s.cfg.Queue:
		w.mu.Unlock()
		return ErrBusy
	}
	w.queue = append(w.queue, u)
	first := len(w.queue) == 1
	w.mu.Unlock()
	if first {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

func (w *writer) inline(f func(*Tx) error) error {
	w.turn.Lock()
	defer w.turn.Unlock()
	if w.closing {
		return ErrClosed
	}
	u := &unit{fn: f, done: make(chan struct{}, 1)}
	w.live = append(w.live[:0], u)
	w.run()
	w.s.eng.tend(w.conn)
	return u.err
}

// loop takes what is queued, without any timer: the commit in flight is the
// time in which the next batch gathers.
func (w *writer) loop() {
	closed := false
	defer func() {
		if closed {
			close(w.stopped)
			return
		}
		w.orphaned() // a unit ended the goroutine (runtime.Goexit, as t.FailNow does)
		go w.loop()
	}()
	for {
		for range yields {
			runtime.Gosched()
		}
		if len(w.pending) == 0 && !w.take() {
			closed = true
			return
		}
		w.nextBatch()
		w.run()
		w.s.eng.tend(w.conn)
	}
}

// take waits for units; false when the store closes and none are left.
func (w *writer) take() bool {
	for {
		w.mu.Lock()
		if len(w.queue) > 0 {
			w.pending, w.queue, w.spare = w.queue, w.spare[:0], w.pending[:0]
			w.mu.Unlock()
			return true
		}
		closing := w.closing
		w.mu.Unlock()
		if closing {
			return false
		}
		<-w.wake
	}
}

// nextBatch moves the first units of pending to live.
func (w *writer) nextBatch() {
	w.live = w.live[:0]
	n := min(len(w.pending), maxUnits)
	for _, u := range w.pending[:n] {
		if u.state.CompareAndSwap(waiting, running) {
			w.live = append(w.live, u)
		}
	}
	rest := copy(w.pending, w.pending[n:])
	clear(w.pending[rest:])
	w.pending = w.pending[:rest]
}

// run makes the live units durable and answers them. Units beyond the byte
// limit of one transaction go into the next.
func (w *writer) run() {
	for batch := w.live; len(batch) > 0; {
		n, err := w.attempt(batch)
		switch {
		case err == nil:
		case n > 1 && errors.Is(err, errAlone):
			// One unit's rows were refused at the end of the batch: each runs
			// again by itself, so that only that unit fails.
			for i := range n {
				_, err := w.attempt(batch[i : i+1])
				w.answer(batch[i:i+1], err)
			}
			batch = batch[n:]
			continue
		}
		w.answer(batch[:n], err)
		batch = batch[n:]
	}
	w.live = w.live[:0]
}

// answer tells the callers. After err, no unit keeps an outcome of its own:
// it was computed on a state that is gone.
func (w *writer) answer(batch []*unit, err error) {
	in := err == nil || errors.Is(err, errLostAnswer)
	for _, u := range batch {
		if in && u.err == nil {
			for _, f := range u.after {
				f()
			}
		}
		clear(u.after)
		u.after = u.after[:0]
		if err != nil {
			u.err = err
		}
	}
	for i, u := range batch {
		batch[i] = nil
		u.done <- struct{}{}
	}
}

// orphaned answers the units of a batch whose goroutine was ended by one.
func (w *writer) orphaned() {
	err := w.abort(fmt.Errorf("%w: a unit ended the writer's goroutine", ErrPanic))
	for _, u := range w.live {
		if u != nil {
			u.err, u.after = err, u.after[:0]
			u.done <- struct{}{}
		}
	}
	w.live = w.live[:0]
}

func (w *writer) close() error {
	if w.s.cfg.Inline {
		w.turn.Lock()
		defer w.turn.Unlock()
	}
	w.mu.Lock()
	again := w.closing
	w.closing = true
	w.mu.Unlock()
	if again {
		return nil
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
	<-w.stopped
	return w.conn.close()
}

func (w *writer) attach(p Participant) {
	if _, free := w.part.(nobody); !free {
		panic("db: a second participant")
	}
	w.part = p
}
