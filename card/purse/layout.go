package purse

import (
	"koala/card"
	"koala/spec/purse"
)

// One region holds the whole purse, so that a debit touches few pages.
const (
	regionTag = 1

	atBlock  = 0 // open, blocked, blockedForEver
	atFiles  = 1 // which files have been personalised, bits file…
	atLog    = 2 // cyclic file 18: newest slot, number of records
	atTrip   = 4 // cyclic file 1E: the same
	atMax    = 6 // highest own money after a load, fen, 4
	atPIN    = 10
	atPurses = 20 // two purses of purseSize: ED, EP
	atProofs = 64 // proofCount proofs of proofSize

	atKeys    = atProofs + proofCount*proofSize
	atPublic  = atKeys + keyCount*keySize
	atHolder  = atPublic + purse.File15Len
	atRegion  = atHolder + holderLen
	atBeijing = atRegion + purse.File17Len
	atLogs    = atBeijing + purse.BeijingFileLen
	atLocal   = atLogs + purse.LogCount*purse.LogLen
	atTransit = atLocal + localCount*(1+localLen)
	atTrips   = atTransit + transitCount*(1+purse.TransitLen)
	sizeAll   = atTrips + purse.TripCount*purse.TripLen
)

// Life of the application.
const (
	blocked        = 0x01
	blockedForEver = 0x02
)

// Bits of atFiles.
const (
	filePublic byte = 1 << iota
	fileHolder
	fileRegion
	fileBeijing
)

const (
	holderLen    = 55 // file 16 (JR/T 0025.1: type, flags, name 20, document 32, kind)
	localCount   = 4  // records of file 19
	localLen     = 64
	transitCount = 3 // records of file 1A
)

func (a *applet) has(file byte) bool { return a.cells.Bytes()[atFiles]&file != 0 }

// A side is one of the two purses. have is all that can be spent: own money and
// what is left of the overdraft.
type side struct {
	have            uint32
	limit           uint32 // overdraft, 3 bytes
	online, offline uint16 // sequences the next load and purchase will carry
}

const purseSize = 11

func sideAt(p purse.Purse) int { return atPurses + int(p-purse.ED)*purseSize }

func (a *applet) side(p purse.Purse) side {
	c := a.cells
	at := sideAt(p)
	return side{
		have: c.Uint32(at), limit: c.Uint32(at+4) >> 8,
		online: c.Uint16(at + 7), offline: c.Uint16(at + 9),
	}
}

func (a *applet) setSide(p purse.Purse, x side) {
	a.cells.Write(sideAt(p), []byte{
		byte(x.have >> 24), byte(x.have >> 16), byte(x.have >> 8), byte(x.have),
		byte(x.limit >> 16), byte(x.limit >> 8), byte(x.limit),
		byte(x.online >> 8), byte(x.online), byte(x.offline >> 8), byte(x.offline),
	})
}

// own is the holder's own money, used what she owes of the overdraft.
func (x side) own() uint32  { return x.have - min(x.have, x.limit) }
func (x side) used() uint32 { return x.limit - min(x.have, x.limit) }

// A key stands as kind 1 | index 1 | version 1 | algorithm 1 | tries 1 | key 16;
// kind 00 is an empty place.
const (
	keyCount = 12
	keySize  = 21
	keyTries = 4 // offset of the tries
	keyValue = 5 // offset of the value
)

// A keyAt is the offset of a key record; 0 is no key.
type keyAt int

// key finds the key of a kind by index.
func (a *applet) key(kind purse.KeyKind, index byte) keyAt {
	c := a.cells.Bytes()
	for i := range keyCount {
		at := atKeys + i*keySize
		if c[at] == byte(kind) && c[at+1] == index {
			return keyAt(at)
		}
	}
	return 0
}

// firstKey finds the key of a kind, whatever its index: DTK and DAMK are not
// chosen by a command.
func (a *applet) firstKey(kind purse.KeyKind) keyAt {
	c := a.cells.Bytes()
	for at := atKeys; at < atKeys+keyCount*keySize; at += keySize {
		if c[at] == byte(kind) {
			return keyAt(at)
		}
	}
	return 0
}

