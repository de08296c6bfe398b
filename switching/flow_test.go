package switching_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/spec/dukpt"
	"koala/spec/emv"
	"koala/spec/iso8583"
	"koala/spec/iso9797"
	"koala/spec/pboc"
	"koala/spec/poskey"
	"koala/switching"
	"koala/switching/single"
)

// expect fails when got is another code.
func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %s, want %s", what, got, want)
	}
}

// TestReversals: before the original, after it, twice, of what is settled.
func TestReversals(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	p.stan++
	expect(t, "of what never came", p.reverse("sale", p.stan, 10_00, "98"), "00")
	p.stan--
	expect(t, "the original comes later", p.ask("sale", 10_00, c.chip(0, 10_00, pboc.ARQC)), "12")
	h.want("forestalled", 5000_00, 0, 0)
	expect(t, "sale", p.ask("sale", 20_00, c.chip(0, 20_00, pboc.ARQC)), "00")
	sale, wire := p.stan, p.sent
	rrn := p.in.Text(37)
	expect(t, "the same message", p.repeat(wire), "00")
	if p.in.Text(37) != rrn || len(find(p.in.Get(55), emv.TagIssuerAuth)) != 10 {
		t.Error("the same message has another answer")
	}
	h.want("once", 5000_00, 20_00, 0)
	p.stan--
	expect(t, "the trace with other content", p.ask("sale", 30_00, c.chip(0, 30_00, pboc.ARQC)), "94")
	expect(t, "another amount", p.reverse("sale", sale, 21_00, "98"), "25")
	for range 2 {
		expect(t, "reversal", p.reverse("sale", sale, 20_00, "98"), "00")
		h.want("reversed", 5000_00, 0, 0)
	}
	expect(t, "void of what is reversed", p.ask("void", 20_00, p.of(sale)), "12")
	expect(t, "sale", p.ask("sale", 40_00, c.chip(0, 40_00, pboc.ARQC)), "00")
	sale = p.stan
	expect(t, "void", p.ask("void", 40_00, p.of(sale)), "00")
	h.want("voided", 5000_00, 0, 0)
	expect(t, "reversal of the void", p.reverse("void", p.stan, 40_00, "98"), "00")
	h.want("the sale stands again", 5000_00, 40_00, 0)
	expect(t, "reversal of an inquiry's kind that is none", p.reverse("tap", 77, 1_00, "98"), "40")
	expect(t, "settle", p.settle(40_00, 1, 0, 0), "11")
	h.want("settled", 4960_00, 0, 40_00)
	expect(t, "reversal after settlement", p.reverse("sale", sale, 40_00, "98"), "12")
	expect(t, "a sale in a closed batch", p.ask("sale", 1_00, c.chip(0, 1_00, pboc.ARQC)), "95")
	expect(t, "end", p.end("207", 0), "00")
}

// TestPreauth: the whole family.
func TestPreauth(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	auth := func(fen int64) (stan int, f fields) {
		t.Helper()
		expect(t, "pre-authorisation", p.ask("preauth", fen, c.chip(issuing.TypePreauth, fen, pboc.ARQC)), "00")
		f = p.of(p.stan)
		f[38], f[61] = p.in.Text(38), f[61]+"0916"
		return p.stan, f
	}
	_, f := auth(200_00)
	h.want("held", 5000_00, 200_00, 0)
	expect(t, "too much", p.ask("completion", 230_01, f), "61")
	expect(t, "115 %", p.ask("completion", 230_00, f), "00")
	completion := p.stan
	h.want("completed", 4770_00, 0, 230_00)
	expect(t, "twice", p.ask("completion", 1_00, f), "12")
	expect(t, "cancel of the completion", p.ask("completion.cancel", 230_00, p.of(completion)), "00")
	h.want("given back", 5000_00, 0, 0)
	_, f = auth(100_00)
	expect(t, "cancel", p.ask("preauth.cancel", 100_00, f), "00")
	h.want("cancelled", 5000_00, 0, 0)
	_, f = auth(100_00)
	expect(t, "completion", p.ask("completion", 90_00, f), "00")
	completion = p.stan
	expect(t, "reversal of it", p.reverse("completion", completion, 90_00, "98"), "00")
	h.want("the pre-authorisation stands again", 5000_00, 100_00, 0)
	expect(t, "advice", p.ask("advice", 80_00, f), "00")
	h.want("told", 4920_00, 0, 80_00)
	_, f = auth(50_00)
	h.now.Advance(31 * 24 * time.Hour)
	if err := h.host.Tick(ctx, h.now.Now()); err != nil {
		t.Fatal(err)
	}
	h.want("expired", 4920_00, 0, 80_00)
	p.signOn()
	expect(t, "too late", p.ask("completion", 50_00, f), "12")
	expect(t, "settle", p.settle(230_00+80_00, 2, 230_00, 1), "11")
	expect(t, "end", p.end("207", 0), "00")
}

