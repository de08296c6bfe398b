package pboc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"koala/spec/emv"
	"koala/spec/iso9797"
	"koala/spec/tlv"
)

// Groups of personalisation data (EMV CPS 1.1 and PBOC, CARD 1.12, 1.14). A
// group SFI | record number holds that record. The numbers of the SM groups are
// those of a public card test library; its cards have a second set of card keys
// (8400, 9201) too, the house's one set that serves both.
const (
	DGIObjects      = 0x0D01 // data objects of GET DATA and PUT DATA, TLV
	DGIECash        = 0x0E01 // the same, of e-cash
	DGIKeys         = 0x8000 // keys AC | MAC | ENC, 48 secret bytes
	DGIPIN          = 0x8010 // offline PIN block, 8 bytes padded to 16, secret
	DGIOpenKeys     = 0x8020 // opening keys of the industry files, 16 each in the order of A001, secret
	DGICoefficient  = 0x8201 // parts of the card's private key, each padded 80 00.. and secret: q^-1 mod p
	DGIExponentQ    = 0x8202 // d mod (q-1)
	DGIExponentP    = 0x8203 // d mod (p-1)
	DGIPrimeQ       = 0x8204
	DGIPrimeP       = 0x8205
	DGIScalarSM     = 0x8501 // the card's SM2 private key, 32 bytes padded to 48, secret
	DGIPointSM      = 0x8502 // its public key X | Y, 64 bytes padded to 80, secret: the check of 8501
	DGIKeyChecks    = 0x9000 // check values of 8000, 3 each
	DGIPINTries     = 0x9010 // tries left 1 | tries 1
	DGIOpenChecks   = 0x9020 // check values of 8020, 3 each
	DGIContactFCI   = 0x9102 // proprietary template A5 of SELECT by contact
	DGIFCI          = 0x9103 // the same, contactless
	DGIContact      = 0x9104 // 82, 94 of debit/credit by contact
	DGIApplication  = 0x9200 // 9F10 to begin with: DKI, CVN, algorithm and report
	DGIECashOptions = 0x9203 // 82, 94 of e-cash by contact
	DGIOptions      = 0x9207 // 82, 94, 9F6C, 57, 5F34, 9F08, 9F63 of qPBOC
	DGIContactSM    = 0x9105 // 9104, 9203 and 9207 for terminals that ask for the SM algorithms (DF69 01)
	DGIECashSM      = 0x9204
	DGIOptionsSM    = 0x9208
	DGIFiles        = 0xA001 // industry files, 7 bytes each

	secretBlock = 16 // secret data fill blocks of AES, which holds for triple DES too
)

// A DGI is one data grouping. Its first Secret bytes are in clear here; whoever
// sends the group puts their encipherment under the security domain's data
// encryption key in their place, of the same length: Secret is a multiple of 16.
type DGI struct {
	ID     uint16
	Data   []byte
	Secret int
}

// ErrGroup says that a data grouping is not of its coding.
var ErrGroup = errors.New("pboc: malformed personalisation data")

// Options are what the card answers to GET PROCESSING OPTIONS on one path; the
// fields from CTQ on are for qPBOC only and left out when empty.
type Options struct {
	AIP     [2]byte
	AFL     []byte // entries of 4 bytes
	CTQ     []byte // 9F6C, 2: what the issuer sets; the card adds CVM bits
	Track2  []byte // 57
	PSN     []byte // 5F34, 1
	Version []byte // 9F08, 2: 0030 for fDDA version 01
	Product []byte // 9F63, 16
}

// Bytes codes the group.
func (o Options) Bytes() []byte {
	b := tlv.Append(tlv.Append(nil, emv.TagAIP, o.AIP[:]), emv.TagAFL, o.AFL)
	for _, x := range o.extras() {
		if len(*x.value) > 0 {
			b = tlv.Append(b, x.tag, *x.value)
		}
	}
	return b
}

type extra struct {
	tag   tlv.Tag
	n     int // 0: any
	value *[]byte
}

func (o *Options) extras() []extra {
	return []extra{{emv.TagCTQ, 2, &o.CTQ}, {emv.TagTrack2, 0, &o.Track2}, {emv.TagPSN, 1, &o.PSN}, {emv.TagVersion, 2, &o.Version}, {emv.TagProduct, 16, &o.Product}}
}

