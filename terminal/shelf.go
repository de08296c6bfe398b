package terminal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// MaxDoubts bounds the acts a shelf keeps whose end is unknown: the card left
// while it was told to pay and has not come back.
const MaxDoubts = 64

// A Shelf keeps what a device has collected, as bytes, until it is released,
// in the order it came, whatever happens to the power. It is bounded by its
// flash: when it is full, Room says so before a card pays. Beside the items it
// keeps the intents of acts that are under way. What the bytes mean is the
// owner's: he names each by a key, by which an intent and its item belong
// together. Store is a shelf of purse debits.
type Shelf struct {
	j        journal
	next     uint32 // number of the next item
	released uint32 // all up to this number have been released
	items    []shelved
	kept     map[string]uint32 // key to number of the items on the shelf
	doubts   map[string]wondered
	key      func(wire []byte) (string, error)
	longest  int
}

// An Item has its place in the device's own row of numbers, 1, 2, 3, …:
// whoever collects sees gaps and repetitions.
type Item struct {
	Number uint32
	Wire   []byte
}

// An Unsettled is an intent whose end is not known, or known without proof:
// Paid says that the card's own log shows it as done.
type Unsettled struct {
	Wire []byte
	Paid bool
}

type shelved struct {
	Item
	key    string
	sector int
}

type wondered struct {
	Unsettled
	sector int
}

// Kinds of records in the journal.
const (
	kindIntent  = 1 // wire form of an item without its proof
	kindItem    = 2 // number 4 | wire form
	kindSettled = 3 // key: the intent came to nothing
	kindRelease = 4 // number 4
	kindPaid    = 5 // key: the card's log shows the intent as paid
)

// reserve is kept free for releases and settlements, bytes, so that a full
// shelf can still be emptied.
const reserve = 1024

// keySpace is what a record of a key alone takes at most, bytes.
const keySpace = 32

// OpenShelf reads what the flash holds, at least four sectors. key names a
// wire form and refuses what is none; no wire form is longer than longest.
func OpenShelf(f *Flash, longest int, key func(wire []byte) (string, error)) (*Shelf, error) {
	if len(f.sectors) < 4 {
		panic("terminal: a store needs four sectors")
	}
	s := &Shelf{next: 1, kept: map[string]uint32{}, doubts: map[string]wondered{}, key: key, longest: longest}
	s.j = journal{f: f, live: make([]int, len(f.sectors)), mark: func() uint32 { return s.next }, move: s.moveIntents}
	var broken error
	s.j.replay(func(mark uint32) { s.next = max(s.next, mark) }, func(sector int, kind byte, data []byte) {
		if err := s.replay(sector, kind, bytes.Clone(data)); err != nil && broken == nil {
			broken = err
		}
	})
	if broken != nil {
		return nil, fmt.Errorf("terminal: store: %w", broken)
	}
	if len(s.items) > 0 { // what is missing before the oldest was released
		s.released = max(s.released, s.items[0].Number-1)
	} else {
		s.released = s.next - 1
	}
	if err := s.j.start(); err != nil {
		return nil, fmt.Errorf("terminal: store: %w", err)
	}
	return s, nil
}

func (s *Shelf) replay(sector int, kind byte, data []byte) error {
	switch kind {
	case kindIntent:
		key, err := s.key(data)
		if err == nil {
			s.addDoubt(sector, key, Unsettled{Wire: data})
		}
		return err
	case kindItem:
		if len(data) < 4 {
			return ErrRecord
		}
		key, err := s.key(data[4:])
		if err == nil {
			s.addItem(sector, key, Item{binary.BigEndian.Uint32(data), data[4:]})
		}
		return err
	case kindSettled:
		s.dropDoubt(string(data))
	case kindPaid:
		if d, ok := s.doubts[string(data)]; ok {
			d.Paid = true
			s.doubts[string(data)] = d
		}
	case kindRelease:
		if len(data) != 4 {
			return ErrRecord
		}
		s.drop(binary.BigEndian.Uint32(data))
	}
	return nil
}

func (s *Shelf) addDoubt(sector int, key string, d Unsettled) {
	s.dropDoubt(key)
	s.doubts[key] = wondered{d, sector}
	s.j.live[sector]++
}

func (s *Shelf) dropDoubt(key string) {
	if old, ok := s.doubts[key]; ok {
		s.j.live[old.sector]--
		delete(s.doubts, key)
	}
}

func (s *Shelf) addItem(sector int, key string, i Item) {
	s.dropDoubt(key)
	s.items = append(s.items, shelved{i, key, sector})
	s.kept[key] = i.Number
	s.j.live[sector]++
	s.next = i.Number + 1
}

func (s *Shelf) drop(upto uint32) {
	for len(s.items) > 0 && s.items[0].Number <= upto {
		s.j.live[s.items[0].sector]--
		delete(s.kept, s.items[0].key)
		s.items = s.items[1:]
	}
	s.released = max(s.released, upto)
}

// moveIntents carries the intents of a sector to the newest one, so that one
// card that never came back does not hold a sector for ever. It stops where
// there is no room.
func (s *Shelf) moveIntents(sector int) error {
	if s.j.live[sector] != s.intentsIn(sector) {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(s.doubts)) {
		d := s.doubts[key]
		if d.sector != sector {
			continue
		}
		if s.j.pos+recordSpace(len(d.Wire))+recordSpace(len(key)) > SectorSize {
			return nil
		}
		to, err := s.j.append(kindIntent, d.Wire)
		if err == nil && d.Paid {
			_, err = s.j.append(kindPaid, []byte(key))
		}
		if err != nil {
			return err
		}
		s.addDoubt(to, key, d.Unsettled)
	}
	return nil
}

