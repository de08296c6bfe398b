package wearer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"koala/internal/fail"
	"koala/issuing"
	"koala/spec/dialogue"
	"koala/spec/iso7816"
	"koala/web"
)

// catalogueView is what one may add.
type catalogueView struct {
	groups []productGroup
	short  bool // a deposit on offer is more than the wallet has
	room   Room
	ref    string
}

// A productGroup is the products that are good for the same thing.
type productGroup struct {
	name     web.Text
	products []Product
}

// shelves are the groups of the catalogue, in the order people think of them.
var shelves = []struct {
	name  web.Text
	kinds []issuing.Kind
}{
	{words.ShelfTravel, []issuing.Kind{issuing.Transit}}, {words.ShelfPay, []issuing.Kind{issuing.ECash, issuing.Debit, issuing.Credit}},
	{words.ShelfEat, []issuing.Kind{issuing.Canteen}}, {words.ShelfOpen, []issuing.Kind{issuing.Door}}, {words.ShelfSave, []issuing.Kind{issuing.Coupon}},
}

// shelved puts products on their shelves; empty shelves are left out.
func shelved(list []Product) (out []productGroup) {
	for _, s := range shelves {
		g := productGroup{name: s.name}
		for _, k := range s.kinds {
			for _, p := range list {
				if p.For == k {
					g.products = append(g.products, p)
				}
			}
		}
		if len(g.products) > 0 {
			out = append(out, g)
		}
	}
	return out
}

func (p pages) catalogue(w http.ResponseWriter, r *http.Request) error {
	ctx, me := r.Context(), who(r)
	v := catalogueView{ref: p.Ref()}
	list, err := p.Desk.Products(ctx, me)
	if err != nil {
		return fmt.Errorf("products: %w", err)
	}
	money, err := p.Desk.Wallet(ctx, me)
	if err != nil {
		return fmt.Errorf("wallet: %w", err)
	}
	band, err := p.Street.Band(ctx, me)
	if err != nil {
		return fmt.Errorf("band: %w", err)
	}
	if v.room, err = p.room(ctx, me, band); err != nil {
		return err
	}
	v.groups = shelved(list)
	v.short = slices.ContainsFunc(list, func(p Product) bool { return p.Offered() && p.DepositFen > money.Fen })
	return p.show(w, r, web.Page{Title: words.AddCard, Lead: words.AddLead, Back: "/my/", Here: "/my/"}, cataloguePage(v))
}

func (p pages) add(w http.ResponseWriter, r *http.Request) error {
	id, err := p.Desk.Apply(r.Context(), who(r), r.PostFormValue("ref"), r.PostFormValue("product"))
	if err != nil {
		return p.sorry(w, r, "/my/add", err)
	}
	p.Street.Connect(r.Context(), who(r))
	return web.Redirect(w, r, "/my/orders/"+id, web.Toast{})
}

// wrongOf is what a form says beside itself.
func wrongOf(err error) web.Text {
	f := fail.Of(err)
	return web.FailureText(f.Code, f.Text)
}

// sorry takes a person back to the form with what the house said; defects
// still become the error page.
func (p pages) sorry(w http.ResponseWriter, r *http.Request, back string, err error) error {
	f := fail.Of(err)
	if f.Kind == fail.Broken {
		return err
	}
	return web.Redirect(w, r, back, web.Toast{Tone: web.Bad, Text: web.FailureText(f.Code, f.Text).In(r.Context())})
}

// orderView is an order's progress.
type orderView struct {
	order Order
	card  Card
	have  bool // the card is known
	talk  []web.Exchange
}

func (p pages) order(w http.ResponseWriter, r *http.Request) error {
	ctx, me := r.Context(), who(r)
	o, err := p.Desk.Order(ctx, me, r.PathValue("id"))
	if err != nil {
		return fmt.Errorf("order: %w", err)
	}
	v := orderView{order: o}
	if v.talk, _, err = p.told(ctx, o.Talk); err != nil {
		return err
	}
	cards, err := p.Desk.Cards(ctx, me)
	if err != nil {
		return fmt.Errorf("cards: %w", err)
	}
	band, err := p.Street.Band(ctx, me)
	if err != nil {
		return fmt.Errorf("band: %w", err)
	}
	for _, c := range withLive(cards, band) {
		if c.Number == o.Card {
			v.card, v.have = c, true
		}
	}
	back := "/my/"
	if v.have {
		back = "/my/cards/" + v.card.Key()
	}
	return p.show(w, r, web.Page{Title: o.Name, Back: back, Here: "/my/"}, orderPage(v))
}

func (p pages) cancel(w http.ResponseWriter, r *http.Request) error {
	return p.push(w, r, p.Desk.Cancel(r.Context(), who(r), r.PathValue("id")))
}

