package fare

import (
	"fmt"
	"time"

	"koala/calendar"
	"koala/money"
)

// A BusRide is what the price of a bus depends on.
type BusRide struct {
	Metres     int          // between the stops; ignored on a flat route
	Flat       money.Amount // the route's flat fare; zero prices by distance
	Card       bool         // paid by card, not cash
	At         time.Time
	Concession string // needs a card; its share replaces the card's
}

// PriceBus returns what a bus ride costs and why. A rider who does not tap
// out is priced by the caller with the metres to the terminus.
func PriceBus(t Tariff, r BusRide) (Quote, error) {
	if r.Metres < 0 || r.Metres > MaxMetres || r.Flat.Sign() < 0 || r.Flat.Minor() > maxFen {
		return Quote{}, fmt.Errorf("bus ride of %d m, flat %s: %w", r.Metres, r.Flat, ErrRide)
	}
	q := Quote{Tariff: t.ID, Fen: money.Fen(0), Counts: money.Fen(0)}
	q.busBase(t.Bus, r)
	pay, en, zh := t.Bus.Card, "card", "刷卡"
	if r.Concession != "" {
		c, err := t.Concession(r.Concession, calendar.ServiceDay(r.At))
		if err != nil {
			return Quote{}, err
		}
		pay, en, zh = c.Bus, c.EN, c.ZH
	}
	if r.Card && !pay.whole() {
		base := q.Fen.Minor()
		q.add("bus-card", t.share(base, pay)-base, fmt.Sprintf("%s: %s%% off", en, pay.percent(true)), fmt.Sprintf("%s按%s%%计", zh, pay.percent(false)))
	}
	return q, nil
}

func (q *Quote) busBase(b BusRule, r BusRide) {
	if !r.Flat.IsZero() {
		q.add("bus", r.Flat.Minor(), "bus, flat route", "公交单一票制")
		return
	}
	fen := b.FirstFen
	if over := r.Metres - b.FirstMetres; over > 0 && b.StepMetres > 0 {
		fen += int64((over+b.StepMetres-1)/b.StepMetres) * b.StepFen
	}
	q.add("bus", fen, fmt.Sprintf("bus %d m, first %d m %s yuan", r.Metres, b.FirstMetres, money.Fen(b.FirstFen).Yuan()),
		fmt.Sprintf("公交%d米,%d米内%s元", r.Metres, b.FirstMetres, money.Fen(b.FirstFen).Yuan()))
}
