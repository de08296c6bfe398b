package reader_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"koala/card"
	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/spec/dukpt"
	"koala/spec/pboc"
	"koala/switching"
	"koala/terminal/switchtest"
	"koala/terminal/unionpay"
	"koala/wallet"
)

var ctx = context.Background()

const (
	shopID = switchtest.Shop
	holder = switchtest.Holder
)

// A bank is the acquirer's switch with the house's own bank behind it.
type bank struct {
	*switchtest.Bank
	switchtest.Line
}

func openBank(t testing.TB) *bank {
	t.Helper()
	b := &bank{Bank: switchtest.Open(t, noon)}
	b.Line = switchtest.Line{Host: b.Bank.Host.Handle, Silent: errSilent}
	return b
}

// install makes a stall whose reader the switch has installed.
func (b *bank) install(t testing.TB) *stall {
	t.Helper()
	form, sealed, err := b.Keys.NewTransport(ctx, tid)
	if err != nil {
		t.Fatal(err)
	}
	in := must(b.Bank.Host.InstallReader(ctx, tid, ksn, sealed))
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
	b.Write(func(tx *db.Tx) error {
		_, err := wallet.Fund(tx, "start", holder, money.Fen(1000_00))
		return err
	})
	n := must(b.Bank.Bank.Number(ctx, issuing.DebitCard))
	var c issuing.Card
	b.Write(func(tx *db.Tx) (err error) {
		if c, err = issuing.Open(tx, issuing.Application{Ref: "one", Customer: holder, Band: "band_1", Product: issuing.DebitCard, PAN: &n}); err == nil {
			err = errors.Join(issuing.Begin(tx, c.ID), issuing.Activate(tx, c.ID, issuing.Counters{Balance: money.Fen(0), At: tx.Now(), By: "test"}))
		}
		return err
	})
	k := must(b.Bank.Bank.Keys(ctx, c.ID))
	if err := b.Bank.Bank.SetPIN(ctx, c.ID, must(b.Keys.EncipherPIN(ctx, k.PAN, "123456"))); err != nil {
		t.Fatal(err)
	}
	e := chip(t, func(x *pboc.Card) {
		x.PAN, x.PSN, x.AC, x.MAC, x.Balance = k.PAN, k.PSN, must(switchtest.Own(switchtest.RootAC, k)), must(switchtest.Own(switchtest.RootMAC, k)), 0
	})
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
	if posted, held, payable := b.Sums(); posted != 1000_00 || held != 100_00 || payable != 0 {
		t.Errorf("holder %d, held %d, shop %d", posted, held, payable)
	}
	s.next = swipe
	for i := range 8 { // every message about a sale is lost in turn, both ways
		lost := b.N + 1 + i/2
		b.Fault = func(n int, _ []byte) error {
			if n == lost && i%2 == 0 || n == -lost && i%2 == 1 {
				return errSilent
			}
			return nil
		}
		_, _ = s.phone.Sell(unionpay.Order{Kind: unionpay.Sale, Fen: 1_00})
		if b.Fault = nil; s.phone.Ready() != nil {
			t.Fatal("not ready")
		}
		if _, held, _ := b.Sums(); held != s.phone.Totals().Net() {
			t.Fatalf("message %d: %d is held for %d", i, held, s.phone.Totals().Net())
		}
	}
	net := s.phone.Totals().Net()
	if x, err := s.phone.Settle(); err != nil || !x.Balanced {
		t.Fatalf("%+v %v", x, err)
	}
	if posted, held, payable := b.Sums(); posted != 1000_00-net || held != 0 || payable != net {
		t.Errorf("settled: holder %d, held %d, shop %d", posted, held, payable)
	}
	first, ok := "", false
	if err := b.Store.Read(ctx, func(q *db.Query) error {
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
		lost := b.N + 1 + i/2
		b.Fault = func(n int, _ []byte) error {
			if n == lost && i%2 == 0 || n == -lost && i%2 == 1 {
				return errSilent
			}
			return nil
		}
		_, _ = s.phone.Refund(first, 3_00)
		if b.Fault = nil; s.phone.Ready() != nil {
			t.Fatal("not ready")
		}
		back = -s.phone.Totals().Net()
		if posted, _, payable := b.Sums(); posted != 1000_00-net+back || payable != net-back {
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
	if posted, held, payable := b.Sums(); posted != 1000_00-net+back || held != 0 || payable != net-back {
		t.Errorf("at the end: holder %d, held %d, shop %d", posted, held, payable)
	}
}
