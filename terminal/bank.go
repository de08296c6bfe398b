package terminal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// A Bank keeps one versioned value (a deny list, a tariff pack) in a flash of
// its own, in two halves written in turn: after a power failure at any write
// the old value or the new one is there, never a mixture.
type Bank struct {
	f       *Flash
	half    int // where the value is; -1 nowhere
	version uint32
	value   []byte
}

const bankHead = 16

var bankMagic = []byte("KBK\x01")

// OpenBank finds the value. A flash of fewer than two sectors panics.
func OpenBank(f *Flash) *Bank {
	if len(f.sectors) < 2 {
		panic("terminal: a bank needs two sectors")
	}
	b := &Bank{f: f, half: -1}
	for half := range 2 {
		if version, value, ok := b.load(half); ok && (b.half < 0 || version > b.version) {
			b.half, b.version, b.value = half, version, value
		}
	}
	return b
}

// Version is the version of the value, 0 when there is none.
func (b *Bank) Version() uint32 { return b.version }

// Value is the value, nil when there is none.
func (b *Bank) Value() []byte { return b.value }

func (b *Bank) size() int { return len(b.f.sectors) / 2 }

// load reads a half: magic 4, version 4, length 4, CRC-32 4 over version,
// length and value, then the value.
func (b *Bank) load(half int) (version uint32, value []byte, ok bool) {
	first := half * b.size()
	head := b.f.read(first)
	if len(head) < bankHead || string(head[:4]) != string(bankMagic) {
		return 0, nil, false
	}
	n := int(binary.BigEndian.Uint32(head[8:]))
	if n > b.size()*SectorSize-bankHead {
		return 0, nil, false
	}
	all := make([]byte, 0, b.size()*SectorSize)
	for i := 0; i < b.size() && len(all) < bankHead+n; i++ {
		if s := b.f.read(first + i); s != nil {
			all = append(all, s...)
		} else {
			return 0, nil, false
		}
	}
	value = all[bankHead : bankHead+n]
	return binary.BigEndian.Uint32(head[4:]), value, bankCRC(head, value) == binary.BigEndian.Uint32(head[12:])
}

func bankCRC(head, value []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(head[4:12]), crc32.IEEETable, value)
}

// Put replaces the value. The version must rise. The header goes last, so a
// half-written half does not count.
func (b *Bank) Put(version uint32, value []byte) error {
	switch {
	case version <= b.version:
		return fmt.Errorf("version %d over %d: %w", version, b.version, ErrOld)
	case len(value) > b.size()*SectorSize-bankHead:
		return fmt.Errorf("%d bytes: %w", len(value), ErrTooLarge)
	}
	half := 0
	if b.half == 0 {
		half = 1
	}
	head := append([]byte(nil), bankMagic...)
	head = binary.BigEndian.AppendUint32(head, version)
	head = binary.BigEndian.AppendUint32(head, uint32(len(value)))
	head = binary.BigEndian.AppendUint32(head, bankCRC(head, value))
	if err := b.write(half*b.size(), head, value); err != nil {
		return fmt.Errorf("version %d: %w", version, err)
	}
	b.half, b.version, b.value = half, version, append([]byte(nil), value...)
	return nil
}

func (b *Bank) write(first int, head, value []byte) error {
	for i := range b.size() {
		if err := b.f.erase(first + i); err != nil {
			return err
		}
	}
	for at := 0; at < len(value); {
		pos := bankHead + at
		n := min(len(value)-at, SectorSize-pos%SectorSize)
		if err := b.f.program(first+pos/SectorSize, pos%SectorSize, value[at:at+n]); err != nil {
			return err
		}
		at += n
	}
	return b.f.program(first, 0, head)
}
