// Package lost is where staff see bands that were reported lost: what is
// suspended, what waits for its payment and by which rule, and which cards went
// on to another band. Start at Routes.
//
// Suspending a band stops all its cards in one unit of work, puts them on the
// lists that gates, tills and doors refuse by, and orders their blocking should
// the band ever be seen again (package tsm).
package lost

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"koala/internal/db"
	"koala/issuing"
	"koala/report"
	"koala/tsm"
	"koala/web"
	"koala/web/ops/shell"
)

// Deps is what these pages are made of.
type Deps struct {
	Desk shell.Desk
	TSM  *tsm.Manager
	// Card is the address of a card's page.
	Card func(customer string, id issuing.CardID) string
}

const here = "/ops/lost"

// Routes adds the pages to the console.
func Routes(m *web.Mux, d Deps) {
	m.Handle("GET "+here, d.list)
	m.Handle("GET "+here+"/{band}", d.band)
	m.Handle("POST "+here+"/{band}/suspend", d.suspend)
	m.Handle("POST "+here+"/{band}/restore", d.restore)
	m.Handle("POST "+here+"/{band}/refund", d.refund)
}

// Path is the address of a band's page here.
func Path(band string) string { return here + "/" + band }

func (d Deps) list(w http.ResponseWriter, r *http.Request) error {
	ctx, pg := r.Context(), web.PageOf(r, shell.Rows)
	key := func(l report.Loss) string { return l.Band }
	var list []report.Loss
	err := d.Desk.Store.Read(ctx, func(q *db.Query) (err error) {
		list, err = shell.Gather(pg, func(after string, limit int) ([]report.Loss, error) { return report.Losses(q, after, limit) }, key, nil)
		return err
	})
	if err != nil {
		return err
	}
	now := d.Desk.Store.Now()
	t := web.Table{ID: "lost", Empty: words.NothingLost, Next: shell.NextOf(r, list, pg, key), Head: []web.Column{{Name: words.Band}, {Name: words.State}, {Name: words.Cards, Num: true}, {Name: words.Proven, Num: true},
		{Name: words.Due, Num: true}, {Name: words.Moved, Num: true}, {Name: words.Since, Num: true}}}
	for _, l := range list {
		tone, word := lossState(l, now)
		t.Rows = append(t.Rows, web.Row{Href: Path(l.Band), Cells: []web.Cell{shell.Ident(l.Band), web.Status(ctx, tone, word), web.Count(int64(l.Cards)), web.Money(l.Money.Minor()),
			shell.At(l.Due), web.Count(int64(l.Heirs)), shell.At(l.Since)}})
	}
	return d.Desk.List(w, r, web.Page{Title: words.Title, Lead: words.Lead, Here: "/ops/cards"}, shell.ListView{Table: t, Tabs: Tabs(here), Events: "orders deny"})
}

// Tabs are those of the lists of cards, people and losses.
func Tabs(at string) []shell.Tab {
	var out []shell.Tab
	for _, t := range []struct {
		href string
		name web.Text
	}{{"/ops/cards", words.Cards}, {"/ops/customers", words.Customers}, {here, words.Title}} {
		out = append(out, shell.Tab{Href: t.href, Name: t.name, Here: t.href == at})
	}
	return out
}

func lossState(l report.Loss, now time.Time) (web.Tone, web.Text) {
	switch {
	case l.Heirs > 0 && l.Cards == 0:
		return web.Good, words.AllMoved
	case l.Cards == 0:
		return web.Neutral, words.Ended
	case !l.Due.IsZero() && !now.Before(l.Due):
		return web.Info, words.MayPay
	case !l.Due.IsZero():
		return web.Warn, words.Waits
	}
	return web.Bad, words.Suspended
}

// A view is one lost band.
type view struct {
	facts []web.Fact
	cards web.Table
	acts  []shell.Question
	deeds []web.Happening
	rules []web.Line
}

func (d Deps) band(w http.ResponseWriter, r *http.Request) error {
	ctx, band := r.Context(), r.PathValue("band")
	var v view
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		ids, err := report.CardsOf(q, band)
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			return fmt.Errorf("band %s: %w", band, issuing.ErrNotFound)
		}
		return d.fill(ctx, q, &v, band, ids)
	})
	if err != nil {
		return fmt.Errorf("page of a lost band: %w", err)
	}
	return d.Desk.Show(w, r, web.Page{Title: web.Same(band), Lead: words.BandLead, Back: here, Here: "/ops/cards"}, bandPage(v))
}

// A standing is what a band's cards come to.
type standing struct {
	usable, suspended int
	due               []web.Option // cards whose claim may be paid now
}

func (d Deps) fill(ctx context.Context, q *db.Query, v *view, band string, ids []string) error {
	v.cards = web.Table{ID: "cards", NoCSV: true, Empty: words.NothingLost, Head: []web.Column{{Name: words.Card}, {Name: words.State}, {Name: words.Kind}, {Name: words.Proven, Num: true}, {Name: words.Claim},
		{Name: words.Due, Num: true}, {Name: words.WentTo}}}
	var s standing
	owner := ""
	for _, id := range ids {
		c, err := issuing.Get(q, issuing.CardID(id))
		if err != nil {
			return err
		}
		owner = string(c.Customer)
		row, err := d.cardRow(ctx, q, c, v, &s)
		if err != nil {
			return err
		}
		v.cards.Rows = append(v.cards.Rows, row)
	}
	tone, word := web.Good, words.InUse
	if s.suspended > 0 {
		tone, word = web.Bad, words.Suspended
	}
	v.facts = []web.Fact{{Name: words.State, Show: web.Chip(tone, word)}, {Name: words.Band, Value: band, Href: "/ops/bands/" + band, Mono: true}, {Name: words.Customer, Value: owner, Href: "/ops/customers/" + owner, Mono: true}}
	v.acts = acts(band, s)
	trail, err := shell.Deeds(q, shell.Deed{Target: Path(band)}, "", shell.Rows)
	v.deeds = shell.Told(trail)
	return err
}

