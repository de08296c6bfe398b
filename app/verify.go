package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"koala/acquiring"
	"koala/internal/db"
	"koala/issuing"
	"koala/issuing/points"
	"koala/ledger"
	"koala/merchant"
	"koala/settlement"
	"koala/switching"
	"koala/transit"
)

// A Proof is what koala verify found.
type Proof struct {
	OK       bool     `json:"ok"`
	Books    int      `json:"books"`
	Entries  uint64   `json:"entries"`
	Batches  uint64   `json:"batches"`
	Hash     string   `json:"hash"` // of the journal's last batch
	Problems []string `json:"problems"`
}

// Verify proves the books from the journal, and then the books against what
// they stand for: the bank against what the house owes people and operators,
// payouts against captures, agents' commissions against what they are of, bills and slips against their chains and keys, shops against what their devices handed over, the
// desks' suspense accounts and holds against their cases, sales for points against the switch, no card's float and no firm's fund below zero.
func (h *House) Verify(ctx context.Context) (Proof, error) {
	if err := h.Book.Project(ctx); err != nil {
		return Proof{}, fmt.Errorf("bringing the views up to the journal: %w", err)
	}
	r, err := h.Book.Verify(ctx)
	if err != nil {
		return Proof{}, fmt.Errorf("verifying the journal: %w", err)
	}
	p := Proof{Books: 1, Entries: r.Entries, Batches: r.Batches, Hash: r.Hash, Problems: []string{}}
	for _, x := range r.Problems {
		p.Problems = append(p.Problems, x.Where+": "+x.What)
	}
	for _, check := range []func(context.Context) ([]string, error){h.checkSums, h.checkSettlement, h.checkAgents, h.papers().Prove, h.Slips.Prove, h.checkOwed, h.checkShops, h.checkFirms, h.checkCards, h.checkPoints, h.checkDesks} {
		wrong, err := check(ctx)
		if err != nil {
			return p, err
		}
		p.Problems = append(p.Problems, wrong...)
	}
	p.OK = len(p.Problems) == 0
	return p, nil
}

// checkSums proves that debits equal credits over the whole chart.
func (h *House) checkSums(context.Context) ([]string, error) {
	if t := h.Book.TrialBalance(); !t.Balanced {
		return []string{fmt.Sprintf("trial balance: debits %v, credits %v", t.Debit, t.Credit)}, nil
	}
	return nil, nil
}

// checkSettlement proves that payouts are their captures and that every fare
// was shared among operators to the fen.
func (h *House) checkSettlement(ctx context.Context) (wrong []string, err error) {
	err = h.Store.Read(ctx, func(q *db.Query) error {
		paid, err := settlement.Check(q)
		if err != nil {
			return err
		}
		shared, err := transit.Check(q)
		wrong = append(paid, shared...)
		return err
	})
	return wrong, err
}

// checkAgents proves of each agent that what it was given of charges, its items
// and the books are one sum.
func (h *House) checkAgents(ctx context.Context) (wrong []string, err error) {
	err = h.Store.Write(ctx, func(tx *db.Tx) error {
		wrong, err = merchant.ProveAgents(tx)
		return err
	})
	return wrong, err
}

// The chart codes of settlement's, issuing's and acquiring's accounts.
const (
	codePayable = "2030"
	codeFloat   = "2020"
	codeFunding = "2060"
)

// allAccounts is a limit beyond any chart.
const allAccounts = 1 << 30

// checkOwed proves that what stands on each payee's account is what waits to
// be paid out. The unit changes nothing: between two others, books and rows
// are of one moment.
func (h *House) checkOwed(ctx context.Context) (wrong []string, err error) {
	err = h.Store.Write(ctx, func(tx *db.Tx) error {
		wrong = nil
		open, err := settlement.Open(tx)
		if err != nil {
			return err
		}
		waits := map[ledger.AccountID]int64{}
		for _, p := range open {
			waits[settlement.Payable(p.Payee)] = p.Amount.Minor()
		}
		for _, a := range h.Book.Accounts(codePayable, "", allAccounts) {
			b, err := ledger.BalanceOf(tx, a.ID)
			if err != nil {
				return err
			}
			if w := waits[a.ID]; b.Posted.Minor() != w {
				wrong = append(wrong, fmt.Sprintf("payee account %s holds %s, its captures not paid out are %d fen", a.ID, b.Posted, w))
			}
		}
		return nil
	})
	return wrong, err
}

