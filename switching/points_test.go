package switching_test

import (
	"errors"
	"testing"
	"time"

	"koala/internal/db"
	"koala/issuing"
	"koala/issuing/points"
	"koala/money"
	"koala/spec/pboc"
	"koala/switching"
)

func (h *house) points(c *card) (b points.Balance) {
	h.t.Helper()
	h.read(func(q *db.Query) (err error) { b, err = points.Of(q, string(c.id)); return err })
	return b
}

// given is what the house has paid shops for points, fen.
func (h *house) given() (n int64) {
	h.do(func(tx *db.Tx) error { return points.Open(tx) })
	return -h.balance(points.House).Posted.Minor()
}

// TestPoints: booked payments earn, what goes back takes its points along, and a
// sale for points costs the house what the shop gets, until it goes back.
func TestPoints(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	has := func(what string, earned, spent, given int64) {
		t.Helper()
		if b := h.points(c); b.Earned != earned || b.Spent != spent || h.given() != given {
			t.Errorf("%s: %d earned, %d spent, the house gave %d; want %d, %d, %d", what, b.Earned, b.Spent, h.given(), earned, spent, given)
		}
	}
	pay := func(kind string, fen int64) string { return p.ask(kind, fen, c.chip(0, fen, pboc.ARQC)) }
	day := func(debits int64, dn int, credits int64, cn int) {
		t.Helper()
		expect(t, "settle", p.settle(debits, dn, credits, cn), "11")
		expect(t, "end", p.end("207", 0), "00")
	}
	rrn := p.ok("sale", 600_50, c.chip(0, 600_50, pboc.ARQC))
	has("not booked yet", 0, 0, 0)
	expect(t, "nothing to spend", pay("points", 1), "51")
	day(600_50, 1, 0, 0)
	has("a point a yuan", 600, 0, 0)
	expect(t, "more than there is", pay("points", 6_01), "51")
	expect(t, "wrong PIN", p.ask("points", 5_00, p.pin(p.swipe(c, "654321"), c.number, "654321")), "55")
	expect(t, "spent", pay("points", 5_00), "00")
	stan := p.stan
	has("spent, not booked", 600, 500, 0)
	expect(t, "the same again", p.repeat(p.sent), "00")
	expect(t, "more than is left", pay("points", 1_01), "51")
	expect(t, "void", p.ask("points.void", 5_00, p.of(stan)), "00")
	has("voided", 600, 0, 0)
	expect(t, "the void taken back", p.reverse("points.void", p.stan, 5_00, "98"), "00")
	has("spent again", 600, 500, 0)
	expect(t, "another", pay("points", 50), "00")
	expect(t, "reversed", p.reverse("points", p.stan, 50, "98"), "00")
	has("as before", 600, 500, 0)
	day(5_00, 1, 0, 0)
	has("booked", 600, 500, 5_00)
	h.want("the shop has both", 5000_00-600_50, 0, 600_50+5_00)
	var spent string
	h.read(func(q *db.Query) error {
		list, err := switching.Live(q, switching.Filter{TID: p.tid, State: switching.Cleared, Limit: 1})
		spent = list[0].RRN
		return err
	})
	if err := h.store.Write(ctx, func(tx *db.Tx) error { return switching.Dispute(tx, spent, money.Fen(1_00)) }); !errors.Is(err, switching.ErrState) {
		t.Errorf("a dispute of points: %v", err)
	}
	p.ok("refund", 2_00, fields{2: c.number, 37: spent})
	has("part of it went back", 600, 300, 3_00)
	expect(t, "more than is left of it", p.ask("refund", 3_01, fields{2: c.number, 37: spent}), "64")
	p.ok("refund", 500_50, fields{2: c.number, 37: rrn})
	has("what earned it went back after it was spent", 100, 300, 3_00)
	expect(t, "below zero nothing is spent", pay("points", 1), "51")
	day(0, 0, 502_50, 2)
	h.now.Advance(time.Hour)
	h.want("in the end", 5000_00-100_00, 0, 100_00+3_00)
	h.read(func(q *db.Query) error {
		wrong, err := switching.Prove(q)
		if len(wrong) > 0 {
			t.Error(wrong)
		}
		return err
	})
}
