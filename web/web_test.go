package web_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/fail"
	"koala/web"
)

var errDenied = fail.Define(fail.Forbidden, "webtest.denied", "login or secret is wrong")

// people is a small directory of logins.
type people struct{ gone map[string]bool }

var users = map[string]web.User{
	"ann": {Name: "ann", Subject: "cust_1", Shown: "Ann", Roles: []web.Role{web.Wearer}},
	"ops": {Name: "ops", Subject: "cust_2", Shown: "Olga", Roles: []web.Role{web.Operator}},
	"eye": {Name: "eye", Subject: "cust_3", Shown: "Eve", Roles: []web.Role{web.Auditor}},
}

func (p people) Login(_ context.Context, name, secret string) (web.User, error) {
	u, ok := users[name]
	if !ok || secret != "right" {
		return web.User{}, fmt.Errorf("login: %w", errDenied)
	}
	return u, nil
}

func (p people) User(_ context.Context, subject string) (web.User, bool, error) {
	for _, u := range users {
		if u.Subject == subject && !p.gone[subject] {
			return u, true, nil
		}
	}
	return web.User{}, false, nil
}

// A site is a house with three pages and a browser before it.
type site struct {
	kit     *web.Kit
	server  *httptest.Server
	browser *http.Client
	clock   *clock.Virtual
	gone    map[string]bool
}

func open(t *testing.T, store *db.Store) *site {
	t.Helper()
	s := &site{clock: clock.NewVirtual(time.Date(2015, 9, 15, 0, 0, 0, 0, time.UTC)), gone: map[string]bool{}}
	kit, err := web.New(t.Context(), web.Config{Store: store, Accounts: people{s.gone}, Rand: clock.Random(7), Now: s.clock.Now,
		Demo: []web.DemoUser{{Name: "ann", Password: "right", Shown: "Ann", Home: "/my/"}}})
	if err != nil {
		t.Fatal(err)
	}
	kit.SetDoors(web.Door{Href: "/my/", Name: web.Same("My"), Audience: web.Person}, web.Door{Href: "/ops/", Name: web.Same("Ops"), Audience: web.Staff})
	s.kit = kit
	mux := http.NewServeMux()
	page := func(w http.ResponseWriter, r *http.Request) error {
		u, _ := web.Who(r.Context())
		return kit.Page(w, r, web.Page{Title: web.Text{ZH: "页面", EN: "A page"}}, web.Chip(web.Good, web.Same("for "+u.Name)))
	}
	for path, a := range map[string]web.Audience{"my": web.Person, "ops": web.Staff} {
		m := kit.Mux(a)
		m.Handle("GET /"+path+"/{$}", page)
		m.Handle("POST /"+path+"/act", func(w http.ResponseWriter, r *http.Request) error {
			return web.Redirect(w, r, "/"+path+"/", web.Toast{Tone: web.Good, Text: "it is <done>"})
		})
		mux.Handle("/"+path+"/", m)
	}
	root := kit.Mux(web.Public)
	root.Handle("GET /{$}", page)
	root.Handle("GET /broken", func(http.ResponseWriter, *http.Request) error { return fmt.Errorf("secret PAN 622848") })
	mux.Handle("/", root)
	s.server = httptest.NewServer(kit.House(mux, "/device/"))
	t.Cleanup(s.server.Close)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.browser = &http.Client{Jar: jar}
	return s
}

func (s *site) do(t *testing.T, method, path string, form url.Values, header ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.server.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	req.Header.Set("Accept-Language", "en")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.browser.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

func (s *site) login(t *testing.T, name string) {
	t.Helper()
	if status, body, _ := s.do(t, "POST", "/login", url.Values{"name": {name}, "password": {"right"}}); status != http.StatusOK {
		t.Fatalf("login %s: %d %s", name, status, body)
	}
}

func TestRights(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, store *db.Store) {
		s := open(t, store)
		for _, tt := range []struct {
			as, method, path string
			want             int
			shows            string
		}{
			{"", "GET", "/", 200, "A page"},
			{"", "GET", "/my/", 200, "Demo logins"}, // led to the login page
			{"ann", "GET", "/my/", 200, "for ann"},
			{"ann", "POST", "/my/act", 200, "it is &lt;done&gt;"},
			{"ann", "GET", "/ops/", 403, "web.right"},
			{"ops", "GET", "/my/", 403, "web.right"},
			{"ops", "POST", "/ops/act", 200, "for ops"},
			{"eye", "GET", "/ops/", 200, "for eye"},
			{"eye", "POST", "/ops/act", 403, "web.right"},
		} {
			t.Run(tt.as+tt.method+tt.path, func(t *testing.T) {
				jar, _ := cookiejar.New(nil)
				s.browser = &http.Client{Jar: jar}
				if tt.as != "" {
					s.login(t, tt.as)
				}
				var form url.Values
				if tt.method == "POST" {
					form = url.Values{}
				}
				status, body, _ := s.do(t, tt.method, tt.path, form)
				if status != tt.want || !strings.Contains(body, tt.shows) {
					t.Errorf("%d, want %d with %q:\n%s", status, tt.want, tt.shows, body)
				}
			})
		}
	})
}

