package app

import (
	"context"
	"errors"

	"koala/customer"
	"koala/internal/db"
	"koala/web"
	"koala/web/merchant/shell"
)

// accounts shows the customers of the house to the web kit as logins.
type accounts struct {
	desk  *customer.Desk
	store *db.Store
}

// Login checks a secret.
func (a accounts) Login(ctx context.Context, name, secret string) (web.User, error) {
	c, err := a.desk.Login(ctx, name, secret)
	if err != nil {
		return web.User{}, err
	}
	var u web.User
	err = a.store.Read(ctx, func(q *db.Query) (err error) {
		u, err = userOf(q, c)
		return err
	})
	return u, err
}

// User reads a login as it is now: a blocked one is gone at its next request.
func (a accounts) User(ctx context.Context, subject string) (web.User, bool, error) {
	var c customer.Customer
	var u web.User
	err := a.store.Read(ctx, func(q *db.Query) (err error) {
		if c, err = customer.Get(q, customer.ID(subject)); err != nil {
			return err
		}
		u, err = userOf(q, c)
		return err
	})
	switch {
	case errors.Is(err, customer.ErrNotFound):
		return web.User{}, false, nil
	case err != nil:
		return web.User{}, false, err
	}
	return u, !c.Blocked, nil
}

// userOf is a customer as pages know who is there, with the merchant it works
// for.
func userOf(q *db.Query, c customer.Customer) (web.User, error) {
	u := web.User{Name: c.Login, Subject: string(c.ID), Shown: c.Name}
	for _, r := range c.Roles {
		u.Roles = append(u.Roles, web.Role(r))
	}
	if !c.Has(customer.Trader) {
		return u, nil
	}
	m, works, err := shell.MemberOf(q, c.ID)
	if works {
		u.Merchant = m.Merchant
	}
	return u, err
}
