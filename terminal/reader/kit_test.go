package reader_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"koala/card"
	"koala/card/cardtest"
	"koala/card/directory"
	"koala/card/qpboc"
	"koala/internal/clock"
	"koala/spec/dukpt"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/iso8583"
	"koala/spec/iso9797"
	"koala/spec/pboc"
	"koala/spec/poskey"
	"koala/spec/tlv"
	"koala/terminal"
	"koala/terminal/pos"
	"koala/terminal/reader"
	"koala/terminal/terminaltest"
	"koala/terminal/unionpay"
)

const (
	tid    = "10010001"
	mid    = "898110058120001"
	number = "6228000100001117"
	pan    = "6228880100000000178"
	stripe = pan + "D2509101000000000"
)

var (
	noon  = time.Date(2027, 3, 1, 4, 0, 0, 0, time.UTC)
	keyAC = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	base  = [16]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10}
	ksn   = dukpt.KSN{0xFF, 0xFF, 0x98, 0x76, 0x54, 0x32, 0x10, 0xE0, 0x00, 0x00}
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var keys = sync.OnceValue(func() (k struct{ ca, issuer, card *emv.PrivateKey }) {
	random := clock.Random(7)
	k.ca = must(emv.GenerateKey(random, 1408, 3))
	k.issuer = must(emv.GenerateKey(random, 1152, 3))
	k.card = must(emv.GenerateKey(random, 1024, 3))
	return k
})

func chip(t testing.TB, change ...func(*pboc.Card)) *cardtest.Element {
	t.Helper()
	c := pboc.Card{
		Label: "KOALA DEBIT", Priority: 1, PAN: number, PSN: 1, Effective: [3]byte{0x24, 1, 1}, Expiry: [3]byte{0x34, 0x12, 0x31}, Service: "220",
		Country: [2]byte{1, 0x56}, Currency: [2]byte{1, 0x56}, AIP: [2]byte{0x7C, 0}, DKI: 1, CVN: pboc.CVN01, Alg: pboc.TripleDES,
		Report: pboc.ReportBalance, AC: keyAC, MAC: keyAC, ENC: keyAC, CA: 0xC1,
		Processing: pboc.ProcECash | pboc.ProcAvailable | pboc.ProcLog | pboc.ProcSignature,
		Balance:    100_00, BalanceLimit: 1000_00, SingleLimit: 500_00, CVMLimit: 300_00,
	}
	for _, f := range change {
		f(&c)
	}
	k := keys()
	issuer := must(emv.MakeIssuerCertificate(k.ca, emv.KeyInfo{Owner: c.PAN[:6], Expiry: [2]byte{0x12, 0x35}, Serial: [3]byte{0, 0, 1}, Key: k.issuer.Public()}))
	icc := must(emv.MakeICCCertificate(k.issuer, emv.KeyInfo{Owner: c.PAN, Expiry: [2]byte{0x12, 0x35}, Key: k.card.Public()}, c.Static()))
	c.IssuerCertificate, c.IssuerRemainder, c.IssuerExponent = issuer.Certificate, issuer.Remainder, issuer.Exponent
	c.ICCCertificate, c.ICCRemainder, c.ICCExponent = icc.Certificate, icc.Remainder, icc.Exponent
	c.Private = k.card.CRT()
	e := cardtest.New(t, card.Config{Rand: clock.Random(3)}, cardtest.Modules{pboc.AIDDebit: qpboc.Module(), directory.PPSEName: directory.PPSE(), directory.PSEName: directory.PSE()})
	e.Install(card.Entry{AID: directory.PPSEName})
	e.Install(card.Entry{AID: directory.PSEName})
	id := e.Install(card.Entry{AID: pboc.AIDDebit})
	for _, g := range c.Personalisation().DGIs() {
		e.Store(id, g.ID, g.Data)
	}
	return e
}

// A sale is what the host knows of one transaction.
type sale struct {
	kind     string
	fen      string
	pan      string
	pin      string
	reversed bool
}

// A host has the base key only.
type host struct {
	t     testing.TB
	last  uint32 // counter of the serial number used last
	sales map[string]*sale
	never map[string]bool
	seen  [][]byte
	fault func(n int, answer []byte) ([]byte, error)
	n     int
	batch int
}

