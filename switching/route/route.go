// Package route says which issuer's host is asked about a card: routes by the
// first digits of the number, several ways to the same issuer, and which of them
// is the cheapest that can be reached. Start at Table.Of and Route.Order.
package route

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"koala/internal/db"
	"koala/internal/fail"
	"koala/issuing/bin"
)

// ErrRoute is a route that is none.
var ErrRoute = fail.Define(fail.Invalid, "route.shape", "a route has a prefix of 1 to 12 digits, hosts of at most 32 letters and digits, each once, and no stand-in limit below zero")

// A Route says who decides about the cards of a range of numbers. The longest
// prefix wins.
type Route struct {
	Prefix  string   // digits
	Length  int      // of the number; 0: any
	Host    string   // empty: our own bank
	Ways    []string // further hosts that reach the same issuer, in the order in which they are tried when costs are not known
	Class   string   // fee class: debit, credit, prepaid
	Foreign bool     // a card of another country: counted apart in settlement
	StandIn int64    // fen that is approved, with a chip, when no host can be reached; 0: nothing
	Source  string
}

// maxWays bounds the hosts of a route: each that cannot be reached costs time.
const maxWays = 4

// check refuses what is no route.
func (r Route) check() error {
	bad := r.Prefix == "" || len(r.Prefix) > 12 || strings.Trim(r.Prefix, "0123456789") != "" || r.StandIn < 0 || len(r.Ways) > maxWays-1 || r.Host == "" && len(r.Ways) > 0
	hosts := r.Hosts()
	for i, h := range hosts {
		bad = bad || len(h) > 32 || strings.ContainsAny(h, " ") || i > 0 && h == "" || slices.Contains(hosts[:i], h)
	}
	if bad {
		return fmt.Errorf("route %.20q to %.80q: %w", r.Prefix, hosts, ErrRoute)
	}
	return nil
}

// Hosts are all ways to the issuer, the first one first.
func (r Route) Hosts() []string { return append([]string{r.Host}, r.Ways...) }

// A Table is the routes in memory.
type Table struct {
	byPrefix map[string][]Route
	longest  int
}

// Of finds the route of a card number.
func (t *Table) Of(number string) (Route, bool) {
	if t == nil {
		return Route{}, false
	}
	for n := min(len(number), t.longest); n > 0; n-- {
		var any Route
		found := false
		for _, r := range t.byPrefix[number[:n]] {
			if r.Length == len(number) {
				return r, true
			}
			if r.Length == 0 {
				any, found = r, true
			}
		}
		if found {
			return any, true
		}
	}
	return Route{}, false
}

// Load reads the table.
func Load(q db.Reader) (*Table, error) {
	t := &Table{byPrefix: map[string][]Route{}}
	list, err := List(q, "", 1<<20)
	for _, r := range list {
		t.byPrefix[r.Prefix] = append(t.byPrefix[r.Prefix], r)
		t.longest = max(t.longest, len(r.Prefix))
	}
	return t, err
}

// Step adds the further ways to the table of routes.
const Step = `ALTER TABLE switching_route ADD COLUMN ways TEXT NOT NULL DEFAULT ''`

// List lists the routes, from the prefix after the given.
func List(q db.Reader, after string, limit int) (out []Route, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var r Route
		var ways string
		err := scan(&r.Prefix, &r.Length, &r.Host, &ways, &r.Class, &r.Foreign, &r.StandIn, &r.Source)
		if ways != "" {
			r.Ways = strings.Split(ways, " ")
		}
		out = append(out, r)
		return err
	}, `SELECT prefix, length, host, ways, class, abroad, standin, source FROM switching_route WHERE prefix > $1 ORDER BY prefix, length LIMIT $2`, after, max(limit, 1))
	return out, err
}

// Set writes a route; a switch uses it once it has loaded the table again.
func Set(tx *db.Tx, r Route) error {
	if err := r.check(); err != nil {
		return err
	}
	_, err := tx.Exec(`INSERT INTO switching_route (prefix, length, host, ways, class, abroad, standin, source) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (prefix, length) DO UPDATE SET host = excluded.host, ways = excluded.ways, class = excluded.class, abroad = excluded.abroad, standin = excluded.standin, source = excluded.source`,
		r.Prefix, r.Length, r.Host, strings.Join(r.Ways, " "), r.Class, r.Foreign, r.StandIn, r.Source)
	return err
}

// Network is the host of ranges whose list names no bank: the network knows
// whose they are.
const Network = "CUP"

// Seeded is the source of routes out of the published ranges.
const Seeded = "card_bins.csv"

// Seed writes the routes of the published ranges where there are none: the
// house's own numbers to its bank, every other bank's to a host that has the
// bank's code as its name, those of no bank to Network.
func Seed(tx *db.Tx) error {
	var n int
	if err := tx.QueryRow(`SELECT COUNT(*) FROM switching_route`).Scan(&n); err != nil || n > 0 {
		return err
	}
	for _, b := range bin.All() {
		r := Route{Prefix: b.Prefix, Length: b.Length, Host: cmp.Or(b.Bank, Network), Class: classOf(b), Source: Seeded}
		if b.House() && strings.HasPrefix(b.Prefix, bin.HousePrefix) {
			r.Host = ""
		}
		if err := Set(tx, r); err != nil {
			return err
		}
	}
	return Set(tx, Route{Prefix: bin.HousePrefix, Class: "debit", Source: "the house's own numbers"})
}

// classOf is the fee class of a range.
func classOf(b bin.Range) string {
	switch b.Type {
	case "CC", "SCC":
		return "credit"
	case "PC":
		return "prepaid"
	}
	return "debit"
}

// Kind is the kind of proposals about routes: another person has to confirm one
// before a switch goes by it.
const Kind = "route"

// About is what a proposal of a route is about.
func (r Route) About() string { return fmt.Sprintf("%s:%s/%d", Kind, r.Prefix, r.Length) }
