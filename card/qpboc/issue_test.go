package qpboc_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"koala/card"
	"koala/card/cardtest"
	"koala/card/catalog"
	"koala/card/isd"
	"koala/internal/clock"
	"koala/spec/emv"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// A chain is a certification authority, an issuer and a card, small enough to be
// made on the spot.
type chain struct {
	ca, issuer, icc *emv.PrivateKey
}

var pki = func() chain {
	make := func(bits int, seed uint64) *emv.PrivateKey {
		k, err := emv.GenerateKey(clock.Random(seed), bits, 3)
		if err != nil {
			panic(err)
		}
		return k
	}
	return chain{make(1024, 1), make(896, 2), make(768, 3)}
}()

// issued lays out a card and certifies its key over the static data.
func issued(t *testing.T, alg pboc.Algorithm) pboc.Card {
	t.Helper()
	pin, err := emv.PINBlock("2580")
	if err != nil {
		t.Fatal(err)
	}
	c := pboc.Card{
		Label: "PBOC ECASH", Priority: 2, PAN: "6228000100001117", PSN: 0, Effective: [3]byte{0x24, 1, 1}, Expiry: [3]byte{0x34, 0x12, 0x31}, Service: "220",
		Country: [2]byte{1, 0x56}, Currency: [2]byte{1, 0x56}, AIP: [2]byte{0x7C, 0}, DKI: 1, CVN: pboc.CVN17, Alg: alg, Report: pboc.ReportBalance,
		AC: [16]byte{1}, MAC: [16]byte{2}, ENC: [16]byte{3}, CA: 0x80, Private: pki.icc.CRT(), Version1: true, PIN: pin[:], PINLimit: 3,
		Processing: pboc.ProcECash | pboc.ProcAvailable | pboc.ProcLog | pboc.ProcSignature,
		Balance:    20_00, BalanceLimit: 1000_00, Support: pboc.SupportFull, OffsetLimit: 20_00,
		Files:  []pboc.File{{SFI: 0x15, Kind: pboc.Variable, MaxRecord: 128, Size: 512, Key: [16]byte{4}}},
		Opened: []pboc.Opened{{SFI: 0x15, Number: 1, Key: [16]byte{5}, Data: pboc.Bus{Valid: 1}.Bytes()}},
	}
	ic, err := emv.MakeIssuerCertificate(pki.ca, emv.KeyInfo{Owner: "622800", Expiry: [2]byte{0x12, 0x34}, Key: pki.issuer.Public()})
	if err != nil {
		t.Fatal(err)
	}
	cc, err := emv.MakeICCCertificate(pki.issuer, emv.KeyInfo{Owner: c.PAN, Expiry: [2]byte{0x12, 0x34}, Key: pki.icc.Public()}, c.Static())
	if err != nil {
		t.Fatal(err)
	}
	c.IssuerCertificate, c.IssuerRemainder, c.IssuerExponent = ic.Certificate, ic.Remainder, ic.Exponent
	c.ICCCertificate, c.ICCRemainder, c.ICCExponent = cc.Certificate, cc.Remainder, cc.Exponent
	if c.SSAD, err = pki.issuer.SignStatic([2]byte{0xDA, 0xC0}, c.Static()); err != nil {
		t.Fatal(err)
	}
	return c
}

// A manager is the trusted service manager's side of one card.
type manager struct {
	t testing.TB
	e *card.Element
	h *gp.Host
}

func (m *manager) open(level gp.Level) {
	m.t.Helper()
	m.h = cardtest.OpenChannel(m.t, m.e, level)
}

