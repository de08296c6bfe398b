package settlement_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/money"
	"koala/settlement"
)

// prompt are terms of a shop without card fees that may be paid at once for
// 2 basis points a day.
func prompt(t *settlement.Terms) {
	t.Category, t.Holidays = "", false
	t.Once = settlement.Once{Agreed: true, BPDay: 2, Most: money.Fen(5000_00), Promise: 2 * time.Hour}
}

func (h *house) offer(shop string) (o settlement.Offer) {
	h.t.Helper()
	h.do(func(tx *db.Tx) (err error) { o, err = settlement.OfferNow(tx, shop, tx.Now()); return err })
	return o
}

func (h *house) payNow(shop string, seen settlement.Offer) (p settlement.Payout, err error) {
	err = h.store.Write(context.Background(), func(tx *db.Tx) (err error) { p, err = settlement.PayNow(tx, shop, seen); return err })
	return p, err
}

func (h *house) tick() {
	h.t.Helper()
	if err := settlement.Tick(context.Background(), h.store); err != nil {
		h.t.Fatal(err)
	}
}

// TestAtOnce: the price is known before, it is for the days the house lends,
// and the next day's run pays only the rest.
func TestAtOnce(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		friday := day.AddDays(2)
		h.at(friday, 12*time.Hour)
		h.shop("wok", prompt)
		h.sale("s1", "wok", 1000_00)
		o := h.offer("wok")
		if o.Days != 3 || o.BP != 6 || o.Amount.Minor() != 999_40 || o.Advance.Minor() != 60 || o.Refusal != nil {
			t.Fatalf("offer %+v", o)
		}
		p, err := h.payNow("wok", o)
		if err != nil || p.Amount != o.Amount || p.State != settlement.Waiting {
			t.Fatalf("%v, %+v", err, p)
		}
		if _, err := h.payNow("wok", o); !errors.Is(err, settlement.ErrNothing) {
			t.Errorf("again: %v", err)
		}
		h.sale("s2", "wok", 100_00)
		h.tick()
		p = h.last("wok")
		h.do(func(tx *db.Tx) error {
			f, err := settlement.ExpressFile(tx, p.File)
			if !strings.HasSuffix(string(f.CSV), "total,,,1,99940\n") {
				t.Errorf("file:\n%s", f.CSV)
			}
			_, lent, err2 := settlement.Funding(tx, tx.Now())
			if lent.Minor() != 999_40 {
				t.Errorf("lent %s", lent)
			}
			return errors.Join(err, err2, settlement.Confirm(tx, p.ID))
		})
		for d := friday; d.Before(friday.AddDays(3)); d = d.AddDays(1) {
			h.morning(d)
		}
		h.want("Monday", "wok", 100_00, 0, 0)
		h.do(func(tx *db.Tx) error {
			_, lent, err := settlement.Funding(tx, tx.Now())
			if !lent.IsZero() {
				t.Errorf("lent after the network paid: %s", lent)
			}
			return err
		})
		h.check()
	})
}

// TestLateIsFree: what is not there in time costs nothing, nor does the next.
func TestLateIsFree(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	h.shop("wok", prompt)
	h.sale("s1", "wok", 1000_00)
	first, err := h.payNow("wok", h.offer("wok"))
	if err != nil {
		t.Fatal(err)
	}
	h.tick()
	h.now.Advance(2*time.Hour + time.Second)
	h.tick()
	h.tick()
	h.check()
	h.do(func(tx *db.Tx) error {
		p, err := settlement.PayoutOf(tx, first.ID)
		if !p.Late() || p.Undone != first.Advance || first.Advance.Minor() != 20 {
			t.Errorf("late %v, %s of %s given back", p.Late(), p.Undone, first.Advance)
		}
		return errors.Join(err, settlement.Confirm(tx, first.ID))
	})
	h.sale("s2", "wok", 100_00)
	if o := h.offer("wok"); !o.Free || o.Amount.Minor() != 100_20 || !o.Advance.IsZero() {
		t.Errorf("the next one: %+v", o)
	}
	second, err := h.payNow("wok", h.offer("wok"))
	if err != nil {
		t.Fatal(err)
	}
	h.tick()
	h.now.Advance(3 * time.Hour) // confirmed late, before a tick finds it
	for range 2 {
		h.do(func(tx *db.Tx) error { return settlement.Confirm(tx, second.ID) })
	}
	h.tick()
	h.sale("s3", "wok", 100_00)
	third, err := h.payNow("wok", h.offer("wok"))
	if err != nil || !third.Advance.IsZero() {
		t.Errorf("free again: %v, %s", err, third.Advance)
	}
	h.sale("s4", "wok", 100_00)
	if o := h.offer("wok"); o.Free || o.BP != 2 {
		t.Errorf("and then: %+v", o)
	}
	h.tick()
	h.do(func(tx *db.Tx) error { return settlement.Return(tx, third.ID, "account closed") })
	h.check()
}

