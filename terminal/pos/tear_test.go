package pos_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/card"
	"koala/spec/pboc"
	"koala/terminal"
	"koala/terminal/kernel"
	"koala/terminal/pos"
)

// sellUntilDone presents the card until the sale is over, giving the till
// power again when it lost it.
func sellUntilDone(t testing.TB, name string, n int, p *purchaser, s *shop, fen uint64, i card.Interface) pos.Result {
	t.Helper()
	for range 6 {
		send, sell := p.present(i), s.till.Tap
		if i == card.Contact {
			sell = s.till.Insert
		}
		r, err := sell(send, pos.Sale{Fen: fen})
		p.e.PowerOff()
		switch {
		case errors.Is(err, terminal.ErrPower):
			s.boot()
		case err != nil:
			t.Fatalf("%s %d: %v", name, n, err)
		case r.Outcome.Result == kernel.Approved:
			return r
		case r.Outcome.Result != kernel.TryAgain:
			t.Fatalf("%s %d: %v", name, n, r.Outcome)
		}
		s.now.Advance(5 * time.Second)
	}
	t.Fatalf("%s %d: never sold", name, n)
	return pos.Result{}
}

// balanced checks what must hold at the end of every story: what the card
// lacks is what the till will be paid and what goes back to the card; each
// approval is there once and verifies; nothing is in doubt.
func balanced(t testing.TB, name string, n int, p *purchaser, s *shop, sales int) {
	t.Helper()
	var paid, back uint64
	seen, count := map[string]bool{}, 0
	for _, r := range s.till.Batch(1000).Records {
		if seen[r.Key()] {
			t.Fatalf("%s %d: %v twice", name, n, r)
		}
		seen[r.Key()] = true
		if err := r.Verify(openAC); err != nil {
			t.Fatalf("%s %d: %v", name, n, err)
		}
		paid += r.Fen
		switch r.Kind {
		case pboc.ClearSale:
			count++
		case pboc.ClearReversal:
			back += r.Fen
		}
	}
	for _, d := range s.till.Doubts() {
		t.Fatalf("%s %d: left in doubt: %v", name, n, d.Clearing)
	}
	if holds := p.holds(); holds+paid != 100_00 || count != sales {
		t.Fatalf("%s %d: card holds %d, till has %d (%d back) in %d sales", name, n, holds, paid, back, count)
	}
}

// The card is torn from the field at every physical write of its memory.
func TestCardTornAtEveryWrite(t *testing.T) {
	for n := 1; ; n++ {
		p, s := issue(t), newShop(t)
		if err := p.e.PowerOn(card.Contactless); err != nil {
			t.Fatal(err)
		}
		p.e.Memory().CutAfter(n)
		before := p.e.Memory().Writes()
		sellUntilDone(t, "write", n, p, s, 12_00, card.Contactless)
		balanced(t, "write", n, p, s, 1)
		if p.e.Memory().Writes()-before < n {
			t.Logf("%d physical writes", n-1)
			return
		}
	}
}

// Every answer of the card is lost in turn, the work done.
func TestEveryAnswerLost(t *testing.T) {
	for n := 1; n <= 6; n++ {
		p, s := issue(t), newShop(t)
		p.e.LoseAnswer(n)
		sellUntilDone(t, "answer", n, p, s, 12_00, card.Contactless)
		balanced(t, "answer", n, p, s, 1)
	}
}

const lastRead = 7 // PPSE, SELECT, GPO, four records

// The last answer is lost, and then every answer of the look-up.
func TestRecoveryTornToo(t *testing.T) {
	for n := 1; n <= 9; n++ {
		p, s := issue(t), newShop(t)
		p.e.LoseAnswer(lastRead)
		r := s.tap(p, 12_00)
		if want(t, r.Outcome, kernel.TryAgain, kernel.Torn); len(s.till.Doubts()) != 1 {
			t.Fatalf("doubts %v", s.till.Doubts())
		}
		p.e.LoseAnswer(n)
		r = sellUntilDone(t, "look-up", n, p, s, 12_00, card.Contactless)
		if want(t, r.Outcome, kernel.Approved, kernel.Recovered); r.Record == nil {
			t.Fatal("no record")
		}
		balanced(t, "look-up", n, p, s, 1)
	}
}

// The till loses power at every write of each of its flashes, alone and after
// the card has been torn as well.
func TestTillPowerCutAtEveryWrite(t *testing.T) {
	for _, torn := range []int{0, lastRead} {
		for _, part := range []string{"sales", "state"} {
			for n := 1; ; n++ {
				p, s := issue(t), newShop(t)
				f := map[string]*terminal.Flash{"sales": s.cfg.Sales, "state": s.cfg.State}[part]
				f.CutAfter(n)
				before := f.Writes()
				p.e.LoseAnswer(torn)
				sellUntilDone(t, part, n, p, s, 12_00, card.Contactless)
				balanced(t, part, n, p, s, 1)
				if f.Writes()-before < n {
					t.Logf("torn %d: %d writes of %s", torn, n-1, part)
					break
				}
			}
		}
	}
}

