package app_test

import (
	"context"
	"errors"
	"html"
	"strings"
	"testing"
	"time"

	"koala/calendar"
	"koala/customer"
	"koala/dispute"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/merchant"
	"koala/money"
	"koala/reconcile"
	"koala/risk"
	"koala/settlement"
	"koala/switching"
	"koala/tsm"
	"koala/wallet"
)

func (o *office) write(f func(tx *db.Tx) error) error { return o.h.Store.Write(ctx, f) }

func (o *office) giveBack(t switching.Txn, key string, fen int64) error {
	_, err := o.h.Switch.GiveBack(ctx, switching.GiveBack{RRN: t.RRN, Shop: t.Shop, Amount: money.Fen(fen), Key: key})
	return err
}

func (o *office) claims(t switching.Txn, ref string, fen int64) (c dispute.Case, err error) {
	err = o.write(func(tx *db.Tx) (err error) {
		c, err = dispute.Open(tx, dispute.Claim{Ref: ref, Amount: money.Fen(fen), Reason: "4515", Money: true, At: tx.Now(), Why: "not mine",
			Sale: dispute.Sale{RRN: t.RRN, Payee: t.Shop, Counter: ledger.AccountID(switching.Receivable(t.Host)), Issuer: t.Host, Class: t.Class, Amount: t.Due, At: t.At}})
		return err
	})
	return c, err
}

// TestSaleIsGivenBackOnce: refunds and disputes of one sale never give back more
// than it was, in whatever order they come.
func TestSaleIsGivenBackOnce(t *testing.T) {
	o := openOffice(t)
	a, b := o.sell("jialian.1", 1, 100_00), o.sell("jialian.1", 2, 50_00)
	if _, done, err := o.m.Settle(ctx, "jialian.1"); err != nil || !done {
		t.Fatal("not settled", err)
	}
	has := func(what string, want int64) {
		t.Helper()
		o.read(func(q *db.Query) error {
			open, err := settlement.Open(q)
			for _, p := range open {
				if p.Payee == a.Shop && p.Amount.Minor() != want {
					t.Errorf("%s: the shop is owed %v, want %d", what, p.Amount, want)
				}
			}
			return err
		})
	}
	c, err := o.claims(a, "N1", 60_00)
	o.must(err)
	if err := o.giveBack(a, "a", 40_01); !errors.Is(err, switching.ErrTooMuch) {
		t.Errorf("40.01 refunded of 40.00: %v", err)
	}
	o.must(o.giveBack(a, "b", 30_00))
	has("60.00 charged back, 30.00 refunded", 60_00)
	o.must(o.write(func(tx *db.Tx) error { _, err := dispute.Accept(tx, c.ID, "shop", "we owe it"); return err }))
	if _, err := o.claims(a, "N2", 10_01); !errors.Is(err, dispute.ErrClaim) {
		t.Errorf("a second case of 10.01 on 10.00: %v", err)
	}
	_, err = o.claims(a, "N3", 10_00)
	o.must(err)
	o.must(o.giveBack(b, "c", 50_00))
	if _, err := o.claims(b, "N4", 1); !errors.Is(err, dispute.ErrClaim) {
		t.Errorf("a case about what was refunded: %v", err)
	}
	has("all given back", 0)
	if p, err := o.h.Verify(context.Background()); err != nil || !p.OK {
		t.Errorf("%v %v", err, p.Problems)
	}
}

// nextMorning lets the switch clear the day shortly before the cut-off, and
// settlement pay it out.
func (o *office) nextMorning() calendar.Date {
	o.Helper()
	day := calendar.Of(o.clock.Now(), calendar.Beijing)
	o.clock.Set(day.Start(calendar.Beijing).Add(23*time.Hour - 3*time.Minute))
	o.must(o.h.Tick(ctx))
	o.clock.Set(day.AddDays(1).Start(calendar.Beijing).Add(6 * time.Hour))
	o.must(o.h.Tick(ctx))
	return day
}

