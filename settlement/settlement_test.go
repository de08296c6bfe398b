package settlement_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"koala/calendar"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
)

// day is the settlement day of the tests; noon is in it.
var (
	day  = calendar.Date{Year: 2015, Month: time.September, Day: 16}
	noon = time.Date(2015, 9, 16, 12, 0, 0, 0, calendar.Beijing)
)

const source ledger.AccountID = "float.test"

// A tester is a test or one run of a property.
type tester interface {
	Helper()
	Cleanup(func())
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

// A house is a store with a book, a clock and two operators.
type house struct {
	t     tester
	store *db.Store
	now   *clock.Virtual
	close func()
}

func open(t tester, cfg db.Config) *house {
	t.Helper()
	cfg.Inline = true
	return openQueued(t, cfg)
}

// openQueued opens a house whose units wait in the writer's queue.
func openQueued(t tester, cfg db.Config) *house {
	t.Helper()
	h := openBook(t, cfg)
	if err := h.store.Migrate(context.Background(), settlement.Schema); err != nil {
		t.Fatal(err)
	}
	h.do(openAccounts)
	h.do(func(tx *db.Tx) error {
		return errors.Join(settlement.SetFunding(tx, money.Fen(1_000_000_00)), settlement.Join(tx, "metro", "地铁"), settlement.Join(tx, "bus", "公交"))
	})
	return h
}

// openAt opens a house whose tables are those after so many steps.
func openAt(t tester, cfg db.Config, steps int) *house {
	t.Helper()
	cfg.Inline = true
	h := openBook(t, cfg)
	if err := h.store.Migrate(context.Background(), db.Schema{Owner: settlement.Schema.Owner, Steps: settlement.Schema.Steps[:steps]}); err != nil {
		t.Fatal(err)
	}
	h.do(openAccounts)
	return h
}

// openBook opens a store with a book and no tables of settlement.
func openBook(t tester, cfg db.Config) *house {
	t.Helper()
	h := &house{t: t, now: clock.NewVirtual(noon)}
	cfg.Clock = h.now
	ctx := context.Background()
	var err error
	if h.store, err = db.Open(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	book, err := ledger.Open(ctx, h.store, ledger.Config{Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	h.close = func() { book.Close(); h.store.Close() }
	t.Cleanup(func() { h.close() })
	return h
}

// openAccounts opens the bank and where the money of tests comes from.
func openAccounts(tx *db.Tx) error {
	for _, a := range []ledger.Account{
		{ID: "bank.custody", Code: "1010", Name: "custody bank, client money (simulated bank)", Currency: money.CNY},
		{ID: source, Code: "2020", Name: "money on cards", Currency: money.CNY},
	} {
		if err := ledger.OpenAccount(tx, a); err != nil {
			return err
		}
	}
	return nil
}

func (h *house) do(f func(*db.Tx) error) {
	h.t.Helper()
	if err := h.store.Write(context.Background(), f); err != nil {
		h.t.Fatal(err)
	}
}

// earn posts and captures as a service does.
func (h *house) earn(ref, payee string, fen int64) error {
	return h.store.Write(context.Background(), func(tx *db.Tx) error {
		if fen != 0 {
			if _, err := ledger.Post(tx, ledger.Move(ref, source, settlement.Payable(payee), money.Fen(fen))); err != nil {
				return err
			}
		}
		return settlement.Capture(tx, settlement.Item{Ref: ref, Payee: payee, Amount: money.Fen(fen), At: noon, Kind: "ride"})
	})
}

func (h *house) owed(payee string) (fen int64) {
	h.t.Helper()
	h.do(func(tx *db.Tx) error {
		b, err := ledger.BalanceOf(tx, settlement.Payable(payee))
		fen = b.Posted.Minor()
		return err
	})
	return fen
}

func (h *house) run(d calendar.Date) (settlement.File, error) {
	return settlement.Run(context.Background(), h.store, d)
}

func TestCapture(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		for _, tt := range []struct {
			name       string
			ref, payee string
			fen        int64
			want       error
			owed       int64 // to the metro afterwards
		}{
			{"a ride", "r1", "metro", 300, nil, 300},
			{"the same again", "r1", "metro", 300, nil, 300},
			{"same reference, other amount", "r1", "metro", 400, ledger.ErrDiffers, 300},
			{"nothing", "r2", "metro", 0, settlement.ErrItem, 300},
			{"no reference", "", "metro", 300, ledger.ErrShape, 300},
			{"a correction", "r3", "metro", -100, nil, 200},
		} {
			if err := h.earn(tt.ref, tt.payee, tt.fen); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
			if got := h.owed("metro"); got != tt.owed {
				t.Errorf("%s: %d owed, want %d", tt.name, got, tt.owed)
			}
		}
	})
}

func TestRunPaysEachCaptureOnce(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		for i, e := range []struct {
			payee string
			fen   int64
		}{{"metro", 300}, {"metro", 500}, {"bus", 100}, {"metro", -50}, {"bus", -200}} {
			if err := h.earn(fmt.Sprint("r", i), e.payee, e.fen); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.run(day); !errors.Is(err, settlement.ErrTooEarly) {
			t.Fatalf("before the cut-off: %v", err)
		}
		h.now.Set(time.Date(2015, 9, 17, 4, 0, 0, 0, calendar.Beijing))
		f, err := h.run(day)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(f.CSV); hex.EncodeToString(sum[:]) != f.Hash || !strings.HasSuffix(string(f.CSV), "total,,,1,750\n") {
			t.Errorf("file %s:\n%s", f.Hash, f.CSV)
		}
		if h.owed("metro") != 0 || h.owed("bus") != -100 {
			t.Errorf("owed %d and %d, want 0 and -100", h.owed("metro"), h.owed("bus"))
		}
		if err := h.earn("late", "bus", 150); err != nil { // makes up for the bus's minus
			t.Fatal(err)
		}
		if again, err := h.run(day); err != nil || again.Hash != f.Hash {
			t.Errorf("second run: %v, hash %s", err, again.Hash)
		}
		h.now.Set(time.Date(2015, 9, 18, 4, 0, 0, 0, calendar.Beijing))
		if f, err := h.run(day.AddDays(1)); err != nil || !strings.HasSuffix(string(f.CSV), "total,,,1,50\n") {
			t.Errorf("next day: %v\n%s", err, f.CSV)
		}
		h.check()
	})
}

func (h *house) check() {
	h.t.Helper()
	if wrong := h.wrong(); len(wrong) > 0 {
		h.t.Errorf("check: %v", wrong)
	}
}

// wrong is what the checks of rows and books find.
func (h *house) wrong() (wrong []string) {
	h.t.Helper()
	h.do(func(tx *db.Tx) (err error) {
		if wrong, err = settlement.Check(tx); err != nil {
			return err
		}
		books, err := settlement.CheckBooks(tx)
		wrong = append(wrong, books...)
		return err
	})
	return wrong
}
