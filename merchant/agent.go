package merchant

import (
	"time"

	"koala/internal/db"
)

// An Agent brings merchants and is paid by a share of the house's net fee;
// agents stand under agents.
type Agent struct {
	ID   string // agent_… or a name of its own
	Name string
	Over string // superior; empty: right below the house
	Made time.Time
}

// AgentOf reads one agent.
func AgentOf(q db.Reader, id string) (Agent, error) {
	list, err := agents(q, `WHERE id = $1`, id)
	return one(list, err, "agent", id)
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
