package isd

import (
	"koala/card"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// maxCarry bounds a data grouping that goes over several STORE DATA, bytes. A
// unit of the element holds somewhat less than 2 KB.
const maxCarry = 2048

// personalise turns the following STORE DATA to an application of the domain
// (GPCS 11.5.2.3.6).
func (d *domain) personalise(s *card.Session, self card.Entry, in gp.Install) iso7816.SW {
	d.target, d.carry = 0, nil
	x, sw := named(s, self, in)
	switch {
	case !sw.OK():
		return sw
	case x.Kind != card.Application || x.State&gp.LockBit != 0:
		return iso7816.SWConditions
	}
	if x.ID != self.ID {
		d.target = x.ID
	}
	return iso7816.OK
}

// storeData takes one STORE DATA: for the application under personalisation, or
// for the domain itself.
func (d *domain) storeData(s *card.Session, c iso7816.Command) iso7816.Response {
	in, err := gp.ParseStoreData(c)
	if err != nil {
		d.target = 0
		return status(iso7816.SWP1P2)
	}
	if d.target == 0 {
		if in.Form == gp.StoreDGI {
			return status(iso7816.SWData)
		}
		return d.storeObjects(s, in.Data)
	}
	target := d.target
	d.target = 0         // an error ends the personalisation; so does the last block
	pass := d.passGroups // also where no structure is given, as public tools do
	if in.Form == gp.StoreTLV {
		pass = d.passObjects
	}
	if sw := pass(s, target, in); !sw.OK() || in.Last {
		return status(sw)
	}
	d.target = target
	return status(iso7816.OK)
}

// passGroups hands every complete data grouping to the application and keeps
// the beginning of one that is not complete yet.
func (d *domain) passGroups(s *card.Session, target card.ID, in gp.Stored) iso7816.SW {
	rest := append(d.carry, in.Data...)
	d.carry = nil
	for len(rest) > 0 {
		g, after, ok, err := gp.NextDGI(rest)
		if err != nil || !ok && in.Last {
			return iso7816.SWData
		}
		if !ok {
			break
		}
		if sw := s.Personalise(target, g.ID, g.Data, d.channel.DecryptKey); !sw.OK() {
			return sw
		}
		rest = after
	}
	if len(rest) > maxCarry {
		return iso7816.SWNoSpace
	}
	d.carry = rest
	return iso7816.OK
}

// passObjects hands BER-TLV objects on, their tag in place of the identifier of
// a data grouping.
func (d *domain) passObjects(s *card.Session, target card.ID, in gp.Stored) iso7816.SW {
	for data := in.Data; len(data) > 0; {
		tag, v, rest, err := tlv.Next(data)
		if err != nil || tag > 0xFFFF {
			return iso7816.SWData
		}
		if sw := s.Personalise(target, uint16(tag), v, d.channel.DecryptKey); !sw.OK() {
			return sw
		}
		data = rest
	}
	return iso7816.OK
}
