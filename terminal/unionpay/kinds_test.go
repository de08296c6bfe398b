package unionpay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"koala/card"
	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/spec/iso8583"
	"koala/spec/purse"
	"koala/switching"
	"koala/switching/referral"
	"koala/switching/route"
	"koala/switching/single"
	"koala/terminal/unionpay"
)

var zoneMAC = [16]byte{0x51, 0xB2, 0xC3, 0xD4, 0xE5, 0xF6, 0x07, 0x18, 0x29, 0x3A, 0x4B, 0x5C, 0x6D, 0x7E, 0x8F, 0x92}

// A yes host is another issuer's: it approves whatever it is asked.
type yes struct{ told []string }

func (y *yes) Ask(_ context.Context, request []byte) ([]byte, error) {
	var m, out iso8583.Message
	if err := m.Unpack(iso8583.UnionPayInterchange(), request); err != nil {
		return nil, err
	}
	key := must(iso8583.NewKey(zoneMAC[:]))
	if err := m.Verify(key); err != nil {
		return nil, err
	}
	y.told = append(y.told, m.MTI()+" "+m.Text(3))
	if err := out.AnswerTo(&m, "00"); err != nil {
		return nil, err
	}
	out.SetText(38, "FAR001")
	return out.Seal(nil, key)
}

// Cards of the other issuer: with points, and of another country.
const (
	farStripe     = "6225880000000001D2912101"
	foreignStripe = "4000000000000002D2912101"
)

// kindsBank is the house's bank with another issuer behind the switch.
func kindsBank(t *testing.T) (*bank, *yes) {
	y := &yes{}
	b := openBank(t)
	pin, mac := switching.ZoneLabels("FAR")
	_, err1 := b.keys.Import(ctx, mac, hsm.ZoneKey, zoneMAC[:])
	if _, err2 := b.keys.Import(ctx, pin, hsm.ZoneKey, zoneMAC[:]); err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	b.write(func(tx *db.Tx) error {
		return errors.Join(route.Set(tx, route.Route{Prefix: "622588", Length: 16, Host: "FAR", Class: "credit"}),
			route.Set(tx, route.Route{Prefix: "4", Length: 16, Host: "FAR", Class: "credit", Foreign: true}))
	})
	b.host = switching.New(b.store, b.keys, b.bank, estate{}, switching.Config{Peers: map[string]switching.Peer{"FAR": y}})
	if err := b.host.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return b, y
}

// voice is a code of the house's bank for a sale by telephone.
func (b *bank) voice(c unionpay.Card, fen int64) (code string) {
	b.t.Helper()
	desk := referral.New(b.bank, b.keys)
	heard := must(desk.Hear(ctx, referral.Call{ID: fmt.Sprintf("call_%d_%d", fen, len(c.PAN)), Shop: shopID, Name: "Noodles", Number: c.PAN, Expiry: c.Expiry, Amount: money.Fen(fen)}))
	b.write(func(tx *db.Tx) error {
		r, err := desk.Decide(tx, heard)
		code = r.Code
		return err
	})
	return code
}

// shopHas is what the shop is due, fen.
func (b *bank) shopHas() int64 { _, _, payable := b.sums(); return payable }

