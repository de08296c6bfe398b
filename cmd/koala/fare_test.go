package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// The fare of one ride as programs read it: fields may be added, none renamed.
func TestFareJSON(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--from", "东单", "--to", "西单", "--at", "2015-09-16"},
			`{"at":"2015-09-16T12:00:00+08:00","distance_m":3768,"fen":300,"from":"东单","rules":["metro 3768 m, up to 6099 m: 3.00"],"tariff":"beijing-2014","to":"西单"}` + "\n"},
		{[]string{"--from", "Dongdan", "--to", "xidan", "--at", "2015-09-16T08:10"},
			`{"at":"2015-09-16T08:10:00+08:00","distance_m":3768,"fen":300,"from":"东单","rules":["metro 3768 m, up to 6099 m: 3.00"],"tariff":"beijing-2014","to":"西单"}` + "\n"},
	} {
		r := koala(t, "", append([]string{"fare", "--json"}, tt.args...)...)
		if r.code != exitFine || r.out != tt.want || r.errs != "" {
			t.Errorf("fare %v: code %d\n got %swant %s%s", tt.args, r.code, r.out, tt.want, r.errs)
		}
	}
}

// The monthly rebate shows in the price and in its rules.
func TestFareAfterSpending(t *testing.T) {
	for _, tt := range []struct {
		spent string
		fen   int
	}{{"0", 300}, {"9999", 300}, {"10000", 240}, {"15000", 150}, {"40000", 300}} {
		var got struct {
			Fen   int      `json:"fen"`
			Rules []string `json:"rules"`
		}
		r := koala(t, "", "fare", "--from", "东单", "--to", "西单", "--at", "2015-09-16", "--month-spent", tt.spent, "--json")
		if err := json.Unmarshal([]byte(r.out), &got); err != nil || got.Fen != tt.fen || len(got.Rules) == 0 {
			t.Errorf("spent %s: %s%s, want %d fen", tt.spent, r.out, r.errs, tt.fen)
		}
	}
}

func TestFareText(t *testing.T) {
	const want = "东单 Dongdan → 西单 Xidan: 3768 m, ¥3.00\n" +
		"  1号线      东单 → 西单, 3768 m\n" +
		"      3.00  metro 3768 m, up to 6099 m (大路网3768米,不超过6099米)\n"
	if r := koala(t, "", "fare", "--from", "东单", "--to", "西单", "--at", "2015-09-16"); r.code != exitFine || r.out != want {
		t.Errorf("code %d\n got %q\nwant %q", r.code, r.out, want)
	}
}

// A batch prices what it can, keeps a row for what it cannot, and then its exit
// code says so.
func TestFareBatch(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pairs.csv")
	if err := os.WriteFile(file, []byte("from,to\n东单,西单\nDongdan,五道口\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, in, source string
		code             int
		want             string
	}{
		{"from a file", "", file, exitFine, "from,to,distance_m,fen\n东单,西单,3768,300\nDongdan,五道口,14400,500\n"},
		{"from the input", "from,to\n东单,西单\n", "-", exitFine, "from,to,distance_m,fen\n东单,西单,3768,300\n"},
		{"one unknown", "from,to\n东单,西单\n东单,Atlantis\n", "-", exitRefused, "from,to,distance_m,fen\n东单,西单,3768,300\n东单,Atlantis,,\n"},
		{"only a header", "from,to\n", "-", exitFine, "from,to,distance_m,fen\n"},
	} {
		r := koala(t, tt.in, "fare", "--batch", tt.source, "--at", "2015-09-16")
		if r.code != tt.code || r.out != tt.want {
			t.Errorf("%s: code %d, %q\nwant %d, %q\n%s", tt.name, r.code, r.out, tt.code, tt.want, r.errs)
		}
	}
}
