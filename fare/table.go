package fare

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"koala/calendar"
	"koala/money"
)

// The limits of a table.
const (
	MaxEntries = 10_000    // entry stations
	MaxTable   = 512 << 10 // bytes of the whole pack
	maxParts   = 8         // regions on one ride
)

// magic begins every table; the last byte is the version of the coding.
var magic = [4]byte{'K', 'F', 'T', 1}

// A Code is the operator's station code, six decimal digits, one for each line
// at a station. 0 is no station.
type Code uint32

// MaxCode is the largest station code.
const MaxCode Code = 999_999

func (c Code) String() string { return fmt.Sprintf("%06d", uint32(c)) }

// A Table is what the gates of one station hold: the whole tariff and the
// shortest distances from every entry station. It is signed outside (the pack
// is the signed text). Entries are sorted by code.
type Table struct {
	Station Code   // the station that this table prices exits of
	Version uint32 // of the pack, rising
	From    Day    // first service day
	To      Day    // last, open when zero
	Tariff  Tariff
	Entries []Entry
}

// An Entry is the ride from one entry station code to the table's station.
type Entry struct {
	Code  Code
	Same  bool // the same station, perhaps by another line's code
	Early bool // on the early-bird list
	Parts []Part
}

// Tap is what the gate knows when a card leaves.
type Tap struct {
	Entry      Code      // from the card; 0 when the card knows no entry
	Entered    time.Time // from the card
	Left       time.Time // the gate's clock
	MonthSpent money.Amount
	Concession string
}

// Valid says whether the table may price service day d.
func (t *Table) Valid(d calendar.Date) bool { return within(d, t.From, t.To) }

// Entry returns the ride from code.
func (t *Table) Entry(code Code) (Entry, bool) {
	i, ok := slices.BinarySearchFunc(t.Entries, code, func(e Entry, c Code) int { return cmp.Compare(e.Code, c) })
	if !ok {
		return Entry{}, false
	}
	return t.Entries[i], true
}

// Ride returns what Price needs for tap.
func (t *Table) Ride(tap Tap) (Ride, error) {
	r := Ride{Entered: tap.Entered, Left: tap.Left, MonthSpent: tap.MonthSpent, Concession: tap.Concession}
	if tap.Entry == 0 {
		r.Case, r.Parts, r.Entered = MissingEntry, t.Farthest(), time.Time{}
		return r, nil
	}
	e, ok := t.Entry(tap.Entry)
	if !ok {
		return Ride{}, fmt.Errorf("from %s to %s: %w", tap.Entry, t.Station, ErrNoStation)
	}
	r.Parts, r.EarlyStation = e.Parts, e.Early
	if e.Same {
		r.Case = SameStation
	}
	return r, nil
}

// Price prices a card that leaves at the table's station.
func (t *Table) Price(tap Tap) (Quote, error) {
	r, err := t.Ride(tap)
	if err != nil {
		return Quote{}, err
	}
	return Price(t.Tariff, r)
}

// PriceMissingExit prices a card that enters at at with its last ride, begun
// at entry, never closed. The farthest ride known here stands for it, in the
// region where it began: the lowest fare there may be another one.
func (t *Table) PriceMissingExit(entry Code, entered, at time.Time) (Quote, error) {
	parts := t.Farthest()
	if e, ok := t.Entry(entry); ok && e.Parts[0].Region != parts[0].Region {
		parts = e.Parts[:1]
	}
	return Price(t.Tariff, Ride{Case: MissingExit, Parts: parts, Entered: entered, Left: at})
}

// Farthest returns the longest ride to this station that stays in the
// station's own region, the measure of the highest fare sold there.
func (t *Table) Farthest() []Part {
	var own Region
	for _, e := range t.Entries {
		if e.Same {
			own = e.Parts[0].Region
			break
		}
	}
	far := []Part{{Region: own}}
	for _, e := range t.Entries {
		if len(e.Parts) == 1 && e.Parts[0].Region == own && e.Parts[0].Metres > far[0].Metres {
			far = e.Parts
		}
	}
	return far
}

