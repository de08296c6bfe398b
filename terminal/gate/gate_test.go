package gate_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"koala/card"
	"koala/internal/clock"
	"koala/spec/iso7816"
	"koala/spec/purse"
	"koala/terminal"
	"koala/terminal/gate"
	"koala/terminal/terminaltest"
)

func want(t *testing.T, o terminal.Outcome, result terminal.Result, reason terminal.Reason, fen uint32) {
	t.Helper()
	if o.Result != result || o.Reason != reason || o.Fen != fen {
		t.Fatalf("%s, paid %d; want %s: %s, %d", o.Words(false), o.Fen, result.Words(false), reason.Words(false), fen)
	}
	if zh := o.Words(true); zh == "" || len(o.Display(true)) == 0 || len(o.Display(false)) == 0 {
		t.Errorf("no words: %q", zh)
	}
}

// In at Xidan, out at Dongdan: nothing, then the fare of three kilometres.
func TestRide(t *testing.T) {
	now := clock.NewVirtual(noon)
	in, out := newSite(t, gate.Entry, xidan, now, 8), newSite(t, gate.Exit, dongdan, now, 8)
	r := terminaltest.NewRider(t, number, 50_00)

	o := in.tap(r)
	want(t, o, terminal.Opened, terminal.NoReason, 0)
	if !o.InTime() || o.Took < 50*time.Millisecond {
		t.Errorf("took %v", o.Took)
	}
	fen, rail := r.Holds()
	if fen != 50_00 || rail.Status != purse.Entered || rail.EntryStation != purse.StationBytes(uint32(xidan)) || rail.EntryBalance != 50_00 {
		t.Fatalf("%d fen, %+v", fen, rail)
	}
	now.Advance(11 * time.Minute)
	o = out.tap(r)
	want(t, o, terminal.Opened, terminal.NoReason, 3_00)
	if len(o.Lines) == 0 || o.Balance != 47_00 || o.Stored == nil || o.Stored.Number != 1 || o.Stored.Debit.Balance != 47_00 {
		t.Errorf("%+v", o)
	}
	fen, rail = r.Holds()
	if fen != 47_00 || rail.Status != purse.Left || rail.Actual != 3_00 || rail.Accumulated != 3_00 || rail.Count != 1 {
		t.Errorf("%d fen, %+v", fen, rail)
	}
	if in.collected() != 0 || out.collected() != 3_00 || in.g.Store().Waiting() != 1 {
		t.Errorf("collected %d and %d", in.collected(), out.collected())
	}
	if got, err := purse.ParseTransit(o.Stored.Debit.Record); err != nil || got != rail {
		t.Errorf("stored record %+v, %v", got, err)
	}
}

// The commands of one exit in their order (CARD 2.4), each with its words.
func TestDialogue(t *testing.T) {
	now := clock.NewVirtual(noon)
	in, out := newSite(t, gate.Entry, xidan, now, 8), newSite(t, gate.Exit, dongdan, now, 8)
	r := terminaltest.NewRider(t, number, 50_00)
	in.tap(r)
	out.tap(r)
	var got []string
	for _, x := range out.g.Dialogue() {
		if x.Command.INS == iso7816.InsGetResponse {
			continue
		}
		got = append(got, fmt.Sprintf("%s %X", x.Where, x.Command.Bytes()[:4]))
		if e, ok := purse.Explain(x.Command, x.Response); !ok || e.EN == "" || e.ZH == "" {
			t.Errorf("%v is not explained", x.Command)
		}
	}
	script := []string{
		"card 00A40400", "card 00B09500", "card 00B09700", "card 00B227D0", "card 805C0002", "card 80500302", "PSAM 80700000",
		"card 80DC27D0", "card 80DC00F0", "card 80540100", "PSAM 80720000",
	}
	if strings.Join(got, "\n") != strings.Join(script, "\n") {
		t.Errorf("sent\n%s", strings.Join(got, "\n"))
	}
}

