package unionpay_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"koala/card"
	"koala/spec/iso7816"
	"koala/spec/iso8583"
	"koala/terminal/kernel"
	"koala/terminal/unionpay"
)

func totals(x unionpay.Totals) string {
	return fmt.Sprintf("%012d%03d%012d%03d0", x.DebitFen, x.Debits, x.CreditFen, x.Credits)
}

// One line per kind: what goes over the wire, and what it does to the totals.
func TestKinds(t *testing.T) {
	swipe := unionpay.Card{Track2: stripe}
	keyed := unionpay.Card{PAN: "6228880100000000178", Expiry: "2509"}
	sale := unionpay.Order{Kind: unionpay.Sale, Fen: 100_00, Card: swipe}
	auth := unionpay.Order{Kind: unionpay.PreAuth, Fen: 200_00, Card: swipe}
	voice := unionpay.Order{Kind: unionpay.OfflineSale, Fen: 50_00, Card: keyed, Auth: "V00001"}
	other := unionpay.Original{Batch: 3, STAN: 44, Date: "0215"}
	for _, tt := range []struct {
		name   string
		first  unionpay.Order // zero: none; the second names it
		order  unionpay.Order
		mti    string
		f3     string
		f25    string
		kind   string
		entry  string
		totals string
	}{
		{"balance", unionpay.Order{}, unionpay.Order{Kind: unionpay.Balance, Card: swipe}, "0200", "310000", "00", "01", "021", "0/0 0/0"},
		{"sale", unionpay.Order{}, sale, "0200", "000000", "00", "22", "021", "1/10000 0/0"},
		{"keyed sale", unionpay.Order{}, unionpay.Order{Kind: unionpay.Sale, Fen: 1, Card: keyed}, "0200", "000000", "00", "22", "011", "1/1 0/0"},
		{"code", unionpay.Order{}, unionpay.Order{Kind: unionpay.Sale, Fen: 1, Card: unionpay.Card{Code: "281234567890123456"}}, "0200", "000000", "00", "22", "032", "1/1 0/0"},
		{"void", sale, unionpay.Order{Kind: unionpay.SaleVoid}, "0200", "200000", "00", "23", "022", "1/10000 1/10000"},
		{"refund", unionpay.Order{}, unionpay.Order{Kind: unionpay.Refund, Fen: 30_00, Card: swipe, Original: other}, "0220", "200000", "00", "25", "022", "0/0 1/3000"},
		{"refund of this batch", sale, unionpay.Order{Kind: unionpay.Refund, Fen: 30_00}, "0220", "200000", "00", "25", "022", "1/10000 1/3000"},
		{"pre-authorisation", unionpay.Order{}, auth, "0100", "030000", "06", "10", "021", "0/0 0/0"},
		{"its cancel", auth, unionpay.Order{Kind: unionpay.PreAuthCancel}, "0100", "200000", "06", "11", "022", "0/0 0/0"},
		{"completion", auth, unionpay.Order{Kind: unionpay.Completion, Fen: 230_00}, "0200", "000000", "06", "20", "022", "1/23000 0/0"},
		{"completion of another day", unionpay.Order{}, unionpay.Order{Kind: unionpay.Completion, Fen: 9_00, Card: keyed, Original: other, Auth: "A00009"}, "0200", "000000", "06", "20", "012", "1/900 0/0"},
		{"completion advice", auth, unionpay.Order{Kind: unionpay.CompletionAdvice, Fen: 100_00}, "0220", "000000", "06", "24", "022", "1/10000 0/0"},
		{"offline sale", unionpay.Order{}, voice, "0220", "000000", "00", "30", "012", "1/5000 0/0"},
		{"adjustment", voice, unionpay.Order{Kind: unionpay.Adjust, Fen: 60_00}, "0220", "000000", "00", "32", "012", "1/6000 0/0"},
		{"tip", sale, unionpay.Order{Kind: unionpay.Tip, Fen: 115_00}, "0220", "000000", "00", "34", "022", "1/11500 0/0"},
		{"instalments", unionpay.Order{}, unionpay.Order{Kind: unionpay.Instalment, Fen: 600_00, Card: swipe, Terms: unionpay.Terms{Parts: 6}}, "0200", "000000", "64", "22", "021", "1/60000 0/0"},
		{"points", unionpay.Order{}, unionpay.Order{Kind: unionpay.Points, Fen: 5, Card: swipe}, "0200", "000000", "65", "22", "021", "1/5 0/0"},
		{"by phone", unionpay.Order{}, unionpay.Order{Kind: unionpay.PhoneSale, Fen: 5, Card: keyed}, "0200", "000000", "08", "22", "012", "1/5 0/0"},
		{"reservation", unionpay.Order{}, unionpay.Order{Kind: unionpay.Reservation, Fen: 5, Card: keyed}, "0200", "000000", "67", "54", "012", "1/5 0/0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newShop(t)
			s.pin = "1234"
			if tt.first.Kind != 0 {
				tt.order.STAN = s.do(tt.first).STAN
			}
			r := s.do(tt.order)
			if !r.Approved {
				t.Fatalf("%v %s", r.Entry, r.Code)
			}
			if _, _, err := s.pos.Flush(); err != nil {
				t.Fatal(err)
			}
			m := s.host.asked[len(s.host.asked)-1]
			if m.MTI() != tt.mti || m.Text(3) != tt.f3 || m.Text(25) != tt.f25 || m.Text(60)[:2] != tt.kind || m.Text(22) != tt.entry {
				t.Errorf("%s %s %s %s %s", m.MTI(), m.Text(3), m.Text(25), m.Text(60), m.Text(22))
			}
			if m.Has(52) != (tt.entry[2] == '1') || m.Has(52) && under(m.Get(52), m.Text(2)) != "1234" {
				t.Error("PIN")
			}
			x := s.pos.Totals()
			if got := fmt.Sprintf("%d/%d %d/%d", x.Debits, x.DebitFen, x.Credits, x.CreditFen); got != tt.totals {
				t.Errorf("totals %s, want %s", got, tt.totals)
			}
			s.equal(tt.name)
			for _, zh := range []bool{false, true} {
				text := strings.Join(s.pos.Receipt(r.Entry, zh, zh), "\n")
				if strings.Contains(text, "6228880100000000178") || !strings.Contains(text, r.Kind.Words(zh)) {
					t.Error(text)
				}
			}
			if x := s.settle(); !x.Balanced || x.Next != 8 && len(s.host.deals) > 0 && x.Totals != (unionpay.Totals{}) {
				t.Errorf("%+v", x)
			}
		})
	}
}

