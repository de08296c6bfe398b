// Package shops is where staff see the shops, canteens and sites of the house
// and the devices that stand in them: tills, doors, coupon tills. Start at
// Routes.
package shops

import (
	"context"
	"fmt"
	"net/http"

	"koala/acquiring"
	"koala/internal/db"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/web"
	"koala/web/ops/ecash"
	"koala/web/ops/shell"
)

// Deps is what these pages are made of.
type Deps struct {
	Desk   shell.Desk
	Book   *ledger.Book
	Office *acquiring.Office
}

const here = "/ops/shops"

// Routes adds the pages to the console.
func Routes(m *web.Mux, d Deps) {
	m.Handle("GET "+here, d.list)
	m.Handle("GET "+here+"/devices", d.devices)
	m.Handle("GET "+here+"/devices/{tid}", d.device)
	m.Handle("POST "+here+"/devices/{tid}/{act}", d.setState)
	m.Handle("GET "+here+"/sites", d.sites)
	m.Handle("GET "+here+"/sites/{id}", d.site)
	m.Handle("POST "+here+"/sites/{id}/passages", d.passagesOf)
	m.Handle("POST "+here+"/sites/{id}/admit", d.admit)
	m.Handle("POST "+here+"/sites/{id}/expel", d.expel)
	m.Handle("GET "+here+"/firms", d.firms)
	m.Handle("GET "+here+"/{id}", d.shop)
}

func tabs(at string) []shell.Tab {
	var out []shell.Tab
	for _, t := range []struct {
		href string
		name web.Text
	}{{"", words.Shops}, {"/devices", words.Devices}, {"/sites", words.Sites}, {"/firms", words.Firms}} {
		out = append(out, shell.Tab{Href: here + t.href, Name: t.name, Here: t.href == at})
	}
	return out
}

func (d Deps) show(w http.ResponseWriter, r *http.Request, at string, v shell.ListView) error {
	v.Tabs, v.Events = tabs(at), "clearing"
	return d.Desk.List(w, r, web.Page{Title: words.Title, Lead: words.Lead, Here: here}, v)
}

func name(en, zh string) web.Text { return web.Text{ZH: zh, EN: en} }

func payable(shop string) string { return "/ops/books/account?id=" + string(settlement.Payable(shop)) }

// list shows every shop with what it is owed.
func (d Deps) list(w http.ResponseWriter, r *http.Request) error {
	ctx, pg := r.Context(), web.PageOf(r, shell.Rows)
	key := func(s acquiring.Shop) string { return s.ID }
	var list []acquiring.Shop
	var earned map[string]int64
	stood := map[string]int{}
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = shell.Gather(pg, func(after string, limit int) ([]acquiring.Shop, error) { return acquiring.Shops(q, after, limit) }, key, nil)
		if err != nil {
			return err
		}
		for _, s := range list {
			devices, err := acquiring.Devices(q, s.ID, "", 500)
			if err != nil {
				return err
			}
			stood[s.ID] = len(devices)
		}
		earned, err = acquiring.Earned(q)
		return err
	})
	if err != nil {
		return fmt.Errorf("shops: %w", err)
	}
	t := web.Table{ID: "shops", Empty: words.NoShops, Next: shell.NextOf(r, list, pg, key), Head: []web.Column{{Name: words.Shop}, {Name: words.MCC}, {Name: words.City},
		{Name: words.Devices, Num: true}, {Name: words.Earned, Num: true}, {Name: words.Owed, Num: true}, {Name: words.Since, Num: true}}}
	for _, s := range list {
		owed := shell.None()
		if b, err := d.Book.Balance(settlement.Payable(s.ID)); err == nil {
			owed = web.Money(b.Posted.Minor())
		}
		t.Rows = append(t.Rows, web.Row{Href: here + "/" + s.ID, Cells: []web.Cell{{Text: name(s.NameEN, s.NameZH).In(ctx), CSV: s.ID + " " + s.NameEN}, web.Mono(s.MCC), web.Plain(city(s.City).In(ctx)),
			web.Count(int64(stood[s.ID])), web.Money(earned[s.ID]), owed, shell.At(s.Made)}})
	}
	return d.show(w, r, "", shell.ListView{Table: t})
}

// A shopView is one shop.
type shopView struct {
	facts                                   []web.Fact
	devices, sales, meals, coupons, payouts web.Table
}

