package ops

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"koala/customer"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/tsm"
	"koala/wallet"
	"koala/web"
	"koala/web/ops/lost"
	"koala/web/ops/shell"
)

// customers lists the people of the house.
func (p pages) customers(w http.ResponseWriter, r *http.Request) error {
	pg := web.PageOf(r, shell.Rows)
	name := strings.TrimSpace(r.FormValue("name"))
	var keepPerson func(customer.Customer) bool
	if name != "" {
		keepPerson = func(c customer.Customer) bool {
			return strings.Contains(c.Login, strings.ToLower(name)) || strings.Contains(c.Name, name)
		}
	}
	var list []customer.Customer
	err := p.Store.Read(r.Context(), func(q *db.Query) (err error) {
		list, err = shell.Gather(pg, func(after string, limit int) ([]customer.Customer, error) {
			return customer.List(q, customer.ID(after), limit)
		}, customerID, keepPerson)
		return err
	})
	if err != nil {
		return fmt.Errorf("customers: %w", err)
	}
	t := web.Table{ID: "customers", Empty: words.NoCustomers, Next: shell.NextOf(r, list, pg, customerID), Head: []web.Column{{Name: words.Name},
		{Name: words.Login}, {Name: words.Phone}, {Name: words.Roles}, {Name: words.State}, {Name: words.Since, Num: true}}}
	for _, c := range list {
		t.Rows = append(t.Rows, web.Row{Href: "/ops/customers/" + string(c.ID), Cells: []web.Cell{web.Plain(c.Name), web.Mono(c.Login),
			shell.Short(c.Phone), shell.Short(roles(c)), loginState(r.Context(), c), web.When(c.Opened)}})
	}
	v := shell.ListView{Table: t, Tabs: lost.Tabs("/ops/customers"), Filter: []web.Field{{Name: "name", Label: words.NameOrLogin, Type: "search", Value: name, Max: customer.MaxName}}}
	return p.desk.List(w, r, web.Page{Title: words.Customers, Lead: words.CustomersLead, Here: "/ops/cards"}, v)
}

func customerID(c customer.Customer) string { return string(c.ID) }

func roles(c customer.Customer) string {
	out := make([]string, len(c.Roles))
	for i, r := range c.Roles {
		out[i] = string(r)
	}
	return strings.Join(out, ", ")
}

func loginState(ctx context.Context, c customer.Customer) web.Cell {
	if c.Blocked {
		return web.Status(ctx, web.Bad, words.LoginShut)
	}
	return web.Status(ctx, web.Good, words.LoginOpen)
}

// A customerView is one person.
type customerView struct {
	who   customer.Customer
	facts []web.Fact
	cards web.Table
	bands web.Table
	deeds []web.Happening
	self  bool // staff do not shut themselves out
}

