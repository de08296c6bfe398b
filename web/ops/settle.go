package ops

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"

	"github.com/a-h/templ"

	"koala/calendar"
	"koala/internal/db"
	"koala/ledger"
	"koala/merchant"
	"koala/money"
	"koala/settlement"
	"koala/transit"
	"koala/transit/network"
	"koala/web"
	"koala/web/ops/closings"
	"koala/web/ops/shell"
)

func payable(operator string) ledger.AccountID { return settlement.Payable(operator) }

// A settlementView is what is owed to operators and the days paid out.
type settlementView struct {
	open web.Table
	days web.Table
	last calendar.Date // the newest day that is over
	ran  bool          // and whether it has its file
}

func (p pages) settlement(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	v := settlementView{last: settlement.LastDay(p.Store.Now())}
	var open []settlement.Payout
	var days []settlement.File
	err := p.Store.Read(ctx, func(q *db.Query) (err error) {
		if open, err = settlement.Open(q); err != nil {
			return err
		}
		days, err = settlement.Days(q, 366)
		return err
	})
	if err != nil {
		return fmt.Errorf("settlement: %w", err)
	}
	v.days = web.Table{ID: "days", Empty: words.NoDays, Head: []web.Column{{Name: words.SettlementDay}, {Name: words.PaidAt}, {Name: words.FileHash}}}
	for _, d := range days {
		v.ran = v.ran || d.Day == v.last
		v.days.Rows = append(v.days.Rows, web.Row{Href: dayPath(d.Day), Cells: []web.Cell{shell.Short(d.Day.String()), shell.At(d.At), {Text: d.Hash[:min(16, len(d.Hash))] + "…", CSV: d.Hash, Mono: true}}})
	}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.days)
	}
	if v.open, err = p.payouts(ctx, open); err != nil {
		return err
	}
	v.open.ID, v.open.NoCSV, v.open.Empty = "unpaid", true, words.NothingUnpaid
	return p.desk.Show(w, r, web.Page{Title: words.Settlement, Lead: words.SettlementLead, Here: "/ops/settlement"}, settlementPage(v))
}

func dayPath(d calendar.Date) string { return "/ops/settlement/days/" + d.String() }

// payees names payees of settlement: operators, and shops by the name over
// their door. One that nobody knows keeps its number.
func (p pages) payees(ctx context.Context, list ...settlement.Payout) (map[string]web.Text, error) {
	names := map[string]web.Text{}
	err := p.Store.Read(ctx, func(q *db.Query) error {
		for _, x := range list {
			name := p.operator(x.Payee)
			if name == web.Same(x.Payee) {
				s, err := merchant.ShopOf(q, x.Payee)
				if err == nil {
					name = web.Text{ZH: s.NameZH, EN: s.NameEN}
				} else if !errors.Is(err, merchant.ErrNotFound) {
					return err
				}
			}
			names[x.Payee] = name
		}
		return nil
	})
	return names, err
}

// payouts lists sums by payee; those paid lead to their captures.
func (p pages) payouts(ctx context.Context, list []settlement.Payout) (web.Table, error) {
	names, err := p.payees(ctx, list...)
	if err != nil {
		return web.Table{}, err
	}
	t := web.Table{ID: "payouts", Empty: words.NoPayouts, Head: []web.Column{{Name: words.Operator}, {Name: words.Account}, {Name: words.Captures, Num: true}, {Name: words.Amount, Num: true}}}
	sum, n := money.Fen(0), 0
	for _, x := range list {
		row := web.Row{Cells: []web.Cell{web.Plain(names[x.Payee].In(ctx)), web.Mono(string(payable(x.Payee))), web.Count(int64(x.Count)), web.Money(x.Amount.Minor())}}
		row.Href = accountPath(payable(x.Payee))
		if x.ID != "" {
			row.Href = "/ops/settlement/payouts/" + x.ID
		}
		t.Rows = append(t.Rows, row)
		sum, n = sum.Add(x.Amount), n+x.Count
	}
	if len(list) > 1 {
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{strongCell(words.Sum.In(ctx)), shell.None(), strongCell(web.Number(int64(n))), strongCell(web.Yuan(sum.Minor()))}})
	}
	return t, nil
}

