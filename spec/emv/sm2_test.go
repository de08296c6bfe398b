package emv_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"koala/spec/emv"
)

// The published SM2 chain: CA key 57 of UnionPay's test environment and a card of
// a public PBOC card test library, whose personalisation holds both certificates,
// the signed static data and the card's private key. The issuer's certificate is
// also a vector of a terminal maker's mathematics tests, with another signature.
const (
	sm2CA     = "E8105E77861FD2EB727C84E36D3D4A5666BD0ADCE8781F0145D3D82D72B92748E22D5404C6C41F3EC8B790DE2F61CF29FAECB168C79F5C8666762D53CC26A460"
	sm2Issued = "12622800011220000001040011409F483BF2CC71C5093728318061E3F768EA7C170F82DD8C4B979FBD8C76A129F93FB5746E96F5E49B987FFB521E473B25E1B017C30BE3FC638BA14D5FA4AADC16"
	sm2Signed = "73DF81BF5CC82AABB7CF3C9165EDEEA2EC0CCC56AB19F1661E012CD33D4BFBEC55A88990EB25B4A4058C8E4B11C1F9EA2055E403CA76AC8A991DE80A35BED348"
	sm2Again  = "B1E1A02ED62D811268C4A2123CD8B26690BCE14BB7A01713C01C2D2FF2892D1596A7D9D131C73813C3A3D6F851DCDA917E986923F98DD2444ADC8EF0D0CE1E2A"
	sm2Static = "5A0862280001000011175F24033012315F25039507019F08020030"
	sm2SSAD   = "13DAC197C8713D8B0670C48847895875D6B153C3539172A493B51C6966F4048560FAD07290AF31A0B14D9759197E3BAFA805A5E3FFCCCA036B783B32076CD713C30C5F"
)

var sm2Cards = []struct{ certificate, scalar string }{
	{"146228000100001117FFFF122000000104000440173A31DD681C6F8FE3BA6C354AD3924A4ADFD15EB0581BC1B37A1EB1C88DA29B47155F62FCF4CCCD201B134351A049D77E81F6A6C66E9CB32664F41348DA11F6" +
		"A1D4F35659452064382C2CAD8D74041C9CAC2A10C663F4030C2759E36B770B2068C6FD95B195BD6FD3C4F4A42009AB9DCE81BFB9C2D04DD39E059E562E9D172E",
		"AAF8CE02045DD01619D689EE731C551159BE7EB2D51A372FF56B556E5CB2FDE3"},
	{"146228000100001117FFFF122000000104000440C3AC12B81B9D175936B5BF72BB8FE3A2266BC013B2E94F5837F16AA1C01AA7323B75626AB64D02AED20CC6F440841F10EE6873BCBEA3F41D6869D0FEADD71154" +
		"7817D243286F51A55694D3C728191F067A6C194B4B20C558A97565C5B9BFDB46D2E53C0F5DDC7C808BD0DB8C770DCA9B6F626BF5ECE8EA98EA7F758783CAF310",
		"4EFF3E9B796688F38E006DEB21E101C01028903A06023AC5AAB8635F8E307A53"},
}