// TestRefunds: part by part, across days, never above the sale.
func TestRefunds(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	expect(t, "sale", p.ask("sale", 100_00, c.chip(0, 100_00, pboc.ARQC)), "00")
	rrn, stan := p.in.Text(37), p.stan
	expect(t, "settle", p.settle(100_00, 1, 0, 0), "11")
	expect(t, "end", p.end("207", 0), "00")
	q := h.terminal("10000002")
	for i, want := range []string{"00", "00", "64", "00", "64"} {
		h.now.Advance(20 * time.Hour)
		p.signOn()
		q.signOn()
		fen := []int64{30_00, 30_00, 50_00, 40_00, 1}[i]
		if i%2 == 0 {
			expect(t, "by number", q.ask("refund", fen, fields{2: c.number, 37: rrn}), want)
		} else {
			expect(t, "by trace", p.ask("refund", fen, fields{2: c.number, 61: fmt.Sprintf("%06d%06d0916", 1, stan)}), want)
		}
	}
	h.want("refunded", 5000_00, 0, 0)
	expect(t, "another card", q.ask("refund", 1_00, fields{2: "6228480402564890018", 37: rrn}), "25")
	var sum int64
	h.read(func(q *db.Query) error {
		return q.QueryRow(`SELECT CAST(SUM(fen) AS BIGINT) FROM settlement_item WHERE payee = $1`, shop).Scan(&sum)
	})
	if sum != 0 {
		t.Errorf("items sum to %d", sum)
	}
}

// TestTipsAndParts: tips, adjustments, phone orders, instalments, points.
func TestTipsAndParts(t *testing.T) {
	h := open(t, true, nil)
	c, r, p := h.card(issuing.DebitCard), h.card(issuing.CreditCard), h.terminal("10000001")
	expect(t, "sale", p.ask("sale", 100_00, c.chip(0, 100_00, pboc.ARQC)), "00")
	sale := p.stan
	expect(t, "tip", p.ask("tip", 115_00, fields{2: c.number, 61: p.of(sale)[61]}), "00")
	expect(t, "too much tip", p.ask("tip", 120_01, fields{2: c.number, 61: p.of(sale)[61]}), "61")
	expect(t, "less than the sale", p.ask("tip", 99_00, fields{2: c.number, 61: p.of(sale)[61]}), "61")
	h.want("held", 5000_00, 115_00, 0)
	expect(t, "by phone, debit", p.ask("phone", 10_00, fields{2: c.number, 14: c.expiry, 22: "012"}), "57")
	expect(t, "by phone", p.ask("phone", 10_00, fields{2: r.number, 14: r.expiry, 22: "012"}), "00")
	expect(t, "wrong expiry", p.ask("phone", 10_00, fields{2: r.number, 14: "2001", 22: "012"}), "54")
	expect(t, "reservation", p.ask("reservation", 20_00, fields{2: r.number, 14: r.expiry, 22: "012"}), "00")
	plan := fmt.Sprintf("03%-30s0", "PHONE")
	in := r.chip(0, 100_00, pboc.ARQC)
	in[62] = plan
	expect(t, "instalments", p.ask("instalment", 100_00, in), "00")
	if got, want := string(p.in.Get(62)), "000000003334"+"000000003333"+"000000000000"; got != want {
		t.Errorf("plan %q, want %q", got, want)
	}
	part := p.stan
	in = c.chip(0, 100_00, pboc.ARQC)
	in[62] = plan
	expect(t, "instalments, debit", p.ask("instalment", 100_00, in), "57")
	expect(t, "points, of which there are none", p.ask("points", 10_00, r.chip(0, 10_00, pboc.ARQC)), "51")
	expect(t, "void of instalments as a sale", p.ask("void", 100_00, p.of(part)), "40")
	expect(t, "void of instalments", p.ask("instalment.void", 100_00, p.of(part)), "00")
	expect(t, "offline sale", p.ask("offline", 50_00, fields{2: r.number, 14: r.expiry, 22: "012", 38: h.voice(r, 50_00)}), "00")
	offline := p.stan
	expect(t, "adjusted", p.ask("adjust", 45_00, fields{2: r.number, 61: p.of(offline)[61]}), "00")
	expect(t, "settle", p.settle(115_00+10_00+20_00+100_00+45_00, 5, 100_00, 1), "11")
	h.want("settled", 5000_00-115_00, 0, 115_00+10_00+20_00+45_00)
	expect(t, "end", p.end("207", 0), "00")
}

