// Package emv holds what a bank card and a terminal say to each other
// (EMV 4.4 Books 1 to 4, EMV Contactless books; PBOC names where UnionPay's
// cards differ): data objects and their lists, file locators, the bit fields
// of both sides, keys and cryptograms, the certificate chain of offline data
// authentication from both ends, and words for all of it. Bytes in, values
// out; session keys and fields that only PBOC has are in spec/pboc.
package emv

import (
	"bytes"
	"embed"
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"koala/spec/tlv"
)

// Tags of data objects (EMV 4.4 Book 3, annex A), in the order of the tag.
const (
	TagAID              tlv.Tag = 0x4F   // application identifier in a directory entry
	TagLabel            tlv.Tag = 0x50   // application label
	TagTrack2           tlv.Tag = 0x57   // track 2 equivalent data: PAN D YYMM service code ..., cn up to 19 bytes
	TagPAN              tlv.Tag = 0x5A   // application PAN, cn up to 19 digits
	TagEntry            tlv.Tag = 0x61   // application template in a directory
	TagFCI              tlv.Tag = 0x6F   // file control information
	TagRecord           tlv.Tag = 0x70   // record template
	TagScript1          tlv.Tag = 0x71   // script before the second GENERATE AC
	TagScript2          tlv.Tag = 0x72   // script after it
	TagAnswer2          tlv.Tag = 0x77   // response format 2: objects
	TagAnswer1          tlv.Tag = 0x80   // response format 1: values without tags
	TagAIP              tlv.Tag = 0x82   // application interchange profile
	TagCommand          tlv.Tag = 0x83   // command template of GET PROCESSING OPTIONS
	TagDFName           tlv.Tag = 0x84   // name of the selected application
	TagScriptCommand    tlv.Tag = 0x86   // one command of a script
	TagPriority         tlv.Tag = 0x87   // application priority indicator
	TagSFI              tlv.Tag = 0x88   // short file identifier of the directory
	TagARC              tlv.Tag = 0x8A   // authorisation response code, 2 characters
	TagCDOL1            tlv.Tag = 0x8C   // objects for the first GENERATE AC
	TagCDOL2            tlv.Tag = 0x8D   // objects for the second GENERATE AC
	TagCVMList          tlv.Tag = 0x8E   // cardholder verification methods
	TagCAIndex          tlv.Tag = 0x8F   // index of the CA key
	TagIssuerCert       tlv.Tag = 0x90   // issuer public key certificate
	TagIssuerAuth       tlv.Tag = 0x91   // issuer authentication data
	TagIssuerRemainder  tlv.Tag = 0x92   // issuer public key remainder
	TagSSAD             tlv.Tag = 0x93   // signed static application data
	TagAFL              tlv.Tag = 0x94   // application file locator
	TagTVR              tlv.Tag = 0x95   // terminal verification results
	TagTDOL             tlv.Tag = 0x97   // objects for the TC hash
	TagTCHash           tlv.Tag = 0x98   // TC hash value
	TagDate             tlv.Tag = 0x9A   // transaction date YYMMDD
	TagTSI              tlv.Tag = 0x9B   // transaction status information
	TagType             tlv.Tag = 0x9C   // transaction type, n 2
	TagFCIProprietary   tlv.Tag = 0xA5   // proprietary part of the FCI
	TagHolder           tlv.Tag = 0x5F20 // cardholder name
	TagExpiry           tlv.Tag = 0x5F24 // application expiration date YYMMDD
	TagEffective        tlv.Tag = 0x5F25 // application effective date YYMMDD
	TagIssuerCountry    tlv.Tag = 0x5F28 // issuer country, n 3
	TagCurrency         tlv.Tag = 0x5F2A // transaction currency, n 3
	TagLanguage         tlv.Tag = 0x5F2D // language preference
	TagServiceCode      tlv.Tag = 0x5F30 // service code, n 3
	TagPSN              tlv.Tag = 0x5F34 // PAN sequence number, n 2
	TagAcquirer         tlv.Tag = 0x9F01 // acquirer identifier
	TagAmount           tlv.Tag = 0x9F02 // amount authorised, n 12, minor units
	TagAmountOther      tlv.Tag = 0x9F03 // amount other, n 12, minor units
	TagTerminalAID      tlv.Tag = 0x9F06 // application identifier in the terminal
	TagUsage            tlv.Tag = 0x9F07 // application usage control
	TagVersion          tlv.Tag = 0x9F08 // application version, card
	TagTerminalVersion  tlv.Tag = 0x9F09 // application version, terminal
	TagHolderExtended   tlv.Tag = 0x9F0B // cardholder name extended
	TagIACDefault       tlv.Tag = 0x9F0D // issuer action code, default
	TagIACDenial        tlv.Tag = 0x9F0E // issuer action code, denial
	TagIACOnline        tlv.Tag = 0x9F0F // issuer action code, online
	TagIAD              tlv.Tag = 0x9F10 // issuer application data
	TagCodeTable        tlv.Tag = 0x9F11 // issuer code table index
	TagPreferredName    tlv.Tag = 0x9F12 // application preferred name
	TagLastOnlineATC    tlv.Tag = 0x9F13 // ATC of the last online transaction
	TagLowerLimit       tlv.Tag = 0x9F14 // lower consecutive offline limit
	TagMerchantCategory tlv.Tag = 0x9F15 // merchant category code
	TagMerchantID       tlv.Tag = 0x9F16 // merchant identifier
	TagPINTries         tlv.Tag = 0x9F17 // PIN tries left
	TagScriptID         tlv.Tag = 0x9F18 // issuer script identifier
	TagTerminalCountry  tlv.Tag = 0x9F1A // terminal country, n 3
	TagFloorLimit       tlv.Tag = 0x9F1B // terminal floor limit
	TagTerminalID       tlv.Tag = 0x9F1C // terminal identification
	TagDeviceSerial     tlv.Tag = 0x9F1E // serial number of the interface device
	TagTrack1Rest       tlv.Tag = 0x9F1F // track 1 discretionary data
	TagTime             tlv.Tag = 0x9F21 // transaction time HHMMSS
	TagUpperLimit       tlv.Tag = 0x9F23 // upper consecutive offline limit
	TagAC               tlv.Tag = 0x9F26 // application cryptogram, 8 bytes
	TagCID              tlv.Tag = 0x9F27 // cryptogram information data
	TagKernelID         tlv.Tag = 0x9F2A // kernel identifier
	TagPINCert          tlv.Tag = 0x9F2D // PIN encipherment key certificate
	TagIssuerExponent   tlv.Tag = 0x9F32 // issuer public key exponent
	TagCapabilities     tlv.Tag = 0x9F33 // terminal capabilities
	TagCVMResults       tlv.Tag = 0x9F34 // cardholder verification results
	TagTerminalType     tlv.Tag = 0x9F35 // terminal type, n 2
	TagATC              tlv.Tag = 0x9F36 // application transaction counter
	TagUN               tlv.Tag = 0x9F37 // unpredictable number of the terminal, 4 bytes
	TagPDOL             tlv.Tag = 0x9F38 // objects for GET PROCESSING OPTIONS
	TagMoreCapabilities tlv.Tag = 0x9F40 // additional terminal capabilities
	TagSequence         tlv.Tag = 0x9F41 // transaction sequence counter, n 4 to 8
	TagCardCurrency     tlv.Tag = 0x9F42 // application currency, n 3
	TagDAC              tlv.Tag = 0x9F45 // data authentication code
	TagICCCert          tlv.Tag = 0x9F46 // ICC public key certificate
	TagICCExponent      tlv.Tag = 0x9F47 // ICC public key exponent
	TagICCRemainder     tlv.Tag = 0x9F48 // ICC public key remainder
	TagDDOL             tlv.Tag = 0x9F49 // objects for INTERNAL AUTHENTICATE
	TagSDATagList       tlv.Tag = 0x9F4A // objects signed beside the records; only 82 allowed
	TagSDAD             tlv.Tag = 0x9F4B // signed dynamic application data
	TagDynamicNumber    tlv.Tag = 0x9F4C // ICC dynamic number
	TagLogEntry         tlv.Tag = 0x9F4D // SFI and number of records of the log
	TagMerchantName     tlv.Tag = 0x9F4E // merchant name and location
	TagLogFormat        tlv.Tag = 0x9F4F // fields of a log record, a DOL
	TagTTQ              tlv.Tag = 0x9F66 // terminal transaction qualifiers
	TagCardAuth         tlv.Tag = 0x9F69 // card authentication related data
	TagCTQ              tlv.Tag = 0x9F6C // card transaction qualifiers
	TagFCIDiscretionary tlv.Tag = 0xBF0C // issuer discretionary part of the FCI
)

