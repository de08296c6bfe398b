package card_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"koala/card"
	"koala/card/purse"
	"koala/spec/iso7816"
)

const (
	domainAID = card.AID("\xA0\x00\x00\x01\x51\x00\x00\x00")
	counter   = card.AID("count") // module of the counter applet
)

// counting is an applet with one number that lasts and one that does not.
type counting struct{ volatile byte }

func (c *counting) Select(s *card.Session) iso7816.Response {
	if s.Region(1).Bytes()[1] == 0xFF {
		return iso7816.Response{SW: 0x6999}
	}
	x, _ := s.Registry().Entry(s.Self)
	return iso7816.Response{Data: []byte(x.AID), SW: iso7816.OK}
}

// Process: INS 01 counts both numbers and shows them; 02 writes P1 bytes too
// many for a unit; 03 asks for P1 P2 bytes of memory; 04 makes it unselectable.
func (c *counting) Process(s *card.Session, cmd iso7816.Command) iso7816.Response {
	g := s.Region(1)
	switch cmd.INS {
	case 0x01:
		c.volatile++
		g.Write(0, []byte{g.Bytes()[0] + 1})
		return iso7816.Response{Data: []byte{g.Bytes()[0], c.volatile}, SW: iso7816.OK}
	case 0x02:
		for i := range 40 {
			g.Write(0, bytes.Repeat([]byte{byte(i + 1)}, 64))
		}
		return iso7816.Response{SW: iso7816.OK}
	case 0x03:
		if _, err := s.Allocate(9, int(cmd.P1)<<16|int(cmd.P2)<<8); err != nil {
			return iso7816.Response{SW: iso7816.OK} // the element says what it was
		}
		return iso7816.Response{SW: iso7816.OK}
	case 0x04:
		g.Write(1, []byte{0xFF})
		return iso7816.Response{SW: iso7816.OK}
	}
	return iso7816.Response{SW: iso7816.SWInstruction}
}

type domain struct{}

func (domain) Select(*card.Session) iso7816.Response {
	return iso7816.Response{Data: []byte("domain"), SW: iso7816.OK}
}

func (domain) Process(s *card.Session, c iso7816.Command) iso7816.Response {
	switch x, ok := s.Registry().Find(card.AID(c.Data)); {
	case !ok:
		return iso7816.Response{SW: iso7816.SWReferenceNotFound}
	case c.INS == 0xE4:
		return iso7816.Response{SW: s.Registry().Delete(x.ID)}
	default: // F0: the state
		x.State = c.P2
		return iso7816.Response{SW: s.Registry().Update(x)}
	}
}

type catalog struct{}

func (catalog) Module(_, module card.AID) (card.Module, bool) {
	install := func(s *card.Session, _ []byte) iso7816.SW {
		if _, err := s.Allocate(1, 64); err != nil {
			return iso7816.SWNoSpace
		}
		return iso7816.OK
	}
	switch module {
	case domainAID:
		return card.Module{New: func() card.Applet { return domain{} }, Shared: true}, true
	case counter:
		return card.Module{New: func() card.Applet { return new(counting) }, Install: install}, true
	case "purse":
		return purse.Module(), true
	}
	return card.Module{}, false
}

type chance byte

func (c *chance) Read(b []byte) (int, error) {
	for i := range b {
		*c = *c*5 + 3
		b[i] = byte(*c)
	}
	return len(b), nil
}