// TestECash: taps, once each, their refund, loads, cash, script notices.
func TestECash(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	expect(t, "load", p.ask("load", 200_00, c.chip(issuing.TypeLoad, 200_00, pboc.ARQC)), "00")
	if len(find(p.in.Get(55), emv.TagScript2)) == 0 {
		t.Fatal("no script")
	}
	load := p.stan
	notice := func(result byte) string {
		return p.say("0620", fields{2: c.number, 3: "600000", 4: fmt.Sprintf("%012d", 200_00), 11: p.next(), 49: "156", 55: string([]byte{0xDF, 0x31, 5, result, 0, 0, 0, 0}),
			60: fmt.Sprintf("45%06d00060", p.batch), 61: p.of(load)[61]})
	}
	expect(t, "notice", notice(0x20), "00")
	expect(t, "notice again", notice(0x20), "00")
	c.fen = 200_00
	if got := h.balance(issuing.Float(c.id)).Posted.Minor(); got != 200_00 {
		t.Errorf("float %d", got)
	}
	c.fen -= 12_50
	tapped := c.chip(0, 12_50, pboc.TC)
	expect(t, "tap", p.ask("tap", 12_50, tapped), "00")
	first := p.in.Text(37)
	expect(t, "the same tap under another trace", p.ask("tap", 12_50, tapped), "00")
	h.want("once", 4800_00, 0, 12_50)
	expect(t, "refund of a tap, part", p.ask("tap.refund", 10_00, fields{2: c.number, 22: "072", 23: "001", 12: "100000", 37: first, 55: tapped[55]}), "00")
	expect(t, "the same again", p.repeat(p.sent), "00")
	h.want("part of it", 4810_00, 0, 2_50)
	expect(t, "more than is left", p.ask("tap.refund", 2_51, fields{2: c.number, 37: first}), "64")
	other := c.chip(0, 12_50, pboc.TC)
	expect(t, "another payment's data", p.ask("tap.refund", 2_50, fields{2: c.number, 22: "072", 37: first, 55: other[55]}), "25")
	c.atc--
	expect(t, "the rest, without the card's data", p.ask("tap.refund", 2_50, fields{2: c.number, 37: first}), "00")
	expect(t, "nothing is left", p.ask("tap.refund", 1, fields{2: c.number, 37: first}), "12")
	expect(t, "the tap again, under a third trace", p.ask("tap", 12_50, tapped), "00")
	h.want("refunded", 4812_50, 0, 0)
	expect(t, "load with cash", p.ask("load.cash", 50_00, c.chip(0x63, 50_00, pboc.ARQC)), "00")
	cash := p.stan
	h.want("the shop owes the cash", 4812_50+50_00, 50_00, -50_00)
	expect(t, "taken back", p.reverse("load.cash", cash, 50_00, "98"), "00")
	h.want("taken back", 4812_50, 0, 0)
	expect(t, "load with cash", p.ask("load.cash", 60_00, c.chip(0x63, 60_00, pboc.ARQC)), "00")
	cash = p.stan
	expect(t, "undo", p.ask("unload", 60_00, p.of(cash)), "00")
	h.want("undone", 4812_50, 0, 0)
	d := h.card(issuing.DebitCard)
	in := c.chip(0x62, 70_00, pboc.ARQC)
	in[2], in[35], in[62] = d.number, d.track(), fmt.Sprintf("%-19s", c.number)
	expect(t, "load from another card", p.ask("load.other", 70_00, p.pin(in, d.number, "123456")), "00")
	h.want("held for the load", 4812_50, 70_00, 0)
	expect(t, "settle", p.settle(12_50+60_00, 2, 12_50+60_00, 3), "11")
	expect(t, "end", p.end("207", 0), "00")
}

