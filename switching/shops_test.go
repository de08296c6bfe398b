package switching_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/spec/pboc"
	"koala/switching"
	"koala/wallet"
)

// set changes what stands behind the terminals.
func (h *house) set(f func(*switching.Place)) {
	h.estate.mu.Lock()
	h.estate.more = f
	h.estate.mu.Unlock()
	h.now.Advance(time.Minute)
}

func (h *house) at(hour, minute int) {
	h.t.Helper()
	beijing := time.FixedZone("", 8*3600)
	now := h.now.Now().In(beijing)
	to := time.Date(now.Year(), now.Month(), now.Day(), hour, minute, 0, 0, beijing)
	for !to.After(now) {
		to = to.AddDate(0, 0, 1)
	}
	h.now.Advance(to.Sub(now))
}

func (h *house) tick() {
	h.t.Helper()
	if err := h.host.Tick(ctx, h.now.Now()); err != nil {
		h.t.Fatal(err)
	}
}

// TestShopsDay: sales of both sides of the day's end, of a shop and of a night
// shop whose day ends at five in the morning.
func TestShopsDay(t *testing.T) {
	for _, tt := range []struct {
		what          string
		cut           time.Duration
		hour, minute  int    // of the last minute before its day is over, five before the cut-off
		before, after string // field 15
	}{
		{"shop", 0, 22, 54, "0916", "0917"},
		{"night shop", 29 * time.Hour, 4, 54, "0916", "0917"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			h := open(t, true, nil)
			h.set(func(p *switching.Place) { p.CutOff = tt.cut })
			c, p := h.card(issuing.DebitCard), h.terminal("10000001")
			h.at(tt.hour, tt.minute)
			p.signOn()
			expect(t, "before", p.ask("sale", 10_00, c.chip(0, 10_00, pboc.ARQC)), "00")
			expect(t, "its day", p.in.Text(15), tt.before)
			h.tick()
			h.want("before its end", 5000_00, 10_00, 0)
			h.now.Advance(time.Minute)
			expect(t, "after", p.ask("sale", 7_00, c.chip(0, 7_00, pboc.ARQC)), "00")
			expect(t, "its day", p.in.Text(15), tt.after)
			h.tick()
			h.want("at its end", 4990_00, 7_00, 10_00)
			h.now.Advance(23*time.Hour + 59*time.Minute)
			h.tick()
			h.want("before the next", 4990_00, 7_00, 10_00)
			h.now.Advance(time.Minute)
			h.tick()
			h.want("at the next", 4983_00, 0, 17_00)
		})
	}
}

// TestLimits: classes apart, a day, a month, what was taken back, a restart.
func TestLimits(t *testing.T) {
	h := open(t, true, nil)
	c, r, p := h.card(issuing.DebitCard), h.card(issuing.CreditCard), h.terminal("10000001")
	h.set(func(p *switching.Place) {
		p.Limits = map[string]switching.Limit{"debit": {Single: 50_00, Daily: 80_00, Monthly: 120_00}, "credit": {Daily: 10_00}}
	})
	sell := func(what string, c *card, fen int64, want string) {
		t.Helper()
		expect(t, what, p.ask("sale", fen, c.chip(0, fen, pboc.ARQC)), want)
	}
	sell("above one", c, 50_01, "61")
	sell("one", c, 50_00, "00")
	first := p.stan
	sell("above the day's", c, 30_01, "61")
	sell("another class", r, 10_00, "00")
	sell("above its day's", r, 1, "61")
	sell("the day's", c, 30_00, "00")
	sell("no more", c, 1, "61")
	expect(t, "void", p.ask("void", 50_00, p.of(first)), "00")
	sell("what the void made room for", c, 40_00, "00")
	expect(t, "reversal of another", p.reverse("sale", p.stan, 40_00, "98"), "00")
	sell("what that made room for", c, 50_00, "00")
	h.boot()
	p.signOn()
	sell("after a restart", c, 1, "61")
	h.now.Advance(24 * time.Hour)
	p.signOn()
	sell("another day", c, 40_01, "61") // 80 of 120 are taken this month
	sell("the month's", c, 40_00, "00")
	sell("no more", c, 1, "61")
	h.now.Advance(30 * 24 * time.Hour)
	p.signOn()
	sell("another month", c, 50_00, "00")
	h.boot()
	p.signOn()
	sell("its day after a restart", c, 30_01, "61")
	sell("its day after a restart", c, 30_00, "00")
}

