package tsm_test

import (
	"fmt"
	"sync"
	"testing"

	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/tsm"
	"koala/wallet"
)

// TestManyBandsAtOnce issues and loads cards on many bands side by side with the
// writer's own goroutine, every script fetched by two callers at once.
func TestManyBandsAtOnce(t *testing.T) {
	h := openWith(t, sqlite(t), tsm.Config{}, false)
	const n = 12
	cards := make([]issuing.Card, n)
	var wg sync.WaitGroup
	for i := range n {
		b := newBand(t, h.tsm, fmt.Sprint("many_", i), byte(i+10))
		wg.Go(func() {
			h.do(func(tx *db.Tx) error { return h.tsm.Register(tx, b.id, string(lin)) })
			h.do(func(tx *db.Tx) (err error) {
				cards[i], err = issuing.Open(tx, issuing.Application{Ref: b.id, Customer: lin, Band: b.id, Product: issuing.TransitBJ})
				if err != nil {
					return err
				}
				_, err = h.tsm.Place(tx, tsm.Request{Ref: "i" + b.id, Kind: tsm.Issue, Band: b.id, Card: cards[i].ID})
				return err
			})
			b.work(0)
			h.do(func(tx *db.Tx) error {
				_, err := h.tsm.Place(tx, tsm.Request{Ref: "t" + b.id, Kind: tsm.TopUp, Band: b.id, Card: cards[i].ID, Amount: money.Fen(10_00)})
				return err
			})
			for range 3 { // whoever is late finds the order moved on
				var race sync.WaitGroup
				for range 2 {
					race.Go(func() { _, _ = h.tsm.Next(ctx, b.id) })
				}
				race.Wait()
				b.work(1)
			}
			b.work(0)
		})
	}
	wg.Wait()
	h.do(func(tx *db.Tx) error {
		w, err := ledger.BalanceOf(tx, wallet.Account(lin))
		if w.Posted.Minor() != funds-n*30_00 || !w.Held.IsZero() {
			t.Errorf("wallet: %+v, want %d", w, funds-n*30_00)
		}
		return err
	})
	for _, c := range cards {
		h.read(func(q *db.Query) error {
			got, err := issuing.Get(q, c.ID)
			if got.State != issuing.Active || got.Known.Balance.Minor() != 10_00 || got.Known.Online != 1 {
				t.Errorf("card %s: %s, %+v", c.ID, got.State, got.Known)
			}
			return err
		})
	}
}
