package settlement_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/settlement/fee"
)

// platform are terms of one whose own sales would cost less.
func platform(t *settlement.Terms) { t.Category = fee.Living }

// shares is a split by basis points and fixed fen: "rider=500f", "platform=1000".
func shares(of ...string) (s settlement.Split) {
	for _, x := range of {
		var n int64
		payee, text, _ := strings.Cut(x, "=")
		fmt.Sscan(strings.TrimSuffix(text, "f"), &n)
		if strings.HasSuffix(text, "f") {
			s.Shares = append(s.Shares, settlement.Share{Payee: payee, Fixed: money.Fen(n)})
		} else {
			s.Shares = append(s.Shares, settlement.Share{Payee: payee, BP: n})
		}
	}
	return s
}

func (h *house) split(payee string, since calendar.Date, s settlement.Split) {
	h.t.Helper()
	h.do(func(tx *db.Tx) error { return settlement.SetSplit(tx, payee, since, s) })
}

// undo takes part of a sale back, or gives it again when fen is above zero.
func (h *house) undo(ref, sale, shop, kind string, fen int64) error {
	i := settlement.Item{Ref: ref, Payee: shop, Amount: money.Fen(fen), Kind: kind, Card: fee.Credit, Sale: sale}
	if kind != "refund" {
		i.Card = fee.None
	}
	return h.sell(i)
}

// fees is what a shop's closings have cost it.
func (h *house) fees(shops ...string) (sum fee.Parts) {
	h.t.Helper()
	h.do(func(tx *db.Tx) error {
		sum = fee.Parts{}
		for _, s := range shops {
			all, err := settlement.Closings(tx, s, "", 100)
			if err != nil {
				return err
			}
			for _, p := range all {
				sum = sum.Plus(p.Fee)
			}
		}
		return nil
	})
	return sum
}

// TestStandingSplit: the sales of a restaurant are divided with a platform and a
// rider; what is given back is divided as its sale was, also after the split has
// changed and ended; the fee is that of the restaurant's whole sales.
func TestStandingSplit(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg)
		settlement.RememberSplits(h.store)
		h.shop("wok", nil)
		h.shop("twin", nil) // sells the same, undivided
		h.shop("platform", platform)
		h.shop("rider", func(t *settlement.Terms) { t.Category = "" })
		holds := func(what string, wok, platform, rider int64) {
			t.Helper()
			if a, b, c := h.owed("wok"), h.owed("platform"), h.owed("rider"); a != wok || b != platform || c != rider {
				t.Errorf("%s: %d, %d and %d are owed, want %d, %d, %d", what, a, b, c, wok, platform, rider)
			}
			h.check()
		}
		both := func(f func(shop string) error) {
			t.Helper()
			if err := errors.Join(f("wok"), f("twin")); err != nil {
				t.Fatal(err)
			}
		}
		sale := func(n int, fen int64) {
			t.Helper()
			both(func(s string) error { h.sale(fmt.Sprint("s", n, s), s, fen); return nil })
		}
		undo := func(n, of int, kind string, fen int64) {
			t.Helper()
			both(func(s string) error { return h.undo(fmt.Sprint("u", n, s), fmt.Sprint("s", of, s), s, kind, fen) })
		}
		sale(0, 100_00)
		holds("before the split", 100_00, 0, 0)
		h.split("wok", day, shares("rider=500f", "platform=1000"))
		sale(1, 100_01) // 5.00; a tenth of 95.01 is 9.50; 85.51
		holds("divided", 185_51, 9_50, 5_00)
		h.do(func(tx *db.Tx) error { // 1.25 of the whole by the restaurant's terms, from fen 500 to 1,450 of 10,001
			x, lines, err := settlement.Explain(tx, "s1wok#2")
			if x.Fee.Fee != 18-6 || x.Payee != "platform" || x.PricedBy() != "wok" || lines[0].Fen.Minor() != 1_25 || lines[len(lines)-1].Fen.Minor() != 12 {
				t.Errorf("the platform's part costs %+v: %v", x.Fee, lines)
			}
			return err
		})
		sale(2, 3_00)
		holds("smaller than what is fixed", 185_51, 9_50, 8_00)
		undo(0, 0, "refund", -10_00)
		holds("of the sale before the split", 175_51, 9_50, 8_00)
		undo(1, 1, "refund", -33_33) // of 85.51, 9.50 and 5.00: 28.497…, 3.166… and 1.666…
		holds("a refund of a third", 147_01, 6_34, 6_33)
		h.split("wok", day.AddDays(1), shares("rider=2000"))
		h.morning(day)
		h.at(day.AddDays(1), 12*time.Hour)
		sale(3, 50_00)
		holds("the next split", 40_00, 0, 10_00)
		undo(2, 1, settlement.Chargeback, -20_00)
		holds("a chargeback by the split before", 22_90, -1_90, 9_00)
		undo(3, 1, "chargeback_returned", 20_00)
		holds("it is given again", 40_00, 0, 10_00)
		h.split("wok", day.AddDays(2), settlement.Split{})
		h.morning(day.AddDays(1))
		h.at(day.AddDays(2), 12*time.Hour)
		sale(4, 10_00)
		holds("no split any more", 10_00, 0, 0)
		undo(4, 1, "refund", -66_68)
		undo(5, 3, "refund", -50_00)
		holds("all of two sales has come back", 10_00-57_01-40_00, -6_34, -3_33-10_00)
		h.morning(day.AddDays(2))
		if got, want := h.fees("wok", "platform", "rider"), h.fees("twin"); got != want || got.Fee == 0 {
			t.Errorf("fees of %v, undivided they were %v", got, want)
		}
		h.check()
	})
}

