package ops

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"koala/acquiring"
	"koala/customer"
	"koala/internal/db"
	"koala/issuing"
	"koala/tsm"
	"koala/web"
	"koala/web/ops/ecash"
	"koala/web/ops/lost"
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

var cardKinds = []issuing.Kind{issuing.Transit, issuing.ECash, issuing.Debit, issuing.Credit, issuing.Canteen, issuing.Door, issuing.Coupon}

// A cardFilter picks cards of the list; empty fields pick all.
type cardFilter struct {
	state                     issuing.State
	kind                      issuing.Kind
	tail, holder, band, stops string
	holders                   map[customer.ID]bool // whom holder names
}

func readCardFilter(r *http.Request) (cardFilter, error) {
	f := cardFilter{state: issuing.State(r.FormValue("state")), kind: issuing.Kind(r.FormValue("kind")), tail: strings.TrimSpace(r.FormValue("tail")),
		holder: strings.TrimSpace(r.FormValue("holder")), band: strings.TrimSpace(r.FormValue("band")), stops: r.FormValue("suspended")}
	if f.state != "" && !slices.Contains(cardStates, f.state) || f.kind != "" && !slices.Contains(cardKinds, f.kind) {
		return f, fmt.Errorf("filter of cards: %w", shell.ErrForm)
	}
	return f, nil
}

// resolve finds whom the holder's name means.
func (f *cardFilter) resolve(q *db.Query) error {
	if f.holder == "" {
		return nil
	}
	f.holders = map[customer.ID]bool{customer.ID(f.holder): true}
	people, err := shell.Gather(web.Paging{Limit: 1000}, func(after string, limit int) ([]customer.Customer, error) {
		return customer.List(q, customer.ID(after), limit)
	}, customerID, func(c customer.Customer) bool {
		return strings.Contains(c.Login, strings.ToLower(f.holder)) || strings.Contains(c.Name, f.holder)
	})
	for _, c := range people {
		f.holders[c.ID] = true
	}
	return err
}

func (f cardFilter) keep(c issuing.Card) bool {
	return (f.state == "" || c.State == f.state) && (f.kind == "" || c.Kind == f.kind) && (strings.HasSuffix(string(c.ID), f.tail) || strings.HasSuffix(c.Tail, f.tail)) &&
		(f.holder == "" || f.holders[c.Customer]) && strings.Contains(c.Band, f.band) && (f.stops == "" || !c.Suspended.IsZero())
}

func (f cardFilter) fields() []web.Field {
	states, kinds := []web.Option{{Name: words.All}}, []web.Option{{Name: words.All}}
	for _, s := range cardStates {
		states = append(states, web.Option{Value: string(s), Name: shell.Both(s.Words)})
	}
	for _, k := range cardKinds {
		kinds = append(kinds, web.Option{Value: string(k), Name: shell.Both(k.Words)})
	}
	return []web.Field{
		{Name: "kind", Label: words.Kind, Type: "select", Options: kinds, Value: string(f.kind)},
		{Name: "state", Label: words.State, Type: "select", Options: states, Value: string(f.state)},
		{Name: "suspended", Label: words.Lost, Type: "select", Options: []web.Option{{Name: words.All}, {Value: "1", Name: words.OnlyLost}}, Value: f.stops},
		{Name: "tail", Label: words.LastDigits, Type: "search", Mode: "numeric", Value: f.tail, Max: 20},
		{Name: "holder", Label: words.Holder, Type: "search", Value: f.holder, Max: customer.MaxName},
		{Name: "band", Label: words.Band, Type: "search", Value: f.band, Max: tsm.MaxBand},
	}
}

// cards lists every card ever issued.
func (p pages) cards(w http.ResponseWriter, r *http.Request) error {
	f, err := readCardFilter(r)
	if err != nil {
		return err
	}
	pg := web.PageOf(r, shell.Rows)
	var list []issuing.Card
	err = p.Store.Read(r.Context(), func(q *db.Query) (err error) {
		if err := f.resolve(q); err != nil {
			return err
		}
		list, err = shell.Gather(pg, func(after string, limit int) ([]issuing.Card, error) {
			return issuing.List(q, issuing.CardID(after), limit)
		}, cardNumber, f.keep)
		return err
	})
	if err != nil {
		return fmt.Errorf("cards: %w", err)
	}
	v := shell.ListView{Table: p.cardTable(r.Context(), list), Events: "orders", Tabs: lost.Tabs("/ops/cards"), Filter: f.fields()}
	v.Table.Next = shell.NextOf(r, list, pg, cardNumber)
	return p.desk.List(w, r, web.Page{Title: words.Cards, Lead: words.CardsLead, Here: "/ops/cards"}, v)
}

func cardNumber(c issuing.Card) string { return string(c.ID) }

func (p pages) cardTable(ctx context.Context, list []issuing.Card) web.Table {
	t := web.Table{ID: "cards", Empty: words.NoCards, Head: []web.Column{{Name: words.Card}, {Name: words.State}, {Name: words.Kind},
		{Name: words.Band}, {Name: words.Proven, Num: true}, {Name: words.InTheBooks, Num: true}, {Name: words.LastSeen, Num: true}}}
	for _, c := range list {
		float := shell.None()
		if b, err := p.Book.Balance(issuing.Float(c.ID)); err == nil {
			float = web.Money(b.Posted.Minor())
		}
		t.Rows = append(t.Rows, web.Row{Href: cardPath(string(c.Customer), c.ID), Cells: []web.Cell{web.Mono(nameOf(c)),
			cardStatus(ctx, c), {Text: shell.Both(c.Kind.Words).In(ctx), CSV: c.Product, Show: shell.Tight(shell.Both(c.Kind.Words).In(ctx))}, shell.Ident(c.Band),
			web.Money(c.Known.Balance.Minor()), float, web.When(c.Known.At)}})
	}
	return t
}

