package desk

import (
	"context"
	"errors"
	"fmt"

	"koala/activity"
	"koala/calendar"
	"koala/customer"
	"koala/firmware"
	"koala/internal/db"
	release "koala/spec/firmware"
	"koala/web"
	"koala/web/wearer"
)

// body is wearer.Body over activity. It is nobody else's.
type body struct{ store *db.Store }

// NewBody is a wearer's steps and sleep.
func NewBody(store *db.Store) wearer.Body { return body{store} }

// Days adds up the last n civil days of Beijing.
func (b body) Days(ctx context.Context, who string, n int) (out []wearer.Day, err error) {
	err = b.store.Read(ctx, func(q *db.Query) error {
		days, err := activity.Days(q, customer.ID(who), b.store.Now().In(calendar.Beijing), n)
		for _, d := range days {
			out = append(out, wearer.Day(d))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("activity of %s: %w", who, err)
	}
	return out, nil
}

// Forget removes all of it.
func (b body) Forget(ctx context.Context, who string) error {
	return b.store.Write(ctx, func(tx *db.Tx) error { return activity.Forget(tx, customer.ID(who)) })
}

// NewNotes reads what a firmware version brought, as its release tells the
// wearer; nothing for one that the house never published.
func NewNotes(store *db.Store) func(ctx context.Context, version uint32) (web.Text, error) {
	return func(ctx context.Context, version uint32) (notes web.Text, err error) {
		err = store.Read(ctx, func(q *db.Query) error {
			roll, err := firmware.Get(q, version)
			if errors.Is(err, firmware.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			r, err := release.Parse(roll.Signed)
			notes = web.Text{ZH: r.ZH, EN: r.EN}
			return err
		})
		if err != nil {
			return web.Text{}, fmt.Errorf("notes of release %d: %w", version, err)
		}
		return notes, nil
	}
}
