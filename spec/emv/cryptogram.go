package emv

import (
	"crypto/sha1"
	"errors"
	"fmt"

	"koala/spec/iso9797"
)

// What can be wrong with a number that a key is derived from, and with a PIN.
var (
	ErrPAN = errors.New("emv: not a PAN")
	ErrPIN = errors.New("emv: not a PIN of 4 to 12 digits")
)

// A KeyOption is a way to derive a card's key from the issuer's.
type KeyOption byte

// The two ways (EMV 4.4 Book 2, A1.4). B differs from A only for a PAN of
// more than 16 digits.
const (
	OptionA KeyOption = iota
	OptionB
)

// CardKey derives a card's master key from an issuer master key of 16 bytes,
// the PAN (digits) and the PAN sequence number as tag 5F34 codes it (BCD, 00
// without one). Option A takes the rightmost 16 digits of PAN and sequence
// number; option B, for a longer PAN, the first 16 decimal digits of their
// SHA-1 (EMV 4.4 Book 2, A1.4). Parity bits are left as they come.
func CardKey(imk []byte, pan string, psn byte, option KeyOption) ([]byte, error) {
	if len(pan) < 8 || len(pan) > 19 || !decimal(pan) || psn>>4 > 9 || psn&0x0F > 9 {
		return nil, ErrPAN
	}
	digits := fmt.Sprintf("%016s%02X", pan, psn)
	y := digits[len(digits)-16:]
	if option == OptionB && len(pan) > 16 {
		y = decimalize(sha1.Sum(packDigits(pan + fmt.Sprintf("%02X", psn))))
	}
	return doubleKey(imk, packDigits(y)), nil
}

// doubleKey is 3DES(key, y) | 3DES(key, not y).
func doubleKey(key, y []byte) []byte {
	both := make([]byte, 16)
	for i, b := range y {
		both[i], both[8+i] = b, ^b
	}
	return iso9797.TDESEncryptECB(key, both)
}

// decimalize takes the first 16 digits 0-9 of a hash, then, when there are
// too few, its letters A-F as 0-5 from the left.
func decimalize(hash [20]byte) string {
	var out, letters []byte
	for _, b := range hash {
		for _, n := range []byte{b >> 4, b & 0x0F} {
			if n < 10 {
				out = append(out, '0'+n)
			} else {
				letters = append(letters, '0'+n-10)
			}
		}
	}
	return string(append(out, letters...)[:16])
}