func strongCell(s string) web.Cell { return web.Cell{Text: s, Show: shell.Strong(s)} }

// runSettlement pays the days that are over, missed ones first. What is done
// stays done.
func (p pages) runSettlement(w http.ResponseWriter, r *http.Request) error {
	const back = "/ops/settlement"
	reason, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, back, err)
	}
	day := settlement.LastDay(p.Store.Now())
	if err := settlement.RunDue(r.Context(), p.Store); err != nil {
		return shell.Sorry(w, r, back, err)
	}
	file, err := settlement.Run(r.Context(), p.Store, day)
	if err != nil {
		return shell.Sorry(w, r, back, err)
	}
	err = p.Store.Write(r.Context(), func(tx *db.Tx) error {
		return shell.Keep(tx, r, shell.Deed{Act: shell.ActSettle, Target: dayPath(day), What: day.String() + " " + file.Hash[:min(16, len(file.Hash))], Why: reason})
	})
	if err != nil {
		return err
	}
	return shell.Done(w, r, dayPath(day), words.DidSettle.F(day.String()))
}

// A dayView is one settlement day.
type dayView struct {
	day      calendar.Date
	facts    []web.Fact
	payouts  web.Table
	clearing web.Table
	method   web.Text
}

func pathDay(r *http.Request) (calendar.Date, error) {
	d, err := calendar.Parse(r.PathValue("day"))
	if err != nil {
		return d, fmt.Errorf("day %q: %w", r.PathValue("day"), settlement.ErrNoFile)
	}
	return d, nil
}

func (p pages) settlementDay(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	day, err := pathDay(r)
	if err != nil {
		return err
	}
	var file settlement.File
	var paid []settlement.Payout
	var clearing []network.Share
	err = p.Store.Read(ctx, func(q *db.Query) (err error) {
		if file, err = settlement.FileOf(q, day); err != nil {
			return err
		}
		if paid, err = payoutsOn(q, day); err != nil {
			return err
		}
		clearing, err = transit.Clearing(q, day)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a settlement day: %w", err)
	}
	payouts, err := p.payouts(ctx, paid)
	if err != nil {
		return err
	}
	v := dayView{day: day, payouts: payouts, clearing: p.clearingTable(ctx, clearing), method: web.Text{ZH: network.MethodZH, EN: network.MethodEN}}
	v.payouts.NoCSV = true
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.clearing)
	}
	v.facts = []web.Fact{{Name: words.SettlementDay, Value: day.String()}, {Name: words.PaidAt, Value: web.Moment(file.At)}, {Name: words.FileHash, Value: file.Hash, Mono: true}}
	return p.desk.Show(w, r, web.Page{Title: words.SettlementOf.F(day.String()), Back: "/ops/settlement", Here: "/ops/settlement"}, dayPage(v))
}

// payoutsOn reads the payouts of one day, out of those of all days: a house
// has few payees.
func payoutsOn(q *db.Query, day calendar.Date) ([]settlement.Payout, error) {
	return shell.Gather(web.Paging{Limit: 1000}, func(after string, limit int) ([]settlement.Payout, error) {
		return settlement.Payouts(q, "", after, limit)
	}, func(x settlement.Payout) string { return x.ID }, func(x settlement.Payout) bool { return x.Day == day })
}

