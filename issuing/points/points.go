// Package points lets holders of the house's debit and credit cards pay with
// points. What a card has earned is not written down anywhere: it follows from its
// booked payments, so a void, a reversal or a refund takes its points back by
// itself, and no sale writes a line for them. Written down is what was spent, under
// the reference of the sale, and what went back of it.
//
// The shop is paid in yuan, out of the house's account for it (House). Start at
// Spend.
package points

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/ledger"
	"koala/money"
)

// House is the account that pays shops for points: what the house gives away.
const House ledger.AccountID = "house.points"

// codeHouse is its chart code.
const codeHouse = "5020"

// ErrTooFew says that a card has fewer points than a sale costs.
var ErrTooFew = errors.New("points: the card has too few points")

// A Rule is the house's, from a date on.
type Rule struct {
	From    calendar.Date
	PerYuan int64 // points earned by a whole yuan of one payment
	Cost    int64 // points that a fen costs
}

// rules in order of their dates. A payment earns by the rule of its day, a sale for
// points costs by the rule of its own.
var rules = []Rule{{From: calendar.Date{Year: 2015, Month: time.January, Day: 1}, PerYuan: 1, Cost: 1}}

// RuleOn is the rule of a moment; ok is false before there was one.
func RuleOn(at time.Time) (r Rule, ok bool) {
	for _, x := range rules {
		if !at.Before(x.From.Start(calendar.Beijing)) {
			r, ok = x, true
		}
	}
	return r, ok
}

// Step is what this package keeps.
const Step = `CREATE TABLE issuing_points (
		ref TEXT PRIMARY KEY,          -- of the sale
		card TEXT NOT NULL, cost BIGINT NOT NULL, -- points a fen
		asked BIGINT NOT NULL, fen BIGINT NOT NULL, -- of the sale, and what stands of it
		at BIGINT NOT NULL, changed BIGINT NOT NULL);
	CREATE INDEX issuing_points_card ON issuing_points (card)`

// A Balance is what a card has.
type Balance struct{ Earned, Spent int64 }

// Left is what can be spent; below zero when what earned it went back after it was
// spent.
func (b Balance) Left() int64 { return b.Earned - b.Spent }

// Of reads a card's points.
func Of(q db.Reader, card string) (b Balance, err error) {
	for i, r := range rules {
		end := int64(1<<63 - 1)
		if i+1 < len(rules) {
			end = rules[i+1].From.Start(calendar.Beijing).UnixMicro()
		}
		var yuan int64
		err := q.QueryRow(`SELECT CAST(COALESCE(SUM(paid / 100), 0) AS BIGINT) FROM issuing_auth WHERE card = $1 AND kind = 'pay' AND state = 'paid' AND at >= $2 AND at < $3`,
			card, r.From.Start(calendar.Beijing).UnixMicro(), end).Scan(&yuan)
		if err != nil {
			return b, fmt.Errorf("points: %w", err)
		}
		b.Earned += yuan * r.PerYuan
	}
	err = q.QueryRow(`SELECT CAST(COALESCE(SUM(fen * cost), 0) AS BIGINT) FROM issuing_points WHERE card = $1`, card).Scan(&b.Spent)
	if err != nil {
		return b, fmt.Errorf("points: %w", err)
	}
	return b, nil
}

// Spend takes the points of a sale off a card, under its reference: ErrTooFew when
// it has not enough.
func Spend(tx *db.Tx, ref, card string, fen int64) error {
	r, ok := RuleOn(tx.Now())
	b, err := Of(tx, card)
	switch {
	case err != nil:
		return err
	case !ok || fen <= 0 || b.Left() < fen*r.Cost:
		return ErrTooFew
	}
	_, err = tx.Exec(`INSERT INTO issuing_points (ref, card, cost, asked, fen, at, changed) VALUES ($1, $2, $3, $4, $4, $5, $5)`, ref, card, r.Cost, fen, tx.Now().UnixMicro())
	return err
}

// A Spent is what is written down of a sale for points.
type Spent struct {
	Ref, Card   string
	Cost        int64 // points a fen
	Asked, Fen  int64 // of the sale, and what stands of it
	At, Changed time.Time
}

