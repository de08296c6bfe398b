// Package pcsc puts a band before other people's programs and other people's
// readers before a terminal of this house. Reader is the card's side of the
// virtual reader of the vsmartcard project: it dials the reader driver that
// runs inside pcscd and answers for a card. Client speaks to pcscd itself, as
// libpcsclite does, without C. Start at Reader, or at Dial for the other way.
//
// # The virtual reader
//
// A frame is a length of two bytes, most significant first, and so many bytes,
// both ways. One byte is a control: 00 power off, 01 power on, 02 reset, 04
// asks for the ATR; only 04 is answered. Everything longer is a command APDU,
// answered with data and status word. Power off, reset and the loss of the
// socket are moments at which the card loses whatever is volatile; a card that
// tears closes the socket, which the reader sees as a card taken away.
//
// The driver writes length and body apart, so that delayed acknowledgement
// costs 44 ms for each command unless the card's end acknowledges at once:
// TCP_QUICKACK is set before every read, and an answer is one write.
package pcsc

import (
	"fmt"
	"strings"

	"koala/card"
)

// A Personality is how a reader sees the card: its answer to reset, the
// interface it is powered on, and which transport its commands take.
type Personality struct {
	Name      string
	ATR       []byte // answer to reset (ISO 7816-3, 8; PC/SC part 3 for contactless ones)
	ATS       []byte // answer to select of ISO 14443-4, TL first; nil on contacts
	Interface card.Interface
	T0        bool     // case 4 commands are answered 61xx, a wrong Le 6Cxx
	Preselect card.AID // selected at every power-on, when the card has it
}

// The personalities. A contactless reader makes an ATR for cards that have
// none: 3B 8n 80 01, historical bytes, check byte. The ATS says 256-byte frames
// (FSCI 8), all rates (TA 77), 77 ms (FWI 8), CID (TC 02).
var (
	Contactless = Personality{Name: "contactless", Interface: card.Contactless,
		ATR: []byte{0x3B, 0x80, 0x80, 0x01, 0x01}, ATS: []byte{0x05, 0x78, 0x77, 0x81, 0x02}}
	// DESFire is what libraries know as one: historical byte 80, and the DESFire
	// application current without a SELECT, as on a card that has nothing else.
	DESFire = Personality{Name: "desfire", Interface: card.Contactless, Preselect: "\xD2\x76\x00\x00\x85\x01\x00",
		ATR: []byte{0x3B, 0x81, 0x80, 0x01, 0x80, 0x80}, ATS: []byte{0x06, 0x75, 0x77, 0x81, 0x02, 0x80}}
	// Beijing is what readers know as the older Beijing card, which has no name to
	// select: its master file is current in the field, here that of the purse.
	Beijing = Personality{Name: "beijing", Interface: card.Contactless, Preselect: "\xA0\x00\x00\x06\x32\x01\x01\x05",
		ATR: Contactless.ATR, ATS: Contactless.ATS}
	ContactT0 = Personality{Name: "contact-t0", Interface: card.Contact, T0: true,
		ATR: []byte{0x3B, 0x60, 0x00, 0x00}}
	ContactT1 = Personality{Name: "contact-t1", Interface: card.Contact,
		ATR: []byte{0x3B, 0xE0, 0x00, 0x00, 0x81, 0x31, 0xFE, 0x45, 0xEB}}
)

// Personalities lists them all.
func Personalities() []Personality {
	return []Personality{Contactless, DESFire, Beijing, ContactT0, ContactT1}
}

// PersonalityNamed finds one by its name.
func PersonalityNamed(name string) (Personality, error) {
	var names []string
	for _, p := range Personalities() {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Personality{}, fmt.Errorf("pcsc: no personality %q; there are %s", name, strings.Join(names, ", "))
}
