package qpboc

import (
	"encoding/binary"

	"koala/card"
	"koala/spec/iso7816"
	"koala/spec/pboc"
)

// One region holds what changes in a transaction. Everything else that a card is
// given is a region of its own whose tag is the group's identifier.
const (
	stateTag = 1

	atLife       = 0  // one of the lives below
	atGiven      = 1  // which groups have come, bits given…, 2
	atATC        = 3  // 2
	atTries      = 5  // PIN: tries left, tries, block 8
	atFlags      = 15 // indicators of the last transaction, bits last…
	atScripts    = 16 // script commands since the last online transaction
	atAuthFails  = 17 // EXTERNAL AUTHENTICATE failed in a row
	atMACFails   = 18 // script MACs wrong in a row
	atIAD        = 19 // key index, cryptogram version, algorithm, report
	atKeys       = 23 // AC, MAC, ENC
	atTotal      = 71 // cumulative total of offline transactions, n12
	atOffline    = 77 // consecutive offline transactions
	atForeign    = 78 // the same in other currencies
	atProof      = 79 // last transaction of the extended application: ATC 2, TC 8
	atHolds      = 89 // pre-authorisations
	atLog        = atHolds + holdCount*holdSize
	atLoadLog    = atLog + cyclicHead
	atBackup     = atLoadLog + cyclicHead // last record of the last approval: SFI, number, length 2, answer
	atObjects    = atBackup + backupHead + backupLen
	backupHead   = 4
	backupLen    = 256
	keyLen       = 16
	maxFails     = 100 // in a row, then never again
	proofLen     = 8
	pinBlockLen  = 8
	atTryLimit   = atTries + 1
	atPIN        = atTries + 2
	offsetACKey  = atKeys
	offsetMACKey = atKeys + keyLen
	offsetENCKey = atKeys + 2*keyLen
)

// Life of the application.
const (
	blocked        = 0x01
	blockedForEver = 0x02
)

// Bits of atGiven.
const (
	givenKeys uint16 = 1 << iota
	givenApplication
	givenFCI
	givenContactFCI
	givenOptions
	givenContact
	givenECash
	givenPIN
	givenSM
)

// Bits of atFlags, which become bits of the next CVR.
const (
	lastOnlineOpen byte = 1 << iota
	lastAuthFailed
	lastNoAuth
	lastScriptFailed
	lastPINBlocked
)

func (a *applet) byteAt(at int) byte        { return a.cells.Bytes()[at] }
func (a *applet) setByte(at int, v byte)    { a.cells.Write(at, []byte{v}) }
func (a *applet) given(bits uint16) bool    { return a.cells.Uint16(atGiven)&bits == bits }
func (a *applet) flag(bit byte) bool        { return a.byteAt(atFlags)&bit != 0 }
func (a *applet) keyAt(at int) [keyLen]byte { return [keyLen]byte(a.cells.Bytes()[at:]) }
func (a *applet) atc() uint16               { return a.cells.Uint16(atATC) }
func (a *applet) algorithm() pboc.Algorithm { return pboc.Algorithm(a.byteAt(atIAD + 2)) }
func (a *applet) session(key int) *pboc.Key {
	return pboc.NewKey(a.algorithm(), a.keyAt(key)).Session(a.atc())
}
func (a *applet) give(bit uint16)            { a.cells.WriteUint16(atGiven, a.cells.Uint16(atGiven)|bit) }
func (a *applet) amount(at int) uint64       { return amountOf(a.cells.Bytes()[at : at+6]) }
func (a *applet) setAmount(at int, v uint64) { b := pboc.Amount(v); a.cells.Write(at, b[:]) }

// amountOf reads n12 that was checked when it was written.
func amountOf(b []byte) uint64 {
	fen, err := pboc.ParseAmount(b)
	if err != nil {
		panic("qpboc: " + err.Error())
	}
	return fen
}

// setFlag sets or clears an indicator, writing only what changes.
func (a *applet) setFlag(bit byte, on bool) {
	if a.flag(bit) != on {
		a.setByte(atFlags, a.byteAt(atFlags)^bit)
	}
}

