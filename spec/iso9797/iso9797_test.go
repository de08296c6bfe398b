package iso9797_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"koala/spec/iso9797"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantHex(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if !bytes.Equal(got, unhex(t, want)) {
		t.Errorf("%s = %X, want %s", what, got, want)
	}
}

// Values from public pages (1024Planet on cnblogs; CARD 6.4): card master key,
// session key and cryptogram of an EMV card, and pyemv's key check value.
func TestTripleDESAndRetailMAC(t *testing.T) {
	imk := unhex(t, "F0C34A8124CEE0A91A0B034AA97D6EAC")
	mk := append(iso9797.TDESEncryptECB(imk, unhex(t, "0622800010000101")), iso9797.TDESEncryptECB(imk, unhex(t, "F9DD7FFFEFFFFEFE"))...)
	wantHex(t, "card key", mk, "014D996FCC8F49157DC8B49E3BCDFD99")
	sk := iso9797.TDESEncryptECB(mk, unhex(t, "0000000000000240000000000000FDBF"))
	wantHex(t, "session key", sk, "D4102725E6E5AD329E55AAB50BF23DA9")
	ac := iso9797.RetailMAC(sk, nil, unhex(t, "0000000000010000000000000156008004600001561407010"+"01E78EEBC7D00024003A04002"))
	wantHex(t, "cryptogram", ac[:], "5D016C91005E7CC2")
	kcv := iso9797.KCVDES(unhex(t, "0123456789ABCDEFFEDCBA9876543210"))
	wantHex(t, "check value", kcv[:], "08D7B4")
}

// ED/EP session keys and MACs (csdn 42240855, w3help; CARD 6.3).
func TestSingleDESMAC(t *testing.T) {
	sk := iso9797.TDESEncryptECB(unhex(t, "11223344556677888877665544332211"), unhex(t, "1122334400008000"))
	wantHex(t, "load session key", sk, "9B1D924E05595603")
	data := unhex(t, "000000000000100001001122334455")
	mac := iso9797.DESMAC(sk, nil, data)
	wantHex(t, "MAC1", mac[:4], "2988AE5A")
	padded := iso9797.DESCBCMAC(sk, nil, iso9797.Pad2(data, 8))
	if padded != mac {
		t.Errorf("padded outside %X, inside %X", padded, mac)
	}
	fips := iso9797.DESEncrypt(unhex(t, "133457799BBCDFF1"), unhex(t, "0123456789ABCDEF"))
	wantHex(t, "one block", fips[:], "85E813540F0AB405")
}

// RFC 4493, section 4.
func TestCMAC(t *testing.T) {
	key := unhex(t, "2B7E151628AED2A6ABF7158809CF4F3C")
	msg := unhex(t, "6BC1BEE22E409F96E93D7E117393172AAE2D8A571E03AC9C9EB76FAC45AF8E5130C81C46A35CE411E5FBC1191A0A52EFF69F2445DF4F9B17AD2B417BE66C3710")
	for n, want := range map[int]string{
		0:  "BB1D6929E95937287FA37D129B756746",
		16: "070A16B46B4D4144F79BDD9DD04A287C",
		40: "DFA66747DE9AE63030CA32611497C827",
		64: "51F0BEBF7E3B9D92FC49741779363CFE",
	} {
		mac := iso9797.CMAC(key, msg[:n])
		wantHex(t, "CMAC", mac[:], want)
	}
}

// SCP03 key check values (pysim tests; CARD 6.2).
func TestKCVAES(t *testing.T) {
	for key, want := range map[string]string{
		"000102030405060708090A0B0C0D0E0F": "C35280",
		"101112131415161718191A1B1C1D1E1F": "013808",
		"202122232425262728292A2B2C2D2E2F": "840DE5",
	} {
		kcv := iso9797.KCVAES(unhex(t, key))
		wantHex(t, "KCV", kcv[:], want)
	}
}

func TestWhatIsEncryptedDecrypts(t *testing.T) {
	data := []byte("sixteen bytes and sixteen more..")
	k16, iv8, iv16 := unhex(t, "00112233445566778899AABBCCDDEEFF"), unhex(t, "0102030405060708"), unhex(t, "0102030405060708090A0B0C0D0E0F10")
	for name, got := range map[string][]byte{
		"ECB":           iso9797.TDESDecryptECB(k16, iso9797.TDESEncryptECB(k16, data)),
		"CBC":           iso9797.TDESDecryptCBC(k16, iv8, iso9797.TDESEncryptCBC(k16, iv8, data)),
		"AES CBC":       iso9797.AESCBCDecrypt(k16, iv16, iso9797.AESCBCEncrypt(k16, iv16, data)),
		"AES CBC, IV 0": iso9797.AESCBCDecrypt(k16, nil, iso9797.AESCBCEncrypt(k16, nil, data)),
	} {
		if !bytes.Equal(got, data) {
			t.Errorf("%s gives %X", name, got)
		}
	}
}

func TestPadding(t *testing.T) {
	for n := range 33 {
		data := bytes.Repeat([]byte{0x00}, n)
		padded := iso9797.Pad2(data, 8)
		if len(padded)%8 != 0 || len(padded) <= n {
			t.Fatalf("%d bytes padded to %d", n, len(padded))
		}
		back, err := iso9797.Unpad2(padded)
		if err != nil || !bytes.Equal(back, data) {
			t.Fatalf("%d bytes: %X %v", n, back, err)
		}
	}
	for _, bad := range []string{"", "0000", "8001"} {
		if _, err := iso9797.Unpad2(unhex(t, bad)); !errors.Is(err, iso9797.ErrPadding) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestWrongLengthsAreDefects(t *testing.T) {
	for name, f := range map[string]func(){
		"key":  func() { iso9797.NewTDES(make([]byte, 24)) },
		"des":  func() { iso9797.NewDES(nil) },
		"aes":  func() { iso9797.NewAES(make([]byte, 5)) },
		"data": func() { iso9797.TDESEncryptECB(make([]byte, 16), make([]byte, 7)) },
		"iv":   func() { iso9797.DESMAC(make([]byte, 8), make([]byte, 4), nil) },
		"mac":  func() { iso9797.DESCBCMAC(make([]byte, 8), nil, make([]byte, 9)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func FuzzUnpad2(f *testing.F) {
	f.Add([]byte{1, 2, 0x80, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := iso9797.Unpad2(in)
		if err == nil && !bytes.Equal(iso9797.Pad2(out, len(in)), in) {
			t.Errorf("%X unpads to %X", in, out)
		}
	})
}

func BenchmarkRetailMAC(b *testing.B) {
	k := iso9797.NewTDES(make([]byte, 16))
	data := make([]byte, 24)
	for b.Loop() {
		k.MAC(nil, data)
	}
}
