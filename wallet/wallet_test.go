package wallet_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"koala/customer"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/ledger"
	"koala/money"
	"koala/wallet"
)

const lin customer.ID = "cust_lin"

func open(t *testing.T, cfg db.Config) (*db.Store, *ledger.Book) {
	t.Helper()
	ctx := context.Background()
	cfg.Clock = clock.NewVirtual(time.Date(2015, 9, 16, 8, 0, 0, 0, time.UTC))
	s, err := db.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	book, err := ledger.Open(ctx, s, ledger.Config{Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Migrate(ctx, wallet.Schema); err != nil {
		t.Fatal(err)
	}
	return s, book
}

func balances(t *testing.T, s *db.Store, ids ...ledger.AccountID) (out []int64) {
	t.Helper()
	err := s.Write(context.Background(), func(tx *db.Tx) error {
		out = nil
		for _, id := range ids {
			b, err := ledger.BalanceOf(tx, id)
			if err != nil {
				return err
			}
			out = append(out, b.Posted.Minor())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFundAndWithdraw(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		s, _ := open(t, cfg)
		ctx := context.Background()
		for range 2 { // opening twice pays the opening balance once
			if err := s.Write(ctx, func(tx *db.Tx) error { return wallet.Open(tx, lin) }); err != nil {
				t.Fatal(err)
			}
		}
		for _, tt := range []struct {
			name   string
			act    func(*db.Tx, string, customer.ID, money.Amount) (ledger.Posted, error)
			ref    string
			who    customer.ID
			fen    int64
			want   error
			wallet int64
		}{
			{"fund", wallet.Fund, "f1", lin, 3000_00, nil, 3000_00},
			{"the same again", wallet.Fund, "f1", lin, 3000_00, nil, 3000_00},
			{"same reference, other amount", wallet.Fund, "f1", lin, 30_00, ledger.ErrDiffers, 3000_00},
			{"nothing", wallet.Fund, "f2", lin, 0, wallet.ErrAmount, 3000_00},
			{"less than nothing", wallet.Fund, "f3", lin, -5, wallet.ErrAmount, 3000_00},
			{"more than at once", wallet.Fund, "f4", lin, 5000_01, wallet.ErrOverOnce, 3000_00},
			{"exactly as much as at once", wallet.Fund, "f5", lin, 5000_00, nil, 8000_00},
			{"no such wallet", wallet.Fund, "f6", "cust_nobody", 100, wallet.ErrNoWallet, 8000_00},
			{"withdraw", wallet.Withdraw, "w1", lin, 1000_00, nil, 7000_00},
			{"withdraw again", wallet.Withdraw, "w1", lin, 1000_00, nil, 7000_00},
			{"more", wallet.Withdraw, "w2", lin, 4999_99, nil, 2000_01},
			{"more than there is", wallet.Withdraw, "w3", lin, 2000_02, ledger.ErrInsufficient, 2000_01},
			{"the fund's reference is not the withdrawal's", wallet.Withdraw, "f1", lin, 2000_01, nil, 0},
		} {
			err := s.Write(ctx, func(tx *db.Tx) error {
				_, err := tt.act(tx, tt.ref, tt.who, money.Fen(tt.fen))
				return err
			})
			if !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
			b := balances(t, s, wallet.Account(lin), wallet.BankAccount(lin), wallet.Outside, wallet.Custody)
			if b[0] != tt.wallet || b[3] != -tt.wallet || b[1]+b[0] != wallet.Salary || b[2] != -b[1] {
				t.Errorf("%s: wallet %d, bank %d, outside %d, custody %d; want %d in the wallet", tt.name, b[0], b[1], b[2], b[3], tt.wallet)
			}
		}
	})
}

func TestHistory(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		s, book := open(t, cfg)
		ctx := context.Background()
		err := s.Write(ctx, func(tx *db.Tx) error {
			if err := wallet.Open(tx, lin); err != nil {
				return err
			}
			if err := ledger.OpenAccount(tx, ledger.Account{ID: "float.1", Code: "2020", Name: "card", Currency: money.CNY}); err != nil {
				return err
			}
			if _, err := wallet.Fund(tx, "f", lin, money.Fen(100_00)); err != nil {
				return err
			}
			if _, err := wallet.Withdraw(tx, "w", lin, money.Fen(30_00)); err != nil {
				return err
			}
			h := ledger.Hold{Ref: "h", From: wallet.Account(lin), To: "float.1", Amount: money.Fen(20_00)}
			if _, err := ledger.Authorise(tx, h); err != nil {
				return err
			}
			_, err := ledger.Capture(tx, "h", "load", money.Fen(20_00), true)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := wallet.History(ctx, book, lin, 0, 10)
		if err != nil || len(got) != 3 {
			t.Fatalf("%d movements, %v", len(got), err)
		}
		for i, want := range []struct {
			en           string
			fen, balance int64
		}{{"card top-up", -20_00, 50_00}, {"to my bank account (simulated bank)", -30_00, 70_00}, {"from my bank account (simulated bank)", 100_00, 100_00}} {
			if m := got[i]; m.EN != want.en || m.ZH == m.EN || m.Amount.Minor() != want.fen || m.Balance.Minor() != want.balance {
				t.Errorf("movement %d: %+v, want %+v", i, m, want)
			}
		}
		if first, err := wallet.Statement(ctx, book, lin, 1, 1); err != nil || len(first) != 1 || first[0].Amount.Minor() != 100_00 {
			t.Errorf("statement: %+v, %v", first, err)
		}
		if b, err := wallet.BalanceOf(book, lin); err != nil || b.Available.Minor() != 50_00 {
			t.Errorf("balance %+v, %v", b, err)
		}
		if _, err := wallet.BalanceOf(book, "cust_nobody"); !errors.Is(err, wallet.ErrNoWallet) {
			t.Errorf("nobody's wallet: %v", err)
		}
	})
}

func TestHoldingLimit(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		s, _ := open(t, cfg)
		ctx := context.Background()
		low := wallet.Limit{Rule: wallet.Holding, From: time.Date(2015, 9, 1, 0, 0, 0, 0, time.UTC), Amount: money.Fen(100), Source: "test"}
		err := s.Write(ctx, func(tx *db.Tx) error { return errors.Join(wallet.Open(tx, lin), wallet.SetLimit(tx, low)) })
		if err != nil {
			t.Fatal(err)
		}
		fund := func(ref string, fen int64) error {
			return s.Write(ctx, func(tx *db.Tx) error {
				_, err := wallet.Fund(tx, ref, lin, money.Fen(fen))
				return err
			})
		}
		if err := fund("a", 100); err != nil {
			t.Errorf("up to the limit: %v", err)
		}
		if err := fund("b", 1); !errors.Is(err, wallet.ErrOverHold) {
			t.Errorf("over the limit: %v", err)
		}
		if err := fund("a", 100); err != nil {
			t.Errorf("the same again at the limit: %v", err)
		}
		if b := balances(t, s, wallet.Account(lin)); b[0] != 100 {
			t.Errorf("wallet has %d, want 100", b[0])
		}
	})
}

func TestLimitOnPicksByDate(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		s, _ := open(t, cfg)
		ctx := context.Background()
		day := func(n int) time.Time { return time.Date(2016, 7, n, 0, 0, 0, 0, time.UTC) }
		err := s.Write(ctx, func(tx *db.Tx) error {
			return errors.Join(
				wallet.SetLimit(tx, wallet.Limit{Rule: wallet.FundOnce, From: day(1), Amount: money.Fen(7), Source: "a"}),
				wallet.SetLimit(tx, wallet.Limit{Rule: wallet.FundOnce, From: day(5), To: day(8), Amount: money.Fen(9), Source: "b"}))
		})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Read(ctx, func(q *db.Query) error {
			for d, want := range map[int]int64{0: 5000_00, 1: 7, 4: 7, 5: 9, 7: 9, 8: 7} {
				if l, err := wallet.LimitOn(q, wallet.FundOnce, day(d)); err != nil || l.Amount.Minor() != want {
					t.Errorf("on day %d: %v, %v; want %d", d, l.Amount, err, want)
				}
			}
			if _, err := wallet.LimitOn(q, "none", day(1)); !errors.Is(err, wallet.ErrNoRule) {
				t.Errorf("unknown rule: %v", err)
			}
			ls, err := wallet.Limits(q)
			if len(ls) != 8 {
				t.Errorf("%d limits, want 8", len(ls))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
