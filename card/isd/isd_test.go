package isd_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"koala/card"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
)

// way is one protocol and level; every rule below holds on all of them.
type way struct {
	kind  gp.KeyType
	level gp.Level
}

func (w way) String() string { return fmt.Sprintf("%v level %02X", w.kind, byte(w.level)) }

var ways = []way{
	{gp.DES, 0x00}, {gp.DES, 0x01}, {gp.DES, 0x03}, {gp.DES, 0x11}, {gp.DES, 0x13},
	{gp.AES, 0x00}, {gp.AES, 0x01}, {gp.AES, 0x03}, {gp.AES, 0x11}, {gp.AES, 0x13}, {gp.AES, 0x33},
}

func everyWay(t *testing.T, f func(t *testing.T, b *bench, w way)) {
	for _, w := range ways {
		t.Run(w.String(), func(t *testing.T) { f(t, newBench(t, w.kind), w) })
	}
}

// CARD 3.7, point 1: default SELECT and SELECT by name, with the FCI clients read.
func TestSelect(t *testing.T) {
	b := newBench(t, gp.AES)
	want := unhex(t, "6F1B 8408A000000151000000 A50F 7309 06072A864886FC6B01 9F6501FF")
	for _, s := range []string{"00A4040000", "00A4040008A00000015100000000", "00A4040008A000000151000000", "00A4040007A0000001510000"} {
		if r := b.raw(s); !r.SW.OK() || !bytes.Equal(r.Data, want) {
			t.Errorf("%s: %v", s, r)
		}
	}
	for _, s := range []string{"00A404000AA000000167413000FF0000", "00A4040008A00000000300000000"} {
		if r := b.raw(s); r.SW != iso7816.SWFileNotFound {
			t.Errorf("%s: %v", s, r.SW)
		}
	}
}

// Points 2 and 3: what 66 says is what INITIALIZE UPDATE speaks; version 00 and
// the exact one start a session, another one does not exist.
func TestCardDataMatchesTheChannel(t *testing.T) {
	for kind, want := range map[gp.KeyType]byte{gp.DES: 2, gp.AES: 3} {
		b := newBench(t, kind)
		protocol, _, err := gp.ParseCardData(b.raw("80CA006600").Data)
		if err != nil || protocol != want {
			t.Errorf("%v: 66 says SCP%02d %v", kind, protocol, err)
		}
		for _, version := range []byte{0x00, 0xFF} {
			a, err := gp.ParseInitAnswer(b.send(gp.InitializeUpdate(version, [8]byte{})).Data)
			if err != nil || a.Protocol != want || a.Version != 0xFF || a.KDD != [10]byte{3: 4, 1, 2, 3, 4, 5, 6} {
				t.Errorf("%v version %02X: %+v %v", kind, version, a, err)
			}
		}
		if r := b.send(gp.InitializeUpdate(0x30, [8]byte{})); r.SW != iso7816.SWReferenceNotFound {
			t.Errorf("%v version 30: %v", kind, r.SW)
		}
	}
}

func TestGetDataWithoutChannel(t *testing.T) {
	b := newBench(t, gp.AES)
	for _, tt := range []struct {
		c    string
		want string // the beginning of the answer, or a status word
	}{
		{"80CA9F7F00", "9F7F2A"}, {"00CA9F7F00", "9F7F2A"}, {"80CA00CF00", "CF0A00000004010203040506"},
		{"80CA00C100", "C103000000"}, {"80CA006700", "67"}, {"80CA006600", "66"},
		{"80CA00E000", "E012C00401FF8810C00402FF8810C00403FF8810"}, {"80CAFF2100", "FF21"},
		{"80CA004200", "6A88"}, {"80CA004500", "6A88"}, {"80CA01E000", "6A88"}, {"80CA9F3600", "6A88"},
	} {
		if got := fmt.Sprintf("%X", b.raw(tt.c).Bytes()); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %s, want %s..", tt.c, got, tt.want)
		}
	}
}

