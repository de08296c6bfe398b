package ops_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"koala/internal/db"
	"koala/issuing"
	"koala/settlement"
	"koala/transit"
	"koala/tsm"
	"koala/wallet"
	"koala/web"
)

func cardAt(h *house) string {
	sum := sha256.Sum256([]byte(h.card))
	return fmt.Sprintf("/ops/cards/%s/%s", h.lin, hex.EncodeToString(sum[:5]))
}

// every lists the pages of a house with a story.
func every(h *house) []string {
	var payouts []settlement.Payout
	h.read(func(q *db.Query) (err error) { payouts, err = settlement.Payouts(q, "", "", 5); return err })
	paths := []string{"/ops/", "/ops/orders", "/ops/orders?state=done&kind=topup", "/ops/cards", "/ops/cards?state=active", "/ops/customers", "/ops/customers/" + string(h.lin),
		"/ops/bands/band_lin", cardAt(h), "/ops/gates", "/ops/gates?kind=bus", "/ops/gates/" + h.gates["exit东单"].String(), "/ops/gates/" + h.gates["bus"].String(),
		"/ops/journeys", "/ops/journeys?state=incomplete", "/ops/exceptions", "/ops/exceptions?all=1", "/ops/deny", "/ops/books", "/ops/books?day=2015-09-16",
		"/ops/books/accounts", "/ops/books/accounts?code=2030", "/ops/books/account?id=bank.custody", "/ops/books/account?id=" + string(wallet.Account(h.lin)),
		"/ops/books/account?id=" + string(issuing.Float(issuing.IDOf(h.card))) + "&at=2015-09-16T12:00&by=booked", "/ops/books/entries", "/ops/books/entries?kind=transit.debit",
		"/ops/books/entry?seq=1", "/ops/books/entry?ref=load:" + h.orders[1], "/ops/books/holds", "/ops/books/proof", "/ops/books/proof?run=now",
		"/ops/settlement", "/ops/settlement/days/2015-09-16", "/ops/settlement/payouts/" + payouts[0].ID, "/ops/keys", "/ops/audit"}
	for _, id := range h.orders {
		paths = append(paths, "/ops/orders/"+id)
	}
	for _, id := range h.journeys() {
		paths = append(paths, "/ops/journeys/"+id)
	}
	return paths
}

var (
	noWord   = regexp.MustCompile(`%!|%\[\d`)
	hanInTag = regexp.MustCompile(`>[^<]*\p{Han}[^<]*<`)
	script   = regexp.MustCompile(`style="|onclick=|javascript:`)
)

func TestEveryPageInBothLanguages(t *testing.T) {
	h := openHouse(t)
	h.story()
	for _, lang := range []web.Lang{web.ZH, web.EN} {
		b := h.login("mei", lang)
		for _, path := range every(h) {
			body := b.page(path)
			if !strings.Contains(body, `<html lang="`+map[web.Lang]string{web.ZH: "zh-CN", web.EN: "en"}[lang]) {
				t.Errorf("%s is not in %s", path, lang)
			}
			for _, bad := range []*regexp.Regexp{noWord, script} {
				if m := bad.FindString(body); m != "" {
					t.Errorf("%s in %s shows %q", path, lang, m)
				}
			}
			if strings.Contains(regexp.MustCompile(`(href|value|hx-get)="[^"]*"`).ReplaceAllString(body, ""), string(h.card)) {
				t.Errorf("%s shows the whole card number", path)
			}
			for _, want := range []string{"<h1", `<nav class="side"`, `<main id="main"`} {
				if !strings.Contains(body, want) {
					t.Errorf("%s lacks %s", path, want)
				}
			}
		}
	}
}

// names are what data brings in Chinese, whatever the page's language.
var names = regexp.MustCompile(`林小雨|嘉和|[梅沈]工?审?|中文|EP 电子钱包|Beijing 北京`)

