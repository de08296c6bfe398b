package unionpay_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"strings"
	"testing"

	"koala/spec/emv"
	"koala/spec/iso8583"
	"koala/spec/poskey"
	"koala/spec/purse"
	"koala/spec/tlv"
	"koala/terminal"
	"koala/terminal/terminaltest"
	"koala/terminal/unionpay"
)

// Working keys with a wrong check value are not used; the key never shows.
func TestKeystore(t *testing.T) {
	f := terminal.NewFlash(2)
	k := unionpay.OpenKeystore(f)
	if err := k.Accept(make([]byte, 40)); !errors.Is(err, unionpay.ErrNoKeys) {
		t.Error(err)
	}
	if err := k.Inject(tmk[:], []byte{1, 2, 3}); !errors.Is(err, unionpay.ErrKeyCheck) {
		t.Error(err)
	}
	check := poskey.KCV(tmk)
	if err := k.Inject(tmk[:], check[:3]); err != nil {
		t.Fatal(err)
	}
	sealed := poskey.Wrap(tmk, mak).Append(poskey.Wrap(tmk, pik).Append(nil))
	bad := bytes.Clone(sealed)
	bad[39]++
	for _, v := range [][]byte{bad, sealed[:39], nil} {
		if err := k.Accept(v); !errors.Is(err, unionpay.ErrKeyCheck) || k.Ready() {
			t.Errorf("%d bytes: %v", len(v), err)
		}
	}
	if err := k.Accept(sealed); err != nil || !k.Ready() {
		t.Fatal(err)
	}
	if k = unionpay.OpenKeystore(f); !k.Ready() {
		t.Error("keys are gone after a start")
	}
	if block, err := k.PINBlock("1234", "6288880100000000017"); err != nil || under(block, "6288880100000000017") != "1234" {
		t.Errorf("%X, %v", block, err)
	}
	if s := fmt.Sprintf("%v %+v %#v", k, k, k); strings.Contains(s, "0123456789") || !strings.Contains(s, "08D7B4") {
		t.Error(s)
	}
	if err := k.Wipe(); err != nil || k.Ready() || unionpay.OpenKeystore(f).Ready() || bytes.Contains(f.Image(), tmk[:]) {
		t.Errorf("wiped: %v", err)
	}
}

// The message of the protocol's section 4, byte for byte.
func TestDocumentedPINBlock(t *testing.T) {
	k := unionpay.OpenKeystore(terminal.NewFlash(2))
	check := poskey.KCV(tmk)
	if err := errors.Join(k.Inject(tmk[:], check[:]), k.Accept(poskey.Wrap(tmk, mak).Append(poskey.Wrap(tmk, pik).Append(nil)))); err != nil {
		t.Fatal(err)
	}
	if block := must(k.PINBlock("1234", "6288880100000000017")); fmt.Sprintf("%X", block) != "4DEE19C6D920CEA7" {
		t.Errorf("%X", block)
	}
}

// What a code means for the shop.
func TestCodes(t *testing.T) {
	for code, approved := range map[string]bool{"00": true, "10": true, "11": true, "16": true, "A2": true, "A4": true, "A5": true, "A6": true,
		"05": false, "51": false, "55": false, "A0": false, "A1": false, "A7": false, "ZZ": false} {
		s := newShop(t)
		s.host.say = func(*iso8583.Message) string { return code }
		r := s.sell(5)
		if r.Approved != approved || r.Code != code || r.Words(false) == "" {
			t.Errorf("%s: %v", code, r.Approved)
		}
		if n := len(s.pos.Entries()); (n == 1) != approved {
			t.Errorf("%s: %d entries", code, n)
		}
	}
}

