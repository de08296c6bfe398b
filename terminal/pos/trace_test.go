package pos_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"testing"

	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/terminal/pos"
)

var update = flag.Bool("update", false, "rewrite the golden traces")

var steps = map[byte]string{
	iso7816.InsSelect: "SELECT", pboc.InsGPO: "GET PROCESSING OPTIONS", iso7816.InsReadRecord: "READ RECORD", iso7816.InsGetData: "GET DATA",
	pboc.InsGenerateAC: "GENERATE AC", iso7816.InsInternalAuthenticate: "INTERNAL AUTHENTICATE", iso7816.InsExternalAuthenticate: "EXTERNAL AUTHENTICATE",
	iso7816.InsPutData: "PUT DATA",
}

// The dialogues as a reader's log would have them, with what the model says
// they take, and the record that goes to clearing.
func TestGoldenTraces(t *testing.T) {
	for name, act := range map[string]func(s *shop, p *purchaser) (string, *pos.Numbered){
		"quickpass": func(s *shop, p *purchaser) (string, *pos.Numbered) {
			r := s.tap(p, 12_00)
			return fmt.Sprint(r.Outcome), r.Record
		},
		"contact": func(s *shop, p *purchaser) (string, *pos.Numbered) {
			r := s.insert(p, 600_00)
			return fmt.Sprint(r.Outcome), r.Record
		},
		"load": func(s *shop, p *purchaser) (string, *pos.Numbered) {
			r := s.load(p, 50_00)
			return r.State.Words(false), r.Record
		},
	} {
		s, p := newShop(t, func(c *pos.Config) { c.Record = true }), issue(t, func(c *pboc.Card) { c.Version1 = true })
		words, record := act(s, p)
		var out bytes.Buffer
		for _, x := range s.till.Dialogue() {
			fmt.Fprintf(&out, "# %s, %.1f ms\n> %v\n< %v\n", steps[x.Command.INS], float64(x.Took.Microseconds())/1000, x.Command, x.Response)
		}
		fmt.Fprintf(&out, "# %s\n= %X\n", words, must(record.MarshalBinary()))
		file := "testdata/" + name + ".trace"
		if *update {
			if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(golden, out.Bytes()) {
			t.Errorf("%s differs from %s (-update rewrites it):\n%s", name, file, out.String())
		}
	}
}
