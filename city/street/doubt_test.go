package street

import (
	"context"
	"encoding/binary"
	"testing"

	"koala/acquiring"
	"koala/internal/db"
	"koala/spec/desfire"
	"koala/terminal"
)

// TestRulingEndsAMeal: a canteen's till whose card left at the commit tells the
// desk at each hand-in, and ends the sale when the desk has ruled.
func TestRulingEndsAMeal(t *testing.T) {
	s, clk := aStreet(t)
	ctx := context.Background()
	if err := s.OpenShops(ctx); err != nil {
		t.Fatal(err)
	}
	a, err := s.Acceptor(ctx, "kesi.canteen")
	if err != nil {
		t.Fatal(err)
	}
	till, err := octets(a.setup.TID, 4)
	if err != nil {
		t.Fatal(err)
	}
	begun := desfire.Sale{Card: desfire.UID{4, 1}, App: desfire.CanteenAID, Till: desfire.Till(till), Seq: 1, Kind: desfire.Purchase, Fen: 7_51, Before: 50_00, After: 42_49, At: desfire.StampOf(clk.Now())}
	shelf, err := terminal.OpenShelf(a.flash[0], desfire.SaleLen, func(wire []byte) (string, error) {
		x, err := desfire.ParseSale(wire)
		return string(binary.BigEndian.AppendUint32(nil, x.Seq)), err
	})
	if err == nil {
		err = shelf.Begin(begun.Bytes())
	}
	if err == nil {
		err = a.boot()
	}
	if err != nil {
		t.Fatal(err)
	}
	handIn := func(what string, records, doubts int) {
		t.Helper()
		n, err := s.HandIn(ctx, a.ID)
		if err != nil || n != records {
			t.Fatalf("%s: %d records, %v", what, n, err)
		}
		if waiting, left, err := a.Keeps(); waiting != 0 || left != doubts || err != nil {
			t.Fatalf("%s: keeps %d, doubts %d, %v", what, waiting, left, err)
		}
	}
	handIn("told", 0, 1)
	handIn("told again", 0, 1)
	store := s.House().Store
	err = store.Write(ctx, func(tx *db.Tx) error {
		list, err := acquiring.Doubts(tx, "", 10)
		if err != nil || len(list) != 1 {
			t.Fatalf("%+v %v", list, err)
		}
		_, err = acquiring.Rule(tx, list[0].ID, true, "mei", "read the card at the desk")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	handIn("ruled", 1, 0)
	handIn("ended", 0, 0)
	err = store.Read(ctx, func(q *db.Query) error {
		list, err := acquiring.Meals(q, acquiring.Filter{Limit: 10})
		if err != nil || len(list) != 1 || list[0].Fen != 7_51 || list[0].Kind != desfire.Purchase {
			t.Errorf("%+v", list)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
