// Package shell is what the pages of the merchant console share: who sits
// before them and which shop they look at, what a role may do, the frame with
// its navigation, and the trail of what a merchant's staff did.
//
// A subject's pages live in a package beside this one and are mounted by
// package merchant with Desk.Route, which looks at the role before it calls
// the handler.
package shell

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"time"

	"github.com/a-h/templ"

	"koala/customer"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/merchant"
	"koala/web"
)

// Failures of these pages.
var (
	ErrRole      = fail.Define(fail.Invalid, "trade.role", "there is no such role")
	ErrElsewhere = fail.Define(fail.Conflict, "trade.elsewhere", "this person works for another merchant")
	ErrNobody    = fail.Define(fail.NotFound, "trade.nobody", "nobody like that works here")
	ErrLastOwner = fail.Define(fail.Refused, "trade.last_owner", "a merchant keeps at least one owner")
	ErrCode      = fail.Define(fail.Refused, "trade.code", "this code is not known, was used, or is too old: ask for another")
	ErrPaper     = fail.Define(fail.NotFound, "trade.paper", "there is no such file")
	ErrForm      = fail.Define(fail.Invalid, "trade.form", "this form lacks something or names something impossible")
	ErrMayNot    = fail.Define(fail.Forbidden, "trade.may_not", "your role at this merchant does not allow this")
	ErrNoShop    = fail.Define(fail.NotFound, "trade.no_shop", "this merchant has no such shop")
)

// A Desk shows pages of the console.
type Desk struct {
	Kit   *web.Kit
	Store *db.Store // with Schema
}

// Rows is how many rows a list shows.
const Rows = 50

// Home is where the console begins.
const Home = "/merchant/"

// A Seat is who sits before a page, and which shop it shows.
type Seat struct {
	Member   Member
	Login    string // login name
	Merchant merchant.Merchant
	Shops    []merchant.Shop
	Shop     merchant.Shop // one of Shops; zero before there is any
}

// May tells whether who sits there may do something.
func (s Seat) May(x Right) bool { return s.Member.Role.May(x) }

// Deed begins an act of who sits there.
func (s Seat) Deed(a Act, target, what string) Deed {
	return Deed{Merchant: s.Merchant.ID, Who: s.Login, Act: a, Target: target, What: what}
}

// A Handler answers a request of staff.
type Handler func(w http.ResponseWriter, r *http.Request, s Seat) error

// Route adds a route for those whose role has a right; an empty right is
// everybody's.
func (d Desk) Route(m *web.Mux, pattern string, need Right, h Handler) {
	m.Handle(pattern, func(w http.ResponseWriter, r *http.Request) error {
		s, err := d.seat(r)
		if err != nil {
			return err
		}
		if need != "" && !s.May(need) {
			return fmt.Errorf("%s as %s wants %s: %w", s.Login, s.Member.Role, need, ErrMayNot)
		}
		return h(w, r, s)
	})
}

// seat reads who asks, for which merchant, and which of its shops.
func (d Desk) seat(r *http.Request) (s Seat, err error) {
	u, _ := web.Who(r.Context())
	s.Login = u.Name
	err = d.Store.Read(r.Context(), func(q *db.Query) (err error) {
		var found bool
		if s.Member, found, err = MemberOf(q, customer.ID(u.Subject)); err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("%s works for no merchant: %w", u.Name, ErrMayNot)
		}
		if s.Merchant, err = merchant.Of(q, s.Member.Merchant); err != nil {
			return err
		}
		s.Shops, err = merchant.ShopsOf(q, s.Merchant.ID)
		return err
	})
	if err == nil && len(s.Shops) > 0 {
		s.Shop = s.Shops[0]
		if c, no := r.Cookie(shopCookie); no == nil {
			if i := slices.IndexFunc(s.Shops, func(x merchant.Shop) bool { return x.ID == c.Value }); i >= 0 {
				s.Shop = s.Shops[i]
			}
		}
	}
	return s, err
}

const shopCookie = "koala_shop"

// Choose makes another shop of the merchant the one that pages show.
func (d Desk) Choose(w http.ResponseWriter, r *http.Request, s Seat) error {
	id := r.PostFormValue("shop")
	if !slices.ContainsFunc(s.Shops, func(x merchant.Shop) bool { return x.ID == id }) {
		return fmt.Errorf("shop %q of %s: %w", id, s.Merchant.ID, ErrNoShop)
	}
	http.SetCookie(w, &http.Cookie{Name: shopCookie, Value: id, Path: "/merchant", MaxAge: 365 * 24 * 3600, HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: r.TLS != nil})
	return web.Redirect(w, r, r.PostFormValue("back"), web.Toast{})
}

