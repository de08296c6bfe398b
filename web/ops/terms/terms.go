// Package terms is where staff look at and change what payees agreed to: price
// card, end of day, payday, smallest payout, reserve, being paid at once, and the
// standing split of sales. A change begins on a day to come, is proposed by one
// person with a reason and confirmed by another, after a preview that prices the
// last closed day again. Start at Routes.
package terms

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/internal/proposal"
	"koala/merchant"
	"koala/settlement"
	"koala/web"
	"koala/web/merchant/cash"
	"koala/web/ops/closings"
	"koala/web/ops/shell"
)

// Failures of these pages.
var (
	ErrStale = fail.Define(fail.Conflict, "terms.stale", "the terms have changed since this was looked at: look at the preview again")
	ErrPast  = fail.Define(fail.Refused, "terms.past", "these terms begin tomorrow or later: what was sold is priced by the terms of its day")
	ErrSame  = fail.Define(fail.Refused, "terms.same", "this changes nothing: the terms of that day are the same")
)

// Deps is what these pages are made of.
type Deps struct {
	Desk shell.Desk
}

const here = closings.AtTerms

// Routes adds the pages to the console.
func Routes(m *web.Mux, d Deps) {
	m.Handle("GET "+here, d.find)
	m.Handle("GET "+here+"/{payee}", d.payee)
	m.Handle("GET "+here+"/{payee}/new", d.form)
	m.Handle("POST "+here+"/{payee}", d.proposeTerms)
	m.Handle("GET "+here+"/{payee}/split", d.splitForm)
	m.Handle("POST "+here+"/{payee}/split", d.proposeSplit)
	m.Handle("POST "+here+"/proposals/{kind}/{id}/{act}", d.decide)
	m.Handle("POST "+here+"/wishes/{id}/refuse", d.refuse)
}

func at(payee string) string { return here + "/" + url.PathEscape(payee) }

func (d Deps) today() calendar.Date { return calendar.Of(d.Desk.Store.Now(), calendar.Beijing) }

// nameOf is a payee for people: a shop, an agent, or its number.
func nameOf(q db.Reader, payee string) web.Text {
	if id, is := strings.CutPrefix(payee, merchant.Payee("")); is {
		if a, err := merchant.AgentOf(q, id); err == nil {
			return web.Text{ZH: words.AgentIs.ZH + " " + a.Name, EN: words.AgentIs.EN + " " + a.Name}
		}
	}
	if name := shell.ShopName(q, payee); !name.Empty() {
		return name
	}
	return web.Same(payee)
}

// A findView is who may be looked at, and what waits.
type findView struct {
	filter  []web.Field
	found   web.Table
	waiting web.Table
	wishes  web.Table
	last    web.Table
}

// find lists payees by name or number, above them what waits for a person.
func (d Deps) find(w http.ResponseWriter, r *http.Request) error {
	ctx, pg, today := r.Context(), web.PageOf(r, shell.Rows), d.today()
	text, who := strings.TrimSpace(r.FormValue("find")), r.FormValue("who")
	v := findView{filter: []web.Field{{Name: "find", Label: words.Find, Type: "search", Value: text, Max: 64},
		{Name: "who", Label: words.Who, Type: "select", Value: who, Options: []web.Option{{Name: words.Shops}, {Value: "agents", Name: words.Agents}}}}}
	v.found = web.Table{ID: "payees", Empty: words.NoPayees, Head: []web.Column{{Name: words.Payee}, {Name: words.Number}, {Name: words.Since, Num: true}, {Name: words.Fees}, {Name: words.Pays}, {Name: words.AtOnce}}}
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		payees, next, err := payeesOf(q, text, who, pg)
		if err != nil {
			return err
		}
		for _, id := range payees {
			t, err := settlement.TermsOf(q, id, today)
			if err != nil {
				return err
			}
			v.found.Rows = append(v.found.Rows, foundRow(ctx, q, id, agreedOf(t)))
		}
		if next != "" {
			v.found.Next = web.NextURL(r, pg.Limit, pg, next)
		}
		if web.WantsCSV(r) || pg.After != "" {
			return nil
		}
		return v.work(ctx, q)
	})
	if err != nil {
		return fmt.Errorf("terms: %w", err)
	}
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.found)
	}
	return d.Desk.Show(w, r, web.Page{Title: words.Title, Lead: words.Lead, Here: "/ops/closings"}, findPage(v))
}

func foundRow(ctx context.Context, q db.Reader, id string, a agreed) web.Row {
	since, once := shell.None(), shell.None()
	if !a.Since.IsZero() {
		since = shell.Short(a.Since.String())
	}
	if a.Once {
		once = web.Status(ctx, web.Good, words.Yes)
	}
	return web.Row{Href: at(id), Cells: []web.Cell{web.Plain(nameOf(q, id).In(ctx)), shell.Ident(id), since, web.Plain(a.fees().In(ctx)), web.Plain(paysWords[a.Pays].In(ctx)), once}}
}

