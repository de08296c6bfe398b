package market

import (
	"context"
	"errors"
	"fmt"
	"time"

	"koala/band"
	"koala/calendar"
	"koala/customer"
	"koala/dispute"
	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/settlement"
	"koala/switching"
	"koala/terminal/unionpay"
)

// Dice is what people draw from: IntN gives 0 to n-1.
type Dice interface{ IntN(n int) int }

// A Shopper is who comes to a till, and with what.
type Shopper struct {
	Card  *Card             // of another institution; nil: a band
	Band  string            // whose element is held to the terminal, or inserted
	Payer customer.ID       // or who shows a payment code instead and pays out of the wallet
	Cash  bool              // it pays from its e-cash by a tap
	Most  int64             // what the shopper may spend, fen; 0: whatever it costs
	Fault func() band.Fault // what a contact suffers
}

// A sold is a sale that may be given back later.
type sold struct {
	till, rrn string
	fen       uint64
	card      Card // none: paid by code
	at        time.Time
}

// maxSold bounds how many sales are remembered.
const maxSold = 200

// Trade is one visit to a shop that dice choose: a sale, or a room that is held
// and paid; sometimes voided, with a tip, or a sale of before is given back.
func (m *Market) Trade(ctx context.Context, dice Dice, who Shopper) (Outcome, error) {
	s := m.shops[dice.IntN(len(m.shops))]
	for who.Payer != "" && s.Mobile { // it seals no sale without a card
		s = m.shops[dice.IntN(len(m.shops))]
	}
	for who.Card != nil && who.Card.Credit && s.Mobile && dice.IntN(oddly) > 0 { // its reader may not take credit cards
		s = m.shops[dice.IntN(len(m.shops))]
	}
	t := s.Tills[dice.IntN(len(s.Tills))]
	fen := uint64(s.Low*yuan) + uint64(dice.IntN((s.High-s.Low)*yuan))
	if who.Most > 0 {
		fen = min(fen, uint64(who.Most))
	}
	if (who.Card != nil || who.Payer != "") && dice.IntN(100) < 6 {
		if out, did, err := m.giveBack(ctx, dice); did || err != nil {
			return out, err
		}
	}
	if who.Payer != "" {
		return m.tradeByCode(ctx, dice, t, fen, who.Payer)
	}
	o := Order{Order: unionpay.Order{Kind: unionpay.Sale, Fen: fen}}
	if s.Holds && !who.Cash && dice.IntN(2) == 0 {
		o.Kind = unionpay.PreAuth
	}
	who.present(dice, t, &o)
	out, err := m.try(ctx, t.ID, o)
	if err != nil || !out.Approved || out.Entry == nil {
		return out, err
	}
	switch {
	case o.Kind == unionpay.PreAuth:
		return out, m.checkOut(ctx, dice, t, out)
	case s.Tips && out.Entry.Kind == unionpay.Sale && dice.IntN(3) == 0:
		_, err = m.try(ctx, t.ID, Order{Order: unionpay.Order{Kind: unionpay.Tip, STAN: out.STAN, Fen: fen + fen*uint64(dice.IntN(15))/100}})
	case out.Entry.Kind == unionpay.Sale && dice.IntN(100) < 6:
		void := Order{Void: out.STAN}
		if t.Mobile {
			who.present(dice, t, &void) // the reader asks for the card again
		}
		_, err = m.try(ctx, t.ID, void)
	case who.Card != nil && out.Entry.Kind == unionpay.Sale:
		m.remember(sold{t.ID, out.Get(37), fen, *who.Card, m.cfg.Clock.Now()})
	}
	return out, err
}

// oddly is one in how many does what a shop may not.
const oddly = 8

// present brings the shopper's card to the terminal.
func (w Shopper) present(dice Dice, t *Till, o *Order) {
	if c := w.Card; c != nil {
		o.PIN = c.PIN
		every := 5
		if !t.Keys {
			every *= oddly // a cashier who does not know better
		}
		if o.Card = (unionpay.Card{Track2: c.Track2}); !t.Mobile && dice.IntN(every) == 0 {
			o.Card = unionpay.Card{PAN: c.Number, Expiry: c.Expiry}
		}
		return
	}
	o.Band, o.Air = w.Band, w.Cash // a debit card is inserted: its issuer is asked
	if w.Fault != nil {
		o.Fault = w.Fault()
	}
}

// maxTries is how often a cashier tries again at once.
const maxTries = 3

// try is Do until the line holds, a few times.
func (m *Market) try(ctx context.Context, till string, o Order) (out Outcome, err error) {
	for range maxTries {
		out, err = m.Do(ctx, till, o)
		if err != nil {
			return out, err
		}
		if out.Err == nil || errors.Is(out.Err, unionpay.ErrLimit) {
			break
		}
		m.count("tries again", 1)
		o.Fault = band.Fault{}
	}
	m.told(out, o)
	return out, nil
}

// told counts what came of a visit.
func (m *Market) told(out Outcome, o Order) {
	what := o.Kind.String()
	if o.Void != 0 {
		what = "void"
	}
	switch {
	case errors.Is(out.Err, unionpay.ErrLimit): // by the parameters that the house gave it
		m.count("not taken by the terminal: "+what, 1)
	case out.Err != nil:
		m.count("no answer: "+what, 1)
	case out.Approved && out.Entry != nil && out.Entry.Kind == unionpay.TapSale:
		m.count("approved: tap", 1)
	case out.Approved:
		m.count("approved: "+what, 1)
	case out.Code != "":
		m.count(fmt.Sprintf("declined %s: %s", out.Code, what), 1)
	default:
		m.count("declined: "+what, 1)
	}
}

