package isd_test

import (
	"bytes"
	"fmt"
	"testing"

	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

const (
	noteAID           = gp.AID(noteApp)
	foreign    gp.AID = "\xD0\xD1\xD2\xD3\xD4\xD5\x01"
	spDomain   gp.AID = "\xA0\x00\x00\x01\x51\x53\x50\x42"
	secondNote gp.AID = "\xF0koala\x7E\x01\x02"
)

func domainInstance() gp.Install {
	return gp.InstallApplet(gp.DomainLoadFile, gp.DomainModule, spDomain, gp.Privileges{}.With(gp.PrivSecurityDomain), unhexConst("81020370"))
}

// Each row runs on a fresh card and must change nothing when it is refused.
func TestInstallRules(t *testing.T) {
	note := noteInstance()
	with := func(f func(in *gp.Install)) gp.Install { in := note; f(&in); return in }
	for _, tt := range []struct {
		name  string
		first []gp.Install // must succeed
		in    gp.Install
		want  iso7816.SW
		state byte // of the application afterwards
	}{
		{"install and make selectable", nil, note, 0x9000, gp.Selectable},
		{"install alone", nil, with(func(in *gp.Install) { in.For = gp.ForInstall }), 0x9000, gp.Installed},
		{"make selectable later", []gp.Install{with(func(in *gp.Install) { in.For = gp.ForInstall })}, gp.Install{For: gp.ForSelectable, App: noteAID}, 0x9000, gp.Selectable},
		{"make selectable twice", []gp.Install{note}, gp.Install{For: gp.ForSelectable, App: noteAID}, 0x6985, gp.Selectable},
		{"the same name twice", []gp.Install{note}, note, 0x6985, gp.Selectable},
		{"a load file's name", nil, with(func(in *gp.Install) { in.App = gp.AID(noteFile) }), 0x6985, 0},
		{"no such load file", nil, with(func(in *gp.Install) { in.LoadFile = foreign }), 0x6A88, 0},
		{"no such module", nil, with(func(in *gp.Install) { in.Module = foreign }), 0x6A88, 0},
		{"the applet refuses", nil, with(func(in *gp.Install) { in.Params = tlv.Append(nil, gp.TagParams, []byte("no")) }), 0x6A80, 0},
		{"an applet as a domain", nil, with(func(in *gp.Install) { in.Privileges = in.Privileges.With(gp.PrivSecurityDomain) }), 0x6A80, 0},
		{"a domain as an applet", nil, with(func(in *gp.Install) { in.LoadFile, in.Module = gp.DomainLoadFile, gp.DomainModule }), 0x6A80, 0},
		{"default selected", nil, with(func(in *gp.Install) { in.Privileges = in.Privileges.With(gp.PrivDefaultSelected) }), 0x9000, gp.Selectable},
		{"a second default", []gp.Install{with(func(in *gp.Install) {
			in.App, in.Privileges = secondNote, in.Privileges.With(gp.PrivDefaultSelected)
		})}, with(func(in *gp.Install) { in.Privileges = in.Privileges.With(gp.PrivDefaultSelected) }), 0x6985, 0},
		{"contactless activation", []gp.Install{note}, gp.Install{For: gp.ForRegistryUpdate, App: noteAID,
			Privileges: gp.Privileges{}.With(gp.PrivContactlessActivate)}, 0x9000, gp.Selectable},
		{"registry update makes no domain", []gp.Install{note}, gp.Install{For: gp.ForRegistryUpdate, App: noteAID,
			Privileges: gp.Privileges{}.With(gp.PrivSecurityDomain)}, 0x6985, gp.Selectable},
		{"extradition", []gp.Install{note, domainInstance()}, gp.Install{For: gp.ForExtradition, Domain: spDomain, App: noteAID}, 0x9000, gp.Selectable},
		{"extradition to an applet", []gp.Install{note}, gp.Install{For: gp.ForExtradition, Domain: noteAID, App: noteAID}, 0x6985, gp.Selectable},
		{"extradition to nobody", []gp.Install{note}, gp.Install{For: gp.ForExtradition, Domain: foreign, App: noteAID}, 0x6A88, gp.Selectable},
		{"personalise nobody", nil, gp.Personalize(foreign), 0x6A88, 0},
		{"personalise a load file", nil, gp.Personalize(gp.AID(noteFile)), 0x6985, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, gp.AES)
			b.open(0x03)
			for _, in := range tt.first {
				b.must(in.Command())
			}
			before := b.world()
			if r := b.do(tt.in.Command()); r.SW != tt.want {
				t.Fatalf("answers %v, want %04X", r.SW, uint16(tt.want))
			}
			if after := b.world(); !tt.want.OK() && after != before {
				t.Errorf("a refused command changed\n%sto\n%s", before, after)
			}
			state := byte(0)
			for _, x := range b.status(gp.Applications) {
				if x.AID == noteAID {
					state = x.State
				}
			}
			if state != tt.state {
				t.Errorf("state %02X, want %02X", state, tt.state)
			}
		})
	}
}

