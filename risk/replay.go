package risk

import (
	"cmp"
	"iter"
	"slices"
	"time"
)

// A Side is what one rule set makes of history.
type Side struct {
	Version int              `json:"version"`
	Actions map[Action]int64 `json:"actions"`
	Rules   map[Code]int64   `json:"rules"`  // facts on which each rule spoke
	Fraud   int64            `json:"fraud"`  // of what it flagged, labelled fraud
	Good    int64            `json:"good"`   // labelled good
	Missed  int64            `json:"missed"` // labelled fraud, and allowed
	Passed  *int64           `json:"passed"` // labelled good, and allowed; nil in a report of before it was counted
}

// A Confusion is what a rule set did with facts of one label.
type Confusion struct{ Flagged, Allowed int64 }

// Confusion is what the set did with the facts that people found to be fraud,
// with those they found good, and with those that nobody has looked at; all is
// how many facts there were. ok is false where the report does not tell.
func (s Side) Confusion(all int64) (fraud, good, unseen Confusion, ok bool) {
	if s.Passed == nil {
		return Confusion{}, Confusion{}, Confusion{}, false
	}
	fraud, good = Confusion{s.Fraud, s.Missed}, Confusion{s.Good, *s.Passed}
	unseen = Confusion{s.Flagged() - s.Fraud - s.Good, all - s.Flagged() - s.Missed - *s.Passed}
	return fraud, good, unseen, true
}

// Flagged is how many facts it did not simply allow.
func (s Side) Flagged() int64 { return s.Actions[Review] + s.Actions[Hold] + s.Actions[Refuse] }

// Precision is the fraud among what it flagged and people have labelled, in
// basis points; -1 when nothing of it is labelled.
func (s Side) Precision() int64 { return share(s.Fraud, s.Good) }

// Recall is what it flagged of the labelled fraud, in basis points; -1 when
// there is none.
func (s Side) Recall() int64 { return share(s.Fraud, s.Missed) }

func share(a, b int64) int64 {
	if a+b == 0 {
		return -1
	}
	return a * 10_000 / (a + b)
}

// A ShopChange is what a new set would change for one shop.
type ShopChange struct {
	Shop string `json:"shop"`
	Old  int64  `json:"old"` // facts flagged
	New  int64  `json:"new"`
	Fen  int64  `json:"fen"` // of the facts flagged by one set only
}

// A Report compares two rule sets on the same history.
type Report struct {
	Facts   int64        `json:"facts"`
	From    time.Time    `json:"from"`
	To      time.Time    `json:"to"`
	Old     Side         `json:"old"`
	New     Side         `json:"new"`
	Added   int64        `json:"added"`   // flagged by new only
	Dropped int64        `json:"dropped"` // flagged by old only
	Shops   []ShopChange `json:"shops"`   // most affected first
}

// topShops is how many shops a report names.
const topShops = 20

// Replay judges history by two sets, each fact with what came before it and
// nothing of what came after. Facts come by their own time, as History reads
// them.
func Replay(facts iter.Seq2[Labelled, error], old, next *Set) (Report, error) {
	r := Report{Old: newSide(old), New: newSide(next)}
	m, shops := newMemory(), map[string]*ShopChange{}
	for f, err := range facts {
		if err != nil {
			return Report{}, err
		}
		w := m.window(&f.Fact)
		was, is := Evaluate(old, &f.Fact, &w), Evaluate(next, &f.Fact, &w)
		m.learn(&f.Fact)
		if r.Facts == 0 {
			r.From = f.At
		}
		r.Facts, r.To = r.Facts+1, f.At
		r.Old.count(was, f.Label)
		r.New.count(is, f.Label)
		a, b := was.Action != Allow, is.Action != Allow
		if !a && !b {
			continue
		}
		s := shops[f.Shop]
		if s == nil {
			s = &ShopChange{Shop: f.Shop}
			shops[f.Shop] = s
		}
		if a {
			s.Old++
		}
		if b {
			s.New++
		}
		switch {
		case b && !a:
			r.Added++
			s.Fen += f.Fen
		case a && !b:
			r.Dropped++
			s.Fen += f.Fen
		}
	}
	r.Shops = affected(shops)
	return r, nil
}

func newSide(s *Set) Side {
	return Side{Version: s.Version, Actions: map[Action]int64{}, Rules: map[Code]int64{}, Passed: new(int64)}
}

func (s *Side) count(d Decision, l Label) {
	s.Actions[d.Action]++
	for i, h := range d.Hits {
		if !slices.ContainsFunc(d.Hits[:i], func(x Hit) bool { return x.Rule == h.Rule }) {
			s.Rules[h.Rule]++
		}
	}
	switch flagged := d.Action != Allow; {
	case l == Fraud && flagged:
		s.Fraud++
	case l == Fraud:
		s.Missed++
	case l == Good && flagged:
		s.Good++
	case l == Good:
		*s.Passed++
	}
}

// affected lists the shops whose judgement changes most.
func affected(shops map[string]*ShopChange) []ShopChange {
	var out []ShopChange
	for _, s := range shops {
		if s.Fen != 0 || s.Old != s.New {
			out = append(out, *s)
		}
	}
	slices.SortFunc(out, func(a, b ShopChange) int {
		return cmp.Or(-cmp.Compare(a.change(), b.change()), -cmp.Compare(a.Fen, b.Fen), cmp.Compare(a.Shop, b.Shop))
	})
	return out[:min(len(out), topShops)]
}

func (s ShopChange) change() int64 { return max(s.New-s.Old, s.Old-s.New) }
