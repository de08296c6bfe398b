package settlement_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/settlement/fee"
)

// A life is one payee while anything may happen to it.
type life struct {
	*house
	rt     *rapid.T
	id     string
	n      int
	earned int64
	holds  []string
}

func (l *life) try(f func(*db.Tx) error, may ...error) {
	err := l.store.Write(context.Background(), f)
	for _, m := range may {
		if errors.Is(err, m) {
			return
		}
	}
	if err != nil {
		l.rt.Fatal(err)
	}
}

func (l *life) earn(kind string, fen, left int64) {
	l.n++
	i := settlement.Item{Ref: fmt.Sprint(l.id, ":", l.n), Payee: l.id, Amount: money.Fen(fen), Kind: kind,
		Card: rapid.SampledFrom(append(fee.Classes, fee.None)).Draw(l.rt, "card")}
	if fen < 0 {
		i.Remains = money.Fen(left)
	}
	l.earned += fen
	if err := l.sell(i); err != nil {
		l.rt.Fatal(err)
	}
}

// act does one of the things that happen.
func (l *life) act() {
	rt := l.rt
	switch rapid.IntRange(0, 9).Draw(rt, "act") {
	case 0, 1, 2:
		l.earn("sale", rapid.Int64Range(1, 50_000).Draw(rt, "fen"), 0)
	case 3:
		fen := rapid.Int64Range(1, 30_000).Draw(rt, "back")
		l.earn(rapid.SampledFrom([]string{"refund", settlement.Chargeback}).Draw(rt, "kind"), -fen, fen+rapid.Int64Range(0, 20_000).Draw(rt, "left"))
	case 4:
		id := fmt.Sprint("hold:", l.id, ":", l.n, ":", len(l.holds))
		l.holds = append(l.holds, id)
		l.try(func(tx *db.Tx) error {
			_, err := settlement.PutHold(tx, settlement.Hold{ID: id, Payee: l.id, Reason: settlement.ForRisk, Amount: money.Fen(rapid.Int64Range(0, 20_000).Draw(rt, "held"))})
			return err
		}, settlement.ErrDiffers)
	case 5:
		if len(l.holds) > 0 {
			id := l.holds[len(l.holds)-1]
			l.holds = l.holds[:len(l.holds)-1]
			l.try(func(tx *db.Tx) error { return settlement.Release(tx, id) }, settlement.ErrHold)
		}
	case 6:
		l.try(func(tx *db.Tx) error {
			o, err := settlement.OfferNow(tx, l.id, tx.Now())
			if err == nil && o.Refusal == nil {
				_, err = settlement.PayNow(tx, l.id, o)
			}
			return err
		})
		l.tick()
	case 7:
		l.answer()
	case 8:
		l.now.Advance(time.Duration(rapid.IntRange(1, 5).Draw(rt, "hours")) * time.Hour)
		l.tick()
	case 9:
		d := calendar.Of(l.now.Now(), calendar.Beijing)
		l.morning(d)
		l.at(d.AddDays(1), 10*time.Hour)
	}
}

// answer lets the bank confirm or return the last payout.
func (l *life) answer() {
	l.try(func(tx *db.Tx) error {
		ps, err := settlement.Payouts(tx, l.id, "", 1)
		if err != nil || len(ps) == 0 {
			return err
		}
		if rapid.Bool().Draw(l.rt, "confirm") {
			return settlement.Confirm(tx, ps[0].ID)
		}
		if err := settlement.Return(tx, ps[0].ID, "test"); err != nil {
			return err
		}
		if rapid.Bool().Draw(l.rt, "mend") {
			return settlement.SetAccount(tx, l.id, settlement.BankAccount{Masked: "1"})
		}
		return nil
	}, settlement.ErrState)
}

// TestLife states the rules of the package: whatever comes when, each fen
// earned is paid, charged or owed, once; nothing is paid that is not there; and
// the checks agree.
func TestLife(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t), Rebuildable: true})
	h.at(calendar.Date{Year: 2016, Month: time.August, Day: 29}, 10*time.Hour) // the rules change on 6 September
	lives := 0
	rapid.Check(t, func(rt *rapid.T) {
		lives++
		l := &life{house: h, rt: rt, id: fmt.Sprint("life", lives)}
		h.shop(l.id, func(t *settlement.Terms) {
			t.Category = rapid.SampledFrom(fee.Categories).Draw(rt, "category")
			t.Holidays, t.Monthly = rapid.Bool().Draw(rt, "holidays"), rapid.Bool().Draw(rt, "monthly")
			t.CutOff = rapid.SampledFrom([]time.Duration{settlement.ShopCutOff, 24*time.Hour + settlement.CutOff}).Draw(rt, "cut")
			t.Least = money.Fen(rapid.Int64Range(0, 5_000).Draw(rt, "least"))
			if t.ReserveBP = rapid.Int64Range(0, 2_000).Draw(rt, "reserve"); t.ReserveBP > 0 {
				t.ReserveDays = rapid.IntRange(1, 4).Draw(rt, "days")
			}
			t.Once = settlement.Once{Agreed: true, BPDay: 3, Most: money.Fen(30_000), Promise: 2 * time.Hour}
		})
		for range rapid.IntRange(1, 30).Draw(rt, "acts") {
			l.act()
		}
		l.settled()
	})
	h.check()
}

