package issuing

import (
	"testing"

	"koala/spec/emv"
	"koala/spec/tlv"
)

// FuzzRequest: whatever a terminal sends is read or refused; what is read has
// every object at its length.
func FuzzRequest(f *testing.F) {
	var whole []byte
	for _, o := range []struct {
		tag tlv.Tag
		n   int
	}{{emv.TagAC, 8}, {emv.TagATC, 2}, {emv.TagIAD, 18}, {emv.TagAIP, 2}, {emv.TagUN, 4}, {emv.TagTVR, 5}, {emv.TagDate, 3}, {emv.TagType, 1},
		{emv.TagAmount, 6}, {emv.TagAmountOther, 6}, {emv.TagCurrency, 2}, {emv.TagTerminalCountry, 2}, {emv.TagPSN, 1}} {
		whole = tlv.Append(whole, o.tag, make([]byte, o.n))
	}
	f.Add(tlv.Append(whole, emv.TagPAN, []byte{0x62, 0x28, 0x48, 0x04, 0x02, 0x56, 0x48, 0x90, 0x01, 0x8F}))
	f.Add(tlv.Append(whole, emv.TagTrack2, []byte{0x62, 0x28, 0x48, 0x04, 0x02, 0x56, 0x48, 0x90, 0x01, 0x8D, 0x25, 0x12, 0x22, 0x00}))
	f.Add(whole)
	f.Fuzz(func(t *testing.T, in []byte) {
		var a asked
		if err := a.parse(in); err == nil && (len(a.c.PAN) < 8 || len(a.c.IAD) == 0 || a.fen.Sign() < 0) {
			t.Errorf("%X reads as %+v", in, a)
		}
	})
}
