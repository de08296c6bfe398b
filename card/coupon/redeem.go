package coupon

import (
	"koala/card"
	"koala/spec/coupon"
	"koala/spec/iso7816"
)

// An operation waits for its COMMIT. It dies with the next BEGIN and with power.
type operation struct {
	session *coupon.Session
	op      coupon.Op
	slot    int // of the coupon
	key     int // offset of the merchant's key
	said    coupon.BeginAnswer
	heard   coupon.Begin
}

// begin checks everything that can be refused and changes nothing.
func (a *applet) begin(s *card.Session, c iso7816.Command) iso7816.Response {
	a.open = nil
	x, err := coupon.ParseBegin(c)
	if err != nil {
		return malformed(err)
	}
	slot, ok := a.slotOf(x.Coupon)
	if !ok {
		return fails(iso7816.SWReferenceNotFound)
	}
	held, err := coupon.Parse(a.raw(slot))
	if err != nil {
		return fails(iso7816.SWMemory)
	}
	if sw := held.May(x.Op, x.Fen, x.At); !sw.OK() {
		return fails(sw)
	}
	b := a.cells.Bytes()
	key, ok := a.key(func(k []byte) bool {
		return k[0] == held.Key && coupon.KeyUse(k[1]) == coupon.MerchantKey && coupon.ID(k[4:]) == held.Merchant
	})
	_, payer := a.issuerKey(held.Issuer)
	switch {
	case !ok, !payer, a.holder() == coupon.ID{}:
		return fails(iso7816.SWConditions)
	case b[key+3] == 0:
		return fails(iso7816.SWBlocked)
	}
	if _, done := a.proofOf(x.Challenge); done {
		return fails(iso7816.SWConditions)
	}
	said := coupon.BeginAnswer{Holder: a.holder(), Key: b[key+2], Counter: held.Counter, Reduction: held.Off(x.Op, x.Fen)}
	s.Random(said.Challenge[:])
	a.open = &operation{session: coupon.NewSession([16]byte(b[key+12:]), x, said), op: x.Op, slot: slot, key: key, said: said, heard: x}
	return answer(said.Bytes())
}

// commit carries the operation out: coupon, proof and the key's tries are one unit.
func (a *applet) commit(c iso7816.Command) iso7816.Response {
	x, err := coupon.ParseCommit(c)
	if err != nil {
		return malformed(err)
	}
	o := a.open
	if o == nil {
		return fails(iso7816.SWConditions)
	}
	a.open = nil
	tries := a.cells.Bytes()[o.key+3]
	if !coupon.Equal(x.MAC1, o.session.MAC1()) {
		a.cells.Write(o.key+3, []byte{tries - 1})
		return fails(iso7816.SWSecurity)
	}
	held, err := coupon.Parse(a.raw(o.slot))
	payer, ok := a.issuerKey(held.Issuer)
	if err != nil || !ok {
		return fails(iso7816.SWMemory)
	}
	proof := o.session.Record(held).Prove([16]byte(a.cells.Bytes()[payer+12:]))
	done := coupon.Done{Counter: o.said.Counter, Reduction: o.said.Reduction, Proof: proof, MAC2: o.session.MAC2(proof)}
	a.cells.Write(a.at(o.slot)+1, held.After(o.op).Bytes())
	a.cells.Write(o.key+3, []byte{KeyTries})
	a.keep(o.heard.Challenge, done)
	return answer(done.Bytes())
}

// keep stores the answer in the place of the oldest one.
func (a *applet) keep(challenge coupon.ID, done coupon.Done) {
	slot := (a.cells.Bytes()[atNewest] + 1) % Proofs
	a.cells.Write(atNewest, []byte{slot})
	a.cells.Write(atProofs+int(slot)*proofSize, append(append([]byte{used}, challenge[:]...), done.Bytes()...))
}

// proofOf finds the answer that was given to a terminal's challenge.
func (a *applet) proofOf(challenge coupon.ID) ([]byte, bool) {
	for i := range Proofs {
		p := a.cells.Bytes()[atProofs+i*proofSize:][:proofSize]
		if p[0] == used && coupon.ID(p[1:]) == challenge {
			return append([]byte(nil), p[9:]...), true
		}
	}
	return nil, false
}

// prove tells the outcome of an operation whose answer was lost.
func (a *applet) prove(c iso7816.Command) iso7816.Response {
	x, err := coupon.ParseProve(c)
	if err != nil {
		return malformed(err)
	}
	if done, ok := a.proofOf(x.Challenge); ok {
		return answer(done)
	}
	return fails(iso7816.SWReferenceNotFound)
}

// key finds the first key that is wanted: the offset of its record.
func (a *applet) key(want func(k []byte) bool) (at int, ok bool) {
	for at := atKeys; at < atProofs; at += keySize {
		if k := a.cells.Bytes()[at : at+keySize]; k[0] != 0 && want(k) {
			return at, true
		}
	}
	return 0, false
}

func (a *applet) issuerKey(owner coupon.ID) (at int, ok bool) {
	return a.key(func(k []byte) bool { return coupon.KeyUse(k[1]) == coupon.IssuerKey && coupon.ID(k[4:]) == owner })
}
