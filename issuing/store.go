package issuing

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"koala/customer"
	"koala/internal/db"
	"koala/money"
	"koala/spec/purse"
)

// Schema is what this package keeps. Rows of issuing_card are never removed:
// they are why no number is given twice.
var Schema = db.Schema{Owner: "issuing", Steps: []string{
	`CREATE TABLE issuing_product (
		code TEXT NOT NULL,
		valid_from BIGINT NOT NULL,  -- microseconds, incl.
		valid_to BIGINT NOT NULL,    -- microseconds, excl.; 0 open
		name_en TEXT NOT NULL,
		name_zh TEXT NOT NULL,
		art TEXT NOT NULL,
		package TEXT NOT NULL,       -- AIDs, hexadecimal
		module TEXT NOT NULL,
		instance TEXT NOT NULL,
		issuer TEXT NOT NULL,        -- 8 bytes, hexadecimal
		prefix TEXT NOT NULL,        -- first digits of the number
		province TEXT NOT NULL,      -- 2 bytes BCD each
		city TEXT NOT NULL,
		years BIGINT NOT NULL,
		deposit BIGINT NOT NULL,     -- fen
		min_load BIGINT NOT NULL,
		max_load BIGINT NOT NULL,
		max_balance BIGINT NOT NULL,
		source TEXT NOT NULL,
		PRIMARY KEY (code, valid_from))`,
	`CREATE TABLE issuing_range (
		prefix TEXT PRIMARY KEY,
		digits BIGINT NOT NULL,      -- of the serial behind the prefix
		upcoming BIGINT NOT NULL,    -- the next serial to give
		last BIGINT NOT NULL)`,
	`CREATE TABLE issuing_card (
		number TEXT PRIMARY KEY,     -- 20 digits
		ref TEXT NOT NULL UNIQUE,
		customer TEXT NOT NULL,
		band TEXT NOT NULL,
		product TEXT NOT NULL,
		instance TEXT NOT NULL,
		state TEXT NOT NULL,
		was TEXT NOT NULL,           -- state before closing
		deposit BIGINT NOT NULL,
		valid_from BIGINT NOT NULL,
		valid_to BIGINT NOT NULL,
		opened BIGINT NOT NULL,
		changed BIGINT NOT NULL,
		why TEXT NOT NULL,
		balance BIGINT NOT NULL,     -- as the element proved last, fen
		online BIGINT NOT NULL,      -- next load sequence, -1 not known
		offline BIGINT NOT NULL,     -- next purchase sequence, -1 not known
		seen BIGINT NOT NULL,
		seen_by TEXT NOT NULL)`,
	`CREATE INDEX issuing_card_customer ON issuing_card (customer, number)`,
	`CREATE INDEX issuing_card_band ON issuing_card (band, number)`,
	// Cards of every kind: named by CardID, in one table.
	`ALTER TABLE issuing_card RENAME COLUMN number TO id;
	ALTER TABLE issuing_card ADD COLUMN kind TEXT NOT NULL DEFAULT 'transit';
	ALTER TABLE issuing_card ADD COLUMN tail TEXT NOT NULL DEFAULT '';
	ALTER TABLE issuing_card ADD COLUMN suspended BIGINT NOT NULL DEFAULT 0; -- microseconds, 0 not
	ALTER TABLE issuing_card ADD COLUMN replaces TEXT NOT NULL DEFAULT '';   -- the card it was made for
	UPDATE issuing_card SET tail = substr(id, 17, 4);
	ALTER TABLE issuing_product ADD COLUMN kind TEXT NOT NULL DEFAULT 'transit';
	ALTER TABLE issuing_product ADD COLUMN template TEXT NOT NULL DEFAULT ''`,
	`ALTER TABLE issuing_card ADD COLUMN carry_rides BIGINT NOT NULL DEFAULT 0;
	ALTER TABLE issuing_card ADD COLUMN carry_fen BIGINT NOT NULL DEFAULT 0;
	ALTER TABLE issuing_card ADD COLUMN carry_at BIGINT NOT NULL DEFAULT 0;
	CREATE TABLE issuing_template (
		id TEXT PRIMARY KEY,
		issuer TEXT NOT NULL,
		code TEXT NOT NULL,
		version BIGINT NOT NULL,
		kind TEXT NOT NULL,
		name_en TEXT NOT NULL,
		name_zh TEXT NOT NULL,
		art TEXT NOT NULL,
		space BIGINT NOT NULL,       -- bytes of an element
		data TEXT NOT NULL,          -- JSON of the kind
		state TEXT NOT NULL,
		by_whom TEXT NOT NULL,
		why TEXT NOT NULL,
		made BIGINT NOT NULL,
		decided BIGINT NOT NULL,
		UNIQUE (issuer, code, version));
	CREATE TABLE issuing_rule (
		scope TEXT NOT NULL,         -- card, product, or empty: all
		rule TEXT NOT NULL,
		valid_from BIGINT NOT NULL,  -- microseconds, incl.
		valid_to BIGINT NOT NULL,    -- microseconds, excl.; 0 open
		value BIGINT NOT NULL,       -- fen, or days
		source TEXT NOT NULL,
		PRIMARY KEY (scope, rule, valid_from));
	INSERT INTO issuing_rule (scope, rule, valid_from, valid_to, value, source) VALUES
		('', 'once', 0, 0, 500000, 'house rule'),
		('', 'day', 0, 0, 2000000, 'house rule'),
		('', 'claim.days', 0, 0, 7, 'house rule: by then every gate has handed in');
	-- Numbers are sealed by the hsm; token is its keyed hash, to find them by.
	CREATE TABLE issuing_bank (
		card TEXT PRIMARY KEY,
		token TEXT NOT NULL,
		sealed BYTEA NOT NULL,
		psn BIGINT NOT NULL,
		alg BIGINT NOT NULL,
		dki BIGINT NOT NULL,
		pin BYTEA NOT NULL,          -- the hsm's reference; empty: none set
		tries BIGINT NOT NULL,       -- left
		atc BIGINT NOT NULL,         -- highest of a verified cryptogram, -1 none
		account TEXT NOT NULL,
		UNIQUE (token, psn));
	-- One row per online cryptogram that was answered. The key is the rule that
	-- a card's transaction counter is answered one way only.
	CREATE TABLE issuing_auth (
		card TEXT NOT NULL,
		atc BIGINT NOT NULL,
		ac BYTEA NOT NULL,
		kind TEXT NOT NULL,          -- pay, load
		day TEXT NOT NULL,           -- Beijing
		fen BIGINT NOT NULL,
		balance BIGINT NOT NULL,     -- e-cash as the card reported it, -1 not
		arc TEXT NOT NULL,
		state TEXT NOT NULL,         -- held, paid, released, declined
		payee TEXT NOT NULL,         -- ledger account
		text TEXT NOT NULL,
		at BIGINT NOT NULL,
		PRIMARY KEY (card, atc));
	CREATE INDEX issuing_auth_day ON issuing_auth (card, day);
	CREATE TABLE issuing_load (
		id TEXT PRIMARY KEY,
		ref TEXT NOT NULL UNIQUE,
		card TEXT NOT NULL,
		fen BIGINT NOT NULL,
		state TEXT NOT NULL,
		open BOOLEAN NOT NULL,
		atc BIGINT NOT NULL,         -- bound to, -1 none
		old BIGINT NOT NULL,         -- balance the card proved before, fen
		proof TEXT NOT NULL,
		placed BIGINT NOT NULL,
		changed BIGINT NOT NULL);
	CREATE INDEX issuing_load_card ON issuing_load (card, id);
	-- One row per cleared cryptogram: card, counter and kind are booked once.
	CREATE TABLE issuing_clearing (
		card TEXT NOT NULL,
		atc BIGINT NOT NULL,
		kind BIGINT NOT NULL,        -- pboc.ClearingKind
		fen BIGINT NOT NULL,
		balance BIGINT NOT NULL,     -- e-cash after it as the card reports, -1 not reported
		payee TEXT NOT NULL,
		terminal TEXT NOT NULL,
		stan BIGINT NOT NULL,
		done BIGINT NOT NULL,        -- by the terminal's clock
		at BIGINT NOT NULL,
		PRIMARY KEY (card, atc, kind));
	-- What could not be booked, with its reason; sealed holds the record.
	CREATE TABLE issuing_suspense (
		id TEXT PRIMARY KEY,         -- the hsm's hash of the record
		card TEXT NOT NULL,          -- empty: not known
		atc BIGINT NOT NULL,
		fen BIGINT NOT NULL,
		payee TEXT NOT NULL,
		terminal TEXT NOT NULL,
		why TEXT NOT NULL,
		sealed BYTEA NOT NULL,
		at BIGINT NOT NULL,
		settled BIGINT NOT NULL);    -- 0: waits
	CREATE TABLE issuing_claim (
		old TEXT PRIMARY KEY,
		lost BIGINT NOT NULL,        -- reported
		due BIGINT NOT NULL,         -- from when on it may be paid
		new TEXT NOT NULL,           -- empty: not moved yet, or paid to the wallet
		fen BIGINT NOT NULL,
		state TEXT NOT NULL)`,
	`ALTER TABLE issuing_auth ADD COLUMN paid BIGINT NOT NULL DEFAULT 0; -- completed or given back, fen
	UPDATE issuing_auth SET paid = fen WHERE state = 'paid';
	-- Where the money of an offline payment stands: the counter is booked once.
	CREATE TABLE issuing_spent (
		card TEXT NOT NULL,
		atc BIGINT NOT NULL,
		fen BIGINT NOT NULL,
		payee TEXT NOT NULL,
		place TEXT NOT NULL,         -- payee, or holder: back on the account
		moves BIGINT NOT NULL,
		PRIMARY KEY (card, atc));
	INSERT INTO issuing_spent (card, atc, fen, payee, place, moves)
		SELECT card, atc, MAX(fen), MIN(payee), CASE WHEN MAX(kind) > 1 THEN 'holder' ELSE 'payee' END, 0 FROM issuing_clearing c
		WHERE kind < 4 AND NOT EXISTS (SELECT 1 FROM issuing_auth a WHERE a.card = c.card AND a.atc = c.atc) GROUP BY card, atc;
	-- What a terminal could not bring to an end. One case per counter.
	CREATE TABLE issuing_doubt (
		id TEXT PRIMARY KEY,
		card TEXT NOT NULL,
		atc BIGINT NOT NULL,
		kind BIGINT NOT NULL,        -- pboc.ClearingKind
		typ BIGINT NOT NULL,         -- 9C
		fen BIGINT NOT NULL,
		payee TEXT NOT NULL,
		terminal TEXT NOT NULL,
		paid BOOLEAN NOT NULL,       -- the terminal saw the payment in the card's log
		balance BIGINT NOT NULL,     -- e-cash before it as its cryptogram reports, -1 not
		state TEXT NOT NULL,
		evidence TEXT NOT NULL,      -- JSON
		at BIGINT NOT NULL,
		decided BIGINT NOT NULL,
		UNIQUE (card, atc));
	CREATE INDEX issuing_doubt_state ON issuing_doubt (state, id);
	-- Cards that terminals are to refuse, or not any more, in the order of it.
	CREATE TABLE issuing_refusal (
		version BIGINT PRIMARY KEY,
		card TEXT NOT NULL,
		reason BIGINT NOT NULL,      -- purse.DenyReason, 0: allowed again
		at BIGINT NOT NULL);
	-- A PIN on its way into a card that is being written, sealed.
	CREATE TABLE issuing_pin (
		card TEXT PRIMARY KEY,
		sealed BYTEA NOT NULL)`,
	// Firms that issue templates, as elements know them.
	`CREATE TABLE issuing_firm (
		code TEXT PRIMARY KEY,
		number BIGINT NOT NULL UNIQUE, -- ends the names of its domain and instances
		space BIGINT NOT NULL)`, // bytes of one element
	// What coupon cards are called in redemptions, and the first card of each coupon.
	`ALTER TABLE issuing_card ADD COLUMN carry_used BIGINT NOT NULL DEFAULT 0;
	CREATE TABLE issuing_coupon (
		name TEXT PRIMARY KEY,       -- CouponID, hexadecimal
		card TEXT NOT NULL,
		root TEXT NOT NULL);
	CREATE INDEX issuing_coupon_root ON issuing_coupon (root)`,
	// What a card has had of its day, beside its counter: a sum over the day's
	// requests would take longer with each of them.
	`ALTER TABLE issuing_bank ADD COLUMN spent_day TEXT NOT NULL DEFAULT '';
	ALTER TABLE issuing_bank ADD COLUMN spent BIGINT NOT NULL DEFAULT 0;
	UPDATE issuing_bank SET spent_day = COALESCE((SELECT MAX(a.day) FROM issuing_auth a WHERE a.card = issuing_bank.card), '');
	UPDATE issuing_bank SET spent = COALESCE((SELECT CAST(SUM(a.fen) AS BIGINT) FROM issuing_auth a WHERE a.card = issuing_bank.card
		AND a.day = issuing_bank.spent_day AND a.kind = 'pay' AND a.state IN ('held', 'paid')), 0)`,
	// How often a payment was taken up again after it had ended.
	`ALTER TABLE issuing_auth ADD COLUMN again BIGINT NOT NULL DEFAULT 0`,
	`DROP INDEX issuing_auth_day`,
	`ALTER TABLE issuing_clearing ADD COLUMN account BOOLEAN NOT NULL DEFAULT FALSE; -- drawn on the account, not on the e-cash
	CREATE TABLE issuing_owed (
		account TEXT PRIMARY KEY,
		fen BIGINT NOT NULL,    -- owed now
		credit BIGINT NOT NULL, -- how far below zero the account may go
		paid BIGINT NOT NULL)`, // how often something came in
	// What every request changes of a card lies apart from what none does. Rules
	// are found without sorting.
	`CREATE TABLE issuing_use (
		card TEXT PRIMARY KEY,
		tries BIGINT NOT NULL,  -- of the PIN, left
		atc BIGINT NOT NULL,    -- highest of a verified cryptogram, -1 none
		ac BYTEA NOT NULL,      -- that cryptogram; empty: not known
		arc TEXT NOT NULL,      -- its answer
		day TEXT NOT NULL,      -- Beijing
		spent BIGINT NOT NULL,  -- on that day
		upcoming BIGINT NOT NULL) /*without rowid*/; -- counter of the next request without a chip
	INSERT INTO issuing_use (card, tries, atc, ac, arc, day, spent, upcoming) SELECT b.card, b.tries, b.atc, COALESCE(x.ac, ''), COALESCE(x.arc, ''), b.spent_day, b.spent,
		COALESCE((SELECT MAX(a.atc) + 1 FROM issuing_auth a WHERE a.card = b.card AND a.atc > 65535), 65536)
		FROM issuing_bank b LEFT JOIN issuing_auth x ON x.card = b.card AND x.atc = b.atc;
	ALTER TABLE issuing_bank DROP COLUMN tries;
	ALTER TABLE issuing_bank DROP COLUMN atc;
	ALTER TABLE issuing_bank DROP COLUMN spent_day;
	ALTER TABLE issuing_bank DROP COLUMN spent`,
}}

