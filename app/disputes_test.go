package app_test

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"koala/calendar"
	"koala/dispute"
	"koala/internal/db"
	"koala/money"
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
		post(wang, "/notices/confirm", why("ref", "CUP-7", "said", step.said, "mark", o.mark("CUP-7", step.said)), 303) // refused: his own
		owed(step.said+" confirmed by himself", step.before)
		for _, path := range []string{"/ops/disputes", "/ops/disputes/rules"} {
			if code, _ := zhao.get(path); code != 200 {
				t.Errorf("%s: %d", path, code)
			}
		}
		post(zhao, "/notices/confirm", why("ref", "CUP-7", "said", step.said, "mark", o.mark("CUP-7", step.said)), 303)
		owed(step.said+" confirmed", step.fen)
		if c := open(); c.State != step.state {
			t.Errorf("%s: %s", step.said, c.State)
		}
	}
	if p, err := o.h.Verify(ctx); err != nil || !p.OK {
		t.Errorf("%v %v", err, p.Problems)
	}
}

// TestSaleIsFound: the page of a new case finds a sale by its reference, by its
// day with the card's end or the terminal, and by the amount; what cannot be
// looked for is said.
func TestSaleIsFound(t *testing.T) {
	o := openOffice(t)
	sale := o.sell("jialian.1", 1, 100_00)
	other := o.sell("jialian.1", 2, 300_00)
	if _, done, err := o.m.Settle(ctx, "jialian.1"); err != nil || !done {
		t.Fatal("not settled", err)
	}
	day, tail := calendar.Of(sale.At, calendar.Beijing), dispute.Tail(sale.Masked)
	wang, shen := o.as("wang", "en"), o.as("shen", "zh")
	for _, tt := range []struct {
		query string
		code  int
		want  string // what the page says
		rows  int
	}{
		{"", 200, "By its reference", 0},
		{"?rrn=" + sale.RRN, 200, "What an issuer or the arbiter said on paper", 0},
		{"?tail=" + tail + "&day=" + day.String() + "&sum=100", 200, sale.RRN, 1},
		{"?terminal=" + sale.TID + "&day=" + day.String(), 200, other.RRN, 2},
		{"?terminal=" + sale.TID + "&day=" + day.String() + "&sum=300.00", 200, other.RRN, 1},
		{"?terminal=" + sale.TID + "&day=" + day.AddDays(-1).String(), 200, "No cleared sale fits", 0},
		{"?rrn=999999999999", 200, "No cleared sale fits", 0},
		{"?tail=" + tail, 200, "By its reference", 0},
		{"?tail=12x4", 422, "", 0},
		{"?day=yesterday", 422, "", 0},
		{"?sum=sixty", 422, "", 0},
	} {
		code, body := wang.get("/ops/disputes/new" + tt.query)
		if rows := strings.Count(body, "/ops/disputes/new?rrn="); code != tt.code || !strings.Contains(body, tt.want) || rows != tt.rows && !strings.HasPrefix(tt.query, "?rrn") {
			t.Errorf("%s: %d, %d sales, want %d and %q", tt.query, code, rows, tt.rows, tt.want)
		}
	}
	if code, body := shen.get("/ops/disputes/new?rrn=" + sale.RRN); code != 200 || strings.Contains(body, "ask-notice") {
		t.Errorf("who only looks: %d", code)
	}
	if code, _ := wang.get("/ops/disputes?rrn=" + sale.RRN); code != 303 {
		t.Errorf("from the sale's page: %d", code)
	}
}