var errSilent = errors.New("no answer")

func (h *host) Exchange(request []byte) ([]byte, error) {
	h.n++
	n := h.n
	if h.fault != nil {
		if a, err := h.fault(n, nil); a != nil || err != nil {
			return a, err
		}
		return h.fault(-n, h.handle(request))
	}
	return h.handle(request), nil
}

func (h *host) handle(request []byte) []byte {
	h.seen = append(h.seen, bytes.Clone(request))
	m := new(iso8583.Message)
	if err := m.Unpack(iso8583.UnionPayPOS(), bytes.Clone(request)); err != nil {
		h.t.Fatal(err)
	}
	serial := dukpt.KSN(m.Get(57)[3:])
	key := dukpt.Derive(dukpt.Initial(base, ksn), serial)
	variant := key.MACRequest()
	if serial.Counter() <= h.last || m.Verify(must(iso8583.NewKey(variant[:]))) != nil {
		h.t.Fatalf("serial number %v after %d, or a wrong MAC", serial, h.last)
	}
	h.last = serial.Counter()
	a := new(iso8583.Message)
	if err := a.AnswerTo(m, h.code(m, key)); err != nil {
		h.t.Fatal(err)
	}
	a.SetText(12, "120001")
	a.SetText(13, "0301")
	a.SetText(37, fmt.Sprintf("%012d", h.n))
	a.SetText(38, "A00001")
	a.Set(57, m.Get(57))
	switch net := m.Text(60)[8:11]; {
	case m.IsMTI("0800"):
		a.SetText(60, fmt.Sprintf("00%06d003", h.batch))
	case m.IsMTI("0500"):
		a.SetText(48, m.Text(48)[:30]+"1"+m.Text(48)[31:61]+"1")
	case net == "207":
		h.batch++
		a.SetText(60, fmt.Sprintf("00%06d207", h.batch))
	case m.Has(55) && m.IsMTI("0200"):
		v, _ := tlv.Find(m.Get(55), emv.TagATC)
		ac, _ := tlv.Find(m.Get(55), emv.TagAC)
		arpc := pboc.NewKey(pboc.TripleDES, keyAC).Session(uint16(v[0])<<8|uint16(v[1])).ARPC([8]byte(ac), [2]byte{'0', '0'})
		a.Set(55, tlv.Append(nil, emv.TagIssuerAuth, append(arpc[:], "00"...)))
	}
	back := key.MACResponse()
	return must(a.Seal(nil, must(iso8583.NewKey(back[:]))))
}

// code books and gives field 39.
func (h *host) code(m *iso8583.Message, key dukpt.Key) string {
	name := m.Text(60)[2:8] + "/" + m.Text(11)
	switch m.MTI() {
	case "0400":
		if s := h.sales[name]; s != nil {
			s.reversed = true
		} else {
			h.never[name] = true
		}
	case "0100", "0200":
		if h.never[name] {
			return "12"
		}
		if m.Has(2) || m.Has(35) || m.Has(14) {
			h.t.Error("the card is in clear")
		}
		data := key.DataRequest()
		track := strings.TrimRight(fmt.Sprintf("%X", iso9797.NewTDES(data[:]).DecryptCBC(make([]byte, 8), m.Get(59))), "F")
		s := &sale{kind: m.Text(60)[:2], fen: m.Text(4)}
		s.pan, _, _ = strings.Cut(track, "D")
		if m.Has(52) {
			pin := key.PIN()
			s.pin = must(poskey.ParsePIN(poskey.WithPAN, [8]byte(iso9797.TDESDecryptECB(pin[:], m.Get(52))), s.pan))
		}
		h.sales[name] = s
	}
	return "00"
}

// A stall is a reader, a phone and their host.
type stall struct {
	t       testing.TB
	host    *host
	cfg     reader.Config
	app     unionpay.Config
	reader  *reader.Reader
	phone   *reader.App
	bond    reader.Bond
	next    reader.Presented
	pin     string
	battery int
	radio   func(n int, frame []byte) error // of the n-th frame, negative on its way back
	frames  [][]byte
}

