package emv

// The bit fields both sides exchange, as byte arrays in the order they are
// sent. A bit constant counts the byte from 0 in its high byte and has the mask
// in its low byte; the standards call 0x0180 "byte 2, bit 8".

func has(field []byte, bit uint16) bool { return field[bit>>8]&byte(bit) != 0 }

func set(field []byte, bit uint16) { field[bit>>8] |= byte(bit) }

// AIP is the application interchange profile, tag 82: what the card can do
// (EMV 4.4 Book 3, C1).
type AIP [2]byte

// An AIPBit is one ability of the card.
type AIPBit uint16

// Abilities of the card.
const (
	AIPSDA          AIPBit = 0x0040
	AIPDDA          AIPBit = 0x0020
	AIPCVM          AIPBit = 0x0010 // cardholder verification is supported
	AIPTerminalRisk AIPBit = 0x0008 // terminal risk management is to be performed
	AIPIssuerAuth   AIPBit = 0x0004 // issuer authentication by EXTERNAL AUTHENTICATE
	AIPOnDevice     AIPBit = 0x0002 // on device cardholder verification (contactless)
	AIPCDA          AIPBit = 0x0001
)

// Has says whether the bit is set.
func (a AIP) Has(b AIPBit) bool { return has(a[:], uint16(b)) }

// Set sets the bit.
func (a *AIP) Set(b AIPBit) { set(a[:], uint16(b)) }

// TVR is the terminal verification results, tag 95 (EMV 4.4 Book 3, C5).
type TVR [5]byte

// A TVRBit is one finding of the terminal.
type TVRBit uint16

// Findings of the terminal.
const (
	TVRNoODA             TVRBit = 0x0080 // offline data authentication was not performed
	TVRSDAFailed         TVRBit = 0x0040
	TVRDataMissing       TVRBit = 0x0020
	TVRException         TVRBit = 0x0010 // card is on the exception list
	TVRDDAFailed         TVRBit = 0x0008
	TVRCDAFailed         TVRBit = 0x0004
	TVRSDASelected       TVRBit = 0x0002
	TVRVersions          TVRBit = 0x0180 // card and terminal have different application versions
	TVRExpired           TVRBit = 0x0140
	TVRNotYetEffective   TVRBit = 0x0120
	TVRServiceNotAllowed TVRBit = 0x0110
	TVRNewCard           TVRBit = 0x0108
	TVRCVMFailed         TVRBit = 0x0280
	TVRCVMUnknown        TVRBit = 0x0240
	TVRPINTries          TVRBit = 0x0220 // PIN try limit exceeded
	TVRNoPINPad          TVRBit = 0x0210 // PIN required, pad absent or not working
	TVRPINNotEntered     TVRBit = 0x0208 // PIN required, pad present, not entered
	TVROnlinePIN         TVRBit = 0x0204 // online PIN entered
	TVRFloorLimit        TVRBit = 0x0380
	TVRLowerLimit        TVRBit = 0x0340
	TVRUpperLimit        TVRBit = 0x0320
	TVRRandomOnline      TVRBit = 0x0310
	TVRForcedOnline      TVRBit = 0x0308 // merchant forced the transaction online
	TVRDefaultTDOL       TVRBit = 0x0480
	TVRIssuerAuthFailed  TVRBit = 0x0440
	TVRScriptBefore      TVRBit = 0x0420 // script failed before the final GENERATE AC
	TVRScriptAfter       TVRBit = 0x0410 // script failed after it
)

// Has says whether the bit is set.
func (t TVR) Has(b TVRBit) bool { return has(t[:], uint16(b)) }

// Set sets the bit.
func (t *TVR) Set(b TVRBit) { set(t[:], uint16(b)) }

// Meets says whether any bit of an action code is set here too (EMV 4.4 Book 3,
// 10.7). Action codes have the same bits.
func (t TVR) Meets(action TVR) bool {
	for i := range t {
		if t[i]&action[i] != 0 {
			return true
		}
	}
	return false
}

// TSI is the transaction status information, tag 9B (EMV 4.4 Book 3, C6).
type TSI [2]byte

// A TSIBit is one step that was performed.
type TSIBit uint16

// Steps of a transaction.
const (
	TSIODA          TSIBit = 0x0080
	TSICVM          TSIBit = 0x0040
	TSICardRisk     TSIBit = 0x0020
	TSIIssuerAuth   TSIBit = 0x0010
	TSITerminalRisk TSIBit = 0x0008
	TSIScript       TSIBit = 0x0004
)

// Has says whether the bit is set.
func (t TSI) Has(b TSIBit) bool { return has(t[:], uint16(b)) }

// Set sets the bit.
func (t *TSI) Set(b TSIBit) { set(t[:], uint16(b)) }

// TTQ is the terminal transaction qualifiers, tag 9F66 (CARD.md 1.2; EMV
// Contactless C-3 and C-7).
type TTQ [4]byte

// A TTQBit is one ability or wish of the reader.
type TTQBit uint16

