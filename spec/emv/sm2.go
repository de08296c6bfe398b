package emv

import (
	"crypto/ecdsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/sm3"
)

// The SM2 variant of offline data authentication (JR/T 0025.17; CARD.md 1.7,
// SM2 line). Nothing is enciphered in it: a certificate or a signature is its
// content in plain, then R and S over SM3 with the default identity of the
// signer, 1234567812345678. The same functions serve both variants; which one
// it is follows from the key.
//
//	issuer certificate 90   12 | issuer 4  | expiry 2 | serial 3 | 04 | 00 | 11 | 40 | X | Y | R | S
//	card's certificate 9F46 14 | PAN 10    | expiry 2 | serial 3 | 04 | 00 | 11 | 40 | X | Y | R | S   over it and the static data
//	static data 93          13 | DAC 2                                                       | R | S   over it and the static data
//	dynamic data 9F4B       15 | LDD | dynamic data                                          | R | S   over it and what the terminal sent
//
// Keys have no exponent and no remainder: 9F32, 92, 9F47 and 9F48 do not come,
// or mean nothing: one of the published cards has a 9F48 left over.
// Two public sources that do not know each other have these layouts: a card
// test library with a published chain of CA 57 (12, 13 and 14 verify, see the
// tests) and a terminal kernel (all four). The 04 is the signature algorithm;
// the two bytes behind it are named encipherment (unused, 00) and curve (11)
// there, but the published card has 04 as its curve: they are not checked.

// ErrSignature says that an SM2 signature does not verify.
var ErrSignature = errors.New("emv: SM2 signature differs")

const (
	sm2Format    = 0x10 // added to RSA's format bytes 02 to 05
	sm2Point     = 64   // X and Y
	sm2Signature = 64   // R and S
	sm2Curve     = 0x11 // the recommended curve (GB/T 32918.5)
)

// A KeyAlgorithm is that of a key pair, as terminals keep it with a CA key
// (tag DF07 of UnionPay's parameter downloads).
type KeyAlgorithm byte

// Key algorithms; in a CAKey 0 is RSA too.
const (
	RSA KeyAlgorithm = 0x01
	SM2 KeyAlgorithm = 0x04
)

// String is the name.
func (a KeyAlgorithm) String() string {
	if a == SM2 {
		return "SM2"
	}
	return "RSA"
}

// NewSM2PublicKey takes X and Y, 32 bytes each.
func NewSM2PublicKey(point []byte) (PublicKey, error) {
	if len(point) != sm2Point {
		return PublicKey{}, fmt.Errorf("%w: point of %d bytes", ErrPublicKey, len(point))
	}
	key, err := sm2.NewPublicKey(append([]byte{0x04}, point...))
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: not a point of the SM2 curve", ErrPublicKey)
	}
	return PublicKey{sm: key, size: sm2Point}, nil
}

// Algorithm tells which variant the key is of.
func (k PublicKey) Algorithm() KeyAlgorithm {
	if k.sm != nil {
		return SM2
	}
	return RSA
}

func pointOf(k *ecdsa.PublicKey) []byte {
	p, err := sm2.PublicKeyToECDH(k)
	if err != nil {
		panic("emv: a key that was taken is no point of the SM2 curve: " + err.Error())
	}
	return p.Bytes()[1:] // without 04, uncompressed
}

// An sm2Pair is the numbers of an SM2 signature, as ASN.1 has them.
type sm2Pair struct{ R, S *big.Int }

// splitSM2 takes the signature off the end, verifies it over what is before it
// and more, and gives the former.
func (k PublicKey) splitSM2(signed []byte, format byte, more []byte) ([]byte, error) {
	end := len(signed) - sm2Signature
	switch {
	case end < 1:
		return nil, fmt.Errorf("%w: %d bytes", ErrLength, len(signed))
	case signed[0] != sm2Format|format:
		return nil, fmt.Errorf("%w: %02X, not %02X", ErrFormat, signed[0], sm2Format|format)
	}
	r, s := signed[end:end+sm2Signature/2], signed[end+sm2Signature/2:]
	der, err := asn1.Marshal(sm2Pair{new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)})
	if err != nil || !sm2.VerifyASN1WithSM2(k.sm, nil, append(signed[:end:end], more...), der) {
		return nil, ErrSignature
	}
	return signed[:end:end], nil
}

