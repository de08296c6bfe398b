package unionpay

import (
	"errors"
	"fmt"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
	"koala/terminal/kernel"
	"koala/terminal/pos"
)

// A Chip is what the card's side of a transaction came to.
type Chip = pos.Result

// Objects of field 55, by section 7 of the protocol.
var (
	chipRequest = []tlv.Tag{
		emv.TagAC, emv.TagCID, emv.TagIAD, emv.TagUN, emv.TagATC, emv.TagTVR, emv.TagDate, emv.TagType, emv.TagAmount, emv.TagCurrency, emv.TagAIP,
		emv.TagTerminalCountry, emv.TagAmountOther, emv.TagCapabilities, emv.TagCVMResults, emv.TagTerminalType, emv.TagDeviceSerial, emv.TagDFName,
		emv.TagTerminalVersion, emv.TagSequence, emv.TagProduct,
	}
	chipScript   = []tlv.Tag{emv.TagCapabilities, emv.TagTVR, emv.TagUN, emv.TagDeviceSerial, emv.TagIAD, emv.TagAC, emv.TagATC, emv.TagAIP, tagScriptResult, emv.TagTerminalCountry, emv.TagDate}
	chipReversal = []tlv.Tag{emv.TagTVR, emv.TagDeviceSerial, emv.TagIAD, emv.TagATC, tagScriptResult}
	chipReceipt  = []tlv.Tag{emv.TagTSI, emv.TagLabel}
)

const tagPINData tlv.Tag = 0x99

// pick takes objects out of a field 55 in the order of a list.
func pick(chip []byte, list []tlv.Tag) []byte {
	var out []byte
	for _, tag := range list {
		if v, ok := tlv.Find(chip, tag); ok {
			out = tlv.Append(out, tag, v)
		}
	}
	return out
}

// An act is the order that the card in the reader is for.
type act struct {
	order Order
	air   bool
	entry *Entry // once the host was asked
	pin   bool   // a PIN for the host was entered
	err   error  // of the line
}

// Tap serves a card held to the reader: offline from its e-cash, or online.
func (t *Terminal) Tap(card iso7816.Transmit, o Order) (Result, error) {
	return t.chip(card, o, true)
}

// Insert serves a card in the contact reader.
func (t *Terminal) Insert(card iso7816.Transmit, o Order) (Result, error) {
	return t.chip(card, o, false)
}

func (t *Terminal) chip(card iso7816.Transmit, o Order, air bool) (Result, error) {
	res, err := t.serve(card, o, air)
	if err != nil {
		return res, t.failed(err)
	}
	return res, nil
}

// byChip are the kinds whose card takes part.
func byChip(k Kind) bool {
	switch k {
	case Balance, Sale, PreAuth, Instalment, Points, Load, LoadOther, LoadCash:
		return true
	}
	return false
}

// serve runs a card. What is pending goes to the host first if the line is
// there; without a line a tap may still pay offline, unless a reversal waits
// or keys are wanting: then the host is not asked.
func (t *Terminal) serve(card iso7816.Transmit, o Order, air bool) (res Result, err error) {
	if !byChip(o.Kind) {
		return res, ErrOrder
	}
	if o.Kind != Balance && (o.Fen == 0 || o.Fen > maxFen || t.packs.parameters.over(o.Kind, o.Fen)) {
		return res, ErrLimit
	}
	if err := t.ready(false); err != nil {
		return res, err
	}
	if o.Kind != Sale {
		if err := t.ready(true); err != nil {
			return res, err
		}
	}
	t.act = &act{order: o, air: air}
	defer func() { t.act = nil }()
	if o.Kind.load() {
		return t.load(card)
	}
	sale := pos.Sale{Fen: o.Fen, Type: pos.Goods, ForceOnline: o.Kind != Sale}
	run := t.till.Insert
	if air {
		run = t.till.Tap
	}
	chip, err := run(card, sale)
	if err != nil {
		return res, err
	}
	out := &chip.Outcome
	t.fallback = !air && out.Result == kernel.EndApplication && (out.Reason == kernel.CardError || out.Reason == kernel.CardRefused || out.Reason == kernel.NoApplication)
	e := t.act.entry
	if e == nil {
		return t.offline(chip)
	}
	return t.online(e, chip)
}

// offline is the end of a card that the host was not asked about.
func (t *Terminal) offline(chip Chip) (Result, error) {
	res := Result{Entry: t.tapEntry(chip), Approved: chip.Outcome.Result == kernel.Approved, Chip: &chip}
	if err := t.absorb(); err != nil {
		return res, err
	}
	if chip.Record != nil {
		for _, e := range t.journal.list {
			if e.Till == chip.Record.Number && e.Kind == TapSale {
				res.Entry = e.copy()
			}
		}
	}
	if !res.Approved {
		return res, t.act.err
	}
	return res, nil
}

