package main

import (
	"fmt"
	"strings"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// operate is a look at everything that operations sees, and a proof.
func (v *visit) operate() {
	v.login("wang", "zhakou-2015")
	v.at("/ops/")
	for _, p := range [][2]string{{"/ops/", "ops"}, {"/ops/orders", "ops-orders"}, {"/ops/cards", "ops-cards"}, {"/ops/customers", "ops-customers"}, {"/ops/gates", "ops-gates"},
		{"/ops/journeys", "ops-journeys"}, {"/ops/exceptions", "ops-exceptions"}, {"/ops/deny", "ops-deny"}, {"/ops/books", "ops-books"},
		{"/ops/books/accounts", "ops-accounts"}, {"/ops/books/account?id=bank.custody", "ops-account"}, {"/ops/books/entries", "ops-entries"},
		{"/ops/books/entry?seq=1", "ops-entry"}, {"/ops/books/holds", "ops-holds"}, {"/ops/settlement", "ops-settlement"}, {"/ops/keys", "ops-keys"}, {"/ops/audit", "ops-audit"},
		{"/ops/issuers", "ops-issuers"}, {"/ops/issuers/products", "ops-products"},
		{"/ops/shops", "ops-shops"}, {"/ops/shops/devices", "ops-devices"}, {"/ops/shops/sites", "ops-sites"}, {"/ops/shops/firms", "ops-firms"},
		{"/ops/ecash/odd", "ops-odd"}, {"/ops/ecash/gaps", "ops-gaps"}, {"/ops/ecash", "ops-ecash"}, {"/ops/ecash/suspense", "ops-suspense"},
		{"/ops/ecash/doubts", "ops-doubts"}, {"/ops/ecash/loads", "ops-loads"}, {"/ops/lost", "ops-lost"}, {"/ops/firmware", "ops-firmware"},
		{"/ops/partners", "ops-partners"}, {"/developers", "developers"}} {
		v.open(p[0])
		v.look(p[1])
	}
	v.open("/ops/orders?state=done&kind=issue")
	v.follow(`main tbody tr a`, "/ops/orders/ord")
	if n := v.count(`.dialogue li`); n < 10 {
		v.t.Errorf("a card written in %d commands", n)
	}
	v.look("ops-order")
	for _, p := range [][3]string{{"/ops/journeys", "/ops/journeys/", "ops-journey"}, {"/ops/gates", "/ops/gates/", "ops-gate"},
		{"/ops/cards", "/ops/cards/", "ops-card"}, {"/ops/customers", "/ops/customers/", "ops-customer"},
		{"/ops/issuers", "/ops/issuers/templates/", "ops-template"}, {"/ops/shops", "/ops/shops/", "ops-shop"},
		{"/ops/shops/devices", "/ops/shops/devices/", "ops-device"}, {"/ops/ecash", "/ops/ecash/records/", "ops-record"}} {
		v.open(p[0])
		v.follow(`main tbody tr a`, p[1])
		v.look(p[2])
	}
	v.balance()
	v.open("/ops/books/proof")
	v.click(`form:has(input[name="run"]) button.primary`)
	v.until(`document.querySelector('#verdict .notice')`)
	v.needs(`#verdict .notice.good`)
	v.look("ops-proof")
}

// follow goes where a link of the page leads.
func (v *visit) follow(css, to string) {
	v.t.Helper()
	v.until(fmt.Sprintf(`document.querySelector(%q)`, css))
	href := ask[string](v, fmt.Sprintf(`document.querySelector(%q).getAttribute('href')`, css))
	if !strings.HasPrefix(href, to) {
		v.t.Errorf("%s at %s leads to %q, want %s", css, v.where(), href, to)
	}
	v.open(href)
}

// balance reads the trial balance: debits and credits are the same sum.
func (v *visit) balance() {
	v.t.Helper()
	v.open("/ops/books")
	sums := ask[[]string](v, `[...document.querySelectorAll('#trial tbody tr:last-child td.num')].slice(-2).map(e => e.innerText.trim())`)
	if len(sums) != 2 || sums[0] != sums[1] || !strings.HasPrefix(sums[0], "¥") {
		v.t.Errorf("the trial balance sums to %q", sums)
	}
}

// audit sees everything and may change nothing.
func (v *visit) audit() {
	v.login("shen", "shenji-2015")
	v.at("/ops/")
	v.look("audit")
	v.open("/ops/orders?state=done&kind=issue")
	v.follow(`main tbody tr a`, "/ops/orders/ord")
	order := v.where()
	if n := v.count(`main form[method="post"]`); n != 0 {
		v.t.Errorf("%d forms that change something", n)
	}
	paths := []string{"/ops/settlement/run", "/ops/books/seal", order + "/cancel", order + "/verify"}
	for _, p := range paths {
		status := ask[int](v, fmt.Sprintf(`fetch(%q, {method: 'POST', body: new URLSearchParams({why: 'because I can'})}).then(r => r.status)`, p))
		if status != 403 {
			v.t.Errorf("POST %s as auditor: %d", p, status)
		}
	}
	for _, s := range v.takeTroubles() { // the browser notes each refusal
		if !strings.Contains(s, "403") {
			v.t.Error(s)
		}
	}
}

// useKeys logs in and taps without a mouse.
func (v *visit) useKeys(name, password string) {
	v.open("/login")
	v.tabTo(`input[name="name"]`)
	v.press(name)
	v.tabTo(`input[type="password"]`)
	v.press(password, kb.Enter)
	v.at("/my/")
	v.tabTo(`nav.side a[href="/my/tap"]`)
	v.press(kb.Enter)
	v.at("/my/tap")
	v.tabTo(`input[name="at"]`)
	v.press("dongdan", kb.Enter)
	v.until(`document.querySelector('.pad-button')`)
	v.tabTo(`.pad-button`)
	v.press(kb.Enter)
	v.at("/my/taps/")
	v.needs(`.result.good, .result.info, .result.neutral`)
}

// press types keys where the focus is.
func (v *visit) press(keys ...string) {
	v.t.Helper()
	for _, k := range keys {
		v.do(chromedp.KeyEvent(k))
	}
}

// tabTo presses Tab until an element has the focus, and sees the focus shown.
func (v *visit) tabTo(css string) {
	v.t.Helper()
	const most = 60
	for range most {
		if ask[bool](v, fmt.Sprintf(`document.activeElement.matches(%q)`, css)) {
			return
		}
		v.press(kb.Tab)
		if bare := ask[string](v, unseen); bare != "" {
			v.t.Errorf("%s at %s: the focus does not show on %s", v.view, v.where(), bare)
		}
	}
	v.t.Fatalf("%s at %s: %d tabs do not reach %s", v.view, v.where(), most, css)
}

// unseen is the focused element if nothing shows that it is, or if it lies
// outside the window.
const unseen = `(() => { const e = document.activeElement; if (e === document.body) return '';
	const s = getComputedStyle(e), p = getComputedStyle(e.parentElement), r = e.getBoundingClientRect();
	const shown = s.outlineStyle !== 'none' || s.boxShadow !== 'none' || p.outlineStyle !== 'none' || p.boxShadow !== 'none';
	return shown && r.bottom > 0 && r.top < innerHeight ? '' : e.outerHTML.slice(0, 120); })()`

// goPlain reads the pages and taps with scripts turned off.
func (v *visit) goPlain(name, password string) {
	if _, err := chromedp.Call(v.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		v.t.Fatal(err)
	}
	v.open("/")
	v.needs(`.figures live-number`, `city-map svg circle`, `#feed .timeline li`)
	v.look("plain-start")
	v.login(name, password)
	v.at("/my/")
	v.needs(`.cards a.card-link`)
	v.look("plain-band")
	v.open("/my/trips")
	v.needs(`#trips .timeline a`)
	v.open("/my/tap?at=xidan")
	v.click(`.pad-button`)
	v.at("/my/taps/")
	v.needs(`.result .done-mark`, `.dialogue li`)
	v.look("plain-tap")
}