// openSM2 is open for a certificate of the SM2 variant. Lengths are checked
// before the signature: every field is of fixed size.
func (k PublicKey) openSM2(c Certificate, l layout, static []byte, check Check) (info KeyInfo, err error) {
	at := 1 + l.owner // of the expiry
	key := at + 2 + 3 + 3 + 1
	if len(c.Certificate) != key+sm2Point+sm2Signature {
		return info, fmt.Errorf("%w: %d bytes", ErrLength, len(c.Certificate))
	}
	raw, err := k.splitSM2(c.Certificate, l.format, static)
	if err != nil {
		return info, err
	}
	var ok bool
	if info.Owner, ok = unpadDigits(raw[1:at]); !ok {
		return KeyInfo{}, fmt.Errorf("%w: number is not digits", ErrFormat)
	}
	info.Expiry, info.Serial = [2]byte(raw[at:]), [3]byte(raw[at+2:])
	if err := l.checkOwner(info, check); err != nil {
		return KeyInfo{}, err
	}
	if algorithm, size := KeyAlgorithm(raw[at+5]), raw[key-1]; algorithm != SM2 || size != sm2Point {
		return KeyInfo{}, fmt.Errorf("%w: key %02X of %d bytes", ErrAlgorithm, byte(algorithm), size)
	}
	info.Key, err = NewSM2PublicKey(raw[key:])
	return info, err
}

// NewSM2Key takes the 32 bytes of a private key. Its signatures are
// deterministic (RFC 6979 with SM3): no chance is needed to sign.
func NewSM2Key(scalar []byte) (*PrivateKey, error) {
	key, err := sm2.NewPrivateKey(scalar)
	if err != nil {
		return nil, fmt.Errorf("%w: SM2", ErrPrivateKey)
	}
	return &PrivateKey{sm: key, public: PublicKey{sm: &key.PublicKey, size: sm2Point}}, nil
}

// Scalar gives the 32 bytes of an SM2 key for personalisation (DGI 8501); nil
// for an RSA key.
func (k *PrivateKey) Scalar() []byte {
	if k.sm == nil {
		return nil
	}
	return k.sm.D.FillBytes(make([]byte, sm2Point/2))
}

// signSM2 appends the signature over block and more to block.
func (k *PrivateKey) signSM2(block, more []byte) ([]byte, error) {
	message := append(block[:len(block):len(block)], more...)
	der, err := sm2.SignDeterministic(k.sm, message, sm2.NewSM2SignerOption(true, nil))
	if err != nil {
		return nil, fmt.Errorf("SM2 signature: %w", err)
	}
	var pair sm2Pair
	if _, err := asn1.Unmarshal(der, &pair); err != nil {
		return nil, fmt.Errorf("SM2 signature: %w", err)
	}
	out := append(make([]byte, 0, len(block)+sm2Signature), block...)[:len(block)+sm2Signature]
	pair.R.FillBytes(out[len(block) : len(block)+sm2Signature/2])
	pair.S.FillBytes(out[len(block)+sm2Signature/2:])
	return out, nil
}

// certifySM2 is certify for a certificate of the SM2 variant.
func (k *PrivateKey) certifySM2(info KeyInfo, l layout, static []byte) (Certificate, error) {
	if info.Key.sm == nil {
		return Certificate{}, fmt.Errorf("certificate: %w: an SM2 key certifies SM2 keys", ErrPublicKey)
	}
	block := append([]byte{sm2Format | l.format}, padDigits(info.Owner, l.owner)...)
	block = append(append(block, info.Expiry[:]...), info.Serial[:]...)
	block = append(append(block, byte(SM2), 0x00, sm2Curve, sm2Point), pointOf(info.Key.sm)...)
	out, err := k.signSM2(block, static)
	return Certificate{Certificate: out}, err
}

// digestSM3 is SM3, the transaction data hash of a combined SM2 signature.
func digestSM3(data []byte) []byte {
	sum := sm3.Sum(data)
	return sum[:]
}
