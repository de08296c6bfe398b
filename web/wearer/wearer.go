// Package wearer is "my band", the pages of the person who wears one: the
// cards in it, adding a card over the air, topping up, paying, riding, opening
// doors, the passcode, a lost band, steps and sleep, and for every act the
// bytes that made it happen.
//
// It asks for what it needs through small interfaces: a [Desk] for cards,
// orders and money, [Trips] and [Uses] for what the cards did, [Losses] for a
// lost band, [Firms] for the leave of other firms, [Body] for steps; and the [Street] and [Wrist] for what a hand
// does. Package web/wearer/desk has the first six over the house's domains;
// street and wrist are simulated by the city and say so on their pages.
package wearer

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"koala/internal/fail"
	"koala/spec/emv"
	"koala/web"
)

// Failures of these pages.
var (
	ErrNoCard    = fail.Define(fail.NotFound, "wearer.no_card", "there is no such card in your band")
	ErrNoOrder   = fail.Define(fail.NotFound, "wearer.no_order", "you have no such order")
	ErrNoTrip    = fail.Define(fail.NotFound, "wearer.no_trip", "you have no such trip")
	ErrNoTap     = fail.Define(fail.NotFound, "wearer.no_tap", "this tap is no longer remembered; its trip is")
	ErrNoUse     = fail.Define(fail.NotFound, "wearer.no_use", "you have no such payment, meal, passage or redemption")
	ErrNoLoss    = fail.Define(fail.NotFound, "wearer.no_loss", "no band of yours is reported lost")
	ErrNoWrist   = fail.Define(fail.Refused, "wearer.no_wrist", "this band is worn by a person: use the band itself")
	ErrAmount    = fail.Define(fail.Invalid, "wearer.amount", "this is not an amount; write yuan like 50 or 12.50")
	ErrPIN       = fail.Define(fail.Invalid, "wearer.pin", "a PIN has 4 to 6 digits; write the same one twice")
	ErrSignature = fail.Define(fail.Invalid, "wearer.signature", "this is no signature: draw it, or write your name")
	ErrCode      = fail.Define(fail.Invalid, "wearer.code", "a passcode has 4 to 8 digits; write the same one twice")
	ErrLimit     = fail.Define(fail.Invalid, "wearer.limit", "the limit of one payment must be above nothing and at most what the product allows")
	ErrDish      = fail.Define(fail.Invalid, "wearer.dish", "choose at least one dish of the menu")
)

// Deps is what the pages are made of.
type Deps struct {
	Kit     *web.Kit
	Desk    Desk
	Trips   Trips
	Uses    Uses   // nil: a house that acquires nothing
	Firms   Firms  // nil: a house without partners
	Losses  Losses // nil: bands cannot be reported lost here
	Body    Body   // nil: nobody counts steps
	Street  Street
	Wrist   Wrist // nil: a house without a city
	Network *web.Network
	CAs     func(context.Context) ([]emv.CAKey, error)      // keys that bank cards of the house hold under; nil: none
	Notes   func(context.Context, uint32) (web.Text, error) // what a firmware version brought; nil: none are kept
	Ref     func() string                                   // a fresh reference for a form, unguessable enough not to collide
	Now     func() time.Time                                // the house's clock
}

// pages is the handler's receiver.
type pages struct{ Deps }

// New gives the handler of "/my/".
func New(d Deps) http.Handler {
	p := pages{d}
	m := d.Kit.Mux(web.Person)
	m.Handle("GET /my", func(w http.ResponseWriter, r *http.Request) error {
		return web.Redirect(w, r, "/my/", web.Toast{})
	})
	m.Handle("GET /my/{$}", p.band)
	m.Handle("GET /my/cards/{key}", p.card)
	m.Handle("POST /my/cards/{key}/{act}", p.act)
	m.Handle("GET /my/cards/{key}/topup", p.topUpForm)
	m.Handle("POST /my/cards/{key}/topup", p.topUp)
	m.Handle("GET /my/cards/{key}/pin", p.pinForm)
	m.Handle("POST /my/cards/{key}/pin", p.pin)
	m.Handle("POST /my/cards/{key}/limit", p.limit)
	m.Handle("POST /my/cards/{key}/repay", p.repay)
	m.Handle("GET /my/uses/{id}", p.use)
	m.Handle("POST /my/band/{act}", p.wrist)
	m.Handle("GET /my/add", p.catalogue)
	m.Handle("POST /my/add", p.add)
	m.Handle("GET /my/orders/{id}", p.order)
	m.Handle("POST /my/orders/{id}/cancel", p.cancel)
	m.Handle("POST /my/orders/{id}/verify", p.verify)
	m.Handle("GET /my/wallet", p.wallet)
	m.Handle("POST /my/wallet/fund", p.fund)
	m.Handle("GET /my/wallet/code", p.wallet) // a code is made by a press only
	m.Handle("POST /my/wallet/code", p.payCode)
	m.Handle("GET /my/tap", p.tapForm)
	m.Handle("POST /my/tap", p.tap)
	m.Handle("GET /my/taps/{ref}", p.tapped)
	m.Handle("POST /my/taps/{ref}/sign", p.sign)
	m.Handle("GET /my/security", p.security)
	m.Handle("POST /my/security/passcode", p.passcode)
	m.Handle("POST /my/security/policy", p.policy)
	m.Handle("GET /my/firms", p.firms)
	m.Handle("POST /my/firms", p.agree)
	m.Handle("POST /my/firms/withdraw", p.takeBack)
	m.Handle("GET /my/lost", p.lost)
	m.Handle("POST /my/lost/{act}", p.lose)
	m.Handle("GET /my/activity", p.activity)
	m.Handle("POST /my/activity/forget", p.forget)
	m.Handle("GET /my/trips", p.trips)
	m.Handle("GET /my/trips/{id}", p.trip)
	m.Handle("POST /my/trips/{id}/repair", p.repair)
	return m
}

// nav is the bar at the thumb.
var nav = []web.NavItem{
	{Href: "/my/", Name: words.Band, Icon: "watch"},
	{Href: "/my/tap", Name: words.Tap, Icon: "nfc"},
	{Href: "/my/trips", Name: words.Trips, Icon: "route"},
	{Href: "/my/wallet", Name: words.Wallet, Icon: "wallet"},
	{Href: "/my/security", Name: words.Security, Icon: "shield-check"},
}

// show renders a page of the phone.
func (p pages) show(w http.ResponseWriter, r *http.Request, page web.Page, body component) error {
	page.Nav, page.Phone, page.Topics = nav, true, []string{"my:" + who(r)}
	return p.Kit.Page(w, r, page, body)
}

// who is the customer a request speaks for: the session's, never the form's.
func who(r *http.Request) string {
	u, _ := web.Who(r.Context())
	return u.Subject
}

// find gives the person's card with a key.
func (p pages) find(r *http.Request, key string) (Card, error) {
	cards, err := p.Desk.Cards(r.Context(), who(r))
	if err != nil {
		return Card{}, fmt.Errorf("cards of %s: %w", who(r), err)
	}
	for _, c := range cards {
		if c.Key() == key {
			return c, nil
		}
	}
	return Card{}, fmt.Errorf("card %q: %w", key, ErrNoCard)
}
