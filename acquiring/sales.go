package acquiring

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/issuing"
	"koala/settlement"
	"koala/spec/pboc"
)

// An Event is the data of this package's events: names of things, never a card
// number.
type Event struct {
	Device string `json:"device"`
	Shop   string `json:"shop,omitempty"`
	Card   string `json:"card,omitempty"` // issuing's name
	Fen    int64  `json:"fen,omitempty"`
	Why    Why    `json:"why,omitempty"`
}

// CollectSales takes a till's batch and tells what became of each record; what
// could not be booked waits in suspense. It may come again at any time and in
// any order. An error means that nothing after the release number was taken.
func (o *Office) CollectSales(ctx context.Context, tid string, b pboc.ClearingBatch) (h Handed, err error) {
	if err := checkBatch(tid, b.First, len(b.Records)); err != nil {
		return h, err
	}
	d, err := o.heard(ctx, tid, POS)
	if err != nil {
		return h, err
	}
	h.Release = before(b.First)
	booked := map[issuing.CardID]bool{}
	for i, r := range b.Records {
		number := b.First + uint32(i)
		res, card, err := o.takeSale(ctx, d, number, r)
		if err != nil {
			return h, fmt.Errorf("number %d of device %s: %w", number, tid, err)
		}
		h.Release, h.Results = number, append(h.Results, res)
		booked[card] = booked[card] || res.Fate == Booked
	}
	for _, card := range slices.Sorted(maps.Keys(booked)) { // what waited for one of these
		if card != "" && booked[card] {
			if err := o.retryCard(ctx, card); err != nil {
				return h, fmt.Errorf("records of device %s: %w", tid, err)
			}
		}
	}
	return h, o.missing(ctx, tid, &h)
}

// A sale is a record as it is kept.
type sale struct {
	d      Device
	number uint32
	r      pboc.Clearing
	hash   string
	sealed []byte
}

func (o *Office) takeSale(ctx context.Context, d Device, number uint32, r pboc.Clearing) (res Result, card issuing.CardID, err error) {
	wire, err := r.MarshalBinary()
	if err != nil {
		return res, "", fmt.Errorf("%w: %w", ErrBatch, err)
	}
	s := sale{d: d, number: number, r: r}
	if s.hash, s.sealed, err = o.seal(ctx, wire); err != nil {
		return res, "", err
	}
	k, err := o.bank.Check(ctx, r, settlement.Payable(d.Shop))
	if err != nil {
		return res, "", err
	}
	err = o.store.Write(ctx, func(tx *db.Tx) error {
		res, err = s.take(tx, k)
		return err
	})
	return res, k.Card(), err
}

// take enters the record under its number and books it.
func (s sale) take(tx *db.Tx, k issuing.Checked) (Result, error) {
	res := Result{Number: s.number, Fate: Known}
	var hash string
	var was Fate
	err := tx.QueryRow(`SELECT id, hash, fate, why FROM acquiring_record WHERE tid = $1 AND number = $2`, s.d.TID, int64(s.number)).
		Scan(&res.ID, &hash, &was, &res.Why)
	odd := strange{s.d.TID, s.number, "sale", WhyNumber, s.hash, s.sealed}
	switch {
	case err == nil && hash == s.hash:
		if was == Suspense {
			res.Fate = Suspense
		}
		return res, nil
	case err == nil:
		return keepOdd(tx, odd)
	case !errors.Is(err, db.ErrNoRows):
		return res, err
	case s.r.TID != s.d.TID || s.r.MID != s.d.MID:
		odd.why = WhyDevice
		return keepOdd(tx, odd)
	}
	if err := arrived(tx, s.d.TID, s.number); err != nil {
		return res, err
	}
	fate, flaw, err := clearRecord(tx, k)
	if err != nil {
		return res, err
	}
	res = Result{Number: s.number, ID: tx.NewID("sale"), Fate: fate, Why: Why(flaw)}
	if err := s.insert(tx, res, k); err != nil {
		return res, err
	}
	return res, outbox.Put(tx, outbox.Event{Name: "sale." + string(fate), Subject: res.ID,
		Data: Event{Device: s.d.TID, Shop: s.d.Shop, Card: string(k.Card()), Fen: int64(s.r.Fen), Why: res.Why}})
}

