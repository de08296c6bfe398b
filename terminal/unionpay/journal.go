package unionpay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"koala/spec/pboc"
	"koala/terminal"
)

// maxRecord bounds a record of the journal, bytes.
const maxRecord = 1100

// A journal is the open batch in flash: intents of what the host is asked,
// entries of what came of it, and notes about them. One write moves an entry
// from one state to the next, so that a power failure leaves it in either.
type journal struct {
	shelf *terminal.Shelf
	list  []*Entry         // kept, in the order they came
	by    map[string]*fate // of kept entries, by key
}

// A fate is what notes and other entries say about an entry.
type fate struct {
	entry     *Entry
	told      string // response code to a stored transaction, empty: not told yet
	script    bool   // the script notice was taken
	pieces    [][]byte
	signature []byte  // SHA-256, nil: not signed
	uploaded  bool    // the signature
	undone    *fate   // what took it back
	parts     []*fate // that went back of it
	changes   []*fate // adjustments, in the order they came
}

// openJournal reads the batch from a flash of at least four sectors.
func openJournal(f *terminal.Flash) (*journal, error) {
	shelf, err := terminal.OpenShelf(f, maxRecord, recordKey)
	if err != nil {
		return nil, err
	}
	j := &journal{shelf: shelf, by: map[string]*fate{}}
	for _, item := range shelf.Batch(shelf.Waiting()) {
		if err := j.learn(item.Wire); err != nil {
			return nil, err
		}
	}
	return j, nil
}

// learn takes a kept record into memory.
func (j *journal) learn(wire []byte) error {
	if wire[0] == markEntry {
		e, err := ParseEntry(wire)
		if err != nil {
			return err
		}
		j.list = append(j.list, e)
		f := &fate{entry: e}
		j.by[e.key()] = f
		j.affect(f)
		return nil
	}
	n, err := parseNote(wire)
	if err != nil {
		return err
	}
	f := j.by[noteKey(markEntry, n.batch, n.stan, -1)]
	if f == nil {
		return nil // its entry was released before it
	}
	switch n.mark {
	case markTold:
		f.told = string(n.data)
	case markScript:
		f.script = true
	case markPiece:
		if n.piece == len(f.pieces) {
			f.pieces = append(f.pieces, n.data)
		}
	case markSigned:
		f.signature = n.data
	case markSignature:
		f.uploaded = true
	}
	return nil
}

// affect has an entry change the one it refers to.
func (j *journal) affect(by *fate) {
	f := j.original(by.entry)
	switch {
	case f == nil:
	case table[by.entry.Kind].side == replaces:
		f.changes = append(f.changes, by)
	case by.entry.Kind == CashRefund: // in parts
		f.parts = append(f.parts, by)
	default:
		f.undone = by
	}
}

// original is the entry of this batch that another one names in field 61.
func (j *journal) original(e *Entry) *fate {
	o, err := ParseOriginal(e.Get(61))
	if err != nil {
		return nil
	}
	f := j.by[noteKey(markEntry, o.Batch, o.STAN, -1)]
	if f == nil || !slices.Contains(table[e.Kind].of, f.entry.Kind) {
		return nil
	}
	return f
}

// begin keeps an intent, or changes one that is there.
func (j *journal) begin(e *Entry) error {
	wire, err := e.MarshalBinary()
	if err != nil {
		return err
	}
	return j.shelf.Begin(wire)
}

// keep makes an entry final; the intent it came of is over with the same write.
func (j *journal) keep(e *Entry) error {
	wire, err := e.MarshalBinary()
	if err != nil {
		return err
	}
	return j.store(wire)
}

// note keeps what became of an entry. In a journal that is full it is only
// remembered until the next start: what the host was told is then told again,
// and its answer is the same. The last room is for the release.
func (j *journal) note(n note) error {
	if err := j.shelf.Room(); terminal.NoRoom(err) && n.mark != markPiece && n.mark != markSigned {
		return j.learn(n.bytes())
	}
	return j.store(n.bytes())
}