// Every kind of the table and what takes it back, against the real switch: both
// sides count the same, and what was taken back left nothing.
func TestKindsAtTheSwitch(t *testing.T) {
	b, _ := kindsBank(t)
	s, c := b.install(), b.cardOf(issuing.CreditCard)
	s.pin = "123456"
	number, rest, _ := strings.Cut(c.track, "D")
	keyed := unionpay.Card{PAN: number, Expiry: rest[:4]}
	terms := unionpay.Terms{Parts: 3, Product: "PHONE"}
	do := func(o unionpay.Order) unionpay.Result {
		t.Helper()
		r, err := s.pos.Do(o)
		if err != nil || !r.Approved {
			t.Fatalf("%s: %v %s %s", o.Kind, err, r.Code, r.Words(false))
		}
		return r
	}
	for _, tt := range []struct {
		sale unionpay.Order
		void unionpay.Kind
	}{
		{unionpay.Order{Kind: unionpay.Sale, Fen: 1_00, Card: unionpay.Card{Track2: c.track}}, unionpay.SaleVoid},
		{unionpay.Order{Kind: unionpay.PhoneSale, Fen: 2_00, Card: keyed}, unionpay.PhoneVoid},
		{unionpay.Order{Kind: unionpay.Reservation, Fen: 3_00, Card: keyed}, unionpay.ReservationCancel},
		{unionpay.Order{Kind: unionpay.Instalment, Fen: 4_00, Card: unionpay.Card{Track2: c.track}, Terms: terms}, unionpay.InstalmentVoid},
		{unionpay.Order{Kind: unionpay.Points, Fen: 5_00, Card: unionpay.Card{Track2: farStripe}}, unionpay.PointsVoid},
		{unionpay.Order{Kind: unionpay.PreAuth, Fen: 6_00, Card: unionpay.Card{Track2: c.track}}, unionpay.PreAuthCancel},
		{unionpay.Order{Kind: unionpay.Sale, Fen: 7_00, Card: unionpay.Card{Code: b.code()}}, unionpay.SaleVoid},
	} {
		first := do(tt.sale)
		do(unionpay.Order{Kind: tt.void, STAN: first.STAN})
		if v, _ := s.pos.Entry(first.STAN); !s.pos.Undone(v) {
			t.Errorf("%s is not undone", tt.sale.Kind)
		}
		if tt.sale.Card.Code != "" {
			tt.sale.Card.Code = b.code()
		}
		do(tt.sale)
	}
	offline := do(unionpay.Order{Kind: unionpay.OfflineSale, Fen: 8_00, Card: keyed, Auth: b.voice(keyed, 8_00)})
	do(unionpay.Order{Kind: unionpay.Adjust, Fen: 9_00, STAN: offline.STAN})
	x := s.settle()
	if !x.Balanced {
		t.Fatalf("not balanced: %+v", x)
	}
	if got := b.shopHas(); got != 1_00+2_00+3_00+4_00+5_00+7_00+9_00 {
		t.Errorf("the shop has %d", got)
	}
	if x := s.settle(); !x.Balanced || x.Items != 0 {
		t.Errorf("the next batch: %+v", x)
	}
	before := b.shopHas() // 19 yuan of the house's card are booked: 19 points, each a fen
	if r := s.do(unionpay.Order{Kind: unionpay.Points, Fen: 20, Card: unionpay.Card{Track2: c.track}}); r.Code != "51" {
		t.Errorf("more points than there are: %s", r.Code)
	}
	first := do(unionpay.Order{Kind: unionpay.Points, Fen: 19, Card: unionpay.Card{Track2: c.track}})
	do(unionpay.Order{Kind: unionpay.PointsVoid, STAN: first.STAN})
	do(unionpay.Order{Kind: unionpay.Points, Fen: 15, Card: unionpay.Card{Track2: c.track}})
	if x := s.settle(); !x.Balanced || b.shopHas() != before+15 {
		t.Errorf("%+v, the shop has %d more", x, b.shopHas()-before)
	}
}

// A listener keeps the last request of a line.
type listener struct {
	*bank
	m iso8583.Message
}

func (l *listener) Exchange(request []byte) ([]byte, error) {
	if err := l.m.Unpack(iso8583.UnionPayPOS(), bytes.Clone(request)); err != nil {
		return nil, err
	}
	return l.bank.Exchange(request)
}

