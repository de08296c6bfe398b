package emv

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha1"
	"errors"
	"fmt"
	"math/big"

	"koala/spec/tlv"
)

// Why a certificate or a signature is refused, in the order EMV checks them
// (EMV 4.4 Book 2, 5.3, 5.4, 6.3 to 6.6).
var (
	ErrPublicKey = errors.New("emv: not a usable public key")
	ErrLength    = errors.New("emv: not as long as the key that signed it")
	ErrTrailer   = errors.New("emv: recovered data does not end in BC")
	ErrHeader    = errors.New("emv: recovered data does not begin with 6A")
	ErrFormat    = errors.New("emv: wrong certificate or signature format")
	ErrHash      = errors.New("emv: hash differs")
	ErrOwner     = errors.New("emv: certificate belongs to another PAN")
	ErrExpired   = errors.New("emv: certificate has expired")
	ErrRevoked   = errors.New("emv: certificate is revoked")
	ErrAlgorithm = errors.New("emv: unknown algorithm")
	ErrRemainder = errors.New("emv: key remainder does not fit")
)

const (
	header  = 0x6A
	trailer = 0xBC
	filler  = 0xBB
	sha1ID  = 0x01 // hash algorithm indicator
	rsaID   = 0x01 // public key algorithm indicator
)

// MaxKeyBytes is the longest modulus, 1984 bits (EMV 4.4 Book 2, B2.1).
const MaxKeyBytes = 248

// A PublicKey is an RSA key of any length a card or scheme has, 2 to 248 bytes,
// odd, or a point of the SM2 curve. The zero value verifies nothing.
type PublicKey struct {
	n, e *big.Int
	sm   *ecdsa.PublicKey // SM2; nil: RSA
	size int              // bytes of the modulus, of X and Y
}

// NewPublicKey takes a modulus without leading zeros and an exponent of 1 to 3
// bytes.
func NewPublicKey(modulus, exponent []byte) (PublicKey, error) {
	if len(modulus) < 2 || len(modulus) > MaxKeyBytes || modulus[0] == 0 || modulus[len(modulus)-1]&1 == 0 {
		return PublicKey{}, fmt.Errorf("%w: modulus of %d bytes", ErrPublicKey, len(modulus))
	}
	e := new(big.Int).SetBytes(exponent)
	if len(exponent) == 0 || len(exponent) > 3 || e.Bit(0) == 0 || e.BitLen() < 2 {
		return PublicKey{}, fmt.Errorf("%w: exponent %X", ErrPublicKey, exponent)
	}
	return PublicKey{n: new(big.Int).SetBytes(modulus), e: e, size: len(modulus)}, nil
}

// Size is the length of the modulus in bytes, 64 for an SM2 key; 0 for no key.
func (k PublicKey) Size() int { return k.size }

// Bits is the strength as keys are named: the length of the modulus, 256 for
// an SM2 key.
func (k PublicKey) Bits() int {
	if k.sm != nil {
		return 4 * k.size
	}
	return 8 * k.size
}

// Modulus gives the modulus, Size bytes; X and Y of an SM2 key.
func (k PublicKey) Modulus() []byte {
	if k.sm != nil {
		return pointOf(k.sm)
	}
	return k.n.FillBytes(make([]byte, k.size))
}

// Exponent gives the exponent without leading zeros: 03 or 010001; nil of an
// SM2 key.
func (k PublicKey) Exponent() []byte {
	if k.sm != nil {
		return nil
	}
	return k.e.Bytes()
}

// Apply raises in, of Size bytes, to the public exponent: what recovers a
// signature and enciphers a PIN. in as a number must be below the modulus.
func (k PublicKey) Apply(in []byte) ([]byte, error) {
	if k.n == nil || len(in) != k.size {
		return nil, fmt.Errorf("%w: %d bytes, key has %d", ErrLength, len(in), k.size)
	}
	x := new(big.Int).SetBytes(in)
	if x.Cmp(k.n) >= 0 {
		return nil, fmt.Errorf("%w: above the modulus", ErrLength)
	}
	return x.Exp(x, k.e, k.n).FillBytes(make([]byte, k.size)), nil
}

