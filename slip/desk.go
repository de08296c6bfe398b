package slip

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"koala/hsm"
	"koala/internal/db"
	"koala/internal/openkey"
	"koala/internal/outbox"
	"koala/merchant"
	"koala/spec/emv"
	"koala/spec/iso8583"
	"koala/spec/tlv"
	"koala/switching"
)

// A Desk writes slips behind the sales.
type Desk struct {
	Store  *db.Store
	Keys   *hsm.HSM
	Switch *switching.Host

	mu   sync.Mutex // one at a time writes
	seen int64      // events up to here make no slip, though the mark is before them
}

// The bounds of one call of Catch: events read at once, which is what one unit
// writes at most, and how often. A slip takes about 0.2 ms, so a house that has
// much to catch up on, or sells fast, spends some 2 s of a tick on them and goes
// on at the next: 14 million events a day.
const (
	eventsAtOnce = 500
	roundsAtOnce = 20
)

// patience is how long a chip's slip waits for the message that brought its data:
// the switch writes its log a little after the sale. Messages that were lost in a
// crash never come.
const patience = 5 * time.Minute

// Catch writes the slips of what has been sold since it was last called. It may
// be called at any time, by several processes, and be cut anywhere: a unit writes
// slips and how far they go, or neither.
func (d *Desk) Catch(ctx context.Context) error { return d.catch(ctx, roundsAtOnce) }

// Next is Catch for somebody who waits: it goes as far as one unit does.
func (d *Desk) Next(ctx context.Context) error { return d.catch(ctx, 1) }

func (d *Desk) catch(ctx context.Context, rounds int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for range rounds {
		more, err := d.round(ctx)
		if err != nil {
			return fmt.Errorf("slips: %w", err)
		}
		if !more {
			return nil
		}
	}
	return nil
}

// A round is one page of events and what comes of it.
type round struct {
	from, upto int64
	fresh      []Kept
	hand       []Kept // slips that were signed by hand
	chain      map[string]Kept
	shops      map[string]merchant.Shop
	key        ed25519.PublicKey
}

// round says whether there is more.
func (d *Desk) round(ctx context.Context) (more bool, err error) {
	r := round{chain: map[string]Kept{}, shops: map[string]merchant.Shop{}}
	if r.key, err = d.Keys.PublicKey(ctx, Label); err != nil {
		return false, err
	}
	var events []outbox.Event
	err = d.Store.Read(ctx, func(q *db.Query) (err error) {
		if r.from, err = mark(q); err == nil {
			events, err = outbox.After(q, max(r.from, d.seen), eventsAtOnce)
		}
		return err
	})
	if err != nil || len(events) == 0 {
		return false, err
	}
	r.upto = max(r.from, d.seen)
	waits := false
	for _, e := range events {
		if waits, err = d.follow(ctx, &r, e); err != nil || waits {
			break
		}
		r.upto = e.Seq
	}
	if err != nil {
		return false, err
	}
	if len(r.fresh)+len(r.hand) == 0 && len(events) < eventsAtOnce {
		d.seen = r.upto // no unit for that: after a restart the same few are read again
		return false, nil
	}
	return len(events) == eventsAtOnce && !waits, d.write(ctx, &r)
}

// silent are the events of a sale that make no slip.
var silent = map[string]bool{"sale.declined": true, "sale.differs": true, "sale.reversed": true}

// follow makes what follows from an event; waits says that it cannot yet.
func (d *Desk) follow(ctx context.Context, r *round, e outbox.Event) (waits bool, err error) {
	var x switching.Event
	if json.Unmarshal(e.JSON, &x) != nil || x.TID == "" || silent[e.Name] {
		return false, nil
	}
	if strings.HasPrefix(e.Name, "batch.") {
		return false, d.batch(ctx, r, x)
	}
	if x.Kind == "" {
		return false, nil
	}
	k := Kept{}
	var t switching.Txn
	var said []switching.Message
	err = d.Store.Read(ctx, func(q *db.Query) (err error) {
		if t, err = switching.Transaction(q, e.Subject); err != nil {
			return err
		}
		if !printed(t) {
			return switching.ErrNotFound
		}
		if _, err = OfSale(q, t.RRN); !errors.Is(err, ErrNotFound) {
			return errors.Join(err, switching.ErrNotFound) // it has one
		}
		k.Slip, err = r.slip(q, t)
		if err == nil && chip(t.Entry) {
			said, err = switching.Messages(q, t)
		}
		return err
	})
	if errors.Is(err, switching.ErrNotFound) || err == nil && r.has(t.RRN) {
		return false, nil
	}
	if err == nil && chip(t.Entry) {
		var there bool
		there, err = d.chipData(ctx, &k.Slip, said)
		if !there && err == nil && d.Store.Now().Sub(e.At) < patience {
			return true, nil
		}
	}
	if err == nil {
		err = d.seal(ctx, r, &k)
	}
	if err != nil {
		err = fmt.Errorf("of %s: %w", e.Subject, err)
	}
	return false, err
}

