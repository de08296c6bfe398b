package dispute

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/money"
	"koala/settlement"
)

// TestOneSaleIsTakenOnce: a case that ended with the issuer bounds the next,
// and whoever gives money back is told what is taken, in the same unit.
func TestOneSaleIsTakenOnce(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := newHouse(t, cfg)
		var told []int64
		left := int64(10_000)
		Watch(h.store, func(tx *db.Tx, rrn string, taken money.Amount) error {
			if taken.Minor() > left {
				return ErrClaim
			}
			told = append(told, taken.Minor())
			return nil
		})
		first := h.open(claim("N1", true))
		h.must(func(tx *db.Tx) error { _, err := Accept(tx, first.ID, "shop", "we owe it"); return err })
		if err := h.write(func(tx *db.Tx) error { _, err := Open(tx, claim("N2", true)); return err }); !errors.Is(err, ErrClaim) {
			t.Errorf("a second claim of 60.00 on 40.00: %v", err)
		}
		rest := claim("N3", false)
		rest.Amount = money.Fen(4_000)
		second := h.open(rest)
		left = 9_999 // the shop gave a fen back while the receipt was asked for
		if err := h.write(func(tx *db.Tx) error { _, err := ChargeBack(tx, second.ID, "4515", "not mine"); return err }); !errors.Is(err, ErrClaim) {
			t.Errorf("a chargeback of more than is left: %v", err)
		}
		left = 10_000
		h.must(func(tx *db.Tx) error { _, err := ChargeBack(tx, second.ID, "4515", "not mine"); return err })
		h.must(func(tx *db.Tx) error { _, err := Withdraw(tx, second.ID, "found it"); return err })
		if want := []int64{6_000, 10_000, 6_000}; len(told) != 3 || told[0] != want[0] || told[1] != want[1] || told[2] != want[2] {
			t.Errorf("told %v, want %v", told, want)
		}
	})
}

// TestTakenIsBounded: whatever row of claims and steps, what all cases of a
// sale take is what was last told and never more than the sale.
func TestTakenIsBounded(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHouse(rt, db.Config{URL: dbtest.File(t), Rebuildable: true})
		last := int64(0)
		Watch(h.store, func(_ *db.Tx, _ string, taken money.Amount) error { last = taken.Minor(); return nil })
		var id string
		for i, act := range rapid.SliceOfN(rapid.IntRange(0, 8), 1, 12).Draw(rt, "acts") {
			err := h.write(func(tx *db.Tx) (err error) {
				switch act {
				case 0, 1:
					c := claim("N"+string(rune('a'+i)), act == 0)
					c.Amount = money.Fen(rapid.SampledFrom([]int64{1_000, 4_000, 6_000, 10_000}).Draw(rt, "fen"))
					var got Case
					got, err = Open(tx, c)
					id = got.ID
				case 2:
					_, err = Accept(tx, id, "shop", "yes")
				case 3:
					_, err = move(tx, id, Presented, "li", "the chip signed")
				case 4:
					_, err = again(tx, id)
				case 5:
					_, err = file(tx, id)
				case 6:
					_, err = Decide(tx, id, rapid.Bool().Draw(rt, "shop"), "so it is")
				case 7:
					_, err = Withdraw(tx, id, "found it")
				case 8:
					_, err = ChargeBack(tx, id, "4515", "not mine")
				}
				return err
			})
			_ = err // the rows below are what counts
			if act <= 1 && err != nil {
				if all := h.ofSale(); len(all) > 0 {
					id = all[len(all)-1].ID
				}
			}
			var taken money.Amount
			withIssuer := int64(0)
			err = h.store.Read(ctx, func(q *db.Query) (err error) { taken, err = Taken(q, "000000000001"); return err })
			if all := h.takes(); len(all) > 1 || len(all) == 1 && (all[0] != Take{"000000000001", taken.Minor()}) || len(all) == 0 && !taken.IsZero() {
				rt.Fatalf("after act %d: taken %v, takes %v", act, taken, all)
			}
			for _, c := range h.ofSale() {
				if c.WithIssuer() {
					withIssuer += c.Amount.Minor()
				}
			}
			if err != nil || taken.Minor() != last || taken.Minor() > 10_000 || withIssuer > taken.Minor() {
				rt.Fatalf("after act %d: taken %v, told %d, the issuer has %d: %v", act, taken, last, withIssuer, err)
			}
			if got := h.balance(settlement.Payable(shop)); got != 10_000-withIssuer {
				rt.Fatalf("the shop has %d, the issuer %d", got, withIssuer)
			}
		}
	})
}

func (h *house) takes() (out []Take) {
	h.t.Helper()
	if err := h.store.Read(ctx, func(q *db.Query) (err error) { out, err = Takes(q, "", 100); return err }); err != nil {
		h.t.Fatal(err)
	}
	return out
}

func (h *house) ofSale() (out []Case) {
	h.t.Helper()
	if err := h.store.Read(ctx, func(q *db.Query) (err error) { out, err = OfSale(q, "000000000001"); return err }); err != nil {
		h.t.Fatal(err)
	}
	return out
}

// TestTickTreatsEachByItself: a case that cannot move keeps no other from it,
// and a hold that staff ended does not keep its own.
func TestTickTreatsEachByItself(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := newHouse(t, cfg)
		bad, held := h.open(claim("N1", true)), claim("N2", true)
		held.Sale.RRN, held.Amount = "000000000002", money.Fen(100)
		free := h.open(held)
		broken := errors.New("broken")
		Watch(h.store, func(_ *db.Tx, rrn string, _ money.Amount) error {
			if rrn == bad.Sale.RRN {
				return broken
			}
			return nil
		})
		for _, id := range []string{bad.ID, free.ID} { // as if both were represented: bad's Won frees, which is told
			h.must(func(tx *db.Tx) error { _, err := move(tx, id, Presented, "li", "the chip signed"); return err })
		}
		h.must(func(tx *db.Tx) error {
			c, err := Get(tx, free.ID)
			return errors.Join(err, settlement.Release(tx, c.holdID()))
		})
		h.now.Advance(400 * 24 * time.Hour)
		for range 2 {
			n, err := Tick(ctx, h.store, h.now.Now())
			if !errors.Is(err, broken) || n > 1 {
				t.Errorf("%d moved: %v", n, err)
			}
		}
		if a, b := h.get(bad.ID), h.get(free.ID); a.State != Presented || b.State != Won || b.Held {
			t.Errorf("%s and %s", a.State, b.State)
		}
	})
}
