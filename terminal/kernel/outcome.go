package kernel

import (
	"fmt"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/tlv"
	"koala/terminal"
)

// A Result is what a transaction came to (EMV Contactless Book A, 6.2).
type Result byte

// Results.
const (
	Approved       Result = iota + 1 // give the goods
	Declined                         // do not
	OnlineRequest                    // the host decides: send Outcome.Request
	EndApplication                   // no transaction with this card; Reason says why
	TryAgain                         // the card left too early: present it again
	OtherInterface                   // insert the card instead
	SelectNext                       // another application of the card may do
)

var resultWords = [...]terminal.Words{
	Approved: {"approved", "交易成功"}, Declined: {"declined", "交易拒绝"}, OnlineRequest: {"authorising, please wait", "联机处理中，请稍候"},
	EndApplication: {"card not accepted", "不能受理此卡"}, TryAgain: {"present the card again", "请重新出示卡片"},
	OtherInterface: {"please insert the card", "请插卡"}, SelectNext: {"please wait", "请稍候"},
}

// Words is what the display says, in Chinese if zh.
func (r Result) Words(zh bool) string { return words(resultWords[:], int(r), zh) }

// A Reason says why a transaction came to its result.
type Reason byte

// Reasons.
const (
	NoReason        Reason = iota
	Recovered              // the card had paid before it left the last time; now it is proved
	Torn                   // the card left the field or the contacts
	NoApplication          // no application both sides know
	CardBlocked            // the application or the card is blocked
	AmountTooHigh          // above the contactless transaction limit
	AmountZero             // zero, where zero is not allowed
	CardError              // the card's data are malformed, missing or doubled
	CardRefused            // an unexpected status word
	CardDecided            // the card's own risk management
	TerminalDecided        // the terminal's risk management (TVR)
	NotGenuine             // offline data authentication failed
	Expired                // after the last day
	NotYetValid            // before the first day
	NotForThis             // usage control: not for this kind of sale here
	OnExceptions           // on the exception list
	NoCVM                  // the cardholder could not be verified as needed
	NoHost                 // needs a host and there is none
	HostDeclined           // the host said no
	HostNotProved          // the host's cryptogram is wrong: the card said no
	NoRoom                 // the device cannot keep another approval
	PaidNotAccepted        // the card paid, and failed the check that came after
)

var reasonWords = [...]terminal.Words{
	NoReason: {}, Recovered: {"paid the time before", "上次已扣款"}, Torn: {"the card left too early", "卡片过早离开"},
	NoApplication: {"no application of this terminal", "无可用应用"}, CardBlocked: {"card is blocked", "卡已锁定"},
	AmountTooHigh: {"amount too high to tap", "金额超过挥卡限额"}, AmountZero: {"no amount", "金额为零"},
	CardError: {"the card's data are wrong", "卡片数据错误"}, CardRefused: {"the card refuses", "卡片拒绝交易"},
	CardDecided: {"the card declined", "卡片拒绝"}, TerminalDecided: {"the terminal declined", "终端拒绝"},
	NotGenuine: {"the card could not be proved genuine", "脱机数据认证失败"}, Expired: {"card has expired", "卡已过期"},
	NotYetValid: {"card is not valid yet", "卡未生效"}, NotForThis: {"card not for this kind of sale", "不允许此类交易"},
	OnExceptions: {"card is not accepted", "卡在黑名单中"}, NoCVM: {"cardholder not verified", "持卡人验证失败"},
	NoHost: {"no connection to the bank", "无法联机"}, HostDeclined: {"the bank declined", "发卡行拒绝"},
	HostNotProved: {"the bank's answer could not be proved", "发卡行认证失败"}, NoRoom: {"terminal is full, settle first", "终端已满，请结算"},
	PaidNotAccepted: {"not accepted, money will be returned", "交易未完成，款项将退回"},
}

// Words says the reason, in Chinese if zh; empty for NoReason.
func (r Reason) Words(zh bool) string { return words(reasonWords[:], int(r), zh) }

// A CVM is how the cardholder was, or must be, verified.
type CVM byte

// Methods.
const (
	NoCVMNeeded     CVM = iota
	Signature           // signs the receipt
	OnlinePIN           // the host checks the PIN
	OfflinePIN          // the card has checked the PIN
	PINAndSignature     // the card has checked the PIN, and a signature is needed
	ConsumerDevice      // on the cardholder's own device
	Document            // by an identity document
)

var cvmWords = [...]terminal.Words{
	NoCVMNeeded: {"no verification", "免签免密"}, Signature: {"signature", "签名"}, OnlinePIN: {"online PIN", "联机密码"},
	OfflinePIN: {"offline PIN", "脱机密码"}, PINAndSignature: {"offline PIN and signature", "脱机密码并签名"},
	ConsumerDevice: {"verified on the device", "设备验证"}, Document: {"identity document", "证件验证"},
}

// Words names the method, in Chinese if zh.
func (c CVM) Words(zh bool) string { return words(cvmWords[:], int(c), zh) }