func TestEnglishPagesAreEnglish(t *testing.T) {
	h := openHouse(t)
	h.story()
	b := h.login("mei", web.EN)
	for _, path := range every(h) {
		for _, m := range hanInTag.FindAllString(b.page(path), -1) {
			if !names.MatchString(m) {
				t.Errorf("%s says %q", path, m)
			}
		}
	}
}

func TestEmptyHouse(t *testing.T) {
	h := openHouse(t)
	b := h.login("mei", web.EN)
	for _, path := range []string{"/ops/", "/ops/orders", "/ops/cards", "/ops/gates", "/ops/journeys", "/ops/exceptions", "/ops/deny", "/ops/books",
		"/ops/books/accounts", "/ops/books/entries", "/ops/books/holds", "/ops/books/proof?run=now", "/ops/settlement", "/ops/audit"} {
		b.page(path)
	}
	for path, want := range map[string]string{"/ops/cards": "Add one in My band", "/ops/gates": "No device is registered", "/ops/deny": "gates refuse nobody", "/ops/audit": "Nobody has changed anything"} {
		if !strings.Contains(b.page(path), want) {
			t.Errorf("%s lacks %q", path, want)
		}
	}
}

func TestTracesLeadToEachOther(t *testing.T) {
	h := openHouse(t)
	h.story()
	b := h.login("mei", web.EN)
	order := "/ops/orders/" + h.orders[1]
	rides := h.journeys()
	ride := "/ops/journeys/" + rides[len(rides)-1]
	for _, x := range []struct{ at, want string }{
		{"/ops/orders", order}, {order, cardAt(h)}, {order, "/ops/bands/band_lin"}, {order, "/ops/books/entry?seq="},
		{"/ops/books/entry?ref=load:" + h.orders[1], order}, {"/ops/books/entry?ref=topup:" + h.orders[1], "Hold: capture"},
		{cardAt(h), order}, {cardAt(h), ride}, {ride, "/ops/gates/" + h.gates["entry西直门"].String()}, {ride, "verified"}, {ride, "city-map"},
		{ride, "/ops/books/entry?seq="}, {fmt.Sprintf("/ops/books/entry?ref=transit:%s/1", h.card), ride},
		{"/ops/settlement/days/2015-09-16", "/ops/settlement/payouts/"}, {"/ops/books/entries?kind=payout", "/ops/books/entry?seq="},
		{"/ops/exceptions", "fare differs"}, {"/ops/", "/ops/journeys/"},
	} {
		if body := b.page(x.at); !strings.Contains(body, x.want) {
			t.Errorf("%s does not lead to %s", x.at, x.want)
		}
	}
}

func TestRights(t *testing.T) {
	h := openHouse(t)
	h.story()
	order := "/ops/orders/" + h.orders[2]
	for _, tt := range []struct {
		who, method, path string
		want              int
	}{
		{"", "GET", "/ops/", http.StatusSeeOther},
		{"lin", "GET", "/ops/", http.StatusForbidden},
		{"lin", "POST", order + "/cancel", http.StatusForbidden},
		{"shen", "GET", order, http.StatusOK},
		{"shen", "GET", "/ops/books/proof?run=now", http.StatusOK},
		{"shen", "POST", order + "/cancel", http.StatusForbidden},
		{"shen", "POST", "/ops/settlement/run", http.StatusForbidden},
		{"shen", "POST", cardAt(h) + "/deny", http.StatusForbidden},
		{"mei", "POST", order + "/cancel", http.StatusSeeOther},
	} {
		status, _ := h.login(tt.who, web.EN).send(tt.method, tt.path, url.Values{"why": {"because of a test"}}, nil)
		if status != tt.want {
			t.Errorf("%q %s %s: status %d, want %d", tt.who, tt.method, tt.path, status, tt.want)
		}
	}
	if body := h.login("shen", web.EN).page(cardAt(h)); strings.Contains(body, "<button type=\"button\" popovertarget") {
		t.Error("the auditor is offered a change")
	}
}

