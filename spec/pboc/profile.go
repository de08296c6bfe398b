package pboc

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"

	"koala/spec/emv"
	"koala/spec/tlv"
)

// A Card is what an issuer knows of a card of the house; Personalisation lays it
// out into records and groups. Every field but those said to be optional is
// needed.
type Card struct {
	Label             string  // 50, as "PBOC DEBIT"
	Priority          byte    // 87
	PAN               string  // up to 19 digits
	PSN               byte    // sequence number, n2
	Effective, Expiry [3]byte // YYMMDD
	Service           string  // service code, three digits
	Name              string  // 5F20, optional
	Country, Currency [2]byte // n3 in two bytes: 0156
	AIP               [2]byte // the same on every path, since it is signed (9F4A)
	CTQ               emv.CTQ

	DKI, CVN     byte
	Alg          Algorithm
	Report       ReportID
	AC, MAC, ENC [16]byte

	CA                                    byte // index of the CA key
	IssuerCertificate, IssuerRemainder    []byte
	ICCCertificate, ICCRemainder          []byte
	IssuerExponent, ICCExponent           []byte
	SSAD                                  []byte  // 93, signed over Static for terminals by contact that know SDA only; optional
	Private                               emv.CRT // optional: without it the card is never approved offline by fDDA
	SM                                    SMChain // second chain for terminals that ask for SM algorithms; optional
	Version1                              bool    // fDDA version 01
	PIN                                   []byte  // offline PIN block (emv.PINBlock), optional
	PINLimit                              byte
	Processing                            Processing
	Balance, BalanceLimit                 uint64 // fen
	SingleLimit, CVMLimit, ResetThreshold uint64 // fen; 0: the card has none
	TotalLimit, TotalUpper                uint64 // fen; 0: the card has none
	Support                               byte   // DF61; 00 without the extended application
	OffsetLimit                           uint64 // DF62
	LowerOffline, UpperOffline            byte   // 0: the card has none
	ForeignLimit                          byte
	DefaultAction                         [2]byte
	IssuerAuth                            byte // 9F56: 80 mandatory
	Files                                 []File
	Opened                                []Opened
	Extra                                 []byte // further objects of DGIObjects, TLV: a second e-cash (DF71..)
}

// An SMChain is the SM2 certificates of a card and its key, beside the RSA ones.
// Both sets certify the same data (Static).
type SMChain struct {
	CA                                byte   // index of the SM2 CA key
	IssuerCertificate, ICCCertificate []byte // 90, 9F46: 142 and 148 bytes
	SSAD                              []byte // 93; optional
	Key                               *emv.PrivateKey
}

// has tells whether the card has the second chain.
func (c SMChain) has() bool { return len(c.IssuerCertificate) > 0 }

// Logs of the house's cards: short identifiers and number of records (QKATA).
const (
	LogSFI     = 0x0B
	LoadLogSFI = 0x0C
	LogRecords = 10
)

// The data object lists of the house's cards. Everything CVN 01 covers is in each
// of the first three; 9F21 and 9F4E are there for the log.
var (
	pdol          = unhexed("9F6604 9F0206 9F0306 9F1A02 9505 5F2A02 9A03 9C01 9F3704 9F2103 9F4E14")
	contactPDOL   = unhexed("9F7A01 9F0206 5F2A02")
	cdol          = unhexed("9F0206 9F0306 9F1A02 9505 5F2A02 9A03 9C01 9F3704 9F2103 9F4E14")
	ddol          = unhexed("9F3704")
	askSM         = unhexed("DF6901") // at the end of both PDOLs of a card with two chains
	logFormat     = unhexed("9A03 9F2103 9F0206 9F0306 9F1A02 5F2A02 9F4E14 9C01 9F3602")
	loadLogFormat = unhexed("9A03 9F2103 9F3602")
	// Online PIN by contact, signature, then nothing: each only where the terminal
	// supports it, the next one if it fails. A card with a PIN of its own checks that
	// where there is no line.
	cvmList    = unhexed("00000000 00000000 4203 1E03 1F03")
	cvmListPIN = unhexed("00000000 00000000 4203 4103 1E03 1F03")
)

