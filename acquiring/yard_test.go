package acquiring_test

import (
	"encoding/hex"
	"errors"
	"flag"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/acquiring"
	"koala/card"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/spec/coupon"
	"koala/spec/desfire"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/purse"
	"koala/terminal"
	"koala/terminal/canteen"
	couponDesk "koala/terminal/coupon"
	"koala/terminal/door"
)

func (h *house) eater(fen int32) *chip {
	h.t.Helper()
	k := h.issue(h.product(issuing.Canteen, "lunch", issuing.CanteenData{Site: yard}))
	if fen > 0 {
		k.feed(fen)
	}
	return k
}

// TestLunch: the card pays its part, the employer his, a refund gives both back,
// and the same batch again changes nothing.
func TestLunch(t *testing.T) {
	h := newHouse(t)
	c, k := h.counter(), h.eater(50_00)
	if o := c.sell(k, lunch); o.Result != canteen.Served || o.Fen != 7_51 {
		t.Fatalf("%+v", o)
	}
	c.sell(k, canteen.Order{Fen: 2_00})
	b := c.batch()
	equal(t, "batch", fates(h.eat(b)), "booked", "booked")
	h.want("eaten", map[ledger.AccountID]int64{issuing.Float(k.id): 40_49, acquiring.Funding(employer): 992_50, settlement.Payable(kitchen): 17_01})
	equal(t, "again", fates(h.eat(b)), "known", "known")
	h.settle()
	h.want("settled", map[ledger.AccountID]int64{settlement.Payable(kitchen): 0, issuing.Float(k.id): 40_49})
	h.read(func(q *db.Query) error {
		list, err := acquiring.Meals(q, acquiring.Filter{Card: k.id, Limit: 5})
		if err != nil || len(list) != 2 || list[1].Subsidy != 7_50 || list[1].Shop != kitchen {
			t.Errorf("%+v", list)
		}
		c, err := issuing.Get(q, k.id)
		if c.Known.Balance.Minor() != 40_49 {
			t.Errorf("known %v", c.Known)
		}
		return err
	})
	tr, err := h.office.TraceOf(ctx, h.eat(b).Results[0].ID)
	if err != nil || len(tr.Message) == 0 || tr.Fate != acquiring.Booked {
		t.Errorf("%+v %v", tr, err)
	}
	for _, ref := range tr.Postings {
		h.do(func(tx *db.Tx) error { _, err := ledger.EntryOf(tx, ref); return err })
	}
}

// TestLunchGivenBack: whole and in part, before and after its purchase is known.
func TestLunchGivenBack(t *testing.T) {
	h := newHouse(t)
	c, k := h.counter(), h.eater(50_00)
	c.sell(k, lunch)
	if o := c.refund(k, 3_00); o.Result != canteen.Served {
		t.Fatalf("%+v", o)
	}
	b := c.batch()
	late := desfire.SaleBatch{Till: b.Till, First: b.First + 1, Sales: b.Sales[1:]}
	equal(t, "refund first", fates(h.eat(late)), "suspense no_purchase")
	h.want("refund first", map[ledger.AccountID]int64{issuing.Float(k.id): 50_00, settlement.Payable(kitchen): 0})
	equal(t, "then both", fates(h.eat(b)), "booked", "known")
	back := int64(7_50) * 3_00 / 7_51 // the employer's share of it
	want := map[ledger.AccountID]int64{issuing.Float(k.id): 45_49, acquiring.Funding(employer): 992_50 + back, settlement.Payable(kitchen): 15_01 - 3_00 - back}
	h.want("then both", want)
	equal(t, "again", fates(h.eat(b)), "known", "known")
	h.want("again", want)
}

