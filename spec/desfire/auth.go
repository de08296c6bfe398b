package desfire

import (
	"crypto/cipher"
	"fmt"
)

// encryptCBC encrypts whole blocks from iv and leaves the last one there.
func encryptCBC(b cipher.Block, iv, data []byte) []byte {
	out := make([]byte, 0, len(data))
	for size := b.BlockSize(); len(data) > 0; data = data[size:] {
		for i := range iv {
			iv[i] ^= data[i]
		}
		b.Encrypt(iv, iv)
		out = append(out, iv...)
	}
	return out
}

// decryptCBC is the reverse; the last block received becomes the vector.
func decryptCBC(b cipher.Block, iv, data []byte) []byte {
	out := make([]byte, len(data))
	for at, size := 0, b.BlockSize(); at < len(data); at += size {
		b.Decrypt(out[at:at+size], data[at:at+size])
		for i := range iv {
			out[at+i] ^= iv[i]
		}
		copy(iv, data[at:at+size])
	}
	return out
}

// legacySend and legacyReceive are the chain of the first DESFire, whose cards
// can only encrypt: the reader deciphers what it sends, each block mixed with
// the one sent before.
func legacySend(b cipher.Block, data []byte) []byte {
	out := make([]byte, 0, len(data))
	size := b.BlockSize()
	prev := make([]byte, size)
	for ; len(data) > 0; data = data[size:] {
		for i := range prev {
			prev[i] ^= data[i]
		}
		b.Decrypt(prev, prev)
		out = append(out, prev...)
	}
	return out
}

func legacyReceive(b cipher.Block, data []byte) []byte {
	out := make([]byte, len(data))
	for at, size := 0, b.BlockSize(); at < len(data); at += size {
		b.Encrypt(out[at:at+size], data[at:at+size])
		for i := 0; at > 0 && i < size; i++ {
			out[at+i] ^= data[at-size+i]
		}
	}
	return out
}

// rotated is a random with its first byte moved to the end.
func rotated(b []byte) []byte { return append(append([]byte(nil), b[1:]...), b[0]) }

// fits says whether a command may authenticate with a key.
func fits(cmd byte, k KeyKind) bool {
	switch cmd {
	case CmdAuthLegacy:
		return k == DES
	case CmdAuthISO:
		return k == DES || k == TDES
	case CmdAuthAES:
		return k == AES
	}
	return false
}

// sessionOf makes the session both sides share once their randoms are known.
func sessionOf(cmd, no byte, k Key, a, b []byte) *Session {
	var v []byte
	switch {
	case k.Kind == AES:
		v = join(a[:4], b[:4], a[12:16], b[12:16])
	case k.Kind == TDES:
		v = join(a[:4], b[:4], a[6:10], b[6:10], a[12:16], b[12:16])
	case k.single():
		v = join(a[:4], b[:4], a[:4], b[:4])
	default:
		v = join(a[:4], b[:4], a[4:8], b[4:8])
	}
	return newSession(no, k.Kind, cmd == CmdAuthLegacy, NewKey(k.Kind, v, 0))
}