// recover opens a signature and checks what all have alike: length, trailer,
// header and format byte, in EMV's order. least is the shortest that has room
// for its fixed fields.
func (k PublicKey) recover(signature []byte, format byte, least int) ([]byte, error) {
	out, err := k.Apply(signature)
	switch {
	case err != nil:
		return nil, err
	case len(out) < least:
		return nil, fmt.Errorf("%w: %d bytes are too few", ErrLength, len(out))
	case out[len(out)-1] != trailer:
		return nil, ErrTrailer
	case out[0] != header:
		return nil, ErrHeader
	case out[1] != format:
		return nil, fmt.Errorf("%w: %02X, not %02X", ErrFormat, out[1], format)
	}
	return out, nil
}

// checkHash compares the hash before the trailer of recovered data with SHA-1
// over everything between header and hash, followed by more.
func checkHash(recovered []byte, more ...[]byte) error {
	end := len(recovered) - 1 - sha1.Size
	h := sha1.New()
	h.Write(recovered[1:end])
	for _, m := range more {
		h.Write(m)
	}
	if !bytes.Equal(h.Sum(nil), recovered[end:end+sha1.Size]) {
		return ErrHash
	}
	return nil
}

// A Certificate is the three objects a card gives for one key.
type Certificate struct {
	Certificate []byte // tag 90, 9F46 or 9F2D
	Remainder   []byte // tag 92, 9F48 or 9F2F: rightmost bytes of the key, nil when all fit
	Exponent    []byte // tag 9F32, 9F47 or 9F2E
}

// A Check is what a certificate is held against. The zero Check looks at the
// certificate alone.
type Check struct {
	PAN     string                    // digits; empty: any owner
	Date    [3]byte                   // today, YYMMDD BCD as tag 9A; zero: any date
	Revoked func(serial [3]byte) bool // nil: nothing is revoked
}

// A KeyInfo is what a certificate says about its key.
type KeyInfo struct {
	Owner  string  // issuer: leading 3 to 8 digits of the PAN; ICC: the PAN
	Expiry [2]byte // MMYY BCD; valid to the end of that month
	Serial [3]byte // number the certifier gave
	Key    PublicKey
}

// RecoverIssuer opens an issuer certificate under its CA's key: 6A 02, issuer
// identifier, expiry, serial, algorithms, key, SHA-1, BC (EMV 4.4 Book 2, 5.3;
// CARD.md 1.7).
func RecoverIssuer(ca CAKey, c Certificate, check Check) (KeyInfo, error) {
	key, err := ca.Public()
	if err != nil {
		return KeyInfo{}, fmt.Errorf("CA key: %w", err)
	}
	info, err := key.open(c, issuerLayout, nil, check)
	if err != nil {
		return KeyInfo{}, fmt.Errorf("issuer certificate: %w", err)
	}
	return info, nil
}

// RecoverICC opens a card's certificate under the issuer's key: 6A 04, PAN,
// expiry, serial, algorithms, key, SHA-1, BC; the hash also covers static, the
// data to be authenticated (StaticData) (EMV 4.4 Book 2, 6.4). It serves tag
// 9F2D, the PIN encipherment key, with static nil too.
func RecoverICC(issuer PublicKey, c Certificate, static []byte, check Check) (KeyInfo, error) {
	info, err := issuer.open(c, iccLayout, static, check)
	if err != nil {
		return KeyInfo{}, fmt.Errorf("ICC certificate: %w", err)
	}
	return info, nil
}

// RecoverChain opens both certificates of a card that get gives the objects of
// (tags 90, 92, 9F32, 9F46, 9F48, 9F47). The CA key is the one the card names
// with tag 8F.
func RecoverChain(ca CAKey, get func(tlv.Tag) []byte, static []byte, check Check) (issuer, icc KeyInfo, err error) {
	issuer, err = RecoverIssuer(ca, Certificate{get(TagIssuerCert), get(TagIssuerRemainder), get(TagIssuerExponent)}, check)
	if err != nil {
		return KeyInfo{}, KeyInfo{}, err
	}
	icc, err = RecoverICC(issuer.Key, Certificate{get(TagICCCert), get(TagICCRemainder), get(TagICCExponent)}, static, check)
	return issuer, icc, err
}

// A layout is where the fields of a certificate are.
type layout struct {
	format byte
	owner  int // bytes of the owner's number, F padded
}

var (
	issuerLayout = layout{format: 0x02, owner: 4}
	iccLayout    = layout{format: 0x04, owner: 10}
)

// overhead is the number of bytes that are not key: header, format, owner,
// expiry 2, serial 3, algorithms 2, lengths 2, hash, trailer.
func (l layout) overhead() int { return 2 + l.owner + 2 + 3 + 2 + 2 + sha1.Size + 1 }