// TestBadMeals: a wrong key, a sale of another till, a forked number, an unknown
// card, a card the books hold too little for, an employer who has not paid in.
func TestBadMeals(t *testing.T) {
	h := newHouse(t)
	c, k := h.counter(), h.eater(50_00)
	h.now.Advance(3 * time.Hour) // between meals: no subsidy
	c.sell(k, canteen.Order{Fen: 1_00})
	c.sell(k, canteen.Order{Fen: 2_00})
	b := c.batch()
	forged := b.Sales[0]
	forged.Fen, forged.After = 5_00, forged.Before-5_00
	other := forged.Sign(desfire.Till{9}.Key([16]byte{1}))
	elsewhere := b.Sales[1]
	elsewhere.Till = desfire.Till{9, 9, 9, 9}
	for i, s := range []desfire.Sale{forged, other, elsewhere} {
		want := []string{"odd mac", "odd mac", "odd other_device"}[i]
		got, err := h.office.CollectMeals(ctx, lunchTill, desfire.SaleBatch{Till: b.Till, First: uint32(20 + i), Sales: []desfire.Sale{s}})
		if err != nil || fates(got)[0] != want {
			t.Errorf("%d: %q %v", i, fates(got), err)
		}
	}
	h.want("nothing", map[ledger.AccountID]int64{issuing.Float(k.id): 50_00, settlement.Payable(kitchen): 0})
	delete(h.chips, k.id)
	equal(t, "unknown card", fates(h.eat(b)), "suspense unknown_card", "suspense unknown_card")
	h.chips[k.id] = k.uid
	h.must(h.office.Tick(ctx))
	h.want("known now", map[ledger.AccountID]int64{issuing.Float(k.id): 47_00, settlement.Payable(kitchen): 3_00})
}

// TestShortMeals: what float and employer cannot pay waits, each part by itself.
func TestShortMeals(t *testing.T) {
	h := newHouse(t)
	c, k := h.counter(), h.eater(50_00)
	poor := h.issue(employer + "/lunch")
	poor.feed(1_00)
	h.do(func(tx *db.Tx) error { // the card is loaded, the house does not know yet
		_, err := ledger.Post(tx, ledger.Move("unknown", issuing.Float(poor.id), ledger.AccountID("wallet.cust_lin"), money.Fen(1_00)))
		if err == nil {
			_, err = ledger.Post(tx, ledger.Move("poor", acquiring.Funding(employer), ledger.AccountID("bank.custody"), money.Fen(995_00)))
		}
		return err
	})
	c.sell(k, lunch)
	h.now.Advance(3 * time.Hour)
	c.sell(poor, canteen.Order{Fen: 1_00})
	b := c.batch()
	equal(t, "short", fates(h.eat(b)), "suspense firm_short", "suspense short")
	h.want("short", map[ledger.AccountID]int64{issuing.Float(k.id): 42_49, settlement.Payable(kitchen): 7_51, acquiring.Funding(employer): 5_00})
	poor.fund(1_00)
	h.do(func(tx *db.Tx) error { return acquiring.Fund(tx, "second", employer, money.Fen(10_00)) })
	h.must(h.office.Tick(ctx))
	h.want("paid", map[ledger.AccountID]int64{issuing.Float(poor.id): 0, settlement.Payable(kitchen): 16_01, acquiring.Funding(employer): 7_50})
	h.read(func(q *db.Query) error {
		list, err := acquiring.InSuspense(q, "", 10)
		if len(list) != 0 {
			t.Errorf("%+v", list)
		}
		return err
	})
}

// TestDeniedEater: a lost card is on the canteen's next menu, and off it again.
func TestDeniedEater(t *testing.T) {
	h := newHouse(t)
	c, k := h.counter(), h.eater(50_00)
	version := c.Menu().Version
	for i, r := range []purse.DenyReason{purse.DenyLost, purse.Allowed} {
		h.do(func(tx *db.Tx) error { return issuing.DenyCard(tx, k.id, r) })
		c.update()
		if o := c.sell(k, lunch); (o.Result == canteen.Served) != (r == purse.Allowed) || c.Menu().Version != version+uint32(i)+1 {
			t.Errorf("%d: %+v, menu %d", i, o, c.Menu().Version)
		}
	}
}

func (h *house) redeem(first uint32, list []coupon.Redemption) acquiring.Handed {
	h.t.Helper()
	got, err := h.office.CollectRedemptions(ctx, teaDesk, first, list)
	h.must(err)
	h.sound("redeemed")
	return got
}

