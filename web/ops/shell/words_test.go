package shell

import (
	"testing"

	"koala/web"
)

func TestWords(t *testing.T) {
	for _, flaw := range web.Flaws(words) {
		t.Error(flaw)
	}
	for _, a := range Acts {
		if a.Words().Empty() {
			t.Errorf("act %s has no words", a)
		}
	}
	if len(Acts) != len(deedWords) {
		t.Errorf("%d acts, %d of them with words", len(Acts), len(deedWords))
	}
	for _, n := range nav {
		if n.Icon == "" || n.Name.Empty() {
			t.Errorf("%s lacks a name or an icon", n.Href)
		}
	}
}

func TestHushed(t *testing.T) {
	for in, want := range map[string]string{
		"float.03105170070104791381":     "float.310517****1381",
		"transit:03105170070104791381/7": "transit:310517****1381/7",
		"wallet.cust_1":                  "wallet.cust_1",
		"payout:2015-09-16:bjsubway":     "payout:2015-09-16:bjsubway",
	} {
		if got := Hushed(in); got != want {
			t.Errorf("%s shows as %s, want %s", in, got, want)
		}
	}
}
