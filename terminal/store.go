package terminal

import (
	"encoding/binary"
	"fmt"

	"koala/spec/purse"
)

// A Stored is a debit with its place in the terminal's own row of numbers,
// 1, 2, 3, …: whoever collects sees gaps and repetitions.
type Stored struct {
	Number uint32
	Debit  purse.Debit
}

// A Store is a Shelf of purse debits, named by card and sequence. Beside the
// debits it keeps the intents of taps that are under way.
type Store struct{ shelf *Shelf }

// A Doubt is a tap whose end the terminal does not know, or knows without a
// TAC: Paid says that the card's own log shows the payment.
type Doubt struct {
	Intent purse.Debit // as the debit would be; its TAC means nothing
	Paid   bool
}

// OpenStore reads what the flash holds. The flash needs at least four sectors.
func OpenStore(f *Flash) (*Store, error) {
	shelf, err := OpenShelf(f, purse.MaxDebitLen, func(wire []byte) (string, error) {
		d, err := purse.ParseDebit(wire)
		if err != nil {
			return "", err
		}
		return tapKey(d.Card, d.Seq), nil
	})
	if err != nil {
		return nil, err
	}
	return &Store{shelf}, nil
}

// tapKey names one purchase of one card: card 10 | sequence 2.
func tapKey(n purse.Number, seq uint16) string {
	bcd := n.Bytes()
	return string(binary.BigEndian.AppendUint16(bcd[:], seq))
}

// parsed reads a debit that the shelf took before.
func parsed(wire []byte) purse.Debit {
	d, err := purse.ParseDebit(wire)
	if err != nil {
		panic(fmt.Errorf("terminal: store: %w", err))
	}
	return d
}

// Room says whether one more tap finds its place: nil, ErrFull or ErrDoubts.
func (s *Store) Room() error { return s.shelf.Room() }

// Begin keeps the intent of a purchase before the card is told to pay: what
// the debit will be if the card does. The TAC in it means nothing.
func (s *Store) Begin(intent purse.Debit) error {
	intent.TAC = [4]byte{}
	wire, err := intent.MarshalBinary()
	if err != nil {
		return fmt.Errorf("intent: %w", err)
	}
	return s.shelf.Begin(wire)
}

// Keep stores a debit and settles the intent it came of. The same card and
// sequence again give the number it already has.
func (s *Store) Keep(d purse.Debit) (Stored, error) {
	wire, err := d.MarshalBinary()
	if err != nil {
		return Stored{}, fmt.Errorf("debit: %w", err)
	}
	n, err := s.shelf.Keep(wire)
	if err != nil {
		return Stored{}, err
	}
	return Stored{n, d}, nil
}

// Doubt is the tap of a card whose end is not known at all, the newest if
// there are several.
func (s *Store) Doubt(n purse.Number) (intent purse.Debit, ok bool) {
	for _, d := range s.Doubts() {
		if d.Intent.Card == n && !d.Paid {
			intent, ok = d.Intent, true // they come in order of sequence
		}
	}
	return intent, ok
}

// Doubts lists all doubts for the host: from the sequences of the card's other
// debits it can tell whether the card paid. In order of card and sequence.
func (s *Store) Doubts() []Doubt {
	all := s.shelf.Unsettled()
	out := make([]Doubt, 0, len(all))
	for _, u := range all {
		out = append(out, Doubt{parsed(u.Wire), u.Paid})
	}
	return out
}

// Settle takes an intent back: it is known that it came to nothing, or the
// host has taken the case.
func (s *Store) Settle(n purse.Number, seq uint16) error { return s.shelf.Settle(tapKey(n, seq)) }

// Paid notes that the card's log shows the intent as paid although its TAC is
// gone. The case is the host's: it stays among the doubts until Settle.
func (s *Store) Paid(n purse.Number, seq uint16) error { return s.shelf.Paid(tapKey(n, seq)) }

// Batch gives up to limit debits, the oldest first. They stay until Release.
func (s *Store) Batch(limit int) []Stored {
	items := s.shelf.Batch(limit)
	out := make([]Stored, 0, len(items))
	for _, i := range items {
		out = append(out, Stored{i.Number, parsed(i.Wire)})
	}
	return out
}

// Release forgets the debits up to and including number upto: the host has
// them. Releasing again what is released changes nothing.
func (s *Store) Release(upto uint32) error { return s.shelf.Release(upto) }

// Waiting is the number of debits not released yet.
func (s *Store) Waiting() int { return s.shelf.Waiting() }

// Next is the number the next debit will get.
func (s *Store) Next() uint32 { return s.shelf.Next() }

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
