package transit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"koala/internal/db"
	"koala/internal/outbox"
	"koala/spec/purse"
)

// A Denied card, or one whose place on the list is about to change.
type Denied struct {
	Card    purse.Number
	Reason  purse.DenyReason
	Why     string
	At      time.Time
	Version uint32 // of the list that says so; 0: with the next one
}

// maxWhy bounds why a card is denied, in bytes.
const maxWhy = 200

// Deny puts a card on the deny list, or takes it off (purse.Allowed), with the
// next version that Publish makes.
func (b Books) Deny(tx *db.Tx, card purse.Number, reason purse.DenyReason, why string) error {
	n, err := purse.ParseNumber(string(card))
	if err != nil || len(why) > maxWhy {
		return fmt.Errorf("deny list: %w", errors.Join(ErrDeny, err))
	}
	var listed int
	if err := tx.QueryRow(`SELECT COUNT(*) FROM transit_denied WHERE reason <> 0`).Scan(&listed); err != nil {
		return err
	}
	if reason != purse.Allowed && listed >= purse.MaxDenyDelta {
		return fmt.Errorf("deny list holds %d cards: %w", listed, ErrDeny)
	}
	if _, err := tx.Exec(`INSERT INTO transit_denied (card, reason, why, at, version) VALUES ($1, $2, $3, $4, 0)
		ON CONFLICT (card) DO UPDATE SET reason = excluded.reason, why = excluded.why, at = excluded.at, version = 0
		WHERE transit_denied.reason <> excluded.reason`,
		string(n), int64(reason), why, micros(tx.Now())); err != nil {
		return err
	}
	return outbox.Put(tx, outbox.Event{Name: "card.denied", Subject: tail(n), Data: map[string]string{"reason": reason.Words(false)}})
}

// DenyList reads the list as it will be with the next version.
func DenyList(q db.Reader, after purse.Number, limit int) ([]Denied, error) {
	return denied(q, `WHERE reason <> 0 AND card > $1 ORDER BY card LIMIT $2`, string(after), limited(limit))
}

func denied(q db.Reader, where string, args ...any) (out []Denied, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var d Denied
		var card string
		var reason, at, version int64
		err := scan(&card, &reason, &d.Why, &at, &version)
		d.Card, d.Reason, d.At, d.Version = purse.Number(card), purse.DenyReason(reason), db.Moment(at), uint32(version)
		out = append(out, d)
		return err
	}, `SELECT card, reason, why, at, version FROM transit_denied `+where, args...)
	return out, err
}

// DenyVersion is the newest published version and when it was made; zeros
// when there is none.
func DenyVersion(q db.Reader) (version uint32, made time.Time, err error) {
	var at int64
	err = q.QueryRow(`SELECT version, made FROM transit_delta ORDER BY version DESC LIMIT 1`).Scan(&version, &at)
	if errors.Is(err, db.ErrNoRows) {
		return 0, time.Time{}, nil
	}
	return version, db.Moment(at), err
}

// Publish makes the next version of the deny list if anything changed: a
// signed delta from the version before, and the signed whole list for devices
// that are too far behind.
func (o *Office) Publish(ctx context.Context) error {
	var pending, whole []Denied
	var version uint32
	err := o.store.Read(ctx, func(q *db.Query) (err error) {
		if pending, err = denied(q, `WHERE version = 0 ORDER BY card LIMIT $1`, purse.MaxDenyDelta); err != nil || len(pending) == 0 {
			return err
		}
		if version, _, err = DenyVersion(q); err != nil {
			return err
		}
		whole, err = denied(q, `WHERE reason <> 0 ORDER BY card`)
		return err
	})
	if err != nil || len(pending) == 0 {
		return err
	}
	now := o.store.Now()
	delta, err := o.denyPack(ctx, purse.DenyDelta{From: version, To: version + 1, At: now, Changes: changes(pending)})
	if err != nil {
		return fmt.Errorf("deny list %d: %w", version+1, err)
	}
	all, err := o.denyPack(ctx, purse.DenyDelta{To: version + 1, At: now, Changes: changes(whole)})
	if err != nil {
		return fmt.Errorf("deny list %d: %w", version+1, err)
	}
	return o.store.Write(ctx, func(tx *db.Tx) error { return publish(tx, version+1, pending, delta, all) })
}

func changes(list []Denied) []purse.Denial {
	out := make([]purse.Denial, len(list))
	for i, d := range list {
		out[i] = purse.Denial{Card: d.Card, Reason: d.Reason}
	}
	return out
}

func (o *Office) denyPack(ctx context.Context, delta purse.DenyDelta) ([]byte, error) {
	body, err := delta.Bytes()
	if err != nil {
		return nil, err
	}
	return o.sign(ctx, body)
}

// publish keeps a version unless another was faster; then the changes wait
// for the next one.
func publish(tx *db.Tx, version uint32, pending []Denied, delta, whole []byte) error {
	n, err := tx.Exec(`INSERT INTO transit_delta (version, made, n, delta, whole) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (version) DO NOTHING`,
		int64(version), micros(tx.Now()), len(pending), delta, whole)
	if err != nil || n == 0 {
		return err
	}
	for _, p := range pending {
		if _, err := tx.Exec(`UPDATE transit_denied SET version = $1 WHERE card = $2 AND at = $3 AND version = 0`, int64(version), string(p.Card), micros(p.At)); err != nil {
			return err
		}
	}
	_, err = tx.Exec(`UPDATE transit_delta SET whole = $1 WHERE version < $2`, []byte{}, int64(version))
	return err
}

// maxDeltas is how many deltas a device is led through before it gets the
// whole list.
const maxDeltas = 30

// DenyPack returns the signed pack that brings a device on from version have,
// nil when it has the newest: the next delta, or the whole list for one that
// has none or is far behind.
func (o *Office) DenyPack(ctx context.Context, have uint32) (pack []byte, err error) {
	err = o.store.Read(ctx, func(q *db.Query) error {
		newest, _, err := DenyVersion(q)
		if err != nil || newest <= have {
			return err
		}
		if have == 0 || newest-have > maxDeltas {
			return q.QueryRow(`SELECT whole FROM transit_delta WHERE version = $1`, int64(newest)).Scan(&pack)
		}
		return q.QueryRow(`SELECT delta FROM transit_delta WHERE version = $1`, int64(have)+1).Scan(&pack)
	})
	if err != nil {
		return nil, fmt.Errorf("deny list after version %d: %w", have, err)
	}
	return pack, nil
}
