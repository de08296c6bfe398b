package settlement_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/settlement/fee"
)

// TestMany settles more payees than a page has, one of them with more items
// than are read at a time, in a store that was filled in bulk.
func TestMany(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t), Rebuildable: true})
	const shops, busy = 1_100, 20_500
	terms := []settlement.Terms{{Since: day, Category: fee.Living, CutOff: settlement.ShopCutOff, Holidays: true}}
	list := make([]settlement.Opening, shops)
	items := make([]settlement.Item, 0, shops+busy)
	moves := []ledger.Entry{}
	add := func(shop string, n int, fen int64) {
		for range n {
			items = append(items, settlement.Item{Ref: fmt.Sprint("s", len(items)), Payee: shop, Amount: money.Fen(fen), Kind: "sale", Card: fee.Debit, Issuer: "icbc"})
		}
		moves = append(moves, ledger.Move("m"+shop, source, settlement.Payable(shop), money.Fen(fen*int64(n))))
	}
	for i := range list {
		id := fmt.Sprintf("s%04d", i)
		list[i] = settlement.Opening{Payee: id, Name: id, Terms: terms, Account: settlement.BankAccount{Masked: "6222 **** " + id}}
		if i == 500 {
			add(id, busy, 10_00)
		} else {
			add(id, 1, 10_00)
		}
	}
	for range 2 { // the same again changes nothing
		h.do(func(tx *db.Tx) error {
			return errors.Join(settlement.OpenHouse(tx), settlement.OpenIssuer(tx, "icbc", "owed to a bank"), settlement.OpenAll(tx, list))
		})
	}
	h.do(func(tx *db.Tx) error {
		_, err := ledger.PostAll(tx, moves)
		return errors.Join(err, settlement.CaptureAll(tx, items))
	})
	h.do(func(tx *db.Tx) error { return settlement.CaptureAll(tx, items[:100]) })
	other := items[7]
	other.Amount = money.Fen(1)
	if err := h.store.Write(t.Context(), func(tx *db.Tx) error { return settlement.Capture(tx, other) }); !errors.Is(err, settlement.ErrDiffers) {
		t.Errorf("another amount: %v", err)
	}
	f := h.morning(day)
	each := int64(9_96) // 10.00 less 3.8 fen
	if want := fmt.Sprintf("total,,,%d,%d\n", shops, each*(shops-1+busy)); !strings.HasSuffix(string(f.CSV), want) {
		t.Errorf("file ends %q, want %q", f.CSV[len(f.CSV)-40:], want)
	}
	h.want("the busy one", "s0500", each*busy, 4*busy, 0)
	if got := h.posted(settlement.IssuerAccount("icbc")); got != 3*(shops-1+busy) {
		t.Errorf("the issuer is owed %d", got)
	}
	h.do2(func(q *db.Query) error {
		var b bytes.Buffer
		err := settlement.WriteFile(q, day, &b)
		days, err2 := settlement.Days(q, 5)
		if !bytes.Equal(b.Bytes(), f.CSV) || len(days) != 1 || days[0].Hash != f.Hash || days[0].Day != day {
			t.Errorf("days %+v", days)
		}
		a, err3 := settlement.AccountOf(q, "s0007")
		if a.Masked != "6222 **** s0007" {
			t.Errorf("account %+v", a)
		}
		return errors.Join(err, err2, err3)
	})
	h.check()
}

// TestExplain: an item's fee in words, on both sides.
func TestExplain(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t), Rebuildable: true})
	h.shop("wok", nil)
	h.sale("s1", "wok", 100_00)
	h.back("r1", "wok", "refund", 20_00, 100_00)
	if err := h.sell(settlement.Item{Ref: "ride", Payee: "wok", Amount: money.Fen(3_00), Kind: "ride"}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		ref  string
		fee  int64
		want string // of the lines' amounts
		err  error
	}{
		{"s1", 1_25, "1.25 0.90 0.13 0.22", nil},
		{"r1", -25, "1.25 1.00 0.25", nil},
		{"ride", 0, "0.00", nil},
		{"none", 0, "", settlement.ErrItem},
	} {
		h.do2(func(q *db.Query) error {
			i, lines, err := settlement.Explain(q, tt.ref)
			if !errors.Is(err, tt.err) {
				t.Errorf("%s: %v", tt.ref, err)
			}
			var got []string
			for _, l := range lines {
				got = append(got, l.Fen.Yuan())
			}
			if s := strings.Join(got, " "); s != tt.want || i.Fee.Fee != tt.fee {
				t.Errorf("%s: fee %d, lines %q, want %d, %q", tt.ref, i.Fee.Fee, s, tt.fee, tt.want)
			}
			return nil
		})
	}
}
