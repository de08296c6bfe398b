package switching_test

import (
	"errors"
	"testing"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/settlement"
	"koala/spec/pboc"
)

// TestRefundsOfSplitSale: a sale of a shop that divides its sales is divided when
// its till settles, and each refund of it in the same proportions, also when the
// split has ended.
func TestRefundsOfSplitSale(t *testing.T) {
	h := open(t, true, nil)
	day := calendar.Of(h.now.Now(), calendar.Beijing)
	h.do(func(tx *db.Tx) error {
		return errors.Join(settlement.Join(tx, "platform", "Platform"), settlement.SetSplit(tx, shop, day,
			settlement.Split{Shares: []settlement.Share{{Payee: "platform", BP: 2_500}}}))
	})
	owed := func(what string, ours, theirs int64) {
		t.Helper()
		if a, b := h.balance(settlement.Payable(shop)).Posted, h.balance(settlement.Payable("platform")).Posted; a != money.Fen(ours) || b != money.Fen(theirs) {
			t.Errorf("%s: the shop has %s, the platform %s; want %d and %d", what, a, b, ours, theirs)
		}
	}
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	expect(t, "sale", p.ask("sale", 100_00, c.chip(0, 100_00, pboc.ARQC)), "00")
	rrn := p.in.Text(37)
	owed("approved", 0, 0)
	expect(t, "settle", p.settle(100_00, 1, 0, 0), "11")
	expect(t, "end", p.end("207", 0), "00")
	owed("settled", 75_00, 25_00)
	h.do(func(tx *db.Tx) error { return settlement.SetSplit(tx, shop, day, settlement.Split{}) })
	for i, fen := range []int64{40_00, 59_99, 1} {
		h.now.Advance(20 * time.Hour)
		p.signOn()
		expect(t, "refund", p.ask("refund", fen, fields{2: c.number, 37: rrn}), "00")
		owed("refunded", []int64{45_00, 1, 0}[i], []int64{15_00, 0, 0}[i])
	}
	h.read(func(q *db.Query) error {
		wrong, err := settlement.Check(q)
		if len(wrong) > 0 {
			t.Error(wrong)
		}
		return err
	})
}
