// Package shell is what the pages of the operations console share: the frame
// with its navigation, lists that read themselves again, questions that staff
// answer before something changes, and the trail of what staff did.
//
// A subject's pages live in a package beside this one and are mounted by
// package ops. A handler reads its reason with Why, changes the house and
// calls Keep in the same unit of work, and ends with Done or Sorry. What two
// persons change goes by Two.
package shell

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"koala/internal/db"
	"koala/internal/fail"
	"koala/web"
)

// Failures of these pages.
var (
	ErrWhy  = fail.Define(fail.Invalid, "ops.why", "say why: a change by staff needs a reason of 4 to 200 characters")
	ErrForm = fail.Define(fail.Invalid, "ops.form", "this form lacks something or names something impossible")
)

// A Desk shows pages of the console.
type Desk struct {
	Kit   *web.Kit
	Store *db.Store // with Schema
}

// Rows is how many rows a list shows.
const Rows = 50

// nav is the console's own bar.
var nav = []web.NavItem{
	{Href: "/ops/", Name: words.Overview, Icon: "gauge"},
	{Href: "/ops/switch", Name: words.Switch, Icon: "activity", Group: words.GroupAcquiring},
	{Href: "/ops/routes", Name: words.Routes, Icon: "arrow-left-right"},
	{Href: "/ops/hosts", Name: words.Hosts, Icon: "landmark"},
	{Href: "/ops/terminals", Name: words.Terminals, Icon: "tablet-smartphone"},
	{Href: "/ops/merchants", Name: words.Merchants, Icon: "store"},
	{Href: "/ops/closings", Name: words.Closings, Icon: "banknote", Group: words.GroupMoney},
	{Href: "/ops/recon", Name: words.Recon, Icon: "scale"},
	{Href: "/ops/settlement", Name: words.Settlement, Icon: "receipt"},
	{Href: "/ops/books", Name: words.Books, Icon: "book-open"},
	{Href: "/ops/risk", Name: words.Risk, Icon: "shield-check", Group: words.GroupRisk},
	{Href: "/ops/disputes", Name: words.Disputes, Icon: "circle-help"},
	{Href: "/ops/deny", Name: words.Deny, Icon: "ban"},
	{Href: "/ops/orders", Name: words.Orders, Icon: "radio", Group: words.GroupCards},
	{Href: "/ops/cards", Name: words.Cards, Icon: "credit-card"},
	{Href: "/ops/issuers", Name: words.Issuers, Icon: "layers"},
	{Href: "/ops/gates", Name: words.Gates, Icon: "door-open", Group: words.GroupCity},
	{Href: "/ops/journeys", Name: words.Journeys, Icon: "route"},
	{Href: "/ops/exceptions", Name: words.Exceptions, Icon: "wrench"},
	{Href: "/ops/shops", Name: words.Shops, Icon: "utensils"},
	{Href: "/ops/ecash", Name: words.ECash, Icon: "coins"},
	{Href: "/ops/firmware", Name: words.Firmware, Icon: "cpu", Group: words.GroupHouse},
	{Href: "/ops/partners", Name: words.Partners, Icon: "building-2"},
	{Href: "/ops/keys", Name: words.Keys, Icon: "key-round"},
	{Href: "/ops/audit", Name: words.Audit, Icon: "scroll-text"},
}

// Show renders a page of the console.
func (d Desk) Show(w http.ResponseWriter, r *http.Request, page web.Page, body templ.Component) error {
	page.Nav, page.Topics = nav, []string{"ops"}
	return d.Kit.Page(w, r, page, body)
}

// List answers with a table, as a page or as its file.
func (d Desk) List(w http.ResponseWriter, r *http.Request, page web.Page, v ListView) error {
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.Table)
	}
	return d.Show(w, r, page, ListPage(v))
}

