package globalplatform

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"koala/spec/iso7816"
	"koala/spec/tlv"

	"pgregory.net/rapid"
)

const (
	pkg  AID = "\xA0\x00\x00\x06\x32\x01"
	mod  AID = "\xA0\x00\x00\x06\x32\x01\x01"
	inst AID = "\xA0\x00\x00\x06\x32\x01\x01\x05"
)

func TestInstallVariants(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   Install
		want string
	}{
		{"load", Install{For: ForLoad, LoadFile: pkg, Domain: IssuerDomain}, "02 06A00000063201 08A000000151000000 00 00 00"},
		{"install and make selectable", InstallApplet(pkg, mod, inst, Privileges{}, nil),
			"0C 06A00000063201 07A0000006320101 08A000000632010105 0100 02C900 00"},
		{"contactless activation", Install{For: ForRegistryUpdate, App: inst, Privileges: Privileges{}.With(PrivContactlessActivate)},
			"40 00 00 08A000000632010105 03000020 00 00"},
		{"registry update, privileges kept", Install{For: ForRegistryUpdate, Domain: IssuerDomain, App: inst, Keep: true},
			"40 08A000000151000000 00 08A000000632010105 00 00 00"},
		{"make selectable", Install{For: ForSelectable, App: inst}, "08 00 00 08A000000632010105 0100 00 00"},
		{"extradition", Install{For: ForExtradition, Domain: IssuerDomain, App: inst}, "10 08A000000151000000 00 08A000000632010105 00 00 00"},
		{"personalization", Personalize(inst), "20 00 00 08A000000632010105 00 00 00"},
		{"long parameters", Install{For: ForInstall, LoadFile: pkg, Module: mod, App: inst,
			Params: tlv.Append(nil, TagParams, make([]byte, 130))},
			"04 06A00000063201 07A0000006320101 08A000000632010105 0100 8185 C98182" + strings.Repeat("00", 130) + "00"},
	} {
		c := tt.in.Command()
		want := unhex(t, tt.want)
		if c.P1 != want[0] || !bytes.Equal(c.Data, want[1:]) {
			t.Errorf("%s: %v, want %X", tt.name, c, want)
		}
		got, err := ParseInstall(c)
		if err != nil || fmt.Sprintf("%X", got.Data()) != fmt.Sprintf("%X", tt.in.Data()) || got.App != tt.in.App {
			t.Errorf("%s reads as %+v %v", tt.name, got, err)
		}
	}
	long := Install{For: ForInstallSelect, LoadFile: pkg, Module: mod, App: inst, Params: tlv.Append(nil, TagParams, make([]byte, 300))}
	parts := long.Commands(200)
	if len(parts) != 2 || parts[0].P1 != 0x8C || parts[1].P1 != 0x0C || !bytes.Equal(append(bytes.Clone(parts[0].Data), parts[1].Data...), long.Data()) {
		t.Errorf("a long INSTALL goes in %d parts: %v", len(parts), parts)
	}
	if in := (Install{Params: unhex(t, "C902AABB EF03CF0181")}); fmt.Sprintf("%X", in.AppParams()) != "AABB" {
		t.Errorf("C9 reads %X", in.AppParams())
	} else if i, ok := in.Implicit(); !ok || i != 0x81 {
		t.Errorf("implicit selection reads %X %v", i, ok)
	}
}

func TestParseInstallRefuses(t *testing.T) {
	for name, s := range map[string]string{
		"no variant":          "80E6000006 000000000000",
		"two variants":        "80E6220006 000000000000",
		"cut field":           "80E6200003 000008",
		"AID of four":         "80E620000A 000004A0000006000000",
		"no application":      "80E6200006 000000000000",
		"bytes too many":      "80E620000F 000008A00000063201010500000000",
		"AID where none is":   "80E620000F 05A00000063200 05A000000632 000000",
		"privileges of two":   "80E640000F 000008A000000632010105020000 00",
		"parameters no TLV":   "80E6080011 000008A0000006320101050100 0201FF 00",
		"wrong instruction":   "80E4200006 000000000000",
		"interindustry class": "00E6200006 000000000000",
	} {
		if in, err := ParseInstall(command(t, s)); err == nil {
			t.Errorf("%s: %+v", name, in)
		}
	}
}

