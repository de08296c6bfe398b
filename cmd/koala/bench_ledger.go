package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/spf13/cobra"

	"koala/internal/db"
	"koala/ledger"
	"koala/ledger/ledgerbench"
	"koala/money"
)

// compareShare is the hot share that --compare-hot sets against uniform.
const compareShare = 0.2

// ledgerFlags are the flags of `koala bench ledger`.
type ledgerFlags struct {
	benchFlags
	callers []int
	hot     float64
	compare bool
	replay  bool
	records int
	rounds  int
	db      []string
	dir     string
}

func benchLedgerCommand() *cobra.Command {
	var f ledgerFlags
	c := &cobra.Command{
		Use:   "ledger",
		Short: "Transfers a second, each durable before its caller goes on",
		Long: `Callers make transfers between 10,000 wallets, each waiting until its own is durable.
With several stores, callers or shares the cases take turns within a round, so that
neighbours on the machine disturb them alike; the best round of each is printed and
the others stand in params. --replay makes a journal and times how long a start
takes to replay it with all hashes checked.`,
		Example: `  koala bench ledger --callers 64,256 --rounds 3
  koala bench ledger --compare-hot --rounds 3 --seconds 3
  koala bench ledger --db sqlite --db postgres://postgres@localhost/bench --json
  koala bench ledger --replay --records 2000000`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.add(c)
	c.Flags().IntSliceVar(&f.callers, "callers", []int{64}, "callers at once, one case for each number")
	c.Flags().Float64Var(&f.hot, "hot", 0, "share of the transfers that pay one and the same merchant, 0 to 1")
	c.Flags().BoolVar(&f.compare, "compare-hot", false, "each case uniform and with a hot share of 0.2, in turn")
	c.Flags().BoolVar(&f.replay, "replay", false, "time the replay of a journal at start instead")
	c.Flags().IntVar(&f.records, "records", 1_000_000, "transfers in the journal of --replay")
	c.Flags().IntVar(&f.rounds, "rounds", 1, "runs of each case; the best is printed")
	c.Flags().StringArrayVar(&f.db, "db", []string{"sqlite"}, "sqlite, or postgres://user@host/database; may be repeated")
	c.Flags().StringVar(&f.dir, "dir", ".", "folder on a real disk, for embedded stores while they are measured")
	return c
}

func (f ledgerFlags) run(cmd *cobra.Command) error {
	for _, n := range f.callers {
		if err := checkCallers(n); err != nil {
			return err
		}
	}
	if !(f.hot >= 0 && f.hot <= 1) {
		return errUsage{fmt.Errorf("--hot %v: a share between 0 and 1", f.hot)}
	}
	if f.compare && f.hot != 0 {
		return errUsage{errors.New("--compare-hot chooses the share itself: leave --hot away")}
	}
	if f.rounds < 1 || f.rounds > maxBenchRounds {
		return errUsage{fmt.Errorf("--rounds %d: between 1 and %d", f.rounds, maxBenchRounds)}
	}
	for _, url := range f.db {
		if url != "sqlite" && !isPostgres(url) {
			return errUsage{fmt.Errorf("--db %s: sqlite or postgres://…", url)}
		}
	}
	if f.replay {
		if f.records < 1 || f.records > 100_000_000 {
			return errUsage{fmt.Errorf("--records %d: between 1 and 100,000,000", f.records)}
		}
		return f.measure(cmd, f.benchReplay)
	}
	return f.measure(cmd, f.bench)
}

func isPostgres(url string) bool {
	return strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
}

// A ledgerCase is one way of loading; its runs take turns with other cases'.
type ledgerCase struct {
	url     string
	callers int
	hot     float64
	runs    []ledgerbench.Result
}

func (f ledgerFlags) cases() (all []*ledgerCase) {
	shares := []float64{f.hot}
	if f.compare {
		shares = []float64{0, compareShare}
	}
	for _, url := range f.db {
		if url == "sqlite" {
			url = f.dir
		}
		for _, n := range f.callers {
			for _, hot := range shares {
				all = append(all, &ledgerCase{url: url, callers: n, hot: hot})
			}
		}
	}
	return all
}

func (f ledgerFlags) bench(ctx context.Context, p *benchProgress) ([]figure, error) {
	cases := f.cases()
	for round := range f.rounds {
		for i, c := range turn(cases, round) {
			p.step(fmt.Sprintf("round %d of %d, case %d of %d", round+1, f.rounds, i+1, len(cases)), f.seconds)
			r, err := ledgerbench.Run(ctx, c.url, c.callers, f.seconds, c.hot)
			if err != nil {
				return nil, err
			}
			c.runs = append(c.runs, r)
		}
	}
	var out []figure
	for i, c := range cases {
		x := c.figure()
		if f.compare && c.hot > 0 {
			ratio := rounded(x.PerSecond/out[i-1].PerSecond, 3)
			x.Params["hot_over_uniform"] = ratio
			x.notes = append(x.notes, fmt.Sprintf("%d callers: %.0f %% of transfers on one account run at %.3f of uniform", c.callers, 100*c.hot, ratio))
		}
		out = append(out, x)
	}
	return out, nil
}

// turn lists the cases of a round: every other round backwards, so that what the
// machine does over time favours none.
func turn(cases []*ledgerCase, round int) []*ledgerCase {
	if round%2 == 1 {
		cases = slices.Clone(cases)
		slices.Reverse(cases)
	}
	return cases
}

// figure is the best run of a case.
func (c *ledgerCase) figure() figure {
	best := c.runs[0]
	var runs, replays []float64
	for _, r := range c.runs {
		if r.PerSecond > best.PerSecond {
			best = r
		}
		runs = append(runs, rounded(r.PerSecond, 0))
		replays = append(replays, rounded(r.Replay, 0))
	}
	return figure{
		Bench: "ledger", Store: best.Store, Callers: c.callers, Seconds: rounded(best.Elapsed.Seconds(), 3), Ops: best.Ops,
		PerSecond: rounded(best.PerSecond, 1), P50: inMillis(best.P50), P99: inMillis(best.P99), CPU: inMicros(best.CPUPerOp),
		Params: map[string]any{
			"accounts": ledgerbench.Accounts, "hot_share": c.hot, "commits": best.Commits, "p999_ms": inMillis(best.P999),
			"max_ms": inMillis(best.Max), "view_lag": best.Lag, "runs_per_second": runs, "replay_per_second": replays,
		},
	}
}

// replayCallers make the journal of --replay: with their number the batches
// are as large as under load.
const replayCallers = 256

// benchReplay makes a journal, then opens it as a start does.
func (f ledgerFlags) benchReplay(ctx context.Context, p *benchProgress) ([]figure, error) {
	for _, url := range f.db {
		if url != "sqlite" {
			return nil, errUsage{errors.New("--replay measures the embedded store; on PostgreSQL see replay_per_second of a run without it")}
		}
	}
	dir, err := os.MkdirTemp(f.dir, "koala-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "bench.db")
	p.step(fmt.Sprintf("making a journal of %d transfers", f.records), float64(f.records)/150_000)
	if err := makeJournal(ctx, file, f.records); err != nil {
		return nil, fmt.Errorf("making the journal: %w", err)
	}
	watch := newStopwatch(f.rounds)
	for round := range f.rounds {
		p.step(fmt.Sprintf("replay %d of %d", round+1, f.rounds), float64(f.records)/1e6)
		if err := replayJournal(ctx, file, watch); err != nil {
			return nil, err
		}
	}
	x := watch.figure("replay", "sqlite", 1)
	var runs []float64
	for _, t := range watch.times { // sorted: the first is the best
		runs = append(runs, rounded(float64(f.records)/t.Seconds(), 0))
	}
	x.Ops, x.PerSecond, x.Seconds = int64(f.records), runs[0], rounded(watch.times[0].Seconds(), 3)
	x.CPU = rounded(watch.CPU.Seconds()*1e6/float64(f.rounds*f.records), 2)
	x.Params = map[string]any{"accounts": ledgerbench.Accounts, "runs_per_second": runs}
	return []figure{x}, nil
}

func replayJournal(ctx context.Context, file string, watch *stopwatch) error {
	store, err := db.Open(ctx, db.Config{URL: file})
	if err != nil {
		return err
	}
	defer store.Close()
	runtime.GC() // a start is a fresh process: it does not pay for the round before
	watch.start()
	before := watch.Wall
	book, err := ledger.Open(ctx, store, ledger.Config{Inline: true})
	watch.stop()
	if err != nil {
		return err
	}
	watch.times = append(watch.times, watch.Wall-before)
	return book.Close()
}

// makeJournal makes a book of n transfers as concurrent callers do, without a
// snapshot.
func makeJournal(ctx context.Context, file string, n int) error {
	store, err := db.Open(ctx, db.Config{URL: file})
	if err != nil {
		return err
	}
	defer store.Close()
	book, err := ledger.Open(ctx, store, ledger.Config{Inline: true, MaxLag: 1 << 40})
	if err != nil {
		return err
	}
	defer book.Close()
	name := func(i int) ledger.AccountID { return ledger.AccountID(fmt.Sprintf("wallet:%06d", i)) }
	err = store.Write(ctx, func(tx *db.Tx) error {
		for i := range ledgerbench.Accounts {
			if err := ledger.OpenAccount(tx, ledger.Account{ID: name(i), Code: "2010", Currency: money.CNY}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	failed := make([]error, replayCallers)
	for w := range replayCallers {
		wg.Go(func() {
			for failed[w] == nil {
				i := int(next.Add(1) - 1)
				if i >= n {
					return
				}
				from := i * 7_919 % ledgerbench.Accounts
				to := (from + 1 + i%(ledgerbench.Accounts-1)) % ledgerbench.Accounts
				e := ledger.Move(fmt.Sprintf("r:%d", i), name(from), name(to), money.Fen(int64(1+i%500)))
				failed[w] = store.Write(ctx, func(tx *db.Tx) error {
					_, err := ledger.Post(tx, e)
					return err
				})
			}
		})
	}
	wg.Wait()
	return errors.Join(failed...)
}
