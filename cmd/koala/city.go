package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"koala/city"
)

func cityCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "city",
		Short: "A simulated city on the real network",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(cityRunCommand())
	return c
}

func cityRunCommand() *cobra.Command {
	var cfg city.Config
	var asJSON bool
	var faults string
	c := &cobra.Command{
		Use:   "run",
		Short: "Run a city headless; ends with the closing proof and a hash",
		Long: `Runs people with bands, gates, buses, shops, a canteen, doors and the house itself on one
thread, a virtual clock and one seed. Faults break contacts, power, requests, commits and the process at the
seams; checkers compare the books with what the elements did. The same seed gives the same
hash, on SQLite and on PostgreSQL. With --db name a database that holds no house yet.`,
		Example: "  koala city run --days 1 --people 1000 --seed 7 --faults many --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Faults = city.Faults(faults)
			bar := progress(cmd.ErrOrStderr(), "city")
			cfg.Progress = func(_ time.Time, done, all time.Duration) { bar.at(int64(done/time.Minute), int64(all/time.Minute)) }
			result, err := city.Run(cmd.Context(), cfg)
			bar.close()
			if errors.Is(err, city.ErrConfig) {
				return errUsage{err}
			}
			if result.Steps == 0 {
				return err
			}
			return errors.Join(err, printCity(cmd.OutOrStdout(), result, asJSON))
		},
	}
	c.Flags().IntVar(&cfg.Days, "days", 1, "days to run")
	c.Flags().IntVar(&cfg.People, "people", 1000, "people with a band")
	c.Flags().Uint64Var(&cfg.Seed, "seed", 1, "what happens follows from it")
	c.Flags().StringVar(&faults, "faults", "some", "how much goes wrong: none, some or many")
	c.Flags().StringVar(&cfg.DB, "db", "", "postgres://user@host/database instead of an embedded store")
	c.Flags().StringVar(&cfg.Data, "data", "", "folder to keep; a temporary one otherwise")
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object instead of text")
	return c
}

func printCity(w io.Writer, r city.Result, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	fmt.Fprintf(w, "%d people, %d days, seed %d, faults %s on %s: %d steps in %.1f s\n",
		r.People, r.Days, r.Seed, r.Faults, r.Store, r.Steps, r.Seconds)
	for _, part := range []struct {
		name   string
		counts map[string]int64
	}{{"happened", r.Counts}, {"injected", r.Injected}} {
		fmt.Fprintf(w, "%s:\n", part.name)
		names := make([]string, 0, len(part.counts))
		for name := range part.counts {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			fmt.Fprintf(w, "  %-28s %8d\n", name, part.counts[name])
		}
	}
	_, err := fmt.Fprintf(w, "proof: %s\nhash:  %s\n", r.Proof, r.Hash)
	return err
}

// A meter shows progress on a terminal and nothing elsewhere.
type meter struct {
	p   *mpb.Progress
	bar *mpb.Bar
}

func progress(w io.Writer, name string) *meter {
	f, ok := w.(*os.File)
	if !ok {
		return &meter{}
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return &meter{}
	}
	p := mpb.New(mpb.WithOutput(f), mpb.WithWidth(48))
	return &meter{p: p, bar: p.AddBar(0, mpb.PrependDecorators(decor.Name(name+" ")), mpb.AppendDecorators(decor.Percentage()), mpb.BarRemoveOnComplete())}
}

func (m *meter) at(done, all int64) {
	if m.bar != nil {
		m.bar.SetTotal(all, false)
		m.bar.SetCurrent(done)
	}
}

func (m *meter) close() {
	if m.bar != nil {
		m.bar.Abort(true)
		m.p.Wait()
	}
}
