package iso8583

import (
	"encoding/csv"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode"
)

// TestTablesAreSound holds what packing relies on.
func TestTablesAreSound(t *testing.T) {
	for _, s := range Specs() {
		count := 0
		for n := range MaxField + 1 {
			f, ok := s.Field(n)
			if !ok {
				continue
			}
			count++
			for _, bad := range []struct {
				name string
				is   bool
			}{
				{"no length", f.Max < 1 || f.Max > 999},
				{"LLVAR above 99", f.Digits == 2 && f.Max > 99},
				{"packed but not digits", f.Coding != Plain && f.Class != Numeric && f.Class != Track && f.Class != HexTrack},
				{"fixed longer than its room", f.Digits == 0 && f.Max > maxFilled},
				{"filled but variable", f.Padding != NoPadding && f.Digits > 0},
				{"blanks in digits", f.Padding == Spaces && f.Class == Numeric},
				{"zeros in text", f.Padding == Zeros && f.Class != Numeric},
				{"echoes a secret", f.Echoed && f.Secrecy != Open && f.Secrecy != SecretPAN},
				{"above the bitmap", s.Bitmap == Bitmap64 && n > 64},
				{"bit of a bitmap", n == 1 || n == 65},
				{"no names", f.EN == "" || !strings.ContainsFunc(f.ZH, unicode.IsLetter)},
			} {
				if bad.is {
					t.Errorf("%s field %d: %s", s.Name, n, bad.name)
				}
			}
		}
		if mac, ok := s.Field(s.MAC.Field); s.MAC.Field != 0 && (!ok || mac.Class != Binary || mac.Max != macLen) {
			t.Errorf("%s: field %d cannot carry a MAC", s.Name, s.MAC.Field)
		}
		if count < 40 {
			t.Errorf("%s has %d fields", s.Name, count)
		}
		if got, ok := SpecNamed(s.Name); !ok || got.Name != s.Name {
			t.Errorf("no dialect is found by %q", s.Name)
		}
	}
	if _, ok := SpecNamed("x"); ok {
		t.Error("a dialect is called x")
	}
}

// TestTablesAgreeWithTheDecodedMessages compares with the table that the
// published messages were decoded by.
func TestTablesAgreeWithTheDecodedMessages(t *testing.T) {
	file, err := os.Open("testdata/fields.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[int]string{0: "fixed", 2: "LLVAR", 3: "LLLVAR"}
	for _, r := range rows[1:] {
		n := number(r[0])
		if f, ok := UnionPayInterchange().Field(n); ok && r[2] != "" && r[2] != "binary" && n != 64 {
			if kinds[f.Digits] != r[2] || r[3] != "" && fmt.Sprint(f.Max) != r[3] {
				t.Errorf("interchange field %d is %s %d, want %s %s", n, kinds[f.Digits], f.Max, r[2], r[3])
			}
		}
		if f, ok := UnionPayPOS().Field(n); ok && r[4] != "" && r[4] != "binary" {
			coding := map[bool]string{true: "bcd ", false: ""}[f.Coding != Plain]
			if kind := coding + kinds[f.Digits]; !strings.Contains(strings.NewReplacer("ascii ", "", "bytes ", "", " digits", "").Replace(r[4]), kind) ||
				r[5] != "" && fmt.Sprint(f.Max) != r[5] {
				t.Errorf("POS field %d is %s %d, want %s %s", n, kind, f.Max, r[4], r[5])
			}
		}
	}
}

func TestEveryWordHasBothLanguages(t *testing.T) {
	for key, w := range wordTable() {
		if w[0] == "" || !strings.ContainsFunc(w[1], func(r rune) bool { return r > unicode.MaxLatin1 }) {
			t.Errorf("%s is %q", key, w)
		}
	}
}
