package ops_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"koala/web"
)

func TestZZShot(t *testing.T) {
	out := os.Getenv("SHOT")
	if out == "" {
		t.Skip()
	}
	h := open(t)
	h.story()
	mei := h.login("mei", web.EN)
	_ = mei.post("/ops/books/seal", map[string][]string{"day": {"2015-09-16"}, "why": {"end of the day"}})
	if os.Getenv("SHOTDENY") != "" {
		_ = mei.post(cardAt(h)+"/deny", map[string][]string{"why": {"reported lost at the desk"}})
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.ExecPath("/usr/bin/chromium"), chromedp.UserDataDir(t.TempDir()))
	actx, cancel := chromedp.NewExecAllocator(context.Background(), opts...)
	defer cancel()
	bctx, cancel2 := chromedp.NewContext(actx)
	defer cancel2()
	if err := chromedp.Do(bctx, chromedp.Navigate(h.server.URL+"/login"), chromedp.SendKeys(`input[name="name"]`, "mei"), chromedp.SendKeys(`input[name="password"]`, secret), chromedp.Click(`button.primary`), chromedp.Sleep(300*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if os.Getenv("LIVE") != "" {
		must := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		must(chromedp.Do(bctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(h.server.URL+"/ops/orders"), chromedp.Sleep(500*time.Millisecond)))
		cell := chromedp.Evaluate[string](`document.querySelector('#orders tbody tr .chip').textContent+' '+document.querySelectorAll('#orders tbody tr').length+' f='+document.querySelectorAll('form.filter').length`)
		a, err := chromedp.Run(bctx, cell)
		must(err)
		h.work()
		h.kit.Hub.Publish("ops", "order.ended", map[string]string{})
		must(chromedp.Do(bctx, chromedp.Sleep(1500*time.Millisecond)))
		b, err := chromedp.Run(bctx, cell)
		must(err)
		t.Logf("before %q after %q", a, b)
		must(chromedp.Do(bctx, chromedp.Navigate(h.server.URL+cardAt(h)), chromedp.Click(`button[popovertarget="ask-deny"]`), chromedp.Sleep(400*time.Millisecond)))
		buf, err := chromedp.Run(bctx, chromedp.CaptureScreenshot())
		must(err)
		os.WriteFile(out+"/dialog.png", buf, 0o644)
		must(chromedp.Do(bctx, chromedp.Navigate(h.server.URL+"/ops/orders/"+h.orders[0]), chromedp.Sleep(200*time.Millisecond)))
		_, err = chromedp.Run(bctx, chromedp.Evaluate[bool](`document.querySelectorAll('.dialogue details').forEach((d,i)=>{d.open=i<4}); scrollTo(0,700); true`))
		must(err)
		buf, err = chromedp.Run(bctx, chromedp.FullScreenshot(100))
		must(err)
		os.WriteFile(out+"/talk.png", buf, 0o644)
		must(chromedp.Do(bctx, chromedp.EmulateViewport(390, 844), chromedp.Navigate(h.server.URL+"/ops/journeys/"+h.journeys()[0]+"?station=dongdan"), chromedp.Click(`button[popovertarget="ask-repair"]`), chromedp.Sleep(400*time.Millisecond)))
		buf, err = chromedp.Run(bctx, chromedp.CaptureScreenshot())
		must(err)
		os.WriteFile(out+"/dialog2.png", buf, 0o644)
		return
	}
	only := os.Getenv("ONLY")
	for _, mode := range strings.Split(os.Getenv("MODES"), ",") { // zh-1280-light
		parts := strings.Split(mode, "-")
		var w int64
		fmt.Sscan(parts[1], &w)
		must := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		must(chromedp.Do(bctx, chromedp.EmulateViewport(w, 900), chromedp.Navigate(h.server.URL+"/ops/keys")))
		_, err := chromedp.Run(bctx, chromedp.Evaluate[string](`(async()=>{await fetch('/lang',{method:'POST',body:new URLSearchParams({to:'`+parts[0]+`',back:'/ops/keys'})});await fetch('/theme',{method:'POST',body:new URLSearchParams({to:'`+parts[2]+`',back:'/ops/keys'})});return 'x'})()`, chromedp.EvalAwaitPromise))
		must(err)
		for i, path := range every(h) {
			name := strings.NewReplacer("/", "_", "?", "_", "=", "_", "&", "_", ":", "_").Replace(path)
			if only != "" && !strings.Contains(path, only) {
				continue
			}
			must(chromedp.Do(bctx, chromedp.Navigate(h.server.URL+path), chromedp.Sleep(150*time.Millisecond)))
			over, err := chromedp.Run(bctx, chromedp.Evaluate[float64](`document.documentElement.scrollWidth`))
			must(err)
			buf, err := chromedp.Run(bctx, chromedp.FullScreenshot(100))
			must(err)
			if int64(over) > w {
				t.Logf("%s %s overflows: %v", mode, path, over)
			}
			os.WriteFile(fmt.Sprintf("%s/%s_%02d%s.png", out, mode, i, name[:min(len(name), 50)]), buf, 0o644)
		}
	}
}
