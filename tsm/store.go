package tsm

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/spec/purse"
	"koala/tsm/script"
)

// Schema is what this package keeps. A script row holds plain commands without
// key material, wire forms, and the answers: the log of an order.
var Schema = db.Schema{Owner: "tsm", Steps: []string{
	`CREATE TABLE tsm_band (
		id TEXT PRIMARY KEY,
		owner TEXT NOT NULL,     -- customer or operator
		adopted BOOLEAN NOT NULL,-- has the house's keys
		placed BIGINT NOT NULL,
		seen BIGINT NOT NULL)`, // when a session began last; 0 never
	`CREATE INDEX tsm_band_owner ON tsm_band (owner, id)`,
	`CREATE TABLE tsm_order (
		id TEXT PRIMARY KEY,
		ref TEXT NOT NULL UNIQUE,
		kind TEXT NOT NULL,
		band TEXT NOT NULL,
		card TEXT NOT NULL,
		customer TEXT NOT NULL,
		fen BIGINT NOT NULL,
		state TEXT NOT NULL,
		open BOOLEAN NOT NULL,
		phase TEXT NOT NULL,
		session BIGINT NOT NULL,
		stalled BIGINT NOT NULL,
		desk BOOLEAN NOT NULL,
		stop BOOLEAN NOT NULL,
		why TEXT NOT NULL,
		placed BIGINT NOT NULL,
		changed BIGINT NOT NULL,
		deadline BIGINT NOT NULL,
		script TEXT NOT NULL,    -- the one in the band's hands
		seq BIGINT NOT NULL,     -- online sequence bound, -1 none
		version BIGINT NOT NULL,
		data BYTEA NOT NULL)     -- personalisation data, sealed`,
	`CREATE INDEX tsm_order_open ON tsm_order (band, id) WHERE open`,
	`CREATE INDEX tsm_order_due ON tsm_order (deadline) WHERE open`,
	`CREATE INDEX tsm_order_card ON tsm_order (card, id)`,
	`CREATE INDEX tsm_order_customer ON tsm_order (customer, id)`,
	`CREATE TABLE tsm_script (
		id TEXT PRIMARY KEY,
		ord TEXT NOT NULL,
		n BIGINT NOT NULL,        -- number within the order
		stage TEXT NOT NULL,
		steps BYTEA NOT NULL,     -- packSteps
		made BIGINT NOT NULL,
		keep BYTEA NOT NULL,      -- what reading the answers needs
		answers BYTEA NOT NULL,   -- packAnswers; empty: no report yet
		cut BOOLEAN NOT NULL,
		heard BIGINT NOT NULL)    -- 0: no report yet`,
	`CREATE INDEX tsm_script_order ON tsm_script (ord, n)`,
	// One row per load a MAC2 was made for. The key is the rule that a card's
	// online sequence pays one top-up at most.
	`CREATE TABLE tsm_load (
		card TEXT NOT NULL,
		seq BIGINT NOT NULL,
		ord TEXT NOT NULL,
		fen BIGINT NOT NULL,
		balance BIGINT NOT NULL,  -- before
		terminal BYTEA NOT NULL,
		stamp BYTEA NOT NULL,
		outcome TEXT NOT NULL,    -- open, paid, unused
		tac BYTEA NOT NULL,
		at BIGINT NOT NULL,
		PRIMARY KEY (card, seq))`,
	`CREATE INDEX tsm_load_order ON tsm_load (ord, seq)`,
	// Cards of every kind. Of a load into a canteen card, mark is the newest
	// record of its log before.
	`ALTER TABLE tsm_order ADD COLUMN card_kind TEXT NOT NULL DEFAULT '';
	UPDATE tsm_order SET card_kind = 'transit' WHERE card <> '';
	ALTER TABLE tsm_load ADD COLUMN mark BYTEA NOT NULL DEFAULT '';
	ALTER TABLE tsm_band ADD COLUMN lost BIGINT NOT NULL DEFAULT 0; -- reported, microseconds; 0 not
	-- Cards of a lost band and those in their place; the money follows when due.
	CREATE TABLE tsm_move (
		old TEXT PRIMARY KEY,
		new TEXT NOT NULL,
		due BIGINT NOT NULL,      -- microseconds
		ended TEXT NOT NULL);     -- empty: it waits; else the order of the top-up, or why there is none
	CREATE TABLE tsm_card (
		card TEXT PRIMARY KEY,
		uid BYTEA NOT NULL,       -- of the element it was written into
		kept BYTEA NOT NULL)      -- of a coupon taken out by a block: the coupon as it was`,
	// Firms have domains of their own, which confirm what was done in them.
	`ALTER TABLE tsm_order ADD COLUMN instance TEXT NOT NULL DEFAULT ''; -- hexadecimal
	CREATE TABLE tsm_receipt (
		uid BYTEA NOT NULL,       -- of the element
		counter BIGINT NOT NULL,  -- of its receipts
		ord TEXT NOT NULL,
		domain BYTEA NOT NULL,
		said BYTEA NOT NULL,      -- the command in plain, token included
		answer BYTEA NOT NULL,    -- the confirmation as it came
		at BIGINT NOT NULL,
		PRIMARY KEY (uid, counter));
	CREATE INDEX tsm_receipt_order ON tsm_receipt (ord, counter)`,
}}