// TestAgentsEarnWithEachClosing: a till that is never settled is paid with its
// own day, the agents of the shop are given their parts of what the house keeps,
// once, and give them back when the sale is refunded.
func TestAgentsEarnWithEachClosing(t *testing.T) {
	o := openOffice(t)
	sale := o.sell("jialian.1", 1, 1000_00)
	month := calendar.MonthOf(o.clock.Now())
	o.must(o.write(func(tx *db.Tx) error {
		s, err := merchant.ShopOf(tx, sale.Shop)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`UPDATE merchant_party SET agent = 'wang' WHERE id = $1`, s.Merchant)
		since := calendar.Of(tx.Now(), calendar.Beijing).AddDays(-1)
		return errors.Join(err, merchant.AddAgent(tx, merchant.Agent{ID: "north", Name: "north"}), merchant.AddAgent(tx, merchant.Agent{ID: "wang", Name: "wang", Over: "north"}),
			merchant.SetRate(tx, "north", since, 1_000), merchant.SetRate(tx, "wang", since, 5_000))
	}))
	day := o.nextMorning()
	var paid settlement.Payout
	dues := func() map[string]int64 {
		out := map[string]int64{}
		o.read(func(q *db.Query) error {
			list, err := settlement.Payouts(q, sale.Shop, "", 10)
			paid = list[len(list)-1]
			all, err2 := merchant.DuesOf(q, month)
			for _, d := range all {
				out[d.Agent] = d.Amount.Minor()
				lines, err := merchant.Statement(q, d.Agent, month, "", 100)
				sum := int64(0)
				for _, l := range lines {
					sum += l.Amount.Minor()
				}
				if err != nil || sum != d.Amount.Minor() || int64(len(lines)) != d.Count {
					t.Errorf("%s is due %v in %d, its statement has %d in %d: %v", d.Agent, d.Amount, d.Count, sum, len(lines), err)
				}
			}
			return errors.Join(err, err2)
		})
		return out
	}
	first := dues()
	kept := paid.Fee.Acquirer
	if paid.Day != day || paid.Gross.Minor() != 1000_00 || kept == 0 {
		t.Fatalf("%+v", paid)
	}
	if w := first["wang"] - kept/2; w < 0 || w > 1 || first["north"] < kept/10 || first["north"] > kept/10+1 {
		t.Errorf("of %d: %v", kept, first)
	}
	o.must(o.h.Tick(ctx))
	if again := dues(); again["wang"] != first["wang"] {
		t.Errorf("another tick: %v", again)
	}
	o.must(o.giveBack(sale, "a", 300_00))
	o.must(o.giveBack(sale, "b", 700_00))
	o.nextMorning()
	if last := dues(); last["wang"] != 0 || last["north"] != 0 {
		t.Errorf("all refunded, agents keep %v", last)
	}
	green(t, o.h)
}