func TestInstallReachesTheApplet(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(0x33)
	in := noteInstance()
	in.Params = append(tlv.Append(nil, gp.TagParams, bytes.Repeat([]byte{0x5A}, 300)), unhex(t, "EF03CF0181")...)
	parts := in.Commands(b.h.MaxData())
	if len(parts) < 2 {
		t.Fatal("not in parts")
	}
	for i, c := range parts {
		if data := b.must(c); (len(data) == 1) != (i == len(parts)-1) {
			t.Errorf("part %d answers %X", i, data)
		}
	}
	if x := b.status(gp.Applications)[0]; !bytes.Equal(x.Implicit, []byte{0x81}) {
		t.Errorf("implicit selection %X", x.Implicit)
	}
	b.send(iso7816.Select([]byte(noteApp)))
	if r := b.raw("80CA000000"); !bytes.Equal(r.Data[:250], bytes.Repeat([]byte{0x5A}, 250)) {
		t.Errorf("the applet was told %v", r)
	}
}

func TestDefaultSelected(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(0x01)
	in := noteInstance()
	in.Privileges = in.Privileges.With(gp.PrivDefaultSelected)
	b.must(in.Command())
	b.power()
	if r := b.raw("80CA000000"); !r.SW.OK() || string(r.Data[:5]) != "hello" {
		t.Errorf("after reset %v", r)
	}
	b.send(iso7816.Select([]byte(gp.IssuerDomain)))
	if r := b.raw("80CA006600"); !r.SW.OK() {
		t.Errorf("the domain is not reached by name: %v", r.SW)
	}
}

func TestDeleteRules(t *testing.T) {
	for _, tt := range []struct {
		name string
		d    gp.Delete
		want iso7816.SW
		apps int // left of two notes and a domain that has the second
	}{
		{"an application", gp.Delete{App: noteAID}, 0x9000, 2},
		{"its load file alone", gp.Delete{App: gp.AID(noteFile)}, 0x6985, 3},
		{"its load file with instances", gp.Delete{App: gp.AID(noteFile), Related: true}, 0x9000, 1},
		{"a load file nobody uses", gp.Delete{App: gp.AID(catalogPurse)}, 0x9000, 3},
		{"a domain that has applications", gp.Delete{App: spDomain}, 0x6985, 3},
		{"the issuer's domain", gp.Delete{App: gp.IssuerDomain}, 0x6985, 3},
		{"the load file of the domains", gp.Delete{App: gp.DomainLoadFile, Related: true}, 0x6985, 3},
		{"nobody", gp.Delete{App: foreign}, 0x6A88, 3},
		{"keys of another version", gp.Delete{KeyVersion: 0x20}, 0x6A88, 3},
		{"the last key set", gp.Delete{KeyVersion: 0xFF}, 0x6985, 3},
		{"one key of it", gp.Delete{KeyVersion: 0xFF, KeyID: 3}, 0x6985, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, gp.AES)
			b.open(0x03)
			second := noteInstance()
			second.App = secondNote
			for _, in := range []gp.Install{noteInstance(), domainInstance(), second, {For: gp.ForExtradition, Domain: spDomain, App: secondNote}} {
				b.must(in.Command())
			}
			before := b.world()
			if r := b.do(tt.d.Command()); r.SW != tt.want {
				t.Fatalf("answers %v, want %04X", r.SW, uint16(tt.want))
			}
			if after := b.world(); !tt.want.OK() && after != before {
				t.Errorf("a refused command changed\n%sto\n%s", before, after)
			}
			if n := len(b.status(gp.Applications)); n != tt.apps {
				t.Errorf("%d applications left, want %d", n, tt.apps)
			}
		})
	}
}

