// Package once makes a request with an idempotency key take effect once: the
// first answer is kept with the act itself, the same request again gets the
// same answer, and another request under the same key is refused. Start at Do.
package once

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"koala/internal/db"
	"koala/internal/fail"
)

// How a request with a key is refused.
var (
	ErrDiffers = fail.Define(fail.Conflict, "once.differs", "this idempotency key was used for another request")
	ErrKey     = fail.Define(fail.Invalid, "once.key", "an idempotency key has 1 to 128 printable ASCII characters")
	ErrTooLong = fail.Define(fail.Broken, "once.too_long", "the answer is too long to be kept")
)

// The limits of a key and of a kept answer, in bytes.
const (
	MaxKey    = 128
	MaxAnswer = 1 << 20
)

// Schema is the table of kept answers.
var Schema = db.Schema{Owner: "once", Steps: []string{
	`CREATE TABLE once_answer (
		scope TEXT NOT NULL, key TEXT NOT NULL, hash BYTEA NOT NULL,
		status BIGINT NOT NULL, type TEXT NOT NULL, body BYTEA NOT NULL, at BIGINT NOT NULL,
		PRIMARY KEY (scope, key)) /*without rowid*/;
	CREATE INDEX once_answer_at ON once_answer (at)`,
}}

// A Request is what is to happen once. Scope keeps the keys of different
// callers and routes apart; Body is everything that makes two requests the
// same, byte for byte.
type Request struct {
	Scope string
	Key   string
	Body  []byte
}

// An Answer is what is replayed: an HTTP status, a media type and the bytes.
type Answer struct {
	Status int
	Type   string
	Body   []byte
}

// Check refuses keys that cannot be kept.
func (r Request) Check() error {
	if len(r.Key) == 0 || len(r.Key) > MaxKey {
		return fmt.Errorf("key of %d characters: %w", len(r.Key), ErrKey)
	}
	for _, c := range []byte(r.Key) {
		if c < 0x21 || c > 0x7E {
			return ErrKey
		}
	}
	return nil
}

// Do runs act unless the request was answered before, and keeps its answer in
// the same unit. again says that the answer is an old one. When act fails,
// nothing is kept: the request may be made again.
func Do(tx *db.Tx, r Request, act func() (Answer, error)) (a Answer, again bool, err error) {
	if err := r.Check(); err != nil {
		return Answer{}, false, err
	}
	switch a, err = find(tx.QueryRow, r); {
	case err == nil:
		return a, true, nil
	case !errors.Is(err, db.ErrNoRows):
		return Answer{}, false, err
	}
	if a, err = act(); err != nil {
		return Answer{}, false, err
	}
	return a, false, keep(tx, r, a)
}

// Find returns the kept answer of a request, for acts that cannot stand in one
// unit; found is false when it was never answered.
func Find(q *db.Query, r Request) (a Answer, found bool, err error) {
	if err := r.Check(); err != nil {
		return Answer{}, false, err
	}
	a, err = find(q.QueryRow, r)
	if errors.Is(err, db.ErrNoRows) {
		return Answer{}, false, nil
	}
	return a, err == nil, err
}

// Forget drops the answers kept before t, and says how many.
func Forget(tx *db.Tx, t time.Time) (int64, error) {
	return tx.Exec(`DELETE FROM once_answer WHERE at < $1`, t.UnixMicro())
}

func find(row func(string, ...any) db.Row, r Request) (a Answer, err error) {
	var hash []byte
	err = row(`SELECT hash, status, type, body FROM once_answer WHERE scope = $1 AND key = $2`, r.Scope, r.Key).
		Scan(&hash, &a.Status, &a.Type, &a.Body)
	if err != nil {
		return Answer{}, fmt.Errorf("key %q: %w", r.Key, err)
	}
	if !bytes.Equal(hash, r.hash()) {
		return Answer{}, fmt.Errorf("key %q: %w", r.Key, ErrDiffers)
	}
	return a, nil
}

func keep(tx *db.Tx, r Request, a Answer) error {
	if len(a.Body) > MaxAnswer {
		return fmt.Errorf("key %q: %d bytes: %w", r.Key, len(a.Body), ErrTooLong)
	}
	body := a.Body
	if body == nil {
		body = []byte{}
	}
	_, err := tx.Exec(`INSERT INTO once_answer (scope, key, hash, status, type, body, at)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		r.Scope, r.Key, r.hash(), a.Status, a.Type, body, tx.Now().UnixMicro())
	return err
}

func (r Request) hash() []byte {
	sum := sha256.Sum256(r.Body)
	return sum[:]
}
