package desk

import (
	"testing"
	"time"

	"koala/acquiring"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/issuing"
	"koala/ledger"
	"koala/merchant"
	"koala/settlement"
	"koala/spec/coupon"
	"koala/spec/desfire"
	"koala/spec/pboc"
	"koala/web"
	"koala/web/wearer"
)

// TestUsesInWords: what a device handed in, as its wearer reads it.
func TestUsesInWords(t *testing.T) {
	ctx := t.Context()
	store, err := db.Open(ctx, db.Config{URL: dbtest.File(t), Clock: clock.NewVirtual(time.Date(2015, 9, 16, 4, 0, 0, 0, time.UTC)), Rand: clock.Random(7), Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	book, err := ledger.Open(ctx, store, ledger.Config{Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { book.Close(); store.Close() })
	if err := store.Migrate(ctx, settlement.Schema, merchant.Schema, issuing.Schema, acquiring.Schema); err != nil {
		t.Fatal(err)
	}
	shop := acquiring.Shop{ID: "shop_tea", NameEN: "Tea House", NameZH: "茶铺", MCC: "5814", City: "Beijing"}
	site := acquiring.Site{ID: "site_hq", Number: 7, Owner: "cust_own", NameEN: "Headquarters", NameZH: "总部"}
	door := acquiring.Device{TID: "D0000001", Kind: acquiring.Door, Site: "site_hq", PlaceEN: "main door", PlaceZH: "大门"}
	err = store.Write(ctx, func(tx *db.Tx) error {
		if err := acquiring.AddShop(tx, shop); err != nil {
			return err
		}
		if err := acquiring.AddSite(tx, site); err != nil {
			return err
		}
		return acquiring.AddDevice(tx, door)
	})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2015, 9, 16, 3, 0, 0, 0, time.UTC)
	sale := acquiring.Sale{ID: "sale_1", Shop: "shop_tea", Kind: pboc.ClearSale, Card: "card_1", Fen: 12_50, At: at, Got: at.Add(time.Minute), Fate: acquiring.Booked}
	with := func(f func(*acquiring.Sale)) acquiring.Sale { s := sale; f(&s); return s }
	use := func(q db.Reader, x any) (wearer.Use, error) {
		switch x := x.(type) {
		case acquiring.Sale:
			return saleUse(q, x)
		case acquiring.Meal:
			return mealUse(q, x)
		case acquiring.Redemption:
			return redemptionUse(q, x, "card_3")
		default:
			return passageUse(q, x.(acquiring.Passage))
		}
	}
	for _, tt := range []struct {
		name    string
		in      any
		fen     int64
		where   string
		what    string
		state   string
		waiting bool
	}{
		{"paid offline", sale, 12_50, "Tea House", "paid offline", "cleared", false},
		{"paid online", with(func(s *acquiring.Sale) { s.Kind = pboc.ClearOnline }), 12_50, "Tea House", "paid online", "cleared", false},
		{"taken back", with(func(s *acquiring.Sale) { s.Kind = pboc.ClearRefund }), -12_50, "Tea House", "money back", "cleared", false},
		{"in suspense", with(func(s *acquiring.Sale) { s.Fate, s.Why = acquiring.Suspense, acquiring.WhyShort }), 12_50, "Tea House", "paid offline",
			acquiring.Suspense.Words(false) + ": " + acquiring.WhyShort.Words(false), true},
		{"a clock nobody can read", with(func(s *acquiring.Sale) { s.At = time.Time{} }), 12_50, "Tea House", "paid offline", "cleared", false},
		{"a shop nobody knows", with(func(s *acquiring.Sale) { s.Shop = "gone" }), 12_50, "gone", "paid offline", "cleared", false},
		{"meal", acquiring.Meal{ID: "meal_1", Shop: "shop_tea", Kind: desfire.Purchase, Fen: 9_00, Subsidy: 3_00, At: at, CardDone: true, FirmDone: true}, 9_00, "Tea House",
			"meal, ¥3.00 by your employer", acquiring.Booked.Words(false), false},
		{"meal back", acquiring.Meal{ID: "meal_2", Shop: "shop_tea", Kind: desfire.Refund, Fen: 9_00, At: at, CardDone: true, FirmDone: true}, -9_00, "Tea House", "money back", acquiring.Booked.Words(false), false},
		{"redeemed", acquiring.Redemption{ID: "rdm_1", Shop: "shop_tea", Op: coupon.Redeem, Reduction: 5_00, At: at, Done: true}, 0, "Tea House", "¥5.00 off", acquiring.Booked.Words(false), false},
		{"stamped", acquiring.Redemption{ID: "rdm_2", Shop: "shop_tea", Op: coupon.GiveStamp, At: at, Done: true}, 0, "Tea House", coupon.GiveStamp.Words(false), acquiring.Booked.Words(false), false},
		{"passed", acquiring.Passage{ID: "psg_1", TID: "D0000001", Site: "site_hq", At: at, Opened: true}, 0, "main door", "Headquarters", "opened", false},
		{"turned away", acquiring.Passage{ID: "psg_2", TID: "D0000001", Site: "site_hq", At: at}, 0, "main door", "Headquarters", "stayed shut", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := store.Read(ctx, func(q *db.Query) error {
				u, err := use(q, tt.in)
				if u.Fen != tt.fen || u.Where.EN != tt.where || u.What.EN != tt.what || u.State.EN != tt.state || u.Waiting != tt.waiting || u.At.IsZero() {
					t.Errorf("%+v", u)
				}
				for _, text := range []web.Text{u.Where, u.What, u.State} {
					if text.ZH == "" {
						t.Errorf("only in English: %+v", text)
					}
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestGives(t *testing.T) {
	for want, d := range map[string]issuing.CouponData{
		"¥5.00 off":                         {Gives: "amount", Value: 500},
		"12.5% off":                         {Gives: "percent", Value: 1250},
		"20% off":                           {Gives: "percent", Value: 2000},
		"10% off from ¥20.00":               {Gives: "percent", Value: 1000, Minimum: 2000},
		"one free for 8 stamps":             {Gives: "stamps", Needed: 8},
		"one free for 8 stamps from ¥10.00": {Gives: "stamps", Needed: 8, Minimum: 1000},
		"one for free":                      {Gives: "thing"},
	} {
		if got := gives(d); got.EN != want || got.ZH == "" {
			t.Errorf("%+v gives %+v, want %q", d, got, want)
		}
	}
}

func TestCatalog(t *testing.T) {
	for _, flaw := range web.Flaws(words) {
		t.Error(flaw)
	}
}
