// Package qpboc is the payment applet of a UnionPay card: contactless qPBOC with
// e-cash and the transit extension, and debit, credit and e-cash by contact with
// issuer scripts (JR/T 0025 parts 5 to 14). What is on the wire is in spec/emv and
// spec/pboc; this package holds the state machine, card risk management and what
// the card remembers. Start with Process, then gpo.go.
//
// Offline money moves in one unit: with the last record of a qPBOC transaction,
// or with GENERATE AC. A cut before it leaves only the transaction counter moved.
package qpboc

import (
	"koala/card"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// Module makes payment applications. One instance is one card; what it is, debit
// or pure e-cash, follows from its AID and personalisation.
func Module() card.Module {
	keys := newKeyring()
	return card.Module{New: func() card.Applet { return &applet{keys: keys} }, Install: install}
}

// An applet is one selection of a card. All its fields are volatile.
type applet struct {
	keys  *keyring
	cells card.Region
	tx    transaction
	capp  cache
}

func install(s *card.Session, _ []byte) iso7816.SW {
	g, err := s.Allocate(stateTag, sizeState)
	if err != nil {
		return iso7816.SWNoSpace
	}
	for _, f := range []cyclic{transactionLog, loadLog} {
		if _, err := s.Allocate(f.tag, f.most*(1+f.size)); err != nil {
			return iso7816.SWNoSpace
		}
	}
	g.Write(atIAD, []byte{0, 0, byte(pboc.TripleDES), 0})
	return iso7816.OK
}

func (a *applet) open(s *card.Session) {
	if !a.cells.Present() {
		a.cells = s.Region(stateTag)
	}
}

// fci gives the contents of the proprietary template on the session's interface;
// nil when the card is not personalised for it.
func (a *applet) fci(s *card.Session) []byte {
	tag, bit := uint16(pboc.DGIFCI), givenFCI|givenOptions
	if s.Interface == card.Contact {
		tag, bit = pboc.DGIContactFCI, givenContactFCI|givenContact
	}
	if !a.given(bit | givenKeys | givenApplication) {
		return nil
	}
	return blob(s, tag)
}

// Select answers with the FCI of the interface. A blocked application can be
// selected, so that its issuer can reach it; one blocked for ever cannot be used.
func (a *applet) Select(s *card.Session) iso7816.Response {
	a.open(s)
	fci := a.fci(s)
	switch {
	case a.byteAt(atLife) == blockedForEver:
		return fails(iso7816.SWFunction)
	case fci == nil:
		return fails(iso7816.SWPersonalisationDone)
	}
	x, _ := s.Registry().Entry(s.Self)
	b := tlv.Append(nil, emv.TagDFName, []byte(x.AID))
	r := answer(tlv.Append(nil, emv.TagFCI, tlv.Append(b, emv.TagFCIProprietary, fci)))
	if told, _ := tlv.Find(r.Data, emv.TagCAPPCard); len(told) == 1 {
		copy(told, a.object(emv.TagCAPPCard)) // a script may have changed what the card supports
	}
	if a.byteAt(atLife) == blocked {
		r.SW = iso7816.SWSelectedBlocked
	}
	return r
}

// Directory is the value of the application template 61 for PPSE and PSE; nil
// while the card is not personalised or is blocked.
func (a *applet) Directory(s *card.Session) []byte {
	a.open(s)
	fci := a.fci(s)
	if fci == nil || a.byteAt(atLife) != 0 {
		return nil
	}
	x, _ := s.Registry().Entry(s.Self)
	b := tlv.Append(nil, emv.TagAID, []byte(x.AID))
	for _, tag := range []tlv.Tag{emv.TagLabel, emv.TagPriority, emv.TagPreferredName} {
		if v, ok := tlv.Find(fci, tag); ok {
			b = tlv.Append(b, tag, v)
		}
	}
	return b
}

// Process answers one command.
func (a *applet) Process(s *card.Session, c iso7816.Command) iso7816.Response {
	a.open(s)
	if a.byteAt(atLife) == blockedForEver {
		return fails(iso7816.SWConditions)
	}
	a.capp.open, a.capp.next = a.capp.next, false
	switch c.CLA {
	case 0x80:
		return a.processPayment(s, c)
	case 0x00:
		return a.processCommon(s, c)
	case 0x04, 0x84:
		return a.processSecure(s, c)
	}
	return fails(iso7816.SWClass)
}

func (a *applet) processPayment(s *card.Session, c iso7816.Command) iso7816.Response {
	switch c.INS {
	case pboc.InsGPO:
		return a.processingOptions(s, c)
	case pboc.InsGenerateAC:
		return a.generateAC(s, c)
	case iso7816.InsGetData:
		return a.getData(c)
	case pboc.InsReadCAPP:
		return a.readCAPP(s, c)
	case pboc.InsProve:
		return a.prove(c)
	}
	return fails(iso7816.SWInstruction)
}

func (a *applet) processCommon(s *card.Session, c iso7816.Command) iso7816.Response {
	switch c.INS {
	case iso7816.InsReadRecord:
		return a.readRecord(s, c)
	case iso7816.InsInternalAuthenticate:
		return a.internalAuthenticate(s, c)
	case iso7816.InsExternalAuthenticate:
		return a.externalAuthenticate(c)
	case iso7816.InsVerify:
		return a.verify(s, c)
	case iso7816.InsGetChallenge:
		return getChallenge(s, c)
	case iso7816.InsPutData, iso7816.InsUpdateRecord, iso7816.InsAppendRecord:
		return fails(iso7816.SWSecurity) // with a MAC only
	}
	return fails(iso7816.SWInstruction)
}

func (a *applet) processSecure(s *card.Session, c iso7816.Command) iso7816.Response {
	switch {
	case c.CLA == 0x84 && c.INS == pboc.InsUpdateCAPP:
		return a.updateCAPP(s, c)
	case c.CLA == 0x04 && c.INS == iso7816.InsAppendRecord:
		return a.appendRecord(s, c)
	case c.CLA == 0x04 && (c.INS == iso7816.InsPutData || c.INS == iso7816.InsUpdateRecord):
		return a.script(s, c)
	}
	switch c.INS {
	case pboc.InsAppBlock, pboc.InsAppUnblock, pboc.InsCardBlock, pboc.InsPINChange:
		if c.CLA == 0x84 {
			return a.script(s, c)
		}
	}
	return fails(iso7816.SWInstruction)
}

func answer(data []byte) iso7816.Response { return iso7816.Response{Data: data, SW: iso7816.OK} }

func fails(sw iso7816.SW) iso7816.Response { return iso7816.Response{SW: sw} }
