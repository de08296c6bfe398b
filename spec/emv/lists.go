package emv

import (
	"errors"
	"fmt"
	"slices"

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

// What can be wrong with a file locator and with what it points to.
var (
	ErrAFL        = errors.New("emv: malformed application file locator")
	ErrStaticData = errors.New("emv: data to be authenticated is malformed")
)

// An AFLEntry names records First to Last of one file; the first ODA of them
// are signed.
type AFLEntry struct {
	SFI         byte // 1 to 30
	First, Last byte // 1 up, First <= Last
	ODA         byte // records from First on that offline data authentication covers
}

// An AFL says which records a terminal reads, in this order (tag 94).
type AFL []AFLEntry

// ParseAFL reads the value of tag 94: four bytes an entry, SFI<<3 | first |
// last | number signed (EMV 4.4 Book 3, 10.2). An entry out of range makes the
// card faulty.
func ParseAFL(raw []byte) (AFL, error) {
	if len(raw) == 0 || len(raw)%4 != 0 || len(raw) > MaxDOLData {
		return nil, fmt.Errorf("%w: %d bytes", ErrAFL, len(raw))
	}
	var a AFL
	for ; len(raw) > 0; raw = raw[4:] {
		e := AFLEntry{SFI: raw[0] >> 3, First: raw[1], Last: raw[2], ODA: raw[3]}
		if raw[0]&0x07 != 0 || !e.valid() {
			return nil, fmt.Errorf("%w: entry %X", ErrAFL, raw[:4])
		}
		a = append(a, e)
	}
	return a, nil
}

func (e AFLEntry) valid() bool {
	return e.SFI >= 1 && e.SFI <= 30 && e.First >= 1 && e.Last >= e.First && int(e.ODA) <= int(e.Last)-int(e.First)+1
}

// Bytes codes the locator. An entry out of range is a defect and panics.
func (a AFL) Bytes() []byte {
	out := make([]byte, 0, 4*len(a))
	for _, e := range a {
		if !e.valid() {
			panic(fmt.Sprintf("emv: file locator entry %+v", e))
		}
		out = append(out, e.SFI<<3, e.First, e.Last, e.ODA)
	}
	return out
}

// A RecordID names one record.
type RecordID struct {
	SFI, Number byte
	ODA         bool // offline data authentication covers it
}

// Records lists every record the locator names, in reading order.
func (a AFL) Records() []RecordID {
	var out []RecordID
	for _, e := range a {
		for n := int(e.First); n <= int(e.Last); n++ {
			out = append(out, RecordID{SFI: e.SFI, Number: byte(n), ODA: n-int(e.First) < int(e.ODA)})
		}
	}
	return out
}

// Last is the record read last, false for an empty locator.
func (a AFL) Last() (RecordID, bool) {
	if len(a) == 0 {
		return RecordID{}, false
	}
	e := a[len(a)-1]
	return RecordID{SFI: e.SFI, Number: e.Last, ODA: e.ODA == e.Last-e.First+1}, true
}

// A Record is one record as READ RECORD answered it.
type Record struct {
	RecordID
	Data []byte // the whole answer, template 70 included
}

// StaticData puts together what the card's certificate signs (EMV 4.4 Book 3,
// 10.3): of every record marked for it the content of template 70 (SFI 1 to
// 10) or the whole answer (SFI 11 to 30), then the values of the objects that
// tag 9F4A lists. tagList is the value of 9F4A, nil without; it may name 82
// only. aip is the value of tag 82.
func StaticData(records []Record, tagList, aip []byte) ([]byte, error) {
	var out []byte
	for _, r := range records {
		if !r.ODA {
			continue
		}
		tag, val, rest, err := tlv.Next(r.Data)
		if err != nil || tag != TagRecord || len(rest) != 0 {
			return nil, fmt.Errorf("%w: record %d of file %d", ErrStaticData, r.Number, r.SFI)
		}
		if r.SFI <= 10 {
			out = append(out, val...)
		} else {
			out = append(out, r.Data...)
		}
	}
	if tagList == nil {
		return out, nil
	}
	if !slices.Equal(tagList, []byte{byte(TagAIP)}) {
		return nil, fmt.Errorf("%w: tag list %X", ErrStaticData, tagList)
	}
	return append(out, aip...), nil
}