// ParseOptions reads the group: AIP, AFL, then the others in the order of the
// fields. Values are parts of in.
func ParseOptions(in []byte) (o Options, err error) {
	tag, v, rest, err := tlv.Next(in)
	if err != nil || tag != emv.TagAIP || len(v) != 2 {
		return Options{}, fmt.Errorf("%w: no AIP", ErrGroup)
	}
	o.AIP = [2]byte(v)
	if tag, v, rest, err = tlv.Next(rest); err != nil || tag != emv.TagAFL || len(v)%4 != 0 {
		return Options{}, fmt.Errorf("%w: no AFL", ErrGroup)
	}
	o.AFL = v
	for _, x := range o.extras() {
		if tag, v, after, err := tlv.Next(rest); err == nil && tag == x.tag && len(v) > 0 && (x.n == 0 || len(v) == x.n) {
			*x.value, rest = v, after
		}
	}
	if len(rest) > 0 {
		return Options{}, fmt.Errorf("%w: % X left", ErrGroup, rest[:min(len(rest), 2)])
	}
	return o, nil
}

// A Kind is how an industry file keeps its records.
type Kind byte

// Kinds of DGI A001.
const (
	Variable Kind = 0x01 // records of any length up to the largest, found by their first two bytes
	Cyclic   Kind = 0x02 // newest first, the oldest is overwritten
)

// Rights of an industry file. CARD 1.12 gives no values; these are the house's.
const (
	Free  byte = 0x00 // READ RECORD reads; APPEND RECORD and UPDATE CAPP DATA CACHE write
	Keyed byte = 0x01 // READ CAPP DATA only; UPDATE CAPP DATA CACHE only
	Never byte = 0x0F
)

// A File is an industry file of the extended application.
type File struct {
	SFI         byte // 15 to 1E hexadecimal
	Kind        Kind
	Read, Write byte
	MaxRecord   byte     // longest record
	Size        uint16   // bytes of records in all
	Key         [16]byte // opening key
}

// Industry files have short identifiers of this range (CARD 1.12).
const (
	FirstFile = 0x15
	LastFile  = 0x1E
	fileLen   = 7
)

// Records is how many records the file holds.
func (f File) Records() int { return int(f.Size) / int(f.MaxRecord) }

// ParseFiles reads DGI A001. Keys come in another group and stay empty.
func ParseFiles(b []byte) ([]File, error) {
	if len(b)%fileLen != 0 {
		return nil, fmt.Errorf("%w: files", ErrGroup)
	}
	var out []File
	for ; len(b) > 0; b = b[fileLen:] {
		f := File{SFI: b[0], Kind: Kind(b[1]), Read: b[2], Write: b[3], MaxRecord: b[4], Size: binary.BigEndian.Uint16(b[5:])}
		if f.SFI < FirstFile || f.SFI > LastFile || f.Kind != Variable && f.Kind != Cyclic || f.MaxRecord < 3 || f.Size < uint16(f.MaxRecord) {
			return nil, fmt.Errorf("%w: file %02X", ErrGroup, f.SFI)
		}
		for _, x := range out {
			if x.SFI == f.SFI {
				return nil, fmt.Errorf("%w: file %02X twice", ErrGroup, f.SFI)
			}
		}
		out = append(out, f)
	}
	return out, nil
}

// FileBytes codes DGI A001.
func FileBytes(files []File) []byte {
	var b []byte
	for _, f := range files {
		b = append(b, f.SFI, byte(f.Kind), f.Read, f.Write, f.MaxRecord, byte(f.Size>>8), byte(f.Size))
	}
	return b
}

// A Record is one record of a file, with the template 70 around it.
type Record struct {
	SFI, Number byte
	Data        []byte
}

// An Opened record is one that stands in an industry file from the beginning: its
// group is the record key, which is secret, and the record.
type Opened struct {
	SFI, Number byte
	Key         [16]byte
	Data        []byte
}

// A Personalisation is everything a card is given.
type Personalisation struct {
	ContactFCI, FCI       []byte // contents of template A5; empty where the interface is not offered
	Contact, ECash, QPBOC Options
	Application           IAD // DKI, CVN, algorithm, report; the rest is the card's
	AC, MAC, ENC          [16]byte
	PIN                   []byte // plain PIN block, 8 bytes; empty for none
	PINLimit              byte
	Private               emv.CRT
	SM                    SMOptions // second chain; the zero value: none
	Objects, ECashObjects []byte    // TLV of DGIObjects, DGIECash
	Records               []Record
	Files                 []File
	Opened                []Opened
	NoContact, NoECash    bool // leave the path's options out
}

// SMOptions is what a card with a second, SM2 chain is given beside: options
// whose file locators name its records, and its key.
type SMOptions struct {
	Contact, ECash, QPBOC Options // no file locator: the path has the first chain only
	Scalar, Point         []byte  // 32 and 64 bytes; empty: they come some other way
}

