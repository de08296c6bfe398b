package qpboc

import (
	"bytes"
	"testing"

	"koala/card"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/iso9797"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// The house's own SM2 keys: a byte repeated.
var smCA, smIssuer, smCard = smKey(0x11), smKey(0x22), smKey(0x33)

func smKey(b byte) *emv.PrivateKey {
	k, err := emv.NewSM2Key(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		panic(err)
	}
	return k
}

const smIndex = 0xD1

// withSM gives a card SM4 keys and an SM2 chain beside the RSA one.
func withSM(c *pboc.Card) {
	expiry := [2]byte{0x12, 0x34}
	issuer, err := emv.MakeIssuerCertificate(smCA, emv.KeyInfo{Owner: "622800", Expiry: expiry, Key: smIssuer.Public()})
	if err != nil {
		panic(err)
	}
	own, err := emv.MakeICCCertificate(smIssuer, emv.KeyInfo{Owner: c.PAN, Expiry: expiry, Key: smCard.Public()}, c.Static())
	if err != nil {
		panic(err)
	}
	ssad, err := smIssuer.SignStatic([2]byte{0xDA, 0xC0}, c.Static())
	if err != nil {
		panic(err)
	}
	c.Alg = pboc.SM4
	c.SM = pboc.SMChain{CA: smIndex, IssuerCertificate: issuer.Certificate, ICCCertificate: own.Certificate, SSAD: ssad, Key: smCard}
}

// asksSM is a card tapped, or inserted, by a terminal that knows the SM algorithms.
func asksSM(t *testing.T, iface card.Interface, change ...func(*pboc.Card)) (*bench, pboc.Card) {
	t.Helper()
	c := issued(append(change, withSM)...)
	b := newBench(t, c)
	b.set(emv.TagSM, []byte{1})
	b.iface = iface
	b.tap()
	return b, c
}

// chain reads the records and opens the certificates in them.
func (b *bench) chain(t *testing.T, c pboc.Card, aflRaw []byte) (icc emv.PublicKey, static, all []byte) {
	t.Helper()
	afl, err := emv.ParseAFL(aflRaw)
	if err != nil {
		t.Fatal(err)
	}
	var records []emv.Record
	for _, id := range afl.Records() {
		r := b.want(iso7816.OK, b.send(iso7816.ReadRecord(id.Number, id.SFI, 0)))
		records, all = append(records, emv.Record{RecordID: id, Data: r.Data}), append(all, r.Data...)
	}
	list, _ := tlv.Find(all, emv.TagSDATagList)
	if static, err = emv.StaticData(records, list, c.AIP[:]); err != nil {
		t.Fatal(err)
	}
	get := func(tag tlv.Tag) []byte { v, _ := tlv.Find(all, tag); return v }
	if index := get(emv.TagCAIndex); !bytes.Equal(index, []byte{smIndex}) || get(emv.TagICCExponent) != nil || get(emv.TagIssuerExponent) != nil {
		t.Errorf("CA index %X", index)
	}
	ca := emv.NewCAKey(emv.RIDUnionPay, smIndex, smCA.Public())
	_, info, err := emv.RecoverChain(ca, get, static, emv.Check{PAN: c.PAN, Date: [3]byte{0x24, 0x12, 0x29}})
	if err != nil {
		t.Fatal(err)
	}
	return info.Key, static, all
}

// A whole offline payment in the SM variant: SM4 cryptogram, SM2 chain, fDDA 00 and
// 01; the same card serves terminals that do not ask with its RSA chain.
func TestSMPayment(t *testing.T) {
	for _, version := range []byte{0, 1} {
		b, c := asksSM(t, card.Contactless, func(c *pboc.Card) { c.Version1 = version == 1 })
		b.set(emv.TagAmount, amount(12_34))
		r := b.want(iso7816.OK, b.gpo())
		if got := tags(r); got != "82 94 9F36 57 9F10 9F26 5F34 9F6C 9F5D 9F4B" {
			t.Fatalf("GPO: %s", got)
		}
		if x := iadOf(t, r); x.Alg != pboc.SM4 || !x.Verify(pboc.NewKey(pboc.SM4, keyMAC).Session(1), 1) {
			t.Errorf("9F10 %+v", x)
		}
		sdad := value(r, emv.TagSDAD)
		if len(sdad) != 69 || !bytes.Equal(sdad[:5], []byte{0x15, 3, 2, 0, 1}) {
			t.Errorf("9F4B %X", sdad)
		}
		icc, _, all := b.chain(t, c, value(r, emv.TagAFL))
		auth, _ := tlv.Find(all, emv.TagCardAuth)
		f := emv.FastDDA{Version: version, UN: [4]byte(b.term[emv.TagUN]), Amount: [6]byte(amount(12_34)), Currency: [2]byte{1, 0x56}, CardAuth: auth}
		if _, err := emv.VerifyFastDDA(icc, sdad, f, value(r, emv.TagATC)); err != nil || (auth != nil) != (version == 1) {
			t.Errorf("version %d: %v, 9F69 %X", version, err, auth)
		}
		if have := b.fen(emv.TagECBalance); have != 100_00-12_34 {
			t.Errorf("balance %d", have)
		}
		for _, ask := range [][]byte{{0}, {2}} {
			b.tap()
			b.set(emv.TagSM, ask)
			r = b.want(iso7816.OK, b.gpo())
			b.records(value(r, emv.TagAFL))
			if !bytes.Contains(value(r, emv.TagAFL), []byte{3 << 3, 1, 2, 0}) || len(value(r, emv.TagSDAD)) != 128 || iadOf(t, r).Alg != pboc.SM4 {
				t.Errorf("DF69 %X: AFL %X, 9F4B of %d bytes", ask, value(r, emv.TagAFL), len(value(r, emv.TagSDAD)))
			}
		}
	}
}

// By contact: the SM2 signature of DDA, the combined one with its SM3 hash, and the
// signed static data.
func TestSMByContact(t *testing.T) {
	b, c := asksSM(t, card.Contact)
	r := b.want(iso7816.OK, b.gpo())
	icc, static, all := b.chain(t, c, r.Data[4:])
	ssad, _ := tlv.Find(all, emv.TagSSAD)
	if dac, err := emv.VerifySDA(smIssuer.Public(), ssad, static); err != nil || dac != [2]byte{0xDA, 0xC0} {
		t.Errorf("93: %X %v", dac, err)
	}
	r = b.want(iso7816.OK, b.raw("0088000004 11223344 00"))
	_, sdad, _, _ := tlv.Next(r.Data)
	if n, err := emv.VerifyDDA(icc, sdad, unhex("11223344")); err != nil || !bytes.Equal(n, []byte{0, 1}) {
		t.Errorf("DDA: %X %v", n, err)
	}
	r = b.want(iso7816.OK, b.generate(emv.TagCDOL1, 0x90))
	_, body, _, _ := tlv.Next(r.Data)
	data, err := emv.TransactionData(b.pdol, b.cdol1, nil, body)
	if err != nil {
		t.Fatal(err)
	}
	if x, err := emv.VerifyCDA(icc, value(r, emv.TagSDAD), [4]byte(b.term[emv.TagUN]), value(r, emv.TagCID)[0], data); err != nil || len(x.Hash) != 32 {
		t.Errorf("CDA: %+v %v", x, err)
	}
	b.tap()
	b.set(emv.TagECIndicator, []byte{1}).set(emv.TagAmount, amount(5_00))
	r = b.want(iso7816.OK, b.gpo())
	if afl := r.Data[4:]; !bytes.Contains(afl, []byte{7 << 3, 1, 2, 0}) || !bytes.HasSuffix(afl, []byte{4 << 3, 1, 1, 0}) {
		t.Errorf("e-cash: AFL %X", afl)
	}
}

// A card is asked for its second chain only where it has one.
func TestSMIsOffered(t *testing.T) {
	b := newBench(t, issued())
	dol, _ := tlv.Find(b.fci, emv.TagPDOL)
	if list, err := emv.ParseDOL(dol); err != nil || list.Has(emv.TagSM) {
		t.Errorf("PDOL %X %v", dol, err)
	}
	c := issued(withSM)
	p := c.Personalisation()
	p.SM.QPBOC = pboc.Options{} // its contactless path has none
	b = personalised(t, p)
	b.set(emv.TagSM, []byte{1})
	b.tap()
	if r := b.want(iso7816.OK, b.gpo()); len(value(r, emv.TagSDAD)) != 128 {
		t.Errorf("9F4B of %d bytes", len(value(r, emv.TagSDAD)))
	}
	p = c.Personalisation()
	p.SM.Point = nil // the public key has not come
	b = personalised(t, p)
	b.set(emv.TagSM, []byte{1})
	b.tap()
	if r := b.want(iso7816.OK, b.gpo()); len(value(r, emv.TagSDAD)) != 128 {
		t.Errorf("without 8502: 9F4B of %d bytes", len(value(r, emv.TagSDAD)))
	}
	if n := len(newBench(t, c).e.Image()); n > 14<<10 {
		t.Errorf("an element with one card of two chains has %d bytes", n)
	}
}

// The groups of the published SM card are taken as they are, and what the card then
// signs verifies under its published certificate's key.
func TestSMPublishedGroups(t *testing.T) {
	b, _ := asksSM(t, card.Contactless)
	scalar := unhex("AAF8CE02045DD01619D689EE731C551159BE7EB2D51A372FF56B556E5CB2FDE3 8000000000000000")
	point := unhex("173A31DD681C6F8FE3BA6C354AD3924A4ADFD15EB0581BC1B37A1EB1C88DA29B47155F62FCF4CCCD201B134351A049D77E81F6A6C66E9CB32664F41348DA11F6 8000000000000000")
	b.e.Store(b.self, pboc.DGIScalarSM, scalar)
	b.e.Store(b.self, pboc.DGIPointSM, point)
	b.tap()
	r := b.want(iso7816.OK, b.gpo())
	last := b.records(value(r, emv.TagAFL))
	key, err := emv.NewSM2PublicKey(point[:64])
	if err != nil {
		t.Fatal(err)
	}
	f := emv.FastDDA{Version: 1, UN: [4]byte(b.term[emv.TagUN]), Amount: [6]byte(amount(1)), Currency: [2]byte{1, 0x56}, CardAuth: value(last, emv.TagCardAuth)}
	if _, err := emv.VerifyFastDDA(key, value(r, emv.TagSDAD), f, value(r, emv.TagATC)); err != nil {
		t.Error(err)
	}
}

// Both parts of the key are checked, and a new private key waits for its own public
// one.
func TestSMKeyIsChecked(t *testing.T) {
	pad := func(b []byte) []byte { return iso9797.Pad2(b, 16) }
	other := smKey(0x44)
	for _, tt := range []struct {
		name string
		dgi  uint16
		data []byte
		sw   iso7816.SW
	}{
		{"not padded", pboc.DGIScalarSM, make([]byte, 32), iso7816.SWData},
		{"zero", pboc.DGIScalarSM, pad(make([]byte, 32)), iso7816.SWData},
		{"above the order", pboc.DGIScalarSM, pad(bytes.Repeat([]byte{0xFF}, 32)), iso7816.SWData},
		{"short", pboc.DGIScalarSM, pad(make([]byte, 31)), iso7816.SWData},
		{"an RSA half", pboc.DGIScalarSM, pad(rsa1024.CRT().P), iso7816.SWData},
		{"another point", pboc.DGIPointSM, pad(other.Public().Modulus()), iso7816.SWData},
		{"no point", pboc.DGIPointSM, pad(nil), iso7816.SWData},
		{"point not padded", pboc.DGIPointSM, make([]byte, 64), iso7816.SWData},
		{"the point again", pboc.DGIPointSM, pad(smCard.Public().Modulus()), iso7816.OK},
		{"the key again", pboc.DGIScalarSM, pad(smCard.Scalar()), iso7816.OK},
		{"locator broken", pboc.DGIOptionsSM, unhex("82027C00 9404 10020101"), iso7816.SWData},
	} {
		b, _ := asksSM(t, card.Contactless)
		if sw := b.e.Personalise(b.self, tt.dgi, tt.data); sw != tt.sw {
			t.Errorf("%s: %v", tt.name, sw)
		}
	}
	b := blank(t)
	if sw := b.e.Personalise(b.self, pboc.DGIPointSM, pad(smCard.Public().Modulus())); sw != iso7816.SWData {
		t.Errorf("a point without a key: %v", sw)
	}
}

// Power fails at every write of an SM payment's last record: paid or not paid, and
// the answer read again is the same.
func TestSMCutAtEveryWrite(t *testing.T) {
	pay := func() (*bench, iso7816.Command) {
		b, _ := asksSM(t, card.Contactless)
		b.set(emv.TagAmount, amount(5_00))
		return b, last(b, b.gpo())
	}
	b, c := pay()
	w := b.e.Memory().Writes()
	whole := b.want(iso7816.OK, b.send(c))
	for n := 1; n <= b.e.Memory().Writes()-w; n++ {
		b, c := pay()
		b.e.Memory().CutAt(n, 17)
		if _, err := b.e.Transmit(c); err == nil {
			t.Fatalf("cut %d did not cut", n)
		}
		b.e.Memory().CutAt(0, 0)
		b.tap()
		r := b.send(c)
		switch have := b.fen(emv.TagECBalance); {
		case have == 95_00 && bytes.Equal(r.Data, whole.Data):
		case have == 100_00 && !bytes.Equal(r.Data, whole.Data):
		default:
			t.Fatalf("cut %d: %d in the card, answer %v", n, have, r)
		}
	}
}

// BenchmarkOfflineSM is BenchmarkOffline with the SM2 chain.
func BenchmarkOfflineSM(b *testing.B) {
	k := newBench(b, issued(withSM))
	k.set(emv.TagAmount, amount(0)).set(emv.TagSM, []byte{1})
	commands := []iso7816.Command{iso7816.Select([]byte(debitAID)), k.gpoCommand(),
		iso7816.ReadRecord(1, 2, 0), iso7816.ReadRecord(1, 7, 0), iso7816.ReadRecord(2, 7, 0)}
	for i := range b.N {
		if i%60000 == 59999 { // the transaction counter ends
			b.StopTimer()
			k = newBench(b, issued(withSM))
			b.StartTimer()
		}
		_ = k.e.PowerOn(card.Contactless)
		for _, c := range commands {
			if r, err := k.e.Transmit(c); err != nil || !r.SW.OK() {
				b.Fatalf("%v: %v %v", c, r.SW, err)
			}
		}
	}
}