func (l *life) settled() {
	l.try(func(tx *db.Tx) error {
		paid, err := settlement.Paid(tx, l.id)
		charged, err2 := settlement.Charged(tx, l.id)
		b, err3 := ledger.BalanceOf(tx, settlement.Payable(l.id))
		if got := paid.Minor() + charged.Minor() + b.Posted.Minor(); got != l.earned {
			l.rt.Fatalf("earned %d, paid %s, charged %s, owed %s", l.earned, paid, charged, b.Posted)
		}
		all, err4 := settlement.Closings(tx, l.id, "", 500)
		for _, p := range all {
			if sum, said := explained(p); sum != said || p.Amount.Sign() < 0 || p.Advance.Sign() < 0 {
				l.rt.Fatalf("payout %+v", p)
			}
		}
		return errors.Join(err, err2, err3, err4)
	})
}

// A cut breaks the commit with a number, before or after it.
type cut struct {
	n, at int
	after bool
}

func (c *cut) hit(after bool) error {
	if !after {
		c.n++
	}
	if c.n == c.at && c.after == after {
		return errors.New("cut")
	}
	return nil
}

func (c *cut) BeforeCommit(int64) error { return c.hit(false) }
func (c *cut) AfterCommit(int64) error  { return c.hit(true) }

// TestCutAnywhere cuts a day's settlement, a payout at once, its file, its
// return and its late fee at every commit, and does what failed again: the
// books end the same.
func TestCutAnywhere(t *testing.T) {
	want := ""
	for _, after := range []bool{false, true} {
		for at, hit := 0, true; hit; at++ {
			c := &cut{after: after}
			h := open(t, db.Config{URL: dbtest.File(t), Faults: c, Rebuildable: true})
			h.shop("wok", func(t *settlement.Terms) { t.ReserveBP, t.ReserveDays = 500, 1 })
			h.shop("pan", prompt)
			h.sale("s1", "wok", 100_00)
			h.sale("s2", "pan", 500_00)
			c.n, c.at = 0, at
			h.day()
			hit = c.at == 0 || c.n >= c.at
			c.at = 0
			h.check()
			if got := h.summary(); want == "" {
				want = got
			} else if got != want {
				t.Fatalf("cut at %d (after: %v):\n%s\nwant\n%s", at, after, got, want)
			}
		}
	}
}

// again does something until it is not cut.
func (h *house) again(f func() error) {
	h.t.Helper()
	err := f()
	for range 3 {
		if err == nil {
			return
		}
		if !strings.Contains(err.Error(), "cut") && !errors.Is(err, db.ErrUnknown) {
			h.t.Fatal(err)
		}
		err = f()
	}
	h.t.Fatal(err)
}

// day is what TestCutAnywhere cuts.
func (h *house) day() {
	ctx := context.Background()
	unit := func(f func(*db.Tx) error) { h.again(func() error { return h.store.Write(ctx, f) }) }
	unit(func(tx *db.Tx) error {
		o, err := settlement.OfferNow(tx, "pan", tx.Now())
		if err == nil && o.Refusal == nil {
			_, err = settlement.PayNow(tx, "pan", o)
		}
		return err
	})
	h.again(func() error { return settlement.Tick(ctx, h.store) })
	h.now.Advance(3 * time.Hour)
	h.again(func() error { return settlement.Tick(ctx, h.store) })
	h.now.Set(day.AddDays(1).Start(calendar.Beijing).Add(settlement.CutOff))
	h.again(func() error { _, err := h.run(day); return err })
	var id string
	h.do2(func(q *db.Query) error {
		ps, err := settlement.Payouts(q, "wok", "", 1)
		id = ps[0].ID
		return err
	})
	unit(func(tx *db.Tx) error { return settlement.ReturnByHand(tx, id, "li", "no such account") })
	unit(func(tx *db.Tx) error { return settlement.SetAccount(tx, "wok", settlement.BankAccount{Masked: "1"}) })
	h.now.Advance(24 * time.Hour)
	h.again(func() error { _, err := h.run(day.AddDays(1)); return err })
	h.again(func() error { return settlement.ConfirmDay(ctx, h.store, day.AddDays(1)) })
}

