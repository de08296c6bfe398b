package acquiring

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"koala/internal/db"
	"koala/issuing"
	"koala/spec/desfire"
	"koala/spec/pboc"
)

// mealDoubt begins the ids of canteens' cases; those of bank cards are the
// issuer's.
const mealDoubt = "mdb"

func ofMeal(id string) bool { return strings.HasPrefix(id, mealDoubt+"_") }

// KeepMealDoubt keeps a sale whose end a canteen's till does not know, and
// returns the case: s is as the till began it, without a MAC. The same again
// gives the same case, and what has been decided since; another sale under a used
// number is put aside and has no case. A case moves no money: the till ends the
// sale as decided and hands it in, and that is booked once by till and number.
func (o *Office) KeepMealDoubt(ctx context.Context, tid string, s desfire.Sale) (x Doubt, err error) {
	d, err := o.heard(ctx, tid, Canteen)
	if err == nil && !doubtful(s, tid) {
		err = ErrBatch
	}
	if err != nil {
		return x, fmt.Errorf("doubt of device %s: %w", tid, err)
	}
	odd := strange{tid: tid, what: "doubt", why: WhyForked}
	if odd.hash, odd.sealed, err = o.seal(ctx, s.Bytes()); err != nil {
		return x, err
	}
	err = o.store.Write(ctx, func(tx *db.Tx) error {
		var body []byte
		var id string
		err := tx.QueryRow(`SELECT id, body FROM acquiring_meal_doubt WHERE till = $1 AND seq = $2`, tid, int64(s.Seq)).Scan(&id, &body)
		switch {
		case errors.Is(err, db.ErrNoRows):
			x, err = o.enterMealDoubt(tx, d, s)
		case err == nil && !bytes.Equal(body, s.Bytes()):
			_, err = keepOdd(tx, odd)
		case err == nil:
			x, err = mealDoubtOf(tx, id)
		}
		return err
	})
	return x, err
}

// doubtful says that a sale can be one that its till is not sure of.
func doubtful(s desfire.Sale, tid string) bool {
	moved := int64(s.Before) - int64(s.After)
	if s.Kind == desfire.Refund {
		moved = -moved
	}
	return s.Till == tillOf(tid) && s.App == desfire.CanteenAID && s.Seq != 0 && s.MAC == [8]byte{} &&
		(s.Kind == desfire.Purchase || s.Kind == desfire.Refund) && moved == int64(s.Fen)
}

func (o *Office) enterMealDoubt(tx *db.Tx, d Device, s desfire.Sale) (x Doubt, err error) {
	at, err := s.At.Moment()
	if err != nil {
		at = tx.Now()
	}
	card, err := o.cardOf(tx, s.Card, issuing.Canteen, at)
	if err != nil {
		return x, err
	}
	state, ended := DoubtOpen, int64(0)
	m, err := mealAt(tx, d.TID, s.Seq)
	switch {
	case err == nil: // the till has lost what it handed in: it ends as that says
		if state, ended = DoubtPaid, micros(tx.Now()); m.Kind == desfire.Void {
			state = DoubtDropped
		}
	case !errors.Is(err, ErrNotFound):
		return x, err
	}
	id := tx.NewID(mealDoubt)
	_, err = tx.Exec(`INSERT INTO acquiring_meal_doubt (till, seq, id, shop, uid, card, body, at, got, state, evidence, ended) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, '{}', $11)`,
		d.TID, int64(s.Seq), id, d.Shop, hex.EncodeToString(s.Card[:]), card, s.Bytes(), micros(at), micros(tx.Now()), state, ended)
	if err != nil {
		return x, err
	}
	return mealDoubtOf(tx, id)
}

// closeMealDoubt ends the case of a sale whose record has come after all.
func closeMealDoubt(tx *db.Tx, till string, seq uint32) error {
	_, err := tx.Exec(`UPDATE acquiring_meal_doubt SET state = $3, ended = $4 WHERE till = $1 AND seq = $2 AND state = $5`, till, int64(seq), DoubtClosed, micros(tx.Now()), DoubtOpen)
	return err
}

// ruleMeal decides a canteen's case; its till learns it when it next asks.
func ruleMeal(tx *db.Tx, id string, paid bool, by, why string) (Doubt, error) {
	state := DoubtDropped
	if paid {
		state = DoubtPaid
	}
	text, err := json.Marshal(issuing.Evidence{By: by, Why: why})
	if err != nil {
		return Doubt{}, err
	}
	n, err := tx.Exec(`UPDATE acquiring_meal_doubt SET state = $2, evidence = $3, ended = $4 WHERE id = $1 AND state = $5`, id, state, string(text), micros(tx.Now()), DoubtOpen)
	if err != nil {
		return Doubt{}, err
	}
	x, err := mealDoubtOf(tx, id)
	if err == nil && n == 0 {
		err = fmt.Errorf("doubt %s: %w", id, ErrRuled)
	}
	return x, err
}

// valueSince is what the card's next sale that was handed in began with.
func valueSince(q db.Reader, x Doubt) (value int32, known bool, err error) {
	list, err := meals(q, `WHERE uid = $1 AND at > $2 AND NOT (till = $3 AND seq = $4) ORDER BY at, seq LIMIT 1`, hex.EncodeToString(x.UID[:]), micros(x.sale.at), x.TID, int64(x.Seq))
	if err != nil || len(list) == 0 {
		return 0, false, err
	}
	s, err := desfire.ParseSale(list[0].body)
	return s.Before, err == nil, err
}

// mealEvidence says what the card's value at its next sale tells. It is a
// pointer for staff and decides nothing: a sale that has not come in, or a load,
// may stand between.
func mealEvidence(q db.Reader, x Doubt) (paid, known bool, err error) {
	switch x.State {
	case DoubtOpen:
		value, known, err := valueSince(q, x)
		return value == x.sale.after, known && (value == x.sale.after || value == x.sale.before), err
	case DoubtClosed:
		m, err := mealAt(q, x.TID, x.Seq)
		return err == nil && m.Kind != desfire.Void, err == nil, err
	}
	return x.State == DoubtPaid, true, nil
}

func mealDoubtOf(q db.Reader, id string) (Doubt, error) {
	list, err := mealDoubts(q, `WHERE id = $1`, id)
	return one(list, err, "doubt "+id)
}

func mealDoubts(q db.Reader, where string, args ...any) (out []Doubt, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		x := Doubt{Kind: pboc.ClearSale}
		var seq, at, got, ended int64
		var body []byte
		var told string
		if err := scan(&x.ID, &x.TID, &seq, &x.Shop, &x.Card, &body, &at, &got, &x.State, &told, &ended); err != nil {
			return err
		}
		s, err := desfire.ParseSale(body)
		if s.Kind == desfire.Refund {
			x.Kind = pboc.ClearRefund
		}
		x.Seq, x.UID, x.Fen, x.Got = uint32(seq), s.Card, int64(s.Fen), db.Moment(got)
		x.sale.at, x.sale.before, x.sale.after = db.Moment(at), s.Before, s.After
		if ended != 0 {
			x.Ended = db.Moment(ended)
		}
		bad := json.Unmarshal([]byte(told), &x.Told)
		x.By, x.Why = x.Told.By, x.Told.Why
		out = append(out, x)
		return errors.Join(err, bad)
	}, `SELECT id, till, seq, shop, card, body, at, got, state, evidence, ended FROM acquiring_meal_doubt `+where, args...)
	return out, err
}