// The published chain verifies from the CA down to the card's own key, and in its
// time only.
func TestSM2PublishedChain(t *testing.T) {
	point, err := emv.NewSM2PublicKey(unhex(t, sm2CA))
	if err != nil {
		t.Fatal(err)
	}
	ca := emv.NewCAKey(emv.RIDUnionPay, 0x57, point)
	check := emv.Check{PAN: "6228000100001117", Date: [3]byte{0x20, 0x12, 0x31}}
	var issuer emv.KeyInfo
	for _, signature := range []string{sm2Signed, sm2Again} {
		if issuer, err = emv.RecoverIssuer(ca, emv.Certificate{Certificate: unhex(t, sm2Issued+signature)}, check); err != nil {
			t.Fatal(err)
		}
	}
	if issuer.Owner != "62280001" || issuer.Key.Algorithm() != emv.SM2 || issuer.Key.Bits() != 256 || issuer.Key.Size() != 64 {
		t.Errorf("issuer %+v", issuer)
	}
	static := unhex(t, sm2Static)
	for i, x := range sm2Cards {
		icc, err := emv.RecoverICC(issuer.Key, emv.Certificate{Certificate: unhex(t, x.certificate)}, static, check)
		if err != nil || icc.Owner != "6228000100001117" || icc.Serial != [3]byte{0, 0, 1} {
			t.Fatalf("card %d: %+v %v", i, icc, err)
		}
		key, err := emv.NewSM2Key(unhex(t, x.scalar))
		if err != nil || !bytes.Equal(key.Public().Modulus(), icc.Key.Modulus()) || !bytes.Equal(key.Scalar(), unhex(t, x.scalar)) {
			t.Errorf("card %d: not its private key, %v", i, err)
		}
		if _, err := emv.RecoverICC(issuer.Key, emv.Certificate{Certificate: unhex(t, x.certificate)}, static[1:], check); !errors.Is(err, emv.ErrSignature) {
			t.Errorf("card %d, other static data: %v", i, err)
		}
	}
	if dac, err := emv.VerifySDA(issuer.Key, unhex(t, sm2SSAD), static); err != nil || dac != [2]byte{0xDA, 0xC1} {
		t.Errorf("static data: %X %v", dac, err)
	}
	if _, err := emv.RecoverIssuer(ca, emv.Certificate{Certificate: unhex(t, sm2Issued+sm2Signed)}, emv.Check{Date: [3]byte{0x21, 1, 1}}); !errors.Is(err, emv.ErrExpired) {
		t.Errorf("a month later: %v", err)
	}
}