// The host approves, and the till loses power at any write: what was approved
// and not given is taken back, and nothing is approved twice without it.
func TestOnlinePowerCut(t *testing.T) {
	for _, i := range []card.Interface{card.Contactless, card.Contact} {
		for n := 1; ; n++ {
			p, s := issue(t), newShop(t)
			s.cfg.Sales.CutAfter(n)
			before := s.cfg.Sales.Writes()
			sellUntilDone(t, "online", n, p, s, 600_00-uint64(i)*1, i)
			approvals, back := map[uint16]bool{}, 0
			for _, r := range s.till.Batch(100).Records {
				if r.Kind == pboc.ClearCancel {
					back++
				} else if approvals[r.ATC] = true; r.Kind != pboc.ClearOnline {
					t.Fatalf("online %d: %v", n, r)
				}
			}
			if len(s.bank.asked) != len(approvals)+back || len(approvals) != 1 || len(s.till.Doubts()) != 0 {
				t.Fatalf("online %d: asked %d times, %d approvals, %d back, doubts %v", n, len(s.bank.asked), len(approvals), back, s.till.Doubts())
			}
			if s.cfg.Sales.Writes()-before < n {
				t.Logf("%d writes", n-1)
				break
			}
		}
	}
}

// The customer comes back for something else, or too late: the money of the
// sale that was not given goes back, and the new one is sold.
func TestComesBackForSomethingElse(t *testing.T) {
	for _, tt := range []struct {
		name string
		wait time.Duration
		fen  uint64
	}{{"other amount", time.Second, 8_00}, {"too late", pos.DefaultAgain + time.Second, 12_00}} {
		for cut := 0; ; cut++ { // and the till loses power in it
			p, s := issue(t), newShop(t)
			p.e.LoseAnswer(lastRead)
			want(t, s.tap(p, 12_00).Outcome, kernel.TryAgain, kernel.Torn)
			s.now.Advance(tt.wait)
			s.cfg.Sales.CutAfter(cut)
			before := s.cfg.Sales.Writes()
			sellUntilDone(t, tt.name, cut, p, s, tt.fen, card.Contactless)
			var back uint64
			for _, r := range s.till.Batch(10).Records {
				if r.Kind == pboc.ClearReversal {
					back += r.Fen
				}
			}
			if sum := s.till.Totals(); back != 12_00 || p.holds() != 100_00-12_00-tt.fen || sum.SalesFen != tt.fen || len(s.till.Doubts()) != 0 {
				t.Fatalf("%s, cut %d: %+v, card holds %d, doubts %v", tt.name, cut, sum, p.holds(), s.till.Doubts())
			}
			if cut > 0 && s.cfg.Sales.Writes()-before < cut {
				break
			}
		}
	}
}

// Torn by tap and inserted afterwards, or the other way round with a record
// that is whole: the log is the same on both sides.
func TestComesBackByContact(t *testing.T) {
	p, s := issue(t), newShop(t)
	p.e.LoseAnswer(lastRead)
	want(t, s.tap(p, 12_00).Outcome, kernel.TryAgain, kernel.Torn)
	r := s.insert(p, 12_00)
	if want(t, r.Outcome, kernel.Approved, kernel.Recovered); r.Record == nil || r.STAN != r.Record.STAN {
		t.Fatalf("record %v", r.Record)
	}
	balanced(t, "contact", 0, p, s, 1)
	if text := strings.Join(s.till.Receipt(r, false), "\n"); !strings.Contains(text, "ATC 0001") || !strings.Contains(text, "paid the time before") {
		t.Error(text)
	}
}

// A card that paid and has too little left for another go is still believed:
// the look-up comes before the decline.
func TestComesBackPoor(t *testing.T) {
	for name, change := range map[string]func(*pos.Config){
		"with a line": func(*pos.Config) {}, "offline only": func(c *pos.Config) { c.Kernel.TTQ[0], c.Issuer = 0x2E, nil },
	} {
		p, s := issue(t), newShop(t, change)
		p.e.LoseAnswer(lastRead)
		want(t, s.tap(p, 95_00).Outcome, kernel.TryAgain, kernel.Torn)
		r := s.tap(p, 95_00)
		if want(t, r.Outcome, kernel.Approved, kernel.Recovered); p.holds() != 5_00 || len(s.bank.asked) != 0 {
			t.Errorf("%s: card holds %d", name, p.holds())
		}
		balanced(t, name, 0, p, s, 1)
	}
}

// Another card in between changes nothing.
func TestAnotherCardInBetween(t *testing.T) {
	p, s := issue(t), newShop(t)
	p.e.LoseAnswer(lastRead)
	want(t, s.tap(p, 12_00).Outcome, kernel.TryAgain, kernel.Torn)
	other := issue(t, func(c *pboc.Card) { c.PAN = "6228000100001125" })
	want(t, s.tap(other, 3_00).Outcome, kernel.Approved, kernel.NoReason)
	want(t, s.tap(p, 12_00).Outcome, kernel.Approved, kernel.Recovered)
	if sum := s.till.Totals(); sum.SalesFen != 15_00 || sum.Sales != 2 || p.holds() != 88_00 || other.holds() != 97_00 {
		t.Errorf("%+v", sum)
	}
}

