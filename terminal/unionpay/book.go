package unionpay

import (
	"encoding/binary"
	"errors"
	"fmt"

	"koala/terminal"
)

// maxNumber is the highest STAN and batch number, six digits.
const maxNumber = 999_999

// reserved is how many STANs are taken from flash at once: after a power
// failure at most so many are passed over.
const reserved = 50

// A phase says how far the settlement of a batch has come.
type phase byte

const (
	trading  phase = iota // transactions are taken
	settling              // the totals are sent or about to be: nothing is added any more
	closed                // the host has the batch: it is only to be forgotten here
)

// A book holds the counters in a Bank: one write changes all of it.
type book struct {
	bank *terminal.Bank
	page
	next uint32 // STAN to give out
}

// A page is what the book says.
type page struct {
	bound    uint32 // STANs up to this one are taken
	batch    uint32 // of the open batch; 0 before the host has said one
	phase    phase
	signedOn bool
	shift    int64   // what the host's clock is ahead of ours, seconds
	flags    [2]byte // how the totals compared, domestic and foreign: '1' to '3', 0 not said yet
	first    uint32  // trace of the settlement's first message: what is sent again is the same message
}

var errBook = errors.New("unionpay: counters do not read")

// bookLen: bound 4, batch 4, phase 1, signed on 1, shift 8, flags 2, first 4.
const bookLen = 24

func openBook(f *terminal.Flash) (*book, error) {
	b := &book{bank: terminal.OpenBank(f), page: page{}}
	if v := b.bank.Value(); v != nil {
		if len(v) != bookLen {
			return nil, errBook
		}
		b.page = page{bound: binary.BigEndian.Uint32(v), batch: binary.BigEndian.Uint32(v[4:]), phase: phase(v[8]), signedOn: v[9] != 0,
			shift: int64(binary.BigEndian.Uint64(v[10:])), flags: [2]byte(v[18:]), first: binary.BigEndian.Uint32(v[20:])}
		if b.bound > maxNumber || b.batch > maxNumber || b.phase > closed {
			return nil, errBook
		}
	}
	b.next = b.bound + 1
	return b, nil
}

// change writes the page as f leaves it.
func (b *book) change(f func(p *page)) error {
	p := b.page
	f(&p)
	if p == b.page {
		return nil
	}
	v := make([]byte, 0, bookLen)
	v = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(v, p.bound), p.batch)
	on := byte(0)
	if p.signedOn {
		on = 1
	}
	v = binary.BigEndian.AppendUint64(append(v, byte(p.phase), on), uint64(p.shift))
	v = binary.BigEndian.AppendUint32(append(v, p.flags[:]...), p.first)
	if err := b.bank.Put(b.bank.Version()+1, v); err != nil {
		return fmt.Errorf("unionpay: counters: %w", err)
	}
	b.page = p
	return nil
}

// block takes n trace numbers in a row, without an end among them.
func (b *book) block(n uint32) (first uint32, err error) {
	if b.next+n-1 > maxNumber {
		b.next = 1
	}
	first = b.next
	b.next += n
	return first, b.change(func(p *page) { p.bound = b.next - 1 })
}

// stan gives the next trace number; after 999999 comes 1.
func (b *book) stan() (uint32, error) {
	if b.next > maxNumber {
		b.next = 1
		if err := b.change(func(p *page) { p.bound = reserved }); err != nil {
			return 0, err
		}
	}
	if b.next > b.bound {
		if err := b.change(func(p *page) { p.bound = min(b.next+reserved-1, maxNumber) }); err != nil {
			return 0, err
		}
	}
	b.next++
	return b.next - 1, nil
}
