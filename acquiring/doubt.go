package acquiring

import (
	"context"
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
