package card

import (
	"fmt"
)

// migrate brings the memory of an image of version 1 into the present layout:
// it finishes the last unit, then builds the heap anew with longer entries and
// the region of the element's own. Applications come out activated, in the order
// in which they stood, those of an Always module for good. The journal's record
// names cells of the old heap and goes.
func (e *Element) migrate() error {
	if err := e.mem.recover(); err != nil {
		return err
	}
	old := e.mem
	e.mem = &Memory{capacity: old.capacity, cells: make([]byte, journalSize), writes: old.writes, unit: old.unit}
	// The longer entries must not cost a full element its life.
	e.mem.capacity += (MaxEntries*(entrySize-entrySizeV1) + blockHeader + globalSize + pageSize) / pageSize * pageSize
	place := func(b block, data []byte) error {
		g, err := e.mem.Allocate(b.owner, b.tag, len(data))
		if err != nil {
			return err
		}
		copy(e.mem.cells[g.off:], data)
		return e.mem.Commit()
	}
	order := uint16(0)
	for b, ok := old.first(); ok; b, ok = old.after(b) {
		if b.state != blockUsed {
			continue
		}
		data := old.cells[b.at+blockHeader : b.next()]
		if b.tag == entryTag && b.size == entrySizeV1 {
			data = e.widened(data, &order)
		}
		if err := place(b, data); err != nil {
			return fmt.Errorf("%w: no room for the present layout", ErrImage)
		}
	}
	if err := place(block{owner: domainID, tag: globalTag}, make([]byte, globalSize)); err != nil {
		return fmt.Errorf("%w: no room for the present layout", ErrImage)
	}
	clear(e.mem.cells[:journalSize])
	e.mem.writes, e.mem.unit = old.writes, old.unit
	return nil
}

// widened is an entry of version 1 in the present layout.
func (e *Element) widened(v1 []byte, order *uint16) []byte {
	c := make([]byte, entrySize)
	copy(c, v1)
	x := decodeEntry(0, c)
	if x.Kind != Application {
		return c
	}
	*order++
	x.Contactless = ContactlessData{State: Activated, Order: *order}
	if mod, ok := e.catalog.Module(x.LoadFile, x.Module); ok && mod.Always {
		x.Contactless.Always = true
	}
	return x.encode()
}
