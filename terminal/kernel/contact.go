package kernel

import (
	"bytes"
	"encoding/binary"
	"slices"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/tlv"
	"koala/terminal"
)

// maxDirectory bounds the records of a contact directory that are read.
const maxDirectory = 10

// Insert runs a contact transaction from the first command to its end, the
// host between the two cryptograms included (Seams.Issuer). The error is the
// device's own.
func (k *Kernel) Insert(card iso7816.Transmit, tx Transaction, s Seams) (Outcome, error) {
	card = terminal.Complete(card)
	var open []combination
	for _, app := range k.cfg.Applications {
		c := combination{app: app, ttq: k.cfg.TTQ}
		c.ttq.Set(emv.TTQFull) // debit/credit in full where a card asks which path
		open = append(open, c)
	}
	if len(open) == 0 {
		return Outcome{Result: EndApplication, Reason: NoApplication, Contact: true}, nil
	}
	begin := func(c Candidate) *run { return k.newRun(card, tx, s, c.combination, true) }
	found, err := k.directory(card, open)
	if err != nil {
		return begin(Candidate{combination: open[0]}).finish(err)
	}
	return k.tryEach(chosen(found, tx, s), begin, (*run).insert)
}

// directory makes the candidate list of a contact card: from its directory,
// or by asking for each application (EMV 4.4 Book 1, 12.3).
func (k *Kernel) directory(card iso7816.Transmit, open []combination) ([]Candidate, error) {
	a, err := card(iso7816.Select([]byte(contactDirectory)))
	switch {
	case err != nil:
		return nil, end(TryAgain, Torn)
	case a.SW == iso7816.SWFunction:
		return nil, &stop{Result: EndApplication, Reason: CardBlocked, SW: a.SW}
	case !a.SW.OK():
		return k.askEach(card, open)
	}
	inside, ok := path(a.Data, emv.TagFCI, emv.TagFCIProprietary)
	o, err := flat(inside)
	sfi := o[emv.TagSFI]
	if !ok || err != nil || len(sfi) != 1 || sfi[0] < 1 || sfi[0] > 10 {
		return k.askEach(card, open)
	}
	var entries []objects
	for n := byte(1); n <= maxDirectory; n++ {
		a, err := card(iso7816.ReadRecord(n, sfi[0], 0))
		if err != nil {
			return nil, end(TryAgain, Torn)
		}
		if a.SW == iso7816.SWRecordNotFound {
			break
		}
		record, ok := path(a.Data, emv.TagRecord)
		more, err := entriesOf(record)
		if !a.SW.OK() || !ok || err != nil {
			return k.askEach(card, open)
		}
		entries = append(entries, more...)
	}
	if found := inOrder(matches(entries, open)); len(found) > 0 {
		return found, nil
	}
	return k.askEach(card, open)
}

// chosen puts the application that the cardholder wants first. Without his
// word those that need it are left out.
func chosen(found []Candidate, tx Transaction, s Seams) []Candidate {
	if s.Choose != nil && len(found) > 0 {
		i := s.Choose(found)
		if i < 0 || i >= len(found) {
			return nil
		}
		return append([]Candidate{found[i]}, slices.Delete(slices.Clone(found), i, i+1)...)
	}
	var first, rest []Candidate
	for _, c := range found {
		switch {
		case tx.Chosen != nil && bytes.Equal(c.AID, tx.Chosen):
			first = append(first, c)
		case !c.Confirm:
			rest = append(rest, c)
		}
	}
	return append(first, rest...)
}

// insert runs contact EMV with the application selected (EMV 4.4 Book 3, 10).
func (r *run) insert() error {
	if r.app.ECash {
		r.term[emv.TagECIndicator] = []byte{0x01}
	}
	if err := r.initiate(); err != nil {
		return err
	}
	if err := r.recognise(); err != nil {
		return err
	}
	for _, tag := range []tlv.Tag{emv.TagExpiry, emv.TagPAN, emv.TagCDOL1, emv.TagCDOL2} {
		if !r.has(tag) {
			return errCard
		}
	}
	if len(r.icc[emv.TagExpiry]) != 3 {
		return errCard
	}
	if err := r.authenticate(); err != nil {
		return err
	}
	if err := r.restrict(); err != nil {
		return err
	}
	if err := r.verifyHolder(); err != nil {
		return err
	}
	if err := r.weighRisk(); err != nil {
		return err
	}
	return r.actions()
}

// initiate sends GET PROCESSING OPTIONS and reads the records (Book 3, 10.1,
// 10.2).
func (r *run) initiate() error {
	c, err := r.optionsCommand()
	if err != nil {
		return err
	}
	data, err := r.ask(c, SelectNext)
	if err != nil {
		if s, ok := err.(*stop); ok && s.Reason == CardRefused && s.SW != iso7816.SWConditions {
			s.Result = EndApplication
		}
		return err
	}
	tag, val, rest, err := tlv.Next(data)
	switch {
	case err != nil || len(rest) != 0:
		return errCard
	case tag == emv.TagAnswer1 && len(val) > 2:
		r.icc[emv.TagAIP], r.icc[emv.TagAFL] = val[:2], val[2:]
	case tag == emv.TagAnswer2:
		if err := r.putAll(val); err != nil {
			return err
		}
	default:
		return errCard
	}
	ids, err := r.located()
	if err != nil || len(r.icc[emv.TagAIP]) != 2 {
		return errCard
	}
	r.aip = emv.AIP(r.icc[emv.TagAIP])
	return r.readRecords(ids)
}

