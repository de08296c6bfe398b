package merchant

import (
	"errors"
	"fmt"
	"strings"

	"koala/internal/db"
)

// Schema is what this package keeps. Events, checks and documents are only
// added.
var Schema = db.Schema{Owner: "merchant", Steps: []string{
	`CREATE TABLE merchant_party (
		id TEXT PRIMARY KEY,
		form TEXT NOT NULL,
		name TEXT NOT NULL,
		licence TEXT NOT NULL,        -- empty: micro
		ident TEXT NOT NULL,          -- the licence, or of a micro merchant the token of the identity number
		legal TEXT NOT NULL,
		id_mask TEXT NOT NULL,
		phone TEXT NOT NULL,          -- masked
		bank TEXT NOT NULL,
		holder TEXT NOT NULL,
		account_mask TEXT NOT NULL,
		account TEXT NOT NULL,        -- token of bank and number
		sealed BYTEA NOT NULL,        -- Secrets under a key outside the store
		city TEXT NOT NULL,
		agent TEXT NOT NULL,
		state TEXT NOT NULL,
		risk TEXT NOT NULL,
		made BIGINT NOT NULL,
		changed BIGINT NOT NULL);
	CREATE INDEX merchant_party_ident ON merchant_party (ident);
	CREATE INDEX merchant_party_account ON merchant_party (account);
	CREATE INDEX merchant_party_name ON merchant_party (name);
	CREATE INDEX merchant_party_state ON merchant_party (state, id);
	CREATE INDEX merchant_party_city ON merchant_party (city, id);
	CREATE INDEX merchant_party_agent ON merchant_party (agent, id) WHERE agent <> '';
	CREATE TABLE merchant_count (
		city TEXT NOT NULL,
		state TEXT NOT NULL,
		n BIGINT NOT NULL,
		PRIMARY KEY (city, state)) /*without rowid*/`,
	`CREATE TABLE merchant_shop (
		id TEXT PRIMARY KEY,
		merchant TEXT NOT NULL,
		mid TEXT NOT NULL,            -- empty: not approved yet
		name_en TEXT NOT NULL,
		name_zh TEXT NOT NULL,
		mcc TEXT NOT NULL,
		city TEXT NOT NULL,
		address TEXT NOT NULL,
		state TEXT NOT NULL,
		made BIGINT NOT NULL);
	CREATE UNIQUE INDEX merchant_shop_mid ON merchant_shop (mid) WHERE mid <> '';
	CREATE INDEX merchant_shop_merchant ON merchant_shop (merchant, id);
	CREATE TABLE merchant_terminal (
		tid TEXT PRIMARY KEY,
		serial TEXT NOT NULL,
		kind TEXT NOT NULL,
		shop TEXT NOT NULL,
		place_en TEXT NOT NULL,
		place_zh TEXT NOT NULL,
		life TEXT NOT NULL,
		version TEXT NOT NULL,
		seen BIGINT NOT NULL,
		made BIGINT NOT NULL,
		moves BIGINT NOT NULL) /*without rowid*/;
	CREATE UNIQUE INDEX merchant_terminal_serial ON merchant_terminal (serial) WHERE life <> 'retired';
	CREATE INDEX merchant_terminal_shop ON merchant_terminal (shop, tid);
	CREATE TABLE merchant_sequence (
		name TEXT PRIMARY KEY,        -- tid, mid:<region><category>
		next BIGINT NOT NULL) /*without rowid*/`,
	`CREATE TABLE merchant_document (
		merchant TEXT NOT NULL,
		seq BIGINT NOT NULL,
		who TEXT NOT NULL,
		at BIGINT NOT NULL,
		lines TEXT NOT NULL,          -- kind, SHA-256, size and media of each document handed in at once
		PRIMARY KEY (merchant, seq)) /*without rowid*/;
	CREATE TABLE merchant_check (
		merchant TEXT NOT NULL,
		seq BIGINT NOT NULL,
		who TEXT NOT NULL,            -- empty: the house's own program
		at BIGINT NOT NULL,
		lines TEXT NOT NULL,          -- what, result and note of each check made at once
		PRIMARY KEY (merchant, seq)) /*without rowid*/;
	CREATE TABLE merchant_event (
		merchant TEXT NOT NULL,
		seq BIGINT NOT NULL,
		about TEXT NOT NULL,
		what TEXT NOT NULL,
		was TEXT NOT NULL,
		is_now TEXT NOT NULL,
		who TEXT NOT NULL,
		why TEXT NOT NULL,
		at BIGINT NOT NULL,
		PRIMARY KEY (merchant, seq)) /*without rowid*/;
	CREATE TABLE merchant_deny (
		name TEXT PRIMARY KEY,        -- name:…, licence:…, person:<token>
		why TEXT NOT NULL,
		who TEXT NOT NULL,
		at BIGINT NOT NULL) /*without rowid*/`,
	`CREATE TABLE merchant_limit (
		shop TEXT NOT NULL,
		class TEXT NOT NULL,          -- card class
		single BIGINT NOT NULL,       -- fen
		daily BIGINT NOT NULL,
		monthly BIGINT NOT NULL,
		who TEXT NOT NULL,
		why TEXT NOT NULL,
		at BIGINT NOT NULL,
		PRIMARY KEY (shop, class)) /*without rowid*/;
	CREATE TABLE merchant_agent (
		id TEXT PRIMARY KEY,
		name TEXT NOT NULL,
		over TEXT NOT NULL,           -- superior; empty: right below the house
		made BIGINT NOT NULL) /*without rowid*/;
	CREATE TABLE merchant_rate (
		agent TEXT NOT NULL,
		since TEXT NOT NULL,          -- civil date
		points BIGINT NOT NULL,       -- basis points of the net fee
		PRIMARY KEY (agent, since)) /*without rowid*/;
	CREATE TABLE merchant_accrual (
		ref TEXT NOT NULL,            -- of the sale, refund or chargeback
		agent TEXT NOT NULL,
		month TEXT NOT NULL,          -- 2015-09
		shop TEXT NOT NULL,
		fen BIGINT NOT NULL,          -- below zero: clawed back
		at BIGINT NOT NULL,
		PRIMARY KEY (ref, agent)) /*without rowid*/;
	CREATE INDEX merchant_accrual_month ON merchant_accrual (agent, month, ref);
	CREATE TABLE merchant_month (
		month TEXT NOT NULL,
		agent TEXT NOT NULL,
		n BIGINT NOT NULL,
		fen BIGINT NOT NULL,
		PRIMARY KEY (month, agent)) /*without rowid*/`,
	`CREATE TABLE merchant_fee (
		shop TEXT NOT NULL,
		day TEXT NOT NULL,            -- of the sales
		fen BIGINT NOT NULL,          -- net fee that agents have a part of, so far
		PRIMARY KEY (shop, day)) /*without rowid*/`,
	// Agents are payees: accruals say of which day's sales they are, and of what.
	`ALTER TABLE merchant_agent ADD COLUMN opened BIGINT NOT NULL DEFAULT 0;
	ALTER TABLE merchant_accrual ADD COLUMN day TEXT NOT NULL DEFAULT '';
	ALTER TABLE merchant_accrual ADD COLUMN net BIGINT NOT NULL DEFAULT 0;
	UPDATE merchant_accrual SET day = SUBSTR(ref, LENGTH(ref) - 9) WHERE ref LIKE '%:____-__-__';
	CREATE INDEX merchant_accrual_day ON merchant_accrual (shop, day, agent)`,
	`CREATE TABLE merchant_place (
		agent TEXT NOT NULL,
		since TEXT NOT NULL,          -- civil date; before the first, merchant_agent.over counts
		over TEXT NOT NULL,           -- superior; empty: right below the house
		ended BOOLEAN NOT NULL,       -- for good
		PRIMARY KEY (agent, since)) /*without rowid*/`,
	`ALTER TABLE merchant_deny ADD COLUMN source TEXT NOT NULL DEFAULT '';
	CREATE TABLE merchant_wish (
		tid TEXT NOT NULL,
		seq BIGINT NOT NULL,
		shop TEXT NOT NULL,
		who TEXT NOT NULL,            -- login of the shop's person
		at BIGINT NOT NULL,
		granted BOOLEAN NOT NULL,
		decider TEXT NOT NULL,
		why TEXT NOT NULL,            -- of the answer
		answered BIGINT NOT NULL,     -- 0: it waits
		PRIMARY KEY (tid, seq)) /*without rowid*/;
	CREATE UNIQUE INDEX merchant_wish_open ON merchant_wish (tid) WHERE answered = 0;
	CREATE INDEX merchant_wish_answered ON merchant_wish (answered)`,
}}

