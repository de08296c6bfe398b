package transit

import (
	"errors"
	"fmt"
	"time"

	"koala/calendar"
	"koala/fare"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/ledger"
	"koala/money"
	"koala/spec/purse"
	"koala/transit/network"
)

// A Repair is what a rider says about a journey that lacks an end.
type Repair struct {
	Journey string
	Station fare.Code // where the rider entered or left
	Reason  string
	Who     string           // customer or staff, for the history
	Account ledger.AccountID // gets what was paid too much, pays what was too little
}

// A Fix is a repair that was made.
type Fix struct {
	ID      string
	Journey string
	Card    purse.Number
	At      time.Time
	Who     string
	Missing Finish
	Station fare.Code
	Reason  string
	Fen     money.Amount // what the rider paid more; negative: got back
	Account ledger.AccountID
}

// RepairQuote says what a journey would cost with the missing station filled
// in, and the difference to what was charged.
func (b Books) RepairQuote(q db.Reader, id string, station fare.Code) (quote fare.Quote, more money.Amount, err error) {
	j, err := JourneyByID(q, id)
	if err != nil {
		return quote, more, err
	}
	quote, _, err = b.fixed(q, &j, station)
	return quote, quote.Fen.Sub(j.Charged), err
}

// fixed fills the missing station in and prices the journey. The missing tap
// is taken to be at the time of the known one: nobody overstays by a repair.
func (b Books) fixed(q db.Reader, j *Journey, station fare.Code) (fare.Quote, network.Route, error) {
	if j.Mode != Rail || j.State != Incomplete {
		return fare.Quote{}, network.Route{}, fmt.Errorf("journey %s, %s: %w", j.ID, j.State, ErrNotMissing)
	}
	at := j.Entered
	switch j.Finish {
	case MissingExit:
		j.To, j.Left = station, at
	case MissingEntry:
		at = j.Left
		j.From, j.Entered = station, at
	}
	a, ok1 := b.Net.ByCode(j.From)
	z, ok2 := b.Net.ByCode(j.To)
	if !ok1 || !ok2 {
		return fare.Quote{}, network.Route{}, fmt.Errorf("journey %s, station %s: %w", j.ID, station, network.ErrUnknown)
	}
	route, err := b.Net.Route(a, z)
	if err != nil {
		return fare.Quote{}, route, err
	}
	t, err := fare.At(at)
	if err != nil {
		return fare.Quote{}, route, err
	}
	months, err := monthsBefore(q, j.Card, j.First)
	if err != nil {
		return fare.Quote{}, route, err
	}
	ride := b.Net.Ride(route)
	ride.Entered, ride.Left, ride.MonthSpent = at, at, money.Fen(0).Add(months[j.Month])
	quote, err := fare.Price(t, ride)
	return quote, route, err
}

// Repair fills in the missing end of a journey: it is priced as a complete
// one, and the difference to what was charged is paid or given back at once,
// by the operators of the lines of the route. The same again changes nothing.
func (b Books) Repair(tx *db.Tx, r Repair) (Journey, error) {
	if r.Reason == "" || len(r.Reason) > MaxReason || r.Station == 0 || r.Account == "" || r.Who == "" {
		return Journey{}, fmt.Errorf("repair of journey %q: %w", r.Journey, ErrReason)
	}
	j, err := JourneyByID(tx, r.Journey)
	if err != nil {
		return Journey{}, err
	}
	if j.State == Repaired && (j.From == r.Station || j.To == r.Station) {
		return j, nil
	}
	if err := b.mayRepair(tx, j); err != nil {
		return Journey{}, fmt.Errorf("repair of journey %s: %w", j.ID, err)
	}
	missing := j.Finish
	quote, route, err := b.fixed(tx, &j, r.Station)
	if err != nil {
		return Journey{}, err
	}
	fix := Fix{ID: tx.NewID("fix"), Journey: j.ID, Card: j.Card, At: tx.Now(), Who: r.Who, Missing: missing, Station: r.Station,
		Reason: r.Reason, Fen: quote.Fen.Sub(j.Charged), Account: r.Account}
	if err := b.pay(tx, fix, route); err != nil {
		return Journey{}, fmt.Errorf("repair of journey %s: %w", j.ID, err)
	}
	j.State, j.Adjusted, j.Due, j.Lines, j.Tariff = Repaired, fix.Fen, quote.Fen, quote.Lines, quote.Tariff
	j.Metres, j.Exception, j.Deadline, j.Changed = route.Metres, Fine, time.Time{}, tx.Now()
	if err := putJourney(tx, j); err != nil {
		return Journey{}, err
	}
	return j, outbox.Put(tx, outbox.Event{Name: "journey.repaired", Subject: j.ID, Data: b.event(j)})
}