func TestStatusEntries(t *testing.T) {
	e := Entry{AID: inst, State: Selectable, Privileges: Privileges{}.With(PrivContactlessActivate), Implicit: []byte{0x81},
		LoadFile: pkg, Domain: IssuerDomain}
	got := e.Append(nil, Applications, nil)
	if want := unhex(t, "E328 4F08A000000632010105 9F700107 C503000020 CF0181 C406A00000063201 CC08A000000151000000"); !bytes.Equal(got, want) {
		t.Errorf("application %X, want %X", got, want)
	}
	f := Entry{AID: pkg, State: Loaded, Version: []byte{1, 0}, Modules: []AID{mod}, Domain: IssuerDomain}
	both := f.Append(got, LoadFilesModules, nil)
	list, err := ParseStatus(both)
	if err != nil || !reflect.DeepEqual(list, []Entry{e, f}) {
		t.Errorf("reads %+v %v", list, err)
	}
	if got := f.Append(nil, LoadFiles, []tlv.Tag{tagAID, tagState}); fmt.Sprintf("%X", got) != "E30C4F06A000000632019F700101" {
		t.Errorf("with a tag list: %X", got)
	}
	// kaoh/globalplatform src/scp02Test.c: a real card's load files
	list, err = ParseStatus(unhex(t, "E30D4F07A00000000353509F700101E30B4F05A0000000049F700101E30B4F05325041592E9F700101E30B4F05F0000711809F700101E30C4F06A000000421209F700101E30D4F07D0D1D2D3D4D5019F700101"))
	if err != nil || len(list) != 6 || list[5].AID != "\xD0\xD1\xD2\xD3\xD4\xD5\x01" || list[5].State != Loaded {
		t.Errorf("a real card's load files: %v %v", list, err)
	}
}

func TestCommands(t *testing.T) {
	for _, tt := range []struct {
		c    iso7816.Command
		want string
	}{
		{GetStatus{Part: LoadFilesModules}.Command(), "80F21002024F0000"},
		{GetStatus{Part: Applications, Next: true}.Command(), "80F24003024F0000"},
		// a tag list as osmocom/pysim's test has it, but in BER-TLV
		{GetStatus{Part: LoadFiles, Tags: []tlv.Tag{0x4F, 0x9F70, 0xC5}}.Command(), "80F22002084F005C044F9F70C500"},
		{Lock(inst).Command(), "80F0408008A00000063201010500"},
		{Unlock(inst).Command(), "80F0400008A00000063201010500"},
		{SetStatus{Part: IssuerDomainPart, State: CardLocked}.Command(), "80F0807F00"},
		{Delete{App: inst}.Command(), "80E400000A4F08A00000063201010500"},
		{Delete{App: pkg, Related: true}.Command(), "80E40080084F06A0000006320100"},
		{Delete{KeyVersion: 0x30, KeyID: 1}.Command(), "80E4000006D00101D2013000"},
		{GetData(TagCPLC), "80CA9F7F00"},
		{GetData(TagCardData), "80CA006600"},
		{InitializeUpdate(0x30, [8]byte{1}), "8050300008010000000000000000"},
		{StoreTLVs(unhex(t, "42021234")), "80E290000442021234" + "00"},
	} {
		if got := tt.c.String(); got != tt.want {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
}

func TestLoadBlocks(t *testing.T) {
	code := bytes.Repeat([]byte{0xAA}, 500)
	list, err := Load(code, 239)
	if err != nil || len(list) != 3 {
		t.Fatal(len(list), err)
	}
	var all []byte
	for i, c := range list {
		block, n, last, err := ParseLoad(c)
		if err != nil || int(n) != i || last != (i == 2) {
			t.Errorf("block %d: %d %v %v", i, n, last, err)
		}
		all = append(all, block...)
	}
	if want := append(unhex(t, "C48201F4"), code...); !bytes.Equal(all, want) {
		t.Error("the blocks are not the load file")
	}
	if _, err := Load(make([]byte, 70000), 239); err == nil {
		t.Error("70000 bytes fit into 256 blocks")
	}
}

func TestStoreDataKeepsGroupings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		groups := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) DGI {
			return DGI{rapid.Uint16().Draw(t, "id"), rapid.SliceOfN(rapid.Byte(), 0, 600).Draw(t, "data")}
		}), 1, 12).Draw(t, "groups")
		list, err := StoreData(groups, 239)
		if err != nil {
			t.Fatal(err)
		}
		var in []byte
		for i, c := range list {
			s, err := ParseStoreData(c)
			if err != nil || int(s.Block) != i || s.Last != (i == len(list)-1) || s.Form != StoreDGI || len(s.Data) > 239 {
				t.Fatalf("block %d: %+v %v", i, s, err)
			}
			in = append(in, s.Data...)
		}
		for _, want := range groups {
			d, rest, ok, err := NextDGI(in)
			if err != nil || !ok || d.ID != want.ID || !bytes.Equal(d.Data, want.Data) {
				t.Fatalf("grouping %04X of %d reads %v %v", want.ID, len(want.Data), ok, err)
			}
			in = rest
		}
		if len(in) != 0 {
			t.Fatalf("%d bytes too many", len(in))
		}
	})
}