func TestAtOnceRefuses(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	h.shop("wok", prompt)
	h.shop("slow", func(t *settlement.Terms) { t.Category = "" })
	refusal := func(what, shop string, want error) {
		t.Helper()
		o := h.offer(shop)
		if !errors.Is(o.Refusal, want) || (want == nil) != (o.Refusal == nil) {
			t.Errorf("%s: offered %v, want %v", what, o.Refusal, want)
		}
		if _, err := h.payNow(shop, o); want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	refusal("nothing sold", "wok", settlement.ErrNothing)
	h.sale("a", "slow", 10_00)
	refusal("not agreed", "slow", settlement.ErrAtOnce)
	h.sale("b", "wok", 4000_00)
	o := h.offer("wok")
	o.BP--
	if _, err := h.payNow("wok", o); !errors.Is(err, settlement.ErrDiffers) {
		t.Errorf("a price never offered: %v", err)
	}
	if _, err := h.payNow("wok", h.offer("wok")); err != nil {
		t.Fatal(err)
	}
	h.sale("c", "wok", 4000_00)
	if o := h.offer("wok"); o.Refusal != nil || o.Amount.Add(o.Advance).Minor() != 1000_00 || o.Kept.Minor() != 3000_00 {
		t.Errorf("up to the day's limit: %s + %s, kept %s, %v", o.Amount, o.Advance, o.Kept, o.Refusal)
	}
	if _, err := h.payNow("wok", h.offer("wok")); err != nil {
		t.Fatal(err)
	}
	refusal("the day's limit", "wok", settlement.ErrLimit)
	h.at(day.AddDays(1), 12*time.Hour)
	h.do(func(tx *db.Tx) error { return settlement.SetFunding(tx, money.Fen(100_00)) })
	refusal("the house's limit", "wok", settlement.ErrFunding)
	h.check()
}

// TestUnasked: a shop that agreed to it is paid every so often by Tick.
func TestUnasked(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	h.shop("wok", func(t *settlement.Terms) { prompt(t); t.Once.Every = 4 * time.Hour })
	h.sale("s1", "wok", 100_00)
	h.tick() // the first time comes four hours after the terms
	count := func() (n int) {
		h.do(func(tx *db.Tx) error {
			all, err := settlement.Payouts(tx, "wok", "", 100)
			n = len(all)
			return err
		})
		return n
	}
	for i, want := range []int{0, 1, 1, 2} {
		if got := count(); got != want {
			t.Errorf("after %d ticks of four hours: %d payouts, want %d", i, got, want)
		}
		if i == 2 {
			h.sale("s2", "wok", 50_00)
		}
		h.now.Advance(4 * time.Hour)
		h.tick()
	}
	h.check()
}

// TestPages: what a shop sees of its day, its items, what is on its way.
func TestPages(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	h.at(day.AddDays(2), 12*time.Hour) // Friday
	h.shop("wok", func(t *settlement.Terms) { t.Holidays = false })
	h.sale("s1", "wok", 100_00)
	h.back("r1", "wok", "refund", 20_00, 100_00)
	h.do(func(tx *db.Tx) error {
		d, err := settlement.Today(tx, "wok", tx.Now())
		if d.Count != 2 || d.Gross.Minor() != 100_00 || d.Refunds.Minor() != -20_00 || d.Fee.Fee != 1_00 || d.Net.Minor() != 79_00 ||
			d.ArrivesNext.String() != "2015-09-21" || d.Day != day.AddDays(2) {
			t.Errorf("today %+v", d)
		}
		items, err2 := settlement.ItemsOn(tx, "wok", d.Day, 0, 1)
		if len(items) != 1 || items[0].Ref != "s1" || items[0].Fee.Fee != 1_25 {
			t.Errorf("first item %+v", items)
		}
		more, err3 := settlement.ItemsOn(tx, "wok", d.Day, items[0].Seq, 10)
		if len(more) != 1 || more[0].Ref != "r1" || more[0].Fee.Fee != -25 {
			t.Errorf("next items %+v", more)
		}
		return errors.Join(err, err2, err3)
	})
	h.at(day.AddDays(3), 12*time.Hour)
	h.sale("s2", "wok", 10_00)
	expect := func(what string, want ...string) {
		t.Helper()
		h.do(func(tx *db.Tx) error {
			all, err := settlement.Expected(tx, "wok", tx.Now())
			var got []string
			for _, a := range all {
				got = append(got, a.Day.String()+" "+a.Arrives.String()+" "+a.Amount.Yuan())
			}
			if strings.Join(got, "; ") != strings.Join(want, "; ") {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
			return err
		})
	}
	expect("on Saturday", "2015-09-18 2015-09-21 79.00", "2015-09-19 2015-09-21 9.87")
	for d := day.AddDays(2); d.Before(day.AddDays(5)); d = d.AddDays(1) {
		h.morning(d)
	}
	expect("on Monday", "2015-09-20 2015-09-21 88.87")
	h.do(func(tx *db.Tx) error {
		items, err := settlement.ItemsOn(tx, "wok", calendar.Date{Year: 2015, Month: 9, Day: 20}, 0, 10)
		waits, err2 := settlement.ItemsOn(tx, "wok", calendar.Date{Year: 2015, Month: 9, Day: 18}, 0, 10)
		if len(items) != 3 || len(waits) != 0 {
			t.Errorf("%d items with Sunday's closing, %d left", len(items), len(waits))
		}
		return errors.Join(err, err2)
	})
	h.check()
}

// TestAtOnceLimit: with a standing, the limit of a day follows from the closings
// before it; what the terms say is the most it can be.
func TestAtOnceLimit(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := openAt(t, cfg, 8)
		if err := h.store.Migrate(context.Background(), settlement.Schema); err != nil {
			t.Fatal(err)
		}
		h.do(func(tx *db.Tx) error { return settlement.SetFunding(tx, money.Fen(1_000_000_00)) })
		h.shop("wok", func(t *settlement.Terms) { prompt(t); t.Holidays = true })
		limit := func(what string, want int64, lines int) settlement.Offer {
			t.Helper()
			o := h.offer("wok")
			if o.Limit.Most.Minor() != want || len(o.Limit.Lines) != lines {
				t.Errorf("%s: limit %s, want %d; %v", what, o.Limit.Most, want, o.Limit.Lines)
			}
			return o
		}
		limit("nothing is known: as agreed", 5000_00, 1)
		stand := func(s settlement.Standing) error {
			return h.store.Write(context.Background(), func(tx *db.Tx) error { return settlement.SetStanding(tx, "wok", s) })
		}
		for range 2 {
			if err := stand(settlement.Standing{Opened: day.AddDays(-200), Risk: "A"}); err != nil {
				t.Fatal(err)
			}
		}
		limit("nothing was sold", 0, 6)
		h.sale("s0", "wok", 45_000_00)
		h.back("r0", "wok", "refund", 900_00, 45_000_00)
		limit("today's sales do not count", 0, 6)
		h.morning(day)
		h.at(day.AddDays(1), 12*time.Hour)
		limit("500.00 on an average day of 90", 1000_00, 6)
		h.sale("s1", "wok", 700_00)
		if _, err := h.payNow("wok", limit("before it is used", 1000_00, 6)); err != nil {
			t.Fatal(err)
		}
		h.sale("s2", "wok", 700_00)
		if o := limit("what is left of it", 1000_00, 6); o.Left.Minor() != 300_00 || o.Amount.Add(o.Advance).Minor() != 300_00 {
			t.Errorf("%s left, %s and %s offered", o.Left, o.Amount, o.Advance)
		}
		h.back("c1", "wok", settlement.Chargeback, 100_00, 700_00)
		limit("a chargeback counts when its day is closed", 1000_00, 6)
		h.morning(day.AddDays(1))
		h.at(day.AddDays(2), 12*time.Hour)
		limit("0.22 % came back", 721_77, 6) // 46,400 in 90 days: 515.55 a day; twice that times 0.7
		if err := stand(settlement.Standing{Opened: day.AddDays(-200), Risk: "D"}); err != nil {
			t.Fatal(err)
		}
		h.sale("s3", "wok", 10_00)
		if o := limit("under watch", 0, 6); !errors.Is(o.Refusal, settlement.ErrLimit) {
			t.Errorf("under watch: %v", o.Refusal)
		}
		for _, s := range []settlement.Standing{{Risk: "A"}, {Opened: day}, {Opened: day, Risk: "AAAAAAAAA"}} {
			if err := stand(s); !errors.Is(err, settlement.ErrTerms) {
				t.Errorf("%+v: %v", s, err)
			}
		}
		h.check()
	})
}
