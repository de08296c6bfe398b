package transit_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"slices"
	"testing"
	"time"

	"koala/calendar"
	"koala/fare"
	"koala/internal/db"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/spec/purse"
	"koala/transit"
)

func batch(first uint32, debits ...purse.Debit) purse.Batch {
	return purse.Batch{Terminal: debits[0].Terminal, First: first, Debits: debits}
}

func (h *house) float(r *rider) money.Amount {
	h.t.Helper()
	b, err := h.book.Balance(ledger.AccountID("float." + string(r.card)))
	if err != nil {
		h.t.Fatal(err)
	}
	return b.Posted
}

func TestCollect(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		r := h.rider(50_00)
		in := r.enter("东单")
		out := r.wait(20 * time.Minute).leave("西单")
		r.wait(time.Hour).enter("西单")
		back := r.wait(20 * time.Minute).leave("东单")
		h.now.Set(r.at.Add(time.Hour))
		forged := out
		forged.TAC[0] ^= 1
		fork := r.as(out, 400)
		for _, tt := range []struct {
			name    string
			batch   purse.Batch
			release uint32
			float   int64
			odd     int
		}{
			{"exit before entry", batch(1, out), 1, 47_00, 0},
			{"a gap in the exit gate's numbers", batch(3, out), 3, 47_00, 0},
			{"entry", batch(1, in), 1, 47_00, 0},
			{"the same again", batch(1, in, in), 2, 47_00, 0},
			{"forged", batch(4, forged), 4, 47_00, 1},
			{"forged again", batch(4, forged), 4, 47_00, 1},
			{"forked", batch(5, fork), 5, 47_00, 2},
			{"exit of a ride whose entry never comes", batch(1, back), 1, 44_00, 2},
		} {
			release, err := h.office.Collect(ctx, tt.batch)
			if err != nil || release != tt.release {
				t.Fatalf("%s: release %d, %v; want %d", tt.name, release, err, tt.release)
			}
			if got := h.float(r); got.Minor() != tt.float {
				t.Errorf("%s: float %s, want %d fen", tt.name, got, tt.float)
			}
			h.read(func(q *db.Query) error {
				odd, err := transit.OddTaps(q, "", 100)
				if len(odd) != tt.odd {
					t.Errorf("%s: %d odd taps, want %d", tt.name, len(odd), tt.odd)
				}
				return err
			})
		}
		js := h.journeys(r.card)
		if len(js) != 2 || js[0].State != transit.Closed || js[1].State != transit.Closed {
			t.Errorf("journeys %s", story(js))
		}
		h.read(func(q *db.Query) error {
			terminals, err := transit.Gaps(q, false, time.Time{}, 100)
			cards, err2 := transit.Gaps(q, true, time.Time{}, 100)
			if len(terminals) != 1 || terminals[0].Low != 2 || terminals[0].High != 2 || len(cards) != 1 || cards[0].Low != 2 {
				t.Errorf("gaps of terminals %+v, of cards %+v", terminals, cards)
			}
			d, err3 := transit.DeviceOf(q, out.Terminal)
			if d.Number != 5 || d.Lag(h.now.Now()) != 0 || d.Seen.IsZero() {
				t.Errorf("device %+v", d)
			}
			return errors.Join(err, err2, err3)
		})
		h.prove()
	})
}

func TestCollectStopsWhereItFails(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		r := h.rider(50_00)
		one := r.enter("东单")
		other := h.rider(50_00).enter("西单")
		if release, err := h.office.Collect(ctx, batch(7, one, other)); !errors.Is(err, transit.ErrBatch) || release != 7 {
			t.Errorf("a debit of another terminal: release %d, %v", release, err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if release, err := h.office.Collect(ended, batch(8, one)); err == nil || release != 7 {
			t.Errorf("key store not reached: release %d, %v", release, err)
		}
	})
}

