package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"koala/app"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/issuing"
	"koala/merchant"
	"koala/risk"
)

// authFlags are the flags of `koala bench auth`.
type authFlags struct {
	benchFlags
	terminals int
	db        []string
	dir       string
	chip      int
	rate      int
}

// The bounds of `koala bench auth`.
const (
	maxBenchTerminals = 1_000
	maxBenchRate      = 100_000
)

func benchAuthCommand() *cobra.Command {
	var f authFlags
	c := &cobra.Command{
		Use:   "auth",
		Short: "Sales of shops' terminals a second, over TCP",
		Long: `Terminals, each of its own merchant and with its own cards, send sales over TCP, the next when the
last is answered: message authentication, PIN or chip cryptogram checked, the card's rules, a hold
in the ledger, everything durable on disk, the answer with its MAC. Half is stripe with PIN, half
chip (--chip). Terminals and cards are in the same process; their requests are made before, so
that they cost the measure little. Every risk rule is judged, and none opens a case: this load is no
shop's. A terminal makes at most the 999 sales that a batch takes: for a longer measure take more
terminals. Answers' MACs are checked, and afterwards the books are proven and every approval
counted in them.`,
		Example: "  koala bench auth\n  koala bench auth --seconds 10 --json\n  koala bench auth --db postgres://postgres@localhost/bench",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.terminals < 1 || f.terminals > maxBenchTerminals:
				return errUsage{fmt.Errorf("--terminals %d: 1 to %d", f.terminals, maxBenchTerminals)}
			case f.chip < 0 || f.chip > 100:
				return errUsage{fmt.Errorf("--chip %d: 0 to 100 per cent", f.chip)}
			case f.rate < 1 || f.rate > maxBenchRate:
				return errUsage{fmt.Errorf("--most %d: 1 to %d", f.rate, maxBenchRate)}
			}
			return f.measure(cmd, f.bench)
		},
	}
	f.add(c)
	c.Flags().IntVar(&f.terminals, "terminals", 64, "terminals at once")
	c.Flags().IntVar(&f.chip, "chip", 50, "per cent of the sales by chip; the others by stripe with PIN")
	c.Flags().IntVar(&f.rate, "most", 15_000, "sales a second that requests are made for; the measure ends when they are used up")
	c.Flags().StringArrayVar(&f.db, "db", []string{"sqlite"}, "sqlite, or postgres://user@host/database, empty; may be repeated")
	c.Flags().StringVar(&f.dir, "dir", ".", "folder on a real disk, for the store while it is measured")
	return c
}

