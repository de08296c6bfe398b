package pcsc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"koala/card"
	"koala/spec/iso7816"
)

// A Card is what sits in the virtual reader. *card.Element is one. It is used
// by one goroutine at a time.
type Card interface {
	UID() [7]byte
	PowerOn(card.Interface) error
	PowerOff()
	Transmit(iso7816.Command) (iso7816.Response, error)
}

// A Kind is what happened between reader and card.
type Kind string

// The kinds of events.
const (
	Connected    Kind = "connected"    // the reader driver has been reached
	PowerOn      Kind = "power-on"     // the card was powered
	PowerOff     Kind = "power-off"    // power went, by the reader's wish
	ResetCard    Kind = "reset"        // power off and on without leaving the reader
	APDU         Kind = "apdu"         // a command and its answer
	Pseudo       Kind = "pseudo"       // a command to the reader, which the card never sees (PC/SC part 3, 3.2.2)
	Torn         Kind = "torn"         // the card left during the command: no answer
	Disconnected Kind = "disconnected" // the socket is gone, and with it the power
)

// An Event is one line of the dialogue. Command and Answer are whole APDUs as
// they went over the socket; both may hold secrets.
type Event struct {
	Kind            Kind
	Command, Answer []byte
	Err             error // of Disconnected and Torn, when there is one
}

// A Reader is the card's end of a virtual reader. It belongs to one goroutine.
type Reader struct {
	Card        Card
	Personality Personality
	// Hear is told of every event before the reader goes on, if not nil. It must
	// not keep the slices.
	Hear func(Event)
	// Stop turns an error of the card into the end of Run. Nil lets Run go on for
	// ever: a torn card is held to the reader again.
	Stop func(error) bool

	contact iso7816.Transmit // of the powered card; nil while power is off
	buf     []byte
}

// Bounds of waiting. The reader asks for the ATR every 400 ms, but a reader
// that is busy with another program may be silent as long as it likes: between
// frames only the context and TCP's own keep-alive end the wait.
const (
	bodyTime   = 5 * time.Second // for the body of a frame whose length has come, and for an answer to leave
	dialTime   = 5 * time.Second
	firstDelay = 100 * time.Millisecond
	lastDelay  = 2 * time.Second
)

// errTorn ends a connection whose card has left the field.
var errTorn = errors.New("pcsc: the card left the reader")

// Run keeps the card in the virtual reader at address until the context ends,
// which is its only good end (nil): when the reader cannot be reached or goes
// away it dials again, after 100 ms at first and 2 s at last.
func (r *Reader) Run(ctx context.Context, address string) error {
	delay := firstDelay
	for ctx.Err() == nil {
		d := net.Dialer{Timeout: dialTime}
		conn, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			delay = firstDelay
			err = r.Serve(ctx, conn)
			if r.Stop != nil && r.Stop(err) {
				return err
			}
		}
		pause(ctx, delay)
		delay = min(2*delay, lastDelay)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Serve answers one connection until the reader or the context ends it, then
// takes power away and closes it. The error is never nil: the context's, or why
// the connection ended.
func (r *Reader) Serve(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	r.hear(Event{Kind: Connected})
	err := r.serve(&quick{conn})
	r.off()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	r.hear(Event{Kind: Disconnected, Err: err})
	return err
}

// A quick connection acknowledges at once what it reads.
type quick struct{ net.Conn }

func (q *quick) Read(b []byte) (int, error) {
	quickAck(q.Conn)
	return q.Conn.Read(b)
}

func (r *Reader) serve(conn net.Conn) error {
	for {
		var late *time.Timer
		body, err := readFrame(conn, r.buf, func() { late = time.AfterFunc(bodyTime, func() { conn.Close() }) })
		if late != nil {
			late.Stop()
		}
		if err != nil {
			return fmt.Errorf("reading a frame: %w", err)
		}
		r.buf = body
		answer, err := r.frame(body)
		if err != nil {
			return err
		}
		if answer == nil {
			continue
		}
		if err := answerIn(conn, answer); err != nil {
			return err
		}
	}
}

// answerIn writes an answer, or closes the connection when it does not leave.
func answerIn(conn net.Conn, answer []byte) error {
	late := time.AfterFunc(bodyTime, func() { conn.Close() })
	defer late.Stop()
	if err := writeFrame(conn, answer); err != nil {
		return fmt.Errorf("writing a frame: %w", err)
	}
	return nil
}

// frame does what one frame asks for. No answer is nil.
func (r *Reader) frame(body []byte) ([]byte, error) {
	if len(body) == 1 {
		return r.control(body[0])
	}
	if len(body) == 0 {
		return nil, nil
	}
	return r.command(body)
}

func (r *Reader) control(c byte) ([]byte, error) {
	switch c {
	case controlATR:
		return r.Personality.ATR, nil
	case controlOff:
		if r.contact != nil {
			r.hear(Event{Kind: PowerOff})
		}
		r.off()
	case controlOn:
		return nil, r.on(PowerOn)
	case controlReset:
		return nil, r.on(ResetCard)
	}
	return nil, nil // a control of a later driver
}

// on powers the card, cold or warm: for the card there is no difference.
func (r *Reader) on(kind Kind) error {
	r.off()
	if err := r.Card.PowerOn(r.Personality.Interface); err != nil {
		r.hear(Event{Kind: Torn, Err: err})
		return fmt.Errorf("%w: %w", errTorn, err)
	}
	r.contact = r.Card.Transmit
	if r.Personality.T0 {
		r.contact = (&card.T0{Card: r.Card.Transmit}).Transmit
	}
	r.hear(Event{Kind: kind})
	if name := r.Personality.Preselect; name != "" {
		if _, err := r.contact(iso7816.Select([]byte(name))); err != nil {
			r.hear(Event{Kind: Torn, Err: err})
			return fmt.Errorf("%w: %w", errTorn, err)
		}
	}
	return nil
}

func (r *Reader) off() {
	r.Card.PowerOff()
	r.contact = nil
}

// command answers a command APDU. A driver that sends one without power on
// gets it done all the same: power comes first, as from a reader's own wake-up.
func (r *Reader) command(raw []byte) ([]byte, error) {
	if answer, ok := r.pseudo(raw); ok {
		r.hear(Event{Kind: Pseudo, Command: raw, Answer: answer})
		return answer, nil
	}
	if r.contact == nil {
		if err := r.on(PowerOn); err != nil {
			return nil, err
		}
	}
	answer, err := r.transmit(raw)
	if err != nil {
		r.hear(Event{Kind: Torn, Command: raw, Err: err})
		return nil, fmt.Errorf("%w: %w", errTorn, err)
	}
	r.hear(Event{Kind: APDU, Command: raw, Answer: answer})
	return answer, nil
}

func (r *Reader) transmit(raw []byte) ([]byte, error) {
	c, err := iso7816.ParseCommand(raw)
	if err != nil || r.Personality.T0 && c.Extended {
		return iso7816.Response{SW: iso7816.SWLength}.Bytes(), nil
	}
	answer, err := r.contact(c)
	if err != nil {
		return nil, err
	}
	out := answer.Bytes()
	if len(out) > maxFrame {
		return iso7816.Response{SW: iso7816.SWLength}.Bytes(), nil
	}
	return out, nil
}

func (r *Reader) hear(e Event) {
	if r.Hear != nil {
		r.Hear(e)
	}
}

// Lost tells whether a Serve ended because the other side went away in good order.
func Lost(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrUnexpectedEOF)
}