// Exchange is the radio.
func (s *stall) Exchange(frame []byte) ([]byte, error) {
	s.frames = append(s.frames, bytes.Clone(frame))
	n := len(s.frames)
	if s.radio != nil {
		if err := s.radio(n, frame); err != nil {
			return nil, err
		}
	}
	a := s.reader.Handle(frame)
	if err := s.reader.Failure(); err != nil {
		return nil, err
	}
	s.frames[n-1] = append(s.frames[n-1], a...)
	if s.radio != nil {
		if err := s.radio(-n, a); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func newStall(t testing.TB) *stall {
	t.Helper()
	s := &stall{t: t, host: &host{t: t, sales: map[string]*sale{}, never: map[string]bool{}, batch: 3}, pin: "1234", battery: 80, next: reader.Presented{Track2: stripe}}
	kernel := pos.Beijing(pos.Shop{TID: "10010001", MID: "898110058120001", Name: "STALL", Category: 5499, Serial: "READER01"},
		[]emv.CAKey{emv.NewCAKey([5]byte([]byte(pboc.RID)), 0xC1, keys().ca.Public())})
	now := clock.NewVirtual(noon)
	s.cfg = reader.Config{Serial: "READER1", Kernel: kernel, Clock: now, Random: clock.Random(11), Vault: terminal.NewFlash(2), State: terminal.NewFlash(2),
		Slot: func(string, uint64) (reader.Presented, bool) {
			return s.next, s.next.Track2 != "" || s.next.Chip != nil
		},
		PIN:     func(uint64) (string, bool) { return s.pin, s.pin != "" },
		Confirm: func(string) bool { return true },
		Battery: func() int { return s.battery },
	}
	s.app = unionpay.Config{Till: pos.Config{Kernel: kernel, Clock: now, Random: clock.Random(12), Key: terminaltest.Public, Sales: terminal.NewFlash(4), Denied: terminal.NewFlash(2), State: terminal.NewFlash(2)},
		Line: s.host, Journal: terminal.NewFlash(8), State: terminal.NewFlash(2), Packs: terminal.NewFlash(4)}
	s.bootReader()
	if err := s.reader.Inject(dukpt.Initial(base, ksn), ksn); err != nil {
		t.Fatal(err)
	}
	s.bond = must(reader.Pair(s, clock.Random(13), func(string) bool { return true }))
	s.bootPhone()
	return s
}

func (s *stall) bootReader() {
	s.t.Helper()
	s.cfg.Vault.PowerOn()
	s.cfg.State.PowerOn()
	var err error
	if s.reader, err = reader.New(s.cfg); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stall) bootPhone() {
	s.t.Helper()
	for _, f := range []*terminal.Flash{s.app.Journal, s.app.State, s.app.Packs} {
		f.PowerOn()
	}
	var err error
	if s.phone, err = reader.NewApp(s.app, s, s.bond); err != nil {
		s.t.Fatal(err)
	}
}

// present puts a chip into the reader.
func (s *stall) present(e *cardtest.Element, i card.Interface) {
	if err := e.PowerOn(i); err != nil {
		s.t.Fatal(err)
	}
	s.next = reader.Presented{Chip: func(c iso7816.Command) (iso7816.Response, error) { return e.Transmit(c) }, Air: i == card.Contactless}
}

// equal holds the phone's journal against the host.
func (s *stall) equal(where string) {
	s.t.Helper()
	if err := s.phone.Ready(); err != nil {
		s.t.Fatalf("%s: %v", where, err)
	}
	mine, theirs := map[string]bool{}, map[string]bool{}
	for _, e := range s.phone.Entries() {
		mine[e.Name()] = true
	}
	for name, x := range s.host.sales {
		if !x.reversed && x.kind != "01" && name[:6] == fmt.Sprintf("%06d", s.host.batch) {
			theirs[name] = true
		}
	}
	if fmt.Sprint(mine) != fmt.Sprint(theirs) {
		s.t.Fatalf("%s: the phone has %v, the host %v", where, mine, theirs)
	}
}
