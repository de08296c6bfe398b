package issuing_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/customer"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/spec/purse"
	"koala/wallet"
)

const lin customer.ID = "cust_lin"

var start = time.Date(2015, 9, 16, 8, 0, 0, 0, time.UTC)

// A tester is a test or one run of a property.
type tester interface {
	Helper()
	Cleanup(func())
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

type house struct {
	t     tester
	store *db.Store
}

// open makes a house in which Lin has 100 yuan in her wallet.
func open(t tester, cfg db.Config) *house {
	t.Helper()
	ctx := context.Background()
	cfg.Clock, cfg.Inline, cfg.Rebuildable = clock.NewVirtual(start), true, true
	s, err := db.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	book, err := ledger.Open(ctx, s, ledger.Config{Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { book.Close(); s.Close() })
	if err := s.Migrate(ctx, wallet.Schema, issuing.Schema); err != nil {
		t.Fatal(err)
	}
	h := &house{t, s}
	h.do(func(tx *db.Tx) error {
		if err := errors.Join(issuing.Seed(tx), issuing.Seed(tx), wallet.Open(tx, lin)); err != nil {
			return err
		}
		_, err := wallet.Fund(tx, "start", lin, money.Fen(100_00))
		return err
	})
	return h
}

func (h *house) try(f func(*db.Tx) error) error {
	return h.store.Write(context.Background(), f)
}

func (h *house) do(f func(*db.Tx) error) {
	h.t.Helper()
	if err := h.try(f); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) balance(id ledger.AccountID) (fen int64) {
	h.t.Helper()
	h.do(func(tx *db.Tx) error {
		b, err := ledger.BalanceOf(tx, id)
		fen = b.Posted.Minor()
		return err
	})
	return fen
}

func (h *house) card(ref, band string) issuing.Card {
	h.t.Helper()
	var c issuing.Card
	h.do(func(tx *db.Tx) (err error) {
		c, err = issuing.Open(tx, issuing.Application{Ref: ref, Customer: lin, Band: band, Product: issuing.TransitBJ})
		return err
	})
	return c
}

func TestOpen(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		base := issuing.Application{Ref: "a", Customer: lin, Band: "band_1", Product: issuing.TransitBJ}
		for _, tt := range []struct {
			name   string
			change func(*issuing.Application)
			want   error
			wallet int64
		}{
			{"first", func(*issuing.Application) {}, nil, 80_00},
			{"the same again", func(*issuing.Application) {}, nil, 80_00},
			{"same reference, other band", func(a *issuing.Application) { a.Band = "band_2" }, issuing.ErrDiffers, 80_00},
			{"band has one", func(a *issuing.Application) { a.Ref = "b" }, issuing.ErrHasCard, 80_00},
			{"no band", func(a *issuing.Application) { a.Ref, a.Band = "c", "" }, issuing.ErrBadInput, 80_00},
			{"no such product", func(a *issuing.Application) { a.Ref, a.Band, a.Product = "d", "band_2", "gold" }, issuing.ErrProduct, 80_00},
			{"other band", func(a *issuing.Application) { a.Ref, a.Band = "e", "band_2" }, nil, 60_00},
			{"nobody's wallet", func(a *issuing.Application) { a.Ref, a.Band, a.Customer = "f", "band_3", "cust_x" }, ledger.ErrNoAccount, 60_00},
		} {
			a := base
			tt.change(&a)
			err := h.try(func(tx *db.Tx) error { _, err := issuing.Open(tx, a); return err })
			if !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
			if got := h.balance(wallet.Account(lin)); got != tt.wallet {
				t.Errorf("%s: wallet %d, want %d", tt.name, got, tt.wallet)
			}
		}
		err := h.store.Read(context.Background(), func(q *db.Query) error {
			cs, err := issuing.OfCustomer(q, lin)
			if len(cs) != 2 || cs[0].ID != "03105170070000000001" || cs[1].ID != "03105170070000000002" {
				t.Errorf("cards %v", cs)
			}
			in, err2 := issuing.InBand(q, "band_2")
			if len(in) != 1 || in[0].State != issuing.Ordered || !in[0].Valid(start) || in[0].Known.Online != -1 {
				t.Errorf("in the band: %+v", in)
			}
			return errors.Join(err, err2)
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestFiles(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	c := h.card("a", "band_1")
	h.do(func(tx *db.Tx) error {
		p, err := issuing.ProductOn(tx, c.Product, start)
		if err != nil {
			return err
		}
		const want15 = "01011000FFFFFFFF020103105170070000000001201509162035091601 00"
		if got := fmt.Sprintf("%X %02X", issuing.FileOf(c, p).Bytes()[:29], issuing.FileOf(c, p).Bytes()[29]); got != want15 {
			t.Errorf("file 15 is\n%s, want\n%s", got, want15)
		}
		if got := fmt.Sprintf("%X", issuing.RegionOf(p).Bytes()[:11]); got != "0000015610001000000101" {
			t.Errorf("file 17 begins %s", got)
		}
		if n := len(issuing.RegionOf(p).Bytes()); n != purse.File17Len {
			t.Errorf("file 17 has %d bytes", n)
		}
		return nil
	})
	if got := c.ID.Masked(); got != "310517****0001" {
		t.Errorf("masked %s", got)
	}
}

func TestLifeOfACard(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		n := h.card("a", "band_1").ID
		seen := func(fen int64, on, off int) issuing.Counters {
			return issuing.Counters{Balance: money.Fen(fen), Online: on, Offline: off, At: start, By: "test"}
		}
		load := func(tx *db.Tx) error {
			_, err := ledger.Post(tx, ledger.Move("load", wallet.Account(lin), issuing.Float(n), money.Fen(50_00)))
			return err
		}
		for _, tt := range []struct {
			name  string
			act   func(*db.Tx) error
			want  error
			state issuing.State
		}{
			{"activate too early", func(tx *db.Tx) error { return issuing.Activate(tx, n, seen(0, 0, 0)) }, issuing.ErrState, issuing.Ordered},
			{"begin", func(tx *db.Tx) error { return issuing.Begin(tx, n) }, nil, issuing.Personalising},
			{"activate", func(tx *db.Tx) error { return issuing.Activate(tx, n, seen(0, 0, 0)) }, nil, issuing.Active},
			{"activate again", func(tx *db.Tx) error { return issuing.Activate(tx, n, seen(0, 0, 0)) }, nil, issuing.Active},
			{"abandon an active card", func(tx *db.Tx) error { return issuing.Abandon(tx, n, "x") }, issuing.ErrState, issuing.Active},
			{"load", load, nil, issuing.Active},
			{"block", func(tx *db.Tx) error { return issuing.Block(tx, n, "lost") }, nil, issuing.Blocked},
			{"unblock", func(tx *db.Tx) error { return issuing.Unblock(tx, n) }, nil, issuing.Active},
			{"close without asking", func(tx *db.Tx) error { return issuing.Close(tx, n, seen(1, 1, 1)) }, issuing.ErrState, issuing.Active},
			{"begin return", func(tx *db.Tx) error { return issuing.BeginReturn(tx, n) }, nil, issuing.Closing},
			{"give it up", func(tx *db.Tx) error { return issuing.GiveUpReturn(tx, n) }, nil, issuing.Active},
			{"begin return again", func(tx *db.Tx) error { return issuing.BeginReturn(tx, n) }, nil, issuing.Closing},
			{"more proven than booked", func(tx *db.Tx) error { return issuing.Close(tx, n, seen(50_01, 1, 3)) }, issuing.ErrShort, issuing.Closing},
			{"close", func(tx *db.Tx) error { return issuing.Close(tx, n, seen(47_00, 1, 1)) }, nil, issuing.Closed},
			{"close again", func(tx *db.Tx) error { return issuing.Close(tx, n, seen(47_00, 1, 1)) }, nil, issuing.Closed},
			{"wake it up", func(tx *db.Tx) error { return issuing.Unblock(tx, n) }, issuing.ErrState, issuing.Closed},
		} {
			if err := h.try(tt.act); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
			h.do(func(tx *db.Tx) error {
				c, err := issuing.Get(tx, n)
				if c.State != tt.state {
					t.Errorf("%s: state %s, want %s", tt.name, c.State, tt.state)
				}
				return err
			})
		}
		// 100 in, 50 loaded, 47 proven: 3 yuan of taps are still on their way.
		if w, f, d := h.balance(wallet.Account(lin)), h.balance(issuing.Float(n)), h.balance(issuing.DepositAccount(n)); w != 97_00 || f != 3_00 || d != 0 {
			t.Errorf("wallet %d, float %d, deposit %d", w, f, d)
		}
		if c := h.card("again", "band_1"); c.ID == n {
			t.Errorf("number %s given twice", n)
		}
	})
}

func TestAbandonReturnsTheDeposit(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		n := h.card("a", "band_1").ID
		for range 2 {
			h.do(func(tx *db.Tx) error { return issuing.Abandon(tx, n, "band never came") })
		}
		if w := h.balance(wallet.Account(lin)); w != 100_00 {
			t.Errorf("wallet %d, want all of it back", w)
		}
		if c := h.card("b", "band_1"); c.ID == n {
			t.Error("number given twice")
		}
	})
}

func TestSeeKeepsTheLater(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	n := h.card("a", "band_1").ID
	at := func(min int) time.Time { return start.Add(time.Duration(min) * time.Minute) }
	for _, tt := range []struct {
		name         string
		fen          int64
		on, off      int
		min          int
		wantFen      int64
		wantOn, off2 int
	}{
		{"first, by a top-up", 5000, 1, -1, 1, 5000, 1, -1},
		{"a debit", 4700, -1, 1, 2, 4700, 1, 1},
		{"an older debit, late", 5000, -1, 0, 3, 4700, 1, 1},
		{"a probe of both", 4400, 1, 2, 4, 4400, 1, 2},
		{"an old top-up, late", 100, 0, -1, 5, 4400, 1, 2},
		{"a debit reported late but later in sequence", 4100, -1, 3, 6, 4100, 1, 3},
	} {
		h.do(func(tx *db.Tx) error {
			return issuing.See(tx, n, issuing.Counters{Balance: money.Fen(tt.fen), Online: tt.on, Offline: tt.off, At: at(tt.min), By: tt.name})
		})
		h.do(func(tx *db.Tx) error {
			c, err := issuing.Get(tx, n)
			if k := c.Known; k.Balance.Minor() != tt.wantFen || k.Online != tt.wantOn || k.Offline != tt.off2 {
				t.Errorf("%s: %v %d/%d, want %d %d/%d", tt.name, k.Balance, k.Online, k.Offline, tt.wantFen, tt.wantOn, tt.off2)
			}
			return err
		})
	}
}

// TestRangeNeverReuses opens and abandons cards at will: numbers only count up,
// and a used-up range refuses.
func TestRangeNeverReuses(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		code := fmt.Sprint("short", run)
		h.do(func(tx *db.Tx) error {
			p, err := issuing.ProductOn(tx, issuing.TransitBJ, start)
			if err != nil {
				return err
			}
			p.Code, p.Deposit, p.Prefix = code, money.Fen(0), fmt.Sprintf("0310518%09d", run)
			return issuing.SetProduct(tx, p)
		})
		last := issuing.CardID("")
		for i := range rapid.IntRange(1, 20).Draw(rt, "cards") {
			var c issuing.Card
			h.do(func(tx *db.Tx) (err error) {
				c, err = issuing.Open(tx, issuing.Application{Ref: fmt.Sprint(run, ":", i), Customer: lin, Band: code, Product: code})
				if err != nil {
					return err
				}
				return issuing.Abandon(tx, c.ID, "test")
			})
			if c.ID <= last {
				rt.Fatalf("%s after %s", c.ID, last)
			}
			last = c.ID
		}
	})
}

func FuzzPersonalisation(f *testing.F) {
	c := issuing.Card{ID: "03105170070104791381"}
	f.Add(issuing.TransitPersonalisation(c, issuing.Product{MaxBalance: money.Fen(100)}).Bytes())
	f.Add(issuing.Personalisation{Card: "card_x", Shared: true, Install: []byte{1}}.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := issuing.ParsePersonalisation(in)
		if err != nil || in[0] == 1 {
			return // the form before is read only
		}
		if again := p.Bytes(); !bytes.Equal(again, in) {
			t.Errorf("%X reads as %+v but writes %X", in, p, again)
		}
	})
}
