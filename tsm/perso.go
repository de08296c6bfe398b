package tsm

import (
	"koala/hsm"
	"koala/issuing"
	"koala/spec/globalplatform"
	"koala/spec/purse"
)

// samDossier is a gate's PSAM: its number, its terminal number, and the root of
// the purchase keys, undispersed: the PSAM disperses it for every card it meets.
func samDossier(s SAMData) issuing.Personalisation {
	public := append(s.Serial[:len(s.Serial):len(s.Serial)], 0x01, 0x01, 0x00, 0x00) // version, key set, reserved
	return issuing.Personalisation{
		LoadFile: samLoadFile, Module: samModule, Instance: samModule,
		Groups: []globalplatform.DGI{
			{ID: purse.DGIPublic, Data: public},
			{ID: purse.DGIHolder, Data: s.Terminal[:]},
		},
		Keys: []hsm.KeyRef{{DGI: purse.DGIKeyFirst, Kind: purse.DPK, Index: keyIndex, Label: hsm.LabelDPK}},
	}
}

// What a PSAM is made of, in the catalogue of every element of this house; an
// unregistered name (ISO 7816-5, 8.3), because it never leaves its gate.
const (
	samLoadFile globalplatform.AID = "\xF0koala\x02"
	samModule   globalplatform.AID = "\xF0koala\x02\x01"
)

func (s SAMData) bytes() []byte {
	return append(s.Serial[:len(s.Serial):len(s.Serial)], s.Terminal[:]...)
}

func parseSAMData(b []byte) (s SAMData, err error) {
	if len(b) != len(s.Serial)+len(s.Terminal) {
		return s, errPacked
	}
	copy(s.Serial[:], b)
	copy(s.Terminal[:], b[len(s.Serial):])
	return s, nil
}
