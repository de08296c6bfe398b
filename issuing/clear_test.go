package issuing_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
	"koala/wallet"
)

// Roots of card keys, which a scheme would have given the house.
var (
	rootAC  = [16]byte{0xF0, 0xC3, 0x48, 0x81, 0x24, 0xCE, 0xE0, 0xA9, 0x1A, 0x0B, 0x03, 0x4A, 0xA9, 0x7D, 0x6E, 0xAC}
	rootMAC = [16]byte{0x12, 0xB1, 0xAC, 0x4A, 0xF0, 0x70, 0xCC, 0x35, 0x61, 0x2B, 0xFE, 0x2D, 0x30, 0xAB, 0x60, 0x0D}
)

// A paper is a card that is nothing but its keys, its counter and its e-cash:
// what it says is what a card's element would.
type paper struct {
	h       *bankHouse
	id      issuing.CardID
	number  string
	ac, mac *pboc.Key
	atc     uint16
	fen     int64
	stan    uint32
}

// paper opens a card with e-cash on it.
func (h *bankHouse) paper(product, band string, fen int64) *paper {
	h.t.Helper()
	c := h.open(product, band)
	h.do(func(tx *db.Tx) error {
		if err := issuing.Begin(tx, c.ID); err != nil {
			return err
		}
		return issuing.Activate(tx, c.ID, issuing.Counters{Balance: money.Fen(0), At: tx.Now(), By: "test"})
	})
	keys, err := h.bank.Keys(context.Background(), c.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	own := func(root [16]byte) *pboc.Key {
		mk, err := emv.CardKey(root[:], keys.PAN, keys.PSN, emv.OptionA)
		if err != nil {
			h.t.Fatal(err)
		}
		return pboc.NewKey(pboc.TripleDES, [16]byte(mk))
	}
	p := &paper{h: h, id: c.ID, number: keys.PAN, ac: own(rootAC), mac: own(rootMAC)}
	if fen > 0 {
		a := p.ask(p.arqc(issuing.TypeLoad, fen))
		if a.Why != issuing.Approval {
			h.t.Fatalf("load: %s", a.Why)
		}
		h.do(func(tx *db.Tx) error { _, err := issuing.ReportScript(tx, a.Load, iso7816.OK); return err })
		p.fen = fen
	}
	return p
}

// says is a record of the next transaction. The card reports its e-cash as it is.
func (p *paper) says(kind pboc.ClearingKind, typ byte, fen int64, first pboc.Cryptogram) pboc.Clearing {
	p.atc, p.stan = p.atc+1, p.stan+1
	iad := pboc.IAD{DKI: 1, CVN: pboc.CVN01, CVR: pboc.NewCVR(first, pboc.NotRequested), Alg: pboc.TripleDES, Report: pboc.ReportBalance,
		Amounts: [2]uint64{uint64(p.fen)}}
	iad.Sign(p.mac.Session(p.atc), p.atc)
	c := pboc.Clearing{Kind: kind, PAN: p.number, PSN: 1, AID: []byte(pboc.AIDDebit), IAD: iad.Bytes(), ATC: p.atc, AIP: [2]byte{0x7C}, UN: [4]byte{1, 2, 3, 4},
		Type: typ, Fen: uint64(fen), Currency: 156, Country: 156, Date: [3]byte{0x15, 0x09, 0x16}, Time: [3]byte{0x12}, STAN: p.stan, Batch: 1,
		TID: "POS00001", MID: "MERCHANT0000001", Serial: "SERIAL01"}
	data, err := c.ACData()
	if err != nil {
		p.h.t.Fatal(err)
	}
	c.AC = p.ac.Session(p.atc).MAC(nil, data)
	return c
}

// tc pays offline.
func (p *paper) tc(fen int64) pboc.Clearing {
	p.fen -= fen
	return p.says(pboc.ClearSale, issuing.TypePurchase, fen, pboc.TC)
}

// inserted pays offline as a debit card: its e-cash stays as it is.
func (p *paper) inserted(fen int64) pboc.Clearing {
	c := p.says(pboc.ClearSale, issuing.TypePurchase, fen, pboc.TC)
	c.CVMResults = [3]byte(emv.NewCVMResults(emv.CVMRule{Code: emv.CVMNone, Condition: emv.CVMIfSupported}, emv.CVMResultOK))
	return c
}

// arqc wants to go online.
func (p *paper) arqc(typ byte, fen int64) pboc.Clearing {
	return p.says(pboc.ClearOnline, typ, fen, pboc.ARQC)
}

func as(c pboc.Clearing, kind pboc.ClearingKind) pboc.Clearing {
	c.Kind = kind
	return c
}

// ask sends a record's request.
func (p *paper) ask(c pboc.Clearing) issuing.Answer {
	p.h.t.Helper()
	a, err := p.h.bank.Authorise(context.Background(), p.request(c))
	if err != nil {
		p.h.t.Fatal(err)
	}
	return a
}

// request is what a record's terminal asks.
func (p *paper) request(c pboc.Clearing) issuing.Online {
	p.h.t.Helper()
	var out []byte
	for _, tag := range []tlv.Tag{emv.TagAC, emv.TagATC, emv.TagIAD, emv.TagAIP, emv.TagUN, emv.TagTVR, emv.TagDate, emv.TagType, emv.TagAmount,
		emv.TagAmountOther, emv.TagCurrency, emv.TagTerminalCountry, emv.TagPAN, emv.TagPSN} {
		v := c.Get(tag)
		if tag == emv.TagPSN {
			v, _ = hex.DecodeString(fmt.Sprintf("%02d", c.PSN))
		}
		out = tlv.Append(out, tag, v)
	}
	return issuing.Online{EMV: out, Payee: shop, Text: "NOODLES"}
}

// show lets the house hear the card without anything else.
func (p *paper) show() {
	p.h.t.Helper()
	if a := p.ask(p.arqc(issuing.TypeInquiry, 0)); a.Why != issuing.Approval {
		p.h.t.Fatalf("inquiry: %s", a.Why)
	}
}

func (h *bankHouse) clear(records ...pboc.Clearing) []issuing.Fate {
	h.t.Helper()
	out, err := h.bank.Clear(context.Background(), records, shop)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

// waits lists why records of a card wait.
func (h *bankHouse) waits(id issuing.CardID) (out []issuing.Flaw) {
	h.t.Helper()
	h.do(func(tx *db.Tx) error {
		list, err := issuing.InSuspense(tx, "", 500)
		for _, s := range list {
			if s.Card == id {
				out = append(out, s.Why)
			}
		}
		return err
	})
	slices.Sort(out)
	return out
}

// One line per way that a till and the house can hear of a counter: who has the
// money in the end, and what waits.
func TestWhatTillsHandIn(t *testing.T) {
	const fen = 10_00
	h := openBank(t, t.TempDir())
	h.rich()
	n := 0
	type kind = pboc.ClearingKind
	for _, tt := range []struct {
		name    string
		typ     byte
		offline bool
		asked   bool   // the request arrived
		kinds   []kind // handed in, in every order
		shop    int64
		mine    int64 // the account, against before
		float   int64
		waits   []issuing.Flaw
	}{
		{"sale", 0, true, false, []kind{1}, fen, 0, -fen, nil},
		{"sale reversed", 0, true, false, []kind{1, 2}, 0, fen, -fen, nil},
		{"paid for nothing", 0, true, false, []kind{2}, 0, fen, -fen, nil},
		{"goods came back", 0, true, false, []kind{1, 3}, 0, fen, -fen, nil},
		{"goods came back that nobody sold", 0, true, false, []kind{3}, 0, 0, 0, []issuing.Flaw{issuing.FlawNoSale}},
		{"reversed and taken back", 0, true, false, []kind{1, 2, 3}, 0, fen, -fen, []issuing.Flaw{issuing.FlawNoSale}},
		{"online", 0, false, true, []kind{4}, fen, -fen, 0, nil},
		{"online, as a sale", 0, false, true, []kind{4, 4}, fen, -fen, 0, nil},
		{"online given up", 0, false, true, []kind{5}, 0, 0, 0, nil},
		{"online taken back", 0, false, true, []kind{4, 5}, 0, 0, 0, nil},
		{"online, goods came back", 0, false, true, []kind{4, 3}, 0, 0, 0, nil},
		{"online that nobody asked for", 0, false, false, []kind{4}, 0, 0, 0, []issuing.Flaw{issuing.FlawNoAuth}},
		{"given up before it came", 0, false, false, []kind{5}, 0, 0, 0, nil},
		{"given up and told all the same", 0, false, false, []kind{4, 5}, 0, 0, 0, nil},
		{"an ARQC is no sale", 0, false, true, []kind{1}, 0, -fen, 0, []issuing.Flaw{issuing.FlawProof}},
		{"load", issuing.TypeLoad, false, true, []kind{4}, 0, -fen, fen, nil},
		{"load not there", issuing.TypeLoad, false, true, []kind{5}, 0, 0, 0, nil},
		{"load that nobody asked for", issuing.TypeLoad, false, false, []kind{4}, 0, 0, 0, []issuing.Flaw{issuing.FlawNoAuth}},
		{"load given up before it came", issuing.TypeLoad, false, false, []kind{5}, 0, 0, 0, nil},
		{"a load pays nobody", issuing.TypeLoad, false, true, []kind{3}, 0, -fen, 0, []issuing.Flaw{issuing.FlawNotDue}},
		{"refund without a sale", issuing.TypeRefund, false, true, []kind{3}, 0, 0, 0, []issuing.Flaw{issuing.FlawNoSale}},
		{"refund given up", issuing.TypeRefund, false, true, []kind{5}, 0, 0, 0, nil},
		{"refund that nobody asked for", issuing.TypeRefund, false, false, []kind{3}, 0, 0, 0, []issuing.Flaw{issuing.FlawNoAuth}},
		{"another type", 0x01, false, true, []kind{4}, 0, 0, 0, []issuing.Flaw{issuing.FlawNotDue}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			permute(tt.kinds, func(order []kind) {
				n++
				p := h.paper(issuing.DebitCard, fmt.Sprintf("band_%d", n), 50_00)
				before := map[ledger.AccountID]int64{}
				for _, a := range []ledger.AccountID{shop, wallet.Account(lin), issuing.Float(p.id)} {
					before[a] = h.available(a)
				}
				c := p.arqc
				if tt.offline {
					c = func(_ byte, fen int64) pboc.Clearing { return p.tc(fen) }
				}
				r := c(tt.typ, fen)
				if tt.asked {
					p.ask(r)
				}
				for _, k := range append(slices.Clone(order), order...) {
					h.clear(as(r, k))
				}
				for a, more := range map[ledger.AccountID]int64{shop: tt.shop, wallet.Account(lin): tt.mine, issuing.Float(p.id): tt.float} {
					if got := h.available(a) - before[a]; got != more {
						t.Errorf("%v: %.6s has %d more, want %d", order, a, got, more)
					}
				}
				if got := h.waits(p.id); !slices.Equal(got, tt.waits) {
					t.Errorf("%v: waits %v, want %v", order, got, tt.waits)
				}
				if !tt.asked && !tt.offline && slices.Contains(order, 5) {
					if a := p.ask(r); a.Why != issuing.GivenUp || a.ARC != "40" {
						t.Errorf("%v: a request after its cancellation: %q", order, a.Why)
					}
				}
			})
		})
	}
}

// rich gives Lin money for many cards.
func (h *bankHouse) rich() {
	h.t.Helper()
	h.do(func(tx *db.Tx) error {
		err := ledger.OpenAccount(tx, ledger.Account{ID: "source", Code: "1010", Name: "source", Currency: money.CNY})
		if err == nil {
			_, err = ledger.Post(tx, ledger.Move("rich", "source", wallet.Account(lin), money.Fen(1_000_000_00)))
		}
		return err
	})
}

// available is what an account holds and no hold blocks.
func (h *bankHouse) available(id ledger.AccountID) (fen int64) {
	h.t.Helper()
	h.do(func(tx *db.Tx) error {
		b, err := ledger.BalanceOf(tx, id)
		fen = b.Posted.Sub(b.Held).Minor()
		return err
	})
	return fen
}

// permute gives f every order of list.
func permute[T any](list []T, f func([]T)) {
	var put func(int)
	put = func(n int) {
		if n == len(list) {
			f(slices.Clone(list))
			return
		}
		for i := n; i < len(list); i++ {
			list[n], list[i] = list[i], list[n]
			put(n + 1)
			list[n], list[i] = list[i], list[n]
		}
	}
	put(0)
}

// A refund that the card was there for is bounded by what its shop still has of
// the card's money, by whichever way it was paid and given back.
func TestRefundIsBounded(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := openBankOn(t, cfg, t.TempDir())
		p := h.paper(issuing.DebitCard, "band_1", 50_00)
		var told int64
		h.bank.Watch(func(_ *db.Tx, m issuing.Movement) error {
			told += m.Fen.Minor()
			if m.Card != p.id || m.Payee != shop || m.Ref == "" {
				t.Errorf("movement %+v", m)
			}
			return nil
		})
		sale := p.tc(20_00)
		online := p.arqc(issuing.TypePurchase, 30_00)
		p.ask(online)
		refund := func(fen int64) pboc.Clearing {
			r := p.arqc(issuing.TypeRefund, fen)
			if a := p.ask(r); a.Why != issuing.Approval {
				t.Fatalf("refund: %q", a.Why)
			}
			return as(r, pboc.ClearRefund)
		}
		if f := h.clear(sale, online, refund(12_00), refund(38_00)); !slices.Equal(f, []issuing.Fate{issuing.Cleared, issuing.Cleared, issuing.Cleared, issuing.Cleared}) {
			t.Errorf("fates %v", f)
		}
		if f := h.clear(refund(1), as(sale, pboc.ClearRefund), as(online, pboc.ClearCancel)); !slices.Equal(f, []issuing.Fate{issuing.Suspense, issuing.Suspense, issuing.Suspense}) {
			t.Errorf("more than was sold: %v", f)
		}
		h.want("all given back", map[ledger.AccountID]int64{shop: 0, issuing.Float(p.id): 30_00, wallet.Account(lin): 2000_00 - 30_00})
		if told != 0 {
			t.Errorf("told of %d", told)
		}
		if a := p.ask(p.arqc(issuing.TypeRefund, 5000_01)); a.Why != issuing.OverLimit {
			t.Errorf("too much at once: %q", a.Why)
		}
		again := p.tc(10_00) // what waits for a sale is booked with it
		h.clear(again)
		h.want("the waiting ones", map[ledger.AccountID]int64{shop: 10_00 - 1, issuing.Float(p.id): 20_00})
	})
}

