package customer

import (
	"strings"
	"testing"
)

func TestSecretMatchesItsHashOnly(t *testing.T) {
	hash, err := hashSecret("dongdan", make([]byte, saltLen), 3)
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]bool{"dongdan": true, "Dongdan": false, "": false} {
		if got := matches(hash, in); got != want {
			t.Errorf("matches(%q) = %v, want %v", in, got, want)
		}
	}
	if salted, _ := hashSecret("dongdan", append([]byte{1}, make([]byte, saltLen-1)...), 3); salted == hash {
		t.Error("two salts give one hash")
	}
}

// FuzzMatches feeds stored hashes of any shape: none is dangerous, and only one
// of the right shape can match.
func FuzzMatches(f *testing.F) {
	good, _ := hashSecret("x", make([]byte, saltLen), 1)
	f.Add(good)
	f.Add("pbkdf2-sha256$0$$")
	f.Add("pbkdf2-sha256$99999999999999999999$AA$AA")
	f.Fuzz(func(t *testing.T, stored string) {
		if strings.HasPrefix(stored, "pbkdf2-sha256$") && !strings.HasPrefix(stored, "pbkdf2-sha256$1$") {
			return // many rounds only take long
		}
		if matches(stored, "y") {
			t.Errorf("%q matches", stored)
		}
	})
}
