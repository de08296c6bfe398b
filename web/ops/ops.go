// Package ops is the operations console: what staff see and do. Orders over
// the air with every APDU, cards and bands, gates and buses, journeys with
// their fares and repairs, the deny list, the books down to the hash of a
// batch, settlement, keys by check value, and the trail of what staff did.
//
// Start at New. Every page that shows an act leads to its trace: an order's
// commands and answers, a journey's taps and fare lines, an entry's legs; all
// three name each other. A change by staff and its audit row are one unit of
// work (audit in store.go). Auditors see everything; the kit turns their
// changes away, and pages do not offer them.
//
// The house's events (order.*, journey.*, tap.collected, card.denied) come over
// the hub's topic "ops" and make the pages that concern them read themselves
// again; see hears.
package ops

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"koala/hsm"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/ledger"
	"koala/transit"
	"koala/transit/network"
	"koala/tsm"
	"koala/web"
)

// Failures of these pages.
var (
	ErrWhy    = fail.Define(fail.Invalid, "ops.why", "say why: a change by staff needs a reason of 4 to 200 characters")
	ErrForm   = fail.Define(fail.Invalid, "ops.form", "this form lacks something or names something impossible")
	ErrNoCard = fail.Define(fail.NotFound, "ops.no_card", "this customer has no such card")
)

// Deps is what the console is made of. Map may be nil: pages then go without.
type Deps struct {
	Kit     *web.Kit
	Store   *db.Store // with Schema
	Book    *ledger.Book
	Keys    *hsm.HSM
	SealKey string // label of the key that seals days; "" is hsm.LabelPack
	TSM     *tsm.Manager
	Transit transit.Books
	Publish func(context.Context) error // the next version of the deny list
	Network *network.Network
	Map     *web.Network
	// Connect lets a band's agent fetch its script soon, where the house can
	// reach it (the simulated phones of a demo); may be nil.
	Connect func(ctx context.Context, band string)
}

// pages is the handlers' receiver.
type pages struct{ Deps }

// pageRows is how many rows a list shows.
const pageRows = 50

// New gives the handler of "/ops/".
func New(d Deps) http.Handler {
	if d.SealKey == "" {
		d.SealKey = hsm.LabelPack
	}
	p := pages{d}
	m := d.Kit.Mux(web.Staff)
	m.Handle("GET /ops", func(w http.ResponseWriter, r *http.Request) error {
		return web.Redirect(w, r, "/ops/", web.Toast{})
	})
	m.Handle("GET /ops/{$}", p.overview)
	p.peopleRoutes(m)
	p.bookRoutes(m)
	p.transitRoutes(m)
	m.Handle("GET /ops/settlement", p.settlement)
	m.Handle("POST /ops/settlement/run", p.runSettlement)
	m.Handle("GET /ops/settlement/days/{day}", p.settlementDay)
	m.Handle("GET /ops/settlement/days/{day}/file", p.payoutFile)
	m.Handle("GET /ops/settlement/payouts/{id}", p.payout)
	m.Handle("GET /ops/keys", p.keys)
	m.Handle("GET /ops/audit", p.audit)
	return m
}

func (p pages) peopleRoutes(m *web.Mux) {
	m.Handle("GET /ops/orders", p.orders)
	m.Handle("GET /ops/orders/{id}", p.order)
	m.Handle("POST /ops/orders/{id}/verify", p.verifyOrder)
	m.Handle("POST /ops/orders/{id}/cancel", p.cancelOrder)
	m.Handle("POST /ops/orders/{id}/recover", p.recoverOrder)
	m.Handle("GET /ops/cards", p.cards)
	m.Handle("GET /ops/cards/{customer}/{key}", p.card)
	m.Handle("POST /ops/cards/{customer}/{key}/{act}", p.actOnCard)
	m.Handle("GET /ops/customers", p.customers)
	m.Handle("GET /ops/customers/{id}", p.customer)
	m.Handle("POST /ops/customers/{id}/block", p.blockCustomer)
	m.Handle("GET /ops/bands/{id}", p.band)
}

func (p pages) bookRoutes(m *web.Mux) {
	m.Handle("GET /ops/books", p.trial)
	m.Handle("GET /ops/books/accounts", p.accounts)
	m.Handle("GET /ops/books/account", p.account)
	m.Handle("GET /ops/books/entries", p.entries)
	m.Handle("GET /ops/books/entry", p.entry)
	m.Handle("GET /ops/books/holds", p.holds)
	m.Handle("GET /ops/books/proof", p.proof)
	m.Handle("POST /ops/books/seal", p.seal)
}

// nav is the console's own bar.
var nav = []web.NavItem{
	{Href: "/ops/", Name: words.Overview, Icon: "gauge"},
	{Href: "/ops/orders", Name: words.Orders, Icon: "radio"},
	{Href: "/ops/cards", Name: words.Cards, Icon: "credit-card"},
	{Href: "/ops/gates", Name: words.Gates, Icon: "door-open"},
	{Href: "/ops/journeys", Name: words.Journeys, Icon: "route"},
	{Href: "/ops/exceptions", Name: words.Exceptions, Icon: "wrench"},
	{Href: "/ops/deny", Name: words.Deny, Icon: "ban"},
	{Href: "/ops/books", Name: words.Books, Icon: "book-open"},
	{Href: "/ops/settlement", Name: words.Settlement, Icon: "scale"},
	{Href: "/ops/keys", Name: words.Keys, Icon: "key-round"},
	{Href: "/ops/audit", Name: words.Audit, Icon: "scroll-text"},
}

// show renders a page of the console.
func (p pages) show(w http.ResponseWriter, r *http.Request, page web.Page, body templ.Component) error {
	page.Nav, page.Topics = nav, []string{"ops"}
	return p.Kit.Page(w, r, page, body)
}