// Points 4, 5, 6, 7, 10, 11: every level; with Le and without; TLV listings with
// three bytes of privileges; 6A88 for nothing; confirmations; errors bare.
func TestEveryLevelCarriesManagement(t *testing.T) {
	everyWay(t, func(t *testing.T, b *bench, w way) {
		b.open(w.level)
		if list := b.status(gp.Applications); len(list) != 0 {
			t.Errorf("a new card has applications: %v", list)
		}
		if data := b.must(noteInstance().Command()); !bytes.Equal(data, []byte{0}) {
			t.Errorf("INSTALL confirms %X", data)
		}
		noLe := gp.Lock(gp.AID(noteApp)).Command()
		noLe.Le = iso7816.NoLe
		b.must(noLe)
		b.must(gp.Unlock(gp.AID(noteApp)).Command())
		r := b.do(gp.GetStatus{Part: gp.Applications}.Command())
		if want := fmt.Sprintf("9F700107C503000000C407%XCC08A000000151000000", string(noteFile)); !strings.Contains(fmt.Sprintf("%X", r.Data), want) {
			t.Errorf("listing %v lacks %s", r, want)
		}
		raw, err := b.h.Wrap(gp.Delete{App: gp.AID(noteModule)}.Command())
		if err != nil {
			t.Fatal(err)
		}
		bare := b.send(raw)
		if bare.SW != iso7816.SWReferenceNotFound || len(bare.Data) != 0 {
			t.Errorf("DELETE of nothing answers %v", bare)
		}
		if _, err := b.h.Unwrap(bare); err != nil {
			t.Error(err)
		}
		if data := b.must(gp.Delete{App: gp.AID(noteApp)}.Command()); !bytes.Equal(data, []byte{0}) {
			t.Errorf("DELETE confirms %X", data)
		}
		if got := b.status(gp.IssuerDomainPart); len(got) != 1 || got[0].AID != gp.IssuerDomain || got[0].State != gp.CardReady {
			t.Errorf("issuer domain lists as %+v", got)
		}
	})
}

// Points 12 and 13: SELECT ends a session, INITIALIZE UPDATE begins another.
func TestSessionEnds(t *testing.T) {
	list := gp.GetStatus{Part: gp.IssuerDomainPart}.Command()
	for name, end := range map[string]func(b *bench){
		"SELECT":            func(b *bench) { b.send(iso7816.Select([]byte(gp.IssuerDomain))) },
		"default SELECT":    func(b *bench) { b.send(iso7816.Select(nil)) },
		"reset":             func(b *bench) { b.t.Helper(); _ = b.e.Reset() },
		"INITIALIZE UPDATE": func(b *bench) { b.send(gp.InitializeUpdate(0, [8]byte{9})) },
		"a wrong MAC":       func(b *bench) { b.raw("84F28002 0A 4F00 1122334455667788 00") },
		"failed authentication": func(b *bench) {
			b.send(gp.InitializeUpdate(0, [8]byte{9}))
			if r := b.raw("8482010010 00112233445566778899AABBCCDDEEFF"); r.SW != iso7816.SWWarning {
				b.t.Errorf("a wrong cryptogram answers %v", r.SW)
			}
		},
	} {
		for _, kind := range []gp.KeyType{gp.DES, gp.AES} {
			b := newBench(t, kind)
			b.open(gp.CMAC)
			b.must(list)
			end(b)
			w, _ := b.h.Wrap(list)
			if r := b.send(w); r.SW != iso7816.SWSecurity || len(r.Data) != 0 {
				t.Errorf("%v after %s: %v", kind, name, r)
			}
			b.open(gp.CMAC)
			b.must(list)
		}
	}
}

// A command outside the protection the session asks for is refused, the session
// itself lives on; GET DATA stays free.
func TestUnprotectedInsideASession(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(gp.CMAC | gp.CENC)
	if r := b.raw("80F28002024F0000"); r.SW != iso7816.SWSecurity {
		t.Errorf("plain GET STATUS: %v", r.SW)
	}
	if r := b.raw("80CA006600"); !r.SW.OK() {
		t.Errorf("plain GET DATA: %v", r.SW)
	}
	b.must(gp.GetStatus{Part: gp.IssuerDomainPart}.Command())
	if data := b.must(gp.GetData(gp.TagCardData)); data[0] != 0x66 {
		t.Errorf("protected GET DATA %X", data)
	}
}

