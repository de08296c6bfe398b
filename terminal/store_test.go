package terminal_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"koala/spec/purse"
	"koala/terminal"
)

func debit(seq uint16) purse.Debit {
	return purse.Debit{
		Card: "03105170070104791381", Seq: seq, Fen: uint32(seq) * 100, Type: purse.CAPP, TSeq: uint32(seq),
		TAC: [4]byte{1, 2, 3, byte(seq)}, Record: bytes.Repeat([]byte{byte(seq)}, purse.TransitLen),
	}
}

func open(t interface{ Fatal(...any) }, f *terminal.Flash) *terminal.Store {
	s, err := terminal.OpenStore(f)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStoreKeepsAndReleases(t *testing.T) {
	f := terminal.NewFlash(4)
	s := open(t, f)
	for seq := uint16(1); seq <= 5; seq++ {
		if err := s.Begin(debit(seq)); err != nil {
			t.Fatal(err)
		}
		k, err := s.Keep(debit(seq))
		if err != nil || k.Number != uint32(seq) {
			t.Fatalf("%d: %v %v", seq, k.Number, err)
		}
		again, err := s.Keep(debit(seq))
		if err != nil || again.Number != k.Number {
			t.Fatalf("kept twice: %d %v", again.Number, err)
		}
	}
	if err := s.Release(6); !errors.Is(err, terminal.ErrRelease) {
		t.Errorf("released what is not there: %v", err)
	}
	if err := s.Release(2); err != nil {
		t.Fatal(err)
	}
	image := f.Image()
	f, err := terminal.RestoreFlash(image)
	if err != nil || !bytes.Equal(f.Image(), image) {
		t.Fatalf("image: %v", err)
	}
	s = open(t, f)
	got := s.Batch(2)
	if len(got) != 2 || got[0].Number != 3 || !got[0].Debit.Equal(debit(3)) || got[1].Number != 4 || s.Waiting() != 3 || s.Next() != 6 {
		t.Errorf("%+v, %d waiting", got, s.Waiting())
	}
	if err := s.Release(2); err != nil || s.Waiting() != 3 {
		t.Errorf("released again: %v, %d waiting", err, s.Waiting())
	}
	if len(s.Doubts()) != 0 {
		t.Errorf("doubts %+v", s.Doubts())
	}
}

func TestStoreIsBounded(t *testing.T) {
	f := terminal.NewFlash(4)
	s := open(t, f)
	n := uint16(0)
	for s.Room() == nil {
		n++
		if err := s.Begin(debit(n)); err != nil {
			t.Fatal(n, err)
		}
		if _, err := s.Keep(debit(n)); err != nil {
			t.Fatal(n, err)
		}
	}
	if !errors.Is(s.Room(), terminal.ErrFull) || n < 15 {
		t.Fatalf("%d debits, then %v", n, s.Room())
	}
	if err := s.Begin(debit(n + 1)); !errors.Is(err, terminal.ErrFull) {
		t.Errorf("begun over the bound: %v", err)
	}
	for upto := uint32(1); upto <= uint32(n); upto++ { // one by one, the worst way
		if err := s.Release(upto); err != nil {
			t.Fatalf("release %d of %d: %v", upto, n, err)
		}
	}
	if s.Room() != nil || s.Waiting() != 0 {
		t.Errorf("%v, %d waiting", s.Room(), s.Waiting())
	}
	if s = open(t, f); s.Next() != uint32(n)+1 {
		t.Errorf("next is %d after %d", s.Next(), n)
	}
}

// Cards that never come back do not hold the store for ever: their intents
// move on with it, until there are too many of them.
func TestDoubtsMoveOn(t *testing.T) {
	f := terminal.NewFlash(5)
	s := open(t, f)
	lost := debit(999)
	lost.Card = "03105170070104791399"
	if err := s.Begin(lost); err != nil {
		t.Fatal(err)
	}
	if err := s.Paid(lost.Card, lost.Seq); err != nil {
		t.Fatal(err)
	}
	for seq := uint16(1); seq <= 300; seq++ {
		if err := s.Begin(debit(seq)); err != nil {
			t.Fatal(seq, err)
		}
		k, err := s.Keep(debit(seq))
		if err != nil {
			t.Fatal(seq, err)
		}
		if err := s.Release(k.Number); err != nil {
			t.Fatal(seq, err)
		}
	}
	s = open(t, f)
	if d := s.Doubts(); len(d) != 1 || d[0].Intent.Seq != 999 || !d[0].Paid {
		t.Fatalf("%+v", d)
	}
	if err := s.Settle(lost.Card, lost.Seq); err != nil {
		t.Fatal(err)
	}
	if s = open(t, f); len(s.Doubts()) != 0 {
		t.Errorf("settled, and still there")
	}
	f = terminal.NewFlash(64)
	s = open(t, f)
	for n := range terminal.MaxDoubts {
		d := debit(1)
		d.Card = purse.Number(fmt.Sprintf("%020d", n))
		if err := s.Begin(d); err != nil {
			t.Fatal(n, err)
		}
	}
	if !errors.Is(s.Room(), terminal.ErrDoubts) {
		t.Errorf("%v", s.Room())
	}
}

// Whatever is done to a store and wherever power fails, it holds what it
// acknowledged, and of the act that was cut all or nothing.
func TestStoreSurvivesPower(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := terminal.NewFlash(4)
		s := open(t, f)
		m := model{begun: map[uint16]bool{}, next: 1}
		for range rapid.IntRange(1, 120).Draw(t, "acts") {
			if rapid.IntRange(0, 9).Draw(t, "cut") == 0 {
				f.CutAfter(rapid.IntRange(1, 6).Draw(t, "write"))
			}
			err := m.act(t, s, rapid.IntRange(0, 3).Draw(t, "act"))
			if errors.Is(err, terminal.ErrPower) {
				f.PowerOn()
				s = open(t, f)
				m.adopt(t, s)
			} else if err != nil {
				t.Fatal(err)
			}
			m.compare(t, s)
		}
	})
}

