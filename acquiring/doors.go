package acquiring

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"koala/internal/db"
	"koala/issuing"
	"koala/spec/desfire"
)

// A Passage is one card at a door. It is personal: only the owner of the site
// reads it, and the wearer his own; it goes after the site's time for keeping.
type Passage struct {
	ID     string // psg_…
	TID    string // of the door
	Site   string
	UID    desfire.UID
	Card   issuing.CardID // empty: not known
	Person string         // as the credential says, hexadecimal; zeros: none was read
	At     time.Time
	Opened bool
	Reason byte // the door's
	Got    time.Time
}

// CollectPassages keeps what a door saw, each place of its log once.
func (o *Office) CollectPassages(ctx context.Context, tid string, b desfire.PassageBatch) (h Handed, err error) {
	if err := checkBatch(tid, b.First, len(b.Passages)); err != nil {
		return h, err
	}
	d, err := o.heard(ctx, tid, Door)
	if err != nil {
		return h, err
	}
	if b.Door != DoorNumber(tid) {
		return h, fmt.Errorf("passages of door %d from device %s: %w", b.Door, tid, ErrBatch)
	}
	h.Release = before(b.First)
	for i, p := range b.Passages {
		number := b.First + uint32(i)
		res, err := o.takePassage(ctx, d, number, p)
		if err != nil {
			return h, fmt.Errorf("number %d of device %s: %w", number, tid, err)
		}
		h.Release, h.Results = number, append(h.Results, res)
	}
	return h, o.missing(ctx, tid, &h)
}

func (o *Office) takePassage(ctx context.Context, d Device, number uint32, p desfire.Passage) (res Result, err error) {
	odd := strange{tid: d.TID, number: number, what: "passage", why: WhyNumber}
	if odd.hash, odd.sealed, err = o.seal(ctx, p.Bytes()); err != nil {
		return res, err
	}
	if p.Door != DoorNumber(d.TID) {
		odd.why = WhyDevice
	}
	err = o.store.Write(ctx, func(tx *db.Tx) error {
		known, err := passages(tx, `WHERE tid = $1 AND number = $2`, d.TID, int64(number))
		switch {
		case err != nil:
			return err
		case len(known) == 1 && known[0].same(p):
			res = Result{Number: number, ID: known[0].ID, Fate: Known}
			return nil
		case len(known) == 1 || odd.why == WhyDevice:
			res, err = keepOdd(tx, odd)
			return err
		}
		res, err = o.enterPassage(tx, d, number, p)
		return err
	})
	return res, err
}

func (x Passage) same(p desfire.Passage) bool {
	at, err := p.At.Moment()
	return x.UID == p.Card && x.Opened == p.Opened && x.Reason == p.Reason && x.Person == person(p.Person) && (err != nil || x.At.Equal(at))
}

func person(n uint64) string { return fmt.Sprintf("%016x", n) }

