package terms_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/merchant"
	"koala/settlement"
	"koala/web"
)

// form is terms as the form has them: a night shop on another price card.
func form(since calendar.Date, more ...string) url.Values {
	v := values("since", since.String(), "category", "living", "price", "favoured", "cut", "29:00", "pays", "bank", "least", "1", "reserve", "1.50", "reservedays", "90", "once", "no", "every", "0", "bpday", "0", "most", "0", "promise", "0")
	for i := 0; i+1 < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return v
}

// TestTermsByTwo: one person proposes what was previewed, another confirms, and
// the terms begin on their day; neither can do both, and a second click changes
// nothing.
func TestTermsByTwo(t *testing.T) {
	h := open(t)
	h.sell("s1", "wok", 1_000_00)
	h.night()
	wang, zhao, shen := h.login("wang", web.EN), h.login("zhao", web.ZH), h.login("shen", web.EN)
	tomorrow := h.today().AddDays(1)
	wang.page("/ops/terms", "Wok House", "Tofu Mill", "Nothing was changed yet")
	wang.page("/ops/terms?find=wok", "Wok House")
	wang.page("/ops/terms?find=铁锅", "Wok House")
	wang.page("/ops/terms?find=nobody", "No such payee")
	h.do(func(tx *db.Tx) error { return merchant.AddAgent(tx, merchant.Agent{ID: "north", Name: "North Wind"}) })
	wang.page("/ops/terms?who=agents", "North Wind", "/ops/terms/agent.north")
	wang.page("/ops/terms?find=agent.north", "Agent North Wind")
	wang.page("/ops/terms/agent.north", "In force today", "no fees")
	wang.page("/ops/terms/agent.north/new", "Price card")
	if code, _ := h.login("qian", web.EN).get("/ops/terms/wok"); code != 403 {
		t.Errorf("a shop at the staff's pages: %d", code)
	}
	wang.page("/ops/terms/wok", "In force today", "in force", "No standing split")
	zhao.page("/ops/terms/wok", "今天的条款", "没有固定分账")
	if code, _ := wang.get("/ops/terms/nobody"); code != 404 {
		t.Errorf("a payee that is not there: %d", code)
	}
	if code, _ := wang.get("/ops/terms/nobody/new"); code != 404 {
		t.Errorf("its form: %d", code)
	}
	wang.page("/ops/terms/wok/new", `value="`+tomorrow.String()+`"`, "Price card")
	body := wang.page("/ops/terms/wok/new?"+form(tomorrow).Encode(), "What changes", "28:00", "29:00", "1.50 % for 90 days", "¥3.80", "¥3.72", "¥15.00", "ask-propose")
	seen := hidden(body, "ask-propose")
	if code, to := wang.post("/ops/terms/wok", seen); code != 303 || to != "/ops/terms/wok" {
		t.Fatalf("proposed: %d, to %s", code, to)
	}
	if code, to := wang.post("/ops/terms/wok", seen); code != 303 || to != "/ops/terms/wok" {
		t.Errorf("a double click: %d, to %s", code, to)
	}
	zhao.page("/ops/terms", "待第二人复核")
	if body := wang.page("/ops/terms/wok", "because of a test"); act(body, "confirm") != "" || act(body, "undo") == "" {
		t.Error("who proposed may confirm, or not take back")
	}
	if body := shen.page("/ops/terms/wok"); act(body, "confirm")+act(body, "undo") != "" {
		t.Error("an auditor may act")
	}
	yes := act(zhao.page("/ops/terms/wok", "29:00"), "confirm")
	if code, _ := shen.post(yes, values()); code != 403 {
		t.Errorf("confirmed by an auditor: %d", code)
	}
	if wang.post(yes, values()); h.terms("wok", tomorrow).Price == "favoured" {
		t.Error("confirmed by who proposed it")
	}
	if code, _ := zhao.post(yes, url.Values{}); code != 303 || h.terms("wok", tomorrow).Price == "favoured" {
		t.Errorf("confirmed without a reason: %d", code)
	}
	for range 2 {
		if code, _ := zhao.post(yes, values()); code != 303 {
			t.Errorf("confirmed: %d", code)
		}
	}
	got, before := h.terms("wok", tomorrow), h.terms("wok", h.today())
	if got.Price != "favoured" || got.CutOff != settlement.NightCutOff || got.ReserveBP != 150 || got.ReserveDays != 90 || got.Least.Minor() != 100 || got.Holidays || got.Since != tomorrow || before.Price == "favoured" {
		t.Errorf("%+v, today %+v", got, before)
	}
	wang.page("/ops/terms/wok", "to come", "confirmed", "zhao")
	wang.page("/ops/terms", "Decided lately", "zhao")
	wang.page("/ops/audit", "proposed: wok", "confirmed: wok")
	if code, to := wang.post("/ops/terms/wok", form(tomorrow)); code != 303 || !strings.HasPrefix(to, "/ops/terms/wok/new?") {
		t.Errorf("what changes nothing: %d, to %s", code, to)
	}
	if body := wang.page("/ops/terms/wok/new?" + form(tomorrow).Encode()); strings.Contains(body, "ask-propose") {
		t.Error("what changes nothing may be proposed")
	}
}

