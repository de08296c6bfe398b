package settlement_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/settlement/fee"
)

// shop is a payee whose day is the shops'; mod changes its terms.
func (h *house) shop(id string, mod func(*settlement.Terms)) {
	h.t.Helper()
	t := settlement.Terms{Payee: id, Since: calendar.Of(h.now.Now(), calendar.Beijing), Category: fee.Dining, CutOff: settlement.ShopCutOff, Holidays: true}
	if mod != nil {
		mod(&t)
	}
	h.do(func(tx *db.Tx) error {
		return errors.Join(settlement.Join(tx, id, id), settlement.SetTerms(tx, t))
	})
}

// sell books and captures an item as a switch does.
func (h *house) sell(i settlement.Item) error {
	return h.store.Write(context.Background(), func(tx *db.Tx) error {
		if _, err := ledger.Post(tx, ledger.Move(i.Ref, source, settlement.Payable(i.Payee), i.Amount)); err != nil {
			return err
		}
		return settlement.Capture(tx, i)
	})
}

func (h *house) sale(ref, shop string, fen int64) {
	h.t.Helper()
	if err := h.sell(settlement.Item{Ref: ref, Payee: shop, Amount: money.Fen(fen), Kind: "sale", Card: fee.Credit}); err != nil {
		h.t.Fatal(err)
	}
}

// back takes fen of a sale of which so much was left.
func (h *house) back(ref, shop, kind string, fen, left int64) {
	h.t.Helper()
	if err := h.sell(settlement.Item{Ref: ref, Payee: shop, Amount: money.Fen(-fen), Kind: kind, Card: fee.Credit, Remains: money.Fen(left)}); err != nil {
		h.t.Fatal(err)
	}
}

// morning runs the settlement of a day at 04:00 of the next.
func (h *house) morning(d calendar.Date) settlement.File {
	h.t.Helper()
	h.now.Set(d.AddDays(1).Start(calendar.Beijing).Add(settlement.CutOff))
	f, err := h.run(d)
	if err != nil {
		h.t.Fatal(err)
	}
	return f
}

// at turns the clock to an hour of a day.
func (h *house) at(d calendar.Date, hour time.Duration) {
	h.now.Set(d.Start(calendar.Beijing).Add(hour))
}

func (h *house) last(shop string) settlement.Payout {
	h.t.Helper()
	var all []settlement.Payout
	h.do(func(tx *db.Tx) (err error) { all, err = settlement.Closings(tx, shop, "", 1); return err })
	if len(all) == 0 {
		h.t.Fatal("no closing of " + shop)
	}
	return all[0]
}

// explained sums the lines of a payout before the last, which says what is paid.
func explained(p settlement.Payout) (sum, paid int64) {
	lines := p.Explain()
	for _, l := range lines[:len(lines)-1] {
		sum += l.Fen.Minor()
	}
	return sum, lines[len(lines)-1].Fen.Minor()
}

// want compares a shop's last closing.
func (h *house) want(what, shop string, paid, fees, kept int64) settlement.Payout {
	h.t.Helper()
	p := h.last(shop)
	if p.Amount.Minor() != paid || p.Fee.Fee != fees || p.Kept.Minor() != kept {
		h.t.Errorf("%s: paid %s, fees %d, kept %s; want %d, %d, %d", what, p.Amount, p.Fee.Fee, p.Kept, paid, fees, kept)
	}
	if sum, said := explained(p); sum != said || said != paid {
		h.t.Errorf("%s: lines %v sum to %d, paid %d", what, p.Explain(), sum, said)
	}
	return p
}

// TestShopsDays follows one restaurant from day to day in 2015: 1.25 % of each
// sale.
func TestShopsDays(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		h.shop("wok", nil)
		h.sale("s1", "wok", 100_00)
		h.at(day, 23*time.Hour) // the shop's day is over: this is tomorrow's
		h.sale("s2", "wok", 200_00)
		f := h.morning(day)
		if !f.Closed() || !strings.HasSuffix(string(f.CSV), "total,,,1,9875\n") {
			t.Errorf("file:\n%s", f.CSV)
		}
		h.want("first day", "wok", 98_75, 1_25, 0)
		for account, want := range map[ledger.AccountID]int64{settlement.OwnIssuer: 90, settlement.Network: 13, settlement.Acquirer: 22} {
			if got := h.posted(account); got != want {
				t.Errorf("%s holds %d, want %d", account, got, want)
			}
		}
		d := day.AddDays(1)
		h.back("r1", "wok", "refund", 100_00, 100_00) // of the day before: its fee comes back
		h.back("c1", "wok", settlement.Chargeback, 150_00, 200_00)
		h.morning(d) // 200.00 - 100.00 - 150.00 - (2.50 - 1.25 - 1.87)
		h.want("below zero", "wok", 0, -62, -49_38)
		h.sale("s3", "wok", 49_00)
		h.morning(d.AddDays(1))
		h.want("still below", "wok", 0, 61, -99)
		h.sale("s4", "wok", 100_00)
		h.morning(d.AddDays(2))
		p := h.want("recovered", "wok", 97_76, 1_25, 0)
		if p.Brought.Minor() != -99 {
			t.Errorf("recovered %s", p.Brought)
		}
		h.check()
	})
}

