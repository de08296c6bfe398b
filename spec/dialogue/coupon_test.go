package dialogue_test

import (
	"strings"
	"testing"

	"koala/spec/coupon"
	"koala/spec/dialogue"
	"koala/spec/iso7816"
)

// Commands of the discount card share instructions with the purse and the
// security domain: the selection decides.
func TestCouponsAreExplained(t *testing.T) {
	s := dialogue.NewSession(dialogue.Options{})
	fci := coupon.FCI{AID: []byte("\xF0koala\x04\x10"), Version: coupon.Version, Count: 1}
	s.Exchange(iso7816.Select(fci.AID), iso7816.Response{Data: fci.Bytes(), SW: iso7816.OK})
	for _, tt := range []struct {
		c    iso7816.Command
		r    iso7816.Response
		want string
	}{
		{coupon.Begin{Op: coupon.Redeem}.Command(), iso7816.Response{SW: coupon.SWDate}, "BEGIN COUPON: 9E01 not valid on this date"},
		{coupon.Commit{}.Command(), iso7816.Response{SW: iso7816.SWSecurity}, "COMMIT COUPON"},
		{coupon.Prove{}.Command(), iso7816.Response{Data: coupon.Done{}.Bytes(), SW: iso7816.OK}, "PROVE COUPON"},
		{coupon.Read{N: 1}.Command(), iso7816.Response{SW: iso7816.SWRecordNotFound}, "READ COUPON"},
	} {
		if e := s.Exchange(tt.c, tt.r); !strings.Contains(e.EN, tt.want) {
			t.Errorf("%v: %q, want %q", tt.c, e.EN, tt.want)
		}
	}
	if r := s.Report(); r.Card != dialogue.Coupons {
		t.Errorf("card %q", r.Card)
	}
}
