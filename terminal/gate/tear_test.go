package gate_test

import (
	"errors"
	"testing"
	"time"

	"koala/card"
	"koala/internal/clock"
	"koala/spec/purse"
	"koala/terminal"
	"koala/terminal/gate"
	"koala/terminal/terminaltest"
)

// inside makes a rider who entered at the far end: leaving at Dongdan costs
// the fare of 61 kilometres.
func inside(t testing.TB) *terminaltest.Rider {
	return terminaltest.NewRider(t, number, 50_00, func(_ *purse.File15, _ *purse.File17, x *purse.Transit) {
		x.Status, x.EntryStation, x.EntryAt = purse.Entered, purse.StationBytes(uint32(far)), purse.StampOf(noon.Add(-time.Hour))
	})
}

// settled checks what must hold at the end of every story: the rider is out,
// the card paid once, and the gate has exactly that debit.
func settled(t *testing.T, name string, n int, r *terminaltest.Rider, s *site) {
	t.Helper()
	fen, rail := r.Holds()
	if rail.Status != purse.Left || fen != 42_00 || s.collected() != 8_00 || s.g.Store().Waiting() != 1 {
		t.Fatalf("%s %d: card holds %d, status %d, gate has %d in %d debits",
			name, n, fen, rail.Status, s.collected(), s.g.Store().Waiting())
	}
	if d := s.g.Store().Doubts(); len(d) != 0 {
		t.Fatalf("%s %d: doubts left: %+v", name, n, d)
	}
}

// tapUntilOpen presents the card until the gate opens, giving the gate power
// again when it lost it.
func tapUntilOpen(t *testing.T, name string, n int, r *terminaltest.Rider, s *site) {
	t.Helper()
	for range 5 {
		o, err := s.tapErr(r)
		switch {
		case errors.Is(err, terminal.ErrPower):
			s.boot()
		case err != nil:
			t.Fatalf("%s %d: %v", name, n, err)
		case o.Result == terminal.Opened:
			return
		case o.Result != terminal.TryAgain:
			t.Fatalf("%s %d: %s", name, n, o.Words(false))
		}
		s.now.Advance(5 * time.Second)
	}
	t.Fatalf("%s %d: never opened", name, n)
}

// The card is torn from the field at every physical write of its memory.
func TestCardTornAtEveryWrite(t *testing.T) {
	for n := 1; ; n++ {
		now := clock.NewVirtual(noon)
		r, s := inside(t), newSite(t, gate.Exit, dongdan, now, 4)
		r.Power(card.Contactless)
		r.Memory().CutAfter(n)
		before := r.Memory().Writes()
		tapUntilOpen(t, "write", n, r, s)
		settled(t, "write", n, r, s)
		if r.Memory().Writes()-before < n {
			t.Logf("%d physical writes", n-1)
			return
		}
	}
}

// Every answer of the card is lost in turn, the work done.
func TestEveryAnswerLost(t *testing.T) {
	for n := 1; n <= 9; n++ {
		now := clock.NewVirtual(noon)
		r, s := inside(t), newSite(t, gate.Exit, dongdan, now, 4)
		r.LoseAnswer(n)
		tapUntilOpen(t, "answer", n, r, s)
		settled(t, "answer", n, r, s)
	}
}

// The answer to DEBIT is lost, and then every answer of the recovery.
func TestRecoveryTornToo(t *testing.T) {
	const debit = 9
	for n := 1; n <= 8; n++ {
		now := clock.NewVirtual(noon)
		r, s := inside(t), newSite(t, gate.Exit, dongdan, now, 4)
		r.LoseAnswer(debit)
		want(t, s.tap(r), terminal.TryAgain, terminal.Torn, 0)
		r.LoseAnswer(n)
		tapUntilOpen(t, "recovery", n, r, s)
		settled(t, "recovery", n, r, s)
	}
}

// The gate loses power at every write of its flash, alone and after the card
// has been torn as well.
func TestGatePowerCutAtEveryWrite(t *testing.T) {
	for _, torn := range []int{0, 9} {
		for n := 1; ; n++ {
			now := clock.NewVirtual(noon)
			r, s := inside(t), newSite(t, gate.Exit, dongdan, now, 4)
			s.cfg.Debits.CutAfter(n)
			r.LoseAnswer(torn)
			before := s.cfg.Debits.Writes()
			tapUntilOpen(t, "flash", n, r, s)
			settled(t, "flash", n, r, s)
			if s.cfg.Debits.Writes()-before < n {
				t.Logf("%d flash writes", n-1)
				break
			}
		}
	}
}

// Between the torn tap and the return another card pays, so that the PSAM no
// longer knows the purchase: the TAC alone is the proof.
func TestAnotherCardInBetween(t *testing.T) {
	now := clock.NewVirtual(noon)
	r, s := inside(t), newSite(t, gate.Exit, dongdan, now, 4)
	r.LoseAnswer(9)
	want(t, s.tap(r), terminal.TryAgain, terminal.Torn, 0)
	other := terminaltest.NewRider(t, "03105170070104791399", 50_00, func(_ *purse.File15, _ *purse.File17, x *purse.Transit) {
		x.Status, x.EntryStation, x.EntryAt = purse.Entered, purse.StationBytes(uint32(xidan)), purse.StampOf(noon)
	})
	want(t, s.tap(other), terminal.Opened, terminal.NoReason, 3_00)
	want(t, s.tap(r), terminal.Opened, terminal.Recovered, 8_00)
	if s.collected() != 11_00 || s.g.Store().Waiting() != 2 {
		t.Errorf("collected %d in %d", s.collected(), s.g.Store().Waiting())
	}
}

// The rider does not come back to this gate before the card has paid
// elsewhere: the log still tells, and the host gets the case.
func TestComesBackMuchLater(t *testing.T) {
	for _, paid := range []bool{true, false} {
		now := clock.NewVirtual(noon)
		r, s := inside(t), newSite(t, gate.Exit, dongdan, now, 4)
		if paid {
			r.LoseAnswer(9) // DEBIT done, answer lost
		} else {
			r.Power(card.Contactless)
			r.Memory().CutAfter(1) // DEBIT not done
		}
		want(t, s.tap(r), terminal.TryAgain, terminal.Torn, 0)
		now.Advance(10 * time.Minute)
		if !paid {
			want(t, newSite(t, gate.Exit, dongdan, now, 4).tap(r), terminal.Opened, terminal.NoReason, 8_00)
		}
		in := newSite(t, gate.Entry, xidan, now, 4)
		want(t, in.tap(r), terminal.Opened, terminal.NoReason, 0)
		now.Advance(10 * time.Minute)
		want(t, s.tap(r), terminal.Opened, terminal.NoReason, 3_00)
		doubts := s.g.Store().Doubts()
		if paid && (len(doubts) != 1 || !doubts[0].Paid || doubts[0].Intent.Fen != 8_00) || !paid && len(doubts) != 0 {
			t.Errorf("paid %v: doubts %+v", paid, doubts)
		}
		if fen, _ := r.Holds(); fen != 39_00 {
			t.Errorf("card holds %d", fen)
		}
		s.boot()
		if got := s.g.Store().Doubts(); len(got) != len(doubts) || paid && !got[0].Paid {
			t.Errorf("after power: %+v", got)
		}
	}
}
