package issuing

import (
	"encoding/hex"
	"errors"
	"fmt"

	"koala/customer"
	"koala/internal/db"
	"koala/money"
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
}}

const cardColumns = `id, kind, tail, customer, band, product, instance, state, was, deposit, valid_from, valid_to,
	opened, changed, why, balance, online, offline, seen, seen_by, suspended, replaces`

func scanCard(scan func(...any) error) (c Card, err error) {
	var instance string
	var deposit, from, to, opened, changed, balance, seen, suspended int64
	err = scan(&c.ID, &c.Kind, &c.Tail, &c.Customer, &c.Band, &c.Product, &instance, &c.State, &c.Before, &deposit, &from, &to,
		&opened, &changed, &c.Why, &balance, &c.Known.Online, &c.Known.Offline, &seen, &c.Known.By, &suspended, &c.Replaces)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return Card{}, err
	}
	c.Instance, err = hex.DecodeString(instance)
	c.Deposit, c.Known.Balance = money.Fen(deposit), money.Fen(balance)
	c.From, c.To, c.Opened, c.Changed, c.Known.At = db.Moment(from), db.Moment(to), db.Moment(opened), db.Moment(changed), db.Moment(seen)
	c.Suspended = db.Moment(suspended)
	return c, err
}

func insertCard(tx *db.Tx, ref string, c Card) error {
	n, err := tx.Exec(`INSERT INTO issuing_card (id, kind, tail, ref, customer, band, product, instance, state, was, deposit,
		valid_from, valid_to, opened, changed, why, balance, online, offline, seen, seen_by, suspended, replaces)
		VALUES ($1, $12, $13, $2, $3, $4, $5, $6, $7, '', $8, $9, $10, $11, $11, '', 0, -1, -1, 0, '', 0, $14)
		ON CONFLICT (id) DO NOTHING`,
		c.ID, ref, c.Customer, c.Band, c.Product, hex.EncodeToString(c.Instance), c.State, c.Deposit.Minor(),
		c.From.UnixMicro(), c.To.UnixMicro(), c.Opened.UnixMicro(), c.Kind, c.Tail, c.Replaces)
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

// bandHolds tells whether a living card has that instance name in the band.
func bandHolds(q db.Reader, band string, instance []byte) (bool, error) {
	var n int64
	err := q.QueryRow(`SELECT COUNT(*) FROM issuing_card WHERE band = $1 AND instance = $2 AND state NOT IN ($3, $4)`,
		band, hex.EncodeToString(instance), Closed, Abandoned).Scan(&n)
	return n > 0, err
}

func setState(tx *db.Tx, n CardID, from, to State, why string) error {
	k, err := tx.Exec(`UPDATE issuing_card SET state = $3, why = $4, changed = $5 WHERE id = $1 AND state = $2`,
		n, from, to, why, tx.Now().UnixMicro())
	if err == nil && k == 0 {
		err = ErrState
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
	return cards(q, `band = $1 AND state NOT IN ($2, $3) ORDER BY id`, band, Closed, Abandoned)
}

// List reads all cards by id, from the one after the given, at most limit.
func List(q db.Reader, after CardID, limit int) ([]Card, error) {
	return cards(q, `id > $1 ORDER BY id LIMIT $2`, after, min(max(limit, 1), maxPage))
}
