package merchant_test

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
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
	"koala/switching"
	"koala/terminal/unionpay"
	"koala/web"
	"koala/web/merchant/shell"
)

var (
	ctx    = context.Background()
	first  = time.Date(2015, 9, 14, 9, 0, 0, 0, calendar.Beijing)
	secret = "eucalyptus"
)

// A house is a real one with the shops of the market in it: jialian belongs to
// the people of these tests.
type house struct {
	*testing.T
	now    *clock.Virtual
	h      *app.House
	m      *market.Market
	server *httptest.Server
	shop   *market.Shop
	rrns   []string // of sales
}

func open(t *testing.T) *house {
	t.Helper()
	primes, err := os.ReadFile("../../city/primes.txt")
	if err != nil {
		t.Fatal(err)
	}
	h := &house{T: t, now: clock.NewVirtual(first)}
	h.m, err = market.New(market.Config{Clock: h.now, Rand: street.Chance(1, clock.Random), Hosts: true})
	h.must(err)
	h.h, err = app.New(ctx, app.Config{Data: filepath.Join(t.TempDir(), "house"), Clock: h.now, Rand: clock.Random(1), Inline: true, Primes: primes, Peers: h.m.Peers()})
	h.must(err)
	t.Cleanup(func() { h.h.Close() })
	h.h.Desk.Cost = 1
	h.m.Move(h.h, nil)
	h.must(h.m.Open(ctx))
	for _, s := range h.m.Shops() {
		if s.ID == "jialian" {
			h.shop = s
		}
	}
	for _, p := range []struct {
		login string
		role  shell.Role
	}{{"qian", shell.Owner}, {"sun", shell.Manager}, {"li", shell.Cashier}, {"zhou", shell.Accountant}} {
		h.hire(p.login, h.shop.Merchant, p.role)
	}
	kit, err := h.h.NewKit(ctx, h.now.Now, nil)
	h.must(err)
	h.server = httptest.NewServer(h.h.Handler(kit, app.Pages{}))
	t.Cleanup(h.server.Close)
	return h
}

func (h *house) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *house) hire(login, merchant string, role shell.Role) customer.ID {
	h.Helper()
	c, err := h.h.Desk.Register(ctx, customer.Application{Login: login, Name: "员工" + login, Phone: "13800138000", Secret: secret, Roles: []customer.Role{customer.Trader}})
	h.must(err)
	if merchant != "" {
		h.do(func(tx *db.Tx) error { return shell.Hire(tx, c.ID, merchant, role) })
	}
	return c.ID
}

func (h *house) do(f func(*db.Tx) error) {
	h.Helper()
	h.must(h.h.Store.Write(ctx, f))
}

func (h *house) read(f func(*db.Query) error) {
	h.Helper()
	h.must(h.h.Store.Read(ctx, f))
}

// sell takes a card at a till and gives the reference number.
func (h *house) sell(till string, n int, fen uint64) string {
	h.Helper()
	h.now.Advance(17 * time.Minute)
	c := h.m.Institutions()[n%3].Cards[n]
	o := market.Order{Order: unionpay.Order{Kind: unionpay.Sale, Fen: fen, Card: unionpay.Card{Track2: c.Track2}}, PIN: c.PIN, Signed: picture}
	out, err := h.m.Do(ctx, till, o)
	if err == nil && !out.Approved { // its keys were two days old: it signs on and tries again
		out, err = h.m.Do(ctx, till, o)
	}
	if err != nil || out.Err != nil || !out.Approved {
		h.Fatalf("sale %d at %s, %v: %v, %v, %v", len(h.rrns), till, h.now.Now(), out.Words, out.Err, err)
	}
	rrn := out.Get(37)
	h.rrns = append(h.rrns, rrn)
	return rrn
}

// picture is a signature.
var picture = func() []byte {
	var out bytes.Buffer
	if err := png.Encode(&out, image.NewGray(image.Rect(0, 0, 60, 20))); err != nil {
		panic(err)
	}
	return out.Bytes()
}()

