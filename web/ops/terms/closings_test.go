package terms_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"koala/internal/db"
	"koala/money"
	"koala/settlement"
	"koala/web"
)

// payout is the newest closing of a shop.
func (h *house) payout(shop string) (p settlement.Payout) {
	h.Helper()
	h.read(func(q *db.Query) error {
		list, err := settlement.Closings(q, shop, "", 1)
		if len(list) > 0 {
			p = list[0]
		}
		return err
	})
	return p
}

// TestBankIsAnsweredForByTwo: a payout without a statement is confirmed, and
// returned, by two persons with a reason; what the bank says first is kept.
func TestBankIsAnsweredForByTwo(t *testing.T) {
	h := open(t)
	wang, zhao, shen := h.login("wang", web.EN), h.login("zhao", web.ZH), h.login("shen", web.EN)
	h.sell("s1", "wok", 300_00)
	h.night()
	p := h.payout("wok")
	at, ask := "/ops/settlement/payouts/"+p.ID, "/ops/closings/payouts/"+p.ID+"/answer"
	wang.page(at, "Answered by hand", "Nobody has answered", "ask-answer")
	if body := shen.page(at); strings.Contains(body, "ask-answer") {
		t.Error("an auditor may answer")
	}
	for _, tt := range []struct {
		who  *browser
		form url.Values
		code int
	}{{wang, values("decision", "lost"), 422}, {wang, url.Values{"decision": {"confirmed"}}, 303}, {shen, values("decision", "confirmed"), 403}} {
		if code, _ := tt.who.post(ask, tt.form); code != tt.code {
			t.Errorf("%v: %d, want %d", tt.form, code, tt.code)
		}
	}
	for range 2 {
		if code, to := wang.post(ask, values("decision", "confirmed", "why", "a letter of the bank")); code != 303 || to != at {
			t.Errorf("proposed: %d, to %s", code, to)
		}
	}
	wang.page("/ops/closings", "Waits for another person", "a letter of the bank")
	if body := wang.page(at, "a letter of the bank"); act(body, "confirm") != "" {
		t.Error("who proposed may confirm")
	}
	yes := act(zhao.page(at), "confirm")
	if wang.post(yes, values()); h.payout("wok").State != settlement.Sent {
		t.Error("confirmed by who proposed it")
	}
	for range 2 {
		zhao.post(yes, values())
	}
	if s := h.payout("wok").State; s != settlement.Confirmed {
		t.Errorf("it is %s", s)
	}
	wang.page(at, "wang, zhao", "a letter of the bank")
	zhao.post(ask, values("decision", "returned", "why", "the bank rang up"))
	wang.post(act(wang.page(at), "undo"), values())
	if s := h.payout("wok").State; s != settlement.Confirmed {
		t.Errorf("taken back, it is %s", s)
	}
	zhao.post(ask, values("decision", "returned", "why", "the bank rang up"))
	yes = act(wang.page(at), "confirm")
	h.do(func(tx *db.Tx) error { return settlement.Return(tx, p.ID, "the bank's own word") })
	wang.post(yes, values())
	wang.page("/ops/closings", "Waits for another person")
	h.read(func(q *db.Query) error {
		all, err := settlement.AnswersOf(q, p.ID)
		if len(all) != 1 || all[0].Why != "a letter of the bank" {
			t.Errorf("answers: %+v", all)
		}
		return err
	})
	wang.post(act(wang.page(at), "undo"), values())
	if body := wang.page(at); strings.Contains(body, "ask-answer") {
		t.Error("what has come back may be answered for")
	}
}

