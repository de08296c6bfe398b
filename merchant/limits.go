package merchant

import (
	"errors"
	"fmt"

	"koala/internal/db"
	"koala/internal/outbox"
	"koala/money"
)

// A Risk is how far the house trusts a merchant: A most, D least.
type Risk string

// The levels.
const (
	RiskA Risk = "A" // years of trading without a case
	RiskB Risk = "B" // papers complete, an enterprise
	RiskC Risk = "C" // new, or a person
	RiskD Risk = "D" // under watch
)

// riskAtStart is the level of a new merchant (house rule).
func riskAtStart(f Form) Risk {
	if f == Enterprise {
		return RiskB
	}
	return RiskC
}

// Allowed is what a level lets a merchant do beside plain sales.
type Allowed struct {
	Keyed    bool // card numbers entered by hand
	Offline  bool // sales without asking the issuer
	PreAuth  bool // amounts held for later
	AtOnce   bool // payout on the same day
	Credit   bool // credit cards on mobile readers
	FreeHand bool // refunds of more than a day's takings without staff
}

// allowed is the house's rule: each level loses what the one above has.
var allowed = map[Risk]Allowed{
	RiskA: {Keyed: true, Offline: true, PreAuth: true, AtOnce: true, Credit: true, FreeHand: true},
	RiskB: {Offline: true, PreAuth: true, AtOnce: true, Credit: true},
	RiskC: {PreAuth: true, AtOnce: true},
	RiskD: {},
}

// Allows is what the level lets a merchant do.
func (r Risk) Allows() Allowed { return allowed[r] }

// SetRisk moves a merchant to another level by a decision of staff or of the
// risk rules, which give their name.
func SetRisk(tx *db.Tx, merchant string, to Risk, by, why string) error {
	bad := func(err error) error { return fmt.Errorf("risk of %s to %q: %w", merchant, to, err) }
	if _, known := allowed[to]; !known || by == "" || why == "" || len(why) > MaxWhy {
		return bad(ErrStaff)
	}
	m, err := Of(tx, merchant)
	if err != nil || m.Risk == to {
		return err
	}
	if _, err := tx.Exec(`UPDATE merchant_party SET risk = $2 WHERE id = $1`, merchant, to); err != nil {
		return bad(err)
	}
	if err := tell(tx, Event{Merchant: merchant, About: merchant, What: "risk", From: string(m.Risk), To: string(to), By: by, Why: why}); err != nil {
		return bad(err)
	}
	return outbox.Put(tx, outbox.Event{Name: "merchant.rated", Subject: merchant, Data: map[string]string{"was": string(m.Risk), "is": string(to), "by": by}})
}

// Limits bound what one shop takes on cards of one class.
type Limits struct {
	Single  money.Amount // one sale
	Daily   money.Amount // a Beijing day
	Monthly money.Amount // a calendar month
}

// The card classes that limits differ by; they are settlement's fee classes.
var cardClasses = map[string]int64{"debit": 100, "credit": 50, "prepaid": 10, "ecash": 10} // percent of the level's limit

// kindShare is how much of a level's limit a kind of terminal has, percent. A
// mobile reader is easily carried to where nothing is sold.
var kindShare = map[Kind]int64{POS: 100, Kiosk: 20, Reader: 10}

// levelLimits are those of a till and debit cards (house rule).
var levelLimits = map[Risk]Limits{
	RiskA: {money.Fen(500_000_00), money.Fen(5_000_000_00), money.Fen(100_000_000_00)},
	RiskB: {money.Fen(100_000_00), money.Fen(500_000_00), money.Fen(10_000_000_00)},
	RiskC: {money.Fen(50_000_00), money.Fen(200_000_00), money.Fen(2_000_000_00)},
	RiskD: {money.Fen(5_000_00), money.Fen(20_000_00), money.Fen(200_000_00)},
}

