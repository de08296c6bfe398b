package unionpay_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"koala/card"
	"koala/spec/iso8583"
	"koala/terminal"
	"koala/terminal/unionpay"
)

// allowed are the ends of a line's or a device's making; anything else is a
// defect.
func allowed(err error) bool {
	for _, e := range []error{nil, terminal.ErrPower, unionpay.ErrNotSent, unionpay.ErrNoAnswer, unionpay.ErrAnswer, unionpay.ErrMAC, unionpay.ErrReversal, unionpay.ErrRefused, unionpay.ErrKeyCheck} {
		if errors.Is(err, e) {
			return true
		}
	}
	return err == nil
}

// A day is a run of orders; after each the power may have gone.
var day = []struct {
	name string
	do   func(s *shop, p *purchaser) error
}{
	{"sign-on", func(s *shop, _ *purchaser) error { return s.pos.SignOn() }},
	{"sale", func(s *shop, _ *purchaser) error {
		_, err := s.pos.Do(unionpay.Order{Kind: unionpay.Sale, Fen: 100_00, Card: unionpay.Card{Track2: stripe}})
		return err
	}},
	{"tip", func(s *shop, _ *purchaser) error {
		if e, ok := s.pos.Find("0178"); ok && e.Kind == unionpay.Sale {
			_, err := s.pos.Do(unionpay.Order{Kind: unionpay.Tip, Fen: 110_00, STAN: e.STAN})
			return err
		}
		return nil
	}},
	{"tap", func(s *shop, p *purchaser) error {
		_, err := s.pos.Tap(p.present(card.Contactless), unionpay.Order{Kind: unionpay.Sale, Fen: 10_00})
		return err
	}},
	{"online tap", func(s *shop, p *purchaser) error {
		_, err := s.pos.Tap(p.present(card.Contactless), unionpay.Order{Kind: unionpay.Sale, Fen: 300_00})
		return err
	}},
	{"load", func(s *shop, p *purchaser) error {
		_, err := s.pos.Tap(p.present(card.Contactless), unionpay.Order{Kind: unionpay.Load, Fen: 20_00})
		return err
	}},
	{"refund", func(s *shop, _ *purchaser) error {
		_, err := s.pos.Do(unionpay.Order{Kind: unionpay.Refund, Fen: 5_00, Card: unionpay.Card{Track2: stripe}, Original: unionpay.Original{Batch: 1, STAN: 1, Date: "0228"}})
		return err
	}},
	{"void", func(s *shop, _ *purchaser) error {
		for _, e := range s.pos.Entries() {
			if e.Kind == unionpay.Sale && e.Get(55) == "" && !s.pos.Undone(e) {
				_, err := s.pos.Void(e.STAN)
				return err
			}
		}
		return nil
	}},
	{"settlement", func(s *shop, _ *purchaser) error { _, err := s.pos.Settle(); return err }},
}

// live runs a day, putting power back when it goes, and holds both sides
// against each other at its end.
func live(s *shop, p *purchaser, where string) {
	s.t.Helper()
	for _, step := range day {
		err := step.do(s, p)
		p.e.PowerOff()
		if !allowed(err) {
			s.t.Fatalf("%s, %s: %v", where, step.name, err)
		}
		if errors.Is(err, terminal.ErrPower) {
			s.boot()
		}
	}
	s.host.fault = nil
	if s.pos.Settling() {
		s.settle()
	}
	prove(s, p)
	s.equal(where)
	loaded := uint64(0)
	for _, d := range s.host.deals {
		if d.kind == "45" && d.code == "00" && !d.reversed {
			loaded += d.fen
		}
	}
	taps := uint64(0)
	for name, d := range s.host.deals {
		if d.kind != "36" {
			continue
		}
		if taps += d.fen; d.code != "00" {
			s.t.Fatalf("%s: tap %s refused", where, name)
		}
	}
	if got := p.holds(); got != 100_00+loaded-taps && got != 100_00+loaded-10_00 {
		s.t.Fatalf("%s: the card holds %d, loaded %d, taps %d", where, got, loaded, taps)
	}
	s.settle()
	if len(s.pos.Entries()) > 0 || s.pos.Totals() != (unionpay.Totals{}) {
		s.t.Fatalf("%s: left %v", where, s.pos.Entries())
	}
}

// prove has the card decide loads in doubt.
func prove(s *shop, p *purchaser) {
	s.t.Helper()
	if _, err := s.pos.Prove(p.present(card.Contact)); err != nil {
		s.t.Fatal(err)
	}
	p.e.PowerOff()
}