// nav is the console's own bar, with the heading and the right of each entry.
var nav = []struct {
	web.NavItem
	need Right
}{
	{web.NavItem{Href: Home, Name: words.Today, Icon: "store", Group: words.GroupSales}, SeeSales},
	{web.NavItem{Href: "/merchant/sales", Name: words.Sales, Icon: "receipt", Group: words.GroupSales}, SeeSales},
	{web.NavItem{Href: "/merchant/refunds", Name: words.Refunds, Icon: "history", Group: words.GroupSales}, SeeSales},
	{web.NavItem{Href: "/merchant/disputes", Name: words.Disputes, Icon: "circle-help", Group: words.GroupSales}, SeeDisputes},
	{web.NavItem{Href: "/merchant/money", Name: words.Calendar, Icon: "coins", Group: words.GroupMoney}, SeeMoney},
	{web.NavItem{Href: "/merchant/payouts", Name: words.Payouts, Icon: "landmark", Group: words.GroupMoney}, SeeMoney},
	{web.NavItem{Href: "/merchant/statements", Name: words.Statements, Icon: "scroll-text", Group: words.GroupMoney}, SeeMoney},
	{web.NavItem{Href: "/merchant/fees", Name: words.Fees, Icon: "scale", Group: words.GroupMoney}, SeeMoney},
	{web.NavItem{Href: "/merchant/terminals", Name: words.Terminals, Icon: "tablet-smartphone", Group: words.GroupShop}, SeeTerminals},
	{web.NavItem{Href: "/merchant/limits", Name: words.Limits, Icon: "gauge", Group: words.GroupShop}, SeeTerminals},
	{web.NavItem{Href: "/merchant/staff", Name: words.Staff, Icon: "user", Group: words.GroupShop}, SeeStaff},
	{web.NavItem{Href: "/merchant/status", Name: words.Status, Icon: "shield-check", Group: words.GroupShop}, SeeStaff},
}

// navFor is the bar of a role; a heading stands at its first entry.
func navFor(r Role) (out []web.NavItem) {
	var last web.Text
	for _, n := range nav {
		if !r.May(n.need) {
			continue
		}
		item := n.NavItem
		if item.Group == last {
			item.Group = web.Text{}
		} else {
			last = item.Group
		}
		out = append(out, item)
	}
	return out
}

// Show renders a page of the console, with the chooser of shops above it.
func (d Desk) Show(w http.ResponseWriter, r *http.Request, s Seat, page web.Page, body templ.Component) error {
	page.Nav, page.Topics = navFor(s.Member.Role), []string{"trade:" + s.Merchant.ID}
	if !web.InDrawer(r) {
		body = framed(s, body)
	}
	return d.Kit.Page(w, r, page, body)
}

// List answers with a table, as a page or as its file.
func (d Desk) List(w http.ResponseWriter, r *http.Request, s Seat, page web.Page, t web.Table, body templ.Component) error {
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, t)
	}
	return d.Show(w, r, s, page, body)
}

// Do changes something and keeps the deed in the same unit; it leads back with
// what is said, or with what the house says against it.
func (d Desk) Do(w http.ResponseWriter, r *http.Request, back string, said web.Text, deed Deed, do func(*db.Tx) error) error {
	err := d.Store.Write(r.Context(), func(tx *db.Tx) error {
		if err := do(tx); err != nil {
			return err
		}
		return Keep(tx, deed)
	})
	if err != nil {
		return Sorry(w, r, back, err)
	}
	return web.Redirect(w, r, back, web.Toast{Tone: web.Good, Text: said.In(r.Context())})
}

// Sorry takes people back to where they were with what the house said; what is
// not there, not allowed and broken become pages of their own.
func Sorry(w http.ResponseWriter, r *http.Request, back string, err error) error {
	f := fail.Of(err)
	if f.Kind == fail.Broken || f.Kind == fail.NotFound || f.Kind == fail.Forbidden || errors.Is(err, ErrForm) {
		return err
	}
	return web.Redirect(w, r, back, web.Toast{Tone: web.Bad, Text: web.FailureText(f.Code, f.Text).In(r.Context())})
}

// Download answers with a file, byte for byte: its hash may be known.
func Download(w http.ResponseWriter, name, media string, body []byte) error {
	w.Header().Set("Content-Type", media)
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	_, _ = w.Write(body) // the reader hung up: nothing is left to tell it
	return nil
}

// Both makes a text of a domain's own words.
func Both(words func(zh bool) string) web.Text {
	return web.Text{ZH: words(true), EN: words(false)}
}

// ShopName is a shop as signs and receipts call it.
func ShopName(s merchant.Shop) web.Text { return web.Text{ZH: s.NameZH, EN: s.NameEN} }

// Trail tells what staff did about a page.
func Trail(ctx context.Context, list []Deed) (out []web.Happening) {
	for _, d := range list {
		out = append(out, web.Happening{At: d.At, Who: web.Day(ctx, d.At) + " · " + d.Who, What: Both(d.Act.Words), Detail: d.What, Icon: "user"})
	}
	return out
}

// Ago says how long before now t was, in the largest whole unit.
func Ago(now, t time.Time) web.Text {
	if t.IsZero() || t.Unix() <= 0 {
		return words.Never
	}
	d := now.Sub(t)
	switch {
	case d < time.Minute:
		return words.JustNow
	case d < time.Hour:
		return words.AgoMinutes.F(int(d / time.Minute))
	case d < 48*time.Hour:
		return words.AgoHours.F(int(d / time.Hour))
	}
	return words.AgoDays.F(int(d / (24 * time.Hour)))
}
