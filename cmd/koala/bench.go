package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime/pprof"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// The bounds of what a bench may be asked for.
const (
	maxBenchSeconds = 3_600
	maxBenchCallers = 8_192
	maxBenchRounds  = 100
)

// A figure is one line of `koala bench`: how it was loaded, and what came of
// it. The names are a contract: fields may be added, none renamed.
type figure struct {
	Bench     string         `json:"bench"`
	Store     string         `json:"store"`
	Callers   int            `json:"callers"`
	Seconds   float64        `json:"seconds"` // under load
	Ops       int64          `json:"ops"`
	PerSecond float64        `json:"per_second"`
	P50       float64        `json:"p50_ms"`
	P99       float64        `json:"p99_ms"`
	CPU       float64        `json:"cpu_us_per_op"` // of the whole process
	Params    map[string]any `json:"params"`

	notes []string // what the text output says below the table
}

// benchFlags are the flags that every bench has.
type benchFlags struct {
	seconds float64
	profile string
	json    bool
}

func (f *benchFlags) add(c *cobra.Command) {
	c.Flags().Float64Var(&f.seconds, "seconds", 5, "how long to load")
	c.Flags().BoolVar(&f.json, "json", false, "one JSON object per line instead of a table")
	c.Flags().StringVar(&f.profile, "cpu-profile", "", "write a CPU profile to this file, for go tool pprof")
}

func (f benchFlags) check() error {
	if !(f.seconds > 0 && f.seconds <= maxBenchSeconds) {
		return errUsage{fmt.Errorf("--seconds %v: between 0 and %d", f.seconds, maxBenchSeconds)}
	}
	return nil
}

func checkCallers(n int) error {
	if n < 1 || n > maxBenchCallers {
		return errUsage{fmt.Errorf("--callers %d: between 1 and %d", n, maxBenchCallers)}
	}
	return nil
}

func benchCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure this machine: postings, taps, cards written",
		Long: `Loads one part of the house the way its users do and measures it. Wall time on a
shared machine lies: compare figures of one run, and look at the processor time.
docs/benchmarks.md has the figures to reach and those that were measured.`,
		Example: "  koala bench ledger --callers 64,256\n  koala bench tap --card quickpass\n  koala bench issue --json",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(benchLedgerCommand(), benchTapCommand(), benchIssueCommand(), benchBandCommand(), benchSettleCommand(), benchReconcileCommand(), benchOnboardCommand(), benchAuthCommand())
	return c
}

// measure runs a bench with its profile and prints what it found.
func (f benchFlags) measure(cmd *cobra.Command, bench func(context.Context, *benchProgress) ([]figure, error)) (err error) {
	if err := f.check(); err != nil {
		return err
	}
	if f.profile != "" {
		file, err := os.Create(f.profile)
		if err != nil {
			return err
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	p := &benchProgress{errs: cmd.ErrOrStderr()}
	figures, err := bench(cmd.Context(), p)
	p.close()
	if err == nil {
		err = cmd.Context().Err()
	}
	if errors.Is(err, context.Canceled) {
		return errors.New("the bench was stopped; nothing was measured to its end")
	}
	if err != nil {
		return err
	}
	if f.json {
		out := json.NewEncoder(cmd.OutOrStdout())
		for _, x := range figures {
			if err := out.Encode(x); err != nil {
				return err
			}
		}
		return nil
	}
	return printFigures(cmd.OutOrStdout(), figures)
}

// barWidth is the longest bar, in characters.
const barWidth = 24

// printFigures prints the table, with bars where somebody looks at it.
func printFigures(out io.Writer, figures []figure) error {
	best := 0.0
	for _, f := range figures {
		best = max(best, f.PerSecond)
	}
	bars := isScreen(out)
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "bench\tstore\tcallers\tper second\tp50 ms\tp99 ms\tCPU us\t")
	for _, f := range figures {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%.3f\t%.3f\t%.1f\t", f.Bench, f.Store, f.Callers, grouped(f.PerSecond), f.P50, f.P99, f.CPU)
		if bars {
			fmt.Fprint(w, "  ", bar(f.PerSecond, best))
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, f := range figures {
		for _, n := range f.notes {
			if _, err := fmt.Fprintf(out, "%s: %s\n", f.Bench, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// bar draws value against best in eighths of a character.
func bar(value, best float64) string {
	if best <= 0 {
		return ""
	}
	eighths := int(math.Round(value / best * barWidth * 8))
	text := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		text += string([]rune(" ▏▎▍▌▋▊▉")[rest])
	}
	return text
}

// grouped writes a rate with its thousands apart: 183,204.
func grouped(v float64) string {
	digits := fmt.Sprintf("%.0f", v)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
