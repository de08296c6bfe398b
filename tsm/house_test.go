package tsm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"koala/card"
	"koala/card/catalog"
	"koala/card/isd"
	"koala/customer"
	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/spec/iso7816"
	"koala/spec/purse"
	"koala/tsm"
	"koala/wallet"
)

const lin customer.ID = "cust_lin"

const (
	bandID = "band_1"
	funds  = 1000_00 // fen in Lin's wallet at the start
)

var ctx = context.Background()

// A tester is a test or one run of a property.
type tester interface {
	Helper()
	Cleanup(func())
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

// A house is everything between a wallet and an element, for one test.
type house struct {
	t     tester
	now   *clock.Virtual
	store *db.Store
	tsm   *tsm.Manager
	band  *band
	bank  *issuing.Bank
	keys  *hsm.HSM
	card  issuing.CardID
	refs  int
	leave func() // closes it before its test ends

	product string // what issue orders are for
}

// primes are RSA keys made once: a test is about other things.
var primes = sync.OnceValue(func() []byte {
	b, err := os.ReadFile("../hsm/testdata/primes.txt")
	if err != nil {
		panic(err)
	}
	return b
})

// elements is the catalogue all test elements share.
var elements = catalog.New(isd.Config{})

// open makes a house with a funded wallet and a band from the factory.
func open(t tester, cfg db.Config, tune tsm.Config) *house {
	t.Helper()
	return openWith(t, cfg, tune, true)
}

func openWith(t tester, cfg db.Config, tune tsm.Config, inline bool) *house {
	t.Helper()
	dir, err := os.MkdirTemp("", "koala-tsm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg.Inline = inline
	h := enter(t, cfg, tune, dir, 7)
	h.found()
	h.band = newBand(t, h.tsm, bandID, 1)
	return h
}

// enter opens the house over a store and a key file in dir, new or not. What
// it draws begins with seed.
func enter(t tester, cfg db.Config, tune tsm.Config, dir string, seed uint64) *house {
	t.Helper()
	h := &house{t: t, product: issuing.TransitBJ, now: clock.NewVirtual(time.Date(2015, 9, 16, 8, 0, 0, 0, time.UTC))}
	cfg.Clock, cfg.Rand = h.now, clock.Random(seed)
	var err error
	if h.store, err = db.Open(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	book, err := ledger.Open(ctx, h.store, ledger.Config{Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	h.leave = sync.OnceFunc(func() { book.Close(); h.store.Close() })
	t.Cleanup(h.leave)
	h.keys, err = hsm.Open(ctx, h.store, hsm.Config{KeyFile: filepath.Join(dir, "key"), Rand: clock.Random(seed + 1), Primes: primes()})
	if err != nil {
		t.Fatal(err)
	}
	h.tsm, h.bank = tsm.New(h.store, h.keys, tune), issuing.NewBank(h.store, h.keys)
	return h
}

// found gives a new house its tables, keys, products, and Lin with a band.
func (h *house) found() {
	h.t.Helper()
	if err := errors.Join(h.store.Migrate(ctx, wallet.Schema, issuing.Schema, tsm.Schema), h.keys.Provision(ctx)); err != nil {
		h.t.Fatal(err)
	}
	h.do(func(tx *db.Tx) error {
		if err := errors.Join(issuing.Seed(tx), wallet.Open(tx, lin), h.tsm.Register(tx, bandID, string(lin))); err != nil {
			return err
		}
		_, err := wallet.Fund(tx, "start", lin, money.Fen(funds))
		return err
	})
}

// An image is a founded house at rest: its store and its key file.
type image struct{ store, key []byte }

// Houses of most tests begin as a copy of one that was founded once.
var (
	plainImage = sync.OnceValues(func() (image, error) { return imageOf(func(*house) {}) })
	kindsImage = sync.OnceValues(func() (image, error) { return imageOf((*house).openAll) })
)

func imageOf(more func(*house)) (i image, err error) {
	dir, err := os.MkdirTemp("", "koala-tsm")
	if err != nil {
		return i, err
	}
	defer os.RemoveAll(dir)
	b := &builder{}
	defer b.end()
	file := filepath.Join(dir, "koala.db")
	h := enter(b, db.Config{URL: file, Rebuildable: true, Inline: true}, tsm.Config{}, dir, 3)
	h.found()
	more(h)
	h.leave()
	i.store, err = os.ReadFile(file)
	if err == nil {
		i.key, err = os.ReadFile(filepath.Join(dir, "key"))
	}
	return i, err
}

// A builder is the tester of a house that no test owns.
type builder struct{ ends []func() }

func (*builder) Helper()                     {}
func (b *builder) Cleanup(f func())          { b.ends = append(b.ends, f) }
func (*builder) Fatal(v ...any)              { panic(fmt.Sprint(v...)) }
func (*builder) Fatalf(f string, v ...any)   { panic(fmt.Sprintf(f, v...)) }
func (b *builder) Errorf(f string, v ...any) { b.Fatalf(f, v...) }
func (b *builder) end() {
	for _, f := range b.ends {
		f()
	}
}

// copied is a house like the one in an image.
func copied(t tester, of func() (image, error), tune tsm.Config) *house {
	t.Helper()
	i, err := of()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "koala-tsm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "koala.db")
	if err := errors.Join(os.WriteFile(file, i.store, 0o600), os.WriteFile(filepath.Join(dir, "key"), i.key, 0o600)); err != nil {
		t.Fatal(err)
	}
	h := enter(t, db.Config{URL: file, Rebuildable: true, Inline: true}, tune, dir, 7)
	h.now.Advance(time.Second) // what it names comes after what the image has named
	h.band = newBand(t, h.tsm, bandID, 1)
	return h
}

// sqlite is a store that is quick and forgets nothing while the test runs.
func sqlite(t testing.TB) db.Config { return db.Config{URL: dbtest.File(t), Rebuildable: true} }

func (h *house) try(f func(*db.Tx) error) error { return h.store.Write(ctx, f) }

func (h *house) do(f func(*db.Tx) error) {
	h.t.Helper()
	if err := h.try(f); err != nil {
		h.t.Fatal(err)
	}
}

// place orders something for the house's card.
func (h *house) place(k tsm.Kind, fen int64) tsm.Order {
	h.t.Helper()
	o, err := h.request(k, fen)
	if err != nil {
		h.t.Fatal(err)
	}
	return o
}

func (h *house) request(k tsm.Kind, fen int64) (o tsm.Order, err error) {
	h.refs++
	var number *issuing.Numbered
	if k == tsm.Issue {
		number = h.number()
	}
	err = h.try(func(tx *db.Tx) (err error) {
		r := tsm.Request{Ref: fmt.Sprint(k, h.refs), Kind: k, Band: bandID, Card: h.card, Customer: string(lin)}
		switch k {
		case tsm.TopUp:
			r.Amount = money.Fen(fen)
		case tsm.Update:
			r.Update = &tsm.Change{Limits: []tsm.Limit{{Tag: 0x9F78, Fen: 500_00 + fen}, {Tag: 0x9F6B, Fen: 200_00}}}
		}
		if k == tsm.Issue {
			c, err := issuing.Open(tx, issuing.Application{Ref: r.Ref, Customer: lin, Band: bandID, Product: h.product, PAN: number})
			if err != nil {
				return err
			}
			r.Card, h.card = c.ID, c.ID
		}
		o, err = h.tsm.Place(tx, r)
		return err
	})
	return o, err
}

// number draws a card number where the product's cards have one.
func (h *house) number() *issuing.Numbered {
	h.t.Helper()
	if h.product != issuing.ECashCard && h.product != issuing.DebitCard && h.product != pinCard && h.product != issuing.ECashCardSM {
		return nil
	}
	n, err := h.bank.Number(ctx, h.product)
	if err != nil {
		h.t.Fatal(err)
	}
	return &n
}

func (h *house) order(id string) (o tsm.Order) {
	h.t.Helper()
	h.read(func(q *db.Query) (err error) { o, err = tsm.OrderOf(q, id); return err })
	return o
}

func (h *house) read(f func(*db.Query) error) {
	h.t.Helper()
	if err := h.store.Read(ctx, f); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) state() (s issuing.State) {
	h.t.Helper()
	h.read(func(q *db.Query) error {
		c, err := issuing.Get(q, h.card)
		s = c.State
		return err
	})
	return s
}

// issued gives the house an active card with fen on it.
func (h *house) issued(fen int64) {
	h.t.Helper()
	o := h.place(tsm.Issue, 0)
	h.settle(o, tsm.Done)
	if fen > 0 {
		o := h.place(tsm.TopUp, fen)
		h.settle(o, tsm.Done)
	}
}

// settle lets the band work until it is told to rest, and wants an outcome.
func (h *house) settle(o tsm.Order, want tsm.State) {
	h.t.Helper()
	h.band.work(0)
	if got := h.order(o.ID); got.State != want {
		h.t.Fatalf("%s is %s (%s) in phase %s, want %s\n%s", o.Kind, got.State, got.Why, got.Phase, want, h.log(o.ID))
	}
}

func (h *house) log(id string) (text string) {
	h.read(func(q *db.Query) error {
		lines, err := tsm.Log(q, id)
		for _, l := range lines {
			text += fmt.Sprintf("%-12s %X", l.Phase, l.Plain.Bytes())
			if l.Answer != nil {
				text += fmt.Sprintf(" -> %v", l.Answer)
			}
			if l.Cut {
				text += " cut"
			}
			text += "\n"
		}
		return err
	})
	return text
}

// A ledgerView is where the money is.
type ledgerView struct{ wallet, held, float, deposit int64 }

func (h *house) money() (v ledgerView) {
	h.t.Helper()
	h.do(func(tx *db.Tx) error {
		w, err := ledger.BalanceOf(tx, wallet.Account(lin))
		if v.wallet, v.held = w.Posted.Minor(), w.Held.Minor(); err != nil || h.card == "" {
			return err
		}
		c, err := issuing.Get(tx, h.card)
		if err != nil || !c.Kind.Money() {
			return err
		}
		f, err := ledger.BalanceOf(tx, issuing.Float(h.card))
		if v.float = f.Posted.Minor(); err != nil || c.Deposit.IsZero() {
			return err
		}
		d, err := ledger.BalanceOf(tx, issuing.DepositAccount(h.card))
		v.deposit = d.Posted.Minor()
		return err
	})
	return v
}

// sound checks what must hold whenever no order is open: no fen lost or made,
// nothing held, and the card holds exactly what the books say it holds.
func (h *house) sound() {
	h.t.Helper()
	v := h.money()
	if v.wallet+v.float+v.deposit != funds || v.held != 0 {
		h.t.Errorf("money: %+v, sum must be %d and nothing held", v, funds)
	}
	if on, there := h.band.balance(); there && on != v.float || !there && v.float != 0 {
		h.t.Errorf("the card holds %d (there: %v), the books say %d", on, there, v.float)
	}
}

// A band is an element with an agent and the faults of a wireless life.
type band struct {
	t       tester
	tsm     *tsm.Manager
	id      string
	element *card.Element
	sent    int // commands that reached the element

	cutBefore int  // the n-th command from now never arrives; 0 none
	mute      bool // the next report is lost
	twice     bool // every report arrives twice
	rerun     int  // the n-th script from now is run again after its report; 0 none
}

func newBand(t tester, m *tsm.Manager, id string, serial byte) *band {
	t.Helper()
	e, err := elements.NewElement([7]byte{4, 0, 0, 0, 0, 0, serial}, clock.Random(uint64(serial)))
	if err != nil {
		t.Fatal(err)
	}
	return &band{t: t, tsm: m, id: id, element: e}
}

// work runs scripts until there are none, or rounds of them if rounds > 0.
func (b *band) work(rounds int) {
	b.t.Helper()
	for n := 0; rounds == 0 || n < rounds; n++ {
		if n > 60 {
			b.t.Fatal("the manager keeps sending scripts")
		}
		s, err := b.tsm.Next(ctx, b.id)
		if err != nil {
			b.t.Fatal(err)
		}
		if s.Done {
			return
		}
		b.run(s)
	}
}

// run carries a script out and reports.
func (b *band) run(s tsm.Script) {
	b.t.Helper()
	answers, cut := b.transmit(s)
	if b.mute {
		b.mute = false
		return
	}
	b.report(s, answers, cut)
	if b.twice {
		b.report(s, answers, cut)
	}
	if b.rerun > 0 {
		if b.rerun--; b.rerun == 0 {
			again, cut := b.transmit(s)
			b.report(s, again, cut)
		}
	}
}

func (b *band) report(s tsm.Script, answers [][]byte, cut bool) {
	b.t.Helper()
	if err := b.tsm.Report(ctx, b.id, s.ID, answers, cut); err != nil {
		b.t.Fatal(err)
	}
}

func (b *band) transmit(s tsm.Script) (answers [][]byte, cut bool) {
	b.t.Helper()
	for !b.element.Powered() {
		_ = b.element.PowerOn(card.Contact) // a cut may hit the recovery: again
	}
	for _, c := range s.Steps {
		if b.cutBefore > 0 {
			if b.cutBefore--; b.cutBefore == 0 {
				b.element.PowerOff()
				return answers, true
			}
		}
		b.sent++
		raw, err := b.element.TransmitRaw(c.APDU)
		if err != nil {
			return answers, true
		}
		answers = append(answers, raw)
		r, err := iso7816.ParseResponse(raw)
		if err != nil {
			b.t.Fatal(err)
		}
		if !expected(c, r.SW) {
			return answers, false
		}
	}
	return answers, false
}

func expected(c tsm.Command, sw iso7816.SW) bool {
	for _, e := range c.Expect {
		if e == sw {
			return true
		}
	}
	return false
}

// ask sends one plain command, as a reader in somebody's hand would.
func (b *band) ask(c iso7816.Command) iso7816.Response {
	b.t.Helper()
	for !b.element.Powered() {
		_ = b.element.PowerOn(card.Contact)
	}
	r, err := b.element.Transmit(c)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// balance is what the purse in the element says it holds.
func (b *band) balance() (fen int64, there bool) {
	b.t.Helper()
	switch r := b.ask(iso7816.Select(purse.AIDTUnion)); r.SW {
	case iso7816.SWFileNotFound:
		return 0, false
	case iso7816.SWSelectedBlocked:
		b.t.Fatal("asked a blocked purse for its balance")
	}
	r := b.ask(purse.GetBalance{Purse: purse.EP}.Command())
	n, err := purse.ParseBalance(r.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	return int64(n), true
}
