package terminal

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"koala/spec/purse"
)

// MaxDoubts bounds the taps a store keeps whose end is unknown: the card left
// while it was told to pay and has not come back.
const MaxDoubts = 64

// A Stored is a debit with its place in the terminal's own row of numbers,
// 1, 2, 3, …: whoever collects sees gaps and repetitions.
type Stored struct {
	Number uint32
	Debit  purse.Debit
}

// A Store keeps collected debits until they are released, in the order they
// were made, whatever happens to the power. It is bounded by its flash: when
// it is full, Room says so before a card pays. Beside the debits it keeps the
// intents of taps that are under way.
type Store struct {
	j        journal
	next     uint32 // number of the next debit
	released uint32 // all up to this number have been released
	debits   []kept // unreleased, in order
	doubts   map[tapID]doubt
}

// A tapID names one purchase of one card.
type tapID struct {
	card purse.Number
	seq  uint16
}

// A Doubt is a tap whose end the terminal does not know, or knows without a
// TAC: Paid says that the card's own log shows the payment.
type Doubt struct {
	Intent purse.Debit // as the debit would be; its TAC means nothing
	Paid   bool
}

type kept struct {
	Stored
	sector int
}

type doubt struct {
	Doubt
	sector int
}

// Kinds of records in the journal.
const (
	kindIntent  = 1 // wire form of a debit without TAC
	kindDebit   = 2 // number 4 | wire form
	kindSettled = 3 // card 10 | sequence 2: the intent came to nothing
	kindRelease = 4 // number 4
	kindPaid    = 5 // card 10 | sequence 2: the card's log shows the intent as paid
)

// reserve is kept free for releases and settlements, bytes, so that a full
// store can still be emptied.
const reserve = 1024

// tapSpace is what one tap writes at most, bytes.
const tapSpace = 2 * (purse.MaxDebitLen + 32)

// OpenStore reads what the flash holds. The flash needs at least four sectors.
func OpenStore(f *Flash) (*Store, error) {
	if len(f.sectors) < 4 {
		panic("terminal: a store needs four sectors")
	}
	s := &Store{next: 1, doubts: map[tapID]doubt{}}
	s.j = journal{f: f, live: make([]int, len(f.sectors)), mark: func() uint32 { return s.next }, move: s.moveIntents}
	var broken error
	s.j.replay(func(mark uint32) { s.next = max(s.next, mark) }, func(sector int, kind byte, data []byte) {
		if err := s.replay(sector, kind, data); err != nil && broken == nil {
			broken = err
		}
	})
	if broken != nil {
		return nil, fmt.Errorf("terminal: store: %w", broken)
	}
	if len(s.debits) > 0 { // what is missing before the oldest was released
		s.released = max(s.released, s.debits[0].Number-1)
	} else {
		s.released = s.next - 1
	}
	if err := s.j.start(); err != nil {
		return nil, fmt.Errorf("terminal: store: %w", err)
	}
	return s, nil
}

func (s *Store) replay(sector int, kind byte, data []byte) error {
	switch kind {
	case kindIntent:
		d, err := purse.ParseDebit(data)
		if err == nil {
			s.addDoubt(sector, Doubt{Intent: d})
		}
		return err
	case kindDebit:
		if len(data) < 4 {
			return purse.ErrLength
		}
		d, err := purse.ParseDebit(data[4:])
		if err == nil {
			s.addDebit(sector, Stored{binary.BigEndian.Uint32(data), d})
		}
		return err
	case kindSettled, kindPaid:
		id, err := readTapID(data)
		if err != nil {
			return err
		}
		if kind == kindSettled {
			s.dropDoubt(id)
		} else if d, ok := s.doubts[id]; ok {
			d.Paid = true
			s.doubts[id] = d
		}
	case kindRelease:
		if len(data) != 4 {
			return purse.ErrLength
		}
		s.drop(binary.BigEndian.Uint32(data))
	}
	return nil
}

