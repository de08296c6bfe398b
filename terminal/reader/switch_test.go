package reader_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"koala/card"
	"koala/customer"
	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/spec/dukpt"
	"koala/spec/emv"
	"koala/spec/pboc"
	"koala/switching"
	"koala/terminal/unionpay"
	"koala/wallet"
)

var (
	ctx     = context.Background()
	rootAC  = [16]byte{0xF0, 0xC3, 0x48, 0x81, 0x24, 0xCE, 0xE0, 0xA9, 0x1A, 0x0B, 0x03, 0x4A, 0xA9, 0x7D, 0x6E, 0xAC}
	rootMAC = [16]byte{0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE, 0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF}
)

const (
	shopID = "shop_1"
	holder = customer.ID("cust_lin")
)

// estate has every terminal in one shop.
type estate struct{}

func (estate) Place(_ db.Reader, tid string) (switching.Place, error) {
	return switching.Place{TID: tid, MID: mid, Shop: shopID, Name: "NOODLES", Category: "5812", Open: true, Tips: 20}, nil
}

func (estate) SignedOn(*db.Tx, string) error { return nil }

// A bank is the acquirer's switch with the house's own bank behind it.
type bank struct {
	t     testing.TB
	store *db.Store
	keys  *hsm.HSM
	bank  *issuing.Bank
	host  *switching.Host
	fault func(n int, answer []byte) error // of the n-th message, negative on its way back
	n     int
}

// Exchange is the line, in process.
func (b *bank) Exchange(request []byte) ([]byte, error) {
	b.n++
	n := b.n
	if b.fault != nil {
		if err := b.fault(n, nil); err != nil {
			return nil, err
		}
	}
	answer, err := b.host.Handle(ctx, request)
	if err == nil && answer == nil {
		err = errSilent
	}
	if err == nil && b.fault != nil {
		err = b.fault(-n, answer)
	}
	return answer, err
}

func openBank(t testing.TB) *bank {
	t.Helper()
	b := &bank{t: t}
	now := clock.NewVirtual(noon)
	var err error
	if b.store, err = db.Open(ctx, db.Config{URL: filepath.Join(t.TempDir(), "koala.db"), Clock: now, Rand: clock.Random(5), Inline: true, Rebuildable: true}); err != nil {
		t.Fatal(err)
	}
	book := must(ledger.Open(ctx, b.store, ledger.Config{Inline: true}))
	t.Cleanup(func() { book.Close(); b.store.Close() })
	outbox.Open(b.store)
	primes := must(os.ReadFile("../../hsm/testdata/primes.txt"))
	b.keys = must(hsm.Open(ctx, b.store, hsm.Config{KeyFile: filepath.Join(t.TempDir(), "key"), Rand: clock.Random(6), Primes: primes}))
	_, err1 := b.keys.Import(ctx, hsm.LabelCardAC, hsm.CardRoot, rootAC[:])
	_, err2 := b.keys.Import(ctx, hsm.LabelCardMAC, hsm.CardRoot, rootMAC[:])
	if err := errors.Join(err1, err2, b.keys.Provision(ctx), b.keys.ProvisionBank(ctx),
		b.store.Migrate(ctx, outbox.Schema, wallet.Schema, settlement.Schema, issuing.Schema, switching.Schema)); err != nil {
		t.Fatal(err)
	}
	b.bank = issuing.NewBank(b.store, b.keys)
	b.write(func(tx *db.Tx) error {
		err := errors.Join(issuing.Seed(tx), issuing.SeedBank(tx), wallet.Open(tx, holder), settlement.Join(tx, shopID, "Noodles"), switching.SeedRoutes(tx))
		return err
	})
	b.host = switching.New(b.store, b.keys, b.bank, estate{}, switching.Config{Wait: 200 * time.Millisecond})
	if err := b.host.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bank) write(f func(tx *db.Tx) error) {
	b.t.Helper()
	if err := b.store.Write(ctx, f); err != nil {
		b.t.Fatal(err)
	}
}

// sums are the cardholder's account, what is held of it, and the shop's.
func (b *bank) sums() (posted, held, payable int64) {
	b.t.Helper()
	b.write(func(tx *db.Tx) error {
		x, err1 := ledger.BalanceOf(tx, wallet.Account(holder))
		y, err2 := ledger.BalanceOf(tx, settlement.Payable(shopID))
		posted, held, payable = x.Posted.Minor(), x.Held.Minor(), y.Posted.Minor()
		return errors.Join(err1, err2)
	})
	return posted, held, payable
}

// install makes a stall whose reader the switch has installed.
func (b *bank) install(t testing.TB) *stall {
	t.Helper()
	form, sealed, err := b.keys.NewTransport(ctx, tid)
	if err != nil {
		t.Fatal(err)
	}
	in := must(b.host.InstallReader(ctx, tid, ksn, sealed))
	initial, _, err := hsm.OpenInjected(hsm.TerminalKey{Use: hsm.ReaderInitial, TID: tid}, must(form.Key()), in.Block)
	if err != nil {
		t.Fatal(err)
	}
	s := newStall(t)
	if err := s.reader.Inject(dukpt.Key(initial), ksn); err != nil {
		t.Fatal(err)
	}
	s.app.Line = b
	s.bootPhone()
	return s
}

