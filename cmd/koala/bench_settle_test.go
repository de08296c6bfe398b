package main

import (
	"strings"
	"testing"
)

// TestBenchSettle settles a small day and proves it.
func TestBenchSettle(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := koala(t, "", strings.Fields("bench settle --sales 2000 --merchants 300 --check --json --dir "+dir)...)
	all := lines(t, r)
	if len(all) != 1 || all[0]["bench"] != "settle" || all[0]["ops"] != 2000.0 {
		t.Fatalf("%v", all)
	}
	if n := all[0]["params"].(map[string]any)["payouts"].(float64); n < 290 || n > 300 {
		t.Errorf("%v payouts to 300 merchants", n)
	}
	for _, bad := range []string{"--sales 0", "--merchants 0", "--sales 200000000"} {
		if r := koala(t, "", append([]string{"bench", "settle"}, strings.Fields(bad)...)...); r.code != exitMisused {
			t.Errorf("%s: code %d", bad, r.code)
		}
	}
}