func (a *applet) value(k keyAt) [16]byte { return [16]byte(a.cells.Bytes()[int(k)+keyValue:]) }

func (a *applet) version(k keyAt) (version, alg byte) {
	c := a.cells.Bytes()
	return c[k+2], c[k+3]
}

func (a *applet) locked(k keyAt) bool { return a.cells.Bytes()[k+keyTries] == 0 }

// wrong counts one failed MAC under the key, right resets the count.
func (a *applet) wrong(k keyAt) {
	if n := a.cells.Bytes()[k+keyTries]; n > 0 {
		a.cells.Write(int(k)+keyTries, []byte{n - 1})
	}
}

func (a *applet) right(k keyAt) { a.cells.Write(int(k)+keyTries, []byte{KeyTries}) }

// A proof keeps MAC2 and TAC of the last transaction of a type until the next
// one of that type: sequence after the transaction 2 | MAC2 4 | TAC 4.
const (
	proofSize  = 10
	proofCount = 5
)

func proofAt(t purse.Type) (at int, ok bool) {
	switch t {
	case purse.CAPP:
		return atProofs, true
	case purse.PurchaseEP:
		return atProofs + proofSize, true
	case purse.LoadEP:
		return atProofs + 2*proofSize, true
	case purse.PurchaseED:
		return atProofs + 3*proofSize, true
	case purse.LoadED:
		return atProofs + 4*proofSize, true
	}
	return 0, false
}

func (a *applet) keepProof(t purse.Type, after uint16, p purse.ProveAnswer) {
	at, _ := proofAt(t)
	b := append(make([]byte, 0, proofSize), byte(after>>8), byte(after))
	a.cells.Write(at, append(append(b, p.MAC2[:]...), p.TAC[:]...))
}

// A cyclic file keeps its newest slot and the number of records at head.
type cyclic struct{ head, at, size, count int }

var (
	logFile  = cyclic{atLog, atLogs, purse.LogLen, purse.LogCount}
	tripFile = cyclic{atTrip, atTrips, purse.TripLen, purse.TripCount}
)

// add writes rec as record 1 over the oldest.
func (f cyclic) add(c card.Region, rec []byte) {
	newest, n := int(c.Bytes()[f.head]), int(c.Bytes()[f.head+1])
	slot := 0
	if n > 0 {
		slot = (newest + 1) % f.count
	}
	c.Write(f.at+slot*f.size, rec)
	c.Write(f.head, []byte{byte(slot), byte(min(n+1, f.count))})
}

// record gives record i, 1 the newest; nothing for an empty slot.
func (f cyclic) record(c card.Region, i int) []byte {
	newest, n := int(c.Bytes()[f.head]), int(c.Bytes()[f.head+1])
	if i < 1 || i > n {
		return nil
	}
	slot := (newest - (i - 1) + f.count) % f.count
	return c.Bytes()[f.at+slot*f.size:][:f.size]
}

// A linear file is a run of slots, each length 1 and up to size bytes. Records
// are found by number or by the first byte of their identifier.
type linear struct{ at, size, count int }

var (
	localFile   = linear{atLocal, localLen, localCount}
	transitFile = linear{atTransit, purse.TransitLen, transitCount}
)

func (f linear) slot(i int) int { return f.at + (i-1)*(1+f.size) }

func (f linear) record(c card.Region, i int) []byte {
	if i < 1 || i > f.count {
		return nil
	}
	b := c.Bytes()[f.slot(i):]
	return b[1 : 1+int(b[0])]
}

// find gives the number of the record whose identifier begins with id; 0 none.
func (f linear) find(c card.Region, id byte) int {
	for i := 1; i <= f.count; i++ {
		if r := f.record(c, i); len(r) > 0 && r[0] == id {
			return i
		}
	}
	return 0
}

func (f linear) write(c card.Region, i int, rec []byte) {
	c.Write(f.slot(i), []byte{byte(len(rec))})
	c.Write(f.slot(i)+1, rec)
}