// telling fills the objects of a list with what both sides know now.
func (r *run) telling(list []byte) ([]byte, error) {
	dol, err := emv.ParseDOL(list)
	if err != nil || dol.Len() > emv.MaxDOLData {
		return nil, errCard
	}
	r.term[emv.TagTVR], r.term[emv.TagTSI], r.term[emv.TagCVMResults] = bytes.Clone(r.tvr[:]), bytes.Clone(r.tsi[:]), bytes.Clone(r.cvm[:])
	return dol.Append(nil, r.get), nil
}

// cryptogram is a card's answer to GENERATE AC.
type cryptogram struct {
	cid  emv.CID
	sdad []byte
	raw  []byte // content of template 77, for the combined signature
}

// generate asks for a cryptogram and takes it: 80 with CID, ATC, AC and 9F10,
// or 77 with objects (Book 3, 6.5.5.4).
func (r *run) generate(kind byte, values []byte) (cryptogram, error) {
	data, err := r.ask(iso7816.Command{CLA: 0x80, INS: insGenerateAC, P1: kind, Data: values}, EndApplication)
	if err != nil {
		return cryptogram{}, err
	}
	tag, val, rest, err := tlv.Next(data)
	if err != nil || len(rest) != 0 {
		return cryptogram{}, errCard
	}
	o := objects{}
	switch {
	case tag == emv.TagAnswer1 && len(val) >= 11 && len(val) <= 11+32:
		o[emv.TagCID], o[emv.TagATC], o[emv.TagAC] = val[:1], val[1:3], val[3:11]
		if len(val) > 11 {
			o[emv.TagIAD] = val[11:]
		}
	case tag == emv.TagAnswer2:
		if o, err = flat(val); err != nil {
			return cryptogram{}, err
		}
	default:
		return cryptogram{}, errCard
	}
	c := cryptogram{sdad: o[emv.TagSDAD], raw: val}
	if len(o[emv.TagCID]) != 1 || len(o[emv.TagATC]) != 2 || len(o[emv.TagAC]) != 8 && c.sdad == nil || len(o[emv.TagIAD]) > 32 {
		return cryptogram{}, errCard
	}
	if c.cid = emv.CID(o[emv.TagCID][0]); c.cid.Kind() == 0xC0 {
		return cryptogram{}, errCard
	}
	if known, ok := r.icc[emv.TagATC]; ok && !bytes.Equal(known, o[emv.TagATC]) {
		return cryptogram{}, errCard // it counts once a transaction
	}
	for _, tag := range []tlv.Tag{emv.TagCID, emv.TagATC, emv.TagAC, emv.TagIAD} {
		if v, ok := o[tag]; ok {
			r.icc[tag] = v
		}
	}
	r.out.CID = c.cid.Kind()
	return c, nil
}

// restrict holds the application against the terminal, the date and the kind
// of sale (Book 3, 10.4).
func (r *run) restrict() error {
	if v := r.icc[emv.TagVersion]; r.has(emv.TagVersion) && !bytes.Equal(v, r.app.Version[:]) {
		r.tvr.Set(emv.TVRVersions)
	}
	if v := r.icc[emv.TagUsage]; len(v) == 2 && !r.allowed(emv.AUC(v)) {
		r.tvr.Set(emv.TVRServiceNotAllowed)
	}
	today := r.today()
	if v := r.icc[emv.TagEffective]; len(v) == 3 && later(v, today[:]) {
		r.tvr.Set(emv.TVRNotYetEffective)
	}
	if r.expired() {
		r.tvr.Set(emv.TVRExpired)
	}
	return nil
}

// Transaction types, tag 9C.
const (
	typeCash     = 0x01
	typeCashback = 0x09
)

// allowed applies the usage control (Book 3, 10.4.2). Without the issuer's
// country only the place counts.
func (r *run) allowed(auc emv.AUC) bool {
	if r.k.atm() && !auc.Has(emv.AUCATM) || !r.k.atm() && !auc.Has(emv.AUCNotATM) {
		return false
	}
	country, ok := r.icc[emv.TagIssuerCountry]
	if !ok {
		return true
	}
	home := bytes.Equal(country, r.term[emv.TagTerminalCountry])
	either := func(domestic, foreign emv.AUCBit) bool {
		if home {
			return auc.Has(domestic)
		}
		return auc.Has(foreign)
	}
	goods := either(emv.AUCDomesticGoods, emv.AUCForeignGoods) || either(emv.AUCDomesticServices, emv.AUCForeignServices)
	switch r.tx.Type {
	case typeCash:
		return either(emv.AUCDomesticCash, emv.AUCForeignCash)
	case typeCashback:
		return goods && either(emv.AUCDomesticCashback, emv.AUCForeignCashback)
	case typeGoods:
		return goods
	}
	return true
}

const typeGoods = 0x00

// atm says whether the terminal is one of a bank's that gives cash: type 14,
// 15 or 16 and cash among its abilities (EMV 4.4 Book 4, A1).
func (k *Kernel) atm() bool {
	return k.cfg.Type >= 0x14 && k.cfg.Type <= 0x16 && k.cfg.MoreCapabilities[0]&0x80 != 0
}

// atcOf reads a two-byte counter; false when the card does not give it.
func (r *run) atcOf(tag tlv.Tag) (uint16, bool, error) {
	v, ok, err := r.readData(tag)
	if err != nil || !ok || len(v) != 2 {
		return 0, false, err
	}
	return binary.BigEndian.Uint16(v), true, nil
}
