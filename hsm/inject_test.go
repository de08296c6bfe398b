package hsm_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"koala/hsm"
	"koala/spec/coupon"
	"koala/spec/desfire"
)

// transported is a device's transport key, as the house keeps it and as the
// device has it.
func transported(t testing.TB, h *hsm.HSM, tid string) (sealed []byte, key hsm.TransportKey) {
	t.Helper()
	form, sealed, err := h.NewTransport(ctx, tid)
	if err == nil {
		form, err = hsm.ParseTransportForm(form.Text())
	}
	if err == nil {
		key, err = form.Key()
	}
	if err != nil || form.TID != tid {
		t.Fatal(form, err)
	}
	return sealed, key
}

// TestInject: what the house wraps opens in its own device, for its own use, and
// nowhere else.
func TestInject(t *testing.T) {
	h := bank(t)
	seen := map[[16]byte]bool{}
	for _, k := range []hsm.TerminalKey{{Use: hsm.DoorReader, TID: "00000305"}, {Use: hsm.DoorHost, TID: "00000305"}, {Use: hsm.TillCards, TID: "0000000A"},
		{Use: hsm.TillSales, TID: "0000000A"}, {Use: hsm.TillSales, TID: "0000000B"},
		{Use: hsm.CouponMerchant, TID: "TEADESK1", Merchant: coupon.ID{1}}, {Use: hsm.CouponMerchant, TID: "TEADESK1", Merchant: coupon.ID{2}}} {
		sealed, transport := transported(t, h, k.TID)
		in, err := h.Inject(ctx, k, sealed)
		if err != nil {
			t.Fatal(err)
		}
		key, version, err := hsm.OpenInjected(k, transport, in.Block)
		if err != nil || version != 1 || in.Version != 1 || seen[key] || bytes.Contains(in.Block, key[:4]) {
			t.Errorf("%+v: version %d, again %v, %v", k, version, seen[key], err)
		}
		seen[key] = true
		tid, use, merchant := k, k, k
		tid.TID, use.Use = "99999999", "fun"
		merchant.Merchant[3]++
		for _, other := range []hsm.TerminalKey{tid, use, merchant} {
			if _, _, err := hsm.OpenInjected(other, transport, in.Block); !errors.Is(err, hsm.ErrBlock) {
				t.Errorf("%+v opened as %+v: %v", k, other, err)
			}
		}
		if _, _, err := hsm.OpenInjected(k, hsm.TransportKey{1}, in.Block); !errors.Is(err, hsm.ErrBlock) {
			t.Errorf("%+v opened under another transport key: %v", k, err)
		}
		for i := range in.Block {
			bad := bytes.Clone(in.Block)
			bad[i] ^= 1
			if _, _, err := hsm.OpenInjected(k, transport, bad); !errors.Is(err, hsm.ErrBlock) {
				t.Errorf("%+v opened with byte %d altered: %v", k, i, err)
			}
			if _, _, err := hsm.OpenInjected(k, transport, in.Block[:i]); !errors.Is(err, hsm.ErrBlock) {
				t.Errorf("%+v opened cut to %d bytes: %v", k, i, err)
			}
		}
		other, _ := transported(t, h, "99999999")
		for _, sealed := range [][]byte{other, nil, bytes.Repeat([]byte{1}, 60)} {
			if _, err := h.Inject(ctx, k, sealed); !errors.Is(err, hsm.ErrSealed) {
				t.Errorf("%+v wrapped under another device's transport key: %v", k, err)
			}
		}
	}
	sealed, _ := transported(t, h, "TEADESK1")
	for _, k := range []hsm.TerminalKey{{Use: "all", TID: "TEADESK1"}, {Use: hsm.TillSales, TID: "TEADESK1"}, {Use: hsm.TillSales, TID: "0A"}} {
		if _, err := h.Inject(ctx, k, sealed); !errors.Is(err, hsm.ErrUsage) {
			t.Errorf("%+v: %v", k, err)
		}
	}
	if _, _, err := h.NewTransport(ctx, "a device"+"s"); !errors.Is(err, hsm.ErrUsage) {
		t.Errorf("a number that is none: %v", err)
	}
}

