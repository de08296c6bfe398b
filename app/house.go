// Package app wires one house: the store with its writer, the books, the
// keys, the domains, the pages, and what follows from what (reactions.go).
// Config says which house; New makes it; Handler is its door; Tick does what
// has become due. Production, the demo and the city run the same house.
package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"koala/acquiring"
	"koala/activity"
	"koala/customer"
	"koala/dispute"
	"koala/firmware"
	"koala/hsm"
	"koala/internal/db"
	"koala/internal/once"
	"koala/internal/outbox"
	"koala/internal/proposal"
	"koala/issuing"
	"koala/ledger"
	"koala/merchant"
	"koala/reconcile"
	"koala/risk"
	"koala/settlement"
	"koala/slip"
	"koala/switching"
	"koala/switching/route"
	"koala/transit"
	"koala/transit/network"
	"koala/tsm"
	"koala/wallet"
	"koala/web/merchant/shell"
	"koala/web/open"
	"koala/web/ops"
)

// A House is one running platform.
type House struct {
	Config    Config
	Store     *db.Store
	Book      *ledger.Book
	Keys      *hsm.HSM
	Outbox    *outbox.Outbox
	Desk      *customer.Desk
	Bank      *issuing.Bank
	TSM       *tsm.Manager
	Acquiring *acquiring.Office
	Merchants *merchant.Desk
	Switch    *switching.Host
	Slips     *slip.Desk
	Risk      *risk.Engine
	Transit   *transit.Office
	Network   *network.Network
	Inbox     *reconcile.Inbox
	ecash     ecashDesk
}

// schemas are the tables of the house, in the order they are made.
var schemas = []db.Schema{outbox.Schema, proposal.Schema, customer.Schema, wallet.Schema,
	settlement.Schema, merchant.Schema, reconcile.Schema, dispute.Schema, risk.Schema, issuing.Schema, tsm.Schema, acquiring.Schema, switching.Schema, slip.Schema, transit.Schema, activity.Schema, firmware.Schema, ops.Schema, once.Schema, open.Schema, shell.Schema, Schema}

