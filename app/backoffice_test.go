package app_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"koala/app"
	"koala/calendar"
	"koala/city/market"
	"koala/city/street"
	"koala/customer"
	"koala/dispute"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/ledger"
	"koala/merchant"
	"koala/reconcile"
	"koala/risk"
	"koala/settlement"
	"koala/switching"
	"koala/terminal/unionpay"
	"koala/web"
)

// An office is a house with shops that have sold, and its staff at the pages.
type office struct {
	*testing.T
	h      *app.House
	clock  *clock.Virtual
	m      *market.Market
	server *httptest.Server
	rrn    string // of a sale on another bank's card, cleared
	till   string
	shop   string
}

func openOffice(t *testing.T) *office {
	t.Helper()
	primes, err := os.ReadFile("../city/primes.txt")
	if err != nil {
		t.Fatal(err)
	}
	o := &office{T: t, clock: clock.NewVirtual(morning)}
	if o.m, err = market.New(market.Config{Clock: o.clock, Rand: street.Chance(1, clock.Random), Hosts: true}); err != nil {
		t.Fatal(err)
	}
	o.h = open(t, app.Config{Data: filepath.Join(t.TempDir(), "house"), Clock: o.clock, Rand: clock.Random(1), Primes: primes, Peers: o.m.Peers()})
	o.m.Move(o.h, nil)
	o.must(o.m.Open(ctx))
	for _, p := range []struct {
		name string
		role customer.Role
	}{{"wang", customer.Operator}, {"zhao", customer.Operator}, {"shen", customer.Auditor}, {"lin", customer.Wearer}} {
		_, err = o.h.Desk.Register(ctx, customer.Application{Login: p.name, Name: p.name, Phone: "1380000" + phoneOf(p.name), Secret: "secret-of-" + p.name, Roles: []customer.Role{p.role}})
		o.must(err)
	}
	kit, err := o.h.NewKit(ctx, time.Now, nil)
	o.must(err)
	o.server = httptest.NewServer(o.h.Handler(kit, app.Pages{}))
	t.Cleanup(o.server.Close)
	return o
}

func phoneOf(name string) string {
	n := 1000
	for _, r := range name {
		n += int(r)
	}
	return string([]byte{byte('0' + n/1000%10), byte('0' + n/100%10), byte('0' + n/10%10), byte('0' + n%10)})
}

func (o *office) must(err error) {
	o.Helper()
	if err != nil {
		o.Fatal(err)
	}
}

// sell makes a sale with another bank's card and settles the till.
func (o *office) sell(till string, card int, fen uint64) switching.Txn {
	o.Helper()
	o.clock.Advance(time.Minute)
	c := o.m.Institutions()[0].Cards[card]
	out, err := o.m.Do(ctx, till, market.Order{Order: unionpay.Order{Kind: unionpay.Sale, Fen: fen, Card: unionpay.Card{Track2: c.Track2}}, PIN: c.PIN})
	if err != nil || out.Err != nil || !out.Approved {
		o.Fatalf("%s: %v %v %v", till, out.Words, err, out.Err)
	}
	var list []switching.Txn
	o.must(o.h.Store.Read(ctx, func(q *db.Query) (err error) { list, err = switching.Live(q, switching.Filter{Limit: 1}); return err }))
	return list[0]
}

// story gives every page something to show.
func (o *office) story() {
	t := o.sell("jialian.1", 1, 88_00)
	o.rrn, o.till, o.shop = t.RRN, t.TID, t.Shop
	o.sell("jialian.1", 2, 300_00)
	if _, done, err := o.m.Settle(ctx, "jialian.1"); err != nil || !done {
		o.Fatal("not settled", err)
	}
	day := calendar.Of(o.clock.Now(), calendar.Beijing)
	if _, err := o.h.CompareDay(ctx, t.Host, day, bytes.NewReader(nil), "empty"); err != nil {
		o.Fatal(err)
	}
	o.must(o.h.Store.Write(ctx, func(tx *db.Tx) error {
		t, err := switching.Transaction(tx, o.rrn)
		if err != nil {
			return err
		}
		f := risk.Fact{Ref: "test-" + t.RRN, At: t.At, Kind: risk.Sale, Card: t.Token, Shop: t.Shop, Terminal: t.TID, Category: "5411", Fen: t.Due.Minor(), Entry: risk.Stripe}
		if err := o.h.Risk.Keep(tx, f, risk.Decision{Action: risk.Hold, Score: 70, Version: 1, Hits: []risk.Hit{{Rule: risk.RoundAmounts, Points: 70, En: "round", Zh: "整额"}}}); err != nil {
			return err
		}
		_, err = dispute.Open(tx, dispute.Claim{Ref: "CUP-1", Amount: t.Due, Reason: "4515", Money: true, At: tx.Now(), Why: "not mine",
			Sale: dispute.Sale{RRN: t.RRN, Payee: t.Shop, Counter: ledger.AccountID(switching.Receivable(t.Host)), Issuer: t.Host, Class: t.Class, Amount: t.Due, At: t.At}})
		return err
	}))
}

