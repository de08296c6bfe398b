package counter

import (
	"context"
	"errors"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/merchant"
	"koala/money"
	"koala/report"
	"koala/settlement/fee"
	"koala/switching"
	"koala/web"
	"koala/web/merchant/shell"
)

func fen(n int64) money.Amount { return money.Fen(n) }

// notYet forgives a terminal that has not spoken to the switch yet.
func notYet(err error) error {
	if errors.Is(err, switching.ErrNotFound) {
		return nil
	}
	return err
}

// limitTable says what the shop may take on each kind of card, by the merchant's
// level or by what staff set for it, and what it has taken today.
func limitTable(ctx context.Context, q *db.Query, s shell.Seat, now time.Time) (web.Table, error) {
	t := web.Table{ID: "limits", Empty: words.NoTerminals, Head: []web.Column{{Name: words.CardKind}, {Name: words.Single, Num: true}, {Name: words.Daily, Num: true}, {Name: words.TakenToday, Num: true}, {Name: words.Monthly, Num: true}}}
	today := calendar.Of(now, calendar.Beijing).Start(calendar.Beijing)
	list, err := report.Takings(q, s.Shop.ID, today, today.Add(24*time.Hour))
	if err != nil {
		return t, err
	}
	taken := map[string]int64{}
	for _, x := range list {
		if k := switching.KindNamed(x.Kind); k != nil && k.Side == switching.Debits && (x.State == string(switching.Approved) || x.State == string(switching.Cleared)) {
			taken[x.Class] += x.Fen
		}
	}
	standing := merchant.Standing{Shop: s.Shop, Merchant: s.Merchant.State, Risk: s.Merchant.Risk, Terminal: merchant.Terminal{Kind: merchant.POS}}
	for _, c := range fee.Classes {
		l, err := merchant.LimitsOf(q, standing, string(c))
		if err != nil {
			return t, err
		}
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{web.Plain(classWords[c].In(ctx)), web.Money(l.Single.Minor()), web.Money(l.Daily.Minor()), web.Money(taken[string(c)]), web.Money(l.Monthly.Minor())}})
	}
	return t, nil
}

var classWords = map[fee.Class]web.Text{fee.Debit: words.Debit, fee.Credit: words.Credit, fee.Prepaid: words.Prepaid, fee.ECash: words.ECash}
