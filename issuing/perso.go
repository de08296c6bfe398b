package issuing

import (
	"encoding/binary"
	"fmt"

	"koala/hsm"
	"koala/internal/fail"
	"koala/spec/globalplatform"
	"koala/spec/purse"
)

// ErrPersonalisation says that stored personalisation data cannot be read.
var ErrPersonalisation = fail.Define(fail.Broken, "issuing.personalisation", "the stored personalisation data of a card is damaged")

// A Personalisation is everything one element is personalised with, but for
// key values: those never leave the hsm. It is kept sealed, because a bank
// card's records carry its PAN, and before the first command goes out, so that
// every session writes the same card.
type Personalisation struct {
	LoadFile, Module, Instance globalplatform.AID
	Card                       CardID               // empty for a SAM
	Privileges                 byte                 // of the instance, first byte (GPCS 2.3.1, table 6-1)
	Install                    []byte               // application specific parameters, tag C9 of INSTALL
	Groups                     []globalplatform.DGI // files first
	Keys                       []hsm.KeyRef
}

// The stored forms: 1 had purse keys only.
const (
	persoPurses  = 1
	persoVersion = 2
	maxGroups    = 128
)

// TransitPersonalisation is that of a T-Union purse: files 15 and 17, the rail record of file 1A, limits, and its
// four keys, each dispersed by its number.
func TransitPersonalisation(c Card, p Product) Personalisation {
	limits := purse.Limits{MaxBalance: uint32(p.MaxBalance.Minor())}
	key := func(i uint16, k purse.KeyKind, label string) hsm.KeyRef {
		return hsm.KeyRef{DGI: purse.DGIKeyFirst + i, Form: hsm.PurseKey, Kind: k, Index: 1, Label: label, Card: string(c.ID)}
	}
	return Personalisation{
		LoadFile: globalplatform.AID(p.Package), Module: globalplatform.AID(p.Module), Instance: globalplatform.AID(p.Instance),
		Card: c.ID,
		Groups: []globalplatform.DGI{
			{ID: purse.DGIPublic, Data: FileOf(c, p).Bytes()},
			{ID: purse.DGIRegion, Data: RegionOf(p).Bytes()},
			{ID: purse.DGITransit, Data: purse.NewTransit(c.ID.Purse()).Bytes()},
			{ID: purse.DGILimits, Data: limits.Bytes()},
		},
		Keys: []hsm.KeyRef{
			key(0, purse.DPK, hsm.LabelDPK), key(1, purse.DLK, hsm.LabelDLK),
			key(2, purse.DTK, hsm.LabelDTK), key(3, purse.DAMK, hsm.LabelDAMK),
		},
	}
}

// Bytes writes the value for sealing: version 2 | AIDs and card | privileges |
// install parameters | groups | keys, each part behind its length as a varint.
func (p Personalisation) Bytes() []byte {
	b := []byte{persoVersion}
	for _, s := range []string{string(p.LoadFile), string(p.Module), string(p.Instance), string(p.Card)} {
		b = appendPart(b, []byte(s))
	}
	b = appendPart(append(b, p.Privileges), p.Install)
	b = binary.AppendUvarint(b, uint64(len(p.Groups)))
	for _, g := range p.Groups {
		b = appendPart(binary.BigEndian.AppendUint16(b, g.ID), g.Data)
	}
	b = binary.AppendUvarint(b, uint64(len(p.Keys)))
	for _, k := range p.Keys {
		b = append(binary.BigEndian.AppendUint16(b, k.DGI), byte(k.Form), byte(k.Kind), k.Index)
		b = appendPart(appendPart(appendPart(b, []byte(k.Label)), []byte(k.Card)), k.Data)
	}
	return b
}

// ParsePersonalisation reads what Bytes wrote, and the form before it.
func ParsePersonalisation(b []byte) (p Personalisation, err error) {
	if len(b) == 0 || b[0] != persoVersion && b[0] != persoPurses {
		return p, fmt.Errorf("%w: no version", ErrPersonalisation)
	}
	old := b[0] == persoPurses
	r := &reader{b: b[1:]}
	p.LoadFile, p.Module, p.Instance = globalplatform.AID(r.part()), globalplatform.AID(r.part()), globalplatform.AID(r.part())
	p.Card = CardID(r.part())
	if !old {
		p.Privileges = r.byte()
		if p.Install = r.part(); len(p.Install) == 0 {
			p.Install = nil
		}
	}
	for range r.number(maxGroups) {
		if id := r.take(2); id != nil {
			p.Groups = append(p.Groups, globalplatform.DGI{ID: binary.BigEndian.Uint16(id), Data: r.part()})
		}
	}
	for range r.number(maxGroups) {
		p.Keys = append(p.Keys, r.key(old, p.Card))
	}
	if r.bad || len(r.b) > 0 {
		return Personalisation{}, ErrPersonalisation
	}
	return p, nil
}

func (r *reader) key(old bool, card CardID) (k hsm.KeyRef) {
	if old {
		if head := r.take(3); head != nil {
			k = hsm.KeyRef{DGI: binary.BigEndian.Uint16(head), Kind: purse.KeyKind(head[2]), Index: 1, Label: string(r.part()), Card: string(card)}
		}
		return k
	}
	if head := r.take(5); head != nil {
		k = hsm.KeyRef{DGI: binary.BigEndian.Uint16(head), Form: hsm.Form(head[2]), Kind: purse.KeyKind(head[3]), Index: head[4]}
		k.Label, k.Card = string(r.part()), string(r.part())
		if k.Data = r.part(); len(k.Data) == 0 {
			k.Data = nil
		}
	}
	return k
}

func appendPart(b, part []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}

// A reader is a cursor over a stored form; the first failure sticks.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) number(limit int) int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > uint64(limit) || n > 1 && r.b[n-1] == 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

func (r *reader) take(n int) []byte {
	if r.bad || len(r.b) < n {
		r.bad = true
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) part() []byte { return r.take(r.number(1 << 16)) }
