package dialogue_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"koala/spec/dialogue"
)

// The forms that tools write, each with the exchanges it means.
func TestRead(t *testing.T) {
	const want = "00A4040008A000000632010105 < 6F0A8408A0000006320101059000, 805C000204 < 000002E49000"
	for _, tt := range []struct{ name, text, want string }{
		{"arrows", "> 00A4040008A000000632010105\n< 6F0A8408A000000632010105 9000\n> 805C000204\n< 000002E49000\n", want},
		{"arrows, spaced, wrapped lines of scriptor", "Using reader plugged\nUsing T=1 protocol\n> 00 a4 04 00 08 a0 00 00 06 32 01 01 05\n< 6F 0A 84 08 A0 00 00 06 32 01 01 05 90 00 : Normal processing.\n> 80 5c 00 02 04\n< 00 00 02 E4 90 00 : Normal processing.\n", want},
		{"pyscard", "connecting to Virtual PCD 00 00\n> 00 A4 04 00 08 A0 00 00 06 32 01 01 05\n<  6F 0A 84 08 A0 00 00 06 32 01 01 05 90 0 \n> 80 5C 00 02 04\n<  00 00 02 E4 90 0 \ndisconnecting from Virtual PCD 00 00\n", want},
		{"pyscard, status word alone", "> 00 A4 04 00\n<  [] 6A 82\n", "00A40400 < 6A82"},
		{"gp -d", "# gp -l -d\n# SCardConnect(\"Reader\", T=*) -> T=1, 3B8580018073C821100E\nA>> T=1 (4+0008) 00A40400 08 A000000632010105\nA<< (0012+2) (18ms) 6F0A8408A000000632010105 9000\n[DEBUG] GPSession - Auto-detected ISD: A000000151000000\nA>> T=1 (4+0000) 805C0002 04\nA<< (0004+2) (9ms) 000002E4 9000\n# SCardDisconnect(\"Reader\", false) tx:13/rx:2 in 97ms\n", want},
		{"opensc-tool -s", "Using reader with a card: Virtual PCD 00 00\nSending: 00 A4 04 00 08 A0 00 00 06 32 01 01 05 \nReceived (SW1=0x90, SW2=0x00):\n6F 0A 84 08 A0 00 00 06 32 01 01 05             o.......2...\nSending: 80 5C 00 02 04 \nReceived (SW1=0x90, SW2=0x00):\n00 00 02 E4                                     ....\n", want},
		{"opensc-tool, no data", "Sending: 00 A4 04 00 \nReceived (SW1=0x6A, SW2=0x82)\n", "00A40400 < 6A82"},
		{"OpenSC's log", "P:1; T:0x1 14:16:14.709 [opensc-tool] reader-pcsc.c:326:pcsc_transmit: \nOutgoing APDU (13 bytes):\n00 A4 04 00 08 A0 00 00 06 32 01 01 05 .........2...\n\nP:1; T:0x1 14:16:14.717 [opensc-tool] reader-pcsc.c:335:pcsc_transmit: \nIncoming APDU (14 bytes):\n6F 0A 84 08 A0 00 00 06 32 01 01 05 90 00 o.......2.....\n\nP:1 [opensc-tool] apdu.c:382:sc_single_transmit: returning with: 0 (Success)\nOutgoing APDU (5 bytes):\n80 5C 00 02 04 .\\...\nIncoming APDU (6 bytes):\n00 00 02 E4 90 00 ......\n", want},
		{"pcscd --apdu", "00000000 debuglog.c:298:DebugLogSetCategory() Debug options: APDU\n08034970 APDU: 00 A4 04 00 08 A0 00 00 06 32 01 01 05 \n00039562 SW: 6F 0A 84 08 A0 00 00 06 32 01 01 05 90 00 \n00001195 APDU: 80 5C 00 02 04 \n00012482 SW: 00 00 02 E4 90 00 \n", want},
		{"gpshell", "mode_211\nestablish_context\nCommand --> 00A4040008A000000632010105\nWrapped command --> 00A4040008A000000632010105\nResponse <-- 6F0A8408A0000006320101059000\nCommand --> 805C000204\nResponse <-- 000002E49000\n", want},
		{"double arrows", "=> 00 A4 04 00 08 A0 00 00 06 32 01 01 05\n<= 6F 0A 84 08 A0 00 00 06 32 01 01 05 90 00\n>> 80 5C 00 02 04\n<< 00 00 02 E4 90 00\n", want},
		{"words", "C-APDU: 00A4040008A000000632010105\nR-APDU: 6F0A8408A0000006320101059000\nTX: 80 5C 00 02 04\nRX: 00 00 02 E4 90 00\n", want},
		{"plain", "00A4040008A000000632010105\n6F0A8408A0000006320101059000\n805C000204\n000002E49000", want},
		{"JSON lines", `{"c":"00A4040008A000000632010105","r":"6F0A8408A0000006320101059000"}` + "\n" + `{"command":"805C000204","response":"000002E49000"}`, want},
		{"JSON array", `[{"c":"00A4040008A000000632010105","r":"6F0A8408A0000006320101059000"},{"c":"805C000204","r":"000002E49000"}]`, want},
		{"JSON trace", `{"section":"tap","kind":"note","text":"x"}` + "\n" + `{"section":"tap","kind":"apdu","command":"805C000204","answer":"000002E49000"}`, "805C000204 < 000002E49000"},
		{"JSON card", `{"id":"a","card":"b","exchanges":[{"c":"805C000204","r":"000002E49000"},{"c":"","r":"9000"}]}`, "805C000204 < 000002E49000,  < 9000"},
		{"scriptor, a long answer broken", "> 00 B2 01 0C 00\n< 70 16 5A 08 62 24 24 00 00 00 00 18 5F 24 03 35 12 31 5F 34 01 01\n82 00 90 00 : Normal processing.\n", "00B2010C00 < 70165A0862242400000000185F24033512315F34010182009000"},
		{"hidden in a broken line", "> 00 B2 01 0C 00\n< 70 16 5A 08 62 24 24 XX XX 00 00 18 5F 24 03 35 12 31 5F 34 01 01\n82 00 90 00\n", "00B2010C00 < 70165A0862242400000000185F24033512315F34010182009000"},
		{"koala trace", "   band  SELECT  选择\n      >  00A4040008A000000632010105\n      <  6F0A8408A000000632010105\n         9000\n     name                           A000000632010105\n   note  805C000204 is asked\n      >  805C000204\n      <  000002E49000\n", "00A4040008A000000632010105 < 6F0A8408A000000632010105, 805C000204 < 000002E49000"},
		{"koala trace, two cards", `{"where":"band","command":"805C000204","answer":"000002E49000"}` + "\n" + `{"where":"PSAM","command":"00B0960006","answer":"9000"}` + "\n" + `{"where":"band","command":"805C010204"}`, "805C000204 < 000002E49000, 805C010204 < , 00B0960006 < 9000"},
		{"no answer", "> 805C000204\n> 805C010204\n< 9000", "805C000204 < , 805C010204 < 9000"},
		{"objects", "9F36020001", " < 9F36020001"},
		{"colons and 0x", "00:A4:04:00\n0x6A 0x82", "00A40400 < 6A82"},
		{"zeros of a log", "00B201C417\n00000000000000000000000000000000000000000000009000", "00B201C417 < 00000000000000000000000000000000000000000000009000"},
	} {
		list, err := dialogue.Read([]byte(tt.text))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		var got []string
		for _, x := range list {
			for _, e := range x.Exchanges {
				got = append(got, fmt.Sprintf("%X < %X", e.Command, e.Response))
			}
		}
		if g := strings.Join(got, ", "); g != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, g, tt.want)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	for _, tt := range []struct {
		text string
		want error
	}{
		{"", dialogue.ErrText},
		{"hello", dialogue.ErrHex},
		{"123", dialogue.ErrHex},
		{"> 00A4z", dialogue.ErrHex},
		{`{"c":"zz"}`, dialogue.ErrHex},
		{`{"c":`, dialogue.ErrJSON},
		{`{"hello":1}`, dialogue.ErrText},
		{strings.Repeat("00 ", 6<<20), dialogue.ErrLarge},
	} {
		if _, err := dialogue.Read([]byte(tt.text)); !errors.Is(err, tt.want) {
			t.Errorf("%.20q: %v, want %v", tt.text, err, tt.want)
		}
	}
}

