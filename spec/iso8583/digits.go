package iso8583

import (
	"encoding/binary"
	"slices"
)

// Character sets, one bit each, for the checks of a field's class.
const (
	isDigit byte = 1 << iota
	isTrack
	isAlpha
	isHex
)

// charSets says which sets a byte is in.
var charSets = func() (t [256]byte) {
	for c := range 256 {
		if c >= '0' && c <= '9' {
			t[c] |= isDigit | isTrack | isHex
		}
		if c == 'D' || c == '=' {
			t[c] |= isTrack | isHex
		}
		if c >= 'A' && c <= 'F' {
			t[c] |= isHex
		}
		if c >= 0x20 && c <= 0x7E {
			t[c] |= isAlpha
		}
	}
	return t
}()

// all says that every byte of v is in set.
func all(v []byte, set byte) bool {
	both := set
	for _, c := range v {
		both &= charSets[c]
	}
	return both != 0
}

// printable says that every byte of v is 20 to 7E, eight at a time.
func printable(v []byte) bool {
	for ; len(v) >= 8; v = v[8:] {
		w := binary.LittleEndian.Uint64(v)
		if (w|(w-0x2020202020202020)|(w+0x0101010101010101))&0x8080808080808080 != 0 {
			return false // the top bit, a borrow below 20, or 7F
		}
	}
	return all(v, isAlpha)
}

// check says what is wrong with the characters of a value, nil when nothing.
func (c Class) check(v []byte) error {
	switch c {
	case Numeric:
		if !all(v, isDigit) {
			return ErrDigits
		}
	case Track:
		if !all(v, isTrack) {
			return ErrTrack
		}
	case HexTrack:
		if !all(v, isHex) {
			return ErrTrack
		}
	case Alpha:
		if !printable(v) {
			return ErrText
		}
	case Signed:
		if len(v) == 0 || v[0] != 'C' && v[0] != 'D' {
			return ErrSign
		}
		if !all(v[1:], isDigit) {
			return ErrDigits
		}
	}
	return nil
}

// pairs are the two characters of a packed byte; pairSets the sets that both
// are in. A track's separator is packed as D.
var pairs, pairSets = func() (t [256][2]byte, sets [256]byte) {
	const hex = "0123456789ABCDEF"
	for b := range 256 {
		t[b] = [2]byte{hex[b>>4], hex[b&15]}
		sets[b] = charSets[t[b][0]] & charSets[t[b][1]]
	}
	return t, sets
}()

// nibbles are the values of hexadecimal digits and separators, FF for other
// characters.
var nibbles = func() (t [256]byte) {
	for c := range 256 {
		t[c] = 0xFF
		if charSets[c]&isDigit != 0 {
			t[c] = byte(c - '0')
		}
		if c >= 'A' && c <= 'F' {
			t[c] = byte(c - 'A' + 10)
		}
	}
	t['='] = 0x0D
	return t
}()

// appendUnpacked appends the n characters of packed digits to dst.
func appendUnpacked(dst, packed []byte, n int, l *layout) ([]byte, error) {
	set, why := isDigit, ErrDigits
	switch l.class {
	case Track:
		set, why = isTrack, ErrTrack
	case HexTrack:
		set, why = isHex, ErrTrack
	}
	if n%2 == 1 && l.coding == BCDRight {
		first := packed[0]
		if first>>4 != 0 {
			return dst, ErrPadding
		}
		if pairSets[first]&set == 0 {
			return dst, why
		}
		dst, packed = append(dst, pairs[first][1]), packed[1:]
		n--
	}
	both, at := set, len(dst)
	dst = slices.Grow(dst, n+1)[:at+n&^1]
	out := dst[at:]
	for _, b := range packed[:n/2] {
		both &= pairSets[b]
		p := pairs[b]
		out[0], out[1] = p[0], p[1]
		out = out[2:]
	}
	if both == 0 {
		return dst, why
	}
	if n%2 == 1 {
		last := packed[n/2]
		if last&0x0F != 0 {
			return dst, ErrPadding
		}
		if pairSets[last]&set == 0 {
			return dst, why
		}
		dst = append(dst, pairs[last][0])
	}
	return dst, nil
}

// appendPacked appends digits two a byte; they have been checked.
func appendPacked(dst, digits []byte, coding Coding) []byte {
	if len(digits)%2 == 1 && coding == BCDRight {
		dst, digits = append(dst, nibbles[digits[0]]), digits[1:]
	}
	at := len(dst)
	dst = slices.Grow(dst, len(digits)/2+1)[:at+len(digits)/2]
	out := dst[at:]
	for i := range out {
		out[i] = nibbles[digits[0]]<<4 | nibbles[digits[1]]
		digits = digits[2:]
	}
	if len(digits) == 1 {
		dst = append(dst, nibbles[digits[0]]<<4)
	}
	return dst
}

// readLength reads the length before a variable field: digits characters in
// ASCII, or packed right-aligned. size is how many bytes it takes.
func readLength(in []byte, digits uint8, coding Coding) (n, size int, err error) {
	size = lengthSize(digits, coding)
	if len(in) < size {
		return 0, 0, ErrShort
	}
	for _, b := range in[:size] {
		if coding == Plain {
			if b < '0' || b > '9' {
				return 0, 0, ErrPrefix
			}
			n = n*10 + int(b-'0')
			continue
		}
		if pairSets[b]&isDigit == 0 {
			return 0, 0, ErrPrefix
		}
		n = n*100 + int(b>>4)*10 + int(b&15)
	}
	return n, size, nil
}

func lengthSize(digits uint8, coding Coding) int {
	if coding == Plain {
		return int(digits)
	}
	return (int(digits) + 1) / 2
}

func appendLength(dst []byte, n int, digits uint8, coding Coding) []byte {
	if coding == Plain {
		if digits == 3 {
			dst = append(dst, byte('0'+n/100))
		}
		return append(dst, byte('0'+n/10%10), byte('0'+n%10))
	}
	if digits == 3 {
		dst = append(dst, byte(n/100))
	}
	return append(dst, byte(n/10%10<<4|n%10))
}