func (p pages) customer(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	var v customerView
	var cards []issuing.Card
	var bands []tsm.Band
	err := p.Store.Read(ctx, func(q *db.Query) (err error) {
		if v.who, err = customer.Get(q, customer.ID(r.PathValue("id"))); err != nil {
			return err
		}
		if cards, err = issuing.OfCustomer(q, v.who.ID); err != nil {
			return err
		}
		if bands, err = tsm.BandsOf(q, string(v.who.ID)); err != nil {
			return err
		}
		trail, err := shell.Deeds(q, shell.Deed{Target: "/ops/customers/" + string(v.who.ID)}, "", shell.Rows)
		v.deeds = shell.Told(trail)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a customer: %w", err)
	}
	u, _ := web.Who(ctx)
	v.self = u.Subject == string(v.who.ID)
	if v.facts, err = p.customerFacts(v.who); err != nil {
		return err
	}
	v.cards, v.bands = p.cardTable(ctx, cards), bandTable(ctx, p.Store.Now(), bands)
	v.cards.NoCSV = true
	return p.desk.Show(w, r, web.Page{Title: web.Same(v.who.Name), Lead: web.Same(v.who.Login), Back: "/ops/customers", Here: "/ops/cards"}, customerPage(v))
}

func (p pages) customerFacts(c customer.Customer) ([]web.Fact, error) {
	facts := []web.Fact{
		{Name: words.Customer, Value: string(c.ID), Mono: true}, {Name: words.Phone, Value: c.Phone},
		{Name: words.Roles, Value: roles(c)}, {Name: words.Since, Value: web.Moment(c.Opened)},
		{Name: words.Orders, Show: shell.Link("/ops/orders?customer="+string(c.ID), words.OrdersOfCustomer)},
	}
	b, err := p.Book.Balance(wallet.Account(c.ID))
	if errors.Is(err, ledger.ErrNoAccount) {
		return facts, nil
	}
	if err != nil {
		return nil, err
	}
	return append(facts, web.Fact{Name: words.Wallet, Value: web.Yuan(b.Posted.Minor()), Href: accountPath(wallet.Account(c.ID))},
		web.Fact{Name: words.Held, Value: web.Yuan(b.Held.Minor())}), nil
}

func bandTable(ctx context.Context, now time.Time, bands []tsm.Band) web.Table {
	t := web.Table{ID: "bands", NoCSV: true, Empty: words.NoBands, Head: []web.Column{{Name: words.Band}, {Name: words.BandKeys}, {Name: words.LastSeen, Num: true}}}
	for _, b := range bands {
		t.Rows = append(t.Rows, web.Row{Href: "/ops/bands/" + b.ID, Cells: []web.Cell{shell.Ident(b.ID), adopted(ctx, b), shell.Short(shell.Ago(now, b.Seen).In(ctx))}})
	}
	return t
}

func adopted(ctx context.Context, b tsm.Band) web.Cell {
	if b.Adopted {
		return web.Status(ctx, web.Good, words.OwnKeys)
	}
	return web.Status(ctx, web.Warn, words.FactoryKeys)
}

// blockCustomer shuts or opens a login.
func (p pages) blockCustomer(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	back := "/ops/customers/" + id
	reason, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, back, err)
	}
	shut := r.PostFormValue("shut") == "1"
	if u, _ := web.Who(r.Context()); shut && u.Subject == id {
		return fmt.Errorf("own login: %w", shell.ErrForm)
	}
	d := shell.Deed{Act: shell.ActReopen, Target: back, What: id, Why: reason}
	if shut {
		d.Act = shell.ActShut
	}
	err = p.Store.Write(r.Context(), func(tx *db.Tx) error {
		if err := customer.SetBlocked(tx, customer.ID(id), shut); err != nil {
			return err
		}
		return shell.Keep(tx, r, d)
	})
	if err != nil {
		return shell.Sorry(w, r, back, err)
	}
	return shell.Done(w, r, back, words.DidChange)
}

// A bandView is a band or a gate's module: an element that the house manages.
type bandView struct {
	id     string
	facts  []web.Fact
	cards  web.Table
	orders web.Table
}

func (p pages) band(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	var b tsm.Band
	var cards []issuing.Card
	var orders []tsm.Order
	err := p.Store.Read(ctx, func(q *db.Query) (err error) {
		if b, err = tsm.BandOf(q, r.PathValue("id")); err != nil {
			return err
		}
		if cards, err = issuing.InBand(q, b.ID); err != nil {
			return err
		}
		orders, err = tsm.Orders(q, tsm.Filter{Band: b.ID, Limit: shell.Rows})
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a band: %w", err)
	}
	v := bandView{id: b.ID, cards: p.cardTable(ctx, cards), orders: p.orderTable(r, orders)}
	v.cards.NoCSV, v.orders.NoCSV = true, true
	owner := web.Fact{Name: words.Owner, Value: b.Owner, Mono: true}
	if isCustomer(b.Owner) {
		owner.Href = "/ops/customers/" + b.Owner
	}
	state := adopted(ctx, b)
	v.facts = []web.Fact{owner, {Name: words.BandKeys, Show: state.Show}, {Name: words.Registered, Value: web.Moment(b.Placed)},
		{Name: words.LastSeen, Show: shell.Phrase(shell.Ago(p.Store.Now(), b.Seen))}}
	return p.desk.Show(w, r, web.Page{Title: web.Same(b.ID), Lead: words.BandLead, Back: "/ops/cards", Here: "/ops/cards"}, bandPage(v))
}