// SpentBy lists sales for points by their reference, from the one after the given,
// of all cards.
func SpentBy(q db.Reader, after string, limit int) ([]Spent, error) {
	return spent(q, `ref > $1 ORDER BY ref LIMIT $2`, after, limit)
}

func spent(q db.Reader, where string, args ...any) (out []Spent, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var x Spent
		var at, changed int64
		err := scan(&x.Ref, &x.Card, &x.Cost, &x.Asked, &x.Fen, &at, &changed)
		x.At, x.Changed = db.Moment(at), db.Moment(changed)
		out = append(out, x)
		return err
	}, `SELECT ref, card, cost, asked, fen, at, changed FROM issuing_points WHERE `+where, args...)
	if err != nil {
		err = fmt.Errorf("points: %w", err)
	}
	return out, err
}

// A Movement is what a payment earned, or a sale for points cost.
type Movement struct {
	At     time.Time
	Ref    string // of a sale for points; empty: earned
	Text   string // of a payment, as its statement has it
	Points int64  // + earned, − spent; 0: all of it went back
}

// Movements lists a card's last ones, newest first.
func Movements(q db.Reader, card string, limit int) (out []Movement, err error) {
	list, err := spent(q, `card = $1 ORDER BY at DESC, ref DESC LIMIT $2`, card, limit)
	if err != nil {
		return nil, err
	}
	for _, x := range list {
		out = append(out, Movement{At: x.At, Ref: x.Ref, Points: -x.Fen * x.Cost})
	}
	err = db.Each(q, func(scan func(...any) error) error {
		var m Movement
		var yuan, at int64
		err := scan(&yuan, &m.Text, &at)
		m.At = db.Moment(at)
		r, _ := RuleOn(m.At)
		if m.Points = yuan * r.PerYuan; m.Points > 0 {
			out = append(out, m)
		}
		return err
	}, `SELECT paid / 100, text, at FROM issuing_auth WHERE card = $1 AND kind = 'pay' AND state = 'paid' AND paid >= 100 ORDER BY at DESC, atc DESC LIMIT $2`, card, limit)
	if err != nil {
		return nil, fmt.Errorf("points: %w", err)
	}
	slices.SortStableFunc(out, func(a, b Movement) int { return b.At.Compare(a.At) })
	return out[:min(len(out), limit)], nil
}

// GiveBack returns the points of part of a sale, fen of it.
func GiveBack(tx *db.Tx, ref string, fen int64) error {
	n, err := tx.Exec(`UPDATE issuing_points SET fen = fen - $2, changed = $3 WHERE ref = $1 AND fen >= $2`, ref, fen, tx.Now().UnixMicro())
	if err == nil && n == 0 {
		err = fmt.Errorf("points of %s: more than stands of it: %w", ref, ErrTooFew)
	}
	return err
}

// Release returns the points of a sale that is given up; again it changes nothing.
func Release(tx *db.Tx, ref string) error {
	_, err := tx.Exec(`UPDATE issuing_points SET fen = 0, changed = $2 WHERE ref = $1`, ref, tx.Now().UnixMicro())
	return err
}

// Again takes the points of a sale that was given up, if the card still has them.
func Again(tx *db.Tx, ref string) error {
	var card string
	var cost, asked, fen int64
	if err := tx.QueryRow(`SELECT card, cost, asked, fen FROM issuing_points WHERE ref = $1`, ref).Scan(&card, &cost, &asked, &fen); err != nil {
		return fmt.Errorf("points of %s: %w", ref, err)
	}
	b, err := Of(tx, card)
	if err == nil && b.Left() < (asked-fen)*cost {
		err = ErrTooFew
	}
	if err == nil {
		_, err = tx.Exec(`UPDATE issuing_points SET fen = asked, changed = $2 WHERE ref = $1`, ref, tx.Now().UnixMicro())
	}
	return err
}

// Open opens the house's account; again it changes nothing.
func Open(tx *db.Tx) error {
	return ledger.OpenAccount(tx, ledger.Account{ID: House, Code: codeHouse, Name: "points paid to shops", Currency: money.CNY})
}