func TestDeleteGivesTheMemoryBack(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(0x01)
	b.must(noteInstance().Command())
	b.must(gp.Delete{App: noteAID}.Command())
	free := fmt.Sprintf("%X", b.raw("80CAFF2100").Data)
	for range 20 {
		b.must(noteInstance().Command())
		b.must(gp.Delete{App: noteAID}.Command())
	}
	if got := fmt.Sprintf("%X", b.raw("80CAFF2100").Data); got != free {
		t.Errorf("resources went from %s to %s", free, got)
	}
}

func TestDeleteOfASelectedApplication(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(0x01)
	b.must(noteInstance().Command())
	if r := b.raw("0070000001"); !r.SW.OK() || !bytes.Equal(r.Data, []byte{1}) {
		t.Fatalf("MANAGE CHANNEL %v", r)
	}
	sel := iso7816.Select([]byte(noteApp))
	sel.CLA = 1
	b.send(sel)
	if r := b.do(gp.Delete{App: noteAID}.Command()); r.SW != iso7816.SWConditions {
		t.Errorf("in use on channel 1: %v", r.SW)
	}
	b.raw("00708001")
	b.must(gp.Delete{App: noteAID}.Command())
}

// Code is accepted and thrown away: the load file stands in the registry and so
// do instances of it, which run only where the element was built with them.
func TestLoad(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(0x03)
	forLoad := gp.Install{For: gp.ForLoad, LoadFile: foreign, Domain: gp.IssuerDomain}
	blocks, err := gp.Load(bytes.Repeat([]byte{0xCA, 0xFE}, 400), b.h.MaxData())
	if err != nil {
		t.Fatal(err)
	}
	b.must(forLoad.Command())
	for _, c := range blocks {
		if data := b.must(c); !bytes.Equal(data, []byte{0}) {
			t.Errorf("LOAD confirms %X", data)
		}
	}
	if list := b.status(gp.LoadFiles); list[len(list)-1].AID != foreign {
		t.Errorf("load files %v", list)
	}
	in := gp.InstallApplet(foreign, "\xD0\xD1\xD2\xD3\xD4\xD5\x01\x01", "\xD0\xD1\xD2\xD3\xD4\xD5\x01\x01", gp.Privileges{}, nil)
	b.must(in.Command())
	b.must(gp.Lock(in.App).Command())
	b.must(gp.Unlock(in.App).Command())
	if r := b.do(gp.Delete{App: foreign}.Command()); r.SW != iso7816.SWConditions {
		t.Errorf("a load file with an instance: %v", r.SW)
	}
	if r := b.do(gp.Install{For: gp.ForInstall, LoadFile: gp.AID(noteFile), Module: foreign, App: foreign}.Command()); r.SW != iso7816.SWReferenceNotFound {
		t.Errorf("a module that a built-in load file has not: %v", r.SW)
	}
	if r := b.send(iso7816.Select([]byte(in.App))); r.SW != iso7816.SWFileNotFound {
		t.Errorf("SELECT of thrown away code: %v", r.SW)
	}
	b.open(0x03)
	b.must(gp.Delete{App: foreign, Related: true}.Command())
	// A client that replaces what is there: delete, load the same name, install.
	b.must(gp.Delete{App: gp.AID(noteFile), Related: true}.Command())
	if r := b.do(noteInstance().Command()); r.SW != iso7816.SWReferenceNotFound {
		t.Errorf("install from a deleted load file: %v", r.SW)
	}
	forLoad.LoadFile = gp.AID(noteFile)
	b.must(forLoad.Command())
	for _, c := range blocks {
		b.must(c)
	}
	b.must(noteInstance().Command())
}

