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
