package terms_test

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"koala/app"
	"koala/calendar"
	"koala/customer"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/ledger"
	"koala/merchant"
	"koala/money"
	"koala/settlement"
	"koala/settlement/fee"
	"koala/web"
	"koala/web/merchant/shell"
)

var (
	ctx     = context.Background()
	morning = time.Date(2015, 9, 16, 9, 0, 0, 0, calendar.Beijing)
)

const secret = "eucalyptus"

// A house is a real one with two shops, people of the first, and staff.
type house struct {
	*testing.T
	now    *clock.Virtual
	h      *app.House
	server *httptest.Server
	merch  string
}

func open(t *testing.T) *house {
	t.Helper()
	primes, err := os.ReadFile("../../../city/primes.txt")
	if err != nil {
		t.Fatal(err)
	}
	h := &house{T: t, now: clock.NewVirtual(morning)}
	h.h, err = app.New(ctx, app.Config{Data: filepath.Join(t.TempDir(), "house"), Clock: h.now, Rand: clock.Random(1), Inline: true, Primes: primes})
	h.must(err)
	t.Cleanup(func() { h.h.Close() })
	h.h.Desk.Cost = 1
	h.do(func(tx *db.Tx) error {
		wok, err := merchant.Adopt(tx, merchant.Shop{ID: "wok", NameEN: "Wok House", NameZH: "铁锅小馆", MCC: "5411", City: "110000"}, "li", "a test")
		if err != nil {
			return err
		}
		h.merch = wok.Merchant
		_, err = merchant.Adopt(tx, merchant.Shop{ID: "tofu", NameEN: "Tofu Mill", NameZH: "豆腐坊", MCC: "5411", City: "110000"}, "li", "a test")
		return err
	})
	for _, p := range []struct {
		login string
		role  customer.Role
		works shell.Role
	}{{"wang", customer.Operator, ""}, {"zhao", customer.Operator, ""}, {"shen", customer.Auditor, ""}, {"qian", customer.Trader, shell.Owner}, {"cash", customer.Trader, shell.Cashier}} {
		c, err := h.h.Desk.Register(ctx, customer.Application{Login: p.login, Name: p.login, Phone: "13800138000", Secret: secret, Roles: []customer.Role{p.role}})
		h.must(err)
		if p.works != "" {
			h.do(func(tx *db.Tx) error { return shell.Hire(tx, c.ID, h.merch, p.works) })
		}
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

func (h *house) do(f func(*db.Tx) error) {
	h.Helper()
	h.must(h.h.Store.Write(ctx, f))
}

func (h *house) read(f func(*db.Query) error) {
	h.Helper()
	h.must(h.h.Store.Read(ctx, f))
}

func (h *house) today() calendar.Date { return calendar.Of(h.now.Now(), calendar.Beijing) }

// sell is a sale of a shop with a debit card, cleared.
func (h *house) sell(ref, shop string, fen int64) {
	h.Helper()
	h.do(func(tx *db.Tx) error {
		if _, err := ledger.Post(tx, ledger.Move("test:"+ref, "bank.custody", settlement.Payable(shop), money.Fen(fen))); err != nil {
			return err
		}
		return settlement.Capture(tx, settlement.Item{Ref: ref, Payee: shop, Amount: money.Fen(fen), At: tx.Now(), Kind: settlement.Sale, Card: fee.Debit})
	})
}

// night lets the day end and be paid.
func (h *house) night() {
	h.Helper()
	h.now.Set(h.today().AddDays(1).Start(calendar.Beijing).Add(9 * time.Hour))
	h.must(settlement.RunDue(ctx, h.h.Store))
}

func (h *house) terms(shop string, day calendar.Date) (t settlement.Terms) {
	h.Helper()
	h.read(func(q *db.Query) (err error) { t, err = settlement.TermsOf(q, shop, day); return err })
	return t
}

// A browser is somebody's.
type browser struct {
	h *house
	c *http.Client
}

func (h *house) login(name string, lang web.Lang) *browser {
	h.Helper()
	jar, err := cookiejar.New(nil)
	h.must(err)
	b := &browser{h, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	b.post("/lang", url.Values{"to": {string(lang)}})
	if code, _ := b.post("/login", url.Values{"name": {name}, "password": {secret}}); code != http.StatusSeeOther {
		h.Fatalf("login of %s: %d", name, code)
	}
	return b
}

func (b *browser) send(r *http.Request) (*http.Response, string) {
	b.h.Helper()
	r.Header.Set("Accept", "text/html")
	res, err := b.c.Do(r)
	b.h.must(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	b.h.must(err)
	return res, string(body)
}

func (b *browser) get(path string) (int, string) {
	b.h.Helper()
	r, err := http.NewRequest("GET", b.h.server.URL+path, nil)
	b.h.must(err)
	res, body := b.send(r)
	return res.StatusCode, body
}

// page is a page that must be there, with words that must be on it.
func (b *browser) page(path string, want ...string) string {
	b.h.Helper()
	code, body := b.get(path)
	if code != http.StatusOK {
		b.h.Fatalf("GET %s: %d\n%s", path, code, body[:min(len(body), 2000)])
	}
	for _, w := range want {
		if !strings.Contains(body, w) {
			b.h.Errorf("%s lacks %q", path, w)
		}
	}
	return body
}

// post sends a form and gives the page that it leads to.
func (b *browser) post(path string, form url.Values) (code int, to string) {
	b.h.Helper()
	r, err := http.NewRequest("POST", b.h.server.URL+path, strings.NewReader(form.Encode()))
	b.h.must(err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, _ := b.send(r)
	return res.StatusCode, res.Header.Get("Location")
}

// values are a form's: pairs of names and values, and a reason.
func values(pairs ...string) url.Values {
	v := url.Values{"why": {"because of a test"}}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return v
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)"`)

// hidden are the values that a page's question brings back.
func hidden(body, question string) url.Values {
	_, body, _ = strings.Cut(body, `id="`+question+`"`)
	body, _, _ = strings.Cut(body, "</form>")
	v := url.Values{"why": {"because of a test"}}
	for _, m := range hiddenField.FindAllStringSubmatch(body, -1) {
		v.Set(m[1], m[2])
	}
	return v
}

var actions = regexp.MustCompile(`action="(/ops/(?:terms|closings)/[^"]*/(confirm|undo|refuse))"`)

// act is the address of the first such act on a page; empty: there is none.
func act(body, what string) string {
	for _, m := range actions.FindAllStringSubmatch(body, -1) {
		if m[2] == what {
			return m[1]
		}
	}
	return ""
}
