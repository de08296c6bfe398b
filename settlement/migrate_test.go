package settlement_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
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

// unpack puts a stored data file where a store can be opened.
func unpack(t *testing.T, name string) string {
	t.Helper()
	packed, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	file := dbtest.File(t)
	if err := os.WriteFile(file, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestMigrateBeforeFees opens a data file of the version that marked captures
// with their payout: two payees, two days settled at one moment, one payee that
// was below zero for a day, and captures that wait.
func TestMigrateBeforeFees(t *testing.T) {
	ctx := context.Background()
	h := &house{t: t, now: clock.NewVirtual(day.AddDays(3).Start(calendar.Beijing).Add(12 * time.Hour))}
	var err error
	if h.store, err = db.Open(ctx, db.Config{URL: unpack(t, "before_fees.db.gz"), Clock: h.now, Inline: true}); err != nil {
		t.Fatal(err)
	}
	book, err := ledger.Open(ctx, h.store, ledger.Config{Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { book.Close(); h.store.Close() })
	for range 2 {
		if err := h.store.Migrate(ctx, settlement.Schema); err != nil {
			t.Fatal(err)
		}
	}
	h.check()
	h.do(func(tx *db.Tx) error {
		var got []string
		all, err := settlement.Payouts(tx, "", "", 100)
		for _, p := range all {
			items, err := settlement.ItemsOf(tx, p.ID, "", 100)
			if err != nil {
				return err
			}
			refs := ""
			for _, i := range items {
				refs += " " + i.Ref
			}
			got = append(got, p.Payee+" "+p.Day.String()+" "+p.Amount.Yuan()+refs)
		}
		want := "metro 2015-09-17 4.00 r06; bus 2015-09-17 0.50 r04 r05 r07; metro 2015-09-16 7.00 r01 r02 r03"
		if s := strings.Join(got, "; "); s != want {
			t.Errorf("payouts %s\nwant    %s", s, want)
		}
		f, err2 := settlement.FileOf(tx, day)
		if !strings.HasSuffix(string(f.CSV), "total,,,1,700\n") {
			t.Errorf("file:\n%s", f.CSV)
		}
		if err == nil {
			err = err2
		}
		return err
	})
	h.sale("new", "metro", 1_00)
	h.morning(day.AddDays(3))
	h.want("what waited, and new", "metro", 10_50, 0, 0)
	h.want("below zero", "bus", 0, 0, -20)
	h.check()
}

// TestMigrateRows moves the same kinds of rows on every store.
func TestMigrateRows(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		ctx := context.Background()
		old := db.Schema{Owner: settlement.Schema.Owner, Steps: settlement.Schema.Steps[:4]}
		if err := s.Migrate(ctx, old); err != nil {
			t.Fatal(err)
		}
		err := s.Write(ctx, func(tx *db.Tx) error {
			for _, sql := range []string{
				`INSERT INTO settlement_payout (id, day, payee, n, fen, at) VALUES ('p1', '2015-09-16', 'metro', 2, 700, 50), ('p2', '2015-09-17', 'metro', 1, 400, 50), ('p0', '2015-09-16', 'bus', 2, 50, 50)`,
				`INSERT INTO settlement_capture (ref, payee, kind, fen, at, booked, payout) VALUES ('d', 'metro', 'ride', 400, 1, 9, 'p2'), ('a', 'metro', 'ride', 800, 1, 7, 'p1'),
					('b', 'metro', 'ride', -100, 1, 8, 'p1'), ('c', 'bus', 'ride', -50, 1, 9, 'p0'), ('e', 'bus', 'ride', 100, 1, 9, 'p0'), ('f', 'bus', 'ride', 5, 1, 3, ''), ('g', 'tram', 'ride', 5, 1, 3, '')`,
			} {
				if _, err := tx.Exec(sql); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Migrate(ctx, settlement.Schema); err != nil {
			t.Fatal(err)
		}
		err = s.Read(ctx, func(q *db.Query) error {
			wrong, err := settlement.Check(q)
			if len(wrong) > 0 {
				t.Errorf("check: %v", wrong)
			}
			open, err2 := settlement.Open(q)
			if len(open) != 2 || open[0].Payee != "bus" || open[0].Amount.Minor() != 5 || open[1].Payee != "tram" {
				t.Errorf("waiting: %+v", open)
			}
			items, err3 := settlement.ItemsOf(q, "p1", "", 10)
			if len(items) != 2 || items[0].Ref != "a" || items[1].Ref != "b" {
				t.Errorf("items of p1: %+v", items)
			}
			return errors.Join(err, err2, err3)
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// TestCheckFinds: each row changes the store behind the package's back.
func TestCheckFinds(t *testing.T) {
	for _, tt := range []struct{ name, sql, where string }{
		{"an item's amount", `UPDATE settlement_item SET fen = fen + 1 WHERE ref = 's1'`, "captures are"},
		{"a refund became a chargeback", `UPDATE settlement_item SET kind = 'chargeback' WHERE ref = 'r1'`, "captures are"},
		{"an item's card", `UPDATE settlement_item SET card = '' WHERE ref = 's1'`, "priced again"},
		{"a settled item gone", `DELETE FROM settlement_item WHERE ref = 's1'`, "captures are"},
		{"a waiting item gone", `DELETE FROM settlement_item WHERE ref = 's3'`, "payee account"},
		{"an item of nobody", `UPDATE settlement_item SET payee = 'nobody' WHERE ref = 's3'`, "who is not there"},
		{"an item settled twice", `UPDATE settlement_payee SET mark = 0 WHERE payee = 'wok'`, "is settled up to"},
		{"a payout gone", `DELETE FROM settlement_payout WHERE payee = 'wok' AND day = '2015-09-16'`, "the one before ended"},
		{"a fee", `UPDATE settlement_payout SET fee = fee - 1, kept = kept + 1 WHERE payee = 'wok' AND day = '2015-09-16'`, "priced again"},
		{"a share of a fee", `UPDATE settlement_payout SET issuer = issuer - 1 WHERE payee = 'wok' AND day = '2015-09-16'`, "priced again"},
		{"what was paid", `UPDATE settlement_payout SET fen = fen + 1 WHERE payee = 'wok' AND day = '2015-09-16'`, "pays"},
		{"what was kept", `UPDATE settlement_payee SET kept = kept + 1 WHERE payee = 'wok'`, "fen kept"},
		{"a reserve", `UPDATE settlement_reserve SET fen = fen - 1 WHERE payee = 'wok'`, "their rows say"},
		{"a hold", `DELETE FROM settlement_hold`, "their rows say"},
		{"terms", `UPDATE settlement_terms SET category = 'living' WHERE payee = 'wok'`, "priced again"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := open(t, db.Config{URL: dbtest.File(t), Rebuildable: true})
			h.shop("wok", func(t *settlement.Terms) { t.ReserveBP, t.ReserveDays = 1000, 30 })
			h.do(func(tx *db.Tx) error {
				_, err := settlement.PutHold(tx, settlement.Hold{Payee: "wok", Reason: settlement.ForDispute, Amount: money.Fen(10_00)})
				return err
			})
			h.sale("s1", "wok", 100_00)
			h.back("r1", "wok", "refund", 10_00, 100_00)
			h.morning(day)
			h.sale("s2", "wok", 50_00)
			h.morning(day.AddDays(1))
			h.sale("s3", "wok", 50_00)
			h.check()
			h.do(func(tx *db.Tx) error { _, err := tx.Exec(tt.sql); return err })
			if wrong := strings.Join(h.wrong(), "; "); !strings.Contains(wrong, tt.where) {
				t.Errorf("found %q, want %q", wrong, tt.where)
			}
		})
	}
}
