package risk

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/outbox"
)

var ctx = context.Background()

type tester interface {
	Helper()
	Cleanup(func())
	Fatal(...any)
	Fatalf(string, ...any)
}

// A desk is a store with an engine, and the holds it asked for.
type desk struct {
	t      tester
	store  *db.Store
	now    *clock.Virtual
	engine *Engine
	held   map[string]bool
}

func (d *desk) Hold(_ *db.Tx, id, shop, why string) error {
	if shop == "" || why == "" {
		return ErrWhy
	}
	d.held[id] = true
	return nil
}

func (d *desk) Release(_ *db.Tx, id string) error {
	if !d.held[id] {
		return ErrState
	}
	delete(d.held, id)
	return nil
}

func newDesk(t tester, cfg db.Config) *desk {
	t.Helper()
	d := &desk{t: t, now: clock.NewVirtual(noon), held: map[string]bool{}}
	cfg.Clock, cfg.Inline = d.now, true
	var err error
	if d.store, err = db.Open(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.store.Close() })
	if err := d.store.Migrate(ctx, outbox.Schema, Schema); err != nil {
		t.Fatal(err)
	}
	if d.engine, err = Open(ctx, d.store, d); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) write(f func(*db.Tx) error) error { return d.store.Write(ctx, f) }

func (d *desk) must(f func(*db.Tx) error) {
	d.t.Helper()
	if err := d.write(f); err != nil {
		d.t.Fatal(err)
	}
}

// sell judges a fact and keeps it, as the switch does.
func (d *desk) sell(f Fact) Decision {
	d.t.Helper()
	got := d.engine.Assess(f)
	d.must(func(tx *db.Tx) error { return d.engine.Keep(tx, f, got) })
	return got
}

func (d *desk) cases(state CaseState) (out []Case) {
	d.t.Helper()
	err := d.store.Read(ctx, func(q *db.Query) (err error) { out, err = Cases(q, state, "", "", 100); return err })
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

func (d *desk) queue() (out []Case) {
	d.t.Helper()
	err := d.store.Read(ctx, func(q *db.Query) (err error) { out, err = Queue(q, 10); return err })
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

func TestCaseDesk(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		d := newDesk(t, cfg)
		alone := func(f *Fact) { f.Kind, f.Fen = Refund, 1_000_00 }
		if got := d.sell(sale(1, alone)); got.Action != Review {
			t.Fatalf("%+v", got)
		}
		if q := d.queue(); len(q) != 1 || q[0].Score != 40 {
			t.Errorf("queue %+v", q)
		}
		got := d.sell(sale(2, func(f *Fact) { alone(f); f.Place = shanghai }))
		if got.Action != Hold {
			t.Fatalf("%+v", got)
		}
		again := sale(2, func(f *Fact) { alone(f); f.Place = shanghai })
		d.must(func(tx *db.Tx) error { return d.engine.Keep(tx, again, got) }) // an answer was lost
		open := d.cases(Opened)
		if len(open) != 1 || open[0].Facts != 2 || open[0].Score != 70 || open[0].Action != Hold || !open[0].Holding || !d.held[open[0].ID] || open[0].Fen != 2_000_00 {
			t.Fatalf("%+v", open)
		}
		id := open[0].ID
		for name, tt := range map[string]struct {
			act  func(*db.Tx) error
			want error
		}{
			"decide before taking": {func(tx *db.Tx) error { _, err := d.engine.Decide(tx, id, "li", true, "x"); return err }, ErrState},
			"no case":              {func(tx *db.Tx) error { _, err := Take(tx, "x", "li", "x"); return err }, ErrNoCase},
			"no reason":            {func(tx *db.Tx) error { _, err := Take(tx, id, "li", ""); return err }, ErrWhy},
			"let go too early":     {func(tx *db.Tx) error { return d.engine.LetGo(tx, id, "li", "x") }, ErrState},
			"a fact of nothing":    {func(tx *db.Tx) error { return d.engine.Keep(tx, Fact{}, got) }, ErrFact},
		} {
			if err := d.write(tt.act); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", name, err, tt.want)
			}
		}
		d.must(func(tx *db.Tx) error { _, err := Take(tx, id, "li", "mine"); return err })
		if err := d.write(func(tx *db.Tx) error { _, err := d.engine.Decide(tx, id, "wang", true, "x"); return err }); !errors.Is(err, ErrNotYours) {
			t.Errorf("somebody else decides: %v", err)
		}
		d.must(func(tx *db.Tx) error { _, err := d.engine.Decide(tx, id, "li", false, "a real refund"); return err })
		if len(d.held) != 0 {
			t.Error("still held")
		}
		if d.sell(sale(3, alone)); len(d.cases(Opened)) != 1 {
			t.Error("what comes behind a decision is no new case")
		}
		next := d.cases(Opened)[0].ID
		d.must(func(tx *db.Tx) error {
			_, err := Take(tx, next, "li", "mine")
			if err == nil {
				_, err = d.engine.Decide(tx, next, "li", true, "he is the owner's brother")
			}
			return err
		})
		if !d.held[next] {
			t.Error("confirmed, and paid")
		}
		d.must(func(tx *db.Tx) error { return d.engine.LetGo(tx, next, "li", "the loss is settled") })
		if len(d.held) != 0 {
			t.Error("let go, and still held")
		}
		d.evidence(t, id)
	})
}

