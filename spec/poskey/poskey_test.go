package poskey_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"koala/spec/poskey"
)

func key(t *rapid.T, name string) [16]byte {
	return [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, name))
}

// TestCheckValue: a published pair (all bits of the key's parity odd).
func TestCheckValue(t *testing.T) {
	k := [16]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10}
	if got := poskey.KCV(k); got != [4]byte{0x08, 0xD7, 0xB4, 0xFB} {
		t.Errorf("%X", got)
	}
}

// TestDocumented: the example of docs/terminal-protocol.md, section 3.
func TestDocumented(t *testing.T) {
	tmk := [16]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10}
	var field []byte
	for _, clear := range []string{"8C7F1A2B3D4E5F60718293A4B5C6D7E8", "25D34E58A17B9C0D6E2F408192A3B4C5"} {
		k, err := hex.DecodeString(clear)
		if err != nil {
			t.Fatal(err)
		}
		field = poskey.Wrap(tmk, [16]byte(k)).Append(field)
	}
	if got := hex.EncodeToString(field); got != "f1e176ad708a427ac0befaefc67642fe7ff8be79"+"7b7f0a6e02205a3eb921bbc136e5532761451a8f" {
		t.Error(got)
	}
}

// TestPublished: field 62 of a sign-on as a bank's POS manual has it, the MAK of
// single length filled with bytes 00 (code456.com/article/3026509.html).
func TestPublished(t *testing.T) {
	tmk := [16]byte{0xCA, 0x5D, 0x92, 0x59, 0x8D, 0xCA, 0x48, 0xCE, 0x8A, 0x4C, 0x76, 0x36, 0x1A, 0x92, 0x69, 0xE9}
	field, err := hex.DecodeString("6701EAD6A9AD51E51AA406E2C27FCFA98D0A74B8" + "B651F9E9BACE9AE1" + "0000000000000000" + "AB7153CA")
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := poskey.ParseField(field)
	if err != nil || len(blocks) != 2 {
		t.Fatalf("%d blocks: %v", len(blocks), err)
	}
	pik, err := blocks[0].Open(tmk)
	if err != nil {
		t.Errorf("PIK: %v", err)
	}
	if got := hex.EncodeToString(pik[:]); got[:16] != "807a23ad32b36d45" {
		t.Errorf("PIK %s", got)
	}
	mak, err := blocks[1].Open(tmk)
	if got := hex.EncodeToString(mak[:]); err != nil || got != "5bb5c72cd00b7338"+"5bb5c72cd00b7338" {
		t.Errorf("MAK %s: %v", got, err)
	}
	blocks[1].Check[0]++
	if _, err := blocks[1].Open(tmk); !errors.Is(err, poskey.ErrCheck) {
		t.Errorf("another check value: %v", err)
	}
}

