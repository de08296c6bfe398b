package desfire

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"fmt"

	"koala/spec/iso9797"
)

// A KeyKind is the cipher of a key, in the coding of the high bits of an
// application's second settings byte.
type KeyKind byte

// Kinds of keys.
const (
	DES  KeyKind = 0x00 // 16 bytes: single DES when both halves agree, else 2K3DES
	TDES KeyKind = 0x40 // 3K3DES, 24 bytes
	AES  KeyKind = 0x80 // 16 bytes

	kindMask = 0xC0
)

// Size is the length of a key of the kind in bytes; 0 for no kind.
func (k KeyKind) Size() int {
	switch k {
	case DES, AES:
		return 16
	case TDES:
		return 24
	}
	return 0
}

// MaxKeySize is the longest key in bytes.
const MaxKeySize = 24

// A Key is one key of a card. It never prints its value.
type Key struct {
	Kind    KeyKind
	Version byte             // of an AES key; DES keys carry theirs in the parity bits
	Value   [MaxKeySize]byte // the first Kind.Size() bytes count
}

// AESKey makes an AES key.
func AESKey(value [16]byte, version byte) Key { return NewKey(AES, value[:], version) }

// DESKey makes a DES or 2K3DES key of 16 bytes. All zeros is the master key of
// a card from the factory.
func DESKey(value [16]byte) Key { return NewKey(DES, value[:], 0) }

// NewKey makes a key of value, whose length must be the kind's.
func NewKey(kind KeyKind, value []byte, version byte) Key {
	if len(value) != kind.Size() || len(value) == 0 {
		panic(fmt.Sprintf("desfire: key of kind %02X with %d bytes", byte(kind), len(value)))
	}
	k := Key{Kind: kind, Version: version}
	copy(k.Value[:], value)
	if kind != AES {
		k.Version = parityVersion(value)
	}
	return k
}

// parityVersion collects the parity bits of the first eight bytes, where DES
// keys keep their version.
func parityVersion(value []byte) (v byte) {
	for _, b := range value[:8] {
		v = v<<1 | b&1
	}
	return v
}

// Bytes is the key's value.
func (k Key) Bytes() []byte { return k.Value[:k.Kind.Size()] }

// String names the key without its value.
func (k Key) String() string {
	return fmt.Sprintf("key kind %02X version %02X", byte(k.Kind), k.Version)
}

// GoString is String, so that no printing shows the key.
func (k Key) GoString() string { return k.String() }

// single says that a DES key has two equal halves, parity bits aside.
func (k Key) single() bool {
	for i := range 8 {
		if (k.Value[i]^k.Value[i+8])&0xFE != 0 {
			return false
		}
	}
	return true
}

// randomSize is the length of the randoms in an authentication.
func (k Key) randomSize() int {
	if k.Kind == DES {
		return 8
	}
	return 16
}

// RandomSize is the length of the randoms in an authentication with k, bytes.
func (k Key) RandomSize() int { return k.randomSize() }

// A mac is a block cipher with its CMAC subkeys (SP 800-38B), of 8 or 16 bytes.
type mac struct {
	cipher.Block
	k1, k2 []byte
}

func (k Key) cipher() *mac {
	var b cipher.Block
	var err error
	switch k.Kind {
	case AES:
		b, err = aes.NewCipher(k.Bytes())
	case TDES:
		b, err = des.NewTripleDESCipher(k.Bytes())
	case DES:
		var wide [24]byte
		copy(wide[:], k.Bytes())
		copy(wide[16:], k.Value[:8])
		b, err = des.NewTripleDESCipher(wide[:])
	default:
		panic(fmt.Sprintf("desfire: key kind %02X", byte(k.Kind)))
	}
	if err != nil {
		panic("desfire: " + err.Error())
	}
	m := &mac{Block: b}
	zero := make([]byte, b.BlockSize())
	b.Encrypt(zero, zero)
	m.k1 = double(zero)
	m.k2 = double(m.k1)
	return m
}

// double multiplies by x in the field of the block size: the polynomial ends
// in 87 for 16 bytes and in 1B for 8.
func double(in []byte) []byte {
	poly := byte(0x87)
	if len(in) == 8 {
		poly = 0x1B
	}
	out := make([]byte, len(in))
	for i := range in {
		out[i] = in[i] << 1
		if i+1 < len(in) {
			out[i] |= in[i+1] >> 7
		}
	}
	out[len(in)-1] ^= poly & -(in[0] >> 7)
	return out
}

// cmac runs CMAC from the state iv and leaves the whole result there. Data that
// does not fill the least number of blocks is padded up to them.
func (m *mac) cmac(iv, data []byte, least int) {
	size := m.BlockSize()
	blocks := max(least, (len(data)+size-1)/size, 1)
	padded := make([]byte, blocks*size)
	copy(padded, data)
	sub := m.k1
	if len(data) < len(padded) {
		padded[len(data)] = 0x80
		sub = m.k2
	}
	last := padded[len(padded)-size:]
	for i := range last {
		last[i] ^= sub[i]
	}
	for ; len(padded) > 0; padded = padded[size:] {
		for i := range iv {
			iv[i] ^= padded[i]
		}
		m.Encrypt(iv, iv)
	}
}

// Diversify derives a card's key from a master key of the same kind (AN10922):
// the CMAC of 01 and the input, padded to two blocks, for AES; of 21 and 22 and
// the input, for the two halves of 2K3DES. The input has 1-31 bytes for AES and
// 1-15 for 2K3DES; another length or kind is a defect and panics. The version is
// the master's.
func Diversify(master Key, input []byte) Key {
	m := master.cipher()
	size := m.BlockSize()
	if len(input) == 0 || len(input) >= 2*size || master.Kind == TDES {
		panic(fmt.Sprintf("desfire: diversification of kind %02X with %d bytes", byte(master.Kind), len(input)))
	}
	derive := func(constant byte) []byte {
		out := make([]byte, size)
		m.cmac(out, append([]byte{constant}, input...), 2)
		return out
	}
	if master.Kind == AES {
		return NewKey(AES, derive(0x01), master.Version)
	}
	return NewKey(DES, append(derive(0x21), derive(0x22)...), 0)
}

// DiversificationInput is what this house derives card keys with: UID 7 | AID 3
// as on the wire | system identifier of 1-21 bytes.
func DiversificationInput(uid UID, app AID, system string) []byte {
	a := app.Bytes()
	return append(append(append(make([]byte, 0, 31), uid[:]...), a[:]...), system...)
}

// CardKey is the diversified AES key of a card's application.
func CardKey(master Key, uid UID, app AID, system string) Key {
	return Diversify(master, DiversificationInput(uid, app, system))
}

// CheckValue is the key check value of an AES key: the first three bytes of
// sixteen 01 encrypted.
func (k Key) CheckValue() [3]byte { return iso9797.KCVAES(k.Bytes()) }
