package reconcile

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/calendar"
)

var (
	testDay = calendar.Date{Year: 2015, Month: time.September, Day: 16}
	noon    = time.Date(2015, 9, 16, 12, 0, 0, 0, calendar.Beijing)
)

func one(rrn string, fen int64) Item {
	return Item{RRN: rrn, Acquirer: "48021000", TID: "10000001", STAN: "000001", Date: testDay, Kind: Sale, State: Cleared, Fen: fen, Fee: 5, Network: 1, At: noon, Class: "debit"}
}

func with(x Item, f func(*Item)) Item { f(&x); return x }

func compare(t testing.TB, ours, theirs []Item, cutOff time.Time, c Carried) Result {
	t.Helper()
	a, b := slices.Clone(ours), slices.Clone(theirs)
	order(a)
	order(b)
	r, err := Match(List(a), List(b), cutOff, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestEveryDifference provokes each type that a comparison can find.
func TestEveryDifference(t *testing.T) {
	bare := func(rrn string) Item { return with(one(rrn, 100), func(x *Item) { x.RRN = rrn }) }
	for _, tt := range []struct {
		name         string
		ours, theirs []Item
		want         Type // empty: all agrees
		gross        int64
	}{
		{"agrees", []Item{one("1", 100)}, []Item{one("1", 100)}, "", 0},
		{"missing at network", []Item{one("1", 100)}, nil, MissingAtNetwork, -100},
		{"missing here", nil, []Item{one("1", 100)}, MissingHere, 100},
		{"amount", []Item{one("1", 100)}, []Item{one("1", 130)}, AmountDiffers, 30},
		{"fee", []Item{one("1", 100)}, []Item{with(one("1", 100), func(x *Item) { x.Fee++ })}, FeeDiffers, 0},
		{"fee of the network", []Item{one("1", 100)}, []Item{with(one("1", 100), func(x *Item) { x.Network++ })}, FeeDiffers, 0},
		{"twice in the file", []Item{one("1", 100)}, []Item{one("1", 100), one("1", 100)}, DuplicateInFile, 100},
		{"late", []Item{with(one("1", 100), func(x *Item) { x.At = noon.Add(11 * time.Hour) })}, nil, Late, -100},
		{"reversed here", []Item{with(one("1", 100), func(x *Item) { x.State = Reversed })}, []Item{one("1", 100)}, ReversedCleared, 100},
		{"declined here", []Item{with(one("1", 100), func(x *Item) { x.State = Declined })}, []Item{one("1", 100)}, DeclinedCleared, 100},
		{"currency", []Item{one("1", 100)}, []Item{with(one("1", 100), func(x *Item) { x.Currency = "344" })}, CurrencyDiffers, -100},
		{"class", []Item{one("1", 100)}, []Item{with(one("1", 100), func(x *Item) { x.Class = "credit" })}, ClassDiffers, 0},
		{"class not told", []Item{one("1", 100)}, []Item{with(one("1", 100), func(x *Item) { x.Class = "" })}, "", 0},
		{"reversed on both sides", []Item{with(one("1", 100), func(x *Item) { x.State = Reversed })},
			[]Item{one("1", 100), with(one("1", -100), func(x *Item) { x.Kind = Reversal })}, "", 0},
		{"reversed on both sides, never in the file", []Item{with(one("1", 100), func(x *Item) { x.State = Reversed })}, nil, "", 0},
		{"their reversal only", []Item{one("1", 100)}, []Item{one("1", 100), with(one("1", -100), func(x *Item) { x.Kind = Reversal })}, MissingAtNetwork, -100},
		{"no reference: found by terminal and trace", []Item{one("1", 100)}, []Item{with(one("1", 100), func(x *Item) { x.RRN = "" })}, "", 0},
		{"a completion is a sale in the file", []Item{with(one("1", 100), func(x *Item) { x.Kind = Completion })}, []Item{one("1", 100)}, "", 0},
		{"a chargeback of the sale", []Item{one("1", 100), with(one("1", -100), func(x *Item) { x.Kind = Chargeback })},
			[]Item{one("1", 100), with(one("1", -100), func(x *Item) { x.Kind = Chargeback })}, "", 0},
		{"a chargeback we do not know", []Item{one("1", 100)}, []Item{one("1", 100), with(one("1", -100), func(x *Item) { x.Kind = Chargeback })}, MissingHere, -100},
		{"nothing to go by", nil, []Item{with(bare("1"), func(x *Item) { x.RRN, x.TID = "", "" })}, MissingHere, 100},
	} {
		r := compare(t, tt.ours, tt.theirs, noon.Add(10*time.Hour), Carried{})
		switch {
		case tt.want == "" && len(r.Differences) > 0:
			t.Errorf("%s: %+v", tt.name, r.Differences)
		case tt.want != "" && (len(r.Differences) != 1 || r.Differences[0].Type != tt.want || r.Differences[0].Gross != tt.gross):
			t.Errorf("%s: %+v, want %s %d", tt.name, r.Differences, tt.want, tt.gross)
		}
	}
}

func TestCarriedItemsFindTheirHalf(t *testing.T) {
	late, unknown := one("1", 100), one("2", 70)
	c := Carried{Ours: []Carry{{"a", late}, {"b", one("9", 1)}}, Theirs: []Carry{{"c", unknown}}}
	r := compare(t, []Item{unknown}, []Item{late}, time.Time{}, c)
	if !slices.Equal(r.Resolved, []string{"a", "c"}) || !slices.Equal(r.Missed, []string{"b"}) || len(r.Differences) != 0 || r.Matched.Fen != 170 {
		t.Errorf("%+v", r)
	}
	r = compare(t, nil, []Item{with(late, func(x *Item) { x.Fen = 101 })}, time.Time{}, c)
	if !slices.Equal(r.Resolved, []string{"a"}) || len(r.Differences) != 1 || r.Differences[0].Gross != 1 {
		t.Errorf("another amount: %+v", r)
	}
}

// TestSumsExplainThemselves: whatever the two sides have, what differs is
// exactly the sum of the exceptions, gross and fees alike.
func TestSumsExplainThemselves(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ours, theirs, cutOff := drawSides(rt)
		r := compare(t, ours, theirs, cutOff, Carried{})
		var booked, gross, fee, network int64
		var bookedFee, bookedNetwork int64
		for i := range ours {
			fen, f, n := ours[i].owed()
			booked, bookedFee, bookedNetwork = booked+fen, bookedFee+f, bookedNetwork+n
		}
		for _, d := range r.Differences {
			gross, fee, network = gross+d.Gross, fee+d.Fee, network+d.Network
		}
		if r.Theirs.Fen-booked != gross || r.Theirs.Fee-bookedFee != fee || r.Theirs.Network-bookedNetwork != network {
			rt.Fatalf("file %+v, booked %d: the exceptions explain %d, %d, %d", r.Theirs, booked, gross, fee, network)
		}
		if int(r.Theirs.Count) != len(theirs) || int(r.Ours.Count) != len(ours) {
			rt.Fatalf("counted %d and %d", r.Ours.Count, r.Theirs.Count)
		}
	})
}

