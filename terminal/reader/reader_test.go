package reader_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"koala/card"
	"koala/internal/clock"
	"koala/terminal"
	"koala/terminal/reader"
	"koala/terminal/unionpay"
)

func (s *stall) sell(fen uint64) unionpay.Result {
	s.t.Helper()
	r, err := s.phone.Sell(unionpay.Order{Kind: unionpay.Sale, Fen: fen})
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// A swipe, a chip and a tap: the host sees the card and the PIN, the phone
// neither, and every request has its own key.
func TestSell(t *testing.T) {
	s, e := newStall(t), chip(t)
	r := s.sell(12_50)
	if x := s.host.sales[r.Name()]; !r.Approved || x.pan != pan || x.pin != "1234" || r.Get(22) != "021" || r.Card() != "622888*********0178" {
		t.Fatalf("%v, host %+v", r.Entry, x)
	}
	for _, i := range []card.Interface{card.Contact, card.Contactless} {
		s.present(e, i)
		r := s.sell(600_00)
		if e.PowerOff(); !r.Approved || s.host.sales[r.Name()].pan != number || !strings.HasPrefix(r.Get(22), map[card.Interface]string{card.Contact: "05", card.Contactless: "07"}[i]) {
			t.Fatalf("%v, host %+v", r.Entry, s.host.sales[r.Name()])
		}
		if text := strings.Join(s.phone.Receipt(r.Entry, false, true), "\n"); strings.Contains(text, number) || !strings.Contains(text, "KOALA DEBIT  AID") {
			t.Error(text)
		}
		s.present(e, i)
		v, err := s.phone.Void(r.STAN)
		if e.PowerOff(); err != nil || !v.Approved || s.host.sales[v.Name()].pan != number {
			t.Fatalf("void: %v %v", v, err)
		}
	}
	s.next = reader.Presented{Track2: stripe}
	if b, err := s.phone.Sell(unionpay.Order{Kind: unionpay.Balance}); err != nil || !b.Approved {
		t.Error(err)
	}
	s.equal("sell")
	clear := [][]byte{[]byte(pan), []byte(number), unhex(pan + "D"), unhex(number), unhex("0" + pan)}
	for _, f := range append(s.frames, s.host.seen...) {
		for _, c := range clear {
			if bytes.Contains(f, c) {
				t.Fatal("a card in clear outside of the reader")
			}
		}
	}
	if img := s.app.Journal.Image(); bytes.Contains(img, []byte(pan)) || bytes.Contains(img, []byte(number)) {
		t.Error("a card in the phone's journal")
	}
	if x, err := s.phone.Settle(); err != nil || !x.Balanced || x.Next != 4 {
		t.Errorf("%+v, %v", x, err)
	}
}

func unhex(s string) []byte {
	b, _ := hex.DecodeString(s[:len(s)/2*2])
	return b
}

// What a reader refuses, and says why.
func TestRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(s *stall)
		fen    uint64
		want   error
	}{
		{"over one sale", nil, reader.DefaultSingle + 1, reader.ErrLimit},
		{"battery", func(s *stall) { s.battery = 4 }, 1, reader.ErrBattery},
		{"no card", func(s *stall) { s.next = reader.Presented{} }, 1, reader.ErrCard},
		{"stripe of a chip card", func(s *stall) { s.next.Track2 = strings.Replace(stripe, "D2509101", "D2509201", 1) }, 1, reader.ErrCard},
		{"not a track", func(s *stall) { s.next.Track2 = "1D2" }, 1, reader.ErrCard},
		{"no PIN", func(s *stall) { s.pin = "" }, 1, reader.ErrPIN},
		{"short PIN", func(s *stall) { s.pin = "1" }, 1, reader.ErrPIN},
	} {
		s := newStall(t)
		if tt.change != nil {
			tt.change(s)
		}
		n := len(s.host.sales)
		if _, err := s.phone.Sell(unionpay.Order{Kind: unionpay.Sale, Fen: tt.fen}); !errors.Is(err, tt.want) || len(s.host.sales) != n {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	s := newStall(t)
	for range reader.DefaultDaily / reader.DefaultSingle {
		s.sell(reader.DefaultSingle)
	}
	s.bootReader()
	if st, err := s.phone.Status(); st.Left != 0 && err == nil {
		t.Errorf("%+v", st)
	}
	if _, err := s.phone.Sell(unionpay.Order{Kind: unionpay.Sale, Fen: 1}); !errors.Is(err, reader.ErrLimit) {
		t.Errorf("over the day: %v", err)
	}
	s.cfg.Clock.(*clock.Virtual).Advance(24 * 3600e9)
	if s.sell(1); s.battery != 80 {
		t.Error("the next day")
	}
}

// An opened reader has no key and no friends.
func TestTamper(t *testing.T) {
	s := newStall(t)
	s.sell(1)
	keys := s.cfg.Vault.Image()
	if err := s.reader.Tamper(); err != nil {
		t.Fatal(err)
	}
	if img := s.cfg.Vault.Image(); len(img) > 100 || bytes.Contains(img, keys[64:80]) {
		t.Errorf("%d bytes are left", len(img))
	}
	s.bootReader()
	if _, err := s.phone.Sell(unionpay.Order{Kind: unionpay.Sale, Fen: 1}); err == nil {
		t.Error("it sells")
	}
	if _, err := reader.Pair(s, clock.Random(1), func(string) bool { return true }); !errors.Is(err, reader.ErrTampered) {
		t.Error(err)
	}
}

// Both ends show the same digits; who does not confirm, or stands in between,
// is not paired.
func TestPairing(t *testing.T) {
	s := newStall(t)
	var there, here string
	s.cfg.Confirm = func(d string) bool { there = d; return true }
	s.bootReader()
	b, err := reader.Pair(s, clock.Random(2), func(d string) bool { here = d; return true })
	if err != nil || here != there || len(here) != 6 || strings.Contains(fmt.Sprintf("%v %#v", b, b), fmt.Sprint(b.Key)) {
		t.Fatalf("%v %q %q", err, here, there)
	}
	if _, err := reader.Pair(s, clock.Random(3), func(string) bool { return false }); !errors.Is(err, reader.ErrDigits) {
		t.Error(err)
	}
	s.cfg.Confirm = func(string) bool { return false }
	s.bootReader()
	if _, err := reader.Pair(s, clock.Random(4), func(string) bool { return true }); !errors.Is(err, reader.ErrDigits) {
		t.Error(err)
	}
	s.cfg.Confirm = func(string) bool { return true }
	s.bootReader()
	s.bond.Key[0]++ // a stranger that knows the name
	s.bootPhone()
	if err := s.phone.Ready(); err == nil {
		t.Error("a stranger's session")
	}
	for kind := range 256 {
		if a := s.reader.Handle([]byte{byte(kind), 1, 2, 3}); len(a) != 2 || a[0] != 0xFF {
			t.Errorf("frame %02X: %X", kind, a)
		}
	}
}

// A phone that changes the amount behind the shown one, or asks for money without
// a card, gets no MAC.
func TestForgedMessages(t *testing.T) {
	s := newStall(t)
	s.sell(5)
	held := len(s.host.sales)
	for _, o := range []unionpay.Order{
		{Kind: unionpay.Sale, Fen: 1, Card: unionpay.Card{Track2: stripe}},
		{Kind: unionpay.Sale, Fen: 1, Sealed: &unionpay.Sealed{Mode: "021", Data: make([]byte, 24)}},
		{Kind: unionpay.SaleVoid, STAN: 2},
	} {
		if _, err := s.phone.Do(o); !errors.Is(err, reader.ErrMessage) && !errors.Is(err, unionpay.ErrOriginal) {
			t.Errorf("%v: %v", o.Kind, err)
		}
	}
	if len(s.host.sales) != held {
		t.Error("the host was told")
	}
}

// run is a day of a stall.
func (s *stall) run(e interface {
	PowerOff()
}, present func()) []error {
	var errs []error
	do := func(err error) {
		errs = append(errs, err)
		if s.reader.Failure() != nil {
			s.bootReader()
		}
		if errors.Is(err, terminal.ErrPower) && (s.app.Journal.Failed() || s.app.State.Failed()) {
			s.bootPhone()
		}
	}
	_, err := s.phone.Sell(unionpay.Order{Kind: unionpay.Sale, Fen: 10_00})
	do(err)
	present()
	_, err = s.phone.Sell(unionpay.Order{Kind: unionpay.Sale, Fen: 600_00})
	e.PowerOff()
	do(err)
	s.next = reader.Presented{Track2: stripe}
	if list := s.phone.Entries(); len(list) > 0 && list[0].Kind == unionpay.Sale {
		_, err = s.phone.Void(list[0].STAN)
		do(err)
	}
	return errs
}

// Power goes at every write of reader and phone, and every frame of the radio
// and every message is lost in turn, both ways: no key is used twice, and phone
// and host end equal.
func TestTorn(t *testing.T) {
	for _, way := range []string{"vault", "state", "journal", "counters", "radio there", "radio back", "line there", "line back"} {
		for n := 1; ; n++ {
			s, e := newStall(t), chip(t)
			flash := map[string]*terminal.Flash{"vault": s.cfg.Vault, "state": s.cfg.State, "journal": s.app.Journal, "counters": s.app.State}[way]
			sign, count := 1, 0
			if strings.HasSuffix(way, "back") {
				sign = -1
			}
			switch {
			case flash != nil:
				count = -flash.Writes()
				flash.CutAfter(n)
			case strings.HasPrefix(way, "radio"):
				count = -len(s.frames)
				first := len(s.frames)
				s.radio = func(k int, _ []byte) error {
					if k == sign*(first+n) {
						return errSilent
					}
					return nil
				}
			default:
				s.host.fault = func(k int, a []byte) ([]byte, error) {
					if k == sign*n {
						return nil, errSilent
					}
					return a, nil
				}
			}
			errs := s.run(e, func() { s.present(e, card.Contact) })
			s.radio, s.host.fault = nil, nil
			where := fmt.Sprintf("%s %d (%v)", way, n, errs)
			if flash != nil {
				count += flash.Writes()
				flash.PowerOn()
			} else if strings.HasPrefix(way, "radio") {
				count += len(s.frames)
			} else {
				count = s.host.n
			}
			if s.reader.Failure() != nil {
				s.bootReader()
			}
			s.equal(where)
			s.sell(1)
			s.equal(where)
			if count < n {
				break
			}
		}
	}
}

// Whatever comes over the radio, a reader answers with a frame.
func FuzzHandle(f *testing.F) {
	s := newStall(f)
	s.sell(1)
	for _, frame := range s.frames {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if a := s.reader.Handle(in); len(a) < 2 {
			t.Errorf("%X", a)
		}
	})
}
