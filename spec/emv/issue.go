package emv

import (
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/emmansun/gmsm/sm2"
)

// Why a key or certificate cannot be made.
var (
	ErrPrivateKey = errors.New("emv: not a usable private key")
	ErrRoom       = errors.New("emv: too long for the signing key")
)

// A PrivateKey signs with the parts a card is personalised with (CARD.md
// 1.14: DGIs 8201 to 8205), by the Chinese remainder theorem, or with an SM2
// key. It is safe for several goroutines.
type PrivateKey struct {
	public             PublicKey
	p, q, dp, dq, qInv *big.Int
	sm                 *sm2.PrivateKey // nil: RSA
}

// CRT is a private key in the five parts of personalisation, each as long as
// half the modulus, zeros in front.
type CRT struct {
	QInv []byte // DGI 8201: q^-1 mod p
	DQ   []byte // DGI 8202: d mod (q-1)
	DP   []byte // DGI 8203: d mod (p-1)
	Q    []byte // DGI 8204
	P    []byte // DGI 8205
}

var one = big.NewInt(1)

// NewPrivateKey makes a key of two primes and a public exponent (03 or
// 010001).
func NewPrivateKey(p, q, exponent []byte) (*PrivateKey, error) {
	pp, qq, e := new(big.Int).SetBytes(p), new(big.Int).SetBytes(q), new(big.Int).SetBytes(exponent)
	if pp.BitLen() < 2 || qq.BitLen() < 2 || pp.Cmp(qq) == 0 {
		return nil, fmt.Errorf("%w: primes", ErrPrivateKey)
	}
	p1, q1 := new(big.Int).Sub(pp, one), new(big.Int).Sub(qq, one)
	dp, dq := new(big.Int), new(big.Int)
	if dp.ModInverse(e, p1) == nil || dq.ModInverse(e, q1) == nil {
		return nil, fmt.Errorf("%w: exponent has no inverse", ErrPrivateKey)
	}
	qInv := new(big.Int).ModInverse(qq, pp)
	if qInv == nil {
		return nil, fmt.Errorf("%w: primes", ErrPrivateKey)
	}
	public, err := NewPublicKey(new(big.Int).Mul(pp, qq).Bytes(), exponent)
	if err != nil {
		return nil, err
	}
	if !public.full() {
		return nil, fmt.Errorf("%w: top bit of the modulus", ErrPrivateKey)
	}
	return &PrivateKey{public: public, p: pp, q: qq, dp: dp, dq: dq, qInv: qInv}, nil
}

// FromCRT makes a key of its five parts, as a card receives them, and checks
// that they belong together. The public exponent is not among them; it follows
// from the others.
func FromCRT(c CRT) (*PrivateKey, error) {
	k := &PrivateKey{
		p: new(big.Int).SetBytes(c.P), q: new(big.Int).SetBytes(c.Q),
		dp: new(big.Int).SetBytes(c.DP), dq: new(big.Int).SetBytes(c.DQ), qInv: new(big.Int).SetBytes(c.QInv),
	}
	n := new(big.Int).Mul(k.p, k.q)
	size := (n.BitLen() + 7) / 8
	if k.p.Bit(0) == 0 || k.q.Bit(0) == 0 || size < 2 || size > MaxKeyBytes || k.p.BitLen() < 2 || k.q.BitLen() < 2 {
		return nil, fmt.Errorf("%w: primes", ErrPrivateKey)
	}
	check := new(big.Int).Mul(k.qInv, k.q)
	if check.Mod(check, k.p).Cmp(one) != 0 {
		return nil, fmt.Errorf("%w: coefficient", ErrPrivateKey)
	}
	e := new(big.Int).ModInverse(k.dp, new(big.Int).Sub(k.p, one))
	if e == nil || e.BitLen() < 2 || e.BitLen() > 24 {
		return nil, fmt.Errorf("%w: exponents", ErrPrivateKey)
	}
	q1 := new(big.Int).Sub(k.q, one)
	if check.Mul(e, k.dq).Mod(check, q1).Cmp(one) != 0 {
		return nil, fmt.Errorf("%w: exponents", ErrPrivateKey)
	}
	k.public = PublicKey{n: n, e: e, size: size}
	if !k.public.full() {
		return nil, fmt.Errorf("%w: top bit of the modulus", ErrPrivateKey)
	}
	return k, nil
}