// A sheet is a table that rows are written to, with the texts for one row and
// for many: few sizes, so that each is prepared once.
type sheet struct {
	table, columns string
	width, rows    int // columns; rows of the text for many
	one, many      string
}

// manyPlaces bounds the places of one statement: the driver names each place
// when it fills it, which costs the more the more there are.
const manyPlaces = 90

func newSheet(table, columns string) sheet {
	s := sheet{table: table, columns: columns, width: strings.Count(columns, ",") + 1}
	s.rows = manyPlaces / s.width
	s.one, s.many = s.text(1), s.text(s.rows)
	return s
}

func (s sheet) text(rows int) string {
	var b strings.Builder
	b.WriteString("INSERT INTO " + s.table + " (" + s.columns + ") VALUES ")
	for i := range rows * s.width {
		switch {
		case i == 0:
			b.WriteString("(")
		case i%s.width == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "$%d", i+1)
	}
	b.WriteString(")")
	return b.String()
}

// insert writes rows that the unit may read back.
func (s sheet) insert(tx *db.Tx, rows ...[]any) error {
	for len(rows) > 0 {
		n, text := 1, s.one
		if len(rows) >= s.rows {
			n, text = s.rows, s.many
		}
		args := make([]any, 0, n*s.width)
		for _, r := range rows[:n] {
			args = append(args, r...)
		}
		if _, err := tx.Exec(text, args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

const (
	partyColumns = `id, form, name, licence, ident, legal, id_mask, phone, bank, holder, account_mask, account, sealed, city, agent, state, risk, made, changed`
	shopColumns  = `id, merchant, mid, name_en, name_zh, mcc, city, address, state, made`
	termColumns  = `tid, serial, kind, shop, place_en, place_zh, life, version, seen, made, moves`
)

var (
	partySheet   = newSheet("merchant_party", partyColumns)
	shopSheet    = newSheet("merchant_shop", shopColumns)
	termSheet    = newSheet("merchant_terminal", termColumns)
	docSheet     = newSheet("merchant_document", "merchant, seq, who, at, lines")
	checkSheet   = newSheet("merchant_check", "merchant, seq, who, at, lines")
	accrualSheet = newSheet("merchant_accrual", "ref, agent, month, shop, day, net, fen, at")
	eventSheet   = newSheet("merchant_event", "merchant, seq, about, what, was, is_now, who, why, at")
)

func (m Merchant) row(sealed []byte) []any {
	return []any{m.ID, m.Form, m.Name, m.Licence, m.ident, m.Legal, m.IDMask, m.Phone, m.Bank, m.Holder, m.AccountMask, m.token, sealed,
		m.City, m.Agent, m.State, m.Risk, micros(m.Made), micros(m.Changed)}
}

func (s Shop) row() []any {
	return []any{s.ID, s.Merchant, s.MID, s.NameEN, s.NameZH, s.MCC, s.City, s.Address, s.State, micros(s.Made)}
}

func (t Terminal) row() []any {
	return []any{t.TID, t.Serial, t.Kind, t.Shop, t.PlaceEN, t.PlaceZH, t.Life, t.Version, micros(t.Seen), micros(t.Made), t.Moves}
}

func insertTerminal(tx *db.Tx, t Terminal) (fresh bool, err error) {
	n, err := tx.Exec(termSheet.one+` ON CONFLICT DO NOTHING`, t.row()...)
	return n == 1, err
}

func parties(q db.Reader, where string, args ...any) (out []Merchant, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var m Merchant
		var made, changed int64
		err := scan(&m.ID, &m.Form, &m.Name, &m.Licence, &m.ident, &m.Legal, &m.IDMask, &m.Phone, &m.Bank, &m.Holder, &m.AccountMask, &m.token,
			&m.City, &m.Agent, &m.State, &m.Risk, &made, &changed)
		m.Made, m.Changed = db.Moment(made), db.Moment(changed)
		out = append(out, m)
		return err
	}, `SELECT `+strings.Replace(partyColumns, ", sealed", "", 1)+` FROM merchant_party `+where, args...)
	return out, err
}

func shopsWhere(q db.Reader, where string, args ...any) (out []Shop, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var s Shop
		var made int64
		err := scan(s.into(&made)...)
		s.Made = db.Moment(made)
		out = append(out, s)
		return err
	}, `SELECT `+shopColumns+` FROM merchant_shop `+where, args...)
	return out, err
}

