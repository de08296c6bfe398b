package slip_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/internal/openkey"
	"koala/money"
	"koala/slip"
)

func full() slip.Slip {
	return slip.Slip{ShopZH: "家联超市", ShopEN: "JIALIAN MARKET", MID: "102110054110001", TID: "10000001", Number: 7, Kind: "sale", Card: "622588******0019",
		Entry: "051", Amount: money.Fen(1234), At: time.Date(2016, 9, 6, 4, 5, 6, 0, time.UTC), Batch: 3, STAN: 41, RRN: "0000002T0001", Auth: "123456",
		AID: "A000000333010101", Cryptogram: "TC 0102030405060708", ATC: "0012", Prev: [32]byte{1, 2}, Key: "cdf0d56040af7400"}
}

const fullBody = `koala slip 1
shop: 家联超市
shop.en: JIALIAN MARKET
merchant: 102110054110001
terminal: 10000001
number: 7
kind: sale
card: 622588******0019
entry: 051
amount: CNY 12.34
time: 2016-09-06 12:05:06
batch: 000003
trace: 000041
reference: 0000002T0001
authorisation: 123456
application: A000000333010101
cryptogram: TC 0102030405060708
counter: 0012
previous: 0102000000000000000000000000000000000000000000000000000000000000
key: cdf0d56040af7400
`

func TestBody(t *testing.T) {
	s := full()
	if got := string(s.Body()); got != fullBody {
		t.Errorf("body:\n%s", got)
	}
	if back, err := slip.Parse([]byte(fullBody)); err != nil || back != s {
		t.Errorf("%v: %+v", err, back)
	}
	for _, change := range [][2]string{{"slip 1", "slip 2"}, {"terminal: 10000001\n", ""}, {"CNY 12.34", "CNY 12.3"}, {"CNY 12.34", "12.34"}, {"000003", "3"},
		{"12:05:06", "25:05:06"}, {"0102000", "01020"}, {"key: ", "key:  x\nkey: "}, {"counter: 0012\n", "counter: \n"}, {"7400\n", "7400"}, {"number: 7", "number: 07"}} {
		if _, err := slip.Parse([]byte(strings.Replace(fullBody, change[0], change[1], 1))); !errors.Is(err, slip.ErrBody) {
			t.Errorf("%q for %q: %v", change[1], change[0], err)
		}
	}
}

// TestValuesStayInTheirLine: no name of a shop makes a line of its own.
func TestValuesStayInTheirLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := full()
		s.ShopZH, s.ShopEN, s.Card = rapid.String().Draw(t, "zh"), rapid.String().Draw(t, "en"), rapid.SampledFrom([]string{"", "622588******0019"}).Draw(t, "card")
		s.Amount = money.Fen(rapid.Int64Range(0, 1_000_000_00).Draw(t, "fen"))
		s.Number, s.Batch, s.STAN = rapid.Int64Range(1, 1<<40).Draw(t, "number"), rapid.IntRange(0, 999999).Draw(t, "batch"), rapid.IntRange(0, 999999).Draw(t, "trace")
		body := s.Body()
		back, err := slip.Parse(body)
		if err != nil || !bytes.Equal(back.Body(), body) || back.Amount != s.Amount || back.Card != s.Card || back.Key != s.Key || back.Number != s.Number {
			t.Fatalf("%v:\n%s", err, body)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(fullBody))
	f.Add([]byte("koala slip 1\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := slip.Parse(body)
		if err == nil && !bytes.Equal(s.Body(), body) {
			t.Errorf("written back:\n%s", s.Body())
		}
	})
}

func TestCheckRefuses(t *testing.T) {
	k := slip.Kept{Slip: full(), Bytes: []byte(fullBody)}
	if err := k.Check(openkey.Book{}); !errors.Is(err, slip.ErrProof) {
		t.Error(err)
	}
}
