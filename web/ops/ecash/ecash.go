// Package ecash is the desk of what cards proved to tills: records cleared, in
// suspense, put aside, sales without a known end, money that left a card and
// was not handed in, and loads that wait for the card's proof.
//
// Start at Routes. Whatever a member of staff decides here is decided on
// evidence that the page shows, and leaves a row in the trail.
package ecash

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"koala/acquiring"
	"koala/internal/db"
	"koala/issuing"
	"koala/ledger"
	"koala/report"
	"koala/spec/pboc"
	"koala/web"
	"koala/web/ops/shell"
)

// Deps is what these pages are made of.
type Deps struct {
	Desk   shell.Desk
	Book   *ledger.Book
	Office *acquiring.Office
	// Card is the address of a card's page.
	Card func(customer string, id issuing.CardID) string
}

const here = "/ops/ecash"

// Routes adds the pages to the console.
func Routes(m *web.Mux, d Deps) {
	m.Handle("GET "+here, d.cleared)
	m.Handle("GET "+here+"/suspense", d.suspense)
	m.Handle("GET "+here+"/odd", d.odd)
	m.Handle("GET "+here+"/doubts", d.doubts)
	m.Handle("GET "+here+"/doubts/{id}", d.doubt)
	m.Handle("POST "+here+"/doubts/{id}/decide", d.decideDoubt)
	m.Handle("GET "+here+"/gaps", d.gaps)
	m.Handle("GET "+here+"/loads", d.loads)
	m.Handle("GET "+here+"/loads/{id}", d.load)
	m.Handle("POST "+here+"/loads/{id}/decide", d.decideLoad)
	m.Handle("GET "+here+"/records/{id}", d.record)
	m.Handle("POST "+here+"/records/{id}/retry", d.retry)
}

func tabs(at string) []shell.Tab {
	var out []shell.Tab
	for _, t := range []struct {
		href string
		name web.Text
	}{{"", words.Cleared}, {"/suspense", words.Suspense}, {"/odd", words.Odd}, {"/doubts", words.Doubts}, {"/gaps", words.Gaps}, {"/loads", words.Loads}} {
		out = append(out, shell.Tab{Href: here + t.href, Name: t.name, Here: t.href == at})
	}
	return out
}

func (d Deps) show(w http.ResponseWriter, r *http.Request, at string, v shell.ListView) error {
	v.Tabs, v.Events = tabs(at), "clearing"
	return d.Desk.List(w, r, web.Page{Title: words.Title, Lead: words.Lead, Here: here}, v)
}

// cleared lists what tills handed over, newest first, under the figures of the
// desk.
func (d Deps) cleared(w http.ResponseWriter, r *http.Request) error {
	ctx, pg := r.Context(), web.PageOf(r, shell.Rows)
	key := func(s acquiring.Sale) string { return s.ID }
	var list []acquiring.Sale
	var t report.Tallies
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		if t, err = report.TalliesOf(q); err != nil {
			return err
		}
		list, err = shell.Gather(pg, func(after string, limit int) ([]acquiring.Sale, error) {
			return acquiring.Sales(q, acquiring.Filter{Shop: r.FormValue("shop"), TID: r.FormValue("till"), Before: after, Limit: limit})
		}, key, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("cleared records: %w", err)
	}
	v := shell.ListView{Table: SaleTable(ctx, list), Filter: []web.Field{{Name: "shop", Label: words.Shop, Type: "search", Value: r.FormValue("shop"), Max: acquiring.MaxID},
		{Name: "till", Label: words.Till, Type: "search", Value: r.FormValue("till"), Max: 8}}}
	v.Table.Next = shell.NextOf(r, list, pg, key)
	if web.WantsCSV(r) {
		return web.WriteCSV(w, r, v.Table)
	}
	v.Tabs, v.Events = tabs(""), "clearing"
	return d.Desk.Show(w, r, web.Page{Title: words.Title, Lead: words.Lead, Here: here}, clearedPage(figures(t), v))
}

func figures(t report.Tallies) []web.Figure {
	warn := func(n int64, tone web.Tone) web.Tone {
		if n == 0 {
			return web.Neutral
		}
		return tone
	}
	return []web.Figure{
		{Name: words.Cleared, Value: web.Number(t.Cleared), Delta: web.Yuan(t.Fen.Minor()), Icon: "check"},
		{Name: words.Suspense, Value: web.Number(t.Waiting), Tone: warn(t.Waiting, web.Warn), Icon: "pause", Href: here + "/suspense"},
		{Name: words.Odd, Value: web.Number(t.Odd), Tone: warn(t.Odd, web.Warn), Icon: "triangle-alert", Href: here + "/odd"},
		{Name: words.Doubts, Value: web.Number(t.Doubts), Tone: warn(t.Doubts, web.Bad), Icon: "circle-help", Href: here + "/doubts"},
		{Name: words.Missing, Value: web.Number(t.Gaps), Tone: warn(t.Gaps, web.Warn), Icon: "wifi-off", Href: here + "/gaps"},
		{Name: words.Loads, Value: web.Number(t.Loads), Tone: warn(t.Loads, web.Info), Icon: "wallet", Href: here + "/loads"},
	}
}

