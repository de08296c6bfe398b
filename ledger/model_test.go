package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/fail"
	"koala/ledger"
	"koala/money"
)

// A model is the ledger written down naively: everything is a list, every
// question is answered by adding up.
type model struct {
	accounts map[ledger.AccountID]*modelAccount
	refs     map[string]string // what each reference was used for
	entries  map[string]*modelEntry
	holds    map[string]*modelHold
}

type modelAccount struct {
	floor, ceiling *int64
	credit         int64
	lines          []modelLine
}

type modelLine struct {
	amount        int64
	booked, value time.Time
}

type modelEntry struct {
	legs     map[ledger.AccountID]int64
	plain    bool // two legs
	reversed int64
}

type modelHold struct {
	from, to            ledger.AccountID
	amount, taken, held int64
	expires             time.Time
	open                bool
}

func (m *model) posted(id ledger.AccountID) (sum int64) {
	for _, l := range m.accounts[id].lines {
		sum += l.amount
	}
	return sum
}

func (m *model) held(id ledger.AccountID, now time.Time) (sum int64) {
	for _, h := range m.holds {
		if h.from == id && h.live(now) {
			sum += h.held
		}
	}
	return sum
}

func (h *modelHold) live(now time.Time) bool { return h.open && h.expires.After(now) }

// fits says whether the account may change by posted and held together.
func (m *model) fits(id ledger.AccountID, posted, held int64, now time.Time) error {
	a := m.accounts[id]
	after := m.posted(id) - m.held(id, now) + posted - held
	switch {
	case a.floor != nil && posted-held < 0 && after < *a.floor-a.credit:
		return ledger.ErrInsufficient
	case a.ceiling != nil && posted > 0 && m.posted(id)+posted > *a.ceiling:
		return ledger.ErrCeiling
	}
	return nil
}

// used says what became of the reference before: nil and false for nothing.
func (m *model) used(ref, body string) (bool, error) {
	was, ok := m.refs[ref]
	if ok && was != body {
		return true, ledger.ErrDiffers
	}
	return ok, nil
}

func (m *model) book(legs map[ledger.AccountID]int64, booked, value time.Time) {
	for id, n := range legs {
		m.accounts[id].lines = append(m.accounts[id].lines, modelLine{n, booked, value})
	}
}

// A machine drives a book and the model with the same acts.
type machine struct {
	*house
	model  *model
	faults *plan
	refs   int
}

// plan breaks chosen commits.
type plan struct{ before, after error }

func (p *plan) BeforeCommit(int64) error { err := p.before; p.before = nil; return err }
func (p *plan) AfterCommit(int64) error  { err := p.after; p.after = nil; return err }

var ids = []ledger.AccountID{"bank", "ann", "bob", "shop", "card"}

func newMachine(t *testing.T, url string) *machine {
	m := &machine{model: &model{map[ledger.AccountID]*modelAccount{}, map[string]string{}, map[string]*modelEntry{}, map[string]*modelHold{}}, faults: &plan{}}
	m.house = newHouse(t, db.Config{URL: url, Faults: m.faults, Inline: true, Rebuildable: true}, ledger.Config{Inline: true, Window: 8})
	card := wallet("card")
	card.CreditLimit, card.Ceiling = 100, ledger.AtLeast(300)
	accounts := []ledger.Account{bank, wallet("ann"), wallet("bob"), shop, card}
	m.openAccounts(accounts...)
	for _, a := range accounts {
		m.model.accounts[a.ID] = &modelAccount{floor: a.Floor, ceiling: a.Ceiling, credit: a.CreditLimit}
	}
	return m
}

// write lets views that are behind catch up once, as a caller's retry would.
func (m *machine) write(f func(tx *db.Tx) error) error {
	err := m.house.write(f)
	if errors.Is(err, ledger.ErrBehind) {
		if err := m.book.Project(context.Background()); err != nil {
			return err
		}
		err = m.house.write(f)
	}
	return err
}

// run runs one act as one unit and compares its error with the model's.
func (m *machine) run(rt *rapid.T, what string, want error, f func(tx *db.Tx) error) {
	err := m.write(f)
	if (want == nil) != (err == nil) || want != nil && !errors.Is(err, want) {
		rt.Fatalf("%s: error %v, the model says %v", what, err, want)
	}
}

// ref draws a new reference, or one that was used.
func (m *machine) ref(rt *rapid.T) string {
	if used := slices.Sorted(maps.Keys(m.model.refs)); len(used) > 0 && rapid.IntRange(0, 5).Draw(rt, "again") == 0 {
		return rapid.SampledFrom(used).Draw(rt, "used")
	}
	m.refs++
	return fmt.Sprintf("ref:%d", m.refs)
}

