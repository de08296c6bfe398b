package market_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"koala/app"
	"koala/calendar"
	"koala/city/foreign"
	"koala/city/market"
	"koala/city/street"
	"koala/customer"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/money"
	"koala/reconcile"
	"koala/switching"
	"koala/terminal/unionpay"
	"koala/wallet"
)

var ctx = context.Background()

// A town is a house with a market beside it.
type town struct {
	*testing.T
	now *clock.Virtual
	h   *app.House
	m   *market.Market

	payers map[customer.ID]bool
}

func open(t *testing.T, f market.Faults) *town {
	t.Helper()
	return openWith(t, market.Config{Faults: f})
}

func openWith(t *testing.T, cfg market.Config) *town {
	t.Helper()
	primes, err := os.ReadFile("../primes.txt")
	if err != nil {
		t.Fatal(err)
	}
	w := &town{T: t, now: clock.NewVirtual(time.Date(2015, 9, 16, 9, 0, 0, 0, calendar.Beijing))}
	cfg.Clock, cfg.Rand, cfg.Hosts = w.now, street.Chance(1, clock.Random), true
	w.m, err = market.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.h, err = app.New(ctx, app.Config{Data: filepath.Join(t.TempDir(), "house"), Clock: w.now, Rand: clock.Random(1), Inline: true, Primes: primes, Peers: w.m.Peers()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.h.Close() })
	w.m.Move(w.h, nil)
	if err := w.m.Open(ctx); err != nil {
		t.Fatal(err)
	}
	return w
}

// do carries out an order that must be approved.
func (w *town) do(till string, o market.Order) market.Outcome {
	w.Helper()
	w.now.Advance(time.Minute)
	out, err := w.m.Do(ctx, till, o)
	if err != nil || out.Err != nil || !out.Approved {
		w.Fatalf("%s, %s: %v, %v, %v", till, o.Kind, out.Words, err, out.Err)
	}
	return out
}

// days lets nights pass until nothing waits.
func (w *town) days(n int) {
	w.Helper()
	for range n {
		day := calendar.Of(w.now.Now(), calendar.Beijing)
		w.now.Set(day.AddDays(1).Start(calendar.Beijing).Add(5 * time.Hour))
		if err := w.h.Tick(ctx); err != nil {
			w.Fatal(err)
		}
		if err := w.m.Night(ctx, day); err != nil {
			w.Fatal(err)
		}
	}
}

func (w *town) settle() {
	w.Helper()
	if err := w.h.Tick(ctx); err != nil {
		w.Fatal(err)
	}
	for _, t := range w.m.Tills() {
		if _, done, err := w.m.Settle(ctx, t.ID); err != nil || !done {
			w.Fatalf("%s does not settle: %v", t.ID, err)
		}
	}
}

func (w *town) end() {
	w.Helper()
	if err := w.m.End(ctx); err != nil {
		w.Fatal(err)
	}
}

// TestAQuietDay: every way without a chip at every shop, and everything agrees.
func TestAQuietDay(t *testing.T) {
	w := open(t, market.Faults{})
	card := func(i, n int) (market.Card, market.Order) {
		c := w.m.Institutions()[i].Cards[n]
		return c, market.Order{Order: unionpay.Order{Kind: unionpay.Sale, Fen: 123_45, Card: unionpay.Card{Track2: c.Track2}}, PIN: c.PIN}
	}
	for n, till := range w.m.Tills() {
		_, o := card(n%3, n)
		w.do(till.ID, o)
	}
	c, o := card(0, 20)
	sale := w.do("jialian.1", o)
	w.do("jialian.1", market.Order{Void: sale.STAN})
	back := w.do("jialian.2", o)
	o.Kind = unionpay.PreAuth
	held := w.do("hubin.1", o)
	w.do("hubin.1", market.Order{Order: unionpay.Order{Kind: unionpay.Completion, STAN: held.STAN, Fen: 130_00}})
	o.Kind = unionpay.Sale
	tip := w.do("chuanxiang.1", o)
	w.do("chuanxiang.1", market.Order{Order: unionpay.Order{Kind: unionpay.Tip, STAN: tip.STAN, Fen: 135_00}})
	w.settle()
	w.days(1)
	w.do("jialian.2", market.Order{Order: unionpay.Order{Kind: unionpay.Refund, RRN: back.Get(37), Fen: 23_45, Card: unionpay.Card{Track2: c.Track2}}})
	w.settle()
	w.days(3)
	w.end()
	for name, n := range w.m.Counts() {
		if len(name) > 9 && (name[:9] == "exception" || name[:9] == "differenc") {
			t.Errorf("%d of %s", n, name)
		}
	}
}