// days lets nights pass.
func (h *house) days(n int) {
	h.Helper()
	for range n {
		for _, t := range h.m.Tills() {
			if _, _, err := h.m.Settle(ctx, t.ID); err != nil {
				h.Fatal(err)
			}
		}
		h.now.Set(calendar.Of(h.now.Now(), calendar.Beijing).AddDays(1).Start(calendar.Beijing).Add(9 * time.Hour))
		h.must(h.h.Tick(ctx))
	}
}

// story is three days of sales, a refund at the counter, and a dispute.
func (h *house) story() {
	h.Helper()
	for day := range 3 {
		for n := range 6 {
			h.sell(fmt.Sprintf("jialian.%d", n%2+1), day*7+n, uint64(20_00+n*1_37+day*10_00))
		}
		h.days(1)
	}
	h.sell("jialian.1", 30, 88_00)
	h.sell("jialian.2", 31, 100_00)
}

// quarrel opens a chargeback about a sale.
func (h *house) quarrel(rrn string) dispute.Case {
	h.Helper()
	var c dispute.Case
	h.do(func(tx *db.Tx) error {
		t, err := switching.Transaction(tx, rrn)
		if err != nil {
			return err
		}
		c, err = dispute.Open(tx, dispute.Claim{Ref: "CUP-" + rrn, Amount: t.Due, Reason: "4515", Money: true, At: tx.Now(), Why: "not mine",
			Sale: dispute.Sale{RRN: rrn, Payee: t.Shop, Counter: ledger.AccountID(switching.Receivable(t.Host)), Issuer: t.Host, Class: t.Class, Amount: t.Due, At: t.At}})
		return err
	})
	return c
}

// A browser is somebody's.
type browser struct {
	h    *house
	c    *http.Client
	lang web.Lang
}

func (h *house) browser(lang web.Lang) *browser {
	h.Helper()
	jar, err := cookiejar.New(nil)
	h.must(err)
	b := &browser{h, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, lang}
	b.post("/lang", url.Values{"to": {string(lang)}})
	return b
}

func (h *house) login(name string, lang web.Lang) *browser {
	h.Helper()
	b := h.browser(lang)
	if status, _, body := b.post("/login", url.Values{"name": {name}, "password": {secret}}); status != http.StatusSeeOther {
		h.Fatalf("login of %s: %d %s", name, status, body)
	}
	return b
}

func (b *browser) send(r *http.Request) (int, http.Header, string) {
	b.h.Helper()
	r.Header.Set("Accept", "text/html")
	res, err := b.c.Do(r)
	b.h.must(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	b.h.must(err)
	return res.StatusCode, res.Header, string(body)
}

func (b *browser) get(path string) (int, http.Header, string) {
	b.h.Helper()
	r, err := http.NewRequest("GET", b.h.server.URL+path, nil)
	b.h.must(err)
	return b.send(r)
}

// page is a page that must be there.
func (b *browser) page(path string) string {
	b.h.Helper()
	status, _, body := b.get(path)
	if status != http.StatusOK {
		b.h.Fatalf("GET %s in %s: %d\n%s", path, b.lang, status, body[:min(len(body), 3000)])
	}
	return body
}

func (b *browser) post(path string, form url.Values) (int, http.Header, string) {
	b.h.Helper()
	r, err := http.NewRequest("POST", b.h.server.URL+path, strings.NewReader(form.Encode()))
	b.h.must(err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.send(r)
}

// upload posts a form with a file.
func (b *browser) upload(path string, form map[string]string, file []byte) (int, http.Header, string) {
	b.h.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for k, v := range form {
		b.h.must(w.WriteField(k, v))
	}
	if file != nil {
		p, err := w.CreateFormFile("file", "slip.png")
		b.h.must(err)
		_, _ = p.Write(file)
	}
	b.h.must(w.Close())
	r, err := http.NewRequest("POST", b.h.server.URL+path, &body)
	b.h.must(err)
	r.Header.Set("Content-Type", w.FormDataContentType())
	return b.send(r)
}
