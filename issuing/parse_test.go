package issuing

import (
	"testing"

	"koala/spec/coupon"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/tlv"
	"pgregory.net/rapid"
)

// TestCarriedCoupon: a coupon that begins with a counter is the one that was used
// up to it, whatever it gives, and never has a use more.
func TestCarriedCoupon(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := coupon.Coupon{Kind: coupon.AmountOff, Uses: rapid.Uint16Range(1, 4).Draw(t, "uses"), From: coupon.Date{0x20, 0x15, 9, 1}, To: coupon.Date{0x20, 0x15, 9, 0x30}}
		if x.Needed = byte(rapid.IntRange(0, 4).Draw(t, "needed")); x.Needed > 0 {
			x.Kind = coupon.StampCard
		}
		at, used := coupon.Stamp{0x20, 0x15, 9, 0x16, 0x12}, x
		steps := rapid.IntRange(0, 25).Draw(t, "steps")
		for range steps {
			op := coupon.Redeem
			if used.May(op, 1, at) != iso7816.OK {
				op = coupon.GiveStamp
			}
			if used.May(op, 1, at) != iso7816.OK {
				break
			}
			used = used.After(op)
		}
		if got := (Carry{Used: used.Counter}).on(x); got != used {
			t.Fatalf("%+v, want %+v", got, used)
		}
		g := Grant{Data: CouponData{Uses: x.Uses, Needed: x.Needed}}
		if left := g.Left(used.Counter); left != int(used.Uses) || g.Left(0xFFFF) != 0 {
			t.Fatalf("%d left, want %d", left, used.Uses)
		}
	})
}

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
		var a Prepared
		if err := a.parse(in); err == nil && (len(a.c.PAN) < 8 || len(a.c.IAD) == 0 || a.fen.Sign() < 0) {
			t.Errorf("%X reads as %+v", in, a)
		}
	})
}
