// Package directory holds the applets that tell readers and wallets what an
// element offers: the contactless payment directory 2PAY.SYS.DDF01 (PPSE), the
// contact one 1PAY.SYS.DDF01 (PSE) and the contactless registry application
// (CRS, GlobalPlatform Amendment C). They keep nothing: what they say is read
// off the registry and the applets that are a card.Lister at every selection,
// so installing, locking or deactivating a card shows at once. Every element has
// one instance of each, always on. Start at PPSE.
package directory

import (
	"koala/card"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// Names of the payment directories (EMV book 1, 12.2.2; book B, 3.3).
const (
	PPSEName card.AID = "2PAY.SYS.DDF01"
	PSEName  card.AID = "1PAY.SYS.DDF01"
)

const (
	tagName       tlv.Tag = 0x84
	tagFCI        tlv.Tag = 0x6F
	tagOwn        tlv.Tag = 0xA5
	tagIssuerData tlv.Tag = 0xBF0C
	tagEntry      tlv.Tag = 0x61
	tagRecord     tlv.Tag = 0x70
	tagSFI        tlv.Tag = 0x88
	tagPriority   tlv.Tag = 0x87
	tagLanguage   tlv.Tag = 0x5F2D
	tagCodeTable  tlv.Tag = 0x9F11

	// swNothing refuses the selection of a directory without entries: the reader
	// gets 6A82, as from a card that has no directory.
	swNothing iso7816.SW = iso7816.SWPersonalisationDone
)

// fci codes the answer to SELECT: name and proprietary template.
func fci(name card.AID, own []byte) iso7816.Response {
	return answer(tlv.Append(nil, tagFCI, tlv.Append(tlv.Append(nil, tagName, []byte(name)), tagOwn, own)))
}

// PPSE is the module of the contactless payment directory.
func PPSE() card.Module {
	return card.Module{New: func() card.Applet { return ppse{} }, Shared: true, Always: true}
}

// maxList bounds the entries of one answer, bytes: what a short answer takes.
const maxList = 220

type ppse struct{}

// Select lists the activated payment applications, the preferred one first, each
// in a 61 (CARD.md 1.1). What does not fit in a short answer is left out, from
// the end of the order.
func (ppse) Select(s *card.Session) iso7816.Response {
	r := s.Registry()
	var list []byte
	n := byte(0)
	for _, x := range r.Ordered() {
		if x.Contactless.State != card.Activated || !listed(x) {
			continue
		}
		v := r.Listed(x)
		if v == nil {
			continue
		}
		if e := tlv.Append(nil, tagEntry, ranked(v, n+1)); len(list)+len(e) <= maxList {
			list, n = append(list, e...), n+1
		}
	}
	if list == nil {
		return status(swNothing)
	}
	x, _ := r.Entry(s.Self)
	return fci(x.AID, tlv.Append(nil, tagIssuerData, list))
}

// ranked gives a directory entry the priority of its place, the first 1: readers
// go by the indicator (tag 87) and not by the order of the list, and it is the
// registry's order that the wearer chose, not the one the cards were issued with.
// The bit that asks for the holder's consent stays; places behind the 15th share
// the last priority.
func ranked(v []byte, place byte) []byte {
	const consent = 0x80
	var out []byte
	rank := min(place, 15)
	for rest := v; len(rest) > 0; {
		tag, val, after, err := tlv.Next(rest)
		if err != nil {
			return v // not the applet's own writing: left as it is
		}
		if tag == tagPriority && len(val) == 1 {
			val = []byte{val[0]&consent | rank}
			rank = 0
		}
		out, rest = tlv.Append(out, tag, val), after
	}
	if rank != 0 {
		out = tlv.Append(out, tagPriority, []byte{rank})
	}
	return out
}

// Process knows no command: everything is in the answer to SELECT.
func (ppse) Process(_ *card.Session, c iso7816.Command) iso7816.Response {
	return status(unknown(c, 0))
}

// listed says whether an application stands open to readers: made selectable,
// personalised or not, and not locked.
func listed(x card.Entry) bool {
	return x.State&card.LockedBit == 0 && x.State >= card.StateSelectable
}

// unknown is the status word for a command an applet of class cla does not have.
func unknown(c iso7816.Command, cla byte) iso7816.SW {
	if c.CLA != cla {
		return iso7816.SWClass
	}
	return iso7816.SWInstruction
}

func status(sw iso7816.SW) iso7816.Response { return iso7816.Response{SW: sw} }

func answer(data []byte) iso7816.Response { return iso7816.Response{Data: data, SW: iso7816.OK} }
