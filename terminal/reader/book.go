package reader

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"koala/spec/dukpt"
	"koala/terminal"
)

// A vault keeps the future keys in a Bank: 1 | state of the keys, or 2 alone
// when the reader was opened.
type vault struct {
	bank  *terminal.Bank
	keys  *dukpt.Reader
	wiped bool
}

const (
	vaultKeys  = 1
	vaultWiped = 2
)

func openVault(f *terminal.Flash) (*vault, error) {
	v := &vault{bank: terminal.OpenBank(f)}
	switch b := v.bank.Value(); {
	case len(b) == 0:
	case b[0] == vaultWiped:
		v.wiped = true
	default:
		keys, err := dukpt.ParseReader(b[1:])
		if err != nil {
			return nil, fmt.Errorf("reader: keys: %w", err)
		}
		v.keys = keys
	}
	return v, nil
}

func (v *vault) usable() error {
	switch {
	case v.wiped:
		return ErrTampered
	case v.keys == nil:
		return ErrKeys
	}
	return nil
}

// put stores the keys as they are now.
func (v *vault) put(keys *dukpt.Reader) error {
	if err := v.bank.Put(v.bank.Version()+1, append([]byte{vaultKeys}, keys.Bytes()...)); err != nil {
		v.keys = nil // what is in memory may be ahead of flash: not to be used
		return fmt.Errorf("reader: keys: %w", err)
	}
	v.keys, v.wiped = keys, false
	return nil
}

// wipe writes both halves over, so that no key is left in either.
func (v *vault) wipe() error {
	v.keys, v.wiped = nil, true
	for range 2 {
		if err := v.bank.Put(v.bank.Version()+1, []byte{vaultWiped}); err != nil {
			return fmt.Errorf("reader: keys: %w", err)
		}
	}
	return nil
}

// maxBonds is how many phones a reader remembers; the oldest makes room.
const maxBonds = 3

// A bond is a phone that was paired.
type bond struct {
	peer [8]byte
	key  [16]byte
}

// A page is what the book says: bonds, and what was taken on which day.
type page struct {
	day   uint32 // YYYYMMDD
	spent uint64 // fen
	bonds []bond
}

// A book keeps a page in a Bank: day 4 | spent 8 | per bond peer 8, key 16.
type book struct {
	bank *terminal.Bank
	page
}

const bondLen = 24

func openBook(f *terminal.Flash) (*book, error) {
	b := &book{bank: terminal.OpenBank(f)}
	v := b.bank.Value()
	if v == nil {
		return b, nil
	}
	if len(v) < 12 || (len(v)-12)%bondLen != 0 {
		return nil, fmt.Errorf("reader: book: %w", ErrFrame)
	}
	b.day, b.spent = binary.BigEndian.Uint32(v), binary.BigEndian.Uint64(v[4:])
	for v = v[12:]; len(v) > 0; v = v[bondLen:] {
		b.bonds = append(b.bonds, bond{[8]byte(v), [16]byte(v[8:])})
	}
	return b, nil
}

// change writes the page as f leaves it.
func (b *book) change(f func(p *page)) error {
	p := b.page
	p.bonds = slices.Clone(p.bonds)
	f(&p)
	v := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, p.day), p.spent)
	for _, x := range p.bonds {
		v = append(append(v, x.peer[:]...), x.key[:]...)
	}
	if bytes.Equal(v, b.bank.Value()) {
		return nil
	}
	if err := b.bank.Put(b.bank.Version()+1, v); err != nil {
		return fmt.Errorf("reader: book: %w", err)
	}
	b.page = p
	return nil
}

// bond finds a phone.
func (b *book) bond(peer [8]byte) (bond, bool) {
	i := slices.IndexFunc(b.bonds, func(x bond) bool { return x.peer == peer })
	if i < 0 {
		return bond{}, false
	}
	return b.bonds[i], true
}

// remember keeps a phone; the oldest makes room.
func (b *book) remember(x bond) error {
	return b.change(func(p *page) {
		p.bonds = append(slices.DeleteFunc(p.bonds, func(y bond) bool { return y.peer == x.peer }), x)
		if n := len(p.bonds); n > maxBonds {
			p.bonds = p.bonds[n-maxBonds:]
		}
	})
}

// today is the day in the reader's zone as YYYYMMDD.
func (r *Reader) today() uint32 {
	y, m, d := r.cfg.Clock.Now().In(zoneOf(r.cfg.Kernel)).Date()
	return uint32(y*10000 + int(m)*100 + d)
}

// within says whether an amount keeps to the limits.
func (r *Reader) within(fen uint64) error {
	spent := r.book.spent
	if r.book.day != r.today() {
		spent = 0
	}
	if fen > r.cfg.Single || spent+fen > r.cfg.Daily {
		return ErrLimit
	}
	return nil
}

// count adds an amount to the day's sum.
func (r *Reader) count(fen uint64) error {
	today := r.today()
	return r.book.change(func(p *page) {
		if p.day != today {
			p.day, p.spent = today, 0
		}
		p.spent += fen
	})
}
