package emv

import (
	"bytes"
	"crypto/sha1"
	"fmt"

	"github.com/emmansun/gmsm/sm3"

	"koala/spec/tlv"
)

// signatureOverhead is the fixed part of signed static and dynamic data:
// header, format, hash algorithm, two bytes (DAC, or the length of the dynamic
// data and its first byte), hash, trailer.
const signatureOverhead = 5 + sha1.Size + 1

// Format bytes of signed data, of certificates see layout.
const (
	staticFormat  = 0x03
	dynamicFormat = 0x05
)

// VerifySDA checks signed static application data (tag 93) under the issuer's
// key over static (StaticData) and gives the data authentication code (EMV 4.4
// Book 2, 5.4).
func VerifySDA(issuer PublicKey, ssad, static []byte) (dac [2]byte, err error) {
	if issuer.sm != nil {
		raw, err := issuer.splitSM2(ssad, staticFormat, static)
		if err == nil && len(raw) != 3 {
			err = fmt.Errorf("%w: %d bytes", ErrLength, len(ssad))
		}
		if err != nil {
			return dac, fmt.Errorf("signed static data: %w", err)
		}
		return [2]byte(raw[1:]), nil
	}
	raw, err := issuer.recover(ssad, staticFormat, signatureOverhead)
	if err == nil {
		err = checkHash(raw, static)
	}
	if err == nil && raw[2] != sha1ID {
		err = fmt.Errorf("%w: hash %02X", ErrAlgorithm, raw[2])
	}
	if err != nil {
		return dac, fmt.Errorf("signed static data: %w", err)
	}
	return [2]byte(raw[3:5]), nil
}

// VerifyDynamic checks signed dynamic application data (tag 9F4B) under the
// card's key; appended is what the hash covers beside it. It gives the ICC
// dynamic data (EMV 4.4 Book 2, 6.5.2).
func VerifyDynamic(icc PublicKey, sdad, appended []byte) (dynamic []byte, err error) {
	if icc.sm != nil {
		raw, err := icc.splitSM2(sdad, dynamicFormat, appended)
		if err == nil && (len(raw) < 2 || int(raw[1]) != len(raw)-2) {
			err = fmt.Errorf("%w: length of the dynamic data", ErrFormat)
		}
		if err != nil {
			return nil, fmt.Errorf("signed dynamic data: %w", err)
		}
		return raw[2:], nil
	}
	raw, err := icc.recover(sdad, dynamicFormat, signatureOverhead)
	if err == nil {
		err = checkHash(raw, appended)
	}
	switch {
	case err != nil:
	case raw[2] != sha1ID:
		err = fmt.Errorf("%w: hash %02X", ErrAlgorithm, raw[2])
	case int(raw[3]) > len(raw)-25:
		err = fmt.Errorf("%w: dynamic data of %d bytes", ErrFormat, raw[3])
	}
	if err != nil {
		return nil, fmt.Errorf("signed dynamic data: %w", err)
	}
	return raw[4 : 4+int(raw[3])], nil
}

// VerifyDDA checks the answer to INTERNAL AUTHENTICATE and gives the ICC
// dynamic number (tag 9F4C); values are the DDOL's, as they were sent.
func VerifyDDA(icc PublicKey, sdad, values []byte) (number []byte, err error) {
	dynamic, err := VerifyDynamic(icc, sdad, values)
	if err != nil {
		return nil, err
	}
	number, _, err = dynamicNumber(dynamic)
	return number, err
}

// dynamicNumber takes the leading number off dynamic data: its length, 2 to 8
// bytes of it. PBOC's is the ATC (CARD.md 1.7).
func dynamicNumber(dynamic []byte) (number, rest []byte, err error) {
	if len(dynamic) < 1 || dynamic[0] < 2 || dynamic[0] > 8 || len(dynamic) < 1+int(dynamic[0]) {
		return nil, nil, fmt.Errorf("signed dynamic data: %w: dynamic number", ErrFormat)
	}
	n := 1 + int(dynamic[0])
	return dynamic[1:n:n], dynamic[n:], nil
}

