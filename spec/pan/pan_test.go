package pan_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"koala/spec/pan"
)

func TestParse(t *testing.T) {
	for s, ok := range map[string]bool{
		"4111111111111111": true, "5413330089020011": true, "6228480402564890018": true, // test numbers in public manuals
		"4111111111111112": false, "411111111111111a": false, "4111": false, "": false, strings.Repeat("0", 20): false,
	} {
		p, err := pan.Parse(s)
		if (err == nil) != ok {
			t.Errorf("%s: %v", s, err)
		}
		if ok && strings.Contains(fmt.Sprintf("%v %+v %#v %s", p, p, p, p), s) {
			t.Errorf("%s prints itself", s)
		}
	}
}

// TestCheckDigit: what Complete makes parses, and any one wrong digit does not.
func TestCheckDigit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.StringMatching(`[0-9]{7,18}`).Draw(t, "body")
		p, err := pan.Complete(body)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := pan.Parse(string(p)); err != nil || back != p {
			t.Fatalf("%s: %v", string(p), err)
		}
		i := rapid.IntRange(0, len(p)-1).Draw(t, "at")
		bad := []byte(string(p))
		bad[i] = '0' + (bad[i]-'0'+byte(rapid.IntRange(1, 9).Draw(t, "by")))%10
		if _, err := pan.Parse(string(bad)); err == nil {
			t.Fatalf("%s parses too", bad)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("6228480402564890018")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := pan.Parse(s); err == nil && string(p) != s {
			t.Errorf("%q reads as %q", s, string(p))
		}
	})
}