// done is when it happened by the till's clock; zero when that cannot be read.
func (s sale) done() time.Time {
	t, err := s.r.Moment(calendar.Beijing)
	if err != nil {
		return time.Time{}
	}
	return t
}

func (s sale) insert(tx *db.Tx, res Result, k issuing.Checked) error {
	waits := ""
	if res.Fate == Suspense {
		waits = k.ID()
	}
	_, err := tx.Exec(`INSERT INTO acquiring_record (id, tid, number, shop, hash, kind, type, card, atc, fen, batch, stan, done, got, fate, why, waits, sealed)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)`,
		res.ID, s.d.TID, int64(s.number), s.d.Shop, s.hash, byte(s.r.Kind), s.r.Type, k.Card(), int64(s.r.ATC), int64(s.r.Fen),
		int64(s.r.Batch), int64(s.r.STAN), micros(s.done()), micros(tx.Now()), res.Fate, res.Why, waits, s.sealed)
	return err
}

// clearRecord books a checked record at the bank, which tells of what it moved
// (moved).
func clearRecord(tx *db.Tx, k issuing.Checked) (Fate, issuing.Flaw, error) {
	f, flaw, err := issuing.ClearTC(tx, k)
	return map[issuing.Fate]Fate{issuing.Cleared: Booked, issuing.Known: Known, issuing.Suspense: Suspense}[f], flaw, err
}

// moved captures for a shop exactly what the bank's clearing moved on its
// account, whatever made it do so: a record, another one that waited for it, a
// doubt that was decided.
func moved(tx *db.Tx, m issuing.Movement) error {
	shop, ok := strings.CutPrefix(string(m.Payee), string(settlement.Payable("")))
	if !ok {
		return nil // nobody whom this house settles with
	}
	if err := settlement.Capture(tx, settlement.Item{Ref: m.Ref, Payee: shop, Amount: m.Fen, Kind: "sale"}); err != nil {
		return err
	}
	_, err := tx.Exec(`INSERT INTO acquiring_movement (ref, shop, card, atc, fen, at) VALUES ($1, $2, $3, $4, $5, $6)`,
		m.Ref, shop, m.Card, int64(m.ATC), m.Fen.Minor(), micros(tx.Now()))
	return err
}

// retrySale looks at a record in suspense again.
func (o *Office) retrySale(ctx context.Context, s Sale) (res Result, err error) {
	k, err := o.bank.Recheck(ctx, s.waits)
	if err != nil {
		return res, err
	}
	err = o.store.Write(ctx, func(tx *db.Tx) error {
		res = Result{Number: s.Number, ID: s.ID, Fate: Known}
		var was Fate
		if err := tx.QueryRow(`SELECT fate, why FROM acquiring_record WHERE id = $1`, s.ID).Scan(&was, &res.Why); err != nil || was != Suspense {
			return err
		}
		fate, flaw, err := clearRecord(tx, k)
		if err != nil {
			return err
		}
		if fate == Known { // the bank has booked it meanwhile
			fate = Booked
		}
		res.Fate, res.Why = fate, Why(flaw)
		_, err = tx.Exec(`UPDATE acquiring_record SET fate = $2, why = $3, card = $4 WHERE id = $1`, s.ID, fate, res.Why, k.Card())
		return err
	})
	return res, err
}

// retryCard tries a card's records in suspense again until none can be booked.
func (o *Office) retryCard(ctx context.Context, card issuing.CardID) error {
	for again := true; again; {
		again = false
		var list []Sale
		err := o.store.Read(ctx, func(q *db.Query) (err error) {
			list, err = sales(q, `WHERE card = $1 AND fate = $2 ORDER BY id LIMIT $3`, card, Suspense, maxPage)
			return err
		})
		if err != nil {
			return err
		}
		for _, s := range list {
			res, err := o.retrySale(ctx, s)
			if err != nil {
				return err
			}
			again = again || res.Fate == Booked
		}
	}
	return nil
}