// TestMuchNeedsTwo: above the rule's amount what the desk decides waits for
// another person; the rule itself is changed by two, on a day to come.
func TestMuchNeedsTwo(t *testing.T) {
	o := openOffice(t)
	o.sell("jialian.1", 1, 20_00)
	sale := o.sell("jialian.1", 2, 1_500_00)
	if _, done, err := o.m.Settle(ctx, "jialian.1"); err != nil || !done {
		t.Fatal("not settled", err)
	}
	wang, zhao, shen := o.as("wang", "en"), o.as("zhao", "zh"), o.as("shen", "en")
	var id string
	o.must(o.h.Store.Write(ctx, func(tx *db.Tx) error {
		return dispute.KeepRecord(tx, dispute.Record{Host: sale.Host, Ref: "CUP-9", Said: dispute.SaidChargeback, Sale: dispute.Trace{Tail: dispute.Tail(sale.Masked), Day: calendar.Of(sale.At, calendar.Beijing), Fen: 1_500_00}, Amount: sale.Due, Reason: "4515", At: sale.At.Add(time.Minute)})
	}))
	o.clock.Advance(time.Hour)
	o.must(o.h.Tick(ctx)) // the record is heeded
	state := func() (s dispute.State) {
		t.Helper()
		o.read(func(q *db.Query) error {
			c, err := dispute.ByRef(q, "CUP-9")
			id, s = c.ID, c.State
			return err
		})
		return s
	}
	if s := state(); s != dispute.Charged {
		t.Fatalf("what the file says: %s", s)
	}
	at := "/ops/disputes/" + id
	for _, step := range []struct {
		who  colleague
		act  string
		want dispute.State
		code int
	}{
		{wang, "gather", dispute.Charged, 303}, {wang, "represent", dispute.Charged, 303}, {wang, "confirm", dispute.Charged, 303}, {shen, "confirm", dispute.Charged, 403}, {wang, "represent", dispute.Charged, 303},
		{zhao, "undo", dispute.Charged, 303}, {zhao, "confirm", dispute.Charged, 404}, {wang, "represent", dispute.Charged, 303}, {zhao, "confirm", dispute.Presented, 303}, {zhao, "confirm", dispute.Presented, 404}, {wang, "appeal", dispute.Presented, 404},
	} {
		if code := step.who.post(at+"/"+step.act, why(), ""); code != step.code || state() != step.want {
			t.Errorf("%s: %d, %s; want %d, %s", step.act, code, state(), step.code, step.want)
		}
		if step.act == "represent" {
			_, own := wang.get(at)
			_, others := zhao.get(at)
			if !strings.Contains(own, "Another person has to confirm") || strings.Contains(own, "ask-confirm") || !strings.Contains(others, "ask-confirm") {
				t.Error("the page does not say who has to confirm")
			}
			if _, list := zhao.get("/ops/disputes"); !strings.Contains(list, "待第二人复核的步骤") {
				t.Error("the list does not show what waits")
			}
		}
	}
	for _, as := range []string{"", "?as=text"} {
		if code, body := wang.get(at + "/pack" + as); code != 200 || !strings.Contains(body, "CUP-9") {
			t.Errorf("pack%s: %d", as, code)
		}
	}
	day := calendar.Of(o.clock.Now(), calendar.Beijing).AddDays(1)
	propose := func(value, from string) int {
		return wang.post("/ops/disputes/rules", why("rule", "second.person", "value", value, "from", from, "source", "circular 7"), "")
	}
	if a, b, c := propose("x", day.String()), propose("1", day.AddDays(-1).String()), propose("2000", day.String()); a != 422 || b != 422 || c != 303 {
		t.Errorf("proposals of a rule: %d %d %d", a, b, c)
	}
	_, body := zhao.get("/ops/disputes/rules?rule=represent&value=10")
	yes := regexp.MustCompile(`action="(/ops/disputes/rules/prop_[^/]+/confirm)"`).FindStringSubmatch(body)
	if yes == nil {
		t.Fatal("no proposal to confirm")
	}
	if code := wang.post(yes[1], why(), ""); code != 303 {
		t.Errorf("by oneself: %d", code)
	}
	alone := func() (fen int64) {
		o.read(func(q *db.Query) error {
			a, err := dispute.Alone(q, day.Start(calendar.Beijing))
			fen = a.Minor()
			return err
		})
		return fen
	}
	if alone() != 1_000_00 {
		t.Error("changed by one person")
	}
	if code := zhao.post(yes[1], why(), ""); code != 303 || alone() != 2_000_00 {
		t.Errorf("confirmed: %d, %d", code, alone())
	}
	_, body = zhao.get("/ops/disputes/rules?rule=second&value=10")
	if !strings.Contains(body, "CUP-9") {
		t.Error("the preview lacks the case")
	}
	o.strays(sale.Host, wang, zhao)
}

