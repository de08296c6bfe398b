package merchant_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"koala/internal/db"
	"koala/merchant"
	"koala/settlement"
	"koala/switching"
	"koala/web"
	"koala/web/merchant/shell"
)

// every lists the console's pages in a house with a story.
func (h *house) every() []string {
	var payouts []settlement.Payout
	h.read(func(q *db.Query) (err error) { payouts, err = settlement.Payouts(q, h.shop.Payee, "", 5); return err })
	if len(payouts) < 2 {
		h.Fatalf("%d payouts after three days", len(payouts))
	}
	tid := h.shop.Tills[0].TID
	return []string{"/merchant/", "/merchant/sales", "/merchant/sales?kind=sale&state=cleared&card=debit&day=2015-09-14", "/merchant/sales?q=nothing", "/merchant/sales?day=soon", "/merchant/sales/" + h.rrns[0], "/merchant/sales/" + h.rrns[0] + "/refund",
		"/merchant/sales/" + h.rrns[0] + "/refund?amount=1.00&why=broken", "/merchant/refunds", "/merchant/money", "/merchant/money?month=2015-08", "/merchant/money/days/2015-09-14", "/merchant/money/days/2015-09-17", "/merchant/money/now",
		"/merchant/payouts", "/merchant/payouts/" + payouts[0].ID, "/merchant/statements", "/merchant/statements/2015-09", "/merchant/fees", "/merchant/fees?amount=1000&card=credit&day=2016-09-06", "/merchant/fees?amount=x&card=y&day=z",
		"/merchant/disputes", "/merchant/disputes?all=1", "/merchant/terminals", "/merchant/terminals/" + tid, "/merchant/limits", "/merchant/staff", "/merchant/staff/acts", "/merchant/status"}
}

var (
	noWord   = regexp.MustCompile(`%!|%\[\d`)
	script   = regexp.MustCompile(`style="|onclick=|javascript:`)
	hanInTag = regexp.MustCompile(`>[^<]*\p{Han}[^<]*<`)
	names    = regexp.MustCompile(`>员<|员工|家联|中文|农业银行|店主`)
)

func TestEveryPageInBothLanguages(t *testing.T) {
	h := open(t)
	h.story()
	c := h.quarrel(h.rrns[1])
	for _, lang := range []web.Lang{web.ZH, web.EN} {
		b := h.login("qian", lang)
		for _, path := range append(h.every(), "/merchant/disputes/"+c.ID) {
			body := b.page(path)
			if !strings.Contains(body, `<html lang="`+map[web.Lang]string{web.ZH: "zh-CN", web.EN: "en"}[lang]) {
				t.Errorf("%s is not in %s", path, lang)
			}
			for _, bad := range []*regexp.Regexp{noWord, script} {
				if m := bad.FindString(body); m != "" {
					t.Errorf("%s in %s shows %q", path, lang, m)
				}
			}
			for _, want := range []string{"<h1", `<nav class="side"`, `<main id="main"`} {
				if !strings.Contains(body, want) {
					t.Errorf("%s lacks %s", path, want)
				}
			}
			for _, m := range hanInTag.FindAllString(body, -1) {
				if lang == web.EN && !names.MatchString(m) && !strings.Contains(path, "/sales/") {
					t.Errorf("%s in English says %q", path, m)
				}
			}
			for _, i := range h.m.Institutions() {
				for _, card := range i.Cards {
					if strings.Contains(body, card.Number) {
						t.Fatalf("%s shows a whole card number", path)
					}
				}
			}
		}
	}
}

func TestFilesHaveContent(t *testing.T) {
	h := open(t)
	h.story()
	b := h.login("zhou", web.EN)
	for path, want := range map[string]string{"/merchant/sales?as=csv": h.rrns[0][:0] + "Amount", "/merchant/payouts?as=csv": "2015-09-14", "/merchant/money?as=csv": "2015-09-15", "/merchant/statements/2015-09/file": "gross_fen",
		"/merchant/money/days/2015-09-14?as=csv": "sale:" + h.rrns[0], "/merchant/fees?as=csv": "10.00"} {
		status, head, body := b.get(path)
		if status != http.StatusOK || !strings.HasPrefix(head.Get("Content-Type"), "text/csv") || !strings.Contains(body, want) {
			t.Errorf("GET %s: %d %s, lacks %q\n%.300s", path, status, head.Get("Content-Type"), want, body)
		}
	}
}

