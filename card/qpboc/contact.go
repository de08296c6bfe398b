package qpboc

import (
	"bytes"
	"encoding/binary"
	"slices"

	"koala/card"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// A contact is the volatile state of a debit, credit or contact e-cash transaction.
type contact struct {
	answered int // GENERATE AC answered: 0, 1, 2
	first    pboc.Cryptogram
	ac       [8]byte  // of the first: scripts and the issuer's answer refer to it
	cdol1    []byte   // its values, for the second's combined signature
	asked    bool     // EXTERNAL AUTHENTICATE came
	failed   bool     // and was wrong, or came twice
	scripted bool     // a script MAC was wrong: no further script
	spoiled  bool     // a script was refused for that or another reason
	checks   pboc.CVR // PIN and DDA results
}

// Parameter bits of GENERATE AC.
const (
	acMask = 0xC0
	acCDA  = 0x10
)

// Bits of the application default action 9F52, two bytes with the first at the most
// significant end (as Visa VIS 1.4, which PBOC follows).
const (
	adaOnlineAfterFailure  uint16 = 1 << 15 // last issuer authentication failed: go online
	adaDeclineAfterFailure uint16 = 1 << 14 // issuer authentication failed: decline
	adaDeclineWithout      uint16 = 1 << 13 // issuer authentication is mandatory and did not come: decline
	adaOnlineNew           uint16 = 1 << 9  // new card: go online
	adaDeclineNew          uint16 = 1 << 8  // new card that cannot go online: decline
	adaBlockByPIN          uint16 = 1 << 7  // PIN tries exceeded: block the application
	adaDeclineByPIN        uint16 = 1 << 6  // PIN tries were exceeded before: decline
	adaOnlineByPIN         uint16 = 1 << 5  // PIN tries were exceeded before: go online
	adaDeclineOffByPIN     uint16 = 1 << 4  // the same and unable to go online: decline
	adaOnlineByScript      uint16 = 1 << 3  // last script failed: go online
)

func (a *applet) action(bit uint16) bool {
	v := a.object(pboc.TagDefaultAction)
	return len(v) == 2 && binary.BigEndian.Uint16(v)&bit != 0
}

// cashFits tells whether a contact transaction is paid from the e-cash: the
// terminal supports it and currency and amount fit (CARD 1.9).
func (a *applet) cashFits(t *transaction) bool {
	v, ok := t.terminal(emv.TagECIndicator)
	if !ok || len(v) != 1 || v[0] != 1 || !a.given(givenECash) || a.byteAt(atLife) != 0 {
		return false
	}
	x := t.covered()
	amount, ok := t.amount()
	if !ok || !bytes.Equal(x.Currency[:], a.object(emv.TagECCurrency)) {
		return false
	}
	have, held := a.fen(emv.TagECBalance)
	single, limited := a.fen(emv.TagECAmountLimit)
	reset, _ := a.fen(emv.TagECReset)
	return held && amount+reset <= have && (!limited || amount <= single)
}

// contactOptions answers GPO with AIP and AFL in format 1.
func (a *applet) contactOptions(s *card.Session) iso7816.Response {
	t := &a.tx
	group, second := uint16(pboc.DGIContact), uint16(pboc.DGIContactSM)
	if t.path == cashPath {
		group, second = pboc.DGIECashOptions, pboc.DGIECashSM
	}
	o, err := pboc.ParseOptions(blob(s, a.chooseChain(s, group, second)))
	if err != nil {
		return fails(iso7816.SWConditions)
	}
	t.options, t.e = o, firstECash
	return answer(tlv.Append(nil, emv.TagAnswer1, append(append([]byte(nil), o.AIP[:]...), o.AFL...)))
}

// generateAC is GENERATE AC: at most two in a transaction, the second only after an
// online request.
func (a *applet) generateAC(s *card.Session, c iso7816.Command) iso7816.Response {
	t := &a.tx
	k := &t.contact
	asked := pboc.Cryptogram(c.P1 >> 6)
	switch {
	case t.path != fullPath && t.path != cashPath, k.answered == 2, k.answered == 1 && k.first != pboc.ARQC:
		return fails(iso7816.SWConditions)
	case c.P1&^(acMask|acCDA) != 0 || asked > pboc.ARQC || c.P2 != 0:
		return fails(iso7816.SWP1P2)
	case k.answered == 1 && asked == pboc.ARQC:
		return fails(iso7816.SWConditions)
	}
	want := emv.TagCDOL1
	if k.answered == 1 {
		want = emv.TagCDOL2
	}
	list, err := emv.ParseDOL(a.inRecord(s, want))
	if err != nil || len(list) == 0 {
		return fails(iso7816.SWConditions)
	}
	data := slices.Clone(c.Data)
	values, err := list.Split(data)
	if err != nil {
		return fails(iso7816.SWLength)
	}
	t.values = append(t.values, values)
	amount, ok := t.amount()
	if !ok {
		t.values = t.values[:len(t.values)-1]
		return fails(iso7816.SWData)
	}
	t.charge = charge{amount: amount}
	if k.answered == 0 {
		k.cdol1 = data
		return a.firstAC(s, asked, c.P1&acCDA != 0)
	}
	return a.secondAC(s, asked, c.P1&acCDA != 0, data)
}

// firstAC answers what the card decides when asked for more than it wants to give.
func (a *applet) firstAC(s *card.Session, asked pboc.Cryptogram, combined bool) iso7816.Response {
	t := &a.tx
	cvr := t.contact.checks | a.history()
	if a.noTries() {
		cvr |= pboc.CVRPINLimit
	}
	if a.newCard() {
		cvr |= pboc.CVRNewCard
	}
	decision := asked
	switch {
	case asked == pboc.AAC:
	case a.byteAt(atLife) == blocked, a.noTries() && a.action(adaDeclineByPIN):
		decision = pboc.AAC
	case t.path == cashPath:
		if asked == pboc.TC && !a.cashAgrees() {
			decision = pboc.AAC
		}
		t.charge.fromCash = decision == pboc.TC
	case asked == pboc.TC:
		if a.exceeds() {
			cvr |= pboc.CVRVelocity
			decision = pboc.ARQC
		} else if a.wantsOnline() {
			decision = pboc.ARQC
		}
		t.charge.toTotal = decision == pboc.TC && a.inCurrency()
	}
	t.cvr = pboc.NewCVR(decision, pboc.NotRequested) | cvr
	t.contact.answered, t.contact.first = 1, decision
	if decision == pboc.ARQC {
		a.setFlag(lastOnlineOpen, true)
	}
	r := a.answerAC(s, decision, combined, nil)
	t.contact.ac = t.ac
	return r
}

// cashAgrees compares what GENERATE AC says with what GPO decided on: a terminal
// must not change the transaction in between (CARD 1.9).
func (a *applet) cashAgrees() bool {
	for _, x := range a.tx.values[1] {
		if x.Tag == emv.TagTVR || x.Tag == emv.TagTSI || x.Tag == emv.TagUN {
			continue
		}
		if v, ok := a.tx.values[0].Get(x.Tag); ok && !bytes.Equal(v, x.Value) {
			return false
		}
	}
	return a.cashFits(&a.tx)
}

func (a *applet) inCurrency() bool {
	c := a.tx.covered().Currency
	return bytes.Equal(c[:], a.object(emv.TagECCurrency))
}

// limit gives a limit of one byte; 255 where the card has none.
func (a *applet) limit(tag tlv.Tag) byte {
	if v := a.object(tag); len(v) == 1 {
		return v[0]
	}
	return 0xFF
}

// exceeds is velocity checking of debit and credit: consecutive offline transactions
// and their total against the lower limits.
func (a *applet) exceeds() bool {
	total, limited := a.fen(emv.TagCTTALimit)
	switch {
	case a.limit(pboc.TagLowerOffline) != 0xFF && a.byteAt(atOffline) >= a.limit(pboc.TagLowerOffline):
		return true
	case a.inCurrency():
		return limited && a.amount(atTotal)+a.tx.charge.amount > total
	}
	return a.limit(emv.TagIntlCounter) != 0xFF && a.byteAt(atForeign) >= a.limit(emv.TagIntlCounter)
}

// wantsOnline are the other reasons to ask the issuer.
func (a *applet) wantsOnline() bool {
	return a.flag(lastOnlineOpen) ||
		a.flag(lastAuthFailed) && a.action(adaOnlineAfterFailure) ||
		a.flag(lastScriptFailed) && a.action(adaOnlineByScript) ||
		a.newCard() && a.action(adaOnlineNew) ||
		a.noTries() && a.action(adaOnlineByPIN)
}

// secondAC ends a transaction that was to go online.
func (a *applet) secondAC(s *card.Session, asked pboc.Cryptogram, combined bool, data []byte) iso7816.Response {
	t := &a.tx
	k := &t.contact
	k.answered = 2
	arc, _ := t.terminal(emv.TagARC)
	away := len(arc) == 2 && (arc[0] == 'Y' || arc[0] == 'Z') && arc[1] == '3' // unable to go online
	decision := asked
	switch {
	case a.byteAt(atLife) == blocked,
		k.failed && a.action(adaDeclineAfterFailure),
		!away && !k.asked && a.mandatory() && a.action(adaDeclineWithout),
		away && a.refusesAway():
		decision = pboc.AAC
	}
	cvr := t.cvr&^pboc.NewCVR(0, 3) | pboc.NewCVR(0, decision)
	if k.failed {
		cvr |= pboc.CVRIssuerAuthFailed
	}
	if away {
		cvr |= pboc.CVRNoOnline
	}
	t.cvr = cvr
	t.charge.toTotal = away && decision == pboc.TC && a.inCurrency()
	if !away {
		a.ended(decision)
	}
	return a.answerAC(s, decision, combined, data)
}

// mandatory tells whether issuer authentication must come (9F56, bit 8).
func (a *applet) mandatory() bool {
	v := a.object(pboc.TagIssuerAuth)
	return len(v) == 1 && v[0]&0x80 != 0
}

// refusesAway are the reasons to decline when the issuer cannot be reached.
func (a *applet) refusesAway() bool {
	upper, limited := a.fen(emv.TagCTTAUpper)
	return a.newCard() && a.action(adaDeclineNew) ||
		a.noTries() && a.action(adaDeclineOffByPIN) ||
		a.limit(pboc.TagUpperOffline) != 0xFF && a.byteAt(atOffline) >= a.limit(pboc.TagUpperOffline) ||
		limited && upper > 0 && a.inCurrency() && a.amount(atTotal)+a.tx.charge.amount > upper
}

// ended keeps what an online transaction leaves: indicators, and with an issuer that
// proved itself or need not, fresh counters.
func (a *applet) ended(decision pboc.Cryptogram) {
	k := &a.tx.contact
	a.setFlag(lastOnlineOpen, false)
	a.setFlag(lastAuthFailed, k.failed)
	without := !k.asked && emv.AIP(a.tx.options.AIP).Has(emv.AIPIssuerAuth)
	a.setFlag(lastNoAuth, without)
	a.clear(atScripts)
	a.setFlag(lastScriptFailed, k.spoiled)
	if decision != pboc.TC || k.failed || without && a.mandatory() {
		return
	}
	a.clear(atOffline)
	a.clear(atForeign)
	a.setAmount(atTotal, 0)
	a.setObject(emv.TagLastOnlineATC, bytes.Clone(a.cells.Bytes()[atATC:atATC+2]))
}

// answerAC computes the cryptogram, moves money and counters of an approval and
// answers, with a combined signature when it was asked for and the card can.
func (a *applet) answerAC(s *card.Session, decision pboc.Cryptogram, combined bool, cdol2 []byte) iso7816.Response {
	t := &a.tx
	after := a.balances(t.e).after(t.charge)
	a.keep(after)
	iad := a.cryptogram(after)
	if decision == pboc.TC {
		if t.path == fullPath && (t.contact.answered == 1 || t.cvr.Has(pboc.CVRNoOnline)) {
			a.count(atOffline)
			if !a.inCurrency() {
				a.count(atForeign)
			}
		}
		a.logTransaction(s)
	}
	cid, atc := decision.CID(), a.cells.Bytes()[atATC:atATC+2]
	key := a.privateKey(s)
	if !combined || decision == pboc.AAC || key == nil || !emv.AIP(t.options.AIP).Has(emv.AIPCDA) {
		b := append(append([]byte{cid}, atc...), t.ac[:]...)
		return answer(tlv.Append(nil, emv.TagAnswer1, append(b, iad.Bytes()...)))
	}
	b := tlv.Append(tlv.Append(nil, emv.TagCID, []byte{cid}), emv.TagATC, atc)
	tail := tlv.Append(nil, emv.TagIAD, iad.Bytes())
	hashed, err := emv.TransactionData(t.pdol, t.contact.cdol1, cdol2, append(bytes.Clone(b), tail...))
	if err != nil {
		return fails(iso7816.SWUnknown)
	}
	sdad, err := key.SignCDA(emv.CDA{Number: bytes.Clone(atc), CID: cid, AC: t.ac}, t.covered().Unpredictable, hashed)
	if err != nil {
		return fails(iso7816.SWUnknown)
	}
	b = append(tlv.Append(b, emv.TagSDAD, sdad), tail...)
	return answer(tlv.Append(nil, emv.TagAnswer2, b))
}
