// Package tlv reads and writes BER-TLV data objects as cards use them
// (ISO 7816-4, 5.2.2): tags of up to four bytes, definite lengths in their
// shortest form. What it reads it writes back byte for byte; everything else
// is an error, so that no two encodings of one object exist in the house.
package tlv

import (
	"errors"
	"fmt"
)

// MaxLength is the longest value accepted, in bytes: three length bytes, far
// above what a card's memory holds.
const MaxLength = 1<<24 - 1

// maxDepth bounds how deep constructed objects may nest in Walk and Find; card
// templates use five at most.
const maxDepth = 16

// What can be wrong with an encoding.
var (
	ErrTag    = errors.New("tlv: bad tag")
	ErrLength = errors.New("tlv: bad length")
	ErrShort  = errors.New("tlv: ends inside an object")
	ErrDeep   = errors.New("tlv: nested too deep")
)

// A Tag is the tag field as a big-endian number: 0x6F, 0x9F36, 0xBF0C. Its
// first byte is never zero, so the number of bytes follows from the value.
type Tag uint32

// Constructed says whether the value is itself a sequence of objects (bit 6
// of the first byte).
func (t Tag) Constructed() bool { return t.first()&0x20 != 0 }

// String gives the tag in hexadecimal as the standards print it.
func (t Tag) String() string { return fmt.Sprintf("%02X", uint32(t)) }

func (t Tag) first() byte {
	for t > 0xFF {
		t >>= 8
	}
	return byte(t)
}

// Next reads the first object of in: its tag, its value and what follows it.
// Both are parts of in, not copies. A length that is indefinite or longer
// coded than necessary is refused, as is a tag byte 00 (padding).
func Next(in []byte) (tag Tag, val, rest []byte, err error) {
	tag, rest, err = readTag(in)
	if err != nil {
		return 0, nil, nil, err
	}
	n, rest, err := readLength(rest)
	if err != nil {
		return 0, nil, nil, fmt.Errorf("tag %v: %w", tag, err)
	}
	if n > len(rest) {
		return 0, nil, nil, fmt.Errorf("tag %v: %w: %d of %d bytes", tag, ErrShort, len(rest), n)
	}
	return tag, rest[:n:n], rest[n:], nil
}

func readTag(in []byte) (Tag, []byte, error) {
	if len(in) == 0 {
		return 0, nil, fmt.Errorf("%w: no tag", ErrShort)
	}
	if in[0] == 0 {
		return 0, nil, fmt.Errorf("%w: 00", ErrTag)
	}
	tag := Tag(in[0])
	if in[0]&0x1F != 0x1F {
		return tag, in[1:], nil
	}
	for i := 1; i < 4; i++ {
		if i >= len(in) {
			return 0, nil, fmt.Errorf("%w: tag %v", ErrShort, tag)
		}
		tag = tag<<8 | Tag(in[i])
		if in[i]&0x80 == 0 {
			return tag, in[i+1:], nil
		}
	}
	return 0, nil, fmt.Errorf("%w: %v has more than four bytes", ErrTag, tag)
}

func readLength(in []byte) (int, []byte, error) {
	if len(in) == 0 {
		return 0, nil, fmt.Errorf("%w: no length", ErrShort)
	}
	first := in[0]
	if first < 0x80 {
		return int(first), in[1:], nil
	}
	size := int(first & 0x7F)
	if size == 0 || size > 3 {
		return 0, nil, fmt.Errorf("%w: first byte %02X", ErrLength, first)
	}
	if len(in) < 1+size {
		return 0, nil, fmt.Errorf("%w: length", ErrShort)
	}
	n := 0
	for _, b := range in[1 : 1+size] {
		n = n<<8 | int(b)
	}
	if n < 0x80 || size > 1 && n < 1<<(8*(size-1)) {
		return 0, nil, fmt.Errorf("%w: %d in %d bytes", ErrLength, n, size)
	}
	return n, in[1+size:], nil
}

// Append adds the object to dst. A tag of zero or a value above MaxLength is
// a defect of the caller and panics.
func Append(dst []byte, tag Tag, val []byte) []byte {
	if tag == 0 || len(val) > MaxLength {
		panic(fmt.Sprintf("tlv: cannot write tag %v with %d bytes", tag, len(val)))
	}
	started := false
	for shift := 24; shift >= 0; shift -= 8 {
		b := byte(tag >> shift)
		if started = started || b != 0; started {
			dst = append(dst, b)
		}
	}
	return append(appendLength(dst, len(val)), val...)
}

func appendLength(dst []byte, n int) []byte {
	switch {
	case n < 0x80:
		return append(dst, byte(n))
	case n < 0x100:
		return append(dst, 0x81, byte(n))
	case n < 0x10000:
		return append(dst, 0x82, byte(n>>8), byte(n))
	default:
		return append(dst, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
}

// Walk visits every object of in and, inside constructed ones, their parts,
// in the order they are written; depth is 0 for the outermost. It stops at
// the first error, its own or visit's.
func Walk(in []byte, visit func(depth int, tag Tag, val []byte) error) error {
	return walk(in, 0, visit)
}

func walk(in []byte, depth int, visit func(int, Tag, []byte) error) error {
	if depth > maxDepth {
		return ErrDeep
	}
	for len(in) > 0 {
		tag, val, rest, err := Next(in)
		if err != nil {
			return err
		}
		if err := visit(depth, tag, val); err != nil {
			return err
		}
		if tag.Constructed() {
			if err := walk(val, depth+1, visit); err != nil {
				return err
			}
		}
		in = rest
	}
	return nil
}

var errFound = errors.New("tlv: found")

// Find gives the value of the first object with that tag, looking into
// constructed objects on the way. What follows the object is not checked.
func Find(in []byte, want Tag) ([]byte, bool) {
	var found []byte
	err := Walk(in, func(_ int, tag Tag, val []byte) error {
		if tag != want {
			return nil
		}
		found = val
		return errFound
	})
	return found, errors.Is(err, errFound)
}