// What an order lacks is said before anything is sent.
func TestOrders(t *testing.T) {
	s := newShop(t)
	sold := s.sell(100_00)
	n := s.host.n
	for _, tt := range []struct {
		order unionpay.Order
		want  error
	}{
		{unionpay.Order{}, unionpay.ErrOrder},
		{unionpay.Order{Kind: unionpay.Sale, Fen: 1}, unionpay.ErrOrder},
		{unionpay.Order{Kind: unionpay.Sale, Card: unionpay.Card{Track2: stripe}}, unionpay.ErrOrder},
		{unionpay.Order{Kind: unionpay.Sale, Fen: 1, Card: unionpay.Card{Track2: "1=2"}}, unionpay.ErrOrder},
		{unionpay.Order{Kind: unionpay.Sale, Fen: 1, Card: unionpay.Card{Track2: chipped}}, unionpay.ErrUseChip},
		{unionpay.Order{Kind: unionpay.Sale, Fen: 1, Card: unionpay.Card{PAN: "12", Expiry: "2509"}}, unionpay.ErrOrder},
		{unionpay.Order{Kind: unionpay.Sale, Fen: 1, Card: unionpay.Card{Code: "a b"}}, unionpay.ErrOrder},
		{unionpay.Order{Kind: unionpay.Sale, Fen: 1_000_000_000_000, Card: unionpay.Card{Track2: stripe}}, unionpay.ErrLimit},
		{unionpay.Order{Kind: unionpay.SaleVoid, STAN: 77}, unionpay.ErrOriginal},
		{unionpay.Order{Kind: unionpay.SaleVoid, STAN: sold.STAN, Fen: 1}, unionpay.ErrOrder},
		{unionpay.Order{Kind: unionpay.Tip, STAN: sold.STAN, Fen: 120_01}, unionpay.ErrLimit},
		{unionpay.Order{Kind: unionpay.Tip, STAN: sold.STAN, Fen: 99_99}, unionpay.ErrLimit},
		{unionpay.Order{Kind: unionpay.Adjust, STAN: sold.STAN, Fen: 99_99}, unionpay.ErrOriginal},
		{unionpay.Order{Kind: unionpay.Refund, STAN: sold.STAN, Fen: 100_01}, unionpay.ErrLimit},
		{unionpay.Order{Kind: unionpay.OfflineSale, Fen: 1, Card: unionpay.Card{Track2: stripe}}, unionpay.ErrOrder},
		{unionpay.Order{Kind: unionpay.Instalment, Fen: 1, Card: unionpay.Card{Track2: stripe}, Terms: unionpay.Terms{Parts: 7}}, unionpay.ErrOrder},
		{unionpay.Order{Kind: unionpay.Load, Fen: 1}, unionpay.ErrOrder},
	} {
		if _, err := s.pos.Do(tt.order); !errors.Is(err, tt.want) {
			t.Errorf("%v %d: %v, want %v", tt.order.Kind, tt.order.Fen, err, tt.want)
		}
	}
	if s.host.n != n {
		t.Errorf("%d messages were sent", s.host.n-n)
	}
	if s.do(unionpay.Order{Kind: unionpay.SaleVoid, STAN: sold.STAN}); s.host.deals["000007/000002"] == nil {
		t.Error("no void")
	}
	if _, err := s.pos.Void(sold.STAN); !errors.Is(err, unionpay.ErrUndone) {
		t.Error(err)
	}
}

// Totals that differ have every item sent, and the batch goes on all the same.
func TestUnbalanced(t *testing.T) {
	s := newShop(t)
	for i := range 19 {
		s.sell(uint64(i + 1))
	}
	if _, err := s.pos.Void(4); err != nil {
		t.Fatal(err)
	}
	s.host.off = true
	x := s.settle()
	if x.Balanced || x.Items != 20 || x.Next != 8 || s.pos.Batch() != 8 {
		t.Errorf("%+v", x)
	}
	if text := strings.Join(s.pos.TotalsSlip(x, false), "\n"); !strings.Contains(text, "not balanced: 20 items") {
		t.Error(text)
	}
	if x := s.settle(); !x.Balanced || x.Next != 8 {
		t.Errorf("nothing to settle: %+v", x)
	}
}

// A journal that is full of what the host does not know takes nothing more, and
// settles all the same.
func TestFull(t *testing.T) {
	s := newShop(t)
	s.cfg.Journal = terminal.NewFlash(4)
	s.boot()
	n := 0
	for ; ; n++ {
		_, err := s.pos.Do(unionpay.Order{Kind: unionpay.OfflineSale, Fen: 5, Card: unionpay.Card{Track2: stripe}, Auth: "V00001"})
		if errors.Is(err, unionpay.ErrFull) {
			break
		}
		if err != nil || n > 1000 {
			t.Fatal(n, err)
		}
	}
	if n < 60 {
		t.Errorf("full after %d", n)
	}
	s.boot()
	for range 2 {
		if x := s.settle(); !x.Balanced || len(s.host.deals) < n {
			t.Errorf("%+v of %d", x, n)
		}
		s.sell(5)
	}
}

// What the host refuses of what was decided here is told to the shop and not
// counted.
func TestRefused(t *testing.T) {
	s := newShop(t)
	s.host.say = func(m *iso8583.Message) string {
		if m.IsMTI("0220") {
			return "05"
		}
		return ""
	}
	r := s.do(unionpay.Order{Kind: unionpay.OfflineSale, Fen: 5, Card: unionpay.Card{Track2: stripe}, Auth: "V00001"})
	if taken, refused, err := s.pos.Flush(); taken != 0 || refused != 1 || err != nil {
		t.Error(taken, refused, err)
	}
	if got := s.pos.Refused(); got[r.Name()] != "05" || s.pos.Totals() != (unionpay.Totals{}) {
		t.Errorf("%v %+v", got, s.pos.Totals())
	}
	if text := strings.Join(s.pos.Receipt(r.Entry, true, false), "\n"); !strings.Contains(text, "refused by the host: 05") {
		t.Error(text)
	}
}

