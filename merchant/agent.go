package merchant

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/settlement"
)

// The limits of the agents' tree.
const (
	MaxLevels = 6      // agents above each other
	maxAgent  = 40     // bytes of an agent's id
	wholeFee  = 10_000 // basis points
)

// An Agent brings merchants and is paid by a share of the house's net fee;
// agents stand under agents.
type Agent struct {
	ID   string // at most 40 bytes
	Name string
	Over string // superior; empty: right below the house
	Made time.Time

	Opened time.Time // when it became a payee of settlement; zero: not yet, in a store of before
}

// A Share is what one agent has of the net fee.
type Share struct {
	Agent  string
	Points int64 // basis points of the net fee, for this agent alone
}

// AddAgent registers an agent whose bank account is not known yet: what it earns
// is held until settlement is told one.
func AddAgent(tx *db.Tx, a Agent) error { return OpenAgent(tx, a, settlement.BankAccount{}) }

// OpenAgent registers an agent and makes it a payee of settlement that is paid on
// an account. The same again changes nothing; another name or superior is
// ErrDiffers.
func OpenAgent(tx *db.Tx, a Agent, account settlement.BankAccount) error {
	bad := func(err error) error { return fmt.Errorf("agent %q: %w", a.ID, err) }
	if !agentName(a.ID) || !plainText(a.Name, MaxName) {
		return bad(ErrAgent)
	}
	known, err := AgentOf(tx, a.ID)
	if err == nil {
		if known.Name != a.Name || known.Over != a.Over {
			return bad(ErrDiffers)
		}
		return openPayee(tx, known, account)
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
	_, err = tx.Exec(`INSERT INTO merchant_agent (id, name, over, made, opened) VALUES ($1, $2, $3, $4, 0)`, a.ID, a.Name, a.Over, micros(tx.Now()))
	if err != nil {
		return bad(err)
	}
	a.Opened = time.Time{}
	return openPayee(tx, a, account)
}

// agentName tells whether an id may name a payee and a page.
func agentName(id string) bool {
	return id != "" && len(id) <= maxAgent && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '-' && r != '_'
	})
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
		var made, opened int64
		err := scan(&a.ID, &a.Name, &a.Over, &made, &opened)
		a.Made, a.Opened = db.Moment(made), db.Moment(opened)
		out = append(out, a)
		return err
	}, `SELECT id, name, over, made, opened FROM merchant_agent `+where, args...)
	return out, err
}