// Tags whose meaning here is PBOC's (JR/T 0025; CARD.md 1.3 to 1.12).
const (
	TagECCurrency     tlv.Tag = 0x9F51 // application currency of the card's risk management
	TagIntlCounter    tlv.Tag = 0x9F53 // limit of consecutive offline transactions in other currencies
	TagCTTALimit      tlv.Tag = 0x9F54 // cumulative transaction amount limit, n 12
	TagCTTAUpper      tlv.Tag = 0x9F5C // cumulative transaction amount upper limit, n 12
	TagAvailable      tlv.Tag = 0x9F5D // available offline spending amount, n 12
	TagProduct        tlv.Tag = 0x9F63 // product identification, 16 bytes
	TagCPP            tlv.Tag = 0x9F68 // card additional processes
	TagCardCVMLimit   tlv.Tag = 0x9F6B // amount above which a CVM is asked, n 12
	TagECReset        tlv.Tag = 0x9F6D // e-cash reset threshold, n 12
	TagECIssuerCode   tlv.Tag = 0x9F74 // e-cash issuer authorisation code, 6 characters
	TagECBalanceLimit tlv.Tag = 0x9F77 // e-cash balance limit, n 12
	TagECAmountLimit  tlv.Tag = 0x9F78 // e-cash single transaction limit, n 12
	TagECBalance      tlv.Tag = 0x9F79 // e-cash balance, n 12
	TagECIndicator    tlv.Tag = 0x9F7A // e-cash terminal support indicator
	TagLoadLogEntry   tlv.Tag = 0xDF4D // SFI and number of records of the load log
	TagLoadLogFormat  tlv.Tag = 0xDF4F // fields of a load log record
	TagCAPPIndicator  tlv.Tag = 0xDF60 // kind of extended application transaction
	TagCAPPCard       tlv.Tag = 0xDF61 // extended application support of the card
	TagOffsetLimit    tlv.Tag = 0xDF62 // segment fare offset limit, n 12
	TagOffsetUsed     tlv.Tag = 0xDF63 // segment fare offset used, n 12
	TagSM             tlv.Tag = 0xDF69 // SM algorithm support indicator
)