func decimal(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// packDigits codes digits two a byte, a 0 in front of an odd number.
func packDigits(s string) []byte {
	if len(s)%2 == 1 {
		s = "0" + s
	}
	out := make([]byte, len(s)/2)
	for i := range out {
		out[i] = (s[2*i]-'0')<<4 | (s[2*i+1] - '0')
	}
	return out
}

// CommonSessionKey is the session key of the card's master key for diversifier
// r: 3DES of r with its third byte F0, then 0F (EMV 4.4 Book 2, A1.3.1).
// UnionPay's own derivation is in spec/pboc.
func CommonSessionKey(mk []byte, r [8]byte) []byte {
	var both [16]byte
	copy(both[:], r[:])
	copy(both[8:], r[:])
	both[2], both[8+2] = 0xF0, 0x0F
	return iso9797.TDESEncryptECB(mk, both[:])
}

// SessionKeyATC is CommonSessionKey for the cryptogram key: r is the ATC
// followed by zeros.
func SessionKeyATC(mk []byte, atc uint16) []byte {
	return CommonSessionKey(mk, [8]byte{byte(atc >> 8), byte(atc)})
}

// A Padding is how cryptogram data is filled to whole blocks.
type Padding byte

// The paddings.
const (
	Pad80   Padding = iota // ISO 9797-1 method 2: EMV, PBOC
	PadZero                // method 1, nothing added to whole blocks: Visa CVN 10
)

// AC is an application cryptogram: the retail MAC of data under key16 (EMV
// 4.4 Book 2, 8.1).
func AC(key16, data []byte, pad Padding) [8]byte {
	k := iso9797.NewTDES(key16)
	if pad == Pad80 {
		return k.MAC(nil, data)
	}
	padded := append([]byte(nil), data...)
	padded = repeat(padded, 0, -len(padded)&7)
	return retailPadded(key16, padded)
}

// retailPadded is the retail MAC over whole blocks.
func retailPadded(key16, padded []byte) [8]byte {
	left, right := iso9797.NewDES(key16[:8]), iso9797.NewDES(key16[8:])
	mac := left.CBCMAC(nil, padded)
	right.DecryptBlock(mac[:], mac[:])
	left.EncryptBlock(mac[:], mac[:])
	return mac
}

// ARPC1 is the issuer's answer to cryptogram ac by method 1: 3DES of ac xor
// the authorisation response code and zeros (EMV 4.4 Book 2, 8.2.1). The key is
// the session key, or the card's master key for Visa CVN 10.
func ARPC1(key16 []byte, ac [8]byte, arc [2]byte) (arpc [8]byte) {
	ac[0] ^= arc[0]
	ac[1] ^= arc[1]
	iso9797.NewTDES(key16).EncryptBlock(arpc[:], ac[:])
	return arpc
}

// ARPC2 is the answer by method 2: the first four bytes of the retail MAC of
// ac, the card status update and up to 8 bytes of proprietary data (EMV 4.4
// Book 2, 8.2.2). Tag 91 is then ARPC, csu, proprietary.
func ARPC2(key16 []byte, ac [8]byte, csu [4]byte, proprietary []byte) [4]byte {
	data := append(append(ac[:], csu[:]...), proprietary...)
	mac := iso9797.RetailMAC(key16, nil, data)
	return [4]byte(mac[:4])
}

// ScriptMAC is the MAC of an issuer script command (EMV 4.4 Book 2, 9.2.3):
// the retail MAC under the session key of the header (CLA INS P1 P2 and Lc with
// the MAC counted), chain and data. chain is ATC and cryptogram for format 2
// commands, nil where the session key alone binds the transaction. Cards check
// its first four to eight bytes.
func ScriptMAC(sk []byte, header [5]byte, chain, data []byte) [8]byte {
	all := append(append(header[:], chain...), data...)
	return iso9797.RetailMAC(sk, nil, all)
}

// EncipherScript enciphers script data of whole blocks under the session key,
// each block by itself; DecipherScript reverses it (EMV 4.4 Book 2, 9.3).
func EncipherScript(sk, blocks []byte) []byte { return iso9797.TDESEncryptECB(sk, blocks) }

// DecipherScript is the reverse of EncipherScript.
func DecipherScript(sk, blocks []byte) []byte { return iso9797.TDESDecryptECB(sk, blocks) }

// PINBlock codes a PIN as a card takes it in VERIFY and in scripts: 2, its
// length, the digits, F up to 8 bytes (ISO 9564-1 format 2; EMV 4.4 Book 3,
// 6.5.12).
func PINBlock(pin string) (block [8]byte, err error) {
	if len(pin) < 4 || len(pin) > 12 || !decimal(pin) {
		return block, ErrPIN
	}
	text := pin + "??????????"[:14-len(pin)] // '?' is '0' + 15: nibble F
	block[0] = 0x20 | byte(len(pin))
	copy(block[1:], packDigits(text[:14]))
	return block, nil
}

// ParsePINBlock reads a block of format 2.
func ParsePINBlock(block [8]byte) (pin string, err error) {
	n := int(block[0] & 0x0F)
	if block[0]>>4 != 2 || n < 4 || n > 12 {
		return "", ErrPIN
	}
	text := fmt.Sprintf("%x", block[1:])
	pin = text[:n]
	if !decimal(pin) {
		return "", ErrPIN
	}
	for _, c := range text[n:] {
		if c != 'f' {
			return "", ErrPIN
		}
	}
	return pin, nil
}

// EncipherPIN enciphers a PIN block for VERIFY with P2 88 under the card's PIN
// encipherment key or its ICC key: 7F, the block, the card's challenge, chance
// to the key's length (EMV 4.4 Book 2, 7.2). padding is that chance, Size-17
// bytes.
func EncipherPIN(k PublicKey, block, challenge [8]byte, padding []byte) ([]byte, error) {
	if len(padding) != k.Size()-pinFixed {
		return nil, fmt.Errorf("PIN: %w: %d bytes of padding", ErrLength, len(padding))
	}
	plain := append(make([]byte, 0, k.Size()), pinHeader)
	plain = append(append(plain, block[:]...), challenge[:]...)
	return k.Apply(append(plain, padding...))
}

// DecipherPIN opens what EncipherPIN made. Another challenge than the card's
// last is ErrPIN, as is a wrong header.
func DecipherPIN(k *PrivateKey, enciphered []byte, challenge [8]byte) (block [8]byte, err error) {
	plain, err := k.Apply(enciphered)
	if err != nil {
		return block, fmt.Errorf("PIN: %w", err)
	}
	if len(plain) < pinFixed || plain[0] != pinHeader || [8]byte(plain[9:17]) != challenge {
		return block, ErrPIN
	}
	return [8]byte(plain[1:9]), nil
}

// pinHeader begins an enciphered PIN, pinFixed is its length without padding.
const (
	pinHeader = 0x7F
	pinFixed  = 1 + 8 + 8
)
