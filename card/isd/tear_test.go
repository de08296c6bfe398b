package isd_test

import (
	"bytes"
	"errors"
	"testing"

	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
)

// CARD 5.1, column GP: power fails at every physical write of a command, with
// nothing, half or all of that write landed. Afterwards registry, keys and
// applet memory are exactly as before or exactly as after the command.
func TestTornManagement(t *testing.T) {
	second := noteInstance()
	second.App = secondNote
	prepare := func(b *bench) {
		for _, in := range []gp.Install{domainInstance(), second, {For: gp.ForExtradition, Domain: spDomain, App: secondNote}} {
			b.must(in.Command())
		}
	}
	withNote := func(b *bench) { prepare(b); b.must(noteInstance().Command()) }
	personalising := func(b *bench) { withNote(b); b.must(gp.Personalize(noteAID).Command()) }
	putKey := func(b *bench) iso7816.Command {
		c, err := b.h.PutKey(0, sameKeys(0x30), gp.MeasuredKeys)
		if err != nil {
			b.t.Fatal(err)
		}
		return c
	}
	always := func(c iso7816.Command) func(*bench) iso7816.Command { return func(*bench) iso7816.Command { return c } }
	for _, tt := range []struct {
		name    string
		before  func(b *bench)
		command func(b *bench) iso7816.Command
	}{
		{"INSTALL", prepare, always(noteInstance().Command())},
		{"INSTALL of a domain", withNote, always(gp.InstallApplet(gp.DomainLoadFile, gp.DomainModule, foreign,
			gp.Privileges{}.With(gp.PrivSecurityDomain), nil).Command())},
		{"INSTALL for registry update", withNote, always(gp.Install{For: gp.ForRegistryUpdate, App: noteAID,
			Privileges: gp.Privileges{}.With(gp.PrivContactlessActivate)}.Command())},
		{"extradition", withNote, always(gp.Install{For: gp.ForExtradition, Domain: spDomain, App: noteAID}.Command())},
		{"DELETE", withNote, always(gp.Delete{App: noteAID}.Command())},
		{"DELETE with related", withNote, always(gp.Delete{App: gp.AID(noteFile), Related: true}.Command())},
		{"PUT KEY", prepare, putKey},
		{"PUT KEY of a token key", prepare, func(b *bench) iso7816.Command {
			f, err := gp.PublicField(issuerECC.Public())
			if err != nil {
				b.t.Fatal(err)
			}
			return gp.PutKey{First: 1, NewVersion: gp.TokenKeyVersion, Keys: []gp.KeyField{f}}.Command(gp.BareKeys)
		}},
		{"INSTALL with a quota, in a group", prepare, always(withParams(noteInstance(), gp.SystemParams{NonVolatile: 4096,
			Contactless: &gp.ContactlessParams{Initial: gp.Deactivated, Group: 2, Interaction: unhexConst("5F500161")}}).Command())},
		{"registry update of activation", withNote, always(gp.Install{For: gp.ForRegistryUpdate, App: noteAID, Keep: true,
			Params: gp.SystemParams{Contactless: &gp.ContactlessParams{Initial: gp.Deactivated}}.Append(nil)}.Command())},
		{"STORE DATA to an applet", personalising, func(b *bench) iso7816.Command {
			return b.storeNote(gp.DGI{ID: 0x0100, Data: bytes.Repeat([]byte{7}, 90)}, gp.DGI{ID: 0x0150, Data: bytes.Repeat([]byte{8}, 90)})[0]
		}},
		{"STORE DATA of the domain", prepare, always(gp.StoreTLVs(unhex(t, "420411223344 4503AABBCC 9F66080102030405060708")))},
		{"rename of the domain", withNote, always(gp.StoreTLVs(unhex(t, "4F08A000000151000099")))},
		{"SET STATUS of an applet", withNote, always(gp.Lock(noteAID).Command())},
		{"SET STATUS of a domain and its applets", withNote, always(gp.SetStatus{Part: gp.DomainAndApps, State: 0x80, App: spDomain}.Command())},
		{"SET STATUS of the card", withNote, always(gp.SetStatus{Part: gp.IssuerDomainPart, State: gp.CardSecured}.Command())},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, gp.AES)
			b.open(0x03)
			tt.before(b)
			tear(t, b, tt.command(b), tt.command)
		})
	}
}

