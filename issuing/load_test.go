package issuing_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"koala/card"
	"koala/hsm"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/wallet"
)

// log reads the card's signed load log in a transaction of its own and reports
// it.
func (k *chip) log() {
	k.h.t.Helper()
	k.begin(card.Contactless, 0)
	k.e.PowerOff()
	if err := k.e.PowerOn(card.Contactless); err != nil {
		k.h.t.Fatal(err)
	}
	k.send(iso7816.Select(k.aid))
	raw := k.send(pboc.ReadSignedLoadLog(pboc.LoadLogSFI)).Data
	if err := k.h.bank.ReportLog(context.Background(), k.id, raw); err != nil {
		k.h.t.Fatal(err)
	}
	raw[5]++
	if err := k.h.bank.ReportLog(context.Background(), k.id, raw); len(raw) > 7 && !errors.Is(err, hsm.ErrBalance) {
		k.h.t.Errorf("a log nobody signed: %v", err)
	}
}

// bound is the card's load whose end is not known.
func (k *chip) bound() (open bool) {
	k.h.t.Helper()
	k.h.do(func(tx *db.Tx) error {
		list, err := issuing.LoadsOf(tx, k.id, 1)
		open = len(list) > 0 && list[0].State == issuing.LoadBound
		return err
	})
	return open
}

// TestLoadsWithLosses loads and spends at will, and loses what can be lost: the
// host's answer, the script, the report of it. However it ends, once the card
// has been heard the books hold for it what it has, and nobody won or lost.
func TestLoadsWithLosses(t *testing.T) {
	h := openBank(t, t.TempDir())
	k := h.issue(issuing.DebitCard, "band_1")
	total := func() int64 { return h.balance(wallet.Account(lin)) + h.balance(issuing.Float(k.id)) + h.balance(shop) }
	before := total()
	rapid.Check(t, func(rt *rapid.T) {
		var pending []pboc.Clearing
		for range rapid.IntRange(1, 5).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"load", "load", "tap", "clear", "log"}).Draw(rt, "step") {
			case "load":
				fen := int64(rapid.IntRange(1, 20_00).Draw(rt, "fen"))
				a := k.authorise(k.ask(issuing.TypeLoad, fen))
				switch {
				case a.Why == issuing.InProgress && k.bound(), a.Why == issuing.OverLimit, a.Why == issuing.NoMoney:
				case a.Why != issuing.Approval:
					rt.Fatalf("load of %d: %q", fen, a.Why)
				default:
					k.losing(a, rapid.SampledFrom([]string{"nothing", "answer", "script", "report"}).Draw(rt, "loses"))
				}
			case "tap":
				if have := k.balance(); have > 0 {
					pending = append(pending, k.pay(int64(rapid.IntRange(1, int(min(have, 30_00))).Draw(rt, "fare"))))
				}
			case "clear":
				for _, f := range k.clear(pending...) {
					if f == issuing.Cleared {
						pending = pending[1:]
					}
				}
				pending = nil
			case "log":
				k.log()
			}
		}
		k.log()
		k.clear(pending...)
		h.retry()
		if k.bound() {
			rt.Fatal("a load is bound though the card was heard")
		}
		if books, have := h.balance(issuing.Float(k.id)), k.balance(); books != have {
			rt.Fatalf("the card has %d, the books %d", have, books)
		}
		if after := total(); after != before {
			rt.Fatalf("%d became %d", before, after)
		}
	})
	h.do(func(tx *db.Tx) error {
		gaps, err := issuing.Gaps(tx, k.id)
		if len(gaps) > 0 {
			t.Errorf("gaps %v", gaps)
		}
		return err
	})
}

// losing goes on with a load up to what is lost.
func (k *chip) losing(a issuing.Answer, what string) {
	k.h.t.Helper()
	switch what {
	case "answer":
		return
	case "script":
		a.EMV = a.EMV[:12] // 91 alone
	}
	sw := k.finish(a)
	if what == "nothing" && sw.OK() {
		k.h.do(func(tx *db.Tx) error { _, err := issuing.ReportScript(tx, a.Load, sw); return err })
	}
}

