package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"

	"github.com/spf13/cobra"

	"koala/app"
	"koala/band"
	"koala/card/catalog"
	"koala/card/isd"
	"koala/customer"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/tsm"
	"koala/wallet"
)

// keysPerSecond is about how fast card keys are made, for the progress line.
const keysPerSecond = 30

// benchProducts are what is ordered.
var benchProducts = map[string]string{cardPurse: issuing.TransitBJ, cardQuickpass: issuing.ECashCard}

// bandsPerCaller is how many bands a caller serves between two stops of the
// watch: enough that the last ones of a stretch, when callers run out, weigh
// little.
const bandsPerCaller = 16

// issueFlags are the flags of `koala bench issue`.
type issueFlags struct {
	benchFlags
	callers int
	dir     string
	card    string
}

func benchIssueCommand() *cobra.Command {
	var f issueFlags
	c := &cobra.Command{
		Use:   "issue",
		Short: "Whole cards a second on one core, written over the air",
		Long: `Customers order a transit card for their bands, and the bands' agents carry the
scripts out: order and deposit in the books, the secure channel, install,
personalisation, the card read back and activated, every unit durable on disk.
The bands took the house's keys before. Everything, elements included, runs on one
core; several bands at once, as in life, share the commits.

With --card quickpass it is an e-cash card: number drawn and sealed, certificate made for
a key from the pool, certificates, signature and cryptogram checked when it is read back.
The keys of the pool are made before, outside the time, which takes most of the wait.`,
		Example: "  koala bench issue\n  koala bench issue --card quickpass --seconds 2\n  koala bench issue --callers 1 --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkCallers(f.callers); err != nil {
				return err
			}
			if benchProducts[f.card] == "" {
				return errUsage{fmt.Errorf("--card %q: %s or %s", f.card, cardPurse, cardQuickpass)}
			}
			return f.measure(cmd, f.bench)
		},
	}
	f.add(c)
	c.Flags().IntVar(&f.callers, "callers", 32, "bands served at once")
	c.Flags().StringVar(&f.card, "card", cardPurse, "which card is written: "+cardPurse+" or "+cardQuickpass)
	c.Flags().StringVar(&f.dir, "dir", ".", "folder on a real disk, for the store while it is measured")
	return c
}

