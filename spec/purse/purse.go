// Package purse holds the ED/EP purse of PBOC and its transit profile, China
// T-Union (JT/T 978, JT/T 1356.2), with the older Beijing card beside it:
// card numbers, files and records, commands and answers both ways, session
// keys, MACs and TACs, secure messaging, and the Debit, the record of one
// purchase that gates hand on and hosts book.
//
// All numbers on the wire are big endian, all amounts are fen, all times are
// Beijing wall clock in BCD. Start with Debit, then InitPurchase and the
// functions in keys.go.
package purse

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// What can be wrong with bytes that should be something of the purse.
var (
	ErrLength   = errors.New("purse: wrong length")
	ErrCommand  = errors.New("purse: not this command")
	ErrNumber   = errors.New("purse: bad card number")
	ErrTime     = errors.New("purse: bad date or time")
	ErrRecord   = errors.New("purse: bad record")
	ErrChecksum = errors.New("purse: checksum does not match")
	ErrMAC      = errors.New("purse: MAC does not match")
	ErrVersion  = errors.New("purse: unknown version")
)

// Names of applications and files a reader selects.
var (
	AIDTUnion     = []byte{0xA0, 0x00, 0x00, 0x06, 0x32, 0x01, 0x01, 0x05} // T-Union ED/EP
	AIDCityUnion  = []byte{0xA0, 0x00, 0x00, 0x00, 0x03, 0x86, 0x98, 0x07, 0x01}
	NameBeijingDF = []byte("PBOC") // DF 1001 of the Beijing card
)

// Short file identifiers of the T-Union application and of the Beijing card.
const (
	SFIBeijing = 0x04 // MF of the Beijing card: number and validity, 32 bytes
	SFIPublic  = 0x15 // issuer, card number, validity, 30 bytes
	SFIHolder  = 0x16
	SFIRegion  = 0x17 // country, city, interoperability, 60 bytes
	SFILog     = 0x18 // cyclic, 10 x 23 bytes
	SFILocal   = 0x19 // records of local industries
	SFITransit = 0x1A // rail record 2703, 128 bytes
	SFITrip    = 0x1E // cyclic, 30 x 48 bytes
)

// FileBeijingDF is the identifier of the purse's directory on a Beijing card.
const FileBeijingDF = 0x1001

// A Number is a card number, 20 decimal digits as file 15 holds them in ten
// bytes: the number printed on the card follows a leading zero.
type Number string

// ParseNumber reads a number of up to 20 digits, filling zeros on the left.
func ParseNumber(s string) (Number, error) {
	if len(s) == 0 || len(s) > 20 {
		return "", fmt.Errorf("%w: %d digits", ErrNumber, len(s))
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return "", fmt.Errorf("%w: not a digit in it", ErrNumber)
		}
	}
	return Number("00000000000000000000"[len(s):] + s), nil
}

// NumberOf reads ten BCD bytes.
func NumberOf(bcd []byte) (Number, error) {
	if len(bcd) != 10 {
		return "", fmt.Errorf("%w: %d bytes", ErrNumber, len(bcd))
	}
	return ParseNumber(hex.EncodeToString(bcd))
}

// Bytes is the BCD form. A number not made by ParseNumber or NumberOf that is
// not up to 20 digits is a defect and panics.
func (n Number) Bytes() (bcd [10]byte) {
	full, err := ParseNumber(string(n))
	if err != nil {
		panic(err)
	}
	for i := range bcd {
		bcd[i] = (full[2*i]-'0')<<4 | (full[2*i+1] - '0')
	}
	return bcd
}

// Factor is what card keys are dispersed with: the last 8 of the 10 bytes.
func (n Number) Factor() (f [8]byte) {
	bcd := n.Bytes()
	copy(f[:], bcd[2:])
	return f
}

// Printed is the number as it stands on the card: without the leading zero.
func (n Number) Printed() string {
	if len(n) == 20 && n[0] == '0' {
		return string(n[1:])
	}
	return string(n)
}

// Purse chooses one of the two purses of an ED/EP application (P2).
type Purse byte

// The two purses. Transit uses EP; ED takes loads with PIN and an overdraft.
const (
	ED Purse = 0x01
	EP Purse = 0x02
)