func TestRefusals(t *testing.T) {
	type change = func(*purse.File15, *purse.File17, *purse.Transit)
	for _, tt := range []struct {
		name   string
		fen    uint32
		change change
		want   terminal.Reason
	}{
		{"expired", 50_00, func(f *purse.File15, _ *purse.File17, _ *purse.Transit) { f.To = purse.DateBCD(2024, 12, 29) }, terminal.Expired},
		{"not yet valid", 50_00, func(f *purse.File15, _ *purse.File17, _ *purse.Transit) { f.From = purse.DateBCD(2024, 12, 31) }, terminal.NotYetValid},
		{"other city", 50_00, func(_ *purse.File15, f *purse.File17, _ *purse.Transit) { f.City, f.Interop = [2]byte{0x58}, [2]byte{} }, terminal.OtherCity},
		{"own city, not interoperable", 50_00, func(_ *purse.File15, f *purse.File17, _ *purse.Transit) { f.Interop = [2]byte{} }, terminal.NoReason},
		{"record locked", 50_00, func(_ *purse.File15, _ *purse.File17, r *purse.Transit) { r.Lock = 1 }, terminal.RecordLocked},
		{"record of another card", 50_00, func(_ *purse.File15, _ *purse.File17, r *purse.Transit) { r.Serial[0] ^= 1 }, terminal.RecordDamaged},
		{"too little to enter", 2_99, nil, terminal.NoMoney},
		{"just enough to enter", 3_00, nil, terminal.NoReason},
		{"still inside since yesterday", 50_00, func(_ *purse.File15, _ *purse.File17, r *purse.Transit) {
			r.Status, r.EntryStation = purse.Entered, purse.StationBytes(uint32(far))
			r.EntryAt = purse.StampOf(noon.Add(-24 * time.Hour))
		}, terminal.MissingExit},
		{"just entered here", 50_00, func(_ *purse.File15, _ *purse.File17, r *purse.Transit) {
			r.Status, r.EntryStation = purse.Entered, purse.StationBytes(uint32(xidan))
			r.EntryAt = purse.StampOf(noon.Add(-time.Minute))
		}, terminal.AgainHere},
	} {
		t.Run(tt.name, func(t *testing.T) {
			change := tt.change
			if change == nil {
				change = func(*purse.File15, *purse.File17, *purse.Transit) {}
			}
			r := terminaltest.NewRider(t, number, tt.fen, change)
			s := newSite(t, gate.Entry, xidan, clock.NewVirtual(noon), 8)
			result := terminal.Refused
			if tt.want == terminal.NoReason || tt.want == terminal.AgainHere {
				result = terminal.Opened
			}
			want(t, s.tap(r), result, tt.want, 0)
			if fen, _ := r.Holds(); fen != tt.fen {
				t.Errorf("card holds %d", fen)
			}
		})
	}
}

func TestExitRules(t *testing.T) {
	now := clock.NewVirtual(noon)
	in, out := newSite(t, gate.Entry, xidan, now, 8), newSite(t, gate.Exit, dongdan, now, 8)
	r := terminaltest.NewRider(t, number, 3_00)
	want(t, out.tap(r), terminal.Refused, terminal.MissingEntry, 0)
	want(t, in.tap(r), terminal.Opened, terminal.NoReason, 0)
	want(t, in.tap(r), terminal.Opened, terminal.AgainHere, 0)
	want(t, out.tap(r), terminal.Opened, terminal.NoReason, 3_00)
	want(t, out.tap(r), terminal.Opened, terminal.AgainHere, 0)
	now.Advance(10 * time.Minute)
	want(t, out.tap(r), terminal.Refused, terminal.MissingEntry, 0)

	poor := terminaltest.NewRider(t, "03105170070104791399", 5_00, func(_ *purse.File15, _ *purse.File17, x *purse.Transit) {
		x.Status, x.EntryStation, x.EntryAt = purse.Entered, purse.StationBytes(uint32(far)), purse.StampOf(noon)
	})
	want(t, out.tap(poor), terminal.Refused, terminal.NoMoney, 0)
	lost := terminaltest.NewRider(t, "03105170070104791340", 5_00, func(_ *purse.File15, _ *purse.File17, x *purse.Transit) {
		x.Status, x.EntryStation, x.EntryAt = purse.Entered, purse.StationBytes(uint32(airport)), purse.StampOf(noon)
	})
	want(t, out.tap(lost), terminal.Refused, terminal.UnknownStation, 0)
}

// A ride that lacks an end is repaired at the self-service machine, and then
// the gate opens.
func TestRepair(t *testing.T) {
	now := clock.NewVirtual(noon)
	in, out, desk := newSite(t, gate.Entry, dongdan, now, 8), newSite(t, gate.Exit, dongdan, now, 8), newSite(t, gate.Service, dongdan, now, 8)
	r := terminaltest.NewRider(t, number, 50_00)
	o := out.tap(r)
	want(t, o, terminal.Refused, terminal.MissingEntry, 0)
	want(t, desk.repair(r, terminal.MissingExit), terminal.Refused, terminal.NothingToDo, 0)
	o = desk.repair(r, terminal.MissingEntry)
	if o.Result != terminal.Opened || o.Stored == nil {
		t.Fatalf("%+v", o)
	}
	paid := o.Fen
	want(t, out.tap(r), terminal.Opened, terminal.NoReason, 0)

	now.Advance(time.Hour)
	want(t, in.tap(r), terminal.Opened, terminal.NoReason, 0)
	now.Advance(24 * time.Hour)
	want(t, in.tap(r), terminal.Refused, terminal.MissingExit, 0)
	o = desk.repair(r, terminal.MissingExit)
	if o.Result != terminal.Opened {
		t.Fatalf("%+v", o)
	}
	paid += o.Fen
	want(t, in.tap(r), terminal.Opened, terminal.NoReason, 0)
	want(t, desk.tap(r), terminal.Refused, terminal.NothingToDo, 0)
	if fen, _ := r.Holds(); fen+paid != 50_00 || desk.collected() != paid {
		t.Errorf("card %d, paid %d, collected %d", fen, paid, desk.collected())
	}
}