// full says whether the modulus has its top bit set, as EMV's keys have (EMV
// 4.4 Book 2, B2.1): every block that begins with 6A is then below it.
func (k PublicKey) full() bool { return k.n.BitLen() == 8*k.size }

// CRT gives the parts for personalisation; none of an SM2 key (Scalar).
func (k *PrivateKey) CRT() CRT {
	if k.sm != nil {
		return CRT{}
	}
	half := (k.public.size + 1) / 2
	part := func(n *big.Int) []byte { return n.FillBytes(make([]byte, half)) }
	return CRT{QInv: part(k.qInv), DQ: part(k.dq), DP: part(k.dp), Q: part(k.q), P: part(k.p)}
}

// Public gives the public half.
func (k *PrivateKey) Public() PublicKey { return k.public }

// Apply raises in, as long as the modulus and below it, to the private
// exponent: the raw signature, and what deciphers a PIN.
func (k *PrivateKey) Apply(in []byte) ([]byte, error) {
	if k.sm != nil {
		return nil, fmt.Errorf("%w: SM2", ErrPrivateKey)
	}
	x := new(big.Int).SetBytes(in)
	if len(in) != k.public.size || x.Cmp(k.public.n) >= 0 {
		return nil, fmt.Errorf("%w: %d bytes, key has %d", ErrLength, len(in), k.public.size)
	}
	var a, b big.Int
	a.Exp(a.Mod(x, k.p), k.dp, k.p)
	b.Exp(b.Mod(x, k.q), k.dq, k.q)
	a.Sub(&a, &b).Mul(&a, k.qInv).Mod(&a, k.p)
	a.Mul(&a, k.q).Add(&a, &b)
	return a.FillBytes(make([]byte, k.public.size)), nil
}

// sign fills in the hash and the trailer of a block that has everything
// before them, then signs it. The hash also covers more.
func (k *PrivateKey) sign(block []byte, more ...[]byte) []byte {
	h := sha1.New()
	h.Write(block[1:])
	for _, m := range more {
		h.Write(m)
	}
	out, err := k.Apply(append(h.Sum(block), trailer))
	if err != nil {
		panic(err) // header 6A is below a modulus whose top bit is set, and the caller gave the length
	}
	return out
}

// room is the number of bytes between the fixed fields and the hash; negative
// when the key is too short for them.
func (k *PrivateKey) room(fixed int) int { return k.public.size - fixed - sha1.Size - 1 }

// MakeIssuerCertificate certifies an issuer's key under the CA's: tags 90, 92
// and 9F32. Owner is 3 to 8 leading digits of the PAN.
func MakeIssuerCertificate(ca *PrivateKey, info KeyInfo) (Certificate, error) {
	if len(info.Owner) < 3 || len(info.Owner) > 8 || !decimal(info.Owner) {
		return Certificate{}, fmt.Errorf("issuer certificate: %w", ErrPAN)
	}
	return ca.certify(info, issuerLayout, nil)
}

// MakeICCCertificate certifies a card's key under the issuer's: tags 9F46,
// 9F48 and 9F47, over the data to be authenticated (StaticData). Owner is the
// PAN.
func MakeICCCertificate(issuer *PrivateKey, info KeyInfo, static []byte) (Certificate, error) {
	if len(info.Owner) < 8 || len(info.Owner) > 19 || !decimal(info.Owner) {
		return Certificate{}, fmt.Errorf("ICC certificate: %w", ErrPAN)
	}
	return issuer.certify(info, iccLayout, static)
}

func (k *PrivateKey) certify(info KeyInfo, l layout, static []byte) (Certificate, error) {
	if k.sm != nil {
		return k.certifySM2(info, l, static)
	}
	room := k.public.size - l.overhead()
	if room < 0 || info.Key.n == nil { // an RSA key certifies RSA keys
		return Certificate{}, fmt.Errorf("certificate: %w", ErrRoom)
	}
	modulus, exponent := info.Key.Modulus(), info.Key.Exponent()
	block := make([]byte, 0, k.public.size)
	block = append(block, header, l.format)
	block = append(block, padDigits(info.Owner, l.owner)...)
	block = append(block, info.Expiry[:]...)
	block = append(block, info.Serial[:]...)
	block = append(block, sha1ID, rsaID, byte(len(modulus)), byte(len(exponent)))
	inside := min(room, len(modulus))
	block = append(block, modulus[:inside]...)
	block = repeat(block, filler, room-inside)
	c := Certificate{Exponent: exponent}
	if inside < len(modulus) {
		c.Remainder = modulus[inside:]
	}
	c.Certificate = k.sign(block, c.Remainder, exponent, static)
	return c, nil
}

