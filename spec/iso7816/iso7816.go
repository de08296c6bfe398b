// Package iso7816 holds the words of the contact between a reader and a card
// (ISO/IEC 7816-3 and -4): commands, responses, status words, logical
// channels, and the one-method contact Transmit that terminals, hosts and
// virtual readers share. It moves bytes to values and back and does no I/O.
package iso7816

import (
	"errors"
	"fmt"
)

// Instructions of ISO/IEC 7816-4 that cards of this house know.
const (
	InsVerify               = 0x20
	InsManageChannel        = 0x70
	InsExternalAuthenticate = 0x82
	InsGetChallenge         = 0x84
	InsInternalAuthenticate = 0x88
	InsSelect               = 0xA4
	InsReadBinary           = 0xB0
	InsReadRecord           = 0xB2
	InsGetResponse          = 0xC0
	InsGetData              = 0xCA
	InsUpdateBinary         = 0xD6
	InsPutData              = 0xDA
	InsUpdateRecord         = 0xDC
	InsAppendRecord         = 0xE2
)

// NoLe as a Command's Le says that no answer data is asked for.
const NoLe = -1

// Limits of the short and the extended coding, in bytes (7816-4, 5.1).
const (
	MaxShortData    = 255
	MaxShortLe      = 256
	MaxExtendedData = 65535
	MaxExtendedLe   = 65536
)

// What can be wrong with the coding of a command or a response.
var (
	ErrCommand  = errors.New("iso7816: malformed command")
	ErrResponse = errors.New("iso7816: malformed response")
)

// ErrTorn says that the card left the field: nothing is known about the
// command in flight, not even whether the card received it.
var ErrTorn = errors.New("iso7816: card left the field")

// A Transmit sends one command and gives the card's answer. A status word is
// never an error; an error (wrapping ErrTorn where the card is gone) means
// that no answer came.
type Transmit func(Command) (Response, error)

// A Command is one command APDU.
type Command struct {
	CLA, INS, P1, P2 byte
	Data             []byte
	Le               int  // bytes wanted: NoLe none, 0 as many as there are up to 256 (short coding 00), else exactly so many
	Extended         bool // extended coding although short would do; set by ParseCommand so that Bytes repeats the input
}

// ParseCommand reads a command APDU of any of the four cases, short or
// extended. Data is a copy.
func ParseCommand(raw []byte) (Command, error) {
	if len(raw) < 4 {
		return Command{}, fmt.Errorf("%w: %d bytes", ErrCommand, len(raw))
	}
	c := Command{CLA: raw[0], INS: raw[1], P1: raw[2], P2: raw[3], Le: NoLe}
	body := raw[4:]
	switch {
	case len(body) == 0:
		return c, nil
	case len(body) == 1:
		c.Le = int(body[0])
		return c, nil
	case body[0] == 0:
		return parseExtended(c, body[1:])
	}
	n := int(body[0])
	switch len(body) {
	case 1 + n:
	case 1 + n + 1:
		c.Le = int(body[1+n])
	default:
		return Command{}, fmt.Errorf("%w: Lc %d with %d bytes after it", ErrCommand, n, len(body)-1)
	}
	c.Data = append([]byte(nil), body[1:1+n]...)
	return c, nil
}

func parseExtended(c Command, body []byte) (Command, error) {
	if len(body) < 2 {
		return Command{}, fmt.Errorf("%w: extended length cut off", ErrCommand)
	}
	c.Extended = true
	n := int(body[0])<<8 | int(body[1])
	if len(body) == 2 {
		c.Le = extendedLe(n)
		return c, nil
	}
	switch len(body) {
	case 2 + n:
	case 2 + n + 2:
		c.Le = extendedLe(int(body[2+n])<<8 | int(body[3+n]))
	default:
		return Command{}, fmt.Errorf("%w: extended Lc %d with %d bytes after it", ErrCommand, n, len(body)-2)
	}
	if n == 0 {
		return Command{}, fmt.Errorf("%w: extended Lc 0", ErrCommand)
	}
	c.Data = append([]byte(nil), body[2:2+n]...)
	return c, nil
}

func extendedLe(n int) int {
	if n == 0 {
		return MaxExtendedLe
	}
	return n
}

// Bytes codes the command: short where its lengths allow and Extended is not
// set. Lengths beyond the extended coding are a defect and panic.
func (c Command) Bytes() []byte { return c.AppendTo(make([]byte, 0, 4+3+len(c.Data)+3)) }

// AppendTo adds the coded command to dst.
func (c Command) AppendTo(dst []byte) []byte {
	if len(c.Data) > MaxExtendedData || c.Le > MaxExtendedLe || c.Le < NoLe {
		panic(fmt.Sprintf("iso7816: %d data bytes, Le %d", len(c.Data), c.Le))
	}
	dst = append(dst, c.CLA, c.INS, c.P1, c.P2)
	if c.extended() {
		return c.appendExtended(dst)
	}
	if len(c.Data) > 0 {
		dst = append(dst, byte(len(c.Data)))
		dst = append(dst, c.Data...)
	}
	if c.Le != NoLe {
		dst = append(dst, byte(c.Le))
	}
	return dst
}

func (c Command) extended() bool {
	if len(c.Data) == 0 && c.Le == NoLe {
		return false
	}
	return c.Extended || len(c.Data) > MaxShortData || c.Le > MaxShortLe
}

func (c Command) appendExtended(dst []byte) []byte {
	dst = append(dst, 0)
	if len(c.Data) > 0 {
		dst = append(dst, byte(len(c.Data)>>8), byte(len(c.Data)))
		dst = append(dst, c.Data...)
	}
	switch c.Le {
	case NoLe:
		return dst
	case 0: // the short 00 asks for 256
		return append(dst, 1, 0)
	default:
		return append(dst, byte(c.Le>>8), byte(c.Le))
	}
}

// String gives the command in hexadecimal. It shows all data: mask before
// logging a command that carries keys or a PIN.
func (c Command) String() string { return fmt.Sprintf("%X", c.Bytes()) }

// A Response is one response APDU.
type Response struct {
	Data []byte
	SW   SW
}

// ParseResponse reads a response APDU. Data is a copy.
func ParseResponse(raw []byte) (Response, error) {
	n := len(raw) - 2
	if n < 0 || n > MaxExtendedLe {
		return Response{}, fmt.Errorf("%w: %d bytes", ErrResponse, len(raw))
	}
	r := Response{SW: SW(raw[n])<<8 | SW(raw[n+1])}
	if n > 0 {
		r.Data = append([]byte(nil), raw[:n]...)
	}
	return r, nil
}

// Bytes codes the response.
func (r Response) Bytes() []byte {
	out := append(make([]byte, 0, len(r.Data)+2), r.Data...)
	return append(out, byte(r.SW>>8), byte(r.SW))
}

// String gives the response in hexadecimal.
func (r Response) String() string { return fmt.Sprintf("%X", r.Bytes()) }
