package pboc

import (
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"

	"koala/spec/emv"
	"koala/spec/tlv"
)

// Objects of this house in a clearing record, beside those of the standards.
const (
	TagClearingKind tlv.Tag = 0xDF8101 // what the record asks for, 1 byte
	TagBatchNumber  tlv.Tag = 0xDF8102 // terminal batch number, n 6
)

// ErrClearing says that a clearing record is malformed or says what no
// approval can say.
var ErrClearing = errors.New("pboc: bad clearing record")

// MaxClearingLen bounds one record's wire form, in bytes.
const MaxClearingLen = 512

// A ClearingKind says what a clearing record asks of the host.
type ClearingKind byte

// Kinds of clearing records.
const (
	ClearSale     ClearingKind = 1 // the card paid, the goods were given: pay the merchant
	ClearReversal ClearingKind = 2 // the card paid offline, nothing was given: give the card its money back
	ClearRefund   ClearingKind = 3 // goods came back: credit the card's account
	ClearOnline   ClearingKind = 4 // the host approved it and the goods were given: complete it
	ClearCancel   ClearingKind = 5 // the host was asked and may have approved, nothing was given: release it
)

// A Clearing is one transaction that a terminal tells the host of afterwards:
// above all what it approved without one, as it goes to clearing (CARD.md 1.13): the card's cryptogram, everything that it
// signs, and where it happened. TVR, amounts and UN are what the card was
// given before it made the cryptogram, so that the host can make it again from
// the record alone. PAN, PSN and ATC name the transaction for ever; TID, batch
// and STAN do so from the terminal's end.
type Clearing struct {
	Kind ClearingKind
	PAN  string // 5A, digits, at most 19; printed masked
	PSN  byte   // 5F34, 0 to 99; 0 when the card has none
	AID  []byte // 84, 5 to 16 bytes

	AC  [8]byte // 9F26, the TC
	IAD []byte  // 9F10, at most 32 bytes
	ATC uint16  // 9F36
	AIP [2]byte // 82
	UN  [4]byte // 9F37
	TVR [5]byte // 95

	Type         byte    // 9C, BCD
	Fen, Other   uint64  // 9F02 and 9F03, minor units, 12 digits
	Currency     uint16  // 5F2A, three decimal digits: 156
	Country      uint16  // 9F1A, the same
	Date, Time   [3]byte // 9A YYMMDD, 9F21 HHMMSS, BCD, local
	Capabilities [3]byte // 9F33
	CVMResults   [3]byte // 9F34

	STAN   uint32 // 9F41, 1 to 999999
	Batch  uint32 // terminal batch, 1 to 999999
	TID    string // 9F1C, 8 characters
	MID    string // 9F16, 15 characters
	Serial string // 9F1E, 8 characters

	Product    []byte // 9F63, 16 bytes, nil when the card has none
	IssuerCode []byte // 9F74, 6 bytes, nil when the card has none
}

// String names the transaction without showing the card.
func (c Clearing) String() string {
	return fmt.Sprintf("clearing %s/%06d/%06d card %s ATC %d", c.TID, c.Batch, c.STAN, MaskPAN(c.PAN), c.ATC)
}

// GoString is String: no form of printing shows the card.
func (c Clearing) GoString() string { return c.String() }

// MaskPAN shows the first six and the last four digits of a PAN.
func MaskPAN(pan string) string {
	if len(pan) < 13 {
		return strings.Repeat("*", len(pan))
	}
	return pan[:6] + strings.Repeat("*", len(pan)-10) + pan[len(pan)-4:]
}

// Key names the transaction by the card's end and the kind of record: PAN 10
// (BCD, filled with F), PSN 1, ATC 2, kind 1. It is shorter than 32 bytes.
func (c Clearing) Key() string {
	key := make([]byte, 0, 14)
	key = append(append(key, packDigits(c.PAN, 10)...), c.PSN)
	return string(append(binary.BigEndian.AppendUint16(key, c.ATC), byte(c.Kind)))
}

// Moment is the terminal's date and time in its own zone.
func (c Clearing) Moment(zone *time.Location) (time.Time, error) {
	t, err := time.ParseInLocation("060102150405", hex.EncodeToString(c.Date[:])+hex.EncodeToString(c.Time[:]), zone)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: date %X time %X", ErrClearing, c.Date, c.Time)
	}
	return t, nil
}

