package isd

import (
	"cmp"
	"slices"

	"koala/card"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
)

// Layout of the key region: slots of version 1 | identifier 1 | type 1 |
// length 1 | key 32 | sequence counter 4, the last only with ENC keys. Version 0
// is an empty slot.
const (
	keysTag  = 1
	keySlots = 24
	slotSize = 40

	atKey      = 4
	atSequence = 36
)

// A slot is one key.
type slot struct {
	version, id byte
	kind        gp.KeyType
	key         []byte
	sequence    uint32
}

// A keySet is the three keys of a secure channel with their counter.
type keySet struct {
	gp.KeySet
	kind     gp.KeyType
	sequence uint32
}

// table is the key region of one domain.
type table struct{ g card.Region }

func tableOf(s *card.Session) table { return table{s.Region(keysTag)} }

func (t table) get(i int) slot {
	c := t.g.Bytes()[i*slotSize : (i+1)*slotSize]
	n := min(int(c[3]), atSequence-atKey)
	return slot{version: c[0], id: c[1], kind: gp.KeyType(c[2]), key: c[atKey : atKey+n], sequence: t.g.Uint32(i*slotSize + atSequence)}
}

// put writes a slot; the zero slot empties it, key and all.
func (t table) put(i int, k slot) {
	c := make([]byte, slotSize)
	c[0], c[1], c[2], c[3] = k.version, k.id, byte(k.kind), byte(len(k.key))
	copy(c[atKey:], k.key)
	t.g.Write(i*slotSize, c)
	t.g.WriteUint32(i*slotSize+atSequence, k.sequence)
}

// find gives the slot of a key; version 0 finds an empty one.
func (t table) find(version, id byte) (int, bool) {
	if !t.g.Present() {
		return 0, false
	}
	for i := range keySlots {
		if k := t.get(i); k.version == version && (version == 0 || k.id == id) {
			return i, true
		}
	}
	return 0, false
}

// versions lists the key versions, lowest first.
func (t table) versions() (list []byte) {
	if !t.g.Present() {
		return nil
	}
	for i := range keySlots {
		if v := t.get(i).version; v != 0 && !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	slices.Sort(list)
	return list
}

// set finds the complete set with that version, or with 0 the lowest there is.
// The keys are copies: a session outlives a change of its set.
func (t table) set(version byte) (keySet, bool) {
	for _, v := range t.versions() {
		if version != 0 && v != version {
			continue
		}
		if k, ok := t.complete(v); ok {
			return k, true
		}
	}
	return keySet{}, false
}

func (t table) complete(version byte) (keySet, bool) {
	var three [3]slot
	for i := range three {
		n, ok := t.find(version, byte(i+1))
		if !ok {
			return keySet{}, false
		}
		three[i] = t.get(n)
	}
	k := keySet{kind: three[0].kind, sequence: three[0].sequence, KeySet: gp.KeySet{Version: version,
		ENC: slices.Clone(three[0].key), MAC: slices.Clone(three[1].key), DEK: slices.Clone(three[2].key)}}
	same := three[1].kind == k.kind && three[2].kind == k.kind
	return k, same && k.Fits(k.kind)
}

// count moves the sequence counter of a set.
func (t table) count(version byte, sequence uint32) {
	if i, ok := t.find(version, gp.KeyENC); ok {
		t.g.WriteUint32(i*slotSize+atSequence, sequence)
	}
}

// drop empties the slots of a version; id 0 means all of them.
func (t table) drop(version, id byte) (n int) {
	if !t.g.Present() {
		return 0
	}
	for i := range keySlots {
		if k := t.get(i); k.version != 0 && (version == 0 || k.version == version) && (id == 0 || k.id == id) {
			t.put(i, slot{})
			n++
		}
	}
	return n
}

// info describes the keys for the key information template.
func (t table) info() (list []gp.KeyInfo) {
	if !t.g.Present() {
		return nil
	}
	for i := range keySlots {
		if k := t.get(i); k.version != 0 {
			list = append(list, gp.KeyInfo{ID: k.id, Version: k.version, Type: k.kind, Length: byte(len(k.key))})
		}
	}
	slices.SortFunc(list, func(a, b gp.KeyInfo) int {
		return cmp.Or(cmp.Compare(a.Version, b.Version), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// putKey adds keys or replaces some (GPCS 11.8). The first complete set that is
// added takes the place of the factory's. The new keys are in use from the next
// INITIALIZE UPDATE on, with their counter at zero.
func (d *domain) putKey(s *card.Session, c iso7816.Command) iso7816.Response {
	p, err := gp.ParsePutKey(c)
	if err != nil || p.NewVersion == 0 || p.NewVersion > 0x7F {
		return status(iso7816.SWData)
	}
	if p.Keys[0].Type.Public() {
		if sw := putTokenKey(s, p); !sw.OK() {
			return status(sw)
		}
		return answer(gp.PutKeyAnswer(p.NewVersion))
	}
	t := tableOf(s)
	if t.firstOwn(p) {
		p.Replaces = 0
	}
	var checks [][3]byte
	for i, f := range p.Keys {
		key, err := f.Open(d.channel.DecryptKey)
		if err != nil || f.Type.Public() {
			return status(iso7816.SWData)
		}
		checks = append(checks, f.Type.Check(key))
		k := slot{version: p.NewVersion, id: p.First + byte(i), kind: f.Type, key: key}
		if sw := t.change(p.Replaces, k); !sw.OK() {
			return status(sw)
		}
	}
	if p.Replaces == 0 && p.First == gp.KeyENC && len(p.Keys) >= 3 {
		t.drop(gp.FactoryVersion, 0)
	}
	if k, ok := t.complete(p.NewVersion); !ok && k.Version != 0 {
		return status(iso7816.SWData) // ENC, MAC and DEK of different algorithms
	}
	if _, ok := t.set(0); !ok && d.issuer(s) {
		return status(iso7816.SWConditions) // the last usable set would be torn apart
	}
	return answer(gp.PutKeyAnswer(p.NewVersion, checks...))
}

// firstOwn says that a set names itself as the one it replaces while there is
// none but the factory's: so a public tool writes the first set of a card unless
// it is told better.
func (t table) firstOwn(p gp.PutKey) bool {
	_, factory := t.complete(gp.FactoryVersion)
	_, there := t.find(p.Replaces, p.First)
	return factory && !there && p.Replaces == p.NewVersion && p.First == gp.KeyENC && len(p.Keys) >= 3
}

// change writes one key into a free slot, or over the key of version replaces.
func (t table) change(replaces byte, k slot) iso7816.SW {
	_, taken := t.find(k.version, k.id)
	if taken && replaces != k.version {
		return iso7816.SWData
	}
	i, ok := t.find(replaces, k.id)
	switch {
	case ok:
		t.put(i, k)
		return iso7816.OK
	case replaces == 0:
		return iso7816.SWNoSpace
	}
	return iso7816.SWReferenceNotFound
}

// deleteKeys empties slots, but leaves the issuer's domain a set to be managed
// with (GPCS 11.2.2.3.2).
func (d *domain) deleteKeys(s *card.Session, version, id byte) iso7816.Response {
	t := tableOf(s)
	dropped := dropTokenKey(s, version, id)
	if t.drop(version, id) == 0 && !dropped {
		return status(iso7816.SWReferenceNotFound)
	}
	if _, ok := t.set(0); !ok && d.issuer(s) {
		return status(iso7816.SWConditions)
	}
	return confirmed()
}

func (d *domain) issuer(s *card.Session) bool {
	x, _ := s.Registry().Entry(s.Self)
	return x.Kind == card.Domain
}
