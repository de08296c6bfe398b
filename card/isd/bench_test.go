package isd_test

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"koala/card"
	"koala/card/catalog"
	"koala/card/directory"
	"koala/card/isd"
	"koala/internal/clock"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
)

// The notebook is an applet that keeps what it is told: it shows what reaches
// an applet through the domain.
const (
	noteFile   card.AID = "\xF0koala\x7E"
	noteModule card.AID = "\xF0koala\x7E\x01"
	noteApp    card.AID = "\xF0koala\x7E\x01\x01"
	noteTag             = 9
	noteSize            = 700
)

type notebook struct{}

func (notebook) Select(*card.Session) iso7816.Response { return iso7816.Response{SW: iso7816.OK} }

// Process answers 80CA0000 with the length and the head of the page.
func (notebook) Process(s *card.Session, c iso7816.Command) iso7816.Response {
	if c.INS != 0xCA {
		return iso7816.Response{SW: iso7816.SWInstruction}
	}
	page := s.Region(noteTag).Bytes()
	return iso7816.Response{Data: page[:min(len(page), 250)], SW: iso7816.OK}
}

// StoreData writes grouping 01xx at xx*2; 0200 holds a key under the domain's
// DEK; 03xx is refused.
func (notebook) StoreData(s *card.Session, dgi uint16, data []byte) iso7816.SW {
	g := s.Region(noteTag)
	at := int(dgi&0xFF) * 2
	switch {
	case dgi>>8 == 0x03 || at+len(data) > g.Size():
		return iso7816.SWData
	case dgi == 0x0200:
		key, err := s.DecryptKey(data)
		if err != nil {
			return iso7816.SWData
		}
		data = key
	}
	g.Write(at, data)
	return iso7816.OK
}

func noteInstall(s *card.Session, params []byte) iso7816.SW {
	g, err := s.Allocate(noteTag, noteSize)
	if err != nil {
		return iso7816.SWNoSpace
	}
	if string(params) == "no" {
		return iso7816.SWData
	}
	g.Write(0, params)
	return iso7816.OK
}

func newCatalog(cfg isd.Config) *catalog.Catalog {
	c := catalog.New(cfg)
	c.Add(noteFile, noteModule, card.Module{New: func() card.Applet { return notebook{} }, Install: noteInstall})
	return c
}

// A bench is an element in a reader, and a host that knows its keys.
type bench struct {
	t    testing.TB
	cat  *catalog.Catalog
	e    *card.Element
	keys gp.KeySet
	h    *gp.Host
}

func newBench(t testing.TB, kind gp.KeyType) *bench {
	t.Helper()
	b := &bench{t: t, cat: newCatalog(isd.Config{Type: kind}), keys: gp.FactoryKeys()}
	var err error
	if b.e, err = b.cat.NewElement([7]byte{4, 1, 2, 3, 4, 5, 6}, clock.Random(1)); err != nil {
		t.Fatal(err)
	}
	b.power()
	return b
}

// from is a bench around an element restored from an image.
func (b *bench) from(image []byte) *bench {
	b.t.Helper()
	e, err := b.cat.Restore(image, clock.Random(2))
	if err != nil {
		b.t.Fatal(err)
	}
	c := &bench{t: b.t, cat: b.cat, e: e, keys: b.keys}
	c.power()
	return c
}

func (b *bench) power() {
	b.t.Helper()
	if err := b.e.PowerOn(card.Contact); err != nil {
		b.t.Fatal(err)
	}
	b.h = nil
}

// send transmits a command as it is.
func (b *bench) send(c iso7816.Command) iso7816.Response {
	b.t.Helper()
	r, err := b.e.Transmit(c)
	if err != nil {
		b.t.Fatalf("%v: %v", c, err)
	}
	return r
}

func (b *bench) raw(s string) iso7816.Response {
	b.t.Helper()
	c, err := iso7816.ParseCommand(unhex(b.t, s))
	if err != nil {
		b.t.Fatal(err)
	}
	return b.send(c)
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	return unhexConst(s)
}

func unhexConst(s string) []byte {
	out, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return out
}

