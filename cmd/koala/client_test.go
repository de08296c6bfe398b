package main

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	"koala/band"
	"koala/card"
	"koala/card/catalog"
	"koala/card/isd"
	"koala/internal/clock"
	"koala/pcsc"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// The files client_*_test.go play public programs at a band with the published
// cards: each sends what the program's published source sends, in its order and
// form, and asks of the answers what that source asks. Facts only; where they
// were read is said in each file.

// A plug is a program's end of the virtual reader: whole frames as the driver
// sends them, to a band behind one personality.
type plug struct {
	*driver
	band *band.Band
	// sameClass makes GET RESPONSE in the class of its command, as the card
	// libraries of Java do; others use class 00.
	sameClass bool
}

// A borrowed band is in the reader's hands without a file behind it.
type borrowed struct {
	b       *band.Band
	contact iso7816.Transmit
}

func (c *borrowed) UID() [7]byte { return c.b.Element.UID() }
func (c *borrowed) PowerOff()    { c.b.Leave() }

func (c *borrowed) PowerOn(i card.Interface) (err error) {
	c.contact = c.b.Element.Transmit
	if i == card.Contactless {
		c.contact, err = c.b.Field()
		return err
	}
	return c.b.Element.PowerOn(i)
}

func (c *borrowed) Transmit(x iso7816.Command) (iso7816.Response, error) { return c.contact(x) }

// testImages are elements with the published cards, by the kind of their keys.
var testImages = map[gp.KeyType]func() ([]byte, error){gp.DES: testImage(gp.DES), gp.AES: testImage(gp.AES)}

func testImage(kind gp.KeyType) func() ([]byte, error) {
	return sync.OnceValues(func() ([]byte, error) {
		b, err := freshBand("public", kind, clock.Random(7))
		if err == nil {
			err = writeTestCards(b.Element)
		}
		if err != nil {
			return nil, err
		}
		return b.Element.Image(), nil
	})
}

// plugIn puts a band with the published cards into the reader.
func plugIn(t *testing.T, personality string, kind gp.KeyType) *plug {
	t.Helper()
	p, err := pcsc.PersonalityNamed(personality)
	if err != nil {
		t.Fatal(err)
	}
	image, err := testImages[kind]()
	if err != nil {
		t.Fatal(err)
	}
	e, err := catalog.New(isd.Config{Type: kind}).Restore(image, clock.Random(9))
	if err != nil {
		t.Fatal(err)
	}
	b, err := band.New("public", e)
	if err != nil {
		t.Fatal(err)
	}
	host, reader := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	r := &pcsc.Reader{Card: &borrowed{b: b}, Personality: p}
	go func() { over <- r.Serve(ctx, reader) }()
	t.Cleanup(func() {
		cancel()
		<-over
	})
	g := &plug{driver: &driver{t: t, conn: host}, band: b}
	if atr := g.ask("04"); atr != upper(p.ATR) {
		t.Fatalf("ATR %s", atr)
	}
	g.ask("01")
	return g
}

// do sends one APDU as PC/SC stacks do: an answer that T=0 announces is fetched,
// a wrong Le corrected.
func (g *plug) do(apdu string) (data []byte, sw iso7816.SW) {
	g.t.Helper()
	raw := mustHex(strings.ReplaceAll(apdu, " ", ""))
	for range 8 {
		a := unhexed(g.ask(upper(raw)))
		if len(a) < 2 {
			g.t.Fatalf("%X: no answer", raw)
		}
		sw, data = iso7816.SW(a[len(a)-2])<<8|iso7816.SW(a[len(a)-1]), append(data, a[:len(a)-2]...)
		switch sw >> 8 {
		case 0x61:
			cla := byte(0)
			if g.sameClass {
				cla = raw[0]
			}
			raw = []byte{cla, iso7816.InsGetResponse, 0, 0, byte(sw)}
		case 0x6C:
			if len(raw) == 4 {
				raw = append(raw, 0)
			}
			raw[len(raw)-1] = byte(sw)
		default:
			return data, sw
		}
	}
	g.t.Fatalf("%s: more and more answers", apdu)
	return nil, 0
}

// ok sends an APDU that the program needs 9000 for.
func (g *plug) ok(apdu string) []byte {
	g.t.Helper()
	data, sw := g.do(apdu)
	if sw != iso7816.OK {
		g.t.Fatalf("%s: %v", apdu, sw)
	}
	return data
}

// refuses sends an APDU to which any error is a good answer, and no data.
func (g *plug) refuses(apdu string) iso7816.SW {
	g.t.Helper()
	data, sw := g.do(apdu)
	if n := sw >> 8; n != 0x69 && n != 0x6A && n != 0x6D && n != 0x6E && n != 0x67 || len(data) != 0 {
		g.t.Errorf("%s: %X %v", apdu, data, sw)
	}
	return sw
}

// at follows a path of tags through templates.
func (g *plug) at(data []byte, path ...tlv.Tag) []byte {
	g.t.Helper()
	for _, tag := range path {
		v, ok := tlv.Find(data, tag)
		if !ok {
			g.t.Fatalf("no %X in %X", tag, data)
		}
		data = v
	}
	return data
}

// look is what a reader without keys and the registry say of the band.
func (g *plug) look() bandView {
	g.t.Helper()
	v, err := lookAt("public", g.band)
	if err != nil {
		g.t.Fatal(err)
	}
	v.Writes, v.Used, v.Free = 0, 0, 0
	return v
}

func hexed(s string) string { return upper([]byte(s)) }
