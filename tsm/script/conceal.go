package script

import (
	"bytes"
	"slices"

	"koala/spec/emv"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// Conceal is personalisation data as the log may have it: without the
// card number, which the certificate of a bank card's key holds too.
func Conceal(groups []globalplatform.DGI) []globalplatform.DGI {
	out := make([]globalplatform.DGI, len(groups))
	for i, g := range groups {
		out[i] = globalplatform.DGI{ID: g.ID, Data: conceal(g.Data)}
	}
	return out
}

// ConcealAnswers does the same with what a bank card's records say.
func ConcealAnswers(steps []Step, answers [][]byte) [][]byte {
	out := slices.Clone(answers)
	for i, a := range answers {
		c := steps[i].Plain
		record := c.CLA == 0 && c.INS == iso7816.InsReadRecord && c.P2>>3 <= 10
		if options := c.CLA == 0x80 && c.INS == pboc.InsGPO; len(a) > 2 && (record || options) {
			out[i] = append(conceal(a[:len(a)-2]), a[len(a)-2:]...)
		}
	}
	return out
}

// conceal puts zeros for the digits of a card number but the first six and the
// last four, and for its certificate. Data that are no objects stay.
func conceal(in []byte) []byte {
	out := bytes.Clone(in)
	_ = tlv.Walk(out, func(_ int, tag tlv.Tag, v []byte) error {
		switch tag {
		case emv.TagPAN, emv.TagTrack2:
			concealDigits(v)
		case emv.TagICCCert:
			clear(v)
		}
		return nil
	})
	return out
}

func concealDigits(v []byte) {
	n := 0
	for n < 2*len(v) && v[n/2]>>(4*(1-n%2))&0x0F <= 9 {
		n++
	}
	for i := 6; i < n-4; i++ {
		v[i/2] &^= 0x0F << (4 * (1 - i%2))
	}
}