// Private keys of our own SM2 vectors: the byte repeated 32 times.
func sm2Key(t testing.TB, b byte) *emv.PrivateKey {
	t.Helper()
	k, err := emv.NewSM2Key(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sm2House certifies card key 33.. under issuer key 22.. under CA key 11.. .
func sm2House(t testing.TB) (ca emv.CAKey, issuer, icc emv.Certificate) {
	t.Helper()
	var err, err2 error
	issuer, err = emv.MakeIssuerCertificate(sm2Key(t, 0x11), emv.KeyInfo{Owner: "622800", Expiry: [2]byte{0x12, 0x30}, Serial: [3]byte{0, 0, 1}, Key: sm2Key(t, 0x22).Public()})
	icc, err2 = emv.MakeICCCertificate(sm2Key(t, 0x22), emv.KeyInfo{Owner: "6228000100001", Expiry: [2]byte{0x12, 0x30}, Serial: [3]byte{0, 0, 2}, Key: sm2Key(t, 0x33).Public()}, []byte("static data"))
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	return emv.NewCAKey(emv.RIDUnionPay, 0xD1, sm2Key(t, 0x11).Public()), issuer, icc
}

// Own vectors of the SM2 chain: fixed keys, deterministic signatures. Signatures
// by private keys are not published anywhere.
func TestSM2OwnVectors(t *testing.T) {
	_, issuer, icc := sm2House(t)
	card := sm2Key(t, 0x33)
	static, err := sm2Key(t, 0x22).SignStatic([2]byte{0xDA, 0xC0}, []byte("static data"))
	sdad, err2 := card.SignFastDDA([2]byte{0x02, 0x40}, fast)
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	wantHex(t, "issuer head", issuer.Certificate[:14], "12 622800FF 1230 000001 04 00 11 40")
	wantHex(t, "card head", icc.Certificate[:20], "14 6228000100001FFFFFFF 1230 000002 04 00 11 40")
	wantHex(t, "static head", static[:3], "13 DAC0")
	wantHex(t, "dynamic head", sdad[:5], "15 03 02 0240")
	for name, x := range map[string]struct {
		signed []byte
		want   string
	}{
		"issuer":  {issuer.Certificate, ownIssuer},
		"card":    {icc.Certificate, ownCard},
		"static":  {static, ownStatic},
		"dynamic": {sdad, ownDynamic},
	} {
		wantHex(t, name, x.signed[len(x.signed)-64:], x.want)
	}
}

// The house's chain, and what it refuses, in the functions that serve RSA too.
func TestSM2Chain(t *testing.T) {
	ca, ic, cc := sm2House(t)
	check := emv.Check{PAN: "6228000100001", Date: [3]byte{0x30, 0x12, 0x31}}
	issuer, err := emv.RecoverIssuer(ca, ic, check)
	if err != nil || !ca.Valid() {
		t.Fatal(err)
	}
	icc, err := emv.RecoverICC(issuer.Key, cc, []byte("static data"), check)
	if err != nil {
		t.Fatal(err)
	}
	card := sm2Key(t, 0x33)
	sdad, err := card.SignFastDDA([2]byte{0x02, 0x40}, fast)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := emv.VerifyFastDDA(icc.Key, sdad, fast, []byte{0x02, 0x40}); err != nil || !bytes.Equal(n, []byte{0x02, 0x40}) {
		t.Errorf("fDDA: %X %v", n, err)
	}
	other := fast
	other.Amount[5]++
	if _, err := emv.VerifyFastDDA(icc.Key, sdad, other, nil); !errors.Is(err, emv.ErrSignature) {
		t.Errorf("another amount: %v", err)
	}
	if _, err := emv.VerifyFastDDA(icc.Key, sdad, fast, []byte{0x02, 0x41}); !errors.Is(err, emv.ErrFormat) {
		t.Errorf("another ATC: %v", err)
	}
	c := emv.CDA{Number: []byte{0x02, 0x40}, CID: emv.TC, AC: [8]byte{1, 2, 3}}
	un, data := [4]byte{1, 2, 3, 4}, []byte("transaction data")
	combined, err := card.SignCDA(c, un, data)
	if err != nil {
		t.Fatal(err)
	}
	got, err := emv.VerifyCDA(icc.Key, combined, un, emv.TC, data)
	if err != nil || got.AC != c.AC || len(got.Hash) != 32 {
		t.Errorf("CDA: %+v %v", got, err)
	}
	if _, err := emv.VerifyCDA(icc.Key, combined, un, emv.TC, data[1:]); !errors.Is(err, emv.ErrHash) {
		t.Errorf("CDA of another transaction: %v", err)
	}
	if _, err := emv.VerifyCDA(icc.Key, combined, un, emv.ARQC, data); !errors.Is(err, emv.ErrFormat) {
		t.Errorf("CDA of another cryptogram: %v", err)
	}
	if _, err := emv.VerifyCDA(icc.Key, combined[:len(combined)-64-1], un, emv.TC, data); err == nil {
		t.Error("CDA cut")
	}
	if _, err := emv.VerifyDDA(issuer.Key, sdad, fast.Data()); !errors.Is(err, emv.ErrSignature) {
		t.Errorf("the issuer's key: %v", err)
	}
}

func TestSM2Refusals(t *testing.T) {
	ca, good, icc := sm2House(t)
	key, issuer := sm2Key(t, 0x11), sm2Key(t, 0x22)
	changed := func(at int, b byte) emv.Certificate {
		c := bytes.Clone(good.Certificate)
		c[at] = b
		return emv.Certificate{Certificate: c}
	}
	n := len(good.Certificate)
	for _, tt := range []struct {
		name  string
		cert  emv.Certificate
		check emv.Check
		want  error
	}{
		{"good", good, emv.Check{PAN: "6228001", Date: [3]byte{0x28, 6, 1}}, nil},
		{"empty", emv.Certificate{}, emv.Check{}, emv.ErrLength},
		{"cut", emv.Certificate{Certificate: good.Certificate[:n-1]}, emv.Check{}, emv.ErrLength},
		{"remainder and exponent left over", emv.Certificate{Certificate: good.Certificate, Remainder: []byte{1}, Exponent: []byte{3}}, emv.Check{}, nil},
		{"a card's", icc, emv.Check{}, emv.ErrLength},
		{"format", changed(0, 0x14), emv.Check{}, emv.ErrFormat},
		{"content", changed(8, 9), emv.Check{}, emv.ErrSignature},
		{"signature", changed(n-1, good.Certificate[n-1]^1), emv.Check{}, emv.ErrSignature},
		{"another issuer", good, emv.Check{PAN: "6229001"}, emv.ErrOwner},
		{"expired", good, emv.Check{Date: [3]byte{0x31, 1, 1}}, emv.ErrExpired},
		{"revoked", good, emv.Check{Revoked: func([3]byte) bool { return true }}, emv.ErrRevoked},
	} {
		if _, err := emv.RecoverIssuer(ca, tt.cert, tt.check); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if _, err := emv.RecoverIssuer(emv.NewCAKey(emv.RIDUnionPay, 0xD1, issuer.Public()), good, emv.Check{}); !errors.Is(err, emv.ErrSignature) {
		t.Errorf("another CA: %v", err)
	}
	if _, err := (emv.CAKey{Algorithm: 2}).Public(); !errors.Is(err, emv.ErrAlgorithm) {
		t.Errorf("algorithm 02: %v", err)
	}
	if _, err := emv.NewSM2PublicKey(make([]byte, 64)); !errors.Is(err, emv.ErrPublicKey) {
		t.Errorf("zero point: %v", err)
	}
	if _, err := emv.NewSM2PublicKey(make([]byte, 65)); !errors.Is(err, emv.ErrPublicKey) {
		t.Errorf("long point: %v", err)
	}
	for _, d := range [][]byte{make([]byte, 32), bytes.Repeat([]byte{0xFF}, 32), {1}} {
		if _, err := emv.NewSM2Key(d); !errors.Is(err, emv.ErrPrivateKey) {
			t.Errorf("key %X: %v", d, err)
		}
	}
	rsa := testKey(t, 1024)
	if _, err := emv.MakeIssuerCertificate(key, emv.KeyInfo{Owner: "622800", Key: rsa.Public()}); !errors.Is(err, emv.ErrPublicKey) {
		t.Errorf("an RSA key under an SM2 CA: %v", err)
	}
	if _, err := emv.MakeIssuerCertificate(rsa, emv.KeyInfo{Owner: "622800", Key: key.Public()}); !errors.Is(err, emv.ErrRoom) {
		t.Errorf("an SM2 key under an RSA CA: %v", err)
	}
	if _, err := emv.RecoverIssuer(emv.NewCAKey(emv.RIDUnionPay, 1, rsa.Public()), good, emv.Check{}); !errors.Is(err, emv.ErrLength) {
		t.Errorf("an SM2 certificate under an RSA CA: %v", err)
	}
	if _, err := key.SignDynamic(make([]byte, 256), nil); !errors.Is(err, emv.ErrRoom) {
		t.Errorf("256 bytes signed: %v", err)
	}
	if _, err := key.Apply(make([]byte, 64)); !errors.Is(err, emv.ErrPrivateKey) {
		t.Errorf("raw signature: %v", err)
	}
	if _, err := key.Public().Apply(make([]byte, 64)); !errors.Is(err, emv.ErrLength) {
		t.Errorf("raw recovery: %v", err)
	}
	if c := key.CRT(); c.P != nil || rsa.Scalar() != nil || key.Public().Exponent() != nil {
		t.Error("parts of the other variant")
	}
}

// What any keys sign verifies, and no bit of it can change.
func TestSM2Changes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key, err := emv.NewSM2Key(append([]byte{1}, rapid.SliceOfN(rapid.Byte(), 31, 31).Draw(t, "key")...))
		if err != nil {
			t.Fatal(err)
		}
		dynamic, sent := rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(t, "dynamic"), rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "sent")
		sdad, err := key.SignDynamic(dynamic, sent)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := emv.VerifyDynamic(key.Public(), sdad, sent); err != nil || !bytes.Equal(got, dynamic) {
			t.Fatalf("%X %v", got, err)
		}
		bit := rapid.IntRange(0, 8*len(sdad)-1).Draw(t, "bit")
		sdad[bit/8] ^= 1 << (bit % 8)
		if _, err := emv.VerifyDynamic(key.Public(), sdad, sent); err == nil {
			t.Fatal("a changed bit went unnoticed")
		}
	})
}