func (m *machine) fenDrawn(rt *rapid.T) int64 {
	return rapid.OneOf(rapid.Int64Range(1, 20), rapid.Int64Range(1, 300)).Draw(rt, "fen")
}

func (m *machine) Post(rt *rapid.T) {
	ref, fen := m.ref(rt), m.fenDrawn(rt)
	from := rapid.SampledFrom(ids).Draw(rt, "from")
	to := rapid.SampledFrom(ids).Filter(func(id ledger.AccountID) bool { return id != from }).Draw(rt, "to")
	fee := rapid.Int64Range(0, 2).Draw(rt, "fee")
	e := ledger.Entry{Ref: ref, Kind: "pay", Legs: []ledger.Leg{{Account: from, Amount: money.Fen(-fen - fee)}, {Account: to, Amount: money.Fen(fen)}}}
	if fee > 0 {
		e.Legs = append(e.Legs, ledger.Leg{Account: "shop", Amount: money.Fen(fee)})
	}
	now := m.clock.Now()
	value := now
	if rapid.IntRange(0, 3).Draw(rt, "dated") == 0 {
		value = start.Add(time.Duration(rapid.IntRange(-48, 48).Draw(rt, "hours")) * time.Hour)
		e.Value = value
	}
	body := fmt.Sprint("post ", e.Legs, e.Value)
	again, want := m.model.used(ref, body)
	legs := map[ledger.AccountID]int64{}
	for _, l := range e.Legs {
		legs[l.Account] += l.Amount.Minor()
	}
	for id, n := range legs {
		if err := m.model.fits(id, n, 0, now); !again && err != nil {
			want = err
			if n < 0 {
				break
			}
		}
	}
	if errors.Is(want, ledger.ErrCeiling) || errors.Is(want, ledger.ErrInsufficient) {
		want = m.refused(e) // two limits may speak at once
	}
	m.run(rt, fmt.Sprint("post ", e), want, func(tx *db.Tx) error { _, err := ledger.Post(tx, e); return err })
	if want == nil && !again {
		m.model.refs[ref] = body
		m.model.entries[ref] = &modelEntry{legs: legs, plain: len(e.Legs) == 2}
		for _, l := range e.Legs {
			m.model.book(map[ledger.AccountID]int64{l.Account: l.Amount.Minor()}, now, value)
		}
	}
}

// refused asks the book which of several limits it names; that it refuses is
// what the model knows.
func (m *machine) refused(e ledger.Entry) error {
	err := m.write(func(tx *db.Tx) error { _, err := ledger.Post(tx, e); return err })
	if errors.Is(err, ledger.ErrCeiling) || errors.Is(err, ledger.ErrInsufficient) {
		return fail.Of(err)
	}
	return ledger.ErrInsufficient
}

func (m *machine) Authorise(rt *rapid.T) {
	ref, fen := m.ref(rt), m.fenDrawn(rt)
	from := rapid.SampledFrom([]ledger.AccountID{"ann", "bob", "card"}).Draw(rt, "from")
	hours := rapid.IntRange(1, 30).Draw(rt, "hours")
	now := m.clock.Now()
	h := ledger.Hold{Ref: ref, From: from, To: "shop", Amount: money.Fen(fen), Expires: now.Add(time.Duration(hours) * time.Hour)}
	body := fmt.Sprint("hold ", h)
	again, want := m.model.used(ref, body)
	if !again {
		want = m.model.fits(from, 0, fen, now)
	}
	m.run(rt, fmt.Sprint("authorise ", h), want, func(tx *db.Tx) error { _, err := ledger.Authorise(tx, h); return err })
	if want == nil && !again {
		m.model.refs[ref] = body
		m.model.holds[ref] = &modelHold{from, "shop", fen, 0, fen, h.Expires, true}
	}
}

// hold draws an authorised hold, open or not.
func (m *machine) hold(rt *rapid.T) (string, *modelHold) {
	known := slices.Sorted(maps.Keys(m.model.holds))
	if len(known) == 0 {
		rt.Skip("no hold")
	}
	name := rapid.SampledFrom(known).Draw(rt, "hold")
	return name, m.model.holds[name]
}