func (h *house) posted(id ledger.AccountID) (fen int64) {
	h.t.Helper()
	h.do(func(tx *db.Tx) error {
		b, err := ledger.BalanceOf(tx, id)
		fen = b.Posted.Minor()
		return err
	})
	return fen
}

// TestRulesChange: a sale and its refund are priced by the rules of the sale's
// day, also when they are settled under the next ones.
func TestRulesChange(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	d := calendar.Date{Year: 2016, Month: time.September, Day: 5}
	h.at(d, 12*time.Hour)
	h.shop("wok", nil)
	sold := h.now.Now()
	h.sale("s1", "wok", 1000_00)
	h.morning(d)
	h.want("2013", "wok", 987_50, 12_50, 0)
	h.sale("s2", "wok", 1000_00)
	h.morning(d.AddDays(1))
	h.want("2016", "wok", 994_00, 6_00, 0)
	i := settlement.Item{Ref: "r1", Payee: "wok", Amount: money.Fen(-1000_00), Kind: "refund", Card: fee.Credit, SaleAt: sold}
	if err := h.sell(i); err != nil {
		t.Fatal(err)
	}
	h.morning(d.AddDays(2))
	h.want("refund", "wok", 0, -12_50, -987_50)
	h.check()
}

// TestWrongClock: a terminal's clock neither stops a run nor makes a sale free.
func TestWrongClock(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	h.shop("wok", nil)
	for i, at := range []time.Time{time.Unix(86400, 0), noon.AddDate(5, 0, 0)} {
		if err := h.sell(settlement.Item{Ref: fmt.Sprint("s", i), Payee: "wok", Amount: money.Fen(100_00), Kind: "sale", Card: fee.Credit, At: at}); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.sell(settlement.Item{Ref: "foreign", Payee: "wok", Amount: money.Fen(100_00), Card: fee.Credit, Issuer: "nobank"}); err != nil {
		t.Fatal(err) // its account is opened with it
	}
	h.morning(day)
	h.want("all by the rules of today", "wok", 296_25, 3_75, 0)
	h.check()
}

// TestNoAccount: what could not be booked is not captured.
func TestNoAccount(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	h.shop("wok", nil)
	for _, i := range []settlement.Item{
		{Ref: "s2", Payee: "nobody", Amount: money.Fen(1)},
		{Ref: "s3", Payee: "wok", Amount: money.Fen(1), Card: "gold"},
		{Ref: "s4", Payee: "wok", Amount: money.Fen(1), Remains: money.Fen(1)},
		{Ref: "s5", Payee: "wok", Amount: money.Fen(-2), Remains: money.Fen(1)},
	} {
		err := h.store.Write(context.Background(), func(tx *db.Tx) error { return settlement.Capture(tx, i) })
		if !errors.Is(err, ledger.ErrNoAccount) && !errors.Is(err, settlement.ErrItem) {
			t.Errorf("%s: %v", i.Ref, err)
		}
	}
}

func TestTermsOfPayouts(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	h.shop("least", func(t *settlement.Terms) { t.Category, t.Least = "", money.Fen(50_00) })
	h.shop("weekdays", func(t *settlement.Terms) { t.Category, t.Holidays = "", false })
	h.shop("night", func(t *settlement.Terms) { t.Category, t.CutOff = "", settlement.NightCutOff })
	h.shop("reserve", func(t *settlement.Terms) { t.Category, t.ReserveBP, t.ReserveDays = "", 1000, 3 })
	for _, s := range []string{"least", "weekdays", "night", "reserve"} {
		h.sale("a:"+s, s, 30_00)
	}
	if f := h.morning(day); f.Closed() {
		t.Error("the file is closed while the night shop's day goes on")
	}
	h.sale("b:night", "night", 5_00) // 04:00: still its day
	h.at(day.AddDays(1), 5*time.Hour)
	f, err := h.run(day)
	if err != nil || !f.Closed() || !strings.HasSuffix(string(f.CSV), "total,,,3,9200\n") {
		t.Errorf("night: %v\n%s", err, f.CSV)
	}
	h.want("below the minimum", "least", 0, 0, 30_00)
	h.want("night", "night", 35_00, 0, 0)
	h.want("reserve", "reserve", 27_00, 0, 0)
	h.sale("b:least", "least", 30_00)
	// 16 Sept 2015 was a Wednesday; Friday's, Saturday's and Sunday's sales are Monday's money.
	for d := day.AddDays(1); d.Before(day.AddDays(5)); d = d.AddDays(1) {
		h.sale("c:"+d.String(), "weekdays", 10_00)
		h.now.Set(d.AddDays(1).Start(calendar.Beijing).Add(5 * time.Hour))
		if _, err := h.run(d); err != nil {
			t.Fatal(err)
		}
	}
	h.want("carried over", "least", 60_00, 0, 0)
	if p := h.want("weekend", "weekdays", 30_00, 0, 0); p.Arrives.String() != "2015-09-21" || p.Count != 3 {
		t.Errorf("%d sales arrive on %s", p.Count, p.Arrives)
	}
	h.want("reserve back", "reserve", 3_00, 0, 0)
	h.check()
}

// TestTermsAreDated: terms cannot reach back behind what was settled.
func TestTermsAreDated(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	h.shop("wok", nil)
	h.sale("s1", "wok", 100_00)
	h.morning(day)
	for _, tt := range []struct {
		name string
		mod  func(*settlement.Terms)
		want error
	}{
		{"a settled day", func(t *settlement.Terms) { t.Since = day }, settlement.ErrTerms},
		{"the next day", func(t *settlement.Terms) { t.Since = day.AddDays(1) }, nil},
		{"no such category", func(t *settlement.Terms) { t.Category = "arms" }, settlement.ErrTerms},
		{"no such price", func(t *settlement.Terms) { t.Price = "cheap" }, settlement.ErrTerms},
		{"a day of two days", func(t *settlement.Terms) { t.CutOff = 48 * time.Hour }, settlement.ErrTerms},
		{"a reserve for ever", func(t *settlement.Terms) { t.ReserveBP = 100 }, settlement.ErrTerms},
		{"at once without a promise", func(t *settlement.Terms) { t.Once.Agreed = true }, settlement.ErrTerms},
		{"nobody", func(t *settlement.Terms) { t.Payee = "nobody" }, settlement.ErrNoPayee},
	} {
		terms := settlement.Terms{Payee: "wok", Since: day.AddDays(3), Category: fee.Living, CutOff: settlement.ShopCutOff}
		tt.mod(&terms)
		err := h.store.Write(context.Background(), func(tx *db.Tx) error { return settlement.SetTerms(tx, terms) })
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	h.sale("s2", "wok", 100_00)
	h.morning(day.AddDays(1))
	h.want("cheaper", "wok", 99_62, 38, 0)
	h.check()
}

func TestHolds(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	h.shop("wok", func(t *settlement.Terms) { t.Category = "" })
	hold := func(id string, fen int64) error {
		return h.store.Write(context.Background(), func(tx *db.Tx) error {
			_, err := settlement.PutHold(tx, settlement.Hold{ID: id, Payee: "wok", Reason: settlement.ForDispute, Amount: money.Fen(fen)})
			return err
		})
	}
	release := func(id string) error {
		return h.store.Write(context.Background(), func(tx *db.Tx) error { return settlement.Release(tx, id) })
	}
	for _, tt := range []struct {
		name string
		err  error
		want error
	}{
		{"an amount", hold("h1", 40_00), nil},
		{"the same again", hold("h1", 40_00), nil},
		{"another amount", hold("h1", 41_00), settlement.ErrDiffers},
		{"everything", hold("h2", 0), nil},
		{"not there", release("h3"), settlement.ErrHold},
	} {
		if !errors.Is(tt.err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, tt.err, tt.want)
		}
	}
	h.sale("s1", "wok", 100_00)
	h.morning(day)
	h.want("stopped", "wok", 0, 0, 100_00)
	if err := errors.Join(release("h2")); err != nil {
		t.Fatal(err)
	}
	if err := release("h2"); !errors.Is(err, settlement.ErrHold) {
		t.Errorf("released twice: %v", err)
	}
	h.morning(day.AddDays(1))
	h.want("the rest", "wok", 60_00, 0, 40_00)
	if err := release("h1"); err != nil {
		t.Fatal(err)
	}
	h.morning(day.AddDays(2))
	h.want("all", "wok", 40_00, 0, 0)
	h.check()
}

// TestReturned: what the bank sends back is the payee's again, and paid once
// its account is mended.
func TestReturned(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	h.shop("wok", nil)
	h.sale("s1", "wok", 100_00)
	h.morning(day)
	id := h.last("wok").ID
	for range 2 {
		h.do(func(tx *db.Tx) error { return settlement.Return(tx, id, "account closed") })
	}
	h.check()
	if err := h.store.Write(context.Background(), func(tx *db.Tx) error { return settlement.Confirm(tx, id) }); !errors.Is(err, settlement.ErrState) {
		t.Errorf("confirming what came back: %v", err)
	}
	h.sale("s2", "wok", 10_00)
	h.morning(day.AddDays(1))
	h.want("waits", "wok", 0, 13, 108_62)
	h.do(func(tx *db.Tx) error {
		return settlement.SetAccount(tx, "wok", settlement.BankAccount{Bank: "bank of tests", Masked: "6222 **** 0001", Sealed: []byte{1}})
	})
	h.morning(day.AddDays(2))
	h.want("mended", "wok", 108_62, 0, 0)
	if err := settlement.ConfirmDay(context.Background(), h.store, day.AddDays(2)); err != nil {
		t.Fatal(err)
	}
	if p := h.last("wok"); p.State != settlement.Confirmed || p.Answered.IsZero() {
		t.Errorf("payout is %s", p.State)
	}
	h.do(func(tx *db.Tx) error {
		paid, err := settlement.Paid(tx, "wok")
		charged, err2 := settlement.Charged(tx, "wok")
		if paid.Minor()+charged.Minor() != 110_00 {
			t.Errorf("paid %s, charged %s", paid, charged)
		}
		return errors.Join(err, err2)
	})
	h.check()
}

func TestSplit(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	for _, s := range []string{"market", "stall", "rider"} {
		h.shop(s, nil)
	}
	split := settlement.Split{Shares: []settlement.Share{{Payee: "rider", Fixed: money.Fen(5_00)}, {Payee: "market", BP: 1000}, {Payee: "stall", BP: 9000}}}
	sale := settlement.Item{Ref: "s1", Payee: "market", Amount: money.Fen(100_01), Kind: "sale", Card: fee.Credit}
	borne := split
	borne.Bearer = "market"
	one := sale
	one.Ref = "s2"
	h.do(func(tx *db.Tx) error {
		for _, x := range []struct {
			i settlement.Item
			s settlement.Split
		}{{sale, split}, {one, borne}} {
			if _, err := ledger.Post(tx, ledger.Move(x.i.Ref, source, settlement.Payable("market"), x.i.Amount)); err != nil {
				return err
			}
			if _, err := settlement.CaptureSplit(tx, x.i, x.s); err != nil {
				return err
			}
		}
		return nil
	})
	h.check()
	h.morning(day) // 9.50 and 85.51 besides the rider's 5.00, twice; each sale's fee is 1.25
	h.want("rider", "rider", 9_94, 6, 0)
	h.want("market", "market", 17_63, 1_37, 0)
	h.want("stall", "stall", 169_95, 1_07, 0)
	left, err := split.Divide(sale.Amount)
	if err != nil {
		t.Fatal(err)
	}
	for i, fen := range []int64{33_33, 66_68} { // all of it, in two parts
		h.do(func(tx *db.Tx) error {
			r := settlement.Item{Ref: fmt.Sprint("r", i), Payee: "market", Amount: money.Fen(-fen), Kind: "refund", Card: fee.Credit}
			if _, err := ledger.Post(tx, ledger.Move(r.Ref, source, settlement.Payable("market"), r.Amount)); err != nil {
				return err
			}
			parts, err := settlement.RefundSplit(tx, r, left, split)
			for k, p := range parts {
				left[k] = left[k].Add(p.Amount)
			}
			return err
		})
	}
	for i, n := range left {
		if !n.IsZero() {
			t.Errorf("share %d has %s left", i, n)
		}
	}
	h.morning(day.AddDays(1))
	back := int64(0)
	for _, s := range []string{"rider", "market", "stall"} {
		back += h.last(s).Fee.Fee
	}
	if back != -1_25 {
		t.Errorf("%d of fees given back, want 1.25", back)
	}
	h.check()
	for _, bad := range []settlement.Split{
		{}, {Shares: []settlement.Share{{Payee: "a", BP: 9999}}}, {Shares: []settlement.Share{{Payee: "a", BP: 10_000}}, Bearer: "b"},
		{Shares: []settlement.Share{{Payee: "a", Fixed: money.Fen(200_00)}}}, {Shares: []settlement.Share{{Payee: "a", BP: 1, Fixed: money.Fen(1)}}},
	} {
		if _, err := bad.Divide(sale.Amount); !errors.Is(err, settlement.ErrSplit) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}