// verify asks the card what became of an order whose line was cut.
func (p pages) verify(w http.ResponseWriter, r *http.Request) error {
	return p.push(w, r, p.Desk.Verify(r.Context(), who(r), r.PathValue("id")))
}

func (p pages) push(w http.ResponseWriter, r *http.Request, err error) error {
	to := "/my/orders/" + r.PathValue("id")
	if err != nil {
		if errors.Is(err, ErrNoOrder) {
			return err
		}
		return p.sorry(w, r, to, err)
	}
	p.Street.Connect(r.Context(), who(r))
	return web.Redirect(w, r, to, web.Toast{})
}

// told puts a dialogue into words, one card's session from the first command to
// the last, and says which of its signatures hold. What whoever was there made
// of a command goes first: it knows what is secret.
func (p pages) told(ctx context.Context, talk []Exchange) ([]web.Exchange, []proofLine, error) {
	if len(talk) == 0 {
		return nil, nil, nil
	}
	var opt dialogue.Options
	if p.CAs != nil {
		var err error
		if opt.CAs, err = p.CAs(ctx); err != nil {
			return nil, nil, fmt.Errorf("authority's keys: %w", err)
		}
	}
	card := dialogue.NewSession(opt)
	out := make([]web.Exchange, 0, len(talk))
	for i, e := range talk {
		x := web.Exchange{N: i + 1, Command: e.Command, Answer: e.Answer, Means: words.Unexplained}
		if e.Air > 0 {
			x.At = millis(e.Air)
		}
		said := card.Say(dialogue.Exchange{Command: e.Command, Response: e.Answer})
		x.Means = web.Text{ZH: cmp.Or(said.Explanation.ZH, said.Explanation.EN, words.Unexplained.ZH), EN: cmp.Or(said.Explanation.EN, words.Unexplained.EN)}
		fields := said.Fields()
		if e.Told != nil {
			x.Means, fields = web.Text{ZH: cmp.Or(e.Told.ZH, e.Told.EN), EN: e.Told.EN}, e.Told.Fields
		}
		for _, f := range fields {
			name := f.Name
			if web.LangOf(ctx) == web.ZH {
				name = cmp.Or(f.NameZH, f.Name)
			}
			x.Fields = append(x.Fields, web.ExchangeField{Name: name, Value: f.Value, Secret: f.Secret && f.Value == ""})
		}
		x.Status, x.Tone = status(e.Answer)
		out = append(out, x)
	}
	return out, proofsOf(card.Report()), nil
}

// status says the two bytes an answer ends with; no answer is a lost link.
func status(answer []byte) (string, web.Tone) {
	if len(answer) < 2 {
		return "✕", web.Bad
	}
	sw := iso7816.SW(answer[len(answer)-2])<<8 | iso7816.SW(answer[len(answer)-1])
	if sw.OK() {
		return "9000", web.Good
	}
	return sw.String(), web.Warn
}

// history merges rides, other uses and orders, newest first.
func history(trips []Trip, uses []Use, orders []Order, limit int) []web.Happening {
	var out []web.Happening
	for _, u := range uses {
		out = append(out, useLine(u))
	}
	for _, t := range trips {
		out = append(out, tripLine(t))
	}
	for _, o := range orders {
		h := web.Happening{At: o.At, What: o.Name, Href: "/my/orders/" + o.ID, Icon: orderIcons[o.Kind], Tone: o.Tone}
		if o.Fen != 0 {
			h.Detail = web.SignedYuan(o.Fen)
		}
		if !o.Good {
			h.What = web.Text{ZH: o.Name.ZH + "：" + o.State.ZH, EN: o.Name.EN + ": " + o.State.EN}
		}
		out = append(out, h)
	}
	slices.SortStableFunc(out, func(a, b web.Happening) int { return b.At.Compare(a.At) })
	return out[:min(limit, len(out))]
}

var orderIcons = map[OrderKind]string{OrderIssue: "credit-card", OrderTopUp: "plus", OrderBlock: "lock", OrderUnblock: "lock-open",
	OrderReturn: "trash-2", OrderAdopt: "watch", OrderDefault: "circle-check", OrderUpdate: "sliders-horizontal"}

// parseYuan reads 50, 12.5 or 12.50 as fen; nothing else.
func parseYuan(s string) (int64, error) {
	s = strings.TrimSpace(s)
	whole, part, dotted := strings.Cut(s, ".")
	if dotted && (len(part) == 0 || len(part) > 2) || len(whole) == 0 || len(whole) > 7 {
		return 0, fmt.Errorf("yuan: %w", ErrAmount)
	}
	for len(part) < 2 {
		part += "0"
	}
	n, err := strconv.ParseUint(whole+part, 10, 63)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("yuan: %w", ErrAmount)
	}
	return int64(n), nil
}
