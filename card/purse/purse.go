// Package purse is the transit purse applet: the ED/EP electronic purse of PBOC
// with the files and commands of China T-Union (JT/T 978), and the directory of
// the older Beijing card as a second way to the same money. What is on the wire
// is in spec/purse; this package holds the state machine, the rules and what
// the card remembers. Start with Process, then money.go.
//
// A money command is one unit of the element: balance, sequence, log, records
// and the kept proof change together or not at all.
package purse

import (
	"errors"

	"koala/card"
	"koala/spec/iso7816"
	"koala/spec/purse"
)

// DefaultMaxBalance is the balance limit of a purse that was given none, fen.
const DefaultMaxBalance = 1000_00

// KeyTries is how many wrong MACs in a row lock a key.
const KeyTries = 15

// Module makes purses.
func Module() card.Module {
	return card.Module{New: func() card.Applet { return new(applet) }, Install: install, Always: true}
}

// An applet is one selection of a purse. All its fields are volatile.
type applet struct {
	cells     card.Region
	op        operation
	challenge []byte // of GET CHALLENGE, for the next protected command only
	verified  bool   // PIN shown since the selection
	current   byte   // short identifier of the selected elementary file, 0 none
}

func install(s *card.Session, _ []byte) iso7816.SW {
	g, err := s.Allocate(regionTag, sizeAll)
	if err != nil {
		return iso7816.SWNoSpace
	}
	g.WriteUint32(atMax, DefaultMaxBalance)
	return iso7816.OK
}

// open finds the applet's cells once per selection.
func (a *applet) open(s *card.Session) {
	if !a.cells.Present() {
		a.cells = s.Region(regionTag)
	}
}

// Select answers with the FCI that readers take the public file from. A blocked
// purse can be selected, so that it can be unblocked.
func (a *applet) Select(s *card.Session) iso7816.Response {
	a.open(s)
	x, _ := s.Registry().Entry(s.Self)
	switch a.cells.Bytes()[atBlock] {
	case blockedForEver:
		return fails(iso7816.SWPurseBlocked)
	case blocked:
		return iso7816.Response{Data: a.fci(x.AID), SW: iso7816.SWSelectedBlocked}
	}
	return answer(a.fci(x.AID))
}

func (a *applet) fci(aid card.AID) []byte {
	f := purse.FCI{AID: []byte(aid)}
	if a.has(filePublic) {
		f.Version = []byte{0x02}
		f.Public = a.cells.Bytes()[atPublic : atPublic+purse.File15Len]
	}
	return f.Bytes()
}

// Process answers one command.
func (a *applet) Process(s *card.Session, c iso7816.Command) iso7816.Response {
	a.open(s)
	switch a.cells.Bytes()[atBlock] {
	case blockedForEver:
		return fails(iso7816.SWPurseBlocked)
	case blocked:
		if c.INS != purse.InsAppUnblock && c.INS != purse.InsAppBlock && c.INS != iso7816.InsGetChallenge {
			return fails(iso7816.SWConditions)
		}
	}
	if !a.op.survives(c) {
		a.op = operation{}
	}
	r := a.process(s, c)
	if c.INS != iso7816.InsGetChallenge {
		a.challenge = nil
	}
	return r
}

func (a *applet) process(s *card.Session, c iso7816.Command) iso7816.Response {
	switch c.CLA {
	case 0x80:
		return a.processMoney(s, c)
	case 0x00, 0x04, 0x84:
	default:
		return fails(iso7816.SWClass)
	}
	protected := c.CLA != 0
	switch c.INS {
	case iso7816.InsUpdateBinary, iso7816.InsUpdateRecord, iso7816.InsAppendRecord:
		return a.update(c)
	case purse.InsAppBlock, purse.InsAppUnblock:
		if c.CLA == 0x84 {
			return a.block(c)
		}
	}
	switch {
	case protected:
		return fails(iso7816.SWInstruction)
	case c.INS == iso7816.InsSelect:
		return a.selectFile(c)
	case c.INS == iso7816.InsReadBinary:
		return a.readBinary(c)
	case c.INS == iso7816.InsReadRecord:
		return a.readRecord(c)
	case c.INS == iso7816.InsGetChallenge:
		return a.getChallenge(s, c)
	case c.INS == iso7816.InsVerify:
		return a.verify(s, c)
	}
	return fails(iso7816.SWInstruction)
}

func (a *applet) processMoney(s *card.Session, c iso7816.Command) iso7816.Response {
	switch c.INS {
	case purse.InsInit:
		return a.initialize(s, c)
	case purse.InsCredit:
		return a.credit(c)
	case purse.InsDebit:
		return a.debit(c)
	case purse.InsUpdateCAPP:
		return a.updateCache(c)
	case purse.InsProve:
		return a.prove(c)
	case purse.InsBalance:
		return a.balance(c)
	}
	return fails(iso7816.SWInstruction)
}

func answer(data []byte) iso7816.Response { return iso7816.Response{Data: data, SW: iso7816.OK} }

func fails(sw iso7816.SW) iso7816.Response { return iso7816.Response{SW: sw} }

// malformed is the status word of a command spec/purse could not read.
func malformed(err error) iso7816.Response {
	if errors.Is(err, purse.ErrLength) {
		return fails(iso7816.SWLength)
	}
	return fails(iso7816.SWP1P2)
}
