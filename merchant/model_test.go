package merchant_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/merchant"
)

// lives is the model of a merchant's life: which acts lead where. An act that
// is not here must be refused and change nothing.
var lives = map[merchant.State]map[string]merchant.State{
	merchant.Checking:  {"approve": merchant.Approved, "refuse": merchant.Refused, "other papers": merchant.Applied, "close": merchant.Closed},
	merchant.Applied:   {"again": merchant.Checking, "close": merchant.Closed},
	merchant.Refused:   {"other papers": merchant.Applied, "close": merchant.Closed},
	merchant.Approved:  {"suspend": merchant.Suspended, "close": merchant.Closed, "first sale": merchant.Active},
	merchant.Active:    {"suspend": merchant.Suspended, "close": merchant.Closed},
	merchant.Suspended: {"lift": merchant.Active, "close": merchant.Closed},
	merchant.Closed:    {},
}

var acts = []string{"approve", "refuse", "other papers", "again", "suspend", "lift", "close", "first sale"}

// act does one of acts to a merchant.
func (h *house) act(m merchant.Merchant, what string) error {
	decide := func(to merchant.State) error {
		return h.try(func(tx *db.Tx) error { return merchant.Decide(tx, m.ID, to, "chen", "because") })
	}
	switch what {
	case "approve":
		return h.try(func(tx *db.Tx) error { return merchant.Approve(tx, m.ID, "wang", "") })
	case "refuse":
		return decide(merchant.Refused)
	case "other papers":
		return decide(merchant.Applied)
	case "again":
		if _, err := h.desk.Again(context.Background(), m.ID, noodles(1)); err != nil {
			return err
		}
		h.seen(m.ID)
		return nil
	case "suspend":
		return decide(merchant.Suspended)
	case "lift":
		return decide(merchant.Active)
	case "close":
		return decide(merchant.Closed)
	}
	if m.State != merchant.Approved {
		return merchant.ErrState // a first sale is the first one only
	}
	return h.try(func(tx *db.Tx) error {
		list, err := merchant.ShopsOf(tx, m.ID)
		if err != nil {
			return err
		}
		t, err := merchant.AddTerminal(tx, merchant.Terminal{Serial: "SN-1", Kind: merchant.POS, Shop: list[0].ID})
		if err != nil {
			return err
		}
		if err := merchant.Live(tx, t.TID, merchant.Injected, "", ""); err != nil {
			return err
		}
		return merchant.Live(tx, t.TID, merchant.InUse, "", "")
	})
}

func (h *house) live(tb *rapid.T) {
	m := h.apply(noodles(1))
	h.seen(m.ID)
	for range rapid.IntRange(1, 12).Draw(tb, "acts") {
		what := rapid.SampledFrom(acts).Draw(tb, "act")
		m = h.of(m.ID)
		want, may := lives[m.State][what]
		err := h.act(m, what)
		now := h.of(m.ID).State
		switch {
		case may && (err != nil || now != want):
			tb.Fatalf("%s of one that is %s: %v, now %s", what, m.State, err, now)
		case !may && (err == nil || now != m.State):
			tb.Fatalf("%s of one that is %s was taken: now %s", what, m.State, now)
		case !may && !errors.Is(err, merchant.ErrState):
			tb.Fatalf("%s of one that is %s: %v", what, m.State, err)
		}
	}
	h.read(func(q *db.Query) error {
		sum := int64(0)
		counts, err := merchant.Funnel(q)
		for _, c := range counts {
			sum += c.N
			if want := c.State == h.of(m.ID).State; (c.N == 1) != want {
				tb.Fatalf("%d are %s", c.N, c.State)
			}
		}
		if sum != 1 {
			tb.Fatalf("%d merchants", sum)
		}
		return err
	})
	h.prove()
}

// TestLives walks merchants through random acts beside the model.
func TestLives(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		open(rt, db.Config{URL: dbtest.File(t), Rebuildable: true}).live(rt)
	})
}

// TestTerminalLives: every pair of lives, and which may follow which.
func TestTerminalLives(t *testing.T) {
	h := open(t, db.Config{URL: dbtest.File(t)})
	_, s := h.approved(1)
	all := []merchant.Life{merchant.Registered, merchant.Injected, merchant.InUse, merchant.Stopped, merchant.Retired}
	way := map[merchant.Life][]merchant.Life{
		merchant.Registered: {}, merchant.Injected: {merchant.Injected}, merchant.InUse: {merchant.Injected, merchant.InUse},
		merchant.Stopped: {merchant.Injected, merchant.InUse, merchant.Stopped}, merchant.Retired: {merchant.Retired},
	}
	may := map[merchant.Life]string{merchant.Registered: "injected retired", merchant.Injected: "registered active retired",
		merchant.InUse: "registered suspended retired", merchant.Stopped: "registered active retired", merchant.Retired: ""}
	n := 0
	for _, from := range all {
		for _, to := range all {
			n++
			var tid string
			h.do(func(tx *db.Tx) error {
				term, err := merchant.AddTerminal(tx, merchant.Terminal{Serial: fmt.Sprint("L-", n), Kind: merchant.Reader, Shop: s.ID})
				tid = term.TID
				for _, l := range way[from] {
					if err == nil {
						err = merchant.Live(tx, tid, l, "chen", "because")
					}
				}
				return err
			})
			err := h.try(func(tx *db.Tx) error { return merchant.Live(tx, tid, to, "chen", "because") })
			allowed := from == to || slices.Contains(strings.Fields(may[from]), string(to))
			if allowed != (err == nil) || err != nil && !errors.Is(err, merchant.ErrState) {
				t.Errorf("%s to %s: %v", from, to, err)
			}
			if err := h.try(func(tx *db.Tx) error { return merchant.Live(tx, tid, merchant.Stopped, "", "") }); err == nil && to != merchant.Stopped && from != merchant.Stopped {
				t.Errorf("%s was stopped by nobody", to)
			}
		}
	}
}