const cardColumns = `id, kind, tail, customer, band, product, instance, state, was, deposit, valid_from, valid_to,
	opened, changed, why, balance, online, offline, seen, seen_by, suspended, replaces, carry_rides, carry_fen, carry_at, carry_used`

func scanCard(scan func(...any) error) (c Card, err error) {
	var instance string
	var deposit, from, to, opened, changed, balance, seen, suspended, spent, carried int64
	err = scan(&c.ID, &c.Kind, &c.Tail, &c.Customer, &c.Band, &c.Product, &instance, &c.State, &c.Before, &deposit, &from, &to,
		&opened, &changed, &c.Why, &balance, &c.Known.Online, &c.Known.Offline, &seen, &c.Known.By, &suspended, &c.Replaces, &c.Carry.Rides, &spent, &carried, &c.Carry.Used)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return Card{}, err
	}
	c.Instance, err = hex.DecodeString(instance)
	c.Deposit, c.Known.Balance = money.Fen(deposit), money.Fen(balance)
	c.From, c.To, c.Opened, c.Changed, c.Known.At = db.Moment(from), db.Moment(to), db.Moment(opened), db.Moment(changed), db.Moment(seen)
	c.Suspended, c.Carry.Spent, c.Carry.At = db.Moment(suspended), money.Fen(spent), db.Moment(carried)
	return c, err
}