// A Format is how a value is coded (EMV 4.4 Book 3, 4.3).
type Format byte

// The formats. Text is a, an and ans, which are filled alike.
const (
	Binary     Format = iota // b: bytes as they are
	Numeric                  // n: two digits a byte, right-justified, zeros in front
	Compressed               // cn: two digits a byte, left-justified, F behind
	Text                     // a, an, ans: one character a byte, left-justified
	List                     // b: a data object list
)

// String gives the letters the standards use.
func (f Format) String() string { return [...]string{"b", "n", "cn", "ans", "dol"}[f] }

func parseFormat(s string) Format {
	kind, _, _ := strings.Cut(s, " ")
	switch kind {
	case "n", "numeric":
		return Numeric
	case "cn":
		return Compressed
	case "a", "an", "ans", "text":
		return Text
	case "dol":
		return List
	}
	return Binary
}

// Append adds to dst the n bytes that answer one entry of a data object list
// (EMV 4.4 Book 3, 5.4). A value longer than n bytes keeps its right end when
// numeric and its left end otherwise; a shorter one is filled with 00 on the
// left when numeric, FF on the right when compressed numeric and 00 on the
// right otherwise. A nil value, an object the sender lacks, gives n times 00.
func (f Format) Append(dst, value []byte, n int) []byte {
	fill := n - len(value)
	switch {
	case fill <= 0 && f == Numeric:
		return append(dst, value[len(value)-n:]...)
	case fill <= 0:
		return append(dst, value[:n]...)
	case f == Numeric:
		return append(repeat(dst, 0x00, fill), value...)
	case f == Compressed && value != nil:
		return repeat(append(dst, value...), 0xFF, fill)
	}
	return repeat(append(dst, value...), 0x00, fill)
}

