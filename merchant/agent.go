package merchant

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/money"
)

// The limits of the agents' tree.
const (
	MaxLevels = 6      // agents above each other
	wholeFee  = 10_000 // basis points
)

// An Agent brings merchants and is paid by a share of the house's net fee;
// agents stand under agents.
type Agent struct {
	ID   string // at most 40 bytes
	Name string
	Over string // superior; empty: right below the house
	Made time.Time
}

// A Share is what one agent has of the net fee.
type Share struct {
	Agent  string
	Points int64 // basis points of the net fee, for this agent alone
}

// A Part is what one agent is given of a fee (below zero: what it gives back).
type Part struct {
	Agent  string // empty: the house keeps it
	Amount money.Amount
}

// Commission splits a net fee over the agents of a path and the house, which
// keeps the rest: to the fen, by largest remainder, the house last. A negative
// fee is split as its opposite is. Points below nothing or above 10,000 in sum
// are ErrRate.
func Commission(path []Share, net money.Amount) ([]Part, error) {
	weights := make([]int64, len(path)+1)
	left := int64(wholeFee)
	for i, s := range path {
		if s.Points < 0 || s.Points > left {
			return nil, fmt.Errorf("share of %s: %w", s.Agent, ErrRate)
		}
		weights[i], left = s.Points, left-s.Points
	}
	weights[len(path)] = left
	whole := net
	if net.Sign() < 0 {
		whole = net.Neg()
	}
	out := make([]Part, len(weights))
	for i, a := range whole.Apportion(weights) {
		if net.Sign() < 0 {
			a = a.Neg()
		}
		out[i].Amount = a
		if i < len(path) {
			out[i].Agent = path[i].Agent
		}
	}
	return out, nil
}

// Clawback is what changes hands when a sale's net fee falls from before to
// after because it was reversed or charged back: the difference of both
// commissions, so that after any row of returns everybody has exactly the
// commission of what is left, and nothing when nothing is.
func Clawback(path []Share, before, after money.Amount) ([]Part, error) {
	had, err := Commission(path, before)
	if err != nil {
		return nil, err
	}
	keeps, err := Commission(path, after)
	if err != nil {
		return nil, err
	}
	for i := range keeps {
		keeps[i].Amount = keeps[i].Amount.Sub(had[i].Amount)
	}
	return keeps, nil
}

// AddAgent registers an agent. The same again changes nothing; a superior is
// for ever.
func AddAgent(tx *db.Tx, a Agent) error {
	bad := func(err error) error { return fmt.Errorf("agent %q: %w", a.ID, err) }
	if a.ID == "" || len(a.ID) > 40 || !plainText(a.Name, MaxName) {
		return bad(ErrAgent)
	}
	known, err := AgentOf(tx, a.ID)
	if err == nil {
		if known.Name != a.Name || known.Over != a.Over {
			return bad(ErrDiffers)
		}
		return nil
	}
	if !errors.Is(err, ErrNotFound) {
		return bad(err)
	}
	if a.Over != "" {
		above, err := lineOf(tx, a.Over)
		if err != nil {
			return bad(errors.Join(ErrAgent, err))
		}
		if len(above) >= MaxLevels {
			return bad(ErrAgent)
		}
	}
	_, err = tx.Exec(`INSERT INTO merchant_agent (id, name, over, made) VALUES ($1, $2, $3, $4)`, a.ID, a.Name, a.Over, micros(tx.Now()))
	return err
}

// lineOf lists an agent and those above it, the agent first.
func lineOf(q db.Reader, id string) (out []Agent, err error) {
	for id != "" && len(out) <= MaxLevels {
		a, err := AgentOf(q, id)
		if err != nil {
			return nil, err
		}
		out, id = append(out, a), a.Over
	}
	return out, nil
}

// SetRate says what share an agent has from a day on. On no day may the shares
// on a way through the tree sum to more than the whole fee.
func SetRate(tx *db.Tx, agent string, since calendar.Date, points int64) error {
	bad := func(err error) error { return fmt.Errorf("rate of %s since %s: %w", agent, since, err) }
	if points < 0 || points > wholeFee || since.IsZero() {
		return bad(ErrRate)
	}
	if _, err := AgentOf(tx, agent); err != nil {
		return bad(err)
	}
	_, err := tx.Exec(`INSERT INTO merchant_rate (agent, since, points) VALUES ($1, $2, $3)
		ON CONFLICT (agent, since) DO UPDATE SET points = excluded.points`, agent, since.String(), points)
	if err != nil {
		return bad(err)
	}
	rates, days, err := allRates(tx, since)
	if err != nil {
		return bad(err)
	}
	all, err := agents(tx, `ORDER BY id`)
	if err != nil {
		return bad(err)
	}
	over := map[string]string{}
	for _, a := range all {
		over[a.ID] = a.Over
	}
	for _, day := range days {
		for _, a := range all {
			sum := int64(0)
			for id := a.ID; id != ""; id = over[id] {
				sum += rateOn(rates[id], day)
			}
			if sum > wholeFee {
				return bad(fmt.Errorf("on %s the way to %s would have %d: %w", day, a.ID, sum, ErrRate))
			}
		}
	}
	return nil
}

