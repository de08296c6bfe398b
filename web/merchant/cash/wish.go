package cash

import (
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/proposal"
	"koala/settlement"
	"koala/web"
	"koala/web/merchant/shell"
	parts "koala/web/ops/shell"
)

// A shop whose terms do not let it be paid at once may ask for it. The wish is
// kept as a proposal that staff answer: terms that agree to it confirm it, and
// what takes it back without the shop is a refusal with a reason.

// WishKind is the kind of the proposals that are shops' wishes to be paid at once.
const WishKind = "once_wish"

// A Wish is one of them.
type Wish struct {
	Shop  string
	Login string // who asked for it
}

// WishAbout is what a shop's wish is about: one is open at a time.
func WishAbout(shop string) string { return WishKind + ":" + shop }

// WishPath is the page that the trail names for the answer to a wish.
func WishPath(id string) string { return "/ops/terms/wishes/" + id }

// A wishView is how a shop's wish to be paid at once stands.
type wishView struct {
	ask     bool          // the terms do not allow it, and nothing is asked
	open    bool          // it is asked and not answered
	refused string        // reason of the last refusal; empty: none, or it was long ago
	from    calendar.Date // terms that allow it begin on this day to come; zero: none do
	made    proposal.Proposal
}

// readWish is how it stands for a shop that has no such terms today.
func readWish(q *db.Query, shop string, today calendar.Date) (v wishView, err error) {
	all, err := settlement.AllTerms(q, shop)
	if err != nil {
		return v, err
	}
	for _, t := range all {
		if today.Before(t.Since) && t.Once.Agreed && v.from.IsZero() {
			v.from = t.Since
		}
	}
	list, err := proposal.About(q, WishAbout(shop), 1)
	if err != nil || len(list) == 0 {
		v.ask = v.from.IsZero()
		return v, err
	}
	v.made = list[0]
	v.open = v.made.State == proposal.Open
	v.ask = !v.open && v.from.IsZero()
	if v.made.State == proposal.Undone && v.made.Decider != v.made.By {
		answers, err := parts.Deeds(q, parts.Deed{Target: WishPath(v.made.ID)}, "", 1)
		if err != nil {
			return v, err
		}
		if len(answers) > 0 {
			v.refused = answers[0].Why
		}
	}
	return v, nil
}

// Bounds of a wish's reason, characters.
const (
	leastWish = 4
	mostWish  = 200
)

// ask keeps the wish. Sent twice the second is told that it is known.
func (d Deps) ask(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	if err := needShop(s); err != nil {
		return err
	}
	why := strings.Join(strings.Fields(r.PostFormValue("why")), " ")
	if n := utf8.RuneCountInString(why); n < leastWish || n > mostWish {
		return fmt.Errorf("reason of %d characters: %w", n, shell.ErrForm)
	}
	return d.wished(w, r, words.WishKept, func(tx *db.Tx) error {
		t, err := settlement.TermsOf(tx, s.Shop.ID, calendar.Of(tx.Now(), calendar.Beijing))
		if err == nil && t.Once.Agreed {
			err = fmt.Errorf("%s may be paid at once: %w", s.Shop.ID, proposal.ErrSame)
		}
		if err == nil {
			_, err = proposal.Make(tx, WishAbout(s.Shop.ID), Wish{Shop: s.Shop.ID, Login: s.Login}, s.Login, why)
		}
		return err
	})
}

// unask takes the open wish back.
func (d Deps) unask(w http.ResponseWriter, r *http.Request, s shell.Seat) error {
	if err := needShop(s); err != nil {
		return err
	}
	return d.wished(w, r, words.WishUndone, func(tx *db.Tx) error {
		list, err := proposal.About(tx, WishAbout(s.Shop.ID), 1)
		if err == nil && len(list) == 0 {
			err = proposal.ErrNotFound
		}
		if err == nil {
			_, err = proposal.Undo(tx, WishKind, list[0].ID, list[0].By) // whoever of the shop takes it back
		}
		return err
	})
}

func (d Deps) wished(w http.ResponseWriter, r *http.Request, said web.Text, do func(*db.Tx) error) error {
	if err := d.Desk.Store.Write(r.Context(), do); err != nil {
		return shell.Sorry(w, r, atMoney+"/now", err)
	}
	return web.Redirect(w, r, atMoney+"/now", web.Toast{Tone: web.Good, Text: said.In(r.Context())})
}
