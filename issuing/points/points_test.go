package points_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/outbox"
	"koala/internal/proposal"
	"koala/issuing"
	"koala/issuing/points"
	"koala/ledger"
	"koala/merchant"
	"koala/money"
	"koala/settlement"
	"koala/switching"
)

var ctx = context.Background()

// A bank is cards with payments, and what a switch has of sales for points.
type bank struct {
	t interface {
		Helper()
		Fatal(...any)
		Fatalf(string, ...any)
	}
	store *db.Store
	now   *clock.Virtual
	sales map[string]points.Sale
	n     int
}

func open(t *testing.T, cfg db.Config) *bank {
	t.Helper()
	b := &bank{t: t, now: clock.NewVirtual(time.Date(2016, 9, 6, 4, 0, 0, 0, time.UTC)), sales: map[string]points.Sale{}}
	cfg.Clock = b.now
	var err error
	b.store, err = db.Open(ctx, cfg)
	b.must(err)
	b.must(b.store.Migrate(ctx, outbox.Schema, proposal.Schema, settlement.Schema, merchant.Schema, issuing.Schema, switching.Schema))
	book, err := ledger.Open(ctx, b.store, ledger.Config{Inline: true})
	b.must(err)
	t.Cleanup(func() { book.Close(); b.store.Close() })
	outbox.Open(b.store)
	b.do(func(tx *db.Tx) error {
		err := points.Open(tx)
		if err == nil {
			err = ledger.OpenAccount(tx, ledger.Account{ID: "shop", Code: "2030", Name: "shop", Currency: money.CNY})
		}
		return err
	})
	return b
}

func (b *bank) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bank) do(f func(*db.Tx) error) {
	b.t.Helper()
	b.must(b.store.Write(ctx, f))
}

// pay writes a booked payment of a card, and gives its counter.
func (b *bank) pay(card string, fen int64) int {
	b.t.Helper()
	b.n++
	b.now.Advance(time.Minute)
	b.do(func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO issuing_auth (card, atc, ac, kind, day, fen, balance, arc, state, payee, text, at, paid) VALUES ($1, $2, $3, 'pay', '2016-09-06', $4, -1, '00', 'paid', 'shop', 'WOK', $5, $4)`,
			card, b.n, []byte{}, fen, tx.Now().UnixMicro())
		return err
	})
	return b.n
}

// back gives part of a payment back.
func (b *bank) back(card string, atc int, fen int64) {
	b.t.Helper()
	b.do(func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE issuing_auth SET paid = paid - $3 WHERE card = $1 AND atc = $2`, card, atc, fen)
		return err
	})
}

func (b *bank) spend(card string, fen int64) (ref string, err error) {
	b.t.Helper()
	b.n++
	b.now.Advance(time.Minute)
	ref = fmt.Sprintf("R%011d", b.n)
	err = b.store.Write(ctx, func(tx *db.Tx) error { return points.Spend(tx, ref, card, fen) })
	if err == nil {
		b.sales[ref] = points.Sale{Known: true, Card: card, Asked: fen, Stands: fen}
	} else if !errors.Is(err, points.ErrTooFew) {
		b.t.Fatal(err)
	}
	return ref, err
}

// moves moves the house's money to the shop, or back.
func (b *bank) moves(tx *db.Tx, fen int64) error {
	b.n++
	from, to := points.House, ledger.AccountID("shop")
	if fen < 0 {
		from, to, fen = to, from, -fen
	}
	_, err := ledger.Post(tx, ledger.Move(fmt.Sprint("m:", b.n), from, to, money.Fen(fen)))
	return err
}

func (b *bank) has(card string) (x points.Balance) {
	b.t.Helper()
	b.must(b.store.Read(ctx, func(q *db.Query) (err error) { x, err = points.Of(q, card); return err }))
	return x
}

func (b *bank) wrong() (wrong []string) {
	b.t.Helper()
	b.do(func(tx *db.Tx) (err error) {
		wrong, err = points.Prove(tx, func(ref string) (points.Sale, error) { return b.sales[ref], nil })
		return err
	})
	return wrong
}

// TestProveHoldsWhateverHappens: payments, sales, their undoing, what is undone of
// that, bookings and refunds in any order: a card never spends what it has not, and
// the proof stays green.
func TestProveHoldsWhateverHappens(t *testing.T) {
	b := open(t, db.Config{URL: dbtest.File(t), Inline: true})
	town := 0
	rapid.Check(t, func(t *rapid.T) {
		b.t = t
		town++
		first := fmt.Sprint("c1.", town)
		var refs []string
		paid := map[int]int64{}
		for range rapid.IntRange(1, 25).Draw(t, "acts") {
			card := rapid.SampledFrom([]string{first, fmt.Sprint("c2.", town)}).Draw(t, "card")
			switch do := rapid.SampledFrom([]string{"pay", "spend", "spend", "undo", "redo", "book", "refund", "back"}).Draw(t, "do"); {
			case do == "pay":
				fen := rapid.Int64Range(1, 900_00).Draw(t, "fen")
				if n := b.pay(card, fen); card == first {
					paid[n] = fen
				}
			case do == "back":
				for n, fen := range paid {
					b.back(first, n, fen)
					delete(paid, n)
					break
				}
			case do == "spend":
				left := b.has(card).Left()
				fen := rapid.Int64Range(1, 900).Draw(t, "points")
				ref, err := b.spend(card, fen)
				if (err == nil) != (fen <= left) {
					t.Fatalf("%d of %d: %v", fen, left, err)
				}
				if err == nil {
					refs = append(refs, ref)
				}
			case len(refs) > 0:
				b.turn(do, rapid.SampledFrom(refs).Draw(t, "ref"))
			}
			if wrong := b.wrong(); len(wrong) > 0 {
				t.Fatal(wrong)
			}
		}
	})
}

