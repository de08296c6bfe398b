package unionpay_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"koala/card"
	"koala/card/cardtest"
	"koala/card/directory"
	"koala/card/qpboc"
	"koala/internal/clock"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/iso8583"
	"koala/spec/pboc"
	"koala/spec/poskey"
	"koala/spec/tlv"
	"koala/terminal"
	"koala/terminal/pos"
	"koala/terminal/terminaltest"
	"koala/terminal/unionpay"
)

const (
	tid     = "10010001"
	mid     = "898110058120001"
	number  = "6228000100001117"
	stripe  = "6228880100000000178D2509101000000000" // service code 101: no chip
	chipped = "6228880100000000178D2509201000000000"
	caIndex = 0xC1
)

var (
	noon   = time.Date(2027, 3, 1, 4, 0, 0, 0, time.UTC) // twelve o'clock in Beijing
	keyAC  = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	keyMAC = [16]byte{2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	keyENC = [16]byte{3, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// keys is our own chain, made once.
var keys = sync.OnceValue(func() (k struct{ ca, issuer, card *emv.PrivateKey }) {
	random := clock.Random(7)
	k.ca = must(emv.GenerateKey(random, 1408, 3))
	k.issuer = must(emv.GenerateKey(random, 1152, 3))
	k.card = must(emv.GenerateKey(random, 1024, 3))
	return k
})

// A purchaser has a chip card with 100 yuan of e-cash.
type purchaser struct{ e *cardtest.Element }

func issue(t testing.TB) *purchaser { return issueCard(t, func(*pboc.Card) {}) }

// paper is a card before its certificates.
func paper() pboc.Card {
	return pboc.Card{
		Label: "KOALA E-CASH", Priority: 1, PAN: number, PSN: 1, Effective: [3]byte{0x24, 1, 1}, Expiry: [3]byte{0x34, 0x12, 0x31}, Service: "220",
		Country: [2]byte{1, 0x56}, Currency: [2]byte{1, 0x56}, AIP: [2]byte{0x7C, 0}, DKI: 1, CVN: pboc.CVN01, Alg: pboc.TripleDES,
		Report: pboc.ReportBalance, AC: keyAC, MAC: keyMAC, ENC: keyENC, CA: caIndex,
		Processing: pboc.ProcECash | pboc.ProcAvailable | pboc.ProcLog | pboc.ProcSignature,
		Balance:    100_00, BalanceLimit: 1000_00, SingleLimit: 500_00, CVMLimit: 300_00,
	}
}

// certify adds the chain under the test's authority.
func certify(c *pboc.Card) {
	k := keys()
	issuer := must(emv.MakeIssuerCertificate(k.ca, emv.KeyInfo{Owner: c.PAN[:6], Expiry: [2]byte{0x12, 0x35}, Serial: [3]byte{0, 0, 1}, Key: k.issuer.Public()}))
	icc := must(emv.MakeICCCertificate(k.issuer, emv.KeyInfo{Owner: c.PAN, Expiry: [2]byte{0x12, 0x35}, Key: k.card.Public()}, c.Static()))
	c.IssuerCertificate, c.IssuerRemainder, c.IssuerExponent = issuer.Certificate, issuer.Remainder, issuer.Exponent
	c.ICCCertificate, c.ICCRemainder, c.ICCExponent = icc.Certificate, icc.Remainder, icc.Exponent
	c.Private = k.card.CRT()
}

// issueCard is a chip with its chain.
func issueCard(t testing.TB, change func(*pboc.Card)) *purchaser {
	t.Helper()
	c := paper()
	change(&c)
	certify(&c)
	e := cardtest.New(t, card.Config{Rand: clock.Random(3)}, cardtest.Modules{pboc.AIDDebit: qpboc.Module(), directory.PPSEName: directory.PPSE(), directory.PSEName: directory.PSE()})
	e.Install(card.Entry{AID: directory.PPSEName})
	e.Install(card.Entry{AID: directory.PSEName})
	id := e.Install(card.Entry{AID: pboc.AIDDebit})
	for _, g := range c.Personalisation().DGIs() {
		e.Store(id, g.ID, g.Data)
	}
	return &purchaser{e}
}

func (p *purchaser) present(i card.Interface) iso7816.Transmit {
	if err := p.e.PowerOn(i); err != nil {
		return func(iso7816.Command) (iso7816.Response, error) { return iso7816.Response{}, iso7816.ErrTorn }
	}
	return p.e.Transmit
}

func (p *purchaser) holds() uint64 {
	p.e.Mend()
	p.e.Power(card.Contactless)
	defer p.e.PowerOff()
	p.e.Ask(iso7816.Select([]byte(pboc.AIDDebit)))
	v, _ := tlv.Find(p.e.Ask(iso7816.Command{CLA: 0x80, INS: iso7816.InsGetData, P1: 0x9F, P2: 0x79}), emv.TagECBalance)
	return must(pboc.ParseAmount(v))
}

// issuer is field 55 of an answer: the host's cryptogram and, for a load, the
// script.
func issuer(m *iso8583.Message) []byte {
	request := m.Get(55)
	get := func(tag tlv.Tag) []byte { v, _ := tlv.Find(request, tag); return v }
	atc := uint16(get(emv.TagATC)[0])<<8 | uint16(get(emv.TagATC)[1])
	arqc := [8]byte(get(emv.TagAC))
	arpc := pboc.NewKey(pboc.TripleDES, keyAC).Session(atc).ARPC(arqc, [2]byte{'0', '0'})
	out := tlv.Append(nil, emv.TagIssuerAuth, append(arpc[:], "00"...))
	if get(emv.TagType)[0] == pos.Load {
		fen := must(pboc.ParseAmount(get(emv.TagAmount))) + must(pboc.ParseIAD(get(emv.TagIAD))).Amounts[0]
		c := pboc.NewKey(pboc.TripleDES, keyMAC).Session(atc).Protect(pboc.PutBalance(fen), atc, arqc)
		out = tlv.Append(out, emv.TagScript2, tlv.Append(nil, emv.TagScriptCommand, c.Bytes()))
	}
	return out
}

// A shop is a terminal with its power and its host.
type shop struct {
	t     testing.TB
	host  *host
	cfg   unionpay.Config
	vault *terminal.Flash
	pos   *unionpay.Terminal
	pin   string
}

func newShop(t testing.TB) *shop {
	t.Helper()
	s := &shop{t: t, host: newHost(t), vault: terminal.NewFlash(2)}
	s.host.chip = issuer
	till := pos.Config{
		Kernel: pos.Beijing(pos.Shop{TID: tid, MID: mid, Name: "KOALA TEAHOUSE", Category: 5814, Serial: "KOALA001"},
			[]emv.CAKey{emv.NewCAKey([5]byte([]byte(pboc.RID)), caIndex, keys().ca.Public())}),
		Clock: clock.NewVirtual(noon), Random: clock.Random(5), Key: terminaltest.Public,
		Sales: terminal.NewFlash(8), Denied: terminal.NewFlash(2), State: terminal.NewFlash(2),
	}
	s.cfg = unionpay.Config{Till: till, Line: s.host, Journal: terminal.NewFlash(16), State: terminal.NewFlash(2), Packs: terminal.NewFlash(16),
		PIN: func(uint64) (string, bool) { return s.pin, s.pin != "" }}
	check := poskey.KCV(tmk)
	if err := unionpay.OpenKeystore(s.vault).Inject(tmk[:], check[:]); err != nil {
		t.Fatal(err)
	}
	s.boot()
	return s
}

func (s *shop) flashes() []*terminal.Flash {
	return []*terminal.Flash{s.cfg.Journal, s.cfg.State, s.cfg.Packs, s.cfg.Till.Sales, s.cfg.Till.Denied, s.cfg.Till.State, s.vault}
}

// boot gives the terminal power and starts it.
func (s *shop) boot() {
	s.t.Helper()
	for _, f := range s.flashes() {
		f.PowerOn()
	}
	s.cfg.Keys = unionpay.OpenKeystore(s.vault)
	var err error
	if s.pos, err = unionpay.New(s.cfg); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) do(o unionpay.Order) unionpay.Result {
	s.t.Helper()
	r, err := s.pos.Do(o)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *shop) sell(fen uint64) unionpay.Result {
	s.t.Helper()
	return s.do(unionpay.Order{Kind: unionpay.Sale, Fen: fen, Card: unionpay.Card{Track2: stripe}})
}

func (s *shop) settle() unionpay.Settlement {
	s.t.Helper()
	x, err := s.pos.Settle()
	if err != nil {
		s.t.Fatal(err)
	}
	return x
}

// equal holds what the terminal counts against what the host has booked.
func (s *shop) equal(where string) {
	s.t.Helper()
	if _, _, err := s.pos.Flush(); err != nil && !errors.Is(err, unionpay.ErrSettle) {
		s.t.Fatalf("%s: %v", where, err)
	}
	if list, err := s.pos.Pending(); err != nil || len(list) > 0 {
		s.t.Fatalf("%s: pending %v, %v", where, list, err)
	}
	x := s.pos.Totals()
	mine, _ := s.host.totals()
	if got := totals(x); got != mine && !s.pos.Settling() {
		s.t.Fatalf("%s: the terminal has %s, the host %s\n%v", where, got, mine, s.pos.Entries())
	}
}
