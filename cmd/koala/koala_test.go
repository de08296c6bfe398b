package main

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// A said is what a command left behind.
type said struct {
	code      int
	out, errs string
}

// koala runs the command line in this process.
func koala(t *testing.T, in string, args ...string) said {
	t.Helper()
	return koalaIn(t.Context(), in, args...)
}

func koalaIn(ctx context.Context, in string, args ...string) said {
	var out, errs bytes.Buffer
	code := run(ctx, args, strings.NewReader(in), &out, &errs)
	return said{code, out.String(), errs.String()}
}

// walk visits every command that people can see.
func walk(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		if !sub.Hidden && sub.Name() != "help" && sub.Name() != "completion" {
			walk(sub, visit)
		}
	}
}

// Every command says what it does, shows an example that is a command line of
// its own, and answers --help with both.
func TestEveryCommandExplainsItself(t *testing.T) {
	walk(newRoot(), func(c *cobra.Command) {
		if !c.HasParent() {
			return
		}
		path := c.CommandPath()
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short text %q", path, c.Short)
		}
		r := koala(t, "", append(strings.Fields(path)[1:], "--help")...)
		if r.code != exitFine || r.errs != "" || !strings.Contains(r.out, "Usage:") {
			t.Errorf("%s --help: code %d, %q", path, r.code, r.errs)
		}
		if c.HasSubCommands() {
			return
		}
		if c.Example == "" || !strings.Contains(r.out, "Examples:") {
			t.Errorf("%s has no example", path)
		}
		for line := range strings.Lines(c.Example) {
			if !strings.HasPrefix(line, "  "+path) {
				t.Errorf("%s: example %q is not of this command", path, line)
			}
		}
	})
}

// A group alone shows its commands; that is not misuse.
func TestGroupsShowTheirCommands(t *testing.T) {
	walk(newRoot(), func(c *cobra.Command) {
		if !c.HasSubCommands() {
			return
		}
		path := strings.Fields(c.CommandPath())[1:]
		if r := koala(t, "", path...); r.code != exitFine || !strings.Contains(r.out, "Available Commands:") {
			t.Errorf("koala %v: code %d: %s", path, r.code, r.errs)
		}
	})
}

// Examples are worth nothing when their flags do not parse.
func TestExamplesParse(t *testing.T) {
	walk(newRoot(), func(c *cobra.Command) {
		for line := range strings.Lines(c.Example) {
			words := shellWords(line)
			if len(words) == 0 || words[0] != "koala" {
				continue
			}
			if i := slices.IndexFunc(words, func(w string) bool { return w == ">" || w == "<" || w == "|" }); i >= 0 {
				words = words[:i] // the rest is the shell's
			}
			sub, rest, err := newRoot().Find(words[1:])
			if err == nil {
				err = sub.ParseFlags(rest)
			}
			if err == nil {
				err = sub.ValidateArgs(sub.Flags().Args())
			}
			if err != nil {
				t.Errorf("%s: %v", strings.TrimSpace(line), err)
			}
		}
	})
}

