package isd_test

import (
	"bytes"
	"testing"

	"koala/card"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// withParams is an INSTALL with system specific parameters behind its C9.
func withParams(in gp.Install, p gp.SystemParams) gp.Install {
	in.Params = p.Append(bytes.Clone(in.Params))
	return in
}

// Privileges that this card does not have, or that do not go together, are
// refused in INSTALL and in a registry update alike.
func TestPrivilegesThatCannotBe(t *testing.T) {
	for _, tt := range []struct {
		name   string
		p      gp.Privileges
		domain bool
		want   iso7816.SW
	}{
		{"delegated management", gp.Privileges{}.With(gp.PrivDelegated), true, iso7816.OK},
		{"authorized management", gp.Privileges{}.With(gp.PrivSecurityDomain).With(gp.PrivAuthorizedMgmt), true, iso7816.OK},
		{"both", gp.Privileges{}.With(gp.PrivDelegated).With(gp.PrivAuthorizedMgmt), true, iso7816.SWData},
		{"mandated DAP", gp.Privileges{}.With(gp.PrivMandatedDAP), true, iso7816.SWData},
		{"DAP", gp.Privileges{}.With(gp.PrivDAP), true, iso7816.SWData},
		{"ciphered load files", gp.Privileges{}.With(gp.PrivSecurityDomain).With(gp.PrivCipheredLoad), true, iso7816.SWData},
		{"tokens without a domain", gp.Privileges{}.With(gp.PrivTokenVerification), false, iso7816.SWData},
		{"receipts without a domain", gp.Privileges{}.With(gp.PrivReceiptGeneration), false, iso7816.SWData},
		{"authority without a domain", gp.Privileges{}.With(gp.PrivAuthorizedMgmt), false, iso7816.SWData},
		{"card lock without a domain", gp.Privileges{}.With(gp.PrivCardLock), false, iso7816.OK},
	} {
		b := newBench(t, gp.AES)
		b.open(0x01)
		in, app := noteInstance(), noteAID
		if tt.domain {
			in, app = domainInstance(), spDomain
		}
		fresh := in
		fresh.Privileges = tt.p
		if r := b.do(fresh.Command()); r.SW != tt.want {
			t.Errorf("%s: %v", tt.name, r.SW)
		}
		if !tt.want.OK() {
			b.must(in.Command())
		}
		if r := b.do(gp.Install{For: gp.ForRegistryUpdate, App: app, Privileges: tt.p}.Command()); r.SW != tt.want {
			t.Errorf("%s, registry update: %v", tt.name, r.SW)
		}
	}
	b := newBench(t, gp.AES)
	b.open(0x01)
	in := domainInstance()
	in.App, in.Params = foreign, tlv.Append(nil, gp.TagParams, unhexConst("8102021582018083018084008602010287028000")) // as a public host library writes them
	b.must(in.Command())
	in.App = spDomain
	in.Params = tlv.Append(nil, gp.TagParams, []byte{0x81, 2, 0x01, 0x05})
	if r := b.do(in.Command()); r.SW != iso7816.SWData {
		t.Errorf("a domain that speaks SCP01: %v", r.SW)
	}
}

// Space per issuer: a domain gets so much, and what it installs, is moved into
// it or is personalised in it stays within (6A84), with nothing left behind.
func TestSpaceOfADomain(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(0x01)
	b.must(noteInstance().Command())
	used := func(aid gp.AID) (n int) {
		x, ok := find(b.e, card.AID(aid))
		if !ok {
			t.Fatal("no", aid)
		}
		b.e.PowerOff()
		_, _ = b.e.Factory(func(s *card.Session) iso7816.SW {
			n = s.Registry().UsedUnder(x.ID)
			return iso7816.OK
		})
		b.power()
		b.open(0x01)
		return n
	}
	note := used(noteAID)
	probe := domainInstance()
	b.must(probe.Command())
	empty := used(spDomain)
	b.must(gp.Delete{App: spDomain}.Command())
	in := withParams(probe, gp.SystemParams{Granted: uint32(empty + note)})
	in.Privileges = in.Privileges.With(gp.PrivAuthorizedMgmt)
	b.must(in.Command())
	b.send(iso7816.Select([]byte(spDomain)))
	b.authenticate(0, 0x01)
	second := noteInstance()
	second.App = secondNote
	b.must(second.Command())
	if got := used(spDomain); got != empty+note {
		t.Errorf("the domain uses %d, not %d", got, empty+note)
	}
	left, _ := tlv.Find(func() []byte {
		b.send(iso7816.Select([]byte(spDomain)))
		return b.raw("80CAFF2100").Data
	}(), 0x82)
	if !bytes.Equal(left, make([]byte, 4)) {
		t.Errorf("a full domain says it has %X bytes left", left)
	}
	b.open(0x01)
	before := b.world()
	if r := b.do(gp.Install{For: gp.ForExtradition, Domain: spDomain, App: noteAID}.Command()); r.SW != iso7816.SWNoSpace {
		t.Errorf("moved beyond the quota: %v", r.SW)
	}
	b.send(iso7816.Select([]byte(spDomain)))
	b.authenticate(0, 0x01)
	third := noteInstance()
	third.App = foreign
	if r := b.do(third.Command()); r.SW != iso7816.SWNoSpace {
		t.Errorf("installed beyond the quota: %v", r.SW)
	}
	if b.world() != before {
		t.Error("the refused commands left something")
	}
	b.open(0x01)
	grant := func(n int) iso7816.Response {
		in := gp.Install{For: gp.ForRegistryUpdate, App: spDomain, Keep: true, Params: gp.SystemParams{Granted: uint32(n)}.Append(nil)}
		return b.do(in.Command())
	}
	if r := grant(empty + note - 1); r.SW != iso7816.SWNoSpace || b.world() != before {
		t.Errorf("a quota below what is used: %v", r.SW)
	}
	if r := grant(empty + 2*note); !r.SW.OK() {
		t.Errorf("a larger quota: %v", r.SW)
	}
	b.must(gp.Install{For: gp.ForExtradition, Domain: spDomain, App: noteAID}.Command())
	if r := b.do(gp.Install{For: gp.ForRegistryUpdate, App: spDomain, Keep: true}.Command()); !r.SW.OK() {
		t.Errorf("an update without quotas: %v", r.SW)
	}
	if x, _ := find(b.e, card.AID(spDomain)); x.Quota.Granted != uint32(empty+2*note) {
		t.Errorf("a quota of %d", x.Quota.Granted)
	}
}

// The quotas of an application itself, and what a load file asks for.
func TestSpaceOfAnApplication(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(0x01)
	b.must(noteInstance().Command())
	x, _ := find(b.e, card.AID(noteAID))
	note := 0
	b.e.PowerOff()
	_, _ = b.e.Factory(func(s *card.Session) iso7816.SW {
		note = s.Registry().Used(x.ID)
		return iso7816.OK
	})
	b.power()
	third := noteInstance()
	third.App = foreign
	b.open(0x01)
	for p, want := range map[*gp.SystemParams]iso7816.SW{
		{NonVolatile: uint32(note)}:     iso7816.OK,
		{NonVolatile: uint32(note - 1)}: iso7816.SWNoSpace,
		{Volatile: 20 << 10}:            iso7816.SWNoSpace,
	} {
		if r := b.do(withParams(third, *p).Command()); r.SW != want {
			t.Errorf("%+v: %v", *p, r.SW)
		}
		b.do(gp.Delete{App: foreign}.Command())
	}
	if r := b.do(gp.Install{For: gp.ForLoad, LoadFile: foreign, Params: gp.SystemParams{Code: 1 << 20}.Append(nil)}.Command()); r.SW != iso7816.SWNoSpace {
		t.Errorf("a megabyte of code: %v", r.SW)
	}
	if r := b.do(gp.Install{For: gp.ForInstall, LoadFile: gp.AID(noteFile), Module: gp.AID(noteModule), App: foreign, Params: unhex(t, "C900EF03C80101")}.Command()); r.SW != iso7816.SWData {
		t.Errorf("a quota of one byte's length: %v", r.SW)
	}
}

// INSTALL's contactless parameters: started off the air, not activatable, in a
// group, with what a wallet shows; a registry update moves it.
func TestContactlessParameters(t *testing.T) {
	state := func(b *bench) card.ContactlessData {
		x, _ := find(b.e, card.AID(noteAID))
		b.open(0x01)
		return x.Contactless
	}
	for _, tt := range []struct {
		c    *gp.ContactlessParams
		want card.Availability
	}{
		{nil, card.Activated},
		{&gp.ContactlessParams{Initial: gp.Activated}, card.Activated},
		{&gp.ContactlessParams{Initial: gp.Deactivated}, card.Deactivated},
		{&gp.ContactlessParams{Initial: gp.NonActivatable}, card.NonActivatable},
	} {
		for _, later := range []bool{false, true} {
			b := newBench(t, gp.AES)
			b.open(0x01)
			in := withParams(noteInstance(), gp.SystemParams{Contactless: tt.c})
			if later {
				first := in
				first.For, first.Params = gp.ForInstall, nil
				b.must(first.Command())
				in = gp.Install{For: gp.ForSelectable, App: noteAID, Params: in.Params}
			}
			b.must(in.Command())
			if got := state(b).State; got != tt.want {
				t.Errorf("%+v, later %v: %02X", tt.c, later, got)
			}
		}
	}
	b := newBench(t, gp.AES)
	b.open(0x01)
	uri := tlv.Append(nil, 0x5F50, []byte("koala"))
	b.must(withParams(noteInstance(), gp.SystemParams{Contactless: &gp.ContactlessParams{Initial: gp.Activated, Group: 3, Family: 0x20, NeedsDisplay: true, Interaction: uri}}).Command())
	if c := state(b); c.Group != 3 || c.Family != 0x20 || !c.NeedsDisplay {
		t.Errorf("%+v", c)
	}
	b.send(iso7816.Select([]byte(gp.ContactlessAID)))
	list, err := gp.ParseContactlessStatus(b.send(gp.ContactlessQuery{Prefix: noteAID}.Command()).Data)
	if err != nil || len(list) != 1 || !bytes.Equal(list[0].Family, []byte{0, 0x20}) || !bytes.Equal(list[0].Display, []byte{0}) || !bytes.Equal(list[0].Interaction, uri) {
		t.Errorf("%+v %v", list, err)
	}
	b.open(0x01)
	rival := withParams(noteInstance(), gp.SystemParams{Contactless: &gp.ContactlessParams{Initial: gp.Activated, Group: 3}})
	rival.App = secondNote
	b.must(rival.Command())
	if x, _ := find(b.e, card.AID(secondNote)); x.Contactless.State != card.Deactivated {
		t.Error("two of a group are active")
	}
	b.open(0x01)
	update := func(app gp.AID, initial byte) iso7816.SW {
		return b.do(gp.Install{For: gp.ForRegistryUpdate, App: app, Keep: true, Params: gp.SystemParams{Contactless: &gp.ContactlessParams{Initial: initial}}.Append(nil)}.Command()).SW
	}
	if a, c, d := update(secondNote, gp.Activated), update(noteAID, gp.Deactivated), update(secondNote, gp.Activated); a != iso7816.SWConditions || !c.OK() || !d.OK() {
		t.Errorf("registry updates: %v %v %v", a, c, d)
	}
}

// Who may lock whom: a domain its own business and itself, but it cannot unlock
// itself; with global lock anybody's lock, and nothing else of theirs.
func TestLockRights(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(0x01)
	domain := domainInstance()
	domain.Privileges = domain.Privileges.With(gp.PrivGlobalLock).With(gp.PrivGlobalRegistry).With(gp.PrivGlobalDelete).With(gp.PrivAuthorizedMgmt)
	b.must(domain.Command())
	b.must(noteInstance().Command())
	b.send(iso7816.Select([]byte(spDomain)))
	b.authenticate(0, 0x01)
	if list := b.status(gp.Applications); len(list) != 2 {
		t.Errorf("with global registry it sees %v", list)
	}
	for _, tt := range []struct {
		what string
		in   gp.SetStatus
		want iso7816.SW
	}{
		{"locks another's", gp.Lock(noteAID), iso7816.OK},
		{"unlocks another's", gp.Unlock(noteAID), iso7816.OK},
		{"moves another's on", gp.SetStatus{Part: gp.Applications, State: 0x0F, App: noteAID}, iso7816.SWConditions},
		{"moves itself on", gp.SetStatus{Part: gp.Applications, State: gp.Personalized, App: spDomain}, iso7816.OK},
		{"locks itself", gp.Lock(spDomain), iso7816.OK},
		{"unlocks itself", gp.Unlock(spDomain), iso7816.SWConditions},
		{"locks the issuer", gp.Lock(gp.IssuerDomain), iso7816.SWConditions},
	} {
		if r := b.do(tt.in.Command()); r.SW != tt.want {
			t.Errorf("%s: %v", tt.what, r.SW)
		}
	}
	b.must(gp.Delete{App: noteAID}.Command()) // global delete
	if r := b.send(iso7816.Select([]byte(spDomain))); r.SW != iso7816.SWFileNotFound {
		t.Errorf("a locked domain: %v", r.SW)
	}
	b.open(0x01)
	b.must(gp.Unlock(spDomain).Command())
	if list := b.status(gp.Applications); len(list) != 1 || list[0].State != gp.Personalized {
		t.Errorf("unlocked by the issuer: %v", list)
	}
}

// Domains do not come to stand in a ring.
func TestExtraditionMakesNoRing(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(0x01)
	second := domainInstance()
	second.App = foreign
	b.must(domainInstance().Command())
	b.must(second.Command())
	b.must(gp.Install{For: gp.ForExtradition, Domain: spDomain, App: foreign}.Command())
	if r := b.do(gp.Install{For: gp.ForExtradition, Domain: foreign, App: spDomain}.Command()); r.SW != iso7816.SWConditions {
		t.Errorf("a ring of two: %v", r.SW)
	}
	if r := b.do(gp.Install{For: gp.ForRegistryUpdate, Keep: true, Domain: foreign, App: spDomain}.Command()); r.SW != iso7816.SWConditions {
		t.Errorf("by registry update: %v", r.SW)
	}
}

// The issuer's own card recognition data is kept while it tells the truth.
func TestRecognitionData(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(0x01)
	_, v, _, err := tlv.Next(gp.CardData(3, gp.OptionSCP03))
	if err != nil {
		t.Fatal(err)
	}
	own := append(bytes.Clone(v[:1]), byte(len(v)-2+6)) // one more object in 73
	own = append(append(own, v[2:]...), unhexConst("650406022A03")...)
	b.must(gp.StoreTLVs(tlv.Append(nil, gp.TagCardData, own)))
	want := tlv.Append(nil, gp.TagCardData, own)
	if got := b.raw("80CA006600").Data; !bytes.Equal(got, want) {
		t.Errorf("66 is %X, want %X", got, want)
	}
	if r := b.do(gp.StoreTLVs(gp.CardData(2, gp.OptionSCP02))); r.SW != iso7816.SWData {
		t.Errorf("66 that lies: %v", r.SW)
	}
	if got := b.from(b.e.Image()).raw("80CA006600").Data; !bytes.Equal(got, want) {
		t.Errorf("restored 66 is %X", got)
	}
}
