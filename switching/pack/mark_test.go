package pack_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"koala/switching/pack"
)

// TestMark: the bytes of docs/terminal-protocol.md, Parameter packs.
func TestMark(t *testing.T) {
	for _, tt := range []struct {
		mark pack.Mark
		hex  string
	}{
		{pack.Mark{There: true, Number: 6}, "DF7A0400000006"},
		{pack.Mark{There: true, Number: 7, Result: pack.InUse, Ends: true}, "DF7A0400000007DF7C0100"},
		{pack.Mark{There: true, Number: 7, Result: pack.BadSign, Ends: true}, "DF7A0400000007DF7C0101"},
		{pack.Mark{There: true, Number: 7, Black: 9, Signature: make([]byte, 64)}, "DF7A0400000007DF7D0400000009DF7B40" + hex.EncodeToString(make([]byte, 64))},
	} {
		want, err := hex.DecodeString(tt.hex)
		if err != nil {
			t.Fatal(err)
		}
		if got := tt.mark.Append(nil); !bytes.Equal(got, want) {
			t.Errorf("%+v is %X, want %X", tt.mark, got, want)
		}
		name := []byte{0x9F, 0x22, 1, 4}
		before, m := pack.Cut(append(bytes.Clone(name), want...))
		if !bytes.Equal(before, name) || m.Number != tt.mark.Number || m.Black != tt.mark.Black || m.Ends != tt.mark.Ends || m.Result != tt.mark.Result || !bytes.Equal(m.Signature, tt.mark.Signature) {
			t.Errorf("%X reads as %X and %+v", want, before, m)
		}
	}
	for _, none := range []string{"", "00", "DF7A03000000", "DF7A0400000001DF0500", "DF7A0400000001DF7B0100", "DF7A04000000"} {
		in, err := hex.DecodeString(none)
		if err != nil {
			t.Fatal(err)
		}
		if before, m := pack.Cut(in); m.There || !bytes.Equal(before, in) {
			t.Errorf("%s reads as %+v", none, m)
		}
	}
}

// FuzzCut: what is cut is written back the same, in the order of the protocol.
func FuzzCut(f *testing.F) {
	f.Add(pack.Mark{Number: 7, Black: 1, Signature: make([]byte, 64)}.Append([]byte{0x9F, 0x22, 1, 4}))
	f.Add(pack.Mark{Number: 7, Ends: true}.Append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		before, m := pack.Cut(in)
		if !m.There {
			if !bytes.Equal(before, in) {
				t.Errorf("%X loses bytes", in)
			}
			return
		}
		again := m.Append(bytes.Clone(before))
		b2, m2 := pack.Cut(again)
		if !bytes.Equal(b2, before) || m2.Number != m.Number || m2.Ends != m.Ends || m2.Result != m.Result || !bytes.Equal(m2.Signature, m.Signature) {
			t.Errorf("%X reads as %+v, again as %+v", in, m, m2)
		}
	})
}
