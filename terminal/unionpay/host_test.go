package unionpay_test

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"testing"

	"koala/spec/emv"
	"koala/spec/iso8583"
	"koala/spec/iso9797"
	"koala/spec/poskey"
	"koala/spec/tlv"
	"koala/terminal/unionpay"
)

var (
	tmk = [16]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10}
	pik = [16]byte{0x8C, 0x7F, 0x1A, 0x2B, 0x3D, 0x4E, 0x5F, 0x60, 0x71, 0x82, 0x93, 0xA4, 0xB5, 0xC6, 0xD7, 0xE8}
	mak = [16]byte{0x25, 0xD3, 0x4E, 0x58, 0xA1, 0x7B, 0x9C, 0x0D, 0x6E, 0x2F, 0x40, 0x81, 0x92, 0xA3, 0xB4, 0xC5}
)

// A deal is what the host knows of one transaction.
type deal struct {
	mti, kind, pan   string
	fen              uint64
	code, rrn, auth  string
	undone, reversed bool
	request, answer  []byte // for a repeat
	adjusted         uint64
}

// A host keeps the truth, written from docs/terminal-protocol.md alone.
type host struct {
	t       testing.TB
	batch   int
	deals   map[string]*deal // by batch/trace
	answers map[string][]byte
	order   []string
	never   map[string]bool // reversed before they came
	taps    map[string]bool // by the card's counter
	rrn     int
	signed  bool
	closed  bool
	items   map[string]uint64 // of an upload: kind+trace
	count   int
	list    []string // MTI and code of every message, in order
	asked   []*iso8583.Message

	say   func(m *iso8583.Message) string                     // the code for a request; empty: approved
	chip  func(m *iso8583.Message) []byte                     // field 55 of the answer
	fault func(n int, request, answer []byte) ([]byte, error) // what becomes of the n-th exchange
	off   bool                                                // totals never balance
	state byte                                                // second digit of the header's state
	fetch map[string]func(in []byte) []byte                   // field 62 of downloads by code
	n     int
}

func newHost(t testing.TB) *host {
	return &host{t: t, batch: 7, deals: map[string]*deal{}, answers: map[string][]byte{}, never: map[string]bool{}, taps: map[string]bool{}, items: map[string]uint64{}, fetch: map[string]func([]byte) []byte{}}
}

var errSilent = errors.New("no answer")

// Exchange answers, unless the fault says otherwise.
func (h *host) Exchange(request []byte) ([]byte, error) {
	h.n++
	n := h.n
	if h.fault == nil {
		return h.handle(request), nil
	}
	answer, err := h.fault(n, request, nil) // before it arrives
	if err != nil || answer != nil {
		return answer, err
	}
	return h.fault(-n, request, h.handle(request))
}

func (h *host) key() *iso8583.Key { return must(iso8583.NewKey(mak[:])) }

func (h *host) handle(request []byte) []byte {
	m := new(iso8583.Message)
	if err := m.Unpack(iso8583.UnionPayPOS(), bytes.Clone(request)); err != nil {
		h.t.Fatalf("the host cannot read: %v", err)
	}
	h.list = append(h.list, m.MTI()+" "+m.Text(60))
	h.asked = append(h.asked, m)
	net := m.Text(60)[8:11]
	open := m.IsMTI("0800") && net == "004" || net == "301"
	if !open && m.Verify(h.key()) != nil {
		return h.answer(m, "A0", nil, false)
	}
	if !open && !h.signed {
		return h.answer(m, "77", nil, false)
	}
	if m.Text(41) != tid || m.Text(42) != mid {
		return h.answer(m, "97", nil, false)
	}
	return h.answerTo(m, net, request, open)
}

