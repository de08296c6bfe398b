package dukpt

import "math/bits"

// A Reader is what a reader keeps: keys of transactions to come, none of one
// that was. After every Next it is to be stored (Bytes) before the key is used:
// a reader that comes back from a power failure with the state before would use
// a key twice.
type Reader struct {
	ksn    KSN              // of the next transaction
	future [counterBits]Key // future key registers; the one of bit i at i, zero when used
	over   bool
}

// NewReader loads the initial key (X9.24-1:2009, annex A.3, "load initial key").
// The counter of k does not matter.
func NewReader(initial Key, k KSN) *Reader {
	r := &Reader{ksn: k.At(0)}
	for i := range r.future {
		r.future[i] = next(initial, r.ksn.At(1<<i))
	}
	r.ksn = r.ksn.At(1)
	return r
}

// KSN is the serial number of the next transaction.
func (r *Reader) KSN() KSN { return r.ksn }

// Next gives the key of the next transaction with its serial number, and
// forgets it. After about a million transactions it is ErrExhausted.
func (r *Reader) Next() (Key, KSN, error) {
	if r.over {
		return Key{}, KSN{}, ErrExhausted
	}
	k, counter := r.ksn, r.ksn.Counter()
	at := bits.TrailingZeros32(counter)
	key := r.future[at]
	r.future[at] = Key{}
	step := uint32(1)
	if bits.OnesCount32(counter) < maxOnes {
		for i := range at {
			r.future[i] = next(key, k.At(counter|1<<i))
		}
	} else { // no counter with more bits is used
		step = 1 << at
	}
	r.ksn = k.At(counter + step)
	r.over = counter+step > counterMask
	return key, k, nil
}

// stateLen is KSN 10 | registers 16 each.
const stateLen = 10 + 16*counterBits

// Bytes is the reader's state, which holds keys: KSN of the next transaction
// 10, then the future keys from the register of the lowest bit; all zeros behind
// the KSN when none is left.
func (r *Reader) Bytes() []byte {
	out := append(make([]byte, 0, stateLen), r.ksn[:]...)
	for i := range r.future {
		out = append(out, r.future[i][:]...)
	}
	return out
}

// ParseReader reads what Bytes wrote.
func ParseReader(b []byte) (*Reader, error) {
	if len(b) != stateLen {
		return nil, ErrState
	}
	r := &Reader{ksn: KSN(b[:10])}
	for i := range r.future {
		r.future[i] = Key(b[10+16*i:])
	}
	counter := r.ksn.Counter()
	if counter == 0 {
		r.over = true
		if r.future != [counterBits]Key{} {
			return nil, ErrState
		}
		return r, nil
	}
	if r.ksn.Check() != nil || r.future[bits.TrailingZeros32(counter)] == (Key{}) {
		return nil, ErrState
	}
	return r, nil
}