// TestRoles holds who sees and who changes what, by the address.
func TestRoles(t *testing.T) {
	h := open(t)
	h.story()
	sale := "/merchant/sales/" + h.rrns[0]
	stop := "/merchant/terminals/" + h.shop.Tills[0].TID + "/stop"
	for _, tt := range []struct {
		who  string
		path string
		post bool
		want int
	}{
		{"li", "/merchant/", false, 200}, {"li", sale, false, 200}, {"li", sale + "/refund", false, 200}, {"li", "/merchant/money", false, 403}, {"li", "/merchant/payouts", false, 403}, {"li", "/merchant/staff", false, 403},
		{"li", "/merchant/disputes", false, 403}, {"li", "/merchant/terminals", false, 200}, {"li", stop, true, 403}, {"li", "/merchant/money/now", true, 403},
		{"zhou", "/merchant/money", false, 200}, {"zhou", sale + "/refund", false, 403}, {"zhou", sale + "/refund", true, 403}, {"zhou", "/merchant/terminals", false, 403}, {"zhou", "/merchant/staff", true, 403}, {"zhou", "/merchant/disputes", false, 200},
		{"sun", "/merchant/staff", false, 200}, {"sun", "/merchant/staff", true, 403}, {"sun", "/merchant/money/now", true, 403}, {"sun", "/merchant/status/papers", true, 403}, {"sun", "/merchant/disputes", false, 200},
		{"qian", "/merchant/staff", false, 200}, {"qian", "/ops/", false, 403}, {"qian", "/my/", false, 403},
	} {
		b := h.login(tt.who, web.EN)
		status, _, _ := b.get(tt.path)
		if tt.post {
			status, _, _ = b.post(tt.path, url.Values{"x": {"y"}})
		}
		if status != tt.want {
			t.Errorf("%s at %s (post: %t): %d, want %d", tt.who, tt.path, tt.post, status, tt.want)
		}
	}
	if status, head, _ := h.browser(web.EN).get("/merchant/sales"); status != http.StatusSeeOther || !strings.HasPrefix(head.Get("Location"), "/login") {
		t.Errorf("a stranger gets %d %s", status, head.Get("Location"))
	}
}

