package acquiring

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"koala/hsm"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/issuing"
	"koala/money"
	"koala/spec/desfire"
)

// CollectMeals takes the sales of a canteen's till: the price from the card's
// float to the canteen, the employer's part from what the firm has paid in, and
// refunds back. A sale is booked once by till and number; a refund waits until
// its purchase has come.
func (o *Office) CollectMeals(ctx context.Context, tid string, b desfire.SaleBatch) (h Handed, err error) {
	if err := checkBatch(tid, b.First, len(b.Sales)); err != nil {
		return h, err
	}
	d, err := o.heard(ctx, tid, Canteen)
	if err != nil {
		return h, err
	}
	h.Release = before(b.First)
	for i, s := range b.Sales {
		number := b.First + uint32(i)
		res, err := o.takeMeal(ctx, d, number, s)
		if err != nil {
			return h, fmt.Errorf("number %d of device %s: %w", number, tid, err)
		}
		h.Release, h.Results = number, append(h.Results, res)
	}
	return h, o.missing(ctx, tid, &h)
}

func (o *Office) takeMeal(ctx context.Context, d Device, number uint32, s desfire.Sale) (res Result, err error) {
	odd := strange{tid: d.TID, number: number, what: "meal"}
	if odd.hash, odd.sealed, err = o.seal(ctx, s.Bytes()); err != nil {
		return res, err
	}
	if s.Till != tillOf(d.TID) || s.App != desfire.CanteenAID || s.Seq == 0 {
		odd.why = WhyDevice
	} else if err := o.keys.CheckSale(ctx, s); errors.Is(err, hsm.ErrAC) {
		odd.why = WhyMAC
	} else if err != nil {
		return res, err // the key store does not work: the till keeps it
	}
	err = o.store.Write(ctx, func(tx *db.Tx) error {
		if odd.why != Fine {
			res, err = keepOdd(tx, odd)
			return err
		}
		res, err = o.enterMeal(tx, d, number, s, odd)
		return err
	})
	return res, err
}

// A Meal is one sale of a canteen.
type Meal struct {
	ID       string // meal_…
	TID      string
	Seq      uint32 // the till's number of the sale
	Shop     string
	UID      desfire.UID
	Card     issuing.CardID // empty: not known
	Kind     desfire.SaleKind
	Meal     byte // of the menu, 0 none
	Fen      int64
	Subsidy  int64 // what the employer paid; of a refund what went back to him
	Of       uint32
	At       time.Time // by the till's clock
	Got      time.Time
	CardDone bool
	FirmDone bool
	Why      Why

	after  int64
	number uint32
	body   []byte
}

// Fate tells whether all of it is booked.
func (m Meal) Fate() Fate {
	if m.CardDone && m.FirmDone {
		return Booked
	}
	return Suspense
}

// enterMeal keeps a verified sale and books what can be booked.
func (o *Office) enterMeal(tx *db.Tx, d Device, number uint32, s desfire.Sale, odd strange) (Result, error) {
	known, err := mealAt(tx, d.TID, s.Seq)
	switch {
	case err == nil && bytes.Equal(known.body, s.Bytes()):
		res := Result{Number: number, ID: known.ID, Fate: Known, Why: known.Why}
		if known.Fate() == Suspense {
			res.Fate = Suspense
		}
		return res, arrived(tx, d.TID, number)
	case err == nil:
		odd.why = WhyForked
		return keepOdd(tx, odd)
	case !errors.Is(err, ErrNotFound):
		return Result{}, err
	}
	if err := arrived(tx, d.TID, number); err != nil {
		return Result{}, err
	}
	m := Meal{ID: tx.NewID("meal"), TID: d.TID, Seq: s.Seq, Shop: d.Shop, UID: s.Card, Kind: s.Kind, Meal: s.Meal, Fen: int64(s.Fen), Of: s.Of,
		Subsidy: int64(s.Subsidy), Got: tx.Now(), after: int64(s.After), number: number, body: s.Bytes()}
	if m.At, err = s.At.Moment(); err != nil {
		m.At = tx.Now()
	}
	if m.Card, err = o.cardOf(tx, s.Card, issuing.Canteen, m.At); err != nil {
		return Result{}, err
	}
	if err := errors.Join(m.insert(tx), closeMealDoubt(tx, m.TID, m.Seq)); err != nil {
		return Result{}, err
	}
	if err := m.settle(tx); err != nil {
		return Result{}, err
	}
	if err := followers(tx, m); err != nil {
		return Result{}, err
	}
	return Result{Number: number, ID: m.ID, Fate: m.Fate(), Why: m.Why}, outbox.Put(tx, outbox.Event{Name: "meal." + string(m.Fate()), Subject: m.ID,
		Data: Event{Device: m.TID, Shop: m.Shop, Card: string(m.Card), Fen: m.Fen, Why: m.Why}})
}