func (d Deps) cardRow(ctx context.Context, q *db.Query, c issuing.Card, v *view, s *standing) (web.Row, error) {
	tone, word := web.Neutral, shell.Both(c.State.Words)
	switch {
	case c.State.Over():
	case !c.Suspended.IsZero():
		tone, word = web.Bad, words.Suspended
		s.suspended++
	default:
		s.usable++
		tone = web.Good
	}
	state, due, err := d.claim(ctx, q, c, v, s)
	if err != nil {
		return web.Row{}, err
	}
	went := shell.None()
	heir, to, _, err := report.Heir(q, string(c.ID))
	if heir != "" {
		went = web.Cell{Text: shell.Masked(issuing.CardID(heir)) + " · " + to, Show: shell.Link("/ops/bands/"+to, web.Same(shell.Masked(issuing.CardID(heir))))}
	}
	return web.Row{Href: d.Card(string(c.Customer), c.ID), Cells: []web.Cell{web.Mono(shell.Masked(c.ID)), web.Status(ctx, tone, word), shell.Short(shell.Both(c.Kind.Words).In(ctx)),
		web.Money(c.Known.Balance.Minor()), state, due, went}}, err
}

// claim says where the claim for a card's money stands, and prints its rule.
func (d Deps) claim(ctx context.Context, q *db.Query, c issuing.Card, v *view, s *standing) (state, due web.Cell, err error) {
	k, err := issuing.ClaimOf(q, c.ID)
	if errors.Is(err, issuing.ErrNoClaim) {
		return shell.None(), shell.None(), nil
	}
	if err != nil {
		return state, due, err
	}
	line := web.Line{Text: words.RuleLine.F(shell.Masked(c.ID), int(k.Rule.Value), k.Rule.Source), Value: web.Day(ctx, k.Due)}
	v.rules = append(v.rules, line)
	tone, word := web.Warn, words.Waits
	switch {
	case k.State == issuing.ClaimPaid:
		tone, word = web.Good, words.Paid.F(web.Yuan(k.Fen.Minor()))
	case k.State == issuing.ClaimWithdrawn:
		tone, word = web.Neutral, words.Found
	case !d.Desk.Store.Now().Before(k.Due):
		tone, word = web.Info, words.MayPay
		heir, _, _, err := report.Heir(q, string(c.ID))
		if err != nil {
			return state, due, err
		}
		if heir == "" {
			s.due = append(s.due, web.Option{Value: string(c.ID), Name: web.Same(shell.Masked(c.ID) + " · " + web.Yuan(c.Known.Balance.Minor()))})
		}
	}
	return web.Status(ctx, tone, word), shell.At(k.Due), nil
}

func acts(band string, s standing) (out []shell.Question) {
	at := Path(band)
	if s.usable > 0 {
		out = append(out, SuspendAct(band))
	}
	if s.suspended > 0 {
		out = append(out, shell.Question{ID: "ask-restore", Action: at + "/restore", Open: words.Restore, Body: words.RestoreBody, Icon: "check", Receiver: band, About: words.Band})
	}
	if len(s.due) > 0 {
		out = append(out, shell.Question{ID: "ask-refund", Action: at + "/refund", Open: words.Refund, Body: words.RefundBody, Icon: "wallet", Choices: s.due})
	}
	return out
}

// SuspendAct asks to suspend a band; the page of a band offers it too.
func SuspendAct(band string) shell.Question {
	return shell.Question{ID: "ask-suspend", Action: Path(band) + "/suspend", Open: words.Suspend, Body: words.SuspendBody, Icon: "ban", Danger: true, Receiver: band, About: words.Band}
}

func (d Deps) suspend(w http.ResponseWriter, r *http.Request) error {
	band := r.PathValue("band")
	return d.Desk.Change(w, r, Path(band), words.DidSuspend, shell.Deed{Act: shell.ActSuspend, Target: Path(band), What: band}, func(tx *db.Tx) error {
		_, err := d.TSM.Suspend(tx, band)
		return err
	})
}

func (d Deps) restore(w http.ResponseWriter, r *http.Request) error {
	band := r.PathValue("band")
	return d.Desk.Change(w, r, Path(band), words.DidRestore, shell.Deed{Act: shell.ActRestore, Target: Path(band), What: band}, func(tx *db.Tx) error {
		_, err := d.TSM.Restore(tx, band)
		return err
	})
}

// refund pays a due claim to the holder's wallet and ends the card.
func (d Deps) refund(w http.ResponseWriter, r *http.Request) error {
	band, id := r.PathValue("band"), issuing.CardID(r.PostFormValue("decision"))
	return d.Desk.Change(w, r, Path(band), words.DidRefund, shell.Deed{Act: shell.ActRefund, Target: Path(band), What: shell.Masked(id)}, func(tx *db.Tx) error {
		c, err := issuing.Get(tx, id)
		if err == nil && c.Band != band {
			err = fmt.Errorf("card %s in band %s: %w", id.Masked(), band, issuing.ErrNotFound)
		}
		if err != nil {
			return err
		}
		_, err = issuing.Refund(tx, id)
		return err
	})
}
