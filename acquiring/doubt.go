package acquiring

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"koala/internal/db"
	"koala/issuing"
	"koala/settlement"
	"koala/spec/desfire"
	"koala/spec/pboc"
)

// DoubtState is where the case of a sale without a known end stands. The card's
// issuer decides it, as soon as the card tells.
type DoubtState = issuing.DoubtState

// The states.
const (
	DoubtOpen    = issuing.DoubtWaiting // the card: be heard again; else the desk: Rule
	DoubtClosed  = issuing.DoubtRecord  // nobody: its record came
	DoubtPaid    = issuing.DoubtPaid    // nobody: the card paid
	DoubtDropped = issuing.DoubtUnpaid  // nobody: it did not
)

// A Doubt is a sale whose end its till does not know: the card left while it was
// about to pay, and has not come back.
type Doubt struct {
	ID      string // dbt_…, of a canteen's mdb_…
	TID     string
	Shop    string
	Card    issuing.CardID
	ATC     uint16
	Kind    pboc.ClearingKind // ClearReversal: the goods were not given
	Type    byte              // 9C
	Fen     int64
	Paid    bool // the card's log shows the payment, its cryptogram is lost
	State   DoubtState
	Told    issuing.Evidence // what decided it
	By, Why string           // of a ruling
	Moved   int64            // what its counter has brought the shop so far
	Got     time.Time
	Ended   time.Time

	UID  desfire.UID // of a canteen's card
	Seq  uint32      // a canteen till's number of the sale; 0: a bank card's
	sale struct {    // of a canteen's card: when, and its values around it
		at            time.Time
		before, after int32
	}
}

// KeepDoubt hands a till's doubt to the card's issuer and returns the case. The
// same again gives the same case. One of a card that is not the house's is put
// aside for the operator, and has no case.
func (o *Office) KeepDoubt(ctx context.Context, tid string, c pboc.Clearing, paid bool) (x Doubt, err error) {
	d, err := o.heard(ctx, tid, POS)
	if err == nil && (c.TID != d.TID || c.MID != d.MID) {
		err = ErrBatch
	}
	if err != nil {
		return x, fmt.Errorf("doubt of device %s: %w", tid, err)
	}
	k, err := o.bank.TakeDoubt(ctx, c, paid, settlement.Payable(d.Shop))
	if errors.Is(err, issuing.ErrNotFound) {
		return x, o.oddDoubt(ctx, tid, c)
	}
	if err != nil {
		return x, err
	}
	err = o.store.Read(ctx, func(q *db.Query) (err error) {
		x, err = doubtOf(q, k)
		return err
	})
	return x, err
}

// oddDoubt keeps the doubt of a card that is not the house's.
func (o *Office) oddDoubt(ctx context.Context, tid string, c pboc.Clearing) error {
	wire, err := c.MarshalBinary()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBatch, err)
	}
	odd := strange{tid: tid, what: "doubt", why: WhyCard}
	if odd.hash, odd.sealed, err = o.seal(ctx, wire); err != nil {
		return err
	}
	return o.store.Write(ctx, func(tx *db.Tx) error {
		_, err := keepOdd(tx, odd)
		return err
	})
}

// doubtOf shows an issuer's case as the shop's.
func doubtOf(q db.Reader, k issuing.Doubt) (Doubt, error) {
	shop, _ := strings.CutPrefix(string(k.Payee), string(settlement.Payable("")))
	x := Doubt{ID: k.ID, TID: k.Terminal, Shop: shop, Card: k.Card, ATC: k.ATC, Kind: k.Kind, Type: k.Type, Fen: k.Fen.Minor(), Paid: k.Paid,
		State: k.State, Told: k.Evidence, By: k.Evidence.By, Why: k.Evidence.Why, Got: k.At, Ended: k.Decided}
	err := q.QueryRow(`SELECT CAST(COALESCE(SUM(fen), 0) AS BIGINT) FROM acquiring_movement WHERE card = $1 AND atc = $2`, x.Card, int64(x.ATC)).Scan(&x.Moved)
	return x, err
}

// Evidence says what the card told of a doubt: that it paid, that it did not, or
// nothing certain yet.
func Evidence(q db.Reader, x Doubt) (paid, known bool, err error) {
	if ofMeal(x.ID) {
		return mealEvidence(q, x)
	}
	paid = x.State == DoubtPaid || x.State == DoubtOpen && x.Paid
	return paid, paid || x.State == DoubtDropped, nil
}

// Rule decides a doubt that nothing else has decided: paid says that the card
// has paid. Then the shop gets the money if the goods were given, and else the
// card's holder has it back. Of a canteen's sale its till is told, and ends it so.
// by and why are kept.
func Rule(tx *db.Tx, id string, paid bool, by, why string) (Doubt, error) {
	if by == "" || len(by) > MaxID || why == "" || len(why) > MaxWhy {
		return Doubt{}, fmt.Errorf("doubt %s: %w", id, ErrRuling)
	}
	if ofMeal(id) {
		return ruleMeal(tx, id, paid, by, why)
	}
	o, ok := tx.Provided(officeKey{}).(*Office)
	if !ok {
		return Doubt{}, fmt.Errorf("doubt %s: no office in this house: %w", id, ErrNotFound)
	}
	k, err := o.bank.RuleDoubt(tx, id, paid, by, why)
	if errors.Is(err, issuing.ErrState) {
		err = ErrRuled
	}
	if err != nil {
		return Doubt{}, fmt.Errorf("doubt %s: %w", id, err)
	}
	return doubtOf(tx, k)
}

// DoubtOf reads one doubt.
func DoubtOf(q db.Reader, id string) (Doubt, error) {
	if ofMeal(id) {
		return mealDoubtOf(q, id)
	}
	k, err := issuing.DoubtOf(q, id)
	if err != nil {
		return Doubt{}, err
	}
	return doubtOf(q, k)
}

// Doubts reads the open ones by id, from the one after the given: those of bank
// cards, then those of canteens.
func Doubts(q db.Reader, after string, limit int) (out []Doubt, err error) {
	limit = limited(limit)
	if !ofMeal(after) {
		list, err := issuing.Doubts(q, DoubtOpen, after, limit)
		if err != nil {
			return nil, err
		}
		for _, k := range list {
			x, err := doubtOf(q, k)
			if err != nil {
				return nil, err
			}
			out = append(out, x)
		}
		after = ""
	}
	if len(out) == limit {
		return out, nil
	}
	more, err := mealDoubts(q, `WHERE state = $1 AND id > $2 ORDER BY id LIMIT $3`, DoubtOpen, after, limit-len(out))
	return append(out, more...), err
}

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
