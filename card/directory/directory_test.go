package directory_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"koala/card"
	"koala/card/catalog"
	"koala/card/isd"
	"koala/internal/clock"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

const (
	payFile   card.AID = "\xF0koala\x7D"
	payModule card.AID = "\xF0koala\x7D\x01"
	debit     card.AID = "\xA0\x00\x00\x03\x33\x01\x01\x01"
	credit    card.AID = "\xA0\x00\x00\x03\x33\x01\x01\x02"
	blank     card.AID = "\xA0\x00\x00\x03\x33\x01\x01\x06" // never personalised
)

// pay is a payment applet as the directories see one.
type pay struct{}

func (pay) Select(*card.Session) iso7816.Response { return iso7816.Response{SW: iso7816.OK} }

func (pay) Process(*card.Session, iso7816.Command) iso7816.Response {
	return iso7816.Response{SW: iso7816.SWInstruction}
}

func (pay) Directory(s *card.Session) []byte {
	x, _ := s.Registry().Entry(s.Self)
	if x.AID == blank {
		return nil
	}
	v := tlv.Append(nil, 0x4F, []byte(x.AID))
	return tlv.Append(tlv.Append(v, 0x50, []byte("PBOC DEBIT")), 0x87, []byte{1})
}

func newCatalog() *catalog.Catalog {
	c := catalog.New(isd.Config{})
	c.Add(payFile, payModule, card.Module{New: func() card.Applet { return pay{} }})
	return c
}

type bench struct {
	t testing.TB
	e *card.Element
}

// newBench is an element with the payment applets given, contacts powered.
func newBench(t testing.TB, apps ...card.AID) *bench {
	t.Helper()
	e, err := newCatalog().NewElement([7]byte{4, 5, 6}, clock.Random(1))
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t, e}
	for _, a := range apps {
		b.work(func(s *card.Session) iso7816.SW {
			_, sw := s.Registry().Install(card.Entry{Kind: card.Application, State: card.StateSelectable,
				AID: a, LoadFile: payFile, Module: payModule, Domain: catalog.IssuerDomain}, nil)
			return sw
		})
	}
	b.power(card.Contact)
	return b
}

func (b *bench) work(f func(s *card.Session) iso7816.SW) {
	b.t.Helper()
	b.e.PowerOff()
	if sw, err := b.e.Factory(f); err != nil || !sw.OK() {
		b.t.Fatal(sw, err)
	}
}

func (b *bench) power(i card.Interface) {
	b.t.Helper()
	if err := b.e.PowerOn(i); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) send(c iso7816.Command) iso7816.Response {
	b.t.Helper()
	r, err := b.e.Transmit(c)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// script runs "command > answer" lines.
func (b *bench) script(lines string) {
	b.t.Helper()
	for line := range strings.Lines(lines) {
		cmd, want, ok := strings.Cut(strings.TrimSpace(line), ">")
		if !ok {
			continue
		}
		raw, err := b.e.TransmitRaw(unhex(b.t, cmd))
		if err != nil {
			b.t.Fatal(err)
		}
		if got := fmt.Sprintf("%X", raw); got != strings.ReplaceAll(want, " ", "") {
			b.t.Errorf("%s\n got %s\nwant %s", cmd, got, want)
		}
	}
}

func (b *bench) registry() { b.send(iso7816.Select([]byte(catalog.Registry))) }

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	out, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const selectPPSE = "00A404000E 325041592E5359532E4444463031 00 > "

// The answer of a real card to SELECT PPSE (CARD 6.7, QKATA), byte for byte.
func TestPPSE(t *testing.T) {
	b := newBench(t, debit)
	b.power(card.Contactless)
	b.script(selectPPSE + "6F30840E325041592E5359532E4444463031A51EBF0C1B61194F08A000000333010101500A50424F43204445424954870101 9000\n" +
		"00B2010C00 > 6D00\n80CA9F7F00 > 6E00\n00A4020000 > 6D00")
}

// What readers get follows the registry at once: order, volatile preference,
// activation, locks; without a payment card there is no directory.
func TestPPSEFollowsTheRegistry(t *testing.T) {
	b := newBench(t)
	b.script(selectPPSE + "6A82")
	b = newBench(t, debit, blank, credit)
	list := func() string {
		b.t.Helper()
		b.power(card.Contactless)
		r := b.send(iso7816.Select([]byte("2PAY.SYS.DDF01")))
		var out []string
		for i, part := range bytes.Split(r.Data, []byte{0x4F, 8})[1:] {
			out = append(out, fmt.Sprintf("%X", part[7:8]))
			if at := bytes.Index(part, []byte{0x87, 1}); at < 0 || part[at+2] != byte(i+1) {
				b.t.Errorf("place %d has another priority: %X", i+1, part)
			}
		}
		if !r.SW.OK() {
			out = append(out, fmt.Sprint(r.SW))
		}
		b.power(card.Contact)
		b.registry()
		return strings.Join(out, " ")
	}
	set := func(c gp.ContactlessChange, apps ...card.AID) {
		b.t.Helper()
		in := gp.ContactlessSet{Change: c}
		for _, a := range apps {
			in.Apps = append(in.Apps, gp.AID(a))
		}
		if r := b.send(in.Command()); !r.SW.OK() {
			b.t.Fatalf("%v: %v", in, r)
		}
	}
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, "01 02"},
		{func() { set(gp.PutFirst, credit) }, "02 01"},
		{func() { set(gp.ForgetOrder) }, "01 02"},
		{func() { set(gp.MakeDefaults, credit) }, "02 01"},
		{func() { set(gp.Deactivate, credit) }, "01"},
		{func() { set(gp.Activate, credit) }, "02 01"},
		{func() {
			b.work(func(s *card.Session) iso7816.SW {
				x, _ := s.Registry().Find(credit)
				x.State |= card.LockedBit
				return s.Registry().Update(x)
			})
		}, "01"},
	} {
		step.do()
		if got := list(); got != step.want {
			t.Errorf("lists %s, want %s", got, step.want)
		}
	}
}