// Inserted and torn at every write and every answer. When the cryptogram was
// lost with its answer the card has paid: its log says so, and the host gets
// the case.
func TestInsertedTorn(t *testing.T) {
	for _, lost := range []bool{true, false} {
		for n := 1; ; n++ {
			p, s := issue(t), newShop(t)
			if p.e.LoseAnswer(n); !lost {
				p.e.LoseAnswer(0)
				p.e.Memory().CutAfter(n)
			}
			before := p.e.Memory().Writes()
			r := sellUntilDone(t, "contact", n, p, s, 12_00, card.Contact)
			doubts := s.till.Doubts()
			if p.holds() != 88_00 || len(doubts)+s.till.Waiting() != 1 {
				t.Fatalf("%v %d: card holds %d, %d in doubt, %d kept", lost, n, p.holds(), len(doubts), s.till.Waiting())
			}
			if len(doubts) == 1 {
				if want(t, r.Outcome, kernel.Approved, kernel.Recovered); !doubts[0].Paid || r.Record == nil || r.Record.Number != 0 {
					t.Fatalf("%v %d: %v, record %v", lost, n, doubts[0], r.Record)
				}
				if err := s.till.Settle(doubts[0]); err != nil || len(s.till.Doubts()) != 0 {
					t.Error(err)
				}
			}
			if lost && n > 18 || !lost && p.e.Memory().Writes()-before < n {
				break
			}
		}
	}
}

// Any sequence of taps, insertions, loads, tears and power cuts: no money is
// made or lost. What the till knows, its doubts and the card's own signed log
// together account for every fen.
func TestNoMoneyIsLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p, s := issue(t), newShop(t)
		for range rapid.IntRange(1, 7).Draw(rt, "acts") {
			fen := uint64(rapid.SampledFrom([]int{1, 5_00, 5_00, 12_00, 700_00}).Draw(rt, "fen"))
			p.e.LoseAnswer(rapid.IntRange(0, 20).Draw(rt, "answer"))
			s.cfg.Sales.CutAfter(rapid.IntRange(0, 6).Draw(rt, "write"))
			var err error
			switch rapid.IntRange(0, 3).Draw(rt, "act") {
			case 0:
				_, err = s.till.Load(p.present(card.Contactless), fen)
			case 1:
				_, err = s.till.Insert(p.present(card.Contact), pos.Sale{Fen: fen})
			default:
				_, err = s.till.Tap(p.present(card.Contactless), pos.Sale{Fen: fen})
			}
			p.e.PowerOff()
			if errors.Is(err, terminal.ErrPower) {
				s.boot()
			} else if err != nil {
				rt.Fatal(err)
			}
			s.now.Advance(5 * time.Second)
		}
		p.e.LoseAnswer(0)
		s.cfg.Sales.CutAfter(0)
		sellUntilDone(t, "model", 0, p, s, 7, card.Contactless)
		in, out := account(rt, p, s)
		if p.holds()+out != 100_00+in {
			rt.Fatalf("card holds %d after %d in and %d out", p.holds(), in, out)
		}
	})
}

// account sums up what the till's records and doubts say went into the card
// and out of it. A load in doubt is decided by the card's signed log.
func account(rt *rapid.T, p *purchaser, s *shop) (in, out uint64) {
	h, _ := s.till.Prove(p.present(card.Contactless))
	log, err := pboc.ParseSignedLoadLog(h.LoadLog)
	if err != nil || !log.Verify(pboc.NewKey(pboc.TripleDES, keyMAC).Session(log.ATC)) {
		rt.Fatalf("load log %X: %v", h.LoadLog, err)
	}
	arrived := func(atc uint16) bool {
		return slices.ContainsFunc(log.Entries, func(e pboc.LoadEntry) bool { return e.ATC == atc })
	}
	sold := map[uint16]bool{}
	for _, r := range s.till.Batch(100).Records {
		if err := r.Verify(openAC); err != nil {
			rt.Fatal(err)
		}
		offline := r.Kind == pboc.ClearSale || r.Kind == pboc.ClearReversal
		switch {
		case offline && sold[r.ATC]:
			rt.Fatalf("%v counts twice", r)
		case offline:
			sold[r.ATC] = true
			out += r.Fen
		case r.Type == pos.Load && (r.Kind == pboc.ClearOnline) != arrived(r.ATC):
			rt.Fatalf("%v of kind %d, the card's log says %v", r, r.Kind, arrived(r.ATC))
		case r.Type == pos.Load && r.Kind == pboc.ClearOnline:
			in += r.Fen
		}
	}
	for _, d := range s.till.Doubts() {
		switch {
		case d.Type != pos.Load && !d.Paid:
			rt.Fatalf("left in doubt: %v", d.Clearing)
		case d.Type != pos.Load && sold[d.ATC]:
			rt.Fatalf("%v is in doubt and kept", d.Clearing)
		case d.Type != pos.Load:
			out += d.Fen
		case arrived(d.ATC):
			in += d.Fen
		}
	}
	return in, out
}