// TestKeys: MACs, old keys, sign-off, unknown and closed terminals, limits.
func TestKeys(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	old := p.key
	expect(t, "sale", p.ask("sale", 1_00, c.chip(0, 1_00, pboc.ARQC)), "00")
	p.signOn()
	fresh := p.key
	p.key = old
	expect(t, "under the keys in use", p.ask("sale", 1_00, c.chip(0, 1_00, pboc.ARQC)), "00")
	p.key = fresh
	expect(t, "under the new ones", p.ask("sale", 1_00, c.chip(0, 1_00, pboc.ARQC)), "00")
	wrong := func(k *iso8583.Key) string {
		t.Helper()
		wire, err := p.message("0200", fields{3: "000000", 4: fmt.Sprintf("%012d", 1), 11: p.next(), 25: "00", 49: "156", 60: fmt.Sprintf("22%06d00060", p.batch)}).Seal(nil, k)
		if err != nil {
			t.Fatal(err)
		}
		p.take(p.exchange(wire))
		return p.in.Text(39)
	}
	expect(t, "under the old ones", wrong(old), "A0")
	expect(t, "again", wrong(old), "A0")
	expect(t, "and again", wrong(old), "77")
	expect(t, "until it signs on", p.ask("sale", 1_00, c.chip(0, 1_00, pboc.ARQC)), "77")
	p.signOn()
	expect(t, "signed on", p.ask("balance", 0, c.chip(issuing.TypeInquiry, 0, pboc.ARQC)), "00")
	if got := p.in.Text(54); got != "1002156C"+fmt.Sprintf("%012d", 5000_00-3_00) {
		t.Errorf("balance %q", got)
	}
	h.want("three sales", 5000_00, 3_00, 0)
	expect(t, "sign-off", p.say("0820", fields{11: p.next(), 60: fmt.Sprintf("00%06d002", p.batch)}), "00")
	expect(t, "after it", p.ask("sale", 1_00, c.chip(0, 1_00, pboc.ARQC)), "77")
	p.signOn()
	h.estate.closed[p.tid] = true
	h.do(func(tx *db.Tx) error { h.host.Forget(tx, p.tid); return nil })
	h.now.Advance(time.Minute)
	expect(t, "closed", p.ask("sale", 1_00, c.chip(0, 1_00, pboc.ARQC)), "58")
	h.estate.closed[p.tid], h.estate.single, h.estate.daily = false, 100_00, 150_00
	h.now.Advance(time.Minute)
	expect(t, "above the shop's limit", p.ask("sale", 100_01, c.chip(0, 100_01, pboc.ARQC)), "61")
	expect(t, "within", p.ask("sale", 100_00, c.chip(0, 100_00, pboc.ARQC)), "00")
	expect(t, "above the day's", p.ask("sale", 60_00, c.chip(0, 60_00, pboc.ARQC)), "61")
	q := *p
	q.tid = "90000001"
	wire, _ := q.message("0820", fields{60: "00000001301"}).AppendTo(nil)
	p.take(p.exchange(wire))
	expect(t, "unknown terminal", p.in.Text(39), "97")
	h.now.Advance(49 * time.Hour)
	expect(t, "keys of two days", p.ask("sale", 1_00, c.chip(0, 1_00, pboc.ARQC)), "77")
	in := p.swipe(c, "123456")
	in[60] = fmt.Sprintf("22%06d00060", p.batch)
	p.signOn()
	expect(t, "the stripe of a chip card", p.ask("sale", 1_00, in), "45")
}

