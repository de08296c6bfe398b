// Package single keeps which terminals may sign on for keys of single length
// (network code 001). Such keys are DES: whoever has a message and its MAC finds
// them by trying all. So no terminal may unless somebody said so, for a reason.
package single

import (
	"context"
	"errors"
	"fmt"

	"koala/internal/db"
)

// Step is what this package keeps, a step of the switch's schema.
const Step = `CREATE TABLE switching_single (tid TEXT PRIMARY KEY, by_whom TEXT NOT NULL, why TEXT NOT NULL, at BIGINT NOT NULL)`

// Allow lets a terminal sign on for keys of single length, or lets it no more. The
// keys that it has go on until it signs on again.
func Allow(tx *db.Tx, tid string, allow bool, by, why string) (err error) {
	if allow {
		_, err = tx.Exec(`INSERT INTO switching_single (tid, by_whom, why, at) VALUES ($1, $2, $3, $4) ON CONFLICT (tid) DO NOTHING`, tid, by, why, tx.Now().UnixMicro())
	} else {
		_, err = tx.Exec(`DELETE FROM switching_single WHERE tid = $1`, tid)
	}
	if err != nil {
		return fmt.Errorf("single keys of terminal %s: %w", tid, err)
	}
	return nil
}

// Allowed says whether a terminal may.
func Allowed(q db.Reader, tid string) (bool, error) {
	var one int
	err := q.QueryRow(`SELECT 1 FROM switching_single WHERE tid = $1`, tid).Scan(&one)
	if errors.Is(err, db.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("single keys of terminal %s: %w", tid, err)
	}
	return true, nil
}

// Asked is Allowed for who has no unit of work.
func Asked(ctx context.Context, store *db.Store, tid string) (may bool, err error) {
	err = store.Read(ctx, func(q *db.Query) (err error) {
		may, err = Allowed(q, tid)
		return err
	})
	return may, err
}
