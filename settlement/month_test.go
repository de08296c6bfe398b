package settlement_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/money"
	"koala/settlement"
	"koala/settlement/fee"
)

func TestPayday(t *testing.T) {
	for _, tt := range []struct {
		year  int
		month time.Month
		want  string
	}{
		{2015, time.September, "2015-09-01"},
		{2015, time.October, "2015-10-08"},  // behind the National Day week
		{2015, time.November, "2015-11-02"}, // the 1st is a Sunday
		{2016, time.January, "2016-01-04"},
		{2016, time.May, "2016-05-03"},
		{2017, time.October, "2017-10-09"},
	} {
		if got := settlement.Payday(calendar.Month{Year: tt.year, Month: tt.month}).String(); got != tt.want {
			t.Errorf("%d-%02d: %s, want %s", tt.year, tt.month, got, tt.want)
		}
	}
}

// TestMonthly follows a shop without card fees that is paid once a month over
// the end of September 2015, whose banks open again on 8 October.
func TestMonthly(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		h.shop("wok", func(t *settlement.Terms) {
			t.Category, t.Monthly, t.ReserveBP, t.ReserveDays = "", true, 1000, 18
		})
		on := func(month time.Month, d int) calendar.Date { return calendar.Date{Year: 2015, Month: month, Day: d} }
		closed := 0
		h.now.Set(noon)
		for _, tt := range []struct {
			day  calendar.Date
			sold int64 // on the day before its cut-off
			paid int64 // by the closing of the day
			kept int64
			new  bool // there is one
		}{
			{on(9, 16), 100_00, 0, 90_00, true},
			{on(9, 17), 0, 0, 90_00, false},
			{on(9, 30), 10_00, 0, 99_00, true},
			{on(10, 1), 20_00, 0, 99_00, false},
			{on(10, 4), 30_00, 0, 99_00, false}, // the reserve of the first day is due, in October
			{on(10, 6), 0, 0, 99_00, false},
			{on(10, 7), 0, 99_00, 0, true},
			{on(10, 8), 40_00, 0, 91_00, true}, // 90.00 less a tenth, and 10.00 of the reserve
			{on(10, 31), 0, 0, 101_00, true},   // and the other reserves
			{on(11, 1), 5_00, 101_00, 0, true}, // the sale of this day is November's
		} {
			h.at(tt.day, 12*time.Hour)
			if tt.sold > 0 {
				h.sale("s:"+tt.day.String(), "wok", tt.sold)
			}
			h.morning(tt.day)
			var all []settlement.Payout
			h.do(func(tx *db.Tx) (err error) { all, err = settlement.Closings(tx, "wok", "", 100); return err })
			if made := len(all) > closed; made != tt.new {
				t.Errorf("%s: a closing was made: %v, want %v", tt.day, made, tt.new)
			}
			closed = len(all)
			p := all[0]
			if tt.new && (p.Amount.Minor() != tt.paid || p.Kept.Minor() != tt.kept || (p.State == settlement.Carried) != (tt.paid == 0)) {
				t.Errorf("%s: paid %s, kept %s, %s; want %d, %d", tt.day, p.Amount, p.Kept, p.State, tt.paid, tt.kept)
			}
			if want := map[time.Month]string{9: "2015-10-08", 10: "2015-11-02", 11: "2015-11-02"}[tt.day.Month]; tt.new && tt.day != on(10, 7) && p.Arrives.String() != want {
				t.Errorf("%s: arrives %s, want %s", tt.day, p.Arrives, want)
			}
			h.do(func(tx *db.Tx) error {
				all, err := settlement.Expected(tx, "wok", tx.Now())
				carried := money.Fen(0)
				for _, a := range all {
					if a.State == settlement.Carried {
						carried = a.Amount
					}
				}
				if carried.Minor() != tt.kept {
					t.Errorf("%s: %s is to come, %d is kept: %+v", tt.day, carried, tt.kept, all)
				}
				return err
			})
		}
		h.check()
	})
}

// TestMonthlyTerms: what is agreed is kept, dated, and read back.
func TestMonthlyTerms(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		h.shop("wok", func(t *settlement.Terms) { t.Monthly = true })
		later := settlement.Terms{Payee: "wok", Since: day.AddDays(10), Category: fee.Living, CutOff: settlement.ShopCutOff, Holidays: true, Least: money.Fen(1),
			Once: settlement.Once{Most: money.Fen(0)}}
		opened := settlement.Terms{Since: day, CutOff: settlement.NightCutOff, Monthly: true, Least: money.Fen(0), Once: settlement.Once{Most: money.Fen(0)}}
		h.do(func(tx *db.Tx) error {
			return errors.Join(settlement.SetTerms(tx, later), settlement.OpenAll(tx, []settlement.Opening{{Payee: "pan", Name: "pan", Terms: []settlement.Terms{opened}}}))
		})
		opened.Payee = "pan"
		h.do(func(tx *db.Tx) error {
			first, err := settlement.TermsOf(tx, "wok", day)
			then, err2 := settlement.TermsOf(tx, "wok", later.Since)
			pan, err3 := settlement.TermsOf(tx, "pan", day)
			if !first.Monthly || then != later || pan != opened {
				t.Errorf("read %+v, %+v and %+v", first, then, pan)
			}
			return errors.Join(err, err2, err3)
		})
		// From the day of the new terms on it is paid every day, and what was carried first.
		h.sale("s1", "wok", 100_00)
		h.morning(day)
		h.want("carried", "wok", 0, 1_25, 98_75)
		h.at(later.Since, 12*time.Hour)
		h.sale("s2", "wok", 100_00)
		h.morning(later.Since)
		h.want("every day again", "wok", 198_37, 38, 0)
		h.check()
	})
}