func insertCard(tx *db.Tx, ref string, c Card) error {
	n, err := tx.Exec(`INSERT INTO issuing_card (id, kind, tail, ref, customer, band, product, instance, state, was, deposit,
		valid_from, valid_to, opened, changed, why, balance, online, offline, seen, seen_by, suspended, replaces,
		carry_rides, carry_fen, carry_at, carry_used)
		VALUES ($1, $12, $13, $2, $3, $4, $5, $6, $7, '', $8, $9, $10, $11, $11, '', 0, -1, -1, 0, '', 0, $14, $15, $16, $17, $18)
		ON CONFLICT (id) DO NOTHING`,
		c.ID, ref, c.Customer, c.Band, c.Product, hex.EncodeToString(c.Instance), c.State, c.Deposit.Minor(),
		c.From.UnixMicro(), c.To.UnixMicro(), c.Opened.UnixMicro(), c.Kind, c.Tail, c.Replaces, c.Carry.Rides, c.Carry.Spent.Minor(), micros(c.Carry.At), int64(c.Carry.Used))
	if err == nil && n == 0 {
		err = ErrReused
	}
	return err
}

// nextSerial counts a range on and says how many digits its serials have.
func nextSerial(tx *db.Tx, prefix string) (serial int64, digits int, err error) {
	var last int64
	err = tx.QueryRow(`SELECT upcoming, digits, last FROM issuing_range WHERE prefix = $1`, prefix).Scan(&serial, &digits, &last)
	if errors.Is(err, db.ErrNoRows) || err == nil && serial > last {
		return 0, 0, fmt.Errorf("range %s: %w", prefix, ErrExhausted)
	}
	if err != nil {
		return 0, 0, err
	}
	n, err := tx.Exec(`UPDATE issuing_range SET upcoming = $3 WHERE prefix = $1 AND upcoming = $2`, prefix, serial, serial+1)
	if err == nil && n == 0 {
		err = ErrReused
	}
	return serial, digits, err
}

