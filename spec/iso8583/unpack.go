package iso8583

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/bits"
	"slices"
	"strconv"
)

// Unpack reads one whole message of a dialect, header included, frame length
// not. What it takes, AppendTo writes back byte for byte. The values refer to
// in. After an error m is empty.
func (m *Message) Unpack(s *Spec, in []byte) error {
	m.clear(s)
	if cap(m.store) < 2*len(in) && len(in) <= MaxMessage {
		m.store = make([]byte, 0, 2*len(in)+64)
	}
	if part, at, err := m.unpack(s, in); err != nil {
		m.clear(s)
		return &FieldError{s.Name, part, at, err}
	}
	m.wire = in
	return nil
}

// unpack says which part is wrong and where.
func (m *Message) unpack(s *Spec, in []byte) (part, at int, err error) {
	if len(in) > MaxMessage {
		return PartHeader, MaxMessage, ErrLong
	}
	at, err = s.headLen(in)
	if err != nil {
		return PartHeader, 0, err
	}
	m.head = in[:at]
	n, err := m.unpackMTI(in[at:])
	if err != nil {
		return PartMTI, at, err
	}
	at += n
	if n, err = m.unpackBitmap(in[at:]); err != nil {
		return PartBitmap, at, err
	}
	at += n
	for w, b := range m.present {
		if w == 0 {
			b &^= bit(1)
		}
		for b != 0 {
			i := bits.LeadingZeros64(b)
			b &^= 1 << (63 - i)
			field := w<<6 + i + 1
			n, err := m.unpackField(field, in[at:])
			if err != nil {
				return field, at, err
			}
			at += n
		}
	}
	if at < len(in) {
		return m.last(), at, ErrTrails
	}
	return 0, 0, nil
}

// last is the highest field, or the bitmap.
func (m *Message) last() int {
	last := PartBitmap
	for n := range m.Fields() {
		last = n
	}
	return last
}

func (m *Message) unpackMTI(in []byte) (int, error) {
	size := 4
	if m.spec.MTI == BCD {
		size = 2
	}
	if len(in) < size {
		return 0, ErrShort
	}
	if size == 2 {
		hi, lo := pairs[in[0]], pairs[in[1]]
		m.mti = [4]byte{hi[0], hi[1], lo[0], lo[1]}
	} else {
		copy(m.mti[:], in)
	}
	if !all(m.mti[:], isDigit) {
		return 0, ErrMTI
	}
	return size, nil
}

func (m *Message) unpackBitmap(in []byte) (int, error) {
	size, read := 8, readBits
	if m.spec.hexBitmap() {
		size, read = 16, readHexBits
	}
	if len(in) < size {
		return 0, ErrShort
	}
	var ok bool
	if m.present[0], ok = read(in); !ok {
		return 0, ErrBitmap
	}
	switch more := m.present[0]&bit(1) != 0; {
	case more && (m.spec.Bitmap == Bitmap64 || m.spec.Bitmap == BitmapHexBoth):
		return 0, ErrBitmap
	case !more && m.spec.Bitmap != BitmapHexBoth:
		return size, nil
	}
	if len(in) < 2*size {
		return 0, ErrShort
	}
	if m.present[1], ok = read(in[size:]); !ok || m.present[1]&bit(65) != 0 {
		return 0, ErrBitmap // field 65 would announce fields above 128
	}
	return 2 * size, nil
}

func (s *Spec) hexBitmap() bool { return s.Bitmap == BitmapHex128 || s.Bitmap == BitmapHexBoth }

func readBits(in []byte) (uint64, bool) { return binary.BigEndian.Uint64(in), true }

// readHexBits reads 16 upper case hexadecimal digits; lower case would not
// write back the same.
func readHexBits(in []byte) (v uint64, ok bool) {
	for _, c := range in[:16] {
		switch {
		case c >= '0' && c <= '9':
			v = v<<4 | uint64(c-'0')
		case c >= 'A' && c <= 'F':
			v = v<<4 | uint64(c-'A'+10)
		default:
			return 0, false
		}
	}
	return v, true
}

// unpackField reads field n from the start of in and says how many bytes it
// takes.
func (m *Message) unpackField(n int, in []byte) (int, error) {
	l := &m.spec.layouts[n]
	if l.class == 0 {
		return 0, ErrNoField
	}
	count, at := int(l.max), 0
	if l.digits > 0 {
		var err error
		if count, at, err = readLength(in, l.digits, m.spec.MTI); err != nil {
			return 0, err
		}
		if count > int(l.max) {
			return 0, ErrLong
		}
	}
	size := count
	if l.coding != Plain {
		size = (count + 1) / 2
	}
	if len(in)-at < size {
		return 0, ErrShort
	}
	raw := in[at : at+size : at+size]
	if l.coding == Plain {
		m.values[n] = raw
		return at + size, l.class.check(raw)
	}
	from := len(m.store)
	var err error
	m.store, err = appendUnpacked(m.store, raw, count, l)
	m.values[n] = m.store[from:len(m.store):len(m.store)]
	return at + size, err
}

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