func (r *round) has(rrn string) bool {
	for _, k := range r.fresh {
		if k.RRN == rrn {
			return true
		}
	}
	return false
}

// printed tells whether a terminal prints a slip of a transaction: not of a
// question, and not of what was refused or taken back before it was told.
func printed(t switching.Txn) bool {
	switch t.State {
	case switching.Sent, switching.Declined, switching.Unknown, switching.Reversed:
		return false
	}
	return t.Kind != "balance" && t.RRN != "" && t.TID != ""
}

// chip tells by field 22 whether a chip was read.
func chip(entry string) bool {
	return len(entry) >= 2 && strings.Contains("05 07 95 96 98", entry[:2])
}

// slip is what a transaction's slip says, without what a chip said.
func (r *round) slip(q db.Reader, t switching.Txn) (Slip, error) {
	shop, known := r.shops[t.Shop]
	if !known {
		var err error
		if shop, err = merchant.ShopOf(q, t.Shop); err != nil && !errors.Is(err, merchant.ErrNotFound) {
			return Slip{}, err
		}
		r.shops[t.Shop] = shop
	}
	s := Slip{ShopZH: shop.NameZH, ShopEN: shop.NameEN, MID: t.MID, TID: t.TID, Kind: t.Kind, Card: t.Masked, Entry: t.Entry, Amount: t.Amount,
		At: t.At.Truncate(time.Second), Batch: t.Batch, STAN: t.STAN, RRN: t.RRN, Auth: t.Auth, Original: t.Original, Key: openkey.ID(r.key)}
	last, known := r.chain[t.TID]
	if !known {
		var err error
		if last.Number, last.Hash, err = chainOf(q, t.TID); err != nil {
			return Slip{}, err
		}
	}
	s.Number, s.Prev = last.Number+1, last.Hash
	return s, nil
}

// chipData takes what the chip said out of the terminal's message; there says
// that the message is in the log.
func (d *Desk) chipData(ctx context.Context, s *Slip, said []switching.Message) (there bool, err error) {
	for _, m := range said {
		if m.Way != "terminal" {
			continue
		}
		wire, _, err := d.Switch.Open(ctx, m)
		if err != nil {
			return false, err
		}
		var in iso8583.Message
		if in.Unpack(iso8583.UnionPayPOS(), wire) != nil {
			continue
		}
		there = true
		field := in.Get(55)
		value := func(tags ...tlv.Tag) string {
			for _, t := range tags {
				if v, ok := tlv.Find(field, t); ok && len(v) > 0 {
					return strings.ToUpper(hex.EncodeToString(v))
				}
			}
			return ""
		}
		ac := value(emv.TagAC)
		if ac == "" {
			continue
		}
		kind := "ARQC "
		if cid, ok := tlv.Find(field, emv.TagCID); ok && len(cid) == 1 && cid[0]&0xC0 == emv.TC {
			kind = "TC "
		}
		s.AID, s.Cryptogram, s.ATC = value(emv.TagDFName, emv.TagAID, emv.TagTerminalAID), kind+ac, value(emv.TagATC)
		return true, nil
	}
	return there, nil
}

// seal freezes a slip, and has the next of its terminal follow it.
func (d *Desk) seal(ctx context.Context, r *round, k *Kept) (err error) {
	k.Bytes = k.Body()
	k.Hash = chained(k.Bytes)
	if k.Slip, err = Parse(k.Bytes); err != nil { // what is kept is what the bytes say
		return err
	}
	if k.Signature, err = d.sign(ctx, r.key, k.Bytes); err != nil {
		return err
	}
	r.chain[k.TID] = *k
	r.fresh = append(r.fresh, *k)
	return nil
}

