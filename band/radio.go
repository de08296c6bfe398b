package band

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"koala/card"
	"koala/spec/iso7816"
)

// A Radio is the band's end of the radio protocol. Between two requests the
// band is free for readers: Lock is held only while one is carried out.
type Radio struct {
	Band    *Band
	Lock    sync.Locker
	Rand    io.Reader
	Now     func() time.Time
	Maker   ed25519.PublicKey        // whose releases are installed
	Confirm func(digits string) bool // the wearer compares six digits; nil says no
	Saved   func() error             // called after each request that changed the band, with Lock held; nil does nothing
}

// Requests of an open session.
const (
	askStatus   = 0x01
	askScript   = 0x02
	askAPDU     = 0x03
	askUnlock   = 0x04
	askPasscode = 0x05
	askPolicy   = 0x06
	askActivity = 0x07
	askReceive  = 0x08
	askInstall  = 0x09
	askKeep     = 0x0A
	askRollback = 0x0B
	askForget   = 0x0C
)

// Serve speaks with one phone until it goes or ctx ends. A phone that breaks
// the protocol is told why, once, and dropped.
func (r *Radio) Serve(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	err := r.serve(conn)
	if err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
		return errors.Join(err, writeFrame(conn, frameError, []byte{codeOf(err)}))
	}
	return nil
}

func (r *Radio) serve(conn io.ReadWriter) error {
	for {
		kind, body, err := readFrame(conn)
		switch {
		case err != nil:
			return err
		case kind == framePair && len(body) == 8+64:
			if err := r.pair(conn, body); err != nil {
				return err
			}
		case kind == frameOpen && len(body) == 8+16:
			return r.open(conn, body)
		default:
			return fmt.Errorf("%w: %02X of %d bytes", ErrFrame, kind, len(body))
		}
	}
}

// address is how an end stands in the pairing's checks: random static.
func address(id []byte) (a [7]byte) {
	a[0] = 0x01
	copy(a[1:], id)
	return a
}

// pair is the responder's side (pairing.go).
func (r *Radio) pair(conn io.ReadWriter, hello []byte) error {
	p, err := newPairing(r.Rand)
	if err != nil {
		return err
	}
	if err := p.meet(hello[8:]); err != nil {
		return err
	}
	uid := r.Band.Element.UID()
	commit := f4(p.own, p.peer, p.nonce, 0)
	if err := writeFrame(conn, framePair|0x80, uid[:], p.public(), commit[:]); err != nil {
		return err
	}
	na, err := expect(conn, frameNonce, 16)
	if err != nil {
		return err
	}
	if err := writeFrame(conn, frameNonce|0x80, p.nonce[:]); err != nil {
		return err
	}
	if r.Confirm == nil || !r.Confirm(digits(g2(p.peer, p.own, [16]byte(na), p.nonce))) {
		return ErrRefused
	}
	ltk, ea, eb := p.keys([16]byte(na), p.nonce, address(hello[:6]), address(uid[1:]))
	check, err := expect(conn, frameCheck, 16)
	if err != nil {
		return err
	}
	if !same(check, ea[:]) {
		return fmt.Errorf("%w: the phone's check differs", ErrPairing)
	}
	err = r.locked(func() error {
		r.Band.keepBond(Bond{Peer: [8]byte(hello[:8]), LTK: ltk})
		return r.saved()
	})
	if err != nil {
		return err
	}
	return writeFrame(conn, frameCheck|0x80, eb[:])
}

func (r *Radio) locked(f func() error) error {
	r.Lock.Lock()
	defer r.Lock.Unlock()
	return f()
}

func (r *Radio) saved() error {
	if r.Saved == nil {
		return nil
	}
	return r.Saved()
}

// open begins a session with a phone the band knows.
func (r *Radio) open(conn io.ReadWriter, hello []byte) error {
	bond, known := Bond{}, false
	_ = r.locked(func() error {
		for _, b := range r.Band.bonds {
			if b.Peer == [8]byte(hello[:8]) {
				bond, known = b, true
			}
		}
		return nil
	})
	if !known {
		return ErrUnpaired
	}
	var na, nb [16]byte
	copy(na[:], hello[8:])
	if _, err := io.ReadFull(r.Rand, nb[:]); err != nil {
		return fmt.Errorf("band: drawing a nonce: %w", err)
	}
	check := openCheck(bond.LTK, na, nb)
	if err := writeFrame(conn, frameOpen|0x80, nb[:], check[:]); err != nil {
		return err
	}
	t, err := newTunnel(conn, bond.LTK, na, nb, false)
	if err != nil {
		return err
	}
	return r.session(t, bond.Peer)
}

