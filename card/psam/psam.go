// Package psam is the secure access module in a gate: it holds the purchase
// keys that no gate may see, makes the MAC1 that orders a card to pay and
// checks the MAC2 that proves it did. Commands are in spec/purse (psam.go
// there). Start with Process.
package psam

import (
	"encoding/binary"
	"errors"

	"koala/card"
	"koala/spec/iso7816"
	"koala/spec/iso9797"
	"koala/spec/purse"
)

// Module makes PSAM applets.
func Module() card.Module {
	return card.Module{New: func() card.Applet { return new(applet) }, Install: install}
}

// DGISettings carries Settings to STORE DATA.
const DGISettings = 0x9001

// Settings of a PSAM.
type Settings struct {
	// Levels is how many dispersions lie between the PSAM's key and a card's: 1
	// when it holds an issuer's key (the card number's factor is used), 2 when it
	// holds the national root (issuer code first, then card number).
	Levels byte
	// Tries is how many wrong MAC2 in a row lock the PSAM.
	Tries byte
	// TSeq is the terminal transaction number of the next purchase.
	TSeq uint32
}

// Bytes codes the settings: levels 1 | tries 1 | transaction number 4.
func (x Settings) Bytes() []byte {
	return binary.BigEndian.AppendUint32([]byte{x.Levels, x.Tries}, x.TSeq)
}

// What a PSAM that was told nothing has.
const (
	defaultLevels = 1
	defaultTries  = 15
)

// One region holds the PSAM. The transaction number and the tries change with
// every purchase; the rest is written at personalisation.
const (
	regionTag = 1

	atTSeq   = 0  // 4
	atTries  = 4  // left
	atLimit  = 5  // tries
	atLevels = 6  // dispersion levels
	atFiles  = 7  // length of files 15, 16, 17
	atKeys   = 10 // keyCount of keySize
	at15     = atKeys + keyCount*keySize
	at16     = at15 + publicLen
	at17     = at16 + terminalLen
	sizeAll  = at17 + keysLen

	publicLen   = 14
	terminalLen = 6
	keysLen     = 64

	keyCount = 4
	keySize  = 19 // index 1 (00 empty) | version 1 | algorithm 1 | key 16
)

// GET DATA objects of this PSAM.
const (
	tagTSeq  = 0x00C1 // transaction number of the next purchase, 4
	tagTries = 0x00C2 // wrong MAC2 left before it locks, 1
)

type applet struct {
	cells   card.Region
	pending *pending
	current byte
	root    *purse.Root // of the key at rootAt, kept while the gate is powered
	rootAt  int
}

// A pending purchase waits for the card's MAC2. It dies with the next
// INIT_SAM_FOR_PURCHASE and with power.
type pending struct {
	session *purse.Session
	fen     uint32
}

func install(s *card.Session, _ []byte) iso7816.SW {
	g, err := s.Allocate(regionTag, sizeAll)
	if err != nil {
		return iso7816.SWNoSpace
	}
	g.WriteUint32(atTSeq, 1)
	g.Write(atTries, []byte{defaultTries, defaultTries, defaultLevels})
	return iso7816.OK
}

func (a *applet) open(s *card.Session) {
	if !a.cells.Present() {
		a.cells = s.Region(regionTag)
	}
}

// Select answers with the name alone.
func (a *applet) Select(s *card.Session) iso7816.Response {
	a.open(s)
	x, _ := s.Registry().Entry(s.Self)
	return answer(purse.FCI{AID: []byte(x.AID)}.Bytes())
}

// Process answers one command.
func (a *applet) Process(_ *card.Session, c iso7816.Command) iso7816.Response {
	switch {
	case c.CLA == 0x80 && c.INS == purse.InsSAMPurchase:
		return a.initPurchase(c)
	case c.CLA == 0x80 && c.INS == purse.InsSAMCredit:
		return a.credit(c)
	case c.INS == iso7816.InsGetData && (c.CLA == 0x80 || c.CLA == 0):
		return a.getData(c)
	case c.CLA != 0 && c.CLA != 0x80:
		return fails(iso7816.SWClass)
	case c.CLA == 0 && c.INS == iso7816.InsReadBinary:
		return a.readBinary(c)
	case c.CLA == 0 && c.INS == iso7816.InsSelect:
		return a.selectFile(c)
	}
	return fails(iso7816.SWInstruction)
}

