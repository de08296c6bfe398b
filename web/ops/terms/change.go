package terms

import (
	"errors"
	"fmt"
	"net/http"

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

// A change is what is proposed; it lies in the proposal as JSON with the base it
// was looked at on.
type change interface {
	payee() string
	text() web.Text
	begins() calendar.Date
	base() string
	apply(tx *db.Tx) error
}

// The kinds of proposals of these pages.
const (
	termsKind = "terms"
	splitKind = "split"
)

var kinds = []string{termsKind, splitKind}

// A termsChange is terms that are proposed.
type termsChange struct {
	Terms agreed
	Base  string
}

func (c termsChange) payee() string         { return c.Terms.Payee }
func (c termsChange) begins() calendar.Date { return c.Terms.Since }
func (c termsChange) base() string          { return c.Base }

// apply sets the terms. Of a shop that is to be paid at once the limit follows
// from then on its age, risk and sales; of one without a register it is what was
// agreed.
func (c termsChange) apply(tx *db.Tx) error {
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

func (c termsChange) text() web.Text {
	a := c.Terms
	f, p, o := a.fees(), paysWords[a.Pays], a.once()
	return web.Text{ZH: words.TermsFrom.To(web.ZH, a.Since.String(), f.ZH, clock(a.Cut), p.ZH, o.ZH), EN: words.TermsFrom.To(web.EN, a.Since.String(), f.EN, clock(a.Cut), p.EN, o.EN)}
}

// changeOf reads what is proposed.
func changeOf(kind string, p proposal.Proposal) (c change, err error) {
	switch kind {
	case termsKind:
		var x termsChange
		err = p.Read(&x)
		c = x
	case splitKind:
		var x splitChange
		err = p.Read(&x)
		c = x
	default:
		return nil, fmt.Errorf("proposals of kind %q: %w", kind, web.ErrNoPage)
	}
	if err != nil {
		err = fmt.Errorf("proposal %s: %w", p.ID, err)
	}
	return c, err
}

// holds says whether a change can still be made as it was looked at: it begins on
// a day to come, and nothing was agreed meanwhile.
func holds(q db.Reader, c change, today calendar.Date) error {
	if !today.Before(c.begins()) {
		return fmt.Errorf("from %s: %w", c.begins(), ErrPast)
	}
	now, err := base(q, c.payee())
	if err == nil && now != c.base() {
		err = fmt.Errorf("terms of %s: %w", c.payee(), ErrStale)
	}
	return err
}

// errTried ends a unit that was only tried.
var errTried = errors.New("tried")

// propose keeps a change that another person confirms, if it could be made now:
// it is made in a unit that is given up.
func (d Deps) propose(w http.ResponseWriter, r *http.Request, back, kind string, c change) error {
	why, err := shell.Why(r)
	if err == nil {
		err = d.Desk.Store.Write(r.Context(), func(tx *db.Tx) error {
			if err := holds(tx, c, calendar.Of(tx.Now(), calendar.Beijing)); err != nil {
				return err
			}
			if err := c.apply(tx); err != nil {
				return err
			}
			return errTried
		})
	}
	if !errors.Is(err, errTried) {
		return shell.Sorry(w, r, back, err)
	}
	u, _ := web.Who(r.Context())
	deed := shell.Deed{Act: shell.ActMerchant, Target: at(c.payee()), What: "proposed: " + c.payee() + ", " + c.text().EN}
	return d.Desk.Change(w, r, at(c.payee()), words.Proposed, deed, func(tx *db.Tx) error {
		_, err := proposal.Make(tx, kind+":"+c.payee(), c, u.Name, why)
		return err
	})
}

// decide confirms a proposal, which makes the change, or takes it back. A second
// click finds it decided; a cut leaves both the decision and the change undone.
func (d Deps) decide(w http.ResponseWriter, r *http.Request) error {
	kind, id, act := r.PathValue("kind"), r.PathValue("id"), r.PathValue("act")
	u, _ := web.Who(r.Context())
	var c change
	err := d.Desk.Store.Read(r.Context(), func(q *db.Query) error {
		p, err := proposal.Of(q, kind, id)
		if err == nil {
			c, err = changeOf(kind, p)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("deciding a proposal: %w", err)
	}
	back := at(c.payee())
	deed := shell.Deed{Act: shell.ActMerchant, Target: back, What: act + ": " + c.payee() + ", " + c.text().EN}
	switch act {
	case "undo":
		return d.Desk.Change(w, r, back, words.Undone, deed, func(tx *db.Tx) error {
			_, err := proposal.Undo(tx, kind, id, u.Name)
			return err
		})
	case "confirm":
		return d.Desk.Change(w, r, back, words.Done, deed, func(tx *db.Tx) error {
			if _, err := proposal.Confirm(tx, kind, id, u.Name); err != nil {
				return err
			}
			if err := holds(tx, c, calendar.Of(tx.Now(), calendar.Beijing)); err != nil {
				return err
			}
			if err := c.apply(tx); err != nil {
				return err
			}
			return grant(tx, c, u.Name)
		})
	}
	return fmt.Errorf("act %q on a proposal: %w", act, web.ErrNoPage)
}

// wishOf is the wish of a shop that waits for an answer.
func wishOf(q db.Reader, payee string) (p proposal.Proposal, open bool, err error) {
	list, err := proposal.About(q, cash.WishAbout(payee), 1)
	if err != nil || len(list) == 0 {
		return p, false, err
	}
	return list[0], list[0].State == proposal.Open, nil
}

// grant answers a shop's wish with terms that let it be paid at once.
func grant(tx *db.Tx, c change, by string) error {
	t, is := c.(termsChange)
	if !is || !t.Terms.Once {
		return nil
	}
	p, open, err := wishOf(tx, c.payee())
	if err == nil && open {
		_, err = proposal.Confirm(tx, cash.WishKind, p.ID, by)
	}
	return err
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
	return d.Desk.Change(w, r, at(x.Shop), words.WishRefused, shell.Deed{Act: shell.ActMerchant, Target: cash.WishPath(id), What: "refused to be paid at once: " + x.Shop}, func(tx *db.Tx) error {
		_, err := proposal.Undo(tx, cash.WishKind, id, u.Name)
		return err
	})
}
