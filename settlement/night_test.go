package settlement_test

import (
	"testing"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/money"
	"koala/settlement"
	"koala/settlement/fee"
)

// parts is a fee with those of issuer, network and acquirer.
func parts(whole, issuer, network, acquirer int64) fee.Parts {
	return fee.Parts{Fee: whole, Issuer: issuer, Network: network, Acquirer: acquirer}
}

// TestNightOfSixthSeptember: closings whose items lie on both sides of the
// midnight between 5 and 6 September 2016, with refunds of sales from before. Night
// shops close both days' rules with 5 September, at 05:00; a shop whose day ends at
// 23:00 has its last hour under the old rules with 6 September. All fen by hand:
//
//	           before: 1,000.00 credit   20,000.00 debit            after: the same two
//	dining     12.50 = 9.00/1.30/2.20    250.00 = 180.00/26.00/44.00   6.00 = 4.18/0.65/1.17   20.00 = 9.75/6.50/3.75
//	wholesale   7.80 = 5.50/0.80/1.50     26.00 = 18.33/2.67/5.00      as dining
//	living      3.80 = 2.60/0.40/0.80     76.00 = 52.00/8.00/16.00     6.00 = 3.26/0.51/2.23   20.00 = 7.61/5.07/7.32
//
//	400.00 back of the credit sale before: its fee less that of 600.00
//	           5.00 = 3.60/0.52/0.88     3.12 = 2.20/0.32/0.60         1.52 = 1.04/0.16/0.32
//	500.00 back of the credit sale after: its fee less that of 500.00, 3.00 = 2.09/0.32/0.59, living 1.63/0.25/1.12
//	           3.00 = 2.09/0.33/0.58     as dining                     3.00 = 1.63/0.26/1.11
//	all of the debit sale before back, at the wholesaler: 26.00 = 18.33/2.67/5.00
func TestNightOfSixthSeptember(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		fifth := calendar.Date{Year: 2016, Month: time.September, Day: 5}
		midnight := fifth.AddDays(1).Start(calendar.Beijing)
		h.at(fifth, 12*time.Hour)
		shops := []struct {
			id    string
			cat   fee.Category
			cut   time.Duration
			day   calendar.Date // whose closing has it all
			whole bool          // the debit sale from before comes back
			fees  fee.Parts     // of that closing
			net   int64         // gross less refunds
			rest  fee.Parts     // the day after, when the other 600.00 come back
		}{
			{"dining", fee.Dining, settlement.NightCutOff, fifth, false, parts(28050, 19724, 3360, 4966), 42_000_00 - 900_00, parts(-750, -540, -78, -132)},
			{"wholesale", fee.Wholesale, settlement.ShopCutOff, fifth.AddDays(1), true, parts(2768, 1514, 730, 524), 22_000_00 - 900_00, parts(-468, -330, -48, -90)},
			{"living", fee.Living, settlement.NightCutOff, fifth, false, parts(10128, 6280, 1356, 2492), 42_000_00 - 900_00, parts(-228, -156, -24, -48)},
		}
		for _, s := range shops {
			h.shop(s.id, func(t *settlement.Terms) { t.Category, t.CutOff = s.cat, s.cut })
		}
		before, after := midnight.Add(-time.Microsecond), midnight
		sell := func(ref, shop string, fen int64, class fee.Class) {
			t.Helper()
			if err := h.sell(settlement.Item{Ref: ref + ":" + shop, Payee: shop, Amount: money.Fen(fen), Kind: "sale", Card: class, At: h.now.Now()}); err != nil {
				t.Fatal(err)
			}
		}
		undo := func(ref, shop string, fen, left int64, class fee.Class, sold time.Time) {
			t.Helper()
			if err := h.sell(settlement.Item{Ref: ref + ":" + shop, Payee: shop, Amount: money.Fen(-fen), Kind: "refund", Card: class, At: h.now.Now(),
				SaleAt: sold, Remains: money.Fen(left)}); err != nil {
				t.Fatal(err)
			}
		}
		h.now.Set(before)
		for _, s := range shops {
			sell("before:credit", s.id, 1_000_00, fee.Credit)
			sell("before:debit", s.id, 20_000_00, fee.Debit)
		}
		h.now.Set(after)
		for _, s := range shops {
			sell("after:credit", s.id, 1_000_00, fee.Credit)
			sell("after:debit", s.id, 20_000_00, fee.Debit)
		}
		h.now.Set(midnight.Add(time.Hour))
		for _, s := range shops {
			undo("r1", s.id, 400_00, 1_000_00, fee.Credit, before)
			undo("r2", s.id, 500_00, 1_000_00, fee.Credit, after)
			if s.whole {
				undo("r3", s.id, 20_000_00, 20_000_00, fee.Debit, before)
			}
		}
		closings := func(day calendar.Date) {
			t.Helper()
			h.at(day.AddDays(1), 5*time.Hour)
			if _, err := h.run(day); err != nil {
				t.Fatal(err)
			}
		}
		closings(fifth)
		closings(fifth.AddDays(1))
		for _, s := range shops {
			p := h.last(s.id)
			if p.Day != s.day || p.Fee != s.fees || p.Amount.Minor() != s.net-s.fees.Fee {
				t.Errorf("%s: closed with %s, fees %v, paid %s; want %s, %v, %d", s.id, p.Day, p.Fee, p.Amount, s.day, s.fees, s.net-s.fees.Fee)
			}
			undo("r4", s.id, 600_00, 600_00, fee.Credit, before)
		}
		closings(fifth.AddDays(2))
		for _, s := range shops {
			if p := h.last(s.id); p.Fee != s.rest || p.Kept.Minor() != -600_00-s.rest.Fee {
				t.Errorf("%s: the rest gives %v back, and %s is kept; want %v", s.id, p.Fee, p.Kept, s.rest)
			}
		}
		h.check()
	})
}
