package iso8583

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
)

// Salvage reads what it can of a message that Unpack refused with err, so that an
// answer can say which field is wrong: the first of those that it leaves out. 0:
// too little can be read to say anything. head is the length of what stands before
// the bitmap.
func (m *Message) Salvage(spec *Spec, message []byte, head int, err error) (first int) {
	b := bytes.Clone(message)
	for err != nil {
		var bad *FieldError
		if !errors.As(err, &bad) || bad.Field < 2 || bad.Offset <= head || bad.Offset > len(b) {
			return 0
		}
		if first = cmp.Or(first, bad.Field); errors.Is(bad.Why, ErrTrails) {
			b = b[:bad.Offset]
		} else {
			b = without(spec, b, head, bad)
		}
		err = m.Unpack(spec, b)
	}
	return first
}

// without is a message without one field, and without what comes behind it where
// nobody can tell how long it is.
func without(spec *Spec, b []byte, head int, bad *FieldError) []byte {
	last := 64
	if f, ok := spec.Field(bad.Field); ok {
		if n := sizeOf(f, b[bad.Offset:]); n > 0 {
			b, last = slices.Delete(b, bad.Offset, bad.Offset+n), bad.Field
		}
	}
	if last == 64 {
		b = b[:bad.Offset]
	}
	for n := bad.Field; n <= last; n++ {
		b[head+(n-1)/8] &^= 0x80 >> ((n - 1) % 8)
	}
	return b
}

// sizeOf is how many bytes a field takes that begins v, 0 where it does not say so.
func sizeOf(f Field, v []byte) int {
	n, head := f.Max, (f.Digits+1)/2
	if f.Digits > 0 {
		if len(v) < head {
			return 0
		}
		said, err := strconv.Atoi(hex.EncodeToString(v[:head]))
		if n = said; err != nil || n > f.Max {
			return 0
		}
	}
	if f.Coding != Plain {
		n = (n + 1) / 2
	}
	if head+n > len(v) {
		return 0
	}
	return head + n
}
