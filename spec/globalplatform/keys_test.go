package globalplatform

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

func TestCheckValues(t *testing.T) {
	for _, tt := range []struct {
		kind KeyType
		key  string
		want string
	}{
		// osmocom/pysim tests, SCP03_KCV_Test
		{AES, "000102030405060708090A0B0C0D0E0F", "C35280"},
		{AES, "101112131415161718191A1B1C1D1E1F", "013808"},
		{AES, "202122232425262728292A2B2C2D2E2F", "840DE5"},
		// the public test key
		{DES, "404142434445464748494A4B4C4D4E4F", "8BAF47"},
		{AES, "404142434445464748494A4B4C4D4E4F", "504A77"},
	} {
		if got := fmt.Sprintf("%X", tt.kind.Check(unhex(t, tt.key))); got != tt.want {
			t.Errorf("%v %s: %s, want %s", tt.kind, tt.key, got, tt.want)
		}
	}
	if f := FactoryKeys(); fmt.Sprintf("%X", f.ENC) != "404142434445464748494A4B4C4D4E4F" || f.Version != 0xFF {
		t.Errorf("factory set %X of version %02X", f.ENC, f.Version)
	}
}

func TestDiversification(t *testing.T) {
	kdd := [10]byte{9: 1}
	got := DiversifyCPS(FactoryKeys(), kdd)
	for i, want := range []string{ // derived from the public test key, CARD 6.2
		"EF3E960F4BED62831F223405F7F8734C", "E1B40A0D491A8D46F0B5971A0F2CF59B", "CDB7ECACE89E81C38C4CD036808719D8",
	} {
		if k := got.keys()[i]; fmt.Sprintf("%X", k) != want {
			t.Errorf("CPS key %d: %X, want %s", i+1, k, want)
		}
	}
	a := DiversifyKDF(FactoryKeys(), kdd)
	for _, n := range []int{16, 24, 32} {
		m := bytes.Repeat([]byte{7}, n)
		d := DiversifyKDF(KeySet{1, m, m, m}, kdd)
		if !d.Fits(AES) || len(d.ENC) != n || bytes.Equal(d.ENC, d.MAC) || bytes.Equal(d.MAC, d.DEK) {
			t.Errorf("AES-%d: %d bytes, or two keys alike", 8*n, len(d.ENC))
		}
	}
	if b := DiversifyKDF(FactoryKeys(), [10]byte{9: 2}); bytes.Equal(a.ENC, b.ENC) {
		t.Error("two cards have the same key")
	}
}

func TestPutKeyCodings(t *testing.T) {
	key := unhex(t, "404142434445464748494A4B4C4D4E4F")
	long := append(bytes.Clone(key), key[:8]...)
	for _, tt := range []struct {
		name   string
		field  KeyField
		coding KeyCoding
		data   string // after the version
	}{
		{"AES, measured (gp)", KeyField{AES, 16, key, []byte{1, 2, 3}, nil}, MeasuredKeys, "8811 10 404142434445464748494A4B4C4D4E4F 03 010203"},
		{"AES, bare (gpshell3)", KeyField{AES, 16, key, []byte{1, 2, 3}, nil}, BareKeys, "8810 404142434445464748494A4B4C4D4E4F 03 010203"},
		{"AES-256, measured", KeyField{AES, 32, append(key, key...), nil, nil}, MeasuredKeys, "8821 20 404142434445464748494A4B4C4D4E4F404142434445464748494A4B4C4D4E4F 00"},
		{"AES-256, bare", KeyField{AES, 32, append(key, key...), nil, nil}, BareKeys, "8820 404142434445464748494A4B4C4D4E4F404142434445464748494A4B4C4D4E4F 00"},
		{"AES-192, filled", KeyField{AES, 24, append(key, key...), nil, nil}, BareKeys, "8821 18 404142434445464748494A4B4C4D4E4F404142434445464748494A4B4C4D4E4F 00"},
		{"AES-192 under 3DES", KeyField{AES, 24, long, nil, nil}, MeasuredKeys, "8819 18 404142434445464748494A4B4C4D4E4F4041424344454647 00"},
		{"3DES", KeyField{DES, 16, key, []byte{1, 2, 3}, nil}, BareKeys, "8010 404142434445464748494A4B4C4D4E4F 03 010203"},
	} {
		p := PutKey{Replaces: 0x01, First: 1, NewVersion: 0x30, Keys: []KeyField{tt.field, tt.field, tt.field}}
		c := p.Command(tt.coding)
		one := unhex(t, tt.data)
		if want := append(append(append([]byte{0x30}, one...), one...), one...); !bytes.Equal(c.Data, want) || c.P2 != 0x81 || c.P1 != 1 {
			t.Errorf("%s: %v, want data %X", tt.name, c, want)
		}
		got, err := ParsePutKey(c)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(p) {
			t.Errorf("%s reads as %v %v, want %v", tt.name, got, err, p)
		}
	}
}

