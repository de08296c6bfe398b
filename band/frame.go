package band

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"koala/spec/firmware"
	"koala/spec/iso9797"
)

// The frames of the radio protocol, docs/band-protocol.md: a length of two
// bytes and a body. Pairing and opening go in clear; everything after is sealed
// with AES-128-GCM under a key of this session.

const maxFrame = 8 << 10 // bytes of a body: a script of 256 short commands does not fit, one of a real order does

// Types of bodies. An answer has bit 8 set.
const (
	framePair   = 0x01
	frameNonce  = 0x02
	frameCheck  = 0x03
	frameOpen   = 0x04
	frameSealed = 0x05
	frameError  = 0xFF
)

var (
	// ErrFrame says that the other end sent what is no frame of the protocol.
	ErrFrame = errors.New("band: not a frame of the radio protocol")
	// ErrUnpaired says that the band does not know this phone.
	ErrUnpaired = errors.New("band: the band is not paired with this phone")
)

func writeFrame(w io.Writer, kind byte, body ...[]byte) error {
	out := []byte{0, 0, kind}
	for _, b := range body {
		out = append(out, b...)
	}
	if len(out)-2 > maxFrame {
		return fmt.Errorf("%w: %d bytes", ErrFrame, len(out)-2)
	}
	binary.BigEndian.PutUint16(out, uint16(len(out)-2))
	_, err := w.Write(out)
	return err
}

func readFrame(r io.Reader) (kind byte, body []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n == 0 || n > maxFrame {
		return 0, nil, fmt.Errorf("%w: length %d", ErrFrame, n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, nil, fmt.Errorf("%w: ends inside: %w", ErrFrame, err)
	}
	return b[0], b[1:], nil
}

// expect reads a frame of one kind and length; an error frame is the other
// end's refusal.
func expect(r io.Reader, kind byte, n int) ([]byte, error) {
	got, body, err := readFrame(r)
	switch {
	case err != nil:
		return nil, err
	case got == frameError:
		return nil, refusalOf(body)
	case got != kind || n >= 0 && len(body) != n:
		return nil, fmt.Errorf("%w: %02X of %d bytes where %02X was due", ErrFrame, got, len(body), kind)
	}
	return body, nil
}

// refusals are the errors that have a code on the radio.
var refusals = []error{ErrFrame, ErrUnpaired, ErrPairing, ErrRefused, ErrPasscode, ErrWait, ErrDigits, ErrNotWorn, ErrFlat,
	firmware.ErrRelease, ErrSignature, ErrOldRelease, ErrSelfTest, ErrNothing, ErrPiece, ErrScript}

func codeOf(err error) byte {
	for i, e := range refusals {
		if errors.Is(err, e) {
			return byte(i + 1)
		}
	}
	return 0xFF
}

func refusalOf(body []byte) error {
	if len(body) == 1 && body[0] >= 1 && int(body[0]) <= len(refusals) {
		return refusals[body[0]-1]
	}
	return fmt.Errorf("%w: refused without a reason", ErrFrame)
}

// A tunnel is one end of an open session.
type tunnel struct {
	rw      io.ReadWriter
	aead    cipher.AEAD
	out, in uint64 // counters of the next frame
	phone   bool
}

// newTunnel derives the session's key from the bond and both nonces.
func newTunnel(rw io.ReadWriter, ltk, na, nb [16]byte, phone bool) (*tunnel, error) {
	key, err := hkdf.Key(sha256.New, ltk[:], append(na[:], nb[:]...), "koala band radio 1", 16)
	if err != nil {
		return nil, fmt.Errorf("band: session key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("band: session key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	return &tunnel{rw: rw, aead: aead, phone: phone}, err
}

// openCheck is the band's proof that it has the bond.
func openCheck(ltk, na, nb [16]byte) [16]byte {
	return iso9797.CMAC(ltk[:], append(append([]byte("koala band open"), na[:]...), nb[:]...))
}

func nonceOf(fromPhone bool, n uint64) []byte {
	out := make([]byte, 12)
	if fromPhone {
		out[3] = 1
	}
	binary.BigEndian.PutUint64(out[4:], n)
	return out
}

func (t *tunnel) send(plain []byte) error {
	n := t.out
	t.out++
	count := binary.BigEndian.AppendUint64(nil, n)
	return writeFrame(t.rw, frameSealed, count, t.aead.Seal(nil, nonceOf(t.phone, n), plain, count))
}

// receive opens the next frame. Its counter must be the next one: a frame that
// was recorded and comes again ends the session.
func (t *tunnel) receive() ([]byte, error) {
	body, err := expect(t.rw, frameSealed, -1)
	if err != nil {
		return nil, err
	}
	if len(body) < 8 || binary.BigEndian.Uint64(body) != t.in {
		return nil, fmt.Errorf("%w: out of turn", ErrFrame)
	}
	plain, err := t.aead.Open(nil, nonceOf(!t.phone, t.in), body[8:], body[:8])
	if err != nil {
		return nil, fmt.Errorf("%w: seal broken", ErrFrame)
	}
	t.in++
	return plain, nil
}