// dgis gives its groups.
func (o SMOptions) dgis() (out []DGI) {
	for _, x := range []struct {
		id uint16
		o  Options
	}{{DGIOptionsSM, o.QPBOC}, {DGIContactSM, o.Contact}, {DGIECashSM, o.ECash}} {
		if len(x.o.AFL) > 0 {
			out = append(out, DGI{ID: x.id, Data: x.o.Bytes()})
		}
	}
	for i, part := range [][]byte{o.Scalar, o.Point} {
		if len(part) > 0 {
			padded := iso9797.Pad2(part, secretBlock)
			out = append(out, DGI{DGIScalarSM + uint16(i), padded, len(padded)})
		}
	}
	return out
}

// DGIs gives the groups in the order they are to be sent.
func (p Personalisation) DGIs() []DGI {
	var out []DGI
	add := func(id uint16, data []byte, secret int) {
		if len(data) > 0 {
			out = append(out, DGI{id, data, secret})
		}
	}
	add(DGIApplication, tlv.Append(nil, emv.TagIAD, p.Application.Bytes()), 0)
	add(DGIKeys, bytes.Join([][]byte{p.AC[:], p.MAC[:], p.ENC[:]}, nil), 48)
	add(DGIKeyChecks, checks(p.Application.Alg, p.AC, p.MAC, p.ENC), 0)
	add(DGIFCI, wrapped(p.FCI), 0)
	add(DGIContactFCI, wrapped(p.ContactFCI), 0)
	add(DGIOptions, p.QPBOC.Bytes(), 0)
	if !p.NoContact {
		add(DGIContact, p.Contact.Bytes(), 0)
	}
	if !p.NoECash {
		add(DGIECashOptions, p.ECash.Bytes(), 0)
	}
	add(DGIObjects, p.Objects, 0)
	add(DGIECash, p.ECashObjects, 0)
	for _, r := range p.Records {
		add(uint16(r.SFI)<<8|uint16(r.Number), r.Data, 0)
	}
	if len(p.PIN) > 0 {
		add(DGIPIN, iso9797.Pad2(p.PIN, secretBlock), secretBlock)
		add(DGIPINTries, []byte{p.PINLimit, p.PINLimit}, 0)
	}
	parts := [][]byte{p.Private.QInv, p.Private.DQ, p.Private.DP, p.Private.Q, p.Private.P}
	for i, part := range parts {
		if len(part) > 0 {
			padded := iso9797.Pad2(part, secretBlock)
			add(DGICoefficient+uint16(i), padded, len(padded))
		}
	}
	return append(append(out, p.SM.dgis()...), p.industry()...)
}

func (p Personalisation) industry() []DGI {
	if len(p.Files) == 0 {
		return nil
	}
	var keys []byte
	var all [][16]byte
	for _, f := range p.Files {
		keys = append(keys, f.Key[:]...)
		all = append(all, f.Key)
	}
	out := []DGI{{DGIFiles, FileBytes(p.Files), 0}, {DGIOpenKeys, keys, len(keys)}, {DGIOpenChecks, checks(p.Application.Alg, all...), 0}}
	for _, r := range p.Opened {
		out = append(out, DGI{uint16(r.SFI)<<8 | uint16(r.Number), append(bytes.Clone(r.Key[:]), r.Data...), len(r.Key)})
	}
	return out
}

func checks(alg Algorithm, keys ...[16]byte) (out []byte) {
	for _, k := range keys {
		kcv := KCV(alg, k)
		out = append(out, kcv[:]...)
	}
	return out
}

func wrapped(fci []byte) []byte {
	if len(fci) == 0 {
		return nil
	}
	return tlv.Append(nil, emv.TagFCIProprietary, fci)
}

// ParseApplication reads DGI 9200: the issuer application data to begin with.
func ParseApplication(in []byte) (IAD, error) {
	tag, v, rest, err := tlv.Next(in)
	if err != nil || tag != emv.TagIAD || len(rest) != 0 {
		return IAD{}, fmt.Errorf("%w: no 9F10", ErrGroup)
	}
	return ParseIAD(v)
}

// ParseFCI reads DGI 9102 or 9103 and gives the contents of template A5.
func ParseFCI(in []byte) ([]byte, error) {
	tag, v, rest, err := tlv.Next(in)
	if err != nil || tag != emv.TagFCIProprietary || len(rest) != 0 {
		return nil, fmt.Errorf("%w: no A5", ErrGroup)
	}
	if err := tlv.Walk(v, func(int, tlv.Tag, []byte) error { return nil }); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGroup, err)
	}
	return v, nil
}
