package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// carryCards is the story of many cards in one band: e-cash over the air, a
// purchase without a line and what became of it, lunch, a door, a coupon, a
// band that locks, is lost, found, lost again and replaced.
func (v *visit) carryCards(name, password string) {
	v.login(name, password)
	v.at("/my/")
	v.eat()
	v.addOne("cash")
	v.click(`.done .actions a[href$="/topup"]`)
	v.topUp(50)
	v.payAtTill()
	v.addOne("door")
	v.visitReader("kesi.lobby", "door", "")
	v.addOne("coupon")
	v.visitReader("maixiao.coupon", "coupon", "30")
	if left := v.text(".slip"); left == "" {
		v.t.Error("a redemption without a slip")
	}
	v.lockBand()
	v.loseBand()
}

// addOne adds the first card of a drawing that the catalogue offers.
func (v *visit) addOne(art string) {
	v.t.Helper()
	v.open("/my/add")
	v.look("add-" + art)
	v.click(fmt.Sprintf(`.product:has(.cardart.%s) button[popovertarget]`, art))
	v.click(`.dialog:popover-open form button.primary`)
	v.done("order-" + art)
}

// visitReader holds the band to a reader of a shop or a site.
func (v *visit) visitReader(id, name, bill string) {
	v.t.Helper()
	v.open("/my/tap")
	v.look("tap-all")
	v.click(fmt.Sprintf(`a[href="/my/tap?at=%s"]`, id))
	v.until(`document.querySelector('.gate .pad-button')`)
	if bill != "" {
		v.fill(`input[name="other"]`, bill)
	}
	v.look("at-" + name)
	v.click(`.pad-button`)
	v.at("/my/taps/")
	v.needs(`.result.good`, `.dialogue li`, `.timebar`)
	v.look("did-" + name)
}

// eat adds the canteen's card, loads it and buys what is chosen already: the
// first dish of the meal of that hour.
func (v *visit) eat() {
	v.t.Helper()
	v.addOne("canteen")
	v.click(`.done .actions a[href$="/topup"]`)
	v.topUp(20)
	v.mealtime()
	v.look("at-canteen")
	v.click(`.pad-button`)
	v.at("/my/taps/")
	v.needs(`.result.good`, `.dialogue li`)
	if said := v.mainText(); !strings.Contains(said, "Enjoy your meal") && !strings.Contains(said, "请用餐") {
		v.t.Errorf("no meal was served:\n%s", said)
	}
	v.look("did-eat")
	v.open("/my/")
	v.click(`.cards a.card-link:has(.cardart.canteen)`)
	v.at("/my/cards/")
	if left := v.fenAt(".balance .money"); left >= 20_00 {
		v.t.Errorf("%d fen are left of 20 yuan after a meal", left)
	}
}

// mealtime goes to the canteen's till and waits there until it offers dishes:
// the longest pause of a city's day is two hours.
func (v *visit) mealtime() {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.ctx, 2*time.Hour/townSpeed+patience)
	defer cancel()
	for ctx.Err() == nil {
		v.open("/my/tap?at=kesi.canteen")
		v.until(`document.querySelector('.gate .pad-button')`)
		if v.count(`input[name="dish"]`) > 0 {
			return
		}
		v.needs(`.notice`) // it says that no meal is served
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	v.t.Fatalf("%s: the canteen never served a meal", v.view)
}

// payAtTill buys for 12 yuan and follows the payment to the books.
func (v *visit) payAtTill() {
	v.t.Helper()
	v.open("/my/tap?at=haolin.till")
	v.click(`label.choice:has(input[name="amount"][value="12.00"])`)
	v.look("at-till")
	v.click(`.pad-button`)
	v.at("/my/taps/")
	v.needs(`.result.good`, `.slip`, `.dialogue li`, `.statement .chip.good`)
	v.expect(".result-figures", 38_00)
	v.look("did-pay")
	v.click(`.result a[href^="/my/uses/"]`)
	v.at("/my/uses/")
	v.needs(`#use .chip.good`, `#use .timeline li`, `#use .statement li`, `#use .fields dt`, `#use .dialogue li`)
	v.look("payment")
	v.open("/my/")
	v.click(`.cards a.card-link:has(.cardart.cash)`)
	v.at("/my/cards/")
	v.expect(".balance .money", 38_00)
	v.needs(`.timeline a[href^="/my/uses/"]`)
	v.look("card-cash")
}

// lockBand gives the band a passcode, sees a locked band refused and opens it
// by the keys on the page.
func (v *visit) lockBand() {
	v.t.Helper()
	v.open("/my/security")
	v.look("security")
	v.fill(`form[action="/my/security/passcode"] input[name="code"]`, "2468")
	v.fill(`form[action="/my/security/passcode"] input[name="again"]`, "2468")
	v.click(`form[action="/my/security/passcode"] button.primary`)
	v.until(`document.querySelector('.toast.good')`)
	for _, act := range []string{"off", "on"} {
		v.open("/my/")
		v.click(fmt.Sprintf(`form[action="/my/band/%s"] button`, act))
		v.until(`document.querySelector('.toast.good')`)
	}
	v.look("band-locked")
	v.open("/my/tap?at=haolin.till")
	v.click(`.pad-button`)
	v.at("/my/taps/")
	v.needs(`.result.bad`)
	v.look("did-locked")
	v.open("/my/")
	v.click(`button[popovertarget="unlock"]`)
	v.until(`document.querySelector('#unlock:popover-open .keys')`)
	v.picture("unlock")
	for _, digit := range []int{2, 4, 6, 8} {
		v.click(fmt.Sprintf(`#unlock .keys button:nth-child(%d)`, digit))
	}
	v.click(`#unlock form button.primary`)
	v.until(`document.querySelector('.toast.good')`)
	if v.count(`button[popovertarget="unlock"]`) != 0 {
		v.t.Error("the band is still locked")
	}
}

// loseBand reports the band lost, finds it, loses it again and moves on.
func (v *visit) loseBand() {
	v.t.Helper()
	report := func() {
		v.open("/my/lost")
		v.look("lost")
		v.click(`button[popovertarget="report"]`)
		v.click(`#report form button.danger`)
		v.until(`document.querySelector('#loss .lost-card')`)
		v.look("loss")
	}
	report()
	v.open("/my/")
	v.look("band-lost")
	v.open("/my/lost")
	v.click(`button[popovertarget="found"]`)
	v.click(`#found form button.primary`)
	v.until(`document.querySelector('button[popovertarget="report"]')`)
	report()
	v.click(`button[popovertarget="move"]`)
	v.click(`#move form button.primary`)
	v.until(`document.querySelectorAll('#loss .lost-card .chip.good').length === document.querySelectorAll('#loss .lost-card').length`)
	v.open(v.where())
	v.look("loss-moved")
	v.open("/my/")
	v.look("band-new")
	if n := v.count(`.cards a.card-link`); n != 4 {
		v.t.Errorf("%d cards in the new band", n)
	}
	if faded := v.count(`.cards .cardart.off`); faded != 0 || strings.Contains(v.text(".cards"), "suspended") {
		v.t.Errorf("%d cards of the new band do not work", faded)
	}
}
