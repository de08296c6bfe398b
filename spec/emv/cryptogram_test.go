package emv_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"koala/spec/emv"
	"koala/spec/iso9797"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "\n", "").Replace(s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantHex(t testing.TB, what string, got []byte, want string) {
	t.Helper()
	if s := fmt.Sprintf("%X", got); s != strings.ReplaceAll(want, " ", "") {
		t.Errorf("%s is %s, want %s", what, s, want)
	}
}

func check2(key []byte) []byte {
	k := iso9797.KCVDES(key)
	return k[:2]
}

const publicIMK = "0123456789ABCDEFFEDCBA9876543210"

// knovichikhin/pyemv test_kd_hsm.py; CARD.md 6.4.
func TestCardKeys(t *testing.T) {
	for _, tt := range []struct {
		name, pan string
		psn       byte
		option    emv.KeyOption
		kcv       string
	}{
		{"16 digits", "9901234567890123", 0x45, emv.OptionA, "1DA5"},
		{"16 digits, option B is A", "9901234567890123", 0x45, emv.OptionB, "1DA5"},
		{"17 digits", "12345678901234567", 0x45, emv.OptionB, "0BAF"},
		{"hash with too few digits", "000000000000000005", 0x23, emv.OptionB, "DD73"},
	} {
		mk, err := emv.CardKey(unhex(t, publicIMK), tt.pan, tt.psn, tt.option)
		if err != nil {
			t.Fatal(tt.name, err)
		}
		wantHex(t, tt.name, check2(mk), tt.kcv)
	}
	for _, bad := range []struct {
		pan string
		psn byte
	}{{"", 0}, {"12345678901234567890", 0}, {"12345678F", 0}, {"123456789", 0x0A}, {"123456789", 0xA0}} {
		if _, err := emv.CardKey(unhex(t, publicIMK), bad.pan, bad.psn, emv.OptionA); !errors.Is(err, emv.ErrPAN) {
			t.Errorf("%q %02X: %v", bad.pan, bad.psn, err)
		}
	}
}

// The card keys of the complete PBOC vector; CARD.md 6.4 #1.
func TestCardKeysOfAPBOCCard(t *testing.T) {
	for imk, want := range map[string]string{
		"F0C34A8124CEE0A91A0B034AA97D6EAC": "014D996FCC8F49157DC8B49E3BCDFD99",
		"D30F45EABC12AC3EF56B0C0D7F8654DE": "36B13B54CA7B3D35122CAEA263B7FC1B",
		"12B1AC4AF070CC35612BFE2D30AB600D": "4189345AD478091860D3586478D14AB1",
	} {
		mk, err := emv.CardKey(unhex(t, imk), "6228000100001", 0x01, emv.OptionA)
		if err != nil {
			t.Fatal(err)
		}
		wantHex(t, "card key", mk, want)
	}
	ac := emv.AC(unhex(t, "D4102725E6E5AD329E55AAB50BF23DA9"),
		unhex(t, "000000000001 000000000000 0156 0080046000 0156 140701 00 1E78EEBC 7D00 0240 03A04002"), emv.Pad80)
	wantHex(t, "ARQC", ac[:], "5D016C91005E7CC2")
	arpc := emv.ARPC1(unhex(t, "D4102725E6E5AD329E55AAB50BF23DA9"), ac, [2]byte{'0', '1'})
	wantHex(t, "ARPC", arpc[:], "21415243527CE78F")
	second := emv.AC(unhex(t, "C3D3F062E9992B4E923D338D66193526"),
		unhex(t, "000000001234 000000000034 0156 D86004A800 0156 120516 01 01010101 7C00 000E 03A4B904"), emv.Pad80)
	wantHex(t, "AC of #2", second[:], "F294D7022FA9B058")
	arpc = emv.ARPC1(unhex(t, "C3D3F062E9992B4E923D338D66193526"), second, [2]byte{'0', '0'})
	wantHex(t, "ARPC of #2", arpc[:], "3846EEB4C8D34271")
	chain := append(unhex(t, "0240"), ac[:]...)
	smi := unhex(t, "EA80DA2ED32A471AC343F55484147A0F")
	mac := emv.ScriptMAC(smi, [5]byte{0x04, 0xDA, 0x9F, 0x79, 0x0A}, chain, unhex(t, "000000005000"))
	wantHex(t, "PUT DATA script", mac[:4], "AE268094")
	mac = emv.ScriptMAC(smi, [5]byte{0x84, 0x1E, 0x00, 0x00, 0x04}, chain, nil)
	wantHex(t, "APPLICATION BLOCK script", mac[:4], "42CA0591")
}

// knovichikhin/pyemv test_ac_hsm.py; CARD.md 6.4.
func TestCryptogramsOfOtherBrands(t *testing.T) {
	mk, err := emv.CardKey(unhex(t, publicIMK), "9901234567890123", 0x45, emv.OptionA)
	if err != nil {
		t.Fatal(err)
	}
	sk := emv.CommonSessionKey(mk, [8]byte(unhex(t, "1234567890123456")))
	wantHex(t, "session key", check2(sk), "0995")
	data := unhex(t, "0123456789ABCDEF0123456789ABCDEF")
	ac := emv.AC(sk, data, emv.Pad80)
	wantHex(t, "AC", ac[:], "4B46013359B7A58B")
	zero := emv.AC(sk, data, emv.PadZero)
	wantHex(t, "AC without padding", zero[:], "922F3E83125EB46B")
	if short := emv.AC(sk, data[:11], emv.PadZero); short != emv.AC(sk, append(data[:11:11], 0, 0, 0, 0, 0), emv.PadZero) {
		t.Error("zero padding does not fill with zeros")
	}
	one := emv.ARPC1(mk, ac, [2]byte{})
	wantHex(t, "ARPC 1 under the card key", one[:], "F8C9CECAABD55AD1")
	two := emv.ARPC2(sk, ac, [4]byte{}, unhex(t, "1234567890ABCDEF"))
	wantHex(t, "ARPC 2", two[:], "4962B76C")
	two = emv.ARPC2(sk, ac, [4]byte{}, nil)
	wantHex(t, "ARPC 2 without proprietary data", two[:], "7DFB1188")
}

// knovichikhin/pyemv test_ac_hsm.py, option B; CARD.md 6.4.
func TestCryptogramsUnderOptionB(t *testing.T) {
	mk, err := emv.CardKey(unhex(t, publicIMK), "12345678901234567", 0x45, emv.OptionB)
	if err != nil {
		t.Fatal(err)
	}
	sk := emv.CommonSessionKey(mk, [8]byte(unhex(t, "1234567890123456")))
	wantHex(t, "session key", check2(sk), "4262")
	ac := emv.AC(sk, unhex(t, "0123456789ABCDEF0123456789ABCDEF"), emv.Pad80)
	wantHex(t, "AC", ac[:], "5760EE07B4FA65D1")
	two := emv.ARPC2(sk, ac, [4]byte{}, nil)
	wantHex(t, "ARPC 2", two[:], "106B81D9")

	mk, err = emv.CardKey(unhex(t, publicIMK), "000000000000000005", 0x23, emv.OptionB)
	if err != nil {
		t.Fatal(err)
	}
	ac = emv.AC(emv.SessionKeyATC(mk, 0x001C),
		unhex(t, "0000000040000000000000000124800004800001241911050152BF45851800001C06011203A0B800"), emv.Pad80)
	wantHex(t, "AC of the short hash", ac[:], "8CAD6F2489C640B1")
}

// knovichikhin/pyemv test_sm_hsm.py; CARD.md 6.4.
func TestScripts(t *testing.T) {
	r := [8]byte(unhex(t, "ABCDEF1234567890"))
	mk, err := emv.CardKey(unhex(t, publicIMK), "1234567890123456", 0x01, emv.OptionA)
	if err != nil {
		t.Fatal(err)
	}
	smi := emv.CommonSessionKey(mk, r)
	mac := emv.ScriptMAC(smi, [5]byte{0x84, 0x24, 0x00, 0x00, 0x08}, nil, nil)
	wantHex(t, "PIN unblock", mac[:], "CF323F09A0F6AB9E")
	mk, err = emv.CardKey(unhex(t, "11111111111111112222222222222222"), "1234567890123456", 0x01, emv.OptionA)
	if err != nil {
		t.Fatal(err)
	}
	block, err := emv.PINBlock("9999")
	if err != nil {
		t.Fatal(err)
	}
	wantHex(t, "PIN block", block[:], "249999FFFFFFFFFF")
	smc := emv.CommonSessionKey(mk, r)
	hidden := emv.EncipherScript(smc, block[:])
	wantHex(t, "enciphered PIN", hidden, "28367E05DE3381C2")
	wantHex(t, "deciphered PIN", emv.DecipherScript(smc, hidden), "249999FFFFFFFFFF")
	mac = emv.ScriptMAC(smi, [5]byte{0x84, 0x24, 0x00, 0x02, 0x10}, nil, hidden)
	wantHex(t, "PIN change", mac[:], "8C4D10091A093B5B")
}

func TestPINBlocks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pin := rapid.StringMatching(`[0-9]{4,12}`).Draw(t, "pin")
		block, err := emv.PINBlock(pin)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := emv.ParsePINBlock(block); err != nil || back != pin {
			t.Fatalf("%s reads back as %s %v", pin, back, err)
		}
	})
	for _, bad := range []string{"", "123", "1234567890123", "12a4"} {
		if _, err := emv.PINBlock(bad); !errors.Is(err, emv.ErrPIN) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, bad := range []string{"041234FFFFFFFFFF", "231234FFFFFFFFFF", "24123FFFFFFFFFFF", "241234FFFFFFFFF0", "2D12345678901234"} {
		if _, err := emv.ParsePINBlock([8]byte(unhex(t, bad))); !errors.Is(err, emv.ErrPIN) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func FuzzParsePINBlock(f *testing.F) {
	f.Add([]byte{0x24, 0x12, 0x34, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) != 8 {
			return
		}
		pin, err := emv.ParsePINBlock([8]byte(in))
		if err != nil {
			return
		}
		if again, err := emv.PINBlock(pin); err != nil || again != [8]byte(in) {
			t.Errorf("%X reads as %q but writes %X", in, pin, again)
		}
	})
}
