package dispute

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/money"
	"koala/settlement"
)

func known(_ db.Reader, rrn string) (Sale, error) {
	if s := claim("", false).Sale; s.RRN == rrn {
		return s, nil
	}
	return Sale{}, ErrClaim
}

func notice(said Said) Notice {
	return Notice{Ref: "N1", Said: said, RRN: "000000000001", Amount: money.Fen(6_000), Reason: "4515", At: sold.AddDate(0, 0, 1), Why: "as the network writes"}
}

func (h *house) heed(n Notice) (c Case, err error) {
	err = h.write(func(tx *db.Tx) (err error) { c, err = Heed(tx, n, known); return err })
	return c, err
}

// TestNotices: the network moves a case from the request to the award; each
// notice counts once, and the fen of each stage are where it says.
func TestNotices(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := newHouse(t, cfg)
		ours := map[Said]func(*db.Tx, string) (Case, error){
			SaidChargeback: func(tx *db.Tx, id string) (Case, error) { return Send(tx, id, "li", "here") },
			SaidAgain:      present,
			SaidHolder:     file,
		}
		if _, err := h.heed(notice(SaidAgain)); !errors.Is(err, ErrNone) {
			t.Errorf("a second chargeback of no case: %v", err)
		}
		var c Case
		for _, step := range []struct {
			said Said
			fen  int64 // what the shop has then
		}{{SaidRetrieval, 10_000}, {SaidChargeback, 4_000}, {SaidAgain, 4_000}, {SaidHolder, 4_000}} {
			if act := ours[step.said]; act != nil {
				h.gather(c.ID)
				h.must(func(tx *db.Tx) error { _, err := act(tx, c.ID); return err })
				if before := h.balance(settlement.Payable(shop)); step.said == SaidAgain && before != 10_000 {
					t.Errorf("represented: the shop has %d", before)
				}
			}
			for range 2 {
				got, err := h.heed(notice(step.said))
				if err != nil || got.State != step.said.To() {
					t.Fatalf("%s: %s %v", step.said, got.State, err)
				}
				c = got
				h.check(h.get(c.ID))
				if has := h.balance(settlement.Payable(shop)); has != step.fen {
					t.Errorf("%s: the shop has %d, want %d", step.said, has, step.fen)
				}
			}
			other := notice(step.said)
			other.Amount = money.Fen(5_999)
			if _, err := h.heed(other); !errors.Is(err, ErrDiffers) {
				t.Errorf("%s of another amount: %v", step.said, err)
			}
		}
		if c.Moves != 3 {
			t.Errorf("the money moved %d times", c.Moves)
		}
		if got, err := h.heed(notice(SaidRetrieval)); err != nil || got.State != Lost {
			t.Errorf("the first notice behind the last: %s %v", got.State, err)
		}
		other := notice(SaidChargeback)
		other.Reason = "4562"
		if _, err := h.heed(other); !errors.Is(err, ErrDiffers) {
			t.Errorf("a chargeback for another reason: %v", err)
		}
		if _, err := h.heed(notice(SaidShop)); !errors.Is(err, ErrState) {
			t.Errorf("two awards: %v", err)
		}
	})
}