// TestInjectedSales: what a till signs under the key it was given, the house
// verifies.
// TestProof: a device is believed to have its transport key when it has it, and
// for no other device.
func TestProof(t *testing.T) {
	h := bank(t)
	sealed, key := transported(t, h, "00000305")
	dead, old := transported(t, h, "00000305")
	for _, tt := range []struct {
		name   string
		tid    string
		sealed []byte
		proof  []byte
		want   error
	}{
		{"its own", "00000305", sealed, key.Proof("00000305"), nil},
		{"the other key's", "00000305", dead, old.Proof("00000305"), nil},
		{"a dead key's", "00000305", sealed, old.Proof("00000305"), hsm.ErrTransport},
		{"for another device", "00000305", sealed, key.Proof("00000306"), hsm.ErrTransport},
		{"half of it", "00000305", sealed, key.Proof("00000305")[:8], hsm.ErrTransport},
		{"nothing", "00000305", sealed, []byte{}, hsm.ErrTransport},
		{"of another device's key", "00000306", sealed, key.Proof("00000306"), hsm.ErrSealed},
	} {
		if err := h.CheckProof(ctx, tt.tid, tt.sealed, tt.proof); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if got := hex.EncodeToString(hsm.TransportKey{}.Proof("00000305")); got != zeroProof {
		t.Errorf("%s", got)
	}
}

// zeroProof is the proof of a transport key of zeros for device 00000305, made
// with: printf 'koala installation 00000305' | openssl dgst -sha256 -mac HMAC
// -macopt hexkey:00…00 (32 bytes), the first half.
const zeroProof = "db948799527057edff68639d3b739b01"

func TestInjectedSales(t *testing.T) {
	h := bank(t)
	k := hsm.TerminalKey{Use: hsm.TillSales, TID: "01000000"}
	sealed, transport := transported(t, h, k.TID)
	in, err := h.Inject(ctx, k, sealed)
	if err != nil {
		t.Fatal(err)
	}
	key, _, err := hsm.OpenInjected(k, transport, in.Block)
	if err != nil {
		t.Fatal(err)
	}
	sale := desfire.Sale{Till: desfire.Till{1}, Seq: 1, Kind: desfire.Purchase, Fen: 500, Before: 1000, After: 500}.Sign(key)
	if err := h.CheckSale(ctx, sale); err != nil {
		t.Error(err)
	}
	sale.Fen++
	if err := h.CheckSale(ctx, sale); !errors.Is(err, hsm.ErrAC) {
		t.Errorf("another amount: %v", err)
	}
}

// TestTransportForm: a component that was typed wrongly is found by its check
// value, and printing a form shows no key.
func TestTransportForm(t *testing.T) {
	h := bank(t)
	form, _, err := h.NewTransport(ctx, "TEADESK1")
	if err != nil {
		t.Fatal(err)
	}
	key, err := form.Key()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprintf("%v %+v %#v %s", form, form, form, form), fmt.Sprintf("%v %+v %#v %x", key, key, key, key)} {
		if strings.Contains(strings.ToUpper(s), fmt.Sprintf("%X", form.Parts[0][:4])) || strings.Contains(strings.ToUpper(s), fmt.Sprintf("%X", key[:4])) {
			t.Errorf("printing shows a key: %s", s)
		}
	}
	words := strings.Fields(form.Text())
	for i, want := range map[int]error{0: hsm.ErrForm, 1: hsm.ErrForm, 2: hsm.ErrCheck, 3: hsm.ErrCheck, 4: hsm.ErrCheck, 5: hsm.ErrCheck, 6: hsm.ErrCheck} {
		bad := append([]string(nil), words...)
		flipped := byte('0')
		if bad[i][0] == flipped {
			flipped = '1'
		}
		if bad[i] = string(flipped) + bad[i][1:]; i == 1 {
			bad[i] = "short"
		}
		if _, err := hsm.ParseTransportForm(strings.Join(bad, " ")); !errors.Is(err, want) {
			t.Errorf("word %d: %v, want %v", i+1, err, want)
		}
	}
}

func FuzzParseTransportForm(f *testing.F) {
	h := bank(f)
	form, _, err := h.NewTransport(ctx, "TEADESK1")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(form.Text())
	f.Add("KTK1 TEADESK1 00 00 00 00 00")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := hsm.ParseTransportForm(text)
		if err != nil {
			return
		}
		if again, err := hsm.ParseTransportForm(got.Text()); err != nil || again != got {
			t.Errorf("%v read back as %v, %v", got, again, err)
		}
	})
}
