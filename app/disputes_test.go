package app_test

import (
	"net/url"
	"testing"

	"koala/dispute"
	"koala/internal/db"
	"koala/settlement"
)

// TestDisputeByTheDesk: two people bring what an issuer says on paper into the
// house, from the request for the receipt to the award; the shop is owed what
// the stage says, to the fen, and nothing moves before the second person.
func TestDisputeByTheDesk(t *testing.T) {
	o := openOffice(t)
	sale := o.sell("jialian.1", 1, 100_00) // a debit card
	if _, done, err := o.m.Settle(ctx, "jialian.1"); err != nil || !done {
		t.Fatal("not settled", err)
	}
	wang, zhao := o.as("wang", "en"), o.as("zhao", "en")
	owed := func(what string, want int64) {
		t.Helper()
		o.read(func(q *db.Query) error {
			open, err := settlement.Open(q)
			got := int64(0)
			for _, p := range open {
				if p.Payee == sale.Shop {
					got += p.Amount.Minor()
				}
			}
			if got != want {
				t.Errorf("%s: the shop is owed %d, want %d", what, got, want)
			}
			return err
		})
	}
	post := func(c colleague, path string, form url.Values, want int) {
		t.Helper()
		if code := c.post("/ops/disputes"+path, form, ""); code != want {
			t.Fatalf("POST %s %v: %d, want %d", path, form, code, want)
		}
	}
	notice := func(said, rrn, amount string) url.Values {
		return why("ref", "CUP-7", "rrn", rrn, "said", said, "amount", amount, "reason", "4515")
	}
	open := func() (c dispute.Case) {
		t.Helper()
		o.read(func(q *db.Query) (err error) { c, err = dispute.ByRef(q, "CUP-7"); return err })
		return c
	}
	owed("sold", 100_00)
	post(wang, "/notices", notice("retrieval", "999999999999", "60.00"), 404)
	post(wang, "/notices", notice("appeal", sale.RRN, "60.00"), 422)
	post(wang, "/notices", notice("retrieval", sale.RRN, "sixty"), 422)
	for _, step := range []struct {
		said        string
		ours        []string // what the desk does before it
		before, fen int64
		state       dispute.State
	}{
		{"retrieval", nil, 100_00, 100_00, dispute.Requested},
		{"chargeback", []string{"gather", "send"}, 100_00, 40_00, dispute.Charged},
		{"second_chargeback", []string{"gather", "represent"}, 100_00, 100_00, dispute.Presented}, // refused: a debit card has one round
		{"arbitration", nil, 100_00, 100_00, dispute.Arbitration},
		{"award_cardholder", nil, 100_00, 40_00, dispute.Lost},
	} {
		for _, act := range step.ours {
			post(wang, "/"+open().ID+"/"+act, why(), 303)
		}
		post(wang, "/notices", notice(step.said, sale.RRN, "60.00"), 303)
		owed(step.said+" entered", step.before)
		post(wang, "/notices/confirm", why("ref", "CUP-7", "said", step.said), 303) // refused: his own
		owed(step.said+" confirmed by himself", step.before)
		for _, path := range []string{"/ops/disputes", "/ops/disputes/rules"} {
			if code, _ := zhao.get(path); code != 200 {
				t.Errorf("%s: %d", path, code)
			}
		}
		post(zhao, "/notices/confirm", why("ref", "CUP-7", "said", step.said), 303)
		owed(step.said+" confirmed", step.fen)
		if c := open(); c.State != step.state {
			t.Errorf("%s: %s", step.said, c.State)
		}
	}
	if p, err := o.h.Verify(ctx); err != nil || !p.OK {
		t.Errorf("%v %v", err, p.Problems)
	}
}
