package db

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// A Schema is the tables of one owner as the steps that make them. Steps are
// only ever added at the end: one that was applied is never edited. A step may
// hold several statements; the comment /*without rowid*/ at the end of a
// CREATE TABLE makes the table one tree on SQLite and means nothing elsewhere.
type Schema struct {
	Owner string // the package, and the prefix of its tables
	Steps []string
}

const (
	makeSchema = `CREATE TABLE IF NOT EXISTS db_schema (
		owner TEXT NOT NULL, step BIGINT NOT NULL, sha256 TEXT NOT NULL, at BIGINT NOT NULL,
		PRIMARY KEY (owner, step))`
	readSchema = `SELECT step, sha256 FROM db_schema WHERE owner = $1 ORDER BY step`
	keepStep   = `INSERT INTO db_schema (owner, step, sha256, at) VALUES ($1, $2, $3, $4)`
)

// Migrate brings the tables of each schema up to date, each step in a
// transaction of its own. It refuses a database whose applied steps read
// otherwise (ErrChanged) or that has steps this program does not know
// (ErrNewer), and then changes nothing.
func (s *Store) Migrate(ctx context.Context, schemas ...Schema) error {
	c, err := s.eng.connect(ctx, writing)
	if err != nil {
		return fmt.Errorf("migrating: %w", err)
	}
	defer c.close()
	if err := makeTable(ctx, c); err != nil {
		return fmt.Errorf("migrating: %w", err)
	}
	done := make([]int, len(schemas))
	for i, sc := range schemas {
		if done[i], err = applied(ctx, c, sc); err != nil {
			return fmt.Errorf("migrating %s in %s: %w", sc.Owner, s.Place(), err)
		}
	}
	for i, sc := range schemas {
		for n := done[i]; n < len(sc.Steps); n++ {
			if err := s.step(ctx, c, sc, n); err != nil {
				return fmt.Errorf("migrating %s, step %d: %w", sc.Owner, n+1, err)
			}
		}
	}
	return nil
}

func makeTable(ctx context.Context, c conn) error {
	if _, err := c.query(ctx, readSchema, []any{""}); err == nil {
		return nil
	}
	if err := c.script(ctx, makeSchema); err != nil {
		return c.place(err)
	}
	return nil
}

// applied counts the steps that are in, after comparing each.
func applied(ctx context.Context, c conn, sc Schema) (int, error) {
	res, err := c.query(ctx, readSchema, []any{sc.Owner})
	if err != nil {
		return 0, c.place(err)
	}
	rows := &Rows{res: res}
	n := 0
	for rows.Next() {
		var step int
		var sum string
		if err := rows.Scan(&step, &sum); err != nil {
			return 0, err
		}
		n++
		switch {
		case step > len(sc.Steps):
			return 0, fmt.Errorf("step %d: %w", step, ErrNewer)
		case step != n || sum != checksum(sc.Steps[step-1]):
			return 0, fmt.Errorf("step %d: %w", step, ErrChanged)
		}
	}
	return n, nil
}

// liteWords are what a step says differently to SQLite: there only a key of the
// type INTEGER is where the row lies, and any other one more index.
var liteWords = strings.NewReplacer("/*without rowid*/", "WITHOUT ROWID", "BIGINT PRIMARY KEY", "INTEGER PRIMARY KEY")

func (s *Store) step(ctx context.Context, c conn, sc Schema, n int) error {
	text := sc.Steps[n]
	if s.Embedded() {
		text = liteWords.Replace(text)
	}
	err := c.begin()
	if err == nil {
		err = c.script(ctx, text)
	}
	if err == nil {
		err = c.later(keepStep, []any{sc.Owner, n + 1, checksum(sc.Steps[n]), s.Now().UnixMicro()})
	}
	if err == nil {
		err = c.commit()
	}
	if err != nil {
		err = c.place(err)
		if e := c.rollback(); e != nil {
			return fmt.Errorf("%w (and the rollback: %w)", err, e)
		}
	}
	return err
}

func checksum(step string) string {
	sum := sha256.Sum256([]byte(step))
	return hex.EncodeToString(sum[:])
}
