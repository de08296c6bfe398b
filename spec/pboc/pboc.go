// Package pboc is what debit, credit and e-cash cards of UnionPay add to EMV
// (JR/T 0025 parts 5 to 18, PBOC 3.0, qPBOC, kernel 7): session keys and
// cryptograms, issuer application data with the card's own balance MAC, the
// bits of card risk management, issuer scripts, both logs, the industry records
// of the transit extension and the groups of personalisation data. It moves
// bytes to values and back and does no I/O. Start with IAD and Key; a card's
// whole content is a Personalisation.
//
// Clauses name the design's card document (CARD) where the standard's text was
// not at hand.
package pboc

import "koala/spec/tlv"

// RID is UnionPay's registered application provider.
const RID = "\xA0\x00\x00\x03\x33"

// The payment applications that readers select (CARD 1.1).
const (
	AIDDebit       = RID + "\x01\x01\x01"
	AIDCredit      = RID + "\x01\x01\x02"
	AIDQuasiCredit = RID + "\x01\x01\x03"
	AIDECash       = RID + "\x01\x01\x06"
)

// Instructions beyond those of ISO 7816-4 (CARD 1.3, 1.9, 1.10, 1.12).
const (
	InsGPO        = 0xA8 // GET PROCESSING OPTIONS, CLA 80
	InsGenerateAC = 0xAE // GENERATE AC, CLA 80
	InsReadCAPP   = 0xB4 // READ CAPP DATA, CLA 80
	InsUpdateCAPP = 0xDE // UPDATE CAPP DATA CACHE, CLA 84
	InsProve      = 0x5A // GET TRANS PROVE, CLA 80
	InsCardBlock  = 0x16 // CLA 84
	InsAppUnblock = 0x18 // CLA 84
	InsAppBlock   = 0x1E // CLA 84
	InsPINChange  = 0x24 // PIN CHANGE/UNBLOCK, CLA 84
)

// Data objects that PBOC adds to EMV or gives another meaning (CARD 1.8).
const (
	TagTTQ               tlv.Tag = 0x9F66 // terminal transaction qualifiers, 4
	TagCTQ               tlv.Tag = 0x9F6C // card transaction qualifiers, 2
	TagProcessing        tlv.Tag = 0x9F68 // card additional processing, 4
	TagLastOnlineATC     tlv.Tag = 0x9F13 // 2
	TagPINTries          tlv.Tag = 0x9F17 // 1
	TagLogFormat         tlv.Tag = 0x9F4F // DOL of the transaction log
	TagLogEntry          tlv.Tag = 0x9F4D // SFI | number of records
	TagLoadLogFormat     tlv.Tag = 0xDF4F // DOL of the load log
	TagLoadLogEntry      tlv.Tag = 0xDF4D // SFI | number of records
	TagCurrency          tlv.Tag = 0x9F51 // application currency, n3 in 2
	TagDefaultAction     tlv.Tag = 0x9F52 // application default action, 2
	TagForeignLimit      tlv.Tag = 0x9F53 // consecutive transactions in another currency, 1
	TagTotalLimit        tlv.Tag = 0x9F54 // cumulative total limit, n12
	TagIssuerAuth        tlv.Tag = 0x9F56 // issuer authentication indicator, 1
	TagIssuerCountry     tlv.Tag = 0x9F57 // 2
	TagLowerOffline      tlv.Tag = 0x9F58 // lower consecutive offline limit, 1
	TagUpperOffline      tlv.Tag = 0x9F59 // upper consecutive offline limit, 1
	TagTotalUpper        tlv.Tag = 0x9F5C // cumulative total upper limit, n12
	TagAvailable         tlv.Tag = 0x9F5D // available offline spending amount, n12
	TagDynamicCardData   tlv.Tag = 0x9F69 // card authentication related data, 8
	TagCVMLimit          tlv.Tag = 0x9F6B // card CVM limit, n12
	TagResetThreshold    tlv.Tag = 0x9F6D // e-cash reset threshold, n12
	TagForeignCountry    tlv.Tag = 0x9F72 // consecutive transactions in another country, 1
	TagConversion        tlv.Tag = 0x9F73 // currency conversion parameters, 4
	TagDualTotalLimit    tlv.Tag = 0x9F75 // cumulative total limit, dual currency, n12
	TagSecondaryCurrency tlv.Tag = 0x9F76 // secondary application currency, 2
	TagBalanceLimit      tlv.Tag = 0x9F77 // e-cash balance limit, n12
	TagSingleLimit       tlv.Tag = 0x9F78 // e-cash single transaction limit, n12
	TagBalance           tlv.Tag = 0x9F79 // e-cash balance, n12
	TagECashTerminal     tlv.Tag = 0x9F7A // e-cash terminal support indicator, 1
	TagECashIssuerCode   tlv.Tag = 0x9F74 // e-cash issuer authorisation code, an6
	TagProduct           tlv.Tag = 0x9F63 // product identification, 16
	TagCAPPIndicator     tlv.Tag = 0xDF60 // what the terminal wants of the extension, 1
	TagCAPPSupport       tlv.Tag = 0xDF61 // what the card has of the extension, 1
	TagOffsetLimit       tlv.Tag = 0xDF62 // segment fare offset limit, n12
	TagOffset            tlv.Tag = 0xDF63 // segment fare offset used, n12
	TagSMIndicator       tlv.Tag = 0xDF69 // terminal asks for SM algorithms, 1
	TagCurrency2         tlv.Tag = 0xDF71 // second e-cash: currency, 2
	TagCVMLimit2         tlv.Tag = 0xDF72 // second e-cash: CVM limit, n12
	TagResetThreshold2   tlv.Tag = 0xDF76 // second e-cash: reset threshold, n12
	TagBalanceLimit2     tlv.Tag = 0xDF77 // second e-cash: balance limit, n12
	TagSingleLimit2      tlv.Tag = 0xDF78 // second e-cash: single transaction limit, n12
	TagBalance2          tlv.Tag = 0xDF79 // second e-cash: balance, n12
)