func TestDenied(t *testing.T) {
	s := newSite(t, gate.Entry, xidan, clock.NewVirtual(noon), 8)
	text, err := purse.DenyDelta{To: 1, At: noon, Changes: []purse.Denial{{Card: number, Reason: purse.DenyLost}}}.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.g.Deny().Apply(terminaltest.Sign(text)); err != nil {
		t.Fatal(err)
	}
	o := s.tap(terminaltest.NewRider(t, number, 50_00))
	want(t, o, terminal.Refused, terminal.OnDenyList, 0)
	if o.Deny != purse.DenyLost {
		t.Errorf("%+v", o)
	}
}

func TestNotATransitCard(t *testing.T) {
	s := newSite(t, gate.Entry, xidan, clock.NewVirtual(noon), 8)
	if err := s.sam.Reset(); err != nil {
		t.Fatal(err)
	}
	for sw, reason := range map[iso7816.SW]terminal.Reason{0x6A82: terminal.NoPurse, 0x6283: terminal.CardBlocked, 0x9303: terminal.CardBlocked, 0x6F00: terminal.CardRefused} {
		o, err := s.g.Tap(func(iso7816.Command) (iso7816.Response, error) { return iso7816.Response{SW: sw}, nil }, terminaltest.Contact(s.sam))
		if err != nil || o.Result != terminal.Refused || o.Reason != reason {
			t.Errorf("%v: %s, %v", sw, o.Words(false), err)
		}
	}
}

// A ride on a bus that was not closed is paid at the next metro gate, at the
// price the bus left on the card.
func TestOpenBusRideIsPaidAtEntry(t *testing.T) {
	s := newSite(t, gate.Entry, xidan, clock.NewVirtual(noon), 8)
	r := terminaltest.NewRider(t, number, 50_00, func(_ *purse.File15, _ *purse.File17, x *purse.Transit) {
		x.Status, x.EntryAt, x.MaxFare, x.Flags[0] = purse.Entered, purse.StampOf(noon.Add(-time.Hour)), 4_50, purse.IndustryBus
	})
	want(t, s.tap(r), terminal.Opened, terminal.NoReason, 4_50)
	if fen, rail := r.Holds(); fen != 45_50 || rail.EntryAmount != 4_50 || rail.EntryBalance != 45_50 || terminal.OnBus(rail) || s.collected() != 4_50 {
		t.Errorf("%d, %+v, collected %d", fen, rail, s.collected())
	}
}

// The month's spending begins anew with the month.
func TestMonthTurns(t *testing.T) {
	now := clock.NewVirtual(noon)
	in, out := newSite(t, gate.Entry, xidan, now, 8), newSite(t, gate.Exit, dongdan, now, 8)
	r := terminaltest.NewRider(t, number, 50_00, func(_ *purse.File15, _ *purse.File17, x *purse.Transit) {
		x.LastAt, x.Accumulated, x.Count = purse.StampOf(noon.Add(-time.Hour)), 160_00, 40
	})
	in.tap(r)
	want(t, out.tap(r), terminal.Opened, terminal.NoReason, 1_50) // from 150 yuan on half
	now.Set(noon.AddDate(0, 0, 3))
	in.tap(r)
	want(t, out.tap(r), terminal.Opened, terminal.NoReason, 3_00)
	if _, rail := r.Holds(); rail.Accumulated != 3_00 || rail.Count != 1 {
		t.Errorf("%+v", rail)
	}
}

// A PSAM that stops working takes the gate out of service, not the card's money.
func TestPSAMFails(t *testing.T) {
	s := newSite(t, gate.Entry, xidan, clock.NewVirtual(noon), 8)
	r := terminaltest.NewRider(t, number, 50_00)
	s.sam.PowerOff()
	want(t, s.tap(r), terminal.OutOfService, terminal.SAMRefused, 0)
	s.boot()
	want(t, s.tap(r), terminal.Opened, terminal.NoReason, 0)
}