// Whatever is read under a key whose signature is not checked first by anybody
// else: never a panic, and nothing but the true one verifies.
func FuzzSM2(f *testing.F) {
	ca, issuer, icc := sm2House(f)
	sdad, err := sm2Key(f, 0x33).SignFastDDA([2]byte{0x02, 0x40}, fast)
	if err != nil {
		f.Fatal(err)
	}
	static, err := sm2Key(f, 0x22).SignStatic([2]byte{1, 2}, []byte("static data"))
	if err != nil {
		f.Fatal(err)
	}
	good := [][]byte{issuer.Certificate, icc.Certificate, sdad, static}
	for _, in := range good {
		f.Add(in)
	}
	f.Add([]byte{0x15, 3, 2, 0, 1})
	i, c := sm2Key(f, 0x22).Public(), sm2Key(f, 0x33).Public()
	f.Fuzz(func(t *testing.T, in []byte) {
		_, err1 := emv.RecoverIssuer(ca, emv.Certificate{Certificate: in}, emv.Check{})
		_, err2 := emv.RecoverICC(i, emv.Certificate{Certificate: in}, []byte("static data"), emv.Check{})
		_, err3 := emv.VerifyFastDDA(c, in, fast, nil)
		_, err4 := emv.VerifySDA(i, in, []byte("static data"))
		_, err5 := emv.VerifyCDA(c, in, [4]byte{}, emv.TC, nil)
		for n, err := range []error{err1, err2, err3, err4} {
			if bytes.Equal(in, good[n]) && err != nil {
				t.Errorf("%d: %v", n, err)
			}
		}
		if (err1 == nil || err2 == nil || err3 == nil || err4 == nil || err5 == nil) && !slices.ContainsFunc(good, func(g []byte) bool { return bytes.Equal(g, in) }) {
			t.Errorf("%X verifies", in)
		}
	})
}