func TestSessions(t *testing.T) {
	s := open(t, dbtest.Open(t))
	if status, body, _ := s.do(t, "POST", "/login", url.Values{"name": {"ann"}, "password": {"wrong"}}); status != 422 || !strings.Contains(body, "login or secret is wrong") {
		t.Errorf("wrong password: %d %s", status, body)
	}
	s.login(t, "ann")
	seen := func() bool {
		_, body, _ := s.do(t, "GET", "/my/", nil)
		return strings.Contains(body, "for ann")
	}
	if !seen() {
		t.Fatal("the session does not hold")
	}
	s.clock.Advance(7*24*time.Hour + time.Second)
	if seen() {
		t.Error("an expired session still works")
	}
	s.login(t, "ann")
	s.gone["cust_1"] = true
	if seen() {
		t.Error("a blocked customer is still in")
	}
	s.gone["cust_1"] = false
	if !seen() {
		t.Error("the session is gone")
	}
	u, _ := url.Parse(s.server.URL)
	cookie := s.browser.Jar.Cookies(u)[0]
	if status, _, _ := s.do(t, "POST", "/logout", url.Values{}); status != 200 || seen() {
		t.Error("logging out does not end the session")
	}
	s.browser.Jar.SetCookies(u, []*http.Cookie{cookie})
	if seen() {
		t.Error("the cookie of an ended session works again")
	}
	forged := strings.Repeat("A", len(cookie.Value))
	s.browser.Jar.SetCookies(u, []*http.Cookie{{Name: cookie.Name, Value: forged, Path: "/"}})
	if seen() {
		t.Error("a made-up cookie works")
	}
}

func TestOtherSitesCannotPost(t *testing.T) {
	s := open(t, dbtest.Open(t))
	s.login(t, "ann")
	if status, _, _ := s.do(t, "POST", "/my/act", url.Values{}, "Sec-Fetch-Site", "cross-site"); status != http.StatusForbidden {
		t.Errorf("a post from another site: %d", status)
	}
	if status, _, _ := s.do(t, "POST", "/my/act", url.Values{}, "Sec-Fetch-Site", "same-origin"); status != http.StatusOK {
		t.Errorf("a post from here: %d", status)
	}
	for _, back := range []string{"//evil.example", "https://evil.example/", `/\evil.example`, ""} {
		s.browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		_, _, h := s.do(t, "POST", "/lang", url.Values{"to": {"zh"}, "back": {back}})
		if h.Get("Location") != "/" {
			t.Errorf("back %q leads to %q", back, h.Get("Location"))
		}
	}
}

func TestProblems(t *testing.T) {
	s := open(t, dbtest.Open(t))
	for _, tt := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/nowhere", 404, "web.no_page"},
		{"DELETE", "/broken", 405, "web.method"},
		{"GET", "/broken", 500, "internal.error"},
		{"GET", "/my/", 403, "web.login"},
		{"GET", "/events?topic=ops", 403, "web.right"},
		{"GET", "/events?topic=my:cust_1", 403, "web.right"},
		{"GET", "/events", 422, "web.form"},
	} {
		status, body, h := s.do(t, tt.method, tt.path, nil, "Accept", "application/json")
		var p web.Problem
		if err := json.Unmarshal([]byte(body), &p); err != nil || status != tt.status || p.Code != tt.code || p.Status != tt.status {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, status, body)
		}
		if h.Get("Content-Type") != "application/problem+json" || strings.Contains(body, "622848") {
			t.Errorf("%s %s: %s %s", tt.method, tt.path, h.Get("Content-Type"), body)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Content-Security-Policy"), "script-src 'self'") {
			t.Errorf("%s lacks security headers", tt.path)
		}
	}
	if _, body, _ := s.do(t, "GET", "/broken", nil, "Accept-Language", "zh-CN,en;q=0.5"); !strings.Contains(body, "我们这边出了错") || strings.Contains(body, "622848") {
		t.Errorf("error page: %s", body)
	}
}