func (j *journal) store(wire []byte) error {
	key, err := recordKey(wire)
	if err != nil {
		return err
	}
	if _, ok := j.shelf.Kept(key); ok {
		return nil
	}
	if _, err := j.shelf.Keep(wire); err != nil {
		return err
	}
	return j.learn(wire)
}

// drop takes an intent back: nothing came of it.
func (j *journal) drop(e *Entry) error { return j.shelf.Settle(e.key()) }

// intents are the transactions without an end, in order of their traces.
func (j *journal) intents() ([]*Entry, error) {
	list, err := terminal.ReadUnsettled(j.shelf, ParseEntry)
	if err != nil {
		return nil, fmt.Errorf("unionpay: journal: %w", err)
	}
	return list, nil
}

// release forgets every kept record.
func (j *journal) release() error {
	if j.shelf.Waiting() == 0 {
		return nil
	}
	if err := j.shelf.Release(j.shelf.Next() - 1); err != nil {
		return err
	}
	j.list, j.by = nil, map[string]*fate{}
	return nil
}

// refused says that the host did not take what was decided here.
func (f *fate) refused() bool { return f.told != "" && !Approves(f.told) }

// untold says that the host does not know an entry, or its amount, as it is here.
func (f *fate) untold() bool {
	due := func(f *fate) bool { return f.entry.State == Due && f.told == "" }
	return due(f) || slices.ContainsFunc(f.changes, due)
}

// counts says whether an entry is part of the batch's totals: approved by the
// host, at once or when it was told.
func (f *fate) counts() bool {
	s := table[f.entry.Kind].side
	return (f.entry.State == Done || f.entry.State == Due) && !f.refused() && (s == debit || s == credit)
}

// fen is the amount an entry counts with: the latest adjustment's that the host
// did not refuse.
func (f *fate) fen() uint64 {
	for _, c := range slices.Backward(f.changes) {
		if !c.refused() {
			return c.entry.Fen()
		}
	}
	return f.entry.Fen()
}

// left is what has not gone back in parts.
func (f *fate) left() uint64 {
	n := f.fen()
	for _, p := range f.parts {
		if p.counts() {
			n -= min(n, p.entry.Fen())
		}
	}
	return n
}

// gone says whether nothing of an entry stands any more: it was taken back, or
// went back in parts.
func (f *fate) gone() bool {
	return f.undone != nil && !f.undone.refused() || len(f.parts) > 0 && f.left() == 0
}

// Totals are what a batch comes to: number and sum in minor units, of debits
// (the shop is paid) and credits (the shop pays), domestic and foreign.
type Totals struct {
	Debits, Credits               uint32
	DebitFen, CreditFen           uint64
	ForeignDebits, ForeignCredits uint32
	ForeignDebitFen               uint64
	ForeignCreditFen              uint64
}

// Net is what the shop is owed, minor units.
func (t Totals) Net() int64 {
	return int64(t.DebitFen) + int64(t.ForeignDebitFen) - int64(t.CreditFen) - int64(t.ForeignCreditFen)
}

// totals sums the batch up.
func (j *journal) totals() Totals {
	var t Totals
	for _, e := range j.list {
		f := j.by[e.key()]
		if !f.counts() {
			continue
		}
		n, fen := &t.Debits, &t.DebitFen
		switch foreign, gives := e.foreign(), table[e.Kind].side == credit; {
		case foreign && gives:
			n, fen = &t.ForeignCredits, &t.ForeignCreditFen
		case foreign:
			n, fen = &t.ForeignDebits, &t.ForeignDebitFen
		case gives:
			n, fen = &t.Credits, &t.CreditFen
		}
		*n++
		*fen += f.fen()
	}
	return t
}

// foreign says that the scheme the host named (F63) is not UnionPay.
func (e *Entry) foreign() bool {
	s := e.Get(63)
	return len(s) >= 3 && s[:3] != "CUP"
}

// absorbed says whether a chip record of the till is in the batch already.
func (j *journal) absorbed(number uint32) bool {
	return slices.ContainsFunc(j.list, func(e *Entry) bool { return e.Till == number && e.Kind == TapSale })
}

