package kernel_test

import (
	"bytes"
	"testing"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/terminal/kernel"
)

// Usage control by kind of sale, place and country (EMV 4.4 Book 3, 10.4.2).
func TestUsageControl(t *testing.T) {
	for _, tt := range []struct {
		name    string
		auc     string
		country string
		kind    byte
		term    byte
		allowed bool
	}{
		{"goods at home", "2100", "0156", 0x00, 0x22, true},
		{"services at home", "0900", "0156", 0x00, 0x22, true},
		{"goods abroad only", "1100", "0156", 0x00, 0x22, false},
		{"foreign card, goods abroad", "1100", "0344", 0x00, 0x22, true},
		{"foreign card, goods at home only", "2100", "0344", 0x00, 0x22, false},
		{"cash", "8100", "0156", 0x01, 0x22, true},
		{"no cash", "2100", "0156", 0x01, 0x22, false},
		{"cashback", "2180", "0156", 0x09, 0x22, true},
		{"no cashback", "2100", "0156", 0x09, 0x22, false},
		{"not at shops", "2000", "0156", 0x00, 0x22, false},
		{"not at cash machines", "8100", "0156", 0x01, 0x14, false},
		{"at cash machines", "8200", "0156", 0x01, 0x14, true},
		{"another kind", "0100", "0156", 0x31, 0x22, true},
		{"no country", "0100", "", 0x00, 0x22, true},
	} {
		p := chip(func(p *paper) {
			p.aip = "1800"
			p.spoil = func(_ emv.RecordID, data []byte) []byte {
				return bytes.Replace(data, []byte{0x9F, 0x07, 2, 0xFF, 0}, append([]byte{0x9F, 0x07, 2}, unhex(tt.auc)...), 1)
			}
			if tt.country != "" {
				p.last = object(emv.TagIssuerCountry, unhex(tt.country))
			} else {
				p.last = object(emv.TagHolder, []byte("X"))
			}
		})
		tx := sale(1_00)
		tx.Type = tt.kind
		k := newKernel(t, func(c *kernel.Config) { c.Type, c.MoreCapabilities[0] = tt.term, 0xE0 })
		o, err := k.Insert(p.transmit, tx, kernel.Seams{})
		if err != nil || o.TVR[1]&0x10 == 0 != tt.allowed {
			t.Errorf("%s: TVR %X, %v", tt.name, o.TVR, err)
		}
	}
}

// Conditions of verification rules that a shop never meets.
func TestVerificationConditions(t *testing.T) {
	for _, tt := range []struct {
		name, list string
		kind, term byte
		results    string
	}{
		{"unattended cash", "0000000000000000 1F01 1E00", 0x01, 0x25, "1F0102"},
		{"attended cash", "0000000000000000 1F01 1E04", 0x01, 0x22, "1E0400"},
		{"cash is not the rest", "0000000000000000 1F02 1E00", 0x01, 0x22, "1E0000"},
		{"cashback", "0000000000000000 1E05 1F00", 0x09, 0x22, "1E0500"},
		{"over Y", "0000000000000063 1E09 1F00", 0x00, 0x22, "1E0900"},
		{"unknown condition", "0000000000000000 1E20 1F00", 0x00, 0x22, "1F0002"},
		{"enciphered PIN, not ours", "0000000000000000 4400 1F00", 0x00, 0x22, "1F0002"},
		{"document, not ours", "0000000000000000 6000 1F00", 0x00, 0x22, "1F0002"},
	} {
		tx := sale(1_00)
		tx.Type = tt.kind
		k := newKernel(t, func(c *kernel.Config) { c.Type = tt.term })
		o, err := k.Insert(chip(func(p *paper) { p.cvmList = tt.list }).transmit, tx, kernel.Seams{})
		if got := o.Get(emv.TagCVMResults); err != nil || !bytes.Equal(got, unhex(tt.results)) {
			t.Errorf("%s: %X, %v", tt.name, got, err)
		}
	}
	p := chip(func(p *paper) { p.cvmList = "0000000000000000 2000" })
	o := insert(t, newKernel(t, func(c *kernel.Config) { c.Capabilities[1] |= 0x01 }), p, 1_00, kernel.Seams{})
	if o.CVM != kernel.Document {
		t.Errorf("%s", o.CVM.Words(false))
	}
}

