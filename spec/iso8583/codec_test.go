package iso8583

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// posHead is a TPDU and header of the POS dialect.
const posHead = "6000030000603100310100"

func TestUnpackRefuses(t *testing.T) {
	pos := func(bits, rest string) string { return posHead + "0200" + bits + rest }
	const none = "0000000000000000"
	asc := func(s string) string { return hexOf(s) }
	for _, tt := range []struct {
		name  string
		spec  *Spec
		in    string
		field int
		at    int
		want  error
	}{
		{"nothing", UnionPayPOS(), "", PartHeader, 0, ErrShort},
		{"half a header", UnionPayPOS(), posHead[:20], PartHeader, 0, ErrShort},
		{"no TPDU", UnionPayPOS(), "61" + posHead[2:] + "0800" + none, PartHeader, 0, ErrHeader},
		{"no type", UnionPayPOS(), posHead, PartMTI, 11, ErrShort},
		{"half a type", UnionPayPOS(), posHead + "08", PartMTI, 11, ErrShort},
		{"letters in the type", UnionPayPOS(), posHead + "0A00" + none, PartMTI, 11, ErrMTI},
		{"half a bitmap", UnionPayPOS(), posHead + "080000000000", PartBitmap, 13, ErrShort},
		{"bit 1 of 64", UnionPayPOS(), pos("8000000000000000", ""), PartBitmap, 13, ErrBitmap},
		{"unknown field 5", UnionPayPOS(), pos("0800000000000000", "000000000000"), 5, 21, ErrNoField},
		{"field 3 missing", UnionPayPOS(), pos("2000000000000000", ""), 3, 21, ErrShort},
		{"field 3 cut", UnionPayPOS(), pos("2000000000000000", "0000"), 3, 21, ErrShort},
		{"field 3 with a letter", UnionPayPOS(), pos("2000000000000000", "00000B"), 3, 21, ErrDigits},
		{"field 3 and more", UnionPayPOS(), pos("2000000000000000", "00000000"), 3, 24, ErrTrails},
		{"no field and more", UnionPayPOS(), pos(none, "00"), PartBitmap, 21, ErrTrails},
		{"field 22 filled with 5", UnionPayPOS(), pos("0000040000000000", "0715"), 22, 21, ErrPadding},
		{"field 22 filled with F", UnionPayPOS(), pos("0000040000000000", "071F"), 22, 21, ErrPadding},
		{"field 22 ends in a letter", UnionPayPOS(), pos("0000040000000000", "07A0"), 22, 21, ErrDigits},
		{"field 23 filled with 1", UnionPayPOS(), pos("0000020000000000", "1001"), 23, 21, ErrPadding},
		{"field 23 begins with a letter", UnionPayPOS(), pos("0000020000000000", "0C01"), 23, 21, ErrDigits},
		{"PAN of 20 digits", UnionPayPOS(), pos("4000000000000000", "2062242420000000211234"), 2, 21, ErrLong},
		{"PAN of 1A digits", UnionPayPOS(), pos("4000000000000000", "1A62242420000000211234"), 2, 21, ErrPrefix},
		{"PAN without length", UnionPayPOS(), pos("4000000000000000", ""), 2, 21, ErrShort},
		{"PAN cut", UnionPayPOS(), pos("4000000000000000", "16622424"), 2, 21, ErrShort},
		{"field 60 of 1000", UnionPayPOS(), pos("0000000000000010", "1000"+strings.Repeat("00", 500)), 60, 21, ErrLong},
		{"field 62 overlong LLLVAR", UnionPayPOS(), pos("0000000000000004", "9999"+strings.Repeat("00", 999)), 62, 21, ErrLong},
		{"field 62 shorter than it says", UnionPayPOS(), pos("0000000000000004", "000200"), 62, 21, ErrShort},
		{"field 41 with a control", UnionPayPOS(), pos("0000000000800000", "3130303136390A39"), 41, 21, ErrText},
		{"field 41 with GBK", UnionPayPOS(), pos("0000000000800000", "31303031363900B3"), 41, 21, ErrText},
		{"type in letters", ISO87ASCII(), asc("02O00000000000000000"), PartMTI, 0, ErrMTI},
		{"bitmap in lower case", ISO87ASCII(), asc("0800000000000000000a"), PartBitmap, 4, ErrBitmap},
		{"bitmap no hex", ISO87ASCII(), asc("080000000000000000G0"), PartBitmap, 4, ErrBitmap},
		{"second bitmap missing", ISO87ASCII(), asc("08008000000000000000"), PartBitmap, 4, ErrShort},
		{"field 65 announced", ISO87ASCII(), asc("080080000000000000008000000000000000"), PartBitmap, 4, ErrBitmap},
		{"two bitmaps and bit 1", ISO87ASCIIBoth(), asc("080080000000000000000000000000000000"), PartBitmap, 4, ErrBitmap},
		{"length no number", ISO87ASCII(), asc("02004000000000000000" + "1x1"), 2, 20, ErrPrefix},
		{"amount with letters", ISO87ASCII(), asc("02001000000000000000" + "00000000001x"), 4, 20, ErrDigits},
		{"fee without sign", ISO87ASCII(), asc("02000000001000000000" + "000000001"), 28, 20, ErrSign},
		{"fee with letters", ISO87ASCII(), asc("02000000001000000000" + "C0000000x"), 28, 20, ErrDigits},
		{"header of another length", UnionPayInterchange(), head46("9999") + asc("0800") + none, PartHeader, 0, errHeadTotal},
		{"header with letters", UnionPayInterchange(), head46("00x6") + asc("0800") + none, PartHeader, 0, ErrHeader},
		{"header cut", UnionPayInterchange(), head46("0046")[:60], PartHeader, 0, ErrShort},
		{"far too long", UnionPayPOS(), pos(none, strings.Repeat("00", MaxMessage)), PartHeader, MaxMessage, ErrLong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m Message
			err := m.Unpack(tt.spec, unhex(t, tt.in))
			var f *FieldError
			if !errors.As(err, &f) || !errors.Is(err, tt.want) || f.Field != tt.field || f.Offset != tt.at {
				t.Fatalf("%v, want field %d at %d: %v", err, tt.field, tt.at, tt.want)
			}
			for range m.Fields() {
				t.Error("fields are left over")
			}
		})
	}
}