// Whatever is read is explained: no panic, no line that says nothing, no
// object without a name, one line an exchange; and the same twice.
func FuzzExplain(f *testing.F) {
	for _, x := range traces(f) {
		var b strings.Builder
		for i, e := range x.Exchanges {
			if i < 12 {
				fmt.Fprintf(&b, "> %X\n< %X\n", e.Command, e.Response)
			}
		}
		f.Add(b.String())
	}
	for _, s := range []string{
		"905A00000333221100\n9100\n90AA0000010000\nC8A331FF8EDD3DB175E1545DBEFB760B91AF", "FFCA000000\n041122339000",
		"00A40400\n6112\n00C0000012\n6F108408A000000151000000A5049F6501FF9000", "84DE00A80C2703000801020304AF3E93B3\n9000",
		"9F4B0102", "> XX5C..0204\n< ........9000", "7081", "8080808080", "04DA9F790A000000005000AE268094",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := dialogue.Read([]byte(text))
		if err != nil {
			return
		}
		for _, x := range list {
			r := dialogue.Explain(x.Exchanges, dialogue.Options{})
			if len(r.Lines) != len(x.Exchanges) {
				t.Errorf("%d lines for %d exchanges", len(r.Lines), len(x.Exchanges))
			}
			for i, l := range r.Lines {
				if l.Explanation.EN == "" || l.Explanation.ZH == "" {
					t.Errorf("line %d says nothing: %+v", i, l)
				}
				if len(l.Command) != 2*len(x.Exchanges[i].Command) || len(l.Response) != 2*len(x.Exchanges[i].Response) {
					t.Errorf("line %d shows %s %s", i, l.Command, l.Response)
				}
				for _, o := range l.Objects {
					if o.Name == "" || o.NameZH == "" {
						t.Errorf("line %d: object %v has no name", i, o.Tag)
					}
				}
				l.Fields()
			}
			if again := dialogue.Explain(x.Exchanges, dialogue.Options{}); rendered(x, again) != rendered(x, r) {
				t.Error("told differently the second time")
			}
		}
	})
}

func FuzzHex(f *testing.F) {
	f.Add("00 A4 .. XX")
	f.Fuzz(func(t *testing.T, s string) {
		raw, mask, err := dialogue.Hex(s)
		if err != nil {
			return
		}
		if mask != nil && len(mask) != len(raw) {
			t.Fatalf("%q: %d bytes, mask of %d", s, len(raw), len(mask))
		}
		for i := range mask {
			if raw[i]&mask[i] != 0 {
				t.Errorf("%q: hidden bits are set", s)
			}
		}
		if mask == nil && len(raw) > 0 {
			again, _, err := dialogue.Hex(fmt.Sprintf("%X", raw))
			if err != nil || string(again) != string(raw) {
				t.Errorf("%q reads as %X, then %X", s, raw, again)
			}
		}
	})
}
