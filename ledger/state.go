package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"koala/money"
)

// A state is the books in memory: what the records up to seq make of nothing.
// Live acts and replay change it through the same apply. It knows no store.
type state struct {
	book     int64
	seq      uint64 // of the last record
	clock    int64  // booking time never goes back, µs
	closed   int64  // value dates up to this moment are closed, µs
	accounts []*account
	ids      map[AccountID]uint32 // of committed accounts: only publish writes it
	fresh    map[AccountID]uint32 // of accounts opened since the last commit
	holds    map[key]*hold        // the open ones
	keys     keys
	stamp    uint64 // which accounts were saved since the last mark
	replays  bool   // nothing is saved for undo, results are compared

	due     dues   // expiries to write down, soonest first
	scratch record // what acts are built in
	undo    undoList
	pending pending

	// fetch returns the record with a sequence before the pending ones and
	// seek finds one the keys no longer hold; both belong to the unit that runs.
	fetch func(seq uint64) ([]byte, error)
	seek  func(ref string, reversal bool) (uint64, error)
}

// pending is what the batch in progress adds to the journal.
type pending struct {
	blob []byte
	ends []int // where each record ends in blob
}

// A hold is an open authorisation.
type hold struct {
	ref       key
	name      string
	from, to  uint32
	amount    int64
	remaining int64 // of amount, still held on from
	captured  int64
	limit     int64 // most that may be captured
	over      int64 // basis points, as authorised
	expires   int64 // µs; 0: never
	spentFrom int64 // velocity window that was charged
	at        int   // index in the account's holds
}

func (h *hold) expired(now int64) bool { return h.expires != 0 && h.expires <= now }

// undoList is what takes the state back to a mark.
type undoList struct {
	totals []savedTotals
	holds  []savedHold
	keys   []savedKey
}

type savedTotals struct {
	slot uint32
	totals
}

type savedHold struct {
	h     *hold
	was   hold
	known bool // it was open before
}

type savedKey struct {
	key key
	was uint64 // 0: it was not there
}

type mark struct {
	seq                           uint64
	clock, closed                 int64
	accounts, totals, holds, keys int
	records, bytes                int
}

func newState(book int64, window int) *state {
	return &state{
		book:  book,
		ids:   map[AccountID]uint32{},
		fresh: map[AccountID]uint32{},
		holds: map[key]*hold{},
		keys:  newKeys(window),
	}
}

// mark begins a stretch of acts that may be taken back as a whole.
func (s *state) mark() mark {
	s.stamp++
	return mark{s.seq, s.clock, s.closed, len(s.accounts), len(s.undo.totals), len(s.undo.holds),
		len(s.undo.keys), len(s.pending.ends), len(s.pending.blob)}
}

// back takes the state to where it was at m.
func (s *state) back(m mark) {
	u := &s.undo
	for _, k := range slices.Backward(u.keys[m.keys:]) {
		s.keys.set(k.key, k.was)
	}
	for _, h := range slices.Backward(u.holds[m.holds:]) {
		s.restore(h)
	}
	for _, t := range slices.Backward(u.totals[m.totals:]) {
		s.accounts[t.slot].totals = t.totals
	}
	for _, a := range s.accounts[m.accounts:] {
		delete(s.fresh, a.ID)
	}
	clear(u.holds[m.holds:])
	u.keys, u.holds, u.totals = u.keys[:m.keys], u.holds[:m.holds], u.totals[:m.totals]
	s.accounts = s.accounts[:m.accounts]
	s.pending.ends, s.pending.blob = s.pending.ends[:m.records], s.pending.blob[:m.bytes]
	s.seq, s.clock, s.closed = m.seq, m.clock, m.closed
	s.stamp++
}

func (s *state) restore(saved savedHold) {
	h := saved.h
	_, open := s.holds[saved.was.ref]
	at := h.at
	*h = saved.was
	h.at = at
	switch {
	case open && !saved.known:
		s.unlink(h)
	case !open && saved.known:
		s.link(h)
	}
}

