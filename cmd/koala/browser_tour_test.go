package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// What people do on the pages, in a real browser before the real demo.
func TestBrowser(t *testing.T) {
	w := openTown(t)
	all := []screen{{390, "zh"}, {1280, "zh"}, {390, "en"}, {1280, "en"}}
	t.Run("speed", func(t *testing.T) { w.visit(t, all[0]).changeSpeed() })
	t.Run("story", func(t *testing.T) {
		t.Run("lin", func(t *testing.T) {
			t.Parallel()
			w.visit(t, screen{390, "zh"}).wearBand("lin", "dongdan-2015")
			w.visit(t, screen{390, "en"}).goPlain("lin", "dongdan-2015")
		})
		t.Run("newcomer", func(t *testing.T) {
			t.Parallel()
			name, secret := w.newcomer(t, "mei", "13900001111")
			w.visit(t, screen{1280, "en"}).wearBand(name, secret)
			w.visit(t, screen{1280, "zh"}).useKeys(name, secret)
		})
		t.Run("many-cards", func(t *testing.T) {
			t.Parallel()
			name, secret := w.newcomer(t, "yun", "13900002222")
			w.visit(t, screen{390, "en"}).carryCards(name, secret)
		})
		for _, s := range all {
			t.Run("start-"+s.String(), func(t *testing.T) {
				t.Parallel()
				w.visit(t, s).seeStart()
			})
		}
	})
	t.Run("staff", func(t *testing.T) { // after the story: there is something to see
		t.Run("auditor", func(t *testing.T) {
			t.Parallel()
			w.visit(t, screen{1280, "zh"}).audit()
		})
		some := []screen{{390, "en"}, {1280, "zh"}} // English needs more room, and a phone has less
		if os.Getenv(shotsEnv) != "" {
			some = all
		}
		for _, s := range some {
			t.Run("operator-"+s.String(), func(t *testing.T) {
				t.Parallel()
				w.visit(t, s).operate()
			})
			t.Run("wearer-"+s.String(), func(t *testing.T) {
				t.Parallel()
				w.visit(t, s).leafThrough("lin", "dongdan-2015")
			})
		}
	})
}

// changeSpeed turns the city's clock up and back.
func (v *visit) changeSpeed() {
	v.open("/")
	for _, to := range []string{"300", fmt.Sprint(townSpeed)} {
		v.click(fmt.Sprintf(`.speed button[value=%q]`, to))
		v.until(fmt.Sprintf(`document.querySelector('.speed button[value=%q][aria-pressed="true"]')`, to))
	}
}

// seeStart looks at the living city and goes in by a printed login.
func (v *visit) seeStart() {
	v.open("/")
	v.needs(`city-map svg .stops circle[data-id="dongdan"]`, `city-map svg .lines [data-line]`, `.figures live-number[data-key="taps"]`,
		`.speed button[aria-pressed="true"]`, `#feed h2`)
	if n := v.count(`.door`); n < 2 {
		v.t.Errorf("%d doors", n)
	}
	// A train drawn and a figure counted up, with no page load between.
	ask[bool](v, `window.__same = true`)
	before := v.text(`live-number[data-key="taps"]`)
	v.until(`document.querySelector('city-map .trains circle')`)
	v.until(fmt.Sprintf(`document.querySelector('live-number[data-key="taps"]').textContent !== %q`, before))
	v.until(`document.querySelector('#feed .timeline li')`)
	if !ask[bool](v, `window.__same === true`) {
		v.t.Error("the page was loaded again meanwhile")
	}
	v.look("start")

	was, other := v.view.lang, map[string]string{"zh": "en", "en": "zh"}[v.view.lang]
	headline := v.text("h1")
	v.speak(other)
	if v.text("h1") == headline {
		v.t.Errorf("%q in both languages", headline)
	}
	v.speak(was)
	if v.text("h1") != headline || v.where() != "/" {
		v.t.Errorf("back in %s: %q at %s", was, v.text("h1"), v.where())
	}
	v.click(`.door .demo-user:has(input[value="lin"]) button`)
	v.at("/my/")
	v.needs(`#band`, `.top details.who`)
}

// yuanText is an amount as pages write it.
var yuanText = regexp.MustCompile(`¥([0-9\x{2009}]+)\.([0-9]{2})`)

