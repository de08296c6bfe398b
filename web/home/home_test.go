package home

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"koala/internal/clock"
	"koala/internal/db/dbtest"
	"koala/transit/network"
	"koala/web"
)

// still is a city that stands still at one moment.
type still struct {
	speed int
	acts  []Act
}

func (s *still) Totals(context.Context) (Totals, error) {
	return Totals{Taps: 18234, MovedFen: 123_456_789, Entries: 40, Balanced: true}, nil
}
func (s *still) Recent(_ context.Context, limit int) ([]Act, error) {
	return s.acts[:min(limit, len(s.acts))], nil
}
func (s *still) Time() (time.Time, int) {
	return time.Date(2015, 9, 15, 0, 1, 30, 0, time.UTC), s.speed
}
func (s *still) SetSpeed(_ context.Context, speed int) error { s.speed = speed; return nil }

// nobody can log in.
type nobody struct{}

func (nobody) Login(context.Context, string, string) (web.User, error) {
	return web.User{}, web.ErrRight
}
func (nobody) User(context.Context, string) (web.User, bool, error) { return web.User{}, false, nil }

func serve(t *testing.T, city City) string {
	t.Helper()
	kit, err := web.New(t.Context(), web.Config{Store: dbtest.Open(t), Accounts: nobody{}, Rand: clock.Random(1), Now: time.Now,
		Demo: []web.DemoUser{{Name: "ann", Password: "koala2015", Shown: "Ann", Hint: web.Same("rides"), Home: "/my/"}}})
	if err != nil {
		t.Fatal(err)
	}
	kit.SetDoors(web.Door{Href: "/my/", Name: web.Same("My band"), Lead: web.Same("cards"), Icon: "watch", Audience: web.Person})
	server := httptest.NewServer(kit.House(New(Deps{Kit: kit, City: city, Network: Map(network.Beijing())})))
	t.Cleanup(server.Close)
	return server.URL
}

func get(t *testing.T, url, lang string) string {
	t.Helper()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	req.Header.Set("Accept", "text/html")
	req.Header.Set("Accept-Language", lang)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestStartPage(t *testing.T) {
	city := &still{speed: 60, acts: []Act{
		{At: time.Date(2015, 9, 15, 0, 1, 0, 0, time.UTC), Kind: TapOut, Who: "Ann", Station: "dongdan", Fen: 400, Trace: "/ops/journeys/jny_1"},
		{At: time.Date(2015, 9, 15, 0, 0, 0, 0, time.UTC), Kind: TopUp, Who: "Wei", Fen: 5000},
	}}
	at := serve(t, city)
	for lang, texts := range map[string][]string{
		"en": {"Ann tapped out at Dongdan", "Wei topped up over the air", "¥4.00", "18\u2009234", "balanced to the fen", "08:01", "My band", "ann / koala2015"},
		"zh": {"Ann 在东单出站", "Wei 空中充值", "借贷相等，一分不差", "昌平"},
	} {
		page := get(t, at+"/", lang)
		for _, want := range append(texts, `href="/ops/journeys/jny_1"`, `data-id="dongdan"`, `content="/events?topic=city"`, `data-key="taps"`) {
			if !strings.Contains(page, want) {
				t.Errorf("%s: the page does not say %q", lang, want)
			}
		}
	}
	if part := get(t, at+"/feed", "en"); !strings.HasPrefix(part, `<div id="feed"`) || strings.Contains(part, "<html") {
		t.Errorf("the feed alone is %.80s", part)
	}
}

func TestSpeed(t *testing.T) {
	city := &still{speed: 60}
	at := serve(t, city)
	for _, tt := range []struct {
		to     string
		status int
		speed  int
	}{{"300", 200, 300}, {"0", 200, 0}, {"7", 422, 0}, {"-1", 422, 0}, {"", 422, 0}, {"x", 422, 0}} {
		resp, err := http.PostForm(at+"/speed", url.Values{"to": {tt.to}})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.status || city.speed != tt.speed {
			t.Errorf("speed %q: %d, now %d", tt.to, resp.StatusCode, city.speed)
		}
	}
}

func TestWithoutACity(t *testing.T) {
	at := serve(t, nil)
	if page := get(t, at+"/", "en"); !strings.Contains(page, "No simulated city runs") || strings.Contains(page, "topic=city") {
		t.Error("a house without a city shows one")
	}
}

func TestCatalog(t *testing.T) {
	for _, flaw := range web.Flaws(words) {
		t.Error(flaw)
	}
}

func TestMapIsTheWholeNetwork(t *testing.T) {
	n := network.Beijing()
	if m := Map(n); len(m.Lines) != len(n.Lines) || len(m.Stations) != len(n.Stations) || len(m.Lines) < 28 || len(m.Stations) < 425 {
		t.Errorf("%d lines, %d stations", len(m.Lines), len(m.Stations))
	}
}
