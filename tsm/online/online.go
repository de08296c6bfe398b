// Package online is a transaction that the house makes with a bank card over the
// air, as the terminal and the bank at once (EMV 4.4 Book 3; CARD.md 1.9 to
// 1.11): the commands with the values a card's lists ask for, and what its
// answers mean. It knows no orders and no secrets beside the card's number,
// which is in a Heard only. Start with Deal.
package online

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"koala/calendar"
	"koala/hsm"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// ErrAnswer says that a card did not answer what a card of the house answers.
var ErrAnswer = errors.New("online: not the answer of such a card")

// TypeInquiry is the transaction type (9C) of a transaction that moves no money:
// the bank only proves itself and sends commands (DOMAIN.md 6).
const TypeInquiry = 0x31

// Where the house's bank cards keep the lists for GENERATE AC.
const (
	listsSFI    = 5
	listsRecord = 1
)

// A Deal is what the house says of a transaction.
type Deal struct {
	Fen  uint64
	Type byte // 9C
	UN   [4]byte
	At   time.Time
}

// Approved is the response code (8A) of what the bank agrees to.
var Approved = [2]byte{'0', '0'}

// china is both country and currency (n3 in two bytes).
var china = []byte{0x01, 0x56}

// merchant fills 9F4E, 20 bytes: the card's logs show where it was loaded.
const merchant = "KOALA OVER THE AIR  "

// value gives the object a card's list asks for, nil for what the house has
// not: 9F66 with full PBOC only, for an agent that speaks to the card over its
// antenna; 9F7A 00, because the bank is asked and not the e-cash.
func (d Deal) value(tag tlv.Tag) []byte {
	switch tag {
	case emv.TagAmount:
		b := pboc.Amount(d.Fen)
		return b[:]
	case emv.TagTerminalCountry, emv.TagCurrency:
		return china
	case emv.TagDate:
		return digits(d.At, "060102")
	case emv.TagTime:
		return digits(d.At, "150405")
	case emv.TagType:
		return []byte{d.Type}
	case emv.TagUN:
		return d.UN[:]
	case emv.TagTTQ:
		return []byte{0x40, 0, 0, 0}
	case emv.TagARC:
		return Approved[:]
	case emv.TagMerchantName:
		return []byte(merchant)
	case emv.TagECIndicator:
		return []byte{0}
	}
	return nil
}

// digits is a moment in Beijing in BCD, by a layout of digits.
func digits(t time.Time, layout string) []byte {
	b, err := hex.DecodeString(t.In(calendar.Beijing).Format(layout))
	if err != nil {
		panic("online: a layout of digits")
	}
	return b
}

// Lists are those of one card: what it wants to know for GET PROCESSING OPTIONS
// and for both GENERATE AC.
type Lists struct{ PDOL, CDOL1, CDOL2 emv.DOL }

// ReadLists reads the record with the lists for GENERATE AC, which cards of the
// house give right after SELECT.
func ReadLists() iso7816.Command { return iso7816.ReadRecord(listsRecord, listsSFI, 0) }

// ParseLists takes the lists from the answers to SELECT and ReadLists.
func ParseLists(fci, record []byte) (l Lists, err error) {
	for _, x := range []struct {
		in  []byte
		tag tlv.Tag
		to  *emv.DOL
	}{{fci, emv.TagPDOL, &l.PDOL}, {record, emv.TagCDOL1, &l.CDOL1}, {record, emv.TagCDOL2, &l.CDOL2}} {
		raw, ok := tlv.Find(x.in, x.tag)
		if !ok {
			return Lists{}, fmt.Errorf("%w: no list %v", ErrAnswer, x.tag)
		}
		if *x.to, err = emv.ParseDOL(raw); err != nil {
			return Lists{}, fmt.Errorf("%w: %w", ErrAnswer, err)
		}
	}
	return l, nil
}

// Bytes codes the lists: 9F38, 8C and 8D as TLV.
func (l Lists) Bytes() []byte {
	b := tlv.Append(nil, emv.TagPDOL, l.PDOL.Bytes())
	return tlv.Append(tlv.Append(b, emv.TagCDOL1, l.CDOL1.Bytes()), emv.TagCDOL2, l.CDOL2.Bytes())
}

// Options is GET PROCESSING OPTIONS with the deal's values.
func (d Deal) Options(pdol emv.DOL) iso7816.Command {
	return iso7816.Command{CLA: 0x80, INS: pboc.InsGPO, Data: tlv.Append(nil, emv.TagCommand, pdol.Append(nil, d.value))}
}

// GenerateAC is the first GENERATE AC.
func (d Deal) GenerateAC(want pboc.Cryptogram, cdol1 emv.DOL) iso7816.Command {
	return generateAC(want, cdol1, d.value)
}

