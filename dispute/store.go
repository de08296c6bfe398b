package dispute

import (
	"errors"
	"fmt"
	"time"

	"koala/internal/db"
	"koala/ledger"
	"koala/money"
)

// Schema is what this package keeps. Events are never changed; a document is
// sealed, its hash is of what was uploaded.
var Schema = db.Schema{Owner: "dispute", Steps: []string{
	`CREATE TABLE dispute_case (
		id TEXT PRIMARY KEY,
		ref TEXT NOT NULL UNIQUE,
		rrn TEXT NOT NULL,
		payee TEXT NOT NULL,
		counter TEXT NOT NULL,
		issuer TEXT NOT NULL,
		class TEXT NOT NULL,
		sale_fen BIGINT NOT NULL,
		sale_at BIGINT NOT NULL,
		fen BIGINT NOT NULL,
		reason TEXT NOT NULL,
		state TEXT NOT NULL,
		final BOOLEAN NOT NULL,
		moves BIGINT NOT NULL,       -- of the money
		held BOOLEAN NOT NULL,
		due BIGINT NOT NULL,         -- microseconds, 0 none
		pack TEXT NOT NULL,          -- SHA-256
		opened BIGINT NOT NULL,
		at BIGINT NOT NULL);
	CREATE INDEX dispute_case_rrn ON dispute_case (rrn, final);
	CREATE INDEX dispute_case_due ON dispute_case (final, due);
	CREATE INDEX dispute_case_payee ON dispute_case (payee, id);
	CREATE TABLE dispute_event (
		id TEXT PRIMARY KEY,
		dispute TEXT NOT NULL,
		at BIGINT NOT NULL,
		who TEXT NOT NULL,
		was TEXT NOT NULL,
		became TEXT NOT NULL,
		why TEXT NOT NULL);
	CREATE INDEX dispute_event_of ON dispute_event (dispute, id);
	CREATE TABLE dispute_document (
		dispute TEXT NOT NULL,
		hash TEXT NOT NULL,          -- SHA-256 of the document
		name TEXT NOT NULL,
		type TEXT NOT NULL,          -- media type
		size BIGINT NOT NULL,
		sealed BYTEA NOT NULL,
		who TEXT NOT NULL,
		at BIGINT NOT NULL,
		PRIMARY KEY (dispute, hash));
	CREATE TABLE dispute_pack (
		hash TEXT PRIMARY KEY,       -- SHA-256 of the manifest
		dispute TEXT NOT NULL,
		manifest TEXT NOT NULL,
		sealed BYTEA NOT NULL,       -- the JSON
		who TEXT NOT NULL,
		at BIGINT NOT NULL);
	CREATE TABLE dispute_rule (
		rule TEXT NOT NULL,
		valid_from BIGINT NOT NULL,  -- microseconds
		value BIGINT NOT NULL,       -- days, or rounds
		source TEXT NOT NULL,
		PRIMARY KEY (rule, valid_from));
	` + rules,
	`CREATE TABLE dispute_move (
		dispute TEXT NOT NULL,
		nth BIGINT NOT NULL,
		fen BIGINT NOT NULL,         -- below zero: to the issuer
		at BIGINT NOT NULL,
		PRIMARY KEY (dispute, nth));
	CREATE INDEX dispute_move_at ON dispute_move (at)`,
	`CREATE TABLE dispute_waiting (
		ref TEXT NOT NULL,
		said TEXT NOT NULL,
		rrn TEXT NOT NULL,
		fen BIGINT NOT NULL,
		reason TEXT NOT NULL,
		at BIGINT NOT NULL,          -- microseconds: when it was said
		why TEXT NOT NULL,
		who TEXT NOT NULL,           -- entered it
		PRIMARY KEY (ref, said))`,
	`CREATE TABLE dispute_record (
		key TEXT PRIMARY KEY,        -- hash of what the file says
		host TEXT NOT NULL, ref TEXT NOT NULL, said TEXT NOT NULL, undone BOOLEAN NOT NULL,
		rrn TEXT NOT NULL, terminal TEXT NOT NULL, tail TEXT NOT NULL, day TEXT NOT NULL, sale_fen BIGINT NOT NULL,
		fen BIGINT NOT NULL, currency TEXT NOT NULL, reason TEXT NOT NULL, at BIGINT NOT NULL,
		state TEXT NOT NULL, code TEXT NOT NULL, -- of the failure it waits for
		dispute TEXT NOT NULL,       -- the case; of one that was entered, number/step of the notice
		who TEXT NOT NULL, note TEXT NOT NULL, kept BIGINT NOT NULL, tried BIGINT NOT NULL);
	CREATE INDEX dispute_record_state ON dispute_record (state, kept, key);
	INSERT INTO dispute_rule (rule, valid_from, value, source) VALUES ('second.person', 0, 100000, 'house default: 1,000.00')`,
}}

