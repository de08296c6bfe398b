package wearer

import (
	"testing"

	"koala/web"
)

func TestCatalog(t *testing.T) {
	for _, flaw := range web.Flaws(words) {
		t.Error(flaw)
	}
}

func TestYuan(t *testing.T) {
	for text, want := range map[string]int64{"50": 50_00, " 12.5 ": 12_50, "0.01": 1, "12.345": 0, "": 0, ".5": 0, "5.": 0, "-1": 0, "+1": 0, "1e3": 0,
		"0": 0, "0.00": 0, "1,000": 0, "９": 0, "99999999": 0} {
		got, err := parseYuan(text)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("%q is %d fen (%v), want %d", text, got, err, want)
		}
	}
}

func FuzzParseYuan(f *testing.F) {
	f.Add("12.50")
	f.Fuzz(func(t *testing.T, s string) {
		fen, err := parseYuan(s)
		if err == nil && fen <= 0 {
			t.Errorf("%q is %d fen", s, fen)
		}
	})
}
