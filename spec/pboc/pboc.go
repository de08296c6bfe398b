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

import (
	"koala/spec/emv"
	"koala/spec/tlv"
)

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
	InsGPO        = emv.InsGPO        // GET PROCESSING OPTIONS, CLA 80
	InsGenerateAC = emv.InsGenerateAC // GENERATE AC, CLA 80
	InsReadCAPP   = 0xB4              // READ CAPP DATA, CLA 80
	InsUpdateCAPP = 0xDE              // UPDATE CAPP DATA CACHE, CLA 84
	InsProve      = 0x5A              // GET TRANS PROVE, CLA 80
	InsCardBlock  = emv.InsCardBlock  // CLA 84
	InsAppUnblock = emv.InsAppUnblock // CLA 84
	InsAppBlock   = emv.InsAppBlock   // CLA 84
	InsPINChange  = emv.InsPINChange  // PIN CHANGE/UNBLOCK, CLA 84
)

// Data objects of card risk management and of a second e-cash that spec/emv does
// not name (CARD 1.8).
const (
	TagDefaultAction     tlv.Tag = 0x9F52 // application default action, 2
	TagIssuerAuth        tlv.Tag = 0x9F56 // issuer authentication indicator, 1
	TagIssuerCountry     tlv.Tag = 0x9F57 // 2
	TagLowerOffline      tlv.Tag = 0x9F58 // lower consecutive offline limit, 1
	TagUpperOffline      tlv.Tag = 0x9F59 // upper consecutive offline limit, 1
	TagForeignCountry    tlv.Tag = 0x9F72 // consecutive transactions in another country, 1
	TagConversion        tlv.Tag = 0x9F73 // currency conversion parameters, 4
	TagDualTotalLimit    tlv.Tag = 0x9F75 // cumulative total limit, dual currency, n12
	TagSecondaryCurrency tlv.Tag = 0x9F76 // secondary application currency, 2
	TagCurrency2         tlv.Tag = 0xDF71 // second e-cash: currency, 2
	TagCVMLimit2         tlv.Tag = 0xDF72 // second e-cash: CVM limit, n12
	TagResetThreshold2   tlv.Tag = 0xDF76 // second e-cash: reset threshold, n12
	TagBalanceLimit2     tlv.Tag = 0xDF77 // second e-cash: balance limit, n12
	TagSingleLimit2      tlv.Tag = 0xDF78 // second e-cash: single transaction limit, n12
	TagBalance2          tlv.Tag = 0xDF79 // second e-cash: balance, n12
)
