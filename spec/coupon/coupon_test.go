package coupon_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"koala/spec/coupon"
	"koala/spec/iso7816"
	"pgregory.net/rapid"
)

var (
	root   = [16]byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF, 0x00}
	holder = coupon.ID{0x31, 0x05, 0, 0, 0, 0, 0, 7}
	shop   = coupon.ID{'S', 'H', 'O', 'P', 0, 0, 0, 1}
	brand  = coupon.ID{'B', 'R', 'A', 'N', 'D', 0, 0, 1}
	noon   = coupon.Stamp{0x20, 0x15, 0x09, 0x16, 0x12, 0x00, 0x00}
)

// base is a coupon of 5 yuan off from 20 yuan on.
func base() coupon.Coupon {
	return coupon.Coupon{ID: coupon.ID{1}, Issuer: brand, Merchant: shop, Kind: coupon.AmountOff, Key: 1, Value: 5_00, Minimum: 20_00,
		From: coupon.Date{0x20, 0x15, 0x09, 0x01}, To: coupon.Date{0x20, 0x15, 0x09, 0x30}, Uses: 2}
}

func with(change func(*coupon.Coupon)) coupon.Coupon {
	c := base()
	change(&c)
	return c
}

func percent(c *coupon.Coupon) { c.Kind, c.Value, c.Ceiling = coupon.PercentOff, 12_50, 10_00 }
func stamps(n byte) func(*coupon.Coupon) {
	return func(c *coupon.Coupon) { c.Kind, c.Needed, c.Stamps = coupon.StampCard, 5, n }
}

