package terminal

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// An image keeps every byte, whatever a sector ends with: only FF is erased.
func TestImageKeepsHighBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := append([]byte{1}, rapid.SliceOfN(rapid.ByteRange(0x7E, 0xFF), 0, 40).Draw(t, "value")...)
		b := OpenBank(NewFlash(2))
		if err := b.Put(1, value); err != nil {
			t.Fatal(err)
		}
		f, err := RestoreFlash(b.f.Image())
		if err != nil {
			t.Fatal(err)
		}
		if got := OpenBank(f).Value(); !bytes.Equal(got, value) {
			t.Fatalf("%X comes back as %X", value, got)
		}
	})
}
