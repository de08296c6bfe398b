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
	`CREATE TABLE web_login (
		name TEXT PRIMARY KEY, subject TEXT NOT NULL, role TEXT NOT NULL, shown TEXT NOT NULL,
		salt BYTEA NOT NULL, hash BYTEA NOT NULL, made BIGINT NOT NULL)`,
	`CREATE TABLE web_session (
		id BYTEA PRIMARY KEY, name TEXT NOT NULL, since BIGINT NOT NULL, expires BIGINT NOT NULL)`,
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

// a login row: who it is and how its password is checked.
type loginRow struct {
	user       User
	salt, hash []byte
}

func putLogin(tx *db.Tx, row loginRow) error {
	_, err := tx.Exec(`INSERT INTO web_login (name, subject, role, shown, salt, hash, made)
		VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (name) DO UPDATE SET subject = excluded.subject, role = excluded.role,
		shown = excluded.shown, salt = excluded.salt, hash = excluded.hash`,
		row.user.Name, row.user.Subject, string(row.user.Role), row.user.Shown, row.salt, row.hash, tx.Now().UnixMicro())
	return err
}

func (k *Kit) readLogin(ctx context.Context, name string) (row loginRow, found bool, err error) {
	err = k.cfg.Store.Read(ctx, func(q *db.Query) error {
		var role string
		err := q.QueryRow(`SELECT name, subject, role, shown, salt, hash FROM web_login WHERE name = $1`, name).
			Scan(&row.user.Name, &row.user.Subject, &role, &row.user.Shown, &row.salt, &row.hash)
		if errors.Is(err, db.ErrNoRows) {
			return nil
		}
		row.user.Role, found = Role(role), err == nil
		return err
	})
	return row, found, err
}

func (k *Kit) putSession(ctx context.Context, id [32]byte, name string, since, expires time.Time) error {
	return k.cfg.Store.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(`DELETE FROM web_session WHERE expires < $1`, since.UnixMicro()); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO web_session (id, name, since, expires) VALUES ($1, $2, $3, $4)`,
			id[:], name, since.UnixMicro(), expires.UnixMicro())
		return err
	})
}

func (k *Kit) dropSession(ctx context.Context, id [32]byte) error {
	return k.cfg.Store.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`DELETE FROM web_session WHERE id = $1`, id[:])
		return err
	})
}

// readSession gives the login a living session belongs to. The role is read
// each time: a right taken away is gone at the next request.
func (k *Kit) readSession(ctx context.Context, id [32]byte, now time.Time) (u User, found bool, err error) {
	err = k.cfg.Store.Read(ctx, func(q *db.Query) error {
		var role string
		err := q.QueryRow(`SELECT l.name, l.subject, l.role, l.shown FROM web_session s
			JOIN web_login l ON l.name = s.name WHERE s.id = $1 AND s.expires > $2`, id[:], now.UnixMicro()).
			Scan(&u.Name, &u.Subject, &role, &u.Shown)
		if errors.Is(err, db.ErrNoRows) {
			return nil
		}
		u.Role, found = Role(role), err == nil
		return err
	})
	return u, found, err
}
