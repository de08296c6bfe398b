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
		if err := alive(tx, a.Over); err != nil {
			return bad(errors.Join(ErrAgent, err))
		}
	}
	_, err = tx.Exec(`INSERT INTO merchant_agent (id, name, over, made, opened) VALUES ($1, $2, $3, $4, 0)`, a.ID, a.Name, a.Over, micros(tx.Now()))
	if err == nil {
		err = proveTree(tx, calendar.Of(tx.Now(), calendar.Beijing))
	}
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

// lineOf lists an agent and those above it on a day, the agent first. Those that
// have ended are not among them.
func lineOf(q db.Reader, id string, day calendar.Date) (out []string, err error) {
	for levels := 0; id != "" && levels < MaxLevels; levels++ {
		a, err := AgentOf(q, id)
		if err != nil {
			return nil, err
		}
		all, err := placesOf(q, id)
		if err != nil {
			return nil, err
		}
		p := placeOn(all, a.Over, day.String())
		if !p.ended {
			out = append(out, id)
		}
		id = p.over
	}
	return out, nil
}

// SetRate says what share an agent has from a day on: of one that has earned, from
// tomorrow or later, so that what was accrued stays what it was. On no day may
// the shares on a way through the tree sum to more than the whole fee.
func SetRate(tx *db.Tx, agent string, since calendar.Date, points int64) error {
	bad := func(err error) error { return fmt.Errorf("rate of %s since %s: %w", agent, since, err) }
	if points < 0 || points > wholeFee || since.IsZero() {
		return bad(ErrRate)
	}
	if err := alive(tx, agent); err != nil {
		return bad(err)
	}
	earned, err := exists(tx, `SELECT COUNT(*) FROM merchant_accrual WHERE agent = $1`, agent)
	if err == nil && earned {
		err = later(tx, since)
	}
	if err != nil {
		return bad(err)
	}
	_, err = tx.Exec(`INSERT INTO merchant_rate (agent, since, points) VALUES ($1, $2, $3)
		ON CONFLICT (agent, since) DO UPDATE SET points = excluded.points`, agent, since.String(), points)
	if err == nil {
		err = proveTree(tx, since)
	}
	if err != nil {
		return bad(err)
	}
	return nil
}

// MoveAgent puts an agent with all below it under another, or right below the
// house for "", from tomorrow or a later day on. The same again changes nothing;
// another superior for a day to come replaces the one that was said before.
func MoveAgent(tx *db.Tx, agent, over string, since calendar.Date) error {
	bad := func(err error) error {
		return fmt.Errorf("moving agent %s under %q since %s: %w", agent, over, since, err)
	}
	err := errors.Join(later(tx, since), alive(tx, agent))
	if over != "" && err == nil {
		err = alive(tx, over)
	}
	if err != nil {
		return bad(err)
	}
	err = keepPlace(tx, agent, place{since: since.String(), over: over})
	if err == nil {
		err = proveTree(tx, since)
	}
	if err != nil {
		return bad(err)
	}
	return nil
}

// EndAgent ends an agent from tomorrow or a later day on, for good: it has no
// share of sales from then on, brings nobody, and its part is the house's; those
// below it stay where they are and keep theirs. What it has earned is paid, and
// what is undone of it taken back, as ever.
func EndAgent(tx *db.Tx, agent string, since calendar.Date) error {
	bad := func(err error) error { return fmt.Errorf("ending agent %s since %s: %w", agent, since, err) }
	a, err := AgentOf(tx, agent)
	if err != nil {
		return bad(err)
	}
	all, err := placesOf(tx, agent)
	if err != nil {
		return bad(err)
	}
	last := placeOn(all, a.Over, lastDay)
	switch {
	case last.ended && last.since == since.String():
		return nil
	case last.since > since.String(): // it is said to move later
		return bad(ErrState)
	}
	if err := errors.Join(later(tx, since), alive(tx, agent)); err != nil {
		return bad(err)
	}
	if err := keepPlace(tx, agent, place{since: since.String(), over: last.over, ended: true}); err != nil {
		return bad(err)
	}
	return nil
}

// alive refuses an agent that has ended or is said to.
func alive(q db.Reader, agent string) error {
	a, err := AgentOf(q, agent)
	if err != nil {
		return err
	}
	all, err := placesOf(q, agent)
	if err == nil && placeOn(all, a.Over, lastDay).ended {
		err = fmt.Errorf("agent %s has ended: %w", agent, ErrState)
	}
	return err
}

// later refuses a day that has begun: its sales have had their commissions, or
// are about to.
func later(tx *db.Tx, since calendar.Date) error {
	if today := calendar.Of(tx.Now(), calendar.Beijing); !today.Before(since) {
		return ErrBegun
	}
	return nil
}

// A place is where an agent stands from a day on.
type place struct {
	since string // 2015-09-16; empty: from the beginning
	over  string
	ended bool
}

// lastDay is behind every day.
const lastDay = "9999-12-31"

func keepPlace(tx *db.Tx, agent string, p place) error {
	_, err := tx.Exec(`INSERT INTO merchant_place (agent, since, over, ended) VALUES ($1, $2, $3, $4)
		ON CONFLICT (agent, since) DO UPDATE SET over = excluded.over, ended = excluded.ended`, agent, p.since, p.over, p.ended)
	return err
}

// placesOf reads the places of one agent, oldest first, without its first.
func placesOf(q db.Reader, agent string) (out []place, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var p place
		err := scan(&p.since, &p.over, &p.ended)
		out = append(out, p)
		return err
	}, `SELECT since, over, ended FROM merchant_place WHERE agent = $1 ORDER BY since`, agent)
	return out, err
}