func newElement(t testing.TB, capacity int) *card.Element {
	t.Helper()
	e, err := card.New(card.Config{UID: [7]byte{4, 2}, Rand: new(chance), Capacity: capacity, Catalog: catalog{}, Domain: domainAID, DomainModule: domainAID})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func install(t testing.TB, e *card.Element, module, aid card.AID, privileges byte) {
	t.Helper()
	sw, err := e.Factory(func(s *card.Session) iso7816.SW {
		_, sw := s.Registry().Install(card.Entry{
			Kind: card.Application, State: card.StateSelectable, AID: aid, Module: module, Privileges: [3]byte{privileges},
		}, nil)
		return sw
	})
	if !sw.OK() || err != nil {
		t.Fatalf("%v %v", sw, err)
	}
}

func run(t *testing.T, e *card.Element, script string) {
	t.Helper()
	for line := range strings.Lines(script) {
		cmd, want, ok := strings.Cut(strings.TrimSpace(line), ">")
		if !ok {
			continue
		}
		apdu, err := hex.DecodeString(strings.ReplaceAll(cmd, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := e.TransmitRaw(apdu)
		if err != nil {
			t.Fatalf("%s: %v", cmd, err)
		}
		if got := strings.ToUpper(hex.EncodeToString(raw)); got != strings.ReplaceAll(want, " ", "") {
			t.Errorf("%s\n got %s\nwant %s", cmd, got, want)
		}
	}
}

// three instances: 4141414141 01, 02 and 4141414141 03 03.
func three(t testing.TB) *card.Element {
	e := newElement(t, 0)
	for _, aid := range []card.AID{"AAAAA\x01", "AAAAA\x02", "AAAAA\x03\x03"} {
		install(t, e, counter, aid, 0)
	}
	if err := e.PowerOn(card.Contactless); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestSelect(t *testing.T) {
	for _, tt := range []struct{ name, script string }{
		{"power on leaves the domain current", "00E4000005 4242424242 > 6A88"},
		{"no name is the domain", "00A40400 > 646F6D61696E 9000\n00A4040000 > 646F6D61696E 9000"},
		{"whole name", "00A4040006 414141414102 00 > 414141414102 9000"},
		{"leading bytes, then the next, then none", "00A4040005 4141414141 00 > 414141414101 9000\n00A4040205 4141414141 00 > 414141414102 9000\n00A4040205 4141414141 00 > 41414141410303 9000\n00A4040205 4141414141 00 > 6A82"},
		{"unknown name keeps the selection", "00A4040006 414141414101 00 > 414141414101 9000\n0001000002 > 0101 9000\n00A4040005 4242424242 00 > 6A82\n0001000002 > 0202 9000"},
		{"a new selection is volatile again", "00A4040006 414141414101 00 > 414141414101 9000\n0001000002 > 0101 9000\n00A4040006 414141414101 00 > 414141414101 9000\n0001000002 > 0201 9000"},
		{"without answer data", "00A4040C06 414141414101 > 9000"},
		{"a longer name than 16", "00A4040011 4141414141414141414141414141414141 > 6A86"},
		{"an applet may refuse", "00A4040006 414141414101 00 > 414141414101 9000\n00040000 > 9000\n00A4040006 414141414102 00 > 414141414102 9000\n00A4040006 414141414101 00 > 6A82\n0001000002 > 0101 9000"},
		{"locked applications are not there", "00F00087 06 414141414101 > 9000\n00A4040006 414141414101 00 > 6A82\n00A4040005 4141414141 00 > 414141414102 9000"},
		{"a locked card has its domain only", "00F0007F 08 A000000151000000 > 9000\n00A4040006 414141414101 00 > 6A82\n00A40400 > 646F6D61696E 9000"},
		{"a terminated card is dead", "00F000FF 08 A000000151000000 > 9000\n00A40400 > 6A81"},
		{"no such thing", "00A40500 > 6A88\nFF00000000 > 6E00"},
	} {
		t.Run(tt.name, func(t *testing.T) { run(t, three(t), tt.script) })
	}
}

func TestChannels(t *testing.T) {
	run(t, three(t), `01A4040006 414141414101 00 > 6881
		0070000001 > 01 9000
		0070000001 > 02 9000
		00700003 > 9000
		0070000001 > 6881
		00A4040006 414141414101 00 > 414141414101 9000
		01A4040006 414141414101 00 > 6985
		01A4040006 414141414102 00 > 414141414102 9000
		0001000002 > 0101 9000
		0101000002 > 0101 9000
		0101000002 > 0202 9000
		0001000002 > 0202 9000
		02E4000006 414141414102 > 6985
		00708001 > 9000
		00708001 > 6200
		0101000002 > 6881
		02E4000006 414141414102 > 9000
		02E4000006 414141414102 > 6A88
		00708000 > 6A86
		00704000 > 6A86
		4001000002 > 6881`)
}

func TestDefaultSelected(t *testing.T) {
	e := newElement(t, 0)
	install(t, e, counter, "AAAAA\x01", card.PrivilegeDefault)
	for range 2 {
		if err := e.PowerOn(card.Contact); err != nil {
			t.Fatal(err)
		}
	}
	run(t, e, "0001000002 > 0101 9000\n00A40400 > 646F6D61696E 9000")
	if err := e.Reset(); err != nil {
		t.Fatal(err)
	}
	run(t, e, "0001000002 > 0201 9000")
}

// A unit that cannot be kept is answered so and leaves nothing behind.
func TestUnitsThatDoNotFit(t *testing.T) {
	e := three(t)
	free := e.Memory().Free()
	run(t, e, `00A4040006 414141414101 00 > 414141414101 9000
		00020000 > 6581
		0003FFFF > 6A84
		0001000002 > 0101 9000`)
	if e.Memory().Free() != free {
		t.Errorf("%d bytes free, were %d", e.Memory().Free(), free)
	}
}

func TestFullElement(t *testing.T) {
	e := newElement(t, 8<<10)
	for i := 0; ; i++ {
		sw, err := e.Factory(func(s *card.Session) iso7816.SW {
			_, sw := s.Registry().Install(card.Entry{Kind: card.Application, State: card.StateSelectable, AID: card.AID([]byte{'A', 'A', 'A', 'A', 'A', byte(i)}), Module: counter}, nil)
			return sw
		})
		if err != nil {
			t.Fatal(err)
		}
		if sw == iso7816.SWNoSpace && i > 10 {
			return
		}
		if !sw.OK() {
			t.Fatalf("instance %d: %v", i, sw)
		}
	}
}

func TestFactoryEndsWithDelivery(t *testing.T) {
	e := three(t)
	nothing := func(*card.Session) iso7816.SW { return iso7816.OK }
	if sw, _ := e.Factory(nothing); sw != iso7816.SWConditions {
		t.Errorf("under power: %v", sw)
	}
	run(t, e, "00F0000F 08 A000000151000000 > 9000")
	e.PowerOff()
	if sw, _ := e.Factory(nothing); sw != iso7816.SWConditions {
		t.Errorf("secured: %v", sw)
	}
}

// Deleting is cut at every write: the instance is there or gone, its memory
// comes back in full, and recovery may be cut too.
func TestDeleteIsCutAtEveryWrite(t *testing.T) {
	whole := three(t).Memory().Free()
	empty := newElement(t, 0)
	for _, aid := range []card.AID{"AAAAA\x01", "AAAAA\x03\x03"} {
		install(t, empty, counter, aid, 0)
	}
	for n, done := 1, false; !done; n++ {
		e := three(t)
		e.Memory().CutAfter(n)
		apdu := append([]byte{0x00, 0xE4, 0, 0, 6}, "AAAAA\x02"...)
		_, err := e.TransmitRaw(apdu)
		done = err == nil
		for k := 1; err != nil; k++ {
			e.Memory().CutAfter(k)
			if err = e.PowerOn(card.Contact); err != nil && !errors.Is(err, iso7816.ErrTorn) {
				t.Fatal(err)
			}
		}
		e.Memory().CutAfter(0)
		switch raw, err := e.TransmitRaw(append([]byte{0, 0xA4, 4, 0, 6}, "AAAAA\x02"...)); {
		case err != nil:
			t.Fatal(err)
		case len(raw) == 2: // gone: a new one of the size fits in its place
			e.PowerOff()
			install(t, e, counter, "AAAAA\x04", 0)
			if e.Memory().Free() != whole {
				t.Fatalf("cut %d: %d bytes free, want %d", n, e.Memory().Free(), whole)
			}
		case e.Memory().Free() != whole:
			t.Fatalf("cut %d: still there but %d bytes free, want %d", n, e.Memory().Free(), whole)
		}
	}
}

func TestT0(t *testing.T) {
	e := three(t)
	link := card.T0{Card: e.Transmit}
	sel := iso7816.Select([]byte("AAAAA\x01"))
	for _, tt := range []struct {
		c    iso7816.Command
		want string
	}{
		{iso7816.GetResponse(2), "6985"},
		{sel, "6106"},
		{iso7816.GetResponse(9), "6C06"},
		{iso7816.GetResponse(2), "41416104"},
		{iso7816.GetResponse(4), "414141019000"},
		{iso7816.GetResponse(4), "6985"},
		{sel, "6106"},
		{iso7816.Command{CLA: 0x84, INS: iso7816.InsGetResponse, Le: 6}, "4141414141019000"}, // in the class of its command
		{iso7816.Command{CLA: 0x84, INS: iso7816.InsGetResponse, Le: 6}, "6D00"},
		{sel, "6106"},
		{iso7816.Command{INS: 1, Le: 5}, "6C02"},
		{iso7816.Command{INS: 1, Le: iso7816.NoLe}, "6C02"},
		{iso7816.Command{INS: 1, Le: 2}, "01019000"}, // carried out once
		{iso7816.Command{INS: 1, Le: 2}, "02029000"},
		{iso7816.Command{INS: 1, Le: 5}, "6C02"},
		{iso7816.GetResponse(2), "6985"}, // not announced
		{iso7816.Command{INS: 1, Le: 2}, "04049000"},
		{iso7816.GetResponse(6), "6985"},
	} {
		r, err := link.Transmit(tt.c)
		if got := strings.ToUpper(hex.EncodeToString(r.Bytes())); err != nil || got != tt.want {
			t.Errorf("%v: %s %v, want %s", tt.c, got, err, tt.want)
		}
	}
}

// Six cards are small, and an image comes back as the same element.
func TestImage(t *testing.T) {
	e := newElement(t, 0)
	for i := range byte(6) {
		install(t, e, "purse", card.AID("AAAAA")+card.AID(rune('0'+i)), 0)
	}
	image := e.Image()
	if len(image) > 200<<10 {
		t.Errorf("%d bytes", len(image))
	}
	t.Logf("%d bytes", len(image))
	back, err := card.Restore(image, catalog{}, new(chance))
	if err != nil || back.UID() != e.UID() || back.Memory().Writes() != e.Memory().Writes() || !bytes.Equal(back.Image(), image) {
		t.Fatalf("%v", err)
	}
	for name, bad := range map[string][]byte{
		"nothing": nil, "short": image[:40], "cut": image[:len(image)-1], "another version": change(image, 10), "a bit": change(image, len(image)/2),
	} {
		if _, err := card.Restore(bad, catalog{}, nil); !errors.Is(err, card.ErrImage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func change(image []byte, at int) []byte {
	b := bytes.Clone(image)
	b[at] ^= 0x04
	return b
}

// FuzzCells: whatever stands in the memory of an image whose checksum is right,
// power-on and commands end without a panic.
func FuzzCells(f *testing.F) {
	e := three(f)
	image := e.Image()
	f.Add(uint16(60), []byte{1, 2, 3}, []byte{0, 0xA4, 4, 0})
	f.Add(uint16(2090), []byte{0x5A, 0, 1, 0xFF, 0xFF, 0xFF}, []byte{0, 0x70, 0, 0, 1})
	f.Add(uint16(0), []byte{0x4B, 0x4A}, []byte{0, 1, 0, 0})
	f.Fuzz(func(t *testing.T, at uint16, cells, apdu []byte) {
		body := bytes.Clone(image[:len(image)-sha256.Size])
		copy(body[min(38+int(at), len(body)):], cells)
		sum := sha256.Sum256(body)
		e, err := card.Restore(append(body, sum[:]...), catalog{}, new(chance))
		if err != nil {
			return
		}
		if e.PowerOn(card.Contactless) == nil {
			_, _ = e.TransmitRaw(apdu)
			_, _ = e.TransmitRaw(append([]byte{0, 0xE4, 0, 0, 6}, "AAAAA\x02"...))
		}
	})
}
