package referral_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/customer"
	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/outbox"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/switching/referral"
	"koala/wallet"
)

const (
	shop   = "shop_1"
	holder = customer.ID("cust_lin")
)

var (
	ctx    = context.Background()
	start  = time.Date(2015, 9, 16, 2, 0, 0, 0, time.UTC)
	primes = sync.OnceValue(func() []byte {
		b, err := os.ReadFile("../../hsm/testdata/primes.txt")
		if err != nil {
			panic(err)
		}
		return b
	})
	errLater = errors.New("a later statement failed")
)

// A house is the desk with bank, books and one holder's debit card.
type house struct {
	store          *db.Store
	desk           *referral.Desk
	now            *clock.Virtual
	number, expiry string
	card           issuing.CardID
	n              int
}

func open(t *testing.T, cfg db.Config) *house {
	t.Helper()
	h := &house{now: clock.NewVirtual(start)}
	cfg.Clock, cfg.Rand, cfg.Rebuildable = h.now, clock.Random(5), true
	s, err := db.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	book, err := ledger.Open(ctx, s, ledger.Config{Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { book.Close(); s.Close() })
	outbox.Open(s)
	keys, err := hsm.Open(ctx, s, hsm.Config{KeyFile: filepath.Join(t.TempDir(), "key"), Rand: clock.Random(6), Primes: primes()})
	if err == nil {
		err = errors.Join(keys.Provision(ctx), keys.ProvisionBank(ctx), s.Migrate(ctx, outbox.Schema, wallet.Schema, settlement.Schema, issuing.Schema,
			db.Schema{Owner: "switching", Steps: []string{referral.Step}}))
	}
	if err != nil {
		t.Fatal(err)
	}
	bank := issuing.NewBank(s, keys)
	h.store, h.desk = s, referral.New(bank, keys)
	h.do(t, func(tx *db.Tx) error {
		err := errors.Join(issuing.Seed(tx), issuing.SeedBank(tx), wallet.Open(tx, holder), settlement.Join(tx, shop, "Noodles"))
		if err == nil {
			_, err = wallet.Fund(tx, "start", holder, money.Fen(1000_00))
		}
		return err
	})
	n, err := bank.Number(ctx, issuing.DebitCard)
	if err != nil {
		t.Fatal(err)
	}
	h.do(t, func(tx *db.Tx) error {
		c, err := issuing.Open(tx, issuing.Application{Ref: "card", Customer: holder, Band: "band", Product: issuing.DebitCard, PAN: &n})
		if err == nil {
			err = errors.Join(issuing.Begin(tx, c.ID), issuing.Activate(tx, c.ID, issuing.Counters{Balance: money.Fen(0), At: tx.Now(), By: "test"}))
		}
		h.card, h.expiry = c.ID, c.To.AddDate(0, 0, -1).Add(8*time.Hour).Format("0601")
		return err
	})
	card, err := bank.Keys(ctx, h.card)
	if err != nil {
		t.Fatal(err)
	}
	h.number = card.PAN
	return h
}

type fataler interface {
	Helper()
	Fatal(...any)
}

func (h *house) do(t fataler, f func(*db.Tx) error) {
	t.Helper()
	if err := h.store.Write(ctx, f); err != nil {
		t.Fatal(err)
	}
}

// call is one that has been heard.
func (h *house) call(t fataler, fen int64) (id string, heard referral.Heard) {
	t.Helper()
	h.n++
	id = fmt.Sprintf("call_%06d", h.n)
	heard, err := h.desk.Hear(ctx, referral.Call{ID: id, Shop: shop, TID: "10000001", Name: "Noodles", Number: h.number, Expiry: h.expiry, Amount: money.Fen(fen), By: "lin"})
	if err != nil {
		t.Fatal(err)
	}
	return id, heard
}

func (h *house) of(t fataler, id string) (r referral.Referral) {
	t.Helper()
	err := h.store.Read(ctx, func(q *db.Query) (err error) { r, err = referral.Of(q, id); return err })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (h *house) money(t fataler) (posted, held, payable int64) {
	t.Helper()
	h.do(t, func(tx *db.Tx) error {
		b, err := ledger.BalanceOf(tx, wallet.Account(holder))
		p, err2 := ledger.BalanceOf(tx, settlement.Payable(shop))
		posted, held, payable = b.Posted.Minor(), b.Held.Minor(), p.Posted.Minor()
		return errors.Join(err, err2)
	})
	return posted, held, payable
}

// together runs units in one batch, as far as they come together.
func (h *house) together(t *testing.T, units ...func(*db.Tx) error) []error {
	t.Helper()
	in, release := make(chan struct{}), make(chan struct{})
	errs := make([]error, len(units))
	var all sync.WaitGroup
	all.Go(func() { _ = h.store.Write(ctx, func(*db.Tx) error { close(in); <-release; return nil }) })
	<-in
	for i, f := range units {
		all.Go(func() { errs[i] = h.store.Write(ctx, f) })
	}
	close(release)
	all.Wait()
	return errs
}

// TestOneOfMany: the same call decided by many at once holds once and has one
// code; of many sales with it one stands; and of many who withdraw it one does,
// and lets go once.
func TestOneOfMany(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		const many = 16
		id, heard := h.call(t, 30_00)
		var decide []func(*db.Tx) error
		codes := make([]string, many)
		for i := range many {
			decide = append(decide, func(tx *db.Tx) error {
				r, err := h.desk.Decide(tx, heard)
				codes[i] = r.Code
				return err
			})
		}
		for _, err := range h.together(t, decide...) {
			if err != nil {
				t.Error(err)
			}
		}
		r := h.of(t, id)
		for _, c := range codes {
			if c != r.Code || len(c) != referral.CodeLen {
				t.Errorf("code %q, the call has %q", c, r.Code)
			}
		}
		if _, held, _ := h.money(t); held != 30_00 {
			t.Errorf("%d held, want 3000", held)
		}
		var use []func(*db.Tx) error
		flaws := make([]referral.Flaw, many)
		for i := range many {
			use = append(use, func(tx *db.Tx) (err error) {
				_, flaws[i], err = referral.Use(tx, referral.Sale{RRN: fmt.Sprint("rrn", i), Shop: shop, Token: r.Token, Code: r.Code, Amount: money.Fen(20_00)})
				return err
			})
		}
		errs := h.together(t, use...)
		stand := 0
		for i, f := range flaws {
			switch {
			case errs[i] != nil:
				t.Error(errs[i])
			case f == referral.NoFlaw:
				stand++
			case f != referral.Spent:
				t.Errorf("sale %d: %s", i, f)
			}
		}
		if got := h.of(t, id); stand != 1 || got.State != referral.Used || got.Sale == "" {
			t.Errorf("%d sales stand for the code, the call is %s by %q", stand, got.State, got.Sale)
		}
		id, heard = h.call(t, 10_00)
		h.do(t, func(tx *db.Tx) error { _, err := h.desk.Decide(tx, heard); return err })
		var withdraw []func(*db.Tx) error
		for range many {
			withdraw = append(withdraw, func(tx *db.Tx) error { return referral.Withdraw(tx, id) })
		}
		good := 0
		for _, err := range h.together(t, withdraw...) {
			if err == nil {
				good++
			} else if !errors.Is(err, referral.ErrState) {
				t.Error(err)
			}
		}
		if _, held, _ := h.money(t); good != 1 || held != 30_00 {
			t.Errorf("%d withdrew, %d held; want 1 and 3000", good, held)
		}
	})
}

