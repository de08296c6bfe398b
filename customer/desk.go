package customer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"koala/internal/db"
)

// A Desk opens records and checks logins. Seal must be a sealing under a key
// that is not in the store (the house gives the hsm's); the desk itself never
// opens what it sealed.
type Desk struct {
	Store *db.Store
	Seal  func(ctx context.Context, plain []byte) ([]byte, error)
	Salt  io.Reader // 16 bytes for each new secret
	Cost  int       // PBKDF2 rounds; 0 is DefaultCost

	salting sync.Mutex
}

// Register opens a record. The same login again is ErrTaken.
func (d *Desk) Register(ctx context.Context, a Application) (Customer, error) {
	a.Login = strings.ToLower(a.Login)
	if err := a.check(); err != nil {
		return Customer{}, fmt.Errorf("registering %q: %w", a.Login, err)
	}
	if len(a.Roles) == 0 {
		a.Roles = []Role{Wearer}
	}
	hash, err := d.hash(a.Secret)
	if err != nil {
		return Customer{}, err
	}
	sealed, err := d.Seal(ctx, []byte(a.Phone))
	if err != nil {
		return Customer{}, fmt.Errorf("registering %q: sealing the phone number: %w", a.Login, err)
	}
	c := Customer{Login: a.Login, Name: a.Name, Phone: MaskPhone(a.Phone), Roles: a.Roles}
	err = d.Store.Write(ctx, func(tx *db.Tx) error {
		c.ID, c.Opened = ID(tx.NewID("cust")), tx.Now()
		return insert(tx, c, sealed, hash)
	})
	if err != nil {
		return Customer{}, fmt.Errorf("registering %q: %w", a.Login, err)
	}
	return c, nil
}

func (d *Desk) hash(secret string) (string, error) {
	cost := d.Cost
	if cost == 0 {
		cost = DefaultCost
	}
	salt := make([]byte, saltLen)
	d.salting.Lock()
	_, err := io.ReadFull(d.Salt, salt)
	d.salting.Unlock()
	if err != nil {
		return "", fmt.Errorf("drawing a salt: %w", err)
	}
	return hashSecret(secret, salt, cost)
}

// Login checks a secret. An unknown login, a wrong secret and a locked login
// cost the same time and, but for the lock, get the same answer. MaxTries wrong
// secrets in a row lock the login for LockFor; the lock is a date in the row.
func (d *Desk) Login(ctx context.Context, login, secret string) (Customer, error) {
	login = strings.ToLower(login)
	var c Customer
	var k credential
	err := d.Store.Read(ctx, func(q *db.Query) (err error) {
		c, k, err = byLogin(q, login)
		return err
	})
	unknown := errors.Is(err, ErrNotFound)
	if unknown {
		k.hash = d.decoy()
	} else if err != nil {
		return Customer{}, fmt.Errorf("login: %w", err)
	}
	right := len(secret) <= MaxSecret && matches(k.hash, secret)
	if unknown {
		return Customer{}, fmt.Errorf("login: %w", ErrDenied)
	}
	err = d.Store.Write(ctx, func(tx *db.Tx) error {
		err := judge(tx, c, right)
		c.Blocked = errors.Is(err, ErrBlocked)
		if errors.Is(err, ErrDenied) {
			return nil // the count of tries must be kept
		}
		return err
	})
	switch {
	case err != nil:
		return Customer{}, fmt.Errorf("login %s: %w", c.ID, err)
	case !right:
		return Customer{}, fmt.Errorf("login %s: %w", c.ID, ErrDenied)
	}
	return c, nil
}

// decoy is a hash that takes as long as a real one and matches nothing.
func (d *Desk) decoy() string {
	cost := d.Cost
	if cost == 0 {
		cost = DefaultCost
	}
	return fmt.Sprintf("pbkdf2-sha256$%d$%s$%s", cost, b64.EncodeToString(make([]byte, saltLen)), b64.EncodeToString(make([]byte, 32)))
}

// judge keeps the count of wrong secrets and applies lock and block.
func judge(tx *db.Tx, c Customer, right bool) error {
	tries, until, blocked, err := guard(tx, c.ID)
	if err != nil {
		return err
	}
	now := tx.Now().UnixMicro()
	switch {
	case until > now:
		return ErrLocked
	case right && blocked:
		return ErrBlocked
	case right && tries == 0:
		return nil
	case right:
		return setGuard(tx, c.ID, 0, 0)
	}
	if tries++; tries < MaxTries {
		err = setGuard(tx, c.ID, tries, 0)
	} else {
		err = setGuard(tx, c.ID, 0, now+LockFor.Microseconds())
	}
	if err != nil {
		return err
	}
	return ErrDenied
}

// SetBlocked lets staff close and open a login.
func SetBlocked(tx *db.Tx, id ID, blocked bool) error {
	n, err := tx.Exec(`UPDATE customer_person SET blocked = $2 WHERE id = $1`, string(id), blocked)
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("customer %s: %w", id, err)
	}
	return nil
}
