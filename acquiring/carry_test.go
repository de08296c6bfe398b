package acquiring_test

import (
	"context"
	_ "embed"
	"errors"
	"strings"
	"testing"

	"koala/acquiring"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/outbox"
	"koala/issuing"
	"koala/ledger"
	"koala/merchant"
	"koala/settlement"
)

// beforeMerchant are the rows that this package wrote, in a store of the test
// house, before package merchant kept shops and tills.
//
//go:embed testdata/before_merchant.sql
var beforeMerchant string

// TestCarryOver opens such a store: shops and tills read as before, they are
// package merchant's, and a second start changes nothing.
func TestCarryOver(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		cfg.Inline, cfg.Clock, cfg.Rand = true, clock.NewVirtual(noon), clock.Random(1)
		store, err := db.Open(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		book, err := ledger.Open(ctx, store, ledger.Config{Inline: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { book.Close(); store.Close() })
		do := func(f func(*db.Tx) error) {
			t.Helper()
			if err := store.Write(context.Background(), f); err != nil {
				t.Fatal(err)
			}
		}
		if err := store.Migrate(ctx, outbox.Schema, settlement.Schema, merchant.Schema, issuing.Schema, acquiring.Schema); err != nil {
			t.Fatal(err)
		}
		do(func(tx *db.Tx) error {
			for row := range strings.SplitSeq(strings.TrimSpace(beforeMerchant), "\n") {
				if _, err := tx.Exec(row); err != nil {
					return err
				}
			}
			return errors.Join(settlement.Join(tx, tea, "Tea House"), settlement.Join(tx, kitchen, "Yard Canteen"))
		})
		shops, devices := kept(t, store)
		do(acquiring.CarryOver)
		do(acquiring.CarryOver)
		after, again := kept(t, store)
		for i, s := range shops {
			if s.MID = after[i].MID; after[i] != s || s.MID == "" {
				t.Errorf("shop was %+v, is %+v", s, after[i])
			}
		}
		for i, d := range devices {
			if again[i] != d {
				t.Errorf("device was %+v, is %+v", d, again[i])
			}
		}
		if len(shops) != 2 || len(devices) != 7 {
			t.Errorf("%d shops, %d devices", len(shops), len(devices))
		}
		err = store.Read(ctx, func(q *db.Query) error {
			s, err := merchant.StandingOf(q, teaTill)
			if err != nil || s.MayTrade() != nil || s.Shop.MID != merchantID || s.Shop.Place().Code != "110000" || s.Merchant != merchant.Active {
				t.Errorf("%+v, %v", s, err)
			}
			var left int64
			if err := q.QueryRow(`SELECT COUNT(*) FROM acquiring_shop WHERE name_en <> '' OR name_zh <> '' OR mcc <> '' OR city <> ''`).Scan(&left); err != nil || left != 0 {
				t.Errorf("%d shops have names here still, %v", left, err)
			}
			wrong, err := merchant.Prove(q)
			if len(wrong) > 0 {
				t.Errorf("%v", wrong)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		do(func(tx *db.Tx) error { // what programs register at every start is there
			return errors.Join(acquiring.AddShop(tx, acquiring.Shop{ID: tea, NameEN: "Tea House", NameZH: "茶馆", MID: merchantID, MCC: "5812", City: "Beijing"}),
				acquiring.AddDevice(tx, acquiring.Device{TID: teaTill, Kind: acquiring.POS, Shop: tea, PlaceEN: "counter", PlaceZH: "柜台"}))
		})
	})
}

func kept(t *testing.T, store *db.Store) (shops []acquiring.Shop, devices []acquiring.Device) {
	t.Helper()
	err := store.Read(ctx, func(q *db.Query) (err error) {
		if shops, err = acquiring.Shops(q, "", 100); err == nil {
			devices, err = acquiring.Devices(q, "", "", 100)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return shops, devices
}
