package purse

import (
	"fmt"
	"time"

	"koala/spec/tlv"
)

// CardType says for whom a T-Union card was issued (file 15 byte 28 and file
// 17 byte 10; codes as nfcim/nfsee reads them).
type CardType byte

// Card types.
const (
	CardOrdinary CardType = 0x01
	CardStudent  CardType = 0x02
	CardSenior   CardType = 0x03
	CardTest     CardType = 0x04
	CardMilitary CardType = 0x05
)

// Words names the card type, in Chinese if zh.
func (t CardType) Words(zh bool) string {
	names := map[CardType][2]string{
		0x00: {"ordinary", "普通卡"}, CardOrdinary: {"ordinary", "普通卡"}, CardStudent: {"student", "学生卡"},
		CardSenior: {"senior", "老人卡"}, CardTest: {"test", "测试卡"}, CardMilitary: {"military", "军人卡"},
	}
	w, ok := names[t]
	switch {
	case !ok:
		return fmt.Sprintf("%02X", byte(t))
	case zh:
		return w[1]
	default:
		return w[0]
	}
}

// File15 is the public information of a T-Union card, 30 bytes. From and To
// are YYYYMMDD in BCD, both inclusive.
type File15 struct {
	Issuer   [8]byte
	AppType  byte // 02 in the samples
	Version  byte
	Number   Number
	From, To [4]byte
	CardType CardType
	RFU      byte
}

// File15Len is the length of file 15 in bytes.
const File15Len = 30

// Bytes codes the file.
func (f File15) Bytes() []byte {
	b := append(make([]byte, 0, File15Len), f.Issuer[:]...)
	b = append(b, f.AppType, f.Version)
	n := f.Number.Bytes()
	b = append(b, n[:]...)
	b = append(append(b, f.From[:]...), f.To[:]...)
	return append(b, byte(f.CardType), f.RFU)
}

// ParseFile15 reads the file.
func ParseFile15(b []byte) (f File15, err error) {
	if err := exactly("file 15", b, File15Len); err != nil {
		return f, err
	}
	copy(f.Issuer[:], b)
	f.AppType, f.Version = b[8], b[9]
	if f.Number, err = NumberOf(b[10:20]); err != nil {
		return File15{}, fmt.Errorf("file 15: %w", err)
	}
	copy(f.From[:], b[20:])
	copy(f.To[:], b[24:])
	f.CardType, f.RFU = CardType(b[28]), b[29]
	return f, nil
}

// ValidOn says whether the card may be used on the day of s. BCD dates
// compare as they stand.
func (f File15) ValidOn(s Stamp) bool {
	day := string(s.Date[:])
	return string(f.From[:]) <= day && day <= string(f.To[:])
}

// IssuerCode is the first half of the issuer's identifier, the base of the
// second dispersion level.
func (f File15) IssuerCode() [4]byte { return [4]byte(f.Issuer[:4]) }

// File17 is where a T-Union card comes from. The file has 60 bytes; readers
// take the first 11. Rest is what follows them, as long as it was read.
type File17 struct {
	Country  [4]byte // 00000156
	Province [2]byte // UnionPay region code, BCD
	City     [2]byte
	Interop  [2]byte // 0001 accepted outside its city
	CardType CardType
	Rest     []byte
}

// Lengths of file 17: what readers ask for, and all of it.
const (
	File17Head = 11
	File17Len  = 60
)

// Bytes codes the file.
func (f File17) Bytes() []byte {
	b := append(make([]byte, 0, File17Len), f.Country[:]...)
	b = append(append(b, f.Province[:]...), f.City[:]...)
	b = append(append(b, f.Interop[:]...), byte(f.CardType))
	return append(b, f.Rest...)
}