// tear runs the command on copies of the card. The session has to be opened
// again on each; personalisation begins anew with it.
func tear(t *testing.T, b *bench, plain iso7816.Command, command func(b *bench) iso7816.Command) {
	image, old := b.e.Image(), b.world()
	start := func() *bench {
		c := b.from(image)
		c.open(0x03)
		if plain.INS == gp.InsStoreData && plain.P1&gp.StoreDGI != 0 {
			c.must(gp.Personalize(noteAID).Command())
		}
		return c
	}
	whole := start()
	whole.must(command(whole))
	after := whole.world()
	seenOld, seenNew := false, false
	for _, keep := range []int{0, 32, 64} {
		for n := 1; ; n++ {
			c := start()
			w, err := c.h.Wrap(command(c))
			if err != nil {
				t.Fatal(err)
			}
			c.e.Memory().CutAt(n, keep)
			r, err := c.e.Transmit(w)
			if err == nil {
				if !r.SW.OK() || n == 1 && after != old {
					t.Fatalf("write %d: %v", n, r.SW)
				}
				break
			}
			if !errors.Is(err, iso7816.ErrTorn) {
				t.Fatal(err)
			}
			c.power()
			switch got := c.world(); got {
			case old:
				seenOld = true
			case after:
				seenNew = true
			default:
				t.Fatalf("write %d, %d bytes landed: neither old nor new:\n%s", n, keep, got)
			}
		}
	}
	if after != old && (!seenOld || !seenNew) {
		t.Errorf("the cuts left old %v, new %v: both must occur", seenOld, seenNew)
	}
}

// sameKeys is the factory's set under another version, so that world still opens.
func sameKeys(version byte) gp.KeySet {
	k := gp.FactoryKeys()
	k.Version = version
	return k
}

// The last LOAD enters the load file, or not at all.
func TestTornLoad(t *testing.T) {
	b := newBench(t, gp.AES)
	image, old := b.e.Image(), b.world()
	blocks, err := gp.Load(make([]byte, 300), 200)
	if err != nil {
		t.Fatal(err)
	}
	last := func(cut int) (*bench, error) {
		c := b.from(image)
		c.open(0x01)
		c.must(gp.Install{For: gp.ForLoad, LoadFile: foreign}.Command())
		c.must(blocks[0])
		w, err := c.h.Wrap(blocks[1])
		if err != nil {
			t.Fatal(err)
		}
		c.e.Memory().CutAfter(cut)
		_, err = c.e.Transmit(w)
		return c, err
	}
	whole, _ := last(0)
	after := whole.world()
	if after == old {
		t.Fatal("LOAD entered nothing")
	}
	for n := 1; ; n++ {
		c, err := last(n)
		if err == nil {
			break
		}
		c.power()
		if got := c.world(); got != old && got != after {
			t.Fatalf("write %d: neither old nor new:\n%s", n, got)
		}
	}
}

// A lost answer is not a lost command: the state tells (CARD 3.8).
func TestLostAnswer(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(0x33)
	w, _ := b.h.Wrap(noteInstance().Command())
	b.e.LoseAnswer(1)
	if _, err := b.e.Transmit(w); !errors.Is(err, iso7816.ErrTorn) {
		t.Fatal(err)
	}
	b.power()
	b.open(0x33)
	if list := b.status(gp.Applications); len(list) != 1 || list[0].AID != noteAID {
		t.Errorf("the registry lists %v", list)
	}
}

// The counter of SCP03 survives a cut: no challenge comes twice, even when the
// answer never left.
func TestTornChallenge(t *testing.T) {
	b := newBench(t, gp.AES)
	seen := map[string]bool{}
	for n := range 40 {
		b.e.Memory().CutAt(n%4, 64)
		r, err := b.e.Transmit(gp.InitializeUpdate(0, [8]byte{1}))
		if err != nil {
			b.power()
			continue
		}
		b.e.Memory().CutAfter(0)
		if seen[string(r.Data)] {
			t.Fatalf("round %d: the same challenge again", n)
		}
		seen[string(r.Data)] = true
	}
}