// checkShops proves that what each shop was paid and is owed is what its devices
// handed over and was booked: every sale, meal and coupon once, and nothing else.
func (h *House) checkShops(ctx context.Context) (wrong []string, err error) {
	err = h.Store.Write(ctx, func(tx *db.Tx) error {
		wrong = nil
		earned, err := acquiring.Earned(tx)
		if err != nil {
			return err
		}
		for _, shop := range slices.Sorted(maps.Keys(earned)) {
			online, err := switching.Live(tx, switching.Filter{Shop: shop, Limit: 1})
			if err != nil {
				return err
			}
			if len(online) > 0 {
				continue // what its terminals sold is not only handed over: settlement's items prove it
			}
			b, err := ledger.BalanceOf(tx, settlement.Payable(shop))
			if err != nil {
				return err
			}
			paid, err := settlement.Paid(tx, shop)
			if err != nil {
				return err
			}
			if owed := b.Posted.Minor(); owed+paid.Minor() != earned[shop] {
				wrong = append(wrong, fmt.Sprintf("shop %s was paid %s and is owed %s, what its devices handed over is %d fen", shop, paid, b.Posted, earned[shop]))
			}
		}
		return nil
	})
	return wrong, err
}

// checkPoints proves sales for points against the switch and the house's account.
func (h *House) checkPoints(ctx context.Context) (wrong []string, err error) {
	err = h.Store.Write(ctx, func(tx *db.Tx) (err error) {
		wrong, err = points.Prove(tx, func(ref string) (s points.Sale, err error) {
			t, err := switching.Transaction(tx, ref)
			if errors.Is(err, switching.ErrNotFound) {
				return s, nil
			}
			s = points.Sale{Known: err == nil && t.Kind == "points", Card: string(t.Card), Asked: t.Amount.Minor(), Booked: t.State == switching.Cleared}
			if s.Booked || t.State == switching.Approved {
				s.Stands = t.Due.Sub(t.Refunded).Minor()
			}
			return s, err
		})
		return err
	})
	return wrong, err
}

// checkFirms proves that no firm's fund was overdrawn.
func (h *House) checkFirms(context.Context) (wrong []string, err error) {
	for _, a := range h.Book.Accounts(codeFunding, "", allAccounts) {
		if a.Balance.Sign() < 0 {
			wrong = append(wrong, fmt.Sprintf("fund %s holds %s", a.ID, a.Balance))
		}
	}
	return wrong, nil
}

// checkCards proves that no card spent more than was loaded onto it, as far
// as collected taps tell, that a returned card left no money behind, and that
// every float is a card's.
func (h *House) checkCards(ctx context.Context) (wrong []string, err error) {
	const page = 200
	floats := h.Book.Accounts(codeFloat, "", allAccounts)
	known := make(map[ledger.AccountID]bool, len(floats))
	var cards []issuing.Card
	for after := issuing.CardID(""); err == nil && (after == "" || len(cards) == page); {
		err = h.Store.Read(ctx, func(q *db.Query) (err error) {
			cards, err = issuing.List(q, after, page)
			return err
		})
		for _, c := range cards {
			after = c.ID
			known[issuing.Float(c.ID)] = true
			if w := h.checkFloat(c); w != "" {
				wrong = append(wrong, w)
			}
		}
		if len(cards) == 0 {
			break
		}
	}
	for _, f := range floats {
		if n, ok := strings.CutPrefix(string(f.ID), string(issuing.Float(""))); err == nil && ok && !known[f.ID] {
			wrong = append(wrong, fmt.Sprintf("card %s: its float holds %s, but there is no such card", issuing.CardID(n).Masked(), f.Balance))
		}
	}
	return wrong, err
}

// checkFloat looks at the money of a card; kinds without money have none.
func (h *House) checkFloat(c issuing.Card) string {
	if !c.Kind.Money() {
		return ""
	}
	b, err := h.Book.Balance(issuing.Float(c.ID))
	switch {
	case err != nil:
		return fmt.Sprintf("card %s: its float account: %v", c.ID.Masked(), err)
	case b.Posted.Sign() < 0:
		return fmt.Sprintf("card %s: its float is %s", c.ID.Masked(), b.Posted)
	case c.State.Over() && c.State != issuing.Replaced && c.Suspended.IsZero() && !b.Posted.IsZero(): // what a lost card spent may still come in
		return fmt.Sprintf("card %s is %s, but its float holds %s", c.ID.Masked(), c.State, b.Posted)
	}
	return ""
}