func TestCardObjects(t *testing.T) {
	got := fmt.Sprintf("%X", CardData(3, 0x70))
	if want := "6630732E06072A864886FC6B01600B06092A864886FC6B020203630906072A864886FC6B03640B06092A864886FC6B040370"; got != want {
		t.Errorf("card data %s, want %s", got, want)
	}
	if p, i, err := ParseCardData(CardData(2, 0x15)); p != 2 || i != 0x15 || err != nil {
		t.Errorf("card data reads SCP%02d i=%02X %v", p, i, err)
	}
	keys := []KeyInfo{{1, 0xFF, AES, 16}, {2, 0xFF, AES, 16}, {3, 0xFF, DES, 16}}
	tmpl := KeyTemplate(keys)
	if want := "E012C00401FF8810C00402FF8810C00403FF8010"; fmt.Sprintf("%X", tmpl) != want {
		t.Errorf("key template %X, want %s", tmpl, want)
	}
	if got, err := ParseKeyTemplate(tmpl); err != nil || !reflect.DeepEqual(got, keys) {
		t.Errorf("key template reads %v %v", got, err)
	}
	c := CPLC{Fabricator: [2]byte{0x47, 0x90}, Serial: [4]byte{1, 2, 3, 4}, PersoEquipment: [4]byte{9}}
	b := c.Bytes()
	if len(b) != 45 || !bytes.HasPrefix(b, unhex(t, "9F7F2A4790")) {
		t.Errorf("CPLC %X", b)
	}
	for _, in := range [][]byte{b, b[3:]} {
		if got, err := ParseCPLC(in); err != nil || got != c {
			t.Errorf("CPLC reads %v %v", got, err)
		}
	}
	if got := fmt.Sprintf("%X", FCI(IssuerDomain)); got != "6F1B8408A000000151000000A50F730906072A864886FC6B019F6501FF" {
		t.Errorf("FCI %s", got)
	}
	if _, ok := tlv.Find(Capabilities(), 0x82); !ok {
		t.Error("capabilities name no privileges")
	}
}

func TestWordsForStatesAndPrivileges(t *testing.T) {
	for _, tt := range []struct {
		part  Part
		state byte
		want  string
	}{
		{IssuerDomainPart, CardSecured, "secured"}, {IssuerDomainPart, CardLocked, "card locked"}, {Applications, 0x87, "locked"},
		{Applications, Installed, "installed"}, {Applications, 0x0F, "personalized"}, {LoadFiles, Loaded, "loaded"}, {Applications, 0x05, "unknown state"},
	} {
		if got := StateName(tt.part, tt.state, false); got != tt.want {
			t.Errorf("%02X/%02X: %q, want %q", byte(tt.part), tt.state, got, tt.want)
		}
		if StateName(tt.part, tt.state, true) == tt.want {
			t.Errorf("%02X/%02X has no Chinese name", byte(tt.part), tt.state)
		}
	}
	p := Privileges{}.With(PrivDelegated).With(PrivContactlessActivate)
	if got := strings.Join(p.Names(false), ", "); got != "security domain, delegated management, contactless activation" {
		t.Errorf("privileges %s", got)
	}
	if !p.Has(PrivDelegated) || p.Has(PrivDAP) || p.Without(PrivDelegated).Has(PrivSecurityDomain) {
		t.Error("privilege bits")
	}
	for l, want := range map[Level]string{0: "authenticated only", 0x33: "C-MAC C-ENC R-MAC R-ENC"} {
		if l.String() != want {
			t.Errorf("level %02X: %s", byte(l), l)
		}
	}
}