func (d *desk) evidence(t *testing.T, id string) {
	err := d.store.Read(ctx, func(q *db.Query) error {
		all, err := EvidenceOf(q, id, nil, 10)
		if err != nil || len(all) != 2 || all[0].Fact.Ref != "000000000001" || all[1].Decision.Score != 70 || !all[0].Fact.At.Equal(sale(1, nil).At) {
			t.Errorf("%v %+v", err, all)
		}
		rest, err2 := EvidenceOf(q, id, &all[0], 10)
		acts, err3 := ActsOf(q, id)
		if len(rest) != 1 || len(acts) != 3 || acts[2].Is != Cleared || acts[1].Who != "li" {
			t.Errorf("%+v %+v", rest, acts)
		}
		return errors.Join(err2, err3)
	})
	if err != nil {
		t.Fatal(err)
	}
	var labels []Label
	for f, err := range History(ctx, d.store, time.Time{}, time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		labels = append(labels, f.Label)
	}
	if !slices.Equal(labels, []Label{Good, Good, Fraud}) {
		t.Errorf("labels %q", labels)
	}
}

// TestStartAgain: an engine built from rows judges as the one that lived, and a
// replay of the set in force finds what was found then.
func TestStartAgain(t *testing.T) {
	checks := flag.Lookup("rapid.checks").Value
	was := checks.String()
	if err := checks.Set("10"); err != nil {
		t.Fatal(err)
	}
	defer checks.Set(was)
	rapid.Check(t, func(rt *rapid.T) {
		d := newDesk(rt, db.Config{URL: dbtest.File(t), Rebuildable: true})
		facts := drawFacts(rt)
		last := facts[len(facts)-1]
		live := map[Action]int64{}
		for _, f := range facts[:len(facts)-1] {
			if f.At.After(d.now.Now()) {
				d.now.Set(f.At)
			}
			live[d.sell(f).Action]++
		}
		house := House()
		r, err := Replay(History(ctx, d.store, time.Time{}, time.Time{}), &house, &house)
		if err != nil || !maps.Equal(r.Old.Actions, live) || !maps.Equal(r.New.Actions, live) || r.Added+r.Dropped != 0 || len(r.Shops) != 0 {
			rt.Fatalf("%v: replayed %v, lived %v", err, r.Old.Actions, live)
		}
		d.now.Set(last.At)
		again, err := Open(ctx, d.store, nil)
		if err != nil {
			rt.Fatal(err)
		}
		if a, b := d.engine.Assess(last), again.Assess(last); fmt.Sprint(a) != fmt.Sprint(b) {
			rt.Fatalf("lived %+v\nbuilt %+v", a, b)
		}
	})
}

