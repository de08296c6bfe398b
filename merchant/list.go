package merchant

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/ledger"
	"koala/settlement"
)

// An Event is one thing in a merchant's life.
type Event struct {
	Seq      int64
	Merchant string
	About    string // merchant, shop or terminal
	What     string // applied, checking, shop.approved, terminal.injected…
	From, To string // states or numbers; empty: none
	By       string // empty: the house's own program
	Why      string
	At       time.Time
}

func (e Event) row() []any {
	return []any{e.Merchant, e.Seq, e.About, e.What, e.From, e.To, e.By, e.Why, micros(e.At)}
}

// tell keeps an event.
func tell(tx *db.Tx, e Event) error {
	e.Seq, e.At = tx.NewSeq(), tx.Now()
	return eventSheet.insert(tx, e.row())
}

// ByLicence finds the merchant under a unified social credit code: one with a
// contract before one that asks for it, and the newest of those.
func ByLicence(q db.Reader, licence string) (Merchant, error) {
	list, err := parties(q, `WHERE ident = $1 AND licence <> '' ORDER BY CASE WHEN state IN ('approved', 'active', 'suspended') THEN 0 WHEN state IN ('refused', 'closed') THEN 2 ELSE 1 END, id DESC LIMIT 1`, licence)
	return one(list, err, "licence", licence)
}

// A Filter chooses merchants of a list; empty fields choose all.
type Filter struct {
	State State
	City  string // code of six digits
	Agent string
	Name  string // its beginning: the list is by name then, otherwise by id
	After string // id of the last merchant seen
	Limit int
}

// List reads merchants by id, or by name and id where a beginning is asked for.
func List(q db.Reader, f Filter) ([]Merchant, error) {
	var where []string
	var args []any
	add := func(condition string, values ...any) {
		for _, v := range values {
			args = append(args, v)
			condition = strings.Replace(condition, "?", fmt.Sprintf("$%d", len(args)), 1)
		}
		where = append(where, condition)
	}
	order := "id"
	if f.Name != "" {
		order = "name, id"
		add("name >= ? AND name < ?", f.Name, f.Name+"\U0010FFFF")
	}
	switch {
	case f.After != "" && f.Name != "":
		last, err := Of(q, f.After)
		if err != nil {
			return nil, err
		}
		add("(name, id) > (?, ?)", last.Name, last.ID)
	case f.Name == "":
		add("id > ?", f.After)
	}
	for _, c := range []struct{ column, value string }{{"agent", f.Agent}, {"city", f.City}, {"state", string(f.State)}} {
		if c.value != "" {
			add(c.column+" = ?", c.value)
		}
	}
	args = append(args, limited(f.Limit))
	return parties(q, fmt.Sprintf("WHERE %s ORDER BY %s LIMIT $%d", strings.Join(where, " AND "), order, len(args)), args...)
}

// A Count is how many merchants of a city are in a state.
type Count struct {
	City  City
	State State
	N     int64
}

// Counts reads how many merchants each city has in each state, by city.
func Counts(q db.Reader) (out []Count, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var c Count
		var city string
		err := scan(&city, &c.State, &c.N)
		c.City = cityOf[city]
		out = append(out, c)
		return err
	}, `SELECT city, state, n FROM merchant_count WHERE n <> 0 ORDER BY city, state`)
	return out, err
}

// Funnel reads how many merchants stand in each state, in the order of a life.
func Funnel(q db.Reader) ([]Count, error) {
	sums := map[State]int64{}
	err := db.Each(q, func(scan func(...any) error) error {
		var s State
		var n int64
		err := scan(&s, &n)
		sums[s] = n
		return err
	}, `SELECT state, CAST(SUM(n) AS BIGINT) FROM merchant_count GROUP BY state ORDER BY state`)
	out := make([]Count, len(States))
	for i, s := range States {
		out[i] = Count{State: s, N: sums[s]}
	}
	return out, err
}

// A Detail is all that a merchant's page shows.
type Detail struct {
	Merchant  Merchant
	Shops     []Shop
	Terminals []Terminal // of all shops, MaxPage at most of each
	Documents []Document
	Checks    []Check // oldest first
	Open      []What  // what stands between it and its approval
	Line      []Share // its agents' shares today, the nearest first
	Timeline  []Event // oldest first
}

// DetailOf reads a merchant with everything about it.
func DetailOf(q db.Reader, id string, now time.Time) (d Detail, err error) {
	if d.Merchant, err = Of(q, id); err != nil {
		return d, err
	}
	if d.Shops, err = ShopsOf(q, id); err != nil {
		return d, err
	}
	for _, s := range d.Shops {
		list, err := TerminalsOf(q, s.ID, "", MaxPage)
		if err != nil {
			return d, err
		}
		d.Terminals = append(d.Terminals, list...)
	}
	if d.Documents, err = DocumentsOf(q, id); err != nil {
		return d, err
	}
	if d.Checks, err = ChecksOf(q, id); err != nil {
		return d, err
	}
	if d.Open, err = Missing(q, d.Merchant); err != nil {
		return d, err
	}
	if d.Line, err = PathOn(q, d.Merchant.Agent, calendar.Of(now, calendar.Beijing)); err != nil {
		return d, err
	}
	d.Timeline, err = EventsOf(q, id)
	return d, err
}

// EventsOf reads a merchant's timeline, oldest first.
func EventsOf(q db.Reader, merchant string) (out []Event, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var e Event
		var at int64
		err := scan(&e.Merchant, &e.Seq, &e.About, &e.What, &e.From, &e.To, &e.By, &e.Why, &at)
		e.At = db.Moment(at)
		out = append(out, e)
		return err
	}, `SELECT `+eventSheet.columns+` FROM merchant_event WHERE merchant = $1 ORDER BY seq`, merchant)
	return out, err
}

