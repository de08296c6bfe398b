package terms

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/proposal"
	"koala/merchant"
	"koala/settlement"
	"koala/settlement/limit"
	"koala/web"
	"koala/web/merchant/cash"
	"koala/web/ops/shell"
)

// A change is what is proposed about a payee.
type change interface {
	shell.Change
	payee() string
	changes(ctx context.Context, q db.Reader) (web.Table, error) // against what is in force the day it begins
}

// The kinds of proposals of these pages.
const (
	termsKind = "terms"
	splitKind = "split"
)

var kinds = []string{termsKind, splitKind}

// two is how two people change what was agreed.
var two = shell.Two{Path: here + "/proposals/%[1]s/%[2]s",
	Kinds: map[string]func() shell.Change{termsKind: func() shell.Change { return new(termsChange) }, splitKind: func() shell.Change { return new(splitChange) }},
	Words: shell.TwoWords{Proposed: words.Proposed, Done: words.Done, Undone: words.Undone, Confirm: words.Confirm, ConfirmBody: words.ConfirmBody, TakeBack: words.TakeBack, TakeBackBody: words.TakeBackBody, Change: words.Change}}

// changeOf reads what is proposed.
func changeOf(p proposal.Proposal) (change, error) {
	c, err := two.Read(p)
	if err != nil {
		return nil, err
	}
	return c.(change), nil // both are
}

// deedOf is the row in the trail of what is changed about a payee.
func deedOf(c change) shell.Deed {
	return shell.Deed{Act: shell.ActTerms, Target: at(c.payee()), What: c.payee() + ", " + c.Text(nil).EN}
}

// A termsChange is terms that are proposed, with the base they were looked at on.
type termsChange struct {
	Terms agreed
	Base  string
}

func (c termsChange) payee() string { return c.Terms.Payee }

// Deed is shell.Change's.
func (c termsChange) Deed(proposal.State) shell.Deed { return deedOf(c) }

// Holds is shell.Change's.
func (c termsChange) Holds(q db.Reader, now time.Time) error {
	return holds(q, c.Terms.Payee, c.Base, c.Terms.Since, now)
}

// Make sets the terms, and grants the shop's wish if they let it be paid at once.
func (c termsChange) Make(tx *db.Tx, p proposal.Proposal) error {
	if err := c.set(tx); err != nil || !c.Terms.Once {
		return err
	}
	wish, open, err := wishOf(tx, c.Terms.Payee)
	if err == nil && open {
		_, err = proposal.Confirm(tx, cash.WishKind, wish.ID, p.Decider)
	}
	return err
}

// set sets the terms. Of a shop that is to be paid at once the limit follows
// from then on its age, risk and sales; of one without a register it is what was
// agreed.
func (c termsChange) set(tx *db.Tx) error {
	t := c.Terms.terms()
	if err := settlement.SetTerms(tx, t); err != nil || !t.Once.Agreed {
		return err
	}
	s, err := merchant.ShopOf(tx, t.Payee)
	if errors.Is(err, merchant.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := merchant.Of(tx, s.Merchant)
	if err == nil && m.Form != merchant.Adopted { // of an adopted one nobody knows since when it trades
		err = settlement.SetStanding(tx, t.Payee, settlement.Standing{Opened: calendar.Of(s.Made, calendar.Beijing), Risk: limit.Risk(m.Risk)})
	}
	return err
}

// Text is shell.Change's.
func (c termsChange) Text(db.Reader) web.Text {
	a := c.Terms
	f, p, o := a.fees(), paysWords[a.Pays], a.once()
	return web.Text{ZH: words.TermsFrom.To(web.ZH, a.Since.String(), f.ZH, clock(a.Cut), p.ZH, o.ZH), EN: words.TermsFrom.To(web.EN, a.Since.String(), f.EN, clock(a.Cut), p.EN, o.EN)}
}

func (c termsChange) changes(ctx context.Context, q db.Reader) (web.Table, error) {
	old, err := settlement.TermsOf(q, c.Terms.Payee, c.Terms.Since)
	return compared(ctx, agreedOf(old), c.Terms), err
}

// holds says whether a change can still be made as it was looked at: it begins on
// a day to come, and nothing was agreed meanwhile.
func holds(q db.Reader, payee, looked string, begins calendar.Date, at time.Time) error {
	if !calendar.Of(at, calendar.Beijing).Before(begins) {
		return fmt.Errorf("from %s: %w", begins, ErrPast)
	}
	now, err := base(q, payee)
	if err == nil && now != looked {
		err = fmt.Errorf("terms of %s: %w", payee, ErrStale)
	}
	return err
}

// decide confirms a proposal or takes it back.
func (d Deps) decide(w http.ResponseWriter, r *http.Request) error {
	return two.Decide(d.Desk, w, r, r.PathValue("kind"), r.PathValue("id"), r.PathValue("act"))
}

// wishOf is the wish of a shop that waits for an answer.
func wishOf(q db.Reader, payee string) (p proposal.Proposal, open bool, err error) {
	list, err := proposal.About(q, cash.WishAbout(payee), 1)
	if err != nil || len(list) == 0 {
		return p, false, err
	}
	return list[0], list[0].State == proposal.Open, nil
}

// refuse answers a shop's wish; the shop reads the reason.
func (d Deps) refuse(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	u, _ := web.Who(r.Context())
	var x cash.Wish
	err := d.Desk.Store.Read(r.Context(), func(q *db.Query) error {
		p, err := proposal.Of(q, cash.WishKind, id)
		if err == nil {
			err = p.Read(&x)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("answer to a wish: %w", err)
	}
	return d.Desk.Change(w, r, at(x.Shop), words.WishRefused, shell.Deed{Act: shell.ActWish, Target: cash.WishPath(id), What: "refused to be paid at once: " + x.Shop}, func(tx *db.Tx) error {
		_, err := proposal.Undo(tx, cash.WishKind, id, u.Name)
		return err
	})
}
