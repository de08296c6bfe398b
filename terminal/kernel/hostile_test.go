package kernel_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/tlv"
	"koala/terminal/kernel"
)

// settled says whether an outcome is one a card without keys may reach: all
// but an offline approval.
func settled(t interface{ Fatalf(string, ...any) }, o kernel.Outcome, err error) {
	if err != nil {
		t.Fatalf("error %v", err)
	}
	if o.Result == kernel.Approved || o.Result == 0 || o.Result == kernel.SelectNext {
		t.Fatalf("a card without keys comes to %v", o)
	}
}

// strict is a terminal that takes nothing on trust: without a proof from the
// card the default action codes decline.
func strict(c *kernel.Config) {
	c.Applications[0].TACDefault, c.Applications[0].TACDenial = [5]byte{0xFC}, [5]byte{0xFC}
}

// A card that answers with whatever bytes come: never a panic, never an
// approval, an end in bounded time.
func FuzzHostileCard(f *testing.F) {
	f.Add([]byte{0x6F, 0x10, 0x84}, false)
	p := newPaper()
	for _, c := range []iso7816.Command{
		iso7816.Select([]byte("2PAY.SYS.DDF01")), iso7816.Select([]byte(aid)), iso7816.ReadRecord(1, 2, 0), iso7816.ReadRecord(2, 2, 0),
	} {
		r, _ := p.transmit(c)
		f.Add(append([]byte{byte(len(r.Data))}, r.Bytes()...), true)
	}
	taps, inserts := newKernel(f), newKernel(f, strict)
	f.Fuzz(func(t *testing.T, in []byte, contact bool) {
		script, n := in, 0
		card := func(iso7816.Command) (iso7816.Response, error) {
			if n++; n > 4000 {
				t.Fatal("never ends")
			}
			if len(script) == 0 {
				script = in
			}
			if len(in) == 0 {
				return iso7816.Response{SW: iso7816.OK}, nil
			}
			size := min(int(script[0]), len(script)-1)
			r := iso7816.Response{Data: script[1 : 1+size], SW: iso7816.OK}
			script = script[1+size:]
			return r, nil
		}
		s := kernel.Seams{
			PIN: func(int) (string, bool) { return "1234", true }, OnlinePIN: func(string) ([]byte, bool) { return make([]byte, 8), true },
			Doubt:  func(string, byte) (kernel.Doubt, bool) { return kernel.Doubt{ATC: 1}, true },
			Settle: func(kernel.Doubt, kernel.Found) (bool, error) { return false, nil },
		}
		if contact {
			o, err := inserts.Insert(card, sale(1), s)
			settled(t, o, err)
			return
		}
		o, err := taps.Tap(card, sale(1), s)
		settled(t, o, err)
	})
}

// A genuine card with one answer changed in one byte: whatever the signature
// covers must not pass, and nothing may panic.
func TestMutatedAnswers(t *testing.T) {
	k, strictly := newKernel(t), newKernel(t, strict)
	rapid.Check(t, func(t *rapid.T) {
		contact := rapid.Bool().Draw(t, "contact")
		p := newPaper()
		if contact {
			p = chip()
		}
		at, pos, bit := rapid.IntRange(1, 9).Draw(t, "command"), rapid.IntRange(0, 255).Draw(t, "byte"), rapid.IntRange(0, 7).Draw(t, "bit")
		var touched []byte
		send := func(c iso7816.Command) (iso7816.Response, error) {
			r, err := p.transmit(c)
			if p.n == at && len(r.Data) > pos {
				touched = append([]byte(nil), r.Data...)
				touched[pos] ^= 1 << bit
				r.Data = touched
			}
			return r, err
		}
		run := k.Tap
		if contact {
			run = strictly.Insert
		}
		o, err := run(send, sale(1), kernel.Seams{})
		if err != nil {
			t.Fatal(err)
		}
		if o.Result == kernel.Approved && len(p.committed) != 1 {
			t.Fatalf("approved, and the card did not commit")
		}
		signed := len(touched) > 4 && touched[0] == 0x70 && (at == 4 || at == 5 || at == 6) && !contact
		if o.Result == kernel.Approved && signed {
			t.Fatalf("command %d byte %d bit %d: approved with signed data changed", at, pos, bit)
		}
	})
}