// list answers with a table, as a page or as its file.
func (p pages) list(w http.ResponseWriter, r *http.Request, page web.Page, v listView) error {
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.table)
	}
	return p.show(w, r, page, listPage(v))
}

// A listView is a filter above a table that reads itself again on events.
type listView struct {
	table  web.Table
	filter []web.Field
	events string // subjects, see hears
	tabs   []tab
	note   web.Text
}

// A tab is one of several lists under one heading.
type tab struct {
	href string
	name web.Text
	here bool
}

// hears says by which of the house's events a subject changes.
var hears = map[string][]string{
	"orders":     {"order.changed", "order.ended"},
	"journeys":   {"journey.opened", "journey.closed", "journey.incomplete", "journey.repaired", "journey.corrected"},
	"gates":      {"tap.collected"},
	"books":      {"order.ended", "tap.collected", "journey.repaired"},
	"deny":       {"card.denied"},
	"settlement": {"journey.closed", "journey.repaired"},
}

// refresh is the htmx trigger of a part that shows some subjects (words with
// spaces between).
func refresh(subjects string) string {
	var out []string
	for _, s := range strings.Fields(subjects) {
		for _, e := range hears[s] {
			if trigger := e + " from:body throttle:2s"; !slices.Contains(out, trigger) {
				out = append(out, trigger)
			}
		}
	}
	return strings.Join(out, ", ")
}

// gather reads pages of a domain's list until limit rows pass keep. Domains
// bound a page, a file wants more; what a filter may skip is bounded too.
func gather[T any](pg web.Paging, read func(after string, limit int) ([]T, error), key func(T) string, keep func(T) bool) ([]T, error) {
	const chunk, most = 200, 20_000
	var out []T
	after := pg.After
	for seen := 0; seen < most; {
		want := min(chunk, pg.Limit-len(out))
		if keep != nil {
			want = chunk
		}
		rows, err := read(after, want)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			if keep != nil && !keep(row) {
				continue
			}
			if out = append(out, row); len(out) == pg.Limit {
				return out, nil
			}
		}
		if len(rows) < want {
			break
		}
		seen, after = seen+len(rows), key(rows[len(rows)-1])
	}
	return out, nil
}

// nextOf is the address of the next page of rows that key names.
func nextOf[T any](r *http.Request, rows []T, pg web.Paging, key func(T) string) string {
	if len(rows) == 0 {
		return ""
	}
	return web.NextURL(r, len(rows), pg, key(rows[len(rows)-1]))
}

// sorry takes staff back to where they were with what the house said; what is
// not there and what is broken become pages of their own.
func sorry(w http.ResponseWriter, r *http.Request, back string, err error) error {
	f := fail.Of(err)
	if f.Kind == fail.Broken || f.Kind == fail.NotFound || f.Kind == fail.Invalid && !errors.Is(err, ErrWhy) {
		return err
	}
	return web.Redirect(w, r, back, web.Toast{Tone: web.Bad, Text: failure(f).In(r.Context())})
}

// failure says a failure in both languages.
func failure(f *fail.Failure) web.Text {
	if zh, ok := ownFailures[f.Code]; ok {
		return web.Text{ZH: zh, EN: f.Text}
	}
	return web.FailureText(f.Code, f.Text)
}

// done takes staff back with a word that it is done.
func done(w http.ResponseWriter, r *http.Request, back string, what web.Text) error {
	return web.Redirect(w, r, back, web.Toast{Tone: web.Good, Text: what.In(r.Context())})
}

// why reads the reason of a change.
func why(r *http.Request) (string, error) {
	s := strings.Join(strings.Fields(r.PostFormValue("why")), " ")
	if n := len([]rune(s)); n < minWhy || n > maxWhy {
		return "", fmt.Errorf("reason of %d characters: %w", n, ErrWhy)
	}
	return s, nil
}

// mayChange tells whether who looks may also do.
func mayChange(ctx context.Context) bool {
	u, in := web.Who(ctx)
	return in && u.May(web.Staff, http.MethodPost)
}

// both makes a text of a domain's own words.
func both(words func(zh bool) string) web.Text {
	return web.Text{ZH: words(true), EN: words(false)}
}

// ago says how long before now t was, in the largest whole unit.
func ago(now, t time.Time) web.Text {
	if t.IsZero() {
		return words.Never
	}
	d := now.Sub(t)
	switch {
	case d < time.Minute:
		return words.AgoSeconds.F(max(0, int(d/time.Second)))
	case d < time.Hour:
		return words.AgoMinutes.F(int(d / time.Minute))
	case d < 48*time.Hour:
		return words.AgoHours.F(int(d / time.Hour))
	default:
		return words.AgoDays.F(int(d / (24 * time.Hour)))
	}
}

// Cells of lists: a short text that does not break, an identifier whose middle
// is left out on the page (files keep it), and nothing.
func short(s string) web.Cell { return web.Cell{Text: s, Show: tight(s)} }

func ident(s string) web.Cell {
	s = hushed(s)
	return web.Cell{Text: brief(s), CSV: s, Mono: true}
}

func none() web.Cell { return web.Cell{Show: phrase(web.Same("–"))} }

func timeCell(t time.Time) web.Cell {
	if t.IsZero() {
		return none()
	}
	return short(web.Moment(t))
}

// brief leaves the middle of a long identifier out.
func brief(s string) string {
	const most, head, tail = 24, 14, 6
	if len(s) <= most || !ascii(s) {
		return s
	}
	return s[:head] + "…" + s[len(s)-tail:]
}

func ascii(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 126 }) < 0
}
