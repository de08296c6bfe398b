package ops

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"koala/customer"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/tsm"
	"koala/wallet"
	"koala/web"
	"koala/web/ops/shell"
)

// cardKey names a card in addresses: the number never stands in a path, which
// the request log keeps.
func cardKey(n issuing.CardID) string {
	sum := sha256.Sum256([]byte(n))
	return hex.EncodeToString(sum[:5])
}

func cardPath(customer string, n issuing.CardID) string {
	return "/ops/cards/" + customer + "/" + cardKey(n)
}

// isCustomer tells customers from the operators that own gate modules.
func isCustomer(id string) bool { return strings.HasPrefix(id, "cust_") }

var cardStates = []issuing.State{issuing.Ordered, issuing.Personalising, issuing.Active, issuing.Blocked, issuing.Closing, issuing.Closed, issuing.Abandoned}

func cardTone(s issuing.State) web.Tone {
	switch s {
	case issuing.Active:
		return web.Good
	case issuing.Blocked:
		return web.Bad
	case issuing.Closing:
		return web.Warn
	case issuing.Ordered, issuing.Personalising:
		return web.Info
	}
	return web.Neutral
}

// cards lists every card ever issued.
func (p pages) cards(w http.ResponseWriter, r *http.Request) error {
	state, tail := issuing.State(r.FormValue("state")), strings.TrimSpace(r.FormValue("tail"))
	if state != "" && !slices.Contains(cardStates, state) {
		return fmt.Errorf("filter of cards: %w", shell.ErrForm)
	}
	var keepCard func(issuing.Card) bool
	if state != "" || tail != "" {
		keepCard = func(c issuing.Card) bool {
			return (state == "" || c.State == state) && strings.HasSuffix(string(c.ID), tail)
		}
	}
	pg := web.PageOf(r, shell.Rows)
	var list []issuing.Card
	err := p.Store.Read(r.Context(), func(q *db.Query) (err error) {
		list, err = shell.Gather(pg, func(after string, limit int) ([]issuing.Card, error) {
			return issuing.List(q, issuing.CardID(after), limit)
		}, cardNumber, keepCard)
		return err
	})
	if err != nil {
		return fmt.Errorf("cards: %w", err)
	}
	options := []web.Option{{Name: words.All}}
	for _, s := range cardStates {
		options = append(options, web.Option{Value: string(s), Name: shell.Both(s.Words)})
	}
	v := shell.ListView{Table: p.cardTable(r.Context(), list), Events: "orders", Tabs: peopleTabs("/ops/cards"), Filter: []web.Field{
		{Name: "state", Label: words.State, Type: "select", Options: options, Value: string(state)},
		{Name: "tail", Label: words.LastDigits, Type: "search", Mode: "numeric", Value: tail, Max: 20}}}
	v.Table.Next = shell.NextOf(r, list, pg, cardNumber)
	return p.desk.List(w, r, web.Page{Title: words.Cards, Lead: words.CardsLead, Here: "/ops/cards"}, v)
}

func cardNumber(c issuing.Card) string { return string(c.ID) }

func peopleTabs(here string) []shell.Tab {
	return []shell.Tab{{Href: "/ops/cards", Name: words.Cards, Here: here == "/ops/cards"}, {Href: "/ops/customers", Name: words.Customers, Here: here == "/ops/customers"}}
}

func (p pages) cardTable(ctx context.Context, list []issuing.Card) web.Table {
	t := web.Table{ID: "cards", Empty: words.NoCards, Head: []web.Column{{Name: words.Card}, {Name: words.State}, {Name: words.Product},
		{Name: words.Band}, {Name: words.Proven, Num: true}, {Name: words.InTheBooks, Num: true}, {Name: words.LastSeen, Num: true}}}
	for _, c := range list {
		float := shell.None()
		if b, err := p.Book.Balance(issuing.Float(c.ID)); err == nil {
			float = web.Money(b.Posted.Minor())
		}
		t.Rows = append(t.Rows, web.Row{Href: cardPath(string(c.Customer), c.ID), Cells: []web.Cell{web.Mono(shell.Masked(c.ID)),
			web.Status(ctx, cardTone(c.State), shell.Both(c.State.Words)), shell.Short(c.Product), shell.Ident(c.Band),
			web.Money(c.Known.Balance.Minor()), float, web.When(c.Known.At)}})
	}
	return t
}