// A card that answers DEBIT without having a key does not open the gate.
func TestForgedCard(t *testing.T) {
	s := newSite(t, gate.Entry, xidan, clock.NewVirtual(noon), 8)
	r := terminaltest.NewRider(t, number, 50_00)
	r.Power(card.Contactless)
	defer r.PowerOff()
	forged := func(c iso7816.Command) (iso7816.Response, error) {
		if c.INS == purse.InsDebit {
			return iso7816.Response{Data: make([]byte, 8), SW: iso7816.OK}, nil
		}
		return r.Transmit(c)
	}
	o, err := s.g.Tap(forged, terminaltest.Contact(s.sam))
	if err != nil || o.Result != terminal.Refused || o.Reason != terminal.WrongProof {
		t.Errorf("%s, %v", o.Words(false), err)
	}
	if s.g.Store().Waiting() != 0 || len(s.g.Store().Doubts()) != 1 {
		t.Errorf("%d stored, %d doubts", s.g.Store().Waiting(), len(s.g.Store().Doubts()))
	}
}

func TestFullGateTakesNoMoney(t *testing.T) {
	now := clock.NewVirtual(noon)
	s := newSite(t, gate.Entry, xidan, now, 4)
	r := terminaltest.NewRider(t, number, 50_00)
	taps := 0
	for ; taps < 200; taps++ {
		o := s.tap(r)
		if o.Result == terminal.OutOfService {
			want(t, o, terminal.OutOfService, terminal.StoreFull, 0)
			break
		}
		want(t, o, terminal.Opened, terminal.NoReason, 0)
		now.Advance(time.Minute)
		s.leaveBehind(r)
	}
	if taps < 15 || taps == 200 {
		t.Fatalf("full after %d taps", taps)
	}
	if err := s.g.Store().Release(uint32(taps)); err != nil {
		t.Fatal(err)
	}
	want(t, s.tap(r), terminal.Opened, terminal.NoReason, 0)
	if s.g.Store().Waiting() != 1 || s.g.Store().Batch(1)[0].Number != uint32(taps)+1 {
		t.Errorf("%d waiting", s.g.Store().Waiting())
	}
}

// leaveBehind makes the card forget its ride by a purchase at another gate.
func (s *site) leaveBehind(r *terminaltest.Rider) {
	s.t.Helper()
	out := newSite(s.t, gate.Exit, xidan, s.now, 8)
	if o := out.tap(r); o.Result != terminal.Opened {
		s.t.Fatal(o.Words(false))
	}
}

func TestTariffPack(t *testing.T) {
	now := clock.NewVirtual(noon)
	s := newSite(t, gate.Entry, xidan, now, 8)
	other, err := table(t, dongdan).AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.g.Load(terminaltest.Sign(other)); !errors.Is(err, gate.ErrStation) {
		t.Errorf("other station: %v", err)
	}
	newer := table(t, xidan)
	newer.Version++
	pack, _ := newer.AppendBinary(nil)
	bad := terminaltest.Sign(pack)
	bad[40] ^= 1
	if err := s.g.Load(bad); !errors.Is(err, gate.ErrSignature) {
		t.Errorf("changed pack: %v", err)
	}
	for n := 1; ; n++ {
		s.cfg.Tariff.CutAfter(n)
		err := s.g.Load(terminaltest.Sign(pack))
		s.boot()
		if err == nil {
			break
		}
		if !errors.Is(err, terminal.ErrPower) || s.g.Table().Version != 7 {
			t.Fatalf("cut %d: %v, version %d", n, err, s.g.Table().Version)
		}
	}
	if s.g.Table().Version != 8 {
		t.Errorf("version %d", s.g.Table().Version)
	}
	if err := s.g.Load(terminaltest.Sign(pack)); !errors.Is(err, terminal.ErrOld) {
		t.Errorf("same again: %v", err)
	}
	fresh := newSite(t, gate.Entry, xidan, now, 8)
	fresh.cfg.Tariff = terminal.NewFlash(2)
	fresh.boot()
	want(t, fresh.tap(terminaltest.NewRider(t, number, 50_00)), terminal.OutOfService, terminal.NoTariff, 0)
}

func BenchmarkExit(b *testing.B) {
	now := clock.NewVirtual(noon)
	in, out := newSite(b, gate.Entry, xidan, now, 64), newSite(b, gate.Exit, dongdan, now, 64)
	in.cfg.Record, out.cfg.Record = false, false
	in.boot()
	out.boot()
	r := terminaltest.NewRider(b, number, 900_00)
	b.ResetTimer()
	for i := range b.N {
		s := in
		if i%2 == 1 {
			s = out
		}
		if o := s.tap(r); o.Result != terminal.Opened {
			b.Fatal(o.Words(false))
		}
		if i%64 == 63 {
			in.empty()
			out.empty()
		}
		if i%512 == 511 {
			b.StopTimer()
			r = terminaltest.NewRider(b, number, 900_00)
			in.boot()
			b.StartTimer()
		}
	}
}

func (s *site) empty() {
	if err := s.g.Store().Release(s.g.Store().Next() - 1); err != nil {
		s.t.Fatal(err)
	}
}
