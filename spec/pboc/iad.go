package pboc

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A Cryptogram is what the card decided, as in the CVR.
type Cryptogram byte

// Decisions; NotRequested stands for the second GENERATE AC only.
const (
	AAC          Cryptogram = 0 // declined
	TC           Cryptogram = 1 // approved offline
	ARQC         Cryptogram = 2 // ask the issuer
	NotRequested Cryptogram = 2 // no second GENERATE AC yet
)

// String names the cryptogram.
func (c Cryptogram) String() string {
	switch c {
	case AAC:
		return "AAC"
	case TC:
		return "TC"
	case ARQC:
		return "ARQC"
	}
	return "RFU"
}

// CID is the cryptogram information data (9F27) of the decision.
func (c Cryptogram) CID() byte { return byte(c) << 6 }

// A CVR is the three bytes of card verification results, the first byte at the
// most significant end (CARD 1.4).
type CVR uint32

// Bits of the CVR, byte and bit of the table in CARD 1.4.
const (
	CVRIssuerAuthFailed     CVR = 1 << 19 // 1.4
	CVROfflinePIN           CVR = 1 << 18 // 1.3 offline PIN verification performed
	CVRPINFailed            CVR = 1 << 17 // 1.2
	CVRNoOnline             CVR = 1 << 16 // 1.1 unable to go online
	CVRLastOnlineOpen       CVR = 1 << 15 // 2.8 last online transaction not completed
	CVRPINLimit             CVR = 1 << 14 // 2.7 PIN try limit exceeded
	CVRVelocity             CVR = 1 << 13 // 2.6 velocity checking exceeded
	CVRNewCard              CVR = 1 << 12 // 2.5
	CVRLastIssuerAuthFailed CVR = 1 << 11 // 2.4
	CVRNoIssuerAuth         CVR = 1 << 10 // 2.3 issuer authentication not performed after online
	CVRBlockedByPIN         CVR = 1 << 9  // 2.2
	CVRLastSDAFailed        CVR = 1 << 8  // 2.1
	CVRScriptFailed         CVR = 1 << 3  // 3.4 last issuer script failed
	CVRLastDDAFailed        CVR = 1 << 2  // 3.3
	CVRDDA                  CVR = 1 << 1  // 3.2 offline DDA performed

	cvrScripts CVR = 0xF0
	cvrAll     CVR = 0xFFFFFF
)

// NewCVR is a CVR with both decisions.
func NewCVR(first, second Cryptogram) CVR {
	return CVR(first&3)<<20 | CVR(second&3)<<22
}

// CVRFrom reads the three bytes.
func CVRFrom(b [3]byte) CVR { return CVR(b[0])<<16 | CVR(b[1])<<8 | CVR(b[2]) }

// Bytes codes the CVR.
func (v CVR) Bytes() [3]byte { return [3]byte{byte(v >> 16), byte(v >> 8), byte(v)} }

// First is the answer of the first GENERATE AC or of GET PROCESSING OPTIONS:
// what the reader of a qPBOC transaction goes by (CARD 1.3).
func (v CVR) First() Cryptogram { return Cryptogram(v >> 20 & 3) }

// Second is the answer of the second GENERATE AC.
func (v CVR) Second() Cryptogram { return Cryptogram(v >> 22 & 3) }

// Has tells whether all bits are set.
func (v CVR) Has(bits CVR) bool { return v&bits == bits }

// Scripts counts the script commands after the last second GENERATE AC, 0 to 15.
func (v CVR) Scripts() int { return int(v&cvrScripts) >> 4 }

// WithScripts sets that count; 15 stands for more.
func (v CVR) WithScripts(n int) CVR { return v&^cvrScripts | CVR(min(n, 15))<<4 }

// A ReportID says which amounts the card adds to its application data.
type ReportID byte

// Reports of CARD 1.5.
const (
	NoReport            ReportID = 0
	ReportBalance       ReportID = 1 // e-cash balance 9F79
	ReportTotal         ReportID = 2 // cumulative total transaction amount
	ReportBalanceTotal  ReportID = 3 // both
	ReportTotalAndLimit ReportID = 4 // cumulative total and its limit 9F54
	ReportAvailable     ReportID = 5 // available offline spending amount 9F5D
	reportAmountLen              = 5 // the low ten digits of n12
	reportMACLen                 = 4
	iadHead                      = 8
	iadOne, iadTwo               = 1 + reportAmountLen + reportMACLen, 1 + 2*reportAmountLen + reportMACLen
	maxReported         uint64   = 9_999_999_999 // ten digits
)

