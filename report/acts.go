package report

import (
	"fmt"
	"slices"
	"time"

	"koala/internal/db"
	"koala/money"
)

// Kind is what an act was.
type Kind string

// The acts.
const (
	TapIn   Kind = "tap.in"
	TapOut  Kind = "tap.out"
	TapBus  Kind = "bus"
	TopUp   Kind = "topup"
	Issue   Kind = "issue"
	Block   Kind = "block"
	Unblock Kind = "unblock"
	Delete  Kind = "delete"
	Adopt   Kind = "adopt"
	SAM     Kind = "psam"
	Repair  Kind = "repair"
	Payout  Kind = "payout"
)

// An Act is one thing that happened. What is needed to find its trace is set:
// Order, Journey, or Day with Payout.
type Act struct {
	At      time.Time
	Kind    Kind
	Tail    string // last four digits of the card; empty when there is none
	Station int64  // six-digit station code; 0 none
	Money   money.Amount
	State   string // of an order
	Order   string
	Journey string
	Day     string
	Payout  string
	Payee   string
	Person  string // customer id of an order
}

// MaxActs bounds Recent.
const MaxActs = 200

// Recent lists the last acts up to now, newest first: taps by the terminal's
// clock, orders by their last change, repairs, payouts.
func Recent(q *db.Query, now time.Time, limit int) ([]Act, error) {
	limit = min(max(limit, 1), MaxActs)
	var out []Act
	for _, read := range []func(*db.Query, time.Time, int) ([]Act, error){recentTaps, recentOrders, recentRepairs, recentPayouts} {
		list, err := read(q, now, limit)
		if err != nil {
			return nil, fmt.Errorf("last acts: %w", err)
		}
		out = append(out, list...)
	}
	slices.SortStableFunc(out, func(a, b Act) int { return b.At.Compare(a.At) })
	return out[:min(len(out), limit)], nil
}

func recentTaps(q *db.Query, now time.Time, limit int) ([]Act, error) {
	rows, err := q.Rows(`SELECT d.card, d.seq, d.fen, d.at, d.journey, COALESCE(j.mode, ''), COALESCE(j.first, -1),
			COALESCE(j.finish, ''), COALESCE(j.origin, 0), COALESCE(j.target, 0)
		FROM transit_debit d LEFT JOIN transit_journey j ON j.id = d.journey
		WHERE d.at <= $1 ORDER BY d.at DESC, d.card, d.seq DESC LIMIT $2`, now.UnixMicro(), limit)
	if err != nil {
		return nil, err
	}
	var out []Act
	for rows.Next() {
		var card, mode, finish string
		var seq, fen, at, first, origin, target int64
		a := Act{Kind: TapOut}
		if err := rows.Scan(&card, &seq, &fen, &at, &a.Journey, &mode, &first, &finish, &origin, &target); err != nil {
			return nil, err
		}
		a.At, a.Tail, a.Money, a.Station = time.UnixMicro(at).UTC(), tail(card), money.Fen(fen), target
		switch {
		case mode == "bus":
			a.Kind, a.Station = TapBus, 0
		case seq == first && finish != "missing-entry":
			a.Kind, a.Station = TapIn, origin
		}
		out = append(out, a)
	}
	return out, rows.Err()
}

func recentOrders(q *db.Query, now time.Time, limit int) ([]Act, error) {
	rows, err := q.Rows(`SELECT id, kind, card, customer, fen, state, changed FROM tsm_order
		WHERE changed <= $1 ORDER BY id DESC LIMIT $2`, now.UnixMicro(), limit)
	if err != nil {
		return nil, err
	}
	var out []Act
	for rows.Next() {
		var a Act
		var card string
		var fen, at int64
		if err := rows.Scan(&a.Order, &a.Kind, &card, &a.Person, &fen, &a.State, &at); err != nil {
			return nil, err
		}
		a.At, a.Tail, a.Money = time.UnixMicro(at).UTC(), tail(card), money.Fen(fen)
		out = append(out, a)
	}
	return out, rows.Err()
}

func recentRepairs(q *db.Query, now time.Time, limit int) ([]Act, error) {
	rows, err := q.Rows(`SELECT journey, card, station, fen, at FROM transit_repair
		WHERE at <= $1 AND fen > 0 ORDER BY id DESC LIMIT $2`, now.UnixMicro(), limit)
	if err != nil {
		return nil, err
	}
	var out []Act
	for rows.Next() {
		a := Act{Kind: Repair}
		var card string
		var fen, at int64
		if err := rows.Scan(&a.Journey, &card, &a.Station, &fen, &at); err != nil {
			return nil, err
		}
		a.At, a.Tail, a.Money = time.UnixMicro(at).UTC(), tail(card), money.Fen(fen)
		out = append(out, a)
	}
	return out, rows.Err()
}

func recentPayouts(q *db.Query, now time.Time, limit int) ([]Act, error) {
	rows, err := q.Rows(`SELECT id, day, payee, fen, at FROM settlement_payout
		WHERE at <= $1 AND fen > 0 ORDER BY id DESC LIMIT $2`, now.UnixMicro(), limit)
	if err != nil {
		return nil, err
	}
	var out []Act
	for rows.Next() {
		a := Act{Kind: Payout}
		var fen, at int64
		if err := rows.Scan(&a.Payout, &a.Day, &a.Payee, &fen, &at); err != nil {
			return nil, err
		}
		a.At, a.Money = time.UnixMicro(at).UTC(), money.Fen(fen)
		out = append(out, a)
	}
	return out, rows.Err()
}

// tail is the end of a card number people know it by.
func tail(card string) string { return card[max(0, len(card)-4):] }
