package firmware_test

import (
	"bytes"
	"crypto/ed25519"
	"testing"

	"koala/spec/firmware"
)

// What is parsed is written back the same.
func FuzzParse(f *testing.F) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	sign := func(b []byte) ([]byte, error) { return ed25519.Sign(key, b), nil }
	signed, _ := firmware.Release{Version: 2, Modules: []firmware.Module{{LoadFile: "\xF0koala\x03", Module: "\xF0koala\x03\x01", Version: [2]byte{1, 0}}}, EN: "a", ZH: "甲"}.Sign(sign)
	f.Add(signed)
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := firmware.Parse(in)
		if err != nil {
			return
		}
		again, err := r.Sign(func([]byte) ([]byte, error) { return in[len(in)-64:], nil })
		if err != nil || !bytes.Equal(again, in) {
			t.Errorf("%x writes %x (%v)", in, again, err)
		}
	})
}