// strays: what no sale fits is completed by one person and confirmed by another,
// or set aside.
func (o *office) strays(host string, wang, zhao colleague) {
	o.Helper()
	var first string
	o.read(func(q *db.Query) error {
		list, err := dispute.OfPayee(q, "", false, "", 9)
		first = list[0].Sale.RRN
		return err
	})
	for i, ref := range []string{"CUP-10", "CUP-11"} {
		o.must(dispute.TakeRecords(ctx, o.h.Store, []dispute.Record{{Host: host, Ref: ref, Said: dispute.SaidChargeback, Undone: true, Sale: dispute.Trace{RRN: fmt.Sprint("77777777777", i)}, Amount: o.amount(first), Reason: "4515", At: o.clock.Now()}}, nobody))
	}
	_, body := wang.get("/ops/disputes/records")
	acts := regexp.MustCompile(`action="(/ops/disputes/records/[0-9a-f]+/)complete"`).FindAllStringSubmatch(body, -1)
	if len(acts) != 2 {
		o.Fatalf("%d records to complete", len(acts))
	}
	if code := wang.post(acts[0][1]+"complete", why("ref", "CUP-9", "rrn", "999999999999", "reason", "4515"), ""); code != 404 {
		o.Errorf("of no sale: %d", code)
	}
	if code := wang.post(acts[0][1]+"complete", why("ref", "CUP-9", "rrn", first, "reason", "4515"), ""); code != 303 {
		o.Errorf("completed: %d", code)
	}
	if code := wang.post(acts[1][1]+"aside", why(), ""); code != 303 {
		o.Errorf("set aside: %d", code)
	}
	if code := zhao.post("/ops/disputes/notices/confirm", why("ref", "CUP-9", "said", string(dispute.SaidWithdrawn), "mark", o.mark("CUP-9", string(dispute.SaidWithdrawn))), ""); code != 303 {
		o.Errorf("confirmed: %d", code)
	}
	o.read(func(q *db.Query) error {
		c, err := dispute.ByRef(q, "CUP-9")
		if c.State != dispute.Withdrawn {
			o.Errorf("%s behind the record", c.State)
		}
		return err
	})
	for state, want := range map[string]int{"waits": 0, "entered": 0, "heeded": 2, "dropped": 1} {
		code, body := zhao.get("/ops/disputes/records?state=" + state)
		if n := strings.Count(body, "<tr") - 1; code != 200 || want > 0 && n != want {
			o.Errorf("records %s: %d, %d rows, want %d", state, code, n, want)
		}
	}
	if code, _ := zhao.get("/ops/disputes/records?state=lost"); code != 422 {
		o.Errorf("an unknown state: %d", code)
	}
}

// nobody knows no sale.
func nobody(db.Reader, dispute.Trace) ([]dispute.Lead, error) { return nil, nil }

func (o *office) amount(rrn string) (a money.Amount) {
	o.Helper()
	o.read(func(q *db.Query) error {
		list, err := dispute.OfSale(q, rrn)
		a = list[0].Amount
		return err
	})
	return a
}

// mark is that of the notice about a case that waits for a second person.
func (o *office) mark(ref, said string) (mark string) {
	o.Helper()
	o.read(func(q *db.Query) error {
		all, err := dispute.Unconfirmed(q)
		for _, w := range all {
			if w.Ref == ref && string(w.Said) == said {
				mark = w.Mark()
			}
		}
		return err
	})
	return mark
}