// TestCoupon: redeemed at the desk, paid once by the firm that issued it;
// another's proof, another shop's and a firm without money are named.
func TestCoupon(t *testing.T) {
	h := newHouse(t)
	off := h.product(issuing.Coupon, "tea-5", issuing.CouponData{Merchant: tea, Gives: "amount", Value: 5_00, Uses: 3, Days: 30})
	d, k := h.desk(), h.issue(off)
	serve := func() {
		t.Helper()
		o, err := d.Serve(k.present(card.Contactless), couponDesk.Order{Op: coupon.Redeem, Fen: 20_00})
		if err != nil || o.Result != couponDesk.Redeemed {
			t.Fatalf("%+v %v", o, err)
		}
		k.e.PowerOff()
	}
	serve()
	serve()
	first, list, err := d.Batch(10)
	h.must(err)
	equal(t, "batch", fates(h.redeem(first, list)), "booked", "booked")
	want := map[ledger.AccountID]int64{acquiring.Funding(employer): 990_00, settlement.Payable(tea): 10_00}
	h.want("redeemed", want)
	equal(t, "again", fates(h.redeem(first, list)), "known", "known")
	h.want("again", want)
	forged, elsewhere := list[0], list[0]
	forged.Reduction = 20_00
	elsewhere.Merchant = coupon.ID{9}
	equal(t, "bad", fates(h.redeem(9, []coupon.Redemption{forged, elsewhere})), "odd mac", "odd other_device")
	h.want("bad", want)
	serve()
	h.do(func(tx *db.Tx) error {
		_, err := ledger.Post(tx, ledger.Move("poor", acquiring.Funding(employer), ledger.AccountID("bank.custody"), money.Fen(990_00)))
		return err
	})
	_, list, err = d.Batch(10)
	h.must(err)
	equal(t, "no money", fates(h.redeem(3, list[2:])), "suspense firm_short")
	h.do(func(tx *db.Tx) error { return acquiring.Fund(tx, "second", employer, money.Fen(6_00)) })
	h.must(h.office.Tick(ctx))
	h.want("paid", map[ledger.AccountID]int64{acquiring.Funding(employer): 1_00, settlement.Payable(tea): 15_00})
	h.read(func(q *db.Query) error {
		list, err := acquiring.Redemptions(q, acquiring.Filter{Card: k.id, Limit: 10})
		if len(list) != 3 || list[0].Reduction != 5_00 || list[0].Firm != employer {
			t.Errorf("%+v", list)
		}
		tr, err2 := h.office.TraceOf(ctx, list[0].ID)
		if len(tr.Postings) != 1 || tr.Fate != acquiring.Booked {
			t.Errorf("%+v", tr)
		}
		return errors.Join(err, err2)
	})
}

// move replaces a coupon card that was lost by one on another band.
func (h *house) move(old *chip, product string) *chip {
	h.t.Helper()
	var along issuing.Carry
	h.do(func(tx *db.Tx) (err error) {
		if _, err = issuing.SuspendCard(tx, old.id); err == nil {
			along, err = acquiring.CarryOf(tx, old.id)
		}
		return err
	})
	k := h.issueFor(product, old.id, along)
	h.do(func(tx *db.Tx) error { return issuing.Replace(tx, old.id, k.id) })
	return k
}

// left reads the coupon from the card itself.
func (k *chip) left() coupon.Coupon {
	k.h.t.Helper()
	var c issuing.Card
	k.h.read(func(q *db.Query) (err error) { c, err = issuing.Get(q, k.id); return err })
	name, _ := issuing.CouponName(c, "")
	id, err := hex.DecodeString(name)
	k.h.must(err)
	send := k.present(card.Contactless)
	defer k.e.PowerOff()
	_, err = send(iso7816.Select(c.Instance))
	k.h.must(err)
	r, err := send(coupon.Read{ID: coupon.ID(id)}.Command())
	k.h.must(err)
	x, err := coupon.Parse(r.Data)
	k.h.must(err)
	return x
}