// TestAgentsGiveBackWhatDisputesTake: while a dispute takes part of a sale, the
// agents of its shop have no commission of that part, whether the sale has been
// closed yet or not; they have it again when the shop wins.
func TestAgentsGiveBackWhatDisputesTake(t *testing.T) {
	o := openOffice(t)
	sale, next := o.sell("jialian.1", 1, 1000_00), o.sell("jialian.1", 2, 500_00)
	o.must(o.write(func(tx *db.Tx) error {
		s, err := merchant.ShopOf(tx, sale.Shop)
		if err != nil {
			return err
		}
		_, err = tx.Exec(`UPDATE merchant_party SET agent = 'wang' WHERE id = $1`, s.Merchant)
		return errors.Join(err, merchant.AddAgent(tx, merchant.Agent{ID: "wang", Name: "wang"}), merchant.SetRate(tx, "wang", calendar.Of(tx.Now(), calendar.Beijing).AddDays(-1), 5_000))
	}))
	has := func() (fen int64) {
		t.Helper()
		o.must(o.write(func(tx *db.Tx) error {
			b, err := ledger.BalanceOf(tx, settlement.Payable(merchant.Payee("wang")))
			fen = b.Posted.Minor()
			return err
		}))
		return fen
	}
	if _, done, err := o.m.Settle(ctx, "jialian.1"); err != nil || !done {
		t.Fatal("not settled", err)
	}
	early, err := o.claims(next, "N1", 500_00) // before the day is closed
	o.must(err)
	o.nextMorning()
	whole := has()
	if whole == 0 {
		t.Fatal("the agent was given nothing")
	}
	c, err := o.claims(sale, "N2", 400_00)
	o.must(err)
	if part := has(); part*1000 < whole*600-1000 || part*1000 > whole*600+1000 {
		t.Errorf("of %d the agent keeps %d when four tenths are taken", whole, part)
	}
	o.must(o.giveBack(sale, "a", 600_00))
	o.nextMorning()
	if left := has(); left != 0 {
		t.Errorf("taken and refunded, the agent keeps %d", left)
	}
	o.must(o.write(func(tx *db.Tx) error { _, err := dispute.Withdraw(tx, c.ID, "found it"); return err }))
	if part := has(); part*1000 < whole*400-1000 || part*1000 > whole*400+1000 {
		t.Errorf("of %d the agent has %d again when four tenths come back", whole, part)
	}
	o.must(o.write(func(tx *db.Tx) error { _, err := dispute.Withdraw(tx, early.ID, "found it too"); return err }))
	if part := has(); part*10 < whole*9-10 || part*10 > whole*9+10 { // 400 and 500 of 1,000
		t.Errorf("of %d of 1,000 the agent has %d of 900", whole, part)
	}
	green(t, o.h)
}

// TestTickGoesOn: a part that fails is named and keeps no other from running.
func TestTickGoesOn(t *testing.T) {
	w := newTown(t, config(t))
	r := w.issue("band-1")
	w.carryOut(r, tsm.TopUp, 100_00)
	w.ride(r, "dongdan", "xidan")
	w.collect()
	w.clock.Advance(24 * time.Hour)
	w.write(func(tx *db.Tx) error {
		_, err := tx.Exec(`ALTER TABLE dispute_case RENAME TO dispute_away`)
		return err
	})
	w.write(func(tx *db.Tx) error {
		_, err := tx.Exec(`ALTER TABLE switching_txn RENAME TO switching_away`)
		return err
	})
	err := w.h.Tick(ctx)
	if err == nil || !strings.Contains(err.Error(), "the switch: ") || !strings.Contains(err.Error(), "the back office: disputes: ") {
		t.Errorf("%v", err)
	}
	if n, fen := w.payouts(settlement.LastDay(w.clock.Now())); n == 0 || fen != 3_00 {
		t.Errorf("%d payouts of %d fen", n, fen)
	}
	w.write(func(tx *db.Tx) error {
		_, err := tx.Exec(`ALTER TABLE dispute_away RENAME TO dispute_case`)
		return err
	})
	w.write(func(tx *db.Tx) error {
		_, err := tx.Exec(`ALTER TABLE switching_away RENAME TO switching_txn`)
		return err
	})
	w.must(w.h.Tick(ctx))
	green(t, w.h)
}

// TestMissedDaysHaveFiles: a house that was down for days makes the payout file
// of each, and pays with the day of the sales.
func TestMissedDaysHaveFiles(t *testing.T) {
	cfg := config(t)
	w := newTown(t, cfg)
	r := w.issue("band-1")
	w.carryOut(r, tsm.TopUp, 100_00)
	w.must(w.h.Tick(ctx)) // the day before has its file
	w.ride(r, "dongdan", "xidan")
	w.collect()
	day := calendar.ServiceDay(w.clock.Now())
	w.h.Close()
	w.clock.Advance(4 * 24 * time.Hour)
	w.h = open(t, cfg)
	w.must(w.h.Tick(ctx))
	w.read(func(q *db.Query) error {
		for n := range 4 {
			if f, err := settlement.FileOf(q, day.AddDays(n)); err != nil || !f.Closed() {
				t.Errorf("day %s has no file: %v", f.Day, err)
			}
		}
		list, err := settlement.Payouts(q, "", "", 10)
		for _, p := range list {
			if p.Day != day || p.Arrives.Before(day.AddDays(4)) {
				t.Errorf("paid on %v, arrives %v", p.Day, p.Arrives)
			}
		}
		return err
	})
	if n, fen := w.payouts(day); n == 0 || fen != 3_00 {
		t.Errorf("%d payouts of %d fen", n, fen)
	}
	green(t, w.h)
}