func TestMay(t *testing.T) {
	at := func(date string) (s coupon.Stamp) {
		b, _ := hex.DecodeString(date + "080000")
		return coupon.Stamp(b)
	}
	for _, tt := range []struct {
		name string
		c    coupon.Coupon
		op   coupon.Op
		fen  uint32
		at   coupon.Stamp
		want iso7816.SW
	}{
		{"fine", base(), coupon.Redeem, 20_00, noon, iso7816.OK},
		{"below the minimum", base(), coupon.Redeem, 19_99, noon, coupon.SWMinimum},
		{"first day", base(), coupon.Redeem, 20_00, at("20150901"), iso7816.OK},
		{"last day", base(), coupon.Redeem, 20_00, at("20150930"), iso7816.OK},
		{"a day early", base(), coupon.Redeem, 20_00, at("20150831"), coupon.SWDate},
		{"a day late", base(), coupon.Redeem, 20_00, at("20151001"), coupon.SWDate},
		{"no date", base(), coupon.Redeem, 20_00, at("2015091A"), iso7816.SWData},
		{"used up", with(func(c *coupon.Coupon) { c.Uses = 0 }), coupon.Redeem, 20_00, noon, iso7816.SWReferenceInvalid},
		{"counter at its end", with(func(c *coupon.Coupon) { c.Counter = 0xFFFF }), coupon.Redeem, 20_00, noon, iso7816.SWReferenceInvalid},
		{"a stamp on no stamp card", base(), coupon.GiveStamp, 20_00, noon, iso7816.SWData},
		{"an unknown operation", base(), 3, 20_00, noon, iso7816.SWData},
		{"too much money", base(), coupon.Redeem, 1 << 31, noon, iso7816.SWData},
		{"first stamp", with(stamps(0)), coupon.GiveStamp, 20_00, noon, iso7816.OK},
		{"a stamp for less", with(stamps(0)), coupon.GiveStamp, 19_99, noon, coupon.SWMinimum},
		{"too early", with(stamps(4)), coupon.Redeem, 20_00, noon, coupon.SWStamps},
		{"full", with(stamps(5)), coupon.GiveStamp, 20_00, noon, coupon.SWFull},
		{"the reward needs no spend", with(stamps(5)), coupon.Redeem, 0, noon, iso7816.OK},
	} {
		if got := tt.c.May(tt.op, tt.fen, tt.at); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestReduction(t *testing.T) {
	for _, tt := range []struct {
		c         coupon.Coupon
		fen, want uint32
	}{
		{base(), 20_00, 5_00}, {base(), 3_00, 3_00}, {base(), 0, 0},
		{with(percent), 20_00, 2_50}, {with(percent), 20_07, 2_50}, {with(percent), 20_08, 2_51},
		{with(percent), 1000_00, 10_00}, {with(percent), coupon.MaxFen, 10_00},
		{with(func(c *coupon.Coupon) { c.Kind, c.Value = coupon.PercentOff, 100_00 }), coupon.MaxFen, coupon.MaxFen},
		{with(func(c *coupon.Coupon) { c.Kind = coupon.Entitlement }), 20_00, 0},
		{with(stamps(5)), 20_00, 5_00},
	} {
		if got := tt.c.Reduction(tt.fen); got != tt.want {
			t.Errorf("%v on %d: %d, want %d", tt.c.Kind.Words(false), tt.fen, got, tt.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, change := range map[string]func(*coupon.Coupon){
		"no id":                 func(c *coupon.Coupon) { c.ID = coupon.ID{} },
		"no merchant":           func(c *coupon.Coupon) { c.Merchant = coupon.ID{} },
		"unknown kind":          func(c *coupon.Coupon) { c.Kind = 9 },
		"nothing off":           func(c *coupon.Coupon) { c.Value = 0 },
		"more than everything":  func(c *coupon.Coupon) { c.Kind, c.Value = coupon.PercentOff, 100_01 },
		"no stamps needed":      func(c *coupon.Coupon) { c.Kind = coupon.StampCard },
		"stamps on a voucher":   func(c *coupon.Coupon) { c.Needed = 3 },
		"more stamps than fit":  stamps(6),
		"a ceiling on a fixed":  func(c *coupon.Coupon) { c.Ceiling = 1 },
		"ends before it begins": func(c *coupon.Coupon) { c.To = coupon.Date{0x20, 0x15, 0x08, 0x31} },
		"a day that is no BCD":  func(c *coupon.Coupon) { c.To[3] = 0x3A },
		"too much":              func(c *coupon.Coupon) { c.Minimum = 1 << 31 },
	} {
		if _, err := coupon.Parse(with(change).Bytes()); !errors.Is(err, coupon.ErrCoupon) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := coupon.Parse(base().Bytes()[1:]); !errors.Is(err, coupon.ErrLength) {
		t.Error(err)
	}
}

// Our own vectors, recomputed with OpenSSL's CMAC. They are this house's, no
// published ones exist.
func TestOwnVectors(t *testing.T) {
	b := coupon.Begin{Op: coupon.Redeem, Coupon: coupon.ID{1}, Terminal: coupon.ID{2}, Challenge: coupon.ID{3}, Fen: 20_00, At: noon}
	a := coupon.BeginAnswer{Holder: holder, Key: 1, Counter: 7, Reduction: 5_00, Challenge: coupon.ID{4}}
	key := coupon.CardKey(root, holder, shop)
	s := coupon.NewSession(key, b, a)
	r := s.Record(base())
	r.Proof = r.Prove(coupon.CardKey(root, holder, brand))
	for _, tt := range []struct {
		name string
		got  []byte
		want string
	}{
		{"coupon", base().Bytes(), "01000000000000004252414E4400000153484F500000000101010000" + "01F400000000000007D020150901201509300002" + "00000000"},
		{"BEGIN", b.Command().Bytes(), "80500100230100000000000000020000000000000003000000000000000000" + "07D02015091612000000"},
		{"card key", key[:], "91D353CFBE8720792256ECEE45AD6033"},
		{"MAC1", slice(s.MAC1()), "C275786A244006AA"},
		{"MAC2", slice(s.MAC2(r.Proof)), "293C50B4A97517AD"},
		{"proof", r.Proof[:], "DD459D1B9902DEA4"},
	} {
		if got := strings.ToUpper(hex.EncodeToString(tt.got)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	if r.Verify(root) != nil {
		t.Error("the issuer does not take the proof")
	}
}

func slice(b [8]byte) []byte { return b[:] }

// Everything that is signed is signed: a change of any byte of the record fails
// at the issuer, and of any part of the dialogue at the terminal.
func TestNothingCanBeChanged(t *testing.T) {
	key := coupon.CardKey(root, holder, shop)
	rapid.Check(t, func(t *rapid.T) {
		b := coupon.Begin{Op: coupon.Redeem, Coupon: coupon.ID{1}, Terminal: coupon.ID{2}, Challenge: coupon.ID{3}, Fen: rapid.Uint32().Draw(t, "fen"), At: noon}
		a := coupon.BeginAnswer{Holder: holder, Key: 1, Counter: rapid.Uint16().Draw(t, "counter"), Reduction: rapid.Uint32().Draw(t, "off"), Challenge: coupon.ID{4}}
		s := coupon.NewSession(key, b, a)
		r := s.Record(base())
		r.Proof = r.Prove(coupon.CardKey(root, holder, brand))
		raw := r.Bytes()
		raw[rapid.IntRange(0, len(raw)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if x, err := coupon.ParseRedemption(raw); err == nil && x.Verify(root) == nil {
			t.Fatalf("accepted %X", raw)
		}
		d := coupon.Done{Counter: a.Counter, Reduction: a.Reduction, Proof: r.Proof, MAC2: s.MAC2(r.Proof)}
		if got, err := s.Accept(d, base()); err != nil || got != r {
			t.Fatalf("%+v %v", got, err)
		}
		bad := d.Bytes()
		bad[rapid.IntRange(0, len(bad)-1).Draw(t, "answer byte")] ^= 0x10
		x, _ := coupon.ParseDone(bad)
		if _, err := s.Accept(x, base()); !errors.Is(err, coupon.ErrMAC) {
			t.Fatalf("accepted %X", bad)
		}
		a.Challenge[0] ^= 1
		if coupon.NewSession(key, b, a).MAC1() == s.MAC1() {
			t.Fatal("the card's challenge does not matter")
		}
	})
}

func TestExplain(t *testing.T) {
	c := with(stamps(3))
	for _, tt := range []struct {
		c    iso7816.Command
		r    iso7816.Response
		want []string
	}{
		{coupon.Read{N: 2}.Command(), iso7816.Response{Data: c.Bytes(), SW: iso7816.OK}, []string{"READ COUPON", "stamp card", "3 of 5", "5.00", "2015-09-01"}},
		{coupon.Read{ID: coupon.ID{1}}.Command(), iso7816.Response{SW: iso7816.SWReferenceNotFound}, []string{"6A88", "0100000000000000"}},
		{coupon.Read{N: 1}.Command(), iso7816.Response{Data: with(percent).Bytes(), SW: iso7816.OK}, []string{"12.50 %", "10.00"}},
		{coupon.Begin{Op: coupon.GiveStamp, Fen: 25_00, At: noon}.Command(), iso7816.Response{SW: coupon.SWFull}, []string{"BEGIN", "give a stamp", "25.00", "full"}},
		{coupon.Begin{Op: coupon.Redeem}.Command(), iso7816.Response{Data: coupon.BeginAnswer{Reduction: 5_00}.Bytes(), SW: iso7816.OK}, []string{"redeem", "5.00"}},
		{coupon.Commit{}.Command(), iso7816.Response{Data: coupon.Done{Counter: 9}.Bytes(), SW: iso7816.OK}, []string{"COMMIT", "MAC1", "proof", "9"}},
		{coupon.Prove{}.Command(), iso7816.Response{}, []string{"PROVE", "terminal challenge"}},
	} {
		e, ok := coupon.Explain(tt.c, tt.r)
		text := fmt.Sprint(e)
		for _, w := range tt.want {
			if !ok || !strings.Contains(text, w) {
				t.Errorf("%v: no %q in %s", tt.c, w, text)
			}
		}
		if e.ZH == "" || e.ZH == e.EN {
			t.Errorf("%v: no Chinese", tt.c)
		}
	}
	if _, ok := coupon.Explain(iso7816.Select([]byte("koala")), iso7816.Response{}); ok {
		t.Error("explains a SELECT")
	}
}

func TestKeyRecordHidesItsKey(t *testing.T) {
	k := coupon.KeyRecord{Index: 1, Use: coupon.MerchantKey, Owner: shop, Key: root}
	for _, text := range []string{fmt.Sprint(k), fmt.Sprintf("%+v %#v", k, k)} {
		if strings.Contains(strings.ToUpper(text), "112233") || strings.Contains(text, "17 34") {
			t.Error(text)
		}
	}
	if back, err := coupon.ParseKeyRecord(k.Bytes()); err != nil || back != k {
		t.Errorf("%v %v", back, err)
	}
}

func TestFCI(t *testing.T) {
	f := coupon.FCI{AID: []byte("\xF0koala\x04\x10"), Version: 0x0100, Holder: holder, Count: 3}
	back, err := coupon.ParseFCI(f.Bytes())
	if err != nil || !bytes.Equal(back.AID, f.AID) || back.Holder != holder || back.Count != 3 || back.Version != 0x0100 {
		t.Errorf("%+v %v", back, err)
	}
	if _, err := coupon.ParseFCI([]byte{0x6F, 0}); !errors.Is(err, coupon.ErrLength) {
		t.Error(err)
	}
}

// What parses writes back the same.
func FuzzParse(f *testing.F) {
	f.Add(base().Bytes())
	f.Add(with(stamps(2)).Bytes())
	f.Add(coupon.Redemption{Op: 1}.Bytes())
	f.Add(coupon.KeyRecord{Index: 3}.Bytes())
	f.Add(coupon.Pending{Coupon: base()}.Bytes())
	f.Add(coupon.FCI{AID: []byte("x")}.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		same := func(what string, err error, out func() []byte) {
			if err == nil && !bytes.Equal(out(), in) {
				t.Errorf("%s: %X writes %X", what, in, out())
			}
		}
		c, err := coupon.Parse(in)
		same("coupon", err, c.Bytes)
		r, err := coupon.ParseRedemption(in)
		same("redemption", err, r.Bytes)
		k, err := coupon.ParseKeyRecord(in)
		same("key", err, k.Bytes)
		a, err := coupon.ParseBeginAnswer(in)
		same("begin answer", err, a.Bytes)
		d, err := coupon.ParseDone(in)
		same("done", err, d.Bytes)
		p, err := coupon.ParsePending(in)
		same("pending", err, p.Bytes)
		_, _ = coupon.ParseFCI(in)
	})
}

func FuzzCommands(f *testing.F) {
	f.Add(coupon.Begin{Op: 1}.Command().Bytes(), []byte{0x90, 0})
	f.Add(coupon.Read{N: 1}.Command().Bytes(), []byte{0x90, 0})
	f.Add(coupon.Read{ID: shop}.Command().Bytes(), append(base().Bytes(), 0x90, 0))
	f.Add(coupon.Commit{}.Command().Bytes(), []byte{0x69, 0x82})
	f.Add(coupon.Prove{}.Command().Bytes(), []byte{0x6A, 0x88})
	f.Fuzz(func(t *testing.T, in, out []byte) {
		c, err := iso7816.ParseCommand(in)
		if err != nil {
			return
		}
		r, _ := iso7816.ParseResponse(out)
		coupon.Explain(c, r)
		c.CLA, c.Le, c.Extended = coupon.CLA, 0, false
		same := func(what string, err error, x iso7816.Command) {
			if err == nil && !bytes.Equal(x.Bytes(), c.Bytes()) {
				t.Errorf("%s: %v writes %v", what, c, x)
			}
		}
		b, err := coupon.ParseBegin(c)
		same("begin", err, b.Command())
		d, err := coupon.ParseRead(c)
		same("read", err, d.Command())
		m, err := coupon.ParseCommit(c)
		same("commit", err, m.Command())
		p, err := coupon.ParseProve(c)
		same("prove", err, p.Command())
	})
}