// A model is what the store must hold.
type model struct {
	seq      uint16 // last sequence begun
	begun    map[uint16]bool
	kept     []uint16 // sequences in order, unreleased
	released uint32
	next     uint32
	inDoubt  func(m *model, s *terminal.Store) // completes the act that was cut, if it took place
}

func (m *model) act(t *rapid.T, s *terminal.Store, what int) error {
	m.inDoubt = nil
	switch what {
	case 0, 1:
		return m.tap(s, what == 0)
	case 2:
		return m.settle(s)
	default:
		if len(m.kept) == 0 {
			return nil
		}
		n := rapid.IntRange(1, len(m.kept)).Draw(t, "n")
		before := m.released
		m.inDoubt = func(m *model, s *terminal.Store) {
			if s.Waiting() == len(m.kept)-n {
				m.release(n)
			}
		}
		err := s.Release(before + uint32(n))
		if err == nil {
			m.release(n)
		}
		return err
	}
}

func (m *model) settle(s *terminal.Store) error {
	if len(m.begun) == 0 {
		return nil
	}
	seq := slices.Min(slices.Collect(maps.Keys(m.begun)))
	m.inDoubt = func(m *model, s *terminal.Store) {
		if _, ok := doubtOf(s, seq); !ok {
			delete(m.begun, seq)
		}
	}
	err := s.Settle(debit(seq).Card, seq)
	if err == nil {
		delete(m.begun, seq)
	}
	return err
}

func (m *model) release(n int) { m.kept, m.released = m.kept[n:], m.released+uint32(n) }

func (m *model) tap(s *terminal.Store, ends bool) error {
	if err := s.Room(); err != nil {
		if errors.Is(err, terminal.ErrFull) || errors.Is(err, terminal.ErrDoubts) {
			return nil
		}
		return err
	}
	m.seq++
	seq := m.seq
	m.inDoubt = func(m *model, s *terminal.Store) {
		if _, ok := doubtOf(s, seq); ok {
			m.begun[seq] = true
		}
	}
	if err := s.Begin(debit(seq)); err != nil {
		return err
	}
	m.begun[seq] = true
	if !ends {
		return nil
	}
	m.inDoubt = func(m *model, s *terminal.Store) {
		if _, ok := doubtOf(s, seq); !ok {
			m.keep(seq)
		}
	}
	_, err := s.Keep(debit(seq))
	if err == nil {
		m.keep(seq)
	}
	return err
}

func (m *model) keep(seq uint16) {
	delete(m.begun, seq)
	m.kept = append(m.kept, seq)
	m.next++
}

func doubtOf(s *terminal.Store, seq uint16) (terminal.Doubt, bool) {
	for _, d := range s.Doubts() {
		if d.Intent.Seq == seq {
			return d, true
		}
	}
	return terminal.Doubt{}, false
}

// adopt lets the act that was cut have happened or not; compare then holds
// the store to it.
func (m *model) adopt(t *rapid.T, s *terminal.Store) {
	if m.inDoubt == nil {
		t.Fatal("power failed in no act")
	}
	m.inDoubt(m, s)
}

func (m *model) compare(t *rapid.T, s *terminal.Store) {
	got := s.Batch(1 << 20)
	if len(got) != len(m.kept) || s.Next() != m.next || len(s.Doubts()) != len(m.begun) {
		t.Fatalf("%d debits, next %d, %d doubts; want %d, %d, %d", len(got), s.Next(), len(s.Doubts()), len(m.kept), m.next, len(m.begun))
	}
	for i, k := range got {
		if k.Number != m.released+uint32(i)+1 || !k.Debit.Equal(debit(m.kept[i])) {
			t.Fatalf("place %d: number %d, sequence %d; want %d, %d", i, k.Number, k.Debit.Seq, m.released+uint32(i)+1, m.kept[i])
		}
	}
	for seq := range m.begun {
		if _, ok := doubtOf(s, seq); !ok {
			t.Fatalf("intent %d is gone", seq)
		}
	}
}

func FuzzRestoreFlash(f *testing.F) {
	flash := terminal.NewFlash(4)
	s := open(f, flash)
	if _, err := s.Keep(debit(1)); err != nil {
		f.Fatal(err)
	}
	f.Add(flash.Image())
	f.Fuzz(func(t *testing.T, in []byte) {
		flash, err := terminal.RestoreFlash(in)
		if err != nil {
			return
		}
		again, err := terminal.RestoreFlash(flash.Image())
		if err != nil || !bytes.Equal(again.Image(), flash.Image()) {
			t.Errorf("image does not repeat: %v", err)
		}
		if len(in) > 6 && in[5] >= 4 {
			if _, err := terminal.OpenStore(flash); err != nil {
				t.Log(err) // a flash of somebody else's making may not open, but says so
			}
		}
	})
}