func words(list []terminal.Words, i int, zh bool) string {
	if i >= len(list) {
		return fmt.Sprint(i)
	}
	return list[i].In(zh)
}

// An Outcome is everything a transaction came to. Its String never shows the
// card.
type Outcome struct {
	Result  Result
	Reason  Reason
	SW      iso7816.SW // what the card answered, when that was the reason
	CVM     CVM
	Contact bool

	Application Application // that was selected
	Label       string      // the card's name for it
	PAN         string      // digits, empty when not read; masked when printed
	PSN         byte
	CID         byte // cryptogram type of the last cryptogram: 00 AAC, 40 TC, 80 ARQC
	TVR         [5]byte
	TSI         [2]byte
	Available   *uint64 // 9F5D or 9F79: what can be spent offline now, minor units
	ARC         string  // authorisation response code: the host's, or the terminal's own Y1, Z1, Y3, Z3
	Online      bool    // the host answered; if ARC approves and Result does not, it must be told
	// Committed says that the card was told to commit an offline approval: it
	// has paid, or may have paid if it left.
	Committed bool
	Scripts   []ScriptResult

	pin  []byte  // block for the host
	data objects // of both sides
}

// A ScriptResult is how far an issuer script went (tag 9F5B).
type ScriptResult struct {
	ID     [4]byte // tag 9F18, zero when the script has none
	Before bool    // template 71, before the final cryptogram
	Done   int     // commands the card took
	Of     int
	SW     iso7816.SW // of the last command sent; 0 when none was or its answer was lost
	Lost   bool       // the card left, and nobody knows about the last command
}

// OK says that the card took all of it.
func (s ScriptResult) OK() bool { return s.Done == s.Of && !s.Lost }

// Bytes codes the result for the host: 2x all done, 1x failed at command x (F
// from the fifteenth on), 00 not performed; then the identifier.
func (s ScriptResult) Bytes() []byte {
	first := byte(0x20)
	switch {
	case s.OK():
	case s.Done == 0 && s.SW == 0 && !s.Lost:
		first = 0x00
	default:
		first = 0x10 | byte(min(s.Done+1, 15))
	}
	return append([]byte{first}, s.ID[:]...)
}

// Words tells the outcome in one line, in Chinese if zh.
func (o Outcome) Words(zh bool) string {
	return terminal.Line(o.Result.Words(zh), o.Reason.Words(zh), o.SW, zh)
}

// String names the outcome without showing the card.
func (o Outcome) String() string { return o.Words(false) }

// GoString is String: no form of printing shows the card.
func (o Outcome) GoString() string { return o.String() }

// tagPINData is the PIN block for the host in a request (EMV 4.4 Book 3,
// annex A: transaction PIN data).
const tagPINData tlv.Tag = 0x99

// field55 are the objects of a request to the host, beside the card's number.
var field55 = []tlv.Tag{
	emv.TagAC, emv.TagCID, emv.TagIAD, emv.TagUN, emv.TagATC, emv.TagTVR, emv.TagDate, emv.TagType, emv.TagAmount,
	emv.TagCurrency, emv.TagAIP, emv.TagTerminalCountry, emv.TagAmountOther, emv.TagCapabilities, emv.TagCVMResults,
	emv.TagTerminalType, emv.TagDeviceSerial, emv.TagDFName, emv.TagTerminalVersion, emv.TagSequence,
}

// Request is what the host is asked: field 55 with track 2 or the PAN, its
// sequence number and the PIN block when there is one. Contactless cards do
// not send 9F27; it is put in from 9F10.
func (o *Outcome) Request() []byte {
	var out []byte
	for _, tag := range field55 {
		v := o.data[tag]
		if tag == emv.TagCID && v == nil {
			v = []byte{o.CID}
		}
		if v != nil {
			out = tlv.Append(out, tag, v)
		}
	}
	if v := o.data[emv.TagTrack2]; v != nil {
		out = tlv.Append(out, emv.TagTrack2, v)
	} else if v := o.data[emv.TagPAN]; v != nil {
		out = tlv.Append(out, emv.TagPAN, v)
	}
	if v := o.data[emv.TagPSN]; v != nil {
		out = tlv.Append(out, emv.TagPSN, v)
	}
	if o.pin != nil {
		out = tlv.Append(out, tagPINData, o.pin)
	}
	return out
}

// Answered finishes an OnlineRequest with the host's answer, or with the error
// that there is none. The card takes no further part: it has left.
func (o *Outcome) Answered(a Answer, err error) {
	if o.Result != OnlineRequest {
		return
	}
	o.Online = err == nil
	switch {
	case err != nil:
		o.Result, o.Reason, o.ARC = Declined, NoHost, arcNoHostDeclined
	case a.Approves():
		o.Result, o.Reason, o.ARC = Approved, NoReason, a.ARC
	default:
		o.Result, o.Reason, o.ARC = Declined, HostDeclined, a.ARC
	}
}