func drawSides(t *rapid.T) (ours, theirs []Item, cutOff time.Time) {
	for i := range rapid.IntRange(0, 12).Draw(t, "n") {
		x := one(fmt.Sprintf("%012d", rapid.IntRange(0, 15).Draw(t, "rrn")), rapid.Int64Range(-50, 50).Draw(t, "fen"))
		x.STAN = fmt.Sprintf("%06d", i)
		x.At = noon.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "hour")) * time.Hour)
		x.State = rapid.SampledFrom([]State{Cleared, Cleared, Cleared, Reversed, Declined}).Draw(t, "state")
		x.Kind = rapid.SampledFrom([]Kind{Sale, Sale, Refund}).Draw(t, "kind")
		where := rapid.IntRange(0, 5).Draw(t, "where")
		if where > 0 && !slices.ContainsFunc(ours, func(y Item) bool { return y.RRN == x.RRN && y.Kind == x.Kind }) {
			ours = append(ours, x)
		}
		if where != 1 {
			y := x
			y.State = Cleared
			y.Fen += rapid.SampledFrom([]int64{0, 0, 0, 3}).Draw(t, "off")
			if rapid.IntRange(0, 6).Draw(t, "bare") == 0 {
				y.RRN = ""
			}
			theirs = append(theirs, y)
			if rapid.IntRange(0, 4).Draw(t, "undone") == 0 {
				y.Kind, y.Fen, y.Fee, y.Network = Reversal, -y.Fen, -y.Fee, -y.Network
				theirs = append(theirs, y)
			}
		}
	}
	return ours, theirs, noon.Add(10 * time.Hour)
}

func TestMatchRefuses(t *testing.T) {
	if _, err := Match(List([]Item{one("2", 1), one("1", 1)}), List(nil), time.Time{}, Carried{}); !errors.Is(err, ErrOrder) {
		t.Errorf("unsorted: %v", err)
	}
	boom := errors.New("boom")
	bad := func(yield func(Item, error) bool) { yield(Item{}, boom) }
	if _, err := Match(List(nil), bad, time.Time{}, Carried{}); !errors.Is(err, boom) {
		t.Errorf("reader's error: %v", err)
	}
	if _, err := Match(List(nil), many(MaxExceptions+1), time.Time{}, Carried{}); !errors.Is(err, ErrMany) {
		t.Errorf("another day's file: %v", err)
	}
}

func many(n int) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for i := range n {
			if !yield(one(fmt.Sprintf("%012d", i), 1), nil) {
				return
			}
		}
	}
}

func TestSortSpills(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var items []Item
		for i := range rapid.IntRange(0, 60).Draw(rt, "n") {
			x := one(fmt.Sprintf("%02d", rapid.IntRange(0, 40).Draw(rt, "rrn")), int64(i))
			if rapid.Bool().Draw(rt, "bare") {
				x = Item{RRN: x.RRN, Kind: Void, State: Declined, Line: i}
			}
			items = append(items, x)
		}
		s, err := sortBy(List(items), t.TempDir(), rapid.IntRange(1, 70).Draw(rt, "room"))
		if err != nil {
			rt.Fatal(err)
		}
		defer s.Close()
		want := slices.Clone(items)
		slices.SortStableFunc(want, func(a, b Item) int { return byKey(&a, &b) })
		for range 2 { // All starts again
			var got []Item
			for x, err := range s.All() {
				if err != nil {
					rt.Fatal(err)
				}
				if !x.At.IsZero() {
					x.At = x.At.In(calendar.Beijing)
				}
				got = append(got, x)
			}
			if !slices.EqualFunc(got, want, func(a, b Item) bool {
				same := a.At.Equal(b.At)
				a.At, b.At = time.Time{}, time.Time{}
				return same && a == b
			}) {
				rt.Fatalf("%v\nwant %v", got, want)
			}
		}
	})
}