// TestReader: a key per transaction.
func TestReader(t *testing.T) {
	h := open(t, true, nil)
	c := h.card(issuing.DebitCard)
	const tid = "10000007"
	form, sealed, err := h.keys.NewTransport(ctx, tid)
	if err != nil {
		t.Fatal(err)
	}
	transport, _ := form.Key()
	base := dukpt.KSN(unhex("FFFF9876543210E00000"))
	in, err := h.host.InstallReader(ctx, tid, base, sealed)
	if err != nil {
		t.Fatal(err)
	}
	initial, _, err := hsm.OpenInjected(hsm.TerminalKey{Use: hsm.ReaderInitial, TID: tid}, transport, in.Block)
	if err != nil {
		t.Fatal(err)
	}
	p := &terminal{h: h, tid: tid, batch: 1}
	say := func(counter uint32, mti string, f fields) string {
		t.Helper()
		ksn := base.At(counter)
		key := dukpt.Derive(dukpt.Key(initial), ksn)
		request, answer, pin := key.MACRequest(), key.MACResponse(), key.PIN()
		f[57] = "KSN" + string(ksn[:])
		if f[35] != "" {
			b, err := poskey.PINBlock(poskey.WithPAN, "123456", c.number)
			if err != nil {
				t.Fatal(err)
			}
			f[52], f[53], f[26] = string(pboc.NewKey(pboc.TripleDES, pin).Encrypt(b[:])), "2700000000000000", "12"
		}
		in, _ := iso8583.NewKey(request[:])
		out, _ := iso8583.NewKey(answer[:])
		wire, err := p.message(mti, f).Seal(nil, in)
		if err != nil {
			t.Fatal(err)
		}
		p.take(p.exchange(wire))
		if err := p.in.Verify(out); err != nil && p.in.Text(39) != "A7" {
			t.Errorf("answer %s: %v", p.in.Text(39), err)
		}
		return p.in.Text(39)
	}
	expect(t, "sign-on of another merchant", say(1, "0800", fields{11: p.next(), 42: "898110058129999", 60: "00000001003"}), "03")
	expect(t, "sign-on", say(1, "0800", fields{11: p.next(), 60: "00000001003"}), "00")
	sale := func(stan string) fields {
		return fields{2: c.number, 35: c.track(), 3: "000000", 4: fmt.Sprintf("%012d", 10_00), 11: stan, 22: "021", 25: "00", 49: "156", 60: "22000001000200"}
	}
	stan := p.next()
	expect(t, "sale", say(2, "0200", sale(stan)), "00")
	expect(t, "the same again", say(2, "0200", sale(stan)), "00")
	expect(t, "another under the same number", say(2, "0200", sale(p.next())), "A7")
	expect(t, "an older number", say(1, "0200", sale(p.next())), "A7")
	h.want("one sale", 5000_00, 10_00, 0)
}

