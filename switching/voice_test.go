package switching_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/switching"
	"koala/switching/referral"
)

// call has the desk decide a call of the shop.
func (h *house) call(c referral.Call) (r referral.Referral, err error) {
	h.t.Helper()
	desk := referral.New(h.bank, h.keys)
	heard, err := desk.Hear(ctx, c)
	if err != nil {
		return r, err
	}
	err = h.store.Write(ctx, func(tx *db.Tx) (err error) {
		r, err = desk.Decide(tx, heard)
		return err
	})
	return r, err
}

// voice is a code for a card and an amount.
func (h *house) voice(c *card, fen int64) string {
	h.t.Helper()
	h.n++
	r, err := h.call(referral.Call{ID: fmt.Sprintf("call_%06d", h.n), Shop: shop, TID: "10000001", Name: "Noodles", Number: c.number, Expiry: c.expiry, Amount: money.Fen(fen), By: "lin", Note: "the line is down"})
	if err != nil || r.State != referral.Held {
		h.t.Fatalf("call: %+v %v", r, err)
	}
	return r.Code
}

func (h *house) open(what string) (n int) {
	h.read(func(q *db.Query) error {
		list, err := switching.Differences(q, true, "", 100)
		for _, d := range list {
			if d.What == what {
				n++
			}
		}
		return err
	})
	return n
}

// TestReferral: a code holds the money once, stands for one sale of at most its
// amount on its card in its shop, and lets go when nobody comes.
func TestReferral(t *testing.T) {
	h := open(t, true, nil)
	c, other, r, p := h.card(issuing.DebitCard), h.card(issuing.DebitCard), h.card(issuing.CreditCard), h.terminal("10000001")
	sale := func(c *card, code string) fields {
		return fields{2: c.number, 14: c.expiry, 22: "012", 12: "100000", 13: "0916", 38: code}
	}
	code := h.voice(c, 100_00)
	if len(code) != referral.CodeLen {
		t.Fatalf("code %q", code)
	}
	h.want("held by the call", 5000_00, 100_00, 0)
	expect(t, "more than the code", p.ask("offline", 100_01, sale(c, code)), "64")
	expect(t, "another card", p.ask("offline", 80_00, sale(other, code)), "25")
	expect(t, "no such code", p.ask("offline", 80_00, sale(c, "VOICE1")), "25")
	if got := h.open(switching.NoVoice); got != 3 {
		t.Errorf("%d cases, want 3", got)
	}
	h.want("nothing but the call", 5000_00, 100_00, 0)
	expect(t, "the sale", p.ask("offline", 80_00, sale(c, code)), "00")
	if got := p.in.Text(38); got != code {
		t.Errorf("field 38 %q, want %q", got, code)
	}
	stan := p.stan
	expect(t, "the same again", p.repeat(p.sent), "00")
	expect(t, "used", p.ask("offline", 1_00, sale(c, code)), "12")
	h.want("one hold", 5000_00, 100_00, 0)
	expect(t, "adjusted", p.ask("adjust", 90_00, fields{2: c.number, 61: p.of(stan)[61]}), "00")
	expect(t, "credit", p.ask("offline", 50_00, sale(r, h.voice(r, 50_00))), "00")

	late := h.voice(c, 10_00)
	back := h.voice(c, 20_00)
	h.do(func(tx *db.Tx) error { return referral.Withdraw(tx, fmt.Sprintf("call_%06d", h.n)) })
	expect(t, "withdrawn", p.ask("offline", 20_00, sale(c, back)), "12")
	err := h.store.Write(ctx, func(tx *db.Tx) error { return referral.Withdraw(tx, fmt.Sprintf("call_%06d", h.n)) })
	if !errors.Is(err, referral.ErrState) {
		t.Errorf("withdrawn twice: %v", err)
	}
	expect(t, "settle", p.settle(140_00, 2, 0, 0), "11")
	h.want("booked", 5000_00-90_00, 10_00, 140_00)
	expect(t, "end", p.end("207", 0), "00")
	h.now.Advance(referral.Valid + time.Minute)
	p.signOn()
	expect(t, "over, before the desk looked", p.ask("offline", 10_00, sale(c, late)), "54")
	h.tick()
	expect(t, "over", p.ask("offline", 10_00, sale(c, late)), "54")
	h.want("let go", 5000_00-90_00, 0, 140_00)
}

// TestReferralCall: what the bank says no to gets no code, the same form again
// decides nothing, and no number of another bank is decided here.
func TestReferralCall(t *testing.T) {
	h := open(t, true, nil)
	c := h.card(issuing.DebitCard)
	good := referral.Call{ID: "call_abcdef", Shop: shop, TID: "10000001", Number: c.number, Expiry: c.expiry, Amount: money.Fen(10_00)}
	for what, change := range map[string]func(*referral.Call){
		"no number": func(c *referral.Call) { c.Number = "6288" }, "no expiry": func(c *referral.Call) { c.Expiry = "2513" }, "no amount": func(c *referral.Call) { c.Amount = money.Fen(0) },
		"too much": func(c *referral.Call) { c.Amount = money.Fen(referral.Most + 1) }, "no name": func(c *referral.Call) { c.ID = "x" }, "no shop": func(c *referral.Call) { c.Shop = "" },
	} {
		bad := good
		change(&bad)
		if _, err := h.call(bad); !errors.Is(err, referral.ErrCall) {
			t.Errorf("%s: %v", what, err)
		}
	}
	first, err := h.call(good)
	again, err2 := h.call(good)
	if err != nil || err2 != nil || first.Code != again.Code || first.Code == "" {
		t.Fatalf("%+v %v, again %+v %v", first, err, again, err2)
	}
	h.want("held once", 5000_00, 10_00, 0)
	more := good
	more.Amount = money.Fen(11_00)
	if _, err := h.call(more); !errors.Is(err, referral.ErrDiffers) {
		t.Errorf("the same form with another amount: %v", err)
	}
	for i, tt := range []struct {
		number, expiry string
		fen            int64
		why            issuing.Reason
	}{{c.number, "2001", 1, issuing.Expired}, {c.number, c.expiry, 4_995_00, issuing.NoMoney}, {farCard, "2912", 1, issuing.UnknownCard}} {
		r, err := h.call(referral.Call{ID: fmt.Sprintf("refused_%d", i), Shop: shop, Number: tt.number, Expiry: tt.expiry, Amount: money.Fen(tt.fen)})
		if err != nil || r.State != referral.Refused || r.Why != tt.why || r.Code != "" {
			t.Errorf("%s: %+v %v", tt.why, r, err)
		}
	}
	h.want("held once still", 5000_00, 10_00, 0)
}

// TestAdjustWithinVoiceHold: a tip that the code was given for needs no money
// beside what is held.
func TestAdjustWithinVoiceHold(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	code := h.voice(c, 5000_00)
	expect(t, "sale", p.ask("offline", 4000_00, fields{2: c.number, 14: c.expiry, 22: "012", 12: "100000", 13: "0916", 38: code}), "00")
	stan := p.of(p.stan)[61]
	expect(t, "adjusted", p.ask("adjust", 4500_00, fields{2: c.number, 61: stan}), "00")
	expect(t, "down", p.ask("adjust", 4000_00, fields{2: c.number, 61: stan}), "00")
	expect(t, "and up again", p.ask("adjust", 4500_00, fields{2: c.number, 61: stan}), "00")
	expect(t, "settle", p.settle(4500_00, 1, 0, 0), "11")
	h.want("booked", 500_00, 0, 4500_00)
}
