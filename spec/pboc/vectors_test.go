package pboc_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"koala/spec/emv"
	"koala/spec/pboc"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

func key16(s string) [16]byte { return [16]byte(unhex(s)) }

func equal[T ~[4]byte | ~[8]byte | ~[16]byte](t *testing.T, what string, got T, want string) {
	t.Helper()
	b := unhex(want)
	var have []byte
	switch x := any(got).(type) {
	case [4]byte:
		have = x[:]
	case [8]byte:
		have = x[:]
	case [16]byte:
		have = x[:]
	}
	if !bytes.Equal(have, b) {
		t.Errorf("%s: %X, want %s", what, have, want)
	}
}

// The complete published card, CARD 6.4 #1: keys, cryptogram, response, balance
// MAC, and the scripts derived from it.
func TestPublishedCard(t *testing.T) {
	const atc = 0x0240
	keys := map[string][2]string{ // issuer key -> card key, session key
		"F0C34A8124CEE0A91A0B034AA97D6EAC": {"014D996FCC8F49157DC8B49E3BCDFD99", "D4102725E6E5AD329E55AAB50BF23DA9"},
		"12B1AC4AF070CC35612BFE2D30AB600D": {"4189345AD478091860D3586478D14AB1", "EA80DA2ED32A471AC343F55484147A0F"},
		"D30F45EABC12AC3EF56B0C0D7F8654DE": {"36B13B54CA7B3D35122CAEA263B7FC1B", "96C3578397877DB5A145B3D8A56E1224"},
	}
	for imk, want := range keys {
		mk, err := emv.CardKey(unhex(imk), "6228000100001", 0x01, emv.OptionA)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "card key", [16]byte(mk), want[0])
		equal(t, "session key", pboc.SessionKey(pboc.TripleDES, [16]byte(mk), atc), want[1])
	}
	cvr := pboc.CVRFrom([3]byte{0xA0, 0x40, 0x02})
	if cvr != pboc.NewCVR(pboc.ARQC, pboc.NotRequested)|pboc.CVRPINLimit|pboc.CVRDDA {
		t.Errorf("CVR %06X", uint32(cvr))
	}
	tx := pboc.Transaction{Amount: pboc.Amount(1), Country: [2]byte{1, 0x56}, TVR: [5]byte{0, 0x80, 4, 0x60, 0}, Currency: [2]byte{1, 0x56},
		Date: [3]byte{0x14, 7, 1}, Unpredictable: [4]byte(unhex("1E78EEBC"))}
	data, err := pboc.ACData(pboc.CVN01, tx, [2]byte{0x7D, 0}, atc, cvr)
	if err != nil || !bytes.Equal(data, unhex("000000000001 000000000000 0156 0080046000 0156 140701 00 1E78EEBC 7D00 0240 03A04002")) {
		t.Fatalf("%X %v", data, err)
	}
	ac := pboc.NewKey(pboc.TripleDES, key16("014D996FCC8F49157DC8B49E3BCDFD99")).Session(atc)
	arqc := ac.MAC(nil, data)
	equal(t, "ARQC", arqc, "5D016C91005E7CC2")
	equal(t, "ARPC", ac.ARPC(arqc, [2]byte{'0', '1'}), "21415243527CE78F")

	mac := pboc.NewKey(pboc.TripleDES, key16("4189345AD478091860D3586478D14AB1")).Session(atc)
	iad := pboc.IAD{DKI: 0, CVN: pboc.CVN01, CVR: cvr, Alg: pboc.TripleDES, Report: pboc.ReportBalance, Amounts: [2]uint64{10_00}}
	iad.Sign(mac, atc)
	if got := iad.Bytes(); !bytes.Equal(got, unhex("07000103A04002010A010000001000D1F61152")) || !iad.Verify(mac, atc) {
		t.Errorf("9F10 %X", got)
	}
	for want, c := range map[string]pboc.Script{
		"04DA9F790A 000000005000 AE268094": pboc.PutBalance(50_00),
		"841E000004 42CA0591":              pboc.AppBlock(),
	} {
		p := mac.Protect(c, atc, arqc)
		if !bytes.Equal(p.Bytes(), unhex(want)) {
			t.Errorf("script %v, want %s", p, want)
		}
		p.CLA |= 2 // sent on channel 2
		if plain, err := mac.Unprotect(p, atc, arqc); err != nil || !bytes.Equal(plain.Data, c.Data) {
			t.Errorf("unprotect: %v %v", plain, err)
		}
	}
}

// CARD 6.4 #2, with the response the page should have printed.
func TestSecondPublishedCard(t *testing.T) {
	k := pboc.NewKey(pboc.TripleDES, key16("0D2E3CB0BC1F9E03AED58F663A2F9679"))
	equal(t, "session key", k.SessionKey(0x000E), "C3D3F062E9992B4E923D338D66193526")
	data := unhex("000000001234 000000000034 0156 D86004A800 0156 120516 01 01010101 7C00 000E 03A4B904")
	ac := k.Session(0x000E).MAC(nil, data)
	equal(t, "AC", ac, "F294D7022FA9B058")
	equal(t, "ARPC", k.Session(0x000E).ARPC(ac, [2]byte{'0', '0'}), "3846EEB4C8D34271")
}

// The transit commands of CARD 6.4, ATC 0240.
func TestCAPPVectors(t *testing.T) {
	k := pboc.NewKey(pboc.TripleDES, key16("11223344556677888877665544332211"))
	rec := unhex("2703000801020304")
	c := pboc.UpdateCAPP(k, 0x15, rec, 0x0240)
	if !bytes.Equal(c.Bytes(), unhex("84DE00A80C 2703000801020304 AF3E93B3")) {
		t.Errorf("update %v", c)
	}
	if back, err := k.OpenCAPP(c, 0x0240); err != nil || !bytes.Equal(back, rec) {
		t.Errorf("open: %X %v", back, err)
	}
	equal(t, "update proof", k.UpdateProof([4]byte(unhex("AF3E93B3"))), "CCD7F4CE")
	equal(t, "read proof", k.ReadMAC([8]byte(unhex("1122334455667788")), rec), "1AF8CF6B")
}

// What QKATA's card said in its issuer application data.
func TestTracedIAD(t *testing.T) {
	raw := unhex("07010103A00000010A010000038787868FD1FC")
	x, err := pboc.ParseIAD(raw)
	if err != nil || x.DKI != 1 || x.CVR.First() != pboc.ARQC || x.Report != pboc.ReportBalance || x.Amounts[0] != 38787 || !bytes.Equal(x.Bytes(), raw) {
		t.Errorf("%+v %v", x, err)
	}
}
