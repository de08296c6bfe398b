package coupon_test

import (
	"errors"
	"testing"
	"time"

	"koala/card"
	"koala/card/cardtest"
	cardcoupon "koala/card/coupon"
	"koala/internal/clock"
	"koala/spec/coupon"
	"koala/spec/iso9797"
	"koala/terminal"
	desk "koala/terminal/coupon"
)

var (
	shopRoot   = [16]byte{0x11, 0x22, 0x33, 0x44}
	issuerRoot = [16]byte{0x55, 0x66, 0x77, 0x88}
	holder     = coupon.ID{0x31, 0x05, 7: 7}
	shop       = coupon.ID{'S', 'H', 'O', 'P', 7: 1}
	other      = coupon.ID{'O', 'T', 'H', 'E', 'R', 7: 1}
	brand      = coupon.ID{'B', 'R', 'A', 'N', 'D', 7: 1}
	voucherID  = coupon.ID{1}
	stampsID   = coupon.ID{2}
	othersID   = coupon.ID{3}
	noon       = time.Date(2015, 9, 16, 12, 0, 0, 0, time.FixedZone("CST", 8*3600))
)

// A shopper is a discount card in somebody's hand and the desk it is held to.
type shopper struct {
	testing.TB
	e     *cardtest.Element
	clock *clock.Virtual
	flash *terminal.Flash
	desk  *desk.Desk
}

func newShopper(t testing.TB) *shopper {
	t.Helper()
	base := coupon.Coupon{Issuer: brand, Merchant: shop, Key: 1, Minimum: 20_00, Uses: 2,
		From: coupon.Date{0x20, 0x15, 0x09, 0x01}, To: coupon.Date{0x20, 0x15, 0x09, 0x30}}
	voucher, stamps, others := base, base, base
	voucher.ID, voucher.Kind, voucher.Value = voucherID, coupon.AmountOff, 5_00
	stamps.ID, stamps.Kind, stamps.Needed, stamps.Value = stampsID, coupon.StampCard, 3, 12_00
	others.ID, others.Kind, others.Value, others.Merchant = othersID, coupon.AmountOff, 9_00, other
	e := cardtest.New(t, card.Config{}, cardtest.Modules{desk.AID: cardcoupon.Module()})
	id := e.Install(card.Entry{AID: desk.AID})
	e.Store(id, coupon.DGIHolder, holder[:])
	for i, k := range []coupon.KeyRecord{
		{Index: 1, Use: coupon.MerchantKey, Version: 1, Owner: shop, Key: coupon.CardKey(shopRoot, holder, shop)},
		{Index: 2, Use: coupon.IssuerKey, Version: 1, Owner: brand, Key: coupon.CardKey(issuerRoot, holder, brand)},
	} {
		k.KCV = iso9797.KCVAES(k.Key[:])
		e.Store(id, coupon.DGIKeyFirst+uint16(i), k.Bytes())
	}
	for _, c := range []coupon.Coupon{voucher, stamps, others} {
		e.Store(id, coupon.DGICoupon, c.Bytes())
	}
	s := &shopper{TB: t, e: e, clock: clock.NewVirtual(noon), flash: terminal.NewFlash(4)}
	s.start()
	return s
}

// start gives the desk power.
func (s *shopper) start() {
	s.Helper()
	s.flash.PowerOn()
	d, err := desk.New(desk.Config{Merchant: shop, Terminal: coupon.ID{'T', 7: 1}, Root: shopRoot, Clock: s.clock,
		Rand: clock.Random(uint64(s.flash.Writes()) + 7), Store: s.flash, Record: true})
	if err != nil {
		s.Fatal(err)
	}
	s.desk = d
}

// visit holds the card to the desk; a desk that loses power comes back.
func (s *shopper) visit(o desk.Order) desk.Outcome {
	s.Helper()
	s.e.Power(card.Contactless)
	out, err := s.desk.Serve(s.e.Transmit, o)
	s.e.PowerOff()
	if errors.Is(err, terminal.ErrPower) {
		s.start()
	} else if err != nil {
		s.Fatal(err)
	}
	return out
}

// left reads a coupon without a desk.
func (s *shopper) left(id coupon.ID) coupon.Coupon {
	s.Helper()
	s.e.Mend()
	s.e.Power(card.Contactless)
	defer s.e.PowerOff()
	t := coupon.Till{Send: s.e.Transmit}
	_, list, err := t.Open([]byte(desk.AID))
	if err != nil {
		s.Fatal(err)
	}
	for _, c := range list {
		if c.ID == id {
			return c
		}
	}
	s.Fatal("no such coupon")
	return coupon.Coupon{}
}

