package reconcile

import (
	"fmt"
	"iter"
	"time"
)

// A Difference is one exception as Match finds it. Gross and Fee are what the
// host's side has more than ours, in fen: how far receivable and the fee
// accounts will be off once the bank has paid what the file says.
type Difference struct {
	Type    Type
	Ours    *Item // nil: not known here
	Theirs  *Item // nil: not in the file
	Gross   int64
	Fee     int64 // of the issuer
	Network int64
}

// A Carry is the exception of an earlier day that today's items may resolve.
type Carry struct {
	ID   string
	Item Item
}

// Carried is what earlier days left open: transactions of ours that no file had,
// and lines of files that nobody knew.
type Carried struct {
	Ours   []Carry
	Theirs []Carry
}

// A Result is what a comparison found. Resolved names the carried exceptions
// that found their other half; Missed those that were late and are not in this
// file either.
type Result struct {
	Ours, Theirs, Matched Sum
	Differences           []Difference
	Resolved              []string
	Missed                []string
	costs                 costs
}

// Match compares our transactions with a host's lines, both sorted by Key as
// Sort leaves them. Our items after cutOff (zero: none) that the host lacks are
// Late. It keeps nothing but what differs, at most MaxExceptions of it.
//
// A reversal in the file takes away the line of the same reference it undoes;
// a line of the same kind and reference again is a duplicate. What finds no
// other half by reference is tried once more by Fallback, and against carried.
func Match(ours, theirs iter.Seq2[Item, error], cutOff time.Time, carried Carried) (Result, error) {
	m := matcher{cutOff: cutOff, Result: Result{costs: costs{}}}
	a, stopA := iter.Pull2(ours)
	defer stopA()
	b, stopB := iter.Pull2(theirs)
	defer stopB()
	left, right := side{next: a}, side{next: b}
	left.read()
	right.read()
	for left.ok || right.ok {
		key := left.key
		if !left.ok || right.ok && right.key < key {
			key = right.key
		}
		o, t := left.take(key), right.take(key)
		if left.err != nil || right.err != nil {
			break
		}
		for i := range o {
			m.Ours.add(&o[i])
		}
		for i := range t {
			m.Theirs.add(&t[i])
			m.costs.add(&t[i])
		}
		m.group(o, t)
		if !m.Ours.sane() || !m.Theirs.sane() || len(m.Differences)+len(m.lonely)+len(m.unknown) > MaxExceptions {
			return Result{}, ErrMany
		}
	}
	for _, s := range []*side{&left, &right} {
		if s.err != nil {
			return Result{}, s.err
		}
	}
	m.leftovers(carried)
	return m.Result, nil
}

// A side is one of the two streams, a key's items at a time.
type side struct {
	next func() (Item, error, bool)
	item Item
	key  string
	ok   bool
	err  error
	same []Item
}

func (s *side) read() {
	item, err, ok := s.next()
	if err != nil {
		s.err, s.ok = err, false
		return
	}
	key := item.Key()
	if ok && key < s.key {
		s.err, s.ok = fmt.Errorf("line %d: %w", item.Line, ErrOrder), false
		return
	}
	s.item, s.key, s.ok = item, key, ok
}

// take reads all items under key. The slice is good until the next take.
func (s *side) take(key string) []Item {
	s.same = s.same[:0]
	for s.ok && s.key == key {
		if len(s.same) == maxSame && key != "" {
			s.err = fmt.Errorf("more than %d items under %s: %w", maxSame, key, ErrMany)
			break
		}
		s.same = append(s.same, s.item)
		s.read()
	}
	return s.same
}

type matcher struct {
	Result
	cutOff  time.Time
	lonely  []Item // ours, cleared, not in the file
	unknown []Item // theirs, not known here
}

// group compares the items under one key.
func (m *matcher) group(o, t []Item) {
	if len(o) == 1 && len(t) == 1 && alike(o[0].Kind, t[0].Kind) && o[0].Key() != "" { // nearly all of a day
		m.pair(&o[0], &t[0])
		return
	}
	if len(o)+len(t) > 0 && keyOf(o, t) == "" { // nothing names them: no two are the same
		m.lonely, m.unknown = append(m.lonely, o...), append(m.unknown, t...)
		return
	}
	t = undone(t)
	t = m.duplicates(t)
	for i := range o {
		j := counterpart(&o[i], t)
		switch {
		case j >= 0:
			m.pair(&o[i], &t[j])
			t = append(t[:j:j], t[j+1:]...)
		case o[i].State == Cleared:
			m.lonely = append(m.lonely, o[i])
		}
	}
	m.unknown = append(m.unknown, t...)
}

func keyOf(o, t []Item) string {
	if len(o) > 0 {
		return o[0].Key()
	}
	return t[0].Key()
}

