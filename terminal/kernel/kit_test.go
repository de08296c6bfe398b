package kernel_test

import (
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/tlv"
	"koala/terminal/kernel"
)

const (
	number = "6228000100001117"
	aid    = "\xA0\x00\x00\x03\x33\x01\x01\x01"
)

var noon = time.Date(2027, 3, 1, 4, 0, 0, 0, time.UTC) // twelve o'clock in Beijing

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// keys is our own chain: CA 1408 bits, issuer 1152, card 1024, made once.
var keys = sync.OnceValue(func() (k struct{ ca, issuer, card, other *emv.PrivateKey }) {
	random := rand.NewChaCha8([32]byte{7})
	for _, x := range []struct {
		key  **emv.PrivateKey
		bits int
	}{{&k.ca, 1408}, {&k.issuer, 1152}, {&k.card, 1024}, {&k.other, 1024}} {
		made, err := emv.GenerateKey(random, x.bits, 3)
		if err != nil {
			panic(err)
		}
		*x.key = made
	}
	return k
})

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func object(tag tlv.Tag, v []byte) []byte { return tlv.Append(nil, tag, v) }

func join(parts ...[]byte) (out []byte) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// A paper is a card made of answers: what it says is set by each test, its
// signatures are real.
type paper struct {
	noDir    bool
	label    string
	kernelID []byte
	pan      string
	expiry   string
	caIndex  byte
	aip      string
	kind     byte // what it decides at GPO (contactless) or wants at most (contact)
	ctq      string
	version  byte // fDDA version it makes
	fci      []byte
	extra    []byte // objects added to the GPO answer
	last     []byte // content of the last record
	iadHead  string
	sign     *emv.PrivateKey
	spoil    func(id emv.RecordID, data []byte) []byte
	answer   func(c iso7816.Command, n int) (iso7816.Response, bool) // overrides the n-th command
	leave    int                                                     // leaves at the n-th command
	lose     int                                                     // the n-th answer is lost, the card stays
	cdol1    string
	cvmList  string
	more     []byte // objects added to the first record
	pin      string
	hostOK   []byte // EXTERNAL AUTHENTICATE data it takes

	atc       uint16
	committed []uint16 // ATCs of approvals committed
	log       [][]byte
	amounts   [][]byte
	n         int
	gacs      int
	selected  bool
	values    emv.Values
	answers   map[string][]byte
	scripts   []iso7816.Command
	records   map[emv.RecordID][]byte
	afl       emv.AFL
	pdolSent  []byte
}

const (
	tapPDOL    = "9F6604 9F0206 9F0306 9F1A02 9505 5F2A02 9A03 9C01 9F3704 9F2103"
	insertPDOL = "9F7A01 9F0206 5F2A02"
	cdol       = "9F0206 9F0306 9F1A02 9505 5F2A02 9A03 9C01 9F3704 9F2103 9F4E14 9F3403"
	logFormat  = "9A03 9F2103 9F0206 9F0306 9F1A02 5F2A02 9F4E14 9C01 9F3602"
)

func newPaper() *paper {
	return &paper{
		label: "PBOC DEBIT", pan: number, expiry: "301231", caIndex: 0xC1, aip: "7C00", kind: emv.TC, ctq: "0000",
		last: object(0x5F28, []byte{0x01, 0x56}), iadHead: "07010103", sign: keys().card, atc: 0x0100, cdol1: cdol,
		cvmList: "0000000000000000 1F00", pin: "1234",
	}
}

