package qpboc

import (
	"koala/card"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
)

// Status words of the extended application beside those of ISO 7816 (CARD 1.12).
const (
	swHolds  iso7816.SW = 0x6971 // no room for another pre-authorisation
	swHeld   iso7816.SW = 0x6972 // the record has a pre-authorisation already
	swNoHold iso7816.SW = 0x6973 // nothing to complete
)

// cacheSize bounds what UPDATE CAPP DATA CACHE may hold before one commit, in
// bytes of records, and cacheCount their number.
const (
	cacheSize  = 768
	cacheCount = 4
)

// An industryRecord is a record as READ CAPP DATA names it; sfi 0 is none.
type industryRecord struct {
	sfi byte
	id  pboc.IndustryID
}

// A cache is the volatile state of the extended application.
type cache struct {
	open, next bool // UPDATE CAPP DATA CACHE is allowed in this command, in the next
	read       industryRecord
	slot       int      // of read
	proof      bool     // R-MAC mode: the last read asked for a proof
	records    []cached // wait for the last record
	size       int
	full       bool // a record found no room: nothing may be committed
}

// A cached record goes into its file with the money.
type cached struct {
	file industry
	slot int // 0: the newest record of a cyclic file
	id   industryRecord
	data []byte
}

// complete tells whether the commit may go on: a cached update hits the record last
// read, which for a pre-authorisation is the one GPO was about.
func (c *cache) complete(holder industryRecord) bool {
	if c.full || c.read.sfi == 0 || holder.sfi != 0 && holder != c.read {
		return false
	}
	for _, r := range c.records {
		if r.id == c.read {
			return true
		}
	}
	return false
}

// An industry is a record file of DGI A001. A variable file is slots of record key
// 16 | length 1 | record, a cyclic one newest slot 1 | count 1 and slots of length 1
// | record.
type industry struct {
	pboc.File
	cells card.Region
}

// industryTag is the tag of a file's region: a group number no record has.
func industryTag(sfi byte) uint16 { return uint16(sfi) << 8 }

// industryFile finds a file and its opening key.
func industryFile(s *card.Session, sfi byte) (f industry, ok bool) {
	files, err := pboc.ParseFiles(blob(s, pboc.DGIFiles))
	if err != nil {
		return industry{}, false
	}
	keys := blob(s, pboc.DGIOpenKeys)
	for i, x := range files {
		if x.SFI != sfi || len(keys) < (i+1)*keyLen {
			continue
		}
		x.Key = [16]byte(keys[i*keyLen:])
		f = industry{x, s.Region(industryTag(sfi))}
		return f, f.cells.Present()
	}
	return industry{}, false
}

func (f industry) slotSize() int {
	if f.Kind == pboc.Cyclic {
		return 1 + int(f.MaxRecord)
	}
	return keyLen + 1 + int(f.MaxRecord)
}

func (f industry) regionSize() int {
	n := f.Records() * f.slotSize()
	if f.Kind == pboc.Cyclic {
		n += cyclicHead
	}
	return n
}

// at is the offset of record i, 1 the first or newest; ok is false beyond the end.
func (f industry) at(i int) (at int, ok bool) {
	if i < 1 || i > f.Records() {
		return 0, false
	}
	if f.Kind == pboc.Variable {
		return (i - 1) * f.slotSize(), true
	}
	b := f.cells.Bytes()
	if i > int(b[1]) {
		return 0, false
	}
	slot := (int(b[0]) - (i - 1) + f.Records()) % f.Records()
	return cyclicHead + slot*f.slotSize(), true
}

// record gives record i; empty for an empty place.
func (f industry) record(i int) []byte {
	at, ok := f.at(i)
	if !ok {
		return nil
	}
	if f.Kind == pboc.Variable {
		at += keyLen
	}
	b := f.cells.Bytes()[at:]
	return b[1 : 1+int(b[0])]
}

// key is the key of record i: its own, or the opening key of a cyclic file.
func (f industry) key(i int) [keyLen]byte {
	at, ok := f.at(i)
	if !ok || f.Kind == pboc.Cyclic {
		return f.Key
	}
	return [keyLen]byte(f.cells.Bytes()[at:])
}

// find gives the first record with the identifier behind record after; 0 none.
func (f industry) find(id pboc.IndustryID, after int) int {
	for i := after + 1; i <= f.Records(); i++ {
		if r := f.record(i); len(r) >= len(id) && pboc.IndustryID(r) == id {
			return i
		}
	}
	return 0
}

