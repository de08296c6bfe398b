package card

import "encoding/binary"

// The heap is one chain of blocks: state 1 | owner 2 | tag 2 | size 3, then size
// bytes. A block whose state is 00 ends the chain. Free blocks hold only zeros.
const (
	blockHeader = 8

	blockEnd   = 0x00
	blockUsed  = 0x55
	blockDying = 0x5A // released, its cells still to be wiped
	blockFree  = 0xF0
)

// A block is the decoded header of the block whose header stands at cell at.
type block struct {
	at    int
	state byte
	owner ID
	tag   uint16
	size  int
}

func (b block) next() int { return b.at + blockHeader + b.size }

// A Region is a run of cells that belongs to one applet instance. It is found
// again after every power-on by its owner and tag. The zero Region is absent.
type Region struct {
	m         *Memory
	off, size int
}

// Present tells a region that was allocated from the zero Region.
func (r Region) Present() bool { return r.m != nil }

// Size is the length in bytes.
func (r Region) Size() int { return r.size }

// Bytes shows the cells. The slice is a window that later writes change and a
// later allocation may leave behind: read it, do not keep or change it.
func (r Region) Bytes() []byte {
	if r.m == nil {
		return nil
	}
	return r.m.cells[r.off : r.off+r.size : r.off+r.size]
}

// Write puts data at offset off as part of the command's unit. Writing outside
// the region is a defect of the caller and panics.
func (r Region) Write(off int, data []byte) {
	if off < 0 || off+len(data) > r.size {
		panic("card: write outside the region")
	}
	r.m.write(r.off+off, data)
}

// Uint16 and Uint32 read a big-endian number, WriteUint16 and WriteUint32 write one.
func (r Region) Uint16(off int) uint16 { return binary.BigEndian.Uint16(r.Bytes()[off:]) }

// Uint32 reads four bytes, most significant first.
func (r Region) Uint32(off int) uint32 { return binary.BigEndian.Uint32(r.Bytes()[off:]) }

// WriteUint16 writes two bytes, most significant first.
func (r Region) WriteUint16(off int, v uint16) {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	r.Write(off, b[:])
}

// WriteUint32 writes four bytes, most significant first.
func (r Region) WriteUint32(off int, v uint32) {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	r.Write(off, b[:])
}

// Region finds the region of owner with tag; the zero Region if there is none.
func (m *Memory) Region(owner ID, tag uint16) Region {
	for b, ok := m.first(); ok; b, ok = m.after(b) {
		if b.state == blockUsed && b.owner == owner && b.tag == tag {
			return Region{m, b.at + blockHeader, b.size}
		}
	}
	return Region{}
}

// Allocate gives owner size zeroed bytes under tag, as part of the unit. The
// first free block that is long enough is split; otherwise the chain grows.
func (m *Memory) Allocate(owner ID, tag uint16, size int) (Region, error) {
	if m.failed != nil {
		return Region{}, m.failed
	}
	end := journalSize
	for b, ok := m.first(); ok; b, ok = m.after(b) {
		end = b.next()
		if b.state != blockFree || b.size < size || (b.size > size && b.size < size+blockHeader) {
			continue
		}
		if rest := b.size - size; rest > 0 {
			m.writeHeader(block{at: b.at + blockHeader + size, state: blockFree, size: rest - blockHeader})
		}
		m.writeHeader(block{b.at, blockUsed, owner, tag, size})
		return Region{m, b.at + blockHeader, size}, nil
	}
	// The last header of the chain (state 00) must also fit: keep room for it.
	if size < 0 || end+2*blockHeader+size > m.capacity {
		m.failed = ErrFull
		return Region{}, ErrFull
	}
	m.grow(end + 2*blockHeader + size)
	m.writeHeader(block{end, blockUsed, owner, tag, size})
	return Region{m, end + blockHeader, size}, nil
}

// Release gives up every region of owner as part of the unit. Their cells are
// wiped right after the unit, or at the next power-on.
func (m *Memory) Release(owner ID) {
	for b, ok := m.first(); ok; b, ok = m.after(b) {
		if b.state == blockUsed && b.owner == owner {
			m.write(b.at, []byte{blockDying})
		}
	}
}

// Free counts the bytes that can still be allocated, headers not deducted.
func (m *Memory) Free() int {
	free, end := 0, journalSize
	for b, ok := m.first(); ok; b, ok = m.after(b) {
		end = b.next()
		if b.state == blockFree {
			free += b.size
		}
	}
	return free + max(0, m.capacity-end-2*blockHeader)
}

func (m *Memory) first() (block, bool) { return m.header(journalSize) }

func (m *Memory) after(b block) (block, bool) { return m.header(b.next()) }

func (m *Memory) header(at int) (block, bool) {
	if at+blockHeader > len(m.cells) || m.cells[at] == blockEnd {
		return block{}, false
	}
	h := m.cells[at : at+blockHeader]
	b := block{at, h[0], ID(h[1])<<8 | ID(h[2]), uint16(h[3])<<8 | uint16(h[4]), int(h[5])<<16 | int(h[6])<<8 | int(h[7])}
	return b, b.next() <= len(m.cells)
}

func (m *Memory) writeHeader(b block) {
	m.write(b.at, []byte{b.state, byte(b.owner >> 8), byte(b.owner), byte(b.tag >> 8), byte(b.tag),
		byte(b.size >> 16), byte(b.size >> 8), byte(b.size)})
}

// grow brings cells into being up to end.
func (m *Memory) grow(end int) {
	if end = (end + pageSize - 1) / pageSize * pageSize; end > len(m.cells) {
		m.cells = append(m.cells, make([]byte, min(end, m.capacity)-len(m.cells))...)
	}
}

// sweep wipes released blocks, then marks them free and joins them with their
// free neighbours in a unit of its own. A released key is gone for good.
func (m *Memory) sweep() error {
	dying := false
	for b, ok := m.first(); ok; b, ok = m.after(b) {
		if b.state != blockDying {
			continue
		}
		dying = true
		if err := m.reprogram(b.at+blockHeader, make([]byte, b.size)); err != nil {
			return err
		}
	}
	if !dying {
		return nil
	}
	m.join()
	return m.Commit()
}

// join turns dying blocks into free ones and merges runs of free blocks; a run
// at the end of the chain goes back to the cells beyond it.
func (m *Memory) join() {
	var zero [blockHeader]byte
	var run block // the free run that ends right before b
	for b, ok := m.first(); ok; b, ok = m.after(b) {
		switch {
		case b.state == blockUsed:
			run = block{}
			continue
		case run.state == blockFree:
			m.write(b.at, zero[:])
			run.size += blockHeader + b.size
			b = block{at: run.at, state: blockFree, size: run.size}
		default:
			b = block{at: b.at, state: blockFree, size: b.size}
		}
		run = b
		m.writeHeader(run)
	}
	if run.state == blockFree {
		m.write(run.at, zero[:])
	}
}