// payeesOf are the payees of a page of the list: those of a name's beginning or a
// number, or all; next names the last merchant where there may be more.
func payeesOf(q db.Reader, text, who string, pg web.Paging) (out []string, next string, err error) {
	if who == "agents" {
		list, err := merchant.TreeOn(q, calendar.Date{Year: 9999, Month: 1, Day: 1})
		for _, b := range list {
			if text == "" || strings.HasPrefix(b.Agent.ID, text) || strings.HasPrefix(b.Agent.Name, text) {
				out = append(out, merchant.Payee(b.Agent.ID))
			}
		}
		return out[:min(len(out), pg.Limit)], "", err
	}
	if text != "" && pg.After == "" {
		if id, err := byNumber(q, text); err != nil || id != "" {
			return []string{id}, "", err
		}
	}
	list, err := merchant.List(q, merchant.Filter{Name: text, After: pg.After, Limit: pg.Limit})
	for _, m := range list {
		shops, err := merchant.ShopsOf(q, m.ID)
		if err != nil {
			return nil, "", err
		}
		for _, s := range shops {
			if s.MID != "" { // before it has a number it is no payee
				out = append(out, s.ID)
			}
		}
	}
	if len(list) == pg.Limit {
		next = list[len(list)-1].ID
	}
	return out, next, err
}

// byNumber is the payee of a merchant number or of its own number; empty: none.
func byNumber(q db.Reader, text string) (string, error) {
	s, err := merchant.ByMID(q, text)
	switch {
	case err == nil:
		return s.ID, nil
	case !errors.Is(err, merchant.ErrNotFound) && !errors.Is(err, merchant.ErrMID):
		return "", err
	}
	known, err := isPayee(q, text)
	if !known {
		text = ""
	}
	return text, err
}

// isPayee says whether settlement knows a payee: the question is for an item of a
// day before there were any.
func isPayee(q db.Reader, id string) (bool, error) {
	_, err := settlement.ItemsOn(q, id, calendar.Date{Year: 1970, Month: 1, Day: 1}, 0, 1)
	if errors.Is(err, settlement.ErrNoPayee) {
		return false, nil
	}
	return err == nil, err
}

// work lists what waits for a person, and what was decided last.
func (v *findView) work(ctx context.Context, q db.Reader) error {
	head := []web.Column{{Name: words.Payee}, {Name: words.Change, Wide: true}, {Name: words.Proposer}, {Name: words.Reason}, {Name: words.At, Num: true}}
	v.waiting = web.Table{ID: "waiting", NoCSV: true, Empty: words.NothingWaits, Head: head}
	v.last = web.Table{ID: "last", NoCSV: true, Empty: words.NothingYet, Head: append(head[:len(head):len(head)], web.Column{Name: words.State}, web.Column{Name: words.Decider})}
	for _, kind := range kinds {
		open, err := proposal.Waiting(q, kind, shell.Rows)
		if err != nil {
			return err
		}
		for _, p := range open {
			row, err := proposalRow(ctx, q, p)
			if err != nil {
				return err
			}
			v.waiting.Rows = append(v.waiting.Rows, row)
		}
		done, err := proposal.Last(q, kind, 10)
		if err != nil {
			return err
		}
		for _, p := range done {
			row, err := proposalRow(ctx, q, p)
			if err != nil {
				return err
			}
			row.Cells = append(row.Cells, web.Status(ctx, stateTones[p.State], shell.Both(p.State.Words)), web.Plain(p.Decider))
			v.last.Rows = append(v.last.Rows, row)
		}
	}
	v.wishes = web.Table{ID: "wishes", NoCSV: true, Empty: words.NoWishes, Head: []web.Column{{Name: words.Payee}, {Name: words.Number}, {Name: words.Asked}, {Name: words.Reason, Wide: true}, {Name: words.At, Num: true}}}
	list, err := proposal.Waiting(q, cash.WishKind, shell.Rows)
	for _, p := range list {
		var x cash.Wish
		if err := p.Read(&x); err != nil {
			return fmt.Errorf("wish %s: %w", p.ID, err)
		}
		v.wishes.Rows = append(v.wishes.Rows, web.Row{Href: at(x.Shop), Cells: []web.Cell{shell.Short(nameOf(q, x.Shop).In(ctx)), shell.Ident(x.Shop), web.Plain(p.By), shell.Written(p.Why), shell.At(p.At)}})
	}
	return err
}

func proposalRow(ctx context.Context, q db.Reader, p proposal.Proposal) (web.Row, error) {
	c, err := changeOf(p)
	if err != nil {
		return web.Row{}, err
	}
	return web.Row{Href: at(c.payee()), Cells: []web.Cell{shell.Short(nameOf(q, c.payee()).In(ctx)), web.Plain(c.Text(q).In(ctx)), web.Plain(p.By), shell.Written(p.Why), shell.At(p.At)}}, nil
}

var stateTones = map[proposal.State]web.Tone{proposal.Open: web.Warn, proposal.Confirmed: web.Good, proposal.Undone: web.Neutral}
