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
		if a.Words(true) == "" || a.Words(false) == "" {
			t.Errorf("act %s has no words", a)
		}
	}
	for _, x := range Rights {
		if x.Words(true) == "" || x.Words(false) == "" {
			t.Errorf("right %s has no words", x)
		}
	}
	for _, r := range Roles {
		if r.Words(true) == "" || r.Words(false) == "" || !r.May(SeeSales) {
			t.Errorf("role %s has no words or sees nothing", r)
		}
	}
}

func TestRefundMost(t *testing.T) {
	for r, want := range map[Role]struct {
		fen     int64
		bounded bool
	}{Owner: {0, false}, Manager: {20_000_00, true}, Cashier: {500_00, true}, Accountant: {0, true}, "": {0, true}} {
		if fen, bounded := r.RefundMost(); fen != want.fen || bounded != want.bounded {
			t.Errorf("%q may give back %d (bounded: %t)", r, fen, bounded)
		}
	}
}

func TestHashCode(t *testing.T) {
	if HashCode("abcd-ef23") != HashCode("ABCD EF23") || HashCode("ABCDEF23") == HashCode("ABCDEF24") {
		t.Error("codes are told apart by more or less than their letters")
	}
}