func (s *Shelf) intentsIn(sector int) (n int) {
	for _, d := range s.doubts {
		if d.sector == sector {
			n++
		}
	}
	return n
}

// Room says whether one more act finds its place: nil, ErrFull or ErrDoubts.
func (s *Shelf) Room() error {
	switch {
	case s.j.f.dead:
		return ErrPower
	case len(s.doubts) >= MaxDoubts:
		return ErrDoubts
	case !s.j.room(2*(s.longest+keySpace)+reserve, s.intentsIn):
		return ErrFull
	}
	return nil
}

// NoRoom tells that a shelf refused for want of room, not because its power failed.
func NoRoom(err error) bool { return errors.Is(err, ErrFull) || errors.Is(err, ErrDoubts) }

// Begin keeps the intent of an act before the card is told to pay.
func (s *Shelf) Begin(intent []byte) error {
	if err := s.Room(); err != nil {
		return err
	}
	key, err := s.named(intent)
	if err != nil {
		return fmt.Errorf("intent: %w", err)
	}
	sector, err := s.j.append(kindIntent, intent)
	if err != nil {
		return fmt.Errorf("intent: %w", err)
	}
	s.addDoubt(sector, key, Unsettled{Wire: bytes.Clone(intent)})
	return nil
}

func (s *Shelf) named(wire []byte) (string, error) {
	if len(wire) > s.longest {
		return "", fmt.Errorf("%d bytes: %w", len(wire), ErrRecord)
	}
	return s.key(wire)
}

// Keep stores an item and settles the intent it came of. An item with the
// same key again gets the number the first one has, and changes nothing.
func (s *Shelf) Keep(wire []byte) (number uint32, err error) {
	key, err := s.named(wire)
	if err != nil {
		return 0, fmt.Errorf("item: %w", err)
	}
	if n, ok := s.kept[key]; ok {
		return n, s.Settle(key)
	}
	n := s.next
	sector, err := s.j.append(kindItem, append(binary.BigEndian.AppendUint32(nil, n), wire...))
	if err != nil {
		return 0, fmt.Errorf("item %d: %w", n, err)
	}
	s.addItem(sector, key, Item{n, bytes.Clone(wire)})
	return n, nil
}

// Kept gives the number of the item with that key, if it is on the shelf.
func (s *Shelf) Kept(key string) (number uint32, ok bool) {
	number, ok = s.kept[key]
	return number, ok
}

// Unsettled lists the intents without a known end, in order of their keys.
func (s *Shelf) Unsettled() []Unsettled {
	out := make([]Unsettled, 0, len(s.doubts))
	for _, key := range slices.Sorted(maps.Keys(s.doubts)) {
		out = append(out, s.doubts[key].Unsettled)
	}
	return out
}

// Settle takes an intent back: it is known that it came to nothing, or the
// host has taken the case.
func (s *Shelf) Settle(key string) error {
	if _, ok := s.doubts[key]; !ok {
		return nil
	}
	if _, err := s.j.append(kindSettled, []byte(key)); err != nil {
		return fmt.Errorf("settle intent: %w", err)
	}
	s.dropDoubt(key)
	return nil
}

// Paid notes that the card's log shows the intent as paid although its proof
// is gone. The case is the host's: it stays unsettled until Settle.
func (s *Shelf) Paid(key string) error {
	d, ok := s.doubts[key]
	if !ok || d.Paid {
		return nil
	}
	if _, err := s.j.append(kindPaid, []byte(key)); err != nil {
		return fmt.Errorf("intent paid: %w", err)
	}
	d.Paid = true
	s.doubts[key] = d
	return nil
}

// Batch gives up to limit items, the oldest first. They stay until Release.
func (s *Shelf) Batch(limit int) []Item {
	out := make([]Item, 0, min(limit, len(s.items)))
	for _, k := range s.items[:min(limit, len(s.items))] {
		out = append(out, k.Item)
	}
	return out
}

// ReadBatch is Batch by what the items mean, and the number of the first; when
// there is none, the number the next item will get.
func ReadBatch[T any](s *Shelf, limit int, parse func(wire []byte) (T, error)) (first uint32, list []T, err error) {
	first = s.Next()
	for i, item := range s.Batch(limit) {
		x, err := parse(item.Wire)
		if err != nil {
			return first, list, fmt.Errorf("item %d: %w", item.Number, err)
		}
		if i == 0 {
			first = item.Number
		}
		list = append(list, x)
	}
	return first, list, nil
}

// ReadUnsettled is Unsettled by what the intents mean.
func ReadUnsettled[T any](s *Shelf, parse func(wire []byte) (T, error)) (list []T, err error) {
	for _, u := range s.Unsettled() {
		x, err := parse(u.Wire)
		if err != nil {
			return nil, fmt.Errorf("intent: %w", err)
		}
		list = append(list, x)
	}
	return list, nil
}

// Release forgets the items up to and including number upto: the host has
// them. Releasing again what is released changes nothing.
func (s *Shelf) Release(upto uint32) error {
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

// Waiting is the number of items not released yet.
func (s *Shelf) Waiting() int { return len(s.items) }

// Next is the number the next item will get.
func (s *Shelf) Next() uint32 { return s.next }