// TestField: what the host wraps the terminal opens, and finds what was altered.
func TestField(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tmk := key(rt, "tmk")
		keys := [][16]byte{key(rt, "pik"), key(rt, "mak"), key(rt, "tdk")}[:rapid.IntRange(2, 3).Draw(rt, "n")]
		var field []byte
		for _, k := range keys {
			field = poskey.Wrap(tmk, k).Append(field)
		}
		blocks, err := poskey.ParseField(field)
		if err != nil || len(blocks) != len(keys) {
			rt.Fatal(len(blocks), err)
		}
		for i, b := range blocks {
			if got, err := b.Open(tmk); err != nil || got != keys[i] {
				rt.Fatal(err)
			}
			b.Enciphered[rapid.IntRange(0, 15).Draw(rt, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
			if _, err := b.Open(tmk); !errors.Is(err, poskey.ErrCheck) {
				rt.Fatalf("altered: %v", err)
			}
		}
	})
	for _, n := range []int{0, 20, 39, 41, 80} {
		if _, err := poskey.ParseField(make([]byte, n)); !errors.Is(err, poskey.ErrField) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// TestPINBlock: the block of ANSI X9.24-1:2009, annex A.4, and every PIN there
// and back.
func TestPINBlock(t *testing.T) {
	if b, err := poskey.PINBlock(poskey.WithPAN, "1234", "4012345678909"); err != nil || hex.EncodeToString(b[:]) != "041274edcba9876f" {
		t.Errorf("%X, %v", b, err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		form := rapid.SampledFrom([]poskey.PINForm{poskey.WithoutPAN, poskey.WithPAN}).Draw(rt, "form")
		pin, pan := rapid.StringMatching(`[0-9]{4,12}`).Draw(rt, "pin"), rapid.StringMatching(`62[0-9]{11,17}`).Draw(rt, "pan")
		b, err := poskey.PINBlock(form, pin, pan)
		if err != nil {
			rt.Fatal(err)
		}
		if got, err := poskey.ParsePIN(form, b, pan); err != nil || got != pin {
			rt.Fatalf("%q, %v", got, err)
		}
	})
	for _, bad := range []struct{ pin, pan string }{{"123", "4012345678909"}, {"12a4", "4012345678909"}, {"1234567890123", "4012345678909"}, {"1234", "401234567890"}, {"1234", "40123456789x9"}} {
		if _, err := poskey.PINBlock(poskey.WithPAN, bad.pin, bad.pan); !errors.Is(err, poskey.ErrPIN) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if _, err := poskey.PINBlock(3, "1234", "4012345678909"); !errors.Is(err, poskey.ErrPIN) {
		t.Errorf("no such form: %v", err)
	}
}

func FuzzParsePIN(f *testing.F) {
	f.Add(byte(2), []byte{0x04, 0x12, 0x74, 0xED, 0xCB, 0xA9, 0x87, 0x6F}, "4012345678909")
	f.Fuzz(func(t *testing.T, form byte, b []byte, pan string) {
		if len(b) != 8 {
			return
		}
		pin, err := poskey.ParsePIN(poskey.PINForm(form), [8]byte(b), pan)
		if err != nil {
			return
		}
		if again, err := poskey.PINBlock(poskey.PINForm(form), pin, pan); err != nil || !bytes.Equal(again[:], b) {
			t.Errorf("%X read and written as %X", b, again)
		}
	})
}

// TestTrackBlock: a published example of the rule.
func TestTrackBlock(t *testing.T) {
	track, err := hex.DecodeString("12345678901234567" + "89D0508201781999168" + "3020")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := poskey.TrackBlock(track); err != nil || hex.EncodeToString(b) != "0820178199916830" {
		t.Errorf("%X, %v", b, err)
	}
	if _, err := poskey.TrackBlock(track[:8]); !errors.Is(err, poskey.ErrTrack) {
		t.Errorf("too short: %v", err)
	}
}

// A key of single length is that of DES alone (FIPS 81's), twice: what it wraps,
// checks and enciphers is what DES does.
func TestSingle(t *testing.T) {
	tmk := [16]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10}
	key := [8]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF}
	b := poskey.WrapSingle(tmk, key)
	if b.Check != [4]byte{0xD5, 0xD4, 0x4F, 0xF7} { // DES of zeros under 0123456789ABCDEF: D5D44FF720683D0D
		t.Errorf("check value %X", b.Check)
	}
	rapid.Check(t, func(rt *rapid.T) {
		key := [8]byte(rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(rt, "key"))
		other := [8]byte(rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(rt, "other"))
		wire := poskey.WrapSingle(tmk, other).Append(poskey.WrapSingle(tmk, key).Append(nil))
		blocks, err := poskey.ParseField(wire)
		if err != nil || len(wire) != 2*poskey.SingleLen || len(blocks) != 2 {
			rt.Fatalf("%X: %v", wire, err)
		}
		if got, err := blocks[0].Open(tmk); err != nil || got != poskey.Double(key) {
			rt.Fatalf("%X: %v", got, err)
		}
		wire[0]++
		blocks, _ = poskey.ParseField(wire)
		if got, err := blocks[0].Open(tmk); err == nil && got != poskey.Double(key) {
			rt.Fatalf("an altered block opened as %X", got)
		}
	})
}

// The published example of which bytes of tracks are enciphered (section 4.4.2 of
// the acquirer's interface named in docs/terminal-protocol.md, section 5).
func TestTrackBlockPublished(t *testing.T) {
	for packed, want := range map[string]string{
		"1234567890123456789d05082017819991683020": "0820178199916830",
		"991234567890123456789d1560000000000000000003781999216000005000000000000000000000d000000000003d0000000000": "0000003d00000000",
	} {
		b, err := hex.DecodeString(packed)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := poskey.TrackBlock(b); err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%X, %v; want %s", got, err, want)
		}
	}
}

func FuzzParseField(f *testing.F) {
	f.Add(make([]byte, 2*poskey.SingleLen))
	f.Add(make([]byte, 2*poskey.BlockLen))
	f.Add(make([]byte, 3*poskey.BlockLen))
	f.Add(make([]byte, 36))
	f.Fuzz(func(t *testing.T, in []byte) {
		blocks, err := poskey.ParseField(in)
		if err != nil {
			return
		}
		var out []byte
		for _, b := range blocks {
			out = b.Append(out)
			_, _ = b.Open([16]byte{1, 2, 3})
		}
		if !bytes.Equal(out, in) {
			t.Errorf("%X read and written as %X", in, out)
		}
	})
}
