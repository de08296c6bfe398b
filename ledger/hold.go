package ledger

import (
	"bytes"
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"slices"
	"time"

	"koala/internal/db"
	"koala/money"
)

// Authorise holds an amount. What is held is no longer available; it is
// released by Capture, Void, or at the very moment it expires.
func Authorise(tx *db.Tx, h Hold) (Held, error) {
	return held(tx, "authorise", h.Ref, func(s *state) (Held, error) { return s.authorise(&h) })
}

// Raise adds to an open hold.
func Raise(tx *db.Tx, holdRef, ref string, amount money.Amount) (Held, error) {
	return held(tx, "raise", holdRef, func(s *state) (Held, error) {
		return s.holdAct(recRaise, holdRef, ref, amount, 0)
	})
}

// Capture books amount from From to To out of the hold. There may be several;
// the last one releases what remains.
func Capture(tx *db.Tx, holdRef, ref string, amount money.Amount, last bool) (Held, error) {
	end := int64(0)
	if last {
		end = 1
	}
	return held(tx, "capture", holdRef, func(s *state) (Held, error) {
		return s.holdAct(recCapture, holdRef, ref, amount, end)
	})
}

// Void releases what remains of the hold.
func Void(tx *db.Tx, holdRef, ref string) (Held, error) {
	return held(tx, "void", holdRef, func(s *state) (Held, error) {
		return s.holdAct(recVoid, holdRef, ref, money.Amount{}, 0)
	})
}

// HoldOf returns an open hold, with all this unit did.
func HoldOf(tx *db.Tx, ref string) (Held, error) {
	return held(tx, "look at", ref, func(s *state) (Held, error) {
		h, err := s.openHold(ref)
		if err != nil {
			return Held{}, err
		}
		return s.shown(h), nil
	})
}

