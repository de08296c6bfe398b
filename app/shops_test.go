package app_test

import (
	"strings"
	"testing"
	"time"

	"koala/acquiring"
	"koala/app"
	"koala/city/street"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/spec/purse"
	"koala/tsm"
)

// card issues a card of any kind into a band, and loads it.
func (w *town) card(band, product string, fen int64) issuing.CardID {
	w.Helper()
	a := issuing.Application{Ref: product + ":" + band, Customer: w.who, Band: band, Product: product}
	var c issuing.Card
	if product == issuing.ECashCard {
		n, err := w.h.Bank.Number(ctx, product)
		w.must(err)
		a.PAN = &n
	}
	w.write(func(tx *db.Tx) (err error) { c, err = issuing.Open(tx, a); return err })
	w.order1(band, tsm.Request{Kind: tsm.Issue, Card: c.ID})
	if fen > 0 {
		w.order1(band, tsm.Request{Kind: tsm.TopUp, Card: c.ID, Amount: money.Fen(fen)})
	}
	return c.ID
}

// order1 places an order and lets the band carry it out.
func (w *town) order1(band string, r tsm.Request) tsm.Order {
	w.Helper()
	w.orders++
	r.Ref, r.Band, r.Customer = strings.Join([]string{string(r.Kind), band, string(rune('a' + w.orders))}, ":"), band, string(w.who)
	var o tsm.Order
	w.write(func(tx *db.Tx) (err error) { o, err = w.h.TSM.Place(tx, r); return err })
	w.must(w.street.RunAgent(ctx, band))
	if o = w.order(o.ID); o.State != tsm.Done {
		w.Fatalf("%s of %s is %s: %s", o.Kind, o.CardKind, o.State, o.Why)
	}
	return o
}

func (w *town) present(band, at string, wish street.Wish, end street.End) street.Visit {
	w.Helper()
	v, err := w.street.Present(ctx, band, at, wish, street.Options{})
	if err != nil || v.End != end {
		w.Fatalf("%s at %s: %s %q, %v", band, at, v.End, v.Words, err)
	}
	return v
}

func (w *town) handIn(at string) {
	w.Helper()
	_, err := w.street.HandIn(ctx, at)
	w.must(err)
}

func (w *town) has(what string, of map[ledger.AccountID]int64) {
	w.Helper()
	for id, fen := range of {
		b, err := w.h.Book.Balance(id)
		if err != nil || b.Posted.Minor() != fen {
			w.Errorf("%s: %s has %v, want %d: %v", what, id, b.Posted, fen, err)
		}
	}
	green(w.T, w.h)
}

// shopped is a town in which a band has paid at a till, eaten, opened a door and
// redeemed a coupon, all over the air and the devices' door.
func shopped(t *testing.T, cfg app.Config) (w *town, ecash, canteen issuing.CardID) {
	t.Helper()
	w = newTown(t, cfg)
	w.must(w.street.OpenShops(ctx))
	w.clock.Advance(5 * time.Hour) // noon
	w.must(w.street.GiveBand(ctx, string(w.who), "band-1"))
	ecash, canteen = w.card("band-1", issuing.ECashCard, 100_00), w.card("band-1", street.CanteenCard, 50_00)
	door := w.card("band-1", street.DoorCard, 0)
	w.card("band-1", street.BakeryCoupon, 0)
	w.write(func(tx *db.Tx) error {
		c, err := issuing.Get(tx, door)
		if err == nil {
			err = w.street.Admit(tx, c)
		}
		return err
	})
	w.present("band-1", "haolin.till", street.Wish{Fen: 12_50}, street.Paid)
	w.present("band-1", "kesi.canteen", street.Wish{Fen: 15_00}, street.Served)
	w.must(w.street.Refresh(ctx, "kesi.lobby"))
	w.present("band-1", "kesi.lobby", street.Wish{}, street.Passed)
	w.present("band-1", "maixiao.coupon", street.Wish{Fen: 60_00}, street.Redeemed)
	return w, ecash, canteen
}

