package kernel_test

import (
	"bytes"
	"testing"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/terminal/kernel"
)

// chip is a paper card on the contacts.
func chip(change ...func(*paper)) *paper {
	p := newPaper()
	p.fci = join(object(emv.TagLabel, []byte(p.label)), object(emv.TagPriority, []byte{1}), object(emv.TagPDOL, unhex(insertPDOL)))
	p.aip = "7800"
	for _, f := range change {
		f(p)
	}
	return p
}

func host(arc string, data []byte, seen *[]byte) kernel.Issuer {
	return func(request []byte) (kernel.Answer, error) {
		if seen != nil {
			*seen = request
		}
		return kernel.Answer{ARC: arc, Data: data}, nil
	}
}

// TVR and TSI exactly, and the kind of cryptogram asked for, one line per
// finding (EMV 4.4 Book 3, C5, C6).
func TestInsertFindings(t *testing.T) {
	for _, tt := range []struct {
		name   string
		card   func(*paper)
		config func(*kernel.Config)
		fen    uint64
		tx     func(*kernel.Transaction)
		tvr    string
		tsi    string
		result kernel.Result
		reason kernel.Reason
	}{
		{"DDA, approved", nil, nil, 1_00, nil, "0000000000", "E800", kernel.Approved, kernel.NoReason},
		{"SDA", func(p *paper) { p.aip = "5800" }, nil, 1_00, nil, "0200000000", "E800", kernel.Approved, kernel.NoReason},
		{"CDA", func(p *paper) { p.aip = "7900" }, nil, 1_00, nil, "0000000000", "E800", kernel.Approved, kernel.NoReason},
		{"CDA, terminal has DDA only", func(p *paper) { p.aip = "7900" }, func(c *kernel.Config) { c.Capabilities[2] = 0xC0 }, 1_00, nil, "0000000000", "E800", kernel.Approved, kernel.NoReason},
		{"no common method", func(p *paper) { p.aip = "1800" }, nil, 1_00, nil, "8000000000", "6800", kernel.Declined, kernel.NoHost},
		{"no terminal risk management", func(p *paper) { p.aip = "7000" }, nil, 1_00, nil, "0000000000", "E000", kernel.Approved, kernel.NoReason},
		{"DDA with another key", func(p *paper) { p.sign = keys().other }, nil, 1_00, nil, "0800000000", "E800", kernel.Declined, kernel.NoHost},
		{"CDA with another key", func(p *paper) { p.aip, p.sign = "7900", keys().other }, nil, 1_00, nil, "0400000000", "E800", kernel.Declined, kernel.PaidNotAccepted},
		{"SDA over changed data", func(p *paper) {
			p.aip = "5800"
			p.spoil = func(id emv.RecordID, data []byte) []byte {
				if id.Number == 1 && id.SFI == 2 {
					return bytes.Replace(data, []byte{0x30, 0x12, 0x31}, []byte{0x31, 0x12, 0x31}, 1)
				}
				return data
			}
		}, nil, 1_00, nil, "4200000000", "E800", kernel.Declined, kernel.NoHost},
		{"unknown CA", func(p *paper) { p.caIndex = 9 }, nil, 1_00, nil, "0800000000", "E800", kernel.Declined, kernel.NoHost},
		{"CA key on its last day", nil, func(c *kernel.Config) { c.Keys[0].Last = "20270301" }, 1_00, nil, "0000000000", "E800", kernel.Approved, kernel.NoReason},
		{"CA key past its last day", nil, func(c *kernel.Config) { c.Keys[0].Last = "20270228" }, 1_00, nil, "0800000000", "E800", kernel.Declined, kernel.NoHost},
		{"other version", func(p *paper) { p.more = object(emv.TagVersion, []byte{0, 0x20}) }, nil, 1_00, nil, "0080000000", "E800", kernel.Approved, kernel.NoReason},
		{"expired", func(p *paper) { p.expiry = "270228" }, nil, 1_00, nil, "0040000000", "E800", kernel.Declined, kernel.NoHost},
		{"not yet valid", func(p *paper) {
			p.spoil = func(id emv.RecordID, data []byte) []byte {
				return bytes.Replace(data, []byte{0x5F, 0x25, 3, 0x20}, []byte{0x5F, 0x25, 3, 0x29}, 1)
			}
			p.aip = "1800"
		}, nil, 1_00, nil, "8020000000", "6800", kernel.Declined, kernel.NoHost},
		{"not for goods", func(p *paper) {
			p.more = object(emv.TagIssuerCountry, []byte{0x01, 0x56})
			p.last = object(emv.TagHolder, []byte("X"))
			p.spoil = func(_ emv.RecordID, data []byte) []byte {
				return bytes.Replace(data, []byte{0x9F, 0x07, 2, 0xFF}, []byte{0x9F, 0x07, 2, 0x01}, 1)
			}
			p.aip = "1800"
		}, func(c *kernel.Config) { c.Applications[0].TACDenial[1] = 0x10 }, 1_00, nil, "8010000000", "6800", kernel.Declined, kernel.NotForThis},
		{"floor limit", nil, nil, 500_00, nil, "0000008000", "E800", kernel.Declined, kernel.NoHost},
		{"split sale over it", nil, nil, 1_00, func(x *kernel.Transaction) { x.Spent = 499_00 }, "0000008000", "E800", kernel.Declined, kernel.NoHost},
		{"random", nil, func(c *kernel.Config) {
			c.Applications[0].Threshold, c.Applications[0].TargetPercent, c.Applications[0].MaxTargetPercent = 50_00, 10, 90
		}, 1_00, func(x *kernel.Transaction) { x.Random = 9 }, "0000001000", "E800", kernel.Approved, kernel.NoReason},
		{"random, not hit", nil, func(c *kernel.Config) {
			c.Applications[0].Threshold, c.Applications[0].TargetPercent, c.Applications[0].MaxTargetPercent = 50_00, 10, 90
		}, 1_00, func(x *kernel.Transaction) { x.Random = 10 }, "0000000000", "E800", kernel.Approved, kernel.NoReason},
		{"biased, hit", nil, func(c *kernel.Config) {
			c.Applications[0].Threshold, c.Applications[0].TargetPercent, c.Applications[0].MaxTargetPercent = 50_00, 10, 90
		}, 275_00, func(x *kernel.Transaction) { x.Random = 49 }, "0000001000", "E800", kernel.Approved, kernel.NoReason},
		{"biased, not hit", nil, func(c *kernel.Config) {
			c.Applications[0].Threshold, c.Applications[0].TargetPercent, c.Applications[0].MaxTargetPercent = 50_00, 10, 90
		}, 275_00, func(x *kernel.Transaction) { x.Random = 50 }, "0000000000", "E800", kernel.Approved, kernel.NoReason},
		{"forced online", nil, nil, 1_00, func(x *kernel.Transaction) { x.ForceOnline = true }, "0000000800", "E800", kernel.Declined, kernel.NoHost},
		{"lower limit", func(p *paper) {
			p.atc, p.more = 5, join(object(emv.TagLowerLimit, []byte{4}), object(emv.TagUpperLimit, []byte{9}))
		}, nil, 1_00, nil, "0000004000", "E800", kernel.Approved, kernel.NoReason},
		{"upper limit", func(p *paper) {
			p.atc, p.more = 50, join(object(emv.TagLowerLimit, []byte{4}), object(emv.TagUpperLimit, []byte{9}))
		}, nil, 1_00, nil, "0000006000", "E800", kernel.Declined, kernel.NoHost},
		{"limits not reached", func(p *paper) {
			p.atc, p.more = 3, join(object(emv.TagLowerLimit, []byte{4}), object(emv.TagUpperLimit, []byte{9}))
		}, nil, 1_00, nil, "0000000000", "E800", kernel.Approved, kernel.NoReason},
		{"card wants less", func(p *paper) { p.kind = emv.AAC }, nil, 1_00, nil, "0000000000", "E800", kernel.Declined, kernel.CardDecided},
		{"card wants the host", func(p *paper) { p.kind = emv.ARQC }, nil, 1_00, nil, "0000000000", "E800", kernel.Approved, kernel.NoReason},
		{"offline only terminal", nil, func(c *kernel.Config) { c.Type = 0x23 }, 1_00, nil, "0000000000", "E800", kernel.Approved, kernel.NoReason},
		{"TC hash by the terminal's list", func(p *paper) { p.cdol1 = cdol + "9814" }, nil, 1_00, nil, "0000000080", "E800", kernel.Approved, kernel.NoReason},
		{"online only terminal, no host", nil, func(c *kernel.Config) { c.Type = 0x21 }, 1_00, nil, "0000000000", "E800", kernel.Approved, kernel.NoReason},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := chip()
			if tt.card != nil {
				tt.card(p)
			}
			var change []func(*kernel.Config)
			if tt.config != nil {
				change = append(change, tt.config)
			}
			tx := sale(tt.fen)
			if tt.tx != nil {
				tt.tx(&tx)
			}
			o, err := newKernel(t, change...).Insert(p.transmit, tx, kernel.Seams{})
			if err != nil {
				t.Fatal(err)
			}
			if want(t, o, tt.result, tt.reason); !bytes.Equal(o.TVR[:], unhex(tt.tvr)) || !bytes.Equal(o.TSI[:], unhex(tt.tsi)) {
				t.Errorf("TVR %X TSI %X", o.TVR, o.TSI)
			}
		})
	}
}

