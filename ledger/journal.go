package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// The journal is a chain of batches. A batch is the records of one or more
// units, one after the other; a record is cells of fixed width:
//
//	head     28 bytes  version 1, type 1, flags 1, words 1, legs 2, strings 1,
//	                   zero 1, size of the record 4, booked 8, value 8
//	words     8 bytes  each; what they mean depends on the type
//	legs     28 bytes  each: account slot 4, amount 8, balance after it 8,
//	                   number of the leg in its account 8
//	strings   2 bytes  each, length, and the bytes
//
// Numbers are little endian; times are microseconds since 1970 UTC.
const (
	version  = 1
	headSize = 28
	wordSize = 8
	legSize  = 28

	// maxRecord bounds a record: every leg and string at its limit.
	maxRecord = headSize + 255*wordSize + MaxLegs*(legSize+wordSize) + 8*(2+MaxText)
	// maxBlob is where a flush begins the next journal row, in bytes.
	maxBlob = 1 << 20
)

type recType byte

// What a record says. strs and words are listed in this order; words after
// the bar are results, which do not take part in the comparison of bodies.
const (
	recAccount  recType = 1 + iota // id code name currency; normal and limits
	recLimits                      // ref id; limits
	recEntry                       // ref kind text; adjusts
	recExchange                    // ref kind text; rate num, den | remainder
	recReversal                    // ref kind text original currency; amount | reversed so far, seq of the original, so far per leg
	recHold                        // ref text; amount expires over | see the words of a hold
	recRaise                       // ref hold; amount expires 0 | …
	recCapture                     // ref hold; amount last 0 | …
	recVoid                        // ref hold; 0 0 0 | …
	recExpire                      // "" hold; 0 0 0 | …
	recPeriod                      // ref; closed through
	recTypes
)

var recNames = [recTypes]string{"", "account", "limits", "entry", "exchange", "reversal",
	"hold", "raise", "capture", "void", "expire", "period"}

func (t recType) String() string { return recNames[t] }

// shapes says what each type must look like: strings, words (-1: three and one
// per leg of the original), words that are part of the request, and whether
// the legs are.
var shapes = [recTypes]struct {
	strs, words, asked int
	legsAsked          bool
}{
	recAccount:  {4, 10, 10, false},
	recLimits:   {2, 9, 9, false},
	recEntry:    {3, 1, 1, true},
	recExchange: {3, 3, 2, true},
	recReversal: {5, -1, 1, false},
	recHold:     {2, holdWords, 3, true},
	recRaise:    {2, holdWords, 3, false},
	recCapture:  {2, holdWords, 3, false},
	recVoid:     {2, holdWords, 3, false},
	recExpire:   {2, holdWords, 3, false},
	recPeriod:   {1, 1, 1, false},
}

// Flags of a record.
const (
	flagValued   = 1 << iota // the caller gave the value date
	flagImported             // from old books: limits were not checked
	flagsKnown   = flagValued | flagImported
)

type leg struct {
	slot   uint32
	amount int64
	after  int64  // posted balance of the account
	nth    uint64 // 1 is the account's first leg
}

// A record is one act in its journal form. Its slices are used again for the
// next record; strs of a parsed record lie in the blob.
type record struct {
	typ    recType
	flags  byte
	booked int64
	value  int64
	words  []int64
	legs   []leg
	strs   [][]byte
	text   []byte // room for strs of a record that is being made
}

func (r *record) reset(t recType, strs ...string) {
	r.typ, r.flags, r.booked, r.value = t, 0, 0, 0
	r.words, r.legs, r.strs, r.text = r.words[:0], r.legs[:0], r.strs[:0], r.text[:0]
	for _, s := range strs {
		r.text = append(r.text, s...)
	}
	from := 0
	for _, s := range strs {
		r.strs = append(r.strs, r.text[from:from+len(s):from+len(s)])
		from += len(s)
	}
}

func (r *record) ref() []byte { return r.strs[0] }