// link adds h to the open holds, unlink removes it.
func (s *state) link(h *hold) {
	a := s.accounts[h.from]
	h.at = len(a.holds)
	a.holds = append(a.holds, h)
	if h.expires != 0 && (a.soonest == 0 || h.expires < a.soonest) {
		a.soonest = h.expires
	}
	s.holds[h.ref] = h
	s.remind(h)
}

func (s *state) unlink(h *hold) {
	a := s.accounts[h.from]
	last := len(a.holds) - 1
	a.holds[h.at] = a.holds[last]
	a.holds[h.at].at = h.at
	a.holds[last] = nil
	a.holds = a.holds[:last]
	delete(s.holds, h.ref)
}

// save remembers h before it changes; known says whether it is open.
func (s *state) save(h *hold, known bool) {
	if !s.replays {
		s.undo.holds = append(s.undo.holds, savedHold{h, *h, known})
	}
}

// touch returns an account that is about to change.
func (s *state) touch(slot uint32) *account {
	a := s.accounts[slot]
	if a.stamp != s.stamp && !s.replays {
		a.stamp = s.stamp
		s.undo.totals = append(s.undo.totals, savedTotals{slot, a.totals})
	}
	return a
}

func (s *state) slot(id AccountID) (uint32, bool) {
	if slot, ok := s.ids[id]; ok {
		return slot, true
	}
	slot, ok := s.fresh[id]
	return slot, ok
}

func (s *state) accountOf(id AccountID) (*account, error) {
	slot, ok := s.slot(id)
	if !ok {
		return nil, fmt.Errorf("account %s: %w", id, ErrNoAccount)
	}
	return s.accounts[slot], nil
}

// at moves the clock of the books on to now and returns where it stands.
func (s *state) at(now int64) int64 {
	s.clock = max(s.clock, now)
	return s.clock
}

// perform applies r as a new record under key k (zero: none), checks the
// limits of the accounts it touched, and queues it for the journal.
func (s *state) perform(r *record, k key, checked bool) error {
	m := s.mark()
	r.booked = s.clock
	if r.flags&flagValued == 0 {
		r.value = s.clock
	}
	err := s.apply(r)
	if err == nil {
		err = s.check(m, checked)
	}
	if err != nil {
		s.back(m)
		return err
	}
	s.remember(k, s.seq)
	if r.typ == recReversal {
		s.remember(reversalKey(r.strs[3]), s.seq)
	}
	p := &s.pending
	p.blob = r.append(p.blob)
	p.ends = append(p.ends, len(p.blob))
	return nil
}

func (s *state) remember(k key, seq uint64) {
	if k == (key{}) {
		return
	}
	was := s.keys.set(k, seq)
	if !s.replays {
		s.undo.keys = append(s.undo.keys, savedKey{k, was})
	}
}

// replay applies a record of the journal. Its results must come out as they
// were written.
func (s *state) replay(r *record) error {
	s.clock = max(s.clock, r.booked)
	if err := s.apply(r); err != nil {
		return err
	}
	if s.keys.young == nil { // an audit looks nothing up
		return nil
	}
	if r.typ != recAccount && len(r.ref()) > 0 { // an id is no reference
		s.keys.set(keyOf(r.ref()), s.seq)
	}
	if r.typ == recReversal {
		s.keys.set(reversalKey(r.strs[3]), s.seq)
	}
	return nil
}

// apply changes the state as r says: the one way for live acts and replay.
func (s *state) apply(r *record) error {
	s.seq++
	switch r.typ {
	case recAccount:
		return s.applyAccount(r)
	case recLimits:
		return s.applyLimits(r)
	case recHold:
		return s.applyHold(r)
	case recRaise, recCapture, recVoid, recExpire:
		return s.applyHoldAct(r)
	case recPeriod:
		s.closed = max(s.closed, r.words[0])
		return nil
	}
	return s.applyLegs(r, 0)
}

