package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// TestBrowserMerchant looks at the shops' console in both languages and widths,
// gives money back, asks for a payout, invites somebody, and applies.
func TestBrowserMerchant(t *testing.T) {
	w := openTown(t)
	for _, s := range []screen{{1280, "zh"}, {390, "zh"}, {1280, "en"}, {390, "en"}} {
		t.Run(s.String(), func(t *testing.T) {
			v := w.visit(t, s)
			v.apply(fmt.Sprintf("new-%s", s))
			v.keepShop()
			v.wholesale()
		})
	}
	t.Run("dark", func(t *testing.T) { w.visit(t, screen{1280, "en"}).keepShopInTheDark() })
	t.Run("cashier", func(t *testing.T) { w.visit(t, screen{390, "zh"}).refundAtTheCounter() })
	t.Run("live", func(t *testing.T) { w.visit(t, screen{1280, "en"}).watchTheDay() })
}

// keepShop leafs through everything an owner sees.
func (v *visit) keepShop() {
	v.login("qian", "jialian-2015")
	v.at("/merchant/")
	for _, p := range [][2]string{{"/merchant/", "shop-today"}, {"/merchant/sales", "shop-sales"}, {"/merchant/sales?q=0000", "shop-sales-none"}, {"/merchant/refunds", "shop-refunds"}, {"/merchant/money", "shop-calendar"},
		{"/merchant/money/now", "shop-offer-none"}, {"/merchant/payouts", "shop-payouts"}, {"/merchant/statements", "shop-statements"}, {"/merchant/fees", "shop-fees"}, {"/merchant/fees?amount=x", "shop-fees-wrong"},
		{"/merchant/disputes", "shop-disputes"}, {"/merchant/terminals", "shop-terminals"}, {"/merchant/limits", "shop-limits"}, {"/merchant/staff", "shop-staff"}, {"/merchant/staff/acts", "shop-acts"}, {"/merchant/status", "shop-status"}} {
		v.open(p[0])
		v.look(p[1])
	}
	for _, p := range [][3]string{{"/merchant/payouts", "/merchant/payouts/", "shop-payout"}, {"/merchant/statements", "/merchant/statements/", "shop-statement"}, {"/merchant/disputes", "/merchant/disputes/", "shop-dispute"},
		{"/merchant/terminals", "/merchant/terminals/", "shop-terminal"}, {"/merchant/sales?state=cleared&kind=sale", "/merchant/sales/", "shop-sale"}} {
		v.open(p[0])
		v.follow(`main tbody tr a`, p[1])
		v.look(p[2])
	}
	if n := v.count(`.dialogue li`); n < 2 {
		v.t.Errorf("a sale told in %d messages", n)
	}
	v.click(`.dialogue summary`)
	v.look("shop-sale-bytes")
	v.open("/merchant/money")
	if v.count(`.month a`) == 0 { // the first of a month
		v.click(`a[href^="/merchant/money?month="]`)
		v.until(`document.querySelector('.month a')`)
		v.look("shop-calendar-before")
	}
	v.follow(`.month a`, "/merchant/money/days/")
	v.look("shop-day")
	v.open("/merchant/sales?state=cleared")
	v.click(`main tbody tr a`)
	v.until(`document.querySelector('#drawer.open .facts')`)
	v.look("shop-drawer")
	v.open("/merchant/statements")
	if v.count(`form[action="/merchant/bills"] button`) > 0 {
		v.click(`form[action="/merchant/bills"] button`)
	} else { // every day has its bill by now
		v.follow(`#bills tbody tr a`, "/merchant/bills/")
	}
	v.at("/merchant/bills/")
	v.needs(`.notice.good`)
	v.look("shop-bill")
}

// wholesale is paid at once, for a price that is shown first.
func (v *visit) wholesale() {
	v.login("dong", "pifa-2015")
	v.open("/merchant/money/now")
	v.look("shop-offer")
	if v.count(`button[popovertarget="pay-now"]`) > 0 {
		v.click(`button[popovertarget="pay-now"]`)
		v.until(`document.querySelector('#pay-now:popover-open')`)
		v.look("shop-offer-ask")
		v.click(`#pay-now form button.primary`)
		v.at("/merchant/payouts/")
		v.look("shop-payout-now")
	}
}