// build lays out the records with their certificates.
func (p *paper) build() {
	p.records = map[emv.RecordID][]byte{}
	pan := p.pan
	if len(pan)%2 == 1 {
		pan += "F"
	}
	first := join(object(emv.TagPAN, unhex(pan)), object(emv.TagExpiry, unhex(p.expiry)), object(emv.TagEffective, unhex("200101")),
		object(emv.TagUsage, unhex("FF00")), object(emv.TagPSN, []byte{0x01}), object(emv.TagCDOL1, unhex(p.cdol1)),
		object(emv.TagCDOL2, unhex("8A02 9F0206 9F3704 9505 9B02")), object(emv.TagCVMList, unhex(p.cvmList)),
		object(emv.TagSDATagList, []byte{0x82}), object(emv.TagDDOL, unhex("9F3704")), object(emv.TagCardCurrency, []byte{0x01, 0x56}),
		object(emv.TagIACDefault, unhex("D84000A800")), object(emv.TagIACDenial, unhex("0010000000")), object(emv.TagIACOnline, unhex("D84004F800")), p.more)
	signed := emv.Record{RecordID: emv.RecordID{SFI: 2, Number: 1, ODA: true}, Data: object(emv.TagRecord, first)}
	k := keys()
	static := must(emv.StaticData([]emv.Record{signed}, []byte{0x82}, unhex(p.aip)))
	issuer := must(emv.MakeIssuerCertificate(k.ca, emv.KeyInfo{Owner: "622800", Expiry: [2]byte{0x12, 0x35}, Serial: [3]byte{0, 0, 1}, Key: k.issuer.Public()}))
	card := must(emv.MakeICCCertificate(k.issuer, emv.KeyInfo{Owner: p.pan, Expiry: [2]byte{0x12, 0x35}, Key: k.card.Public()}, static))
	ssad := must(k.issuer.SignStatic([2]byte{0xDA, 0xC0}, static))
	add := func(sfi, n byte, content []byte) {
		p.records[emv.RecordID{SFI: sfi, Number: n}] = object(emv.TagRecord, content)
	}
	add(2, 1, first)
	add(2, 2, join(object(emv.TagCAIndex, []byte{p.caIndex}), object(emv.TagIssuerCert, issuer.Certificate),
		object(emv.TagIssuerRemainder, issuer.Remainder), object(emv.TagIssuerExponent, issuer.Exponent)))
	add(2, 3, join(object(emv.TagICCCert, card.Certificate), object(emv.TagICCRemainder, card.Remainder), object(emv.TagICCExponent, card.Exponent)))
	add(2, 4, object(emv.TagSSAD, ssad))
	p.afl = emv.AFL{{SFI: 2, First: 1, Last: 3, ODA: 1}, {SFI: 3, First: 1, Last: 1}}
	if unhex(p.aip)[0]&0x20 == 0 {
		p.afl[0].Last = 4
	}
	add(3, 1, p.last)
	for id, data := range p.records {
		if p.spoil != nil {
			p.records[id] = p.spoil(id, data)
		}
	}
}

func ok(data []byte) iso7816.Response { return iso7816.Response{Data: data, SW: iso7816.OK} }

func (p *paper) transmit(c iso7816.Command) (iso7816.Response, error) {
	if p.records == nil {
		p.build()
	}
	p.n++
	if p.leave > 0 && p.n >= p.leave {
		return iso7816.Response{}, iso7816.ErrTorn
	}
	r := p.serve(c)
	if p.lose == p.n {
		return iso7816.Response{}, iso7816.ErrTorn
	}
	return r, nil
}

// back brings the card into the field again.
func (p *paper) back() *paper {
	p.n, p.leave, p.lose, p.selected = 0, 0, 0, false
	return p
}

