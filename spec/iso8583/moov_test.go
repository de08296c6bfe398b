package iso8583_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	moov "github.com/moov-io/iso8583"
	"github.com/moov-io/iso8583/encoding"
	"github.com/moov-io/iso8583/field"
	"github.com/moov-io/iso8583/prefix"
	"pgregory.net/rapid"

	"koala/spec/iso8583"
)

// theirs is a dialect in the words of moov-io/iso8583, an independent codec,
// without header. It leaves out what that codec cannot say: padding, which
// strips zeros when it reads, and packed track data, whose separator it refuses.
func theirs(s *iso8583.Spec) *moov.MessageSpec {
	binary := field.NewBitmap(&field.Spec{Length: 8, Enc: encoding.Binary, Pref: prefix.Binary.Fixed})
	text := field.NewBitmap(&field.Spec{Length: 8, Enc: encoding.BytesToASCIIHex, Pref: prefix.Hex.Fixed})
	lengths, mti, bitmap := prefix.ASCII, field.NewString(&field.Spec{Length: 4, Enc: encoding.ASCII, Pref: prefix.ASCII.Fixed}), binary
	switch {
	case s.MTI == iso8583.BCD:
		lengths, mti = prefix.BCD, field.NewString(&field.Spec{Length: 4, Enc: encoding.BCD, Pref: prefix.BCD.Fixed})
	case s.Bitmap == iso8583.BitmapHex128:
		bitmap = text
	}
	out := &moov.MessageSpec{Fields: map[int]field.Field{0: mti, 1: bitmap}}
	for n := 2; n <= iso8583.MaxField; n++ {
		f, ok := s.Field(n)
		if !ok || f.Coding != iso8583.Plain && (f.Class == iso8583.Track || f.Class == iso8583.HexTrack) {
			continue
		}
		pref := map[int]prefix.Prefixer{0: lengths.Fixed, 2: lengths.LL, 3: lengths.LLL}[f.Digits]
		spec := &field.Spec{Length: f.Max, Enc: encoding.ASCII, Pref: pref}
		switch {
		case f.Coding == iso8583.BCD:
			spec.Enc = encoding.LBCD
		case f.Coding == iso8583.BCDRight:
			spec.Enc = encoding.BCD
		case f.Class == iso8583.Binary || f.Class == iso8583.Text:
			spec.Enc = encoding.Binary
		}
		if f.Digits == 0 && spec.Enc == encoding.Binary {
			spec.Pref = prefix.Binary.Fixed
		}
		if f.Class == iso8583.Binary {
			out.Fields[n] = field.NewBinary(spec)
		} else {
			out.Fields[n] = field.NewString(spec)
		}
	}
	return out
}

// dialects are those that both codecs can say.
func dialects() []*iso8583.Spec {
	return []*iso8583.Spec{iso8583.UnionPayPOS(), iso8583.UnionPayInterchange(), iso8583.ISO87ASCII()}
}

// value draws what field f takes; nothing empty, which the other codec does not
// tell from absent.
func value(t *rapid.T, f iso8583.Field) []byte {
	n := f.Max
	if f.Digits > 0 {
		n = rapid.IntRange(1, min(f.Max, 60)).Draw(t, "len")
	}
	digits := rapid.SampledFrom([]byte("0123456789"))
	switch f.Class {
	case iso8583.Numeric, iso8583.Track, iso8583.HexTrack:
		return rapid.SliceOfN(digits, n, n).Draw(t, "digits")
	case iso8583.Signed:
		return append([]byte("C"), rapid.SliceOfN(digits, n-1, n-1).Draw(t, "digits")...)
	case iso8583.Alpha:
		return rapid.SliceOfN(rapid.ByteRange(0x20, 0x7E), n, n).Draw(t, "text")
	}
	return rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "bytes")
}

// TestAnotherCodecAgrees builds messages with both codecs and reads each
// other's bytes.
func TestAnotherCodecAgrees(t *testing.T) {
	for _, s := range dialects() {
		spec := theirs(s)
		t.Run(s.Name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { agree(t, s, spec) })
		})
	}
}

