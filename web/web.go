// Package web is the HTTP kit every koala console is built with: routing that
// returns errors, problem documents, sessions and rights, live events, assets,
// both languages, and the page components of one visual language.
//
// A console is a package with a New that takes its Deps and gives an
// http.Handler made by [Kit.Mux]; app mounts it:
//
//	func New(d Deps) http.Handler {
//		m := d.Kit.Mux(web.Staff)               // only people with a right to this audience get in
//		m.Handle("GET /ops/gates", d.gates)     // full paths; a handler returns its error
//		m.Handle("POST /ops/gates/{id}/close", d.closeGate)
//		return m
//	}
//
//	func (d Deps) gates(w http.ResponseWriter, r *http.Request) error {
//		page := web.PageOf(r, 50)               // ?after=…, and the limit
//		list, err := d.Transit.Gates(r.Context(), r.FormValue("q"), page.After, page.Limit)
//		if err != nil {
//			return err                          // fail.Kind picks the status
//		}
//		t := web.Table{ID: "gates", Head: []web.Column{{Name: words.Gate}, {Name: words.Taps, Num: true}}, Empty: words.NoGates}
//		for _, g := range list {
//			t.Rows = append(t.Rows, web.Row{Href: "/ops/gates/" + g.ID, Drawer: true,
//				Cells: []web.Cell{web.Plain(g.Name), web.Count(g.Taps)}})
//		}
//		if web.WantsCSV(r) {
//			return web.WriteCSV(w, r, t)
//		}
//		return d.Kit.Page(w, r, web.Page{Title: words.Gates, Nav: nav, Here: "/ops/gates"}, gatesPage(t))
//	}
//
// In a template the language comes from ctx: { words.Gates.In(ctx) }. A live
// page names its topics in Page.Topics; an event published on the hub arrives
// as a DOM event of the same name on document.body, so a part of the page
// refreshes itself, filter and language kept, with
//
//	<div id="gates" hx-get={ web.Here(ctx) } hx-select="#gates" hx-target="this" hx-swap="outerMorph" hx-trigger="gate.closed from:body throttle:1s">
//
// One page opens one EventSource. Pages are written so that they read well
// without JavaScript; forms post and redirect ([Redirect], with a toast).
package web

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"koala/internal/db"
)

// Config is what a Kit needs from its house.
type Config struct {
	Store    *db.Store
	Accounts Accounts
	Rand     io.Reader        // randomness of session ids: the system's in production
	Now      func() time.Time // wall time: sessions expire by it, not by the city's clock
	Log      *slog.Logger     // nil: slog.Default
	Demo     []DemoUser       // logins printed on the login page; empty outside demos
}

// A Kit serves what all consoles share and makes their routers.
type Kit struct {
	cfg    Config
	secret [32]byte // signs session cookies; kept in web_secret
	Hub    *Hub
	links  []Door
}

// A Door is one console's entry in the top bar.
type Door struct {
	Href     string
	Name     Text
	Lead     Text // what one finds behind it
	Icon     string
	Audience Audience
}

// New migrates the kit's tables and gives the kit.
func New(ctx context.Context, cfg Config) (*Kit, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if err := cfg.Store.Migrate(ctx, schema); err != nil {
		return nil, err
	}
	var epoch [4]byte
	if _, err := io.ReadFull(cfg.Rand, epoch[:]); err != nil {
		return nil, fmt.Errorf("draw the hub's epoch: %w", err)
	}
	k := &Kit{cfg: cfg, Hub: NewHub(hex.EncodeToString(epoch[:]))}
	if err := k.loadSecret(ctx); err != nil {
		return nil, err
	}
	return k, nil
}

// Now is wall time, by which sessions live and limits refill.
func (k *Kit) Now() time.Time { return k.cfg.Now() }

// SetDoors says which consoles the top bar and the start page offer. It is
// called while the house is wired, before it serves.
func (k *Kit) SetDoors(d ...Door) { k.links = d }