func (p *paper) serve(c iso7816.Command) iso7816.Response {
	if p.answer != nil {
		if r, done := p.answer(c, p.n); done {
			return r
		}
	}
	switch c.INS {
	case iso7816.InsSelect:
		return p.choose(string(c.Data), c.P2)
	case 0xA8:
		return p.options(c.Data)
	case iso7816.InsReadRecord:
		return p.read(c.P1, c.P2>>3)
	case iso7816.InsGetData:
		return p.data(tlv.Tag(c.P1)<<8 | tlv.Tag(c.P2))
	case iso7816.InsInternalAuthenticate:
		return ok(object(emv.TagAnswer1, must(p.sign.SignDDA(p.counter(), c.Data))))
	case iso7816.InsVerify:
		if want := must(emv.PINBlock(p.pin)); string(c.Data) == string(want[:]) {
			return ok(nil)
		}
		return iso7816.Response{SW: iso7816.Tries(2)}
	case iso7816.InsExternalAuthenticate:
		if string(c.Data) == string(p.hostOK) {
			return ok(nil)
		}
		return iso7816.Response{SW: iso7816.SWWarning}
	case 0xAE:
		return p.cryptogram(c)
	case iso7816.InsPutData:
		p.scripts = append(p.scripts, c)
		return ok(nil)
	}
	return iso7816.Response{SW: iso7816.SWInstruction}
}

func (p *paper) counter() []byte { return []byte{byte(p.atc >> 8), byte(p.atc)} }

func (p *paper) choose(name string, p2 byte) iso7816.Response {
	entry := object(emv.TagEntry, join(object(emv.TagAID, []byte(aid)), object(emv.TagLabel, []byte(p.label)), object(emv.TagPriority, []byte{1})))
	if p.kernelID != nil {
		entry = object(emv.TagEntry, join(object(emv.TagAID, []byte(aid)), object(emv.TagKernelID, p.kernelID)))
	}
	switch {
	case name == "2PAY.SYS.DDF01" && !p.noDir:
		return ok(object(emv.TagFCI, join(object(emv.TagDFName, []byte(name)), object(emv.TagFCIProprietary, object(emv.TagFCIDiscretionary, entry)))))
	case name == "1PAY.SYS.DDF01" && !p.noDir:
		p.selected = false
		return ok(object(emv.TagFCI, join(object(emv.TagDFName, []byte(name)), object(emv.TagFCIProprietary, object(emv.TagSFI, []byte{1})))))
	case strings.HasPrefix(aid, name) && p2 == 0:
		p.selected, p.values, p.answers = true, nil, map[string][]byte{}
		p.gacs = 0
		fci := p.fci
		if fci == nil {
			fci = join(object(emv.TagLabel, []byte(p.label)), object(emv.TagPDOL, unhex(tapPDOL)), object(emv.TagFCIDiscretionary, object(emv.TagLogEntry, []byte{0x0B, 0x0A})))
		}
		return ok(object(emv.TagFCI, join(object(emv.TagDFName, []byte(aid)), object(emv.TagFCIProprietary, fci))))
	}
	return iso7816.Response{SW: iso7816.SWFileNotFound}
}

// pdol is what its FCI asks for.
func (p *paper) pdol() emv.DOL {
	if p.fci == nil {
		return must(emv.ParseDOL(unhex(tapPDOL)))
	}
	list, _ := tlv.Find(p.fci, emv.TagPDOL)
	return must(emv.ParseDOL(list))
}