var kindWords = map[pboc.ClearingKind]web.Text{pboc.ClearSale: words.KindSale, pboc.ClearReversal: words.KindReversal, pboc.ClearRefund: words.KindRefund,
	pboc.ClearOnline: words.KindOnline, pboc.ClearCancel: words.KindCancel}

// SaleTable lists records of bank cards.
func SaleTable(ctx context.Context, list []acquiring.Sale) web.Table {
	t := web.Table{ID: "cleared", Empty: words.NoneCleared, Head: []web.Column{{Name: words.Record}, {Name: words.State}, {Name: words.Card}, {Name: words.Counter, Num: true},
		{Name: words.Amount, Num: true}, {Name: words.ToShop, Num: true}, {Name: words.Till}, {Name: words.Number, Num: true}, {Name: words.Came, Num: true}}}
	for _, s := range list {
		word := shell.Both(s.Fate.Words)
		if s.Fate == acquiring.Suspense {
			word = shell.Both(s.Why.Words)
		}
		t.Rows = append(t.Rows, web.Row{Href: here + "/records/" + s.ID, Cells: []web.Cell{
			{Text: kindWords[s.Kind].In(ctx), CSV: s.ID + " " + kindWords[s.Kind].EN}, web.Status(ctx, fateTone(s.Fate), word), cardCell(ctx, s.Card), web.Count(int64(s.ATC)),
			web.Money(s.Fen), web.Money(s.Moved), web.Mono(s.TID), web.Count(int64(s.Number)), shell.At(s.Got)}})
	}
	return t
}

func cardCell(ctx context.Context, id issuing.CardID) web.Cell {
	if id == "" {
		return shell.Short(words.Foreign.In(ctx))
	}
	return web.Mono(shell.Masked(id))
}

func fateTone(f acquiring.Fate) web.Tone {
	switch f {
	case acquiring.Booked, acquiring.Known:
		return web.Good
	case acquiring.Suspense:
		return web.Warn
	}
	return web.Bad
}

func (d Deps) suspense(w http.ResponseWriter, r *http.Request) error {
	return d.waiting(w, r, "/suspense", "suspense", words.NoneWaits, acquiring.InSuspense)
}

func (d Deps) odd(w http.ResponseWriter, r *http.Request) error {
	return d.waiting(w, r, "/odd", "odd", words.NoneOdd, acquiring.OddOnes)
}