const orderColumns = `id, ref, kind, band, card, card_kind, customer, fen, state, phase, session, stalled, desk, stop, why,
	placed, changed, deadline, script, seq, version, data, instance`

func scanOrder(scan func(...any) error) (o Order, err error) {
	var fen, placed, changed, deadline int64
	var instance string
	err = scan(&o.ID, &o.Ref, &o.Kind, &o.Band, &o.Card, &o.CardKind, &o.Customer, &fen, &o.State, &o.Phase, &o.Session, &o.Stalled,
		&o.Desk, &o.Stop, &o.Why, &placed, &changed, &deadline, &o.script, &o.seq, &o.version, &o.data, &instance)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNotFound
	}
	if err == nil {
		o.instance, err = hex.DecodeString(instance)
	}
	o.Amount = money.Fen(fen)
	o.Placed, o.Changed, o.Deadline = db.Moment(placed), db.Moment(changed), db.Moment(deadline)
	return o, err
}

func insertOrder(tx *db.Tx, o Order) error {
	_, err := tx.Exec(`INSERT INTO tsm_order (id, ref, kind, band, card, customer, fen, state, open, phase, session,
		stalled, desk, stop, why, placed, changed, deadline, script, seq, version, data, card_kind, instance)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, 0, $11, $11, '', $12, $12, $13, '', -1, 0, $14, $15, $16)`,
		o.ID, o.Ref, o.Kind, o.Band, o.Card, o.Customer, o.Amount.Minor(), o.State, true, o.Phase,
		false, o.Placed.UnixMicro(), o.Deadline.UnixMicro(), nonNil(o.data), o.CardKind, hex.EncodeToString(o.instance))
	return err
}

// saveOrder writes o over the version it was read as; ErrMoved when somebody
// was faster.
func saveOrder(tx *db.Tx, o *Order) error {
	o.Changed = tx.Now()
	n, err := tx.Exec(`UPDATE tsm_order SET state = $3, open = $4, phase = $5, session = $6, stalled = $7, desk = $8,
		stop = $9, why = $10, changed = $11, deadline = $12, script = $13, seq = $14, version = $2 + 1, data = $15
		WHERE id = $1 AND version = $2`,
		o.ID, o.version, o.State, !o.State.Over(), o.Phase, o.Session, o.Stalled, o.Desk,
		o.Stop, o.Why, o.Changed.UnixMicro(), o.Deadline.UnixMicro(), o.script, o.seq, nonNil(o.data))
	if err == nil && n == 0 {
		err = ErrMoved
	}
	if err != nil {
		return fmt.Errorf("order %s: %w", o.ID, err)
	}
	o.version++
	return nil
}

func orderByID(q db.Reader, id string) (Order, error) {
	return scanOrder(q.QueryRow(`SELECT `+orderColumns+` FROM tsm_order WHERE id = $1`, id).Scan)
}

func orderByRef(q db.Reader, ref string) (Order, error) {
	return scanOrder(q.QueryRow(`SELECT `+orderColumns+` FROM tsm_order WHERE ref = $1`, ref).Scan)
}

