package pcsc

import (
	"koala/card"
	"koala/spec/iso7816"
)

// GET DATA to the reader (PC/SC part 3, 3.2.2.1.3): CLA FF, INS CA.
const (
	claReader  = 0xFF
	insGetData = 0xCA
	dataUID    = 0x00 // P1: the UID
	dataATS    = 0x01 // P1: the answer to select
)

// Status words that PC/SC part 3 gives GET DATA.
const (
	swShort       iso7816.SW = 0x6282 // fewer bytes than Le asks for
	swUnsupported iso7816.SW = 0x6A81 // the card has no such data
)

// pseudo answers a command to the reader itself. Only a contactless reader
// takes them: a contact card sees them like any other command and refuses the
// class, which is how programs tell the two apart.
func (r *Reader) pseudo(raw []byte) ([]byte, bool) {
	if r.Personality.Interface != card.Contactless || raw[0] != claReader {
		return nil, false
	}
	c, err := iso7816.ParseCommand(raw)
	switch {
	case err != nil:
		return iso7816.Response{SW: iso7816.SWLength}.Bytes(), true
	case c.INS != insGetData:
		return iso7816.Response{SW: iso7816.SWInstruction}.Bytes(), true
	case c.P2 != 0:
		return iso7816.Response{SW: iso7816.SWP1P2}.Bytes(), true
	case c.P1 == dataUID:
		uid := r.Card.UID()
		return exactly(uid[:], c.Le).Bytes(), true
	case c.P1 == dataATS && r.Personality.ATS != nil:
		return exactly(r.Personality.ATS, c.Le).Bytes(), true
	}
	return iso7816.Response{SW: swUnsupported}.Bytes(), true
}

// exactly gives data to a reader that wants le bytes: 00 takes all, too few is
// answered with the right number, too many with a warning.
func exactly(data []byte, le int) iso7816.Response {
	switch {
	case le == iso7816.NoLe:
		return iso7816.Response{SW: iso7816.SWLength}
	case le == 0 || le == len(data) || le >= iso7816.MaxShortLe:
		return iso7816.Response{Data: data, SW: iso7816.OK}
	case le < len(data):
		return iso7816.Response{SW: iso7816.Exact(len(data))}
	}
	return iso7816.Response{Data: data, SW: swShort}
}
