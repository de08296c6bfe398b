package kernel_test

import (
	"bytes"
	"testing"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/terminal/kernel"
)

func TestTapApproves(t *testing.T) {
	for _, version := range []byte{0, 1} {
		p := newPaper()
		p.version = version
		o := tap(t, newKernel(t), p, 12_00, kernel.Seams{})
		want(t, o, kernel.Approved, kernel.NoReason)
		if len(p.committed) != 1 || o.PAN != number || o.PSN != 1 || o.CVM != kernel.NoCVMNeeded || o.Label != "PBOC DEBIT" || *o.Available != 50_00 || !o.Committed {
			t.Errorf("version %d: %+v, committed %v", version, o.Label, p.committed)
		}
	}
}

// One line per way a tap can end.
func TestTapOutcomes(t *testing.T) {
	listed := kernel.Seams{Listed: func(pan string, psn byte) bool { return pan == number && psn == 1 }}
	pin := kernel.Seams{OnlinePIN: func(string) ([]byte, bool) { return []byte("PINBLOCK"), true }}
	for _, tt := range []struct {
		name   string
		card   func(*paper)
		config func(*kernel.Config)
		fen    uint64
		seams  kernel.Seams
		result kernel.Result
		reason kernel.Reason
		paid   bool
	}{
		{"at the floor limit", nil, nil, 500_00, kernel.Seams{}, kernel.Declined, kernel.NoCVM, false},
		{"over the floor limit, signature", func(p *paper) { p.ctq = "4000" }, nil, 500_01, kernel.Seams{}, kernel.OnlineRequest, kernel.NoReason, false},
		{"over the tap limit", nil, nil, 1000_00, kernel.Seams{}, kernel.OtherInterface, kernel.AmountTooHigh, false},
		{"over it, no contacts", nil, func(c *kernel.Config) { c.TTQ = [4]byte{0x26} }, 1000_00, kernel.Seams{}, kernel.EndApplication, kernel.AmountTooHigh, false},
		{"nothing", nil, nil, 0, kernel.Seams{}, kernel.EndApplication, kernel.AmountZero, false},
		{"nothing, online", nil, func(c *kernel.Config) { c.Applications[0].ZeroOnline = true }, 0, kernel.Seams{}, kernel.OnlineRequest, kernel.NoReason, false},
		{"card asks for the host", func(p *paper) { p.kind = emv.ARQC }, nil, 1, kernel.Seams{}, kernel.OnlineRequest, kernel.NoReason, false},
		{"it does, offline terminal", func(p *paper) { p.kind = emv.ARQC }, func(c *kernel.Config) { c.TTQ = [4]byte{0x2E} }, 1, kernel.Seams{}, kernel.Declined, kernel.NoHost, false},
		{"card declines", func(p *paper) { p.kind = emv.AAC }, nil, 1, kernel.Seams{}, kernel.Declined, kernel.CardDecided, false},
		{"online PIN", func(p *paper) { p.kind, p.ctq = emv.ARQC, "8000" }, nil, 400_00, pin, kernel.OnlineRequest, kernel.NoReason, false},
		{"online PIN not entered", func(p *paper) { p.kind, p.ctq = emv.ARQC, "8000" }, nil, 400_00, kernel.Seams{}, kernel.Declined, kernel.NoCVM, false},
		{"online PIN with an offline approval", func(p *paper) { p.ctq = "8000" }, nil, 1, pin, kernel.OnlineRequest, kernel.NoReason, false},
		{"CVM needed, none", nil, nil, 300_00, kernel.Seams{}, kernel.Declined, kernel.NoCVM, false},
		{"signature", func(p *paper) { p.ctq = "4000" }, nil, 300_00, kernel.Seams{}, kernel.Approved, kernel.NoReason, true},
		{"on the device", func(p *paper) { p.ctq = "0080" }, nil, 300_00, kernel.Seams{}, kernel.Approved, kernel.NoReason, true},
		{"no 9F6C", func(p *paper) { p.ctq = "" }, nil, 300_00, kernel.Seams{}, kernel.Approved, kernel.NoReason, true},
		{"expired", func(p *paper) { p.expiry = "270228" }, nil, 1, kernel.Seams{}, kernel.Declined, kernel.Expired, false},
		{"last day", func(p *paper) { p.expiry = "270301" }, nil, 1, kernel.Seams{}, kernel.Approved, kernel.NoReason, true},
		{"expired, to the host", func(p *paper) { p.expiry, p.ctq = "270228", "0800" }, nil, 1, kernel.Seams{}, kernel.OnlineRequest, kernel.NoReason, false},
		{"on the list", nil, nil, 1, listed, kernel.Declined, kernel.OnExceptions, false},
		{"on the list, online", func(p *paper) { p.kind = emv.ARQC }, nil, 1, listed, kernel.Declined, kernel.OnExceptions, false},
		{"unknown CA", func(p *paper) { p.caIndex = 0xC2 }, nil, 1, kernel.Seams{}, kernel.Declined, kernel.NotGenuine, false},
		{"unknown CA, host", func(p *paper) { p.caIndex, p.ctq = 0xC2, "2000" }, nil, 1, kernel.Seams{}, kernel.OnlineRequest, kernel.NoReason, false},
		{"unknown CA, contacts", func(p *paper) { p.caIndex, p.ctq = 0xC2, "1000" }, nil, 1, kernel.Seams{}, kernel.OtherInterface, kernel.NotGenuine, false},
		{"wrong key, version 00", func(p *paper) { p.sign = keys().other }, func(c *kernel.Config) { c.TTQ[3] = 0 }, 1, kernel.Seams{}, kernel.Declined, kernel.NotGenuine, false},
		{"wrong key, version open until the last record", func(p *paper) { p.sign = keys().other }, nil, 1, kernel.Seams{}, kernel.Declined, kernel.PaidNotAccepted, true},
		{"wrong key, a card too old for version 01", func(p *paper) { p.sign, p.more = keys().other, object(emv.TagVersion, unhex("0020")) }, nil, 1, kernel.Seams{}, kernel.Declined, kernel.NotGenuine, false},
		{"right key, a card too old for version 01", func(p *paper) { p.more = object(emv.TagVersion, unhex("0020")) }, nil, 1, kernel.Seams{}, kernel.Approved, kernel.NoReason, true},
		{"wrong key, a card of version 01", func(p *paper) { p.sign, p.version, p.more = keys().other, 1, object(emv.TagVersion, unhex("0030")) }, nil, 1, kernel.Seams{}, kernel.Declined, kernel.PaidNotAccepted, true},
		{"wrong key, version 01", func(p *paper) { p.sign, p.version = keys().other, 1 }, nil, 1, kernel.Seams{}, kernel.Declined, kernel.PaidNotAccepted, true},
		{"version 01 not asked for", func(p *paper) { p.version = 1 }, func(c *kernel.Config) { c.TTQ[3] = 0 }, 1, kernel.Seams{}, kernel.Declined, kernel.NotGenuine, false},
		{"no DDA", func(p *paper) { p.aip = "4C00" }, func(c *kernel.Config) { c.TTQ[3] = 0 }, 1, kernel.Seams{}, kernel.Declined, kernel.NotGenuine, false},
		{"revoked", nil, func(c *kernel.Config) {
			c.Revoked = func(_ [5]byte, index byte, serial [3]byte) bool { return index == 0xC1 && serial == [3]byte{0, 0, 1} }
		}, 1, kernel.Seams{}, kernel.Declined, kernel.NotGenuine, false},
		{"other track 2", func(p *paper) { p.extra = object(emv.TagPAN, unhex("6228000100001125")) }, nil, 1, kernel.Seams{}, kernel.EndApplication, kernel.CardError, false},
		{"57 twice", func(p *paper) { p.extra = object(emv.TagTrack2, unhex("6228000100001117D3012201")) }, nil, 1, kernel.Seams{}, kernel.EndApplication, kernel.CardError, false},
		{"5F24 again at the end", func(p *paper) { p.last = object(emv.TagExpiry, unhex("301231")) }, nil, 1, kernel.Seams{}, kernel.Declined, kernel.PaidNotAccepted, true},
		{"9F27 contradicts", func(p *paper) { p.extra = object(emv.TagCID, []byte{emv.ARQC}) }, nil, 1, kernel.Seams{}, kernel.EndApplication, kernel.CardError, false},
		{"9F27 agrees", func(p *paper) { p.extra = object(emv.TagCID, []byte{emv.TC}) }, nil, 1, kernel.Seams{}, kernel.Approved, kernel.NoReason, true},
		{"9F10 of another family", func(p *paper) { p.iadHead = "06010A03" }, nil, 1, kernel.Seams{}, kernel.EndApplication, kernel.CardError, false},
		{"Visa's twin", func(p *paper) { p.iadHead = "06010A03" }, func(c *kernel.Config) { c.Applications[0].Scheme = kernel.QVSDC }, 1, kernel.Seams{}, kernel.Approved, kernel.NoReason, true},
		{"a locator without end", func(p *paper) {
			p.spoil = func(_ emv.RecordID, data []byte) []byte {
				p.afl = emv.AFL{{SFI: 2, First: 1, Last: 255}}
				return data
			}
		}, nil, 1, kernel.Seams{}, kernel.EndApplication, kernel.CardError, false},
		{"no PDOL", func(p *paper) { p.fci = object(emv.TagLabel, []byte("X")) }, nil, 1, kernel.Seams{}, kernel.EndApplication, kernel.CardError, false},
		{"no directory", func(p *paper) { p.noDir = true }, nil, 1, kernel.Seams{}, kernel.Approved, kernel.NoReason, true},
		{"kernel 7 named", func(p *paper) { p.kernelID = []byte{7} }, nil, 1, kernel.Seams{}, kernel.Approved, kernel.NoReason, true},
		{"kernel 2 named", func(p *paper) { p.kernelID = []byte{2} }, nil, 1, kernel.Seams{}, kernel.EndApplication, kernel.NoApplication, false},
		{"domestic kernel", func(p *paper) { p.kernelID = []byte{0x87} }, nil, 1, kernel.Seams{}, kernel.EndApplication, kernel.NoApplication, false},
		{"other applications", nil, func(c *kernel.Config) { c.Applications[0].AID = unhex("A000000003") }, 1, kernel.Seams{}, kernel.EndApplication, kernel.NoApplication, false},
		{"asked to be online, approved", func(p *paper) {
			p.answer = func(c iso7816.Command, _ int) (iso7816.Response, bool) {
				if c.INS == 0xA8 {
					c.Data[2+1] &^= 0x80 // the card does not see TTQ 2.8
				}
				return iso7816.Response{}, false
			}
			p.ctq = "4000"
		}, nil, 500_01, kernel.Seams{}, kernel.Declined, kernel.CardDecided, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPaper()
			if tt.card != nil {
				tt.card(p)
			}
			var change []func(*kernel.Config)
			if tt.config != nil {
				change = append(change, tt.config)
			}
			o := tap(t, newKernel(t, change...), p, tt.fen, tt.seams)
			want(t, o, tt.result, tt.reason)
			if len(p.committed) > 0 != tt.paid || o.Committed != tt.paid {
				t.Errorf("card committed %v, outcome says %v", p.committed, o.Committed)
			}
			if o.Words(true) == "" || o.Words(false) == "" {
				t.Error("no words")
			}
		})
	}
}