// append writes r behind dst.
func (r *record) append(dst []byte) []byte {
	at := len(dst)
	le := binary.LittleEndian
	dst = append(dst, version, byte(r.typ), r.flags, byte(min(len(r.words), 255)))
	dst = le.AppendUint16(dst, uint16(len(r.legs)))
	dst = append(dst, byte(len(r.strs)), 0, 0, 0, 0, 0)
	dst = le.AppendUint64(dst, uint64(r.booked))
	dst = le.AppendUint64(dst, uint64(r.value))
	if r.typ == recReversal { // as many as the original has legs: more than a byte counts
		dst = le.AppendUint64(dst, uint64(len(r.words)))
	}
	for _, w := range r.words {
		dst = le.AppendUint64(dst, uint64(w))
	}
	for _, l := range r.legs {
		dst = le.AppendUint32(dst, l.slot)
		dst = le.AppendUint64(dst, uint64(l.amount))
		dst = le.AppendUint64(dst, uint64(l.after))
		dst = le.AppendUint64(dst, l.nth)
	}
	for _, s := range r.strs {
		dst = le.AppendUint16(dst, uint16(len(s)))
		dst = append(dst, s...)
	}
	le.PutUint32(dst[at+8:], uint32(len(dst)-at))
	return dst
}

// parse reads the record that in begins with and returns what follows it.
// What parses is written back the same by append.
func (r *record) parse(in []byte) (rest []byte, err error) {
	le := binary.LittleEndian
	if len(in) < headSize {
		return nil, fmt.Errorf("a record of %d bytes: %w", len(in), ErrDamaged)
	}
	size := int(le.Uint32(in[8:]))
	words, legs, strs := int(in[3]), int(le.Uint16(in[4:])), int(in[6])
	r.typ, r.flags = recType(in[1]), in[2]
	switch {
	case in[0] != version:
		return nil, fmt.Errorf("record version %d: %w", in[0], ErrDamaged)
	case r.typ == 0 || r.typ >= recTypes || r.flags&^flagsKnown != 0 || in[7] != 0:
		return nil, fmt.Errorf("record type %d, flags %02X: %w", in[1], in[2], ErrDamaged)
	case size > len(in) || size > maxRecord || size < headSize:
		return nil, fmt.Errorf("record of %d bytes in %d: %w", size, len(in), ErrDamaged)
	case legs > MaxLegs || strs != shapes[r.typ].strs:
		return nil, fmt.Errorf("record with %d legs, %d strings: %w", legs, strs, ErrDamaged)
	}
	r.booked, r.value = int64(le.Uint64(in[12:])), int64(le.Uint64(in[20:]))
	p := in[headSize:size]
	if r.typ == recReversal {
		if len(p) < wordSize || le.Uint64(p) > MaxLegs+3 || le.Uint64(p) < 3 || min(le.Uint64(p), 255) != uint64(words) {
			return nil, fmt.Errorf("word count of a reversal: %w", ErrDamaged)
		}
		words, p = int(le.Uint64(p)), p[wordSize:]
	} else if words != shapes[r.typ].words {
		return nil, fmt.Errorf("record %s with %d words: %w", r.typ, words, ErrDamaged)
	}
	if len(p) < words*wordSize+legs*legSize {
		return nil, fmt.Errorf("record %s cut short: %w", r.typ, ErrDamaged)
	}
	if p, err = r.cells(p, words, legs, strs); err != nil || len(p) != 0 {
		return nil, fmt.Errorf("record %s with strings out of its bounds: %w", r.typ, ErrDamaged)
	}
	return in[size:], nil
}

// cells reads words, legs and strings from p, which is long enough for the
// first two.
func (r *record) cells(p []byte, words, legs, strs int) ([]byte, error) {
	le := binary.LittleEndian
	r.words, r.legs, r.strs = r.words[:0], r.legs[:0], r.strs[:0]
	for range words {
		r.words = append(r.words, int64(le.Uint64(p)))
		p = p[wordSize:]
	}
	for range legs {
		r.legs = append(r.legs, leg{le.Uint32(p), int64(le.Uint64(p[4:])), int64(le.Uint64(p[12:])), le.Uint64(p[20:])})
		p = p[legSize:]
	}
	for range strs {
		if len(p) < 2 || len(p)-2 < int(le.Uint16(p)) {
			return nil, ErrDamaged
		}
		n := int(le.Uint16(p))
		r.strs = append(r.strs, p[2:2+n:2+n])
		p = p[2+n:]
	}
	return p, nil
}