// One line per verification method and way it can go (Book 3, 10.5).
func TestInsertVerification(t *testing.T) {
	typed := func(pins ...string) kernel.Seams {
		return kernel.Seams{
			PIN: func(int) (string, bool) {
				if len(pins) == 0 {
					return "", false
				}
				pin := pins[0]
				pins = pins[1:]
				return pin, true
			},
			OnlinePIN: func(string) ([]byte, bool) { return []byte("PINBLOCK"), true },
			Issuer:    host("00", nil, nil),
		}
	}
	for _, tt := range []struct {
		name, list string
		seams      kernel.Seams
		results    string
		tvr        byte
		cvm        kernel.CVM
	}{
		{"none", "0000000000000000 1F00", kernel.Seams{}, "1F0002", 0, kernel.NoCVMNeeded},
		{"signature", "0000000000000000 1E00", kernel.Seams{}, "1E0000", 0, kernel.Signature},
		{"PIN", "0000000000000000 0100", typed("1234"), "010002", 0, kernel.OfflinePIN},
		{"PIN, wrong once", "0000000000000000 0100", typed("9999", "1234"), "010002", 0, kernel.OfflinePIN},
		{"PIN, not entered, then signature", "0000000000000000 4100 1E00", typed(), "1E0000", 0x08, kernel.Signature},
		{"no pad", "0000000000000000 4100 1F00", kernel.Seams{}, "1F0002", 0x10, kernel.NoCVMNeeded},
		{"only if supported", "0000000000000000 4103 1F00", kernel.Seams{}, "1F0002", 0, kernel.NoCVMNeeded},
		{"PIN and signature", "0000000000000000 0300", typed("1234"), "030000", 0, kernel.PINAndSignature},
		{"online PIN", "0000000000000000 0200", typed(), "020000", 0x04, kernel.OnlinePIN},
		{"unknown method, next", "0000000000000000 6A00 1F00", kernel.Seams{}, "1F0002", 0x40, kernel.NoCVMNeeded},
		{"unknown method", "0000000000000000 2A00 1F00", kernel.Seams{}, "2A0001", 0xC0, kernel.NoCVMNeeded},
		{"fail", "0000000000000000 0000 1F00", kernel.Seams{}, "000001", 0x80, kernel.NoCVMNeeded},
		{"no rule applies", "0000000000000000 1E01", kernel.Seams{}, "3F0001", 0x80, kernel.NoCVMNeeded},
		{"under X", "0000006500000000 1F06 1E00", kernel.Seams{}, "1F0602", 0, kernel.NoCVMNeeded},
		{"over X", "0000006300000000 1E07 1F00", kernel.Seams{}, "1E0700", 0, kernel.Signature},
		{"neither", "0000006400000000 1E07 1E06 1F00", kernel.Seams{}, "1F0002", 0, kernel.NoCVMNeeded},
		{"under Y", "0000000000000065 1F08 1E00", kernel.Seams{}, "1F0802", 0, kernel.NoCVMNeeded},
		{"not cash", "0000000000000000 1E02 1F00", kernel.Seams{}, "1E0200", 0, kernel.Signature},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := chip(func(p *paper) { p.cvmList = tt.list })
			o := insert(t, newKernel(t), p, 1_00, tt.seams)
			if got := o.Get(emv.TagCVMResults); !bytes.Equal(got, unhex(tt.results)) || o.TVR[2] != tt.tvr || o.CVM != tt.cvm {
				t.Errorf("results %X, TVR %X, %s", got, o.TVR, o.CVM.Words(false))
			}
		})
	}
	t.Run("tries exceeded", func(t *testing.T) {
		p := chip(func(p *paper) { p.cvmList = "0000000000000000 0100" })
		p.answer = func(c iso7816.Command, _ int) (iso7816.Response, bool) {
			return iso7816.Response{SW: iso7816.SWBlocked}, c.INS == iso7816.InsVerify
		}
		if o := insert(t, newKernel(t), p, 1_00, typed("1234")); o.TVR[2] != 0xA0 {
			t.Errorf("TVR %X", o.TVR)
		}
	})
	t.Run("no list", func(t *testing.T) {
		p := chip(func(p *paper) {
			p.aip = "1800"
			p.spoil = func(_ emv.RecordID, data []byte) []byte {
				return bytes.Replace(data, []byte{0x8E, 10}, []byte{0xCE, 10}, 1)
			}
		})
		if o := insert(t, newKernel(t), p, 1_00, kernel.Seams{}); o.TVR[0] != 0xA0 || o.TSI[0]&0x40 != 0 {
			t.Errorf("TVR %X TSI %X", o.TVR, o.TSI)
		}
	})
}