// undone takes away pairs of a line and its reversal.
func undone(t []Item) []Item {
	out := append([]Item(nil), t...)
	for i := 0; i < len(out); i++ {
		if out[i].Kind != Reversal {
			continue
		}
		for j := range out {
			if out[j].Kind != Reversal && out[j].Fen == -out[i].Fen {
				out = append(out[:max(i, j)], out[max(i, j)+1:]...)
				out = append(out[:min(i, j)], out[min(i, j)+1:]...)
				i = -1 // from the start: places have moved
				break
			}
		}
	}
	return out
}

// duplicates reports further lines of a kind and returns the first of each.
func (m *matcher) duplicates(t []Item) (first []Item) {
	for i := range t {
		again := false
		for j := range first {
			again = again || first[j].Kind == t[i].Kind
		}
		if !again {
			first = append(first, t[i])
			continue
		}
		line := t[i]
		m.differ(line.alone(DuplicateInFile))
	}
	return first
}

// counterpart finds the line for x: of its kind, or else of one alike.
func counterpart(x *Item, t []Item) int {
	found := -1
	for j := range t {
		if t[j].Kind == x.Kind {
			return j
		}
		if alike(t[j].Kind, x.Kind) {
			found = j
		}
	}
	return found
}

// alone is a line of the file that has no other half.
func (x *Item) alone(t Type) Difference {
	d := Difference{Type: t, Theirs: x}
	d.Gross, d.Fee, d.Network = x.owed()
	return d
}

func (m *matcher) differ(d Difference) { m.Differences = append(m.Differences, d) }

// pair compares two halves of one transaction.
func (m *matcher) pair(o, t *Item) {
	fen, fee, network := o.owed()
	theirFen, theirFee, theirNetwork := t.owed()
	d := Difference{Gross: theirFen - fen, Fee: theirFee - fee, Network: theirNetwork - network}
	switch {
	case o.State == Declined:
		d.Type = DeclinedCleared
	case o.State == Reversed:
		d.Type = ReversedCleared
	case o.currency() != t.currency():
		d.Type = CurrencyDiffers
	case d.Gross != 0:
		d.Type = AmountDiffers
	case o.Class != "" && t.Class != "" && o.Class != t.Class:
		d.Type = ClassDiffers
	case d.Fee != 0 || d.Network != 0:
		d.Type = FeeDiffers
	default:
		m.Matched.add(o)
		return
	}
	ours, theirs := *o, *t
	d.Ours, d.Theirs = &ours, &theirs
	m.differ(d)
}

// leftovers gives what found no other half by reference a second chance, by
// Fallback and against what earlier days left.
func (m *matcher) leftovers(c Carried) {
	waiting := newPool(m.lonely)
	for i := range c.Ours {
		waiting.add(&c.Ours[i].Item, c.Ours[i].ID)
	}
	earlier := newPool(nil)
	for i := range c.Theirs {
		earlier.add(&c.Theirs[i].Item, c.Theirs[i].ID)
	}
	for i := range m.unknown {
		t := &m.unknown[i]
		o, id := waiting.take(t)
		if o == nil {
			m.differ(t.alone(MissingHere))
			continue
		}
		m.pair(o, t)
		if id != "" {
			m.Resolved = append(m.Resolved, id)
		}
	}
	for i := range m.lonely {
		o := &m.lonely[i]
		if !waiting.has(o) {
			continue
		}
		if t, id := earlier.take(o); t != nil {
			m.pair(o, t)
			m.Resolved = append(m.Resolved, id)
			continue
		}
		d := Difference{Type: MissingAtNetwork, Ours: o, Gross: -o.Fen, Fee: -o.Fee, Network: -o.Network}
		if !m.cutOff.IsZero() && !o.At.Before(m.cutOff) {
			d.Type = Late
		}
		m.differ(d)
	}
	for i := range c.Ours {
		if waiting.has(&c.Ours[i].Item) {
			m.Missed = append(m.Missed, c.Ours[i].ID)
		}
	}
}

// A pool finds items by either of their names, each once.
type pool struct {
	by   map[string][]*Item
	id   map[*Item]string
	gone map[*Item]bool
}

func newPool(items []Item) *pool {
	p := &pool{map[string][]*Item{}, map[*Item]string{}, map[*Item]bool{}}
	for i := range items {
		p.add(&items[i], "")
	}
	return p
}

func (p *pool) add(x *Item, id string) {
	p.id[x] = id
	for _, k := range names(x) {
		p.by[k] = append(p.by[k], x)
	}
}

func names(x *Item) (out []string) {
	if x.RRN != "" {
		out = append(out, x.RRN)
	}
	if f := x.Fallback(); f != "" {
		out = append(out, f)
	}
	return out
}

// take finds the item that is the other half of x and takes it out.
func (p *pool) take(x *Item) (*Item, string) {
	for _, k := range names(x) {
		for _, y := range p.by[k] {
			if !p.gone[y] && alike(y.Kind, x.Kind) {
				p.gone[y] = true
				return y, p.id[y]
			}
		}
	}
	return nil, ""
}

func (p *pool) has(x *Item) bool { return !p.gone[x] }