// turn does to a sale what the switch would, where it may.
func (b *bank) turn(do, ref string) {
	b.t.Helper()
	s := b.sales[ref]
	err := b.store.Write(ctx, func(tx *db.Tx) (err error) {
		switch {
		case do == "undo" && !s.Booked:
			s.Stands, err = 0, points.Release(tx, ref)
		case do == "redo" && !s.Booked && s.Stands == 0:
			s.Stands, err = s.Asked, points.Again(tx, ref)
		case do == "book" && !s.Booked && s.Stands > 0:
			s.Booked, err = true, b.moves(tx, s.Stands)
		case do == "refund" && s.Booked && s.Stands > 0:
			part := (s.Stands + 1) / 2
			if err = points.GiveBack(tx, ref, part); err == nil {
				s.Stands, err = s.Stands-part, b.moves(tx, -part)
			}
		}
		return err
	})
	switch {
	case err == nil:
		b.sales[ref] = s
	case !errors.Is(err, points.ErrTooFew) || do != "redo":
		b.t.Fatalf("%s: %v", do, err)
	}
}

// TestProveFinds: each change behind the house's back is named.
func TestProveFinds(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		b := open(t, cfg)
		b.pay("c1", 600_50)
		first, err := b.spend("c1", 500)
		b.must(err)
		second, err := b.spend("c1", 100)
		b.must(err)
		if _, err := b.spend("c1", 1); err == nil {
			t.Error("more than there is")
		}
		b.turn("book", first)
		if wrong := b.wrong(); len(wrong) > 0 {
			t.Fatal(wrong)
		}
		for _, x := range []struct{ do, undo, says string }{
			{`UPDATE issuing_points SET fen = 90 WHERE ref = '` + second + `'`, `UPDATE issuing_points SET fen = 100 WHERE ref = '` + second + `'`, "90 fen of it stand on the card, 100 at the switch"},
			{`UPDATE issuing_points SET asked = 99 WHERE ref = '` + second + `'`, `UPDATE issuing_points SET asked = 100 WHERE ref = '` + second + `'`, "99 fen were taken"},
			{`UPDATE issuing_points SET card = 'c2' WHERE ref = '` + second + `'`, `UPDATE issuing_points SET card = 'c1' WHERE ref = '` + second + `'`, "of another card"},
			{`UPDATE issuing_points SET cost = 2 WHERE ref = '` + second + `'`, `UPDATE issuing_points SET cost = 1 WHERE ref = '` + second + `'`, "the rule of its day"},
			{`UPDATE issuing_points SET ref = 'x' WHERE ref = '` + second + `'`, `UPDATE issuing_points SET ref = '` + second + `' WHERE ref = 'x'`, "no such sale"},
			{`UPDATE issuing_auth SET fen = 590, paid = 590`, `UPDATE issuing_auth SET fen = 60050, paid = 60050`, "never earned more than 5"},
			{`DELETE FROM issuing_points WHERE ref = '` + first + `'`, ``, "paid shops 500 fen, sales for points that were booked stand at 0"},
		} {
			b.do(func(tx *db.Tx) error { _, err := tx.Exec(x.do); return err })
			if wrong := b.wrong(); !strings.Contains(strings.Join(wrong, "\n"), x.says) {
				t.Errorf("%s: %q", x.do, wrong)
			}
			if x.undo != "" {
				b.do(func(tx *db.Tx) error { _, err := tx.Exec(x.undo); return err })
			}
		}
	})
}

// TestMovements: newest first, what earned and what was spent, with what went back.
func TestMovements(t *testing.T) {
	b := open(t, db.Config{URL: dbtest.File(t), Inline: true})
	list := func(limit int) (out []int64) {
		b.must(b.store.Read(ctx, func(q *db.Query) error {
			list, err := points.Movements(q, "c1", limit)
			for _, m := range list {
				if (m.Ref == "") != (m.Text == "WOK") {
					t.Errorf("%+v", m)
				}
				out = append(out, m.Points)
			}
			return err
		}))
		return out
	}
	if got := list(10); len(got) != 0 {
		t.Errorf("of a new card: %v", got)
	}
	b.pay("c1", 99)
	n := b.pay("c1", 600_50)
	b.pay("c2", 70_00)
	ref, err := b.spend("c1", 40)
	b.must(err)
	gone, err := b.spend("c1", 30)
	b.must(err)
	b.turn("undo", gone)
	b.turn("book", ref)
	b.turn("refund", ref)
	b.back("c1", n, 100_00)
	b.pay("c1", 8_99)
	if got := fmt.Sprint(list(10)); got != "[8 0 -20 500]" {
		t.Error(got)
	}
	if got := fmt.Sprint(list(2)); got != "[8 0]" {
		t.Error(got)
	}
}