func hexOf(s string) string {
	const digits = "0123456789ABCDEF"
	var out strings.Builder
	for i := range len(s) {
		out.WriteByte(digits[s[i]>>4])
		out.WriteByte(digits[s[i]&15])
	}
	return out.String()
}

// head46 is an interchange header with the given length digits.
func head46(total string) string {
	return "2E02" + hexOf(total+"03050001   00010000   ") + "414139" + "01" + hexOf("00000000") + "00" + hexOf("00000")
}

func TestErrorsNameNoValue(t *testing.T) {
	var m Message
	err := m.Unpack(ISO87ASCII(), []byte("02004000000000000000"+"166224242000000x21"))
	if err == nil || err.Error() != "iso8583: iso87-ascii: field 2 at byte 20: not digits" {
		t.Error(err)
	}
}

func TestPackRefuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		field int
		value string
		where int
		want  error
	}{
		{"amount too long", 4, "0000000000001", 4, ErrLong},
		{"amount with a letter", 4, "1x", 4, ErrDigits},
		{"code too short", 3, "00", 3, ErrLength},
		{"PAN too long", 2, "12345678901234567890", 2, ErrLong},
		{"track", 35, "1234G", 35, ErrTrack},
		{"terminal with a control", 41, "1234567\n", 41, ErrText},
		{"PIN of 7 bytes", 52, "1234567", 52, ErrLength},
		{"field of another dialect", 18, "5411", 18, ErrNoField},
		{"field above 64", 100, "1", PartBitmap, ErrBitmap},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m Message
			m.Reset(UnionPayPOS(), "0200")
			m.SetHead(unhex(t, posHead))
			m.SetText(tt.field, tt.value)
			out, err := m.AppendTo([]byte{1})
			var f *FieldError
			if !errors.Is(err, tt.want) || !errors.As(err, &f) || f.Field != tt.where || len(out) != 1 {
				t.Errorf("%v and %d bytes, want field %d: %v", err, len(out), tt.where, tt.want)
			}
			if strings.Contains(err.Error(), tt.value) && len(tt.value) > 3 {
				t.Errorf("%v tells the value", err)
			}
		})
	}
	var m Message
	m.Reset(UnionPayPOS(), "200")
	if _, err := m.AppendTo(nil); !errors.Is(err, ErrHeader) {
		t.Errorf("without header: %v", err)
	}
	m.SetHead(unhex(t, posHead))
	if _, err := m.AppendTo(nil); !errors.Is(err, ErrMTI) {
		t.Errorf("type of three digits: %v", err)
	}
}

