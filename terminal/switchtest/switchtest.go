// Package switchtest is what tests of terminals share that speak to the real
// switch: an acquirer with the house's own bank behind it, one cardholder with a
// wallet, one shop, and a line that loses messages when it is told to.
package switchtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"koala/customer"
	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/internal/proposal"
	"koala/issuing"
	"koala/ledger"
	"koala/settlement"
	"koala/spec/emv"
	"koala/switching"
	"koala/switching/pack"
	"koala/switching/route"
	"koala/wallet"
)

// The one shop with its number as the acquirer knows it, and who has the cards.
const (
	MID    = "898110058120001"
	Shop   = "shop_1"
	Holder = customer.ID("cust_lin")
)

// The roots of the cards' keys for cryptograms and script MACs.
var (
	RootAC  = [16]byte{0xF0, 0xC3, 0x48, 0x81, 0x24, 0xCE, 0xE0, 0xA9, 0x1A, 0x0B, 0x03, 0x4A, 0xA9, 0x7D, 0x6E, 0xAC}
	RootMAC = [16]byte{0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE, 0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF}
)

// An Estate has every terminal in the one shop.
type Estate struct{}

// Place is the shop.
func (Estate) Place(_ db.Reader, tid string) (switching.Place, error) {
	return switching.Place{TID: tid, MID: MID, Shop: Shop, Name: "NOODLES", Category: "5812", Open: true, Tips: 20}, nil
}

// SignedOn takes note of nothing.
func (Estate) SignedOn(*db.Tx, string, string) error { return nil }

// A Bank is the acquirer's switch with the house's own bank behind it.
type Bank struct {
	testing.TB
	Store *db.Store
	Book  *ledger.Book
	Keys  *hsm.HSM
	Bank  *issuing.Bank
	Host  *switching.Host
	Now   *clock.Virtual
}

// A Line is the way to a host, in process. Silent is what it says when no answer
// comes; Fault, if it is there, is asked about the N-th message, and about its
// answer as -N.
type Line struct {
	Host   func(ctx context.Context, request []byte) ([]byte, error)
	Silent error
	Fault  func(n int, answer []byte) error
	N      int
}

// Exchange carries a request.
func (l *Line) Exchange(request []byte) ([]byte, error) {
	l.N++
	n := l.N
	if l.Fault != nil {
		if err := l.Fault(n, nil); err != nil {
			return nil, err
		}
	}
	answer, err := l.Host(context.Background(), request)
	if err == nil && answer == nil {
		err = l.Silent
	}
	if err == nil && l.Fault != nil {
		err = l.Fault(-n, answer)
	}
	return answer, err
}

// Open makes a bank with everything that a card payment needs.
func Open(t testing.TB, now time.Time) *Bank {
	t.Helper()
	ctx := context.Background()
	b := &Bank{TB: t, Now: clock.NewVirtual(now)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	b.Store, err = db.Open(ctx, db.Config{URL: filepath.Join(t.TempDir(), "koala.db"), Clock: b.Now, Rand: clock.Random(5), Inline: true, Rebuildable: true})
	must(err)
	book, err := ledger.Open(ctx, b.Store, ledger.Config{Inline: true})
	must(err)
	t.Cleanup(func() { book.Close(); b.Store.Close() })
	b.Book = book
	outbox.Open(b.Store)
	primes, err := os.ReadFile("../../hsm/testdata/primes.txt") // of a package under terminal
	must(err)
	b.Keys, err = hsm.Open(ctx, b.Store, hsm.Config{KeyFile: filepath.Join(t.TempDir(), "key"), Rand: clock.Random(6), Primes: primes})
	must(err)
	_, err1 := b.Keys.Import(ctx, hsm.LabelCardAC, hsm.CardRoot, RootAC[:])
	_, err2 := b.Keys.Import(ctx, hsm.LabelCardMAC, hsm.CardRoot, RootMAC[:])
	_, err3 := b.Keys.Generate(ctx, pack.Label, hsm.Signing)
	must(errors.Join(err1, err2, err3, b.Keys.Provision(ctx), b.Keys.ProvisionBank(ctx),
		b.Store.Migrate(ctx, outbox.Schema, wallet.Schema, settlement.Schema, issuing.Schema, proposal.Schema, switching.Schema)))
	b.Bank = issuing.NewBank(b.Store, b.Keys)
	b.Write(func(tx *db.Tx) error {
		return errors.Join(issuing.Seed(tx), issuing.SeedBank(tx), wallet.Open(tx, Holder), settlement.Join(tx, Shop, "Noodles"), route.Seed(tx))
	})
	b.Host = switching.New(b.Store, b.Keys, b.Bank, Estate{}, switching.Config{Wait: 200 * time.Millisecond})
	must(b.Host.Start(ctx))
	return b
}

// Write is one unit of work.
func (b *Bank) Write(f func(tx *db.Tx) error) {
	b.Helper()
	if err := b.Store.Write(context.Background(), f); err != nil {
		b.Fatal(err)
	}
}

// Sums are the cardholder's account, what is held of it, and the shop's, fen.
func (b *Bank) Sums() (posted, held, payable int64) {
	b.Helper()
	b.Write(func(tx *db.Tx) error {
		x, err1 := ledger.BalanceOf(tx, wallet.Account(Holder))
		y, err2 := ledger.BalanceOf(tx, settlement.Payable(Shop))
		posted, held, payable = x.Posted.Minor(), x.Held.Minor(), y.Posted.Minor()
		return errors.Join(err1, err2)
	})
	return posted, held, payable
}

// Own is a card's own key under a root.
func Own(root [16]byte, k hsm.BankCard) ([16]byte, error) {
	own, err := emv.CardKey(root[:], k.PAN, k.PSN, emv.OptionA)
	if err != nil {
		return [16]byte{}, err
	}
	return [16]byte(own), nil
}

// Proved fails the test unless the books stand and every booked transaction has
// its item.
func (b *Bank) Proved() {
	b.Helper()
	var wrong []string
	err := b.Store.Read(context.Background(), func(q *db.Query) (err error) {
		wrong, err = switching.Prove(q)
		return err
	})
	report, err2 := b.Book.Verify(context.Background())
	if err := errors.Join(err, err2); err != nil || !report.OK() || len(wrong) > 0 {
		b.Errorf("ledger %+v (%v), unproved %q", report, err, wrong)
	}
}