func BenchmarkSM2FastDDA(b *testing.B) {
	key := sm2Key(b, 0x33)
	for b.Loop() {
		sdad, err := key.SignFastDDA([2]byte{0x02, 0x40}, fast)
		if err == nil {
			_, err = emv.VerifyFastDDA(key.Public(), sdad, fast, nil)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// Signatures R | S of the house's vectors.
const (
	ownIssuer  = "E343C69327336E5D825866234BA66E19D3DF02F2301419E551DA1D581E1FB5785DED5C90043D8FF2B5DAD1756049868AC68F89E9C9876B2B223BFCD53F261FAD"
	ownCard    = "EA11A915ABACD25E0433BD1DA66755DF872A1B750C24A9FFB9A376391264BD46110D4C2F5C4E38801D8507C978272BE96D5BB22622381667F0C46A2BA3629435"
	ownStatic  = "F0C581C0B578E78EFE7F27B6799248DA5E2F7993E688858A4A9B9E45CECEABC29F5E638337F8FF2DE944F77B3F7D4293DF7389D65B1450EEFD07878C7A4E720D"
	ownDynamic = "BB13F32B51C31294C2A9990DB18FB210F3F52E8964236F7056537B9B8A09DBC6D9622597930C6516BDD717A286A1964F5C2A18DC2250914FBAE894253C4A04FB"
)
