package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"koala/calendar"
	"koala/internal/db"
	"koala/risk"
	"koala/switching"
)

// TestBrowserBackOffice looks at everything that staff see of shops: the switch,
// its routes and hosts, terminals, merchants, payouts, reconciliation, risk and
// disputes, in both languages and widths; and decides a case.
func TestBrowserBackOffice(t *testing.T) {
	w := openTown(t)
	w.suspect(t)
	for _, s := range []screen{{1280, "zh"}, {390, "zh"}, {1280, "en"}, {390, "en"}} {
		t.Run(s.String(), func(t *testing.T) { w.visit(t, s).backOffice() })
	}
	t.Run("dark", func(t *testing.T) { w.visit(t, screen{1280, "en"}).backOfficeInTheDark() })
	t.Run("case", func(t *testing.T) { w.visit(t, screen{1280, "en"}).decideCase() })
	t.Run("route", func(t *testing.T) { w.visit(t, screen{390, "en"}).changeRoute() })
	t.Run("call", func(t *testing.T) { w.visit(t, screen{1280, "en"}).takeCall(w) })
}

// suspect gives the desks something to do: a host's file of yesterday that lacks
// what the switch has, and sales that the rules would not simply let pass.
func (w *town) suspect(t *testing.T) {
	t.Helper()
	h := w.demo.house
	var list []switching.Txn
	err := h.Store.Read(t.Context(), func(q *db.Query) (err error) {
		list, err = switching.Live(q, switching.Filter{Limit: 500})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	host := ""
	var day calendar.Date
	n := 0
	for _, x := range list {
		if x.Host != "" && x.State == switching.Cleared && host == "" {
			host, day = x.Host, calendar.Of(x.At, calendar.Beijing)
		}
		if x.State != switching.Cleared || x.Kind != "sale" || n == 4 {
			continue
		}
		n++
		err := h.Store.Write(t.Context(), func(tx *db.Tx) error {
			f := risk.Fact{Ref: x.RRN, At: x.At, Kind: risk.Sale, Card: x.Token, Class: x.Class, Shop: x.Shop, Terminal: x.TID, Category: "5812", Fen: x.Due.Minor(), Entry: risk.Stripe}
			return h.Risk.Keep(tx, f, risk.Decision{Action: risk.Review, Score: 45 + n, Version: 1, Hits: []risk.Hit{{Rule: risk.RoundAmounts, Points: 25, En: "three sales of whole hundreds within an hour", Zh: "一小时内三笔整百金额"},
				{Rule: risk.RepeatedCard, Points: 20 + n, En: "the card paid here four times within an hour", Zh: "同一张卡一小时内在此付款四次"}}})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if host == "" || n == 0 {
		t.Fatalf("of %d transactions none is another bank's, or none is cleared", len(list))
	}
	if _, err := h.CompareDay(t.Context(), host, day, bytes.NewReader(nil), "an empty file"); err != nil {
		t.Fatal(err)
	}
}

var backOfficePages = [][2]string{{"/ops/switch", "bo-switch"}, {"/ops/switch/transactions", "bo-transactions"}, {"/ops/switch/transactions?state=declined", "bo-declined"}, {"/ops/switch/calls", "bo-calls"}, {"/ops/routes?number=6225880000000015", "bo-routes"}, {"/ops/hosts", "bo-hosts"},
	{"/ops/terminals", "bo-terminals"}, {"/ops/terminals/keys", "bo-terminal-keys"}, {"/ops/terminals/batches", "bo-batches"}, {"/ops/terminals/differences", "bo-differences"}, {"/ops/terminals/stages", "bo-stages"},
	{"/ops/merchants", "bo-merchants"}, {"/ops/merchants/desk", "bo-desk"}, {"/ops/merchants/funnel", "bo-funnel"}, {"/ops/merchants/map", "bo-map"}, {"/ops/merchants/map?of=takings", "bo-map-takings"}, {"/ops/merchants/agents", "bo-agents"},
	{"/ops/closings", "bo-closings"}, {"/ops/closings/payouts", "bo-payouts"}, {"/ops/closings/holds", "bo-holds"}, {"/ops/recon", "bo-recon"}, {"/ops/recon/exceptions", "bo-exceptions"},
	{"/ops/keys?of=hosts", "bo-zone-keys"}, {"/ops/risk", "bo-risk"}, {"/ops/risk/rules", "bo-rules"}, {"/ops/risk/rules/1", "bo-ruleset"}, {"/ops/disputes?all=1", "bo-disputes"}}

// backOffice leafs through all of it.
func (v *visit) backOffice() {
	v.login("wang", "zhakou-2015")
	v.at("/ops/")
	for _, p := range backOfficePages {
		v.open(p[0])
		v.look(p[1])
	}
	for _, p := range [][3]string{{"/ops/switch/transactions?state=cleared", "/ops/switch/transactions/", "bo-transaction"}, {"/ops/terminals?life=active", "/ops/terminals/", "bo-terminal"}, {"/ops/merchants?state=active", "/ops/merchants/", "bo-merchant"},
		{"/ops/recon/exceptions", "/ops/recon/exceptions/", "bo-exception"}, {"/ops/risk", "/ops/risk/", "bo-case"}, {"/ops/disputes?all=1", "/ops/disputes/", "bo-dispute"}} {
		v.open(p[0])
		v.follow(`#`+map[string]string{"bo-transaction": "transactions", "bo-terminal": "terminals", "bo-merchant": "merchants", "bo-exception": "exceptions", "bo-case": "cases", "bo-dispute": "disputes"}[p[2]]+` tbody tr a`, p[1])
		v.look(p[2])
		if p[2] == "bo-merchant" {
			v.follow(`#shops tbody tr a`, "/ops/merchants/shops/")
			v.look("bo-shop")
		}
	}
	v.open("/ops/recon")
	v.follow(`.heat td a[href^="/ops/recon/days/"]`, "/ops/recon/days/")
	v.look("bo-day")
	if v.view.width < 900 {
		v.open("/ops/risk")
		v.click(`.nav-open`)
		v.until(`document.querySelector('#nav-all:popover-open')`)
		v.picture("bo-menu")
		v.click(`#nav-all a[href="/ops/recon"]`)
		v.at("/ops/recon")
	}
}

// backOfficeInTheDark looks at what is drawn, in dark colours.
func (v *visit) backOfficeInTheDark() {
	if _, err := chromedp.Call(v.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}}); err != nil {
		v.t.Fatal(err)
	}
	v.login("wang", "zhakou-2015")
	for _, p := range [][2]string{{"/ops/switch", "bo-dark-switch"}, {"/ops/merchants/map", "bo-dark-map"}, {"/ops/recon", "bo-dark-recon"}} {
		v.open(p[0])
		v.look(p[1])
	}
}

// decideCase takes a case and finds nothing wrong.
func (v *visit) decideCase() {
	v.login("wang", "zhakou-2015")
	v.open("/ops/risk?state=open")
	v.follow(`#cases tbody tr a`, "/ops/risk/")
	at := v.where()
	for _, act := range []string{"take", "clear"} {
		v.open(at)
		v.click(fmt.Sprintf(`button[popovertarget="ask-%s"]`, act))
		v.until(fmt.Sprintf(`document.querySelector('#ask-%s:popover-open')`, act))
		v.look("bo-ask-" + act)
		v.fill(fmt.Sprintf(`#ask-%s-why`, act), "the shop showed its till rolls")
		v.click(fmt.Sprintf(`#ask-%s form button:not([type])`, act))
		v.until(`document.querySelector('.toast.good')`)
	}
	if text := v.mainText(); !strings.Contains(text, "nothing wrong") {
		v.t.Errorf("the case is not cleared:\n%s", text)
	}
}

// takeCall takes a shop's call for a card of another bank: the bank says no, and the
// number is nowhere on the page.
func (v *visit) takeCall(w *town) {
	h := w.demo.house
	var list []switching.Txn
	if err := h.Store.Read(v.t.Context(), func(q *db.Query) (err error) {
		list, err = switching.Live(q, switching.Filter{State: switching.Cleared, Limit: 1})
		return err
	}); err != nil || len(list) == 0 {
		v.t.Fatal("no shop has sold", err)
	}
	v.login("wang", "zhakou-2015")
	v.open("/ops/switch/calls")
	v.click(`button[popovertarget="ask-call"]`)
	v.until(`document.querySelector('#ask-call:popover-open')`)
	v.fill(`#f-tid`, list[0].TID)
	v.fill(`#f-number`, "6225880000000001")
	v.fill(`#f-expiry`, "2912")
	v.fill(`#f-amount`, "88.00")
	v.fill(`#ask-call-why`, "the line is down")
	v.look("bo-ask-call")
	v.click(`#ask-call form button:not([type])`)
	v.until(`document.querySelector('.toast.bad')`)
	v.look("bo-call-taken")
	if text := v.mainText(); !strings.Contains(text, "622588") || strings.Contains(text, "6225880000000001") || !strings.Contains(text, "88.00") {
		v.t.Errorf("a call that was taken:\n%s", text)
	}
}

// changeRoute has two people send a range elsewhere and sees it explained.
func (v *visit) changeRoute() {
	v.login("wang", "zhakou-2015")
	v.open("/ops/routes")
	v.click(`button[popovertarget="ask-route"]`)
	v.until(`document.querySelector('#ask-route:popover-open')`)
	v.fill(`#f-newprefix`, "99887766")
	v.fill(`#f-standin`, "100")
	v.fill(`#ask-route-why`, "a range of a test")
	v.look("bo-ask-route")
	v.click(`#ask-route form button:not([type])`)
	v.until(`document.querySelector('.toast.good')`)
	if text := v.mainText(); !strings.Contains(text, "Routes to be confirmed") || strings.Contains(text, "Confirm 99887766") {
		v.t.Errorf("what one person has proposed:\n%s", text)
	}
	v.login("zhao", "fuhe-2015")
	v.open("/ops/routes")
	v.look("bo-proposed")
	v.click(`button[popovertarget^="ask-confirm-"]`)
	v.until(`document.querySelector('[id^="ask-confirm-"]:popover-open')`)
	v.fill(`[id^="ask-confirm-"][id$="-why"]`, "seen, it is theirs")
	v.click(`[id^="ask-confirm-"]:popover-open form button:not([type])`)
	v.until(`document.querySelector('.toast.good')`)
	v.open("/ops/routes?number=9988776600000000")
	if text := v.text(`.explain`); !strings.Contains(text, "99887766") || !strings.Contains(text, "Our own bank") {
		v.t.Errorf("where the number goes: %s", text)
	}
}