// nextOf reads the oldest order of a band that a band can do something about.
// One that waits for a PIN to be set does not keep the others.
func nextOf(q db.Reader, band string) (Order, error) {
	return scanOrder(q.QueryRow(`SELECT `+orderColumns+` FROM tsm_order
		WHERE band = $1 AND open AND desk = $2 ORDER BY CASE WHEN state = $3 AND why = $4 THEN 1 ELSE 0 END, id LIMIT 1`,
		band, false, Placed, NoPIN).Scan)
}

// openFor tells whether an order for the card is under way.
func openFor(q db.Reader, card issuing.CardID) (bool, error) {
	var n int64
	err := q.QueryRow(`SELECT COUNT(*) FROM tsm_order WHERE card = $1 AND open`, card).Scan(&n)
	return n > 0, err
}

func orders(q db.Reader, where string, args ...any) (out []Order, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		o, err := scanOrder(scan)
		out = append(out, o)
		return err
	}, `SELECT `+orderColumns+` FROM tsm_order WHERE `+where, args...)
	return out, err
}

// A scriptRow is one script as stored.
type scriptRow struct {
	id, order string
	n         int
	stage     stage
	steps     []step
	keep      []byte
	answers   [][]byte
	cut       bool
	made      time.Time
	heard     time.Time
}

// appendScript keeps a script that its own unit does not read back: a band can
// ask for it only after the commit.
func appendScript(tx *db.Tx, r scriptRow) error {
	return tx.Append("tsm_script", "id, ord, n, stage, steps, made, keep, answers, cut, heard",
		r.id, r.order, r.n, string(r.stage), script.PackSteps(r.steps), tx.Now().UnixMicro(), nonNil(r.keep), []byte{}, false, int64(0))
}

// saveAnswers keeps the first report of a script; false when there is one.
func saveAnswers(tx *db.Tx, id string, answers [][]byte, cut bool) (bool, error) {
	n, err := tx.Exec(`UPDATE tsm_script SET answers = $2, cut = $3, heard = $4 WHERE id = $1 AND heard = 0`,
		id, script.PackAnswers(answers), cut, tx.Now().UnixMicro())
	return n == 1, err
}

const scriptColumns = `id, ord, n, stage, steps, made, keep, answers, cut, heard`

func scanScript(scan func(...any) error) (r scriptRow, err error) {
	var steps, answers []byte
	var made, heard int64
	err = scan(&r.id, &r.order, &r.n, &r.stage, &steps, &made, &r.keep, &answers, &r.cut, &heard)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrScript
	}
	if err != nil {
		return r, err
	}
	r.made, r.heard = db.Moment(made), db.Moment(heard)
	if r.steps, err = script.ParseSteps(steps); err != nil {
		return r, fmt.Errorf("script %s: %w", r.id, err)
	}
	if r.answers, err = script.ParseAnswers(answers); err != nil {
		return r, fmt.Errorf("script %s: %w", r.id, err)
	}
	return r, nil
}

func scriptByID(q db.Reader, id string) (scriptRow, error) {
	return scanScript(q.QueryRow(`SELECT `+scriptColumns+` FROM tsm_script WHERE id = $1`, id).Scan)
}

func scriptsOf(q db.Reader, order string) (out []scriptRow, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		r, err := scanScript(scan)
		out = append(out, r)
		return err
	}, `SELECT `+scriptColumns+` FROM tsm_script WHERE ord = $1 ORDER BY n`, order)
	return out, err
}

// Outcomes of a bound load.
const (
	loadOpen   = "open"   // MAC2 may be out: the card decides
	loadPaid   = "paid"   // the TAC is here
	loadUnused = "unused" // the card proved the sequence unused: another MAC2 may be made for it
)

// A load is one MAC2 made, and what came of it.
type load struct {
	card     issuing.CardID
	seq      int
	order    string
	fen      int64
	balance  int64
	terminal purse.Terminal
	stamp    purse.Stamp
	mark     []byte // of a canteen card: the newest record of its log before
	outcome  string
}

