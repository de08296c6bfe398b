package customer

import (
	"errors"
	"fmt"
	"time"

	"koala/internal/db"
)

// Schema is what this package keeps.
var Schema = db.Schema{Owner: "customer", Steps: []string{
	`CREATE TABLE customer_person (
		id TEXT PRIMARY KEY,
		login TEXT NOT NULL UNIQUE,
		name TEXT NOT NULL,
		phone TEXT NOT NULL,      -- masked
		sealed BYTEA NOT NULL,    -- the phone number under a key outside the store
		roles TEXT NOT NULL,      -- words, space between
		secret TEXT NOT NULL,     -- scheme$rounds$salt$hash
		tries BIGINT NOT NULL,    -- wrong secrets in a row
		until BIGINT NOT NULL,    -- locked till, microseconds
		blocked BOOLEAN NOT NULL,
		opened BIGINT NOT NULL)`,
}}

type credential struct{ hash string }

func insert(tx *db.Tx, c Customer, sealed []byte, hash string) error {
	n, err := tx.Exec(`INSERT INTO customer_person
		(id, login, name, phone, sealed, roles, secret, tries, until, blocked, opened)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, $8, $9) ON CONFLICT (login) DO NOTHING`,
		string(c.ID), c.Login, c.Name, c.Phone, sealed, joinRoles(c.Roles), hash, false, c.Opened.UnixMicro())
	if err == nil && n == 0 {
		err = ErrTaken
	}
	return err
}

const personColumns = `id, login, name, phone, roles, blocked, opened`

func scanPerson(scan func(...any) error, more ...any) (Customer, error) {
	var c Customer
	var id, roles string
	var opened int64
	err := scan(append([]any{&id, &c.Login, &c.Name, &c.Phone, &roles, &c.Blocked, &opened}, more...)...)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNotFound
	}
	c.ID, c.Roles, c.Opened = ID(id), splitRoles(roles), time.UnixMicro(opened).UTC()
	return c, err
}

func byLogin(q *db.Query, login string) (c Customer, k credential, err error) {
	row := q.QueryRow(`SELECT `+personColumns+`, secret FROM customer_person WHERE login = $1`, login)
	c, err = scanPerson(row.Scan, &k.hash)
	return c, k, err
}

// Get reads one customer.
func Get(q db.Reader, id ID) (Customer, error) {
	c, err := scanPerson(q.QueryRow(`SELECT `+personColumns+` FROM customer_person WHERE id = $1`, string(id)).Scan)
	if err != nil {
		return Customer{}, fmt.Errorf("customer %s: %w", id, err)
	}
	return c, nil
}

// ByLogin finds a customer by login name.
func ByLogin(q db.Reader, login string) (Customer, error) {
	c, err := scanPerson(q.QueryRow(`SELECT `+personColumns+` FROM customer_person WHERE login = $1`, login).Scan)
	if err != nil {
		return Customer{}, fmt.Errorf("customer %q: %w", login, err)
	}
	return c, nil
}

// Sealed is the sealed phone number, for those who may open it.
func Sealed(q db.Reader, id ID) (sealed []byte, err error) {
	err = q.QueryRow(`SELECT sealed FROM customer_person WHERE id = $1`, string(id)).Scan(&sealed)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNotFound
	}
	return sealed, err
}

// List reads customers in the order they joined, from the one after the given
// (empty: from the first), at most limit.
func List(q db.Reader, after ID, limit int) ([]Customer, error) {
	var out []Customer
	err := db.Each(q, func(scan func(...any) error) error {
		c, err := scanPerson(scan)
		out = append(out, c)
		return err
	}, `SELECT `+personColumns+` FROM customer_person WHERE id > $1 ORDER BY id LIMIT $2`, string(after), min(max(limit, 1), MaxPage))
	return out, err
}

// guard reads what stands between a right secret and a session.
func guard(tx *db.Tx, id ID) (tries int, until int64, blocked bool, err error) {
	err = tx.QueryRow(`SELECT tries, until, blocked FROM customer_person WHERE id = $1`, string(id)).Scan(&tries, &until, &blocked)
	return tries, until, blocked, err
}

func setGuard(tx *db.Tx, id ID, tries int, until int64) error {
	_, err := tx.Exec(`UPDATE customer_person SET tries = $2, until = $3 WHERE id = $1`, string(id), tries, until)
	return err
}
