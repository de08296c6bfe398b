package band

import (
	"crypto/ecdh"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"koala/spec/iso9797"
)

// Pairing is LE Secure Connections with numeric comparison (Bluetooth Core 5.4,
// Vol 3, Part H, 2.3.5.6.2): P-256 Diffie-Hellman, a commitment to the
// responder's nonce, six digits that both ends show, and checks of the shared
// secret after the wearer has said that they are equal. The functions f4, f5,
// f6 and g2 are those of 2.2.6 to 2.2.9, with their vectors as tests.

// MaxBonds is how many phones a band remembers; the oldest makes room.
const MaxBonds = 3

var (
	// ErrPairing says that the other end did not keep to the pairing.
	ErrPairing = errors.New("band: pairing failed")
	// ErrRefused says that the wearer did not confirm the six digits.
	ErrRefused = errors.New("band: the six digits were not confirmed")
)

// ioDisplayYesNo is what both ends can do: show digits, take yes or no
// (Vol 3, Part H, 2.3.2 and 3.5.1), with MITM and Secure Connections asked for.
var ioDisplayYesNo = [3]byte{0x01, 0x00, 0x0D}

// A Bond is what two paired ends remember of each other.
type Bond struct {
	Peer [8]byte // name of the phone, drawn at random when it paired
	LTK  [16]byte
}

// f4 is the commitment to a nonce: CMAC under x of u | v | z.
func f4(u, v [32]byte, x [16]byte, z byte) [16]byte {
	m := append(append(append(make([]byte, 0, 65), u[:]...), v[:]...), z)
	return iso9797.CMAC(x[:], m)
}

// f5 derives the key of the checks and the long-term key from the secret.
func f5(w [32]byte, n1, n2 [16]byte, a1, a2 [7]byte) (mac, ltk [16]byte) {
	salt := [16]byte{0x6C, 0x88, 0x83, 0x91, 0xAA, 0xF5, 0xA5, 0x38, 0x60, 0x37, 0x0B, 0xDB, 0x5A, 0x60, 0x83, 0xBE}
	t := iso9797.CMAC(salt[:], w[:])
	part := func(counter byte) [16]byte {
		m := append([]byte{counter}, "btle"...)
		m = append(append(m, n1[:]...), n2[:]...)
		m = append(append(m, a1[:]...), a2[:]...)
		return iso9797.CMAC(t[:], append(m, 0x01, 0x00)) // 256 bits
	}
	return part(0), part(1)
}

// f6 is the check one end sends of everything it has seen.
func f6(w, n1, n2, r [16]byte, io [3]byte, a1, a2 [7]byte) [16]byte {
	m := append(append(append([]byte{}, n1[:]...), n2[:]...), r[:]...)
	m = append(append(append(m, io[:]...), a1[:]...), a2[:]...)
	return iso9797.CMAC(w[:], m)
}

// g2 is the number both ends show, before it is taken modulo a million.
func g2(u, v [32]byte, x, y [16]byte) uint32 {
	m := append(append(append([]byte{}, u[:]...), v[:]...), y[:]...)
	t := iso9797.CMAC(x[:], m)
	return binary.BigEndian.Uint32(t[12:])
}

// A pairing is one end's half of it.
type pairing struct {
	key       *ecdh.PrivateKey
	nonce     [16]byte
	own, peer [32]byte // x coordinates
	peerKey   *ecdh.PublicKey
	secret    [32]byte
}

// newPairing draws a key and a nonce. The private key is read from rand
// itself, so that a run with a seed repeats.
func newPairing(rand io.Reader) (*pairing, error) {
	p := &pairing{}
	for range 8 { // a draw outside the group's order is rarer than 2^-32
		var k [32]byte
		if _, err := io.ReadFull(rand, k[:]); err != nil {
			return nil, fmt.Errorf("band: drawing a key: %w", err)
		}
		key, err := ecdh.P256().NewPrivateKey(k[:])
		if err != nil {
			continue
		}
		p.key, p.own = key, [32]byte(key.PublicKey().Bytes()[1:33])
		_, err = io.ReadFull(rand, p.nonce[:])
		return p, err
	}
	return nil, fmt.Errorf("%w: no usable key drawn", ErrPairing)
}

// public is the key on the wire: x 32 | y 32.
func (p *pairing) public() []byte { return p.key.PublicKey().Bytes()[1:] }

// meet takes the other end's public key; a point off the curve, or our own
// coming back, ends the pairing.
func (p *pairing) meet(raw []byte) error {
	if len(raw) != 64 {
		return fmt.Errorf("%w: a public key has 64 bytes", ErrPairing)
	}
	peer, err := ecdh.P256().NewPublicKey(append([]byte{4}, raw...))
	if err != nil || [32]byte(raw[:32]) == p.own {
		return fmt.Errorf("%w: not a usable public key", ErrPairing)
	}
	secret, err := p.key.ECDH(peer)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPairing, err)
	}
	p.peerKey, p.peer, p.secret = peer, [32]byte(raw[:32]), [32]byte(secret)
	return nil
}

// keys of both ends: na is the phone's nonce, nb the band's, a and b their
// addresses.
func (p *pairing) keys(na, nb [16]byte, a, b [7]byte) (ltk, ea, eb [16]byte) {
	mac, ltk := f5(p.secret, na, nb, a, b)
	var none [16]byte
	return ltk, f6(mac, na, nb, none, ioDisplayYesNo, a, b), f6(mac, nb, na, none, ioDisplayYesNo, b, a)
}

func same(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// digits is the number as both displays show it.
func digits(n uint32) string { return fmt.Sprintf("%06d", n%1_000_000) }

// keepBond remembers a phone. The same phone again replaces its old bond.
func (b *Band) keepBond(n Bond) {
	b.forget(n.Peer)
	if len(b.bonds) == MaxBonds {
		b.bonds = b.bonds[1:]
	}
	b.bonds = append(b.bonds, n)
}

func (b *Band) forget(peer [8]byte) {
	for i := range b.bonds {
		if b.bonds[i].Peer == peer {
			b.bonds = append(b.bonds[:i:i], b.bonds[i+1:]...)
			return
		}
	}
}

// Bonds lists the phones the band is paired with, the newest last.
func (b *Band) Bonds() [][8]byte {
	out := make([][8]byte, len(b.bonds))
	for i, n := range b.bonds {
		out[i] = n.Peer
	}
	return out
}

// Unpair forgets every phone: what a reset button does.
func (b *Band) Unpair() { b.bonds = nil }