// Validate says whether the record is one an approval can leave. A record
// that does not validate is neither written nor read.
func (c Clearing) Validate() error {
	_, when := c.Moment(time.UTC)
	switch {
	case c.Kind < ClearSale || c.Kind > ClearCancel:
		return fmt.Errorf("%w: kind %d", ErrClearing, c.Kind)
	case len(c.PAN) < 12 || len(c.PAN) > 19 || !digits(c.PAN):
		return fmt.Errorf("%w: PAN of %d digits", ErrClearing, len(c.PAN))
	case len(c.AID) < 5 || len(c.AID) > 16:
		return fmt.Errorf("%w: AID of %d bytes", ErrClearing, len(c.AID))
	case c.PSN > 99 || !bcd(c.Type) || c.Currency > 999 || c.Country > 999:
		return fmt.Errorf("%w: sequence number, type, currency or country", ErrClearing)
	case c.Fen > MaxFen || c.Other > MaxFen:
		return fmt.Errorf("%w: amount above 12 digits", ErrClearing)
	case len(c.IAD) == 0 || len(c.IAD) > 32:
		return fmt.Errorf("%w: issuer application data of %d bytes", ErrClearing, len(c.IAD))
	case c.ATC == 0:
		return fmt.Errorf("%w: ATC 0", ErrClearing)
	case c.STAN == 0 || c.STAN > 999_999 || c.Batch == 0 || c.Batch > 999_999:
		return fmt.Errorf("%w: STAN %d, batch %d", ErrClearing, c.STAN, c.Batch)
	case len(c.TID) != 8 || len(c.MID) != 15 || len(c.Serial) != 8 || !printable(c.TID+c.MID+c.Serial):
		return fmt.Errorf("%w: terminal, merchant or serial", ErrClearing)
	case c.Product != nil && len(c.Product) != 16 || c.IssuerCode != nil && len(c.IssuerCode) != 6:
		return fmt.Errorf("%w: product or issuer code", ErrClearing)
	}
	return when
}

// ErrTC says that a record's cryptogram is not the card's, or not one that
// approves.
var ErrTC = errors.New("pboc: cryptogram does not verify")

// ACData is what the card made its cryptogram of (ACData), as the record
// alone tells it.
func (c Clearing) ACData() ([]byte, error) {
	iad, err := ParseIAD(c.IAD)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", c, err)
	}
	t := Transaction{
		Amount: Amount(c.Fen), Other: Amount(c.Other), Country: [2]byte(number(uint64(c.Country), 2)), TVR: c.TVR,
		Currency: [2]byte(number(uint64(c.Currency), 2)), Date: c.Date, Type: c.Type, Unpredictable: c.UN,
	}
	return ACData(iad.CVN, t, c.AIP, c.ATC, iad.CVR)
}

// Verify makes the cryptogram again with the card's master key for
// cryptograms and compares. A record that does not verify is ErrTC. So is a
// sale or a reversal whose 9F10 does not say that the card approved; the other
// kinds stand on a request (ARQC), which a host approves.
func (c Clearing) Verify(mk *Key) error {
	if err := c.Validate(); err != nil {
		return err
	}
	data, err := c.ACData()
	if err != nil {
		return err
	}
	iad, err := ParseIAD(c.IAD)
	if err != nil {
		return fmt.Errorf("%v: %w", c, err)
	}
	first, second := iad.CVR.First(), iad.CVR.Second()
	if first != TC && second != TC && (c.Kind == ClearSale || c.Kind == ClearReversal || first != ARQC) {
		return fmt.Errorf("%v: %w: the card did not approve", c, ErrTC)
	}
	if mac := mk.Session(c.ATC).MAC(nil, data); subtle.ConstantTimeCompare(mac[:], c.AC[:]) != 1 {
		return fmt.Errorf("%v: %w", c, ErrTC)
	}
	return nil
}

