package acquiring

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"koala/hsm"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/issuing"
	"koala/spec/desfire"
	"koala/spec/purse"
)

// Deny has tills, canteens and doors refuse a card from their next pack on, or
// take it again (purse.Allowed). A card of a lost band is let in again by its
// restoration only, one that has ended never; issuing lists both by itself. The
// note goes into the event. Transit cards are the gates' (package transit).
func Deny(tx *db.Tx, card issuing.CardID, reason purse.DenyReason, note string) error {
	c, err := issuing.Get(tx, card)
	switch {
	case err != nil:
		return err
	case c.Kind == issuing.Transit, reason == purse.DenyClosed, reason == purse.Allowed && (!c.Suspended.IsZero() || c.State.Over()):
		return nil
	}
	if err := issuing.DenyCard(tx, card, reason); err != nil {
		return err
	}
	return outbox.Put(tx, outbox.Event{Name: "card.refused", Subject: string(card), Data: map[string]string{"reason": reason.Words(false), "note": note}})
}

// ExceptionPack is the signed delta that brings a till's exception list on from
// version have, from 0 the whole list; nil when it has the newest. It is the
// issuer's, made for the till and not kept, because numbers of cards stand in it.
func (o *Office) ExceptionPack(ctx context.Context, tid string, have uint32) ([]byte, error) {
	if _, err := o.working(ctx, tid, POS); err != nil {
		return nil, err
	}
	return o.bank.ExceptionList(ctx, have)
}

// sign appends the Ed25519 signature of packs, 64 bytes.
func (o *Office) sign(ctx context.Context, body []byte) ([]byte, error) {
	sig, err := o.keys.Sign(ctx, hsm.LabelPack, body)
	return append(body, sig...), err
}

