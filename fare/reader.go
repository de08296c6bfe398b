package fare

import (
	"encoding/binary"
	"time"

	"koala/calendar"
)

// A reader takes fields off a pack; once short it gives zeros.
type reader struct {
	in    []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.in) {
		r.short, r.in = true, nil
		return nil
	}
	out := r.in[:n]
	r.in = r.in[n:]
	return out
}

func (r *reader) u8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// day reads a day; one that is not in the calendar does not write back the
// same, so the caller's comparison refuses it.
func (r *reader) day() Day {
	y, m, d := int(r.u16()), time.Month(r.u8()), int(r.u8())
	if y == 0 && m == 0 && d == 0 {
		return Day{}
	}
	return Day{calendar.Of(time.Date(y, m, d, 0, 0, 0, 0, time.UTC), time.UTC)}
}

func (r *reader) entry(t Tariff) Entry {
	e := Entry{Code: Code(r.u32())}
	head := r.u8()
	e.Same, e.Early = head&0x80 != 0, head&0x40 != 0
	for range int(head & 0x3F) {
		if r.short {
			return e
		}
		p := Part{}
		if i := int(r.u8()); i < len(t.Regions) {
			p.Region = t.Regions[i].Region
		}
		p.Metres = int(r.u32())
		e.Parts = append(e.Parts, p)
	}
	return e
}
