package isd_test

import (
	"bytes"
	"testing"

	"koala/card/isd"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"

	"pgregory.net/rapid"
)

// FuzzStranger throws APDUs at a card, each behind its length: nothing panics,
// and without keys nothing is changed but counters.
func FuzzStranger(f *testing.F) {
	add := func(list ...string) {
		var in []byte
		for _, s := range list {
			c := unhex(f, s)
			in = append(append(in, byte(len(c))), c...)
		}
		f.Add(in)
	}
	add("00A4040000", "80CA006600", "8050000008010203040506070800", "8482010010BA6961667737C5BCEBECE14C7D6A4376", "84F28002024F0000")
	add("80E60C001906F06B6F616C617E0107F06B6F616C617E010208F06B6F616C617E010101000000", "80E400000A4F08F06B6F616C617E0101")
	add("0070000001", "01A4040008F06B6F616C617E0101", "81CA000000", "00708001", "80E2880004010001AA", "80D8008101", "80F0807F00")
	image := func() []byte {
		b := newBench(f, gp.AES)
		b.open(0x01)
		b.must(noteInstance().Command())
		return b.e.Image()
	}()
	f.Fuzz(func(t *testing.T, in []byte) {
		b := (&bench{t: t, cat: catalogOfTests, keys: gp.FactoryKeys()}).from(image)
		before := b.world()
		for i := 0; len(in) > 0 && i < 64; i++ {
			n := min(int(in[0]), len(in)-1)
			if n == 0 {
				_ = b.e.Reset()
			} else if _, err := b.e.TransmitRaw(in[1 : 1+n]); err != nil {
				t.Fatal(err)
			}
			in = in[1+n:]
		}
		if after := b.world(); after != before {
			t.Errorf("a stranger changed\n%sto\n%s", before, after)
		}
	})
}

var catalogOfTests = newCatalog(isd.Config{})

// FuzzManaged sends any plain command through an open channel: nothing panics,
// and what ends in an error has changed nothing.
func FuzzManaged(f *testing.F) {
	for _, c := range []iso7816.Command{
		noteInstance().Command(), gp.Delete{App: noteAID}.Command(), gp.Lock(noteAID).Command(), gp.Personalize(noteAID).Command(),
		gp.GetStatus{Part: gp.Applications}.Command(), domainInstance().Command(), gp.StoreTLVs([]byte{0x42, 1, 2}),
		withParams(domainInstance(), gp.SystemParams{Granted: 900, Contactless: &gp.ContactlessParams{Group: 1}}).Command(),
		gp.Install{For: gp.ForRegistryUpdate, App: noteAID, Keep: true, Params: gp.SystemParams{Contactless: &gp.ContactlessParams{}}.Append(nil)}.Command(),
		gp.PutKey{First: 1, NewVersion: 0x70, Keys: []gp.KeyField{{Type: gp.ECC, Cipher: append([]byte{4}, make([]byte, 64)...), Reference: []byte{0}}}}.Command(gp.BareKeys),
		gp.StoreTLVs(gp.CardData(3, 0x70)), gp.Delete{KeyVersion: 0x70, KeyID: 1}.Command(),
		gp.Install{For: gp.ForLoad, LoadFile: foreign}.Command(), {CLA: gp.CLA, INS: gp.InsLoad, P1: 0x80, Data: []byte{0xC4, 1, 2}},
		{CLA: gp.CLA, INS: gp.InsStoreData, P1: 0x88, Data: []byte{1, 0, 1, 0xAA}},
	} {
		f.Add(c.Bytes(), byte(0x33))
	}
	b := newBench(f, gp.AES)
	b.open(0x01)
	b.must(noteInstance().Command())
	image := b.e.Image()
	f.Fuzz(func(t *testing.T, raw []byte, level byte) {
		c, err := iso7816.ParseCommand(raw)
		if err != nil || len(c.Data) > 200 {
			return
		}
		b := (&bench{t: t, cat: catalogOfTests, keys: gp.FactoryKeys()}).from(image)
		levels := []gp.Level{0x01, 0x03, 0x11, 0x33}
		b.open(levels[int(level)%len(levels)])
		b.must(gp.Personalize(noteAID).Command())
		before := b.world()
		c.CLA = gp.CLA
		if r := b.do(c); failed(r.SW) && b.world() != before {
			t.Errorf("%X: %v, and yet\n%sbecame\n%s", raw, r.SW, before, b.world())
		}
	})
}

func failed(sw iso7816.SW) bool { return !sw.OK() && sw>>8 != 0x62 && sw>>8 != 0x63 }

// The registry against a model: any order of installing, deleting, locking and
// unlocking, with resets and torn commands between, lists what the answers said.
func TestRegistryModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBench(t, rapid.SampledFrom([]gp.KeyType{gp.DES, gp.AES}).Draw(rt, "algorithm"))
		b.open(0x01)
		model := map[gp.AID]byte{}
		names := []gp.AID{noteAID, secondNote, noteAID + "\x07", foreign}
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			app := rapid.SampledFrom(names).Draw(rt, "application")
			state, there := model[app]
			next, stays := state, there
			var c iso7816.Command
			var want bool
			switch rapid.IntRange(0, 4).Draw(rt, "act") {
			case 0:
				in := noteInstance()
				in.App = app
				c, want, next, stays = in.Command(), !there, gp.Selectable, true
			case 1:
				c, want, stays = gp.Delete{App: app}.Command(), there, false
			case 2:
				c, want, next = gp.Lock(app).Command(), there, state|gp.LockBit
			case 3:
				c, want, next = gp.Unlock(app).Command(), there && state&gp.LockBit != 0, state&^gp.LockBit
			case 4:
				b.power()
				b.open(0x01)
				continue
			}
			w, err := b.h.Wrap(c)
			if err != nil {
				rt.Fatal(err)
			}
			b.e.Memory().CutAfter(rapid.IntRange(0, 30).Draw(rt, "cut"))
			r, err := b.e.Transmit(w)
			b.e.Memory().CutAfter(0)
			if err == nil && r.SW.OK() != want {
				rt.Fatalf("%v with %v: %v", c, model, r.SW)
			}
			if err == nil && want {
				set(model, app, next, stays)
			}
			if err != nil { // torn: the card says which of the two it was
				b.power()
				b.open(0x01)
				if got := states(b); !equal(got, model) {
					set(model, app, next, stays)
				}
			}
			if got := states(b); !equal(got, model) {
				rt.Fatalf("lists %v, want %v", got, model)
			}
		}
	})
}

func set(model map[gp.AID]byte, app gp.AID, state byte, there bool) {
	delete(model, app)
	if there {
		model[app] = state
	}
}

func states(b *bench) map[gp.AID]byte {
	out := map[gp.AID]byte{}
	for _, x := range b.status(gp.Applications) {
		out[x.AID] = x.State
	}
	return out
}

func equal(a, b map[gp.AID]byte) bool {
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return len(a) == len(b)
}

// An image with a domain is restored to the same card.
func TestImageKeepsTheDomain(t *testing.T) {
	b := newBench(t, gp.DES)
	b.open(0x13)
	b.must(noteInstance().Command())
	c := b.from(b.e.Image())
	if !bytes.Equal(c.e.Image(), b.e.Image()) || c.world() != b.world() {
		t.Error("the copy differs")
	}
	if n := len(b.e.Image()); n > 16<<10 {
		t.Errorf("an element with one applet takes %d bytes", n)
	}
}
