package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// What people do on the pages, in a real browser before the real demo.
func TestBrowser(t *testing.T) {
	w := openTown(t)
	t.Run("start", func(t *testing.T) {
		for _, s := range []screen{{390, "zh"}, {1280, "zh"}, {390, "en"}, {1280, "en"}} {
			t.Run(s.String(), func(t *testing.T) { w.visit(t, s).seeStart() })
		}
	})
	t.Run("band", func(t *testing.T) {
		w.visit(t, screen{390, "zh"}).wearBand("lin", "dongdan-2015")
		name, secret := w.newcomer(t, "mei", "13900001111")
		w.visit(t, screen{1280, "en"}).wearBand(name, secret)
	})
	t.Run("operations", func(t *testing.T) {
		for _, s := range []screen{{390, "zh"}, {1280, "en"}} {
			t.Run(s.String(), func(t *testing.T) { w.visit(t, s).operate() })
		}
	})
	t.Run("auditor", func(t *testing.T) { w.visit(t, screen{1280, "zh"}).audit() })
	t.Run("keyboard", func(t *testing.T) { w.visit(t, screen{1280, "en"}).useKeys() })
	t.Run("no script", func(t *testing.T) { w.visit(t, screen{390, "en"}).goPlain() })
	t.Run("every page", func(t *testing.T) {
		for _, s := range []screen{{390, "en"}, {1280, "zh"}} {
			t.Run(s.String(), func(t *testing.T) { w.visit(t, s).seeAll() })
		}
	})
}

// seeStart looks at the living city and goes in by a printed login.
func (v *visit) seeStart() {
	v.open("/")
	v.needs(`city-map svg .stops circle[data-id="dongdan"]`, `city-map svg .lines [data-line]`, `.figures live-number[data-key="taps"]`,
		`.speed button[aria-pressed="true"]`, `#feed h2`)
	if n := v.count(`.door`); n < 2 {
		v.t.Errorf("%d doors", n)
	}
	v.click(`.speed button[value="300"]`)
	v.until(`document.querySelector('.speed button[value="300"][aria-pressed="true"]')`)
	// A train or a tap drawn, and a figure counted up, with no page load between.
	ask[bool](v, `window.__same = true`)
	before := v.text(`live-number[data-key="entries"]`)
	v.until(`document.querySelector('city-map .trains circle')`)
	v.until(fmt.Sprintf(`document.querySelector('live-number[data-key="entries"]').textContent !== %q`, before))
	v.until(`document.querySelector('#feed .timeline li')`)
	if !ask[bool](v, `window.__same === true`) {
		v.t.Error("the page was loaded again meanwhile")
	}
	v.look("start")

	v.click(`.speed button[value="10"]`)
	v.until(`document.querySelector('.speed button[value="10"][aria-pressed="true"]')`)
	was, other := v.view.lang, map[string]string{"zh": "en", "en": "zh"}[v.view.lang]
	headline := v.text("h1")
	v.speak(other)
	v.speak(was)
	if v.text("h1") != headline || v.where() != "/" {
		v.t.Errorf("back in %s: %q at %s", was, v.text("h1"), v.where())
	}
	v.click(`.door .demo-user:has(input[value="lin"]) button`)
	v.at("/my/")
	v.needs(`#band`, `.top details.who`)
}

// yuan reads an amount in the text, in fen.
var yuanText = regexp.MustCompile(`¥([0-9\x{2009}]+)\.([0-9]{2})`)

func (v *visit) fenIn(text string) (fen int) {
	v.t.Helper()
	m := yuanText.FindStringSubmatch(text)
	if m == nil {
		v.t.Fatalf("no amount in %q", text)
	}
	if _, err := fmt.Sscanf(strings.ReplaceAll(m[1], "\u2009", "")+m[2], "%d", &fen); err != nil {
		v.t.Fatal(err)
	}
	return fen
}