// TestMovedCoupon: on a new band a coupon is what the books prove is left of it.
// What the lost card did besides comes in late: it is paid as long as uses that
// were granted are left, and is named when the new card has had them.
func TestMovedCoupon(t *testing.T) {
	for _, first := range []string{"the lost card's", "the new card's"} {
		t.Run(first, func(t *testing.T) { movedCoupon(t, first) })
	}
}

func movedCoupon(t *testing.T, first string) {
	h := newHouse(t)
	off := h.product(issuing.Coupon, "tea-5", issuing.CouponData{Merchant: tea, Gives: "amount", Value: 5_00, Uses: 3, Days: 30})
	d, old := h.desk(), h.issue(off)
	serve := func(k *chip, want couponDesk.Result) {
		t.Helper()
		o, err := d.Serve(k.present(card.Contactless), couponDesk.Order{Op: coupon.Redeem, Fen: 20_00})
		if k.e.PowerOff(); err != nil || o.Result != want {
			t.Fatalf("%+v %v", o, err)
		}
	}
	granted := old.left()
	serve(old, couponDesk.Redeemed)
	_, list, err := d.Batch(10)
	h.must(err)
	h.redeem(1, list)
	serve(old, couponDesk.Redeemed) // and is not handed in before the move
	h.now.Advance(10 * 24 * time.Hour)
	k := h.move(old, off)
	if x := k.left(); x.Uses != 2 || x.Counter != 1 || x.To != granted.To || x.From != granted.From {
		t.Errorf("arrived as %+v", x)
	}
	serve(k, couponDesk.Redeemed)
	serve(k, couponDesk.Redeemed)
	serve(k, couponDesk.Refused)
	_, list, err = d.Batch(10)
	h.must(err)
	if first == "the lost card's" {
		equal(t, first, fates(h.redeem(2, list[1:])), "booked", "booked", "suspense over_uses")
	} else {
		equal(t, first, fates(h.redeem(3, list[2:])), "booked", "booked")
		equal(t, first, fates(h.redeem(2, list[1:2])), "suspense over_uses")
	}
	h.must(h.office.Tick(ctx))
	h.want(first, map[ledger.AccountID]int64{acquiring.Funding(employer): 985_00, settlement.Payable(tea): 15_00})
	h.read(func(q *db.Query) error {
		list, err := acquiring.InSuspense(q, "", 10)
		if len(list) != 1 || list[0].Why != acquiring.WhyUses || list[0].Fen != 5_00 {
			t.Errorf("%+v", list)
		}
		return err
	})
	used := h.move(k, off) // nothing is left: it arrives used up
	if x := used.left(); x.Uses != 0 || x.Counter < 3 {
		t.Errorf("arrived as %+v", x)
	}
	serve(used, couponDesk.Refused)
}

// TestMovedStamps: stamps go along, and those that come in late do not pay for a
// second reward.
func TestMovedStamps(t *testing.T) {
	h := newHouse(t)
	full := h.product(issuing.Coupon, "stamps", issuing.CouponData{Merchant: tea, Gives: "stamps", Value: 9_00, Uses: 2, Needed: 3, Days: 30})
	d, old := h.desk(), h.issue(full)
	serve := func(k *chip, ops ...coupon.Op) {
		t.Helper()
		for _, op := range ops {
			o, err := d.Serve(k.present(card.Contactless), couponDesk.Order{Op: op, Fen: 20_00})
			if k.e.PowerOff(); err != nil || o.Result != couponDesk.Redeemed {
				t.Fatalf("%+v %v", o, err)
			}
		}
	}
	serve(old, coupon.GiveStamp, coupon.GiveStamp)
	_, list, err := d.Batch(10)
	h.must(err)
	h.redeem(2, list[1:]) // the first is on its way: the second proves it
	serve(old, coupon.GiveStamp, coupon.Redeem)
	k := h.move(old, full)
	if x := k.left(); x.Uses != 2 || x.Stamps != 2 || x.Counter != 2 {
		t.Errorf("arrived as %+v", x)
	}
	serve(k, coupon.GiveStamp, coupon.Redeem)
	_, list, err = d.Batch(10)
	h.must(err)
	equal(t, "new and late", fates(h.redeem(3, list[2:])), "booked", "booked", "booked", "suspense over_uses")
	serve(k, coupon.GiveStamp, coupon.GiveStamp, coupon.GiveStamp, coupon.Redeem)
	_, list, err = d.Batch(10)
	h.must(err)
	equal(t, "the next round", fates(h.redeem(7, list[6:])), "booked", "booked", "booked", "booked")
	h.want("paid", map[ledger.AccountID]int64{acquiring.Funding(employer): 982_00, settlement.Payable(tea): 18_00})
	if x := h.move(k, full).left(); x.Uses != 0 || x.Stamps != 0 {
		t.Errorf("arrived as %+v", x)
	}
}

