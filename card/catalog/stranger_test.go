package catalog_test

import (
	"bytes"
	"fmt"
	"testing"

	"koala/card"
	"koala/card/catalog"
	"koala/card/isd"
	"koala/internal/clock"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
)

// full is an element with an instance of every module of the catalogue, and a
// purse that is personalised and holds money. It is on contacts.
func full(t testing.TB) (*card.Element, []card.AID) {
	t.Helper()
	m := newManager(t, gp.AES)
	m.open(0x03)
	purse := gp.AID(catalog.PurseModule)
	if err := m.run(m.issue(purse)); err != nil {
		t.Fatal(err)
	}
	m.load(purse, 50_00)
	names := []card.AID{catalog.IssuerDomain, card.AID(purse)}
	m.e.PowerOff()
	n := byte(0)
	for _, f := range catalog.New(isd.Config{}).LoadFiles() {
		for _, module := range f.Modules {
			n++
			aid := card.AID("\xF0probe") + card.AID([]byte{n})
			sw, err := m.e.Factory(func(s *card.Session) iso7816.SW {
				_, sw := s.Registry().Install(card.Entry{Kind: card.Application, State: card.StateSelectable, AID: aid,
					LoadFile: f.AID, Module: module, Domain: catalog.IssuerDomain}, nil)
				return sw
			})
			if err != nil {
				t.Fatal(err)
			}
			if sw.OK() {
				names = append(names, aid)
			}
		}
	}
	if err := m.e.PowerOn(card.Contact); err != nil {
		t.Fatal(err)
	}
	return m.e, names
}

// remembers says whether a command may leave a trace though it is refused: a
// counter of wrong MACs, PINs or cryptograms, or a transaction counter that
// moves before anything else.
func remembers(c iso7816.Command, sw iso7816.SW) bool {
	switch sw {
	case iso7816.SWPurseMAC, iso7816.SWSecureWrong, iso7816.SWBlocked, iso7816.SWPurseBlocked, iso7816.SWPurseKey:
		return true
	}
	switch c.INS {
	case 0x20, 0x24, 0x82, 0xA8, 0xAE, 0xAF: // VERIFY, PIN, EXTERNAL AUTHENTICATE, GPO, GENERATE AC, DESFire's second half
		return true
	}
	return sw>>4 == 0x63C
}

func refused(sw iso7816.SW) bool {
	switch sw >> 8 {
	case 0x90, 0x61, 0x62, 0x63:
		return false
	case 0x91:
		return sw != iso7816.SWDESFireOK && sw != iso7816.SWDESFireMore
	}
	return true
}

// What a stranger's tool meets first, on every application: what does not exist
// has its status word, whoever is selected.
func TestStrangersTable(t *testing.T) {
	e, names := full(t)
	for _, aid := range names {
		for _, tt := range []struct{ apdu, want string }{
			{"00A4040006D00102030405", "6A82"}, {"00A404000BD0010203040506070809 0A", "6A82"},
			{"00A4040111 0102030405060708090A0B0C0D0E0F1011", "6A86"}, {"00A4040406D00102030405", "6A82"}, {"00A4041005A000000001", "6A86"},
			{"FF00000000", "6E00"}, {"FFCA000000", "6E00"}, {"4000000000", "6881"}, {"0300000000", "6881"}, {"", "6700"}, {"00", "6700"}, {"00A404", "6700"},
			{"00A4040008A00000", "6700"}, {"0070800300", "6200"}, {"0070FF0000", "6A86"}, {"0070000501", "6A86"},
		} {
			for _, first := range []card.Interface{card.Contact, card.Contactless} {
				if err := e.PowerOn(first); err != nil {
					t.Fatal(err)
				}
				raw, _ := e.TransmitRaw(append([]byte{0, 0xA4, 4, 0, byte(len(aid))}, aid...))
				if first == card.Contact && raw[len(raw)-2] != 0x90 && raw[len(raw)-2] != 0x62 && raw[len(raw)-2] != 0x6A {
					t.Errorf("SELECT %v: %X", aid, raw)
				}
				before := e.Image()
				got, err := e.TransmitRaw(unhex(tt.apdu))
				if err != nil || fmt.Sprintf("%X", got) != tt.want {
					t.Errorf("%v: %s: %X %v, want %s", aid, tt.apdu, got, err, tt.want)
				}
				if !bytes.Equal(e.Image(), before) {
					t.Errorf("%v: %s changes the card", aid, tt.apdu)
				}
			}
		}
	}
}