func TestForeignSitesCannotPost(t *testing.T) {
	h := openHouse(t)
	h.story()
	b := h.login("mei", web.EN)
	status, _ := b.send("POST", "/ops/orders/"+h.orders[2]+"/cancel", url.Values{"why": {"click here"}}, map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"})
	if status != http.StatusForbidden {
		t.Errorf("a form of another site: status %d", status)
	}
	h.read(func(q *db.Query) error {
		o, err := tsm.OrderOf(q, h.orders[2])
		if o.State != tsm.Placed {
			t.Errorf("the order is %s", o.State)
		}
		return err
	})
}

func TestBadAddresses(t *testing.T) {
	h := openHouse(t)
	h.story()
	b := h.login("mei", web.EN)
	for _, tt := range []struct {
		path   string
		status int
		code   string
	}{
		{"/ops/orders/ord_none", 404, "tsm.order_not_found"},
		{"/ops/orders?state=lost", 422, "ops.form"},
		{"/ops/orders?kind=lost", 422, "ops.form"},
		{"/ops/cards?state=lost", 422, "ops.form"},
		{"/ops/cards/" + string(h.lin) + "/0000000000", 404, "ops.no_card"},
		{"/ops/customers/cust_none", 404, "customer.not_found"},
		{"/ops/bands/none", 404, "tsm.band_not_found"},
		{"/ops/gates/zz", 404, "transit.no_device"},
		{"/ops/gates/300000009999", 404, "transit.no_device"},
		{"/ops/journeys/none", 404, "transit.no_journey"},
		{"/ops/journeys?state=lost", 422, "ops.form"},
		{"/ops/books?day=yesterday", 422, "ops.form"},
		{"/ops/books/account?id=none", 404, "ledger.no_account"},
		{"/ops/books/account?id=bank.custody&after=x", 422, "ops.form"},
		{"/ops/books/entry?seq=99999", 404, "ledger.no_entry"},
		{"/ops/books/entry?seq=-1", 404, "ledger.no_entry"},
		{"/ops/books/entry?ref=none", 404, "ledger.no_entry"},
		{"/ops/books/entries?from=x", 422, "ops.form"},
		{"/ops/books/entries?after=-5", 422, "ops.form"},
		{"/ops/settlement/days/2014-01-01", 404, "settlement.no_file"},
		{"/ops/settlement/days/x", 404, "settlement.no_file"},
		{"/ops/settlement/payouts/none", 404, "settlement.no_payout"},
		{"/ops/audit?act=dance", 422, "ops.form"},
		{"/ops/nowhere", 404, "web.no_page"},
	} {
		status, body := b.get(tt.path)
		if status != tt.status || !strings.Contains(body, tt.code) {
			t.Errorf("%s: status %d, want %d with %s", tt.path, status, tt.status, tt.code)
		}
		status, body = b.send("GET", tt.path, nil, map[string]string{"Accept": "application/json"})
		if status != tt.status || !strings.Contains(body, `"code":"`+tt.code+`"`) {
			t.Errorf("%s for a program: status %d, %s", tt.path, status, body)
		}
	}
}

func TestChangesNeedAReasonAndLeaveOne(t *testing.T) {
	h := openHouse(t)
	h.story()
	b := h.login("mei", web.EN)
	order, at := "/ops/orders/"+h.orders[2], cardAt(h)
	b.post(order+"/cancel", url.Values{"why": {" no "}})
	h.read(func(q *db.Query) error {
		o, err := tsm.OrderOf(q, h.orders[2])
		if o.State != tsm.Placed {
			t.Errorf("without a reason the order is %s", o.State)
		}
		return err
	})
	b.post(order+"/cancel", url.Values{"why": {"the wearer called"}})
	b.post(at+"/deny", url.Values{"why": {"reported lost at the desk"}})
	if !strings.Contains(b.page("/ops/deny"), "with the next") {
		t.Error("the card is not on the deny list")
	}
	b.post("/ops/deny/publish", url.Values{"why": {"do not wait for the tick"}})
	if !strings.Contains(b.page("/ops/deny"), "v1 ·") {
		t.Error("the list is not published")
	}
	b.post(at+"/allow", url.Values{"why": {"found again"}})
	b.post("/ops/customers/"+string(h.lin)+"/block", url.Values{"why": {"asked for it"}, "shut": {"1"}})
	if status, _ := h.login("", web.EN).send("POST", "/login", url.Values{"name": {"lin"}, "password": {secret}}, nil); status != http.StatusUnprocessableEntity {
		t.Errorf("a stopped login: status %d", status)
	}
	audit := b.page("/ops/audit")
	for _, want := range []string{"order cancelled", "the wearer called", "card denied", "deny list published", "card allowed", "login stopped", "mei"} {
		if !strings.Contains(audit, want) {
			t.Errorf("the trail lacks %q", want)
		}
	}
	if strings.Contains(audit, "no </td>") || strings.Count(audit, "order cancelled") != 2 { // a row and the filter's option
		t.Error("what was not done is in the trail")
	}
	if !strings.Contains(b.page(order), "the wearer called") {
		t.Error("the order does not tell who cancelled it")
	}
}

func TestBlockAndUnblockOverTheAir(t *testing.T) {
	h := openHouse(t)
	h.story()
	b := h.login("mei", web.EN)
	b.post("/ops/orders/"+h.orders[2]+"/cancel", url.Values{"why": {"makes room"}})
	state := func() (s issuing.State) {
		h.read(func(q *db.Query) error { c, err := issuing.Get(q, issuing.IDOf(h.card)); s = c.State; return err })
		return s
	}
	form := url.Values{"why": {"lost in line 10"}, "token": {"a1"}}
	b.post(cardAt(h)+"/block", form)
	if state() != issuing.Blocked {
		t.Fatalf("the card is %s", state())
	}
	b.post(cardAt(h)+"/block", form) // the eager finger
	b.post(cardAt(h)+"/unblock", url.Values{"why": {"found again"}, "token": {"a2"}})
	if state() != issuing.Active {
		t.Fatalf("the card is %s", state())
	}
}

func TestRepairOfAMissingExit(t *testing.T) {
	h := openHouse(t)
	h.story()
	b := h.login("mei", web.EN)
	at := "/ops/journeys/" + h.journeys()[0]
	if body := b.page(at + "?station=nowhere"); !strings.Contains(body, "There is no such station") {
		t.Error("an unknown station is not told")
	}
	body := b.page(at + "?station=" + url.QueryEscape("天安门东"))
	code := regexp.MustCompile(`name="station" value="(\d+)"`).FindStringSubmatch(body)
	if code == nil || !strings.Contains(body, "The rider") {
		t.Fatalf("no price for the repair\n%s", body)
	}
	b.post(at+"/repair", url.Values{"station": {code[1]}, "why": {"gate out of order at 天安门东"}})
	body = b.page(at)
	for _, want := range []string{"repaired", "gate out of order", "mei"} {
		if !strings.Contains(body, want) {
			t.Errorf("the ride lacks %q", want)
		}
	}
	h.read(func(q *db.Query) error {
		j, err := transit.JourneyByID(q, h.journeys()[0])
		if j.State != transit.Repaired {
			t.Errorf("the ride is %s", j.State)
		}
		return err
	})
	if h.book.TrialBalance().Balanced == false {
		t.Error("the books do not balance")
	}
}

func TestExceptionLeavesTheDesk(t *testing.T) {
	h := openHouse(t)
	h.story()
	b := h.login("mei", web.EN)
	m := regexp.MustCompile(`/ops/journeys/(\w+)`).FindString(regexp.MustCompile(`(?s)id="exceptions".*`).FindString(b.page("/ops/exceptions")))
	b.post(m+"/close", url.Values{"why": {"gate had the old pack"}})
	if strings.Contains(b.page("/ops/exceptions"), m) {
		t.Error("it is still on the desk")
	}
	if !strings.Contains(b.page("/ops/exceptions?all=1"), m) {
		t.Error("it is gone for good")
	}
}

func TestSettlementSealAndProof(t *testing.T) {
	h := openHouse(t)
	h.story()
	b := h.login("mei", web.EN)
	to := b.post("/ops/settlement/run", url.Values{"why": {"the tick is late"}})
	if !strings.HasPrefix(to, "/ops/settlement/days/2015-09-") {
		t.Errorf("leads to %s", to)
	}
	file := b.page("/ops/settlement/days/2015-09-16/file")
	h.read(func(q *db.Query) error {
		d, err := settlement.Days(q, 10)
		if sum := sha256.Sum256([]byte(file)); hex.EncodeToString(sum[:]) != d[len(d)-1].Hash {
			t.Error("the file is not the one whose hash is known")
		}
		return err
	})
	entry := "/ops/books/entry?ref=load:" + h.orders[1]
	if !strings.Contains(b.page(entry), "not sealed yet") {
		t.Error("an open day has a proof")
	}
	b.post("/ops/books/seal", url.Values{"day": {"2015-09-16"}, "why": {"end of the day"}})
	if !strings.Contains(b.page(entry), "The proof holds") {
		t.Error("the sealed day does not prove its record")
	}
	if !strings.Contains(b.page("/ops/books/proof?run=now"), "Everything agrees") {
		t.Error("the house does not verify")
	}
}

func TestTablesAsFiles(t *testing.T) {
	h := openHouse(t)
	h.story()
	b := h.login("shen", web.EN)
	for path, want := range map[string]string{
		"/ops/orders?as=csv": "topup", "/ops/cards?as=csv": "transit-bj", "/ops/customers?as=csv": "138****8000", "/ops/gates?as=csv": "300000000001",
		"/ops/journeys?as=csv": "Xizhimen", "/ops/exceptions?as=csv": "fare differs", "/ops/deny?as=csv": "Card", "/ops/books?as=csv": "1010",
		"/ops/books/accounts?as=csv": "bank.custody", "/ops/books/account?id=bank.custody&as=csv": "wallet.fund", "/ops/books/entries?as=csv": "transit.debit",
		"/ops/books/holds?as=csv": "topup:", "/ops/settlement?as=csv": "2015-09-16", "/ops/settlement/days/2015-09-16?as=csv": "Beijing", "/ops/keys?as=csv": "transit.DTK", "/ops/audit?as=csv": "Who",
	} {
		body := b.page(path)
		if !strings.HasPrefix(body, "\uFEFF") || !strings.Contains(body, want) {
			t.Errorf("%s lacks %q:\n%s", path, want, body)
		}
		if strings.Contains(body, string(h.card)) {
			t.Errorf("%s has the whole card number", path)
		}
	}
}

func TestStatementPages(t *testing.T) {
	h := openHouse(t)
	h.story()
	b := h.login("mei", web.EN)
	for i := range 60 {
		h.do(func(tx *db.Tx) error {
			_, err := wallet.Fund(tx, fmt.Sprintf("more:%d", i), h.lin, h.yuan(1))
			return err
		})
		h.now.Advance(time.Second)
	}
	at := "/ops/books/account?id=" + string(wallet.Account(h.lin))
	next := regexp.MustCompile(`href="([^"]*after=[^"]*)" rel="next"`)
	seen, pages := map[string]bool{}, 0
	for path := at; path != ""; pages++ {
		body := b.page(path)
		for _, m := range regexp.MustCompile(`entry\?seq=(\d+)`).FindAllString(body, -1) {
			seen[m] = true
		}
		path = ""
		if m := next.FindStringSubmatch(body); m != nil {
			path = strings.ReplaceAll(m[1], "&amp;", "&")
		}
		if pages > 5 {
			t.Fatal("the pages do not end")
		}
	}
	if len(seen) < 62 || pages != 2 {
		t.Errorf("%d lines on %d pages", len(seen), pages)
	}
}
