package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden traces anew")

// traced runs koala trace, which must succeed.
func traced(t *testing.T, args ...string) string {
	t.Helper()
	r := koala(t, "", append([]string{"trace"}, args...)...)
	if r.code != exitFine || r.errs != "" {
		t.Fatalf("koala trace %s: code %d, %q", strings.Join(args, " "), r.code, r.errs)
	}
	return r.out
}

// A trace is the same to the byte whenever and wherever it is made. After a
// change on purpose: go test ./cmd/koala -run TestGoldenTraces -update.
func TestGoldenTraces(t *testing.T) {
	for _, tt := range []struct{ name, args string }{
		{"tap", "tap"},
		{"tap-zh", "tap --lang zh"},
		{"tap-shared", "tap --from 西直门 --to 东单"},      // three lines, two operators
		{"tap-cut-unpaid", "tap --cut 2"},             // the card had not paid
		{"tap-cut-paid", "tap --cut 6"},               // it had
		{"issue", "issue"},                            //
		{"issue-cut", "issue --cut 9"},                // in the middle of personalisation
		{"topup", "topup"},                            //
		{"topup-cut-unpaid", "topup --cut 1"},         // the card had not taken the money
		{"topup-cut-paid", "topup --cut 2 --lang zh"}, // it had
		{"topup-json", "topup --json --amount 1"},     //
		{"tap-same-station", "tap --from 东单 --to 东单"}, // no money moves
		{"quickpass", "quickpass"},
		{"quickpass-zh", "quickpass --lang zh --amount 100"},
		{"quickpass-online", "quickpass --online"},
		{"quickpass-cut", "quickpass --cut 3"},
		{"quickpass-json", "quickpass --json"},
		{"issue-quickpass", "issue --card quickpass"},
		{"load", "load"},
		{"load-cut", "load --cut 4"},
		{"meal", "meal"},
		{"door", "door"},
		{"sale", "sale"},
		{"sale-zh", "sale --lang zh --amount 20000"},
		{"sale-cut", "sale --cut 5"},
		{"coupon", "coupon"},
		{"coupon-cut", "coupon --cut 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := traced(t, strings.Fields(tt.args)...)
			file := filepath.Join("testdata", "trace-"+tt.name+".trace")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if at, ok := firstDifference(got, string(want)); !ok {
				t.Errorf("koala trace %s differs from %s:\n%s", tt.args, file, at)
			}
		})
	}
}

func firstDifference(got, want string) (string, bool) {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(a):
			return "missing: " + b[i], false
		case i >= len(b):
			return "too much: " + a[i], false
		case a[i] != b[i]:
			return "got:  " + a[i] + "\nwant: " + b[i], false
		}
	}
	return "", true
}

// The contact may go at any write: the act happens once, the books are proven.
// Every third write is tried; the packages of card, terminal and house cut at
// all of them.
func TestTraceSurvivesCuts(t *testing.T) {
	for _, act := range []struct {
		name string
		from int // writes that a whole act makes at least
		want string
	}{
		{"tap", 10, `"charged by the gate","value":"6.00 CNY"`},
		{"quickpass", 3, `payable.shop_haolin","fen":1250`},
		{"load", 4, `"balance proven","value":"100.00 CNY"`},
		{"meal", 2, `payable.shop_kesi","fen":`},
		{"sale", 2, `"exceptions","value":"0"`},
		{"coupon", 2, `payable.shop_maixiao","fen":500`},
		{"topup", 4, `"balance proven","value":"50.00 CNY"`},
		{"issue", 20, `"state","value":"active  ready"`},
	} {
		t.Run(act.name, func(t *testing.T) {
			t.Parallel()
			n := 1
			for ; ; n += 3 {
				out := traced(t, act.name, "--json", "--cut", strconv.Itoa(n))
				if !strings.Contains(out, act.want) || !strings.Contains(out, "everything holds") {
					t.Fatalf("cut %d does not end as it should:\n%s", n, out)
				}
				if strings.Contains(out, "Nothing was cut") {
					break
				}
			}
			if n <= act.from {
				t.Errorf("nothing could be cut from write %d on, want more than %d", n, act.from)
			}
		})
	}
}

// Every line of --json is an object of a known kind in a section, and what is
// secret is masked.
func TestTraceJSON(t *testing.T) {
	kinds := []string{"section", "note", "apdu", "decision", "message", "row", "posting", "time"}
	for _, act := range []string{"tap", "issue", "topup", "quickpass", "load", "meal", "coupon", "sale"} {
		seen := map[string]bool{}
		for line := range strings.Lines(traced(t, act, "--json")) {
			var l traceLine
			dec := json.NewDecoder(strings.NewReader(line))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&l); err != nil {
				t.Fatalf("%s: %v in %s", act, err, line)
			}
			if l.Section == "" || !slices.Contains(kinds, l.Kind) {
				t.Errorf("%s: %s", act, line)
			}
			seen[l.Kind] = true
			sum := int64(0)
			for _, leg := range l.Legs {
				sum += leg.Fen
			}
			if sum != 0 {
				t.Errorf("%s: legs sum to %d fen in %s", act, sum, line)
			}
			for _, f := range l.Fields {
				if f.Secret && f.Name != "key" && !strings.Contains(f.Value, "••••") && !strings.Contains(f.Value, "X") { // of a key inside a command its name is shown
					t.Errorf("%s: %s is not masked", act, f.Name)
				}
			}
		}
		for _, k := range []string{"section", "apdu", "message", "row", "posting"} {
			if !seen[k] {
				t.Errorf("%s has no %s", act, k)
			}
		}
	}
}

// No trace shows a card's number whole, nor anything else of it that names the
// card.
func TestTraceHidesPAN(t *testing.T) {
	for _, args := range []string{"quickpass --json", "quickpass --online", "issue --card credit --json", "sale", "sale --json"} {
		out := traced(t, strings.Fields(args)...)
		if n := houseNumber.FindString(out); n != "" {
			t.Errorf("%s shows %s", args, n)
		}
		if !strings.Contains(out, "628888") {
			t.Errorf("%s: no number at all", args)
		}
	}
}

// houseNumber is a number of the house's own range.
var houseNumber = regexp.MustCompile("628888[0-9]{8,}")

func TestTraceMisuse(t *testing.T) {
	for _, tt := range []struct {
		args string
		code int
		says string
	}{
		{"trace tap --lang fr", exitMisused, "fr"},
		{"trace tap --cut -1", exitMisused, "-1"},
		{"trace issue --cut 10001", exitMisused, "10001"},
		{"trace topup --amount 0", exitMisused, "amount"},
		{"trace topup --amount -5", exitMisused, "amount"},
		{"trace tap now", exitMisused, "now"},
		{"trace issue --card banana", exitMisused, "banana"},
		{"trace quickpass --amount 0", exitMisused, "amount"},
		{"trace quickpass --amount 200000", exitRefused, ""},
		{"trace meal --cut -3", exitMisused, "-3"},
		{"trace bus", exitMisused, "bus"},
		{"trace tap --from 火星", exitRefused, "火星"},
		{"trace topup --amount 50001", exitRefused, "tsm.over_single_limit"},
	} {
		r := koala(t, "", strings.Fields(tt.args)...)
		if r.code != tt.code || !strings.Contains(r.errs, tt.says) {
			t.Errorf("koala %s: code %d, want %d; %q", tt.args, r.code, tt.code, r.errs)
		}
	}
}