func agree(t *rapid.T, s *iso8583.Spec, spec *moov.MessageSpec) {
	var ours iso8583.Message
	ours.Reset(s, "0200")
	if s.Head == iso8583.POSHead {
		ours.SetHead(iso8583.POSHeader{}.AppendTo(nil))
	}
	other := moov.NewMessage(spec)
	other.MTI("0200")
	values := map[int][]byte{}
	for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(2, iso8583.MaxField), 1, 24, rapid.ID[int]).Draw(t, "fields") {
		f, ok := s.Field(n)
		if _, both := spec.Fields[n]; !ok || !both {
			continue
		}
		v := value(t, f)
		values[n] = v
		ours.Set(n, v)
		if err := other.BinaryField(n, v); err != nil {
			t.Fatal(err)
		}
	}
	mine, err := ours.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	mine = mine[len(ours.Head()):]
	packed, err := other.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(mine, packed) {
		t.Fatalf("we write %X, they write %X", mine, packed)
	}
	again := moov.NewMessage(spec)
	if err := again.Unpack(mine); err != nil {
		t.Fatalf("they do not read %X: %v", mine, err)
	}
	for n, v := range values {
		if got, err := again.GetBytes(n); err != nil || !bytes.Equal(got, v) {
			t.Fatalf("field %d: they read %q, %v, want %q", n, got, err, v)
		}
	}
}

// TestWhatWeTakeTheyTake mutates good messages: whatever we take, the
// other codec takes with the same values.
func TestWhatWeTakeTheyTake(t *testing.T) {
	for _, s := range dialects() {
		spec := theirs(s)
		t.Run(s.Name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { torn(t, s, spec) })
		})
	}
}

func torn(t *rapid.T, s *iso8583.Spec, spec *moov.MessageSpec) {
	var m iso8583.Message
	m.Reset(s, "0210")
	if s.Head == iso8583.POSHead {
		m.SetHead(iso8583.POSHeader{}.AppendTo(nil))
	}
	for _, n := range []int{2, 3, 4, 11, 37, 39, 41, 48, 60} {
		f, _ := s.Field(n)
		m.Set(n, value(t, f))
	}
	in, err := m.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	head := len(m.Head())
	at := rapid.IntRange(head, len(in)-1).Draw(t, "at")
	in[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
	var again iso8583.Message
	if again.Unpack(s, in) != nil {
		return
	}
	other := moov.NewMessage(spec)
	if err := other.Unpack(in[head:]); err != nil {
		if again.Has(35) || again.Has(36) {
			return // packed tracks, see theirs
		}
		t.Fatalf("we read %X, they say %v", in, err)
	}
	for n, v := range again.Fields() {
		if got, err := other.GetBytes(n); err != nil || !bytes.Equal(got, v) {
			t.Fatalf("%s: field %d is %q, they read %q, %v", hex.EncodeToString(in), n, v, got, err)
		}
	}
}

// TestTheyReadThePublishedMessages gives the other codec the published messages
// that it can say.
func TestTheyReadThePublishedMessages(t *testing.T) {
	text, err := os.ReadFile("testdata/messages.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []struct{ ID, Spec, Hex string }
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, p := range all {
		whole, err := hex.DecodeString(p.Hex)
		if err != nil {
			t.Fatal(err)
		}
		in, _ := iso8583.Unframe(whole)
		for _, s := range dialects() {
			var m iso8583.Message
			if m.Unpack(s, in) != nil {
				continue
			}
			other := moov.NewMessage(theirs(s))
			if err := other.Unpack(in[len(m.Head()):]); err != nil {
				t.Errorf("%s: %v", p.ID, err)
				continue
			}
			read++
			for n, v := range m.Fields() {
				if got, err := other.GetBytes(n); err != nil || !bytes.Equal(got, v) {
					t.Errorf("%s field %d: they read %q, %v, want %q", p.ID, n, got, err, v)
				}
			}
		}
	}
	if read != 14 {
		t.Errorf("%d messages were read by both, want 14", read)
	}
}
