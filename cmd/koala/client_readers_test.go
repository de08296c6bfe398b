package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"koala/spec/emv"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// Readers of payment cards and general tools. Paycard: devnied/EMV-NFC-Paycard-
// Enrollment, parser/EmvTemplate, parser/impl, iso7816emv/EmvTerminal and
// DefaultTerminalImpl. javaemvreader: sasc999/javaemvreader, sasc/emv/EMVSession,
// sasc/smartcard/common/CardScanner and CardExplorer. OpenSC: OpenSC/OpenSC,
// src/libopensc, the match_card and init functions of its drivers.

// A paycard is what the enrolment library finds.
type paycard struct {
	number, expiry     string
	pin, counter, logs int
}

// A paycardRun is one reading with a terminal's answers to the card's list.
type paycardRun struct {
	*plug
	card     paycard
	terminal map[tlv.Tag]string
}

// directory lists names: from the SFI's records, counted from 0, or from the FCI.
func (g *plug) paycardDirectory(name string) (aids [][]byte) {
	g.t.Helper()
	fci, sw := g.do(fmt.Sprintf("00A40400%02X%X00", len(name), name))
	if sw != iso7816.OK {
		return nil
	}
	private := g.at(fci, 0x6F, 0xA5)
	if sfi, ok := tlv.Find(private, 0x88); ok {
		for n := range 16 {
			data, sw := g.do(fmt.Sprintf("00B2%02X%02X00", n, sfi[0]<<3|4))
			if sw != iso7816.OK {
				break
			}
			aids = append(aids, g.at(data, 0x70, 0x61, 0x4F))
		}
		return aids
	}
	return append(aids, g.at(private, 0xBF0C, 0x61, 0x4F))
}

// read is one application: processing options, with nothing after a refusal, and
// the records until there is a track.
func (p *paycardRun) read(aid []byte) bool {
	p.t.Helper()
	fci, sw := p.do(fmt.Sprintf("00A40400%02X%X00", len(aid), aid))
	if sw != iso7816.OK {
		return false
	}
	var data []byte
	if list, ok := tlv.Find(p.at(fci, 0x6F, 0xA5), 0x9F38); ok {
		data = p.pdol(list, p.terminal)
	}
	gpo, sw := p.do(fmt.Sprintf("80A80000%02X83%02X%X00", len(data)+2, len(data), data))
	if sw != iso7816.OK {
		if gpo, sw = p.do("80A8000002830000"); sw != iso7816.OK {
			return false
		}
	}
	p.track(gpo)
	var afl []byte
	if v, ok := tlv.Find(gpo, 0x80); ok {
		afl = v[2:]
	} else if v, ok := tlv.Find(p.at(gpo, 0x77), 0x94); ok {
		afl = v
	}
	for ; len(afl) >= 4 && p.card.number == ""; afl = afl[4:] {
		for n := afl[1]; n <= afl[2] && p.card.number == ""; n++ {
			p.track(p.ok(fmt.Sprintf("00B2%02X%02X00", n, afl[0]|4)))
		}
	}
	if p.card.number == "" {
		return false
	}
	p.rest(fci)
	return true
}

func (p *paycardRun) track(data []byte) {
	for _, outer := range []tlv.Tag{0x77, 0x70} {
		if v, ok := tlv.Find(data, outer); ok {
			if track, ok := tlv.Find(v, 0x57); ok {
				s := upper(track)
				cut := strings.IndexByte(s, 'D')
				p.card.number, p.card.expiry = s[:cut], s[cut+1:cut+5]
			}
		}
	}
}

// rest are the PIN tries, the counter and the log.
func (p *paycardRun) rest(fci []byte) {
	p.t.Helper()
	p.card.pin = int(p.at(p.ok("80CA9F1700"), 0x9F17)[0])
	p.card.counter = int(number(upper(p.at(p.ok("80CA9F3600"), 0x9F36))))
	log := p.at(fci, 0x6F, 0xA5, 0xBF0C, 0x9F4D)
	if list, err := emv.ParseDOL(p.at(p.ok("80CA9F4F00"), 0x9F4F)); err != nil || len(list) == 0 {
		p.t.Errorf("log format %v %v", list, err)
	}
	for n := byte(1); n <= log[1]; n++ {
		if _, sw := p.do(fmt.Sprintf("00B2%02X%02X00", n, log[0]<<3|4)); sw != iso7816.OK {
			break
		}
		p.card.logs++
	}
}

// The library reads the payment card over the air by its directory and by
// contact by the names it knows, for it counts the records of PSE from 0.
func TestClientPaycard(t *testing.T) {
	older := map[tlv.Tag]string{0x9F66: "28000000", 0x9F02: "000000000000", 0x9F1A: "0250", 0x5F2A: "0978", 0x9A: "261130", 0x9C: "00", 0x9F37: "A1B2C3D4"}
	newer := map[tlv.Tag]string{0x9F66: "B620C000", 0x9F02: "000000000001", 0x9F1A: "0250", 0x5F2A: "0978", 0x9A: "261130", 0x9C: "00", 0x9F37: "A1B2C3D4"}
	known := []string{"A000000003", "A000000004", "A000000025", "A0000001523010", "A0000002771010", "A000000333010101"}
	for _, personality := range []string{"contactless", "beijing", "contact-t0", "contact-t1"} {
		for i, terminal := range []map[tlv.Tag]string{older, newer} {
			p := &paycardRun{plug: plugIn(t, personality, gp.AES), terminal: terminal}
			p.do("80CA9F7F00") // before anything is selected
			air := !strings.HasPrefix(personality, "contact-")
			var list [][]byte
			if air {
				list = p.paycardDirectory("2PAY.SYS.DDF01")
			} else {
				list = p.paycardDirectory("1PAY.SYS.DDF01")
			}
			if len(list) > 0 != air {
				t.Errorf("%s: listed %X", personality, list)
			}
			read := len(list) > 0 && p.read(list[0])
			for _, aid := range known {
				read = read || p.read(unhexed(aid))
			}
			if want := (paycard{number: testPAN, expiry: "4012", pin: 3, counter: 1}); !read || p.card != want {
				t.Errorf("%s, terminal %d: %+v", personality, i, p.card)
			}
		}
	}
}

