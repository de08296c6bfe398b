package main

import (
	"bufio"
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"koala/calendar"
	"koala/reconcile"
	"koala/spec/clearing"
	"koala/spec/pan"
)

// reconcileFlags are the flags of `koala bench reconcile`.
type reconcileFlags struct {
	benchFlags
	items int
	dir   string
}

func benchReconcileCommand() *cobra.Command {
	var f reconcileFlags
	c := &cobra.Command{
		Use:   "reconcile",
		Short: "Transactions compared with a host's clearing file",
		Long: `Writes a clearing file of one settlement day in the switch's order, not the key's,
with one line in 10,000 changed, left out or added, and then times what a night's
run does: read and check every line, sort both sides on disk, compare.
--seconds is not used: the day is compared once.`,
		Example: "  koala bench reconcile --items 1000000",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.items < 1 || f.items > 100_000_000 {
				return errUsage{fmt.Errorf("--items %d: between 1 and 100,000,000", f.items)}
			}
			return f.measure(cmd, f.bench)
		},
	}
	f.add(c)
	c.Flags().IntVar(&f.items, "items", 1_000_000, "transactions of the day")
	c.Flags().StringVar(&f.dir, "dir", "", "folder for the file and the runs; empty: the system's")
	return c
}

// oddOne is how often something differs: one line in so many.
const oddOne = 10_000

// shuffled is the nth of n numbers in an order that is not theirs.
func shuffled(nth, n int) int { return int(int64(nth) * 7_368_787 % int64(n)) }

var benchDay = calendar.Date{Year: 2015, Month: time.September, Day: 16}

// sales are the switch's own: in the order of their making.
func (f reconcileFlags) sales() iter.Seq2[reconcile.Item, error] {
	at := benchDay.Start(calendar.Beijing)
	return func(yield func(reconcile.Item, error) bool) {
		for i := range f.items {
			x := reconcile.Item{RRN: fmt.Sprintf("%012d", i), Acquirer: "48021000", TID: fmt.Sprintf("%08d", i%200_000), STAN: fmt.Sprintf("%06d", i%1_000_000),
				Date: benchDay, Kind: reconcile.Sale, State: reconcile.Cleared, Fen: int64(100 + i%90_000), Fee: int64(1 + i%300), Network: int64(i % 40), At: at}
			if !yield(x, nil) {
				return
			}
		}
	}
}

// write makes the host's file and says how many of its lines are odd.
func (f reconcileFlags) write(file *os.File) (odd int, err error) {
	card, err := pan.Complete("622588212100000")
	if err != nil {
		return 0, err
	}
	w := bufio.NewWriterSize(file, 1<<20)
	var line []byte
	for n := range f.items {
		i := n
		if f.items%7_368_787 != 0 {
			i = shuffled(n, f.items)
		}
		r := clearing.Record{Agent: "48021000", Sender: "00010000", Trace: fmt.Sprintf("%06d", i%1_000_000), Sent: "0916120000", PAN: card,
			Amount: int64(100 + i%90_000), MTI: "0200", Processing: "000000", MCC: "5411", Terminal: fmt.Sprintf("%08d", i%200_000),
			Merchant: "898110058120001", RRN: fmt.Sprintf("%012d", i), Condition: "00", Response: "00", Payable: int64(1 + i%300), SwitchFee: int64(i % 40)}
		if n%oddOne == oddOne/2 {
			odd++
			switch n / oddOne % 3 {
			case 0:
				continue // missing at the network
			case 1:
				r.Amount++
			case 2:
				r.Payable++
			}
		}
		if line, err = r.Append(line[:0]); err != nil {
			return 0, err
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return 0, err
		}
	}
	return odd, w.Flush()
}

func (f reconcileFlags) bench(ctx context.Context, p *benchProgress) ([]figure, error) {
	dir, err := os.MkdirTemp(f.dir, "koala-bench-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file, err := os.Create(filepath.Join(dir, "ACOM"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	p.step("writing the clearing file", float64(f.items)/400_000)
	odd, err := f.write(file)
	if err != nil {
		return nil, err
	}
	size, err := file.Seek(0, 1)
	if err != nil {
		return nil, err
	}
	if _, err := file.Seek(0, 0); err != nil {
		return nil, err
	}
	p.step("comparing", float64(f.items)/300_000)
	watch := newStopwatch(1)
	watch.start()
	r, err := compareDay(f.sales(), reconcile.ReadClearing(file, benchDay, nil), dir)
	watch.stop()
	if err != nil {
		return nil, err
	}
	if len(r.Differences) != odd {
		return nil, fmt.Errorf("%d differences found, %d were made", len(r.Differences), odd)
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	seconds := watch.Wall.Seconds()
	x := figure{Bench: "reconcile", Store: "files", Callers: 1, Seconds: rounded(seconds, 3), Ops: int64(f.items), PerSecond: rounded(float64(f.items)/seconds, 1),
		CPU: inMicros(watch.CPU / time.Duration(f.items)), Params: map[string]any{"items": f.items, "file_bytes": size, "differences": odd, "memory_mb": mem.Sys >> 20}}
	x.P50, x.P99 = inMillis(watch.Wall), inMillis(watch.Wall)
	x.notes = []string{fmt.Sprintf("%d items and a file of %d MB in %.2f s, %d differences, %d MB of memory", f.items, size>>20, seconds, odd, mem.Sys>>20)}
	return []figure{x}, ctx.Err()
}

// compareDay is what a night's run does before it writes anything down.
func compareDay(ours, theirs iter.Seq2[reconcile.Item, error], dir string) (reconcile.Result, error) {
	o, t, err := reconcile.SortBoth(ours, theirs, dir)
	if err != nil {
		return reconcile.Result{}, err
	}
	defer o.Close()
	defer t.Close()
	return reconcile.Match(o.All(), t.All(), time.Time{}, reconcile.Carried{})
}