func (d Deps) shop(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	var s acquiring.Shop
	var v shopView
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if s, err = acquiring.ShopOf(q, r.PathValue("id")); err != nil {
			return err
		}
		devices, err := acquiring.Devices(q, s.ID, "", 500)
		if err != nil {
			return err
		}
		gaps, err := acquiring.Gaps(q, "", 500)
		if err != nil {
			return err
		}
		v.devices = shell.NoFile(deviceTable(ctx, devices, missingOf(gaps), d.Desk.Store.Now()))
		earned, err := acquiring.Earned(q)
		if err != nil {
			return err
		}
		v.facts = d.shopFacts(s, earned[s.ID])
		payouts, err := settlement.Payouts(q, s.ID, "", 10)
		if err != nil {
			return err
		}
		v.payouts = payoutTable(payouts)
		f := acquiring.Filter{Shop: s.ID, Limit: 10}
		if v.sales, err = lastOf(ctx, q, f, acquiring.POS); err != nil {
			return err
		}
		if v.meals, err = lastOf(ctx, q, f, acquiring.Canteen); err != nil {
			return err
		}
		v.coupons, err = lastOf(ctx, q, f, acquiring.Coupon)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a shop: %w", err)
	}
	return d.Desk.Show(w, r, web.Page{Title: name(s.NameEN, s.NameZH), Lead: city(s.City), Back: here, Here: here}, shopPage(v))
}

func (d Deps) shopFacts(s acquiring.Shop, earned int64) []web.Fact {
	facts := []web.Fact{{Name: words.Shop, Value: s.ID, Mono: true}, {Name: words.MCC, Value: s.MCC, Mono: true}, {Name: words.City, Show: shell.Phrase(city(s.City))}}
	if s.Site != "" {
		facts = append(facts, web.Fact{Name: words.Site, Value: s.Site, Href: sitePath(s.Site)})
	}
	facts = append(facts, web.Fact{Name: words.Earned, Value: web.Yuan(earned)})
	if b, err := d.Book.Balance(settlement.Payable(s.ID)); err == nil {
		facts = append(facts, web.Fact{Name: words.Owed, Value: web.Yuan(b.Posted.Minor()), Href: payable(s.ID)})
	}
	return append(facts, web.Fact{Name: words.Clearing, Show: shell.Link("/ops/ecash?shop="+s.ID, words.ItsRecords)}, web.Fact{Name: words.Since, Value: web.Moment(s.Made)})
}

func payoutTable(list []settlement.Payout) web.Table {
	t := web.Table{ID: "payouts", NoCSV: true, Empty: words.NoPayouts, Head: []web.Column{{Name: words.Day}, {Name: words.Captures, Num: true}, {Name: words.Amount, Num: true}, {Name: words.PaidAt, Num: true}}}
	for _, p := range list {
		t.Rows = append(t.Rows, web.Row{Href: "/ops/settlement/payouts/" + p.ID, Cells: []web.Cell{shell.Short(p.Day.String()), web.Count(int64(p.Count)), web.Money(p.Amount.Minor()), shell.At(p.At)}})
	}
	return t
}

// lastOf is what a device or a shop handed over last, by what it sells.
func lastOf(ctx context.Context, q *db.Query, f acquiring.Filter, kind acquiring.Kind) (web.Table, error) {
	switch kind {
	case acquiring.Canteen:
		list, err := acquiring.Meals(q, f)
		return mealTable(ctx, list), err
	case acquiring.Coupon:
		list, err := acquiring.Redemptions(q, f)
		return redemptionTable(ctx, list), err
	case acquiring.POS:
		list, err := acquiring.Sales(q, f)
		return shell.NoFile(ecash.SaleTable(ctx, list)), err
	}
	return web.Table{ID: "none", NoCSV: true, Empty: words.DoorsPrivate}, nil
}

func mealTable(ctx context.Context, list []acquiring.Meal) web.Table {
	t := web.Table{ID: "meals", NoCSV: true, Empty: words.NoMeals, Head: []web.Column{{Name: words.Meal}, {Name: words.State}, {Name: words.Card}, {Name: words.FromCard, Num: true},
		{Name: words.Subsidy, Num: true}, {Name: words.Device}, {Name: words.Came, Num: true}}}
	for _, m := range list {
		tone, word := fate(m.Fate(), m.Why)
		t.Rows = append(t.Rows, web.Row{Href: "/ops/ecash/records/" + m.ID, Cells: []web.Cell{shell.Short(shell.Both(m.Kind.Words).In(ctx)), web.Status(ctx, tone, word), web.Mono(shell.Masked(m.Card)),
			web.Money(m.Fen), web.Money(m.Subsidy), web.Mono(m.TID), shell.At(m.Got)}})
	}
	return t
}