// Directories out of order, with priorities, too many entries.
func TestCandidates(t *testing.T) {
	entry := func(name string, priority ...byte) []byte {
		v := object(emv.TagAID, unhex(name))
		if priority != nil {
			v = join(v, object(emv.TagPriority, priority))
		}
		return object(emv.TagEntry, v)
	}
	for _, tt := range []struct {
		name    string
		entries []byte
		tried   string
		reason  kernel.Reason
	}{
		{"by priority", join(entry("A000000333010106", 3), entry("A000000333010102", 1), entry("A000000333010101", 2)), "02 01 06", kernel.CardRefused},
		{"without goes last", join(entry("A000000333010106"), entry("A000000333010102", 15)), "02 06", kernel.CardRefused},
		{"equal as they stand", join(entry("A000000333010103", 1), entry("A000000333010102", 1)), "03 02", kernel.CardRefused},
		{"strangers are skipped", join(entry("A0000000031010", 1), entry("A000000333010102", 2)), "02", kernel.CardRefused},
		{"names too short are skipped", join(object(emv.TagEntry, object(emv.TagAID, []byte{0xA0})), entry("A000000333010102", 2)), "02", kernel.CardRefused},
		{"broken entry", object(emv.TagEntry, []byte{0x4F, 9}), "", kernel.CardError},
		{"none", nil, "", kernel.NoApplication},
	} {
		var tried []string
		card := func(c iso7816.Command) (iso7816.Response, error) {
			if string(c.Data) == "2PAY.SYS.DDF01" {
				return ok(object(emv.TagFCI, join(object(emv.TagDFName, c.Data), object(emv.TagFCIProprietary, object(emv.TagFCIDiscretionary, tt.entries))))), nil
			}
			tried = append(tried, fmt.Sprintf("%02X", c.Data[7]))
			return iso7816.Response{SW: iso7816.SWFileNotFound}, nil
		}
		o, err := newKernel(t).Tap(card, sale(1), kernel.Seams{})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(tried, " "); got != tt.tried || o.Reason != tt.reason {
			t.Errorf("%s: tried %s, %v", tt.name, got, o)
		}
	}
	var many []byte
	for i := range 40 {
		many = append(many, entry(fmt.Sprintf("A0000003330101%02X", i), 1)...)
	}
	n := 0
	_, err := newKernel(t).Tap(func(c iso7816.Command) (iso7816.Response, error) {
		if string(c.Data) == "2PAY.SYS.DDF01" {
			return ok(object(emv.TagFCI, join(object(emv.TagDFName, c.Data), object(emv.TagFCIProprietary, object(emv.TagFCIDiscretionary, many))))), nil
		}
		n++
		return iso7816.Response{SW: iso7816.SWFileNotFound}, nil
	}, sale(1), kernel.Seams{})
	if err != nil || n != kernel.MaxCandidates {
		t.Errorf("%d tried, %v", n, err)
	}
}

func TestConfigRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*kernel.Config){
		"check value": func(c *kernel.Config) { c.Keys[0].Hash[0]++ }, "AID": func(c *kernel.Config) { c.Applications[0].AID = nil },
		"terminal": func(c *kernel.Config) { c.TerminalID = "1" }, "country": func(c *kernel.Config) { c.Country = 1000 },
		"random selection": func(c *kernel.Config) { c.Applications[0].TargetPercent = 50 },
	} {
		cfg := config()
		spoil(&cfg)
		if _, err := kernel.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// No form of printing an outcome shows the card.
func TestOutcomeHidesTheCard(t *testing.T) {
	o := tap(t, newKernel(t), newPaper(), 1, kernel.Seams{})
	for _, form := range []string{"%v", "%+v", "%#v"} {
		if s := fmt.Sprintf(form, o); strings.Contains(s, number) {
			t.Errorf("%s shows %s", form, s)
		}
	}
	for r := kernel.Approved; r <= kernel.SelectNext; r++ {
		if r.Words(true) == "" || r.Words(false) == "" {
			t.Errorf("result %d has no words", r)
		}
	}
	for r := kernel.Recovered; r <= kernel.PaidNotAccepted; r++ {
		if r.Words(true) == "" || r.Words(false) == "" {
			t.Errorf("reason %d has no words", r)
		}
	}
	for c := kernel.NoCVMNeeded; c <= kernel.Document; c++ {
		if c.Words(true) == "" || c.Words(false) == "" {
			t.Errorf("method %d has no words", c)
		}
	}
}

// The terminal side of a real transaction (CARD.md 6.7, QKATA): the PDOL
// values as they were sent, and the end it came to.
func TestRecordedTransaction(t *testing.T) {
	const fci = "6F40 8408A000000333010101 A534 500A50424F43204445424954 9F3818 9F6604 9F0206 9F0306 9F1A02 9505 5F2A02 9A03 9C01 9F3704 BF0C0A 9F4D020B0A DF4D020C0A"
	gpo := "80A800002383 21 36800000 000000000100 000000000000 0156 0000000000 0156 170601 00 2B29EBE4 00"
	answer := "774F 82027C00 9F36020ADC 5711 6228000100001117D30122010000000000 9F1013 07010103A00000010A010000038787868FD1FC 9F2608AD03EE811AFAD484 5F340100 9F6C020000 9F5D06000000038787"
	exchanges := map[string]string{
		"00A404000E325041592E5359532E444446303100": "6F30840E325041592E5359532E4444463031A51EBF0C1B61194F08A000000333010101500A50424F43204445424954870101",
		"00A4040008A00000033301010100":             fci,
		strings.ReplaceAll(gpo, " ", ""):           answer,
	}
	k := newKernel(t, func(c *kernel.Config) { c.TTQ, c.Applications[0].FloorLimit = [4]byte{0x36}, 0 })
	tx := sale(1_00)
	tx.ForceOnline, tx.Unpredictable = true, [4]byte{0x2B, 0x29, 0xEB, 0xE4}
	tx.At = noon.AddDate(-10, 3, 0)
	o, err := k.Tap(func(c iso7816.Command) (iso7816.Response, error) {
		a, known := exchanges[c.String()]
		if !known {
			t.Fatalf("sent %v", c)
		}
		data := unhex(a)
		if _, _, _, err := tlv.Next(data); err != nil {
			t.Fatal(err)
		}
		return ok(data), nil
	}, tx, kernel.Seams{})
	if err != nil {
		t.Fatal(err)
	}
	want(t, o, kernel.OnlineRequest, kernel.NoReason)
	if o.PSN != 0 || *o.Available != 387_87 || o.CID != emv.ARQC {
		t.Errorf("%d %d %02X", o.PSN, *o.Available, o.CID)
	}
}