// initPurchase is INIT_SAM_FOR_PURCHASE. The transaction number is consumed
// here: it stays used when the card leaves and MAC1 is never shown.
func (a *applet) initPurchase(c iso7816.Command) iso7816.Response {
	a.pending = nil
	x, err := purse.ParseSAMPurchase(c)
	if err != nil {
		return malformed(err)
	}
	b := a.cells.Bytes()
	at := a.key(x.KeyVersion, x.Alg)
	tseq := a.cells.Uint32(atTSeq)
	term := purse.Terminal(b[at16 : at16+terminalLen])
	switch {
	case b[atTries] == 0:
		return fails(iso7816.SWBlocked)
	case at == 0, len(x.Factors) < int(b[atLevels]):
		return fails(iso7816.SWPurseKey)
	case term == purse.Terminal{}:
		return fails(iso7816.SWConditions) // no terminal number yet
	case tseq == 0xFFFFFFFF:
		return fails(iso7816.SWPurseSequence)
	}
	root := a.rootOf(at)
	if b[atLevels] == 2 {
		root = purse.NewRoot(root.Disperse(x.Factors[1]))
	}
	cardKey := purse.NewRoot(root.Disperse(x.Factors[0]))
	session := purse.NewSession(cardKey.PurchaseSession(x.Rnd, x.Seq, tseq))
	a.cells.WriteUint32(atTSeq, tseq+1)
	a.pending = &pending{session, x.Fen}
	mac1 := session.PurchaseMAC1(x.Fen, x.Type, term, x.Stamp)
	return answer(purse.SAMPurchaseAnswer{TSeq: tseq, MAC1: mac1}.Bytes())
}

// credit is CREDIT_SAM_FOR_PURCHASE. A wrong MAC2 leaves the purchase waiting
// for the right one, for instance from GET TRANSACTION PROVE, and counts.
func (a *applet) credit(c iso7816.Command) iso7816.Response {
	x, err := purse.ParseSAMCredit(c)
	b := a.cells.Bytes()
	switch {
	case err != nil:
		return malformed(err)
	case b[atTries] == 0:
		return fails(iso7816.SWBlocked)
	case a.pending == nil:
		return fails(iso7816.SWConditions)
	case !purse.Equal(x.MAC2, a.pending.session.PurchaseMAC2(a.pending.fen)):
		a.cells.Write(atTries, []byte{b[atTries] - 1})
		return fails(iso7816.SWPurseMAC)
	}
	a.pending = nil
	a.cells.Write(atTries, []byte{b[atLimit]})
	return answer(nil)
}

// key finds the purchase key of a version: the offset of its record, 0 none.
func (a *applet) key(version, alg byte) int {
	b := a.cells.Bytes()
	for at := atKeys; at < atKeys+keyCount*keySize; at += keySize {
		if b[at] != 0 && b[at+1] == version && b[at+2] == alg {
			return at
		}
	}
	return 0
}

func (a *applet) rootOf(at int) *purse.Root {
	if a.rootAt != at {
		a.root, a.rootAt = purse.NewRoot([16]byte(a.cells.Bytes()[at+3:])), at
	}
	return a.root
}

// file gives the cells of a file that has been personalised.
func (a *applet) file(sfi byte) ([]byte, bool) {
	at, i := 0, 0
	switch sfi {
	case purse.SFISAMPublic:
		at = at15
	case purse.SFISAMTerminal:
		at, i = at16, 1
	case purse.SFISAMKeys:
		at, i = at17, 2
	default:
		return nil, false
	}
	b := a.cells.Bytes()
	n := int(b[atFiles+i])
	return b[at : at+n], n > 0
}

func (a *applet) selectFile(c iso7816.Command) iso7816.Response {
	if c.P1 > 0x02 || len(c.Data) != 2 {
		return fails(iso7816.SWP1P2)
	}
	if _, ok := a.file(c.Data[1]); !ok || c.Data[0] != 0 {
		return fails(iso7816.SWFileNotFound)
	}
	a.current = c.Data[1]
	return answer(nil)
}