func (id tapID) bytes() []byte {
	bcd := id.card.Bytes()
	return binary.BigEndian.AppendUint16(bcd[:], id.seq)
}

func readTapID(b []byte) (tapID, error) {
	if len(b) != 12 {
		return tapID{}, purse.ErrLength
	}
	n, err := purse.NumberOf(b[:10])
	return tapID{n, binary.BigEndian.Uint16(b[10:])}, err
}

func (s *Store) addDoubt(sector int, d Doubt) {
	id := tapID{d.Intent.Card, d.Intent.Seq}
	s.dropDoubt(id)
	s.doubts[id] = doubt{d, sector}
	s.j.live[sector]++
}

func (s *Store) dropDoubt(id tapID) {
	if old, ok := s.doubts[id]; ok {
		s.j.live[old.sector]--
		delete(s.doubts, id)
	}
}

func (s *Store) addDebit(sector int, d Stored) {
	s.dropDoubt(tapID{d.Debit.Card, d.Debit.Seq})
	s.debits = append(s.debits, kept{d, sector})
	s.j.live[sector]++
	s.next = d.Number + 1
}

func (s *Store) drop(upto uint32) {
	for len(s.debits) > 0 && s.debits[0].Number <= upto {
		s.j.live[s.debits[0].sector]--
		s.debits = s.debits[1:]
	}
	s.released = max(s.released, upto)
}

// moveIntents carries the intents of a sector to the newest one, so that one
// card that never came back does not hold a sector for ever. It stops where
// there is no room.
func (s *Store) moveIntents(sector int) error {
	if s.j.live[sector] != s.intentsIn(sector) {
		return nil
	}
	for _, d := range s.Doubts() {
		id := tapID{d.Intent.Card, d.Intent.Seq}
		if s.doubts[id].sector != sector {
			continue
		}
		wire, err := d.Intent.MarshalBinary()
		if err != nil {
			return err
		}
		if s.j.pos+recordSpace(len(wire))+recordSpace(12) > SectorSize {
			return nil
		}
		to, err := s.j.append(kindIntent, wire)
		if err == nil && d.Paid {
			_, err = s.j.append(kindPaid, id.bytes())
		}
		if err != nil {
			return err
		}
		s.addDoubt(to, d)
	}
	return nil
}

func (s *Store) intentsIn(sector int) (n int) {
	for _, d := range s.doubts {
		if d.sector == sector {
			n++
		}
	}
	return n
}

// Room says whether one more tap finds its place: nil, ErrFull or ErrDoubts.
func (s *Store) Room() error {
	switch {
	case s.j.f.dead:
		return ErrPower
	case len(s.doubts) >= MaxDoubts:
		return ErrDoubts
	case !s.j.room(tapSpace+reserve, s.intentsIn):
		return ErrFull
	}
	return nil
}

// Begin keeps the intent of a purchase before the card is told to pay: what
// the debit will be if the card does. The TAC in it means nothing.
func (s *Store) Begin(intent purse.Debit) error {
	if err := s.Room(); err != nil {
		return err
	}
	intent.TAC = [4]byte{}
	wire, err := intent.MarshalBinary()
	if err != nil {
		return fmt.Errorf("intent: %w", err)
	}
	sector, err := s.j.append(kindIntent, wire)
	if err != nil {
		return fmt.Errorf("intent: %w", err)
	}
	s.addDoubt(sector, Doubt{Intent: intent})
	return nil
}

// Keep stores a debit and settles the intent it came of. The same card and
// sequence again give the number it already has.
func (s *Store) Keep(d purse.Debit) (Stored, error) {
	for _, k := range s.debits {
		if k.Debit.Card == d.Card && k.Debit.Seq == d.Seq {
			return k.Stored, nil
		}
	}
	wire, err := d.AppendBinary(binary.BigEndian.AppendUint32(nil, s.next))
	if err != nil {
		return Stored{}, fmt.Errorf("debit: %w", err)
	}
	sector, err := s.j.append(kindDebit, wire)
	if err != nil {
		return Stored{}, fmt.Errorf("debit %d: %w", s.next, err)
	}
	k := Stored{s.next, d}
	s.addDebit(sector, k)
	return k, nil
}