// The contact directory: FCI, one record per application, a clean end, and a
// clean error for record 00 that some clients ask for (CARD 7.2).
func TestPSE(t *testing.T) {
	b := newBench(t, debit, blank, credit)
	b.script(`00A404000E 315041592E5359532E4444463031 00 > 6F20 840E315041592E5359532E4444463031 A50E 880101 5F2D047A68656E 9F110101 9000
		00B2010C00 > 701B 6119 4F08A000000333010101 500A50424F43204445424954 870101 9000
		00B2020C00 > 701B 6119 4F08A000000333010102 500A50424F43204445424954 870101 9000
		00B2030C00 > 6A83
		00B2000C00 > 6A83
		00B2FF0C00 > 6A83
		00B2011400 > 6A82
		00B2010D00 > 6A86
		00B2010C01AA > 6700
		80B2010C00 > 6E00
		00B0000000 > 6D00`)
	newBench(t).script("00A404000E 315041592E5359532E4444463031 00 > 6A82")
}

// CARD 3.6: selection, information, listings and their errors.
func TestRegistryApplication(t *testing.T) {
	b := newBench(t, debit)
	b.script(`00A4040009 A00000015143525300 00 > 6F16 8409A00000015143525300 A509 9F08020100 80020004 9000
		80CA00A500 > A509 9F08020100 80020004 9000
		80F24000 0F 4F08A000000333010101 5C034F9F70 00 > 610F 4F08A000000333010101 9F70020701 9000
		80F24000 08 4F00 5C048081 8788 00 > 610A 80020000 810101 880101 610A 80020000 810102 880101 610A 80020000 810103 880101 610A 80020000 810104 880101 9000
		80F24000 07 4F00 9F70020780 00 > 6A88
		80F24000 08 4F00 9F7003070101 00 > 6A80
		80F24000 07 4F05A000000333 00 > 6119 4F08A000000333010101 9F70020701 80020000 810104 880101 9000
		80F24000 0B 4F05A000000333 9F700100 00 > 6A88
		80F24000 0A 4F05A000000999 5C014F 00 > 6A88
		80F24000 09 4F05A000000333 5C0187 > 6A80
		80F24000 0A 4F05A000000333 5C0187 00 > 6A88
		80F24001 02 4F00 00 > 6985
		80F24002 02 4F00 00 > 6A86
		80F28000 02 4F00 00 > 6A86
		80F24000 00 > 6A80
		80F24000 05 4F00 C50100 00 > 6A80
		80CA9F7F00 > 6A88
		00CA00A500 > 6E00
		80E40000 02 4F00 00 > 6D00`)
}

// Activation from outside: what it answers, what it counts, who may.
func TestSetStatus(t *testing.T) {
	b := newBench(t, debit, credit)
	b.registry()
	b.script(`80F00100 0A 4F08A000000333010101 > 9000
		80CA00A500 > A509 9F08020100 80020006 9000
		80F24000 10 4F08A000000333010101 5C049F708081 00 > 610C 9F70020700 80020001 810104 9000
		80F00100 0A 4F08A000000333010101 > 9000
		80CA00A500 > A509 9F08020100 80020006 9000
		80F00101 14 4F08A000000333010101 4F08A000000333010109 > A10A 4F08A000000333010109 6320
		80CA00A500 > A509 9F08020100 80020007 9000
		80F00100 10 4F0E325041592E5359532E4444463031 > A110 4F0E325041592E5359532E4444463031 6320
		80F00180 0A 4F08A000000333010101 > 6A86
		80F00301 0A 4F08A000000333010101 > 6A86
		80F00101 00 > 6A80
		80F00101 02 4F00 > 6A80
		80F00101 0A 5008A000000333010101 > 6A80
		80F00201 0A 4F08A000000333010109 > 6A88
		80F00201 14 4F08A000000333010101 4F08A000000333010101 > 6985
		80F00200 0A 4F08A000000333010101 > 6A80
		80F00100 0A 4F08A000000333010101 > 9000
		80F00201 0A 4F08A000000333010101 > 6985
		80F00202 0A 4F08A000000333010101 > 6985`)
	// A reader in passing moves nothing; it may look.
	b.power(card.Contactless)
	b.registry()
	before := b.e.Image()
	b.script("80F00101 0A 4F08A000000333010101 > 6982\n80F00202 0A 4F08A000000333010102 > 6982\n80F24000 0F 4F08A000000333010101 5C034F9F70 00 > 610F 4F08A000000333010101 9F70020700 9000")
	if !bytes.Equal(before, b.e.Image()) {
		t.Error("the card has changed")
	}
	// Without its privilege the application moves nothing either.
	b.work(func(s *card.Session) iso7816.SW {
		x, _ := s.Registry().Find(catalog.Registry)
		x.Privileges = [3]byte{}
		return s.Registry().Update(x)
	})
	b.power(card.Contact)
	b.registry()
	b.script("80F00101 0A 4F08A000000333010101 > 6982\n80F00201 0A 4F08A000000333010102 > 6982")
}

