// Package hostlink carries ISO 8583 messages over TCP: each in a frame of two
// length bytes, high byte first, as terminals and institutions do. It knows
// frames, connections and time-outs; what a message means is for others.
//
// A Server lets terminals in and hands each message to a Handler. A Line is a
// terminal's way to a host: one question, one answer. A Client is one
// institution's way to another: many questions at once over one connection,
// answers in any order.
package hostlink

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"koala/spec/iso8583"
)

// A Handler answers messages, without their frame length, from several
// goroutines. A nil answer stays silent. An error ends the connection that the
// message came over: the other end does not speak the dialect.
type Handler interface {
	Handle(ctx context.Context, message []byte) (answer []byte, err error)
}

// How a link fails.
var (
	// ErrNotSent says that nothing of a question left: it may be asked again
	// elsewhere without harm.
	ErrNotSent = errors.New("hostlink: the question was not sent")
	// ErrNoAnswer says that a question may have arrived and no answer came.
	ErrNoAnswer = errors.New("hostlink: no answer came")
	// ErrFull says that as many questions wait for an answer as may.
	ErrFull = errors.New("hostlink: too many questions are waiting")
	// ErrTwice says that a question like this one is waiting for its answer.
	ErrTwice = errors.New("hostlink: the same question is waiting already")
	// ErrHalf says that a frame began and did not end in time.
	ErrHalf = errors.New("hostlink: a frame was cut off")
)

// Defaults of the limits.
const (
	DefaultIdle     = 10 * time.Minute // a connection without a message
	DefaultHalf     = 10 * time.Second // from a frame's first byte to its last
	DefaultAnswer   = 10 * time.Second // from a question to its answer
	DefaultConns    = 4096
	DefaultInFlight = 64 // messages of one connection that wait for their answer
)

// readFrame reads one frame's message; an empty one only keeps the line open.
// begun is called after the first byte: it may set a deadline for the rest.
func readFrame(in *bufio.Reader, begun func() error) ([]byte, error) {
	first, err := in.ReadByte()
	if err != nil {
		return nil, err
	}
	if err := begun(); err != nil {
		return nil, err
	}
	second, err := in.ReadByte()
	if err != nil {
		return nil, cut(err)
	}
	n, err := iso8583.FrameLen([iso8583.FramePrefix]byte{first, second})
	if err != nil {
		return nil, err
	}
	message := make([]byte, n)
	if _, err := io.ReadFull(in, message); err != nil {
		return nil, cut(err)
	}
	return message, nil
}

// readMessage reads on to a message, under whatever deadline is set.
func readMessage(in *bufio.Reader) (message []byte, err error) {
	for len(message) == 0 && err == nil {
		message, err = readFrame(in, func() error { return nil })
	}
	return message, err
}

// cut is what the end of a connection means inside a frame.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrHalf, err)
	}
	return err
}

// writeFrame sends one message with its length in one piece, until a moment: who
// does not read must not hold up others. A connection on which it fails may have
// half a frame on it, and is of no use any more.
func writeFrame(conn net.Conn, message []byte, until time.Time) error {
	if err := conn.SetWriteDeadline(until); err != nil {
		return err
	}
	frame, err := iso8583.AppendFrame(make([]byte, 0, len(message)+iso8583.FramePrefix), message)
	if err != nil {
		return err
	}
	_, err = conn.Write(frame)
	return err
}

func or[T ~int | ~int64](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}