// Cards with a chip: offline from e-cash, online by both interfaces, and the
// certificates that follow at settlement.
func TestChip(t *testing.T) {
	s, p := newShop(t), issue(t)
	tap := func(o unionpay.Order) unionpay.Result {
		t.Helper()
		r, err := s.pos.Tap(p.present(card.Contactless), o)
		if err != nil {
			t.Fatal(err)
		}
		p.e.PowerOff()
		return r
	}
	if r := tap(unionpay.Order{Kind: unionpay.Sale, Fen: 12_50}); !r.Approved || r.Kind != unionpay.TapSale || r.State != unionpay.Due || p.holds() != 87_50 || s.host.n > 1 {
		t.Fatalf("tap: %v, card holds %d", r.Entry, p.holds())
	}
	r := tap(unionpay.Order{Kind: unionpay.Sale, Fen: 200_00}) // more than its e-cash
	if !r.Approved || r.Kind != unionpay.Sale || r.Get(22) != "072" || r.Get(37) == "" {
		t.Fatalf("online tap: %v %v", r.Entry, r.Chip.Outcome)
	}
	r, err := s.pos.Insert(p.present(card.Contact), unionpay.Order{Kind: unionpay.PreAuth, Fen: 50_00})
	if err != nil || !r.Approved || r.Get(22)[:2] != "05" || r.Chip.Outcome.Result != kernel.Approved {
		t.Fatalf("insert: %v, %v", r, err)
	}
	m := s.host.asked[len(s.host.asked)-1]
	if m.Text(2) != number || m.Text(23) != "001" || m.Text(14) != "3412" || m.Get(55) == nil || m.Text(35)[:16] != number {
		t.Errorf("asked %v", m)
	}
	s.equal("chips")
	for _, zh := range []bool{false, true} {
		if text := strings.Join(s.pos.Receipt(r.Entry, true, zh), "\n"); !strings.Contains(text, "TC ") || !strings.Contains(text, "KOALA E-CASH  AID A000000333") || strings.Contains(text, number) {
			t.Error(text)
		}
	}
	if x := s.settle(); !x.Balanced || x.Items == 0 || x.Next != 8 {
		t.Errorf("%+v", x)
	}
	if s.equal("after"); len(s.pos.Entries()) > 0 || s.pos.Batch() != 8 || s.pos.Till().Waiting() > 0 {
		t.Errorf("left: %v", s.pos.Entries())
	}
}