func (h *host) answerTo(m *iso8583.Message, net string, request []byte, open bool) []byte {
	name := m.Text(60)[2:8] + "/" + m.Text(11)
	switch m.MTI() {
	case "0800", "0820":
		return h.manage(m, net, open)
	case "0100", "0200", "0220":
		return h.transact(m, name, request)
	case "0400":
		return h.reverse(m, name)
	case "0620":
		return h.answer(m, "00", nil, false)
	case "0920":
		return h.answer(m, "00", nil, false)
	}
	if ends := net == "202" || net == "207"; name[:6] == fmt.Sprintf("%06d", h.batch-1) && ends && m.IsMTI("0320") { // the answer was lost
		return h.answer(m, "00", func(a *iso8583.Message) { a.SetText(60, fmt.Sprintf("00%06d%s", h.batch, net)) }, false)
	} else if name[:6] != fmt.Sprintf("%06d", h.batch) {
		return h.answer(m, "95", nil, false)
	} else if old := h.answers[m.MTI()+net+name]; old != nil {
		return old
	}
	a := h.settle(m, net)
	h.answers[m.MTI()+net+name] = a
	return a
}

// answer seals one.
func (h *host) answer(m *iso8583.Message, code string, more func(a *iso8583.Message), bare bool) []byte {
	a := new(iso8583.Message)
	if err := a.AnswerTo(m, code); err != nil {
		h.t.Fatal(err)
	}
	head := bytes.Clone(a.Head())
	head[7] = h.state
	a.SetHead(head)
	a.SetText(12, "120001")
	a.SetText(13, "0301")
	if more != nil {
		more(a)
	}
	if bare {
		return must(a.AppendTo(nil))
	}
	return must(a.Seal(nil, h.key()))
}

func (h *host) manage(m *iso8583.Message, net string, open bool) []byte {
	return h.answer(m, "00", func(a *iso8583.Message) {
		switch {
		case net == "004":
			h.signed = true
			var keys []byte
			for _, k := range [][16]byte{pik, mak, tmk} {
				keys = poskey.Wrap(tmk, k).Append(keys)
			}
			a.Set(62, keys)
			a.SetText(60, fmt.Sprintf("00%06d004", h.batch))
		case net == "002":
			h.signed = false
		case h.fetch[net] != nil:
			a.Set(62, h.fetch[net](m.Get(62)))
		}
	}, open)
}

func (h *host) transact(m *iso8583.Message, name string, request []byte) []byte {
	if old := h.deals[name]; old != nil {
		if bytes.Equal(old.request, request) {
			return old.answer
		}
		return h.answer(m, "94", nil, false)
	}
	h.rrn++
	d := &deal{mti: m.MTI(), kind: m.Text(60)[:2], pan: m.Text(2), code: "00", rrn: fmt.Sprintf("%012d", h.rrn), request: bytes.Clone(request)}
	d.fen, _ = strconv.ParseUint(m.Text(4), 10, 64)
	if h.say != nil {
		if code := h.say(m); code != "" {
			d.code = code
		}
	}
	switch {
	case h.never[name]:
		d.code = "12"
	case h.closed:
		d.code = "95"
	case d.code == "00" && (d.kind == "23" || d.kind == "21" || d.kind == "53" || d.kind == "51" || d.kind == "32" || d.kind == "34"):
		o := h.deals[m.Text(61)[:6]+"/"+m.Text(61)[6:12]]
		switch {
		case o == nil || o.code != "00" || o.reversed || o.undone:
			d.code = "25"
		case d.kind == "32" || d.kind == "34":
			o.adjusted = d.fen
		case d.fen != o.due():
			d.code = "64"
		default:
			o.undone = true
		}
	}
	if atc, ok := tlv.Find(m.Get(55), emv.TagATC); d.kind == "36" && ok {
		if h.taps[string(atc)] {
			h.t.Errorf("the tap with counter %X comes as another transaction", atc)
		}
		h.taps[string(atc)] = true
	}
	if unionpay.Approves(d.code) {
		d.auth = fmt.Sprintf("A%05d", h.rrn)
	}
	h.deals[name] = d
	h.order = append(h.order, name)
	d.answer = h.answer(m, d.code, func(a *iso8583.Message) {
		a.SetText(37, d.rrn)
		a.SetText(32, "00010344")
		if d.auth != "" {
			a.SetText(38, d.auth)
		}
		if d.kind == "01" {
			a.SetText(54, "1002156C000000012345")
		}
		if m.Has(55) && h.chip != nil {
			if v := h.chip(m); v != nil {
				a.Set(55, v)
			}
		}
	}, false)
	return d.answer
}

