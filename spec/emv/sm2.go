package emv

import (
	"crypto/ecdsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/emmansun/gmsm/sm2"
)

// The SM2 variant of the chain (JR/T 0025.17; CARD.md 1.7, SM2 line). Its
// certificates are not encrypted: they carry their content in plain, then the
// signature R and S. The formats come from one public source only; what that
// source does not fix is a field of SM2Layout, to be set when a second source
// says otherwise.

// ErrSignature says that an SM2 signature does not verify.
var ErrSignature = errors.New("emv: SM2 signature differs")

const (
	sm2Point     = 64 // X and Y
	sm2Signature = 64 // R and S
	sm2AlgID     = 0x04
	sm3ID        = 0x07
)

// SM2Layout is where the variable parts of the SM2 formats are, in bytes from
// their format byte.
type SM2Layout struct {
	IssuerKey int    // offset of the key's length in an issuer certificate; the key follows
	ICCKey    int    // the same in a card's certificate
	Dynamic   int    // offset of the length of the dynamic data in a signature
	UserID    []byte // identity of the signer in SM3's first hash; nil: 1234567812345678
}

// SM2Default is the layout of the one source: length bytes at 13 and 19, the
// dynamic data's length right after the format byte, the default identity.
var SM2Default = SM2Layout{IssuerKey: 13, ICCKey: 19, Dynamic: 1}

// Format bytes of the SM2 variant.
const (
	sm2Issuer  = 0x12
	sm2ICC     = 0x14
	sm2Dynamic = 0x15
)

// An SM2PublicKey is a point on the SM2 curve. The zero value verifies nothing.
type SM2PublicKey struct{ key *ecdsa.PublicKey }

// NewSM2PublicKey takes X and Y, 32 bytes each, with or without 04 in front.
func NewSM2PublicKey(point []byte) (SM2PublicKey, error) {
	if len(point) == sm2Point {
		point = append([]byte{0x04}, point...)
	}
	key, err := sm2.NewPublicKey(point)
	if err != nil || len(point) != sm2Point+1 {
		return SM2PublicKey{}, fmt.Errorf("%w: not a point of the SM2 curve", ErrPublicKey)
	}
	return SM2PublicKey{key}, nil
}

// Bytes gives X and Y.
func (k SM2PublicKey) Bytes() []byte {
	out := make([]byte, sm2Point)
	k.key.X.FillBytes(out[:32])
	k.key.Y.FillBytes(out[32:])
	return out
}

func (k SM2PublicKey) verify(uid, message, signature []byte) error {
	if k.key == nil {
		return ErrPublicKey
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])})
	if err != nil || !sm2.VerifyASN1WithSM2(k.key, uid, message, der) {
		return ErrSignature
	}
	return nil
}

// An SM2Key is a private key; its signatures are deterministic (RFC 6979 with
// SM3), so no chance is needed to sign.
type SM2Key struct {
	key    *sm2.PrivateKey
	public SM2PublicKey
}

// NewSM2Key takes the 32 bytes of a private key.
func NewSM2Key(d []byte) (*SM2Key, error) {
	key, err := sm2.NewPrivateKey(d)
	if err != nil {
		return nil, fmt.Errorf("%w: SM2", ErrPrivateKey)
	}
	return &SM2Key{key, SM2PublicKey{&key.PublicKey}}, nil
}

// Public gives the public half.
func (k *SM2Key) Public() SM2PublicKey { return k.public }

func (k *SM2Key) sign(uid, message []byte) ([]byte, error) {
	der, err := sm2.SignDeterministic(k.key, message, sm2.NewSM2SignerOption(true, uid))
	if err != nil {
		return nil, fmt.Errorf("SM2 signature: %w", err)
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &rs); err != nil {
		return nil, fmt.Errorf("SM2 signature: %w", err)
	}
	out := make([]byte, sm2Signature)
	rs.R.FillBytes(out[:32])
	rs.S.FillBytes(out[32:])
	return out, nil
}

// SM2Info is what an SM2 certificate says about its key.
type SM2Info struct {
	Owner  string  // issuer: leading 3 to 8 digits of the PAN; ICC: the PAN
	Expiry [2]byte // MMYY BCD
	Serial [3]byte
	Key    SM2PublicKey
}

// MakeIssuer certifies an issuer's key: 12, issuer identifier 4, expiry, serial,
// algorithms, key length, key, R, S (tag 90).
func (l SM2Layout) MakeIssuer(ca *SM2Key, info SM2Info) ([]byte, error) {
	if len(info.Owner) < 3 || len(info.Owner) > 8 || !decimal(info.Owner) {
		return nil, fmt.Errorf("SM2 issuer certificate: %w", ErrPAN)
	}
	return l.certify(ca, info, issuerLayout, sm2Issuer, l.IssuerKey, nil)
}

// MakeICC certifies a card's key: 14, PAN 10, expiry, serial, algorithms, key
// length, key, R, S (tag 9F46). The signature also covers static (StaticData).
func (l SM2Layout) MakeICC(issuer *SM2Key, info SM2Info, static []byte) ([]byte, error) {
	if len(info.Owner) < 8 || len(info.Owner) > 19 || !decimal(info.Owner) {
		return nil, fmt.Errorf("SM2 ICC certificate: %w", ErrPAN)
	}
	return l.certify(issuer, info, iccLayout, sm2ICC, l.ICCKey, static)
}

