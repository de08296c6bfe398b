package shell

import (
	"fmt"
	"net/http"
	"time"

	"koala/internal/db"
	"koala/web"
)

// Schema is the audit trail. Its rows are only ever added.
var Schema = db.Schema{Owner: "ops", Steps: []string{
	`CREATE TABLE ops_act (
		id TEXT PRIMARY KEY,
		at BIGINT NOT NULL,
		who TEXT NOT NULL,      -- login name
		subject TEXT NOT NULL,  -- customer id of the login
		act TEXT NOT NULL,      -- noun.verb
		target TEXT NOT NULL,   -- page of what was changed
		what TEXT NOT NULL,     -- the changed thing in words, masked
		why TEXT NOT NULL)`,
	`CREATE INDEX ops_act_who ON ops_act (who, id)`,
	`CREATE INDEX ops_act_target ON ops_act (target, id)`,
}}

// The bounds of a reason, in characters.
const (
	minWhy = 4
	maxWhy = 200
)

// A Deed is one row of the trail.
type Deed struct {
	ID     string
	At     time.Time
	Who    string
	Act    Act
	Target string
	What   string
	Why    string
}

// Keep writes the audit row of a change in the change's own unit of work.
func Keep(tx *db.Tx, r *http.Request, d Deed) error {
	u, _ := web.Who(r.Context())
	_, err := tx.Exec(`INSERT INTO ops_act (id, at, who, subject, act, target, what, why) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		tx.NewID("act"), tx.Now().UnixMicro(), u.Name, u.Subject, string(d.Act), d.Target, d.What, d.Why)
	if err != nil {
		return fmt.Errorf("audit of %s: %w", d.Act, err)
	}
	return nil
}

// Deeds reads the trail, newest first; empty fields of f pick all.
func Deeds(q *db.Query, f Deed, before string, limit int) ([]Deed, error) {
	if before == "" {
		before = "~" // behind every id
	}
	rows, err := q.Rows(`SELECT id, at, who, act, target, what, why FROM ops_act
		WHERE id < $1 AND (who = $2 OR $2 = '') AND (act = $3 OR $3 = '') AND (target = $4 OR $4 = '')
		ORDER BY id DESC LIMIT $5`, before, f.Who, string(f.Act), f.Target, limit)
	if err != nil {
		return nil, fmt.Errorf("audit trail: %w", err)
	}
	var out []Deed
	for rows.Next() {
		var d Deed
		var at int64
		if err := rows.Scan(&d.ID, &at, &d.Who, &d.Act, &d.Target, &d.What, &d.Why); err != nil {
			return nil, fmt.Errorf("audit trail: %w", err)
		}
		d.At = time.UnixMicro(at).UTC()
		out = append(out, d)
	}
	return out, rows.Err()
}