// Doors lists the consoles with the demo logins that land in each.
func (k *Kit) Doors() []DoorWithLogins {
	out := make([]DoorWithLogins, len(k.links))
	for i, d := range k.links {
		out[i].Door = d
		for _, u := range k.cfg.Demo {
			if u.Home == d.Href {
				out[i].Demo = append(out[i].Demo, u)
			}
		}
	}
	return out
}

// DoorWithLogins is a console and who of the demo may use it.
type DoorWithLogins struct {
	Door
	Demo []DemoUser
}

// A Handler answers a request or says why it cannot; the error becomes a
// problem document or an error page by the kind of its failure.
type Handler func(w http.ResponseWriter, r *http.Request) error

// A Mux routes one audience's pages.
type Mux struct {
	kit      *Kit
	audience Audience
	mux      *http.ServeMux
}

// Mux gives an empty router that lets in only who may use audience a.
func (k *Kit) Mux(a Audience) *Mux {
	return &Mux{kit: k, audience: a, mux: http.NewServeMux()}
}

// Handle adds a route. The pattern is net/http's, with method and full path.
func (m *Mux) Handle(pattern string, h Handler) {
	m.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if err := m.admit(r); err != nil {
			m.kit.turnAway(w, r, err)
			return
		}
		if err := h(w, r); err != nil {
			m.kit.Fail(w, r, err)
		}
	})
}

// ServeHTTP answers unknown paths and wrong methods like every other failure:
// the library's own answers are plain text.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, pattern := m.mux.Handler(r)
	if pattern != "" {
		m.mux.ServeHTTP(w, r)
		return
	}
	probe := &statusOnly{header: http.Header{}}
	h.ServeHTTP(probe, r)
	switch {
	case probe.status == http.StatusMethodNotAllowed:
		w.Header().Set("Allow", probe.header.Get("Allow"))
		m.kit.failAs(w, r, http.StatusMethodNotAllowed, ErrMethod)
	case probe.status >= 300 && probe.status < 400:
		http.Redirect(w, r, probe.header.Get("Location"), probe.status)
	default:
		m.kit.Fail(w, r, ErrNoPage)
	}
}

// statusOnly learns what the library would have answered.
type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header { return s.header }
func (s *statusOnly) WriteHeader(n int)   { s.status = n }
func (s *statusOnly) Write(b []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	return len(b), nil
}

// House puts the kit's own pages, security and the request log around rest,
// which serves every other path. Device paths that bring their own
// authentication are given in open (prefixes): they skip the cross-origin check
// and the session, since no browser is on the other end.
func (k *Kit) House(rest http.Handler, open ...string) http.Handler {
	own := k.Mux(Public)
	own.Handle("GET /login", k.loginPage)
	own.Handle("POST /login", k.login)
	own.Handle("POST /logout", k.logout)
	own.Handle("POST /lang", k.setLang)
	own.Handle("POST /theme", k.setTheme)
	own.Handle("GET /events", k.events)
	own.Handle("GET /assets/{name}", k.asset)
	all := http.NewServeMux()
	for _, p := range []string{"/login", "/logout", "/lang", "/theme", "/events", "/assets/"} {
		all.Handle(p, own)
	}
	all.Handle("/", rest)

	guarded := http.NewCrossOriginProtection().Handler(k.withView(all))
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, p := range open {
			if strings.HasPrefix(r.URL.Path, p) {
				rest.ServeHTTP(w, r)
				return
			}
		}
		guarded.ServeHTTP(w, r)
	})
	return k.logged(secured(inner))
}

// withView puts who asks, in which language and theme, into the context.
func (k *Kit) withView(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := &View{Lang: langOf(r), Theme: themeOf(r), kit: k, url: *r.URL}
		if !strings.HasPrefix(r.URL.Path, "/assets/") {
			v.Who, v.In = k.whoIs(r)
		}
		r = r.WithContext(context.WithValue(r.Context(), viewKey{}, v))
		next.ServeHTTP(w, r)
	})
}

// secured sets the headers that keep a page to itself: scripts and styles
// only from here, no framing, no sniffing, nothing kept by shared caches.
func secured(next http.Handler) http.Handler {
	const policy = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
		"object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
		h.Set("Cache-Control", "private, no-store")
		next.ServeHTTP(w, r)
	})
}