// retry tries everything in suspense again.
func (h *bankHouse) retry() {
	h.t.Helper()
	var list []issuing.Suspended
	if err := h.store.Read(context.Background(), func(q *db.Query) (err error) { list, err = issuing.InSuspense(q, "", 100); return err }); err != nil {
		h.t.Fatal(err)
	}
	for _, s := range list {
		if f, err := h.bank.Retry(context.Background(), s.ID); err != nil || f == issuing.Suspense {
			h.t.Errorf("%+v: %s, %v", s, f, err)
		}
	}
}

func TestJudge(t *testing.T) {
	l := issuing.Load{ATC: 10, Old: money.Fen(20_00), Amount: money.Fen(30_00), State: issuing.LoadBound}
	entry := func(atc int) pboc.LoadEntry { return pboc.LoadEntry{Tag: 0x9F79, ATC: uint16(atc)} }
	long := &pboc.SignedLoadLog{}
	for i := range pboc.LogRecords {
		long.Entries = append(long.Entries, entry(30-i))
	}
	for _, tt := range []struct {
		name string
		p    issuing.Proof
		want issuing.LoadState
	}{
		{"its own transaction", issuing.Proof{ATC: 10, Balance: money.Fen(50_00)}, issuing.LoadBound},
		{"an older one", issuing.Proof{ATC: 9, Balance: money.Fen(20_00)}, issuing.LoadBound},
		{"more than before", issuing.Proof{ATC: 12, Balance: money.Fen(20_01)}, issuing.LoadPaid},
		{"the next one, as before", issuing.Proof{ATC: 11, Balance: money.Fen(20_00)}, issuing.LoadVoid},
		{"a later one, as before", issuing.Proof{ATC: 12, Balance: money.Fen(20_00)}, issuing.LoadBound},
		{"less", issuing.Proof{ATC: 11, Balance: money.Fen(19_00)}, issuing.LoadBound},
		{"log of its own transaction", issuing.Proof{ATC: 10, Log: &pboc.SignedLoadLog{}}, issuing.LoadBound},
		{"log with it", issuing.Proof{ATC: 11, Log: &pboc.SignedLoadLog{Entries: []pboc.LoadEntry{entry(10), entry(4)}}}, issuing.LoadPaid},
		{"log without it", issuing.Proof{ATC: 11, Log: &pboc.SignedLoadLog{Entries: []pboc.LoadEntry{entry(4)}}}, issuing.LoadVoid},
		{"log gone round", issuing.Proof{ATC: 31, Log: long}, issuing.LoadBound},
	} {
		if got := l.Judge(tt.p); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestLoadOrders(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := openBankOn(t, cfg, t.TempDir())
		k := h.issue(issuing.ECashCard, "band_1")
		credit := h.issue(issuing.CreditCard, "band_1")
		place := func(ref string, id issuing.CardID, fen int64) func(*db.Tx) error {
			return func(tx *db.Tx) error { _, err := issuing.PlaceLoad(tx, ref, id, money.Fen(fen)); return err }
		}
		for _, tt := range []struct {
			name string
			act  func(*db.Tx) error
			want error
			held int64
		}{
			{"first", place("a", k.id, 50_00), nil, 50_00},
			{"the same again", place("a", k.id, 50_00), nil, 50_00},
			{"other amount under the reference", place("a", k.id, 51_00), issuing.ErrDiffers, 50_00},
			{"a second one", place("b", k.id, 1_00), issuing.ErrBusyLoad, 50_00},
			{"without e-cash", place("c", credit.id, 1_00), issuing.ErrKind, 50_00},
			{"nothing", place("d", k.id, 0), issuing.ErrAmount, 50_00},
			{"cancel", func(tx *db.Tx) error {
				list, err := issuing.LoadsOf(tx, k.id, 1)
				if err == nil {
					_, err = issuing.CancelLoad(tx, list[0].ID)
				}
				return err
			}, nil, 0},
			{"above what a card holds", place("e", k.id, 1000_01), issuing.ErrAmount, 0},
			{"another", place("f", k.id, 40_00), nil, 40_00},
		} {
			if err := h.try(tt.act); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
			h.do(func(tx *db.Tx) error {
				b, err := ledger.BalanceOf(tx, wallet.Account(lin))
				if b.Held.Minor() != tt.held {
					t.Errorf("%s: %v held, want %d", tt.name, b.Held, tt.held)
				}
				return err
			})
		}
		if a := k.authorise(k.ask(issuing.TypeLoad, 41_00)); a.Why != issuing.OtherAmount {
			t.Errorf("another amount: %q", a.Why)
		}
		r := k.ask(issuing.TypeLoad, 40_00)
		a, again := k.authorise(r), k.authorise(r)
		if a.Why != issuing.Approval || a.Load == "" || string(a.EMV) != string(again.EMV) {
			t.Errorf("%+v then %+v", a, again)
		}
		if sw := k.finish(again); !sw.OK() || k.balance() != 40_00 {
			t.Errorf("%v, %d on the card", sw, k.balance())
		}
		if a := k.authorise(k.ask(issuing.TypeLoad, 5_00)); a.Why != issuing.Approval { // and proves the one before
			t.Errorf("the next: %q", a.Why)
		}
		h.want("proven by the next", map[ledger.AccountID]int64{issuing.Float(k.id): 40_00})
	})
}

