package unionpay

import (
	"errors"
	"fmt"
	"time"

	"koala/spec/iso8583"
	"koala/terminal"
)

// A secret is what a request carries that is never kept.
type secret struct {
	track2, track3 string
	sealed         bool   // eight bytes of each are enciphered
	pin            []byte // block, 8 bytes
	data           []byte // the card as a reader enciphers it (F59), with F53's third digit 2
}

// Approves says whether a response code (F39) is an approval; some come with a
// word to the issuer.
func Approves(code string) bool {
	switch code {
	case "00", "08", "10", "11", "16", "A2", "A4", "A5", "A6":
		return true
	}
	return false
}

// message begins a request with the header and the terminal's names.
func (t *Terminal) message(mti string, stan uint32, chip bool) *iso8583.Message {
	m := new(iso8583.Message)
	m.Reset(iso8583.UnionPayPOS(), mti)
	h := t.cfg.Header
	if h.Application = 0x60; chip {
		h.Application = 0x61
	}
	m.SetHead(h.AppendTo(nil))
	if stan != 0 {
		m.SetText(11, fmt.Sprintf("%06d", stan))
	}
	m.SetText(41, t.cfg.Till.Kernel.TerminalID)
	m.SetText(42, t.cfg.Till.Kernel.MerchantID)
	return m
}

// capability is field 60.4: reads Quickpass, chip and stripe.
const capability = "6"

// request makes an entry's message.
func (t *Terminal) request(e *Entry, s secret) *iso8583.Message {
	r := table[e.Kind]
	m := t.message(r.mti, e.STAN, e.fields[55] != nil)
	m.SetText(3, r.process)
	m.SetText(25, r.condition)
	m.SetText(49, "156")
	for n, v := range e.fields {
		if v != nil && n != 34 && n != 39 && n != 15 && n != 44 && n != 54 {
			m.SetText(n, string(v))
		}
	}
	m.SetText(60, t.kindField(e, "000", e.Get(22)))
	hidden := s.track2 != "" && s.sealed
	for n, track := range map[int]string{35: s.track2, 36: s.track3} {
		if track != "" {
			m.SetText(n, track)
		}
	}
	if s.pin != nil {
		m.Set(52, s.pin)
		m.SetText(26, "12")
	}
	if s.pin != nil || hidden {
		m.SetText(53, t.control(s.pin != nil, hidden))
	}
	if s.data != nil {
		m.Set(59, s.data)
		form := "0"
		if s.pin != nil {
			form = "2"
		}
		m.SetText(53, form+"720000000000000")
	}
	return m
}

// control is field 53: a PIN block of format 0 is there, keys of double length,
// tracks under the track key.
func (t *Terminal) control(pin, hidden bool) string {
	v := []byte("0600000000000000")
	if pin {
		v[0] = '2'
	}
	if t.cfg.Single {
		v[1] = '0'
	}
	if hidden {
		v[2] = '1'
	}
	return string(v)
}

// kindField is field 60 of a transaction.
func (t *Terminal) kindField(e *Entry, code, mode string) string {
	chip := "0"
	if len(mode) > 1 && mode[:2] == "80" {
		chip = "2"
	}
	return fmt.Sprintf("%s%06d%s%s%s", table[e.Kind].code, e.Batch, code, capability, chip)
}

// exchange seals a message, sends it and gives the answer that belongs to it.
// The error wraps ErrNotSent, ErrNoAnswer, ErrAnswer or ErrMAC; after all but
// the first nobody knows what the host did.
func (t *Terminal) exchange(m *iso8583.Message, sealed bool) (*iso8583.Message, error) {
	var wire []byte
	var err error
	if sealed {
		wire, err = t.cfg.Keys.Seal(m)
	} else {
		wire, err = m.AppendTo(nil)
	}
	if errors.Is(err, terminal.ErrPower) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	raw, err := t.cfg.Line.Exchange(wire)
	switch {
	case errors.Is(err, ErrNotSent):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	a := new(iso8583.Message)
	if err := a.Unpack(iso8583.UnionPayPOS(), raw); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	if !belongs(a, m) {
		return nil, ErrAnswer
	}
	if !sealed {
		t.heed(a)
		return a, nil
	}
	return a, t.verify(a)
}

// verify checks the MAC of an answer. One without says at most that the keys
// have to be had anew.
func (t *Terminal) verify(a *iso8583.Message) error {
	if err := t.cfg.Keys.Verify(a); err != nil {
		if code := a.Text(39); code == "77" || code == "A0" || code == "97" {
			t.wrong++
			return errors.Join(ErrMAC, t.forgetKeys())
		}
		return ErrMAC
	}
	t.heed(a)
	switch a.Text(39) {
	case "A0":
		if t.wrong++; t.wrong >= maxWrong {
			return t.forgetKeys()
		}
	case "77":
		return t.forgetKeys()
	default:
		t.wrong = 0
	}
	return nil
}

// maxWrong is after how many refusals of its MAC in a row a terminal signs on.
const maxWrong = 3

// forgetKeys has the next request sign on first.
func (t *Terminal) forgetKeys() error {
	t.wrong = 0
	return t.book.change(func(p *page) { p.signedOn = false })
}

// heed reads what the host wants next: the second digit of the state byte.
func (t *Terminal) heed(a *iso8583.Message) {
	if h, err := iso8583.ParsePOSHeader(a.Head()); err == nil {
		t.wants = h.State & 0x0F
	}
}

// belongs says whether a is the answer to m: the next message type, and every
// field that answers repeat is what it was.
func belongs(a, m *iso8583.Message) bool {
	want := []byte(m.MTI())
	want[2]++
	if !a.IsMTI(string(want)) || len(a.Text(39)) != 2 {
		return false
	}
	for _, n := range []int{11, 41, 42} {
		if a.Text(n) != m.Text(n) {
			return false
		}
	}
	for _, n := range []int{2, 3, 4, 25, 49} {
		if a.Has(n) && m.Has(n) && a.Text(n) != m.Text(n) {
			return false
		}
	}
	return true
}

// reasonOf is field 39 of the reversal of a request that ended with err.
func reasonOf(err error) string {
	if errors.Is(err, ErrMAC) {
		return "A0"
	}
	return "98"
}

// learn takes what the answer to a transaction brings into its entry.
func (t *Terminal) learn(e *Entry, a *iso8583.Message) {
	t.answered = append([]byte(nil), a.Get(55)...)
	for _, n := range []int{12, 13, 15, 32, 37, 38, 39, 44, 54} {
		if a.Has(n) && len(a.Text(n)) <= fieldMax[byte(n)] {
			e.set(n, a.Text(n))
		}
	}
	for _, n := range []int{62, 63} {
		if v := a.Get(n); v != nil {
			e.set(n, string(v[:min(len(v), fieldMax[byte(n)])]))
		}
	}
}

// host gives the time an answer says, in the year that is nearest to now.
func (t *Terminal) host(a *iso8583.Message) (time.Time, bool) {
	now := t.Now()
	best, ok := time.Time{}, false
	for year := now.Year() - 1; year <= now.Year()+1; year++ {
		at, err := time.ParseInLocation("20060102150405", fmt.Sprintf("%04d", year)+a.Text(13)+a.Text(12), t.zone)
		if err == nil && (!ok || at.Sub(now).Abs() < best.Sub(now).Abs()) {
			best, ok = at, true
		}
	}
	return best, ok
}

// upper writes bytes as people read them.
func upper(b []byte) string { return fmt.Sprintf("%X", b) }
