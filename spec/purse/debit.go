package purse

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// A Debit is one purchase a terminal collected: the card has paid and proved
// it with the TAC; the operator has not yet been credited. Card and Seq name
// it for ever; Terminal and TSeq do so from the other end.
type Debit struct {
	Card     Number
	Seq      uint16 // offline sequence before the debit
	Fen      uint32
	Type     Type
	Terminal Terminal
	TSeq     uint32 // the PSAM's transaction number
	At       Stamp
	TAC      [4]byte
	Record   []byte // the record of file 1A written with it, may be nil
	Balance  uint32 // of the card afterwards, as the terminal worked it out
}

// debitVersion is the first byte of the wire form; others may follow.
const debitVersion = 0x01

// debitHead is the length of the wire form up to the record, in bytes:
// version 1, card 10, sequence 2, amount 4, type 1, terminal 6, terminal
// sequence 4, date and time 7, TAC 4, balance 4, record length 2.
const debitHead = 45

// MaxDebitLen bounds one debit's wire form in bytes.
const MaxDebitLen = debitHead + 512

// AppendBinary adds the wire form of d to dst, for gate stores and batches.
func (d Debit) AppendBinary(dst []byte) ([]byte, error) {
	if debitHead+len(d.Record) > MaxDebitLen {
		return dst, fmt.Errorf("debit %d: %w: record of %d bytes", d.Seq, ErrLength, len(d.Record))
	}
	n, err := ParseNumber(string(d.Card))
	if err != nil {
		return dst, fmt.Errorf("debit %d: %w", d.Seq, err)
	}
	card := n.Bytes()
	dst = append(append(dst, debitVersion), card[:]...)
	dst = binary.BigEndian.AppendUint16(dst, d.Seq)
	dst = appendParty(binary.BigEndian.AppendUint32(dst, d.Fen), d.Type, d.Terminal)
	dst = appendStamp(binary.BigEndian.AppendUint32(dst, d.TSeq), d.At)
	dst = binary.BigEndian.AppendUint32(append(dst, d.TAC[:]...), d.Balance)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(d.Record)))
	return append(dst, d.Record...), nil
}

// MarshalBinary is AppendBinary to nothing.
func (d Debit) MarshalBinary() ([]byte, error) { return d.AppendBinary(nil) }

// ParseDebit reads one wire form and nothing after it.
func ParseDebit(b []byte) (Debit, error) {
	d, rest, err := NextDebit(b)
	if err == nil && len(rest) != 0 {
		err = fmt.Errorf("debit: %w: %d bytes after it", ErrLength, len(rest))
	}
	if err != nil {
		return Debit{}, err
	}
	return d, nil
}

// NextDebit reads the first of several wire forms. Record is a copy.
func NextDebit(b []byte) (d Debit, rest []byte, err error) {
	if len(b) < debitHead {
		return d, nil, fmt.Errorf("debit: %w: %d bytes", ErrLength, len(b))
	}
	if b[0] != debitVersion {
		return d, nil, fmt.Errorf("debit: %w: %02X", ErrVersion, b[0])
	}
	n := int(binary.BigEndian.Uint16(b[43:]))
	if debitHead+n > MaxDebitLen || debitHead+n > len(b) {
		return d, nil, fmt.Errorf("debit: %w: record of %d bytes in %d", ErrLength, n, len(b))
	}
	card, err := NumberOf(b[1:11])
	if err != nil {
		return d, nil, fmt.Errorf("debit: %w", err)
	}
	d = Debit{
		Card: card, Seq: binary.BigEndian.Uint16(b[11:]), Fen: binary.BigEndian.Uint32(b[13:]), Type: Type(b[17]),
		Terminal: Terminal(b[18:24]), TSeq: binary.BigEndian.Uint32(b[24:]), At: StampFrom([7]byte(b[28:35])),
		TAC: [4]byte(b[35:39]), Balance: binary.BigEndian.Uint32(b[39:]),
	}
	if n > 0 {
		d.Record = append([]byte(nil), b[debitHead:debitHead+n]...)
	}
	return d, b[debitHead+n:], nil
}

// Equal compares two debits with their records.
func (d Debit) Equal(o Debit) bool {
	return d.Card == o.Card && d.Seq == o.Seq && d.Fen == o.Fen && d.Type == o.Type && d.Terminal == o.Terminal &&
		d.TSeq == o.TSeq && d.At == o.At && d.TAC == o.TAC && d.Balance == o.Balance && string(d.Record) == string(o.Record)
}

// A Batch is what a terminal hands over at once: debits with its own running
// numbers First, First+1, …, so that gaps and repetitions show.
type Batch struct {
	Terminal Terminal
	First    uint32
	Debits   []Debit
}

// MaxBatch bounds one batch, in debits.
const MaxBatch = 1000

var batchMagic = [4]byte{'K', 'D', 'B', 0x01}

// AppendBinary adds the wire form: magic 4, terminal 6, first number 4, count
// 2, the debits, CRC-32 (IEEE) 4 over all of it.
func (b Batch) AppendBinary(dst []byte) ([]byte, error) {
	if len(b.Debits) > MaxBatch {
		return dst, fmt.Errorf("batch of %d debits: %w", len(b.Debits), ErrLength)
	}
	out := append(append([]byte(nil), batchMagic[:]...), b.Terminal[:]...)
	out = binary.BigEndian.AppendUint32(out, b.First)
	out = binary.BigEndian.AppendUint16(out, uint16(len(b.Debits)))
	for i, d := range b.Debits {
		var err error
		if out, err = d.AppendBinary(out); err != nil {
			return dst, fmt.Errorf("batch, number %d: %w", b.First+uint32(i), err)
		}
	}
	return append(dst, binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out))...), nil
}

// ParseBatch reads one batch and nothing after it.
func ParseBatch(in []byte) (b Batch, err error) {
	const head, sum = 16, 4
	if len(in) < head+sum || [4]byte(in[:4]) != batchMagic {
		return b, fmt.Errorf("batch: %w: %d bytes", ErrRecord, len(in))
	}
	body := in[:len(in)-sum]
	if crc32.ChecksumIEEE(body) != binary.BigEndian.Uint32(in[len(body):]) {
		return b, fmt.Errorf("batch: %w", ErrChecksum)
	}
	n := int(binary.BigEndian.Uint16(in[14:]))
	if n > MaxBatch {
		return b, fmt.Errorf("batch of %d debits: %w", n, ErrLength)
	}
	b = Batch{Terminal: Terminal(in[4:10]), First: binary.BigEndian.Uint32(in[10:])}
	rest := body[head:]
	for i := range n {
		var d Debit
		if d, rest, err = NextDebit(rest); err != nil {
			return Batch{}, fmt.Errorf("batch, number %d: %w", b.First+uint32(i), err)
		}
		b.Debits = append(b.Debits, d)
	}
	if len(rest) != 0 {
		return Batch{}, fmt.Errorf("batch: %w: %d bytes too many", ErrLength, len(rest))
	}
	return b, nil
}
