// Package dukpt derives the keys of card readers that have one key per
// transaction, from ANSI X9.24-1:2009 (TDES DUKPT): a reader that is taken apart
// gives away no key of a transaction before. The host derives a transaction's
// key from its base key and the serial number that comes with the message
// (Initial, Derive); the reader keeps future keys only (Reader). What a
// transaction's key is used for are its variants: start at Key.
package dukpt

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/bits"

	"koala/spec/iso9797"
)

var (
	// ErrExhausted says that a reader has used up its keys and needs a new one.
	ErrExhausted = errors.New("dukpt: the reader has no key left")
	// ErrState says that bytes are not the state of a reader.
	ErrState = errors.New("dukpt: these bytes are no state of a reader")
	// ErrCounter says that a serial number names no transaction: its counter is
	// zero, or has more than ten bits set.
	ErrCounter = errors.New("dukpt: no transaction has this counter")
)

const (
	counterBits = 21
	counterMask = 1<<counterBits - 1
	maxOnes     = 10 // bits set in a counter that is used: no host derives more often
)

// A KSN is a key serial number: key set and reader 59 bits, counter of the
// transaction 21 bits. It is not secret.
type KSN [10]byte

// String is the number in hexadecimal.
func (k KSN) String() string { return hex.EncodeToString(k[:]) }

// Counter is the transaction's number at this reader; 0 is the initial key's.
func (k KSN) Counter() uint32 { return binary.BigEndian.Uint32(k[6:]) & counterMask }

// At is the serial number with another counter.
func (k KSN) At(counter uint32) KSN {
	binary.BigEndian.PutUint32(k[6:], binary.BigEndian.Uint32(k[6:])&^counterMask|counter&counterMask)
	return k
}

// Same tells whether both are of one reader.
func (k KSN) Same(other KSN) bool { return k.At(0) == other.At(0) }

// Check is ErrCounter when the number names no transaction.
func (k KSN) Check() error {
	if n := bits.OnesCount32(k.Counter()); n == 0 || n > maxOnes {
		return ErrCounter
	}
	return nil
}

// A Key is an initial key or a transaction's: two-key triple DES. No form of
// printing shows it. It is not used itself, its variants are.
type Key [16]byte

// String leaves the key out.
func (Key) String() string { return "a DUKPT key" }

// GoString leaves it out too.
func (k Key) GoString() string { return k.String() }

// The variants (X9.24-1:2009, annex A.4.1): one byte of each half is inverted.
const (
	variantPIN         = 7
	variantMACRequest  = 6
	variantMACResponse = 4
	variantRequest     = 5
	variantResponse    = 3
)

func (k Key) variant(at int) [16]byte {
	k[at] ^= 0xFF
	k[8+at] ^= 0xFF
	return k
}

// PIN is the variant that enciphers the PIN block.
func (k Key) PIN() [16]byte { return k.variant(variantPIN) }

// MACRequest is the variant for the MAC of what the reader sends.
func (k Key) MACRequest() [16]byte { return k.variant(variantMACRequest) }

// MACResponse is the variant for the MAC of what it is answered.
func (k Key) MACResponse() [16]byte { return k.variant(variantMACResponse) }

// DataRequest is the key of data that the reader sends.
func (k Key) DataRequest() [16]byte { return k.data(variantRequest) }

// DataResponse is the key of data that it is answered.
func (k Key) DataResponse() [16]byte { return k.data(variantResponse) }

// data is a variant enciphered under itself, each half by itself.
func (k Key) data(at int) [16]byte {
	v := k.variant(at)
	return [16]byte(iso9797.TDESEncryptECB(v[:], v[:]))
}

// masked is the key whose halves make the left half of what is derived.
func masked(k [16]byte) [16]byte {
	for _, i := range [...]int{0, 1, 2, 3, 8, 9, 10, 11} {
		k[i] ^= 0xC0
	}
	return k
}

// Initial is the key that a reader is given (IPEK): of the base key (BDK) and
// the reader's part of the serial number.
func Initial(base [16]byte, k KSN) (out Key) {
	reader := k.At(0)
	other := masked(base)
	iso9797.NewTDES(base[:]).EncryptBlock(out[:8], reader[:8])
	iso9797.NewTDES(other[:]).EncryptBlock(out[8:], reader[:8])
	return out
}

// Derive is the key of the transaction that k names, from the reader's initial
// key: what the host does. The caller has checked k.
func Derive(initial Key, k KSN) Key {
	counter, reached := k.Counter(), uint32(0)
	key := initial
	for bit := uint32(1) << (counterBits - 1); bit > 0; bit >>= 1 {
		if counter&bit != 0 {
			reached |= bit
			key = next(key, k.At(reached))
		}
	}
	return key
}

// next is the non-reversible key generation of annex A.2: a key that tells
// nothing of the one it comes from.
func next(key Key, k KSN) (out Key) {
	half(out[8:], key, k)
	half(out[:8], masked(key), k)
	return out
}

func half(out []byte, key [16]byte, k KSN) {
	for i := range 8 {
		out[i] = k[2+i] ^ key[8+i]
	}
	iso9797.NewDES(key[:8]).EncryptBlock(out, out)
	for i := range 8 {
		out[i] ^= key[8+i]
	}
}
