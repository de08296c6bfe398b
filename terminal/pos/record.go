package pos

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"time"

	"koala/spec/emv"
	"koala/spec/pboc"
	"koala/spec/tlv"
	"koala/terminal/kernel"
)

// unknownIAD stands in an intent for 9F10 that the card has not given yet.
var unknownIAD = []byte{0x00}

// clearing makes the record of an outcome. Of an intent the cryptogram and
// 9F10 mean nothing where the card has not given them yet.
func (t *Till) clearing(o *kernel.Outcome, kind pboc.ClearingKind, stan uint32) (pboc.Clearing, error) {
	c := pboc.Clearing{
		Kind: kind, PAN: o.PAN, PSN: o.PSN, AID: o.Get(emv.TagDFName), IAD: o.Get(emv.TagIAD), STAN: stan, Batch: t.book.batch,
		TID: t.cfg.Kernel.TerminalID, MID: t.cfg.Kernel.MerchantID, Serial: t.cfg.Kernel.Serial,
		Currency: t.cfg.Kernel.Currency, Country: t.cfg.Kernel.Country, Capabilities: t.cfg.Kernel.Capabilities,
	}
	if c.IAD == nil {
		c.IAD = unknownIAD
	}
	for _, x := range []struct {
		to  []byte
		tag tlv.Tag
	}{
		{c.AC[:], emv.TagAC}, {c.AIP[:], emv.TagAIP}, {c.UN[:], emv.TagUN}, {c.TVR[:], emv.TagTVR}, {c.Date[:], emv.TagDate},
		{c.Time[:], emv.TagTime}, {c.CVMResults[:], emv.TagCVMResults},
	} {
		copy(x.to, o.Get(x.tag))
	}
	if v := o.Get(emv.TagATC); len(v) == 2 {
		c.ATC = binary.BigEndian.Uint16(v)
	}
	if v := o.Get(emv.TagType); len(v) == 1 {
		c.Type = v[0]
	}
	c.Fen, c.Other = decimal(o.Get(emv.TagAmount)), decimal(o.Get(emv.TagAmountOther))
	if v := o.Get(emv.TagProduct); len(v) == 16 {
		c.Product = v
	}
	if v := o.Get(emv.TagECIssuerCode); len(v) == 6 {
		c.IssuerCode = v
	}
	return c, c.Validate()
}

func decimal(bcd []byte) uint64 {
	n, err := strconv.ParseUint(hex.EncodeToString(bcd), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// doubt finds a torn offline sale of a card.
func (t *Till) doubt(pan string, psn byte) (kernel.Doubt, bool) {
	for _, u := range t.shelf.Unsettled() {
		c := parsed(u.Wire)
		if c.Kind == pboc.ClearSale && c.PAN == pan && c.PSN == psn && !u.Paid {
			return kernel.Doubt{ATC: c.ATC, Fen: c.Fen, Date: c.Date, Time: c.Time, Key: c.Key()}, true
		}
	}
	return kernel.Doubt{}, false
}

// intent gives the unsettled record with that key.
func (t *Till) intent(key string) (pboc.Clearing, bool) {
	for _, u := range t.shelf.Unsettled() {
		if c := parsed(u.Wire); c.Key() == key {
			return c, true
		}
	}
	return pboc.Clearing{}, false
}

// settle ends a doubt by what the card's log says. A card that paid and is
// back for the same sale has bought it; one that is back for something else
// gets its money back; one that did not pay pays now.
func (a *act) settle(d kernel.Doubt, f kernel.Found) (accept bool, err error) {
	c, ok := a.t.intent(d.Key)
	if !ok {
		return false, nil
	}
	switch f {
	case kernel.FoundUnpaid:
		return false, a.t.shelf.Settle(d.Key)
	case kernel.FoundNothing:
		return false, nil // it stays for the host
	}
	same := a.sale.Type == Goods && d.Fen == a.sale.Fen && a.recent(c)
	if string(c.IAD) == string(unknownIAD) {
		return same, a.t.unproved(a, c, same)
	}
	if same {
		a.recovered, err = a.t.keep(c)
		return err == nil, err
	}
	if _, err := a.t.keep(undo(c)); err != nil {
		return false, err
	}
	return false, a.t.shelf.Settle(d.Key)
}

// unproved leaves to the host a payment whose cryptogram left with the card:
// the log proves it to the card's issuer only. The kind of the doubt says
// whether the goods were given.
func (t *Till) unproved(a *act, c pboc.Clearing, given bool) error {
	if given {
		a.recovered = &Numbered{Clearing: c}
		return t.shelf.Paid(c.Key())
	}
	back := undo(c)
	wire, err := back.MarshalBinary()
	if err == nil {
		err = t.shelf.Begin(wire)
	}
	if err == nil {
		err = t.shelf.Paid(back.Key())
	}
	if err == nil {
		err = t.shelf.Settle(c.Key())
	}
	return err
}

// recent says whether a torn sale may still be waiting for its card.
func (a *act) recent(c pboc.Clearing) bool {
	at, err := c.Moment(zoneOf(a.t.cfg.Kernel))
	return err == nil && a.at.Sub(at) <= a.t.cfg.Again && at.Sub(a.at) <= a.t.cfg.Again
}

func zoneOf(c kernel.Config) *time.Location {
	if c.Zone == nil {
		return time.FixedZone("CST", 8*3600)
	}
	return c.Zone
}

// finishOld ends what a power failure left open: a host that was asked is told
// to take it back, and a sale whose reversal is kept is over. Torn offline
// sales and loads wait for their card.
func (t *Till) finishOld() error {
	type transaction struct {
		pan string
		atc uint16
	}
	done := map[transaction]bool{}
	for _, item := range t.shelf.Batch(t.shelf.Waiting()) {
		c := parsed(item.Wire)
		done[transaction{c.PAN, c.ATC}] = true
	}
	all := t.shelf.Unsettled()
	for _, u := range all {
		c := parsed(u.Wire)
		if c.Kind == pboc.ClearReversal { // its sale is over: see unproved
			done[transaction{c.PAN, c.ATC}] = true
			if err := t.shelf.Paid(c.Key()); err != nil {
				return err
			}
		}
	}
	for _, u := range all {
		c := parsed(u.Wire)
		if c.Kind == pboc.ClearReversal {
			continue
		}
		over := done[transaction{c.PAN, c.ATC}]
		if asked := c.Kind == pboc.ClearOnline && c.Type != Load; asked && !over {
			if _, err := t.keep(undo(c)); err != nil {
				return err
			}
			over = true
		}
		if over {
			if err := t.shelf.Settle(c.Key()); err != nil {
				return err
			}
		}
	}
	return nil
}

// Doubts are the records without a known end: torn sales whose card has not
// come back, and loads whose script nobody saw arrive. Paid says that the
// card's log shows the payment but its cryptogram is lost: the kind is then
// ClearSale if the goods were given after all and ClearReversal if not.
func (t *Till) Doubts() []Doubt {
	var out []Doubt
	for _, u := range t.shelf.Unsettled() {
		out = append(out, Doubt{parsed(u.Wire), u.Paid})
	}
	return out
}

// A Doubt is a record without a known end.
type Doubt struct {
	pboc.Clearing
	Paid bool
}

// Settle takes a doubt off the till: the host has taken the case.
func (t *Till) Settle(d Doubt) error {
	if err := t.shelf.Settle(d.Key()); err != nil {
		return t.failed(err)
	}
	return nil
}
