// Package firmware brings new releases of the card catalogue to bands in
// stages: a release is signed, offered to a share of the bands, watched, and
// offered to more, or halted. A band that went back to its old release counts
// against it; too many halt it by themselves.
//
// Start with Publish, Offer and Tell.
package firmware

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"koala/hsm"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/spec/firmware"
)

// Label names the key that signs releases; every band has its public half.
const Label = "firmware.sign"

// A release is halted when at least haltAfter bands went back from it and they
// are more than haltShare percent of those that tried it.
const (
	haltAfter = 3
	haltShare = 5
)

// What can go wrong.
var (
	ErrNotFound = fail.Define(fail.NotFound, "firmware.release_not_found", "there is no such release")
	ErrVersion  = fail.Define(fail.Conflict, "firmware.version_taken", "a release has a higher version than every one before it")
	ErrStage    = fail.Define(fail.Invalid, "firmware.bad_stage", "a stage is 0 to 100 percent of the bands, and never shrinks: halt the release instead")
	ErrOutcome  = fail.Define(fail.Invalid, "firmware.bad_outcome", "a band keeps a release or goes back from it")
)

// An Outcome is what became of a release on a band.
type Outcome string

// Outcomes.
const (
	Kept   Outcome = "kept"   // the band works under it
	Undone Outcome = "undone" // it did not pass its test or its trial: the old one is back
)

// A Rollout is a release and how far it is.
type Rollout struct {
	Version      uint32
	Signed       []byte
	Percent      int    // of the bands it is offered to
	Halted       string // why it is offered to nobody any more; empty: it is
	Made         time.Time
	Kept, Undone int // bands
}

// Schema is what this package keeps.
var Schema = db.Schema{Owner: "firmware", Steps: []string{
	`CREATE TABLE firmware_release (
		version BIGINT PRIMARY KEY,
		signed BYTEA NOT NULL,
		percent BIGINT NOT NULL,
		halted TEXT NOT NULL,
		made BIGINT NOT NULL)`,
	`CREATE TABLE firmware_band (
		version BIGINT NOT NULL,
		band TEXT NOT NULL,
		outcome TEXT NOT NULL,
		at BIGINT NOT NULL,
		PRIMARY KEY (version, band))`,
}}

// Publish signs a release and keeps it, offered to nobody yet.
func Publish(ctx context.Context, store *db.Store, h *hsm.HSM, r firmware.Release) error {
	signed, err := r.Sign(func(b []byte) ([]byte, error) { return h.Sign(ctx, Label, b) })
	if err != nil {
		return err
	}
	return store.Write(ctx, func(tx *db.Tx) error {
		n, err := tx.Exec(`INSERT INTO firmware_release (version, signed, percent, halted, made)
			SELECT $1, $2, 0, '', $3 WHERE NOT EXISTS (SELECT 1 FROM firmware_release WHERE version >= $1)`,
			int64(r.Version), signed, tx.Now().UnixMicro())
		if err == nil && n == 0 {
			err = ErrVersion
		}
		if err != nil {
			return fmt.Errorf("release %d: %w", r.Version, err)
		}
		return nil
	})
}

// Stage offers a release to that share of the bands.
func Stage(tx *db.Tx, version uint32, percent int) error {
	r, err := Get(tx, version)
	switch {
	case err != nil:
		return err
	case percent < r.Percent || percent > 100:
		return fmt.Errorf("release %d from %d %% to %d %%: %w", version, r.Percent, percent, ErrStage)
	}
	_, err = tx.Exec(`UPDATE firmware_release SET percent = $2 WHERE version = $1`, int64(version), percent)
	return err
}

// Halt offers a release to nobody any more.
func Halt(tx *db.Tx, version uint32, why string) error {
	if _, err := Get(tx, version); err != nil {
		return err
	}
	_, err := tx.Exec(`UPDATE firmware_release SET halted = $2 WHERE version = $1 AND halted = ''`, int64(version), why)
	return err
}

// Offer is the newest release that is meant for a band which runs version
// have, signed; nil when there is none. A band that went back from a release
// is not offered it again.
func Offer(q db.Reader, band string, have uint32) (signed []byte, err error) {
	err = q.QueryRow(`SELECT r.signed FROM firmware_release r
		WHERE r.version > $1 AND r.halted = '' AND r.percent > $2
			AND NOT EXISTS (SELECT 1 FROM firmware_band b WHERE b.version = r.version AND b.band = $3 AND b.outcome = $4)
		ORDER BY r.version DESC LIMIT 1`, int64(have), share(band), band, string(Undone)).Scan(&signed)
	if errors.Is(err, db.ErrNoRows) {
		return nil, nil
	}
	return signed, err
}

// share is a band's place in the order of stages, 0 to 99: the same for every
// release, so that the first ones are always the same few.
func share(band string) int64 {
	sum := sha256.Sum256([]byte(band))
	return (int64(sum[0])<<8 | int64(sum[1])) % 100
}

// Tell keeps what became of a release on a band, the last word counting, and
// halts the release when too many bands went back.
func Tell(tx *db.Tx, band string, version uint32, o Outcome) error {
	if o != Kept && o != Undone {
		return fmt.Errorf("outcome %q: %w", o, ErrOutcome)
	}
	if _, err := Get(tx, version); err != nil {
		return err
	}
	_, err := tx.Exec(`INSERT INTO firmware_band (version, band, outcome, at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (version, band) DO UPDATE SET outcome = excluded.outcome, at = excluded.at`,
		int64(version), band, string(o), tx.Now().UnixMicro())
	if err != nil {
		return fmt.Errorf("release %d on band %s: %w", version, band, err)
	}
	r, err := Get(tx, version)
	if err != nil || r.Undone < haltAfter || r.Undone*100 <= (r.Kept+r.Undone)*haltShare {
		return err
	}
	return Halt(tx, version, fmt.Sprintf("%d of %d bands went back", r.Undone, r.Kept+r.Undone))
}

const rolloutColumns = `r.version, r.signed, r.percent, r.halted, r.made,
	(SELECT COUNT(*) FROM firmware_band b WHERE b.version = r.version AND b.outcome = 'kept'),
	(SELECT COUNT(*) FROM firmware_band b WHERE b.version = r.version AND b.outcome = 'undone')`

func scanRollout(scan func(...any) error) (r Rollout, err error) {
	var version, made int64
	err = scan(&version, &r.Signed, &r.Percent, &r.Halted, &made, &r.Kept, &r.Undone)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNotFound
	}
	r.Version, r.Made = uint32(version), db.Moment(made)
	return r, err
}

// Get reads one release.
func Get(q db.Reader, version uint32) (Rollout, error) {
	r, err := scanRollout(q.QueryRow(`SELECT `+rolloutColumns+` FROM firmware_release r WHERE r.version = $1`, int64(version)).Scan)
	if err != nil {
		return Rollout{}, fmt.Errorf("release %d: %w", version, err)
	}
	return r, nil
}

// List reads every release, newest first.
func List(q db.Reader) (out []Rollout, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		r, err := scanRollout(scan)
		out = append(out, r)
		return err
	}, `SELECT `+rolloutColumns+` FROM firmware_release r ORDER BY r.version DESC`)
	return out, err
}