func (s *Shop) into(made *int64) []any {
	return []any{&s.ID, &s.Merchant, &s.MID, &s.NameEN, &s.NameZH, &s.MCC, &s.City, &s.Address, &s.State, made}
}

func terminalsWhere(q db.Reader, where string, args ...any) (out []Terminal, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var t Terminal
		var seen, made int64
		err := scan(t.into(&seen, &made)...)
		t.Seen, t.Made = db.Moment(seen), db.Moment(made)
		out = append(out, t)
		return err
	}, `SELECT `+termColumns+` FROM merchant_terminal `+where, args...)
	return out, err
}

func (t *Terminal) into(seen, made *int64) []any {
	return []any{&t.TID, &t.Serial, &t.Kind, &t.Shop, &t.PlaceEN, &t.PlaceZH, &t.Life, &t.Version, seen, made, &t.Moves}
}

// one is the only element of a list.
func one[T any](list []T, err error, what, id string) (x T, _ error) {
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return x, fmt.Errorf("%s %q: %w", what, id, err)
	}
	return list[0], nil
}

// Of reads one merchant.
func Of(q db.Reader, id string) (Merchant, error) {
	list, err := parties(q, `WHERE id = $1`, id)
	return one(list, err, "merchant", id)
}

// ShopOf reads one shop.
func ShopOf(q db.Reader, id string) (Shop, error) {
	list, err := shopsWhere(q, `WHERE id = $1`, id)
	return one(list, err, "shop", id)
}