// A cardView is one card: what it is, what its element proved, what the books
// say, what was ordered for it.
type cardView struct {
	card   issuing.Card
	face   web.CardFace
	facts  []web.Fact
	orders web.Table
	rides  web.Table
	deeds  []web.Happening
	path   string
	token  string // names the act of a form, so that sending it twice is once
	denied bool
}

// findCard reads the card that a path names.
func (p pages) findCard(q *db.Query, r *http.Request) (issuing.Card, error) {
	list, err := issuing.OfCustomer(q, customer.ID(r.PathValue("customer")))
	if err != nil {
		return issuing.Card{}, err
	}
	for _, c := range list {
		if cardKey(c.ID) == r.PathValue("key") {
			return c, nil
		}
	}
	return issuing.Card{}, fmt.Errorf("card %q: %w", r.PathValue("key"), ErrNoCard)
}

func (p pages) card(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	v := cardView{token: fmt.Sprintf("%x", p.Store.Now().UnixMicro())}
	var product issuing.Product
	var orders []tsm.Order
	err := p.Store.Read(ctx, func(q *db.Query) (err error) {
		if v.card, err = p.findCard(q, r); err != nil {
			return err
		}
		if product, err = issuing.ProductOn(q, v.card.Product, v.card.Opened); err != nil {
			return err
		}
		if orders, err = tsm.Orders(q, tsm.Filter{Card: v.card.ID, Limit: 20}); err != nil {
			return err
		}
		if v.denied, err = isDenied(q, v.card.ID.Purse()); err != nil {
			return err
		}
		if v.rides, err = p.ridesOf(ctx, q, v.card.ID.Purse()); err != nil {
			return err
		}
		v.path = cardPath(string(v.card.Customer), v.card.ID)
		trail, err := shell.Deeds(q, shell.Deed{Target: v.path}, "", shell.Rows)
		v.deeds = shell.Told(trail)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a card: %w", err)
	}
	v.orders = p.orderTable(r, orders)
	v.orders.NoCSV = true
	v.face = web.CardFace{Kind: web.CardTransit, Name: web.Text{ZH: product.NameZH, EN: product.NameEN}, Issuer: words.Issuer,
		Tail: web.Tail(string(v.card.ID)), Value: web.Yuan(v.card.Known.Balance.Minor()), Off: v.card.State != issuing.Active}
	v.facts = p.cardFacts(v.card, v.denied)
	return p.desk.Show(w, r, web.Page{Title: web.Same(shell.Masked(v.card.ID)), Lead: web.Text{ZH: product.NameZH, EN: product.NameEN}, Back: "/ops/cards", Here: "/ops/cards"}, cardPage(v))
}

func (p pages) cardFacts(c issuing.Card, denied bool) []web.Fact {
	facts := []web.Fact{
		{Name: words.State, Show: web.Chip(cardTone(c.State), shell.Both(c.State.Words))},
		{Name: words.Customer, Value: string(c.Customer), Href: "/ops/customers/" + string(c.Customer), Mono: true},
		{Name: words.Band, Value: c.Band, Href: "/ops/bands/" + c.Band, Mono: true},
		{Name: words.Proven, Value: web.Yuan(c.Known.Balance.Minor())},
	}
	if b, err := p.Book.Balance(issuing.Float(c.ID)); err == nil {
		facts = append(facts, web.Fact{Name: words.InTheBooks, Value: web.Yuan(b.Posted.Minor()), Href: accountPath(issuing.Float(c.ID))})
	}
	if !c.Known.At.IsZero() {
		facts = append(facts, web.Fact{Name: words.LastSeen, Value: web.Moment(c.Known.At)},
			web.Fact{Name: words.Sequences, Value: fmt.Sprintf("%d / %d", c.Known.Online, c.Known.Offline), Mono: true})
	}
	facts = append(facts,
		web.Fact{Name: words.Deposit, Value: web.Yuan(c.Deposit.Minor()), Href: accountPath(issuing.DepositAccount(c.ID))},
		web.Fact{Name: words.Valid, Value: c.From.Format(time.DateOnly) + " – " + c.To.Format(time.DateOnly)},
		web.Fact{Name: words.Instance, Value: web.Hex(c.Instance), Mono: true})
	if c.Why != "" {
		facts = append(facts, web.Fact{Name: words.Reason, Value: c.Why})
	}
	if denied {
		facts = append(facts, web.Fact{Name: words.Deny, Show: web.Chip(web.Bad, words.OnDenyList)})
	}
	return facts
}

// actOnCard blocks or unblocks a card over the air, or puts it on the deny
// list and takes it off.
func (p pages) actOnCard(w http.ResponseWriter, r *http.Request) error {
	reason, err := shell.Why(r)
	back := "/ops/cards/" + r.PathValue("customer") + "/" + r.PathValue("key")
	if err != nil {
		return shell.Sorry(w, r, back, err)
	}
	var c issuing.Card
	if err := p.Store.Read(r.Context(), func(q *db.Query) (err error) { c, err = p.findCard(q, r); return err }); err != nil {
		return err
	}
	deed := shell.Deed{Target: back, What: shell.Masked(c.ID), Why: reason}
	said := words.DidOrder
	var do func(tx *db.Tx) error
	switch r.PathValue("act") {
	case "block":
		deed.Act, do = shell.ActBlock, p.lock(tsm.Block, c, r.PostFormValue("token"))
	case "unblock":
		deed.Act, do = shell.ActUnblock, p.lock(tsm.Unblock, c, r.PostFormValue("token"))
	case "deny":
		deed.Act, do, said = shell.ActDeny, p.deny(c.ID.Purse(), reason), words.DidDeny
	case "allow":
		deed.Act, do, said = shell.ActAllow, p.allow(c.ID.Purse()), words.DidAllow
	default:
		return fmt.Errorf("act %q on a card: %w", r.PathValue("act"), web.ErrNoPage)
	}
	err = p.Store.Write(r.Context(), func(tx *db.Tx) error {
		if err := do(tx); err != nil {
			return err
		}
		return shell.Keep(tx, r, deed)
	})
	if err != nil {
		return shell.Sorry(w, r, back, err)
	}
	if p.Connect != nil && (deed.Act == shell.ActBlock || deed.Act == shell.ActUnblock) {
		p.Connect(r.Context(), c.Band)
	}
	return shell.Done(w, r, back, said)
}

func (p pages) lock(k tsm.Kind, c issuing.Card, token string) func(*db.Tx) error {
	return func(tx *db.Tx) error {
		if token == "" || len(token) > 32 {
			return fmt.Errorf("token of a form: %w", shell.ErrForm)
		}
		_, err := p.TSM.Place(tx, tsm.Request{Ref: fmt.Sprintf("ops:%s:%s:%s", k, cardKey(c.ID), token), Kind: k, Band: c.Band, Card: c.ID, Customer: string(c.Customer)})
		return err
	}
}

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
	v := shell.ListView{Table: t, Tabs: peopleTabs("/ops/customers"), Filter: []web.Field{{Name: "name", Label: words.NameOrLogin, Type: "search", Value: name, Max: customer.MaxName}}}
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
	v := bandView{cards: p.cardTable(ctx, cards), orders: p.orderTable(r, orders)}
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
