// Package ops is the operations console: what staff see and do. Orders over
// the air with every APDU, cards and bands, gates and buses, journeys with
// their fares and repairs, the deny list, the books down to the hash of a
// batch, settlement, keys by check value, and the trail of what staff did.
//
// Start at New. Every page that shows an act leads to its trace: an order's
// commands and answers, a journey's taps and fare lines, an entry's legs; all
// three name each other. A change by staff and its audit row are one unit of
// work (shell.Keep). Auditors see everything; the kit turns their
// changes away, and pages do not offer them.
//
// The house's events (order.*, journey.*, tap.collected, card.denied) come over
// the hub's topic "ops" and make the pages that concern them read themselves
// again; see shell.
//
// Subjects with pages of their own live in the packages beside: cards and
// issuers, e-cash, firmware, partners; the switch, its terminals and merchants,
// payouts, reconciliation, risk and disputes.
package ops

import (
	"context"
	"net/http"

	"koala/acquiring"
	"koala/dispute"
	rollouts "koala/firmware"
	"koala/hsm"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/ledger"
	"koala/merchant"
	"koala/reconcile"
	"koala/risk"
	"koala/spec/firmware"
	"koala/switching"
	"koala/transit"
	"koala/transit/network"
	"koala/tsm"
	"koala/web"
	"koala/web/ops/cases"
	"koala/web/ops/closings"
	"koala/web/ops/ecash"
	"koala/web/ops/estate"
	"koala/web/ops/issuer"
	"koala/web/ops/keys"
	"koala/web/ops/lost"
	"koala/web/ops/merchants"
	"koala/web/ops/partner"
	"koala/web/ops/recon"
	"koala/web/ops/riskdesk"
	"koala/web/ops/rollout"
	"koala/web/ops/shell"
	"koala/web/ops/shops"
	"koala/web/ops/switchboard"
	"koala/web/ops/terms"
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
	Office  *acquiring.Office
	Publish func(context.Context) error // the next version of the deny list
	Network *network.Network
	Map     *web.Network
	// Connect lets a band's agent fetch its script soon, where the house can
	// reach it (the simulated phones of a demo); may be nil.
	Connect func(ctx context.Context, band string)
	// Catalog is what the house's card catalogue makes as a release; may be nil.
	Catalog func() firmware.Release

	Switch *switching.Host
	Risk   *risk.Engine
	// Sources know evidence about disputed sales beside what shops upload.
	Sources []dispute.Source
	// Inbox takes clearing files and bank statements.
	Inbox *reconcile.Inbox
	// Sales finds the sales that are disputed.
	Sales dispute.Finder
}

// Schema is what the console keeps: its audit trail.
var Schema = shell.Schema

// ErrNoCard is a card that its holder's page does not have.
var ErrNoCard = fail.Define(fail.NotFound, "ops.no_card", "this customer has no such card")

// pages is the handlers' receiver.
type pages struct {
	Deps
	desk shell.Desk
}

// New gives the handler of "/ops/".
func New(d Deps) http.Handler {
	if d.SealKey == "" {
		d.SealKey = hsm.LabelPack
	}
	p := pages{d, shell.Desk{Kit: d.Kit, Store: d.Store}}
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
	m.Handle("GET /ops/audit", p.audit)
	p.subjects(m)
	return m
}

// subjects mounts the pages that have a package of their own.
func (p pages) subjects(m *web.Mux) {
	issuer.Routes(m, issuer.Deps{Desk: p.desk})
	switchboard.Routes(m, switchboard.Deps{Desk: p.desk, Book: p.Book, Switch: p.Switch})
	estate.Routes(m, estate.Deps{Desk: p.desk, Switch: p.Switch})
	merchants.Routes(m, merchants.Deps{Desk: p.desk, Book: p.Book, Switch: p.Switch, Unseal: p.Keys.Unseal,
		Merchants: &merchant.Desk{Store: p.Store, Seal: p.Keys.Seal, Token: p.Keys.Token}})
	closings.Routes(m, closings.Deps{Desk: p.desk})
	terms.Routes(m, terms.Deps{Desk: p.desk})
	recon.Routes(m, recon.Deps{Desk: p.desk, Inbox: p.Inbox})
	riskdesk.Routes(m, riskdesk.Deps{Desk: p.desk, Engine: p.Risk})
	cases.Routes(m, cases.Deps{Desk: p.desk, Seal: p.Keys, Sources: p.Sources, Find: p.Sales})
	keys.Routes(m, keys.Deps{Desk: p.desk, HSM: p.Keys})
	ecash.Routes(m, ecash.Deps{Desk: p.desk, Book: p.Book, Office: p.Office, Card: cardPath})
	shops.Routes(m, shops.Deps{Desk: p.desk, Book: p.Book, Office: p.Office})
	lost.Routes(m, lost.Deps{Desk: p.desk, TSM: p.TSM, Card: cardPath})
	rollout.Routes(m, rollout.Deps{Desk: p.desk, Catalog: p.Catalog, Publish: func(ctx context.Context, r firmware.Release) error {
		return rollouts.Publish(ctx, p.Store, p.Keys, r)
	}})
	partner.Routes(m, partner.Deps{Desk: p.desk, Random: p.Keys.Random})
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
