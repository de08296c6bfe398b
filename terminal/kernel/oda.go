package kernel

import (
	"errors"
	"slices"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// ErrNoHost says that a terminal has no line to a host.
var ErrNoHost = errors.New("kernel: no host")

var errNoODA = errors.New("kernel: the card cannot be authenticated offline")

// authority is the CA key that the card names and the terminal has, unless its
// last day is over. Its algorithm is that of the whole chain.
func (r *run) authority() (emv.CAKey, bool) {
	index, aid := r.icc[emv.TagCAIndex], r.icc[emv.TagDFName]
	if len(index) != 1 || len(aid) < 5 {
		return emv.CAKey{}, false
	}
	ca, ok := r.k.keys[keyID{[5]byte(aid), index[0]}]
	if !ok || !ca.Usable(r.day()) {
		return emv.CAKey{}, false
	}
	return ca, true
}

// lacks says whether an exponent has not been given that the chain needs: SM2
// keys have none (JR/T 0025.17).
func (r *run) lacks(exponent tlv.Tag) bool {
	if r.has(exponent) {
		return false
	}
	ca, ok := r.authority()
	return !ok || ca.Algorithm != emv.SM2
}

// recoverIssuer opens the issuer's certificate under the authority's key.
func (r *run) recoverIssuer() error {
	if r.issuer.Size() > 0 {
		return nil
	}
	ca, ok := r.authority()
	if !ok {
		return errNoODA
	}
	check := emv.Check{PAN: r.out.PAN, Date: r.today()}
	if revoked := r.k.cfg.Revoked; revoked != nil {
		check.Revoked = func(serial [3]byte) bool { return revoked(ca.RID, ca.Index, serial) }
	}
	info, err := emv.RecoverIssuer(ca, emv.Certificate{
		Certificate: r.icc[emv.TagIssuerCert], Remainder: r.icc[emv.TagIssuerRemainder], Exponent: r.icc[emv.TagIssuerExponent],
	}, check)
	if err == nil {
		r.issuer = info.Key
	}
	return err
}

// signed is the data of the records that the issuer signed.
func (r *run) signed() ([]byte, error) {
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
	data, err := r.signed()
	if err != nil {
		return err
	}
	info, err := emv.RecoverICC(r.issuer, emv.Certificate{
		Certificate: r.icc[emv.TagICCCert], Remainder: r.icc[emv.TagICCRemainder], Exponent: r.icc[emv.TagICCExponent],
	}, data, emv.Check{PAN: r.out.PAN, Date: r.today()})
	if err == nil {
		r.card = info.Key
	}
	return err
}

// An authentication is a method of offline data authentication.
type authentication byte

const (
	noODA authentication = iota
	static
	dynamic
	combined
)

// agreed is the strongest method that the card (82) and the terminal (9F33)
// have in common (EMV 4.4 Book 3, 10.3).
func (r *run) agreed() authentication {
	c := emv.Capabilities(r.k.cfg.Capabilities)
	switch {
	case r.aip.Has(emv.AIPCDA) && c.Has(emv.CapCDA):
		return combined
	case r.aip.Has(emv.AIPDDA) && c.Has(emv.CapDDA):
		return dynamic
	case r.aip.Has(emv.AIPSDA) && c.Has(emv.CapSDA):
		return static
	}
	return noODA
}

// authenticate performs offline data authentication on the contacts. Its
// findings go into TVR and TSI; a combined signature is checked when the
// cryptogram comes, here only its keys are.
func (r *run) authenticate() error {
	method := r.agreed()
	if method == noODA {
		r.tvr.Set(emv.TVRNoODA)
		return nil
	}
	r.tsi.Set(emv.TSIODA)
	failed := map[authentication]emv.TVRBit{static: emv.TVRSDAFailed, dynamic: emv.TVRDDAFailed, combined: emv.TVRCDAFailed}[method]
	if method == static {
		r.tvr.Set(emv.TVRSDASelected)
	}
	if r.keysMissing(method) {
		r.tvr.Set(emv.TVRDataMissing)
		r.tvr.Set(failed)
		return nil
	}
	var err error
	switch method {
	case static:
		err = r.verifyStatic()
	case dynamic:
		err = r.verifyDynamic()
	case combined:
		if err = r.recoverCard(); err == nil {
			r.combined = true
		}
	}
	if s, ok := err.(*stop); ok { // the card left or broke the protocol
		return s
	}
	if err != nil {
		r.tvr.Set(failed)
	}
	r.proved = err == nil && method != combined
	return nil
}

// keysMissing says whether an object that a method needs is not there.
func (r *run) keysMissing(m authentication) bool {
	need, exponents := []tlv.Tag{emv.TagCAIndex, emv.TagIssuerCert, emv.TagICCCert}, []tlv.Tag{emv.TagIssuerExponent, emv.TagICCExponent}
	if m == static {
		need, exponents = []tlv.Tag{emv.TagCAIndex, emv.TagIssuerCert, emv.TagSSAD}, exponents[:1]
	}
	return slices.ContainsFunc(need, func(tag tlv.Tag) bool { return !r.has(tag) }) || slices.ContainsFunc(exponents, r.lacks)
}

func (r *run) verifyStatic() error {
	if err := r.recoverIssuer(); err != nil {
		return err
	}
	data, err := r.signed()
	if err != nil {
		return err
	}
	dac, err := emv.VerifySDA(r.issuer, r.icc[emv.TagSSAD], data)
	if err == nil {
		r.icc[emv.TagDAC] = dac[:]
	}
	return err
}

// verifyDynamic asks the card to sign the objects of its DDOL, or the
// terminal's when it has none (INTERNAL AUTHENTICATE, Book 2, 6.5).
func (r *run) verifyDynamic() error {
	if err := r.recoverCard(); err != nil {
		return err
	}
	list := r.app.DDOL
	if r.has(emv.TagDDOL) {
		list = r.icc[emv.TagDDOL]
	}
	dol, err := emv.ParseDOL(list)
	if err != nil || !dol.Has(emv.TagUN) || dol.Len() > emv.MaxDOLData {
		return errNoODA
	}
	values := dol.Append(nil, r.get)
	a, err := r.send(iso7816.Command{INS: iso7816.InsInternalAuthenticate, Data: values})
	switch {
	case err != nil:
		return end(TryAgain, Torn)
	case !a.SW.OK():
		return errNoODA
	}
	tag, val, rest, err := tlv.Next(a.Data)
	switch {
	case err != nil || len(rest) != 0:
		return errNoODA
	case tag == emv.TagAnswer2:
		o, err := flat(val)
		if err != nil {
			return errNoODA
		}
		val = o[emv.TagSDAD]
	case tag != emv.TagAnswer1:
		return errNoODA
	}
	n, err := emv.VerifyDDA(r.card, val, values)
	if err == nil {
		r.icc[emv.TagDynamicNumber] = n
	}
	return err
}

// verifyCombined checks the signature that came with a cryptogram, and takes
// the cryptogram that it vouches for (Book 2, 6.6.2).
func (r *run) verifyCombined(c cryptogram, cdol2 []byte) error {
	data, err := emv.TransactionData(r.pdol, r.cdol1, cdol2, c.raw)
	if err != nil {
		return err
	}
	cda, err := emv.VerifyCDA(r.card, c.sdad, r.tx.Unpredictable, byte(c.cid), data)
	if err != nil {
		return err
	}
	r.icc[emv.TagAC], r.icc[emv.TagDynamicNumber] = cda.AC[:], cda.Number
	r.proved = true
	return nil
}