func (d *deal) due() uint64 {
	if d.adjusted != 0 {
		return d.adjusted
	}
	return d.fen
}

func (h *host) reverse(m *iso8583.Message, name string) []byte {
	for _, n := range []int{35, 36, 37, 52, 53} {
		if m.Has(n) {
			h.t.Errorf("a reversal with field %d", n)
		}
	}
	d := h.deals[name]
	switch {
	case d == nil:
		h.never[name] = true
	case d.code == "00" && !d.reversed:
		d.reversed = true
		if d.kind == "23" || d.kind == "21" || d.kind == "53" || d.kind == "51" {
			h.deals[m.Text(61)[:6]+"/"+m.Text(61)[6:12]].undone = false
		}
	}
	return h.answer(m, "00", nil, false)
}

// counts says whether a deal is a debit (1), a credit (-1) or neither.
func (d *deal) counts() int {
	if d.code != "00" || d.reversed {
		return 0
	}
	switch d.kind {
	case "22", "54", "20", "24", "30", "36", "51":
		return 1
	case "23", "53", "21", "25", "27", "46":
		return -1
	}
	return 0
}

// totals are the host's own.
func (h *host) totals() (text string, items map[string]uint64) {
	var fen, n [2]uint64
	items = map[string]uint64{}
	for _, name := range h.order {
		d := h.deals[name]
		c := d.counts()
		if c == 0 || name[:6] != fmt.Sprintf("%06d", h.batch) {
			continue
		}
		i := (1 - c) / 2
		fen[i] += d.due()
		n[i]++
		items[d.kind+name[7:]] = d.due()
	}
	return fmt.Sprintf("%012d%03d%012d%03d0", fen[0], n[0], fen[1], n[1]), items
}

func (h *host) settle(m *iso8583.Message, net string) []byte {
	return h.answer(m, "00", func(a *iso8583.Message) {
		mine, want := h.totals()
		f := m.Text(48)
		switch {
		case m.IsMTI("0500"):
			flag := "2"
			h.closed = true
			h.items, h.count = map[string]uint64{}, 0
			if mine == f[:31] && !h.off {
				flag = "1"
			}
			a.SetText(48, mine[:30]+flag+fmt.Sprintf("%012d%03d%012d%03d1", 0, 0, 0, 0))
		case net == "201":
			for f = f[2:]; len(f) >= 40; f = f[40:] {
				h.items[f[:8]], _ = strconv.ParseUint(f[28:40], 10, 64)
				h.count++
			}
		case net == "207" || net == "202":
			if net == "202" && fmt.Sprint(h.items) != fmt.Sprint(want) {
				h.t.Errorf("items %v, want %v", h.items, want)
			}
			if n, _ := strconv.Atoi(f); n != h.count {
				a.SetText(39, "95")
				h.items, h.count, h.answers = map[string]uint64{}, 0, map[string][]byte{}
				return
			}
			h.batch++
			h.closed = false
			a.SetText(60, fmt.Sprintf("00%06d%s", h.batch, net))
		default:
			h.count++
		}
	}, false)
}

// under reads a PIN block under the PIN key.
func under(block []byte, pan string) string {
	clear := iso9797.TDESDecryptECB(pik[:], block)
	return must(poskey.ParsePIN(poskey.WithPAN, [8]byte(clear), pan))
}
