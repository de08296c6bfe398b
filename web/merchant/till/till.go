// Package till is where a merchant sees what its terminals sell: the day as it
// runs, every transaction with what was said about it in bytes, what was booked
// and its slip, and money given back. Start at Routes.
package till

import (
	"context"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/ledger"
	"koala/report"
	"koala/settlement/fee"
	"koala/switching"
	"koala/web"
	"koala/web/merchant/shell"
)

// Deps is what these pages are made of.
type Deps struct {
	Desk   shell.Desk
	Book   *ledger.Book
	Switch *switching.Host
	Slips  Slips
	Ref    func() string // names a form, so that sending it twice is one act
}

// Routes adds the pages to the console.
func Routes(m *web.Mux, d Deps) {
	d.Desk.Route(m, "GET /merchant/{$}", shell.SeeSales, d.today)
	d.Desk.Route(m, "GET /merchant/sales", shell.SeeSales, d.sales)
	d.Desk.Route(m, "GET /merchant/sales/{rrn}", shell.SeeSales, d.sale)
	d.Desk.Route(m, "GET /merchant/sales/{rrn}/signature", shell.SeeSales, d.signature)
	d.Desk.Route(m, "GET /merchant/sales/{rrn}/slip", shell.SeeSales, d.reprint)
	d.Desk.Route(m, "GET /merchant/sales/{rrn}/refund", shell.GiveBack, d.askRefund)
	d.Desk.Route(m, "POST /merchant/sales/{rrn}/refund", shell.GiveBack, d.refund)
	d.Desk.Route(m, "GET /merchant/refunds", shell.SeeSales, d.refunds)
}

const (
	atSales   = "/merchant/sales"
	atRefunds = "/merchant/refunds"
)

func salePath(rrn string) string { return atSales + "/" + rrn }

// A day's sums of a shop.
type sums struct {
	fen, count     int64 // sales that stand
	back, returned int64 // given back, and how often
	declined       int64
	unclear        int64
	waiting        int64 // of fen: approved and not the shop's yet
	hours          [24]int64
	classes        map[fee.Class]int64
}

// stands says that the money of a transaction is the shop's, or will be.
func stands(s switching.State) bool { return s == switching.Approved || s == switching.Cleared }

// isRefund says whether a kind gives money back; a void is not one, for what it
// undoes no longer stands.
func isRefund(kind string) bool { return kind == "refund" || kind == "tap.refund" }

// add sums up what the switch has.
func add(list []report.Taking) sums {
	s := sums{classes: map[fee.Class]int64{}}
	for _, t := range list {
		k, state := switching.KindNamed(t.Kind), switching.State(t.State)
		switch {
		case state == switching.Declined:
			s.declined += t.Count
		case state == switching.Unknown || state == switching.Sent:
			s.unclear += t.Count
		case k == nil || !stands(state):
		case isRefund(t.Kind):
			s.back, s.returned = s.back+t.Fen, s.returned+t.Count
		case k.Side == switching.Debits:
			s.fen, s.count = s.fen+t.Fen, s.count+t.Count
			s.hours[t.Hour] += t.Fen
			s.classes[fee.Class(t.Class)] += t.Fen
			if state == switching.Approved {
				s.waiting += t.Fen
			}
		}
	}
	return s
}

// takingsOf sums up one Beijing day of a shop.
func takingsOf(q *db.Query, shop string, day calendar.Date) (sums, error) {
	from := day.Start(calendar.Beijing)
	list, err := report.Takings(q, shop, from, from.Add(24*time.Hour))
	return add(list), err
}

// takingsSince sums up the days from one to now.
func takingsSince(q *db.Query, shop string, day calendar.Date, now time.Time) (sums, error) {
	list, err := report.Takings(q, shop, day.Start(calendar.Beijing), now.Add(time.Second))
	return add(list), err
}

var stateTones = map[switching.State]web.Tone{switching.Sent: web.Info, switching.Approved: web.Good, switching.Cleared: web.Good, switching.Declined: web.Neutral, switching.Unknown: web.Warn,
	switching.Reversed: web.Warn, switching.Voided: web.Warn, switching.Completed: web.Good, switching.Expired: web.Neutral, switching.Noted: web.Neutral}

func stateCell(ctx context.Context, s switching.State) web.Cell {
	return web.Status(ctx, stateTones[s], shell.Both(s.Words))
}

func kindText(name string) web.Text {
	if k := switching.KindNamed(name); k != nil {
		return shell.Both(k.Words)
	}
	return web.Same(name)
}

var classWords = map[fee.Class]web.Text{fee.Debit: words.Debit, fee.Credit: words.Credit, fee.Prepaid: words.Prepaid, fee.ECash: words.ECash, fee.None: words.OtherCard}

// Signed is a transaction's amount as the shop feels it.
func Signed(t switching.Txn) int64 {
	if k := switching.KindNamed(t.Kind); k != nil && k.Side == switching.Credits {
		return -t.Due.Minor()
	}
	return t.Due.Minor()
}