// TestShops: what a band did at shops is handed in, booked once, settled the
// next day, and the books prove it.
func TestShops(t *testing.T) {
	each(t, func(t *testing.T, cfg app.Config) {
		w, ecash, canteen := shopped(t, cfg)
		for range 2 {
			for _, at := range []string{"haolin.till", "kesi.canteen", "kesi.lobby", "maixiao.coupon"} {
				w.handIn(at)
			}
		}
		w.has("handed in", map[ledger.AccountID]int64{issuing.Float(ecash): 87_50, settlement.Payable("shop_haolin"): 12_50})
		w.read(func(q *db.Query) error {
			meals, err := acquiring.Meals(q, acquiring.Filter{Card: canteen, Limit: 5})
			if len(meals) != 1 || meals[0].Fate() != acquiring.Booked || meals[0].Fen+meals[0].Subsidy != 15_00 {
				t.Errorf("%+v", meals)
			}
			earned, err2 := acquiring.Earned(q)
			if earned["shop_kesi"] != 15_00 || earned["shop_maixiao"] <= 0 {
				t.Errorf("%v", earned)
			}
			odd, err3 := acquiring.OddOnes(q, "", 5)
			if len(odd) != 0 {
				t.Errorf("%+v", odd)
			}
			for _, err := range []error{err, err2, err3} {
				if err != nil {
					return err
				}
			}
			return nil
		})
		w.clock.Advance(24 * time.Hour)
		w.must(w.h.Tick(ctx))
		w.has("settled", map[ledger.AccountID]int64{settlement.Payable("shop_haolin"): 0, settlement.Payable("shop_kesi"): 0, issuing.Float(ecash): 87_50})
	})
}

// TestBlockedCardPaysNowhere: from the order on tills, canteens and doors refuse
// the card with their next pack, and take it again once it is unblocked.
func TestBlockedCardPaysNowhere(t *testing.T) {
	w, ecash, canteen := shopped(t, config(t))
	for _, tt := range []struct {
		card issuing.CardID
		at   string
		wish street.Wish
		end  street.End
	}{{ecash, "haolin.till", street.Wish{Fen: 1_00}, street.Paid}, {canteen, "kesi.canteen", street.Wish{Fen: 1_00}, street.Served}} {
		place := func(kind tsm.Kind) {
			w.write(func(tx *db.Tx) error {
				_, err := w.h.TSM.Place(tx, tsm.Request{Ref: string(kind) + tt.at, Kind: kind, Band: "band-1", Card: tt.card, Customer: string(w.who)})
				return err
			})
			w.must(w.street.Refresh(ctx, tt.at))
		}
		place(tsm.Block)
		w.present("band-1", tt.at, tt.wish, street.Refused)
		w.must(w.street.RunAgent(ctx, "band-1"))
		place(tsm.Unblock)
		w.must(w.street.RunAgent(ctx, "band-1"))
		w.must(w.street.Refresh(ctx, tt.at))
		w.present("band-1", tt.at, tt.wish, tt.end)
		w.read(func(q *db.Query) error {
			list, err := issuing.Refusals(q, 0, 100)
			if n := len(list); n < 2 || list[n-1].Reason != purse.Allowed || list[n-1].Card != tt.card {
				t.Errorf("%+v", list)
			}
			return err
		})
	}
	w.handIn("haolin.till")
	w.handIn("kesi.canteen")
	green(t, w.h)
}

// TestVerifyFindsWhatShopsLack: each row changes the store behind the house's
// back; the proof fails and says where.
func TestVerifyFindsWhatShopsLack(t *testing.T) {
	for _, tt := range []struct{ name, sql, where string }{
		{"a payment's amount", `UPDATE acquiring_movement SET fen = fen + 1`, "shop shop_haolin"},
		{"a meal gone", `DELETE FROM acquiring_meal`, "shop shop_kesi"},
		{"a capture gone", `DELETE FROM settlement_item WHERE payee = 'shop_maixiao'`, "payee "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, _, _ := shopped(t, config(t))
			for _, at := range []string{"haolin.till", "kesi.canteen", "maixiao.coupon"} {
				w.handIn(at)
			}
			green(t, w.h)
			w.write(func(tx *db.Tx) error { return changes(tx, tt.sql) })
			found(t, w.h, tt.where)
		})
	}
}
