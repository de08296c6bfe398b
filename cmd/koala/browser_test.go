package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"koala/customer"
	"koala/wallet"

	"koala/internal/db"
)

// The environment of the browser tests.
const (
	browserEnv = "KOALA_TEST_BROWSER" // path of a Chromium; without it the tests skip
	shotsEnv   = "KOALA_SHOTS"        // folder for a picture of every page; may be unset
)

// patience bounds every wait for a condition. Nothing is timed by it: it only
// ends a test that waits for what does not come.
const patience = 30 * time.Second

// townSpeed is city seconds per second: enough taps to watch, and a ride of
// a few real seconds stays far from the 4-hour rule.
const townSpeed = 60

// A visit is a person's own browser window: cookies, width and language of
// their own.
type visit struct {
	t    *testing.T
	ctx  context.Context
	base string
	view screen

	mu       sync.Mutex
	requests map[network.RequestID]string
	troubles []string // errors of console, network and content policy
}

// A screen is how a visit looks at the pages.
type screen struct {
	width int64
	lang  string
}

func (s screen) String() string { return fmt.Sprintf("%s-%d", s.lang, s.width) }

// A town is a running demo with one browser before it.
type town struct {
	demo    *demo
	base    string
	browser context.Context
}

// openTown starts the demo as the command does, on a free port, and a browser.
func openTown(t *testing.T) *town {
	t.Helper()
	path := os.Getenv(browserEnv)
	if path == "" {
		t.Skipf("%s does not hold the path of a browser", browserEnv)
	}
	f := demoFlags{houseFlags: houseFlags{data: t.TempDir()}, seed: 1, speed: townSpeed, people: 60}
	ctx, cancel := context.WithCancel(context.Background())
	d, err := f.start(ctx, t.Output())
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	out, said := io.Pipe()
	served := make(chan error, 1)
	go func() {
		err := d.serve(ctx, "127.0.0.1:0", said)
		said.CloseWithError(err)
		served <- err
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("the demo ended: %v", err)
		}
	})
	w := &town{demo: d, base: addressIn(t, out)}
	w.browser = openBrowser(t, path)
	return w
}

// addressIn reads the address the demo prints, and goes on reading.
func addressIn(t *testing.T, out io.Reader) string {
	t.Helper()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, url, found := strings.Cut(lines.Text(), "koala is at "); found {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return strings.TrimSuffix(url, "/")
		}
	}
	t.Fatalf("the demo printed no address: %v", lines.Err())
	return ""
}

func openBrowser(t *testing.T, path string) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true))
	ctx, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, quit := chromedp.NewContext(ctx)
	t.Cleanup(quit)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting %s: %v", path, err)
	}
	return ctx
}

// watchLayout keeps the layout's shifts and what the content policy forbids
// where the test can read them.
const watchLayout = `window.__shift = 0; window.__policy = [];
new PerformanceObserver(l => { for (const e of l.getEntries()) if (!e.hadRecentInput) window.__shift += e.value; }).observe({type: 'layout-shift', buffered: true});
document.addEventListener('securitypolicyviolation', e => window.__policy.push(e.violatedDirective + ' ' + e.blockedURI));`

// visit opens a window of its own.
func (w *town) visit(t *testing.T, s screen) *visit {
	t.Helper()
	ctx, leave := chromedp.NewContext(w.browser, chromedp.WithNewBrowserContext())
	v := &visit{t: t, ctx: ctx, base: w.base, view: s, requests: map[network.RequestID]string{}}
	t.Cleanup(leave)
	if err := chromedp.Listen(ctx, v.hear); err != nil {
		t.Fatal(err)
	}
	v.do(chromedp.EmulateViewport(s.width, 844))
	if _, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watchLayout}); err != nil {
		t.Fatal(err)
	}
	v.open("/login")
	v.speak(s.lang)
	t.Cleanup(v.calm)
	return v
}

// hear collects what went wrong in the window.
func (v *visit) hear(ev any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch e := ev.(type) {
	case *network.EventRequestWillBeSent:
		v.requests[e.RequestID] = e.Request.Method + " " + e.Request.URL
	case *network.EventResponseReceived:
		if e.Response.Status >= 400 {
			v.troubles = append(v.troubles, fmt.Sprintf("%s answered %d", v.requests[e.RequestID], e.Response.Status))
		}
	case *network.EventLoadingFailed:
		if !e.Canceled && e.ErrorText != "net::ERR_ABORTED" { // what a person leaves is aborted
			v.troubles = append(v.troubles, v.requests[e.RequestID]+": "+e.ErrorText)
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			v.troubles = append(v.troubles, "log: "+e.Entry.Text+" "+e.Entry.URL)
		}
	case *runtime.EventConsoleAPICalled:
		said, _ := json.Marshal(e.Args)
		v.troubles = append(v.troubles, fmt.Sprintf("console.%s: %s", e.Type, said))
	case *runtime.EventExceptionThrown:
		v.troubles = append(v.troubles, fmt.Sprintf("exception: %s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception))
	}
}

// calm fails the test if anything went wrong in the window.
func (v *visit) calm() {
	for _, s := range v.takeTroubles() {
		v.t.Errorf("%s: %s", v.view, s)
	}
}

func (v *visit) takeTroubles() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := v.troubles
	v.troubles = nil
	return out
}

// do runs steps; each has patience.
func (v *visit) do(steps ...chromedp.Action[chromedp.Void]) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		v.t.Fatalf("%s at %s: %v", v.view, v.where(), err)
	}
}

