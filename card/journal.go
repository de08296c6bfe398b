package card

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// The journal record of one unit, from cell 0:
//
//	magic 2 | unit number 4 | length of the spans 2 | CRC-32 4 of all but itself
//	spans: cell 3 | length 2 | bytes
//
// The record counts only when the CRC over all of it holds, so a record that
// was torn anywhere is as good as absent. It stays in place after the unit has
// reached its pages: carrying it out once more changes nothing, because later
// changes of any cell in use go through a later record.
const (
	journalMagic  = 0x4B4A
	journalHeader = 12
	spanHeader    = 5
)

func (m *Memory) recordSize() int {
	return journalHeader + len(m.spans)*spanHeader + len(m.undo)
}

// Commit makes the open unit permanent: journal record first, pages after. An
// error means that power failed (the next recovery decides) or that the unit
// could not be kept and has been rolled back (ErrUnit, ErrFull).
func (m *Memory) Commit() error {
	if m.dead {
		return errCut
	}
	if err := m.failed; err != nil {
		m.Rollback()
		return err
	}
	if len(m.spans) == 0 {
		return nil
	}
	m.unit++
	m.writeRecord()
	m.touchedPages()
	rec := m.record
	if n := (len(rec)+pageSize-1)/pageSize + len(m.pages); m.cut == 0 || m.cut > n {
		copy(m.cells, rec)
		m.writes += n
		m.cut = max(0, m.cut-n)
		m.spans, m.undo = m.spans[:0], m.undo[:0]
		return nil
	}
	return m.commitTorn()
}

// commitTorn carries the unit out write by write, because one of them is going
// to fail: the cells must be left exactly as the fault leaves them.
func (m *Memory) commitTorn() error {
	after := make([]byte, 0, len(m.pages)*pageSize)
	for _, p := range m.pages {
		after = append(after, m.page(p)...)
	}
	m.Rollback()
	if err := m.programRun(0, m.record); err != nil {
		return err
	}
	for _, p := range m.pages {
		n := len(m.page(p))
		if err := m.program(p*pageSize, after[:n]); err != nil {
			return err
		}
		after = after[n:]
	}
	return nil
}

func (m *Memory) page(p int) []byte {
	return m.cells[p*pageSize : min((p+1)*pageSize, len(m.cells))]
}

// touchedPages lists the pages of the open unit once each, ascending.
func (m *Memory) touchedPages() {
	m.pages = m.pages[:0]
	for _, s := range m.spans {
		for p := s.off / pageSize; p <= (s.off+s.n-1)/pageSize; p++ {
			m.pages = append(m.pages, p)
		}
	}
	slices.Sort(m.pages)
	m.pages = slices.Compact(m.pages)
}

func (m *Memory) writeRecord() {
	b := binary.BigEndian.AppendUint16(m.record[:0], journalMagic)
	b = binary.BigEndian.AppendUint32(b, m.unit)
	b = binary.BigEndian.AppendUint16(b, uint16(m.recordSize()-journalHeader))
	b = append(b, 0, 0, 0, 0)
	for _, s := range m.spans {
		b = append(b, byte(s.off>>16), byte(s.off>>8), byte(s.off), byte(s.n>>8), byte(s.n))
		b = append(b, m.cells[s.off:s.off+s.n]...)
	}
	binary.BigEndian.PutUint32(b[8:], recordCRC(b))
	m.record = b
}

func recordCRC(rec []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(rec[:8]), crc32.IEEETable, rec[journalHeader:])
}

// readRecord returns the spans of the journal's record, or nothing when the
// record is torn or there never was one.
func (m *Memory) readRecord() []byte {
	if binary.BigEndian.Uint16(m.cells) != journalMagic {
		return nil
	}
	n := journalHeader + int(binary.BigEndian.Uint16(m.cells[6:]))
	if n > journalSize {
		return nil
	}
	rec := m.cells[:n]
	if binary.BigEndian.Uint32(rec[8:]) != recordCRC(rec) {
		return nil
	}
	m.unit = binary.BigEndian.Uint32(rec[2:])
	return rec[journalHeader:]
}

// recover ends what a power failure left half done: the last unit's pages, and
// the wiping of what it released. It may itself be cut, any number of times.
func (m *Memory) recover() error {
	m.Rollback()
	m.dead = false
	for rec := m.readRecord(); len(rec) >= spanHeader; {
		off := int(rec[0])<<16 | int(rec[1])<<8 | int(rec[2])
		n := int(rec[3])<<8 | int(rec[4])
		rec = rec[spanHeader:]
		if n > len(rec) || off < journalSize || off+n > m.capacity {
			break
		}
		m.grow(off + n)
		if err := m.reprogram(off, rec[:n]); err != nil {
			return err
		}
		rec = rec[n:]
	}
	return m.sweep()
}

// reprogram writes only the pages that do not hold the value yet.
func (m *Memory) reprogram(off int, data []byte) error {
	for len(data) > 0 {
		n := min(pageSize-off%pageSize, len(data))
		if string(m.cells[off:off+n]) != string(data[:n]) {
			if err := m.program(off, data[:n]); err != nil {
				return err
			}
		}
		off, data = off+n, data[n:]
	}
	return nil
}
