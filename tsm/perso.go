package tsm

import (
	"encoding/binary"
	"fmt"

	"koala/hsm"
	"koala/issuing"
	"koala/spec/globalplatform"
	"koala/spec/purse"
)

// A dossier is everything one element is personalised with, but for key
// values: those never leave the hsm. It is sealed with the order before the
// first command goes out, so that every session writes the same card.
type dossier struct {
	loadFile, module, instance globalplatform.AID
	number                     purse.Number // empty for a SAM
	groups                     []globalplatform.DGI
	keys                       []keyOrder
}

// A keyOrder asks the hsm for one key group.
type keyOrder struct {
	dgi   uint16
	kind  purse.KeyKind
	label string // of the root in the hsm
}

// cardDossier is the T-Union purse of a card: files 15 and 17, the rail record
// of file 1A, limits, and its four keys, each dispersed by its number.
func cardDossier(c issuing.Card, p issuing.Product) dossier {
	limits := purse.Limits{MaxBalance: uint32(p.MaxBalance.Minor())}
	return dossier{
		loadFile: globalplatform.AID(p.Package), module: globalplatform.AID(p.Module), instance: globalplatform.AID(p.Instance),
		number: c.Number,
		groups: []globalplatform.DGI{
			{ID: purse.DGIPublic, Data: issuing.FileOf(c, p).Bytes()},
			{ID: purse.DGIRegion, Data: issuing.RegionOf(p).Bytes()},
			{ID: purse.DGITransit, Data: purse.NewTransit(c.Number).Bytes()},
			{ID: purse.DGILimits, Data: limits.Bytes()},
		},
		keys: []keyOrder{
			{purse.DGIKeyFirst, purse.DPK, hsm.LabelDPK}, {purse.DGIKeyFirst + 1, purse.DLK, hsm.LabelDLK},
			{purse.DGIKeyFirst + 2, purse.DTK, hsm.LabelDTK}, {purse.DGIKeyFirst + 3, purse.DAMK, hsm.LabelDAMK},
		},
	}
}

// samDossier is a gate's PSAM: its number, its terminal number, and the root of
// the purchase keys, undispersed: the PSAM disperses it for every card it meets.
func samDossier(s SAMData) dossier {
	public := append(s.Serial[:len(s.Serial):len(s.Serial)], 0x01, 0x01, 0x00, 0x00) // version, key set, reserved
	return dossier{
		loadFile: samLoadFile, module: samModule, instance: samModule,
		groups: []globalplatform.DGI{
			{ID: purse.DGIPublic, Data: public},
			{ID: purse.DGIHolder, Data: s.Terminal[:]},
		},
		keys: []keyOrder{{purse.DGIKeyFirst, purse.DPK, hsm.LabelDPK}},
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

// bytes writes the dossier for sealing.
func (d dossier) bytes() []byte {
	b := []byte{packVersion}
	for _, s := range []string{string(d.loadFile), string(d.module), string(d.instance), string(d.number)} {
		b = appendPart(b, []byte(s))
	}
	b = binary.AppendUvarint(b, uint64(len(d.groups)))
	for _, g := range d.groups {
		b = appendPart(binary.BigEndian.AppendUint16(b, g.ID), g.Data)
	}
	b = binary.AppendUvarint(b, uint64(len(d.keys)))
	for _, k := range d.keys {
		b = appendPart(append(binary.BigEndian.AppendUint16(b, k.dgi), byte(k.kind)), []byte(k.label))
	}
	return b
}

// parseDossier reads what bytes wrote.
func parseDossier(b []byte) (d dossier, err error) {
	if len(b) == 0 || b[0] != packVersion {
		return d, fmt.Errorf("%w: no version", errPacked)
	}
	p := &packed{b: b[1:]}
	d.loadFile, d.module, d.instance = globalplatform.AID(p.part()), globalplatform.AID(p.part()), globalplatform.AID(p.part())
	d.number = purse.Number(p.part())
	for range p.number(64) {
		if id := p.take(2); id != nil {
			d.groups = append(d.groups, globalplatform.DGI{ID: binary.BigEndian.Uint16(id), Data: p.part()})
		}
	}
	for range p.number(64) {
		if head := p.take(3); head != nil {
			d.keys = append(d.keys, keyOrder{binary.BigEndian.Uint16(head), purse.KeyKind(head[2]), string(p.part())})
		}
	}
	if p.bad || len(p.b) > 0 {
		return dossier{}, errPacked
	}
	if d.number != "" {
		if _, err := purse.ParseNumber(string(d.number)); err != nil {
			return dossier{}, errPacked
		}
	}
	return d, nil
}
