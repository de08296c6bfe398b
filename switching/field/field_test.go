package field

import (
	"testing"

	"koala/money"
)

func TestBalance(t *testing.T) {
	for fen, want := range map[int64]string{0: "1002156C000000000000", 123_45: "1002156C000000012345", -1: "1002156D000000000001",
		most: "1002156C999999999999", most + 1: "1002156C999999999999", -money.MaxMinor: "1002156D999999999999"} {
		if got := Balance(money.Fen(fen)); got != want {
			t.Errorf("%d: %s, want %s", fen, got, want)
		}
	}
}

func TestScheme(t *testing.T) {
	for number, want := range map[string]string{"3530": "JCB", "3782": "AMX", "4111": "VIS", "5500": "MCC", "2221": "MCC", "": "MCC"} {
		if got := Scheme(number); got != want {
			t.Errorf("%s: %s, want %s", number, got, want)
		}
	}
}