// TestTermsSayWhatIsWrong: what cannot be kept is said at its field, and is not
// proposed.
func TestTermsSayWhatIsWrong(t *testing.T) {
	h := open(t)
	wang := h.login("wang", web.EN)
	day := h.today().AddDays(1)
	for _, tt := range []struct{ field, value, want string }{
		{"since", h.today().String(), "at the earliest"}, {"since", "soon", "Write a day"}, {"since", "2019-01-01", "at the latest"},
		{"category", "magic", "Choose one"}, {"price", "magic", "Choose one"}, {"pays", "never", "Choose one"},
		{"cut", "31:00", "01:00 to 30:00"}, {"cut", "9", "01:00 to 30:00"}, {"cut", "23:60", "01:00 to 30:00"}, {"cut", "-1:00", "01:00 to 30:00"},
		{"least", "-1", "Write an amount"}, {"reserve", "101", "0 to 100 %"}, {"reservedays", "0", "after how many"}, {"reservedays", "x", "whole number"},
		{"most", "0", "Say how much"}, {"bpday", "2", "0 to 1.00 %"}, {"promise", "0", "whole number"}, {"every", "-5", "whole number"},
	} {
		more := []string{tt.field, tt.value}
		if tt.want == "Say how much" || tt.field == "bpday" || tt.field == "promise" || tt.field == "every" {
			more = append([]string{"once", "yes", "bpday", "0.05", "most", "1000", "promise", "30"}, more...)
		}
		v := form(day, more...)
		body := wang.page("/ops/terms/wok/new?"+v.Encode(), tt.want, `class="field wrong"`)
		if strings.Contains(body, "ask-propose") {
			t.Errorf("%s %q may be proposed", tt.field, tt.value)
		}
		if code, to := wang.post("/ops/terms/wok", v); code != 303 || !strings.HasPrefix(to, "/ops/terms/wok/new?") {
			t.Errorf("%s %q: %d, to %s", tt.field, tt.value, code, to)
		}
	}
	if body := wang.page("/ops/terms"); strings.Contains(body, "Waits for another person") {
		t.Error("something wrong was proposed")
	}
}

