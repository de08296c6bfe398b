package reconcile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/calendar"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/outbox"
	"koala/ledger"
	"koala/money"
	"koala/reconcile"
	"koala/settlement"
	"koala/settlement/fee"
	"koala/spec/clearing"
	"koala/spec/pan"
)

const (
	host       = "unionpay"
	receivable = ledger.AccountID("receivable.unionpay")
	custody    = ledger.AccountID("bank.custody")
)

// market is a house with settlement as it is, and one foreign host.
func market(t *testing.T, now *clock.Virtual, shops map[string]fee.Category) (*db.Store, *ledger.Book) {
	ctx := context.Background()
	store, err := db.Open(ctx, db.Config{URL: dbtest.File(t), Clock: now, Inline: true, Rebuildable: true})
	if err != nil {
		t.Fatal(err)
	}
	book, err := ledger.Open(ctx, store, ledger.Config{Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { book.Close(); store.Close() })
	if err := store.Migrate(ctx, outbox.Schema, settlement.Schema, reconcile.Schema); err != nil {
		t.Fatal(err)
	}
	err = store.Write(ctx, func(tx *db.Tx) error {
		for _, a := range []ledger.Account{{ID: custody, Code: "1010", Name: "custody bank (simulated)", Currency: money.CNY},
			{ID: receivable, Code: "1030", Name: "owed by the network", Currency: money.CNY}} {
			if err := ledger.OpenAccount(tx, a); err != nil {
				return err
			}
		}
		for id, c := range shops {
			err := errors.Join(settlement.Join(tx, id, id), settlement.SetTerms(tx, settlement.Terms{Payee: id, Since: calendar.Of(now.Now(), calendar.Beijing), Category: c, CutOff: settlement.ShopCutOff}))
			if err != nil {
				return err
			}
		}
		return errors.Join(settlement.OpenHouse(tx), settlement.OpenIssuer(tx, host, "issuers behind the network"),
			reconcile.Join(tx, reconcile.Host{Name: host, Receivable: receivable, Fees: settlement.IssuerAccount(host), Network: settlement.Network, Bank: custody, DueDays: 1}),
			reconcile.Join(tx, reconcile.Host{Name: reconcile.BankDesk, Bank: custody}))
	})
	if err != nil {
		t.Fatal(err)
	}
	return store, book
}

// TestDayOfShops: what the switch books, settlement prices and pays, the host
// clears and the bank receives adds up: nothing is left with host, network or
// issuers, and the bank has the acquirer's part of the fees, to the fen.
func TestDayOfShops(t *testing.T) {
	shops := map[string]fee.Category{"wok": fee.Dining, "mart": fee.Living, "cars": fee.Property, "store": fee.General}
	for _, day := range []calendar.Date{{Year: 2015, Month: time.September, Day: 16}, {Year: 2016, Month: time.September, Day: 7}} {
		ctx, now := context.Background(), clock.NewVirtual(day.Start(calendar.Beijing).Add(9*time.Hour))
		store, book := market(t, now, shops)
		var records []clearing.Record
		var ours []reconcile.Item
		draw := rapid.Custom(func(t *rapid.T) settlement.Item {
			return settlement.Item{Payee: rapid.SampledFrom([]string{"wok", "mart", "cars", "store"}).Draw(t, "shop"), Amount: money.Fen(rapid.Int64Range(1, 2_000_000).Draw(t, "fen")),
				Kind: "sale", Card: rapid.SampledFrom([]fee.Class{fee.Debit, fee.Credit}).Draw(t, "card"), Issuer: host, At: now.Now()}
		})
		err := store.Write(ctx, func(tx *db.Tx) error {
			for i := range 120 {
				x := draw.Example(i)
				x.Ref = fmt.Sprintf("sale:%012d", i)
				if _, err := ledger.Post(tx, ledger.Move(x.Ref, receivable, settlement.Payable(x.Payee), x.Amount)); err != nil {
					return err
				}
				if err := settlement.Capture(tx, x); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		err = store.Read(ctx, func(q *db.Query) error {
			for shop := range shops {
				items, err := settlement.ItemsOn(q, shop, day, 0, 500)
				if err != nil {
					return err
				}
				for _, x := range items {
					rrn := x.Ref[len("sale:"):]
					ours = append(ours, reconcile.Item{RRN: rrn, Kind: reconcile.Sale, State: reconcile.Cleared, Fen: x.Amount.Minor(), Fee: x.Fee.Issuer, Network: x.Fee.Network, At: x.At, Payee: shop})
					records = append(records, line(t, rrn, day, x))
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var file []byte
		for _, r := range records {
			if file, err = r.Append(file); err != nil {
				t.Fatal(err)
			}
			file = append(file, '\n')
		}
		r, err := reconcile.Run(ctx, store, reconcile.Day{Host: host, Day: day, Ours: reconcile.List(ours), File: bytes.NewReader(file)})
		if err != nil || r.Matched.Count != 120 || r.Differs != 0 {
			t.Fatalf("%v %+v", err, r)
		}
		settle(t, store, now, day, r)
		left := func(id ledger.AccountID) int64 {
			b, err := book.Balance(id)
			if err != nil {
				t.Fatal(err)
			}
			return b.Posted.Minor()
		}
		for _, id := range []ledger.AccountID{receivable, settlement.Network, settlement.IssuerAccount(host), reconcile.Suspense(host), reconcile.Suspense(reconcile.BankDesk),
			settlement.Payable("wok"), settlement.Payable("cars")} {
			if left(id) != 0 {
				t.Errorf("%s: %s has %d", day, id, left(id))
			}
		}
		if left(settlement.Acquirer) <= 0 || left(custody) != -left(settlement.Acquirer) {
			t.Errorf("%s: the bank has %d, the acquirer earned %d", day, -left(custody), left(settlement.Acquirer))
		}
	}
}

// line is a sale in the host's file.
func line(t *testing.T, rrn string, day calendar.Date, x settlement.Priced) clearing.Record {
	card, err := pan.Complete("622588212100000")
	if err != nil {
		t.Fatal(err)
	}
	return clearing.Record{Agent: "48021000", Sender: "00010000", Trace: rrn[6:], Sent: fmt.Sprintf("%02d%02d090000", day.Month, day.Day), PAN: card, Amount: x.Amount.Minor(),
		MTI: "0200", Processing: "000000", MCC: "5812", Terminal: "10000001", Merchant: "898110058120001", RRN: rrn, Condition: "00", Response: "00",
		Payable: x.Fee.Issuer, SwitchFee: x.Fee.Network}
}

// settle pays the shops and lets the bank say what it did.
func settle(t *testing.T, store *db.Store, now *clock.Virtual, day calendar.Date, r reconcile.Report) {
	t.Helper()
	ctx := context.Background()
	now.Set(day.AddDays(1).Start(calendar.Beijing).Add(settlement.CutOff))
	if _, err := settlement.Run(ctx, store, day); err != nil {
		t.Fatal(err)
	}
	s := reconcile.Statement{Account: "1010", From: day, To: day.AddDays(1)}
	add := func(fen int64, reference string) {
		s.Lines = append(s.Lines, reconcile.StatementLine{Ref: fmt.Sprint(len(s.Lines)), Booked: now.Now(), Fen: fen, Reference: reference})
	}
	add(r.Net(), "clearing "+host+" "+day.String())
	err := store.Write(ctx, func(tx *db.Tx) error {
		all, err := settlement.Payouts(tx, "", "", 100)
		for _, p := range all {
			add(-p.Amount.Minor(), "payout "+p.ID)
			err = errors.Join(err, reconcile.Expect(tx, reconcile.Payout{ID: p.ID, Payee: p.Payee, Fen: p.Amount.Minor(), Day: p.Day}))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err = reconcile.ParseStatement(reconcile.AppendStatement(nil, s))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := reconcile.Import(ctx, store, s, "statement.csv"); err != nil || n != len(s.Lines) {
		t.Fatalf("%d lines: %v", n, err)
	}
}
