package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"koala/calendar"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/settlement/fee"
)

// settleFlags are the flags of `koala bench settle`.
type settleFlags struct {
	benchFlags
	sales, merchants int
	check            bool
	dir              string
	memory           int
}

// The bounds of what may be settled.
const (
	maxBenchSales     = 100_000_000
	maxBenchMerchants = 10_000_000
)

func benchSettleCommand() *cobra.Command {
	var f settleFlags
	c := &cobra.Command{
		Use:   "settle",
		Short: "One day of sales priced, netted and paid out",
		Long: `Loads a day of card sales of many merchants (outside the time), then closes the day:
every sale is priced by its merchant's category, price card and kind of card, fees and
refunds are netted per merchant, one entry a merchant is posted with the shares of issuers,
network and acquirer, and the payout file is written with its hash. Every unit is durable.
--check prices everything again afterwards and compares it with the books.`,
		Example: "  koala bench settle --sales 100000 --merchants 30000 --check\n  koala bench settle --sales 10000000 --merchants 3000000 --dir /data",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.sales < 1 || f.sales > maxBenchSales:
				return errUsage{fmt.Errorf("--sales %d: between 1 and %d", f.sales, maxBenchSales)}
			case f.merchants < 1 || f.merchants > maxBenchMerchants:
				return errUsage{fmt.Errorf("--merchants %d: between 1 and %d", f.merchants, maxBenchMerchants)}
			}
			return f.measure(cmd, f.bench)
		},
	}
	f.add(c)
	_ = c.Flags().MarkHidden("seconds") // a day is settled to its end
	c.Flags().IntVar(&f.sales, "sales", 1_000_000, "sales of the day")
	c.Flags().IntVar(&f.merchants, "merchants", 300_000, "merchants they are of")
	c.Flags().BoolVar(&f.check, "check", false, "prove the result afterwards")
	c.Flags().IntVar(&f.memory, "memory", 3_500, "soft limit of the heap, MiB")
	c.Flags().StringVar(&f.dir, "dir", ".", "folder on a real disk, for the store while it is measured")
	return c
}

// A settleRig is a house that does nothing but settle.
type settleRig struct {
	settleFlags
	store *db.Store
	book  *ledger.Book
	now   *clock.Virtual
	day   calendar.Date
	rand  *rand.Rand
}

func (f settleFlags) bench(ctx context.Context, p *benchProgress) ([]figure, error) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(int64(f.memory) << 20))
	dir, err := os.MkdirTemp(f.dir, "koala-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r := &settleRig{settleFlags: f, day: calendar.Date{Year: 2016, Month: time.September, Day: 20}, rand: rand.New(rand.NewPCG(1, 2))}
	r.now = clock.NewVirtual(r.day.Start(calendar.Beijing).Add(9 * time.Hour))
	if err := r.open(ctx, filepath.Join(dir, "koala.db")); err != nil {
		return nil, err
	}
	defer r.store.Close()
	defer r.book.Close()
	p.step("sales are loaded", float64(f.sales)/60_000+float64(f.merchants)/60_000)
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	runtime.GC()
	r.now.Set(r.day.AddDays(1).Start(calendar.Beijing).Add(settlement.CutOff + time.Minute))
	p.step("the day is settled", float64(f.sales)/50_000)
	watch := newStopwatch(1)
	watch.start()
	file, err := settlement.Run(ctx, r.store, r.day)
	watch.stop()
	if err != nil {
		return nil, err
	}
	paid := strings.Count(string(file.CSV), "\n") - 2
	peak := peakMemory()
	out := figure{Bench: "settle", Store: "sqlite", Callers: 1, Seconds: rounded(watch.Wall.Seconds(), 2), Ops: int64(f.sales),
		P50: inMillis(watch.Wall), P99: inMillis(watch.Wall), // one day is one operation
		PerSecond: rounded(float64(f.sales)/watch.Wall.Seconds(), 0), CPU: inMicros(watch.CPU / time.Duration(f.sales)),
		Params: map[string]any{"sales": f.sales, "merchants": f.merchants, "payouts": paid, "peak_mib": peak, "file_bytes": len(file.CSV)}}
	out.notes = []string{fmt.Sprintf("%d sales of %d merchants in %.1f s: %d payouts, a file of %.0f MB, at most %d MiB of memory",
		f.sales, f.merchants, watch.Wall.Seconds(), paid, float64(len(file.CSV))/1e6, peak)}
	if f.check {
		p.step("everything is priced again", float64(f.sales)/50_000)
		err = r.prove(ctx)
	}
	return []figure{out}, err
}

func (r *settleRig) open(ctx context.Context, file string) (err error) {
	if r.store, err = db.Open(ctx, db.Config{URL: file, Clock: r.now}); err != nil {
		return err
	}
	// The views of the book are not in it: they follow when the writer is idle.
	if r.book, err = ledger.Open(ctx, r.store, ledger.Config{Inline: true}); err != nil {
		return err
	}
	return r.store.Migrate(ctx, settlement.Schema)
}

