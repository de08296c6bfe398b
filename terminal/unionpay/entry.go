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

// A Kind is what a transaction is, for the terminal's menu. What it is on the
// wire is one row of a table.
type Kind byte

// The kinds.
const (
	NoKind Kind = iota
	Balance
	Sale
	SaleVoid
	Refund
	PreAuth
	PreAuthCancel
	Completion
	CompletionCancel
	CompletionAdvice
	OfflineSale
	Adjust
	Tip
	Instalment
	InstalmentVoid
	Points
	PointsVoid
	PhoneSale
	PhoneVoid
	Reservation
	ReservationCancel
	TapSale
	Load
	LoadOther
	LoadCash
	LoadCashUndo
	CashRefund
	kinds
)

// A flow is how a kind travels.
type flow byte

const (
	query  flow = iota // nothing is kept: no answer, no harm
	ask                // the host decides; without an answer it is reversed
	advise             // decided already or not to be reversed: repeated with the same trace until it is answered
)

// A side is what an approved transaction is to the batch's totals.
type side byte

const (
	neither  side = iota
	debit         // the shop gets money
	credit        // the shop gives money
	replaces      // the original counts with this amount
)

// A row is a kind on the wire.
type row struct {
	mti, process, condition, code string // F0, F3, F25, F60.1
	flow                          flow
	side                          side
	pin                           bool   // the cardholder is asked for the PIN
	of                            []Kind // what it takes back, uses up or changes; nil: nothing
	words                         terminal.Words
}

// table is section 6 of docs/terminal-protocol.md.
var table = [kinds]row{
	Balance:           {"0200", "310000", "00", "01", query, neither, true, nil, terminal.Words{"balance", "余额查询"}},
	Sale:              {"0200", "000000", "00", "22", ask, debit, true, nil, terminal.Words{"sale", "消费"}},
	SaleVoid:          {"0200", "200000", "00", "23", ask, credit, false, []Kind{Sale}, terminal.Words{"void", "消费撤销"}},
	Refund:            {"0220", "200000", "00", "25", advise, credit, false, nil, terminal.Words{"refund", "退货"}},
	PreAuth:           {"0100", "030000", "06", "10", ask, neither, true, nil, terminal.Words{"pre-authorisation", "预授权"}},
	PreAuthCancel:     {"0100", "200000", "06", "11", ask, neither, false, []Kind{PreAuth}, terminal.Words{"pre-authorisation cancel", "预授权撤销"}},
	Completion:        {"0200", "000000", "06", "20", ask, debit, false, []Kind{PreAuth}, terminal.Words{"completion", "预授权完成"}},
	CompletionCancel:  {"0200", "200000", "06", "21", ask, credit, false, []Kind{Completion}, terminal.Words{"completion cancel", "预授权完成撤销"}},
	CompletionAdvice:  {"0220", "000000", "06", "24", advise, debit, false, []Kind{PreAuth}, terminal.Words{"completion advice", "预授权完成通知"}},
	OfflineSale:       {"0220", "000000", "00", "30", advise, debit, false, nil, terminal.Words{"offline sale", "离线消费"}},
	Adjust:            {"0220", "000000", "00", "32", advise, replaces, false, []Kind{OfflineSale}, terminal.Words{"adjustment", "结算调整"}},
	Tip:               {"0220", "000000", "00", "34", advise, replaces, false, []Kind{Sale, OfflineSale}, terminal.Words{"tip", "小费"}},
	Instalment:        {"0200", "000000", "64", "22", ask, debit, true, nil, terminal.Words{"instalment sale", "分期消费"}},
	InstalmentVoid:    {"0200", "200000", "64", "23", ask, credit, false, []Kind{Instalment}, terminal.Words{"instalment void", "分期消费撤销"}},
	Points:            {"0200", "000000", "65", "22", ask, debit, true, nil, terminal.Words{"points sale", "积分消费"}},
	PointsVoid:        {"0200", "200000", "65", "23", ask, credit, false, []Kind{Points}, terminal.Words{"points void", "积分消费撤销"}},
	PhoneSale:         {"0200", "000000", "08", "22", ask, debit, false, nil, terminal.Words{"phone order", "电话订购"}},
	PhoneVoid:         {"0200", "200000", "18", "23", ask, credit, false, []Kind{PhoneSale}, terminal.Words{"phone order void", "电话订购撤销"}},
	Reservation:       {"0200", "000000", "67", "54", ask, debit, false, nil, terminal.Words{"reservation", "预约消费"}},
	ReservationCancel: {"0200", "200000", "67", "53", ask, credit, false, []Kind{Reservation}, terminal.Words{"reservation cancel", "预约消费撤销"}},
	TapSale:           {"0200", "000000", "00", "36", advise, debit, false, nil, terminal.Words{"e-cash sale", "电子现金消费"}},
	Load:              {"0200", "600000", "91", "45", ask, neither, true, nil, terminal.Words{"e-cash load", "指定账户圈存"}},
	LoadOther:         {"0200", "620000", "91", "47", ask, neither, true, nil, terminal.Words{"e-cash load from another account", "非指定账户圈存"}},
	LoadCash:          {"0200", "630000", "91", "46", ask, credit, false, nil, terminal.Words{"e-cash load with cash", "现金充值"}},
	LoadCashUndo:      {"0200", "170000", "91", "51", ask, debit, false, []Kind{LoadCash}, terminal.Words{"undo of a load with cash", "现金充值撤销"}},
	CashRefund:        {"0220", "200000", "00", "27", advise, credit, false, []Kind{TapSale}, terminal.Words{"e-cash refund", "电子现金退货"}},
}

// Words names the kind, in Chinese if zh.
func (k Kind) Words(zh bool) string {
	if k >= kinds {
		k = NoKind
	}
	return table[k].words.In(zh)
}

// String is Words in English.
func (k Kind) String() string { return k.Words(false) }

// load says whether the kind puts e-cash on the card.
func (k Kind) load() bool { return k == Load || k == LoadOther || k == LoadCash }

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
