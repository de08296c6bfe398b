package paper

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"koala/money"
	"koala/slip"
	"koala/web"
)

func TestWords(t *testing.T) {
	for _, flaw := range web.Flaws(words) {
		t.Error(flaw)
	}
}

func TestSlip(t *testing.T) {
	k := slip.Kept{Slip: slip.Slip{ShopZH: "家联超市", MID: "M1", TID: "10000001", Number: 7, Kind: "refund", Card: "622588******0019", Entry: "051", Amount: money.Fen(1234),
		At: time.Date(2016, 9, 6, 4, 5, 6, 0, time.UTC), RRN: "0000002T0001", Cryptogram: "TC 0102030405060708"}}
	r := httptest.NewRequest("GET", "http://koala.example:8080/merchant", nil)
	for _, again := range []bool{false, true} {
		var b strings.Builder
		if err := Slip(View{Slip: k, Again: again, Address: Address(r, &k)}, web.EN).Render(context.Background(), &b); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"家联超市", "refund", "622588******0019", "TC", "0102030405060708", "12.34", "2016-09-06 12:05:06", "<path"} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("no %q", want)
			}
		}
		if strings.Contains(b.String(), "REPRINT") != again {
			t.Errorf("reprint %v", again)
		}
	}
	if got := Address(r, &k); got != "http://koala.example:8080/slips/0000002T0001-000000000000000000000000" {
		t.Error(got)
	}
	if got := Text(&k, web.ZH); !strings.Contains(got, "退货") || !strings.Contains(got, "-") {
		t.Error(got)
	}
}