// Change does a change by staff and keeps its deed in the same unit; it leads
// back with what is said, or with what the house says against it.
func (d Desk) Change(w http.ResponseWriter, r *http.Request, back string, said web.Text, deed Deed, do func(*db.Tx) error) error {
	reason, err := Why(r)
	if err != nil {
		return Sorry(w, r, back, err)
	}
	deed.Why = reason
	err = d.Store.Write(r.Context(), func(tx *db.Tx) error {
		if err := do(tx); err != nil {
			return err
		}
		return Keep(tx, r, deed)
	})
	if err != nil {
		return Sorry(w, r, back, err)
	}
	return Done(w, r, back, said)
}

// A ListView is a filter above a table that reads itself again on events.
type ListView struct {
	Table  web.Table
	Filter []web.Field
	Events string // subjects, see hears
	Tabs   []Tab
	Note   web.Text
	Tone   web.Tone // of the note
	Acts   []Question
}

// A Tab is one of several lists under one heading.
type Tab struct {
	Href string
	Name web.Text
	Here bool
}

// hears says by which of the house's events a subject changes.
var hears = map[string][]string{
	"orders":     {"order.changed", "order.ended"},
	"journeys":   {"journey.opened", "journey.closed", "journey.incomplete", "journey.repaired", "journey.corrected"},
	"gates":      {"tap.collected"},
	"books":      {"order.ended", "tap.collected", "journey.repaired"},
	"deny":       {"card.denied"},
	"settlement": {"journey.closed", "journey.repaired"},
	"switch":     {"sale.approved", "sale.declined", "sale.unknown", "sale.voided", "sale.refunded", "sale.completed"},
	"risk":       {"risk_case.open", "risk_case.assigned", "risk_case.cleared", "risk_case.confirmed"},
	"clearing":   {"sale.booked", "sale.suspense", "meal.booked", "meal.suspense", "coupon.redeemed", "order.ended"},
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

// Gather reads pages of a domain's list until limit rows pass keep. Domains
// bound a page, a file wants more; what a filter may skip is bounded too.
func Gather[T any](pg web.Paging, read func(after string, limit int) ([]T, error), key func(T) string, keep func(T) bool) ([]T, error) {
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

// NextOf is the address of the next page of rows that key names.
func NextOf[T any](r *http.Request, rows []T, pg web.Paging, key func(T) string) string {
	if len(rows) == 0 {
		return ""
	}
	return web.NextURL(r, len(rows), pg, key(rows[len(rows)-1]))
}

// Sorry takes staff back to where they were with what the house said; what is
// not there and what is broken become pages of their own.
func Sorry(w http.ResponseWriter, r *http.Request, back string, err error) error {
	f := fail.Of(err)
	if f.Kind == fail.Broken || f.Kind == fail.NotFound || f.Kind == fail.Invalid && !errors.Is(err, ErrWhy) {
		return err
	}
	return web.Redirect(w, r, back, web.Toast{Tone: web.Bad, Text: web.FailureText(f.Code, f.Text).In(r.Context())})
}

// Done takes staff back with a word that it is done.
func Done(w http.ResponseWriter, r *http.Request, back string, what web.Text) error {
	return web.Redirect(w, r, back, web.Toast{Tone: web.Good, Text: what.In(r.Context())})
}

// Why reads the reason of a change.
func Why(r *http.Request) (string, error) {
	s := strings.Join(strings.Fields(r.PostFormValue("why")), " ")
	if n := len([]rune(s)); n < minWhy || n > maxWhy {
		return "", fmt.Errorf("reason of %d characters: %w", n, ErrWhy)
	}
	return s, nil
}

// MayChange tells whether who looks may also do.
func MayChange(ctx context.Context) bool {
	u, in := web.Who(ctx)
	return in && u.May(web.Staff, http.MethodPost)
}

// Both makes a text of a domain's own words.
func Both(words func(zh bool) string) web.Text {
	return web.Text{ZH: words(true), EN: words(false)}
}

// Ago says how long before now t was, in the largest whole unit.
func Ago(now, t time.Time) web.Text {
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
