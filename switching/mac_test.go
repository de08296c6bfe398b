package switching_test

import (
	"fmt"
	"testing"

	"koala/spec/iso8583"
	"koala/switching/macs"
)

// TestExplainMAC: a right MAC is explained to its end, a wrong one without any
// value made with the key.
func TestExplainMAC(t *testing.T) {
	h := open(t, true, nil)
	p := h.terminal("10000001")
	sealed := func(rule iso8583.MACRule) []byte {
		p.stan++
		wire, err := p.message("0200", fields{3: "310000", 11: fmt.Sprintf("%06d", p.stan), 22: "021", 25: "00", 60: fmt.Sprintf("01%06d00020", p.batch), 64: "        "}).SealBy(nil, p.key, rule)
		if err != nil {
			t.Fatal(err)
		}
		return wire
	}
	rule := iso8583.UnionPayPOS().MAC
	x919 := rule
	x919.Algorithm = iso8583.X919
	explained := func(what string, wire []byte, want macs.Fit) macs.Report {
		t.Helper()
		x, err := h.host.ExplainMAC(ctx, wire)
		if err != nil || x.Fit != want {
			t.Errorf("%s: %q (%v), want %q", what, x.Fit, err, want)
		}
		return x
	}
	wire := sealed(rule)
	if x := explained("not used yet", wire, macs.Fresh); x.Computed != x.Carried || !x.Keyed {
		t.Errorf("computed %q, carried %q", x.Computed, x.Carried)
	}
	expect(t, "balance", p.ask("balance", 0, fields{2: "6225880000000001", 35: "6225880000000001D2512101"}), "91")
	explained("in use", wire, macs.InUse)
	if x := explained("another algorithm", sealed(x919), macs.Other); x.Other.Algorithm != iso8583.X919 {
		t.Errorf("found %v", x.Other)
	}
	wire[len(wire)-1] ^= 1
	if x := explained("wrong", wire, macs.None); x.Keyed || x.First != [8]byte{} || x.Full != [8]byte{} || x.Computed != [8]byte{} {
		t.Errorf("a wrong MAC tells what was made with the key: %+v", x)
	}
	old := sealed(rule)
	p.signOn()
	explained("the keys before, while the new were not used", old, macs.InUse)
	explained("the new", sealed(rule), macs.Fresh)
	expect(t, "balance", p.ask("balance", 0, fields{2: "6225880000000001", 35: "6225880000000001D2512101"}), "91")
	explained("the keys before", old, macs.None)
}
