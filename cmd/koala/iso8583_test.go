package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A capturedMessage is one published message of spec/iso8583/testdata.
type capturedMessage struct {
	ID, Spec, Hex string
	Fields        map[string]any
	Decoded       struct{ Fields map[string]string }
}

func capturedMessages(t *testing.T) []capturedMessage {
	t.Helper()
	text, err := os.ReadFile("../../spec/iso8583/testdata/messages.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []capturedMessage
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func capturedMessageHex(t *testing.T, id string) string {
	t.Helper()
	for _, m := range capturedMessages(t) {
		if m.ID == id {
			return m.Hex
		}
	}
	t.Fatalf("no message %s", id)
	return ""
}

// isoDialect is the --spec of a published message.
func isoDialect(spec string) string {
	switch {
	case strings.HasPrefix(spec, "unionpay-pos"):
		return "unionpay-pos"
	case strings.HasPrefix(spec, "unionpay-interchange"):
		return "unionpay-interchange"
	}
	return "iso87-ascii"
}

// Every published message is found out and written back, named and unnamed,
// alone and as a file; its fields read as their source decoded them.
func TestISO8583ReadsPublishedMessages(t *testing.T) {
	var lines strings.Builder
	for _, m := range capturedMessages(t) {
		lines.WriteString("# " + m.ID + "\n" + strings.ToLower(m.Hex) + "\n\n")
		for _, spec := range [][]string{nil, {"--spec", isoDialect(m.Spec)}} {
			if r := koala(t, "", append([]string{"iso8583", "repack", m.Hex}, spec...)...); r.code != exitFine || strings.TrimSpace(r.out) != m.Hex {
				t.Errorf("%s %v: code %d, %q %q", m.ID, spec, r.code, r.out, r.errs)
			}
		}
		r := koala(t, "", "iso8583", "describe", m.Hex, "--json", "--clear")
		var got struct {
			Spec, MTI string
			Fields    map[string]string
		}
		if err := json.Unmarshal([]byte(r.out), &got); err != nil || got.Spec != isoDialect(m.Spec) {
			t.Fatalf("%s: %v, %+v", m.ID, err, got)
		}
		for n, want := range m.Decoded.Fields {
			if got.Fields[n] != want {
				t.Errorf("%s field %s: %q, want %q", m.ID, n, got.Fields[n], want)
			}
		}
		if m.ID != "cups-header" {
			for n, want := range m.Fields {
				if got.Fields[n] != want {
					t.Errorf("%s field %s: %q, want %q", m.ID, n, got.Fields[n], want)
				}
			}
		}
	}
	file := filepath.Join(t.TempDir(), "capture.txt")
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, from := range []struct{ in, arg string }{{"", file}, {lines.String(), "-"}} {
		r := koala(t, from.in, "iso8583", "repack", from.arg)
		if r.code != exitFine || strings.Count(r.out, "\n") != len(capturedMessages(t)) {
			t.Errorf("%s: code %d, %d lines, %q", from.arg, r.code, strings.Count(r.out, "\n"), r.errs)
		}
	}
}

// What people and programs see of a message. After a change on purpose:
// go test ./cmd/koala -run TestGoldenISO8583 -update.
func TestGoldenISO8583(t *testing.T) {
	for _, tt := range []struct {
		name, id string
		flags    []string
	}{
		{"sale", "pos-pay-request", nil},
		{"sale-json", "pos-pay-request", []string{"--json"}},
		{"interchange-zh", "cups-test10", []string{"--lang", "zh"}},
		{"reversal", "basei-0420-reversal-advice", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := koala(t, "", append([]string{"iso8583", "describe", capturedMessageHex(t, tt.id)}, tt.flags...)...)
			if r.code != exitFine || r.errs != "" {
				t.Fatalf("code %d, %q", r.code, r.errs)
			}
			file := filepath.Join("testdata", "iso8583-"+tt.name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(r.out), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if at, ok := firstDifference(r.out, string(want)); !ok {
				t.Errorf("%s differs:\n%s", file, at)
			}
		})
	}
}

func TestISO8583MAC(t *testing.T) {
	const key = "2222222222222222"
	sale := capturedMessageHex(t, "pos-pay-request")
	r := koala(t, "", "iso8583", "mac", "--key", key, sale)
	if r.code != exitRefused || !strings.Contains(r.out, "F48C30B2, the message carries 83592745") {
		t.Errorf("code %d, %q", r.code, r.out)
	}
	sealed := koala(t, "", "iso8583", "mac", "--key", key, "--seal", sale)
	if sealed.code != exitFine || !strings.HasSuffix(strings.TrimSpace(sealed.out), "4634384333304232") {
		t.Errorf("code %d, %q", sealed.code, sealed.out)
	}
	r = koala(t, "", "iso8583", "mac", "--key", key, "--json", strings.TrimSpace(sealed.out))
	var got struct {
		Spec, MTI, Algorithm, Computed, Carried string
		Field                                   int
		OK                                      bool
	}
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || r.code != exitFine || !got.OK || got.Field != 64 || got.Algorithm != "ecb" || got.Computed != "F48C30B2" {
		t.Errorf("code %d, %+v, %v", r.code, got, err)
	}
	// A message that came with its length keeps it.
	r = koala(t, "", "iso8583", "mac", "--key", key+key, "--seal", capturedMessageHex(t, "pos-signon-a"))
	if r.code != exitFine || !strings.HasPrefix(r.out, "00636005010000") {
		t.Errorf("code %d, %q %q", r.code, r.out, r.errs)
	}
}

func TestISO8583ExitCodes(t *testing.T) {
	sale := capturedMessageHex(t, "pos-pay-request")
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"describe"}, exitMisused, "accepts 1 arg"},
		{[]string{"describe", "zz"}, exitMisused, `"zz" is neither a file that can be read nor a message in hexadecimal; name a file`},
		{[]string{"describe", "6228880100000000178="}, exitMisused, `begins with "622888"`},
		{[]string{"describe", strings.Repeat("z", 90)}, exitMisused, strings.Repeat("z", 40) + `"…`},
		{[]string{"mac", "--key", "2222222222222222", sale[:len(sale)-8]}, exitRefused, "the message is cut short: capture it whole"},
		{[]string{"mac", "--key", "xx", sale}, exitMisused, "--key is not hexadecimal"},
		{[]string{"mac", "--key", "2222222222222222", "--explain", "--seal", sale}, exitMisused, "one of --explain and --seal"},
		{[]string{"mac", "--key", "2222222222222222", "--explain", "--lang", "fr", sale}, exitMisused, "--lang"},
		{[]string{"describe", "--spec", "cups", sale}, exitMisused, "--spec"},
		{[]string{"describe", "--lang", "fr", sale}, exitMisused, "--lang"},
		{[]string{"describe", "--spec", "iso87-ascii", sale}, exitRefused, "message type at byte 0"},
		{[]string{"describe", sale[:100]}, exitRefused, "field 22 at byte"},
		{[]string{"repack", sale + "00"}, exitRefused, "bytes follow"},
		{[]string{"mac", sale}, exitMisused, "--key"},
		{[]string{"mac", "--key", "22", sale}, exitMisused, "8 or 16 bytes"},
		{[]string{"mac", "--key", "2222222222222222", "--algorithm", "md5", sale}, exitMisused, "--algorithm"},
		{[]string{"mac", "--key", "2222222222222222", capturedMessageHex(t, "pos-signin-response")}, exitRefused, "no authentication code"},
		{[]string{"mac", "--key", "2222222222222222", capturedMessageHex(t, "cups-header")}, exitRefused, "no authentication code"},
		{[]string{"sing"}, exitMisused, "sing"},
	} {
		r := koala(t, "", append([]string{"iso8583"}, tt.args...)...)
		if r.code != tt.code || !strings.Contains(r.errs, tt.says) {
			t.Errorf("%.60q: code %d, %q; want %d, %q", tt.args, r.code, r.errs, tt.code, tt.says)
		}
	}
	if r := koala(t, "# nothing\n", "iso8583", "repack", "-"); r.code != exitMisused {
		t.Errorf("no message: code %d, %q", r.code, r.errs)
	}
	if r := koala(t, "6000\nxx\n", "iso8583", "repack", "-"); r.code != exitMisused || !strings.Contains(r.errs, "line 2") {
		t.Errorf("half hexadecimal: code %d, %q", r.code, r.errs)
	}
	for _, c := range []string{"describe", "repack", "mac"} {
		if r := koala(t, "", "iso8583", c, "--help"); r.code != exitFine || !strings.Contains(r.out, "Examples:") {
			t.Errorf("%s --help: code %d", c, r.code)
		}
	}
}

// Every step of a published message's MAC, masked and in both languages.
func TestISO8583ExplainsMAC(t *testing.T) {
	const key = "2222222222222222"
	sale := capturedMessageHex(t, "pos-pay-request")
	r := koala(t, "", "iso8583", "mac", "--key", key, "--explain", sale)
	for _, want := range []string{"covered: from the message type", "bytes 00 that fill", "block 1\n", "all blocks XORed", "the first eight", "enciphered again", "F48C30B2"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in\n%s", want, r.out)
		}
	}
	if r.code != exitRefused || !strings.Contains(r.out, "XX") || strings.Contains(r.out, key) {
		t.Errorf("code %d\n%s", r.code, r.out)
	}
	if r := koala(t, "", "iso8583", "mac", "--key", key, "--explain", "--clear", sale); strings.Contains(r.out, "XX") {
		t.Errorf("--clear:\n%s", r.out)
	}
	r = koala(t, "", "iso8583", "mac", "--key", key, "--explain", "--lang", "zh", "--json", sale)
	var got struct {
		Steps []struct{ Name, Value string }
	}
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || len(got.Steps) < 10 || !strings.HasPrefix(got.Steps[0].Name, "参与计算") {
		t.Errorf("%v, %+v", err, got)
	}
}