// SetMenu gives a canteen its menu; version, time and denied cards are not the
// caller's and are left out.
func SetMenu(tx *db.Tx, shop string, m desfire.Menu) error {
	m.Version, m.Made, m.Denied = 1, time.Unix(0, 0).UTC(), nil
	body, err := m.Bytes()
	if err != nil {
		return fmt.Errorf("menu of shop %s: %w: %w", shop, ErrMenu, err)
	}
	if _, err := ShopOf(tx, shop); err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO acquiring_menu (shop, body, changed) VALUES ($1, $2, $3) ON CONFLICT (shop) DO UPDATE SET body = excluded.body, changed = excluded.changed`,
		shop, body, micros(tx.Now()))
	return err
}

// MenuOf reads a canteen's menu without denied cards; empty before the first.
func MenuOf(q db.Reader, shop string) (m desfire.Menu, err error) {
	body, err := bodyOf(q, `SELECT body FROM acquiring_menu WHERE shop = $1`, shop)
	if err != nil || body == nil {
		return m, err
	}
	return desfire.ParseMenu(body)
}

func bodyOf(q db.Reader, query, id string) (body []byte, err error) {
	if err = q.QueryRow(query, id).Scan(&body); errors.Is(err, db.ErrNoRows) {
		err = nil
	}
	return body, err
}

// SetPlan gives a site its zones, schedules and holidays; what else a plan says
// comes from grants and lists.
func SetPlan(tx *db.Tx, site string, p desfire.Plan) error {
	s, err := SiteOf(tx, site)
	if err != nil {
		return err
	}
	p.Version, p.Site, p.Made, p.Grants, p.Denied = 1, s.Number, time.Unix(0, 0).UTC(), nil, nil
	body, err := p.Bytes()
	if err != nil {
		return fmt.Errorf("plan of site %s: %w: %w", site, ErrPlan, err)
	}
	_, err = tx.Exec(`INSERT INTO acquiring_plan (site, body, changed) VALUES ($1, $2, $3) ON CONFLICT (site) DO UPDATE SET body = excluded.body, changed = excluded.changed`,
		site, body, micros(tx.Now()))
	return err
}

// planOf reads what SetPlan kept; before that, a plan that lets nobody in.
func planOf(q db.Reader, site string) (p desfire.Plan, err error) {
	body, err := bodyOf(q, `SELECT body FROM acquiring_plan WHERE site = $1`, site)
	if err == nil && body != nil {
		return desfire.ParsePlan(body)
	}
	s, bad := SiteOf(q, site)
	return desfire.Plan{Site: s.Number, Made: time.Unix(0, 0).UTC()}, errors.Join(err, bad)
}

// PlanOf is the plan of a site as its doors are told, with persons and denied
// cards.
func (o *Office) PlanOf(q db.Reader, site string) (desfire.Plan, error) {
	p, err := planOf(q, site)
	if err != nil {
		return p, err
	}
	grants, err := Grants(q, site, "", desfire.MaxGrants)
	if err != nil {
		return p, err
	}
	for _, g := range grants {
		c, err := issuing.Get(q, g.Card)
		if err != nil {
			return p, err
		}
		if c.State.Over() {
			continue
		}
		p.Grants = append(p.Grants, desfire.Grant{Person: issuing.PersonOf(c.Customer), Zone: g.Zone, Schedule: g.Schedule})
	}
	slices.SortFunc(p.Grants, func(a, b desfire.Grant) int {
		return cmp.Or(cmp.Compare(a.Person, b.Person), cmp.Compare(a.Zone, b.Zone), cmp.Compare(a.Schedule, b.Schedule))
	})
	p.Grants = slices.Compact(p.Grants)
	p.Denied, err = o.denials(q, issuing.Door)
	return p, err
}

// denials lists the chips whose card of a kind is refused. A card that was given
// back is out of its chip: another one may live there now.
func (o *Office) denials(q db.Reader, kind issuing.Kind) (out []desfire.Denial, err error) {
	reasons := map[issuing.CardID]purse.DenyReason{}
	var list []issuing.Refusal
	for after := uint32(0); ; after = list[len(list)-1].Version {
		if list, err = issuing.Refusals(q, after, purse.MaxDenyDelta); err != nil || len(list) == 0 {
			break
		}
		for _, r := range list {
			if r.Kind == kind {
				reasons[r.Card] = r.Reason
			}
		}
	}
	for id, reason := range reasons {
		if err != nil || reason == purse.Allowed || reason == purse.DenyClosed {
			continue
		}
		var uid desfire.UID
		var ok bool
		if uid, ok, err = o.elements.UID(q, id); ok {
			out = append(out, desfire.Denial{Card: uid, Reason: byte(reason)})
		}
	}
	slices.SortFunc(out, func(a, b desfire.Denial) int {
		return cmp.Or(bytes.Compare(a.Card[:], b.Card[:]), cmp.Compare(a.Reason, b.Reason))
	})
	return slices.CompactFunc(out, func(a, b desfire.Denial) bool { return a.Card == b.Card }), err
}

// MenuPack is the signed menu of a canteen's till when it is newer than have;
// nil when it is not, or there is none.
func (o *Office) MenuPack(ctx context.Context, tid string, have uint32) ([]byte, error) {
	d, err := o.working(ctx, tid, Canteen)
	if err != nil {
		return nil, err
	}
	var m desfire.Menu
	err = o.store.Read(ctx, func(q *db.Query) (err error) {
		if m, err = MenuOf(q, d.Shop); err == nil {
			m.Denied, err = o.denials(q, issuing.Canteen)
		}
		return err
	})
	if err != nil || len(m.Meals) == 0 {
		return nil, err
	}
	return o.pack(ctx, "menu", d.Shop, have, func(version uint32, made time.Time) ([]byte, error) {
		m.Version, m.Made = version, made
		return m.Bytes()
	})
}

// PlanPack is the signed plan of a door's site when it is newer than have; nil
// when it is not.
func (o *Office) PlanPack(ctx context.Context, tid string, have uint32) ([]byte, error) {
	d, err := o.working(ctx, tid, Door)
	if err != nil {
		return nil, err
	}
	var p desfire.Plan
	err = o.store.Read(ctx, func(q *db.Query) (err error) {
		p, err = o.PlanOf(q, d.Site)
		return err
	})
	if err != nil {
		return nil, err
	}
	return o.pack(ctx, "plan", d.Site, have, func(version uint32, made time.Time) ([]byte, error) {
		p.Version, p.Made = version, made
		return p.Bytes()
	})
}

// pack gives the newest pack of an owner if it is not have. Content that is not
// in the newest makes the next version.
func (o *Office) pack(ctx context.Context, kind, owner string, have uint32, code func(uint32, time.Time) ([]byte, error)) ([]byte, error) {
	bare, err := code(1, time.Unix(0, 0).UTC())
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", kind, owner, err)
	}
	sum := sha256.Sum256(bare)
	hash := hex.EncodeToString(sum[:])
	version, was, body, err := o.newest(ctx, kind, owner)
	if err != nil {
		return nil, err
	}
	if was != hash {
		now := o.store.Now().Truncate(time.Second)
		if body, err = code(version+1, now); err == nil {
			body, err = o.sign(ctx, body)
		}
		if err != nil {
			return nil, fmt.Errorf("%s of %s: %w", kind, owner, err)
		}
		err = o.store.Write(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(`INSERT INTO acquiring_pack (kind, owner, version, made, hash, body) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
				kind, owner, int64(version)+1, micros(now), hash, body)
			return err
		})
		if err != nil {
			return nil, err
		}
		if version, _, body, err = o.newest(ctx, kind, owner); err != nil { // another one may have been faster
			return nil, err
		}
	}
	if version == have {
		return nil, nil
	}
	return body, nil
}

func (o *Office) newest(ctx context.Context, kind, owner string) (version uint32, hash string, body []byte, err error) {
	err = o.store.Read(ctx, func(q *db.Query) error {
		var v int64
		err := q.QueryRow(`SELECT version, hash, body FROM acquiring_pack WHERE kind = $1 AND owner = $2 ORDER BY version DESC LIMIT 1`, kind, owner).Scan(&v, &hash, &body)
		version = uint32(v)
		if errors.Is(err, db.ErrNoRows) {
			err = nil
		}
		return err
	})
	return version, hash, body, err
}