// Tracks travel with eight bytes under the track key; a terminal that has single
// keys only gets them once staff say so.
func TestWeakAndSealed(t *testing.T) {
	b := openBank(t)
	s, c := b.install(), b.card()
	l := &listener{bank: b}
	s.pin, s.cfg.SealTracks, s.cfg.Line = "123456", true, l
	s.boot()
	if r := s.do(unionpay.Order{Kind: unionpay.Sale, Fen: 1_00, Card: unionpay.Card{Track2: c.track}}); !r.Approved {
		t.Fatalf("sealed: %s", r.Code)
	}
	if got := l.m.Text(35); got == c.track || len(got) != len(c.track) || l.m.Text(53) != "2610000000000000" {
		t.Errorf("track %q, field 53 %s", got, l.m.Text(53))
	}
	s.cfg.SealTracks, s.cfg.Single = false, true
	s.boot()
	if err := s.pos.SignOn(); !errors.Is(err, unionpay.ErrRefused) {
		t.Fatalf("nobody let it have single keys: %v", err)
	}
	b.write(func(tx *db.Tx) error {
		return single.Allow(tx, s.cfg.Till.Kernel.TerminalID, true, "lin", "an old terminal")
	})
	if err := s.pos.SignOn(); err != nil {
		t.Fatal(err)
	}
	if r := s.do(unionpay.Order{Kind: unionpay.Sale, Fen: 2_00, Card: unionpay.Card{Track2: c.track}}); !r.Approved || l.m.Text(53) != "2000000000000000" {
		t.Fatalf("single: %s, field 53 %s", r.Code, l.m.Text(53))
	}
	if x := s.settle(); !x.Balanced || b.shopHas() != 3_00 {
		t.Errorf("%+v, the shop has %d", x, b.shopHas())
	}
}

// A load with cash and its undo: the shop owes what it took, and no more.
func TestCashLoad(t *testing.T) {
	b := openBank(t)
	s, c := b.install(), b.card()
	s.pin = "123456"
	tap := func(o unionpay.Order) unionpay.Result {
		t.Helper()
		r, err := s.pos.Tap(c.present(card.Contactless), o)
		if c.e.PowerOff(); err != nil {
			t.Fatal(o.Kind, err)
		}
		return r
	}
	r := tap(unionpay.Order{Kind: unionpay.LoadCash, Fen: 30_00})
	if !r.Approved || b.shopHas() != -30_00 || c.holds() != 30_00 {
		t.Fatalf("%s, the shop has %d, the card %d", r.Code, b.shopHas(), c.holds())
	}
	undo, err := s.pos.Do(unionpay.Order{Kind: unionpay.LoadCashUndo, STAN: r.STAN})
	if err != nil || undo.Approved || undo.Code != "12" { // the card has it
		t.Fatalf("undo of what the card has: %s, %v", undo.Code, err)
	}
	if x := s.settle(); !x.Balanced || b.shopHas() != -30_00 {
		t.Errorf("%+v, the shop has %d", x, b.shopHas())
	}
}

// A tap goes back in parts: in its batch out of the journal, days later with the
// card's number alone, and never more than was paid.
func TestTapRefundParts(t *testing.T) {
	b := openBank(t)
	s, c := b.install(), b.card()
	s.pin = "123456"
	tap := func(o unionpay.Order) unionpay.Result {
		t.Helper()
		r, err := s.pos.Tap(c.present(card.Contactless), o)
		if c.e.PowerOff(); err != nil {
			t.Fatal(o.Kind, err)
		}
		return r
	}
	if r := tap(unionpay.Order{Kind: unionpay.LoadCash, Fen: 30_00}); !r.Approved {
		t.Fatal(r.Code)
	}
	if x := s.settle(); !x.Balanced {
		t.Fatalf("%+v", x)
	}
	paid := tap(unionpay.Order{Kind: unionpay.Sale, Fen: 9_00})
	if paid.Kind != unionpay.TapSale || !paid.Approved {
		t.Fatal(paid.Kind, paid.Code)
	}
	part := s.do(unionpay.Order{Kind: unionpay.CashRefund, STAN: paid.STAN, Fen: 2_00})
	if !part.Approved || b.shopHas() != -30_00+7_00 {
		t.Fatalf("part: %s, the shop has %d", part.Code, b.shopHas())
	}
	if x := s.settle(); !x.Balanced || x.Totals.CreditFen != 2_00 {
		t.Errorf("%+v", x)
	}
	number, _, _ := strings.Cut(c.track, "D")
	late := unionpay.Order{Kind: unionpay.CashRefund, Fen: 4_00, Card: unionpay.Card{PAN: number}, Original: unionpay.Original{Batch: paid.Batch, STAN: paid.STAN, Date: paid.Get(13)}}
	if r := s.do(late); !r.Approved || b.shopHas() != -30_00+3_00 {
		t.Fatalf("later: %s, the shop has %d", r.Code, b.shopHas())
	}
	if r := s.do(late); r.Approved || r.Code != "64" {
		t.Errorf("more than is left: %s", r.Code)
	}
	late.Fen = 3_00
	if r := s.do(late); !r.Approved || b.shopHas() != -30_00 {
		t.Errorf("the rest: %s, the shop has %d", r.Code, b.shopHas())
	}
	if x := s.settle(); !x.Balanced {
		t.Errorf("%+v", x)
	}
}