// TestMonthPaysTheSum: two shops sell the same; one is paid every day, the other
// once a month. What the month pays is what the days paid, less what the first
// owes at its end, and both have been given the same reserve.
func TestMonthPaysTheSum(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t), Rebuildable: true})
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		first := calendar.Of(time.Date(2015, time.Month(11+2*runs), 1, 0, 0, 0, 0, time.UTC), time.UTC) // a run's days are its own
		runs++
		h.at(first, 10*time.Hour)
		daily, monthly := fmt.Sprint("daily", runs), fmt.Sprint("monthly", runs)
		cat := rapid.SampledFrom(fee.Categories).Draw(rt, "category")
		reserve := rapid.SampledFrom([]int64{0, 0, 700}).Draw(rt, "reserve")
		for _, id := range []string{daily, monthly} {
			h.shop(id, func(t *settlement.Terms) {
				t.Category, t.Monthly = cat, id == monthly
				if t.ReserveBP = reserve; reserve > 0 {
					t.ReserveDays = 4
				}
			})
		}
		payday := settlement.Payday(first.AddDays(31).MonthOf())
		last := calendar.Date{Year: payday.Year, Month: payday.Month, Day: 1}.AddDays(-1)
		for d := first; d.Before(payday); d = d.AddDays(1) {
			if d.Before(last) && rapid.IntRange(0, 3).Draw(rt, "open") > 0 { // a day of rest: nothing is to be closed
				continue
			}
			h.at(d, time.Duration(rapid.IntRange(10, 22).Draw(rt, "hour"))*time.Hour)
			for n := range rapid.IntRange(0, 2).Draw(rt, "sales") {
				fen := rapid.OneOf(rapid.Int64Range(1, 900_00), rapid.Int64Range(-500_00, -1)).Draw(rt, "fen")
				for _, id := range []string{daily, monthly} {
					i := settlement.Item{Ref: fmt.Sprint(id, d, n), Payee: id, Amount: money.Fen(fen), Kind: "sale", Card: fee.Debit}
					if err := h.sell(i); err != nil {
						rt.Fatal(err)
					}
				}
			}
			h.morning(d)
		}
		days, month := h.total(daily, last), h.total(monthly, payday)
		whole := days.paid + days.kept + days.reserve
		if month.paid != max(0, whole-month.reserve) || month.kept != min(0, whole-month.reserve) {
			rt.Fatalf("the month is %+v, its days %+v", month, days)
		}
		if reserve == 0 && days.kept == 0 && month.paid != days.paid {
			rt.Fatalf("the month paid %d, its days %d", month.paid, days.paid)
		}
		if month.times > 1 {
			rt.Fatalf("paid %d times", month.times)
		}
	})
	h.check()
}

// A sum is what a shop was paid of a month's items, how often, and what is left.
type sum struct {
	paid, kept, reserve int64
	times               int
}

// total follows a shop's closings up to a day.
func (h *house) total(id string, until calendar.Date) (s sum) {
	h.t.Helper()
	h.do(func(tx *db.Tx) error {
		all, err := settlement.Closings(tx, id, "", 100)
		for i := len(all) - 1; i >= 0; i-- {
			p := all[i]
			if until.Before(p.Day) {
				break
			}
			s.paid, s.kept, s.reserve = s.paid+p.Amount.Minor(), p.Kept.Minor(), s.reserve+p.Reserved.Minor()-p.Released.Minor()
			if p.Amount.Sign() > 0 {
				s.times++
			}
		}
		return err
	})
	return s
}

// TestMigrateDaily: terms of the version before go on paying every day.
func TestMigrateDaily(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		ctx := context.Background()
		if err := s.Migrate(ctx, db.Schema{Owner: settlement.Schema.Owner, Steps: settlement.Schema.Steps[:6]}); err != nil {
			t.Fatal(err)
		}
		err := s.Write(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(`INSERT INTO settlement_terms (payee, since, category, price, cut, holidays, least, reserve_bp, reserve_days, at_once, every, bp_day, most, promise)
				VALUES ('wok', '2015-09-16', 'dining', '', 1380, TRUE, 100, 0, 0, FALSE, 0, 0, 0, 0)`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Migrate(ctx, settlement.Schema); err != nil {
			t.Fatal(err)
		}
		err = s.Read(ctx, func(q *db.Query) error {
			got, err := settlement.TermsOf(q, "wok", day)
			want := settlement.Terms{Payee: "wok", Since: day, Category: fee.Dining, CutOff: settlement.ShopCutOff, Holidays: true, Least: money.Fen(100),
				Once: settlement.Once{Most: money.Fen(0)}}
			if got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