func TestLoadRefuses(t *testing.T) {
	start := gp.Install{For: gp.ForLoad, LoadFile: foreign, Domain: gp.IssuerDomain}.Command()
	load := func(p1, p2 byte, data string) iso7816.Command {
		return iso7816.Command{CLA: gp.CLA, INS: gp.InsLoad, P1: p1, P2: p2, Data: unhexConst(data)}
	}
	for _, tt := range []struct {
		name  string
		steps []iso7816.Command
		want  iso7816.SW // of the last step
	}{
		{"with a DAP block", []iso7816.Command{start, load(0, 0, "E2044F02AABBC403AA"), load(0x80, 1, "BBCC")}, 0x9000},
		{"DAP block over two commands", []iso7816.Command{start, load(0, 0, "E2044F02"), load(0x80, 1, "AABBC401BB")}, 0x9000},
		{"without INSTALL", []iso7816.Command{load(0x80, 0, "C401AA")}, 0x6985},
		{"block missing", []iso7816.Command{start, load(0, 0, "C403AA"), load(0x80, 2, "BBCC")}, 0x6A86},
		{"too short", []iso7816.Command{start, load(0, 0, "C403AA"), load(0x80, 1, "BB")}, 0x6A80},
		{"too long", []iso7816.Command{start, load(0, 0, "C403AA"), load(0x80, 1, "BBCCDD")}, 0x6A80},
		{"no load file block", []iso7816.Command{start, load(0x80, 0, "0102030405060708")}, 0x6A80},
		{"after an error", []iso7816.Command{start, load(0, 1, "C403AA"), load(0x80, 0, "C401AA")}, 0x6985},
		{"a name that is taken", []iso7816.Command{gp.Install{For: gp.ForLoad, LoadFile: gp.AID(noteFile)}.Command()}, 0x6985},
		{"for nobody", []iso7816.Command{gp.Install{For: gp.ForLoad, LoadFile: foreign, Domain: "\xD0\xD0\xD0\xD0\xD0"}.Command()}, 0x6A88},
	} {
		b := newBench(t, gp.AES)
		b.open(0x01)
		had := len(b.status(gp.LoadFiles))
		var r iso7816.Response
		for _, c := range tt.steps {
			r = b.do(c)
		}
		if r.SW != tt.want {
			t.Errorf("%s: %v, want %04X", tt.name, r.SW, uint16(tt.want))
		}
		if n := len(b.status(gp.LoadFiles)); (n == had+1) != tt.want.OK() {
			t.Errorf("%s: %d load files", tt.name, n)
		}
	}
}

// The bit locks whatever stands below it; unlocking brings back what was there.
func TestLockKeepsTheState(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(0x01)
	b.must(noteInstance().Command())
	set := func(state byte) iso7816.SW {
		return b.do(gp.SetStatus{Part: gp.Applications, State: state, App: noteAID}.Command()).SW
	}
	for i, tt := range []struct {
		state byte
		want  iso7816.SW
		after byte
	}{
		{0x0F, 0x9000, 0x0F}, // its own state
		{0x07, 0x6985, 0x0F}, // never back
		{0x80, 0x9000, 0x8F}, // gp
		{0x83, 0x9000, 0x8F}, // gpshell3, again
		{0x00, 0x9000, 0x0F}, // gp
		{0x83, 0x9000, 0x8F},
		{0x07, 0x9000, 0x0F},
		{0x00, 0x6985, 0x0F}, // not locked: 00 is no state
		{0x10, 0x6985, 0x0F},
		{0x1F, 0x9000, 0x1F},
	} {
		if sw := set(tt.state); sw != tt.want {
			t.Errorf("step %d, %02X: %v", i, tt.state, sw)
		}
		if got := b.status(gp.Applications)[0].State; got != tt.after {
			t.Errorf("step %d, %02X: state %02X, want %02X", i, tt.state, got, tt.after)
		}
	}
	set(0x80)
	if r := b.send(iso7816.Select([]byte(noteApp))); r.SW != iso7816.SWFileNotFound {
		t.Errorf("a locked application answers SELECT with %v", r.SW)
	}
	for app, want := range map[gp.AID]iso7816.SW{foreign: 0x6A88, gp.AID(noteFile): 0x6A88, gp.IssuerDomain: 0x6985} {
		b.open(0x01)
		if r := b.do(gp.Lock(app).Command()); r.SW != want {
			t.Errorf("lock of %v: %v", app, r.SW)
		}
	}
}