// TestDownloads: parameters, keys and lists as a terminal asks for them.
func TestDownloads(t *testing.T) {
	h := open(t, true, nil)
	p := h.terminal("10000001")
	get := func(mti, code, body string) []byte {
		t.Helper()
		f := fields{11: p.next(), 60: fmt.Sprintf("00%06d%s", p.batch, code)}
		if body != "" {
			f[62] = body
		}
		expect(t, code, p.say(mti, f), "00")
		return p.in.Get(62)
	}
	if got := string(get("0800", "360", "")); !strings.HasPrefix(got, "1260133181192020121022NOODLES ") || len(got) != 4+3+3+4+3+3+42+3+14+6 {
		t.Errorf("parameters %q, %d", got, len(got))
	}
	list := get("0820", "372", "100")
	if list[0] != '1' && list[0] != '2' {
		t.Fatalf("CA keys %q", list)
	}
	name := append([]byte{}, list[1:1+8+4]...) // 9F06 05 RID, 9F22 01 index
	key := get("0800", "370", string(name))
	if key[0] != '1' || len(key) < 150 {
		t.Errorf("CA key of %d bytes", len(key))
	}
	if got := get("0800", "370", "\x9F\x06\x05AAAAA\x9F\x22\x01\x01"); string(got) != "0" {
		t.Errorf("unknown key %q", got)
	}
	aids := get("0820", "382", "100")
	if aids[0] != '1' || get("0800", "380", string(aids[1:1+11]))[0] != '1' {
		t.Errorf("AIDs %X", aids)
	}
	if got := get("0800", "390", fmt.Sprintf("%010d%010d", 0, 0)); len(got) == 0 {
		t.Error("no answer about the black list")
	}
	if err := h.host.Demand(ctx, p.tid, 4); err != nil {
		t.Fatal(err)
	}
	get("0820", "362", "v1.2 paper ok")
	if p.in.Head()[7]&15 != 4 {
		t.Errorf("state %02X", p.in.Head()[7])
	}
	get("0800", "371", "")
	for _, x := range []struct {
		code string
		next byte
	}{{"371", 1}, {"361", 5}, {"381", 7}, {"391", 0}} { // what it has never loaded, in turn
		if get("0800", x.code, ""); p.in.Head()[7]&15 != x.next {
			t.Errorf("state %02X after %s, want %d", p.in.Head()[7], x.code, x.next)
		}
	}
	h.boot()
	if get("0800", "361", ""); p.in.Head()[7]&15 != 0 {
		t.Errorf("state %02X when all was loaded", p.in.Head()[7])
	}
}

// TestDifferences: what a terminal and the switch have otherwise is found and
// decided by people.
func TestDifferences(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	var stans []int
	for _, fen := range []int64{10_00, 20_00, 30_00} {
		expect(t, "sale", p.ask("sale", fen, c.chip(0, fen, pboc.ARQC)), "00")
		stans = append(stans, p.stan)
	}
	expect(t, "settle", p.settle(1_00, 1, 0, 0), "21")
	item := func(stan int, fen int64) string { return fmt.Sprintf("22%06d%020s%012d", stan, c.number, fen) }
	f := fields{11: p.next(), 48: "03" + item(stans[0], 10_00) + item(stans[1], 21_00) + item(999_999, 5_00), 60: fmt.Sprintf("00%06d201", p.batch)}
	expect(t, "items", p.say("0320", f), "00")
	expect(t, "items again", p.say("0320", f), "00")
	expect(t, "a wrong count", p.end("202", 4), "95")
	expect(t, "the end of a batch that balanced", p.end("207", 3), "95")
	last := p.batch
	expect(t, "end", p.end("202", 3), "00")
	next := p.batch
	p.batch = last
	expect(t, "end again", p.end("202", 3), "00")
	if p.batch != next || next != 2 {
		t.Errorf("batch %d", p.batch)
	}
	var list []switching.Difference
	h.read(func(q *db.Query) (err error) { list, err = switching.Differences(q, true, "", 10); return err })
	got := ""
	for _, d := range list {
		got += fmt.Sprintf("%s %d %d; ", d.What, d.Ours.Minor(), d.Theirs.Minor())
	}
	if got != "amount 2000 2100; missing_at_terminal 3000 0; missing_at_host 0 500; " {
		t.Errorf("differences %s", got)
	}
	h.want("what agrees is the shop's", 4970_00, 30_00, 30_00)
	for _, d := range list {
		h.do(func(tx *db.Tx) error { return switching.Resolve(tx, d.ID, false, "ling", "the receipt says so") })
	}
	h.want("decided", 4970_00, 0, 30_00)
}