func (l SM2Layout) certify(k *SM2Key, info SM2Info, own layout, format byte, at int, static []byte) ([]byte, error) {
	if info.Key.key == nil {
		return nil, fmt.Errorf("SM2 certificate: %w", ErrPublicKey)
	}
	out := append([]byte{format}, padDigits(info.Owner, own.owner)...)
	out = append(out, info.Expiry[:]...)
	out = append(out, info.Serial[:]...)
	out = append(out, sm3ID, sm2AlgID)
	if len(out) > at {
		return nil, fmt.Errorf("SM2 certificate: %w: key at byte %d", ErrFormat, at)
	}
	out = repeat(out, 0x00, at-len(out))
	out = append(append(out, sm2Point), info.Key.Bytes()...)
	signature, err := k.sign(l.UserID, append(out[:len(out):len(out)], static...))
	return append(out, signature...), err
}

// RecoverIssuer reads an issuer's SM2 certificate and verifies it under the
// CA's key.
func (l SM2Layout) RecoverIssuer(ca SM2PublicKey, certificate []byte, check Check) (SM2Info, error) {
	info, err := l.open(ca, certificate, issuerLayout, sm2Issuer, l.IssuerKey, nil, check)
	if err != nil {
		return SM2Info{}, fmt.Errorf("SM2 issuer certificate: %w", err)
	}
	return info, nil
}

// RecoverICC reads a card's SM2 certificate and verifies it under the issuer's
// key.
func (l SM2Layout) RecoverICC(issuer SM2PublicKey, certificate, static []byte, check Check) (SM2Info, error) {
	info, err := l.open(issuer, certificate, iccLayout, sm2ICC, l.ICCKey, static, check)
	if err != nil {
		return SM2Info{}, fmt.Errorf("SM2 ICC certificate: %w", err)
	}
	return info, nil
}

func (l SM2Layout) open(k SM2PublicKey, raw []byte, own layout, format byte, at int, static []byte, check Check) (SM2Info, error) {
	fixed := 1 + own.owner + 2 + 3
	if at < fixed+2 || len(raw) < at+1 {
		return SM2Info{}, fmt.Errorf("%w: %d bytes", ErrLength, len(raw))
	}
	size := int(raw[at])
	end := at + 1 + size
	switch {
	case raw[0] != format:
		return SM2Info{}, fmt.Errorf("%w: %02X, not %02X", ErrFormat, raw[0], format)
	case len(raw) != end+sm2Signature:
		return SM2Info{}, fmt.Errorf("%w: %d bytes", ErrLength, len(raw))
	}
	if err := k.verify(l.UserID, append(raw[:end:end], static...), raw[end:]); err != nil {
		return SM2Info{}, err
	}
	owner, ok := unpadDigits(raw[1 : 1+own.owner])
	if !ok {
		return SM2Info{}, fmt.Errorf("%w: number is not digits", ErrFormat)
	}
	info := SM2Info{Owner: owner, Expiry: [2]byte(raw[1+own.owner:]), Serial: [3]byte(raw[3+own.owner:])}
	if err := own.checkOwner(KeyInfo{Owner: owner, Expiry: info.Expiry, Serial: info.Serial}, check); err != nil {
		return SM2Info{}, err
	}
	if raw[fixed] != sm3ID || raw[fixed+1] != sm2AlgID {
		return SM2Info{}, fmt.Errorf("%w: hash %02X, key %02X", ErrAlgorithm, raw[fixed], raw[fixed+1])
	}
	var err error
	info.Key, err = NewSM2PublicKey(raw[at+1 : end])
	return info, err
}

// SignDynamic makes tag 9F4B: 15, the length of the dynamic data, the data, R,
// S. The signature also covers what the terminal sent (FastDDA.Data for a
// contactless one).
func (l SM2Layout) SignDynamic(k *SM2Key, dynamic, appended []byte) ([]byte, error) {
	if len(dynamic) > 0xFF || l.Dynamic < 1 {
		return nil, fmt.Errorf("SM2 dynamic data: %w", ErrRoom)
	}
	out := repeat([]byte{sm2Dynamic}, sm2AlgID, l.Dynamic-1)
	out = append(append(out, byte(len(dynamic))), dynamic...)
	signature, err := k.sign(l.UserID, append(out[:len(out):len(out)], appended...))
	return append(out, signature...), err
}

// VerifyDynamic checks tag 9F4B and gives the dynamic data.
func (l SM2Layout) VerifyDynamic(k SM2PublicKey, sdad, appended []byte) ([]byte, error) {
	if l.Dynamic < 1 || len(sdad) <= l.Dynamic {
		return nil, fmt.Errorf("SM2 dynamic data: %w: %d bytes", ErrLength, len(sdad))
	}
	start := l.Dynamic + 1
	end := start + int(sdad[l.Dynamic])
	switch {
	case sdad[0] != sm2Dynamic:
		return nil, fmt.Errorf("SM2 dynamic data: %w: %02X", ErrFormat, sdad[0])
	case len(sdad) != end+sm2Signature:
		return nil, fmt.Errorf("SM2 dynamic data: %w: %d bytes", ErrLength, len(sdad))
	}
	if err := k.verify(l.UserID, append(sdad[:end:end], appended...), sdad[end:]); err != nil {
		return nil, fmt.Errorf("SM2 dynamic data: %w", err)
	}
	return sdad[start:end:end], nil
}
