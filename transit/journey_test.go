package transit_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/money"
	"koala/spec/purse"
	"koala/transit"
)

// story writes a card's journeys in one line each, without ids and moments of
// booking: what must not depend on the order of arrival.
func story(all []transit.Journey) string {
	var b strings.Builder
	for _, j := range all {
		fmt.Fprintf(&b, "%s %s %q %s-%s %d m, charged %s, due %s, counts %s, adjusted %s, %v %v, %q; ", j.Mode, j.State, j.Finish, j.From, j.To,
			j.Metres, j.Charged.Yuan(), j.Due.Yuan(), j.Counts.Yuan(), j.Adjusted.Yuan(), j.Taps, j.Pays, j.Exception)
	}
	return b.String()
}

func TestJourneys(t *testing.T) {
	for _, tt := range []struct {
		name string
		ride func(r *rider)
		want []string // state finish charged due exception
	}{
		{"in and out", func(r *rider) { r.enter("东单"); r.wait(20 * time.Minute).leave("西单") }, []string{"closed left 3.00 3.00 "}},
		{"inside", func(r *rider) { r.enter("东单") }, []string{"open  0.00 0.00 "}},
		{"overstay", func(r *rider) { r.enter("东单"); r.wait(5 * time.Hour).leave("西单") }, []string{"closed left 6.00 6.00 "}},
		{"same station in time", func(r *rider) { r.enter("东单"); r.wait(5 * time.Minute).leave("东单") }, []string{"closed same-station 0.00 0.00 "}},
		{"same station late", func(r *rider) { r.enter("东单"); r.wait(15 * time.Minute).leave("东单") }, []string{"closed same-station 3.00 3.00 "}},
		{"to the airport: two regions", func(r *rider) { r.enter("西单"); r.wait(time.Hour).leave("3号航站楼") }, []string{"closed left 29.00 29.00 "}},
		{"exit lost, machine closes it", func(r *rider) {
			r.enter("东单")
			r.wait(time.Hour).payMissingExit("西单")
			r.wait(time.Minute).enter("西单")
		}, []string{"incomplete missing-exit 3.00 3.00 ", "open  0.00 0.00 "}},
		{"entry lost, machine lets out", func(r *rider) { r.payMissingEntry("西单") }, []string{"incomplete missing-entry 8.00 8.00 "}},
		{"two rides and a bus between", func(r *rider) {
			r.enter("东单")
			r.wait(time.Hour).leave("国贸")
			r.wait(time.Minute).flatBus()
			r.wait(time.Minute).enter("国贸")
			r.wait(time.Hour).leave("东单")
		}, []string{"closed left 3.00 3.00 ", "closed single 1.00 1.00 ", "closed left 3.00 3.00 "}},
		{"bus by distance", func(r *rider) { r.board(1, 0); r.wait(time.Hour).alight(2, 150) }, []string{"closed left 1.50 1.50 "}},
		{"bus, student card", func(r *rider) { r.board(1, 0); r.wait(time.Hour).alight(2, 75) }, []string{"closed left 0.75 0.75 "}},
		{"bus without tap out, paid at the next", func(r *rider) {
			r.board(1, 0)
			r.wait(time.Hour).board(2, 250)
			r.wait(time.Hour).alight(3, 150)
		}, []string{"incomplete missing-exit 2.50 2.50 ", "closed left 1.50 1.50 "}},
		{"gate took too much", func(r *rider) {
			r.enter("东单")
			r.wait(time.Hour)
			d := r.leave("西单")
			r.made[len(r.made)-1] = r.as(d, 500)
		}, []string{"closed left 5.00 3.00 fare-differs"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := open(t, db.Config{URL: dbtest.File(t)})
			r := h.rider(100_00)
			tt.ride(r)
			h.now.Set(r.at.Add(time.Minute))
			h.bookAll(r.made...)
			var got []string
			for _, j := range h.journeys(r.card) {
				got = append(got, fmt.Sprintf("%s %s %s %s %s", j.State, j.Finish, j.Charged.Yuan(), j.Due.Yuan(), j.Exception))
				sum := money.Fen(0)
				for _, l := range j.Lines {
					sum = sum.Add(money.Fen(l.Fen))
				}
				if sum != j.Due {
					t.Errorf("lines sum to %s, due %s", sum, j.Due)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("journeys %q, want %q", got, tt.want)
			}
			h.prove()
		})
	}
}

// as is d with another amount, proved by the card.
func (r *rider) as(d purse.Debit, fen uint32) purse.Debit {
	d.Fen = fen
	d.TAC = purse.PurchaseTAC(purse.TACKey(purse.Disperse(dtk, r.card.Factor())), d.Fen, d.Type, d.Terminal, d.TSeq, d.At)
	return d
}

// stroll makes a random history of a card at a few stations.
func stroll(t *rapid.T, r *rider) {
	stations := []string{"东单", "西单", "国贸", "次渠", "3号航站楼"}
	at := rapid.SampledFrom(stations)
	for range rapid.IntRange(1, 6).Draw(t, "rides") {
		r.wait(time.Duration(rapid.IntRange(10, 600).Draw(t, "pause")) * time.Minute)
		stay := time.Duration(rapid.IntRange(5, 300).Draw(t, "stay")) * time.Minute
		switch rapid.IntRange(0, 6).Draw(t, "kind") {
		case 0:
			r.flatBus()
		case 1:
			r.board(1, 0)
			r.wait(stay).alight(rapid.IntRange(1, 3).Draw(t, "stop"), 150)
		case 2:
			r.board(1, 0)
			r.wait(stay).board(1, 250)
			r.wait(stay).alight(2, 150)
		case 3:
			r.enter(at.Draw(t, "from"))
			r.wait(stay).payMissingExit(at.Draw(t, "machine"))
		case 4:
			r.payMissingEntry(at.Draw(t, "machine"))
		default:
			r.enter(at.Draw(t, "from"))
			r.wait(stay).leave(at.Draw(t, "to"))
		}
	}
	if rapid.Bool().Draw(t, "inside") {
		r.enter(at.Draw(t, "last"))
	}
}

// twin is the same history on another card, as its gates would have made it.
func (r *rider) twin() *rider {
	other := r.h.rider(100_000_00)
	other.at = r.at
	for _, d := range r.made {
		d.Card = other.card
		if d.Record != nil {
			rec, err := purse.ParseTransit(d.Record)
			if err != nil {
				r.h.t.Fatal(err)
			}
			rec.Serial = other.card.Factor()
			d.Record = rec.Bytes()
		}
		other.made = append(other.made, d)
	}
	return other
}

// The model: taps in the order of the card give one story; any order with any
// repetition, some kept back and sent at the end, must give the same.
func TestAnyOrderGivesTheSameJourneys(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	rapid.Check(t, func(t *rapid.T) {
		h.now.Set(day0)
		straight := h.rider(100_000_00)
		stroll(t, straight)
		h.now.Set(straight.at.Add(time.Hour))
		mixed := straight.twin()
		h.bookAll(straight.made...)
		order := rapid.Permutation(mixed.made).Draw(t, "order")
		for _, again := range rapid.SliceOfN(rapid.IntRange(0, len(order)-1), 0, 4).Draw(t, "again") {
			order = append(order, order[again])
		}
		h.bookAll(order...)
		if got, want := story(h.journeys(mixed.card)), story(h.journeys(straight.card)); got != want {
			t.Fatalf("mixed up they are\n%s\nin order\n%s", got, want)
		}
		h.now.Advance(48 * time.Hour)
		if err := h.office.Tick(ctx, h.now.Now()); err != nil {
			t.Fatal(err)
		}
		got, want := h.journeys(mixed.card), h.journeys(straight.card)
		if story(got) != story(want) {
			t.Fatalf("after two days mixed up they are\n%s\nin order\n%s", story(got), story(want))
		}
		for _, j := range got {
			if j.State == transit.Open {
				t.Fatalf("journey still open after two days: %+v", j)
			}
		}
		if a, b := h.operators(straight.card), h.operators(mixed.card); a != b {
			t.Fatalf("operators got %s in order, %s mixed up", a, b)
		}
		h.read(func(q *db.Query) error {
			if wrong, err := transit.Check(q); err != nil || len(wrong) > 0 {
				t.Fatalf("shares: %v, %v", wrong, err)
			}
			return nil
		})
	})
}

// A line that was paid for a ride which later taps made another one of got
// everything taken back, and went on being named with 0.00 yuan. The order is
// one that showed it.
func TestALineThatGaveAllBackIsNotNamed(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		straight := h.rider(100_00)
		pause := func() *rider { return straight.wait(10 * time.Minute) }
		pause().wait(5 * time.Minute).flatBus()
		for range 2 {
			pause().board(1, 0)
			straight.wait(5*time.Minute).alight(1, 150)
		}
		pause().payMissingEntry("西单")
		pause().enter("西单")
		straight.wait(5 * time.Minute).leave("次渠")
		pause().flatBus()
		h.now.Set(straight.at.Add(time.Hour))
		mixed := straight.twin()
		h.bookAll(straight.made...)
		for _, i := range []int{5, 1, 2, 8, 9, 3, 6, 0, 4, 7} {
			h.bookAll(mixed.made[i])
		}
		if a, b := h.operators(straight.card), h.operators(mixed.card); a != b {
			t.Errorf("operators got\n%s in order,\n%s mixed up", a, b)
		}
		h.prove()
	})
}

