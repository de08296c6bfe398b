package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"koala/band"
	"koala/card/catalog"
	"koala/card/isd"
	"koala/internal/clock"
	"koala/spec/pboc"
)

// bandBudget is what a band with six cards may take of memory, bytes.
const bandBudget = 200 << 10

// maxBenchBands bounds --bands: some 100 KB each.
const maxBenchBands = 20_000

// sixCards are what a full wrist carries: a transit purse, three bank cards, a
// DESFire card with canteen and door, a discount card.
var sixCards = []func(*cardWriter) error{
	writeTestPurse, writeTestDESFire, writeTestCoupons, writeTestBankCard,
	func(w *cardWriter) error { return writeBankCard(w, pboc.AIDCredit, func(*pboc.Card) {}) },
	func(w *cardWriter) error { return writeBankCard(w, pboc.AIDECash, func(*pboc.Card) {}) },
}

func benchBandCommand() *cobra.Command {
	var f benchFlags
	var bands int
	c := &cobra.Command{
		Use:   "band",
		Short: "Memory of a band with six cards, and how long one takes to make",
		Long: `Makes many bands, each with a transit purse, e-cash, debit and credit cards, canteen and door,
and discount coupons, written through the secure channel, and measures what the heap has
grown by per band. All bands share one catalogue of applets, as those of a city do.`,
		Example: "  koala bench band --bands 200\n  koala bench band --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if bands < 1 || bands > maxBenchBands {
				return errUsage{fmt.Errorf("--bands %d: between 1 and %d", bands, maxBenchBands)}
			}
			return f.measure(cmd, func(ctx context.Context, p *benchProgress) ([]figure, error) { return f.benchBands(ctx, p, bands) })
		},
	}
	f.add(c)
	c.Flags().IntVar(&bands, "bands", 100, "bands to make; --seconds does not count here")
	return c
}

func (f benchFlags) benchBands(ctx context.Context, p *benchProgress, n int) ([]figure, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	shared := catalog.New(isd.Config{})
	if _, err := fullBand(shared, 0); err != nil { // tables that are made once
		return nil, err
	}
	p.step("bands are made", float64(n)/50)
	bands := make([]*band.Band, n)
	before := heap()
	watch := newStopwatch(n)
	watch.start()
	for i := range bands {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		began := watch.now()
		var err error
		if bands[i], err = fullBand(shared, i+1); err != nil {
			return nil, err
		}
		watch.times = append(watch.times, watch.now()-began)
	}
	watch.stop()
	each := (heap() - before) / n
	image := len(bands[0].Image())
	runtime.KeepAlive(bands)
	x := watch.figure("band", "memory", 1)
	x.Params["cards"], x.Params["bytes_per_band"], x.Params["image_bytes"], x.Params["budget_bytes"] = len(sixCards), each, image, bandBudget
	x.notes = []string{fmt.Sprintf("%d bytes of memory a band with %d cards, %d in its file, budget %d", each, len(sixCards), image, bandBudget)}
	return []figure{x}, nil
}

// fullBand makes a band with six cards.
func fullBand(c *catalog.Catalog, serial int) (*band.Band, error) {
	e, err := c.NewElement([7]byte{4, 3, byte(serial >> 16), byte(serial >> 8), byte(serial)}, clock.Random(uint64(serial)))
	if err != nil {
		return nil, err
	}
	for _, write := range sixCards {
		w, err := openWriter(e)
		if err == nil {
			err = errors.Join(write(w), w.close())
		}
		if err != nil {
			return nil, err
		}
	}
	return band.New(fmt.Sprintf("bench-%06d", serial), e)
}

// heap is what lives on the heap once the dead are collected, bytes.
func heap() int {
	runtime.GC()
	runtime.GC() // what finalizers let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
