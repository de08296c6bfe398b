package emv_test

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"koala/spec/emv"
	"koala/spec/tlv"
)

// testKeys makes one key of each length once for all tests, from a fixed seed.
var testKeys = struct {
	sync.Mutex
	made map[int]*emv.PrivateKey
}{made: map[int]*emv.PrivateKey{}}

func testKey(t testing.TB, bits int) *emv.PrivateKey {
	t.Helper()
	testKeys.Lock()
	defer testKeys.Unlock()
	if k := testKeys.made[bits]; k != nil {
		return k
	}
	k, err := emv.GenerateKey(rand.NewChaCha8([32]byte{byte(bits), byte(bits >> 8)}), bits, 3)
	if err != nil {
		t.Fatal(err)
	}
	testKeys.made[bits] = k
	return k
}

func BenchmarkGenerate1024(b *testing.B) {
	source := rand.NewChaCha8([32]byte{})
	for b.Loop() {
		if _, err := emv.GenerateKey(source, 1024, 3); err != nil {
			b.Fatal(err)
		}
	}
}

var fast = emv.FastDDA{Version: 1, UN: [4]byte{1, 2, 3, 4}, Amount: [6]byte{4: 1}, Currency: [2]byte{0x01, 0x56}, CardAuth: []byte{1, 1, 2, 3, 4, 0, 0, 0}}

func BenchmarkSignFastDDA1024(b *testing.B) {
	k := testKey(b, 1024)
	for b.Loop() {
		if _, err := k.SignFastDDA([2]byte{0, 1}, fast); err != nil {
			b.Fatal(err)
		}
	}
}