// A code is what a model has of a call.
type code struct {
	id, code string
	fen      int64
	state    referral.State
	until    time.Time
	sold     int64 // by a sale that stands and is not booked yet
}

// TestModel: calls, the same calls again, sales with good and bad codes, booked or
// not, withdrawals, days that pass, and units that fail behind each: what is held
// is what calls hold that wait or whose sale is not booked, what is booked is what
// was sold, and every code stands once.
func TestModel(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t), Inline: true})
	token := ""
	rapid.Check(t, func(t *rapid.T) {
		var codes []*code
		posted0, held0, payable0 := h.money(t)
		left, booked := posted0-held0, int64(0)
		unit := func(f func(*db.Tx) error) bool { // says whether it stands
			fails := rapid.IntRange(0, 4).Draw(t, "later") == 0
			err := h.store.Write(ctx, func(tx *db.Tx) error {
				if err := f(tx); err != nil || !fails {
					return err
				}
				return errLater
			})
			if err != nil && !errors.Is(err, errLater) {
				t.Fatal(err)
			}
			return err == nil
		}
		for range rapid.IntRange(1, 15).Draw(t, "steps") {
			var x *code
			if len(codes) > 0 {
				x = rapid.SampledFrom(codes).Draw(t, "code")
			}
			switch do := rapid.SampledFrom([]string{"call", "call", "sale", "sale", "book", "withdraw", "time", "tick"}).Draw(t, "do"); {
			case do == "call":
				fen := rapid.Int64Range(1, 9_00).Draw(t, "fen")
				id, heard := h.call(t, fen)
				var r referral.Referral
				for range rapid.IntRange(1, 2).Draw(t, "times") {
					if !unit(func(tx *db.Tx) (err error) { r, err = h.desk.Decide(tx, heard); return err }) {
						r = referral.Referral{}
					}
				}
				if err := h.store.Read(ctx, func(q *db.Query) (err error) { r, err = referral.Of(q, id); return err }); errors.Is(err, referral.ErrNotFound) {
					break // every unit of it failed
				}
				token = r.Token
				switch {
				case fen > left && r.State == referral.Refused && r.Why == issuing.NoMoney && r.Code == "":
				case fen <= left && r.State == referral.Held:
					left -= fen
					codes = append(codes, &code{id: id, code: r.Code, fen: fen, state: referral.Held, until: r.Until})
				default:
					t.Fatalf("a call for %d with %d left is %s (%s)", fen, left, r.State, r.Why)
				}
			case x == nil:
			case do == "sale":
				fen, shopOf, cardOf := max(1, x.fen+rapid.Int64Range(-2, 1).Draw(t, "more")), shop, token
				switch rapid.IntRange(0, 5).Draw(t, "odd") {
				case 0:
					shopOf = "shop_2"
				case 1:
					cardOf = "another"
				}
				want := referral.NoFlaw
				switch {
				case shopOf != shop:
					want = referral.Unknown
				case cardOf != token:
					want = referral.OtherCard
				case x.state == referral.Used:
					want = referral.Spent
				case x.state == referral.Withdrawn:
					want = referral.TakenBack
				case x.state == referral.Over || h.now.Now().After(x.until):
					want = referral.TooLate
				case fen > x.fen:
					want = referral.TooMuch
				}
				var flaw referral.Flaw
				stands := unit(func(tx *db.Tx) (err error) {
					_, flaw, err = referral.Use(tx, referral.Sale{RRN: "rrn" + x.id, Shop: shopOf, Token: cardOf, Code: x.code, Amount: money.Fen(fen)})
					return err
				})
				if flaw != want || flaw != referral.NoFlaw && len(flaw.Code()) != 2 {
					t.Fatalf("a sale of %d with a code for %d, %s: %q, want %q", fen, x.fen, x.state, flaw, want)
				}
				if stands && want == referral.NoFlaw {
					x.state, x.sold = referral.Used, fen
				}
			case do == "book" && x.sold > 0:
				r := h.of(t, x.id)
				if unit(func(tx *db.Tx) error {
					_, err := issuing.Book(tx, r.Card, r.Counter, money.Fen(x.sold), 100)
					return err
				}) {
					left, booked, x.sold = left+x.fen-x.sold, booked+x.sold, -1
				}
			case do == "withdraw" && x.state == referral.Held:
				if unit(func(tx *db.Tx) error { return referral.Withdraw(tx, x.id) }) {
					x.state, left = referral.Withdrawn, left+x.fen
				}
			case do == "withdraw":
				err := h.store.Write(ctx, func(tx *db.Tx) error { return referral.Withdraw(tx, x.id) })
				if !errors.Is(err, referral.ErrState) {
					t.Fatalf("%s, withdrawn: %v", x.state, err)
				}
			case do == "time":
				h.now.Advance(time.Duration(rapid.SampledFrom([]int{1, 24, 48, 72, 73}).Draw(t, "hours")) * time.Hour)
			case do == "tick":
				if err := referral.Expire(ctx, h.store, h.now.Now()); err != nil {
					t.Fatal(err)
				}
				for _, x := range codes {
					if x.state == referral.Held && h.now.Now().After(x.until) {
						x.state, left = referral.Over, left+x.fen
					}
				}
			}
			// A hold lives longer than its code, by what a sale has to be booked in.
			waits := int64(0)
			for _, x := range codes {
				if alive := h.now.Now().Before(x.until.Add(2 * 24 * time.Hour)); alive && (x.state == referral.Held || x.sold > 0) {
					waits += x.fen
				} else if !alive && (x.state == referral.Held || x.sold > 0) && x.fen > 0 {
					left, x.fen = left+x.fen, 0 // nothing of it is held any more, and it may still be booked
				}
				if got := h.of(t, x.id).State; got != x.state {
					t.Fatalf("call %s is %s, want %s", x.id, got, x.state)
				}
			}
			posted, held, payable := h.money(t)
			if held-held0 != waits || posted-held != left || posted0-posted != booked || payable-payable0 != booked {
				t.Fatalf("held %d, available %d, booked %d, the shop has %d; want %d, %d, %d", held-held0, posted-held, posted0-posted, payable-payable0, waits, left, booked)
			}
		}
		h.now.Advance(6 * 24 * time.Hour) // what is left lets go
		if err := referral.Expire(ctx, h.store, h.now.Now()); err != nil {
			t.Fatal(err)
		}
		if booked > 0 { // and what was sold goes back, for the next run
			h.do(t, func(tx *db.Tx) error {
				_, err := ledger.Post(tx, ledger.Move(fmt.Sprint("back", h.n), settlement.Payable(shop), wallet.Account(holder), money.Fen(booked)))
				return err
			})
		}
	})
}