// fields lists the objects of a record in the order of its wire form, values
// only; a nil value is left out.
func (c Clearing) fields() []emv.Value {
	pan := packDigits(c.PAN, (len(c.PAN)+1)/2)
	return []emv.Value{
		{Tag: TagClearingKind, Value: []byte{byte(c.Kind)}},
		{Tag: emv.TagPAN, Value: pan},
		{Tag: emv.TagPSN, Value: number(uint64(c.PSN), 1)},
		{Tag: emv.TagDFName, Value: c.AID},
		{Tag: emv.TagAC, Value: c.AC[:]},
		{Tag: emv.TagIAD, Value: c.IAD},
		{Tag: emv.TagATC, Value: binary.BigEndian.AppendUint16(nil, c.ATC)},
		{Tag: emv.TagAIP, Value: c.AIP[:]},
		{Tag: emv.TagUN, Value: c.UN[:]},
		{Tag: emv.TagTVR, Value: c.TVR[:]},
		{Tag: emv.TagType, Value: []byte{c.Type}},
		{Tag: emv.TagAmount, Value: number(c.Fen, 6)},
		{Tag: emv.TagAmountOther, Value: number(c.Other, 6)},
		{Tag: emv.TagCurrency, Value: number(uint64(c.Currency), 2)},
		{Tag: emv.TagTerminalCountry, Value: number(uint64(c.Country), 2)},
		{Tag: emv.TagDate, Value: c.Date[:]},
		{Tag: emv.TagTime, Value: c.Time[:]},
		{Tag: emv.TagCapabilities, Value: c.Capabilities[:]},
		{Tag: emv.TagCVMResults, Value: c.CVMResults[:]},
		{Tag: emv.TagSequence, Value: number(uint64(c.STAN), 4)},
		{Tag: TagBatchNumber, Value: number(uint64(c.Batch), 3)},
		{Tag: emv.TagTerminalID, Value: []byte(c.TID)},
		{Tag: emv.TagMerchantID, Value: []byte(c.MID)},
		{Tag: emv.TagDeviceSerial, Value: []byte(c.Serial)},
		{Tag: emv.TagProduct, Value: c.Product},
		{Tag: emv.TagECIssuerCode, Value: c.IssuerCode},
	}
}

// Get gives one of the record's objects by its tag, as the terminal and the
// card had it; nil when it is not part of the record.
func (c Clearing) Get(tag tlv.Tag) []byte {
	for _, f := range c.fields() {
		if f.Tag == tag {
			return f.Value
		}
	}
	return nil
}

// MarshalBinary writes the record: its objects one after another in a fixed
// order, BER-TLV.
func (c Clearing) MarshalBinary() ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	out := make([]byte, 0, 256)
	for _, f := range c.fields() {
		if f.Value != nil {
			out = tlv.Append(out, f.Tag, f.Value)
		}
	}
	return out, nil
}

// ParseClearing reads one record and nothing after it. It takes exactly what
// MarshalBinary writes: one order, no unknown objects.
func ParseClearing(wire []byte) (Clearing, error) {
	if len(wire) > MaxClearingLen {
		return Clearing{}, fmt.Errorf("%w: %d bytes", ErrClearing, len(wire))
	}
	c, rest := Clearing{}, wire
	for len(rest) > 0 {
		tag, val, after, err := tlv.Next(rest)
		if err != nil {
			return Clearing{}, fmt.Errorf("%w: %w", ErrClearing, err)
		}
		if !c.set(tag, val) {
			return Clearing{}, fmt.Errorf("%w: tag %v of %d bytes", ErrClearing, tag, len(val))
		}
		rest = after
	}
	again, err := c.MarshalBinary()
	if err != nil {
		return Clearing{}, err
	}
	if string(again) != string(wire) {
		return Clearing{}, fmt.Errorf("%w: objects missing, repeated or out of order", ErrClearing)
	}
	return c, nil
}

// set takes one object; false when it is unknown or of wrong form.
func (c *Clearing) set(tag tlv.Tag, val []byte) bool {
	copyTo := func(dst []byte) bool { return len(dst) == len(val) && copy(dst, val) == len(val) }
	switch tag {
	case TagClearingKind, emv.TagType:
		if len(val) != 1 {
			return false
		}
		if tag == emv.TagType {
			c.Type = val[0]
		} else {
			c.Kind = ClearingKind(val[0])
		}
		return true
	case emv.TagPAN:
		c.PAN = strings.TrimSuffix(hex.EncodeToString(val), "f")
		return digits(c.PAN)
	case emv.TagAC:
		return copyTo(c.AC[:])
	case emv.TagAIP:
		return copyTo(c.AIP[:])
	case emv.TagUN:
		return copyTo(c.UN[:])
	case emv.TagTVR:
		return copyTo(c.TVR[:])
	case emv.TagDate:
		return copyTo(c.Date[:])
	case emv.TagTime:
		return copyTo(c.Time[:])
	case emv.TagCapabilities:
		return copyTo(c.Capabilities[:])
	case emv.TagCVMResults:
		return copyTo(c.CVMResults[:])
	case emv.TagATC:
		if len(val) == 2 {
			c.ATC = binary.BigEndian.Uint16(val)
		}
		return len(val) == 2
	}
	return c.setBytes(tag, val) || c.setNumber(tag, val)
}

func (c *Clearing) setBytes(tag tlv.Tag, val []byte) bool {
	switch tag {
	case emv.TagDFName:
		c.AID = append([]byte{}, val...)
	case emv.TagIAD:
		c.IAD = append([]byte{}, val...)
	case emv.TagProduct:
		c.Product = append([]byte{}, val...)
	case emv.TagECIssuerCode:
		c.IssuerCode = append([]byte{}, val...)
	case emv.TagTerminalID:
		c.TID = string(val)
	case emv.TagMerchantID:
		c.MID = string(val)
	case emv.TagDeviceSerial:
		c.Serial = string(val)
	default:
		return false
	}
	return true
}

