package app

import (
	"context"
	"errors"

	"koala/customer"
	"koala/internal/db"
	"koala/web"
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
	return userOf(c), nil
}

// User reads a login as it is now: a blocked one is gone at its next request.
func (a accounts) User(ctx context.Context, subject string) (web.User, bool, error) {
	var c customer.Customer
	err := a.store.Read(ctx, func(q *db.Query) (err error) {
		c, err = customer.Get(q, customer.ID(subject))
		return err
	})
	switch {
	case errors.Is(err, customer.ErrNotFound):
		return web.User{}, false, nil
	case err != nil:
		return web.User{}, false, err
	}
	return userOf(c), !c.Blocked, nil
}

func userOf(c customer.Customer) web.User {
	u := web.User{Name: c.Login, Subject: string(c.ID), Shown: c.Name}
	for _, r := range c.Roles {
		u.Roles = append(u.Roles, web.Role(r))
	}
	return u
}
