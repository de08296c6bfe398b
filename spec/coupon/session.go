package coupon

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"koala/spec/iso9797"
)

// First bytes of what is MACed, so that no MAC can stand for another.
const (
	forCardKey = 0x01
	forSession = 0x02
	forMAC1    = 0x03
	forMAC2    = 0x04
	forProof   = 0x05
)

// CardKey derives a card's key from the root of a merchant or of an issuer:
// CMAC(root, 01 | holder 8 | owner 8), in the manner of NXP AN10922.
func CardKey(root [16]byte, holder, owner ID) [16]byte {
	return iso9797.CMAC(root[:], append(append([]byte{forCardKey}, holder[:]...), owner[:]...))
}

// A Session is one operation between BEGIN and COMMIT, the same on both sides.
type Session struct {
	key   *iso9797.AES
	begin Begin
	said  BeginAnswer
}

// NewSession starts it with the card's key of the merchant.
func NewSession(cardKey [16]byte, b Begin, a BeginAnswer) *Session {
	in := append([]byte{forSession}, a.Challenge[:]...)
	in = binary.BigEndian.AppendUint16(append(in, b.Challenge[:]...), a.Counter)
	key := iso9797.CMAC(cardKey[:], in)
	return &Session{iso9797.NewAES(key[:]), b, a}
}

func (s *Session) mac(purpose byte, parts ...[]byte) (mac [8]byte) {
	in := []byte{purpose, byte(s.begin.Op)}
	for _, p := range parts {
		in = append(in, p...)
	}
	full := s.key.CMAC(in)
	copy(mac[:], full[:])
	return mac
}

// MAC1 is the terminal's word: 03 | op | data of BEGIN 35 | answer to BEGIN 23.
func (s *Session) MAC1() [8]byte { return s.mac(forMAC1, s.begin.data(), s.said.Bytes()) }

// MAC2 is the card's: 04 | op | counter 2 | reduction 4 | proof 8.
func (s *Session) MAC2(proof [8]byte) [8]byte {
	b := binary.BigEndian.AppendUint16(nil, s.said.Counter)
	b = binary.BigEndian.AppendUint32(b, s.said.Reduction)
	return s.mac(forMAC2, b, proof[:])
}

// Commit is the command that carries the operation out.
func (s *Session) Commit() Commit { return Commit{s.MAC1()} }

// Accept checks the card's answer to COMMIT or PROVE and makes the record that
// the terminal hands in. ErrMAC says that the card is not genuine, or that the
// answer is another operation's.
func (s *Session) Accept(d Done, c Coupon) (Redemption, error) {
	if d.Counter != s.said.Counter || d.Reduction != s.said.Reduction || !Equal(d.MAC2, s.MAC2(d.Proof)) {
		return Redemption{}, fmt.Errorf("coupon %v: %w", s.begin.Coupon, ErrMAC)
	}
	return s.record(c, d.Proof), nil
}

func (s *Session) record(c Coupon, proof [8]byte) Redemption {
	return Redemption{Op: s.begin.Op, Holder: s.said.Holder, Coupon: s.begin.Coupon, Issuer: c.Issuer, Merchant: c.Merchant,
		Terminal: s.begin.Terminal, Challenge: s.begin.Challenge, Counter: s.said.Counter, Fen: s.begin.Fen,
		Reduction: s.said.Reduction, At: s.begin.At, Proof: proof}
}

// Record is the redemption as the card is about to prove it.
func (s *Session) Record(c Coupon) Redemption { return s.record(c, [8]byte{}) }

// Equal compares MACs in constant time.
func Equal(a, b [8]byte) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }

// A Redemption is one operation as the terminal hands it in, and the issuer
// verifies and pays it. Holder, Coupon and Counter name it for ever: a second
// one with these is the same one or a fraud.
type Redemption struct {
	Op                               Op
	Holder, Coupon, Issuer, Merchant ID
	Terminal, Challenge              ID
	Counter                          uint16
	Fen, Reduction                   uint32 // spend and what was taken off, fen
	At                               Stamp
	Proof                            [8]byte
}

// RedemptionLen is the length of a Redemption in bytes.
const RedemptionLen = 1 + 6*8 + 2 + 4 + 4 + 7 + 8

// Bytes codes the record: op 1 | holder 8 | coupon 8 | issuer 8 | merchant 8 |
// terminal 8 | challenge 8 | counter 2 | fen 4 | reduction 4 | stamp 7 | proof 8.
func (r Redemption) Bytes() []byte { return append(r.proven(), r.Proof[:]...) }

func (r Redemption) proven() []byte {
	b := append(make([]byte, 0, RedemptionLen), byte(r.Op))
	for _, id := range []ID{r.Holder, r.Coupon, r.Issuer, r.Merchant, r.Terminal, r.Challenge} {
		b = append(b, id[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, r.Counter)
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, r.Fen), r.Reduction)
	return append(b, r.At[:]...)
}

// ParseRedemption reads the record. It does not verify the proof.
func ParseRedemption(b []byte) (r Redemption, err error) {
	if len(b) != RedemptionLen {
		return r, fmt.Errorf("redemption: %w: %d bytes", ErrLength, len(b))
	}
	id := func(i int) ID { return ID(b[1+8*i:]) }
	return Redemption{Op: Op(b[0]), Holder: id(0), Coupon: id(1), Issuer: id(2), Merchant: id(3), Terminal: id(4), Challenge: id(5),
		Counter: binary.BigEndian.Uint16(b[49:]), Fen: binary.BigEndian.Uint32(b[51:]), Reduction: binary.BigEndian.Uint32(b[55:]),
		At: Stamp(b[59:]), Proof: [8]byte(b[66:])}, nil
}

// Prove is the proof of the record under the card's key of the issuer: first
// eight bytes of CMAC(key, 05 | record without proof).
func (r Redemption) Prove(cardKey [16]byte) (proof [8]byte) {
	full := iso9797.CMAC(cardKey[:], append([]byte{forProof}, r.proven()...))
	copy(proof[:], full[:])
	return proof
}

// Verify checks the proof at the issuer, who derives the card's key from his
// root.
func (r Redemption) Verify(issuerRoot [16]byte) error {
	if !Equal(r.Proof, r.Prove(CardKey(issuerRoot, r.Holder, r.Issuer))) {
		return fmt.Errorf("redemption of coupon %v, counter %d: %w", r.Coupon, r.Counter, ErrMAC)
	}
	return nil
}