// payer is a customer with a wallet, made when first asked for.
func (w *town) payer(n int) customer.ID {
	w.Helper()
	id := customer.ID(fmt.Sprintf("cust_payer%d", n))
	if w.payers == nil {
		w.payers = map[customer.ID]bool{}
	}
	if !w.payers[id] {
		w.payers[id] = true
		err := w.h.Store.Write(ctx, func(tx *db.Tx) error {
			err := wallet.Open(tx, id)
			if err == nil {
				_, err = wallet.Fund(tx, "fund:"+string(id), id, money.Fen(4000_00))
			}
			return err
		})
		if err != nil {
			w.Fatal(err)
		}
	}
	return id
}

// TestCodes: a payment code pays at every till, once and in its minute, and what
// it paid goes back whole or in part.
func TestCodes(t *testing.T) {
	var fault market.CodeFault
	w := open(t, market.Faults{Code: func() market.CodeFault { return fault }})
	dice := rand.New(rand.NewPCG(3, 3))
	for n := range 60 {
		w.now.Advance(2 * time.Minute)
		if fault = market.Fresh; n > 20 && n%2 == 0 {
			fault = market.CodeFault(1 + n/2%3)
		}
		if _, err := w.m.Trade(ctx, dice, market.Shopper{Payer: w.payer(0), Most: 40_00}); err != nil {
			t.Fatal(err)
		}
	}
	w.settle()
	w.days(4)
	w.end()
	c := w.m.Counts()
	t.Log(c)
	if c["approved: sale"] < 25 || c["codes not taken"] < 20 || c["approved: void"] == 0 || c["approved: refund"] == 0 {
		t.Error(c)
	}
}

// TestSign: a slip that is signed by a stripe says so, once, and the switch has
// the picture before the batch is settled.
func TestSign(t *testing.T) {
	w := open(t, market.Faults{})
	c := w.m.Institutions()[0].Cards[0]
	sale := w.do("jialian.1", market.Order{Order: unionpay.Order{Kind: unionpay.Sale, Fen: 123_45, Card: unionpay.Card{Track2: c.Track2}}, PIN: c.PIN})
	if _, err := w.m.Sign(ctx, "jialian.1", sale.STAN, []byte("no picture")); !errors.Is(err, market.ErrUnsigned) {
		t.Errorf("no picture: %v", err)
	}
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewPaletted(image.Rect(0, 0, 480, 160), color.Palette{color.White, color.Black})); err != nil {
		t.Fatal(err)
	}
	slip, err := w.m.Sign(ctx, "jialian.1", sale.STAN, picture.Bytes())
	if err != nil || !strings.Contains(strings.Join(slip[0], "\n"), "signed electronically") || !strings.Contains(strings.Join(slip[1], "\n"), "电子签名") {
		t.Fatal(slip, err)
	}
	if _, err := w.m.Sign(ctx, "jialian.1", sale.STAN, picture.Bytes()); !errors.Is(err, market.ErrUnsigned) {
		t.Errorf("twice: %v", err)
	}
	w.settle()
	var txn switching.Txn
	err = w.h.Store.Read(ctx, func(q *db.Query) (err error) {
		txn, err = switching.Transaction(q, sale.Get(37))
		return err
	})
	if got, bad := w.h.Switch.Signature(ctx, txn); err != nil || bad != nil || !bytes.Equal(got, picture.Bytes()) {
		t.Error("the switch has another picture", err, bad)
	}
	if _, err := w.m.Sign(ctx, "jialian.1", sale.STAN, picture.Bytes()); !errors.Is(err, market.ErrUnsigned) {
		t.Errorf("of a batch that is over: %v", err)
	}
}

// seams are faults that dice choose, so many in a thousand.
func seams(dice *rand.Rand, line, power, host, paper, bank int, notes map[string]int) market.Faults {
	pick := func(perMille, kinds int) int {
		if dice.IntN(1000) >= perMille {
			return 0
		}
		return 1 + dice.IntN(kinds)
	}
	return market.Faults{
		Line:  func() market.LineFault { return market.LineFault(pick(line, 7)) },
		Power: func() int { return pick(power, 12) },
		Host: func() foreign.Fault {
			all := []foreign.Fault{foreign.None, foreign.Deaf, foreign.Silent, foreign.OtherAmount, foreign.OtherTrace, foreign.WrongMAC, foreign.Garbage, foreign.Turncoat}
			return all[pick(host, len(all)-1)]
		},
		Paper: func() market.PaperFault { return market.PaperFault(pick(paper, 4)) },
		Bank:  func() market.BankFault { return market.BankFault(pick(bank, 4)) },
		Code:  func() market.CodeFault { return market.CodeFault(pick(4*line, 3)) },
		Note:  func(name string) { notes[name]++ },
	}
}

