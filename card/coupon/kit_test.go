package coupon

import (
	"fmt"

	"koala/card"
	"koala/card/cardtest"
	"koala/spec/coupon"
	"koala/spec/iso7816"
	"koala/spec/iso9797"
)

const (
	moduleAID = card.AID("\xF0koala\x04\x01")
	cardAID   = card.AID("\xF0koala\x04\x10")
)

var (
	merchantRoot = [16]byte{0x11, 0x22, 0x33, 0x44}
	otherRoot    = [16]byte{0x99, 0x88}
	issuerRoot   = [16]byte{0x55, 0x66, 0x77, 0x88}
	holder       = coupon.ID{0x31, 0x05, 0, 0, 0, 0, 0, 7}
	shop         = coupon.ID{'S', 'H', 'O', 'P', 0, 0, 0, 1}
	other        = coupon.ID{'O', 'T', 'H', 'E', 'R', 0, 0, 1}
	brand        = coupon.ID{'B', 'R', 'A', 'N', 'D', 0, 0, 1}
	noon         = coupon.Stamp{0x20, 0x15, 0x09, 0x16, 0x12, 0x00, 0x00}

	voucherID, stampID, otherID = coupon.ID{1}, coupon.ID{2}, coupon.ID{3}
)

func voucher() coupon.Coupon {
	return coupon.Coupon{ID: voucherID, Issuer: brand, Merchant: shop, Kind: coupon.AmountOff, Key: 1, Value: 5_00, Minimum: 20_00,
		From: coupon.Date{0x20, 0x15, 0x09, 0x01}, To: coupon.Date{0x20, 0x15, 0x09, 0x30}, Uses: 2}
}

func stampCard() coupon.Coupon {
	c := voucher()
	c.ID, c.Kind, c.Needed, c.Value = stampID, coupon.StampCard, 3, 12_00
	return c
}

func ofOther() coupon.Coupon {
	c := voucher()
	c.ID, c.Merchant, c.Key = otherID, other, 2
	return c
}

var modules = cardtest.Modules{moduleAID: Module()}

// A bench is an element with a discount card of three coupons.
type bench struct {
	t    cardtest.T
	e    *cardtest.Element
	self card.ID
	tick byte // of terminal challenges
}

func newBench(t cardtest.T, params ...byte) *bench {
	t.Helper()
	b := &bench{t: t, e: cardtest.New(t, card.Config{}, modules)}
	b.self = b.e.Install(card.Entry{AID: cardAID, Module: moduleAID}, params...)
	b.store(iso7816.OK, coupon.DGIHolder, holder[:])
	for i, k := range []coupon.KeyRecord{
		{Index: 1, Use: coupon.MerchantKey, Version: 1, Owner: shop, Key: coupon.CardKey(merchantRoot, holder, shop)},
		{Index: 2, Use: coupon.MerchantKey, Version: 3, Owner: other, Key: coupon.CardKey(otherRoot, holder, other)},
		{Index: 3, Use: coupon.IssuerKey, Version: 1, Owner: brand, Key: coupon.CardKey(issuerRoot, holder, brand)},
	} {
		k.KCV = iso9797.KCVAES(k.Key[:])
		b.store(iso7816.OK, coupon.DGIKeyFirst+uint16(i), k.Bytes())
	}
	for _, c := range []coupon.Coupon{voucher(), stampCard(), ofOther()} {
		b.store(iso7816.OK, coupon.DGICoupon, c.Bytes())
	}
	b.tap()
	return b
}

// store personalises in the factory, keys in clear.
func (b *bench) store(want iso7816.SW, dgi uint16, data []byte) {
	b.t.Helper()
	if sw := b.e.Personalise(b.self, dgi, data); sw != want {
		b.t.Fatalf("DGI %04X: %v, want %v", dgi, sw, want)
	}
}

func (b *bench) tap() {
	b.t.Helper()
	b.e.Power(card.Contact)
	b.e.Ask(iso7816.Select([]byte(cardAID)))
}

func (b *bench) send(c iso7816.Command) iso7816.Response {
	b.t.Helper()
	return b.e.Send(c)
}

// coupon reads one as any reader can.
func (b *bench) coupon(id coupon.ID) coupon.Coupon {
	b.t.Helper()
	c, err := coupon.Parse(b.send(coupon.Read{ID: id}.Command()).Data)
	if err != nil {
		b.t.Fatalf("coupon %v: %v", id, err)
	}
	return c
}

// A till is a merchant's terminal in the middle of an operation.
type till struct {
	*coupon.Session
	heard coupon.Begin
	said  coupon.BeginAnswer
	held  coupon.Coupon
}

func (b *bench) ask(op coupon.Op, id coupon.ID, fen uint32) coupon.Begin {
	b.tick++
	return coupon.Begin{Op: op, Coupon: id, Terminal: coupon.ID{9}, Challenge: coupon.ID{0xC0, b.tick}, Fen: fen, At: noon}
}

// begin opens an operation with the root of the till.
func (b *bench) begin(root [16]byte, merchant coupon.ID, x coupon.Begin) (*till, iso7816.SW) {
	b.t.Helper()
	r := b.send(x.Command())
	if !r.SW.OK() {
		return nil, r.SW
	}
	a, err := coupon.ParseBeginAnswer(r.Data)
	if err != nil {
		b.t.Fatalf("begin: %v", err)
	}
	s := coupon.NewSession(coupon.CardKey(root, a.Holder, merchant), x, a)
	return &till{s, x, a, b.coupon(x.Coupon)}, r.SW
}

// redeem is a whole operation at the shop; what the card refuses is its status.
func (b *bench) do(op coupon.Op, id coupon.ID, fen uint32) (coupon.Redemption, iso7816.SW) {
	b.t.Helper()
	t, sw := b.begin(merchantRoot, shop, b.ask(op, id, fen))
	if !sw.OK() {
		return coupon.Redemption{}, sw
	}
	r := b.send(t.Commit().Command())
	if !r.SW.OK() {
		return coupon.Redemption{}, r.SW
	}
	return b.accept(t, r.Data), r.SW
}

// accept verifies the card's answer at the till and at the issuer.
func (b *bench) accept(t *till, data []byte) coupon.Redemption {
	b.t.Helper()
	d, err := coupon.ParseDone(data)
	if err != nil {
		b.t.Fatalf("done: %v", err)
	}
	red, err := t.Accept(d, t.held)
	if err != nil {
		b.t.Fatalf("the till: %v", err)
	}
	if err := red.Verify(issuerRoot); err != nil {
		b.t.Fatalf("the issuer: %v", err)
	}
	return red
}

// state is all the card remembers, in words.
func (b *bench) state() string {
	var cells []byte
	b.e.PowerOff()
	_, _ = b.e.Factory(func(s *card.Session) iso7816.SW {
		own := *s
		own.Self = b.self
		cells = append(cells, own.Region(regionTag).Bytes()...)
		return iso7816.OK
	})
	return fmt.Sprintf("%X", cells)
}
