package refund_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/issuing"
	"koala/issuing/refund"
	"koala/ledger"
	"koala/money"
)

const (
	shop, other ledger.AccountID = "payable.a", "payable.b"
	account     ledger.AccountID = "wallet.lin"
)

// A house has the books of two shops and a cardholder.
type house struct {
	store *db.Store
	told  int64 // what the watch heard, fen
	n     int
}

func open(t *testing.T, s *db.Store) *house {
	t.Helper()
	book, err := ledger.Open(context.Background(), s, ledger.Config{Inline: true})
	if err == nil {
		t.Cleanup(func() { book.Close() })
		err = s.Migrate(t.Context(), issuing.Schema)
	}
	h := &house{store: s}
	issuing.NewBank(s, nil).Watch(func(_ *db.Tx, m issuing.Movement) error { h.told += m.Fen.Minor(); return nil })
	if err == nil {
		err = h.do(func(tx *db.Tx) error {
			var err error
			for id, code := range map[ledger.AccountID]string{shop: "2030", other: "2030", account: "2010", "bank": "1010"} {
				err = errors.Join(err, ledger.OpenAccount(tx, ledger.Account{ID: id, Code: code, Currency: money.CNY}))
			}
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) do(f func(*db.Tx) error) error { return h.store.Write(context.Background(), f) }

// paid is a card that has paid the shop fen offline at counter 1, as clearing
// leaves it.
func (h *house) paid(t interface{ Fatal(...any) }, fen int64) issuing.CardID {
	h.n++
	id := issuing.CardID(fmt.Sprint("card_", h.n))
	err := h.do(func(tx *db.Tx) error {
		_, err := ledger.Post(tx, ledger.Move("off:"+string(id), "bank", shop, money.Fen(fen)))
		if err == nil {
			_, err = tx.Exec(`INSERT INTO issuing_spent (card, atc, fen, payee, place, moves) VALUES ($1, 1, $2, $3, 'payee', 1)`, id, fen, string(shop))
		}
		if err == nil {
			_, err = tx.Exec(`INSERT INTO issuing_bank (card, token, sealed, psn, alg, dki, pin, account) VALUES ($1, $1, $2, 1, 0, 1, $2, $3)`, id, []byte{}, string(account))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (h *house) has(t interface{ Fatal(...any) }, id ledger.AccountID) (fen int64) {
	err := h.do(func(tx *db.Tx) error {
		b, err := ledger.BalanceOf(tx, id)
		fen = b.Posted.Minor()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fen
}

// TestParts: one line per part that is asked for, in turn, of a payment of 10
// yuan, and what the shop has given back by then.
func TestParts(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		h := open(t, s)
		card := h.paid(t, 10_00)
		for _, tt := range []struct {
			name  string
			ref   string
			atc   int
			payee ledger.AccountID
			fen   int64
			want  error
			back  int64
		}{
			{"a part", "r1", 1, shop, 4_00, nil, 4_00},
			{"the same again", "r1", 1, shop, 4_00, nil, 4_00},
			{"the same reference, another amount", "r1", 1, shop, 5_00, ledger.ErrDiffers, 4_00},
			{"nothing", "r2", 1, shop, 0, issuing.ErrAmount, 4_00},
			{"below nothing", "r2", 1, shop, -1, issuing.ErrAmount, 4_00},
			{"more than is left", "r2", 1, shop, 6_01, issuing.ErrAmount, 4_00},
			{"as much as can be written", "r2", 1, shop, money.MaxMinor, issuing.ErrAmount, 4_00},
			{"no payment there", "r2", 2, shop, 1, issuing.ErrNoAuth, 4_00},
			{"another counter that looks alike", "r2", 1 + 1<<16, shop, 1, issuing.ErrNoAuth, 4_00},
			{"another shop", "r2", 1, other, 1, issuing.ErrState, 4_00},
			{"the rest", "r2", 1, shop, 6_00, nil, 10_00},
			{"the rest again", "r2", 1, shop, 6_00, nil, 10_00},
			{"one fen more", "r3", 1, shop, 1, issuing.ErrAmount, 10_00},
		} {
			err := h.do(func(tx *db.Tx) error {
				return refund.Offline(tx, refund.Part{Ref: tt.ref, Card: card, Counter: tt.atc, Payee: tt.payee, Amount: money.Fen(tt.fen)})
			})
			if !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
			if gone := 10_00 - h.has(t, shop); gone != tt.back || h.has(t, account) != tt.back || h.told != -tt.back {
				t.Errorf("%s: the shop gave %d, the holder got %d, the watch heard of %d; want %d", tt.name, gone, h.has(t, account), -h.told, tt.back)
			}
		}
	})
}

// TestPartsAndRefundsByChip: a refund that the card was there for names no
// payment. Beside such refunds parts are bounded by what the shop has left of
// the card's money.
func TestPartsAndRefundsByChip(t *testing.T) {
	h := open(t, dbtest.Open(t))
	card := h.paid(t, 10_00)
	err := h.do(func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO issuing_auth (card, atc, ac, kind, day, fen, balance, arc, state, payee, text, at, paid)
			VALUES ($1, 9, $2, 'refund', '2015-09-16', 700, -1, '00', 'paid', $3, '', 1, 700)`, card, []byte{}, string(shop))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		fen  int64
		want error
	}{{3_01, issuing.ErrAmount}, {2_00, nil}, {1_01, issuing.ErrAmount}, {1_00, nil}, {1, issuing.ErrAmount}} {
		err := h.do(func(tx *db.Tx) error {
			return refund.Offline(tx, refund.Part{Ref: fmt.Sprint("part", tt.fen), Card: card, Counter: 1, Payee: shop, Amount: money.Fen(tt.fen)})
		})
		if !errors.Is(err, tt.want) {
			t.Errorf("%d fen: %v, want %v", tt.fen, err, tt.want)
		}
	}
}

// TestPartsAreBounded: whatever is asked for, however often, in one unit with
// others or with one that fails behind it, all parts are at most the payment and
// each reference counts once.
func TestPartsAreBounded(t *testing.T) {
	h := open(t, dbtest.Open(t))
	no := errors.New("no")
	rapid.Check(t, func(t *rapid.T) {
		whole := rapid.Int64Range(1, 30).Draw(t, "paid")
		card := h.paid(t, whole)
		shopHad, holderHad, told := h.has(t, shop), h.has(t, account), h.told
		want, refs := int64(0), map[string]int64{}
		for range rapid.IntRange(1, 12).Draw(t, "units") {
			ref, fen := fmt.Sprint(card, rapid.IntRange(0, 5).Draw(t, "ref")), rapid.Int64Range(-1, 20).Draw(t, "fen")
			fails := rapid.IntRange(0, 4).Draw(t, "a later statement") == 0
			before := h.told
			err := h.do(func(tx *db.Tx) error {
				err := refund.Offline(tx, refund.Part{Ref: ref, Card: card, Counter: 1, Payee: shop, Amount: money.Fen(fen)})
				if err == nil && fails {
					err = no
				}
				return err
			})
			known, again := refs[ref]
			switch good := fen > 0 && fen <= whole-want; {
			case again && fen != known:
				if !errors.Is(err, ledger.ErrDiffers) && !errors.Is(err, ledger.ErrShape) {
					t.Fatalf("%d under a reference of %d: %v", fen, known, err)
				}
			case !again && !good:
				if !errors.Is(err, issuing.ErrAmount) {
					t.Fatalf("%d of %d: %v", fen, whole-want, err)
				}
			case fails:
				if h.told = before; !errors.Is(err, no) { // what the watch wrote is gone with the unit
					t.Fatal(err)
				}
			case err != nil:
				t.Fatal(err)
			case !again:
				refs[ref], want = fen, want+fen
			}
			if gave, got := shopHad-h.has(t, shop), h.has(t, account)-holderHad; gave != want || got != want || told-h.told != want || want > whole {
				t.Fatalf("the shop gave %d, the holder got %d, the watch heard of %d; want %d of %d", gave, got, told-h.told, want, whole)
			}
		}
	})
}