// The host: its answer, its proof, its scripts.
func TestInsertOnline(t *testing.T) {
	arpc := object(emv.TagIssuerAuth, []byte("PROOFOK!00"))
	put := []byte{0x04, 0xDA, 0x9F, 0x79, 0x0A, 0, 0, 0, 0, 0x50, 0, 1, 2, 3, 4}
	before := object(emv.TagScript1, join(object(emv.TagScriptID, []byte{0, 0, 0, 1}), object(emv.TagScriptCommand, put)))
	after := object(emv.TagScript2, join(object(emv.TagScriptCommand, put), object(emv.TagScriptCommand, put)))
	broken := object(emv.TagScript2, join(object(emv.TagScriptCommand, put), object(emv.TagScriptCommand, []byte{0x84, 0x1E, 0, 0})))
	for _, tt := range []struct {
		name, arc string
		data      []byte
		aip       string
		tvr, tsi  string
		result    kernel.Result
		reason    kernel.Reason
		scripts   []string
	}{
		{"approved", "00", nil, "7800", "0000008000", "E800", kernel.Approved, kernel.NoReason, nil},
		{"proved", "00", arpc, "7C00", "0000008000", "F800", kernel.Approved, kernel.NoReason, nil},
		{"proof in CDOL2", "00", arpc, "7800", "0000008000", "E800", kernel.Approved, kernel.NoReason, nil},
		{"wrong proof", "00", object(emv.TagIssuerAuth, []byte("PROOFNOT00")), "7C00", "0000008040", "F800", kernel.Approved, kernel.NoReason, nil},
		{"declined", "51", arpc, "7C00", "0000008000", "F800", kernel.Declined, kernel.HostDeclined, nil},
		{"CDA", "00", arpc, "7D00", "0000008000", "F800", kernel.Approved, kernel.NoReason, nil},
		{"scripts", "00", join(arpc, before, after), "7C00", "0000008000", "FC00", kernel.Approved, kernel.NoReason, []string{"2000000001", "2000000000"}},
		{"script fails after", "00", broken, "7800", "0000008010", "EC00", kernel.Approved, kernel.NoReason, []string{"1200000000"}},
		{"script is none", "00", object(emv.TagScript1, []byte{0x86}), "7800", "0000008020", "EC00", kernel.Approved, kernel.NoReason, []string{"0000000000"}},
		{"answer is no TLV", "00", []byte{0x91, 0x50}, "7800", "0000008040", "E800", kernel.Approved, kernel.NoReason, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var seen []byte
			p := chip(func(p *paper) { p.aip, p.kind, p.hostOK = tt.aip, emv.ARQC, []byte("PROOFOK!00") })
			o := insert(t, newKernel(t), p, 600_00, kernel.Seams{Issuer: host(tt.arc, tt.data, &seen)})
			want(t, o, tt.result, tt.reason)
			if !bytes.Equal(o.TVR[:], unhex(tt.tvr)) || !bytes.Equal(o.TSI[:], unhex(tt.tsi)) || o.ARC != tt.arc || !o.Online {
				t.Errorf("TVR %X TSI %X ARC %s", o.TVR, o.TSI, o.ARC)
			}
			if len(o.Scripts) != len(tt.scripts) {
				t.Fatalf("scripts %+v", o.Scripts)
			}
			for i, s := range o.Scripts {
				if !bytes.Equal(s.Bytes(), unhex(tt.scripts[i])) {
					t.Errorf("script result %X", s.Bytes())
				}
			}
			if !bytes.Contains(seen, unhex("9F270180")) || !bytes.Contains(seen, unhex("9505"+"0000008000")) {
				t.Errorf("request %X", seen)
			}
		})
	}
	t.Run("card says no after all", func(t *testing.T) {
		p := chip(func(p *paper) { p.kind = emv.ARQC })
		p.answer = func(c iso7816.Command, _ int) (iso7816.Response, bool) {
			if c.INS == 0xAE && p.gacs == 1 {
				p.gacs++
				return ok(object(emv.TagAnswer1, join([]byte{emv.AAC, 1, 1}, []byte("CRYPTOGR")))), true
			}
			return iso7816.Response{}, false
		}
		o := insert(t, newKernel(t), p, 600_00, kernel.Seams{Issuer: host("00", nil, nil)})
		if want(t, o, kernel.Declined, kernel.CardDecided); o.ARC != "00" || !o.Online {
			t.Errorf("a reversal is due: ARC %s", o.ARC)
		}
	})
}

