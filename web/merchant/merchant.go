// Package merchant is the console of shops: what they sell, when their money
// arrives, what it costs and why, their terminals, their people, and what is
// said against their sales. Each subject has a package below this one; shell
// holds what they share. Start at New.
package merchant

import (
	"context"
	"net/http"

	"koala/customer"
	"koala/dispute"
	"koala/internal/db"
	"koala/ledger"
	"koala/merchant"
	"koala/switching"
	"koala/web"
	"koala/web/merchant/apply"
	"koala/web/merchant/cash"
	"koala/web/merchant/counter"
	"koala/web/merchant/people"
	"koala/web/merchant/quarrel"
	"koala/web/merchant/shell"
	"koala/web/merchant/till"
)

// Deps is what the console is made of.
type Deps struct {
	Kit       *web.Kit
	Store     *db.Store
	Book      *ledger.Book
	Switch    *switching.Host
	Merchants *merchant.Desk
	People    *customer.Desk
	Keys      Keys
	Bills     cash.Keys
	Slips     till.Slips
	Ref       func() string // names a form
}

// Keys is what the pages ask of the hsm.
type Keys interface {
	Seal(ctx context.Context, clear []byte) ([]byte, error)
	Unseal(ctx context.Context, sealed []byte) ([]byte, error)
	Random(ctx context.Context, b []byte) error
}

// New gives the console: pages for a merchant's staff, and two that anybody may
// open, to apply and to join.
func New(d Deps) http.Handler {
	desk := shell.Desk{Kit: d.Kit, Store: d.Store}
	staff, public := d.Kit.Mux(web.Trade), d.Kit.Mux(web.Public)
	staff.Handle("GET /merchant", func(w http.ResponseWriter, r *http.Request) error {
		return web.Redirect(w, r, shell.Home, web.Toast{})
	})
	desk.Route(staff, "POST /merchant/shop", "", desk.Choose)
	sales := till.Deps{Desk: desk, Book: d.Book, Switch: d.Switch, Slips: d.Slips, Ref: d.Ref}
	till.Routes(staff, sales)
	cash.Routes(staff, cash.Deps{Desk: desk, Book: d.Book, Bills: d.Bills})
	counter.Routes(staff, counter.Deps{Desk: desk})
	quarrel.Routes(staff, quarrel.Deps{Desk: desk, Seal: d.Keys, Sources: []dispute.Source{sales}})
	persons := people.Deps{Desk: desk, People: d.People, Random: d.Keys.Random}
	people.Routes(staff, persons)
	people.Public(public, persons)
	papers := apply.Deps{Desk: desk, People: d.People, Merchants: d.Merchants, Seal: d.Keys.Seal}
	apply.Routes(staff, papers)
	apply.Public(public, papers)
	all := http.NewServeMux()
	all.Handle("/merchant/apply", public)
	all.Handle("/merchant/join", public)
	all.Handle("/", staff)
	return all
}
