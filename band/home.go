package band

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"koala/spec/firmware"
)

// A Home is where the band's own affairs go: not its cards, which are the
// Link's, but its firmware and what its accelerometer counted.
type Home interface {
	// Release is a newer signed release than have that is meant for this band;
	// nil when there is none.
	Release(ctx context.Context, bandID string, have uint32) ([]byte, error)
	// Outcome tells whether a release was kept or undone.
	Outcome(ctx context.Context, bandID string, version uint32, kept bool) error
	// Activity hands hours over to the wearer's account.
	Activity(ctx context.Context, bandID string, hours []Hour) error
}

// Tend looks after the band itself: it ends the trial of a release, which has
// worked up to here; fetches a newer one and tries it; hands over what was
// counted since the last time. It may be called at any time and again.
func (b *Band) Tend(ctx context.Context, home Home, maker ed25519.PublicKey) error {
	version, trial := b.Firmware()
	if trial {
		if err := home.Outcome(ctx, b.ID, version, true); err != nil {
			return fmt.Errorf("band %s: release %d: %w", b.ID, version, err)
		}
		b.Keep()
	}
	if err := b.renew(ctx, home, maker, version); err != nil {
		return fmt.Errorf("band %s: %w", b.ID, err)
	}
	hours := b.Activity(b.synced)
	if len(hours) == 0 {
		return nil
	}
	if err := home.Activity(ctx, b.ID, hours); err != nil {
		return fmt.Errorf("band %s: %w", b.ID, err)
	}
	b.synced = hours[len(hours)-1].Start // which may still grow
	return nil
}

func (b *Band) renew(ctx context.Context, home Home, maker ed25519.PublicKey, have uint32) error {
	signed, err := home.Release(ctx, b.ID, have)
	if err != nil || signed == nil {
		return err
	}
	r, err := firmware.Parse(signed)
	if err != nil {
		return err
	}
	if err := b.Receive(0, signed); err != nil {
		return err
	}
	err = b.Install(maker)
	switch {
	case errors.Is(err, ErrSelfTest):
		return home.Outcome(ctx, b.ID, r.Version, false)
	case errors.Is(err, ErrFlat):
		return nil // later, when it is charged
	}
	return err
}

// SyncedTo is the start of the last hour that was handed over.
func (b *Band) SyncedTo() time.Time { return b.synced }
