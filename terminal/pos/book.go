package pos

import (
	"encoding/binary"
	"errors"
	"fmt"

	"koala/spec/pboc"
	"koala/terminal"
)

// maxNumber is the highest STAN and batch number, six digits.
const maxNumber = 999_999

// reserved is how many STANs are taken from flash at once: after a power
// failure at most so many are passed over.
const reserved = 100

// Totals are what a batch comes to, minor units. Returned are payments for
// nothing: they were never among the sales, and the host gives them back.
type Totals struct {
	Sales, Refunds, Reversals, Online, Returned                uint32 // number of records
	SalesFen, RefundsFen, ReversalsFen, OnlineFen, ReturnedFen uint64
}

// Net is what the merchant is owed: sales and online approvals without
// refunds and reversals.
func (t Totals) Net() int64 {
	return int64(t.SalesFen) + int64(t.OnlineFen) - int64(t.RefundsFen) - int64(t.ReversalsFen)
}

// totalsOf sums records up. A load is not the merchant's money.
func totalsOf(records []pboc.Clearing) Totals {
	var t Totals
	given := map[string]bool{}
	for _, c := range records {
		given[c.Key()] = true
	}
	for _, c := range records {
		n, fen := &t.Returned, &t.ReturnedFen
		switch {
		case c.Type == Load:
			continue
		case c.Kind == pboc.ClearSale:
			n, fen = &t.Sales, &t.SalesFen
		case c.Kind == pboc.ClearOnline:
			n, fen = &t.Online, &t.OnlineFen
		case c.Kind == pboc.ClearRefund:
			n, fen = &t.Refunds, &t.RefundsFen
		case given[as(c, pboc.ClearSale).Key()] || given[as(c, pboc.ClearOnline).Key()]:
			n, fen = &t.Reversals, &t.ReversalsFen
		}
		*n++
		*fen += c.Fen
	}
	return t
}

// as is a record as one of another kind.
func as(c pboc.Clearing, kind pboc.ClearingKind) pboc.Clearing {
	c.Kind = kind
	return c
}

// undo is the record that takes another one back.
func undo(c pboc.Clearing) pboc.Clearing {
	if c.Kind == pboc.ClearOnline {
		return as(c, pboc.ClearCancel)
	}
	return as(c, pboc.ClearReversal)
}

// A book holds the till's counters in a Bank: the STAN up to which numbers are
// taken, the open batch, where it begins, and the totals of the last one.
type book struct {
	bank  *terminal.Bank
	bound uint32 // STANs up to this one are taken
	next  uint32 // STAN to give out
	batch uint32
	first uint32 // item number the open batch begins with
	last  Totals // of the batch before
}

var errBook = errors.New("pos: counters do not read")

// openBook reads the counters. After a start STANs go on behind those that
// were taken.
func openBook(f *terminal.Flash) (*book, error) {
	b := &book{bank: terminal.OpenBank(f), next: 1, batch: 1, first: 1}
	v := b.bank.Value()
	if v == nil {
		return b, nil
	}
	if len(v) != bookLen {
		return nil, errBook
	}
	b.bound, b.batch, b.first = binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:]), binary.BigEndian.Uint32(v[8:])
	if b.bound > maxNumber || b.batch == 0 || b.batch > maxNumber {
		return nil, errBook
	}
	b.next = b.bound + 1
	v = v[12:]
	for _, n := range b.last.counts() {
		*n, v = binary.BigEndian.Uint32(v), v[4:]
	}
	for _, n := range b.last.sums() {
		*n, v = binary.BigEndian.Uint64(v), v[8:]
	}
	return b, nil
}

// bookLen: bound 4, batch 4, first item 4, five counts of 4, five sums of 8.
const bookLen = 12 + 5*4 + 5*8

func (t *Totals) counts() []*uint32 {
	return []*uint32{&t.Sales, &t.Refunds, &t.Reversals, &t.Online, &t.Returned}
}

func (t *Totals) sums() []*uint64 {
	return []*uint64{&t.SalesFen, &t.RefundsFen, &t.ReversalsFen, &t.OnlineFen, &t.ReturnedFen}
}

func (b *book) write(bound, batch, first uint32, last Totals) error {
	v := make([]byte, 0, bookLen)
	for _, n := range []uint32{bound, batch, first} {
		v = binary.BigEndian.AppendUint32(v, n)
	}
	for _, n := range last.counts() {
		v = binary.BigEndian.AppendUint32(v, *n)
	}
	for _, n := range last.sums() {
		v = binary.BigEndian.AppendUint64(v, *n)
	}
	if err := b.bank.Put(b.bank.Version()+1, v); err != nil {
		return fmt.Errorf("counters: %w", err)
	}
	b.bound, b.batch, b.first, b.last = bound, batch, first, last
	return nil
}

// stan gives the next trace number; after 999999 comes 1.
func (b *book) stan() (uint32, error) {
	if b.next > maxNumber {
		b.next, b.bound = 1, 0
	}
	if b.next > b.bound {
		if err := b.write(min(b.next+reserved-1, maxNumber), b.batch, b.first, b.last); err != nil {
			return 0, err
		}
	}
	b.next++
	return b.next - 1, nil
}

// A Numbered is a record with its place in the till's own row of numbers.
type Numbered struct {
	Number uint32
	pboc.Clearing
}

// Batch gives up to limit of the oldest records as the till hands them over.
// They stay until Release.
func (t *Till) Batch(limit int) pboc.ClearingBatch {
	b := pboc.ClearingBatch{TID: t.cfg.Kernel.TerminalID, First: t.shelf.Next()}
	for i, item := range t.shelf.Batch(min(limit, pboc.MaxClearingBatch)) {
		if i == 0 {
			b.First = item.Number
		}
		b.Records = append(b.Records, parsed(item.Wire))
	}
	return b
}

// parsed reads a record that the shelf took before.
func parsed(wire []byte) pboc.Clearing {
	c, err := pboc.ParseClearing(wire)
	if err != nil {
		panic(fmt.Errorf("pos: shelf: %w", err))
	}
	return c
}

// Release forgets the records up to number upto: the host has them. Those of
// the open batch stay, so that its totals are whole.
func (t *Till) Release(upto uint32) error {
	if upto >= t.book.first {
		return fmt.Errorf("release %d of a batch from %d: %w", upto, t.book.first, ErrOpen)
	}
	return t.shelf.Release(upto)
}

// Totals are those of the open batch.
func (t *Till) Totals() Totals {
	var open []pboc.Clearing
	for _, item := range t.shelf.Batch(t.shelf.Waiting()) {
		if item.Number >= t.book.first {
			open = append(open, parsed(item.Wire))
		}
	}
	return totalsOf(open)
}

// Last are the totals of the batch closed last.
func (t *Till) Last() Totals { return t.book.last }

// BatchNumber is that of the open batch, 1 to 999999.
func (t *Till) BatchNumber() uint32 { return t.book.batch }

// Waiting is the number of records not released yet.
func (t *Till) Waiting() int { return t.shelf.Waiting() }

// Close ends the batch and opens the next; its records may then be released.
// A batch without records stays open.
func (t *Till) Close() (number uint32, sum Totals, err error) {
	number, sum = t.book.batch, t.Totals()
	if t.shelf.Next() == t.book.first {
		return number, sum, nil
	}
	if err := t.book.write(t.book.bound, number%maxNumber+1, t.shelf.Next(), sum); err != nil {
		return number, sum, fmt.Errorf("close batch %d: %w", number, err)
	}
	return number, sum, nil
}