// TestSplitOnce: what is delivered again is the same, other content differs, and
// what goes beyond a sale is the shop's alone.
func TestSplitOnce(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	h.shop("wok", nil)
	h.shop("platform", platform)
	h.sale("old", "wok", 7_00)
	h.split("wok", day, shares("platform=3333"))
	capture := func(i settlement.Item) error {
		return h.store.Write(context.Background(), func(tx *db.Tx) error { return settlement.Capture(tx, i) })
	}
	one := settlement.Item{Ref: "s1", Payee: "wok", Amount: money.Fen(10_00), Kind: "sale", Card: fee.Credit}
	back := settlement.Item{Ref: "r1", Payee: "wok", Amount: money.Fen(-4_00), Kind: "refund", Card: fee.Credit, Sale: "s1"}
	for _, i := range []settlement.Item{one, back} {
		if err := h.sell(i); err != nil {
			t.Fatal(err)
		}
	}
	more := one
	more.Amount = money.Fen(11_00)
	old, later, rest := one, back, back
	old.Ref, old.Amount, later.Amount, rest.Ref, rest.Amount = "old", money.Fen(7_00), money.Fen(-5_00), "r2", money.Fen(-6_01)
	h.split("wok", day, shares("platform=1"))
	for _, tt := range []struct {
		name string
		i    settlement.Item
		want error
	}{
		{"the sale again", one, nil},
		{"the refund again", back, nil},
		{"a sale from before the split again", old, nil},
		{"the sale with another amount", more, settlement.ErrDiffers},
		{"the refund with another amount", later, settlement.ErrDiffers},
	} {
		if err := capture(tt.i); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if got := h.owed("platform"); got != 2_00 { // 3.33 of the sale less 1.33
		t.Errorf("the platform is owed %d", got)
	}
	if err := h.sell(rest); err != nil { // of 6.00 that are left
		t.Fatal(err)
	}
	again := rest
	again.Ref, again.Amount, again.Kind = "r3", money.Fen(4_01), "chargeback_returned"
	if err := h.sell(again); err != nil { // of 4.00 that were taken
		t.Fatal(err)
	}
	for _, i := range []settlement.Item{rest, again} {
		if err := capture(i); err != nil {
			t.Errorf("%s again: %v", i.Ref, err)
		}
	}
	if got := h.owed("platform"); got != 2_00 {
		t.Errorf("beyond the sale the platform is owed %d", got)
	}
	h.check()
}

// TestSetSplitRefuses: a split that could stop a sale is not kept.
func TestSetSplitRefuses(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	h.shop("wok", nil)
	h.shop("rider", nil)
	borne := shares("rider=100")
	borne.Bearer = "bus"
	var many settlement.Split
	for range 20 {
		many.Shares = append(many.Shares, settlement.Share{Payee: "rider", BP: 1})
	}
	for _, tt := range []struct {
		name  string
		payee string
		since calendar.Date
		s     settlement.Split
		want  error
	}{
		{"good", "wok", day, shares("rider=10000"), nil},
		{"yesterday", "wok", day.AddDays(-1), shares("rider=100"), settlement.ErrSplit},
		{"more than all", "wok", day, shares("rider=6000", "bus=4001"), settlement.ErrSplit},
		{"a share of nothing", "wok", day, shares("rider=0"), settlement.ErrSplit},
		{"the shop's own share", "wok", day, shares("wok=10"), settlement.ErrSplit},
		{"one receiver twice", "wok", day, shares("rider=10", "rider=5f"), settlement.ErrSplit},
		{"another bears the fee", "wok", day, borne, settlement.ErrSplit},
		{"too many", "wok", day, many, settlement.ErrSplit},
		{"no such receiver", "wok", day, shares("nobody=10"), settlement.ErrNoPayee},
		{"no such payee", "nobody", day, shares("rider=10"), settlement.ErrNoPayee},
	} {
		err := h.store.Write(context.Background(), func(tx *db.Tx) error { return settlement.SetSplit(tx, tt.payee, tt.since, tt.s) })
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	next := shares("bus=10", "rider=3f")
	h.split("wok", day.AddDays(5), next)
	h.split("wok", day.AddDays(9), settlement.Split{})
	h.do(func(tx *db.Tx) error {
		all, err := settlement.Splits(tx, "wok")
		on, err2 := settlement.SplitOn(tx, "wok", day.AddDays(8))
		if len(all) != 3 || len(on.Shares) != 2 || on.Shares[1].Payee != "rider" || on.Shares[1].Fixed.Minor() != 3 || on.Shares[0].BP != 10 || len(all[2].Shares) != 0 {
			t.Errorf("read %+v, on a day %+v", all, on)
		}
		return errors.Join(err, err2)
	})
	// Terms price what receivers may have been paid today: new ones begin tomorrow.
	for n, want := range []error{settlement.ErrTerms, nil} {
		terms := settlement.Terms{Payee: "wok", Since: day.AddDays(n), Category: fee.Living, CutOff: settlement.ShopCutOff}
		if err := h.store.Write(context.Background(), func(tx *db.Tx) error { return settlement.SetTerms(tx, terms) }); !errors.Is(err, want) {
			t.Errorf("terms from %s: %v, want %v", terms.Since, err, want)
		}
	}
}

// TestSplitReceiverStopped: a receiver that is not paid out goes on getting its
// share, which waits, and gives its part of refunds back, also below nothing.
func TestSplitReceiverStopped(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	h.shop("wok", nil)
	h.shop("rider", func(t *settlement.Terms) { t.Category = "" })
	h.split("wok", day, shares("rider=5000"))
	h.sale("s1", "wok", 100_00)
	h.morning(day)
	h.want("before", "rider", 49_38, 62, 0) // the first half of 1.25, rounded down
	h.do(func(tx *db.Tx) error {
		_, err := settlement.PutHold(tx, settlement.Hold{ID: "stop", Payee: "rider", Reason: settlement.ForStaff})
		return err
	})
	h.sale("s2", "wok", 10_00)
	if err := h.undo("r1", "s1", "wok", "refund", -100_00); err != nil {
		t.Fatal(err)
	}
	h.morning(day.AddDays(1))
	h.want("stopped and below nothing", "rider", 0, 6-62, -50_00+5_00+62-6)
	h.sale("s3", "wok", 200_00)
	h.morning(day.AddDays(2))
	p := h.last("rider")
	if !p.Amount.IsZero() || p.Kept.Minor() <= 0 {
		t.Errorf("stopped: paid %s, kept %s", p.Amount, p.Kept)
	}
	h.do(func(tx *db.Tx) error { return settlement.Release(tx, "stop") })
	h.morning(day.AddDays(3))
	if q := h.last("rider"); q.Amount != p.Kept {
		t.Errorf("released: paid %s of %s", q.Amount, p.Kept)
	}
	h.check()
}

// TestSplitBearer: the platform bears the fee of the whole, by the shop's terms;
// of a sale so small that it gets nothing the fee is divided.
func TestSplitBearer(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	h.shop("wok", nil)
	h.shop("platform", platform)
	s := shares("platform=100")
	s.Bearer = "platform"
	h.split("wok", day, s)
	h.sale("s1", "wok", 1000_00)
	h.sale("s2", "wok", 49) // 0.6 fen, to the shop; a hundredth of it rounds to nothing
	if err := h.undo("r1", "s1", "wok", "refund", -400_00); err != nil {
		t.Fatal(err)
	}
	h.morning(day)
	h.want("the platform", "platform", 0, 7_50, 6_00-7_50)
	h.want("the shop", "wok", 594_48, 1, 0)
	h.check()
}

// TestSplitIsRemembered: a split that was set in a unit that failed is none, one
// that was set beside the sale's unit is heeded, remembered or not.
func TestSplitIsRemembered(t *testing.T) {
	for _, remember := range []bool{false, true} {
		h := open(t, db.Config{URL: dbtest.File(t)})
		if remember {
			settlement.RememberSplits(h.store)
		}
		h.shop("wok", nil)
		h.shop("rider", nil)
		h.sale("s0", "wok", 1_00)
		boom := errors.New("boom")
		sell := func(tx *db.Tx, ref string) error {
			_, err := ledger.Post(tx, ledger.Move(ref, source, settlement.Payable("wok"), money.Fen(1_00)))
			return errors.Join(err, settlement.Capture(tx, settlement.Item{Ref: ref, Payee: "wok", Amount: money.Fen(1_00), Kind: "sale"}))
		}
		err := h.store.Write(context.Background(), func(tx *db.Tx) error {
			return errors.Join(settlement.SetSplit(tx, "wok", day, shares("rider=5000")), sell(tx, "s1"), boom)
		})
		if !errors.Is(err, boom) {
			t.Fatal(err)
		}
		h.sale("s2", "wok", 1_00)
		if got := h.owed("rider"); got != 0 {
			t.Errorf("remembered %v: %d by a split that is not", remember, got)
		}
		h.do(func(tx *db.Tx) error {
			return errors.Join(settlement.SetSplit(tx, "wok", day, shares("rider=5000")), sell(tx, "s3"))
		})
		h.sale("s4", "wok", 1_00)
		h.do(func(tx *db.Tx) error {
			return errors.Join(sell(tx, "s5"), settlement.SetSplit(tx, "wok", day, settlement.Split{}), sell(tx, "s6"))
		})
		h.sale("s7", "wok", 1_00)
		if got := h.owed("rider"); got != 1_50 {
			t.Errorf("remembered %v: the rider is owed %d", remember, got)
		}
		h.check()
	}
}

// TestSplitCutAnywhere cuts sales, refunds and a chargeback of a split at every
// commit and does what failed again: the shares end the same.
func TestSplitCutAnywhere(t *testing.T) {
	want := ""
	for _, after := range []bool{false, true} {
		for at, hit := 0, true; hit; at++ {
			c := &cut{after: after}
			h := open(t, db.Config{URL: dbtest.File(t), Faults: c, Rebuildable: true})
			settlement.RememberSplits(h.store)
			h.shop("wok", nil)
			h.shop("pan", platform)
			c.n, c.at = 0, at
			unit := func(f func(*db.Tx) error) { h.again(func() error { return h.store.Write(context.Background(), f) }) }
			unit(func(tx *db.Tx) error { return settlement.SetSplit(tx, "wok", day, shares("pan=3333")) })
			h.again(func() error {
				return h.sell(settlement.Item{Ref: "s1", Payee: "wok", Amount: money.Fen(100_00), Kind: "sale", Card: fee.Credit})
			})
			unit(func(tx *db.Tx) error { return settlement.SetSplit(tx, "wok", day, shares("pan=1")) })
			for i, fen := range []int64{-33_33, -20_00, 20_00, -66_66} {
				kind := []string{"refund", settlement.Chargeback, "chargeback_returned", "refund"}[i]
				h.again(func() error { return h.undo(fmt.Sprint("u", i), "s1", "wok", kind, fen) })
			}
			hit = c.at == 0 || c.n >= c.at
			c.at = 0
			h.morning(day)
			h.check()
			if got := h.summary(); want == "" {
				want = got
			} else if got != want {
				t.Fatalf("cut at %d (after: %v):\n%s\nwant\n%s", at, after, got, want)
			}
		}
	}
}

// TestSplitWhileOthersSell: sales that come in while splits are set and ended by
// others are divided by the one that is durable, and nothing else.
func TestSplitWhileOthersSell(t *testing.T) {
	h := openQueued(t, db.Config{URL: dbtest.File(t)})
	settlement.RememberSplits(h.store)
	h.shop("wok", nil)
	h.shop("rider", nil)
	h.shop("pan", nil)
	const each = 40
	done := make(chan error)
	for _, shop := range []string{"wok", "pan"} {
		go func() {
			var err error
			for i := range each {
				err = errors.Join(err, h.sell(settlement.Item{Ref: fmt.Sprint("s", i, shop), Payee: shop, Amount: money.Fen(1_00), Kind: "sale", Card: fee.Debit}))
			}
			done <- err
		}()
	}
	waits := 2
	for n := 0; waits > 0; n++ {
		select {
		case err := <-done:
			if waits--; err != nil {
				t.Fatal(err)
			}
		default:
			h.split("wok", day, shares("rider=5000"))
			before := h.owed("rider")
			h.sale(fmt.Sprint("in", n), "wok", 2_00)
			if got := h.owed("rider"); got < before+1_00 {
				t.Errorf("round %d: the rider has %d, had %d", n, got, before)
			}
			h.split("wok", day, settlement.Split{})
			before = h.owed("rider")
			h.sale(fmt.Sprint("out", n), "wok", 2_00)
			if got := h.owed("rider"); got != before {
				t.Errorf("round %d: the rider has %d, had %d, with no split", n, got, before)
			}
		}
	}
	h.check()
}

// TestSplitLife: whatever is sold, given back, charged back and given again under
// splits that come and go, each receiver has what it was given less what it gave
// back, nothing is lost, and the fees are those of a shop that divides nothing.
func TestSplitLife(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t), Rebuildable: true})
	settlement.RememberSplits(h.store)
	runs, d := 0, day
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		id := func(s string) string { return fmt.Sprint(s, runs) }
		h.at(d, 12*time.Hour)
		h.shop(id("wok"), nil)
		h.shop(id("twin"), nil)
		h.shop(id("a"), platform)
		h.shop(id("b"), func(t *settlement.Terms) { t.Category = "" })
		type sold struct {
			ref              string
			fen, left, taken int64
		}
		var sales []sold
		n, total := 0, int64(0)
		both := func(i settlement.Item) {
			for _, s := range []string{"wok", "twin"} {
				x := i
				x.Payee, x.Ref = id(s), id(s)+i.Ref
				if i.Sale != "" {
					x.Sale = id(s) + i.Sale
				}
				if err := h.sell(x); err != nil {
					rt.Fatal(err)
				}
			}
			total += i.Amount.Minor()
		}
		for range rapid.IntRange(1, 12).Draw(rt, "acts") {
			n++
			ref := fmt.Sprint(":", n)
			switch act := rapid.IntRange(0, 4).Draw(rt, "act"); {
			case act == 0 || len(sales) == 0:
				var s settlement.Split
				for _, r := range []string{"a", "b"}[:rapid.IntRange(0, 2).Draw(rt, "receivers")] {
					x := settlement.Share{Payee: id(r), BP: rapid.Int64Range(1, 5_000).Draw(rt, "bp")}
					if rapid.Bool().Draw(rt, "fixed") {
						x = settlement.Share{Payee: id(r), Fixed: money.Fen(rapid.Int64Range(1, 500).Draw(rt, "fen"))}
					}
					s.Shares = append(s.Shares, x)
				}
				h.split(id("wok"), d, s)
				fallthrough
			case act == 1:
				fen := rapid.Int64Range(1, 20_000).Draw(rt, "sold")
				sales = append(sales, sold{ref, fen, fen, 0})
				both(settlement.Item{Ref: ref, Amount: money.Fen(fen), Kind: "sale", Card: fee.Credit})
			default:
				x := &sales[rapid.IntRange(0, len(sales)-1).Draw(rt, "of")]
				switch {
				case act == 4 && x.taken > 0:
					fen := rapid.Int64Range(1, x.taken).Draw(rt, "again")
					x.left, x.taken = x.left+fen, x.taken-fen
					both(settlement.Item{Ref: ref, Amount: money.Fen(fen), Kind: "chargeback_returned", Sale: x.ref})
				case act == 3 && x.left > 0:
					fen := rapid.Int64Range(1, x.left).Draw(rt, "charged")
					x.left, x.taken = x.left-fen, x.taken+fen
					both(settlement.Item{Ref: ref, Amount: money.Fen(-fen), Kind: settlement.Chargeback, Sale: x.ref})
				case x.left > 0:
					fen := rapid.Int64Range(1, x.left).Draw(rt, "back")
					i := settlement.Item{Ref: ref, Amount: money.Fen(-fen), Kind: "refund", Card: fee.Credit, Sale: x.ref, Remains: money.Fen(x.left)}
					x.left -= fen
					both(i)
				}
			}
		}
		if got := h.owed(id("wok")) + h.owed(id("a")) + h.owed(id("b")); got != total {
			rt.Fatalf("%d are owed, want %d", got, total)
		}
		h.morning(d)
		d = d.AddDays(1)
		if got, want := h.fees(id("wok"), id("a"), id("b")), h.fees(id("twin")); got != want {
			rt.Fatalf("fees of %v, undivided they are %v", got, want)
		}
	})
	h.check()
}