// ExpireHolds writes down that holds have expired, at most limit of them, and
// returns how many. Nothing waits for it: an expired hold counts nowhere.
func ExpireHolds(tx *db.Tx, limit int) (int, error) {
	b, err := at(tx)
	if err != nil {
		return 0, err
	}
	s := b.state
	s.at(tx.Now().UnixMicro())
	n := 0
	for n < limit && len(s.due) > 0 && s.due[0].expires <= s.clock {
		d := heap.Pop(&s.due).(due)
		if h, open := s.holds[d.ref]; open && h.expired(s.clock) {
			if err := s.expire(h); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

func held(tx *db.Tx, verb, ref string, act func(*state) (Held, error)) (Held, error) {
	b, err := at(tx)
	if err != nil {
		return Held{}, err
	}
	b.state.at(tx.Now().UnixMicro())
	h, err := act(b.state)
	if err != nil {
		return Held{}, fmt.Errorf("%s hold %s: %w", verb, ref, err)
	}
	return h, nil
}

// The words of a record about a hold: asked, then what came of it.
const (
	wAmount = iota
	wExpires
	wOver
	wRemaining
	wCaptured
	wHeld // on the account
	wTotal
	wOpen
	holdWords
	wLast = wExpires // capture
)

func (s *state) authorise(h *Hold) (Held, error) {
	k, err := s.newRef(h.Ref)
	if err != nil {
		return Held{}, err
	}
	if h.Amount.Sign() <= 0 || h.OverBP < 0 || h.OverBP > MaxOver || len(h.Text) > MaxText {
		return Held{}, fmt.Errorf("%w: amount, over-capture or text", ErrShape)
	}
	r := &s.scratch
	r.reset(recHold, h.Ref, h.Text)
	r.words = append(r.words, h.Amount.Minor(), micros(h.Expires), int64(h.OverBP), 0, 0, 0, 0, 0)
	if err := s.fill(r, []Leg{{h.From, h.Amount.Neg()}, {h.To, h.Amount}}); err != nil {
		return Held{}, err
	}
	if seq, old, err := s.again(k, r); err != nil || seq != 0 {
		return s.replayed(seq, old), err
	}
	if e := r.words[wExpires]; e != 0 && e <= s.clock {
		return Held{}, fmt.Errorf("%w: it expires at %s, which is past", ErrShape, h.Expires.UTC().Format(time.DateTime))
	}
	m := s.mark()
	if err := s.lapse(r.legs); err != nil {
		return Held{}, err
	}
	if err := s.perform(r, k, true); err != nil {
		s.back(m)
		return Held{}, err
	}
	return s.heldBy(s.seq, r, r.legs[0].slot, r.legs[1].slot), nil
}

// holdAct raises, captures or voids. An earlier act under the reference is
// answered first, even when the hold has ended since.
func (s *state) holdAct(t recType, holdRef, ref string, amount money.Amount, last int64) (Held, error) {
	k, err := s.newRef(ref)
	if err != nil {
		return Held{}, err
	}
	r := &s.scratch
	r.reset(t, ref, holdRef)
	r.words = append(r.words, amount.Minor(), last, 0, 0, 0, 0, 0, 0)
	if seq, old, err := s.again(k, r); err != nil || seq != 0 {
		return s.replayed(seq, old), err
	}
	h, err := s.openHold(holdRef)
	if err != nil {
		return Held{}, err
	}
	if err := s.allowed(t, h, amount); err != nil {
		return Held{}, err
	}
	from, to := h.from, h.to
	if t == recCapture {
		r.legs = append(r.legs, leg{slot: from, amount: -amount.Minor()}, leg{slot: to, amount: amount.Minor()})
	}
	m := s.mark()
	if err := s.lapse([]leg{{slot: from, amount: -1}}); err != nil {
		return Held{}, err
	}
	if err := s.perform(r, k, true); err != nil {
		s.back(m)
		return Held{}, err
	}
	return s.heldBy(s.seq, r, from, to), nil
}

func (s *state) allowed(t recType, h *hold, amount money.Amount) error {
	if t == recVoid {
		return nil
	}
	if c := s.accounts[h.from].Currency; amount.Currency() != c {
		return fmt.Errorf("%s of a hold in %s: %w", amount, c, ErrCurrency)
	}
	if amount.Sign() <= 0 {
		return fmt.Errorf("%w: %s", ErrShape, amount)
	}
	if t == recCapture && h.captured+amount.Minor() > h.limit {
		return fmt.Errorf("%s after %d of at most %d: %w", amount, h.captured, h.limit, ErrOverCapture)
	}
	if t == recRaise && h.amount+amount.Minor() > money.MaxMinor {
		return ErrOverflow
	}
	return nil
}

// openHold finds a hold that is open at the clock of the books.
func (s *state) openHold(ref string) (*hold, error) {
	k, err := s.newRef(ref)
	if err != nil {
		return nil, err
	}
	if h, open := s.holds[k]; open {
		if h.expired(s.clock) {
			return nil, fmt.Errorf("it expired at %s: %w", time.UnixMicro(h.expires).UTC().Format(time.DateTime), ErrHoldEnded)
		}
		return h, nil
	}
	switch _, old, err := s.entry(ref); {
	case errors.Is(err, ErrNoEntry):
		return nil, fmt.Errorf("%w: %w", ErrNoHold, err)
	case err != nil:
		return nil, err
	case old.typ != recHold:
		return nil, fmt.Errorf("a %s: %w", old.typ, ErrNoHold)
	}
	return nil, ErrHoldEnded
}

func (h *hold) cap() int64 { return h.amount + portionDown(h.amount, h.over, MaxOver) }

// portionDown is n × num / den; both products stay below 2^63: amounts are
// below 2^44 and basis points below 2^14.
func portionDown(n, num, den int64) int64 { return n * num / den }

func (s *state) applyHold(r *record) error {
	if len(r.legs) != 2 || int(r.legs[0].slot) >= len(s.accounts) || int(r.legs[1].slot) >= len(s.accounts) {
		return fmt.Errorf("legs of a hold: %w", ErrDamaged)
	}
	a, to := s.touch(r.legs[0].slot), s.accounts[r.legs[1].slot]
	h := &hold{ref: keyOf(r.ref()), name: string(r.ref()), from: a.slot, to: to.slot,
		amount: r.words[wAmount], remaining: r.words[wAmount], over: r.words[wOver], expires: r.words[wExpires]}
	if h.over == 0 {
		h.over = int64(to.limits.OverCapture)
	}
	h.limit = h.cap()
	if _, open := s.holds[h.ref]; open {
		return fmt.Errorf("hold %s opened twice: %w", h.name, ErrDamaged)
	}
	s.save(h, false)
	a.held += h.amount
	if a.limits.Velocity.Limit > 0 {
		a.spend(r.booked, h.amount)
		h.spentFrom = a.window
	}
	s.link(h)
	for i := range r.legs {
		l := &r.legs[i]
		l.after, l.nth = s.accounts[l.slot].balance, s.accounts[l.slot].count
	}
	return s.result(r, h, a, true)
}

// applyHoldAct raises, captures, voids or expires.
func (s *state) applyHoldAct(r *record) error {
	h, open := s.holds[keyOf(r.strs[1])]
	if !open {
		return fmt.Errorf("%s of hold %s, which is not open: %w", r.typ, r.strs[1], ErrDamaged)
	}
	a := s.touch(h.from)
	s.save(h, true)
	switch n := r.words[wAmount]; r.typ {
	case recRaise:
		h.amount, h.remaining = h.amount+n, h.remaining+n
		h.limit = h.cap()
		a.held += n
		if a.limits.Velocity.Limit > 0 {
			a.spend(r.booked, n)
			h.spentFrom = a.window
		}
	case recCapture:
		if len(r.legs) != 2 || r.legs[0].slot != h.from || r.legs[1].slot != h.to {
			return fmt.Errorf("legs of a capture: %w", ErrDamaged)
		}
		taken := min(n, h.remaining)
		h.remaining, h.captured = h.remaining-taken, h.captured+n
		a.held -= taken
		if err := s.applyLegs(r, taken); err != nil {
			return err
		}
		open = r.words[wLast] == 0 && h.captured < h.limit
	default:
		open = false
	}
	if !open {
		s.release(r.booked, a, h)
	}
	return s.result(r, h, a, open)
}

// release ends h. What it did not take is given back to the velocity window
// that it was charged to, if that is still the present one.
func (s *state) release(now int64, a *account, h *hold) {
	if v := a.limits.Velocity; v.Limit > 0 && v.from(now) == h.spentFrom && a.window == h.spentFrom {
		a.spent -= h.remaining
	}
	a.held -= h.remaining
	h.remaining = 0
	s.unlink(h)
}

// result writes what came of r, or compares it on replay.
func (s *state) result(r *record, h *hold, a *account, open bool) error {
	is := [holdWords]int64{wRemaining: h.remaining, wCaptured: h.captured, wHeld: a.held, wTotal: h.amount}
	if open {
		is[wOpen] = 1
	}
	if s.replays && !slices.Equal(r.words[wRemaining:], is[wRemaining:]) {
		return fmt.Errorf("hold %s comes to %v, written is %v: %w", h.name, is[wRemaining:], r.words[wRemaining:], ErrDamaged)
	}
	copy(r.words[wRemaining:], is[wRemaining:])
	return nil
}

// lapse writes down the expiry of holds on the accounts that legs take from,
// so that the check of limits sees what is available at this moment.
func (s *state) lapse(legs []leg) error {
	for _, l := range legs {
		a := s.accounts[l.slot]
		if l.amount >= 0 || a.soonest == 0 || s.clock < a.soonest {
			continue
		}
		if err := s.lapseAccount(a); err != nil {
			return err
		}
	}
	return nil
}

func (s *state) lapseAccount(a *account) error {
	var ended []*hold
	soonest := int64(0)
	for _, h := range a.holds {
		switch {
		case h.expired(s.clock):
			ended = append(ended, h)
		case h.expires != 0 && (soonest == 0 || h.expires < soonest):
			soonest = h.expires
		}
	}
	slices.SortFunc(ended, func(x, y *hold) int {
		return cmp.Or(cmp.Compare(x.expires, y.expires), cmp.Compare(x.name, y.name))
	})
	for _, h := range ended {
		if err := s.expire(h); err != nil {
			return err
		}
	}
	a.soonest = soonest
	return nil
}

func (s *state) expire(h *hold) error {
	var r record
	r.reset(recExpire, "", h.name)
	r.words = make([]int64, holdWords)
	if err := s.perform(&r, key{}, true); err != nil {
		return fmt.Errorf("expiry of hold %s: %w", h.name, err)
	}
	return nil
}

// shown is an open hold as callers see it.
func (s *state) shown(h *hold) Held {
	a := s.accounts[h.from]
	return Held{Ref: h.name, From: a.ID, To: s.accounts[h.to].ID, Amount: money.Of(h.amount, a.Currency),
		Remaining: money.Of(h.remaining, a.Currency), Captured: money.Of(h.captured, a.Currency),
		Expires: moment(h.expires), Open: true, Balance: money.Of(a.balance, a.Currency)}
}

func moment(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

// heldBy is the answer to the act in r on a hold between two accounts.
func (s *state) heldBy(seq uint64, r *record, from, to uint32) Held {
	a := s.accounts[from]
	of := func(n int64) money.Amount { return money.Of(n, a.Currency) }
	h := Held{Ref: string(r.strs[1]), Seq: seq, From: a.ID, To: s.accounts[to].ID, Amount: of(r.words[wTotal]),
		Remaining: of(r.words[wRemaining]), Captured: of(r.words[wCaptured]), Open: r.words[wOpen] == 1, Balance: of(a.balance)}
	if r.typ == recHold {
		h.Ref = string(r.ref())
		h.Expires = moment(r.words[wExpires])
	} else if open, ok := s.holds[keyOf(r.strs[1])]; ok {
		h.Expires = moment(open.expires)
	}
	if len(r.legs) > 0 {
		h.Balance = of(r.legs[0].after)
	}
	return h
}

// replayed is the answer to an act that is in the books.
func (s *state) replayed(seq uint64, r *record) Held {
	if r == nil {
		return Held{}
	}
	authorised := r
	if r.typ != recHold {
		var err error
		if _, authorised, err = s.entry(string(r.strs[1])); err != nil {
			return Held{Ref: string(r.strs[1]), Seq: seq, Replayed: true}
		}
	}
	h := s.heldBy(seq, r, authorised.legs[0].slot, authorised.legs[1].slot)
	h.Expires = moment(authorised.words[wExpires])
	h.Replayed = true
	return h
}

// openHolds lists the open holds by reference: for snapshots and comparison.
func (s *state) openHolds() []*hold {
	all := make([]*hold, 0, len(s.holds))
	for _, h := range s.holds {
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b *hold) int { return cmp.Compare(a.name, b.name) })
	return all
}

// due is one expiry to write down; the hold may have ended before.
type due struct {
	expires int64
	ref     key
}

type dues []due

func (d dues) Len() int { return len(d) }
func (d dues) Less(i, j int) bool { // total, so that every run expires in one order
	if d[i].expires != d[j].expires {
		return d[i].expires < d[j].expires
	}
	return bytes.Compare(d[i].ref[:], d[j].ref[:]) < 0
}
func (d dues) Swap(i, j int) { d[i], d[j] = d[j], d[i] }
func (d *dues) Push(x any)   { *d = append(*d, x.(due)) }
func (d *dues) Pop() any {
	last := len(*d) - 1
	x := (*d)[last]
	*d = (*d)[:last]
	return x
}

// duesSlack is how many ended holds the list of expiries may keep beyond the
// open ones before it is made anew.
const duesSlack = 4_096

// remind puts h on the list of expiries.
func (s *state) remind(h *hold) {
	if h.expires == 0 {
		return
	}
	heap.Push(&s.due, due{h.expires, h.ref})
	if len(s.due) <= 2*len(s.holds)+duesSlack {
		return
	}
	s.due = s.due[:0]
	for _, h := range s.holds {
		if h.expires != 0 {
			s.due = append(s.due, due{h.expires, h.ref})
		}
	}
	heap.Init(&s.due)
}
