package emv_test

import (
	"bytes"
	"errors"
	"testing"

	"koala/spec/emv"
)

// Private keys of our own SM2 vectors: the byte repeated 32 times.
func sm2Key(t testing.TB, b byte) *emv.SM2Key {
	t.Helper()
	k, err := emv.NewSM2Key(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// The SM2 chain of this house's own vectors: no public one exists (CARD.md 1.7).
func TestSM2Chain(t *testing.T) {
	ca, issuer, card := sm2Key(t, 0x11), sm2Key(t, 0x22), sm2Key(t, 0x33)
	static := []byte("static data")
	for name, l := range map[string]emv.SM2Layout{
		"default": emv.SM2Default,
		"other":   {IssuerKey: 12, ICCKey: 18, Dynamic: 2, UserID: []byte("house")},
	} {
		ic, err := l.MakeIssuer(ca, emv.SM2Info{Owner: "622800", Expiry: [2]byte{0x12, 0x30}, Serial: [3]byte{0, 0, 1}, Key: issuer.Public()})
		if err != nil {
			t.Fatal(name, err)
		}
		cc, err := l.MakeICC(issuer, emv.SM2Info{Owner: "6228000100001", Expiry: [2]byte{0x12, 0x30}, Key: card.Public()}, static)
		if err != nil {
			t.Fatal(name, err)
		}
		check := emv.Check{PAN: "6228000100001", Date: [3]byte{0x30, 0x12, 0x31}}
		i, err := l.RecoverIssuer(ca.Public(), ic, check)
		if err != nil || i.Owner != "622800" || !bytes.Equal(i.Key.Bytes(), issuer.Public().Bytes()) {
			t.Errorf("%s issuer: %+v %v", name, i, err)
		}
		c, err := l.RecoverICC(i.Key, cc, static, check)
		if err != nil || c.Owner != "6228000100001" {
			t.Errorf("%s card: %+v %v", name, c, err)
		}
		dynamic := []byte{2, 0x02, 0x40}
		sdad, err := l.SignDynamic(card, dynamic, fast.Data())
		if err != nil {
			t.Fatal(name, err)
		}
		if got, err := l.VerifyDynamic(c.Key, sdad, fast.Data()); err != nil || !bytes.Equal(got, dynamic) {
			t.Errorf("%s signature: %X %v", name, got, err)
		}
		if _, err := l.VerifyDynamic(c.Key, sdad, nil); !errors.Is(err, emv.ErrSignature) {
			t.Errorf("%s, other data: %v", name, err)
		}
		if _, err := l.RecoverICC(i.Key, cc, static[1:], check); !errors.Is(err, emv.ErrSignature) {
			t.Errorf("%s, other static data: %v", name, err)
		}
	}
}

// Own vector: issuer certificate of CA key 11.. over issuer key 22.. .
func TestSM2CertificateBytes(t *testing.T) {
	ic, err := emv.SM2Default.MakeIssuer(sm2Key(t, 0x11), emv.SM2Info{Owner: "622800", Expiry: [2]byte{0x12, 0x30}, Serial: [3]byte{0, 0, 1}, Key: sm2Key(t, 0x22).Public()})
	if err != nil {
		t.Fatal(err)
	}
	if len(ic) != 14+64+64 || ic[13] != 64 {
		t.Errorf("%d bytes, key length %d", len(ic), ic[13])
	}
	wantHex(t, "head", ic[:14], "12 622800FF 1230 000001 07 04 00 40")
	again, err := emv.SM2Default.MakeIssuer(sm2Key(t, 0x11), emv.SM2Info{Owner: "622800", Expiry: [2]byte{0x12, 0x30}, Serial: [3]byte{0, 0, 1}, Key: sm2Key(t, 0x22).Public()})
	if err != nil || !bytes.Equal(again, ic) {
		t.Error("signatures are not deterministic")
	}
}

func TestSM2Refusals(t *testing.T) {
	ca, issuer := sm2Key(t, 0x11), sm2Key(t, 0x22)
	l := emv.SM2Default
	good, err := l.MakeIssuer(ca, emv.SM2Info{Owner: "622800", Expiry: [2]byte{0x06, 0x28}, Serial: [3]byte{1, 2, 3}, Key: issuer.Public()})
	if err != nil {
		t.Fatal(err)
	}
	changed := func(at int, b byte) []byte {
		c := bytes.Clone(good)
		c[at] = b
		return c
	}
	for _, tt := range []struct {
		name  string
		cert  []byte
		check emv.Check
		want  error
	}{
		{"good", good, emv.Check{PAN: "6228001", Date: [3]byte{0x28, 6, 1}}, nil},
		{"empty", nil, emv.Check{}, emv.ErrLength},
		{"cut", good[:len(good)-1], emv.Check{}, emv.ErrLength},
		{"format", changed(0, 0x14), emv.Check{}, emv.ErrFormat},
		{"content", changed(8, 9), emv.Check{}, emv.ErrSignature},
		{"signature", changed(len(good)-1, good[len(good)-1]^1), emv.Check{}, emv.ErrSignature},
		{"another issuer", good, emv.Check{PAN: "6229001"}, emv.ErrOwner},
		{"expired", good, emv.Check{Date: [3]byte{0x28, 7, 1}}, emv.ErrExpired},
		{"revoked", good, emv.Check{Revoked: func([3]byte) bool { return true }}, emv.ErrRevoked},
	} {
		if _, err := l.RecoverIssuer(ca.Public(), tt.cert, tt.check); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if _, err := l.RecoverIssuer(emv.SM2PublicKey{}, good, emv.Check{}); !errors.Is(err, emv.ErrPublicKey) {
		t.Errorf("no key: %v", err)
	}
	if _, err := emv.NewSM2PublicKey(make([]byte, 64)); !errors.Is(err, emv.ErrPublicKey) {
		t.Errorf("zero point: %v", err)
	}
	if _, err := emv.NewSM2Key(make([]byte, 32)); !errors.Is(err, emv.ErrPrivateKey) {
		t.Errorf("zero key: %v", err)
	}
	for _, owner := range []string{"", "62A"} {
		if _, err := l.MakeIssuer(ca, emv.SM2Info{Owner: owner, Key: issuer.Public()}); !errors.Is(err, emv.ErrPAN) {
			t.Errorf("%q: %v", owner, err)
		}
		if _, err := l.MakeICC(ca, emv.SM2Info{Owner: owner, Key: issuer.Public()}, nil); !errors.Is(err, emv.ErrPAN) {
			t.Errorf("%q: %v", owner, err)
		}
	}
	if _, err := l.MakeIssuer(ca, emv.SM2Info{Owner: "622800"}); !errors.Is(err, emv.ErrPublicKey) {
		t.Errorf("no key to certify: %v", err)
	}
	if _, err := l.VerifyDynamic(ca.Public(), nil, nil); !errors.Is(err, emv.ErrLength) {
		t.Errorf("no signature: %v", err)
	}
}

func FuzzSM2(f *testing.F) {
	ca := sm2Key(f, 0x11)
	good, err := emv.SM2Default.MakeIssuer(ca, emv.SM2Info{Owner: "622800", Key: ca.Public()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{0x15, 3, 2, 0, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		_, _ = emv.SM2Default.RecoverIssuer(ca.Public(), in, emv.Check{})
		_, _ = emv.SM2Default.RecoverICC(ca.Public(), in, nil, emv.Check{})
		_, _ = emv.SM2Default.VerifyDynamic(ca.Public(), in, nil)
	})
}