// TestSuspense: what cannot be booked waits with its reason, and never twice.
func TestSuspense(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := openBankOn(t, cfg, t.TempDir())
		k := h.issue(issuing.DebitCard, "band_1")
		k.load(50_00)
		tc := k.pay(10_00)
		forged, strange, foreign := tc, tc, tc
		forged.Fen = 11_00
		strange.PAN = "6228480402564890018"
		foreign.Currency = 840
		// A load's own TC asks for money for a shop.
		a := k.authorise(k.ask(issuing.TypeLoad, 5_00))
		loaded := k.finishing(a, issuing.TypeLoad, 5_00)
		h.do(func(tx *db.Tx) error { _, err := issuing.ReportScript(tx, a.Load, iso7816.OK); return err })
		for range 2 {
			if f := k.clear(forged, strange, foreign, loaded); f[3] != issuing.Suspense || f[0] != issuing.Suspense || f[1] != issuing.Suspense || f[2] != issuing.Suspense {
				t.Errorf("fates %v", f)
			}
		}
		if f := k.clear(tc); f[0] != issuing.Cleared {
			t.Errorf("the genuine one: %v", f)
		}
		if out, err := h.bank.Clear(context.Background(), []pboc.Clearing{tc}, "payable.other"); err != nil || out[0] != issuing.Suspense {
			t.Errorf("for another payee: %v, %v", out, err)
		}
		undo := tc
		undo.Kind = pboc.ClearReversal
		if f := k.clear(undo, undo); f[0] != issuing.Cleared || f[1] != issuing.Known {
			t.Errorf("reversal %v", f)
		}
		h.want("reversed", map[ledger.AccountID]int64{issuing.Float(k.id): 45_00, shop: 0, wallet.Account(lin): 2000_00 - 55_00 + 10_00})
		var list []issuing.Suspended
		h.do(func(tx *db.Tx) (err error) { list, err = issuing.InSuspense(tx, "", 100); return err })
		why := map[issuing.Flaw]int{}
		for _, s := range list {
			why[s.Why]++
		}
		if fmt.Sprint(why) != fmt.Sprint(map[issuing.Flaw]int{issuing.FlawProof: 2, issuing.FlawUnknown: 1, issuing.FlawDiffers: 1, issuing.FlawNotDue: 1}) {
			t.Errorf("in suspense: %v", why)
		}
	})
}

// TestGap: a tap that no terminal handed in shows between the balances around
// it.
func TestGap(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := openBankOn(t, cfg, t.TempDir())
		k := h.issue(issuing.DebitCard, "band_1")
		k.load(50_00)
		first := k.pay(1_00)
		k.pay(2_50) // lost with its terminal
		last := k.pay(4_00)
		k.clear(last, first)
		h.do(func(tx *db.Tx) error {
			gaps, err := issuing.Gaps(tx, k.id)
			if len(gaps) != 1 || gaps[0].Fen.Minor() != 2_50 || gaps[0].After != first.ATC || gaps[0].Before != last.ATC {
				t.Errorf("gaps %v", gaps)
			}
			return err
		})
		h.want("what stays on the float", map[ledger.AccountID]int64{issuing.Float(k.id): 45_00})
	})
}
