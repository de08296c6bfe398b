package dispute

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/proposal"
	"koala/money"
	"koala/settlement"
)

// alone sets up to how much one person may act.
func (h *house) alone(fen int64) {
	h.must(func(tx *db.Tx) error { return SetRule(tx, RuleRow{RuleSecond, sold, fen, "a test"}) })
}

func (h *house) do(s Step, id, who string) (waits bool, err error) {
	err = h.write(func(tx *db.Tx) (err error) { _, waits, err = Do(tx, s, id, who, "so it is"); return err })
	return waits, err
}

func (h *house) confirm(id, who string) error {
	return h.write(func(tx *db.Tx) error { _, err := ConfirmStep(tx, id, who); return err })
}

// TestSecondAbove: up to the rule's amount one person does a step, above it
// another one confirms it, and the fen do not move before.
func TestSecondAbove(t *testing.T) {
	for _, tt := range []struct {
		alone int64
		step  Step
		waits bool
	}{{6_001, StepAccept, false}, {6_000, StepAccept, false}, {6_000, StepRepresent, false}, {6_000, StepFile, false}, {5_999, StepAccept, true}, {5_999, StepRepresent, true}, {0, StepFile, true}} {
		step := tt.step
		dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
			h := newHouse(t, cfg)
			h.alone(tt.alone)
			c := h.open(claim("N1", true))
			if _, err := h.do(StepRepresent, c.ID, "li"); !errors.Is(err, ErrEvidence) {
				t.Fatalf("without evidence: %v", err)
			}
			h.gather(c.ID)
			if step == StepFile {
				h.must(func(tx *db.Tx) error { _, err := present(tx, c.ID); return err })
				h.must(func(tx *db.Tx) error { _, err := again(tx, c.ID); return err })
			}
			before := h.get(c.ID)
			waits, err := h.do(step, c.ID, "li")
			if err != nil || waits != tt.waits || (h.get(c.ID).State == before.State) != waits {
				t.Fatalf("%s of 60.00, alone up to %d: waits %v, %v", step, tt.alone, waits, err)
			}
			h.check(h.get(c.ID))
			if waits {
				if _, err := h.do(step, c.ID, "li"); !errors.Is(err, proposal.ErrSame) {
					t.Errorf("twice: %v", err)
				}
				if err := h.confirm(c.ID, "li"); !errors.Is(err, proposal.ErrSelf) {
					t.Errorf("by oneself: %v", err)
				}
				h.must(func(tx *db.Tx) error { return UndoStep(tx, c.ID, "li") })
				if err := h.confirm(c.ID, "wang"); !errors.Is(err, proposal.ErrNotFound) {
					t.Errorf("taken back: %v", err)
				}
				if _, err := h.do(step, c.ID, "li"); err != nil {
					t.Fatal(err)
				}
				if err := h.confirm(c.ID, "wang"); err != nil {
					t.Fatal(err)
				}
				h.check(h.get(c.ID))
				if e := h.history(c.ID); e[len(e)-1].Who != "li, wang" {
					t.Errorf("%+v", e)
				}
			}
			if err := h.confirm(c.ID, "wang"); !errors.Is(err, proposal.ErrNotFound) {
				t.Errorf("confirmed twice: %v", err)
			}
			if to := map[Step]State{StepAccept: Accepted, StepRepresent: Presented, StepFile: Arbitration}[step]; h.get(c.ID).State != to {
				t.Errorf("%s: %s", step, h.get(c.ID).State)
			}
		})
	}
}

// TestStaleStep: what was proposed of another evidence or state is not confirmed,
// and makes room for the next.
func TestStaleStep(t *testing.T) {
	h := newHouse(t, db.Config{URL: dbtest.File(t)})
	h.alone(0)
	c := h.open(claim("N1", true))
	h.gather(c.ID)
	if _, err := h.do(StepRepresent, c.ID, "li"); err != nil {
		t.Fatal(err)
	}
	if _, err := Upload(ctx, h.store, seal{}, c.ID, "shop", "delivery.jpg", "image/jpeg", []byte{1}); err != nil {
		t.Fatal(err)
	}
	h.gather(c.ID)
	if err := h.confirm(c.ID, "wang"); !errors.Is(err, ErrState) {
		t.Errorf("other evidence: %v", err)
	}
	if _, err := h.do(StepAccept, c.ID, "li"); err != nil {
		t.Errorf("the next: %v", err)
	}
	h.must(func(tx *db.Tx) error { _, err := Withdraw(tx, c.ID, "found it"); return err })
	if err := h.confirm(c.ID, "wang"); !errors.Is(err, ErrState) {
		t.Errorf("it ended: %v", err)
	}
	h.check(h.get(c.ID))
	if _, err := h.do("appeal", c.ID, "li"); !errors.Is(err, ErrState) {
		t.Errorf("an unknown step: %v", err)
	}
	if _, err := h.do(StepAccept, "dsp_none", "li"); !errors.Is(err, ErrNone) {
		t.Errorf("no case: %v", err)
	}
}