func (a *applet) readBinary(c iso7816.Command) iso7816.Response {
	sfi, off := a.current, int(c.P1)<<8|int(c.P2)
	if c.P1&0x80 != 0 {
		sfi, off = c.P1&0x1F, int(c.P2)
	}
	b, ok := a.file(sfi)
	switch {
	case sfi == 0:
		return fails(iso7816.SWNoFile)
	case !ok:
		return fails(iso7816.SWFileNotFound)
	case len(c.Data) != 0 || c.Le == iso7816.NoLe:
		return fails(iso7816.SWLength)
	case off >= len(b):
		return fails(iso7816.SWOffset)
	}
	n := len(b) - off
	if c.Le > n && c.Le != iso7816.MaxExtendedLe {
		return fails(iso7816.Exact(n))
	}
	if c.Le > 0 && c.Le < n {
		n = c.Le
	}
	return answer(append([]byte(nil), b[off:off+n]...))
}

func (a *applet) getData(c iso7816.Command) iso7816.Response {
	b := a.cells.Bytes()
	switch uint16(c.P1)<<8 | uint16(c.P2) {
	case tagTSeq:
		return answer(append([]byte(nil), b[atTSeq:atTSeq+4]...))
	case tagTries:
		return answer([]byte{b[atTries]})
	}
	return fails(iso7816.SWReferenceNotFound)
}

// StoreData personalises the PSAM.
func (a *applet) StoreData(s *card.Session, dgi uint16, data []byte) iso7816.SW {
	a.open(s)
	switch {
	case dgi == purse.DGIPublic:
		return a.storeFile(0, at15, publicLen, data)
	case dgi == purse.DGIHolder:
		if len(data) != terminalLen {
			return iso7816.SWData
		}
		return a.storeFile(1, at16, terminalLen, data)
	case dgi == purse.DGIRegion:
		return a.storeFile(2, at17, keysLen, data)
	case dgi == DGISettings:
		return a.storeSettings(data)
	case dgi >= purse.DGIKeyFirst && dgi <= purse.DGIKeyLast:
		return a.storeKey(s, data)
	}
	return iso7816.SWReferenceNotFound
}

func (a *applet) storeFile(i, at, n int, data []byte) iso7816.SW {
	if len(data) == 0 || len(data) > n {
		return iso7816.SWData
	}
	a.cells.Write(at, data)
	a.cells.Write(atFiles+i, []byte{byte(len(data))})
	return iso7816.OK
}

// storeSettings also resets the tries. The transaction number may only grow: a
// number used twice would make two purchases look alike to the clearing.
func (a *applet) storeSettings(data []byte) iso7816.SW {
	if len(data) != 6 || data[0] < 1 || data[0] > 2 || data[1] == 0 {
		return iso7816.SWData
	}
	if binary.BigEndian.Uint32(data[2:]) < a.cells.Uint32(atTSeq) {
		return iso7816.SWConditions
	}
	a.cells.Write(atTSeq, data[2:])
	a.cells.Write(atTries, []byte{data[1], data[1], data[0]})
	return iso7816.OK
}

func (a *applet) storeKey(s *card.Session, data []byte) iso7816.SW {
	r, err := purse.ParseKeyRecord(data)
	if err != nil || r.Kind != purse.DPK || r.Index == 0 || r.Alg > 0x01 {
		return iso7816.SWData
	}
	clear, err := s.DecryptKey(r.Key[:])
	if err != nil || len(clear) != len(r.Key) || iso9797.KCVDES(clear) != r.KCV {
		return iso7816.SWData
	}
	b := a.cells.Bytes()
	for _, index := range []byte{r.Index, 0} {
		for at := atKeys; at < atKeys+keyCount*keySize; at += keySize {
			if b[at] == index {
				rec := append(make([]byte, 0, keySize), r.Index, r.Version, r.Alg)
				a.cells.Write(at, append(rec, clear...))
				return iso7816.OK
			}
		}
	}
	return iso7816.SWNoSpace
}

func answer(data []byte) iso7816.Response { return iso7816.Response{Data: data, SW: iso7816.OK} }

func fails(sw iso7816.SW) iso7816.Response { return iso7816.Response{SW: sw} }

func malformed(err error) iso7816.Response {
	if errors.Is(err, purse.ErrLength) {
		return fails(iso7816.SWLength)
	}
	return fails(iso7816.SWP1P2)
}
