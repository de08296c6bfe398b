package merchant_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/ledger"
	"koala/merchant"
	"koala/settlement"
)

func line(n int) merchant.Import {
	return merchant.Import{Application: noodles(n), Serial: fmt.Sprint("B-", n), Kind: merchant.POS}
}

func (h *house) bulk(list ...merchant.Import) []merchant.Imported {
	h.Helper()
	out, err := h.desk.Bulk(context.Background(), "wang", "register of the old acquirer", list)
	if err != nil {
		h.Fatal(err)
	}
	return out
}

// TestRegistersAreCheckedAsApplications: every line of a register gets the same
// checks as an application, also against the lines before it.
func TestRegistersAreCheckedAsApplications(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		known, _ := h.approved(1)
		h.do(func(tx *db.Tx) error {
			return merchant.Deny(tx, merchant.Denied{Licence: licence(16), Why: "case of 2014", By: "chen"})
		})
		list := make([]merchant.Import, 10)
		for i := range list {
			list[i] = line(10 + i)
		}
		list[1].Licence = licence(1)                                        // of a merchant in the store
		list[2].Licence = list[0].Licence                                   // of a line before
		list[3].Account = list[0].Account                                   // of a line before, another holder
		list[4].IDNumber = "110105198001010129"                             // wrong check character
		list[5].City = "999999"                                             // cannot be kept
		list[7].Serial = list[0].Serial                                     // a device that is in use
		list[8].Agent = "nobody"                                            //
		list[9].Form, list[9].Licence, list[9].Kind = "micro", "", "reader" // fine
		out := h.bulk(list...)
		want := []any{nil, merchant.CheckAgain, merchant.CheckAgain, merchant.CheckAccount, merchant.CheckPerson, merchant.ErrCity, merchant.CheckDeny,
			merchant.ErrBound, merchant.ErrNotFound, nil}
		for i, o := range out {
			var got any
			if o.Failed != nil {
				got = o.Failed[0].What
			}
			e, isErr := want[i].(error)
			switch {
			case isErr && !errors.Is(o.Err, e), !isErr && o.Err != nil, !isErr && got != want[i]:
				t.Errorf("line %d: %v, %v, want %v", i+1, o.Err, got, want[i])
			case want[i] == nil && (o.MID == "" || o.TID == ""), want[i] != nil && (o.MID != "" || o.TID != ""):
				t.Errorf("line %d: numbers %q and %q", i+1, o.MID, o.TID)
			}
		}
		if note := out[1].Failed[0].Note; note != "registered as "+known.ID+" "+known.Name {
			t.Errorf("note %q", note)
		}
		if out[0].MID != "890110058120002" || out[9].MID != "890110058120003" {
			t.Errorf("numbers %s and %s", out[0].MID, out[9].MID)
		}
		h.asApplied(out[0], noodles(10))
		h.prove()
	})
}

// asApplied compares a line with the same merchant after an application.
func (h *house) asApplied(o merchant.Imported, a merchant.Application) {
	h.Helper()
	h.read(func(q *db.Query) error {
		m, err := merchant.ByLicence(q, a.Licence)
		if err != nil || m.ID != o.Merchant || m.State != merchant.Approved || m.Name != a.Name || m.AccountMask != "****0010" {
			h.Errorf("%+v, %v", m, err)
		}
		if open, err := merchant.Missing(q, m); err != nil || open != nil {
			h.Errorf("open %v, %v", open, err)
		}
		s, err := merchant.StandingOf(q, o.TID)
		if err != nil || s.Shop.ID != o.Shop || s.Shop.MID != o.MID || s.Terminal.Life != merchant.Registered || s.Risk != merchant.RiskC {
			h.Errorf("%+v, %v", s, err)
		}
		all, err := settlement.AllTerms(q, o.Shop)
		if err != nil || len(all) != 2 {
			h.Errorf("terms %+v, %v", all, err)
		}
		docs, err := merchant.DocumentsOf(q, o.Merchant)
		if len(docs) != 3 {
			h.Errorf("%d documents", len(docs))
		}
		return err
	})
	h.do(func(tx *db.Tx) error { _, err := ledger.BalanceOf(tx, settlement.Payable(o.Shop)); return err })
}

// TestRegistersTwice: a register that comes again is refused line by line.
func TestRegistersTwice(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	list := make([]merchant.Import, 120)
	for i := range list {
		list[i] = line(i)
	}
	first := h.bulk(list...)
	tids := map[string]bool{}
	for i, o := range first {
		if o.Err != nil || o.Failed != nil || tids[o.TID] {
			t.Fatalf("line %d: %+v", i, o)
		}
		tids[o.TID] = true
	}
	for i, o := range h.bulk(list...) {
		if !errors.Is(o.Err, merchant.ErrBound) {
			t.Fatalf("line %d again: %+v", i, o)
		}
	}
	if _, err := h.desk.Bulk(context.Background(), "", "x", list[:1]); !errors.Is(err, merchant.ErrStaff) {
		t.Errorf("signed by nobody: %v", err)
	}
	h.lists(120)
	h.prove()
}

