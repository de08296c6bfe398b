// Package estate is where staff see the merchants' terminals: all of them, one
// with its keys, batches and last sales, what terminals and switch do not agree
// on, and what is brought to them in stages. Start at Routes.
package estate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"koala/internal/db"
	"koala/merchant"
	"koala/report"
	"koala/switching"
	"koala/web"
	"koala/web/ops/shell"
)

// Deps is what these pages are made of.
type Deps struct {
	Desk   shell.Desk
	Switch *switching.Host
}

const here = "/ops/terminals"

// Routes adds the pages to the console.
func Routes(m *web.Mux, d Deps) {
	m.Handle("GET "+here, d.list)
	m.Handle("GET "+here+"/keys", d.keys)
	m.Handle("GET "+here+"/batches", d.batches)
	m.Handle("GET "+here+"/differences", d.differences)
	m.Handle("POST "+here+"/differences/{id}", d.decide)
	m.Handle("GET "+here+"/stages", d.stages)
	m.Handle("POST "+here+"/stages", d.stage)
	m.Handle("GET "+here+"/stages/{number}", d.pack)
	m.Handle("POST "+here+"/stages/propose/{act}", d.propose)
	m.Handle("POST "+here+"/stages/proposals/{id}/{act}", d.decidePack)
	m.Handle("GET "+here+"/{tid}", d.terminal)
	m.Handle("POST "+here+"/{tid}/{act}", d.act)
}

func tabs(at string) []shell.Tab {
	var out []shell.Tab
	for _, t := range []struct {
		href string
		name web.Text
	}{{"", words.Terminals}, {"/keys", words.Keys}, {"/batches", words.Batches}, {"/differences", words.Differences}, {"/stages", words.Stages}} {
		out = append(out, shell.Tab{Href: here + t.href, Name: t.name, Here: t.href == at})
	}
	return out
}

func page(at string) web.Page {
	p := web.Page{Title: words.Title, Lead: words.Lead, Here: here}
	if at != "" {
		p.Back = here
	}
	return p
}

// A stood is a terminal with where it stands and what the switch knows of it.
type stood struct {
	merchant.Terminal
	shop merchant.Shop
	at   switching.Terminal
}

// seen is when it last spoke.
func (s stood) seen() time.Time {
	if s.at.Seen.After(s.Seen) {
		return s.at.Seen
	}
	return s.Seen
}

// quietAfter is how long a terminal may be silent before it stands out: it signs
// on every day.
const quietAfter = 24 * time.Hour

// health is the worst that is to be said of a terminal.
func (s stood) health(now time.Time) (web.Tone, web.Text) {
	switch {
	case s.Life == merchant.Stopped:
		return web.Bad, shell.Both(s.Life.Words)
	case s.Life != merchant.InUse:
		return web.Neutral, shell.Both(s.Life.Words)
	case s.seen().IsZero():
		return web.Neutral, words.NeverSpoke
	case now.Sub(s.seen()) > quietAfter:
		return web.Warn, words.Silent
	case s.at.Closed:
		return web.Info, words.Settling
	}
	return web.Good, words.Well
}

// A finder reads terminals with their shops, each shop once.
type finder struct {
	q     db.Reader
	shops map[string]merchant.Shop
}

func (f finder) of(t merchant.Terminal) (s stood, err error) {
	s.Terminal = t
	shop, known := f.shops[t.Shop]
	if !known {
		if shop, err = merchant.ShopOf(f.q, t.Shop); err != nil {
			return s, err
		}
		f.shops[t.Shop] = shop
	}
	s.shop = shop
	s.at, err = switching.TerminalOf(f.q, t.TID)
	if errors.Is(err, switching.ErrNotFound) {
		err = nil
	}
	return s, err
}

// gather reads terminals that pass keep.
func gather(q db.Reader, pg web.Paging, shop string, keep func(stood) bool) ([]stood, error) {
	f := finder{q, map[string]merchant.Shop{}}
	return shell.Gather(pg, func(after string, limit int) ([]stood, error) {
		ts, err := merchant.TerminalsOf(q, shop, after, limit)
		out := make([]stood, 0, len(ts))
		for _, t := range ts {
			s, err := f.of(t)
			if err != nil {
				return nil, err
			}
			out = append(out, s)
		}
		return out, err
	}, tidOf, keep)
}

func tidOf(s stood) string { return s.TID }

var lives = []merchant.Life{merchant.Registered, merchant.Injected, merchant.InUse, merchant.Stopped, merchant.Retired}

// list shows every terminal.
func (d Deps) list(w http.ResponseWriter, r *http.Request) error {
	ctx, pg, now := r.Context(), web.PageOf(r, shell.Rows), d.Desk.Store.Now()
	life, city, version, quiet := merchant.Life(r.FormValue("life")), strings.TrimSpace(r.FormValue("city")), strings.TrimSpace(r.FormValue("version")), r.FormValue("quiet") != ""
	if life != "" && !slices.Contains(lives, life) {
		return fmt.Errorf("filter of terminals: %w", shell.ErrForm)
	}
	var keep func(stood) bool
	if life != "" || city != "" || version != "" || quiet {
		keep = func(s stood) bool {
			c := s.shop.Place()
			inCity := city == "" || c.Code == city || strings.EqualFold(c.NameEN, city) || c.NameZH != "" && strings.HasPrefix(c.NameZH, city)
			return inCity && (life == "" || s.Life == life) && (version == "" || s.Version == version) && (!quiet || s.Life == merchant.InUse && now.Sub(s.seen()) > quietAfter)
		}
	}
	var list []stood
	var v listView
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if list, err = gather(q, pg, r.FormValue("shop"), keep); err != nil {
			return err
		}
		v.figures, v.versions, err = fleet(ctx, q)
		return err
	})
	if err != nil {
		return fmt.Errorf("terminals: %w", err)
	}
	t := terminalTable(ctx, list, now)
	t.Next = shell.NextOf(r, list, pg, tidOf)
	options := []web.Option{{Name: words.All}}
	for _, l := range lives {
		options = append(options, web.Option{Value: string(l), Name: shell.Both(l.Words)})
	}
	silent := ""
	if quiet {
		silent = "1"
	}
	v.list = shell.ListView{Table: t, Events: "switch", Filter: []web.Field{{Name: "life", Label: words.Life, Type: "select", Options: options, Value: string(life)},
		{Name: "city", Label: words.City, Type: "search", Value: city, Max: 40}, {Name: "shop", Label: words.ShopID, Type: "search", Value: r.FormValue("shop"), Max: 40},
		{Name: "version", Label: words.Version, Type: "search", Value: version, Max: 40},
		{Name: "quiet", Label: words.LastSpoke, Type: "select", Options: []web.Option{{Name: words.All}, {Value: "1", Name: words.SilentADay}}, Value: silent}}}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, t)
	}
	return d.Desk.Show(w, r, page(""), listPage(v))
}

