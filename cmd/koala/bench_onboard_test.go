package main

import (
	"context"
	"os"
	"strings"
	"testing"
)

// A small register goes in, and every way to look a merchant up is measured.
func TestBenchOnboard(t *testing.T) {
	dir := t.TempDir()
	all := lines(t, koala(t, "", "bench", "onboard", "--merchants", "900", "--callers", "3", "--dir", dir, "--json"))
	if len(all) != 6 || all[0]["bench"] != "onboard" || all[0]["ops"] != 900.0 || all[0]["params"].(map[string]any)["lines_per_unit"] == nil {
		t.Fatalf("%v", all)
	}
	for _, x := range all[1:] {
		if !strings.HasPrefix(x["bench"].(string), "look-up by ") {
			t.Errorf("%v", x)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%s is left behind", left[0].Name())
	}
}

func TestBenchOnboardStopsAndRefuses(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if r := koalaIn(ctx, "", "bench", "onboard", "--dir", dir); r.code != exitRefused || !strings.Contains(r.errs, "was stopped") {
		t.Errorf("code %d, %q", r.code, r.errs)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%s is left behind", left[0].Name())
	}
	for _, bad := range []string{"--merchants 0", "--merchants 10000001", "--callers 0", "--db mysql"} {
		if r := koala(t, "", append([]string{"bench", "onboard"}, strings.Fields(bad)...)...); r.code != exitMisused {
			t.Errorf("%s: code %d", bad, r.code)
		}
	}
}