// tapEntry is what a receipt says of a card that the host was not asked about.
func (t *Terminal) tapEntry(chip Chip) *Entry {
	e := &Entry{Kind: t.act.order.Kind, Batch: t.book.batch, CVM: chip.Outcome.CVM}
	if chip.Outcome.Result == kernel.Approved {
		e.State = Done
	}
	e.set(4, fmt.Sprintf("%012d", t.act.order.Fen))
	e.set(2, chip.Outcome.PAN)
	t.stamp(e)
	return e
}

// online is the end of a card that the host was asked about: final if both
// agree, reversed if the host approved and the card did not take it.
func (t *Terminal) online(e *Entry, chip Chip) (Result, error) {
	o := &chip.Outcome
	res := Result{Entry: e, Code: e.Get(39), Chip: &chip}
	e.CVM = o.CVM
	if e.Kind == Balance {
		res.Approved = Approves(res.Code)
		return res, t.act.err
	}
	switch {
	case t.act.err != nil && o.Result == kernel.Approved:
		return t.offline(chip) // the card and the till agreed without the host
	case t.act.err != nil, !Approves(res.Code):
		return res, t.act.err // waiting for its reversal, or dropped
	}
	e.fields[55] = t.final(e, o)
	if o.Result != kernel.Approved {
		return res, t.undo(e, "06")
	}
	done, err := t.approve(e)
	done.Chip = &chip
	return done, err
}

// final is field 55 after the card's last word: its certificate, what the
// receipt shows, and what became of scripts.
func (t *Terminal) final(e *Entry, o *kernel.Outcome) []byte {
	var out []byte
	for _, tag := range append(append([]tlv.Tag{}, chipRequest...), chipReceipt...) {
		v := o.Get(tag)
		switch {
		case tag == emv.TagCID && v == nil:
			v = []byte{o.CID}
		case tag == emv.TagTVR:
			v = o.TVR[:]
		case tag == emv.TagTSI:
			v = o.TSI[:]
		}
		if v != nil {
			out = tlv.Append(out, tag, v)
		}
	}
	var results []byte
	for _, s := range o.Scripts {
		results = append(results, scriptResult(s)...)
	}
	if results != nil {
		out = tlv.Append(out, tagScriptResult, results)
	}
	if len(out) > fieldMax[55] {
		return e.fields[55]
	}
	return out
}

// scriptResult is DF31: 2n, the n-th command was the last that ran well; 1n, the
// n-th failed; 00 none ran; then the script's identifier.
func scriptResult(s kernel.ScriptResult) []byte {
	b := s.Bytes()
	if s.OK() {
		b[0] = 0x20 | byte(min(s.Done, 15))
	}
	return b
}

// scriptDone is the result of a load whose one command the card took.
var scriptDone = []byte{0x21, 0, 0, 0, 0}

// onlinePIN asks for the PIN that the host is to check.
func (t *Terminal) onlinePIN(pan string) ([]byte, bool) {
	if t.cfg.PIN == nil || t.act == nil {
		return nil, false
	}
	entered, ok := t.cfg.PIN(t.act.order.Fen)
	if !ok {
		return nil, false
	}
	block, err := t.cfg.Keys.PINBlock(entered, pan)
	t.act.pin = err == nil
	return block, err == nil
}

// issuer asks the host for a card: the seam of the till.
func (t *Terminal) issuer(request []byte) (kernel.Answer, error) {
	a := t.act
	if a == nil {
		return kernel.Answer{}, ErrOrder
	}
	answer, err := t.askFor(a, request)
	if err != nil {
		a.err = err
		return kernel.Answer{}, err
	}
	return answer, nil
}

func (t *Terminal) askFor(a *act, request []byte) (kernel.Answer, error) {
	if err := t.ready(true); err != nil {
		return kernel.Answer{}, err
	}
	e, s, err := t.chipEntry(a, request)
	if err != nil {
		return kernel.Answer{}, err
	}
	a.entry = e
	if e.STAN, err = t.book.stan(); err != nil {
		return kernel.Answer{}, err
	}
	var approved bool
	var raw []byte
	if e.Kind == Balance {
		res, err := t.inquire(e, s)
		if err != nil {
			return kernel.Answer{}, err
		}
		approved = res.Approved
	} else if approved, err = t.ask(e, s); err != nil {
		if errors.Is(err, ErrNotSent) {
			a.entry = nil
		}
		return kernel.Answer{}, err
	}
	raw = t.answered
	if approved && e.Kind.load() { // from here on the card may get the script
		if err := t.journal.begin(e); err != nil {
			return kernel.Answer{}, err
		}
	}
	return kernelAnswer(e.Get(39), raw), nil
}