// band is the whole story of a wearer: add a card, top up, tap in, tear a tap
// on purpose, tap out, read the explanation.
func (v *visit) wearBand(name, password string) {
	v.login(name, password)
	v.at("/my/")
	v.look("band-empty")
	v.addCard()
	v.click(`.done .actions a[href$="/topup"]`)
	v.topUp(50)
	v.look("order-topup")
	v.click(`.done .actions a.primary`)
	v.at("/my/cards/")
	if got := v.fenIn(v.text(".balance .money")); got != 50_00 {
		v.t.Fatalf("%d fen on the card after the top-up", got)
	}
	v.look("card")

	v.tearOff()
	entry := v.tapAt("苹果园", "Pingguoyuan", 0)
	if got := v.fenIn(v.text(".result-figures")); got != 50_00 {
		v.t.Errorf("%d fen on the card after the entry", got)
	}
	v.needs(`.result.good, .result.info, .result`, `.timebar`, `.dialogue li`)
	v.look("tap-in")
	_ = entry
	v.open("/my/tap")
	v.look("tap-inside")
	v.tapAt("东单", "Dongdan", 0)
	v.look("tap-out")
	v.readRide()
	for _, p := range [][2]string{{"/my/", "band"}, {"/my/trips", "trips"}, {"/my/wallet", "wallet"}, {"/my/tap", "tap"}, {"/my/add", "add-have"}} {
		v.open(p[0])
		v.look(p[1])
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
	v.until(`document.querySelector('#order .steps progress')`)
	first := ask[int](v, `Number(document.querySelector('#order .steps progress')?.value ?? 0)`)
	v.until(fmt.Sprintf(`(document.querySelector('#order .steps progress')?.value ?? 99) > %d`, first))
	v.picture("order-running")
	v.until(`document.querySelector('#order .done')`)
	if !ask[bool](v, `window.__same === true`) {
		v.t.Error("the progress page was loaded again")
	}
	if n := v.count(`.dialogue li`); n < 10 {
		v.t.Errorf("a card written in %d commands", n)
	}
	v.look("order-issue")
}

// topUp loads a round sum, from the bank first when the wallet is short.
func (v *visit) topUp(yuan int) {
	v.t.Helper()
	v.at("/my/cards/")
	card := v.where()
	left := v.fenIn(v.text("dl.facts dd" + " .small"))
	if left < yuan*100 {
		v.open("/my/wallet")
		v.fill(`form[action="/my/wallet/fund"] input[name="amount"]`, "100")
		v.click(`form[action="/my/wallet/fund"] button.primary`)
		v.until(fmt.Sprintf(`location.pathname === '/my/wallet' && document.querySelector('.toast')`))
		v.open(card)
	}
	v.look("topup")
	v.click(fmt.Sprintf(`label.choice:has(input[name="amount"][value="%d"])`, yuan))
	v.click(`form button.primary`)
	v.at("/my/orders/")
	v.until(`document.querySelector('#order .done')`)
	if got := v.fenIn(v.text(".done h2")); got != yuan*100 {
		v.t.Errorf("the receipt says %d fen", got)
	}
}

// tap walks to a station as a person types it and holds the band on; pull is
// the command in which the band leaves, 0 for never.
func (v *visit) tapAt(zh, en string, pull int) string {
	v.t.Helper()
	v.open("/my/tap")
	v.fill(`input[name="at"]`, map[string]string{"zh": zh, "en": en}[v.view.lang])
	v.click(`form.find button`)
	v.until(`document.querySelector('.gate .pad-button')`)
	if v.view.lang == "zh" && v.text(".gate .huge") != zh {
		v.t.Errorf("standing at %q, want %q", v.text(".gate .huge"), zh)
	}
	if pull > 0 {
		v.click(`details.early summary`)
		v.click(`label.choice:has(input[name="early"])`)
		v.do()
		ask[bool](v, fmt.Sprintf(`(document.querySelector('select[name="pull"]').value = "%d", true)`, pull))
		v.picture("tap-early")
	} else {
		v.picture("tap-gate")
	}
	v.click(`.pad-button`)
	v.at("/my/taps/")
	return v.text(".result .huge")
}

// tear pulls the band away in the middle, sees that nothing was charged, and
// finishes at the same gate.
func (v *visit) tearOff() {
	v.t.Helper()
	v.tapAt("西单", "Xidan", 7)
	v.look("tap-torn")
	if v.count(`.result a.primary[href^="/my/tap?at="]`) == 0 {
		v.t.Fatalf("not torn: %s", v.text(".result"))
	}
	v.click(`.result a.primary[href^="/my/tap?at="]`)
	v.until(`document.querySelector('.pad-button')`)
	v.click(`.pad-button`)
	v.at("/my/taps/")
	if got := v.fenIn(v.text(".result-figures")); got != 50_00 {
		v.t.Errorf("%d fen after a torn entry and its second try; an entry is free", got)
	}
	v.look("tap-again")

	// Out at the next station, torn too: the fare is taken once.
	v.tapAt("天安门西", "Tiananmen West", 8)
	v.look("tap-out-torn")
	v.click(`.result a.primary[href^="/my/tap?at="]`)
	v.until(`document.querySelector('.pad-button')`)
	v.click(`.pad-button`)
	v.at("/my/taps/")
	v.look("tap-out-again")
	balance := v.fenIn(v.text(".result-figures div:last-child, .result-figures"))
	v.t.Log("after the torn ride:", balance, v.text(".result-figures"))
}

// ride opens the trip of the tap on the page and reads its explanation.
func (v *visit) readRide() {
	v.t.Helper()
	v.until(`document.querySelector('.result a[href^="/my/trips/"]')`)
	v.click(`.result a[href^="/my/trips/"]`)
	v.at("/my/trips/")
	v.needs(`#trip .explain li.total`, `#trip .timeline li`, `#trip .statement li`, `#trip city-map`)
	v.look("trip")
	v.t.Log(v.mainText())
}
