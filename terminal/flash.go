package terminal

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Sizes of the flash, in bytes. A page is what one write programs at most, a
// sector what one erasure clears.
const (
	SectorSize = 4096
	pageSize   = 256
	maxSectors = 4096
)

// A Flash is a device's NOR flash: bytes are FF after erasure, programming can
// only clear bits, and power may fail in the middle of either. Sectors come
// into being when they are first written, so an idle device costs nothing.
type Flash struct {
	sectors [][]byte // nil is erased
	writes  int
	cut     int // power fails at the cut-th write from now; 0 never
	dead    bool
}

// NewFlash makes an erased flash of n sectors.
func NewFlash(n int) *Flash { return &Flash{sectors: make([][]byte, n)} }

// CutAfter lets power fail at the n-th physical write or erasure from now
// (n >= 1); half of it lands. Zero takes the fault back.
func (f *Flash) CutAfter(n int) { f.cut = n }

// Writes counts physical writes and erasures since manufacture.
func (f *Flash) Writes() int { return f.writes }

// PowerOn gives power back after a failure. Devices must be opened again.
func (f *Flash) PowerOn() { f.dead, f.cut = false, 0 }

// Failed says that power has failed and not come back.
func (f *Flash) Failed() bool { return f.dead }

// step counts one physical act and says how many of n bytes land.
func (f *Flash) step(n int) (lands int, err error) {
	if f.dead {
		return 0, ErrPower
	}
	f.writes++
	if f.cut > 0 {
		if f.cut--; f.cut == 0 {
			f.dead = true
			return n / 2, ErrPower
		}
	}
	return n, nil
}

func (f *Flash) program(sector, off int, data []byte) error {
	if off+len(data) > SectorSize {
		panic(fmt.Sprintf("terminal: flash write of %d bytes at %d", len(data), off))
	}
	if f.sectors[sector] == nil && !f.dead {
		f.sectors[sector] = bytes.Repeat([]byte{0xFF}, SectorSize)
	}
	for len(data) > 0 {
		n := min(len(data), pageSize-off%pageSize)
		lands, err := f.step(n)
		for i, b := range data[:lands] {
			f.sectors[sector][off+i] &= b
		}
		if err != nil {
			return err
		}
		off, data = off+n, data[n:]
	}
	return nil
}

func (f *Flash) erase(sector int) error {
	if f.sectors[sector] == nil {
		return nil
	}
	lands, err := f.step(SectorSize)
	if err == nil {
		f.sectors[sector] = nil
		return nil
	}
	for i := range f.sectors[sector][:lands] {
		f.sectors[sector][i] = 0xFF
	}
	return err
}

// read gives the sector's bytes, nil when it is erased.
func (f *Flash) read(sector int) []byte { return f.sectors[sector] }

func (f *Flash) erased(sector int) bool { return len(written(f.sectors[sector])) == 0 }

// written is a sector without the erased bytes behind. (bytes.TrimRight takes
// characters: FF alone would stand for every byte that is none.)
func written(sector []byte) []byte {
	n := len(sector)
	for n > 0 && sector[n-1] == 0xFF {
		n--
	}
	return sector[:n]
}

var flashMagic = []byte("KFL\x01")

// Image is everything the flash holds: magic 4, sectors 2, writes 4, then per
// sector its length without trailing FF 2 and the bytes.
func (f *Flash) Image() []byte {
	out := append([]byte(nil), flashMagic...)
	out = binary.BigEndian.AppendUint16(out, uint16(len(f.sectors)))
	out = binary.BigEndian.AppendUint32(out, uint32(f.writes))
	for _, s := range f.sectors {
		s = written(s)
		out = binary.BigEndian.AppendUint16(out, uint16(len(s)))
		out = append(out, s...)
	}
	return out
}

// RestoreFlash makes a flash from an Image, power on.
func RestoreFlash(image []byte) (*Flash, error) {
	bad := func(why string) (*Flash, error) { return nil, fmt.Errorf("terminal: flash image: %s", why) }
	if len(image) < 10 || !bytes.Equal(image[:4], flashMagic) {
		return bad("not one")
	}
	n := int(binary.BigEndian.Uint16(image[4:]))
	if n > maxSectors {
		return bad("too many sectors")
	}
	f := NewFlash(n)
	f.writes = int(binary.BigEndian.Uint32(image[6:]))
	rest := image[10:]
	for i := range f.sectors {
		if len(rest) < 2 {
			return bad("ends early")
		}
		size := int(binary.BigEndian.Uint16(rest))
		if rest = rest[2:]; size > SectorSize || size > len(rest) {
			return bad("sector of wrong size")
		}
		if size > 0 {
			f.sectors[i] = bytes.Repeat([]byte{0xFF}, SectorSize)
			copy(f.sectors[i], rest[:size])
		}
		rest = rest[size:]
	}
	if len(rest) > 0 {
		return bad("bytes after the end")
	}
	return f, nil
}