// fenAt reads the last amount that the first match shows.
func (v *visit) fenAt(css string) (fen int) {
	v.t.Helper()
	text := v.text(css)
	m := yuanText.FindAllStringSubmatch(text, -1)
	if m == nil {
		v.picture("lacks")
		v.t.Fatalf("%s at %s: no amount in %s: %q", v.view, v.where(), css, text)
	}
	last := m[len(m)-1]
	if _, err := fmt.Sscan(strings.ReplaceAll(last[1], "\u2009", "")+last[2], &fen); err != nil {
		v.t.Fatal(err)
	}
	return fen
}

// expect fails unless the first match shows an amount.
func (v *visit) expect(css string, fen int) {
	v.t.Helper()
	if got := v.fenAt(css); got != fen {
		v.t.Errorf("%s at %s: %s shows %d fen, want %d", v.view, v.where(), css, got, fen)
	}
}

// wearBand is the whole story of a wearer: add a card, top up, tear two taps
// on purpose, ride from 苹果园 to 东单, read the explanation.
func (v *visit) wearBand(name, password string) {
	v.login(name, password)
	v.at("/my/")
	v.look("band-empty")
	v.addCard()
	v.click(`.done .actions a[href$="/topup"]`)
	v.topUp(50)
	v.click(`.done .actions a.primary`)
	v.at("/my/cards/")
	v.expect(".balance .money", 50_00)

	v.lose()
	// 7: a record update is lost; 9: the card has paid and nobody has heard it.
	v.tearOff("西单", "Xidan", 7, 50_00)          // an entry is free
	v.tearOff("天安门西", "Tian'anmenxi", 9, 47_00) // the next stop: the base fare, once

	v.tapAt("苹果园", "Pingguoyuan", 0)
	v.expect(".result-figures", 47_00)
	v.needs(`.timebar`, `.dialogue li`)
	v.look("tap-in")
	v.open("/my/tap")
	v.look("tap-inside")
	v.tapAt("东单", "Dongdan", 0)
	v.expect(".result-figures", 41_00)
	v.look("tap-out")
	v.readRide()
	v.open("/my/")
	v.until(`document.querySelector('#band .band')`)
	if oled := v.text("#band .oled-big"); oled != "" && !strings.Contains(oled, "41.00") {
		v.t.Errorf("the band shows %q", oled)
	}
}

// addCard writes a card over the air and sees its steps come without a reload.
func (v *visit) addCard() {
	v.t.Helper()
	v.click(`a[href="/my/add"]`)
	v.at("/my/add")
	v.look("add")
	v.click(`.product button[popovertarget]`)
	v.picture("add-dialog")
	v.click(`.dialog:popover-open form button.primary`)
	v.at("/my/orders/")
	ask[bool](v, `window.__same = true`)
	first := ask[int](v, `Number(document.querySelector('#order .steps progress')?.value ?? 0)`)
	v.until(fmt.Sprintf(`(document.querySelector('#order .steps progress')?.value ?? 99) > %d`, first))
	v.picture("order-running")
	v.done("order-issue")
	if n := v.count(`.dialogue li`); n < 10 {
		v.t.Errorf("a card written in %d commands", n)
	}
}

// done waits on an order's page until it says so, without loading it again.
func (v *visit) done(name string) {
	v.t.Helper()
	v.at("/my/orders/")
	ask[bool](v, `window.__same = true`)
	v.until(`document.querySelector('#order .done')`)
	if !ask[bool](v, `window.__same === true`) {
		v.t.Error("the progress page was loaded again")
	}
	if tall := ask[float64](v, `document.querySelector('.done .cardart').getBoundingClientRect().height`); tall < 100 {
		v.t.Errorf("%s: the card on the receipt is %v pixels high", v.view, tall)
	}
	v.picture(name + "-live")
	v.open(v.where()) // what the swap moved is not the page's own layout shift
	v.look(name)
}