// Authenticate is INTERNAL AUTHENTICATE with the deal's values for a DDOL.
func (d Deal) Authenticate(ddol emv.DOL) iso7816.Command {
	return iso7816.Command{INS: iso7816.InsInternalAuthenticate, Data: ddol.Append(nil, d.value)}
}

func generateAC(want pboc.Cryptogram, list emv.DOL, get func(tlv.Tag) []byte) iso7816.Command {
	return iso7816.Command{CLA: 0x80, INS: pboc.InsGenerateAC, P1: want.CID(), Data: list.Append(nil, get)}
}

// A Heard is a first GENERATE AC as the card answered it. It holds the card's
// number and is not to be stored.
type Heard struct {
	hsm.Cryptogram
	CID    byte
	values emv.Values // what the card was told
}

// Hear puts together what a cryptogram covers: the answer to GET PROCESSING
// OPTIONS, the data sent with GENERATE AC for cdol1, and its answer in format 1,
// CID 1 | ATC 2 | AC 8 | 9F10. Nothing of it is verified.
func Hear(card hsm.BankCard, options, answer []byte, cdol1 emv.DOL, sent []byte) (h Heard, err error) {
	o, ok := tlv.Find(options, emv.TagAnswer1)
	a, ok2 := tlv.Find(answer, emv.TagAnswer1)
	if !ok || !ok2 || len(o) < 2 || len(a) < 11 {
		return h, fmt.Errorf("%w: no cryptogram", ErrAnswer)
	}
	if h.values, err = cdol1.Split(sent); err != nil {
		return h, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	h.CID = a[0]
	h.Cryptogram = hsm.Cryptogram{PAN: card.PAN, PSN: card.PSN, ATC: binary.BigEndian.Uint16(a[1:]), AC: [8]byte(a[3:]), IAD: a[11:], AIP: [2]byte(o)}
	t := &h.Data
	for _, x := range []struct {
		tag tlv.Tag
		to  []byte
	}{{emv.TagAmount, t.Amount[:]}, {emv.TagAmountOther, t.Other[:]}, {emv.TagTerminalCountry, t.Country[:]}, {emv.TagTVR, t.TVR[:]},
		{emv.TagCurrency, t.Currency[:]}, {emv.TagDate, t.Date[:]}, {emv.TagUN, t.Unpredictable[:]}} {
		if v, ok := h.values.Get(x.tag); ok {
			copy(x.to, v)
		}
	}
	if v, ok := h.values.Get(emv.TagType); ok && len(v) == 1 {
		t.Type = v[0]
	}
	return h, nil
}

// Request is the cryptogram as a terminal sends it to the bank, data objects as
// in ISO 8583 field 55, with the card's number.
func (h Heard) Request() []byte {
	s := h.PAN
	if len(s)%2 != 0 {
		s += "F"
	}
	number, err := hex.DecodeString(s)
	if err != nil {
		panic("online: a card number of digits")
	}
	t := h.Data
	var b []byte
	for _, v := range []emv.Value{{Tag: emv.TagPAN, Value: number}, {Tag: emv.TagPSN, Value: []byte{h.PSN/10<<4 | h.PSN%10}},
		{Tag: emv.TagAC, Value: h.AC[:]}, {Tag: emv.TagATC, Value: binary.BigEndian.AppendUint16(nil, h.ATC)},
		{Tag: emv.TagAIP, Value: h.AIP[:]}, {Tag: emv.TagIAD, Value: h.IAD}, {Tag: emv.TagUN, Value: t.Unpredictable[:]},
		{Tag: emv.TagTVR, Value: t.TVR[:]}, {Tag: emv.TagDate, Value: t.Date[:]}, {Tag: emv.TagAmount, Value: t.Amount[:]},
		{Tag: emv.TagAmountOther, Value: t.Other[:]}, {Tag: emv.TagCurrency, Value: t.Currency[:]},
		{Tag: emv.TagTerminalCountry, Value: t.Country[:]}, {Tag: emv.TagType, Value: []byte{t.Type}}} {
		b = tlv.Append(b, v.Tag, v.Value)
	}
	return b
}

// Second ends the bank's part of the transaction: EXTERNAL AUTHENTICATE with the
// content of tag 91, and the second GENERATE AC with the values of the first and
// the response code.
func (h Heard) Second(cdol2 emv.DOL, issuerAuth []byte) [2]iso7816.Command {
	return [2]iso7816.Command{
		{INS: iso7816.InsExternalAuthenticate, Data: issuerAuth, Le: iso7816.NoLe},
		generateAC(pboc.TC, cdol2, func(tag tlv.Tag) []byte {
			if v, ok := h.values.Get(tag); ok {
				return v
			}
			return Deal{}.value(tag)
		}),
	}
}