// Two applications that want the same thing of the field are not active at once:
// the answer names who is in the way.
func TestConflict(t *testing.T) {
	b := newBench(t, debit, credit)
	b.work(func(s *card.Session) iso7816.SW {
		for _, a := range []card.AID{debit, credit} {
			x, _ := s.Registry().Find(a)
			x.Contactless.Group = 7
			if a == credit {
				x.Contactless.State = card.Deactivated
			}
			s.Registry().Update(x)
		}
		return iso7816.OK
	})
	b.power(card.Contact)
	b.registry()
	in := gp.ContactlessSet{Change: gp.Activate, Apps: []gp.AID{gp.AID(credit)}}
	r := b.send(in.Command())
	failed, conflicts, err := gp.ParseFailures(r.Data)
	if r.SW != gp.SWSome || err != nil || len(failed) != 1 || failed[0] != gp.AID(credit) || len(conflicts) != 1 || conflicts[0] != gp.AID(debit) {
		t.Errorf("%v: %v %v %v", r, failed, conflicts, err)
	}
}

// A listing longer than one answer goes on with the next occurrence.
func TestListingGoesOn(t *testing.T) {
	var apps []card.AID
	for i := range byte(20) {
		apps = append(apps, debit+card.AID([]byte{i}))
	}
	b := newBench(t, apps...)
	b.registry()
	var data []byte
	for q := (gp.ContactlessQuery{Prefix: gp.AID(debit)}); ; q.Next = true {
		r := b.send(q.Command())
		data = append(data, r.Data...)
		if r.SW.OK() {
			break
		}
		if r.SW != gp.SWMore || len(r.Data) > 256 {
			t.Fatal(r)
		}
	}
	list, err := gp.ParseContactlessStatus(data)
	if err != nil || len(list) != len(apps) {
		t.Fatalf("%d entries, %v", len(list), err)
	}
	for i, e := range list {
		if e.AID != gp.AID(apps[i]) || e.Rank != byte(i+4) || e.Availability != gp.Activated || e.State != gp.Selectable {
			t.Errorf("%d: %+v", i, e)
		}
	}
	if r := b.send((gp.ContactlessQuery{Next: true}).Command()); r.SW != iso7816.SWConditions {
		t.Errorf("after the end: %v", r.SW)
	}
}

// SET STATUS is one unit: cut at every write, all of it or nothing is there.
func TestTornSetStatus(t *testing.T) {
	b := newBench(t, debit, credit)
	image := b.e.Image()
	for _, in := range []gp.ContactlessSet{
		{Change: gp.Deactivate, Apps: []gp.AID{gp.AID(debit), gp.AID(credit)}},
		{Change: gp.MakeDefaults, Apps: []gp.AID{gp.AID(credit)}},
	} {
		seen := map[string]bool{}
		for n := 1; ; n++ {
			e, err := newCatalog().Restore(image, clock.Random(2))
			if err != nil {
				t.Fatal(err)
			}
			c := &bench{t, e}
			c.power(card.Contact)
			c.registry()
			e.Memory().CutAfter(n)
			_, err = e.Transmit(in.Command())
			e.Memory().CutAfter(0)
			torn := errors.Is(err, iso7816.ErrTorn)
			c.power(card.Contact)
			c.registry()
			q := gp.ContactlessQuery{}
			seen[fmt.Sprintf("%X %X", c.send(gp.GetData(0xA5)).Data, c.send(q.Command()).Data)] = true
			if !torn {
				break
			}
		}
		if len(seen) != 2 {
			t.Errorf("%v: %d states", in, len(seen))
		}
	}
}

// BenchmarkPPSE is the SELECT every payment terminal begins with, with two
// payment cards on the element.
func BenchmarkPPSE(b *testing.B) {
	c := newBench(b, debit, credit)
	cmd := iso7816.Select([]byte("2PAY.SYS.DDF01"))
	for b.Loop() {
		if _, err := c.e.Transmit(cmd); err != nil {
			b.Fatal(err)
		}
	}
}
