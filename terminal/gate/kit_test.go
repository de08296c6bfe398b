package gate_test

import (
	"encoding/binary"
	"testing"
	"time"

	"koala/calendar"
	"koala/card"
	"koala/card/cardtest"
	"koala/fare"
	"koala/internal/clock"
	"koala/spec/purse"
	"koala/terminal"
	"koala/terminal/gate"
	"koala/terminal/terminaltest"
)

const (
	number = purse.Number("03105170070104791381")

	dongdan, xidan, far, airport fare.Code = 10118, 10114, 10199, 980001
)

// A site is a gate with its PSAM and its flash.
type site struct {
	t   testing.TB
	cfg gate.Config
	sam *cardtest.Element
	g   *gate.Gate
	now *clock.Virtual
}

var noon = time.Date(2024, 12, 30, 12, 0, 0, 0, calendar.Beijing)

func newSite(t testing.TB, kind gate.Kind, station fare.Code, now *clock.Virtual, flash int) *site {
	t.Helper()
	s := &site{t: t, now: now, sam: terminaltest.PSAM(t, purse.Terminal{0x30, 0x01, 0x18, 0x00, byte(kind), byte(station)})}
	s.cfg = gate.Config{
		Kind: kind, Station: station, City: [2]byte{0x10, 0}, Clock: now, Key: terminaltest.Public, MinBalance: 3_00, Record: true,
		Debits: terminal.NewFlash(flash), Denied: terminal.NewFlash(2), Tariff: terminal.NewFlash(16),
	}
	s.boot()
	table := table(t, station)
	pack, err := table.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.g.Load(terminaltest.Sign(pack)); err != nil {
		t.Fatal(err)
	}
	return s
}

// boot is the gate's power coming on.
func (s *site) boot() {
	s.t.Helper()
	for _, f := range []*terminal.Flash{s.cfg.Debits, s.cfg.Denied, s.cfg.Tariff} {
		f.PowerOn()
	}
	s.sam.Power(card.Contact)
	g, err := gate.New(s.cfg, terminaltest.Contact(s.sam))
	if err != nil {
		s.t.Fatal(err)
	}
	s.g = g
}

func table(t testing.TB, station fare.Code) *fare.Table {
	t.Helper()
	tariff, err := fare.On(calendar.Date{Year: 2024, Month: 12, Day: 30})
	if err != nil {
		t.Fatal(err)
	}
	part := func(m int) []fare.Part { return []fare.Part{{Region: fare.Network, Metres: m}} }
	tb := &fare.Table{Station: station, Version: 7, From: fare.Day{Date: calendar.Date{Year: 2020, Month: 1, Day: 1}}, Tariff: tariff}
	for _, e := range []fare.Entry{
		{Code: xidan, Same: station == xidan, Parts: part(3_000)}, {Code: dongdan, Same: station == dongdan, Parts: part(3_000)},
		{Code: far, Same: station == far, Parts: part(61_000)},
	} {
		if e.Same {
			e.Parts = part(0)
		}
		tb.Entries = append(tb.Entries, e)
	}
	return tb
}

// tap holds a card to the gate and takes it away.
func (s *site) tap(r *terminaltest.Rider) terminal.Outcome {
	s.t.Helper()
	o, err := s.tapErr(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return o
}

func (s *site) tapErr(r *terminaltest.Rider) (terminal.Outcome, error) {
	if err := r.PowerOn(card.Contactless); err != nil {
		return terminal.Outcome{Result: terminal.TryAgain, Reason: terminal.Torn}, nil // cut in recovery
	}
	defer r.PowerOff()
	return s.g.Tap(r.Transmit, terminaltest.Contact(s.sam))
}

func (s *site) repair(r *terminaltest.Rider, what terminal.Reason) terminal.Outcome {
	s.t.Helper()
	r.Power(card.Contactless)
	defer r.PowerOff()
	o, err := s.g.Repair(r.Transmit, terminaltest.Contact(s.sam), what)
	if err != nil {
		s.t.Fatal(err)
	}
	return o
}

// collected sums what the gate stored, checking every TAC and that no debit
// of a card stands twice.
func (s *site) collected() (fen uint32) {
	s.t.Helper()
	seen := map[string]bool{}
	next := uint32(0)
	for _, d := range s.g.Store().Batch(1 << 20) {
		if next != 0 && d.Number != next {
			s.t.Errorf("number %d, want %d", d.Number, next)
		}
		next = d.Number + 1
		id := string(d.Debit.Card) + string(binary.BigEndian.AppendUint16(nil, d.Debit.Seq))
		if seen[id] {
			s.t.Errorf("card %s sequence %d twice", d.Debit.Card, d.Debit.Seq)
		}
		seen[id] = true
		if !terminaltest.Proved(d.Debit) {
			s.t.Errorf("debit %d: wrong TAC", d.Number)
		}
		fen += d.Debit.Fen
	}
	return fen
}
