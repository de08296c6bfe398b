package hsm_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db/dbtest"
	"koala/spec/dukpt"
	"koala/spec/iso8583"
	"koala/spec/iso9797"
	"koala/spec/poskey"
)

const (
	posTID  = "30008900"
	testPAN = "6288880100000001"
)

// A terminal is one that has been installed and has signed on: what the host
// keeps, and what the terminal has.
type posTerminal struct {
	sealed map[poskey.Kind][]byte
	keys   map[poskey.Kind][16]byte
	master []byte
}

func signOn(t testing.TB, h *hsm.HSM, tid string) posTerminal {
	t.Helper()
	out := posTerminal{sealed: map[poskey.Kind][]byte{}, keys: map[poskey.Kind][16]byte{}}
	transport, key := transported(t, h, tid)
	in, master, err := h.NewMaster(ctx, tid, transport)
	if err != nil {
		t.Fatal(err)
	}
	out.master = master.Sealed
	tmk, _, err := hsm.OpenInjected(hsm.TerminalKey{Use: hsm.TerminalMaster, TID: tid}, key, in.Block)
	if err != nil || poskey.KCV(tmk) != master.KCV || in.KCV != [3]byte(master.KCV[:]) {
		t.Fatalf("check values %X and %X, %v", in.KCV, master.KCV, err)
	}
	kinds := []poskey.Kind{poskey.PIK, poskey.MAK, poskey.TDK}
	list, err := h.NewWorking(ctx, tid, out.master, kinds...)
	if err != nil {
		t.Fatal(err)
	}
	var field []byte
	for _, w := range list {
		field = w.Block.Append(field)
		out.sealed[w.Kind] = w.Sealed
	}
	blocks, err := poskey.ParseField(field)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range blocks {
		k, err := b.Open(tmk)
		if err != nil || b.Check != list[i].KCV {
			t.Fatal(kinds[i], err)
		}
		out.keys[kinds[i]] = k
	}
	return out
}

func (p posTerminal) under(kind poskey.Kind) hsm.Under {
	return hsm.Under{TID: posTID, Sealed: p.sealed[kind]}
}

func sale(t testing.TB) *iso8583.Message {
	t.Helper()
	m := &iso8583.Message{}
	m.Reset(iso8583.UnionPayPOS(), "0200")
	m.SetHead(iso8583.POSHeader{Destination: 0x0003, Application: 0x60, Version: 0x31}.AppendTo(nil))
	for n, v := range map[int]string{2: testPAN, 3: "000000", 4: "000000012345", 11: "79", 25: "00", 41: posTID, 42: "898110058120001", 49: "156", 60: "22000727000"} {
		m.SetText(n, v)
	}
	return m
}

