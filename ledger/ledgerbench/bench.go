// Package ledgerbench loads a ledger the way many callers of one house do:
// each waits for its own transfer to be durable before it makes the next. It
// measures; it does not judge.
package ledgerbench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"koala/internal/clock"
	"koala/internal/db"
	"koala/ledger"
	"koala/money"
)

// Accounts is how many customer accounts the transfers go between.
const Accounts = 10_000

// Result is what one run measured. Times include the wait for the commit.
type Result struct {
	Store     string        `json:"store"`
	Callers   int           `json:"callers"`
	HotShare  float64       `json:"hot_share"` // of transfers that pay one merchant
	Ops       int64         `json:"ops"`
	Elapsed   time.Duration `json:"elapsed_ns"`
	PerSecond float64       `json:"per_second"`
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
	P999      time.Duration `json:"p999_ns"`
	Max       time.Duration `json:"max_ns"`
	CPUPerOp  time.Duration `json:"cpu_per_op_ns"` // of the whole process
	Commits   int64         `json:"commits"`       // journal batches
	Lag       uint64        `json:"view_lag"`      // records the views were behind at the end
	Replay    float64       `json:"replay_per_second"`
}

// Run loads the store at url (a directory for a new SQLite file, or
// postgres://…, in which a schema of its own is made and dropped) for the
// given time and then opens the book once more to time the replay.
func Run(ctx context.Context, url string, callers int, seconds float64, hotShare float64) (Result, error) {
	res := Result{Callers: callers, HotShare: hotShare, Store: "sqlite"}
	url, clean, err := place(ctx, url)
	if err != nil {
		return res, err
	}
	defer clean()
	if strings.HasPrefix(url, "postgres") {
		res.Store = "postgres"
	}
	store, err := db.Open(ctx, db.Config{URL: url})
	if err != nil {
		return res, fmt.Errorf("bench: %w", err)
	}
	defer func() { store.Close() }()
	book, err := ledger.Open(ctx, store, ledger.Config{Views: views(url)})
	if err != nil {
		return res, fmt.Errorf("bench: %w", err)
	}
	if err := open(ctx, store); err != nil {
		book.Close()
		return res, fmt.Errorf("bench: %w", err)
	}
	err = load(ctx, store, seconds, &res)
	res.Lag = book.Lag()
	tip, _ := book.Tip()
	if e := book.Close(); err == nil {
		err = e
	}
	if err != nil {
		return res, fmt.Errorf("bench: %w", err)
	}
	return res, replay(ctx, store, url, tip, &res)
}

// place makes room for the run and says how to clear it away.
func place(ctx context.Context, url string) (string, func(), error) {
	if !strings.HasPrefix(url, "postgres") {
		dir, err := os.MkdirTemp(url, "bench")
		if err != nil {
			return "", nil, fmt.Errorf("bench: %w", err)
		}
		return filepath.Join(dir, "bench.db"), func() { os.RemoveAll(dir) }, nil
	}
	schema := fmt.Sprintf("bench_%d", os.Getpid())
	ddl := func(statement string) error {
		c, err := pgconn.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer c.Close(ctx)
		return c.Exec(ctx, statement).Close()
	}
	if err := ddl("CREATE SCHEMA " + schema); err != nil {
		return "", nil, fmt.Errorf("bench: %w", err)
	}
	sep := "?"
	if strings.Contains(url, "?") {
		sep = "&"
	}
	return url + sep + "search_path=" + schema, func() {
		_ = ddl("SET client_min_messages = error; DROP SCHEMA IF EXISTS " + schema + ", " + schema + "_views CASCADE")
	}, nil
}

// views puts the views of a PostgreSQL book behind a writer of their own.
func views(url string) string {
	if strings.HasPrefix(url, "postgres") {
		return url
	}
	return ""
}

// hot is the merchant that a share of all transfers pays.
const hot = ledger.AccountID("hot")

func account(n int) ledger.AccountID { return ledger.AccountID(fmt.Sprintf("wallet:%06d", n)) }