func (k PublicKey) open(c Certificate, l layout, static []byte, check Check) (KeyInfo, error) {
	if k.sm != nil {
		return k.openSM2(c, l, static, check)
	}
	raw, err := k.recover(c.Certificate, l.format, l.overhead())
	if err != nil {
		return KeyInfo{}, err
	}
	if err := checkHash(raw, c.Remainder, c.Exponent, static); err != nil {
		return KeyInfo{}, err
	}
	at := 2 + l.owner
	var info KeyInfo
	var ok bool
	if info.Owner, ok = unpadDigits(raw[2:at]); !ok {
		return KeyInfo{}, fmt.Errorf("%w: number is not digits", ErrFormat)
	}
	copy(info.Expiry[:], raw[at:])
	copy(info.Serial[:], raw[at+2:])
	if err := l.checkOwner(info, check); err != nil {
		return KeyInfo{}, err
	}
	if raw[at+5] != sha1ID || raw[at+6] != rsaID {
		return KeyInfo{}, fmt.Errorf("%w: hash %02X, key %02X", ErrAlgorithm, raw[at+5], raw[at+6])
	}
	size, expSize := int(raw[at+7]), int(raw[at+8])
	modulus, err := joinKey(raw[at+9:len(raw)-1-sha1.Size], c.Remainder, size)
	if err != nil {
		return KeyInfo{}, err
	}
	if expSize != len(c.Exponent) {
		return KeyInfo{}, fmt.Errorf("%w: exponent of %d bytes, not %d", ErrRemainder, len(c.Exponent), expSize)
	}
	info.Key, err = NewPublicKey(modulus, c.Exponent)
	return info, err
}

// checkOwner holds a certificate against the PAN, the date and the list of
// revoked ones.
func (l layout) checkOwner(info KeyInfo, check Check) error {
	if check.PAN != "" {
		same := info.Owner == check.PAN
		if l == issuerLayout {
			n := len(info.Owner)
			same = n >= 3 && n <= len(check.PAN) && check.PAN[:n] == info.Owner
		}
		if !same {
			return ErrOwner
		}
	}
	if check.Date != ([3]byte{}) {
		last, ok := monthOf(info.Expiry[1], info.Expiry[0])
		today, valid := monthOf(check.Date[0], check.Date[1])
		if !ok || !valid || today > last {
			return fmt.Errorf("%w: %X", ErrExpired, info.Expiry)
		}
	}
	if check.Revoked != nil && check.Revoked(info.Serial) {
		return fmt.Errorf("%w: serial %X", ErrRevoked, info.Serial)
	}
	return nil
}

// monthOf counts months from 1950: years 50 to 99 are 1950 to 1999 (EMV 4.4
// Book 4, 6.7.3).
func monthOf(yy, mm byte) (int, bool) {
	y, ok1 := bcd(yy)
	m, ok2 := bcd(mm)
	if y < 50 {
		y += 100
	}
	return 12*(y-50) + m, ok1 && ok2 && m >= 1 && m <= 12
}

func bcd(b byte) (int, bool) { return int(b>>4)*10 + int(b&0x0F), b>>4 < 10 && b&0x0F < 10 }

// unpadDigits reads digits padded with F on the right.
func unpadDigits(in []byte) (string, bool) {
	text := []byte(fmt.Sprintf("%x", in))
	text = bytes.TrimRight(text, "f")
	return string(text), decimal(string(text))
}

// padDigits codes digits two a byte, filled with F on the right to n bytes.
func padDigits(s string, n int) []byte {
	out := bytes.Repeat([]byte{0xFF}, n)
	for i, c := range []byte(s) {
		shift := 4 * (1 - i%2)
		out[i/2] = out[i/2]&^(0x0F<<shift) | (c-'0')<<shift
	}
	return out
}

// joinKey puts the key together from the bytes in the certificate, padded with
// BB when it is shorter, and the remainder when it is longer.
func joinKey(room, remainder []byte, size int) ([]byte, error) {
	if size <= len(room) {
		if len(remainder) != 0 {
			return nil, fmt.Errorf("%w: %d bytes too many", ErrRemainder, len(remainder))
		}
		return room[:size:size], nil
	}
	if len(remainder) != size-len(room) {
		return nil, fmt.Errorf("%w: %d bytes, %d missing", ErrRemainder, len(remainder), size-len(room))
	}
	return append(append([]byte(nil), room...), remainder...), nil
}
