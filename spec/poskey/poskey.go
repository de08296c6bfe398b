// Package poskey writes the keys of UnionPay terminals and what is enciphered
// under them: the key blocks of field 62 in the answer to a sign-on, PIN blocks
// of field 52, and the enciphered part of tracks in fields 35 and 36. Host and
// terminal both use it. The MAC is that of package iso8583. Start at Wrap.
package poskey

import (
	"errors"

	"koala/spec/iso9797"
)

var (
	// ErrCheck says that a key is not the one of its check value: the terminal has
	// another master key, or the block was altered.
	ErrCheck = errors.New("poskey: the check value is not this key's")
	// ErrField says that a field 62 is not of whole key blocks.
	ErrField = errors.New("poskey: not a field of key blocks")
	// ErrPIN says that a PIN is not of 4 to 12 digits, or a PAN too short.
	ErrPIN = errors.New("poskey: not a PIN, or not a PAN")
	// ErrTrack says that a track is too short to have a part that is enciphered.
	ErrTrack = errors.New("poskey: the track is too short")
)

// A Kind is what a working key is for. They come in this order in field 62.
type Kind string

// The kinds.
const (
	PIK Kind = "PIK" // PIN blocks
	MAK Kind = "MAK" // MACs
	TDK Kind = "TDK" // tracks
)

// BlockLen is the length of a block for a key of double length.
const BlockLen = 20

// SingleLen is the length of a block for a key of single length: DES alone, which
// a search through all keys breaks in days. A terminal that can do no better is
// given such keys, and nobody else.
const SingleLen = 12

// A Block is a working key under a terminal's master key (TMK): enciphered in
// ECB, and the check value, the first four bytes of eight zeros enciphered under
// the key itself.
type Block struct {
	Enciphered [16]byte // of a key of single length the first eight
	Check      [4]byte
	Single     bool
}

// Double is a key of single length as one of double length that does the same:
// twice itself.
func Double(key [8]byte) (k [16]byte) {
	copy(k[:], key[:])
	copy(k[8:], key[:])
	return k
}

// WrapSingle enciphers a working key of single length.
func WrapSingle(tmk [16]byte, key [8]byte) Block {
	b := Block{Check: KCV(Double(key)), Single: true}
	copy(b.Enciphered[:], iso9797.TDESEncryptECB(tmk[:], key[:]))
	return b
}

// KCV is the check value of a key of double length.
func KCV(key [16]byte) [4]byte {
	var zero [8]byte
	k := iso9797.NewTDES(key[:])
	k.EncryptBlock(zero[:], zero[:])
	return [4]byte(zero[:])
}

// Wrap enciphers a working key.
func Wrap(tmk, key [16]byte) Block {
	return Block{Enciphered: [16]byte(iso9797.TDESEncryptECB(tmk[:], key[:])), Check: KCV(key)}
}

// Open is the terminal's side of Wrap and WrapSingle; a key of single length is
// given as Double does. Hosts that give a PIK of double and a MAK of single length
// fill the MAK's block with eight bytes 00 behind the enciphered ones: such a
// block opens too.
func (b Block) Open(tmk [16]byte) (key [16]byte, err error) {
	if b.Single {
		key = Double([8]byte(iso9797.TDESDecryptECB(tmk[:], b.Enciphered[:8])))
	} else {
		key = [16]byte(iso9797.TDESDecryptECB(tmk[:], b.Enciphered[:]))
	}
	if KCV(key) == b.Check {
		return key, nil
	}
	if filled := [8]byte(b.Enciphered[8:]) == [8]byte{}; filled && !b.Single {
		return Block{Enciphered: b.Enciphered, Check: b.Check, Single: true}.Open(tmk)
	}
	return [16]byte{}, ErrCheck
}

// Append writes the block behind dst, as field 62 has it.
func (b Block) Append(dst []byte) []byte {
	n := len(b.Enciphered)
	if b.Single {
		n = 8
	}
	return append(append(dst, b.Enciphered[:n]...), b.Check[:]...)
}

// ParseField reads the two or three blocks of field 62: PIK, MAK and perhaps
// TDK; keys of single length are two.
func ParseField(b []byte) (out []Block, err error) {
	if len(b) == 2*SingleLen {
		for ; len(b) > 0; b = b[SingleLen:] {
			x := Block{Check: [4]byte(b[8:]), Single: true}
			copy(x.Enciphered[:], b[:8])
			out = append(out, x)
		}
		return out, nil
	}
	if len(b) != 2*BlockLen && len(b) != 3*BlockLen {
		return nil, ErrField
	}
	for ; len(b) > 0; b = b[BlockLen:] {
		out = append(out, Block{Enciphered: [16]byte(b), Check: [4]byte(b[16:])})
	}
	return out, nil
}

// A PINForm is how a PIN block is made, as the first digit of field 53 says.
type PINForm byte

// The forms.
const (
	WithoutPAN PINForm = 1 // control and length, the PIN, filled with F
	WithPAN    PINForm = 2 // the same, XORed with the PAN (ISO 9564-1 format 0)
)

// PANField is 0000 and the twelve rightmost digits of the PAN but its check
// digit (ISO 9564-1, format 0).
func PANField(pan string) (f [8]byte, err error) {
	if len(pan) < 13 || len(pan) > 19 {
		return f, ErrPIN
	}
	for i, c := range []byte(pan[len(pan)-13 : len(pan)-1]) {
		if c < '0' || c > '9' {
			return [8]byte{}, ErrPIN
		}
		f[2+i/2] |= (c - '0') << (4 * (1 - i&1))
	}
	return f, nil
}

// PINBlock is the clear block of a PIN.
func PINBlock(form PINForm, pin, pan string) (b [8]byte, err error) {
	if len(pin) < 4 || len(pin) > 12 {
		return b, ErrPIN
	}
	b = [8]byte{byte(len(pin)), 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}
	for i, c := range []byte(pin) {
		if c < '0' || c > '9' {
			return [8]byte{}, ErrPIN
		}
		b[1+i/2] ^= (0xF ^ (c - '0')) << (4 * (1 - i&1))
	}
	return cross(form, b, pan)
}

// ParsePIN is the reverse of PINBlock. A block deciphered under a wrong key, or
// of another card, is ErrPIN.
func ParsePIN(form PINForm, b [8]byte, pan string) (pin string, err error) {
	if b, err = cross(form, b, pan); err != nil {
		return "", err
	}
	n := int(b[0])
	if n < 4 || n > 12 {
		return "", ErrPIN
	}
	var digits [14]byte
	for i := range digits {
		d := b[1+i/2] >> (4 * (1 - i&1)) & 0xF
		if i < n && d > 9 || i >= n && d != 0xF {
			return "", ErrPIN
		}
		digits[i] = '0' + d
	}
	return string(digits[:n]), nil
}

func cross(form PINForm, b [8]byte, pan string) ([8]byte, error) {
	switch form {
	case WithoutPAN:
		return b, nil
	case WithPAN:
		f, err := PANField(pan)
		if err != nil {
			return [8]byte{}, err
		}
		for i := range b {
			b[i] ^= f[i]
		}
		return b, nil
	}
	return [8]byte{}, ErrPIN
}

// TrackBlock is the part of a packed track (two digits to a byte, D for the
// separator, the last byte filled with 0) that is enciphered in its place: the
// eight bytes before the last one.
func TrackBlock(packed []byte) ([]byte, error) {
	if len(packed) < 9 {
		return nil, ErrTrack
	}
	return packed[len(packed)-9 : len(packed)-1], nil
}