// TestCutOff: what no terminal settles is booked, and can still be voided.
func TestCutOff(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	expect(t, "sale", p.ask("sale", 10_00, c.chip(0, 10_00, pboc.ARQC)), "00")
	sale := p.stan
	h.now.Advance(20 * time.Hour)
	if err := h.host.Tick(ctx, h.now.Now()); err != nil {
		t.Fatal(err)
	}
	h.want("booked", 4990_00, 0, 10_00)
	expect(t, "void of it", p.ask("void", 10_00, p.of(sale)), "00")
	h.want("given back", 5000_00, 0, 0)
	expect(t, "settle", p.settle(10_00, 1, 10_00, 1), "11")
	h.want("nothing twice", 5000_00, 0, 0)
	var log []switching.Message
	h.read(func(q *db.Query) error {
		x, err := switching.Live(q, switching.Filter{Shop: shop, Limit: 10})
		if err == nil {
			log, err = switching.Messages(q, x[len(x)-1])
		}
		return err
	})
	if len(log) != 1 {
		t.Fatalf("%d messages", len(log))
	}
	if m, a, err := h.host.Open(ctx, log[0]); err != nil || len(m) < 100 || len(a) < 60 {
		t.Errorf("message %d, answer %d, %v", len(m), len(a), err)
	}
}