func TestShortValuesAreFilled(t *testing.T) {
	for _, tt := range []struct {
		spec  *Spec
		field int
		value string
		want  string // hexadecimal behind the bitmap
	}{
		{UnionPayPOS(), 4, "1", "000000000001"},
		{UnionPayPOS(), 4, "", "000000000000"},
		{UnionPayPOS(), 11, "79", "000079"},
		{UnionPayPOS(), 22, "071", "0710"},
		{UnionPayPOS(), 23, "1", "0001"},
		{UnionPayPOS(), 23, "123", "0123"},
		{UnionPayPOS(), 2, "123", "031230"},
		{UnionPayPOS(), 35, "12=3", "0412D3"},
		{UnionPayPOS(), 35, "1D3", "031D30"},
		{UnionPayPOS(), 41, "T1", "5431202020202020"},
		{UnionPayPOS(), 60, "22000727000", "00112200072700 00"},
		{UnionPayPOS(), 55, "", "0000"},
		{ISO87ASCII(), 4, "1", hexOf("000000000001")},
		{ISO87ASCII(), 2, "123", hexOf("03123")},
		{ISO87ASCII(), 62, "", hexOf("000")},
		{UnionPayInterchange(), 43, "A", hexOf("A" + strings.Repeat(" ", 39))},
	} {
		var m Message
		m.Reset(tt.spec, "0200")
		if tt.spec.Head == POSHead {
			m.SetHead(unhex(t, posHead))
		}
		m.SetText(tt.field, tt.value)
		out, err := m.AppendTo(nil)
		want := unhex(t, tt.want)
		if err != nil || !bytes.HasSuffix(out, want) {
			t.Errorf("field %d %q writes %X, %v, want ...%X", tt.field, tt.value, out, err, want)
			continue
		}
		var again Message
		if err := again.Unpack(tt.spec, out); err != nil {
			t.Errorf("field %d: %v", tt.field, err)
		}
	}
}

func TestAccessors(t *testing.T) {
	var m Message
	m.Reset(ISO87ASCII(), "0200")
	m.Set(52, nil)
	m.SetText(4, "100")
	m.SetText(128, "12345678")
	m.Delete(52)
	if m.Has(52) || m.Get(52) != nil || m.Text(4) != "100" || !m.Has(128) || m.MTI() != "0200" {
		t.Error("values are not what was set")
	}
	defer func() {
		if recover() == nil {
			t.Error("field 129 was taken")
		}
	}()
	m.Set(129, nil)
}

func TestAnswerTo(t *testing.T) {
	var req, answer Message
	if err := req.Unpack(UnionPayPOS(), unhex(t, "6000030001"+"603100310100"+hexBody(t))); err != nil {
		t.Fatal(err)
	}
	if err := answer.AnswerTo(&req, "00"); err != nil {
		t.Fatal(err)
	}
	answer.SetText(37, "000000000001")
	out, err := answer.AppendTo(nil)
	if err != nil || !bytes.HasPrefix(out, unhex(t, "6000010003"+"603100310100"+"0210")) {
		t.Fatalf("%X, %v", out, err)
	}
	for n, want := range map[int]string{2: req.Text(2), 4: "000000001111", 11: "000079", 39: "00", 41: "10016919", 49: "156", 60: req.Text(60)} {
		if answer.Text(n) != want {
			t.Errorf("field %d is %q, want %q", n, answer.Text(n), want)
		}
	}
	for _, n := range []int{14, 35, 52, 55, 64} {
		if answer.Has(n) {
			t.Errorf("field %d is echoed", n)
		}
	}
	for mti, want := range map[string]string{"0800": "0810", "0221": "0230", "0401": "0410", "0420": "0430", "0820": "0830", "0620": "0630", "0210": "", "0830": "", "0x00": ""} {
		req.SetMTI(mti)
		if err := answer.AnswerTo(&req, ""); (err != nil) != (want == "") || err == nil && answer.MTI() != want {
			t.Errorf("%s is answered with %s, %v, want %s", mti, answer.MTI(), err, want)
		}
	}
}