// placeOn picks the place of a day; first is the superior of the beginning.
func placeOn(all []place, first, day string) place {
	p := place{over: first}
	for _, x := range all {
		if x.since <= day {
			p = x
		}
	}
	return p
}

// A tree is all that is known of agents at once.
type tree struct {
	agents []Agent // by id
	at     map[string]int
	places map[string][]place
	rates  map[string][]datedRate
	days   []string // on which something changes
}

// A datedRate is one row of an agent's rates.
type datedRate struct {
	since  string
	points int64
}

func treeOf(q db.Reader) (t tree, err error) {
	t = tree{at: map[string]int{}, places: map[string][]place{}, rates: map[string][]datedRate{}}
	if t.agents, err = agents(q, `ORDER BY id`); err != nil {
		return t, err
	}
	for i, a := range t.agents {
		t.at[a.ID] = i
	}
	err = db.Each(q, func(scan func(...any) error) error {
		var agent string
		var r datedRate
		err := scan(&agent, &r.since, &r.points)
		t.rates[agent], t.days = append(t.rates[agent], r), append(t.days, r.since)
		return err
	}, `SELECT agent, since, points FROM merchant_rate ORDER BY agent, since`)
	if err != nil {
		return t, err
	}
	err = db.Each(q, func(scan func(...any) error) error {
		var agent string
		var p place
		err := scan(&agent, &p.since, &p.over, &p.ended)
		t.places[agent], t.days = append(t.places[agent], p), append(t.days, p.since)
		return err
	}, `SELECT agent, since, over, ended FROM merchant_place ORDER BY agent, since`)
	slices.Sort(t.days)
	t.days = slices.Compact(t.days)
	return t, err
}

// on is where an agent stands on a day.
func (t *tree) on(agent, day string) place {
	return placeOn(t.places[agent], t.agents[t.at[agent]].Over, day)
}

func (t *tree) rate(agent, day string) (points int64) {
	for _, r := range t.rates[agent] { // oldest first
		if r.since <= day {
			points = r.points
		}
	}
	return points
}

// proveTree refuses a tree that could not be walked or would give away more than
// the whole, on any day from one on.
func proveTree(q db.Reader, from calendar.Date) error {
	t, err := treeOf(q)
	if err != nil {
		return err
	}
	for _, day := range append([]string{from.String()}, t.days...) {
		if day < from.String() {
			continue
		}
		for _, a := range t.agents {
			sum, levels := int64(0), 0
			for id := a.ID; id != ""; levels++ {
				if levels == MaxLevels {
					return fmt.Errorf("on %s above %s: %w", day, a.ID, ErrLevels)
				}
				p := t.on(id, day)
				if !p.ended {
					sum += t.rate(id, day)
				}
				id = p.over
			}
			if sum > wholeFee {
				return fmt.Errorf("on %s the way to %s would have %d: %w", day, a.ID, sum, ErrRate)
			}
		}
	}
	return nil
}

// A Branch is an agent in the tree of a day.
type Branch struct {
	Agent  Agent
	Over   string // superior on that day
	Deep   int    // agents above it
	Points int64
	Then   int64         // points from Later on
	Later  calendar.Date // when its share changes; zero: nothing is said
	Ended  bool
	Next   calendar.Date // when it moves or ends; zero: nothing is said
	NextTo string        // under whom it stands then
	Ends   bool          // it ends then
}

// TreeOn reads all agents as they stand on a day, each followed by those below
// it.
func TreeOn(q db.Reader, day calendar.Date) (out []Branch, err error) {
	t, err := treeOf(q)
	if err != nil {
		return nil, err
	}
	under := map[string][]Branch{}
	for _, a := range t.agents {
		p := t.on(a.ID, day.String())
		b := Branch{Agent: a, Over: p.over, Points: t.rate(a.ID, day.String()), Ended: p.ended}
		for _, x := range t.rates[a.ID] {
			if x.since > day.String() && b.Later.IsZero() {
				if b.Later, err = calendar.Parse(x.since); err != nil {
					return nil, err
				}
				b.Then = x.points
			}
		}
		for _, x := range t.places[a.ID] {
			if x.since > day.String() && b.Next.IsZero() {
				if b.Next, err = calendar.Parse(x.since); err != nil {
					return nil, err
				}
				b.NextTo, b.Ends = x.over, x.ended
			}
		}
		under[p.over] = append(under[p.over], b)
	}
	var below func(over string, deep int)
	below = func(over string, deep int) {
		for _, b := range under[over] {
			b.Deep = deep
			out = append(out, b)
			below(b.Agent.ID, deep+1)
		}
	}
	below("", 0)
	return out, nil
}

// PathOn reads the shares of an agent and those above it on a day, the agent
// first, without those that have ended. An empty agent has an empty path: the
// house brought the merchant.
func PathOn(q db.Reader, agent string, day calendar.Date) (out []Share, err error) {
	line, err := lineOf(q, agent, day)
	if err != nil {
		return nil, err
	}
	for _, id := range line {
		s := Share{Agent: id}
		err := q.QueryRow(`SELECT points FROM merchant_rate WHERE agent = $1 AND since <= $2 ORDER BY since DESC LIMIT 1`, id, day.String()).Scan(&s.Points)
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

// mayBring refuses an agent that is not there, or has ended, for a new merchant.
func mayBring(q db.Reader, agent string) error {
	if agent == "" {
		return nil
	}
	return alive(q, agent)
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