// checkOut pays for a room that was held, or gives it up.
func (m *Market) checkOut(ctx context.Context, dice Dice, t *Till, out Outcome) error {
	o := Order{Order: unionpay.Order{Kind: unionpay.Completion, STAN: out.STAN, Fen: out.Fen() * uint64(80+dice.IntN(36)) / 100}}
	if dice.IntN(4) == 0 {
		o = Order{Void: out.STAN}
	}
	_, err := m.try(ctx, t.ID, o)
	return err
}

func (m *Market) remember(s sold) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.sales) < maxSold && s.rrn != "" {
		m.sales = append(m.sales, s)
	}
}

// giveBack refunds a sale of before, whole or in part, once.
func (m *Market) giveBack(ctx context.Context, dice Dice) (out Outcome, did bool, err error) {
	m.mu.Lock()
	if len(m.sales) == 0 {
		m.mu.Unlock()
		return out, false, nil
	}
	n := dice.IntN(len(m.sales))
	s := m.sales[n]
	m.sales = append(m.sales[:n:n], m.sales[n+1:]...)
	m.mu.Unlock()
	t, err := m.Till(s.till)
	if err != nil || t.Mobile || calendar.Of(s.at, calendar.Beijing).DaysUntil(calendar.Of(m.cfg.Clock.Now(), calendar.Beijing)) > 25 {
		return out, false, err
	}
	fen := s.fen
	if dice.IntN(2) == 0 {
		fen = 1 + uint64(dice.IntN(int(s.fen)))
	}
	back := unionpay.Order{Kind: unionpay.Refund, RRN: s.rrn, Fen: fen, Card: unionpay.Card{Track2: s.card.Track2}}
	if t.Keys { // the guest has left
		back.Card = unionpay.Card{PAN: s.card.Number, Expiry: s.card.Expiry}
	}
	out, err = m.Do(ctx, s.till, Order{Order: back})
	m.told(out, Order{Order: unionpay.Order{Kind: unionpay.Refund}})
	return out, true, err
}

// PayNow pays the shops that agreed to it what they have earned so far.
func (m *Market) PayNow(ctx context.Context) error {
	for _, s := range m.shops {
		if !s.AtOnce {
			continue
		}
		err := m.write(ctx, "payout at once", func(tx *db.Tx) error {
			offer, err := settlement.OfferNow(tx, s.Payee, tx.Now())
			if err != nil || offer.Refusal != nil || offer.Amount.Sign() <= 0 {
				return err
			}
			_, err = settlement.PayNow(tx, s.Payee, offer)
			return err
		})
		if err != nil {
			return fmt.Errorf("shop %s: %w", s.ID, err)
		}
	}
	return nil
}

// Quarrel has the house's own bank take one sale back from its shop, which gives
// in, and staff keep a part of another shop's money until Forgive.
func (m *Market) Quarrel(ctx context.Context) error {
	if m.quarrelled {
		return nil
	}
	var sale switching.Txn
	err := m.read(ctx, func(q *db.Query) error {
		list, err := switching.Live(q, switching.Filter{State: switching.Cleared, Limit: page})
		for _, t := range list {
			if t.Kind == "sale" && t.Host == "" && t.Card != "" && t.Refunded.IsZero() {
				sale = t
			}
		}
		return err
	})
	if err != nil || sale.RRN == "" {
		return err
	}
	other := m.shops[0]
	if other.Payee == sale.Shop {
		other = m.shops[1]
	}
	err = m.write(ctx, "chargeback", func(tx *db.Tx) error {
		account, err := issuing.AccountOf(tx, sale.Card)
		if err != nil {
			return err
		}
		c, err := dispute.Open(tx, dispute.Claim{Ref: "CB" + sale.RRN, Amount: sale.Due, Reason: "4515", Money: true, At: tx.Now(), Why: "the cardholder does not know the sale",
			Sale: dispute.Sale{RRN: sale.RRN, Payee: sale.Shop, Counter: account, Class: sale.Class, Amount: sale.Due, At: sale.At}})
		if err == nil && c.State == dispute.Charged {
			_, err = dispute.Accept(tx, c.ID, "shop", "the receipt is lost")
		}
		if err == nil {
			_, err = settlement.PutHold(tx, settlement.Hold{ID: holdID, Payee: other.Payee, Reason: settlement.ForStaff, Amount: money.Fen(50 * yuan), Text: "papers are missing"})
		}
		return err
	})
	if err != nil {
		return err
	}
	m.quarrelled = true
	m.disputed[sale.Shop] -= sale.Due.Minor()
	m.count("chargebacks", 1)
	m.count("holds", 1)
	return nil
}

// holdID is the name of the hold that Quarrel makes.
const holdID = "hold_city"

// Forgive ends the hold.
func (m *Market) Forgive(ctx context.Context) error {
	if !m.quarrelled {
		return nil
	}
	return m.write(ctx, "release", func(tx *db.Tx) error {
		h, err := settlement.HoldOf(tx, holdID)
		if err != nil || !h.Ended.IsZero() {
			return err
		}
		return settlement.Release(tx, holdID)
	})
}

// Fees sums what the shops were charged, fen.
func (m *Market) Fees(ctx context.Context) (fen int64, err error) {
	err = m.read(ctx, func(q *db.Query) error {
		for _, s := range m.shops {
			n, err := settlement.Charged(q, s.Payee)
			if err != nil {
				return err
			}
			fen += n.Minor()
		}
		return nil
	})
	return fen, err
}
