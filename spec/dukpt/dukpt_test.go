package dukpt_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"koala/spec/dukpt"
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

// The published base key and reader of ANSI X9.24-1:2009, annex A.4.
var (
	base = [16]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10}
	ksn  = dukpt.KSN{0xFF, 0xFF, 0x98, 0x76, 0x54, 0x32, 0x10, 0xE0, 0, 0}
)

// published are its initial sequence: PIN 1234 and PAN 4012345678909, data and
// MACs of "4012345678909D987".
var published = []struct{ key, pin, request, response, macRequest, macResponse string }{
	{"042666B49184CFA368DE9628D0397BC9", "1B9C1845EB993A7A", "FC0D53B7EA1FDA9EE68AAF2E70D9B9506229BE2AA993F04F", "1FCC89AF66222F27B903898BB2BC8589CDBFDE5EC6AFCC25", "9CCC78173FC4FB64", "20364223C1FF00FA"},
	{"C46551CEF9FD24B0AA9AD834130D3BC7", "10A01C8D02C69107", "A2B4E70F846E63D68775B7215EB4563DFD3037244C61CC13", "5B692A6B1FDD5E25B0DEFAFDE1672E402F8011360CFF3508", "F608A9BCA6FFC311", "D1FCA6BEF05D24D2"},
	{"0DF3D9422ACA56E547676D07AD6BADFA", "18DC07B94797B466", "BD751E65F10E75B6C1D5B1D283496A36C2DE21D993C387A7", "345992D4163E4926C927BFD8ABD5D76F087A9CE81D5A27B8", "20B59A4FEAC937E3", "BAD4CC9CC2AE326C"},
	{"279C0F6AEED0BE652B2C733E1383AE91", "0BC79509D5645DF7", "1118F50947441BBDA3C8C70220021A12EC31CC473F7215F4", "418C7413576C0D1819E785D3807AF32334231FDEC23414DB", "C7BFA6CC44161828", "1EB08AEECE6FF0C2"},
	{"5F8DC6D2C845C125508DDC048093B83F", "5BC0AF22AD87B327", "9FD7BD1EC28845ACA93367A9DA9317BD555C6B33AE22D365", "7D4C109E49E83355A556AE949EED359F4404E7A2F0167C00", "0202B96339022058", "5CBE3E81D1D2A0FB"},
}

// pinKeys are PIN keys of the same sequence, later on.
var pinKeys = map[uint32]string{6: "5E415CB0BAF9F0C3D0C14B63FB62FFBC", 7: "0C8F780B7C8B492FAE84A9EB2A6CE69F", 8: "27F66D5244FF621EAA6F6120EDEB427F",
	9: "27E31064FDC565968900E2057F658E81", 0x0A: "6CF2500A22507C83C776CEADC1E330EB", 0x0F: "93DD5B956C4878B82E453AAEFD32A555",
	0x10: "59598DCBD9BD943F94165CE453585FA8", 0x11: "2B5F01F4F0CC0515639D523231BF1B5D", 0x12: "9CF640F279C2AE1915F725EEEAC2CB50"}

// x919 is the retail MAC with zeros behind the data.
func x919(key [16]byte, data []byte) []byte {
	data = append(bytes.Clone(data), make([]byte, (8-len(data)%8)%8)...)
	left, right := iso9797.NewDES(key[:8]), iso9797.NewDES(key[8:])
	mac := left.CBCMAC(nil, data)
	right.DecryptBlock(mac[:], mac[:])
	left.EncryptBlock(mac[:], mac[:])
	return mac[:]
}

func TestPublishedSequence(t *testing.T) {
	initial := dukpt.Initial(base, ksn.At(9))
	if !bytes.Equal(initial[:], unhex(t, "6AC292FAA1315B4D858AB3A3D7D5933A")) {
		t.Fatalf("initial key %X", initial[:])
	}
	text := []byte("4012345678909D987")
	padded := append(bytes.Clone(text), make([]byte, 7)...)
	block := unhex(t, "041274EDCBA9876F") // 041234FFFFFFFFFF XOR 0000401234567890
	for i, want := range published {
		k := ksn.At(uint32(i + 1))
		key := dukpt.Derive(initial, k)
		pin, request, response := key.PIN(), key.DataRequest(), key.DataResponse()
		for name, x := range map[string]struct {
			got  []byte
			want string
		}{
			"key": {key[:], want.key}, "PIN": {iso9797.TDESEncryptECB(pin[:], block), want.pin},
			"request": {iso9797.TDESEncryptCBC(request[:], nil, padded), want.request}, "response": {iso9797.TDESEncryptCBC(response[:], nil, padded), want.response},
			"MAC request": {x919(key.MACRequest(), text), want.macRequest}, "MAC response": {x919(key.MACResponse(), text), want.macResponse},
		} {
			if !bytes.Equal(x.got, unhex(t, x.want)) {
				t.Errorf("%s of %s: %X, want %s", name, k, x.got, x.want)
			}
		}
	}
	for counter, want := range pinKeys {
		key := dukpt.Derive(initial, ksn.At(counter)).PIN()
		if !bytes.Equal(key[:], unhex(t, want)) {
			t.Errorf("PIN key of %06X: %X, want %s", counter, key, want)
		}
	}
}