// lists walks the lists page by page.
func (h *house) lists(n int) {
	h.Helper()
	h.read(func(q *db.Query) error {
		for _, f := range []merchant.Filter{{}, {Name: "北京面馆"}, {City: "110000", State: merchant.Approved}} {
			seen := []string{}
			for f.Limit = 50; ; {
				page, err := merchant.List(q, f)
				if err != nil {
					return err
				}
				for _, m := range page {
					seen, f.After = append(seen, m.ID), m.ID
				}
				if len(page) < 50 {
					break
				}
			}
			slices.Sort(seen)
			if len(seen) != n || len(slices.Compact(seen)) != n {
				h.Errorf("%+v: %d merchants", f, len(seen))
			}
		}
		none, err := merchant.List(q, merchant.Filter{Name: "上海"})
		if len(none) != 0 {
			h.Errorf("%d in 上海", len(none))
		}
		counts, err2 := merchant.Counts(q)
		if len(counts) != 1 || counts[0].N != int64(n) || counts[0].City.NameEN != "Beijing" {
			h.Errorf("%+v", counts)
		}
		return errors.Join(err, err2)
	})
}

func TestShopsLimitsAndLevels(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		m, s := h.approved(1)
		var second merchant.Shop
		var till, reader merchant.Terminal
		h.do(func(tx *db.Tx) (err error) {
			if second, err = merchant.AddShop(tx, merchant.Shop{Merchant: m.ID, NameEN: "Noodles 2", NameZH: "面馆二", MCC: "5812", City: "440300"}, "wang"); err != nil {
				return err
			}
			if till, err = merchant.AddTerminal(tx, merchant.Terminal{Serial: "A", Kind: merchant.POS, Shop: s.ID}); err != nil {
				return err
			}
			reader, err = merchant.AddTerminal(tx, merchant.Terminal{Serial: "B", Kind: merchant.Reader, Shop: s.ID})
			return err
		})
		if second.MID != "890440358120001" || second.State != merchant.Approved || second.Place().NameEN != "Shenzhen" {
			t.Errorf("%+v", second)
		}
		own := merchant.Limits{Single: fen(90_000_00), Daily: fen(90_000_00), Monthly: fen(900_000_00)}
		h.do(func(tx *db.Tx) error { return merchant.SetLimits(tx, s.ID, "debit", own, "chen", "a wedding") })
		at := func(tid, class string) (l merchant.Limits) {
			h.read(func(q *db.Query) error {
				st, err := merchant.StandingOf(q, tid)
				if err == nil {
					l, err = merchant.LimitsOf(q, st, class)
				}
				return err
			})
			return l
		}
		if l := at(till.TID, "debit"); l != own {
			t.Errorf("the till has %+v", l)
		}
		if l := at(reader.TID, "debit"); l.Single != fen(5_000_00) {
			t.Errorf("the reader has %+v", l)
		}
		if l := at(till.TID, "credit"); l.Single != fen(25_000_00) {
			t.Errorf("credit cards have %+v", l)
		}
		h.do(func(tx *db.Tx) error {
			return settlement.SetStanding(tx, s.ID, settlement.Standing{Opened: calendar.Of(tx.Now(), calendar.Beijing), Risk: "A"})
		})
		h.do(func(tx *db.Tx) error {
			return merchant.SetRisk(tx, m.ID, merchant.RiskD, "rule 7", "round amounts at night")
		})
		h.do(func(tx *db.Tx) error { // what the shop may be lent follows its risk
			f, known, err := settlement.FactsOf(tx, s.ID, calendar.Of(tx.Now(), calendar.Beijing))
			_, other, err2 := settlement.FactsOf(tx, second.ID, calendar.Of(tx.Now(), calendar.Beijing))
			if !known || f.Risk != "D" || other {
				t.Errorf("the limit of payouts at once follows risk %q (known %v, the other shop %v)", f.Risk, known, other)
			}
			return errors.Join(err, err2)
		})
		if l := at(till.TID, "credit"); l.Single != fen(2_500_00) || merchant.RiskD.Allows() != (merchant.Allowed{}) {
			t.Errorf("under watch credit cards have %+v", l)
		}
		for name, act := range map[string]func(*db.Tx) error{
			"day below one sale": func(tx *db.Tx) error {
				return merchant.SetLimits(tx, s.ID, "debit", merchant.Limits{Single: fen(2), Daily: fen(1), Monthly: fen(3)}, "chen", "x")
			},
			"risk without a reason": func(tx *db.Tx) error { return merchant.SetRisk(tx, m.ID, merchant.RiskA, "chen", "") },
			"risk of no level":      func(tx *db.Tx) error { return merchant.SetRisk(tx, m.ID, "E", "chen", "x") },
		} {
			if h.try(act) == nil {
				t.Errorf("%s was taken", name)
			}
		}
		h.do(func(tx *db.Tx) error { return merchant.DecideShop(tx, second.ID, merchant.Suspended, "chen", "flood") })
		h.prove()
	})
}

// BenchmarkBulk takes registers of 100 lines; an operation is one merchant.
func BenchmarkBulk(b *testing.B) {
	h := open(b, db.Config{URL: dbtest.File(b)})
	n := 0
	for b.Loop() {
		if n%100 == 0 {
			list := make([]merchant.Import, 100)
			for i := range list {
				list[i] = line(n + i)
			}
			h.bulk(list...)
		}
		n++
	}
}

// BenchmarkStandingOf is the question before each sale.
func BenchmarkStandingOf(b *testing.B) {
	h := open(b, db.Config{URL: dbtest.File(b)})
	list := make([]merchant.Import, 1000)
	for i := range list {
		list[i] = line(i)
	}
	out := h.bulk(list...)
	n := 0
	for b.Loop() {
		h.read(func(q *db.Query) error {
			_, err := merchant.StandingOf(q, out[n*7%1000].TID)
			return err
		})
		n++
	}
}