// Power goes at every write to every flash of a whole day in turn: shop, host
// and card end equal each time.
func TestPowerCut(t *testing.T) {
	whole := 0
	for flash := range 6 {
		if flash == 4 {
			continue // the exception list is not written
		}
		for n := 1; ; n++ {
			s, p := newShop(t), issue(t)
			f := s.flashes()[flash]
			f.CutAfter(n)
			before := f.Writes()
			live(s, p, fmt.Sprintf("flash %d, write %d", flash, n))
			if whole++; f.Writes()-before < n {
				break
			}
			if n%3 == 0 && testing.Short() {
				n += 5
			}
		}
	}
	t.Logf("%d days", whole)
}

// Every exchange of a day goes wrong in turn, in every way a line can.
func TestLineFaults(t *testing.T) {
	late := []byte(nil)
	ways := []struct {
		name string
		do   func(request, answer []byte) ([]byte, error) // answer nil: before the host
	}{
		{"not sent", func(_, a []byte) ([]byte, error) {
			if a == nil {
				return nil, unionpay.ErrNotSent
			}
			return a, nil
		}},
		{"lost on the way", func(_, a []byte) ([]byte, error) {
			if a == nil {
				return nil, errSilent
			}
			return a, nil
		}},
		{"answer lost", func(_, a []byte) ([]byte, error) {
			if a == nil {
				return nil, nil
			}
			return nil, errSilent
		}},
		{"garbage", func(_, a []byte) ([]byte, error) {
			if a == nil {
				return nil, nil
			}
			return a[:len(a)/2], nil
		}},
		{"wrong MAC", func(_, a []byte) ([]byte, error) {
			if a == nil {
				return nil, nil
			}
			a = bytes.Clone(a)
			a[len(a)-1] ^= 1
			return a, nil
		}},
		{"the answer before", func(_, a []byte) ([]byte, error) {
			if a == nil {
				return nil, nil
			}
			if late == nil {
				return nil, errSilent
			}
			return late, nil
		}},
		{"wrong trace", func(_, a []byte) ([]byte, error) {
			if a == nil {
				return nil, nil
			}
			m := new(iso8583.Message)
			if err := m.Unpack(iso8583.UnionPayPOS(), bytes.Clone(a)); err != nil {
				return nil, err
			}
			m.SetText(11, "999999")
			return must(m.Seal(nil, must(iso8583.NewKey(mak[:])))), nil
		}},
	}
	for _, way := range ways {
		for at := 1; ; at++ {
			s, p := newShop(t), issue(t)
			late = nil
			s.host.fault = func(n int, request, answer []byte) ([]byte, error) {
				if n == at || n == -at {
					return way.do(request, answer)
				}
				if n < 0 {
					late = bytes.Clone(answer)
				}
				return answer, nil
			}
			live(s, p, fmt.Sprintf("%s, exchange %d", way.name, at))
			if s.host.n < at {
				break
			}
		}
	}
}

// A reversal goes before anything new, with its reason, and is kept however
// long the line is dead.
func TestReversal(t *testing.T) {
	s := newShop(t)
	s.sell(1)
	dead := true
	s.host.fault = func(n int, _, answer []byte) ([]byte, error) {
		if dead && n < 0 {
			return nil, errSilent
		}
		return answer, nil
	}
	_, err := s.pos.Do(unionpay.Order{Kind: unionpay.Sale, Fen: 100_00, Card: unionpay.Card{Track2: stripe}})
	if !errors.Is(err, unionpay.ErrNoAnswer) {
		t.Fatal(err)
	}
	for i := range 5 {
		_, err := s.pos.Do(unionpay.Order{Kind: unionpay.Sale, Fen: 5, Card: unionpay.Card{Track2: stripe}})
		list, _ := s.pos.Pending()
		if !errors.Is(err, unionpay.ErrReversal) || len(list) != 1 || s.pos.NeedsHelp(list[0]) != (i >= 2) {
			t.Fatalf("%d: %v, %v", i, err, list)
		}
		if i == 3 {
			s.boot()
		}
	}
	dead = false
	if s.sell(7); !s.host.deals["000007/000003"].reversed {
		t.Error("the lost sale stands")
	}
	want := "0400 22000007000"
	if got := s.host.list[len(s.host.list)-2]; got[:len(want)] != want {
		t.Errorf("%v", s.host.list)
	}
	s.equal("reversal")
	if m := s.host.asked[len(s.host.asked)-2]; m.Text(39) != "98" || m.Text(11) != "000003" {
		t.Errorf("reason %s, trace %s", m.Text(39), m.Text(11))
	}
}