func redemptionTable(ctx context.Context, list []acquiring.Redemption) web.Table {
	t := web.Table{ID: "redemptions", NoCSV: true, Empty: words.NoRedemptions, Head: []web.Column{{Name: words.Coupon}, {Name: words.State}, {Name: words.Firm}, {Name: words.Sale, Num: true},
		{Name: words.Off, Num: true}, {Name: words.Device}, {Name: words.Came, Num: true}}}
	for _, x := range list {
		tone, word := fate(x.Fate(), x.Why)
		t.Rows = append(t.Rows, web.Row{Href: "/ops/ecash/records/" + x.ID, Cells: []web.Cell{shell.Short(shell.Both(x.Op.Words).In(ctx)), web.Status(ctx, tone, word), web.Plain(x.Firm),
			web.Money(x.Fen), web.Money(x.Reduction), web.Mono(x.TID), shell.At(x.Got)}})
	}
	return t
}

func fate(f acquiring.Fate, why acquiring.Why) (web.Tone, web.Text) {
	if f == acquiring.Suspense {
		return web.Warn, shell.Both(why.Words)
	}
	return web.Good, shell.Both(f.Words)
}

// sites lists places with doors.
func (d Deps) sites(w http.ResponseWriter, r *http.Request) error {
	ctx, pg := r.Context(), web.PageOf(r, shell.Rows)
	key := func(s acquiring.Site) string { return s.ID }
	var list []acquiring.Site
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = shell.Gather(pg, func(after string, limit int) ([]acquiring.Site, error) { return acquiring.Sites(q, after, limit) }, key, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("sites: %w", err)
	}
	t := web.Table{ID: "sites", Empty: words.NoSites, Next: shell.NextOf(r, list, pg, key), Head: []web.Column{{Name: words.Site}, {Name: words.Number, Num: true}, {Name: words.Owner},
		{Name: words.Firm}, {Name: words.Keeps, Num: true}, {Name: words.Since, Num: true}}}
	for _, s := range list {
		t.Rows = append(t.Rows, web.Row{Href: sitePath(s.ID), Cells: []web.Cell{{Text: name(s.NameEN, s.NameZH).In(ctx), CSV: s.ID + " " + s.NameEN}, web.Count(int64(s.Number)), shell.Ident(s.Owner), web.Plain(s.Firm),
			shell.Short(words.DaysOf.In(ctx, s.KeepDays)), shell.At(s.Made)}})
	}
	return d.show(w, r, "/sites", shell.ListView{Table: t, Note: words.SitesNote})
}

// firms lists who pays subsidies and coupons, with what they have paid in.
func (d Deps) firms(w http.ResponseWriter, r *http.Request) error {
	ctx, pg := r.Context(), web.PageOf(r, shell.Rows)
	key := func(f acquiring.Firm) string { return f.ID }
	var list []acquiring.Firm
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = shell.Gather(pg, func(after string, limit int) ([]acquiring.Firm, error) { return acquiring.Firms(q, after, limit) }, key, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("firms: %w", err)
	}
	t := web.Table{ID: "firms", Empty: words.NoFirms, Next: shell.NextOf(r, list, pg, key), Head: []web.Column{{Name: words.Firm}, {Name: words.Code}, {Name: words.PaidIn, Num: true}, {Name: words.Since, Num: true}}}
	for _, f := range list {
		left := money.Fen(0)
		if b, err := d.Book.Balance(acquiring.Funding(f.ID)); err == nil {
			left = b.Posted
		}
		t.Rows = append(t.Rows, web.Row{Href: "/ops/books/account?id=" + string(acquiring.Funding(f.ID)), Cells: []web.Cell{web.Plain(name(f.NameEN, f.NameZH).In(ctx)), web.Mono(f.ID),
			web.Money(left.Minor()), shell.At(f.Made)}})
	}
	return d.show(w, r, "/firms", shell.ListView{Table: t, Note: words.FirmsNote})
}