// TestDoor: a card opens by the site's plan, the owner sees who passed and
// nobody else does, a lost card is refused, and old passages go.
func TestDoor(t *testing.T) {
	h := newHouse(t)
	k := h.issue(h.product(issuing.Door, "gate", issuing.DoorData{Site: 7, Days: 365}))
	d := h.door()
	update := func() {
		t.Helper()
		pack, err := h.office.PlanPack(ctx, gateDoor, d.Plan().Version)
		h.must(err)
		if pack == nil {
			t.Fatal("no newer plan")
		}
		h.must(d.Load(pack))
		if again, err := h.office.PlanPack(ctx, gateDoor, d.Plan().Version); again != nil || err != nil {
			t.Errorf("%X %v", again, err)
		}
	}
	tap := func(r terminal.Result, why door.Reason) {
		t.Helper()
		o, err := d.Tap(k.present(card.Contactless))
		k.e.PowerOff()
		if err != nil || o.Result != r || o.Reason != why {
			t.Fatalf("%+v %v", o, err)
		}
	}
	grant := acquiring.Grant{Site: yard, Card: k.id, Zone: 1, Schedule: 1}
	if err := h.store.Write(ctx, func(tx *db.Tx) error { return acquiring.Admit(tx, grant) }); !errors.Is(err, acquiring.ErrPlan) {
		t.Errorf("a grant without a plan: %v", err)
	}
	h.do(func(tx *db.Tx) error {
		return acquiring.SetPlan(tx, yard, desfire.Plan{Zones: []desfire.Zone{{ID: 1, Doors: []uint32{acquiring.DoorNumber(gateDoor)}}},
			Schedules: []desfire.Schedule{{ID: 1, Windows: []desfire.Window{{Days: desfire.Weekdays, From: 0, To: 1440}}}}})
	})
	update()
	tap(terminal.Refused, door.NotThisDoor)
	h.do(func(tx *db.Tx) error { return acquiring.Admit(tx, grant) })
	update()
	tap(terminal.Opened, door.NoReason)
	b, err := d.Batch(10)
	h.must(err)
	hand := func() acquiring.Handed {
		t.Helper()
		got, err := h.office.CollectPassages(ctx, gateDoor, b)
		h.must(err)
		return got
	}
	equal(t, "passages", fates(hand()), "booked", "booked")
	equal(t, "again", fates(hand()), "known", "known")
	h.read(func(q *db.Query) error {
		list, err := acquiring.PassagesAt(q, yard, "cust_boss", "", 10)
		if err != nil || len(list) != 2 || !list[0].Opened || list[0].Card != k.id || list[1].Opened || list[1].Reason != byte(door.NotThisDoor) {
			t.Errorf("%+v %v", list, err)
		}
		if _, err := acquiring.PassagesAt(q, yard, "cust_lin", "", 10); !errors.Is(err, acquiring.ErrNotOwner) {
			t.Errorf("somebody else: %v", err)
		}
		own, err := acquiring.PassagesOf(q, k.id, "", 10)
		if len(own) != 2 {
			t.Errorf("%+v", own)
		}
		return err
	})
	h.do(func(tx *db.Tx) error { return issuing.DenyCard(tx, k.id, purse.DenyLost) })
	update()
	tap(terminal.Refused, door.Denied)
	b.Passages[0].Reason++
	equal(t, "another under its number", fates(hand()), "odd number", "known")
	b.Door++
	if _, err := h.office.CollectPassages(ctx, gateDoor, b); !errors.Is(err, acquiring.ErrBatch) {
		t.Error(err)
	}
	h.now.Advance((acquiring.DefaultKeep + 1) * 24 * time.Hour)
	h.must(h.office.Tick(ctx))
	h.read(func(q *db.Query) error {
		list, err := acquiring.PassagesAt(q, yard, "cust_boss", "", 10)
		if len(list) != 0 {
			t.Errorf("kept too long: %+v", list)
		}
		return err
	})
}