// waiting lists what is not booked, with its reason.
func (d Deps) waiting(w http.ResponseWriter, r *http.Request, at, id string, empty web.Text, read func(db.Reader, string, int) ([]acquiring.Waiting, error)) error {
	ctx, pg := r.Context(), web.PageOf(r, shell.Rows)
	key := func(x acquiring.Waiting) string { return x.ID }
	var list []acquiring.Waiting
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = shell.Gather(pg, func(after string, limit int) ([]acquiring.Waiting, error) { return read(q, after, limit) }, key, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	t := web.Table{ID: id, Empty: empty, Next: shell.NextOf(r, list, pg, key), Head: []web.Column{{Name: words.Reason}, {Name: words.What}, {Name: words.Card}, {Name: words.Amount, Num: true},
		{Name: words.Till}, {Name: words.Number, Num: true}, {Name: words.Shop}, {Name: words.Came, Num: true}}}
	for _, x := range list {
		row := web.Row{Cells: []web.Cell{web.Status(ctx, web.Warn, shell.Both(x.Why.Words)), shell.Short(whatWords[x.What].In(ctx)), cardCell(ctx, x.Card), web.Money(x.Fen),
			web.Mono(x.TID), web.Count(int64(x.Number)), web.Plain(x.Shop), shell.At(x.Since)}}
		if id == "suspense" {
			row.Href = here + "/records/" + x.ID
		}
		t.Rows = append(t.Rows, row)
	}
	note := words.SuspenseNote
	if id == "odd" {
		note = words.OddNote
	}
	return d.show(w, r, at, shell.ListView{Table: t, Note: note})
}

var whatWords = map[string]web.Text{"sale": words.KindSale, "meal": words.WhatMeal, "redemption": words.WhatCoupon, "passage": words.WhatPassage, "request": words.WhatRequest}

// A recordView is one thing handed over, from its message to its postings.
type recordView struct {
	facts    []web.Fact
	message  []web.Fact
	postings web.Table
	acts     []shell.Question
	deeds    []web.Happening
}

func (d Deps) record(w http.ResponseWriter, r *http.Request) error {
	ctx, at := r.Context(), here+"/records/"+r.PathValue("id")
	t, err := d.Office.TraceOf(ctx, r.PathValue("id"))
	if err != nil {
		return fmt.Errorf("page of a record: %w", err)
	}
	v := recordView{}
	err = d.Desk.Store.Read(ctx, func(q *db.Query) error {
		if v.facts, err = d.recordFacts(ctx, q, t); err != nil {
			return err
		}
		trail, err := shell.Deeds(q, shell.Deed{Target: at}, "", shell.Rows)
		v.deeds = shell.Told(trail)
		return err
	})
	if err != nil {
		return fmt.Errorf("page of a record: %w", err)
	}
	for _, f := range t.Message {
		v.message = append(v.message, web.Fact{Name: web.Text{ZH: f.ZH, EN: f.EN}, Value: f.Value, Mono: true})
	}
	if v.postings, err = d.postings(ctx, t.Postings); err != nil {
		return err
	}
	if t.Fate == acquiring.Suspense {
		v.acts = []shell.Question{{ID: "ask-retry", Action: at + "/retry", Open: words.Retry, Body: words.RetryBody, Icon: "refresh-cw"}}
	}
	return d.Desk.Show(w, r, web.Page{Title: whatWords[t.What], Lead: words.RecordLead, Back: back(t.Fate), Here: here}, recordPage(v))
}

func back(f acquiring.Fate) string {
	if f == acquiring.Suspense {
		return here + "/suspense"
	}
	return here
}

func (d Deps) recordFacts(ctx context.Context, q *db.Query, t acquiring.Trace) ([]web.Fact, error) {
	word, tone := shell.Both(t.Fate.Words), fateTone(t.Fate)
	if t.What == "request" {
		word, tone = web.Text{ZH: acquiring.ReasonWords(t.Reason, true), EN: acquiring.ReasonWords(t.Reason, false)}, web.Neutral
	}
	facts := []web.Fact{{Name: words.State, Show: web.Chip(tone, word)}}
	if t.Why != acquiring.Fine {
		facts = append(facts, web.Fact{Name: words.Reason, Show: shell.Phrase(shell.Both(t.Why.Words))})
	}
	facts = append(facts, web.Fact{Name: words.Record, Value: t.ID, Mono: true}, web.Fact{Name: words.Till, Value: t.TID, Href: "/ops/shops/devices/" + t.TID, Mono: true},
		web.Fact{Name: words.Shop, Value: t.Shop, Href: "/ops/shops/" + t.Shop})
	if t.Card != "" {
		c, err := issuing.Get(q, t.Card)
		if err != nil {
			return nil, err
		}
		facts = append(facts, web.Fact{Name: words.Card, Value: shell.Masked(t.Card), Href: d.Card(string(c.Customer), c.ID), Mono: true})
	}
	if b := t.Foreign; b.Bank != "" {
		facts = append(facts, web.Fact{Name: words.Foreign, Value: web.Text{ZH: b.BankName + " " + b.Words(true), EN: b.Bank + " " + b.Words(false)}.In(ctx)})
	}
	if !t.At.IsZero() {
		facts = append(facts, web.Fact{Name: words.TillTime, Value: web.Moment(t.At)})
	}
	return append(facts, web.Fact{Name: words.Came, Value: web.Moment(t.Got)}), nil
}

// postings finds what stands in the books under some references.
func (d Deps) postings(ctx context.Context, refs []string) (web.Table, error) {
	t := web.Table{ID: "postings", NoCSV: true, Empty: words.NoPostings, Head: []web.Column{{Name: words.Entry}, {Name: words.Text}, {Name: words.Amount, Num: true}, {Name: words.BookedAt, Num: true}}}
	for _, ref := range refs {
		rec, err := d.Book.Entry(ctx, ref)
		if errors.Is(err, ledger.ErrNoEntry) {
			continue
		}
		if err != nil {
			return t, err
		}
		amount := int64(0)
		for _, l := range rec.Legs {
			amount = max(amount, l.Amount.Minor())
		}
		t.Rows = append(t.Rows, web.Row{Href: "/ops/books/entry?seq=" + strconv.FormatUint(rec.Seq, 10), Cells: []web.Cell{web.Count(int64(rec.Seq)), web.Plain(entryText(ctx, rec)), web.Money(amount), shell.At(rec.Booked)}})
	}
	return t, nil
}

// entryText says what an entry is: card entries in both languages.
func entryText(ctx context.Context, rec ledger.Record) string {
	if s, ok := issuing.KindWords(rec.Kind, web.LangOf(ctx) == web.ZH); ok {
		return s
	}
	return shell.Hushed(rec.Text)
}

func (d Deps) retry(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	at := here + "/records/" + id
	reason, err := shell.Why(r)
	if err != nil {
		return shell.Sorry(w, r, at, err)
	}
	res, err := d.Office.Retry(r.Context(), id)
	if err != nil {
		return shell.Sorry(w, r, at, err)
	}
	err = d.Desk.Store.Write(r.Context(), func(tx *db.Tx) error {
		return shell.Keep(tx, r, shell.Deed{Act: shell.ActRetry, Target: at, What: id + ": " + string(res.Fate), Why: reason})
	})
	if err != nil {
		return err
	}
	if res.Fate == acquiring.Suspense {
		return web.Redirect(w, r, at, web.Toast{Tone: web.Warn, Text: words.StillWaits.In(r.Context(), shell.Both(res.Why.Words).In(r.Context()))})
	}
	return shell.Done(w, r, at, words.NowBooked)
}
