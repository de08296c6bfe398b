package ledger

import (
	"fmt"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/money"
)

// TestSharesUndoEveryLeg gives entries back in random parts: every part sums
// to zero per currency, no leg gives back more than it took, and in the end
// each is exactly undone.
func TestSharesUndoEveryLeg(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newState(1, 4)
		currencies := []money.Currency{"CNY", "USD"}
		for i := range 8 {
			a := Account{ID: AccountID(fmt.Sprint(i)), Code: "2010", Currency: currencies[i%2]}
			if err := s.open(a); err != nil {
				t.Fatal(err)
			}
		}
		var legs []leg
		for c := range rapid.IntRange(1, 2).Draw(t, "currencies") {
			var sum int64
			for range rapid.IntRange(1, 5).Draw(t, "legs") {
				n := rapid.Int64Range(1, 1_000).Draw(t, "amount") * rapid.SampledFrom([]int64{1, -1, 1_000_000}).Draw(t, "sign")
				sum += n
				legs = append(legs, leg{slot: uint32(c + 2*rapid.IntRange(0, 2).Draw(t, "account")), amount: n})
			}
			if sum != 0 {
				legs = append(legs, leg{slot: uint32(c + 6), amount: -sum})
			}
		}
		of := func(i int) int { return int(legs[i].slot) % 2 }
		left := make([]int64, len(legs))
		for i, l := range legs {
			left[i] = l.amount
		}
		for {
			var rest int64
			for i := range legs {
				if of(i) == 0 && left[i] > 0 {
					rest += left[i]
				}
			}
			if rest == 0 {
				break
			}
			amount := rapid.Int64Range(1, rest).Draw(t, "part")
			if rapid.IntRange(0, 3).Draw(t, "all") == 0 {
				amount = rest
			}
			var sums [2]int64
			var credits int64
			for i, share := range s.shares(legs, left, amount, rest) {
				if (share > 0) != (left[i] > 0) && share != 0 || abs(share) > abs(left[i]) {
					t.Fatalf("leg %d with %d left gives back %d", i, left[i], share)
				}
				sums[of(i)] += share
				if share > 0 && of(i) == 0 {
					credits += share
				}
				left[i] -= share
			}
			if sums != [2]int64{} || credits != amount {
				t.Fatalf("a part of %d sums to %v, credits %d", amount, sums, credits)
			}
		}
		for i, n := range left {
			if n != 0 {
				t.Fatalf("leg %d of %v keeps %d", i, legs, n)
			}
		}
	})
}

func abs(n int64) int64 { return max(n, -n) }

func TestTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var sum, other Total
		want := new(big.Int)
		for i, n := range rapid.SliceOf(rapid.Uint64()).Draw(t, "amounts") {
			want.Add(want, new(big.Int).SetUint64(n))
			if i%2 == 0 {
				sum = sum.plus(n)
			} else {
				other = other.plus(n)
			}
		}
		if got := sum.Plus(other); got.String() != want.String() {
			t.Fatalf("%v, want %v", got, want)
		}
	})
}

func TestVelocityWindows(t *testing.T) {
	day := Velocity{1, 24 * time.Hour}
	for _, tt := range []struct{ at, from string }{
		{"2026-03-02T15:59:59Z", "2026-03-01T16:00:00Z"}, // midnight in Beijing is 16:00 UTC
		{"2026-03-02T16:00:00Z", "2026-03-02T16:00:00Z"},
		{"1960-01-01T00:00:00Z", "1959-12-31T16:00:00Z"},
	} {
		at, err := time.Parse(time.RFC3339, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := moment(day.from(at.UnixMicro())).Format(time.RFC3339); got != tt.from {
			t.Errorf("the window of %s begins %s, want %s", tt.at, got, tt.from)
		}
	}
}

// TestKeys compares the window and the filter with a plain map.
func TestKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k, plain := newKeys(20), map[key]uint64{}
		projected := uint64(0)
		for seq := uint64(1); seq <= 300; seq++ {
			at := keyOf([]byte{byte(rapid.IntRange(0, 255).Draw(t, "ref")), 1})
			k.set(at, seq)
			plain[at] = seq
			if rapid.IntRange(0, 9).Draw(t, "project") == 0 {
				projected = seq
			}
			k.turn(projected)
		}
		if k.dropped > projected {
			t.Fatalf("references up to %d are gone, the views have %d", k.dropped, projected)
		}
		for at, want := range plain {
			seq, maybe := k.find(at)
			if seq != want && !(seq == 0 && maybe && want <= k.dropped) {
				t.Fatalf("reference at %d: found %d, maybe %v, dropped %d", want, seq, maybe, k.dropped)
			}
		}
	})
}

// TestFilterIsWorthIt counts how often unknown references need the views.
func TestFilterIsWorthIt(t *testing.T) {
	k := newKeys(2)
	const refs = 200_000
	for n := range uint64(refs) {
		k.set(keyOf(fmt.Append(nil, "known:", n)), n+1)
		k.turn(n)
	}
	looks := 0
	for n := range refs {
		if seq, maybe := k.find(keyOf(fmt.Append(nil, "unknown:", n))); seq != 0 {
			t.Fatal("an unknown reference was found")
		} else if maybe {
			looks++
		}
	}
	if looks > refs/100 {
		t.Errorf("%d of %d unknown references are looked up", looks, refs)
	}
	t.Logf("%d of %d unknown references are looked up", looks, refs)
}