// keepShopInTheDark looks at the pages with most colour in dark mode.
func (v *visit) keepShopInTheDark() {
	v.login("qian", "jialian-2015")
	if _, err := chromedp.Call(v.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}}); err != nil {
		v.t.Fatal(err)
	}
	for _, p := range [][2]string{{"/merchant/", "shop-dark-today"}, {"/merchant/money", "shop-dark-calendar"}, {"/merchant/fees", "shop-dark-fees"}, {"/merchant/staff", "shop-dark-staff"}} {
		v.open(p[0])
		v.look(p[1])
	}
}

// refundAtTheCounter is a cashier who gives part of a sale back: too much is
// refused beside the field, and the last question names amount and card.
func (v *visit) refundAtTheCounter() {
	v.login("sun", "shouyin-2015")
	v.open("/merchant/sales?state=cleared&kind=sale")
	sale := ask[string](v, `[...document.querySelectorAll('#sales tbody tr')].find(r => r.lastElementChild.innerText.trim() === '–').querySelector('a').getAttribute('href')`)
	v.open(sale)
	v.open(sale + "/refund")
	v.look("shop-refund")
	v.fill(`#f-amount`, "99999")
	v.fill(`#f-why`, "broken bottle")
	v.click(`main form button.primary`)
	v.until(`document.querySelector('.field.wrong')`)
	v.look("shop-refund-wrong")
	v.fill(`#f-amount`, "1.00")
	v.click(`main form button.primary`)
	v.until(`document.querySelector('form[method="post"] input[name="key"]')`)
	v.look("shop-refund-ask")
	v.click(`main form[method="post"] button.primary`)
	v.until(fmt.Sprintf(`location.pathname === %q`, sale))
	v.needs(`.toast.good`)
	v.look("shop-refund-done")
}

// watchTheDay sees a sale come in without touching the page.
func (v *visit) watchTheDay() {
	v.login("qian", "jialian-2015")
	v.open("/merchant/sales")
	before := v.text(`#sales tbody tr`)
	v.until(fmt.Sprintf(`document.querySelector('#sales tbody tr')?.innerText !== %q`, before))
	if v.text(`#sales tbody tr`) == "" {
		v.t.Error("the list of sales went away")
	}
}

// apply fills the application in wrong, then right.
func (v *visit) apply(login string) {
	v.open("/merchant/apply")
	v.look("shop-apply")
	v.click(`main form button.primary`)
	v.until(`document.querySelector('.field.wrong')`)
	if n := v.count(`.field.wrong`); n < 10 {
		v.t.Errorf("an empty application has %d wrong fields", n)
	}
	v.look("shop-apply-wrong")
	login = strings.ToLower(login)
	ask[bool](v, `(document.querySelector('#f-form').value = 'micro', true)`)
	for _, f := range [][2]string{{"name", "小满豆浆"}, {"legal", "冯小满"}, {"id_number", "11010519491231002X"}, {"mobile", "13900001111"}, {"shop_zh", "小满豆浆"}, {"shop_en", "Xiaoman Soy Milk"}, {"mcc", "5814"}, {"city", "北京"}, {"address", "东四北大街1号"},
		{"bank", "北京银行"}, {"holder", "冯小满"}, {"account", "6222020200011112222"}, {"person", "冯小满"}, {"login", login}, {"password", "a-bowl-of-soy-milk"}} {
		v.fill("#f-"+f[0], f[1])
	}
	v.click(`main form button.primary`)
	v.at("/login")
	v.login(login, "a-bowl-of-soy-milk")
	v.open("/merchant/status")
	v.look("shop-status-new")
	v.open("/merchant/")
	v.look("shop-today-new")
	for _, s := range v.takeTroubles() { // a form with something wrong is answered 422
		if !strings.Contains(s, "422") {
			v.t.Error(s)
		}
	}
}