// A listView is the estate at a glance and its list.
type listView struct {
	figures  []web.Figure
	versions web.Parted
	list     shell.ListView
}

// fleet counts the estate.
func fleet(ctx context.Context, q db.Reader) (out []web.Figure, versions web.Parted, err error) {
	parts, err := report.Lives(q)
	if err != nil {
		return nil, versions, err
	}
	n := map[merchant.Life]int64{}
	for _, p := range parts {
		n[merchant.Life(p.Name)] = p.Count
	}
	for _, l := range []struct {
		life merchant.Life
		icon string
		tone web.Tone
	}{{merchant.InUse, "tablet-smartphone", web.Good}, {merchant.Registered, "wrench", web.Neutral}, {merchant.Injected, "key-round", web.Neutral}, {merchant.Stopped, "pause", web.Neutral}} {
		f := web.Figure{Name: shell.Both(l.life.Words), Value: web.Number(n[l.life]), Icon: l.icon, Tone: l.tone, Href: here + "?life=" + string(l.life)}
		if l.life == merchant.Stopped && n[l.life] > 0 {
			f.Tone = web.Warn
		}
		out = append(out, f)
	}
	list, err := report.Versions(q)
	versions = web.Parted{Title: words.ByVersion}
	for _, p := range list {
		name := web.Same(p.Name)
		if p.Name == "" {
			name = words.VersionUnknown
		}
		versions.Parts = append(versions.Parts, web.Slice{Name: name, Value: p.Count})
	}
	return out, versions, err
}

func shopName(s merchant.Shop) web.Text { return web.Text{ZH: s.NameZH, EN: s.NameEN} }

func cityName(c merchant.City) web.Text { return web.Text{ZH: c.NameZH, EN: c.NameEN} }

func terminalTable(ctx context.Context, list []stood, now time.Time) web.Table {
	t := web.Table{ID: "terminals", Empty: words.NoTerminals, EmptyDo: &web.Link{Href: "/ops/merchants", Name: words.ToMerchants}, Head: []web.Column{{Name: words.Terminal}, {Name: words.Kind}, {Name: words.State},
		{Name: words.Shop}, {Name: words.City}, {Name: words.Version}, {Name: words.Batch, Num: true}, {Name: words.LastSpoke, Num: true}}}
	for _, s := range list {
		tone, word := s.health(now)
		version, batch := shell.None(), shell.None()
		if s.Version != "" {
			version = web.Mono(s.Version)
		}
		if s.at.Batch > 0 {
			batch = web.Count(int64(s.at.Batch))
		}
		t.Rows = append(t.Rows, web.Row{Href: here + "/" + s.TID, Cells: []web.Cell{web.Mono(s.TID), shell.Short(shell.Both(s.Kind.Words).In(ctx)), web.Status(ctx, tone, word),
			web.Plain(shopName(s.shop).In(ctx)), shell.Short(cityName(s.shop.Place()).In(ctx)), version, batch, {Text: shell.Ago(now, s.seen()).In(ctx), CSV: web.When(s.seen()).Text}}})
	}
	return t
}

// keys lists the terminals' keys by their check values.
func (d Deps) keys(w http.ResponseWriter, r *http.Request) error {
	ctx, pg := r.Context(), web.PageOf(r, shell.Rows)
	var list []stood
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = gather(q, pg, "", nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("keys of terminals: %w", err)
	}
	t := web.Table{ID: "terminal-keys", Empty: words.NoTerminals, Next: shell.NextOf(r, list, pg, tidOf), Head: []web.Column{{Name: words.Terminal}, {Name: words.KeyKind}, {Name: words.CheckValues}, {Name: words.SignedOn}, {Name: words.KeysSince, Num: true}}}
	for _, s := range list {
		kind := words.MasterKeys
		if s.Kind == merchant.Reader {
			kind = words.DUKPT
		}
		tone, word := web.Neutral, words.No
		if s.at.Signed {
			tone, word = web.Good, words.Yes
		}
		checks := shell.None()
		if s.at.Checks != "" {
			checks = web.Mono(s.at.Checks)
		}
		t.Rows = append(t.Rows, web.Row{Href: here + "/" + s.TID, Cells: []web.Cell{web.Mono(s.TID), web.Plain(kind.In(ctx)), checks, web.Status(ctx, tone, word), shell.At(s.at.Keyed)}})
	}
	return d.Desk.List(w, r, page("/keys"), shell.ListView{Table: t, Tabs: tabs("/keys"), Note: words.KeysNote, Tone: web.Info})
}
