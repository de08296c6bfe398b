package reader

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

// Pairing: Diffie-Hellman on P-256 with a commitment to the reader's nonce and
// six digits that both ends show. Frames are type 1 | body:
//
//	phone  01  peer 8 | public key 65
//	reader 81  public key 65 | SHA-256 of "koala reader commit" | both public keys, the phone's first | nonce
//	phone  02  nonce 16
//	reader 82  nonce 16; the phone checks the commitment
//	both       show the digits: first 4 bytes of SHA-256("koala reader digits" | both keys | nonces, the phone's first) modulo a million
//	phone  03  HMAC-SHA-256(bond key, "phone")
//	reader 83  HMAC-SHA-256(bond key, "reader")
//
// The bond key is HKDF-SHA-256 of the shared secret with both nonces as salt,
// 16 bytes. A session begins with 04 peer 8 | nonce 16 and 84 nonce 16 |
// HMAC(bond key, "open" | both nonces) 32; its key is HKDF of the bond key with
// both nonces as salt. From then on every frame is type 05: counter 8 | AES-GCM,
// the counter the next one of its direction and the associated data. A refusal
// is FF and one byte of reason.
const (
	framePair    = 0x01
	frameNonce   = 0x02
	frameCheck   = 0x03
	frameOpen    = 0x04
	frameSealed  = 0x05
	frameAnswer  = 0x80
	frameRefused = 0xFF

	publicLen = 65
	nonceLen  = 16
)

// MaxFrame bounds a frame, bytes.
const MaxFrame = 4096

// A pairing is one end's half of it.
type pairing struct {
	key          *ecdh.PrivateKey
	peer         [8]byte
	nonce        [nonceLen]byte
	phone, own   []byte // public keys: the phone's, the reader's
	secret, bond []byte
}

// newPairing draws a key and a nonce.
func newPairing(random io.Reader) (*pairing, error) {
	p := &pairing{}
	var seed [32]byte
	for p.key == nil { // almost every number is a key
		if _, err := io.ReadFull(random, seed[:]); err != nil {
			return nil, fmt.Errorf("reader: chance: %w", err)
		}
		p.key, _ = ecdh.P256().NewPrivateKey(seed[:])
	}
	if _, err := io.ReadFull(random, p.nonce[:]); err != nil {
		return nil, fmt.Errorf("reader: chance: %w", err)
	}
	return p, nil
}

// meet computes the secret with the other end's public key.
func (p *pairing) meet(other []byte) error {
	k, err := ecdh.P256().NewPublicKey(other)
	if err != nil || string(other) == string(p.key.PublicKey().Bytes()) { // off the curve, or our own sent back
		return ErrPairing
	}
	if p.secret, err = p.key.ECDH(k); err != nil {
		return ErrPairing
	}
	return nil
}

// commit is the reader's promise of its nonce.
func (p *pairing) commit(nonce [nonceLen]byte) []byte {
	sum := sha256.Sum256(joined("koala reader commit", p.phone, p.own, nonce[:]))
	return sum[:]
}

// digits are what both ends show, from both nonces, the phone's first.
func (p *pairing) digits(phone, reader [nonceLen]byte) string {
	sum := sha256.Sum256(joined("koala reader digits", p.phone, p.own, phone[:], reader[:]))
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[:])%1_000_000)
}

// agree derives the bond key.
func (p *pairing) agree(phone, reader [nonceLen]byte) error {
	k, err := hkdf.Key(sha256.New, p.secret, joined("", phone[:], reader[:]), "koala reader bond", 16)
	p.bond = k
	return err
}

func joined(label string, parts ...[]byte) []byte {
	out := []byte(label)
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func check(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(joined("", parts...))
	return h.Sum(nil)
}

// A session seals frames both ways.
type session struct {
	aead    cipher.AEAD
	in, out uint64 // next counters
	reader  bool
}

func newSession(bond []byte, phone, reader [nonceLen]byte, isReader bool) (*session, error) {
	k, err := hkdf.Key(sha256.New, bond, joined("", phone[:], reader[:]), "koala reader session", 16)
	if err != nil {
		return nil, err
	}
	b, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(b)
	return &session{aead: aead, reader: isReader}, err
}

// nonce is direction 4 (1 from the phone, 0 from the reader) | counter 8.
func nonceOf(fromReader bool, counter uint64) []byte {
	direction := uint32(1)
	if fromReader {
		direction = 0
	}
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, direction), counter)
}

func (s *session) seal(body []byte) []byte {
	head := binary.BigEndian.AppendUint64(nil, s.out)
	out := s.aead.Seal(append([]byte{frameSealed}, head...), nonceOf(s.reader, s.out), body, head)
	s.out++
	return out
}

// open takes the next frame of the other end; one that is repeated, left out or
// changed is none.
func (s *session) open(frame []byte) ([]byte, error) {
	if len(frame) < 9 || frame[0] != frameSealed || binary.BigEndian.Uint64(frame[1:]) != s.in {
		return nil, ErrFrame
	}
	body, err := s.aead.Open(nil, nonceOf(!s.reader, s.in), frame[9:], frame[1:9])
	if err != nil {
		return nil, ErrFrame
	}
	s.in++
	return body, nil
}
