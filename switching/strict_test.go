package switching_test

import (
	"fmt"
	"testing"

	"koala/issuing"
	"koala/spec/pboc"
	"koala/switching"
)

// TestReversalOfWhatWasMeant: a reversal undoes the sale that it repeats. Another
// card, another authorisation or another amount is another sale.
func TestReversalOfWhatWasMeant(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	expect(t, "sale", p.ask("sale", 12_00, c.chip(0, 12_00, pboc.ARQC)), "00")
	auth := p.in.Text(38)
	k, stan := switching.KindNamed("sale"), p.stan
	reverse := func(fen int64, more fields) string {
		f := fields{3: k.Process, 4: fmt.Sprintf("%012d", fen), 11: fmt.Sprintf("%06d", stan), 25: k.Point, 39: "98", 49: "156", 60: fmt.Sprintf("%s%06d00060", k.Type, p.batch)}
		for n, v := range more {
			f[n] = v
		}
		return p.say("0400", f)
	}
	expect(t, "another card", reverse(12_00, fields{2: farCard}), "25")
	expect(t, "another authorisation", reverse(12_00, fields{2: c.number, 38: "999999"}), "25")
	expect(t, "another amount", reverse(12_01, nil), "25")
	h.want("nothing undone", 5000_00, 12_00, 0)
	expect(t, "what was meant", reverse(12_00, fields{2: c.number, 38: auth}), "00")
	h.want("undone", 5000_00, 0, 0)
	stan = 900
	for range 2 {
		expect(t, "before it came, and again", reverse(7_00, fields{2: c.number, 38: "123456"}), "00")
	}
}

// TestTrainingMovesNothing: a terminal that says that it trains sells nothing.
func TestTrainingMovesNothing(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	k := switching.KindNamed("sale")
	f := c.chip(0, 12_00, pboc.ARQC)
	f[3], f[4], f[11], f[25], f[49], f[60] = k.Process, fmt.Sprintf("%012d", 12_00), p.next(), k.Point, "156", fmt.Sprintf("%s%06d00050", k.Type, p.batch)
	m := p.message("0200", f)
	head := m.Head()
	head[7] = 0x10 | head[7]&0x0F
	m.SetHead(head)
	wire, err := m.Seal(nil, p.key)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "in training", p.repeat(wire), "58")
	h.want("nothing moved", 5000_00, 0, 0)
}

// TestTipsWhereTheyAreTaken: a shop whose parameters say that it takes no tips
// takes none.
func TestTipsWhereTheyAreTaken(t *testing.T) {
	for _, tips := range []int{0, 20} {
		h := open(t, true, nil)
		h.estate.more = func(p *switching.Place) { p.Tips = tips }
		c, p := h.card(issuing.DebitCard), h.terminal("10000001")
		expect(t, "sale", p.ask("sale", 100_00, c.chip(0, 100_00, pboc.ARQC)), "00")
		want := map[int]string{0: "58", 20: "00"}[tips]
		expect(t, fmt.Sprint("tip of ", tips), p.ask("tip", 110_00, fields{2: c.number, 61: p.of(p.stan)[61]}), want)
	}
}

// TestOnlySettlementSettles: 0500 with another code than 201 closes nothing.
func TestOnlySettlementSettles(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	expect(t, "sale", p.ask("sale", 5_00, c.chip(0, 5_00, pboc.ARQC)), "00")
	f48 := fmt.Sprintf("%012d%03d%012d%03d0%012d%03d%012d%03d0", 5_00, 1, 0, 0, 0, 0, 0, 0)
	expect(t, "code 999", p.say("0500", fields{11: p.next(), 48: f48, 49: "156", 60: fmt.Sprintf("00%06d999", p.batch), 63: "01 "}), "40")
	expect(t, "still open", p.ask("sale", 6_00, c.chip(0, 6_00, pboc.ARQC)), "00")
	expect(t, "settle", p.settle(11_00, 2, 0, 0), "11")
}