// body is the hash of what the caller asked for, without what the book made
// of it: two acts under one reference are the same when their bodies are.
func (r *record) body() [32]byte {
	shape := shapes[r.typ]
	b := make([]byte, 0, 512)
	b = append(b, byte(r.typ), r.flags)
	if r.flags&flagValued != 0 {
		b = binary.LittleEndian.AppendUint64(b, uint64(r.value))
	}
	for _, w := range r.words[:shape.asked] {
		b = binary.LittleEndian.AppendUint64(b, uint64(w))
	}
	if shape.legsAsked {
		for _, l := range r.legs {
			b = binary.LittleEndian.AppendUint32(b, l.slot)
			b = binary.LittleEndian.AppendUint64(b, uint64(l.amount))
		}
	}
	for _, s := range r.strs {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	return sha256.Sum256(b)
}

// A batch is one row of the journal: records seq-n+1 to seq.
type batch struct {
	seq  uint64
	n    int
	prev [32]byte
	hash [32]byte
	blob []byte
}

func (b *batch) first() uint64 { return b.seq - uint64(b.n) + 1 }

// chain is the hash of a batch: SHA-256 over the hash before it, the book, the
// last sequence, the number of records and the records.
func chain(prev [32]byte, book int64, seq uint64, n int, blob []byte) (sum [32]byte) {
	var head [32 + 8 + 8 + 4]byte
	copy(head[:], prev[:])
	binary.LittleEndian.PutUint64(head[32:], uint64(book))
	binary.LittleEndian.PutUint64(head[40:], seq)
	binary.LittleEndian.PutUint32(head[48:], uint32(n))
	h := sha256.New()
	h.Write(head[:])
	h.Write(blob)
	h.Sum(sum[:0])
	return sum
}

// A tip is where the journal ends.
type tip struct {
	seq  uint64
	hash [32]byte
}

// follow checks that b is the batch behind t, and moves t to it.
func (t *tip) follow(book int64, b *batch) error {
	switch {
	case b.n < 1 || b.first() != t.seq+1:
		return fmt.Errorf("batch %d has %d records behind record %d: a batch is missing: %w", b.seq, b.n, t.seq, ErrDamaged)
	case b.prev != t.hash:
		return fmt.Errorf("batch %d does not follow the one before it: the chain is broken: %w", b.seq, ErrDamaged)
	case b.hash != chain(b.prev, book, b.seq, b.n, b.blob):
		return fmt.Errorf("batch %d does not have the hash written with it: %w", b.seq, ErrDamaged)
	}
	*t = tip{b.seq, b.hash}
	return nil
}

// each reads the records of the batch in order; raw is the bytes of the one
// in r, which is valid during the call.
func (b *batch) each(r *record, f func(seq uint64, raw []byte) error) error {
	in, seq := b.blob, b.first()
	for n := 0; len(in) > 0; n++ {
		if n == b.n {
			return fmt.Errorf("batch %d has more than %d records: %w", b.seq, b.n, ErrDamaged)
		}
		rest, err := r.parse(in)
		if err != nil {
			return fmt.Errorf("record %d: %w", seq, err)
		}
		if err := f(seq, in[:len(in)-len(rest)]); err != nil {
			return fmt.Errorf("record %d: %w", seq, err)
		}
		in = rest
		seq++
	}
	if seq != b.seq+1 {
		return fmt.Errorf("batch %d has %d records, not %d: %w", b.seq, seq-b.first(), b.n, ErrDamaged)
	}
	return nil
}

// snapshotVersion is the first number of a snapshot; all numbers are little
// endian, 64 bits.
const snapshotVersion = 1

// encode appends the state to dst.
func (s *state) encode(dst []byte) []byte {
	w := coder{buf: dst}
	w.put(snapshotVersion, uint64(s.book), s.seq, uint64(s.clock), uint64(s.closed), uint64(len(s.accounts)))
	for _, a := range s.accounts {
		w.text(string(a.ID), a.Code, a.Name, string(a.Currency))
		w.put(uint64(a.Normal), a.debit.hi, a.debit.lo, a.credit.hi, a.credit.lo, uint64(a.balance), a.count,
			uint64(a.window), uint64(a.spent))
		w.limits(a.Account.Limits)
		w.limits(a.totals.limits)
	}
	w.put(uint64(len(s.holds)))
	for _, h := range s.openHolds() {
		w.text(h.name)
		w.put(uint64(h.from), uint64(h.to), uint64(h.amount), uint64(h.remaining), uint64(h.captured),
			uint64(h.over), uint64(h.limit), uint64(h.expires), uint64(h.spentFrom))
	}
	k := &s.keys
	w.put(k.youngEnd, k.oldEnd, k.dropped)
	w.refs(k.young)
	w.refs(k.old)
	w.put(uint64(len(k.layers)))
	for i := range k.layers {
		w.put(uint64(k.layers[i].count), uint64(len(k.layers[i].blocks)))
		for _, block := range k.layers[i].blocks {
			w.put(block[:]...)
		}
	}
	return w.buf
}

// decode makes s, which is empty, the state that was encoded.
func (s *state) decode(blob []byte) error {
	r := coder{buf: blob}
	if v := r.get(); v != snapshotVersion {
		return fmt.Errorf("version %d: %w", v, ErrDamaged)
	}
	s.book, s.seq, s.clock, s.closed = int64(r.get()), r.get(), int64(r.get()), int64(r.get())
	for n := r.count(100); n > 0 && !r.bad; n-- {
		a := &account{slot: uint32(len(s.accounts))}
		a.ID, a.Code, a.Name, a.Currency = AccountID(r.string()), r.string(), r.string(), currency([]byte(r.string()))
		a.Normal, a.debit = Side(r.get()), Total{r.get(), r.get()}
		a.credit, a.balance = Total{r.get(), r.get()}, int64(r.get())
		a.count, a.window, a.spent = r.get(), int64(r.get()), int64(r.get())
		a.Account.Limits, a.totals.limits = r.getLimits(), r.getLimits()
		s.accounts = append(s.accounts, a)
		s.ids[a.ID] = a.slot
	}
	for n := r.count(80); n > 0 && !r.bad; n-- {
		h := &hold{name: r.string()}
		h.ref, h.from, h.to = keyOf([]byte(h.name)), uint32(r.get()), uint32(r.get())
		h.amount, h.remaining, h.captured, h.over = int64(r.get()), int64(r.get()), int64(r.get()), int64(r.get())
		h.limit, h.expires, h.spentFrom = int64(r.get()), int64(r.get()), int64(r.get())
		if int(h.from) >= len(s.accounts) || int(h.to) >= len(s.accounts) {
			return fmt.Errorf("hold %s is on no account: %w", h.name, ErrDamaged)
		}
		s.accounts[h.from].held += h.remaining
		s.link(h)
	}
	s.keys.decode(&r)
	if r.bad || len(r.buf) != 0 || len(s.ids) != len(s.accounts) {
		return fmt.Errorf("it is cut short, too long or contradicts itself: %w", ErrDamaged)
	}
	return nil
}

func (k *keys) decode(r *coder) {
	k.youngEnd, k.oldEnd, k.dropped = r.get(), r.get(), r.get()
	k.young, k.old = r.getRefs(), r.getRefs()
	for n := r.count(16); n > 0 && !r.bad; n-- {
		l := layer{count: int(r.get()), blocks: make([][8]uint64, r.count(64))}
		for i := range l.blocks {
			for j := range 8 {
				l.blocks[i][j] = r.get()
			}
		}
		r.bad = r.bad || len(l.blocks) == 0
		k.layers = append(k.layers, l)
	}
}

// A coder writes at the end of buf, or reads from its beginning; bad is set
// when there was too little to read.
type coder struct {
	buf []byte
	bad bool
}

func (c *coder) put(ns ...uint64) {
	for _, n := range ns {
		c.buf = binary.LittleEndian.AppendUint64(c.buf, n)
	}
}

func (c *coder) text(ss ...string) {
	for _, s := range ss {
		c.put(uint64(len(s)))
		c.buf = append(c.buf, s...)
	}
}

func (c *coder) limits(l Limits) {
	for _, n := range l.words(nil) {
		c.put(uint64(n))
	}
}

func (c *coder) refs(m map[key]uint64) {
	c.put(uint64(len(m)))
	for k, seq := range m {
		c.buf = append(c.buf, k[:]...)
		c.put(seq)
	}
}

func (c *coder) get() uint64 {
	if len(c.buf) < 8 {
		c.bad = true
		c.buf = nil
		return 0
	}
	n := binary.LittleEndian.Uint64(c.buf)
	c.buf = c.buf[8:]
	return n
}

// count reads how many things of at least size bytes follow.
func (c *coder) count(size int) int {
	n := c.get()
	if n > uint64(len(c.buf)/size) {
		c.bad = true
		return 0
	}
	return int(n)
}

func (c *coder) string() string {
	n := c.count(1)
	s := string(c.buf[:n])
	c.buf = c.buf[n:]
	return s
}

func (c *coder) getLimits() Limits {
	var w [9]int64
	for i := range w {
		w[i] = int64(c.get())
	}
	return limitsOf(w[:])
}

func (c *coder) getRefs() map[key]uint64 {
	n := c.count(24)
	m := make(map[key]uint64, n)
	for range n {
		k := key(c.buf[:16])
		c.buf = c.buf[16:]
		m[k] = c.get()
	}
	return m
}