// open selects the issuer's domain and opens a session.
func (b *bench) open(level gp.Level) {
	b.t.Helper()
	b.send(iso7816.Select(nil))
	b.authenticate(0, level)
}

func (b *bench) authenticate(version byte, level gp.Level) {
	b.t.Helper()
	host := [8]byte{1, 2, 3, 4, 5, 6, 7, 8}
	r := b.send(gp.InitializeUpdate(version, host))
	a, err := gp.ParseInitAnswer(r.Data)
	if err != nil {
		b.t.Fatalf("INITIALIZE UPDATE: %v %v", r, err)
	}
	h, auth, err := gp.NewHost(b.keys, host, a, level)
	if err != nil {
		b.t.Fatal(err)
	}
	if r := b.send(auth); !r.SW.OK() {
		b.t.Fatalf("EXTERNAL AUTHENTICATE: %v", r.SW)
	}
	b.h = h
}

// do sends a command through the session.
func (b *bench) do(c iso7816.Command) iso7816.Response {
	b.t.Helper()
	w, err := b.h.Wrap(c)
	if err != nil {
		b.t.Fatal(err)
	}
	r, err := b.h.Unwrap(b.send(w))
	if err != nil {
		b.t.Fatalf("answer to %v: %v", c, err)
	}
	return r
}

// must is do for a command that has to succeed.
func (b *bench) must(c iso7816.Command) []byte {
	b.t.Helper()
	r := b.do(c)
	if !r.SW.OK() {
		b.t.Fatalf("%v: %v", c, r.SW)
	}
	return r.Data
}

// fixed are the applications that every element has.
var fixed = map[gp.AID]bool{gp.AID(directory.PPSEName): true, gp.AID(directory.PSEName): true, gp.ContactlessAID: true}

// status lists a part of the registry, following 6310, without what is fixed.
func (b *bench) status(p gp.Part) []gp.Entry {
	b.t.Helper()
	var data []byte
	for next := false; ; next = true {
		r := b.do(gp.GetStatus{Part: p, Next: next}.Command())
		data = append(data, r.Data...)
		if r.SW == gp.SWMore {
			continue
		}
		if r.SW == iso7816.SWReferenceNotFound && !next {
			return nil
		}
		if !r.SW.OK() {
			b.t.Fatalf("GET STATUS %02X: %v", byte(p), r.SW)
		}
		list, err := gp.ParseStatus(data)
		if err != nil {
			b.t.Fatal(err)
		}
		return slices.DeleteFunc(list, func(x gp.Entry) bool { return p == gp.Applications && fixed[x.AID] })
	}
}

// world is everything a test wants to see unchanged: registry, keys without
// their counters, data objects, what the notebook holds.
func (b *bench) world() string {
	b.t.Helper()
	c := b.from(b.e.Image())
	c.open(gp.CMAC)
	var out strings.Builder
	for _, p := range []gp.Part{gp.IssuerDomainPart, gp.Applications, gp.LoadFiles, gp.LoadFilesModules} {
		fmt.Fprintf(&out, "%02X %+q\n", byte(p), c.status(p))
	}
	for _, tag := range []string{"9F7F", "0042", "0045", "00CF", "00E0", "0066"} {
		fmt.Fprintf(&out, "%s %v\n", tag, c.raw("80CA"+tag+"00"))
	}
	c.send(iso7816.Select([]byte(gp.ContactlessAID)))
	fmt.Fprintf(&out, "air %v\n", c.send(gp.ContactlessQuery{Prefix: gp.AID(noteApp)[:6]}.Command()))
	if r := c.send(iso7816.Select([]byte(noteApp))); r.SW.OK() {
		fmt.Fprintf(&out, "note %v\n", c.raw("80CA000000"))
	}
	return out.String()
}

func noteInstance() gp.Install {
	return gp.InstallApplet(gp.AID(noteFile), gp.AID(noteModule), gp.AID(noteApp), gp.Privileges{}, []byte("hello"))
}

func (b *bench) storeNote(groups ...gp.DGI) []iso7816.Command {
	b.t.Helper()
	list, err := gp.StoreData(groups, b.h.MaxData())
	if err != nil {
		b.t.Fatal(err)
	}
	return list
}