// operators says what each line got of a card's money in the end.
func (h *house) operators(card purse.Number) string {
	var b strings.Builder
	h.read(func(q *db.Query) error {
		js, err := transit.JourneysOfCard(q, card, -1, 500)
		if err != nil {
			return err
		}
		for _, j := range js {
			shares, err := transit.SharesOf(q, j)
			if err != nil {
				return err
			}
			for _, s := range shares {
				fmt.Fprintf(&b, "%s %s %d m %s; ", s.Operator, s.Line, s.Metres, s.Fen.Yuan())
			}
		}
		return nil
	})
	return b.String()
}

func TestRebateNeedsTheWholeMonth(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		r := h.rider(1000_00)
		for range 13 { // 12 rides of 9 yuan are 108: the last has the rebate
			r.wait(2 * time.Hour).enter("天宫院")
			r.wait(2 * time.Hour).leave("十三陵景区")
		}
		h.now.Set(r.at.Add(time.Hour))
		late := r.made[3] // an exit that counts
		h.bookAll(append(slices.Clone(r.made[:3]), r.made[4:]...)...)
		js := h.journeys(r.card)
		if last := js[len(js)-1]; last.Exception != transit.Behind {
			t.Errorf("with a tap missing the last ride is %q: charged %s, due %s", last.Exception, last.Charged, last.Due)
		}
		h.bookAll(late)
		for i, j := range h.journeys(r.card) {
			if j.Exception != transit.Fine || j.State != transit.Closed {
				t.Errorf("ride %d: %s %q, charged %s, due %s", i, j.State, j.Exception, j.Charged, j.Due)
			}
		}
		h.prove()
	})
}

