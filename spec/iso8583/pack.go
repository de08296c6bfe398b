package iso8583

import (
	"encoding/binary"
	"math/bits"
)

// AppendTo appends the message to dst: header, message type, bitmap, fields. A
// fixed value that is too short is filled as the dialect says. The header of
// the interchange dialect gets the message's length. After an error dst is
// returned as it came.
func (m *Message) AppendTo(dst []byte) ([]byte, error) {
	out, part, err := m.pack(dst)
	if err != nil {
		return dst, &FieldError{m.spec.Name, part, len(out) - len(dst), err}
	}
	return out, nil
}

// pack gives what it has written when a part is wrong.
func (m *Message) pack(dst []byte) (out []byte, part int, err error) {
	s, start := m.spec, len(dst)
	if !s.takesHead(m.head) {
		return dst, PartHeader, ErrHeader
	}
	out = append(dst, m.head...)
	if !all(m.mti[:], isDigit) {
		return out, PartMTI, ErrMTI
	}
	if s.MTI == BCD {
		out = appendPacked(out, m.mti[:], BCD)
	} else {
		out = append(out, m.mti[:]...)
	}
	if out, err = m.packBitmap(out); err != nil {
		return out, PartBitmap, err
	}
	for w, b := range m.present {
		if w == 0 {
			b &^= bit(1)
		}
		for b != 0 {
			i := bits.LeadingZeros64(b)
			b &^= 1 << (63 - i)
			n := w<<6 + i + 1
			if out, err = m.packField(out, n); err != nil {
				return out, n, err
			}
		}
	}
	if len(out)-start > MaxMessage {
		return out, m.last(), ErrLong
	}
	if s.Head == InterchangeHead && len(m.head) > 0 {
		putTotal(out[start:], len(out)-start)
	}
	return out, 0, nil
}

func (m *Message) packBitmap(dst []byte) ([]byte, error) {
	first, second := m.present[0], m.present[1]
	both := m.spec.Bitmap == BitmapHexBoth
	if second != 0 && !both {
		first |= bit(1)
	}
	if m.spec.Bitmap == Bitmap64 && first&bit(1) != 0 || second&bit(65) != 0 {
		return dst, ErrBitmap
	}
	dst = m.spec.appendBits(dst, first)
	if both || first&bit(1) != 0 {
		dst = m.spec.appendBits(dst, second)
	}
	return dst, nil
}

func (s *Spec) appendBits(dst []byte, v uint64) []byte {
	if !s.hexBitmap() {
		return binary.BigEndian.AppendUint64(dst, v)
	}
	for shift := 56; shift >= 0; shift -= 8 {
		p := pairs[byte(v>>shift)]
		dst = append(dst, p[0], p[1])
	}
	return dst
}

// packField appends field n; what it has written is kept when it is wrong.
func (m *Message) packField(dst []byte, n int) ([]byte, error) {
	l, v := &m.spec.layouts[n], m.values[n]
	if l.class == 0 {
		return dst, ErrNoField
	}
	short := int(l.max) - len(v)
	switch {
	case short < 0:
		return dst, ErrLong
	case l.digits > 0:
		dst = appendLength(dst, len(v), l.digits, m.spec.MTI)
	case short > 0 && l.pad == NoPadding:
		return dst, ErrLength
	}
	if err := l.class.check(v); err != nil {
		return dst, err
	}
	if short > 0 && l.digits == 0 {
		var room [maxFilled]byte
		v = l.fill(room[:0], v)
	}
	if l.coding == Plain {
		return append(dst, v...), nil
	}
	return appendPacked(dst, v, l.coding), nil
}

// maxFilled is more than the longest fixed field has characters.
const maxFilled = 64

// fill appends a fixed value with what it lacks.
func (l *layout) fill(dst, v []byte) []byte {
	short := int(l.max) - len(v)
	if l.pad == Spaces {
		return appendRun(append(dst, v...), ' ', short)
	}
	return append(appendRun(dst, '0', short), v...)
}

func appendRun(dst []byte, c byte, n int) []byte {
	for range n {
		dst = append(dst, c)
	}
	return dst
}