// hexBody is pos-pay-request without TPDU and header.
func hexBody(t testing.TB) string { return hexOf(string(full(t)[POSHeadLen:])) }

func TestInterchangeHeaderOfAnswers(t *testing.T) {
	body := "0800" + string([]byte{0x02, 0x20, 0, 0, 0, 0, 0, 0}) + "0825112400" + "000001"
	in := append(unhex(t, head46("0074")), body...)
	var req, answer Message
	if err := req.Unpack(UnionPayInterchange(), in); err != nil {
		t.Fatal(err)
	}
	if err := answer.AnswerTo(&req, "00"); err != nil {
		t.Fatal(err)
	}
	out, err := answer.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := ParseInterchangeHeader(out)
	if err != nil || h.Total != len(out) || string(h.Destination[:]) != "00010000   " || answer.MTI() != "0810" {
		t.Errorf("%+v of %d bytes, %v", h, len(out), err)
	}
}

// TestRefusedMessageHasTwoHeaders: with a reject code the original header
// follows.
func TestRefusedMessageHasTwoHeaders(t *testing.T) {
	body := unhex(t, hexOf("0800")+"0000000000000000")
	outer := unhex(t, head46("0104"))
	copy(outer[41:], "00012")
	in := append(append(outer, unhex(t, head46("0058"))...), body...)
	var m Message
	if err := m.Unpack(UnionPayInterchange(), in); err != nil {
		t.Fatal(err)
	}
	out, err := m.AppendTo(nil)
	if err != nil || !bytes.Equal(out, in) || len(m.Head()) != 92 {
		t.Errorf("%X, %v", out, err)
	}
	copy(in[41:], "00000")
	if err := m.Unpack(UnionPayInterchange(), in); !errors.Is(err, ErrMTI) {
		t.Errorf("two headers and nothing refused: %v", err)
	}
	m.Reset(UnionPayInterchange(), "0800")
	m.SetHead(in[:92])
	if _, err := m.AppendTo(nil); !errors.Is(err, ErrHeader) {
		t.Errorf("written with two headers and nothing refused: %v", err)
	}
}