func (p pages) clearingTable(ctx context.Context, list []network.Share) web.Table {
	t := web.Table{ID: "clearing", Empty: words.NoShares, Head: []web.Column{{Name: words.Line}, {Name: words.Operator}, {Name: words.Metres, Num: true}, {Name: words.Amount, Num: true}}}
	sum, metres := money.Fen(0), int64(0)
	for _, s := range list {
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{p.lineCell(ctx, s.Line), web.Plain(p.operator(s.Operator).In(ctx)),
			{Text: web.Metres(ctx, int64(s.Metres)), CSV: fmt.Sprint(s.Metres)}, web.Money(s.Fen.Minor())}})
		sum, metres = sum.Add(s.Fen), metres+int64(s.Metres)
	}
	if len(list) > 1 {
		t.Rows = append(t.Rows, web.Row{Cells: []web.Cell{strongCell(words.Sum.In(ctx)), shell.None(), strongCell(web.Metres(ctx, metres)), strongCell(web.Yuan(sum.Minor()))}})
	}
	return t
}

// payoutFile is the file as the bank got it, byte for byte: its hash is known.
func (p pages) payoutFile(w http.ResponseWriter, r *http.Request) error {
	day, err := pathDay(r)
	if err != nil {
		return err
	}
	var file settlement.File
	if err := p.Store.Read(r.Context(), func(q *db.Query) (err error) { file, err = settlement.FileOf(q, day); return err }); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": "payout-" + day.String() + ".csv"}))
	_, _ = w.Write(file.CSV) // the reader hung up: nothing is left to tell it
	return nil
}

// A payoutView is one payout with its captures.
type payoutView struct {
	facts []web.Fact
	items web.Table
}

func (p pages) payout(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	pg := web.PageOf(r, shell.Rows)
	var x settlement.Payout
	var items []settlement.Item
	var byHand templ.Component
	key := func(i settlement.Item) string { return i.Ref }
	err := p.Store.Read(ctx, func(q *db.Query) (err error) {
		if x, err = settlement.PayoutOf(q, r.PathValue("id")); err != nil {
			return err
		}
		if byHand, err = closings.Hand(ctx, q, x, p.Store.Now()); err != nil {
			return err
		}
		items, err = shell.Gather(pg, func(after string, limit int) ([]settlement.Item, error) {
			return settlement.ItemsOf(q, x.ID, after, limit)
		}, key, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a payout: %w", err)
	}
	v := payoutView{items: web.Table{ID: "captures", Empty: words.NoPayouts, Next: shell.NextOf(r, items, pg, key),
		Head: []web.Column{{Name: words.Reference}, {Name: words.Kind}, {Name: words.EarnedAt, Num: true}, {Name: words.Amount, Num: true}}}}
	for _, i := range items {
		v.items.Rows = append(v.items.Rows, web.Row{Href: "/ops/books/entry?ref=" + query(entryOfItem(i)), Cells: []web.Cell{shell.Ident(i.Ref), shell.Short(i.Kind), web.When(i.At), web.Money(i.Amount.Minor())}})
	}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.items)
	}
	names, err := p.payees(ctx, x)
	if err != nil {
		return err
	}
	name := names[x.Payee]
	v.facts = []web.Fact{
		{Name: words.Operator, Value: name.In(ctx), Href: accountPath(payable(x.Payee))},
		{Name: words.Amount, Show: shell.Strong(web.Yuan(x.Amount.Minor()))},
		{Name: words.Captures, Value: web.Number(int64(x.Count))},
		{Name: words.SettlementDay, Value: x.Day.String(), Href: dayPath(x.Day)},
		{Name: words.PaidAt, Value: web.Moment(x.At)},
		{Name: words.Entry, Value: "payout:" + x.Day.String() + ":" + x.Payee, Href: "/ops/books/entry?ref=" + query("payout:"+x.Day.String()+":"+x.Payee), Mono: true},
		{Name: words.Bank, Show: web.SimulatedTag()},
	}
	return p.desk.Show(w, r, web.Page{Title: words.Payout, Lead: name, Back: dayPath(x.Day), Here: "/ops/settlement"}, templ.Join(payoutPage(v), byHand))
}

// entryOfItem is the reference of the entry that brought a capture's money:
// captures of transit carry the operator behind it.
func entryOfItem(i settlement.Item) string {
	if n := len(i.Ref) - len(i.Payee) - 1; n > 0 && i.Ref[n:] == ":"+i.Payee {
		return i.Ref[:n]
	}
	return i.Ref
}