// bind keeps l before its MAC2 leaves. The card's sequence must be new, or
// proven unused, or already this order's own with nothing in the air.
func bind(tx *db.Tx, l load) error {
	stamp := l.stamp.Bytes()
	n, err := tx.Exec(`INSERT INTO tsm_load (card, seq, ord, fen, balance, terminal, stamp, outcome, tac, at, mark)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $12)
		ON CONFLICT (card, seq) DO UPDATE SET ord = excluded.ord, fen = excluded.fen, balance = excluded.balance,
		terminal = excluded.terminal, stamp = excluded.stamp, outcome = excluded.outcome, at = excluded.at, mark = excluded.mark
		WHERE tsm_load.outcome = $11`,
		l.card, l.seq, l.order, l.fen, l.balance, l.terminal[:], stamp[:], loadOpen, []byte{}, tx.Now().UnixMicro(), loadUnused, nonNil(l.mark))
	if err == nil && n == 0 {
		err = ErrBound
	}
	if err != nil {
		return fmt.Errorf("binding sequence %d: %w", l.seq, err)
	}
	return nil
}

func loadOf(q db.Reader, card issuing.CardID, seq int) (l load, err error) {
	var terminal, stamp []byte
	err = q.QueryRow(`SELECT card, seq, ord, fen, balance, terminal, stamp, mark, outcome FROM tsm_load
		WHERE card = $1 AND seq = $2`, card, seq).
		Scan(&l.card, &l.seq, &l.order, &l.fen, &l.balance, &terminal, &stamp, &l.mark, &l.outcome)
	if err != nil {
		return l, err
	}
	if len(terminal) != 6 || len(stamp) != 7 {
		return l, fmt.Errorf("load %d of order %s: %w", l.seq, l.order, script.ErrStored)
	}
	l.terminal, l.stamp = purse.Terminal(terminal), purse.StampFrom([7]byte(stamp))
	return l, nil
}

// loadOf reads the load that an order is bound to.
func (m *Manager) loadOf(ctx context.Context, o Order) (l load, err error) {
	err = m.store.Read(ctx, func(q *db.Query) (err error) {
		l, err = loadOf(q, o.Card, o.seq)
		return err
	})
	if err != nil {
		return l, fmt.Errorf("load of order %s: %w", o.ID, err)
	}
	return l, nil
}

// nextLoad numbers a card's loads where the card itself does not.
func nextLoad(q db.Reader, card issuing.CardID) (n int, err error) {
	err = q.QueryRow(`SELECT COALESCE(MAX(seq), 0) + 1 FROM tsm_load WHERE card = $1`, card).Scan(&n)
	return n, err
}

// A move is a lost card and the one in its place.
type move struct{ from, to issuing.CardID }

func insertMove(tx *db.Tx, from, to issuing.CardID, due time.Time) error {
	_, err := tx.Exec(`INSERT INTO tsm_move (old, new, due, ended) VALUES ($1, $2, $3, '') ON CONFLICT (old) DO NOTHING`, from, to, due.UnixMicro())
	return err
}

func endMove(tx *db.Tx, from issuing.CardID, how string) error {
	_, err := tx.Exec(`UPDATE tsm_move SET ended = $2 WHERE old = $1`, from, how)
	return err
}

func movesDue(q db.Reader, now time.Time) (out []move, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var v move
		err := scan(&v.from, &v.to)
		out = append(out, v)
		return err
	}, `SELECT old, new FROM tsm_move WHERE due <= $1 AND ended = '' ORDER BY old LIMIT $2`, now.UnixMicro(), maxPage)
	return out, err
}

// keepPlace keeps which element a card was written into.
func keepPlace(tx *db.Tx, card issuing.CardID, uid []byte) error {
	_, err := tx.Exec(`INSERT INTO tsm_card (card, uid, kept) VALUES ($1, $2, $3)
		ON CONFLICT (card) DO UPDATE SET uid = excluded.uid`, card, uid, []byte{})
	return err
}

// keepCoupon keeps a coupon that a block is about to take out of its card.
func keepCoupon(tx *db.Tx, card issuing.CardID, raw []byte) error {
	_, err := tx.Exec(`UPDATE tsm_card SET kept = $2 WHERE card = $1`, card, raw)
	return err
}