// Get reads one card.
func Get(q db.Reader, n CardID) (Card, error) {
	c, err := scanCard(q.QueryRow(`SELECT `+cardColumns+` FROM issuing_card WHERE id = $1`, n).Scan)
	if err != nil {
		return Card{}, fmt.Errorf("card %s: %w", n.Masked(), err)
	}
	return c, nil
}

func byRef(q db.Reader, ref string) (Card, error) {
	return scanCard(q.QueryRow(`SELECT `+cardColumns+` FROM issuing_card WHERE ref = $1`, ref).Scan)
}

// micros is a time as columns keep it: zero for none.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// bandHolds tells whether a living card of the band stands in the way of one of
// product p: one with its instance name, or, where an instance holds many
// cards, one of the same product.
func bandHolds(q db.Reader, band string, p Product) (bool, error) {
	same, name := `instance`, hex.EncodeToString(p.Instance)
	if p.Kind.Shared() {
		same, name = `product`, p.Code
	}
	var n int64
	err := q.QueryRow(`SELECT COUNT(*) FROM issuing_card WHERE band = $1 AND `+same+` = $2 AND state NOT IN ($3, $4, $5)`,
		band, name, Closed, Abandoned, Replaced).Scan(&n)
	return n > 0, err
}

func setState(tx *db.Tx, n CardID, from, to State, why string) error {
	k, err := tx.Exec(`UPDATE issuing_card SET state = $3, why = $4, changed = $5 WHERE id = $1 AND state = $2`,
		n, from, to, why, tx.Now().UnixMicro())
	if err == nil && k == 0 {
		err = ErrState
	}
	if err == nil && to != Personalising && (from == Ordered || from == Personalising) { // written or given up: the PIN has gone in or is of no use
		_, err = tx.Exec(`DELETE FROM issuing_pin WHERE card = $1`, n)
	}
	if err == nil && (to == Closed || to == Replaced) {
		err = DenyCard(tx, n, purse.DenyClosed)
	}
	if err != nil {
		return fmt.Errorf("card %s to %s: %w", n.Masked(), to, err)
	}
	return nil
}