// A card has paid even if the books do not know its money yet.
func TestFloatCatchesUp(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		r := h.rider(0)
		r.enter("东单")
		r.wait(time.Hour).leave("西单")
		h.now.Set(r.at.Add(time.Hour))
		h.bookAll(r.made...)
		b, err := h.book.Balance("clearing.transit")
		if err != nil || b.Posted.Minor() != -300 {
			t.Errorf("clearing account %s, %v", b.Posted, err)
		}
		h.do(func(tx *db.Tx) error {
			_, err := ledger.Post(tx, ledger.Move("late", "source", ledger.AccountID("float."+string(r.card)), money.Fen(10_00)))
			return err
		})
		for range 2 {
			if err := h.office.Tick(ctx, h.now.Now()); err != nil {
				t.Fatal(err)
			}
			b, err = h.book.Balance("clearing.transit")
			if err != nil || b.Posted.Minor() != 0 || h.float(r).Minor() != 7_00 {
				t.Errorf("after the top-up is booked: clearing %s, float %s, %v", b.Posted, h.float(r), err)
			}
		}
		h.prove()
	})
}

func TestUnknownDeviceWaitsForStaff(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		r := h.rider(50_00)
		r.enter("东单")
		d := r.wait(time.Hour).leave("西单")
		d.Terminal = purse.Terminal{9, 9, 9, 9, 9, 9}
		d = r.as(d, 300)
		h.now.Set(r.at.Add(time.Minute))
		h.bookAll(r.made[0], d)
		js := h.journeys(r.card)
		if len(js) != 1 || js[0].Exception != transit.UnknownDevice || js[0].State != transit.Closed {
			t.Errorf("journeys %s", story(js))
		}
	})
}

func (h *house) repair(j transit.Journey, station string) (transit.Journey, error) {
	var out transit.Journey
	err := h.store.Write(ctx, func(tx *db.Tx) (err error) {
		out, err = h.office.Books().Repair(tx, transit.Repair{
			Journey: j.ID, Station: h.station(station).Code(), Reason: "gate was open", Who: "cust_1", Account: "rider",
		})
		return err
	})
	return out, err
}

func (h *house) openRiderAccount(fen int64) {
	h.t.Helper()
	h.do(func(tx *db.Tx) error {
		if err := ledger.OpenAccount(tx, ledger.Account{ID: "rider", Code: "2010", Name: "wallet", Currency: money.CNY, Limits: ledger.Limits{Floor: ledger.AtLeast(0)}}); err != nil {
			return err
		}
		_, err := ledger.Post(tx, ledger.Move("fund", "source", "rider", money.Fen(fen)))
		return err
	})
}

func (h *house) wallet() int64 {
	h.t.Helper()
	b, err := h.book.Balance("rider")
	if err != nil {
		h.t.Fatal(err)
	}
	return b.Posted.Minor()
}

func TestRepair(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.openRiderAccount(20_00)
		r := h.rider(100_00)
		r.enter("东单")
		r.wait(time.Hour).payMissingExit("国贸")  // 3.00
		r.wait(time.Hour).payMissingEntry("西单") // 8.00
		r.wait(time.Hour).enter("苹果园")
		h.now.Set(r.at.Add(30 * time.Hour))
		h.bookAll(r.made...)
		js := h.journeys(r.card)
		if len(js) != 3 || js[2].State != transit.Incomplete || js[2].Charged.Minor() != 0 {
			t.Fatalf("journeys %s", story(js))
		}
		for _, tt := range []struct {
			name    string
			journey int
			station string
			due     int64
			wallet  int64
		}{
			{"left farther than paid for: 5.00", 0, "八宝山", 500, 18_00},
			{"the same again", 0, "八宝山", 500, 18_00},
			{"entered near: 3.00 of 8.00", 1, "东单", 300, 23_00},
			{"nothing was paid", 2, "古城", 300, 20_00},
		} {
			j, err := h.repair(js[tt.journey], tt.station)
			if err != nil || j.State != transit.Repaired || j.Due.Minor() != tt.due || j.Charged.Add(j.Adjusted) != j.Due {
				t.Fatalf("%s: %v, %v", tt.name, story([]transit.Journey{j}), err)
			}
			if h.wallet() != tt.wallet {
				t.Errorf("%s: wallet %d, want %d", tt.name, h.wallet(), tt.wallet)
			}
		}
		h.prove()
		// The machine's purchase for the third ride comes late: its 3.00 go back.
		late := r.payMissingExit("西单")
		h.bookAll(late)
		j := h.journeys(r.card)[2]
		if j.State != transit.Repaired || h.wallet() != 23_00 || j.Charged.Add(j.Adjusted) != j.Due {
			t.Errorf("after the late tap: %s, wallet %d", story([]transit.Journey{j}), h.wallet())
		}
		h.read(func(q *db.Query) error {
			fixes, err := transit.Fixes(q, j.ID)
			if len(fixes) != 2 || fixes[0].Who != "cust_1" || fixes[1].Who != "house" || fixes[1].Fen.Minor() != -300 {
				t.Errorf("history %+v", fixes)
			}
			return err
		})
		h.prove()
	})
}