func (b Books) mayRepair(tx *db.Tx, j Journey) error {
	r, err := RulesAt(tx.Now())
	if err != nil {
		return err
	}
	at := j.Entered
	if at.IsZero() {
		at = j.Left
	}
	switch {
	case j.Mode != Rail || j.State != Incomplete:
		return ErrNotMissing
	case tx.Now().After(at.AddDate(0, 0, r.RepairDays)):
		return ErrTooLate
	}
	month := calendar.Of(tx.Now(), calendar.Beijing)
	month.Day = 1
	n, err := repairsSince(tx, j.Card, month.Start(calendar.Beijing))
	if err == nil && n >= r.RepairsPerMonth {
		err = fmt.Errorf("%d this month: %w", n, ErrRepairs)
	}
	return err
}

// pay moves the difference of a fix between the rider and the operators and
// keeps the fix.
func (b Books) pay(tx *db.Tx, fix Fix, route network.Route) error {
	amount := fix.Fen
	if amount.Sign() < 0 {
		amount = amount.Neg()
	}
	shares, err := b.Net.Split(route, calendar.ServiceDay(tx.Now()), amount)
	if err != nil {
		return err
	}
	if fix.Fen.Sign() < 0 {
		shares = minus(nil, shares)
	}
	if !amount.IsZero() {
		if err := b.post(tx, "transit:"+fix.ID, fix.Card, -1, fix.Account, minus(shares, nil)); err != nil {
			return err
		}
	}
	return insertFix(tx, fix)
}

// keepRepair puts what a rider's repair did on a journey that was told again.
// A late tap may show another ride than the rider said; what he then paid too
// much goes back to the account of the repair at once.
func (b Books) keepRepair(tx *db.Tx, before Journey, j *Journey) error {
	j.Adjusted = before.Adjusted
	if j.State == Incomplete {
		j.State, j.From, j.To, j.Entered, j.Left = Repaired, before.From, before.To, before.Entered, before.Left
		j.Due, j.Lines, j.Tariff, j.Metres, j.Exception = before.Due, before.Lines, before.Tariff, before.Metres, before.Exception
	}
	over := j.Charged.Add(j.Adjusted).Sub(j.Due)
	switch {
	case over.IsZero():
		return nil
	case over.Sign() < 0:
		j.Exception = Overtaken // the rider owes: staff decide
		return nil
	}
	fixes, err := Fixes(tx, j.ID)
	if err != nil || len(fixes) == 0 {
		return errors.Join(err, fmt.Errorf("journey %s: %w", j.ID, ErrNoJourney))
	}
	last := fixes[len(fixes)-1]
	route, err := b.wayOf(*j)
	if err != nil {
		j.Exception = Overtaken
		return nil
	}
	last.ID, last.At, last.Who, last.Fen, last.Reason = tx.NewID("fix"), tx.Now(), "house", over.Neg(), "a late tap shows that less was due"
	if err := b.pay(tx, last, route); err != nil {
		return err
	}
	j.Adjusted = j.Adjusted.Sub(over)
	return nil
}

// wayOf is the route between the ends of a journey, filled in or not.
func (b Books) wayOf(j Journey) (network.Route, error) {
	j.Finish = Left
	return routeOf(b.Net, &j)
}

func insertFix(tx *db.Tx, f Fix) error {
	_, err := tx.Exec(`INSERT INTO transit_repair (id, journey, card, at, who, missing, station, reason, fen, account)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		f.ID, f.Journey, string(f.Card), micros(f.At), f.Who, string(f.Missing), int64(f.Station), f.Reason, f.Fen.Minor(), string(f.Account))
	return err
}

// repairsSince counts the repairs by riders; the house's own corrections do
// not use the limit up.
func repairsSince(q db.Reader, card purse.Number, from time.Time) (n int, err error) {
	err = q.QueryRow(`SELECT COUNT(*) FROM transit_repair WHERE card = $1 AND at >= $2 AND who <> 'house'`, string(card), micros(from)).Scan(&n)
	return n, err
}

// Fixes is the history of repairs of a journey, oldest first.
func Fixes(q db.Reader, journey string) (out []Fix, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		f := Fix{Journey: journey}
		var card, missing, account string
		var at, station, fen int64
		err := scan(&f.ID, &card, &at, &f.Who, &missing, &station, &f.Reason, &fen, &account)
		f.Card, f.At, f.Missing, f.Station = purse.Number(card), db.Moment(at), Finish(missing), fare.Code(station)
		f.Fen, f.Account = money.Fen(fen), ledger.AccountID(account)
		out = append(out, f)
		return err
	}, `SELECT id, card, at, who, missing, station, reason, fen, account FROM transit_repair WHERE journey = $1 ORDER BY at, id`, journey)
	return out, err
}