// Every answer replaced by an error of the card, one after another.
func TestTapRefusedAtEveryCommand(t *testing.T) {
	for n, want := range map[int]struct {
		result kernel.Result
		reason kernel.Reason
	}{
		2: {kernel.OtherInterface, kernel.CardRefused}, 3: {kernel.OtherInterface, kernel.CardRefused},
		4: {kernel.EndApplication, kernel.CardRefused}, 7: {kernel.Declined, kernel.CardRefused},
	} {
		p := newPaper()
		p.answer = func(_ iso7816.Command, at int) (iso7816.Response, bool) {
			return iso7816.Response{SW: iso7816.SWConditions}, at == n
		}
		o := tap(t, newKernel(t), p, 1, kernel.Seams{})
		if o.Result != want.result || o.Reason != want.reason || o.SW != iso7816.SWConditions || len(p.committed) > 0 || o.Committed {
			t.Errorf("command %d: %v", n, o)
		}
	}
}

// A blocked application, and a blocked card, say so.
func TestTapBlocked(t *testing.T) {
	for _, sw := range []iso7816.SW{iso7816.SWSelectedBlocked, iso7816.SWFunction} {
		p := newPaper()
		p.answer = func(_ iso7816.Command, at int) (iso7816.Response, bool) { return iso7816.Response{SW: sw}, at == 2 }
		want(t, tap(t, newKernel(t), p, 1, kernel.Seams{}), kernel.EndApplication, kernel.CardBlocked)
	}
}