// A code pays at one terminal and comes back at another, next day and without a
// card.
func TestPaymentCode(t *testing.T) {
	b := openBank(t)
	s := b.install()
	code := b.code()
	r := s.do(unionpay.Order{Kind: unionpay.Sale, Fen: 12_00, Card: unionpay.Card{Code: code}})
	if !r.Approved {
		t.Fatal(r.Code)
	}
	if again := s.do(unionpay.Order{Kind: unionpay.Sale, Fen: 1_00, Card: unionpay.Card{Code: code}}); again.Code != "54" {
		t.Errorf("a used code: %s", again.Code)
	}
	if x := s.settle(); !x.Balanced || b.shopHas() != 12_00 {
		t.Fatalf("%+v, the shop has %d", x, b.shopHas())
	}
	q := b.install()
	part := q.do(unionpay.Order{Kind: unionpay.Refund, Fen: 5_00, RRN: r.Get(37)})
	same := s.do(unionpay.Order{Kind: unionpay.Refund, Fen: 7_00, Original: unionpay.Original{Batch: r.Batch, STAN: r.STAN, Date: r.Get(13)}})
	if !part.Approved || !same.Approved || b.shopHas() != 0 {
		t.Errorf("%s, %s: the shop has %d", part.Code, same.Code, b.shopHas())
	}
	if x, y := q.settle(), s.settle(); !x.Balanced || !y.Balanced {
		t.Errorf("%+v %+v", x, y)
	}
}

// Cards of another country are counted apart by both sides; where one half
// differs, all items go up and what differs is a case.
func TestForeignTotals(t *testing.T) {
	b, _ := kindsBank(t)
	s := b.install()
	sell := func(track string, fen uint64) unionpay.Result {
		t.Helper()
		r := s.do(unionpay.Order{Kind: unionpay.Sale, Fen: fen, Card: unionpay.Card{Track2: track}})
		if !r.Approved {
			t.Fatal(r.Code)
		}
		return r
	}
	sell(farStripe, 10_00)
	void := sell(foreignStripe, 20_00)
	sell(foreignStripe, 30_00)
	s.do(unionpay.Order{Kind: unionpay.SaleVoid, STAN: void.STAN})
	if x := s.pos.Totals(); x.DebitFen != 10_00 || x.ForeignDebitFen != 50_00 || x.ForeignCredits != 1 || x.ForeignCreditFen != 20_00 {
		t.Fatalf("totals %+v", x)
	}
	if x := s.settle(); !x.Balanced || b.shopHas() != 40_00 {
		t.Fatalf("%+v, the shop has %d", x, b.shopHas())
	}
	sell(farStripe, 1_00)
	lost := sell(foreignStripe, 2_00)
	sell(foreignStripe, 4_00)
	b.write(func(tx *db.Tx) error { // the house has lost one of the foreign ones
		_, err := tx.Exec(`UPDATE switching_txn SET state = 'declined' WHERE tid = $1 AND batch = $2 AND stan = $3`, s.cfg.Till.Kernel.TerminalID, lost.Batch, lost.STAN)
		return err
	})
	x := s.settle()
	if x.Balanced || x.Items != 3 {
		t.Fatalf("%+v", x)
	}
	var list []switching.Difference
	if err := b.store.Read(ctx, func(q *db.Query) (err error) {
		list, err = switching.Differences(q, true, "", 10)
		return err
	}); err != nil || len(list) != 1 || list[0].What != switching.MissingAtHost || list[0].Theirs.Minor() != 2_00 {
		t.Errorf("cases %+v, %v", list, err)
	}
	if b.shopHas() != 45_00 {
		t.Errorf("the shop has %d", b.shopHas())
	}
}

