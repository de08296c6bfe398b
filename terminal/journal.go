package terminal

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// A journal is a ring of flash sectors that records are appended to. Each
// sector begins with a header: magic 4, order 4, mark 4, CRC-32 4 (the owner
// keeps a number in mark). A record is A5 | kind 1 | length 2 | data |
// CRC-32 4, padded to 16 bytes; one that was torn fails its CRC and is passed
// over. The sector after the newest is kept erased, so that there is always a
// place to go on; the owner says through live how many records of a sector
// still matter.
type journal struct {
	f     *Flash
	head  int // newest sector
	pos   int // next free byte in it
	order uint32
	live  []int         // records that matter, per sector
	mark  func() uint32 // for the next header
	move  func(sector int) error
}

const (
	granule     = 16
	recordMagic = 0xA5
	recordHead  = 4
	recordOver  = recordHead + 4
)

var journalMagic = []byte("KJN\x01")

func recordSpace(n int) int { return (recordOver + n + granule - 1) / granule * granule }

// replay reads all sectors from the oldest and shows every whole record.
func (j *journal) replay(header func(mark uint32), visit func(sector int, kind byte, data []byte)) {
	var found []int
	orders := map[int]uint32{}
	for i := range j.f.sectors {
		if order, _, ok := readSector(j.f.read(i)); ok {
			orders[i] = order
			at := len(found)
			for at > 0 && orders[found[at-1]] > order {
				at--
			}
			found = append(found[:at], append([]int{i}, found[at:]...)...)
		}
	}
	j.head, j.pos, j.order = -1, 0, 0
	for _, i := range found {
		order, mark, _ := readSector(j.f.read(i))
		header(mark)
		j.head, j.order = i, order
		j.pos = readRecords(j.f.read(i), func(kind byte, data []byte) { visit(i, kind, data) })
	}
}

func readSector(s []byte) (order, mark uint32, ok bool) {
	if s == nil || !bytes.Equal(s[:4], journalMagic) || crc32.ChecksumIEEE(s[:12]) != binary.BigEndian.Uint32(s[12:]) {
		return 0, 0, false
	}
	return binary.BigEndian.Uint32(s[4:]), binary.BigEndian.Uint32(s[8:]), true
}

// readRecords shows the records and gives the first byte that is free.
func readRecords(s []byte, visit func(kind byte, data []byte)) int {
	used := len(written(s))
	pos := granule
	for pos < used {
		kind, data, ok := readRecord(s[pos:])
		if !ok {
			pos += granule
			continue
		}
		visit(kind, data)
		pos += recordSpace(len(data))
	}
	return pos
}

func readRecord(s []byte) (kind byte, data []byte, ok bool) {
	n := int(binary.BigEndian.Uint16(s[2:]))
	if s[0] != recordMagic || recordOver+n > len(s) {
		return 0, nil, false
	}
	sum := binary.BigEndian.Uint32(s[recordHead+n:])
	return s[1], s[recordHead : recordHead+n], crc32.ChecksumIEEE(s[:recordHead+n]) == sum
}

// start makes the journal ready to append: a first sector if there is none,
// and the free sector after the newest one.
func (j *journal) start() error {
	if j.head < 0 {
		return j.begin(0)
	}
	return j.ready()
}

// begin opens an erased sector as the newest.
func (j *journal) begin(sector int) error {
	if !j.f.erased(sector) || j.f.read(sector) != nil {
		if err := j.f.erase(sector); err != nil {
			return err
		}
	}
	head := append([]byte(nil), journalMagic...)
	head = binary.BigEndian.AppendUint32(head, j.order+1)
	head = binary.BigEndian.AppendUint32(head, j.mark())
	head = binary.BigEndian.AppendUint32(head, crc32.ChecksumIEEE(head))
	if err := j.f.program(sector, 0, head); err != nil {
		return err
	}
	j.head, j.pos, j.order = sector, granule, j.order+1
	return j.ready()
}

func (j *journal) after(n int) int { return (j.head + n) % len(j.f.sectors) }

// ready frees the sector after the newest if nothing in it matters any more
// once the owner has moved what it can.
func (j *journal) ready() error {
	next := j.after(1)
	if j.f.read(next) == nil {
		return nil
	}
	if err := j.move(next); err != nil {
		return err
	}
	if j.live[next] > 0 {
		return nil
	}
	return j.f.erase(next)
}

// room says whether n more bytes of records are sure to find a place.
// movable counts the records of a sector that the owner could move.
func (j *journal) room(n int, movable func(sector int) int) bool {
	if j.pos+n <= SectorSize {
		return true
	}
	free := func(s int) bool { return j.f.read(s) == nil || j.live[s] == movable(s) }
	return j.f.read(j.after(1)) == nil && free(j.after(2))
}

// append writes a record and gives the sector it went to.
func (j *journal) append(kind byte, data []byte) (int, error) {
	space := recordSpace(len(data))
	if j.pos+space > SectorSize {
		next := j.after(1)
		if j.f.read(next) != nil {
			return 0, ErrFull
		}
		if err := j.begin(next); err != nil {
			return 0, err
		}
	}
	rec := make([]byte, 0, space)
	rec = binary.BigEndian.AppendUint16(append(rec, recordMagic, kind), uint16(len(data)))
	rec = append(rec, data...)
	rec = binary.BigEndian.AppendUint32(rec, crc32.ChecksumIEEE(rec))
	for len(rec) < space {
		rec = append(rec, 0) // padding marks the place as used
	}
	at := j.pos
	j.pos += space
	return j.head, j.f.program(j.head, at, rec)
}
