package unionpay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"koala/spec/pboc"
	"koala/terminal"
	"koala/terminal/kernel"
)

// ErrEntry says that a record is none of the journal's.
var ErrEntry = errors.New("unionpay: not a record of the journal")

// A State says how far a transaction has come.
type State byte

// The states. The first three are intents: something is still to be done.
const (
	Asked   State = iota + 1 // the host is about to be asked, or was: without more it is to be reversed
	Undoing                  // to be reversed for a known reason
	Open                     // repeated until the host answers
	Unsure                   // a load whose card left: its next presentation tells
	Due                      // done here, the host is still to be told
	Done                     // approved
	states
)

// fieldMax bounds the values of an entry, bytes by field: what a transaction
// carries that must outlive it. No track, no PIN. Field 34 is never sent: it is
// the masked number of a card that only a reader has seen.
var fieldMax = map[byte]int{
	2: 19, 4: 12, 12: 6, 13: 4, 14: 4, 15: 4, 22: 3, 23: 3, 32: 11, 34: 19, 37: 12, 38: 6, 39: 2, 44: 25, 48: 64, 49: 3, 54: 40, 55: 300, 61: 29, 62: 200, 63: 63,
}

// An Entry is one transaction of the journal. Get gives the fields it was made
// of; Original is the field 61 that names another one.
type Entry struct {
	Kind   Kind
	State  State
	Tries  byte   // reversals sent without an answer
	Reason string // of the reversal, two characters: 98 no answer, 06 failed here, A0 wrong MAC
	CVM    kernel.CVM
	Batch  uint32 // 1 to 999999
	STAN   uint32 // 1 to 999999
	Till   uint32 // number of the chip record it came of, 0 when there is none

	fields [65][]byte // by field number
}

// Get is a field of the transaction as text, empty when it has none.
func (e *Entry) Get(n int) string { return string(e.fields[n]) }

func (e *Entry) set(n int, v string) {
	if e.fields[n] = nil; v != "" {
		e.fields[n] = []byte(v)
	}
}

// Fen is the amount, minor units.
func (e *Entry) Fen() uint64 {
	n, _ := strconv.ParseUint(e.Get(4), 10, 64) // digits: see ParseEntry
	return n
}

// Card is the card's number, masked.
func (e *Entry) Card() string {
	if masked := e.Get(34); masked != "" {
		return masked
	}
	return pboc.MaskPAN(e.Get(2))
}

// Tail says whether the card's number ends like that; at least four digits.
func (e *Entry) Tail(digits string) bool {
	pan := e.Card()
	return len(digits) >= 4 && len(pan) >= len(digits) && pan[len(pan)-len(digits):] == digits
}

// Name is batch and trace: the natural key together with the terminal.
func (e *Entry) Name() string { return fmt.Sprintf("%06d/%06d", e.Batch, e.STAN) }

// String names the transaction without showing the card.
func (e *Entry) String() string {
	return fmt.Sprintf("%s %s %d fen, card %s, state %d", e.Name(), e.Kind, e.Fen(), e.Card(), e.State)
}

// GoString is String: no form of printing shows the card.
func (e *Entry) GoString() string { return e.String() }

func (e *Entry) copy() *Entry {
	c := *e
	return &c
}

// entryHead: mark 1 | kind 1 | state 1 | tries 1 | reason 2 | CVM 1 | batch 4 |
// STAN 4 | till 4. Behind it fields in ascending order: number 1 | length 2 |
// value.
const entryHead = 19

// markEntry begins an entry among the records of the journal.
const markEntry = 'E'

// MarshalBinary writes the entry.
func (e *Entry) MarshalBinary() ([]byte, error) {
	reason := [2]byte{}
	copy(reason[:], e.Reason)
	out := append(make([]byte, 0, 256), markEntry, byte(e.Kind), byte(e.State), e.Tries, reason[0], reason[1], byte(e.CVM))
	for _, n := range []uint32{e.Batch, e.STAN, e.Till} {
		out = binary.BigEndian.AppendUint32(out, n)
	}
	for n, v := range e.fields {
		if v == nil {
			continue
		}
		if limit, ok := fieldMax[byte(n)]; !ok || len(v) > limit {
			return nil, fmt.Errorf("field %d of %d bytes: %w", n, len(v), ErrEntry)
		}
		out = binary.BigEndian.AppendUint16(append(out, byte(n)), uint16(len(v)))
		out = append(out, v...)
	}
	if _, err := ParseEntry(out); err != nil {
		return nil, err
	}
	return out, nil
}