// SignStatic makes tag 93: the issuer's signature over a card's static data
// with a data authentication code (EMV 4.4 Book 2, 5.1).
func (k *PrivateKey) SignStatic(dac [2]byte, static []byte) ([]byte, error) {
	if k.sm != nil {
		return k.signSM2([]byte{sm2Format | staticFormat, dac[0], dac[1]}, static)
	}
	room := k.room(5)
	if room < 0 {
		return nil, fmt.Errorf("static data: %w", ErrRoom)
	}
	block := append(make([]byte, 0, k.public.size), header, staticFormat, sha1ID, dac[0], dac[1])
	return k.sign(repeat(block, filler, room), static), nil
}

// SignDynamic makes tag 9F4B: the card's signature over its dynamic data and
// what the terminal sent, appended to the hash only (EMV 4.4 Book 2, 6.5.2).
func (k *PrivateKey) SignDynamic(dynamic, appended []byte) ([]byte, error) {
	if k.sm != nil && len(dynamic) <= 0xFF {
		return k.signSM2(append([]byte{sm2Format | dynamicFormat, byte(len(dynamic))}, dynamic...), appended)
	}
	room := k.room(4 + len(dynamic))
	if room < 0 || len(dynamic) > 0xFF {
		return nil, fmt.Errorf("dynamic data: %w", ErrRoom)
	}
	block := append(make([]byte, 0, k.public.size), header, dynamicFormat, sha1ID, byte(len(dynamic)))
	block = append(block, dynamic...)
	return k.sign(repeat(block, filler, room), appended), nil
}

// SignDDA answers INTERNAL AUTHENTICATE: the ICC dynamic number (2 to 8 bytes)
// and the DDOL values are signed. With FastDDA.Data as values it is the
// contactless signature.
func (k *PrivateKey) SignDDA(number, values []byte) ([]byte, error) {
	return k.SignDynamic(append([]byte{byte(len(number))}, number...), values)
}

// SignFastDDA makes the contactless signature; PBOC's dynamic number is the
// ATC (CARD.md 1.7).
func (k *PrivateKey) SignFastDDA(atc [2]byte, f FastDDA) ([]byte, error) {
	return k.SignDDA(atc[:], f.Data())
}

// SignCDA makes a combined signature over a cryptogram; Hash of c is computed
// from data (TransactionData).
func (k *PrivateKey) SignCDA(c CDA, un [4]byte, data []byte) ([]byte, error) {
	c.Hash = k.public.digest(data)
	dynamic := append([]byte{byte(len(c.Number))}, c.Number...)
	dynamic = append(dynamic, c.CID)
	dynamic = append(dynamic, c.AC[:]...)
	return k.SignDynamic(append(dynamic, c.Hash...), un[:])
}

// GenerateKey makes a key of bits (a multiple of 16, 256 to 1984) with public
// exponent 3 or 65537 from a source of chance. crypto/rsa makes neither
// exponent 3 nor the shorter keys cards use.
func GenerateKey(random io.Reader, bits, exponent int) (*PrivateKey, error) {
	if bits%16 != 0 || bits < 256 || bits > 8*MaxKeyBytes || exponent != 3 && exponent != 65537 {
		return nil, fmt.Errorf("%w: %d bits, exponent %d", ErrPrivateKey, bits, exponent)
	}
	e := big.NewInt(int64(exponent))
	for {
		p, err := prime(random, bits/2, e)
		if err != nil {
			return nil, err
		}
		q, err := prime(random, bits/2, e)
		if err != nil {
			return nil, err
		}
		if p.Cmp(q) != 0 {
			return NewPrivateKey(p.Bytes(), q.Bytes(), e.Bytes())
		}
	}
}

// prime draws random odd numbers whose two top bits are set until one is prime,
// so that the product has full length. p-1 has no factor in common with e.
func prime(random io.Reader, bits int, e *big.Int) (*big.Int, error) {
	raw := make([]byte, bits/8)
	for {
		if _, err := io.ReadFull(random, raw); err != nil {
			return nil, fmt.Errorf("key: %w", err)
		}
		raw[0] |= 0xC0
		raw[len(raw)-1] |= 1
		p := new(big.Int).SetBytes(raw)
		var less, rest big.Int
		if rest.Mod(less.Sub(p, one), e).Sign() != 0 && p.ProbablyPrime(20) {
			return p, nil
		}
	}
}