// sign signs with the key that the message names.
func (d *Desk) sign(ctx context.Context, key ed25519.PublicKey, message []byte) ([]byte, error) {
	signature, err := d.Keys.Sign(ctx, Label, message)
	if err == nil && !ed25519.Verify(key, message, signature) {
		err = fmt.Errorf("the key was rotated meanwhile: %w", ErrBusy)
	}
	return signature, err
}

// batch looks for the signatures of a batch that ended: terminals send them
// before it does.
func (d *Desk) batch(ctx context.Context, r *round, x switching.Event) error {
	var list []Kept
	err := d.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = kept(q, `tid = $1 AND batch = $2 AND picture_key = '' ORDER BY number`, x.TID, x.Batch)
		return err
	})
	for _, k := range r.fresh {
		if k.TID == x.TID && k.Batch == x.Batch {
			list = append(list, k)
		}
	}
	for _, k := range list {
		if err == nil {
			err = d.byHand(ctx, r, k)
		}
	}
	return err
}

func (d *Desk) byHand(ctx context.Context, r *round, k Kept) error {
	picture, err := d.Switch.Signature(ctx, switching.Txn{TID: k.TID, Batch: k.Batch, STAN: k.STAN, RRN: k.RRN})
	if errors.Is(err, switching.ErrNotFound) {
		return nil
	}
	if err == nil {
		k.Signed = Signed{Picture: sha256.Sum256(picture), Key: openkey.ID(r.key)}
		k.Signed.Signature, err = d.sign(ctx, r.key, k.SignedMessage())
	}
	r.hand = append(r.hand, k)
	return err
}

// write is the unit of a round.
func (d *Desk) write(ctx context.Context, r *round) error {
	return d.Store.Write(ctx, func(tx *db.Tx) error {
		n, err := tx.Exec(`UPDATE slip_mark SET seq = $2 WHERE id = 1 AND seq = $1`, r.from, r.upto)
		if err == nil && n == 0 {
			err = ErrBusy
		}
		for i := range r.fresh {
			k := &r.fresh[i]
			k.Written = tx.Now()
			if err == nil {
				err = put(tx, k)
			}
		}
		for tid, k := range r.chain {
			if err == nil {
				_, err = tx.Exec(`INSERT INTO slip_chain (tid, number, hash) VALUES ($1, $2, $3)
					ON CONFLICT (tid) DO UPDATE SET number = excluded.number, hash = excluded.hash`, tid, k.Number, k.Hash[:])
			}
		}
		for _, k := range r.hand {
			if err == nil {
				err = keepHand(tx, k)
			}
		}
		return err
	})
}

func put(tx *db.Tx, k *Kept) error {
	_, err := tx.Exec(`INSERT INTO slip (`+columns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`, k.row()...)
	return err
}

// keepHand adds a cardholder's signature to a slip that has none.
func keepHand(tx *db.Tx, k Kept) error {
	_, err := tx.Exec(`UPDATE slip SET picture = $2, picture_key = $3, picture_sig = $4 WHERE rrn = $1 AND picture_key = ''`,
		k.RRN, k.Signed.Picture[:], k.Signed.Key, k.Signed.Signature)
	return err
}

// Fresh is the slip of a sale as of now: what was sold or signed by hand since
// the last call of Catch is looked at first, as far as one unit goes.
func (d *Desk) Fresh(ctx context.Context, rrn string) (k Kept, err error) {
	read := func(q *db.Query) (err error) { k, err = OfSale(q, rrn); return err }
	err = d.Store.Read(ctx, read)
	if errors.Is(err, ErrNotFound) {
		if err = d.Next(ctx); err == nil {
			err = d.Store.Read(ctx, read)
		}
	}
	if err != nil || k.Signed.Key != "" {
		return k, err
	}
	r := round{}
	if r.key, err = d.Keys.PublicKey(ctx, Label); err != nil {
		return k, err
	}
	if err = d.byHand(ctx, &r, k); err != nil || len(r.hand) == 0 {
		return k, err
	}
	k = r.hand[0]
	return k, d.Store.Write(ctx, func(tx *db.Tx) error { return keepHand(tx, k) })
}