// write puts data into slot i of a variable file, its key beside it staying, or as
// the newest record into a cyclic one.
func (f industry) write(i int, data []byte) {
	rec := append([]byte{byte(len(data))}, data...)
	if f.Kind == pboc.Variable {
		f.cells.Write((i-1)*f.slotSize()+keyLen, rec)
		return
	}
	b := f.cells.Bytes()
	slot, n := 0, int(b[1])
	if n > 0 {
		slot = (int(b[0]) + 1) % f.Records()
	}
	f.cells.Write(cyclicHead+slot*f.slotSize(), rec)
	f.cells.Write(0, []byte{byte(slot), byte(min(n+1, f.Records()))})
}

// open puts a new record with its key into the first empty slot.
func (f industry) openRecord(key []byte, data []byte) bool {
	for i := 1; i <= f.Records(); i++ {
		if len(f.record(i)) == 0 {
			f.cells.Write((i-1)*f.slotSize(), key)
			f.write(i, data)
			return true
		}
	}
	return false
}

// readIndustryRecord is READ RECORD of an industry file with free reading.
func (a *applet) readIndustryRecord(s *card.Session, sfi byte, c iso7816.Command) iso7816.Response {
	f, ok := industryFile(s, sfi)
	switch {
	case !ok:
		return fails(iso7816.SWRecordNotFound)
	case f.Read != pboc.Free:
		return fails(iso7816.SWSecurity)
	}
	return found(c, f.record(int(c.P1)))
}

// readCAPP is READ CAPP DATA: it also names the record that the commit is about.
func (a *applet) readCAPP(s *card.Session, c iso7816.Command) iso7816.Response {
	x, err := pboc.ParseReadCAPP(c)
	switch {
	case err != nil && (c.P1 != 0 || c.P2&0x06 != 0):
		return fails(iso7816.SWP1P2)
	case err != nil, x.Random != nil && !a.proves():
		return fails(iso7816.SWLength)
	}
	f, ok := industryFile(s, x.SFI)
	if !ok {
		return fails(iso7816.SWFileNotFound)
	}
	if f.Read == pboc.Never {
		return fails(iso7816.SWSecurity)
	}
	id := industryRecord{x.SFI, x.ID}
	after := 0
	if x.Next && a.capp.read == id {
		after = a.capp.slot
	}
	i := f.find(x.ID, after)
	if i == 0 {
		return fails(iso7816.SWRecordNotFound)
	}
	out := append(make([]byte, 0, 256), f.record(i)...)
	if x.Random != nil {
		mac := pboc.NewKey(a.algorithm(), f.key(i)).ReadMAC(*x.Random, out)
		out = append(out, mac[:]...)
	}
	r := shortened(c, out)
	if r.SW.OK() {
		a.capp.read, a.capp.slot, a.capp.proof = id, i, x.Random != nil
	}
	return r
}

// proves tells whether the card proves answers of the extended application.
func (a *applet) proves() bool { return a.supports(pboc.SupportRMAC) }

// updateCAPP is UPDATE CAPP DATA CACHE: directly after GPO or another of its kind.
// A record that finds no room spoils the whole transaction.
func (a *applet) updateCAPP(s *card.Session, c iso7816.Command) iso7816.Response {
	if !a.capp.open || !a.tx.pending {
		return fails(iso7816.SWConditions)
	}
	a.capp.next = true
	r, key, sw := a.cachedRecord(s, c)
	if sw != iso7816.OK {
		return fails(sw)
	}
	if len(a.capp.records) == cacheCount || a.capp.size+len(r.data) > cacheSize {
		a.capp.full = true
		return fails(iso7816.SWMemory)
	}
	a.capp.records = append(a.capp.records, r)
	a.capp.size += len(r.data)
	if !a.capp.proof {
		return answer(nil)
	}
	proof := key.UpdateProof([4]byte(c.Data[len(c.Data)-4:]))
	return answer(proof[:])
}

// cachedRecord checks an update against the record it replaces.
func (a *applet) cachedRecord(s *card.Session, c iso7816.Command) (r cached, key *pboc.Key, sw iso7816.SW) {
	n := len(c.Data) - 4
	switch {
	case c.P1 != 0 || c.P2&0x07 != 0:
		return r, nil, iso7816.SWP1P2
	case n < 2 || len(c.Data) > iso7816.MaxShortData:
		return r, nil, iso7816.SWLength
	}
	f, ok := industryFile(s, c.P2>>3)
	if !ok {
		return r, nil, iso7816.SWFileNotFound
	}
	if f.Write == pboc.Never {
		return r, nil, iso7816.SWSecurity
	}
	r = cached{file: f, id: industryRecord{f.SFI, pboc.IndustryID(c.Data)}}
	size := int(f.MaxRecord)
	if f.Kind == pboc.Variable {
		if r.slot = a.capp.slot; a.capp.read != r.id {
			r.slot = f.find(r.id.id, 0)
		}
		if r.slot == 0 {
			return r, nil, iso7816.SWRecordNotFound
		}
		size = len(f.record(r.slot))
	}
	switch {
	case n > size:
		return r, nil, iso7816.SWNoSpace
	case n < size:
		return r, nil, iso7816.SWData
	}
	key = pboc.NewKey(a.algorithm(), f.key(r.slot))
	data, err := key.OpenCAPP(c, a.atc())
	if err != nil {
		return r, nil, iso7816.SWSecureWrong
	}
	r.data = append([]byte(nil), data...)
	return r, key, iso7816.OK
}

