package online_test

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"koala/hsm"
	"koala/spec/emv"
	"koala/spec/globalplatform"
	"koala/spec/pboc"
	"koala/spec/tlv"
	"koala/tsm/online"
)

const testPAN = "6288880600000001238"

// keys are the first three RSA keys of the hsm's test file: CA, issuer, card.
func keys(t testing.TB) (out [3]*emv.PrivateKey) {
	t.Helper()
	file, err := os.ReadFile("../../hsm/testdata/primes.txt")
	if err != nil {
		t.Fatal(err)
	}
	for i, bits := range []string{"1408", "1152", "1024"} {
		for _, line := range bytes.Split(file, []byte("\n")) {
			f := bytes.Fields(line)
			if len(f) != 3 || string(f[0]) != bits {
				continue
			}
			if out[i], err = emv.NewPrivateKey(unhex(t, f[1]), unhex(t, f[2]), []byte{3}); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	return out
}

func unhex(t testing.TB, b []byte) []byte {
	t.Helper()
	out := make([]byte, len(b)/2)
	for i := range out {
		for _, c := range b[2*i : 2*i+2] {
			v := c - '0'
			if c >= 'A' {
				v = c&^0x20 - 'A' + 10
			}
			out[i] = out[i]<<4 | v
		}
	}
	return out
}

// A rig is a card as it was personalised, with who vouches for it.
type rig struct {
	card online.Card
	ca   emv.CAKey
	own  *emv.PrivateKey
	in   pboc.Card
}

func newRig(t testing.TB) rig {
	t.Helper()
	k := keys(t)
	c := pboc.Card{Label: "PBOC ECASH", Priority: 1, PAN: testPAN, PSN: 1, Service: "220", Effective: [3]byte{0x15, 9, 0x16}, Expiry: [3]byte{0x20, 9, 0x15},
		Country: [2]byte{1, 0x56}, Currency: [2]byte{1, 0x56}, AIP: [2]byte{0x3C, 0}, DKI: 1, CVN: pboc.CVN01, Alg: pboc.TripleDES, Report: pboc.ReportBalance, CA: 0xE0}
	issuer, err := emv.MakeIssuerCertificate(k[0], emv.KeyInfo{Owner: testPAN[:8], Expiry: [2]byte{0x12, 0x30}, Key: k[1].Public()})
	if err != nil {
		t.Fatal(err)
	}
	c.IssuerCertificate, c.IssuerRemainder, c.IssuerExponent = issuer.Certificate, issuer.Remainder, issuer.Exponent
	own, err := emv.MakeICCCertificate(k[1], emv.KeyInfo{Owner: testPAN, Expiry: [2]byte{0x12, 0x30}, Key: k[2].Public()}, c.Static())
	if err != nil {
		t.Fatal(err)
	}
	c.ICCCertificate, c.ICCRemainder, c.ICCExponent = own.Certificate, own.Remainder, own.Exponent
	var groups []globalplatform.DGI
	for _, g := range c.Personalisation().DGIs() {
		groups = append(groups, globalplatform.DGI{ID: g.ID, Data: g.Data})
	}
	card, err := online.CardOf([]byte(pboc.AIDECash), groups)
	if err != nil {
		t.Fatal(err)
	}
	return rig{card, emv.NewCAKey([5]byte([]byte(pboc.RID)), 0xE0, k[0].Public()), k[2], c}
}

// answers are what the card says to its proof.
func (r rig) answers(t testing.TB, d online.Deal) (out [][]byte) {
	t.Helper()
	entry := tlv.Append(nil, emv.TagEntry, tlv.Append(nil, emv.TagAID, []byte(pboc.AIDECash)))
	p := r.in.Personalisation()
	for _, c := range r.card.Proof(d) {
		var a []byte
		switch {
		case len(out) == 0:
			a = tlv.Append(nil, emv.TagFCI, tlv.Append(nil, emv.TagFCIProprietary, tlv.Append(nil, emv.TagFCIDiscretionary, entry)))
		case c.INS == pboc.InsGPO:
			a = tlv.Append(nil, emv.TagAnswer1, append(r.in.AIP[:], p.Contact.AFL...))
		case c.INS == 0xB2:
			for _, rec := range p.Records {
				if rec.SFI == c.P2>>3 && rec.Number == c.P1 {
					a = rec.Data
				}
			}
		case c.INS == 0xCA && c.P2 == 0x79:
			a = tlv.Append(nil, emv.TagECBalance, make([]byte, 6))
		case c.INS == 0x88:
			sdad, err := r.own.SignDDA([]byte{0, 1}, c.Data)
			if err != nil {
				t.Fatal(err)
			}
			a = tlv.Append(nil, emv.TagAnswer1, sdad)
		}
		out = append(out, a)
	}
	return out
}

// TestCheck takes a card's proof, and none in which any answer is another one.
func TestCheck(t *testing.T) {
	r := newRig(t)
	d := online.Deal{UN: [4]byte{1, 2, 3, 4}, At: time.Date(2015, 9, 16, 8, 0, 0, 0, time.UTC)}
	good := r.answers(t, d)
	if err := r.card.Check(r.ca, testPAN, good, d.UN[:]); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		if len(good[i]) == 0 {
			continue // SELECT and the counter prove nothing
		}
		bad := append([][]byte(nil), good...)
		bad[i] = bytes.Clone(good[i])
		bad[i][len(bad[i])-1] ^= 1
		if err := r.card.Check(r.ca, testPAN, bad, d.UN[:]); !errors.Is(err, online.ErrAnswer) {
			t.Errorf("answer %d altered: %v", i, err)
		}
	}
	for name, err := range map[string]error{
		"an answer less":         r.card.Check(r.ca, testPAN, good[1:], d.UN[:]),
		"another challenge":      r.card.Check(r.ca, testPAN, good, []byte{4, 3, 2, 1}),
		"somebody else's number": r.card.Check(r.ca, "6288880600000009999", good, d.UN[:]),
		"another authority":      r.card.Check(emv.CAKey{RID: r.ca.RID, Index: 0xE0, Modulus: r.own.Public().Modulus(), Exponent: []byte{3}}, testPAN, good, d.UN[:]),
	} {
		if !errors.Is(err, online.ErrAnswer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHear puts together what the cryptogram covers from what was sent.
func TestHear(t *testing.T) {
	r := newRig(t)
	d := online.Deal{Fen: 123_45, Type: 0x60, UN: [4]byte{9, 8, 7, 6}, At: time.Date(2015, 9, 16, 8, 0, 0, 0, time.UTC)}
	sent := d.GenerateAC(pboc.ARQC, r.card.Lists.CDOL1).Data
	options := tlv.Append(nil, emv.TagAnswer1, []byte{0x3C, 0, 8, 1, 1, 0})
	iad := pboc.IAD{DKI: 1, CVN: 1, Alg: pboc.TripleDES}.Bytes()
	answer := tlv.Append(nil, emv.TagAnswer1, append([]byte{0x80, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8}, iad...))
	key := hsm.BankCard{PAN: testPAN, PSN: 1}
	h, err := online.Hear(key, options, answer, r.card.Lists.CDOL1, sent)
	if err != nil {
		t.Fatal(err)
	}
	x := h.Data
	if h.ATC != 7 || h.CID != 0x80 || x.Amount != pboc.Amount(123_45) || x.Type != 0x60 || x.Unpredictable != d.UN || x.Date != [3]byte{0x15, 9, 0x16} || x.Currency != [2]byte{1, 0x56} {
		t.Errorf("%+v", h.Cryptogram)
	}
	if v, ok := tlv.Find(h.Request(), emv.TagPAN); !ok || len(v) != 10 || v[9] != 0x8F {
		t.Errorf("the request's number is %X", v)
	}
	second := h.Second(r.card.Lists.CDOL2, make([]byte, 10))
	if !bytes.Equal(second[1].Data, append([]byte("00"), sent...)) {
		t.Errorf("second GENERATE AC says %X, the first %X", second[1].Data, sent)
	}
	for _, bad := range [][2][]byte{{nil, answer}, {options, nil}, {options, answer[:8]}} {
		if _, err := online.Hear(key, bad[0], bad[1], r.card.Lists.CDOL1, sent); !errors.Is(err, online.ErrAnswer) {
			t.Errorf("%X: %v", bad, err)
		}
	}
	if _, err := online.Hear(key, options, answer, r.card.Lists.CDOL1, sent[1:]); !errors.Is(err, online.ErrAnswer) {
		t.Errorf("short data: %v", err)
	}
}

func FuzzParseLists(f *testing.F) {
	r := newRig(f)
	f.Add(r.card.Lists.Bytes(), []byte{})
	f.Add([]byte{0x9F, 0x38, 3, 0x9F, 0x02, 6}, r.card.Lists.Bytes())
	f.Fuzz(func(t *testing.T, fci, record []byte) {
		l, err := online.ParseLists(fci, record)
		if err != nil {
			return
		}
		again, err := online.ParseLists(l.Bytes(), l.Bytes())
		if err != nil || !bytes.Equal(again.Bytes(), l.Bytes()) {
			t.Errorf("%X reads as %+v, again as %+v: %v", fci, l, again, err)
		}
	})
}
