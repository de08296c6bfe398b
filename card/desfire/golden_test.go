package desfire_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"koala/spec/desfire"
	"koala/spec/iso7816"
)

var update = flag.Bool("update", false, "rewrite the answers of the golden trace from the card")

const trace = "testdata/libfreefare.trace"

// A public library, libfreefare 0.4.0, at a fresh card of this house: an AES
// application with files of every kind, value and data in all three modes, keys
// and settings changed, the master key taken over from DES, formatting. The
// commands are what the library sent; the card must answer as it did then, when
// the library accepted every answer.
func TestPublicLibrary(t *testing.T) {
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	var out strings.Builder
	lines := 0
	for line := range strings.Lines(string(text)) {
		plain, _, _ := strings.Cut(line, "#")
		cmd, want, ok := strings.Cut(strings.TrimSpace(plain), " > ")
		if !ok {
			out.WriteString(line)
			continue
		}
		lines++
		raw, err := b.e.TransmitRaw(unhex(cmd))
		if err != nil {
			t.Fatalf("%s: %v", cmd, err)
		}
		got := fmt.Sprintf("%X", raw)
		if got != want && !*update {
			t.Fatalf("command %d, %s: %s, want %s", lines, cmd, got, want)
		}
		c, _ := iso7816.ParseCommand(unhex(cmd))
		r, _ := iso7816.ParseResponse(raw)
		e, ok := desfire.Explain(c, r)
		if !ok {
			t.Errorf("%s is not explained", cmd)
		}
		fmt.Fprintf(&out, "%s > %s # %s\n", cmd, got, e.EN)
	}
	if lines < 200 {
		t.Errorf("%d commands", lines)
	}
	if *update {
		if err := os.WriteFile(trace, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
