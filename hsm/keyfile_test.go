package hsm

import (
	"bytes"
	"testing"
)

func FuzzParseKeyFile(f *testing.F) {
	good := keyFileText(bytes.Repeat([]byte{7, 9}, 16))
	f.Add(good)
	f.Add(good[:50])
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		master, err := parseKeyFile(text)
		if err != nil {
			return
		}
		again, err := parseKeyFile(keyFileText(master))
		if err != nil || !bytes.Equal(again, master) {
			t.Errorf("%q does not come back: %v", text, err)
		}
	})
}