// shellWords are the words of a line as a shell takes them; of quotes it knows the
// double ones.
func shellWords(line string) (words []string) {
	for i, part := range strings.Split(line, `"`) {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}

// A city that is kept names the folder of its last house, whose books hold; the
// folder takes no second city.
func TestCityFolder(t *testing.T) {
	dir := t.TempDir()
	args := []string{"city", "run", "--people", "2", "--faults", "many", "--data", dir}
	r := koala(t, "", args...)
	_, command, found := strings.Cut(strings.TrimSpace(r.out), "to prove with koala ")
	if r.code != exitFine || !found {
		t.Fatalf("%+v", r)
	}
	if r := koala(t, "", strings.Fields(command)...); r.code != exitFine || !strings.Contains(r.out, "Everything holds") {
		t.Errorf("%s: %+v", command, r)
	}
	if r := koala(t, "", args...); r.code != exitMisused || !strings.Contains(r.errs, "holds a city already") || r.out != "" {
		t.Errorf("a second city: %+v", r)
	}
}

// Misuse is exit code 2, a refusal 1, and what is wrong is named on the error
// stream alone.
func TestBadInput(t *testing.T) {
	for _, tt := range []struct {
		args string
		in   string
		code int
		says string
	}{
		{"nothing", "", exitMisused, `no command "nothing"`},
		{"--nothing", "", exitMisused, "--nothing"},
		{"fare", "", exitMisused, "--from and --to"},
		{"fare --from 东单", "", exitMisused, "--from and --to"},
		{"fare --from 东单 --to 西单 extra", "", exitMisused, "extra"},
		{"fare --from 东单 --to 西单 --at soon", "", exitMisused, `--at "soon"`},
		{"fare --from 东单 --to 西单 --month-spent -1", "", exitMisused, "-1"},
		{"fare --from 东单 --to 西单 --month-spent 99999999999999999999", "", exitMisused, "--month-spent"},
		{"fare --from 东单 --to 西单 --month-spent 9223372036854775807", "", exitMisused, "9223372036854775807"},
		{"fare --from 东单 --batch -", "", exitMisused, "--batch"},
		{"fare --batch - --json", "", exitMisused, "--batch"},
		{"fare --from 东单 --to Atlantis", "", exitRefused, `"Atlantis" [network.unknown_station]`},
		{"fare --from 东单 --to 西单 --at 1999-01-01", "", exitRefused, "1999-01-01"},
		{"fare --from 东单 --to 西单 --concession elf", "", exitRefused, `"elf"`},
		{"fare --batch /nonexistent/pairs.csv", "", exitRefused, "/nonexistent/pairs.csv"},
		{"fare --batch -", "from,to\n东单,Atlantis\n", exitRefused, `-: line 2: to: no such station: "Atlantis"`},
		{"fare --batch -", "from,to\n东单\n", exitRefused, "line 2"},
		{"fare --batch -", "\xff\xfe\x00", exitRefused, "line 1"},

		{"city run --people -1", "", exitMisused, "--people -1"},
		{"city run --people 100001", "", exitMisused, "--people 100001"},
		{"city run --days 0", "", exitMisused, "--days 0"},
		{"bench nothing", "", exitMisused, "nothing"},
		{"bench tap extra", "", exitMisused, "extra"},
		{"bench tap --seconds 0", "", exitMisused, "--seconds 0"},
		{"bench tap --seconds nan", "", exitMisused, "--seconds NaN"},
		{"bench tap --seconds -1", "", exitMisused, "--seconds -1"},
		{"bench tap --cpu-profile /nonexistent/p", "", exitRefused, "/nonexistent/p"},
		{"bench tap --card banana", "", exitMisused, `--card "banana"`},
		{"bench issue --card banana", "", exitMisused, `--card "banana"`},
		{"bench band --bands 0", "", exitMisused, "--bands 0"},
		{"bench issue --callers 0", "", exitMisused, "--callers 0"},
		{"bench issue --dir /nonexistent", "", exitRefused, "/nonexistent"},
		{"bench ledger --callers 64,x", "", exitMisused, "--callers"},
		{"bench ledger --callers 64,9999", "", exitMisused, "--callers 9999"},
		{"bench ledger --hot 1.5", "", exitMisused, "--hot 1.5"},
		{"bench ledger --hot 0.1 --compare-hot", "", exitMisused, "--hot"},
		{"bench ledger --rounds 0", "", exitMisused, "--rounds 0"},
		{"bench ledger --db mysql://somewhere", "", exitMisused, "mysql://somewhere"},
		{"bench ledger --replay --records -5", "", exitMisused, "--records -5"},
		{"bench ledger --replay --db postgres://localhost/x", "", exitMisused, "embedded"},
		{"bench ledger --dir /nonexistent", "", exitRefused, "/nonexistent"},
		{"bench ledger --db postgres://nobody@127.0.0.1:1/x", "", exitRefused, "127.0.0.1:1"},
	} {
		r := koala(t, tt.in, strings.Fields(tt.args)...)
		if r.code != tt.code || !strings.Contains(r.errs, tt.says) {
			t.Errorf("koala %s: code %d, want %d; %q, want %q", tt.args, r.code, tt.code, r.errs, tt.says)
		}
		if strings.Contains(r.out, "koala:") {
			t.Errorf("koala %s: errors on the output: %q", tt.args, r.out)
		}
	}
}

// A command that looks at a house must not make one.
func TestNoHouseIsMade(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{"verify"}, {"backup", dir + "/copy.db"}, {"rebuild", "views"}, {"migrate"}} {
		r := koala(t, "", append(args, "--data", dir+"/none")...)
		if r.code != exitRefused || !strings.Contains(r.errs, "there is no house in "+dir+"/none") {
			t.Errorf("koala %v: code %d, %q", args, r.code, r.errs)
		}
	}
	r := koala(t, "", "restore", dir+"/copy.db", "--data", dir)
	if r.code != exitRefused || !strings.Contains(r.errs, "koala.key is missing") {
		t.Errorf("restore without key file: code %d, %q", r.code, r.errs)
	}
}
