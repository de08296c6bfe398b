package qpboc

import (
	"koala/card"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// script carries out an issuer script command (CARD 1.10). A first GENERATE AC must
// have been answered and the issuer must not have failed to prove itself; one wrong
// MAC ends scripts for the transaction, a hundred in a row for ever.
func (a *applet) script(s *card.Session, c iso7816.Command) iso7816.Response {
	k := &a.tx.contact
	if k.answered == 0 || k.failed || k.scripted || a.byteAt(atMACFails) >= maxFails {
		return fails(iso7816.SWConditions)
	}
	plain, err := a.session(offsetMACKey).Unprotect(c, a.atc(), k.ac)
	if err != nil {
		k.scripted, k.spoiled = true, true
		a.count(atMACFails)
		a.setFlag(lastScriptFailed, true)
		return fails(iso7816.SWSecureWrong)
	}
	a.clear(atMACFails)
	if k.answered == 2 && a.byteAt(atScripts) < 15 {
		a.count(atScripts)
	}
	sw := a.runScript(s, plain)
	if !sw.OK() {
		k.spoiled = true
		a.setFlag(lastScriptFailed, true)
	}
	return fails(sw)
}

func (a *applet) runScript(s *card.Session, c pboc.Script) iso7816.SW {
	switch c.INS {
	case iso7816.InsPutData:
		return a.putData(s, c)
	case iso7816.InsUpdateRecord:
		return a.updateRecord(s, c)
	case pboc.InsPINChange:
		return a.changePIN(c)
	}
	switch {
	case c.P1 != 0 || c.P2 != 0:
		return iso7816.SWP1P2
	case len(c.Data) != 0:
		return iso7816.SWLength
	}
	switch c.INS {
	case pboc.InsAppBlock:
		a.setByte(atLife, blocked)
	case pboc.InsAppUnblock:
		a.setByte(atLife, 0)
		a.setFlag(lastPINBlocked, false)
	case pboc.InsCardBlock:
		a.setByte(atLife, blockedForEver)
	}
	return iso7816.OK
}

// updateRecord replaces a record of a file that is neither a log nor an industry's.
func (a *applet) updateRecord(s *card.Session, c pboc.Script) iso7816.SW {
	sfi := c.P2 >> 3
	if c.P2&0x07 != 0x04 {
		return iso7816.SWP1P2
	}
	if _, ok := a.logRecord(s, sfi, 1); ok || sfi >= pboc.FirstFile && sfi <= pboc.LastFile {
		return iso7816.SWFileType
	}
	tag := uint16(sfi)<<8 | uint16(c.P1)
	if sfi == 0 || c.P1 == 0 || !recordGroup(tag) || blob(s, tag) == nil {
		return iso7816.SWRecordNotFound
	}
	if !isRecord(c.Data) {
		return iso7816.SWData
	}
	return storeBlob(s, tag, c.Data)
}

// isRecord tells whether data are one whole template 70.
func isRecord(data []byte) bool {
	tag, body, rest, err := tlv.Next(data)
	return err == nil && tag == emv.TagRecord && len(rest) == 0 &&
		tlv.Walk(body, func(int, tlv.Tag, []byte) error { return nil }) == nil
}

// changePIN is PIN CHANGE/UNBLOCK: P2 00 gives the tries back, 01 and 02 bring a new
// PIN, with and without the old one mixed in.
func (a *applet) changePIN(c pboc.Script) iso7816.SW {
	switch {
	case c.P1 != 0 || c.P2 > 2:
		return iso7816.SWP1P2
	case !a.given(givenPIN):
		return iso7816.SWReferenceNotFound
	case c.P2 == 0 && len(c.Data) != 0, c.P2 != 0 && len(c.Data) != 16:
		return iso7816.SWLength
	}
	if c.P2 != 0 {
		var old []byte
		if c.P2 == 1 {
			old = a.cells.Bytes()[atPIN : atPIN+pinBlockLen]
		}
		block, err := pboc.OpenPINChange(a.session(offsetENCKey), a.keyAt(offsetENCKey), c.Data, old)
		if err != nil {
			return iso7816.SWData
		}
		a.cells.Write(atPIN, block[:])
	}
	a.setByte(atTries, a.byteAt(atTryLimit))
	return iso7816.OK
}