const caseColumns = `id, ref, rrn, payee, counter, issuer, class, sale_fen, sale_at, fen, reason, state, moves, held, due, pack, opened, at`

func scanCase(scan func(...any) error) (c Case, err error) {
	var counter string
	var saleFen, saleAt, fen, due, opened, at int64
	err = scan(&c.ID, &c.Ref, &c.Sale.RRN, &c.Sale.Payee, &counter, &c.Sale.Issuer, &c.Sale.Class, &saleFen, &saleAt, &fen, &c.Reason, &c.State,
		&c.Moves, &c.Held, &due, &c.Pack, &opened, &at)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNone
	}
	c.Sale.Counter, c.Sale.Amount, c.Sale.At, c.Amount = ledger.AccountID(counter), money.Fen(saleFen), db.Moment(saleAt), money.Fen(fen)
	c.Due, c.Opened, c.At = db.Moment(due), db.Moment(opened), db.Moment(at)
	return c, err
}

func insertCase(tx *db.Tx, c Case) error {
	_, err := tx.Exec(`INSERT INTO dispute_case (id, ref, rrn, payee, counter, issuer, class, sale_fen, sale_at, fen, reason, state, final, moves, held, due, pack, opened, at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, '', $12, 0, $12, 0, '', $13, $13)`,
		c.ID, c.Ref, c.Sale.RRN, c.Sale.Payee, string(c.Sale.Counter), c.Sale.Issuer, c.Sale.Class, c.Sale.Amount.Minor(), c.Sale.At.UnixMicro(),
		c.Amount.Minor(), c.Reason, false, c.Opened.UnixMicro())
	return err
}