// AppendBinary writes the pack: magic, lengths and numbers big endian, the
// tariff as JSON, then the entries in rising order of code. The coding is
// canonical: one table has one pack.
func (t *Table) AppendBinary(dst []byte) ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	tariff, err := json.Marshal(t.Tariff)
	if err != nil {
		return nil, fmt.Errorf("table of %s: %w", t.Station, err)
	}
	dst = append(dst, magic[:]...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(t.Station))
	dst = binary.BigEndian.AppendUint32(dst, t.Version)
	dst = appendDay(appendDay(dst, t.From), t.To)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(tariff)))
	dst = append(dst, tariff...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(t.Entries)))
	for _, e := range t.Entries {
		dst = e.append(dst, t.Tariff)
	}
	return dst, nil
}

// append writes code 4, flags and number of parts 1, then for each part the
// index of its region in the tariff 1 and its metres 4.
func (e Entry) append(dst []byte, t Tariff) []byte {
	head := byte(len(e.Parts))
	if e.Same {
		head |= 0x80
	}
	if e.Early {
		head |= 0x40
	}
	dst = append(binary.BigEndian.AppendUint32(dst, uint32(e.Code)), head)
	for _, p := range e.Parts {
		i := slices.IndexFunc(t.Regions, func(r RegionRule) bool { return r.Region == p.Region })
		dst = binary.BigEndian.AppendUint32(append(dst, byte(i)), uint32(p.Metres))
	}
	return dst
}

func (t *Table) check() error {
	if err := t.Tariff.Check(); err != nil {
		return err
	}
	bad := func(what string) error { return fmt.Errorf("table of %s: %s: %w", t.Station, what, ErrTable) }
	if t.Station == 0 || t.Station > MaxCode || t.From.IsZero() || !t.To.IsZero() && t.To.Before(t.From.Date) {
		return bad("station or validity out of range")
	}
	if len(t.Entries) == 0 || len(t.Entries) > MaxEntries {
		return bad(fmt.Sprintf("%d entries", len(t.Entries)))
	}
	same := false
	for i, e := range t.Entries {
		same = same || e.Same
		if e.Code == 0 || e.Code > MaxCode || i > 0 && e.Code <= t.Entries[i-1].Code || len(e.Parts) == 0 || len(e.Parts) > maxParts {
			return bad("entry " + e.Code.String())
		}
		for _, p := range e.Parts {
			if _, ok := t.Tariff.Region(p.Region); !ok || p.Metres < 0 || p.Metres > MaxMetres {
				return bad("entry " + e.Code.String() + " has no such region or distance")
			}
		}
	}
	if !same {
		return bad("its own station is not in it")
	}
	return nil
}

// appendDay writes year 2, month 1, day 1; the open day is zeros.
func appendDay(dst []byte, d Day) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(d.Year)), byte(d.Month), byte(d.Day))
}

// ParseTable reads a pack. What it accepts writes back the same bytes.
func ParseTable(in []byte) (*Table, error) {
	if len(in) > MaxTable {
		return nil, fmt.Errorf("table of %d bytes: %w", len(in), ErrTable)
	}
	r := reader{in: in}
	if !bytes.Equal(r.take(4), magic[:]) {
		return nil, fmt.Errorf("table begins wrong: %w", ErrTable)
	}
	t := &Table{Station: Code(r.u32()), Version: r.u32(), From: r.day(), To: r.day()}
	if raw := r.take(int(r.u32())); r.short || json.Unmarshal(raw, &t.Tariff) != nil {
		return nil, fmt.Errorf("table of %s: tariff unreadable: %w", t.Station, ErrTable)
	}
	for range int(r.u16()) {
		if r.short {
			break
		}
		t.Entries = append(t.Entries, r.entry(t.Tariff))
	}
	if r.short || len(r.in) > 0 {
		return nil, fmt.Errorf("table of %s: wrong length: %w", t.Station, ErrTable)
	}
	again, err := t.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, in) {
		return nil, fmt.Errorf("table of %s: not in canonical form: %w", t.Station, ErrTable)
	}
	return t, nil
}
