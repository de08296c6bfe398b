package band

import (
	"encoding/binary"
	"slices"
	"time"
)

// keptHours is how far back the band remembers how its wearer moved: 31 days.
const keptHours = 31 * 24

// An Hour is what the accelerometer made of one hour. It is the wearer's own:
// it goes to the wearer's phone and account and to nobody's credit file.
type Hour struct {
	Start  time.Time // UTC, on the hour
	Steps  uint32
	Asleep byte // minutes, 0-60
}

// Walk counts steps taken at a moment. A band off the wrist counts nothing.
func (b *Band) Walk(at time.Time, steps uint32) {
	if b.worn {
		if h := b.hour(at); h != nil {
			h.Steps = min(h.Steps+steps, 1<<20)
		}
	}
}

// Sleep counts minutes asleep within the hour of a moment.
func (b *Band) Sleep(at time.Time, minutes byte) {
	if b.worn {
		if h := b.hour(at); h != nil {
			h.Asleep = min(h.Asleep+min(minutes, 60), 60)
		}
	}
}

// Activity lists the hours from since on, oldest first. An hour that is still
// running is told as it stands; asking again from its start tells it anew.
func (b *Band) Activity(since time.Time) []Hour {
	at, _ := slices.BinarySearchFunc(b.hours, since.UTC(), func(h Hour, t time.Time) int { return h.Start.Compare(t) })
	return slices.Clone(b.hours[at:])
}

// hour finds the record of a moment's hour or makes it. A moment before all
// that is remembered has none.
func (b *Band) hour(at time.Time) *Hour {
	start := at.UTC().Truncate(time.Hour)
	i, found := slices.BinarySearchFunc(b.hours, start, func(h Hour, t time.Time) int { return h.Start.Compare(t) })
	if found {
		return &b.hours[i]
	}
	if len(b.hours) == keptHours {
		if i == 0 {
			return nil
		}
		b.hours = slices.Delete(b.hours, 0, 1)
		i--
	}
	b.hours = slices.Insert(b.hours, i, Hour{Start: start})
	return &b.hours[i]
}

const hourSize = 9

// appendHours writes hours as they stand in images and on the radio: start
// (seconds since 1970) 4 | steps 4 | minutes asleep 1.
func appendHours(out []byte, hours []Hour) []byte {
	for _, h := range hours {
		out = binary.BigEndian.AppendUint32(out, uint32(h.Start.Unix()))
		out = append(binary.BigEndian.AppendUint32(out, h.Steps), h.Asleep)
	}
	return out
}

// parseHours reads what appendHours wrote: whole hours in ascending order.
func parseHours(b []byte) (out []Hour, ok bool) {
	if len(b)%hourSize != 0 || len(b)/hourSize > keptHours {
		return nil, false
	}
	for ; len(b) > 0; b = b[hourSize:] {
		h := Hour{Start: time.Unix(int64(binary.BigEndian.Uint32(b)), 0).UTC(), Steps: binary.BigEndian.Uint32(b[4:]), Asleep: b[8]}
		if n := len(out); h.Start.Unix()%3600 != 0 || h.Steps > 1<<20 || h.Asleep > 60 || n > 0 && !out[n-1].Start.Before(h.Start) {
			return nil, false
		}
		out = append(out, h)
	}
	return out, true
}
