package globalplatform

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"math/big"

	"koala/spec/iso7816"
	"koala/spec/iso9797"
	"koala/spec/tlv"
)

// Delegated management (GPCS 9.1.3.3, C.4, C.5): what a domain without authority
// of its own may change it shows by a token of the card issuer; what it did
// change the card confirms by a receipt.

// Key versions of delegated management (GPCS 11.1.9, and in use by public tools):
// the key identifier is 1 in both.
const (
	TokenKeyVersion   byte = 0x70
	ReceiptKeyVersion byte = 0x71
)

// ErrToken says that a token is missing or not the issuer's.
var ErrToken = errors.New("globalplatform: the token is wrong")

// ErrReceipt says that a receipt is not the card's.
var ErrReceipt = errors.New("globalplatform: the receipt is wrong")

// TokenData separates an INSTALL or DELETE, its parts put together, into the
// bytes that its token signs and the token, which may be empty: P1 | P2 | length
// of the rest | the data fields before the token (GPCS tables C-1 to C-5). The
// length is one byte, or 00 and two for 256 and more.
func TokenData(c iso7816.Command) (signed, token []byte, err error) {
	body := c.Data
	switch c.INS {
	case InsInstall:
		body, token, err = cutInstall(c)
	case InsDelete:
		body, token, err = cutDelete(c.Data)
	default:
		err = fmt.Errorf("%w: instruction %02X takes no token", ErrCommand, c.INS)
	}
	if err != nil {
		return nil, nil, err
	}
	signed = []byte{c.P1, c.P2}
	if n := len(body); n > 0xFF {
		signed = append(signed, 0, byte(n>>8), byte(n))
	} else {
		signed = append(signed, byte(n))
	}
	return append(signed, body...), token, nil
}

// cutInstall takes the last field, the token, off an INSTALL.
func cutInstall(c iso7816.Command) (body, token []byte, err error) {
	n := 5
	if InstallFor(c.P1) == ForLoad {
		n = 4
	}
	rest := c.Data
	for range n {
		if _, rest, err = nextLV(rest); err != nil {
			return nil, nil, err
		}
	}
	body = c.Data[:len(c.Data)-len(rest)]
	if len(rest) > 0 {
		token, _, err = nextLV(rest)
	}
	return body, token, err
}

// cutDelete takes the token out of a DELETE.
func cutDelete(in []byte) (body, token []byte, err error) {
	for rest := in; len(rest) > 0; {
		tag, v, after, err := tlv.Next(rest)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: DELETE", ErrCommand)
		}
		if tag == tagToken {
			token = v
		} else {
			body = append(body, rest[:len(rest)-len(after)]...)
		}
		rest = after
	}
	return body, token, nil
}

// SignToken makes the token over what TokenData gives. RSA keys of 1024 bits
// sign with PKCS#1 v1.5 and SHA-1 (scheme 1 of GPCS B.3), longer ones with PSS
// and SHA-256 (scheme 2), P-256 keys with SHA-256, r | s of 32 bytes each.
func SignToken(random io.Reader, key crypto.Signer, signed []byte) ([]byte, error) {
	switch pub := key.Public().(type) {
	case *rsa.PublicKey:
		if pub.Size() <= 128 {
			h := sha1.Sum(signed)
			return key.Sign(random, h[:], crypto.SHA1)
		}
		h := sha256.Sum256(signed)
		return key.Sign(random, h[:], &rsa.PSSOptions{SaltLength: sha256.Size, Hash: crypto.SHA256})
	case *ecdsa.PublicKey:
		h := sha256.Sum256(signed)
		der, err := key.Sign(random, h[:], crypto.SHA256)
		if err != nil {
			return nil, fmt.Errorf("signing a token: %w", err)
		}
		r, s, ok := derPair(der)
		if !ok {
			return nil, fmt.Errorf("%w: the signer's answer", ErrToken)
		}
		out := make([]byte, 64)
		r.FillBytes(out[:32])
		s.FillBytes(out[32:])
		return out, nil
	}
	return nil, ErrProtocol
}

