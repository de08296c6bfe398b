package ledger_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/ledger"
	"koala/money"
)

var start = time.Date(2026, 3, 2, 1, 0, 0, 0, time.UTC) // a Monday morning in Beijing

// A house is a store with a book, and a clock that stands until it is moved.
type house struct {
	t     testing.TB
	cfg   db.Config
	lcfg  ledger.Config
	clock *clock.Virtual
	store *db.Store
	book  *ledger.Book
}

// each runs f on every kind of store, on an empty book.
func each(t *testing.T, f func(t *testing.T, h *house)) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) { f(t, newHouse(t, cfg, ledger.Config{Inline: true})) })
}

func newHouse(t testing.TB, cfg db.Config, lcfg ledger.Config) *house {
	t.Helper()
	h := &house{t: t, cfg: cfg, lcfg: lcfg, clock: clock.NewVirtual(start)}
	h.cfg.Clock = h.clock
	h.open()
	t.Cleanup(h.close)
	return h
}

func (h *house) open() {
	h.t.Helper()
	var err error
	if h.store, err = db.Open(context.Background(), h.cfg); err != nil {
		h.t.Fatal(err)
	}
	if h.book, err = ledger.Open(context.Background(), h.store, h.lcfg); err != nil {
		h.store.Close()
		h.store = nil
		h.t.Fatal(err)
	}
}

func (h *house) close() {
	if h.store == nil {
		return
	}
	if err := h.book.Close(); err != nil {
		h.t.Errorf("closing the book: %v", err)
	}
	if err := h.store.Close(); err != nil {
		h.t.Errorf("closing the store: %v", err)
	}
	h.store = nil
}

// again closes and opens the house: what was in memory comes from the journal.
func (h *house) again() {
	h.t.Helper()
	h.close()
	h.open()
}

func (h *house) write(f func(tx *db.Tx) error) error {
	return h.store.Write(context.Background(), f)
}

func (h *house) must(f func(tx *db.Tx) error) {
	h.t.Helper()
	if err := h.write(f); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) post(e ledger.Entry) (p ledger.Posted, err error) {
	err = h.write(func(tx *db.Tx) (err error) {
		p, err = ledger.Post(tx, e)
		return err
	})
	return p, err
}

// fen returns what an account has posted, held and available.
func (h *house) fen(id ledger.AccountID) [3]int64 {
	h.t.Helper()
	b, err := h.book.Balance(id)
	if err != nil {
		h.t.Fatal(err)
	}
	return [3]int64{b.Posted.Minor(), b.Held.Minor(), b.Available.Minor()}
}

func wallet(id ledger.AccountID) ledger.Account {
	return ledger.Account{ID: id, Code: "2010", Name: "wallet of " + string(id), Currency: money.CNY,
		Limits: ledger.Limits{Floor: ledger.AtLeast(0)}}
}

var bank = ledger.Account{ID: "bank", Code: "1010", Name: "simulated bank", Currency: money.CNY}

func (h *house) openAccounts(accounts ...ledger.Account) {
	h.t.Helper()
	h.must(func(tx *db.Tx) error {
		for _, a := range accounts {
			if err := ledger.OpenAccount(tx, a); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestPost(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.openAccounts(bank, wallet("ann"), ledger.Account{ID: "dollars", Code: "2010", Currency: "USD"})
		move := func(ref string, fen int64) ledger.Entry {
			return ledger.Move(ref, "bank", "ann", money.Fen(fen))
		}
		for _, tt := range []struct {
			name  string
			entry ledger.Entry
			want  error
			ann   int64 // balance afterwards, fen
		}{
			{"top-up", move("t:1", 50_00), nil, 50_00},
			{"same again", move("t:1", 50_00), nil, 50_00},
			{"same reference, other amount", move("t:1", 60_00), ledger.ErrDiffers, 50_00},
			{"fare", move("t:2", -4_00), nil, 46_00},
			{"more than she has", move("t:3", -46_01), ledger.ErrInsufficient, 46_00},
			{"exactly what she has", move("t:4", -46_00), nil, 0},
			{"nothing", move("t:5", 0), ledger.ErrShape, 0},
			{"no reference", move("", 1), ledger.ErrShape, 0},
			{"nobody's account", ledger.Move("t:6", "bank", "bob", money.Fen(1)), ledger.ErrNoAccount, 0},
			{"other currency", ledger.Move("t:7", "bank", "dollars", money.Fen(1)), ledger.ErrCurrency, 0},
			{"one leg", ledger.Entry{Ref: "t:8", Legs: []ledger.Leg{{Account: "ann", Amount: money.Fen(1)}}}, ledger.ErrShape, 0},
			{"unbalanced", ledger.Entry{Ref: "t:9", Legs: []ledger.Leg{{Account: "ann", Amount: money.Fen(2)},
				{Account: "bank", Amount: money.Fen(-1)}}}, ledger.ErrUnbalanced, 0},
			{"unbalanced in one of two currencies", ledger.Entry{Ref: "t:10", Legs: []ledger.Leg{{Account: "ann", Amount: money.Fen(1)},
				{Account: "dollars", Amount: money.Of(-1, "USD")}}}, ledger.ErrUnbalanced, 0},
			{"down and up in one entry", ledger.Entry{Ref: "t:11", Legs: []ledger.Leg{{Account: "ann", Amount: money.Fen(-5)},
				{Account: "ann", Amount: money.Fen(7)}, {Account: "bank", Amount: money.Fen(-2)}}}, nil, 2},
		} {
			t.Run(tt.name, func(t *testing.T) {
				if _, err := h.post(tt.entry); !errors.Is(err, tt.want) {
					t.Fatalf("error %v, want %v", err, tt.want)
				}
				if got := h.fen("ann")[0]; got != tt.ann {
					t.Errorf("ann has %d, want %d", got, tt.ann)
				}
			})
		}
		h.again()
		if got := h.fen("ann")[0]; got != 2 {
			t.Errorf("after a restart ann has %d, want 2", got)
		}
		if p, err := h.post(move("t:1", 50_00)); err != nil || !p.Replayed || p.After[1].Balance != money.Fen(50_00) {
			t.Errorf("the first top-up after a restart: %+v, %v", p, err)
		}
	})
}