// TestAnyOrder: whatever the order and repetition of batches, in the end every
// payment is booked once: floats are what was loaded less what was spent, shops
// have what was sold.
func TestAnyOrder(t *testing.T) {
	checks := flag.Lookup("rapid.checks")
	if was := checks.Value.String(); was == checks.DefValue { // each run issues cards and commits a hundred times
		if err := checks.Value.Set("10"); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = checks.Value.Set(was) }()
	}
	rapid.Check(t, func(rt *rapid.T) {
		h := open(rt, t.TempDir())
		defer h.close()
		shop, c, k, e := h.till(), h.counter(), h.issue(issuing.ECashCard), h.eater(100_00)
		shop.load(k, 100_00)
		cash, meals, firm := int64(0), int64(0), int64(0)
		for range rapid.IntRange(1, 6).Draw(rt, "acts") {
			switch rapid.IntRange(0, 3).Draw(rt, "act") {
			case 0:
				fen := rapid.Uint64Range(1, 10_00).Draw(rt, "fen")
				shop.buy(k, fen)
				cash += int64(fen)
			case 1:
				fen := rapid.Uint64Range(1, 10_00).Draw(rt, "fen")
				if _, err := shop.Reverse(shop.buy(k, fen).STAN); err != nil {
					rt.Fatal(err)
				}
			case 2:
				o := c.sell(e, lunch)
				meals, firm = meals+int64(o.Fen), firm+int64(o.Subsidy)
			case 3:
				o := c.sell(e, canteen.Order{Fen: rapid.Uint32Range(1, 10_00).Draw(rt, "fen")})
				back := c.refund(e, 0)
				meals, firm = meals+int64(o.Fen)-int64(back.Fen), firm+int64(o.Subsidy)-int64(o.Subsidy)
			}
			h.now.Advance(time.Second)
		}
		b, m := shop.batch(), c.batch()
		for range rapid.IntRange(0, 8).Draw(rt, "pieces") {
			if i := rapid.IntRange(0, len(b.Records)-1).Draw(rt, "sale"); rapid.Bool().Draw(rt, "which") || len(m.Sales) == 0 {
				h.collect(pboc.ClearingBatch{TID: b.TID, First: b.First + uint32(i), Records: slices.Clone(b.Records[i:min(i+2, len(b.Records))])})
			} else {
				i := rapid.IntRange(0, len(m.Sales)-1).Draw(rt, "meal")
				h.eat(desfire.SaleBatch{Till: m.Till, First: m.First + uint32(i), Sales: m.Sales[i : i+1]})
			}
			if rapid.IntRange(0, 3).Draw(rt, "tick") == 0 {
				h.must(h.office.Tick(ctx))
			}
		}
		h.collect(b)
		h.eat(m)
		h.must(h.office.Tick(ctx))
		spent := cash
		for _, r := range b.Records { // a reversal gives the money back to the wallet, not to the card
			if r.Kind == pboc.ClearReversal {
				spent += int64(r.Fen)
			}
		}
		h.want("in the end", map[ledger.AccountID]int64{issuing.Float(k.id): 100_00 - spent, settlement.Payable(tea): cash,
			issuing.Float(e.id): 100_00 - meals, settlement.Payable(kitchen): meals + firm, acquiring.Funding(employer): 1000_00 - firm})
		if got := h.collect(b); len(got.Missing) != 0 {
			rt.Errorf("missing %v", got.Missing)
		}
	})
}
