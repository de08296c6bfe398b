package terms

import (
	"context"
	"slices"

	"koala/calendar"
	"koala/internal/db"
	"koala/money"
	"koala/settlement"
	"koala/settlement/fee"
	"koala/web"
)

// A trial is a closed day as it was and as it would have been under other terms.
type trial struct {
	day                        calendar.Date // zero: nothing was closed yet
	items                      int
	gross                      int64
	was, would                 sums
	unpriced                   bool // the new price has no row for that day
	arrivesWas, arrivesInstead calendar.Date
}

// sums are what a closing takes off and leaves, fen.
type sums struct {
	fee     fee.Parts
	reserve int64
	once    int64 // price of being paid all of it at once, a day early
	left    int64 // after fees and reserve
}

// Bounds of a trial.
const (
	pageItems = 500
	mostItems = 20_000 // of the day: of more the first so many are priced
	backDays  = 40     // closings looked through for one with items
)

// lastClosed is the payee's last day that was closed with items; zero: none.
func lastClosed(q db.Reader, payee string) (calendar.Date, error) {
	list, err := settlement.Closings(q, payee, "", backDays)
	for _, p := range list {
		if p.Kind == settlement.NextDay && p.Count > 0 {
			return p.Day, err
		}
	}
	return calendar.Date{}, err
}

// itemsOf reads the items of a settlement day with the fees they had.
func itemsOf(q db.Reader, payee string, day calendar.Date) (out []settlement.Priced, err error) {
	for after := int64(0); len(out) < mostItems; after = out[len(out)-1].Seq {
		list, err := settlement.ItemsOn(q, payee, day, after, pageItems)
		if err != nil || len(list) == 0 {
			return out, err
		}
		out = append(out, list...)
	}
	return out, nil
}

// try prices the last closed day again, as if terms had begun with it: by the
// rules of fees that the runs use. Refunds keep the terms of the days of their
// sales, and shares of others' sales the terms of those.
func try(q db.Reader, a agreed) (t trial, err error) {
	if t.day, err = lastClosed(q, a.Payee); err != nil || t.day.IsZero() {
		return t, err
	}
	all, err := settlement.AllTerms(q, a.Payee)
	if err != nil {
		return t, err
	}
	items, err := itemsOf(q, a.Payee, t.day)
	if err != nil {
		return t, err
	}
	instead := a.terms()
	instead.Since = t.day
	for _, i := range items {
		if on := calendar.Of(i.At, calendar.Beijing); i.Amount.Sign() > 0 && on.Before(instead.Since) {
			instead.Since = on // sold behind the cut-off of the day before
		}
	}
	if a.Category != "" && settlement.Statutes().Covers(instead.Since, instead.Category, instead.Price) != nil {
		t.unpriced = true
	}
	other := slices.DeleteFunc(slices.Clone(all), func(x settlement.Terms) bool { return !x.Since.Before(instead.Since) })
	other = append(other, instead)
	for _, i := range items {
		cost := i.Fee
		if !t.unpriced {
			if cost, err = again(i, a.Payee, other); err != nil {
				return t, err
			}
		}
		t.add(i, cost)
	}
	then, err := settlement.TermsOf(q, a.Payee, t.day)
	if err != nil {
		return t, err
	}
	t.was.close(t.gross, agreedOf(then))
	t.would.close(t.gross, a)
	t.arrivesWas, t.arrivesInstead = arrives(agreedOf(then), t.day), arrives(a, t.day)
	return t, nil
}

// again is the fee of an item under other terms; a share of another's sale keeps
// what that one's terms say.
func again(i settlement.Priced, payee string, other []settlement.Terms) (fee.Parts, error) {
	if i.PricedBy() != payee {
		return i.Fee, nil
	}
	cost, _, err := settlement.Price(i.Item, other)
	return cost, err
}

func (t *trial) add(i settlement.Priced, cost fee.Parts) {
	t.items++
	if n := i.Amount.Minor(); n > 0 {
		t.gross += n
	}
	t.was.fee, t.would.fee = t.was.fee.Plus(i.Fee), t.would.fee.Plus(cost)
	t.was.left, t.would.left = t.was.left+i.Amount.Minor(), t.would.left+i.Amount.Minor()
}

// close takes fees and reserve off.
func (s *sums) close(gross int64, a agreed) {
	s.left -= s.fee.Fee
	s.reserve = min(money.Fen(gross).Portion(a.ReserveBP, 10_000, money.Down).Minor(), max(0, s.left))
	s.left -= s.reserve
	if a.Once {
		s.once = money.Fen(max(0, s.left)).Portion(a.BPDay, 10_000, money.HalfUp).Minor()
	}
}

// arrives is when what a closed day left reaches the bank account.
func arrives(a agreed, day calendar.Date) calendar.Date {
	if a.Pays == monthly {
		return settlement.Payday(calendar.Date{Year: day.Year, Month: day.Month, Day: 1}.AddDays(31).MonthOf())
	}
	next := day.AddDays(1)
	for a.Pays == bank && !next.BankDay() {
		next = next.AddDays(1)
	}
	return next
}

// table shows a trial.
func (t *trial) table(ctx context.Context) web.Table {
	out := web.Table{ID: "trial", NoCSV: true, Empty: words.NoTrial, Head: []web.Column{{Name: words.What}, {Name: words.AsItWas, Num: true}, {Name: words.Instead, Num: true}, {Name: words.Difference, Num: true}}}
	if t.items == 0 {
		return out
	}
	row := func(name web.Text, a, b int64) {
		out.Rows = append(out.Rows, web.Row{Cells: []web.Cell{web.Plain(name.In(ctx)), web.Money(a), web.Money(b), {Text: web.SignedYuan(b - a)}}})
	}
	row(words.Gross, t.gross, t.gross)
	row(words.CardFees, -t.was.fee.Fee, -t.would.fee.Fee)
	row(words.OfIssuer, -t.was.fee.Issuer-t.was.fee.Network, -t.would.fee.Issuer-t.would.fee.Network)
	row(words.OfAcquirer, -t.was.fee.Acquirer, -t.would.fee.Acquirer)
	row(words.Reserve, -t.was.reserve, -t.would.reserve)
	row(words.LeftToPay, t.was.left, t.would.left)
	if t.was.once != 0 || t.would.once != 0 {
		row(words.OnceADay, -t.was.once, -t.would.once)
	}
	if t.arrivesWas != t.arrivesInstead {
		out.Rows = append(out.Rows, web.Row{Cells: []web.Cell{web.Plain(words.Arrives.In(ctx)), web.Plain(t.arrivesWas.String()), web.Plain(t.arrivesInstead.String()), {}}})
	}
	return out
}