// Of the sales: one in hosts+2 is of a foreign bank's card, one in fifty is a refund.
var benchHosts = []string{"icbc", "abc", "boc", "ccb", "cmb"}

// benchSource is what the sales' money comes from.
const benchSource ledger.AccountID = "bench.cardholders"

// benchPage is how many merchants one unit loads.
const benchPage = 1_000

// load makes merchants with terms, their sales, and the money these brought.
func (r *settleRig) load(ctx context.Context) error {
	err := r.store.Write(ctx, func(tx *db.Tx) error {
		err := errors.Join(settlement.OpenHouse(tx),
			ledger.OpenAccount(tx, ledger.Account{ID: benchSource, Code: "2020", Name: "cardholders", Currency: money.CNY}),
			ledger.OpenAccount(tx, ledger.Account{ID: "bank.custody", Code: "1010", Name: "custody bank (simulated bank)", Currency: money.CNY}))
		for _, h := range benchHosts {
			err = errors.Join(err, settlement.OpenIssuer(tx, h, "owed to "+h))
		}
		return err
	})
	for first := 0; first < r.merchants && err == nil; first += benchPage {
		if err = ctx.Err(); err != nil {
			return err
		}
		err = r.loadPage(ctx, first, min(first+benchPage, r.merchants))
	}
	return err
}

// sale makes sale n.
func (r *settleRig) sale(n int, shop string) settlement.Item {
	fen := 100 + r.rand.Int64N(20_000)
	if n%100 == 0 {
		fen *= 100
	}
	i := settlement.Item{Ref: fmt.Sprintf("sale:%012d", n), Payee: shop, Amount: money.Fen(fen), Kind: "sale", Card: fee.Classes[n%len(fee.Classes)], At: r.now.Now()}
	if h := n % (len(benchHosts) + 2); h < len(benchHosts) {
		i.Issuer = benchHosts[h]
	}
	if n%50 == 49 {
		i.Kind, i.Amount, i.Remains = "refund", money.Fen(-fen), money.Fen(2*fen)
	}
	return i
}

func (r *settleRig) loadPage(ctx context.Context, first, last int) error {
	joins := make([]settlement.Opening, 0, benchPage)
	var items []settlement.Item
	e := ledger.Entry{Ref: fmt.Sprintf("sales:%d", first), Kind: "sales"}
	sum := money.Fen(0)
	for m := first; m < last; m++ {
		shop := fmt.Sprintf("shop_%08d", m)
		joins = append(joins, settlement.Opening{Payee: shop, Name: shop, Terms: []settlement.Terms{{Since: r.day,
			Category: fee.Categories[m%len(fee.Categories)], CutOff: settlement.ShopCutOff, Holidays: true}}})
		mine := money.Fen(0)
		// Sale n is of merchant n * merchants / sales: as even as whole numbers are.
		for n := share(m, r.sales, r.merchants); n < share(m+1, r.sales, r.merchants); n++ {
			i := r.sale(n, shop)
			items, mine = append(items, i), mine.Add(i.Amount)
		}
		if !mine.IsZero() {
			e.Legs, sum = append(e.Legs, ledger.Leg{Account: settlement.Payable(shop), Amount: mine}), sum.Add(mine)
		}
	}
	return r.store.Write(ctx, func(tx *db.Tx) error {
		if err := settlement.OpenAll(tx, joins); err != nil {
			return err
		}
		if err := settlement.CaptureAll(tx, items); err != nil || sum.IsZero() {
			return err
		}
		x := e
		x.Legs = append(append([]ledger.Leg{}, e.Legs...), ledger.Leg{Account: benchSource, Amount: sum.Neg()})
		_, err := ledger.Post(tx, x)
		return err
	})
}

func share(m, sales, merchants int) int { return int(int64(m) * int64(sales) / int64(merchants)) }

// prove checks the closings and the books.
func (r *settleRig) prove(ctx context.Context) error {
	var wrong []string
	err := r.store.Read(ctx, func(q *db.Query) (err error) {
		wrong, err = settlement.Check(q)
		return err
	})
	if err == nil && len(wrong) == 0 {
		err = r.store.Write(ctx, func(tx *db.Tx) (err error) {
			wrong, err = settlement.CheckBooks(tx)
			return err
		})
	}
	if err == nil && len(wrong) > 0 {
		err = fmt.Errorf("%d findings, the first: %s", len(wrong), wrong[0])
	}
	return err
}

// peakMemory is the most memory the process had in use, MiB; 0 where the
// system does not say.
func peakMemory() int {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
			kib, _ := strconv.Atoi(f[1])
			return kib >> 10
		}
	}
	return 0
}
