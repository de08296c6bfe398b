package issuing_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/wallet"
)

// TestUseOfAnOlderStore: tries, counter, day and the next counter without a chip
// are what they were before they had a table of their own.
func TestUseOfAnOlderStore(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		before := issuing.Schema
		for i, step := range before.Steps {
			if strings.HasPrefix(step, "CREATE TABLE issuing_use") {
				before.Steps = before.Steps[:i]
				break
			}
		}
		if err := s.Migrate(t.Context(), before); err != nil {
			t.Fatal(err)
		}
		err := s.Write(t.Context(), func(tx *db.Tx) error {
			for _, card := range []string{"never", "asked"} {
				if _, err := tx.Exec(`INSERT INTO issuing_bank (card, token, sealed, psn, alg, dki, pin, tries, atc, account, spent_day, spent) VALUES ($1, $1, $2, 1, 0, 1, $2, 3, -1, 'a', '', 0)`, card, []byte{}); err != nil {
					return err
				}
			}
			if _, err := tx.Exec(`UPDATE issuing_bank SET tries = 2, atc = 7, spent_day = '2015-08-30', spent = 55 WHERE card = 'asked'`); err != nil {
				return err
			}
			for _, atc := range []int{7, 65536, 65537} {
				if _, err := tx.Exec(`INSERT INTO issuing_auth (card, atc, ac, kind, day, fen, balance, arc, state, payee, text, at) VALUES ('asked', $1, $2, 'pay', '2015-08-30', 5, -1, '00', 'held', 'p', '', 1)`,
					atc, []byte("cryptogr")); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			err = s.Migrate(t.Context(), issuing.Schema)
		}
		if err != nil {
			t.Fatal(err)
		}
		type use struct {
			tries, atc, spent, next int
			ac, arc, day            string
		}
		for card, want := range map[string]use{"never": {3, -1, 0, 65536, "", "", ""}, "asked": {2, 7, 55, 65538, "cryptogr", "00", "2015-08-30"}} {
			var got use
			var ac []byte
			err := s.Read(t.Context(), func(q *db.Query) error {
				return q.QueryRow(`SELECT tries, atc, ac, arc, day, spent, upcoming FROM issuing_use WHERE card = $1`, card).Scan(&got.tries, &got.atc, &ac, &got.arc, &got.day, &got.spent, &got.next)
			})
			if got.ac = string(ac); err != nil || got != want {
				t.Errorf("%s: %+v (%v), want %+v", card, got, err, want)
			}
		}
	})
}

// TestDecidedInOneBatch: requests of a card that come together, before any is
// durable, know of each other: the same cryptogram is answered once, stripes get
// counters of their own, and the day counts them all.
func TestDecidedInOneBatch(t *testing.T) {
	h := openBank(t, t.TempDir())
	k := h.issue(issuing.DebitCard, "band_1")
	first, second := k.ask(issuing.TypePurchase, 11), k.ask(issuing.TypePurchase, 22)
	stripe := issuing.Online{Number: k.pan(), Type: issuing.TypePurchase, Fen: money.Fen(5), Payee: first.Payee, Voice: true}
	h.do(func(tx *db.Tx) error {
		c, err := issuing.Get(tx, k.id)
		stripe.Expiry = c.To.AddDate(0, 0, -1).In(calendar.Beijing).Format("0601")
		return err
	})
	var asked []issuing.Prepared
	for _, r := range []issuing.Online{first, second, second, stripe, stripe} {
		p, err := h.bank.Prepare(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		asked = append(asked, p)
	}
	var got []issuing.Decided
	h.do(func(tx *db.Tx) error {
		got = got[:0]
		for _, p := range asked {
			d, err := h.bank.Decide(tx, p)
			if err != nil {
				return err
			}
			got = append(got, d)
		}
		return nil
	})
	counters := map[int]int{}
	for i, d := range got {
		again := i == 2
		if d.Why != issuing.Approval || d.Replayed != again {
			t.Errorf("request %d: %s, again %t", i, d.Why, d.Replayed)
		}
		counters[d.Counter]++
	}
	if len(counters) != 4 {
		t.Errorf("counters %v", counters)
	}
	var spent int64
	h.do(func(tx *db.Tx) error {
		return tx.QueryRow(`SELECT spent FROM issuing_use WHERE card = $1`, k.id).Scan(&spent)
	})
	if spent != 11+22+5+5 {
		t.Errorf("the day has had %d fen", spent)
	}
}

// TestRequestAndRecordInOneBatch: a card asks to go online, the answer does not
// come, and it pays by itself at the same counter: request and record come
// together, each twice, before either is durable. Whichever is first, the shop is
// paid once and nothing stays held.
func TestRequestAndRecordInOneBatch(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := openBankWith(t, cfg, t.TempDir())
		const cards, fen = 12, 7_00
		var list []*paper
		account := wallet.Account(lin)
		for i := range cards {
			list = append(list, h.paper(issuing.DebitCard, fmt.Sprint("band_", i), 50_00))
		}
		before, theirs := h.available(account), h.available(shop)
		var units []func(*db.Tx) error
		for _, p := range list {
			record := p.tc(fen)
			p.atc--
			request := p.request(p.arqc(issuing.TypePurchase, fen))
			asked, err := h.bank.Prepare(context.Background(), request)
			if err != nil {
				t.Fatal(err)
			}
			k, err := h.bank.Check(context.Background(), record, shop)
			if err != nil {
				t.Fatal(err)
			}
			ask := func(tx *db.Tx) error { _, err := h.bank.Decide(tx, asked); return err }
			hand := func(tx *db.Tx) error { _, _, err := issuing.ClearTC(tx, k); return err }
			units = append(units, ask, hand, ask, hand)
		}
		in, release := make(chan struct{}), make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() {
			_ = h.store.Write(context.Background(), func(*db.Tx) error { close(in); <-release; return nil })
		})
		<-in
		for _, f := range units {
			all.Go(func() {
				if err := h.store.Write(context.Background(), f); err != nil {
					t.Error(err)
				}
			})
		}
		close(release)
		all.Wait()
		floats := int64(0)
		for _, p := range list {
			floats += h.available(issuing.Float(p.id))
			if w := h.waits(p.id); len(w) > 0 {
				t.Errorf("records of %s wait: %v", p.id, w)
			}
		}
		var b ledger.Balance
		h.do(func(tx *db.Tx) (err error) { b, err = ledger.BalanceOf(tx, account); return err })
		if got := h.available(shop) - theirs; got != cards*fen || !b.Held.IsZero() || before+cards*50_00-h.available(account)-floats != cards*fen {
			t.Errorf("the shop has %d more, want %d; %s held, the holder paid %d", got, cards*fen, b.Held, before+cards*50_00-h.available(account)-floats)
		}
	})
}

