package pos_test

import (
	"errors"
	"testing"

	"koala/card"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/terminal"
	"koala/terminal/kernel"
	"koala/terminal/pos"
)

func (s *shop) load(p *purchaser, fen uint64) pos.LoadResult {
	s.t.Helper()
	r, err := s.till.Load(p.present(card.Contactless), fen)
	if err != nil {
		s.t.Fatal(err)
	}
	p.e.PowerOff()
	return r
}

// One line per way a load can end: what the card holds and what the till tells.
func TestLoad(t *testing.T) {
	spoil := func(c iso7816.Command) iso7816.Command {
		c.Data[len(c.Data)-1]++
		return c
	}
	for _, tt := range []struct {
		name  string
		bank  func(*bank)
		fen   uint64
		state pos.LoadState
		sw    iso7816.SW
		holds uint64
		kind  pboc.ClearingKind
		why   kernel.Reason
	}{
		{"loaded", nil, 50_00, pos.Loaded, iso7816.OK, 150_00, pboc.ClearOnline, kernel.NoReason},
		{"to the limit", nil, 900_00, pos.Loaded, iso7816.OK, 1000_00, pboc.ClearOnline, kernel.NoReason},
		{"over the limit", nil, 900_01, pos.NotLoaded, 0, 100_00, 0, kernel.AmountTooHigh},
		{"the host declines", func(b *bank) { b.arc = "51" }, 50_00, pos.NotLoaded, 0, 100_00, 0, kernel.HostDeclined},
		{"the host is silent", func(b *bank) { b.silent = true }, 50_00, pos.NotLoaded, 0, 100_00, pboc.ClearCancel, kernel.NoHost},
		{"wrong script MAC", func(b *bank) { b.load = spoil }, 50_00, pos.NotLoaded, iso7816.SWSecureWrong, 100_00, pboc.ClearCancel, kernel.NoReason},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, s := issue(t), newShop(t)
			if tt.bank != nil {
				tt.bank(s.bank)
			}
			r := s.load(p, tt.fen)
			var kind pboc.ClearingKind
			if r.Record != nil {
				kind = r.Record.Kind
			}
			if r.State != tt.state || r.SW != tt.sw || p.holds() != tt.holds || kind != tt.kind || r.Outcome.Reason != tt.why ||
				r.Old != 100_00 && tt.fen != 900_01 || len(s.till.Doubts()) > 0 || s.bank.refused > 0 {
				t.Errorf("%s, %v, SW %v, card holds %d, record %d, doubts %v", r.State.Words(false), r.Outcome, r.SW, p.holds(), kind, s.till.Doubts())
			}
			if r.State == pos.Loaded && r.New != tt.holds {
				t.Errorf("told %d", r.New)
			}
		})
	}
}

// Every answer of the card is lost in turn. Whatever the till says is true; what
// it does not know the card's signed log proves.
func TestLoadAnswersLost(t *testing.T) {
	unknown := 0
	for n := 1; n <= 24; n++ {
		p, s := issue(t), newShop(t)
		p.e.LoseAnswer(n)
		r := s.load(p, 50_00)
		holds := p.holds()
		switch r.State {
		case pos.Loaded:
			if holds != 150_00 {
				t.Errorf("answer %d: told loaded, holds %d", n, holds)
			}
		case pos.NotLoaded:
			if holds != 100_00 {
				t.Errorf("answer %d: told not loaded, holds %d", n, holds)
			}
		case pos.Unknown:
			unknown++
			proveLoad(t, n, p, s, holds)
		}
	}
	if unknown == 0 {
		t.Error("no load was ever in doubt")
	}
}

// proveLoad has the card's signed log decide a load in doubt.
func proveLoad(t *testing.T, n int, p *purchaser, s *shop, holds uint64) {
	t.Helper()
	s.boot() // the doubt survives a power failure
	doubts := s.till.Doubts()
	if len(doubts) != 1 || doubts[0].Type != pos.Load {
		t.Fatalf("answer %d: doubts %v", n, doubts)
	}
	h, o := s.till.Prove(p.present(card.Contactless))
	want(t, o, kernel.Approved, kernel.NoReason)
	log, err := pboc.ParseSignedLoadLog(h.LoadLog)
	if err != nil || !log.Verify(pboc.NewKey(pboc.TripleDES, keyMAC).Session(log.ATC)) {
		t.Fatalf("answer %d: log %X, %v", n, h.LoadLog, err)
	}
	arrived := len(log.Entries) > 0 && log.Entries[0].New == 150_00
	if arrived != (holds == 150_00) || h.Fen != holds {
		t.Errorf("answer %d: log says %v, card holds %d", n, arrived, holds)
	}
	if err := s.till.Settle(doubts[0]); err != nil || len(s.till.Doubts()) != 0 {
		t.Error(err)
	}
}

// The till loses power in a load at any write: no load is told that is not,
// and the host is told of one that may not be.
func TestLoadPowerCut(t *testing.T) {
	for n := 1; ; n++ {
		p, s := issue(t), newShop(t)
		s.cfg.Sales.CutAfter(n)
		before := s.cfg.Sales.Writes()
		_, err := s.till.Load(p.present(card.Contactless), 50_00)
		if errors.Is(err, terminal.ErrPower) {
			s.boot()
		} else if err != nil {
			t.Fatal(err)
		}
		loaded, told := p.holds() == 150_00, 0
		for _, r := range s.till.Batch(10).Records {
			if told++; r.Kind != pboc.ClearOnline || !loaded {
				t.Fatalf("write %d: %v, card holds %d", n, r, p.holds())
			}
		}
		if asked := len(s.bank.asked); asked != told+len(s.till.Doubts()) {
			t.Fatalf("write %d: asked %d times, told %d, doubts %v", n, asked, told, s.till.Doubts())
		}
		if s.cfg.Sales.Writes()-before < n {
			t.Logf("%d writes", n-1)
			return
		}
	}
}

func TestBalance(t *testing.T) {
	p, s := issue(t), newShop(t)
	fen, o := s.till.Balance(p.present(card.Contactless))
	if want(t, o, kernel.Approved, kernel.NoReason); fen != 100_00 {
		t.Errorf("%d", fen)
	}
	_, o = s.till.Balance(func(iso7816.Command) (iso7816.Response, error) {
		return iso7816.Response{SW: iso7816.SWFileNotFound}, nil
	})
	want(t, o, kernel.EndApplication, kernel.NoApplication)
}