// Abilities and wishes of the reader.
const (
	TTQMagStripe    TTQBit = 0x0080 // contactless magnetic stripe
	TTQFull         TTQBit = 0x0040 // contactless full debit/credit; checked first
	TTQQuick        TTQBit = 0x0020 // qPBOC, qVSDC
	TTQContact      TTQBit = 0x0010 // contact debit/credit
	TTQOfflineOnly  TTQBit = 0x0008
	TTQOnlinePIN    TTQBit = 0x0004
	TTQSignature    TTQBit = 0x0002
	TTQODAForOnline TTQBit = 0x0001 // offline data authentication for online authorisations
	TTQOnline       TTQBit = 0x0180 // online cryptogram required
	TTQCVM          TTQBit = 0x0140 // cardholder verification required
	TTQOfflinePIN   TTQBit = 0x0120 // contact offline PIN
	TTQIssuerUpdate TTQBit = 0x0280
	TTQOnDevice     TTQBit = 0x0240 // verification on the consumer's device
	TTQFastDDA01    TTQBit = 0x0380 // fDDA version 01
)

// Has says whether the bit is set.
func (t TTQ) Has(b TTQBit) bool { return has(t[:], uint16(b)) }

// Set sets the bit.
func (t *TTQ) Set(b TTQBit) { set(t[:], uint16(b)) }

// CTQ is the card transaction qualifiers, tag 9F6C (CARD.md 1.4; bits 1.6 to
// 1.4 and 2.8 as in EMV Contactless C-3).
type CTQ [2]byte

// A CTQBit is one wish of the card.
type CTQBit uint16

// Wishes of the card.
const (
	CTQOnlinePIN      CTQBit = 0x0080
	CTQSignature      CTQBit = 0x0040
	CTQOnlineIfODA    CTQBit = 0x0020 // go online if offline data authentication fails
	CTQContactIfODA   CTQBit = 0x0010 // change interface if it fails
	CTQOnlineIfDate   CTQBit = 0x0008 // go online if the application has expired
	CTQContactForCash CTQBit = 0x0004 // change interface for cash
	CTQContactForBack CTQBit = 0x0002 // change interface for cashback
	CTQOnDevice       CTQBit = 0x0180 // the consumer's device verified its holder
	CTQIssuerUpdate   CTQBit = 0x0140 // issuer update processing at the point of sale
)

// Has says whether the bit is set.
func (c CTQ) Has(b CTQBit) bool { return has(c[:], uint16(b)) }

// Set sets the bit.
func (c *CTQ) Set(b CTQBit) { set(c[:], uint16(b)) }

// Capabilities is the terminal capabilities, tag 9F33 (EMV 4.4 Book 4, A2).
type Capabilities [3]byte

// A CapabilityBit is one ability of the terminal.
type CapabilityBit uint16

// Abilities of the terminal.
const (
	CapManualEntry CapabilityBit = 0x0080
	CapMagStripe   CapabilityBit = 0x0040
	CapChip        CapabilityBit = 0x0020
	CapPlainPIN    CapabilityBit = 0x0180 // plaintext PIN checked by the card
	CapOnlinePIN   CapabilityBit = 0x0140
	CapSignature   CapabilityBit = 0x0120
	CapEncipherPIN CapabilityBit = 0x0110 // enciphered PIN checked by the card
	CapNoCVM       CapabilityBit = 0x0108
	CapDocument    CapabilityBit = 0x0101 // cardholder's identity document, PBOC
	CapSDA         CapabilityBit = 0x0280
	CapDDA         CapabilityBit = 0x0240
	CapCardCapture CapabilityBit = 0x0220
	CapCDA         CapabilityBit = 0x0208
)

// Has says whether the bit is set.
func (c Capabilities) Has(b CapabilityBit) bool { return has(c[:], uint16(b)) }

// Set sets the bit.
func (c *Capabilities) Set(b CapabilityBit) { set(c[:], uint16(b)) }

// AUC is the application usage control, tag 9F07 (EMV 4.4 Book 3, C2).
type AUC [2]byte

// An AUCBit is one use the issuer allows.
type AUCBit uint16

// Uses the issuer allows.
const (
	AUCDomesticCash     AUCBit = 0x0080
	AUCForeignCash      AUCBit = 0x0040
	AUCDomesticGoods    AUCBit = 0x0020
	AUCForeignGoods     AUCBit = 0x0010
	AUCDomesticServices AUCBit = 0x0008
	AUCForeignServices  AUCBit = 0x0004
	AUCATM              AUCBit = 0x0002
	AUCNotATM           AUCBit = 0x0001 // at terminals other than ATMs
	AUCDomesticCashback AUCBit = 0x0180
	AUCForeignCashback  AUCBit = 0x0140
)

// Has says whether the bit is set.
func (a AUC) Has(b AUCBit) bool { return has(a[:], uint16(b)) }

// Set sets the bit.
func (a *AUC) Set(b AUCBit) { set(a[:], uint16(b)) }

// A CID is the cryptogram information data, tag 9F27 (EMV 4.4 Book 3, 6.5.5.4).
type CID byte

// Kinds of cryptogram: bits 8 and 7 of the CID and of P1 in GENERATE AC, where
// bit 5 asks for a combined signature.
const (
	AAC        byte = 0x00 // declined
	TC         byte = 0x40 // approved offline
	ARQC       byte = 0x80 // online authorisation requested
	RequestCDA byte = 0x10
)

// Kind is AAC, TC or ARQC; 0xC0 is none of them.
func (c CID) Kind() byte { return byte(c) & 0xC0 }