func TestExplain(t *testing.T) {
	key := "404142434445464748494A4B4C4D4E4F"
	answer := InitAnswer{Protocol: 3, Option: OptionSCP03, Version: 0x30, Sequence: 5}
	for _, tt := range []struct {
		c    iso7816.Command
		data []byte
		en   string
		has  string // some field's value
	}{
		{InitializeUpdate(0, [8]byte{}), answer.Bytes(), "ask for a secure channel", "SCP03"},
		{command(t, "84821100107D5F5826A993EBC89EEA24957FA0B3CE"), nil, "open the secure channel", "11 C-MAC R-MAC"},
		{GetData(TagCardData), CardData(3, 0x70), "read card recognition data", "SCP03 i=70"},
		{GetData(0x9F36), nil, "read object 9F36", ""},
		{GetStatus{Part: Applications}.Command(), Entry{AID: inst, State: 7}.Append(nil, Applications, nil), "list applications", inst.String() + " selectable"},
		{Lock(inst).Command(), nil, "set state: lock", inst.String()},
		{InstallApplet(pkg, mod, inst, Privileges{}.With(PrivDefaultSelected), nil).Command(), nil, "install and make selectable", "default selected"},
		{Personalize(inst).Command(), nil, "start personalisation", inst.String()},
		{Delete{App: pkg, Related: true}.Command(), nil, "delete with all that comes from it", pkg.String()},
		{command(t, "80E80000 05 C403010203"), nil, "load code", "0"},
		{command(t, "80D80001 17 30 8810 "+key+" 03 504A77"), nil, "put keys", "check value 504A77"},
		{command(t, "80E28800 08 0016 05 3132333435"), nil, "personalise, last block", "0016, 5 bytes"},
		{command(t, "84E28800 10 00112233445566778899AABBCCDDEEFF"), nil, "personalise (under the secure channel)", ""},
		{command(t, "80E60C00 02 0000"), nil, "install, malformed", ""},
		{Install{For: ForInstall, LoadFile: pkg, Module: mod, App: inst, Token: []byte{1}, Params: SystemParams{NonVolatile: 4096,
			Contactless: &ContactlessParams{Initial: Deactivated}}.Append(nil)}.Command(),
			Confirmation{Counter: 17, Unique: []byte{1}}.Sign(AES, unhex(t, key), []byte(pkg), []byte(inst)).Bytes(), "install", "4096 bytes"},
		{Delete{App: inst, Token: []byte{1}}.Command(), Confirmation{Counter: 17}.Sign(AES, unhex(t, key), []byte(inst)).Bytes(), "delete", "receipt number"},
		{command(t, "80CA00A500"), RegistryInfo{Counter: 31}.Bytes(), "read contactless registry information", "31"},
		{ContactlessQuery{Prefix: inst}.Command(), unhex(t, "610C4F05D2450077009F70020701"), "list the contactless registry", "D245007700 selectable, activated"},
		{ContactlessSet{MakeDefaults, []AID{inst}}.Command(), nil, "make the default", inst.String()},
		{ContactlessSet{Activate, []AID{inst}}.Command(), Failures([]AID{inst}, []AID{pkg}), "activate over the air", "in the way"},
		{command(t, "80F00203 00"), nil, "change a life cycle state, malformed", ""},
		{command(t, "80D80001 48 70 B041 04"+strings.Repeat("22", 64)+" F00100 00"), nil, "put keys", "ECC public, 65 bytes"},
	} {
		e, ok := Explain(tt.c, iso7816.Response{Data: tt.data, SW: iso7816.OK})
		if !ok || e.EN != tt.en || e.ZH == "" {
			t.Errorf("%v: %q %q %v, want %q", tt.c, e.EN, e.ZH, ok, tt.en)
			continue
		}
		text := fmt.Sprint(e.Fields)
		if !strings.Contains(text, tt.has) {
			t.Errorf("%s lacks %q: %s", tt.en, tt.has, text)
		}
		if strings.Contains(text, key) || strings.Contains(text, "3132333435") {
			t.Errorf("%s shows a secret: %s", tt.en, text)
		}
		for _, f := range e.Fields {
			if f.NameZH == "" {
				t.Errorf("%s: field %q has no Chinese name", tt.en, f.Name)
			}
		}
	}
	if _, ok := Explain(command(t, "00A4040000"), iso7816.Response{}); ok {
		t.Error("SELECT is explained here")
	}
	for _, purse := range []string{"8054010000", "805000020B 01 00000001 000000000010 10"} {
		if _, ok := Explain(command(t, purse), iso7816.Response{}); ok {
			t.Errorf("%s, a purse command, is explained here", purse)
		}
	}
}