func join(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// A Challenge is an authentication under way at the card.
type Challenge struct {
	cmd, no byte
	key     Key
	mac     *mac
	iv      []byte
	rndB    []byte
}

// NewChallenge begins an authentication by cmd with key number no; rndB are
// Key.RandomSize fresh random bytes. The token is the card's first answer. A key
// of a kind that cmd does not take is ErrAuth.
func NewChallenge(cmd, no byte, key Key, rndB []byte) (c *Challenge, token []byte, err error) {
	if !fits(cmd, key.Kind) || len(rndB) != key.randomSize() {
		return nil, nil, ErrAuth
	}
	m := key.cipher()
	c = &Challenge{cmd, no, key, m, make([]byte, m.BlockSize()), rndB}
	return c, encryptCBC(m, c.iv, rndB), nil
}

// Verify checks the reader's proof and gives the card's, with the session.
func (c *Challenge) Verify(proof []byte) (answer []byte, s *Session, err error) {
	n := len(c.rndB)
	if len(proof) != 2*n {
		return nil, nil, fmt.Errorf("authentication: %w: %d bytes", ErrLength, len(proof))
	}
	var clear []byte
	if c.cmd == CmdAuthLegacy {
		clear = legacyReceive(c.mac, proof)
		c.iv = make([]byte, c.mac.BlockSize())
	} else {
		clear = decryptCBC(c.mac, c.iv, proof)
	}
	if !same(clear[n:], rotated(c.rndB)) {
		return nil, nil, ErrAuth
	}
	return encryptCBC(c.mac, c.iv, rotated(clear[:n])), sessionOf(c.cmd, c.no, c.key, clear[:n], c.rndB), nil
}

// A Proof is an authentication under way at the reader.
type Proof struct {
	Challenge
	rndA []byte
}

// Prove answers the card's token with rndA, as many random bytes as the token
// has. The result of Bytes goes to the card.
func Prove(cmd, no byte, key Key, token, rndA []byte) (p *Proof, out []byte, err error) {
	n := key.randomSize()
	if !fits(cmd, key.Kind) || len(token) != n || len(rndA) != n {
		return nil, nil, ErrAuth
	}
	m := key.cipher()
	p = &Proof{Challenge{cmd, no, key, m, make([]byte, m.BlockSize()), nil}, rndA}
	p.rndB = decryptCBC(m, p.iv, token)
	clear := join(rndA, rotated(p.rndB))
	if cmd == CmdAuthLegacy {
		p.iv = make([]byte, m.BlockSize())
		return p, legacySend(m, clear), nil
	}
	return p, encryptCBC(m, p.iv, clear), nil
}

// Finish checks the card's proof and gives the session.
func (p *Proof) Finish(answer []byte) (*Session, error) {
	if len(answer) != len(p.rndA) || !same(decryptCBC(p.mac, p.iv, answer), rotated(p.rndA)) {
		return nil, ErrAuth
	}
	return sessionOf(p.cmd, p.no, p.key, p.rndA, p.rndB), nil
}

// SealKey is the protected part of CHANGE KEY for key number no (with the kind
// bits at the card's level) to become key: new value, exclusive-or the old value
// when it is another key than the session's, version of an AES key, checksum of
// the command, in the other-key case the checksum of the new value as well.
func (s *Session) SealKey(no byte, key Key, old *Key) []byte {
	v := append([]byte(nil), key.Bytes()...)
	if old != nil {
		for i, b := range old.Bytes() {
			if i < len(v) {
				v[i] ^= b
			}
		}
	}
	if key.Kind == AES {
		v = append(v, key.Version)
	}
	v = append(v, s.check(v, []byte{CmdChangeKey, no}, v)...)
	if old != nil {
		v = append(v, s.check(key.Bytes(), key.Bytes())...)
	}
	return s.seal(v)
}

// OpenKey is the card's side of SealKey; kind is what the new key will be.
func (s *Session) OpenKey(no byte, kind KeyKind, body []byte, old *Key) (Key, error) {
	n := kind.Size()
	sums := 1
	if old != nil {
		sums = 2
	}
	all := n
	if kind == AES {
		all++
	}
	if len(body) == 0 || len(body) != s.padded(all+sums*s.checkLen()) {
		return Key{}, fmt.Errorf("CHANGE KEY: %w: %d bytes", ErrLength, len(body))
	}
	v := s.open(body)
	value := append([]byte(nil), v[:n]...)
	check := s.check(v[:all], []byte{CmdChangeKey, no}, v[:all])
	if old != nil {
		for i, b := range old.Bytes() {
			if i < n {
				value[i] ^= b
			}
		}
		check = append(check, s.check(value, value)...)
	}
	if !endsAfter(v, all, check) {
		return Key{}, fmt.Errorf("CHANGE KEY: %w", ErrMAC)
	}
	version := byte(0)
	if kind == AES {
		version = v[n]
	}
	return NewKey(kind, value, version), nil
}