// TestWorkingMAC: what a terminal seals under the key it was sent the hsm
// verifies, and the other way round; nothing else verifies.
func TestWorkingMAC(t *testing.T) {
	h := bank(t)
	p, q := signOn(t, h, posTID), signOn(t, h, posTID)
	key := p.keys[poskey.MAK]
	k, err := iso8583.NewKey(key[:])
	if err != nil {
		t.Fatal(err)
	}
	wire, err := sale(t).Seal(nil, k)
	if err != nil {
		t.Fatal(err)
	}
	var got iso8583.Message
	read := func(wire []byte) *iso8583.Message {
		t.Helper()
		if err := got.Unpack(iso8583.UnionPayPOS(), wire); err != nil {
			t.Fatal(err)
		}
		return &got
	}
	for range 2 { // from its sealed form, and ready
		if err := h.VerifyMAC(ctx, p.under(poskey.MAK), read(wire)); err != nil {
			t.Error(err)
		}
	}
	bad := bytes.Clone(wire)
	bad[len(bad)-10] ^= 1
	pik := hsm.Under{TID: posTID, Sealed: p.sealed[poskey.PIK]}
	other := hsm.Under{TID: "30008901", Sealed: p.sealed[poskey.MAK]}
	for name, tt := range map[string]struct {
		u    hsm.Under
		wire []byte
		want error
	}{
		"altered":             {p.under(poskey.MAK), bad, hsm.ErrMAC},
		"another key":         {q.under(poskey.MAK), wire, hsm.ErrMAC},
		"another terminal":    {other, wire, hsm.ErrSealed},
		"a PIN key":           {pik, wire, hsm.ErrSealed},
		"a sealed key cut":    {hsm.Under{TID: posTID, Sealed: p.sealed[poskey.MAK][:30]}, wire, hsm.ErrSealed},
		"neither":             {hsm.Under{TID: posTID}, wire, hsm.ErrUsage},
		"nothing of a master": {hsm.Under{TID: posTID, Sealed: p.master}, wire, hsm.ErrSealed},
	} {
		if err := h.VerifyMAC(ctx, tt.u, read(tt.wire)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	var answer iso8583.Message
	if err := answer.AnswerTo(read(wire), "00"); err != nil {
		t.Fatal(err)
	}
	out, err := h.SealMAC(ctx, p.under(poskey.MAK), nil, &answer)
	if err != nil {
		t.Fatal(err)
	}
	if err := read(out).Verify(k); err != nil {
		t.Errorf("the terminal says %v", err)
	}
	if _, err := h.NewWorking(ctx, "30008901", p.master, poskey.PIK); !errors.Is(err, hsm.ErrSealed) {
		t.Errorf("working keys under another terminal's master key: %v", err)
	}
	if _, err := h.NewWorking(ctx, posTID, p.master, hsm.TMK); !errors.Is(err, hsm.ErrUsage) {
		t.Errorf("a master key as a working key: %v", err)
	}
}

// TestWorkingPIN: a PIN typed at a terminal is the one the issuer compares.
func TestWorkingPIN(t *testing.T) {
	h := bank(t)
	p := signOn(t, h, posTID)
	key := p.keys[poskey.PIK]
	typed := func(form poskey.PINForm, pin string) (b [8]byte) {
		t.Helper()
		b, err := poskey.PINBlock(form, pin, testPAN)
		if err != nil {
			t.Fatal(err)
		}
		iso9797.NewTDES(key[:]).EncryptBlock(b[:], b[:])
		return b
	}
	own, err := h.EncipherPIN(ctx, testPAN, "246810")
	if err != nil {
		t.Fatal(err)
	}
	reference, err := h.PINReference(ctx, testPAN, own)
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []poskey.PINForm{poskey.WithPAN, poskey.WithoutPAN} {
		for pin, want := range map[string]error{"246810": nil, "246811": hsm.ErrPIN, "2468": hsm.ErrPIN} {
			b, err := h.TranslatePIN(ctx, p.under(poskey.PIK), form, typed(form, pin), testPAN, "")
			if err != nil {
				t.Fatal(err)
			}
			if err := h.CheckPIN(ctx, testPAN, b, reference); !errors.Is(err, want) {
				t.Errorf("form %d, %s: %v, want %v", form, pin, err, want)
			}
		}
	}
	if _, err := h.TranslatePIN(ctx, p.under(poskey.PIK), poskey.WithPAN, typed(poskey.WithPAN, "246810"), "6288880199999999", ""); !errors.Is(err, hsm.ErrPINBlock) {
		t.Errorf("another card: %v", err)
	}
	if _, err := h.TranslatePIN(ctx, p.under(poskey.PIK), poskey.WithPAN, [8]byte{1}, testPAN, ""); !errors.Is(err, hsm.ErrPINBlock) {
		t.Errorf("no block: %v", err)
	}
	if _, err := h.TranslatePIN(ctx, p.under(poskey.PIK), poskey.WithPAN, typed(poskey.WithPAN, "246810"), testPAN, "zone.none"); !errors.Is(err, hsm.ErrNoKey) {
		t.Errorf("no such zone: %v", err)
	}
}

func TestWorkingTrack(t *testing.T) {
	h := bank(t)
	p := signOn(t, h, posTID)
	clear := unhex(t, "1234567890123456789D05082017819991683020")
	packed := bytes.Clone(clear)
	b, err := poskey.TrackBlock(packed)
	if err != nil {
		t.Fatal(err)
	}
	key := p.keys[poskey.TDK]
	iso9797.NewTDES(key[:]).EncryptBlock(b, b)
	if err := h.DecipherTrack(ctx, p.under(poskey.TDK), packed); err != nil || !bytes.Equal(packed, clear) {
		t.Errorf("%X, %v", packed, err)
	}
	if err := h.DecipherTrack(ctx, p.under(poskey.TDK), packed[:8]); !errors.Is(err, hsm.ErrUsage) {
		t.Errorf("too short: %v", err)
	}
	if _, err := h.DecipherData(ctx, p.under(poskey.TDK), packed[:9]); !errors.Is(err, hsm.ErrUsage) {
		t.Errorf("no whole blocks: %v", err)
	}
}

// TestPublishedReader: the values of ANSI X9.24-1:2009, annex A.4, through the
// hsm; what a reader gets as its initial key makes the same.
func TestPublishedReader(t *testing.T) {
	h := bank(t)
	if _, err := h.Import(ctx, hsm.LabelReader, hsm.ReaderRoot, unhex(t, "0123456789ABCDEFFEDCBA9876543210")); err != nil {
		t.Fatal(err)
	}
	k := dukpt.KSN(unhex(t, "FFFF9876543210E00001"))
	u := hsm.Under{TID: "READER01", Reader: k}
	own, err := h.TranslatePIN(ctx, u, poskey.WithPAN, [8]byte(unhex(t, "1B9C1845EB993A7A")), "4012345678909", "")
	if err != nil {
		t.Fatal(err)
	}
	if want, err := h.EncipherPIN(ctx, "4012345678909", "1234"); err != nil || own != want {
		t.Errorf("another PIN than 1234: %v", err)
	}
	data, err := h.DecipherData(ctx, u, unhex(t, "FC0D53B7EA1FDA9EE68AAF2E70D9B9506229BE2AA993F04F"))
	if err != nil || string(bytes.TrimRight(data, "\x00")) != "4012345678909D987" {
		t.Errorf("%q, %v", data, err)
	}
	transport, key := transported(t, h, "READER01")
	in, err := h.NewReader(ctx, "READER01", k, transport)
	if err != nil {
		t.Fatal(err)
	}
	initial, _, err := hsm.OpenInjected(hsm.TerminalKey{Use: hsm.ReaderInitial, TID: "READER01"}, key, in.Block)
	if err != nil || hex.EncodeToString(initial[:]) != "6ac292faa1315b4d858ab3a3d7d5933a" {
		t.Errorf("%v", err)
	}
	u.Reader = k.At(0)
	if err := h.VerifyMAC(ctx, u, sale(t)); !errors.Is(err, hsm.ErrUsage) {
		t.Errorf("counter zero: %v", err)
	}
}

// TestReaderMAC: requests under the one variant, answers under the other, for
// the base key that the hsm made itself.
func TestReaderMAC(t *testing.T) {
	h := bank(t)
	transport, key := transported(t, h, "READER01")
	k := dukpt.KSN{1, 2, 3, 4, 5, 6, 7}
	in, err := h.NewReader(ctx, "READER01", k, transport)
	if err != nil {
		t.Fatal(err)
	}
	initial, version, err := hsm.OpenInjected(hsm.TerminalKey{Use: hsm.ReaderInitial, TID: "READER01"}, key, in.Block)
	if err != nil {
		t.Fatal(err)
	}
	r := dukpt.NewReader(initial, k)
	if _, err := h.Rotate(ctx, hsm.LabelReader); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		once, at, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		request, response := once.MACRequest(), once.MACResponse()
		mac := func(b [16]byte) *iso8583.Key {
			k, err := iso8583.NewKey(b[:])
			if err != nil {
				t.Fatal(err)
			}
			return k
		}
		wire, err := sale(t).Seal(nil, mac(request))
		if err != nil {
			t.Fatal(err)
		}
		var got, answer iso8583.Message
		if err := got.Unpack(iso8583.UnionPayPOS(), wire); err != nil {
			t.Fatal(err)
		}
		u := hsm.Under{TID: "READER01", Reader: at, Base: version}
		if err := h.VerifyMAC(ctx, u, &got); err != nil {
			t.Errorf("%s: %v", at, err)
		}
		newest := u
		newest.Base = 0
		if err := h.VerifyMAC(ctx, newest, &got); !errors.Is(err, hsm.ErrMAC) {
			t.Errorf("%s under the base key after it: %v", at, err)
		}
		if err := answer.AnswerTo(&got, "00"); err != nil {
			t.Fatal(err)
		}
		out, err := h.SealMAC(ctx, u, nil, &answer)
		if err == nil {
			err = got.Unpack(iso8583.UnionPayPOS(), out)
		}
		if err == nil {
			err = got.Verify(mac(response))
		}
		if err != nil {
			t.Errorf("the reader says %v", err)
		}
	}
}

// TestRecentIsBounded: more terminals than are kept ready verify still, in any
// order.
func TestRecentIsBounded(t *testing.T) {
	h := bank(t)
	transport, key := transported(t, h, "READER01")
	if _, err := h.NewReader(ctx, "READER01", dukpt.KSN{}, transport); err != nil || key == (hsm.TransportKey{}) {
		t.Fatal(err)
	}
	k := dukpt.KSN{9}
	want := map[uint32]string{}
	data := make([]byte, 8)
	for round, last := range []uint32{8500, 100} {
		for counter := uint32(1); counter <= last; counter++ {
			u := hsm.Under{TID: "READER01", Reader: k.At(counter)}
			if u.Reader.Check() != nil {
				continue
			}
			got, err := h.DecipherData(ctx, u, data)
			if err != nil || round > 0 && want[counter] != string(got) {
				t.Fatalf("%d: %v", counter, err)
			}
			want[counter] = string(got)
		}
	}
}

// TestSecretsSurvive: what was sealed is of use to the hsm after a restart, and
// to no other.
func TestSecretsSurvive(t *testing.T) {
	s, file := dbtest.Open(t), filepath.Join(t.TempDir(), "k")
	h := open(t, s, file)
	other, err := hsm.Open(ctx, dbtest.Open(t), hsm.Config{KeyFile: filepath.Join(t.TempDir(), "k"), Rand: clock.Random(77)})
	if err != nil {
		t.Fatal(err)
	}
	p := signOn(t, h, posTID)
	h = open(t, s, file)
	if _, err := h.NewWorking(ctx, posTID, p.master, poskey.MAK); err != nil {
		t.Error(err)
	}
	if _, err := other.NewWorking(ctx, posTID, p.master, poskey.MAK); !errors.Is(err, hsm.ErrSealed) {
		t.Errorf("another hsm: %v", err)
	}
}

// TestNoKeyReads: no sealed form and no block holds a part of its key.
func TestNoKeyReads(t *testing.T) {
	h := bank(t)
	rapid.Check(t, func(rt *rapid.T) {
		tid := rapid.StringMatching(`[0-9A-Z]{8}`).Draw(rt, "tid")
		p := signOn(t, h, tid)
		for kind, k := range p.keys {
			if bytes.Contains(p.sealed[kind], k[:4]) {
				rt.Fatal(kind)
			}
		}
	})
}

// BenchmarkVerifyAndSeal is what an authorisation spends on MACs: verify the
// request, seal the answer.
func BenchmarkVerifyAndSeal(b *testing.B) {
	for _, n := range []int{64, 3 << 12} {
		b.Run(fmt.Sprintf("terminals=%d", n), func(b *testing.B) { verifyAndSeal(b, n) })
	}
}

func verifyAndSeal(b *testing.B, n int) {
	h, err := hsm.Open(ctx, dbtest.Open(b), hsm.Config{KeyFile: filepath.Join(b.TempDir(), "k"), Rand: clock.Random(1)})
	if err != nil {
		b.Fatal(err)
	}
	under, wires := make([]hsm.Under, n), make([][]byte, n)
	p := signOn(b, h, posTID)
	for i := range under {
		list, err := h.NewWorking(ctx, posTID, p.master, poskey.MAK)
		if err != nil {
			b.Fatal(err)
		}
		under[i] = hsm.Under{TID: posTID, Sealed: list[0].Sealed}
		if wires[i], err = h.SealMAC(ctx, under[i], nil, sale(b)); err != nil {
			b.Fatal(err)
		}
	}
	var got iso8583.Message
	if err := got.Unpack(iso8583.UnionPayPOS(), wires[0]); err != nil {
		b.Fatal(err)
	}
	out := make([]byte, 0, 1024)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		u := under[i%n]
		if err := got.Unpack(iso8583.UnionPayPOS(), wires[i%n]); err != nil {
			b.Fatal(err)
		}
		if err := h.VerifyMAC(ctx, u, &got); err != nil {
			b.Fatal(err)
		}
		if out, err = h.SealMAC(ctx, u, out[:0], &got); err != nil {
			b.Fatal(err)
		}
	}
}

// TestMACsAllocateNothing once a key is ready.
func TestMACsAllocateNothing(t *testing.T) {
	h := bank(t)
	p := signOn(t, h, posTID)
	u := p.under(poskey.MAK)
	wire, err := h.SealMAC(ctx, u, nil, sale(t))
	if err != nil {
		t.Fatal(err)
	}
	var got iso8583.Message
	out := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() {
		if err := errors.Join(got.Unpack(iso8583.UnionPayPOS(), wire), h.VerifyMAC(ctx, u, &got)); err != nil {
			t.Fatal(err)
		}
		if _, err := h.SealMAC(ctx, u, out, &got); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%g allocations a message", n)
	}
}