// The card leaves at each command in turn, with a host that approves.
func TestInsertTorn(t *testing.T) {
	for n := 1; ; n++ {
		p := chip(func(p *paper) { p.kind, p.leave = emv.ARQC, n })
		o := insert(t, newKernel(t), p, 600_00, kernel.Seams{Issuer: host("00", nil, nil)})
		if p.n < n {
			want(t, o, kernel.Approved, kernel.NoReason)
			t.Logf("%d commands", n-1)
			return
		}
		want(t, o, kernel.TryAgain, kernel.Torn)
	}
}

// E-cash pays at GENERATE AC: torn there, the card's log tells.
func TestInsertECashTorn(t *testing.T) {
	for _, paid := range []bool{true, false} {
		p, x, k := chip(), &till{same: true}, newKernel(t, func(c *kernel.Config) { c.Applications[0].ECash = true })
		p.fci = join(object(emv.TagPDOL, unhex(insertPDOL)), object(emv.TagFCIDiscretionary, object(emv.TagLogEntry, []byte{0x0B, 0x0A})))
		p.answer = func(c iso7816.Command, n int) (iso7816.Response, bool) {
			if c.INS == 0xAE {
				if p.lose, p.leave = n, n+1; !paid {
					return iso7816.Response{SW: iso7816.SWUnknown}, true
				}
			}
			return iso7816.Response{}, false
		}
		o := insert(t, k, p, 1_00, x.seams())
		if want(t, o, kernel.TryAgain, kernel.Torn); !o.Committed || x.kept != 1 {
			t.Fatalf("committed %v, kept %d", o.Committed, x.kept)
		}
		p.answer = nil
		o = insert(t, k, p.back(), 1_00, x.seams())
		why := map[bool]kernel.Reason{true: kernel.Recovered}[paid]
		if want(t, o, kernel.Approved, why); len(p.committed) != 1 {
			t.Errorf("paid %v: %d times", paid, len(p.committed))
		}
	}
}

// The cardholder's word decides among applications.
func TestInsertChoice(t *testing.T) {
	for _, tt := range []struct {
		name   string
		choose func([]kernel.Candidate) int
		result kernel.Result
	}{
		{"first", func([]kernel.Candidate) int { return 0 }, kernel.Approved},
		{"none", func([]kernel.Candidate) int { return -1 }, kernel.EndApplication},
	} {
		if o := insert(t, newKernel(t), chip(), 1, kernel.Seams{Choose: tt.choose}); o.Result != tt.result {
			t.Errorf("%s: %v", tt.name, o)
		}
	}
	p := chip(func(p *paper) { p.noDir = true })
	want(t, insert(t, newKernel(t), p, 1, kernel.Seams{}), kernel.Approved, kernel.NoReason)
}