func (r *Radio) session(t *tunnel, peer [8]byte) error {
	wired := false // this session gave the element power: a reader's stays on
	defer r.locked(func() error {
		if wired {
			r.Band.Element.PowerOff()
		}
		return nil
	})
	for {
		ask, err := t.receive()
		if err != nil {
			return err
		}
		if len(ask) < 3 {
			return fmt.Errorf("%w: a request of %d bytes", ErrFrame, len(ask))
		}
		var answer []byte
		err = r.locked(func() (err error) {
			off := !r.Band.Element.Powered()
			answer, err = r.carryOut(ask[0], ask[3:], peer)
			wired = wired || off && r.Band.Element.Powered()
			return err
		})
		head := []byte{ask[0] | 0x80, ask[1], ask[2], 0}
		if err != nil {
			head[3], answer = codeOf(err), nil
		}
		if err := t.send(append(head, answer...)); err != nil {
			return err
		}
	}
}

// carryOut does what one request asks for and keeps what it changed.
func (r *Radio) carryOut(op byte, body []byte, peer [8]byte) (answer []byte, err error) {
	b := r.Band
	switch op {
	case askStatus:
		return r.status(), nil
	case askActivity:
		if len(body) != 4 {
			return nil, ErrFrame
		}
		return appendHours(nil, b.Activity(time.Unix(int64(binary.BigEndian.Uint32(body)), 0))), nil
	case askScript:
		answer, err = r.script(body)
	case askAPDU:
		answer, err = r.apdu(body)
	case askUnlock:
		err = b.Unlock(string(body), r.Now())
	case askPasscode:
		err = r.passcode(body)
	case askPolicy:
		if len(body) != 1 || body[0] > 0x0F {
			return nil, ErrFrame
		}
		b.Policy = policyOf(body[0])
	case askReceive:
		if len(body) < 2 {
			return nil, ErrFrame
		}
		err = b.Receive(int(binary.BigEndian.Uint16(body)), body[2:])
		answer = binary.BigEndian.AppendUint16(nil, uint16(b.Received()))
	case askInstall:
		err = b.Install(r.Maker)
	case askKeep:
		b.Keep()
	case askRollback:
		err = b.Rollback()
	case askForget:
		b.forget(peer)
	default:
		return nil, fmt.Errorf("%w: request %02X", ErrFrame, op)
	}
	return answer, errors.Join(err, r.saved()) // wrong passcodes are counted, too
}

// status: UID 7 | flags 1 (worn, protected, locked, trial) | battery 1 | policy
// 1 | firmware 4 | free bytes 4 | received 2 | id.
func (r *Radio) status() []byte {
	b := r.Band
	uid := b.Element.UID()
	version, trial := b.Firmware()
	flags := byte(0)
	for i, on := range []bool{b.worn, b.Protected(), b.Locked(), trial} {
		if on {
			flags |= 1 << i
		}
	}
	out := append(uid[:], flags, byte(b.Battery), b.Policy.byte())
	out = binary.BigEndian.AppendUint32(out, version)
	out = binary.BigEndian.AppendUint32(out, uint32(b.Element.Memory().Free()))
	return append(binary.BigEndian.AppendUint16(out, uint16(b.Received())), b.ID...)
}

// script: id (length 1) | n 2 | n × (command, length 2; expected status words,
// count 1 and 2 each). The answer: cut 1 | answers, length 2 each.
func (r *Radio) script(body []byte) ([]byte, error) {
	p := reader{rest: body}
	s := Script{ID: string(p.take(int(p.number(1))))}
	for n := p.number(2); n > 0 && !p.bad; n-- {
		st := Step{APDU: p.take(int(p.number(2)))}
		for e := p.number(1); e > 0 && !p.bad; e-- {
			st.Expect = append(st.Expect, iso7816.SW(p.number(2)))
		}
		s.Steps = append(s.Steps, st)
	}
	if p.bad || len(p.rest) > 0 || s.ID == "" || len(s.Steps) > MaxSteps {
		return nil, ErrFrame
	}
	answers, cut, err := r.Band.Play(s)
	if err != nil {
		return nil, err
	}
	out := []byte{0}
	if cut {
		out[0] = 1
	}
	for _, a := range answers {
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(a))), a...)
	}
	return out, nil
}

// apdu is one command on the wired interface, outside any script: what the
// phone reads balances with and sets the default card by. A torn contact is an
// empty answer.
func (r *Radio) apdu(body []byte) ([]byte, error) {
	e := r.Band.Element
	if !e.Powered() && e.PowerOn(card.Contact) != nil {
		return nil, nil
	}
	answer, err := e.TransmitRaw(body)
	if errors.Is(err, iso7816.ErrTorn) {
		return nil, nil
	}
	return answer, err
}

// passcode: old (length 1) | new.
func (r *Radio) passcode(body []byte) error {
	p := reader{rest: body}
	old := string(p.take(int(p.number(1))))
	if p.bad {
		return ErrFrame
	}
	return r.Band.SetPasscode(old, string(p.rest), r.Rand, r.Now())
}
