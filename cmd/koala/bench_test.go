package main

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// lines reads the output of a bench with --json, and holds the contract of
// PRODUCT.md: the names, and that something was measured.
func lines(t *testing.T, r said) (all []map[string]any) {
	t.Helper()
	if r.code != exitFine || r.errs != "" {
		t.Fatalf("code %d: %s", r.code, r.errs)
	}
	for line := range strings.Lines(r.out) {
		var x map[string]any
		if err := json.Unmarshal([]byte(line), &x); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		for _, name := range []string{"callers", "seconds", "ops", "per_second", "p50_ms", "p99_ms", "cpu_us_per_op"} {
			if v, ok := x[name].(float64); !ok || v <= 0 {
				t.Errorf("%s is %v in %s", name, x[name], line)
			}
		}
		if _, ok := x["store"].(string); !ok {
			t.Errorf("no store in %s", line)
		}
		if _, ok := x["params"].(map[string]any); !ok {
			t.Errorf("no params in %s", line)
		}
		all = append(all, x)
	}
	return all
}

func TestBenchJSON(t *testing.T) {
	for _, tt := range []struct {
		args  string
		bench string
		n     int
		param string // one that must be there in the last line
	}{
		{"ledger --callers 4,8 --seconds 0.1", "ledger", 2, "replay_per_second"},
		{"ledger --callers 4 --seconds 0.1 --compare-hot --rounds 2", "ledger", 2, "hot_over_uniform"},
		{"ledger --replay --records 3000 --rounds 2", "replay", 1, "runs_per_second"},
		{"issue --callers 2 --seconds 0.05", "issue", 1, "cards"},
		{"issue --card quickpass --callers 1 --seconds 0.05", "issue", 1, "cards"},
		{"tap --seconds 0.1", "tap", 1, "model"},
		{"tap --card quickpass --seconds 0.1", "tap", 1, "model"},
		{"band --bands 3", "band", 1, "bytes_per_band"},
		{"reconcile --items 30000", "reconcile", 1, "differences"},
		{"auth --terminals 4 --seconds 0.1", "auth", 1, "chip_per_cent"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			dir := t.TempDir()
			args := append([]string{"bench"}, strings.Fields(tt.args)...)
			if tt.bench != "tap" && tt.bench != "band" {
				args = append(args, "--dir", dir)
			}
			all := lines(t, koala(t, "", append(args, "--json")...))
			if len(all) != tt.n {
				t.Fatalf("%d lines, want %d", len(all), tt.n)
			}
			last := all[tt.n-1]
			if last["bench"] != tt.bench || last["params"].(map[string]any)[tt.param] == nil {
				t.Errorf("%v", last)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("%s is left behind", left[0].Name())
			}
		})
	}
}

// The model's times do not depend on the machine: a tap keeps its budget.
func TestBenchTapModel(t *testing.T) {
	x := lines(t, koala(t, "", "bench", "tap", "--seconds", "0.05", "--json"))[0]
	model := x["params"].(map[string]any)["model"].(map[string]any)
	for _, rate := range []string{"106_kbit", "424_kbit"} {
		for _, way := range []string{"entry", "exit"} {
			told := model[rate].(map[string]any)[way].(map[string]any)
			total, sum := told["total_ms"].(float64), 0.0
			for _, part := range []string{"activation_ms", "air_ms", "psam_ms", "chips_ms"} {
				sum += told[part].(float64)
			}
			if told["in_time"] != true || total > 300 || sum < total-0.01 || sum > total+0.01 {
				t.Errorf("%s at %s: %v, parts sum to %v", way, rate, told, sum)
			}
		}
	}
}

// A Quickpass payment keeps its half second by the model, and a band with six
// cards its memory.
func TestBenchQuickpassNumbers(t *testing.T) {
	x := lines(t, koala(t, "", "bench", "tap", "--card", "quickpass", "--seconds", "0.05", "--json"))[0]
	for rate, v := range x["params"].(map[string]any)["model"].(map[string]any) {
		told := v.(map[string]any)
		sum := told["activation_ms"].(float64) + told["air_ms"].(float64) + told["chips_ms"].(float64)
		if total := told["total_ms"].(float64); told["in_time"] != true || total > 500 || sum < total-0.01 || sum > total+0.01 {
			t.Errorf("%s: %v, parts sum to %v", rate, told, sum)
		}
	}
	x = lines(t, koala(t, "", "bench", "band", "--bands", "10", "--json"))[0]
	if p := x["params"].(map[string]any); p["cards"] != 6.0 || p["bytes_per_band"].(float64) > bandBudget {
		t.Errorf("%v", p)
	}
}

// Piped text is a table without bars, colour or progress.
func TestBenchText(t *testing.T) {
	r := koala(t, "", "bench", "tap", "--seconds", "0.05")
	if r.code != exitFine || r.errs != "" || !strings.Contains(r.out, "per second") || !strings.Contains(r.out, "budget 300 ms") {
		t.Errorf("code %d: %q %q", r.code, r.out, r.errs)
	}
	if strings.ContainsAny(r.out+r.errs, "\x1b\r█") {
		t.Errorf("%q", r.out)
	}
}

// A stopped bench says so and takes its files away.
func TestBenchStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, args := range []string{"ledger", "ledger --replay", "issue", "tap", "tap --card quickpass", "band"} {
		dir := t.TempDir()
		words := append([]string{"bench"}, strings.Fields(args)...)
		if !strings.HasPrefix(args, "tap") && args != "band" {
			words = append(words, "--dir", dir)
		}
		if r := koalaIn(ctx, "", words...); r.code != exitRefused || !strings.Contains(r.errs, "was stopped") || r.out != "" {
			t.Errorf("bench %s: code %d, %q, %q", args, r.code, r.out, r.errs)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("bench %s leaves %s behind", args, left[0].Name())
		}
	}
}

func TestBenchOnPostgres(t *testing.T) {
	url := os.Getenv("KOALA_TEST_PG")
	if url == "" {
		t.Skip("KOALA_TEST_PG names no database")
	}
	all := lines(t, koala(t, "", "bench", "ledger", "--callers", "4", "--seconds", "0.2", "--db", "sqlite", "--db", url, "--dir", t.TempDir(), "--json"))
	if len(all) != 2 || all[0]["store"] != "sqlite" || all[1]["store"] != "postgres" {
		t.Errorf("%v", all)
	}
}

func TestBars(t *testing.T) {
	for _, tt := range []struct {
		value, best float64
		want        string
	}{
		{0, 0, ""}, {0, 5, ""}, {5, 5, strings.Repeat("█", barWidth)}, {5, 10, strings.Repeat("█", barWidth/2)},
		{1, barWidth * 8, "▏"}, {7, barWidth * 8, "▉"}, {9, barWidth * 8, "█▏"},
	} {
		if got := bar(tt.value, tt.best); got != tt.want {
			t.Errorf("%v of %v: %q, want %q", tt.value, tt.best, got, tt.want)
		}
	}
	for v, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567.8: "1,234,568"} {
		if got := grouped(v); got != want {
			t.Errorf("%v: %q", v, got)
		}
	}
}
