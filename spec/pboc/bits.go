package pboc

import "encoding/binary"

// Processing is the card additional processing 9F68, four bytes with the first
// at the most significant end: what the issuer lets the card decide (CARD 1.4).
type Processing uint32

// Bits of Processing, byte and bit as in CARD 1.4.
const (
	ProcECash          Processing = 1 << 31 // 1.8 e-cash check
	ProcECashAndTotal  Processing = 1 << 30 // 1.7 e-cash and cumulative total
	ProcECashOrTotal   Processing = 1 << 29 // 1.6 e-cash or cumulative total
	ProcNewCard        Processing = 1 << 28 // 1.5 new card goes online
	ProcPINTries       Processing = 1 << 27 // 1.4 PIN tries exceeded goes online
	ProcForeignOffline Processing = 1 << 26 // 1.3 other currencies may be approved offline
	ProcPreferContact  Processing = 1 << 25 // 1.2 online transactions by contact where there is one
	ProcAvailable      Processing = 1 << 24 // 1.1 return 9F5D
	ProcPrepaid        Processing = 1 << 23 // 2.8 prepaid: an online request takes the money at once
	ProcNoForeign      Processing = 1 << 22 // 2.7 decline other currencies
	ProcNewCardDecline Processing = 1 << 21 // 2.6 new card at an offline-only reader is declined
	ProcLog            Processing = 1 << 20 // 2.5 log offline approvals
	ProcOnlinePIN      Processing = 1 << 15 // 3.8 online PIN, matching currency
	ProcForeignPIN     Processing = 1 << 14 // 3.7 online PIN, other currency
	ProcForeignCVM     Processing = 1 << 13 // 3.6 cardholder verification needed for other currencies
	ProcSignature      Processing = 1 << 12 // 3.5 signature supported
)

// ProcessingFrom reads the four bytes of 9F68.
func ProcessingFrom(b [4]byte) Processing { return Processing(binary.BigEndian.Uint32(b[:])) }

// Bytes codes 9F68.
func (p Processing) Bytes() (b [4]byte) {
	binary.BigEndian.PutUint32(b[:], uint32(p))
	return b
}

// Has tells whether all bits are set.
func (p Processing) Has(bits Processing) bool { return p&bits == bits }

// A Mode is the CAPP indicator DF60 in the PDOL data: what the terminal wants of
// the extended application (CARD 1.12). Other values mean None.
type Mode byte

// Modes of DF60.
const (
	ModeNone     Mode = 0
	ModeFare     Mode = 1 // segment fare
	ModeHold     Mode = 2 // offline pre-authorisation
	ModeComplete Mode = 3 // pre-authorisation completion
)

// ModeOf reads DF60; a value that is none of the four is ignored.
func ModeOf(b byte) Mode {
	if b > byte(ModeComplete) {
		return ModeNone
	}
	return Mode(b)
}

// Values of DF61 in the FCI; SupportRMAC is added to either (CARD 1.12).
const (
	SupportFare = 0x01 // segment fare only
	SupportFull = 0x02 // pre-authorisation too
	SupportRMAC = 0x80 // the card proves CAPP answers
)
