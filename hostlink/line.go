package hostlink

import (
	"bufio"
	"fmt"
	"net"
	"sync"
	"time"

	"koala/internal/clock"
)

// A Line is a terminal's way to a host: it asks one question at a time and
// opens its connection when it has one. After a question without an answer the
// connection is closed, so that a late answer cannot be taken for the next one.
type Line struct {
	Dial   func() (net.Conn, error)
	Clock  clock.Clock   // of deadlines; nil: the machine's
	Answer time.Duration // zero: DefaultAnswer

	mu   sync.Mutex
	conn net.Conn
	in   *bufio.Reader
}

// Exchange sends a message and returns the one that comes back, both without
// their length. The error wraps ErrNotSent or ErrNoAnswer.
func (l *Line) Exchange(request []byte) (answer []byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		conn, err := l.Dial()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		l.conn, l.in = conn, bufio.NewReader(conn)
	}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.Clock == nil {
		l.Clock = clock.System()
	}
	until := l.Clock.Now().Add(or(l.Answer, DefaultAnswer))
	if err := l.conn.SetReadDeadline(until); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	if err := writeFrame(l.conn, request, until); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err) // a part of it may have left
	}
	if answer, err = readMessage(l.in); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	return answer, nil
}

// Close hangs up. The next Exchange dials again.
func (l *Line) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.close()
}

func (l *Line) close() error {
	if l.conn == nil {
		return nil
	}
	err := l.conn.Close()
	l.conn, l.in = nil, nil
	return err
}
