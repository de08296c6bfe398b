package ledger

import (
	"bytes"
	"testing"

	"koala/money"
)

// sample is a journal blob with a record of nearly every type, and the state
// behind it.
func sample(tb testing.TB) (*state, []byte) {
	s := newState(1, 4)
	s.at(1_700_000_000_000_000)
	must := func(_ any, err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	for _, id := range []AccountID{"bank", "ann"} {
		must(nil, s.open(Account{ID: id, Code: "2010", Name: "n", Currency: money.CNY, Limits: Limits{Velocity: Velocity{1_000_000, 1e9}}}))
	}
	e := Move("e", "bank", "ann", money.Fen(90))
	must(s.post(&e))
	must(s.reverse(&Reversal{Ref: "r", Original: "e", Amount: money.Fen(30)}))
	must(s.authorise(&Hold{Ref: "h", From: "ann", To: "bank", Amount: money.Fen(20)}))
	must(s.authorise(&Hold{Ref: "h2", From: "ann", To: "bank", Amount: money.Fen(10)}))
	must(s.holdAct(recRaise, "h", "ra", money.Fen(5), 0))
	must(s.holdAct(recCapture, "h", "c", money.Fen(7), 0))
	must(s.holdAct(recVoid, "h", "v", money.Amount{}, 0))
	must(nil, s.amend("l", "ann", Limits{Floor: AtLeast(3), Ceiling: AtLeast(9), OverCapture: 4}))
	return s, s.pending.blob
}

func FuzzRecord(f *testing.F) {
	_, blob := sample(f)
	f.Add(blob)
	f.Fuzz(func(t *testing.T, in []byte) {
		var r record
		rest, err := r.parse(in)
		if err != nil {
			return
		}
		if again := append(r.append(nil), rest...); !bytes.Equal(again, in) {
			t.Errorf("%x reads as %+v and writes %x", in, r, again)
		}
		r.body()
		r.describe()
	})
}

// FuzzReplay gives a damaged batch to a state: it is refused or applied, but
// never ends the program.
func FuzzReplay(f *testing.F) {
	s, blob := sample(f)
	f.Add(len(s.pending.ends), blob)
	f.Fuzz(func(t *testing.T, n int, in []byte) {
		s := newState(1, 4)
		s.replays = true
		b := batch{seq: uint64(n), n: n, blob: in}
		var r record
		_ = b.each(&r, func(uint64, []byte) error { return s.replay(&r) })
	})
}

func FuzzSnapshot(f *testing.F) {
	s, _ := sample(f)
	f.Add(s.encode(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		s := newState(1, 4)
		if s.decode(in) != nil {
			return
		}
		again := newState(1, 4)
		if err := again.decode(s.encode(nil)); err != nil || again.seq != s.seq || len(again.accounts) != len(s.accounts) {
			t.Errorf("%x reads, but not what it writes: %v", in, err)
		}
	})
}

// TestSnapshotIsTheState replays the same journal twice, once over a snapshot.
func TestSnapshotIsTheState(t *testing.T) {
	s, blob := sample(t)
	b := batch{seq: s.seq, n: len(s.pending.ends), blob: blob}
	replayed := newState(1, 4)
	replayed.replays = true
	var r record
	if err := b.each(&r, func(uint64, []byte) error { return replayed.replay(&r) }); err != nil {
		t.Fatal(err)
	}
	again := newState(1, 4)
	if err := again.decode(replayed.encode(nil)); err != nil {
		t.Fatal(err)
	}
	for _, got := range []*state{replayed, again} {
		if got.seq != s.seq || got.clock != s.clock || len(got.holds) != len(s.holds) || len(got.keys.young)+len(got.keys.old) != len(s.keys.young) {
			t.Errorf("seq %d, clock %d, %d holds, %d references; want %d, %d, %d, %d", got.seq, got.clock, len(got.holds),
				len(got.keys.young)+len(got.keys.old), s.seq, s.clock, len(s.holds), len(s.keys.young))
		}
		for i, a := range s.accounts {
			g := got.accounts[i]
			if !g.limits.equal(a.limits) || g.held != a.held || g.balance != a.balance || g.spent != a.spent || g.debit != a.debit || g.count != a.count {
				t.Errorf("account %s: %+v, want %+v", a.ID, g.totals, a.totals)
			}
		}
	}
}