func (f issueFlags) bench(ctx context.Context, p *benchProgress) ([]figure, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	dir, err := os.MkdirTemp(f.dir, "koala-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	h, err := app.New(ctx, app.Config{Data: dir})
	if err != nil {
		return nil, err
	}
	defer h.Close()
	o := &cardOffice{House: h, catalog: catalog.New(isd.Config{}), product: benchProducts[f.card]}
	watch := newStopwatch(1 << 16)
	for watch.Wall.Seconds() < f.seconds {
		p.step("bands get their keys", f.seconds)
		bands, err := o.newBands(ctx, f.callers*bandsPerCaller, f.callers)
		if err != nil {
			return nil, err
		}
		if f.card == cardQuickpass {
			p.step("card keys are made", float64(len(bands))/keysPerSecond)
			if _, err := h.Keys.FillPool(ctx, len(bands)); err != nil {
				return nil, err
			}
		}
		p.step("cards are written", f.seconds-watch.Wall.Seconds())
		var mu sync.Mutex
		watch.start()
		err = each(ctx, bands, f.callers, func(b *band.Band) error {
			began := watch.now()
			if err := o.issue(ctx, b); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			watch.times = append(watch.times, watch.now()-began)
			return nil
		})
		watch.stop()
		if err != nil {
			return nil, err
		}
	}
	x := watch.figure("issue", "sqlite", f.callers)
	x.Params["card"] = f.card
	return []figure{x}, o.prove(ctx, &x)
}

// A cardOffice is a whole house with bands from the factory.
type cardOffice struct {
	*app.House
	catalog *catalog.Catalog
	product string
	bands   int
}

// newBands makes bands, each with an owner who can pay a deposit, and lets
// them take the house's keys.
func (o *cardOffice) newBands(ctx context.Context, n, callers int) ([]*band.Band, error) {
	bands := make([]*band.Band, n)
	for i := range bands {
		o.bands++
		serial := o.bands
		e, err := o.catalog.NewElement([7]byte{8, 2, byte(serial >> 16), byte(serial >> 8), byte(serial)}, clock.Random(uint64(serial)))
		if err != nil {
			return nil, err
		}
		if bands[i], err = band.New(fmt.Sprintf("bench-%07d", serial), e); err != nil {
			return nil, err
		}
	}
	return bands, each(ctx, bands, callers, func(b *band.Band) error {
		err := o.Store.Write(ctx, func(tx *db.Tx) error {
			if err := wallet.Open(tx, ownerOf(b)); err != nil {
				return err
			}
			if _, err := wallet.Fund(tx, "fund:"+b.ID, ownerOf(b), money.Fen(100_00)); err != nil {
				return err
			}
			return o.TSM.Register(tx, b.ID, string(ownerOf(b)))
		})
		if err != nil {
			return err
		}
		return b.Run(ctx, nearLink{o.TSM})
	})
}

func ownerOf(b *band.Band) customer.ID { return customer.ID("cust_" + b.ID) }

// issue is one card from the wish to the card that works.
func (o *cardOffice) issue(ctx context.Context, b *band.Band) error {
	var number *issuing.Numbered
	if o.product != issuing.TransitBJ {
		n, err := o.Bank.Number(ctx, o.product)
		if err != nil {
			return err
		}
		number = &n
	}
	err := o.Store.Write(ctx, func(tx *db.Tx) error {
		c, err := issuing.Open(tx, issuing.Application{Ref: "card:" + b.ID, Customer: ownerOf(b), Band: b.ID, Product: o.product, PAN: number})
		if err != nil {
			return err
		}
		_, err = o.TSM.Place(tx, tsm.Request{Ref: "issue:" + b.ID, Kind: tsm.Issue, Band: b.ID, Card: c.ID, Customer: string(ownerOf(b))})
		return err
	})
	if err != nil {
		return err
	}
	return b.Run(ctx, nearLink{o.TSM})
}

// prove looks at what the bench has made: an order that did not end well would
// make its figure a lie.
func (o *cardOffice) prove(ctx context.Context, x *figure) error {
	var states map[tsm.State]int
	err := o.Store.Read(ctx, func(q *db.Query) (err error) {
		states, err = tsm.Counts(q)
		return err
	})
	if err != nil {
		return err
	}
	if want := o.bands + int(x.Ops); states[tsm.Done] != want || len(states) != 1 {
		return fmt.Errorf("of %d orders %d are done: %v", want, states[tsm.Done], states)
	}
	x.Params["cards"], x.Params["bands_adopted"] = x.Ops, o.bands
	return nil
}

// A nearLink is an agent's way to a house in the same process.
type nearLink struct{ tsm *tsm.Manager }

// Next asks for a script.
func (l nearLink) Next(ctx context.Context, id string, _ band.Hello) (band.Script, error) {
	s, err := l.tsm.Next(ctx, id)
	out := band.Script{ID: s.ID, Order: s.Order, Done: s.Done, Steps: make([]band.Step, len(s.Steps))}
	for i, c := range s.Steps {
		out.Steps[i] = band.Step(c)
	}
	return out, err
}

// Report tells what became of it.
func (l nearLink) Report(ctx context.Context, id, script string, answers [][]byte, cut bool) error {
	return l.tsm.Report(ctx, id, script, answers, cut)
}

// each hands the bands to callers until all are served or one fails.
func each(ctx context.Context, bands []*band.Band, callers int, serve func(*band.Band) error) error {
	queue := make(chan *band.Band, len(bands))
	for _, b := range bands {
		queue <- b
	}
	close(queue)
	var wg sync.WaitGroup
	failed := make([]error, callers)
	for i := range callers {
		wg.Go(func() {
			for b := range queue {
				if failed[i] = ctx.Err(); failed[i] == nil {
					failed[i] = serve(b)
				}
				if failed[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}