// The switch opens what the reader sealed, holds the money on the house's bank
// and settles it to the shop.
func TestSwitch(t *testing.T) {
	b := openBank(t)
	s := b.install(t)
	b.write(func(tx *db.Tx) error {
		_, err := wallet.Fund(tx, "start", holder, money.Fen(1000_00))
		return err
	})
	n := must(b.bank.Number(ctx, issuing.DebitCard))
	var c issuing.Card
	b.write(func(tx *db.Tx) (err error) {
		if c, err = issuing.Open(tx, issuing.Application{Ref: "one", Customer: holder, Band: "band_1", Product: issuing.DebitCard, PAN: &n}); err == nil {
			err = errors.Join(issuing.Begin(tx, c.ID), issuing.Activate(tx, c.ID, issuing.Counters{Balance: money.Fen(0), At: tx.Now(), By: "test"}))
		}
		return err
	})
	k := must(b.bank.Keys(ctx, c.ID))
	if err := b.bank.SetPIN(ctx, c.ID, must(b.keys.EncipherPIN(ctx, k.PAN, "123456"))); err != nil {
		t.Fatal(err)
	}
	own := func(root [16]byte) [16]byte { return [16]byte(must(emv.CardKey(root[:], k.PAN, k.PSN, emv.OptionA))) }
	e := chip(t, func(x *pboc.Card) { x.PAN, x.PSN, x.AC, x.MAC, x.Balance = k.PAN, k.PSN, own(rootAC), own(rootMAC), 0 })
	s.pin = "123456"
	s.next.Track2 = fmt.Sprintf("%sD%s101000000000", k.PAN, c.To.AddDate(0, 0, -1).Add(8*time.Hour).Format("0601"))
	swipe := s.next
	if r := s.sell(100_00); !r.Approved {
		t.Fatalf("swipe: %s", r.Words(false))
	}
	s.present(e, card.Contact)
	second := s.sell(50_00)
	if e.PowerOff(); !second.Approved {
		t.Fatalf("chip: %s", second.Words(false))
	}
	s.present(e, card.Contactless)
	v, err := s.phone.Void(second.STAN)
	if e.PowerOff(); err != nil || !v.Approved {
		t.Fatalf("void: %v %v", v, err)
	}
	if posted, held, payable := b.sums(); posted != 1000_00 || held != 100_00 || payable != 0 {
		t.Errorf("holder %d, held %d, shop %d", posted, held, payable)
	}
	s.next = swipe
	for i := range 8 { // every message about a sale is lost in turn, both ways
		lost := b.n + 1 + i/2
		b.fault = func(n int, _ []byte) error {
			if n == lost && i%2 == 0 || n == -lost && i%2 == 1 {
				return errSilent
			}
			return nil
		}
		_, _ = s.phone.Sell(unionpay.Order{Kind: unionpay.Sale, Fen: 1_00})
		if b.fault = nil; s.phone.Ready() != nil {
			t.Fatal("not ready")
		}
		if _, held, _ := b.sums(); held != s.phone.Totals().Net() {
			t.Fatalf("message %d: %d is held for %d", i, held, s.phone.Totals().Net())
		}
	}
	net := s.phone.Totals().Net()
	if x, err := s.phone.Settle(); err != nil || !x.Balanced {
		t.Fatalf("%+v %v", x, err)
	}
	if posted, held, payable := b.sums(); posted != 1000_00-net || held != 0 || payable != net {
		t.Errorf("settled: holder %d, held %d, shop %d", posted, held, payable)
	}
	first, ok := "", false
	if err := b.store.Read(ctx, func(q *db.Query) error {
		list, err := switching.Live(q, switching.Filter{TID: tid, Limit: 100})
		for _, x := range list {
			if x.Kind == "sale" && x.Amount.Minor() == 100_00 {
				first, ok = x.RRN, true
			}
		}
		return err
	}); err != nil || !ok {
		t.Fatal("the first sale is not there", err)
	}
	if err := s.phone.Ready(); err != nil {
		t.Fatal(err)
	}
	back := int64(0)
	for i := range 4 { // a refund that is lost on either way is booked once or not at all, on both sides
		lost := b.n + 1 + i/2
		b.fault = func(n int, _ []byte) error {
			if n == lost && i%2 == 0 || n == -lost && i%2 == 1 {
				return errSilent
			}
			return nil
		}
		_, _ = s.phone.Refund(first, 3_00)
		if b.fault = nil; s.phone.Ready() != nil {
			t.Fatal("not ready")
		}
		back = -s.phone.Totals().Net()
		if posted, _, payable := b.sums(); posted != 1000_00-net+back || payable != net-back {
			t.Fatalf("refund %d: holder %d, shop %d for %d", i, posted, payable, back)
		}
	}
	if r, err := s.phone.Refund(first, 4_00); err != nil || !r.Approved {
		t.Fatalf("refund: %s, %v", r.Code, err)
	}
	if back += 4_00; back <= 4_00 {
		t.Error("no refund came through a bad line")
	}
	if r, err := s.phone.Refund(first, 100_00); err != nil || r.Code != "64" {
		t.Errorf("more than is left: %s, %v", r.Code, err)
	}
	if x, err := s.phone.Settle(); err != nil || !x.Balanced {
		t.Fatalf("%+v %v", x, err)
	}
	if posted, held, payable := b.sums(); posted != 1000_00-net+back || held != 0 || payable != net-back {
		t.Errorf("at the end: holder %d, held %d, shop %d", posted, held, payable)
	}
}