// TestReaderAndHost: the reader's registers give the keys that the host derives,
// from any point of a reader's life on, and no counter twice.
func TestReaderAndHost(t *testing.T) {
	initial := dukpt.Initial(base, ksn)
	r := dukpt.NewReader(initial, ksn)
	last := uint32(0)
	for range 5000 {
		key, k, err := r.Next()
		if err != nil || k.Counter() <= last || k.Check() != nil || !k.Same(ksn) || key != dukpt.Derive(initial, k) {
			t.Fatalf("%s after %06X: %v", k, last, err)
		}
		last = k.Counter()
	}
	for counter := range last { // what was skipped has more than ten bits
		if k := ksn.At(counter); bits.OnesCount32(counter) > 10 && !errors.Is(k.Check(), dukpt.ErrCounter) {
			t.Fatalf("%s is taken", k)
		}
	}
}

// TestReaderEnds: the last key is of the last counter, and after it there is none,
// also after the state was stored.
func TestReaderEnds(t *testing.T) {
	initial := dukpt.Initial(base, ksn)
	// A reader shortly before its end: 3FF << 11, reached as a host would.
	last := ksn.At(0x1FF800)
	state := append(last[:], make([]byte, 21*16)...)
	key := dukpt.Derive(initial, last)
	copy(state[10+16*11:], key[:])
	r, err := dukpt.ParseReader(state)
	if err != nil {
		t.Fatal(err)
	}
	got, k, err := r.Next()
	if err != nil || got != key || k != last {
		t.Fatalf("%s, %v", k, err)
	}
	for range 2 {
		if _, _, err := r.Next(); !errors.Is(err, dukpt.ErrExhausted) {
			t.Errorf("after the last: %v", err)
		}
		if r, err = dukpt.ParseReader(r.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStateIsTheReader: a reader that is stored and read between any two
// transactions goes on as if it had not been, and holds no key of one before.
func TestStateIsTheReader(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		own := ksn
		copy(own[:5], rapid.SliceOfN(rapid.Byte(), 5, 5).Draw(rt, "reader"))
		a := dukpt.NewReader(dukpt.Initial(base, own), own)
		for range rapid.IntRange(0, 200).Draw(rt, "before") {
			if _, _, err := a.Next(); err != nil {
				rt.Fatal(err)
			}
		}
		b, err := dukpt.ParseReader(a.Bytes())
		if err != nil {
			rt.Fatal(err)
		}
		ka, na, _ := a.Next()
		kb, nb, _ := b.Next()
		if ka != kb || na != nb || !bytes.Equal(a.Bytes(), b.Bytes()) {
			rt.Fatalf("%s and %s", na, nb)
		}
		if bytes.Contains(a.Bytes(), ka[:]) {
			rt.Fatalf("the key of %s is still there", na)
		}
	})
}

func TestPrintingShowsNoKey(t *testing.T) {
	k := dukpt.Initial(base, ksn)
	if s := strings.ToUpper(fmt.Sprintf("%v %+v %#v %s", k, k, k, k)); strings.Contains(s, "6AC2") {
		t.Error(s)
	}
}

func FuzzParseReader(f *testing.F) {
	r := dukpt.NewReader(dukpt.Initial(base, ksn), ksn)
	f.Add(r.Bytes())
	for range 20 {
		if _, _, err := r.Next(); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(r.Bytes())
	f.Add(make([]byte, 346))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := dukpt.ParseReader(b)
		if err != nil {
			return
		}
		if !bytes.Equal(r.Bytes(), b) {
			t.Errorf("%X read and written as %X", b, r.Bytes())
		}
		_, _, _ = r.Next()
	})
}