func (m *manager) send(c iso7816.Command) iso7816.Response {
	m.t.Helper()
	r, err := m.e.Transmit(c)
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

// groups enciphers what is secret.
func (m *manager) groups(p pboc.Personalisation) (out []gp.DGI) {
	m.t.Helper()
	for _, g := range p.DGIs() {
		if g.Secret > 0 {
			secret, err := m.h.EncryptKey(g.Data[:g.Secret])
			if err != nil || len(secret) != g.Secret {
				m.t.Fatalf("DGI %04X: %d bytes become %d, %v", g.ID, g.Secret, len(secret), err)
			}
			g.Data = append(secret, g.Data[g.Secret:]...)
		}
		out = append(out, gp.DGI{ID: g.ID, Data: g.Data})
	}
	return out
}

// issue sends what a new card takes, until power fails.
func (m *manager) issue(aid gp.AID, p pboc.Personalisation, install bool) error {
	m.t.Helper()
	store, err := gp.StoreData(m.groups(p), m.h.MaxData())
	if err != nil {
		m.t.Fatal(err)
	}
	list := append([]iso7816.Command{gp.Personalize(aid).Command()}, store...)
	if install {
		list = append([]iso7816.Command{gp.InstallApplet(gp.AID(catalog.PaymentLoadFile), gp.AID(catalog.PaymentModule), aid, gp.Privileges{}, nil).Command()}, list...)
	}
	list = append(list, gp.SetStatus{Part: gp.Applications, State: gp.Personalized, App: aid}.Command())
	return cardtest.Manage(m.t, m.e, m.h, list...)
}

func newManager(t testing.TB, kind gp.KeyType) *manager {
	t.Helper()
	e, err := catalog.New(isd.Config{Type: kind}).NewElement([7]byte{4, 9, 9, 9, 9, 9, 9}, clock.Random(3))
	if err != nil {
		t.Fatal(err)
	}
	return &manager{t: t, e: e}
}

// pay is an offline payment with everything a terminal checks: certificates down
// from the CA, the static data, the signature and the cryptogram.
func (m *manager) pay(c pboc.Card, aid string, fen uint64) {
	t := m.t
	t.Helper()
	if err := m.e.PowerOn(card.Contactless); err != nil {
		t.Fatal(err)
	}
	fci := m.send(iso7816.Select([]byte(aid)))
	raw, _ := tlv.Find(fci.Data, emv.TagPDOL)
	list, err := emv.ParseDOL(raw)
	if err != nil {
		t.Fatalf("%v %v", fci, err)
	}
	x := pboc.Transaction{Amount: pboc.Amount(fen), Country: [2]byte{1, 0x56}, Currency: [2]byte{1, 0x56}, Date: [3]byte{0x24, 0x12, 0x29}, Unpredictable: [4]byte{1, 2, 3, 4}}
	values := map[tlv.Tag][]byte{emv.TagTTQ: unhex("26000080"), emv.TagAmount: x.Amount[:], emv.TagTerminalCountry: x.Country[:],
		emv.TagCurrency: x.Currency[:], emv.TagDate: x.Date[:], emv.TagUN: x.Unpredictable[:]}
	pdol := list.Append(nil, func(tag tlv.Tag) []byte { return values[tag] })
	gpo := m.send(iso7816.Command{CLA: 0x80, INS: pboc.InsGPO, Data: tlv.Append(nil, emv.TagCommand, pdol)})
	objects := map[tlv.Tag][]byte{}
	keep := func(data []byte) {
		_ = tlv.Walk(data, func(_ int, tag tlv.Tag, v []byte) error {
			if !tag.Constructed() && objects[tag] != nil {
				t.Errorf("%v comes twice", tag)
			}
			objects[tag] = v
			return nil
		})
	}
	keep(gpo.Data)
	afl, err := emv.ParseAFL(objects[emv.TagAFL])
	if err != nil {
		t.Fatalf("%v: %v", gpo, err)
	}
	var records []emv.Record
	for _, id := range afl.Records() {
		r := m.send(iso7816.ReadRecord(id.Number, id.SFI, 0))
		keep(r.Data)
		records = append(records, emv.Record{RecordID: id, Data: r.Data})
	}
	static, err := emv.StaticData(records, objects[emv.TagSDATagList], objects[emv.TagAIP])
	if err != nil || !bytes.Equal(static, c.Static()) {
		t.Errorf("static data %X, laid out %X, %v", static, c.Static(), err)
	}
	m.verify(c, x, objects, static)
}

func (m *manager) verify(c pboc.Card, x pboc.Transaction, o map[tlv.Tag][]byte, static []byte) {
	t := m.t
	t.Helper()
	check := emv.Check{PAN: c.PAN, Date: [3]byte{0x26, 0x11, 0x30}}
	ca := emv.NewCAKey([5]byte([]byte(pboc.RID)), c.CA, pki.ca.Public())
	issuer, err := emv.RecoverIssuer(ca, emv.Certificate{Certificate: o[emv.TagIssuerCert], Remainder: o[emv.TagIssuerRemainder], Exponent: o[emv.TagIssuerExponent]}, check)
	if err != nil {
		t.Fatal(err)
	}
	icc, err := emv.RecoverICC(issuer.Key, emv.Certificate{Certificate: o[emv.TagICCCert], Remainder: o[emv.TagICCRemainder], Exponent: o[emv.TagICCExponent]}, static, check)
	if err != nil {
		t.Fatal(err)
	}
	f := emv.FastDDA{Version: 1, UN: x.Unpredictable, Amount: x.Amount, Currency: x.Currency, CardAuth: o[emv.TagCardAuth]}
	if _, err := emv.VerifyFastDDA(icc.Key, o[emv.TagSDAD], f, o[emv.TagATC]); err != nil {
		t.Error(err)
	}
	iad, err := pboc.ParseIAD(o[emv.TagIAD])
	if err != nil {
		t.Fatal(err)
	}
	atc := uint16(o[emv.TagATC][0])<<8 | uint16(o[emv.TagATC][1])
	data, err := pboc.ACData(iad.CVN, x, c.AIP, atc, iad.CVR)
	ac := pboc.NewKey(c.Alg, c.AC).Session(atc).MAC(nil, data)
	if err != nil || !bytes.Equal(ac[:], o[emv.TagAC]) || !iad.Verify(pboc.NewKey(c.Alg, c.MAC).Session(atc), atc) || iad.Alg != c.Alg {
		t.Errorf("cryptogram %X, want %X, %+v %v", o[emv.TagAC], ac, iad, err)
	}
}

// A card comes over the air through either protocol, under either algorithm, and
// pays offline with its certificates.
func TestIssue(t *testing.T) {
	for kind, level := range map[gp.KeyType]gp.Level{gp.DES: 0x03, gp.AES: 0x33} {
		for _, alg := range []pboc.Algorithm{pboc.TripleDES, pboc.SM4} {
			m := newManager(t, kind)
			m.open(level)
			c := issued(t, alg)
			if err := m.issue(pboc.AIDECash, c.Personalisation(), true); err != nil {
				t.Fatal(err)
			}
			m.pay(c, pboc.AIDECash, 7_00)
			b, ok := tlv.Find(m.send(iso7816.Command{CLA: 0x80, INS: iso7816.InsGetData, P1: 0x9F, P2: 0x79}).Data, emv.TagECBalance)
			if fen, err := pboc.ParseAmount(b); !ok || err != nil || fen != 13_00 {
				t.Errorf("%v %v: balance %X", kind, alg, b)
			}
		}
	}
}

// Several cards of one module live side by side.
func TestSeveralCards(t *testing.T) {
	m := newManager(t, gp.AES)
	for i, aid := range []gp.AID{pboc.AIDDebit, pboc.AIDCredit, pboc.AIDQuasiCredit, pboc.AIDECash} {
		m.open(0x03)
		c := issued(t, pboc.TripleDES)
		c.AC[1] = byte(i)
		if err := m.issue(aid, c.Personalisation(), true); err != nil {
			t.Fatal(err)
		}
		m.pay(c, string(aid), 1_00)
	}
	if n := len(m.e.Image()); n > 40<<10 {
		t.Errorf("four cards take %d bytes", n)
	}
}

// Power fails somewhere in the personalisation: the whole of it again makes the card.
func TestIssueStartsOver(t *testing.T) {
	c := issued(t, pboc.TripleDES)
	p := c.Personalisation()
	for n := 20; ; n += 7 {
		m := newManager(t, gp.AES)
		m.open(0x03)
		m.e.Memory().CutAfter(n)
		err := m.issue(pboc.AIDECash, p, true)
		m.e.Memory().CutAfter(0)
		if err == nil {
			if n < 80 {
				t.Errorf("an issue of %d writes", n)
			}
			return
		}
		if !errors.Is(err, iso7816.ErrTorn) {
			t.Fatal(err)
		}
		m.open(0x03)
		w, _ := m.h.Wrap(gp.GetStatus{Part: gp.Applications}.Command())
		r, err := m.h.Unwrap(m.send(w))
		there := err == nil && bytes.Contains(r.Data, []byte(pboc.AIDECash))
		if err := m.issue(pboc.AIDECash, p, !there); err != nil {
			t.Fatal(err)
		}
		m.pay(c, pboc.AIDECash, 1_00)
	}
}

// The card stands in the payment directory of the contactless reader.
func TestListed(t *testing.T) {
	m := newManager(t, gp.AES)
	m.open(0x03)
	if err := m.issue(pboc.AIDDebit, issued(t, pboc.TripleDES).Personalisation(), true); err != nil {
		t.Fatal(err)
	}
	if err := m.e.PowerOn(card.Contactless); err != nil {
		t.Fatal(err)
	}
	r := m.send(iso7816.Select([]byte("2PAY.SYS.DDF01")))
	entry, ok := tlv.Find(r.Data, emv.TagEntry)
	if aid, found := tlv.Find(entry, emv.TagAID); !ok || !found || string(aid) != pboc.AIDDebit {
		t.Errorf("PPSE %v", r)
	}
}

// A terminal by contact that knows static authentication only finds what it needs.
func TestStaticByContact(t *testing.T) {
	m := newManager(t, gp.AES)
	m.open(0x03)
	c := issued(t, pboc.TripleDES)
	if err := m.issue(pboc.AIDDebit, c.Personalisation(), true); err != nil {
		t.Fatal(err)
	}
	if err := m.e.PowerOn(card.Contact); err != nil {
		t.Fatal(err)
	}
	m.send(iso7816.Select([]byte(pboc.AIDDebit)))
	r := m.send(iso7816.Command{CLA: 0x80, INS: pboc.InsGPO, Data: append([]byte{0x83, 9}, make([]byte, 9)...)})
	_, options, _, err := tlv.Next(r.Data)
	if err != nil || !bytes.Equal(options[:2], c.AIP[:]) {
		t.Fatalf("GPO %v", r)
	}
	afl, err := emv.ParseAFL(options[2:])
	if err != nil {
		t.Fatal(err)
	}
	var records []emv.Record
	var all []byte
	for _, id := range afl.Records() {
		rec := m.send(iso7816.ReadRecord(id.Number, id.SFI, 0))
		records = append(records, emv.Record{RecordID: id, Data: rec.Data})
		all = append(all, rec.Data...)
	}
	static, err := emv.StaticData(records, []byte{0x82}, c.AIP[:])
	ssad, ok := tlv.Find(all, emv.TagSSAD)
	if err != nil || !ok {
		t.Fatalf("no 93: %v", err)
	}
	if dac, err := emv.VerifySDA(pki.issuer.Public(), ssad, static); err != nil || dac != [2]byte{0xDA, 0xC0} {
		t.Errorf("%X %v", dac, err)
	}
}
