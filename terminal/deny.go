package terminal

import (
	"cmp"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"koala/spec/purse"
)

// MaxDenied bounds a device's deny list, in cards.
const MaxDenied = 100_000

// A DenyList is the cards a device refuses, brought up to date by signed
// deltas. It lives in a Bank, so a power failure while a delta is applied
// leaves the old list or the new one.
type DenyList struct {
	bank *Bank
	key  ed25519.PublicKey
	at   time.Time
	list []purse.Denial // in order of card
}

// OpenDenyList reads the list a flash holds; deltas must be signed by key.
func OpenDenyList(f *Flash, key ed25519.PublicKey) (*DenyList, error) {
	l := &DenyList{bank: OpenBank(f), key: key}
	if l.bank.Value() == nil {
		return l, nil
	}
	at, list, err := readDenied(l.bank.Value())
	if err != nil {
		return nil, fmt.Errorf("terminal: deny list: %w", err)
	}
	l.at, l.list = at, list
	return l, nil
}

// readDenied reads Unix seconds 8, then per card number 10 and reason 1.
func readDenied(b []byte) (at time.Time, list []purse.Denial, err error) {
	if len(b) < 8 || len(b[8:])%11 != 0 {
		return at, nil, purse.ErrLength
	}
	at = time.Unix(int64(binary.BigEndian.Uint64(b)), 0).UTC()
	for b = b[8:]; len(b) > 0; b = b[11:] {
		n, err := purse.NumberOf(b[:10])
		if err != nil {
			return at, nil, err
		}
		list = append(list, purse.Denial{Card: n, Reason: purse.DenyReason(b[10])})
	}
	return at, list, nil
}

func denied(at time.Time, list []purse.Denial) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+11*len(list)), uint64(at.Unix()))
	for _, d := range list {
		n := d.Card.Bytes()
		b = append(append(b, n[:]...), byte(d.Reason))
	}
	return b
}

// Apply checks a signed delta and brings the list up to it. A delta that
// leaves out versions is ErrGap, one that is not newer ErrOld; a whole list
// (from version 0) always fits when it is newer.
func (l *DenyList) Apply(pack []byte) error {
	d, err := purse.OpenDenyDelta(l.key, pack)
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	list := l.list
	switch {
	case d.To <= l.Version():
		return fmt.Errorf("deny list %d over %d: %w", d.To, l.Version(), ErrOld)
	case d.From == 0:
		list = nil
	case d.From != l.Version():
		return fmt.Errorf("deny list from %d over %d: %w", d.From, l.Version(), ErrGap)
	}
	list = merge(list, d.Changes)
	if len(list) > MaxDenied {
		return fmt.Errorf("deny list of %d cards: %w", len(list), ErrTooLarge)
	}
	if err := l.bank.Put(d.To, denied(d.At, list)); err != nil {
		return fmt.Errorf("deny list: %w", err)
	}
	l.at, l.list = d.At, list
	return nil
}

// merge puts changes, in order of card, over an ordered list.
func merge(list, changes []purse.Denial) []purse.Denial {
	out := make([]purse.Denial, 0, len(list)+len(changes))
	for len(list) > 0 || len(changes) > 0 {
		if len(changes) == 0 || len(list) > 0 && list[0].Card < changes[0].Card {
			out, list = append(out, list[0]), list[1:]
			continue
		}
		if len(list) > 0 && list[0].Card == changes[0].Card {
			list = list[1:]
		}
		if changes[0].Reason != purse.Allowed {
			out = append(out, changes[0])
		}
		changes = changes[1:]
	}
	return out
}

// Reason says why a card is refused; Allowed when it is not on the list.
func (l *DenyList) Reason(n purse.Number) purse.DenyReason {
	i, ok := slices.BinarySearchFunc(l.list, n, func(d purse.Denial, n purse.Number) int { return cmp.Compare(d.Card, n) })
	if !ok {
		return purse.Allowed
	}
	return l.list[i].Reason
}

// Version is the version of the list, 0 before the first.
func (l *DenyList) Version() uint32 { return l.bank.Version() }

// Size is the number of cards on the list.
func (l *DenyList) Size() int { return len(l.list) }

// MadeAt is when the host made the list's version; zero before the first.
func (l *DenyList) MadeAt() time.Time { return l.at }
