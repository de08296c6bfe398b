package qpboc

import (
	"encoding/binary"

	"koala/card"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// A path is what GET PROCESSING OPTIONS has begun.
type path byte

const (
	noPath    path = iota // selected only
	deadPath              // the card has none for this terminal
	quickPath             // qPBOC: decided at GPO, money with the last record
	fullPath              // debit and credit: decided by GENERATE AC
	cashPath              // e-cash by contact: the same, money from the balance
)

// A transaction is everything volatile since GPO.
type transaction struct {
	path    path
	options pboc.Options
	sm      bool         // the terminal reads the SM2 chain
	pdol    []byte       // values as sent, for combined signatures
	values  []emv.Values // of PDOL and CDOLs, the latest last
	e       *ecash
	charge  charge
	cvr     pboc.CVR

	pending bool         // approved; money goes with the last record
	last    emv.RecordID // the last record of the file locator
	ac      [8]byte
	holder  industryRecord // record read before GPO: whose pre-authorisation this is
	auth    []byte         // 9F69 of fDDA version 01
	sdad    []byte         // signature that is read from a record
	contact contact
}

// terminal gives the value the terminal sent for tag, the latest one.
func (t *transaction) terminal(tag tlv.Tag) ([]byte, bool) {
	for i := len(t.values) - 1; i >= 0; i-- {
		if v, ok := t.values[i].Get(tag); ok {
			return v, true
		}
	}
	return nil, false
}

// fill copies what the terminal sent for tag into dst when the lengths agree.
func (t *transaction) fill(dst []byte, tag tlv.Tag) {
	if v, ok := t.terminal(tag); ok && len(v) == len(dst) {
		copy(dst, v)
	}
}

// covered is what the cryptogram covers of the terminal's data.
func (t *transaction) covered() (x pboc.Transaction) {
	t.fill(x.Amount[:], emv.TagAmount)
	t.fill(x.Other[:], emv.TagAmountOther)
	t.fill(x.Country[:], emv.TagTerminalCountry)
	t.fill(x.TVR[:], emv.TagTVR)
	t.fill(x.Currency[:], emv.TagCurrency)
	t.fill(x.Date[:], emv.TagDate)
	t.fill(x.Unpredictable[:], emv.TagUN)
	if v, ok := t.terminal(emv.TagType); ok && len(v) == 1 {
		x.Type = v[0]
	}
	return x
}

// amount is the amount authorised in fen; ok is false when it is no number.
func (t *transaction) amount() (uint64, bool) {
	b := t.covered().Amount
	fen, err := pboc.ParseAmount(b[:])
	return fen, err == nil
}

// processingOptions is GET PROCESSING OPTIONS: it reads the values of the PDOL,
// moves the transaction counter and takes the path.
func (a *applet) processingOptions(s *card.Session, c iso7816.Command) iso7816.Response {
	if c.P1 != 0 || c.P2 != 0 {
		return fails(iso7816.SWP1P2)
	}
	t, sw := a.begin(s, c)
	if sw != iso7816.OK {
		return fails(sw)
	}
	t.path = a.way(s, &t)
	if t.path == quickPath && a.byteAt(atLife) == blocked {
		return fails(iso7816.SWConditions)
	}
	if sw := a.nextATC(s); sw != iso7816.OK {
		return fails(sw)
	}
	a.tx = t
	switch t.path {
	case deadPath:
		return fails(iso7816.SWConditions)
	case quickPath:
		return a.quick(s)
	}
	return a.contactOptions(s)
}

// begin checks the command against the PDOL of the interface (CARD 1.3).
func (a *applet) begin(s *card.Session, c iso7816.Command) (t transaction, sw iso7816.SW) {
	fci := a.fci(s)
	if a.tx.path != noPath || a.atc() == 0xFFFF || fci == nil {
		return t, iso7816.SWConditions
	}
	raw, _ := tlv.Find(fci, emv.TagPDOL)
	list, err := emv.ParseDOL(raw)
	if err != nil {
		return t, iso7816.SWConditions
	}
	n, head := list.Len(), 2
	if n > 0x7F {
		head = 3
	}
	switch {
	case len(c.Data) != head+n:
		return t, iso7816.SWLength
	case c.Data[0] != byte(emv.TagCommand), int(c.Data[head-1]) != n, head == 3 && c.Data[1] != 0x81:
		return t, iso7816.SWData
	}
	t.pdol = append([]byte(nil), c.Data[head:]...)
	values, err := list.Split(t.pdol)
	if err != nil {
		return t, iso7816.SWLength
	}
	t.values = []emv.Values{values}
	return t, iso7816.OK
}

func (t *transaction) ttq() (q emv.TTQ) {
	t.fill(q[:], emv.TagTTQ)
	return q
}

// way chooses the path by interface and terminal.
func (a *applet) way(s *card.Session, t *transaction) path {
	if s.Interface != card.Contact {
		switch q := t.ttq(); {
		case q.Has(emv.TTQFull) && a.given(givenContact):
			return fullPath
		case q.Has(emv.TTQQuick):
			return quickPath
		}
		return deadPath
	}
	if a.cashFits(t) {
		return cashPath
	}
	return fullPath
}

// nextATC moves the transaction counter in a unit of its own: whatever happens to
// the transaction, its cryptogram's number is used up. At its end the application
// is over. The answer kept for the last transaction goes too.
func (a *applet) nextATC(s *card.Session) iso7816.SW {
	n := a.atc() + 1
	a.cells.WriteUint16(atATC, n)
	a.clear(atBackup)
	if n == 0xFFFF {
		a.setByte(atLife, blockedForEver)
		return iso7816.SWConditions
	}
	if s.Commit() != nil {
		return iso7816.SWMemory
	}
	return iso7816.OK
}

// quick decides a qPBOC transaction and answers (CARD 1.3, 1.4).
func (a *applet) quick(s *card.Session) iso7816.Response {
	options, err := pboc.ParseOptions(blob(s, a.chooseChain(s, pboc.DGIOptions, pboc.DGIOptionsSM)))
	if err != nil {
		return fails(iso7816.SWConditions)
	}
	t := &a.tx
	t.options = options
	q, ok := a.question(s)
	if !ok {
		return fails(iso7816.SWData)
	}
	if sw := a.checkHold(); sw != iso7816.OK {
		return fails(sw)
	}
	v := decide(q)
	if v.refuse {
		return fails(iso7816.SWConditions)
	}
	t.charge.fromCash, t.charge.toTotal, t.charge.abroad = v.fromCash, v.toTotal, v.abroad
	before := a.balances(t.e)
	after := before.after(t.charge)
	if v.decision != pboc.TC {
		t.charge.mode = pboc.ModeNone
		after = before.after(t.charge)
		a.keep(after) // a prepaid card's online request; a decline charges nothing
	}
	t.cvr = pboc.NewCVR(v.decision, pboc.NotRequested) | v.cvr | a.history()
	iad := a.cryptogram(after)
	r := a.quickAnswer(s, v, iad, after)
	if v.decision != pboc.TC {
		return r
	}
	return a.approve(s, r)
}

// approve leaves the money to the last record; a card without records pays at once.
func (a *applet) approve(s *card.Session, r iso7816.Response) iso7816.Response {
	t := &a.tx
	t.pending = true
	afl, err := emv.ParseAFL(t.options.AFL)
	if err != nil {
		return fails(iso7816.SWConditions)
	}
	t.last, _ = afl.Last()
	a.capp.next = t.charge.mode != pboc.ModeNone
	return r
}

// question gathers what card risk management looks at. ok is false when the amount
// is no number.
func (a *applet) question(s *card.Session) (q question, ok bool) {
	t := &a.tx
	q = question{ttq: t.ttq(), cpp: a.processing(), newCard: a.newCard(), noTries: a.noTries(), vouched: s.Vouched(),
		cvmLimit: pboc.MaxFen}
	if q.amount, ok = t.amount(); !ok {
		return q, false
	}
	t.e, q.foreign = a.currency(q.cpp)
	t.charge = charge{mode: a.mode(), amount: q.amount}
	t.holder = a.capp.read
	if t.charge.mode == pboc.ModeComplete {
		if i, ok := a.findHold(t.holder.sfi, t.holder.id); ok && t.holder.sfi != 0 {
			t.charge.held = a.hold(i).held
		}
	}
	if fen, ok := a.fen(t.e.cvm); ok {
		q.cvmLimit = fen
	}
	q.single, q.reset = pboc.MaxFen, 0
	if fen, ok := a.fen(t.e.single); ok {
		q.single = fen
	}
	if fen, ok := a.fen(t.e.reset); ok {
		q.reset = fen
	}
	b := a.balances(t.e)
	q.usable, q.prepaid, q.total, q.totalLimit = b.usable(t.charge.mode, t.charge.held), b.have, b.total, a.totalLimit()
	q.foreignCount = a.byteAt(atForeign)
	if v := a.object(emv.TagIntlCounter); len(v) == 1 {
		q.foreignLimit = v[0]
	}
	return q, true
}

const anyECash = pboc.ProcECash | pboc.ProcECashAndTotal | pboc.ProcECashOrTotal

// currency finds the e-cash of the transaction's currency; foreign when there is
// none.
func (a *applet) currency(cpp pboc.Processing) (e *ecash, foreign bool) {
	c := a.tx.covered().Currency
	if v := a.object(firstECash.currency); string(v) == string(c[:]) {
		return firstECash, false
	}
	if v := a.object(secondECash.currency); string(v) == string(c[:]) && cpp&anyECash != 0 {
		return secondECash, false
	}
	return firstECash, true
}

// mode is what the terminal wants of the transit extension, as far as the card has
// it: only the first e-cash, and pre-authorisation only with full support.
func (a *applet) mode() pboc.Mode {
	v, ok := a.tx.terminal(emv.TagCAPPIndicator)
	have := a.object(emv.TagCAPPCard)
	if !ok || len(v) != 1 || len(have) != 1 || a.tx.e != firstECash {
		return pboc.ModeNone
	}
	m, support := pboc.ModeOf(v[0]), have[0]&^pboc.SupportRMAC
	if support == 0 || m > pboc.ModeFare && support != pboc.SupportFull {
		return pboc.ModeNone
	}
	return m
}

var histories = [...]struct {
	flag byte
	cvr  pboc.CVR
}{
	{lastOnlineOpen, pboc.CVRLastOnlineOpen}, {lastAuthFailed, pboc.CVRLastIssuerAuthFailed}, {lastNoAuth, pboc.CVRNoIssuerAuth},
	{lastScriptFailed, pboc.CVRScriptFailed}, {lastPINBlocked, pboc.CVRBlockedByPIN},
}

// history is what the last transaction left for the CVR.
func (a *applet) history() (v pboc.CVR) {
	for _, x := range histories {
		if a.flag(x.flag) {
			v |= x.cvr
		}
	}
	return v.WithScripts(int(a.byteAt(atScripts)))
}

// cryptogram computes the application cryptogram and gives the issuer application
// data with the amounts as they stand after the transaction: an issuer that sees
// only the clearing record knows the balance from it.
func (a *applet) cryptogram(b balances) pboc.IAD {
	t, atc := &a.tx, a.atc()
	c := a.cells.Bytes()[atIAD:]
	iad := pboc.IAD{DKI: c[0], CVN: c[1], CVR: t.cvr, Alg: a.algorithm(), Report: pboc.ReportID(c[3])}
	data, err := pboc.ACData(iad.CVN, t.covered(), t.options.AIP, atc, t.cvr)
	if err != nil {
		panic("qpboc: " + err.Error()) // personalisation lets no other version in
	}
	t.ac = a.session(offsetACKey).MAC(nil, data)
	if iad.Report != pboc.NoReport {
		iad.Amounts = a.report(iad.Report, b)
		iad.Sign(a.session(offsetMACKey), atc)
	}
	return iad
}

// maxSignature is the longest signature that goes into the answer to GPO; a longer
// one is read from a record (CARD 1.3).
const maxSignature = 128

// quickAnswer builds the template 77 of the three outcomes.
func (a *applet) quickAnswer(s *card.Session, v verdict, iad pboc.IAD, after balances) iso7816.Response {
	t, o := &a.tx, &a.tx.options
	atc := a.cells.Bytes()[atATC : atATC+2]
	ctq := v.ctq
	if len(o.CTQ) == len(ctq) {
		ctq[0], ctq[1] = ctq[0]|o.CTQ[0], ctq[1]|o.CTQ[1]
	}
	b := tlv.Append(make([]byte, 0, 256), emv.TagAIP, o.AIP[:])
	if v.decision == pboc.TC && len(o.AFL) > 0 {
		b = tlv.Append(b, emv.TagAFL, o.AFL)
	}
	b = tlv.Append(b, emv.TagATC, atc)
	if len(o.Track2) > 0 && (v.decision != pboc.TC || a.inRecord(s, emv.TagTrack2) == nil) {
		b = tlv.Append(b, emv.TagTrack2, o.Track2)
	}
	b = tlv.Append(b, emv.TagIAD, iad.Bytes())
	if v.decision != pboc.TC || t.charge.mode != pboc.ModeHold {
		b = tlv.Append(b, emv.TagAC, t.ac[:])
	}
	if len(o.PSN) > 0 {
		b = tlv.Append(b, emv.TagPSN, o.PSN)
	}
	b = tlv.Append(b, emv.TagCTQ, ctq[:])
	if v.decision != pboc.AAC && a.processing().Has(pboc.ProcAvailable) {
		fen := pboc.Amount(a.available(after))
		b = tlv.Append(b, emv.TagAvailable, fen[:])
	}
	if len(o.Product) > 0 {
		b = tlv.Append(b, emv.TagProduct, o.Product)
	}
	if v.decision == pboc.TC {
		if sdad := a.sign(s, ctq); len(sdad) > maxSignature {
			t.sdad = sdad
		} else if sdad != nil {
			b = tlv.Append(b, emv.TagSDAD, sdad)
		}
	}
	return answer(tlv.Append(make([]byte, 0, len(b)+4), emv.TagAnswer2, b))
}

// sign makes the signature of an approval, version 01 where both sides have it.
func (a *applet) sign(s *card.Session, ctq emv.CTQ) []byte {
	t := &a.tx
	key := a.privateKey(s)
	if key == nil {
		return nil
	}
	x := t.covered()
	f := emv.FastDDA{UN: x.Unpredictable, Amount: x.Amount, Currency: x.Currency}
	if t.ttq().Has(emv.TTQFastDDA01) && string(t.options.Version) == "\x00\x30" {
		f.Version = 1
		t.auth = make([]byte, 8)
		t.auth[0] = 1
		s.Random(t.auth[1:5])
		t.auth[5], t.auth[6] = ctq[0], ctq[1]
		if v := a.object(emv.TagCAPPCard); len(v) == 1 {
			t.auth[7] = v[0]
		}
		f.CardAuth = t.auth
	}
	var atc [2]byte
	binary.BigEndian.PutUint16(atc[:], a.atc())
	sdad, err := key.SignFastDDA(atc, f)
	if err != nil {
		return nil
	}
	return sdad
}