// settle books both parts of a sale that are not booked yet, and keeps how far
// it came.
func (m *Meal) settle(tx *db.Tx) (err error) {
	m.Why = Fine
	switch m.Kind {
	case desfire.Purchase:
		err = m.purchase(tx)
	case desfire.Refund:
		err = m.refund(tx)
	default:
		m.CardDone, m.FirmDone = true, true // the number was used up, nothing moved
	}
	if err == nil {
		_, err = tx.Exec(`UPDATE acquiring_meal SET card = $3, subsidy = $4, card_done = $5, firm_done = $6, why = $7 WHERE till = $1 AND seq = $2`,
			m.TID, int64(m.Seq), m.Card, m.Subsidy, m.CardDone, m.FirmDone, m.Why)
	}
	if err != nil {
		return fmt.Errorf("sale %d of till %s: %w", m.Seq, m.TID, err)
	}
	return nil
}

func (m *Meal) ref(part string) string { return fmt.Sprintf("%s:%s:%d", part, m.TID, m.Seq) }

func (m *Meal) purchase(tx *db.Tx) error {
	if !m.CardDone {
		why, err := m.move(tx, KindMeal, "canteen", m.Fen)
		if err != nil {
			return err
		}
		m.CardDone, m.Why = why == Fine, why
	}
	if !m.FirmDone {
		why, err := m.subsidise(tx, m.Subsidy)
		if err != nil {
			return err
		}
		if m.FirmDone = why == Fine; m.Why == Fine {
			m.Why = why
		}
	}
	return nil
}

// move takes n from the card to the canteen, or gives it back; what the card
// has proved is kept with it.
func (m *Meal) move(tx *db.Tx, kind, text string, n int64) (Why, error) {
	if m.Card == "" {
		return WhyCard, nil
	}
	why, err := post(tx, m.ref("meal"), kind, text, m.Shop, issuing.Float(m.Card), n, m.At)
	if err != nil || why != Fine || m.after < 0 {
		return why, err
	}
	return why, issuing.See(tx, m.Card, issuing.Counters{Balance: money.Fen(m.after), Online: -1, Offline: -1, At: m.At, By: m.ID})
}

// subsidise takes n from what the employer has paid in, or gives it back.
func (m *Meal) subsidise(tx *db.Tx, n int64) (Why, error) {
	if n == 0 {
		return Fine, nil
	}
	firm, err := employerOf(tx, m.Shop)
	if err != nil || firm == "" {
		return WhyNoFirm, err
	}
	why, err := post(tx, m.ref("subsidy"), KindSubsidy, "employer's part of a meal", m.Shop, Funding(firm), n, m.At)
	if why == WhyShort {
		why = WhyFirm
	}
	return why, err
}

func employerOf(q db.Reader, shop string) (firm string, err error) {
	err = q.QueryRow(`SELECT s.firm FROM acquiring_shop p JOIN acquiring_site s ON s.id = p.site WHERE p.id = $1`, shop).Scan(&firm)
	if errors.Is(err, db.ErrNoRows) {
		err = nil
	}
	return firm, err
}