func TestLockOfADomainAndItsApplications(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(0x01)
	for _, in := range []gp.Install{noteInstance(), domainInstance(), {For: gp.ForExtradition, Domain: spDomain, App: noteAID}} {
		b.must(in.Command())
	}
	for _, state := range []byte{0x80, 0x00} {
		b.must(gp.SetStatus{Part: gp.DomainAndApps, State: state, App: spDomain}.Command())
		for _, x := range b.status(gp.Applications) {
			if x.State != state|gp.Selectable {
				t.Errorf("%v is %02X", x.AID, x.State)
			}
		}
	}
	if r := b.do(gp.SetStatus{Part: gp.DomainAndApps, State: 0x80, App: noteAID}.Command()); r.SW != iso7816.SWConditions {
		t.Errorf("an applet with all that is its own: %v", r.SW)
	}
	if got := b.status(gp.Applications)[0].State; got != gp.Selectable {
		t.Errorf("a refused lock left state %02X", got)
	}
}

// Every state of the card against every order.
func TestCardLifeCycle(t *testing.T) {
	const ready, initialized, secured, locked, terminated = gp.CardReady, gp.CardInitialized, gp.CardSecured, gp.CardLocked, gp.CardTerminated
	paths := map[byte][]byte{ready: {}, initialized: {initialized}, secured: {initialized, secured}, locked: {secured, locked}}
	allowed := map[[2]byte]bool{
		{ready, initialized}: true, {ready, secured}: true, {initialized, secured}: true, {secured, locked}: true, {locked, secured}: true,
		{ready, locked}: true, {initialized, locked}: true,
		{ready, terminated}: true, {initialized, terminated}: true, {secured, terminated}: true, {locked, terminated}: true,
	}
	for from, path := range paths {
		for _, to := range []byte{ready, initialized, secured, locked, terminated, 0x00, 0x80} {
			b := newBench(t, gp.AES)
			b.open(0x01)
			for _, state := range path {
				b.must(gp.SetStatus{Part: gp.IssuerDomainPart, State: state}.Command())
			}
			r := b.do(gp.SetStatus{Part: gp.IssuerDomainPart, State: to}.Command())
			if r.SW.OK() != allowed[[2]byte{from, to}] {
				t.Errorf("%02X to %02X: %v", from, to, r.SW)
			}
		}
	}
}

func TestLockedAndTerminatedCard(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(0x01)
	b.must(noteInstance().Command())
	set := func(state byte) iso7816.SW {
		return b.do(gp.SetStatus{Part: gp.IssuerDomainPart, State: state}.Command()).SW
	}
	set(gp.CardSecured)
	set(gp.CardLocked)
	for _, c := range []iso7816.Command{gp.Delete{App: noteAID}.Command(), noteInstance().Command(), gp.StoreTLVs(unhex(t, "4202AABB"))} {
		if r := b.do(c); r.SW != iso7816.SWConditions {
			t.Errorf("%v on a locked card: %v", c, r.SW)
		}
	}
	b.power()
	if r := b.send(iso7816.Select([]byte(noteApp))); r.SW != iso7816.SWFileNotFound {
		t.Errorf("SELECT of an application: %v", r.SW)
	}
	if r := b.send(iso7816.Select(nil)); r.SW != iso7816.SWSelectedBlocked || len(r.Data) == 0 {
		t.Errorf("SELECT of the domain: %v", r)
	}
	b.authenticate(0, 0x01)
	if sw := set(gp.CardSecured); !sw.OK() {
		t.Errorf("unlock: %v", sw)
	}
	if r := b.send(iso7816.Select([]byte(noteApp))); !r.SW.OK() {
		t.Errorf("SELECT after unlock: %v", r.SW)
	}
	b.open(0x01)
	set(gp.CardTerminated)
	if r := b.send(gp.InitializeUpdate(0, [8]byte{})); r.SW != iso7816.SWConditions {
		t.Errorf("a terminated card starts a session: %v", r.SW)
	}
	if r := b.raw("80CA9F7F00"); !r.SW.OK() {
		t.Errorf("a terminated card hides its CPLC: %v", r.SW)
	}
}
