package pboc

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/emmansun/gmsm/sm4"
	"koala/spec/iso9797"
)

// An Algorithm is the ALG byte of the issuer application data.
type Algorithm byte

// Algorithms of card keys (CARD 1.5; JR/T 0025.17 for SM4).
const (
	TripleDES Algorithm = 0x01
	SM4       Algorithm = 0x04
)

// Valid tells whether the algorithm is one of the two.
func (a Algorithm) Valid() bool { return a == TripleDES || a == SM4 }

// String names the algorithm.
func (a Algorithm) String() string {
	switch a {
	case TripleDES:
		return "3DES"
	case SM4:
		return "SM4"
	}
	return fmt.Sprintf("algorithm %02X", byte(a))
}

// A Key is a card key or session key kept ready under its algorithm; safe for
// several goroutines.
type Key struct {
	alg  Algorithm
	tdes *iso9797.TDES
	sm4  cipher.Block
}

// NewKey prepares a key. An unknown algorithm is a defect and panics.
func NewKey(alg Algorithm, key [16]byte) *Key {
	switch alg {
	case TripleDES:
		return &Key{alg: alg, tdes: iso9797.NewTDES(key[:])}
	case SM4:
		b, err := sm4.NewCipher(key[:])
		if err != nil {
			panic("pboc: " + err.Error())
		}
		return &Key{alg: alg, sm4: b}
	}
	panic("pboc: " + alg.String())
}

// Block is the block size in bytes: 8 or 16.
func (k *Key) Block() int {
	if k.sm4 != nil {
		return sm4.BlockSize
	}
	return 8
}

// SessionKey derives the key of one transaction from a card key:
// 3DES(MK, 00*6 | ATC) | 3DES(MK, 00*6 | not ATC), with SM4 the same 16 bytes as
// one block (CARD 1.6).
func (k *Key) SessionKey(atc uint16) (sk [16]byte) {
	binary.BigEndian.PutUint16(sk[6:], atc)
	binary.BigEndian.PutUint16(sk[14:], ^atc)
	if k.sm4 != nil {
		k.sm4.Encrypt(sk[:], sk[:])
		return sk
	}
	k.tdes.EncryptBlock(sk[:8], sk[:8])
	k.tdes.EncryptBlock(sk[8:], sk[8:])
	return sk
}

// Session is SessionKey kept ready.
func (k *Key) Session(atc uint16) *Key { return NewKey(k.alg, k.SessionKey(atc)) }

// MAC is the retail MAC of data, or with SM4 the first 8 bytes of its CBC-MAC,
// padding 80 00.. in both. A shorter iv than a block stands at its right end.
func (k *Key) MAC(iv, data []byte) (mac [8]byte) {
	if k.sm4 == nil {
		return k.tdes.MAC(iv, data)
	}
	var state [sm4.BlockSize]byte
	copy(state[len(state)-len(iv):], iv)
	padded := iso9797.Pad2(data, sm4.BlockSize)
	for len(padded) > 0 {
		for i := range state {
			state[i] ^= padded[i]
		}
		k.sm4.Encrypt(state[:], state[:])
		padded = padded[sm4.BlockSize:]
	}
	return [8]byte(state[:8])
}

// MAC4 is the first half of MAC.
func (k *Key) MAC4(iv, data []byte) [4]byte {
	m := k.MAC(iv, data)
	return [4]byte(m[:4])
}

// ARPC answers a cryptogram with the issuer's response code, two ASCII
// characters (method 1, CARD 1.6). k is the session key of the cryptogram.
func (k *Key) ARPC(ac [8]byte, arc [2]byte) [8]byte {
	var b [16]byte
	copy(b[:], ac[:])
	b[0] ^= arc[0]
	b[1] ^= arc[1]
	k.encryptBlock(b[:k.Block()])
	return [8]byte(b[:8])
}

func (k *Key) encryptBlock(b []byte) {
	if k.sm4 != nil {
		k.sm4.Encrypt(b, b)
		return
	}
	k.tdes.EncryptBlock(b, b)
}

// Encrypt enciphers whole blocks, each by itself.
func (k *Key) Encrypt(data []byte) []byte {
	out := append([]byte(nil), data...)
	for at, n := 0, k.Block(); at < len(out); at += n {
		k.encryptBlock(out[at : at+n])
	}
	return out
}

// ErrBlocks says that enciphered data does not fill its last block.
var ErrBlocks = errors.New("pboc: not whole blocks")

// Decrypt is the reverse of Encrypt.
func (k *Key) Decrypt(data []byte) ([]byte, error) {
	n := k.Block()
	if len(data)%n != 0 {
		return nil, ErrBlocks
	}
	if k.sm4 == nil {
		return k.tdes.DecryptECB(data), nil
	}
	out := make([]byte, len(data))
	for at := 0; at < len(out); at += n {
		k.sm4.Decrypt(out[at:at+n], data[at:at+n])
	}
	return out, nil
}

// KCV is the key check value: the first three bytes of a block of zeros
// enciphered.
func (k *Key) KCV() [3]byte {
	var b [16]byte
	k.encryptBlock(b[:k.Block()])
	return [3]byte(b[:3])
}

// SessionKey is (*Key).SessionKey of a key used once.
func SessionKey(alg Algorithm, mk [16]byte, atc uint16) [16]byte {
	return NewKey(alg, mk).SessionKey(atc)
}

// KCV is (*Key).KCV of a key used once.
func KCV(alg Algorithm, key [16]byte) [3]byte { return NewKey(alg, key).KCV() }

// Cryptogram versions (CARD 1.5). Readers and hosts also write the second one
// as 11 hexadecimal; both mean the same.
const (
	CVN01    = 0x01
	CVN17    = 17
	cvn17Hex = 0x17
)

// A Transaction is what the terminal brings to a cryptogram, as coded in its
// data objects 9F02, 9F03, 9F1A, 95, 5F2A, 9A, 9C and 9F37.
type Transaction struct {
	Amount, Other [6]byte
	Country       [2]byte
	TVR           [5]byte
	Currency      [2]byte
	Date          [3]byte
	Type          byte
	Unpredictable [4]byte
}

// ErrCVN says that the cryptogram version is neither 01 nor 17.
var ErrCVN = errors.New("pboc: unknown cryptogram version")

// ACData is what a cryptogram is the MAC of under the session key: with CVN 01
// all of t, AIP, ATC and 03 | CVR, with CVN 17 amount, unpredictable number, ATC
// and the first byte of the CVR (CARD 1.6).
func ACData(cvn byte, t Transaction, aip [2]byte, atc uint16, cvr CVR) ([]byte, error) {
	b := make([]byte, 0, 48)
	switch cvn {
	case CVN01:
		b = append(append(b, t.Amount[:]...), t.Other[:]...)
		b = append(append(b, t.Country[:]...), t.TVR[:]...)
		b = append(append(b, t.Currency[:]...), t.Date[:]...)
		b = append(append(b, t.Type), t.Unpredictable[:]...)
		b = binary.BigEndian.AppendUint16(append(b, aip[:]...), atc)
		return append(b, 0x03, byte(cvr>>16), byte(cvr>>8), byte(cvr)), nil
	case CVN17, cvn17Hex:
		b = append(append(b, t.Amount[:]...), t.Unpredictable[:]...)
		return append(binary.BigEndian.AppendUint16(b, atc), byte(cvr>>16)), nil
	}
	return nil, ErrCVN
}