// nameOf is what a card is called in lists: bank cards go by the last digits of
// their number.
func nameOf(c issuing.Card) string {
	if c.Kind.Bank() && c.Tail != "" {
		return "•••• " + c.Tail
	}
	return shell.Masked(c.ID)
}

// cardStatus is a card's state; that its holder lost it goes before.
func cardStatus(ctx context.Context, c issuing.Card) web.Cell {
	if !c.Suspended.IsZero() && !c.State.Over() {
		return web.Status(ctx, web.Bad, words.Suspended)
	}
	return web.Status(ctx, cardTone(c.State), shell.Both(c.State.Words))
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

	transit bool // its uses are journeys
}

// faceOf draws a card as its wearer sees it.
func faceOf(c issuing.Card, p issuing.Product) web.CardFace {
	f := web.CardFace{Kind: shell.CardKind(c.Kind), Name: web.Text{ZH: p.NameZH, EN: p.NameEN}, Issuer: words.House, Tail: c.Tail, Off: c.State != issuing.Active || !c.Suspended.IsZero()}
	if c.Kind == issuing.Transit {
		f.Issuer = words.Issuer
	}
	if c.Kind.Money() && c.Kind != issuing.Credit {
		f.Value = web.Yuan(c.Known.Balance.Minor())
	}
	return f
}

// usesOf lists what a card did last, by its kind.
func (p pages) usesOf(ctx context.Context, q *db.Query, c issuing.Card) (web.Table, error) {
	if c.Kind.Bank() {
		list, err := acquiring.Sales(q, acquiring.Filter{Card: c.ID, Limit: 20})
		return shell.NoFile(ecash.SaleTable(ctx, list)), err
	}
	return p.ridesOf(ctx, q, c.ID.Purse())
}

// claimFacts say where the money of a lost card is, with the rule it waits by.
func claimFacts(q *db.Query, c issuing.Card) ([]web.Fact, error) {
	if c.Suspended.IsZero() {
		return nil, nil
	}
	facts := []web.Fact{{Name: words.Lost, Value: web.Moment(c.Suspended), Href: lost.Path(c.Band)}}
	k, err := issuing.ClaimOf(q, c.ID)
	if errors.Is(err, issuing.ErrNoClaim) {
		return facts, nil
	}
	return append(facts, web.Fact{Name: words.ClaimDue, Show: shell.Phrase(words.ClaimRule.F(web.Moment(k.Due), int(k.Rule.Value), k.Rule.Source))}), err
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
	var claim []web.Fact
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
		if v.rides, err = p.usesOf(ctx, q, v.card); err != nil {
			return err
		}
		if claim, err = claimFacts(q, v.card); err != nil {
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
	v.face = faceOf(v.card, product)
	v.facts = append(p.cardFacts(ctx, v.card, v.denied), claim...)
	v.transit = v.card.Kind == issuing.Transit
	return p.desk.Show(w, r, web.Page{Title: web.Same(nameOf(v.card)), Lead: web.Text{ZH: product.NameZH, EN: product.NameEN}, Back: "/ops/cards", Here: "/ops/cards"}, cardPage(v))
}

func (p pages) cardFacts(ctx context.Context, c issuing.Card, denied bool) []web.Fact {
	facts := []web.Fact{
		{Name: words.State, Show: cardStatus(ctx, c).Show},
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
	facts = append(facts, web.Fact{Name: words.Kind, Show: shell.Phrase(shell.Both(c.Kind.Words))}, web.Fact{Name: words.Product, Value: c.Product, Mono: true},
		web.Fact{Name: words.Deposit, Value: web.Yuan(c.Deposit.Minor()), Href: accountPath(issuing.DepositAccount(c.ID))},
		web.Fact{Name: words.Valid, Value: c.From.Format(time.DateOnly) + " – " + c.To.Format(time.DateOnly)},
		web.Fact{Name: words.Instance, Value: web.Hex(c.Instance), Mono: true})
	if c.Replaces != "" {
		facts = append(facts, web.Fact{Name: words.Replaces, Value: shell.Masked(c.Replaces), Href: cardPath(string(c.Customer), c.Replaces), Mono: true})
	}
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

// pathOfRecord is the page of the record that a payment by card came with,
// named by card and counter; empty when none has come.
func (p pages) pathOfRecord(ctx context.Context, rest string) (path string, err error) {
	card, counter, _ := strings.Cut(rest, ":")
	counter, _, _ = strings.Cut(counter, ":")
	err = p.Store.Read(ctx, func(q *db.Query) error {
		list, err := acquiring.Sales(q, acquiring.Filter{Card: issuing.CardID(card), Limit: 500})
		for _, s := range list {
			if strconv.Itoa(int(s.ATC)) == counter {
				path = "/ops/ecash/records/" + s.ID
			}
		}
		return err
	})
	return path, err
}

// pathOfLoss is the page of the lost band that held a card.
func (p pages) pathOfLoss(ctx context.Context, id issuing.CardID) (path string, err error) {
	err = p.Store.Read(ctx, func(q *db.Query) error {
		c, err := issuing.Get(q, id)
		path = lost.Path(c.Band)
		return err
	})
	if errors.Is(err, issuing.ErrNotFound) {
		return "", nil
	}
	return path, err
}