// Two tells whether the report carries two amounts.
func (r ReportID) Two() bool { return r == ReportBalanceTotal || r == ReportTotalAndLimit }

// Valid tells whether the identifier is one of the five.
func (r ReportID) Valid() bool { return r >= ReportBalance && r <= ReportAvailable }

// An IAD is the issuer application data 9F10: 07 | DKI | CVN | 03 | CVR 3 | ALG,
// then, if the issuer wants a report, 0A | id | amount 5 | MAC 4 or
// 0F | id | amount 5 | amount 5 | MAC 4 (CARD 1.5).
type IAD struct {
	DKI, CVN byte
	CVR      CVR
	Alg      Algorithm
	Report   ReportID
	Amounts  [2]uint64 // fen; the second only where Report has two
	MAC      [4]byte   // of the amounts under the session MAC key
}

// ErrIAD says that bytes are no issuer application data of this coding.
var ErrIAD = errors.New("pboc: not PBOC issuer application data")

// BalanceMAC proves the amounts of a report: the MAC under the session MAC key of
// ATC | amount 5 | 00, or of ATC | amount 5 | amount 5 | 00*4.
func (k *Key) BalanceMAC(atc uint16, id ReportID, amounts [2]uint64) [4]byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 16), atc)
	b = appendReported(b, amounts[0])
	if !id.Two() {
		return k.MAC4(nil, append(b, 0))
	}
	return k.MAC4(nil, append(appendReported(b, amounts[1]), 0, 0, 0, 0))
}

func appendReported(b []byte, fen uint64) []byte {
	n := Amount(fen % (maxReported + 1))
	return append(b, n[1:]...)
}

// Sign fills in the MAC. k is the session MAC key.
func (x *IAD) Sign(k *Key, atc uint16) {
	if x.Report != NoReport {
		x.MAC = k.BalanceMAC(atc, x.Report, x.Amounts)
	}
}

// Verify tells whether the MAC of the report is the card's. A value without
// report proves nothing and is not verified.
func (x IAD) Verify(k *Key, atc uint16) bool {
	return x.Report != NoReport && k.BalanceMAC(atc, x.Report, x.Amounts) == x.MAC
}

// Bytes codes the value of 9F10.
func (x IAD) Bytes() []byte {
	v := x.CVR.Bytes()
	b := append(make([]byte, 0, iadHead+1+iadTwo), 0x07, x.DKI, x.CVN, 0x03, v[0], v[1], v[2], byte(x.Alg))
	switch {
	case x.Report == NoReport:
		return b
	case x.Report.Two():
		b = append(b, iadTwo, byte(x.Report))
		b = appendReported(appendReported(b, x.Amounts[0]), x.Amounts[1])
	default:
		b = append(b, iadOne, byte(x.Report))
		b = appendReported(b, x.Amounts[0])
	}
	return append(b, x.MAC[:]...)
}

// ParseIAD reads the value of 9F10.
func ParseIAD(b []byte) (IAD, error) {
	if len(b) < iadHead || b[0] != 0x07 || b[3] != 0x03 || !Algorithm(b[7]).Valid() {
		return IAD{}, fmt.Errorf("%w: %d bytes", ErrIAD, len(b))
	}
	x := IAD{DKI: b[1], CVN: b[2], CVR: CVRFrom([3]byte(b[4:7])), Alg: Algorithm(b[7])}
	b = b[iadHead:]
	if len(b) == 0 {
		return x, nil
	}
	if len(b) < 2 || len(b) != 1+int(b[0]) || !ReportID(b[1]).Valid() {
		return IAD{}, fmt.Errorf("%w: report", ErrIAD)
	}
	x.Report = ReportID(b[1])
	n := 1
	if x.Report.Two() {
		n = 2
	}
	if len(b) != 2+n*reportAmountLen+reportMACLen {
		return IAD{}, fmt.Errorf("%w: report of %d bytes", ErrIAD, len(b))
	}
	b = b[2:]
	for i := range n {
		fen, err := ParseAmount(append([]byte{0}, b[:reportAmountLen]...))
		if err != nil {
			return IAD{}, fmt.Errorf("%w: %w", ErrIAD, err)
		}
		x.Amounts[i], b = fen, b[reportAmountLen:]
	}
	x.MAC = [4]byte(b)
	return x, nil
}