// ParseEntry reads what MarshalBinary writes, and nothing else.
func ParseEntry(in []byte) (*Entry, error) {
	if len(in) < entryHead || in[0] != markEntry {
		return nil, ErrEntry
	}
	e := &Entry{Kind: Kind(in[1]), State: State(in[2]), Tries: in[3], CVM: kernel.CVM(in[6]),
		Batch: binary.BigEndian.Uint32(in[7:]), STAN: binary.BigEndian.Uint32(in[11:]), Till: binary.BigEndian.Uint32(in[15:])}
	if in[4] != 0 || in[5] != 0 {
		e.Reason = string(in[4:6])
	}
	if e.Kind == NoKind || e.Kind >= kinds || e.State == 0 || e.State >= states || e.Batch == 0 || e.Batch > maxNumber || e.STAN == 0 || e.STAN > maxNumber {
		return nil, ErrEntry
	}
	last := byte(0)
	for in = in[entryHead:]; len(in) > 0; {
		if len(in) < 3 {
			return nil, ErrEntry
		}
		n, size := in[0], int(binary.BigEndian.Uint16(in[1:]))
		limit, ok := fieldMax[n]
		if !ok || n <= last || size == 0 || size > limit || len(in)-3 < size {
			return nil, ErrEntry
		}
		e.fields[n], last = append([]byte(nil), in[3:3+size]...), n
		in = in[3+size:]
	}
	if !digits(e.Get(2)) || !digits(e.Get(4)) || !digits(e.Get(61)) {
		return nil, ErrEntry
	}
	return e, nil
}

// Key names the entry in the journal: mark 1 | batch 4 | STAN 4.
func (e *Entry) key() string { return noteKey(markEntry, e.Batch, e.STAN, -1) }

// A note is what becomes of an entry later; the entry itself stays as it is.
type note struct {
	mark  byte
	batch uint32
	stan  uint32
	piece int // of a signature, -1 for the others
	data  []byte
}

// Marks of notes, and what their data are.
const (
	markTold      = 'T' // the host was told: its response code
	markScript    = 'N' // the host was told what the script came to
	markPiece     = 'S' // piece of a signature: number 1, bytes
	markSigned    = 'H' // the signature is whole: its SHA-256
	markSignature = 'U' // the host has the signature
)

// noteLimits bound the data of notes.
var noteLimits = map[byte]int{markTold: 2, markScript: 0, markPiece: pieceLen, markSigned: 32, markSignature: 0}

func noteKey(mark byte, batch, stan uint32, piece int) string {
	k := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte{mark}, batch), stan)
	if mark == markPiece {
		k = append(k, byte(piece))
	}
	return string(k)
}

// bytes writes a note: its key, then its data.
func (n note) bytes() []byte {
	return append([]byte(noteKey(n.mark, n.batch, n.stan, n.piece)), n.data...)
}

func parseNote(in []byte) (note, error) {
	if len(in) < 9 {
		return note{}, ErrEntry
	}
	limit, ok := noteLimits[in[0]]
	n := note{mark: in[0], batch: binary.BigEndian.Uint32(in[1:]), stan: binary.BigEndian.Uint32(in[5:]), piece: -1}
	if in = in[9:]; n.mark == markPiece && len(in) > 0 {
		n.piece, in = int(in[0]), in[1:]
	}
	if !ok || len(in) > limit || n.mark == markPiece && n.piece < 0 {
		return note{}, ErrEntry
	}
	n.data = append([]byte(nil), in...)
	return n, nil
}

// recordKey names any record of the journal, for the shelf below it.
func recordKey(wire []byte) (string, error) {
	if len(wire) > 0 && wire[0] == markEntry {
		e, err := ParseEntry(wire)
		if err != nil {
			return "", err
		}
		return e.key(), nil
	}
	n, err := parseNote(wire)
	if err != nil {
		return "", err
	}
	return noteKey(n.mark, n.batch, n.stan, n.piece), nil
}

// stateWords are for receipts and lists.
var stateWords = [states]terminal.Words{
	Asked: {"waiting for its reversal", "待冲正"}, Undoing: {"waiting for its reversal", "待冲正"}, Open: {"waiting for the host", "待重发"},
	Unsure: {"load not confirmed", "充值待确认"}, Due: {"to be sent", "待上送"}, Done: {"approved", "交易成功"},
}

// Words says the state, in Chinese if zh.
func (s State) Words(zh bool) string {
	if s >= states {
		s = 0
	}
	return stateWords[s].In(zh)
}