func TestFrames(t *testing.T) {
	stream, err := AppendFrame(nil, []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	stream, _ = AppendFrame(stream, nil)
	stream, _ = AppendFrame(stream, []byte("three"))
	var got []string
	for rest := stream; len(rest) > 0; {
		var m []byte
		if m, rest, err = NextFrame(rest); err != nil {
			t.Fatal(err)
		}
		got = append(got, string(m))
	}
	if strings.Join(got, "|") != "one||three" {
		t.Errorf("%q", got)
	}
	for _, tt := range []struct {
		in   string
		want error
	}{{"", ErrShort}, {"00", ErrShort}, {"0003AABB", ErrShort}, {"FFFF", ErrFrame}, {"2710", ErrFrame}} {
		if _, _, err := NextFrame(unhex(t, tt.in)); err != tt.want {
			t.Errorf("%s: %v, want %v", tt.in, err, tt.want)
		}
	}
	if _, err := AppendFrame(nil, make([]byte, MaxMessage+1)); err != ErrFrame {
		t.Errorf("a message too long: %v", err)
	}
	if m, framed := Unframe(full(t)); framed || len(m) != len(full(t)) {
		t.Error("a message without length was taken for one with")
	}
}

// TestNothingIsAllocated holds the figure that the codec is built for.
func TestNothingIsAllocated(t *testing.T) {
	in, out := full(t), make([]byte, 0, 1024)
	key, err := NewKey(bytes.Repeat([]byte{0x22}, 16))
	if err != nil {
		t.Fatal(err)
	}
	var m, answer Message
	spec := UnionPayPOS()
	for name, work := range map[string]func() error{
		"unpack":       func() error { return m.Unpack(spec, in) },
		"unpack, pack": func() error { _ = m.Unpack(spec, in); _, err := m.AppendTo(out[:0]); return err },
		"seal":         func() error { _ = m.Unpack(spec, in); _, err := m.Seal(out[:0], key); return err },
		"verify": func() error {
			if err := m.Unpack(spec, in); err != nil {
				return err
			}
			if err := m.Verify(key); err != ErrMAC {
				return errors.New("another key verifies")
			}
			return nil
		},
		"answer": func() error { _ = m.Unpack(spec, in); return answer.AnswerTo(&m, "00") },
		"build and seal for the interchange": func() error {
			m.Reset(UnionPayInterchange(), "0200")
			m.SetText(2, "6224242300000069")
			m.SetText(4, "1111")
			m.SetText(41, "10016919")
			_, err := m.Seal(out[:0], key)
			return err
		},
	} {
		if err := work(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := testing.AllocsPerRun(100, func() { _ = work() }); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

// draw gives a value that field f takes.
func draw(t *rapid.T, f Field) string {
	n := f.Max
	if f.Digits > 0 {
		n = rapid.IntRange(0, min(f.Max, 120)).Draw(t, "len")
	}
	switch f.Class {
	case Numeric:
		return rapid.StringOfN(rapid.RuneFrom([]rune("0123456789")), n, n, -1).Draw(t, "digits")
	case Track, HexTrack:
		return rapid.StringOfN(rapid.RuneFrom([]rune("0123456789D")), n, n, -1).Draw(t, "track")
	case Signed:
		return "D" + rapid.StringOfN(rapid.RuneFrom([]rune("0123456789")), n-1, n-1, -1).Draw(t, "digits")
	case Alpha:
		return rapid.StringOfN(rapid.RuneFrom([]rune("AZaz09 ~")), n, n, -1).Draw(t, "text")
	}
	return string(rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "bytes"))
}

// drawMessage gives a message with any fields of a dialect.
func drawMessage(t *rapid.T, s *Spec) *Message {
	m := new(Message)
	m.Reset(s, rapid.StringMatching(`0[1-8][0-4][01]`).Draw(t, "mti"))
	if s.Head == POSHead {
		m.SetHead(POSHeader{Destination: rapid.Uint16().Draw(t, "to"), Application: 0x60}.AppendTo(nil))
	}
	for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(2, MaxField), 0, 30, rapid.ID[int]).Draw(t, "fields") {
		if f, ok := s.Field(n); ok {
			m.SetText(n, draw(t, f))
		}
	}
	return m
}

func TestWhatIsSetIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(Specs()).Draw(t, "spec")
		m := drawMessage(t, s)
		out, err := m.AppendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		var again Message
		if err := again.Unpack(s, out); err != nil {
			t.Fatalf("%X: %v", out, err)
		}
		for n := 2; n <= MaxField; n++ {
			if m.Has(n) != again.Has(n) || m.Text(n) != again.Text(n) {
				t.Fatalf("field %d was %q, reads %q", n, m.Text(n), again.Text(n))
			}
		}
		Describe(&again, Options{})
		Describe(&again, Options{Clear: true})
	})
}

func FuzzUnpack(f *testing.F) {
	for _, p := range messages(f) {
		in, _ := Unframe(unhex(f, p.Hex))
		for i := range Specs() {
			f.Add(byte(i), in)
		}
	}
	f.Fuzz(func(t *testing.T, which byte, in []byte) {
		s := Specs()[int(which)%len(Specs())]
		var m, answer Message
		if err := m.Unpack(s, in); err != nil {
			var e *FieldError
			if !errors.As(err, &e) || e.Offset < 0 || e.Offset > max(len(in), MaxMessage) {
				t.Fatalf("%v", err)
			}
			if s == UnionPayPOS() && m.Salvage(s, in, 13, err) != 0 { // what is left of it is a message
				if _, err := m.AppendTo(nil); err != nil {
					t.Fatalf("salvaged, it does not write: %v", err)
				}
			}
			return
		}
		out, err := m.AppendTo(nil)
		if err != nil || !bytes.Equal(out, in) {
			t.Fatalf("%X writes %X, %v", in, out, err)
		}
		Describe(&m, Options{})
		Describe(&m, Options{Clear: true})
		if answer.AnswerTo(&m, "96") == nil {
			if _, err := answer.AppendTo(nil); err != nil {
				t.Fatalf("the answer: %v", err)
			}
		}
	})
}

func FuzzNextFrame(f *testing.F) {
	f.Add([]byte{0, 3, 'o', 'n', 'e', 0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		m, rest, err := NextFrame(in)
		if err != nil {
			return
		}
		if again, err := AppendFrame(nil, m); err != nil || !bytes.Equal(append(again, rest...), in) {
			t.Errorf("%X writes %X, %v", in, again, err)
		}
	})
}