// checkHold refuses a pre-authorisation or a completion before the card decides.
func (a *applet) checkHold() iso7816.SW {
	t := &a.tx
	_, held := a.findHold(t.holder.sfi, t.holder.id)
	held = held && t.holder.sfi != 0
	switch t.charge.mode {
	case pboc.ModeHold:
		if held {
			return swHeld
		}
		if _, room := a.findHold(0, pboc.IndustryID{}); !room {
			return swHolds
		}
	case pboc.ModeComplete:
		if !held {
			return swNoHold
		}
	default:
		t.holder = industryRecord{}
	}
	return iso7816.OK
}

// commitCAPP writes what the extended application adds to the unit of the last
// record. A pre-authorisation proves nothing yet: its certificate is zeros.
func (a *applet) commitCAPP(s *card.Session) {
	t := &a.tx
	for _, r := range a.capp.records {
		r.file.write(r.slot, r.data)
	}
	proof := append(append(make([]byte, 0, 2+proofLen), a.cells.Bytes()[atATC:atATC+2]...), t.ac[:]...)
	switch t.charge.mode {
	case pboc.ModeHold:
		i, _ := a.findHold(0, pboc.IndustryID{})
		a.setHold(i, hold{a.capp.read.sfi, a.capp.read.id, t.charge.amount})
		clear(proof[2:])
	case pboc.ModeComplete:
		i, _ := a.findHold(t.holder.sfi, t.holder.id)
		a.setHold(i, hold{})
	}
	a.cells.Write(atProof, proof)
	a.capp.records, a.capp.size = nil, 0
}

// prove is GET TRANS PROVE.
func (a *applet) prove(c iso7816.Command) iso7816.Response {
	switch {
	case c.P1 != 0 || c.P2 != 0:
		return fails(iso7816.SWP1P2)
	case len(c.Data) != 2:
		return fails(iso7816.SWLength)
	}
	b := a.cells.Bytes()[atProof : atProof+2+proofLen]
	if b[0]|b[1] == 0 || string(b[:2]) != string(c.Data) {
		return fails(iso7816.SWPurseProve)
	}
	return shortened(c, append([]byte(nil), b[2:]...))
}

// appendRecord is APPEND RECORD: it opens a record with a key of its own, proved by
// the file's opening key and the transaction counter. The identifier must be new,
// so the same command cannot work twice.
func (a *applet) appendRecord(s *card.Session, c iso7816.Command) iso7816.Response {
	switch {
	case c.P1 != 0 || c.P2&0x07 != 0:
		return fails(iso7816.SWP1P2)
	case a.byteAt(atMACFails) >= maxFails:
		return fails(iso7816.SWConditions)
	}
	f, ok := industryFile(s, c.P2>>3)
	switch {
	case !ok:
		return fails(iso7816.SWFileNotFound)
	case f.Kind != pboc.Variable:
		return fails(iso7816.SWFileType)
	case f.Write != pboc.Free:
		return fails(iso7816.SWSecurity)
	}
	opening := pboc.NewKey(a.algorithm(), f.Key)
	data, err := opening.OpenCAPP(c, a.atc())
	if err != nil {
		a.count(atMACFails)
		return fails(iso7816.SWSecureWrong)
	}
	a.clear(atMACFails)
	if len(data) < keyLen+2 {
		return fails(iso7816.SWLength)
	}
	key, err := opening.Decrypt(data[:keyLen])
	rec := data[keyLen:]
	switch {
	case err != nil, f.find(pboc.IndustryID(rec), 0) != 0:
		return fails(iso7816.SWData)
	case len(rec) > int(f.MaxRecord), !f.openRecord(key, rec):
		return fails(iso7816.SWNoSpace)
	}
	return answer(nil)
}

// supports tells whether DF61 has the bits.
func (a *applet) supports(bits byte) bool {
	v := a.object(emv.TagCAPPCard)
	return len(v) == 1 && v[0]&bits == bits
}
