package hsm

import (
	"bytes"
	"errors"
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

func FuzzPrimes(f *testing.F) {
	f.Add([]byte("# none\n"))
	f.Add([]byte("1024 zz 00\n"))
	f.Add([]byte("16 f1 fb"))
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := parsePrimes(in)
		if err != nil && !errors.Is(err, ErrPrimes) {
			t.Fatal(err)
		}
		if err == nil && len(p.keys) > 0 {
			for bits := range p.keys {
				if k, err := p.next(bits); err != nil || len(k)*8 != bits {
					t.Errorf("%d bits: %d bytes, %v", bits, len(k), err)
				}
			}
		}
	})
}