func TestWithoutSessionNothingIsManaged(t *testing.T) {
	b := newBench(t, gp.AES)
	before := b.world()
	for _, c := range []iso7816.Command{
		noteInstance().Command(), gp.Delete{App: gp.AID(catalogPurse)}.Command(), gp.GetStatus{Part: gp.Applications}.Command(),
		gp.SetStatus{Part: gp.IssuerDomainPart, State: gp.CardTerminated}.Command(), gp.StoreTLVs(unhex(t, "4202AABB")),
		{CLA: gp.CLA, INS: gp.InsLoad, P1: 0x80, Data: []byte{0xC4, 0}}, {CLA: gp.CLA, INS: gp.InsPutKey, P2: 0x81, Data: []byte{1}},
	} {
		for _, cla := range []byte{gp.CLA, gp.CLASecure} {
			c.CLA = cla
			if r := b.send(c); r.SW != iso7816.SWSecurity {
				t.Errorf("%v: %v", c, r.SW)
			}
		}
	}
	for s, want := range map[string]iso7816.SW{
		"80820000": iso7816.SWInstruction, "84500000": iso7816.SWInstruction, "00E60000": iso7816.SWClass, "90F28002": iso7816.SWClass,
		"8482010010 00112233445566778899AABBCCDDEEFF": iso7816.SWConditions, "8050000004 01020304": iso7816.SWLength,
		"8050000108 0102030405060708": iso7816.SWP1P2,
	} {
		if r := b.raw(s); r.SW != want {
			t.Errorf("%s: %v, want %v", s, r.SW, want)
		}
	}
	if after := b.world(); after != before {
		t.Errorf("changed:\n%s\nto\n%s", before, after)
	}
}

const catalogPurse card.AID = "\xA0\x00\x00\x06\x32\x01\x01"

// The counters: SCP02's moves when the host has proved itself, SCP03's with
// every challenge, and neither ever goes back.
func TestSequenceCounters(t *testing.T) {
	for kind, want := range map[gp.KeyType][3]string{
		gp.DES: {"C1020000", "C1020000", "C1020001"}, gp.AES: {"C103000000", "C103000001", "C103000002"},
	} {
		b := newBench(t, kind)
		if got := fmt.Sprintf("%X", b.raw("80CA00C100").Data); got != want[0] {
			t.Errorf("%v new: %s", kind, got)
		}
		first := b.send(gp.InitializeUpdate(0, [8]byte{1})).Data
		b.power()
		if got := fmt.Sprintf("%X", b.raw("80CA00C100").Data); got != want[1] {
			t.Errorf("%v after INITIALIZE UPDATE and reset: %s", kind, got)
		}
		b.open(gp.CMAC)
		if got := fmt.Sprintf("%X", b.raw("80CA00C100").Data); got != want[2] {
			t.Errorf("%v after a session: %s", kind, got)
		}
		if second := b.send(gp.InitializeUpdate(0, [8]byte{1})).Data; bytes.Equal(first, second) {
			t.Errorf("%v: the same challenge twice", kind)
		}
	}
}

// A listing that does not fit goes on with the next occurrence.
func TestListingGoesOn(t *testing.T) {
	everyWay(t, func(t *testing.T, b *bench, w way) {
		b.open(w.level)
		const n = 20
		for i := range n {
			in := noteInstance()
			in.App += gp.AID([]byte{byte(i)})
			b.must(in.Command())
		}
		if r := b.do(gp.GetStatus{Part: gp.Applications}.Command()); r.SW != gp.SWMore {
			t.Errorf("the first answer is %v", r.SW)
		}
		if list := b.status(gp.Applications); len(list) != n {
			t.Errorf("%d applications list as %d", n, len(list))
		}
		prefix := gp.GetStatus{Part: gp.Applications, Prefix: gp.AID(noteApp) + "\x05"}
		if list, err := gp.ParseStatus(b.must(prefix.Command())); err != nil || len(list) != 1 {
			t.Errorf("by name: %v %v", list, err)
		}
		prefix.Prefix = "\xA0\x00\x00\x00\x99"
		if r := b.do(prefix.Command()); r.SW != iso7816.SWReferenceNotFound {
			t.Errorf("of another name: %v", r.SW)
		}
		if r := b.do(gp.GetStatus{Part: gp.Applications, Next: true}.Command()); r.SW != iso7816.SWConditions {
			t.Errorf("next without first: %v", r.SW)
		}
		if r := b.do(iso7816.Command{CLA: gp.CLA, INS: gp.InsGetStatus, P1: 0x40, P2: 0x00, Data: []byte{0x4F, 0}}); r.SW != iso7816.SWP1P2 {
			t.Errorf("old form: %v", r.SW)
		}
	})
}

func TestLoadFilesListTheirModules(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(gp.CMAC)
	files, modules := b.status(gp.LoadFiles), b.status(gp.LoadFilesModules)
	if len(files) < 4 || len(modules) != len(files) {
		t.Fatalf("%d and %d load files", len(files), len(modules))
	}
	for i, x := range modules {
		if len(x.Modules) == 0 || len(files[i].Modules) != 0 || x.State != gp.Loaded || x.Domain != gp.IssuerDomain {
			t.Errorf("load file %+v", x)
		}
	}
}