func repeat(dst []byte, b byte, n int) []byte {
	for range n {
		dst = append(dst, b)
	}
	return dst
}

// An Object is what the dictionary knows about one tag.
type Object struct {
	Tag    tlv.Tag
	EN, ZH string // names; ZH is the English name where no Chinese one is known
	Format Format
	Digits int // digits of a numeric object, 0 when its length varies
}

// RIDUnionPay is the registered provider whose cards give tags PBOC's meaning.
var RIDUnionPay = [5]byte{0xA0, 0x00, 0x00, 0x03, 0x33}

//go:embed data/emv_tags.csv data/emv_tags_pboc.csv data/names.csv data/names_pboc.csv data/bits.csv data/words.csv data/capk.csv
var tables embed.FS

// A dictionary is the objects of EMV and, apart, those PBOC defines or defines
// otherwise.
type dictionary struct{ emv, pboc map[tlv.Tag]Object }

var objects = sync.OnceValue(func() dictionary {
	d := dictionary{map[tlv.Tag]Object{}, map[tlv.Tag]Object{}}
	for _, r := range rows("data/emv_tags.csv", "tag", "name", "value_type") {
		o := Object{Tag: hexTag(r[0]), EN: r[1], ZH: r[1], Format: parseFormat(r[2])}
		d.emv[o.Tag] = o
	}
	for _, r := range rows("data/names.csv", "tag", "name_zh", "format") {
		o := d.emv[hexTag(r[0])]
		o.Tag, o.ZH, o.Format, o.Digits = hexTag(r[0]), r[1], parseFormat(r[2]), digits(r[2])
		d.emv[o.Tag] = o
	}
	for _, file := range []string{"data/emv_tags_pboc.csv", "data/names_pboc.csv"} {
		for _, r := range rows(file, "tag", "name_en", "name_zh", "format") {
			t := hexTag(r[0])
			d.pboc[t] = Object{t, r[1], r[2], parseFormat(r[3]), digits(r[3])}
		}
	}
	return d
})

// digits reads the digit count of "n 12".
func digits(format string) int {
	kind, n, _ := strings.Cut(format, " ")
	if kind != "n" || n == "" {
		return 0
	}
	count, err := strconv.Atoi(n)
	if err != nil {
		panic("emv: format " + format)
	}
	return count
}

func hexTag(s string) tlv.Tag {
	n, err := strconv.ParseUint(s, 16, 32)
	if err != nil {
		panic("emv: embedded tag " + s)
	}
	return tlv.Tag(n)
}

// rows reads the named columns of an embedded table. A table that does not
// read is a defect of the build.
func rows(file string, columns ...string) [][]string {
	text, err := tables.ReadFile(file)
	if err != nil {
		panic(err)
	}
	all, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		panic(fmt.Sprintf("emv: %s: %v", file, err))
	}
	at := make([]int, len(columns))
	for i, c := range columns {
		at[i] = column(all[0], c)
	}
	out := make([][]string, 0, len(all)-1)
	for _, r := range all[1:] {
		row := make([]string, len(at))
		for i, n := range at {
			row[i] = r[n]
		}
		out = append(out, row)
	}
	return out
}

func column(header []string, name string) int {
	for i, h := range header {
		if h == name {
			return i
		}
	}
	panic("emv: no column " + name)
}

// Lookup gives what is known about a tag. With pboc set PBOC's meaning wins
// where it has one, as on cards of RIDUnionPay; without it tags 9F50 up mean
// what EMV and the Mastercard kernel say, and PBOC's own tags are unknown.
func Lookup(tag tlv.Tag, pboc bool) (Object, bool) {
	d := objects()
	if pboc {
		if o, ok := d.pboc[tag]; ok {
			return o, true
		}
	}
	o, ok := d.emv[tag]
	return o, ok
}

// FormatOf is the format a list's values are filled by. The tags on which PBOC
// and the Mastercard kernel disagree appear in lists of UnionPay's cards only
// or are binary there, so PBOC's format holds. An unknown tag is binary.
func FormatOf(tag tlv.Tag) Format {
	o, _ := Lookup(tag, true)
	return o.Format
}
