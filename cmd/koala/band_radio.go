package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"koala/band"
	"koala/internal/clock"
	"koala/pcsc"
)

// phoneSilence is how long a phone may say nothing before it makes room: a band
// speaks with one phone at a time.
const phoneSilence = time.Minute

// A mast carries a served band's radio protocol over TCP.
type mast struct {
	radio  *band.Radio
	teller *serveTeller
	out    io.Writer // where the digits are shown
	in     *bufio.Reader
	yes    bool        // digits are taken for equal without asking
	fail   func(error) // ends the serving, of run
}

// newMast makes the radio of a kept band.
func newMast(k *keptCard, f *serveFlags, teller *serveTeller, in io.Reader, out io.Writer) (*mast, error) {
	var maker ed25519.PublicKey
	if f.maker != "" {
		raw, err := hex.DecodeString(f.maker)
		if err != nil || len(raw) != ed25519.PublicKeySize {
			return nil, errUsage{fmt.Errorf("--maker: not an Ed25519 public key, %d hexadecimal digits", 2*ed25519.PublicKeySize)}
		}
		maker = raw
	}
	m := &mast{teller: teller, in: bufio.NewReader(in), out: out, yes: f.yes}
	m.radio = &band.Radio{Band: k.band, Lock: &k.lock, Rand: clock.Entropy(), Now: clock.System().Now, Maker: maker,
		Confirm: m.confirm, Saved: func() error { return m.kept(k.saveAll()) }}
	return m, nil
}

// kept ends the serving of a band whose state cannot be kept.
func (m *mast) kept(err error) error {
	if err != nil {
		m.fail(err)
	}
	return err
}

// confirm is the wearer who compares six digits.
func (m *mast) confirm(digits string) bool {
	m.teller.say("pairing", "a phone wants to pair; it must show "+digits)
	if m.yes {
		return true
	}
	return asksYes(m.in, m.out, "Does the phone show "+digits+"? [y/N] ")
}

// asksYes puts a question and takes y or yes for one.
func asksYes(in *bufio.Reader, out io.Writer, question string) bool {
	fmt.Fprint(out, question)
	line, _ := in.ReadString('\n') // an end of input is a no
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes", "是":
		return true
	}
	return false
}

// run takes phones, one after the other, until the context ends or the band
// cannot be kept.
func (m *mast) run(ctx context.Context, l net.Listener) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	m.fail = stop
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if kept := context.Cause(ctx); errors.Is(kept, errSave) {
				return kept
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("listening for phones: %w", err)
		}
		m.serve(ctx, conn)
	}
}

// An impatient connection ends when nothing comes for too long.
type impatient struct{ net.Conn }

func (c impatient) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(clock.System().Now().Add(phoneSilence)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (m *mast) serve(ctx context.Context, conn net.Conn) {
	who := conn.RemoteAddr().String()
	m.teller.say("phone", "a phone has come from "+who)
	err := m.radio.Serve(ctx, impatient{conn})
	text := "the phone at " + who + " is gone"
	if err != nil && !pcsc.Lost(err) {
		text += ": " + err.Error()
	}
	m.teller.say("phone-gone", text)
}
