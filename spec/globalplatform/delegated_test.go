package globalplatform

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"fmt"
	"math/big"
	"testing"

	"koala/spec/iso7816"
	"pgregory.net/rapid"
)

// tokenKeys are keys of every kind that signs tokens, made once.
var tokenKeys = func() (list []crypto.Signer) {
	for _, bits := range []int{1024, 2048} {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		list = append(list, k)
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return append(list, e)
}()

// What a token signs, byte for byte as GPCS C.4 lists it and public host
// libraries build it: P1 | P2 | length | every field before the token.
func TestTokenData(t *testing.T) {
	load := Install{For: ForLoad, LoadFile: pkg, Domain: IssuerDomain, Token: bytes.Repeat([]byte{0xAA}, 128)}
	for _, tt := range []struct {
		name    string
		command iso7816.Command
		signed  string
		token   int
	}{
		{"load", load.Command(), fmt.Sprintf("0200 %02X 06%X 08A000000151000000 00 00", 1+len(pkg)+9+2, string(pkg)), 128},
		{"install", Install{For: ForInstallSelect, LoadFile: pkg, Module: pkg, App: inst, Params: []byte{0xC9, 0}, Token: []byte{1, 2}}.Command(),
			fmt.Sprintf("0C00 %02X 06%X 06%X %02X%X 0100 02C900", 1+len(pkg)+1+len(pkg)+1+len(inst)+2+3, string(pkg), string(pkg), len(inst), string(inst)), 2},
		{"extradition", Install{For: ForExtradition, Domain: IssuerDomain, App: inst}.Command(),
			fmt.Sprintf("1000 %02X 08A000000151000000 00 %02X%X 00 00", 8+1+1+1+len(inst)+2, len(inst), string(inst)), 0},
		{"delete", Delete{App: inst, Related: true, Token: []byte{7}}.Command(), fmt.Sprintf("0080 %02X 4F%02X%X", 2+len(inst), len(inst), string(inst)), 1},
	} {
		signed, token, err := TokenData(tt.command)
		if want := unhex(t, tt.signed); err != nil || len(token) != tt.token || !bytes.Equal(signed, want) {
			t.Errorf("%s: %X %X %v, want %X", tt.name, signed, token, err, want)
		}
	}
	// The test vectors of a public host library.
	domain, app := AID("\xD4\xD4\xD4\xD4\xD4\x01\x01\x01"), AID("\xD0\xD1\xD2\xD3\xD4\xD5\x01\x01")
	for want, c := range map[string]iso7816.Command{
		"10001508D4D4D4D4D40101010008D0D1D2D3D4D501010000": Install{For: ForExtradition, Domain: domain, App: app}.Command(),
		"0080134F07D0D1D2D3D4D5014F08D0D1D2D3D4D50101":     {CLA: CLA, INS: InsDelete, P2: 0x80, Data: unhex(t, "4F07D0D1D2D3D4D5014F08D0D1D2D3D4D50101")},
	} {
		if signed, _, err := TokenData(c); err != nil || fmt.Sprintf("%X", signed) != want {
			t.Errorf("%X %v, want %s", signed, err, want)
		}
		if c.INS == InsDelete {
			if d, err := ParseDelete(c); err == nil {
				t.Errorf("two at once: %+v", d)
			}
		}
	}
	long := Install{For: ForInstall, LoadFile: pkg, Module: pkg, App: inst, Params: append([]byte{0xC9, 0x82, 1, 0}, make([]byte, 256)...)}
	if signed, _, err := TokenData(long.Command()); err != nil || signed[2] != 0 || int(signed[3])<<8|int(signed[4]) != len(signed)-5 {
		t.Errorf("a long INSTALL signs %X.. %v", signed[:6], err)
	}
	if _, _, err := TokenData(GetData(TagCPLC)); !errors.Is(err, ErrCommand) {
		t.Errorf("GET DATA: %v", err)
	}
}

// Own vector: scheme 1 is PKCS#1 v1.5 over SHA-1, whose block recovered with the
// public exponent reads 00 01 FF.. 00 | DigestInfo | SHA-1.
func TestTokenIsScheme1(t *testing.T) {
	key := tokenKeys[0].(*rsa.PrivateKey)
	signed, _, _ := TokenData(Install{For: ForSelectable, App: inst}.Command())
	token, err := SignToken(rand.Reader, key, signed)
	if err != nil {
		t.Fatal(err)
	}
	block := new(big.Int).Exp(new(big.Int).SetBytes(token), big.NewInt(int64(key.E)), key.N).FillBytes(make([]byte, 128))
	h := sha1.Sum(signed)
	want := append([]byte{0, 1}, bytes.Repeat([]byte{0xFF}, 128-3-15-20)...)
	want = append(append(append(want, 0), unhex(t, "3021300906052B0E03021A05000414")...), h[:]...)
	if !bytes.Equal(block, want) {
		t.Errorf("block %X, want %X", block, want)
	}
}

// Every token verifies under its key and under no other, and for no command that
// differs anywhere.
func TestTokens(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		in := Install{For: rapid.SampledFrom([]InstallFor{ForLoad, ForInstall, ForInstallSelect, ForSelectable, ForExtradition, ForRegistryUpdate}).Draw(rt, "for"),
			LoadFile: pkg, Module: pkg, App: inst, Domain: IssuerDomain}
		i := rapid.IntRange(0, len(tokenKeys)-1).Draw(rt, "key")
		signed, _, err := TokenData(in.Command())
		if err != nil {
			rt.Fatal(err)
		}
		if in.Token, err = SignToken(rand.Reader, tokenKeys[i], signed); err != nil {
			rt.Fatal(err)
		}
		again, token, err := TokenData(in.Command())
		if err != nil || !bytes.Equal(again, signed) || !bytes.Equal(token, in.Token) {
			rt.Fatalf("the token changes what it signs: %X %X %v", again, signed, err)
		}
		for j, k := range tokenKeys {
			if err := VerifyToken(k.Public(), signed, token); (err == nil) != (i == j) {
				rt.Fatalf("key %d of %d: %v", j, i, err)
			}
		}
		signed[rapid.IntRange(0, len(signed)-1).Draw(rt, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
		if err := VerifyToken(tokenKeys[i].Public(), signed, token); !errors.Is(err, ErrToken) {
			rt.Fatalf("another command passes: %v", err)
		}
	})
	if err := VerifyToken("no key", nil, nil); !errors.Is(err, ErrToken) {
		t.Error(err)
	}
	signed := []byte{1, 2, 3}
	h := sha1.Sum(signed)
	token, _ := rsa.SignPKCS1v15(nil, tokenKeys[1].(*rsa.PrivateKey), crypto.SHA1, h[:])
	if err := VerifyToken(tokenKeys[1].Public(), signed, token); err != nil {
		t.Errorf("2048 bits with scheme 1: %v", err)
	}
}

// Own vectors for the receipts' bytes (GPCS C.5, as public host libraries check
// them): 02 | counter | length | unique data | each AID behind its length.
func TestConfirmation(t *testing.T) {
	key := unhex(t, "404142434445464748494A4B4C4D4E4F")
	one, two := []byte(inst), []byte(pkg)
	c := Confirmation{Counter: 0x0102, Unique: unhex(t, "00000004010203040506")}
	for _, tt := range []struct {
		kind  KeyType
		bytes string // behind the receipt
		n     int
	}{{AES, "02 0102 0A 00000004010203040506", 16}, {DES, "02 0102 0A 00000004010203040506", 8}} {
		r := c.Sign(tt.kind, key, one, two)
		if got := r.Bytes(); int(got[0]) != tt.n || !bytes.Equal(got[1+tt.n:], unhex(t, tt.bytes)) {
			t.Errorf("%v: %X", tt.kind, got)
		}
		back, err := ParseConfirmation(r.Bytes())
		if err != nil || back.Verify(tt.kind, key, one, two) != nil {
			t.Errorf("%v: %+v %v", tt.kind, back, err)
		}
		if back.Verify(tt.kind, key, one) == nil || back.Verify(tt.kind, key, two, one) == nil {
			t.Errorf("%v: a receipt about something else", tt.kind)
		}
		back.Counter++
		if !errors.Is(back.Verify(tt.kind, key, one, two), ErrReceipt) {
			t.Errorf("%v: another counter", tt.kind)
		}
	}
	for _, s := range []string{"", "00"} {
		if c, err := ParseConfirmation(unhex(t, s)); err != nil || len(c.Receipt) != 0 {
			t.Errorf("%q: %+v %v", s, c, err)
		}
	}
	for _, s := range []string{"01", "0000", "0201", "01AA 02 0102 05 01", "01AA 01 01 00", "01AA 02 0102 00 FF", "00 02 0102 00"} {
		if _, err := ParseConfirmation(unhex(t, s)); !errors.Is(err, ErrAnswer) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// A public key goes through PUT KEY in clear and comes out the same.
func TestPublicFields(t *testing.T) {
	for _, k := range tokenKeys {
		f, err := PublicField(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		p, err := ParsePutKey(PutKey{First: 1, NewVersion: TokenKeyVersion, Keys: []KeyField{f}}.Command(BareKeys))
		if err != nil || len(p.Keys) != 1 {
			t.Fatalf("%v: %v", f.Type, err)
		}
		pub, err := p.Keys[0].Public()
		if err != nil || !k.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(pub) {
			t.Errorf("%v: %v %v", f.Type, pub, err)
		}
	}
	for _, f := range []KeyField{{}, {Type: RSA}, {Type: ECC, Cipher: make([]byte, 65), Reference: []byte{0}},
		{Type: RSA, Cipher: bytes.Repeat([]byte{0xFE}, 128), Reference: []byte{3}}, {Type: RSA, Cipher: bytes.Repeat([]byte{0xFF}, 128), Reference: []byte{2}}} {
		if _, err := f.Public(); err == nil {
			t.Errorf("%v is a key", f.Type)
		}
	}
	// As public tools write an RSA-1024 key: A1 8180 modulus A0 01 03 00.
	raw := append(append([]byte{0x70, 0xA1, 0x81, 0x80}, bytes.Repeat([]byte{0xFF}, 128)...), 0xA0, 1, 3, 0)
	if p, err := ParsePutKey(iso7816.Command{CLA: CLA, INS: InsPutKey, P2: 1, Data: raw}); err != nil || p.Keys[0].Length != 128 {
		t.Errorf("%+v %v", p, err)
	}
}

// A token put into a command is the one that is read back, over the same bytes;
// commands that take none are refused, and have no receipt.
func TestWithToken(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		token := rapid.SliceOfN(rapid.Byte(), 1, 128).Draw(rt, "token")
		for _, c := range []iso7816.Command{InstallApplet(pkg, pkg, inst, Privileges{}, []byte{1}).Command(), Delete{App: inst, Related: true}.Command(),
			Install{For: ForExtradition, Domain: IssuerDomain, App: inst}.Command()} {
			before, _, err := TokenData(c)
			if err != nil {
				rt.Fatal(err)
			}
			with, err := WithToken(c, token)
			if err != nil {
				rt.Fatal(err)
			}
			if signed, got, err := TokenData(with); err != nil || !bytes.Equal(got, token) || !bytes.Equal(signed, before) {
				rt.Fatalf("%X: %X, %X, %v", with.Bytes(), signed, got, err)
			}
			a, err := ReceiptAbout(c, IssuerDomain)
			b, err2 := ReceiptAbout(with, IssuerDomain)
			if err != nil || err2 != nil || fmt.Sprint(a) != fmt.Sprint(b) || len(a) == 0 {
				rt.Fatalf("receipts over %X and %X", a, b)
			}
		}
	})
	for _, c := range []iso7816.Command{Personalize(inst).Command(), Delete{KeyVersion: 0x30}.Command(), GetStatus{Part: Applications}.Command()} {
		if _, err := WithToken(c, []byte{1}); !errors.Is(err, ErrCommand) {
			t.Errorf("%X takes a token: %v", c.Bytes(), err)
		}
	}
	if _, err := ReceiptAbout(GetStatus{Part: Applications}.Command(), ""); !errors.Is(err, ErrCommand) {
		t.Errorf("GET STATUS has a receipt: %v", err)
	}
}
