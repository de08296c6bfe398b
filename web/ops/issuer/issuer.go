// Package issuer is where staff see what cards are issued: templates of the
// house and of partners, with their approval, and the products on sale. Start
// at Routes.
package issuer

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/issuing"
	"koala/web"
	"koala/web/ops/shell"
)

// Deps is what these pages are made of.
type Deps struct{ Desk shell.Desk }

const here = "/ops/issuers"

// Routes adds the pages to the console.
func Routes(m *web.Mux, d Deps) {
	m.Handle("GET "+here, d.templates)
	m.Handle("GET "+here+"/products", d.products)
	m.Handle("GET "+here+"/templates/{id}", d.template)
	m.Handle("POST "+here+"/templates/{id}/{act}", d.decide)
}

func tabs(at string) []shell.Tab {
	return []shell.Tab{{Href: here, Name: words.Templates, Here: at == ""}, {Href: here + "/products", Name: words.Products, Here: at == "/products"}}
}

// states of a template, with how they look.
var states = []struct {
	state issuing.TemplateState
	tone  web.Tone
	name  web.Text
}{
	{issuing.Submitted, web.Warn, words.Submitted}, {issuing.Approved, web.Good, words.Approved}, {issuing.Refused, web.Bad, words.Refused}, {issuing.Withdrawn, web.Neutral, words.Withdrawn},
}

func stateOf(s issuing.TemplateState) (web.Tone, web.Text) {
	for _, x := range states {
		if x.state == s {
			return x.tone, x.name
		}
	}
	return web.Neutral, web.Same(string(s))
}

// scan is how many of an issuer's newest templates a list looks at.
const scan = 500

// templates lists every version of every template, what waits for staff first.
func (d Deps) templates(w http.ResponseWriter, r *http.Request) error {
	ctx, pg := r.Context(), web.PageOf(r, shell.Rows)
	issuer, state := strings.TrimSpace(r.FormValue("issuer")), issuing.TemplateState(r.FormValue("state"))
	if _, name := stateOf(state); state != "" && name == web.Same(string(state)) {
		return fmt.Errorf("filter of templates: %w", shell.ErrForm)
	}
	var list []issuing.Template
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = issuing.Templates(q, issuer, scan)
		return err
	})
	if err != nil {
		return fmt.Errorf("templates: %w", err)
	}
	list = slices.DeleteFunc(list, func(t issuing.Template) bool {
		return state != "" && t.State != state || pg.After != "" && t.ID >= pg.After
	})
	waits := slices.IndexFunc(list, func(t issuing.Template) bool { return t.State == issuing.Submitted }) >= 0
	list = list[:min(len(list), pg.Limit)]
	t := web.Table{ID: "templates", Empty: words.NoTemplates, Next: shell.NextOf(r, list, pg, func(t issuing.Template) string { return t.ID }), Head: []web.Column{{Name: words.Template}, {Name: words.State}, {Name: words.Kind},
		{Name: words.Issuer}, {Name: words.Code}, {Name: words.Version, Num: true}, {Name: words.Handed, Num: true}}}
	for _, x := range list {
		tone, word := stateOf(x.State)
		t.Rows = append(t.Rows, web.Row{Href: here + "/templates/" + x.ID, Cells: []web.Cell{{Text: nameOf(x.NameEN, x.NameZH).In(ctx), CSV: x.ID + " " + x.NameEN}, web.Status(ctx, tone, word),
			shell.Short(shell.Both(x.Kind.Words).In(ctx)), web.Plain(x.Issuer), web.Mono(x.Code), shell.Short("v" + strconv.Itoa(x.Version)), shell.At(x.Made)}})
	}
	options := []web.Option{{Name: words.All}}
	for _, s := range states {
		options = append(options, web.Option{Value: string(s.state), Name: s.name})
	}
	v := shell.ListView{Table: t, Tabs: tabs(""), Filter: []web.Field{{Name: "state", Label: words.State, Type: "select", Options: options, Value: string(state)},
		{Name: "issuer", Label: words.Issuer, Type: "search", Value: issuer, Max: issuing.MaxBand}}}
	if waits {
		v.Note, v.Tone = words.SomeWait, web.Warn
	}
	return d.Desk.List(w, r, web.Page{Title: words.Title, Lead: words.Lead, Here: here}, v)
}

func nameOf(en, zh string) web.Text { return web.Text{ZH: zh, EN: en} }

// A templateView is one template: its card, its data as facts, its approval.
type templateView struct {
	face  web.CardFace
	facts []web.Fact
	data  []web.Fact
	acts  []shell.Question
	deeds []web.Happening
	state issuing.TemplateState
}