// A load: the card takes the script and the host is told; what nobody saw
// arrive waits for the card.
func TestLoad(t *testing.T) {
	s, p := newShop(t), issue(t)
	r, err := s.pos.Tap(p.present(card.Contactless), unionpay.Order{Kind: unionpay.Load, Fen: 50_00})
	if p.e.PowerOff(); err != nil || !r.Approved || p.holds() != 150_00 {
		t.Fatalf("%v %v, holds %d", r, err, p.holds())
	}
	s.equal("load")
	if !strings.Contains(strings.Join(s.host.list, ","), "0620 45") {
		t.Errorf("no notice: %v", s.host.list)
	}
	n := len(s.host.list)
	if s.equal("again"); len(s.host.list) != n {
		t.Error("the notice goes twice")
	}
	unsure := 0
	for lost := 1; lost <= 24; lost++ {
		s, p := newShop(t), issue(t)
		p.e.LoseAnswer(lost)
		_, err := s.pos.Tap(p.present(card.Contactless), unionpay.Order{Kind: unionpay.Load, Fen: 50_00})
		p.e.PowerOff()
		if err != nil {
			t.Fatal(lost, err)
		}
		if lost%2 == 0 {
			s.boot()
		}
		if list, _ := s.pos.Pending(); len(list) == 1 && list[0].State == unionpay.Unsure {
			unsure++
			if _, _, err := s.pos.Flush(); err != nil {
				t.Fatal(err)
			}
			holds := p.holds()
			decided, err := s.pos.Prove(p.present(card.Contact))
			if p.e.PowerOff(); err != nil || len(decided) != 1 || (decided[0].State == unionpay.Done) != (holds == 150_00) {
				t.Fatalf("answer %d: %v, %v, holds %d", lost, decided, err, holds)
			}
		}
		s.equal(fmt.Sprint("answer ", lost))
		loaded := p.holds() == 150_00
		for name, d := range s.host.deals {
			if d.kind == "45" && d.code == "00" && d.reversed == loaded {
				t.Fatalf("answer %d: %s reversed %v, card loaded %v", lost, name, d.reversed, loaded)
			}
		}
	}
	if unsure == 0 {
		t.Error("no load was ever in doubt")
	}
}