// TestCheckFindsSplits: each row changes the store behind the package's back.
func TestCheckFindsSplits(t *testing.T) {
	for _, tt := range []struct{ name, sql, where string }{
		{"what is left", `UPDATE settlement_share SET rest = rest + 1 WHERE ref = 's1' AND no = 1`, "what is left of part s1#1"},
		{"what was got", `UPDATE settlement_share SET fen = fen + 1 WHERE ref = 's1' AND no = 2`, "part s1#2 is not the item"},
		{"a part's item", `DELETE FROM settlement_item WHERE ref = 'r1#1'`, "part r1#1 is not the item"},
		{"a part's fee", `UPDATE settlement_item SET share = share - 1 WHERE ref = 's1#1'`, "the parts of s1 do not bear"},
		{"whose terms price it", `UPDATE settlement_item SET priced = '' WHERE ref = 's1#1'`, "priced again"},
	} {
		h := open(t, db.Config{URL: dbtest.File(t), Rebuildable: true})
		h.shop("wok", nil)
		h.shop("rider", platform)
		h.split("wok", day, shares("rider=5000"))
		h.sale("s1", "wok", 1000_00)
		if err := h.undo("r1", "s1", "wok", "refund", -100_00); err != nil {
			t.Fatal(err)
		}
		h.morning(day)
		h.check()
		h.do(func(tx *db.Tx) error { _, err := tx.Exec(tt.sql); return err })
		if wrong := strings.Join(h.wrong(), "; "); !strings.Contains(wrong, tt.where) {
			t.Errorf("%s: found %q, want %q", tt.name, wrong, tt.where)
		}
	}
}