// Every instruction of the classes that tools try, with parameters and lengths
// that fit nothing: the element answers, and what it refuses it forgets. The
// number of physical writes tells.
func TestProbingChangesNothing(t *testing.T) {
	e, names := full(t)
	size := len(e.Image())
	shapes := []iso7816.Command{{Le: iso7816.NoLe}, {}, {P1: 0xFF, P2: 0xFF}, {P1: 1, P2: 2, Data: []byte{1}}, {P2: 0x0C, Data: bytes.Repeat([]byte{0xA5}, 40)}}
	for _, i := range []card.Interface{card.Contact, card.Contactless} {
		if err := e.PowerOn(i); err != nil {
			t.Fatal(err)
		}
		for _, aid := range names {
			for n := range 7 * 256 * len(shapes) {
				c := shapes[n%len(shapes)]
				c.INS, c.CLA = byte(n/len(shapes)), []byte{0x00, 0x04, 0x80, 0x84, 0x90, 0xA0, 0xB0}[n/len(shapes)/256]
				probe(t, e, aid, c)
			}
		}
	}
	if n := len(e.Image()); n > size+1<<10 {
		t.Errorf("probing grew the card from %d to %d bytes", size, n)
	}
	if err := e.PowerOn(card.Contact); err != nil {
		t.Fatal(err)
	}
	if got := balance(t, e); got != 50_00 {
		t.Errorf("the purse holds %d", got)
	}
}

// balance reads the purse of full, whatever else has happened.
func balance(t testing.TB, e *card.Element) uint32 {
	t.Helper()
	m := &manager{t: t, e: e}
	m.transmit(iso7816.Select([]byte(catalog.PurseModule)))
	r := m.transmit(iso7816.Command{CLA: 0x80, INS: 0x5C, P2: 2, Le: 4})
	if len(r.Data) != 4 {
		t.Fatalf("balance: %v", r)
	}
	return uint32(r.Data[0])<<24 | uint32(r.Data[1])<<16 | uint32(r.Data[2])<<8 | uint32(r.Data[3])
}

// probe selects the application and sends one command.
func probe(t testing.TB, e *card.Element, aid card.AID, c iso7816.Command) {
	t.Helper()
	if _, err := e.Transmit(iso7816.Select([]byte(aid))); err != nil {
		t.Fatal(err)
	}
	writes := e.Memory().Writes()
	r, err := e.Transmit(c)
	if err != nil {
		t.Fatal(err)
	}
	if refused(r.SW) && e.Memory().Writes() != writes && !remembers(c, r.SW) {
		t.Errorf("%v: %v is refused with %v and yet writes", aid, c, r.SW)
	}
}

// FuzzElement sends sequences of any commands to the whole element, between
// selections, other channels, resets and cuts of power: no panic, what is
// refused changes nothing, money moves for nobody without a key, and the memory
// stays an element.
func FuzzElement(f *testing.F) {
	e, names := full(f)
	image := e.Image()
	f.Add([]byte("\x00\x05\x80\x5C\x00\x02\x04\x01\x07\x80\xF2\x40\x00\x02\x4F\x00"))
	f.Add([]byte("\x40\x0D\x80\x50\x00\x00\x08\x01\x02\x03\x04\x05\x06\x07\x08\x03\x05\x00\x70\x00\x00\x01"))
	f.Add([]byte("\x06\x05\x00\xB2\x01\x0C\x00\x87\x05\x00\xB2\x02\x0C\x00"))
	f.Add([]byte("\x05\x0C\x80\xF0\x01\x00\x07\x4F\x05\xF0probe\xC5\x04\x90\x60\x00\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		e, err := catalog.New(isd.Config{}).Restore(image, clock.Random(7))
		if err != nil {
			t.Fatal(err)
		}
		_ = e.PowerOn(card.Interface(len(in) & 1))
		for steps := 0; len(in) > 2 && steps < 64; steps++ {
			op, n := in[0], min(int(in[1]), len(in)-2)
			raw := in[2 : 2+n]
			in = in[2+n:]
			switch {
			case op&0xC0 == 0x40:
				_, _ = e.Transmit(iso7816.Select([]byte(names[int(op&0x3F)%len(names)])))
			case op&0xC0 == 0x80:
				_ = e.PowerOn(card.Interface(op & 1))
			case op&0xF0 == 0xC0:
				e.Memory().CutAfter(int(op & 0x0F))
			}
			sequence(t, e, raw)
		}
		e.Memory().CutAfter(0)
		if err := e.PowerOn(card.Contact); err != nil {
			t.Fatal(err)
		}
		if got := balance(t, e); got != 50_00 {
			t.Errorf("the purse holds %d", got)
		}
		if _, err := catalog.New(isd.Config{}).Restore(e.Image(), clock.Random(8)); err != nil {
			t.Fatal(err)
		}
	})
}

func sequence(t *testing.T, e *card.Element, raw []byte) {
	c, err := iso7816.ParseCommand(raw)
	if err != nil {
		_, _ = e.TransmitRaw(raw)
		return
	}
	writes := e.Memory().Writes()
	r, err := e.Transmit(c)
	if err != nil {
		_ = e.PowerOn(card.Contact)
		return
	}
	if refused(r.SW) && e.Memory().Writes() != writes && !remembers(c, r.SW) {
		t.Errorf("%X is refused with %v and yet writes", raw, r.SW)
	}
}

// BenchmarkSelect is one SELECT of a payment directory that has nothing to list
// and one of a purse, on an element with every module installed.
func BenchmarkSelect(b *testing.B) {
	e, _ := full(b)
	for _, name := range []card.AID{catalog.PurseModule, catalog.IssuerDomain, catalog.Registry} {
		b.Run(name.String(), func(b *testing.B) {
			c := iso7816.Select([]byte(name))
			for b.Loop() {
				if _, err := e.Transmit(c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