func (d Deps) template(w http.ResponseWriter, r *http.Request) error {
	ctx, at := r.Context(), here+"/templates/"+r.PathValue("id")
	var t issuing.Template
	var v templateView
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if t, err = issuing.TemplateOf(q, r.PathValue("id")); err != nil {
			return err
		}
		trail, err := shell.Deeds(q, shell.Deed{Target: at}, "", shell.Rows)
		v.deeds = shell.Told(trail)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a template: %w", err)
	}
	v.state, v.facts, v.data, v.acts = t.State, facts(t), dataFacts(t), acts(t, at)
	v.face = web.CardFace{Kind: shell.CardKind(t.Kind), Name: nameOf(t.NameEN, t.NameZH), Issuer: issuerName(t.Issuer), Tail: "0000", Off: t.State != issuing.Approved}
	return d.Desk.Show(w, r, web.Page{Title: nameOf(t.NameEN, t.NameZH), Lead: shell.Both(t.Kind.Words), Back: here, Here: here}, templatePage(v))
}

func issuerName(code string) web.Text {
	if code == issuing.House {
		return words.House
	}
	return web.Same(code)
}

func facts(t issuing.Template) []web.Fact {
	tone, word := stateOf(t.State)
	out := []web.Fact{{Name: words.State, Show: web.Chip(tone, word)}, {Name: words.Issuer, Show: shell.Phrase(issuerName(t.Issuer))},
		{Name: words.Code, Value: t.Code, Mono: true}, {Name: words.Version, Value: "v" + strconv.Itoa(t.Version)}, {Name: words.Template, Value: t.ID, Mono: true},
		{Name: words.NameZH, Show: web.Quote("zh", t.NameZH)}, {Name: words.NameEN, Show: web.Quote("en", t.NameEN)}, {Name: words.Handed, Value: web.Moment(t.Made)}}
	if t.Space > 0 {
		out = append(out, web.Fact{Name: words.Space, Value: web.Number(int64(t.Space))})
	}
	if t.By != "" {
		out = append(out, web.Fact{Name: words.DecidedBy, Value: t.By}, web.Fact{Name: words.DecidedAt, Value: web.Moment(t.Decided)})
	}
	if t.Why != "" {
		out = append(out, web.Fact{Name: words.Reason, Value: t.Why})
	}
	return out
}

// dataFacts says the kind's own part in words, in the order of its fields.
func dataFacts(t issuing.Template) []web.Fact {
	dec := json.NewDecoder(strings.NewReader(string(t.Data)))
	dec.UseNumber()
	var out []web.Fact
	if _, err := dec.Token(); err != nil { // the brace
		return nil
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return out
		}
		var v any
		if err := dec.Decode(&v); err != nil {
			return out
		}
		name, _ := key.(string)
		if name == "value" {
			out = append(out, web.Fact{Name: fields[name].name, Value: couponValue(t.Data)})
			continue
		}
		if f, said := dataFact(name, v); said {
			out = append(out, f)
		}
	}
	return out
}

// couponValue says what a coupon takes off, by what it gives.
func couponValue(raw json.RawMessage) string {
	var d issuing.CouponData
	if err := json.Unmarshal(raw, &d); err != nil {
		return "–"
	}
	switch d.Gives {
	case "amount":
		return web.Yuan(int64(d.Value))
	case "percent":
		return fmt.Sprintf("%d.%02d %%", d.Value/100, d.Value%100)
	}
	return strconv.Itoa(int(d.Value))
}

// dataFact is one field: money in yuan, bits in hexadecimal, yes and no. Limits
// that are zero are not there.
func dataFact(name string, v any) (web.Fact, bool) {
	f, known := fields[name]
	if !known {
		f.name = web.Same(name)
	}
	n, isNumber := v.(json.Number)
	i, err := n.Int64()
	switch b, isBool := v.(bool); {
	case isBool && b:
		return web.Fact{Name: f.name, Show: shell.Phrase(words.Yes)}, true
	case isBool:
		return web.Fact{Name: f.name, Show: shell.Phrase(words.No)}, true
	case isNumber && err == nil && f.money:
		return web.Fact{Name: f.name, Value: web.Yuan(i)}, i != 0
	case isNumber && err == nil && f.bits:
		return web.Fact{Name: f.name, Value: fmt.Sprintf("%08X", i), Mono: true}, true
	case name == "gives":
		return web.Fact{Name: f.name, Show: shell.Phrase(gives[fmt.Sprint(v)])}, true
	}
	return web.Fact{Name: f.name, Value: fmt.Sprint(v)}, !isNumber || i != 0
}