func setBefore(tx *db.Tx, n CardID, was State) error {
	_, err := tx.Exec(`UPDATE issuing_card SET was = $2 WHERE id = $1`, n, was)
	return err
}

func setCounters(tx *db.Tx, n CardID, k Counters) error {
	_, err := tx.Exec(`UPDATE issuing_card SET balance = $2, online = $3, offline = $4, seen = $5, seen_by = $6 WHERE id = $1`,
		n, k.Balance.Minor(), k.Online, k.Offline, k.At.UnixMicro(), k.By)
	return err
}

func cards(q db.Reader, where string, args ...any) (out []Card, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		c, err := scanCard(scan)
		out = append(out, c)
		return err
	}, `SELECT `+cardColumns+` FROM issuing_card WHERE `+where, args...)
	return out, err
}

// OfCustomer reads a person's cards, oldest first, those given back included.
func OfCustomer(q db.Reader, who customer.ID) ([]Card, error) {
	return cards(q, `customer = $1 ORDER BY id`, who)
}

// InBand reads the living cards of a band.
func InBand(q db.Reader, band string) ([]Card, error) {
	return cards(q, `band = $1 AND state NOT IN ($2, $3, $4) ORDER BY id`, band, Closed, Abandoned, Replaced)
}

// List reads all cards by id, from the one after the given, at most limit.
func List(q db.Reader, after CardID, limit int) ([]Card, error) {
	return cards(q, `id > $1 ORDER BY id LIMIT $2`, after, min(max(limit, 1), maxPage))
}