// New opens the house: it makes what a fresh folder lacks and loads the rest.
func New(ctx context.Context, cfg Config) (*House, error) {
	cfg, err := cfg.filled()
	if err != nil {
		return nil, err
	}
	h := &House{Config: cfg, Network: network.Beijing()}
	h.Store, err = db.Open(ctx, db.Config{URL: cfg.DB, Clock: cfg.Clock, Rand: cfg.Rand, Inline: cfg.Inline, Faults: cfg.Faults})
	if err != nil {
		return nil, err
	}
	if err := h.wire(ctx); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

func (h *House) wire(ctx context.Context) (err error) {
	cfg := h.Config
	if err := h.Store.Migrate(ctx, schemas...); err != nil {
		return err
	}
	// Keys before the book, whose projector writes as soon as it is open: a house
	// that is refused for its keys stays as it is.
	if h.Keys, err = hsm.Open(ctx, h.Store, hsm.Config{KeyFile: cfg.KeyFile, Rand: cfg.Rand, Primes: cfg.Primes}); err != nil {
		return err
	}
	books := ledger.Config{Inline: cfg.Inline}
	if !h.Store.Embedded() && !cfg.Inline {
		books.Views = cfg.DB // a schema and a writer of their own: the projector must not wait in the house's queue
	}
	if h.Book, err = ledger.Open(ctx, h.Store, books); err != nil {
		return err
	}
	h.Outbox = outbox.Open(h.Store)
	settlement.RememberSplits(h.Store)
	h.Desk = &customer.Desk{Store: h.Store, Seal: h.Keys.Seal, Salt: cfg.Rand}
	h.Bank = issuing.NewBank(h.Store, h.Keys)
	h.openInbox()
	h.Acquiring = acquiring.NewOffice(h.Store, h.Keys, h.Bank, elements)
	h.watchDesks()
	h.Merchants = &merchant.Desk{Store: h.Store, Seal: h.Keys.Seal, Token: h.Keys.Token}
	if h.Risk, err = risk.Open(ctx, h.Store, riskHolds{}); err != nil {
		return err
	}
	eyes := &watch{engine: h.Risk}
	h.Switch = switching.New(h.Store, h.Keys, h.Bank, estate{h.Store.Now, eyes}, switching.Config{Peers: cfg.Peers, Watch: eyes})
	h.Slips = &slip.Desk{Store: h.Store, Keys: h.Keys, Switch: h.Switch}
	h.Acquiring.GiveMasters(h.Switch.Install)
	h.TSM = tsm.New(h.Store, h.Keys, tsm.Config{Chunk: cfg.Chunk, Changed: h.orderChanged})
	h.Transit = transit.NewOffice(h.Store, h.Keys, h.Network)
	if err := h.provision(ctx); err != nil {
		return err
	}
	if err := h.Store.Write(ctx, h.seed); err != nil {
		return fmt.Errorf("seeding the house: %w", err)
	}
	if err := h.carryOver(ctx); err != nil {
		return err
	}
	if err := h.learnCosts(ctx); err != nil {
		return err
	}
	return h.Switch.Start(ctx)
}

// seed puts in what every house has; again it changes nothing.
func (h *House) seed(tx *db.Tx) error {
	if err := wallet.OpenHouse(tx); err != nil {
		return err
	}
	if err := issuing.Seed(tx); err != nil {
		return err
	}
	if err := issuing.SeedBank(tx); err != nil {
		return err
	}
	if err := settlement.OpenHouse(tx); err != nil {
		return err
	}
	if err := route.Seed(tx); err != nil {
		return err
	}
	if err := acquiring.CarryOver(tx); err != nil {
		return err
	}
	if err := h.openDesks(tx); err != nil {
		return err
	}
	return h.Transit.Books().SetUp(tx)
}

// Close lets the writer finish and closes everything.
func (h *House) Close() error {
	var first error
	if h.Book != nil {
		first = h.Book.Close()
	}
	if err := h.Store.Close(); first == nil {
		first = err
	}
	return first
}

// Now is the house's clock.
func (h *House) Now() time.Time { return h.Store.Now() }

// Tick does everything that has become due: orders that timed out, journeys
// that never ended, sales in suspense, the settlement of closed days, card keys
// made ahead. It may be called at any time and any number of times. A part that
// fails keeps no other from running; the error names each that did.
func (h *House) Tick(ctx context.Context) error {
	now := h.Now()
	var failed error
	for _, part := range []struct {
		name string
		do   func() error
	}{
		{"orders", func() error { return h.TSM.Tick(ctx, now) }},
		{"journeys", func() error { return h.Transit.Tick(ctx, now) }},
		{"what shops handed over", func() error { return h.Acquiring.Tick(ctx) }},
		{"the switch", func() error { return h.Switch.Tick(ctx, now) }},
		{"slips", func() error { return h.Slips.Catch(ctx) }},
		{"settlement's deadlines", func() error { return settlement.Tick(ctx, h.Store) }},
		{"settlement", func() error { return settlement.RunDue(ctx, h.Store) }},
		{"the back office", func() error { return h.tickDesks(ctx, now) }},
		{"partners' requests", func() error { return h.Store.Write(ctx, forget) }},
		{"views and keys", func() error { return h.ahead(ctx) }},
	} {
		if err := ctx.Err(); err != nil {
			return errors.Join(failed, err)
		}
		failed = errors.Join(failed, named(part.name, part.do()))
	}
	return failed
}

// named says which part an error is of.
func named(part string, err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", part, err)
	}
	return err
}

// ahead brings the views up to the journal, where nothing else does, or makes
// card keys.
func (h *House) ahead(ctx context.Context) error {
	if h.Config.Inline {
		return h.Book.Project(ctx)
	}
	return h.fillPool(ctx)
}

// Card keys made ahead: the first card of a day must not wait for a prime. A
// tick makes a few and leaves the rest to the next, so that it never holds up
// what else is due; a house with a fixed pool has no use for more.
const (
	keysAhead   = 24
	keysPerTick = 4
)

func (h *House) fillPool(ctx context.Context) error {
	ready, err := h.Keys.PoolSize(ctx)
	if err != nil || ready >= keysAhead || h.Config.Primes != nil {
		return err
	}
	_, err = h.Keys.FillPool(ctx, min(ready+keysPerTick, keysAhead))
	return err
}

// answerTime is how long the answer under an idempotency key is kept.
const answerTime = 30 * 24 * time.Hour

// forget drops what partners cannot ask for any more.
func forget(tx *db.Tx) error {
	if _, err := once.Forget(tx, tx.Now().Add(-answerTime)); err != nil {
		return err
	}
	return open.Forget(tx)
}
