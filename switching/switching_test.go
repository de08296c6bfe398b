package switching_test

import (
	"fmt"
	"testing"

	"koala/issuing"
	"koala/settlement/fee"
	"koala/spec/emv"
	"koala/spec/pboc"
	"koala/switching"
)

// TestDay is a terminal's day, from sign-on to a batch that balances.
func TestDay(t *testing.T) {
	h := open(t, true, nil)
	c := h.card(issuing.DebitCard)
	p := h.terminal("10000001")
	if got := p.ask("sale", 100_00, c.chip(0, 100_00, pboc.ARQC)); got != "00" {
		t.Fatalf("chip sale: %s", got)
	}
	if len(find(p.in.Get(55), emv.TagIssuerAuth)) != 10 || len(p.in.Get(38)) != 6 || len(p.in.Get(37)) != 12 {
		t.Errorf("answer without its fields")
	}
	h.want("held", 5000_00, 100_00, 0)
	if got := p.ask("sale", 50_00, p.swipe(c, "123456")); got != "00" {
		t.Fatalf("stripe sale: %s", got)
	}
	stripe := p.stan
	h.want("held", 5000_00, 150_00, 0)
	if got := p.ask("void", 50_00, p.of(stripe)); got != "00" {
		t.Fatalf("void: %s", got)
	}
	h.want("voided", 5000_00, 100_00, 0)
	if got := p.ask("void", 50_00, p.of(stripe)); got != "12" {
		t.Errorf("void again: %s", got)
	}
	if got := p.ask("sale", 60_00, p.swipe(c, "000000")); got != "55" {
		t.Errorf("wrong PIN: %s", got)
	}
	if got := p.settle(150_00, 2, 50_00, 1); got != "11" {
		t.Fatalf("settlement: %s %s", got, p.in.Text(48))
	}
	h.want("settled", 4900_00, 0, 100_00)
	if got := p.end("207", 0); got != "00" || p.batch != 2 {
		t.Errorf("end: %s, batch %d", got, p.batch)
	}
	if got := p.ask("sale", 1_00, c.chip(0, 1_00, pboc.ARQC)); got != "00" {
		t.Errorf("a sale of the next batch: %s", got)
	}
}

// TestTables: every state has words and a place in the table of what follows,
// every kind an original that there is, and no message means two kinds.
func TestTables(t *testing.T) {
	states := []switching.State{switching.Sent, switching.Approved, switching.Declined, switching.Unknown, switching.Reversed, switching.Voided, switching.Cleared,
		switching.Completed, switching.Expired, switching.Noted}
	for _, s := range states {
		if s.Words(true) == string(s) {
			t.Errorf("state %s has no words", s)
		}
		if s.May(switching.Sent) || switching.Declined.May(s) || switching.Reversed.May(s) || switching.Unknown.May(s) {
			t.Errorf("%s: an end is none", s)
		}
	}
	codes := map[string]string{}
	for _, k := range switching.Kinds() {
		code := k.MTI + k.Process + k.Point + k.Type
		if codes[code] != "" {
			t.Errorf("%s is %s", k.Name, codes[code])
		}
		codes[code] = k.Name
		for _, o := range k.Of {
			if switching.KindNamed(o) == nil {
				t.Errorf("%s refers to %s", k.Name, o)
			}
		}
		if k.Words(true) == k.Name {
			t.Errorf("%s has no words", k.Name)
		}
	}
}

// TestFeeClass: the fee of a sale in instalments goes by its parts.
func TestFeeClass(t *testing.T) {
	plan := fmt.Sprintf("%02d%-30s%d", 12, "PHONE", 0)
	for _, tt := range []struct {
		txn  switching.Txn
		want fee.Class
	}{
		{switching.Txn{Kind: "instalment", Class: "credit", Plan: plan}, "credit:12"},
		{switching.Txn{Kind: "sale", Class: "credit", Plan: plan}, "credit"},
		{switching.Txn{Kind: "sale", Class: "debit"}, "debit"},
	} {
		if got := tt.txn.FeeClass(); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.txn, got, tt.want)
		}
	}
}