func (o *Office) enterPassage(tx *db.Tx, d Device, number uint32, p desfire.Passage) (Result, error) {
	if err := arrived(tx, d.TID, number); err != nil {
		return Result{}, err
	}
	at, err := p.At.Moment()
	if err != nil {
		at = tx.Now()
	}
	card, err := o.cardOf(tx, p.Card, issuing.Door, at)
	if err != nil {
		return Result{}, err
	}
	id := tx.NewID("psg")
	_, err = tx.Exec(`INSERT INTO acquiring_passage (id, tid, number, site, uid, card, person, at, opened, reason, got) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		id, d.TID, int64(number), d.Site, hex.EncodeToString(p.Card[:]), card, person(p.Person), micros(at), p.Opened, p.Reason, micros(tx.Now()))
	return Result{Number: number, ID: id, Fate: Booked}, err
}

// PassagesAt reads the passages of a site, newest first, from the one before the
// given (empty: from the newest). Only its owner may.
func PassagesAt(q db.Reader, site, owner, before string, limit int) ([]Passage, error) {
	s, err := SiteOf(q, site)
	if err == nil && (owner == "" || s.Owner != owner) {
		err = ErrNotOwner
	}
	if err != nil {
		return nil, fmt.Errorf("passages of site %s: %w", site, err)
	}
	return passages(q, `WHERE site = $1 AND (id < $2 OR $2 = '') ORDER BY id DESC LIMIT $3`, site, before, limited(limit))
}

// PassagesOf reads the passages of a card, newest first, for its wearer.
func PassagesOf(q db.Reader, card issuing.CardID, before string, limit int) ([]Passage, error) {
	return passages(q, `WHERE card = $1 AND card <> '' AND (id < $2 OR $2 = '') ORDER BY id DESC LIMIT $3`, card, before, limited(limit))
}

func passages(q db.Reader, where string, args ...any) (out []Passage, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var p Passage
		var uid string
		var at, reason, got int64
		err := scan(&p.ID, &p.TID, &p.Site, &uid, &p.Card, &p.Person, &at, &p.Opened, &reason, &got)
		raw, bad := hex.DecodeString(uid)
		copy(p.UID[:], raw)
		p.At, p.Reason, p.Got = db.Moment(at), byte(reason), db.Moment(got)
		out = append(out, p)
		return errors.Join(err, bad)
	}, `SELECT id, tid, site, uid, card, person, at, opened, reason, got FROM acquiring_passage `+where, args...)
	return out, err
}

// Forget removes the passages that are older than their site keeps them.
func Forget(tx *db.Tx) error {
	list, err := sites(tx, `ORDER BY id`)
	for _, s := range list {
		if err == nil {
			_, err = tx.Exec(`DELETE FROM acquiring_passage WHERE site = $1 AND got < $2`, s.ID, tx.Now().AddDate(0, 0, -s.KeepDays).UnixMicro())
		}
	}
	return err
}

// A Grant lets a door card through the doors of a zone in the hours of a
// schedule, both of the site's plan.
type Grant struct {
	Site           string
	Card           issuing.CardID
	Zone, Schedule uint16
}

// Admit gives a grant; the same again changes nothing. The card must be a door
// card, and zone and schedule in the site's plan.
func Admit(tx *db.Tx, g Grant) error {
	bad := func(err error) error {
		return fmt.Errorf("grant of card %s at site %s: %w", g.Card.Masked(), g.Site, err)
	}
	c, err := issuing.Get(tx, g.Card)
	if err == nil && c.Kind != issuing.Door {
		err = ErrPlan
	}
	if err != nil {
		return bad(err)
	}
	plan, err := planOf(tx, g.Site)
	if err != nil {
		return bad(err)
	}
	plan.Grants = []desfire.Grant{{Person: issuing.PersonOf(c.Customer), Zone: g.Zone, Schedule: g.Schedule}}
	if _, err := plan.Bytes(); err != nil {
		return bad(fmt.Errorf("%w: %w", ErrPlan, err))
	}
	_, err = tx.Exec(`INSERT INTO acquiring_grant (site, card, zone, schedule) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`, g.Site, g.Card, int64(g.Zone), int64(g.Schedule))
	return err
}

// Expel takes a card's grants at a site away.
func Expel(tx *db.Tx, site string, card issuing.CardID) error {
	_, err := tx.Exec(`DELETE FROM acquiring_grant WHERE site = $1 AND card = $2`, site, card)
	return err
}

// Grants reads the grants of a site by card, from the one after the given.
func Grants(q db.Reader, site string, after issuing.CardID, limit int) (out []Grant, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		g := Grant{Site: site}
		var zone, schedule int64
		err := scan(&g.Card, &zone, &schedule)
		g.Zone, g.Schedule = uint16(zone), uint16(schedule)
		out = append(out, g)
		return err
	}, `SELECT card, zone, schedule FROM acquiring_grant WHERE site = $1 AND card > $2 ORDER BY card, zone, schedule LIMIT $3`, site, after, limit)
	return out, err
}