// Sign-on and off, echo, status, what the header asks for, the clock.
func TestManagement(t *testing.T) {
	s := newShop(t)
	s.host.state = 1
	if err := errors.Join(s.pos.Echo(), s.pos.SignOn(), s.pos.Status("printer ok")); err != nil {
		t.Fatal(err)
	}
	if s.pos.Wants() != unionpay.WantParameters || s.pos.Batch() != 7 || s.pos.Now().Format("150405") != "120001" {
		t.Error(s.pos.Wants(), s.pos.Batch(), s.pos.Now())
	}
	s.host.fetch["360"] = func([]byte) []byte { s.host.state = 2; return []byte("131") }
	if err := s.pos.Obey("paper out"); err != nil || s.pos.Parameters().Redial != 1 || s.host.asked[len(s.host.asked)-1].Text(62) != "paper out" {
		t.Error(err)
	}
	s.host.state = 0
	if err := s.pos.SignOff(); err != nil || s.pos.SignedOn() {
		t.Error(err)
	}
	if s.sell(5); !s.pos.SignedOn() { // by itself
		t.Error("not signed on")
	}
	s.host.signed = false // the host forgot: 77, then new keys and the same sale
	if _, err := s.pos.Do(unionpay.Order{Kind: unionpay.Sale, Fen: 6, Card: unionpay.Card{Track2: stripe}}); err != nil && !errors.Is(err, unionpay.ErrRefused) {
		t.Error(err)
	}
	if s.pos.SignedOn() {
		t.Error("still signed on")
	}
	s.sell(6)
	s.equal("management")
}

func object(tag tlv.Tag, v ...byte) []byte { return tlv.Append(nil, tag, v) }

// Downloads are kept as they come, take effect, and survive a start; what does
// not read is not kept.
func TestDownloads(t *testing.T) {
	s := newShop(t)
	k := emv.CAKeys()[0]
	name := append(object(0x9F06, k.RID[:]...), object(0x9F22, k.Index)...)
	whole := bytes.Join([][]byte{{'1'}, name, object(0xDF05, []byte("20301231")...), object(0xDF06, 1), object(0xDF07, 1), tlv.Append(nil, 0xDF02, k.Modulus), tlv.Append(nil, 0xDF04, k.Exponent), tlv.Append(nil, 0xDF03, k.Hash[:])}, nil)
	d := must(purse.DenyDelta{To: 1, At: noon, Changes: []purse.Denial{{Card: must(purse.ParseNumber("6228000100001117")), Reason: purse.DenyLost}}}.Bytes())
	signed := terminaltest.Sign(d)
	aid := object(0x9F06, 0xA0, 0, 0, 3, 0x33)
	s.host.fetch["360"] = func([]byte) []byte {
		return []byte("180" + "200" + "22" + fmt.Sprintf("%-40s", "NEW NAME") + "239" + "26000000010000" + "275812")
	}
	s.host.fetch["372"] = func([]byte) []byte {
		return append(append([]byte("1"), name...), object(0xDF05, []byte("20301231")...)...)
	}
	s.host.fetch["370"] = func([]byte) []byte { return whole }
	s.host.fetch["382"] = func([]byte) []byte { return append([]byte("1"), aid...) }
	s.host.fetch["380"] = func([]byte) []byte {
		return bytes.Join([][]byte{{'1'}, aid, object(0xDF01, 0), object(0x9F1B, 0, 0, 0x27, 0x10), object(0xDF20, 0, 0, 0, 5, 0, 0)}, nil)
	}
	s.host.fetch["390"] = func(in []byte) []byte {
		at := 0
		_, _ = fmt.Sscanf(string(in[10:]), "%d", &at)
		return append(fmt.Appendf([]byte("1"), "%010d", len(signed)), signed[at:min(at+50, len(signed))]...)
	}
	for _, w := range []unionpay.Want{unionpay.WantParameters, unionpay.WantCAKeys, unionpay.WantAIDs, unionpay.WantBlackList} {
		if err := s.pos.Download(w); err != nil {
			t.Fatal(w, err)
		}
	}
	s.boot()
	p := s.pos.Parameters()
	if p.Name != "NEW NAME" || p.Most != 100_00 || !p.NoTips || !p.NoKeying || p.Resend != 9 || p.Category != 5812 || s.pos.Till().Deny().Version() != 1 {
		t.Errorf("%+v", p)
	}
	if _, err := s.pos.Do(unionpay.Order{Kind: unionpay.Sale, Fen: 100_01, Card: unionpay.Card{Track2: stripe}}); !errors.Is(err, unionpay.ErrLimit) {
		t.Error(err)
	}
	whole[len(whole)-1]++ // the check value
	s.host.fetch["360"] = func([]byte) []byte { return []byte("99") }
	s.host.fetch["380"] = func([]byte) []byte { return append([]byte("1"), object(0x9F06, 1)...) }
	for _, w := range []unionpay.Want{unionpay.WantParameters, unionpay.WantCAKeys, unionpay.WantAIDs} {
		if err := s.pos.Download(w); !errors.Is(err, unionpay.ErrPack) {
			t.Error(w, err)
		}
	}
	if s.boot(); s.pos.Parameters().Name != "NEW NAME" {
		t.Error("parameters are gone")
	}
}