// refund gives back what the card's purchase took, and of the employer's part
// the same share, rounded down: after all of it, all of that.
func (m *Meal) refund(tx *db.Tx) error {
	p, err := mealAt(tx, m.TID, m.Of)
	switch {
	case errors.Is(err, ErrNotFound), err == nil && !p.CardDone:
		m.Why = WhyPurchase
		return nil
	case err != nil:
		return err
	}
	back, firm, err := p.given(tx)
	if err != nil {
		return err
	}
	if !m.CardDone {
		if p.Kind != desfire.Purchase || p.UID != m.UID || back+m.Fen > p.Fen {
			m.Why = WhyRefund
			return nil
		}
		m.Card = p.Card
		if m.Why, err = m.move(tx, KindMealBack, "canteen, given back", -m.Fen); err != nil || m.Why != Fine {
			return err
		}
		m.CardDone, back = true, back+m.Fen
	}
	if m.FirmDone {
		return nil
	}
	if p.Subsidy > 0 && !p.FirmDone {
		m.Why = WhyPurchase
		return nil
	}
	m.Subsidy = p.Subsidy*back/max(p.Fen, 1) - firm
	m.Why, err = m.subsidise(tx, -m.Subsidy)
	m.FirmDone = m.Why == Fine
	return err
}

// given sums what refunds have given back of a purchase, to the card and to the
// employer.
func (m *Meal) given(q db.Reader) (card, firm int64, err error) {
	err = q.QueryRow(`SELECT CAST(COALESCE(SUM(CASE WHEN card_done THEN fen ELSE 0 END), 0) AS BIGINT),
		CAST(COALESCE(SUM(CASE WHEN firm_done THEN subsidy ELSE 0 END), 0) AS BIGINT)
		FROM acquiring_meal WHERE till = $1 AND of = $2 AND kind = $3`, m.TID, int64(m.Seq), byte(desfire.Refund)).Scan(&card, &firm)
	return card, firm, err
}

// followers tries again the refunds that waited for this purchase.
func followers(tx *db.Tx, m Meal) error {
	if m.Fate() != Booked {
		return nil
	}
	list, err := meals(tx, `WHERE till = $1 AND of = $2 AND kind = $3 AND why <> '' ORDER BY seq`, m.TID, int64(m.Seq), byte(desfire.Refund))
	for i := range list {
		if err == nil {
			err = list[i].settle(tx)
		}
	}
	return err
}

func (m Meal) insert(tx *db.Tx) error {
	_, err := tx.Exec(`INSERT INTO acquiring_meal (till, seq, id, number, shop, uid, card, kind, meal, fen, subsidy, of, at, got, body, card_done, firm_done, why)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16, '')`,
		m.TID, int64(m.Seq), m.ID, int64(m.number), m.Shop, hex.EncodeToString(m.UID[:]), m.Card, byte(m.Kind), m.Meal, m.Fen, m.Subsidy,
		int64(m.Of), micros(m.At), micros(m.Got), m.body, false)
	return err
}

func mealAt(q db.Reader, tid string, seq uint32) (Meal, error) {
	list, err := meals(q, `WHERE till = $1 AND seq = $2`, tid, int64(seq))
	return one(list, err, fmt.Sprintf("sale %d of till %s", seq, tid))
}

func meals(q db.Reader, where string, args ...any) (out []Meal, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var m Meal
		var uid string
		var kind, meal, seq, number, of, at, got int64
		err := scan(&m.TID, &seq, &m.ID, &number, &m.Shop, &uid, &m.Card, &kind, &meal, &m.Fen, &m.Subsidy, &of, &at, &got, &m.body, &m.CardDone, &m.FirmDone, &m.Why)
		m.Seq, m.number, m.Kind, m.Meal, m.Of, m.At, m.Got = uint32(seq), uint32(number), desfire.SaleKind(kind), byte(meal), uint32(of), db.Moment(at), db.Moment(got)
		if s, bad := desfire.ParseSale(m.body); err == nil && bad == nil {
			m.UID, m.after = s.Card, int64(s.After)
		}
		out = append(out, m)
		return err
	}, `SELECT till, seq, id, number, shop, uid, card, kind, meal, fen, subsidy, of, at, got, body, card_done, firm_done, why FROM acquiring_meal `+where, args...)
	return out, err
}