func (m *machine) Raise(rt *rapid.T) {
	name, h := m.hold(rt)
	ref, fen, now := m.ref(rt), m.fenDrawn(rt), m.clock.Now()
	body := fmt.Sprint("raise ", name, fen)
	again, want := m.model.used(ref, body)
	switch {
	case again:
	case !h.live(now):
		want = ledger.ErrHoldEnded
	default:
		want = m.model.fits(h.from, 0, fen, now)
	}
	m.run(rt, body, want, func(tx *db.Tx) error { _, err := ledger.Raise(tx, name, ref, money.Fen(fen)); return err })
	if want == nil && !again {
		m.model.refs[ref] = body
		h.amount, h.held = h.amount+fen, h.held+fen
	}
}

func (m *machine) Capture(rt *rapid.T) {
	name, h := m.hold(rt)
	ref, fen, now := m.ref(rt), m.fenDrawn(rt), m.clock.Now()
	last := rapid.Bool().Draw(rt, "last")
	body := fmt.Sprint("capture ", name, fen, last)
	again, want := m.model.used(ref, body)
	switch {
	case again:
	case !h.live(now):
		want = ledger.ErrHoldEnded
	case h.taken+fen > h.amount:
		want = ledger.ErrOverCapture
	}
	m.run(rt, body, want, func(tx *db.Tx) error { _, err := ledger.Capture(tx, name, ref, money.Fen(fen), last); return err })
	if want == nil && !again {
		m.model.refs[ref] = body
		h.taken, h.held = h.taken+fen, h.held-fen
		h.open = !last && h.held > 0
		legs := map[ledger.AccountID]int64{h.from: -fen, h.to: fen}
		m.model.book(legs, now, now)
		m.model.entries[ref] = &modelEntry{legs: legs, plain: true}
	}
}

func (m *machine) Void(rt *rapid.T) {
	name, h := m.hold(rt)
	ref := m.ref(rt)
	body := fmt.Sprint("void ", name)
	again, want := m.model.used(ref, body)
	if !again && !h.live(m.clock.Now()) {
		want = ledger.ErrHoldEnded
	}
	m.run(rt, body, want, func(tx *db.Tx) error { _, err := ledger.Void(tx, name, ref); return err })
	if want == nil && !again {
		m.model.refs[ref] = body
		h.open = false
	}
}

func (m *machine) Sweep(rt *rapid.T) {
	m.run(rt, "sweep", nil, func(tx *db.Tx) error { _, err := ledger.ExpireHolds(tx, 3); return err })
}

// Reverse takes entries of two legs, whose shares are plain.
func (m *machine) Reverse(rt *rapid.T) {
	var plain []string
	for _, ref := range slices.Sorted(maps.Keys(m.model.entries)) {
		if m.model.entries[ref].plain {
			plain = append(plain, ref)
		}
	}
	if len(plain) == 0 {
		rt.Skip("no entry")
	}
	original := rapid.SampledFrom(plain).Draw(rt, "original")
	e := m.model.entries[original]
	ref, fen, now := m.ref(rt), m.fenDrawn(rt), m.clock.Now()
	body := fmt.Sprint("reverse ", original, fen)
	again, want := m.model.used(ref, body)
	whole := int64(0)
	for _, n := range e.legs {
		whole = max(whole, n)
	}
	legs := map[ledger.AccountID]int64{}
	for id, n := range e.legs {
		legs[id] = -fen
		if n < 0 {
			legs[id] = fen
		}
	}
	if !again && fen > whole-e.reversed {
		want = ledger.ErrOverReverse
	} else if !again {
		for id, n := range legs {
			if err := m.model.fits(id, n, 0, now); err != nil && (want == nil || n < 0) {
				want = err
			}
		}
	}
	err := m.write(func(tx *db.Tx) error { _, err := ledger.Reverse(tx, ref, original, money.Fen(fen)); return err })
	if (want == nil) != (err == nil) || want != nil && !errors.Is(err, want) && !errors.Is(err, ledger.ErrCeiling) {
		rt.Fatalf("%s: error %v, the model says %v", body, err, want)
	}
	if want == nil && !again {
		m.model.refs[ref] = body
		e.reversed += fen
		m.model.book(legs, now, now)
	}
}

func (m *machine) Wait(rt *rapid.T) {
	m.clock.Advance(time.Duration(rapid.IntRange(1, 600).Draw(rt, "minutes")) * time.Minute)
}

func (m *machine) Restart(*rapid.T) { m.again() }

func (m *machine) Snapshot(rt *rapid.T) {
	if err := m.book.Snapshot(context.Background()); err != nil {
		rt.Fatal(err)
	}
}

// Project lets the views forget references from memory.
func (m *machine) Project(rt *rapid.T) {
	if err := m.book.Project(context.Background()); err != nil {
		rt.Fatal(err)
	}
}

