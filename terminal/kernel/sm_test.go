package kernel_test

import (
	"bytes"
	"testing"

	"koala/spec/emv"
	"koala/terminal/kernel"
)

const smIndex = 0xD1

func smKey(b byte) *emv.PrivateKey { return must(emv.NewSM2Key(bytes.Repeat([]byte{b}, 32))) }

// smPaper is a paper card with an SM2 chain, all of it before the last record;
// change alters a certificate.
func smPaper(change func(tag string, value []byte)) *paper {
	p := newPaper()
	p.sign = smKey(0x33)
	p.fci = join(object(emv.TagLabel, []byte(p.label)), object(emv.TagPDOL, unhex(tapPDOL+"DF6901")), object(emv.TagFCIDiscretionary, object(emv.TagLogEntry, []byte{0x0B, 0x0A})))
	p.spoil = func(id emv.RecordID, data []byte) []byte {
		first := emv.Record{RecordID: emv.RecordID{SFI: 2, Number: 1, ODA: true}, Data: p.records[emv.RecordID{SFI: 2, Number: 1}]}
		static := must(emv.StaticData([]emv.Record{first}, []byte{0x82}, unhex(p.aip)))
		issuer := must(emv.MakeIssuerCertificate(smKey(0x11), emv.KeyInfo{Owner: "622800", Expiry: [2]byte{0x12, 0x35}, Key: smKey(0x22).Public()})).Certificate
		card := must(emv.MakeICCCertificate(smKey(0x22), emv.KeyInfo{Owner: p.pan, Expiry: [2]byte{0x12, 0x35}, Key: smKey(0x33).Public()}, static)).Certificate
		if change != nil {
			change("issuer", issuer)
			change("card", card)
		}
		switch id {
		case emv.RecordID{SFI: 2, Number: 2}:
			return object(emv.TagRecord, join(object(emv.TagCAIndex, []byte{smIndex}), object(emv.TagIssuerCert, issuer)))
		case emv.RecordID{SFI: 2, Number: 3}:
			return object(emv.TagRecord, object(emv.TagICCCert, card))
		case emv.RecordID{SFI: 2, Number: 4}:
			return object(emv.TagRecord, object(emv.TagSSAD, must(smKey(0x22).SignStatic([2]byte{0xDA, 0xC0}, static))))
		}
		return data
	}
	return p
}

func knowsSM(c *kernel.Config) {
	c.Keys = append(c.Keys, emv.NewCAKey([5]byte([]byte(aid)), smIndex, smKey(0x11).Public()))
}

// The SM2 chain over the air. What is wrong with it is found before the card pays
// where all of it is read by then; a signature may still want the 9F69 of the last
// record at a terminal that knows version 01.
func TestSMTap(t *testing.T) {
	flip := func(which string, at int) func(string, []byte) {
		return func(tag string, v []byte) {
			if tag == which {
				v[at] ^= 1
			}
		}
	}
	for _, tt := range []struct {
		name  string
		card  *paper
		knows bool
		want  kernel.Result
		why   kernel.Reason
	}{
		{"fDDA 00", smPaper(nil), true, kernel.Approved, kernel.NoReason},
		{"terminal without the key", smPaper(nil), false, kernel.Declined, kernel.NotGenuine},
		{"issuer's content", smPaper(flip("issuer", 9)), true, kernel.Declined, kernel.NotGenuine},
		{"issuer's signature", smPaper(flip("issuer", 141)), true, kernel.Declined, kernel.NotGenuine},
		{"issuer's format", smPaper(flip("issuer", 0)), true, kernel.Declined, kernel.NotGenuine},
		{"card's key", smPaper(flip("card", 40)), true, kernel.Declined, kernel.NotGenuine},
		{"card's signature", smPaper(flip("card", 147)), true, kernel.Declined, kernel.NotGenuine},
		{"another card's key signs", func() *paper { p := smPaper(nil); p.sign = smKey(0x44); return p }(), true, kernel.Declined, kernel.PaidNotAccepted},
		{"an RSA key signs", func() *paper { p := smPaper(nil); p.sign = keys().card; return p }(), true, kernel.Declined, kernel.PaidNotAccepted},
	} {
		k := newKernel(t)
		if tt.knows {
			k = newKernel(t, knowsSM)
		}
		o := tap(t, k, tt.card, 1_00, kernel.Seams{})
		want(t, o, tt.want, tt.why)
		if asked, _ := tt.card.values.Get(emv.TagSM); tt.knows != bytes.Equal(asked, []byte{1}) {
			t.Errorf("%s: DF69 %X", tt.name, asked)
		}
		if paid := len(tt.card.committed) == 1; paid != (tt.want == kernel.Approved || tt.why == kernel.PaidNotAccepted) {
			t.Errorf("%s: paid %v", tt.name, paid)
		}
	}
	p := smPaper(nil)
	p.sign = smKey(0x44)
	k := newKernel(t, knowsSM, func(c *kernel.Config) { c.TTQ[3] &^= 0x80 }) // version 00 only
	if want(t, tap(t, k, p, 1_00, kernel.Seams{}), kernel.Declined, kernel.NotGenuine); len(p.committed) != 0 {
		t.Error("paid with another key's signature")
	}
	p = smPaper(nil)
	p.version = 1
	want(t, tap(t, newKernel(t, knowsSM), p, 1_00, kernel.Seams{}), kernel.Approved, kernel.NoReason)
}

// By contact the findings go into TVR and TSI as those of the RSA chain do.
func TestSMInsert(t *testing.T) {
	ask := func(p *paper) *paper {
		p.fci = join(object(emv.TagLabel, []byte(p.label)), object(emv.TagPDOL, unhex(insertPDOL+"DF6901")))
		return p
	}
	for _, tt := range []struct {
		name   string
		aip    string
		sign   *emv.PrivateKey
		failed emv.TVRBit
		ok     bool
	}{
		{"SDA", "5C00", smKey(0x33), emv.TVRSDAFailed, true},
		{"DDA", "7C00", smKey(0x33), emv.TVRDDAFailed, true},
		{"DDA, another key", "7C00", smKey(0x44), emv.TVRDDAFailed, false},
		{"CDA", "7D00", smKey(0x33), emv.TVRCDAFailed, true},
	} {
		p := ask(smPaper(nil))
		p.aip, p.sign = tt.aip, tt.sign
		o := insert(t, newKernel(t, knowsSM), p, 1_00, kernel.Seams{})
		var tvr emv.TVR
		copy(tvr[:], o.TVR[:])
		if tvr.Has(tt.failed) == tt.ok || tvr.Has(emv.TVRDataMissing) || (o.Result == kernel.Approved) != tt.ok {
			t.Errorf("%s: %v, TVR %X", tt.name, o, tvr)
		}
	}
}
