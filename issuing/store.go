package issuing

import (
	"encoding/hex"
	"errors"
	"fmt"

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
}}

const cardColumns = `number, customer, band, product, instance, state, was, deposit, valid_from, valid_to,
	opened, changed, why, balance, online, offline, seen, seen_by`

func scanCard(scan func(...any) error) (c Card, err error) {
	var instance string
	var deposit, from, to, opened, changed, balance, seen int64
	err = scan(&c.Number, &c.Customer, &c.Band, &c.Product, &instance, &c.State, &c.Before, &deposit, &from, &to,
		&opened, &changed, &c.Why, &balance, &c.Known.Online, &c.Known.Offline, &seen, &c.Known.By)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return Card{}, err
	}
	c.Instance, err = hex.DecodeString(instance)
	c.Deposit, c.Known.Balance = money.Fen(deposit), money.Fen(balance)
	c.From, c.To, c.Opened, c.Changed, c.Known.At = db.Moment(from), db.Moment(to), db.Moment(opened), db.Moment(changed), db.Moment(seen)
	return c, err
}

func insertCard(tx *db.Tx, ref string, c Card) error {
	n, err := tx.Exec(`INSERT INTO issuing_card (number, ref, customer, band, product, instance, state, was, deposit,
		valid_from, valid_to, opened, changed, why, balance, online, offline, seen, seen_by)
		VALUES ($1, $2, $3, $4, $5, $6, $7, '', $8, $9, $10, $11, $11, '', 0, -1, -1, 0, '')
		ON CONFLICT (number) DO NOTHING`,
		c.Number, ref, c.Customer, c.Band, c.Product, hex.EncodeToString(c.Instance), c.State, c.Deposit.Minor(),
		c.From.UnixMicro(), c.To.UnixMicro(), c.Opened.UnixMicro())
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
func Get(q db.Reader, n purse.Number) (Card, error) {
	c, err := scanCard(q.QueryRow(`SELECT `+cardColumns+` FROM issuing_card WHERE number = $1`, n).Scan)
	if err != nil {
		return Card{}, fmt.Errorf("card %s: %w", Masked(n), err)
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

func setState(tx *db.Tx, n purse.Number, from, to State, why string) error {
	k, err := tx.Exec(`UPDATE issuing_card SET state = $3, why = $4, changed = $5 WHERE number = $1 AND state = $2`,
		n, from, to, why, tx.Now().UnixMicro())
	if err == nil && k == 0 {
		err = ErrState
	}
	if err != nil {
		return fmt.Errorf("card %s to %s: %w", Masked(n), to, err)
	}
	return nil
}

func setBefore(tx *db.Tx, n purse.Number, was State) error {
	_, err := tx.Exec(`UPDATE issuing_card SET was = $2 WHERE number = $1`, n, was)
	return err
}

func setCounters(tx *db.Tx, n purse.Number, k Counters) error {
	_, err := tx.Exec(`UPDATE issuing_card SET balance = $2, online = $3, offline = $4, seen = $5, seen_by = $6 WHERE number = $1`,
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
	return cards(q, `customer = $1 ORDER BY number`, who)
}

// InBand reads the living cards of a band.
func InBand(q db.Reader, band string) ([]Card, error) {
	return cards(q, `band = $1 AND state NOT IN ($2, $3) ORDER BY number`, band, Closed, Abandoned)
}

// List reads all cards by number, from the one after the given, at most limit.
func List(q db.Reader, after purse.Number, limit int) ([]Card, error) {
	return cards(q, `number > $1 ORDER BY number LIMIT $2`, after, min(max(limit, 1), maxPage))
}