func TestParsePutKeyRefuses(t *testing.T) {
	for name, s := range map[string]string{
		"no data":             "80D80081",
		"no keys":             "80D8008101 30",
		"three keys unmarked": "80D8000143 30 8010404142434445464748494A4B4C4D4E4F03010203 8010404142434445464748494A4B4C4D4E4F03010203 8010404142434445464748494A4B4C4D4E4F03010203",
		"cut":                 "80D8008106 30 801040 4142",
		"check of two":        "80D8000116 30 8010404142434445464748494A4B4C4D4E4F02 0102",
		"DES of 24":           "80D800011C 30 8018404142434445464748494A4B4C4D4E4F4041424344454647 00",
		"AES of 17":           "80D8000115 30 8811114142434445464748494A4B4C4D4E4F40 00",
		"unknown type":        "80D8000114 30 A010404142434445464748494A4B4C4D4E4F 00",
		"identifier 0":        "80D8000014 30 8010404142434445464748494A4B4C4D4E4F 00",
	} {
		if p, err := ParsePutKey(command(t, s)); !errors.Is(err, ErrCommand) {
			t.Errorf("%s: %v %v", name, p, err)
		}
	}
}

func TestKeysTravelUnderTheDEK(t *testing.T) {
	keys := FactoryKeys()
	next := KeySet{0x30, bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 16), bytes.Repeat([]byte{3}, 16)}
	k2, a2, _ := NewCard02(keys, [10]byte{}, 1, [6]byte{}, [8]byte{})
	k3, a3, _ := NewCard03(keys, [10]byte{}, 1, IssuerDomain, [8]byte{})
	for _, end := range []struct {
		card   *Card
		answer InitAnswer
		kind   KeyType
	}{{k2, a2, DES}, {k3, a3, AES}} {
		h, _, err := NewHost(keys, [8]byte{}, end.answer, CMAC)
		if err != nil {
			t.Fatal(err)
		}
		c, err := h.PutKey(0, next, MeasuredKeys)
		if err != nil {
			t.Fatal(err)
		}
		p, err := ParsePutKey(c)
		if err != nil || len(p.Keys) != 3 {
			t.Fatal(p, err)
		}
		for i, f := range p.Keys {
			if got, err := f.Open(end.card.DecryptKey); err != nil || !bytes.Equal(got, next.keys()[i]) {
				t.Errorf("%v key %d: %v", end.kind, i+1, err)
			}
		}
		p.Keys[0].Check = []byte{0, 0, 0}
		if _, err := p.Keys[0].Open(end.card.DecryptKey); !errors.Is(err, ErrKey) {
			t.Errorf("%v, wrong check value: %v", end.kind, err)
		}
	}
	if _, _, err := NewCard02(KeySet{ENC: make([]byte, 24)}, [10]byte{}, 1, [6]byte{}, [8]byte{}); !errors.Is(err, ErrProtocol) {
		t.Errorf("SCP02 with 24 bytes: %v", err)
	}
}