// TestVerifyComparesDisputesWithTheSwitch: what disputes take of a sale and what
// the switch has of it are proved to be one; either of them damaged is found.
func TestVerifyComparesDisputesWithTheSwitch(t *testing.T) {
	o := openOffice(t)
	a, b := o.sell("jialian.1", 1, 100_00), o.sell("jialian.1", 2, 50_00)
	if _, done, err := o.m.Settle(ctx, "jialian.1"); err != nil || !done {
		t.Fatal("not settled", err)
	}
	_, err := o.claims(a, "N1", 60_00)
	o.must(err)
	o.must(o.giveBack(b, "a", 50_00))
	green(t, o.h)
	for _, x := range []struct{ name, damage, mend, where string }{
		{"a fen less at the switch", `UPDATE switching_txn SET disputed = 5999 WHERE rrn = '` + a.RRN + `'`, `UPDATE switching_txn SET disputed = 6000 WHERE rrn = '` + a.RRN + `'`, "its disputes take 6000 fen, the switch has 5999"},
		{"nothing at the switch", `UPDATE switching_txn SET disputed = 0 WHERE rrn = '` + a.RRN + `'`, `UPDATE switching_txn SET disputed = 6000 WHERE rrn = '` + a.RRN + `'`, "the switch has 0"},
		{"a case of less", `UPDATE dispute_case SET fen = 5000`, `UPDATE dispute_case SET fen = 6000`, "its disputes take 5000 fen"},
		{"a case that took nothing", `UPDATE dispute_case SET moves = 2`, `UPDATE dispute_case SET moves = 1`, "its disputes take 0 fen, the switch has 6000"},
		{"a sale refunded and disputed", `UPDATE switching_txn SET refunded = 4001 WHERE rrn = '` + a.RRN + `'`, `UPDATE switching_txn SET refunded = 0 WHERE rrn = '` + a.RRN + `'`, "are more than"},
	} {
		o.must(o.write(func(tx *db.Tx) error { return changes(tx, x.damage) }))
		found(t, o.h, x.where)
		o.must(o.write(func(tx *db.Tx) error { return changes(tx, x.mend) }))
		green(t, o.h)
	}
}

