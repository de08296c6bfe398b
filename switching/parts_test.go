package switching_test

import (
	"fmt"
	"testing"

	"koala/internal/db"
	"koala/issuing"
	"koala/spec/pboc"
	"koala/switching"
)

// TestPartThenFailed: a terminal that gave part of a tap back, and says later that
// the tap was for nothing, moves nothing: people look at it.
func TestPartThenFailed(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	expect(t, "load", p.ask("load", 100_00, c.chip(issuing.TypeLoad, 100_00, pboc.ARQC)), "00")
	load := p.stan
	expect(t, "notice", p.say("0620", fields{2: c.number, 3: "600000", 4: fmt.Sprintf("%012d", 100_00), 11: p.next(), 49: "156",
		55: string([]byte{0xDF, 0x31, 5, 0x20, 0, 0, 0, 0}), 60: fmt.Sprintf("45%06d00060", p.batch), 61: p.of(load)[61]}), "00")
	c.fen = 100_00 - 12_50
	in := c.chip(0, 12_50, pboc.TC)
	rrn := p.ok("tap", 12_50, in)
	p.ok("tap.refund", 5_00, fields{2: c.number, 37: rrn})
	expect(t, "settle", p.settle(12_50, 1, 5_00, 1), "11")
	expect(t, "failed", p.chipItem(in, 12_50, 77, "204"), "00")
	h.want("the part and no more", 4905_00, 0, 7_50)
	h.read(func(q *db.Query) error {
		list, err := issuing.InSuspense(q, "", 10)
		if len(list) != 1 {
			t.Errorf("%d records wait for people, want 1", len(list))
		}
		return err
	})
}

// TestPartsAbroad: a tap of another issuer's card goes back in parts, to at most
// the tap.
func TestPartsAbroad(t *testing.T) {
	h := open(t, true, map[string]switching.Peer{"FAR": newFar()})
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	tap := c.chip(0, 5_00, pboc.TC)
	tap[2] = farCard
	rrn := p.ok("tap", 5_00, tap)
	p.ok("tap.refund", 2_00, fields{2: farCard, 37: rrn})
	h.want("part", 5000_00, 0, 3_00)
	expect(t, "too much", p.ask("tap.refund", 3_01, fields{2: farCard, 37: rrn}), "64")
	p.ok("tap.refund", 3_00, fields{2: farCard, 37: rrn})
	expect(t, "nothing left", p.ask("tap.refund", 1, fields{2: farCard, 37: rrn}), "12")
	h.want("all", 5000_00, 0, 0)
}

// TestVoiceAbroad: what another bank said by telephone goes to it with the sale, up
// to what the shop may sell offline.
func TestVoiceAbroad(t *testing.T) {
	f := newFar()
	h := open(t, true, map[string]switching.Peer{"FAR": f})
	p := h.terminal("10000001")
	h.set(func(p *switching.Place) { p.Floor = 50_00 })
	sale := fields{2: farCard, 14: "2512", 22: "012", 38: "VC12A9"}
	expect(t, "above the floor", p.ask("offline", 50_01, sale), "58")
	expect(t, "at the floor", p.ask("offline", 50_00, sale), "00")
	if f.said != "VC12A9" || p.in.Text(38) != "VC12A9" {
		t.Errorf("the bank heard %q, the terminal %q", f.said, p.in.Text(38))
	}
	expect(t, "settle", p.settle(50_00, 1, 0, 0), "11")
	h.want("booked", 5000_00, 0, 50_00)
}
