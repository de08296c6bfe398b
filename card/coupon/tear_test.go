package coupon

import (
	"errors"
	"testing"

	"koala/card"
	"koala/spec/coupon"
	"koala/spec/iso7816"
)

// Each operation that a tear can hit, with what leads to it.
var operations = []struct {
	name    string
	op      coupon.Op
	id      coupon.ID
	prepare func(b *bench)
}{
	{"redeem a voucher", coupon.Redeem, voucherID, func(*bench) {}},
	{"give a stamp", coupon.GiveStamp, stampID, func(b *bench) { b.do(coupon.GiveStamp, stampID, 25_00) }},
	{"redeem a stamp card", coupon.Redeem, stampID, func(b *bench) {
		for range 3 {
			b.do(coupon.GiveStamp, stampID, 25_00)
		}
	}},
}

// Power fails at every physical write of a COMMIT, and then at every write of
// the recovery. The coupon is as before or as after, and PROVE says which: with
// a proof that till and issuer take, or not at all and the till begins again.
func TestCommitIsCutAtEveryWrite(t *testing.T) {
	for _, o := range operations {
		for n := 1; ; n++ {
			cut := false
			for _, keep := range []int{0, 1, 17, 32, 63, 64} {
				cut = cutOnce(t, o.op, o.id, o.prepare, n, keep) || cut
			}
			if !cut {
				if n < 3 {
					t.Errorf("%s: only %d writes", o.name, n-1)
				}
				break
			}
		}
	}
}

func cutOnce(t *testing.T, op coupon.Op, id coupon.ID, prepare func(*bench), n, keep int) bool {
	t.Helper()
	b := newBench(t)
	prepare(b)
	before := b.coupon(id)
	x, sw := b.begin(merchantRoot, shop, b.ask(op, id, 25_00))
	if !sw.OK() {
		t.Fatal(sw)
	}
	b.e.Memory().CutAt(n, keep)
	_, err := b.e.Transmit(x.Commit().Command())
	if err == nil {
		b.e.Memory().CutAt(0, 0)
		return false
	}
	if !errors.Is(err, iso7816.ErrTorn) {
		t.Fatal(err)
	}
	for k := 1; ; k++ {
		b.e.Memory().CutAt(k, keep)
		err := b.e.PowerOn(card.Contact)
		b.e.Memory().CutAt(0, 0)
		if err == nil {
			break
		}
	}
	b.tap()
	settle(t, b, x, before, op)
	return true
}

// settle is what a till does after a tear: ask, and do it again when nothing
// has happened. The use is taken once.
func settle(t *testing.T, b *bench, x *till, before coupon.Coupon, op coupon.Op) {
	t.Helper()
	r := b.send(coupon.Prove{Challenge: x.heard.Challenge}.Command())
	now := b.coupon(before.ID)
	switch {
	case r.SW.OK():
		b.accept(x, r.Data)
		if now != before.After(op) {
			t.Fatalf("proven, and the coupon is %+v", now)
		}
		return
	case r.SW != iso7816.SWReferenceNotFound || now != before:
		t.Fatalf("%v, and the coupon is %+v", r, now)
	}
	if _, sw := b.do(op, before.ID, 25_00); !sw.OK() || b.coupon(before.ID) != before.After(op) {
		t.Fatalf("again: %v", sw)
	}
}

// The answer is lost after the work.
func TestAnswerIsLost(t *testing.T) {
	for _, o := range operations {
		b := newBench(t)
		o.prepare(b)
		before := b.coupon(o.id)
		x, _ := b.begin(merchantRoot, shop, b.ask(o.op, o.id, 25_00))
		b.e.LoseAnswer(1)
		if _, err := b.e.Transmit(x.Commit().Command()); !errors.Is(err, iso7816.ErrTorn) {
			t.Fatalf("%s: %v", o.name, err)
		}
		b.tap()
		if b.coupon(o.id) != before.After(o.op) {
			t.Errorf("%s: not done", o.name)
		}
		settle(t, b, x, before, o.op)
	}
}

// Personalisation is cut at every write: a grouping is there whole or not at
// all, and sending it again makes it whole.
func TestIssueIsCutAtEveryWrite(t *testing.T) {
	more := voucher()
	more.ID = coupon.ID{7}
	for n := 1; ; n++ {
		b := newBench(t)
		b.e.PowerOff()
		b.e.Memory().CutAt(n, 32)
		_, err := b.e.Factory(func(s *card.Session) iso7816.SW {
			return s.Personalise(b.self, coupon.DGICoupon, more.Bytes(), nil)
		})
		b.e.Memory().CutAt(0, 0)
		if err == nil {
			return
		}
		b.tap()
		if r := b.send(coupon.Read{ID: more.ID}.Command()); r.SW != iso7816.SWReferenceNotFound && b.coupon(more.ID) != more {
			t.Fatalf("write %d: %v", n, r)
		}
		b.store(iso7816.OK, coupon.DGICoupon, more.Bytes())
		b.tap()
		if b.coupon(more.ID) != more {
			t.Fatalf("write %d: not whole", n)
		}
	}
}