// javaemvreader looks at every directory and file it knows of, tells domains by
// their FCI and goes through the payment application with DDA and GET CHALLENGE.
func TestClientJavaEMVReader(t *testing.T) {
	for _, personality := range []string{"contact-t0", "contact-t1"} {
		g := plugIn(t, personality, gp.AES)
		g.sameClass = true
		g.do("FFC201000000")
		if v := g.at(g.ok("00A4040000"), 0x6F, 0x84); len(v) < 5 {
			t.Errorf("domain %X", v)
		}
		for _, file := range []string{"00A4000000", "00A40000023F0000", "00A40200022F0100", "00A40000043F002F0100", "00A40200022F0000", "00A40000043F002F0000", "00B2010400", "00CA006E00"} {
			g.do(file)
		}
		for _, o := range []string{"9F7F", "0042", "0045", "0066", "00E0", "00CF", "00C1"} {
			g.do("80CA" + o + "00")
		}
		k := &toolKernel{plug: g, icc: map[tlv.Tag][]byte{}, aids: []string{"A000000333"}}
		ca, err := testAuthority()
		if err != nil {
			t.Fatal(err)
		}
		k.ca, k.config = ca, map[tlv.Tag][]byte{0x9F33: {0xE0, 0xF8, 0xC8}}
		list := k.candidates()
		if len(list) != 1 {
			t.Fatalf("applications %v", list)
		}
		fci := g.ok(fmt.Sprintf("00A40400%02X%s00", len(list[0])/2, list[0]))
		data := k.dol(g.at(fci, 0x6F, 0xA5, 0x9F38), nil)
		v := g.at(g.ok(fmt.Sprintf("80A80000%02X83%02X%X00", len(data)+2, len(data), data)), 0x80)
		k.read(v[2:])
		k.authenticate(v[:2])
		for _, o := range []string{"9F36", "9F13", "9F17"} {
			g.ok("80CA" + o + "00")
		}
		if c := g.ok("0084000000"); len(c) != 8 {
			t.Errorf("challenge %X", c)
		}
	}
}

// stranger are names that OpenSC's drivers select to see whether a card is
// theirs, and commands they send unasked.
var stranger = []string{
	"00A4040009A0000003080000100000", "00A404000BA000000308000010000100", "00A4040006D2760001240100", "00A4040C06D27600012401",
	"00A4040007A000000079030000", "00A4040007A000000079010000", "00A404000BA0000003974349445F010000", "00A404000CA0000003974254465900000000", "00A404000BE82B0601040181C31F020100",
	"00A4040005A00000011600", "00A4040006A0000000010100", "00A4040007A0000001160300", "00A404000CF276A288BCFBA69D34F31001", "00A4040C08A000000018434D0000", "00A404000CA0000000180C000001634200",
	"00A4040010A000000077010800070000FE00000100", "00A404000FD2330000004573744549442076333500", "00A404000CA000000063504B43532D3135", "00A4040C0CA000000063504B43532D3135",
	"00A40000023F00", "00A40000023F0000", "00A4000C023F00", "00A40804023F0000", "00A40000022F00", "00A4020C022F00", "00A4020C022F02", "00A40000025015", "00A4080C043F002F00", "00A4030000",
	"00B0000000", "00B0820000", "00B0000100", "00CA010000", "00CA01810E", "00CADF2000", "00CADF3000", "80CA9F7F2D", "00CB3FFF055C035FC10700", "00CA004F00", "00CA006E00", "00C0000000",
	"00200080", "0020008100", "00200001", "0084000008", "802C000000", "80FC000000", "8036000000", "B0CA0000", "8032000500", "A0A40000023F00", "C0A40000023F00", "B03C000000", "0022F301",
	"00220101", "0022C1A40F800A04007F00070202020402830103", "80E6000000", "805000000000", "0019000000", "901C000000", "80A40000023F0000",
}

// OpenSC's drivers, tried one after the other and many times, find nothing of
// theirs and change nothing.
func TestClientOpenSC(t *testing.T) {
	for _, personality := range []string{"contactless", "beijing", "desfire", "contact-t0", "contact-t1"} {
		g := plugIn(t, personality, gp.AES)
		before, image := g.look(), g.band.Element.Image()
		g.ask("01")
		for n := range 4 {
			if n > 0 { // on a card that somebody has selected
				g.do([]string{"00A4040000", "00A4040008A000000632010105", "00A4040008A000000333010101"}[n-1])
			}
			for _, apdu := range stranger {
				data, sw := g.do(apdu)
				if strings.HasPrefix(apdu, "00A4040") && (sw == iso7816.OK || len(data) > 0) {
					t.Errorf("%s: %s: %X %v", personality, apdu, data, sw)
				}
			}
			g.ask("02")
		}
		if after := g.look(); asJSON(t, after) != asJSON(t, before) {
			t.Errorf("%s: was %s, is %s", personality, asJSON(t, before), asJSON(t, after))
		}
		if !bytes.Equal(g.band.Element.Image(), image) {
			t.Errorf("%s: the memory has changed", personality)
		}
	}
}
