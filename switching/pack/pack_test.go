package pack_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"koala/spec/emv"
	"koala/switching/pack"
)

var (
	house = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	other = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, 32))
)

func by(k ed25519.PrivateKey) func([]byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) { return ed25519.Sign(k, b), nil }
}

func public() ed25519.PublicKey { return house.Public().(ed25519.PublicKey) }

// sample is a pack with something of everything.
func sample(tb testing.TB, number uint32) pack.Pack {
	tb.Helper()
	p := pack.Pack{Number: number, Black: 9, Parameters: []pack.Parameter{{12, "60"}, {13, "3"}, {23, "3"}},
		Applications: []pack.Application{{AID: []byte{0xA0, 0, 0, 3, 0x33, 1, 1, 1}, Data: []byte{0xDF, 1, 1, 0}}, {AID: []byte{0xA0, 0, 0, 3, 0x33, 1, 1, 2}}}}
	for _, k := range emv.CAKeys() {
		if k.RID != emv.RIDUnionPay || len(p.Keys) > 0 && p.Keys[len(p.Keys)-1].Index >= k.Index {
			continue
		}
		k.Algorithm, k.Scheme, k.Environment = emv.RSA, "", "unstated"
		k.Last = fmt.Sprintf("20%02d1231", 16+len(p.Keys))
		p.Keys = append(p.Keys, k)
	}
	if len(p.Keys) < 2 {
		tb.Fatal("too few published keys")
	}
	return p
}

func signed(tb testing.TB, p pack.Pack, key ed25519.PrivateKey) []byte {
	tb.Helper()
	b, err := p.Sign(by(key))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	p := sample(t, 4)
	got, err := pack.Open(public(), signed(t, p, house), 3)
	if err != nil || !reflect.DeepEqual(got.Parameters, p.Parameters) || len(got.Keys) != len(p.Keys) || got.Keys[1].Last != p.Keys[1].Last || got.Black != p.Black {
		t.Fatalf("%+v, %v", got, err)
	}
	a, _ := p.Content()
	b, _ := got.Content()
	if a != b {
		t.Error("the content has another hash")
	}
}

func TestRefused(t *testing.T) {
	good := signed(t, sample(t, 4), house)
	for i := range good {
		bent := bytes.Clone(good)
		bent[i] ^= 1
		if _, err := pack.Open(public(), bent, 0); !errors.Is(err, pack.ErrSignature) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	for _, x := range []struct {
		name string
		in   []byte
		have uint32
		want error
	}{
		{"forged", signed(t, sample(t, 4), other), 0, pack.ErrSignature}, {"nothing", nil, 0, pack.ErrSignature}, {"cut", good[:len(good)-1], 0, pack.ErrSignature},
		{"same again", good, 4, pack.ErrOld}, {"older", good, 5, pack.ErrOld}, {"newer", good, 3, nil},
		{"signed, but none", append([]byte("price list"), ed25519.Sign(house, []byte("price list"))...), 0, pack.ErrPack},
	} {
		if _, err := pack.Open(public(), x.in, x.have); !errors.Is(err, x.want) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
	for name, spoil := range map[string]func(*pack.Pack){
		"no number": func(p *pack.Pack) { p.Number = 0 }, "order": func(p *pack.Pack) { p.Parameters[0], p.Parameters[1] = p.Parameters[1], p.Parameters[0] },
		"twice": func(p *pack.Pack) { p.Applications[1] = p.Applications[0] }, "key twice": func(p *pack.Pack) { p.Keys[1] = p.Keys[0] },
		"no such day": func(p *pack.Pack) { p.Keys[0].Last = "20150230" }, "check value": func(p *pack.Pack) { p.Keys[0].Hash[0] ^= 1 },
		"control": func(p *pack.Pack) { p.Parameters[0].Value = "\n" }, "short AID": func(p *pack.Pack) { p.Applications[0].AID = []byte{1} },
	} {
		p := sample(t, 1)
		if spoil(&p); !errors.Is(func() error { _, err := p.Sign(by(house)); return err }(), pack.ErrPack) {
			t.Errorf("%s was signed", name)
		}
	}
}

func TestAgain(t *testing.T) {
	p := sample(t, 4)
	back, err := p.Again(6, 5)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := p.Content()
	b, _ := back.Content()
	if got, err := pack.Open(public(), signed(t, back, house), 5); err != nil || got.Number != 6 || a != b {
		t.Errorf("%d, %v", got.Number, err)
	}
	if _, err := p.Again(5, 5); !errors.Is(err, pack.ErrOld) {
		t.Error(err)
	}
}

// A wider ring has all of the narrower, and no terminal ever goes back.
func TestRings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tid, have := rapid.StringMatching(`[0-9]{8}`).Draw(t, "tid"), rapid.Uint32Range(0, 9).Draw(t, "have")
		ring := pack.Ring(tid)
		if ring > 0 && pack.Share(tid) < pack.Rings[ring-1] || pack.Share(tid) >= pack.Rings[ring] {
			t.Fatalf("ring %d of share %d", ring, pack.Share(tid))
		}
		next := pack.Stage{Number: 4}
		before := uint32(0)
		for next.Ring = range pack.Rings {
			got := pack.For([]pack.Stage{next, {Number: 3, Ring: pack.Last}}, ring, have)
			if got < before || got < have || got < 3 {
				t.Fatalf("ring %d: %d after %d, had %d", next.Ring, got, before, have)
			}
			before = got
		}
		if before < 4 {
			t.Fatal("not everybody got it")
		}
		if next.Halted = true; pack.For([]pack.Stage{{Number: 3, Ring: pack.Last}, next}, ring, have) != max(3, have) {
			t.Fatal("a halted pack spreads")
		}
	})
	in := 0
	for i := range 10_000 {
		if pack.Share(fmt.Sprintf("%08d", i)) < 10 {
			in++
		}
	}
	if in < 800 || in > 1200 {
		t.Errorf("a tenth is %d of 10,000", in)
	}
}

func TestExceeded(t *testing.T) {
	for _, x := range []struct {
		told, failed int64
		want         bool
	}{{2, 2, false}, {3, 3, true}, {100, 3, true}, {150, 3, false}, {30_000, 600, false}, {30_000, 601, true}, {0, 0, false}} {
		if pack.Exceeded(x.told, x.failed) != x.want {
			t.Errorf("%d of %d", x.failed, x.told)
		}
	}
}

// What is parsed is written back the same.
func FuzzParse(f *testing.F) {
	f.Add(signed(f, sample(f, 2), house))
	f.Add(signed(f, pack.Pack{Number: 1}, house))
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := pack.Parse(in)
		if err != nil {
			return
		}
		again, err := p.Sign(func([]byte) ([]byte, error) { return in[len(in)-64:], nil })
		if err != nil || !bytes.Equal(again, in) {
			t.Errorf("%x writes %x (%v)", in, again, err)
		}
	})
}