// Sealed reads the sealed personal data of a merchant (Secrets as JSON), for
// those who may open it.
func Sealed(q db.Reader, id string) (sealed []byte, err error) {
	err = q.QueryRow(`SELECT sealed FROM merchant_party WHERE id = $1`, id).Scan(&sealed)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("merchant %q: %w", id, err)
	}
	return sealed, nil
}

// Prove shows what the package's own rows must agree on; it lists what is
// wrong: counts against merchants, numbers of shops that trade, terminals of
// shops that are not there.
func Prove(q db.Reader) (wrong []string, err error) {
	for _, p := range []struct{ what, sql string }{
		{"city and state whose count is wrong", `SELECT c.city || ' ' || c.state FROM merchant_count c WHERE c.n <>
			(SELECT COUNT(*) FROM merchant_party p WHERE p.city = c.city AND p.state = c.state) ORDER BY 1`},
		{"merchant that is not counted", `SELECT p.id FROM merchant_party p LEFT JOIN merchant_count c ON c.city = p.city AND c.state = p.state WHERE c.n IS NULL ORDER BY 1`},
		{"shop without merchant", `SELECT s.id FROM merchant_shop s LEFT JOIN merchant_party p ON p.id = s.merchant WHERE p.id IS NULL ORDER BY 1`},
		{"shop that trades without number", `SELECT s.id FROM merchant_shop s WHERE s.mid = '' AND s.state IN ('approved', 'active', 'suspended') ORDER BY 1`},
		{"terminal without shop", `SELECT t.tid FROM merchant_terminal t LEFT JOIN merchant_shop s ON s.id = t.shop WHERE s.id IS NULL ORDER BY 1`},
	} {
		err := db.Each(q, func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			wrong = append(wrong, p.what+": "+id)
			return err
		}, p.sql)
		if err != nil {
			return nil, err
		}
	}
	return wrong, nil
}

// ProveAgents shows that what agents were given agrees wherever it is kept: the
// rows of each, its months, its items with settlement, and its account in the
// books with what it was paid; that nobody gave more back than it had of a
// shop's day; and that the house gave what all have. It lists what is wrong.
func ProveAgents(tx *db.Tx) (wrong []string, err error) {
	all, err := agents(tx, `ORDER BY id`)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	given := int64(0)
	for _, a := range all {
		had, err := accruedBy(tx, a.ID)
		if err != nil {
			return nil, err
		}
		if a.Opened.IsZero() {
			wrong = append(wrong, fmt.Sprintf("agent %s has accrued %d fen and is no payee", a.ID, had))
			continue
		}
		given += had
		w, err := proveAgent(tx, a.ID, had)
		if err != nil {
			return nil, err
		}
		wrong = append(wrong, w...)
	}
	b, err := ledger.BalanceOf(tx, Commissions)
	if err != nil && !errors.Is(err, ledger.ErrNoAccount) {
		return nil, err
	}
	if is := b.Posted.Minor(); err == nil && is != -given {
		wrong = append(wrong, fmt.Sprintf("account %s has %d fen, agents have accrued %d", Commissions, is, given))
	}
	err = db.Each(tx, func(scan func(...any) error) error {
		var agent, shop, day string
		var fen int64
		err := scan(&agent, &shop, &day, &fen)
		wrong = append(wrong, fmt.Sprintf("agent %s gave back %d fen more than it had of shop %s on %s", agent, -fen, shop, day))
		return err
	}, `SELECT agent, shop, day, CAST(SUM(fen) AS BIGINT) FROM merchant_accrual WHERE day <> '' GROUP BY agent, shop, day HAVING SUM(fen) < 0 ORDER BY agent, shop, day`)
	return wrong, err
}

// proveAgent compares what one agent has accrued with what other rows say.
func proveAgent(tx *db.Tx, agent string, had int64) (wrong []string, err error) {
	var months int64
	if err := tx.QueryRow(`SELECT CAST(COALESCE(SUM(fen), 0) AS BIGINT) FROM merchant_month WHERE agent = $1`, agent).Scan(&months); err != nil {
		return nil, err
	}
	name := Payee(agent)
	items, err := itemsOf(tx, name)
	if err != nil {
		return nil, err
	}
	owed, err := ledger.BalanceOf(tx, settlement.Payable(name))
	if err != nil {
		return nil, err
	}
	paid, err := settlement.Paid(tx, name)
	if err != nil {
		return nil, err
	}
	for _, x := range []struct {
		what string
		fen  int64
	}{{"its months sum to", months}, {"its items sum to", items}, {"the books gave it", owed.Posted.Minor() + paid.Minor()}} {
		if x.fen != had {
			wrong = append(wrong, fmt.Sprintf("agent %s has accrued %d fen, %s %d", agent, had, x.what, x.fen))
		}
	}
	return wrong, nil
}

// itemsOf sums the items of a payee: those that were closed, which settlement
// proves, and those that wait.
func itemsOf(tx *db.Tx, payee string) (sum int64, err error) {
	for before := ""; ; {
		list, err := settlement.Closings(tx, payee, before, MaxPage)
		if err != nil {
			return 0, err
		}
		for _, p := range list {
			before = p.ID
			sum += p.Gross.Minor() + p.Refunds.Minor() + p.Chargebacks.Minor()
		}
		if len(list) < MaxPage {
			break
		}
	}
	now, err := settlement.Today(tx, payee, tx.Now())
	if err != nil {
		return 0, err
	}
	return sum + now.Gross.Minor() + now.Refunds.Minor(), nil
}