// TestLimitTogether: terminals of a shop that sell at once take no fen more than
// its day allows, and no less.
func TestLimitTogether(t *testing.T) {
	h := open(t, false, nil)
	const tills, each, most = 8, 12, 50
	h.set(func(p *switching.Place) { p.Limits = map[string]switching.Limit{"debit": {Daily: most}} })
	var wg sync.WaitGroup
	var mu sync.Mutex
	sold := 0
	for i := range tills {
		c, p := h.card(issuing.DebitCard), h.terminal(fmt.Sprintf("1%07d", i))
		wg.Go(func() {
			for n := range each {
				code := p.ask("sale", 1, c.chip(0, 1, pboc.ARQC))
				if code == "00" && n%3 == 2 { // takes it back: another may have its place
					if p.reverse("sale", p.stan, 1, "06") != "00" {
						t.Error("not reversed")
					}
					continue
				}
				if code == "00" {
					mu.Lock()
					sold++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	p := h.terminal("10000099")
	c := h.card(issuing.DebitCard)
	for p.ask("sale", 1, c.chip(0, 1, pboc.ARQC)) == "00" {
		sold++
	}
	if held := h.balance(wallet.Account(holder)).Held.Minor(); sold != most || held != most {
		t.Errorf("%d sold, %d held, want %d", sold, held, most)
	}
}

// TestBarred: what the house's trust in a merchant does not reach to.
func TestBarred(t *testing.T) {
	h := open(t, true, nil)
	c, r, p := h.card(issuing.DebitCard), h.card(issuing.CreditCard), h.terminal("10000001")
	keyed := fields{2: r.number, 14: r.expiry, 22: "012"}
	check := func(what string, f func(*switching.Place), keyedWant, offlineWant, preauth, credit string) {
		t.Helper()
		h.set(f)
		expect(t, what+": keyed", p.ask("sale", 1_00, keyed), keyedWant)
		expect(t, what+": by phone", p.ask("phone", 1_00, keyed), keyedWant)
		expect(t, what+": offline", p.ask("offline", 2_00, fields{2: r.number, 14: r.expiry, 22: "012", 38: h.voice(r, 2_00)}), offlineWant)
		expect(t, what+": pre-authorisation", p.ask("preauth", 1_00, c.chip(issuing.TypePreauth, 1_00, pboc.ARQC)), preauth)
		expect(t, what+": credit", p.ask("sale", 1_00, r.chip(0, 1_00, pboc.ARQC)), credit)
		expect(t, what+": plain", p.ask("sale", 1_00, c.chip(0, 1_00, pboc.ARQC)), "00")
	}
	check("nothing", nil, "00", "00", "00", "00")
	check("keyed", func(p *switching.Place) { p.Barred.Keyed = true }, "58", "00", "00", "00")
	check("offline", func(p *switching.Place) { p.Barred.Offline = true }, "00", "58", "00", "00")
	check("floor", func(p *switching.Place) { p.Floor = 1_99 }, "00", "00", "00", "00")
	check("pre-authorisation", func(p *switching.Place) { p.Barred.PreAuth = true }, "00", "00", "58", "00")
	check("credit", func(p *switching.Place) { p.Barred.Credit = true }, "58", "58", "00", "58")
}

// TestFailedTap: a payment for nothing goes back to the holder once, whatever
// else the terminal says of it and in which order.
func TestFailedTap(t *testing.T) {
	for _, order := range []string{"failed", "failed failed", "tap failed", "failed tap", "tap failed tap failed"} {
		t.Run(order, func(t *testing.T) {
			h := open(t, true, nil)
			c, p := h.card(issuing.DebitCard), h.terminal("10000001")
			expect(t, "load", p.ask("load", 100_00, c.chip(issuing.TypeLoad, 100_00, pboc.ARQC)), "00")
			load := p.stan
			expect(t, "notice", p.say("0620", fields{2: c.number, 3: "600000", 4: fmt.Sprintf("%012d", 100_00), 11: p.next(), 49: "156",
				55: string([]byte{0xDF, 0x31, 5, 0x20, 0, 0, 0, 0}), 60: fmt.Sprintf("45%06d00060", p.batch), 61: p.of(load)[61]}), "00")
			c.fen = 100_00 - 12_50
			in := c.chip(0, 12_50, pboc.TC)
			sold, closed, items := int64(0), false, 0
			for _, what := range strings.Fields(order) {
				switch {
				case what == "tap" && !closed:
					expect(t, "tap", p.ask("tap", 12_50, in), "00")
					sold = 12_50
				case what == "tap": // told late, as an approval that was never sent
					expect(t, "late tap", p.chipItem(in, 12_50, p.stan+10, "203"), "00")
					items++
				default:
					if !closed {
						n := 0
						if sold > 0 {
							n = 1
						}
						expect(t, "settle", p.settle(sold, n, 0, 0), "11")
						closed = true
					}
					expect(t, "failed", p.chipItem(in, 12_50, 77, "204"), "00")
					items = max(items, 1)
				}
			}
			h.want(order, 4912_50, 0, 0)
			if f := h.balance(issuing.Float(c.id)).Posted.Minor(); f != 87_50 {
				t.Errorf("the card's float has %d", f)
			}
		})
	}
}

// chipItem uploads one chip transaction of a closed batch.
func (p *terminal) chipItem(in fields, fen int64, stan int, code string) string {
	p.h.t.Helper()
	return p.say("0320", fields{2: in[2], 4: fmt.Sprintf("%012d", fen), 11: fmt.Sprintf("%06d", stan), 22: "982", 23: "001", 49: "156", 55: in[55],
		60: fmt.Sprintf("36%06d%s", p.batch, code)})
}

// TestChipItems: what a terminal uploads of a closed batch beside its totals is
// kept once, whatever code it comes under, and moves nothing.
func TestChipItems(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	in := c.chip(0, 10_00, pboc.ARQC)
	expect(t, "sale", p.ask("sale", 10_00, in), "00")
	stan := p.stan
	expect(t, "settle", p.settle(10_00, 1, 0, 0), "11")
	for _, code := range []string{"205", "206"} {
		f := fields{2: c.number, 4: fmt.Sprintf("%012d", 10_00), 11: fmt.Sprintf("%06d", stan), 22: "051", 23: "001", 49: "156", 55: in[55], 60: fmt.Sprintf("22%06d%s", p.batch, code)}
		expect(t, code, p.say("0320", f), "00")
		expect(t, code+" again", p.say("0320", f), "00")
	}
	tap := c.chip(0, 5_00, pboc.TC)
	expect(t, "204 without its cryptogram", p.chipItem(fields{2: c.number, 55: "\x9F\x36\x02\x00\x07"}, 5_00, 90, "204"), "30")
	expect(t, "a code that there is none of", p.chipItem(tap, 5_00, 91, "208"), "40")
	h.want("settled", 4990_00, 0, 10_00)
	expect(t, "another count", p.end("207", 3), "95")
	expect(t, "end", p.end("207", 2), "00")
}

// code is a fresh payment code of the holder.
func (h *house) code() string {
	h.t.Helper()
	h.n++
	var c wallet.Code
	h.do(func(tx *db.Tx) (err error) {
		c, err = wallet.NewCode(tx, holder, [8]byte{1, 2, 3, 4, 5, 6, byte(h.n >> 8), byte(h.n)})
		return err
	})
	return c.Digits
}

// TestPaymentCode: a code pays once, in its minute; what follows is as for a
// card of the house.
func TestPaymentCode(t *testing.T) {
	h := open(t, true, nil)
	p := h.terminal("10000001")
	scan := func(code string) fields { return fields{22: "032", 62: code} }
	used := h.code()
	expect(t, "pays", p.ask("sale", 20_00, scan(used)), "00")
	first, rrn, wire := p.stan, p.in.Text(37), p.sent
	h.want("held", 5000_00, 20_00, 0)
	expect(t, "the same message", p.repeat(wire), "00")
	if p.in.Text(37) != rrn || p.in.Has(2) {
		t.Error("the same message has another answer")
	}
	h.want("once", 5000_00, 20_00, 0)
	expect(t, "used", p.ask("sale", 1_00, scan(used)), "54")
	late := h.code()
	h.now.Advance(wallet.CodeLife)
	expect(t, "late", p.ask("sale", 1_00, scan(late)), "54")
	expect(t, "none", p.ask("sale", 1_00, scan("280000000000000001")), "14")
	expect(t, "nothing", p.ask("sale", 1_00, fields{22: "032"}), "30")
	expect(t, "with a card", p.ask("sale", 1_00, fields{22: "032", 14: "2001", 62: h.code()}), "30")
	expect(t, "of another kind", p.ask("points", 1_00, scan(h.code())), "30")
	expect(t, "above what a code may", p.ask("sale", 1000_01, scan(h.code())), "61")
	h.set(func(p *switching.Place) { p.Limits = map[string]switching.Limit{"prepaid": {Single: 9_99}} })
	c := h.code()
	expect(t, "above what the shop may", p.ask("sale", 10_00, scan(c)), "61")
	expect(t, "a refused code is still good", p.ask("sale", 9_99, scan(c)), "00")
	expect(t, "reversal", p.reverse("sale", p.stan, 9_99, "98"), "00")
	expect(t, "it is used all the same", p.ask("sale", 1_00, scan(c)), "54")
	h.set(nil)
	expect(t, "void", p.ask("void", 20_00, fields{22: "032", 61: p.of(first)[61]}), "00")
	h.want("voided", 5000_00, 0, 0)
	expect(t, "reversal of the void", p.reverse("void", p.stan, 20_00, "98"), "00")
	h.want("it stands again", 5000_00, 20_00, 0)
	expect(t, "tip", p.ask("tip", 22_00, fields{22: "032", 61: p.of(first)[61]}), "00")
	h.want("with a tip", 5000_00, 22_00, 0)
	expect(t, "settle", p.settle(22_00, 1, 0, 0), "11")
	h.want("the shop's", 4978_00, 0, 22_00)
	expect(t, "end", p.end("207", 0), "00")
	expect(t, "refund with a card", p.ask("refund", 1_00, fields{2: "6228480402564890018", 37: rrn}), "25")
	expect(t, "part of it back", p.ask("refund", 2_00, fields{22: "032", 37: rrn}), "00")
	expect(t, "more than is left", p.ask("refund", 20_01, fields{22: "032", 37: rrn}), "64")
	expect(t, "the rest", p.ask("refund", 20_00, fields{22: "032", 61: fmt.Sprintf("%06d%06d0916", 1, first)}), "00")
	h.want("given back", 5000_00, 0, 0)
	card := h.card(issuing.DebitCard)
	expect(t, "sale by card", p.ask("sale", 3_00, card.chip(0, 3_00, pboc.ARQC)), "00")
	expect(t, "its refund needs the card", p.ask("refund", 3_00, fields{22: "032", 37: p.in.Text(37)}), "25")
	var class string
	var items, fen int64
	h.read(func(q *db.Query) error {
		return q.QueryRow(`SELECT MAX(card), COUNT(*), CAST(SUM(fen) AS BIGINT) FROM settlement_item WHERE payee = $1`, shop).Scan(&class, &items, &fen)
	})
	if class != "prepaid" || items != 3 || fen != 0 {
		t.Errorf("%d items of class %s come to %d", items, class, fen)
	}
	h.do(func(tx *db.Tx) error {
		_, err := wallet.Withdraw(tx, "w", holder, money.Fen(4990_00))
		return err
	})
	expect(t, "not enough", p.ask("sale", 8_00, scan(h.code())), "51")
	expect(t, "enough", p.ask("sale", 7_00, scan(h.code())), "00")
}