func TestAnotherSiteCannotPost(t *testing.T) {
	h := open(t)
	b := h.login("qian", web.EN)
	r, _ := http.NewRequest("POST", h.server.URL+"/merchant/staff", strings.NewReader("name=x&role=owner"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "https://elsewhere.example")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if status, _, _ := b.send(r); status != http.StatusForbidden {
		t.Errorf("a post from another site: %d", status)
	}
}

// TestAnotherMerchantsThings: what belongs to another shop is not there.
func TestAnotherMerchantsThings(t *testing.T) {
	h := open(t)
	h.story()
	strange := h.sell("chuanxiang.1", 33, 60_00)
	if _, _, err := h.m.Settle(ctx, "chuanxiang.1"); err != nil { // what is not the shop's yet cannot be charged back
		t.Fatal(err)
	}
	c := h.quarrel(strange)
	var other *string
	for _, s := range h.m.Shops() {
		if s.ID == "chuanxiang" {
			other = &s.Tills[0].TID
		}
	}
	b := h.login("qian", web.EN)
	for _, path := range []string{"/merchant/sales/" + strange, "/merchant/disputes/" + c.ID, "/merchant/disputes/" + c.ID + "/pack", "/merchant/terminals/" + *other, "/merchant/payouts/none", "/merchant/bills/2015-09-14", "/merchant/nothing"} {
		if status, _, body := b.get(path); status != http.StatusNotFound {
			t.Errorf("GET %s: %d\n%.400s", path, status, body)
		}
	}
	for _, path := range []string{"/merchant/sales/" + strange + "/refund", "/merchant/disputes/" + c.ID + "/accept", "/merchant/terminals/" + *other + "/stop"} {
		if status, _, _ := b.post(path, url.Values{"amount": {"1.00"}, "why": {"because"}, "key": {"abcdefgh"}}); status != http.StatusNotFound {
			t.Errorf("POST %s: %d", path, status)
		}
	}
	if status, _, _ := b.post("/merchant/shop", url.Values{"shop": {"shop_other"}, "back": {"/merchant/"}}); status != http.StatusNotFound {
		t.Errorf("another's shop is chosen: %d", status)
	}
}

func TestRefund(t *testing.T) {
	h := open(t)
	h.story()
	rrn := h.rrns[len(h.rrns)-1] // 100 yuan, not settled yet
	at := "/merchant/sales/" + rrn
	left := func() int64 {
		var x switching.Txn
		h.read(func(q *db.Query) (err error) { x, err = switching.Transaction(q, rrn); return err })
		return x.Due.Sub(x.Refunded).Minor()
	}
	b := h.login("li", web.EN)
	for query, want := range map[string]string{"?amount=x&why=broken": "Write an amount", "?amount=100.01&why=broken": "Only ¥100.00 is left", "?amount=5&why=": "Say why", "?amount=5&why=broken": "Give ¥5.00 back"} {
		if body := b.page(at + "/refund" + query); !strings.Contains(body, want) {
			t.Errorf("refund%s lacks %q", query, want)
		}
	}
	body := b.page(at + "/refund?amount=30&why=it+was+broken")
	key := regexp.MustCompile(`name="key" value="([^"]+)"`).FindStringSubmatch(body)
	if key == nil || !strings.Contains(body, "¥30.00") || !regexp.MustCompile(`\d{6}\*+\d{4}`).MatchString(body) {
		t.Fatal("the confirmation does not name amount, card and key")
	}
	form := url.Values{"amount": {"30.00"}, "why": {"it was broken"}, "key": {key[1]}}
	for range 2 { // an eager finger
		if status, head, body := b.post(at+"/refund", form); status != http.StatusSeeOther || head.Get("Location") != at {
			t.Fatalf("refund: %d %s %.300s", status, head.Get("Location"), body)
		}
	}
	if left() != 70_00 {
		t.Errorf("%d fen are left", left())
	}
	form.Set("key", "another-key")
	form.Set("amount", "70.01")
	b.post(at+"/refund", form)
	if left() != 70_00 || !strings.Contains(b.page(at), "more than is left") {
		t.Errorf("%d fen are left after a refund of too much", left())
	}
	form.Set("amount", "500.01") // beyond a cashier's limit, whatever the page said
	if status, _, _ := b.post(at+"/refund", form); status != http.StatusForbidden {
		t.Errorf("a refund above the role's limit: %d", status)
	}
	body = b.page(at)
	for _, want := range []string{"it was broken", "gave money back"} {
		if !strings.Contains(body, want) {
			t.Errorf("the sale's page lacks %q", want)
		}
	}
	other := regexp.MustCompile(`href="(/merchant/sales/[0-9A-Z]{12})"`).FindStringSubmatch(body)
	if other == nil || !strings.Contains(b.page(other[1]), "refund:") {
		t.Error("the refund's page lacks its posting")
	}
	if body := b.page("/merchant/refunds"); !strings.Contains(body, "30.00") || !strings.Contains(body, "this console") {
		t.Error("the list of refunds lacks it")
	}
}

func TestStaff(t *testing.T) {
	h := open(t)
	b := h.login("qian", web.EN)
	if status, _, body := b.post("/merchant/staff", url.Values{"name": {""}, "role": {"cashier"}}); status != http.StatusUnprocessableEntity || !strings.Contains(body, "Write a name") {
		t.Errorf("an invitation for nobody: %d", status)
	}
	if status, _, _ := b.post("/merchant/staff", url.Values{"name": {"Wu"}, "role": {"king"}}); status != http.StatusSeeOther || strings.Contains(b.page("/merchant/staff"), "Not used yet") {
		t.Errorf("an invitation as king: %d", status)
	}
	_, _, body := b.post("/merchant/staff", url.Values{"name": {"Wu"}, "role": {"cashier"}})
	code := regexp.MustCompile(`[A-Z2-7]{4}(-[A-Z2-7]{4}){3}`).FindString(body)
	if code == "" {
		t.Fatalf("no code is shown: %.400s", body)
	}
	form := url.Values{"code": {"AAAA-BBBB-CCCC-DDDD"}, "login": {"wu"}, "name": {"Wu Yue"}, "phone": {"13800138001"}, "password": {secret}}
	stranger := h.browser(web.EN)
	for _, tt := range []struct{ field, value, want string }{{"code", "AAAA-BBBB-CCCC-DDDD", "not known"}, {"login", "W U", "2 to 32"}, {"login", "qian", "taken"}, {"phone", "12", "11 digits"}, {"password", "short", "6 to 72"}} {
		bad := url.Values{}
		for k, v := range form {
			bad[k] = v
		}
		bad.Set("code", code)
		bad.Set(tt.field, tt.value)
		if status, _, body := stranger.post("/merchant/join", bad); status != http.StatusUnprocessableEntity || !strings.Contains(body, tt.want) {
			t.Errorf("joining with %s %q: %d, lacks %q", tt.field, tt.value, status, tt.want)
		}
	}
	form.Set("code", strings.ToLower(code))
	if status, head, body := stranger.post("/merchant/join", form); status != http.StatusSeeOther {
		t.Fatalf("joining: %d %s %.300s", status, head.Get("Location"), body)
	}
	form.Set("login", "wu2")
	if status, _, _ := stranger.post("/merchant/join", form); status != http.StatusUnprocessableEntity {
		t.Errorf("a code is used twice: %d", status)
	}
	wu := h.login("wu", web.EN)
	wu.page("/merchant/")
	var id string
	h.read(func(q *db.Query) error {
		list, err := shell.StaffOf(q, h.shop.Merchant)
		for _, m := range list {
			if m.Role == shell.Cashier {
				id = string(m.Customer) // the newest: ids rise
			}
		}
		return err
	})
	b.post("/merchant/staff/"+id+"/role", url.Values{"role": {"accountant"}})
	if status, _, _ := wu.get("/merchant/money"); status != http.StatusOK {
		t.Errorf("an accountant at the money: %d", status)
	}
	b.post("/merchant/staff/"+id+"/remove", nil)
	if status, _, _ := wu.get("/merchant/sales"); status != http.StatusForbidden {
		t.Errorf("who was removed still gets %d", status)
	}
	var owner string
	h.read(func(q *db.Query) error {
		list, err := shell.StaffOf(q, h.shop.Merchant)
		for _, m := range list {
			if m.Role == shell.Owner {
				owner = string(m.Customer)
			}
		}
		return err
	})
	b.post("/merchant/staff/"+owner+"/remove", nil)
	if body := b.page("/merchant/staff/acts"); !strings.Contains(body, "removed somebody") || !strings.Contains(body, "joined") {
		t.Error("the trail lacks acts, or the last owner is gone")
	}
}

func TestBills(t *testing.T) {
	h := open(t)
	h.story()
	b := h.login("zhou", web.EN)
	for _, day := range []string{"2015-09-14", "2015-09-15"} {
		if status, head, body := b.post("/merchant/bills", url.Values{"period": {day}}); status != http.StatusSeeOther || head.Get("Location") != "/merchant/bills/"+day {
			t.Fatalf("bill of %s: %d %s %.300s", day, status, head.Get("Location"), body)
		}
	}
	_, _, csv := b.get("/merchant/bills/2015-09-15/file")
	sum := sha256.Sum256([]byte(csv))
	if body := b.page("/merchant/bills/2015-09-15"); !strings.Contains(body, "all hold") || !strings.Contains(body, hex.EncodeToString(sum[:])) {
		t.Error("the bill does not prove, or shows another hash")
	}
	if status, _, _ := b.post("/merchant/bills", url.Values{"period": {"2015-09"}}); status != http.StatusSeeOther {
		t.Errorf("a month that is not over: %d", status)
	}
	if status, _, _ := b.post("/merchant/bills", url.Values{"period": {"soon"}}); status != http.StatusBadRequest && status != http.StatusUnprocessableEntity {
		t.Errorf("a period that is none: %d", status)
	}
}

func TestDispute(t *testing.T) {
	h := open(t)
	h.story()
	c := h.quarrel(h.rrns[1])
	at := "/merchant/disputes/" + c.ID
	b := h.login("sun", web.EN)
	if body := b.page("/merchant/disputes"); !strings.Contains(body, c.Ref) {
		t.Error("the list lacks the dispute")
	}
	if status, _, body := b.upload(at+"/answer", map[string]string{"text": ""}, nil); status != http.StatusUnprocessableEntity || !strings.Contains(body, "Write something") {
		t.Errorf("an empty answer: %d", status)
	}
	if status, _, body := b.upload(at+"/answer", map[string]string{"text": "He signed the slip."}, []byte("\x89PNG\r\n\x1a\n....")); status != http.StatusSeeOther {
		t.Fatalf("answering: %d %.300s", status, body)
	}
	body := b.page(at)
	for _, want := range []string{"He signed the slip.", "slip.png", "your turn"} {
		if !strings.Contains(body, want) {
			t.Errorf("the dispute's page lacks %q", want)
		}
	}
	href := regexp.MustCompile(`href="(` + at + `/documents/[0-9a-f]+)"`).FindStringSubmatch(body)
	if href == nil {
		t.Fatal("no link to the document")
	}
	if _, head, data := b.get(href[1]); !strings.HasPrefix(data, "\x89PNG") || !strings.HasPrefix(head.Get("Content-Disposition"), "attachment") {
		t.Error("the document is not what was uploaded")
	}
	if _, _, pack := b.get(at + "/pack"); !strings.Contains(pack, h.rrns[1]) || !strings.Contains(pack, "He signed the slip.") || !strings.Contains(pack, "from the terminal") {
		t.Errorf("the evidence pack: %.600s", pack)
	}
	if status, _, _ := b.post(at+"/accept", nil); status != http.StatusSeeOther || !strings.Contains(b.page(at), "is over") {
		t.Errorf("accepting: %d", status)
	}
}

func TestSignature(t *testing.T) {
	h := open(t)
	h.story()
	b := h.login("qian", web.EN)
	at := "/merchant/sales/" + h.rrns[0]
	if body := b.page(at); !strings.Contains(body, at+"/signature") {
		t.Error("the sale's page shows no signature")
	}
	if _, head, body := b.get(at + "/signature"); body != string(picture) || head.Get("Content-Type") != "image/png" {
		t.Errorf("the signature is %d bytes of %s", len(body), head.Get("Content-Type"))
	}
	if status, _, _ := b.get("/merchant/sales/" + h.rrns[len(h.rrns)-1] + "/signature"); status != http.StatusNotFound {
		t.Errorf("a signature that has not come yet: %d", status)
	}
}

// application is a form that is right.
func application() url.Values {
	return url.Values{"form": {"micro"}, "name": {"小满豆浆"}, "licence": {""}, "legal": {"冯小满"}, "id_number": {"11010519491231002X"}, "mobile": {"13900001111"}, "shop_zh": {"小满豆浆"}, "shop_en": {"Xiaoman Soy Milk"}, "mcc": {"5814"}, "city": {"北京"},
		"address": {"东四北大街 1 号"}, "bank": {"北京银行"}, "holder": {"冯小满"}, "account": {"6222020200011112222"}, "login": {"feng"}, "person": {"冯小满"}, "password": {secret}}
}

func TestApply(t *testing.T) {
	h := open(t)
	b := h.browser(web.EN)
	b.page("/merchant/apply")
	bad := application()
	for k, v := range map[string]string{"id_number": "110105194912310021", "mcc": "1", "city": "Atlantis", "mobile": "1", "account": "12", "password": "x", "name": "", "licence": "1"} {
		bad.Set(k, v)
	}
	status, _, body := b.post("/merchant/apply", bad)
	if status != http.StatusUnprocessableEntity {
		t.Errorf("a bad application: %d", status)
	}
	for _, want := range []string{"8 things", "identity number has 18", "no such merchant category", "no such city", "11 digits", "8 to 32 digits", "6 to 72", "1 to 60", "has no licence", `value="Atlantis"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the answer to a bad application lacks %q", want)
		}
	}
	if strings.Contains(body, `value="x"`) {
		t.Error("a password comes back")
	}
	if status, head, body := b.post("/merchant/apply", application()); status != http.StatusSeeOther || !strings.HasPrefix(head.Get("Location"), "/login") {
		t.Fatalf("applying: %d %.500s", status, body)
	}
	if status, _, body := b.post("/merchant/apply", application()); status != http.StatusUnprocessableEntity || !strings.Contains(body, "taken") {
		t.Errorf("applying again: %d", status)
	}
	feng := h.login("feng", web.EN)
	for _, path := range []string{"/merchant/", "/merchant/sales", "/merchant/refunds", "/merchant/terminals", "/merchant/disputes", "/merchant/staff"} {
		feng.page(path) // empty, and says what to do
	}
	if status, _, _ := feng.get("/merchant/money"); status != http.StatusNotFound {
		t.Errorf("money without a shop: %d", status)
	}
	if body := feng.page("/merchant/status"); !strings.Contains(body, "needed") || strings.Contains(body, "11010519491231002X") {
		t.Error("the status page says nothing of papers, or shows an identity number")
	}
	for _, kind := range []string{"id_front", "door"} {
		if status, _, body := feng.upload("/merchant/status/papers", map[string]string{"kind": kind}, append([]byte("\x89PNG\r\n\x1a\n"), kind...)); status != http.StatusSeeOther {
			t.Fatalf("bringing %s: %d %.400s", kind, status, body)
		}
	}
	if status, _, body := feng.upload("/merchant/status/papers", map[string]string{"kind": "door"}, []byte("just text")); status != http.StatusUnprocessableEntity || !strings.Contains(body, "picture or a PDF") {
		t.Errorf("a text as a picture: %d", status)
	}
	var open []merchant.What
	h.read(func(q *db.Query) error {
		list, err := merchant.List(q, merchant.Filter{Name: "小满", Limit: 2})
		if err != nil || len(list) != 1 {
			t.Fatalf("%d merchants: %v", len(list), err)
		}
		open, err = merchant.Missing(q, list[0])
		return err
	})
	for _, o := range open {
		if o == merchant.CheckPapers {
			t.Error("papers are still missing")
		}
	}
	feng2 := application()
	feng2.Set("login", "feng2")
	if b.post("/merchant/apply", feng2); strings.Contains(h.login("feng2", web.EN).page("/merchant/status"), "registered as") {
		t.Error("an applicant is told of another merchant")
	}
	if !bytes.Contains([]byte(feng.page("/merchant/status")), []byte("documents complete")) {
		t.Error("the checks are not shown")
	}
}

func TestBadInput(t *testing.T) {
	h := open(t)
	b := h.login("qian", web.EN)
	for _, path := range []string{"/merchant/money?month=soon", "/merchant/money/days/x", "/merchant/statements/x", "/merchant/sales?kind=x", "/merchant/sales?state=x", "/merchant/sales?card=x", "/merchant/money/days/2015-09-14?after=x"} {
		if status, _, _ := b.get(path); status != http.StatusBadRequest && status != http.StatusUnprocessableEntity {
			t.Errorf("GET %s: %d", path, status)
		}
	}
	if status, _, _ := b.post("/merchant/money/now", url.Values{"bp": {"x"}}); status < 400 || status >= 500 {
		t.Errorf("a price that is none: %d", status)
	}
}