func TestPagesHaveNoInlineCode(t *testing.T) {
	s := open(t, dbtest.Open(t))
	s.login(t, "ann")
	for _, path := range []string{"/", "/my/", "/login"} {
		_, body, _ := s.do(t, "GET", path, nil)
		for _, bad := range []string{" style=", " onclick=", "<script>", "hx-on", "javascript:"} {
			if strings.Contains(body, bad) {
				t.Errorf("%s has %q: the security policy forbids it", path, bad)
			}
		}
	}
}

func TestAssetsAreKept(t *testing.T) {
	s := open(t, dbtest.Open(t))
	_, page, _ := s.do(t, "GET", "/", nil)
	_, rest, _ := strings.Cut(page, `<link rel="stylesheet" href="`)
	css, _, _ := strings.Cut(rest, `"`)
	status, body, h := s.do(t, "GET", css, nil)
	if status != 200 || !strings.Contains(body, "--accent") || !strings.Contains(h.Get("Cache-Control"), "immutable") {
		t.Errorf("%s: %d %s", css, status, h)
	}
	if status, _, _ := s.do(t, "GET", "/assets/app.css", nil); status != 404 {
		t.Errorf("an asset without its hash answers %d", status)
	}
}

// TestVendored compares the foreign files with the sums they came with.
func TestVendored(t *testing.T) {
	sums, err := os.Open("vendor/SUMS")
	if err != nil {
		t.Fatal(err)
	}
	defer sums.Close()
	listed := 1 // SUMS itself
	for lines := bufio.NewScanner(sums); lines.Scan(); listed++ {
		want, name, _ := strings.Cut(lines.Text(), "  ")
		body, err := os.ReadFile("vendor/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s was changed", name)
		}
	}
	if found, err := os.ReadDir("vendor"); err != nil || len(found) != listed {
		t.Errorf("vendor has %d files, SUMS lists %d", len(found), listed)
	}
}

func TestLiveEvents(t *testing.T) {
	s := open(t, dbtest.Open(t))
	s.login(t, "ann")
	s.kit.Hub.Publish("city", "tap", map[string]string{"station": "dongdan"})
	listen := func(last string) (*bufio.Scanner, func()) {
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "GET", s.server.URL+"/events?topic=city&topic=my:cust_1", nil)
		if last != "" {
			req.Header.Set("Last-Event-ID", last)
		}
		resp, err := s.browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return bufio.NewScanner(resp.Body), func() { cancel(); resp.Body.Close() }
	}
	next := func(in *bufio.Scanner) (id, data string) {
		for in.Scan() {
			if v, ok := strings.CutPrefix(in.Text(), "id: "); ok {
				id = v
			}
			if v, ok := strings.CutPrefix(in.Text(), "data: "); ok {
				return id, v
			}
		}
		t.Fatal("the stream ended")
		return "", ""
	}
	in, end := listen("")
	in.Scan() // retry: the reader has joined
	s.kit.Hub.Publish("ops", "order.changed", 1)
	s.kit.Hub.Publish("my:cust_2", "order.changed", 2)
	s.kit.Hub.Publish("my:cust_1", "order.changed", 3)
	id, data := next(in)
	if data != `{"name":"order.changed","data":3}` {
		t.Fatalf("heard %s", data)
	}
	end()
	s.kit.Hub.Publish("city", "tap", 4)
	s.kit.Hub.Publish("my:cust_1", "order.changed", 5)
	in, end = listen(id)
	for _, want := range []string{`{"name":"tap","data":4}`, `{"name":"order.changed","data":5}`} {
		if _, data = next(in); data != want {
			t.Errorf("after coming back heard %s, want %s", data, want)
		}
	}
	end()
	in, end = listen("otherstart-3")
	if _, data = next(in); !strings.Contains(data, "koala.reset") {
		t.Errorf("an id of another start is answered with %s", data)
	}
	end()
	for i := range 300 {
		s.kit.Hub.Publish("city", "tap", i)
	}
	in, end = listen(id)
	defer end()
	if _, data = next(in); !strings.Contains(data, "koala.reset") {
		t.Errorf("more was missed than is kept, heard %s", data)
	}
}

// TestSlowReaders: publishing goes on whether a reader reads or not.
func TestSlowReaders(t *testing.T) {
	hub := web.NewHub("t")
	for i := range 10_000 {
		hub.Publish("city", "tap", i)
	}
}
