package app_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"koala/app"
	"koala/calendar"
	"koala/city/street"
	"koala/customer"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/issuing"
	"koala/money"
	"koala/spec/emv"
	"koala/spec/purse"
	"koala/terminal"
	"koala/tsm"
	"koala/wallet"
)

var ctx = context.Background()

// morning is a Wednesday in the first year of the 2014 tariff.
var morning = time.Date(2015, 9, 16, 7, 0, 0, 0, calendar.Beijing)

// each runs f as a subtest with the configuration of an empty house on every
// kind of store at hand. Its clock stands at morning.
func each(t *testing.T, f func(t *testing.T, cfg app.Config)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { f(t, config(t)) })
	t.Run("postgres", func(t *testing.T) {
		cfg := config(t)
		cfg.DB = dbtest.Postgres(t)
		f(t, cfg)
	})
}

// config is an empty house on SQLite.
func config(t testing.TB) app.Config {
	return app.Config{Data: filepath.Join(t.TempDir(), "house"), Clock: clock.NewVirtual(morning), Primes: primes()}
}

// primes are RSA keys made once for all houses of the tests: of the CA, of the
// issuer, and of a few cards.
var primes = sync.OnceValue(func() []byte {
	var out []byte
	random := clock.Random(7)
	for _, bits := range []int{1408, 1152, 1024, 1024, 1024} {
		k, err := emv.GenerateKey(random, bits, 3)
		if err != nil {
			panic(err)
		}
		out = fmt.Appendf(out, "%d %x %x\n", bits, k.CRT().P, k.CRT().Q)
	}
	return out
})

// open opens a house and closes it after the test.
func open(t testing.TB, cfg app.Config) *app.House {
	t.Helper()
	h, err := app.New(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// A town is a house with the street beside it and one customer.
type town struct {
	*testing.T
	h      *app.House
	street *street.Street
	clock  *clock.Virtual
	who    customer.ID
	orders int
}

// A wearer is a band with its card.
type wearer struct {
	band string
	card purse.Number
}

// newTown makes a town with one customer whose wallet holds 1000 yuan.
func newTown(t *testing.T, cfg app.Config) *town {
	t.Helper()
	return newTownBy(t, cfg, cfg.Clock)
}

// newTownBy is newTown with gates that go by a clock of their own.
func newTownBy(t *testing.T, cfg app.Config, gates clock.Clock) *town {
	t.Helper()
	w := &town{T: t, h: open(t, cfg), clock: cfg.Clock.(*clock.Virtual)}
	var err error
	w.h.Config.Clock = gates // the street takes it from here
	if w.street, err = street.New(w.h, street.Config{}); err != nil {
		t.Fatal(err)
	}
	w.h.Config.Clock = cfg.Clock
	desk := &customer.Desk{Store: w.h.Store, Seal: w.h.Keys.Seal, Salt: clock.Entropy(), Cost: 1}
	c, err := desk.Register(ctx, customer.Application{Login: "ann", Name: "安", Phone: "13900000001", Secret: "secret-1"})
	if err != nil {
		t.Fatal(err)
	}
	w.who = c.ID
	w.write(func(tx *db.Tx) error {
		if err := wallet.Open(tx, w.who); err != nil {
			return err
		}
		_, err := wallet.Fund(tx, "first", w.who, money.Fen(1000_00))
		return err
	})
	return w
}

func (w *town) write(f func(tx *db.Tx) error) {
	w.Helper()
	if err := w.h.Store.Write(ctx, f); err != nil {
		w.Fatal(err)
	}
}

func (w *town) read(f func(q *db.Query) error) {
	w.Helper()
	if err := w.h.Store.Read(ctx, f); err != nil {
		w.Fatal(err)
	}
}

// must ends the test on an error.
func (w *town) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// issue writes a card into a new band.
func (w *town) issue(band string) wearer {
	w.Helper()
	w.must(w.street.GiveBand(ctx, string(w.who), band))
	var card purse.Number
	w.write(func(tx *db.Tx) error {
		c, err := issuing.Open(tx, issuing.Application{Ref: "card:" + band, Customer: w.who, Band: band, Product: issuing.TransitBJ})
		card = c.ID.Purse()
		return err
	})
	r := wearer{band, card}
	w.carryOut(r, tsm.Issue, 0)
	return r
}

// place puts an order into the books.
func (w *town) place(r wearer, kind tsm.Kind, fen int64) (o tsm.Order) {
	w.Helper()
	w.orders++
	req := tsm.Request{Ref: fmt.Sprintf("%s:%s:%d", kind, r.band, w.orders), Kind: kind, Band: r.band, Card: issuing.IDOf(r.card), Customer: string(w.who)}
	if kind == tsm.TopUp {
		req.Amount = money.Fen(fen)
	}
	w.write(func(tx *db.Tx) (err error) {
		o, err = w.h.TSM.Place(tx, req)
		return err
	})
	return o
}

// carryOut places an order and lets the band's agent carry it out.
func (w *town) carryOut(r wearer, kind tsm.Kind, fen int64) tsm.Order {
	w.Helper()
	o := w.place(r, kind, fen)
	w.must(w.street.RunAgent(ctx, r.band))
	if o = w.order(o.ID); o.State != tsm.Done {
		w.Fatalf("%s is %s: %s", o.Kind, o.State, o.Why)
	}
	return o
}

func (w *town) order(id string) (o tsm.Order) {
	w.Helper()
	w.read(func(q *db.Query) (err error) {
		o, err = tsm.OrderOf(q, id)
		return err
	})
	return o
}

// tap holds a band to a reader that must open.
func (w *town) tap(r wearer, reader string) {
	w.Helper()
	o, err := w.street.Tap(ctx, r.band, reader, street.Options{})
	if err != nil || o.Result != terminal.Opened {
		w.Fatalf("%s at %s: %s, %v", r.band, reader, o.Outcome.Words(false), err)
	}
}

// ride goes from one station to another, half an hour.
func (w *town) ride(r wearer, from, to string) {
	w.Helper()
	w.tap(r, from+".in")
	w.clock.Advance(30 * time.Minute)
	w.tap(r, to+".out")
	w.clock.Advance(time.Minute)
}

// collect hands over what every reader has.
func (w *town) collect() (n int) {
	w.Helper()
	for _, r := range w.street.Readers() {
		k, err := w.street.Collect(ctx, r.ID)
		w.must(err)
		n += k
	}
	return n
}

// green proves the books.
func green(t testing.TB, h *app.House) app.Proof {
	t.Helper()
	p, err := h.Verify(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !p.OK || len(p.Problems) > 0 {
		t.Fatalf("%d problems: %q", len(p.Problems), p.Problems)
	}
	return p
}

// lived is a town in which everything has happened once: a card issued, loaded,
// ridden with, collected and settled, and a ride of the next day not settled yet.
func lived(t *testing.T, cfg app.Config) (*town, wearer) {
	t.Helper()
	w := newTown(t, cfg)
	r := w.issue("band-1")
	w.carryOut(r, tsm.TopUp, 100_00)
	w.ride(r, "dongdan", "xidan")
	w.ride(r, "xidan", "dongdan")
	if n := w.collect(); n != 4 {
		t.Fatalf("%d debits collected", n)
	}
	w.clock.Advance(24 * time.Hour)
	w.must(w.h.Tick(ctx))
	w.ride(r, "dongdan", "xidan")
	if n := w.collect(); n != 2 {
		t.Fatalf("%d debits collected", n)
	}
	return w, r
}