func TestServe(t *testing.T) {
	s := newShopper(t)
	for _, tt := range []struct {
		name   string
		order  desk.Order
		result desk.Result
		reason desk.Reason
		off    uint32
	}{
		{"too little", desk.Order{Op: coupon.Redeem, Fen: 10_00}, desk.Refused, desk.StampsMissing, 0},
		{"too little for the one named", desk.Order{Op: coupon.Redeem, Coupon: voucherID, Fen: 10_00}, desk.Refused, desk.TooLittle, 0},
		{"the best of the shop's", desk.Order{Op: coupon.Redeem, Fen: 30_00}, desk.Redeemed, desk.NoReason, 5_00},
		{"another shop's", desk.Order{Op: coupon.Redeem, Coupon: othersID, Fen: 30_00}, desk.Refused, desk.OtherShop, 0},
		{"none of that name", desk.Order{Op: coupon.Redeem, Coupon: coupon.ID{9}, Fen: 30_00}, desk.Refused, desk.NoCoupon, 0},
		{"a stamp", desk.Order{Op: coupon.GiveStamp, Fen: 30_00}, desk.Redeemed, desk.NoReason, 0},
		{"stamps missing", desk.Order{Op: coupon.Redeem, Coupon: stampsID, Fen: 30_00}, desk.Refused, desk.StampsMissing, 0},
		{"the second use", desk.Order{Op: coupon.Redeem, Coupon: voucherID, Fen: 30_00}, desk.Redeemed, desk.NoReason, 5_00},
		{"used up", desk.Order{Op: coupon.Redeem, Coupon: voucherID, Fen: 30_00}, desk.Refused, desk.UsedUp, 0},
	} {
		s.clock.Advance(time.Hour)
		o := s.visit(tt.order)
		if o.Result != tt.result || o.Reason != tt.reason || !o.InTime() || len(s.desk.Dialogue()) == 0 {
			t.Errorf("%s: %s, %v", tt.name, o.Words(false), o.Took)
		}
		if o.Redemption != nil && (o.Redemption.Reduction != tt.off || o.Redemption.Verify(issuerRoot) != nil) || (o.Redemption != nil) != (tt.result == desk.Redeemed) {
			t.Errorf("%s: %+v", tt.name, o.Redemption)
		}
		if o.Words(true) == "" || len(o.Display(true)) == 0 {
			t.Errorf("%s: nothing to show", tt.name)
		}
	}
	first, list, err := s.desk.Batch(10)
	if err != nil || first != 1 || len(list) != 3 || s.desk.Waiting() != 3 {
		t.Fatalf("%d redemptions from %d, %v", len(list), first, err)
	}
	if err := s.desk.Release(2); err != nil || s.desk.Waiting() != 1 {
		t.Errorf("%d wait, %v", s.desk.Waiting(), err)
	}
}

// TestNeverTwice: the card leaves at every write and after every answer, and
// the desk's power fails at every write, in a redemption; whoever comes back
// has used the coupon once and the desk has one record of it.
func TestNeverTwice(t *testing.T) {
	order := desk.Order{Op: coupon.Redeem, Coupon: voucherID, Fen: 30_00}
	for _, fault := range []struct {
		name string
		arm  func(s *shopper, n int)
		most int
	}{
		{"write torn", func(s *shopper, n int) { s.e.Memory().CutAt(n, 9) }, 12},
		{"answer lost", func(s *shopper, n int) { s.e.LoseAnswer(n) }, 8},
		{"power cut", func(s *shopper, n int) { s.flash.CutAfter(n) }, 6},
	} {
		for n := 1; n <= fault.most; n++ {
			s := newShopper(t)
			fault.arm(s, n)
			o := s.visit(order)
			s.e.Mend()
			for range 4 {
				if o.Result == desk.Redeemed {
					break
				}
				s.clock.Advance(5 * time.Second)
				o = s.visit(order)
			}
			_, list, err := s.desk.Batch(10)
			if c := s.left(voucherID); o.Result != desk.Redeemed || c.Uses != 1 || len(list) != 1 || err != nil || list[0].Verify(issuerRoot) != nil {
				t.Errorf("%s at %d: %s, %d uses left, %d records, %v", fault.name, n, o.Words(false), c.Uses, len(list), err)
			}
			if doubts, err := s.desk.Doubts(); err != nil || len(doubts) != 0 {
				t.Errorf("%s at %d: %d doubts, %v", fault.name, n, len(doubts), err)
			}
		}
	}
}

// TestForgotten: the card was at another desk meanwhile, and cannot tell any
// more: the case stays for the issuer, and the card is served.
func TestForgotten(t *testing.T) {
	s := newShopper(t)
	order := desk.Order{Op: coupon.Redeem, Coupon: voucherID, Fen: 30_00}
	opened := 1 + 3 + 1 + 1 + 1 // SELECT, three coupons, SELECT of a next card, the coupon named, BEGIN
	s.e.LoseAnswer(opened + 1)
	if o := s.visit(order); o.Result != desk.TryAgain {
		t.Fatal(o.Words(false))
	}
	elsewhere := &shopper{TB: t, e: s.e, clock: s.clock, flash: terminal.NewFlash(4)}
	elsewhere.start()
	for range 9 { // stamps push the proof out of the card's memory
		elsewhere.visit(desk.Order{Op: coupon.GiveStamp, Coupon: stampsID, Fen: 30_00})
	}
	elsewhere.visit(order)
	s.clock.Advance(time.Minute)
	o := s.visit(order)
	doubts, err := s.desk.Doubts()
	if err != nil || o.Result == desk.TryAgain {
		t.Errorf("%s; %d doubts, %v", o.Words(false), len(doubts), err)
	}
	if c := s.left(voucherID); c.Uses != 0 {
		t.Errorf("%d uses left", c.Uses)
	}
}