// TestMigrateSplits: items of the version before stay whole, also those that a
// split which is set afterwards would have divided.
func TestMigrateSplits(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := openAt(t, cfg, 7)
		h.do(func(tx *db.Tx) error {
			for _, sql := range []string{
				`INSERT INTO settlement_payee (payee, mark, day, kept, reserve, held, stopped, free, auto, v) VALUES ('wok', 0, '', 0, 0, 0, 0, 0, 0, 0), ('rider', 0, '', 0, 0, 0, 0, 0, 0, 0)`,
				`INSERT INTO settlement_item (payee, seq, ref, kind, card, issuer, fen, at, booked, sale_at, remains, whole, lo, share)
					VALUES ('wok', 5, 's1', 'sale', '', '', 10000, 1, 1, 0, 0, 0, 0, 0)`,
			} {
				if _, err := tx.Exec(sql); err != nil {
					return err
				}
			}
			for _, id := range []string{"wok", "rider"} {
				if err := ledger.OpenAccount(tx, ledger.Account{ID: settlement.Payable(id), Code: "2030", Name: id, Currency: money.CNY}); err != nil {
					return err
				}
			}
			_, err := ledger.Post(tx, ledger.Move("s1", source, settlement.Payable("wok"), money.Fen(100_00)))
			return err
		})
		if err := h.store.Migrate(context.Background(), settlement.Schema); err != nil {
			t.Fatal(err)
		}
		h.split("wok", day, shares("rider=5000"))
		h.do(func(tx *db.Tx) error { // delivered again
			return settlement.Capture(tx, settlement.Item{Ref: "s1", Payee: "wok", Amount: money.Fen(100_00), Kind: "sale"})
		})
		if err := h.undo("r1", "s1", "wok", settlement.Chargeback, -40_00); err != nil {
			t.Fatal(err)
		}
		if wok, rider := h.owed("wok"), h.owed("rider"); wok != 60_00 || rider != 0 {
			t.Errorf("%d and %d are owed", wok, rider)
		}
		h.check()
	})
}