// Doubt is the tap of a card whose end is not known at all, the newest if
// there are several.
func (s *Store) Doubt(n purse.Number) (intent purse.Debit, ok bool) {
	for id, d := range s.doubts {
		if id.card == n && !d.Paid && (!ok || id.seq > intent.Seq) {
			intent, ok = d.Intent, true
		}
	}
	return intent, ok
}

// Doubts lists all doubts for the host: from the sequences of the card's other
// debits it can tell whether the card paid. In order of card and sequence.
func (s *Store) Doubts() []Doubt {
	out := make([]Doubt, 0, len(s.doubts))
	for _, d := range s.doubts {
		out = append(out, d.Doubt)
	}
	slices.SortFunc(out, func(a, b Doubt) int {
		return cmp.Or(cmp.Compare(a.Intent.Card, b.Intent.Card), cmp.Compare(a.Intent.Seq, b.Intent.Seq))
	})
	return out
}

// Settle takes an intent back: it is known that it came to nothing, or the
// host has taken the case.
func (s *Store) Settle(n purse.Number, seq uint16) error {
	id := tapID{n, seq}
	if _, ok := s.doubts[id]; !ok {
		return nil
	}
	if _, err := s.j.append(kindSettled, id.bytes()); err != nil {
		return fmt.Errorf("settle intent %d: %w", seq, err)
	}
	s.dropDoubt(id)
	return nil
}

// Paid notes that the card's log shows the intent as paid although its TAC is
// gone. The case is the host's: it stays among the doubts until Settle.
func (s *Store) Paid(n purse.Number, seq uint16) error {
	id := tapID{n, seq}
	d, ok := s.doubts[id]
	if !ok || d.Paid {
		return nil
	}
	if _, err := s.j.append(kindPaid, id.bytes()); err != nil {
		return fmt.Errorf("intent %d paid: %w", seq, err)
	}
	d.Paid = true
	s.doubts[id] = d
	return nil
}

// Batch gives up to limit debits, the oldest first. They stay until Release.
func (s *Store) Batch(limit int) []Stored {
	out := make([]Stored, 0, min(limit, len(s.debits)))
	for _, k := range s.debits[:min(limit, len(s.debits))] {
		out = append(out, k.Stored)
	}
	return out
}

// Release forgets the debits up to and including number upto: the host has
// them. Releasing again what is released changes nothing.
func (s *Store) Release(upto uint32) error {
	switch {
	case upto >= s.next:
		return fmt.Errorf("release %d of %d: %w", upto, s.next-1, ErrRelease)
	case upto <= s.released:
		return nil
	}
	if _, err := s.j.append(kindRelease, binary.BigEndian.AppendUint32(nil, upto)); err != nil {
		return fmt.Errorf("release %d: %w", upto, err)
	}
	s.drop(upto)
	if err := s.j.ready(); err != nil {
		return fmt.Errorf("release %d: %w", upto, err)
	}
	return nil
}

// Waiting is the number of debits not released yet.
func (s *Store) Waiting() int { return len(s.debits) }

// Next is the number the next debit will get.
func (s *Store) Next() uint32 { return s.next }

// Batch is the oldest debits as a terminal hands them over.
func (c *Collector) Batch(limit int) purse.Batch {
	b := purse.Batch{Terminal: c.Terminal, First: c.Store.Next()}
	for i, s := range c.Store.Batch(min(limit, purse.MaxBatch)) {
		if i == 0 {
			b.First = s.Number
		}
		b.Debits = append(b.Debits, s.Debit)
	}
	return b
}
