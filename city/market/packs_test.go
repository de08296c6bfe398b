package market_test

import (
	"testing"

	"koala/city/market"
	"koala/internal/db"
	"koala/merchant"
	"koala/switching/pack"
	"koala/switching/rollout"
	"koala/terminal/unionpay"
)

// carriers are what the switch knows of the tills' packs, by till.
func (w *town) carriers() map[string]rollout.Carrier {
	w.Helper()
	out := map[string]rollout.Carrier{}
	err := w.h.Store.Read(ctx, func(q *db.Query) error {
		for _, t := range w.m.Tills() {
			c, err := rollout.CarrierOf(q, t.TID, w.now.Now())
			if err != nil {
				return err
			}
			out[t.ID] = c
		}
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// TestTillsTakePacks: a till has the house's signed pack when its first day
// begins, and the next one when its turn has come; a mobile reader has none.
func TestTillsTakePacks(t *testing.T) {
	w := open(t, market.Faults{})
	sell := func() {
		t.Helper()
		for n, till := range w.m.Tills() {
			c := w.m.Institutions()[n%3].Cards[n]
			w.do(till.ID, market.Order{Order: unionpay.Order{Kind: unionpay.Sale, Fen: 123_45, Card: unionpay.Card{Track2: c.Track2}}, PIN: c.PIN})
		}
	}
	have := func(what string, want func(rollout.Carrier) uint32) {
		t.Helper()
		for id, c := range w.carriers() {
			till, err := w.m.Till(id)
			if err != nil {
				t.Fatal(err)
			}
			number := want(c)
			if till.Mobile {
				number = 0
			}
			if c.Have != number || c.Refused != 0 || c.Result != pack.InUse || number > 0 && c.Told.IsZero() {
				t.Errorf("%s: %s of ring %d has %+v, want pack %d", what, id, c.Ring, c, number)
			}
		}
	}
	sell()
	have("the first day", func(rollout.Carrier) uint32 { return 1 })

	// A longer wait for answers, made and brought on by two.
	set := rollout.Usual
	set.Wait = 45
	content, err := w.h.Switch.Packs().Draft(ctx, set)
	if err != nil {
		t.Fatal(err)
	}
	act := func(a rollout.Act, p *pack.Pack) {
		t.Helper()
		var c rollout.Change
		id := ""
		err := w.h.Store.Write(ctx, func(tx *db.Tx) (err error) {
			if c, err = rollout.Plan(tx, a, p); err != nil {
				return err
			}
			x, err := rollout.Propose(tx, c, "wang", "slow lines")
			id = x.ID
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		signed, err := w.h.Switch.Packs().Sign(ctx, c)
		if err == nil {
			err = w.h.Store.Write(ctx, func(tx *db.Tx) error { _, err := rollout.Confirm(tx, id, "zhao", signed); return err })
		}
		if err != nil {
			t.Fatal(err)
		}
		w.h.Switch.Packs().Reload()
	}
	act(rollout.Bring, &content)
	act(rollout.On, nil)
	act(rollout.On, nil)
	const reached = 2 // half of all
	w.days(1)
	sell()
	w.settle()
	have("the second day", func(c rollout.Carrier) uint32 {
		if c.Ring <= reached {
			return 2
		}
		return 1
	})
	act(rollout.On, nil)
	w.days(1)
	sell()
	w.settle() // the end of the day does it too
	have("the third day", func(rollout.Carrier) uint32 { return 2 })
	if n := w.m.Counts()["packs refused"]; n != 0 {
		t.Errorf("%d packs were refused", n)
	}

	// One that is retired is in no ring, whatever it had.
	till, err := w.m.Till("jialian.1")
	if err != nil {
		t.Fatal(err)
	}
	rings := func() (n int64) {
		err := w.h.Store.Read(ctx, func(q *db.Query) error {
			list, err := rollout.Counts(q, 2, w.now.Now())
			for _, c := range list {
				n += c.All()
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := rings()
	if err := w.h.MoveTerminal(ctx, till.TID, merchant.Retired, "", ""); err == nil || rings() != before {
		t.Errorf("nobody retired it: %v, %d terminals", err, rings())
	}
	if err := w.h.MoveTerminal(ctx, till.TID, merchant.Retired, "wang", "the shop closes a till"); err != nil || rings() != before-1 {
		t.Errorf("retired: %v, %d terminals in rings, %d before", err, rings(), before)
	}
}
