package iso7816_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"koala/spec/iso7816"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseCommand(t *testing.T) {
	long := strings.Repeat("AB", 300)
	for _, tt := range []struct {
		name, raw string
		data, le  int
		extended  bool
		ok        bool
	}{
		{"case 1", "00700080", 0, iso7816.NoLe, false, true},
		{"case 2", "00B095001E", 0, 0x1E, false, true},
		{"case 2, all", "00B0950000", 0, 0, false, true},
		{"case 3", "00A40000021001", 2, iso7816.NoLe, false, true},
		{"case 4", "00A4000002100100", 2, 0, false, true},
		{"extended case 2", "00B09500000200", 0, 512, true, true},
		{"extended case 2, all", "00B09500000000", 0, 65536, true, true},
		{"extended case 3", "00D6950000012C" + long, 300, iso7816.NoLe, true, true},
		{"extended case 4", "00D6950000012C" + long + "0010", 300, 16, true, true},
		{"extended case 3, one byte", "00D69500000001AB", 1, iso7816.NoLe, true, true},
		{"too short", "00A400", 0, 0, false, false},
		{"Lc too long", "00A40000031001", 0, 0, false, false},
		{"Lc too short", "00A400000110010000", 0, 0, false, false},
		{"extended cut", "00A400000001", 0, 0, false, false},
		{"extended Lc 0", "00A40000000000AB", 0, 0, false, false},
		{"extended Lc 0 with Le", "00A400000000000010", 0, 0, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := iso7816.ParseCommand(unhex(t, tt.raw))
			if !tt.ok {
				if !errors.Is(err, iso7816.ErrCommand) {
					t.Fatalf("error %v", err)
				}
				return
			}
			if err != nil || len(c.Data) != tt.data || c.Le != tt.le || c.Extended != tt.extended {
				t.Fatalf("%d bytes, Le %d, extended %v, %v", len(c.Data), c.Le, c.Extended, err)
			}
			if !bytes.Equal(c.Bytes(), unhex(t, tt.raw)) {
				t.Errorf("writes %v", c)
			}
		})
	}
}

func TestBytesTurnsToExtended(t *testing.T) {
	c := iso7816.Command{CLA: 0x80, INS: 0xE2, Data: make([]byte, 256), Le: 0}
	raw := c.Bytes()
	back, err := iso7816.ParseCommand(raw)
	if err != nil || len(back.Data) != 256 || back.Le != 256 {
		t.Errorf("%d bytes, Le %d, %v", len(back.Data), back.Le, err)
	}
}

func TestBuilders(t *testing.T) {
	for want, c := range map[string]iso7816.Command{
		"00A4040008A00000063201010500": iso7816.Select(unhex(t, "A000000632010105")),
		"00A400000210" + "0100":        iso7816.SelectFile(0x1001),
		"00B095001E":                   iso7816.ReadBinarySFI(0x15, 0, 0x1E),
		"00B0840020":                   iso7816.ReadBinarySFI(0x04, 0, 0x20),
		"00D695020" + "2ABCD":          iso7816.UpdateBinarySFI(0x15, 2, unhex(t, "ABCD")),
		"00B201C417":                   iso7816.ReadRecord(1, 0x18, 0x17),
		"00B227D080":                   iso7816.ReadRecordByID(0x27, 0x1A, 0x80),
		"00C0000010":                   iso7816.GetResponse(16),
		"0084000008":                   iso7816.GetChallenge(8),
	} {
		if !bytes.Equal(c.Bytes(), unhex(t, want)) {
			t.Errorf("%v, want %s", c, want)
		}
	}
}