// ParseFile17 reads the file, or its first 11 to 60 bytes.
func ParseFile17(b []byte) (f File17, err error) {
	if len(b) < File17Head || len(b) > File17Len {
		return f, fmt.Errorf("file 17: %w: %d bytes", ErrLength, len(b))
	}
	copy(f.Country[:], b)
	copy(f.Province[:], b[4:])
	copy(f.City[:], b[6:])
	copy(f.Interop[:], b[8:])
	f.CardType = CardType(b[10])
	if len(b) > File17Head {
		f.Rest = append([]byte(nil), b[File17Head:]...)
	}
	return f, nil
}

// Interoperable says whether other cities accept the card.
func (f File17) Interoperable() bool { return f.Interop == [2]byte{0x00, 0x01} }

// BeijingFile is MF file 04 of the old Beijing card, 32 bytes. From and To
// are YYYYMMDD in BCD.
type BeijingFile struct {
	Number   [8]byte
	Version  [3]byte
	Rest     [13]byte
	From, To [4]byte
}

// BeijingFileLen is its length in bytes.
const BeijingFileLen = 32

// Bytes codes the file.
func (f BeijingFile) Bytes() []byte {
	b := append(make([]byte, 0, BeijingFileLen), f.Number[:]...)
	b = append(append(b, f.Version[:]...), f.Rest[:]...)
	return append(append(b, f.From[:]...), f.To[:]...)
}

// ParseBeijingFile reads the file. Readers know a Beijing card by a first
// byte pair of 1000.
func ParseBeijingFile(b []byte) (f BeijingFile, err error) {
	if err := exactly("Beijing file 04", b, BeijingFileLen); err != nil {
		return f, err
	}
	copy(f.Number[:], b)
	copy(f.Version[:], b[8:])
	copy(f.Rest[:], b[11:])
	copy(f.From[:], b[24:])
	copy(f.To[:], b[28:])
	return f, nil
}

// DateBCD is a civil date as files carry it.
func DateBCD(year int, month time.Month, day int) [4]byte {
	return [4]byte{bcd(year / 100), bcd(year % 100), bcd(int(month)), bcd(day)}
}

// FCI is the answer to SELECT of the T-Union application. Readers look for
// file 15 in it (tag 9F0C) and read the file only when it is absent.
type FCI struct {
	AID     []byte
	Version []byte // tag 9F08, left out when empty
	Public  []byte // tag 9F0C, left out when empty
}

const (
	tagFCI         tlv.Tag = 0x6F
	tagName        tlv.Tag = 0x84
	tagProprietary tlv.Tag = 0xA5
	tagVersion     tlv.Tag = 0x9F08
	tagPublic      tlv.Tag = 0x9F0C
)

// Bytes codes the answer.
func (f FCI) Bytes() []byte {
	var inner []byte
	if len(f.Version) > 0 {
		inner = tlv.Append(inner, tagVersion, f.Version)
	}
	if len(f.Public) > 0 {
		inner = tlv.Append(inner, tagPublic, f.Public)
	}
	body := tlv.Append(nil, tagName, f.AID)
	return tlv.Append(nil, tagFCI, tlv.Append(body, tagProprietary, inner))
}

// ParseFCI reads the answer of any purse application; what it does not know
// inside the template is passed over.
func ParseFCI(b []byte) (FCI, error) {
	tag, body, rest, err := tlv.Next(b)
	if err != nil {
		return FCI{}, fmt.Errorf("FCI: %w", err)
	}
	if tag != tagFCI || len(rest) != 0 {
		return FCI{}, fmt.Errorf("FCI: %w: %v with %d bytes after it", ErrRecord, tag, len(rest))
	}
	var f FCI
	err = tlv.Walk(body, func(_ int, tag tlv.Tag, val []byte) error {
		switch tag {
		case tagName:
			f.AID = val
		case tagVersion:
			f.Version = val
		case tagPublic:
			f.Public = val
		}
		return nil
	})
	if err != nil {
		return FCI{}, fmt.Errorf("FCI: %w", err)
	}
	return f, nil
}
