package outbox

import (
	"context"
	"errors"
)

// A Listener gets events as they become durable. When it falls too far behind,
// C is closed: ask After for what came since.
type Listener struct {
	C   <-chan Event
	c   chan Event
	out *Outbox
}

// Listen begins with the next event. Close the listener when done.
func (o *Outbox) Listen() *Listener {
	c := make(chan Event, backlog)
	l := &Listener{C: c, c: c, out: o}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.live[l] = struct{}{}
	return l
}

// Close ends the listening.
func (l *Listener) Close() {
	l.out.mu.Lock()
	defer l.out.mu.Unlock()
	l.out.drop(l)
}

// drop is called with the lock held.
func (o *Outbox) drop(l *Listener) {
	if _, in := o.live[l]; in {
		delete(o.live, l)
		close(l.c)
	}
}

// publish runs in the writer: it never waits.
func (o *Outbox) publish(e Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for l := range o.live {
		select {
		case l.c <- e:
		default:
			o.drop(l)
		}
	}
}

// errBehind says that a listener was dropped and has to read on.
var errBehind = errors.New("outbox: behind")

// Follow calls f for every event after seq, in order and without a gap, first
// from the table and then live, until ctx ends or f fails; the error says which.
func (o *Outbox) Follow(ctx context.Context, seq int64, f func(Event) error) error {
	for {
		err := o.follow(ctx, &seq, f)
		if !errors.Is(err, errBehind) {
			return err
		}
	}
}

// follow listens first and then reads, so that nothing falls between.
func (o *Outbox) follow(ctx context.Context, seq *int64, f func(Event) error) error {
	l := o.Listen()
	defer l.Close()
	for {
		page, err := o.After(ctx, *seq, MaxPage)
		if err != nil {
			return err
		}
		for _, e := range page {
			if err := f(e); err != nil {
				return err
			}
			*seq = e.Seq
		}
		if len(page) < MaxPage {
			break
		}
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, open := <-l.C:
			switch {
			case !open:
				return errBehind
			case e.Seq <= *seq:
				continue // it was read already
			}
			if err := f(e); err != nil {
				return err
			}
			*seq = e.Seq
		}
	}
}
