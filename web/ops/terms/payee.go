package terms

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/proposal"
	"koala/settlement"
	"koala/web"
	"koala/web/ops/shell"
)

// A payeeView is what is agreed with one payee.
type payeeView struct {
	payee    string
	facts    []web.Fact
	timeline web.Table
	splits   web.Table
	limit    []web.Line
	pending  []pendingView
	wish     proposal.Proposal
	wished   bool
	wishActs []shell.Question
	history  web.Table
}

// A pendingView is a proposal with what it changes.
type pendingView struct {
	p       proposal.Proposal
	text    web.Text
	changes web.Table
	why     web.Text // it can only be taken back; empty: it can be confirmed
	acts    []shell.Question
}

func (d Deps) payee(w http.ResponseWriter, r *http.Request) error {
	ctx, now := r.Context(), d.Desk.Store.Now()
	v := payeeView{payee: r.PathValue("payee")}
	var name web.Text
	err := d.Desk.Store.Read(ctx, func(q *db.Query) error {
		o, err := settlement.OfferNow(q, v.payee, now)
		if err != nil {
			return err
		}
		name = nameOf(q, v.payee)
		t, err := settlement.TermsOf(q, v.payee, d.today())
		if err != nil {
			return err
		}
		v.facts = agreedOf(t).facts()
		if t.Once.Agreed {
			v.limit = limitLines(o)
		}
		if err := v.dated(ctx, q, d.today()); err != nil {
			return err
		}
		if err := v.waits(ctx, q, now); err != nil {
			return err
		}
		if err := v.wishes(q, name.In(ctx)); err != nil {
			return err
		}
		return v.past(ctx, q)
	})
	if err != nil {
		return fmt.Errorf("terms of a payee: %w", err)
	}
	return d.Desk.Show(w, r, web.Page{Title: name, Lead: words.PayeeLead, Back: here, Here: "/ops/closings", Action: &web.Link{Href: at(v.payee) + "/new", Name: words.Change, Icon: "sliders-horizontal"}}, payeePage(v))
}

// limitLines are the day's limit of payouts at once with its factors.
func limitLines(o settlement.Offer) (out []web.Line) {
	for _, l := range o.Limit.Lines {
		out = append(out, web.Line{Text: web.Text{ZH: l.ZH, EN: l.EN}, Value: web.Yuan(l.Fen.Minor())})
	}
	return append(out, web.Line{Text: words.LeftToday, Value: web.Yuan(o.Left.Minor()), Total: true})
}

// dated lists terms and standing splits by the day they begin.
func (v *payeeView) dated(ctx context.Context, q db.Reader, today calendar.Date) error {
	v.timeline = web.Table{ID: "timeline", NoCSV: true, Empty: words.NoTerms, Head: []web.Column{{Name: words.FromDay}, {Name: words.State}}}
	for _, f := range facets {
		v.timeline.Head = append(v.timeline.Head, web.Column{Name: f.name})
	}
	all, err := settlement.AllTerms(q, v.payee)
	if err != nil {
		return err
	}
	var days []calendar.Date
	for _, t := range all {
		days = append(days, t.Since)
	}
	for i := len(all) - 1; i >= 0; i-- {
		a := agreedOf(all[i])
		row := web.Row{Cells: []web.Cell{shell.Short(a.Since.String()), stage(ctx, days, i, today)}}
		for _, f := range facets {
			row.Cells = append(row.Cells, web.Plain(f.say(a).In(ctx)))
		}
		v.timeline.Rows = append(v.timeline.Rows, row)
	}
	splits, err := settlement.Splits(q, v.payee)
	v.splits = web.Table{ID: "splits", NoCSV: true, Empty: words.NoSplits, Head: []web.Column{{Name: words.FromDay}, {Name: words.State}, {Name: words.Receivers, Wide: true}, {Name: words.Bearer}}}
	days = nil
	for _, s := range splits {
		days = append(days, s.Since)
	}
	for i := len(splits) - 1; i >= 0; i-- {
		x := sharesOf(splits[i].Split)
		v.splits.Rows = append(v.splits.Rows, web.Row{Cells: []web.Cell{shell.Short(splits[i].Since.String()), stage(ctx, days, i, today), web.Plain(x.text(q).In(ctx)), web.Plain(x.bearer(q).In(ctx))}})
	}
	return err
}

// stage says whether what begins on the i-th of some days is past, in force or to
// come.
func stage(ctx context.Context, days []calendar.Date, i int, today calendar.Date) web.Cell {
	switch {
	case today.Before(days[i]):
		return web.Status(ctx, web.Info, words.ToCome)
	case i+1 < len(days) && !today.Before(days[i+1]):
		return web.Status(ctx, web.Neutral, words.Past)
	}
	return web.Status(ctx, web.Good, words.InForce)
}

// waits shows what is proposed about the payee, and what who looks may do.
func (v *payeeView) waits(ctx context.Context, q db.Reader, now time.Time) error {
	for _, kind := range kinds {
		list, err := proposal.About(q, kind+":"+v.payee, 1)
		if err != nil {
			return err
		}
		if len(list) == 0 || list[0].State != proposal.Open {
			continue
		}
		p := list[0]
		c, err := changeOf(p)
		if err != nil {
			return err
		}
		x := pendingView{p: p, text: c.Text(q)}
		x.acts = two.Ask(ctx, p, x.text.In(ctx), "")
		if x.changes, err = c.changes(ctx, q); err != nil {
			return err
		}
		if err := c.Holds(q, now); err != nil {
			x.why, x.acts = failureText(err), x.acts[len(x.acts)-1:] // it can only be taken back
		}
		v.pending = append(v.pending, x)
	}
	return nil
}

// wishes shows the shop's wish to be paid at once that waits for an answer.
func (v *payeeView) wishes(q db.Reader, name string) (err error) {
	if v.wish, v.wished, err = wishOf(q, v.payee); err == nil && v.wished {
		v.wishActs = []shell.Question{{ID: "ask-refuse", Action: here + "/wishes/" + v.wish.ID + "/refuse", Open: words.RefuseWish, Body: words.RefuseBody, Icon: "x", Receiver: name, About: words.Payee}}
	}
	return err
}

// past lists all that was ever proposed about the payee.
func (v *payeeView) past(ctx context.Context, q db.Reader) error {
	v.history = web.Table{ID: "history", NoCSV: true, Empty: words.NothingYet, Head: []web.Column{{Name: words.At}, {Name: words.Change, Wide: true}, {Name: words.Proposer}, {Name: words.Reason}, {Name: words.State}, {Name: words.Decider}, {Name: words.DecidedAt, Num: true}}}
	for _, kind := range kinds {
		list, err := proposal.About(q, kind+":"+v.payee, shell.Rows)
		if err != nil {
			return err
		}
		for _, p := range list {
			c, err := changeOf(p)
			if err != nil {
				return err
			}
			decider, when := shell.None(), shell.None()
			if p.State != proposal.Open {
				decider, when = web.Plain(p.Decider), shell.At(p.Decided)
			}
			v.history.Rows = append(v.history.Rows, web.Row{Cells: []web.Cell{shell.At(p.At), web.Plain(c.Text(q).In(ctx)), web.Plain(p.By), shell.Written(p.Why), web.Status(ctx, stateTones[p.State], shell.Both(p.State.Words)), decider, when}})
		}
	}
	return nil
}
