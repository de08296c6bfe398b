package report_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"koala/acquiring"
	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/outbox"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/report"
	"koala/settlement"
	"koala/tsm"
	"koala/wallet"
)

// TestCards asks the questions of the clearing desk and of lost bands on every
// kind of store.
func TestCards(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		ctx := context.Background()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		cfg.Inline, cfg.Clock, cfg.Rand = true, clock.NewVirtual(time.Date(2015, 9, 16, 8, 0, 0, 0, time.UTC)), clock.Random(1)
		s, err := db.Open(ctx, cfg)
		must(err)
		defer s.Close()
		must(s.Migrate(ctx, outbox.Schema, wallet.Schema, settlement.Schema, issuing.Schema, tsm.Schema, acquiring.Schema))
		book, err := ledger.Open(ctx, s, ledger.Config{Inline: true})
		must(err)
		defer book.Close()
		keys, err := hsm.Open(ctx, s, hsm.Config{KeyFile: filepath.Join(t.TempDir(), "key"), Rand: clock.Random(2)})
		must(err)
		must(keys.Provision(ctx))
		m := tsm.New(s, keys, tsm.Config{})
		var lost, kept issuing.Card
		must(s.Write(ctx, func(tx *db.Tx) (err error) {
			err = errors.Join(wallet.OpenHouse(tx), issuing.Seed(tx), wallet.Open(tx, "cust_ann"), m.Register(tx, "band-1", "cust_ann"), m.Register(tx, "band-2", "cust_ann"))
			if err != nil {
				return err
			}
			if _, err = wallet.Fund(tx, "first", "cust_ann", money.Fen(100_00)); err != nil {
				return err
			}
			if lost, err = issuing.Open(tx, issuing.Application{Ref: "a", Customer: "cust_ann", Band: "band-1", Product: issuing.TransitBJ}); err != nil {
				return err
			}
			if err = errors.Join(issuing.Begin(tx, lost.ID), issuing.Activate(tx, lost.ID, issuing.Counters{Balance: money.Fen(12_30), Online: 1, Offline: 1, At: tx.Now()})); err != nil {
				return err
			}
			if _, err = issuing.Suspend(tx, "band-1"); err != nil {
				return err
			}
			if kept, err = issuing.Open(tx, issuing.Application{Ref: "b", Customer: "cust_ann", Band: "band-2", Product: issuing.TransitBJ, Replaces: lost.ID}); err != nil {
				return err
			}
			_, err = tx.Exec(`INSERT INTO issuing_load (id, ref, card, fen, state, open, atc, old, proof, placed, changed) VALUES ('ld_1', 'r', $1, 5000, 'held', $2, -1, 0, '', $3, $3)`,
				kept.ID, true, tx.Now().UnixMicro())
			return err
		}))
		must(s.Read(ctx, func(q *db.Query) error {
			list, err := report.Losses(q, "", 10)
			if len(list) != 1 || list[0].Band != "band-1" || list[0].Cards != 1 || list[0].Money.Minor() != 12_30 || list[0].Heirs != 1 || list[0].Due.IsZero() || list[0].Customer != "cust_ann" {
				t.Errorf("losses %+v, %v", list, err)
			}
			if more, err := report.Losses(q, "band-1", 10); len(more) != 0 || err != nil {
				t.Errorf("losses after the last: %+v, %v", more, err)
			}
			ids, err := report.CardsOf(q, "band-1")
			if len(ids) != 1 || ids[0] != string(lost.ID) || err != nil {
				t.Errorf("cards %v, %v", ids, err)
			}
			if id, band, state, err := report.Heir(q, string(lost.ID)); id != string(kept.ID) || band != "band-2" || state != "ordered" || err != nil {
				t.Errorf("heir %s %s %s, %v", id, band, state, err)
			}
			if id, _, _, err := report.Heir(q, string(kept.ID)); id != "" || err != nil {
				t.Errorf("heir of the new card %s, %v", id, err)
			}
			loads, err := report.OpenLoads(q, "", 10)
			if len(loads) != 1 || loads[0].Amount.Minor() != 50_00 || loads[0].Customer != "cust_ann" || loads[0].ATC != -1 || err != nil {
				t.Errorf("loads %+v, %v", loads, err)
			}
			tallies, err := report.TalliesOf(q)
			if tallies != (report.Tallies{Loads: 1, Fen: money.Fen(0)}) || err != nil {
				t.Errorf("tallies %+v, %v", tallies, err)
			}
			n, err := report.TemplatesWaiting(q)
			if n != 0 || err != nil {
				t.Errorf("%d templates, %v", n, err)
			}
			return nil
		}))
	})
}