// applyLegs books the legs; free is how much of what leaves the first account
// was charged to its velocity before, by a hold.
func (s *state) applyLegs(r *record, free int64) error {
	for i := range r.legs {
		l := &r.legs[i]
		if int(l.slot) >= len(s.accounts) || l.amount > money.MaxMinor || l.amount < -money.MaxMinor {
			return fmt.Errorf("leg %d on account %d: %w", i, l.slot, ErrDamaged)
		}
		a := s.touch(l.slot)
		a.add(l.amount)
		if l.amount < 0 && a.limits.Velocity.Limit > 0 {
			a.spend(r.booked, -l.amount-free)
		}
		free = 0
		if s.replays {
			if l.after != a.balance || l.nth != a.count {
				return fmt.Errorf("leg %d leaves %d after %d legs on %s, written is %d after %d: %w",
					i, a.balance, a.count, a.ID, l.after, l.nth, ErrDamaged)
			}
			continue
		}
		l.after, l.nth = a.balance, a.count
	}
	return nil
}

// settle forgets how to undo: the batch is durable or the unit will not fail.
func (s *state) settle() {
	clear(s.undo.holds)
	s.undo.totals, s.undo.holds, s.undo.keys = s.undo.totals[:0], s.undo.holds[:0], s.undo.keys[:0]
}

// raw returns a record by its sequence, from the batch in progress or fetched.
func (s *state) raw(seq uint64) ([]byte, error) {
	p := &s.pending
	first := s.seq - uint64(len(p.ends)) + 1
	if seq < first {
		if s.fetch == nil {
			return nil, fmt.Errorf("record %d: %w", seq, ErrNoEntry)
		}
		return s.fetch(seq)
	}
	i, from := int(seq-first), 0
	if i > 0 {
		from = p.ends[i-1]
	}
	return p.blob[from:p.ends[i]], nil
}

// find returns the sequence under k, 0 when there is none.
func (s *state) find(k key, ref string, reversal bool) (uint64, error) {
	seq, maybe := s.keys.find(k)
	if seq != 0 || !maybe || s.seek == nil {
		return seq, nil
	}
	return s.seek(ref, reversal)
}

// again looks for an earlier act under the reference of r. It returns nil
// when there is none, the record as written when its body is that of r, and
// ErrDiffers otherwise.
func (s *state) again(k key, r *record) (uint64, *record, error) {
	seq, err := s.find(k, string(r.ref()), false)
	if err != nil || seq == 0 {
		return 0, nil, err
	}
	raw, err := s.raw(seq)
	if err != nil {
		return 0, nil, err
	}
	old := &record{}
	if _, err := old.parse(raw); err != nil {
		return 0, nil, err
	}
	if old.body() != r.body() {
		return 0, nil, fmt.Errorf("record %d: %w", seq, ErrDiffers)
	}
	return seq, old, nil
}

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
// So a hundred million references cost 200 MB, and about one new reference in
// 250 costs a look at the views.
type keys struct {
	half       int // references per generation
	young, old map[key]uint64
	youngEnd   uint64 // last sequence in young
	oldEnd     uint64 // last sequence in old
	dropped    uint64 // references up to this sequence are only in the views
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
// It is called between units, when nothing can be undone.
func (k *keys) turn(projected uint64) {
	for {
		seen := len(k.old) == 0 || k.oldEnd <= projected
		switch {
		case len(k.old) > 0 && seen && (len(k.young) >= k.half || len(k.old) > k.half):
			k.dropped, k.old = k.oldEnd, nil
		case len(k.old) == 0 && len(k.young) >= k.half:
			k.old, k.oldEnd = k.young, k.youngEnd
			k.young = map[key]uint64{}
		default:
			return
		}
	}
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
const firstLayer = 1 << 12

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