// TestTermsAreNotStale: what was looked at before other terms came is not
// proposed, and what was proposed before its day went by is not confirmed.
func TestTermsAreNotStale(t *testing.T) {
	h := open(t)
	wang, zhao := h.login("wang", web.EN), h.login("zhao", web.EN)
	tomorrow := h.today().AddDays(1)
	old := hidden(wang.page("/ops/terms/wok/new?"+form(tomorrow).Encode()), "ask-propose")
	other := settlement.Terms{Payee: "wok", Since: h.today().AddDays(9), Category: "living", CutOff: settlement.ShopCutOff}
	h.do(func(tx *db.Tx) error { return settlement.SetTerms(tx, other) })
	if code, to := wang.post("/ops/terms/wok", old); code != 303 || !strings.HasPrefix(to, "/ops/terms/wok/new?") {
		t.Errorf("a stale preview: %d, to %s", code, to)
	}
	body := wang.page("/ops/terms/wok/new?"+form(tomorrow).Encode(), "the terms have changed", "Other terms are agreed from "+other.Since.String())
	wang.post("/ops/terms/wok", hidden(body, "ask-propose"))
	yes := act(zhao.page("/ops/terms/wok"), "confirm")
	other.Since = h.today().AddDays(10)
	h.do(func(tx *db.Tx) error { return settlement.SetTerms(tx, other) })
	if body := zhao.page("/ops/terms/wok", "the terms have changed"); act(body, "confirm") != "" {
		t.Error("a stale proposal has a button")
	}
	if zhao.post(yes, values()); h.terms("wok", tomorrow).Price == "favoured" {
		t.Error("a stale proposal was confirmed")
	}
	no := act(zhao.page("/ops/terms/wok"), "undo")
	zhao.post(no, values())
	body = wang.page("/ops/terms/wok/new?" + form(tomorrow).Encode())
	wang.post("/ops/terms/wok", hidden(body, "ask-propose"))
	yes = act(zhao.page("/ops/terms/wok"), "confirm")
	h.now.Advance(24 * time.Hour)
	zhao.page("/ops/terms/wok", "begin tomorrow or later")
	if code, _ := zhao.post(yes, values()); code != 303 || h.terms("wok", tomorrow).Price == "favoured" {
		t.Errorf("confirmed on its own day: %d", code)
	}
	wang.page("/ops/terms/wok", "taken back", "to be confirmed")
}

// TestSplitByTwo: a standing split is previewed, proposed and confirmed as terms
// are, ends by an empty one, and says what is wrong with it.
func TestSplitByTwo(t *testing.T) {
	h := open(t)
	h.sell("s1", "wok", 200_00)
	h.night()
	wang, zhao := h.login("wang", web.EN), h.login("zhao", web.ZH)
	day := h.today().AddDays(1)
	at := func(pairs ...string) string {
		return "/ops/terms/wok/split?" + values(append([]string{"since", day.String()}, pairs...)...).Encode()
	}
	for _, tt := range []struct {
		want  string
		pairs []string
	}{
		{"There is no such payee", []string{"payee1", "nobody", "share1", "10"}}, {"Say who gets it", []string{"share1", "10"}}, {"Either a share or a fixed amount", []string{"payee1", "tofu"}},
		{"is the shop itself", []string{"payee1", "wok", "share1", "10"}}, {"0 to 100 %", []string{"payee1", "tofu", "share1", "0"}}, {"Who bears it is", []string{"payee1", "tofu", "share1", "10", "bearer", "else"}},
		{"Write an amount", []string{"payee1", "tofu", "fixed1", "none"}}, {"at the earliest", []string{"since", h.today().String()}},
	} {
		if body := wang.page(at(tt.pairs...), tt.want); strings.Contains(body, "ask-propose") {
			t.Errorf("%v may be proposed", tt.pairs)
		}
	}
	body := wang.page(at("payee1", "tofu", "share1", "30"), "Tofu Mill", "¥30.00", "¥60.00", "¥140.00")
	if code, to := wang.post("/ops/terms/wok/split", hidden(body, "ask-propose")); code != 303 || to != "/ops/terms/wok" {
		t.Fatalf("proposed: %d, to %s", code, to)
	}
	yes := act(zhao.page("/ops/terms/wok", "30.00 %"), "confirm")
	on := func() (n int) {
		h.read(func(q *db.Query) error {
			s, err := settlement.SplitOn(q, "wok", day)
			n = len(s.Shares)
			return err
		})
		return n
	}
	if wang.post(yes, values()); on() != 0 {
		t.Error("confirmed by who proposed it")
	}
	for range 2 {
		zhao.post(yes, values())
	}
	if on() != 1 {
		t.Error("not confirmed")
	}
	wang.page("/ops/terms/wok", "Tofu Mill 30.00 %", "divided")
	body = wang.page(at(), "What changes")
	wang.post("/ops/terms/wok/split", hidden(body, "ask-propose"))
	zhao.post(act(zhao.page("/ops/terms/wok"), "confirm"), values())
	if on() != 0 {
		t.Error("not ended")
	}
}