func (c *Clearing) setNumber(tag tlv.Tag, val []byte) bool {
	n, ok := decimal(val)
	if !ok {
		return false
	}
	switch tag {
	case emv.TagPSN:
		c.PSN = byte(n)
		return len(val) == 1
	case emv.TagAmount:
		c.Fen = n
	case emv.TagAmountOther:
		c.Other = n
	case emv.TagCurrency:
		c.Currency = uint16(n)
		return len(val) == 2
	case emv.TagTerminalCountry:
		c.Country = uint16(n)
		return len(val) == 2
	case emv.TagSequence:
		c.STAN = uint32(n)
		return len(val) == 4
	case TagBatchNumber:
		c.Batch = uint32(n)
		return len(val) == 3
	default:
		return false
	}
	return len(val) == 6
}

// number is n in 2*size BCD digits; the caller has bounded it.
func number(n uint64, size int) []byte {
	b, err := hex.DecodeString(fmt.Sprintf("%0*d", 2*size, n))
	if err != nil || len(b) != size {
		return nil // Validate refuses such a record
	}
	return b
}

func decimal(val []byte) (uint64, bool) {
	n, err := strconv.ParseUint(hex.EncodeToString(val), 10, 64)
	return n, err == nil && len(val) <= 6
}

// packDigits is BCD filled with F on the right.
func packDigits(s string, size int) []byte {
	if len(s) > 2*size {
		s = s[:2*size]
	}
	b, err := hex.DecodeString(s + strings.Repeat("F", 2*size-len(s)))
	if err != nil {
		return make([]byte, size)
	}
	return b
}

func digits(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

func bcd(b byte) bool { return b>>4 <= 9 && b&0x0F <= 9 }

// MaxClearingBatch bounds one batch, in records.
const MaxClearingBatch = 1000

// A ClearingBatch is what a terminal hands over at once: records with its own
// running numbers First, First+1, …, so that gaps and repetitions show.
type ClearingBatch struct {
	TID     string // 8 characters
	First   uint32
	Records []Clearing
}

var clearingMagic = []byte("KCB\x01")

// MarshalBinary writes the batch: magic 4, TID 8, first number 4, count 2,
// then each record behind its length of 2, and CRC-32 (IEEE) 4 over all of it.
func (b ClearingBatch) MarshalBinary() ([]byte, error) {
	if len(b.TID) != 8 || !printable(b.TID) || len(b.Records) > MaxClearingBatch {
		return nil, fmt.Errorf("%w: batch of %d records", ErrClearing, len(b.Records))
	}
	out := append(append([]byte(nil), clearingMagic...), b.TID...)
	out = binary.BigEndian.AppendUint32(out, b.First)
	out = binary.BigEndian.AppendUint16(out, uint16(len(b.Records)))
	for _, c := range b.Records {
		wire, err := c.MarshalBinary()
		if err != nil {
			return nil, err
		}
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(wire))), wire...)
	}
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out)), nil
}

// ParseClearingBatch reads one batch and nothing after it.
func ParseClearingBatch(in []byte) (ClearingBatch, error) {
	bad := func(why string) (ClearingBatch, error) {
		return ClearingBatch{}, fmt.Errorf("%w: batch: %s", ErrClearing, why)
	}
	end := len(in) - 4
	if end < 18 || string(in[:4]) != string(clearingMagic) {
		return bad("not one")
	}
	if crc32.ChecksumIEEE(in[:end]) != binary.BigEndian.Uint32(in[end:]) {
		return bad("check sum")
	}
	b := ClearingBatch{TID: string(in[4:12]), First: binary.BigEndian.Uint32(in[12:])}
	n := int(binary.BigEndian.Uint16(in[16:]))
	if n > MaxClearingBatch || !printable(b.TID) {
		return bad("header")
	}
	rest := in[18:end]
	for range n {
		if len(rest) < 2 || len(rest) < 2+int(binary.BigEndian.Uint16(rest)) {
			return bad("ends early")
		}
		size := 2 + int(binary.BigEndian.Uint16(rest))
		c, err := ParseClearing(rest[2:size])
		if err != nil {
			return ClearingBatch{}, err
		}
		b.Records, rest = append(b.Records, c), rest[size:]
	}
	if len(rest) > 0 {
		return bad("bytes after the end")
	}
	return b, nil
}