func TestSets(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		d := newDesk(t, cfg)
		for i := range 4 {
			d.sell(sale(i, func(f *Fact) { f.Kind = Refund }))
		}
		id := d.cases(Opened)[0].ID
		d.must(func(tx *db.Tx) error {
			_, err := Take(tx, id, "li", "mine")
			if err == nil {
				_, err = d.engine.Decide(tx, id, "li", true, "fraud")
			}
			return err
		})
		milder := House()
		milder.Rules = slices.DeleteFunc(milder.Rules, func(r Rule) bool { return r.Code == RefundAlone })
		d.must(func(tx *db.Tx) error {
			s, err := Propose(tx, milder, "li", "refunds are fine")
			if s.Version != 2 {
				t.Errorf("version %d", s.Version)
			}
			return err
		})
		tomorrow := d.now.Now().Add(24 * time.Hour)
		activate := func(who string, from time.Time) error {
			return d.write(func(tx *db.Tx) error { return d.engine.Activate(tx, 2, who, from) })
		}
		if err := activate("wang", tomorrow); !errors.Is(err, ErrReplay) {
			t.Errorf("not rehearsed: %v", err)
		}
		r, err := d.engine.Rehearse(ctx, d.store, 2, time.Time{}, time.Time{})
		if err != nil || r.Facts != 4 || r.Old.Flagged() != 4 || r.New.Flagged() != 0 || r.Dropped != 4 || r.Old.Precision() != 10_000 || r.New.Recall() != 0 || r.New.Precision() != -1 {
			t.Errorf("%v %+v", err, r)
		}
		fraud, good, unseen, ok := r.New.Confusion(r.Facts)
		if !ok || fraud != (Confusion{0, 4}) || good != (Confusion{}) || unseen != (Confusion{}) {
			t.Errorf("new: fraud %+v, good %+v, unseen %+v", fraud, good, unseen)
		}
		if len(r.Shops) != 1 || r.Shops[0] != (ShopChange{Shop: "shop_1", Old: 4, Fen: 4 * 86_37}) || r.Old.Rules[RefundAlone] != 4 {
			t.Errorf("%+v", r)
		}
		for who, want := range map[string]error{"li": ErrFourEyes, "": ErrFourEyes} {
			if err := activate(who, tomorrow); !errors.Is(err, want) {
				t.Errorf("%q: %v", who, err)
			}
		}
		if err := activate("wang", d.now.Now().Add(-time.Second)); !errors.Is(err, ErrState) {
			t.Errorf("in the past: %v", err)
		}
		if err := activate("wang", tomorrow); err != nil {
			t.Fatal(err)
		}
		refund := sale(9, func(f *Fact) { f.Kind, f.Shop = Refund, "shop_9" })
		for _, e := range []*Engine{d.engine, reopened(t, d)} {
			refund.At = tomorrow.Add(-time.Microsecond)
			before := e.Assess(refund)
			refund.At = tomorrow
			if after := e.Assess(refund); before.Version != 1 || before.Action != Review || after.Version != 2 || after.Action != Allow {
				t.Errorf("before %+v, after %+v", before, after)
			}
		}
		d.must(func(tx *db.Tx) error { _, err := Propose(tx, House(), "li", "back again"); return err })
		d.must(func(tx *db.Tx) error { return Reject(tx, 3, "wang") })
		if err := d.write(func(tx *db.Tx) error { return Reject(tx, 3, "wang") }); !errors.Is(err, ErrState) {
			t.Errorf("rejected twice: %v", err)
		}
		if _, err := d.engine.Rehearse(ctx, d.store, 9, time.Time{}, time.Time{}); !errors.Is(err, ErrNoSet) {
			t.Errorf("no set: %v", err)
		}
		var sets []SetInfo
		d.must(func(tx *db.Tx) (err error) { sets, err = Sets(tx, 10); return err })
		if len(sets) != 3 || sets[0].State != Rejected || sets[1].Report == nil || sets[1].Approver != "wang" || sets[2].Author != "house" {
			t.Errorf("%+v", sets)
		}
	})
}

// TestConfusion counts each label under each judgement, of sets that differ.
func TestConfusion(t *testing.T) {
	var facts []Labelled
	for i, x := range []struct {
		kind  Kind
		label Label
	}{{Refund, Fraud}, {Refund, Fraud}, {Refund, Good}, {Refund, Unlabelled}, {Sale, Fraud}, {Sale, Good}, {Sale, Good}, {Sale, Good}, {Sale, Unlabelled}, {Sale, Unlabelled}} {
		facts = append(facts, Labelled{Fact: sale(i, func(f *Fact) { f.Kind = x.kind }), Label: x.label})
	}
	strict, none := House(), House()
	none.Rules = nil
	r, err := Replay(func(yield func(Labelled, error) bool) {
		for _, f := range facts {
			if !yield(f, nil) {
				return
			}
		}
	}, &strict, &none)
	if err != nil {
		t.Fatal(err)
	}
	fraud, good, unseen, ok := r.Old.Confusion(r.Facts)
	if !ok || fraud != (Confusion{2, 1}) || good != (Confusion{1, 3}) || unseen != (Confusion{1, 2}) || r.Old.Precision() != 6_666 || r.Old.Recall() != 6_666 {
		t.Errorf("strict: fraud %+v, good %+v, unseen %+v; %+v", fraud, good, unseen, r.Old)
	}
	fraud, good, unseen, ok = r.New.Confusion(r.Facts)
	if !ok || fraud != (Confusion{0, 3}) || good != (Confusion{0, 4}) || unseen != (Confusion{0, 3}) {
		t.Errorf("none: fraud %+v, good %+v, unseen %+v", fraud, good, unseen)
	}
	twice := strict
	twice.Rules = append(slices.Clone(strict.Rules), strict.Rules[slices.IndexFunc(strict.Rules, func(r Rule) bool { return r.Code == RefundAlone })])
	both, err := Replay(func(yield func(Labelled, error) bool) { yield(facts[0], nil) }, &strict, &twice)
	if err != nil || both.New.Rules[RefundAlone] != 1 || both.Old.Rules[RefundAlone] != 1 {
		t.Errorf("a rule that stands twice speaks once of a fact: %v %+v", err, both.New.Rules)
	}
	r.Old.Passed = nil
	if _, _, _, ok := r.Old.Confusion(r.Facts); ok {
		t.Error("a report of before tells what was allowed")
	}
}

