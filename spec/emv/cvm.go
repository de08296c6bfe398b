package emv

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrCVMList says that tag 8E is malformed.
var ErrCVMList = errors.New("emv: malformed cardholder verification method list")

// A CVM is a cardholder verification method (EMV 4.4 Book 3, C3).
type CVM byte

// The methods.
const (
	CVMFail         CVM = 0x00
	CVMPlainPIN     CVM = 0x01 // plaintext PIN, checked by the card
	CVMOnlinePIN    CVM = 0x02 // enciphered PIN, checked online
	CVMPlainPINSign CVM = 0x03 // plaintext PIN and signature
	CVMEncipherPIN  CVM = 0x04 // enciphered PIN, checked by the card
	CVMEncipherSign CVM = 0x05 // enciphered PIN and signature
	CVMSignature    CVM = 0x1E
	CVMNone         CVM = 0x1F // no verification required
	CVMDocument     CVM = 0x20 // identity document, PBOC
	CVMNotPerformed CVM = 0x3F // in CVM results only
	CVMNextIfFailed CVM = 0x40 // bit 7 of a rule: try the following rule if this one fails
	CVMWithoutBit7  CVM = 0x3F // mask of the method proper
)

// MaxCVMRules is the number of rules that fit into the 252 bytes of the list.
const MaxCVMRules = 122

// Results of verification, third byte of CVMResults.
const (
	CVMResultUnknown byte = 0x00
	CVMResultFailed  byte = 0x01
	CVMResultOK      byte = 0x02
)

// A CVMCondition says when a rule applies (EMV 4.4 Book 3, C3).
type CVMCondition byte

// The conditions. X and Y are the list's amounts in the application currency.
const (
	CVMAlways         CVMCondition = 0x00
	CVMUnattendedCash CVMCondition = 0x01
	CVMNotCash        CVMCondition = 0x02 // neither unattended nor manual cash nor cashback
	CVMIfSupported    CVMCondition = 0x03 // if the terminal supports the method
	CVMManualCash     CVMCondition = 0x04
	CVMCashback       CVMCondition = 0x05
	CVMUnderX         CVMCondition = 0x06 // application currency and amount under X
	CVMOverX          CVMCondition = 0x07
	CVMUnderY         CVMCondition = 0x08
	CVMOverY          CVMCondition = 0x09
)

// A CVMRule is one line of the list: the method, with bit 7 as sent, and when
// it applies.
type CVMRule struct {
	Code      CVM
	Condition CVMCondition
}

// Method is the method without bit 7.
func (r CVMRule) Method() CVM { return r.Code & CVMWithoutBit7 }

// Next says whether the following rule is tried if this one fails.
func (r CVMRule) Next() bool { return r.Code&CVMNextIfFailed != 0 }

// A CVMList is the card's verification rules in order of preference, tag 8E.
type CVMList struct {
	X, Y  uint32 // minor units of the application currency
	Rules []CVMRule
}

// ParseCVMList reads the value of tag 8E: X and Y of 4 bytes each, then two
// bytes a rule (EMV 4.4 Book 3, 10.5). A list may have no rules.
func ParseCVMList(raw []byte) (CVMList, error) {
	if len(raw) < 8 || len(raw)%2 != 0 || len(raw) > 8+2*MaxCVMRules {
		return CVMList{}, fmt.Errorf("%w: %d bytes", ErrCVMList, len(raw))
	}
	l := CVMList{X: binary.BigEndian.Uint32(raw), Y: binary.BigEndian.Uint32(raw[4:])}
	for raw = raw[8:]; len(raw) > 0; raw = raw[2:] {
		l.Rules = append(l.Rules, CVMRule{CVM(raw[0]), CVMCondition(raw[1])})
	}
	return l, nil
}

// Bytes codes the list.
func (l CVMList) Bytes() []byte {
	out := binary.BigEndian.AppendUint32(nil, l.X)
	out = binary.BigEndian.AppendUint32(out, l.Y)
	for _, r := range l.Rules {
		out = append(out, byte(r.Code), byte(r.Condition))
	}
	return out
}

// CVMResults is the outcome of verification, tag 9F34: the rule applied last
// and its result (EMV 4.4 Book 4, A4).
type CVMResults [3]byte

// NewCVMResults makes the outcome of one rule; result is one of CVMResult...
func NewCVMResults(r CVMRule, result byte) CVMResults {
	return CVMResults{byte(r.Code), byte(r.Condition), result}
}

// Rule is the rule applied last.
func (c CVMResults) Rule() CVMRule { return CVMRule{CVM(c[0]), CVMCondition(c[1])} }

// Result is unknown, failed or successful.
func (c CVMResults) Result() byte { return c[2] }