// count adds one to a counter of one byte, which stays at its end.
func (a *applet) count(at int) {
	if n := a.byteAt(at); n < 0xFF {
		a.setByte(at, n+1)
	}
}

func (a *applet) clear(at int) {
	if a.byteAt(at) != 0 {
		a.setByte(at, 0)
	}
}

// A blob is a region that begins with the length of what it holds.
const blobHead = 2

// blob gives a group's data as they stand in memory; nil when it never came.
func blob(s *card.Session, tag uint16) []byte {
	b := s.Region(tag).Bytes()
	if len(b) < blobHead {
		return nil
	}
	return b[blobHead : blobHead+int(binary.BigEndian.Uint16(b))]
}

// storeBlob writes a group's data. The room is that of the first time, rounded
// up, so that an issue can start over with data a little longer.
func storeBlob(s *card.Session, tag uint16, data []byte) iso7816.SW {
	r := s.Region(tag)
	if !r.Present() {
		var err error
		if r, err = s.Allocate(tag, (blobHead+len(data)+15)/16*16); err != nil {
			return iso7816.SWNoSpace
		}
	}
	if blobHead+len(data) > len(r.Bytes()) {
		return iso7816.SWNoSpace
	}
	r.WriteUint16(0, uint16(len(data)))
	r.Write(blobHead, data)
	return iso7816.OK
}

// A hold is a pre-authorisation: whose record, and how much is set aside.
type hold struct {
	sfi  byte // 0: an empty place
	id   pboc.IndustryID
	held uint64
}

const (
	holdCount = 3
	holdSize  = 9
)

func (a *applet) hold(i int) hold {
	b := a.cells.Bytes()[atHolds+i*holdSize:]
	return hold{b[0], pboc.IndustryID(b[1:]), amountOf(b[3:9])}
}

func (a *applet) setHold(i int, h hold) {
	v := pboc.Amount(h.held)
	a.cells.Write(atHolds+i*holdSize, append([]byte{h.sfi, h.id[0], h.id[1]}, v[:]...))
}

// findHold gives the place of the record's pre-authorisation, or of an empty one
// for sfi 0.
func (a *applet) findHold(sfi byte, id pboc.IndustryID) (int, bool) {
	for i := range holdCount {
		if h := a.hold(i); h.sfi == sfi && (sfi == 0 || h.id == id) {
			return i, true
		}
	}
	return 0, false
}

// held is everything set aside.
func (a *applet) held() (sum uint64) {
	for i := range holdCount {
		sum += a.hold(i).held
	}
	return sum
}

// A cyclic log has its newest slot and number of records in the state region, the
// records in one of its own: length 1 and up to size bytes.
type cyclic struct {
	head       int
	tag        uint16
	size, most int
}

const cyclicHead = 2

var (
	transactionLog = cyclic{atLog, 2, 56, pboc.LogRecords}
	loadLog        = cyclic{atLoadLog, 3, 48, pboc.LogRecords}
)

// add writes rec as record 1 over the oldest. What is longer than a slot is cut:
// the log format that would do it is refused at personalisation.
func (f cyclic) add(a *applet, s *card.Session, rec []byte) {
	newest, n := int(a.byteAt(f.head)), int(a.byteAt(f.head+1))
	slot := 0
	if n > 0 {
		slot = (newest + 1) % f.most
	}
	rec = rec[:min(len(rec), f.size)]
	s.Region(f.tag).Write(slot*(1+f.size), append([]byte{byte(len(rec))}, rec...))
	a.cells.Write(f.head, []byte{byte(slot), byte(min(n+1, f.most))})
}

// record gives record i, 1 the newest; nil for an empty slot.
func (f cyclic) record(a *applet, s *card.Session, i int) []byte {
	newest, n := int(a.byteAt(f.head)), int(a.byteAt(f.head+1))
	if i < 1 || i > n {
		return nil
	}
	slot := (newest - (i - 1) + f.most) % f.most
	b := s.Region(f.tag).Bytes()[slot*(1+f.size):]
	return b[1 : 1+int(b[0])]
}
