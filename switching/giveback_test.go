package switching_test

import (
	"errors"
	"testing"

	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/switching"
)

func TestGiveBackFromTheConsole(t *testing.T) {
	h := open(t, true, nil)
	c, p := h.card(issuing.DebitCard), h.terminal("10000001")
	if code := p.ask("sale", 100_00, p.swipe(c, "123456")); code != "00" {
		t.Fatalf("sale: %s", code)
	}
	rrn := p.in.Text(37)
	noted := 0
	ask := func(key, shop string, fen int64) error {
		_, err := h.host.GiveBack(ctx, switching.GiveBack{RRN: rrn, Shop: shop, Amount: money.Fen(fen), Key: key, Also: func(*db.Tx, switching.Txn) error { noted++; return nil }})
		return err
	}
	for _, tt := range []struct {
		what, key, shop string
		fen             int64
		want            error
		left            int64 // with the shop afterwards
	}{
		{"part", "a", shop, 30_00, nil, 70_00},
		{"the same again", "a", shop, 30_00, nil, 70_00},
		{"the key with another amount", "a", shop, 31_00, switching.ErrDiffers, 70_00},
		{"more than is left", "b", shop, 70_01, switching.ErrTooMuch, 70_00},
		{"nothing", "c", shop, 0, switching.ErrState, 70_00},
		{"of another shop", "d", "shop_2", 10_00, switching.ErrNotFound, 70_00},
		{"the rest", "e", shop, 70_00, nil, 0},
		{"once more", "f", shop, 1, switching.ErrTooMuch, 0},
	} {
		if err := ask(tt.key, tt.shop, tt.fen); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.what, err, tt.want)
		}
		h.want(tt.what, 5000_00-tt.left, 0, tt.left)
	}
	if noted != 2 {
		t.Errorf("%d units beside 2 refunds", noted)
	}
	var list []switching.Txn
	h.read(func(q *db.Query) error {
		o, err := switching.Transaction(q, rrn)
		if err == nil {
			list, err = switching.Transactions(q, o)
		}
		return err
	})
	if len(list) != 2 || list[0].State != switching.Cleared || list[0].Original != rrn {
		t.Errorf("the sale's refunds: %+v", list)
	}
}