func (f authFlags) bench(ctx context.Context, p *benchProgress) (out []figure, err error) {
	for _, url := range f.db {
		x, err := f.one(ctx, p, url)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

// one measures on one store.
func (f authFlags) one(ctx context.Context, p *benchProgress, url string) (x figure, err error) {
	dir, err := os.MkdirTemp(f.dir, "koala-bench-")
	if err != nil {
		return x, err
	}
	defer os.RemoveAll(dir)
	cfg := app.Config{Data: dir, DB: filepath.Join(dir, "koala.db")}
	store := "sqlite"
	if url != store {
		cfg.DB, store = url, "postgres"
	}
	h, err := app.New(ctx, cfg)
	if err != nil {
		return x, err
	}
	defer h.Close()
	mall := &mall{house: h}
	p.step("merchants, terminals and cards", 2)
	if err := mall.open(ctx, f.terminals); err != nil {
		return x, err
	}
	defer mall.close()
	p.step("requests are made", f.seconds/2)
	per := min(int(f.seconds*float64(f.rate))/f.terminals+1, benchBatch)
	requests, err := mall.requests(per, f.chip)
	if err != nil {
		return x, err
	}
	p.step("sales", f.seconds)
	watch := newStopwatch(f.terminals * per)
	if err := mall.sell(watch, requests, time.Duration(f.seconds*float64(time.Second))); err != nil {
		return x, err
	}
	x = watch.figure("auth", store, f.terminals)
	x.Params["chip_per_cent"], x.Params["used_up"] = f.chip, len(watch.times) == f.terminals*per
	return x, mall.prove(ctx, len(watch.times))
}

// benchBatch is how many sales a terminal makes: a batch takes no more.
const benchBatch = 999

// A mall is a house with merchants, their terminals on the line, and a card for
// each that is used there again and again.
type mall struct {
	house     *app.House
	counter   *counter
	stop      func()
	terminals []*wireTerminal
	cards     []*paperCard
}

// open makes n terminals of n merchants, and their cards.
func (m *mall) open(ctx context.Context, n int) error {
	h := m.house
	if err := paperRoots(ctx, h); err != nil {
		return err
	}
	if err := quietRisk(ctx, h); err != nil {
		return err
	}
	maker := newRegisterMaker(n)
	list := make([]merchant.Import, n)
	for i := range list {
		list[i] = maker.next()
	}
	made, err := h.Merchants.Bulk(ctx, "bench", "register of the bench", list)
	if err != nil {
		return err
	}
	if m.counter, err = openCounter("127.0.0.1:0", h.Switch, h.Config.Log); err != nil {
		return err
	}
	run, cancel := context.WithCancel(ctx)
	wait := m.counter.run(run, h.Config.Log)
	m.stop = func() { cancel(); wait() }
	m.terminals, m.cards = make([]*wireTerminal, n), make([]*paperCard, n)
	var all sync.WaitGroup
	failed := make([]error, n)
	for i, x := range made {
		all.Go(func() {
			if x.Err != nil || len(x.Failed) > 0 {
				failed[i] = fmt.Errorf("merchant %d: %w %v", i, x.Err, x.Failed)
				return
			}
			failed[i] = m.equip(ctx, i, x)
		})
	}
	all.Wait()
	return errors.Join(failed...)
}

// quietRisk lets every rule of risk be judged as always, and none open a case: a
// hundred sales a second at one terminal are no shop's.
func quietRisk(ctx context.Context, h *app.House) error {
	const never = 1_000_000
	s := risk.House()
	s.Note = "rules of the bench: nothing is enough for a case"
	for level := range s.Bars {
		s.Bars[level] = risk.Bars{Review: never, Hold: never + 1, Refuse: never + 2}
	}
	var p risk.SetInfo
	err := h.Store.Write(ctx, func(tx *db.Tx) (err error) {
		p, err = risk.Propose(tx, s, "bench", "a load that is no shop's")
		return err
	})
	if err != nil {
		return err
	}
	if _, err := h.Risk.Rehearse(ctx, h.Store, p.Version, time.Time{}, time.Time{}); err != nil {
		return err
	}
	return h.Store.Write(ctx, func(tx *db.Tx) error { return h.Risk.Activate(tx, p.Version, "bench, second person", tx.Now()) })
}

func (m *mall) equip(ctx context.Context, i int, x merchant.Imported) (err error) {
	if m.cards[i], err = newPaperCard(ctx, m.house, issuing.DebitCard, fmt.Sprintf("bench_%04d", i), 2_000_00); err != nil {
		return err
	}
	if m.terminals[i], err = newWireTerminal(ctx, m.house, x.TID, x.MID); err != nil {
		return err
	}
	return m.terminals[i].dial(m.counter.where())
}

func (m *mall) close() {
	for _, t := range m.terminals {
		if t != nil && t.conn != nil {
			t.conn.Close()
		}
	}
	if m.stop != nil {
		m.stop()
	}
}

// requests makes so many sales of one fen for each terminal, of which chip per
// cent are by chip.
func (m *mall) requests(per, chip int) ([][][]byte, error) {
	now := clock.System().Now()
	out := make([][][]byte, len(m.terminals))
	failed := make([]error, len(m.terminals))
	var all sync.WaitGroup
	for i, t := range m.terminals {
		all.Go(func() {
			out[i] = make([][]byte, per)
			for n := range per {
				if out[i][n], failed[i] = t.sale(m.cards[i], 1, n*chip/100 != (n+1)*chip/100, now); failed[i] != nil {
					return
				}
			}
		})
	}
	all.Wait()
	return out, errors.Join(failed...)
}

// sell has every terminal sell for the time, or until its requests are used up.
func (m *mall) sell(watch *stopwatch, requests [][][]byte, span time.Duration) error {
	times := make([][]time.Duration, len(m.terminals))
	failed := make([]error, len(m.terminals))
	for i := range times {
		times[i] = make([]time.Duration, 0, len(requests[i]))
	}
	var all sync.WaitGroup
	watch.start()
	end := watch.began + span
	for i, t := range m.terminals {
		all.Go(func() {
			for _, frame := range requests[i] {
				began := watch.now()
				if began >= end {
					return
				}
				if failed[i] = t.ask(frame); failed[i] == nil {
					failed[i] = t.approved()
				}
				if failed[i] != nil {
					return
				}
				times[i] = append(times[i], watch.now()-began)
			}
		})
	}
	all.Wait()
	watch.stop()
	for _, list := range times {
		watch.times = append(watch.times, list...)
	}
	return errors.Join(failed...)
}

// prove checks the books, and that each approval is held in them once: a figure
// for sales that are not there would be a lie.
func (m *mall) prove(ctx context.Context, sold int) error {
	held := int64(0)
	for i := range m.cards {
		b, err := m.house.Book.Balance(walletOf(fmt.Sprintf("bench_%04d", i)))
		if err != nil {
			return err
		}
		held += b.Held.Minor()
	}
	if held != int64(sold) {
		return fmt.Errorf("%d sales were approved, the books hold %d fen", sold, held)
	}
	proof, err := m.house.Verify(ctx)
	if err == nil && !proof.OK {
		err = fmt.Errorf("the books do not hold: %v", proof.Problems)
	}
	return err
}
