package kernel

import (
	"errors"

	"koala/spec/emv"
)

var errNoODA = errors.New("kernel: the card cannot be authenticated offline")

// recoverIssuer opens the issuer's certificate under the CA key that the card
// names and the terminal has.
func (r *run) recoverIssuer() error {
	if r.issuer.Size() > 0 {
		return nil
	}
	index, aid := r.icc[emv.TagCAIndex], r.icc[emv.TagDFName]
	if len(index) != 1 || len(aid) < 5 {
		return errNoODA
	}
	rid := [5]byte(aid)
	ca, ok := r.k.keys[keyID{rid, index[0]}]
	if !ok {
		return errNoODA
	}
	check := emv.Check{PAN: r.out.PAN, Date: r.today()}
	if revoked := r.k.cfg.Revoked; revoked != nil {
		check.Revoked = func(serial [3]byte) bool { return revoked(rid, index[0], serial) }
	}
	info, err := emv.RecoverIssuer(ca, emv.Certificate{
		Certificate: r.icc[emv.TagIssuerCert], Remainder: r.icc[emv.TagIssuerRemainder], Exponent: r.icc[emv.TagIssuerExponent],
	}, check)
	if err == nil {
		r.issuer = info.Key
	}
	return err
}

// static is the data of the records that the issuer signed.
func (r *run) static() ([]byte, error) {
	return emv.StaticData(r.records, r.icc[emv.TagSDATagList], r.icc[emv.TagAIP])
}

// recoverCard opens the card's certificate, and the issuer's before it.
func (r *run) recoverCard() error {
	if r.card.Size() > 0 {
		return nil
	}
	if err := r.recoverIssuer(); err != nil {
		return err
	}
	static, err := r.static()
	if err != nil {
		return err
	}
	info, err := emv.RecoverICC(r.issuer, emv.Certificate{
		Certificate: r.icc[emv.TagICCCert], Remainder: r.icc[emv.TagICCRemainder], Exponent: r.icc[emv.TagICCExponent],
	}, static, emv.Check{PAN: r.out.PAN, Date: r.today()})
	if err == nil {
		r.card = info.Key
	}
	return err
}
