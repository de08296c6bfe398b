package unionpay

import (
	"errors"
	"fmt"

	"koala/spec/emv"
	"koala/spec/iso8583"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// A Settlement is what the end of a batch came to.
type Settlement struct {
	Batch    uint32 // that was settled
	Totals   Totals // as they are here
	Balanced bool   // the host has the same; otherwise it got every item
	Items    int    // sent one by one
	Next     uint32 // the open batch now
}

// itemsPerMessage is how many items one upload carries.
const itemsPerMessage = 8

// maxRounds is how often a batch is sent again whose number of items the host
// does not find right.
const maxRounds = 3

// ErrCount says that the host counts other items than were sent, every time.
var ErrCount = errors.New("unionpay: the host does not count the items that were sent")

// Settle brings the batch to its end: what the host has not been told, the
// totals, items where they differ, and the next batch. After an error or a power
// failure it is called again and goes on with the same messages.
func (t *Terminal) Settle() (Settlement, error) {
	s, err := t.settle()
	if err != nil {
		return s, t.failed(err)
	}
	return s, nil
}

func (t *Terminal) settle() (Settlement, error) {
	switch t.book.phase {
	case trading:
		if err := t.before(); err != nil {
			return Settlement{}, err
		}
	case closed:
		return Settlement{Batch: t.book.batch, Next: t.book.batch}, t.forget()
	}
	s := Settlement{Batch: t.book.batch, Totals: t.journal.totals(), Next: t.book.batch}
	if len(t.journal.list) == 0 {
		s.Balanced = true
		return s, t.open()
	}
	if t.book.phase == trading {
		if err := t.number(); err != nil {
			return s, err
		}
	}
	if !t.SignedOn() {
		if err := t.signOn(); err != nil {
			return s, err
		}
	}
	if t.book.flags == [2]byte{} {
		if err := t.compare(s.Totals); err != nil {
			return s, err
		}
	}
	s.Balanced = t.book.flags == [2]byte{'1', '1'}
	for range maxRounds {
		next, err := t.upload(&s)
		if err != nil {
			return s, err
		}
		if next != 0 {
			s.Next = next
			return s, t.close(next)
		}
		if err := t.number(); err != nil { // other traces: these items are counted anew
			return s, err
		}
	}
	return s, ErrCount
}

// before tells the host what it does not know yet.
func (t *Terminal) before() error {
	if err := t.ready(true); err != nil && !errors.Is(err, ErrFull) {
		return err
	}
	if err := t.clear(); err != nil {
		return err
	}
	if _, _, err := t.flush(); err != nil {
		return err
	}
	return t.sendSignatures()
}

// open has a batch without transactions go on.
func (t *Terminal) open() error {
	return t.book.change(func(p *page) { p.phase, p.flags, p.first = trading, [2]byte{}, 0 })
}

// number takes the traces of the settlement's messages in a row: totals, items,
// end. From then on nothing new is taken.
func (t *Terminal) number() error {
	first, err := t.book.block(uint32(2 + (len(t.journal.list)+itemsPerMessage-1)/itemsPerMessage))
	if err != nil {
		return err
	}
	return t.book.change(func(p *page) { p.phase, p.first = settling, first })
}

// field48 is half of the totals: debits 12, count 3, credits 12, count 3, flag.
func field48(debits uint32, debitFen uint64, credits uint32, creditFen uint64) string {
	return fmt.Sprintf("%012d%03d%012d%03d0", debitFen, debits%1000, creditFen, credits%1000)
}

func (x Totals) field48() string {
	return field48(x.Debits, x.DebitFen, x.Credits, x.CreditFen) + field48(x.ForeignDebits, x.ForeignDebitFen, x.ForeignCredits, x.ForeignCreditFen)
}

// compare sends the totals and keeps how they compare.
func (t *Terminal) compare(x Totals) error {
	m := t.settlement("0500", t.book.first, netTotals)
	m.SetText(48, x.field48())
	m.SetText(49, "156")
	m.SetText(63, t.cfg.Operator)
	a, err := t.exchange(m, true)
	if err != nil {
		return err
	}
	f := a.Text(48)
	switch code := a.Text(39); {
	case heldBack(code):
		return fmt.Errorf("%w: totals, %s", ErrRefused, code)
	case code != "00":
		return errors.Join(fmt.Errorf("%w: totals, %s", ErrRefused, code), t.open())
	case len(f) != 62:
		return ErrAnswer
	}
	return t.book.change(func(p *page) { p.flags = [2]byte{f[30], f[61]} })
}

// settlement makes a message of the end of a batch.
func (t *Terminal) settlement(mti string, stan uint32, code string) *iso8583.Message {
	m := t.message(mti, stan, false)
	m.SetText(60, fmt.Sprintf("00%06d%s", t.book.batch, code))
	return m
}

// upload sends items and chip items and ends the batch. It gives the next
// batch, 0 when the host counts other items.
func (t *Terminal) upload(s *Settlement) (next uint32, err error) {
	s.Items = 0
	stan, code := t.book.first+1, netBalanced
	if !s.Balanced {
		code = netUnbalanced
		err = t.sendItems(s, &stan)
	}
	if err == nil {
		err = t.sendChips(s)
	}
	if err != nil && !errors.Is(err, errOver) {
		return 0, err
	}
	m := t.settlement("0320", t.book.first+1+uint32(t.messages()), code)
	m.SetText(48, fmt.Sprintf("%04d", s.Items))
	a, err := t.exchange(m, true)
	if err != nil {
		return 0, err
	}
	switch code, f := a.Text(39), a.Text(60); {
	case code == "95":
		return 0, nil
	case code != "00":
		return 0, fmt.Errorf("%w: end of the batch, %s", ErrRefused, code)
	case len(f) < 8 || !digits(f[2:8]) || number(f[2:8]) == 0:
		return 0, ErrAnswer
	default:
		return uint32(number(f[2:8])), nil
	}
}

// messages is how many messages carry the batch's items, at most.
func (t *Terminal) messages() int {
	return (len(t.journal.list) + itemsPerMessage - 1) / itemsPerMessage
}

// sendItems sends what counts, eight at a time.
func (t *Terminal) sendItems(s *Settlement, stan *uint32) error {
	var items []string
	send := func() error {
		m := t.settlement("0320", *stan, netTotals)
		text := fmt.Sprintf("%02d", len(items))
		for _, i := range items {
			text += i
		}
		m.SetText(48, text)
		*stan++
		s.Items += len(items)
		items = items[:0]
		return t.accepted(m)
	}
	for _, e := range t.journal.list {
		f := t.journal.by[e.key()]
		if !f.counts() {
			continue
		}
		items = append(items, fmt.Sprintf("%s%06d%020s%012d", table[e.Kind].code, e.STAN, e.Get(2), f.fen()))
		if len(items) == itemsPerMessage {
			if err := send(); err != nil {
				return err
			}
		}
	}
	if len(items) == 0 {
		return nil
	}
	return send()
}

// accepted sends a part of an upload that the host has to take.
func (t *Terminal) accepted(m *iso8583.Message) error {
	a, err := t.exchange(m, true)
	switch {
	case err != nil:
		return err
	case a.Text(39) == "95":
		return errOver
	case a.Text(39) != "00":
		return fmt.Errorf("%w: upload, %s", ErrRefused, a.Text(39))
	}
	return nil
}

// errOver says that the host has ended the batch: the answer to its end was
// lost, and the end alone goes again.
var errOver = errors.New("unionpay: the batch is over")

// issuerFailed is the bit of TVR byte 5 for an issuer that was not authenticated
// (EMV 4.4 Book 3, annex C5).
const issuerFailed = 0x40

// sendChips sends the certificates of online approvals (206, or 205 where the
// card did not know the issuer and approved all the same) and the taps that took
// money for nothing (204), one by one. A card that only a reader has seen
// has no number to go with its certificate.
func (t *Terminal) sendChips(s *Settlement) error {
	for _, e := range t.journal.list {
		v, _ := tlv.Find(e.fields[55], emv.TagCID)
		if e.State != Done || e.Get(2) == "" || len(v) != 1 || v[0] != emv.TC || t.journal.by[e.key()].gone() {
			continue
		}
		code := netTC
		if tvr, _ := tlv.Find(e.fields[55], emv.TagTVR); len(tvr) == 5 && tvr[4]&issuerFailed != 0 {
			code = netIssuer
		}
		m := t.chipItem(e, table[e.Kind].code, code)
		if err := t.accepted(m); err != nil {
			return err
		}
		s.Items++
	}
	for _, c := range t.till.Batch(pboc.MaxClearingBatch).Records {
		if c.Kind != pboc.ClearReversal {
			continue
		}
		e := &Entry{Kind: TapSale, Batch: t.book.batch, STAN: c.STAN}
		e.set(2, c.PAN)
		e.set(4, fmt.Sprintf("%012d", c.Fen))
		e.set(22, "982")
		e.set(23, fmt.Sprintf("%03d", c.PSN))
		e.fields[55] = chipOf(c)
		if err := t.accepted(t.chipItem(e, table[TapSale].code, netFailed)); err != nil {
			return err
		}
		s.Items++
	}
	return nil
}

// chipItem is one chip transaction of an upload; its trace is the item's.
func (t *Terminal) chipItem(e *Entry, kind, code string) *iso8583.Message {
	m := t.message("0320", e.STAN, true)
	for _, n := range []int{2, 4, 22, 23} {
		if v := e.Get(n); v != "" {
			m.SetText(n, v)
		}
	}
	m.SetText(49, "156")
	m.Set(55, pick(e.fields[55], append(append([]tlv.Tag{}, chipRequest...), emv.TagECIssuerCode)))
	m.SetText(60, fmt.Sprintf("%s%06d%s", kind, e.Batch, code))
	return m
}

// close keeps that the host has the batch, and which is next; then forgets it.
func (t *Terminal) close(next uint32) error {
	if err := t.book.change(func(p *page) { p.phase, p.batch = closed, next }); err != nil {
		return err
	}
	return t.forget()
}

// forget drops a batch that the host has: the till's records first, which would
// otherwise be taken for new ones, then the journal.
func (t *Terminal) forget() error {
	if _, _, err := t.till.Close(); err != nil {
		return err
	}
	if b := t.till.Batch(pboc.MaxClearingBatch); len(b.Records) > 0 {
		if err := t.till.Release(b.First + uint32(len(b.Records)) - 1); err != nil {
			return err
		}
	}
	if err := t.journal.release(); err != nil {
		return err
	}
	if err := t.open(); err != nil {
		return err
	}
	if t.packs.parameters.SignOff {
		return t.forgetKeys()
	}
	return nil
}
