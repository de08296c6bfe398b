package tlv_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"koala/spec/tlv"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNext(t *testing.T) {
	long := hex.EncodeToString(bytes.Repeat([]byte{0xAB}, 128))
	for _, tt := range []struct {
		name, in string
		tag      tlv.Tag
		val      string
		rest     string
		want     error
	}{
		{"one byte tag", "5A0212345A", 0x5A, "1234", "5a", nil},
		{"two byte tag", "9F0201AA5A", 0x9F02, "aa", "5a", nil},
		{"three byte tag", "DF810100", 0xDF8101, "", "", nil},
		{"length 81", "7081" + "80" + long, 0x70, long, "", nil},
		{"nothing", "", 0, "", "", tlv.ErrShort},
		{"tag only", "5A", 0, "", "", tlv.ErrShort},
		{"half a tag", "9F", 0, "", "", tlv.ErrShort},
		{"tag of five bytes", "DF8181810100", 0, "", "", tlv.ErrTag},
		{"padding", "005A00", 0, "", "", tlv.ErrTag},
		{"indefinite length", "70800000", 0, "", "", tlv.ErrLength},
		{"length longer than needed", "5A8101AA", 0, "", "", tlv.ErrLength},
		{"82 where 81 would do", "708200" + "80" + long, 0, "", "", tlv.ErrLength},
		{"four length bytes", "708400000001AA", 0, "", "", tlv.ErrLength},
		{"half a length", "708201", 0, "", "", tlv.ErrShort},
		{"value cut", "5A03AAAA", 0, "", "", tlv.ErrShort},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tag, val, rest, err := tlv.Next(unhex(t, tt.in))
			if !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if tag != tt.tag || hex.EncodeToString(val) != tt.val || hex.EncodeToString(rest) != tt.rest {
				t.Errorf("%v %X + %X", tag, val, rest)
			}
		})
	}
}

// The T-Union FCI of the NFSEE test suite (tests/reader-mock.js).
func TestFindInsideTemplates(t *testing.T) {
	fci := unhex(t, "6F318408A000000632010105A5259F0801029F0C1E01011000FFFFFFFF02010310517007010479138120190718204012310000")
	val, ok := tlv.Find(fci, 0x9F0C)
	if !ok || len(val) != 30 {
		t.Fatalf("9F0C: %X %v", val, ok)
	}
	if _, ok := tlv.Find(fci, 0x9F38); ok {
		t.Error("found a PDOL that is not there")
	}
	var order []tlv.Tag
	if err := tlv.Walk(fci, func(_ int, tag tlv.Tag, _ []byte) error {
		order = append(order, tag)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(order) != 5 || order[0] != 0x6F || order[4] != 0x9F0C {
		t.Errorf("walked %v", order)
	}
}

func TestWalkRefusesEndlessNesting(t *testing.T) {
	in := []byte{}
	for range 40 {
		in = tlv.Append(nil, 0x70, in)
	}
	if err := tlv.Walk(in, func(int, tlv.Tag, []byte) error { return nil }); !errors.Is(err, tlv.ErrDeep) {
		t.Errorf("%v", err)
	}
}

func TestTagText(t *testing.T) {
	if s := tlv.Tag(0xBF0C).String(); s != "BF0C" {
		t.Error(s)
	}
	if !tlv.Tag(0xBF0C).Constructed() || tlv.Tag(0x9F36).Constructed() {
		t.Error("constructed bit")
	}
}

func FuzzNext(f *testing.F) {
	f.Add([]byte{0x9F, 0x02, 0x01, 0xAA, 0x5A})
	f.Fuzz(func(t *testing.T, in []byte) {
		tag, val, rest, err := tlv.Next(in)
		if err != nil {
			return
		}
		if again := append(tlv.Append(nil, tag, val), rest...); !bytes.Equal(again, in) {
			t.Errorf("%X reads as %v %X + %X but writes %X", in, tag, val, rest, again)
		}
	})
}
