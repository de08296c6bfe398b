package wallet_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/ledger"
	"koala/money"
	"koala/spec/pan"
	"koala/wallet"
)

const payable ledger.AccountID = "payable.shop"

// codes opens a wallet with 3,000 yuan and a shop.
func codes(t *testing.T, cfg db.Config) *db.Store {
	t.Helper()
	s, _ := open(t, cfg)
	if err := s.Write(context.Background(), func(tx *db.Tx) error {
		err := errors.Join(wallet.Open(tx, lin), ledger.OpenAccount(tx, ledger.Account{ID: payable, Code: "2030", Name: "shop", Currency: money.CNY}))
		if err == nil {
			_, err = wallet.Fund(tx, "f", lin, money.Fen(3000_00))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

func newCode(t *testing.T, s *db.Store, n uint64) (c wallet.Code) {
	t.Helper()
	err := s.Write(context.Background(), func(tx *db.Tx) (err error) {
		c, err = wallet.NewCode(tx, lin, [8]byte(binary.BigEndian.AppendUint64(nil, n)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCode: what codes look like, how long they are good, once each.
func TestCode(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		s := codes(t, cfg)
		ctx := context.Background()
		c := newCode(t, s, 7)
		if _, err := pan.Parse(c.Digits); err != nil || len(c.Digits) != wallet.CodeLen || c.Digits[:2] != wallet.CodePrefix {
			t.Fatalf("code %s: %v", c.Digits, err)
		}
		pay := func(ref, code string, fen int64) error {
			return s.Write(ctx, func(tx *db.Tx) error {
				_, err := wallet.PayByCode(tx, wallet.Payment{Ref: ref, Code: code, Payee: payable, Amount: money.Fen(fen), Text: "TEA"})
				return err
			})
		}
		for _, tt := range []struct {
			what, code string
			fen        int64
			want       error
		}{
			{"no code", "280000000000000001", 1_00, wallet.ErrCode},
			{"nothing", "", 1_00, wallet.ErrCode},
			{"a card number", "6222021001098550814", 1_00, wallet.ErrCode},
			{"one that nobody made", newCode(t, s, 8).Digits[:17] + "x", 1_00, wallet.ErrCode},
			{"more than at once", c.Digits, 1000_01, wallet.ErrOverOnce},
			{"nothing to pay", c.Digits, 0, wallet.ErrAmount},
			{"pays", c.Digits, 1000_00, nil},
			{"pays again", c.Digits, 1, wallet.ErrCodeOver},
		} {
			if err := pay(tt.what, tt.code, tt.fen); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", tt.what, err, tt.want)
			}
		}
		late := newCode(t, s, 9)
		err := s.Read(ctx, func(q *db.Query) error {
			if _, err := wallet.PayerOf(q, late.Digits, late.Until.Add(-time.Microsecond)); err != nil {
				t.Errorf("in its minute: %v", err)
			}
			if _, err := wallet.PayerOf(q, late.Digits, late.Until); !errors.Is(err, wallet.ErrCodeOver) {
				t.Errorf("after it: %v", err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// TestCodeDay: a day of payments by code is bounded, and what came to nothing
// does not count.
func TestCodeDay(t *testing.T) {
	s := codes(t, db.Config{URL: t.TempDir() + "/k.db", Inline: true})
	ctx := context.Background()
	low := wallet.Limit{Rule: wallet.CodeDay, From: time.Date(2015, 9, 1, 0, 0, 0, 0, time.UTC), Amount: money.Fen(50_00), Source: "test"}
	n := uint64(0)
	pay := func(ref string, fen int64) error {
		n++
		c := newCode(t, s, n)
		return s.Write(ctx, func(tx *db.Tx) error {
			_, err := wallet.PayByCode(tx, wallet.Payment{Ref: ref, Code: c.Digits, Payee: payable, Amount: money.Fen(fen), Text: "TEA"})
			return err
		})
	}
	if err := s.Write(ctx, func(tx *db.Tx) error { return wallet.SetLimit(tx, low) }); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(pay("a", 30_00), pay("b", 20_00)); err != nil {
		t.Fatal(err)
	}
	if err := pay("c", 1); !errors.Is(err, wallet.ErrOverDay) {
		t.Errorf("above the day's: %v", err)
	}
	if err := s.Write(ctx, func(tx *db.Tx) error { return wallet.ReleasePayment(tx, "b") }); err != nil {
		t.Fatal(err)
	}
	if err := pay("d", 20_00); err != nil {
		t.Errorf("after one was given up: %v", err)
	}
}

// TestPaymentModel: whatever happens to a payment and in which order, wallet and
// shop together have what was there, and the shop what stands.
func TestPaymentModel(t *testing.T) {
	s := codes(t, db.Config{URL: t.TempDir() + "/k.db", Inline: true})
	ctx := context.Background()
	if err := s.Write(ctx, func(tx *db.Tx) error {
		return wallet.SetLimit(tx, wallet.Limit{Rule: wallet.CodeDay, From: time.Date(2015, 9, 1, 0, 0, 0, 0, time.UTC), Amount: money.Fen(1_000_000_00), Source: "test"})
	}); err != nil {
		t.Fatal(err)
	}
	var refs uint64
	rapid.Check(t, func(rt *rapid.T) {
		refs++
		ref := fmt.Sprint("p", refs)
		before := balances(t, s, wallet.Account(lin), payable)
		fen := rapid.Int64Range(1, 10_00).Draw(rt, "fen")
		c := newCode(t, s, 1_000+refs)
		do := func(f func(tx *db.Tx) error) bool { return s.Write(ctx, f) == nil }
		if !do(func(tx *db.Tx) error {
			_, err := wallet.PayByCode(tx, wallet.Payment{Ref: ref, Code: c.Digits, Payee: payable, Amount: money.Fen(fen), Text: "TEA"})
			return err
		}) {
			rt.Fatal("not paid")
		}
		state, paid := "held", int64(0)
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			part := rapid.Int64Range(1, fen).Draw(rt, "part")
			switch rapid.SampledFrom([]string{"book", "release", "again", "return"}).Draw(rt, "do") {
			case "book":
				ok := do(func(tx *db.Tx) error { _, err := wallet.BookPayment(tx, ref, money.Fen(part), 100); return err })
				if ok != (state == "held" || state == "paid") {
					rt.Fatalf("booked in %s: %v", state, ok)
				}
				if state == "held" {
					state, paid = "paid", part
				}
			case "release":
				if ok := do(func(tx *db.Tx) error { return wallet.ReleasePayment(tx, ref) }); ok != (state == "held" || state == "released") {
					rt.Fatalf("released in %s: %v", state, ok)
				}
				if state == "held" {
					state = "released"
				}
			case "again":
				if ok := do(func(tx *db.Tx) error { return wallet.HoldAgain(tx, ref) }); ok != (state == "released" || state == "returned") {
					rt.Fatalf("held again in %s: %v", state, ok)
				} else if ok {
					state, paid = "held", 0
				}
			case "return":
				ok := do(func(tx *db.Tx) error {
					return wallet.ReturnPayment(tx, ref, fmt.Sprint(ref, ":back:", tx.NewSeq()), true, money.Fen(part))
				})
				if ok != (state == "paid" && part <= paid) {
					rt.Fatalf("%d of %d returned in %s: %v", part, paid, state, ok)
				}
				if ok {
					if paid -= part; paid == 0 {
						state = "returned"
					}
				}
			}
		}
		after := balances(t, s, wallet.Account(lin), payable)
		if after[1]-before[1] != paid || before[0]-after[0] != paid {
			rt.Fatalf("wallet %d, shop %d, paid %d", before[0]-after[0], after[1]-before[1], paid)
		}
	})
}
