package coupon

import (
	"koala/card"
	"koala/spec/coupon"
	"koala/spec/iso7816"
)

// StoreData takes one data grouping from the security domain. A grouping that
// comes again after a lost answer changes nothing more.
func (a *applet) StoreData(s *card.Session, dgi uint16, data []byte) iso7816.SW {
	a.find(s)
	switch {
	case dgi == coupon.DGIHolder:
		return a.storeHolder(data)
	case dgi == coupon.DGICoupon:
		return a.storeCoupon(data)
	case dgi == coupon.DGIDelete:
		return a.deleteCoupon(data)
	case dgi >= coupon.DGIKeyFirst && dgi <= coupon.DGIKeyLast:
		return a.storeKey(s, data)
	}
	return iso7816.SWReferenceNotFound
}

// storeHolder gives the card its number. Keys are derived from it, so it stays
// once there is a key.
func (a *applet) storeHolder(data []byte) iso7816.SW {
	if len(data) != 8 || coupon.ID(data) == (coupon.ID{}) {
		return iso7816.SWData
	}
	_, keyed := a.key(func([]byte) bool { return true })
	if keyed && a.holder() != (coupon.ID{}) && a.holder() != coupon.ID(data) {
		return iso7816.SWConditions
	}
	a.cells.Write(atHolder, data)
	return iso7816.OK
}

// storeCoupon adds a coupon. An id that is there stays as it is, used or not:
// only the very same offer may come again.
func (a *applet) storeCoupon(data []byte) iso7816.SW {
	c, err := coupon.Parse(data)
	if err != nil {
		return iso7816.SWData
	}
	if i, ok := a.slotOf(c.ID); ok {
		held, err := coupon.Parse(a.raw(i))
		if err != nil || !held.SameOffer(c) {
			return iso7816.SWConditions
		}
		return iso7816.OK
	}
	for i := range a.slots() {
		if at := a.at(i); a.cells.Bytes()[at] != used {
			a.cells.Write(at, append([]byte{used}, data...))
			return iso7816.OK
		}
	}
	return iso7816.SWNoSpace
}

func (a *applet) deleteCoupon(data []byte) iso7816.SW {
	if len(data) != 8 {
		return iso7816.SWData
	}
	if i, ok := a.slotOf(coupon.ID(data)); ok {
		a.cells.Write(a.at(i), make([]byte, couponSize))
	}
	return iso7816.OK
}

// storeKey puts a key in, in the place of the one with its index.
func (a *applet) storeKey(s *card.Session, data []byte) iso7816.SW {
	k, err := coupon.ParseKeyRecord(data)
	if err != nil || k.Index == 0 || k.Owner == (coupon.ID{}) || k.Use != coupon.MerchantKey && k.Use != coupon.IssuerKey {
		return iso7816.SWData
	}
	plain, err := s.DecryptKey(k.Key[:])
	if err != nil || len(plain) != len(k.Key) || !k.Fits([16]byte(plain)) {
		return iso7816.SWData
	}
	at, ok := a.key(func(old []byte) bool { return old[0] == k.Index })
	for free := atKeys; !ok && free < atProofs; free += keySize {
		at, ok = free, a.cells.Bytes()[free] == 0
	}
	if !ok {
		return iso7816.SWNoSpace
	}
	record := append([]byte{k.Index, byte(k.Use), k.Version, KeyTries}, k.Owner[:]...)
	a.cells.Write(at, append(record, plain...))
	return iso7816.OK
}
