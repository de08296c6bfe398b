package pboc_test

import (
	"bytes"
	"testing"

	"koala/spec/iso7816"
	"koala/spec/pboc"
)

func same(t *testing.T, in, out []byte) {
	t.Helper()
	if !bytes.Equal(in, out) {
		t.Errorf("%X writes %X", in, out)
	}
}

// FuzzParsers: what parses writes back the same, whatever the bytes.
func FuzzParsers(f *testing.F) {
	options := pboc.Options{AIP: [2]byte{0x7C, 0}, AFL: unhex("10010101"), CTQ: []byte{0, 0}, PSN: []byte{1}}
	for _, seed := range [][]byte{
		unhex("07010103A00000010A010000038787868FD1FC"), pboc.Bus{Valid: 1}.Bytes(), options.Bytes(),
		pboc.FileBytes([]pboc.File{{SFI: 0x15, Kind: pboc.Cyclic, MaxRecord: 16, Size: 48}}),
		pboc.LoadEntry{Tag: 0x9F79, Old: 1, New: 2}.Bytes(), pboc.SignedLoadLog{ATC: 1, Entries: []pboc.LoadEntry{{Tag: 0x9F79}}}.Bytes(),
		pboc.LogEntry{Amount: 5}.Bytes(), unhex("000000001234"), unhex("9F10080701010300000001"), unhex("A5045002AABB"),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if x, err := pboc.ParseIAD(in); err == nil {
			same(t, in, x.Bytes())
		}
		if x, err := pboc.ParseBus(in); err == nil {
			same(t, in, x.Bytes())
		}
		if x, err := pboc.ParseOptions(in); err == nil {
			same(t, in, x.Bytes())
		}
		if x, err := pboc.ParseFiles(in); err == nil {
			same(t, in, pboc.FileBytes(x))
		}
		if x, err := pboc.ParseLoadEntry(in); err == nil {
			same(t, in, x.Bytes())
		}
		if x, err := pboc.ParseSignedLoadLog(in); err == nil {
			same(t, in, x.Bytes())
		}
		if x, err := pboc.ParseLogEntry(in); err == nil {
			same(t, in, x.Bytes())
		}
		if x, err := pboc.ParseAmount(in); err == nil {
			b := pboc.Amount(x)
			same(t, in, b[:])
		}
		_, _ = pboc.ParseApplication(in)
		_, _ = pboc.ParseFCI(in)
	})
}

// FuzzCommands: commands are read as they are written, and any of them can be
// explained.
func FuzzCommands(f *testing.F) {
	f.Add(unhex("80B400A80A02211122334455667788"), unhex("9000"))
	f.Add(unhex("84DE00A80C2703000801020304AF3E93B3"), unhex("CCD7F4CE9000"))
	f.Add(unhex("04DA9F790A000000005000AE268094"), unhex("6A80"))
	k := pboc.NewKey(pboc.TripleDES, [16]byte{1})
	f.Fuzz(func(t *testing.T, in, out []byte) {
		c, err := iso7816.ParseCommand(in)
		if err != nil {
			return
		}
		r, _ := iso7816.ParseResponse(out)
		pboc.Explain(c, r)
		if x, err := pboc.ParseReadCAPP(c); err == nil {
			back := x.Command()
			if back.P2 != c.P2 || !bytes.Equal(back.Data, c.Data) {
				t.Errorf("%v writes %v", c, back)
			}
		}
		_, _ = k.OpenCAPP(c, 1)
		_, _ = k.Unprotect(c, 1, [8]byte{})
		_, _ = pboc.OpenPINChange(k, [16]byte{}, c.Data, nil)
	})
}