// TestWrongPINsInOneBatch: of many wrong PINs that come together, before any is
// durable, three are looked at. A unit that fails behind its request has used none
// up, and the right PIN behind three wrong ones is none.
func TestWrongPINsInOneBatch(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := openBankWith(t, cfg, t.TempDir())
		p := h.paper(issuing.DebitCard, "band_1", 0)
		expiry := ""
		h.do(func(tx *db.Tx) error {
			c, err := issuing.Get(tx, p.id)
			expiry = c.To.AddDate(0, 0, -1).In(calendar.Beijing).Format("0601")
			return err
		})
		ask := func(pin string) issuing.Prepared {
			block, err := h.keys.EncipherPIN(context.Background(), p.number, pin)
			if err == nil && pin == "123456" {
				err = h.bank.SetPIN(context.Background(), p.id, block)
			}
			if err != nil {
				t.Fatal(err)
			}
			asked, err := h.bank.Prepare(context.Background(), issuing.Online{Track: p.number + "D" + expiry + "220", Type: issuing.TypePurchase, Fen: money.Fen(1), PIN: &block, Payee: shop})
			if err != nil {
				t.Fatal(err)
			}
			return asked
		}
		right := ask("123456")
		const many = 24
		later := errors.New("a later statement failed")
		got := make([]issuing.Reason, many)
		var units []issuing.Prepared
		for range many {
			units = append(units, ask("000000"))
		}
		in, release := make(chan struct{}), make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() {
			_ = h.store.Write(context.Background(), func(*db.Tx) error { close(in); <-release; return nil })
		})
		<-in
		for i, asked := range units {
			all.Go(func() {
				err := h.store.Write(context.Background(), func(tx *db.Tx) error {
					d, err := h.bank.Decide(tx, asked)
					got[i] = d.Why
					if err == nil && i%3 == 0 {
						err = later
					}
					return err
				})
				if fails := i%3 == 0; fails != errors.Is(err, later) || !fails && err != nil {
					t.Error(err)
				}
			})
		}
		close(release)
		all.Wait()
		looked := map[issuing.Reason]int{}
		for i, why := range got {
			if i%3 > 0 {
				looked[why]++
			}
		}
		if looked[issuing.WrongPIN] != 3 || looked[issuing.NoTries] != many*2/3-3 {
			t.Errorf("%v", looked)
		}
		h.do(func(tx *db.Tx) error {
			d, err := h.bank.Decide(tx, right)
			if d.Why != issuing.NoTries {
				t.Errorf("the right PIN behind three wrong ones: %q", d.Why)
			}
			return err
		})
		h.do(func(tx *db.Tx) error { return issuing.ResetPINTries(tx, p.id) })
		h.do(func(tx *db.Tx) error {
			d, err := h.bank.Decide(tx, right)
			if d.Why != issuing.Approval {
				t.Errorf("with its tries back: %q", d.Why)
			}
			return err
		})
	})
}
