package openkey_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"

	"koala/internal/openkey"
)

func keyOf(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func publicOf(n byte) ed25519.PublicKey { return keyOf(n).Public().(ed25519.PublicKey) }

func TestCheck(t *testing.T) {
	book := openkey.Book{openkey.Of(openkey.Bills, publicOf(1)), openkey.Of(openkey.Slips, publicOf(2))}
	message := []byte("message")
	good := ed25519.Sign(keyOf(1), message)
	for _, tt := range []struct {
		name, id string
		use      openkey.Use
		sig      []byte
		want     error
	}{
		{"good", book[0].ID, openkey.Bills, good, nil},
		{"another use", book[0].ID, openkey.Slips, good, openkey.ErrUnknown},
		{"another key", book[1].ID, openkey.Slips, good, openkey.ErrSignature},
		{"no signature", book[0].ID, openkey.Bills, nil, openkey.ErrSignature},
		{"no key", "", openkey.Bills, good, openkey.ErrUnknown},
	} {
		if err := book.Check(tt.use, tt.id, message, tt.sig); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestID holds ids to RFC 8032, 7.1, test 1: the public key there, and the
// first bytes of its SHA-256 as sha256sum gives them.
func TestID(t *testing.T) {
	book, err := openkey.Parse([]byte(rfcBook))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(book.JSON()); got != rfcBook {
		t.Errorf("written back:\n%s", got)
	}
}

const rfcBook = `{
  "keys": [
    {
      "id": "21fe31dfa154a261",
      "use": "bill",
      "kind": "Ed25519",
      "public": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
      "pem": "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n"
    }
  ]
}
`

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":      "",
		"no keys":      `{"keys":[]}`,
		"another id":   strings.Replace(rfcBook, "21fe", "21ff", 1),
		"another key":  strings.Replace(rfcBook, "d75a", "d75b", 1),
		"another form": strings.Replace(rfcBook, "MCow", "MCox", 1),
		"another kind": strings.Replace(rfcBook, "Ed25519", "RSA", 1),
		"a short key":  strings.Replace(rfcBook, "07511a", "07", 1),
	} {
		if _, err := openkey.Parse([]byte(text)); !errors.Is(err, openkey.ErrBook) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(rfcBook))
	f.Add([]byte(`{"keys":[{}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		book, err := openkey.Parse(text)
		if err != nil {
			return
		}
		again, err := openkey.Parse(book.JSON())
		if err != nil || len(again) != len(book) || !bytes.Equal(again.JSON(), book.JSON()) {
			t.Errorf("written back: %v", err)
		}
	})
}
