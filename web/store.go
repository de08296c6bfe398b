package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"koala/internal/db"
)

// The kit's tables. A session's id is kept as its SHA-256 only: whoever reads
// the table cannot log in with it.
var schema = db.Schema{Owner: "web", Steps: []string{
	`CREATE TABLE web_secret (name TEXT PRIMARY KEY, value BYTEA NOT NULL)`,
	`CREATE TABLE web_session (
		id BYTEA PRIMARY KEY, subject TEXT NOT NULL, since BIGINT NOT NULL, expires BIGINT NOT NULL)`,
	`CREATE INDEX web_session_expires ON web_session (expires)`,
}}

// loadSecret reads the cookie signing key, drawing it at the first start.
func (k *Kit) loadSecret(ctx context.Context) error {
	var fresh [32]byte
	if _, err := io.ReadFull(k.cfg.Rand, fresh[:]); err != nil {
		return fmt.Errorf("draw the session secret: %w", err)
	}
	return k.cfg.Store.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(`INSERT INTO web_secret (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`,
			"session", fresh[:]); err != nil {
			return err
		}
		var kept []byte
		if err := tx.QueryRow(`SELECT value FROM web_secret WHERE name = $1`, "session").Scan(&kept); err != nil {
			return err
		}
		if len(kept) != len(k.secret) {
			return fmt.Errorf("session secret is %d bytes: %w", len(kept), ErrForm)
		}
		copy(k.secret[:], kept)
		return nil
	})
}

func (k *Kit) putSession(ctx context.Context, id [32]byte, subject string, since, expires time.Time) error {
	return k.cfg.Store.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(`DELETE FROM web_session WHERE expires < $1`, since.UnixMicro()); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO web_session (id, subject, since, expires) VALUES ($1, $2, $3, $4)`,
			id[:], subject, since.UnixMicro(), expires.UnixMicro())
		return err
	})
}

func (k *Kit) dropSession(ctx context.Context, id [32]byte) error {
	return k.cfg.Store.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`DELETE FROM web_session WHERE id = $1`, id[:])
		return err
	})
}

// readSession gives whom a living session belongs to.
func (k *Kit) readSession(ctx context.Context, id [32]byte, now time.Time) (subject string, found bool, err error) {
	err = k.cfg.Store.Read(ctx, func(q *db.Query) error {
		err := q.QueryRow(`SELECT subject FROM web_session WHERE id = $1 AND expires > $2`, id[:], now.UnixMicro()).Scan(&subject)
		if errors.Is(err, db.ErrNoRows) {
			return nil
		}
		found = err == nil
		return err
	})
	return subject, found, err
}