// A signature goes up before the settlement, every message lost in turn, and is
// with the switch once.
func TestSignatureAtTheSwitch(t *testing.T) {
	b := openBank(t)
	one := picture(3)
	for lost := 0; lost < 2*(len(one)/900+2)+2; lost++ {
		s, c := b.install(), b.card()
		s.pin = "123456"
		r := s.do(unionpay.Order{Kind: unionpay.Sale, Fen: 9_00, Card: unionpay.Card{Track2: c.track}})
		if err := s.pos.Sign(r.STAN, one); err != nil || !r.Approved {
			t.Fatal(r.Code, err)
		}
		b.n = 0
		b.fault = func(n int, _ []byte) error {
			if n == lost/2+1 && lost%2 == 1 || n == -(lost/2+1) && lost%2 == 0 {
				return errSilent
			}
			return nil
		}
		if _, err := s.pos.Settle(); err != nil {
			if b.fault = nil; !allowed(err) {
				t.Fatal(err)
			}
			s.settle()
		}
		b.fault = nil
		var x switching.Txn
		if err := b.store.Read(ctx, func(q *db.Query) (err error) { x, err = switching.Transaction(q, r.Get(37)); return err }); err != nil {
			t.Fatal(err)
		}
		if got, err := b.host.Signature(ctx, x); err != nil || !bytes.Equal(got, one) {
			t.Fatalf("message %d: %d bytes of %d, %v", lost, len(got), len(one), err)
		}
	}
}

// A blocked card is refused at the till without the host, once the list has come
// down, in several pieces.
func TestBlackListAtTheSwitch(t *testing.T) {
	b := openBank(t)
	s, c := b.install(), b.card()
	s.cfg.Till.Key = must(b.keys.PublicKey(ctx, hsm.LabelPack))
	s.boot()
	s.pin = "123456"
	if r, err := s.pos.Tap(c.present(card.Contactless), unionpay.Order{Kind: unionpay.LoadCash, Fen: 30_00}); err != nil || !r.Approved {
		t.Fatal(r.Code, err)
	}
	tap := func(fen uint64) unionpay.Result {
		t.Helper()
		r, err := s.pos.Tap(c.present(card.Contactless), unionpay.Order{Kind: unionpay.Sale, Fen: fen})
		if c.e.PowerOff(); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := tap(1_00); !r.Approved || r.Code != "" {
		t.Fatalf("before: %s", r.Words(false))
	}
	for range 100 { // the list is longer than one answer holds
		x := b.account(issuing.DebitCard)
		b.write(func(tx *db.Tx) error { return issuing.DenyCard(tx, x.ID, purse.DenyLost) })
	}
	b.write(func(tx *db.Tx) error { return issuing.DenyCard(tx, c.id, purse.DenyLost) })
	b.fault = func(int, []byte) error { b.now.Advance(1500 * time.Millisecond); return nil }
	for range 2 {
		if err := s.pos.Download(unionpay.WantBlackList); err != nil {
			t.Fatal(err)
		}
	}
	b.fault = func(int, []byte) error { return errSilent } // offline from here on
	if n := s.pos.Till().Deny().Version(); n != 101 {
		t.Errorf("version %d", n)
	}
	if r := tap(1_00); r.Approved {
		t.Error("a blocked card paid")
	}
}
