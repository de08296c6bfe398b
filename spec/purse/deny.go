package purse

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Limits of one deny list delta.
const (
	MaxDenyDelta = 20_000 // cards in one delta, added and removed together
	denyHead     = 24
	denyCard     = 11
)

// What can be wrong with a deny list delta.
var (
	ErrDeny      = errors.New("purse: bad deny list delta")
	ErrSignature = errors.New("purse: signature does not match")
)

// DenyReason says why a card is refused.
type DenyReason byte

// Reasons. The zero reason takes a card off the list.
const (
	Allowed    DenyReason = 0x00
	DenyLost   DenyReason = 0x01 // reported lost or stolen
	DenyForged DenyReason = 0x02 // a TAC of it did not verify, or its sequence forked
	DenyDebt   DenyReason = 0x03 // owes a fare
	DenyClosed DenyReason = 0x04 // account closed
)

// Words names the reason, in Chinese if zh.
func (r DenyReason) Words(zh bool) string {
	names := map[DenyReason][2]string{
		Allowed: {"allowed", "正常"}, DenyLost: {"reported lost", "已挂失"}, DenyForged: {"forged or copied", "伪卡"},
		DenyDebt: {"owes a fare", "欠费"}, DenyClosed: {"account closed", "已销户"},
	}
	w, ok := names[r]
	switch {
	case !ok:
		return fmt.Sprintf("%02X", byte(r))
	case zh:
		return w[1]
	default:
		return w[0]
	}
}

// A Denial is one change of the deny list.
type Denial struct {
	Card   Number
	Reason DenyReason // Allowed: take the card off
}

// A DenyDelta turns version From of a deny list into version To. From 0 is a
// whole list: it replaces whatever was there.
type DenyDelta struct {
	From, To uint32
	At       time.Time // when the host made it, to the second, UTC
	Changes  []Denial  // in rising order of card, each card once
}

var denyMagic = [4]byte{'K', 'D', 'L', 0x01}

// Bytes is the text that is signed: magic 4, versions 4 and 4, Unix seconds 8,
// number of changes 4, then per change card 10 and reason 1. Changes are put
// in order; a card named twice or a number out of range is an error.
func (d DenyDelta) Bytes() ([]byte, error) {
	if d.To <= d.From || len(d.Changes) > MaxDenyDelta {
		return nil, fmt.Errorf("%w: version %d to %d with %d changes", ErrDeny, d.From, d.To, len(d.Changes))
	}
	changes := slices.SortedFunc(slices.Values(d.Changes), func(a, b Denial) int { return cmp.Compare(a.Card, b.Card) })
	b := append(make([]byte, 0, denyHead+denyCard*len(changes)+ed25519.SignatureSize), denyMagic[:]...)
	b = binary.BigEndian.AppendUint32(b, d.From)
	b = binary.BigEndian.AppendUint32(b, d.To)
	b = binary.BigEndian.AppendUint64(b, uint64(d.At.Unix()))
	b = binary.BigEndian.AppendUint32(b, uint32(len(changes)))
	for i, c := range changes {
		n, err := ParseNumber(string(c.Card))
		if err != nil {
			return nil, fmt.Errorf("deny list: %w", err)
		}
		if i > 0 && changes[i-1].Card == c.Card {
			return nil, fmt.Errorf("%w: a card twice", ErrDeny)
		}
		bcd := n.Bytes()
		b = append(append(b, bcd[:]...), byte(c.Reason))
	}
	return b, nil
}

// ParseDenyDelta reads the signed text, without the signature.
func ParseDenyDelta(b []byte) (DenyDelta, error) {
	if len(b) < denyHead || !bytes.Equal(b[:4], denyMagic[:]) {
		return DenyDelta{}, fmt.Errorf("%w: %d bytes", ErrDeny, len(b))
	}
	d := DenyDelta{From: binary.BigEndian.Uint32(b[4:]), To: binary.BigEndian.Uint32(b[8:])}
	d.At = time.Unix(int64(binary.BigEndian.Uint64(b[12:])), 0).UTC()
	n := binary.BigEndian.Uint32(b[20:])
	if n > MaxDenyDelta || len(b) != denyHead+denyCard*int(n) || d.To <= d.From {
		return DenyDelta{}, fmt.Errorf("%w: %d changes in %d bytes, version %d to %d", ErrDeny, n, len(b), d.From, d.To)
	}
	for b = b[denyHead:]; len(b) > 0; b = b[denyCard:] {
		card, err := NumberOf(b[:10])
		if err != nil {
			return DenyDelta{}, fmt.Errorf("deny list: %w", err)
		}
		if k := len(d.Changes); k > 0 && d.Changes[k-1].Card >= card {
			return DenyDelta{}, fmt.Errorf("%w: cards out of order", ErrDeny)
		}
		d.Changes = append(d.Changes, Denial{card, DenyReason(b[10])})
	}
	return d, nil
}

// OpenDenyDelta reads a pack: the signed text followed by its Ed25519
// signature of 64 bytes. Nothing of a pack that key did not sign is used.
func OpenDenyDelta(key ed25519.PublicKey, pack []byte) (DenyDelta, error) {
	n := len(pack) - ed25519.SignatureSize
	if len(key) != ed25519.PublicKeySize || n < 0 || !ed25519.Verify(key, pack[:n], pack[n:]) {
		return DenyDelta{}, fmt.Errorf("deny list delta: %w", ErrSignature)
	}
	return ParseDenyDelta(pack[:n])
}
