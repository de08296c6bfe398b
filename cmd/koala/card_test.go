package main

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"koala/app"
	"koala/spec/emv"
)

const cardTraces = "../../spec/dialogue/testdata/cards.json"

// What people and programs see of a card. After a change on purpose:
// go test ./cmd/koala -run TestGoldenCards -update.
func TestGoldenCards(t *testing.T) {
	for _, tt := range []struct{ name, args string }{
		{"contact", "--card contact-upi"},
		{"contact-zh", "--card contact-upi --lang zh --summary"},
		{"purse", "--card tunion-beijing"},
		{"purse-json", "--card tunion-beijing --json"},
		{"signed-json", "--card contactless-mastercard --json --summary"},
		{"repeated", "--card emv-unknowncard"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := koala(t, "", append([]string{"card", "explain", cardTraces}, strings.Fields(tt.args)...)...)
			if r.code != exitFine || r.errs != "" {
				t.Fatalf("code %d, %q", r.code, r.errs)
			}
			file := filepath.Join("testdata", "card-"+tt.name+".txt")
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

// The contract of --json: fields are added, none renamed; one object a card.
func TestCardJSON(t *testing.T) {
	r := koala(t, "", "card", "explain", cardTraces, "--json")
	if r.code != exitFine {
		t.Fatalf("code %d, %q", r.code, r.errs)
	}
	cards := 0
	for line := range strings.Lines(r.out) {
		var c struct {
			ID           string
			Card         string
			Balance      *int64 `json:"balance_fen"`
			Records      []map[string]any
			Certificates []struct {
				Kind string
				OK   bool
			}
			Dialogue []struct{ Command, Response, Text string }
		}
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatalf("%v in %.200s", err, line)
		}
		cards++
		if c.Card == "" || c.Records == nil || c.Certificates == nil || len(c.Dialogue) == 0 {
			t.Errorf("%s: %.200s", c.ID, line)
		}
		for _, d := range c.Dialogue {
			if d.Text == "" {
				t.Errorf("%s: %+v says nothing", c.ID, d)
			}
		}
		switch c.ID {
		case "tunion-beijing":
			if c.Card != "t-union" || *c.Balance != 740 || len(c.Records) != 10 || c.Records[1]["amount_fen"] != 160.0 {
				t.Errorf("%.400s", line)
			}
		case "contact-upi", "contactless-mastercard":
			if len(c.Certificates) == 0 || c.Certificates[0].Kind != "issuer" || !c.Certificates[0].OK {
				t.Errorf("%s: %+v", c.ID, c.Certificates)
			}
		}
	}
	if cards != 15 {
		t.Errorf("%d cards", cards)
	}
}

// The exit code is 0 for what is explained, 1 for what is not or is wrong, 2
// for misuse.
func TestCardExplainCodes(t *testing.T) {
	for _, tt := range []struct {
		args, in string
		code     int
		says     string // on the output, or the error stream
	}{
		{"card explain 805C000204 000002E49000", "", exitFine, "7.40 CNY"},
		{"card explain 9F1013 07000103A04002010A010000001000D1F61152", "", exitFine, "balance 10.00 CNY"},
		{"card explain 00 A4 04 00 08 A0 00 00 06 32 01 01 05", "", exitFine, "SELECT China T-Union purse"},
		{"card explain -", "> 805C0002 04\n< 0000....9000\n", exitFine, "GET BALANCE"},
		{"card explain - --lang zh", "A>> T=1 (4+0000) 805C0002 04\nA<< (0004+2) (9ms) 000002E4 9000\n", exitFine, "余额"},
		{"card explain F0123456", "", exitRefused, "neither"},
		{"card explain -", "nothing of a card\n", exitRefused, "dialogue: not whole bytes"},
		{"card explain -", "", exitRefused, "found"},
		{"card explain " + cardTraces + " --card none", "", exitRefused, "tunion-beijing"},
		{"card explain /nonexistent/file", "", exitMisused, "neither a file nor hexadecimal"},
		{"card explain", "", exitMisused, "name a file"},
		{"card explain 805C000204 --lang fr", "", exitMisused, "fr"},
		{"card explain 805C000204 --ca /nonexistent/ca", "", exitRefused, "/nonexistent/ca"},
		{"card explain 805C000204 --house --data /nonexistent", "", exitRefused, "there is no house"},
		{"card ca show --data /nonexistent", "", exitRefused, "there is no house"},
		{"card ca show --prefix 12", "", exitMisused, "--prefix"},
		{"card ca show --expiry 1335", "", exitMisused, "--expiry"},
		{"card ca export --format pem", "", exitMisused, "pem"},
		{"card ca chain --pan 12", "", exitMisused, "--pan"},
		{"card ca verify", "", exitMisused, "name a file"},
	} {
		r := koala(t, tt.in, strings.Fields(tt.args)...)
		if r.code != tt.code || !strings.Contains(r.out+r.errs, tt.says) {
			t.Errorf("koala %s: code %d, want %d; %q is not in %s%s", tt.args, r.code, tt.code, tt.says, r.out, r.errs)
		}
	}
}

// A chain made here verifies under its own key alone, and one turned bit is
// found.
func TestCardChain(t *testing.T) {
	r := koala(t, "", "card", "ca", "chain")
	if r.code != exitFine {
		t.Fatalf("code %d, %q", r.code, r.errs)
	}
	file := filepath.Join(t.TempDir(), "chain.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(r.out)
	if r := koala(t, "", "card", "ca", "verify", file, "--ca", file); r.code != exitFine || strings.Count(r.out, "hash matches") != 2 {
		t.Errorf("code %d: %s%s", r.code, r.out, r.errs)
	}
	if r := koala(t, "", "card", "ca", "verify", file); r.code != exitFine || strings.Count(r.out, "not checked") != 2 {
		t.Errorf("without the key: code %d: %s%s", r.code, r.out, r.errs)
	}
	at := strings.Index(r.out, "9081B0") + 40
	write(r.out[:at] + turned(r.out[at]) + r.out[at+1:])
	if r := koala(t, "", "card", "ca", "verify", file, "--ca", file); r.code != exitRefused || !strings.Contains(r.out, "WRONG") {
		t.Errorf("turned: code %d: %s%s", r.code, r.out, r.errs)
	}
}

// The authority of a house: made once, shown, exported in every form, and what
// is exported is read again.
func TestCardCA(t *testing.T) {
	dir := t.TempDir()
	h, err := app.New(t.Context(), houseFlags{data: dir}.config(t.Output()))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	ca := func(args ...string) string {
		t.Helper()
		r := koala(t, "", append(append([]string{"card", "ca"}, args...), "--data", dir)...)
		if r.code != exitFine {
			t.Fatalf("card ca %v: code %d, %q", args, r.code, r.errs)
		}
		return r.out
	}
	first := ca("make")
	if again := ca("make"); again != first || !strings.HasPrefix(first, "A000000333 index E0, 1408 bit") {
		t.Errorf("made %q, then %q", first, again)
	}
	if shown := ca("show"); !strings.Contains(shown, "PANs from 62888806") || !strings.Contains(shown, "index E0") {
		t.Error(shown)
	}
	for _, format := range []string{"json", "csv"} {
		keys, err := readCAKeys([]byte(ca("export", "--format", format)))
		if err != nil || len(keys) != 1 || keys[0].Index != 0xE0 || len(keys[0].Modulus) != 176 {
			t.Errorf("%s: %v %v", format, keys, err)
		}
	}
	shown := ca("show", "--sm2")
	if !strings.Contains(shown, "index D0, 256 bit") || strings.Contains(shown, "9F32") || !strings.Contains(shown, "12628888") {
		t.Error(shown)
	}
	keys, err := readCAKeys([]byte(ca("export") + ca("export", "--sm2")))
	if err != nil || len(keys) != 2 || keys[0].Algorithm == emv.SM2 || keys[1].Algorithm != emv.SM2 || keys[1].Index != 0xD0 || !keys[1].Valid() {
		t.Errorf("both: %+v %v", keys, err)
	}
	if r := koala(t, "", "card", "ca", "export", "--sm2", "--format", "csv", "--data", dir); r.code != exitMisused {
		t.Errorf("an SM2 key as csv: code %d, %q", r.code, r.out)
	}
	if _, err := readCAKeys([]byte(`{"scheme":"x","rid":"A000000333","index":"01","algorithm":"SM9","modulus":"00","sha1":"00"}`)); err == nil {
		t.Error("a key of an unknown algorithm was read")
	}
	var c emvToolConfig
	if err := xml.Unmarshal([]byte(ca("export", "--format", "xml-emv-tool")), &c); err != nil || len(c.Keys) != 1 || len(c.Apps) != 4 || len(c.Data) != len(emvToolTerminal) {
		t.Errorf("%+v %v", c, err)
	}
	if r := koala(t, "", "card", "explain", "805C000204", "000002E49000", "--house", "--data", dir); r.code != exitFine {
		t.Errorf("with the house's key: code %d, %q", r.code, r.errs)
	}
}

// What is printed can be explained again, as text and as JSON: the same card,
// the same balance, the same number of exchanges.
func TestCardOutputReadsBack(t *testing.T) {
	for _, id := range []string{"tunion-beijing", "contact-upi", "contact-visa"} {
		first := koala(t, "", "card", "explain", cardTraces, "--card", id, "--json")
		text := koala(t, "", "card", "explain", cardTraces, "--card", id)
		want := cardOf(t, first.out)
		for name, in := range map[string]string{"JSON": first.out, "text": text.out} {
			again := koala(t, in, "card", "explain", "-", "--json")
			got := cardOf(t, again.out)
			if name == "text" { // repeated exchanges are printed once
				got.exchanges = want.exchanges
			}
			if got != want {
				t.Errorf("%s as %s: %+v, first %+v; %s", id, name, got, want, again.errs)
			}
		}
	}
}

type readCard struct {
	card      string
	balance   int64
	number    string
	exchanges int
}

func cardOf(t *testing.T, line string) readCard {
	t.Helper()
	var c struct {
		Card, Number string
		Balance      int64 `json:"balance_fen"`
		Dialogue     []any
	}
	if err := json.Unmarshal([]byte(line), &c); err != nil {
		t.Fatalf("%v in %.200s", err, line)
	}
	return readCard{c.Card, c.Balance, c.Number, len(c.Dialogue)}
}

// Keys that are not what their hash says, or no keys, are refused.
func TestReadCAKeysRefuses(t *testing.T) {
	for _, text := range []string{
		"{", `{"rid":"A000000333"}`, "a,b\n1,2\n",
		`{"rid":"A000000333","index":"E0","exponent":"03","modulus":"F1","sha1":"` + strings.Repeat("00", 20) + `"}`,
	} {
		if keys, err := readCAKeys([]byte(text)); err == nil {
			t.Errorf("%q reads as %v", text, keys)
		}
	}
}

func FuzzReadCAKeys(f *testing.F) {
	f.Add([]byte(`{"rid":"A000000333","index":"E0","exponent":"03","modulus":"F1","sha1":""}`))
	f.Add([]byte(strings.Join(caColumns, ",") + "\nx,A000000333,E0,03,8,F1,00,test\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := readCAKeys(text)
		if err != nil {
			return
		}
		for _, k := range keys {
			if !k.Valid() {
				t.Errorf("%q: a key that is not its hash's", text)
			}
		}
	})
}

// turned is another hexadecimal digit: its lowest bit turned.
func turned(digit byte) string {
	i := strings.IndexByte("0123456789ABCDEF", digit)
	return "0123456789ABCDEF"[i^1 : i^1+1]
}
