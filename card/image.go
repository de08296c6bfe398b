package card

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// An image is everything an element remembers without power:
//
//	"koala card" 10 | version 1 | UID 7 | capacity 4 | writes 8 | unit 4 |
//	length 4 | cells | SHA-256 32 of all before
//
// Nothing volatile is in it: an element restored from it is off. Version 1 has
// shorter registry entries and no region of the element's own (migrate).
const (
	imageMagic   = "koala card"
	imageVersion = 2
	imageHeader  = len(imageMagic) + 1 + 7 + 4 + 8 + 4 + 4
)

// ErrImage says that bytes are no image of an element, or a damaged one.
var ErrImage = errors.New("card: not an intact image of an element")

// Image writes down the non-volatile state.
func (e *Element) Image() []byte {
	b := make([]byte, 0, imageHeader+len(e.mem.cells)+sha256.Size)
	b = append(b, imageMagic...)
	b = append(b, imageVersion)
	b = append(b, e.uid[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(e.mem.capacity))
	b = binary.BigEndian.AppendUint64(b, uint64(e.mem.writes))
	b = binary.BigEndian.AppendUint32(b, e.mem.unit)
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.mem.cells)))
	b = append(b, e.mem.cells...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// Restore makes the element of an image. It is off; its first PowerOn finishes
// what a power failure had left half done. An image of an earlier version comes
// out in the present layout, and a Stocker's element brought up to date.
func Restore(image []byte, catalog Catalog, rand io.Reader) (*Element, error) {
	if len(image) < imageHeader+sha256.Size || !bytes.HasPrefix(image, []byte(imageMagic)) {
		return nil, fmt.Errorf("%w: %d bytes without its header", ErrImage, len(image))
	}
	version := image[len(imageMagic)]
	if version == 0 || version > imageVersion {
		return nil, fmt.Errorf("%w: version %d, this program reads up to %d", ErrImage, version, imageVersion)
	}
	body, sum := image[:len(image)-sha256.Size], image[len(image)-sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return nil, fmt.Errorf("%w: checksum differs", ErrImage)
	}
	f := body[len(imageMagic)+1:]
	e := &Element{uid: [7]byte(f), catalog: catalog, rand: rand}
	f = f[7:]
	capacity, n := int(binary.BigEndian.Uint32(f)), int(binary.BigEndian.Uint32(f[16:]))
	cells := f[20:]
	if n != len(cells) || n < journalSize || n > capacity || capacity > 1<<24 || n%pageSize != 0 || capacity%pageSize != 0 {
		return nil, fmt.Errorf("%w: %d cells of %d, %d present", ErrImage, n, capacity, len(cells))
	}
	e.mem = &Memory{capacity: capacity, cells: bytes.Clone(cells),
		writes: int(binary.BigEndian.Uint64(f[4:])), unit: binary.BigEndian.Uint32(f[12:])}
	if version == 1 {
		if err := e.migrate(); err != nil {
			return nil, err
		}
	}
	if e.registry().global().Size() != globalSize {
		return nil, fmt.Errorf("%w: no region of the element's own", ErrImage)
	}
	return e, e.stock()
}

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
