package qpboc

import (
	"encoding/binary"

	"koala/card"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// The record that carries a signature too long for the answer to GPO, where the
// issuer gave none of his own.
const (
	signatureSFI    = 6
	signatureRecord = 1
)

// readRecord is READ RECORD by number. The last record of an approved transaction
// is where money moves; read again, it is the answer kept then, also after a reset,
// until the next transaction.
func (a *applet) readRecord(s *card.Session, c iso7816.Command) iso7816.Response {
	sfi := c.P2 >> 3
	switch {
	case c.P2&0x07 != 0x04:
		return fails(iso7816.SWP1P2)
	case len(c.Data) != 0:
		return fails(iso7816.SWLength)
	case sfi == 0 || sfi == 0x1F:
		return fails(iso7816.SWFileNotFound)
	}
	if rec, ok := a.logRecord(s, sfi, c.P1); ok {
		return found(c, rec)
	}
	if sfi >= pboc.FirstFile && sfi <= pboc.LastFile {
		return a.readIndustryRecord(s, sfi, c)
	}
	if rec := a.kept(sfi, c.P1); rec != nil {
		return found(c, rec)
	}
	rec := a.render(s, sfi, c.P1)
	if r := found(c, rec); !r.SW.OK() || !a.closes(sfi, c.P1) {
		return r
	}
	if sw := a.commit(s); sw != iso7816.OK {
		return fails(sw)
	}
	rec = a.render(s, sfi, c.P1) // with the amounts after the payment
	a.keepAnswer(sfi, c.P1, rec)
	a.tx.pending = false
	return answer(rec)
}

// found answers a record, 6A83 when there is none.
func found(c iso7816.Command, rec []byte) iso7816.Response {
	if len(rec) == 0 {
		return fails(iso7816.SWRecordNotFound)
	}
	return shortened(c, append([]byte(nil), rec...))
}

// closes tells whether the record ends an approved transaction.
func (a *applet) closes(sfi, n byte) bool {
	return a.tx.pending && a.tx.last.SFI == sfi && a.tx.last.Number == n
}

// kept is the answer kept for the last record of the last approval.
func (a *applet) kept(sfi, n byte) []byte {
	b := a.cells.Bytes()[atBackup:]
	if b[0] != sfi || b[1] != n {
		return nil
	}
	return b[backupHead:][:binary.BigEndian.Uint16(b[2:])]
}

func (a *applet) keepAnswer(sfi, n byte, rec []byte) {
	if len(rec) > backupLen {
		return // it can only be computed again
	}
	b := binary.BigEndian.AppendUint16(append(make([]byte, 0, backupHead+len(rec)), sfi, n), uint16(len(rec)))
	a.cells.Write(atBackup, append(b, rec...))
}

// render gives a record as the reader sees it: the signature of this transaction in
// place of an empty one or not at all, the spending amount as it is now, and 9F69 at
// the end of the last record (CARD 1.7, 1.8). It is the memory itself where nothing
// changes.
func (a *applet) render(s *card.Session, sfi, n byte) []byte {
	raw := blob(s, uint16(sfi)<<8|uint16(n))
	if sfi == signatureSFI && n == signatureRecord && raw == nil && a.tx.sdad != nil {
		var none [6]byte
		b := tlv.Append(tlv.Append(nil, emv.TagSDAD, []byte{0}), emv.TagAvailable, none[:])
		raw = tlv.Append(nil, emv.TagRecord, b)
	}
	_, body, _, err := tlv.Next(raw)
	if err != nil {
		return raw
	}
	adds := a.closes(sfi, n) && a.tx.auth != nil
	if !adds && !changes(body) {
		return raw
	}
	out := make([]byte, 0, len(body)+16)
	for len(body) > 0 {
		tag, v, rest, err := tlv.Next(body)
		if err != nil {
			return raw
		}
		body = rest
		switch {
		case tag == emv.TagAvailable:
			fen := pboc.Amount(a.available(a.balances(firstECash)))
			v = fen[:]
		case tag == emv.TagSDAD && allZero(v) && a.tx.sdad == nil:
			continue
		case tag == emv.TagSDAD && allZero(v):
			v = a.tx.sdad
		}
		out = tlv.Append(out, tag, v)
	}
	if adds {
		out = tlv.Append(out, emv.TagCardAuth, a.tx.auth)
	}
	return tlv.Append(make([]byte, 0, len(out)+4), emv.TagRecord, out)
}

// changes tells whether a record holds an object that the card computes.
func changes(body []byte) bool {
	for len(body) > 0 {
		tag, _, rest, err := tlv.Next(body)
		if err != nil {
			return false
		}
		if tag == emv.TagAvailable || tag == emv.TagSDAD {
			return true
		}
		body = rest
	}
	return false
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// inRecord finds an object in the records of the transaction's file locator.
func (a *applet) inRecord(s *card.Session, want tlv.Tag) []byte {
	for e := a.tx.options.AFL; len(e) >= 4; e = e[4:] {
		for n := int(e[1]); n <= int(e[2]); n++ {
			_, body, _, err := tlv.Next(blob(s, uint16(e[0]>>3)<<8|uint16(n)))
			for err == nil && len(body) > 0 {
				var tag tlv.Tag
				var v []byte
				if tag, v, body, err = tlv.Next(body); err == nil && tag == want {
					return v
				}
			}
		}
	}
	return nil
}

// logRecord reads one of the two logs; ok tells whether the file is one. Record 0 of
// the load log is the list with its proof.
func (a *applet) logRecord(s *card.Session, sfi, n byte) (rec []byte, ok bool) {
	fci := a.fci(s)
	if v, has := tlv.Find(fci, emv.TagLogEntry); has && len(v) == 2 && v[0] == sfi {
		if n > v[1] {
			return nil, true
		}
		return transactionLog.record(a, s, int(n)), true
	}
	if v, has := tlv.Find(fci, emv.TagLoadLogEntry); has && len(v) == 2 && v[0] == sfi {
		switch {
		case n == 0:
			return a.signedLoadLog(s), true
		case n > v[1]:
			return nil, true
		}
		return loadLog.record(a, s, int(n)), true
	}
	return nil, false
}

// signedLoadLog proves the loads to the issuer under the session MAC key of the
// transaction counter as it stands.
func (a *applet) signedLoadLog(s *card.Session) []byte {
	list, err := emv.ParseDOL(a.object(emv.TagLoadLogFormat))
	if err != nil {
		return nil
	}
	x := pboc.SignedLoadLog{ATC: a.atc()}
	for i := 1; i <= loadLog.most; i++ {
		rec := loadLog.record(a, s, i)
		if len(rec) < 14 {
			break
		}
		e := pboc.LoadEntry{Tag: binary.BigEndian.Uint16(rec), Old: amountOf(rec[2:8]), New: amountOf(rec[8:14])}
		values, err := list.Split(rec[14:])
		if err != nil {
			continue
		}
		for _, v := range values {
			switch {
			case v.Tag == emv.TagDate && len(v.Value) == 3:
				e.Date = [3]byte(v.Value)
			case v.Tag == emv.TagTime && len(v.Value) == 3:
				e.Time = [3]byte(v.Value)
			case v.Tag == emv.TagATC && len(v.Value) == 2:
				e.ATC = binary.BigEndian.Uint16(v.Value)
			}
		}
		x.Entries = append(x.Entries, e)
	}
	x.Sign(a.session(offsetMACKey))
	return x.Bytes()
}

// commit carries out an approved transaction: money, counters, industry records,
// pre-authorisations, log and proof, all in the unit of the last record.
func (a *applet) commit(s *card.Session) iso7816.SW {
	t := &a.tx
	if t.charge.mode != pboc.ModeNone && !a.capp.complete(t.holder) {
		return iso7816.SWCAPPNothingRead
	}
	a.keep(a.balances(t.e).after(t.charge))
	if t.charge.abroad {
		a.count(atForeign)
	}
	if t.charge.mode != pboc.ModeNone {
		a.commitCAPP(s)
	}
	if a.processing().Has(pboc.ProcLog) {
		a.logTransaction(s)
	}
	return iso7816.OK
}