// The card leaves at each command in turn: never an approval.
func TestTapTornAtEveryCommand(t *testing.T) {
	for n := 1; n <= 7; n++ {
		p := newPaper()
		p.leave = n
		o := tap(t, newKernel(t), p, 1, kernel.Seams{})
		want(t, o, kernel.TryAgain, kernel.Torn)
		if o.Committed != (n == 7) || len(p.committed) > 0 {
			t.Errorf("command %d: committed %v, card %v", n, o.Committed, p.committed)
		}
	}
}

// The last answer is lost while the card stays: reading again is enough.
func TestTapLastAnswerLost(t *testing.T) {
	p := newPaper()
	p.lose = 7
	want(t, tap(t, newKernel(t), p, 1, kernel.Seams{}), kernel.Approved, kernel.NoReason)
	if len(p.committed) != 1 {
		t.Errorf("committed %v", p.committed)
	}
}

func TestTapRequest(t *testing.T) {
	p := newPaper()
	p.kind, p.ctq = emv.ARQC, "8000"
	o := tap(t, newKernel(t), p, 400_00, kernel.Seams{OnlinePIN: func(pan string) ([]byte, bool) { return []byte("PINBLOCK"), pan == number }})
	want(t, o, kernel.OnlineRequest, kernel.NoReason)
	wire := "9F2608 43525950544F4752 9F270180 9F1008 07010103A0000001 9F37041E78EEBC 9F36020101 95050000000000 9A03270301 9C0100" +
		"9F0206000000040000 5F2A020156 82027C00 9F1A020156 9F0306000000000000 9F3303E0F8C8 9F3403020000 9F350122 9F1E084B4F414C41303031" +
		"8408A000000333010101 9F09020030 9F410400000042 570C 6228000100001117D3012201 5F340101 990850494E424C4F434B"
	if got := o.Request(); !bytes.Equal(got, unhex(wire)) {
		t.Errorf("%X", got)
	}
	for _, tt := range []struct {
		arc    string
		err    error
		result kernel.Result
		reason kernel.Reason
		told   string
	}{
		{"00", nil, kernel.Approved, kernel.NoReason, "00"}, {"05", nil, kernel.Declined, kernel.HostDeclined, "05"},
		{"", iso7816.ErrTorn, kernel.Declined, kernel.NoHost, "Z3"},
	} {
		o := o
		o.Answered(kernel.Answer{ARC: tt.arc}, tt.err)
		if want(t, o, tt.result, tt.reason); o.ARC != tt.told {
			t.Errorf("ARC %s", o.ARC)
		}
		o.Answered(kernel.Answer{ARC: "00"}, nil) // once only
		want(t, o, tt.result, tt.reason)
	}
}