// A secret is what the house knows of a bank card beside Card: one row.
type secret struct {
	card    CardID
	token   string
	sealed  []byte
	psn     byte
	alg     byte // pboc.Algorithm
	dki     byte // version of the issuer's keys it has
	pin     []byte
	account string // ledger account that online payments and loads come from
}

const secretColumns = `card, token, sealed, psn, alg, dki, pin, account`

func scanSecret(scan func(...any) error) (s secret, err error) {
	err = scan(&s.card, &s.token, &s.sealed, &s.psn, &s.alg, &s.dki, &s.pin, &s.account)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNotFound
	}
	return s, err
}

func insertSecret(tx *db.Tx, s secret) error {
	if _, err := byToken(tx, s.token, s.psn); !errors.Is(err, ErrNotFound) {
		return errors.Join(err, ErrReused)
	}
	n, err := tx.Exec(`INSERT INTO issuing_bank (`+secretColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (card) DO NOTHING`, s.card, s.token, s.sealed, s.psn, s.alg, s.dki, []byte{}, s.account)
	if err == nil && n == 0 {
		err = ErrReused
	}
	tx.After(func() { cardsMade.Add(1) })
	return err
}

func secretOf(q db.Reader, id CardID) (secret, error) {
	return scanSecret(q.QueryRow(`SELECT `+secretColumns+` FROM issuing_bank WHERE card = $1`, id).Scan)
}

// byToken finds the card that carries a PAN: of a renewed number the one with
// the sequence number.
func byToken(q db.Reader, token string, psn byte) (secret, error) {
	return scanSecret(q.QueryRow(`SELECT `+secretColumns+` FROM issuing_bank WHERE token = $1 AND psn = $2`, token, psn).Scan)
}

// byNumber finds the newest card of a number, for who does not read its
// sequence number.
func byNumber(q db.Reader, token string) (secret, error) {
	return scanSecret(q.QueryRow(`SELECT `+secretColumns+` FROM issuing_bank WHERE token = $1 ORDER BY psn DESC LIMIT 1`, token).Scan)
}

// heard keeps a counter that the card proved elsewhere.
func heard(tx *db.Tx, id CardID, atc int) error {
	u, err := useOf(tx, id)
	if err != nil || u.atc >= atc {
		return err
	}
	u.atc, u.ac, u.arc = atc, nil, ""
	return u.keep(tx, id)
}

// recount adds to what a card has spent on a day, if that is still its day.
func recount(tx *db.Tx, id CardID, day string, fen int64) error {
	u, err := useOf(tx, id)
	if err != nil || u.day != day {
		return err
	}
	u.spent += fen
	return u.keep(tx, id)
}

// holdRef names the hold of a payment.
func holdRef(id CardID, counter, times int) string {
	return "auth:" + string(id) + ":" + strconv.Itoa(counter) + again(times)
}

// again ends the references of a payment that was taken up again.
func again(times int) string {
	if times == 0 {
		return ""
	}
	return "/" + strconv.Itoa(times)
}
