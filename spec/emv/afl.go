package emv

import (
	"errors"
	"fmt"
	"slices"

	"koala/spec/tlv"
)

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