// Type is the transaction type byte of logs, MACs and TACs.
type Type byte

// Transaction types (JR/T 0025.1 and JT/T 978; records of real cards agree).
const (
	LoadED     Type = 0x01
	LoadEP     Type = 0x02
	Unload     Type = 0x03
	PurchaseED Type = 0x05
	PurchaseEP Type = 0x06
	Overdraw   Type = 0x07
	CAPP       Type = 0x09 // compound purchase: money and records in one unit
)

// Words names the type, in Chinese if zh.
func (t Type) Words(zh bool) string {
	w, ok := typeWords[t]
	switch {
	case !ok:
		return fmt.Sprintf("%02X", byte(t))
	case zh:
		return w[1]
	default:
		return w[0]
	}
}

var typeWords = map[Type][2]string{
	LoadED: {"load ED", "电子存折圈存"}, LoadEP: {"load", "圈存"}, Unload: {"unload", "圈提"},
	PurchaseED: {"purchase ED", "电子存折消费"}, PurchaseEP: {"purchase", "消费"},
	Overdraw: {"overdraft limit", "修改透支限额"}, CAPP: {"compound purchase", "复合消费"},
}

// A Terminal is a terminal number, six bytes, usually BCD.
type Terminal [6]byte

// String gives the twelve digits.
func (t Terminal) String() string { return fmt.Sprintf("%X", t[:]) }

// ParseTerminal reads twelve hexadecimal digits.
func ParseTerminal(s string) (t Terminal, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(t) {
		return t, fmt.Errorf("terminal number %q: %w", s, ErrLength)
	}
	copy(t[:], b)
	return t, nil
}

// BeijingLine is the subway line a Beijing terminal number names: digits 4
// and 5 when it begins with 300.
func (t Terminal) BeijingLine() (string, bool) {
	s := t.String()
	return s[3:5], s[:3] == "300"
}

// A Stamp is date and time as purse commands carry them: YYYYMMDD hhmmss in
// BCD, Beijing wall clock.
type Stamp struct {
	Date [4]byte
	Time [3]byte
}

var beijing = time.FixedZone("CST", 8*3600)

// StampOf is the Beijing wall clock at t, cut to the second.
func StampOf(t time.Time) Stamp {
	t = t.In(beijing)
	y := t.Year()
	return Stamp{
		Date: [4]byte{bcd(y / 100), bcd(y % 100), bcd(int(t.Month())), bcd(t.Day())},
		Time: [3]byte{bcd(t.Hour()), bcd(t.Minute()), bcd(t.Second())},
	}
}

func bcd(n int) byte { return byte(n/10%10<<4 | n%10) }

// StampFrom takes the seven bytes as they stand.
func StampFrom(b [7]byte) (s Stamp) {
	copy(s.Date[:], b[:4])
	copy(s.Time[:], b[4:])
	return s
}

// Bytes is date and time in seven bytes.
func (s Stamp) Bytes() (b [7]byte) {
	copy(b[:4], s.Date[:])
	copy(b[4:], s.Time[:])
	return b
}

// IsZero says that nothing was stamped.
func (s Stamp) IsZero() bool { return s == Stamp{} }

// In reads the wall clock in loc; cards and gates of this house stamp Beijing
// time. A date that does not exist is ErrTime.
func (s Stamp) In(loc *time.Location) (time.Time, error) {
	t, err := time.ParseInLocation("20060102150405", hex.EncodeToString(s.Date[:])+hex.EncodeToString(s.Time[:]), loc)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %s", ErrTime, s)
	}
	return t, nil
}

// Moment is the instant the stamp means, in Beijing time.
func (s Stamp) Moment() (time.Time, error) { return s.In(beijing) }

// String gives "2024-12-29 14:17:40", whatever the digits are.
func (s Stamp) String() string {
	return fmt.Sprintf("%X-%X-%X %X:%X:%X", s.Date[:2], s.Date[2:3], s.Date[3:], s.Time[:1], s.Time[1:2], s.Time[2:])
}

// Yuan prints an amount of fen as yuan: 500 is "5.00".
func Yuan(fen uint32) string { return fmt.Sprintf("%d.%02d", fen/100, fen%100) }
