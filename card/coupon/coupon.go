// Package coupon is the discount card applet: many coupons of many merchants in
// one instance, each redeemed by its merchant's terminals only, within its
// limits, exactly once. What is on the wire is in spec/coupon; this package
// holds the state machine and what the card remembers. Start with Process, then
// redeem.go.
//
// A COMMIT is one unit of the element: the coupon and the proof of what was done
// to it change together or not at all.
package coupon

import (
	"errors"

	"koala/card"
	"koala/spec/coupon"
	"koala/spec/iso7816"
)

// Sizes of a discount card.
const (
	DefaultCoupons = 16 // coupons of an instance whose INSTALL names no number
	MaxCoupons     = 64
	KeyTries       = 15 // wrong MAC1 in a row that lock a key
	Proofs         = 4  // operations whose answer PROVE can give again
)

// Module makes discount cards. The INSTALL parameter C9 is one byte, the number
// of coupons it has room for; none is DefaultCoupons.
func Module() card.Module {
	return card.Module{New: func() card.Applet { return new(applet) }, Install: install}
}

// One region holds the whole card.
const (
	regionTag = 1

	atHolder  = 0 // number 8
	atNewest  = 8 // slot of the newest proof
	atKeys    = 9
	atProofs  = atKeys + keyCount*keySize
	atCoupons = atProofs + Proofs*proofSize

	keyCount = 8
	keySize  = 28 // index 1 (00 empty) | use 1 | version 1 | tries left 1 | owner 8 | key 16

	proofSize  = 31 // 01 in use | terminal's challenge 8 | coupon.Done 22
	couponSize = 1 + coupon.Len
	used       = 0x01
)

func install(s *card.Session, params []byte) iso7816.SW {
	n := DefaultCoupons
	switch {
	case len(params) == 1:
		n = int(params[0])
	case len(params) > 1:
		return iso7816.SWData
	}
	if n < 1 || n > MaxCoupons {
		return iso7816.SWData
	}
	if _, err := s.Allocate(regionTag, atCoupons+n*couponSize); err != nil {
		return iso7816.SWNoSpace
	}
	return iso7816.OK
}

// An applet is one selection. All its fields are volatile.
type applet struct {
	cells card.Region
	open  *operation // between BEGIN and COMMIT
}

func (a *applet) find(s *card.Session) {
	if !a.cells.Present() {
		a.cells = s.Region(regionTag)
	}
}

// Select answers with name, version, holder number and how many coupons there are.
func (a *applet) Select(s *card.Session) iso7816.Response {
	a.find(s)
	x, _ := s.Registry().Entry(s.Self)
	n := byte(0)
	for i := range a.slots() {
		if a.cells.Bytes()[a.at(i)] == used {
			n++
		}
	}
	return answer(coupon.FCI{AID: []byte(x.AID), Version: coupon.Version, Holder: a.holder(), Count: n}.Bytes())
}

// Process answers one command.
func (a *applet) Process(s *card.Session, c iso7816.Command) iso7816.Response {
	a.find(s)
	if c.CLA != coupon.CLA {
		return fails(iso7816.SWClass)
	}
	switch c.INS {
	case coupon.InsRead:
		return a.read(c)
	case coupon.InsBegin:
		return a.begin(s, c)
	case coupon.InsCommit:
		return a.commit(c)
	case coupon.InsProve:
		return a.prove(c)
	}
	return fails(iso7816.SWInstruction)
}

func (a *applet) read(c iso7816.Command) iso7816.Response {
	x, err := coupon.ParseRead(c)
	if err != nil {
		return malformed(err)
	}
	if x.N == 0 {
		i, ok := a.slotOf(x.ID)
		if !ok {
			return fails(iso7816.SWReferenceNotFound)
		}
		return answer(a.raw(i))
	}
	n := byte(0)
	for i := range a.slots() {
		if a.cells.Bytes()[a.at(i)] != used {
			continue
		}
		if n++; n == x.N {
			return answer(a.raw(i))
		}
	}
	return fails(iso7816.SWRecordNotFound)
}

func (a *applet) holder() coupon.ID { return coupon.ID(a.cells.Bytes()[atHolder:]) }

// slots is how many coupons there is room for.
func (a *applet) slots() int { return (a.cells.Size() - atCoupons) / couponSize }

func (a *applet) at(slot int) int { return atCoupons + slot*couponSize }

// raw is a copy of the coupon in a slot as it is read.
func (a *applet) raw(slot int) []byte {
	at := a.at(slot) + 1
	return append([]byte(nil), a.cells.Bytes()[at:at+coupon.Len]...)
}

func (a *applet) slotOf(id coupon.ID) (slot int, ok bool) {
	for i := range a.slots() {
		at := a.at(i)
		if b := a.cells.Bytes(); b[at] == used && coupon.ID(b[at+1:]) == id {
			return i, true
		}
	}
	return 0, false
}

func answer(data []byte) iso7816.Response { return iso7816.Response{Data: data, SW: iso7816.OK} }

func fails(sw iso7816.SW) iso7816.Response { return iso7816.Response{SW: sw} }

// malformed is the status word of a command spec/coupon could not read.
func malformed(err error) iso7816.Response {
	if errors.Is(err, coupon.ErrLength) {
		return fails(iso7816.SWLength)
	}
	return fails(iso7816.SWP1P2)
}