func picture(seed int) []byte {
	m := image.NewGray(image.Rect(0, 0, 200, 80))
	for i := range 900 {
		m.SetGray((i*7+i*i/13)%200, (i*seed)%80, color.Gray{Y: byte(i * seed)})
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// A signature is kept whole or not at all, sent in pieces, and comes back for a
// reprint.
func TestSignature(t *testing.T) {
	one := picture(3)
	for n := 1; ; n++ {
		s := newShop(t)
		r := s.sell(9)
		if !unionpay.NeedsSignature(r.Entry) {
			t.Fatal("no signature needed")
		}
		s.cfg.Journal.CutAfter(n)
		err := s.pos.Sign(r.STAN, one)
		if errors.Is(err, terminal.ErrPower) {
			s.boot()
			if got, ok := s.pos.Signature(r.STAN); ok && !bytes.Equal(got, one) {
				t.Fatal("half a signature")
			} else if !ok {
				if err := s.pos.Sign(r.STAN, one); err != nil {
					t.Fatal(n, err)
				}
			}
		} else if err != nil {
			t.Fatal(err)
		}
		s.cfg.Journal.PowerOn()
		got, ok := s.pos.Signature(r.STAN)
		if !ok || !bytes.Equal(got, one) || !errors.Is(s.pos.Sign(r.STAN, one), unionpay.ErrSignature) {
			t.Fatal("signature", ok)
		}
		e, _ := s.pos.Find("0178")
		if text := strings.Join(s.pos.Receipt(e, true, false), "\n"); !strings.Contains(text, fmt.Sprintf("signed electronically %X", sha256.Sum256(one))[:28]) {
			t.Error(text)
		}
		s.settle()
		var sent []byte
		for _, m := range s.host.asked {
			if m.IsMTI("0920") {
				sent = append(sent, m.Get(62)[36:]...)
			}
		}
		if !bytes.Equal(sent, one) {
			t.Fatalf("%d bytes were sent of %d", len(sent), len(one))
		}
		if err == nil {
			break
		}
	}
	s := newShop(t)
	r := s.sell(9)
	for _, bad := range [][]byte{nil, one[:50], bytes.Repeat([]byte{1}, unionpay.MaxSignature+1)} {
		if err := s.pos.Sign(r.STAN, bad); !errors.Is(err, unionpay.ErrSignature) {
			t.Error(err)
		}
	}
}

func FuzzEntry(f *testing.F) {
	s := newShop(f)
	r := s.sell(100)
	f.Add(must(r.MarshalBinary()))
	f.Add([]byte("E"))
	f.Fuzz(func(t *testing.T, in []byte) {
		e, err := unionpay.ParseEntry(in)
		if err != nil {
			return
		}
		if again := must(e.MarshalBinary()); !bytes.Equal(again, in) {
			t.Errorf("%X writes back %X", in, again)
		}
		_, _, _ = e.Fen(), e.String(), e.Tail("1117")
	})
}

// Whatever a host says, a terminal neither panics nor takes it for an approval
// without a MAC.
func FuzzAnswer(f *testing.F) {
	s := newShop(f)
	s.sell(1)
	last := s.host.asked[len(s.host.asked)-1]
	f.Add(must(last.AppendTo(nil)))
	f.Add([]byte{0x60, 0, 0, 0, 3})
	f.Fuzz(func(t *testing.T, in []byte) {
		s.t, s.host.t = t, t
		s.boot()
		s.host.fault = func(n int, _, answer []byte) ([]byte, error) { return in, nil }
		r, err := s.pos.Do(unionpay.Order{Kind: unionpay.Sale, Fen: 5, Card: unionpay.Card{Track2: stripe}})
		if err == nil && r.Approved {
			t.Errorf("%X is an approval", in)
		}
		s.host.fault = nil
		if !s.pos.SignedOn() {
			_ = s.pos.SignOn()
		}
		_, _, _ = s.pos.Flush()
		if list, _ := s.pos.Pending(); len(list) > 0 {
			t.Errorf("pending %v", list)
		}
	})
}