// kernelAnswer is what the card is told: the response code its issuer meant,
// and the issuer's objects of field 55.
func kernelAnswer(code string, chip []byte) kernel.Answer {
	a := kernel.Answer{ARC: code}
	if v, ok := tlv.Find(chip, emv.TagARC); ok && len(v) == 2 {
		a.ARC = string(v)
	}
	if Approves(code) && !a.Approves() {
		a.ARC = "00"
	}
	for in := chip; len(in) > 0; {
		tag, v, rest, err := tlv.Next(in)
		if err != nil {
			return kernel.Answer{ARC: a.ARC}
		}
		if tag == emv.TagIssuerAuth || tag == emv.TagScript1 || tag == emv.TagScript2 {
			a.Data = tlv.Append(a.Data, tag, v)
		}
		in = rest
	}
	return a
}

// chipEntry makes the entry of a request that the kernel puts together: field
// 55 with 57 or 5A, 5F34 and the PIN block among its objects.
func (t *Terminal) chipEntry(a *act, request []byte) (e *Entry, s secret, err error) {
	get := func(tag tlv.Tag) []byte { v, _ := tlv.Find(request, tag); return v }
	e = &Entry{Kind: a.order.Kind, State: Asked, Batch: t.book.batch}
	if track := upper(get(emv.TagTrack2)); track != "" {
		if n := len(track); track[n-1] == 'F' {
			track = track[:n-1]
		}
		s.track2 = track
		if err := trackCard(e, track); err != nil {
			return nil, s, err
		}
		if t.cfg.SealTracks {
			if err := s.seal(t.cfg.Keys); err != nil {
				return nil, s, err
			}
		}
	} else if pan := upper(get(emv.TagPAN)); pan != "" {
		for pan != "" && pan[len(pan)-1] == 'F' {
			pan = pan[:len(pan)-1]
		}
		e.set(2, pan)
	}
	if v := get(emv.TagPSN); len(v) == 1 {
		e.set(23, fmt.Sprintf("%03X", v[0]))
	} else {
		e.set(23, "000")
	}
	if e.Kind != Balance {
		e.set(4, fmt.Sprintf("%012d", a.order.Fen))
	}
	mode, pin := "05", "2"
	if a.air {
		mode = "07"
	}
	if s.pin = get(tagPINData); s.pin != nil {
		pin = "1"
	}
	e.set(22, mode+pin)
	e.fields[55] = pick(request, chipRequest)
	if v := get(emv.TagSequence); len(v) == 4 {
		e.Till = uint32(number(upper(v)))
	}
	t.stamp(e)
	if e.Kind == LoadOther {
		return e, s, t.payer(e, &s, a.order)
	}
	return e, s, t.terms(e, a.order)
}

// terms adds what some kinds need besides the card.
func (t *Terminal) terms(e *Entry, o Order) error {
	if e.Kind != Instalment {
		return nil
	}
	v, err := o.Terms.field62()
	e.set(62, v)
	return err
}

// payer puts the card that pays for a load in the place of the one that is
// loaded, whose number goes into field 62.
func (t *Terminal) payer(e *Entry, s *secret, o Order) (err error) {
	loaded, mode := e.Get(2), e.Get(22)
	e.set(14, "")
	if *s, err = t.present(e, o.Card); err != nil {
		return err
	}
	e.set(22, mode[:2]+e.Get(22)[2:])
	e.set(62, fmt.Sprintf("%-19s", loaded))
	return nil
}

// trackCard reads number and expiry of track 2 as a chip gives it.
func trackCard(e *Entry, track string) error {
	for i := range len(track) {
		if track[i] == 'D' && i >= 12 && i <= 19 && len(track) >= i+5 && digits(track[:i]) && digits(track[i+1:i+5]) {
			e.set(2, track[:i])
			e.set(14, track[i+1:i+5])
			return nil
		}
	}
	return ErrOrder
}

// absorb takes the chip approvals of the till that the journal lacks into the
// batch, to be sent.
func (t *Terminal) absorb() error {
	b := t.till.Batch(pboc.MaxClearingBatch)
	for i, c := range b.Records {
		number := b.First + uint32(i)
		if c.Kind != pboc.ClearSale || t.journal.absorbed(number) {
			continue
		}
		e := &Entry{Kind: TapSale, State: Due, Batch: t.book.batch, Till: number}
		e.set(2, c.PAN)
		e.set(4, fmt.Sprintf("%012d", c.Fen))
		clock, date := chipTime(c)
		e.set(12, clock)
		e.set(13, date)
		if e.set(22, "982"); t.act != nil && !t.act.air {
			e.set(22, "052")
		}
		e.set(23, fmt.Sprintf("%03d", c.PSN))
		e.fields[55] = chipOf(c)
		var err error
		if e.STAN, err = t.book.stan(); err != nil {
			return err
		}
		if err := t.journal.keep(e); err != nil {
			return err
		}
	}
	return nil
}

// chipOf is field 55 of an approval that a card gave offline.
func chipOf(c pboc.Clearing) []byte {
	var out []byte
	for _, tag := range append(append([]tlv.Tag{}, chipRequest...), emv.TagECIssuerCode) {
		v := c.Get(tag)
		if tag == emv.TagCID {
			v = []byte{emv.TC}
		}
		if v != nil {
			out = tlv.Append(out, tag, v)
		}
	}
	return out
}