func TestRepairRefusals(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.openRiderAccount(1_00)
		r := h.rider(100_00)
		for range 7 {
			r.wait(time.Hour).enter("东单")
			r.wait(time.Hour).payMissingExit("国贸")
		}
		r.enter("东单")
		r.wait(time.Hour).leave("西单")
		h.now.Set(r.at.Add(time.Hour))
		h.bookAll(r.made...)
		js := h.journeys(r.card)
		if _, err := h.repair(js[7], "西单"); !errors.Is(err, transit.ErrNotMissing) {
			t.Errorf("a complete journey: %v", err)
		}
		if _, err := h.repair(js[0], "八宝山"); !errors.Is(err, ledger.ErrInsufficient) {
			t.Errorf("no money for 2.00 more: %v", err)
		}
		if _, err := h.repair(transit.Journey{ID: "jrny_none"}, "西单"); !errors.Is(err, transit.ErrNoJourney) {
			t.Errorf("no such journey: %v", err)
		}
		for i := range 5 {
			if _, err := h.repair(js[i], "西单"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.repair(js[5], "西单"); !errors.Is(err, transit.ErrRepairs) {
			t.Errorf("a sixth in one month: %v", err)
		}
		h.now.Advance(40 * 24 * time.Hour)
		if _, err := h.repair(js[6], "西单"); !errors.Is(err, transit.ErrTooLate) {
			t.Errorf("after forty days: %v", err)
		}
	})
}

func TestDenyList(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		key, err := h.keys.PublicKey(ctx, hsmSign)
		if err != nil {
			t.Fatal(err)
		}
		deny := func(card purse.Number, why purse.DenyReason) {
			h.do(func(tx *db.Tx) error { return h.office.Books().Deny(tx, card, why, "test") })
		}
		next := func(have uint32) purse.DenyDelta {
			t.Helper()
			pack, err := h.office.DenyPack(ctx, have)
			if err != nil {
				t.Fatal(err)
			}
			if pack == nil {
				return purse.DenyDelta{}
			}
			d, err := purse.OpenDenyDelta(key, pack)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		publish := func() {
			t.Helper()
			h.now.Advance(time.Second)
			if err := h.office.Publish(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if d := next(0); d.To != 0 {
			t.Errorf("before the first version: %+v", d)
		}
		a, b := purse.Number("03105170000000000001"), purse.Number("03105170000000000002")
		deny(a, purse.DenyLost)
		publish()
		publish() // nothing changed
		deny(b, purse.DenyForged)
		deny(a, purse.Allowed)
		publish()
		if d := next(1); d.From != 1 || d.To != 2 || !slices.Equal(d.Changes, []purse.Denial{{Card: a}, {Card: b, Reason: purse.DenyForged}}) {
			t.Errorf("delta to version 2: %+v", d)
		}
		if d := next(0); d.From != 0 || d.To != 2 || !slices.Equal(d.Changes, []purse.Denial{{Card: b, Reason: purse.DenyForged}}) {
			t.Errorf("whole list: %+v", d)
		}
		if d := next(2); d.To != 0 {
			t.Errorf("nothing new: %+v", d)
		}
		gate := h.gate(transit.ExitGate, "西单")
		if d, err := h.office.HasDeny(ctx, gate, 2); err != nil || d.DenyVersion != 2 || d.DenyAt.IsZero() {
			t.Errorf("device %+v, %v", d, err)
		}
		if _, err := h.office.HasDeny(ctx, purse.Terminal{7}, 2); !errors.Is(err, transit.ErrNoDevice) {
			t.Errorf("unknown device: %v", err)
		}
		h.read(func(q *db.Query) error {
			list, err := transit.DenyList(q, "", 10)
			if len(list) != 1 || list[0].Card != b || list[0].Version != 2 {
				t.Errorf("list %+v", list)
			}
			return err
		})
	})
}

const hsmSign = "pack.sign"

func TestTariffPacks(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		key, err := h.keys.PublicKey(ctx, hsmSign)
		if err != nil {
			t.Fatal(err)
		}
		s := h.station("东单")
		for _, code := range s.Codes {
			pack, err := h.office.Pack(ctx, code, 0)
			if err != nil {
				t.Fatal(err)
			}
			n := len(pack) - ed25519.SignatureSize
			table, err := fare.ParseTable(pack[:n])
			if err != nil || !ed25519.Verify(key, pack[:n], pack[n:]) || table.Station != code || table.Version != 1 || !table.Valid(calendar.ServiceDay(h.now.Now())) {
				t.Fatalf("pack of %s: %v", code, err)
			}
			if again, err := h.office.Pack(ctx, code, 1); err != nil || again != nil {
				t.Errorf("the gate has it: %d bytes, %v", len(again), err)
			}
			if again, err := h.office.Pack(ctx, code, 0); err != nil || !slices.Equal(again, pack) {
				t.Errorf("asked again it differs: %v", err)
			}
		}
		if _, err := h.office.Pack(ctx, 1, 0); err == nil {
			t.Error("a pack of no station")
		}
	})
}