// waiting are the entries the host is still to be told.
func (j *journal) waiting() (list []*fate) {
	for _, e := range j.list {
		if f := j.by[e.key()]; e.State == Due && f.told == "" {
			list = append(list, f)
		}
	}
	return list
}

// chipTime gives field 12 and 13 of a clearing record.
func chipTime(c pboc.Clearing) (clock, date string) {
	return fmt.Sprintf("%X", c.Time), fmt.Sprintf("%X", c.Date)[2:]
}

// maxNumber is the highest STAN and batch number, six digits.
const maxNumber = 999_999

// reserved is how many STANs are taken from flash at once: after a power
// failure at most so many are passed over.
const reserved = 50

// A phase says how far the settlement of a batch has come.
type phase byte

const (
	trading  phase = iota // transactions are taken
	settling              // the totals are sent or about to be: nothing is added any more
	closed                // the host has the batch: it is only to be forgotten here
)

// A book holds the counters in a Bank: one write changes all of it.
type book struct {
	bank *terminal.Bank
	page
	next uint32 // STAN to give out
}

// A page is what the book says.
type page struct {
	bound    uint32 // STANs up to this one are taken
	batch    uint32 // of the open batch; 0 before the host has said one
	phase    phase
	signedOn bool
	shift    int64   // what the host's clock is ahead of ours, seconds
	flags    [2]byte // how the totals compared, domestic and foreign: '1' to '3', 0 not said yet
	first    uint32  // trace of the settlement's first message: what is sent again is the same message
}

var errBook = errors.New("unionpay: counters do not read")

// bookLen: bound 4, batch 4, phase 1, signed on 1, shift 8, flags 2, first 4.
const bookLen = 24

func openBook(f *terminal.Flash) (*book, error) {
	b := &book{bank: terminal.OpenBank(f), page: page{}}
	if v := b.bank.Value(); v != nil {
		if len(v) != bookLen {
			return nil, errBook
		}
		b.page = page{bound: binary.BigEndian.Uint32(v), batch: binary.BigEndian.Uint32(v[4:]), phase: phase(v[8]), signedOn: v[9] != 0,
			shift: int64(binary.BigEndian.Uint64(v[10:])), flags: [2]byte(v[18:]), first: binary.BigEndian.Uint32(v[20:])}
		if b.bound > maxNumber || b.batch > maxNumber || b.phase > closed {
			return nil, errBook
		}
	}
	b.next = b.bound + 1
	return b, nil
}

// change writes the page as f leaves it.
func (b *book) change(f func(p *page)) error {
	p := b.page
	f(&p)
	if p == b.page {
		return nil
	}
	v := make([]byte, 0, bookLen)
	v = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(v, p.bound), p.batch)
	on := byte(0)
	if p.signedOn {
		on = 1
	}
	v = binary.BigEndian.AppendUint64(append(v, byte(p.phase), on), uint64(p.shift))
	v = binary.BigEndian.AppendUint32(append(v, p.flags[:]...), p.first)
	if err := b.bank.Put(b.bank.Version()+1, v); err != nil {
		return fmt.Errorf("unionpay: counters: %w", err)
	}
	b.page = p
	return nil
}

// block takes n trace numbers in a row, without an end among them.
func (b *book) block(n uint32) (first uint32, err error) {
	if b.next+n-1 > maxNumber {
		b.next = 1
	}
	first = b.next
	b.next += n
	return first, b.change(func(p *page) { p.bound = b.next - 1 })
}

// stan gives the next trace number; after 999999 comes 1.
func (b *book) stan() (uint32, error) {
	if b.next > maxNumber {
		b.next = 1
		if err := b.change(func(p *page) { p.bound = reserved }); err != nil {
			return 0, err
		}
	}
	if b.next > b.bound {
		if err := b.change(func(p *page) { p.bound = min(b.next+reserved-1, maxNumber) }); err != nil {
			return 0, err
		}
	}
	b.next++
	return b.next - 1, nil
}
