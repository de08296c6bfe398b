package kernel_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/terminal/kernel"
)

// A till keeps one intent, as a device would.
type till struct {
	d      *kernel.Doubt
	pan    string
	same   bool // the customer came back for the same sale
	found  []kernel.Found
	broken error
	kept   int
}

func (x *till) seams() kernel.Seams {
	return kernel.Seams{
		Commit: func(o *kernel.Outcome) error {
			if x.broken != nil {
				return x.broken
			}
			x.kept++
			x.pan = o.PAN
			x.d = &kernel.Doubt{
				ATC: binary.BigEndian.Uint16(o.Get(emv.TagATC)), Fen: 1_00, Date: [3]byte(o.Get(emv.TagDate)), Time: [3]byte(o.Get(emv.TagTime)),
			}
			return nil
		},
		Doubt: func(pan string, _ byte) (kernel.Doubt, bool) {
			if x.d == nil || x.pan != pan {
				return kernel.Doubt{}, false
			}
			return *x.d, true
		},
		Settle: func(_ kernel.Doubt, f kernel.Found) (bool, error) {
			x.found = append(x.found, f)
			x.d = nil
			return f == kernel.FoundPaid && x.same, nil
		},
	}
}

// The card leaves while the last record is read, before or after it has
// committed, and comes back.
func TestTornCardComesBack(t *testing.T) {
	for _, tt := range []struct {
		name  string
		paid  bool
		same  bool
		empty bool // of its log
		found kernel.Found
		why   kernel.Reason
		times int // that the card has paid in the end
	}{
		{"had paid, same sale", true, true, false, kernel.FoundPaid, kernel.Recovered, 1},
		{"had paid, another sale", true, false, false, kernel.FoundPaid, kernel.NoReason, 2},
		{"had not paid", false, true, false, kernel.FoundUnpaid, kernel.NoReason, 1},
		{"keeps no log", true, true, true, kernel.FoundNothing, kernel.NoReason, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, x, k := newPaper(), &till{same: tt.same}, newKernel(t)
			if tt.empty {
				p.fci = join(object(emv.TagPDOL, unhex(tapPDOL)))
			}
			p.answer = func(_ iso7816.Command, n int) (iso7816.Response, bool) {
				if tt.paid && n == 7 {
					p.leave = 8 // and the answer to this one is lost
				}
				return iso7816.Response{}, false
			}
			if p.lose = 7; !tt.paid {
				p.leave = 7
			}
			o := tap(t, k, p, 1_00, x.seams())
			if want(t, o, kernel.TryAgain, kernel.Torn); !o.Committed || len(p.committed) > 0 != tt.paid {
				t.Fatalf("committed %v, card %v", o.Committed, p.committed)
			}
			p.answer = nil
			o = tap(t, k, p.back(), 1_00, x.seams())
			want(t, o, kernel.Approved, tt.why)
			if len(x.found) != 1 || x.found[0] != tt.found || len(p.committed) != tt.times {
				t.Errorf("found %v, card paid %d times", x.found, len(p.committed))
			}
		})
	}
}

// Torn in the look-up too: the doubt stays until it is settled.
func TestTornLookup(t *testing.T) {
	for n := 1; n <= 12; n++ {
		p, x, k := newPaper(), &till{same: true}, newKernel(t)
		p.lose = 7
		p.answer = func(_ iso7816.Command, at int) (iso7816.Response, bool) {
			if at == 7 {
				p.leave = 8
			}
			return iso7816.Response{}, false
		}
		want(t, tap(t, k, p, 1_00, x.seams()), kernel.TryAgain, kernel.Torn)
		p.answer = nil
		p.back().leave = n
		o := tap(t, k, p, 1_00, x.seams())
		if o.Result == kernel.TryAgain {
			if x.d == nil {
				t.Fatalf("command %d: the doubt is gone", n)
			}
			o = tap(t, k, p.back(), 1_00, x.seams())
		}
		if want(t, o, kernel.Approved, kernel.Recovered); len(p.committed) != 1 {
			t.Errorf("command %d: paid %d times", n, len(p.committed))
		}
	}
}

// A log that has moved on past the doubt, or shows its ATC with another
// amount, settles it otherwise.
func TestLogTells(t *testing.T) {
	for _, tt := range []struct {
		name  string
		log   func(p *paper)
		found kernel.Found
	}{
		{"all newer", func(p *paper) {
			for range 10 {
				p.log = append(p.log, p.record(0x0200, 1_00))
			}
		}, kernel.FoundNothing},
		{"other amount", func(p *paper) { p.log = append(p.log, p.record(0x0101, 2_00)) }, kernel.FoundUnpaid},
		{"short record", func(p *paper) { p.log = append(p.log, []byte{1}) }, kernel.FoundNothing},
		{"older", func(p *paper) { p.log = append(p.log, p.record(0x0050, 1_00)) }, kernel.FoundUnpaid},
	} {
		p, k := newPaper(), newKernel(t)
		x := &till{d: &kernel.Doubt{ATC: 0x0101, Fen: 1_00, Date: [3]byte{0x27, 0x03, 0x01}, Time: [3]byte{0x12}}, pan: number}
		tt.log(p)
		want(t, tap(t, k, p, 1_00, x.seams()), kernel.Approved, kernel.NoReason)
		if len(x.found) != 1 || x.found[0] != tt.found {
			t.Errorf("%s: found %v", tt.name, x.found)
		}
	}
}

func (p *paper) record(atc uint16, fen int) []byte {
	return join(unhex("270301 120000"), bcd6(fen), unhex("000000000000 0156 0156"),
		make([]byte, 20), []byte{0, byte(atc >> 8), byte(atc)})
}

func bcd6(fen int) []byte {
	out := make([]byte, 6)
	for i := 5; i >= 0; i-- {
		out[i] = byte(fen%10 | fen/10%10<<4)
		fen /= 100
	}
	return out
}

// What the device cannot keep, the card is not told to pay.
func TestDeviceCannotKeep(t *testing.T) {
	broken := errors.New("flash")
	p, x := newPaper(), &till{broken: broken}
	_, err := newKernel(t).Tap(p.transmit, sale(1), x.seams())
	if !errors.Is(err, broken) || len(p.committed) != 0 {
		t.Errorf("%v, committed %v", err, p.committed)
	}
	p = newPaper()
	p.fci = object(emv.TagPDOL, unhex(insertPDOL))
	if _, err = newKernel(t).Insert(p.transmit, sale(1), x.seams()); !errors.Is(err, broken) || len(p.committed) != 0 {
		t.Errorf("contact: %v, committed %v", err, p.committed)
	}
}
