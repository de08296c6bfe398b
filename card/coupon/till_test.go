package coupon

import (
	"errors"
	"testing"

	"koala/spec/coupon"
	"koala/spec/iso7816"
)

func newTill(b *bench) *coupon.Till {
	return &coupon.Till{Merchant: shop, Terminal: coupon.ID{9}, Root: merchantRoot, Send: b.e.Transmit}
}

func nothingKept(coupon.Pending) error { return nil }

// The terminal's whole way at a card: list, redeem, and what it refuses.
func TestTill(t *testing.T) {
	b := newBench(t)
	till := newTill(b)
	h, list, err := till.Open([]byte(cardAID))
	if err != nil || h != holder || len(list) != 3 || list[0] != voucher() {
		t.Fatalf("%v %v %v", h, list, err)
	}
	r, err := till.Redeem(b.ask(coupon.Redeem, voucherID, 25_00), nothingKept)
	if err != nil || r.Reduction != 5_00 || r.Verify(issuerRoot) != nil || r.Terminal != till.Terminal {
		t.Fatalf("%+v %v", r, err)
	}
	if _, err := till.Redeem(b.ask(coupon.Redeem, otherID, 25_00), nothingKept); !errors.Is(err, coupon.ErrMerchant) {
		t.Error(err)
	}
	var no coupon.Refusal
	if _, err := till.Redeem(b.ask(coupon.Redeem, voucherID, 1_00), nothingKept); !errors.As(err, &no) || no.SW != coupon.SWMinimum {
		t.Error(err)
	}
	before := b.coupon(voucherID)
	if _, err := till.Redeem(b.ask(coupon.Redeem, voucherID, 25_00), func(coupon.Pending) error { return errors.New("full") }); err == nil || b.coupon(voucherID) != before {
		t.Error("went on although nothing could be kept")
	}
	till.Root = otherRoot
	if _, err := till.Redeem(b.ask(coupon.Redeem, voucherID, 25_00), nothingKept); !errors.As(err, &no) || no.SW != iso7816.SWSecurity {
		t.Error(err)
	}
}

// The contact fails at every write and every answer of a contact; the till,
// started again in between, settles at the next contact and redeems once.
func TestTillSettles(t *testing.T) {
	for cut := 0; cut <= 8; cut++ {
		for lose := 0; lose <= 9; lose++ {
			b := newBench(t)
			till := newTill(b)
			b.e.Memory().CutAt(cut, 20)
			b.e.LoseAnswer(lose)
			var kept []byte
			r, err := redeemOnce(b, till, &kept)
			b.e.Memory().CutAt(0, 0)
			b.e.LoseAnswer(0)
			if err != nil {
				if !errors.Is(err, iso7816.ErrTorn) {
					t.Fatal(err)
				}
				b.tap()
				till = newTill(b)
				if _, _, err := till.Open([]byte(cardAID)); err != nil {
					t.Fatal(err)
				}
				r = settleOrRepeat(t, b, till, kept)
			}
			if r.Verify(issuerRoot) != nil || b.coupon(voucherID) != voucher().After(coupon.Redeem) {
				t.Fatalf("cut %d, answer %d lost: %+v, card %+v", cut, lose, r, b.coupon(voucherID))
			}
		}
	}
}

func redeemOnce(b *bench, till *coupon.Till, kept *[]byte) (coupon.Redemption, error) {
	if _, _, err := till.Open([]byte(cardAID)); err != nil {
		return coupon.Redemption{}, err
	}
	return till.Redeem(b.ask(coupon.Redeem, voucherID, 25_00), func(p coupon.Pending) error {
		*kept = p.Bytes()
		return nil
	})
}

func settleOrRepeat(t *testing.T, b *bench, till *coupon.Till, kept []byte) coupon.Redemption {
	t.Helper()
	if kept != nil {
		p, err := coupon.ParsePending(kept)
		if err != nil {
			t.Fatal(err)
		}
		r, done, err := till.Settle(p)
		if err != nil {
			t.Fatal(err)
		}
		if done {
			return r
		}
	}
	r, err := till.Redeem(b.ask(coupon.Redeem, voucherID, 25_00), nothingKept)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A card that is not the one, or reckons in the holder's favour, is found out.
func TestTillIsNotFooled(t *testing.T) {
	b := newBench(t)
	till := newTill(b)
	if _, _, err := till.Open([]byte(cardAID)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := till.Settle(coupon.Pending{Said: coupon.BeginAnswer{Holder: shop}}); !errors.Is(err, coupon.ErrCard) {
		t.Error(err)
	}
	for name, bend := range map[string]func(iso7816.Command, *iso7816.Response){
		"more off":        func(c iso7816.Command, r *iso7816.Response) { bendAt(c, r, coupon.InsBegin, 13) },
		"another counter": func(c iso7816.Command, r *iso7816.Response) { bendAt(c, r, coupon.InsBegin, 10) },
		"another holder":  func(c iso7816.Command, r *iso7816.Response) { bendAt(c, r, coupon.InsBegin, 0) },
		"another proof":   func(c iso7816.Command, r *iso7816.Response) { bendAt(c, r, coupon.InsCommit, 8) },
		"another coupon":  func(c iso7816.Command, r *iso7816.Response) { bendAt(c, r, coupon.InsRead, 0) },
	} {
		till.Send = func(c iso7816.Command) (iso7816.Response, error) {
			r, err := b.e.Transmit(c)
			bend(c, &r)
			return r, err
		}
		if r, err := till.Redeem(b.ask(coupon.Redeem, voucherID, 25_00), nothingKept); !errors.Is(err, coupon.ErrDiffers) && !errors.Is(err, coupon.ErrMAC) {
			t.Errorf("%s: %+v %v", name, r, err)
		}
	}
}

func bendAt(c iso7816.Command, r *iso7816.Response, ins byte, at int) {
	if c.INS == ins && at < len(r.Data) {
		r.Data[at] ^= 0x02
	}
}

// After many other operations the card cannot tell any more, and says so.
func TestSettleTooLate(t *testing.T) {
	b := newBench(t)
	till := newTill(b)
	var kept []byte
	b.e.LoseAnswer(7) // SELECT, three coupons, the coupon, BEGIN, COMMIT
	if _, err := redeemOnce(b, till, &kept); !errors.Is(err, iso7816.ErrTorn) {
		t.Fatal(err)
	}
	p, err := coupon.ParsePending(kept)
	if err != nil {
		t.Fatal(err)
	}
	b.tap()
	for i := range Proofs + 1 {
		op := coupon.GiveStamp
		if i == 3 {
			op = coupon.Redeem
		}
		if _, sw := b.do(op, stampID, 25_00); !sw.OK() {
			t.Fatal(sw)
		}
	}
	if _, _, err := till.Open([]byte(cardAID)); err != nil {
		t.Fatal(err)
	}
	if _, done, err := till.Settle(p); done || !errors.Is(err, coupon.ErrForgotten) {
		t.Errorf("%v %v", done, err)
	}
	b.store(iso7816.OK, coupon.DGIDelete, voucherID[:])
	b.tap()
	if _, done, err := till.Settle(p); done || !errors.Is(err, coupon.ErrForgotten) {
		t.Errorf("deleted: %v %v", done, err)
	}
}
