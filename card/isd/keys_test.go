package isd_test

import (
	"bytes"
	"fmt"
	"testing"

	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
)

func newSet(version byte, n int) gp.KeySet {
	k := func(i byte) []byte { return bytes.Repeat([]byte{version ^ i<<4}, n) }
	return gp.KeySet{Version: version, ENC: k(1), MAC: k(2), DEK: k(3)}
}

// CARD 3.7, point 8: both codings, the whole list of check values in the answer,
// the factory's set replaced, the new one in use at once.
func TestPutKey(t *testing.T) {
	everyWay(t, func(t *testing.T, b *bench, w way) {
		sizes := []int{16}
		if w.kind == gp.AES {
			sizes = []int{16, 24, 32}
		}
		for i, n := range sizes {
			for j, coding := range []gp.KeyCoding{gp.MeasuredKeys, gp.BareKeys} {
				b.open(w.level)
				next := newSet(byte(0x30+2*i+j), n)
				replaces := b.keys.Version
				if replaces == gp.FactoryVersion {
					replaces = 0
				}
				c, err := b.h.PutKey(replaces, next, coding)
				if err != nil {
					t.Fatal(err)
				}
				checks := next.Checks(w.kind)
				if got := b.must(c); !bytes.Equal(got, gp.PutKeyAnswer(next.Version, checks[:]...)) {
					t.Errorf("answers %X", got)
				}
				if r := b.send(gp.InitializeUpdate(b.keys.Version, [8]byte{})); r.SW != iso7816.SWReferenceNotFound {
					t.Errorf("version %02X is still there: %v", b.keys.Version, r.SW)
				}
				b.keys = next
				b.authenticate(next.Version, w.level)
				b.must(gp.GetStatus{Part: gp.IssuerDomainPart}.Command())
			}
		}
	})
}

// A set of the other algorithm turns the card to the other protocol.
func TestPutKeyChangesTheProtocol(t *testing.T) {
	b := newBench(t, gp.DES)
	b.open(0x01)
	p := gp.PutKey{First: 1, NewVersion: 0x30}
	next := newSet(0x30, 16)
	for _, key := range [][]byte{next.ENC, next.MAC, next.DEK} {
		cipher, err := b.h.EncryptKey(key)
		if err != nil {
			t.Fatal(err)
		}
		kcv := gp.AES.Check(key)
		p.Keys = append(p.Keys, gp.KeyField{Type: gp.AES, Length: 16, Cipher: cipher, Check: kcv[:]})
	}
	b.must(p.Command(gp.MeasuredKeys))
	b.keys = next
	b.open(0x33)
	if protocol, _, err := gp.ParseCardData(b.must(gp.GetData(gp.TagCardData))); err != nil || protocol != 3 {
		t.Errorf("66 says SCP%02d %v", protocol, err)
	}
}

func TestPutKeyAddsAndReplaces(t *testing.T) {
	b := newBench(t, gp.AES)
	put := func(replaces byte, k gp.KeySet) iso7816.SW {
		t.Helper()
		c, err := b.h.PutKey(replaces, k, gp.BareKeys)
		if err != nil {
			t.Fatal(err)
		}
		before := b.world()
		r := b.do(c)
		if after := b.world(); !r.SW.OK() && after != before {
			t.Errorf("a refused PUT KEY changed\n%sto\n%s", before, after)
		}
		return r.SW
	}
	b.open(0x03)
	for _, tt := range []struct {
		name     string
		replaces byte
		set      gp.KeySet
		want     iso7816.SW
	}{
		{"version 00", 0, gp.KeySet{Version: 0, ENC: b.keys.ENC, MAC: b.keys.MAC, DEK: b.keys.DEK}, 0x6A80},
		{"version 80", 0, gp.KeySet{Version: 0x80, ENC: b.keys.ENC, MAC: b.keys.MAC, DEK: b.keys.DEK}, 0x6A80},
		{"in place of one that is not there", 0x21, newSet(0x22, 16), 0x6A88},
	} {
		if sw := put(tt.replaces, tt.set); sw != tt.want {
			t.Errorf("%s: %v, want %04X", tt.name, sw, uint16(tt.want))
		}
	}
	first := gp.FactoryKeys()
	first.Version = 0x01
	c, _ := b.h.PutKey(0x01, first, gp.BareKeys) // in place of itself: of the factory's
	b.must(c)
	b.keys = first // the lowest version is the one that world opens
	for _, tt := range []struct {
		name     string
		replaces byte
		set      gp.KeySet
		want     iso7816.SW
		versions string
	}{
		{"the same again", 0, newSet(0x01, 16), 0x6A80, "[1]"},
		{"a second set", 0, newSet(0x02, 32), 0x9000, "[1 2]"},
		{"replace it by a third", 0x02, newSet(0x03, 24), 0x9000, "[1 3]"},
		{"replace it by the first", 0x03, newSet(0x01, 16), 0x6A80, "[1 3]"},
		{"renew it", 0x03, newSet(0x03, 16), 0x9000, "[1 3]"},
	} {
		if sw := put(tt.replaces, tt.set); sw != tt.want {
			t.Errorf("%s: %v, want %04X", tt.name, sw, uint16(tt.want))
		}
		if got := fmt.Sprint(versions(t, b)); got != tt.versions {
			t.Errorf("%s: versions %s, want %s", tt.name, got, tt.versions)
		}
	}
	b.must(gp.Delete{KeyVersion: 3}.Command())
	for v := byte(0x10); ; v++ {
		if sw := put(0, newSet(v, 16)); sw == iso7816.SWNoSpace {
			break
		} else if !sw.OK() || v > 0x20 {
			t.Fatalf("set %02X: %v", v, sw)
		}
	}
	if n := len(versions(t, b)); n != 8 {
		t.Errorf("the key store holds %d sets", n)
	}
}

func versions(t *testing.T, b *bench) (list []byte) {
	t.Helper()
	keys, err := gp.ParseKeyTemplate(b.raw("80CA00E000").Data)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if k.ID == gp.KeyENC {
			list = append(list, k.Version)
		}
	}
	return list
}

func TestPutKeyRefuses(t *testing.T) {
	for name, spoil := range map[string]func(p *gp.PutKey){
		"a wrong check value":   func(p *gp.PutKey) { p.Keys[1].Check = []byte{1, 2, 3} },
		"two algorithms":        func(p *gp.PutKey) { p.Keys[2].Type, p.Keys[2].Check = gp.DES, nil },
		"one key of the last":   func(p *gp.PutKey) { p.Replaces, p.Keys = 0xFF, p.Keys[:1] },
		"replace keys 2 to 4":   func(p *gp.PutKey) { p.Replaces, p.First = 0xFF, 2 },
		"an unknown algorithm":  func(p *gp.PutKey) { p.Keys[0].Type = 0xA0 },
		"a key cut to 15 bytes": func(p *gp.PutKey) { p.Keys[0].Length = 15 },
	} {
		b := newBench(t, gp.AES)
		b.open(0x01)
		c, err := b.h.PutKey(0, newSet(0x30, 16), gp.MeasuredKeys)
		if err != nil {
			t.Fatal(err)
		}
		p, err := gp.ParsePutKey(c)
		if err != nil {
			t.Fatal(err)
		}
		spoil(&p)
		before := b.world()
		if r := b.do(p.Command(gp.MeasuredKeys)); r.SW.OK() {
			t.Errorf("%s: taken", name)
		}
		if after := b.world(); after != before {
			t.Errorf("%s: changed\n%sto\n%s", name, before, after)
		}
	}
}