// TestShopAsksToBePaidAtOnce: a shop asks, staff refuse with a reason that it
// reads, it asks again, and terms that allow it answer it.
func TestShopAsksToBePaidAtOnce(t *testing.T) {
	h := open(t)
	wang, zhao, qian, cashier := h.login("wang", web.EN), h.login("zhao", web.EN), h.login("qian", web.EN), h.login("cash", web.EN)
	const now = "/merchant/money/now"
	qian.page("/merchant/money", "Ask to be paid at once")
	qian.page(now, "do not include being paid at once")
	for _, path := range []string{now + "/ask", now + "/unask"} {
		if code, _ := cashier.post(path, values()); code != 403 {
			t.Errorf("a cashier at %s: %d", path, code)
		}
	}
	if code, _ := qian.post(now+"/ask", values("why", "x")); code != 422 {
		t.Errorf("without a reason: %d", code)
	}
	for range 2 {
		if code, _ := qian.post(now+"/ask", values("why", "the supplier wants cash")); code != 303 {
			t.Errorf("asked: %d", code)
		}
	}
	qian.page(now, "It is being looked at", "the supplier wants cash")
	wang.page("/ops/terms", "Shops that ask to be paid at once", "Wok House", "the supplier wants cash")
	no := act(wang.page("/ops/terms/wok", "qian asked on"), "refuse")
	if code, _ := wang.post(no, values("why", "first three months of sales")); code != 303 {
		t.Errorf("refused: %d", code)
	}
	qian.page(now, "was refused", "first three months of sales")
	qian.post(now+"/ask", values("why", "three months are over"))
	qian.post(now+"/unask", url.Values{})
	if body := qian.page(now, "do not include"); strings.Contains(body, "was refused") {
		t.Error("what the shop took back is called refused")
	}
	qian.post(now+"/ask", values("why", "three months are over"))
	day := h.today().AddDays(1)
	wang.page("/ops/terms/wok/new?once=yes", `<option value="yes" selected`)
	body := wang.page("/ops/terms/wok/new?"+form(day, "once", "yes", "bpday", "0.05", "most", "3000", "promise", "30").Encode(), "0.05 % a day")
	wang.post("/ops/terms/wok", hidden(body, "ask-propose"))
	zhao.post(act(zhao.page("/ops/terms/wok"), "confirm"), values())
	qian.page(now, "It is agreed")
	if body := wang.page("/ops/terms/wok", "0.05 % a day"); act(body, "refuse") != "" {
		t.Error("the wish still waits")
	}
	h.now.Advance(24 * time.Hour)
	h.do(func(tx *db.Tx) error {
		return settlement.SetStanding(tx, "wok", settlement.Standing{Opened: h.today().AddDays(-400), Risk: "A"})
	})
	qian.page(now, "Why this limit", "Sold on an average day", "Risk level A")
	if code, _ := qian.post(now+"/ask", values()); code != 303 {
		t.Errorf("asked for what is agreed: %d", code)
	}
	wang.page("/ops/terms/wok", "Today’s limit", "Risk level A")
}
