package directory

import (
	"koala/card"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// directorySFI is the short file identifier of the directory file.
const directorySFI = 1

const insReadRecord = 0xB2

// PSE is the module of the contact payment directory.
func PSE() card.Module {
	return card.Module{New: func() card.Applet { return &pse{} }, Shared: true, Always: true}
}

// A pse is one selection; records is the file as it stood then.
type pse struct{ records [][]byte }

// Select answers the FCI (EMV book 1, 12.2.3): the file's SFI, language
// preference and code table. Every selectable payment application has a record.
func (p *pse) Select(s *card.Session) iso7816.Response {
	r := s.Registry()
	for _, x := range r.Ordered() {
		if v := r.Listed(x); v != nil && listed(x) {
			p.records = append(p.records, tlv.Append(nil, tagRecord, tlv.Append(nil, tagEntry, v)))
		}
	}
	if p.records == nil {
		return status(swNothing)
	}
	x, _ := r.Entry(s.Self)
	own := tlv.Append(nil, tagSFI, []byte{directorySFI})
	own = tlv.Append(own, tagLanguage, []byte("zhen"))
	return fci(x.AID, tlv.Append(own, tagCodeTable, []byte{1}))
}

// Process answers READ RECORD of the directory file, record 1 on; 6A83 ends it.
// Record 00, which some clients ask for, does not exist either.
func (p *pse) Process(_ *card.Session, c iso7816.Command) iso7816.Response {
	switch {
	case c.CLA != 0 || c.INS != insReadRecord:
		return status(unknown(c, 0))
	case c.P2&0x07 != 0x04:
		return status(iso7816.SWP1P2)
	case len(c.Data) != 0:
		return status(iso7816.SWLength)
	case c.P2>>3 != directorySFI:
		return status(iso7816.SWFileNotFound)
	case c.P1 == 0 || int(c.P1) > len(p.records):
		return status(iso7816.SWRecordNotFound)
	}
	return answer(p.records[c.P1-1])
}