func (p *paper) options(data []byte) iso7816.Response {
	_, sent, _, err := tlv.Next(data)
	values, bad := p.pdol().Split(sent)
	if err != nil || bad != nil || p.values != nil {
		return iso7816.Response{SW: iso7816.SWConditions}
	}
	if p.values = values; values == nil {
		p.values = emv.Values{}
	}
	p.pdolSent = sent
	p.atc++
	ttq, tap := values.Get(emv.TagTTQ)
	if !tap {
		return ok(object(emv.TagAnswer1, join(unhex(p.aip), p.afl.Bytes())))
	}
	kind := p.kind
	if emv.TTQ(ttq).Has(emv.TTQOnline) {
		kind = emv.ARQC
	}
	pan := p.pan + "D" + p.expiry[:4] + "201"
	if len(pan)%2 == 1 {
		pan += "F"
	}
	out := join(object(emv.TagAIP, unhex(p.aip)), object(emv.TagATC, p.counter()), object(emv.TagTrack2, unhex(pan)),
		object(emv.TagIAD, p.iad(kind)), object(emv.TagAC, []byte("CRYPTOGR")), object(emv.TagPSN, []byte{1}), p.extra)
	if p.ctq != "" {
		out = join(out, object(emv.TagCTQ, unhex(p.ctq)))
	}
	if kind != emv.TC {
		return ok(object(emv.TagAnswer2, out))
	}
	f := emv.FastDDA{Version: p.version}
	un, _ := values.Get(emv.TagUN)
	amount, _ := values.Get(emv.TagAmount)
	copy(f.UN[:], un)
	copy(f.Amount[:], amount)
	f.Currency = [2]byte{0x01, 0x56}
	last := p.last
	if p.version == 1 {
		f.CardAuth = join([]byte{1, 9, 9, 9, 9}, unhex(p.ctq), []byte{0})
		last = join(last, object(emv.TagCardAuth, f.CardAuth))
	}
	p.records[emv.RecordID{SFI: 3, Number: 1}] = object(emv.TagRecord, last)
	out = join(out, object(emv.TagAFL, p.afl.Bytes()), object(emv.TagAvailable, unhex("000000005000")),
		object(emv.TagSDAD, must(p.sign.SignFastDDA([2]byte(p.counter()), f))))
	return ok(object(emv.TagAnswer2, out))
}

func (p *paper) iad(kind byte) []byte {
	return join(unhex(p.iadHead), []byte{0x80 | kind>>2, 0, 0, 0x01})
}

func (p *paper) read(n, sfi byte) iso7816.Response {
	if !p.selected && sfi == 1 {
		if n > 1 {
			return iso7816.Response{SW: iso7816.SWRecordNotFound}
		}
		return ok(object(emv.TagRecord, object(emv.TagEntry, join(object(emv.TagAID, []byte(aid)), object(emv.TagLabel, []byte(p.label)), object(emv.TagPriority, []byte{1})))))
	}
	if sfi == 0x0B {
		if int(n) > len(p.log) {
			return iso7816.Response{SW: iso7816.SWRecordNotFound}
		}
		return ok(p.log[len(p.log)-int(n)])
	}
	data, there := p.records[emv.RecordID{SFI: sfi, Number: n}]
	if !there {
		return iso7816.Response{SW: iso7816.SWRecordNotFound}
	}
	if _, tap := p.values.Get(emv.TagTTQ); tap && sfi == 3 && p.kind == emv.TC {
		p.commit()
	}
	return ok(data)
}

// commit writes the log, once for a transaction.
func (p *paper) commit() {
	if len(p.committed) > 0 && p.committed[len(p.committed)-1] == p.atc {
		return
	}
	p.committed = append(p.committed, p.atc)
	get := func(tag tlv.Tag) []byte {
		if tag == emv.TagATC {
			return p.counter()
		}
		v, _ := p.values.Get(tag)
		return v
	}
	p.log = append(p.log, must(emv.ParseDOL(unhex(logFormat))).Append(nil, get))
}

func (p *paper) data(tag tlv.Tag) iso7816.Response {
	switch tag {
	case emv.TagATC:
		return ok(object(tag, p.counter()))
	case emv.TagLastOnlineATC:
		return ok(object(tag, []byte{0, 1}))
	case emv.TagLogFormat:
		return ok(object(tag, unhex(logFormat)))
	case emv.TagPINTries:
		return ok(object(tag, []byte{3}))
	}
	return iso7816.Response{SW: iso7816.SWReferenceNotFound}
}

