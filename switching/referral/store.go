package referral

import (
	"errors"

	"koala/internal/db"
	"koala/money"
)

// Step is what this package keeps, a step of the switch's schema.
const Step = `CREATE TABLE switching_referral (
		id TEXT PRIMARY KEY,           -- of the operator's form
		shop TEXT NOT NULL, tid TEXT NOT NULL, token TEXT NOT NULL, masked TEXT NOT NULL,
		card TEXT NOT NULL, counter BIGINT NOT NULL, -- the request that holds the money
		fen BIGINT NOT NULL, code TEXT NOT NULL, state TEXT NOT NULL, why TEXT NOT NULL,
		sale TEXT NOT NULL, by_whom TEXT NOT NULL, note TEXT NOT NULL,
		at BIGINT NOT NULL, until BIGINT NOT NULL, changed BIGINT NOT NULL);
	CREATE UNIQUE INDEX switching_referral_code ON switching_referral (shop, code) WHERE code <> '';
	CREATE INDEX switching_referral_at ON switching_referral (at, id);
	CREATE INDEX switching_referral_held ON switching_referral (until) WHERE state = 'held'`

const columns = `id, shop, tid, token, masked, card, counter, fen, code, state, why, sale, by_whom, note, at, until, changed`

func (r *Referral) insert(tx *db.Tx) error {
	_, err := tx.Exec(`INSERT INTO switching_referral (`+columns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`,
		r.ID, r.Shop, r.TID, r.Token, r.Masked, r.Card, r.Counter, r.Amount.Minor(), r.Code, r.State, r.Why, r.Sale, r.By, r.Note,
		r.At.UnixMicro(), r.Until.UnixMicro(), r.Changed.UnixMicro())
	return err
}

// to moves a held call on, if nothing else did.
func (r *Referral) to(tx *db.Tx, s State) error {
	r.State, r.Changed = s, tx.Now()
	n, err := tx.Exec(`UPDATE switching_referral SET state = $2, sale = $3, changed = $4 WHERE id = $1 AND state = 'held'`, r.ID, r.State, r.Sale, r.Changed.UnixMicro())
	if err == nil && n == 0 {
		err = ErrState
	}
	return err
}

func scanned(scan func(...any) error) (r Referral, err error) {
	var fen, at, until, changed int64
	err = scan(&r.ID, &r.Shop, &r.TID, &r.Token, &r.Masked, &r.Card, &r.Counter, &fen, &r.Code, &r.State, &r.Why, &r.Sale, &r.By, &r.Note, &at, &until, &changed)
	r.Amount, r.At, r.Until, r.Changed = money.Fen(fen), db.Moment(at), db.Moment(until), db.Moment(changed)
	if errors.Is(err, db.ErrNoRows) {
		err = ErrNotFound
	}
	return r, err
}

func one(q db.Reader, where string, args ...any) (Referral, error) {
	return scanned(q.QueryRow(`SELECT `+columns+` FROM switching_referral WHERE `+where, args...).Scan)
}

func many(q db.Reader, where string, args ...any) (out []Referral, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		r, err := scanned(scan)
		out = append(out, r)
		return err
	}, `SELECT `+columns+` FROM switching_referral WHERE `+where, args...)
	return out, err
}

func exists(q db.Reader, shop, code string) (bool, error) {
	_, err := one(q, `shop = $1 AND code = $2`, shop, code)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Of finds a call by its name.
func Of(q db.Reader, id string) (Referral, error) { return one(q, `id = $1`, id) }

// List lists calls, newest first, from before a time on (microseconds; 0: all),
// in a state or in any.
func List(q db.Reader, s State, before int64, limit int) ([]Referral, error) {
	if before == 0 {
		before = 1<<63 - 1
	}
	return many(q, `at < $1 AND (state = $2 OR $2 = '') ORDER BY at DESC, id DESC LIMIT $3`, before, s, min(max(limit, 1), maxPage))
}