func TestChannels(t *testing.T) {
	for _, tt := range []struct {
		cla            byte
		channel        int
		secure         bool
		without, based byte
	}{
		{0x00, 0, false, 0x00, 0x00},
		{0x83, 3, false, 0x80, 0x80},
		{0x86, 2, true, 0x84, 0x80},
		{0xC5, 9, false, 0x80, 0x80},
		{0xE0, 4, true, 0x84, 0x80},
		{0x4F, 19, false, 0x00, 0x00},
	} {
		if iso7816.Channel(tt.cla) != tt.channel || iso7816.Secure(tt.cla) != tt.secure ||
			iso7816.WithoutChannel(tt.cla) != tt.without || iso7816.Base(tt.cla) != tt.based {
			t.Errorf("%02X: channel %d secure %v without %02X", tt.cla, iso7816.Channel(tt.cla), iso7816.Secure(tt.cla), iso7816.WithoutChannel(tt.cla))
		}
		if got := iso7816.WithChannel(iso7816.WithoutChannel(tt.cla), tt.channel); got != tt.cla {
			t.Errorf("channel %d into %02X gives %02X, want %02X", tt.channel, iso7816.WithoutChannel(tt.cla), got, tt.cla)
		}
	}
}

func TestStatusWords(t *testing.T) {
	for sw, want := range map[iso7816.SW]string{
		0x9000: "9000 done", 0x9401: "9401 not enough money", 0x9302: "9302 MAC wrong",
		0x9303: "9303 application permanently blocked", 0x9402: "9402 transaction counter at its end",
		0x9403: "9403 no key with this index", 0x9406: "9406 no such MAC or TAC kept",
		0x6283: "6283 selected, but the application is blocked", 0x6985: "6985 wrong order, conditions of use not satisfied",
		0x6A82: "6A82 file or application not found", 0x6A83: "6A83 record not found", 0x6B00: "6B00 beyond the end of the file",
		0x6110: "6110 16 more bytes wait", 0x6C00: "6C00 ask again with Le 256", 0x63C2: "63C2 wrong, 2 tries left",
		0x6A99: "6A99 wrong parameters", 0x1234: "1234 unknown status",
	} {
		if sw.String() != want {
			t.Errorf("%s, want %s", sw, want)
		}
		if zh := sw.Meaning(true); zh == "" || zh == sw.Meaning(false) {
			t.Errorf("%s has no Chinese", sw)
		}
	}
	if n, ok := iso7816.More(256).More(); n != 256 || !ok {
		t.Error("61 00 is 256")
	}
	if n, ok := iso7816.Exact(16).Exact(); n != 16 || !ok {
		t.Error("6C 10 is 16")
	}
	if n, ok := iso7816.Tries(3).Tries(); n != 3 || !ok {
		t.Error("63 C3 is 3")
	}
}

func TestExplain(t *testing.T) {
	e, ok := iso7816.Explain(iso7816.Select(unhex(t, "A000000632010105")), iso7816.Response{SW: iso7816.OK})
	if !ok || e.Fields[0].Value != "A000000632010105" {
		t.Errorf("%+v", e)
	}
	e, ok = iso7816.Explain(iso7816.Command{INS: iso7816.InsVerify, Data: []byte{0x12, 0x34}}, iso7816.Response{})
	if !ok || !e.Fields[0].Secret || strings.Contains(e.Fields[0].Value, "1234") {
		t.Errorf("PIN shown: %+v", e)
	}
	if _, ok := iso7816.Explain(iso7816.Command{CLA: 0x80, INS: 0x50}, iso7816.Response{}); ok {
		t.Error("explains a purse command")
	}
}

func FuzzParseCommand(f *testing.F) {
	for _, s := range []string{"00A4040008A00000063201010500", "00B09500000200", "00700080", "00D69500000001AB"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := iso7816.ParseCommand(in)
		if err == nil && !bytes.Equal(c.Bytes(), in) {
			t.Errorf("%X writes %X", in, c.Bytes())
		}
	})
}

func FuzzParseResponse(f *testing.F) {
	f.Add([]byte{1, 2, 0x90, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := iso7816.ParseResponse(in)
		if err == nil && !bytes.Equal(r.Bytes(), in) {
			t.Errorf("%X writes %X", in, r.Bytes())
		}
	})
}