// A CDA is what a combined signature says: the cryptogram it vouches for.
type CDA struct {
	Number []byte // ICC dynamic number, tag 9F4C
	CID    byte   // cryptogram information data, tag 9F27
	AC     [8]byte
	Hash   []byte // of the transaction data (TransactionData): SHA-1, SM3 under an SM2 key
}

// digest is the transaction data hash of the key's variant.
func (k PublicKey) digest(data []byte) []byte {
	if k.sm != nil {
		return digestSM3(data)
	}
	sum := sha1.Sum(data)
	return sum[:]
}

// TransactionData is what the transaction data hash code of a combined
// signature covers (EMV 4.4 Book 2, 6.6.1): the PDOL values, the CDOL1 values,
// for a second GENERATE AC the CDOL2 values, then the objects of the response
// (content of template 77) without 9F4B.
func TransactionData(pdol, cdol1, cdol2, response []byte) ([]byte, error) {
	out := append(append(append([]byte(nil), pdol...), cdol1...), cdol2...)
	for len(response) > 0 {
		tag, _, rest, err := tlv.Next(response)
		if err != nil {
			return nil, fmt.Errorf("transaction data: %w", err)
		}
		if tag != TagSDAD {
			out = append(out, response[:len(response)-len(rest)]...)
		}
		response = rest
	}
	return out, nil
}

// VerifyCDA checks a combined signature: the hash with the terminal's
// unpredictable number (9F37) appended, the cryptogram information against cid
// as received in 9F27, and the transaction data (TransactionData); data nil
// leaves the latter to the caller.
func VerifyCDA(icc PublicKey, sdad []byte, un [4]byte, cid byte, data []byte) (CDA, error) {
	dynamic, err := VerifyDynamic(icc, sdad, un[:])
	if err != nil {
		return CDA{}, err
	}
	number, rest, err := dynamicNumber(dynamic)
	if err != nil {
		return CDA{}, err
	}
	size := sha1.Size
	if icc.sm != nil {
		size = sm3.Size
	}
	if len(rest) < 1+8+size {
		return CDA{}, fmt.Errorf("combined signature: %w: %d bytes after the number", ErrFormat, len(rest))
	}
	c := CDA{Number: number, CID: rest[0], AC: [8]byte(rest[1:9]), Hash: rest[9 : 9+size : 9+size]}
	if c.CID != cid {
		return CDA{}, fmt.Errorf("combined signature: %w: cryptogram information %02X, not %02X", ErrFormat, c.CID, cid)
	}
	if data != nil && !bytes.Equal(icc.digest(data), c.Hash) {
		return CDA{}, fmt.Errorf("combined signature: %w: transaction data", ErrHash)
	}
	return c, nil
}

// A FastDDA is the terminal's part of a contactless signature made with the
// answer to GET PROCESSING OPTIONS (CARD.md 1.7).
type FastDDA struct {
	Version  byte    // 00 or 01: first byte of CardAuth under 01
	UN       [4]byte // 9F37
	Amount   [6]byte // 9F02, covered by version 01
	Currency [2]byte // 5F2A, covered by version 01
	CardAuth []byte  // 9F69, covered by version 01: 8 bytes for PBOC, 7 for Visa
}

// Data is what the signature covers beside the card's dynamic data: 9F37, and
// under version 01 also 9F02, 5F2A and 9F69.
func (f FastDDA) Data() []byte {
	out := append(make([]byte, 0, 20), f.UN[:]...)
	if f.Version == 0 {
		return out
	}
	out = append(out, f.Amount[:]...)
	out = append(out, f.Currency[:]...)
	return append(out, f.CardAuth...)
}

// VerifyFastDDA checks a contactless signature and gives the ICC dynamic
// number, which for PBOC is the ATC, on some cards with bytes of chance behind
// it, and must begin with 9F36; atc is that tag's value, nil leaves the
// comparison to the caller.
func VerifyFastDDA(icc PublicKey, sdad []byte, f FastDDA, atc []byte) (number []byte, err error) {
	number, err = VerifyDDA(icc, sdad, f.Data())
	if err == nil && atc != nil && !bytes.HasPrefix(number, atc) {
		return nil, fmt.Errorf("contactless signature: %w: dynamic number is not of this ATC", ErrFormat)
	}
	return number, err
}