// acts are what staff may do about a template in its state.
func acts(t issuing.Template, at string) (out []shell.Question) {
	what := t.Issuer + "/" + t.Code + " v" + strconv.Itoa(t.Version)
	for _, x := range []struct {
		act  string
		to   issuing.TemplateState
		q    shell.Question
		from []issuing.TemplateState
	}{
		{"approve", issuing.Approved, shell.Question{Open: words.Approve, Body: words.ApproveBody, Icon: "check"}, []issuing.TemplateState{issuing.Submitted}},
		{"refuse", issuing.Refused, shell.Question{Open: words.Refuse, Body: words.RefuseBody, Icon: "x", Danger: true}, []issuing.TemplateState{issuing.Submitted}},
		{"withdraw", issuing.Withdrawn, shell.Question{Open: words.Withdraw, Body: words.WithdrawBody, Icon: "ban", Danger: true}, []issuing.TemplateState{issuing.Approved}},
	} {
		if slices.Contains(x.from, t.State) && (t.Issuer != issuing.House || x.act != "withdraw") {
			x.q.ID, x.q.Action, x.q.Receiver, x.q.About = "ask-"+x.act, at+"/"+x.act, what, words.Template
			out = append(out, x.q)
		}
	}
	return out
}

// decide carries out what staff decided; the reason goes to the issuer too.
func (d Deps) decide(w http.ResponseWriter, r *http.Request) error {
	id, act := r.PathValue("id"), r.PathValue("act")
	at := here + "/templates/" + id
	reason, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, at, err)
	}
	u, _ := web.Who(r.Context())
	deed := shell.Deed{Target: at, What: id}
	said := words.DidApprove
	var do func(*db.Tx) (issuing.Template, error)
	switch act {
	case "approve":
		deed.Act, do = shell.ActApprove, func(tx *db.Tx) (issuing.Template, error) { return issuing.Approve(tx, id, u.Name) }
	case "refuse":
		deed.Act, said, do = shell.ActRefuse, words.DidRefuse, func(tx *db.Tx) (issuing.Template, error) { return issuing.Refuse(tx, id, u.Name, brief(reason)) }
	case "withdraw":
		deed.Act, said, do = shell.ActWithdraw, words.DidWithdraw, func(tx *db.Tx) (issuing.Template, error) { return issuing.Withdraw(tx, id, u.Name, brief(reason)) }
	default:
		return fmt.Errorf("act %q on a template: %w", act, web.ErrNoPage)
	}
	return d.Desk.Change(w, r, at, said, deed, func(tx *db.Tx) error {
		t, err := issuing.TemplateOf(tx, id)
		if err == nil && t.Issuer == issuing.House && act == "withdraw" { // the house's products have terms of their own
			err = fmt.Errorf("template %s: %w", id, issuing.ErrState)
		}
		if err == nil {
			_, err = do(tx)
		}
		return err
	})
}

// brief keeps a reason within the 200 bytes that a template holds; the trail
// has all of it.
func brief(s string) string {
	const most = 200
	for len(s) > most {
		r := []rune(s)
		s = string(r[:len(r)-1])
	}
	return s
}

// products lists what is on sale today.
func (d Deps) products(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	var list []issuing.Product
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = issuing.Products(q, d.Desk.Store.Now())
		return err
	})
	if err != nil {
		return fmt.Errorf("products: %w", err)
	}
	t := web.Table{ID: "products", Empty: words.NoProducts, Head: []web.Column{{Name: words.Product}, {Name: words.Kind}, {Name: words.Code}, {Name: words.Prefix}, {Name: words.Deposit, Num: true},
		{Name: words.MaxLoad, Num: true}, {Name: words.MaxBalance, Num: true}, {Name: words.Years, Num: true}}}
	if web.WantsCSV(r) { // where the terms come from stands below the table, and in its file
		t.Head = append(t.Head, web.Column{Name: words.Source}, web.Column{Name: words.From})
	}
	var sources []web.Fact
	for _, p := range list {
		sources = append(sources, web.Fact{Name: nameOf(p.NameEN, p.NameZH), Show: web.Quote("en", p.Source+", "+p.From.In(calendar.Beijing).Format(time.DateOnly))})
		row := web.Row{Cells: []web.Cell{shell.Short(nameOf(p.NameEN, p.NameZH).In(ctx)), shell.Short(shell.Both(p.Kind.Words).In(ctx)), web.Mono(p.Code), numbers(p), web.Money(p.Deposit.Minor()),
			most(p, p.MaxLoad.Minor()), most(p, p.MaxBalance.Minor()), web.Count(int64(p.Years))}}
		if web.WantsCSV(r) {
			row.Cells = append(row.Cells, web.Plain(p.Source), shell.At(p.From))
		}
		if p.Template != "" {
			row.Href = here + "/templates/" + p.Template
		}
		t.Rows = append(t.Rows, row)
	}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, t)
	}
	return d.Desk.Show(w, r, web.Page{Title: words.Title, Lead: words.Lead, Here: here}, productsPage(tabs("/products"), t, sources))
}

func numbers(p issuing.Product) web.Cell {
	if p.Prefix == "" {
		return shell.None()
	}
	return web.Mono(p.Prefix + "…")
}

func most(p issuing.Product, fen int64) web.Cell {
	if !p.Kind.Money() || fen == 0 {
		return shell.None()
	}
	return web.Money(fen)
}
