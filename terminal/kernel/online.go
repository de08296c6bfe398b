package kernel

import (
	"koala/spec/emv"
	"koala/spec/tlv"
)

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
	switch {
	case err != nil:
		o.Result, o.Reason, o.ARC = Declined, NoHost, "Z3"
	case a.Approves():
		o.Result, o.Reason, o.ARC = Approved, NoReason, a.ARC
	default:
		o.Result, o.Reason, o.ARC = Declined, HostDeclined, a.ARC
	}
}
