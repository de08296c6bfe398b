package main

import (
	"errors"

	"koala/card/catalog"
	"koala/internal/clock"
	"koala/spec/coupon"
	"koala/spec/desfire"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/iso9797"
)

// All keys of the published DESFire card are 00*16: what libraries try first.
const (
	testModes desfire.AID = 0x112233
)

const (
	testModesFen   = 50_00
	testCanteenFen = 50_00
	testSite       = 1001
	testPerson     = 20150916
)

// modesApplication is for trying a library: one value file in each mode, numbered
// as the mode is.
func modesApplication(key desfire.SealedKey) desfire.Application {
	a := desfire.Application{AID: testModes, Settings: desfire.DefaultSettings, Keys: []desfire.SealedKey{key}}
	for _, mode := range []desfire.Mode{desfire.Plain, desfire.MACed, desfire.Enciphered} {
		a.Files = append(a.Files, desfire.InitialFile{NewFile: desfire.NewFile{No: byte(mode), Value: testModesFen,
			Settings: desfire.FileSettings{Type: desfire.ValueFile, Mode: mode, Upper: 0x7FFFFFFF}}})
	}
	return a
}

// writeTestDESFire puts the canteen, with money on it, the door and an
// application for libraries on the card. Its master key stays the factory's.
func writeTestDESFire(w *cardWriter) error {
	sealed, err := desfire.Seal(desfire.AESKey([16]byte{}, 0), w.key)
	if err != nil {
		return err
	}
	pass := desfire.Credential{Site: testSite, Person: testPerson, From: [4]byte{0x20, 0x24, 0x01, 0x01}, To: [4]byte{0x20, 0x40, 0x12, 0x31}}
	pass = pass.Sign([16]byte{}, desfire.UID(w.e.UID()))
	var groups []gp.DGI
	for _, app := range []desfire.Application{
		desfire.Canteen([3]desfire.SealedKey{sealed, sealed, sealed}), desfire.Door([2]desfire.SealedKey{sealed, sealed}, pass), modesApplication(sealed),
	} {
		data, err := app.Bytes()
		if err != nil {
			return err
		}
		groups = append(groups, gp.DGI{ID: desfire.DGIApplication, Data: data})
	}
	if err := w.install(catalog.DESFireLoadFile, catalog.DESFireModule, catalog.DESFireInstance, nil, groups); err != nil {
		return err
	}
	h := desfire.NewHost(w.e.Transmit, clock.Entropy())
	err = h.Open()
	for _, step := range []func() error{
		func() error { return h.Select(desfire.CanteenAID) },
		func() error { return h.Authenticate(desfire.CanteenHost, desfire.AESKey([16]byte{}, 0)) },
		func() error { return h.Credit(desfire.CanteenValue, testCanteenFen, desfire.Enciphered) },
		h.Commit,
	} {
		if err == nil {
			err = step()
		}
	}
	return err
}

// The published discount card.
var (
	testHolder       = coupon.ID{0x31, 0x05, 0x17, 0x00, 0x70, 0x10, 0x47, 0x91}
	testShop         = coupon.ID{'S', 'H', 'O', 'P', '0', '0', '0', '1'}
	testBrand        = coupon.ID{'B', 'R', 'A', 'N', 'D', '0', '0', '1'}
	testMerchantRoot = [16]byte(mustHex("11223344556677888877665544332211"))
	testIssuerRoot   = [16]byte(mustHex("0123456789ABCDEFFEDCBA9876543210"))
)

// testCoupons are one of each kind.
func testCoupons() []coupon.Coupon {
	base := coupon.Coupon{Issuer: testBrand, Merchant: testShop, Key: 1, From: coupon.Date{0x20, 0x24, 0x01, 0x01}, To: coupon.Date{0x20, 0x40, 0x12, 0x31}}
	off, percent, stamps, thing := base, base, base, base
	off.ID, off.Kind, off.Value, off.Minimum, off.Uses = coupon.ID{0, 0, 0, 0, 0, 0, 0, 1}, coupon.AmountOff, 5_00, 20_00, 3
	percent.ID, percent.Kind, percent.Value, percent.Ceiling, percent.Uses = coupon.ID{0, 0, 0, 0, 0, 0, 0, 2}, coupon.PercentOff, 20_00, 30_00, 5
	stamps.ID, stamps.Kind, stamps.Value, stamps.Minimum, stamps.Needed, stamps.Uses = coupon.ID{0, 0, 0, 0, 0, 0, 0, 3}, coupon.StampCard, 15_00, 10_00, 8, 10
	thing.ID, thing.Kind, thing.Uses = coupon.ID{0, 0, 0, 0, 0, 0, 0, 4}, coupon.Entitlement, 1
	return []coupon.Coupon{off, percent, stamps, thing}
}

func writeTestCoupons(w *cardWriter) error {
	groups := []gp.DGI{{ID: coupon.DGIHolder, Data: testHolder[:]}}
	var failed error
	add := func(index byte, use coupon.KeyUse, owner coupon.ID, root [16]byte) {
		key := coupon.CardKey(root, testHolder, owner)
		sealed, err := w.key(key[:])
		if err != nil || len(sealed) != len(key) {
			failed = errors.Join(failed, err)
			return
		}
		k := coupon.KeyRecord{Index: index, Use: use, Version: 1, Owner: owner, Key: [16]byte(sealed), KCV: iso9797.KCVAES(key[:])}
		groups = append(groups, gp.DGI{ID: coupon.DGIKeyFirst - 1 + uint16(index), Data: k.Bytes()})
	}
	add(1, coupon.MerchantKey, testShop, testMerchantRoot)
	add(2, coupon.IssuerKey, testBrand, testIssuerRoot)
	for _, c := range testCoupons() {
		groups = append(groups, gp.DGI{ID: coupon.DGICoupon, Data: c.Bytes()})
	}
	if failed != nil {
		return failed
	}
	return w.install(catalog.CouponLoadFile, catalog.CouponModule, catalog.CouponInstance, nil, groups)
}

// readCoupons lists a discount card without keys.
func readCoupons(t iso7816.Transmit, v *cardView) error {
	v.Kind, v.Title = "coupon", "discount card"
	for n := byte(1); n != 0; n++ {
		raw, err := askCard(t, coupon.Read{N: n}.Command())
		if err != nil || raw == nil {
			return err
		}
		c, err := coupon.Parse(raw)
		if err != nil {
			return err
		}
		v.Coupons = append(v.Coupons, couponView{ID: c.ID.String(), Kind: c.Kind.Words(false), Merchant: c.Merchant.String(),
			Uses: int(c.Uses), Stamps: int(c.Stamps), Needed: int(c.Needed), To: c.To.String()})
	}
	return nil
}

// A couponView is one coupon of a discount card.
type couponView struct {
	ID       string `json:"id"`
	Kind     string `json:"kind"`
	Merchant string `json:"merchant"`
	Uses     int    `json:"uses_left"`
	Stamps   int    `json:"stamps,omitempty"`
	Needed   int    `json:"stamps_needed,omitempty"`
	To       string `json:"valid_to"`
}