// TestRulesAreChangedByTwo: a rule changes on a day to come, by two people; the
// preview says which open cases it would bind otherwise, and they keep theirs.
func TestRulesAreChangedByTwo(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := newHouse(t, cfg)
		c := h.open(claim("N1", true))
		tomorrow := calendar.Of(h.now.Now(), calendar.Beijing).AddDays(1).Start(calendar.Beijing)
		row := RuleRow{RulePresent, tomorrow, 10, "circular 7"}
		for name, r := range map[string]RuleRow{"of the past": {RulePresent, h.now.Now(), 10, "x"}, "unknown": {"x", tomorrow, 10, "x"}, "too much": {RulePresent, tomorrow, 3_651, "x"},
			"rounds": {RuleRounds, tomorrow, 10, "x"}, "below nothing": {RulePresent, tomorrow, -1, "x"}, "no source": {RulePresent, tomorrow, 10, ""}} {
			if err := h.write(func(tx *db.Tx) error { _, err := ProposeRule(tx, r, "li", "a circular"); return err }); !errors.Is(err, ErrRuleDay) {
				t.Errorf("%s: %v", name, err)
			}
		}
		var id string
		h.must(func(tx *db.Tx) error {
			p, err := ProposeRule(tx, row, "li", "a circular")
			id = p.ID
			return err
		})
		h.must(func(tx *db.Tx) error {
			list, err := Preview(tx, row, 10)
			if len(list) != 1 || list[0].Case.ID != c.ID || !list[0].Would.Equal(c.Due.AddDate(0, 0, -20)) {
				t.Errorf("%+v", list)
			}
			same, err2 := Preview(tx, RuleRow{Rule: RulePresent, Value: 30}, 10)
			other, err3 := Preview(tx, RuleRow{Rule: RuleAsk, Value: 1}, 10)
			if len(same)+len(other) != 0 {
				t.Errorf("%+v %+v", same, other)
			}
			return errors.Join(err, err2, err3)
		})
		confirm := func(who string) error {
			return h.write(func(tx *db.Tx) error { _, err := ConfirmRule(tx, id, who); return err })
		}
		if err := confirm("li"); !errors.Is(err, proposal.ErrSelf) {
			t.Errorf("by oneself: %v", err)
		}
		h.now.Set(tomorrow.Add(-time.Second))
		if err := confirm("wang"); err != nil {
			t.Fatal(err)
		}
		if err := confirm("zhou"); !errors.Is(err, proposal.ErrState) {
			t.Errorf("twice: %v", err)
		}
		if got := h.get(c.ID); !got.Due.Equal(c.Due) {
			t.Errorf("a running case moved to %s", got.Due)
		}
		h.now.Set(tomorrow)
		h.must(func(tx *db.Tx) error { _, err := Withdraw(tx, c.ID, "found it"); return err })
		next := claim("N2", true)
		if got := h.open(next); !got.Due.Equal(tomorrow.AddDate(0, 0, 11)) {
			t.Errorf("the next has until %s", got.Due)
		}
		h.must(func(tx *db.Tx) error {
			row.From = tomorrow.AddDate(0, 0, 1)
			p, err := ProposeRule(tx, row, "li", "a circular")
			id = p.ID
			return err
		})
		h.now.Set(row.From)
		if err := confirm("wang"); !errors.Is(err, ErrRuleDay) {
			t.Errorf("the day has come: %v", err)
		}
	})
}

// TestMoneyOfACase: after whatever row of steps by shop, desk, issuer, arbiter and
// time, shop and counter sum to nothing, the items of settlement say what the
// ledger says, and what is held is the shop's: nobody is paid twice.
func TestMoneyOfACase(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHouse(rt, db.Config{URL: dbtest.File(t), Rebuildable: true})
		h.alone(rapid.SampledFrom([]int64{0, 10_000}).Draw(rt, "alone"))
		c := claim("N1", rapid.Bool().Draw(rt, "money"))
		c.Amount = money.Fen(rapid.Int64Range(1, 10_000).Draw(rt, "fen"))
		id := h.open(c).ID
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			act := rapid.IntRange(0, 9).Draw(rt, "act")
			if act == 0 && !h.get(id).State.Final() {
				h.gather(id)
			}
			if act == 1 {
				h.now.Advance(time.Duration(rapid.IntRange(1, 40).Draw(rt, "days")) * 24 * time.Hour)
				if _, err := Tick(ctx, h.store, h.now.Now()); err != nil {
					rt.Fatal(err)
				}
			}
			if said := map[int]Said{2: SaidRetrieval, 3: SaidChargeback, 4: SaidAgain, 5: SaidFiled, 6: SaidShop, 7: SaidHolder, 8: SaidWithdrawn}[act]; said != "" {
				n := notice(said)
				n.Amount = c.Amount
				_, _ = h.heed(n)
			}
			if act == 9 {
				_, _ = h.do(rapid.SampledFrom([]Step{StepAccept, StepRepresent, StepFile}).Draw(rt, "step"), id, "li")
				if rapid.Bool().Draw(rt, "second") {
					_ = h.confirm(id, "wang")
				}
			}
			got := h.get(id)
			h.check(got)
			has := h.balance(settlement.Payable(shop))
			if house := has + h.balance(counter); house != 0 || got.Held && got.WithIssuer() || has < 0 {
				rt.Fatalf("%s: the shop has %d, the house %d", got.State, has, house)
			}
		}
	})
}