// derPair reads SEQUENCE { INTEGER r, INTEGER s } of at most 32 bytes each.
func derPair(in []byte) (r, s *big.Int, ok bool) {
	tag, body, rest, err := tlv.Next(in)
	if err != nil || tag != 0x30 || len(rest) != 0 {
		return nil, nil, false
	}
	var n [2]*big.Int
	for i := range n {
		var v []byte
		if tag, v, body, err = tlv.Next(body); err != nil || tag != 0x02 {
			return nil, nil, false
		}
		n[i] = new(big.Int).SetBytes(v)
	}
	return n[0], n[1], len(body) == 0 && n[0].BitLen() <= 256 && n[1].BitLen() <= 256
}

// VerifyToken checks a token with the issuer's public key. For RSA keys longer
// than 1024 bits either scheme is taken: issuers use both.
func VerifyToken(key crypto.PublicKey, signed, token []byte) error {
	good := false
	switch pub := key.(type) {
	case *rsa.PublicKey:
		h1 := sha1.Sum(signed)
		good = rsa.VerifyPKCS1v15(pub, crypto.SHA1, h1[:], token) == nil
		if !good && pub.Size() > 128 {
			h := sha256.Sum256(signed)
			good = rsa.VerifyPSS(pub, crypto.SHA256, h[:], token, nil) == nil
		}
	case *ecdsa.PublicKey:
		h := sha256.Sum256(signed)
		if len(token) == 64 {
			good = ecdsa.Verify(pub, h[:], new(big.Int).SetBytes(token[:32]), new(big.Int).SetBytes(token[32:]))
		}
	}
	if !good {
		return ErrToken
	}
	return nil
}

// A Confirmation is the answer to INSTALL, LOAD and DELETE: empty, or the card's
// receipt with what makes it unique (GPCS 11.1.6).
type Confirmation struct {
	Receipt []byte // MAC: 8 bytes with a 3DES key, 16 with an AES key
	Counter uint16 // of receipts, one more each
	Unique  []byte // of the domain that made it: IIN | CIN, or the key data
}

// Bytes codes length | receipt | 02 | counter | length | unique data; a single
// 00 for the empty one.
func (c Confirmation) Bytes() []byte {
	if len(c.Receipt) == 0 {
		return []byte{0}
	}
	out := append([]byte{byte(len(c.Receipt))}, c.Receipt...)
	return append(out, c.head()...)
}

func (c Confirmation) head() []byte {
	out := []byte{2, byte(c.Counter >> 8), byte(c.Counter), byte(len(c.Unique))}
	return append(out, c.Unique...)
}

// ParseConfirmation reads it. Nothing at all, which older cards answer, is the
// empty one.
func ParseConfirmation(in []byte) (c Confirmation, err error) {
	if len(in) == 0 || len(in) == 1 && in[0] == 0 {
		return c, nil
	}
	bad := fmt.Errorf("%w: confirmation", ErrAnswer)
	var counter []byte
	for _, to := range []*[]byte{&c.Receipt, &counter, &c.Unique} {
		if len(in) == 0 || len(in) < 1+int(in[0]) {
			return Confirmation{}, bad
		}
		n := 1 + int(in[0])
		*to, in = in[1:n:n], in[n:]
	}
	if len(c.Receipt) == 0 || len(counter) != 2 || len(in) != 0 {
		return Confirmation{}, bad
	}
	c.Counter = uint16(counter[0])<<8 | uint16(counter[1])
	return c, nil
}

// Sign fills in the receipt over the confirmation data and what the operation
// was about, each behind its length: CMAC with an AES key, the retail MAC with a
// 3DES key.
func (c Confirmation) Sign(t KeyType, key []byte, about ...[]byte) Confirmation {
	data := c.head()
	for _, a := range about {
		data = appendLV(data, a)
	}
	if t == AES {
		mac := iso9797.NewAES(key).CMAC(data)
		c.Receipt = mac[:]
		return c
	}
	mac := iso9797.RetailMAC(key, make([]byte, 8), data)
	c.Receipt = mac[:]
	return c
}

