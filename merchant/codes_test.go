package merchant

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/calendar"
	"koala/settlement/fee"
)

// Codes of public firms, as their licences print them, and the identity number
// of GB 11643-1999's own example.
func TestCheckCharacters(t *testing.T) {
	for _, code := range []string{"91350200776049653A", "91350200MA2YJ1XR9G", "91440101MA5CJQ4N59", "9144030071526726XG", "91330100799655058B"} {
		if err := CheckCredit(code); err != nil {
			t.Errorf("%s: %v", code, err)
		}
	}
	for _, code := range []string{"", "91350200776049653B", "9135020077604965", "9135020O776049653A", "9I350200776049653A", "91350200776049653a", "913502007760496533A"} {
		if err := CheckCredit(code); !errors.Is(err, ErrLicence) {
			t.Errorf("%q: %v", code, err)
		}
	}
	if err := CheckIdentity("11010519491231002X"); err != nil {
		t.Error(err)
	}
	for _, number := range []string{"", "110105194912310021", "11010519491231002x", "1101051949123100", withDate("18800101"), withDate("19490231"), withDate("19491301")} {
		if err := CheckIdentity(number); !errors.Is(err, ErrIDNumber) {
			t.Errorf("%q: %v", number, err)
		}
	}
}

func withDate(date string) string {
	first := "110105" + date + "002"
	c, _ := IdentityCheck(first)
	return first + string(c)
}

// TestOneWrongCharacterShows states what check characters are for: one wrong
// character is always found, in a credit code also two neighbours swapped.
func TestOneWrongCharacterShows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		letters := []byte(creditDigits)
		first := make([]byte, 17)
		for i := range first {
			first[i] = letters[rapid.IntRange(0, 30).Draw(t, "v")]
			if i >= 2 && i < 8 {
				first[i] = letters[rapid.IntRange(0, 9).Draw(t, "d")]
			}
		}
		c, _ := CreditCheck(string(first))
		code := append(slices.Clone(first), c)
		if err := CheckCredit(string(code)); err != nil {
			t.Fatal(err)
		}
		at := rapid.IntRange(0, 17).Draw(t, "at")
		bad := slices.Clone(code)
		bad[at] = letters[rapid.IntRange(0, 30).Draw(t, "other")]
		if bad[at] != code[at] && CheckCredit(string(bad)) == nil {
			t.Fatalf("%s passes, %s was meant", bad, code)
		}
		if at < 16 && code[at] != code[at+1] {
			swapped := slices.Clone(code)
			swapped[at], swapped[at+1] = swapped[at+1], swapped[at]
			if CheckCredit(string(swapped)) == nil {
				t.Fatalf("%s passes, %s was meant", swapped, code)
			}
		}
	})
}

func TestSequencesRiseAndEnd(t *testing.T) {
	for n, want := range map[int64]string{1: "0001", 9999: "9999", 10_000: "A000", 10_001: "A001", 10_035: "A00Z", 10_036: "A010", 9999 + 26*36*36*36: "ZZZZ"} {
		if got, ok := sequence(n); !ok || got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
	for _, n := range []int64{-1, 0, 10_000 + 26*36*36*36} {
		if got, ok := sequence(n); ok {
			t.Errorf("%d is %q", n, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(1, 9998+26*36*36*36).Draw(t, "n")
		a, _ := sequence(n)
		b, _ := sequence(n + 1)
		if len(a) != 4 || len(b) != 4 || a >= b {
			t.Fatalf("%d is %q, the next %q", n, a, b)
		}
	})
}

func FuzzParseMID(f *testing.F) {
	for _, s := range []string{"890110058120001", "89844034511A00Z", "", "890110058120001 "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMID(s)
		if err == nil && m.String() != s {
			t.Errorf("%q writes %q", s, m)
		}
	})
}

func FuzzReadChecks(f *testing.F) {
	f.Add("licence+\nidentity-not of age\nseen~+-~")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		list, err := readChecks(s)
		if err == nil && writeChecks(list) != s {
			t.Errorf("%q writes %q", s, writeChecks(list))
		}
	})
}

func FuzzReadDocuments(f *testing.F) {
	f.Add("door " + strings.Repeat("0a", 32) + " 1000 image/jpeg\nlicence " + strings.Repeat("ff", 32) + " 1 ")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		list, err := readDocuments(s)
		if err != nil {
			return
		}
		again, err := readDocuments(writeDocuments(list)) // hexadecimal may be in capitals, sizes with a sign
		if err != nil || !slices.Equal(again, list) {
			t.Errorf("%q writes %q, %v", s, writeDocuments(list), err)
		}
	})
}

func FuzzCheckNumbers(f *testing.F) {
	f.Add("91350200776049653A")
	f.Add("11010519491231002X")
	f.Fuzz(func(t *testing.T, s string) {
		if CheckCredit(s) == nil && (len(s) != 18 || strings.Trim(s, creditDigits) != "") {
			t.Errorf("credit code %q passes", s)
		}
		if CheckIdentity(s) == nil && len(s) != 18 {
			t.Errorf("identity number %q passes", s)
		}
	})
}

func TestTables(t *testing.T) {
	if n, m := len(Categories()), len(Cities()); n != 987 || m != 337 {
		t.Errorf("%d categories, %d cities", n, m)
	}
	for name, want := range map[string]string{"Beijing": "110000", "北京": "110000", "深圳市": "440300", "440300": "440300", "shenzhen": "440300"} {
		if c, err := FindCity(name); err != nil || c.Code != want {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	if _, err := FindCity("Atlantis"); !errors.Is(err, ErrCity) {
		t.Error(err)
	}
	if _, err := CategoryOf("0001"); !errors.Is(err, ErrCategory) {
		t.Error(err)
	}
	if c, _ := CategoryOf("5812"); c.Name(true) != "就餐场所和餐馆" || c.Name(false) != "Eating places and Restaurants" {
		t.Errorf("%+v", c)
	}
	if c, _ := CategoryOf("4733"); c.Name(false) != "大型景区售票" {
		t.Errorf("%+v", c)
	}
}

func TestFeeCategories(t *testing.T) {
	day := func(y int, m time.Month, d int) calendar.Date { return calendar.Date{Year: y, Month: m, Day: d} }
	before, after, late := day(2016, 9, 5), day(2016, 9, 6), day(2018, 9, 6)
	for _, tt := range []struct {
		mcc                 string
		before, after, late fee.Category
	}{
		{"5812", fee.Dining, fee.General, fee.General},
		{"5944", fee.Dining, fee.General, fee.General},
		{"5411", fee.Living, fee.Living, fee.General},
		{"5541", fee.Living, fee.Living, fee.General},
		{"5111", fee.Wholesale, fee.General, fee.General},
		{"5511", fee.Property, fee.General, fee.General},
		{"5311", fee.General, fee.General, fee.General},
		{"8062", fee.Welfare, fee.Welfare, fee.Welfare},
		{"8211", fee.Welfare, fee.Welfare, fee.Welfare},
	} {
		if b, a, l := FeeCategory(tt.mcc, before), FeeCategory(tt.mcc, after), FeeCategory(tt.mcc, late); b != tt.before || a != tt.after || l != tt.late {
			t.Errorf("%s: %s, %s, %s", tt.mcc, b, a, l)
		}
	}
	for _, c := range Categories() {
		for _, d := range []calendar.Date{day(2000, 1, 1), before, after, late} {
			if f := FeeCategory(c.MCC, d); !f.Valid() {
				t.Errorf("%s on %s: %q", c.MCC, d, f)
			}
		}
	}
}