// A colleague is somebody's browser.
type colleague struct {
	o *office
	c *http.Client
}

func (o *office) as(name, lang string) colleague {
	o.Helper()
	c := colleague{o, browser(o.T)}
	if name != "" {
		if got := login(o.T, c.c, o.server.URL, name, "secret-of-"+name); got != http.StatusSeeOther {
			o.Fatalf("login of %s: %d", name, got)
		}
	}
	c.post("/lang", url.Values{"to": {lang}, "back": {"/"}}, "")
	return c
}

func (c colleague) send(r *http.Request) (int, string) {
	c.o.Helper()
	r.Header.Set("Accept", "text/html")
	res, err := c.c.Do(r)
	c.o.must(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	c.o.must(err)
	return res.StatusCode, string(body)
}

func (c colleague) get(path string) (int, string) {
	r, err := http.NewRequest("GET", c.o.server.URL+path, nil)
	c.o.must(err)
	return c.send(r)
}

func (c colleague) post(path string, form url.Values, site string) int {
	r, err := http.NewRequest("POST", c.o.server.URL+path, strings.NewReader(form.Encode()))
	c.o.must(err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if site != "" {
		r.Header.Set("Sec-Fetch-Site", site)
		r.Header.Set("Origin", "https://elsewhere.example")
	}
	code, _ := c.send(r)
	return code
}

func why(more ...string) url.Values {
	v := url.Values{"why": {"because of a test"}}
	for i := 0; i+1 < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return v
}

func (o *office) read(f func(q *db.Query) error) {
	o.Helper()
	o.must(o.h.Store.Read(ctx, f))
}

// pages lists every page of the back office.
func (o *office) pages() (out []string) {
	out = []string{"/ops/switch", "/ops/switch/transactions", "/ops/switch/transactions?state=cleared&tid=" + o.till, "/ops/switch/transactions?as=csv", "/ops/routes", "/ops/routes?prefix=62&host=CMB", "/ops/routes?number=6225880000000015", "/ops/routes?number=1", "/ops/hosts",
		"/ops/terminals", "/ops/terminals?life=active&city=Beijing&quiet=1", "/ops/terminals/keys", "/ops/terminals/batches", "/ops/terminals/differences?all=1", "/ops/terminals/stages",
		"/ops/merchants", "/ops/merchants?state=active&city=110000", "/ops/merchants/desk", "/ops/merchants/funnel", "/ops/merchants/map", "/ops/merchants/map?of=takings", "/ops/merchants/agents",
		"/ops/closings", "/ops/closings/payouts?state=sent", "/ops/closings/holds", "/ops/recon", "/ops/recon/exceptions", "/ops/recon/exceptions?state=closed&host=bank", "/ops/risk", "/ops/risk?state=cleared", "/ops/risk/rules", "/ops/risk/rules/1", "/ops/disputes", "/ops/disputes?all=1", "/ops/keys", "/ops/keys?of=hosts&label=cmb"}
	if o.rrn == "" {
		return out
	}
	out = append(out, "/ops/switch/transactions/"+o.rrn, "/ops/terminals/"+o.till, "/ops/merchants/shops/"+o.shop)
	o.read(func(q *db.Query) error {
		s, err := merchant.ShopOf(q, o.shop)
		o.must(err)
		list, err := reconcile.Exceptions(q, "", "", "", 50)
		o.must(err)
		for _, x := range list {
			out = append(out, "/ops/recon/exceptions/"+x.ID, "/ops/recon/days/"+x.Host+"/"+x.Day.String())
		}
		open, err := risk.Cases(q, "", "", "", 10)
		o.must(err)
		quarrels, err := dispute.OfPayee(q, "", false, "", 10)
		out = append(out, "/ops/merchants/"+s.Merchant, "/ops/risk/"+open[0].ID, "/ops/disputes/"+quarrels[0].ID)
		return err
	})
	return out
}

var holes = regexp.MustCompile(`%!|%\[\d|style="|javascript:`)

// TestBackOfficePages: every page in both languages, for staff and auditors,
// with nothing in the house and with a story.
func TestBackOfficePages(t *testing.T) {
	o := openOffice(t)
	for round := range 2 {
		if round == 1 {
			o.story()
		}
		for _, lang := range []web.Lang{web.ZH, web.EN} {
			c := o.as("wang", string(lang))
			for _, path := range o.pages() {
				code, body := c.get(path)
				if code != 200 || !strings.Contains(path, "as=csv") && !strings.Contains(body, "<h1") {
					t.Errorf("%s in %s: %d", path, lang, code)
				}
				if m := holes.FindString(body); m != "" {
					t.Errorf("%s in %s shows %q", path, lang, m)
				}
			}
		}
	}
	c := o.as("shen", "en")
	for _, path := range o.pages() {
		if code, body := c.get(path); code != 200 || strings.Contains(body, `name="why"`) {
			t.Errorf("the auditor at %s: %d, or is offered a change", path, code)
		}
	}
}

// TestBackOfficeRights: who may not look or change, and what means nothing.
func TestBackOfficeRights(t *testing.T) {
	o := openOffice(t)
	o.story()
	staff, auditor, wearer := o.as("wang", "en"), o.as("shen", "en"), o.as("lin", "en")
	acts := []string{"/ops/routes", "/ops/hosts/queue/1/resend", "/ops/terminals/" + o.till + "/suspend", "/ops/terminals/stages", "/ops/closings/holds", "/ops/closings/funding", "/ops/risk/rules"}
	for _, path := range acts {
		if code := auditor.post(path, why(), ""); code != 403 {
			t.Errorf("the auditor posts %s: %d", path, code)
		}
		if code := wearer.post(path, why(), ""); code != 403 {
			t.Errorf("a wearer posts %s: %d", path, code)
		}
		if code := staff.post(path, why(), "cross-site"); code != 403 {
			t.Errorf("another site posts %s: %d", path, code)
		}
	}
	if code, _ := wearer.get("/ops/switch"); code != 403 {
		t.Errorf("a wearer looks: %d", code)
	}
	for path, want := range map[string]int{"/ops/switch/transactions/none": 404, "/ops/switch/transactions?state=lost": 422, "/ops/routes?number=" + strings.Repeat("1", 30): 422, "/ops/terminals/none": 404, "/ops/terminals?life=lost": 422,
		"/ops/terminals/batches?after=x": 422, "/ops/merchants/none": 404, "/ops/merchants?state=lost": 422, "/ops/merchants/shops/none": 404, "/ops/closings/payouts?state=lost": 422, "/ops/recon/days/none/2015-09-16": 404, "/ops/recon/days/CMB/today": 404,
		"/ops/recon/exceptions/none": 404, "/ops/recon/exceptions?state=lost": 422, "/ops/recon/exceptions?type=lost": 422, "/ops/risk/none": 404, "/ops/risk?state=lost": 422, "/ops/risk/rules/99": 404, "/ops/risk/rules/x": 404, "/ops/disputes/none": 404, "/ops/closings/express/none": 404} {
		if code, _ := staff.get(path); code != want {
			t.Errorf("%s: %d, want %d", path, code, want)
		}
	}
	for path, form := range map[string]url.Values{"/ops/routes": why("newprefix", "x", "class", "debit"), "/ops/terminals/stages": why("decision", "9", "share", "10"), "/ops/terminals/" + o.till + "/demand": why("decision", "6"),
		"/ops/closings/funding": why("amount", "-1"), "/ops/closings/holds": why("payee", o.shop, "amount", "x"), "/ops/risk/rules": why("rule", "99", "points", "1"), "/ops/terminals/differences/none": why("decision", "x")} {
		if code := staff.post(path, form, ""); code != 422 {
			t.Errorf("POST %s %v: %d", path, form, code)
		}
	}
}

// TestFourEyes: what one proposes another signs; rules likewise; a case ends
// with its hold; each change leaves a row of the trail.
func TestFourEyes(t *testing.T) {
	o := openOffice(t)
	o.story()
	wang, zhao := o.as("wang", "en"), o.as("zhao", "en")
	var x reconcile.Exception
	o.read(func(q *db.Query) error {
		list, err := reconcile.Exceptions(q, "", reconcile.Open, "", 50)
		i := slices.IndexFunc(list, func(x reconcile.Exception) bool { return x.Weight() > 50_00 })
		if i < 0 {
			t.Fatalf("%d exceptions", len(list))
		}
		x = list[i]
		return err
	})
	at := "/ops/recon/exceptions/" + x.ID
	state := func() reconcile.ExceptionState {
		o.read(func(q *db.Query) (err error) { x, err = reconcile.ExceptionOf(q, x.ID); return err })
		return x.State
	}
	wang.post(at+"/propose", why(), "")
	wang.post(at+"/sign", why(), "")
	if got := state(); got != reconcile.Proposed {
		t.Errorf("signed by its proposer: %s", got)
	}
	zhao.post(at+"/sign", why(), "")
	if got := state(); got != reconcile.Booked && got != reconcile.Signed {
		t.Errorf("signed by another: %s", got)
	}
	wang.post("/ops/risk/rules", why("rule", "0", "points", "5"), "")
	for _, step := range []struct {
		who  colleague
		act  string
		want risk.SetState
	}{{wang, "activate", risk.Proposed}, {wang, "replay", risk.Proposed}, {wang, "activate", risk.Proposed}, {zhao, "activate", risk.Active}} {
		step.who.post("/ops/risk/rules/2/"+step.act, why(), "")
		o.read(func(q *db.Query) error {
			s, err := risk.SetOf(q, 2)
			if s.State != step.want {
				t.Errorf("after %s: %s, want %s", step.act, s.State, step.want)
			}
			return err
		})
	}
	if code, body := wang.get("/ops/risk/rules/2"); code != 200 || !strings.Contains(body, "Against what people found") || !strings.Contains(body, "not looked at") {
		t.Errorf("the replay without its table of what people found: %d", code)
	}
	var c risk.Case
	held := func() (n int) {
		o.read(func(q *db.Query) error {
			list, err := settlement.Holds(q, o.shop)
			for _, h := range list {
				if h.Reason == settlement.ForRisk {
					n++
				}
			}
			return err
		})
		return n
	}
	o.read(func(q *db.Query) error { list, err := risk.Cases(q, "", o.shop, "", 1); c = list[0]; return err })
	if held() != 1 {
		t.Errorf("%d holds", held())
	}
	wang.post("/ops/risk/"+c.ID+"/take", why(), "")
	wang.post("/ops/risk/"+c.ID+"/clear", why(), "")
	if held() != 0 {
		t.Errorf("%d holds after the case was cleared", held())
	}
	if _, body := wang.get("/ops/audit"); !strings.Contains(body, "exception signed") || !strings.Contains(body, "risk case moved") || !strings.Contains(body, "rules put into force") {
		t.Error("the trail lacks what was done")
	}
	proof, err := o.h.Verify(context.Background())
	if err != nil || !proof.OK {
		t.Errorf("%v %v", err, proof.Problems)
	}
}

// TestChangesByStaff: a terminal stops and works again, a route leads elsewhere
// at once, evidence becomes a pack, money is held and released.
func TestChangesByStaff(t *testing.T) {
	o := openOffice(t)
	o.story()
	c := o.as("wang", "en")
	life := func() (l merchant.Life) {
		o.read(func(q *db.Query) error { t, err := merchant.TerminalOf(q, o.till); l = t.Life; return err })
		return l
	}
	c.post("/ops/terminals/"+o.till+"/suspend", why(), "")
	if life() != merchant.Stopped {
		t.Errorf("suspended: %s", life())
	}
	c.post("/ops/terminals/"+o.till+"/resume", why(), "")
	c.post("/ops/terminals/"+o.till+"/demand", why("decision", "2"), "")
	c.post("/ops/terminals/stages", why("decision", "1", "share", "100", "city", ""), "")
	if _, body := c.get("/ops/terminals/" + o.till); life() != merchant.InUse || !strings.Contains(body, "load parameters") {
		t.Errorf("resumed and asked: %s", life())
	}
	if code := c.post("/ops/terminals/"+o.till+"/reinstall", why(), ""); code != 200 || life() != merchant.Registered {
		t.Errorf("opened for installation: %d, %s", code, life())
	}
	if code := c.post("/ops/routes", why("newprefix", "99887766", "newhost", "", "class", "debit", "standin", "10"), ""); code != 303 {
		t.Errorf("a route: %d", code)
	}
	if _, body := c.get("/ops/routes"); !strings.Contains(body, "99887766") || strings.Contains(body, "Confirm 99887766") {
		t.Error("the proposed route does not wait for another person")
	}
	var quarrel dispute.Case
	o.read(func(q *db.Query) error {
		list, err := dispute.OfPayee(q, "", true, "", 1)
		quarrel = list[0]
		return err
	})
	at := "/ops/disputes/" + quarrel.ID
	c.post(at+"/gather", why(), "")
	if code, body := c.get(at + "/pack"); code != 200 || !strings.Contains(body, "messages.txt") {
		t.Errorf("the pack: %d", code)
	}
	c.post(at+"/represent", why(), "")
	o.read(func(q *db.Query) (err error) { quarrel, err = dispute.Get(q, quarrel.ID); return err })
	if quarrel.State != dispute.Presented {
		t.Errorf("represented: %s", quarrel.State)
	}
	c.post("/ops/closings/holds", why("payee", o.shop, "amount", "12.30"), "")
	o.read(func(q *db.Query) error {
		list, err := settlement.Holds(q, o.shop)
		if !slices.ContainsFunc(list, func(h settlement.Hold) bool { return h.Amount.Minor() == 12_30 }) {
			t.Errorf("holds: %+v", list)
		}
		return err
	})
}

// TestFilesAreTaken: what lies in the folder is compared and moved; what is no
// file of anybody is refused with a reason.
func TestFilesAreTaken(t *testing.T) {
	o := openOffice(t)
	t1 := o.sell("jialian.1", 1, 88_00)
	day := calendar.Of(o.clock.Now(), calendar.Beijing)
	dir := filepath.Join(o.h.Config.Data, "clearing")
	o.must(os.MkdirAll(filepath.Join(dir, "in"), 0o700))
	statement := reconcile.AppendStatement(nil, reconcile.Statement{Account: "custody", From: day, To: day, Lines: []reconcile.StatementLine{{Ref: "B1", Booked: o.clock.Now(), Fen: 5_00, Reference: "somebody", Party: "somebody"}}})
	for name, raw := range map[string][]byte{t1.Host + "-" + day.String() + ".clr": nil, "statement-1.csv": statement, "letter.txt": []byte("dear sirs"), "statement-2.csv": []byte("nonsense")} {
		o.must(os.WriteFile(filepath.Join(dir, "in", name), raw, 0o600))
	}
	o.must(o.h.Tick(ctx))
	for name, want := range map[string]string{t1.Host + "-" + day.String() + ".clr": "done", "statement-1.csv": "done", "letter.txt": "refused", "letter.txt.why": "refused", "statement-2.csv.why": "refused"} {
		if _, err := os.Stat(filepath.Join(dir, want, name)); err != nil {
			t.Error(err)
		}
	}
	o.read(func(q *db.Query) error {
		r, err := reconcile.ReportOf(q, t1.Host, day)
		if r.Ours.Count != 1 || r.Ours.Fen != 88_00 || r.Differs != 1 {
			t.Errorf("%+v", r)
		}
		list, err2 := reconcile.Exceptions(q, reconcile.BankDesk, "", "", 10)
		if len(list) != 1 || list[0].Type != reconcile.UnknownCredit {
			t.Errorf("%+v", list)
		}
		o.must(err2)
		return err
	})
}