// Verify checks the receipt of an operation about that.
func (c Confirmation) Verify(t KeyType, key []byte, about ...[]byte) error {
	want := c.Sign(t, key, about...)
	if subtle.ConstantTimeCompare(want.Receipt, c.Receipt) != 1 {
		return ErrReceipt
	}
	return nil
}

// About lists what an INSTALL's receipt is over (GPCS C.5, as public host
// libraries check it): load file and domain; load file and instance; the domain
// before (from), the application and the domain after, and with a registry
// update also privileges and parameters.
func (in Install) About(from AID) [][]byte {
	moved := [][]byte{[]byte(from), []byte(in.App), []byte(in.Domain)}
	switch in.For {
	case ForLoad:
		return [][]byte{[]byte(in.LoadFile), []byte(in.Domain)}
	case ForInstall, ForInstallSelect:
		return [][]byte{[]byte(in.LoadFile), []byte(in.App)}
	case ForExtradition:
		return moved
	case ForRegistryUpdate:
		var p []byte
		if !in.Keep {
			p = in.Privileges.Bytes()
		}
		return append(moved, p, in.Params)
	}
	return [][]byte{[]byte(in.App)}
}

// About lists what a DELETE's receipt is over.
func (d Delete) About() [][]byte { return [][]byte{[]byte(d.App)} }

// WithToken puts a token into an INSTALL or DELETE of an application, in place
// of any that is there.
func WithToken(c iso7816.Command, token []byte) (iso7816.Command, error) {
	switch c.INS {
	case InsInstall:
		in, err := ParseInstall(c)
		if err != nil || in.For == ForPersonalization {
			return c, fmt.Errorf("%w: INSTALL for %02X takes no token", ErrCommand, c.P1)
		}
		in.Token = token
		return in.Command(), nil
	case InsDelete:
		d, err := ParseDelete(c)
		if err != nil || d.App == "" {
			return c, fmt.Errorf("%w: DELETE of keys takes no token", ErrCommand)
		}
		d.Token = token
		return d.Command(), nil
	}
	return c, fmt.Errorf("%w: instruction %02X takes no token", ErrCommand, c.INS)
}

// ReceiptAbout lists what the receipt of an INSTALL or DELETE is over, when the
// application belonged to the domain from before it.
func ReceiptAbout(c iso7816.Command, from AID) ([][]byte, error) {
	switch c.INS {
	case InsInstall:
		in, err := ParseInstall(c)
		return in.About(from), err
	case InsDelete:
		d, err := ParseDelete(c)
		return d.About(), err
	}
	return nil, fmt.Errorf("%w: instruction %02X has no receipt", ErrCommand, c.INS)
}

// PublicField is the PUT KEY field of a token verification key, in clear: RSA
// with its exponent, or a point on P-256.
func PublicField(key crypto.PublicKey) (KeyField, error) {
	switch pub := key.(type) {
	case *rsa.PublicKey:
		n := pub.N.Bytes()
		return KeyField{Type: RSA, Length: len(n), Cipher: n, Reference: big.NewInt(int64(pub.E)).Bytes()}, nil
	case *ecdsa.PublicKey:
		point, err := pub.Bytes()
		if err != nil || !ECC.Fits(len(point)) {
			return KeyField{}, ErrKey
		}
		return KeyField{Type: ECC, Length: len(point), Cipher: point, Reference: []byte{0}}, nil
	}
	return KeyField{}, ErrProtocol
}

// Public is the key of a public field.
func (f KeyField) Public() (crypto.PublicKey, error) {
	switch {
	case f.Type == RSA && f.Type.Fits(len(f.Cipher)) && len(f.Reference) > 0 && len(f.Reference) <= 3:
		e := int(new(big.Int).SetBytes(f.Reference).Int64())
		if e < 3 || e&1 == 0 || f.Cipher[0] == 0 || f.Cipher[len(f.Cipher)-1]&1 == 0 {
			return nil, ErrKey
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(f.Cipher), E: e}, nil
	case f.Type == ECC && len(bytes.Trim(f.Reference, "\x00")) == 0: // curve 0 in one byte or more
		pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), f.Cipher)
		if err != nil {
			return nil, ErrKey
		}
		return pub, nil
	}
	return nil, ErrKey
}
