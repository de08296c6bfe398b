package hostlink

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"koala/internal/clock"
	"koala/spec/iso8583"
)

// A Client is the way to another institution's host, in the interchange
// dialect. It dials when there is something to ask and the line is down, keeps
// many questions waiting over one connection, and knows an answer by what it
// repeats: transmission time, trace number and acquirer (fields 7, 11, 32).
type Client struct {
	Dial func(ctx context.Context) (net.Conn, error)
	// Stray is given messages that answer nothing that waits: late answers,
	// doubled ones, questions of the other end. nil drops them.
	Stray func(message []byte)
	Max   int           // questions that may wait; zero: DefaultConns
	Clock clock.Clock   // of deadlines; nil: the machine's
	Half  time.Duration // for a question to leave; zero: DefaultHalf

	mu      sync.Mutex
	dialing chan struct{} // closed when the dial under way has ended
	conn    *clientConn
}

// clientConn is one connection with what waits on it.
type clientConn struct {
	writer
	waiting map[string]chan []byte // under the client's mu
	gone    chan struct{}
}

// keyOf names the question that a message asks or answers.
func keyOf(message []byte) (string, error) {
	var m iso8583.Message
	if err := m.Unpack(iso8583.UnionPayInterchange(), message); err != nil {
		return "", err
	}
	return m.Text(7) + "/" + m.Text(11) + "/" + m.Text(32), nil
}

// Ask sends a message and waits for its answer until ctx ends. The error wraps
// ErrNotSent or ErrNoAnswer; after ErrNoAnswer the answer, if it still comes,
// goes to Stray.
func (c *Client) Ask(ctx context.Context, request []byte) (answer []byte, err error) {
	key, err := keyOf(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	conn, err := c.up(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	back := make(chan []byte, 1)
	if err := c.enter(conn, key, back); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	defer c.leave(conn, key)
	if err := conn.write(ctx, request); err != nil {
		if errors.Is(err, ErrNotSent) {
			return nil, err
		}
		c.drop(conn)
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err) // a part of it may have left
	}
	select {
	case answer = <-back:
		return answer, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-conn.gone:
		err = net.ErrClosed
	}
	select {
	case answer = <-back: // both at once: the answer counts
		return answer, nil
	default:
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
}

// Up says whether a connection is open now.
func (c *Client) Up() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn != nil
}

// Close hangs up: whoever waits gets ErrNoAnswer.
func (c *Client) Close() {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn != nil {
		c.drop(conn)
	}
}

// up returns the connection, dialled by one of those who need it.
func (c *Client) up(ctx context.Context) (*clientConn, error) {
	for {
		c.mu.Lock()
		if c.conn != nil {
			defer c.mu.Unlock()
			return c.conn, nil
		}
		if other := c.dialing; other != nil {
			c.mu.Unlock()
			select {
			case <-other:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		done := make(chan struct{})
		c.dialing = done
		c.mu.Unlock()
		conn, err := c.Dial(ctx)
		c.mu.Lock()
		c.dialing = nil
		close(done)
		if err != nil {
			c.mu.Unlock()
			return nil, err
		}
		if c.Clock == nil {
			c.Clock = clock.System()
		}
		c.conn = &clientConn{writer: newWriter(conn, c.Half, c.Clock), waiting: map[string]chan []byte{}, gone: make(chan struct{})}
		go c.read(c.conn)
		c.mu.Unlock()
	}
}

func (c *Client) enter(conn *clientConn, key string, back chan []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, twice := conn.waiting[key]; twice {
		return ErrTwice
	}
	if len(conn.waiting) >= or(c.Max, DefaultConns) {
		return ErrFull
	}
	conn.waiting[key] = back
	return nil
}

func (c *Client) leave(conn *clientConn, key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(conn.waiting, key)
}

// read hands out what comes until the connection ends.
func (c *Client) read(conn *clientConn) {
	defer c.drop(conn)
	in := bufio.NewReader(conn.conn)
	for {
		message, err := readMessage(in)
		if err != nil {
			return
		}
		key, err := keyOf(message)
		if err != nil {
			return // it does not speak the dialect
		}
		c.mu.Lock()
		back := conn.waiting[key]
		delete(conn.waiting, key) // a second answer is a stray one
		c.mu.Unlock()
		switch {
		case back != nil:
			back <- message
		case c.Stray != nil:
			c.Stray(message)
		}
	}
}

// drop ends a connection, once.
func (c *Client) drop(conn *clientConn) {
	c.mu.Lock()
	if c.conn == conn {
		c.conn = nil
	}
	select {
	case <-conn.gone:
	default:
		close(conn.gone)
	}
	c.mu.Unlock()
	conn.conn.Close()
}