// The terminal's whole work: CA to issuer to card to signature.
func BenchmarkVerifyChainFastDDA1024(b *testing.B) {
	ca, issuer, card := testKey(b, 1408), testKey(b, 1152), testKey(b, 1024)
	root := emv.NewCAKey(emv.RIDUnionPay, 0xE0, ca.Public())
	ic, _ := emv.MakeIssuerCertificate(ca, emv.KeyInfo{Owner: "622800", Expiry: [2]byte{0x12, 0x30}, Key: issuer.Public()})
	cc, _ := emv.MakeICCCertificate(issuer, emv.KeyInfo{Owner: "6228000100001", Expiry: [2]byte{0x12, 0x30}, Key: card.Public()}, nil)
	sdad, _ := card.SignFastDDA([2]byte{0, 1}, fast)
	for b.Loop() {
		i, err := emv.RecoverIssuer(root, ic, emv.Check{})
		if err != nil {
			b.Fatal(err)
		}
		c, err := emv.RecoverICC(i.Key, cc, nil, emv.Check{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := emv.VerifyFastDDA(c.Key, sdad, fast, []byte{0, 1}); err != nil {
			b.Fatal(err)
		}
	}
}

func expiry(month, year byte) [2]byte { return [2]byte{month, year} }

// What is certified and signed is recovered, whatever the lengths of the keys,
// and a card that is personalised from the five parts signs alike.
func TestChainsOfEveryLength(t *testing.T) {
	for _, n := range []struct{ ca, issuer, card int }{
		{1408, 1152, 1024}, // this house's cards
		{768, 768, 768}, {896, 768, 896}, {1024, 896, 768}, {1152, 1408, 1024}, {1984, 1984, 1984}, {1984, 1408, 1152},
	} {
		ca, issuer, card := testKey(t, n.ca), testKey(t, n.issuer), testKey(t, n.card)
		root := emv.NewCAKey(emv.RIDUnionPay, 0xE0, ca.Public())
		if !root.Valid() {
			t.Fatal("check value")
		}
		static := []byte("data of the records\x7C\x00")
		pan := "6228000100001"
		ic, err := emv.MakeIssuerCertificate(ca, emv.KeyInfo{Owner: "622800", Expiry: expiry(0x12, 0x30), Serial: [3]byte{1, 2, 3}, Key: issuer.Public()})
		if err != nil {
			t.Fatal(n, err)
		}
		cc, err := emv.MakeICCCertificate(issuer, emv.KeyInfo{Owner: pan, Expiry: expiry(0x11, 0x29), Serial: [3]byte{4, 5, 6}, Key: card.Public()}, static)
		if err != nil {
			t.Fatal(n, err)
		}
		objects := map[tlv.Tag][]byte{
			emv.TagIssuerCert: ic.Certificate, emv.TagIssuerRemainder: ic.Remainder, emv.TagIssuerExponent: ic.Exponent,
			emv.TagICCCert: cc.Certificate, emv.TagICCRemainder: cc.Remainder, emv.TagICCExponent: cc.Exponent,
		}
		get := func(tag tlv.Tag) []byte { return objects[tag] }
		check := emv.Check{PAN: pan, Date: [3]byte{0x29, 0x11, 0x30}, Revoked: func(s [3]byte) bool { return s == [3]byte{9} }}
		i, c, err := emv.RecoverChain(root, get, static, check)
		if err != nil {
			t.Fatal(n, err)
		}
		if i.Owner != "622800" || c.Owner != pan || c.Expiry != expiry(0x11, 0x29) || c.Serial != [3]byte{4, 5, 6} {
			t.Errorf("%v: %+v %+v", n, i, c)
		}
		if !bytes.Equal(i.Key.Modulus(), issuer.Public().Modulus()) || !bytes.Equal(c.Key.Modulus(), card.Public().Modulus()) {
			t.Errorf("%v: other keys", n)
		}
		signatures(t, issuer, card, static)
	}
}

// signatures checks every kind of signature a card or its issuer makes.
func signatures(t *testing.T, issuer, card *emv.PrivateKey, static []byte) {
	t.Helper()
	ssad, err := issuer.SignStatic([2]byte{0xDA, 0xC0}, static)
	if err != nil {
		t.Fatal(err)
	}
	if dac, err := emv.VerifySDA(issuer.Public(), ssad, static); err != nil || dac != [2]byte{0xDA, 0xC0} {
		t.Errorf("static: %X %v", dac, err)
	}
	if _, err := emv.VerifySDA(issuer.Public(), ssad, static[1:]); !errors.Is(err, emv.ErrHash) {
		t.Errorf("other static data: %v", err)
	}
	again, err := emv.FromCRT(card.CRT())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Public().Modulus(), card.Public().Modulus()) || !bytes.Equal(again.Public().Exponent(), card.Public().Exponent()) {
		t.Error("parts give another key")
	}
	for _, f := range []emv.FastDDA{fast, {UN: fast.UN}} {
		sdad, err := again.SignFastDDA([2]byte{0x02, 0x40}, f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := emv.VerifyFastDDA(card.Public(), sdad, f, []byte{0x02, 0x40}); err != nil {
			t.Errorf("version %d: %v", f.Version, err)
		}
		if _, err := emv.VerifyFastDDA(card.Public(), sdad, f, nil); err != nil {
			t.Errorf("version %d, ATC not compared: %v", f.Version, err)
		}
		if _, err := emv.VerifyFastDDA(card.Public(), sdad, f, []byte{0x02, 0x41}); !errors.Is(err, emv.ErrFormat) {
			t.Errorf("version %d, another ATC: %v", f.Version, err)
		}
		f.UN[0] ^= 1
		if _, err := emv.VerifyFastDDA(card.Public(), sdad, f, nil); !errors.Is(err, emv.ErrHash) {
			t.Errorf("version %d, another unpredictable number: %v", f.Version, err)
		}
	}
	combined(t, again, card.Public())
}

func combined(t *testing.T, card *emv.PrivateKey, public emv.PublicKey) {
	t.Helper()
	response := tlv.Append(tlv.Append(tlv.Append(nil, emv.TagCID, []byte{emv.TC}), emv.TagATC, []byte{2, 0x40}), emv.TagIAD, []byte{7, 1, 1, 3})
	data, err := emv.TransactionData([]byte("pdol"), []byte("cdol1"), []byte("cdol2"), response)
	if err != nil {
		t.Fatal(err)
	}
	c := emv.CDA{Number: []byte{1, 2, 3, 4, 5, 6, 7, 8}, CID: emv.TC, AC: [8]byte{1, 2, 3}}
	un := [4]byte{9, 8, 7, 6}
	sdad, err := card.SignCDA(c, un, data)
	if errors.Is(err, emv.ErrRoom) && public.Size() < 96 {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	signed, err := emv.TransactionData([]byte("pdol"), []byte("cdol1"), []byte("cdol2"), tlv.Append(response, emv.TagSDAD, sdad))
	if err != nil || !bytes.Equal(signed, data) {
		t.Fatalf("the signature counts in its own hash: %v", err)
	}
	got, err := emv.VerifyCDA(public, sdad, un, emv.TC, signed)
	if err != nil || got.AC != c.AC || !bytes.Equal(got.Number, c.Number) {
		t.Errorf("combined: %+v %v", got, err)
	}
}

// Every reason for refusal, in EMV's order.
func TestCertificatesAreRefused(t *testing.T) {
	ca, issuer := testKey(t, 1024), testKey(t, 896)
	root := emv.NewCAKey(emv.RIDUnionPay, 0xE0, ca.Public())
	info := emv.KeyInfo{Owner: "622800", Expiry: expiry(0x06, 0x28), Serial: [3]byte{1, 2, 3}, Key: issuer.Public()}
	good, err := emv.MakeIssuerCertificate(ca, info)
	if err != nil {
		t.Fatal(err)
	}
	// forged gives a certificate that recovers to the good one's bytes after change.
	forged := func(change func(raw []byte)) emv.Certificate {
		raw, err := ca.Public().Apply(good.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		change(raw)
		c := good
		if c.Certificate, err = ca.Apply(raw); err != nil {
			t.Fatal(err)
		}
		return c
	}
	rehashed := func(change func(raw []byte)) emv.Certificate {
		return forged(func(raw []byte) {
			change(raw)
			end := len(raw) - 21
			sum := sha1.Sum(append(append(append([]byte(nil), raw[1:end]...), good.Remainder...), good.Exponent...))
			copy(raw[end:], sum[:])
		})
	}
	for _, tt := range []struct {
		name  string
		cert  emv.Certificate
		check emv.Check
		want  error
	}{
		{"good", good, emv.Check{PAN: "6228000100001", Date: [3]byte{0x28, 0x06, 0x30}}, nil},
		{"short", emv.Certificate{Certificate: good.Certificate[1:], Remainder: good.Remainder, Exponent: good.Exponent}, emv.Check{}, emv.ErrLength},
		{"empty", emv.Certificate{}, emv.Check{}, emv.ErrLength},
		{"above the modulus", emv.Certificate{Certificate: bytes.Repeat([]byte{0xFF}, 128)}, emv.Check{}, emv.ErrLength},
		{"trailer", forged(func(raw []byte) { raw[len(raw)-1] = 0xBB }), emv.Check{}, emv.ErrTrailer},
		{"header", forged(func(raw []byte) { raw[0] = 0x60 }), emv.Check{}, emv.ErrHeader},
		{"format", forged(func(raw []byte) { raw[1] = 0x04 }), emv.Check{}, emv.ErrFormat},
		{"hash", forged(func(raw []byte) { raw[50]++ }), emv.Check{}, emv.ErrHash},
		{"remainder differs", emv.Certificate{Certificate: good.Certificate, Remainder: good.Remainder[1:], Exponent: good.Exponent}, emv.Check{}, emv.ErrHash},
		{"exponent differs", emv.Certificate{Certificate: good.Certificate, Remainder: good.Remainder, Exponent: []byte{1, 0, 1}}, emv.Check{}, emv.ErrHash},
		{"owner no digits", rehashed(func(raw []byte) { raw[2] = 0xA2 }), emv.Check{}, emv.ErrFormat},
		{"another issuer", good, emv.Check{PAN: "6229000100001"}, emv.ErrOwner},
		{"expired", good, emv.Check{Date: [3]byte{0x28, 0x07, 0x01}}, emv.ErrExpired},
		{"last century", good, emv.Check{Date: [3]byte{0x99, 0x07, 0x01}}, nil},
		{"no date", rehashed(func(raw []byte) { raw[6] = 0x13 }), emv.Check{Date: [3]byte{0x20, 0x07, 0x01}}, emv.ErrExpired},
		{"revoked", good, emv.Check{Revoked: func(s [3]byte) bool { return s == [3]byte{1, 2, 3} }}, emv.ErrRevoked},
		{"hash algorithm", rehashed(func(raw []byte) { raw[11] = 2 }), emv.Check{}, emv.ErrAlgorithm},
		{"key algorithm", rehashed(func(raw []byte) { raw[12] = 2 }), emv.Check{}, emv.ErrAlgorithm},
		{"key longer than it is", rehashed(func(raw []byte) { raw[13]++ }), emv.Check{}, emv.ErrRemainder},
		{"key shorter than it is", rehashed(func(raw []byte) { raw[13] = 60 }), emv.Check{}, emv.ErrRemainder},
		{"exponent length", rehashed(func(raw []byte) { raw[14] = 3 }), emv.Check{}, emv.ErrRemainder},
		{"key of zeros", rehashed(func(raw []byte) { raw[15] = 0 }), emv.Check{}, emv.ErrPublicKey},
	} {
		if _, err := emv.RecoverIssuer(root, tt.cert, tt.check); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestWhatCannotBeMade(t *testing.T) {
	small, err := emv.GenerateKey(rand.NewChaCha8([32]byte{1}), 256, 3)
	if err != nil {
		t.Fatal(err)
	}
	key := testKey(t, 768).Public()
	for name, f := range map[string]func() error{
		"issuer under a short key": func() error {
			_, err := emv.MakeIssuerCertificate(small, emv.KeyInfo{Owner: "622800", Key: key})
			return err
		},
		"card under a short key": func() error {
			_, err := emv.MakeICCCertificate(small, emv.KeyInfo{Owner: "6228000100001", Key: key}, nil)
			return err
		},
		"no key": func() error {
			_, err := emv.MakeICCCertificate(testKey(t, 768), emv.KeyInfo{Owner: "6228000100001"}, nil)
			return err
		},
		"long dynamic data": func() error { _, err := testKey(t, 768).SignDynamic(make([]byte, 72), nil); return err },
	} {
		if err := f(); !errors.Is(err, emv.ErrRoom) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, owner := range []string{"", "62", "622800010", "62A"} {
		if _, err := emv.MakeIssuerCertificate(testKey(t, 768), emv.KeyInfo{Owner: owner, Key: key}); !errors.Is(err, emv.ErrPAN) {
			t.Errorf("issuer %q: %v", owner, err)
		}
	}
	if _, err := emv.MakeICCCertificate(testKey(t, 768), emv.KeyInfo{Owner: "123", Key: key}, nil); !errors.Is(err, emv.ErrPAN) {
		t.Errorf("card: %v", err)
	}
	for _, bad := range []struct{ bits, exponent int }{{1000, 3}, {0, 3}, {2048, 3}, {1024, 5}} {
		if _, err := emv.GenerateKey(rand.NewChaCha8([32]byte{}), bad.bits, bad.exponent); !errors.Is(err, emv.ErrPrivateKey) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := emv.GenerateKey(bytes.NewReader(nil), 512, 3); err == nil {
		t.Error("a key of no chance")
	}
	for name, change := range map[string]func(*emv.CRT){
		"coefficient": func(c *emv.CRT) { c.QInv[5]++ }, "dp": func(c *emv.CRT) { c.DP[5]++ }, "dq": func(c *emv.CRT) { c.DQ[5]++ },
		"p": func(c *emv.CRT) { c.P[5]++ }, "q": func(c *emv.CRT) { c.Q[5]++ }, "nothing": func(c *emv.CRT) { *c = emv.CRT{} },
		"even": func(c *emv.CRT) { c.P[47]-- }, "one": func(c *emv.CRT) { c.P = []byte{1} },
	} {
		parts := testKey(t, 768).CRT()
		change(&parts)
		if _, err := emv.FromCRT(parts); !errors.Is(err, emv.ErrPrivateKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []struct{ p, q, e []byte }{{nil, nil, []byte{3}}, {[]byte{11}, []byte{11}, []byte{3}}, {[]byte{7}, []byte{11}, []byte{3}}, {[]byte{15}, []byte{9}, []byte{3}}} {
		if _, err := emv.NewPrivateKey(bad.p, bad.q, bad.e); err == nil {
			t.Errorf("%+v is a key", bad)
		}
	}
	// The product has 31 bits: a block that begins with 6A would not fit below it.
	if _, err := emv.NewPrivateKey([]byte{0x80, 0x03}, []byte{0x80, 0x0B}, []byte{3}); !errors.Is(err, emv.ErrPrivateKey) {
		t.Errorf("a short modulus: %v", err)
	}
}

func TestKeysOfBothExponents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		exponent := rapid.SampledFrom([]int{3, 65537}).Draw(t, "exponent")
		k, err := emv.GenerateKey(rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}), 256, exponent)
		if err != nil {
			t.Fatal(err)
		}
		in := make([]byte, 32)
		copy(in[1:], rapid.SliceOfN(rapid.Byte(), 31, 31).Draw(t, "in"))
		out, err := k.Apply(in)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := k.Public().Apply(out); err != nil || !bytes.Equal(back, in) {
			t.Fatalf("%X comes back as %X %v", in, back, err)
		}
	})
}

func TestEncipheredPIN(t *testing.T) {
	k := testKey(t, 768)
	block, _ := emv.PINBlock("123456")
	challenge := [8]byte{1, 2, 3, 4, 5, 6, 7, 8}
	hidden, err := emv.EncipherPIN(k.Public(), block, challenge, make([]byte, 96-17))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := emv.DecipherPIN(k, hidden, challenge); err != nil || got != block {
		t.Errorf("%X %v", got, err)
	}
	if _, err := emv.DecipherPIN(k, hidden, [8]byte{}); !errors.Is(err, emv.ErrPIN) {
		t.Errorf("another challenge: %v", err)
	}
	if _, err := emv.DecipherPIN(k, hidden[1:], challenge); !errors.Is(err, emv.ErrLength) {
		t.Errorf("short: %v", err)
	}
	if _, err := emv.EncipherPIN(k.Public(), block, challenge, nil); !errors.Is(err, emv.ErrLength) {
		t.Errorf("without padding: %v", err)
	}
}

func FuzzRecover(f *testing.F) {
	ca := testKey(f, 768)
	root := emv.NewCAKey(emv.RIDUnionPay, 0xE0, ca.Public())
	good, err := emv.MakeIssuerCertificate(ca, emv.KeyInfo{Owner: "622800", Key: testKey(f, 768).Public()})
	if err != nil {
		f.Fatal(err)
	}
	raw, _ := ca.Public().Apply(good.Certificate)
	f.Add(raw, good.Remainder, good.Exponent, byte(2))
	f.Add(raw, []byte{}, []byte{}, byte(4))
	f.Fuzz(func(t *testing.T, plain, remainder, exponent []byte, format byte) {
		// The fuzzer writes what the signature recovers to, with a right hash: it
		// would never find one through the RSA.
		block := make([]byte, 96)
		copy(block, plain)
		block[0], block[1], block[95] = 0x6A, format, 0xBC
		sum := sha1.Sum(append(append(append([]byte(nil), block[1:75]...), remainder...), exponent...))
		copy(block[75:], sum[:])
		signed, err := ca.Apply(block)
		if err != nil {
			return
		}
		c := emv.Certificate{Certificate: signed, Remainder: remainder, Exponent: exponent}
		check := emv.Check{PAN: "6228000100001", Date: [3]byte{0x25, 1, 1}}
		_, _ = emv.RecoverIssuer(root, c, check)
		_, _ = emv.RecoverICC(ca.Public(), c, nil, check)
		_, _ = emv.VerifySDA(ca.Public(), signed, append(remainder, exponent...))
		_, _ = emv.VerifyDDA(ca.Public(), signed, append(remainder, exponent...))
		_, _ = emv.VerifyCDA(ca.Public(), signed, [4]byte{}, 0, nil)
	})
}
