package isd_test

import (
	"bytes"
	"fmt"
	"testing"

	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
)

func TestStoreDataOfTheDomain(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(0x01)
	b.must(gp.StoreTLVs(unhex(t, "4204 11223344 4503 AABBCC 9F6608 0102030405060708 9F6708 1112131415161718")))
	for s, want := range map[string]string{"80CA004200": "420411223344", "80CA004500": "4503AABBCC"} {
		if got := fmt.Sprintf("%X", b.raw(s).Data); got != want {
			t.Errorf("%s: %s", s, got)
		}
	}
	c, err := gp.ParseCPLC(b.raw("80CA9F7F00").Data)
	if err != nil || c.PrePerso != [2]byte{1, 2} || c.PersoEquipment != [4]byte{0x15, 0x16, 0x17, 0x18} || c.Serial != [4]byte{3, 4, 5, 6} {
		t.Errorf("CPLC %+v %v", c, err)
	}
	before := b.world()
	for _, s := range []string{"", "42", "5F2001AA", "42111111111111111111111111111111111111", "4202AABB9F660101"} {
		if r := b.do(gp.StoreTLVs(unhex(t, s))); r.SW.OK() {
			t.Errorf("%q is taken", s)
		}
	}
	if r := b.do(iso7816.Command{CLA: gp.CLA, INS: gp.InsStoreData, P1: 0x88, Data: unhex(t, "001601AA")}); r.SW != iso7816.SWData {
		t.Errorf("a data grouping for the domain: %v", r.SW)
	}
	if after := b.world(); after != before {
		t.Error("a refused object changed something")
	}
}

func TestRenameTheIssuerDomain(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(0x01)
	b.must(noteInstance().Command())
	b.must(gp.StoreTLVs(unhex(t, "4F08 A000000151000099")))
	b.power()
	if r := b.raw("00A4040008A000000151000099"); !r.SW.OK() {
		t.Fatal(r.SW)
	}
	b.authenticate(0, 0x03)
	if x := b.status(gp.Applications)[0]; x.Domain != "\xA0\x00\x00\x01\x51\x00\x00\x99" {
		t.Errorf("the application belongs to %v", x.Domain)
	}
}

// What goes through the domain arrives whole, however it was cut.
func TestPersonalisation(t *testing.T) {
	everyWay(t, func(t *testing.T, b *bench, w way) {
		b.open(w.level)
		b.must(noteInstance().Command())
		b.must(gp.Personalize(noteAID).Command())
		secret := unhex(t, "00112233445566778899AABBCCDDEEFF")
		wrapped, err := b.h.EncryptKey(secret)
		if err != nil {
			t.Fatal(err)
		}
		long := bytes.Repeat([]byte{0xAB}, 500)
		for _, c := range b.storeNote(gp.DGI{ID: 0x0200, Data: wrapped}, gp.DGI{ID: 0x0108, Data: []byte("page")}, gp.DGI{ID: 0x010A, Data: long}) {
			b.must(c)
		}
		if r := b.do(gp.StoreTLVs(unhex(t, "4202AABB"))); !r.SW.OK() {
			t.Errorf("after the last block the domain itself is meant: %v", r.SW)
		}
		b.send(iso7816.Select([]byte(noteApp)))
		want := append(append(bytes.Clone(secret), []byte("page")...), long...)[:250]
		if r := b.raw("80CA000000"); !bytes.Equal(r.Data, want) {
			t.Errorf("the applet holds %X", r.Data)
		}
	})
}

func TestPersonalisationRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		p1   byte
		data string
	}{
		{"the applet refuses the second", 0x88, "0100 02 AAAA 0300 01 00"},
		{"a grouping without end", 0x88, "0100 10 AA"},
		{"a length that never is", 0x88, "0100 FF 0001 AA"},
		{"no structure", 0x80, "010010AA"},
		{"objects cut off", 0x90, "4210AA"},
		{"both structures", 0x98, "010002AAAA"},
	} {
		b := newBench(t, gp.AES)
		b.open(0x03)
		b.must(noteInstance().Command())
		b.must(gp.Personalize(noteAID).Command())
		before := b.world()
		if r := b.do(iso7816.Command{CLA: gp.CLA, INS: gp.InsStoreData, P1: tt.p1, Data: unhex(t, tt.data)}); r.SW.OK() {
			t.Errorf("%s: taken", tt.name)
		}
		if after := b.world(); after != before {
			t.Errorf("%s: changed\n%sto\n%s", tt.name, before, after)
		}
		if r := b.do(iso7816.Command{CLA: gp.CLA, INS: gp.InsStoreData, P1: 0x88, Data: unhex(t, "010002AAAA")}); r.SW.OK() {
			t.Errorf("%s: the personalisation goes on", tt.name)
		}
	}
}

// A supplementary domain speaks with its issuer's keys until it has its own,
// and sees only what is its own.
func TestSupplementaryDomain(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(0x03)
	other := noteInstance()
	other.App = secondNote
	for _, in := range []gp.Install{domainInstance(), noteInstance(), other, {For: gp.ForExtradition, Domain: spDomain, App: noteAID}} {
		b.must(in.Command())
	}
	b.send(iso7816.Select([]byte(spDomain)))
	b.authenticate(0, 0x33)
	if list := b.status(gp.Applications); len(list) != 2 || list[0].AID != spDomain || list[1].AID != noteAID {
		t.Errorf("it sees %v", list)
	}
	for _, c := range []iso7816.Command{
		gp.Delete{App: noteAID}.Command(), other.Command(), gp.Lock(secondNote).Command(), gp.Personalize(secondNote).Command(),
		gp.SetStatus{Part: gp.IssuerDomainPart, State: gp.CardTerminated}.Command(), gp.Delete{App: gp.IssuerDomain}.Command(),
	} {
		if r := b.do(c); r.SW != iso7816.SWConditions {
			t.Errorf("%v: %v", c, r.SW)
		}
	}
	b.must(gp.Personalize(noteAID).Command())
	for _, c := range b.storeNote(gp.DGI{ID: 0x0100, Data: []byte("mine")}) {
		b.must(c)
	}
	own := gp.KeySet{Version: 0x21, ENC: bytes.Repeat([]byte{1}, 16), MAC: bytes.Repeat([]byte{2}, 16), DEK: bytes.Repeat([]byte{3}, 16)}
	c, err := b.h.PutKey(0, own, gp.MeasuredKeys)
	if err != nil {
		t.Fatal(err)
	}
	b.must(c)
	issuer := b.keys
	b.keys = own
	b.send(iso7816.Select([]byte(spDomain)))
	b.authenticate(0x21, 0x03)
	b.keys = issuer
	b.open(0x03)
	if got := b.raw("80CA00E000").Data; !bytes.Equal(got, unhex(t, "E012C00401FF8810C00402FF8810C00403FF8810")) {
		t.Errorf("the issuer's keys are %X", got)
	}
}