// placeOf reads the element's UID, and what keepCoupon kept.
func placeOf(q db.Reader, card issuing.CardID) (uid, kept []byte, err error) {
	err = q.QueryRow(`SELECT uid, kept FROM tsm_card WHERE card = $1`, card).Scan(&uid, &kept)
	return uid, kept, err
}

// settleLoad ends an open load one way or the other, once.
func settleLoad(tx *db.Tx, card issuing.CardID, seq int, order, outcome string, tac []byte) error {
	n, err := tx.Exec(`UPDATE tsm_load SET outcome = $4, tac = $5, at = $6
		WHERE card = $1 AND seq = $2 AND ord = $3 AND outcome = $7`,
		card, seq, order, outcome, nonNil(tac), tx.Now().UnixMicro(), loadOpen)
	if err == nil && n == 0 {
		err = ErrBound
	}
	return err
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

const countersVersion = 1

// packCounters codes a proof: version 1 | balance in fen 8 | online 4 | offline 4.
func packCounters(k issuing.Counters) []byte {
	b := binary.BigEndian.AppendUint64([]byte{countersVersion}, uint64(k.Balance.Minor()))
	b = binary.BigEndian.AppendUint32(b, uint32(k.Online))
	return binary.BigEndian.AppendUint32(b, uint32(k.Offline))
}

func parseCounters(b []byte) (k issuing.Counters, err error) {
	if len(b) != 17 || b[0] != countersVersion {
		return k, script.ErrStored
	}
	fen := int64(binary.BigEndian.Uint64(b[1:]))
	if fen < 0 || fen > money.MaxMinor {
		return k, script.ErrStored
	}
	k.Balance = money.Fen(fen)
	k.Online, k.Offline = int(binary.BigEndian.Uint32(b[9:])), int(binary.BigEndian.Uint32(b[13:]))
	return k, nil
}

// ElementOf is the UID of the element that a card was written into; nil when it
// never was.
func ElementOf(q db.Reader, card issuing.CardID) (uid []byte, err error) {
	uid, _, err = placeOf(q, card)
	if errors.Is(err, db.ErrNoRows) {
		return nil, nil
	}
	return uid, err
}

// CardsIn lists the cards that were ever written into an element, by id.
func CardsIn(q db.Reader, uid []byte) (out []issuing.CardID, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var id issuing.CardID
		err := scan(&id)
		out = append(out, id)
		return err
	}, `SELECT card FROM tsm_card WHERE uid = $1 ORDER BY card`, uid)
	return out, err
}

// OrderOf reads one order.
func OrderOf(q db.Reader, id string) (Order, error) {
	o, err := orderByID(q, id)
	if err != nil {
		return Order{}, fmt.Errorf("order %s: %w", id, err)
	}
	return o, nil
}

// A Filter picks orders for pages; empty fields pick all.
type Filter struct {
	Card     issuing.CardID
	Customer string
	Band     string
	State    State
	Desk     bool   // only those that wait for staff
	Before   string // id of the last order of the page before; newest come first
	Limit    int
}

// Orders reads a page of orders, newest first.
func Orders(q db.Reader, f Filter) ([]Order, error) {
	if f.Before == "" {
		f.Before = "~" // sorts behind every id
	}
	return orders(q, `id < $1 AND (card = $2 OR $2 = '') AND (customer = $3 OR $3 = '') AND (band = $4 OR $4 = '')
		AND (state = $5 OR $5 = '') AND (desk = $6 OR $6 = $7) ORDER BY id DESC LIMIT $8`,
		f.Before, f.Card, f.Customer, f.Band, f.State, f.Desk, false, min(max(f.Limit, 1), maxPage))
}

// Counts tells how many orders stand in each state.
func Counts(q db.Reader) (map[State]int, error) {
	out := map[State]int{}
	err := db.Each(q, func(scan func(...any) error) error {
		var s State
		var n int
		err := scan(&s, &n)
		out[s] = n
		return err
	}, `SELECT state, COUNT(*) FROM tsm_order GROUP BY state ORDER BY state`)
	return out, err
}