// ByMID finds a shop by its merchant number.
func ByMID(q db.Reader, mid string) (Shop, error) {
	if mid == "" {
		return Shop{}, fmt.Errorf("shop without number: %w", ErrNotFound)
	}
	list, err := shopsWhere(q, `WHERE mid = $1 AND mid <> ''`, mid)
	return one(list, err, "merchant number", mid)
}

// ShopsOf reads the shops of a merchant by id.
func ShopsOf(q db.Reader, merchant string) ([]Shop, error) {
	return shopsWhere(q, `WHERE merchant = $1 ORDER BY id`, merchant)
}

// TerminalOf reads one terminal.
func TerminalOf(q db.Reader, tid string) (Terminal, error) {
	list, err := terminalsWhere(q, `WHERE tid = $1`, tid)
	return one(list, err, "terminal", tid)
}

// TerminalsOf reads the terminals of a shop, or of all for "", by number, from
// the one after the given.
func TerminalsOf(q db.Reader, shop, after string, limit int) ([]Terminal, error) {
	if shop == "" {
		return terminalsWhere(q, `WHERE tid > $1 ORDER BY tid LIMIT $2`, after, limited(limit))
	}
	return terminalsWhere(q, `WHERE shop = $1 AND tid > $2 ORDER BY tid LIMIT $3`, shop, after, limited(limit))
}

// BySerial finds the living terminal that a device is.
func BySerial(q db.Reader, serial string) (Terminal, error) {
	list, err := terminalsWhere(q, `WHERE serial = $1 AND life <> 'retired'`, serial)
	return one(list, err, "serial", serial)
}

// StandingOf reads a terminal with its shop and what is known of the merchant.
func StandingOf(q db.Reader, tid string) (s Standing, err error) {
	var seen, opened, made int64
	into := append(s.Terminal.into(&seen, &opened), s.Shop.into(&made)...)
	err = q.QueryRow(`SELECT `+prefixed("t.", termColumns)+`, `+prefixed("s.", shopColumns)+`, m.state, m.risk
		FROM merchant_terminal t JOIN merchant_shop s ON s.id = t.shop JOIN merchant_party m ON m.id = s.merchant WHERE t.tid = $1`, tid).
		Scan(append(into, &s.Merchant, &s.Risk)...)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return Standing{}, fmt.Errorf("terminal %q: %w", tid, err)
	}
	s.Terminal.Seen, s.Terminal.Made, s.Shop.Made = db.Moment(seen), db.Moment(opened), db.Moment(made)
	return s, nil
}

func prefixed(prefix, columns string) string {
	return prefix + strings.ReplaceAll(columns, ", ", ", "+prefix)
}

// count moves n merchants of a city into a state (below zero: out of it).
func count(tx *db.Tx, city string, state State, n int64) error {
	_, err := tx.Exec(`INSERT INTO merchant_count (city, state, n) VALUES ($1, $2, $3)
		ON CONFLICT (city, state) DO UPDATE SET n = merchant_count.n + excluded.n`, city, state, n)
	return err
}

func limited(n int) int { return min(max(n, 1), MaxPage) }
