package pos_test

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
	"koala/spec/pboc"
	"koala/spec/purse"
	"koala/spec/tlv"
	"koala/terminal"
	"koala/terminal/kernel"
	"koala/terminal/pos"
	"koala/terminal/terminaltest"
)

const (
	number  = "6228000100001117"
	caIndex = 0xC1
)

var (
	noon   = time.Date(2027, 3, 1, 4, 0, 0, 0, time.UTC) // twelve o'clock in Beijing
	keyAC  = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	keyMAC = [16]byte{2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	keyENC = [16]byte{3, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	openAC = pboc.NewKey(pboc.TripleDES, keyAC)
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

var house = cardtest.Modules{
	pboc.AIDDebit:      qpboc.Module(),
	directory.PPSEName: directory.PPSE(),
	directory.PSEName:  directory.PSE(),
}

// A purchaser is somebody with a card.
type purchaser struct {
	t testing.TB
	e *cardtest.Element
	c pboc.Card
}

// issue makes a card with 100 yuan of e-cash, certified by our CA.
func issue(t testing.TB, change ...func(*pboc.Card)) *purchaser {
	t.Helper()
	return written(t, certified(change...))
}

// certified is a card with its chain, on paper.
func certified(change ...func(*pboc.Card)) pboc.Card {
	c := pboc.Card{
		Label: "KOALA E-CASH", Priority: 1, PAN: number, PSN: 1, Effective: [3]byte{0x24, 1, 1}, Expiry: [3]byte{0x34, 0x12, 0x31}, Service: "220",
		Country: [2]byte{1, 0x56}, Currency: [2]byte{1, 0x56}, AIP: [2]byte{0x7C, 0}, DKI: 1, CVN: pboc.CVN01, Alg: pboc.TripleDES,
		Report: pboc.ReportBalance, AC: keyAC, MAC: keyMAC, ENC: keyENC, CA: caIndex,
		Processing: pboc.ProcECash | pboc.ProcAvailable | pboc.ProcLog | pboc.ProcSignature,
		Balance:    100_00, BalanceLimit: 1000_00, SingleLimit: 500_00, CVMLimit: 300_00,
	}
	for _, f := range change {
		f(&c)
	}
	k := keys()
	issuer := must(emv.MakeIssuerCertificate(k.ca, emv.KeyInfo{Owner: "622800", Expiry: [2]byte{0x12, 0x35}, Serial: [3]byte{0, 0, 1}, Key: k.issuer.Public()}))
	icc := must(emv.MakeICCCertificate(k.issuer, emv.KeyInfo{Owner: c.PAN, Expiry: [2]byte{0x12, 0x35}, Key: k.card.Public()}, c.Static()))
	c.IssuerCertificate, c.IssuerRemainder, c.IssuerExponent = issuer.Certificate, issuer.Remainder, issuer.Exponent
	c.ICCCertificate, c.ICCRemainder, c.ICCExponent = icc.Certificate, icc.Remainder, icc.Exponent
	c.Private = k.card.CRT()
	return c
}

// written is an element with the card.
func written(t testing.TB, c pboc.Card) *purchaser {
	t.Helper()
	e := cardtest.New(t, card.Config{Rand: clock.Random(3)}, house)
	e.Install(card.Entry{AID: directory.PPSEName})
	e.Install(card.Entry{AID: directory.PSEName})
	id := e.Install(card.Entry{AID: pboc.AIDDebit})
	for _, g := range c.Personalisation().DGIs() {
		e.Store(id, g.ID, g.Data)
	}
	return &purchaser{t, e, c}
}

// present powers the card and gives its contact. A card whose power-on is cut
// does not answer.
func (p *purchaser) present(i card.Interface) iso7816.Transmit {
	if err := p.e.PowerOn(i); err != nil {
		return func(iso7816.Command) (iso7816.Response, error) { return iso7816.Response{}, iso7816.ErrTorn }
	}
	return p.e.Transmit
}

// holds reads the e-cash without a till.
func (p *purchaser) holds() uint64 {
	p.t.Helper()
	p.e.Mend()
	p.e.Power(card.Contactless)
	defer p.e.PowerOff()
	p.e.Ask(iso7816.Select([]byte(pboc.AIDDebit)))
	v, _ := tlv.Find(p.e.Ask(iso7816.Command{CLA: 0x80, INS: iso7816.InsGetData, P1: 0x9F, P2: 0x79}), emv.TagECBalance)
	return must(pboc.ParseAmount(v))
}

// A bank answers requests: it checks the cryptogram and loads e-cash.
type bank struct {
	arc     string
	silent  bool
	load    func(c iso7816.Command) iso7816.Command // alters the script on its way; nil: as it is
	asked   [][]byte
	refused int
}

var errLine = errors.New("no line")

func (b *bank) answer(request []byte) (kernel.Answer, error) {
	b.asked = append(b.asked, request)
	if b.silent {
		return kernel.Answer{}, errLine
	}
	get := func(tag tlv.Tag) []byte { v, _ := tlv.Find(request, tag); return v }
	atc := uint16(get(emv.TagATC)[0])<<8 | uint16(get(emv.TagATC)[1])
	iad := must(pboc.ParseIAD(get(emv.TagIAD)))
	data := must(pboc.ACData(iad.CVN, pboc.Transaction{
		Amount: [6]byte(get(emv.TagAmount)), Other: [6]byte(get(emv.TagAmountOther)), Country: [2]byte(get(emv.TagTerminalCountry)),
		TVR: [5]byte(get(emv.TagTVR)), Currency: [2]byte(get(emv.TagCurrency)), Date: [3]byte(get(emv.TagDate)),
		Type: get(emv.TagType)[0], Unpredictable: [4]byte(get(emv.TagUN)),
	}, [2]byte(get(emv.TagAIP)), atc, iad.CVR))
	arqc := [8]byte(get(emv.TagAC))
	if openAC.Session(atc).MAC(nil, data) != arqc || !iad.Verify(pboc.NewKey(pboc.TripleDES, keyMAC).Session(atc), atc) {
		b.refused++
		return kernel.Answer{ARC: "05"}, nil
	}
	arpc := openAC.Session(atc).ARPC(arqc, [2]byte([]byte(b.arc)))
	out := tlv.Append(nil, emv.TagIssuerAuth, append(arpc[:], b.arc...))
	if get(emv.TagType)[0] == pos.Load && b.arc == "00" {
		fen := must(pboc.ParseAmount(get(emv.TagAmount))) + iad.Amounts[0]
		c := pboc.NewKey(pboc.TripleDES, keyMAC).Session(atc).Protect(pboc.PutBalance(fen), atc, arqc)
		if b.load != nil {
			c = b.load(c)
		}
		out = tlv.Append(out, emv.TagScript2, tlv.Append(nil, emv.TagScriptCommand, c.Bytes()))
	}
	return kernel.Answer{ARC: b.arc, Data: out}, nil
}

// A shop is a till with its power and its bank.
type shop struct {
	t    testing.TB
	now  *clock.Virtual
	cfg  pos.Config
	till *pos.Till
	bank *bank
}

func newShop(t testing.TB, change ...func(*pos.Config)) *shop {
	t.Helper()
	s := &shop{t: t, now: clock.NewVirtual(noon), bank: &bank{arc: "00"}}
	s.cfg = pos.Config{
		Kernel: pos.Beijing(
			pos.Shop{TID: "30008900", MID: "898110058120001", Name: "KOALA TEAHOUSE", Category: 5814, Serial: "KOALA001"},
			append(emv.CAKeys(), emv.NewCAKey([5]byte([]byte(pboc.RID)), caIndex, keys().ca.Public())),
		),
		Clock: s.now, Random: clock.Random(5), Key: terminaltest.Public,
		Sales: terminal.NewFlash(8), Denied: terminal.NewFlash(2), State: terminal.NewFlash(2), Issuer: s.bank.answer,
	}
	for _, f := range change {
		f(&s.cfg)
	}
	s.boot()
	return s
}

// boot gives the till power and starts it.
func (s *shop) boot() {
	s.t.Helper()
	for _, f := range []*terminal.Flash{s.cfg.Sales, s.cfg.Denied, s.cfg.State} {
		f.PowerOn()
	}
	var err error
	if s.till, err = pos.New(s.cfg); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) tap(p *purchaser, fen uint64) pos.Result {
	s.t.Helper()
	r, err := s.till.Tap(p.present(card.Contactless), pos.Sale{Fen: fen})
	if err != nil {
		s.t.Fatal(err)
	}
	p.e.PowerOff()
	return r
}

func (s *shop) insert(p *purchaser, fen uint64) pos.Result {
	s.t.Helper()
	r, err := s.till.Insert(p.present(card.Contact), pos.Sale{Fen: fen})
	if err != nil {
		s.t.Fatal(err)
	}
	p.e.PowerOff()
	return r
}

func want(t testing.TB, o kernel.Outcome, r kernel.Result, why kernel.Reason) {
	t.Helper()
	if o.Result != r || o.Reason != why {
		t.Fatalf("%v, want %s (%s)", o, r.Words(false), why.Words(false))
	}
}

// deny puts a card on the exception list by a signed delta.
func (s *shop) deny(pan string) {
	s.t.Helper()
	d := purse.DenyDelta{From: s.till.Deny().Version(), To: s.till.Deny().Version() + 1, At: noon,
		Changes: []purse.Denial{{Card: must(purse.ParseNumber(pan)), Reason: purse.DenyLost}}}
	text := must(d.Bytes())
	if err := s.till.Deny().Apply(terminaltest.Sign(text)); err != nil {
		s.t.Fatal(err)
	}
}