// TestTheProtocolsExample holds the numbers of docs/terminal-protocol.md.
func TestTheProtocolsExample(t *testing.T) {
	page, err := os.ReadFile("../docs/terminal-protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(page)), "")
	has := func(s string) {
		t.Helper()
		if !strings.Contains(text, s) {
			t.Errorf("the page does not have %s", s)
		}
	}
	tmk, pik, mak := [16]byte(unhex("0123456789ABCDEFFEDCBA9876543210")), [16]byte(unhex("8C7F1A2B3D4E5F60718293A4B5C6D7E8")), [16]byte(unhex("25D34E58A17B9C0D6E2F408192A3B4C5"))
	for _, k := range [][16]byte{pik, mak} {
		b := poskey.Wrap(tmk, k)
		has(fmt.Sprintf("%X|%X", b.Enciphered, b.Check))
	}
	const number = "6288880100000000017"
	block, err := poskey.PINBlock(poskey.WithPAN, "1234", number)
	if err != nil {
		t.Fatal(err)
	}
	has(fmt.Sprintf("%X", block))
	iso9797.NewTDES(pik[:]).EncryptBlock(block[:], block[:])
	p := &terminal{tid: "10000001"}
	m := p.message("0200", fields{2: number, 3: "000000", 4: "12550", 11: "17", 14: "2509", 22: "021", 25: "00", 26: "12", 35: number + "D25092200000000000", 49: "156",
		52: string(block[:]), 53: "2600000000000000", 60: "22000001000500"})
	m.SetHead(unhex("6000030000603100311312"))
	key, _ := iso8583.NewKey(mak[:])
	wire, err := m.Seal(nil, key)
	if err != nil {
		t.Fatal(err)
	}
	has(fmt.Sprintf("%X", wire))
	has(fmt.Sprintf("lengthis`%04X`", len(wire)))
	has("F64" + string(wire[len(wire)-8:]))
}

// TestAtOnce: eight terminals at once, every message twice at the same time: each
// sale is held once, and both copies get the same answer.
func TestAtOnce(t *testing.T) {
	h := open(t, false, nil)
	const tills, each = 8, 6
	var wg sync.WaitGroup
	for i := range tills {
		c, p := h.card(issuing.DebitCard), h.terminal(fmt.Sprintf("1%07d", i))
		var wires [][]byte
		for range each {
			f := c.chip(0, 1_00, pboc.ARQC)
			f[3], f[4], f[11], f[25], f[49], f[60] = "000000", fmt.Sprintf("%012d", 1_00), p.next(), "00", "156", fmt.Sprintf("22%06d00060", p.batch)
			wire, err := p.message("0200", f).Seal(nil, p.key)
			if err != nil {
				t.Fatal(err)
			}
			wires = append(wires, wire)
		}
		wg.Go(func() {
			for _, wire := range wires {
				var answers [2][]byte
				var both sync.WaitGroup
				for n := range answers {
					both.Go(func() { answers[n], _ = h.host.Handle(ctx, wire) })
				}
				both.Wait()
				if !bytes.Equal(answers[0], answers[1]) || len(answers[0]) == 0 {
					t.Errorf("terminal %s: %X and %X", p.tid, answers[0], answers[1])
				}
			}
		})
	}
	wg.Wait()
	h.want("each once", 5000_00, tills*each*1_00, 0)
}

// TestTrackKey: a stripe whose track travels under the track key.
func TestTrackKey(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	wire, err := p.message("0800", fields{11: p.next(), 60: "00000001004", 63: "01 "}).AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	p.take(p.exchange(wire))
	blocks, err := poskey.ParseField(p.in.Get(62))
	if err != nil || len(blocks) != 3 {
		t.Fatal(len(blocks), err)
	}
	p.pik, _ = blocks[0].Open(p.tmk)
	p.mak, _ = blocks[1].Open(p.tmk)
	tdk, _ := blocks[2].Open(p.tmk)
	p.key, _ = iso8583.NewKey(p.mak[:])
	track := c.track()
	packed := unhex(strings.ToLower(track + "0")[:(len(track)+1)/2*2])
	eight, err := poskey.TrackBlock(packed)
	if err != nil {
		t.Fatal(err)
	}
	iso9797.NewTDES(tdk[:]).EncryptBlock(eight, eight)
	f := p.swipe(c, "123456")
	delete(f, 35)
	f[53], f[59] = "2610000000000000", fmt.Sprintf("T2%02d%s", len(track), packed)
	expect(t, "sale", p.ask("sale", 10_00, f), "00")
	f = p.swipe(c, "123456")
	delete(f, 35)
	f[53], f[59] = "2610000000000000", "T299"
	expect(t, "no track", p.ask("sale", 10_00, f), "30")
	h.want("one sale", 5000_00, 10_00, 0)
	f = p.swipe(c, "123456")
	f[53], f[35] = "2610000000000000", strings.ToUpper(hex.EncodeToString(packed))[:len(track)]
	expect(t, "in its own field", p.ask("sale", 20_00, f), "00")
	f[53] = "2600000000000000"
	expect(t, "which is said to be clear", p.ask("sale", 20_00, f), "30")
	h.want("two sales", 5000_00, 30_00, 0)
}

// TestSingleKeys: nobody gets keys of single length but a terminal that staff have
// let have them; with them it sells as with others.
func TestSingleKeys(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	ask := func() string {
		t.Helper()
		wire, err := p.message("0800", fields{11: p.next(), 60: "00000001001", 63: "01 "}).AppendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		p.take(p.exchange(wire))
		return p.in.Text(39)
	}
	expect(t, "not allowed", ask(), "40")
	h.do(func(tx *db.Tx) error { return single.Allow(tx, p.tid, true, "lin", "an old terminal") })
	expect(t, "allowed", ask(), "00")
	v := p.in.Get(62)
	blocks, err := poskey.ParseField(v)
	if err != nil || len(v) != 24 || len(blocks) != 2 {
		t.Fatalf("field 62 %X: %v", v, err)
	}
	p.pik, _ = blocks[0].Open(p.tmk)
	mak, err := blocks[1].Open(p.tmk)
	if err != nil || [8]byte(mak[:8]) != [8]byte(mak[8:]) {
		t.Fatal(err)
	}
	p.key, _ = iso8583.NewKey(mak[:8])
	f := p.swipe(c, "123456")
	f[53] = "2000000000000000"
	expect(t, "sale", p.ask("sale", 10_00, f), "00")
	h.want("sold", 5000_00, 10_00, 0)
	h.do(func(tx *db.Tx) error { return single.Allow(tx, p.tid, false, "lin", "it was replaced") })
	expect(t, "no more", ask(), "40")
	expect(t, "until then", p.ask("sale", 5_00, c.chip(0, 5_00, pboc.ARQC)), "00")
}
