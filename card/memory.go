package card

import (
	"errors"
)

// Sizes of the non-volatile memory, in bytes.
const (
	pageSize    = 64            // one physical write programs at most one page
	journalSize = 32 * pageSize // the largest unit of one command, with its span headers
	// DefaultCapacity is the EEPROM of an element whose Config names none.
	DefaultCapacity = 128 << 10
	minCapacity     = 2 * journalSize
)

var (
	// ErrFull says that no free run of cells is long enough (status word 6A84).
	ErrFull = errors.New("card: the memory is full")
	// ErrUnit says that one command wrote more than the journal holds.
	ErrUnit = errors.New("card: the unit is larger than the journal")

	errCut = errors.New("card: power failed during a physical write")
)

// A Memory is the EEPROM of one element: byte cells, programmed in pages of 64
// bytes, behind a redo journal. What a command writes is one unit: it is
// collected, written to the journal, and then carried to its pages. Power may
// fail at any physical write; the next power-on finishes a unit whose journal
// record is complete and knows nothing of one whose record is not.
//
// The first journalSize cells are the journal, the rest is the heap (heap.go).
// Cells come into being when the heap reaches them, so an element with one card
// is a few kilobytes. A Memory belongs to one goroutine.
type Memory struct {
	cells    []byte
	capacity int
	writes   int    // physical page writes since manufacture
	unit     uint32 // number of the last journalled unit

	spans  []span // what the open unit has written
	undo   []byte // what stood there before, in order of spans
	failed error  // the open unit can only be rolled back

	record []byte // journal record under construction, reused
	pages  []int  // pages of the open unit, reused

	cut  int  // power fails at the cut-th write from now; 0 never
	keep int  // bytes of that page which still land
	dead bool // power has failed: nothing is written before the next recovery
}

// A span is one stretch of cells the open unit has changed.
type span struct{ off, n, undo int }

func newMemory(capacity int) *Memory {
	if capacity == 0 {
		capacity = DefaultCapacity
	}
	capacity = max(capacity, minCapacity) / pageSize * pageSize
	return &Memory{cells: make([]byte, journalSize), capacity: capacity}
}

// Writes counts the physical page writes since manufacture: the wear of the element.
func (m *Memory) Writes() int { return m.writes }

// Capacity is the number of cells, journal included.
func (m *Memory) Capacity() int { return m.capacity }

// CutAfter lets power fail at the n-th physical write from now (n >= 1). That
// write is torn: its first half lands and the rest keeps what was there. Zero
// takes the fault back.
func (m *Memory) CutAfter(n int) { m.CutAt(n, pageSize/2) }

// CutAt is CutAfter with the number of bytes of the torn write that land, from
// 0 (the write never began) to 64 (it ended and power failed right after).
func (m *Memory) CutAt(n, keep int) { m.cut, m.keep = n, min(max(keep, 0), pageSize) }

// program writes data to one page from cell off, which lies in that page.
func (m *Memory) program(off int, data []byte) error {
	m.writes++
	if m.cut > 0 {
		if m.cut--; m.cut == 0 {
			m.dead = true
			copy(m.cells[off:], data[:min(m.keep, len(data))])
			return errCut
		}
	}
	copy(m.cells[off:], data)
	return nil
}

// programRun writes data from cell off, page by page in ascending order.
func (m *Memory) programRun(off int, data []byte) error {
	for len(data) > 0 {
		n := min(pageSize-off%pageSize, len(data))
		if err := m.program(off, data[:n]); err != nil {
			return err
		}
		off, data = off+n, data[n:]
	}
	return nil
}

// write changes cells as part of the open unit. Reads see it at once; the
// physical writes happen in Commit. Cells that already hold the value are not
// worn again.
func (m *Memory) write(off int, data []byte) {
	if m.failed != nil || m.dead {
		return
	}
	for len(data) > 0 && m.cells[off] == data[0] {
		off, data = off+1, data[1:]
	}
	for len(data) > 0 && m.cells[off+len(data)-1] == data[len(data)-1] {
		data = data[:len(data)-1]
	}
	if len(data) == 0 {
		return
	}
	if m.recordSize()+spanHeader+len(data) > journalSize {
		m.failed = ErrUnit
		return
	}
	m.spans = append(m.spans, span{off, len(data), len(m.undo)})
	m.undo = append(m.undo, m.cells[off:off+len(data)]...)
	copy(m.cells[off:], data)
}

// Rollback forgets what the open unit has written.
func (m *Memory) Rollback() {
	for i := len(m.spans) - 1; i >= 0; i-- {
		s := m.spans[i]
		copy(m.cells[s.off:], m.undo[s.undo:s.undo+s.n])
	}
	m.spans, m.undo, m.failed = m.spans[:0], m.undo[:0], nil
}

// pending reports whether the open unit has anything to settle.
func (m *Memory) pending() bool { return len(m.spans) > 0 || m.failed != nil || m.dead }
