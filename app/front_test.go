package app_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"koala/app"
	"koala/customer"
	"koala/internal/db"
	"koala/tsm"
)

// front serves a town's front door, and announces what happens in it.
func front(t *testing.T, w *town) *httptest.Server {
	t.Helper()
	kit, err := w.h.NewKit(ctx, time.Now, nil)
	w.must(err)
	follow, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- w.h.Announce(follow, kit.Hub) }()
	s := httptest.NewServer(w.h.Handler(kit, app.Pages{}))
	t.Cleanup(func() {
		stop()
		s.CloseClientConnections()
		s.Close()
		<-done
	})
	return s
}

// browser is a person's browser that does not follow redirects.
func browser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func visit(t *testing.T, c *http.Client, r *http.Request) (int, http.Header) {
	t.Helper()
	r.Header.Set("Accept", "text/html")
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode, res.Header
}

func get(t *testing.T, c *http.Client, at string) int {
	t.Helper()
	r, err := http.NewRequest("GET", at, nil)
	if err != nil {
		t.Fatal(err)
	}
	status, _ := visit(t, c, r)
	return status
}

func login(t *testing.T, c *http.Client, at, name, secret string) int {
	t.Helper()
	r, err := http.NewRequest("POST", at+"/login", strings.NewReader(url.Values{"name": {name}, "password": {secret}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	status, _ := visit(t, c, r)
	return status
}

// TestFrontDoor: who may see what, and a login that is blocked is out at once.
func TestFrontDoor(t *testing.T) {
	each(t, func(t *testing.T, cfg app.Config) {
		w := newTown(t, cfg)
		s := front(t, w)
		c := browser(t)
		for _, tt := range []struct {
			path   string
			status int
		}{{"/", 200}, {"/nothing", 404}, {"/device/nothing", 404}, {"/device/bands/b/next", 404}} {
			if got := get(t, c, s.URL+tt.path); got != tt.status {
				t.Errorf("anybody at %s: %d, want %d", tt.path, got, tt.status)
			}
		}
		for _, path := range []string{"/my", "/my/", "/ops", "/ops/"} {
			if got := get(t, c, s.URL+path); got < 300 || got == 404 || got >= 500 {
				t.Errorf("anybody at %s: %d", path, got)
			}
		}
		for _, bad := range [][2]string{{"ann", "wrong"}, {"", ""}, {"nobody", "x"}, {strings.Repeat("x", 1<<10), "x"}, {"\xff\xfe", "\xff"}} {
			if got := login(t, c, s.URL, bad[0], bad[1]); got < 400 || got >= 500 {
				t.Errorf("login of %.20q: %d", bad[0], got)
			}
		}
		if got := login(t, c, s.URL, "ann", "secret-1"); got != http.StatusSeeOther {
			t.Fatalf("login: %d", got)
		}
		for _, path := range []string{"/my/", "/my/add", "/my/wallet", "/my/trips", "/my/tap"} {
			if got := get(t, c, s.URL+path); got != 200 {
				t.Errorf("the customer at %s: %d", path, got)
			}
		}
		if got := get(t, c, s.URL+"/ops/"); got != 403 {
			t.Errorf("the customer at /ops/: %d", got)
		}
		w.write(func(tx *db.Tx) error { return customer.SetBlocked(tx, w.who, true) })
		if got := get(t, c, s.URL+"/my/"); got == 200 {
			t.Error("a blocked customer still sees /my/")
		}
	})
}

// TestAnnounced: what happens reaches the pages it concerns, and no others.
func TestAnnounced(t *testing.T) {
	w := newTown(t, config(t))
	s := front(t, w)
	c := browser(t)
	if got := login(t, c, s.URL, "ann", "secret-1"); got != http.StatusSeeOther {
		t.Fatalf("login: %d", got)
	}
	if got := get(t, c, s.URL+"/events?topic=ops"); got != 403 {
		t.Errorf("a customer hears the staff's events: %d", got)
	}
	if got := get(t, c, s.URL+"/events?topic=my:somebody"); got != 403 {
		t.Errorf("a customer hears another's events: %d", got)
	}
	limit, end := context.WithTimeout(ctx, 20*time.Second)
	defer end()
	ask, err := http.NewRequestWithContext(limit, "GET", s.URL+"/events?topic=my:"+string(w.who), nil)
	w.must(err)
	res, err := c.Do(ask)
	if err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	defer res.Body.Close()
	r := w.issue("band-1")
	w.carryOut(r, tsm.TopUp, 50_00)
	w.ride(r, "dongdan", "xidan")
	w.collect()
	want := map[string]bool{"order.changed": true, "card.changed": true, "wallet.changed": true, "trip.changed": true}
	lines := bufio.NewScanner(res.Body)
	for len(want) > 0 && lines.Scan() {
		var e struct{ Name string }
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			w.must(json.Unmarshal([]byte(data), &e))
			delete(want, e.Name)
		}
	}
	if len(want) > 0 {
		t.Errorf("never heard: %v, %v", want, lines.Err())
	}
}