// open opens the accounts and fills the wallets.
func open(ctx context.Context, store *db.Store) error {
	err := store.Write(ctx, func(tx *db.Tx) error {
		for _, a := range []ledger.Account{{ID: "bank", Code: "1010"}, {ID: hot, Code: "2030"}} {
			a.Currency = money.CNY
			if err := ledger.OpenAccount(tx, a); err != nil {
				return err
			}
		}
		return nil
	})
	for from := 0; err == nil && from < Accounts; from += 1_000 {
		err = store.Write(ctx, func(tx *db.Tx) error {
			for n := from; n < from+1_000; n++ {
				a := ledger.Account{ID: account(n), Code: "2010", Currency: money.CNY, Limits: ledger.Limits{Floor: ledger.AtLeast(0)}}
				if err := ledger.OpenAccount(tx, a); err != nil {
					return err
				}
				if _, err := ledger.Post(tx, ledger.Move("fill:"+string(a.ID), "bank", a.ID, money.Fen(1_000_000_00))); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return err
}

// A caller makes transfers one after the other and keeps how long each took.
type caller struct {
	name  int
	ids   []ledger.AccountID
	rnd   uint64
	hot   uint64 // of 1<<32
	times []time.Duration
	err   error
}

// next is a small generator: the load must not cost what it measures.
func (c *caller) next() uint64 {
	c.rnd ^= c.rnd << 13
	c.rnd ^= c.rnd >> 7
	c.rnd ^= c.rnd << 17
	return c.rnd
}

func (c *caller) run(ctx context.Context, store *db.Store, stop *atomic.Bool) {
	now := clock.System()
	for n := 0; !stop.Load(); n++ {
		from := c.ids[c.next()%Accounts]
		to := c.ids[c.next()%Accounts]
		if c.next()&(1<<32-1) < c.hot {
			to = hot
		}
		if from == to {
			continue
		}
		e := ledger.Move(fmt.Sprintf("b:%d/%d", c.name, n), from, to, money.Fen(int64(1+c.next()%500)))
		begun := now.Now()
		err := store.Write(ctx, func(tx *db.Tx) error {
			_, err := ledger.Post(tx, e)
			return err
		})
		if err != nil {
			c.err = fmt.Errorf("transfer %s: %w", e.Ref, err)
			return
		}
		c.times = append(c.times, now.Now().Sub(begun))
	}
}

func load(ctx context.Context, store *db.Store, seconds float64, res *Result) error {
	ids := make([]ledger.AccountID, Accounts)
	for n := range ids {
		ids[n] = account(n)
	}
	callers := make([]*caller, res.Callers)
	var stop atomic.Bool
	var wg sync.WaitGroup
	runtime.GC()
	now := clock.System()
	begun, cpu, before := now.Now(), processTime(), batches(ctx, store)
	for i := range callers {
		c := &caller{name: i, ids: ids, rnd: uint64(i+1) * 0x9E3779B97F4A7C15, hot: uint64(res.HotShare * (1 << 32))}
		c.times = make([]time.Duration, 0, 1<<16)
		callers[i] = c
		wg.Go(func() { c.run(ctx, store, &stop) })
	}
	select {
	case <-time.After(time.Duration(seconds * float64(time.Second))):
	case <-ctx.Done():
	}
	stop.Store(true)
	wg.Wait()
	res.Elapsed = now.Now().Sub(begun)
	cpu = processTime() - cpu
	res.Commits = batches(ctx, store) - before
	return res.sum(callers, cpu)
}

// batches counts journal batches: commits that carried transfers.
func batches(ctx context.Context, store *db.Store) (n int64) {
	_ = store.Read(ctx, func(q *db.Query) error { return q.QueryRow(`SELECT COUNT(*) FROM ledger_journal`).Scan(&n) })
	return n
}

func (r *Result) sum(callers []*caller, cpu time.Duration) error {
	var all []time.Duration
	for _, c := range callers {
		if c.err != nil {
			return c.err
		}
		all = append(all, c.times...)
	}
	if len(all) == 0 {
		return nil
	}
	slices.Sort(all)
	at := func(share float64) time.Duration { return all[min(len(all)-1, int(share*float64(len(all))))] }
	r.Ops = int64(len(all))
	r.PerSecond = float64(r.Ops) / r.Elapsed.Seconds()
	r.P50, r.P99, r.P999, r.Max = at(0.50), at(0.99), at(0.999), all[len(all)-1]
	r.CPUPerOp = cpu / time.Duration(r.Ops)
	return nil
}

// processTime is the processor time this process has used.
func processTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// replay opens the book in a second store object and times it.
func replay(ctx context.Context, store *db.Store, url string, records uint64, res *Result) error {
	if err := store.Close(); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	again, err := db.Open(ctx, db.Config{URL: url})
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer again.Close()
	begun := clock.System().Now()
	book, err := ledger.Open(ctx, again, ledger.Config{Inline: true, Views: views(url)})
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	res.Replay = float64(records) / clock.System().Now().Sub(begun).Seconds()
	return book.Close()
}
