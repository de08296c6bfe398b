package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
hash, on SQLite and on PostgreSQL. With --db name a database that holds no house yet.

A crash leaves the house's folder as it lies there and goes on in a copy: --data DIR, which must
hold no city yet, ends with DIR/house-1, house-2 and so on, one more for each crash. The
last is the city's end, the output names it, and koala verify proves it; the others are of use
only to look at what a crash left.`,
		Example: "  koala city run --days 1 --people 1000 --seed 7 --faults many --json\n  koala city run --people 200 --data /tmp/town",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Faults = city.Faults(faults)
			if err := checkCity(cfg); err != nil {
				return err
			}
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
			return errors.Join(err, printCity(cmd.OutOrStdout(), citySaid{result, lastHouse(cfg.Data)}, cfg.DB, asJSON))
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

// checkCity refuses a city that cannot be run, by the flag that asks for it.
func checkCity(cfg city.Config) error {
	switch {
	case cfg.People < 1 || cfg.People > city.MaxPeople:
		return errUsage{fmt.Errorf("--people %d: 1 to %d", cfg.People, city.MaxPeople)}
	case cfg.Days < 1 || cfg.Days > city.MaxDays:
		return errUsage{fmt.Errorf("--days %d: 1 to %d", cfg.Days, city.MaxDays)}
	}
	if used := lastHouse(cfg.Data); used != "" {
		return errUsage{fmt.Errorf("--data %s holds a city already (%s): name another folder, or delete it", cfg.Data, used)}
	}
	return nil
}

// lastHouse is the folder of the house that a city ended with; empty when the
// folder holds none.
func lastHouse(data string) (dir string) {
	for n := 1; data != ""; n++ {
		next := filepath.Join(data, fmt.Sprintf("house-%d", n))
		if _, err := os.Stat(next); err != nil {
			break
		}
		dir = next
	}
	return dir
}

// A citySaid is `koala city run --json`: fields may be added, none renamed.
type citySaid struct {
	city.Result
	House string `json:"house,omitempty"` // folder of the house at the end, when it is kept
}

func printCity(w io.Writer, r citySaid, db string, asJSON bool) error {
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
	fmt.Fprintf(w, "proof: %s\nhash:  %s\n", r.Proof, r.Hash)
	if r.House != "" {
		verify := "koala verify --data " + r.House
		if db != "" {
			verify += " --db " + db
		}
		fmt.Fprintf(w, "kept:  %s, to prove with %s\n", r.House, verify)
	}
	return nil
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