func unhexed(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// Track2 is the track 2 equivalent data 57: PAN D expiry YYMM service code.
func (c Card) Track2() []byte {
	s := fmt.Sprintf("%sD%02X%02X%s", c.PAN, c.Expiry[0], c.Expiry[1], c.Service)
	return nibbles(s)
}

// nibbles packs digits, and D as the separator, with F at the end of odd ones.
func nibbles(s string) []byte {
	if len(s)%2 != 0 {
		s += "F"
	}
	return unhexed(s)
}

// signedRecord holds what the card's certificate signs: the only record marked
// for offline data authentication, and the only one with the expiry date.
func (c Card) signedRecord() []byte {
	b := tlv.Append(nil, 0x5A, nibbles(c.PAN))
	b = tlv.Append(b, 0x5F24, c.Expiry[:])
	b = tlv.Append(b, 0x5F25, c.Effective[:])
	b = tlv.Append(b, 0x5F28, c.Country[:])
	b = tlv.Append(b, 0x9F07, []byte{0xFF, 0xC0})
	b = tlv.Append(b, 0x9F08, c.version())
	if c.PINLimit > 0 {
		b = tlv.Append(b, 0x8E, cvmListPIN)
	} else {
		b = tlv.Append(b, 0x8E, cvmList)
	}
	b = tlv.Append(b, 0x9F0D, []byte{0xD8, 0x68, 0x04, 0xA8, 0x00})
	b = tlv.Append(b, 0x9F0E, []byte{0x00, 0x10, 0x00, 0x00, 0x00})
	b = tlv.Append(b, 0x9F0F, []byte{0xD8, 0x68, 0x04, 0xF8, 0x00})
	return tlv.Append(b, 0x9F4A, []byte{0x82})
}

func (c Card) version() []byte {
	if c.Version1 {
		return []byte{0x00, 0x30}
	}
	return []byte{0x00, 0x20}
}

// Static is the static data to be authenticated, the tail of what the hash of
// the card's certificate covers (CARD 1.7): signed record, then AIP.
func (c Card) Static() []byte { return append(c.signedRecord(), c.AIP[:]...) }

// fci is the contents of template A5 with the list of one interface.
func (c Card) fci(dol []byte) []byte {
	b := tlv.Append(nil, 0x50, []byte(c.Label))
	b = tlv.Append(b, 0x87, []byte{c.Priority})
	b = tlv.Append(b, 0x9F38, dol)
	b = tlv.Append(b, 0x5F2D, []byte("zh"))
	b = tlv.Append(b, 0x9F11, []byte{0x01})
	b = tlv.Append(b, 0x9F12, []byte(c.Label))
	log := tlv.Append(nil, emv.TagLogEntry, []byte{LogSFI, LogRecords})
	log = tlv.Append(log, emv.TagLoadLogEntry, []byte{LoadLogSFI, LogRecords})
	if c.Support != 0 {
		log = tlv.Append(log, emv.TagCAPPCard, []byte{c.Support})
	}
	return tlv.Append(b, 0xBF0C, log)
}

// Personalisation lays the card out. Short identifiers: 1 holder, 2 signed data,
// 3 certificates, 4 issuer authorisation code of e-cash, 5 lists for GENERATE AC,
// 6 the signature of keys that are too long for the answer to GPO, 7 the SM2
// certificates, read in the place of 3 when the terminal asks for them, 8 the
// service code, which ends the contactless reading: a QuickPass card pays when its
// last record is read (CARD 1.3), so nothing that a terminal has to check first,
// neither expiry date nor certificate nor signature, may be in that one.
func (c Card) Personalisation() Personalisation {
	p := Personalisation{
		AC: c.AC, MAC: c.MAC, ENC: c.ENC, PIN: c.PIN, PINLimit: c.PINLimit, Private: c.Private, Files: c.Files, Opened: c.Opened,
		Application: IAD{DKI: c.DKI, CVN: c.CVN, Alg: c.Alg, Report: c.Report},
		ContactFCI:  c.fci(c.asking(contactPDOL)), FCI: c.fci(c.asking(c.pdol())),
		Records: c.records(), Objects: c.objects(), ECashObjects: c.ecash(),
	}
	short, contact, money := afl(2, 1, 1, 1, 3, 1, 2, 0), afl(1, 1, 1, 0, 2, 1, 1, 1, 3, 1, 2, 0, 5, 1, 1, 0), afl(4, 1, 1, 0)
	if c.longKey() {
		short = append(short, afl(6, 1, 1, 0)...)
	}
	short = append(short, afl(8, 1, 1, 0)...)
	if len(c.SSAD) > 0 {
		contact = append(contact, afl(3, 3, 3, 0)...)
	}
	p.Contact = Options{AIP: c.AIP, AFL: contact}
	p.ECash = Options{AIP: c.AIP, AFL: append(append([]byte(nil), contact...), money...)}
	p.QPBOC = Options{AIP: c.AIP, AFL: short, CTQ: c.CTQ[:],
		Track2: c.Track2(), PSN: []byte{c.PSN}, Version: c.version()}
	if c.SM.has() {
		p.SM = c.smOptions(p)
	}
	return p
}

// smOptions are the options with the second chain's records in the place of the
// first's.
func (c Card) smOptions(p Personalisation) (o SMOptions) {
	contact := afl(1, 1, 1, 0, 2, 1, 1, 1, 7, 1, 2, 0, 5, 1, 1, 0)
	if len(c.SM.SSAD) > 0 {
		contact = append(contact, afl(7, 3, 3, 0)...)
	}
	o = SMOptions{Contact: p.Contact, ECash: p.ECash, QPBOC: p.QPBOC}
	o.QPBOC.AFL, o.Contact.AFL = afl(2, 1, 1, 1, 7, 1, 2, 0, 8, 1, 1, 0), contact
	o.ECash.AFL = append(bytes.Clone(contact), afl(4, 1, 1, 0)...)
	if k := c.SM.Key; k != nil {
		o.Scalar, o.Point = k.Scalar(), k.Public().Modulus()
	}
	return o
}

// longKey tells whether the card's signature does not fit into the answer to GPO.
func (c Card) longKey() bool { return len(c.Private.P) > 64 }

// asking is a PDOL with the request for the terminal's choice of algorithms, for
// a card that has both.
func (c Card) asking(dol []byte) []byte {
	if !c.SM.has() {
		return dol
	}
	return append(bytes.Clone(dol), askSM...)
}

func (c Card) pdol() []byte {
	if c.Support == 0 {
		return pdol
	}
	return append(append([]byte(nil), pdol...), 0xDF, 0x60, 0x01)
}

// afl codes entries of SFI, first, last and records for authentication.
func afl(entries ...byte) []byte {
	for i := 0; i < len(entries); i += 4 {
		entries[i] <<= 3
	}
	return entries
}

func (c Card) records() []Record {
	one := func(sfi, n byte, v []byte) Record { return Record{sfi, n, tlv.Append(nil, emv.TagRecord, v)} }
	holder := tlv.Append(nil, emv.TagTrack2, c.Track2())
	if c.Name != "" {
		holder = tlv.Append(holder, 0x5F20, []byte(c.Name))
	}
	holder = tlv.Append(holder, emv.TagPSN, []byte{c.PSN})
	issuer := tlv.Append(nil, 0x8F, []byte{c.CA})
	issuer = tlv.Append(issuer, 0x9F32, c.IssuerExponent)
	if len(c.IssuerRemainder) > 0 {
		issuer = tlv.Append(issuer, 0x92, c.IssuerRemainder)
	}
	issuer = tlv.Append(issuer, 0x90, c.IssuerCertificate)
	icc := tlv.Append(nil, 0x9F47, c.ICCExponent)
	if len(c.ICCRemainder) > 0 {
		icc = tlv.Append(icc, 0x9F48, c.ICCRemainder)
	}
	icc = tlv.Append(icc, 0x9F49, ddol)
	icc = tlv.Append(icc, 0x9F46, c.ICCCertificate)
	lists := tlv.Append(nil, 0x8C, cdol)
	lists = tlv.Append(lists, 0x8D, append([]byte{0x8A, 0x02}, cdol...))
	lists = tlv.Append(lists, 0x9F42, c.Currency[:])
	out := []Record{
		one(1, 1, holder), one(2, 1, c.signedRecord()), one(3, 1, issuer), one(3, 2, icc),
		one(4, 1, tlv.Append(nil, emv.TagECIssuerCode, []byte("000000"))), one(5, 1, lists),
		one(8, 1, tlv.Append(nil, emv.TagServiceCode, nibbles("0"+c.Service))),
	}
	if c.longKey() {
		out = append(out, one(6, 1, tlv.Append(nil, emv.TagSDAD, []byte{0}))) // the card puts the signature in
	}
	if len(c.SSAD) > 0 {
		out = append(out, one(3, 3, tlv.Append(nil, emv.TagSSAD, c.SSAD)))
	}
	if !c.SM.has() {
		return out
	}
	issuer = tlv.Append(tlv.Append(nil, emv.TagCAIndex, []byte{c.SM.CA}), emv.TagIssuerCert, c.SM.IssuerCertificate)
	icc = tlv.Append(tlv.Append(nil, emv.TagDDOL, ddol), emv.TagICCCert, c.SM.ICCCertificate)
	out = append(out, one(7, 1, issuer), one(7, 2, icc))
	if len(c.SM.SSAD) > 0 {
		out = append(out, one(7, 3, tlv.Append(nil, emv.TagSSAD, c.SM.SSAD)))
	}
	return out
}

func (c Card) objects() []byte {
	p := c.Processing.Bytes()
	b := tlv.Append(nil, emv.TagCPP, p[:])
	b = tlv.Append(b, emv.TagECCurrency, c.Currency[:])
	b = tlv.Append(b, TagIssuerCountry, c.Country[:])
	b = tlv.Append(b, TagDefaultAction, c.DefaultAction[:])
	b = tlv.Append(b, TagIssuerAuth, []byte{c.IssuerAuth})
	b = tlv.Append(b, emv.TagIntlCounter, []byte{c.ForeignLimit})
	if c.LowerOffline > 0 {
		b = tlv.Append(b, TagLowerOffline, []byte{c.LowerOffline})
	}
	if c.UpperOffline > 0 {
		b = tlv.Append(b, TagUpperOffline, []byte{c.UpperOffline})
	}
	b = tlv.Append(b, emv.TagLogFormat, logFormat)
	b = tlv.Append(b, emv.TagLoadLogFormat, loadLogFormat)
	return append(b, c.Extra...)
}

func (c Card) ecash() []byte {
	var b []byte
	for _, x := range []struct {
		tag tlv.Tag
		fen uint64
	}{
		{emv.TagCTTALimit, c.TotalLimit}, {emv.TagCTTAUpper, c.TotalUpper}, {emv.TagCardCVMLimit, c.CVMLimit},
		{emv.TagECReset, c.ResetThreshold}, {emv.TagECAmountLimit, c.SingleLimit},
	} {
		if x.fen > 0 {
			v := Amount(x.fen)
			b = tlv.Append(b, x.tag, v[:])
		}
	}
	most, have := Amount(c.BalanceLimit), Amount(c.Balance)
	b = tlv.Append(tlv.Append(b, emv.TagECBalanceLimit, most[:]), emv.TagECBalance, have[:])
	if c.Support == 0 {
		return b
	}
	b = tlv.Append(b, emv.TagCAPPCard, []byte{c.Support})
	limit, none := Amount(c.OffsetLimit), Amount(0)
	return tlv.Append(tlv.Append(b, emv.TagOffsetLimit, limit[:]), emv.TagOffsetUsed, none[:])
}
