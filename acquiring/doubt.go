package acquiring

import (
	"context"
	"fmt"
	"time"

	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/settlement"
	"koala/spec/pboc"
)

// A DoubtState is where the case of a sale without a known end stands.
type DoubtState string

// The states, and who acts next.
const (
	DoubtOpen    DoubtState = "open"    // the till, when the card comes back; else the desk: Rule
	DoubtClosed  DoubtState = "closed"  // nobody: its record came
	DoubtPaid    DoubtState = "paid"    // nobody: ruled, the card paid
	DoubtDropped DoubtState = "dropped" // nobody: ruled, it did not, or it has its money back
)

// Words says the state for people, in Chinese if zh.
func (s DoubtState) Words(zh bool) string {
	return pick(map[DoubtState][2]string{DoubtOpen: {"open", "待核实"}, DoubtClosed: {"the record came", "已补送"},
		DoubtPaid: {"ruled: paid", "裁定已付"}, DoubtDropped: {"ruled: not paid", "裁定未付"}}[s], string(s), zh)
}

// A Doubt is a sale whose end its till does not know: the card left while it was
// about to pay, and has not come back.
type Doubt struct {
	ID      string // dbt_…
	TID     string
	Shop    string
	Card    issuing.CardID // empty: not of this house
	ATC     uint16
	Kind    pboc.ClearingKind // ClearReversal: the goods were not given
	Type    byte              // 9C
	Fen     int64
	Paid    bool // the card's log shows the payment, its cryptogram is lost
	State   DoubtState
	By, Why string // of a ruling
	Moved   int64  // to the shop by a ruling
	Got     time.Time
	Ended   time.Time
}