func (v *visit) open(path string) {
	v.t.Helper()
	v.do(chromedp.Navigate(v.base + path))
}

// click scrolls to the first match as a person does, to the middle of the
// window, and presses it there.
func (v *visit) click(css string) {
	v.t.Helper()
	v.until(fmt.Sprintf(`document.querySelector(%q)?.checkVisibility()`, css))
	ask[bool](v, fmt.Sprintf(`(document.querySelector(%q).scrollIntoView({block: 'center', behavior: 'instant'}), true)`, css))
	at := ask[struct{ X, Y float64 }](v, fmt.Sprintf(`(() => { const r = document.querySelector(%q).getBoundingClientRect(); return {X: r.left + r.width / 2, Y: r.top + r.height / 2}; })()`, css))
	if !ask[bool](v, fmt.Sprintf(`(() => { const e = document.querySelector(%q), hit = document.elementFromPoint(%f, %f); return e.contains(hit) || Boolean(hit?.contains(e)); })()`, css, at.X, at.Y)) {
		v.picture("covered")
		v.t.Errorf("%s at %s: something covers %s", v.view, v.where(), css)
	}
	v.do(chromedp.MouseClickXY(at.X, at.Y))
}

// fill types text over what the field holds.
func (v *visit) fill(css, text string) {
	v.t.Helper()
	v.click(css)
	ask[bool](v, fmt.Sprintf(`(document.querySelector(%q).select(), true)`, css))
	v.do(chromedp.SendKeys(chromedp.CSS(css), text))
	if got := ask[string](v, fmt.Sprintf(`document.querySelector(%q).value`, css)); got != text {
		v.t.Fatalf("%s at %s: %s holds %q", v.view, v.where(), css, got)
	}
}

// speak switches to a language where the page speaks another.
func (v *visit) speak(lang string) {
	v.t.Helper()
	if !strings.HasPrefix(ask[string](v, `document.documentElement.lang`), lang) {
		v.click(fmt.Sprintf(`button.lang[value=%q]`, lang))
		v.until(fmt.Sprintf(`document.documentElement.lang.startsWith(%q)`, lang))
	}
}

// where is the path the window shows.
func (v *visit) where() string { return ask[string](v, `location.pathname + location.search`) }

// ask evaluates an expression in the page.
func ask[T any](v *visit, js string) T {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.ctx, patience)
	defer cancel()
	got, err := chromedp.Run(ctx, chromedp.Evaluate[T](js, chromedp.EvalAwaitPromise))
	if err != nil {
		v.t.Errorf("%s: %s: %v", v.view, js, err)
	}
	return got
}