// Loads with cash and from another card, the e-cash refund of a tap, instalments
// by chip: what goes over the wire.
func TestChipKinds(t *testing.T) {
	s, p := newShop(t), issue(t)
	s.pin = "1234"
	last := func() *iso8583.Message { return s.host.asked[len(s.host.asked)-1] }
	insert := func(o unionpay.Order) unionpay.Result {
		t.Helper()
		r, err := s.pos.Insert(p.present(card.Contact), o)
		if p.e.PowerOff(); err != nil || !r.Approved {
			t.Fatalf("%v: %v %v", o.Kind, r, err)
		}
		return r
	}
	r := insert(unionpay.Order{Kind: unionpay.LoadOther, Fen: 20_00, Card: unionpay.Card{Track2: stripe}})
	if m := last(); m.Text(3) != "620000" || m.Text(2) != "6228880100000000178" || strings.TrimSpace(m.Text(62)) != number || m.Text(22) != "051" || under(m.Get(52), m.Text(2)) != "1234" || p.holds() != 120_00 {
		t.Errorf("%v, holds %d", r.Entry, p.holds())
	}
	insert(unionpay.Order{Kind: unionpay.LoadCash, Fen: 30_00})
	if m := last(); m.Text(3) != "630000" || m.Text(60)[:2] != "46" || p.holds() != 150_00 || s.pos.Totals().CreditFen != 30_00 {
		t.Errorf("holds %d, %+v", p.holds(), s.pos.Totals())
	}
	insert(unionpay.Order{Kind: unionpay.Instalment, Fen: 60_00, Terms: unionpay.Terms{Parts: 12, Product: "PHONE", Spread: true}})
	if m := last(); m.Text(62) != "12PHONE"+strings.Repeat(" ", 25)+"1" || m.Text(25) != "64" {
		t.Errorf("%q", m.Text(62))
	}
	tap, err := s.pos.Tap(p.present(card.Contactless), unionpay.Order{Kind: unionpay.Sale, Fen: 9_00})
	if p.e.PowerOff(); err != nil || tap.Kind != unionpay.TapSale {
		t.Fatal(tap, err)
	}
	if part := s.do(unionpay.Order{Kind: unionpay.CashRefund, STAN: tap.STAN, Fen: 2_00}); !part.Approved || part.Fen() != 2_00 || s.pos.Undone(tap.Entry) {
		t.Errorf("part of a tap: %v", part.Entry)
	}
	if _, err := s.pos.Do(unionpay.Order{Kind: unionpay.CashRefund, STAN: tap.STAN, Fen: 7_01}); !errors.Is(err, unionpay.ErrLimit) {
		t.Errorf("more than is left: %v", err)
	}
	back := s.do(unionpay.Order{Kind: unionpay.CashRefund, STAN: tap.STAN})
	if m := last(); !back.Approved || !s.pos.Undone(tap.Entry) || m.Text(60)[:2] != "27" || m.Text(61)[:12] != fmt.Sprintf("%06d%06d", tap.Batch, tap.STAN) || len(m.Get(55)) == 0 || back.Fen() != 7_00 {
		t.Errorf("%v %s", back.Entry, m.Text(61))
	}
	if _, err := s.pos.Do(unionpay.Order{Kind: unionpay.CashRefund, STAN: tap.STAN}); !errors.Is(err, unionpay.ErrUndone) {
		t.Error(err)
	}
	s.equal("chip kinds")
	if x := s.settle(); !x.Balanced {
		t.Errorf("%+v", x)
	}
}

// A sale whose tip the host has not been told is voided with its tip.
func TestVoidAfterTip(t *testing.T) {
	s := newShop(t)
	r := s.sell(100_00)
	s.do(unionpay.Order{Kind: unionpay.Tip, STAN: r.STAN, Fen: 110_00})
	if v := s.do(unionpay.Order{Kind: unionpay.SaleVoid, STAN: r.STAN}); !v.Approved || v.Fen() != 110_00 {
		t.Errorf("%v %s", v.Entry, v.Code)
	}
	if s.equal("tip"); s.pos.Totals().Net() != 0 {
		t.Errorf("%+v", s.pos.Totals())
	}
}

// A stripe stands in for a chip only after the chip failed, and says so.
func TestFallback(t *testing.T) {
	s := newShop(t)
	swipe := unionpay.Order{Kind: unionpay.Sale, Fen: 5, Card: unionpay.Card{Track2: chipped}}
	if _, err := s.pos.Do(swipe); !errors.Is(err, unionpay.ErrUseChip) {
		t.Error(err)
	}
	broken := func(iso7816.Command) (iso7816.Response, error) {
		return iso7816.Response{SW: iso7816.SWFileNotFound}, nil
	}
	if r, err := s.pos.Insert(broken, unionpay.Order{Kind: unionpay.Sale, Fen: 5}); err != nil || r.Approved {
		t.Fatal(r, err)
	}
	s.do(swipe)
	if m := s.host.asked[len(s.host.asked)-1]; m.Text(22) != "802" || m.Text(60)[12] != '2' {
		t.Errorf("%s %s", m.Text(22), m.Text(60))
	}
	if _, err := s.pos.Do(swipe); !errors.Is(err, unionpay.ErrUseChip) { // once
		t.Error(err)
	}
}
