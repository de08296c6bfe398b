package hostlink

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"koala/internal/clock"
)

// A Server takes connections and answers what comes over them. Zero limits are
// the defaults.
type Server struct {
	Handler  Handler
	Log      *slog.Logger // nil: silent
	Clock    clock.Clock  // of deadlines; nil: the machine's
	Idle     time.Duration
	Half     time.Duration
	Conns    int
	InFlight int

	stats struct {
		open                       atomic.Int64
		accepted, refused, dropped atomic.Uint64
		messages, silent           atomic.Uint64
	}
}

// Stats are what a server has seen since it was made.
type Stats struct {
	Open     int    // connections now
	Accepted uint64 // connections
	Refused  uint64 // connections beyond the limit
	Dropped  uint64 // connections ended because of what came over them
	Messages uint64
	Silent   uint64 // messages that got no answer
}

// Stats reads the counters.
func (s *Server) Stats() Stats {
	c := &s.stats
	return Stats{Open: int(c.open.Load()), Accepted: c.accepted.Load(), Refused: c.refused.Load(), Dropped: c.dropped.Load(),
		Messages: c.messages.Load(), Silent: c.silent.Load()}
}

// Serve takes connections from l until ctx ends, then lets the messages that
// were read be answered. A listener with TLS makes the links secret.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.Clock == nil {
		s.Clock = clock.System()
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	var all sync.WaitGroup
	defer all.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if s.stats.open.Add(1) > int64(or(s.Conns, DefaultConns)) {
			s.stats.open.Add(-1)
			s.stats.refused.Add(1)
			s.Log.Warn("connection refused: as many are open as may be", "from", conn.RemoteAddr().String())
			conn.Close()
			continue
		}
		s.stats.accepted.Add(1)
		all.Go(func() {
			defer s.stats.open.Add(-1)
			s.serve(ctx, conn)
		})
	}
}

// serve reads one connection to its end. Messages are answered side by side, so
// that a concentrator's terminals do not wait for each other; no more are read
// than may wait.
func (s *Server) serve(ctx context.Context, conn net.Conn) {
	reading := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer reading()
	defer conn.Close()
	w := newWriter(conn, s.Half, s.Clock)
	slots := make(chan struct{}, or(s.InFlight, DefaultInFlight))
	var waiting sync.WaitGroup
	defer waiting.Wait()
	in := bufio.NewReader(conn)
	due := func(d time.Duration) func() error {
		return func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return conn.SetReadDeadline(s.Clock.Now().Add(d))
		}
	}
	wait, half := due(or(s.Idle, DefaultIdle)), due(or(s.Half, DefaultHalf))
	for {
		err := wait()
		var message []byte
		if err == nil {
			message, err = readFrame(in, half)
		}
		if err == nil && len(message) == 0 {
			if err = w.write(context.WithoutCancel(ctx), nil); err == nil {
				continue
			}
		}
		if err != nil {
			s.ended(ctx, conn, err)
			return
		}
		s.stats.messages.Add(1)
		slots <- struct{}{}
		waiting.Go(func() {
			defer func() { <-slots }()
			s.answer(ctx, &w, message)
		})
	}
}

// answer has one message answered. The handler's work is not cut off when the
// server is told to end: what was read is answered.
func (s *Server) answer(ctx context.Context, w *writer, message []byte) {
	answer, err := s.Handler.Handle(context.WithoutCancel(ctx), message)
	switch {
	case err != nil:
		s.stats.dropped.Add(1)
		s.Log.Warn("connection dropped", "from", w.conn.RemoteAddr().String(), "error", err)
		w.conn.Close()
	case answer == nil:
		s.stats.silent.Add(1)
	default:
		if err := w.write(context.WithoutCancel(ctx), answer); err != nil {
			w.conn.Close()
			s.Log.Debug("answer not delivered", "to", w.conn.RemoteAddr().String(), "error", err)
		}
	}
}

// ended says why a connection came to its end, where that is not its normal one.
func (s *Server) ended(ctx context.Context, conn net.Conn, err error) {
	if ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, ErrHalf) {
		return
	}
	s.stats.dropped.Add(1)
	s.Log.Warn("connection dropped", "from", conn.RemoteAddr().String(), "error", err)
}

// A writer keeps messages whole: one is sent at a time.
type writer struct {
	conn  net.Conn
	half  time.Duration
	clock clock.Clock
	turn  chan struct{} // of one
}

func newWriter(conn net.Conn, half time.Duration, c clock.Clock) writer {
	return writer{conn: conn, half: or(half, DefaultHalf), clock: c, turn: make(chan struct{}, 1)}
}

// write sends a message, or waits for its turn until ctx ends (ErrNotSent). When
// it fails otherwise, the connection may have half a frame on it and is of no
// use any more.
func (w *writer) write(ctx context.Context, message []byte) error {
	select {
	case w.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrNotSent, ctx.Err())
	}
	defer func() { <-w.turn }()
	until := w.clock.Now().Add(w.half)
	if due, ok := ctx.Deadline(); ok && due.Before(until) {
		until = due
	}
	return writeFrame(w.conn, message, until)
}
