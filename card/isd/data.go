package isd

import (
	"encoding/binary"

	"koala/card"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// Layout of the data region: CPLC 42 | length and value of IIN 17 | of CIN 17.
const (
	dataTag = 2

	atCPLC     = 0
	atPrePerso = 26
	atPerso    = 34
	atIIN      = 42
	atCIN      = 59
	dataSize   = 76
	maxNumber  = 16 // bytes of an IIN or CIN
	persoSize  = 8  // bytes of 9F66 and 9F67

	recognitionTag = 4 // length 1 | card recognition data of the issuer's own
	maxRecognition = 100
)

// tagResources is the extended card resources object (ETSI TS 102 226, 8.2.1.7.2),
// which GlobalPlatform tools read for free memory.
const tagResources tlv.Tag = 0xFF21

// productionData is the CPLC of an element with that UID, without its tag.
func productionData(uid [7]byte) []byte {
	c := gp.CPLC{System: [2]byte{'K', 'O'}, Level: [2]byte{0, 1}, Batch: [2]byte(uid[1:3]), Serial: [4]byte(uid[3:])}
	return c.Bytes()[3:]
}

// getData answers with one object, its tag before it (GPCS 11.3).
func (d *domain) getData(s *card.Session, c iso7816.Command) iso7816.Response {
	data := object(s, tlv.Tag(c.P1)<<8|tlv.Tag(c.P2))
	if data == nil {
		return status(iso7816.SWReferenceNotFound)
	}
	return answer(data)
}

// object codes an object of the domain; nil if it has none.
func object(s *card.Session, tag tlv.Tag) []byte {
	region := s.Region(dataTag).Bytes()
	switch tag {
	case gp.TagCPLC:
		issuer, _ := s.Registry().Domain()
		o := *s
		o.Self = issuer.ID
		return tlv.Append(nil, tag, o.Region(dataTag).Bytes()[atCPLC:atIIN])
	case gp.TagIIN:
		return number(tag, region[atIIN:atCIN])
	case gp.TagCIN:
		return number(tag, region[atCIN:])
	case gp.TagKDD:
		kdd := keyData(s.UID())
		return tlv.Append(nil, tag, kdd[:])
	case gp.TagCapabilities:
		return gp.Capabilities()
	case gp.TagKeyInfo:
		keys := tableOf(keyOwner(s)).info()
		if k, _, ok := tokenKey(s); ok {
			keys = append(keys, k)
		}
		if len(keys) > 0 {
			return gp.KeyTemplate(keys)
		}
	case gp.TagCardData, gp.TagSequence:
		return channelObject(s, tag)
	case gp.TagReceipts:
		if g := s.Region(delegatedTag); g.Present() {
			return tlv.Append(nil, tag, g.Bytes()[:2])
		}
		if x, _ := s.Registry().Entry(s.Self); gp.Privileges(x.Privileges).Has(gp.PrivReceiptGeneration) {
			return tlv.Append(nil, tag, []byte{0, 0}) // it has given none
		}
	case tagResources:
		return resources(s)
	}
	return nil
}

// channelObject tells about the key set that INITIALIZE UPDATE would use.
func channelObject(s *card.Session, tag tlv.Tag) []byte {
	set, ok := tableOf(keyOwner(s)).set(0)
	switch {
	case !ok:
		return nil
	case tag == gp.TagSequence && set.kind == gp.DES:
		return tlv.Append(nil, tag, []byte{byte(set.sequence >> 8), byte(set.sequence)})
	case tag == gp.TagSequence:
		return tlv.Append(nil, tag, []byte{byte(set.sequence >> 16), byte(set.sequence >> 8), byte(set.sequence)})
	}
	protocol, option := byte(3), byte(gp.OptionSCP03)
	if set.kind == gp.DES {
		protocol, option = 2, gp.OptionSCP02
	}
	if v := s.Region(recognitionTag).Bytes(); v != nil {
		given := tlv.Append(nil, tag, v[1:1+int(v[0])])
		if p, i, err := gp.ParseCardData(given); err == nil && p == protocol && i == option {
			return given
		}
	}
	return gp.CardData(protocol, option)
}

// storeRecognition keeps card recognition data of the issuer's own. What it says
// of the secure channel must be so; when the keys change to another protocol,
// the card speaks for itself again.
func storeRecognition(s *card.Session, v []byte) iso7816.SW {
	protocol, option, err := gp.ParseCardData(tlv.Append(nil, gp.TagCardData, v))
	if err != nil || len(v) > maxRecognition {
		return iso7816.SWData
	}
	set, ok := tableOf(keyOwner(s)).set(0)
	if !ok || set.kind == gp.DES && (protocol != 2 || option != gp.OptionSCP02) || set.kind == gp.AES && (protocol != 3 || option != gp.OptionSCP03) {
		return iso7816.SWData
	}
	g := s.Region(recognitionTag)
	if !g.Present() {
		if g, err = s.Allocate(recognitionTag, 1+maxRecognition); err != nil {
			return iso7816.SWNoSpace
		}
	}
	cell := make([]byte, 1+maxRecognition)
	cell[0] = byte(len(v))
	copy(cell[1:], v)
	g.Write(0, cell)
	return iso7816.OK
}

// resources counts the applications (81), free EEPROM (82), of a domain with a
// quota what is left of it, and free volatile memory (83), which here is not
// scarce.
func resources(s *card.Session) []byte {
	n := byte(0)
	for _, x := range s.Registry().Entries() {
		if x.Kind == card.Application {
			n++
		}
	}
	left := s.Free()
	if x, _ := s.Registry().Entry(s.Self); x.Quota.Granted != 0 {
		left = min(left, max(0, int(x.Quota.Granted)-s.Registry().UsedUnder(x.ID)))
	}
	free := binary.BigEndian.AppendUint32(nil, uint32(left))
	body := tlv.Append(tlv.Append(nil, 0x81, []byte{n}), 0x82, free)
	return tlv.Append(nil, tagResources, tlv.Append(body, 0x83, []byte{0x10, 0x00}))
}

func number(tag tlv.Tag, cell []byte) []byte {
	n := int(cell[0])
	if n == 0 || n > maxNumber {
		return nil
	}
	return tlv.Append(nil, tag, cell[1:1+n])
}

// storeObjects takes BER-TLV objects for the domain itself (GPCS 11.11.3.1).
func (d *domain) storeObjects(s *card.Session, in []byte) iso7816.Response {
	if len(in) == 0 {
		return status(iso7816.SWData)
	}
	for len(in) > 0 {
		tag, v, rest, err := tlv.Next(in)
		if err != nil {
			return status(iso7816.SWData)
		}
		if sw := storeObject(s, tag, v); !sw.OK() {
			return status(sw)
		}
		in = rest
	}
	return status(iso7816.OK)
}

func storeObject(s *card.Session, tag tlv.Tag, v []byte) iso7816.SW {
	g := s.Region(dataTag)
	x, _ := s.Registry().Entry(s.Self)
	switch {
	case (tag == gp.TagIIN || tag == gp.TagCIN) && len(v) <= maxNumber:
		cell := make([]byte, maxNumber+1)
		cell[0] = byte(len(v))
		copy(cell[1:], v)
		at := atIIN
		if tag == gp.TagCIN {
			at = atCIN
		}
		g.Write(at, cell)
	case tag == gp.TagPrePerso && len(v) == persoSize && x.Kind == card.Domain:
		g.Write(atPrePerso, v)
	case tag == gp.TagPerso && len(v) == persoSize && x.Kind == card.Domain:
		g.Write(atPerso, v)
	case tag == gp.TagCardData:
		return storeRecognition(s, v)
	case tag == 0x4F && len(v) >= 5 && len(v) <= 16 && x.Kind == card.Domain:
		return rename(s, x, card.AID(v))
	default:
		return iso7816.SWData
	}
	return iso7816.OK
}

// rename gives the issuer's domain another AID, wherever it stands.
func rename(s *card.Session, x card.Entry, to card.AID) iso7816.SW {
	if y, taken := s.Registry().Find(to); taken && y.ID != x.ID {
		return iso7816.SWData
	}
	old := x.AID
	for _, y := range s.Registry().Entries() {
		if y.ID == x.ID {
			y.AID = to
		}
		if y.Domain == old {
			y.Domain = to
		}
		if sw := s.Registry().Update(y); !sw.OK() {
			return sw
		}
	}
	return iso7816.OK
}