func TestClearingAndFlow(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.now.Set(day0.Add(2 * time.Hour))
		for i := range 6 {
			r := h.rider(100_00)
			r.at = day0
			r.enter("西单")
			to := "菜市口" // line 4, another operator
			if i == 0 {
				to = "东单"
			}
			r.wait(30 * time.Minute).leave(to)
			h.bookAll(r.made...)
		}
		h.prove()
		h.read(func(q *db.Query) error {
			table, err := transit.Clearing(q, calendar.ServiceDay(day0))
			sum, lines := money.Fen(0), []string{}
			for _, s := range table {
				sum, lines = sum.Add(s.Fen), append(lines, s.Operator+" "+s.Line)
			}
			if sum.Minor() != 6*300 || !slices.Equal(lines, []string{"bjmtr 4", "bjsubway 1"}) {
				t.Errorf("cleared %s on %v", sum, lines)
			}
			for _, tt := range []struct{ k, in, out int }{{0, 6, 5}, {6, 6, -1}, {7, -1, -1}, {1, 6, 5}} {
				flow, err := transit.Flow(q, day0.Add(-time.Hour), day0.Add(time.Hour), tt.k)
				if err != nil {
					return err
				}
				in, out := 0, 0
				for _, c := range flow {
					switch c.Station {
					case h.station("西单").Code():
						in = c.In
					case h.station("菜市口").Code():
						out = c.Out
					}
				}
				if in != tt.in || out != tt.out {
					t.Errorf("k %d: %d in, %d out; want %d, %d", tt.k, in, out, tt.in, tt.out)
				}
			}
			open, err2 := settlement.Open(q)
			if len(open) != 2 {
				t.Errorf("to be paid: %+v", open)
			}
			return errors.Join(err, err2)
		})
	})
}

func TestRegisterRefuses(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		for name, d := range map[string]transit.Device{
			"no kind":          {Terminal: purse.Terminal{1}, Station: 10118},
			"no station":       {Terminal: purse.Terminal{1}, Kind: transit.ExitGate},
			"no terminal":      {Kind: transit.ExitGate, Station: h.station("东单").Code()},
			"bus with no stop": {Terminal: purse.Terminal{1}, Kind: transit.OnBus, Operator: "bjbus"},
			"bus of nobody":    {Terminal: purse.Terminal{1}, Kind: transit.OnBus, Route: transit.Route{FlatFen: 200}},
		} {
			err := h.store.Write(ctx, func(tx *db.Tx) error { return h.office.Books().Register(tx, d) })
			if !errors.Is(err, transit.ErrDevice) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