// What ends a contact transaction early: one line per thing a card gets wrong.
func TestInsertRefuses(t *testing.T) {
	sw := func(ins byte, sw iso7816.SW) func(*paper) {
		return func(p *paper) {
			p.answer = func(c iso7816.Command, _ int) (iso7816.Response, bool) { return iso7816.Response{SW: sw}, c.INS == ins }
		}
	}
	says := func(ins byte, data string) func(*paper) {
		return func(p *paper) {
			p.answer = func(c iso7816.Command, _ int) (iso7816.Response, bool) { return ok(unhex(data)), c.INS == ins }
		}
	}
	n := byte(len(unhex(cdol)))
	without := func(p *paper) {
		p.spoil = func(_ emv.RecordID, data []byte) []byte {
			return bytes.Replace(data, []byte{0x8C, n}, []byte{0xC1, n}, 1)
		}
	}
	for _, tt := range []struct {
		name   string
		card   func(*paper)
		result kernel.Result
		reason kernel.Reason
	}{
		{"card blocked", func(p *paper) {
			p.answer = func(_ iso7816.Command, n int) (iso7816.Response, bool) {
				return iso7816.Response{SW: iso7816.SWFunction}, n == 1
			}
		}, kernel.EndApplication, kernel.CardBlocked},
		{"conditions of use", sw(0xA8, iso7816.SWConditions), kernel.EndApplication, kernel.CardRefused},
		{"GPO refused", sw(0xA8, iso7816.SWUnknown), kernel.EndApplication, kernel.CardRefused},
		{"GPO nonsense", says(0xA8, "7003010203"), kernel.EndApplication, kernel.CardError},
		{"GPO too short", says(0xA8, "80027C00"), kernel.EndApplication, kernel.CardError},
		{"GPO no AIP", says(0xA8, "770694041001010 0"), kernel.EndApplication, kernel.CardError},
		{"record refused", func(p *paper) {
			p.answer = func(c iso7816.Command, n int) (iso7816.Response, bool) {
				return iso7816.Response{SW: iso7816.SWRecordNotFound}, c.INS == iso7816.InsReadRecord && n > 4
			}
		}, kernel.EndApplication, kernel.CardRefused},
		{"record is none", func(p *paper) {
			p.spoil = func(emv.RecordID, []byte) []byte { return []byte{0x71, 0} }
		}, kernel.EndApplication, kernel.CardError},
		{"no CDOL1", without, kernel.EndApplication, kernel.CardError},
		{"GENERATE AC refused", sw(0xAE, iso7816.SWConditions), kernel.EndApplication, kernel.CardRefused},
		{"GENERATE AC nonsense", says(0xAE, "8001"), kernel.EndApplication, kernel.CardError},
		{"GENERATE AC short", says(0xAE, "80024001"), kernel.EndApplication, kernel.CardError},
		{"another template", says(0xAE, "70024001"), kernel.EndApplication, kernel.CardError},
		{"no such cryptogram", says(0xAE, "800BC0010143525950544F4752"), kernel.EndApplication, kernel.CardError},
		{"no cryptogram in it", says(0xAE, "77089F2701409F36020101"), kernel.EndApplication, kernel.CardError},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want(t, insert(t, newKernel(t), chip(func(p *paper) { p.cdol1 = cdol; tt.card(p) }), 1_00, kernel.Seams{}), tt.result, tt.reason)
		})
	}
	// The same answers where the device had kept an intent: it is the device's to clear up.
	x := &till{}
	o := insert(t, newKernel(t), chip(says(0xAE, "8001")), 1_00, x.seams())
	if want(t, o, kernel.Declined, kernel.PaidNotAccepted); !o.Committed {
		t.Error("an answer that nobody can read may be a payment")
	}
	o = insert(t, newKernel(t), chip(sw(0xAE, iso7816.SWConditions)), 1_00, x.seams())
	if want(t, o, kernel.EndApplication, kernel.CardRefused); o.Committed {
		t.Error("a refusal is no payment")
	}
}

// A card that gives what it was not asked for.
func TestCardMayOnlyAskForLess(t *testing.T) {
	p := chip(func(p *paper) { p.sign = keys().other }) // DDA fails: the host is asked for
	p.answer = func(c iso7816.Command, _ int) (iso7816.Response, bool) {
		return ok(object(emv.TagAnswer1, join([]byte{emv.TC, 1, 1}, []byte("CRYPTOGR")))), c.INS == 0xAE
	}
	want(t, insert(t, newKernel(t), p, 1_00, kernel.Seams{}), kernel.Declined, kernel.CardError)
	p = chip(func(p *paper) { p.kind = emv.ARQC })
	p.answer = func(c iso7816.Command, _ int) (iso7816.Response, bool) {
		return ok(object(emv.TagAnswer1, join([]byte{emv.ARQC, 1, 1}, []byte("CRYPTOGR")))), c.INS == 0xAE
	}
	want(t, insert(t, newKernel(t), p, 1_00, kernel.Seams{Issuer: host("00", nil, nil)}), kernel.Declined, kernel.CardError)
}