// TestADayOfFaults: whatever goes wrong has a name and an end.
func TestADayOfFaults(t *testing.T) {
	seen := map[string]int64{}
	for seed := range uint64(3) {
		dice := rand.New(rand.NewPCG(seed, 11))
		notes := map[string]int{}
		calm := false
		f := seams(dice, 60, 40, 60, 60, 150, notes)
		line, power, host, bank, paper := f.Line, f.Power, f.Host, f.Bank, f.Paper
		f.Line = func() market.LineFault {
			if calm {
				return 0
			}
			return line()
		}
		f.Power = func() int {
			if calm {
				return 0
			}
			return power()
		}
		f.Host = func() foreign.Fault {
			if calm {
				return 0
			}
			return host()
		}
		f.Bank = func() market.BankFault {
			if calm {
				return 0
			}
			return bank()
		}
		f.Paper = func() market.PaperFault {
			if calm {
				return 0
			}
			return paper()
		}
		w := open(t, f)
		for range 2 {
			for range 120 {
				w.now.Advance(3 * time.Minute)
				i := w.m.Institutions()[dice.IntN(3)]
				who := market.Shopper{Card: &i.Cards[dice.IntN(len(i.Cards))]}
				if dice.IntN(4) == 0 {
					who = market.Shopper{Payer: w.payer(dice.IntN(3)), Most: 300_00}
				}
				if _, err := w.m.Trade(ctx, dice, who); err != nil {
					t.Fatal(err)
				}
				if dice.IntN(5) == 0 {
					if err := w.h.Tick(ctx); err != nil {
						t.Fatal(err)
					}
					w.m.Flush(ctx)
				}
			}
			for _, till := range w.m.Tills() {
				if _, _, err := w.m.Settle(ctx, till.ID); err != nil {
					t.Fatal(err)
				}
			}
			w.days(1)
		}
		calm = true
		if err := w.m.Rest(ctx, func(d time.Duration) error { w.now.Advance(d); return w.h.Tick(ctx) }); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := w.m.End(ctx); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		t.Log(notes)
		for name, n := range w.m.Counts() {
			seen[name] += n
		}
	}
	for _, x := range []reconcile.Type{reconcile.MissingAtNetwork, reconcile.MissingHere, reconcile.AmountDiffers, reconcile.FeeDiffers, reconcile.DuplicateInFile,
		reconcile.ReversedCleared, reconcile.DeclinedCleared, reconcile.UnknownCredit, reconcile.PayoutReturned, reconcile.PayoutMissing} {
		if seen["exception "+string(x)] == 0 {
			t.Errorf("no %s", x)
		}
	}
	t.Log(seen)
}

// TestNightsLeaveSome: nights that nobody was up for are made up for, and what
// is to stay open for the desk's people stays open.
func TestNightsLeaveSome(t *testing.T) {
	n := 0
	w := openWith(t, market.Config{Faults: market.Faults{Paper: func() market.PaperFault { n++; return market.PaperFault([]int{1, 3, 4}[n%3]) }}, Leave: 2})
	for i := range 6 {
		c := w.m.Institutions()[i%3].Cards[i]
		w.do("jialian.1", market.Order{Order: unionpay.Order{Kind: unionpay.Sale, Fen: 123_45, Card: unionpay.Card{Track2: c.Track2}}, PIN: c.PIN})
	}
	w.settle()
	for range 3 {
		w.now.Advance(24 * time.Hour)
		if err := w.h.Tick(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := w.m.Nights(ctx); err != nil {
			t.Fatal(err)
		}
	}
	open, others := 0, 0
	err := w.h.Store.Read(ctx, func(q *db.Query) error {
		list, err := reconcile.Exceptions(q, "", "", "", 100)
		for _, x := range list {
			if x.State == reconcile.Open && x.Type != reconcile.Late {
				open++
			} else {
				others++
			}
		}
		return err
	})
	if err != nil || open != 2 || others == 0 || w.m.Counts()["files compared"] != 9 {
		t.Errorf("%d open, %d others, %v, %v", open, others, err, w.m.Counts())
	}
}