// until waits for a condition; pages may come and go meanwhile.
func (v *visit) until(js string) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.ctx, patience)
	defer cancel()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`Boolean(document.readyState === 'complete' && (`+js+`))`))
		if ok && err == nil {
			return
		}
		select {
		case <-ctx.Done():
			v.picture("stuck")
			v.t.Fatalf("%s at %s: waited in vain for %s (%v)\n%s", v.view, v.where(), js, err, v.mainText())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// at waits until the window shows a path that begins so.
func (v *visit) at(path string) {
	v.t.Helper()
	v.until(fmt.Sprintf(`location.pathname.startsWith(%q)`, path))
}

// count is how many elements match.
func (v *visit) count(css string) int {
	v.t.Helper()
	return ask[int](v, fmt.Sprintf(`document.querySelectorAll(%q).length`, css))
}

// text is what the first match shows.
func (v *visit) text(css string) string {
	v.t.Helper()
	return ask[string](v, fmt.Sprintf(`(document.querySelector(%q)?.innerText ?? '')`, css))
}

func (v *visit) mainText() string { return v.text("main") }

// needs fails unless every selector matches something.
func (v *visit) needs(list ...string) {
	v.t.Helper()
	for _, css := range list {
		if v.count(css) == 0 {
			v.picture("lacks")
			v.t.Errorf("%s at %s: nothing matches %s", v.view, v.where(), css)
		}
	}
}

// look checks what every page must be, and keeps a picture of it.
func (v *visit) look(name string) {
	v.t.Helper()
	v.until(`true`)
	at := v.where()
	if wide := ask[int64](v, `document.documentElement.scrollWidth`); wide > v.view.width {
		v.t.Errorf("%s at %s: %d pixels wide", v.view, at, wide)
	}
	if shift := ask[float64](v, `window.__shift ?? 0`); shift > 0.1 { // "good" begins below 0.1
		v.t.Errorf("%s at %s: the layout shifted by %.3f", v.view, at, shift)
	}
	if broken := ask[[]string](v, `window.__policy ?? []`); len(broken) > 0 {
		v.t.Errorf("%s at %s: against the content policy: %v", v.view, at, broken)
	}
	if lang := ask[string](v, `document.documentElement.lang`); !strings.HasPrefix(lang, v.view.lang) {
		v.t.Errorf("%s at %s: the page says it is %q", v.view, at, lang)
	}
	if v.count("h1, main h2") == 0 || strings.Contains(v.mainText(), "%!") {
		v.t.Errorf("%s at %s: no heading, or a phrase with holes:\n%s", v.view, at, v.mainText())
	}
	if unnamed := ask[[]string](v, nameless); len(unnamed) > 0 {
		v.t.Errorf("%s at %s: controls without a name: %v", v.view, at, unnamed)
	}
	for _, text := range ask[[]string](v, strange[v.view.lang]) {
		if v.view.lang != "en" || !namesOnly(text) {
			v.t.Errorf("%s at %s: not in the page's language: %q", v.view, at, text)
		}
	}
	v.picture(name)
}

// strange lists texts that are not in the page's language. Field values of a
// card's commands bear both; posting texts in tables are stored in one.
var strange = map[string]string{
	"en": `(() => { const out = [], w = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
		while (w.nextNode()) { const n = w.currentNode, p = n.parentElement;
			if (/\p{Script=Han}/u.test(n.data) && !p.closest('[lang=zh], script, style, .face, .who, .dialogue dl')) out.push(n.data.trim().slice(0, 80)); }
		return [...new Set(out)]; })()`,
	"zh": `(() => { const out = [], w = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
		while (w.nextNode()) { const n = w.currentNode, p = n.parentElement;
			if (/[a-z]{3,} [a-z]{2,} [a-z]{2,}/.test(n.data) && !p.closest('[lang=en], script, style, code, .mono, td')) out.push(n.data.trim().slice(0, 80)); }
		return [...new Set(out)]; })()`,
}

// residents are what the city calls its people.
var residents = regexp.MustCompile(`居民\d+`)

// namesOnly tells whether a text is foreign by the names of people alone.
func namesOnly(text string) bool {
	for _, l := range demoLogins {
		text = strings.ReplaceAll(text, l.Shown, "")
	}
	for _, l := range shopLogins {
		text = strings.ReplaceAll(text, l.Shown, "")
	}
	text = residents.ReplaceAllString(text, "")
	return !strings.ContainsFunc(text, func(r rune) bool { return unicode.Is(unicode.Han, r) })
}

// nameless lists controls that a screen reader could not name.
const nameless = `[...document.querySelectorAll('a[href], button, input:not([type=hidden]), select')].filter(e => e.checkVisibility() &&
	!(e.innerText?.trim() || e.getAttribute('aria-label') || e.labels?.length || e.title || e.querySelector('svg[aria-label], title'))).map(e => e.outerHTML.slice(0, 120))`

// picture keeps a picture of the whole page when a folder is given.
func (v *visit) picture(name string) {
	dir := os.Getenv(shotsEnv)
	if dir == "" {
		return
	}
	png, err := chromedp.Run(v.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s.png", name, v.view)), png, 0o600)
	}
	if err != nil {
		v.t.Logf("picture of %s: %v", name, err)
	}
}

// login goes in by the login page.
func (v *visit) login(name, password string) {
	v.t.Helper()
	v.open("/login")
	v.fill(`input[name="name"]`, name)
	v.fill(`.login form input[name="password"][type="password"]`, password)
	v.click(`.login button.primary`)
	v.until(`location.pathname !== '/login'`)
}

// newcomer registers one more wearer with money in the wallet.
func (w *town) newcomer(t *testing.T, login, phone string) (name, password string) {
	t.Helper()
	const secret = "a-band-of-my-own"
	h := w.demo.house
	c, err := register(t.Context(), h, customer.Application{Login: login, Name: "Mei", Phone: phone, Secret: secret, Roles: []customer.Role{customer.Wearer}})
	if err == nil {
		err = h.Store.Write(t.Context(), func(tx *db.Tx) error {
			_, err := wallet.Fund(tx, "test:"+login, c.ID, demoFund)
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return login, secret
}
