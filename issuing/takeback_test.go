package issuing_test

import (
	"context"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/wallet"
)

// TestTakeBackTakesCreditFirst: a shop that wins is paid. What the holder's
// account has, of a credit card also what it may still owe, pays first; the rest
// is owed apart, and is taken as soon as there is room for it. In any order no
// fen is made or lost, and nothing is owed apart that the account could bear.
func TestTakeBackTakesCreditFirst(t *testing.T) {
	h := openBank(t, t.TempDir())
	h.rich()
	credit := h.paper(issuing.CreditCard, "band_1", 0)
	for _, tt := range []struct {
		account ledger.AccountID
		limit   int64
	}{{wallet.Account(lin), 0}, {issuing.CreditAccount(credit.id), 5000_00}} {
		owes := func() (fen int64) {
			h.do(func(tx *db.Tx) error {
				if b, err := ledger.BalanceOf(tx, issuing.Owed(tt.account)); err == nil {
					fen = -b.Posted.Minor()
				}
				return nil
			})
			return fen
		}
		n := 0
		move := func(from, to ledger.AccountID, fen int64) {
			n++
			h.do(func(tx *db.Tx) error {
				_, err := ledger.Post(tx, ledger.Move(fmt.Sprint("put:", tt.account, n), from, to, money.Fen(fen)))
				return err
			})
		}
		rapid.Check(t, func(t *rapid.T) {
			if err := h.bank.Recover(context.Background()); err != nil {
				t.Fatal(err)
			}
			theirs, had := h.available(shop), h.available(tt.account)-owes()
			if room := h.available(tt.account) + tt.limit; room > 0 && owes() == 0 {
				spent := rapid.Int64Range(0, room).Draw(t, "spent")
				if spent > 0 {
					move(tt.account, "source", spent)
				}
				had -= spent
			}
			var taken int64
			for range rapid.IntRange(1, 3).Draw(t, "lost by the holder") {
				fen := rapid.Int64Range(1, 2000_00).Draw(t, "fen")
				n++
				e := ledger.Move(fmt.Sprint("dispute:", tt.account, n), tt.account, shop, money.Fen(fen))
				e.Kind = "chargeback_returned"
				h.do(func(tx *db.Tx) error { return issuing.TakeBack(tx, e, tt.account, shop, money.Fen(fen)) })
				taken += fen
			}
			if own := h.available(tt.account) + tt.limit; own < 0 || own > 0 && owes() > 0 {
				t.Fatalf("the account could bear %d more, and %d are owed apart", own, owes())
			}
			in := rapid.Int64Range(0, 3000_00).Draw(t, "comes in")
			if in > 0 {
				move("source", tt.account, in)
			}
			if err := h.bank.Recover(context.Background()); err != nil {
				t.Fatal(err)
			}
			if own := h.available(tt.account) + tt.limit; own > 0 && owes() > 0 {
				t.Fatalf("the account could bear %d more, and %d are still owed apart", own, owes())
			}
			if now := h.available(tt.account) - owes(); now != had+in-taken || h.available(shop) != theirs+taken || owes() < 0 {
				t.Fatalf("the holder has %d, want %d; the shop got %d, want %d; %d owed", now, had+in-taken, h.available(shop)-theirs, taken, owes())
			}
		})
	}
}