// topUp loads a round sum, from the bank first when the wallet is short.
func (v *visit) topUp(yuan int) {
	v.t.Helper()
	v.at("/my/cards/")
	card := v.where()
	if v.fenAt("dl.facts .small") < yuan*100 {
		v.open("/my/wallet")
		v.fill(`form[action="/my/wallet/fund"] input[name="amount"]`, "100")
		v.click(`form[action="/my/wallet/fund"] button.primary`)
		v.until(`location.pathname === '/my/wallet' && document.querySelector('.toast')`)
		v.open(card)
	}
	v.look("topup")
	v.click(fmt.Sprintf(`label.choice:has(input[name="amount"][value="%d"])`, yuan))
	v.click(`form button.primary`)
	v.done("order-topup")
	v.expect(".done h2", yuan*100)
}

// tapAt walks to a station as a person types it and holds the band on; pull is
// the command in which the band leaves, 0 for never.
func (v *visit) tapAt(zh, en string, pull int) {
	v.t.Helper()
	name := map[string]string{"zh": zh, "en": en}[v.view.lang]
	v.open("/my/tap")
	v.fill(`input[name="at"]`, name)
	v.click(`form.find button`)
	v.until(`document.querySelector('.gate .pad-button')`)
	if got := v.text(".gate .huge"); got != name {
		v.t.Errorf("standing at %q, want %q", got, name)
	}
	if pull > 0 {
		v.click(`details.early summary`)
		v.click(`label.choice:has(input[name="early"])`)
		v.do(chromedp.SetValue(chromedp.CSS(`select[name="pull"]`), fmt.Sprint(pull)))
	}
	v.look("tap-gate")
	v.click(`.pad-button`)
	v.at("/my/taps/")
}

// lose asks for a station that is not there.
func (v *visit) lose() {
	v.t.Helper()
	v.open("/my/tap")
	v.fill(`input[name="at"]`, "Atlantis")
	v.click(`form.find button`)
	v.until(`location.search.includes('Atlantis') && document.querySelector('.notice.warn')`)
	v.look("tap-nowhere")
}

// tearOff pulls the band away in the middle of a tap, holds it on again at the
// same gate, and sees that the balance is what one tap leaves.
func (v *visit) tearOff(zh, en string, pull, fen int) {
	v.t.Helper()
	v.tapAt(zh, en, pull)
	if text := v.text(".result-figures"); strings.Contains(text, "¥") {
		v.t.Errorf("%s: a torn tap claims to know the balance: %q", v.view, text)
	}
	v.look("tap-torn")
	v.click(`.result a.primary[href^="/my/tap?at="]`)
	v.click(`.pad-button`)
	v.until(`location.pathname.startsWith('/my/taps/') && document.querySelector('.result a[href^="/my/trips/"]')`)
	v.expect(".result-figures", fen)
	v.look("tap-again")
}

// readRide opens the trip of the tap on the page and reads its explanation.
func (v *visit) readRide() {
	v.t.Helper()
	if v.count(`.dialogue li`) < 9 {
		v.t.Errorf("a tap in %d commands", v.count(`.dialogue li`))
	}
	v.click(`.dialogue li:last-child summary`)
	v.until(`document.querySelector('.dialogue details[open] .bytes code').checkVisibility()`)
	v.click(`.result a[href^="/my/trips/"]`)
	v.at("/my/trips/")
	v.needs(`#trip .explain li:not(.total)`, `#trip .explain li.total`, `#trip .timeline li`, `#trip city-map .route`)
	v.expect(`#trip .explain li.total`, 6_00)
	if n := v.count(`#trip .statement li`); n == 0 {
		v.t.Error("a ride without postings")
	}
	v.look("trip")
}

// leafThrough looks at every page of a wearer.
func (v *visit) leafThrough(name, password string) {
	v.open("/login")
	v.look("login")
	v.login(name, password)
	for _, p := range [][2]string{{"/my/", "band"}, {"/my/trips", "trips"}, {"/my/wallet", "wallet"}, {"/my/tap", "tap"},
		{"/my/tap?at=dongdan", "tap-dongdan"}, {"/my/add", "add-have"}, {"/my/security", "security"}, {"/my/firms", "firms"}, {"/my/lost", "lost"}, {"/my/activity", "activity"}} {
		v.open(p[0])
		v.look(p[1])
	}
	for _, p := range [][3]string{{"/my/", `.cards a.card-link`, "card"}, {"/my/trips", `#trips .timeline a`, "trip-last"}} {
		v.open(p[0])
		v.click(p[1])
		v.until(fmt.Sprintf(`location.pathname !== %q`, p[0]))
		v.look(p[2])
	}
}