// TestNoticeOfTheLastDay: what the issuer said on the last day is in time, though
// its file comes the day after; what it said later is not.
func TestNoticeOfTheLastDay(t *testing.T) {
	for _, said := range []Said{SaidChargeback, SaidAgain} {
		for late, want := range map[bool]error{false: nil, true: ErrLate} {
			h := newHouse(t, db.Config{URL: dbtest.File(t)})
			c, err := h.heed(notice(SaidRetrieval))
			if err == nil && said == SaidAgain {
				if c, err = h.heed(notice(SaidChargeback)); err == nil {
					h.gather(c.ID)
					h.must(func(tx *db.Tx) (err error) { c, err = present(tx, c.ID); return err })
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			end := c.Due
			if said == SaidChargeback { // bound by the sale
				h.must(func(tx *db.Tx) (err error) { end, err = deadline(tx, RuleCharge, c.Sale.At); return err })
			}
			n := notice(said)
			if n.At = end.Add(-time.Hour); late {
				n.At = end
			}
			h.now.Advance(end.Add(6 * time.Hour).Sub(h.now.Now()))
			if _, err := Tick(ctx, h.store, h.now.Now()); err != nil {
				t.Fatal(err)
			}
			if _, err := h.heed(n); !errors.Is(err, want) {
				t.Errorf("%s, late %t: %v, want %v", said, late, err, want)
			}
		}
	}
}

func TestNoticeRefuses(t *testing.T) {
	h := newHouse(t, db.Config{URL: dbtest.File(t)})
	for name, bend := range map[string]func(*Notice){
		"no number": func(n *Notice) { n.Ref = "" }, "no sale": func(n *Notice) { n.RRN = "" }, "no words": func(n *Notice) { n.Why = "" }, "nothing disputed": func(n *Notice) { n.Amount = money.Fen(0) },
		"unknown step": func(n *Notice) { n.Said = "appeal" }, "ahead of now": func(n *Notice) { n.At = h.now.Now().Add(1) },
	} {
		n := notice(SaidChargeback)
		bend(&n)
		if _, err := h.heed(n); !errors.Is(err, ErrNotice) {
			t.Errorf("%s: %v", name, err)
		}
	}
	n := notice(SaidChargeback)
	n.RRN = "000000000009"
	if _, err := h.heed(n); !errors.Is(err, ErrClaim) {
		t.Errorf("a sale nobody knows: %v", err)
	}
	if h.balance(settlement.Payable(shop)) != 10_000 {
		t.Error("a refused notice moved money")
	}
}

// TestNoticesInAnyOrder: whatever comes, in whatever order and however often,
// the money is where the state says, and never more of it than is disputed.
func TestNoticesInAnyOrder(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		h := newHouse(r, db.Config{URL: dbtest.File(t)})
		all := []Said{SaidRetrieval, SaidChargeback, SaidAgain, SaidFiled, SaidShop, SaidHolder, SaidWithdrawn}
		for range rapid.IntRange(1, 12).Draw(r, "notices") {
			c, err := h.heed(notice(rapid.SampledFrom(all).Draw(r, "said")))
			if err != nil && !errors.Is(err, ErrState) && !errors.Is(err, ErrNone) {
				r.Fatal(err)
			}
			if c.ID == "" {
				continue
			}
			if rapid.Bool().Draw(r, "ours") && c.State == Charged {
				h.gather(c.ID)
				h.must(func(tx *db.Tx) error { _, err := present(tx, c.ID); return err })
			}
			h.check(h.get(c.ID))
		}
	})
}

// mark is that of a notice that waits; empty: none does.
func (h *house) mark(ref string, said Said) (mark string) {
	h.must(func(tx *db.Tx) error {
		all, err := Unconfirmed(tx)
		for _, w := range all {
			if w.Ref == ref && w.Said == said {
				mark = w.Mark()
			}
		}
		return err
	})
	return mark
}

// TestSecondPerson: what is entered by hand moves nothing until another person
// confirms it, and then once.
func TestSecondPerson(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := newHouse(t, cfg)
		n, mark := notice(SaidChargeback), ""
		for range 2 {
			h.must(func(tx *db.Tx) error { return Enter(tx, n, "li") })
		}
		other := n
		other.Amount = money.Fen(1)
		if err := h.write(func(tx *db.Tx) error { return Enter(tx, other, "li") }); !errors.Is(err, ErrDiffers) {
			t.Errorf("entered again with another amount: %v", err)
		}
		see := func() { mark = h.mark(n.Ref, n.Said) }
		see()
		confirm := func(who string) error {
			return h.write(func(tx *db.Tx) error { _, err := Confirm(tx, n.Ref, n.Said, mark, who, known); return err })
		}
		if err := confirm("li"); !errors.Is(err, ErrSecond) {
			t.Errorf("confirmed by himself: %v", err)
		}
		if has := h.balance(settlement.Payable(shop)); has != 10_000 {
			t.Errorf("before the second person the shop has %d", has)
		}
		h.must(func(tx *db.Tx) error { return errors.Join(Drop(tx, n.Ref, n.Said), Enter(tx, other, "li")) })
		if err := confirm("wang"); !errors.Is(err, ErrDiffers) {
			t.Errorf("confirmed what was changed since he saw it: %v", err)
		}
		h.must(func(tx *db.Tx) error { return errors.Join(Drop(tx, n.Ref, n.Said), Enter(tx, n, "li")) })
		see()
		if err := confirm("wang"); err != nil {
			t.Fatal(err)
		}
		if has := h.balance(settlement.Payable(shop)); has != 4_000 {
			t.Errorf("after the second person the shop has %d", has)
		}
		if err := confirm("wang"); !errors.Is(err, ErrNone) {
			t.Errorf("confirmed twice: %v", err)
		}
		h.must(func(tx *db.Tx) error { return Enter(tx, notice(SaidWithdrawn), "li") })
		h.must(func(tx *db.Tx) error { return Drop(tx, n.Ref, SaidWithdrawn) })
		h.must(func(tx *db.Tx) error {
			all, err := Unconfirmed(tx)
			if len(all) != 0 {
				t.Errorf("%+v", all)
			}
			return err
		})
		if err := h.write(func(tx *db.Tx) error { return Enter(tx, notice("appeal"), "li") }); !errors.Is(err, ErrNotice) {
			t.Errorf("an unknown step: %v", err)
		}
	})
}