// updateCase writes a step, if nobody else has taken one.
func updateCase(tx *db.Tx, c Case, was State) error {
	n, err := tx.Exec(`UPDATE dispute_case SET state = $3, final = $4, moves = $5, held = $6, due = $7, at = $8 WHERE id = $1 AND state = $2`,
		c.ID, string(was), string(c.State), c.State.Final(), c.Moves, c.Held, micros(c.Due), c.At.UnixMicro())
	if err == nil && n == 0 {
		err = ErrState
	}
	return err
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func setReason(tx *db.Tx, id, reason string) error {
	_, err := tx.Exec(`UPDATE dispute_case SET reason = $2 WHERE id = $1`, id, reason)
	return err
}

func insertEvent(tx *db.Tx, id string, e Event) error {
	_, err := tx.Exec(`INSERT INTO dispute_event (id, dispute, at, who, was, became, why) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		tx.NewID("dev"), id, e.At.UnixMicro(), e.Who, string(e.Was), string(e.Is), e.Why)
	return err
}

func cases(q db.Reader, where string, args ...any) (out []Case, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		c, err := scanCase(scan)
		out = append(out, c)
		return err
	}, `SELECT `+caseColumns+` FROM dispute_case WHERE `+where, args...)
	return out, err
}

func page(limit int) int { return min(max(limit, 1), maxPage) }

// Get reads one case.
func Get(q db.Reader, id string) (Case, error) {
	c, err := scanCase(q.QueryRow(`SELECT `+caseColumns+` FROM dispute_case WHERE id = $1`, id).Scan)
	if err != nil {
		return Case{}, fmt.Errorf("dispute %s: %w", id, err)
	}
	return c, nil
}

// ByRef reads a case by the network's number.
func ByRef(q db.Reader, ref string) (Case, error) {
	return scanCase(q.QueryRow(`SELECT `+caseColumns+` FROM dispute_case WHERE ref = $1`, ref).Scan)
}

// OfSale reads the cases of a sale, oldest first.
func OfSale(q db.Reader, rrn string) ([]Case, error) { return cases(q, `rrn = $1 ORDER BY id`, rrn) }

// OfPayee reads a shop's cases (empty: of all shops), newest first, from the one
// before the given (empty: from the newest). open leaves out those that ended.
func OfPayee(q db.Reader, payee string, open bool, before string, limit int) ([]Case, error) {
	if before == "" {
		before = "~" // after every id
	}
	return cases(q, `(payee = $1 OR $1 = '') AND (final = $2 OR $3 = $2) AND id < $4 ORDER BY id DESC LIMIT $5`, payee, false, open, before, page(limit))
}

// DueBy reads the open cases with a deadline before t, soonest first.
func DueBy(q db.Reader, t time.Time, limit int) ([]Case, error) {
	return cases(q, `final = $1 AND due > 0 AND due < $2 ORDER BY due, id LIMIT $3`, false, t.UnixMicro(), page(limit))
}

// A Tally counts cases of a state.
type Tally struct {
	State State
	Count int64
	Fen   int64
}

// Count sums a shop's cases (empty: of all shops) by state.
func Count(q db.Reader, payee string) (out []Tally, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var t Tally
		err := scan(&t.State, &t.Count, &t.Fen)
		out = append(out, t)
		return err
	}, `SELECT state, COUNT(*), CAST(SUM(fen) AS BIGINT) FROM dispute_case WHERE payee = $1 OR $1 = '' GROUP BY state ORDER BY state`, payee)
	return out, err
}

// A Movement is one time that disputed money moved between a shop and an issuer.
type Movement struct {
	Case  string
	RRN   string
	Payee string
	Fen   int64 // below zero: to the issuer
	At    time.Time
}

// Movements reads what moved with an issuer's host (empty: our own bank) from
// from until before to, oldest first: what the host's own lines are compared with.
func Movements(q db.Reader, issuer string, from, to time.Time) (out []Movement, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var m Movement
		var at int64
		err := scan(&m.Case, &m.RRN, &m.Payee, &m.Fen, &at)
		m.At = db.Moment(at)
		out = append(out, m)
		return err
	}, `SELECT m.dispute, c.rrn, c.payee, m.fen, m.at FROM dispute_move m JOIN dispute_case c ON c.id = m.dispute
		WHERE c.issuer = $1 AND m.at >= $2 AND m.at < $3 ORDER BY m.at, m.dispute, m.nth`, issuer, from.UnixMicro(), to.UnixMicro())
	return out, err
}

func insertMove(tx *db.Tx, c *Case, fen int64) error {
	_, err := tx.Exec(`INSERT INTO dispute_move (dispute, nth, fen, at) VALUES ($1, $2, $3, $4)`, c.ID, c.Moves, fen, tx.Now().UnixMicro())
	return err
}

// openedAs is the state that a case began in.
func openedAs(q db.Reader, id string) (s State, err error) {
	err = q.QueryRow(`SELECT became FROM dispute_event WHERE dispute = $1 AND was = ''`, id).Scan(&s)
	return s, err
}

// History reads the steps of a case and what was said about it, oldest first.
func History(q db.Reader, id string) (out []Event, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var e Event
		var at int64
		err := scan(&at, &e.Who, &e.Was, &e.Is, &e.Why)
		e.At = db.Moment(at)
		out = append(out, e)
		return err
	}, `SELECT at, who, was, became, why FROM dispute_event WHERE dispute = $1 ORDER BY id`, id)
	return out, err
}