func reopened(t *testing.T, d *desk) *Engine {
	t.Helper()
	e, err := Open(ctx, d.store, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestFailedUnitTeachesNothing: memory learns what is durable and nothing else.
func TestFailedUnitTeachesNothing(t *testing.T) {
	d := newDesk(t, db.Config{URL: dbtest.File(t)})
	boom := errors.New("boom")
	for i := range 10 {
		f := sale(i, card)
		if err := d.write(func(tx *db.Tx) error { return errors.Join(d.engine.Keep(tx, f, d.engine.Assess(f)), boom) }); !errors.Is(err, boom) {
			t.Fatal(err)
		}
	}
	if got := d.engine.Assess(sale(11, card)); len(got.Hits) != 0 {
		t.Errorf("%+v", got)
	}
}

// fault breaks one commit, before or after it.
type fault struct{ before, after bool }

func (f *fault) BeforeCommit(int64) (err error) {
	if f.before {
		f.before, err = false, errors.New("injected")
	}
	return err
}

func (f *fault) AfterCommit(int64) (err error) {
	if f.after {
		f.after, err = false, errors.New("injected")
	}
	return err
}

func TestFaults(t *testing.T) {
	for _, f := range []fault{{before: true}, {after: true}} {
		armed := &fault{}
		d := newDesk(t, db.Config{URL: dbtest.File(t), Faults: armed})
		*armed = f
		x := sale(1, func(f *Fact) { f.Kind = Refund })
		got := d.engine.Assess(x)
		if err := d.write(func(tx *db.Tx) error { return d.engine.Keep(tx, x, got) }); err == nil {
			t.Fatal("nothing broke")
		}
		d.sell(x)
		if c := d.cases(Opened); len(c) != 1 || c[0].Facts != 1 {
			t.Errorf("%+v: %+v", f, c)
		}
		n := 0
		for range History(ctx, d.store, time.Time{}, time.Time{}) {
			n++
		}
		if n != 1 {
			t.Errorf("%+v: %d facts", f, n)
		}
	}
}

// TestCaseMachine acts at random; what the table does not list is refused.
func TestCaseMachine(t *testing.T) {
	checks := flag.Lookup("rapid.checks").Value
	was := checks.String()
	if err := checks.Set("15"); err != nil {
		t.Fatal(err)
	}
	defer checks.Set(was)
	rapid.Check(t, func(rt *rapid.T) {
		d := newDesk(rt, db.Config{URL: dbtest.File(t), Rebuildable: true})
		d.sell(sale(1, func(f *Fact) { f.Kind, f.Place = Refund, shanghai }))
		id := d.cases("")[0].ID
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			before := d.cases("")[0]
			to := rapid.SampledFrom([]CaseState{Opened, Assigned, Cleared, Confirmed}).Draw(rt, "to")
			err := d.write(func(tx *db.Tx) (err error) {
				switch to {
				case Opened:
					_, err = GiveBack(tx, id, "li", "x")
				case Assigned:
					_, err = Take(tx, id, "li", "x")
				default:
					_, err = d.engine.Decide(tx, id, "li", to == Confirmed, "x")
				}
				return err
			})
			after := d.cases("")[0]
			if (err == nil) != before.State.May(to) || err == nil && after.State != to || err != nil && (after != before || !errors.Is(err, ErrState)) {
				rt.Fatalf("%s to %s: %v, now %s", before.State, to, err, after.State)
			}
			if after.Holding != d.held[id] || after.State == Cleared && after.Holding || after.State == Confirmed && !after.Holding {
				rt.Fatalf("%+v, held %v", after, d.held)
			}
			if after.State.Words(true) == after.State.Words(false) {
				rt.Fatalf("%s has no words", after.State)
			}
		}
	})
}

func TestForget(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		d := newDesk(t, cfg)
		d.sell(sale(1, nil))
		d.sell(sale(2, func(f *Fact) { f.Kind = Refund }))
		d.sell(sale(3, nil))
		d.must(func(tx *db.Tx) error {
			n, err := Forget(tx, noon.Add(3*time.Minute), 10)
			if n != 1 {
				t.Errorf("%d forgotten, want the one without a case", n)
			}
			return err
		})
	})
}