// A card without action codes is one whose issuer wants to be asked about
// every finding (Book 3, 10.7).
func TestNoActionCodes(t *testing.T) {
	none := func(p *paper) {
		p.aip = "1800" // signed data change
		p.spoil = func(_ emv.RecordID, data []byte) []byte {
			for _, tag := range []byte{0x0D, 0x0E, 0x0F} {
				data = bytes.Replace(data, []byte{0x9F, tag, 5}, []byte{0xDF, tag, 5}, 1)
			}
			return data
		}
	}
	asked := false
	k := newKernel(t, func(c *kernel.Config) {
		c.Applications[0].TACOnline, c.Applications[0].TACDefault = [5]byte{}, [5]byte{}
	})
	o := insert(t, k, chip(none), 1_00, kernel.Seams{Issuer: func([]byte) (kernel.Answer, error) {
		asked = true
		return kernel.Answer{ARC: "00"}, nil
	}})
	if want(t, o, kernel.Approved, kernel.NoReason); !asked {
		t.Error("the host was not asked")
	}
	o = insert(t, k, chip(none), 1_00, kernel.Seams{})
	if want(t, o, kernel.Declined, kernel.NoHost); o.ARC != "Z3" {
		t.Errorf("ARC %s", o.ARC)
	}
}

// Counters that the card does not give, or that run backwards, count as over
// both limits; never online is a new card (Book 3, 10.6.3).
func TestVelocityWithoutCounters(t *testing.T) {
	limits := join(object(emv.TagLowerLimit, []byte{4}), object(emv.TagUpperLimit, []byte{9}))
	for name, tt := range map[string]struct {
		answer iso7816.Response
		tvr    string
	}{
		"not given": {iso7816.Response{SW: iso7816.SWReferenceNotFound}, "0000006000"},
		"never":     {ok(unhex("9F13020000")), "0008004000"},
		"backwards": {ok(unhex("9F1302FFFF")), "0000006000"},
	} {
		p := chip(func(p *paper) { p.atc, p.more = 5, limits })
		p.answer = func(c iso7816.Command, _ int) (iso7816.Response, bool) {
			return tt.answer, c.INS == iso7816.InsGetData && c.P2 == 0x13
		}
		if o := insert(t, newKernel(t), p, 1_00, kernel.Seams{}); !bytes.Equal(o.TVR[:], unhex(tt.tvr)) {
			t.Errorf("%s: TVR %X", name, o.TVR)
		}
	}
}

// Dates of the last century are before those of this one (Book 4, 6.7.3).
func TestCenturies(t *testing.T) {
	for expiry, expired := range map[string]bool{"991231": true, "500101": true, "491231": false, "270301": false, "270228": true} {
		p := newPaper()
		p.expiry = expiry
		o, err := newKernel(t).Tap(p.transmit, sale(1), kernel.Seams{})
		if err != nil || (o.Reason == kernel.Expired) != expired {
			t.Errorf("%s: %v %v", expiry, o, err)
		}
	}
}

// An online answer with records: the number may stand there.
func TestTapOnlineWithRecords(t *testing.T) {
	p := newPaper()
	p.kind = emv.ARQC
	p.extra = object(emv.TagAFL, unhex("10010100"))
	want(t, tap(t, newKernel(t), p, 1, kernel.Seams{}), kernel.OnlineRequest, kernel.NoReason)
	p = newPaper()
	p.kind, p.extra = emv.ARQC, object(emv.TagAFL, unhex("100101"))
	want(t, tap(t, newKernel(t), p, 1, kernel.Seams{}), kernel.EndApplication, kernel.CardError)
}

// T=0 cards answer in two steps.
func TestTZeroCard(t *testing.T) {
	p := chip()
	var held []byte
	o, err := newKernel(t).Insert(func(c iso7816.Command) (iso7816.Response, error) {
		if c.INS == iso7816.InsGetResponse {
			n := min(len(held), 256)
			out := held[:n]
			if held = held[n:]; len(held) > 0 {
				return iso7816.Response{Data: out, SW: iso7816.More(len(held))}, nil
			}
			return iso7816.Response{Data: out, SW: iso7816.OK}, nil
		}
		r, err := p.transmit(c)
		if len(r.Data) > 0 {
			held = r.Data
			return iso7816.Response{SW: iso7816.More(len(held))}, err
		}
		return r, err
	}, sale(1_00), kernel.Seams{})
	if want(t, o, kernel.Approved, kernel.NoReason); err != nil {
		t.Error(err)
	}
}
