package qpboc

import (
	"koala/card"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// An object is one data object that GET DATA reads (CARD 1.8).
type object struct {
	tag    tlv.Tag
	n      int  // bytes; of a list, at most
	put    bool // PUT DATA writes it
	amount bool // n12
	list   bool // a data object list of any length up to n
	at     int  // in the state region: length 1 | value; length 0: the card has none
}

const (
	maxLogFormat = 48
	maxLoadLog   = 24
	objectCount  = 32
)

// objects are all of them in the order of the tag, but for those the card works
// out: 9F17, 9F36 and 9F5D.
var objects, sizeState = layObjects([]object{
	{tag: emv.TagLastOnlineATC, n: 2},
	{tag: emv.TagLogFormat, n: maxLogFormat, list: true},
	{tag: emv.TagECCurrency, n: 2},
	{tag: pboc.TagDefaultAction, n: 2},
	{tag: emv.TagIntlCounter, n: 1, put: true},
	{tag: emv.TagCTTALimit, n: 6, put: true, amount: true},
	{tag: pboc.TagIssuerAuth, n: 1},
	{tag: pboc.TagIssuerCountry, n: 2},
	{tag: pboc.TagLowerOffline, n: 1, put: true},
	{tag: pboc.TagUpperOffline, n: 1, put: true},
	{tag: emv.TagCTTAUpper, n: 6, put: true, amount: true},
	{tag: emv.TagCPP, n: 4},
	{tag: emv.TagCardCVMLimit, n: 6, put: true, amount: true},
	{tag: emv.TagECReset, n: 6, put: true, amount: true},
	{tag: pboc.TagForeignCountry, n: 1, put: true},
	{tag: pboc.TagConversion, n: 4, put: true},
	{tag: pboc.TagDualTotalLimit, n: 6, put: true, amount: true},
	{tag: pboc.TagSecondaryCurrency, n: 2},
	{tag: emv.TagECBalanceLimit, n: 6, put: true, amount: true},
	{tag: emv.TagECAmountLimit, n: 6, put: true, amount: true},
	{tag: emv.TagECBalance, n: 6, put: true, amount: true},
	{tag: emv.TagLoadLogFormat, n: maxLoadLog, list: true},
	{tag: emv.TagCAPPCard, n: 1, put: true},
	{tag: emv.TagOffsetLimit, n: 6, put: true, amount: true},
	{tag: emv.TagOffsetUsed, n: 6, amount: true},
	{tag: pboc.TagCurrency2, n: 2},
	{tag: pboc.TagCVMLimit2, n: 6, put: true, amount: true},
	{tag: pboc.TagResetThreshold2, n: 6, put: true, amount: true},
	{tag: pboc.TagBalanceLimit2, n: 6, put: true, amount: true},
	{tag: pboc.TagSingleLimit2, n: 6, put: true, amount: true},
	{tag: pboc.TagBalance2, n: 6, put: true, amount: true},
})

// layObjects gives every object its place behind the rest of the state region.
func layObjects(list []object) (map[tlv.Tag]object, int) {
	at, out := atObjects, make(map[tlv.Tag]object, objectCount)
	for _, o := range list {
		o.at = at
		at += 1 + o.n
		out[o.tag] = o
	}
	return out, at
}

// object gives a stored object's value as it stands in memory; nil when the card
// has none.
func (a *applet) object(tag tlv.Tag) []byte {
	o := objects[tag]
	b := a.cells.Bytes()[o.at:]
	if b[0] == 0 {
		return nil
	}
	return b[1 : 1+int(b[0])]
}

func (a *applet) setObject(tag tlv.Tag, v []byte) {
	a.cells.Write(objects[tag].at, append([]byte{byte(len(v))}, v...))
}

// fen reads an amount object; ok tells whether the card has it.
func (a *applet) fen(tag tlv.Tag) (fen uint64, ok bool) {
	v := a.object(tag)
	if v == nil {
		return 0, false
	}
	return amountOf(v), true
}

func (a *applet) setFen(tag tlv.Tag, fen uint64) {
	v := pboc.Amount(fen)
	a.setObject(tag, v[:])
}

func (a *applet) processing() pboc.Processing {
	v := a.object(emv.TagCPP)
	if len(v) != 4 {
		return 0
	}
	return pboc.ProcessingFrom([4]byte(v))
}

// newCard tells that no online transaction was ever completed.
func (a *applet) newCard() bool {
	v := a.object(emv.TagLastOnlineATC)
	return len(v) != 2 || v[0]|v[1] == 0
}

// noTries tells that a PIN is there and locked.
func (a *applet) noTries() bool { return a.given(givenPIN) && a.byteAt(atTries) == 0 }

// getData is GET DATA 80CA: one object as TLV.
func (a *applet) getData(c iso7816.Command) iso7816.Response {
	if len(c.Data) != 0 {
		return fails(iso7816.SWLength)
	}
	tag := tlv.Tag(c.P1)<<8 | tlv.Tag(c.P2)
	var v []byte
	switch tag {
	case emv.TagPINTries:
		if a.given(givenPIN) {
			v = []byte{a.byteAt(atTries)}
		}
	case emv.TagATC:
		v = a.cells.Bytes()[atATC : atATC+2]
	case emv.TagAvailable:
		fen := pboc.Amount(a.available(a.balances(firstECash)))
		v = fen[:]
	case emv.TagLastOnlineATC:
		if v = a.object(tag); v == nil {
			v = []byte{0, 0}
		}
	default:
		if _, ok := objects[tag]; ok {
			v = a.object(tag)
		}
	}
	if v == nil {
		return fails(iso7816.SWReferenceNotFound)
	}
	return shortened(c, tlv.Append(nil, tag, v))
}

// putData is the PUT DATA script: balances follow the rules of money.go, limits
// must leave what is already there within bounds.
func (a *applet) putData(s *card.Session, c iso7816.Command) iso7816.SW {
	tag := tlv.Tag(c.P1)<<8 | tlv.Tag(c.P2)
	o, ok := objects[tag]
	switch {
	case tag == emv.TagOffsetUsed:
		return iso7816.SWP1P2
	case !ok || !o.put:
		return iso7816.SWData
	case len(c.Data) != o.n:
		return iso7816.SWLength
	case a.object(tag) == nil && (tag == emv.TagECBalance || tag == pboc.TagBalance2):
		return iso7816.SWData // an application that is not e-cash cannot be loaded
	case !o.amount:
		a.setObject(tag, c.Data)
		return iso7816.OK
	}
	fen, err := pboc.ParseAmount(c.Data)
	if err != nil {
		return iso7816.SWData
	}
	switch tag {
	case emv.TagECBalance:
		return a.load(s, firstECash, fen)
	case pboc.TagBalance2:
		return a.load(s, secondECash, fen)
	}
	if !a.limitFits(tag, fen) {
		return iso7816.SWData
	}
	a.setFen(tag, fen)
	return iso7816.OK
}

// limitFits keeps the bounds of segment fare: the offset in use stays within its
// limit, and limit and balance limit together within n12 (CARD 1.12).
func (a *applet) limitFits(tag tlv.Tag, fen uint64) bool {
	limit, _ := a.fen(emv.TagOffsetLimit)
	most, _ := a.fen(emv.TagECBalanceLimit)
	used, _ := a.fen(emv.TagOffsetUsed)
	switch tag {
	case emv.TagOffsetLimit:
		return fen >= used && fen+most <= pboc.MaxFen
	case emv.TagECBalanceLimit:
		return fen+limit <= pboc.MaxFen
	}
	return true
}

// shortened answers data, or says how long they are when another length was asked
// for.
func shortened(c iso7816.Command, data []byte) iso7816.Response {
	if c.Le > 0 && c.Le < len(data) {
		return fails(iso7816.Exact(len(data)))
	}
	return answer(data)
}