// cryptogram answers GENERATE AC: it gives what it is asked for, down to kind.
func (p *paper) cryptogram(c iso7816.Command) iso7816.Response {
	list := unhex(p.cdol1)
	if p.gacs++; p.gacs > 2 {
		return iso7816.Response{SW: iso7816.SWConditions}
	} else if p.gacs == 2 {
		list = unhex("8A02 9F0206 9F3704 9505 9B02")
	}
	values, err := must(emv.ParseDOL(list)).Split(c.Data)
	if err != nil {
		return iso7816.Response{SW: iso7816.SWLength}
	}
	kind := c.P1 & 0xC0
	switch {
	case p.gacs == 2 && kind == emv.TC, kind == p.kind, kind == emv.AAC:
	case kind == emv.TC, p.kind == emv.AAC:
		kind = p.kind
	}
	if kind == emv.TC && p.gacs == 1 {
		p.values = append(values, p.values...)
		p.commit()
	}
	p.amounts = append(p.amounts, c.Data)
	plain := join([]byte{kind}, p.counter(), []byte("CRYPTOGR"), p.iad(kind))
	if c.P1&emv.RequestCDA == 0 || kind == emv.AAC {
		return ok(object(emv.TagAnswer1, plain))
	}
	response := join(object(emv.TagCID, []byte{kind}), object(emv.TagATC, p.counter()), object(emv.TagIAD, p.iad(kind)))
	first, second := c.Data, []byte(nil)
	if p.gacs == 2 {
		first, second = p.amounts[len(p.amounts)-2], c.Data
	}
	un, _ := values.Get(emv.TagUN)
	data := must(emv.TransactionData(p.pdolSent, first, second, response))
	sdad := must(p.sign.SignCDA(emv.CDA{Number: p.counter(), CID: kind, AC: [8]byte([]byte("CRYPTOGR"))}, [4]byte(un), data))
	return ok(object(emv.TagAnswer2, join(response, object(emv.TagSDAD, sdad))))
}

// config is a terminal in Beijing.
func config() kernel.Config {
	app := kernel.Application{
		AID: []byte(aid)[:5], Scheme: kernel.QuickPass, Version: [2]byte{0x00, 0x30},
		TapLimit: 1000_00, FloorLimit: 500_00, CVMLimit: 300_00,
		ContactFloor: 500_00, TACDefault: [5]byte(unhex("D84000A800")), TACDenial: [5]byte(unhex("0010000000")), TACOnline: [5]byte(unhex("D84004F800")),
		DDOL: unhex("9F3704"), TDOL: unhex("9F0206"),
	}
	return kernel.Config{
		Applications: []kernel.Application{app}, Keys: []emv.CAKey{emv.NewCAKey([5]byte([]byte(aid)), 0xC1, keys().ca.Public())},
		Country: 156, Currency: 156, Exponent: 2, Type: 0x22, Capabilities: [3]byte(unhex("E0F8C8")), MoreCapabilities: [5]byte(unhex("6000F0A001")),
		TTQ: [4]byte(unhex("36000080")), TerminalID: "30008900", MerchantID: "898110058120001", MerchantName: "KOALA TEAHOUSE", Category: 5814, Serial: "KOALA001",
	}
}

func sale(fen uint64) kernel.Transaction {
	return kernel.Transaction{Fen: fen, At: noon, Unpredictable: [4]byte{0x1E, 0x78, 0xEE, 0xBC}, Random: 99, Sequence: 42}
}

func newKernel(t testing.TB, change ...func(*kernel.Config)) *kernel.Kernel {
	t.Helper()
	cfg := config()
	for _, f := range change {
		f(&cfg)
	}
	k, err := kernel.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func want(t testing.TB, o kernel.Outcome, r kernel.Result, why kernel.Reason) {
	t.Helper()
	if o.Result != r || o.Reason != why {
		t.Fatalf("%v, want %s (%s)", o, r.Words(false), why.Words(false))
	}
}

func tap(t testing.TB, k *kernel.Kernel, p *paper, fen uint64, s kernel.Seams) kernel.Outcome {
	t.Helper()
	o, err := k.Tap(p.transmit, sale(fen), s)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func insert(t testing.TB, k *kernel.Kernel, p *paper, fen uint64, s kernel.Seams) kernel.Outcome {
	t.Helper()
	o, err := k.Insert(p.transmit, sale(fen), s)
	if err != nil {
		t.Fatal(err)
	}
	return o
}
