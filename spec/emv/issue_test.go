package emv_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"koala/spec/emv"
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

var _ = rapid.Check
var _ = bytes.Equal
var _ = errors.Is