// TestFundingByTwo: how much the house lends is changed by two persons, and not
// by who looked at another limit.
func TestFundingByTwo(t *testing.T) {
	h := open(t)
	wang, zhao := h.login("wang", web.EN), h.login("zhao", web.EN)
	most := func() (fen int64) {
		h.read(func(q *db.Query) error {
			a, _, err := settlement.Funding(q, h.now.Now())
			fen = a.Minor()
			return err
		})
		return fen
	}
	form := hidden(wang.page("/ops/closings", "ask-funding"), "ask-funding")
	form.Set("amount", "50000")
	for _, bad := range []string{"-1", "much", ""} {
		if code, _ := wang.post("/ops/closings/funding", values("was", "0.00", "amount", bad)); code != 422 {
			t.Errorf("%q: %d", bad, code)
		}
	}
	for range 2 {
		if code, _ := wang.post("/ops/closings/funding", form); code != 303 || most() != 0 {
			t.Errorf("proposed: %d, %d", code, most())
		}
	}
	yes := act(zhao.page("/ops/closings", "¥0.00 → ¥50"), "confirm")
	if wang.post(yes, values()); most() != 0 {
		t.Error("confirmed by who proposed it")
	}
	for range 2 {
		zhao.post(yes, values())
	}
	if most() != 50_000_00 {
		t.Errorf("%d", most())
	}
	if wang.post("/ops/closings/funding", form); act(zhao.page("/ops/closings"), "confirm") != "" {
		t.Error("proposed of a limit that is no more")
	}
	form.Set("was", "50000.00")
	form.Set("amount", "1")
	wang.post("/ops/closings/funding", form)
	yes = act(zhao.page("/ops/closings"), "confirm")
	h.do(func(tx *db.Tx) error { return settlement.SetFunding(tx, money.Fen(60_000_00)) })
	if zhao.post(yes, values()); most() != 60_000_00 {
		t.Errorf("confirmed of a limit that is no more: %d", most())
	}
}

// TestLatePayoutsAreSeen: a payout at once that is past its promise stands at the
// head of the board until the bank, or two persons, have answered.
func TestLatePayoutsAreSeen(t *testing.T) {
	h := open(t)
	wang, zhao, qian := h.login("wang", web.EN), h.login("zhao", web.EN), h.login("qian", web.EN)
	h.do(func(tx *db.Tx) error {
		if err := settlement.SetFunding(tx, money.Fen(1_000_000_00)); err != nil {
			return err
		}
		t, err := settlement.TermsOf(tx, "wok", h.today())
		t.Since = h.today().AddDays(1)
		t.Once = settlement.Once{Agreed: true, BPDay: 5, Most: money.Fen(5_000_00), Promise: time.Hour}
		if err != nil {
			return err
		}
		return settlement.SetTerms(tx, t)
	})
	h.night()
	h.sell("s1", "wok", 1_000_00)
	qian.page("/merchant/money/now", "Why this limit", "Days early", "Without it, it arrives")
	if code, to := qian.post("/merchant/money/now", url.Values{"bp": {"5"}}); code != 303 || !strings.HasPrefix(to, "/merchant/payouts/") {
		t.Fatalf("paid now: %d, to %s", code, to)
	}
	h.must(settlement.Tick(ctx, h.h.Store))
	if body := wang.page("/ops/closings"); strings.Contains(body, "past their promise") {
		t.Error("late before its time")
	}
	h.now.Advance(90 * time.Minute)
	wang.page("/ops/closings", "1 payouts at once are past their promise", "30 min", "Wok House")
	wang.page("/ops/closings/payouts?state=late", "Wok House", "late")
	p := h.payout("wok")
	at := "/ops/settlement/payouts/" + p.ID
	wang.page(at, "Past its promise")
	wang.post("/ops/closings/payouts/"+p.ID+"/answer", values("decision", "confirmed"))
	zhao.post(act(zhao.page(at), "confirm"), values())
	if body := wang.page("/ops/closings"); strings.Contains(body, "past their promise") {
		t.Error("late although it was answered")
	}
	if p := h.payout("wok"); !p.Late() || p.Undone != p.Advance {
		t.Errorf("late is not free: %+v", p)
	}
}

// TestPaydayIsShown: a shop that is paid once a month sees when and how much.
func TestPaydayIsShown(t *testing.T) {
	h := open(t)
	qian := h.login("qian", web.EN)
	h.do(func(tx *db.Tx) error {
		t, err := settlement.TermsOf(tx, "wok", h.today())
		if err != nil {
			return err
		}
		t.Since, t.Monthly, t.Holidays = h.today().AddDays(1), true, false
		return settlement.SetTerms(tx, t)
	})
	h.night()
	h.sell("s1", "wok", 100_00)
	h.night()
	h.sell("s2", "wok", 50_00)
	qian.page("/merchant/money", "Next payday", "¥149.43", "8 Oct")
	qian.page("/merchant/fees", "once a month")
}