// DefaultLimits are the limits of a kind of terminal at a merchant of a level
// for a card class (debit, credit, prepaid, ecash); false: no such thing.
func DefaultLimits(k Kind, r Risk, class string) (Limits, bool) {
	l, ok := levelLimits[r]
	share := kindShare[k] * cardClasses[class]
	if !ok || share == 0 {
		return Limits{}, false
	}
	return Limits{l.Single.Portion(share, 10_000, money.Down), l.Daily.Portion(share, 10_000, money.Down), l.Monthly.Portion(share, 10_000, money.Down)}, true
}

// Check tells whether a sale of amount may be taken when the shop has taken
// day and month on cards of this class so far (ErrLimit).
func (l Limits) Check(amount, day, month money.Amount) error {
	switch {
	case amount.Cmp(l.Single) > 0:
		return fmt.Errorf("one sale of at most %s: %w", l.Single, ErrLimit)
	case day.Add(amount).Cmp(l.Daily) > 0:
		return fmt.Errorf("%s a day: %w", l.Daily, ErrLimit)
	case month.Add(amount).Cmp(l.Monthly) > 0:
		return fmt.Errorf("%s a month: %w", l.Monthly, ErrLimit)
	}
	return nil
}

// least is the lower of both in each bound.
func (l Limits) least(o Limits) Limits {
	low := func(a, b money.Amount) money.Amount {
		if a.Cmp(b) < 0 {
			return a
		}
		return b
	}
	return Limits{low(l.Single, o.Single), low(l.Daily, o.Daily), low(l.Monthly, o.Monthly)}
}

// LimitsOf reads the limits of a sale: the shop's own where staff set some,
// otherwise those of the level; a mobile reader never has more than its share.
func LimitsOf(q db.Reader, s Standing, class string) (Limits, error) {
	def, ok := DefaultLimits(s.Terminal.Kind, s.Risk, class)
	if !ok {
		return Limits{}, fmt.Errorf("limits of %s for %q: %w", s.Terminal.TID, class, ErrLimit)
	}
	var single, daily, monthly int64
	err := q.QueryRow(`SELECT single, daily, monthly FROM merchant_limit WHERE shop = $1 AND class = $2`, s.Shop.ID, class).Scan(&single, &daily, &monthly)
	switch {
	case errors.Is(err, db.ErrNoRows):
		return def, nil
	case err != nil:
		return Limits{}, fmt.Errorf("limits of %s: %w", s.Shop.ID, err)
	}
	own := Limits{money.Fen(single), money.Fen(daily), money.Fen(monthly)}
	if s.Terminal.Kind == Reader {
		return own.least(def), nil
	}
	return own, nil
}

// SetLimits gives a shop limits of its own for a card class.
func SetLimits(tx *db.Tx, shop, class string, l Limits, by, why string) error {
	bad := func(err error) error { return fmt.Errorf("limits of %s for %q: %w", shop, class, err) }
	s, err := ShopOf(tx, shop)
	if err != nil {
		return bad(err)
	}
	if by == "" || why == "" || len(why) > MaxWhy {
		return bad(ErrStaff)
	}
	if cardClasses[class] == 0 || l.Single.Sign() < 0 || l.Daily.Cmp(l.Single) < 0 || l.Monthly.Cmp(l.Daily) < 0 {
		return bad(ErrLimit)
	}
	_, err = tx.Exec(`INSERT INTO merchant_limit (shop, class, single, daily, monthly, who, why, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (shop, class) DO UPDATE SET single = excluded.single, daily = excluded.daily, monthly = excluded.monthly,
			who = excluded.who, why = excluded.why, at = excluded.at`,
		shop, class, l.Single.Minor(), l.Daily.Minor(), l.Monthly.Minor(), by, why, micros(tx.Now()))
	if err != nil {
		return bad(err)
	}
	return tell(tx, Event{Merchant: s.Merchant, About: shop, What: "limits", To: class + " " + l.Single.Yuan() + "/" + l.Daily.Yuan() + "/" + l.Monthly.Yuan(), By: by, Why: why})
}
