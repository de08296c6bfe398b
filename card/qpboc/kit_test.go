package qpboc

import (
	"encoding/hex"
	"strings"

	"koala/card"
	"koala/card/cardtest"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

const debitAID = card.AID(pboc.AIDDebit)

// Card keys of the published card, CARD 6.4 #1.
var (
	keyAC   = key16("014D996FCC8F49157DC8B49E3BCDFD99")
	keyMAC  = key16("4189345AD478091860D3586478D14AB1")
	keyENC  = key16("36B13B54CA7B3D35122CAEA263B7FC1B")
	keyOpen = key16("404142434445464748494A4B4C4D4E4F")
	keyRec  = key16("11223344556677888877665544332211")
)

// Private keys of 1024 and 1152 bits, exponent 3, made once.
var (
	rsa1024 = rsaKey(
		"EC0CF22B1265B69794260C4288F1D6E99946BFC0778CD82AC47B80EC56815A90FD67177A89F47A8BEECE4D82CFC84DED58E8862AFAC82C8210F660E1B7050F7F",
		"D3EB94F1FF43825FD29112FF98208512E1DCCBD3154C3C5D6B2FCEFAD222A43DF987D7D0F037F381885512C52C3271B6DC35A7071EBC633E40361BE62801EEED")
	rsa1152 = rsaKey(
		"CBD52FB43FBE5DF9E4AB2FE7E45A06A25FDF2F9D6B32049A21EA5DAFE6D002CE8676F6DCA6EB74B968AF24316884CA0F599A2EE9C973C3DFD4F2E939846E474BF1DF5480AF4E7369",
		"C891E20C9A6A98DBEB0C9F6288FAD457CEAC278C91EA45BD55A1F4459D37A05DD179615387ECD461C23833CA34CD630B065ADA380676728B135E709A6135F2FAC56C60EEFF124B67")
)

func rsaKey(p, q string) *emv.PrivateKey {
	k, err := emv.NewPrivateKey(unhex(p), unhex(q), []byte{3})
	if err != nil {
		panic(err)
	}
	return k
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

func key16(s string) [16]byte { return [16]byte(unhex(s)) }

// bus is the industry record of a transit operator as it is issued.
var bus = pboc.Bus{Valid: 1}.Bytes()

const (
	busSFI   = 0x15
	trailSFI = 0x16
)

// issued is a debit card with e-cash and the transit extension; change alters it
// before it is laid out.
func issued(change ...func(*pboc.Card)) pboc.Card {
	pin, _ := emv.PINBlock("1234")
	c := pboc.Card{
		Label: "PBOC DEBIT", Priority: 1, PAN: "6228000100001", PSN: 1, Effective: [3]byte{0x24, 1, 1}, Expiry: [3]byte{0x34, 0x12, 0x31}, Service: "220",
		Name: "WANG/XIAOMING", Country: [2]byte{1, 0x56}, Currency: [2]byte{1, 0x56}, AIP: [2]byte{0x7D, 0},
		DKI: 1, CVN: pboc.CVN01, Alg: pboc.TripleDES, Report: pboc.ReportBalance, AC: keyAC, MAC: keyMAC, ENC: keyENC,
		CA: 0x80, IssuerCertificate: make([]byte, 176), IssuerRemainder: make([]byte, 4), IssuerExponent: []byte{3},
		ICCCertificate: make([]byte, 144), ICCRemainder: make([]byte, 26), ICCExponent: []byte{3}, Private: rsa1024.CRT(), Version1: true,
		PIN: pin[:], PINLimit: 3, Processing: pboc.ProcECash | pboc.ProcAvailable | pboc.ProcLog | pboc.ProcSignature | pboc.ProcOnlinePIN,
		Balance: 100_00, BalanceLimit: 1000_00, SingleLimit: 1000_00, CVMLimit: 300_00, TotalLimit: 500_00,
		Support: pboc.SupportFull | pboc.SupportRMAC, OffsetLimit: 20_00,
		Files: []pboc.File{
			{SFI: busSFI, Kind: pboc.Variable, MaxRecord: 128, Size: 5 * 128, Key: keyOpen},
			{SFI: trailSFI, Kind: pboc.Cyclic, MaxRecord: 16, Size: 3 * 16, Key: keyOpen},
		},
		Opened: []pboc.Opened{{SFI: busSFI, Number: 1, Key: keyRec, Data: bus}},
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

// A bench is an element with one payment card on it, and the terminal's values.
type bench struct {
	t     cardtest.T
	e     *cardtest.Element
	self  card.ID
	iface card.Interface
	term  map[tlv.Tag][]byte
	fci   []byte
	pdol  []byte // values of the last GPO
	cdol1 []byte
}

func newBench(t cardtest.T, c pboc.Card) *bench {
	t.Helper()
	return personalised(t, c.Personalisation())
}

func personalised(t cardtest.T, p pboc.Personalisation) *bench {
	t.Helper()
	b := blank(t)
	for _, g := range p.DGIs() {
		b.e.Store(b.self, g.ID, g.Data)
	}
	b.tap()
	return b
}

// blank is an element with an instance that nobody has personalised.
func blank(t cardtest.T) *bench {
	t.Helper()
	b := &bench{t: t, term: map[tlv.Tag][]byte{
		emv.TagTTQ: unhex("36000080"), emv.TagAmount: amount(1), emv.TagAmountOther: amount(0), emv.TagTerminalCountry: unhex("0156"),
		emv.TagTVR: make([]byte, 5), emv.TagCurrency: unhex("0156"), emv.TagDate: unhex("241229"), emv.TagType: {0}, emv.TagUN: unhex("1E78EEBC"),
		emv.TagTime: unhex("141740"), emv.TagMerchantName: []byte("BEIJING SUBWAY      "), emv.TagARC: []byte("00"),
	}}
	b.e = cardtest.New(t, card.Config{}, cardtest.Modules{debitAID: Module()})
	b.self = b.e.Install(card.Entry{AID: debitAID})
	return b
}

// own runs work on the applet's memory.
func (b *bench) own(work func(a *applet, s *card.Session)) {
	b.t.Helper()
	b.e.Work(func(s *card.Session) iso7816.SW {
		own := *s
		own.Self = b.self
		a := &applet{keys: newKeyring()}
		a.open(&own)
		work(a, &own)
		return iso7816.OK
	})
}

// memory is everything the card remembers that a transaction may change.
func (b *bench) memory() (out string) {
	b.t.Helper()
	b.own(func(a *applet, s *card.Session) {
		for _, tag := range []uint16{stateTag, 2, 3, industryTag(busSFI), industryTag(trailSFI), 0x0401} {
			out += string(s.Region(tag).Bytes())
		}
	})
	return out
}

// money is what the card remembers of money, without the transaction counter and
// what a single wrong script leaves.
func (b *bench) money() (x balances, held uint64) {
	b.t.Helper()
	b.own(func(a *applet, s *card.Session) {
		x, held = a.balances(firstECash), a.held()
	})
	return x, held
}

func (b *bench) tap() iso7816.Response {
	b.t.Helper()
	b.e.Power(b.iface)
	return b.choose()
}

// choose selects the card.
func (b *bench) choose() iso7816.Response {
	b.t.Helper()
	r := b.send(iso7816.Select([]byte(debitAID)))
	if len(r.Data) > 0 {
		b.fci = r.Data
	}
	return r
}

func (b *bench) insert() iso7816.Response {
	b.t.Helper()
	b.iface = card.Contact
	return b.tap()
}

func (b *bench) send(c iso7816.Command) iso7816.Response {
	b.t.Helper()
	return b.e.Send(c)
}

func (b *bench) raw(s string) iso7816.Response {
	b.t.Helper()
	c, err := iso7816.ParseCommand(unhex(s))
	if err != nil {
		b.t.Fatalf("%s: %v", s, err)
	}
	return b.send(c)
}

func (b *bench) want(sw iso7816.SW, r iso7816.Response) iso7816.Response {
	b.t.Helper()
	if r.SW != sw {
		b.t.Errorf("%v, want %v", r.SW, sw)
	}
	return r
}

func amount(fen uint64) []byte {
	b := pboc.Amount(fen)
	return b[:]
}

func (b *bench) set(tag tlv.Tag, v []byte) *bench {
	b.term[tag] = v
	return b
}

func (b *bench) list(raw []byte) []byte {
	list, err := emv.ParseDOL(raw)
	if err != nil {
		b.t.Fatalf("list: %v", err)
	}
	return list.Append(nil, func(tag tlv.Tag) []byte { return b.term[tag] })
}

// gpoCommand is GET PROCESSING OPTIONS with the terminal's values.
func (b *bench) gpoCommand() iso7816.Command {
	dol, _ := tlv.Find(b.fci, emv.TagPDOL)
	b.pdol = b.list(dol)
	return iso7816.Command{CLA: 0x80, INS: pboc.InsGPO, Data: tlv.Append(nil, emv.TagCommand, b.pdol)}
}

func (b *bench) gpo() iso7816.Response {
	b.t.Helper()
	return b.send(b.gpoCommand())
}

// value finds an object in an answer.
func value(r iso7816.Response, tag tlv.Tag) []byte {
	v, _ := tlv.Find(r.Data, tag)
	return v
}

func iadOf(t cardtest.T, r iso7816.Response) pboc.IAD {
	t.Helper()
	x, err := pboc.ParseIAD(value(r, emv.TagIAD))
	if err != nil {
		t.Fatalf("%v: %v", r, err)
	}
	return x
}

// tags lists the tags of a template in order.
func tags(r iso7816.Response) string {
	var out []string
	_, body, _, _ := tlv.Next(r.Data)
	for len(body) > 0 {
		tag, _, rest, err := tlv.Next(body)
		if err != nil {
			return "?"
		}
		out, body = append(out, tag.String()), rest
	}
	return strings.Join(out, " ")
}

// records reads what the file locator names and gives the last answer.
func (b *bench) records(aflRaw []byte) (last iso7816.Response) {
	b.t.Helper()
	afl, err := emv.ParseAFL(aflRaw)
	if err != nil {
		b.t.Fatalf("AFL: %v", err)
	}
	for _, r := range afl.Records() {
		last = b.send(iso7816.ReadRecord(r.Number, r.SFI, 0))
	}
	return last
}

// pay is a whole contactless payment, from SELECT on.
func (b *bench) pay(fen uint64) (gpo, last iso7816.Response) {
	b.t.Helper()
	b.tap()
	b.set(emv.TagAmount, amount(fen))
	gpo = b.gpo()
	if afl := value(gpo, emv.TagAFL); afl != nil {
		last = b.records(afl)
	}
	return gpo, last
}

func (b *bench) data(tag tlv.Tag) []byte {
	b.t.Helper()
	r := b.send(iso7816.Command{CLA: 0x80, INS: iso7816.InsGetData, P1: byte(tag >> 8), P2: byte(tag)})
	if !r.SW.OK() {
		return nil
	}
	return value(r, tag)
}

func (b *bench) fen(tag tlv.Tag) uint64 {
	b.t.Helper()
	v, err := pboc.ParseAmount(b.data(tag))
	if err != nil {
		b.t.Fatalf("%v: %v", tag, err)
	}
	return v
}

func (b *bench) atc() uint16 {
	b.t.Helper()
	v := b.data(emv.TagATC)
	return uint16(v[0])<<8 | uint16(v[1])
}

// ride caches the industry record with a new status, as a gate does.
func (b *bench) ride(key [16]byte, rec []byte) iso7816.Response {
	b.t.Helper()
	return b.send(pboc.UpdateCAPP(pboc.NewKey(pboc.TripleDES, key), busSFI, rec, b.atcNow()))
}

// atcNow asks the card's memory, since GET DATA would close the cache.
func (b *bench) atcNow() uint16 {
	var n uint16
	m := b.e.Memory().Region(b.self, stateTag)
	n = m.Uint16(atATC)
	return n
}
