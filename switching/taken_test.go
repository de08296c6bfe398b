package switching_test

import (
	"errors"
	"fmt"
	"testing"

	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/spec/pboc"
	"koala/switching"
)

// TestLimitAfterRestart: what is taken back first after a restart is taken off
// what the shop has taken once.
func TestLimitAfterRestart(t *testing.T) {
	for _, how := range []string{"void", "reversal"} {
		h := open(t, true, nil)
		h.estate.daily = 100_00
		c, p := h.card(issuing.DebitCard), h.terminal("10000001")
		expect(t, "sale", p.ask("sale", 60_00, c.chip(0, 60_00, pboc.ARQC)), "00")
		stan := p.stan
		expect(t, "above", p.ask("sale", 60_00, c.chip(0, 60_00, pboc.ARQC)), "61")
		h.boot()
		if how == "void" {
			expect(t, "void", p.ask("void", 60_00, p.of(stan)), "00")
		} else {
			expect(t, "reversal", p.reverse("sale", stan, 60_00, "98"), "00")
		}
		expect(t, how+": again", p.ask("sale", 100_00, c.chip(0, 100_00, pboc.ARQC)), "00")
		expect(t, how+": above the day", p.ask("sale", 1, c.chip(0, 1, pboc.ARQC)), "61")
	}
}

// TestVoidTakenBackAfterRestart: a sale that stands again counts once.
func TestVoidTakenBackAfterRestart(t *testing.T) {
	h := open(t, true, nil)
	h.estate.daily = 100_00
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	expect(t, "sale", p.ask("sale", 40_00, c.chip(0, 40_00, pboc.ARQC)), "00")
	expect(t, "void", p.ask("void", 40_00, p.of(p.stan)), "00")
	h.boot()
	expect(t, "void taken back", p.reverse("void", p.stan, 40_00, "98"), "00")
	expect(t, "room", p.ask("sale", 60_00, c.chip(0, 60_00, pboc.ARQC)), "00")
	expect(t, "above the day", p.ask("sale", 1, c.chip(0, 1, pboc.ARQC)), "61")
}

// TestLimitBehindALostCommit: a sale whose commit lost its answer is in, and
// counts in the shop's day.
func TestLimitBehindALostCommit(t *testing.T) {
	h := open(t, true, nil)
	h.estate.daily = 100_00
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	expect(t, "first", p.ask("sale", 1_00, c.chip(0, 1_00, pboc.ARQC)), "00")
	sale := c.chip(0, 60_00, pboc.ARQC)
	h.line.lose = true
	expect(t, "sale", p.ask("sale", 60_00, sale), "00")
	if h.line.lose {
		t.Fatal("nothing was committed")
	}
	h.want("held once", 5000_00, 61_00, 0)
	expect(t, "above the day", p.ask("sale", 60_00, c.chip(0, 60_00, pboc.ARQC)), "61")
}

// TestLoadsUseUpPINTries: loads with another card's money, or with cash, are no
// way to try PINs, and move nothing when they are refused.
func TestLoadsUseUpPINTries(t *testing.T) {
	h := open(t, true, nil)
	to, c, p := h.card(issuing.ECashCard), h.card(issuing.DebitCard), h.terminal("10000001")
	other := func(pin string) string {
		f := p.pin(to.chip(issuing.TypeLoad, 10_00, pboc.ARQC), c.number, pin)
		f[2], f[35], f[62] = c.number, c.track(), to.number
		return p.ask("load.other", 10_00, f)
	}
	cash := func(pin string) string {
		return p.ask("load.cash", 10_00, p.pin(c.chip(issuing.TypeLoad, 10_00, pboc.ARQC), c.number, pin))
	}
	for what, try := range map[string]func(string) string{"another card": other, "cash": cash} {
		h.do(func(tx *db.Tx) error { return issuing.ResetPINTries(tx, c.id) })
		for range 3 {
			expect(t, what+": wrong", try("000000"), "55")
		}
		expect(t, what+": no tries left", try("123456"), "75")
	}
	h.want("nothing moved", 5000_00, 0, 0)
}

// TestDisputeOfATapForNothing: a tap that its terminal took back (204) is not
// charged back once more.
func TestDisputeOfATapForNothing(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	expect(t, "load", p.ask("load", 100_00, c.chip(issuing.TypeLoad, 100_00, pboc.ARQC)), "00")
	load := p.stan
	expect(t, "notice", p.say("0620", fields{2: c.number, 3: "600000", 4: fmt.Sprintf("%012d", 100_00), 11: p.next(), 49: "156",
		55: string([]byte{0xDF, 0x31, 5, 0x20, 0, 0, 0, 0}), 60: fmt.Sprintf("45%06d00060", p.batch), 61: p.of(load)[61]}), "00")
	dispute := func(rrn string, fen int64) error {
		return h.store.Write(ctx, func(tx *db.Tx) error { return switching.Dispute(tx, rrn, money.Fen(fen)) })
	}
	c.fen = 100_00 - 12_50
	in := c.chip(0, 12_50, pboc.TC)
	rrn := p.ok("tap", 12_50, in)
	for _, fen := range []int64{12_50, 5_00, 0} {
		if err := dispute(rrn, fen); err != nil {
			t.Errorf("a dispute of %d: %v", fen, err)
		}
	}
	p.ok("tap.refund", 2_50, fields{2: c.number, 37: rrn})
	if err := dispute(rrn, 10_01); !errors.Is(err, switching.ErrTooMuch) {
		t.Errorf("more than is left beside a refund: %v", err)
	}
	c.fen -= 20_00
	in = c.chip(0, 20_00, pboc.TC)
	rrn = p.ok("tap", 20_00, in)
	expect(t, "settle", p.settle(32_50, 2, 2_50, 1), "11")
	expect(t, "failed", p.chipItem(in, 20_00, 77, "204"), "00")
	h.want("taken back", 4922_50, 0, 10_00)
	if err := dispute(rrn, 20_00); !errors.Is(err, switching.ErrTooMuch) {
		t.Errorf("disputed once more: %v", err)
	}
	if err := dispute(rrn, 0); err != nil {
		t.Errorf("nothing of it disputed: %v", err)
	}
	expect(t, "end", p.end("207", 1), "00")
	c.fen -= 8_00
	in = c.chip(0, 8_00, pboc.TC)
	rrn = p.ok("tap", 8_00, in)
	if err := dispute(rrn, 8_00); err != nil {
		t.Error(err)
	}
	expect(t, "settle", p.settle(8_00, 1, 0, 0), "11")
	expect(t, "failed, and disputed before", p.chipItem(in, 8_00, 78, "204"), "00")
	h.want("the dispute has it, not the record", 4922_50, 0, 18_00)
}