// TestOldStoreIsCarriedOver opens a store as it was before domains watched each
// other: what disputes take is known to the switch from the start on, agents
// have their parts of old closings on accounts of their own, and another start
// changes nothing.
func TestOldStoreIsCarriedOver(t *testing.T) {
	o := openOffice(t)
	sale, free := o.sell("jialian.1", 1, 1000_00), o.sell("jialian.1", 2, 100_00)
	o.must(o.write(func(tx *db.Tx) error { _, err := tx.Exec(`UPDATE merchant_party SET agent = ''`); return err }))
	o.nextMorning()
	_, err := o.claims(sale, "N1", 600_00)
	o.must(err)
	gone, err := o.claims(free, "N2", 100_00)
	o.must(err)
	o.must(o.write(func(tx *db.Tx) error { _, err := dispute.Withdraw(tx, gone.ID, "found it"); return err }))
	state := func() (disputed map[string]int64, due int64) {
		disputed = map[string]int64{}
		o.read(func(q *db.Query) error {
			list, err := switching.Disputed(q, "", 100)
			for _, x := range list {
				disputed[x.RRN] = x.Disputed.Minor()
			}
			all, err2 := merchant.DuesOf(q, calendar.MonthOf(o.clock.Now()))
			for _, d := range all {
				due += d.Amount.Minor()
			}
			return errors.Join(err, err2)
		})
		return disputed, due
	}
	if taken, due := state(); len(taken) != 1 || taken[sale.RRN] != 600_00 || due != 0 {
		t.Fatalf("%v, agents are due %d", taken, due)
	}
	want := int64(0)
	again := func() {
		t.Helper()
		cfg := o.h.Config
		o.must(o.h.Close())
		o.h = open(t, cfg)
		taken, due := state()
		if want == 0 {
			want = due
		}
		if len(taken) != 1 || taken[sale.RRN] != 600_00 || due != want || due == 0 {
			t.Errorf("carried over: %v, agents are due %d, want %d", taken, due, want)
		}
		green(t, o.h)
	}
	o.clock.Advance(time.Hour)
	o.must(o.write(func(tx *db.Tx) error {
		s, failed := merchant.ShopOf(tx, sale.Shop)
		for _, x := range []string{`UPDATE switching_txn SET disputed = 0`, `DROP TABLE app_carried`, `DELETE FROM db_schema WHERE owner = 'app'`,
			`UPDATE merchant_party SET agent = 'wang' WHERE id = '` + s.Merchant + `'`,
			`INSERT INTO merchant_agent (id, name, over, made) VALUES ('wang', 'wang', '', 1), ('zhang', 'zhang', '', 1)`,
			`INSERT INTO merchant_rate (agent, since, points) VALUES ('wang', '2015-01-01', 5000)`,
			// as it was when agents accrued and were no payees
			`INSERT INTO merchant_accrual (ref, agent, month, shop, fen, at) VALUES ('old:2015-08-01', 'zhang', '2015-08', '` + s.ID + `', 77, 1)`,
			`INSERT INTO merchant_month (month, agent, n, fen) VALUES ('2015-08', 'zhang', 1, 77)`} {
			_, err := tx.Exec(x)
			failed = errors.Join(failed, err)
		}
		return failed
	}))
	again()
	again()
	o.must(o.write(func(tx *db.Tx) error {
		b, err := ledger.BalanceOf(tx, settlement.Payable(merchant.Payee("zhang")))
		if b.Posted.Minor() != 77 {
			t.Errorf("what zhang had accrued is %v in the books", b.Posted)
		}
		return err
	}))
	// A store of in between: the watches were there, the carrying was not.
	o.must(o.write(func(tx *db.Tx) error {
		_, err := tx.Exec(`DELETE FROM app_carried`)
		return err
	}))
	again()
}

// TestHostsDayIsTheHosts: which of a host's days a sale is compared with follows
// from the host's cut-off, whenever the shop's own day ends.
func TestHostsDayIsTheHosts(t *testing.T) {
	o := openOffice(t)
	day := calendar.Of(o.clock.Now(), calendar.Beijing)
	at := func(d time.Duration) { o.clock.Set(day.Start(calendar.Beijing).Add(d)) }
	at(21*time.Hour + 30*time.Minute)
	t1 := o.sell("jialian.1", 1, 10_00)
	at(22*time.Hour + 30*time.Minute)
	o.sell("jialian.1", 2, 20_00)
	o.must(o.write(func(tx *db.Tx) error {
		h, err := reconcile.HostOf(tx, t1.Host)
		h.CutOff = 22 * time.Hour
		return errors.Join(err, reconcile.Join(tx, h))
	}))
	for i, want := range []int64{10_00, 20_00} {
		r, err := o.h.CompareDay(ctx, t1.Host, day.AddDays(i), strings.NewReader(""), "empty")
		if err != nil || r.Ours.Count != 1 || r.Ours.Fen != want {
			t.Errorf("day %d has %d sales of %d fen, want one of %d: %v", i, r.Ours.Count, r.Ours.Fen, want, err)
		}
	}
}

