package ledger

import (
	"crypto/sha256"
	"encoding/binary"
)

// A key stands for a reference: the first 16 bytes of its SHA-256.
type key [16]byte

func keyOf(ref []byte) (k key) {
	sum := sha256.Sum256(ref)
	return key(sum[:16])
}

// reversalKey finds the latest reversal of an entry. The zero byte cannot
// stand in a reference, so it is nobody's key.
func reversalKey(original []byte) key {
	var room [MaxRef + 1]byte
	return keyOf(append(room[:1], original...))
}

// keys remembers under which sequence each reference was used. The last
// window/2 to window references are in memory, about 40 bytes each; of older
// ones 16 bits in a Bloom filter say which are worth looking up in the views.
// So a hundred million references cost 200 MB, and one unknown reference in a
// thousand or so costs a look at the views.
type keys struct {
	half       int // references per generation
	young, old map[key]uint64
	youngEnd   uint64 // last sequence in young
	oldEnd     uint64 // last sequence in old
	dropped    uint64 // references up to this sequence are only in the views
	projected  uint64 // how far the views are
	layers     []layer
}

func newKeys(window int) keys {
	return keys{half: max(window/2, 1), young: map[key]uint64{}}
}

// find returns the sequence of k, or whether it may be among the dropped.
func (k *keys) find(at key) (seq uint64, maybe bool) {
	if seq, ok := k.young[at]; ok {
		return seq, false
	}
	if seq, ok := k.old[at]; ok {
		return seq, false
	}
	if k.dropped == 0 {
		return 0, false
	}
	for i := range k.layers {
		if k.layers[i].has(at) {
			return 0, true
		}
	}
	return 0, false
}

// set puts seq under at and returns what was there; 0 takes it out.
func (k *keys) set(at key, seq uint64) (was uint64) {
	was, young := k.young[at]
	if !young {
		old := false
		if was, old = k.old[at]; !old && seq != 0 {
			k.mark(at)
		}
	}
	if seq == 0 {
		delete(k.young, at)
		return was
	}
	k.young[at] = seq
	k.youngEnd = max(k.youngEnd, seq)
	return was
}

// turn drops the older half when the younger is full, if the views have it.
// It is called between batches, when nothing can be undone.
func (k *keys) turn() {
	if len(k.young) < k.half || (len(k.old) > 0 && k.oldEnd > k.projected) {
		return
	}
	if len(k.old) > 0 {
		k.dropped = k.oldEnd
	}
	k.old, k.oldEnd = k.young, k.youngEnd
	k.young = make(map[key]uint64, k.half)
}

// mark enters at into the filter.
func (k *keys) mark(at key) {
	if n := len(k.layers); n == 0 || k.layers[n-1].full() {
		k.layers = append(k.layers, newLayer(firstLayer<<n))
	}
	k.layers[len(k.layers)-1].add(at)
}

// firstLayer is how many references the first layer of the filter takes; each
// further one takes twice as many as the one before.
const firstLayer = 1 << 18

// A layer is a Bloom filter in blocks of one cache line: 8 bits of one block
// of 512 are set for each reference, 16 bits of room.
type layer struct {
	blocks [][8]uint64
	count  int
}

func newLayer(refs int) layer { return layer{blocks: make([][8]uint64, refs/32)} }

func (l *layer) full() bool { return l.count >= 32*len(l.blocks) }

// bits returns the block of at and its bit in each of the block's words.
func (l *layer) bits(at key) (block *[8]uint64, seed uint64) {
	hi, lo := binary.LittleEndian.Uint64(at[:]), binary.LittleEndian.Uint64(at[8:])
	return &l.blocks[hi%uint64(len(l.blocks))], lo
}

func (l *layer) add(at key) {
	block, seed := l.bits(at)
	for i := range block {
		block[i] |= 1 << (seed >> (6 * i) & 63)
	}
	l.count++
}

func (l *layer) has(at key) bool {
	block, seed := l.bits(at)
	for i := range block {
		if block[i]&(1<<(seed>>(6*i)&63)) == 0 {
			return false
		}
	}
	return true
}
