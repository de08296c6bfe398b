package clearing_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"koala/spec/clearing"
	"koala/spec/pan"
)

// sale is a line put together column by column, so that a wrong width shows.
func sale() string {
	return strings.Join([]string{
		"48021000   ", "00010000   ", "000123", "0916123456", "6225882121000000007",
		"000000012345", "000000000000", "000000000000", "0200", "000000", "5411",
		"10000001", "898110058120001", "091612000123", "00", "A1B2C3", "01030000   ",
		"      ", "00", "051", "000000000000", "000000000068", "D00000000010",
		"0", "001", "5", "0", "          ", "03080000   ", "1", "01", "  ", "000000000000",
	}, " ")
}

// card is the sample's number with a right check digit.
func card(t testing.TB) pan.PAN {
	t.Helper()
	p, err := pan.Complete("622588212100000000")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParse(t *testing.T) {
	line := sale()
	if len(line) != clearing.Width {
		t.Fatalf("the sample has %d bytes, the layout %d", len(line), clearing.Width)
	}
	valid := card(t)
	line = strings.Replace(line, line[42:61], string(valid), 1)
	r, err := clearing.Parse([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	if r.Kind() != clearing.Sale || r.Fen() != 12345 || r.Fee() != 78 || r.RRN != "091612000123" || r.Terminal != "10000001" {
		t.Errorf("%+v", r)
	}
	for _, tt := range []struct {
		name   string
		change func(string) string
		column int
	}{
		{"fee offset of a public importer", func(s string) string { return s[:192] + "x" + s[193:] }, 193},
		{"payable", func(s string) string { return s[:205] + "x" + s[206:] }, 206},
		{"switch's fee without sign", func(s string) string { return s[:218] + "0" + s[219:] }, 219},
		{"shifted", func(s string) string { return s[:11] + "x" + s[12:] }, 12},
		{"short", func(s string) string { return s[:100] }, 101},
		{"empty", func(string) string { return "" }, 1},
		{"too long", func(s string) string { return s + " " + strings.Repeat("x", clearing.MaxLine) }, clearing.MaxLine + 1},
	} {
		_, err := clearing.Parse([]byte(tt.change(line)))
		var e *clearing.Error
		if !errors.As(err, &e) || !errors.Is(err, clearing.ErrLine) || e.Column != tt.column {
			t.Errorf("%s: %v, want column %d", tt.name, err, tt.column)
		}
		if err != nil && strings.Contains(err.Error(), string(valid)) {
			t.Errorf("%s: the error shows the card", tt.name)
		}
	}
}

func TestKinds(t *testing.T) {
	for _, tt := range []struct {
		mti, processing string
		kind            clearing.Kind
		fen             int64
	}{
		{"0200", "000000", clearing.Sale, 100},
		{"0220", "000000", clearing.Sale, 100},
		{"0200", "200000", clearing.Void, -100},
		{"0220", "200000", clearing.Refund, -100},
		{"0420", "000000", clearing.Reversal, -100},
		{"0420", "200000", clearing.Reversal, 100},
		{"0422", "000000", clearing.Chargeback, -100},
		{"0422", "200000", clearing.Presented, 100},
		{"0100", "030000", clearing.Other, 0},
		{"0200", "310000", clearing.Other, 0},
	} {
		r := clearing.Record{MTI: tt.mti, Processing: tt.processing, Amount: 100}
		if r.Kind() != tt.kind || r.Fen() != tt.fen {
			t.Errorf("%s %s: kind %d, %d fen", tt.mti, tt.processing, r.Kind(), r.Fen())
		}
	}
}

// TestCurrency: it stands behind other data and seven own columns.
func TestCurrency(t *testing.T) {
	own := strings.Join([]string{"other data    ", "48021000   ", "03080000   ", " ", " ", "0916", "01", strings.Repeat("x", 40), "156", "000000000"}, " ")
	for rest, want := range map[string]string{"": "", "short": "", own: "156", own[:95]: "156", own[:94]: "", own[:92] + "15x" + own[95:]: "", own[:91] + "x" + own[92:]: "", own[:95] + "6": ""} {
		r := clearing.Record{Rest: rest}
		if got := r.Currency(); got != want {
			t.Errorf("%q: %q, want %q", rest, got, want)
		}
		r.SetCurrency("344")
		if got := r.Currency(); got != "344" && rest != own[:91]+"x"+own[92:] && rest != own[:95]+"6" {
			t.Errorf("%q: set, it is %q", rest, got)
		}
		if len(rest) > 95 && r.Rest[95:] != rest[95:] {
			t.Errorf("%q: what stands behind it changed", rest)
		}
	}
}

func FuzzParse(f *testing.F) {
	line := strings.Replace(sale(), "6225882121000000007", string(card(f)), 1)
	f.Add([]byte(line))
	f.Add([]byte(line + " 0123456789ABCD more"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := clearing.Parse(in)
		if err != nil {
			return
		}
		out, err := r.Append(nil)
		if err != nil || string(out) != string(in) {
			t.Errorf("%q reads but writes %q: %v", in, out, err)
		}
	})
}

func TestRoundTrip(t *testing.T) {
	digits := func(t *rapid.T, n int, name string) string {
		return rapid.StringMatching(fmt.Sprintf(`[0-9]{%d}`, n)).Draw(t, name)
	}
	rapid.Check(t, func(t *rapid.T) {
		card, err := pan.Complete(digits(t, 15, "card"))
		if err != nil {
			t.Fatal(err)
		}
		fen := rapid.Int64Range(0, 999_999_999_999)
		r := clearing.Record{
			Agent: digits(t, 8, "agent"), Trace: digits(t, 6, "trace"), Sent: digits(t, 10, "sent"), PAN: card, Amount: fen.Draw(t, "fen"),
			MTI: "0200", Processing: "000000", Condition: "00", RRN: digits(t, 12, "rrn"), Payable: fen.Draw(t, "fee"),
			SwitchFee: rapid.Int64Range(-99_999_999_999, 99_999_999_999).Draw(t, "switch"), Rest: rapid.StringMatching(`[A-Z]{0,20}`).Draw(t, "rest"),
		}
		line, err := r.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		again, err := clearing.Parse(line)
		if err != nil || again != r {
			t.Fatalf("%v: %+v, want %+v", err, again, r)
		}
	})
	if _, err := (clearing.Record{Trace: "12"}).Append(nil); !errors.Is(err, clearing.ErrLine) {
		t.Errorf("a trace of two digits was written: %v", err)
	}
}
