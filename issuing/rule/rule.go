// Package rule keeps the issuer's numbers that have dates: limits of payments,
// waiting times. A card's own row goes before its product's, that before
// everybody's. Start at On; who asks with every payment asks Book.
package rule

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"koala/internal/db"
	"koala/internal/fail"
)

// A Name names a number.
type Name string

// The numbers.
const (
	Once  Name = "once"       // one online payment at most, fen
	Day   Name = "day"        // online payments of a Beijing day at most, fen
	Claim Name = "claim.days" // from the report of a loss to its payment, days
)

// A Ruling is a number in a span of time.
type Ruling struct {
	Scope    string // a card, a product, or empty: everybody
	Name     Name
	From, To time.Time // from incl., to excl.; zero To: open
	Value    int64
	Source   string
}

// ErrNone is a number that nobody has laid down.
var ErrNone = fail.Define(fail.NotFound, "issuing.no_rule", "no rule covers this card and day")

// On is the ruling in force for a card of a product.
func On(q db.Reader, card, product string, n Name, on time.Time) (out Ruling, err error) {
	for _, scope := range []string{card, product, ""} {
		var from, to int64
		out = Ruling{Scope: scope, Name: n}
		err = q.QueryRow(`SELECT valid_from, valid_to, value, source FROM issuing_rule
			WHERE scope = $1 AND rule = $2 AND valid_from <= $3 AND (valid_to = 0 OR valid_to > $3)
			ORDER BY valid_from DESC LIMIT 1`, scope, string(n), on.UnixMicro()).Scan(&from, &to, &out.Value, &out.Source)
		if err == nil {
			out.From, out.To = db.Moment(from), db.Moment(to)
			return out, nil
		}
		if !errors.Is(err, db.ErrNoRows) {
			return out, err
		}
	}
	return out, fmt.Errorf("rule %s of product %s: %w", n, product, ErrNone)
}

// changes counts the rows that were set, of all stores.
var changes atomic.Int64

// Set lays a ruling down; one of the same scope, name and begin is replaced.
func Set(tx *db.Tx, r Ruling) error {
	to := int64(0)
	if !r.To.IsZero() {
		to = r.To.UnixMicro()
	}
	from := int64(0)
	if !r.From.IsZero() {
		from = r.From.UnixMicro()
	}
	_, err := tx.Exec(`INSERT INTO issuing_rule (scope, rule, valid_from, valid_to, value, source) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (scope, rule, valid_from) DO UPDATE SET valid_to = excluded.valid_to, value = excluded.value, source = excluded.source`,
		r.Scope, string(r.Name), from, to, r.Value, r.Source)
	tx.After(func() { changes.Add(1) })
	return err
}

// A Book has the rulings of products and of everybody in memory, as they are
// durable: a payment asks for two of them.
type Book struct{ at atomic.Pointer[Numbers] }

// Numbers are the rulings at one moment of the store.
type Numbers struct {
	changes int64
	rows    map[key][]Ruling // newest first
	own     bool             // there are rulings of cards
}

type key struct {
	scope string
	name  Name
}

// Numbers reads them, again when one was set since.
func (b *Book) Numbers(ctx context.Context, s *db.Store) (*Numbers, error) {
	if n := b.at.Load(); n != nil && n.changes == changes.Load() {
		return n, nil
	}
	n := &Numbers{changes: changes.Load(), rows: map[key][]Ruling{}}
	err := s.Read(ctx, func(q *db.Query) error {
		clear(n.rows)
		err := db.Each(q, func(scan func(...any) error) error {
			var r Ruling
			var from, to int64
			err := scan(&r.Scope, &r.Name, &from, &to, &r.Value)
			r.From, r.To = db.Moment(from), db.Moment(to)
			k := key{r.Scope, r.Name}
			n.rows[k] = append(n.rows[k], r)
			return err
		}, `SELECT scope, rule, valid_from, valid_to, value FROM issuing_rule WHERE scope = '' OR scope IN (SELECT code FROM issuing_product) ORDER BY valid_from DESC, scope, rule`)
		if err != nil {
			return err
		}
		return q.QueryRow(`SELECT EXISTS (SELECT 1 FROM issuing_rule WHERE scope <> '' AND scope NOT IN (SELECT code FROM issuing_product))`).Scan(&n.own)
	})
	if err != nil {
		return nil, fmt.Errorf("the issuer's rules: %w", err)
	}
	b.at.Store(n)
	return n, nil
}

// Limits are Once and Day for a card of a product at a moment.
func (n *Numbers) Limits(q db.Reader, card, product string, at time.Time) (once, day int64, err error) {
	if once, err = n.Value(q, card, product, Once, at); err == nil {
		day, err = n.Value(q, card, product, Day, at)
	}
	return once, day, err
}

// Value is the number for a card of a product at a moment, ErrNone when there
// is none. Where cards have rulings of their own, the store is asked.
func (n *Numbers) Value(q db.Reader, card, product string, name Name, at time.Time) (int64, error) {
	if n.own {
		r, err := On(q, card, product, name, at)
		return r.Value, err
	}
	for _, scope := range []string{product, ""} {
		for _, r := range n.rows[key{scope, name}] {
			if !at.Before(r.From) && (r.To.IsZero() || at.Before(r.To)) {
				return r.Value, nil
			}
		}
	}
	return 0, fmt.Errorf("rule %s of product %s: %w", name, product, ErrNone)
}