// LoseBefore breaks the next commit: nothing of the unit may be there.
func (m *machine) LoseBefore(rt *rapid.T) {
	m.faults.before = errors.New("injected")
	err := m.write(func(tx *db.Tx) error {
		_, err := ledger.Post(tx, ledger.Move(fmt.Sprint("lost:", m.refs), "bank", "ann", money.Fen(7)))
		return err
	})
	if !errors.Is(err, db.ErrNotSaved) {
		rt.Fatalf("a commit that failed: %v", err)
	}
}

// LoseAfter loses the answer to a commit: asking again gives the first answer.
func (m *machine) LoseAfter(rt *rapid.T) {
	m.refs++
	ref, now := fmt.Sprintf("ref:%d", m.refs), m.clock.Now()
	e := ledger.Move(ref, "bank", "ann", money.Fen(5))
	post := func(tx *db.Tx) error { _, err := ledger.Post(tx, e); return err }
	m.faults.after = errors.New("injected")
	if err := m.write(post); !errors.Is(err, db.ErrUnknown) {
		rt.Fatalf("an answer that was lost: %v", err)
	}
	if err := m.write(post); err != nil {
		rt.Fatal(err)
	}
	legs := map[ledger.AccountID]int64{"bank": -5, "ann": 5}
	m.model.refs[ref] = "lost answer"
	m.model.entries[ref] = &modelEntry{legs: legs, plain: true}
	m.model.book(legs, now, now)
}

// Check compares every account.
func (m *machine) Check(rt *rapid.T) {
	now := m.clock.Now()
	for _, id := range ids {
		posted, held := m.model.posted(id), m.model.held(id, now)
		if got := m.fen(id); got != [3]int64{posted, held, posted - held} {
			rt.Fatalf("%s has %v, the model %d posted, %d held", id, got, posted, held)
		}
	}
}

// history compares statements and past balances.
func (m *machine) history(rt *rapid.T) {
	ctx := context.Background()
	for _, id := range ids {
		lines, err := m.book.Statement(ctx, id, 1, 1_000)
		want := m.model.accounts[id].lines
		if err != nil || len(lines) != len(want) {
			rt.Fatalf("statement of %s: %d lines, want %d: %v", id, len(lines), len(want), err)
		}
		running := int64(0)
		for i, l := range lines {
			running += want[i].amount
			if l.Amount.Minor() != want[i].amount || l.Balance.Minor() != running || !l.Value.Equal(want[i].value) || !l.Booked.Equal(want[i].booked) {
				rt.Fatalf("line %d of %s is %+v, want %+v and %d", i+1, id, l, want[i], running)
			}
		}
		for _, hours := range []int{-47, -1, 0, 1, 5, 47} {
			at := start.Add(time.Duration(hours) * time.Hour)
			var booked, byValue int64
			for _, l := range want {
				if !l.booked.After(at) {
					booked += l.amount
				}
				if !l.value.After(at) {
					byValue += l.amount
				}
			}
			got1, err1 := m.book.BookedAt(ctx, id, at)
			got2, err2 := m.book.BalanceAt(ctx, id, at)
			if err := errors.Join(err1, err2); err != nil || got1.Minor() != booked || got2.Minor() != byValue {
				rt.Fatalf("%s at %v: booked %v, by value %v, %v; want %d, %d", id, at, got1, got2, err, booked, byValue)
			}
		}
	}
}

func (m *machine) acts() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"post": m.Post, "pay": m.Post, "authorise": m.Authorise, "raise": m.Raise, "capture": m.Capture, "void": m.Void,
		"sweep": m.Sweep, "reverse": m.Reverse, "wait": m.Wait, "restart": m.Restart, "snapshot": m.Snapshot,
		"project": m.Project, "lose before": m.LoseBefore, "lose after": m.LoseAfter, "": m.Check,
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(t, filepath.Join(t.TempDir(), "koala.db"))
		defer m.close()
		rt.Repeat(m.acts())
		m.green()
		m.history(rt)
	})
}

// TestModelOnPostgres takes a few walks: making a schema costs more than the
// acts.
func TestModelOnPostgres(t *testing.T) {
	const walks = 5
	urls := make([]string, walks)
	for i := range urls {
		urls[i] = dbtest.Postgres(t)
	}
	walk := 0
	rapid.Check(t, func(rt *rapid.T) {
		if walk == walks {
			return
		}
		m := newMachine(t, urls[walk])
		walk++
		defer m.close()
		rt.Repeat(m.acts())
		m.green()
		m.history(rt)
	})
}