// A datedRate is one row of an agent's rates.
type datedRate struct {
	since  string
	points int64
}

// allRates reads every rate by agent, and the days from since on which any
// changes.
func allRates(q db.Reader, since calendar.Date) (rates map[string][]datedRate, days []string, err error) {
	rates, days = map[string][]datedRate{}, []string{since.String()}
	err = db.Each(q, func(scan func(...any) error) error {
		var agent string
		var r datedRate
		err := scan(&agent, &r.since, &r.points)
		rates[agent] = append(rates[agent], r)
		if r.since > days[0] && !slices.Contains(days, r.since) {
			days = append(days, r.since)
		}
		return err
	}, `SELECT agent, since, points FROM merchant_rate ORDER BY agent, since`)
	return rates, days, err
}

func rateOn(rates []datedRate, day string) (points int64) {
	for _, r := range rates { // oldest first
		if r.since <= day {
			points = r.points
		}
	}
	return points
}

// PathOn reads the shares of an agent and those above it on a day, the agent
// first. An empty agent has an empty path: the house brought the merchant.
func PathOn(q db.Reader, agent string, day calendar.Date) (out []Share, err error) {
	line, err := lineOf(q, agent)
	if err != nil {
		return nil, err
	}
	for _, a := range line {
		s := Share{Agent: a.ID}
		err := q.QueryRow(`SELECT points FROM merchant_rate WHERE agent = $1 AND since <= $2 ORDER BY since DESC LIMIT 1`, a.ID, day.String()).Scan(&s.Points)
		if err != nil && !errors.Is(err, db.ErrNoRows) {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// A Charge is a net fee, or the change of one, that agents have a part of.
type Charge struct {
	Ref           string        // unique for ever: the sale, the day's sum of a shop, the refund, the chargeback
	Shop          string        // whose fee it is
	Day           calendar.Date // of the sale: its rates count, however late a return comes
	Before, After money.Amount  // the net fee so far and from now on; of a sale Before is nothing
}

// Accrue keeps what each agent of the shop's merchant is given by a charge, in
// the month of the unit. The same charge again changes nothing; another under
// its reference is ErrDiffers.
func Accrue(tx *db.Tx, c Charge) ([]Part, error) {
	bad := func(err error) ([]Part, error) { return nil, fmt.Errorf("commission of %s: %w", c.Ref, err) }
	if c.Ref == "" || len(c.Ref) > 96 || c.Day.IsZero() || c.Before.Sign() < 0 || c.After.Sign() < 0 {
		return bad(ErrRate)
	}
	s, err := ShopOf(tx, c.Shop)
	if err != nil {
		return bad(err)
	}
	m, err := Of(tx, s.Merchant)
	if err != nil {
		return bad(err)
	}
	path, err := PathOn(tx, m.Agent, c.Day)
	if err != nil {
		return bad(err)
	}
	parts, err := Clawback(path, c.Before, c.After)
	if err != nil {
		return bad(err)
	}
	month := calendar.MonthOf(tx.Now()).String()
	for _, p := range parts {
		if p.Agent == "" {
			continue
		}
		if err := accrue(tx, c, month, p); err != nil {
			return bad(err)
		}
	}
	return parts, nil
}

// Earn adds to the net fee of a shop's sales of one day, or takes of it (below
// zero), under a reference of its own, and accrues what agents are given by the
// change: whatever comes back in whatever parts, each has exactly the commission
// of what is left of the day.
func Earn(tx *db.Tx, ref, shop string, day calendar.Date, by money.Amount) ([]Part, error) {
	var was int64
	err := tx.QueryRow(`SELECT fen FROM merchant_fee WHERE shop = $1 AND day = $2`, shop, day.String()).Scan(&was)
	if err != nil && !errors.Is(err, db.ErrNoRows) {
		return nil, err
	}
	is := was + by.Minor()
	_, err = tx.Exec(`INSERT INTO merchant_fee (shop, day, fen) VALUES ($1, $2, $3) ON CONFLICT (shop, day) DO UPDATE SET fen = excluded.fen`, shop, day.String(), is)
	if err != nil {
		return nil, err
	}
	// Below zero: sales of before the shop had an agent are given back.
	return Accrue(tx, Charge{Ref: ref, Shop: shop, Day: day, Before: money.Fen(max(0, was)), After: money.Fen(max(0, is))})
}

// Brought reads which shops from first to last, by id, an agent has brought.
func Brought(q db.Reader, first, last string) (map[string]bool, error) {
	out := map[string]bool{}
	err := db.Each(q, func(scan func(...any) error) error {
		var shop string
		err := scan(&shop)
		out[shop] = true
		return err
	}, `SELECT s.id FROM merchant_shop s JOIN merchant_party m ON m.id = s.merchant WHERE s.id >= $1 AND s.id <= $2 AND m.agent <> '' ORDER BY s.id`, first, last)
	return out, err
}

// An Accrual is one line of an agent's month.
type Accrual struct {
	Ref    string // of the charge
	Shop   string
	Amount money.Amount // below zero: clawed back
	At     time.Time
}

// Statement reads the lines of an agent's month by reference, from the one
// after the given: what Due sums up.
func Statement(q db.Reader, agent string, month calendar.Month, after string, limit int) (out []Accrual, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var a Accrual
		var fen, at int64
		err := scan(&a.Ref, &a.Shop, &fen, &at)
		a.Amount, a.At = money.Fen(fen), db.Moment(at)
		out = append(out, a)
		return err
	}, `SELECT ref, shop, fen, at FROM merchant_accrual WHERE agent = $1 AND month = $2 AND ref > $3 ORDER BY ref LIMIT $4`, agent, month.String(), after, limited(limit))
	return out, err
}

// Accrued tells whether agents have a part of a charge whose reference begins
// with this one and a colon.
func Accrued(q db.Reader, ref string) (bool, error) {
	return exists(q, `SELECT COUNT(*) FROM merchant_accrual WHERE ref > $1 AND ref < $2`, ref+":", ref+";")
}

func accrue(tx *db.Tx, c Charge, month string, p Part) error {
	n, err := tx.Exec(`INSERT INTO merchant_accrual (ref, agent, month, shop, fen, at) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (ref, agent) DO NOTHING`,
		c.Ref, p.Agent, month, c.Shop, p.Amount.Minor(), micros(tx.Now()))
	if err != nil {
		return err
	}
	if n == 0 {
		same, err := exists(tx, `SELECT COUNT(*) FROM merchant_accrual WHERE ref = $1 AND agent = $2 AND shop = $3 AND fen = $4`, c.Ref, p.Agent, c.Shop, p.Amount.Minor())
		if err == nil && !same {
			err = ErrDiffers
		}
		return err
	}
	_, err = tx.Exec(`INSERT INTO merchant_month (month, agent, n, fen) VALUES ($1, $2, 1, $3)
		ON CONFLICT (month, agent) DO UPDATE SET n = merchant_month.n + 1, fen = merchant_month.fen + excluded.fen`, month, p.Agent, p.Amount.Minor())
	return err
}

// A Due is what an agent has earned in one month.
type Due struct {
	Agent  string
	Month  string // 2015-09
	Count  int64  // charges
	Amount money.Amount
}

// DuesOf reads what every agent has earned in a month, by agent.
func DuesOf(q db.Reader, month calendar.Month) (out []Due, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var d Due
		var fen int64
		err := scan(&d.Agent, &d.Month, &d.Count, &fen)
		d.Amount = money.Fen(fen)
		out = append(out, d)
		return err
	}, `SELECT agent, month, n, fen FROM merchant_month WHERE month = $1 ORDER BY agent`, month.String())
	return out, err
}

// AgentOf reads one agent.
func AgentOf(q db.Reader, id string) (Agent, error) {
	list, err := agents(q, `WHERE id = $1`, id)
	return one(list, err, "agent", id)
}

// AgentsUnder reads the agents right below one, or below the house for "".
func AgentsUnder(q db.Reader, over string) ([]Agent, error) {
	return agents(q, `WHERE over = $1 ORDER BY id`, over)
}

func agents(q db.Reader, where string, args ...any) (out []Agent, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var a Agent
		var made int64
		err := scan(&a.ID, &a.Name, &a.Over, &made)
		a.Made = db.Moment(made)
		out = append(out, a)
		return err
	}, `SELECT id, name, over, made FROM merchant_agent `+where, args...)
	return out, err
}
