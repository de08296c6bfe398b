package clearing_test

import (
	"errors"
	"strings"
	"testing"

	"koala/spec/clearing"
)

// chargeback is a line put together column by column, so that a wrong width
// shows.
func chargeback() string {
	return strings.Join([]string{
		"E23", "48021000   ", "03080000   ", "000777", "1006101500", "6225882121000000009", "000000012345", "0422", "000000", "5411",
		"10000001", "091612000123", "00", "A1B2C3", "48021000   ", "03080000   ", "000123", "00", "051", "000000000000", "000000000000",
		"000000000000", "            ", "000000000000", "000000001000", "4515", "           ", strings.Repeat(" ", 19), "           ", strings.Repeat(" ", 19),
		"0916123456", "001", "5", "0", "0916", "000000012345", "1", "  ", "898110058120001",
	}, " ")
}

// rest are the columns behind, as the two programs have them up to the 51st.
var rest = strings.Join([]string{"48021000   ", "03080000   ", "           ", "01", strings.Repeat("x", 40), "00", "0", "        ", strings.Repeat(" ", 24), "S22", "0", "00"}, " ")

func TestParseDispute(t *testing.T) {
	line := strings.Replace(chargeback(), "6225882121000000009", string(card(t)), 1)
	if len(line) != clearing.DisputeWidth || !clearing.IsDispute([]byte(line)) || clearing.IsDispute([]byte(sale())) {
		t.Fatalf("the sample has %d bytes, the layout %d", len(line), clearing.DisputeWidth)
	}
	for _, in := range []string{line, line + " " + rest} {
		d, err := clearing.ParseDispute([]byte(in))
		if err != nil || d.Flag != clearing.ChargedBack || d.RRN != "091612000123" || d.Reason != "4515" || d.Sold != 12345 || d.Owed != 1000 || d.Merchant != "898110058120001" || d.Fen() != -12345 || !d.Known() {
			t.Errorf("%v %+v", err, d)
		}
		if out, err := d.Append(nil); err != nil || string(out) != in {
			t.Errorf("%q writes as %q: %v", in, out, err)
		}
	}
	for _, tt := range []struct {
		name   string
		change func(string) string
		column int
	}{
		{"no flag", func(s string) string { return s[1:] }, 4},
		{"the amount", func(s string) string { return s[:66] + "x" + s[67:] }, 67},
		{"a wrong card", func(s string) string { return strings.Replace(s, string(card(t)), "6225882121000000000", 1) }, 47},
		{"short", func(s string) string { return s[:200] }, 193},
		{"something at the end", func(s string) string { return s + "x" }, clearing.DisputeWidth + 1},
	} {
		_, err := clearing.ParseDispute([]byte(tt.change(line)))
		var e *clearing.Error
		if !errors.As(err, &e) || !errors.Is(err, clearing.ErrLine) || e.Column != tt.column || strings.Contains(err.Error(), string(card(t))) {
			t.Errorf("%s: %v, want column %d", tt.name, err, tt.column)
		}
	}
}

func TestFlags(t *testing.T) {
	for flag, fen := range map[string]int64{clearing.Requested: 0, clearing.Replied: 100, clearing.Claimed: 100, clearing.ChargedBack: -100, clearing.Represented: 100, clearing.ChargedAgain: -100,
		clearing.CreditAdjusted: -100, clearing.ManualRefund: -100, clearing.LooseRefund: -100} {
		d := clearing.Dispute{Flag: flag, MTI: "0422", Amount: 100}
		if got := d.Fen(); got != fen || !d.Known() {
			t.Errorf("%s: %d, want %d", flag, got, fen)
		}
		if d.MTI = "0420"; !d.Undone() || d.Fen() != -fen {
			t.Errorf("%s taken back: %d", flag, d.Fen())
		}
	}
	if (clearing.Dispute{Flag: "E99"}).Known() {
		t.Error("E99 is known")
	}
}

func FuzzParseDispute(f *testing.F) {
	line := strings.Replace(chargeback(), "6225882121000000009", string(card(f)), 1)
	f.Add([]byte(line))
	f.Add([]byte(line + " " + rest))
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := clearing.ParseDispute(in)
		if err != nil {
			return
		}
		if out, err := d.Append(nil); err != nil || string(out) != string(in) {
			t.Errorf("%q reads as %+v and writes as %q: %v", in, d, out, err)
		}
	})
}