// A card's online requests as its holder sees them, newest first.
func TestRequests(t *testing.T) {
	h := openBank(t, t.TempDir())
	p := h.paper(issuing.DebitCard, "band_1", 10_00)
	paid, given, back := p.arqc(issuing.TypePurchase, 5_00), p.arqc(issuing.TypePurchase, 6_00), p.arqc(issuing.TypePurchase, 7_00)
	for _, c := range []pboc.Clearing{paid, given, back, p.arqc(issuing.TypePurchase, 5000_01), p.arqc(issuing.TypePurchase, 8_00)} {
		p.ask(c)
	}
	h.clear(paid, as(given, pboc.ClearCancel), back, as(back, pboc.ClearCancel))
	var got []string
	h.do(func(tx *db.Tx) error {
		list, err := issuing.Requests(tx, p.id, 0, 5)
		for _, r := range list {
			if r.Words(true) == r.Words(false) || r.Text != "NOODLES" || r.At.IsZero() {
				t.Errorf("%+v", r)
			}
			got = append(got, fmt.Sprintf("%d %s %s", r.ATC, r.Fen.Yuan(), r.Words(false)))
		}
		more, err2 := issuing.Requests(tx, p.id, 2, 5)
		if len(more) != 1 || more[0].ATC != 1 || more[0].Type != "load" {
			t.Errorf("before the second: %+v", more)
		}
		return errors.Join(err, err2)
	})
	want := []string{"6 8.00 approved, not yet paid", "5 5000.01 above a limit", "4 7.00 paid and given back", "3 6.00 given up", "2 5.00 paid"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// Everything that pages name has words in both languages.
func TestWords(t *testing.T) {
	both := func(what string, words func(bool) string) {
		if en, zh := words(false), words(true); en == "" || zh == "" || en == zh || en == what {
			t.Errorf("%s: %q %q", what, en, zh)
		}
	}
	for _, k := range []string{issuing.KindPayment, issuing.KindOffline, issuing.KindLoad, issuing.KindReversal, issuing.KindReturned, issuing.KindMoved,
		issuing.KindRepaid, "capture", "card.deposit", "card.deposit_back", "card.refund", "transit.debit", "canteen.purchase", "canteen.refund", "canteen.subsidy", "chargeback", "chargeback_returned"} {
		both(k, func(zh bool) string { w, _ := issuing.KindWords(k, zh); return w })
	}
	for _, f := range []issuing.Flaw{issuing.FlawUnknown, issuing.FlawProof, issuing.FlawCurrency, issuing.FlawShort, issuing.FlawDiffers, issuing.FlawNoSale,
		issuing.FlawNotDue, issuing.FlawNoAuth, issuing.FlawOver, issuing.FlawNoAccount} {
		both(string(f), f.Words)
	}
	for _, s := range []issuing.DoubtState{issuing.DoubtWaiting, issuing.DoubtRecord, issuing.DoubtPaid, issuing.DoubtUnpaid} {
		both(string(s), s.Words)
	}
	for _, r := range []issuing.Reason{issuing.Approval, issuing.CardDeclined, issuing.InProgress, issuing.OtherAmount, issuing.UnknownCard, issuing.Malformed,
		issuing.GivenUp, issuing.Lost, issuing.NoMoney, issuing.Expired, issuing.WrongPIN, issuing.NotOffered, issuing.OverLimit, issuing.NotActive,
		issuing.BadCryptogram, issuing.NoTries, issuing.Repeated} {
		both("reason "+string(r), r.Words)
		if len(r.Code()) != 2 {
			t.Errorf("%q has code %q", r, r.Code())
		}
	}
}

// A shop is paid for what a card approved by itself, whatever the account has:
// the rest is owed, and is taken first from what comes in. Any order and any
// repetition of records and money comes to the same, and no fen is made or lost.
func TestWhatTheAccountLacks(t *testing.T) {
	h := openBank(t, t.TempDir())
	h.rich()
	account, n := wallet.Account(lin), 0
	owes := func() (fen int64) {
		h.do(func(tx *db.Tx) error {
			if b, err := ledger.BalanceOf(tx, issuing.Owed(account)); err == nil {
				fen = -b.Posted.Minor()
			}
			return nil
		})
		return fen
	}
	put := func(fen int64) { // below zero: away
		n++
		h.do(func(tx *db.Tx) error {
			_, err := ledger.Post(tx, ledger.Move(fmt.Sprint("put", n), "source", account, money.Fen(fen)))
			return err
		})
	}
	put(-h.available(account))
	p := h.paper(issuing.DebitCard, "band_1", 0)
	rapid.Check(t, func(t *rapid.T) {
		amounts := rapid.SliceOfN(rapid.Int64Range(1, 50_00), 1, 5).Draw(t, "amounts")
		fund := rapid.SliceOfN(rapid.Int64Range(1, 60_00), 0, 3).Draw(t, "money")
		back := rapid.SliceOfN(rapid.Bool(), len(amounts), len(amounts)).Draw(t, "reversed")
		has := func() int64 {
			if err := h.bank.Recover(context.Background()); err != nil {
				t.Fatal(err)
			}
			if owes() < 0 {
				t.Fatalf("%d fen are owed to the holder", -owes())
			}
			return h.available(account) - owes()
		}
		before, theirs := has(), h.available(shop)
		var deeds []func()
		want, in := int64(0), int64(0)
		for i, fen := range amounts {
			c := p.inserted(fen)
			deeds = append(deeds, func() { h.clear(c) }, func() { h.clear(c) })
			if back[i] {
				deeds = append(deeds, func() { h.clear(as(c, pboc.ClearReversal)) })
			} else {
				want += fen
			}
		}
		for _, fen := range fund {
			in += fen
			deeds = append(deeds, func() { put(fen) })
		}
		for _, f := range rapid.Permutation(deeds).Draw(t, "order") {
			f()
			has()
		}
		if after := has(); after != before+in-want || h.available(shop) != theirs+want || len(h.waits(p.id)) > 0 {
			t.Fatalf("holder %d to %d with %d in; shop %d more, want %d; waits %v", before, after, in, h.available(shop)-theirs, want, h.waits(p.id))
		}
		if own := h.available(account); own > 0 && owes() > 0 {
			t.Fatalf("the account has %d and yet %d are owed", own, owes())
		}
	})
}
