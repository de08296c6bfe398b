package ops

import (
	"testing"

	"koala/spec/purse"
	"koala/tsm"
	"koala/web"
)

func TestWords(t *testing.T) {
	for _, flaw := range web.Flaws(words) {
		t.Error(flaw)
	}
	for _, a := range acts {
		if deedWords[a].Empty() {
			t.Errorf("act %s has no words", a)
		}
	}
	for _, n := range nav {
		if n.Icon == "" || n.Name.Empty() {
			t.Errorf("%s lacks a name or an icon", n.Href)
		}
	}
}

func TestEveryOrderSaysWhoActsNext(t *testing.T) {
	for _, s := range orderStates {
		for _, desk := range []bool{false, true} {
			o := tsm.Order{State: s, Desk: desk, Kind: tsm.TopUp}
			if actsNext(o).Empty() {
				t.Errorf("%s, desk %v: nobody", s, desk)
			}
			if s.Over() && len(orderActs(o)) > 0 {
				t.Errorf("%s is over and may be changed", s)
			}
		}
	}
}

func TestBefore(t *testing.T) {
	for n, want := range map[string]string{"0310": "0309", "0300": "0299", "1": "0"} {
		if got := before(purse.Number(n)); string(got) != want {
			t.Errorf("before %s is %s, want %s", n, got, want)
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
		if got := hushed(in); got != want {
			t.Errorf("%s shows as %s, want %s", in, got, want)
		}
	}
}