func TestTransitionsAreClosed(t *testing.T) {
	table := transit.Transitions()
	for s, to := range table {
		for _, n := range to {
			if _, ok := table[n]; !ok {
				t.Errorf("%q goes to %q, which the table does not know", s, n)
			}
			if !s.May(n) {
				t.Errorf("%q may not go to %q", s, n)
			}
		}
	}
	if transit.Closed.May(transit.Open) || transit.Repaired.May(transit.Incomplete) {
		t.Error("a closed journey reopens")
	}
}

func FuzzReadTap(f *testing.F) {
	rec := purse.NewTransit("03105170000000000001")
	rec.Status = purse.Entered
	f.Add(rec.Bytes(), uint32(300), []byte{0x20, 0x15, 0x09, 0x16, 0x08, 0, 0})
	f.Add([]byte{1, 2, 3}, uint32(0), []byte{})
	rules, err := transit.RulesAt(day0)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, record []byte, fen uint32, stamp []byte) {
		var at [7]byte
		copy(at[:], stamp)
		d := purse.Debit{Card: "03105170000000000001", Fen: fen, At: purse.StampFrom(at), Record: record}
		for _, kind := range []transit.DeviceKind{"", transit.EntryGate, transit.ExitGate, transit.Machine, transit.OnBus} {
			tap := transit.ReadTap(d, transit.Device{Kind: kind, Station: 10118}, day0, rules)
			js := transit.Fold(nw, rules, transit.Past{Card: d.Card}, []transit.Tap{tap, tap}, day0)
			if tap.Kind == 0 || tap.At.IsZero() || len(js) == 0 {
				t.Errorf("%s: %+v, %d journeys", kind, tap, len(js))
			}
		}
	})
}