func (h *house) do2(f func(*db.Query) error) {
	h.t.Helper()
	if err := h.store.Read(context.Background(), f); err != nil {
		h.t.Fatal(err)
	}
}

// summary is the closings and balances in words.
func (h *house) summary() string {
	var b strings.Builder
	h.do(func(tx *db.Tx) error {
		b.Reset()
		for _, s := range []string{"wok", "pan"} {
			all, err := settlement.Closings(tx, s, "", 100)
			if err != nil {
				return err
			}
			for _, p := range all {
				fmt.Fprintln(&b, s, p.Day, p.Kind, p.State, p.Count, p.Amount, p.Fee, p.Kept, p.Reserved, p.Released, p.Undone)
			}
		}
		for _, a := range []ledger.AccountID{"bank.custody", settlement.Payable("wok"), settlement.Payable("pan"), settlement.Acquirer, settlement.ForAdvances} {
			x, err := ledger.BalanceOf(tx, a)
			if err != nil {
				return err
			}
			fmt.Fprintln(&b, a, x.Posted)
		}
		return nil
	})
	return b.String()
}

// TestWhileOthersWrite settles while sales come in and holds come and go: a
// payee that changed between reading and writing is read again.
func TestWhileOthersWrite(t *testing.T) {
	ctx := context.Background()
	h := openQueued(t, db.Config{URL: dbtest.File(t)})
	const shops = 30
	name := func(i int) string { return fmt.Sprintf("shop%02d", i) }
	for i := range shops {
		h.shop(name(i), nil)
		h.sale(fmt.Sprint("a", i), name(i), 10_00)
	}
	h.now.Set(day.AddDays(1).Start(calendar.Beijing).Add(settlement.CutOff))
	done := make(chan error)
	go func() {
		_, err := settlement.Run(ctx, h.store, day)
		done <- err
	}()
	n := 0
	for running := true; running; n++ {
		select {
		case err := <-done:
			if running = false; err != nil {
				t.Fatal(err)
			}
		default:
			i := n % shops
			h.do(func(tx *db.Tx) error {
				x, err := settlement.PutHold(tx, settlement.Hold{Payee: name(i), Reason: settlement.ForRisk, Amount: money.Fen(1)})
				if err == nil {
					err = settlement.Release(tx, x.ID)
				}
				return err
			})
			h.sale(fmt.Sprint("b", n), name(i), 1_00)
		}
	}
	h.check()
	h.do(func(tx *db.Tx) error {
		all, err := settlement.Payouts(tx, "", "", 500)
		if len(all) != shops {
			t.Errorf("%d payouts", len(all))
		}
		return err
	})
}

// TestSplitsAddUp: shares sum to the sale, and refunds in any parts take each
// back to nothing, none ever below.
func TestSplitsAddUp(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		whole := rapid.Int64Range(1, 1_000_000).Draw(rt, "fen")
		var s settlement.Split
		fixed, bp := int64(0), int64(10_000)
		for i := range rapid.IntRange(0, 3).Draw(rt, "fixed") {
			n := rapid.Int64Range(0, whole-fixed).Draw(rt, "n")
			if fixed += n; n > 0 {
				s.Shares = append(s.Shares, settlement.Share{Payee: fmt.Sprint("f", i), Fixed: money.Fen(n)})
			}
		}
		for i := range rapid.IntRange(0, 4).Draw(rt, "parts") {
			n := rapid.Int64Range(1, bp-10).Draw(rt, "bp")
			bp -= n
			s.Shares = append(s.Shares, settlement.Share{Payee: fmt.Sprint("p", i), BP: n})
			if bp < 100 {
				break
			}
		}
		s.Shares = append(s.Shares, settlement.Share{Payee: "rest", BP: bp})
		left, err := s.Divide(money.Fen(whole))
		if err != nil {
			rt.Fatal(err)
		}
		sum := func() (fen int64) {
			for i, n := range left {
				if n.Sign() < 0 {
					rt.Fatalf("share %d is %s", i, n)
				}
				fen += n.Minor()
			}
			return fen
		}
		if sum() != whole {
			rt.Fatalf("shares %v of %d", left, whole)
		}
		for rest := whole; rest > 0; {
			back := rapid.Int64Range(1, rest).Draw(rt, "back")
			if rapid.Bool().Draw(rt, "all") {
				back = rest
			}
			parts, err := s.Undo(left, money.Fen(back))
			if err != nil {
				rt.Fatal(err)
			}
			for i := range left {
				left[i] = left[i].Sub(parts[i])
			}
			if rest -= back; sum() != rest {
				rt.Fatalf("after %d back: %v, want %d", back, left, rest)
			}
		}
	})
}