// KeepDoubt keeps a till's doubt for the desk and returns its case. The same
// again gives the same case; Paid is never taken back.
func (o *Office) KeepDoubt(ctx context.Context, tid string, c pboc.Clearing, paid bool) (x Doubt, err error) {
	d, err := o.heard(ctx, tid, POS)
	if err == nil && (c.TID != d.TID || c.MID != d.MID) {
		err = ErrBatch
	}
	if err != nil {
		return x, fmt.Errorf("doubt of device %s: %w", tid, err)
	}
	card, err := o.bank.CardOf(ctx, c.PAN, c.PSN)
	if err != nil {
		return x, err
	}
	key, err := o.keys.Token(ctx, tid+"|"+c.Key())
	if err != nil {
		return x, err
	}
	id := "dbt_" + key
	err = o.store.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO acquiring_doubt (id, tid, shop, card, atc, kind, type, fen, paid, state, by_whom, note, moved, got, ended)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, '', '', 0, $11, 0)
			ON CONFLICT (id) DO UPDATE SET paid = acquiring_doubt.paid OR excluded.paid`,
			id, tid, d.Shop, card, int64(c.ATC), byte(c.Kind), c.Type, int64(c.Fen), paid, DoubtOpen, micros(tx.Now()))
		if err == nil {
			var n int64 // what came before the doubt was told
			err = tx.QueryRow(`SELECT COUNT(*) FROM acquiring_record WHERE tid = $1 AND card = $2 AND atc = $3 AND card <> ''`, tid, card, int64(c.ATC)).Scan(&n)
			if err == nil && n > 0 {
				err = endDoubt(tx, tid, card, c.ATC)
			}
		}
		if err == nil {
			x, err = DoubtOf(tx, id)
		}
		return err
	})
	return x, err
}

// endDoubt closes the case of a sale whose record has come.
func endDoubt(tx *db.Tx, tid string, card issuing.CardID, atc uint16) error {
	if card == "" {
		return nil
	}
	_, err := tx.Exec(`UPDATE acquiring_doubt SET state = $4, ended = $5 WHERE tid = $1 AND card = $2 AND atc = $3 AND state = $6`,
		tid, card, int64(atc), DoubtClosed, micros(tx.Now()), DoubtOpen)
	return err
}

// Evidence says what the card's own balances tell about a doubt: that money left
// it between two counters around it, that none did, or nothing yet.
func Evidence(q db.Reader, x Doubt) (paid, known bool, err error) {
	if x.Card == "" {
		return false, false, nil
	}
	c, err := issuing.Get(q, x.Card)
	if err != nil || c.Known.Offline <= int(x.ATC) {
		return x.Paid, x.Paid, err
	}
	gaps, err := issuing.Gaps(q, x.Card)
	for _, g := range gaps {
		if g.After < x.ATC && x.ATC <= g.Before && g.Fen.Minor() >= x.Fen {
			return true, true, err
		}
	}
	return x.Paid, true, err
}

// Rule decides a doubt: paid says that the card has paid. Then the shop gets the
// money if the goods were given, and else the card's holder has it back. by and
// why are kept.
func Rule(tx *db.Tx, id string, paid bool, by, why string) (x Doubt, err error) {
	if by == "" || len(by) > MaxID || why == "" || len(why) > MaxWhy {
		return x, fmt.Errorf("doubt %s: %w", id, ErrRuling)
	}
	x, err = DoubtOf(tx, id)
	if err == nil && x.State != DoubtOpen {
		err = ErrRuled
	}
	if err != nil {
		return x, err
	}
	x.State, x.By, x.Why, x.Ended = DoubtDropped, by, why, tx.Now()
	if paid && x.Card != "" && x.Type != issuing.TypeLoad {
		x.State = DoubtPaid
		if err := x.pay(tx); err != nil {
			return x, fmt.Errorf("doubt %s: %w", id, err)
		}
	}
	_, err = tx.Exec(`UPDATE acquiring_doubt SET state = $2, by_whom = $3, note = $4, moved = $5, ended = $6 WHERE id = $1`,
		id, x.State, by, why, x.Moved, micros(x.Ended))
	return x, err
}

// pay books a ruled payment at the bank, under the name that its record would
// have: a record that comes after all moves nothing more.
func (x *Doubt) pay(tx *db.Tx) error {
	account := settlement.Payable(x.Shop)
	old, err := ledger.BalanceOf(tx, account)
	if err == nil {
		err = issuing.RuleOffline(tx, x.Card, x.ATC, x.Kind, fen(x.Fen), account)
	}
	if err != nil {
		return err
	}
	now, err := ledger.BalanceOf(tx, account)
	if err != nil {
		return err
	}
	if x.Moved = now.Posted.Minor() - old.Posted.Minor(); x.Moved == 0 {
		return nil
	}
	return settlement.Capture(tx, settlement.Item{Ref: "ruled:" + x.ID, Payee: x.Shop, Amount: fen(x.Moved), Kind: "sale"})
}

// DoubtOf reads one doubt.
func DoubtOf(q db.Reader, id string) (Doubt, error) {
	list, err := doubts(q, `WHERE id = $1`, id)
	return one(list, err, "doubt "+id)
}

// Doubts reads the open ones by id, from the one after the given.
func Doubts(q db.Reader, after string, limit int) ([]Doubt, error) {
	return doubts(q, `WHERE state = $1 AND id > $2 ORDER BY id LIMIT $3`, DoubtOpen, after, limited(limit))
}

func doubts(q db.Reader, where string, args ...any) (out []Doubt, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var x Doubt
		var atc, kind, typ, got, ended int64
		err := scan(&x.ID, &x.TID, &x.Shop, &x.Card, &atc, &kind, &typ, &x.Fen, &x.Paid, &x.State, &x.By, &x.Why, &x.Moved, &got, &ended)
		x.ATC, x.Kind, x.Type, x.Got, x.Ended = uint16(atc), pboc.ClearingKind(kind), byte(typ), db.Moment(got), db.Moment(ended)
		out = append(out, x)
		return err
	}, `SELECT id, tid, shop, card, atc, kind, type, fen, paid, state, by_whom, note, moved, got, ended FROM acquiring_doubt `+where, args...)
	return out, err
}
