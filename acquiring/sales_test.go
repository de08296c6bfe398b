package acquiring_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"koala/acquiring"
	"koala/card"
	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/spec/pboc"
	"koala/spec/poskey"
	"koala/spec/purse"
	"koala/terminal/kernel"
	"koala/terminal/pos"
	"koala/wallet"
)

func newHouse(t *testing.T) *house {
	t.Helper()
	t.Parallel() // most of the time is the disk's
	h := open(t, t.TempDir())
	t.Cleanup(h.close)
	return h
}

func equal(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// TestPayOfflineSeeItCleared: an e-cash card is loaded at the till through the
// house, pays twice without a host, and once more after the batch; the shop has
// the money the next day, each time once.
func TestPayOfflineSeeItCleared(t *testing.T) {
	h := newHouse(t)
	shop, k := h.till(), h.issue(issuing.ECashCard)
	shop.load(k, 100_00)
	shop.offline = true
	shop.buy(k, 12_50)
	shop.buy(k, 7_50)
	b := shop.batch()
	got := h.collect(b)
	equal(t, "batch", fates(got), "booked", "booked", "booked")
	if got.Release != 3 || len(got.Missing) != 0 {
		t.Errorf("%+v", got)
	}
	want := map[ledger.AccountID]int64{wallet.Account(lin): 1900_00, issuing.Float(k.id): 80_00, settlement.Payable(tea): 20_00}
	h.want("cleared", want)
	equal(t, "again", fates(h.collect(b)), "known", "known", "known")
	h.want("again", want)
	h.must(shop.Release(got.Release))
	h.settle()
	h.want("settled", map[ledger.AccountID]int64{settlement.Payable(tea): 0})
	shop.buy(k, 1_00)
	if b = shop.batch(); b.First != 4 || len(b.Records) != 1 {
		t.Errorf("from %d, %d records", b.First, len(b.Records))
	}
	h.collect(b)
	h.want("next day", map[ledger.AccountID]int64{issuing.Float(k.id): 79_00, settlement.Payable(tea): 1_00})
	h.read(func(q *db.Query) error {
		list, err := acquiring.Sales(q, acquiring.Filter{Card: k.id, Limit: 10})
		if err != nil || len(list) != 4 || list[0].Moved != 1_00 || list[3].Type != pos.Load || list[3].Moved != 0 {
			t.Errorf("%+v %v", list, err)
		}
		d, err := acquiring.DeviceOf(q, teaTill)
		if d.Next != 5 || d.Seen.IsZero() || d.State != acquiring.Active {
			t.Errorf("%+v", d)
		}
		return err
	})
	tr, err := h.office.TraceOf(ctx, got.Results[1].ID)
	if err != nil || len(tr.Message) == 0 || tr.Message[0].Value[6:12] != "******" || len(tr.Postings) == 0 || tr.Fate != acquiring.Booked {
		t.Errorf("%+v %v", tr, err)
	}
	h.do(func(tx *db.Tx) error { _, err := ledger.EntryOf(tx, tr.Postings[0]); return err })
}

// TestOneBadAmongGood: a record that does not verify waits under its name, the
// others are booked; a wrong number, another body under a number and a record
// of another till are named.
func TestOneBadAmongGood(t *testing.T) {
	h := newHouse(t)
	shop, k := h.till(), h.issue(issuing.ECashCard)
	shop.load(k, 100_00)
	for _, fen := range []uint64{1_00, 2_00, 3_00, 4_00} {
		shop.buy(k, fen)
	}
	b := shop.batch()
	good := slices.Clone(b.Records)
	b.Records[2].AC[0] ^= 1 // 2.00
	b.Records[3].TID = "30008901"
	b.Records[4].PAN = "6228000100001117"
	equal(t, "bad", fates(h.collect(b)), "booked", "booked", "suspense cryptogram", "odd other_device", "suspense unknown_card")
	h.want("bad", map[ledger.AccountID]int64{issuing.Float(k.id): 99_00, settlement.Payable(tea): 1_00})
	equal(t, "again", fates(h.collect(b)), "known", "known", "suspense cryptogram", "odd other_device", "suspense unknown_card")
	b.Records = good
	equal(t, "as they were", fates(h.collect(b)), "known", "known", "odd number", "booked", "odd number")
	b.First = 10 // the till's numbers jumped
	got := h.collect(b)
	equal(t, "elsewhere", fates(got), "known", "known", "booked", "known", "booked")
	if len(got.Missing) != 1 || got.Missing[0].Low != 6 || got.Missing[0].High != 9 {
		t.Errorf("%+v", got.Missing)
	}
	h.want("all", map[ledger.AccountID]int64{issuing.Float(k.id): 90_00, settlement.Payable(tea): 10_00})
	h.read(func(q *db.Query) error {
		waits, err := acquiring.InSuspense(q, "", 10)
		odd, err2 := acquiring.OddOnes(q, "", 10)
		if len(waits) != 2 || waits[0].Why != "cryptogram" || waits[0].Shop != tea || len(odd) != 3 {
			t.Errorf("%+v %+v", waits, odd)
		}
		return errors.Join(err, err2)
	})
	h.must(h.office.Tick(ctx))
	h.sound("tick")
	b.First = 0
	if _, err := h.office.CollectSales(ctx, teaTill, b); !errors.Is(err, acquiring.ErrBatch) {
		t.Error(err)
	}
}

// TestGapCloses: batches that come in the wrong order close their gaps.
func TestGapCloses(t *testing.T) {
	h := newHouse(t)
	shop, k := h.till(), h.issue(issuing.ECashCard)
	shop.load(k, 100_00)
	for range 4 {
		shop.buy(k, 1_00)
	}
	b := shop.batch()
	part := func(from, to int) pboc.ClearingBatch {
		return pboc.ClearingBatch{TID: b.TID, First: b.First + uint32(from), Records: b.Records[from:to]}
	}
	if got := h.collect(part(4, 5)); len(got.Missing) != 1 || got.Missing[0].Low != 1 || got.Missing[0].High != 4 {
		t.Errorf("%+v", got.Missing)
	}
	if got := h.collect(part(1, 2)); len(got.Missing) != 2 {
		t.Errorf("%+v", got.Missing)
	}
	if got := h.collect(part(0, 4)); len(got.Missing) != 0 {
		t.Errorf("%+v", got.Missing)
	}
	h.must(h.office.Tick(ctx)) // the payments that came before their load
	h.want("whole", map[ledger.AccountID]int64{issuing.Float(k.id): 96_00, settlement.Payable(tea): 4_00})
}

// TestOnline: a debit card pays through the host by contact; what is completed
// is paid, what is taken back is released; the trace number is used once a day.
func TestOnline(t *testing.T) {
	h := newHouse(t)
	shop, k := h.till(), h.issue(issuing.DebitCard)
	insert := func(fen uint64) pos.Result {
		r, err := shop.Insert(k.present(card.Contact), pos.Sale{Fen: fen, ForceOnline: true})
		h.must(err)
		k.e.PowerOff()
		return r
	}
	if r := insert(88_00); r.Outcome.Result != kernel.Approved {
		t.Fatal(r.Outcome, shop.answers)
	}
	second := insert(12_00)
	if second.Outcome.Result != kernel.Approved {
		t.Fatal(second.Outcome)
	}
	if _, err := shop.Reverse(second.STAN); err != nil {
		t.Fatal(err)
	}
	b := shop.batch()
	equal(t, "batch", fates(h.collect(b)), "booked", "booked", "booked")
	h.want("paid", map[ledger.AccountID]int64{wallet.Account(lin): 2000_00 - 88_00, settlement.Payable(tea): 88_00})
	equal(t, "again", fates(h.collect(b)), "known", "known", "known")
	h.want("again", map[ledger.AccountID]int64{wallet.Account(lin): 2000_00 - 88_00, settlement.Payable(tea): 88_00})
	h.read(func(q *db.Query) error {
		list, err := acquiring.Requests(q, acquiring.Filter{Card: k.id, Limit: 10})
		if len(list) != 2 || list[0].ARC != "00" || list[0].Fen != 12_00 || list[0].Shop != tea {
			t.Errorf("%+v", list)
		}
		return err
	})
}

// TestRequests: what the acquirer itself answers.
func TestRequests(t *testing.T) {
	h := newHouse(t)
	h.till()
	number := func(pan []byte, stan byte) []byte {
		return slices.Concat([]byte{0x9F, 0x41, 4, 0, 0, 0, stan, 0x9F, 0x02, 6, 0, 0, 0, 0, 0x12, 0, 0x5A, 8}, pan)
	}
	stranger := []byte{0x62, 0x28, 0, 1, 0, 0, 0x11, 0x17}
	ours := []byte{0x62, 0x88, 0x88, 1, 0, 0, 0x11, 0x17}
	for _, tt := range []struct {
		name    string
		request []byte
		arc     string
		why     issuing.Reason
	}{
		{"another bank's card", number(stranger, 1), "15", acquiring.NotHouse},
		{"the same again", number(stranger, 1), "15", acquiring.NotHouse},
		{"trace number used", number(ours, 1), "94", acquiring.UsedSTAN},
		{"incomplete for the issuer", number(ours, 2), "30", issuing.Malformed},
		{"nothing", nil, "30", issuing.Malformed},
		{"cut", number(ours, 2)[:9], "30", issuing.Malformed},
	} {
		a, err := h.office.Authorise(ctx, teaTill, tt.request)
		if err != nil || a.ARC != tt.arc || a.Why != tt.why {
			t.Errorf("%s: %+v %v", tt.name, a, err)
		}
	}
	h.now.Advance(24 * 3600e9)
	if a, err := h.office.Authorise(ctx, teaTill, number(ours, 1)); err != nil || a.ARC != "30" {
		t.Errorf("the next day: %+v %v", a, err)
	}
	h.do(func(tx *db.Tx) error { return acquiring.SetState(tx, teaTill, acquiring.Suspended, "wang", "test") })
	if _, err := h.office.Authorise(ctx, teaTill, number(ours, 9)); !errors.Is(err, acquiring.ErrState) {
		t.Error(err)
	}
	if acquiring.ReasonWords(acquiring.NotHouse, true) != "无此发卡方" || acquiring.ReasonWords(issuing.Lost, true) != "卡片已挂失" {
		t.Error("words")
	}
}

// torn taps until the card has paid and the till does not know.
func (t *till) torn(k *chip, fen uint64) {
	t.h.t.Helper()
	for n := 1; n < 40; n++ {
		k.e.LoseAnswer(n)
		r, err := t.Tap(k.present(card.Contactless), pos.Sale{Fen: fen})
		t.h.must(err)
		k.e.LoseAnswer(0)
		k.e.PowerOff()
		if len(t.Doubts()) > 0 {
			return
		}
		if r.Outcome.Result == kernel.Approved {
			break
		}
	}
	t.h.t.Fatal("no doubt came about")
}

// TestTornSaleComesBack: the till tells its doubt; the card comes back, the
// record comes, and the case is closed.
func TestTornSaleComesBack(t *testing.T) {
	h := newHouse(t)
	shop, k := h.till(), h.issue(issuing.ECashCard)
	shop.load(k, 100_00)
	shop.torn(k, 5_00)
	d := shop.Doubts()[0]
	x, err := h.office.KeepDoubt(ctx, teaTill, d.Clearing, d.Paid)
	if err != nil || x.State != acquiring.DoubtOpen || x.Card != k.id || x.Fen != 5_00 {
		t.Fatalf("%+v %v", x, err)
	}
	shop.tap(k, 5_00)
	if len(shop.Doubts()) != 0 {
		t.Fatal("the till is still in doubt")
	}
	h.collect(shop.batch())
	h.read(func(q *db.Query) (err error) { x, err = acquiring.DoubtOf(q, x.ID); return err })
	if x.State != acquiring.DoubtClosed {
		t.Errorf("%+v", x)
	}
	h.want("back", map[ledger.AccountID]int64{issuing.Float(k.id): 95_00, settlement.Payable(tea): 5_00})
}

// TestTornSaleOfACardThatStaysAway: the next payment of the card proves that
// money left it, and its holder has it back, because nobody was given anything;
// when the record comes after all, the shop has it.
func TestTornSaleOfACardThatStaysAway(t *testing.T) {
	h := newHouse(t)
	shop, k := h.till(), h.issue(issuing.ECashCard)
	shop.load(k, 100_00)
	h.collect(shop.batch())
	lost, next := shop.buy(k, 5_00).Record, shop.buy(k, 1_00).Record
	x, err := h.office.KeepDoubt(ctx, teaTill, lost.Clearing, false)
	if err != nil || x.State != acquiring.DoubtOpen || x.Shop != tea {
		t.Fatalf("%+v %v", x, err)
	}
	h.collect(pboc.ClearingBatch{TID: teaTill, First: next.Number, Records: []pboc.Clearing{next.Clearing}})
	h.read(func(q *db.Query) (err error) { x, err = acquiring.DoubtOf(q, x.ID); return err })
	if paid, known, err := acquiring.Evidence(nil, x); x.State != acquiring.DoubtPaid || !paid || !known || err != nil || x.Told.Missing != 5_00 {
		t.Errorf("%+v", x)
	}
	h.want("told", map[ledger.AccountID]int64{issuing.Float(k.id): 94_00, settlement.Payable(tea): 1_00, wallet.Account(lin): 1905_00})
	equal(t, "after all", fates(h.collect(shop.batch())), "known", "booked", "known")
	h.want("after all", map[ledger.AccountID]int64{issuing.Float(k.id): 94_00, settlement.Payable(tea): 6_00, wallet.Account(lin): 1900_00})
}

// TestTornSaleIsRuled: the till has seen the payment in the card's log and given
// the goods; nothing else tells, so the desk rules.
func TestTornSaleIsRuled(t *testing.T) {
	h := newHouse(t)
	shop, k := h.till(), h.issue(issuing.ECashCard)
	shop.load(k, 100_00)
	h.collect(shop.batch())
	lost := shop.buy(k, 5_00).Record
	x, err := h.office.KeepDoubt(ctx, teaTill, lost.Clearing, true)
	h.must(err)
	rule := func(by string) (err error) {
		return h.store.Write(ctx, func(tx *db.Tx) error {
			x, err = acquiring.Rule(tx, x.ID, true, by, "the log shows it")
			return err
		})
	}
	id := x.ID
	if err := rule(""); !errors.Is(err, acquiring.ErrRuling) {
		t.Error(err)
	}
	x.ID = id
	h.must(rule("staff"))
	if x.State != acquiring.DoubtPaid || x.By != "staff" || x.Moved != 5_00 {
		t.Errorf("%+v", x)
	}
	if err := rule("staff"); !errors.Is(err, acquiring.ErrRuled) {
		t.Error(err)
	}
	want := map[ledger.AccountID]int64{issuing.Float(k.id): 95_00, settlement.Payable(tea): 5_00}
	h.want("ruled", want)
	equal(t, "after all", fates(h.collect(shop.batch())), "known", "booked")
	h.want("after all", want)
	stranger := lost.Clearing
	stranger.PAN = "6228000100001117"
	if x, err := h.office.KeepDoubt(ctx, teaTill, stranger, false); err != nil || x.ID != "" {
		t.Errorf("%+v %v", x, err)
	}
	h.read(func(q *db.Query) error {
		odd, err := acquiring.OddOnes(q, "", 10)
		if len(odd) != 1 || odd[0].What != "doubt" || odd[0].Why != acquiring.WhyCard {
			t.Errorf("%+v", odd)
		}
		return err
	})
}

// TestDoubtDecidedElsewhere: a load over the air, which the shop's side does not
// see, proves the payment; the shop has its money all the same.
func TestDoubtDecidedElsewhere(t *testing.T) {
	h := newHouse(t)
	shop, k := h.till(), h.issue(issuing.ECashCard)
	shop.load(k, 100_00)
	h.collect(shop.batch())
	lost := shop.buy(k, 5_00).Record
	if _, err := h.office.KeepDoubt(ctx, teaTill, lost.Clearing, true); err != nil {
		t.Fatal(err)
	}
	h.want("in doubt", map[ledger.AccountID]int64{settlement.Payable(tea): 0})
	shop.over = issuing.NewBank(h.store, h.keys)
	shop.load(k, 10_00)
	h.want("told", map[ledger.AccountID]int64{settlement.Payable(tea): 5_00, issuing.Float(k.id): 95_00})
	equal(t, "after all", fates(h.collect(shop.batch())), "known", "booked", "booked")
	h.want("after all", map[ledger.AccountID]int64{settlement.Payable(tea): 5_00, issuing.Float(k.id): 105_00})
}

// TestWords: everything that pages show of it is in both languages.
func TestWords(t *testing.T) {
	said := func(what string, words func(bool) string) {
		if en, zh := words(false), words(true); en == "" || zh == "" || en == zh {
			t.Errorf("%s: %q %q", what, en, zh)
		}
	}
	for _, w := range []acquiring.Why{acquiring.WhyCard, acquiring.WhyShort, acquiring.WhyFirm, acquiring.WhyNoFirm, acquiring.WhyPurchase, acquiring.WhyRefund,
		acquiring.WhyMAC, acquiring.WhyForked, acquiring.WhyNumber, acquiring.WhyDevice, acquiring.Why(issuing.FlawProof), acquiring.Why(issuing.FlawNotDue)} {
		said(string(w), w.Words)
	}
	for _, f := range []acquiring.Fate{acquiring.Booked, acquiring.Known, acquiring.Suspense, acquiring.Odd} {
		said(string(f), f.Words)
	}
	for _, k := range []acquiring.Kind{acquiring.POS, acquiring.Canteen, acquiring.Door, acquiring.Coupon} {
		said(string(k), k.Words)
	}
	for _, s := range []acquiring.State{acquiring.Registered, acquiring.Active, acquiring.Suspended, acquiring.Retired} {
		said(string(s), s.Words)
	}
	for _, r := range []issuing.Reason{acquiring.NotHouse, acquiring.UsedSTAN} {
		said(string(r), func(zh bool) string { return acquiring.ReasonWords(r, zh) })
	}
}

// TestExceptionList: a lost card is refused at the till from the next pack on,
// and let in again when it is found.
func TestExceptionList(t *testing.T) {
	h := newHouse(t)
	shop, k, other := h.till(), h.issue(issuing.ECashCard), h.issue(issuing.ECashCard)
	shop.load(k, 50_00)
	shop.load(other, 50_00)
	deny := func(r purse.DenyReason) {
		t.Helper()
		h.do(func(tx *db.Tx) (err error) {
			if r == purse.Allowed {
				_, err = issuing.RestoreCard(tx, k.id)
			} else {
				_, err = issuing.SuspendCard(tx, k.id)
			}
			return err
		})
		pack, err := h.office.ExceptionPack(ctx, teaTill, shop.Deny().Version())
		h.must(err)
		h.must(shop.Deny().Apply(pack))
		if again, err := h.office.ExceptionPack(ctx, teaTill, shop.Deny().Version()); again != nil || err != nil {
			t.Errorf("%X %v", again, err)
		}
	}
	deny(purse.DenyLost)
	if r := shop.tap(k, 1_00); r.Outcome.Result == kernel.Approved {
		t.Error("a lost card pays")
	}
	shop.buy(other, 1_00)
	deny(purse.Allowed)
	shop.buy(k, 1_00)
	deny(purse.DenyLost)
	whole, err := h.office.ExceptionPack(ctx, teaTill, 0)
	h.must(err)
	if d, err := purse.OpenDenyDelta(h.packs, whole); err != nil || len(d.Changes) != 1 || d.From != 0 || d.To != 3 {
		t.Errorf("%d changes %d to %d: %v", len(d.Changes), d.From, d.To, err)
	}
}

// TestRegistry: what shops and devices have to be, and what changes nothing.
func TestRegistry(t *testing.T) {
	h := newHouse(t)
	h.do(h.furnish)
	write := func(f func(*db.Tx) error) error { return h.store.Write(ctx, f) }
	for _, tt := range []struct {
		name string
		f    func(*db.Tx) error
		want error
	}{
		{"shop without a category", func(tx *db.Tx) error {
			return acquiring.AddShop(tx, acquiring.Shop{ID: "shop_x", NameEN: "x", NameZH: "x", City: "Beijing"})
		}, acquiring.ErrShop},
		{"shop under another's id", func(tx *db.Tx) error {
			return acquiring.AddShop(tx, acquiring.Shop{ID: tea, NameEN: "x", NameZH: "x", MCC: "5812", City: "Beijing"})
		}, acquiring.ErrDiffers},
		{"shop of no site", func(tx *db.Tx) error {
			return acquiring.AddShop(tx, acquiring.Shop{ID: "shop_x", NameEN: "x", NameZH: "x", MCC: "5812", City: "Beijing", Site: "site_x"})
		}, acquiring.ErrNotFound},
		{"till under another merchant number", func(tx *db.Tx) error {
			return acquiring.AddDevice(tx, acquiring.Device{TID: "30008909", Kind: acquiring.POS, MID: "900100058129999", Shop: tea})
		}, acquiring.ErrDevice},
		{"door in a shop", func(tx *db.Tx) error {
			return acquiring.AddDevice(tx, acquiring.Device{TID: "00000306", Kind: acquiring.Door, Shop: tea, Site: yard})
		}, acquiring.ErrDevice},
		{"another device's number", func(tx *db.Tx) error {
			return acquiring.AddDevice(tx, acquiring.Device{TID: teaTill, Kind: acquiring.Coupon, Shop: tea})
		}, acquiring.ErrDiffers},
		{"firm without names", func(tx *db.Tx) error { return acquiring.AddFirm(tx, acquiring.Firm{ID: "firm_x"}) }, acquiring.ErrFirm},
		{"nothing paid in", func(tx *db.Tx) error { return acquiring.Fund(tx, "x", employer, money.Fen(0)) }, acquiring.ErrFirm},
		{"site without an owner", func(tx *db.Tx) error {
			return acquiring.AddSite(tx, acquiring.Site{ID: "site_x", Number: 9, NameEN: "x", NameZH: "x"})
		}, acquiring.ErrSite},
	} {
		if err := write(tt.f); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	b := pboc.ClearingBatch{TID: teaTill, First: 1}
	if _, err := h.office.CollectSales(ctx, teaTill, b); !errors.Is(err, acquiring.ErrState) {
		t.Errorf("before the installation: %v", err)
	}
	if _, err := h.office.Install(ctx, teaTill); !errors.Is(err, acquiring.ErrTransport) {
		t.Errorf("installed without a transport key: %v", err)
	}
	// A dead transport key is refused, and spends nothing.
	old, err := h.office.Transport(ctx, teaTill)
	h.must(err)
	dead, err := old.Key()
	h.must(err)
	_, err = h.office.Transport(ctx, teaTill)
	h.must(err)
	if _, err := h.office.InstallProven(ctx, teaTill, dead.Proof(teaTill)); !errors.Is(err, hsm.ErrTransport) || h.masters[teaTill] != nil {
		t.Errorf("installed under a dead transport key: %v", err)
	}
	h.till()
	first := h.masters[teaTill]
	if _, err := h.keys.NewWorking(ctx, teaTill, first, poskey.PIK, poskey.MAK); err != nil {
		t.Errorf("working keys under the master key: %v", err)
	}
	if _, err := h.office.Install(ctx, teaTill); !errors.Is(err, acquiring.ErrInstalled) {
		t.Errorf("installed twice: %v", err)
	}
	if _, err := h.office.Transport(ctx, teaTill); !errors.Is(err, acquiring.ErrState) {
		t.Errorf("a transport key for a device in use: %v", err)
	}
	h.do(func(tx *db.Tx) error { return acquiring.SetState(tx, teaTill, acquiring.Registered, "wang", "test") })
	if _, err := h.office.Install(ctx, teaTill); !errors.Is(err, acquiring.ErrTransport) {
		t.Errorf("installed under a used transport key: %v", err)
	}
	h.till()
	if second := h.masters[teaTill]; bytes.Equal(first, second) {
		t.Error("the same master key after another installation")
	}
	if _, err := h.office.CollectSales(ctx, lunchTill, b); !errors.Is(err, acquiring.ErrKind) {
		t.Errorf("a canteen's till sends sales: %v", err)
	}
	h.do(func(tx *db.Tx) error { return acquiring.SetState(tx, teaTill, acquiring.Retired, "wang", "test") })
	if err := write(func(tx *db.Tx) error { return acquiring.SetState(tx, teaTill, acquiring.Active, "wang", "test") }); !errors.Is(err, acquiring.ErrState) {
		t.Error(err)
	}
}