// TestShopIsPaidThoughTheHolderSpent: a cardholder of the house's own bank who has
// spent what a chargeback gave him owes it when the shop wins; the shop has its
// money at once, and what comes to his account later goes to the debt first.
func TestShopIsPaidThoughTheHolderSpent(t *testing.T) {
	o := openOffice(t)
	sale := o.sell("jialian.1", 1, 100_00)
	if _, done, err := o.m.Settle(ctx, "jialian.1"); err != nil || !done {
		t.Fatal("not settled", err)
	}
	lin, err := o.h.Desk.Register(ctx, customer.Application{Login: "mei", Name: "mei", Phone: "13800009999", Secret: "secret-of-mei", Roles: []customer.Role{customer.Wearer}})
	o.must(err)
	account := wallet.Account(lin.ID)
	balance := func(id ledger.AccountID) (n int64) {
		t.Helper()
		o.must(o.write(func(tx *db.Tx) error {
			b, err := ledger.BalanceOf(tx, id)
			if n = b.Posted.Minor(); errors.Is(err, ledger.ErrNoAccount) {
				err = nil
			}
			return err
		}))
		return n
	}
	shop := balance(settlement.Payable(sale.Shop))
	var c dispute.Case
	o.must(o.write(func(tx *db.Tx) (err error) {
		if err = wallet.Open(tx, lin.ID); err == nil {
			_, err = wallet.Fund(tx, "test:1", lin.ID, money.Fen(20_00))
		}
		if err != nil {
			return err
		}
		c, err = dispute.Open(tx, dispute.Claim{Ref: "OWN1", Amount: money.Fen(100_00), Reason: "4515", Money: true, At: tx.Now(), Why: "not mine",
			Sale: dispute.Sale{RRN: "999999999999", Payee: sale.Shop, Counter: account, Class: "debit", Amount: money.Fen(100_00), At: tx.Now()}})
		return err
	}))
	o.must(o.write(func(tx *db.Tx) error { _, err := wallet.Withdraw(tx, "test:2", lin.ID, money.Fen(90_00)); return err }))
	o.must(o.write(func(tx *db.Tx) error { _, err := dispute.Withdraw(tx, c.ID, "it was his wife"); return err }))
	if got, has, owes := balance(settlement.Payable(sale.Shop)), balance(account), balance(issuing.Owed(account)); got != shop || has != 0 || owes != -70_00 {
		t.Errorf("the shop has %d, want %d; the holder has %d and owes %d", got, shop, has, owes)
	}
	o.must(o.h.Tick(ctx))
	green(t, o.h)
	o.must(o.write(func(tx *db.Tx) error { _, err := wallet.Fund(tx, "test:3", lin.ID, money.Fen(100_00)); return err }))
	for range 2 {
		o.must(o.h.Tick(ctx))
		if has, owes := balance(account), balance(issuing.Owed(account)); has != 30_00 || owes != 0 {
			t.Errorf("the holder has %d and owes %d", has, owes)
		}
	}
	green(t, o.h)
}

// TestDesksSpeakChinese: what the system wrote is read in Chinese, and why a rule
// spoke in either language.
func TestDesksSpeakChinese(t *testing.T) {
	o := openOffice(t)
	o.story()
	var paths [2]string
	var hit risk.Hit
	o.read(func(q *db.Query) error {
		list, err := reconcile.Exceptions(q, "", "", "", 1)
		o.must(err)
		cases, err := risk.Cases(q, "", "", "", 1)
		o.must(err)
		facts, err := risk.EvidenceOf(q, cases[0].ID, nil, 1)
		paths, hit = [2]string{"/ops/recon/exceptions/" + list[0].ID, "/ops/risk/" + cases[0].ID}, facts[0].Decision.Hits[0]
		return err
	})
	zh, en := o.as("wang", "zh"), o.as("wang", "en")
	for _, tt := range []struct{ path, zh, en string }{{paths[0], "对账时发现", "found by comparison"}, {paths[0], "系统", "system"}, {paths[1], ">" + html.EscapeString(hit.Zh) + "<", ">" + html.EscapeString(hit.En) + "<"}} {
		if code, body := zh.get(tt.path); code != 200 || !strings.Contains(body, tt.zh) || strings.Contains(body, tt.en) {
			t.Errorf("%s: %d, without %s or with %s", tt.path, code, tt.zh, tt.en)
		}
		if code, body := en.get(tt.path); code != 200 || !strings.Contains(body, tt.en) || tt.zh != "系统" && strings.Contains(body, tt.zh) {
			t.Errorf("%s: %d, without %s or with %s", tt.path, code, tt.en, tt.zh)
		}
	}
}
