package emv

import (
	"errors"
	"fmt"

	"koala/spec/tlv"
)

// MaxDOLData is the most bytes that the values of one data object list may
// have, since they travel in one short command (EMV 4.4 Book 3, 5.4).
const MaxDOLData = 252

// What can be wrong with a list and its values.
var (
	ErrDOL     = errors.New("emv: malformed data object list")
	ErrDOLData = errors.New("emv: data does not fit its list")
)

// A DOLEntry asks for one object of exactly Len bytes.
type DOLEntry struct {
	Tag tlv.Tag
	Len int // bytes, 0 to 255
}

// A DOL is a data object list: PDOL, CDOL, DDOL, TDOL, a log format. The
// values travel in this order without tags or lengths.
type DOL []DOLEntry

// ParseDOL reads a list: tags, each followed by one length byte (EMV 4.4 Book
// 3, 5.4). The empty list is a list.
func ParseDOL(raw []byte) (DOL, error) {
	var d DOL
	for len(raw) > 0 {
		tag, rest, err := nextTag(raw)
		if err != nil {
			return nil, err
		}
		if len(rest) == 0 {
			return nil, fmt.Errorf("%w: tag %v has no length", ErrDOL, tag)
		}
		d = append(d, DOLEntry{Tag: tag, Len: int(rest[0])})
		raw = rest[1:]
	}
	return d, nil
}

// nextTag reads one tag, as tlv.Next would before a length.
func nextTag(in []byte) (tlv.Tag, []byte, error) {
	if len(in) == 0 || in[0] == 0 {
		return 0, nil, fmt.Errorf("%w: no tag", ErrDOL)
	}
	tag := tlv.Tag(in[0])
	if in[0]&0x1F != 0x1F {
		return tag, in[1:], nil
	}
	for i := 1; i < len(in) && i < 4; i++ {
		tag = tag<<8 | tlv.Tag(in[i])
		if in[i]&0x80 == 0 {
			return tag, in[i+1:], nil
		}
	}
	return 0, nil, fmt.Errorf("%w: tag %v does not end", ErrDOL, tag)
}

// Bytes codes the list. An entry of zero tag or a length outside one byte is
// a defect and panics.
func (d DOL) Bytes() []byte {
	var out []byte
	for _, e := range d {
		if e.Len < 0 || e.Len > 0xFF {
			panic(fmt.Sprintf("emv: list entry %v of %d bytes", e.Tag, e.Len))
		}
		out = tlv.Append(out, e.Tag, nil) // the tag and a length of 0
		out[len(out)-1] = byte(e.Len)
	}
	return out
}

// Len is the number of bytes its values have together.
func (d DOL) Len() int {
	n := 0
	for _, e := range d {
		n += e.Len
	}
	return n
}

// Has says whether the list asks for tag.
func (d DOL) Has(tag tlv.Tag) bool {
	for _, e := range d {
		if e.Tag == tag {
			return true
		}
	}
	return false
}

// Append adds the values that get gives for the list's tags to dst, each cut
// or filled to the asked length as its format says (Format.Append). get gives
// nil for an object the sender lacks. A constructed object is sent as zeros
// (EMV 4.4 Book 3, 5.4); an unknown tag counts as binary.
func (d DOL) Append(dst []byte, get func(tlv.Tag) []byte) []byte {
	for _, e := range d {
		if e.Tag.Constructed() {
			dst = Binary.Append(dst, nil, e.Len)
			continue
		}
		dst = FormatOf(e.Tag).Append(dst, get(e.Tag), e.Len)
	}
	return dst
}

// A Value is one object of a list with the bytes received for it.
type Value struct {
	Tag   tlv.Tag
	Value []byte
}

// Values are the values of a list in its order.
type Values []Value

// Get gives the first value of tag, nil and false when it is not there.
func (v Values) Get(tag tlv.Tag) ([]byte, bool) {
	for _, x := range v {
		if x.Tag == tag {
			return x.Value, true
		}
	}
	return nil, false
}

// Split takes received data apart again; its length must be exactly Len. The
// values are parts of data, not copies.
func (d DOL) Split(data []byte) (Values, error) {
	if len(data) != d.Len() {
		return nil, fmt.Errorf("%w: %d bytes, the list asks for %d", ErrDOLData, len(data), d.Len())
	}
	out := make(Values, 0, len(d))
	for _, e := range d {
		out = append(out, Value{e.Tag, data[:e.Len:e.Len]})
		data = data[e.Len:]
	}
	return out, nil
}
