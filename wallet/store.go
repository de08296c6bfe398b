package wallet

import (
	"errors"
	"fmt"
	"time"

	"koala/internal/db"
	"koala/money"
)

// Schema is what this package keeps: limits, payment codes and what was paid by
// them; money is the ledger's.
var Schema = db.Schema{Owner: "wallet", Steps: []string{
	`CREATE TABLE wallet_limit (
		rule TEXT NOT NULL,
		valid_from BIGINT NOT NULL, -- microseconds, incl.
		valid_to BIGINT NOT NULL,   -- microseconds, excl.; 0 open
		fen BIGINT NOT NULL,
		source TEXT NOT NULL,
		PRIMARY KEY (rule, valid_from))`,
	// The house's own caution; law limits payment accounts from 2016-07-01 on
	// (rule 43/2015), which the account classes will bring.
	`INSERT INTO wallet_limit (rule, valid_from, valid_to, fen, source) VALUES
		('fund.once', 0, 0, 500000, 'house rule'),
		('withdraw.once', 0, 0, 500000, 'house rule'),
		('holding', 0, 0, 2000000, 'house rule')`,
	// A code is one factor: from 2016-07-01 on law bounds a day of such payments.
	`CREATE TABLE wallet_code (
		hash TEXT PRIMARY KEY, -- SHA-256 of the digits
		customer TEXT NOT NULL,
		ends BIGINT NOT NULL,
		used TEXT NOT NULL);   -- the payment's reference, empty: none yet
	CREATE INDEX wallet_code_customer ON wallet_code (customer, ends);
	CREATE TABLE wallet_payment (
		ref TEXT PRIMARY KEY,
		customer TEXT NOT NULL, payee TEXT NOT NULL,
		fen BIGINT NOT NULL,   -- approved
		paid BIGINT NOT NULL,  -- booked, less what was given back
		state TEXT NOT NULL, again BIGINT NOT NULL,
		day TEXT NOT NULL, text TEXT NOT NULL, at BIGINT NOT NULL);
	CREATE INDEX wallet_payment_day ON wallet_payment (customer, day);
	INSERT INTO wallet_limit (rule, valid_from, valid_to, fen, source) VALUES
		('code.once', 0, 0, 100000, 'house rule'),
		('code.day', 0, 1467302400000000, 500000, 'house rule'),
		('code.day', 1467302400000000, 0, 100000, 'rule 43/2015: fewer than two factors')`,
}}

// LimitOn picks the limit in force on a date: the one that began last.
func LimitOn(q db.Reader, r Rule, on time.Time) (Limit, error) {
	at := on.UnixMicro()
	l := Limit{Rule: r}
	var from, to, fen int64
	err := q.QueryRow(`SELECT valid_from, valid_to, fen, source FROM wallet_limit
		WHERE rule = $1 AND valid_from <= $2 AND (valid_to = 0 OR valid_to > $2)
		ORDER BY valid_from DESC LIMIT 1`, string(r), at).Scan(&from, &to, &fen, &l.Source)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNoRule
	}
	if err != nil {
		return Limit{}, fmt.Errorf("limit %s on %s: %w", r, on.Format(time.DateOnly), err)
	}
	l.From, l.To, l.Amount = db.Moment(from), db.Moment(to), money.Fen(fen)
	return l, nil
}

// SetLimit adds a dated rule; the one in force before it ends when it begins.
func SetLimit(tx *db.Tx, l Limit) error {
	var to int64
	if !l.To.IsZero() {
		to = l.To.UnixMicro()
	}
	_, err := tx.Exec(`INSERT INTO wallet_limit (rule, valid_from, valid_to, fen, source) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (rule, valid_from) DO UPDATE SET valid_to = excluded.valid_to, fen = excluded.fen, source = excluded.source`,
		string(l.Rule), l.From.UnixMicro(), to, l.Amount.Minor(), l.Source)
	if err != nil {
		return fmt.Errorf("limit %s: %w", l.Rule, err)
	}
	return nil
}

// Limits reads every rule ever in force, newest first within a rule.
func Limits(q db.Reader) (out []Limit, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var l Limit
		var rule string
		var from, to, fen int64
		err := scan(&rule, &from, &to, &fen, &l.Source)
		l.Rule, l.From, l.To, l.Amount = Rule(rule), db.Moment(from), db.Moment(to), money.Fen(fen)
		out = append(out, l)
		return err
	}, `SELECT rule, valid_from, valid_to, fen, source FROM wallet_limit ORDER BY rule, valid_from DESC`)
	return out, err
}
